"""Networks of spiking layers and reservoirs on one crossbar: built from a description, run, trained, saved.

    layers = [{"type": "spiking", "n_inputs": 784, "n_neurons": 256, "bits": 4}, {"type": "reservoir", ...}]
    network = stack(layers, bench.view, rng)

Each layer is a block of the array, the blocks lie along its diagonal. A spike passes all layers within its tick; only
recurrent synapses see the tick before. Classification counts the spikes of the last layer: the class is the neuron with
most of them, the first one of equals. Training: hidden layers by their own rule of spike timing, the last layer by the
delta rule on rates, dw = rate x pre-rate x (target - p), p = softmax(SHARP x counts / ticks) (Widrow & Hoff 1960; the
gradient of the loss below for a linear layer). All of it is local to a synapse but for p, which the host computes. The
loss is the cross-entropy -ln p[label], the accuracy the share of samples whose class is right.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from neurobench.bench.steps import BenchView, Step
from neurobench.bench.stimulus import BoolArray, FloatArray, require
from neurobench.errors import ConfigError, UsageError

from .neurons import Neuron
from .plasticity import PairStdp
from .reservoirs import Reservoir, reservoir
from .spiking import NEURON, STDP, SpikingLayer, spiking_layer

Layer = SpikingLayer | Reservoir
Samples = Iterable[tuple[Any, int]]  # spike trains [ticks, inputs] and their classes


class LayerConfig(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SpikingConfig(LayerConfig):
    """A spiking layer; `bits`: levels that its weights are written in; `recurrent_prob`: see `spiking_layer`."""

    type: Literal["spiking"] = "spiking"
    n_inputs: int = Field(ge=1)
    n_neurons: int = Field(ge=1)
    bits: int | None = Field(None, ge=1, le=16)
    recurrent_prob: float = Field(0.0, ge=0, le=1)
    gain: float = Field(1.0, gt=0)

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the array that it takes."""
        return self.n_inputs + (self.n_neurons if self.recurrent_prob else 0), 2 * self.n_neurons

    @property
    def outputs(self) -> int:
        """What the next layer gets."""
        return self.n_neurons


