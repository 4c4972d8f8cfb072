"""Does what a protocol asks, on a Guard, and records it: the one interpreter of steps.

The order is the point. On a real bench: stage, record the intent and its witness durably, fire once, record the
answer durably. A lost reply is settled by asking, never by firing again (decision 0003). An emulated chip can be put
back and executed again, so its steps are recorded in groups. Every way out passes `guard.rest()`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import numpy as np

from neurobench.bench.codec import pack
from neurobench.bench.crossbar import Applied, Done, Outputs, Reading, Unknown, Witness
from neurobench.bench.limits import Guard
from neurobench.bench.steps import (
    CELL_STATE,
    Answer,
    Apply,
    BenchView,
    Checkpoint,
    Loop,
    LoopAnswer,
    Note,
    Protocol,
    Result,
    Sense,
    Steps,
    Wait,
)
from neurobench.errors import Aborted, BenchFault, InstrumentError, LinkLost, NeurobenchError, PulseUnknown, UsageError
from neurobench.runs.machine import machine
from neurobench.runs.runfile import Record, jsonable_dict
from neurobench.runs.states import Control, Event, State
from neurobench.system import utc_now

T = TypeVar("T")
Status = Literal["finished", "not_converged", "aborted", "fault"]

SEEN = ("excluded", "pulses_left", "pulses_used")  # what of a BenchView moves on while a run goes on
WAIT_SLICE_S = 0.02  # an abort waits at most this long inside a Wait
ATTEMPTS = 5  # how often a lost staging, read or question is asked again; a trigger never is
RETRY_PAUSE_S = 0.02
SNAPSHOT_EVERY_S = 5.0  # so that resuming an emulated run repeats at most that, and some more


@dataclass(slots=True)
class Totals:
    """What a run has cost so far. Energies are nan once a part of them is not known."""

    pulses: int = 0
    energy_j: float = 0.0
    read_energy_j: float = 0.0
    reads: int = 0
    compliance_hits: int = 0

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        if isinstance(answer, Applied):
            self.pulses += answer.pulses
            self.energy_j += answer.energy_j
            self.compliance_hits += answer.compliance_hit
        elif isinstance(answer, Reading):
            self.reads += 1
            self.read_energy_j += answer.energy_j
        elif answer is not None:
            self.pulses += int(answer.potentiations.sum()) + int(answer.depressions.sum())
            self.energy_j += answer.energy_j


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended. `result` is what the protocol returned, None if it did not get that far.

    `status`: finished (goal reached), not_converged (ended, also on request, without the goal), aborted, fault.
    `stopped`: ended early on request. `error` is what ended it, with its exit code.
    """

    status: Status
    result: Mapping[str, Any] | None
    pulses: int
    energy_j: float
    wall_s: float
    error: BaseException | None = None
    stopped: bool = False
    totals: Totals = field(default_factory=Totals)


@dataclass(slots=True)
class Conducted:
    """What a conducted run gave: the result while it runs, the outcome once it has ended."""

    result: Result | None = None
    outcome: RunOutcome | None = None


class _Stopped(Exception):
    """Unwinds the runner when a stop was asked for."""


def run(protocol: Protocol, guard: Guard, *, seed: int, record: Record, control: Control | None = None) -> RunOutcome:
    """Run `protocol` from its first step; the record must be new.

    What makes the run impossible from the start (needs, a chip in use, a real chip without a run file) raises;
    whatever happens later ends in an outcome.
    """
    runner, view = begin(protocol, guard, seed=seed, record=record, control=control)
    return runner.conduct(lambda: runner.go_on(protocol.steps(view, np.random.default_rng(seed)), None))


def begin(
    protocol: Protocol, guard: Guard, *, seed: int, record: Record, control: Control | None = None
) -> tuple[Runner, BenchView]:
    """Everything before the first step: raises what is impossible, writes the manifest; the chip waits for this run.

    Answers the runner and the view that the protocol is given.
    """
    plan = protocol.needs.plan(guard.capabilities)
    check_profile(protocol, guard)
    protocol.admit(guard.view())
    if not (record.durable or guard.identity().simulated):
        raise UsageError("a run on a real chip needs a run file: what was done to the chip must survive a crash")
    runner = Runner(guard, record, control or Control())
    view = guard.view()
    if record.keeps_truth:
        facts = run_facts(protocol, guard)
        state = pack({name: getattr(view, name) for name in SEEN})
        record.put(seed=seed, multiply=plan.multiply, machine=machine(), view=state, **facts)
    runner.keep_start()
    record.flush()
    # Last of all: from here on the chip waits for this run, so there must be a run that can be resumed.
    guard.passport.begin_run(record.name)
    return runner, view


