"""Every branch of `outcome` on the FPGA bench, and what a step owes to whoever staged it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fpga_rig import PULSE, SHAPE, Frame, Rig, again, agrees, batch, disarming, rig, staged

from neurobench.bench.crossbar import Done, NotDone, Unknown, Witness
from neurobench.bench.frames import ACQUIRE, BoardStatus, LimitRegisters, Op, Status
from neurobench.bench.stimulus import CellRead, Play, PulseBatch, Shape, Shots, Waveforms, shots
from neurobench.errors import CapabilityMissing, InstrumentError, LimitExceeded, LinkLost, Refused, UsageError


@contextmanager
def opened(**overrides: Any) -> Iterator[Rig]:
    bench = rig(**overrides)
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def bench() -> Iterator[Rig]:
    with opened() as made:
        yield made


def few(bench: Rig, *counts: tuple[int, int]) -> Shots:
    """Shots on the cells (k, k): `counts` are (cell, pulses)."""
    array = np.zeros(SHAPE, np.int16)
    for cell, pulses in counts or ((0, 3), (1, 2)):
        array[cell, cell] = pulses
    return staged(bench, PulseBatch(array, PULSE))


def nothing(bench: Rig) -> Shots:
    return staged(bench, PulseBatch(np.zeros(SHAPE, np.int16), PULSE))


# -- in the same process -----------------------------------------------------------------------------------------------


def test_before_it_is_staged_and_before_it_is_fired_it_is_not_done(bench: Rig) -> None:
    expanded = few(bench)
    witness = bench.crossbar.stage(3, expanded)
    assert bench.crossbar.outcome(3, witness) == NotDone()
    assert bench.crossbar.outcome(4, witness) == NotDone()
    assert bench.crossbar.fire(3).pulses == 5


def test_after_it_was_fired_the_answer_is_the_one_that_was_given(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, few(bench))
    applied = bench.crossbar.fire(0)
    assert bench.crossbar.outcome(0, witness) == Done(applied)
    assert bench.crossbar.fire(0) == applied
    assert bench.board.pulses_fired() == 5


def test_a_step_without_a_pulse_is_fired_without_the_board(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, nothing(bench))
    assert bench.crossbar.outcome(0, witness) == NotDone()
    bench.tap.set(lambda frame: [frame.data])
    applied = bench.crossbar.fire(0)
    assert (applied.shots_done, applied.pulses, bench.tap.seen) == (0, 0, [])
    assert bench.crossbar.outcome(0, witness) == Done(applied)


def test_what_was_staged_is_forgotten_by_a_rest(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, few(bench))
    bench.crossbar.rest()
    with pytest.raises(LinkLost, match="not staged"):
        bench.crossbar.fire(0)
    assert bench.crossbar.outcome(0, witness) == NotDone()
    bench.crossbar.stage(0, few(bench))
    assert bench.crossbar.fire(0).pulses == 5


def test_a_number_is_fired_once(bench: Rig) -> None:
    bench.crossbar.stage(2, few(bench))
    bench.crossbar.fire(2)
    with pytest.raises(UsageError, match="sequence number 1 was used"):
        bench.crossbar.stage(1, few(bench))
    with pytest.raises(UsageError, match="the shots are for"):
        bench.crossbar.stage(3, few(bench).__class__((2, 2), *_rest_of(few(bench))))


def _rest_of(expanded: Shots) -> tuple[Any, ...]:
    return (expanded.pulse, expanded.bias, 1, 0, expanded.line, expanded.indptr, expanded.cross, expanded.sign,
            expanded.repeat)  # fmt: skip


def test_all_replies_lost_from_the_fire_on_it_is_known_as_soon_as_the_line_is_back(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, few(bench))
    gone: list[int] = []

    def silent(frame: Frame) -> list[bytes]:
        if frame.op == "FIRE" and frame.way == "to":
            gone.append(frame.n)
        return [] if gone and frame.way == "from" else [frame.data]

    bench.tap.set(silent)
    with pytest.raises(LinkLost):
        bench.crossbar.fire(0)
    with pytest.raises(LinkLost):
        bench.crossbar.outcome(0, witness)
    bench.tap.set(lambda frame: [frame.data])
    found = bench.crossbar.outcome(0, witness)
    assert isinstance(found, Done)
    assert (found.applied.shots_done, found.applied.pulses) == (2, 5)
    assert bench.board.pulses_fired() == 5


def test_a_fire_that_never_arrived_is_not_done_and_its_late_copy_stays_without_effect(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, few(bench))
    late: list[bytes] = []

    def dead(frame: Frame) -> list[bytes]:
        if frame.op == "FIRE":
            late.append(frame.data)
        return [] if late else [frame.data]

    bench.tap.set(dead)
    with pytest.raises(LinkLost):
        bench.crossbar.fire(0)
    bench.tap.set(lambda frame: [frame.data])
    assert bench.crossbar.outcome(0, witness) == NotDone()
    bench.crossbar.stage(0, few(bench))
    bench.board.receive(late[0] + b"\0")
    bench.simulation.clock.sleep(0.1)
    assert bench.board.pulses_fired() == 0
    assert bench.crossbar.fire(0).pulses == 5
    assert bench.board.pulses_fired() == 5


def test_without_an_outcome_asked_the_next_step_is_fenced_from_the_last_ones_fire(bench: Rig) -> None:
    """Two equal batches: the FIRE of the first, late, would fit the second."""
    bench.crossbar.stage(0, few(bench))
    late: list[bytes] = []

    def dead(frame: Frame) -> list[bytes]:
        if frame.op == "FIRE":
            late.append(frame.data)
        return [] if late else [frame.data]

    bench.tap.set(dead)
    with pytest.raises(LinkLost):
        bench.crossbar.fire(0)
    bench.tap.set(lambda frame: [frame.data])
    bench.crossbar.stage(1, few(bench))
    bench.board.receive(late[0] + b"\0")
    bench.simulation.clock.sleep(0.1)
    assert bench.board.pulses_fired() == 0


def test_a_shot_that_was_stopped_in_the_middle_stays_unknown_however_often_it_is_asked() -> None:
    with opened(board__simulation__clock_hz=1_000_000, board__gap_s=1e-3) as bench:
        expanded = few(bench, (0, 2), (1, 400))
        witness = bench.crossbar.stage(0, expanded)
        asked: list[int] = []

        def rest(frame: Frame) -> list[bytes]:
            if frame.op == "STATUS" and frame.way == "to":
                asked.append(frame.n)
                if len(asked) == 3:
                    bench.crossbar.rest()
            return [frame.data]

        bench.tap.set(rest)
        with pytest.raises(InstrumentError, match="brought to rest"):
            bench.crossbar.fire(0)
        bench.tap.set(lambda frame: [frame.data])
        found = bench.crossbar.outcome(0, witness)
        assert isinstance(found, Unknown)
        assert (found.shot, agrees(found, expanded, bench.board.pulses_fired())) == (1, True)
        assert f"{bench.board.pulses_fired() - 2} of the 400" in found.why
        assert bench.crossbar.outcome(0, witness) == found
        bench.crossbar.stage(1, few(bench))
        assert bench.crossbar.outcome(0, witness) != NotDone(), "also after the next step was staged"
        assert bench.next_process().outcome(0, witness, expanded) == found


def test_what_was_staged_must_be_known(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, few(bench))
    bench.crossbar.fire(0)
    crossbar = bench.next_process()
    assert isinstance(crossbar.outcome(0, witness), Unknown)
    assert isinstance(crossbar.outcome(0, Witness(), few(bench)), Unknown)
    assert isinstance(crossbar.outcome(0, Witness(3, "no session.0"), few(bench)), Unknown)
    assert isinstance(crossbar.outcome(0, witness, few(bench)), Done)


# -- in a new process --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [(2, 9), (1, 2), (8, 0)])
def test_counts_that_cannot_be_this_steps_are_a_doubt_and_no_crash(bench: Rig, others: tuple[int, int]) -> None:
    """Somebody else has fired on the board since: more shots, or more pulses, than the step has."""
    witness = bench.crossbar.stage(0, few(bench))
    bench.crossbar.fire(0)
    crossbar = bench.next_process()
    said = Witness(witness.counter - others[0], _with_started(witness, -others[1]))
    found = crossbar.outcome(0, said, few(bench))
    assert isinstance(found, Unknown)
    assert "others fired" in found.why
    assert 0 <= found.shot <= 2


def _with_started(witness: Witness, more: int) -> str:
    session, _, started = witness.nonce.partition(".")
    return f"{session}.{int(started) + more}"


def test_counters_that_wrap_are_counted_on(bench: Rig) -> None:
    """Shots and pulses of a session are 32 bits, once-commands and acquisitions 16."""
    counts, once = bench.board._sequencer.counts, bench.board._once
    counts.shots = counts.done = counts.started = 2**32 - 2
    once.number, once.op = 0xFFFF, Op.FENCE
    words = bench.board._words
    bench.board._words = lambda: _wrapped(words())
    crossbar = bench.next_process()
    witness = crossbar.stage(0, few(bench))
    assert crossbar.fire(0).pulses == 5
    found = bench.next_process().outcome(0, witness, few(bench))
    assert isinstance(found, Done)
    assert found.applied.pulses == 5


def _wrapped(words: Any) -> Any:
    return words._replace(**{name: getattr(words, name) % 2**32 for name in ("shots", "started", "done")})


def test_the_once_numbers_wrap_in_the_middle_of_a_step(bench: Rig) -> None:
    expanded = staged(bench, batch())
    bench.board._once.number, bench.board._once.op = 0xFFFE, Op.FENCE
    bench.board._once.kept = b""
    witness = bench.crossbar.stage(0, expanded)
    assert len(bench.crossbar._programs(expanded)) == 2
    assert bench.crossbar.fire(0).pulses == expanded.pulses == bench.board.pulses_fired()
    assert bench.next_process().outcome(0, witness, expanded) != NotDone()


def test_a_board_that_restarted_since_cannot_tell(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, few(bench))
    bench.crossbar.fire(0)
    bench.board.reboot()
    found = bench.next_process().outcome(0, witness, few(bench))
    assert found == Unknown(0, "the board restarted, and with it went its counters")


def test_a_waveform_is_one_shot_and_one_pulse_of_every_cell_that_sees_it() -> None:
    with opened() as bench:
        shape = Shape(np.array([0.0, 2e-4, 4e-4]), np.array([0.0, 0.05, 0.0]))
        n_rows, n_cols = bench.crossbar.capabilities.shape
        waves = Waveforms((shape,), np.zeros(n_rows, int), np.full(n_cols, -1), np.zeros(n_rows), np.zeros(n_cols))
        play = shots(waves, bench.crossbar.capabilities)
        assert isinstance(play, Play)
        witness = bench.crossbar.stage(0, play)
        assert bench.crossbar.fire(0).shots_done == 1
        found = bench.next_process().outcome(0, witness, play)
        assert isinstance(found, Done)
        assert (found.applied.shots_done, found.applied.pulses) == (1, n_rows * n_cols)


def test_an_acquisition_of_the_dead_process_is_stopped_before_the_fence(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, few(bench))
    bench.crossbar.fire(0)
    bench.crossbar._answers, bench.crossbar._known = {}, bench.crossbar._known._replace(sure=False)
    plan, link = bench.crossbar._plan, bench.crossbar.link

    read = CellRead(np.ones(SHAPE, np.bool_), 0.1, integration_s=5.0)
    (block,) = plan.cell_blocks(read, 1)
    link.expect(Op.ACQUIRE, ACQUIRE.pack(999) + block.program)
    found = bench.crossbar.outcome(0, witness)
    assert isinstance(found, Done)
    assert bench.board.lines_grounded


# -- what a board may answer -------------------------------------------------------------------------------------------


def _answering(bench: Rig, op: Op, answer: Any) -> None:
    """`answer(status, payload)` in place of the board's answers to one command."""
    wait = bench.crossbar.link.wait

    def waited(tag: int, seconds: float) -> Any:
        reply = wait(tag, seconds)
        if reply is None or reply.op != op:
            return reply
        status, payload = answer(reply.status, reply.payload)
        return reply._replace(status=status, payload=payload)

    bench.crossbar.link.wait = waited  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("status", "payload", "error", "why"),
    [
        (Status.LIMIT, b"\x01", LimitExceeded, "LIMIT max_cell"),
        (Status.CHIP, b"no answer", Refused, "no answer"),
        (Status.NO_ROOM, b"", CapabilityMissing, "NO_ROOM"),
        (Status.WRONG_NUMBER, b"", LinkLost, "it was disturbed"),
        (Status.BAD_CRC, b"", InstrumentError, "does not take a program"),
        (Status.OK, b"\x01\0\0\0\x05\0\0\0", InstrumentError, "counts 1 shots of 5 pulses in a program of 2 of 5"),
        (Status.OK, b"", InstrumentError, "unpack"),
        (0x77, b"", LinkLost, "status 0x77"),
    ],
)
def test_what_a_board_answers_to_arm(bench: Rig, status: int, payload: bytes, error: type[Exception], why: str) -> None:
    _answering(bench, Op.ARM, lambda s, p: (status, payload))
    with pytest.raises(error, match=why):
        bench.crossbar.stage(0, few(bench))
    with pytest.raises(LinkLost, match="not staged"):
        bench.crossbar.fire(0)
    assert bench.board.pulses_fired() == 0


