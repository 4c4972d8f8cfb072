"""The only place where a stimulus can be refused for the chip's sake: Limits, and the Guard that applies them.

Limits belong to the chip on the table, not to the algorithm. The Guard refuses, it never clips. It does not know
the conductances, so it bounds energy by V x compliance x time, victims included.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neurobench.compiling import compiled
from neurobench.errors import CapabilityMissing, ConfigError, LimitExceeded, Refused, UsageError

from .counts import CellCounts, Counts
from .crossbar import Applied, Capabilities, Crossbar, Identity, NotDone, Outcome, Outputs, Reading, Witness
from .passport import EXCLUDED, ROUNDING, CellState, Lifetime, Passport
from .steps import BenchView, DeviceSpan, Loop, LoopAnswer
from .stimulus import (
    Bias,
    BoolArray,
    CellRead,
    FloatArray,
    LineState,
    Play,
    Pulse,
    PulseBatch,
    Read,
    ShotList,
    Shots,
    Stimulus,
    Waveforms,
    levels,
    shots,
)


class Limits(BaseModel):
    """What this chip bears. Volts are magnitudes; `per_cell` budgets count over the chip's whole life."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_cell_v: float = Field(gt=0, description="largest |V| at any cell while writing, in volts")
    max_read_v: float = Field(gt=0, description="largest |V| at any cell while reading, in volts")
    max_width_s: float = Field(gt=0, description="longest pulse, edges included, in seconds")
    min_width_s: float = Field(default=0.0, ge=0, description="shortest pulse, in seconds")
    max_line_v: float | None = Field(default=None, gt=0, description="largest |V| on a line; default: max_cell_v")
    max_victim_v: float | None = Field(
        default=None, gt=0, description="largest |V| at an unselected cell while writing; default: max_cell_v / 2"
    )
    compliance_a: float | None = Field(default=None, gt=0, description="current limit of the pulse path, in amperes")
    max_pulses_per_cell: int | None = Field(default=None, ge=1, description="pulses on one cell, over its life")
    max_half_selects_per_cell: int | None = Field(default=None, ge=1, description="half-selects of one cell, ever")
    max_energy_per_cell_j: float | None = Field(
        default=None, gt=0, description="energy in one cell over its life, bounded by V x compliance_a x time, in J"
    )
    max_batch_s: float = Field(default=60.0, gt=0, description="longest stimulus as a whole, in seconds")
    max_loop_pulses_per_cell: int = Field(default=1000, ge=1, description="pulses on one cell in one loop")

    @model_validator(mode="after")
    def _energy_needs_compliance(self) -> Limits:
        if self.max_energy_per_cell_j is not None and self.compliance_a is None:
            raise ValueError(
                "max_energy_per_cell_j needs compliance_a: without a current limit the energy of a pulse is not bounded"
            )
        return self

    @model_validator(mode="after")
    def _reads_are_gentler(self) -> Limits:
        if self.max_read_v > self.max_cell_v:
            raise ValueError(f"max_read_v = {self.max_read_v:g} exceeds max_cell_v = {self.max_cell_v:g}")
        return self

    @property
    def has_budgets(self) -> bool:
        """Whether anything is counted over the chip's life."""
        budgets = (self.max_pulses_per_cell, self.max_half_selects_per_cell, self.max_energy_per_cell_j)
        return any(budget is not None for budget in budgets)

    @property
    def line_v(self) -> float:
        """Largest |V| on a line, in volts."""
        return self.max_cell_v if self.max_line_v is None else self.max_line_v

    @property
    def victim_v(self) -> float:
        """Largest |V| at an unselected cell, in volts."""
        return self.max_cell_v / 2 if self.max_victim_v is None else self.max_victim_v


