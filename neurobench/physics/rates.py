"""Devices that integrate the voltage they see: a rate (ODE) model, separable, with a threshold for either direction.

    dw/dt = f(w) r(V)        V: volts in the potentiating direction; w in [0, 1], 1: largest conductance
    r = rate_hz (exp(|V| / scale) - exp(threshold / scale))        law EXPONENTIAL, scale in volts
    r = rate_hz (|V| / threshold - 1)^scale                        law POWER
    f = (1 - w)^window upwards, w^window downwards                 window 0: f = 1, and w stops at its ends

Up to the threshold nothing moves, exactly. What a voltage does is its dose, the integral of r over time: closed for
every straight piece of a voltage, and so is the map of the state by a dose. Nothing is stepped through time.
The conductance may be linear in w (`ratio` 1) or its inverse, the resistance, may be (`ratio` = G_max / G_min):
u = w / (ratio - (ratio - 1) w), with u the normalised conductance that a chip keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neurobench.compiling import compiled
from neurobench.errors import CapabilityMissing, ConfigError, UsageError
from neurobench.physics.latent import LatentModel
from neurobench.physics.response import Response

if TYPE_CHECKING:
    from neurobench.physics.card import DeviceCard
    from neurobench.physics.response import FloatArray, Replay

EXPONENTIAL, POWER = 0, 1
# Nodes of a response whose step depends on the state: so many equal steps of u, and so many of w.
NODES = 512
# Gauss-Legendre of three points on [0, 1], for a power whose voltage hardly changes: the closed form cancels there.
_X, _W = np.polynomial.legendre.leggauss(3)
_NEAR, _WEIGHT = tuple(((_X + 1) / 2).tolist()), tuple((_W / 2).tolist())
_FLAT = 1e-3


class Side(NamedTuple):
    """One direction of a rate law; see the head of this module. threshold_v is a magnitude."""

    law: int
    rate_hz: float
    threshold_v: float
    scale: float
    window: float = 0.0


class RateLaw(NamedTuple):
    """How the devices of a model move: potentiating and depressing side, and G_max / G_min where R is linear in w."""

    up: Side
    down: Side
    ratio: float = 1.0

    @property
    def threshold_v(self) -> float:
        """The smaller of both thresholds, in volts: up to it nothing moves in either direction."""
        return min(self.up.threshold_v, self.down.threshold_v)

    def doses(self, t_s: FloatArray, v: FloatArray, factor: float = 1.0) -> FloatArray:
        """Signed doses of one voltage in order of time, joined while the sign stays.

        t_s [n] ascending in seconds (two equal times: a jump), v [n] volts in the potentiating direction; straight
        between them. factor: on both thresholds of the device.
        """
        if not t_s.shape == v.shape == (t_s.size,) or not bool((np.diff(t_s) >= 0).all()):
            raise UsageError(f"doses needs ascending times and as many volts: shapes {t_s.shape}, {v.shape}")
        runs, n = np.zeros(2 * t_s.size + 2), 0
        for k in range(t_s.size - 1):
            n = take(self, v[k], v[k + 1], t_s[k + 1] - t_s[k], factor, runs, n)
        return runs[:n]

    def moved(self, u: FloatArray, dose: float) -> FloatArray:
        """States (any shape) after a signed dose."""
        out = np.array(u, dtype=np.float64)
        _move(self, out.reshape(-1), dose)
        return out


# -- closed forms -----------------------------------------------------------------------------------------------------


@compiled
def _rise(x: float) -> float:  # pragma: no cover - compiled
    """(exp(x) - 1) / x - 1 for x >= 0, also where it is small."""
    if x < 1e-2:
        return x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6))))
    return float(np.expm1(x) / x - 1)


@compiled
def _exponential(theta: float, scale: float, low: float, high: float) -> float:  # pragma: no cover - compiled
    """Mean of exp(V / scale) - exp(theta / scale) over theta <= low <= V <= high."""
    above, mean = np.expm1((low - theta) / scale), _rise((high - low) / scale)
    above = above * (1 + mean) if above > 0 else 0.0  # a mean beyond all floats times nothing is no number
    return float(np.exp(theta / scale) * (above + mean))


@compiled
def _power(theta: float, scale: float, low: float, high: float) -> float:  # pragma: no cover - compiled
    """Mean of (V / theta - 1)^scale over theta <= low <= V <= high."""
    a, b = low / theta - 1, high / theta - 1
    if b - a > _FLAT * b:
        return float((b ** (scale + 1) - a ** (scale + 1)) / ((scale + 1) * (b - a)))
    total = 0.0
    for k in range(3):
        total += _WEIGHT[k] * (a + _NEAR[k] * (b - a)) ** scale
    return total


@compiled
def dose(side: Side, a: float, b: float, seconds: float, factor: float) -> float:  # pragma: no cover - compiled
    """Dose (>= 0) of a voltage of this side's sign, a magnitude, that goes straight from a to b."""
    theta, low, high = side.threshold_v * factor, min(a, b), max(a, b)
    if high <= theta or seconds <= 0:
        return 0.0
    if low < theta:
        seconds, low = seconds * ((high - theta) / (high - low)), theta
    if side.law == EXPONENTIAL:
        return side.rate_hz * seconds * _exponential(theta, side.scale, low, high)
    return side.rate_hz * seconds * _power(theta, side.scale, low, high)


