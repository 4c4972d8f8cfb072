"""The adaptive exponential integrate-and-fire neuron and the firing patterns of Naud et al. 2008."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray, IndexArray, require

from .model import Neuron, check_positive, rested


class AdExState(NamedTuple):
    """Membrane in volts, adaptation current in amperes, refractory ticks left, [n] each."""

    v: FloatArray
    w_a: FloatArray
    refractory: IndexArray


@dataclass(frozen=True, slots=True)
class AdEx(Neuron):
    """Adaptive exponential integrate-and-fire (Brette & Gerstner 2005; Naud et al., Biol. Cybern. 99, 335, 2008).

    C dv/dt = gL (EL - v) + gL DT exp((v - VT) / DT) + I - w, tau_w dw/dt = a (v - EL) - w; at v > peak: v = reset,
    w += b. `current` in amperes, constant over the tick; Euler steps of the tick itself (0.1 ms as published). A
    refractory membrane stays at reset while w goes on. Defaults: tonic firing.
    """

    capacitance_f: float = 200e-12
    leak_s: float = 10e-9
    rest_v: float = -70e-3
    threshold_v: float = -50e-3
    slope_v: float = 2e-3
    a_s: float = 2e-9
    tau_w_s: float = 30e-3
    b_a: float = 0.0
    reset_v: float = -58e-3
    peak_v: float = 0.0
    refractory_s: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "capacitance_f", "leak_s", "slope_v", "tau_w_s")
        require(self.reset_v < self.peak_v, f"reset_v = {self.reset_v} V lies below peak_v = {self.peak_v} V")

    def start(self, n: int) -> AdExState:
        """At rest, no adaptation."""
        return AdExState(np.full(n, self.rest_v), np.zeros(n), np.zeros(n, np.int32))

    def step(self, state: AdExState, current: FloatArray, dt_s: float) -> tuple[AdExState, BoolArray]:
        """One Euler step; both variables from the old ones."""
        over, away_v = (state.v - self.threshold_v) / self.slope_v, state.v - self.rest_v
        into_a = self.leak_s * (self.slope_v * np.exp(over) - away_v) + current - state.w_a
        v = np.where(state.refractory > 0, self.reset_v, state.v + dt_s / self.capacitance_f * into_a)
        w_a = state.w_a + dt_s / self.tau_w_s * (self.a_s * away_v - state.w_a)
        spikes: BoolArray = (v > self.peak_v) & (state.refractory == 0)
        left = rested(state.refractory, spikes, self.refractory_s, dt_s)
        return AdExState(np.where(spikes, self.reset_v, v), w_a + self.b_a * spikes, left), spikes


def _naud(c_pf: float, g_ns: float, e_mv: float, a_ns: float, tw_ms: float, b_pa: float, r_mv: float) -> AdEx:
    return AdEx(
        c_pf * 1e-12, g_ns * 1e-9, e_mv * 1e-3, -50e-3, 2e-3, a_ns * 1e-9, tw_ms * 1e-3, b_pa * 1e-12, r_mv * 1e-3
    )


# Naud et al. 2008, table 1, as in Brian2's example: parameters, and the current step in amperes.
NAUD: Mapping[str, tuple[AdEx, float]] = {
    "tonic": (_naud(200, 10, -70, 2, 30, 0, -58), 500e-12),
    "adaptation": (_naud(200, 12, -70, 2, 300, 60, -58), 500e-12),
    "initial-burst": (_naud(130, 18, -58, 4, 150, 120, -50), 400e-12),
    "regular-bursting": (_naud(200, 10, -58, 2, 120, 100, -46), 210e-12),
    "delayed-accelerating": (_naud(200, 12, -70, -10, 300, 0, -58), 300e-12),
    "delayed-bursting": (_naud(100, 10, -65, -10, 90, 30, -47), 110e-12),
    "transient": (_naud(100, 10, -65, 10, 90, 100, -47), 180e-12),
    "irregular": (_naud(100, 12, -60, -11, 130, 30, -48), 160e-12),
}
