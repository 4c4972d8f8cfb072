"""The seam between a device model and the chip: what one pulse does to the state of a device.

A model answers with a `Response`, a small piecewise-linear map of the state `u`; the chip applies it to a million
devices at once and needs to know nothing else about the physics. Affine step models (linear, soft bounds, the NeuroSim
exponential) are represented exactly; measured curves are exact at their nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from neurobench.physics.card import DeviceCard
    from neurobench.physics.rates import RateLaw

    FloatArray = NDArray[np.float64]

Replay = Literal["latent", "literal"]
End = Literal["hold", "refuse"]


@dataclass(frozen=True, slots=True)
class Response:
    """What one pulse does to a device: mean and spread of the change of its state `u`.

    nodes: states [k], ascending; delta: mean change of u at each node [k]; sigma: standard deviation of the change [k]
    (0 = no step noise). Between the nodes linear; outside, the value at the end node.
    """

    nodes: FloatArray
    delta: FloatArray
    sigma: FloatArray

    def __post_init__(self) -> None:
        if not self.nodes.ndim == 1 <= self.nodes.size or not self.nodes.shape == self.delta.shape == self.sigma.shape:
            raise ValueError("a response needs nodes, delta and sigma of one equal length >= 1")
        if not (np.all(np.diff(self.nodes) > 0) and np.all(np.isfinite(self.delta)) and np.all(self.sigma >= 0)):
            raise ValueError("a response needs ascending nodes, finite delta and sigma >= 0")

    def step(self, u: FloatArray) -> FloatArray:
        """Mean state after one pulse from the states `u` (any shape); the plain reference for the fast kernels."""
        return u + np.interp(u, self.nodes, self.delta)


@dataclass(frozen=True, slots=True)
class Relaxation:
    """Exponential decay of the state towards `u_rest`: u(t) = u_rest + (u - u_rest) exp(-t / tau_s)."""

    tau_s: float
    u_rest: float


class DeviceModel(ABC):
    """One kind of device. The state is `u`; conductance = level(u) (the chip adds its own scale and offset).

    latent: u in [0, 1] is the normalised conductance, level(u) = g_min_s + u (g_max_s - g_min_s), `levels_s` is None.
    literal: u is the pulse index 0 .. n-1 and level(u) = levels_s[int(u)].
    rate: how the device moves under any voltage over time; None for one that knows single pulses only.
    """

    name: str
    card: DeviceCard
    levels_s: FloatArray | None
    g_min_s: float
    g_max_s: float
    u_min: float
    u_max: float
    u_start: float
    end: End
    half_select_modelled: bool
    read_sigma_s: float
    read_sigma_relative: float
    relaxation: Relaxation | None
    linear_in_width: bool = False  # a pulse of half the width does exactly half, whatever the state
    rate: RateLaw | None = None

    @abstractmethod
    def response(self, direction: int, amplitude_v: float, width_s: float) -> Response:
        """What a pulse does; direction +1 potentiates, -1 depresses; amplitude_v is a magnitude.

        Raises OutsideHull (names what was measured) and CapabilityMissing (this direction was never measured).
        """

    @abstractmethod
    def disturb(self, direction: int, amplitude_v: float, width_s: float) -> Response | None:
        """What a half-selected cell feels at `amplitude_v`, its own voltage; None = not modelled."""

    @property
    def baseline_s(self) -> float:
        """Conductance of a fresh device [S]; the seed's preset subtracts it."""
        return float(self.level(np.array(self.u_start)))

    @property
    def step_spread(self) -> float:
        """Device-to-device spread of the step: sigma of a lognormal factor."""
        return self.card.spread.step_lognormal

    def level(self, u: FloatArray) -> FloatArray:
        """Conductance [S] of devices in the states `u` (any shape), without the chip's scale and offset."""
        if self.levels_s is not None:
            return np.asarray(self.levels_s[u.astype(np.intp)], dtype=np.float64)
        return np.asarray(self.g_min_s + u * (self.g_max_s - self.g_min_s), dtype=np.float64)

    def state(self, conductance_s: float) -> float:
        """The state whose level is nearest to `conductance_s` [S]."""
        if self.levels_s is not None:
            return float(np.argmin(np.abs(self.levels_s - conductance_s)))
        u = (conductance_s - self.g_min_s) / (self.g_max_s - self.g_min_s)
        return float(min(max(u, self.u_min), self.u_max))

    def write_current_factor(self, v: float) -> float | None:
        """I(v, G) = G v factor(v), with G the conductance at the read voltage; None = unknown, and so is the energy."""
        law = self.card.write_current
        return None if law is None else law.factor(abs(v), self.card.read.voltage_v)
