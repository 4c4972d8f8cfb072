"""Direction of a moving bar from event streams: a spiking layer on the crossbar learns it by reward-modulated STDP.

Every bar crosses the whole frame, so which pixels spike says nothing: only the order of their spikes does. Each pixel
of the down-sampled sensor drives a word line, each class is a neuron on a pair of bit lines. Time is kept on the host:
leaky membranes remember when a charge came, and an exponential trace of each pixel when it spiked last. At the end of a
stream a cue lifts all membranes alike; the first that fires names the direction and holds the others back (ties: the
first neuron). Then the reward comes: pair STDP of the winner, pre before post, is potentiated if it was right and
reversed if it was wrong; a reward counts less, the fewer streams were missed in the epoch before (Mozafari et al. 2018,
IEEE TNNLS 29, 6178: first spike decides, reward and punishment, adaptive rates; their convolutions are not used).

In the array: all products of spikes with weights, the weights, their changes as whole pulses, stochastically rounded.
Weights stand still during a stream, so its ticks are read in one go. Controls: the same readout with the weights as
they were found, and the trained weights on held-out streams whose ticks were put in a random order.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from neurobench.bench.crossbar import Needs
from neurobench.bench.steps import BenchView, Note, Protocol, Result, Step, Steps
from neurobench.bench.stimulus import FloatArray, IntArray
from neurobench.errors import Refused, ResumeRefused
from neurobench.learning import neurons, plasticity
from neurobench.learning.matrix import Matrix, matrix
from neurobench.learning.neurons import LIF
from neurobench.learning.plasticity import Mstdpet, PairStdp
from neurobench.learning.statistics import spikes_note

from ._characterise import Progress
from ._moving_bar_streams import Sample, Streams, labels_of, streams_of

SHOWN = 3  # held-out streams of each class whose spikes are noted
TOGETHER = 1024  # ticks of held-out streams that are read at once
ELIGIBLE_S = 1.0  # time constant of the eligibility; the reward comes one tick after the decision


class MovingBar(Protocol):
    """Learn the direction of a moving bar (or the class of recorded event streams) by reward-modulated STDP.

    What is held out decides nothing but whether the goal was reached: a run ends by what was learned from.
    """

    figures: ClassVar[tuple[str, ...]] = ("raster", "activity", "weights", "training", "confusion", "network")

    directions: Literal[2, 4] = Field(4, description="2: right and left; 4: right, down, left, up")
    pixels: int = Field(8, ge=2, le=64, description="pixels per side after down-sampling; pixels^2 word lines")
    sensor: int = Field(16, ge=4, le=256, description="pixels per side of the synthetic sensor")
    train: int = Field(80, ge=2, le=100_000, description="streams to learn from")
    test: int = Field(80, ge=2, le=100_000, description="streams held out")
    epochs: int = Field(10, ge=1, le=10_000, description="passes over the streams at most")
    velocity_px_s: float = Field(200.0, gt=0, description="mean speed of the bars, in pixels of the sensor per second")
    velocity_spread: float = Field(0.3, ge=0, lt=1, description="speeds are even within this share of the mean")
    noise_hz: float = Field(1.0, ge=0, description="background events per pixel of the sensor and second")
    denoise_s: float = Field(10e-3, ge=0, description="an event needs one of a neighbour in this time; 0: not filtered")
    refractory_s: float = Field(20e-3, ge=0, description="a pixel is silent for so long after a spike")
    tick_s: float = Field(5e-3, gt=0, description="time of one tick, in seconds")
    tau_s: float = Field(40e-3, gt=0, description="time constant of membranes and traces, in seconds")
    rate: float = Field(0.02, gt=0, le=1, description="change of a weight by a pair at dt = 0, of the devices' window")
    read_v: float | None = Field(None, gt=0, description="read voltage, in volts; none: that of the device's record")
    averages: int = Field(1, ge=1, le=1_000_000, description="reads that the instrument averages in each")
    goal_accuracy: float = Field(0.9, gt=0, le=1, description="held-out accuracy that counts as learned")
    stop_accuracy: float = Field(
        0.975,
        gt=0,
        le=1,
        description="share of the streams to learn from, named rightly in an epoch, that ends the run",
    )
    events: str = Field("", description="folder with one folder of event files for each class; none: synthetic bars")

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs and neurons."""
        return self.pixels**2, len(labels_of(self))

    @property
    def needs(self) -> Needs:
        """A row for each pixel and a pair of columns for each class, and products."""
        inputs, classes = self.shape
        return Needs(rows=inputs, cols=2 * classes, multiply=True)

    def bench_defaults(self) -> dict[str, Any]:
        """The array of the task, of devices that were measured and go both ways."""
        inputs, classes = self.shape
        return {"chip.rows": inputs, "chip.cols": 2 * classes, "chip.model": "al2o3-tio2-nili"}

    def rule(self) -> Mstdpet:
        """Reward-modulated pair STDP; there is one post spike, at the end, so nothing depresses but a punishment."""
        pair = PairStdp(
            a_plus=self.rate, a_minus=0.0, tau_plus_s=self.tau_s, tau_minus_s=self.tau_s, pairing="nearest", w_min=-1.0
        )
        return Mstdpet(pair=pair, tau_eligibility_s=ELIGIBLE_S, gain=ELIGIBLE_S)

    def admit(self, view: BenchView) -> None:
        """Refuse a chip whose cells of the task may not be pulsed."""
        inputs, classes = self.shape
        dead = int(view.excluded[:inputs, : 2 * classes].sum())
        if dead > inputs * classes:
            raise Refused(
                f"{dead} of the {2 * inputs * classes} cells of this task are excluded by the chip's passport"
            )

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """Look, learn, and look again after each epoch. `start`: a state that was yielded as a Checkpoint."""
        state = _State(int(rng.integers(2**62))) if start is None else _State.back(start)
        streams = streams_of(self, state.key)
        state.streams = state.streams or streams.digest()
        if state.streams != streams.digest():
            raise ResumeRefused(f"events = {self.events}: the streams are not those that this run began with")
        task = _Task(self, view, streams, state)
        if start is None:
            yield from task.fit_range()
            yield Note("network", task.network())
            yield from task.look("start")
        while state.epoch < self.epochs and max(state.online[-1:], default=0.0) < self.stop_accuracy:
            yield from task.epoch()
            yield from task.look("epoch")
            yield state.checkpoint()
        return (yield from task.result())