class ChipLimits(Limits):
    """[limits] of a bench file: what the chip bears, and what it bears while a protocol of another profile runs.

    A profile says only what is different; everything else in it is as in [limits], the budgets too.
    """

    forming: Limits | None = Field(
        default=None, description="[limits.forming]: limits while `form` runs (bench rule 16); default: it is refused"
    )

    @model_validator(mode="before")
    @classmethod
    def _profile_on_top(cls, given: Any) -> Any:
        if not (isinstance(given, dict) and isinstance(given.get("forming"), dict)):
            return given
        usual = {name: value for name, value in given.items() if name in Limits.model_fields}
        try:
            Limits.model_validate(usual)
        except ValidationError:  # [limits] itself is wrong: that is told, and not once more for the profile
            return {name: value for name, value in given.items() if name != "forming"}
        return {**given, "forming": {**usual, **given["forming"]}}

    def profile(self, name: str) -> Limits:
        """The limits of a profile: "" the usual ones, "forming" [limits.forming]. Raises Refused without it."""
        if name:
            found: Limits | None = getattr(self, name)
            if found is None:
                raise Refused(
                    f"this protocol runs under limits of its own, and the bench file has no [limits.{name}]: "
                    f"add that table, with the max_cell_v that {name} may use"
                )
            return found
        return Limits(**self.model_dump(exclude={"forming"}))


class Cost(NamedTuple):
    """Bounded energy of one pulse, as parts that add up at every cell (see `Lifetime.total_j`).

    Every cell of the array gets `everywhere_j`, the selected lines `row_j` and `col_j` on top, and the selected cell
    `cell_j` on top of both of its lines.
    """

    cell_j: float
    row_j: float
    col_j: float
    everywhere_j: float


class Exposure(NamedTuple):
    """What waveforms do to every cell [rows, cols]: largest |V|, how often V_row - V_col rises above a read's volts,
    and how often it falls below minus these."""

    worst_v: FloatArray
    above: NDArray[np.int64]
    below: NDArray[np.int64]

    @property
    def pulses(self) -> NDArray[np.int64]:
        """Of either sign: what the chip's books count."""
        return self.above + self.below


