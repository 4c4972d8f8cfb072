"""Competition of synapses by spike timing: Poisson inputs onto one neuron drive their weights to both ends.

Song, Miller & Abbott, Nat. Neurosci. 3, 919 (2000), with the numbers of Brian2's example `synapses/STDP.py`: inputs at
15 Hz, a conductance-based LIF neuron, additive pair STDP whose depression is 5 % larger. Each weight is one cell of
one column: 0 at the low end of the devices' window, the largest (`g_max`, in units of the neuron's leak) at its high
end; the ends are the devices' own bounds, nothing on the host holds a weight there.

The bench is used in blocks of `block_s`: the column is read, the neuron runs through the block's ticks with these
weights, and what the rule has asked for in the block is fired as whole pulses at its end, rounded stochastically. So a
change of weight reaches the neuron up to `block_s` late, and a pulse that a pair asked for falls up to `block_s` after
it; with 0.1 s that is 2 to 3 pairs of spikes, each 1 % of the range. Within a tick the neuron is compared with its
threshold before the inputs of that tick reach it, and spikes of the same tick make no pair: a pair at dt = 0 would be
half of a potentiating and half of a depressing one, and counted as either it outweighs the 5 %. `multiply` says where
the weighted sums are taken: "host" reads the cells and multiplies on the host; "array" drives the spikes of every tick
onto the word lines and reads the bit line, at 8 bytes of record per input and tick. On the host, and so a cost on
hardware: neuron, traces, the spikes of the inputs, and the change asked for within a block.

Cells that do not answer to `calibration_pulses` up and down are set aside before anything is learnt: they get no more
pulses, and their inputs are silent. A cell that dies later is not noticed.

Additive STDP needs steps that do not depend on the weight. The step of one pulse is measured on the column before it
learns, over weights all along the range, and pulses are counted by it (`compensate`); what is left of a device's soft
bounds after that is the device's own, and may leave the weights in one hump instead of two.

Reached: what was seen passes all `checks` of the result (more weights at the ends than 60 %, more than at first by more
than chance, a rate that stands still) and the parameters fulfil its `conditions` (a window of negative integral; it
says nothing of the run). `learning_pulses` are what the rule asked for, `total_pulses` all of the run, those too that
measure steps and set the first weights.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from neurobench.bench.crossbar import Needs, Reading
from neurobench.bench.steps import BenchView, Note, Protocol, Result, Sense, Step, Steps
from neurobench.bench.stimulus import Bias, BoolArray, CellRead, FloatArray, Region, VectorRead
from neurobench.errors import CapabilityMissing, Refused, UsageError
from neurobench.learning import neurons, plasticity
from neurobench.learning.bias import Select, choose_bias
from neurobench.learning.neurons import ConductanceLIF, ConductanceState
from neurobench.learning.plasticity import PairStdp, PairTraces
from neurobench.learning.quantised import Quantiser, quantise
from neurobench.learning.statistics import spikes_note
from neurobench.learning.synapses import Pulses, ReadSettings, cell_read, fire, fit_range, over_a, refuse_cut

from ._characterise import Progress, counted, due, pulse_of
from ._stuck import find_stuck

OUTER = 0.2  # the outer bins of the histogram of weights: below 20 % and above 80 % of the range
EPOCHS = 100  # weights are noted so many times in a run
BIMODAL = 0.6  # share of the weights in the outer bins
CHANCE = 3.0  # standard deviations: a share that rose by less may have done so without learning
SETTLED = 0.2  # the rates of the last two quarters of the run differ by less than this share
PUBLISHED_INPUTS = 1000
ROOM = 0.2  # cells nearer than this to the bound that a train goes to do not tell the step
ALIKE = 0.05  # weights that scatter by less do not tell how the step depends on them


class Bimodality(Protocol):
    """Weights of Poisson inputs become bimodal under additive STDP (Song, Miller & Abbott 2000)."""

    inputs: int = Field(1000, ge=2, le=100_000, description="Poisson inputs, one row of the array each")
    rate_hz: float = Field(15.0, gt=0, le=500, description="mean rate of each input, in hertz")
    seconds: float = Field(200.0, gt=0, le=100_000, description="how long the neuron learns, in its own seconds")
    tick_s: float = Field(1e-3, gt=0, le=5e-3, description="tick of neuron and rule, in seconds")
    block_s: float = Field(0.1, gt=0, le=10, description="time between reads and pulses, in seconds of the neuron")
    g_max: float | None = Field(
        None, gt=0, description="largest weight in units of the leak conductance; none: 10 / inputs (published: 0.01)"
    )
    tau_membrane_s: float = Field(10e-3, gt=0, description="membrane time constant, in seconds")
    tau_excite_s: float = Field(5e-3, gt=0, description="time constant of the synaptic conductance, in seconds")
    a_plus: float = Field(0.01, gt=0, le=1, description="potentiation of one pair, as a share of the range")
    depression: float = Field(1.05, gt=0, le=10, description="a_minus tau_minus over a_plus tau_plus")
    tau_plus_s: float = Field(20e-3, gt=0, description="time constant of potentiation, in seconds")
    tau_minus_s: float = Field(20e-3, gt=0, description="time constant of depression, in seconds")
    multiply: Literal["host", "array"] = Field("host", description="where weighted sums are taken (see the protocol)")
    read_v: float | None = Field(
        None, gt=0, description="read voltage, in volts; none: that of the device's own record, else 0.1"
    )
    integration_s: float = Field(1e-3, gt=0, description="time of one read, in seconds")
    averages: int = Field(1, ge=1, le=1_000_000, description="reads that the instrument averages in each")
    amplitude_v: float | None = Field(None, gt=0, description="write pulse, in volts; none: as the device is known")
    width_s: float | None = Field(None, gt=0, description="write pulse, in seconds; none: as the device is known")
    g_low_s: float | None = Field(None, ge=0, description="conductance of weight 0, in siemens; none: as declared")
    g_high_s: float | None = Field(None, gt=0, description="conductance of weight 1, in siemens; none: as declared")
    calibration_pulses: int = Field(10, ge=1, le=1000, description="pulses per cell and direction that measure a step")
    compensate: bool = Field(
        True, description="count pulses by the step measured at each weight; false: by the mean step everywhere"
    )
    select: Select = Field(
        "auto", description="bias of unselected lines while writing; auto: the safest that the bench has"
    )

    figures = ("raster", "activity", "weights", "network")

    @property
    def needs(self) -> Needs:
        """A column of as many rows as inputs; products in the array only where they are asked for."""
        biases = frozenset() if self.select == "auto" else frozenset({Bias(self.select)})
        return Needs(rows=self.inputs, biases=biases)

    def bench_defaults(self) -> dict[str, Any]:
        """One column of devices that step both ways."""
        return {"chip.rows": self.inputs, "chip.cols": 1, "chip.model": "ecram"}

    def admit(self, view: BenchView) -> None:
        """Refuse devices that do not depress, and a chip without a usable cell in the column."""
        if not view.device.depresses:
            raise CapabilityMissing(
                "STDP needs devices that depress; no depressing pulse is known of this chip (declare it in its card)"
            )
        if self.multiply == "array" and Needs(multiply=True).plan(view.capabilities).multiply != "array":
            raise CapabilityMissing("multiply = array: this bench has no vector reads (--set multiply=host)")
        if view.excluded[: self.inputs, 0].all():
            raise Refused("every cell of the column is stuck, shorted or retired in the chip's passport")

    @property
    def block_ticks(self) -> int:
        """Ticks of one block."""
        return max(1, round(self.block_s / self.tick_s))

    @property
    def blocks(self) -> int:
        """Blocks of the run."""
        return max(4, round(self.seconds / (self.block_ticks * self.tick_s)))

    def raster(self, key: int, block: int) -> BoolArray:
        """Spikes [ticks, inputs] of the inputs in a block."""
        chance = np.random.default_rng([key, block, 0]).random((self.block_ticks, self.inputs))
        spikes: BoolArray = chance < self.rate_hz * self.tick_s
        return spikes

    def together(self, key: int) -> int:
        """Rows that are driven at once, at most; one where the cells are read one by one."""
        if self.multiply == "host":
            return 1
        return max(int(self.raster(key, block).sum(axis=1).max()) for block in range(self.blocks))

    def neuron(self) -> ConductanceLIF:
        """The published neuron."""
        return ConductanceLIF(self.tau_membrane_s, self.tau_excite_s)

    def rule(self) -> PairStdp:
        """The published rule on weights in [0, 1]."""
        a_minus = self.a_plus * self.depression * self.tau_plus_s / self.tau_minus_s
        return PairStdp(
            a_plus=self.a_plus, a_minus=a_minus, tau_plus_s=self.tau_plus_s, tau_minus_s=self.tau_minus_s,
            same_tick="neither",
        )  # fmt: skip

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """Measure the step, draw the weights, learn. `start`: a state that was yielded as a Checkpoint."""
        self.admit(view)
        column = Column.of(self, view)
        if start is None:
            state, preparing = yield from counted(_begin(self, column, rng))
            state.preparing = preparing
        else:
            state = _State.back({**start, "up": Stride(*start["up"]), "down": Stride(*start["down"])})
        column = replace(column, usable=state.usable, read_v=state.read_v)
        while state.block < self.blocks:
            yield from _Block(self, column, state).run()
            if due(state.block):
                yield state.checkpoint()
        return _result(self, column, state)


@dataclass(slots=True)
class _State(Progress):
    """What a checkpoint holds. `usable`, `weights` (as read last) [inputs]; `spikes` of the neuron in each block.

    `preparing`: pulses before learning, `pulses`: those of learning.
    """

    key: int
    usable: BoolArray
    up: Stride
    down: Stride
    first: FloatArray
    weights: FloatArray
    neuron: tuple[Any, ...]
    traces: tuple[Any, ...]
    read_v: float
    arriving: float = 0.0
    block: int = 0
    preparing: int = 0
    pulses: int = 0
    spikes: list[int] = field(default_factory=list)


class Stride(NamedTuple):
    """What one pulse does, as shares of the range: `mean` at weight `at`, and how it changes with the weight."""

    mean: float
    at: float
    slope: float

    @classmethod
    def fit(cls, weights: FloatArray, steps: FloatArray) -> Stride:
        """The straight line through steps[n] of cells at weights[n]; flat where the weights are all alike."""
        at, mean = float(weights.mean()), float(steps.mean())
        away = weights - at
        spread = float((away**2).mean())
        return cls(mean, at, float((away * steps).mean()) / spread if spread > ALIKE**2 else 0.0)

    def local(self, weights: FloatArray) -> FloatArray:
        """The step at these weights, not below a tenth of the mean: near a soft bound it goes to nothing."""
        step: FloatArray = np.maximum(self.mean + self.slope * (weights - self.at), 0.1 * self.mean)
        return step


@dataclass(frozen=True, slots=True)
class Column:
    """Weights in [0, 1] as the cells of the first column: low_s + weight x span_s siemens."""

    p: Bimodality
    view: BenchView
    low_s: float
    span_s: float
    using: Pulses
    bias: Bias
    read_v: float
    usable: BoolArray

    @classmethod
    def of(cls, p: Bimodality, view: BenchView) -> Column:
        """As the parameters say, and what is declared of the devices; UsageError where nobody knows their window."""
        low_s = view.device.g_min_s if p.g_low_s is None else p.g_low_s
        high_s = view.device.g_max_s if p.g_high_s is None else p.g_high_s
        if not (isfinite(low_s) and isfinite(high_s) and high_s > low_s):
            raise UsageError(f"the window of the devices is {low_s} to {high_s} S: say g_low_s and g_high_s (--set)")
        known = view.device.read_voltage_v
        read_v = p.read_v or min(known if known > 0 else 0.1, view.limits.max_read_v)
        using = Pulses(*(pulse_of(view, sign, p.amplitude_v, p.width_s, "amplitude") for sign in (1, -1)))
        return cls(
            p, view, low_s, high_s - low_s, using, choose_bias(p.select, view), read_v,
            ~view.excluded[: p.inputs, 0],
        )  # fmt: skip

    def cells(self) -> CellRead:
        """A read of the column, cell by cell."""
        mask = np.zeros(self.view.shape, np.bool_)
        mask[: self.p.inputs, 0] = True
        return cell_read(mask, self.settings)

    @property
    def settings(self) -> ReadSettings:
        """How cells are read."""
        both = self.view.capabilities.both_polarities
        return ReadSettings(self.read_v, self.p.averages, both, self.p.integration_s)

    def in_range(self, key: int) -> Generator[Step, Any, Column]:
        """The same column, read with so few volts that its current stays in the ammeter's range."""
        lines, highest_s = self.p.together(key), self.low_s + self.span_s
        fitted = yield from fit_range(self.view, self.settings, (0, 0), lines, self.p.read_v is not None, highest_s)
        fits = replace(self, read_v=fitted.read_v)
        # a silent vector: a bench that takes none so long says so before the first pulse
        yield from fits.sums(np.zeros((1, self.p.inputs), np.bool_), np.zeros(self.p.inputs))
        return fits

    def read(self) -> Generator[Step, Any, FloatArray]:
        """Weights [inputs], read cell by cell; noise may take one beyond 0 or 1."""
        reading: Reading = yield Sense(self.cells())
        weights: FloatArray = (reading.signed_a() / self.read_v - self.low_s) / self.span_s
        return weights

    def without_stuck(self) -> Generator[Step, Any, Column]:
        """The same column, with the cells that do not answer to pulses set aside."""
        mask = self.cells().mask.copy()
        mask[: self.p.inputs, 0] = self.usable
        stuck = yield from find_stuck(mask, self.using, self.bias, self.cells(), self.p.calibration_pulses)
        usable = self.usable & ~stuck[: self.p.inputs, 0]
        if not usable.any():
            raise UsageError(NO_STEP.format("no cell of the column moved", self.p.calibration_pulses))
        return replace(self, usable=usable)

    def sums(self, raster: BoolArray, weights: FloatArray) -> Generator[Step, Any, FloatArray]:
        """Sum of the weights of the inputs in raster[ticks, inputs] at each tick; cells set aside give none."""
        raster = raster & self.usable
        if self.p.multiply == "host":
            return raster @ weights
        volts: FloatArray = np.where(raster, self.read_v, 0.0)
        region = Region(0, self.p.inputs, 0, 1)
        reading: Reading = yield Sense(
            VectorRead(volts, region=region, integration_s=self.p.integration_s, averages=self.p.averages)
        )
        refuse_cut(over_a(reading), self.read_v)
        sums: FloatArray = (reading.signed_a()[:, 0] / self.read_v - raster.sum(axis=1) * self.low_s) / self.span_s
        return sums

    def pulse(self, counts: Any) -> Generator[Step, Any, int]:
        """Fire signed counts[inputs] on the usable cells; answers how many pulses that were."""
        grid: Any = np.zeros(self.view.shape, np.int16)
        grid[: self.p.inputs, 0] = np.where(self.usable, counts, 0)
        if not grid.any():
            return 0
        answers = yield from fire(grid, self.using, self.bias)
        return sum(answer.pulses for answer in answers)

    def step(self, sign: int) -> Generator[Step, Any, Stride]:
        """Step of one pulse, as a share of the range, by a train on all cells that have room for it.

        UsageError if the cells do not move that way by three standard errors.
        """
        n = self.p.calibration_pulses
        before = yield from self.read()
        yield from self.pulse(np.full(self.p.inputs, sign * n))
        moved = sign * ((yield from self.read()) - before)
        room = self.usable & (before < 1 - ROOM if sign > 0 else before > ROOM)
        room = room if room.any() else self.usable
        each = moved[room] / n
        mean, error = float(each.mean()), float(each.std()) / len(each) ** 0.5
        if mean <= 3 * error or mean <= 0:
            way = "potentiating" if sign > 0 else "depressing"
            raise UsageError(
                NO_STEP.format(f"each {way} pulse moved a cell by {mean:.2g} +- {error:.1g} of the range", n)
            )
        return Stride.fit(before[room], each)