@dataclass(slots=True)
class _State(Progress):
    """What a checkpoint holds. Curves have an entry per epoch; `missed`: share of the streams, in the last epoch;
    `streams`: digest of what is learned from and held out."""

    key: int
    streams: str = ""
    epoch: int = 0
    missed: float = 1.0
    untrained: float = float("nan")
    read_v: float = 0.0
    online: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    pulses: list[int] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=lambda: {"pulses": 0.0, "reads": 0.0, "read_s": 0.0})


class _Task:
    """The layer on the crossbar with its streams; everything that changes is in the state."""

    def __init__(self, p: MovingBar, view: BenchView, streams: Streams, state: _State) -> None:
        self.p, self.view, self.streams, self.state = p, view, streams, state
        self.neuron = LIF(tau_s=p.tau_s, drive="delta")
        self.weights = self.layer(state.read_v or p.read_v)

    def layer(self, read_v: float | None) -> Matrix:
        """The weights, read with `read_v` (none: that of the device's record)."""
        inputs, classes = self.p.shape
        weights = matrix(self.view, inputs, classes, read_v=read_v, averages=self.p.averages)
        weights.cost = self.state.cost
        return weights

    def fit_range(self) -> Generator[Step, Any, None]:
        """Read with so few volts that no column leaves the ammeter's range, even with all its cells at their highest.

        UsageError where `read_v` was asked for and is too high for that.
        """
        most = max(int(sample.raster.sum(axis=1).max()) for sample in self.streams.train + self.streams.test)
        yield from self.weights.fit_range(most, self.p.read_v is not None)
        self.state.read_v = self.weights.settings.read_v

    def epoch(self) -> Generator[Step, Any, None]:
        """Every stream once, in a random order, each followed by its reward."""
        state = self.state
        rng = np.random.default_rng([state.key, 1, state.epoch])
        before, right = state.cost["pulses"], 0
        for n in rng.permutation(len(self.streams.train)):
            sample = self.streams.train[n]
            said = (yield from self.decide([sample]))[0]
            right += said == sample.label
            reward = state.missed if said == sample.label else -1.0
            yield from self.weights.change(self.credit(sample, int(said), reward), rng)
        state.online.append(right / len(self.streams.train))
        state.missed = 1 - state.online[-1]
        state.pulses.append(int(state.cost["pulses"] - before))
        state.epoch += 1

    def decide(self, samples: list[Sample]) -> Generator[Step, Any, IntArray]:
        """The winner of each stream [n]: ticks of many streams are read together, then membranes run over each."""
        raster = np.concatenate([sample.raster for sample in samples]).astype(np.float64)
        pushed = np.empty((len(raster), self.weights.shape[1]))
        for part in (slice(first, first + TOGETHER) for first in range(0, len(raster), TOGETHER)):
            pushed[part] = yield from self.weights.multiply(raster[part])
        ends = np.cumsum([len(sample.raster) for sample in samples])
        return np.array([self._winner(ticks) for ticks in np.split(pushed, ends[:-1])])

    def _winner(self, pushed: FloatArray) -> int:
        """The highest membrane after pushed[ticks, neurons]: a cue that lifts all alike makes it fire first."""
        v = neurons.start(pushed.shape[1], self.neuron).v
        for push in pushed:
            v = self.neuron.charged(v, push, self.p.tick_s)
        return int(v.argmax())

    def credit(self, sample: Sample, winner: int, reward: float) -> FloatArray:
        """dw[inputs, neurons]: the stream, the winner's spike in the tick after it, then the reward."""
        p, rule = self.p, self.p.rule()
        traces, flat = plasticity.start(rule, self.weights.shape, p.tick_s), np.zeros(self.weights.shape)
        none = np.zeros(self.weights.shape[1], np.bool_)
        fired, silent = np.arange(len(none)) == winner, np.zeros(self.weights.shape[0], np.bool_)
        for pre, post in [*((spikes, none) for spikes in sample.raster), (silent, fired)]:
            traces, _ = plasticity.step(traces, pre, post, flat, rule, p.tick_s)
        _, dw = plasticity.step(plasticity.rewarded(traces, reward), silent, none, flat, rule, p.tick_s)
        change: FloatArray = dw
        return change

    def look(self, name: str) -> Generator[Step, Any, None]:
        """Held-out accuracy and the weights read back, noted under `name`."""
        p, state = self.p, self.state
        accuracy = _share(self.streams.test, (yield from self.decide(self.streams.test)))
        grid_s = yield from self.weights.read_cells()
        told = {"index": state.epoch, "test_accuracy": accuracy, "weights": self.weights.pairs.weights(grid_s)}
        told["conductance_s"] = grid_s[: p.shape[0], : 2 * p.shape[1]]
        if name == "start":
            state.untrained = accuracy
        else:
            state.held_out.append(accuracy)
            told |= {"accuracy": state.online[-1], "loss": 1 - state.online[-1], "pulses": state.pulses[-1]}
        yield Note(name, told)

    def result(self) -> Steps:
        """Decisions on what was held out, once more with its ticks in a random order, and the weights."""
        p, state, test = self.p, self.state, self.streams.test
        said = yield from self.decide(test)
        rng = np.random.default_rng([state.key, 2])
        mixed = [Sample(rng.permutation(sample.raster), sample.label) for sample in test]
        shuffled = _share(mixed, (yield from self.decide(mixed)))
        weights = yield from self.weights.read()
        pairs = np.array([sample.label for sample in test]) * p.shape[1] + said
        counts = np.bincount(pairs, minlength=p.shape[1] ** 2).reshape(p.shape[1], p.shape[1])
        yield Note("confusion", {"labels": list(self.streams.labels), "counts": counts})
        yield from self._spikes(said)
        accuracy = _share(test, said)
        return Result(
            accuracy >= p.goal_accuracy,
            {
                "accuracy": accuracy, "accuracy_untrained": state.untrained, "accuracy_shuffled": shuffled,
                "chance": 1 / p.shape[1], "accuracy_per_epoch": list(state.held_out),
                "online_accuracy_per_epoch": list(state.online), "pulses_per_epoch": list(state.pulses),
                "epochs": state.epoch, "labels": list(self.streams.labels), "confusion": counts, "weights": weights,
                "train_streams": len(self.streams.train), "test_streams": len(test), "cost": dict(state.cost),
                "multiply": self.weights.where, "writes": self.weights.writes, "step": self.weights.step,
                "read_v": state.read_v,
                "device": self.view.device.origin, "device_basis": self.view.device.basis,
                "streams": p.events or "synthetic", "host_state": HOST_STATE,
            },
        )  # fmt: skip

    def _spikes(self, said: IntArray) -> Generator[Step, Any, None]:
        """Spikes of some held-out streams one after the other, and how often each pixel spiked in all of them."""
        p, at = self.p, 0
        inputs, classes = p.shape
        for sample, winner in list(zip(self.streams.test, said, strict=True))[: SHOWN * classes]:
            ticks = len(sample.raster) + 1  # the cue is one more
            yield spikes_note("input", inputs, p.tick_s, at, ticks, *np.nonzero(sample.raster))
            yield spikes_note("direction", classes, p.tick_s, at, ticks, [ticks - 1], [winner])
            at += ticks
        counts = np.sum([sample.raster.sum(axis=0) for sample in self.streams.test], axis=0)
        yield Note(
            "activity", {"layer": "input", "shape": [p.pixels] * 2, "counts": counts.reshape(p.pixels, p.pixels)}
        )

    def network(self) -> dict[str, Any]:
        """What is connected to what, for the figure."""
        inputs, classes = self.p.shape
        wires = {"from": "input", "to": "direction", "rows": [0, inputs], "cols": [0, 2 * classes]}
        return {
            "layers": [
                {"name": "input", "neurons": inputs, "kind": "pixels"},
                {"name": "direction", "neurons": classes, "kind": "LIF, first wins"},
            ],
            "connections": [wires | {"cells": 2 * inputs * classes, "rule": "reward-modulated STDP"}],
        }


HOST_STATE = ["membranes", "trace of each pixel", "eligibility of each weight", "share of streams missed"]


def _share(samples: list[Sample], said: IntArray) -> float:
    """Share of the streams that were named rightly."""
    return float(np.mean([sample.label == winner for sample, winner in zip(samples, said, strict=True)]))


plugin = MovingBar
