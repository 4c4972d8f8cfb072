"""An attacker with a random plan against the Guard, and proof that it would get through if a check were missing.

The chip lives longer than any Guard: it is closed and opened again, its program dies with pulses that no passport
knows, replies are lost. The judge looks only at what the raw crossbar was really told, over the chip's whole life, and
computes from the line states alone, not from the Guard's books.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from recording_bench import Busy, Recording, rectangle

from neurobench.bench.crossbar import Capabilities, NotDone, Witness
from neurobench.bench.limits import Guard, Limits
from neurobench.bench.passport import CellState, Lifetime, Passport, Spent
from neurobench.bench.steps import Loop, LoopAnswer
from neurobench.bench.stimulus import (
    Bias,
    CellRead,
    Direction,
    Play,
    Pulse,
    PulseBatch,
    Read,
    Shots,
    Stimulus,
    VectorRead,
    Waveforms,
)
from neurobench.errors import LinkLost, Refused

SHAPE = (2, 3)
DEAD = (1, 2)
LIMITS = Limits(
    max_cell_v=1.0,
    max_victim_v=0.45,  # so that a half-selecting batch is held by its victims, and one under V/3 by the cell
    max_line_v=1.3,
    max_read_v=0.3,
    max_width_s=1e-4,
    min_width_s=1e-6,
    max_batch_s=1e-3,
    compliance_a=1e-3,
    max_pulses_per_cell=40,
    max_half_selects_per_cell=60,
    max_energy_per_cell_j=1.5e-6,
    max_loop_pulses_per_cell=15,
)
CHIPS = (LIMITS, LIMITS.model_copy(update={"max_line_v": 0.95}))  # under V/3 the second is held by its lines
ABOVE = 1 + 1e-6  # the judge forgives rounding, as the Guard does


class Beyond(AssertionError):
    """Something was done to the chip that a limit forbids."""


class Judge:
    """What a chip went through in its whole life, from the line states of what was fired."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pulses, self.half_selects = np.zeros(SHAPE, np.int64), np.zeros(SHAPE, np.int64)
        self.energy_j = np.zeros(SHAPE)

    def watch(self, raw: Recording) -> None:
        """Judge what happened since the last look, and the sums."""
        for _, shots in raw.fired:
            self.play(shots.waveforms) if isinstance(shots, Play) else self.shots(shots)
        for read in raw.reads:
            self.read(read)
        for loop, answer in raw.loops:
            self.loop(loop, answer)
        raw.fired, raw.reads, raw.loops = [], [], []
        beyond(self.pulses.max(), self.limits.max_pulses_per_cell, "pulses")
        beyond(self.half_selects.max(), self.limits.max_half_selects_per_cell, "half-selects")
        beyond(self.energy_j.max(), self.limits.max_energy_per_cell_j, "energy")

    def shots(self, shots: Shots) -> None:
        pulse, total_s = shots.pulse, 0.0
        beyond(pulse.rise_s + pulse.width_s + pulse.fall_s, self.limits.max_width_s, "width")
        beyond(self.limits.min_width_s, pulse.width_s, "shortness")
        for states, n in shots:
            cell_v = np.abs(states.row_v[:, None] - states.col_v)
            selected = cell_v > 0.75 * pulse.amplitude_v
            self.volts(states.row_v, states.col_v, cell_v, cell_v[~selected])
            on_lines = selected.any(axis=1)[:, None] | selected.any(axis=0)
            self.pulses += n * selected
            self.half_selects += n * (on_lines & ~selected)
            self.energy_j += n * cell_v * self.limits.compliance_a * pulse.duration_s
            total_s += n * pulse.duration_s
            if selected[DEAD]:
                raise Beyond("a dead cell was pulsed")
        beyond(total_s, self.limits.max_batch_s, "batch")

    def volts(self, row_v: np.ndarray, col_v: np.ndarray, cell_v: np.ndarray, victims_v: np.ndarray) -> None:
        beyond(max(np.abs(row_v).max(), np.abs(col_v).max()), self.limits.line_v, "line")
        beyond(cell_v.max(), self.limits.max_cell_v, "cell")
        beyond(victims_v.max(initial=0.0), self.limits.victim_v, "victim")

    def play(self, waves: Waveforms) -> None:
        """By sampling: what a dense look sees is the least that happened."""
        t_s = np.linspace(0, waves.duration_s, 4001)
        zero = np.zeros(len(t_s))
        lines = [
            np.array([at(waves, k, s, t_s) if k >= 0 else zero for k, s in zip(index, start, strict=True)])
            for index, start in ((waves.row_shape, waves.row_start_s), (waves.col_shape, waves.col_start_s))
        ]
        cell_v = np.abs(lines[0][:, None] - lines[1][None, :])
        worst_v = cell_v.max(axis=-1)
        self.volts(*lines, worst_v, np.zeros(0))
        beyond(waves.duration_s, self.limits.max_width_s, "width")
        above = cell_v > self.limits.max_read_v * ABOVE
        self.pulses += (above[..., 1:] & ~above[..., :-1]).sum(axis=-1)
        self.energy_j += cell_v.mean(axis=-1) * self.limits.compliance_a * waves.duration_s
        if worst_v[DEAD] > self.limits.victim_v * ABOVE:
            raise Beyond("a dead cell was pulsed")

    def read(self, read: Read) -> None:
        volts = abs(read.voltage_v) if isinstance(read, CellRead) else np.abs(read.volts).max()
        beyond(volts, self.limits.max_read_v, "read")

    def loop(self, loop: Loop, answer: LoopAnswer) -> None:
        pulse, done = loop.program.bounds(1).potentiate, answer.potentiations.astype(np.int64)
        beyond(done.max(), self.limits.max_loop_pulses_per_cell, "loop")
        beyond(pulse.amplitude_v, self.limits.max_cell_v, "cell")
        beyond(pulse.amplitude_v / 2, self.limits.victim_v, "victim")
        beyond(pulse.duration_s, self.limits.max_width_s, "width")
        mates = done.sum(axis=1)[:, None] + done.sum(axis=0) - 2 * done
        self.pulses += done
        self.half_selects += mates
        self.energy_j += (done + mates / 2) * pulse.amplitude_v * self.limits.compliance_a * pulse.duration_s
        if done[DEAD]:
            raise Beyond("a dead cell was pulsed")


