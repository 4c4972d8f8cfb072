"""Volts over time as samples of an instrument: its clock, its memory, its converter. No instrument is spoken to here.

Breakpoints stand exactly on the sample clock wherever one clock of the instrument can hold them all; where none can, a
jump moves by half a sample at most. Ramps become stairs, each step with the volts of its middle, so that the time under
the curve stays. The samples last no longer than the original, and no sample exceeds its extremes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, gcd, inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurobench.errors import CapabilityMissing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from neurobench.bench.stimulus import FloatArray

    from ._roles import Line, Waves

PS = 10**12
STAIRS = 64
"""Steps of the steepest ramp over the largest volts. Under a law that rises by e in 1/7 V, a step of 1/64 V does 5e-4
less than the ramp."""

EDGE_SAMPLES = 100
"""Samples of the shortest stretch where no clock holds all breakpoints: jumps move by half a per cent of it at most."""

LEAST_SAMPLES = 10
"""Samples between two jumps of one line at least: half a sample at either end is a twentieth of what was asked for."""

LOST = 1 / 16
"""So much of its largest volts a line may lose to stairs that are too coarse, for want of memory or speed."""

ROUNDED = 1e-6  # of a code: what floats make of 1 V / (1 V / 32767)


class SampleClock(NamedTuple):
    """Which samples an instrument plays: their shortest time in picoseconds, and how few and how many."""

    least_ps: int
    least: int
    most: int


class Samples(NamedTuple):
    """Samples of every line (None: it stays at 0 V), all on one clock; the first and the last are 0 V."""

    period_ps: int
    lines: tuple[FloatArray | None, ...]

    @property
    def duration_s(self) -> float:
        """How long they take to play."""
        return max((len(one) for one in self.lines if one is not None), default=0) * self.period_ps / PS


def sampled(waves: Waves, clock: SampleClock, name: str) -> Samples:
    """Samples of all lines. CapabilityMissing says what is too short or too long for the instrument called `name`."""
    played = [line for line in waves.lines if line]
    end_ps = max(line[-1][0] for line in _in_ps(played))
    room = SampleClock(clock.least_ps, clock.least, clock.most - 2)  # it begins and ends with a sample of 0 V
    period_ps = _period_ps(played, end_ps, room)
    if period_ps is None:
        shortest_s = _shortest_ps(played) / PS
        raise CapabilityMissing(
            f"a stretch of {shortest_s:g} s in waveforms of {end_ps / PS:g} s: {name} plays {clock.most} samples of "
            f"{clock.least_ps / PS:g} s or longer (make the waveforms shorter, or their steepest part slower)"
        )
    n = max(end_ps // period_ps, 1)
    at_s: FloatArray = (np.arange(n, dtype=np.float64) + 0.5) * (period_ps / PS)
    after = max(1, clock.least - n - 1)
    found = Samples(period_ps, tuple(np.pad(_volts(line, at_s), (1, after)) if line else None for line in waves.lines))
    for line, volts in zip(waves.lines, found.lines, strict=True):
        if volts is not None:
            refuse_blunt([v for _, v in line], volts, period_ps / PS, name)
    return found


def refuse_blunt(asked_v: Sequence[float], volts: FloatArray, sample_s: float, name: str) -> None:
    """A peak between two samples would not come out, and the record would say that it did."""
    extremes = (max(asked_v), float(volts.max(initial=0.0))), (min(asked_v), float(volts.min(initial=0.0)))
    for most_v, out_v in extremes:
        if abs(most_v - out_v) > LOST * max(map(abs, asked_v)):
            raise CapabilityMissing(
                f"a peak of {most_v:g} V: {name} would play {out_v:g} V of it, its samples last {sample_s:g} s here "
                "(make the waveforms shorter, or the peak wider)"
            )


def _in_ps(lines: Iterable[Line]) -> list[list[tuple[int, float]]]:
    return [[(round(t_s * PS), v) for t_s, v in line] for line in lines]


def _volts(line: Line, at_s: FloatArray) -> FloatArray:
    t_s, v = np.array(line).T
    found: FloatArray = np.interp(at_s, t_s, v, left=0.0, right=0.0)
    return found


def _shortest_ps(lines: Iterable[Line]) -> int:
    """The shortest time between two breakpoints of one line."""
    steps = [b - a for line in _in_ps(lines) for (a, _), (b, _) in pairwise(line)]
    return min((ps for ps in steps if ps), default=0)


def _period_ps(lines: list[Line], end_ps: int, clock: SampleClock) -> int | None:
    """Time of one sample; None if the shortest stretch would be lost."""
    stairs_ps = _stairs_ps(lines)
    for wanted in (_breakpoints_ps(lines), _jumps_ps(lines)):
        grid_ps = gcd(*wanted)
        most = min(grid_ps // clock.least_ps, clock.most * grid_ps // end_ps) if grid_ps else 0
        if most:
            few = ceil(clock.least * grid_ps / end_ps)  # samples that only fill up the memory take time
            return grid_ps // _parts(grid_ps, max(ceil(grid_ps / stairs_ps), few), most)
    shortest_ps = _shortest_ps(lines)
    finest_ps = max(ceil(end_ps / clock.most), clock.least_ps)
    period_ps = max(finest_ps, int(min(stairs_ps, shortest_ps / EDGE_SAMPLES)))
    apart_ps = min((b - a for line in lines for a, b in pairwise(_jumps_ps([line])) if b > a), default=end_ps)
    return period_ps if period_ps <= min(shortest_ps, apart_ps / LEAST_SAMPLES) else None


def _parts(grid_ps: int, wanted: int, most: int) -> int:
    """Into how many samples one stretch of the grid is cut: at least `wanted` where possible, at most `most`."""
    whole = [k for k in range(1, most + 1) if not grid_ps % k]
    return min((k for k in whole if k >= wanted), default=max(whole))


def _breakpoints_ps(lines: Iterable[Line]) -> list[int]:
    return [t_ps for line in _in_ps(lines) for t_ps, _ in line]


def _jumps_ps(lines: Iterable[Line]) -> list[int]:
    return [b for line in _in_ps(lines) for (a, _), (b, _) in pairwise(line) if a == b]


def _stairs_ps(lines: Iterable[Line]) -> float:
    """How long a step of the steepest ramp may last."""
    most_v = max(abs(v) for line in lines for _, v in line)
    slopes = [abs(w - v) / (b - a) for line in _in_ps(lines) for (a, v), (b, w) in pairwise(line) if b > a]
    steepest = max(slopes, default=0.0)
    return most_v / STAIRS / steepest if steepest else inf


# ---------------------------------------------------------------------------------------------- volts as codes


@dataclass(frozen=True, slots=True)
class Coded:
    """Samples of one line as codes of a converter that reach both of its ends, and the volts of these ends."""

    codes: NDArray[np.int32]
    high_v: float
    low_v: float
    idle: int  # the code of 0 V

    def idle_v(self, high_v: float, low_v: float, full: int) -> float:
        """Where the output rests with these levels instead."""
        return low_v + (self.idle + full) / (2 * full) * (high_v - low_v)


def coded(volts: FloatArray, full: int) -> Coded:
    """Codes of -full .. full, both ends used, so that HIGH and LOW are the extremes of what is played.

    0 V is exactly a code; for that the smaller extreme gives way by less than a code. Each sample is the code nearest
    to it on the side of 0 V.
    """
    high_v, low_v = max(float(volts.max()), 0.0), min(float(volts.min()), 0.0)
    if high_v == low_v:
        return Coded(np.zeros(len(volts), np.int32), 0.0, 0.0, 0)
    below = round(-low_v / (high_v - low_v) * 2 * full)
    if high_v and low_v:
        below = min(max(below, 1), 2 * full - 1)
    above = 2 * full - below
    step_v = min(high_v / above if above else inf, -low_v / below if below else inf)
    whole = np.trunc(volts / step_v + np.copysign(ROUNDED, volts)).astype(np.int32)
    codes = np.clip(whole, -below, above) + (below - full)
    high_v, low_v = _exact(step_v, above, high_v), 0.0 - _exact(step_v, below, -low_v)
    return Coded(codes.astype(np.int32), high_v, low_v, below - full)


def _exact(step_v: float, steps: int, extreme_v: float) -> float:
    """`steps` steps; the extreme itself where it decided the step."""
    return extreme_v if steps and step_v == extreme_v / steps else step_v * steps