class Guard:
    """A crossbar behind its limits: what the runner works with, and the only way to the chip.

    `stage` checks and reserves the lifetime budgets, `fire` spends them. Nothing passes unchecked: stimuli, reads,
    loops, and what a resume replays into the budgets (`charge`).
    """

    def __init__(
        self,
        raw: Crossbar,
        limits: Limits,
        passport: Passport,
        span: DeviceSpan | None = None,
        bench_name: str = "",
        profile: str = "",
    ) -> None:
        if raw.capabilities.shape != passport.shape:
            raise ConfigError(
                f"the bench has {raw.capabilities.shape} cells, the passport of chip {passport.chip_id!r} "
                f"{passport.shape} ([chip] rows, cols)"
            )
        self.raw = raw
        self.limits = limits
        self.passport = passport
        self.span = DeviceSpan() if span is None else span
        self.bench_name = bench_name
        self.profile = profile
        self.capabilities: Capabilities = raw.capabilities
        self.trying = False  # a preview is tried on an emulated chip, which is put back to where it was
        self._staged: ShotList | None = None
        self._staged_seq = -1
        self._reserved = False
        self._charged: tuple[int, ShotList] | None = None  # what `fire` spent last, until it is known to be done
        self._admitted: tuple[Pulse, Bias, bool] | None = None
        self._priced: tuple[tuple[Pulse, Bias], Cost] | None = None
        self._exposed: tuple[Waveforms, Exposure] | None = None

    # -- what may be done ---------------------------------------------------------------------------------------

    def check(self, asked: Stimulus | Read | Loop) -> None:
        """Raise Refused if `asked` may not be done now; nothing is changed. For previews."""
        if isinstance(asked, Loop):
            self._check_loop(asked)
        elif isinstance(asked, PulseBatch | Waveforms):
            self._refuse_unsettled()
            self._try_on_a_copy(self._admit(asked))
        else:
            self._check_read(asked)

    def _try_on_a_copy(self, expanded: ShotList) -> None:
        """Reserve on a copy of the books, so that a preview leaves not even a rounding error behind."""
        life = self.passport.life
        self.passport.life = life.copy()
        try:
            if self._reserved and self._staged is not None:
                self._spend(self._staged, -1)
            self._reserve(expanded)
        finally:
            self.passport.life = life

    def stage(self, seq: int, stimulus: Stimulus) -> Witness:
        """Check, reserve and stage; no volts. Staging again drops the earlier reservation.

        A number that was fired is not staged again, unless `outcome` has said that nothing came of it.
        """
        self._drop_reservation()
        if self._charged is not None and self._charged[0] == seq:
            raise Refused(
                f"stage({seq}) after fire({seq}): a pulse is sent once; outcome({seq}) says what became of it"
            )
        self._refuse_unsettled()
        expanded = self._admit(stimulus)
        self._reserve(expanded)
        self._staged, self._staged_seq, self._reserved = expanded, seq, True
        try:
            return self.raw.stage(seq, expanded)
        except BaseException:
            self._drop_reservation()
            raise

    def _refuse_unsettled(self) -> None:
        if self.passport.unsettled:
            raise Refused(self.passport.unsettled_words())

    @property
    def staged(self) -> ShotList:
        """The shots that `fire` will send."""
        if self._staged is None:
            raise Refused("nothing is staged: stage(seq, stimulus) comes before fire(seq)")
        return self._staged

    def fire(self, seq: int) -> Applied:
        """Send what was staged under `seq`, once. What was reserved is spent, whatever becomes of the reply."""
        if seq != self._staged_seq or not self._reserved:
            raise Refused(f"fire({seq}) without stage({seq}) right before it: a pulse is sent once, as it was staged")
        self._reserved, self._charged = False, (seq, self.staged)
        return self.raw.fire(seq)

    def sense(self, read: Read) -> Reading:
        """Read, if the limits allow."""
        self._check_read(read)
        return self.raw.sense(read)

    def loop(self, seq: int, loop: Loop) -> LoopAnswer:
        """Run a loop in the backend, checked by its worst case, charged by what it did: its worst, if that is lost."""
        self._check_loop(loop)
        try:
            answer = self.raw.loop(seq, loop)
        except (Refused, UsageError):
            raise  # it did nothing
        except BaseException:
            self._book_loop(self.passport.life, loop, self._most_pulses(loop))
            raise
        self.charge_loop(loop, answer)
        return answer

    # -- budgets ------------------------------------------------------------------------------------------------

    def charge(self, stimulus: Stimulus) -> None:
        """Book a recorded stimulus that was fired in the past: replay, unsettled runs."""
        self._spend(shots(stimulus, self.capabilities), 1)

    def refund(self, stimulus: Stimulus) -> None:
        """Give back what was booked for a stimulus that certainly was not fired."""
        self._spend(shots(stimulus, self.capabilities), -1)

    def charge_loop(self, loop: Loop, answer: LoopAnswer) -> None:
        """Book the pulses of a loop."""
        self.passport.book_cells(answer.potentiations, answer.depressions, self._loop_pulse_j(loop))

    def mark_cells(self, said: Any) -> None:
        """Book what a protocol found out about cells: the value of a note `cell_state` (see `Passport.mark`)."""
        self.passport.mark(said)

    def end_run(self, seq: int) -> None:
        """Say in the passport that the books hold this run up to step `seq`: without it, if it was only staged."""
        only_staged = seq == self._staged_seq and (self._charged is None or self._charged[0] != seq)
        self._drop_reservation()
        # The chip first: a passport that counts pulses of which the chip knows nothing would be believed.
        self.raw.keep(self.passport.run_file, seq)
        self.passport.end_run(seq - only_staged)

    def _book_loop(self, life: Lifetime, loop: Loop, pulses: Counts) -> None:
        life.add_cells(pulses, self._loop_pulse_j(loop))

    def _loop_pulse_j(self, loop: Loop) -> float:
        bounds = loop.program.bounds(loop.ticks)
        width_s = max(bounds.potentiate.duration_s, bounds.depress.duration_s)
        volts = max(bounds.potentiate.amplitude_v, bounds.depress.amplitude_v)
        return volts * (self.limits.compliance_a or 0.0) * width_s

    def _most_pulses(self, loop: Loop) -> Counts:
        """Pulses per cell in the worst case; a program may bound them for all cells or cell by cell."""
        asked: Any = loop.program.bounds(loop.ticks).pulses_per_cell
        most, shape = asked if isinstance(asked, CellCounts) else np.asarray(asked), self.capabilities.shape
        if most.shape not in ((), shape):
            raise Refused(f"the loop is for {most.shape} cells, the bench has {shape}")
        return most if isinstance(most, CellCounts) else np.broadcast_to(most, shape)

    def _cost(self, pulse: Pulse, bias: Bias) -> Cost:
        if self._priced is None or self._priced[0] != (pulse, bias):
            self._priced = (pulse, bias), _price(pulse, bias, self.limits.compliance_a or 0.0)
        return self._priced[1]

    def _spend(self, expanded: ShotList, sign: int) -> int:
        """Add (+1) or take back (-1); answers the number of pulses in a row, negative if an excluded cell is hit."""
        life = self.passport.life
        if isinstance(expanded, Play):
            exposure = self._exposure(expanded.waveforms)
            life.add_cells(sign * exposure.pulses, 0.0)
            life.energy_j += (sign * (self.limits.compliance_a or 0.0) * expanded.duration_s) * exposure.worst_v
            return 1
        cost = self._cost(expanded.pulse, expanded.bias)
        done: int = _book(
            expanded.axis, expanded.line, expanded.indptr, expanded.cross, expanded.repeat, sign,
            cost.cell_j, cost.row_j, cost.col_j, cost.everywhere_j, life.pulses, life.energy_j, life.row_selects,
            life.col_selects, life.row_j, life.col_j, life.everywhere_j, self.passport.cell_state,
        )  # fmt: skip
        return done

    def _reserve(self, expanded: ShotList) -> None:
        """Book and, if a budget would be passed or a dead cell pulsed, take back and refuse."""
        done = self._spend(expanded, 1)
        try:
            if done < 0 and isinstance(expanded, Shots):
                self._refuse_excluded(expanded.counts() > 0, "a pulse on")
            if isinstance(expanded, Shots):
                duration_s = done * expanded.pulse.duration_s
                self._at_most(duration_s, self.limits.max_batch_s, "a batch of {} s", "max_batch_s")
            self._refuse_spent(self.passport.life, "")
        except Refused:
            self._spend(expanded, -1)
            raise

    def _refuse_spent(self, life: Lifetime, when: str) -> None:
        found = life.refusal(self.limits)
        if found:
            raise LimitExceeded(f"{when}{found.words} ({self._whose(found.limit)})")

    def _refuse_excluded(self, hit: BoolArray, what: str) -> None:
        cells = np.argwhere(hit & self.passport.excluded())
        if len(cells):
            row, col = cells[0]
            state = CellState(self.passport.cell_state[row, col]).name.lower()
            raise Refused(
                f"{what} cell ({row}, {col}), which is {state} in the passport of chip {self.passport.chip_id!r}: "
                "leave it out (mask or remap it), or change its state in the passport"
            )

    def _drop_reservation(self) -> None:
        if self._reserved and self._staged is not None:
            self._spend(self._staged, -1)
        self._reserved = False

    # -- the rules ----------------------------------------------------------------------------------------------

    def _whose(self, field: str) -> str:
        section = f"limits.{self.profile}" if self.profile else "limits"
        return f"bench {self.bench_name or 'unnamed'}, {section}.{field}"

    def _admit(self, stimulus: Stimulus) -> ShotList:
        """Check voltages, widths and capabilities. An equal pulse under an equal bias is checked once."""
        if isinstance(stimulus, Waveforms):
            self._refuse_incapable(stimulus)
            self._check_waveforms(stimulus)
            return shots(stimulus, self.capabilities)
        key = (stimulus.pulse, stimulus.bias, stimulus.measure)
        if key != self._admitted:
            self._refuse_incapable(stimulus)
            self._check_pulse(stimulus)
            self._admitted = key
        return shots(stimulus, self.capabilities)

    def _refuse_incapable(self, asked: Stimulus | Read) -> None:
        refusal = self.capabilities.refusal(asked)
        if refusal:
            raise CapabilityMissing(f"the bench cannot do {refusal} (bench {self.bench_name or 'unnamed'})")

    def _at_most(self, value: float, allowed: float, what: str, field: str) -> None:
        if not value <= allowed * ROUNDING:
            raise LimitExceeded(f"{what.format(f'{value:g}')} exceeds {field} = {allowed:g} ({self._whose(field)})")

    def _check_pulse(self, batch: PulseBatch) -> None:
        pulse, limits = batch.pulse, self.limits
        level = levels(batch.bias, pulse.amplitude_v)
        cell = divmod(int((batch.counts != 0).argmax()), batch.shape[1])
        self._at_most(abs(level.cell_v), limits.max_cell_v, f"a pulse of {{}} V on cell {cell}", "max_cell_v")
        self._at_most(max(map(abs, level)), limits.line_v, "{} V on a line", "max_line_v")
        self._at_most(pulse.duration_s, limits.max_width_s, "a pulse of {} s, edges included,", "max_width_s")
        if pulse.width_s * ROUNDING < limits.min_width_s:
            raise LimitExceeded(
                f"a pulse of {pulse.width_s:g} s is shorter than min_width_s = {limits.min_width_s:g} "
                f"({self._whose('min_width_s')})"
            )
        self._check_bias(batch.bias, max(map(abs, level.victims_v)))

    def _check_bias(self, bias: Bias, victim_v: float) -> None:
        passive = self.capabilities.isolation == "passive"
        if bias in (Bias.GROUNDED, Bias.ISOLATED) and passive:
            raise LimitExceeded(
                f"bias {bias.value!r} on a passive array puts the full pulse on a whole line; "
                "use 'half' or 'third', or declare [chip] isolation = '1t1r' or 'isolated' if that is what it is"
            )
        if bias is not Bias.ISOLATED and passive:
            self._at_most(victim_v, self.limits.victim_v, "{} V at an unselected cell", "max_victim_v")

    def _check_read(self, read: Read) -> None:
        self._refuse_incapable(read)
        volts = abs(read.voltage_v) if isinstance(read, CellRead) else _largest(read.volts)
        self._at_most(volts, self.limits.max_read_v, "a read at {} V", "max_read_v")
        self._at_most(volts, self.limits.line_v, "a read at {} V on a line", "max_line_v")
        self._at_most(_dwell_s(read), self.limits.max_batch_s, "a read of {} s on one cell", "max_batch_s")
        self._check_read_shape(read)

    def _check_read_shape(self, read: Read) -> None:
        shape = self.capabilities.shape
        if isinstance(read, CellRead):
            if read.mask.shape != shape:
                raise Refused(f"the read's mask is for {read.mask.shape} cells, the bench has {shape}")
            return
        if read.idle is LineState.FLOATING and self.capabilities.isolation == "passive":
            raise LimitExceeded(
                "a passive array is not read with floating lines: they carry voltage to the wrong cells "
                "(ground them, or declare [chip] isolation)"
            )
        rows, cols = shape if read.region is None else read.region.shape
        if read.region and (read.region.row1 > shape[0] or read.region.col1 > shape[1]):
            raise Refused(f"region {read.region} is outside the array of {shape}")
        lines = rows if read.direction == "rows_to_cols" else cols
        if read.volts.shape[1] != lines:
            given = read.volts.shape[1]
            raise Refused(f"volts has {given} lines per vector, the region has {lines} ({read.direction})")

    def _check_loop(self, loop: Loop) -> None:
        if not self.capabilities.compiled_loops:
            raise CapabilityMissing("this bench does not run loops by itself; let the host step them")
        bounds, limits = loop.program.bounds(loop.ticks), self.limits
        for pulse in (bounds.potentiate, bounds.depress):
            probe = PulseBatch(np.zeros((1, 1), np.int8), pulse)
            self._refuse_incapable(probe)
            self._check_pulse(probe)
        self._at_most(bounds.read_v, limits.max_read_v, "a loop that reads at {} V", "max_read_v")
        most, allowed = self._most_pulses(loop), limits.max_loop_pulses_per_cell
        self._at_most(int(most.max()), allowed, "a loop of up to {} pulses per cell", "max_loop_pulses_per_cell")
        self._refuse_unsettled()
        if self.passport.excludes_any():
            self._refuse_excluded(most > 0, "a loop that may pulse")
        if limits.has_budgets:
            worst = self.passport.life.copy()
            self._book_loop(worst, loop, most)
            self._refuse_spent(worst, "in the worst case of this loop, ")

    def _check_waveforms(self, waveforms: Waveforms) -> None:
        limits = self.limits
        self._at_most(waveforms.duration_s, limits.max_batch_s, "waveforms of {} s", "max_batch_s")
        line_v = max(float(np.abs(shape.v).max()) for shape in waveforms.shapes)
        self._at_most(line_v, limits.line_v, "{} V on a line", "max_line_v")
        if waveforms.shape != self.capabilities.shape:
            raise Refused(f"the waveforms are for {waveforms.shape} cells, the bench has {self.capabilities.shape}")
        worst_v = self._exposure(waveforms).worst_v
        self._at_most(float(worst_v.max()), limits.max_cell_v, "waveforms that put {} V on a cell", "max_cell_v")
        self._at_most(waveforms.duration_s, limits.max_width_s, "waveforms of {} s", "max_width_s")
        # an excluded cell bears what the unselected cells of a batch bear
        self._refuse_excluded(worst_v > limits.victim_v * ROUNDING, "waveforms that pulse")

    def _exposure(self, waveforms: Waveforms) -> Exposure:
        if self._exposed is None or self._exposed[0] is not waveforms:
            self._exposed = waveforms, exposure(waveforms, self.limits.max_read_v * ROUNDING)
        return self._exposed[1]

    # -- the rest of the contract -------------------------------------------------------------------------------

    def view(self) -> BenchView:
        """What a protocol may know."""
        passport = self.passport
        left, used = passport.life.pulses_left(self.limits), passport.life.pulses.copy()
        excluded = passport.excluded()
        return BenchView(self.capabilities, self.limits, self.span, excluded, left, used, passport.chip_id)

    def identity(self) -> Identity:
        """Who is at the other end."""
        return self.raw.identity()

    def outcome(self, seq: int, witness: Witness, stimulus: Stimulus | None = None) -> Outcome:
        """What became of `seq`; a pulse that was certainly not fired is given back if it was charged here.

        `stimulus` is what was recorded under `seq`: needed where another process staged it.
        """
        found = self.raw.outcome(seq, witness, None if stimulus is None else shots(stimulus, self.capabilities))
        if isinstance(found, NotDone) and self._charged is not None and self._charged[0] == seq:
            self._spend(self._charged[1], -1)
            self._charged = None
        return found

    def rest(self) -> None:
        """Outputs off, from any state and any thread."""
        self.raw.rest()

    def outputs(self) -> Outputs:
        """Whether anything is driven, as it was heard last; asks nobody. What is only tried is not driven."""
        return Outputs(False, "emulated") if self.trying else self.raw.outputs()

    def close(self) -> None:
        """Rest, close the links, save the passport and let go of the chip."""
        self._drop_reservation()
        try:
            self.raw.close()
        finally:
            self.passport.close()

    def wait(self, seconds: float) -> None:
        """Let time pass for the chip."""
        self.raw.wait(seconds)

    @property
    def clock_s(self) -> float:
        """Time of the bench in seconds."""
        return self.raw.clock_s

    def snapshot(self) -> bytes | None:
        """State of an emulated chip; None for a real one."""
        return self.raw.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Put an emulated chip back: what was fired since did not happen."""
        self.raw.restore(snapshot)
        self._charged, self._staged_seq = None, -1

    def harm(self) -> list[str]:
        """What has hurt an emulated chip; nobody knows of a real one."""
        return self.raw.harm()

    def truth_s(self) -> FloatArray | None:
        """The emulated chip's hidden conductances; None for a real one."""
        return self.raw.truth_s()


