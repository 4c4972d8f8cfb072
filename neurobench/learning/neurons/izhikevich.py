"""Izhikevich's neuron, the cell types of 2003, and the twenty patterns of 2004 as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, NamedTuple

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray, IndexArray, require

from .model import Neuron, check_positive, drive, rested


class IzhikevichState(NamedTuple):
    """Membrane in millivolts, recovery as published, refractory ticks left, [n] each."""

    v_mv: FloatArray
    u: FloatArray
    refractory: IndexArray


@dataclass(frozen=True, slots=True)
class Izhikevich(Neuron):
    """Izhikevich's neuron in his units (mV, ms): v' = 0.04 v^2 + linear v + constant - u + I, u' = a (b v - u).

    At v > 30 mV: v = c, u += d. Euler with the tick as step, u from the new v, as the published programs do; with
    `half_steps` v takes two half steps, as the program of 2003 does at 1 ms. I = `current` x input_per_a: with 1 it is
    the published input. `recovers_to_mv`: u' = a b (v - recovers_to) without -u, as the 2004 program has it for
    accommodation. Sources: IEEE Trans. Neural Netw. 14, 1569 (2003); 15, 1063 (2004).
    """

    a: float = 0.02
    b: float = 0.2
    c_mv: float = -65.0
    d: float = 8.0
    linear: float = 5.0
    constant: float = 140.0
    start_mv: float = -65.0
    start_u: float | None = None
    recovers_to_mv: float | None = None
    half_steps: bool = False
    input_per_a: float = 1.0
    refractory_s: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "input_per_a")
        require(isfinite(self.a) and isfinite(self.b), f"a = {self.a}, b = {self.b} must be finite")
        require(self.c_mv < 30, f"c_mv = {self.c_mv} mV lies below the peak of 30 mV")

    def start(self, n: int) -> IzhikevichState:
        """At start_mv; u = b v unless `start_u` says otherwise."""
        u = self.b * self.start_mv if self.start_u is None else self.start_u
        return IzhikevichState(np.full(n, self.start_mv), np.full(n, u), np.zeros(n, np.int32))

    def step(self, state: IzhikevichState, current: FloatArray, dt_s: float) -> tuple[IzhikevichState, BoolArray]:
        """One Euler step of dt_s; a refractory membrane stays at c while u goes on."""
        tau_ms, into, v = dt_s * 1e3, self.input_per_a * current, state.v_mv
        parts = 2 if self.half_steps else 1
        for _ in range(parts):
            v = v + tau_ms / parts * (0.04 * v**2 + self.linear * v + self.constant - state.u + into)
        v = np.where(state.refractory > 0, self.c_mv, v)
        u = state.u + tau_ms * self.a * self._recovery(v, state.u)
        spikes: BoolArray = (v > 30) & (state.refractory == 0)
        left = rested(state.refractory, spikes, self.refractory_s, dt_s)
        return IzhikevichState(np.where(spikes, self.c_mv, v), u + self.d * spikes, left), spikes

    def _recovery(self, v_mv: FloatArray, u: FloatArray) -> FloatArray:
        return self.b * v_mv - u if self.recovers_to_mv is None else self.b * (v_mv - self.recovers_to_mv)


# Cell types of the 2003 paper: regular spiking, bursting, chattering, fast spiking, low-threshold spiking.
CELL_TYPES: Mapping[str, Izhikevich] = {
    "RS": Izhikevich(half_steps=True),
    "IB": Izhikevich(c_mv=-55, d=4, half_steps=True),
    "CH": Izhikevich(c_mv=-50, d=2, half_steps=True),
    "FS": Izhikevich(a=0.1, d=2, half_steps=True),
    "LTS": Izhikevich(b=0.25, d=2, half_steps=True),
}


class Piece(NamedTuple):
    """An input that adds level + slope (t - start) between start and stop, both excluded, in ms."""

    start_ms: float
    stop_ms: float
    level: float
    slope: float = 0.0


class Pattern(NamedTuple):
    """One panel of figure 1 of the 2004 paper: neuron, step, duration and input."""

    title: str
    neuron: Izhikevich
    tau_ms: float
    duration_ms: float
    base: float
    pieces: tuple[Piece, ...]

    def input(self) -> tuple[FloatArray, FloatArray]:
        """Times in ms and the published input at them, [steps]."""
        t: FloatArray = np.arange(round(self.duration_ms / self.tau_ms) + 1, dtype=np.float64) * self.tau_ms
        into: FloatArray = np.full(len(t), self.base, np.float64)
        for piece in self.pieces:
            on = (t > piece.start_ms) & (t < piece.stop_ms)
            into[on] += piece.level + (piece.slope and piece.slope * (t[on] - piece.start_ms))
        return t, into

    def spike_times_ms(self) -> FloatArray:
        """When it spikes."""
        t, into = self.input()
        times: FloatArray = t[drive(self.neuron, into[:, None], self.tau_ms * 1e-3)[:, 0]]
        return times


def _pulses(level: float, width_ms: float, *starts_ms: float) -> tuple[Piece, ...]:
    return tuple(Piece(start_ms, start_ms + width_ms, level) for start_ms in starts_ms)


def _step(level: float, start_ms: float, slope: float = 0.0) -> tuple[Piece, ...]:
    return (Piece(start_ms, inf, level, slope),)


def _panel(
    title: str, abcd: tuple[float, float, float, float], start_mv: float, tau_ms: float, duration_ms: float,
    pieces: tuple[Piece, ...], base: float = 0.0, **more: Any,
) -> Pattern:  # fmt: skip
    return Pattern(title, Izhikevich(*abcd, start_mv=start_mv, **more), tau_ms, duration_ms, base, pieces)


_CLASS_1 = {"linear": 4.1, "constant": 108.0}
_INHIBITED = (Piece(-inf, 50, 5), Piece(250, inf, 5))
# Figure 1 of the 2004 paper, panels A to T, with the numbers of the author's program.
PATTERNS: Mapping[str, Pattern] = {
    "A": _panel("tonic spiking", (0.02, 0.2, -65, 6), -70, 0.25, 100, _step(14, 10)),
    "B": _panel("phasic spiking", (0.02, 0.25, -65, 6), -64, 0.25, 200, _step(0.5, 20)),
    "C": _panel("tonic bursting", (0.02, 0.2, -50, 2), -70, 0.25, 220, _step(15, 22)),
    "D": _panel("phasic bursting", (0.02, 0.25, -55, 0.05), -64, 0.2, 200, _step(0.6, 20)),
    "E": _panel("mixed mode", (0.02, 0.2, -55, 4), -70, 0.25, 160, _step(10, 16)),
    "F": _panel("spike frequency adaptation", (0.01, 0.2, -65, 8), -70, 0.25, 85, _step(30, 8.5)),
    "G": _panel("class 1 excitable", (0.02, -0.1, -55, 6), -60, 0.25, 300, _step(0, 30, 0.075), **_CLASS_1),
    "H": _panel("class 2 excitable", (0.2, 0.26, -65, 0), -64, 0.25, 300, _step(0, 30, 0.015), -0.5),
    "I": _panel("spike latency", (0.02, 0.2, -65, 6), -70, 0.2, 100, _pulses(7.04, 3, 10)),
    "J": _panel("subthreshold oscillations", (0.05, 0.26, -60, 0), -62, 0.25, 200, _pulses(2, 5, 20)),
    "K": _panel("resonator", (0.1, 0.26, -60, -1), -62, 0.25, 400, _pulses(0.65, 4, 40, 60, 280, 320)),
    "L": _panel(
        "integrator", (0.02, -0.1, -55, 6), -60, 0.25, 100, _pulses(9, 2, 100 / 11, 100 / 11 + 5, 70, 80), **_CLASS_1
    ),
    "M": _panel("rebound spike", (0.03, 0.25, -60, 4), -64, 0.2, 200, _pulses(-15, 5, 20)),
    "N": _panel("rebound burst", (0.03, 0.25, -52, 0), -64, 0.2, 200, _pulses(-15, 5, 20)),
    "O": _panel(
        "threshold variability", (0.03, 0.25, -60, 4), -64, 0.25, 100, _pulses(1, 5, 10, 80) + _pulses(-6, 5, 70)
    ),
    "P": _panel("bistability", (0.1, 0.26, -60, 0), -61, 0.25, 300, _pulses(1, 5, 37.5, 216), 0.24),
    "Q": _panel("depolarising after-potential", (1, 0.2, -60, -21), -70, 0.1, 50, _pulses(20, 2, 9)),
    "R": _panel(
        "accommodation", (0.02, 1, -55, 4), -65, 0.5, 400, (Piece(0, 200, 0, 0.04), Piece(300, 312.5, 0, 0.32)),
        start_u=-16, recovers_to_mv=-65,
    ),
    "S": _panel("inhibition-induced spiking", (-0.02, -1, -60, 8), -63.8, 0.5, 350, _INHIBITED, 75),
    "T": _panel("inhibition-induced bursting", (-0.026, -1, -45, -2), -63.8, 0.5, 350, _INHIBITED, 75),
}  # fmt: skip
