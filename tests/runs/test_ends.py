"""The seams of a run: what stands in the books, in the file and on the bench when it is cut exactly there."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes import LIMITS, FakeChip, FakeCrossbar, Toy, guarded

from neurobench.bench.crossbar import Applied, Outcome, Unknown, Witness
from neurobench.bench.limits import Guard
from neurobench.bench.passport import Passport
from neurobench.bench.steps import Step
from neurobench.bench.stimulus import ShotList
from neurobench.errors import InstrumentError, LinkLost, NoRoom, PulseUnknown, ResumeRefused
from neurobench.runs import engine, launch, runfile, states
from neurobench.runs.replay import resume
from neurobench.runs.request import Request, prepare
from neurobench.runs.runfile import RunWriter
from neurobench.runs.runner import RunOutcome, run
from neurobench.runs.states import Control, Event, State

BUDGETED = LIMITS.model_copy(update={"max_pulses_per_cell": 1000})
TOY = Toy(epochs=4)


class AbortsAtIntent(RunWriter):
    """Asks for an abort between the durable intent and the trigger of a step."""

    control: Control
    at = 0

    def intent(self, seq: int, step: Step, witness: Witness) -> None:
        super().intent(seq, step, witness)
        if seq >= self.at:
            self.control.abort("a test")


def bench(chip: FakeChip, passport: Path) -> tuple[Any, Guard]:
    crossbar: Any = FakeCrossbar(chip.serve, (4, 4))
    return crossbar, guarded(crossbar, passport, BUDGETED)


def go_on(path: Path, chip: FakeChip, passport: Path) -> RunOutcome:
    _, guard = bench(chip, passport)
    try:
        with RunWriter.reopen(path) as record:
            return resume(TOY, guard, record)
    finally:
        guard.close()


def booked(passport: Path) -> int:
    _, guard = bench(FakeChip((4, 4)), passport)
    try:
        return int(guard.passport.life.pulses.sum())
    finally:
        guard.close()


def fired(chip: FakeChip) -> int:
    return sum(pulses for _, pulses in chip.ledger)


def test_abort_between_intent_and_trigger_leaves_the_books_right(tmp_path: Path) -> None:
    chip, path, passport = FakeChip((4, 4)), tmp_path / "a.nbr", tmp_path / "chip"
    _, guard = bench(chip, passport)
    with AbortsAtIntent.create(path) as record:
        record.control, record.at = Control(), 4
        assert run(TOY, guard, seed=1, record=record, control=record.control).status == "aborted"
    guard.close()
    assert booked(passport) == fired(chip)
    assert go_on(path, chip, passport).status == "finished"
    assert booked(passport) == fired(chip)


@pytest.mark.parametrize("why", [InstrumentError("relay card is off"), LinkLost("no answer")], ids=["no", "silence"])
def test_trigger_that_certainly_did_nothing_leaves_the_books_right(tmp_path: Path, why: Exception) -> None:
    chip, path, passport = FakeChip((4, 4)), tmp_path / "a.nbr", tmp_path / "chip"
    crossbar, guard = bench(chip, passport)
    sane: Callable[[int], Applied] = crossbar.fire

    def fire(seq: int) -> Applied:
        if seq > 4:
            raise why
        return sane(seq)

    crossbar.fire = fire
    with RunWriter.create(path) as record:
        assert run(TOY, guard, seed=1, record=record).status == "fault"
    guard.close()
    assert booked(passport) == fired(chip)
    assert go_on(path, chip, passport).status == "finished"
    assert booked(passport) == fired(chip)


def test_doubt_is_booked_once(tmp_path: Path) -> None:
    chip, path, passport = FakeChip((4, 4)), tmp_path / "a.nbr", tmp_path / "chip"
    crossbar, guard = bench(chip, passport)
    sane: Callable[[int], Applied] = crossbar.fire

    def fire(seq: int) -> Applied:
        applied = sane(seq)
        if seq > 4:
            raise LinkLost("the reply")
        return applied

    def outcome(seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        del seq, witness
        return Unknown(0, "nobody knows")

    crossbar.fire, crossbar.outcome = fire, outcome
    with RunWriter.create(path) as record:
        assert run(TOY, guard, seed=1, record=record).status == "fault"
    guard.close()
    assert booked(passport) == fired(chip)
    _, guard = bench(chip, passport)
    with RunWriter.reopen(path) as record:
        assert resume(TOY, guard, record, accept_doubt=True).status == "finished"
    guard.close()
    assert booked(passport) == fired(chip)


class Killed(RunWriter):
    """Copies run file and passport as a `kill -9` leaves them: after the intent of a step, before its answer."""

    at = 0
    passport: Path
    to: Path

    def answer(self, seq: int, *what: Any) -> None:
        if seq == self.at:
            for side in ("", "-wal"):
                shutil.copyfile(f"{self.path}{side}", f"{self.to / self.path.name}{side}")
            shutil.copyfile(self.passport, self.to / self.passport.name)
        super().answer(seq, *what)


def crash(tmp_path: Path, chip: FakeChip) -> tuple[Path, Path]:
    """A run that was killed right after a firing; the chip is left as it was then."""
    _, guard = bench(chip, tmp_path / "chip")
    (tmp_path / "left").mkdir()
    at = 9  # the first after a read of all cells
    with Killed.create(tmp_path / "a.nbr") as record:
        record.at, record.passport, record.to = at, tmp_path / "chip", tmp_path / "left"
        g_s: list[Any] = []
        crossbar: Any = guard.raw
        sane: Callable[[int], Applied] = crossbar.fire

        def fire(seq: int) -> Applied:
            applied = sane(seq)
            if seq == at:
                g_s.append((chip.g_s.copy(), chip.counter, chip.last, list(chip.ledger)))
            return applied

        crossbar.fire = fire
        run(TOY, guard, seed=1, record=record)
    guard.close()
    chip.g_s, chip.counter, chip.last, chip.ledger = g_s[0]
    left = tmp_path / "left" / "a.nbr"
    # the passport names the run by its path
    passport = Passport.open(tmp_path / "left" / "chip", "fake-1", (4, 4))
    passport.run_file = str(left)
    passport.save()
    passport.release()
    return left, tmp_path / "left" / "chip"


def test_doubt_after_a_crash_is_booked_once(tmp_path: Path) -> None:
    chip = FakeChip((4, 4))
    path, passport = crash(tmp_path, chip)
    nonce, chip.nonce = chip.nonce, "rebooted"
    _, guard = bench(chip, passport)
    with RunWriter.reopen(path) as record:
        assert isinstance(resume(TOY, guard, record).error, PulseUnknown)
    guard.close()
    _, guard = bench(chip, passport)
    with RunWriter.reopen(path) as record:
        assert resume(TOY, guard, record, accept_doubt=True).status == "finished"
    guard.close()
    assert booked(passport) == fired(chip)
    assert nonce != chip.nonce


def test_refused_baseline_after_a_crash_leaves_the_books_right(tmp_path: Path) -> None:
    """The trigger never arrived; the first attempt to resume is refused, since a cell has moved."""
    chip = FakeChip((4, 4))
    path, passport = crash(tmp_path, chip)
    chip.ledger.pop()
    chip.counter, chip.last = chip.counter - 1, None
    there = chip.g_s
    chip.g_s = there * 1.5
    _, guard = bench(chip, passport)
    with RunWriter.reopen(path) as record, pytest.raises(ResumeRefused, match="moved"):
        resume(TOY, guard, record)
    guard.close()
    chip.g_s = there
    _, guard = bench(chip, passport)
    with RunWriter.reopen(path) as record:
        assert resume(TOY, guard, record, accept_baseline=True).status == "finished"
    guard.close()
    assert booked(passport) == fired(chip)


# ------------------------------------------------------------------------------------------------- pauses and signals


@pytest.mark.parametrize(("ask", "status"), [("abort", "aborted"), ("stop", "not_converged")])
def test_request_while_a_pause_is_being_reached_ends_the_run(tmp_path: Path, ask: str, status: str) -> None:
    chip, control, outcomes = FakeChip((4, 4)), Control(), []
    crossbar: Any = FakeCrossbar(chip.serve, (4, 4))
    to_rest = crossbar.rest

    def rest() -> None:
        if control.state is State.PAUSING:
            assert getattr(control, ask)()
        to_rest()

    class Pauses(RunWriter):
        def entry(self, *what: Any) -> None:
            super().entry(*what)
            control.pause()

    crossbar.rest = rest

    def work() -> None:
        with Pauses.create(tmp_path / "a.nbr") as record:
            outcomes.append(run(TOY, guarded(crossbar), seed=1, record=record, control=control))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    if thread.is_alive():
        states.Control.tell(control, Event.FAILED)
        pytest.fail(f"the run hangs in state {control.state}")
    assert outcomes[0].status == status


def test_signal_inside_a_change_of_state_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler runs in the same thread, between any two steps of `tell`."""
    control = Control()

    class Interrupted(dict[Event, State]):
        def get(self, event: Event, default: Any = None) -> Any:
            found = super().get(event, default)
            if event is Event.START and control.state is State.READY:
                assert control.abort("SIGINT")
            return found

    table: Mapping[State, Any] = {state: Interrupted(row) for state, row in states.TABLE.items()}
    monkeypatch.setattr(states, "TABLE", table)
    assert not control.tell(Event.START)
    assert control.state is State.ABORTED


