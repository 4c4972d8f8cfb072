"""Conditioning by a distal reward: the one synapse whose pre-post coincidence is rewarded grows, the others do not.

After Izhikevich 2007, Cereb. Cortex 17, 2443, figure 1. Poisson inputs drive one leaky neuron through single cells of
one column; random spikes of its own come on top. Whenever the neuron fires within `window_s` after a spike of the
target input, a reward is on its way, which arrives up to a second later among all the other spikes (one at a time).
What pair STDP would have done is remembered per synapse in an eligibility that decays with `tau_eligibility_s`, and
only a reward turns it into pulses: dw = gain r (z - mean of z), scaled by the room that the weight has left (`mu`). The
reward acts at once, dopamine without a tail: Florian's form (2007, plasticity.Mstdpet). Subtracting the running mean of
the eligibility takes out what STDP would do with rewards that depend on nothing (Fremaux, Sprekeler & Gerstner 2010,
J. Neurosci. 30, 13326, from memory). Without soft bounds, of the rule or of the device, the weights of the others
wander through the whole window: each reward moves them at random.

Controls, each from newly set weights with new spikes: "shuffled" gets as many rewards at the same times, which here
depend on nothing; "unrewarded" gets none. Learning is what the rewarded phase shows and the controls do not.

What is read: currents of the column in ticks with an input spike (a silent tick needs no read), in the array, and the
cells after each batch of pulses; where the bench does not multiply, the host does it with these. What is pulsed: whole
pulses of the device's own kind, at rewards. On the host: membrane, traces, one eligibility and its mean per
synapse. The time of the network is not that of the bench: its ticks are as many as there are reads, not as long.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from math import exp, isfinite
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from neurobench.bench.crossbar import Needs, Reading
from neurobench.bench.steps import BenchView, Note, Protocol, Result, Sense, Step, Steps
from neurobench.bench.stimulus import Bias, BoolArray, FloatArray, Region, VectorRead
from neurobench.errors import CapabilityMissing, Refused, UsageError
from neurobench.learning import plasticity
from neurobench.learning.bias import Select, choose_bias
from neurobench.learning.plasticity import Mstdpet, PairStdp, PairTraces, RewardTraces
from neurobench.learning.quantised import Quantiser, Rounding, quantise
from neurobench.learning.statistics import spikes_note
from neurobench.learning.synapses import Pulses, ReadSettings, cell_read, fire, fit_range, grid_of, over_a, refuse_cut

from ._characterise import Progress, due, pulse_of

Control = Literal["shuffled", "unrewarded"]
REWARDED = "rewarded"
CAUTION = 0.6  # a stroke of so much of the way: steps differ by device and state


class Conditioning(Protocol):
    """Reward-modulated STDP finds the synapse whose coincidences are rewarded late (Izhikevich 2007)."""

    inputs: int = Field(20, ge=3, le=4096, description="Poisson inputs, one row of the array each")
    target: int = Field(0, ge=0, description="the input whose coincidences are rewarded")
    rate_hz: float = Field(2.0, gt=0, le=200, description="mean rate of each input, in hertz")
    background_hz: float = Field(1.0, ge=0, le=200, description="random spikes of the neuron itself, in hertz")
    epochs: int = Field(30, ge=1, le=10_000, description="epochs of each phase; weights are read after each")
    epoch_s: float = Field(20.0, gt=0, le=1000, description="length of an epoch, in seconds of the network")
    tick_s: float = Field(1e-3, gt=0, le=5e-3, description="tick of the network, in seconds")
    tau_membrane_s: float = Field(20e-3, gt=0, le=1, description="membrane time constant, in seconds")
    lift: float = Field(0.3, gt=0, le=1, description="what one spike through a mid-range synapse adds, in thresholds")
    a_minus: float = Field(1.05, ge=0, le=10, description="depression of a pair; its potentiation is 1")
    tau_plus_s: float = Field(20e-3, gt=0, le=1, description="time constant of potentiation, in seconds")
    tau_minus_s: float = Field(20e-3, gt=0, le=1, description="time constant of depression, in seconds")
    tau_eligibility_s: float = Field(1.0, gt=0, le=100, description="time constant of the eligibility, in seconds")
    mean_s: float = Field(20.0, ge=0, le=1e6, description="time over which the eligibility's mean is taken; 0: none")
    gain: float = Field(0.04, gt=0, le=1, description="share of the window that one reward moves per unit eligibility")
    mu: float = Field(
        1.0, ge=0, le=10, description="soft bounds: changes are scaled by (1 - w)^mu upwards, w^mu downwards; 0: not"
    )
    window_s: float = Field(10e-3, gt=0, le=1, description="a post spike so soon after the target's is a coincidence")
    min_delay_s: float = Field(0.0, ge=0, le=100, description="shortest delay of a reward, in seconds")
    max_delay_s: float = Field(1.0, gt=0, le=100, description="longest delay of a reward, in seconds")
    start: float = Field(0.5, gt=0, lt=1, description="weight at the beginning of a phase, as a share of the window")
    start_tolerance: float = Field(0.05, gt=0, le=0.5, description="how near to it, as a share of the window")
    start_rounds: int = Field(30, ge=1, le=1000, description="strokes at most that bring the weights there")
    rounding: Rounding = Field("stochastic", description="how changes become whole pulses: nearest or stochastic")
    cap: int = Field(64, ge=1, le=32767, description="pulses per cell and reward at most")
    controls: tuple[Control, ...] = Field(("shuffled",), description="phases to compare with: shuffled, unrewarded")
    separation: float = Field(3.0, gt=0, description="reached: target beyond the others by so many of their deviations")
    margin_sigma: float = Field(3.0, gt=0, description="reached: target above every other by so many sigma of a read")
    read_v: float | None = Field(
        None, gt=0, description="read voltage, in volts; none: that of the device's own record, else 0.1"
    )
    integration_s: float = Field(1e-3, gt=0, description="time of one read, in seconds")
    averages: int = Field(1, ge=1, le=1_000_000, description="reads that the instrument averages in each")
    noise_reads: int = Field(4, ge=2, le=1000, description="reads of the weights that end a phase: mean and noise")
    amplitude_v: float | None = Field(None, gt=0, description="write pulse, in volts; none: as the device is known")
    width_s: float | None = Field(None, gt=0, description="write pulse, in seconds; none: as the device is known")
    select: Select = Field(
        "auto", description="bias of unselected lines while writing; auto: the safest that the bench has"
    )

    figures = ("raster", "weights", "network")

    @model_validator(mode="after")
    def _fits_together(self) -> Conditioning:
        if self.target >= self.inputs:
            raise ValueError(f"target = {self.target}: the inputs are 0 to {self.inputs - 1}")
        if self.min_delay_s >= self.max_delay_s:
            raise ValueError(f"min_delay_s = {self.min_delay_s} must lie below max_delay_s = {self.max_delay_s}")
        if self.rate_hz * self.tick_s > 0.5 or self.background_hz * self.tick_s > 0.5:
            raise ValueError("rate_hz and background_hz: at most one spike in two ticks (tick_s)")
        if len(set(self.controls)) < len(self.controls):
            raise ValueError(f"controls = {list(self.controls)}: each once")
        return self

    @property
    def needs(self) -> Needs:
        """A column of as many rows as inputs, and products: in the array, or on the host."""
        biases = frozenset() if self.select == "auto" else frozenset({Bias(self.select)})
        return Needs(rows=self.inputs, multiply=True, biases=biases)

    def bench_defaults(self) -> dict[str, Any]:
        """One column of measured devices that step both ways."""
        return {"chip.rows": self.inputs, "chip.cols": 1, "chip.model": "epiram"}

    def admit(self, view: BenchView) -> None:
        """Refuse devices that do not depress or whose window nobody knows, and a column with too few usable cells."""
        _Bench.of(self, view)

    def rule(self) -> Mstdpet:
        """What is remembered and what a reward makes of it; dw in shares of the window, which the device bounds."""
        pair = PairStdp(
            a_plus=1.0, a_minus=self.a_minus, tau_plus_s=self.tau_plus_s, tau_minus_s=self.tau_minus_s,
            w_min=-float("inf"), w_max=float("inf"),
        )  # fmt: skip
        return Mstdpet(pair=pair, tau_eligibility_s=self.tau_eligibility_s, gain=self.gain * self.tau_eligibility_s)

    @property
    def phases(self) -> tuple[str, ...]:
        """The rewarded phase, then the controls."""
        return (REWARDED, *self.controls)

    @property
    def ticks(self) -> int:
        """Ticks of an epoch."""
        return max(1, round(self.epoch_s / self.tick_s))

    def raster(self, key: int, phase: int, epoch: int) -> tuple[BoolArray, np.random.Generator]:
        """Spikes [ticks, inputs] of the inputs in an epoch, and the generator that drew them."""
        rng = np.random.default_rng([key, phase, epoch])
        return rng.random((self.ticks, self.inputs)) < self.rate_hz * self.tick_s, rng

    def together(self, key: int) -> int:
        """How many inputs spike in one tick at most."""
        epochs = ((phase, epoch) for phase in range(len(self.phases)) for epoch in range(self.epochs))
        return max(int(self.raster(key, phase, epoch)[0].sum(axis=1).max()) for phase, epoch in epochs)

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """All phases. `start`: a state that was yielded as a Checkpoint."""
        bench = _Bench.of(self, view)
        if start is None:
            state = _State.fresh(bench, int(rng.integers(2**62)))
            state.read_v = (yield from bench.in_range(self.together(state.key))).read_v
            yield Note("network", _network(self))
        else:
            state = _State.back(start)
        bench = replace(bench, settings=bench.settings._replace(read_v=state.read_v))
        while state.phase < len(self.phases):
            yield from _Phase(self, bench, state).go_on()
        return _result(self, bench, state)


@dataclass(frozen=True, slots=True)
class _Bench:
    """The column on the bench: weight w is g_min + w x span siemens; how it is read and pulsed."""

    p: Conditioning
    view: BenchView
    rows: Any
    low_s: float
    span_s: float
    step: Quantiser
    using: Pulses
    bias: Bias
    where: Literal["array", "host"]
    settings: ReadSettings

    @classmethod
    def of(cls, p: Conditioning, view: BenchView) -> _Bench:
        """As the parameters say, and what is declared of the devices. Raises what `admit` promises."""
        device, plan = view.device, p.needs.plan(view.capabilities)
        if not device.depresses:
            raise CapabilityMissing(
                "conditioning needs devices that depress; no depressing pulse is known of this chip (declare it in its "
                "card, or choose another chip.model)"
            )
        low_s, span_s = device.g_min_s, device.g_max_s - device.g_min_s
        if not (isfinite(span_s) and span_s > 0):
            raise UsageError("the window of this device is not known: chip.model or chip.curve says which card is its")
        rows = np.flatnonzero(~view.excluded[:, 0])[: p.inputs]
        if len(rows) < p.inputs:
            raise Refused(f"{p.inputs} inputs, but only {len(rows)} cells of column 0 are usable (--set inputs=...)")
        read_v = p.read_v or min(device.read_voltage_v if device.read_voltage_v > 0 else 0.1, view.limits.max_read_v)
        return cls(
            p, view, rows, low_s, span_s, Quantiser.of(device, p.rounding, p.cap),
            Pulses(*(pulse_of(view, sign, p.amplitude_v, p.width_s, "amplitude") for sign in (1, -1))),
            choose_bias(p.select, view), plan.multiply,
            ReadSettings(read_v, p.averages, view.capabilities.both_polarities, p.integration_s),
        )  # fmt: skip

    @property
    def lift_per_s(self) -> float:
        """Thresholds that one spike through a siemens adds to the membrane."""
        return self.p.lift / (self.low_s + self.span_s / 2)

    def in_range(self, together: int) -> Generator[Step, Any, ReadSettings]:
        """Settings that keep the column in the ammeter's range when so many inputs spike in one tick."""
        lines, cell = together if self.where == "array" else 1, (int(self.rows[0]), 0)
        return (yield from fit_range(self.view, self.settings, cell, lines, self.p.read_v is not None))

    def read(self) -> Generator[Step, Any, tuple[FloatArray, float]]:
        """Conductances [inputs] of the column in siemens, cell by cell; the declared sigma of one (nan: unknown)."""
        mask = np.zeros(self.view.shape, np.bool_)
        mask[self.rows, 0] = True
        read = cell_read(mask, self.settings)
        reading: Reading = yield Sense(read)
        sigma_s = reading.sigma_a / self.settings.read_v / len(reading.currents_a) ** 0.5
        return grid_of(read, reading)[self.rows, 0], sigma_s

    def drive(self, pre: BoolArray, held_s: FloatArray) -> Generator[Step, Any, float]:
        """What the spikes pre[inputs] add to the membrane, in thresholds; `held_s`: the conductances read last."""
        if self.where == "host":
            return self.lift_per_s * float(held_s[pre].sum())
        volts = np.zeros((1, self.view.shape[0]))
        volts[0, self.rows[pre]] = self.settings.read_v
        region = Region(0, self.view.shape[0], 0, 1)
        reading: Reading = yield Sense(
            VectorRead(volts, region=region, integration_s=self.p.integration_s, averages=self.p.averages)
        )
        refuse_cut(over_a(reading), self.settings.read_v)
        return self.lift_per_s * float(reading.currents_a[0, 0, 0]) / self.settings.read_v

    def pulse(self, counts: Any, used: Any) -> Generator[Step, Any, int]:
        """Fire signed counts[inputs], as far as the cells' lives allow, and book them in used[inputs]."""
        left = np.maximum(self.view.pulses_left[self.rows, 0] - used, 0)
        allowed = np.sign(counts) * np.minimum(np.abs(counts), left).astype(np.int64)
        grid: Any = np.zeros(self.view.shape, np.int16)
        grid[self.rows, 0] = allowed
        if not grid.any():
            return 0
        answers = yield from fire(grid, self.using, self.bias)
        used += np.abs(allowed)
        return sum(answer.pulses for answer in answers)