def _price(pulse: Pulse, bias: Bias, compliance_a: float) -> Cost:
    level, joule_per_volt = levels(bias, pulse.amplitude_v), compliance_a * pulse.duration_s
    cell_j = abs(level.cell_v) * joule_per_volt
    if bias is Bias.ISOLATED:
        return Cost(cell_j, 0.0, 0.0, 0.0)
    row_j, col_j, rest_j = (abs(v) * joule_per_volt for v in level.victims_v)
    return Cost(cell_j - row_j - col_j + rest_j, row_j - rest_j, col_j - rest_j, rest_j)


@compiled
def _largest(volts: Any) -> float:  # pragma: no cover - compiled
    """Largest magnitude; reads are checked in every step, and numpy would make an array of magnitudes first."""
    largest = 0.0
    for row in volts:
        for v in row:
            largest = max(largest, abs(v))
    return largest


def _dwell_s(read: Read) -> float:
    """How long one cell sees volts in a read, in seconds."""
    settled = 1 if isinstance(read, CellRead) else len(read.volts)
    return settled * read.integration_s * read.averages * (2 if read.both_polarities else 1)


def exposure(waveforms: Waveforms, threshold_v: float) -> Exposure:
    """Largest |V_row - V_col| at every cell, and how many separate times it exceeds `threshold_v`, towards either side.

    Exact, since extremes lie at breakpoints. Where both lines jump at one instant, the worse order is assumed:
    no generator switches two channels at once.
    """
    rows, row_of = _line_classes(waveforms.row_shape, waveforms.row_start_s)
    cols, col_of = _line_classes(waveforms.col_shape, waveforms.col_start_s)
    bounds = np.cumsum([0] + [len(shape.t_s) for shape in waveforms.shapes])
    t_s = np.concatenate([shape.t_s for shape in waveforms.shapes])
    v = np.concatenate([shape.v for shape in waveforms.shapes])
    worst_v, above, below = _expose(t_s, v, bounds, rows, cols, threshold_v)
    cells = np.ix_(row_of, col_of)
    return Exposure(worst_v[cells], above[cells], below[cells])


