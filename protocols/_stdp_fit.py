"""The learning window in numbers: amplitude and time constant of both branches, with their intervals."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.stats import t as student

from neurobench.bench.stimulus import BoolArray, FloatArray

CONFIDENCE = 0.95
EVIDENCE_SIGMA = 3.0  # a mean change below so many standard deviations of itself is noise
LEAST_TIMES = 3  # different dt beyond noise that a branch of two parameters needs
FARTHEST = 10.0  # a time constant beyond so many times the largest |dt| was not measured
WIDEST = 100.0  # an interval so many times as large as its value says nothing
ROUNDING = 1e-9  # of a conductance: a smaller change is what is left of a subtraction
METHOD = (
    "dG = A exp(-|dt| / tau) by least squares over all single points of a branch (scipy curve_fit in A and ln tau); "
    f"{CONFIDENCE:.0%} intervals from Student's t with n - 2 degrees of freedom, of the residuals' own scatter"
)


class Branch(NamedTuple):
    """One side of a window: [value, low, high] of A in siemens (signed) and tau in seconds, or why there is none."""

    a_s: tuple[float, float, float] | None
    tau_s: tuple[float, float, float] | None
    r_squared: float | None
    said: str
    sign: int = 0  # whether it surely potentiates (1) or depresses (-1): A's interval is clear of zero


def fit_window(dt_s: FloatArray, dg_s: FloatArray, noise_s: float, g0_s: float) -> dict[str, Any]:
    """Both branches of single changes dg_s[n] at dt_s[n]; a branch without evidence is None and `said` tells why.

    noise_s: standard deviation of one change where nothing was applied; g0_s: the conductance they start from.
    """
    fit: dict[str, Any] = {"method": METHOD, "said": {}, "sign": {}, "r_squared": {}, "intervals": {}}
    for name, side in (("plus", dt_s > 0), ("minus", dt_s < 0)):
        branch = fit_branch(np.abs(dt_s[side]), dg_s[side], max(noise_s, ROUNDING * g0_s))
        told = {f"a_{name}": branch.a_s, f"tau_{name}_s": branch.tau_s}
        fit |= {key: None if values is None else values[0] for key, values in told.items()}
        fit["intervals"] |= {key: None if values is None else list(values) for key, values in told.items()}
        fit["said"][name], fit["r_squared"][name] = branch.said, branch.r_squared
        fit["sign"][name] = branch.sign
    return fit


def evident(at_s: FloatArray, dt_s: FloatArray, dg_s: FloatArray, noise_s: float) -> BoolArray:
    """For each time of at_s, whether the mean change there is beyond EVIDENCE_SIGMA of its own noise."""
    means = np.array([dg_s[dt_s == one].mean() for one in at_s])
    counts = np.array([(dt_s == one).sum() for one in at_s])
    beyond: BoolArray = np.abs(means) > EVIDENCE_SIGMA * noise_s / np.sqrt(np.maximum(counts, 1))
    return beyond


def fit_branch(dt_s: FloatArray, dg_s: FloatArray, noise_s: float) -> Branch:
    """A exp(-dt/tau) through changes dg_s[n] at dt_s[n] > 0."""
    at_s = np.unique(dt_s)
    found = int(evident(at_s, dt_s, dg_s, noise_s).sum()) if len(at_s) else 0
    if found < LEAST_TIMES:
        return Branch(None, None, None, f"not fitted: {found} of {len(at_s)} dt beyond noise, {LEAST_TIMES} are needed")
    first = float(dg_s[dt_s == at_s[0]].mean()) or float(dg_s[np.abs(dg_s).argmax()])
    scale = abs(first)
    # in A / |first guess| and ln tau both parameters are of order 1, and tau stays positive
    try:
        with warnings.catch_warnings():  # an undetermined covariance is infinite, and told below
            warnings.simplefilter("ignore", OptimizeWarning)
            best, spread = curve_fit(
                _decay, dt_s, dg_s / scale, p0=(np.sign(first), np.log(float(dt_s.mean()))), maxfev=5000
            )
    except RuntimeError as error:
        return Branch(None, None, None, f"not fitted: {error}")
    wide = student.ppf((1 + CONFIDENCE) / 2, max(len(dt_s) - 2, 1)) * np.sqrt(np.diag(spread))
    if not (np.isfinite(wide).all() and abs(best[1]) < 50):
        return Branch(None, None, None, "not fitted: amplitude and time constant cannot be told apart")
    a_s = _interval(scale * best[0], scale * wide[0])
    sign = int(np.sign(a_s[0])) if a_s[1] * a_s[2] > 0 else 0
    value, low, high = (float(np.exp(min(ln, 700.0))) for ln in _interval(best[1], wide[1]))
    if vague := _vague(a_s, (value, low, high), float(at_s[-1])):
        return Branch(None, None, None, f"not fitted: {vague}", sign)
    left = dg_s / scale - _decay(dt_s, *best)
    around = dg_s / scale - (dg_s / scale).mean()
    r_squared = 1 - float(left @ left) / float(around @ around)
    return Branch(a_s, (value, low, high), r_squared, "", sign)


def _interval(value: float, wide: float) -> tuple[float, float, float]:
    return float(value), float(value - wide), float(value + wide)


def _vague(a_s: tuple[float, float, float], tau_s: tuple[float, float, float], longest_s: float) -> str:
    """Why what least squares found is no measurement; empty where it is one."""
    if tau_s[0] > FARTHEST * longest_s:
        return f"no decay is seen: tau would be {tau_s[0]:.3g} s, and the largest |dt| is {longest_s:.3g} s"
    for name, unit, (value, low, high) in (("A", "S", a_s), ("tau", "s", tau_s)):
        if high - low > WIDEST * abs(value):
            return f"{name} = {value:.3g} {unit} lies anywhere from {low:.3g} to {high:.3g} {unit}"
    return ""


def _decay(dt_s: FloatArray, a: float, log_tau: float) -> FloatArray:
    decay: FloatArray = a * np.exp(-dt_s / np.exp(log_tau))
    return decay


def is_window(fit: Mapping[str, Any]) -> bool:
    """Whether dt > 0 surely potentiates and dt < 0 surely depresses, also where no exponential describes it."""
    return bool(fit["sign"]["plus"] > 0 and fit["sign"]["minus"] < 0)
