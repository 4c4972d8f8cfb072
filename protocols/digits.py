"""Unsupervised digits: neurons that compete learn prototypes of 8 x 8 images by STDP (after Diehl & Cook 2015).

Each pixel drives a word line with random spikes, each neuron is one bit line, each weight one cell. The neuron that is
highest above its threshold fires first and sets all others back; its threshold rises, so that others get their turn.
Where it fires, the cells of rows that spiked a short while ago go up, all others of its line down: one pulse each with
a probability that makes the mean step `rate` of the window (stochastic STDP, Querlioz et al. 2013, IEEE TNANO 12, 288;
post-triggered rule and adaptive threshold: Diehl, Cook 2015, Front. Comput. Neurosci. 9, 99). Weights are not
normalised, that would cost pulses; images are: each has `spikes_per_tick` spikes in the mean.

Labels are used only after learning: each neuron votes for the classes in the shares of its mean responses to them, as
the samples to learn from showed them. What is held out decides nothing but the accuracy that is told. In the array:
all weights and their sums; on the host or in the compiled loop: membranes, thresholds, traces.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from neurobench.bench.crossbar import Needs, Reading
from neurobench.bench.steps import Apply, BenchView, LoopAnswer, Note, Protocol, Result, Sense, Step, Steps
from neurobench.bench.stimulus import BoolArray, FloatArray, IndexArray, IntArray, PulseBatch
from neurobench.errors import CapabilityMissing, UsageError
from neurobench.learning.bias import choose_bias
from neurobench.learning.loops import LifStdp, Rule, run
from neurobench.learning.statistics import spikes_note
from neurobench.learning.synapses import Pulses, ReadSettings, cell_read, read_grid

from ._characterise import Progress
from ._digits_data import FOLDS, PIXELS, Split, encode, split
from ._stuck import find_stuck

LOOP_TICKS = 1000  # of one loop
CHECKPOINT_LOOPS = 40
SHOWN = 10  # presentations whose spikes are noted, at the start of every part
HEADROOM, RARE_SIGMA = 0.9, 5.0  # of the ammeter's range; more spikes than that in a tick do not occur
PARTS = ("learn", "label", "test")


class Digits(Protocol):
    """Learn handwritten digits without labels: competing neurons, adaptive thresholds, STDP by single pulses."""

    figures: ClassVar[tuple[str, ...]] = ("raster", "activity", "weights", "training", "confusion", "network")

    neurons: int = Field(100, ge=1, le=4096, description="neurons: one bit line each")
    classes: int = Field(10, ge=2, le=10, description="digits 0 to classes - 1")
    samples: int | None = Field(None, ge=1, description="samples to learn from at most; none: all of the nine folds")
    test_samples: int | None = Field(None, ge=1, description="samples held out at most; none: the whole fold")
    fold: int = Field(0, ge=0, lt=FOLDS, description="which of ten stratified folds is held out")
    epochs: int = Field(5, ge=1, le=1000, description="passes over the samples")
    ticks: int = Field(100, ge=1, le=LOOP_TICKS, description="ticks of one presentation")
    tick_s: float = Field(1e-3, gt=0, description="time of a tick, in seconds")
    spikes_per_tick: float = Field(10.0, gt=0, description="input spikes per tick in the mean, whatever the image")
    drive: float = Field(
        1.0, gt=0, description="what a spike adds to a membrane through a cell at the top of its window"
    )
    tau_membrane_s: float = Field(0.1, gt=0, description="time constant of the membranes, in seconds")
    window_s: float = Field(
        10e-3, gt=0, description="a row that spiked in this time before a neuron fires goes up, in s"
    )
    rate: float = Field(
        1e-3, gt=0, le=1, description="mean change of a weight by one spike of its neuron, of the window"
    )
    theta_step: float = Field(0.02, ge=0, description="rise of the threshold with each spike; it starts at 1")
    scatter_pulses: int = Field(
        20, ge=0, le=1000, description="random pulses per cell before learning, up or down, at most: neurons differ"
    )
    stuck_pulses: int = Field(
        10, ge=0, le=1000, description="pulses up, then down, by which stuck cells are found first; 0: not looked for"
    )
    read_v: float | None = Field(None, gt=0, description="read voltage, in volts; none: that of the device's record")
    goal_accuracy: float = Field(0.8, gt=0, le=1, description="held-out accuracy that counts as learned")

    @property
    def needs(self) -> Needs:
        """One cell for each pixel and neuron."""
        return Needs(rows=PIXELS, cols=self.neurons)

    def bench_defaults(self) -> dict[str, Any]:
        """The array of the task, of devices that were measured and go both ways."""
        return {"chip.rows": PIXELS, "chip.cols": self.neurons, "chip.model": "ag-a-si"}

    def admit(self, view: BenchView) -> None:
        """Refuse devices of which too little is known, and those that cannot be depressed."""
        device = view.device
        if device.pulse is None or not device.depresses:
            raise CapabilityMissing("digits needs a device with a known pulse for either direction ([chip] model)")
        if not (isfinite(device.g_step_s) and device.g_max_s > device.g_min_s):
            raise UsageError("digits needs the devices' range and step: measure them (measure-curve) or declare them")

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """Learn, label, test. `start`: a state that was yielded as a Checkpoint."""
        self.admit(view)
        state = _State.fresh(self, view, int(rng.integers(2**53))) if start is None else _State.back(start)
        task = _Task(self, view, state)
        if start is None:
            yield Note("network", task.network())
            yield from task.prepare()
        while state.part == "learn":
            yield from task.epoch()
        while state.part == "label":
            yield from task.label()
        return (yield from task.test())


@dataclass(slots=True)
class _State(Progress):
    """What a checkpoint holds. `done`: presentations of this part so far, `responses`: their spikes by neuron."""

    key: int
    theta: FloatArray
    usable: BoolArray
    used: IntArray
    read_v: float = 0.0
    part: str = "learn"
    epoch: int = 0
    done: int = 0
    tick: int = 0
    responses: list[IntArray] = field(default_factory=list)
    shares: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    online: list[float] = field(default_factory=list)
    label_accuracy: float = float("nan")
    pulses: list[int] = field(default_factory=list)
    energy_j: float = 0.0

    @classmethod
    def fresh(cls, p: Digits, view: BenchView, key: int) -> _State:
        """Nothing learned; cells of the task that the passport does not exclude are usable."""
        usable = np.zeros(view.shape, np.bool_)
        usable[:PIXELS, : p.neurons] = True
        return cls(key, np.zeros(p.neurons), usable & ~view.excluded, np.zeros(view.shape, np.int64))


class _Task:
    """The presentations; everything that changes is in the state."""

    def __init__(self, p: Digits, view: BenchView, state: _State) -> None:
        self.p, self.view, self.state = p, view, state
        self.data: Split = split(p.classes, p.fold, p.samples, p.test_samples)
        device = view.device
        assert device.pulse is not None  # `admit` has seen to it
        self.using = Pulses(device.pulse, device.depress_pulse or device.pulse)
        known_v = device.read_voltage_v
        read_v = p.read_v or min(known_v if known_v > 0 else 0.1, view.limits.max_read_v)
        block = np.zeros(view.shape, np.bool_)
        block[:PIXELS, : p.neurons] = True
        self.look = cell_read(block, ReadSettings(read_v, both_polarities=view.capabilities.both_polarities))

    def rule(self, learn: bool) -> Rule:
        """Neurons and STDP of this run; without `learn` nothing moves but membranes."""
        p, device, limits, read_v = self.p, self.view.device, self.view.limits, self.state.read_v
        window_s = device.g_max_s - device.g_min_s
        chance = min(p.rate * window_s / device.g_step_s, 1.0)
        return Rule(
            gain_per_a=p.drive / (read_v * window_s), read_v=read_v, tick_s=p.tick_s,
            tau_membrane_s=p.tau_membrane_s, tau_pre_s=2 * p.window_s, pre_window_s=p.window_s, inhibit=True,
            cell_budget=min(LOOP_TICKS, limits.max_loop_pulses_per_cell), theta_step=p.theta_step, learn=learn,
            pairing="post", update="stochastic", a_plus=chance, a_minus=chance, seed=self.state.key,
        )  # fmt: skip

    def fit_range(self) -> Generator[Step, Any, None]:
        """Read with so few volts that the spikes of one tick stay within the ammeter's range at the highest weights.

        UsageError where `read_v` was asked for and is too high for that.
        """
        p, read_v, mean = self.p, self.look.voltage_v, self.p.spikes_per_tick
        reading: Reading = yield Sense(self.look)
        most = min(mean + RARE_SIGMA * mean**0.5, PIXELS)
        highest_v = HEADROOM * reading.range_a / (most * self.view.device.g_max_s)
        if p.read_v is not None and read_v > highest_v:
            raise UsageError(
                f"read_v = {read_v} V: {most:.0f} rows at once, with cells of {self.view.device.g_max_s:.3g} S, would "
                f"leave the ammeter's range of {reading.range_a:.3g} A; at most {highest_v:.3g} V (--set read_v)"
            )
        self.state.read_v = min(read_v, highest_v) if isfinite(highest_v) else read_v

    def prepare(self) -> Generator[Step, Any, None]:
        """Find cells that do not move, and scatter the others, so that the neurons differ."""
        p, state, bias = self.p, self.state, choose_bias("auto", self.view)
        yield from self.fit_range()
        if p.stuck_pulses:
            stuck = yield from find_stuck(state.usable, self.using, bias, self.look, p.stuck_pulses)
            state.used += 2 * p.stuck_pulses * state.usable
            state.usable &= ~stuck
        wide = np.random.default_rng([state.key, 0]).integers(-p.scatter_pulses, p.scatter_pulses + 1, self.view.shape)
        counts = np.where(state.usable, wide, 0).astype(np.int16)
        for part, pulse in (
            (np.maximum(counts, 0), self.using.potentiate),
            (np.minimum(counts, 0), self.using.depress),
        ):
            if part.any():
                yield Apply(PulseBatch(part, pulse, bias))
        state.used += np.abs(counts)
        yield Note("start", {"index": 0, **(yield from self.weights())})

    def weights(self) -> Generator[Step, Any, dict[str, Any]]:
        """The cells of the task read back, and what they have above the lowest conductance, both in siemens."""
        p, device = self.p, self.view.device
        grid_s = (yield from read_grid(self.look))[:PIXELS, : p.neurons]
        return {"conductance_s": grid_s, "weights": grid_s - device.g_min_s, "synapse": "cell"}

    # -- presentations ------------------------------------------------------------------------------------------

    def present(self, images: FloatArray, rule: Rule) -> Generator[Step, Any, IntArray]:
        """All images one after the other: how often each neuron fired [n, neurons]. Goes on where the state stands."""
        p, state = self.p, self.state
        together = max(LOOP_TICKS // p.ticks, 1)
        while state.done < len(images):
            some = images[state.done : state.done + together]
            rng = np.random.default_rng([state.key, 1 + PARTS.index(state.part), state.epoch, state.done])
            spikes = encode(some, self.view.shape[0], p.ticks, p.spikes_per_tick, rng)
            program = LifStdp.fresh(
                rule, spikes, self.view.shape, *self.using, theta=self._thetas(), cell_most=self._most(),
                first_tick=state.tick,
            )  # fmt: skip
            answer: LoopAnswer = yield from run(program, len(some) * p.ticks, self.view)
            if state.done < SHOWN:
                yield from self._spikes(program, answer)
            self._take_in(answer, len(some))
            if (state.done // together) % CHECKPOINT_LOOPS == 0:
                yield state.checkpoint()
        responses = np.concatenate(state.responses)
        state.responses, state.done = [], 0
        return responses

    def _thetas(self) -> FloatArray:
        """Thresholds of all columns: those that no neuron has are never reached."""
        theta = np.full(self.view.shape[1], np.inf)
        theta[: self.p.neurons] = self.state.theta
        return theta

    def _most(self) -> IndexArray:
        """Pulses that each cell may have in the next loop."""
        left = np.clip(self.view.pulses_left - self.state.used, 0, LOOP_TICKS)
        most: IndexArray = np.where(self.state.usable, left, 0).astype(np.int32)
        return most

    def _take_in(self, answer: LoopAnswer, presented: int) -> None:
        p, state = self.p, self.state
        counts = np.zeros((presented, p.neurons), np.int32)
        np.add.at(counts, (answer.spikes[:, 0] // p.ticks, answer.spikes[:, 1]), 1)
        state.responses.append(counts)
        state.theta = answer.state["theta"][: p.neurons].copy()
        state.used += answer.potentiations.astype(np.int64) + answer.depressions
        state.tick, state.done = state.tick + answer.ticks, state.done + presented
        state.energy_j += answer.energy_j

    def _spikes(self, program: LifStdp, answer: LoopAnswer) -> Generator[Step, Any, None]:
        p, state, events = self.p, self.state, program.spikes
        at = np.repeat(np.arange(answer.ticks), np.diff(events.indptr))
        yield spikes_note("input", PIXELS, p.tick_s, state.tick, answer.ticks, at, events.rows)
        yield spikes_note("neurons", p.neurons, p.tick_s, state.tick, answer.ticks, *answer.spikes.T)

    # -- parts of the run ---------------------------------------------------------------------------------------

    def epoch(self) -> Generator[Step, Any, None]:
        """Every sample once, in a random order, learning; then the weights are read back."""
        state, data = self.state, self.data
        order = np.random.default_rng([state.key, 9, state.epoch]).permutation(len(data.images))
        before = int(state.used.sum()) if not state.done else state.pulses.pop()
        state.pulses.append(before)  # until the epoch is over: the pulses before it
        responses = yield from self.present(data.images[order], self.rule(True))
        state.pulses[-1] = int(state.used.sum()) - before
        labels = data.labels[order]
        state.online.append(accuracy(vote(responses, shares(responses, labels, self.p.classes)), labels))
        state.epoch += 1
        told: dict[str, Any] = {
            "index": state.epoch, "accuracy": state.online[-1], "loss": 1 - state.online[-1],
        }  # fmt: skip
        told |= {"pulses": state.pulses[-1], "theta": state.theta.copy()}
        yield Note("epoch", told | (yield from self.weights()))
        state.part = "learn" if state.epoch < self.p.epochs else "label"
        yield state.checkpoint()

    def label(self) -> Generator[Step, Any, None]:
        """What each neuron answers to, found with the samples that it learned from; nothing moves any more."""
        state, data = self.state, self.data
        responses = yield from self.present(data.images, self.rule(False))
        state.shares = shares(responses, data.labels, self.p.classes)
        state.label_accuracy = accuracy(vote(responses, state.shares), data.labels)
        state.part = "test"
        yield state.checkpoint()

    def test(self) -> Steps:
        """What was held out."""
        p, state, data = self.p, self.state, self.data
        responses = yield from self.present(data.test_images, self.rule(False))
        said = vote(responses, state.shares)
        counts = np.zeros((p.classes, p.classes), np.int64)
        np.add.at(counts, (data.test_labels[said >= 0], said[said >= 0]), 1)
        yield Note("confusion", {"labels": [str(k) for k in range(p.classes)], "counts": counts})
        yield Note("activity", self._activity(responses))
        told = yield from self.weights()
        right = accuracy(said, data.test_labels)
        return Result(right >= p.goal_accuracy, told | self._values(right, said, responses) | {"confusion": counts})

    def _values(self, right: float, said: IntArray, responses: IntArray) -> dict[str, Any]:
        p, state, device = self.p, self.state, self.view.device
        return {
            "accuracy": right, "train_accuracy": state.label_accuracy, "accuracy_per_epoch": list(state.online),
            "chance": 1 / p.classes, "unanswered": int((said < 0).sum()), "samples": len(self.data.images),
            "test_samples": len(self.data.test_images), "pulses_per_epoch": list(state.pulses),
            "pulses": int(state.used.sum()), "pulses_per_cell_at_most": int(state.used.max()),
            "energy_j": state.energy_j, "spikes_per_sample": float(responses.sum(axis=1).mean()),
            "neuron_labels": state.shares.argmax(axis=1), "silent_neurons": int((state.shares.sum(axis=1) == 0).sum()),
            "theta": state.theta.copy(), "left_out": PIXELS * p.neurons - int(state.usable.sum()),
            "chance_of_a_pulse": self.rule(True).a_plus, "read_v": state.read_v,
            "compiled": self.view.capabilities.compiled_loops, "half_select": device.half_select,
            "device": device.origin, "device_basis": device.basis,
            "host_state": ["membranes", "thresholds", "traces", "votes of the neurons"],
        }  # fmt: skip

    def _activity(self, responses: IntArray) -> dict[str, Any]:
        """Spikes of each neuron over what was held out, as the squarest map."""
        n = self.p.neurons
        high = next(h for h in range(int(n**0.5), 0, -1) if n % h == 0)
        return {"layer": "neurons", "shape": [high, n // high], "counts": responses.sum(axis=0).reshape(high, -1)}

    def network(self) -> dict[str, Any]:
        """What is connected to what, for the figure."""
        p = self.p
        wires = {"from": "input", "to": "neurons", "rows": [0, PIXELS], "cols": [0, p.neurons]}
        return {
            "layers": [
                {"name": "input", "neurons": PIXELS, "kind": "pixels, random spikes"},
                {"name": "neurons", "neurons": p.neurons, "kind": "LIF, adaptive threshold, winner takes all"},
            ],
            "connections": [wires | {"cells": PIXELS * p.neurons, "rule": "stochastic STDP at post spikes"}],
        }


def shares(responses: IntArray, labels: IntArray, classes: int) -> FloatArray:
    """Votes of each neuron [neurons, classes]: its mean responses to the classes, as shares; 0 where it is silent."""
    means = np.stack([responses[labels == k].sum(axis=0) / max(int((labels == k).sum()), 1) for k in range(classes)], 1)
    total = means.sum(axis=1, keepdims=True)
    of_neurons: FloatArray = np.divide(means, total, out=np.zeros_like(means), where=total > 0)
    return of_neurons


def vote(responses: IntArray, of_neurons: FloatArray) -> IntArray:
    """Class that the neurons' spikes vote for [n]; -1 where none fired."""
    votes = responses @ of_neurons
    said: IntArray = np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), -1)
    return said


def accuracy(said: IntArray, labels: IntArray) -> float:
    """Share of the samples that were named rightly; no answer is a wrong one."""
    return float(np.mean(said == labels))


plugin = Digits
