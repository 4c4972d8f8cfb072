"""From a measured curve to the numbers of a model: mean curve, noise split, compact formula, write-current law.

Nothing here knows files or chips; arrays in, small frozen results out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurobench.errors import CurveError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neurobench.physics.response import FloatArray


@dataclass(frozen=True, slots=True)
class NoiseSplit:
    """Scatter of a curve, split into what the reader adds and what the device does.

    read_sigma_s: one read's noise [S]; step_sigma_s: scatter of one pulse's step [S]; lag1: lag-1 correlation of the
    residual steps (-0.5 = all read noise, 0 = all step noise); steps: how many entered.
    """

    read_sigma_s: float
    step_sigma_s: float
    lag1: float
    steps: int


@dataclass(frozen=True, slots=True)
class DoubleExponential:
    """G(n) = start_s + a1_s (1 - exp(-n/n1)) + a2_s (1 - exp(-n/n2)) after n pulses; rms_s = residual of the fit."""

    start_s: float
    a1_s: float
    n1: float
    a2_s: float
    n2: float
    rms_s: float

    def curve(self, pulses: int) -> FloatArray:
        """Conductance [S] after 0 .. `pulses` pulses, shape [pulses + 1]."""
        return double_exponential(np.arange(pulses + 1.0), self.start_s, self.a1_s, self.n1, self.a2_s, self.n2)


def double_exponential(n: FloatArray, start_s: float, a1_s: float, n1: float, a2_s: float, n2: float) -> FloatArray:
    """The compact saturating curve; see `DoubleExponential`."""
    return np.asarray(start_s - a1_s * np.expm1(-n / n1) - a2_s * np.expm1(-n / n2), dtype=np.float64)


def mean_curve(conductance_s: FloatArray, direction: int) -> FloatArray:
    """The monotone mean of a measured curve, same length; direction +1 rises, -1 falls.

    Isotonic regression (pool adjacent violators) finds the level of each pooled block; the blocks are then joined
    centre to centre. Plain isotonic blocks are flat: a state on them would either never move again or skip the whole
    block in one pulse (the published 50-pulse curve has 15 blocks: 14 pulses would do the work of 50). Joining the
    centres keeps every block's level *and* the number of pulses spent in it. A strictly monotone curve is returned
    unchanged.
    """
    from scipy.optimize import isotonic_regression  # here: loading it takes longer than all else before a window stands

    fit = isotonic_regression(conductance_s, increasing=direction > 0)
    edges = np.asarray(fit.blocks)
    centres = (edges[:-1] + edges[1:] - 1) / 2
    joined = np.interp(np.arange(conductance_s.size), centres, fit.x[edges[:-1]])
    # interpolation rounds: without this, two levels of one flat piece may differ by a last bit the wrong way round
    return np.asarray(direction * np.maximum.accumulate(direction * joined), dtype=np.float64)


def split_noise(conductance_s: FloatArray, mean_s: FloatArray) -> NoiseSplit:
    """Split the scatter of a curve about its mean curve into read and step noise (bench-rules 12).

    With e_t = (step of the data) - (step of the mean curve), less its average: independent read noise r gives
    cov(e_t, e_t+1) = -r^2, so read_sigma^2 = max(0, -cov) and step_sigma^2 = max(0, var(e) - 2 read_sigma^2).
    Fewer than four steps say nothing: both are 0.
    """
    steps = np.diff(conductance_s - mean_s)
    if steps.size < 4:
        return NoiseSplit(0.0, 0.0, 0.0, steps.size)
    steps = steps - steps.mean()
    variance = float(np.mean(steps**2))
    # Rounding alone leaves 1e-16 of the conductance; a noise-free curve must say 0, not 1e-22 S.
    if math.sqrt(variance) < 1e-12 * float(np.max(np.abs(conductance_s))):
        return NoiseSplit(0.0, 0.0, 0.0, steps.size)
    covariance = float(np.mean(steps[1:] * steps[:-1]))
    read_variance = max(0.0, -covariance)
    step_variance = max(0.0, variance - 2 * read_variance)
    return NoiseSplit(math.sqrt(read_variance), math.sqrt(step_variance), covariance / variance, steps.size)


def split_cycles(trains_s: FloatArray) -> NoiseSplit:
    """Split the scatter of equal trains on one device [cycles, points] into read and step noise (bench-rules 12).

    As `split_noise`, with the mean over the cycles in place of a smooth curve: nothing of the scatter is taken for the
    curve, which is what an isotonic mean of one train does where steps scatter more than they move. What the cycles'
    own mean takes away is given back (C / (C - 1)). Fewer than two cycles or two steps say nothing: both are 0.
    """
    cycles, points = trains_s.shape
    if cycles < 2 or points < 3:
        return NoiseSplit(0.0, 0.0, 0.0, 0)
    steps = np.diff(trains_s, axis=1)
    residual, given_back = steps - steps.mean(axis=0), cycles / (cycles - 1)
    variance = float(np.mean(residual**2)) * given_back
    if math.sqrt(variance) < 1e-12 * float(np.max(np.abs(trains_s))):
        return NoiseSplit(0.0, 0.0, 0.0, steps.size)
    covariance = float(np.mean(residual[:, 1:] * residual[:, :-1])) * given_back
    read_variance = max(0.0, -covariance)
    step_variance = max(0.0, variance - 2 * read_variance)
    return NoiseSplit(math.sqrt(read_variance), math.sqrt(step_variance), covariance / variance, steps.size)


def fit_double_exponential(conductance_s: FloatArray) -> DoubleExponential:
    """Least-squares fit of the compact saturating curve to a rising curve [S]; CurveError when it does not converge."""
    from scipy.optimize import curve_fit

    span_s = float(np.ptp(conductance_s))
    if conductance_s.size < 8 or span_s == 0:
        raise CurveError(f"a double-exponential fit needs >= 8 points that change; got {conductance_s.size}")
    pulses = np.arange(conductance_s.size, dtype=np.float64)
    scaled = (conductance_s - conductance_s[0]) / span_s  # 1e-7 S is below the optimiser's absolute steps
    guess = (0.0, 0.5, 1.0, 0.5, conductance_s.size / 5)
    bounds = ([-1.0, 0.0, 1e-2, 0.0, 1e-2], [1.0, 10.0, 1e4, 10.0, 1e4])
    try:
        found, _ = curve_fit(double_exponential, pulses, scaled, p0=guess, bounds=bounds, max_nfev=20000)
    except RuntimeError as error:
        raise CurveError(f"no double-exponential curve fits these points: {error}") from None
    start, *rest = (float(x) for x in found)
    (n1, a1), (n2, a2) = sorted([(rest[1], rest[0]), (rest[3], rest[2])])
    rms = float(np.sqrt(np.mean((double_exponential(pulses, start, a1, n1, a2, n2) - scaled) ** 2)))
    start_s = float(conductance_s[0]) + start * span_s
    return DoubleExponential(start_s, a1 * span_s, n1, a2 * span_s, n2, rms * span_s)


def sinh_v0(ratio: float, write_v: float, read_v: float) -> float:
    """v0 [V] of I = I0 sinh(V/v0) whose chord conductance at write_v is `ratio` times that at read_v."""
    from scipy.optimize import brentq

    if not (ratio > 1 and abs(write_v) > abs(read_v) > 0):
        raise CurveError(f"a sinh law needs ratio > 1, |write| > |read| > 0; got {ratio}, {write_v} V, {read_v} V")

    def excess(log_v0: float) -> float:
        v0 = math.exp(log_v0)
        return _log_sinhc(abs(write_v) / v0) - _log_sinhc(abs(read_v) / v0) - math.log(ratio)

    scale = math.log(abs(write_v))
    return math.exp(float(brentq(excess, scale - 20, scale + 15, xtol=1e-14)))


def cubic_per_v2(ratio: float, write_v: float, read_v: float) -> float:
    """k [1/V^2] of I = G0 V (1 + k V^2) whose chord conductance at write_v is `ratio` times that at read_v."""
    below = write_v**2 - ratio * read_v**2
    if not (ratio > 1 and below > 0):
        raise CurveError(f"a cubic law needs 1 < ratio < (write / read)^2; got {ratio}, {write_v} V, {read_v} V")
    return (ratio - 1) / below


def _log_sinhc(x: float) -> float:
    """log(sinh(x)/x), without overflow."""
    return x + math.log(-math.expm1(-2 * x) / (2 * x)) if x > 1e-6 else x * x / 6


def mean_train(trains: Sequence[FloatArray], direction: int) -> tuple[FloatArray, FloatArray, float]:
    """One representative train from many cycles or devices of different length.

    Trains are never averaged at equal pulse index (a slower device would smear the end). Each is a map from log G to
    its change by the next pulse; the maps are averaged at equal log G and iterated from the median start to the median
    end. Returns the train [S]; per input, its number of pulses over the train's; and the scatter of one step inside an
    input, relative to that input's own mean step (read noise included).
    """
    logs = [direction * np.log(mean_curve(train, direction)) for train in trains]
    start = float(np.median([x[0] for x in logs]))
    stop = float(np.median([x[-1] for x in logs]))
    grid = np.linspace(start, stop, 400)
    step = np.mean([_log_steps(x, grid) for x in logs], axis=0)
    out = [start]
    while out[-1] < stop - 1e-9 and len(out) < 10 * max(x.size for x in logs):
        out.append(out[-1] + float(np.interp(out[-1], grid, step)))
    lengths = np.array([float(x.size - 1) for x in logs])
    scatter = float(np.sqrt(np.mean([_step_scatter(direction * np.log(t), grid, step) for t in trains])))
    return np.exp(np.array(out) * direction), lengths / (len(out) - 1), scatter


def _step_scatter(log_g: FloatArray, grid: FloatArray, step: FloatArray) -> float:
    """Variance of (step / mean step at the same log G) inside one train, relative to its mean ratio squared."""
    ratio = np.diff(log_g) / np.interp(log_g[:-1], grid, step)
    return float(np.var(ratio) / np.mean(ratio) ** 2)


def _log_steps(ascending: FloatArray, grid: FloatArray) -> FloatArray:
    """The step of log G at each grid point of one ascending train; beyond its ends, its first or last step."""
    nodes, first = np.unique(ascending, return_index=True)
    steps = np.diff(nodes) / np.diff(first)
    return np.asarray(np.interp(grid, nodes, np.append(steps, steps[-1])), dtype=np.float64)