def check_profile(protocol: Protocol, guard: Guard) -> None:
    """Raise UsageError unless the limits in force are the protocol's own (bench rule 16)."""
    if protocol.limits_profile != guard.profile:
        raise UsageError(
            f"{type(protocol).__name__} runs under the limits {protocol.limits_profile or 'of every run'!r}, the bench "
            f"was opened under {guard.profile or 'those of every run'!r}; open it with open_bench(config, seed, "
            "protocol.limits_profile)"
        )


def run_facts(protocol: Protocol, guard: Guard) -> dict[str, Any]:
    """What must be the same when a run is resumed, as it stands in the manifest."""
    identity, kind = guard.identity(), type(protocol)
    return jsonable_dict(
        protocol={"class": f"{kind.__module__}:{kind.__qualname__}", "parameters": protocol.model_dump(mode="json")},
        identity=identity, simulated=identity.simulated, capabilities=guard.capabilities, limits=guard.limits,
        device=guard.span, bench=guard.bench_name, chip_id=guard.passport.chip_id,
    )  # fmt: skip


class Runner:
    """One run on one Guard. `replayable`: the chip is emulated in this process and can be put back to a snapshot."""

    def __init__(self, guard: Guard, record: Record, control: Control) -> None:
        self.guard: Final = guard
        self.record: Final = record
        self.control: Final = control
        self.totals = Totals()
        self.seq = -1
        self.booked = -1  # up to which step the chip's passport already holds this run's pulses
        self.unbooked = False  # step `seq` was recorded by an earlier process, and is not in the books yet
        self.replayable = False
        self._started = time.monotonic()
        self._snapshot_seen = 0.0
        self._settle_live()

    def _settle_live(self) -> None:
        self._serve: dict[type, Callable[[Any], Answer]] = {
            Apply: self._apply, Sense: self._sense, Wait: self._wait, Loop: self._loop,
            Note: self._note, Checkpoint: self._checkpoint,
        }  # fmt: skip

    def keep_start(self) -> None:
        """Keep an emulated chip as it is before the first step; tells emulated and real chips apart."""
        chip = self.guard.snapshot()
        # A board on a serial line is exactly-once, too, but its replies can be lost: that is not the same.
        self.replayable = chip is not None
        if chip is not None and self.record.keeps_truth:
            self.record.snapshot(-1, chip)
            self._snapshot_seen = time.monotonic()

    # -- the run as a whole -------------------------------------------------------------------------------------

    def conduct(self, work: Callable[[], Result]) -> RunOutcome:
        """Do `work` and end in order, whatever happens in it."""
        done = Conducted()
        with self.ending(done):
            self.start()
            done.result = work()
        assert done.outcome is not None
        return done.outcome

    def start(self) -> None:
        """Say that the run begins; raises Aborted if it was aborted before."""
        if not self.control.tell(Event.START):
            raise Aborted(f"{self.control.state} before the first step, by {self.control.reason or 'request'}")
        self._say_state()

    @contextmanager
    def ending(self, done: Conducted) -> Iterator[None]:
        """Whatever happens in the block, the bench ends at rest, and record and `done.outcome` say how."""
        error: BaseException | None = None
        try:
            yield
            self.control.tell(Event.ENDED)
        except _Stopped:
            self.control.tell(Event.REACHED)
        except (Aborted, KeyboardInterrupt) as caught:
            self.control.abort(type(caught).__name__)
            self.control.tell(Event.REACHED)
            error = caught
        except BaseException as caught:  # noqa: BLE001 - any way out ends at rest and in the record
            self.control.tell(Event.FAILED)
            error = caught
        done.outcome = self._end(done.result, error)

    def _end(self, result: Result | None, error: BaseException | None) -> RunOutcome:
        not_at_rest = self._rest()
        error = error or not_at_rest
        state = self.control.state
        status: Status = "not_converged"
        if not_at_rest or state in (State.ABORTED, State.FAULT):
            status = "aborted" if state is State.ABORTED else "fault"
        elif result is not None and result.reached:
            status = "finished"
        wall_s = time.monotonic() - self._started
        values = None if result is None else dict(result.values)
        outcome = RunOutcome(
            status, values, self.totals.pulses, self.totals.energy_j, wall_s, error, state is State.STOPPED, self.totals
        )
        return self._record_end(outcome, result)

    def _rest(self) -> BaseException | None:
        """Outputs off; what kept the bench from it, if anything did."""
        try:
            self.guard.rest()
            self.control.rested.set()
        except Exception as failed:  # noqa: BLE001 - the record must still be ended, and say so
            self.control.tell(Event.FAILED)
            self.record.put(not_at_rest=str(failed))
            return failed
        return None

    def _record_end(self, outcome: RunOutcome, result: Result | None) -> RunOutcome:
        try:
            if result is not None:
                self.record.put(result=pack(dict(result.values)), reached=result.reached)
            self.record.put(
                status=outcome.status, state=self.control.state.value, stopped=outcome.stopped, pulses=outcome.pulses,
                energy_j=outcome.energy_j, wall_s=outcome.wall_s, totals=self.totals, last_seq=self.seq,
                error=None if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}",
                harm=self.guard.harm(), outputs=_said_of(self.guard.outputs()),
                exit_code=getattr(outcome.error, "exit_code", 0 if outcome.error is None else 1),
            )  # fmt: skip
            self.record.flush()
            self.guard.end_run(max(self.seq - self.unbooked, self.booked))
        except (NeurobenchError, OSError) as error:
            # The disk is full, say: what was recorded before stays, and the run counts as crashed.
            return RunOutcome(
                "fault", outcome.result, outcome.pulses, outcome.energy_j, outcome.wall_s, outcome.error or error,
                outcome.stopped, self.totals,
            )  # fmt: skip
        return outcome

    def go_on(self, steps: Steps, answer: Answer) -> Result:
        """Send `answer` to the protocol and serve it live until it returns."""
        send, serve, control, running = steps.send, self._serve.get, self.control, State.RUNNING
        no_step: Callable[[Any], Answer] = _no_step
        try:
            step = send(answer)
            while True:
                if control.state is not running:
                    self.obey()
                self.seq += 1
                step = send(serve(type(step), no_step)(step))
        except StopIteration as ended:
            return _result(ended.value)
        finally:
            steps.close()

    def obey(self) -> None:
        """Between two steps: do what was asked for."""
        while (state := self.control.state) is not State.RUNNING:
            if state is State.ABORTING:
                raise Aborted(f"aborted by {self.control.reason} before step {self.seq + 1}; outputs are off")
            if state is State.STOPPING:
                raise _Stopped
            self._pause()
        self._say_state()

    def _pause(self) -> None:
        self.guard.rest()
        self.record.put(state=State.PAUSED.value)
        self.record.flush()
        self.control.tell(Event.HALTED)
        self.control.wait_while(State.PAUSED)

    def _say_state(self) -> None:
        self.record.put(state=self.control.state.value)
        self.record.flush()

    # -- steps --------------------------------------------------------------------------------------------------

    def _apply(self, step: Apply) -> Applied:
        seq = self.seq
        if self.replayable:
            guard = self.guard
            guard.stage(seq, step.stimulus)
            applied = guard.fire(seq)
            self.record.entry(seq, step, applied)
            self.totals.add(applied)
            return applied
        return self.apply_now(step)

    def apply_now(self, step: Apply) -> Applied:
        """Stage, record the intent, fire, record the answer: each done before the next begins."""
        witness = self._again_if_lost(lambda: self.guard.stage(self.seq, step.stimulus))
        self.record.intent(self.seq, step, witness)
        applied = self._fire(step, witness)
        self.record.answer(self.seq, applied)
        self.totals.add(applied)
        return applied

    def _fire(self, step: Apply, witness: Witness) -> Applied:
        """Fire what is staged and recorded, exactly once; settle a lost reply by asking for the outcome."""
        for _ in range(ATTEMPTS):
            if self.control.state is State.ABORTING:
                raise Aborted(f"aborted by {self.control.reason} before step {self.seq} was fired; outputs are off")
            try:
                return self.guard.fire(self.seq)
            except BenchFault as lost:
                found = self.settle(step, witness, lost)
            if found is not None:
                return found
            # It was certainly not fired: the same number may be staged and recorded anew, and fired.
            witness = self._again_if_lost(lambda: self.guard.stage(self.seq, step.stimulus))
            self.record.intent(self.seq, step, witness)
        raise LinkLost(f"step {self.seq} was triggered {ATTEMPTS} times and certainly never fired; check the link")

    def settle(self, step: Apply, witness: Witness, lost: BaseException | None) -> Applied | None:
        """What became of step `seq`: its answer, or None if it was not fired. Doubt is recorded and raised.

        `lost` is why it is asked; an instrument's own refusal is raised again once it is known that nothing was fired.
        """
        outcome = self._again_if_lost(lambda: self.guard.outcome(self.seq, witness, step.stimulus))
        if isinstance(outcome, Done):
            return outcome.applied
        if isinstance(outcome, Unknown):
            self.record.doubt(self.seq, outcome)
            raise PulseUnknown(
                f"step {self.seq}: {outcome.shot} shots were fired, and nobody can tell whether the next one was "
                f"({outcome.why}). The outputs are off. Resume with the doubt accepted: the cells are read again "
                "and the run goes on from what is there; or end here"
            ) from lost
        if isinstance(lost, InstrumentError):
            raise lost
        return None

    def _again_if_lost(self, ask: Callable[[], T]) -> T:
        """Ask again what sends no volts. Never for a trigger."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return ask()
            except LinkLost:
                if not left or self.control.state is State.ABORTING:
                    raise
                time.sleep(RETRY_PAUSE_S)
        raise AssertionError("unreachable")

    def _sense(self, step: Sense) -> Reading:
        if self.replayable:
            reading = self.guard.sense(step.read)
        else:
            reading = self._again_if_lost(lambda: self.guard.sense(step.read))
        self.record.entry(self.seq, step, reading)
        self.totals.add(reading)
        return reading

    def _loop(self, step: Loop) -> LoopAnswer:
        if self.replayable:
            answer = self.guard.loop(self.seq, step)
            self.record.entry(self.seq, step, answer)
        else:
            self.guard.check(step)  # a refused loop must not stand in the record as one that was cut off
            self.record.intent(self.seq, step, Witness())
            answer = self.guard.loop(self.seq, step)
            self.record.answer(self.seq, answer)
        self.totals.add(answer)
        return answer

    def _wait(self, step: Wait) -> None:
        if self.replayable:
            self.guard.wait(step.seconds)
        else:
            self.record.flush()
            self._wait_in_slices(self.guard.clock_s + step.seconds)
        self.record.entry(self.seq, step, None)

    def _wait_in_slices(self, until_s: float) -> None:
        """By the clock of the bench: simulated instruments may have one of their own."""
        while (left := until_s - self.guard.clock_s) > 0:
            if self.control.state in (State.ABORTING, State.STOPPING):
                self.obey()
            self.guard.wait(min(left, WAIT_SLICE_S))

    def _note(self, step: Note) -> None:
        # The truth first: after a crash between the two, the note is recorded again and nothing is missing.
        if step.name == "epoch" and self.record.keeps_truth:
            truth = self.guard.truth_s()
            if truth is not None:
                self.record.truth(self.seq, truth)
        self.record.note(self.seq, step.name, step.value)
        if step.name == CELL_STATE:  # recorded first: after a crash in between it is booked from the record
            self.guard.mark_cells(step.value)

    def _checkpoint(self, step: Checkpoint) -> None:
        self.record.entry(self.seq, step, None)
        if self.replayable and self.record.keeps_truth and time.monotonic() - self._snapshot_seen > SNAPSHOT_EVERY_S:
            chip = self.guard.snapshot()
            if chip is not None:
                self.record.snapshot(self.seq, chip)
                self._snapshot_seen = time.monotonic()


def _said_of(outputs: Outputs) -> dict[str, Any]:
    """How the outputs stand, and when that was heard, for the record."""
    return {"on": outputs.on, "how": outputs.how, "age_s": outputs.age_s, "at": utc_now()}


def _no_step(step: object) -> Answer:
    raise UsageError(f"the protocol yielded a {type(step).__name__}, which is not a step")


def _result(value: Any) -> Result:
    if not isinstance(value, Result):
        raise UsageError(f"the protocol returned {value!r}; `steps` returns a Result")
    return value
