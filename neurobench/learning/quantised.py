"""From a wished change of weight to whole pulses: nearest, stochastic or on levels, with what is left kept or dropped.

A rule wants dw[rows, cols]; a device moves by about one step per pulse. `quantise` gives signed counts[rows, cols] that
a PulseBatch takes (> 0 potentiates). dw and steps share one unit (siemens, or weights). Devices whose two directions
have different steps are counted with each direction's own. Nothing is read here; the residual, where one is
carried, stays on the host: one number per synapse, which a crossbar without a host beside it would not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isfinite, log2
from typing import Literal, NamedTuple, get_args

import numpy as np

from neurobench.bench.steps import DeviceSpan
from neurobench.bench.stimulus import FloatArray, IntArray, require
from neurobench.errors import UsageError

Rounding = Literal["nearest", "stochastic"]
MOST_PULSES = 32767  # per cell and batch, see PulseBatch


@dataclass(frozen=True)
class Quantiser:
    """How changes become pulses.

    `step_up` and `step_down`: mean change by one potentiating and one depressing pulse, as magnitudes; `step_down` 0 is
    a device that cannot depress: wishes to fall are dropped. `rounding`: "nearest" rounds half away from zero, so a
    change below half a step does nothing; "stochastic" rounds up with a probability equal to the remainder, so that
    the mean is exact (Gupta et al. 2015, ICML, for numbers, from memory; here for pulses). `cap`: pulses per cell at
    most. `carry`: what rounding and cap leave over is added to the next wish (error feedback).
    """

    step_up: float
    step_down: float
    rounding: Rounding = "stochastic"
    cap: int = MOST_PULSES
    carry: bool = False

    def __post_init__(self) -> None:
        require(0 < self.step_up < float("inf"), f"step_up = {self.step_up}: a potentiating pulse moves the device")
        require(0 <= self.step_down < float("inf"), f"step_down = {self.step_down}: a magnitude, 0 for none")
        words = ", ".join(get_args(Rounding))
        require(self.rounding in get_args(Rounding), f"rounding = {self.rounding!r}: it is one of {words}")
        require(1 <= self.cap <= MOST_PULSES, f"cap = {self.cap}: 1 to {MOST_PULSES} pulses per cell")

    @classmethod
    def of(
        cls, device: DeviceSpan, rounding: Rounding = "stochastic", cap: int = MOST_PULSES, carry: bool = False
    ) -> Quantiser:
        """For a device as it is declared, in siemens. UsageError where the step is not known."""
        up = device.g_step_s
        if not (isfinite(up) and up > 0):
            raise UsageError(
                "the step of this device is not known (g_step_s): choose a card that declares it, or measure the "
                "device (measure-curve) and make a card of it"
            )
        down = falling_step_s(device) if device.depresses else 0.0
        return cls(up, down, rounding, cap, carry)


class Quantised(NamedTuple):
    """Signed pulses counts[rows, cols] (int16), and what they leave of the wish [rows, cols] (0 without carry)."""

    counts: IntArray
    residual: FloatArray


def quantise(
    dw: FloatArray, q: Quantiser, rng: np.random.Generator | None = None, residual: FloatArray | None = None
) -> Quantised:
    """Pulses for a change dw[rows, cols]; `residual` is what the call before left (with `carry`).

    `rng` is needed for stochastic rounding, and draws once per cell, whatever dw is. UsageError for a dw that is not
    finite.
    """
    wish = np.asarray(dw, dtype=np.float64) if residual is None else dw + residual
    require(bool(np.isfinite(wish).all()), "dw holds a value that is not finite")
    steps = _in_steps(wish, q)
    if q.rounding == "nearest":
        whole = np.trunc(steps + np.copysign(0.5, steps))
    elif rng is None:
        raise UsageError("stochastic rounding needs a generator of random numbers (rng)")
    else:
        whole = np.floor(steps + rng.random(steps.shape))
    counts = np.clip(whole, -q.cap, q.cap).astype(np.int16)
    return Quantised(counts, _left(wish, counts, q))


def change(counts: IntArray, q: Quantiser) -> FloatArray:
    """The change that these pulses make in the mean, in the unit of the steps."""
    moved: FloatArray = np.where(counts > 0, counts * q.step_up, counts * q.step_down)
    return moved


def _in_steps(wish: FloatArray, q: Quantiser) -> FloatArray:
    up, down = np.maximum(wish, 0.0) / q.step_up, np.minimum(wish, 0.0)
    steps: FloatArray = up + (down / q.step_down if q.step_down else 0.0)
    return steps


def _left(wish: FloatArray, counts: IntArray, q: Quantiser) -> FloatArray:
    if not q.carry:
        return np.zeros_like(wish)
    left = wish - change(counts, q)
    # what a device cannot do is not owed to it for ever
    return left if q.step_down else np.maximum(left, 0.0)


def falling_step_s(device: DeviceSpan) -> float:
    """Mean size of a depressing step in mid-range, in siemens, out of the declared curve; without one as potentiating.

    Mid-range: steps that begin or end in the middle half of what the curve covers.
    """
    curve = np.asarray(device.depression_s, dtype=np.float64)
    falls = -np.diff(curve)
    if not len(falls) or not (falls > 0).any():
        return device.g_step_s
    quarter, centre = np.ptp(curve) / 4, (curve.max() + curve.min()) / 2
    near = np.abs(curve - centre) <= quarter
    middle = near[1:] | near[:-1]
    step_s = float(falls[middle].mean()) if middle.any() else float(falls.max())
    return step_s if step_s > 0 else device.g_step_s


# --------------------------------------------------------------------------------------------------------------- levels


@dataclass(frozen=True)
class Levels:
    """2^bits evenly spaced levels from `low` to `high`, both included."""

    low: float
    high: float
    bits: int

    def __post_init__(self) -> None:
        require(self.low < self.high, f"low = {self.low} must lie below high = {self.high}")
        require(1 <= self.bits <= 16, f"bits = {self.bits}: 1 to 16")

    @property
    def distance(self) -> float:
        """From one level to the next."""
        return (self.high - self.low) / ((1 << self.bits) - 1)

    def nearest(self, weights: FloatArray) -> FloatArray:
        """The level that is nearest to each weight; beyond the ends it is the end."""
        at = np.clip(np.rint((weights - self.low) / self.distance), 0, (1 << self.bits) - 1)
        snapped: FloatArray = self.low + at * self.distance
        return snapped


def to_level(
    weights: FloatArray, dw: FloatArray, levels: Levels, q: Quantiser, rng: np.random.Generator | None = None
) -> Quantised:
    """Pulses that bring weights[rows, cols], as read, by dw to the nearest level; where dw is 0 nothing is pulsed.

    A dw below half the distance of two levels is lost, unless the weight stands off its level already.
    """
    return quantise(np.where(dw == 0, 0.0, levels.nearest(weights + dw) - weights), q, rng)


def bits(range_: float, sigma: float) -> float:
    """How many bits a device holds: log2(range / 2 sigma), sigma the standard deviation of one write and read.

    Levels two sigma apart, so that a level is taken for its neighbour in about 32 % of reads (beyond 1 sigma): a
    figure of merit, not a promise. The unit cancels. `whole_bits` rounds down for `Levels`.
    """
    require(range_ > 0 and sigma > 0, f"range {range_} and sigma {sigma} must be positive")
    held: float = log2(range_ / (2 * sigma))
    return held


def whole_bits(range_: float, sigma: float) -> int:
    """As `bits`, in whole bits and at least 1."""
    return max(1, floor(bits(range_, sigma)))