@dataclass(slots=True)
class _State(Progress):
    """What a checkpoint holds: where the run is, the network as it is, and what has been seen.

    membrane in thresholds; pre, eligibility, mean: [inputs]; `due`: the tick of the reward that is on its way (-1:
    none); `given`: ticks of the rewarded phase at which a reward came, which the shuffled control repeats.
    """

    key: int
    used: Any
    held_s: FloatArray
    pre: FloatArray
    post: FloatArray
    eligibility: FloatArray
    mean: FloatArray
    read_v: float = 0.0
    phase: int = 0
    epoch: int = -1
    membrane: float = 0.0
    last: int = 0
    due: int = -1
    target_at: int = -1
    given: list[int] = field(default_factory=list)
    start_s: list[FloatArray] = field(default_factory=list)
    end_s: list[FloatArray] = field(default_factory=list)
    sigma_s: list[float] = field(default_factory=list)
    ready: list[bool] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def fresh(cls, bench: _Bench, key: int) -> _State:
        """Nothing done yet."""
        n = bench.p.inputs
        zeros = (np.zeros(n), np.zeros(1), np.zeros(n), np.zeros(n))
        return cls(key, np.zeros(n, np.int64), np.zeros(n), *zeros)

    def rest(self) -> None:
        """The network at the beginning of a phase."""
        for values in (self.pre, self.post, self.eligibility, self.mean):
            values[:] = 0.0
        self.membrane, self.last, self.due, self.target_at = 0.0, 0, -1, -1


