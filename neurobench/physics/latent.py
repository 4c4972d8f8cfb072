"""What all latent models share: the window, the noise, the pulse they were made for, the declared disturb."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from neurobench.errors import CapabilityMissing, ConfigError, OutsideHull
from neurobench.physics.card import explain
from neurobench.physics.response import DeviceModel, Relaxation, Response

if TYPE_CHECKING:
    from neurobench.physics.card import DeviceCard, Pulse, Tolerance
    from neurobench.physics.response import FloatArray, Replay

DIRECTIONS = {1: "potentiate", -1: "depress"}
P = TypeVar("P", bound=BaseModel)


class Parameters(BaseModel):
    """Base of every model's `[parameters]` section: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_parameters(card: DeviceCard, kind: type[P]) -> P:
    """The card's `[parameters]` as the model wants them; ConfigError names the card and the key."""
    try:
        return kind.model_validate(card.parameters)
    except ValidationError as error:
        raise explain(error, f"device {card.name}", kind, prefix="parameters.") from None


class LatentModel(DeviceModel):
    """A device whose state is its normalised conductance: u in [0, 1], level(u) = g_min_s + u (g_max_s - g_min_s)."""

    def __init__(self, card: DeviceCard, g_min_s: float, g_max_s: float, start_s: float, read_sigma_s: float) -> None:
        self.name, self.card, self.levels_s, self.end = card.name, card, None, card.end
        self.g_min_s, self.g_max_s, self.u_min, self.u_max = g_min_s, g_max_s, 0.0, 1.0
        self.u_start = self.state(start_s)
        self.half_select_modelled = card.half_select is not None
        self.read_sigma_s, self.read_sigma_relative = read_sigma_s, card.noise.read_sigma_relative
        rest = card.relaxation
        self.relaxation = None if rest is None else Relaxation(rest.tau_s, self.state(rest.g_rest_s))

    @property
    def span_s(self) -> float:
        """Width of the window [S]."""
        return self.g_max_s - self.g_min_s

    def disturb(self, direction: int, amplitude_v: float, width_s: float) -> Response | None:
        """The declared fraction of the full step, at the declared ratio of a known pulse; None elsewhere."""
        declared = self.card.half_select
        if declared is None:
            return None
        try:
            full = self.response(direction, amplitude_v / declared.ratio, width_s)
        except OutsideHull:
            return None
        return Response(full.nodes, full.delta * declared.fraction, full.sigma * declared.fraction)

    def make_response(self, nodes: FloatArray, delta: FloatArray, step_sigma_s: float) -> Response:
        """A response that stays inside the window, with the card's step noise on it."""
        nodes, delta = clip_to_window(nodes, delta)
        sigma = np.hypot(step_sigma_s / self.span_s, self.card.noise.step_sigma_relative * delta)
        return Response(nodes, delta, sigma)


class StepModel(LatentModel):
    """A latent model given by a formula for one stated pulse per direction ([[pulse]] entries of the card)."""

    def __init__(self, card: DeviceCard, replay: Replay) -> None:
        if replay == "literal":
            raise CapabilityMissing(
                f"device {card.name}: literal replay repeats measured samples; model {card.model!r} is a formula "
                "(set replay = 'latent')"
            )
        if card.window is None or not card.pulse or card.curve or card.assumed_mirror:
            raise ConfigError(
                f"device {card.name}: model {card.model!r} needs [window] and [[pulse]] entries, and takes no "
                "[[curve]] and no assumed_mirror"
            )
        window = card.window
        start_s = window.g_min_s if window.g_start_s is None else window.g_start_s
        super().__init__(card, window.g_min_s, window.g_max_s, start_s, card.noise.read_sigma_s or 0.0)

    def response(self, direction: int, amplitude_v: float, width_s: float) -> Response:
        """The step of the stated pulse; OutsideHull for any other."""
        found = [p for p in self.card.pulse if p.sign == direction]
        if not found:
            raise missing_direction(self.card, direction)
        if not any(same_pulse(p, amplitude_v, width_s, self.card.tolerance) for p in found):
            raise outside_hull(self.card, direction, amplitude_v, width_s, found)
        nodes, delta = self.steps(direction)
        return self.make_response(nodes, delta, self.card.noise.step_sigma_s or 0.0)

    @abstractmethod
    def steps(self, direction: int) -> tuple[FloatArray, FloatArray]:
        """Nodes and mean step (in u) of one pulse, before the window cuts it."""


def same_pulse(pulse: Pulse, amplitude_v: float, width_s: float, tolerance: Tolerance) -> bool:
    """Is this the stated pulse, within the card's tolerance? What the source does not state is not compared."""
    volts = None if pulse.amplitude_v is None else abs(pulse.amplitude_v)
    return (volts is None or abs(abs(amplitude_v) - volts) <= tolerance.amplitude * volts * (1 + 1e-9)) and (
        pulse.width_s is None or abs(width_s - pulse.width_s) <= tolerance.width * pulse.width_s * (1 + 1e-9)
    )


def missing_direction(card: DeviceCard, direction: int) -> CapabilityMissing:
    """The error for a direction that nobody measured."""
    return CapabilityMissing(
        f"device {card.name} cannot {DIRECTIONS[direction]}: its card holds no such curve or pulse; measure one, "
        "or declare assumed_mirror = true in a measured card (the record will say 'assumed')"
    )


def outside_hull(
    card: DeviceCard, direction: int, amplitude_v: float, width_s: float, known: list[Pulse] | tuple[Pulse, ...]
) -> OutsideHull:
    """The error for a pulse that was neither measured nor lies between measured ones."""
    hull = "; ".join(str(p) for p in known)
    return OutsideHull(
        f"device {card.name}: {DIRECTIONS[direction]} with {abs(amplitude_v):g} V for {width_s:g} s was never measured;"
        f" measured: {hull} (within {card.tolerance.amplitude:.0%} and {card.tolerance.width:.0%}: [tolerance] of the"
        " card)"
    )


def clip_to_window(nodes: FloatArray, delta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same map, cut so that u + delta stays in [0, 1]: nodes are added where a straight piece meets a bound."""
    target = nodes + delta
    crossings = [_crossings(nodes, target, bound) for bound in (0.0, 1.0)]
    every = np.unique(np.concatenate([nodes, *crossings]))
    return every, np.clip(np.interp(every, nodes, delta), -every, 1.0 - every)


def _crossings(nodes: FloatArray, target: FloatArray, bound: float) -> FloatArray:
    """States between two nodes whose straight-line target is exactly `bound`."""
    low, high = target[:-1] - bound, target[1:] - bound
    hit = np.flatnonzero(low * high < 0)
    share = low[hit] / (low[hit] - high[hit])
    return np.asarray(nodes[hit] + share * (nodes[hit + 1] - nodes[hit]), dtype=np.float64)