def pulsed_cells(waveforms: Waveforms, span: DeviceSpan) -> int:
    """How many cells waveforms pulse: those that see more than a threshold where one is declared, else more than 2/3 of
    the largest voltage. A bench that cannot look into its chip says this."""
    worst_v = exposure(waveforms, 0.0).worst_v
    declared = [v for v in (span.threshold_v, span.threshold_depress_v) if not np.isnan(v)]
    return int((worst_v > min(declared, default=2 / 3 * float(worst_v.max()))).sum())


def _line_classes(index: Any, start_s: FloatArray) -> tuple[FloatArray, Any]:
    """Lines that carry the same shape from the same time on are computed once: (shape, start) [n, 2], and which."""
    lines = np.stack([index.astype(np.float64), np.where(index >= 0, start_s, 0.0)], axis=1)
    pairs, which = np.unique(lines, axis=0, return_inverse=True)
    return pairs, which.reshape(-1)


@compiled
def _when(at_s: float) -> float:  # pragma: no cover - compiled
    """An instant in picoseconds: 0.1 + 0.2 and 0.3 are one, and what comes first in one is nobody's promise."""
    return float(np.rint(at_s * 1e12))


@compiled
def _at(t_s: Any, v: Any, first: int, k: int, end: int, start_s: float, now: float) -> Any:  # pragma: no cover
    """One line at an instant: next breakpoint, volts just before and after, least and most volts at it."""
    if k == end or (k == first and _when(t_s[k] + start_s) > now):
        return k, 0.0, 0.0, 0.0, 0.0
    after = _when(t_s[k] + start_s)
    if after > now:
        before = _when(t_s[k - 1] + start_s)
        volts = v[k - 1] + (v[k] - v[k - 1]) * ((now - before) / (after - before))
        return k, volts, volts, volts, volts
    first_v, least, most = v[k], v[k], v[k]
    while k + 1 < end and _when(t_s[k + 1] + start_s) == now:
        k += 1
        least, most = min(least, v[k]), max(most, v[k])
    return k + 1, first_v, v[k], least, most