def at(waves: Waveforms, k: int, start_s: float, t_s: np.ndarray) -> np.ndarray:
    return np.interp(t_s - start_s, waves.shapes[k].t_s, waves.shapes[k].v, left=0.0, right=0.0)


def beyond(value: float, allowed: float | None, what: str) -> None:
    assert allowed is not None
    if value > allowed * ABOVE:
        raise Beyond(f"{what}: {value:g} > {allowed:g}")


# ------------------------------------------------------------------ the attacker

# Near the limits, on both sides of them. Most of what is asked for has at most one thing wrong with it: a stimulus
# with two is refused for either, and says nothing about the other.
LEGAL = {
    "volts": [0.2, 0.6, 0.85, 0.9],
    "width_s": [1e-6, 1e-5, 6e-5],
    "edge_s": [0.0, 1e-6, 2e-5],
    "bias": [Bias.HALF],
}
WRONG = {
    "volts": [0.92, 0.99, 1.0, 1.1, 1.4, 3.0],
    "width_s": [1e-7, 9e-7, 1e-4, 1.01e-4, 5e-4],
    "edge_s": [3e-5, 1e-4],
    "bias": [Bias.GROUNDED, Bias.ISOLATED],
    "dead": [1, -1],
    "nothing": [None],
}
THIRD_V = st.sampled_from([0.3, 0.9, 0.99, 1.0, 1.01, 1.2, 1.25, 1.4])
pulse_counts = st.lists(st.sampled_from([-12, -1, 0, 0, 1, 1, 2, 5, 12]), min_size=6, max_size=6)


@st.composite
def batches(draw: st.DrawFn) -> PulseBatch:
    counts = np.array(draw(pulse_counts), np.int16).reshape(SHAPE)
    counts[DEAD] = 0
    chosen: dict[str, Any] = {name: draw(st.sampled_from(values)) for name, values in LEGAL.items()}
    wrong = draw(st.sampled_from(list(WRONG)))
    chosen[wrong] = draw(st.sampled_from(WRONG[wrong]))
    if wrong == "dead":
        counts[DEAD] = chosen["dead"]
    if draw(st.booleans()) and wrong in ("volts", "nothing"):
        chosen |= {"bias": Bias.THIRD, "volts": draw(THIRD_V)}
    return PulseBatch(counts, Pulse(chosen["volts"], chosen["width_s"], chosen["edge_s"]), chosen["bias"])