def _ended_as(end: int, fired: int | None = None) -> Any:
    def answer(status: int, payload: bytes) -> tuple[int, bytes]:
        said = BoardStatus.unpack(payload)
        return status, BoardStatus.FORMAT.pack(*said._replace(end=end, fired=said.fired if fired is None else fired))

    return answer


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (lambda s, p: (Status.TAKEN, p), LinkLost, "TAKEN"),
        (lambda s, p: (Status.BUSY, b""), LinkLost, "BUSY"),
        (lambda s, p: (s, p[:-1]), InstrumentError, "bytes"),
        (_ended_as(3), InstrumentError, "heard nothing"),
        (_ended_as(4), InstrumentError, "cut off inside a pulse"),
        (_ended_as(9), InstrumentError, "unknown"),
        (_ended_as(1, 7777), LinkLost, "with the end of 7777"),
        (lambda s, p: (Status.WRONG_SESSION, b""), LinkLost, "restarted"),
    ],
)
def test_whatever_a_board_answers_to_fire_the_ledger_holds(
    bench: Rig, answer: Any, error: type[Exception], why: str
) -> None:
    """The answer is a lie; the counters are not."""
    expanded = few(bench)
    witness = bench.crossbar.stage(0, expanded)
    wait = bench.crossbar.link.wait
    _answering(bench, Op.FIRE, answer)
    with pytest.raises(error, match=why):
        bench.crossbar.fire(0)
    bench.crossbar.link.wait = wait  # type: ignore[method-assign]
    found = bench.crossbar.outcome(0, witness)
    assert isinstance(found, Done)
    assert agrees(found, expanded, bench.board.pulses_fired())