@compiled
def _expose(t_s: Any, v: Any, bounds: Any, rows: Any, cols: Any, threshold_v: float) -> Any:  # pragma: no cover
    """Walk the breakpoints of every pair of a row's and a column's waveform together."""
    worst_v = np.zeros((len(rows), len(cols)))
    above = np.zeros((len(rows), len(cols)), np.int64)
    below = np.zeros((len(rows), len(cols)), np.int64)
    for r in range(len(rows)):
        for c in range(len(cols)):
            found = _expose_pair(t_s, v, bounds, rows[r], cols[c], threshold_v)
            worst_v[r, c], above[r, c], below[r, c] = found
    return worst_v, above, below


@compiled
def _expose_pair(t_s: Any, v: Any, bounds: Any, row: Any, col: Any, threshold_v: float) -> Any:  # pragma: no cover
    worst_v, ups, downs, above, below = 0.0, 0, 0, False, False
    i0 = i1 = j0 = j1 = 0
    if row[0] >= 0:
        i0, i1 = bounds[int(row[0])], bounds[int(row[0]) + 1]
    if col[0] >= 0:
        j0, j1 = bounds[int(col[0])], bounds[int(col[0]) + 1]
    i, j = i0, j0
    while i < i1 or j < j1:
        now = min(_when(t_s[i] + row[1]) if i < i1 else np.inf, _when(t_s[j] + col[1]) if j < j1 else np.inf)
        i, row_before, row_after, row_least, row_most = _at(t_s, v, i0, i, i1, row[1], now)
        j, col_before, col_after, col_least, col_most = _at(t_s, v, j0, j, j1, col[1], now)
        before, after = row_before - col_before, row_after - col_after
        least, most = row_least - col_most, row_most - col_least
        worst_v = max(worst_v, most, -least)
        ups += _begins(above, before, after, least, most, threshold_v)
        downs += _begins(below, -before, -after, -most, -least, threshold_v)
        above, below = after > threshold_v, after < -threshold_v
    return worst_v, ups, downs