class ReservoirConfig(LayerConfig):
    """A reservoir with a readout of `output_size` on the host; untrained it gives its state."""

    type: Literal["reservoir"]
    input_size: int = Field(ge=1)
    reservoir_size: int = Field(ge=1)
    output_size: int = Field(ge=1)
    spectral_radius: float = Field(0.9, gt=0)
    connectivity: float = Field(0.1, gt=0, le=1)

    @property
    def n_inputs(self) -> int:
        """Inputs, by the name that all layers have."""
        return self.input_size

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the array that it takes."""
        return self.input_size + self.reservoir_size, 2 * self.reservoir_size

    @property
    def outputs(self) -> int:
        """What the next layer gets."""
        return self.output_size


Described = SpikingConfig | ReservoirConfig
_DESCRIPTIONS: TypeAdapter[list[Described]] = TypeAdapter(list[Annotated[Described, Field(discriminator="type")]])


def described(layers: Sequence[Mapping[str, Any] | Described]) -> list[Described]:
    """The descriptions of a stack, checked: known keys, and each layer fed by what the one before gives."""
    try:
        found = _DESCRIPTIONS.validate_python(list(layers))
    except ValidationError as error:
        raise ConfigError("\n".join(_told(dict(mistake)) for mistake in error.errors())) from None
    require(bool(found), "a network has at least one layer")
    for at, (before, after) in enumerate(pairwise(found)):
        fits = before.outputs == after.n_inputs
        require(fits, f"layers[{at + 1}] takes {after.n_inputs} inputs, layers[{at}] gives {before.outputs}")
    return found


def _told(mistake: dict[str, Any]) -> str:
    """One line on one mistake: which layer, which key, what is wrong."""
    at, *path = mistake["loc"]
    return ": ".join([f"layers[{at}]", *filter(None, [".".join(map(str, path))]), mistake["msg"]])


def shape_of(layers: Sequence[Mapping[str, Any] | Described]) -> tuple[int, int]:
    """Rows and columns of the smallest array on which the stack fits: its blocks along the diagonal."""
    blocks = [layer.block for layer in described(layers)]
    return sum(rows for rows, _ in blocks), sum(cols for _, cols in blocks)


def feed_forward(
    input_size: int, hidden_sizes: Sequence[int], output_size: int, recurrent_prob: float = 0.0
) -> list[Described]:
    """The description of spiking layers of these sizes, the hidden ones recurrent if asked for."""
    sizes = [input_size, *hidden_sizes, output_size]
    probs = [recurrent_prob] * len(hidden_sizes) + [0.0]
    return described([
        {"type": "spiking", "n_inputs": a, "n_neurons": b, "recurrent_prob": p, "gain": GAIN}
        for (a, b), p in zip(pairwise(sizes), probs, strict=True)
    ])  # fmt: skip


SHARP = 8.0  # a neuron that fires in every tick is e^8 times as likely as a silent one
GAIN = 2.0  # threshold units per weight and spike, so that weights of a few tenths of the window make neurons fire


class Score(NamedTuple):
    """Loss and accuracy over samples, confusion[true, predicted], mean spikes of each layer per sample."""

    loss: float
    accuracy: float
    confusion: FloatArray
    activity: tuple[float, ...]


class Forward(NamedTuple):
    """What one sample did: counts[outputs] (or analog outputs) of the last layer, over how many ticks, spikes[ticks,
    neurons] of each spiking layer, and the input of the last layer, mean over the ticks."""

    output: FloatArray
    ticks: int
    rasters: dict[str, BoolArray]
    last_input: FloatArray


@dataclass(slots=True)
class Network:
    """A stack of layers on one crossbar; made by `stack`."""

    layers: list[Layer]
    descriptions: list[Described]
    view: BenchView
    rng: np.random.Generator
    written: list[FloatArray] = field(default_factory=list)

    # -- as a whole ------------------------------------------------------------------------------------------------

    def program(self, spread: float = 0.3) -> Generator[Step, Any, int]:
        """Write the first weights: within +-spread for spiking layers, a reservoir's own; answers the pulses."""
        pulses, self.written = 0, []
        for layer in self.layers:
            if isinstance(layer, Reservoir):
                before = layer.weights.cost["pulses"]
                yield from layer.program()
                pulses += int(layer.weights.cost["pulses"] - before)
                self.written.append(layer.target)
            else:
                target = self.rng.uniform(-spread, spread, layer.weights.shape)
                pulses += (yield from layer.write(target)).pulses
                self.written.append(target)
        return pulses

    def reset(self) -> None:
        """Membranes, traces and states as before the first tick."""
        for layer in self.layers:
            layer.reset()

    def forward(self, train: Any) -> Generator[Step, Any, Forward]:
        """Present train[ticks, inputs] (or one vector) from rest, through all layers."""
        train = np.atleast_2d(np.asarray(train, np.float64))
        require(len(train) > 0, "a spike train has at least one tick")
        self.reset()
        rasters = {layer.name: np.zeros((len(train), layer.neurons), np.bool_) for layer in self._spiking()}
        total: Any = 0.0
        reached: Any = 0.0
        entering = train[0]
        for tick, x in enumerate(train):
            for layer in self.layers:
                entering = np.asarray(x, np.float64)
                x = yield from layer.forward(entering)
                if isinstance(layer, SpikingLayer):
                    rasters[layer.name][tick] = x
            total, reached = total + np.asarray(x, np.float64), reached + entering
        spiking = isinstance(self.layers[-1], SpikingLayer)
        return Forward(total if spiking else np.asarray(x, np.float64), len(train), rasters, reached / len(train))

    def predict(self, train: Any) -> Generator[Step, Any, int]:
        """The class of a spike train: the output with the largest count, the first one of equals. Nothing is learnt."""
        seen = yield from self._unlearnt(train)
        return int(np.argmax(seen.output))

    def _unlearnt(self, train: Any) -> Generator[Step, Any, Forward]:
        """`forward`, of which the rules of spike timing keep nothing."""
        wanted = [layer.wanted.copy() for layer in self._spiking()]
        seen = yield from self.forward(train)
        for layer, before in zip(self._spiking(), wanted, strict=True):
            layer.wanted = before
        return seen

    # -- training ----------------------------------------------------------------------------------------------------

    def train_epoch(self, data: Samples, *, rate: float = 0.1, hidden_rate: float = 0.0) -> Generator[Step, Any, Score]:
        """One pass over the samples in random order; the score is that of the answers before each update.

        `rate`: of the delta rule of the last layer; `hidden_rate`: of the timing rule of the others (0: not learnt).
        """
        samples, last = list(data), self._readout()
        told = _Tally(last.neurons, len(self._spiking()))
        for at in self.rng.permutation(len(samples)):
            train, label = samples[at]
            seen = yield from self.forward(train)
            p = told.add(seen, label)
            wanted = -p
            wanted[label] += 1.0
            last.take_wanted()
            yield from last.change(rate * np.outer(_padded(seen.last_input, last), wanted), self.rng)
            for layer in self._spiking()[:-1]:
                if hidden_rate and layer.rule is not None:
                    yield from layer.update_weights_stdp(self.rng, hidden_rate)
                else:
                    layer.take_wanted()
        return told.score()

    def evaluate(self, data: Samples) -> Generator[Step, Any, Score]:
        """The score over samples; nothing is learnt."""
        told = _Tally(self._readout().neurons, len(self._spiking()))
        for train, label in data:
            told.add((yield from self._unlearnt(train)), label)
        return told.score()

    def _spiking(self) -> list[SpikingLayer]:
        return [layer for layer in self.layers if isinstance(layer, SpikingLayer)]

    def _readout(self) -> SpikingLayer:
        last = self.layers[-1]
        if not isinstance(last, SpikingLayer):
            raise UsageError(
                "classes are counts of spiking neurons; a reservoir at the end has train_output of its own"
            )
        return last

    # -- what there is -----------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, Any]:
        """Counted, not printed from constants: neurons, connections, cells, and each layer's weights as held."""
        return {
            "inputs": self.descriptions[0].n_inputs,
            "neurons": sum(layer.weights.shape[1] for layer in self.layers),
            "connections": sum(_connections(layer) for layer in self.layers),
            "cells": sum(2 * layer.weights.shape[0] * layer.weights.shape[1] for layer in self.layers),
            "layers": [_about(layer) for layer in self.layers],
        }

    def note(self) -> dict[str, Any]:
        """The value of a note "network", which the diagram is drawn from."""
        names = [f"layer {n}" for n in range(len(self.layers))]
        layers = [{"name": "input", "neurons": self.descriptions[0].n_inputs, "kind": "input"}]
        layers += [
            {"name": name, "neurons": layer.weights.shape[1], "kind": said.type}
            for name, layer, said in zip(names, self.layers, self.descriptions, strict=True)
        ]
        pairs = zip(["input", *names], names, self.layers, strict=False)
        return {"layers": layers, "connections": [_connection(a, b, layer) for a, b, layer in pairs]}

    # -- kept --------------------------------------------------------------------------------------------------------

    def kept(self) -> Generator[Step, Any, Kept]:
        """All of it, to be saved: descriptions, weights as asked for, conductances as read back now, and whose chip."""
        read_s: list[FloatArray] = []
        for layer in self.layers:
            grid = yield from layer.weights.read_cells()
            read_s.append(grid)
        back = [layer.weights.weights_of(grid) for layer, grid in zip(self.layers, read_s, strict=True)]
        asked = self.written or [np.full(w.shape, np.nan) for w in back]
        outputs = [layer.readout if isinstance(layer, Reservoir) else None for layer in self.layers]
        about = {"chip_id": self.view.chip_id, "shape": list(self.view.shape), "device": self.view.device.origin}
        return Kept(list(self.descriptions), asked, back, read_s, outputs, about)

    def restore(self, kept: Kept) -> Generator[Step, Any, int]:
        """Program the weights that a network was read back with; answers how many are not within tolerance.

        Raises UsageError for a network of another description.
        """
        if kept.descriptions != self.descriptions:
            raise UsageError(f"the saved network is {kept.descriptions}, this one is {self.descriptions}")
        missed, self.written = 0, []
        for layer, weights, readout in zip(self.layers, kept.weights, kept.readouts, strict=True):
            target = np.clip(weights, -1, 1)
            write = layer.write if isinstance(layer, SpikingLayer) else layer.weights.write
            missed += (yield from write(target)).missed
            self.written.append(target)
            if isinstance(layer, Reservoir):
                layer.readout = readout
                layer.tune(target)
        return missed