mild = st.builds(Pulse, st.sampled_from([0.5, 0.9]), st.sampled_from([1e-6, 1e-5, 9e-5]))
pulses = mild | batches().map(lambda batch: batch.pulse)
fates = st.sampled_from(["ok", "ok", "ok", "lost_before", "lost_after", "unknown"])
volts = st.sampled_from([0.1, -0.3, 0.3, 0.31, -0.35, 0.9, 2.0])


@st.composite
def waveforms(draw: st.DrawFn) -> Waveforms:
    shape = st.builds(
        rectangle, st.sampled_from([0.3, 0.5, -0.6, 1.0, 1.2]), st.sampled_from([1e-6, 5e-6]), st.integers(1, 6)
    )
    shapes = tuple(draw(st.lists(shape, min_size=1, max_size=2)))
    lines, starts = st.sampled_from([-1, -1, 0, len(shapes) - 1]), st.sampled_from([0.0, 0.0, 5e-6, 5e-5])
    row, col = (np.array([draw(lines) for _ in range(n)]) for n in SHAPE)
    return Waveforms(shapes, row, col, *(np.array([draw(starts) for _ in range(n)]) for n in SHAPE))


class Attack(RuleBasedStateMachine):
    """Tries everything that a protocol, a runner or an operator may try. `Refused` is the only thing that stops it."""

    @initialize(
        parallelism=st.sampled_from(["cell", "row", "column"]),
        sign=st.sampled_from([1, -1]),
        limits=st.sampled_from(CHIPS),
    )
    def begin(self, parallelism: Any, sign: int, limits: Limits) -> None:
        self.limits = limits
        self.capabilities = Capabilities(
            SHAPE, parallelism, frozenset(Bias), potentiating_sign=sign, vector_reads=frozenset(Direction),
            distinct_shapes=2, compiled_loops=True,
        )  # fmt: skip
        self.folder = tempfile.TemporaryDirectory()
        self.judge, self.run, self.seq = Judge(limits), "run-0", 0
        self.record: list[tuple[int, Stimulus | tuple[Loop, LoopAnswer]]] = []
        self.guard: Guard | None = None
        self.open()
        self.guard.passport.begin_run(self.run)

    def open(self) -> None:
        passport = Passport.open(Path(self.folder.name) / "chip", "c1", SHAPE)
        passport.cell_state[DEAD] = CellState.SHORTED
        self.raw = Recording(self.capabilities)
        self.guard = Guard(self.raw, self.limits, passport, bench_name="attacked")

    # -- pulses

    @rule(batch=batches(), fate=fates)
    def pulse(self, batch: PulseBatch, fate: str) -> None:
        self.fire(batch, fate)

    @rule(pulse=mild, row=st.integers(0, 1))
    def press_on(self, pulse: Pulse, row: int) -> None:
        """Small steps until something gives way: how a cell is worn out."""
        one = np.zeros(SHAPE, np.int16)
        one[row, 0] = 7
        for _ in range(4):
            self.fire(PulseBatch(one, pulse), "ok")

    @rule(waves=waveforms(), fate=fates)
    def play(self, waves: Waveforms, fate: str) -> None:
        self.fire(waves, fate)

    def fire(self, stimulus: Stimulus, fate: str) -> None:
        guard, self.seq = self.guard, self.seq + 1
        try:
            witness = guard.stage(self.seq, stimulus)
        except Refused:
            return
        self.record.append((self.seq, stimulus))  # the intent, durable before the trigger
        self.raw.fate = fate
        try:
            guard.fire(self.seq)
        except LinkLost:
            if isinstance(guard.outcome(self.seq, witness), NotDone):
                self.record.pop()

    @rule(one=batches(), other=batches(), again=st.booleans())
    def stage_and_think_again(self, one: PulseBatch, other: PulseBatch, again: bool) -> None:
        """What is staged last is what may be fired; and asking for what was never fired gives nothing back."""
        guard = self.guard
        for stimulus in (one, other):
            self.seq += 1
            with suppress(Refused):
                guard.stage(self.seq, stimulus)
            if again:
                guard.outcome(self.seq, Witness())
                guard.outcome(self.seq - 1, Witness())
        try:
            guard.fire(self.seq)
        except Refused:
            return
        self.record.append((self.seq, other))

    @rule(batch=batches())
    def fire_again(self, batch: PulseBatch) -> None:
        """The same number twice, and a number that was never staged."""
        self.fire(batch, "ok")
        for seq in (self.seq, self.seq - 1, self.seq + 1):
            with pytest.raises(Refused):
                self.guard.fire(seq)

    @rule(asked=batches() | waveforms())
    def preview(self, asked: Stimulus) -> None:
        with suppress(Refused):
            self.guard.check(asked)

    # -- loops and reads

    @rule(
        pulse=pulses,
        most=st.integers(0, 20),
        share=st.sampled_from([0, 0.5, 1, 1]),
        spare=st.booleans(),
        lost=st.booleans(),
    )
    def loop(self, pulse: Pulse, most: int, share: float, spare: bool, lost: bool) -> None:
        bound = np.full(SHAPE, most)
        if spare:
            bound[DEAD] = 0
        loop = Loop(Busy(pulse, bound, np.floor(bound * share)), 10)
        self.seq += 1
        self.raw.loop_fails = lost
        try:
            answer = self.guard.loop(self.seq, loop)
        except Refused:
            return
        except LinkLost:  # the record then has the intent only: a replay books the worst
            answer = LoopAnswer(10, np.zeros((0, 2)), bound, np.zeros_like(bound), {}, 0.0, 0.0, 0.0, "")
        finally:
            self.raw.loop_fails = False
        self.record.append((self.seq, (loop, answer)))

    @rule(volts=volts, cells=st.booleans(), forward=st.booleans())
    def read(self, volts: float, cells: bool, forward: bool) -> None:
        if cells:
            asked: Read = CellRead(np.ones(SHAPE, bool), volts)
        else:
            direction = Direction.ROWS_TO_COLS if forward else Direction.COLS_TO_ROWS
            asked = VectorRead(np.array([[0.0] * (SHAPE[0 if forward else 1] - 1) + [volts]]), direction)
        with suppress(Refused):
            self.guard.sense(asked)

    # -- the life of the program

    @rule()
    def end_and_open_again(self) -> None:
        """In order: the books are complete, the next run begins."""
        self.guard.passport.end_run(self.seq)
        self.guard.close()
        self.look()
        self.open()
        self.new_run()

    @rule(batch=batches())
    def close_in_the_middle(self, batch: PulseBatch) -> None:
        """The program closes the bench, but its run did not end."""
        self.guard.close()
        self.look()
        self.survive(batch)

    @rule(batch=batches())
    def crash(self, batch: PulseBatch) -> None:
        """The process is gone, and with it its lock: nothing was saved."""
        self.guard.passport.release()
        self.look()
        self.survive(batch)

    @rule(batch=batches())
    def crash_while_firing(self, batch: PulseBatch) -> None:
        """The intent is durable, the trigger went out, the answer never came."""
        self.seq += 1
        try:
            self.guard.stage(self.seq, batch)
        except Refused:
            return
        self.record.append((self.seq, batch))
        self.guard.fire(self.seq)
        self.crash(batch)

    def survive(self, batch: PulseBatch) -> None:
        """Before the books are settled nothing may be pulsed; then the recorded steps are replayed into them."""
        self.open()
        self.fire(batch, "ok")
        self.seq += 1
        with pytest.raises(Refused):
            self.guard.loop(self.seq, Loop(Busy(Pulse(0.5, 1e-6), 1, 1), 5))
        with pytest.raises(Refused):
            self.guard.passport.begin_run("another run")
        self.guard.passport.begin_run(self.run)
        for seq, done in self.record:
            if seq > self.guard.passport.run_seq:
                self.guard.charge_loop(*done) if isinstance(done, tuple) else self.guard.charge(done)

    def new_run(self) -> None:
        self.run, self.record = f"run-{self.seq}", []
        self.guard.passport.begin_run(self.run)

    @precondition(lambda self: self.seq > 5)
    @rule()
    def pause_and_go_on(self) -> None:
        """The run ends in order and is taken up again, in the same process, then the books begin where they ended."""
        self.guard.passport.end_run(self.seq)
        self.new_run()

    def look(self) -> None:
        self.judge.watch(self.raw)

    @invariant()
    def nothing_went_beyond_a_limit(self) -> None:
        if getattr(self, "guard", None) is not None:
            self.look()

    @invariant()
    def the_books_miss_nothing(self) -> None:
        if getattr(self, "guard", None) is None:
            return
        life = self.guard.passport.life
        assert (life.pulses >= self.judge.pulses).all()
        assert (life.half_selects() >= self.judge.half_selects).all()
        assert (life.total_j() >= self.judge.energy_j * (1 - 1e-9) - 1e-18).all()

    def teardown(self) -> None:
        if getattr(self, "guard", None) is not None:
            self.guard.passport.release()
            self.folder.cleanup()