# ------------------------------------------------------------------------------------------------- ends that fail


def test_bench_that_does_not_come_to_rest_is_a_fault(tmp_path: Path) -> None:
    crossbar: Any = FakeCrossbar(FakeChip((4, 4)).serve, (4, 4))

    def rest() -> None:
        raise LinkLost("rest: no answer")

    crossbar.rest = rest
    control = Control()
    with RunWriter.create(tmp_path / "a.nbr") as record:
        outcome = run(TOY, guarded(crossbar), seed=1, record=record, control=control)
    assert outcome.status == "fault"
    assert outcome.result is not None
    assert isinstance(outcome.error, LinkLost)
    assert not control.rested.is_set()


def test_disk_that_is_full_before_the_first_step_does_not_lock_the_chip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes a run impossible from the start must not leave a chip that waits for that run."""
    passport = tmp_path / "chip"
    _, guard = bench(FakeChip((4, 4)), passport)
    with RunWriter.create(tmp_path / "a.nbr") as record, monkeypatch.context() as full:
        full.setattr(guard.raw, "snapshot", lambda: b"chip")
        full.setattr(runfile, "free_bytes", lambda _path: 0)
        with pytest.raises(NoRoom):
            run(TOY, guard, seed=1, record=record)
    guard.close()
    chip = FakeChip((4, 4))
    _, guard = bench(chip, passport)
    with RunWriter.create(tmp_path / "b.nbr") as record:
        assert run(TOY, guard, seed=1, record=record).status == "finished"
    guard.close()


def test_books_that_cannot_be_closed_end_the_run_as_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip, path, passport = FakeChip((4, 4)), tmp_path / "a.nbr", tmp_path / "chip"
    _, guard = bench(chip, passport)

    def save() -> None:
        raise PermissionError(13, "Permission denied", str(passport))

    with RunWriter.create(path) as record, monkeypatch.context() as patched:
        begin = guard.passport.begin_run

        def begin_run(name: str) -> None:
            begin(name)
            patched.setattr(guard.passport, "save", save)

        patched.setattr(guard.passport, "begin_run", begin_run)
        outcome = run(TOY, guard, seed=1, record=record)
    assert outcome.status == "fault"
    assert "Permission denied" in str(outcome.error)
    guard.passport.release()
    assert path.exists()


@pytest.mark.parametrize("begun", [True, False])
def test_run_file_of_a_run_that_began_is_never_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    def broken(*what: Any, **more: Any) -> RunOutcome:
        if begun:
            run(*what, **more)
        raise RuntimeError("out of the blue")

    monkeypatch.setattr(launch, "run", broken)
    with pytest.raises(RuntimeError, match="blue"):
        launch.launch(prepare(Request(protocol="read-all", bench="emulator")), tmp_path)
    assert len(list(tmp_path.glob("*.nbr"))) == begun


@pytest.mark.parametrize("resting", [True, False])
def test_engine_says_goodbye_only_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resting: bool) -> None:
    """Without a goodbye the watcher opens the bench anew and brings it to rest."""
    crossbar: Any = FakeCrossbar(FakeChip((4, 4)).serve, (4, 4))

    def rest() -> None:
        raise LinkLost("rest: no answer")

    if not resting:
        crossbar.rest = rest
    monkeypatch.setattr(engine, "open_guard", lambda _spec: guarded(crossbar))
    spec = engine.Spec(str(tmp_path / "a.nbr"), "fakes:Toy", {"epochs": 1}, {}, 1, watched=False)
    host = engine._Host(spec, tmp_path, b"")
    said: list[Any] = []
    monkeypatch.setattr(engine, "send", lambda _link, message: said.append(message))
    host._watchers.append(None)  # type: ignore[arg-type]
    host.work()
    host.say_goodbye()
    assert said == (["goodbye"] if resting else [])
    assert (host.exit_code == 0) is resting
