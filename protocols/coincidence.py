"""Coincidence: STDP raises the weights of the inputs that spike together, and of no others.

After Prezioso et al. 2018, Nat. Commun. 9, 5311: twenty passive memristors on one column feed one leaky
integrate-and-fire neuron; some inputs always spike at the same instant, the others whenever they like. Together the
synchronised ones make the neuron fire, right after themselves, so that a pulse scheme (docs/stdp.md) potentiates them;
the others fall before and after it alike, and as depression outweighs potentiation, they go down. Numbers of shapes and
times are not the paper's.

In each presentation every input spikes once. The currents of its spikes are read first, in the array where the bench
multiplies, else on the host from cells that are read; the neuron integrates them on the host, from rest; it fires at
most once (it is refractory until the presentation ends), and then the scheme's waveforms or pulses are applied for
all inputs that are near enough in time. Spikes without a partner move nothing and are not played. So columns are read
only while no waveform plays (bench rule 20). The time of a presentation is the network's, not that of the bench.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from neurobench.bench.crossbar import Applied, Needs, Reading, conductance_s
from neurobench.bench.steps import Apply, BenchView, Note, Protocol, Result, Sense, Step, Steps
from neurobench.bench.stimulus import CellRead, FloatArray, Region, VectorRead
from neurobench.errors import Refused, UsageError
from neurobench.learning import neurons
from neurobench.learning.bias import choose_bias
from neurobench.learning.neurons import LIF
from neurobench.learning.schemes import Exponential, Scheme, SpikePairs
from neurobench.learning.statistics import spikes_note
from neurobench.learning.synapses import (
    Pulses,
    ReadSettings,
    cell_read,
    fit_range,
    over_a,
    refuse_cut,
    write_verify,
)

from ._characterise import Progress, pulse_of

CONFIRM = 3  # looks in a row, each with a read of its own, that must all find the groups apart


class Coincidence(Protocol):
    """STDP raises only the weights of synchronised inputs (Prezioso 2018)."""

    figures: ClassVar[tuple[str, ...]] = ("raster", "conductances", "network")

    scheme: Scheme = Field(
        default_factory=lambda: Exponential(post_tail_v=0.33),
        description="pulse scheme: its kind, or a table of kind and settings (docs/stdp.md)",
    )
    inputs: int = Field(20, ge=2, le=4096, description="inputs, one row of the array each")
    synchronised: int = Field(8, ge=1, description="how many of them spike together; which ones the seed says")
    presentations: int = Field(100, ge=1, le=100_000, description="presentations at most")
    look_every: int = Field(2, ge=1, le=1000, description="presentations between two reads of all weights")
    period_s: float = Field(0.1, gt=0, le=100, description="length of a presentation, in seconds of the network")
    tick_s: float = Field(2e-3, gt=0, le=1, description="tick of the network; the neuron fires a tick after its input")
    tau_membrane_s: float = Field(10e-3, gt=0, le=100, description="membrane time constant, in seconds")
    threshold_inputs: float | None = Field(
        None,
        gt=0,
        description="inputs at the starting weight that fire the neuron together; none: 60 % of synchronised",
    )
    start: Literal["middle", "as-is"] = Field("middle", description="bring all weights to mid-range first, or not")
    tolerance: float = Field(0.03, gt=0, le=1, description="how near the middle is near enough, as a share of it")
    init_pulses: int = Field(300, ge=0, le=100_000, description="pulses per cell at most to get there")
    sigmas: float = Field(5.0, gt=0, description="how many standard deviations of a read the groups must be apart")
    gap: float = Field(0.2, ge=0, lt=1, description="and by what share of the declared range, where there is one")
    read_v: float | None = Field(None, gt=0, description="read voltage, in volts; none: the chip's own, else 0.1")
    integration_s: float = Field(1e-3, gt=0, description="time of one read, in seconds")
    averages: int = Field(4, ge=1, le=1_000_000, description="reads that are averaged where all weights are read")
    stop_when_reached: bool = Field(True, description="end as soon as three looks in a row find the groups apart")

    @model_validator(mode="after")
    def _both_groups(self) -> Coincidence:
        if self.synchronised >= self.inputs:
            raise ValueError(
                f"synchronised = {self.synchronised} of {self.inputs} inputs leaves none to tell them from"
            )
        if self.ticks < 4:
            raise ValueError(f"period_s = {self.period_s:g} s is fewer than 4 ticks of tick_s = {self.tick_s:g} s")
        return self

    @property
    def needs(self) -> Needs:
        """One column of as many rows as inputs, and the waveforms of a pair."""
        return Needs(rows=self.inputs, distinct_shapes=self.scheme.distinct_shapes)

    def bench_defaults(self) -> dict[str, Any]:
        """One column of devices that integrate what they see, 20 % apart from each other in how fast."""
        return {
            "chip.rows": self.inputs, "chip.cols": 1, "chip.model": "threshold-exponential", "chip.step_spread": 0.2,
        }  # fmt: skip

    @property
    def ticks(self) -> int:
        """Ticks of a presentation."""
        return round(self.period_s / self.tick_s)

    def admit(self, view: BenchView) -> None:
        """Refuse a scheme that cannot work on this chip and bench, and dead cells in the column."""
        self.needs.plan(view.capabilities)
        self.scheme.admit(view)
        if view.excluded[: self.inputs, 0].any():
            raise Refused(
                "a cell of the column is stuck, shorted or retired in the chip's passport: use another chip or fewer "
                "inputs (--set inputs)"
            )
        Work(self, view)

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """Set the weights, then learn. `start`: a state that was yielded as a Checkpoint."""
        self.admit(view)
        work = Work(self, view)
        if start is None:
            state = yield from work.begin(rng)
        else:
            state = State.back(start)
            work.read_v = state.read_v
        while state.done < self.presentations and not (self.stop_when_reached and state.apart >= CONFIRM):
            yield from work.present(state)
            if state.done % self.look_every == 0 or state.done == self.presentations:
                yield from work.look(state)
                yield state.checkpoint()
        return work.result(state)


@dataclass(slots=True)
class State(Progress):
    """What a checkpoint holds: the seed of the spikes, who is synchronised, and weights read first and last [inputs].

    `apart`: looks in a row that found the groups apart; `with_them`: times that the neuron fired in their very tick.
    """

    key: int
    together: list[int]
    first_s: FloatArray
    last_s: FloatArray
    sigma_s: float
    scale_s: float
    read_v: float
    done: int = 0
    apart: int = 0
    fired: int = 0
    with_them: int = 0
    pulses: int = 0
    looks: list[dict[str, float]] = field(default_factory=list)


class Work:
    """What does not change during a run."""

    def __init__(self, p: Coincidence, view: BenchView) -> None:
        self.p, self.view, device = p, view, view.device
        self.where = p.needs.plan(view.capabilities).multiply
        known_v = device.read_voltage_v
        self.read_v = p.read_v or min(known_v if known_v > 0 else 0.1, view.limits.max_read_v)
        self.middle_s = (device.g_min_s + device.g_max_s) / 2
        self.pulses: Pulses | None = None
        if p.start == "middle":
            if not isfinite(self.middle_s):
                raise UsageError("the range of this chip's devices is not declared: say start=as-is")
            self.pulses = Pulses(*(pulse_of(view, s, None, None, n) for s, n in ((1, "potentiate"), (-1, "depress"))))
        inputs = p.threshold_inputs or 0.6 * p.synchronised
        # in units of what `inputs` spikes at the starting weight give; the charge of a spike arrives at once
        self.neuron = LIF(tau_s=p.tau_membrane_s, refractory_s=p.period_s, drive="delta", resistance_ohm=1 / inputs)

    @property
    def others(self) -> int:
        """How many inputs spike at any time."""
        return self.p.inputs - self.p.synchronised

    # -- reading -------------------------------------------------------------------------------------------------

    def cells(self, averages: int) -> CellRead:
        """A read of the column's cells."""
        mask = np.zeros(self.view.shape, np.bool_)
        mask[: self.p.inputs, 0] = True
        return cell_read(mask, self.settings(averages))

    def settings(self, averages: int) -> ReadSettings:
        """How cells are read."""
        return ReadSettings(self.read_v, averages, self.view.capabilities.both_polarities, self.p.integration_s)

    def fit_range(self, key: int, together: list[int]) -> Generator[Step, Any, None]:
        """Lower the read voltage until the column stays in the ammeter's range with all its spikes at once."""
        trains = (self.spikes(key, together, n) for n in range(self.p.presentations))
        most = max(int(np.bincount(at).max()) for at in trains) if self.where == "array" else 1
        fitted = yield from fit_range(self.view, self.settings(1), (0, 0), most, self.p.read_v is not None)
        self.read_v = fitted.read_v

    def weights(self, averages: int) -> Generator[Step, Any, tuple[FloatArray, float]]:
        """Conductances [inputs] in siemens, and the standard deviation of one of them (nan: not known)."""
        reading: Reading = yield Sense(self.cells(averages))
        refuse_cut(over_a(reading), self.read_v)
        sigma_s = reading.sigma_a / self.read_v / len(reading.currents_a) ** 0.5
        return conductance_s(reading, self.read_v), sigma_s

    def currents(self, spikes: FloatArray) -> Generator[Step, Any, FloatArray]:
        """Currents of the column [n] in amperes for spikes[n, inputs] of 0 and 1, each at the read voltage."""
        if self.where == "host":
            weights_s, _ = yield from self.weights(1)
            on_host: FloatArray = self.read_v * (spikes @ weights_s)
            return on_host
        region = Region(0, self.p.inputs, 0, 1)
        reading: Reading = yield Sense(
            VectorRead(self.read_v * spikes, region=region, integration_s=self.p.integration_s)
        )
        refuse_cut(over_a(reading), self.read_v)
        return reading.signed_a()[:, 0]

    # -- learning ------------------------------------------------------------------------------------------------

    def begin(self, rng: np.random.Generator) -> Generator[Step, Any, State]:
        """Choose the synchronised inputs, fit the read voltage, bring the weights to the middle, read them."""
        p = self.p
        together = sorted(rng.choice(p.inputs, p.synchronised, replace=False).tolist())
        key, spent = int(rng.integers(2**62)), 0
        yield from self.fit_range(key, together)
        if self.pulses is not None:
            target, mask = np.full(self.view.shape, self.middle_s), self.cells(1).mask
            near_s, bias = p.tolerance * self.middle_s, choose_bias("auto", self.view)
            read = self.cells(p.averages)
            written = yield from write_verify(target, mask, self.pulses, bias, read, near_s, p.init_pulses)
            spent = written.pulses
        first_s, sigma_s = yield from self.weights(p.averages)
        yield Note("network", self._network())
        yield Note("synchronised", together)
        state = State(key, together, first_s, first_s, sigma_s, float(first_s.mean()), self.read_v, pulses=spent)
        yield Note("start", self._told(state))
        return state

    def _network(self) -> dict[str, Any]:
        p = self.p
        layers = [
            {"name": "input", "neurons": p.inputs, "kind": "spikes"},
            {"name": "neuron", "neurons": 1, "kind": "LIF"},
        ]
        rule = f"STDP by {p.scheme.kind} {'spikes' if p.scheme.plays_waveforms else 'pulses'}"
        synapses = {
            "from": "input",
            "to": "neuron",
            "rows": [0, p.inputs],
            "cols": [0, 1],
            "cells": p.inputs,
            "rule": rule,
        }
        return {"layers": layers, "connections": [synapses]}

    def spikes(self, key: int, together: list[int], presentation: int) -> Any:
        """Tick of the one spike of each input [inputs] in a presentation."""
        rng = np.random.default_rng([key, presentation])
        at = rng.integers(0, self.p.ticks, self.p.inputs)
        at[together] = rng.integers(0, self.p.ticks - 1)
        return at

    def present(self, state: State) -> Generator[Step, Any, None]:
        """One presentation: read the currents, run the neuron, apply the scheme if it fired."""
        p, at = self.p, self.spikes(state.key, state.together, state.done)
        order = np.unique(at)
        currents_a = yield from self.currents((at[None, :] == order[:, None]).astype(np.float64))
        fires = self._fires(order, currents_a / (self.read_v * state.scale_s))
        start = state.done * p.ticks
        yield spikes_note("input", p.inputs, p.tick_s, start, p.ticks, at, np.arange(p.inputs))
        yield spikes_note(
            "neuron", 1, p.tick_s, start, p.ticks, [] if fires is None else [fires], [0] * (fires is not None)
        )
        state.done += 1
        if fires is None:
            return
        state.fired += 1
        state.with_them += int(at[state.together[0]] == fires)
        pre_s = np.full(self.view.shape[0], np.nan)
        pre_s[: p.inputs] = at * p.tick_s
        post_s = np.full(self.view.shape[1], np.nan)
        post_s[0] = (fires + 1) * p.tick_s
        pre_s[np.abs(post_s[0] - pre_s) >= p.scheme.reach_s] = np.nan  # too far to move anything
        if np.isnan(pre_s).all():
            return
        for stimulus in p.scheme.stimuli(SpikePairs(pre_s, post_s), self.view):
            applied: Applied = yield Apply(stimulus)
            state.pulses += applied.pulses

    def _fires(self, ticks: Any, pushes: FloatArray) -> int | None:
        """The tick in which the neuron first reaches its threshold, None if it does not."""
        pushed = np.zeros(self.p.ticks)
        pushed[ticks] = pushes
        found = neurons.drive(self.neuron, pushed[:, None], self.p.tick_s)[:, 0]
        return int(found.argmax()) if found.any() else None

    # -- looking -------------------------------------------------------------------------------------------------

    def look(self, state: State) -> Generator[Step, Any, None]:
        """Read all weights back and judge them."""
        state.last_s, sigma_s = yield from self.weights(self.p.averages)
        state.sigma_s = sigma_s if isfinite(sigma_s) else state.sigma_s
        seen = self.judged(state)
        state.looks.append(seen)
        state.apart = state.apart + 1 if seen["apart"] else 0
        yield Note("epoch", self._told(state))

    def judged(self, state: State) -> dict[str, float]:
        """Separation of the groups, and whether only the synchronised have risen, by `sigmas` of a read."""
        group = np.zeros(self.p.inputs, np.bool_)
        group[state.together] = True
        sure_s = self.p.sigmas * (state.sigma_s if isfinite(state.sigma_s) else 0.0)
        rise_s = state.last_s - state.first_s
        separation_s = float(state.last_s[group].min() - state.last_s[~group].max())
        range_s = self.view.device.g_max_s - self.view.device.g_min_s
        needed_s = max(sure_s, self.p.gap * range_s) if isfinite(range_s) else sure_s
        raised = bool((rise_s[group] > sure_s).all())
        spared = float(rise_s[~group].mean()) <= sure_s / self.others**0.5
        return {
            "presentation": float(state.done), "separation_s": separation_s, "needed_s": needed_s,
            "synchronised_s": float(state.last_s[group].mean()), "others_s": float(state.last_s[~group].mean()),
            "apart": float(separation_s > needed_s and raised and spared),
        }  # fmt: skip

    def _told(self, state: State) -> dict[str, Any]:
        return {"index": state.done, "conductance_s": state.last_s[:, None]}

    def result(self, state: State) -> Result:
        """Reached: in three looks in a row the synchronised stood above all others, all risen, the others' mean not."""
        group = np.zeros(self.p.inputs, np.bool_)
        group[state.together] = True
        last = state.looks[-1]
        first = next((look["presentation"] for look in state.looks if look["apart"]), None)
        values = {
            "synchronised": np.array(state.together), "before_s": state.first_s, "after_s": state.last_s,
            "synchronised_before_s": state.first_s[group], "synchronised_after_s": state.last_s[group],
            "others_before_s": state.first_s[~group], "others_after_s": state.last_s[~group],
            "separation_s": last["separation_s"], "needed_s": last["needed_s"], "read_sigma_s": state.sigma_s,
            "presentations": state.done, "apart_since": first, "fired": state.fired, "fired_with_them": state.with_them,
            "pulses": state.pulses, "multiply": self.where, "read_v": self.read_v, "looks": len(state.looks),
            "scheme": self.p.scheme.model_dump(mode="json"), "half_select": self.view.device.half_select,
            "criterion": f"in {CONFIRM} looks in a row every synchronised weight stands {self.p.sigmas:g} sigma of a "
            f"read, and {self.p.gap:.0%} of the declared range, above every other; each of them has risen by as many "
            "sigma, and the mean of the others has not",
        }  # fmt: skip
        return Result(state.apart >= CONFIRM, values)


plugin = Coincidence
