"""A matrix of weights on the crossbar: programmed by write-verify, multiplied by reads, changed by pulses, read back.

A weight is w = (G+ - G-) / (g_max - g_min), in [-1, 1], on a differential pair of cells; g_min and g_max are what is
declared of the devices. Networks, reservoirs and Hebbian learners are made of these. What is read: one product per call
(in the array where the bench multiplies, else cell by cell, and `where` says so). What is pulsed: single pulses of the
device's own kind. What stays on the host: nothing of the weight itself; a change smaller than a step is rounded
stochastically to whole pulses, so that many small changes have their mean.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from neurobench.bench.crossbar import Applied, Needs, Reading
from neurobench.bench.steps import BenchView, Sense, Step
from neurobench.bench.stimulus import Bias, BoolArray, FloatArray, require
from neurobench.errors import CapabilityMissing, UsageError

from .bias import choose_bias
from .quantised import MOST_PULSES, Quantiser, quantise
from .synapses import (
    Pairs,
    Pulses,
    ReadSettings,
    Where,
    Writes,
    adjacent,
    can_transpose,
    cell_read,
    fire,
    fit_range,
    grid_of,
    multiply,
    multiply_back,
    over_a,
    read_grid,
    refuse_cut,
    write_verify,
)

READ_V = 0.1  # where nothing is declared of the device
NEAR = 0.01  # of the window: to come nearer costs more pulses and reads than it gives
STROKES, CAUTION = 12, 0.6  # steps differ by device and state: better short of the target than beyond it


class Programmed(NamedTuple):
    """What `Matrix.write` did: the weights read back, pulses spent, and the weights that are not within tolerance."""

    weights: FloatArray
    pulses: int
    missed: int


@dataclass(slots=True)
class Matrix:
    """Weights w[inputs, outputs] on pairs of cells; made by `matrix`. `unit_s`: conductance of a weight of 1.

    `quantiser`: how changes of weights become pulses. `cost`: pulses and reads spent so far.
    """

    view: BenchView
    pairs: Pairs
    where: Where
    settings: ReadSettings
    using: Pulses
    bias: Bias
    writes: Writes
    unit_s: float
    floor_s: float
    quantiser: Quantiser
    cost: dict[str, float] = field(default_factory=lambda: {"pulses": 0.0, "reads": 0.0, "read_s": 0.0})

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs and outputs."""
        return len(self.pairs.rows), len(self.pairs.plus)

    @property
    def step(self) -> float:
        """Change of a weight by one potentiating pulse on one cell, in mid-range."""
        return self.quantiser.step_up

    @property
    def tolerance(self) -> float:
        """How near a written weight is to come: one step, two sigma of a read, or NEAR, whichever is largest."""
        sigma_s = self.view.device.read_sigma_s
        return max(self.step, 2 * sigma_s / self.unit_s if isfinite(sigma_s) else 0.0, NEAR)

    def fit_range(self, lines: int, asked: bool) -> Generator[Step, Any, None]:
        """Lower the read voltage until no column leaves the ammeter's range when `lines` inputs are driven at once.

        Where the host multiplies, cells are read one by one and only each for itself has to fit. UsageError where the
        read voltage was `asked` for and is too high (see `synapses.fit_range`).
        """
        cell = int(self.pairs.rows[0]), int(self.pairs.plus[0])
        driven = lines if self.where == "array" else 1
        self.settings = yield from fit_range(self.view, self.settings, cell, driven, asked)

    def multiply(self, x: FloatArray) -> Generator[Step, Any, FloatArray]:
        """y[n, outputs] = x[n, inputs] w, read through the bench: x in [-1, 1] times the read voltage."""
        x = np.atleast_2d(np.asarray(x, np.float64))
        require(x.shape[1] == self.shape[0], f"{x.shape[1]} inputs for a matrix of {self.shape[0]} x {self.shape[1]}")
        require(bool((np.abs(x) <= 1).all()), "inputs lie in [-1, 1]: 1 is the read voltage")
        if not x.any():
            return np.zeros((len(x), self.shape[1]))  # lines at 0 V: there is nothing to read
        product = yield from multiply(self.pairs, x * self.settings.read_v, self.where, self.settings)
        refuse_cut(product.over_a, self.settings.read_v)
        self.cost["reads"] += len(x)
        self.cost["read_s"] += product.end_s - product.start_s
        return product.currents_a / (self.settings.read_v * self.unit_s)

    def multiply_back(self, e: FloatArray, held: FloatArray | None = None) -> Generator[Step, Any, FloatArray]:
        """e[n, outputs] through the weights backwards, [n, inputs]: in the array where the bench can, else with `held`,
        the weights that were read last. Raises CapabilityMissing where there is neither."""
        in_array = can_transpose(self.view.capabilities) and self.where == "array"
        if not in_array and held is None:
            raise CapabilityMissing(
                "this bench does not multiply backwards; read the weights first and give them as held"
            )
        held_s = np.zeros(self.shape) if held is None else held * self.unit_s
        back = yield from multiply_back(self.pairs, np.atleast_2d(e), in_array, held_s, self.settings, self.cost)
        return back / self.unit_s

    def read(self) -> Generator[Step, Any, FloatArray]:
        """The weights [inputs, outputs], read back cell by cell."""
        return self.weights_of((yield from self.read_cells()))

    def read_cells(self) -> Generator[Step, Any, FloatArray]:
        """Conductances [rows, cols] of the whole array in siemens, nan outside this matrix."""
        read = cell_read(self.pairs.cells(), self.settings)
        reading: Reading = yield Sense(read)
        refuse_cut(over_a(reading), self.settings.read_v)
        self.cost["reads"] += int(read.mask.sum())
        return grid_of(read, reading)

    def weights_of(self, conductances_s: FloatArray) -> FloatArray:
        """Weights [inputs, outputs] out of conductances [rows, cols] in siemens."""
        return self.pairs.weights(conductances_s) / self.unit_s

    def targets_s(self, weights: FloatArray) -> FloatArray:
        """Conductances [rows, cols] in siemens that would be these weights.

        Both cells of a pair lie about the middle of the window, so that each can go both ways; with SET-only devices
        the smaller one stays at the floor, since what is given away there never comes back.
        """
        weights = np.asarray(weights, np.float64)
        require(weights.shape == self.shape, f"weights of {weights.shape} for a matrix of {self.shape}")
        require(bool((np.abs(weights) <= 1).all()), "weights lie in [-1, 1]: 1 is the devices' whole window")
        target, rows = np.zeros(self.pairs.shape), self.pairs.rows[:, None]
        plus, minus = np.maximum(weights, 0), np.maximum(-weights, 0)
        if self.writes == "set_reset":
            plus, minus = (1 + weights) / 2, (1 - weights) / 2
        target[rows, self.pairs.plus] = self.floor_s + plus * self.unit_s
        target[rows, self.pairs.minus] = self.floor_s + minus * self.unit_s
        return target

    def write(
        self, weights: FloatArray, tolerance: float | None = None, budget: int = 64
    ) -> Generator[Step, Any, Programmed]:
        """Program weights [inputs, outputs] by write-verify to `tolerance` (default: see `tolerance`).

        Devices that go both ways are brought near in few large strokes; SET-only ones pulse by pulse, at most `budget`
        of them. A SET-only cell above its target stays there: it counts as missed.
        """
        allowed = self.tolerance if tolerance is None else tolerance
        target, mask = self.targets_s(weights), self.pairs.cells() & self.pairs.usable
        before = self.cost["pulses"]
        if self.writes == "set_reset":
            yield from self._stroke(target, mask, allowed * self.unit_s)
        else:
            yield from self._creep(target, mask, allowed * self.unit_s, budget)
        found = yield from self.read()
        missed = int((np.abs(found - weights) > 2 * allowed).sum())
        return Programmed(found, int(self.cost["pulses"] - before), missed)

    def _stroke(self, target_s: FloatArray, mask: BoolArray, tolerance_s: float) -> Generator[Step, Any, None]:
        """Up to STROKES times: read, and go CAUTION of the way to the target at once, by the declared step.

        A cell that a single pulse has taken across its target stays there: the next would only bring it back.
        """
        last = np.zeros(mask.shape, np.int64)
        for _ in range(STROKES):
            error_s = target_s - (yield from self.read_cells())
            way = np.sign(error_s)
            open_ = mask & (np.abs(error_s) > tolerance_s) & ~((np.abs(last) == 1) & (way != last))
            steps = np.maximum(np.trunc(CAUTION * np.abs(error_s) / (self.step * self.unit_s)), 1)
            counts: Any = np.where(open_, way * np.minimum(steps, MOST_PULSES), 0).astype(np.int16)
            if not counts.any():
                return
            last = np.where(open_, counts, last)
            answers = yield from fire(counts, self.using, self.bias)
            self.cost["pulses"] += sum(a.pulses for a in answers)

    def _creep(
        self, target_s: FloatArray, mask: BoolArray, tolerance_s: float, budget: int
    ) -> Generator[Step, Any, None]:
        """Pulse and read one by one: where nothing goes down again, a target is not to be passed."""
        read = cell_read(mask, self.settings)
        mask = mask & ~((yield from read_grid(read)) > target_s)
        if mask.any():
            read = cell_read(mask, self.settings)
            done = yield from write_verify(target_s, mask, self.using, self.bias, read, tolerance_s, budget)
            self.cost["pulses"] += done.pulses
            self.cost["reads"] += done.reads * int(mask.sum())

    def change(self, dw: FloatArray, rng: np.random.Generator) -> Generator[Step, Any, int]:
        """Move the weights by about dw[inputs, outputs], by pulses; answers how many.

        SET-only devices raise G+ for a rise and G- for a fall; others also depress the other cell, half the way each.
        """
        counts = self.counts(dw, rng)
        if not counts.any():
            return 0
        applied: tuple[Applied, ...] = yield from fire(counts, self.using, self.bias)
        pulses = sum(a.pulses for a in applied)
        self.cost["pulses"] += pulses
        return pulses

    def counts(self, dw: FloatArray, rng: np.random.Generator) -> Any:
        """Signed pulses [rows, cols] for a change of the weights, rounded stochastically."""
        dw = np.asarray(dw, np.float64)
        require(dw.shape == self.shape, f"a change of {dw.shape} for a matrix of {self.shape}")
        require(bool(np.isfinite(dw).all()), "a change of weights holds a value that is not finite")
        share = dw / 2 if self.writes == "set_reset" else dw
        counts, rows = np.zeros(self.pairs.shape, np.int16), self.pairs.rows[:, None]
        counts[rows, self.pairs.plus] = quantise(share, self.quantiser, rng).counts
        counts[rows, self.pairs.minus] = quantise(-share, self.quantiser, rng).counts
        counts[~self.pairs.usable] = 0
        return counts


