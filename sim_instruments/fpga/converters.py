"""The board's converters in a read: levels out, codes in, with mismatch between lines and levels that settle.

Rules of this simulation, which are no measurements:
- A read level settles with settle_tau_s from what its line had before (0 V at first); the conversion takes the value
  that stands when it begins.
- All output lines convert at once. `averages` conversions are one conversion of noise with variance / averages, times
  `averages`: the emulator's rule, and with settled levels and no mismatch its bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import exp
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurobench.bench.stimulus import CellRead, Direction, LineState, Region, VectorRead
from neurobench.physics.reading import Reader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from neurobench.bench.stimulus import BoolArray, FloatArray
    from neurobench.physics.chip import Chip
    from neurobench.physics.readout import Readout

    from .program import ReadProgram
    from .wire import Hardware

SETTLED = 2.0**-60  # of a step: far below rounding
MISMATCH = 0xB0A4D  # told apart from every other use of the chip's seed


@dataclass(frozen=True)
class Mismatch:
    """Gains of every line, word lines first, and the zeros of their current converters in amperes."""

    pulse_gain: FloatArray
    read_gain: FloatArray
    adc_gain: FloatArray
    adc_zero_a: FloatArray

    @classmethod
    def drawn(cls, seed: int, lines: int, spreads: tuple[float, float, float, float]) -> Mismatch:
        """The converters of one board; spreads: standard deviations, in the order above."""
        draws = np.random.default_rng([seed % 2**64, MISMATCH]).standard_normal((4, lines))
        pulse, read, adc, zero_a = (spread * z for spread, z in zip(spreads, draws, strict=True))
        return cls(1 + pulse, 1 + read, 1 + adc, zero_a)

    @cached_property
    def of_pulses(self) -> bool:
        """Whether pulse levels differ from line to line."""
        return bool((self.pulse_gain != 1).any())


class Converted(NamedTuple):
    """Samples in the order of the wire; which of them were out of range; how many each level brings; and the voltages
    [rows, cols] at the cells during each level, where they are beyond a reading level, else nothing."""

    sums: NDArray[np.int64]
    over: BoolArray
    per_level: NDArray[np.int64]
    loud: tuple[FloatArray, ...]


class Converters:
    """Reads one chip. `reading_v`: up to which voltage at a cell nobody need be told. tau_s: how levels settle."""

    def __init__(
        self, chip: Chip, hardware: Hardware, readout: Readout, mismatch: Mismatch, *, ohm: float, tau_s: float,
        reading_v: float,
    ) -> None:  # fmt: skip
        self._chip, self._hardware, self._readout, self._mismatch = chip, hardware, readout, mismatch
        self._reader, self._reading_v = Reader(chip, readout, ohm), reading_v
        self._unsettled = exp(-hardware.settle / hardware.clock_hz / tau_s) if tau_s else 0.0

    def convert(self, read: ReadProgram) -> Converted:
        """All samples of a read, with the conductances and the noise of now; takes one index of the read noise."""
        return self._convert_vectors(read) if read.mask is None else self._convert_cells(read, read.mask)

    def _convert_cells(self, read: ReadProgram, chosen: BoolArray) -> Converted:
        row0, rows, col0, cols = read.region
        mask = np.zeros(self._chip.shape, np.bool_)
        mask[row0 : row0 + rows, col0 : col0 + cols] = chosen
        index = self._chip.next_read()
        if not mask.any():
            return Converted(np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0, np.int64), ())
        levels_v = self._cell_levels(read)
        currents_a = self._cell_currents(read, mask, levels_v, index)
        row_of, col_of = np.nonzero(mask)
        polarity = np.arange(1 + read.both)[:, None]
        keys = np.broadcast_arrays(col_of[None, :], polarity, row_of[None, :])
        order = np.lexsort([key.ravel() for key in keys])
        sums, over = self._digital(currents_a, self._chip.shape[0] + col_of, read.averages)
        used = np.flatnonzero(mask.any(axis=1))
        per_level = np.repeat(mask.sum(axis=1)[used], 1 + read.both)
        loud = self._loud_rows(used, levels_v)
        return Converted(sums.ravel()[order], over.ravel()[order], per_level.astype(np.int64), loud)

    def _cell_levels(self, read: ReadProgram) -> FloatArray:
        """Volts [polarity, row] of every word line when its cells are converted."""
        wanted_v = float(read.levels[0]) * self._hardware.read_step_v * self._mismatch.read_gain[: self._chip.shape[0]]
        return self._settled(np.stack([wanted_v, -wanted_v][: 1 + read.both]))

    def _settled(self, wanted_v: FloatArray) -> FloatArray:
        """Levels [step, line] one after another, each as far as it has come from the one before; the first from 0."""
        if self._unsettled < SETTLED:
            return wanted_v
        reached_v, before_v = np.empty_like(wanted_v), np.zeros(wanted_v.shape[1])
        for k, target_v in enumerate(wanted_v):
            before_v = reached_v[k] = target_v + (before_v - target_v) * self._unsettled
        return reached_v

    def _cell_currents(self, read: ReadProgram, mask: BoolArray, levels_v: FloatArray, index: int) -> FloatArray:
        """[polarity, cells], in row-major order of mask."""
        asked = CellRead(mask, 1.0, read.both, averages=read.averages)
        mirrored = not read.both or np.array_equal(levels_v[1], -levels_v[0])
        if mirrored and (levels_v[0] == levels_v[0, 0]).all():
            return self._reader.cell_currents(asked, float(levels_v[0, 0]), index)[0]
        parts = []
        for row in np.flatnonzero(mask.any(axis=1)).tolist():
            own = np.zeros_like(mask)
            own[row] = mask[row]
            one = CellRead(own, 1.0, read.both, averages=read.averages)
            at = [
                self._reader.cell_currents(one, (1 - 2 * p) * float(levels_v[p, row]), index)[0][p]
                for p in range(1 + read.both)
            ]
            parts.append(np.stack(at))
        return np.concatenate(parts, axis=1)

    def _loud_rows(self, used: NDArray[np.intp], levels_v: FloatArray) -> tuple[FloatArray, ...]:
        if float(np.abs(levels_v).max()) <= self._reading_v:
            return ()
        found = []
        for row in used.tolist():
            for level_v in levels_v[:, row].tolist():
                cell_v = np.zeros(self._chip.shape)
                cell_v[row] = level_v
                found.append(cell_v)
        return tuple(found)

    def _convert_vectors(self, read: ReadProgram) -> Converted:
        row0, rows, col0, cols = read.region
        total_rows = self._chip.shape[0]
        inputs, outputs = np.arange(row0, row0 + rows), total_rows + np.arange(col0, col0 + cols)
        if read.backward:
            inputs, outputs = outputs, inputs
        gained_v = read.levels * self._hardware.read_step_v * self._mismatch.read_gain[inputs]
        polarities = 1 + read.both
        wanted_v = np.stack([gained_v, -gained_v][:polarities], axis=1)  # [n, polarity, inputs]
        levels_v = self._settled(wanted_v.reshape(-1, len(inputs))).reshape(wanted_v.shape)
        currents_a = self._vector_currents(read, levels_v)
        sums, over = self._digital(currents_a, outputs, read.averages)
        order = (1, 0, 2)
        per_level = np.full(len(read.levels) * polarities, read.outputs, np.int64)
        loud = self._loud_vectors(levels_v.reshape(-1, len(inputs)), inputs)
        return Converted(sums.transpose(order).ravel(), over.transpose(order).ravel(), per_level, loud)

    def _vector_currents(self, read: ReadProgram, levels_v: FloatArray) -> FloatArray:
        """[polarity, n, outputs] of levels_v[n, polarity, inputs]."""
        row0, rows, col0, cols = read.region
        region = Region(row0, row0 + rows, col0, col0 + cols)
        mirrored = not read.both or np.array_equal(levels_v[:, 1], -levels_v[:, 0])
        volts = levels_v[:, 0] if mirrored else levels_v.transpose(1, 0, 2).reshape(-1, levels_v.shape[2])
        asked = VectorRead(
            volts, Direction.COLS_TO_ROWS if read.backward else Direction.ROWS_TO_COLS,
            None if region.shape == self._chip.shape else region, read.both and mirrored, averages=read.averages,
            idle=LineState.FLOATING if read.floating else LineState.GROUNDED,
        )  # fmt: skip
        currents_a = self._reader.vector_currents(asked, np.ascontiguousarray(volts))[0]
        return currents_a.reshape(1 + read.both, len(levels_v), -1)

    def _loud_vectors(self, levels_v: FloatArray, inputs: NDArray[np.intp]) -> tuple[FloatArray, ...]:
        if float(np.abs(levels_v).max()) <= self._reading_v:
            return ()
        line_v = np.zeros((len(levels_v), sum(self._chip.shape)))
        line_v[:, inputs] = levels_v
        rows = self._chip.shape[0]
        return tuple(line[:rows, None] - line[None, rows:] for line in line_v)

    def _digital(
        self, currents_a: FloatArray, lines: NDArray[np.intp], averages: int
    ) -> tuple[NDArray[np.int64], BoolArray]:
        """Sums of codes, and where a conversion was out of range; lines: of the last axis."""
        m, readout = self._mismatch, self._readout
        seen_a = np.ascontiguousarray(currents_a * m.adc_gain[lines] + m.adc_zero_a[lines])
        over: BoolArray = np.abs(seen_a + readout.offset_a) > readout.range_a
        readout.convert(seen_a)
        return np.rint(seen_a / readout.lsb_a).astype(np.int64) * averages, over