def test_a_board_that_always_says_not_armed_is_given_up(bench: Rig) -> None:
    bench.tap.set(disarming(bench))
    witness = bench.crossbar.stage(0, few(bench))
    with pytest.raises(LinkLost, match="disarmed 4 times"):
        bench.crossbar.fire(0)
    assert bench.crossbar.outcome(0, witness) == NotDone()
    assert bench.board.pulses_fired() == 0


def test_a_fence_that_is_always_taken_is_given_up(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, few(bench))
    bench.crossbar.fire(0)
    crossbar = bench.next_process()
    _answering(bench, Op.FENCE, lambda s, p: (Status.TAKEN, p))
    with pytest.raises(LinkLost, match="does not take a FENCE"):
        crossbar.outcome(0, witness, few(bench))


def test_a_refusal_after_the_first_program_does_not_look_like_one_before_any_pulse(bench: Rig) -> None:
    """The runner settles faults of the bench, not refusals: they mean that nothing was done."""
    expanded = staged(bench, batch())
    witness = bench.crossbar.stage(0, expanded)
    bench.tap.set(lambda frame: [frame.data])

    def full(status: int, payload: bytes) -> tuple[int, bytes]:
        return Status.CHIP, b"its end is reached"

    _answering(bench, Op.ARM, full)
    with pytest.raises(InstrumentError, match="the rest was not fired.*its end is reached"):
        bench.crossbar.fire(0)
    found = bench.crossbar.outcome(0, witness)
    assert isinstance(found, Done)
    assert 0 < found.applied.shots_done < len(expanded)
    assert found.applied.pulses == bench.board.pulses_fired()