@compiled
def _shrunk(room: float, by: float, window: float) -> float:  # pragma: no cover - compiled
    """What is left of `room` (to the end of the window) after a dose: d room / d dose = - room^window."""
    if window == 0:
        return max(room - by, 0.0)
    if room <= 0:
        return 0.0
    if window == 1:
        return float(room * np.exp(-by))
    left = room ** (1 - window) - (1 - window) * by
    return float(left ** (1 / (1 - window))) if left > 0 else 0.0


@compiled
def moved(law: RateLaw, u: float, by: float) -> float:  # pragma: no cover - compiled
    """The state u after a signed dose."""
    if by == 0:
        return u
    w = law.ratio * u / (1 + (law.ratio - 1) * u)
    w = 1 - _shrunk(1 - w, by, law.up.window) if by > 0 else _shrunk(w, -by, law.down.window)
    return min(max(w / (law.ratio - (law.ratio - 1) * w), 0.0), 1.0)


@compiled
def _move(law: RateLaw, u: Any, by: float) -> None:  # pragma: no cover - compiled
    for k in range(u.size):
        u[k] = moved(law, u[k], by)


@compiled
def _join(by: float, runs: Any, n: int) -> int:  # pragma: no cover - compiled
    """Add a dose to the last run of its sign, or begin a run with it."""
    if by == 0:
        return n
    if n and (runs[n - 1] > 0) == (by > 0):
        runs[n - 1] += by
        return n
    runs[n] = by
    return n + 1


@compiled
def take(
    law: RateLaw, a: float, b: float, seconds: float, factor: float, runs: Any, n: int
) -> int:  # pragma: no cover - compiled
    """Put the doses of a straight piece (V from a to b) behind the n runs there are; gives how many there are then."""
    up, down = dose(law.up, a, b, seconds, factor), -dose(law.down, -a, -b, seconds, factor)
    first, second = (up, down) if a > b else (down, up)
    return _join(second, runs, _join(first, runs, n))


# -- models -----------------------------------------------------------------------------------------------------------


class RateModel(LatentModel):
    """A device given by a rate law: it answers rectangular pulses of any amplitude and width, and any waveform."""

    rate: RateLaw

    def __init__(self, card: DeviceCard, replay: Replay, law: RateLaw) -> None:
        if replay == "literal":
            raise CapabilityMissing(
                f"device {card.name}: literal replay repeats measured samples; model {card.model!r} is a formula "
                "(set replay = 'latent')"
            )
        window = card.window
        if window is None or card.curve or card.assumed_mirror or card.half_select is not None:
            raise ConfigError(
                f"device {card.name}: model {card.model!r} needs a [window] and takes no [[curve]], no assumed_mirror "
                "and no [half_select]: its law answers every voltage in either direction"
            )
        start_s = window.g_min_s if window.g_start_s is None else window.g_start_s
        super().__init__(card, window.g_min_s, window.g_max_s, start_s, card.noise.read_sigma_s or 0.0)
        self.rate, self.half_select_modelled = law, True

    def response(self, direction: int, amplitude_v: float, width_s: float) -> Response:
        """The step of a rectangular pulse; nothing at all up to the threshold.

        Exact at the nodes. Between them the step is off by up to 2e-5 of the window for windows of up to two decades
        (by nothing where it does not depend on the state).
        """
        law = self.rate
        side, volts = (law.up if direction > 0 else law.down), abs(amplitude_v)
        by = direction * dose(side, volts, volts, width_s, 1.0)
        if not by:
            return Response(np.zeros(1), np.zeros(1), np.zeros(1))
        nodes = self._nodes(side, by)
        even = law.ratio == 1 and side.window == 0
        delta = np.full(len(nodes), min(max(by, -1.0), 1.0)) if even else law.moved(nodes, by) - nodes
        return self.make_response(nodes, delta, self.card.noise.step_sigma_s or 0.0)

    def disturb(self, direction: int, amplitude_v: float, width_s: float) -> Response | None:
        """What a half-selected cell feels: the same law at the voltage that it sees."""
        return self.response(direction, amplitude_v, width_s)

    def _nodes(self, side: Side, by: float) -> FloatArray:
        """States at which the step is computed: dense where it bends, and where the window cuts it."""
        law = self.rate
        if law.ratio == 1 and side.window == 0:
            return np.array([0.0, 1.0])
        even = np.linspace(0.0, 1.0, NODES + 1)
        inner = np.concatenate([even, _near_end(side.window, by)])
        nodes = np.concatenate([even, inner / (law.ratio - (law.ratio - 1) * inner)])
        if side.window == 0:  # evenly spaced where the pulse leads to, too: it may be steep
            nodes = np.concatenate([nodes, RateLaw(side, side, law.ratio).moved(even, -by)])
        nodes = np.unique(nodes)
        kept: FloatArray = nodes[np.append(np.diff(nodes) > 1e-9, True)]
        return kept


def _near_end(window: float, by: float) -> FloatArray:
    """States w near the end of the window, where a soft bound bends most, and that from which the end is reached."""
    room = np.geomspace(1e-8, 1.0, NODES) if window not in (0, 1) else np.zeros(0)
    if window < 1:
        room = np.append(room, min((1 - window) * abs(by), 1.0) ** (1 / (1 - window)))
    return np.asarray(1 - room if by > 0 else room, dtype=np.float64)
