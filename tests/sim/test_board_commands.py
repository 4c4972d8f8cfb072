"""Every command of the wire and every status, at byte level, on the simulated board."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurobench.bench import frames
from neurobench.bench.frames import End, LimitRegisters, Op, Samples, State, Status

sys.path.insert(0, str(Path(__file__).resolve().parent))

from board_bench import HZ, LIMITS, Table, cells, fire, opened, pulses, record, table, vectors, waves

ONE = pulses(record(b"\x01"))
FIVE = pulses(record(b"\x03", repeat=5))
ENDLESS = cells(averages=65535, integration=4800)


@pytest.fixture
def bench() -> Iterator[Table]:
    made = table()
    yield made
    made.bench.close()


@pytest.fixture
def fresh() -> Iterator[Table]:
    """As switched on."""
    made = Table(opened())
    yield made
    made.bench.close()


def number(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "little") for value in values)


# -- session ----------------------------------------------------------------------------------------------------------


def test_before_hello_there_is_no_session_and_session_0_is_none(fresh: Table) -> None:
    for session in (0, 7):
        reply = fresh.ask(Op.STATUS, session=session)
        assert (reply.status, reply.session, reply.payload) == (Status.WRONG_SESSION, 0, b"")


def test_hello_gives_a_session_once_and_says_what_the_board_has(fresh: Table) -> None:
    has = fresh.greet(None)
    assert (has.protocol, has.rows, has.cols, has.clock_hz) == (1, 4, 4, HZ)
    assert has.simulated
    assert has.forward
    assert has.backward
    assert has.waveforms
    assert has.floats
    assert (has.adc_bits, has.read_max, has.pulse_max) == (24, 32767, 32767)
    assert has.pulse_step_v == pytest.approx(2.5e-4)
    assert (has.min_gap, has.min_period, has.settle) == (48, 480, 240)
    assert fresh.session != 0
    again = fresh.ask(Op.HELLO, b"abcd", session=99)
    assert (again.status, again.session) == (Status.OK, fresh.session)


def test_the_session_is_the_nonce_with_the_counter_and_never_0(fresh: Table) -> None:
    fresh.wait(1e-3)
    assert fresh.ask(Op.HELLO, (48_000 ^ 5).to_bytes(4, "little"), session=0).session == 5
    fresh.board.reboot()
    assert fresh.ask(Op.HELLO, (0).to_bytes(4, "little"), session=0).session == 1


@pytest.mark.parametrize("op", [op for op in Op if op not in (Op.HELLO, Op.SPEED)])
def test_another_session_is_refused_and_told_the_present_one(bench: Table, op: Op) -> None:
    before = bench.status()
    reply = bench.ask(op, bytes(8), session=bench.session ^ 1)
    assert (reply.status, reply.session) == (Status.WRONG_SESSION, bench.session)
    after = bench.status()
    assert after[:9] == before[:9]


@pytest.mark.parametrize("op", [0x00, 0x07, 0x0F, 0x14, 0x22, 0x7F, 0x82, 0xFF])
def test_an_unknown_command_is_answered_as_such_under_any_session(bench: Table, op: int) -> None:
    from cobs import cobs
    from neurobench.sim_instruments.fpga.wire import unstuffed

    sent: list[bytes] = []
    bench.board.on_send = sent.append
    body = bytes([op]) + number(9) + bytes(4)
    bench.board.receive(cobs.encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0")
    (data,) = sent
    answer = unstuffed(data[:-1])
    assert answer is not None
    assert (answer[0], answer[7]) == (op | 0x80, Status.UNKNOWN_OP)


LENGTHS = {Op.HELLO: (4,), Op.STATUS: (0,), Op.LIMITS: (0, 20), Op.SPEED: (4,), Op.REST: (0,), Op.ARM: (8,),
           Op.FIRE: (6,), Op.FENCE: (2,), Op.FETCH: (6,)}  # fmt: skip


@pytest.mark.parametrize("op", LENGTHS)
def test_a_payload_of_another_length_is_malformed(bench: Table, op: Op) -> None:
    for length in range(24):
        if length not in LENGTHS[op]:
            assert bench.ask(op, bytes(length)).status == Status.MALFORMED, length


def test_echo_gives_back_up_to_512_bytes(bench: Table) -> None:
    for data in (b"", b"\0\0", bytes(range(256)) * 2):
        assert bench.ok(Op.ECHO, data) == data
    assert bench.ask(Op.ECHO, bytes(513)).status == Status.MALFORMED


# -- limits -----------------------------------------------------------------------------------------------------------


def test_limits_are_0_at_first_told_as_set_and_setting_them_disarms(fresh: Table) -> None:
    fresh.greet(None)
    assert fresh.ok(Op.LIMITS) == bytes(20)
    assert fresh.status().flags == 0
    assert LimitRegisters.unpack(fresh.ok(Op.LIMITS, LIMITS.pack())) == LIMITS
    assert fresh.status().flags == 2
    assert fresh.load(1, ONE).status == Status.OK
    assert fresh.status().state == State.ARMED
    fresh.ok(Op.LIMITS)
    assert fresh.status().state == State.ARMED
    fresh.ok(Op.LIMITS, LIMITS.pack())
    assert fresh.status().state == State.IDLE


def test_without_limits_nothing_is_armed_or_acquired(fresh: Table) -> None:
    fresh.greet(None)
    assert fresh.load(1, ONE).status == Status.LIMIT
    for level in (100, 0):
        reply = fresh.ask(Op.ACQUIRE, number(1) + cells(level))
        assert (reply.status, reply.payload) == (Status.LIMIT, b"\x03")


@pytest.mark.parametrize(
    ("registers", "program", "index"),
    [
        ({"max_line": 3999}, ONE, 0),
        ({"max_cell": 7999}, ONE, 1),
        ({"max_victim": 3999}, ONE, 2),
        ({"min_width": 48_001}, ONE, 4),
        ({"max_width": 47_999}, ONE, 5),
        ({"watchdog": 96_000}, ONE, 6),
        ({"max_line": 399}, waves([(0, 0, 0, -400)], [1] * 4, [1] * 4), 0),
        ({"max_cell": 699}, waves([(300, 0, 0, -400)], [1] * 4, [2] * 4), 1),
        ({"max_width": 959}, waves([(1, 0, 0, 0)] * 2, [1] * 4, [0] * 4), 5),
        ({"watchdog": 1920}, waves([(1, 0, 0, 0)] * 2, [1] * 4, [0] * 4), 6),
    ],
)
def test_a_program_at_a_limit_is_taken_and_one_beyond_is_refused_with_its_index(
    bench: Table, registers: dict[str, int], program: bytes, index: int
) -> None:
    bench.ok(Op.LIMITS, LIMITS._replace(**registers).pack())
    reply = bench.load(1, program)
    assert (reply.status, reply.payload) == (Status.LIMIT, bytes([index]))
    assert bench.status().state == State.IDLE
    (name, value), = registers.items()  # fmt: skip
    bench.ok(Op.LIMITS, LIMITS._replace(**{name: value - 1 if name == "min_width" else value + 1}).pack())
    assert bench.load(1, program).status == Status.OK


def test_a_level_beyond_the_converter_is_refused_whatever_the_registers_say() -> None:
    made = table(board__simulation__pulse_bits=8, readout__dac_bits=10)
    made.ok(Op.LIMITS, LIMITS._replace(max_line=65535, max_cell=65535, max_victim=65535, max_read=65535).pack())
    assert made.load(1, pulses(levels=(128, 0, 0, 0))).payload == b"\x00"
    assert made.load(1, pulses(levels=(-127, 0, 0, 0))).status == Status.OK
    assert made.ask(Op.ACQUIRE, number(1) + cells(512)).payload == b"\x03"
    assert made.ask(Op.ACQUIRE, number(1) + cells(511)).status == Status.OK
    made.bench.close()


# -- upload, arm, fire, fence, rest -----------------------------------------------------------------------------------


def test_a_program_is_loaded_armed_fired_and_answered_at_its_end(bench: Table) -> None:
    reply = bench.load(1, FIVE)
    assert frames.ARMED.unpack(reply.payload) == (1, 5)
    tag = bench.fire(1, FIVE)
    assert not [one for one in bench.replies if one.tag == tag], "answered when it has ended"
    status = bench.status()
    assert (status.state, status.end, status.fired, status.started) == (State.FIRING, End.NONE, 1, 0)
    bench.wait(2.5e-3)
    status = bench.status()
    assert (status.state, status.in_shot, status.started, status.done) == (State.FIRING, 2, 3, 2)
    assert not bench.board.lines_grounded
    bench.wait(4e-3)
    (answer,) = [one for one in bench.replies if one.tag == tag]
    kept = frames.BoardStatus.unpack(answer.payload)
    assert (kept.state, kept.end, kept.shots, kept.started, kept.done) == (State.IDLE, End.COMPLETE, 1, 5, 5)
    assert bench.board.lines_grounded
    assert bench.board.pulses_fired() == 10


def test_a_program_of_no_shots_ends_at_once(bench: Table) -> None:
    status = bench.fired(1, pulses(), 0)
    assert (status.end, status.shots, status.started) == (End.COMPLETE, 0, 0)


def test_the_program_memory_is_written_in_pieces_and_has_an_end(bench: Table) -> None:
    room = bench.greet(None).program_bytes
    assert bench.ok(Op.UPLOAD, number(1, 5) + FIVE[5:]) == number(5)
    bench.ok(Op.UPLOAD, number(1, 0) + FIVE[:5])
    assert bench.ask(Op.ARM, frames.ARM.pack(1, len(FIVE), zlib.crc32(FIVE))).status == Status.OK
    bench.ok(Op.LIMITS, LIMITS.pack())
    assert bench.ask(Op.UPLOAD, number(1, room - 1) + b"ab").status == Status.NO_ROOM
    assert bench.ask(Op.UPLOAD, number(1, room - 1) + b"a").status == Status.OK
    assert bench.ask(Op.ARM, frames.ARM.pack(1, room + 1, 0)).status == Status.NO_ROOM
    assert bench.ask(Op.ARM, frames.ARM.pack(1, 4, 1)).status == Status.BAD_CRC
    assert bench.ask(Op.UPLOAD, number(1, 0)).status == Status.MALFORMED


def test_an_upload_while_armed_disarms_at_0_and_is_refused_elsewhere(bench: Table) -> None:
    assert bench.load(1, ONE).status == Status.OK
    assert bench.ask(Op.UPLOAD, number(1, 3) + b"x").status == Status.BUSY
    assert bench.status().state == State.ARMED
    bench.ok(Op.UPLOAD, number(1, 0) + b"x")
    assert bench.ask(Op.FIRE, fire(1, ONE)).status == Status.NOT_ARMED


BAD_PROGRAMS = {
    "nothing": b"", "kind": b"\x05" + ONE[1:], "a read": cells(), "axis": pulses(axis=2), "gap": pulses(gap=47),
    "sign": pulses(record(b"\x01", 3)), "repeat": pulses(record(b"\x01", repeat=0)),
    "lines": pulses(record(b"", lines=0)), "beyond": pulses(record(b"\x01", first=4)),
    "filling": pulses(record(b"\x11")), "short head": pulses()[:17], "short record": pulses(record(b""))[:-1],
    "short mask": pulses(record(b"\x01", lines=3)), "channel": waves([(0, 0, 0, 0)], [3, 0, 0, 0], [0] * 4),
    "no samples": waves([], [0] * 4, [0] * 4), "period": waves([(0, 0, 0, 0)], [0] * 4, [0] * 4, period=479),
    "half a sample": waves([(0, 0, 0, 0)], [0] * 4, [0] * 4)[:-1],
}  # fmt: skip


@pytest.mark.parametrize("which", BAD_PROGRAMS)
def test_what_is_no_program_is_malformed(bench: Table, which: str) -> None:
    assert bench.load(1, ONE).status == Status.OK
    if BAD_PROGRAMS[which]:
        assert bench.load(1, BAD_PROGRAMS[which]).status == Status.MALFORMED
    else:
        assert bench.ask(Op.ARM, frames.ARM.pack(1, 0, 0)).status == Status.MALFORMED
    assert bench.status().state == State.IDLE, "a refused ARM leaves the board disarmed"


def test_while_firing_only_what_is_allowed_is_done(bench: Table) -> None:
    bench.load(1, FIVE)
    tag = bench.fire(1, FIVE)
    bench.wait(5e-4)
    busy = {
        Op.UPLOAD: number(2, 0) + b"x", Op.ARM: frames.ARM.pack(2, 1, 0), Op.FENCE: number(2),
        Op.LIMITS: LIMITS.pack(), Op.ACQUIRE: number(1) + cells(), Op.FIRE: fire(2, FIVE),
    }  # fmt: skip
    assert {op: bench.ask(op, payload).status for op, payload in busy.items()} == dict.fromkeys(busy, Status.BUSY)
    assert bench.ask(Op.FIRE, fire(1, FIVE)).status == Status.RUNNING
    taken = bench.ask(Op.FENCE, number(1))
    assert (taken.status, frames.BoardStatus.unpack(taken.payload).state) == (Status.TAKEN, State.FIRING)
    for op, payload in ((Op.ECHO, b"x"), (Op.HELLO, b"abcd"), (Op.LIMITS, b""), (Op.STATUS, b"")):
        assert bench.ask(op, payload).status == Status.OK
    bench.wait(1e-2)
    assert [one.status for one in bench.replies if one.tag == tag] == [Status.OK]


def test_while_acquiring_a_program_is_loaded_but_neither_fired_nor_fenced(bench: Table) -> None:
    bench.ok(Op.ACQUIRE, number(1) + ENDLESS)
    assert bench.status().flags == 3
    assert not bench.board.lines_grounded
    assert bench.load(1, ONE).status == Status.OK
    for op, payload in ((Op.FIRE, fire(1, ONE)), (Op.FENCE, number(1)), (Op.LIMITS, LIMITS.pack())):
        assert bench.ask(op, payload).status == Status.BUSY
    bench.ok(Op.REST)
    assert bench.status().flags == 2
    assert bench.board.lines_grounded


def test_fire_needs_the_armed_crc(bench: Table) -> None:
    assert bench.ask(Op.FIRE, fire(1, ONE)).status == Status.NOT_ARMED
    bench.load(1, ONE)
    assert bench.ask(Op.FIRE, fire(1, FIVE)).status == Status.NOT_ARMED
    assert bench.status().state == State.ARMED
    assert bench.status().fired == 0


def test_what_the_chip_has_no_answer_to_is_refused_in_words(bench: Table) -> None:
    reply = bench.load(1, pulses(record(b"\x01"), levels=(6000, 0, -4000, 0)))
    assert reply.status == Status.CHIP
    assert b"2.5 V" in reply.payload
    assert bench.load(1, pulses(record(b"\x01", sign=2))).status == Status.CHIP, "it cannot be depressed"
    assert bench.load(1, pulses(levels=(6000, 0, -4000, 0))).status == Status.OK, "no pulse, no answer"
    assert bench.board.damage == ()


# -- reads ------------------------------------------------------------------------------------------------------------

BAD_READS = {
    "kind": b"\x01" + cells()[1:], "nothing": b"", "head": cells()[:10], "level": cells()[:-1],
    "width 1": cells(width=1), "width 5": cells(width=5), "no averages": cells(averages=0),
    "no rows": cells(region=(0, 0, 0, 4), mask=np.ones((1, 4), np.bool_)), "beyond": cells(region=(2, 3, 0, 4)),
    "a mask too many": cells() + b"\xff", "a long vector": vectors([[1] * 5]), "a short one": vectors([[1] * 3]),
    "no vector": vectors(np.zeros((0, 4))), "cells that float": cells()[:1] + b"\x0c" + cells()[2:],
    "all cells of a vector": vectors([[1] * 4])[:1] + b"\x08" + vectors([[1] * 4])[2:],
    "an unknown flag": cells()[:1] + b"\x88" + cells()[2:],
}  # fmt: skip


@pytest.mark.parametrize("which", BAD_READS)
def test_what_is_no_read_is_malformed_and_takes_no_number(bench: Table, which: str) -> None:
    assert bench.ask(Op.ACQUIRE, number(1) + BAD_READS[which]).status == Status.MALFORMED
    assert bench.status().acquired == 0


def test_reads_have_their_room(bench: Table) -> None:
    made = table(board__simulation__read_bytes=64, board__simulation__samples=64)
    assert made.ask(Op.ACQUIRE, number(1) + vectors([[1] * 4] * 6)).status == Status.NO_ROOM  # 67 bytes
    assert made.ask(Op.ACQUIRE, number(1) + cells(region=(0, 4, 0, 4), both=True)).status == Status.OK
    made.bench.close()
    del bench


def test_a_read_level_beyond_its_register_is_refused(bench: Table) -> None:
    bench.ok(Op.LIMITS, LIMITS._replace(max_read=2000).pack())
    for program in (cells(2001), cells(-2001), vectors([[0, 0, 0, 2001]])):
        reply = bench.ask(Op.ACQUIRE, number(1) + program)
        assert (reply.status, reply.payload) == (Status.LIMIT, b"\x03")
    assert bench.ask(Op.ACQUIRE, number(1) + cells(-2000)).status == Status.OK


def test_samples_become_ready_level_by_level_and_are_fetched_in_windows(bench: Table) -> None:
    assert bench.ok(Op.ACQUIRE, number(1) + cells(both=True, integration=48_000 - 240)) == number(32)
    assert Samples.unpack(bench.ok(Op.FETCH, number(1, 0, 99))) == (1, 0, 0, 0, b"")
    bench.wait(3.5e-3)
    part = Samples.unpack(bench.ok(Op.FETCH, number(1, 0, 99)))
    assert (part.ready, part.flags, len(part.data)) == (12, 0, 48)
    bench.wait(10e-3)
    every = Samples.unpack(bench.ok(Op.FETCH, number(1, 0, 99)))
    assert (every.ready, every.flags, len(every.data)) == (32, 1, 128)
    assert every.data[:48] == part.data
    window = Samples.unpack(bench.ok(Op.FETCH, number(1, 30, 1)))
    assert (window.first, window.data) == (30, every.data[120:124])
    assert Samples.unpack(bench.ok(Op.FETCH, number(1, 40, 9))).data == b""
    assert bench.ask(Op.FETCH, number(2, 0, 1)).status == Status.WRONG_NUMBER


def test_a_fetch_is_never_longer_than_a_frame() -> None:
    made = table(board__simulation__max_body=256, chip__rows=8, chip__cols=16)
    assert made.ok(Op.ACQUIRE, number(1) + cells(region=(0, 8, 0, 16))) == number(128)
    made.wait(0.1)
    assert len(Samples.unpack(made.ok(Op.FETCH, number(1, 0, 128))).data) == 4 * ((256 - 19) // 4)
    made.bench.close()


def test_a_new_acquisition_replaces_the_one_under_way(bench: Table) -> None:
    bench.ok(Op.ACQUIRE, number(1) + ENDLESS)
    assert len(bench.acquired(2, cells(region=(0, 1, 0, 4)), 4)) == 4
    assert bench.ask(Op.FETCH, number(1, 0, 1)).status == Status.WRONG_NUMBER
    assert not bench.status().acquiring


def test_a_stopped_acquisition_says_so_and_keeps_what_it_has(bench: Table) -> None:
    bench.ok(Op.ACQUIRE, number(1) + cells(integration=48_000))
    bench.wait(2.5e-3)
    bench.ok(Op.REST)
    bench.wait(0.1)
    part = Samples.unpack(bench.ok(Op.FETCH, number(1, 0, 16)))
    assert (part.ready, part.flags) == (8, 4)


def test_no_cells_are_no_samples(bench: Table) -> None:
    assert bench.ok(Op.ACQUIRE, number(1) + cells(mask=np.zeros((4, 4), np.bool_))) == number(0)
    assert Samples.unpack(bench.ok(Op.FETCH, number(1, 0, 9))) == (1, 0, 0, 1, b"")


@pytest.mark.parametrize("reads", [[], ["rows_to_cols"], ["cols_to_rows"]])
def test_a_board_multiplies_only_in_the_directions_that_it_offers(reads: list[str]) -> None:
    made = Table(opened(bench__vector_reads=reads))
    has = made.greet()
    assert (has.forward, has.backward) == ("rows_to_cols" in reads, "cols_to_rows" in reads)
    for backward, offered in ((False, has.forward), (True, has.backward)):
        status = made.ask(Op.ACQUIRE, number(1 + backward) + vectors([[1] * 4], backward=backward)).status
        assert status == (Status.OK if offered else Status.MALFORMED)
    made.bench.close()


def test_a_conversion_out_of_range_is_flagged_and_clipped() -> None:
    made = table(readout__adc_range_a=1e-8, readout__noise=False)
    sums = made.acquired(1, cells(5000), 4)
    assert (sums == 2**23 - 1).all()
    assert Samples.unpack(made.ok(Op.FETCH, number(1, 0, 1))).flags == 3
    made.bench.close()


def test_a_sum_that_does_not_fit_keeps_its_low_bytes() -> None:
    made: Any = table(readout__noise=False)
    four = made.acquired(1, cells(averages=500), 4)
    two = made.acquired(2, cells(averages=500, width=2), 2)
    assert (four > 2**15).all()
    np.testing.assert_array_equal((four + 2**15) % 2**16 - 2**15, two)
    made.bench.close()