class _Seen(NamedTuple):
    """What happened in an epoch: ticks of the neuron's spikes, coincidences, spikes of the target, rewards, pulses."""

    fired: list[int]
    coincidences: list[int]
    target_spikes: int
    rewards: list[int]
    pulses: list[int]


class _Phase:
    """One phase of the run, from setting the weights to reading them back."""

    def __init__(self, p: Conditioning, bench: _Bench, state: _State) -> None:
        self.p, self.bench, self.state, self.rule = p, bench, state, p.rule()
        self.name = p.phases[state.phase]
        self.ticks = p.ticks

    def go_on(self) -> Generator[Step, Any, None]:
        """From wherever the state is, to the end of the phase."""
        state = self.state
        if state.epoch < 0:
            yield from self._begin()
            state.epoch = 0
            yield state.checkpoint()
        while state.epoch < self.p.epochs:
            yield from self._epoch()
            if due(state.epoch):
                yield state.checkpoint()
        yield from self._end()
        state.phase, state.epoch = state.phase + 1, -1

    def _begin(self) -> Generator[Step, Any, None]:
        """All weights to the start, by strokes of a part of the way; the network at rest."""
        p, bench, state = self.p, self.bench, self.state
        aim_s = bench.low_s + p.start * bench.span_s
        near_s = max(p.start_tolerance * bench.span_s, bench.step.step_up / 2, bench.step.step_down / 2)
        by = Quantiser(bench.step.step_up, bench.step.step_down, "nearest", p.cap)
        for _ in range(p.start_rounds):
            state.held_s, _ = yield from bench.read()
            away_s = aim_s - state.held_s
            far = np.abs(away_s) > near_s
            wish = quantise(CAUTION * away_s, by).counts
            counts = np.where(far, np.where(wish == 0, np.sign(away_s).astype(np.int16), wish), 0)
            if not (yield from bench.pulse(counts, state.used)):
                break
        state.held_s, sigma_s = yield from bench.read()
        state.ready.append(bool((np.abs(state.held_s - aim_s) <= 2 * near_s + 3 * max(sigma_s, 0.0)).all()))
        state.start_s.append(state.held_s)
        state.rest()
        if self.name == REWARDED:
            yield Note("start", {"index": 0, **self._weights(state.held_s)})

    def _epoch(self) -> Generator[Step, Any, None]:
        """The ticks of an epoch, then the weights read back, and notes."""
        p, state = self.p, self.state
        raster, rng = p.raster(state.key, state.phase, state.epoch)
        random: BoolArray = rng.random(self.ticks) < p.background_hz * p.tick_s
        seen = yield from self._run(raster, random, rng)
        state.held_s, _ = yield from self.bench.read()
        state.epoch += 1
        told = self._told(seen)
        state.epochs.append(told)
        if self.name == REWARDED:
            start = (state.epoch - 1) * self.ticks
            yield spikes_note("input", p.inputs, p.tick_s, start, self.ticks, *np.nonzero(raster))
            at = np.array(seen.fired, np.int64) - start
            yield spikes_note("neuron", 1, p.tick_s, start, self.ticks, at, np.zeros(len(at), np.int64))
            yield Note("epoch", {**told, "index": state.epoch, **self._weights(state.held_s)})
        else:
            yield Note("control", {**told, "index": state.epoch, **self._weights(state.held_s)})

    def _run(self, raster: BoolArray, random: BoolArray, rng: np.random.Generator) -> Generator[Step, Any, _Seen]:
        """From event to event: between two of them everything decays, in closed form."""
        start, seen = self.state.epoch * self.ticks, _Seen([], [], 0, [], [])
        events = np.flatnonzero(raster.any(axis=1) | random) + start
        for at in events.tolist():
            while (reward := self._next_reward()) is not None and reward < at:
                yield from self._tick(reward, np.zeros(self.p.inputs, np.bool_), False, rng, seen)
            yield from self._tick(at, raster[at - start], bool(random[at - start]), rng, seen)
        while (reward := self._next_reward()) is not None and reward < start + self.ticks:
            yield from self._tick(reward, np.zeros(self.p.inputs, np.bool_), False, rng, seen)
        return seen._replace(target_spikes=int(raster[:, self.p.target].sum()))

    def _next_reward(self) -> int | None:
        """The tick of the next reward, if one is on its way."""
        state = self.state
        if self.name == REWARDED:
            return state.due if state.due >= 0 else None
        if self.name == "unrewarded" or not state.given:
            return None
        after = int(np.searchsorted(state.given, state.last, "right"))
        return state.given[after] if after < len(state.given) else None

    def _tick(
        self, at: int, pre: BoolArray, random: bool, rng: np.random.Generator, seen: _Seen
    ) -> Generator[Step, Any, None]:
        """One tick in which something happens: read, neuron, rule, and pulses if a reward comes."""
        p, state, reward = self.p, self.state, self._next_reward() == at
        gap_s = (at - state.last) * p.tick_s
        driven = (yield from self.bench.drive(pre, state.held_s)) if pre.any() else 0.0
        state.membrane = state.membrane * exp(-gap_s / p.tau_membrane_s) + driven
        fires = random or state.membrane >= 1.0
        state.last = at
        dw = self._learn(pre, fires, reward, gap_s)
        if pre[p.target]:
            state.target_at = at
        if fires:
            state.membrane = 0.0
            seen.fired.append(at)
            self._coincide(at, rng, seen)
        if reward:
            seen.rewards.append(at)
            if self.name == REWARDED:
                state.due = -1
                state.given.append(at)
            yield from self._pulse(dw, rng, seen)

    def _learn(self, pre: BoolArray, fires: bool, reward: bool, gap_s: float) -> FloatArray:
        """The rule's tick: traces, eligibility and its mean move on; dw[inputs], in shares of the window."""
        p, state, rule = self.p, self.state, self.rule
        none = np.zeros((0, p.inputs), np.bool_)
        traces = RewardTraces(PairTraces(state.pre, state.post, none), state.eligibility[:, None], float(reward))
        weights, post = np.zeros((p.inputs, 1)), np.array([fires])
        # with no event between, a gap of many ticks is one long tick
        after, dw = plasticity.step(traces, pre, post, weights, rule, gap_s)
        state.pre, state.post, state.eligibility = after.pair.pre, after.pair.post, after.eligibility[:, 0]
        if p.mean_s:
            kept = exp(-gap_s / p.mean_s)
            state.mean = state.mean * kept + (1 - kept) * state.eligibility
            dw = dw - reward * rule.gain * state.mean[:, None]
        return dw[:, 0] * self._room(dw[:, 0]) if reward else dw[:, 0]

    def _room(self, dw: FloatArray) -> FloatArray:
        """(1 - w)^mu where a weight is to rise, w^mu where it is to fall, by the weights that were read last."""
        w = np.clip((self.state.held_s - self.bench.low_s) / self.bench.span_s, 0.0, 1.0)
        room: FloatArray = np.where(dw > 0, 1 - w, w) ** self.p.mu
        return room

    def _coincide(self, at: int, rng: np.random.Generator, seen: _Seen) -> None:
        """The neuron fires: soon after the target input, that is a coincidence, and a reward is on its way."""
        p, state = self.p, self.state
        if state.target_at < 0 or at - state.target_at > p.window_s / p.tick_s:
            return
        seen.coincidences.append(at)
        state.target_at = -1
        if self.name == REWARDED and state.due < 0:
            low, high = (max(1, round(delay_s / p.tick_s)) for delay_s in (p.min_delay_s, p.max_delay_s))
            state.due = at + int(rng.integers(low, high + 1))

    def _pulse(self, dw: FloatArray, rng: np.random.Generator, seen: _Seen) -> Generator[Step, Any, None]:
        """What a reward makes of the eligibility, as whole pulses."""
        bench, state = self.bench, self.state
        counts = quantise(dw * bench.span_s, bench.step, rng).counts
        seen.pulses.append((yield from bench.pulse(counts, state.used)))
        if seen.pulses[-1]:
            state.held_s, _ = yield from bench.read()

    def _end(self) -> Generator[Step, Any, None]:
        """The weights read back a few times: their mean, and the noise of it."""
        reads, declared_s = [], 0.0
        for _ in range(self.p.noise_reads):
            grid_s, declared_s = yield from self.bench.read()
            reads.append(grid_s)
        one_s = max(float(np.sqrt(np.var(reads, axis=0, ddof=1).mean())), declared_s if declared_s > 0 else 0.0)
        self.state.end_s.append(np.mean(reads, axis=0))
        self.state.sigma_s.append(one_s)

    def _weights(self, held_s: FloatArray) -> dict[str, Any]:
        grid_s = held_s[:, None]
        return {"conductance_s": grid_s, "weights": grid_s - self.bench.low_s, "synapse": "cell"}

    def _told(self, seen: _Seen) -> dict[str, Any]:
        """An epoch in numbers. `answered`: the share of the target's spikes that the neuron answered in time."""
        answered = len(seen.coincidences) / seen.target_spikes if seen.target_spikes else float("nan")
        seconds = self.ticks * self.p.tick_s
        held = (self.state.held_s - self.bench.low_s) / self.bench.span_s
        others = np.delete(held, self.p.target)
        return {
            "phase": self.name, "answered": answered, "rewards": len(seen.rewards), "pulses": sum(seen.pulses),
            "rate_hz": len(seen.fired) / seconds, "target": float(held[self.p.target]), "others": float(others.mean()),
        }  # fmt: skip