class Kept(NamedTuple):
    """A network as it is saved: `asked` and `weights` (read back) of each layer, conductances_s[rows, cols] of the
    array as read for each layer (nan outside it), readouts of reservoirs, and which chip it was on."""

    descriptions: list[Described]
    asked: list[FloatArray]
    weights: list[FloatArray]
    conductances_s: list[FloatArray]
    readouts: list[FloatArray | None]
    about: dict[str, Any]


class _Tally:
    """Adds up the answers to samples."""

    def __init__(self, classes: int, layers: int) -> None:
        self._confusion = np.zeros((classes, classes))
        self._loss, self._active = 0.0, np.zeros(layers)

    def add(self, seen: Forward, label: int) -> FloatArray:
        """Count one answer; gives the softmax of the counts."""
        classes = len(self._confusion)
        require(0 <= label < classes, f"class {label}: the last layer has {classes} neurons")
        shifted = np.exp(SHARP * (seen.output - seen.output.max()) / seen.ticks)
        p: FloatArray = shifted / shifted.sum()
        self._confusion[label, int(seen.output.argmax())] += 1
        self._loss -= float(np.log(max(p[label], np.finfo(float).tiny)))
        self._active += [raster.sum() for raster in seen.rasters.values()]
        return p

    def score(self) -> Score:
        """Means over what was added."""
        n = float(self._confusion.sum())
        require(n > 0, "no sample: there is nothing to score")
        spikes = tuple((self._active / n).tolist())
        return Score(self._loss / n, float(np.trace(self._confusion)) / n, self._confusion, spikes)