class OnlyTheJudge(Attack):
    """Without the look into the books: what is found is found on the chip."""

    the_books_miss_nothing = None  # type: ignore[assignment]


QUICK = settings(
    max_examples=40, stateful_step_count=25, deadline=None, database=None, derandomize=True, phases=[Phase.generate]
)


# Once one way through is found there is no need to look for another.
FOUND_OUT = settings(QUICK, max_examples=300, report_multiple_bugs=False)


def test_the_guard_holds() -> None:
    run_state_machine_as_test(Attack, settings=QUICK)


@pytest.mark.slow
def test_the_guard_holds_for_long() -> None:
    run_state_machine_as_test(Attack, settings=settings(QUICK, max_examples=3000, stateful_step_count=60))


# ------------------------------------------------------------------ a missing check is found


def without_limit(field: str) -> Callable[[pytest.MonkeyPatch], None]:
    def remove(patch: pytest.MonkeyPatch) -> None:
        at_most = Guard._at_most

        def blind(self: Guard, value: float, allowed: float, what: str, name: str) -> None:
            if name != field:
                at_most(self, value, allowed, what, name)

        patch.setattr(Guard, "_at_most", blind)

    return remove


def without_budget(field: str) -> Callable[[pytest.MonkeyPatch], None]:
    def remove(patch: pytest.MonkeyPatch) -> None:
        refusal = Lifetime.refusal

        def blind(self: Lifetime, limits: Limits) -> Spent | None:
            return refusal(self, limits.model_copy(update={field: None}))

        patch.setattr(Lifetime, "refusal", blind)

    return remove


