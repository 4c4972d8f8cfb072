"""Replay of measured curves, in the two ways of bench-rules 12 and 13.

latent (default): the state is the normalised conductance on the monotone mean curve. One pulse moves it along the mean
curve; the scatter of the data is split into read noise and step noise and drawn afresh. Families of curves over
amplitude and width are interpolated in log|dG| at equal state, linearly over V and log t, inside their hull only.
literal: the state is the pulse index and the samples are repeated as they are, potentiation only, without noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurobench.errors import CapabilityMissing, ConfigError, CurveError, OutsideHull
from neurobench.physics.fit import mean_curve, split_noise
from neurobench.physics.latent import (
    LatentModel,
    Parameters,
    missing_direction,
    outside_hull,
    read_parameters,
    same_pulse,
)
from neurobench.physics.response import DeviceModel, Response

if TYPE_CHECKING:
    from neurobench.physics.card import Curve, DeviceCard
    from neurobench.physics.response import FloatArray, Replay


@dataclass(frozen=True, slots=True)
class Family:
    """One measured train: its card entry, its monotone mean [S] in pulse order, and its scatter [S]."""

    curve: Curve
    mean_s: FloatArray
    read_sigma_s: float
    step_sigma_s: float

    def steps(self) -> tuple[FloatArray, FloatArray]:
        """Conductances [S] ascending and the change [S] that the next pulse brings; 0 at the end of the curve."""
        level_s = self.mean_s[np.append(np.diff(self.mean_s) != 0, True)]
        step_s = np.append(np.diff(level_s), 0.0)
        return (level_s, step_s) if self.curve.sign > 0 else (level_s[::-1], step_s[::-1])


class MeasuredLatent(LatentModel):
    """See the module: replay on the mean curve with the scatter split."""

    def __init__(self, card: DeviceCard) -> None:
        self._families = {sign: [_family(c) for c in card.families(sign)] for sign in (1, -1)}
        measured = [f for families in self._families.values() for f in families]
        low_s = min(float(f.mean_s.min()) for f in measured)
        high_s = max(float(f.mean_s.max()) for f in measured)
        start_s = float(measured[0].mean_s[0])  # a fresh device stands where its first curve begins
        if card.window is not None:
            low_s, high_s = _wider(card, low_s, high_s)
            start_s = card.window.g_start_s or start_s
        if low_s >= high_s:
            raise CurveError(f"device {card.name}: the mean of its curves does not move; nothing to replay")
        noise = card.noise
        read_sigma_s = _pooled([f.read_sigma_s for f in measured]) if noise.read_sigma_s is None else noise.read_sigma_s
        super().__init__(card, low_s, high_s, start_s, read_sigma_s)
        self.step_sigma_s = (
            _pooled([f.step_sigma_s for f in measured]) if noise.step_sigma_s is None else noise.step_sigma_s
        )
        self.half_select_modelled |= any(_reaches_half(f) for f in self._families.values())
        self._assumed = _mirror(card, self._families)
        if self._assumed:
            source = self._families[-self._assumed]
            self._families[self._assumed] = [_mirrored(f, low_s + high_s) for f in source]

    @property
    def assumed_direction(self) -> int:
        """The direction that is a declared mirror of the measured one (+1, -1), or 0."""
        return self._assumed

    def response(self, direction: int, amplitude_v: float, width_s: float) -> Response:
        """One pulse on the mean curve; exact at every sample of the curve, interpolated between families."""
        families = self._families[direction]
        if not families:
            raise missing_direction(self.card, direction)
        tolerance = self.card.tolerance
        exact = [f for f in families if same_pulse(f.curve, amplitude_v, width_s, tolerance)]
        if exact:
            weights = {0: 1.0}
            families = exact[:1]
        else:
            weights = hull_weights([_place(f) for f in families], (abs(amplitude_v), float(np.log(width_s))))
        if not weights:
            raise outside_hull(self.card, direction, amplitude_v, width_s, [f.curve for f in families])
        return self._mix([(families[i], w) for i, w in weights.items()])

    def disturb(self, direction: int, amplitude_v: float, width_s: float) -> Response | None:
        """What was measured at this voltage if it lies inside the hull, else what the card declares, else None."""
        families = self._families[direction]
        if not families:
            return None
        if any(f.curve.amplitude_v is None for f in families):
            return super().disturb(direction, amplitude_v, width_s)
        try:
            return self.response(direction, amplitude_v, width_s)
        except OutsideHull:
            return super().disturb(direction, amplitude_v, width_s)

    def _mix(self, parts: list[tuple[Family, float]]) -> Response:
        """Interpolate log|dG| at equal state; one family is taken as it is."""
        pieces = [(*f.steps(), w) for f, w in parts]
        nodes_s = np.unique(np.concatenate([level for level, _, _ in pieces]))
        if len(pieces) == 1:
            step_s = pieces[0][1]
        else:
            sign = parts[0][0].curve.sign
            with np.errstate(divide="ignore"):  # the end of one curve: log 0, and the mix is 0 there
                logs = [w * np.log(np.abs(np.interp(nodes_s, level, step))) for level, step, w in pieces]
            step_s = sign * np.exp(np.sum(logs, axis=0))
        return self.make_response((nodes_s - self.g_min_s) / self.span_s, step_s / self.span_s, self.step_sigma_s)


class MeasuredLiteral(DeviceModel):
    """See the module: the samples by pulse index, potentiation only, no noise."""

    def __init__(self, card: DeviceCard) -> None:
        families = card.families(1)
        if len(families) != 1:
            raise CapabilityMissing(
                f"device {card.name}: literal replay repeats one potentiation curve, the card holds {len(families)}"
            )
        self._curve = families[0]
        self.name, self.card, self.end = card.name, card, card.end
        self.levels_s = self._curve.points()
        self.g_min_s, self.g_max_s = float(self.levels_s.min()), float(self.levels_s.max())
        self.u_min, self.u_max, self.u_start = 0.0, float(self.levels_s.size - 1), 0.0
        self.half_select_modelled = False
        self.read_sigma_s = self.read_sigma_relative = 0.0
        self.relaxation = None

    @property
    def step_spread(self) -> float:
        """No spread: every device repeats the same samples."""
        return 0.0

    def response(self, direction: int, amplitude_v: float, width_s: float) -> Response:
        """The next index; 0 at the last sample."""
        if direction < 0:
            raise CapabilityMissing(
                f"device {self.name}: literal replay can only potentiate (an index has no way back): replay = 'latent'"
            )
        if not same_pulse(self._curve, amplitude_v, width_s, self.card.tolerance):
            raise outside_hull(self.card, direction, amplitude_v, width_s, (self._curve,))
        last = self.u_max
        nodes = np.unique([0.0, last - 1, last])
        return Response(nodes, np.where(nodes < last, 1.0, 0.0), np.zeros(nodes.size))

    def disturb(self, direction: int, amplitude_v: float, width_s: float) -> Response | None:
        """Not modelled: an index cannot move by a fraction."""
        del direction, amplitude_v, width_s
        return None


def build(card: DeviceCard, replay: Replay) -> DeviceModel:
    """The model of a card with model = "measured"."""
    read_parameters(card, Parameters)
    if not card.curve or card.pulse:
        raise ConfigError(f"device {card.name}: model 'measured' needs [[curve]] entries and takes no [[pulse]]")
    return MeasuredLiteral(card) if replay == "literal" else MeasuredLatent(card)


def hull_weights(places: list[tuple[float, float]], wanted: tuple[float, float]) -> dict[int, float]:
    """Weights of the measured points (V, log t) that interpolate `wanted` linearly; empty outside their hull."""
    points, target = np.array(places), np.array(wanted)
    if not np.all(np.isfinite(points)) or len(points) < 2:
        return {}
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    varying = size > 0
    if np.any(np.abs(target - low)[~varying] > 1e-9 * np.abs(low[~varying]) + 1e-12):
        return {}
    unit, at = (points - low)[:, varying] / size[varying], (target - low)[varying] / size[varying]
    return _weights_on_line(unit[:, 0], float(at[0])) if varying.sum() == 1 else _weights_in_plane(unit, at)


def _weights_on_line(x: FloatArray, at: float) -> dict[int, float]:
    if not 0 <= at <= 1:
        return {}
    order = np.argsort(x)
    right = min(max(int(np.searchsorted(x[order], at)), 1), x.size - 1)
    a, b = int(order[right - 1]), int(order[right])
    share = (at - x[a]) / (x[b] - x[a])
    return {i: float(w) for i, w in ((a, 1 - share), (b, share)) if w > 0}


def _weights_in_plane(unit: FloatArray, at: FloatArray) -> dict[int, float]:
    """Barycentric weights in the triangle that holds the point."""
    from scipy.spatial import Delaunay, QhullError  # slow to import, and most cards hold no such family

    try:
        mesh = Delaunay(unit)
    except QhullError:
        return {}  # all on one slanted line: no area, so nothing lies inside
    simplex = int(mesh.find_simplex(at, tol=1e-9))
    if simplex < 0:
        return {}
    transform = mesh.transform[simplex]
    first = transform[:2] @ (at - transform[2])
    weights = np.clip(np.append(first, 1 - first.sum()), 0.0, 1.0)
    corners = zip(mesh.simplices[simplex], weights / weights.sum(), strict=True)
    return {int(i): float(w) for i, w in corners if w > 1e-12}


def _place(family: Family) -> tuple[float, float]:
    volts, width_s = family.curve.amplitude_v, family.curve.width_s
    return (np.nan if volts is None else abs(volts), np.nan if width_s is None else float(np.log(width_s)))


def _family(curve: Curve) -> Family:
    points_s = curve.points()
    mean_s = mean_curve(points_s, curve.sign)
    noise = split_noise(points_s, mean_s)
    return Family(curve, mean_s, noise.read_sigma_s, noise.step_sigma_s)


def _reaches_half(families: list[Family]) -> bool:
    """Was half of the highest amplitude measured too?"""
    volts = [abs(f.curve.amplitude_v) for f in families if f.curve.amplitude_v is not None]
    return len(volts) > 1 and min(volts) <= max(volts) / 2


def _mirrored(family: Family, sum_s: float) -> Family:
    """The measured train turned upside down in the window: an assumption, never data."""
    direction = "depress" if family.curve.sign > 0 else "potentiate"
    curve = family.curve.model_copy(update={"direction": direction})
    return Family(curve, sum_s - family.mean_s, family.read_sigma_s, family.step_sigma_s)


def _mirror(card: DeviceCard, families: dict[int, list[Family]]) -> int:
    """The direction to be mirrored (0 = none); declaring it where both were measured is a contradiction."""
    if not card.assumed_mirror:
        return 0
    missing = [sign for sign, found in families.items() if not found]
    if not missing:
        raise ConfigError(f"device {card.name}: assumed_mirror is declared, but both directions were measured")
    return missing[0]


def _wider(card: DeviceCard, low_s: float, high_s: float) -> tuple[float, float]:
    window = card.window
    assert window is not None
    # A read-noise-sized overhang of the mean beyond the declared window would clip samples silently: refuse it.
    if window.g_min_s > low_s * (1 + 1e-9) or window.g_max_s < high_s * (1 - 1e-9):
        raise ConfigError(
            f"device {card.name}: [window] {window.g_min_s:g} .. {window.g_max_s:g} S does not contain its mean curves "
            f"({low_s:g} .. {high_s:g} S)"
        )
    return window.g_min_s, window.g_max_s


def _pooled(sigmas: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(sigmas))))


plugin = build