def matrix(
    view: BenchView, inputs: int, outputs: int, *, row0: int = 0, col0: int = 0, read_v: float | None = None,
    averages: int = 1,
) -> Matrix:  # fmt: skip
    """Weights in the block of the array at (row0, col0): `inputs` rows, 2 x `outputs` columns.

    Raises CapabilityMissing for an array that is too small, UsageError where nothing is declared of the devices.
    """
    Needs(row0 + inputs, col0 + 2 * outputs).plan(view.capabilities)
    device, where = view.device, Needs(multiply=True).plan(view.capabilities).multiply
    known = (device.g_min_s, device.g_max_s, device.g_step_s)
    if device.pulse is None or not all(map(isfinite, known)):
        raise UsageError(
            "weights need a device whose window, step and pulse are declared (the card of [chip] model or curve); "
            f"g_min_s, g_max_s, g_step_s are {known}"
        )
    unit_s, in_siemens = device.g_max_s - device.g_min_s, Quantiser.of(device)
    quantiser = Quantiser(in_siemens.step_up / unit_s, in_siemens.step_down / unit_s)
    volts = read_v or (device.read_voltage_v if isfinite(device.read_voltage_v) else READ_V)
    settings = ReadSettings(volts, averages, view.capabilities.both_polarities)
    return Matrix(
        view, adjacent(view.shape, inputs, outputs, view.excluded, row0, col0), where, settings,
        Pulses(device.pulse, device.depress_pulse or device.pulse), choose_bias("auto", view),
        "set_reset" if device.depresses else "set_only", unit_s, device.g_min_s, quantiser,
    )  # fmt: skip