def _network(p: Conditioning) -> dict[str, Any]:
    layers = [
        {"name": "input", "neurons": p.inputs, "kind": "Poisson"},
        {"name": "neuron", "neurons": 1, "kind": "LIF"},
    ]
    wires = {"from": "input", "to": "neuron", "rows": [0, p.inputs], "cols": [0, 1], "cells": p.inputs}
    return {"layers": layers, "connections": [wires | {"rule": "R-STDP"}]}


class _Verdict(NamedTuple):
    """How far the target stands out in a phase: in deviations of the others, and in siemens above the highest of them.

    `growth` and `others_growth` are shares of the window; `stands_out` is the criterion.
    """

    growth: float
    others_growth: float
    separation: float
    margin_s: float
    stands_out: bool


def _judge(p: Conditioning, bench: _Bench, start_s: FloatArray, end_s: FloatArray, sigma_s: float) -> _Verdict:
    """The target against the others of its phase. sigma_s: noise of one read; the end is the mean of several."""
    grown = (end_s - start_s) / bench.span_s
    others_s, target_s = np.delete(end_s, p.target), float(end_s[p.target])
    # others that were hardly pulsed are no sharper than a step of the device
    spread_s = max(float(others_s.std(ddof=1)), bench.step.step_up)
    separation = (target_s - float(others_s.mean())) / spread_s
    margin_s, noise_s = target_s - float(others_s.max()), sigma_s * (2 / p.noise_reads) ** 0.5
    clear = margin_s > 0 and margin_s >= p.margin_sigma * noise_s
    stands_out = clear and separation >= p.separation and bool(grown[p.target] > 0)
    return _Verdict(float(grown[p.target]), float(np.delete(grown, p.target).mean()), separation, margin_s, stands_out)


