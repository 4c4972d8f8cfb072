"""What "it has learned" means with a noisy instrument (bench rule 17), and how sure a rate is.

Decision record: docs/decisions/0030-convergence.md.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from neurobench.bench.stimulus import FloatArray


class Noise(NamedTuple):
    """Standard deviations of a differential current in amperes: of one read, and of the zero kept on the host.

    A repeated read averages the first away, never the second: it is the same error in every read.
    """

    read_a: float
    zero_a: float = 0.0

    @property
    def sigma_a(self) -> float:
        """Both together: the sigma_I of the criterion."""
        return sqrt(self.read_a**2 + self.zero_a**2)


class Criterion(NamedTuple):
    """Every pattern's margin s I must reach `required_a` amperes, on `reads` independent reads.

    `required_a` is the larger of `sigmas` sigma_I and half of the current that training aims at; the latter keeps
    the statement meaningful where an ideal readout has no noise at all.
    """

    required_a: float
    reads: int


def criterion(noise: Noise, sigmas: float, goal_a: float, reads: int) -> Criterion:
    """The criterion for this noise; `goal_a` is the current at which the activation reaches its goal."""
    return Criterion(max(sigmas * noise.sigma_a, goal_a / 2), reads)


def margin_a(currents_a: FloatArray, targets: FloatArray) -> float:
    """Smallest margin s I in repeats [reads, n, neurons] of the differential currents, in amperes."""
    return float((currents_a * targets).min())


def spread_a(currents_a: FloatArray) -> float:
    """Standard deviation of one current between repeats [reads, n, neurons], in amperes; nan for a single read."""
    if len(currents_a) < 2:
        return float("nan")
    return float(np.sqrt(currents_a.var(axis=0, ddof=1).mean()))


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a rate (Wilson 1927, J. Am. Stat. Assoc. 22, 209); z = 1.96 for 95 %."""
    if trials < 1:
        return 0.0, 1.0
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    half = z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