# -- limits ------------------------------------------------------------------------------------------------------------


def test_limits_that_could_not_be_set_are_set_before_the_next_pulse(bench: Rig) -> None:
    """enforce() fails half way: what stood in the registers before must not admit anything any more."""
    tight = bench.config.limits.model_copy(update={"max_cell_v": 0.5, "max_read_v": 0.1})
    bench.tap.set(lambda frame: [] if frame.op == "LIMITS" else [frame.data])
    with pytest.raises(LinkLost):
        bench.crossbar.enforce(tight)
    bench.tap.set(lambda frame: [frame.data])
    with pytest.raises(LimitExceeded, match="LIMIT max_cell"):
        bench.crossbar.stage(0, few(bench))


def test_registers_that_do_not_stand_as_they_were_set_are_told(bench: Rig) -> None:
    _answering(bench, Op.LIMITS, lambda s, p: (s, p[:-1] + b"\x7f"))
    with pytest.raises(InstrumentError, match="was told the limits"):
        bench.crossbar.enforce(bench.config.limits)


def test_after_a_restart_the_limits_are_there_before_the_next_program(bench: Rig) -> None:
    bench.board.reboot()
    again(lambda: bench.crossbar.stage(0, few(bench)))
    stands = LimitRegisters.unpack(bench.crossbar.link.expect(Op.LIMITS))
    assert stands == bench.crossbar._plan.registers(bench.config.limits)
    assert bench.crossbar.fire(0).pulses == 5


