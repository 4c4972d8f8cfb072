"""A small network of spiking neurons that learns by spike timing alone: spikes and weights over time, with checks.

The network of the seed `rust-go-python-stdp`: leaky integrate-and-fire neurons, driven by Poisson inputs, with pair
STDP dw = a_plus exp(-dt / tau_plus) for dt = t_post - t_pre > 0 and -a_minus exp(dt / tau_minus) for dt < 0, applied
as the network runs. With `recurrent_prob` > 0 the neurons also feed each other. Each synapse is a differential pair of
cells; each tick with a spike in it is one read of the array (`learning.spiking`), and what the rule asked for is fired
as whole pulses every `update_s`, so a change of weight comes up to that much late. A pre spike reaches its neuron in
its own tick, so a pair in one tick counts as dt -> 0+.

The read voltage is such that no column leaves the ammeter's range with all its spikes at once and all cells at their
highest. Pulses of the result: `learning_pulses` are what the rule asked for, `total_pulses` all of the run, those
too that look for dead cells and write the first weights; the run's own count is the latter.

What the seed splits into three programs is one run here. Simulation: `neurobench run stdp-network --seed 1`; the run
file's manifest names code, parameters, seed, bench and chip, and the same seed gives the same run bit for bit.
Verification: `checks` of the result, computed from what was recorded; `neurobench show last` prints them, and
`neurobench export last` writes notes, reads and result as open files for other programs. Analysis: `neurobench plot
last` draws raster, rates, weights over time and the network.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field

from neurobench.bench.crossbar import Needs
from neurobench.bench.steps import BenchView, Note, Protocol, Result, Step, Steps
from neurobench.bench.stimulus import BoolArray, FloatArray
from neurobench.errors import CapabilityMissing
from neurobench.learning import statistics
from neurobench.learning.neurons import LIF, LIFState
from neurobench.learning.plasticity import PairStdp, PairTraces
from neurobench.learning.spiking import SpikingLayer, spiking_layer
from neurobench.learning.statistics import Raster, spikes_note
from neurobench.learning.synapses import cell_read

from ._characterise import Progress, counted, due
from ._stuck import find_stuck

OUTER = 0.2  # below 20 % and above 80 % of the range a weight counts as decided
PROBE_PULSES = 10  # up and down on every cell before learning: one that does not move gets no more pulses
BEYOND = 0.1  # by so much a weight may be read outside [0, 1]: cells scatter, and pulses come in whole numbers


class StdpNetwork(Protocol):
    """A small spiking network with pair STDP: raster, weights over time, checks (Rust seed)."""

    inputs: int = Field(20, ge=1, le=10_000, description="Poisson inputs")
    neurons: int = Field(10, ge=1, le=10_000, description="LIF neurons, two columns of the array each")
    recurrent_prob: float = Field(0.2, ge=0, le=1, description="probability that a neuron feeds another; 0: none does")
    rate_hz: float = Field(20.0, gt=0, le=500, description="mean rate of each input, in hertz")
    seconds: float = Field(30.0, gt=0, le=10_000, description="how long the network runs, in seconds of its own time")
    tick_s: float = Field(1e-3, gt=0, le=5e-3, description="tick of neurons and rule, in seconds")
    update_s: float = Field(0.1, gt=0, le=10, description="time between pulses, in seconds of the network")
    gain: float = Field(0.3, gt=0, le=100, description="share of the threshold that a spike through a full weight adds")
    tau_membrane_s: float = Field(20e-3, gt=0, description="membrane time constant, in seconds")
    refractory_s: float = Field(2e-3, ge=0, le=1, description="refractory time, in seconds (whole ticks, rounded up)")
    a_plus: float = Field(0.03, gt=0, le=1, description="potentiation of one pair, as a share of the range")
    a_minus: float = Field(0.036, gt=0, le=1, description="depression of one pair, as a share of the range")
    tau_plus_s: float = Field(20e-3, gt=0, description="time constant of potentiation, in seconds")
    tau_minus_s: float = Field(20e-3, gt=0, description="time constant of depression, in seconds")
    weight_low: float = Field(0.3, ge=0, le=1, description="first weights are drawn from here ...")
    weight_high: float = Field(0.7, ge=0, le=1, description="... to here, evenly")
    read_v: float | None = Field(
        None, gt=0, description="read voltage, in volts; none: that of the device's record, lowered to the range"
    )

    figures = ("raster", "activity", "weights", "network")

    @property
    def rows(self) -> int:
        """Word lines: the inputs, and the neurons once more where they feed each other."""
        return self.inputs + (self.neurons if self.recurrent_prob else 0)

    @property
    def needs(self) -> Needs:
        """An array that holds the network, and products."""
        return Needs(rows=self.rows, cols=2 * self.neurons, multiply=True)

    def bench_defaults(self) -> dict[str, Any]:
        """An array of the network's size with devices that step both ways."""
        return {"chip.rows": self.rows, "chip.cols": 2 * self.neurons, "chip.model": "ecram"}

    def admit(self, view: BenchView) -> None:
        """Refuse devices that do not depress: one cell of a pair would saturate before anything is learnt."""
        if not view.device.depresses:
            raise CapabilityMissing(
                "STDP needs devices that depress; no depressing pulse is known of this chip (declare it in its card)"
            )

    @property
    def update_ticks(self) -> int:
        """Ticks between pulses."""
        return max(1, round(self.update_s / self.tick_s))

    @property
    def updates(self) -> int:
        """Updates of the run, four at least: rates are compared by quarters."""
        return max(4, round(self.seconds / (self.update_ticks * self.tick_s)))

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """Draw and write the weights, then run and learn. `start`: a state that was yielded as a Checkpoint."""
        self.admit(view)
        key = int(rng.integers(2**62)) if start is None else int(start["key"])
        state = _State(key) if start is None else _State.back(start)
        network = _Network(self, self._layer(view, np.random.default_rng([key, 0]), state.read_v or self.read_v), state)
        if start is None:
            _, state.preparing = yield from counted(network.begin())
        else:
            network.put_back()
        while network.state.update < self.updates:
            yield from network.go_on()
            if due(network.state.update):
                network.keep()
                yield network.state.checkpoint()
        return network.result()

    def trains(self, key: int, update: int) -> tuple[BoolArray, np.random.Generator]:
        """Input spikes [ticks, inputs] until the next update, and the generator that drew them."""
        rng = np.random.default_rng([key, 2, update])
        return rng.random((self.update_ticks, self.inputs)) < self.rate_hz * self.tick_s, rng

    def together(self, key: int) -> int:
        """Rows that are driven at once, at most: inputs as they will spike, and all neurons that feed others."""
        most = max(int(self.trains(key, update)[0].sum(axis=1).max()) for update in range(self.updates))
        return most + self.rows - self.inputs

    def _layer(self, view: BenchView, rng: np.random.Generator, read_v: float | None) -> SpikingLayer:
        neuron = LIF(self.tau_membrane_s, refractory_s=self.refractory_s, drive="delta")
        rule = PairStdp(
            a_plus=self.a_plus, a_minus=self.a_minus, tau_plus_s=self.tau_plus_s, tau_minus_s=self.tau_minus_s
        )
        return spiking_layer(
            view, self.inputs, self.neurons, neuron=neuron, rule=rule, gain=self.gain, dt_s=self.tick_s,
            name="neurons", recurrent_prob=self.recurrent_prob, rng=rng, read_v=read_v,
        )  # fmt: skip


