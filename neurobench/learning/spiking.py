"""A layer of spiking neurons whose synapses are cells of the crossbar.

Each tick is one read: the spikes are volts on the word lines, the differential currents of the bit lines charge the
neurons. A plasticity rule looks at the spikes of both sides and says how the weights should change; the change is
collected on the host and fired as whole pulses by `update_weights_stdp`. What stays on the host, and would cost on
hardware: membranes, the rule's traces, the collected change, and a copy of the weights as they were read last (only
rules that depend on the weight look at it).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from neurobench.bench.steps import BenchView, Step
from neurobench.bench.stimulus import BoolArray, FloatArray, require

from . import neurons, plasticity
from .matrix import Matrix, Programmed, matrix
from .neurons import LIF, Neuron
from .plasticity import PairStdp
from .quantised import Levels

# Pair STDP of Song, Miller & Abbott 2000 (amplitudes 0.01 of the range, depression 5 % larger), on weights in [-1, 1].
STDP = PairStdp(a_plus=0.01, a_minus=0.0105, w_min=-1.0, w_max=1.0)
NEURON = LIF(drive="delta")  # in units of its threshold: a weight of 1 and one spike reach it


@dataclass(slots=True)
class SpikingLayer:
    """Neurons on the columns of a matrix; made by `spiking_layer`. `gain`: threshold units per weight and spike.

    `recurrent`: the last rows of the matrix are driven by the layer's own spikes of the tick before; `connected`
    [neurons, neurons] says which of these synapses exist, the cells of the others stay at weight 0 and still leak.
    `levels`: those that a written weight is rounded to (None: any weight); 0 is none of them where they are even.
    """

    weights: Matrix
    neuron: Neuron
    rule: PairStdp | None
    dt_s: float
    gain: float
    name: str
    levels: Levels | None
    connected: BoolArray | None
    state: Any = None
    traces: Any = None
    last: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))
    held: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    wanted: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        self.held, self.wanted = np.zeros(self.weights.shape), np.zeros(self.weights.shape)
        self.reset()

    @property
    def inputs(self) -> int:
        """Inputs from outside."""
        return self.weights.shape[0] - (0 if self.connected is None else self.neurons)

    @property
    def neurons(self) -> int:
        """Neurons of the layer, its outputs."""
        return self.weights.shape[1]

    @property
    def connections(self) -> int:
        """Synapses that exist."""
        return self.inputs * self.neurons + (0 if self.connected is None else int(self.connected.sum()))

    def reset(self) -> None:
        """Membranes and traces as before the first tick; weights and their collected change stay."""
        self.state = neurons.start(self.neurons, self.neuron)
        self.last = np.zeros(self.neurons, np.bool_)
        self.traces = None if self.rule is None else plasticity.start(self.rule, self.weights.shape, self.dt_s)

    def forward(self, spikes: Any) -> Generator[Step, Any, BoolArray]:
        """One tick: spikes[inputs] in (or drives in [-1, 1]), spikes[neurons] out. A silent tick needs no read."""
        x = np.asarray(spikes, np.float64)
        require(x.shape == (self.inputs,), f"layer {self.name}: {x.shape} spikes for {self.inputs} inputs")
        rows = x if self.connected is None else np.concatenate([x, self.last])
        pushed = (yield from self.weights.multiply(rows))[0]
        self.state, self.last = neurons.step(self.state, self.gain * pushed, self.neuron, self.dt_s)
        if self.rule is not None:
            self._watch(rows > 0, self.last)
        return self.last

    def _watch(self, pre: BoolArray, post: BoolArray) -> None:
        assert self.rule is not None
        self.traces, dw = plasticity.step(self.traces, pre, post, self.held, self.rule, self.dt_s)
        self.wanted += dw

    def present(self, train: Any) -> Generator[Step, Any, BoolArray]:
        """Spikes[ticks, neurons] in answer to train[ticks, inputs]."""
        raster = np.zeros((len(train), self.neurons), np.bool_)
        for tick, spikes in enumerate(train):
            raster[tick] = yield from self.forward(spikes)
        return raster

    def write(self, weights: Any) -> Generator[Step, Any, Programmed]:
        """Program weights[inputs (+ neurons), neurons] in [-1, 1], rounded to `levels`; what is read back is held."""
        target, tolerance = np.array(weights, np.float64), None
        if self.levels:
            target, tolerance = self.levels.nearest(target), self.levels.distance / 8  # per cell; a weight has two
        if self.connected is not None and target.shape == self.weights.shape:
            target[self.inputs :] *= self.connected
        done = yield from self.weights.write(target, tolerance)
        self.held = done.weights
        return done

    def read(self) -> Generator[Step, Any, FloatArray]:
        """The weights [inputs (+ neurons), neurons], read back and held."""
        self.held = yield from self.weights.read()
        return self.held

    def update_weights_stdp(self, rng: np.random.Generator, learning_rate: float = 1.0) -> Generator[Step, Any, int]:
        """Fire what the rule has wanted since the last update, times `learning_rate`; answers the number of pulses."""
        require(self.rule is not None, f"layer {self.name} has no rule: it does not learn by spike timing")
        pulses = yield from self.change(learning_rate * self.wanted, rng)
        self.take_wanted()  # not before: a refused step loses nothing
        return pulses

    def take_wanted(self) -> FloatArray:
        """The change that the rule has collected; it starts again from nothing."""
        wanted, self.wanted = self.wanted, np.zeros(self.weights.shape)
        return wanted

    def change(self, dw: FloatArray, rng: np.random.Generator) -> Generator[Step, Any, int]:
        """Move the weights by dw, as whole pulses; recurrent synapses that do not exist get none."""
        if self.connected is not None:
            dw = dw.copy()
            dw[self.inputs :] *= self.connected
        pulses = yield from self.weights.change(dw, rng)
        self.held = np.clip(self.held + dw, -1, 1)
        return pulses


def spiking_layer(
    view: BenchView, inputs: int, neurons: int, *, row0: int = 0, col0: int = 0, neuron: Neuron = NEURON,
    rule: PairStdp | None = STDP, gain: float = 1.0, dt_s: float = 1e-3, name: str = "layer", bits: int | None = None,
    recurrent_prob: float = 0.0, rng: np.random.Generator | None = None, read_v: float | None = None,
) -> SpikingLayer:  # fmt: skip
    """A layer in the block of the array at (row0, col0): `inputs` rows (and `neurons` more where it is recurrent),
    2 x `neurons` columns.

    `bits`: weights are written in 2**bits levels; how many levels the devices can tell apart is a matter of their own
    (`quantised.bits`). `recurrent_prob`: the probability that one neuron feeds another, drawn from `rng`. `read_v`:
    in volts, None takes that of the device's record.
    """
    require(inputs >= 1 and neurons >= 1, f"a layer of {inputs} inputs and {neurons} neurons: at least one of each")
    require(0 < gain < inf, f"gain = {gain}: threshold units per weight and spike, above 0")
    require(0 <= recurrent_prob <= 1, f"recurrent_prob = {recurrent_prob}: a probability")
    require(bits is None or 1 <= bits <= 16, f"bits = {bits}: 1 to 16, or none for any weight")
    connected: BoolArray | None = None
    if recurrent_prob:
        drawn = (rng or np.random.default_rng(0)).random((neurons, neurons)) < recurrent_prob
        connected = drawn & ~np.eye(neurons, dtype=np.bool_)
    rows = inputs + (neurons if connected is not None else 0)
    block = matrix(view, rows, neurons, row0=row0, col0=col0, read_v=read_v)
    levels = None if bits is None else Levels(-1.0, 1.0, bits)
    return SpikingLayer(block, neuron, rule, dt_s, gain, name, levels, connected)