def _result(p: Conditioning, bench: _Bench, state: _State) -> Result:
    """Reached: the target stands out in the rewarded phase, and in no control."""
    phases = {}
    for n, name in enumerate(p.phases):
        verdict = _judge(p, bench, state.start_s[n], state.end_s[n], state.sigma_s[n])
        epochs = [epoch for epoch in state.epochs if epoch["phase"] == name]
        phases[name] = verdict._asdict() | {
            "start_s": state.start_s[n], "end_s": state.end_s[n], "sigma_read_s": state.sigma_s[n],
            "started_within_tolerance": state.ready[n], "rewards": sum(epoch["rewards"] for epoch in epochs),
            "pulses": sum(epoch["pulses"] for epoch in epochs),
            "answered": [epoch["answered"] for epoch in epochs], "rate_hz": [epoch["rate_hz"] for epoch in epochs],
            "target": [epoch["target"] for epoch in epochs], "others": [epoch["others"] for epoch in epochs],
        }  # fmt: skip
    reached = phases[REWARDED]["stands_out"] and not any(phases[name]["stands_out"] for name in p.controls)
    seconds = p.epochs * p.epoch_s
    return Result(
        bool(reached),
        {
            "target": p.target, "rows": bench.rows, "phases": phases, "conductance_s": state.end_s[0][:, None],
            "pulses_on_cells": state.used, "multiply": bench.where, "seconds_per_phase": seconds,
            "step_up_s": bench.step.step_up, "step_down_s": bench.step.step_down, "basis": bench.view.device.basis,
            "read_v": state.read_v,
            "host_state": "membrane, traces, one eligibility and its mean per synapse, the reward on its way",
            "criterion": f"target {p.separation:g} deviations of the others beyond their mean and {p.margin_sigma:g} "
            "sigma of the reads above the highest, in the rewarded phase and in no control",
        },
    )  # fmt: skip


plugin = Conditioning