def test_a_fence_and_a_fire_of_other_numbers_change_nothing(bench: Rig) -> None:
    """Late copies of all once-commands of a step, after the next one was staged."""
    expanded = few(bench)
    bench.tap.set(lambda frame: [frame.data])
    bench.crossbar.stage(0, expanded)
    bench.crossbar.fire(0)
    old = [frame.data for frame in bench.tap.seen if frame.way == "to"]
    bench.crossbar.stage(1, expanded)
    for frame in old:
        bench.board.receive(frame + b"\0")
    bench.simulation.clock.sleep(0.1)
    assert bench.board.pulses_fired() == 5
    assert bench.crossbar.fire(1).pulses == 5
    assert bench.board.pulses_fired() == 10


def test_a_board_that_hangs_in_a_fire_is_given_up_and_the_abort_ends_the_waiting(bench: Rig) -> None:
    witness = bench.crossbar.stage(0, few(bench))
    bench.tap.set(lambda frame: [] if (frame.op, frame.way) == ("FIRE", "from") else [frame.data])
    began_s = bench.crossbar.clock_s

    def firing(status: int, payload: bytes) -> tuple[int, bytes]:
        return status, BoardStatus.FORMAT.pack(*BoardStatus.unpack(payload)._replace(state=2))

    _answering(bench, Op.STATUS, firing)
    with pytest.raises(LinkLost, match="goes on, and it cannot be"):
        bench.crossbar.fire(0)
    assert 10 < bench.crossbar.clock_s - began_s < 12

    polled: list[int] = []

    def abort(frame: Frame) -> list[bytes]:
        if (frame.op, frame.way) == ("STATUS", "to"):
            polled.append(frame.n)
            if len(polled) == 5:
                bench.crossbar.rest()
        return [frame.data]

    bench.tap.set(abort)
    with pytest.raises(InstrumentError, match="is not waited for"):
        bench.crossbar.outcome(0, witness)


def test_a_board_that_does_not_come_to_rest_is_told(bench: Rig) -> None:
    wait = bench.crossbar.link.wait

    def firing(status: int, payload: bytes) -> tuple[int, bytes]:
        return status, BoardStatus.FORMAT.pack(*BoardStatus.unpack(payload)._replace(state=3))

    _answering(bench, Op.REST, firing)
    with pytest.raises(InstrumentError, match="does not come to rest"):
        bench.crossbar.rest()
    bench.crossbar.link.wait = wait  # type: ignore[method-assign]
