"""The only place where a stimulus can be refused for the chip's sake: Limits, and the Guard that applies them.

Limits belong to the chip on the table, not to the algorithm. The Guard refuses, it never clips. It does not know
the conductances, so it bounds energy by V x compliance x time, victims included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit
from pydantic import BaseModel, ConfigDict, Field, model_validator

from neurobench.errors import CapabilityMissing, LimitExceeded, Refused

from .crossbar import Applied, Capabilities, Crossbar, Identity, NotDone, Outcome, Reading, Witness
from .steps import BenchView, DeviceSpan, Loop, LoopAnswer
from .stimulus import (
    Bias,
    BoolArray,
    CellRead,
    FloatArray,
    LineState,
    Play,
    PulseBatch,
    Read,
    Shape,
    ShotList,
    Shots,
    Stimulus,
    Waveforms,
    levels,
    shots,
)

if TYPE_CHECKING:
    from .passport import Passport

ROUNDING = 1 + 1e-9  # a limit of 1.3 V admits the float sum 0.65 + 0.65


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

    @property
    def line_v(self) -> float:
        """Largest |V| on a line, in volts."""
        return self.max_cell_v if self.max_line_v is None else self.max_line_v

    @property
    def victim_v(self) -> float:
        """Largest |V| at an unselected cell, in volts."""
        return self.max_cell_v / 2 if self.max_victim_v is None else self.max_victim_v


class Cost(NamedTuple):
    """Bounded energy of one pulse: at the selected cell, at its row mates, its column mates, and everywhere else."""

    cell_j: float
    row_j: float
    col_j: float
    rest_j: float


class Guard:
    """A crossbar behind its limits: what the runner works with, and the only way to the chip.

    `stage` checks and reserves the lifetime budgets, `fire` spends them. Nothing passes unchecked: stimuli, reads,
    loops, and what a resume replays into the budgets (`charge`).
    """

    def __init__(
        self, raw: Crossbar, limits: Limits, passport: Passport, span: DeviceSpan | None = None, bench_name: str = ""
    ) -> None:
        self.raw = raw
        self.limits = limits
        self.passport = passport
        self.span = DeviceSpan() if span is None else span
        self.bench_name = bench_name
        self.capabilities: Capabilities = raw.capabilities
        self._staged: ShotList | None = None
        self._staged_seq = -1
        self._reserved = False
        self._admitted: tuple[Any, ...] | None = None

    # -- what may be done ---------------------------------------------------------------------------------------

    def check(self, asked: Stimulus | Read | Loop) -> None:
        """Raise Refused if `asked` may not be done now; nothing is changed. For previews."""
        if isinstance(asked, Loop):
            self._check_loop(asked)
        elif isinstance(asked, PulseBatch | Waveforms):
            expanded = self._admit(asked)
            self._reserve(expanded)
            self._spend(expanded, -1)
        else:
            self._check_read(asked)

    def stage(self, seq: int, stimulus: Stimulus) -> Witness:
        """Check, reserve and stage; no volts. Staging again under any number drops the earlier reservation."""
        self._drop_reservation()
        if self.passport.unsettled:
            raise Refused(self.passport.unsettled_words())
        expanded = self._admit(stimulus)
        self._reserve(expanded)
        self._staged, self._staged_seq, self._reserved = expanded, seq, True
        try:
            return self.raw.stage(seq, expanded)
        except BaseException:
            self._drop_reservation()
            raise

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
        self._reserved = False
        return self.raw.fire(seq)

    def sense(self, read: Read) -> Reading:
        """Read, if the limits allow."""
        self._check_read(read)
        return self.raw.sense(read)

    def loop(self, seq: int, loop: Loop) -> LoopAnswer:
        """Run a loop in the backend, checked by its worst case, charged by what it did."""
        self._check_loop(loop)
        if self.passport.unsettled:
            raise Refused(self.passport.unsettled_words())
        answer = self.raw.loop(seq, loop)
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
        bounds = loop.program.bounds(loop.ticks)
        pulses = answer.potentiations.astype(np.int64) + answer.depressions
        width_s = max(bounds.potentiate.duration_s, bounds.depress.duration_s)
        volts = max(bounds.potentiate.amplitude_v, bounds.depress.amplitude_v)
        self.passport.life.add_cells(pulses, volts * (self.limits.compliance_a or 0.0) * width_s)

    def _cost(self, expanded: Shots) -> Cost:
        level = levels(expanded.bias, expanded.pulse.amplitude_v)
        scale = (self.limits.compliance_a or 0.0) * expanded.pulse.duration_s
        victims = (0.0, 0.0, 0.0) if expanded.bias is Bias.ISOLATED else level.victims_v
        return Cost(abs(level.cell_v) * scale, *(abs(v) * scale for v in victims))

    def _spend(self, expanded: ShotList, sign: int) -> None:
        if isinstance(expanded, Play):
            pulsed, energy_j = self._play_exposure(expanded.waveforms)
            self.passport.life.add_cells(sign * pulsed.astype(np.int64), 0.0)
            self.passport.life.energy_j += sign * energy_j
            return
        life, cost = self.passport.life, self._cost(expanded)
        _book(
            expanded.axis, expanded.line, expanded.indptr, expanded.cross, expanded.repeat, sign,
            cost, life.pulses, life.energy_j, life.row_selects, life.col_selects, life.row_j, life.col_j,
            life.everywhere_j,
        )  # fmt: skip

    def _reserve(self, expanded: ShotList) -> None:
        """Book and, if a budget would be passed, take back and refuse."""
        self._spend(expanded, 1)
        refusal = self.passport.life.refusal(self.limits)
        if refusal:
            self._spend(expanded, -1)
            raise LimitExceeded(f"{refusal} ({self._whose('max_pulses_per_cell', 'and the other per-cell budgets')})")

    def _drop_reservation(self) -> None:
        if self._reserved and self._staged is not None:
            self._spend(self._staged, -1)
        self._reserved = False

    # -- the rules ----------------------------------------------------------------------------------------------

    def _whose(self, field: str, more: str = "") -> str:
        return f"bench {self.bench_name or 'unnamed'}, limits.{field}{' ' + more if more else ''}"

    def _admit(self, stimulus: Stimulus) -> ShotList:
        """Check voltages, widths and capabilities; O(lines). An equal pulse under an equal bias is checked once."""
        if isinstance(stimulus, Waveforms):
            self._refuse_incapable(stimulus)
            self._check_waveforms(stimulus)
            return shots(stimulus, self.capabilities)
        key = (stimulus.pulse, stimulus.bias)
        if key != self._admitted:
            self._refuse_incapable(stimulus)
            self._check_pulse(stimulus)
            self._admitted = key
        expanded = shots(stimulus, self.capabilities)
        self._at_most(expanded.duration_s, self.limits.max_batch_s, "a batch of {} s", "max_batch_s")
        return expanded

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
        volts = abs(read.voltage_v) if isinstance(read, CellRead) else float(np.abs(read.volts).max())
        self._at_most(volts, self.limits.max_read_v, "a read at {} V", "max_read_v")
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
        allowed = limits.max_loop_pulses_per_cell
        self._at_most(bounds.pulses_per_cell, allowed, "a loop of up to {} pulses per cell", "max_loop_pulses_per_cell")
        self._check_loop_budget(loop)

    def _check_loop_budget(self, loop: Loop) -> None:
        bounds = loop.program.bounds(loop.ticks)
        worst = self.passport.life.copy()
        width_s = max(bounds.potentiate.duration_s, bounds.depress.duration_s)
        volts = max(bounds.potentiate.amplitude_v, bounds.depress.amplitude_v)
        per_pulse_j = volts * (self.limits.compliance_a or 0.0) * width_s
        worst.add_cells(np.full(self.capabilities.shape, bounds.pulses_per_cell, np.int64), per_pulse_j)
        refusal = worst.refusal(self.limits)
        if refusal:
            raise LimitExceeded(f"in the worst case of this loop, {refusal} ({self._whose('per-cell budgets')})")

    def _check_waveforms(self, waveforms: Waveforms) -> None:
        limits = self.limits
        self._at_most(waveforms.duration_s, limits.max_batch_s, "waveforms of {} s", "max_batch_s")
        line_v = max(float(np.abs(shape.v).max()) for shape in waveforms.shapes)
        self._at_most(line_v, limits.line_v, "{} V on a line", "max_line_v")
        if waveforms.shape != self.capabilities.shape:
            raise Refused(f"the waveforms are for {waveforms.shape} cells, the bench has {self.capabilities.shape}")
        worst = _worst_cell_v(waveforms)
        self._at_most(float(worst.max()), limits.max_cell_v, "waveforms that put {} V on a cell", "max_cell_v")
        self._at_most(waveforms.duration_s, limits.max_width_s, "waveforms of {} s", "max_width_s")

    def _play_exposure(self, waveforms: Waveforms) -> tuple[BoolArray, FloatArray]:
        """Which cells a play counts as pulsed (more than a read's volts), and the bound of each cell's energy."""
        worst = _worst_cell_v(waveforms)
        energy_j = worst * (self.limits.compliance_a or 0.0) * waveforms.duration_s
        pulsed: BoolArray = worst > self.limits.max_read_v
        return pulsed, energy_j

    # -- the rest of the contract -------------------------------------------------------------------------------

    def view(self) -> BenchView:
        """What a protocol may know."""
        passport = self.passport
        left = passport.life.pulses_left(self.limits)
        return BenchView(self.capabilities, self.limits, self.span, passport.excluded(), left)

    def identity(self) -> Identity:
        """Who is at the other end."""
        return self.raw.identity()

    def outcome(self, seq: int, witness: Witness) -> Outcome:
        """What became of `seq`; a pulse that was certainly not fired is given back if it was charged here."""
        found = self.raw.outcome(seq, witness)
        if isinstance(found, NotDone) and seq == self._staged_seq and self._staged is not None and not self._reserved:
            self._spend(self._staged, -1)
            self._staged_seq = -1
        return found

    def rest(self) -> None:
        """Outputs off, from any state and any thread."""
        self.raw.rest()

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
        """Put an emulated chip back."""
        self.raw.restore(snapshot)

    def truth_s(self) -> FloatArray | None:
        """The emulated chip's hidden conductances; None for a real one."""
        return self.raw.truth_s()


def _voltage(shape: Shape, start_s: float, t_s: FloatArray) -> FloatArray:
    return np.interp(t_s - start_s, shape.t_s, shape.v, left=0.0, right=0.0)


def _line_classes(index: Any, start_s: FloatArray) -> tuple[list[tuple[int, float]], Any]:
    pairs, which = np.unique(np.stack([index.astype(float), start_s], axis=1), axis=0, return_inverse=True)
    return [(int(i), float(s)) for i, s in pairs], which.reshape(-1)


def _worst_cell_v(waveforms: Waveforms) -> FloatArray:
    """Largest |V_row - V_col| at every cell [rows, cols]; exact, since the extremes lie at breakpoints.

    Each shape may jump (two breakpoints at one time), so both sides of every breakpoint are looked at.
    """
    rows, row_of = _line_classes(waveforms.row_shape, waveforms.row_start_s)
    cols, col_of = _line_classes(waveforms.col_shape, waveforms.col_start_s)
    worst = np.array([[_worst_pair_v(waveforms.shapes, r, c) for c in cols] for r in rows])
    cells: FloatArray = worst[np.ix_(row_of, col_of)]
    return cells


def _worst_pair_v(shapes: tuple[Shape, ...], row: tuple[int, float], col: tuple[int, float]) -> float:
    """Upper bound of |V_row - V_col| over time, exact but for jumps, where each side takes its worse value."""
    driven = [(shapes[i], start) for i, start in (row, col) if i >= 0]
    if not driven:
        return 0.0
    t_s = np.unique(np.concatenate([shape.t_s + start for shape, start in driven]))
    sides = [_both_sides(shapes[i], start, t_s) if i >= 0 else np.zeros((2, len(t_s))) for i, start in (row, col)]
    return float(np.abs(sides[0][:, None] - sides[1][None, :]).max())


def _both_sides(shape: Shape, start_s: float, t_s: FloatArray) -> FloatArray:
    """Voltage just before and just after every instant [2, t]; they differ only where the shape jumps."""
    reverse = Shape(shape.t_s[-1] - shape.t_s[::-1], shape.v[::-1])
    after = _voltage(shape, start_s, t_s)
    before = _voltage(reverse, 0.0, shape.t_s[-1] + start_s - t_s)
    exact = np.isin(t_s, shape.t_s + start_s)
    at = [shape.v[np.isclose(shape.t_s + start_s, t, rtol=0, atol=0)] for t in t_s[exact]]
    both = np.stack([before, after])
    both[0, exact] = [v.min() for v in at]
    both[1, exact] = [v.max() for v in at]
    return both


@njit(cache=True)
def _book(
    axis: int, line: Any, indptr: Any, cross: Any, repeat: Any, sign: int, cost: Any, pulses: Any, energy_j: Any,
    row_selects: Any, col_selects: Any, row_j: Any, col_j: Any, everywhere_j: Any,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Add (sign +1) or take back (-1) what the shots do to every cell and line."""
    for k in range(len(line)):
        n = sign * repeat[k]
        everywhere_j[0] += n * cost[3]
        if axis == 0:
            row_selects[line[k]] += n
            row_j[line[k]] += n * cost[1]
        else:
            col_selects[line[k]] += n
            col_j[line[k]] += n * cost[2]
        for p in range(indptr[k], indptr[k + 1]):
            i, j = (line[k], cross[p]) if axis == 0 else (cross[p], line[k])
            pulses[i, j] += n
            energy_j[i, j] += n * cost[0]
            if axis == 0:
                col_selects[j] += n
                col_j[j] += n * cost[2]
            else:
                row_selects[i] += n
                row_j[i] += n * cost[1]