def stack(layers: Sequence[Mapping[str, Any] | Described], view: BenchView, rng: np.random.Generator,
          neuron: Neuron = NEURON, rule: PairStdp | None = STDP) -> Network:  # fmt: skip
    """The network of these descriptions on the array, its blocks along the diagonal from the corner.

    Raises ConfigError for a wrong description, CapabilityMissing for an array that is too small.
    """
    found, made = described(layers), []
    row = col = 0
    for at, one in enumerate(found):
        made.append(_made(one, view, rng, neuron, rule, f"layer {at}", row, col))
        row, col = row + one.block[0], col + one.block[1]
    return Network(made, found, view, rng)


def _made(
    one: Described, view: BenchView, rng: np.random.Generator, neuron: Neuron, rule: PairStdp | None, name: str,
    row0: int, col0: int,
) -> Layer:  # fmt: skip
    if isinstance(one, ReservoirConfig):
        made = reservoir(
            view, one.input_size, one.reservoir_size, rng=rng, spectral_radius=one.spectral_radius,
            connectivity=one.connectivity, row0=row0, col0=col0,
        )  # fmt: skip
        made.readout = np.zeros((one.reservoir_size + 1, one.output_size))  # says nothing until it is trained
        return made
    return spiking_layer(
        view, one.n_inputs, one.n_neurons, row0=row0, col0=col0, neuron=neuron, rule=rule, gain=one.gain, name=name,
        bits=one.bits, recurrent_prob=one.recurrent_prob, rng=rng,
    )  # fmt: skip


def _padded(x: FloatArray, layer: SpikingLayer) -> FloatArray:
    """Input of a layer with zeros for its own neurons, where it is recurrent."""
    return np.concatenate([x, np.zeros(layer.weights.shape[0] - len(x))])


def _connections(layer: Layer) -> int:
    if isinstance(layer, SpikingLayer):
        return layer.connections
    return int((layer.target != 0).sum())


def _about(layer: Layer) -> dict[str, Any]:
    held = layer.held if isinstance(layer, SpikingLayer) else layer.target
    return {
        "inputs": layer.inputs, "neurons": layer.weights.shape[1], "connections": _connections(layer),
        "weight_mean": float(held.mean()), "weight_sd": float(held.std()),
    }  # fmt: skip


def _connection(before: str, after: str, layer: Layer) -> dict[str, Any]:
    region = layer.weights.pairs.region
    return {
        "from": before, "to": after, "rows": [region.row0, region.row1], "cols": [region.col0, region.col1],
        "cells": 2 * layer.weights.shape[0] * layer.weights.shape[1],
        "rule": type(layer.rule).__name__ if isinstance(layer, SpikingLayer) and layer.rule else "none",
    }  # fmt: skip
