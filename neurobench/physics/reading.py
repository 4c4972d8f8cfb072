"""From volts on the lines to currents at the ammeters: one way for every backend behind which a chip is simulated.

    reader = Reader(chip, readout, ohm)
    reading = reader.sense(read)              the whole way: voltage converter, array, noise, current converter, time
    raw = reader.cell_currents(...)           without converters and time, for a bench that has its own

Nothing here disturbs a device; every read takes one index of the chip's read noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurobench.bench.crossbar import Reading
from neurobench.bench.stimulus import Direction, FloatArray, LineState, LineStates, VectorRead
from neurobench.errors import UsageError
from neurobench.physics import kernels
from neurobench.physics.circuit import input_volts
from neurobench.physics.noise import Stream, key
from neurobench.physics.readout import ReadNoise

if TYPE_CHECKING:
    from neurobench.bench.stimulus import CellRead, Read
    from neurobench.physics.chip import Chip
    from neurobench.physics.readout import Readout


# Currents with the devices' noise, before any converter ([polarity, cells] or [polarity, vector, output], in ampere);
# the mean variance of their noise in A^2; the power of all levels in watt. No class: it is on the path of a loop.
Raw = tuple[FloatArray, float, float]


class Reader:
    """Reads one chip through one readout, with `ohm` of source and series resistance in every driven line."""

    def __init__(self, chip: Chip, readout: Readout, ohm: float = 0.0) -> None:
        self._chip, self._readout, self._ohm = chip, readout, ohm
        self._key = key(chip.seed, Stream.READ)

    def noise(self) -> tuple[float, float]:
        """Read noise of one device that this bench sees: sigma in siemens, and sigma relative to G."""
        model = self._chip.model
        if not self._readout.noise:
            return 0.0, 0.0
        return model.read_sigma_s * self._chip.devices.noise_scale, model.read_sigma_relative

    def sense(self, read: Read) -> Reading:
        """A read as an ideal bench of these converters does it; the chip's clock moves by its integration."""
        chip, readout = self._chip, self._readout
        start_s = chip.counters.clock_s
        if isinstance(read, VectorRead):
            volts, over = readout.drive(read.volts)
            currents_a, variance, power_w = self.vector_currents(read, volts)
            levels = len(volts)
        else:
            level, over = readout.drive(np.array([read.voltage_v]))
            currents_a, variance, power_w = self.cell_currents(read, float(level[0]))
            levels = currents_a.shape[1]
        flags = readout.convert(currents_a) + ("dac_over_range",) * over
        each_s = read.integration_s * read.averages * (1 + read.both_polarities)
        chip.advance(levels * each_s)
        sigma_a, now_s = readout.sigma_a(variance), chip.counters.clock_s
        return Reading(currents_a, sigma_a, readout.range_a, start_s, now_s, power_w * each_s, flags)

    def cell_currents(self, read: CellRead, volts: float, index: int | None = None) -> Raw:
        """Cells in row-major order at `volts`, polarity 1 at -volts, all other lines at 0 V; index: of the noise.

        The noise of a cell depends on its place and polarity alone: a mask may be read in parts under one index.
        """
        chip = self._chip
        if read.mask.shape != chip.shape:
            raise UsageError(f"the mask is for {read.mask.shape} cells, the chip has {chip.shape}")
        currents = np.empty((1 + read.both_polarities, int(np.count_nonzero(read.mask))))
        absolute, relative = self.noise()
        variance, power_w = kernels.read_cells(
            read.mask, chip.conductance_s(), chip.row_conductance_s(), self._ohm, volts, absolute**2 / read.averages,
            relative**2 / read.averages, *self._key, chip.next_read() if index is None else index, currents,
        )  # fmt: skip
        return currents, variance, power_w

    def vector_currents(self, read: VectorRead, volts: FloatArray) -> Raw:
        """Products of volts[n, inputs], which stand on the lines instead of read.volts, with the array."""
        chip, forward = self._chip, read.direction is Direction.ROWS_TO_COLS
        g = chip.conductance_s() if forward else chip.conductance_s().T
        line_s = chip.row_conductance_s() if forward else chip.col_conductance_s()
        inputs, outputs = self._lines(read, g.shape)
        if volts.shape[1] != inputs.stop - inputs.start:
            raise UsageError(
                f"vectors of {volts.shape[1]} volts on {inputs.stop - inputs.start} input lines ({read.direction})"
            )
        if self._ohm or read.idle is LineState.FLOATING:
            volts = self._solved(read, volts, g, inputs, outputs)
            inputs = slice(0, len(g))
        if read.region is not None:
            g, line_s = g[inputs, outputs], line_s[inputs]
        currents = np.empty((1 + read.both_polarities, len(volts), g.shape[1]))
        np.matmul(volts, g, out=currents[0])
        if read.both_polarities:
            np.negative(currents[0], out=currents[1])
        variance = self._noisy(currents, volts, g, read.averages)
        return currents, variance, kernels.read_power(volts, line_s)

    def _lines(self, read: VectorRead, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """Input and output lines of a vector read."""
        if read.region is None:
            return slice(0, shape[0]), slice(0, shape[1])
        rows, cols = read.region.slices
        inputs, outputs = (rows, cols) if read.direction is Direction.ROWS_TO_COLS else (cols, rows)
        if inputs.stop > shape[0] or outputs.stop > shape[1]:
            raise UsageError(f"{read.region} does not lie inside the array of {self._chip.shape}")
        return inputs, outputs

    def _solved(self, read: VectorRead, volts: FloatArray, g: FloatArray, inputs: slice, outputs: slice) -> FloatArray:
        """Voltages [n, all input-side lines] behind the source's resistance, floating lines solved.

        The noise of devices on a floating line's path is that of its own line voltage only.
        """
        state = [np.full(n, read.idle, np.int8) for n in g.shape]
        state[0][inputs], state[1][outputs] = LineState.DRIVEN, LineState.VIRTUAL_GROUND
        given = np.zeros((len(volts), len(g)))
        given[:, inputs] = volts
        lines = LineStates(state[0], given[0], state[1], np.zeros(g.shape[1]))
        return input_volts(lines, given, g, self._ohm)

    def _noisy(self, currents: FloatArray, volts: FloatArray, g: FloatArray, averages: int) -> float:
        index, (absolute, relative) = self._chip.next_read(), self.noise()
        if not (absolute or relative):
            return 0.0
        return ReadNoise(absolute, relative, averages).add(currents, volts, g, self._key, index)