ROUNDS = 8  # reads and strokes that bring the column to its first weights
NO_STEP = "{} in {} pulses: no step to count with (--set calibration_pulses, amplitude_v, width_s, or another device)"


def _begin(p: Bimodality, column: Column, rng: np.random.Generator) -> Generator[Step, Any, _State]:
    """Steps measured, weights drawn evenly over the range, steps measured again where they will be used."""
    yield Note("network", _network(p))
    key, target = int(rng.integers(2**62)), rng.random(p.inputs)
    column = yield from column.in_range(key)
    column = yield from column.without_stuck()
    up = yield from column.step(1)
    down = yield from column.step(-1)
    weights = yield from column.read()
    for _ in range(ROUNDS):
        counts = quantise(target - weights, Quantiser(up.mean, down.mean, "nearest")).counts
        yield from column.pulse(counts)
        weights = yield from column.read()
    up = yield from column.step(1)
    down = yield from column.step(-1)
    weights = yield from column.read()
    traces = plasticity.start(p.rule(), (p.inputs, 1), p.tick_s)
    yield Note("start", _told(column, weights, 0))
    neuron = tuple(neurons.start(1, p.neuron()))
    return _State(key, column.usable, up, down, weights, weights, neuron, tuple(traces), column.read_v)


def _network(p: Bimodality) -> dict[str, Any]:
    layers = [
        {"name": "input", "neurons": p.inputs, "kind": "Poisson"},
        {"name": "neuron", "neurons": 1, "kind": "conductance LIF"},
    ]
    wires = {"from": "input", "to": "neuron", "rows": [0, p.inputs], "cols": [0, 1], "cells": p.inputs}
    return {"layers": layers, "connections": [wires | {"rule": "additive pair STDP"}]}