@dataclass(slots=True)
class _State(Progress):
    """What a checkpoint holds: the layer's state, and spikes of the neurons so far (tick and neuron).

    `preparing`: pulses before learning, `pulses`: those of learning.
    """

    key: int
    update: int = 0
    read_v: float = 0.0
    preparing: int = 0
    pulses: int = 0
    layer: dict[str, Any] = field(default_factory=dict)
    first: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    tick: list[int] = field(default_factory=list)
    neuron: list[int] = field(default_factory=list)


class _Network:
    """The layer, and what has become of it."""

    def __init__(self, p: StdpNetwork, layer: SpikingLayer, state: _State) -> None:
        self.p, self.layer, self.state = p, layer, state
        exists = np.ones(layer.weights.shape, np.bool_)
        if layer.connected is not None:
            exists[p.inputs :] = layer.connected
        self.exists: BoolArray = exists

    def begin(self) -> Generator[Step, Any, None]:
        """Fit the read voltage, set dead cells aside, write the first weights."""
        p, block = self.p, self.layer.weights
        yield from block.fit_range(p.together(self.state.key), p.read_v is not None)
        self.state.read_v = block.settings.read_v
        yield Note("network", self._told_network())
        mask = block.pairs.cells() & block.pairs.usable
        stuck = yield from find_stuck(mask, block.using, block.bias, cell_read(mask, block.settings), PROBE_PULSES)
        block.pairs.usable[stuck] = False
        drawn = np.random.default_rng([self.state.key, 1]).uniform(p.weight_low, p.weight_high, self.exists.shape)
        yield from self.layer.write(drawn * self.exists)
        yield from self._look("start")
        self.state.first = self.layer.held.copy()

    def go_on(self) -> Generator[Step, Any, None]:
        """Run to the next update, fire it, look at the weights."""
        p, state = self.p, self.state
        train, rng = p.trains(state.key, state.update)
        raster = yield from self.layer.present(train)
        state.pulses += yield from self.layer.update_weights_stdp(rng)
        start = state.update * p.update_ticks
        yield spikes_note("input", p.inputs, p.tick_s, start, p.update_ticks, *np.nonzero(train))
        yield spikes_note("neurons", p.neurons, p.tick_s, start, p.update_ticks, *np.nonzero(raster))
        tick, neuron = np.nonzero(raster)
        state.tick += (tick + start).tolist()
        state.neuron += neuron.tolist()
        state.update += 1
        yield from self._look("epoch")

    def _look(self, note: str) -> Generator[Step, Any, None]:
        """Read all cells back; the layer holds what was read."""
        block = self.layer.weights
        grid_s = yield from block.read_cells()
        self.layer.held = block.weights_of(grid_s)
        told = {"conductance_s": grid_s[block.pairs.region.slices], "weights": self.layer.held * block.unit_s}
        yield Note(note, {"index": self.state.update, **told})

    def keep(self) -> None:
        """Put the layer's state into what the next checkpoint holds."""
        layer = self.layer
        self.state.layer = {
            "state": tuple(layer.state), "traces": tuple(layer.traces), "last": layer.last, "held": layer.held,
            "wanted": layer.wanted, "cost": layer.weights.cost, "usable": layer.weights.pairs.usable,
        }  # fmt: skip

    def put_back(self) -> None:
        """The layer as it was at the checkpoint."""
        kept, layer = self.state.layer, self.layer
        layer.state, layer.traces = LIFState(*kept["state"]), PairTraces(*kept["traces"])
        layer.last, layer.held, layer.wanted = kept["last"], kept["held"], kept["wanted"]
        layer.weights.cost.update(kept["cost"])
        layer.weights.pairs.usable[:] = kept["usable"]

    def _told_network(self) -> dict[str, Any]:
        p, cols = self.p, [0, 2 * self.p.neurons]
        layers = [
            {"name": "input", "neurons": p.inputs, "kind": "Poisson"},
            {"name": "neurons", "neurons": p.neurons, "kind": "LIF"},
        ]
        into: dict[str, Any] = {"from": "input", "to": "neurons", "rows": [0, p.inputs], "cols": cols}
        wires = [into | {"cells": 2 * p.inputs * p.neurons, "rule": "pair STDP"}]
        if self.layer.connected is not None:
            among = {"from": "neurons", "to": "neurons", "rows": [p.inputs, p.rows], "cols": cols}
            wires.append(among | {"cells": 2 * int(self.layer.connected.sum()), "rule": "pair STDP"})
        return {"layers": layers, "connections": wires}

    def raster(self) -> Raster:
        """Spikes of the neurons so far."""
        ticks, state = self.state.update * self.p.update_ticks, self.state
        spans = np.array([[0, ticks]], np.int64)
        return Raster(
            "neurons", self.p.neurons, self.p.tick_s, spans, np.array(state.tick, np.int64),
            np.array(state.neuron, np.int64),
        )  # fmt: skip

    def result(self) -> Result:
        """What was seen, and the checks of it, computed from the spikes and from weights that were read back."""
        p, state, raster = self.p, self.state, self.raster()
        w, first = self.layer.held[self.exists], state.first[self.exists]
        rates_hz, cv = statistics.rates_hz(raster), statistics.interval_cv(raster)
        mean_cv = float(np.nanmean(cv)) if np.isfinite(cv).any() else float("nan")
        outer, outer_first, pairs = _outer(w), _outer(first), self.layer.weights.pairs
        checks = {
            "active": bool((rates_hz > 0).all()),
            "rate_plausible": 0.1 < float(rates_hz.mean()) < 200,
            "irregular": 0.3 < mean_cv < 1.5,
            "weights_moved": float(np.abs(w - first).mean()) > p.a_plus,
            "weights_bounded": float(w.min()) > -BEYOND and float(w.max()) < 1 + BEYOND,
            "bimodal": outer > 0.6 and outer > outer_first,
        }
        values = {
            "checks": checks, "outer_fraction": outer, "outer_fraction_first": outer_first, "rates_hz": rates_hz,
            "rate_hz": float(rates_hz.mean()), "interval_cv": mean_cv, "spikes": len(raster.tick),
            "weights": self.layer.held, "weights_first": state.first, "exists": self.exists,
            "connections": self.layer.connections, "unusable": int((~pairs.usable & pairs.cells()).sum()),
            "learning_pulses": state.pulses, "total_pulses": state.preparing + state.pulses,
            "reads": self.layer.weights.cost["reads"], "read_s": self.layer.weights.cost["read_s"],
            "read_v": state.read_v, "multiply": self.layer.weights.where,
            "seconds": raster.seconds, "update_s": p.update_ticks * p.tick_s,
        }  # fmt: skip
        return Result(all(checks.values()), values)


def _outer(weights: FloatArray) -> float:
    """Share of the weights in the lowest and the highest fifth of the range."""
    return float(((weights < OUTER) | (weights > 1 - OUTER)).mean())


plugin = StdpNetwork
