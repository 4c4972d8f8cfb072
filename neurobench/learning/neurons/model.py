"""What every neuron model is: parameters that give a state and take it one tick on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import ceil, inf
from typing import Any

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray, IndexArray, require


class Neuron(ABC):
    """A model with its parameters; `start` and `step` of this module call these two."""

    @abstractmethod
    def start(self, n: int) -> Any:
        """State of n neurons at rest."""

    @abstractmethod
    def step(self, state: Any, current: FloatArray, dt_s: float) -> tuple[Any, BoolArray]:
        """One tick of dt_s seconds: the next state, and which neurons spiked."""


def start(n: int, parameters: Neuron) -> Any:
    """State of n neurons at rest: a NamedTuple of arrays [n]."""
    require(n >= 1, f"n = {n}: a population has at least one neuron")
    return parameters.start(n)


def step(state: Any, current: Any, parameters: Neuron, dt_s: float) -> tuple[Any, BoolArray]:
    """One tick of dt_s seconds: the next state, and spikes[n]. `current`[n], or one for all, is what the model says."""
    require(0 < dt_s < inf, f"dt_s = {dt_s}: a tick lasts longer than 0 s")
    return parameters.step(state, np.asarray(current, np.float64), dt_s)


def drive(parameters: Neuron, currents: Any, dt_s: float) -> BoolArray:
    """Spikes[ticks, n] of neurons that start at rest and get currents[ticks, n]."""
    currents = np.asarray(currents, np.float64)
    state, raster = start(currents.shape[1], parameters), np.zeros(currents.shape, np.bool_)
    for tick, current in enumerate(currents):
        state, raster[tick] = step(state, current, parameters, dt_s)
    return raster


def refractory_ticks(refractory_s: float, dt_s: float) -> int:
    """A refractory time in whole ticks, rounded up; rounding of the quotient itself is forgiven."""
    return ceil(refractory_s / dt_s * (1 - 1e-12))


def check_positive(parameters: Any, *names: str) -> None:
    """Raise UsageError unless these parameters are positive and finite and the refractory time is not negative."""
    for name in names:
        value = getattr(parameters, name)
        require(0 < value < inf, f"{type(parameters).__name__}: {name} = {value} must be positive")
    require(0 <= parameters.refractory_s < inf, f"refractory_s = {parameters.refractory_s} s must not be negative")


def rested(left: IndexArray, spikes: BoolArray, refractory_s: float, dt_s: float) -> IndexArray:
    """Refractory ticks that are left after a tick with these spikes."""
    after: IndexArray = np.where(spikes, refractory_ticks(refractory_s, dt_s), np.maximum(left - 1, 0)).astype(np.int32)
    return after