def _told(column: Column, weights: FloatArray, index: int) -> dict[str, Any]:
    over_s = (weights * column.span_s)[:, None]
    return {
        "index": index,
        "conductance_s": column.low_s + over_s,
        "weights": over_s,
        "synapse": "cell",
        "outer": _outer(weights[column.usable]),
    }


class _Ran(NamedTuple):
    """What the ticks of a block gave: ticks with a spike of the neuron, and the change asked for [inputs]."""

    fired: list[int]
    wanted: FloatArray


class _Block:
    """One block of the run: products, ticks, pulses, a look at the weights, notes."""

    def __init__(self, p: Bimodality, column: Column, state: _State) -> None:
        self.p, self.column, self.state = p, column, state
        self.rounding_rng = np.random.default_rng([state.key, state.block, 1])

    def run(self) -> Generator[Step, Any, None]:
        """Goes on from the state, and moves it on by one block."""
        p, state, column = self.p, self.state, self.column
        raster = p.raster(state.key, state.block)
        sums = yield from column.sums(raster, state.weights)
        ran = self._ticks(raster, sums)
        counts = quantise(self._scaled(ran.wanted), Quantiser(state.up.mean, state.down.mean), self.rounding_rng).counts
        state.pulses += yield from column.pulse(counts)
        state.weights = yield from column.read()
        state.block += 1
        state.spikes.append(len(ran.fired))
        yield from self._notes(raster, ran.fired)

    def _ticks(self, raster: BoolArray, sums: FloatArray) -> _Ran:
        """Neuron and rule through the block; the rule sees what it has asked for since the read."""
        p, state, rule, neuron = self.p, self.state, self.p.rule(), self.p.neuron()
        g_max = p.g_max or 0.01 * PUBLISHED_INPUTS / p.inputs
        of_neuron, traces = ConductanceState(*state.neuron), PairTraces(*state.traces)
        first = np.clip(state.weights, 0.0, 1.0)[:, None]
        weights, fired = first.copy(), []
        for tick, pre in enumerate(raster):
            of_neuron, spikes = neurons.step(of_neuron, g_max * state.arriving, neuron, p.tick_s)
            state.arriving = float(sums[tick])
            traces, dw = plasticity.step(traces, pre, spikes, weights, rule, p.tick_s)
            weights += dw
            if spikes[0]:
                fired.append(tick)
        state.neuron, state.traces = tuple(of_neuron), tuple(traces)
        return _Ran(fired, (weights - first)[:, 0])

    def _scaled(self, wanted: FloatArray) -> FloatArray:
        """The change in units in which every step is the mean one: more pulses where the device moves less."""
        if not self.p.compensate:
            return wanted
        up, down, w = self.state.up, self.state.down, self.state.weights
        scaled: FloatArray = wanted * np.where(wanted > 0, up.mean / up.local(w), down.mean / down.local(w))
        return scaled

    def _notes(self, raster: BoolArray, fired: list[int]) -> Generator[Step, Any, None]:
        p, state = self.p, self.state
        ticks, start = p.block_ticks, (state.block - 1) * p.block_ticks
        yield spikes_note("neuron", 1, p.tick_s, start, ticks, fired, np.zeros(len(fired), np.int64))
        if start + ticks > p.blocks * ticks - round(1 / p.tick_s):  # of the inputs the last second
            yield spikes_note("input", p.inputs, p.tick_s, start, ticks, *np.nonzero(raster))
        if state.block % -(-p.blocks // EPOCHS) == 0 or state.block == p.blocks:
            yield Note("epoch", _told(self.column, state.weights, state.block))


def _outer(weights: FloatArray) -> float:
    """Share of the weights in the lowest and the highest fifth of the range."""
    return float(((weights < OUTER) | (weights > 1 - OUTER)).mean())


def _area_s(tau_s: float, tick_s: float) -> float:
    """The area of a window as its ticks see it: the sum of exp(-k tick / tau) over k = 1, 2, ..., times the tick."""
    return float(tick_s / np.expm1(tick_s / tau_s))


def _result(p: Bimodality, column: Column, state: _State) -> Result:
    """The checks of the paper's figure: weights that became bimodal, and a rate that settles; and its condition."""
    w, rule, excluded = state.weights[column.usable], p.rule(), column.view.excluded[: p.inputs, 0]
    outer, outer_first, block_s = _outer(w), _outer(state.first[column.usable]), p.block_ticks * p.tick_s
    chance = CHANCE * (2 * outer_first * (1 - outer_first) / len(w)) ** 0.5
    quarters = np.array_split(np.array(state.spikes), 4)
    rates_hz = [float(part.mean()) / block_s for part in quarters]
    drift = abs(rates_hz[3] - rates_hz[2]) / max(rates_hz[3], 1e-9)
    integral_s = rule.a_plus * _area_s(rule.tau_plus_s, p.tick_s) - rule.a_minus * _area_s(rule.tau_minus_s, p.tick_s)
    checks = {
        "bimodal": outer > BIMODAL,
        "learned": outer > outer_first + chance,
        "rate_settles": rates_hz[3] > 0 and drift < SETTLED,
    }
    conditions = {"integral_negative": integral_s < 0}
    return Result(
        all(checks.values()) and all(conditions.values()),
        {
            "checks": checks, "conditions": conditions,
            "outer_fraction": outer, "outer_fraction_first": outer_first, "outer_by_chance": chance,
            "low_fraction": float((w < OUTER).mean()), "high_fraction": float((w > 1 - OUTER).mean()),
            "mean_weight": float(w.mean()), "rate_hz": rates_hz, "rate_drift": drift, "integral_s": integral_s,
            "weights": state.weights, "conductance_s": column.low_s + column.span_s * state.weights,
            "usable": column.usable, "excluded": int(excluded.sum()),
            "retired": int((~column.usable & ~excluded).sum()),
            "step_up": state.up._asdict(), "step_down": state.down._asdict(),
            "learning_pulses": state.pulses, "total_pulses": state.preparing + state.pulses, "read_v": column.read_v,
            "seconds": p.blocks * block_s, "block_s": block_s, "multiply": p.multiply,
            "delay_said": f"weights reach the neuron, and pulses the cells, up to {block_s:g} s after a pair of spikes",
        },
    )  # fmt: skip


plugin = Bimodality
