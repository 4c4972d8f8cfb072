"""Leaky integrate-and-fire neurons: plain, with an adaptive threshold, and with a conductance synapse."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Literal, NamedTuple

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray, IndexArray, require

from .model import Neuron, check_positive, rested

Drive = Literal["constant", "delta"]


class LIFState(NamedTuple):
    """Membrane in volts and refractory ticks left, [n] each."""

    v: FloatArray
    refractory: IndexArray


@dataclass(frozen=True, slots=True)
class LIF(Neuron):
    """Leaky integrate-and-fire, integrated exactly: tau dv/dt = rest - v + R I, spike at v >= threshold, then reset.

    `current` is in amperes. drive "constant": it flows all through the tick. "delta": all its charge arrives at the
    end of the tick, as a jump of R I volts, which is what a read per tick gives. A refractory neuron stays at reset
    and forgets what comes. The defaults are those of a neuron in units of its threshold.
    """

    tau_s: float = 20e-3
    threshold_v: float = 1.0
    rest_v: float = 0.0
    reset_v: float = 0.0
    resistance_ohm: float = 1.0
    refractory_s: float = 0.0
    drive: Drive = "constant"

    def __post_init__(self) -> None:
        check_positive(self, "tau_s", "resistance_ohm")
        require(self.drive in ("constant", "delta"), f"drive = {self.drive!r}: constant or delta")
        require(self.reset_v < self.threshold_v, f"reset_v = {self.reset_v} V lies below threshold_v")

    def start(self, n: int) -> LIFState:
        """At rest."""
        return LIFState(np.full(n, self.rest_v), np.zeros(n, np.int32))

    def step(self, state: LIFState, current: FloatArray, dt_s: float) -> tuple[LIFState, BoolArray]:
        """Exact for the current as `drive` says."""
        v = np.where(state.refractory > 0, self.reset_v, self.charged(state.v, current, dt_s))
        spikes: BoolArray = (v >= self.threshold_v) & (state.refractory == 0)
        left = rested(state.refractory, spikes, self.refractory_s, dt_s)
        return LIFState(np.where(spikes, self.reset_v, v), left), spikes

    def charged(self, v: FloatArray, current: FloatArray, dt_s: float) -> FloatArray:
        """The membrane after a tick, before any threshold."""
        kept, push_v = exp(-dt_s / self.tau_s), self.resistance_ohm * current
        # expm1: the share that arrives is small where the tick is short
        arrives = 1.0 if self.drive == "delta" else -np.expm1(-dt_s / self.tau_s)
        charged: FloatArray = self.rest_v + (v - self.rest_v) * kept + push_v * arrives
        return charged

    def rate_hz(self, current_a: float) -> float:
        """Closed form at a constant current: 1 / (t_ref + tau ln((RI + rest - reset) / (RI + rest - threshold)))."""
        towards_v = self.rest_v + self.resistance_ohm * current_a
        if towards_v <= self.threshold_v:
            return 0.0
        ratio = (towards_v - self.reset_v) / (towards_v - self.threshold_v)
        return 1.0 / (self.refractory_s + self.tau_s * log(ratio))


class AdaptiveState(NamedTuple):
    """Membrane and raised threshold in volts, refractory ticks left, [n] each."""

    v: FloatArray
    theta_v: FloatArray
    refractory: IndexArray


@dataclass(frozen=True, slots=True)
class AdaptiveLIF(Neuron):
    """A LIF whose threshold rises by theta_plus_v with each spike and falls back with tau_theta_s.

    Homeostasis as in Diehl & Cook 2015 (there theta_plus 0.05 mV, tau 1e7 ms). theta decays before the tick's threshold
    is compared, and rises after it. `tau_theta_s` may be inf: then it never falls.
    """

    lif: LIF = LIF()
    theta_plus_v: float = 0.05
    tau_theta_s: float = 1e4

    def __post_init__(self) -> None:
        require(self.theta_plus_v >= 0, f"theta_plus_v = {self.theta_plus_v} V must not be negative")
        require(self.tau_theta_s > 0, f"tau_theta_s = {self.tau_theta_s} s must be positive")

    def start(self, n: int) -> AdaptiveState:
        """At rest, no threshold raised."""
        rest = self.lif.start(n)
        return AdaptiveState(rest.v, np.zeros(n), rest.refractory)

    def step(self, state: AdaptiveState, current: FloatArray, dt_s: float) -> tuple[AdaptiveState, BoolArray]:
        """Exact for membrane and theta."""
        lif, theta_v = self.lif, state.theta_v * exp(-dt_s / self.tau_theta_s)
        v = np.where(state.refractory > 0, lif.reset_v, lif.charged(state.v, current, dt_s))
        spikes: BoolArray = (v >= lif.threshold_v + theta_v) & (state.refractory == 0)
        left = rested(state.refractory, spikes, lif.refractory_s, dt_s)
        return AdaptiveState(np.where(spikes, lif.reset_v, v), theta_v + self.theta_plus_v * spikes, left), spikes


class ConductanceState(NamedTuple):
    """Membrane in volts, excitatory conductance in units of the leak, refractory ticks left, [n] each."""

    v: FloatArray
    g: FloatArray
    refractory: IndexArray


@dataclass(frozen=True, slots=True)
class ConductanceLIF(Neuron):
    """LIF with a conductance synapse: tau dv/dt = rest - v + g (excite - v), dg/dt = -g / tau_e; fires above threshold.

    `current` is not a current but the jump of g (in units of the leak conductance) at the beginning of the tick. The
    membrane is exact for the mean of g over the tick (g itself is exact). Defaults: Song, Miller & Abbott, Nat.
    Neurosci. 3, 919 (2000), with the numbers of Brian2's example `synapses/STDP.py`.
    """

    tau_s: float = 10e-3
    tau_excite_s: float = 5e-3
    rest_v: float = -74e-3
    excite_v: float = 0.0
    threshold_v: float = -54e-3
    reset_v: float = -60e-3
    refractory_s: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "tau_s", "tau_excite_s")
        require(self.reset_v < self.threshold_v, f"reset_v = {self.reset_v} V lies below threshold_v")

    def start(self, n: int) -> ConductanceState:
        """At the reset potential, as the published example starts."""
        return ConductanceState(np.full(n, self.reset_v), np.zeros(n), np.zeros(n, np.int32))

    def step(self, state: ConductanceState, current: FloatArray, dt_s: float) -> tuple[ConductanceState, BoolArray]:
        """Exponential step towards where the tick's mean conductance leads."""
        g = state.g + current
        share = dt_s / self.tau_excite_s
        mean = g * -np.expm1(-share) / share
        towards_v = (self.rest_v + mean * self.excite_v) / (1 + mean)
        free_v = towards_v + (state.v - towards_v) * np.exp(-dt_s / self.tau_s * (1 + mean))
        v = np.where(state.refractory > 0, self.reset_v, free_v)
        spikes: BoolArray = (v > self.threshold_v) & (state.refractory == 0)
        left = rested(state.refractory, spikes, self.refractory_s, dt_s)
        return ConductanceState(np.where(spikes, self.reset_v, v), g * exp(-share), left), spikes
