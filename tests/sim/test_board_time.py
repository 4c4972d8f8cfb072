"""What stops a simulated board: REST, silence, restarts at any instant; and its numbers, late copies and speeds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurobench.bench import frames
from neurobench.bench.frames import BoardStatus, End, Op, Samples, State, Status

sys.path.insert(0, str(Path(__file__).resolve().parent))

from board_bench import HZ, LIMITS, Table, cells, fire, opened, pulses, record, table, waves

ONE = pulses(record(b"\x01"))
FIVE = pulses(record(b"\x01", repeat=5))
TWO_LINES = pulses(record(b"\x11", repeat=3, lines=2))
LONG_S = 0.1
LONG = pulses(record(b"\x01"), width=round(LONG_S * HZ), levels=(100, 0, -100, 0))  # below any reading level
ENDLESS = cells(averages=65535, integration=4800)


@pytest.fixture
def bench() -> Iterator[Table]:
    made = table()
    yield made
    made.bench.close()


def number(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "little") for value in values)


def answer(bench: Table, tag: int) -> BoardStatus:
    (reply,) = [one for one in bench.replies if one.tag == tag]
    assert reply.status == Status.OK
    return BoardStatus.unpack(reply.payload)


# -- REST -------------------------------------------------------------------------------------------------------------


def test_rest_lets_a_short_pulse_end_and_begins_no_other(bench: Table) -> None:
    bench.load(1, FIVE)
    tag = bench.fire(1, FIVE)
    bench.wait(1.5e-3)
    status = BoardStatus.unpack(bench.ok(Op.REST))
    assert (status.state, status.started, status.done) == (State.STOPPING, 2, 1)
    assert not bench.board.lines_grounded
    bench.wait(1e-3)
    status = answer(bench, tag)
    assert (status.state, status.end, status.in_shot, status.started, status.done) == (State.IDLE, End.RESTED, 2, 2, 2)
    bench.wait(0.1)
    assert bench.board.pulses_fired() == 2
    assert bench.board.lines_grounded


def test_rest_between_two_pulses_ends_at_once() -> None:
    made = table()
    program = pulses(record(b"\x01", repeat=5), gap=48_000)
    made.load(1, program)
    tag = made.fire(1, program)
    made.wait(1.5e-3)
    status = BoardStatus.unpack(made.ok(Op.REST))
    assert (status.state, status.end, status.done) == (State.IDLE, End.RESTED, 1)
    assert answer(made, tag)[:9] == status[:9]
    made.bench.close()


@pytest.mark.parametrize(("before_s", "end"), [(LONG_S - 0.0205, End.CUT), (LONG_S - 0.0195, End.RESTED)])
def test_rest_cuts_off_a_pulse_that_has_more_than_20_ms_to_go(bench: Table, before_s: float, end: End) -> None:
    assert bench.load(1, LONG).status == Status.OK
    tag = bench.fire(1, LONG)
    bench.wait(1e-5 + before_s)
    bench.ok(Op.REST)
    assert bench.board.lines_grounded is (end == End.CUT)
    bench.wait(0.03)
    status = answer(bench, tag)
    assert (status.end, status.started, status.done) == (end, 1, end == End.RESTED)
    assert bench.board.lines_grounded


def test_a_pulse_that_is_cut_off_is_felt_for_the_time_that_it_was_on() -> None:
    made = table(chip__model="al2o3-tio2-nili")  # its table holds any width
    long = pulses(record(b"\x01"), width=round(0.05 * HZ), levels=(2600, 0, -2600, 0))
    assert made.load(1, long).status == Status.OK
    made.fire(1, long)
    made.wait(1e-5 + 0.01)
    made.ok(Op.REST)
    (felt,) = made.board.ledger
    assert felt.seconds == pytest.approx(0.01, rel=1e-3)
    assert made.board.pulses_fired() == 1
    made.bench.close()


def test_rest_in_the_second_shot_counts_the_first(bench: Table) -> None:
    bench.load(1, TWO_LINES)
    tag = bench.fire(1, TWO_LINES)
    bench.wait(4.6e-3)
    bench.ok(Op.REST)
    bench.wait(1e-3)
    status = answer(bench, tag)
    assert (status.shots, status.in_shot, status.started, status.done) == (1, 2, 5, 5)
    bench.load(2, ONE)
    bench.fire(2, ONE)
    assert bench.status().in_shot == 0, "of the last FIRE"


def test_a_gap_is_kept_to_the_last_pulse_of_the_program_before() -> None:
    made = table()
    program = pulses(record(b"\x01"), gap=480_000)  # 10 ms
    assert made.fired(1, program, 1.1e-3).done == 1, "no gap before the first pulse of all"
    made.load(2, program)
    made.fire(2, program)
    made.wait(9.8e-3)
    assert made.board.lines_grounded
    made.wait(2e-4)
    assert not made.board.lines_grounded
    made.bench.close()


def test_rest_disarms(bench: Table) -> None:
    bench.load(1, ONE)
    bench.ok(Op.REST)
    assert bench.ask(Op.FIRE, fire(1, ONE)).status == Status.NOT_ARMED


# -- silence ----------------------------------------------------------------------------------------------------------


def test_a_silent_host_stops_the_firing_between_two_pulses(bench: Table) -> None:
    watchdog_s = 0.01
    bench.ok(Op.LIMITS, LIMITS._replace(watchdog=round(watchdog_s * HZ)).pack())
    program = pulses(record(b"\x01", repeat=100))
    bench.load(1, program)
    tag = bench.fire(1, program)
    bench.wait(watchdog_s - 2e-4)
    assert bench.board.firing
    assert bench.board.lines_grounded, "it begins no pulse that would not be over by then"
    bench.wait(2.1e-4)
    status = answer(bench, tag)
    assert (status.end, status.flags & 4, status.started, status.done) == (End.WATCHDOG, 4, 9, 9)
    assert bench.board.pulses_fired() == 9


def test_a_word_from_the_host_keeps_it_firing_and_a_strangers_does_not(bench: Table) -> None:
    bench.ok(Op.LIMITS, LIMITS._replace(watchdog=round(0.01 * HZ)).pack())
    program = pulses(record(b"\x01", repeat=30))
    bench.load(1, program)
    tag = bench.fire(1, program)
    for _ in range(4):
        bench.wait(0.0099)
        bench.send(Op.ECHO)
    status = answer(bench, tag)
    assert (status.end, status.done) == (End.COMPLETE, 30)
    bench.load(2, program)
    tag = bench.fire(2, program)
    for _ in range(4):
        bench.wait(0.0099)
        bench.send(Op.ECHO, session=1)
    assert answer(bench, tag).end == End.WATCHDOG


def test_a_silent_host_stops_an_acquisition(bench: Table) -> None:
    bench.ok(Op.LIMITS, LIMITS._replace(watchdog=round(0.01 * HZ)).pack())
    bench.ok(Op.ACQUIRE, number(1) + ENDLESS)
    bench.wait(0.0099)
    assert not bench.board.lines_grounded
    bench.wait(0.0002)
    assert bench.board.lines_grounded
    assert bench.status().flags == 2 | 4
    assert Samples.unpack(bench.ok(Op.FETCH, number(1, 0, 9))).flags == 4


def test_a_shorter_watchdog_holds_from_the_next_program_on(bench: Table) -> None:
    bench.fired(1, ONE, 0.01)  # looked out for by the long one
    bench.ok(Op.LIMITS, LIMITS._replace(watchdog=round(0.01 * HZ)).pack())
    status = bench.fired(2, pulses(record(b"\x01", repeat=100)), 0.011)
    assert status.end == End.WATCHDOG


def test_silence_with_nothing_going_on_changes_nothing(bench: Table) -> None:
    bench.ok(Op.LIMITS, LIMITS._replace(watchdog=round(0.01 * HZ)).pack())
    bench.load(1, ONE)
    bench.wait(1.0)
    status = bench.status()
    assert (status.state, status.flags) == (State.ARMED, 2)


# -- restarts ---------------------------------------------------------------------------------------------------------


def test_a_restart_forgets_everything_but_the_chip(bench: Table) -> None:
    bench.fired(1, FIVE, 0.02)
    old, fired = bench.session, bench.board.pulses_fired()
    bench.load(2, ONE)
    bench.board.reboot()
    assert bench.ask(Op.STATUS).status == Status.WRONG_SESSION
    bench.wait(1e-3)
    bench.greet(None)  # with the same nonce
    assert bench.session != old
    status = bench.status()
    assert status[:9] == (State.IDLE, End.NONE, 0, 0, 0, 0, 0, 0, 0)
    assert status.good == 3
    assert status.uptime == 48_000
    assert bench.ok(Op.LIMITS) == bytes(20)
    assert bench.ask(Op.FENCE, number(1)).status == Status.OK
    assert bench.board.pulses_fired() == fired == 5


@pytest.mark.parametrize("at_s", [0.0, 5e-6, 2e-5, 4e-4, 1.015e-3, 1.1e-3, 3e-3, 4.9e-3, 5.1e-3, 8e-3])
def test_a_restart_at_any_instant_fires_nothing_more(bench: Table, at_s: float) -> None:
    bench.load(1, FIVE)
    tag = bench.fire(1, FIVE)
    bench.wait(at_s)
    done = sum(one.end == End.COMPLETE for one in [bench.status()])
    fired = bench.board.pulses_fired()
    bench.board.reboot()
    assert bench.board.lines_grounded
    assert not bench.board.firing
    bench.wait(0.1)
    assert bench.board.pulses_fired() == fired, "the pulse that was cut off is none that the device knows"
    assert len([one for one in bench.replies if one.tag == tag]) == done


def test_a_restart_in_an_acquisition_grounds_the_lines(bench: Table) -> None:
    bench.ok(Op.ACQUIRE, number(1) + ENDLESS)
    bench.board.reboot()
    assert bench.board.lines_grounded
    bench.greet()
    assert bench.ask(Op.FETCH, number(0, 0, 1)).status == Status.WRONG_NUMBER
    assert bench.ask(Op.FETCH, number(1, 0, 1)).status == Status.WRONG_NUMBER


def test_a_restart_in_a_waveform_cuts_it_off(bench: Table) -> None:
    program = waves([(100, 0, 0, 0)] * 10, [1, 0, 0, 0], [0] * 4, period=48_000)
    assert bench.load(1, program).status == Status.OK
    bench.fire(1, program)
    bench.wait(1.5e-3)
    assert not bench.board.lines_grounded
    bench.board.reboot()
    assert bench.board.lines_grounded


# -- numbers and late copies ------------------------------------------------------------------------------------------


def test_the_kept_reply_comes_again_as_it_was(bench: Table) -> None:
    bench.fired(1, ONE, 0.01)
    first = bench.replies[-1]
    bench.wait(0.5)
    bench.replies.clear()
    bench.send(Op.FIRE, fire(1, ONE))
    bench.send(Op.FIRE, fire(1, FIVE))
    assert bench.replies == [first, first]
    bench.wait(0.1)
    assert bench.board.pulses_fired() == 1
    taken = bench.ask(Op.FENCE, number(1))
    assert (taken.status, BoardStatus.unpack(taken.payload).shots) == (Status.TAKEN, 1)


def test_after_a_fence_no_late_fire_is_executed(bench: Table) -> None:
    bench.load(1, ONE)
    fenced = bench.ask(Op.FENCE, number(1))
    assert BoardStatus.unpack(fenced.payload).fired == 1
    taken = bench.ask(Op.FIRE, fire(1, ONE))
    assert (taken.status, BoardStatus.unpack(taken.payload).shots) == (Status.TAKEN, 0)
    bench.send(Op.FENCE, number(1))
    assert bench.replies[-1] == fenced
    assert bench.ask(Op.FIRE, fire(2, ONE)).status == Status.NOT_ARMED
    bench.wait(0.1)
    assert bench.board.pulses_fired() == 0


def test_in_a_new_session_number_0_was_never_used(bench: Table) -> None:
    assert bench.ask(Op.FIRE, fire(0, ONE)).status == Status.WRONG_NUMBER
    assert bench.ask(Op.FENCE, number(0)).status == Status.WRONG_NUMBER
    assert bench.ask(Op.ACQUIRE, number(0) + cells()).status == Status.WRONG_NUMBER
    assert bench.ask(Op.FETCH, number(0, 0, 1)).status == Status.WRONG_NUMBER


def test_numbers_wrap_at_65536(bench: Table) -> None:
    for n in range(1, 65536):
        bench.send(Op.FENCE, number(n))
    bench.replies.clear()
    status = bench.fired(0, ONE, 0.01)
    assert (status.fired, status.shots) == (0, 1)
    status = bench.fired(1, ONE, 0.01)
    assert (status.fired, status.shots) == (1, 2)
    assert bench.ask(Op.FENCE, number(0)).status == Status.WRONG_NUMBER


def test_acquisitions_go_ahead_by_up_to_32767_and_wrap(bench: Table) -> None:
    one = cells(region=(0, 1, 0, 1))
    assert bench.ask(Op.ACQUIRE, number(32768) + one).status == Status.WRONG_NUMBER
    for n in (32767, 65534, 3):
        assert bench.ask(Op.ACQUIRE, number(n) + one).status == Status.OK
    reads = bench.board.chip.counters.reads
    assert bench.ok(Op.ACQUIRE, number(3) + cells()) == number(1), "answered as before"
    assert bench.board.chip.counters.reads == reads
    for n in (2, 65534, 3 + 32768):
        assert bench.ask(Op.ACQUIRE, number(n) + one).status == Status.WRONG_NUMBER


def test_late_copies_of_everything_change_nothing(bench: Table) -> None:
    old = [
        (Op.UPLOAD, number(1, 0) + ONE), (Op.ARM, frames.ARM.pack(1, len(ONE), 0)), (Op.FIRE, fire(1, ONE)),
        (Op.ACQUIRE, number(1) + cells()),
    ]  # fmt: skip
    bench.fired(1, ONE, 0.01)
    bench.ok(Op.ACQUIRE, number(1) + cells())
    bench.ok(Op.ACQUIRE, number(2) + cells())
    bench.wait(0.1)
    bench.load(2, FIVE)
    before, reads = bench.status(), bench.board.chip.counters.reads
    statuses = [bench.send(op, payload) for op, payload in old]
    replies = {one.tag: one.status for one in bench.replies}
    assert [replies.get(tag) for tag in statuses] == [Status.WRONG_NUMBER, Status.WRONG_NUMBER, None,
                                                      Status.WRONG_NUMBER]  # fmt: skip
    assert bench.status()[:9] == before[:9]
    assert bench.board.chip.counters.reads == reads
    tag = bench.fire(2, FIVE)
    bench.wait(0.1)
    assert answer(bench, tag).done == 6


# -- speed ------------------------------------------------------------------------------------------------------------


def agreed(bench: Table, baud: int) -> int:
    return int.from_bytes(bench.ok(Op.SPEED, baud.to_bytes(4, "little")), "little")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(1_000_000, 1_000_000), (12_000_000, 12_000_000), (921_600, 923_077), (115_200, 115_200), (9600, 9600),
     (24_000_000, 115_200), (0, 115_200), (6_900_000, 6_857_143), (7_000_000, 115_200), (10_500_000, 115_200)],
)  # fmt: skip
def test_the_nearest_speed_within_2_percent_is_agreed_on(bench: Table, wanted: int, found: int) -> None:
    assert agreed(bench, wanted) == found


def test_no_speed_is_promised_that_the_clock_cannot_do() -> None:
    made = Table(opened(board__simulation__clock_hz=1_000_000))
    assert made.greet(None).max_baud == 250_000
    assert agreed(made, 1_000_000) == 115_200
    assert agreed(made, 250_000) == 250_000
    made.bench.close()


def test_a_new_speed_is_used_when_the_reply_has_left_and_given_up_after_200_ms_of_nothing(bench: Table) -> None:
    bench.wait(0.05)  # until the replies before it have left
    agreed(bench, 1_000_000)
    bench.wait(18 * 10 / 115_200 - 1e-5)
    assert bench.board.baud == 115_200
    bench.wait(2e-5)
    assert bench.board.baud == 1_000_000
    bench.wait(0.19)
    assert bench.board.baud == 1_000_000
    bench.wait(0.02)
    assert bench.board.baud == 115_200


def test_a_speed_that_is_used_is_given_up_after_2_s_of_silence(bench: Table) -> None:
    agreed(bench, 1_000_000)
    bench.wait(0.1)
    bench.send(Op.STATUS)
    for _ in range(3):
        bench.wait(1.9)
        assert bench.board.baud == 1_000_000
        bench.send(Op.ECHO, session=77)  # any good frame
    bench.wait(1.95)
    assert bench.board.baud == 1_000_000
    bench.wait(0.1)
    assert bench.board.baud == 115_200


def test_a_restart_is_at_the_base_speed_whatever_was_agreed(bench: Table) -> None:
    agreed(bench, 1_000_000)
    bench.board.reboot()
    bench.wait(0.01)
    assert bench.board.baud == 115_200
    bench.greet(None)
    agreed(bench, 2_000_000)
    bench.wait(0.01)
    bench.board.reboot()
    assert bench.board.baud == 115_200


def test_time_is_counted_in_the_boards_ticks() -> None:
    made = Table(opened(board__simulation__clock_hz=1_234_567))
    made.wait(0.5)
    made.greet(None)
    assert made.status().uptime == 617_283
    made.bench.close()
