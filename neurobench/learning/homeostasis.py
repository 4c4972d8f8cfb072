"""What keeps a network in its working range: adaptive thresholds, synaptic scaling, normalisation and its cost.

Thresholds and rates are numbers on the host and cost nothing. Scaling and normalisation change weights, so on a
crossbar they cost pulses: `normalisation` says how many, and spends no more than a budget. Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import NamedTuple

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray, IntArray, require

from .quantised import Quantiser, quantise


@dataclass(frozen=True)
class AdaptiveThreshold:
    """theta rises by `step` with each spike and decays with `tau_s` (Diehl & Cook 2015).

    Published (Front. Comput. Neurosci. 9, 99): 0.05 mV per spike, 1e7 ms, on top of the threshold. Unit: that of the
    membrane. Read: spikes; pulsed: nothing; host: theta[neurons].
    """

    step: float
    tau_s: float

    def __post_init__(self) -> None:
        require(0 <= self.step < float("inf"), f"step = {self.step} must be finite and not negative")
        require(self.tau_s > 0, f"tau_s = {self.tau_s} s must be positive (inf: no decay)")


DIEHL_COOK = AdaptiveThreshold(step=0.05e-3, tau_s=1e4)  # volts; as peter-u-diehl/stdp-mnist has them


def adapted(theta: FloatArray, spikes: BoolArray, parameters: AdaptiveThreshold, dt_s: float) -> FloatArray:
    """theta[neurons] after a tick of `dt_s`: decayed, then raised where a neuron spikes in this tick."""
    return theta * exp(-dt_s / parameters.tau_s) + parameters.step * spikes


@dataclass(frozen=True)
class Scaling:
    """Synaptic scaling towards a rate: all weights of a neuron by one factor, so that their ratios stay.

    d ln w / dt = gain (target_hz - rate) (van Rossum, Bi & Turrigiano 2000, J. Neurosci. 20, 8812, without the
    integral term; Turrigiano et al. 1998, Nature 391, 892; both from memory). The rate is the spikes' running mean over
    `tau_rate_s`. gain per second and hertz. Read: spikes, weights; pulsed: dw; host: rates[neurons].
    """

    target_hz: float
    tau_rate_s: float
    gain: float

    def __post_init__(self) -> None:
        for name in ("target_hz", "tau_rate_s", "gain"):
            value = getattr(self, name)
            require(0 < value < float("inf"), f"{name} = {value} must be positive and finite")


def scaled(
    rates_hz: FloatArray, spikes: BoolArray, weights: FloatArray, parameters: Scaling, dt_s: float
) -> tuple[FloatArray, FloatArray]:
    """rates_hz[neurons] after a tick, and dw[inputs, neurons]: by the exact factor, so no weight turns sign."""
    p, kept = parameters, exp(-dt_s / parameters.tau_rate_s)
    rates = rates_hz * kept + (1 - kept) / dt_s * spikes
    return rates, weights * np.expm1(p.gain * dt_s * (p.target_hz - rates))


def normalised(weights: FloatArray, target: float) -> FloatArray:
    """dw[inputs, neurons] that brings each column's sum to `target` by one factor (Diehl & Cook 2015: 78).

    A column whose sum is not positive has no such factor: it is left as it is.
    """
    require(0 < target < float("inf"), f"target = {target} must be positive and finite")
    sums = weights.sum(axis=0)
    factor = np.divide(target, sums, out=np.ones_like(sums), where=sums > 0)
    dw: FloatArray = weights * (factor - 1)
    return dw


class Normalisation(NamedTuple):
    """What normalising costs and what of it is afforded.

    counts[inputs, neurons]: the pulses to fire; `asked`[neurons]: pulses that each column would take; `off`[neurons]:
    |sum - target| / target before; `done`[neurons]: which columns are normalised by `counts`.
    """

    counts: IntArray
    asked: IntArray
    off: FloatArray
    done: BoolArray

    @property
    def pulses(self) -> int:
        """Pulses that are fired."""
        return int(np.abs(self.counts.astype(np.int64)).sum())


def normalisation(
    weights: FloatArray, target: float, q: Quantiser, rng: np.random.Generator | None = None, *, budget: int,
    tolerance: float = 0.0,
) -> Normalisation:  # fmt: skip
    """Normalise the columns that are off by more than `tolerance` (relative), the worst first, for `budget` pulses.

    A column is normalised as a whole or not at all: half of it would change the ratios of its weights. weights, target
    and the quantiser's steps share one unit. Weights are single devices: what a pulse potentiates grows.
    """
    require(budget >= 0 and tolerance >= 0, f"budget {budget} and tolerance {tolerance} are not negative")
    counts = quantise(normalised(weights, target), q, rng).counts
    asked = np.abs(counts.astype(np.int64)).sum(axis=0)
    off = np.abs(weights.sum(axis=0) - target) / target
    done = np.zeros(len(off), np.bool_)
    left = budget
    for neuron in np.argsort(-off, kind="stable"):
        if off[neuron] > tolerance and asked[neuron] <= left:
            done[neuron] = True
            left -= int(asked[neuron])
    return Normalisation(np.where(done, counts, 0).astype(np.int16), asked, off, done)
