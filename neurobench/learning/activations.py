"""Output neurons of a perceptron: tanh of a differential current, its error and its gradient. Pure functions.

Equations 1, 3 and 4 of the Manhattan rule as published with the seed (cateru/Memristor_Crossbar_Training_Class) and
before it by Prezioso et al., Nature 521, 61 (2015).
"""

from __future__ import annotations

from math import atanh, cosh, tanh
from typing import Any, NamedTuple

import numpy as np

from neurobench.bench.stimulus import FloatArray
from neurobench.compiling import compiled


class Judged(NamedTuple):
    """What the currents [n, neurons] say against the targets.

    activations f = tanh(beta I) and deltas (f_goal - f) df/dI are [n, neurons]; `error` sums what is missing to the
    goals; `satisfied`: every activation has reached its goal; `margin_a`: the smallest s I, s the sign of the target.
    """

    activations: FloatArray
    deltas: FloatArray
    error: float
    satisfied: bool
    margin_a: float


def judge(currents_a: FloatArray, targets: FloatArray, beta_per_a: float, goal: float) -> Judged:
    """Judge differential currents [n, neurons] in amperes; `goal`: the activation asked for (f >= 0.8 or <= -0.8).

    A pattern beyond its goal still has a delta, towards the goal: over-satisfied patterns pull back, as published.
    """
    activations, deltas = np.empty_like(currents_a), np.empty_like(currents_a)
    error, satisfied, margin_a = _judge(currents_a, targets, beta_per_a, goal, activations, deltas)
    return Judged(activations, deltas, error, satisfied, margin_a)


@compiled
def _judge(
    currents: Any, targets: Any, beta: float, goal: float, f: Any, delta: Any
) -> tuple[float, bool, float]:  # pragma: no cover - compiled
    error, satisfied, margin = 0.0, True, np.inf
    for n in range(currents.shape[0]):
        for k in range(currents.shape[1]):
            s, current = targets[n, k], currents[n, k]
            f[n, k] = tanh(beta * current)
            delta[n, k] = (s * goal - f[n, k]) * beta / cosh(beta * current) ** 2
            missing = goal - s * f[n, k]
            if missing > 0:
                error += missing
                satisfied = False
            margin = min(margin, s * current)
    return error, satisfied, margin


def goal_current_a(beta_per_a: float, goal: float) -> float:
    """Current at which the activation reaches its goal: atanh(goal) / beta, in amperes."""
    return atanh(goal) / beta_per_a


def accuracy(currents_a: FloatArray, targets: FloatArray, decision: str, threshold_a: float = 0.0) -> float:
    """Fraction of samples named rightly, nan for none.

    "argmax": the neuron with the largest current. "bits": a neuron says 1 from `threshold_a` on, and all bits
    must be right (the seed's test set has samples whose answer is 'none': their current is about zero).
    """
    if not len(currents_a):
        return float("nan")
    if decision == "argmax":
        return float((currents_a.argmax(axis=1) == targets.argmax(axis=1)).mean())
    right: int = _right_bits(currents_a, targets, threshold_a)
    return right / len(currents_a)


@compiled
def _right_bits(currents: Any, targets: Any, threshold: float) -> int:  # pragma: no cover - compiled
    """Number of samples all of whose bits are right; one pass, because it is asked for in every epoch."""
    samples = 0
    for n in range(currents.shape[0]):
        right = True
        for k in range(currents.shape[1]):
            right &= (currents[n, k] >= threshold) == (targets[n, k] > 0)
        samples += right
    return samples