@compiled
def _begins(
    was: bool, before: float, after: float, least: float, most: float, threshold_v: float
) -> int:  # pragma: no cover - compiled
    """How many times the voltage rises above the threshold since the last instant and at this one."""
    rises = 1 if before > threshold_v and not was else 0
    if before <= threshold_v:
        return rises + (1 if most > threshold_v else 0)
    return rises + (1 if least <= threshold_v and after > threshold_v else 0)


@compiled
def _book(
    axis: int, line: Any, indptr: Any, cross: Any, repeat: Any, sign: int,
    cell_j: float, along_row_j: float, along_col_j: float, rest_j: float, pulses: Any, energy_j: Any,
    row_selects: Any, col_selects: Any, row_j: Any, col_j: Any, everywhere_j: Any, cell_state: Any,
) -> int:  # fmt: skip  # pragma: no cover - compiled
    """Add (sign +1) or take back (-1) what the shots do to every cell and line.

    Answers how many pulses follow each other, negative if one of them hits an excluded cell.
    """
    done, dead = 0, False
    for k in range(len(line)):
        done += repeat[k]
        everywhere_j[0] += sign * repeat[k] * rest_j
    if axis == 0:
        own, crossed = (row_selects, row_j, along_row_j), (col_selects, col_j, along_col_j)
        dead = _book_lines(line, indptr, cross, repeat, sign, cell_j, pulses, energy_j, cell_state, *own, *crossed)
    else:
        own, crossed = (col_selects, col_j, along_col_j), (row_selects, row_j, along_row_j)
        cells = pulses.T, energy_j.T, cell_state.T
        dead = _book_lines(line, indptr, cross, repeat, sign, cell_j, *cells, *own, *crossed)
    return -1 - done if dead else done


