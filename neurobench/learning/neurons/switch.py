"""A volatile threshold switch across a membrane capacitor as a neuron."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log
from typing import NamedTuple

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray, IndexArray, require

from .model import Neuron, check_positive, rested

MOST = 10_000  # switchings in one tick: a second of work, and no grid for such a neuron


class SwitchState(NamedTuple):
    """Membrane in volts, whether the switch conducts, refractory ticks left, [n] each."""

    v: FloatArray
    on: BoolArray
    refractory: IndexArray


@dataclass(frozen=True, slots=True)
class ThresholdSwitch(Neuron):
    """A volatile threshold switch across a membrane capacitor: a relaxation oscillator that fires when it switches on.

    C dv/dt = I - v / R, R = off_ohm until v reaches threshold_v, then on_ohm until v has fallen to hold_v. `current` in
    amperes, constant over the tick (a source of V behind R_s is I = V / R_s with off_ohm parallel to R_s). Switching
    instants are found inside the tick in closed form, so the period is exact on any grid; one spike is told per tick
    even where several happen. After a spike the switch conducts for at least refractory_s (a filament that needs time
    to dissolve); where I on_ohm >= hold_v it never lets go, as the circuit would not. Models: NbO2 (Pickett et al.,
    Nat. Mater. 12, 114, 2013), diffusive memristor (Wang et al., Nat. Electron. 1, 137, 2018); the default numbers are
    this file's choice, in the range that both report, from memory.
    """

    capacitance_f: float = 1e-9
    off_ohm: float = 1e6
    on_ohm: float = 1e3
    threshold_v: float = 1.0
    hold_v: float = 0.5
    refractory_s: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "capacitance_f", "off_ohm", "on_ohm", "threshold_v", "hold_v")
        require(self.hold_v < self.threshold_v, f"hold_v = {self.hold_v} V lies below threshold_v (S-type switch)")
        require(self.on_ohm < self.off_ohm, f"on_ohm = {self.on_ohm} ohm lies below off_ohm")

    def start(self, n: int) -> SwitchState:
        """Discharged, switch off."""
        return SwitchState(np.zeros(n), np.zeros(n, np.bool_), np.zeros(n, np.int32))

    def step(self, state: SwitchState, current: FloatArray, dt_s: float) -> tuple[SwitchState, BoolArray]:
        """From switching to switching, until the tick is used up."""
        v, on = state.v.copy(), state.on.copy()
        spikes, held, left_s = np.zeros(v.shape, np.bool_), state.refractory > 0, np.full(v.shape, dt_s)
        current, switchings = np.broadcast_to(current, v.shape), 0
        while (left_s > 0).any():
            switchings += 1
            require(switchings <= MOST, f"it switches more than {MOST} times in dt_s = {dt_s:g} s: take shorter ticks")
            used_s, arrives = self._until(v, current, on, held, left_s)
            v = self._after(v, current, on, used_s)
            spikes |= arrives & ~on
            held |= arrives & ~on & (self.refractory_s > 0)
            on, left_s = on ^ arrives, np.where(arrives, left_s - used_s, 0.0)
        return SwitchState(v, on, rested(state.refractory, spikes, self.refractory_s, dt_s)), spikes

    def _after(self, v: FloatArray, current: FloatArray, on: BoolArray, time_s: FloatArray) -> FloatArray:
        ohm = np.where(on, self.on_ohm, self.off_ohm)
        after: FloatArray = current * ohm + (v - current * ohm) * np.exp(-time_s / (ohm * self.capacitance_f))
        return after

    def _until(
        self, v: FloatArray, current: FloatArray, on: BoolArray, held: BoolArray, left_s: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """Time to the next switching, or what is left of the tick; and whether it switches in it."""
        ohm = np.where(on, self.on_ohm, self.off_ohm)
        edge_v, end_v = np.where(on, self.hold_v, self.threshold_v), current * ohm
        beyond = np.where(on, v <= edge_v, v >= edge_v)
        gap = np.where(on, end_v < edge_v, end_v > edge_v)
        ratio = np.where(gap & ~beyond, (v - end_v) / np.where(gap, edge_v - end_v, 1.0), 1.0)
        time_s = np.where(beyond, 0.0, np.where(gap, ohm * self.capacitance_f * np.log(ratio), np.inf))
        switches: BoolArray = (time_s < left_s) & ~(on & held)
        return np.where(switches, time_s, left_s), switches

    def period_s(self, current_a: float) -> float:
        """Closed-form period at a constant current without refractory time; inf where it does not oscillate."""
        off_v, on_v = current_a * self.off_ohm, current_a * self.on_ohm
        if off_v <= self.threshold_v or on_v >= self.hold_v:
            return inf
        charge = self.off_ohm * log((off_v - self.hold_v) / (off_v - self.threshold_v))
        return self.capacitance_f * (charge + self.on_ohm * log((self.threshold_v - on_v) / (self.hold_v - on_v)))
