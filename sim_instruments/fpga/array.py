"""The chip behind the board's line switches, and what it feels of every pulse.

Rules of this simulation, which are no measurements:
- A pulse is felt when it ends, with the voltages of its lines for the time that it was on. Edges are no levels.
- A line's level is its code times the converter's step times the line's own gain ([board.simulation] *_spread). A line
  of code 0 is grounded; every other one is driven behind bench.source_ohm + bench.series_ohm.
- A waveform is made of pulses: every stretch in which the voltage of a cell is constant and beyond its reading level.
  A device with a rate model integrates its samples instead, and the whole waveform is one pulse.
- A read level up to the device's reading level does nothing; one beyond it is an exposure like any other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from math import nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurobench.bench.stimulus import Bias, LineState, LineStates, Pulse, Shots
from neurobench.errors import Refused
from neurobench.physics.circuit import Law, solve, tabulated_law
from neurobench.physics.stress import Stress

from ..world.world import KEPT_EXPOSURES, Damage, Exposure
from .program import Program, PulseProgram, Shot, WaveProgram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from neurobench.bench.stimulus import BoolArray, FloatArray, IndexArray
    from neurobench.physics.chip import Chip
    from neurobench.physics.stress import Felt

    from .converters import Mismatch
    from .wire import Hardware

KEPT_LIT = 4096  # kinds of pulses
KEPT_LAWS = 64


class _Lit(NamedTuple):
    """One kind of pulse: voltages at its four places, the largest, and which of the three victims notice anything."""

    volts: tuple[float, float, float, float]
    largest_v: float
    victims: tuple[bool, bool, bool]


class Array:
    """The chip behind the board's switches. `ohm`: resistance in every driven line while pulsing and reading."""

    def __init__(
        self, chip: Chip, hardware: Hardware, mismatch: Mismatch, *, ohm: float, potentiating_sign: int
    ) -> None:
        self.chip, self._hardware, self._mismatch = chip, hardware, mismatch
        self._ohm, self._sign, self._stress = ohm, potentiating_sign, Stress(chip, potentiating_sign)
        self._began_s = chip.counters.clock_s
        self._lit: dict[tuple[tuple[int, int, int, int], int, float], _Lit] = {}
        self._laws: dict[float, Law] = {}  # by the largest voltage that they hold for
        self.ledger: deque[Exposure] = deque(maxlen=KEPT_EXPOSURES)
        self.damage: list[Damage] = []
        self.unknown = 0
        self.unsaved = False

    @property
    def reading_v(self) -> float:
        """Largest |V| that leaves a cell as it is."""
        return self._stress.reading_v

    def age(self, now_s: float) -> None:
        """The chip's clock follows the board's."""
        self.chip.advance(max(self._began_s + now_s - self.chip.counters.clock_s, 0.0))

    # -- what the chip has an answer to --------------------------------------------------------------------------

    def refusal(self, program: Program) -> str:
        """Why the emulated chip has no answer to a program; empty if it has one."""
        try:
            if isinstance(program, WaveProgram):
                self._ask_wave(program)
            else:
                self._ask_pulses(program)
        except Refused as refused:
            return str(refused)
        return ""

    def _ask_pulses(self, program: PulseProgram) -> None:
        seconds = program.width / self._hardware.clock_hz
        for sign in {record.sign for record in program.records if record.bits.any()}:
            selected, *others = (self._volts(code) for code in program.at(sign))
            if abs(selected) > self._stress.reading_v:
                self._ask(selected, seconds)
            for volts in others:
                self._ask_victim(volts, abs(selected), seconds)
        if self.chip.model.end == "refuse":
            self.chip.room_left(_as_shots(program, self.chip.shape))

    def _ask_victim(self, volts: float, selected_v: float, seconds: float) -> None:
        if abs(volts) <= self._stress.reading_v:
            return
        if abs(volts) >= selected_v * (1 - 1e-6):  # it is written, whatever it is called
            self._ask(volts, seconds)
        else:
            self.chip.model.disturb(1 if volts * self._sign > 0 else -1, abs(volts), seconds)

    def _ask_wave(self, program: WaveProgram) -> None:
        if self.chip.model.rate is not None:  # it has an answer to every voltage
            return
        up = np.zeros(self.chip.shape, np.int32)
        for places, volts, _, ticks in self._stretches(program):
            if abs(volts) > self._stress.reading_v:
                self._ask(volts, ticks / self._hardware.clock_hz)
                up += places & (volts * self._sign > 0)
        self.chip.room_for(up.ravel())

    def _ask(self, volts: float, seconds: float) -> None:
        """Raise OutsideHull or CapabilityMissing where the device does not know this pulse."""
        self.chip.model.response(1 if volts * self._sign > 0 else -1, abs(volts), seconds)

    def _volts(self, code: int) -> float:
        return code * self._hardware.pulse_step_v

    # -- pulses --------------------------------------------------------------------------------------------------

    def pulse(self, program: PulseProgram, shot: Shot, ticks: int, start_s: float) -> None:
        """A pulse of this shot has ended that was on for so many ticks."""
        seconds = ticks / self._hardware.clock_hz
        if self._ohm or self._mismatch.of_pulses:
            self._expose(self._solved_v(program, shot), seconds, start_s, rounded=bool(self._ohm))
            self._stress.calm()
            return
        lit = self._lit_by(program, shot.sign, seconds)
        if lit.largest_v <= self._stress.reading_v:
            return
        self.age(start_s)
        felt = self._stress.expose_cells(self._groups(program, shot, lit), lit.largest_v, seconds)
        self._note(felt, seconds, start_s, lit.largest_v)

    def _lit_by(self, program: PulseProgram, sign: int, seconds: float) -> _Lit:
        key = program.levels, sign, seconds
        found = self._lit.get(key)
        if found is None:
            first, *rest = (self._volts(code) for code in program.at(sign))
            # A place that has no cell is no voltage: but then nobody is there to notice either.
            largest_v = max(abs(v) for v in (first, *rest))
            a, b, c = (self._stress.notices(v, largest_v, seconds) for v in rest)
            if len(self._lit) > KEPT_LIT:
                self._lit.clear()
            found = self._lit[key] = _Lit((first, rest[0], rest[1], rest[2]), largest_v, (a, b, c))
        return found

    def _groups(self, program: PulseProgram, shot: Shot, lit: _Lit) -> list[tuple[float, IndexArray]]:
        """Which cells see which voltage."""
        cols = self.chip.shape[1]
        own = shot.line * cols + shot.cross if program.axis == 0 else shot.cross * cols + shot.line
        groups = [(lit.volts[0], own.astype(np.int32))] if lit.volts[0] else []
        if any(lit.victims):
            place = self._places(program.axis, shot)
            for k, notices in enumerate(lit.victims, start=1):
                cells = np.flatnonzero(place == k).astype(np.int32) if notices else ()
                groups += [(lit.volts[k], cells)] if len(cells) else []  # type: ignore[list-item]
        return groups

    def _places(self, axis: int, shot: Shot) -> NDArray[np.int8]:
        """0 selected, 1 on the selected row, 2 on a selected column, 3 on neither, flat."""
        row_on, col_on = self._selected(axis, shot)
        places: NDArray[np.int8] = (3 - 2 * row_on[:, None] - col_on[None, :]).ravel()
        return places

    def _selected(self, axis: int, shot: Shot) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        on = np.zeros(self.chip.shape[0], np.int8), np.zeros(self.chip.shape[1], np.int8)
        on[axis][shot.line] = 1
        on[1 - axis][shot.cross] = 1
        return on

    def _solved_v(self, program: PulseProgram, shot: Shot) -> FloatArray:
        """Voltages at the cells, each line with its own gain, behind `ohm` if there is any."""
        rs, ru, cs, cu = program.levels if shot.sign == 1 else tuple(-level for level in program.levels)
        row_on, col_on = self._selected(program.axis, shot)
        return self._across(np.where(row_on, rs, ru), np.where(col_on, cs, cu))

    def _across(self, row_codes: NDArray[np.int64], col_codes: NDArray[np.int64]) -> FloatArray:
        rows, step_v = self.chip.shape[0], self._hardware.pulse_step_v
        row_v = row_codes * step_v * self._mismatch.pulse_gain[:rows]
        col_v = col_codes * step_v * self._mismatch.pulse_gain[rows:]
        if not self._ohm:
            difference: FloatArray = row_v[:, None] - col_v[None, :]
            return difference
        states = LineStates(_driven(row_v), row_v, _driven(col_v), col_v)
        span_v = float(max(row_v.max(), col_v.max()) - min(row_v.min(), col_v.min()))
        law = self._law(span_v) if span_v > self._stress.reading_v else None
        return solve(states, self.chip.conductance_s(), self._ohm, law).cell_v

    def _law(self, span_v: float) -> Law:
        found = self._laws.get(span_v)
        if found is None:
            if len(self._laws) >= KEPT_LAWS:
                self._laws.clear()
            model = self.chip.model
            found = self._laws[span_v] = tabulated_law(lambda v: model.write_current_factor(v) or nan, span_v)
        shorted = self.chip.devices.shorted.reshape(self.chip.shape)
        return Law(found.factor, found.slope, shorted) if shorted.any() else found

    # -- waveforms -----------------------------------------------------------------------------------------------

    def wave(self, program: WaveProgram, ticks: int, start_s: float) -> None:
        """A waveform has ended after so many ticks: every stretch of constant cell voltage was a pulse."""
        rows, cols = program.sides()
        n, rest = divmod(ticks, program.period)
        lasted = np.full(min(n + (rest > 0), len(rows)), program.period)
        if rest and n < len(rows):
            lasted[-1] = rest
        rate = self.chip.model.rate is not None
        if not (rate or self._ohm or self._mismatch.of_pulses):
            for places, volts, at, length in self._stretches(program, lasted):
                self._expose(np.where(places, volts, 0.0), length / self._hardware.clock_hz, start_s + at)
            return
        for k, each in enumerate(lasted.tolist()):  # solved voltages differ from sample to sample anyway
            cell_v = self._across(rows[k, program.rows], cols[k, program.cols])
            at_s = start_s + k * program.period / self._hardware.clock_hz
            self._expose(cell_v, each / self._hardware.clock_hz, at_s, rounded=True)
        self._stress.calm(share=0.0)

    def _stretches(
        self, program: WaveProgram, lasted: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[BoolArray, float, float, int]]:
        """Cells [rows, cols], their volts, when it begins in seconds, ticks: for all but 0 V, in the order of ends."""
        lasted = np.full(len(program.samples), program.period) if lasted is None else lasted
        ends, found = np.cumsum(lasted), []
        rows, cols = program.sides()
        for a in np.unique(program.rows).tolist():
            for b in np.unique(program.cols).tolist():
                code = (rows[:, a] - cols[:, b])[: len(lasted)]
                cells = (program.rows == a)[:, None] & (program.cols == b)[None, :]
                edges = [0, *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(code)]
                for first, last in pairwise(edges):
                    if last > first and code[first]:
                        begin = int(ends[first] - lasted[first])
                        found.append((int(ends[last - 1]), begin, cells, self._volts(int(code[first]))))
        for end, begin, cells, volts in sorted(found, key=lambda one: one[:2]):
            yield cells, volts, begin / self._hardware.clock_hz, end - begin

    # -- what the chip feels -------------------------------------------------------------------------------------

    def _expose(self, cell_v: FloatArray, seconds: float, start_s: float, *, rounded: bool = False) -> None:
        largest_v = float(np.abs(cell_v).max())
        if largest_v > self._stress.reading_v:
            self.age(start_s)
            self._note(self._stress.expose(cell_v, seconds, rounded=rounded), seconds, start_s, largest_v)

    def _note(self, felt: Felt, seconds: float, start_s: float, largest_v: float) -> None:
        self.ledger.append(Exposure(start_s, seconds, largest_v, felt.pulsed, nan))
        self.damage += [Damage(start_s, w.cell, w.volts, w.seconds, w.why) for w in felt.wounds]
        self.unknown += felt.unknown
        self.unsaved = True

    def looked(self, loud: tuple[FloatArray, ...], ticks: int, start_s: float) -> None:
        """Levels of a read have stood one after another, each for so long: what is beyond a reading level is felt."""
        seconds = ticks / self._hardware.clock_hz
        for k, cell_v in enumerate(loud):
            self._expose(cell_v, seconds, start_s + k * seconds)
            self._stress.calm()


def _driven(line_v: FloatArray) -> NDArray[np.int8]:
    """A line of level 0 is grounded, and nothing is in its way."""
    return np.where(line_v != 0, LineState.DRIVEN, LineState.GROUNDED).astype(np.int8)


def _as_shots(program: PulseProgram, shape: tuple[int, int]) -> Shots:
    """The same shots as the chip's own account takes them."""
    every = list(program.shots())
    indptr = np.cumsum([0, *(len(shot.cross) for shot in every)]).astype(np.int32)
    cross = np.concatenate([np.zeros(0, np.int32), *(shot.cross for shot in every)]).astype(np.int32)
    sign = np.array([1 if shot.sign == 1 else -1 for shot in every], np.int8)
    line, repeat = (np.array(v, np.int32) for v in ([s.line for s in every], [s.repeat for s in every]))
    return Shots(shape, Pulse(1.0, 1.0), Bias.HALF, 1, program.axis, line, indptr, cross, sign, repeat)
