"""rest() of the FPGA bench from wherever: another thread, a signal's handler, several at once, beside a stuck one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import numpy as np
import pytest
from fpga_rig import Frame, Rig, again, agrees, batch, rig, staged
from stepping import Stepped

from neurobench.bench.crossbar import Done, NotDone, Unknown, Witness
from neurobench.bench.frames import Op
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch
from neurobench.errors import BenchFault, InstrumentError, LinkLost

DRIVER = ("drivers/fpga.py", "drivers/_fpga_link.py", "drivers/_fpga_read.py")
LONG = Pulse(2.0, 1e-3)


@contextmanager
def opened(**overrides: Any) -> Iterator[Rig]:
    bench = rig(**overrides)
    try:
        yield bench
    finally:
        bench.close()


def read(bench: Rig) -> CellRead:
    return CellRead(np.ones(bench.crossbar.capabilities.shape, np.bool_), 0.1, integration_s=1e-2)


def step(bench: Rig) -> Callable[[], Any]:
    """Stage outside, fire inside: two programs."""
    expanded = staged(bench, batch())
    bench.tap.witness = bench.crossbar.stage(0, expanded)  # type: ignore[attr-defined]
    return lambda: bench.crossbar.fire(0)


def sense(bench: Rig) -> Callable[[], Any]:
    return lambda: bench.crossbar.sense(read(bench))


def settled(bench: Rig) -> None:
    """The ledger holds for step 0."""
    expanded = staged(bench, batch())
    witness: Witness = bench.tap.witness  # type: ignore[attr-defined]
    found = again(lambda: bench.crossbar.outcome(0, witness, expanded))
    assert agrees(found, expanded, bench.board.pulses_fired()), found


def quiet(bench: Rig, where: str) -> None:
    with bench.simulation.time.lock:
        assert bench.board.lines_grounded, where
        assert not bench.board.firing, where


def rested_at(work: Callable[[Rig], Callable[[], Any]], line: int) -> bool:
    """Rest while the other thread stands at its n-th line. False: it has no such line."""
    with opened() as bench:
        after: list[int] = []

        def rest() -> None:
            if stepped.where.startswith("_go_on"):  # there a rest waits for it, and here it stands still
                return after.append(bench.board.pulses_fired())
            began_s = time.monotonic()
            with suppress(LinkLost):  # where the other thread stands in the port, nobody hears the board
                bench.crossbar.rest()
            assert time.monotonic() - began_s < 5.0, stepped.where
            quiet(bench, stepped.where)
            bench.tap.set(lambda frame: [frame.data])
            return after.append(bench.board.pulses_fired())

        stepped = Stepped(work(bench), DRIVER, line)
        reached = stepped.run(rest)
        if reached:
            bench.simulation.clock.sleep(0.5)
            assert stepped.error is None or isinstance(stepped.error, BenchFault), (stepped.where, stepped.error)
            assert bench.board.pulses_fired() == after[0], stepped.where
            quiet(bench, stepped.where)
            if work is step:
                settled(bench)
        return reached


@pytest.mark.parametrize(("work", "first"), [(step, 1), (step, 8), (sense, 2)])
def test_after_a_rest_nothing_more_is_fired_whatever_line_the_other_thread_is_at(
    work: Callable[[Rig], Callable[[], Any]], first: int
) -> None:
    reached = [line for line in range(first, 900, 47) if rested_at(work, line)]
    assert len(reached) >= 4


class SignalAt:
    """A handler that is called in the same thread at the n-th line of the driver, as a signal's would be."""

    def __init__(self, line: int, handler: Callable[[], None]) -> None:
        self._left, self._handler = line, handler
        self.where = ""

    def enter(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._trace if frame.f_code.co_filename.endswith(DRIVER) else None

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and self._left > 0:
            self._left -= 1
            if not self._left:
                self.where = f"{frame.f_code.co_name}:{frame.f_lineno}"
                self._handler()
        return self._trace

    def during(self, work: Callable[[], Any]) -> BaseException | None:
        import sys

        sys.settrace(self.enter)
        try:
            work()
        except Exception as error:  # noqa: BLE001 - it is looked at
            return error
        finally:
            sys.settrace(None)
        return None


@pytest.mark.parametrize(("work", "first"), [(step, 1), (step, 9), (sense, 3)])
def test_a_signals_handler_rests_the_bench_in_the_middle_of_any_line(
    work: Callable[[Rig], Callable[[], Any]], first: int
) -> None:
    reached = 0
    for line in range(first, 900, 17):
        with opened() as bench:
            after: list[int] = []

            def handler(bench: Rig = bench, after: list[int] = after) -> None:
                bench.crossbar.rest()
                quiet(bench, "in the handler")
                after.append(bench.board.pulses_fired())

            signal = SignalAt(line, handler)
            error = signal.during(work(bench))
            if not after:
                break
            reached += 1
            assert error is None or isinstance(error, BenchFault), (signal.where, error)
            bench.simulation.clock.sleep(0.5)
            assert bench.board.pulses_fired() == after[0], signal.where
            quiet(bench, signal.where)
            if work is step:
                settled(bench)
    assert reached >= 6


def test_no_acquisition_begins_after_a_rest_not_even_the_repetition_of_one() -> None:
    """The first ACQUIRE is lost; before it is repeated the bench is brought to rest."""
    with opened() as bench:
        rested: list[int] = []

        def meet(frame: Frame) -> list[bytes]:
            if frame.op == "ACQUIRE" and not rested:
                rested.append(frame.n)
                bench.crossbar.rest()
                return []
            return [frame.data]

        bench.tap.set(meet)
        with pytest.raises(InstrumentError, match="the read was stopped"):
            bench.crossbar.sense(read(bench))
        assert bench.tap.sent("ACQUIRE") == 1
        quiet(bench, "after the rest")


def test_a_read_that_fails_leaves_no_level_on_the_lines() -> None:
    """Its FETCHes are lost, all of them; the acquisition would go on for seconds."""
    with opened(board__watchdog_s=30.0) as bench:
        bench.tap.set(lambda frame: [] if frame.op in ("FETCH", "STATUS") else [frame.data])
        with pytest.raises(LinkLost):
            bench.crossbar.sense(CellRead(np.ones((8, 8), np.bool_), 0.1, integration_s=0.5))
        bench.simulation.clock.sleep(0.01)
        # The port was given up, so REST could not leave; what is met anew is brought to rest by the next call.
        bench.tap.set(lambda frame: [frame.data])
        bench.crossbar.rest()
        quiet(bench, "after the rest")


@pytest.mark.parametrize("op", ["UPLOAD", "ARM", "FIRE"])
@pytest.mark.parametrize("way", ["to", "from"])
def test_a_rest_between_any_two_frames_of_a_step_fires_nothing_more(op: str, way: str) -> None:
    with opened() as bench:
        expanded = staged(bench, batch())
        rested: list[int] = []

        def meet(frame: Frame) -> list[bytes]:
            if (frame.op, frame.way) == (op, way) and not rested:
                rested.append(frame.n)
                bench.crossbar.rest()
                rested.append(bench.board.pulses_fired())
            return [frame.data]

        bench.tap.set(meet)
        witness = Witness()
        with suppress(BenchFault):
            witness = bench.crossbar.stage(0, expanded)
            bench.crossbar.fire(0)
        assert rested[1:] == [bench.board.pulses_fired()]
        quiet(bench, op)
        found = bench.crossbar.outcome(0, witness, expanded)
        assert agrees(found, expanded, bench.board.pulses_fired()), found


def test_two_threads_rest_at_once_and_both_come_back() -> None:
    with opened() as bench:
        work = step(bench)
        threads = [threading.Thread(target=bench.crossbar.rest) for _ in range(3)]
        firing = threading.Thread(target=lambda: _faults_of(work))
        for thread in (firing, *threads):
            thread.start()
        for thread in (firing, *threads):
            thread.join(10)
            assert not thread.is_alive()
        quiet(bench, "three rests")
        settled(bench)


def _faults_of(work: Callable[[], Any]) -> None:
    with suppress(BenchFault):
        work()


def test_lines_are_grounded_within_100_ms_of_a_rest_in_wall_time() -> None:
    """A FIRE of two thousand pulses of 1 ms; rest() comes from another thread, which is how an abort comes."""
    with opened(
        chip__rows=2,
        chip__cols=2,
        chip__model="lsmo-gaq3-mirror",
        board__simulation__clock="wall",
        limits__max_cell_v=2.5,
    ) as bench:
        expanded = staged(bench, PulseBatch(np.array([[2000, 0], [0, 0]], np.int16), LONG))
        witness = bench.crossbar.stage(0, expanded)
        firing = threading.Thread(target=lambda: _faults_of(lambda: bench.crossbar.fire(0)))
        firing.start()
        _until(lambda: bench.board.pulses_fired() > 20)
        began_s = time.monotonic()
        bench.crossbar.rest()
        took_s = time.monotonic() - began_s
        quiet(bench, "after the rest")
        assert took_s < 0.1
        firing.join(5)
        assert not firing.is_alive()
        found, fired = bench.crossbar.outcome(0, witness, expanded), bench.board.pulses_fired()
        assert isinstance(found, Unknown)
        assert found.shot == 0
        assert f"{fired} of the 2000 pulses" in found.why


def _until(said: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not said():
        assert time.monotonic() < end_s
        time.sleep(0.005)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_a_thread_that_hangs_in_the_port_does_not_keep_a_rest_for_ever(clock: str) -> None:
    """REST goes out all the same; that nobody can hear the answer is said."""
    with opened(board__simulation__clock=clock, board__retries=2) as bench:
        free, hangs = threading.Event(), threading.Event()

        def hang(frame: Frame) -> list[bytes]:
            if frame.op == "FETCH" and frame.way == "from":
                hangs.set()
                free.wait(20)
            return [frame.data]

        bench.tap.set(hang)
        reading = threading.Thread(target=lambda: _faults_of(lambda: bench.crossbar.sense(read(bench))))
        reading.start()
        assert hangs.wait(10)
        began_s = time.monotonic()
        with pytest.raises(LinkLost):
            bench.crossbar.rest()
        assert time.monotonic() - began_s < 8
        assert bench.tap.sent("REST") >= 1
        if clock == "virtual":
            bench.simulation.clock.sleep(0.01)
        _until(lambda: bool(bench.board.lines_grounded))
        free.set()
        reading.join(10)
        assert not reading.is_alive()


def test_a_closed_bench_opens_no_port_again() -> None:
    bench = rig()
    expanded = staged(bench, batch())
    bench.close()
    for ask in (lambda: bench.crossbar.stage(0, expanded), lambda: bench.crossbar.sense(read(bench))):
        with pytest.raises(LinkLost, match="let go of"):
            ask()
    bench.crossbar.rest()
    bench.crossbar.close()


def test_no_call_into_the_port_waits_longer_than_a_slice() -> None:
    with opened() as bench:
        assert bench.crossbar.link._port is not None
        assert bench.crossbar.link._port.timeout == pytest.approx(0.02)
    with opened(board__watchdog_s=0.04) as bench:
        assert bench.crossbar.link._port is not None
        assert bench.crossbar.link._port.timeout == pytest.approx(0.005)


def test_a_host_that_is_suspended_finds_its_step_stopped_and_counted() -> None:
    """The host stands still for a second in the middle of a long program; the watchdog has stopped it."""
    with opened(
        chip__rows=2, chip__cols=2, chip__model="lsmo-gaq3-mirror", limits__max_cell_v=2.5, board__watchdog_s=0.1
    ) as bench:
        counts = np.array([[100, 0], [0, -300]], np.int16)
        expanded = staged(bench, PulseBatch(counts, LONG))
        witness = bench.crossbar.stage(0, expanded)
        asked: list[int] = []

        def suspend(frame: Frame) -> list[bytes]:
            if frame.op == "STATUS" and frame.way == "to":
                asked.append(frame.n)
                if len(asked) == 3:
                    bench.simulation.clock.sleep(1.0)
            return [frame.data]

        bench.tap.set(suspend)
        with pytest.raises(InstrumentError, match="heard nothing"):
            bench.crossbar.fire(0)
        quiet(bench, "the watchdog")
        found, fired = bench.crossbar.outcome(0, witness, expanded), bench.board.pulses_fired()
        assert isinstance(found, Done | Unknown | NotDone)
        assert agrees(found, expanded, fired)
        assert 0 < fired < 400
        assert bench.crossbar.outcome(0, witness, expanded) == found, "asked again, the answer is the same"


def test_rest_reaches_a_board_that_was_left_firing() -> None:
    """Its host died; the next process opens the bench, and the first thing is that it rests."""
    with opened(chip__rows=2, chip__cols=2, chip__model="lsmo-gaq3-mirror", limits__max_cell_v=2.5) as bench:
        expanded = staged(bench, PulseBatch(np.array([[3000, 0], [0, 0]], np.int16), LONG))
        witness = bench.crossbar.stage(0, expanded)
        link, staged_one = bench.crossbar.link, bench.crossbar._staged
        assert staged_one is not None
        payload = staged_one.number.to_bytes(2, "little") + staged_one.programs[0].crc.to_bytes(4, "little")
        from neurobench.bench.frames import Request

        link.send(Request(Op.FIRE, 1, link.session, payload))
        bench.simulation.clock.sleep(0.05)
        assert bench.board.firing
        found = bench.next_process().outcome(0, witness, expanded)
        quiet(bench, "opened")
        assert isinstance(found, Unknown)
        assert f"{bench.board.pulses_fired()} of the 3000 pulses" in found.why