@compiled
def _book_lines(
    line: Any, indptr: Any, cross: Any, repeat: Any, sign: int, cell_j: float, pulses: Any, energy_j: Any,
    cell_state: Any, own_selects: Any, own_j: Any, along_own_j: float, selects: Any, line_j: Any, along_j: float,
) -> bool:  # fmt: skip  # pragma: no cover - compiled
    """Book the shots line by line, `pulses` and its likes indexed [line, crossing line]; whether a cell is excluded."""
    dead = False
    for k in range(len(line)):
        n, i, first, last = sign * repeat[k], line[k], indptr[k], indptr[k + 1]
        own_selects[i] += n
        own_j[i] += n * along_own_j
        if last - first == pulses.shape[1]:  # the whole line: no index to look up, so many cells are done at once
            for j in range(pulses.shape[1]):
                pulses[i, j] += n
                selects[j] += n
                line_j[j] += n * along_j
                dead |= cell_state[i, j] >= EXCLUDED
                if cell_j != 0.0:
                    energy_j[i, j] += n * cell_j
        else:
            for p in range(first, last):
                j = cross[p]
                pulses[i, j] += n
                selects[j] += n
                line_j[j] += n * along_j
                dead |= cell_state[i, j] >= EXCLUDED
                if cell_j != 0.0:
                    energy_j[i, j] += n * cell_j
    return dead
