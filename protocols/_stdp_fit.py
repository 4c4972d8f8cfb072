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


def fit_window(dt_s: FloatArray, dg_s: FloatArray, noise_s: float, g0_s: float) -> dict[str, Any]:
    """Both branches of single changes dg_s[n] at dt_s[n]; a branch without evidence is None and `said` tells why.

    noise_s: standard deviation of one change where nothing was applied; g0_s: the conductance they start from.
    """
    fit: dict[str, Any] = {"method": METHOD, "said": {}, "r_squared": {}, "intervals": {}}
    for name, side in (("plus", dt_s > 0), ("minus", dt_s < 0)):
        branch = fit_branch(np.abs(dt_s[side]), dg_s[side], max(noise_s, ROUNDING * g0_s))
        told = {f"a_{name}": branch.a_s, f"tau_{name}_s": branch.tau_s}
        fit |= {key: None if values is None else values[0] for key, values in told.items()}
        fit["intervals"] |= {key: None if values is None else list(values) for key, values in told.items()}
        fit["said"][name], fit["r_squared"][name] = branch.said, branch.r_squared
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
    a = [scale * (best[0] + k * wide[0]) for k in (0, -1, 1)]
    tau_s = [float(np.exp(min(best[1] + k * wide[1], 700.0))) for k in (0, -1, 1)]
    left = dg_s / scale - _decay(dt_s, *best)
    around = dg_s / scale - (dg_s / scale).mean()
    r_squared = 1 - float(left @ left) / float(around @ around)
    return Branch((a[0], a[1], a[2]), (tau_s[0], tau_s[1], tau_s[2]), r_squared, "")


def _decay(dt_s: FloatArray, a: float, log_tau: float) -> FloatArray:
    decay: FloatArray = a * np.exp(-dt_s / np.exp(log_tau))
    return decay


def is_window(fit: Mapping[str, Any]) -> bool:
    """Whether both branches were fitted, dt > 0 potentiates and dt < 0 depresses, surely: intervals clear of zero."""
    up, down = fit["intervals"]["a_plus"], fit["intervals"]["a_minus"]
    return up is not None and down is not None and up[1] > 0 and down[2] < 0
