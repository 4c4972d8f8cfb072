"""Perceptrons of one or two layers on one crossbar, as sub-generators: forward products, and where pulses should go.

Two layers are two blocks of one array. The hidden error comes back through the array where the bench can multiply
backwards; else it is computed from the weights that the host holds from its last read. Both keep on the host what
is not in a conductance: the zeros W0 of auto-zero, and for two layers the hidden activations between the two reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from neurobench.bench.steps import Step
from neurobench.bench.stimulus import FloatArray

from .activations import Judged
from .manhattan import hidden_deltas, signs
from .synapses import Multiplier, Pairs, ReadSettings, SignArray, Where, Writes, count_reads, multiplier, multiply_back

Back = Literal["array", "host", "none"]


AT_ONCE = 4096  # vectors in one read: more are read in parts, so that no single read holds the bench for long


def with_bias(values: FloatArray, bias_row: bool) -> FloatArray:
    """Append the constant input -1 (Prezioso 2015 drives the bias row at -0.1 V) where there is a bias row."""
    return np.column_stack([values, np.full(len(values), -1.0)]) if bias_row else values


class Net(ABC):
    """What training needs of a perceptron: `pairs` of all layers, the output last; `zeros_s`: W0 of each layer.

    What reads cost is added to `cost`.
    """

    pairs: tuple[Pairs, ...]
    cost: dict[str, float]
    zeros_s: list[FloatArray]
    back: Back

    @abstractmethod
    def forward(self, volts: FloatArray) -> Generator[Step, Any, FloatArray]:
        """Differential output currents [n, neurons] of input volts [n, inputs], zeros subtracted."""

    @abstractmethod
    def wishes(self, judged: Judged, volts: FloatArray, counts: SignArray) -> Generator[Step, Any, None]:
        """Add to counts[rows, cols] the pulses that this judgement of the last `forward(volts)` asks for."""

    def keep(self, volts: FloatArray) -> None:  # noqa: B027 - a hint that an implementation may ignore
        """Products of `volts` will be asked for often."""

    @abstractmethod
    def hold(self, grid_s: FloatArray) -> None:
        """Remember the conductances [rows, cols] of a read, for products on the host."""

    @abstractmethod
    def rezero(self, zeros_s: list[FloatArray]) -> None:
        """Use other zeros W0 from now on."""

    def repeated(self, volts: FloatArray, reads: int, where: Where) -> Generator[Step, Any, FloatArray]:
        """Independent reads of the same products: [reads, n, neurons]. One step where the array multiplies."""
        if where == "array" and reads * len(volts) <= AT_ONCE:
            flat = yield from self.forward(np.tile(volts, (reads, 1)))
            return flat.reshape(reads, len(volts), -1)
        stack = np.empty((reads, len(volts), len(self.pairs[-1].plus)))
        for k in range(reads):
            stack[k] = yield from self.forward(volts)
        return stack


@dataclass
class OneLayer(Net):
    """A single layer of differential pairs."""

    layer: Pairs
    zero_s: FloatArray
    where: Where
    settings: ReadSettings
    writes: Writes
    cost: dict[str, float]
    back: Back = "none"
    _ready: dict[int, tuple[Multiplier, FloatArray, FloatArray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pairs = (self.layer,)
        self.zeros_s = [self.zero_s]

    def forward(self, volts: FloatArray) -> Generator[Step, Any, FloatArray]:
        """One read, prepared beforehand where `keep` asked for it."""
        prepared, zero_a, _ = self._ready.get(id(volts)) or self._prepared(volts)
        reading = yield prepared.sense
        count_reads(self.cost, reading, self.settings.averages)
        currents: FloatArray = prepared.of(reading).currents_a - zero_a
        return currents

    def _prepared(self, volts: FloatArray) -> tuple[Multiplier, FloatArray, FloatArray]:
        return multiplier(self.layer, volts, self.where, self.settings), volts @ self.zeros_s[0], volts

    def keep(self, volts: FloatArray) -> None:
        """Prepare the read of `volts` once; the array is kept too, so that its id stays its own."""
        self._ready[id(volts)] = self._prepared(volts)

    def rezero(self, zeros_s: list[FloatArray]) -> None:
        """Also for the reads that are kept."""
        self.zeros_s = zeros_s
        for _, _, volts in list(self._ready.values()):
            self.keep(volts)

    def wishes(self, judged: Judged, volts: FloatArray, counts: SignArray) -> Generator[Step, Any, None]:
        """Pulses by the sign of the gradient; takes no step."""
        self.layer.nudge(signs(judged.deltas, volts), self.writes, counts)
        yield from ()

    def hold(self, grid_s: FloatArray) -> None:
        """One layer needs no weights on the host."""


@dataclass
class TwoLayers(Net):
    """Hidden and output layer as two blocks of one array; tanh between them on the host."""

    hidden: Pairs
    output: Pairs
    zeros_s: list[FloatArray]
    where: Where
    back: Back
    settings: ReadSettings
    writes: Writes
    hidden_beta_per_a: float
    bias_row: bool
    cost: dict[str, float]
    _held_s: FloatArray | None = None
    _activations: FloatArray | None = None

    def __post_init__(self) -> None:
        self.pairs = (self.hidden, self.output)

    def forward(self, volts: FloatArray) -> Generator[Step, Any, FloatArray]:
        """Two reads, the hidden activations between them on the host."""
        currents = yield from self._layer(0, volts)
        self._activations = np.tanh(self.hidden_beta_per_a * currents)
        return (yield from self._layer(1, self._output_volts()))

    def repeated(self, volts: FloatArray, reads: int, where: Where) -> Generator[Step, Any, FloatArray]:
        """As in every net; what `wishes` needs of the forward pass before it stays."""
        kept = self._activations
        stack = yield from super().repeated(volts, reads, where)
        self._activations = kept
        return stack

    def _layer(self, k: int, volts: FloatArray) -> Generator[Step, Any, FloatArray]:
        prepared = multiplier(self.pairs[k], volts, self.where, self.settings)
        reading = yield prepared.sense
        count_reads(self.cost, reading, self.settings.averages)
        currents: FloatArray = prepared.of(reading).currents_a - volts @ self.zeros_s[k]
        return currents

    def _output_volts(self) -> FloatArray:
        assert self._activations is not None, "wishes() follows a forward()"
        return self.settings.read_v * with_bias(self._activations, self.bias_row)

    def wishes(self, judged: Judged, volts: FloatArray, counts: SignArray) -> Generator[Step, Any, None]:
        """Pulses for both layers; the hidden error through the array where it can."""
        assert self._activations is not None, "wishes() follows a forward()"
        assert self._held_s is not None, "wishes() follows a hold()"
        self.output.nudge(signs(judged.deltas, self._output_volts()), self.writes, counts)
        in_array = self.back == "array"
        back = yield from multiply_back(self.output, judged.deltas, in_array, self._held_s, self.settings, self.cost)
        if in_array:
            back = back - judged.deltas @ self.zeros_s[1].T
        deltas = hidden_deltas(back[:, : self._activations.shape[1]], self._activations)
        self.hidden.nudge(signs(deltas, volts), self.writes, counts)

    def rezero(self, zeros_s: list[FloatArray]) -> None:
        """For both layers."""
        self.zeros_s = zeros_s

    def hold(self, grid_s: FloatArray) -> None:
        """Remember the output weights, for the hidden error."""
        self._held_s = self.output.weights(grid_s) - self.zeros_s[1]
