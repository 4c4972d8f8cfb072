"""The recurrent job that Brian2, NEST and our loop all do: LIF neurons with a constant drive, 10 % of all pairs wired.

Numbers only, no package of ours: the oracles run in environments of their own. Membranes in units of the threshold; a
weight is a state of an ideal cell in [0, 1], and one spike at weight 1 adds `gain` to a membrane.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

TICK_S, TAU_S, REFRACTORY_S, DELAY_S = 1e-4, 20e-3, 2e-3, 1e-3
CONNECTED = 0.1
UP, DOWN = 0.005, 0.00525  # weight change per pair at no delay (Song, Miller, Abbott 2000: depression 1.05 times)


class Job(NamedTuple):
    """What differs between neurons: drive, first membrane; origin, target and weight [synapses] at the start."""

    gain: float
    bias: np.ndarray
    membrane: np.ndarray
    origin: np.ndarray
    target: np.ndarray
    weights: np.ndarray


def job(neurons: int, seed: int = 1) -> Job:
    """The job of a size; synapses in the order of rows and columns."""
    rng = np.random.default_rng(seed)
    used = rng.random((neurons, neurons)) < CONNECTED
    np.fill_diagonal(used, False)
    origin, target = np.nonzero(used)
    drive, membrane = rng.uniform(1.0, 1.15, neurons), rng.uniform(0.0, 1.0, neurons)
    gain = 2.0 / (neurons * CONNECTED)  # all inputs of a neuron together, at weight 1, bring it twice to its threshold
    return Job(gain, drive, membrane, origin, target, rng.uniform(0.0, 0.1, len(origin)))


def told(tick: np.ndarray, neuron: np.ndarray, weights: np.ndarray, ticks: int, neurons: int) -> dict[str, object]:
    """What is compared: counts, sums that a single spike at another place changes, and weights [synapses]."""
    order = np.lexsort((neuron, tick))
    place = np.arange(1, len(order) + 1)
    return {
        "ticks": ticks, "neurons": neurons, "spikes": len(order),
        "tick_sum": int(tick.sum()), "placed_sum": int((place * neuron[order]).sum()),
        "w_mean": float(weights.mean()), "w_squares": float((weights**2).mean()),
    }  # fmt: skip