def replaced(owner: type, name: str, by: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(owner, name, by)


def refund_whatever_is_asked(self: Guard, seq: int, witness: Witness, stimulus: Any = None) -> Any:
    """As it was once: what is not done is given back, charged or not."""
    found = self.raw.outcome(seq, witness)
    if isinstance(found, NotDone) and seq == self._staged_seq and self._staged is not None and not self._reserved:
        self._spend(self._staged, -1)
        self._staged_seq = -1
    return found


def sense_unchecked(self: Guard, read: Read) -> Any:
    return self.raw.sense(read)


MISSING: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "cell": without_limit("max_cell_v"),
    "victim": without_limit("max_victim_v"),
    "line": without_limit("max_line_v"),
    "width": without_limit("max_width_s"),
    "batch": without_limit("max_batch_s"),
    "read": without_limit("max_read_v"),
    "loop": without_limit("max_loop_pulses_per_cell"),
    "pulses": without_budget("max_pulses_per_cell"),
    "half-selects": without_budget("max_half_selects_per_cell"),
    "energy": without_budget("max_energy_per_cell_j"),
    "a dead cell": replaced(Guard, "_refuse_excluded", lambda *_: None),
}
ESCAPES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "refund of what was never fired": replaced(Guard, "outcome", refund_whatever_is_asked),
    "a crash forgotten": replaced(Guard, "_refuse_unsettled", lambda _: None),
    "a replay not booked": replaced(Guard, "charge", lambda *_: None),
    "a lost loop not booked": replaced(Guard, "_book_loop", lambda *_: None),
    "reads unchecked": replaced(Guard, "sense", sense_unchecked),
}


@pytest.mark.parametrize("check", MISSING)
def test_without_this_check_the_attack_gets_through(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MISSING[check](monkeypatch)
    with pytest.raises(Beyond, match=check):
        run_state_machine_as_test(OnlyTheJudge, settings=FOUND_OUT)


@pytest.mark.parametrize("hole", ESCAPES)
def test_with_this_hole_the_attack_gets_through(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ESCAPES[hole](monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Attack, settings=FOUND_OUT)
