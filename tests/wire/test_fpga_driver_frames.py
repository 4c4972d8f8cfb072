"""One frame of a step is lost, doubled, late, or the board restarts at it: at every place, each way.

The step has two programs, so a restart can come between them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fpga_rig import Died, Frame, Rig, Tap, again, agrees, apply, batch, disarming, rig, staged

from neurobench.bench.crossbar import Done, NotDone, Unknown
from neurobench.bench.stimulus import Shots
from neurobench.errors import LinkLost

Fault = Callable[[Rig, int], None]


def _at(bench: Rig, place: int, meet: Callable[[Frame], list[bytes]]) -> None:
    bench.tap.set(lambda frame: meet(frame) if frame.n == place else [frame.data])


def lost(bench: Rig, place: int) -> None:
    _at(bench, place, lambda frame: [])


def twice(bench: Rig, place: int) -> None:
    _at(bench, place, lambda frame: [frame.data, frame.data])


def changed(bench: Rig, place: int) -> None:
    _at(bench, place, lambda frame: [frame.data[:3] + bytes([frame.data[3] ^ 0x55 or 1]) + frame.data[4:]])


def copied_later(bench: Rig, place: int, later: int = 1) -> None:
    """A copy comes after so many later frames of the same way."""
    copied: list[Frame] = []

    def meet(frame: Frame) -> list[bytes]:
        if copied and frame.way == copied[0].way:
            copied.append(frame)
        if frame.n == place:
            copied.append(frame)
        return [frame.data, copied[0].data] if len(copied) == later + 1 and copied[-1] is frame else [frame.data]

    bench.tap.set(meet)


def copied_much_later(bench: Rig, place: int) -> None:
    copied_later(bench, place, 4)


def cable_out(bench: Rig, place: int) -> None:
    """The port goes away, and is there again when it is opened anew."""

    def gone(frame: Frame) -> list[bytes]:
        raise OSError("the cable is out")

    _at(bench, place, gone)


def _script(bench: Rig) -> tuple[Shots, int]:
    expanded = staged(bench, batch())
    assert len(bench.crossbar._programs(expanded)) == 2
    return expanded, bench.board.pulses_fired()


def _frames() -> int:
    """Frames of the step when nothing happens; and a few more, for those that come late."""
    bench = rig()
    try:
        expanded, before = _script(bench)
        bench.tap.set(lambda frame: [frame.data])
        assert isinstance(apply(bench, 0, expanded), Done)
        assert bench.board.pulses_fired() - before == expanded.pulses
        return len(bench.tap.seen)
    finally:
        bench.close()


FRAMES = 18


def test_a_step_has_as_many_frames_as_are_tried() -> None:
    assert _frames() <= FRAMES, "the tests below would leave some out"


@pytest.mark.parametrize("fault", [lost, twice, changed, copied_later, copied_much_later, cable_out])
def test_a_bad_line_changes_nothing_at_whatever_frame(fault: Fault) -> None:
    for place in range(FRAMES):
        bench = rig()
        try:
            expanded, before = _script(bench)
            fault(bench, place)
            for seq in (0, 1):  # what comes late may hurt the next one
                found = apply(bench, seq, expanded)
                assert isinstance(found, Done), (place, found)
                assert found.applied.shots_done == len(expanded), (place, bench.tap.seen)
            assert bench.board.pulses_fired() - before == 2 * expanded.pulses, place
        finally:
            bench.close()


@pytest.mark.parametrize("before_it", [True, False])
def test_a_board_that_restarts_at_any_frame_is_never_pulsed_more_than_is_said(before_it: bool) -> None:
    doubts = 0
    for place in range(FRAMES):
        bench = rig()
        try:
            expanded, before = _script(bench)

            def restart(frame: Frame, bench: Rig = bench) -> list[bytes]:
                bench.board.reboot()
                return [frame.data] if before_it else []

            _at(bench, place, restart)
            found = apply(bench, 0, expanded)
            fired = bench.board.pulses_fired() - before
            assert agrees(found, expanded, fired), (place, found, fired)
            doubts += isinstance(found, Unknown)
            again(lambda bench=bench, expanded=expanded: bench.crossbar.stage(1, expanded))
            assert bench.crossbar._limited == bench.crossbar.link.session, "it goes on under its limits"
        finally:
            bench.close()
    assert 0 < doubts <= 5, "only while a FIRE is unanswered nobody can know"


def test_a_restart_between_two_programs_leaves_no_doubt() -> None:
    """The first program was answered, of the second no FIRE was sent: so many shots, and no more."""
    bench = rig()
    try:
        expanded, before = _script(bench)
        witness = bench.crossbar.stage(0, expanded)
        fires: list[int] = []

        def restart(frame: Frame) -> list[bytes]:
            if frame.op == "FIRE" and frame.way == "from":
                fires.append(frame.n)
            if frame.op == "UPLOAD" and len(fires) == 1:
                bench.board.reboot()
                fires.append(-1)
            return [frame.data]

        bench.tap.set(restart)
        with pytest.raises(LinkLost):
            bench.crossbar.fire(0)
        found = bench.crossbar.outcome(0, witness, expanded)
        assert isinstance(found, Done)
        assert 0 < found.applied.shots_done < len(expanded)
        assert found.applied.pulses == bench.board.pulses_fired() - before
    finally:
        bench.close()


def test_a_stale_not_armed_is_not_believed() -> None:
    """A refusal of an earlier FIRE comes twice, the second time after the program was loaded anew and fired."""
    bench = rig()
    try:
        expanded, before = _script(bench)
        refused: list[bytes] = []
        disarm = disarming(bench, times=1)

        def meet(frame: Frame) -> list[bytes]:
            if frame.op == "FIRE" and frame.way == "from":
                refused.append(frame.data)
                if len(refused) == 2:
                    return [refused[0], frame.data]
            return disarm(frame)

        bench.tap.set(meet)
        bench.crossbar.stage(0, expanded)
        assert bench.crossbar.fire(0).shots_done == len(expanded)
        assert bench.board.pulses_fired() - before == expanded.pulses
        assert len(refused) > 2
    finally:
        bench.close()


@pytest.mark.parametrize("kind", ["at a frame to the board", "at a frame from it"])
def test_the_next_process_knows_what_became_of_the_step_wherever_the_last_one_died(kind: str) -> None:
    way = "to" if "to" in kind.split() else "from"
    outcomes: set[str] = set()
    for place in range(FRAMES):
        bench = rig()
        try:
            expanded, before = _script(bench)
            witness = bench.crossbar.stage(0, expanded)

            def die(frame: Frame, place: int = place, way: str = way) -> list[bytes]:
                if frame.n >= place and frame.way == way:
                    raise Died
                return [frame.data]

            bench.tap.set(die)
            with pytest.raises(Died):
                bench.crossbar.fire(0)
                raise Died  # it came to its end
            found = bench.next_process().outcome(0, witness, expanded)
            fired = bench.board.pulses_fired() - before
            assert not isinstance(found, Unknown), (place, found)
            assert agrees(found, expanded, fired), (place, found, fired)
            outcomes.add(type(found).__name__)
            if isinstance(found, NotDone):
                bench.crossbar.stage(0, expanded)
                assert bench.crossbar.fire(0).shots_done == len(expanded)
        finally:
            bench.close()
    assert outcomes == ({"Done", "NotDone"} if way == "to" else {"Done"}), "a first reply is that of a FIRE"


def test_a_fire_of_a_dead_process_that_comes_late_finds_its_number_gone() -> None:
    """The same batch once more, from a new process: a FIRE of the old one is still under way, and fits."""
    bench = rig()
    try:
        expanded, before = _script(bench)
        bench.crossbar.stage(0, expanded)
        late: list[bytes] = []

        def hold(frame: Frame) -> list[bytes]:
            if frame.op == "FIRE":
                late.append(frame.data)
                raise Died
            return [frame.data]

        bench.tap.set(hold)
        with pytest.raises(Died):
            bench.crossbar.fire(0)
        bench.next_process().stage(0, expanded)
        assert bench.simulation.board.pulses_fired() == before
        bench.board.receive(late[0] + b"\0")
        bench.simulation.clock.sleep(1.0)
        assert bench.board.pulses_fired() == before, "a pulse before it was asked for"
        assert bench.crossbar.fire(0).shots_done == len(expanded)
        assert bench.board.pulses_fired() - before == expanded.pulses
    finally:
        bench.close()


def test_the_tap_sees_every_frame() -> None:
    bench = rig()
    try:
        bench.tap.set(lambda frame: [frame.data])
        bench.crossbar.link.status()
        assert [(f.way, f.op) for f in bench.tap.seen] == [("to", "STATUS"), ("from", "STATUS")]
        assert isinstance(bench.tap, Tap)
    finally:
        bench.close()
