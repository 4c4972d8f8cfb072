"""Pulse schemes: how a spike of an input (pre) and a spike of a neuron (post) become volts on the lines of a crossbar.

Pre spikes stand on rows, post spikes on columns, dt = t_post - t_pre. The papers write the voltage that a device sees
as v = v_post(t) - v_pre(t), positive where it raises the conductance; here V_cell = V_row - V_col, so that a row plays
-s v_pre and a column -s v_post, with s the chip's `potentiating_sign`: dG > 0 for t_post > t_pre on every chip (bench
rule 7). Lines without a spike are grounded, so every other cell on a spiking line sees the lone spike: its peak has to
lie below the lowest threshold of the chip (bench rule 20), which `PulseScheme.admit` demands where one is declared.

Overlapping schemes (exponential, triangular, rectangular, biphasic, file, staircase) yield `Waveforms` and need devices
that integrate what they see, or rectangles that a measured device knows. Schemes timed by the host (time-division,
counted) yield pulse batches: there a lone spike sends nothing, and half-selected cells see V/2 or V/3.

Sources: published-results are cited at each scheme; "from memory" marks what no text at hand confirmed.
"""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from neurobench.bench.steps import BenchView
from neurobench.bench.stimulus import (
    FloatArray,
    Pulse,
    PulseBatch,
    Shape,
    Stimulus,
    Waveforms,
    levels,
    require,
)
from neurobench.errors import CapabilityMissing, ConfigError, CurveError, Refused, UsageError, unknown
from neurobench.learning.bias import choose_bias

Side = Literal["pre", "post"]

BEND = 1e-5  # how far the straight pieces of a curved shape lie from it, as a share of its amplitude
THRESHOLD_SIGMAS = 3.0  # the lowest threshold of a chip: mean - 3 standard deviations (bench rule 20)
ROUNDING = 1 + 1e-9
# Where a window is looked at, as shares of the scheme's reach: 2 to 80 ms of the published shapes.
SHARES = (0.025, 0.0625, 0.125, 0.25, 0.5, 0.75, 1.0)
MOST_POINTS = 65_536  # of a shape from a file: more than any generator's memory holds
MOST_FILE_BYTES = 16 * 2**20
MOST_VOLTS = 1e3  # a shape file in millivolts is found out
MOST_COUNT = 1000


@dataclass(frozen=True, slots=True)
class SpikePairs:
    """Which lines spike when: pre_s[rows] and post_s[cols] in seconds, nan where a line is silent.

    Every row that spikes meets every column that spikes: the cell (i, j) sees dt = post_s[j] - pre_s[i]. A line
    spikes once; its next spike belongs to the next SpikePairs.
    """

    pre_s: FloatArray
    post_s: FloatArray

    def __post_init__(self) -> None:
        for name in ("pre_s", "post_s"):
            times = np.array(getattr(self, name), np.float64)
            require(times.ndim == 1 and times.size > 0, f"{name} needs one time (or nan) for each line")
            require(not np.isinf(times).any(), f"{name} holds an infinite time; nan is a line without a spike")
            times.setflags(write=False)
            object.__setattr__(self, name, times)

    @classmethod
    def one(cls, shape: tuple[int, int], cell: tuple[int, int], dt_s: float) -> Self:
        """One pre spike at time 0 on the row of `cell`, one post spike at `dt_s` on its column."""
        pre_s, post_s = np.full(shape[0], np.nan), np.full(shape[1], np.nan)
        pre_s[cell[0]], post_s[cell[1]] = 0.0, dt_s
        return cls(pre_s, post_s)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the array."""
        return len(self.pre_s), len(self.post_s)

    def dt_s(self) -> FloatArray:
        """t_post - t_pre [rows, cols] in seconds; nan where one of the two lines is silent."""
        dt: FloatArray = self.post_s[None, :] - self.pre_s[:, None]
        return dt


class Spike(NamedTuple):
    """One spike on one line: volts (in the papers' sense, v = v_post - v_pre) over time; t_s = 0 is the spike."""

    t_s: FloatArray
    v: FloatArray


class Phase(NamedTuple):
    """Spikes that play together: what a pre spike puts on its row and a post spike on its column."""

    pre: Spike
    post: Spike


class Peaks(NamedTuple):
    """Largest volts towards potentiation and towards depression, as magnitudes."""

    up_v: float
    down_v: float


class PulseScheme(BaseModel, ABC):
    """What a pre and a post spike do to the lines. Subclasses differ in their shapes, or in who keeps the time."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str
    plays_waveforms: ClassVar[bool] = True

    @abstractmethod
    def stimuli(self, pairs: SpikePairs, view: BenchView) -> tuple[Stimulus, ...]:
        """What to apply, in order, for these spikes. Raises CapabilityMissing or UsageError where it cannot be."""

    @abstractmethod
    def lone(self, side: Side, lines: Sequence[int], view: BenchView) -> tuple[Stimulus, ...]:
        """A lone spike on each of these rows (`pre`) or columns (`post`), for controls; () where it sends nothing."""

    @abstractmethod
    def lone_peaks(self) -> Peaks:
        """Largest volts that a cell sees of a lone spike, pre or post."""

    @property
    @abstractmethod
    def reach_s(self) -> float:
        """Largest |dt| at which a pair can move a device, in seconds."""

    @property
    def times_s(self) -> tuple[float, ...]:
        """Where a window of this scheme is worth looking at: |dt| rising, in seconds."""
        return tuple(share * self.reach_s for share in SHARES)

    @property
    def peak_v(self) -> float:
        """Largest |V| on one line, which is what a lone spike puts on a cell; 0 where a lone spike sends nothing."""
        return max(self.lone_peaks())

    @property
    def distinct_shapes(self) -> int:
        """How many waveforms play at once for one pair, which is what `Needs` asks for; 0: the scheme is pulses only.

        One shape on two lines at two times is two waveforms: each takes a channel of a generator.
        """
        return 2 if self.plays_waveforms else 0

    @abstractmethod
    def admit(self, view: BenchView) -> None:
        """Raise Refused or UsageError, before the first volt, if the scheme cannot work on this chip and bench."""


def lowest_thresholds(view: BenchView) -> Peaks:
    """Thresholds of the most sensitive device, mean - 3 sigma, in volts; nan where nothing is declared."""
    device = view.device
    lowest = max(1 - THRESHOLD_SIGMAS * device.threshold_sigma, 0.0)
    return Peaks(device.threshold_v * lowest, device.threshold_depress_v * lowest)


# ---------------------------------------------------------------------------------------------- overlapping spikes


class Overlapping(PulseScheme):
    """Base of schemes whose spikes overlap on the device: the window comes out of the device's own law."""

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The spikes, phase by phase; phases are played one after the other, each complete."""

    def stimuli(self, pairs: SpikePairs, view: BenchView) -> tuple[Stimulus, ...]:
        """Waveforms of all spikes, split where the bench cannot play so many at once.

        A split plays every pair of a row and a column once; other cells then see lone spikes more often.
        """
        require(pairs.shape == view.shape, f"spikes for {pairs.shape} lines, the bench has {view.shape}")
        sign = -view.capabilities.potentiating_sign
        return tuple(
            _waveforms(shapes, part)
            for shapes in _shapes(self, sign)
            for part in _playable(pairs, view.capabilities.distinct_shapes)
        )

    def lone(self, side: Side, lines: Sequence[int], view: BenchView) -> tuple[Stimulus, ...]:
        """Spikes at one time on these lines, the other side silent."""
        pre_s, post_s = np.full(view.shape[0], np.nan), np.full(view.shape[1], np.nan)
        (pre_s if side == "pre" else post_s)[list(lines)] = 0.0
        return self.stimuli(SpikePairs(pre_s, post_s), view)

    def lone_peaks(self) -> Peaks:
        """Extremes of both spikes; a pre spike counts with its sign turned."""
        spikes = [(phase.post.v, -phase.pre.v) for phase in self.phases()]
        values = [v for pair in spikes for v in pair]
        return Peaks(max(float(v.max()) for v in values), max(float(-v.min()) for v in values))

    def pair_peaks(self) -> Peaks:
        """What an overlapping pair can reach at most: both spikes at their extremes at once."""
        up = max(float(phase.post.v.max() - phase.pre.v.min()) for phase in self.phases())
        down = max(float(phase.pre.v.max() - phase.post.v.min()) for phase in self.phases())
        return Peaks(up, down)

    @property
    def reach_s(self) -> float:
        """Largest |dt| at which the two spikes still overlap."""
        ends = [(p.pre.t_s[0], p.pre.t_s[-1], p.post.t_s[0], p.post.t_s[-1]) for p in self.phases()]
        return float(max(max(pre1 - post0, post1 - pre0) for pre0, pre1, post0, post1 in ends))

    def _admit_forms(self, view: BenchView) -> None:
        """Devices that replay known pulses answer constant voltages only."""
        if view.device.integrates is False and not all(_level(spike) for phase in self.phases() for spike in phase):
            raise CapabilityMissing(
                f"scheme {self.kind}: its voltages rise and fall gradually, and the devices of this chip "
                f"({view.device.origin}) replay known pulses and answer constant voltages only (bench rule 14): use "
                "scheme=counted (where they depress), or scheme=rectangular with every stretch a pulse inside their "
                "hull, or the chip of a rate model (--bench-set chip.model=threshold-exponential)"
            )

    def admit(self, view: BenchView) -> None:
        """Lone spikes stay below the lowest threshold, a pair passes the mean one, bench and devices take waveforms."""
        if view.capabilities.distinct_shapes < self.distinct_shapes:
            raise CapabilityMissing(
                f"scheme {self.kind} plays {self.distinct_shapes} waveforms at once, one on a row and one on a column; "
                f"this bench plays {view.capabilities.distinct_shapes} (scheme=counted needs pulses only)"
            )
        self._admit_forms(view)
        lowest, mean = lowest_thresholds(view), (view.device.threshold_v, view.device.threshold_depress_v)
        for way, lone_v, low_v in zip(("potentiate", "depress"), self.lone_peaks(), lowest, strict=True):
            if lone_v > low_v * ROUNDING:  # not so where nothing is declared: nan
                raise Refused(_too_high(self, way, lone_v, low_v, view))
        for way, pair_v, mean_v in zip(("potentiate", "depress"), self.pair_peaks(), mean, strict=True):
            if pair_v <= mean_v:
                raise Refused(
                    f"scheme {self.kind}: overlapping spikes reach {pair_v:g} V, and devices of this chip {way} above "
                    f"{mean_v:g} V: no pair would move one; raise the amplitudes of the scheme, lone spikes staying "
                    f"below the lowest threshold ({min(lowest):g} V)"
                )


def _level(spike: Spike) -> bool:
    """Whether a spike is made of constant levels: between two of its points either no time passes or no volts do."""
    return not ((np.diff(spike.t_s) > 0) & (np.diff(spike.v) != 0)).any()


def _too_high(scheme: PulseScheme, way: str, lone_v: float, low_v: float, view: BenchView) -> str:
    return (
        f"scheme {scheme.kind}: a lone spike puts {lone_v:g} V on a cell, and the most sensitive device of this chip "
        f"begins to {way} at {low_v:g} V (threshold {view.device.threshold_v:g} V up, "
        f"{view.device.threshold_depress_v:g} V down, mean - {THRESHOLD_SIGMAS:g} sigma of "
        f"{view.device.threshold_sigma:.2%}; bench rule 20): lower the amplitudes of the scheme to {low_v:g} V at most"
    )


@lru_cache(maxsize=64)
def _shapes(scheme: Overlapping, sign: int) -> tuple[tuple[Shape, Shape, float, float], ...]:
    """Pre and post shape of each phase with the sign of the lines, and when they begin, relative to their spikes."""
    return tuple(_of_phase(phase, sign) for phase in scheme.phases())


def _of_phase(phase: Phase, sign: int) -> tuple[Shape, Shape, float, float]:
    pre, post = phase
    row = Shape(pre.t_s - pre.t_s[0], sign * pre.v)
    alike = np.array_equal(pre.t_s, post.t_s) and np.array_equal(pre.v, post.v)
    col = row if alike else Shape(post.t_s - post.t_s[0], sign * post.v)
    return row, col, float(pre.t_s[0]), float(post.t_s[0])


def _waveforms(shapes: tuple[Shape, Shape, float, float], pairs: SpikePairs) -> Waveforms:
    """The spikes on their lines; the first volt comes at time 0."""
    row, col, pre_begins_s, post_begins_s = shapes
    begins = pairs.pre_s + pre_begins_s, pairs.post_s + post_begins_s
    first_s = min(float(np.nanmin(b)) for b in begins if not np.isnan(b).all())
    row_start_s, col_start_s = (np.where(np.isnan(b), 0.0, b - first_s) for b in begins)
    rows, cols = ~np.isnan(pairs.pre_s), ~np.isnan(pairs.post_s)
    used = [row] if not cols.any() or row is col else [row, col] if rows.any() else [col]
    return Waveforms(
        tuple(used), np.where(rows, 0, -1), np.where(cols, len(used) - 1, -1), row_start_s, col_start_s
    )  # fmt: skip


def _playable(pairs: SpikePairs, most: int) -> Iterator[SpikePairs]:
    """The spikes in parts of at most `most` different (line, time) waveforms; each row meets each column once.

    Benches say how many waveforms they play, and each shifted copy of a shape takes a channel of its own.
    """
    pre, post = _times(pairs.pre_s), _times(pairs.post_s)
    both = bool(pre) and bool(post)
    if not (pre or post):
        raise UsageError("no line spikes: there is nothing to play")
    if most < 1 + both:
        raise CapabilityMissing(f"{1 + both} waveforms at once; this bench plays {most} (scheme=counted needs none)")
    if len(pre) + len(post) <= most:
        yield pairs
    elif both:
        for late in post:
            yield from (_only(pairs, part, [late]) for part in _cut(pre, most - 1))
    else:
        yield from (_only(pairs, part, part) for part in _cut(pre or post, most))


def _cut(times: list[float], most: int) -> list[list[float]]:
    return [times[k : k + most] for k in range(0, len(times), most)]


def _times(of_lines: FloatArray) -> list[float]:
    return sorted(set(of_lines[~np.isnan(of_lines)].tolist()))


def _only(pairs: SpikePairs, pre: list[float], post: list[float]) -> SpikePairs:
    return SpikePairs(
        np.where(np.isin(pairs.pre_s, pre), pairs.pre_s, np.nan),
        np.where(np.isin(pairs.post_s, post), pairs.post_s, np.nan),
    )


def line_v(waveforms: Waveforms, side: Side, line: int) -> Spike:
    """Volts over time of one row (`pre`) or column (`post`) while waveforms play, from time 0; at rest outside."""
    of_rows = side == "pre"
    index = waveforms.row_shape[line] if of_rows else waveforms.col_shape[line]
    if index < 0:
        return Spike(np.array([0.0, waveforms.duration_s]), np.zeros(2))
    shape, start_s = waveforms.shapes[index], (waveforms.row_start_s if of_rows else waveforms.col_start_s)[line]
    return Spike(shape.t_s + start_s, shape.v)


def cell_v(waveforms: Waveforms, row: int, col: int) -> Spike:
    """V_row - V_col of one cell over time while waveforms play: straight between the points, two at a jump."""
    lines = line_v(waveforms, "pre", row), line_v(waveforms, "post", col)
    at_s = np.unique(np.concatenate([one.t_s for one in lines]))
    before, after = (_side_of(lines[0], at_s, side) - _side_of(lines[1], at_s, side) for side in ("left", "right"))
    jumps = 1 + (before != after)
    volts = np.repeat(after, jumps)
    volts[np.cumsum(jumps) - jumps] = before
    return Spike(np.repeat(at_s, jumps), volts)


def _side_of(spike: Spike, at_s: FloatArray, side: Literal["left", "right"]) -> FloatArray:
    """Volts just before (left) or just after (right) the times; np.interp cannot tell the sides of a jump."""
    t_s, v = spike
    k = np.searchsorted(t_s, at_s, "left" if side == "left" else "right")
    inside = (k > 0) & (k < len(t_s))
    k = np.clip(k, 1, len(t_s) - 1)
    length = t_s[k] - t_s[k - 1]
    share = np.divide(at_s - t_s[k - 1], length, out=np.zeros(len(at_s)), where=length > 0)
    volts: FloatArray = np.where(inside, v[k - 1] + share * (v[k] - v[k - 1]), 0.0)
    return volts


class TwoLobes(Overlapping):
    """Base of spikes with a lobe before the spike and one of the other sign after it.

    The first lobe of the later spike meets the tail of the earlier one, and together they pass the threshold. Pre and
    post are alike, which makes an odd window, unless post_tail_v gives the post spike another tail: a larger one makes
    depression outweigh potentiation.
    """

    amplitude_v: float = Field(1.0, gt=0, le=MOST_VOLTS, description="peak of the lobe before the spike (A+), in volts")
    tail_v: float = Field(0.25, gt=0, le=MOST_VOLTS, description="peak of the lobe after the spike (A-), in volts")
    post_tail_v: float | None = Field(
        None, gt=0, le=MOST_VOLTS, description="the same of the post spike, in volts; none: as tail_v"
    )
    lead_s: float = Field(5e-3, gt=0, le=3600, description="how long before the spike it begins (T+), in seconds")
    trail_s: float = Field(75e-3, gt=0, le=3600, description="how long after the spike it ends (T-), in seconds")

    @abstractmethod
    def lobes(self, tail_v: float) -> Spike:
        """A spike with this tail, made of its two lobes."""

    def phases(self) -> tuple[Phase, ...]:
        """One phase."""
        pre = self.lobes(self.tail_v)
        return (Phase(pre, pre if self.post_tail_v is None else self.lobes(self.post_tail_v)),)


class Exponential(TwoLobes):
    """Exponential tails (Linares-Barranco & Serrano-Gotarredona 2009; Serrano-Gotarredona 2013, Front. Neurosci. 7:2).

    spk(t) = A+ (e^{t/t+} - e^{-T+/t+}) / (1 - e^{-T+/t+}) for -T+ < t < 0 and -A- (e^{-t/t-} - e^{-T-/t-}) /
    (1 - e^{-T-/t-}) for 0 < t < T- (equation from memory, abstract read). A+ 1 V, A- 0.25 V, t+ 3 ms, T+ 5 ms,
    t- 40 ms, T- 75 ms give, with a threshold-exponential device of vth 1 V and v0 1/7 V, dw(5, 10, 20, 40, 60 ms) over
    dw(2 ms) = 0.78108, 0.52070, 0.23342, 0.04254, 0.00400.
    """

    kind: Literal["exponential"] = "exponential"
    lead_tau_s: float = Field(3e-3, gt=0, le=3600, description="time constant before the spike (t+), in seconds")
    trail_tau_s: float = Field(40e-3, gt=0, le=3600, description="time constant after the spike (t-), in seconds")

    def lobes(self, tail_v: float) -> Spike:
        """Straight pieces that nowhere leave the exponentials by more than BEND of their amplitudes."""
        before_s, rise = _decay(self.lead_s, self.lead_tau_s)
        after_s, fall = _decay(self.trail_s, self.trail_tau_s)
        return _joined(-before_s[::-1], self.amplitude_v * rise[::-1], after_s, -tail_v * fall)


def _decay(length_s: float, tau_s: float) -> tuple[FloatArray, FloatArray]:
    """(e^{-t/tau} - e^{-T/tau}) / (1 - e^{-T/tau}) at times from 0 to T, so dense that straight lines stay within BEND.

    A chord over h misses by f'' h^2 / 8; equal misses put the points evenly in the integral of sqrt(f'').
    """
    x, floor = length_s / tau_s, exp(-length_s / tau_s)
    span = 2 * (1 - exp(-x / 2))
    pieces = max(int(np.ceil(span / np.sqrt(8 * BEND * -np.expm1(-x)))), 1)
    even = np.linspace(0.0, span, pieces + 1)
    t_s = np.append(-2 * tau_s * np.log1p(-even[:-1] / 2), length_s)  # the last one may round to log(0)
    share: FloatArray = (np.exp(-t_s / tau_s) - floor) / -np.expm1(-x)
    share[-1] = 0.0
    return t_s, share


def _joined(before_s: FloatArray, before_v: FloatArray, after_s: FloatArray, after_v: FloatArray) -> Spike:
    """Two lobes with a jump between them, at rest outside."""
    t_s, v = np.concatenate([before_s, after_s]), np.concatenate([before_v, after_v])
    ends = [[t_s[0]] if v[0] else [], [t_s[-1]] if v[-1] else []]
    rest = [np.zeros(len(end)) for end in ends]
    return Spike(np.concatenate([ends[0], t_s, ends[1]]), np.concatenate([rest[0], v, rest[1]]))


class Triangular(TwoLobes):
    """Triangles: a ramp up to A+ before the spike, a jump to -A-, a ramp back to 0 after it.

    Prezioso et al. 2016 (Sci. Rep. 6:21331) overlap triangles and rectangles (from memory; the numbers here are not
    theirs).
    """

    kind: Literal["triangular"] = "triangular"

    def lobes(self, tail_v: float) -> Spike:
        """Four breakpoints, exact."""
        return Spike(np.array([-self.lead_s, 0.0, 0.0, self.trail_s]), np.array([0.0, self.amplitude_v, -tail_v, 0.0]))


class Rectangular(TwoLobes):
    """Bipolar rectangles: A+ before the spike, -A- after it.

    Every stretch at a cell is constant, so that a measured device may be asked for it: it answers where each stretch,
    the lone spikes included, is a pulse inside its hull.
    """

    kind: Literal["rectangular"] = "rectangular"
    tail_v: float = Field(0.15, gt=0, le=MOST_VOLTS, description="height after the spike (A-), in volts")
    lead_s: float = Field(1e-3, gt=0, le=3600, description="how long before the spike it begins (T+), in seconds")
    trail_s: float = Field(40e-3, gt=0, le=3600, description="how long after the spike it ends (T-), in seconds")

    def lobes(self, tail_v: float) -> Spike:
        """Six breakpoints, exact."""
        t_s = [-self.lead_s, -self.lead_s, 0.0, 0.0, self.trail_s, self.trail_s]
        return Spike(np.array(t_s), np.array([0.0, self.amplitude_v, self.amplitude_v, -tail_v, -tail_v, 0.0]))


class Biphasic(TwoLobes):
    """Two half sines, as an action potential and its slow after-potential.

    A+ sin(pi (t + T+) / T+) before the spike, -A- sin(pi t / T-) after it: the largest change lies away from dt = 0.
    """

    kind: Literal["biphasic"] = "biphasic"

    def lobes(self, tail_v: float) -> Spike:
        """Straight pieces that nowhere leave the sines by more than BEND of their amplitudes."""
        x = np.linspace(0.0, 1.0, int(np.ceil(np.pi / np.sqrt(8 * BEND))) + 1)
        half = np.sin(np.pi * x)
        half[-1] = 0.0
        return _joined((x[:-1] - 1) * self.lead_s, self.amplitude_v * half[:-1], x * self.trail_s, -tail_v * half)


class File(Overlapping):
    """Shapes of one's own: CSV files with the columns t_s and v, t_s = 0 at the spike.

    v is in the papers' sense: a post spike with v > 0 potentiates; it is turned for the chip, and for rows. Without
    `post` both spikes are alike. The numbers are kept with the parameters: a run goes on as it began even if the
    files change.
    """

    kind: Literal["file"] = "file"
    pre: str = Field("", description="CSV file of the pre spike: columns t_s (0 at the spike) and v")
    post: str = Field("", description="CSV file of the post spike; none: as the pre spike")
    pre_points: tuple[tuple[float, float], ...] = Field((), description="(t_s, v) of the pre spike, read from its file")
    post_points: tuple[tuple[float, float], ...] = Field((), description="(t_s, v) of the post spike")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("pre_points"):
            return given
        if not given.get("pre"):
            raise ValueError("scheme file needs pre = a CSV file with the columns t_s and v")
        try:
            points = {f"{side}_points": read_points(Path(given[side])) for side in ("pre", "post") if given.get(side)}
        except CurveError as error:
            raise ValueError(str(error)) from error
        return given | points

    @model_validator(mode="after")
    def _is_a_spike(self) -> Self:
        for side in ("pre", "post"):
            if points := getattr(self, f"{side}_points"):
                _check_points(points, getattr(self, side) or f"{side}_points")
        return self

    def phases(self) -> tuple[Phase, ...]:
        """One phase, exactly as in the files."""
        pre = _spike(self.pre_points)
        return (Phase(pre, _spike(self.post_points) if self.post_points else pre),)


def _spike(points: tuple[tuple[float, float], ...]) -> Spike:
    table = np.array(points)
    return Spike(table[:, 0], table[:, 1])


def read_points(path: Path) -> tuple[tuple[float, float], ...]:
    """(t_s, v) of a shape file. Raises CurveError naming file, line and what is wrong."""
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise CurveError(f"{path}: more than {MOST_FILE_BYTES // 2**20} MiB; a shape is a few thousand lines")
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except OSError as error:
        raise CurveError(f"cannot read the shape file {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CurveError(f"{path} is not a CSV file: {error}") from error
    head = [cell.strip() for cell in rows[0]] if rows else []
    if set(head) != {"t_s", "v"} or len(head) != 2:
        raise CurveError(f"{path}: line 1: the columns are t_s (seconds, 0 at the spike) and v (volts), not {head}")
    order = (head.index("t_s"), head.index("v"))
    points = tuple(_point(path, n, row, order) for n, row in enumerate(rows[1:], 2) if row)
    try:
        _check_points(points, str(path))
    except ValueError as error:
        raise CurveError(str(error)) from error
    return points


def _point(path: Path, line: int, row: list[str], order: tuple[int, int]) -> tuple[float, float]:
    try:
        numbers = [float(cell) for cell in row]
    except ValueError:
        numbers = []
    if len(numbers) != 2 or not np.isfinite(numbers).all():
        raise CurveError(f"{path}: line {line}: two finite numbers belong here, not {','.join(row)[:60]!r}")
    return numbers[order[0]], numbers[order[1]]


def _check_points(points: tuple[tuple[float, float], ...], where: str) -> None:
    """Raise ValueError unless the points are a spike: ascending around 0 s, from 0 V to 0 V, of sane size."""
    if not 2 <= len(points) <= MOST_POINTS:
        raise ValueError(f"{where}: a shape has 2 to {MOST_POINTS} points, this one {len(points)}")
    t_s, v = np.array(points).T
    if (np.diff(t_s) < 0).any():
        raise ValueError(f"{where}: point {int(np.argmax(np.diff(t_s) < 0)) + 2}: t_s falls; points go on in time")
    if not t_s[0] <= 0 <= t_s[-1] or t_s[0] == t_s[-1]:
        raise ValueError(f"{where}: t_s goes from {t_s[0]:g} to {t_s[-1]:g} s; the spike itself is at t_s = 0")
    if v[0] or v[-1]:
        raise ValueError(f"{where}: it begins at {v[0]:g} V and ends at {v[-1]:g} V; lines rest at 0 V outside a shape")
    if not 0 < np.abs(v).max() <= MOST_VOLTS:
        raise ValueError(f"{where}: the largest |v| is {np.abs(v).max():g} V; it lies in (0, {MOST_VOLTS:g}] V")


class Staircase(Overlapping):
    """Staircase of pre pulses; the gate of the post spike picks the one pulse of it that lies dt away.

    Kuzum et al. 2012 (Nano Lett. 12:2179; from memory: pulses 10 ms apart, gate 8 ms) use phase-change cells, which
    are unipolar: one polarity both SETs and RESETs, by amplitude, and one gate serves both. A bipolar device
    depresses at the other polarity only, so that here each pair plays twice: first the gate at +gate_v with the half
    of the staircase that comes after the pre spike (dt > 0 potentiates), then at -gate_v with the half before it (dt
    < 0 depresses). The pulse next to the spike has the amplitude step_v; from there it falls in equal steps to step_v
    last_share.
    """

    kind: Literal["staircase"] = "staircase"
    gate_v: float = Field(0.8, gt=0, le=MOST_VOLTS, description="amplitude of the post spike's gate, in volts")
    step_v: float = Field(0.45, gt=0, le=MOST_VOLTS, description="largest pulse of the staircase, in volts")
    last_share: float = Field(0.5, gt=0, le=1, description="smallest pulse of the staircase, as a share of the largest")
    steps: int = Field(6, ge=1, le=1000, description="pulses on each side of the pre spike")
    spacing_s: float = Field(10e-3, gt=0, le=3600, description="time between two pulses of the staircase, in seconds")
    width_s: float = Field(1e-3, gt=0, le=3600, description="width of a pulse of the staircase, in seconds")
    gate_s: float = Field(8e-3, gt=0, le=3600, description="width of the gate, in seconds")

    @model_validator(mode="after")
    def _one_pulse_in_a_gate(self) -> Self:
        if not self.width_s < self.gate_s <= self.spacing_s - self.width_s:
            raise ValueError(
                f"width_s = {self.width_s:g} < gate_s = {self.gate_s:g} <= spacing_s - width_s = "
                f"{self.spacing_s - self.width_s:g} must hold, so that a gate never meets two pulses of the staircase"
            )
        return self

    @property
    def times_s(self) -> tuple[float, ...]:
        """One for each pulse of the staircase: between them a gate meets none, or a part of one."""
        return tuple(k * self.spacing_s for k in range(1, self.steps + 1))

    def phases(self) -> tuple[Phase, ...]:
        """Potentiation, then depression."""
        return tuple(Phase(self._stairs(sign), self._gate(sign)) for sign in (1, -1))

    def _stairs(self, sign: int) -> Spike:
        """Pulse k around the time sign k spacing_s; a pre pulse of -V adds V towards potentiation."""
        heights = self.step_v * np.linspace(1.0, self.last_share, self.steps)
        middles = sign * self.spacing_s * np.arange(1, self.steps + 1)
        pulses = sorted(zip(middles.tolist(), heights.tolist(), strict=True))
        half = self.width_s / 2
        edges = ((-half, 0), (-half, 1), (half, 1), (half, 0))
        corners = [(middle + t, -sign * height * on) for middle, height in pulses for t, on in edges]
        # the spike itself belongs to the shape: at rest, until or from its time on
        corners = [(0.0, 0.0), *corners] if sign > 0 else [*corners, (0.0, 0.0)]
        return _spike(tuple(corners))

    def _gate(self, sign: int) -> Spike:
        half, volts = self.gate_s / 2, sign * self.gate_v
        return Spike(np.array([-half, -half, half, half]), np.array([0.0, volts, volts, 0.0]))


# ---------------------------------------------------------------------------------------------- timed by the host


class HostTimed(PulseScheme):
    """Base of schemes in which the host keeps the time and the device sees whole rectangular pulses only.

    They work on every bench and serve measured devices, too: a pulse is the one that the device was measured with, or
    one inside its hull. A lone spike sends nothing; cells on the lines of a pulse see the bias's V/2 or V/3.
    """

    plays_waveforms: ClassVar[bool] = False

    amplitude_v: float | None = Field(None, gt=0, description="potentiating pulse, in volts; none: the chip's own")
    width_s: float | None = Field(None, gt=0, description="potentiating pulse, in seconds; none: the chip's own")
    depress_amplitude_v: float | None = Field(
        None, gt=0, description="depressing pulse, in volts; none: the chip's own"
    )
    depress_width_s: float | None = Field(None, gt=0, description="depressing pulse, in seconds; none: the chip's own")
    tau_plus_s: float = Field(20e-3, gt=0, le=3600, description="time constant for dt > 0, in seconds")
    tau_minus_s: float = Field(20e-3, gt=0, le=3600, description="time constant for dt < 0, in seconds")

    def lone(self, side: Side, lines: Sequence[int], view: BenchView) -> tuple[Stimulus, ...]:
        """Nothing: the host knows that there is no partner."""
        del side, lines, view
        return ()

    def lone_peaks(self) -> Peaks:
        """No volts."""
        return Peaks(0.0, 0.0)

    def pulse(self, sign: int, view: BenchView) -> Pulse:
        """The pulse that potentiates (+1) or depresses (-1); UsageError where nobody knows one."""
        device = view.device
        known = device.pulse if sign > 0 else device.depress_pulse or device.pulse
        asked = (self.amplitude_v, self.width_s) if sign > 0 else (self.depress_amplitude_v, self.depress_width_s)
        volts = asked[0] or (known and known.amplitude_v)
        width = asked[1] or (known and known.width_s)
        if not (volts and width):
            names = ("amplitude_v", "width_s") if sign > 0 else ("depress_amplitude_v", "depress_width_s")
            raise UsageError(f"scheme {self.kind}: nothing is known of this chip's pulses: set {' and '.join(names)}")
        return Pulse(volts, width)

    def admit(self, view: BenchView) -> None:
        """Devices that depress, pulses that the bench has, and half-selected cells below the lowest threshold."""
        if not view.device.depresses:
            raise CapabilityMissing(
                f"scheme {self.kind} depresses where dt < 0, and no depression is measured or declared for this chip "
                "(declare it in the chip's card, or choose another device)"
            )
        bias = choose_bias("auto", view)
        for sign, low_v in zip((1, -1), lowest_thresholds(view), strict=True):
            pulse = self.pulse(sign, view)
            refusal = view.capabilities.refusal(PulseBatch(np.ones(view.shape, np.int8), pulse, bias))
            if refusal:
                raise CapabilityMissing(f"scheme {self.kind}: the bench cannot do {refusal}")
            victim_v = max(map(abs, levels(bias, pulse.amplitude_v).victims_v))
            if view.capabilities.isolation == "passive" and victim_v > low_v * ROUNDING:
                raise Refused(
                    f"scheme {self.kind}: half-selected cells see {victim_v:g} V of {pulse.amplitude_v:g} V, and the "
                    f"most sensitive device of this chip moves at {low_v:g} V (mean - {THRESHOLD_SIGMAS:g} sigma; "
                    "bench rule 20): lower the amplitudes of the scheme"
                )


class TimeDivision(HostTimed):
    """Time-division multiplexed slots (Jo et al. 2010, Nano Lett. 10:1297).

    From memory: after a spike a neuron has fixed slots for reading, potentiation and depression, and the timing
    becomes the width, or the number, of the pulses that overlap. Here time is cut into frames: a pair k = floor(|dt|
    / frame_s) frames apart gets one pulse of the width w e^{-k frame_s/tau} (code = "width"; below shortest_share w
    none), or `slots` e^{-k frame_s/tau} whole pulses (code = "slots"). Both lines carry V/2 while they overlap, and
    nothing else: that is the half-select bias of a pulse batch. dt = 0 sends nothing.
    """

    kind: Literal["time-division"] = "time-division"
    code: Literal["width", "slots"] = Field(
        "width",
        description="what carries the timing: the width of a pulse (devices that know any), or how many there are",
    )
    frame_s: float = Field(5e-3, gt=0, le=3600, description="length of a frame, in seconds")
    slots: int = Field(10, ge=1, le=MOST_COUNT, description="pulses of a pair in one frame, where code = slots")
    shortest_share: float = Field(0.01, gt=0, lt=1, description="shortest pulse, as a share of the full width")

    @property
    def reach_s(self) -> float:
        """Where the shortest pulse, or half a pulse, is left."""
        least = self.shortest_share if self.code == "width" else 0.5 / self.slots
        return max(self.tau_plus_s, self.tau_minus_s) * log(1 / least) + self.frame_s

    def stimuli(self, pairs: SpikePairs, view: BenchView) -> tuple[Stimulus, ...]:
        """Batches in order of falling width, potentiation first; () where no pair is near enough."""
        dt_s, batches, bias = pairs.dt_s(), [], choose_bias("auto", view)
        share = _share(np.floor(np.abs(dt_s) / self.frame_s * ROUNDING) * self.frame_s, dt_s, self)
        for sign in (1, -1):
            own, pulse = np.where(np.sign(dt_s) == sign, share, 0.0), self.pulse(sign, view)
            if self.code == "slots":
                batches += _batches(sign * _whole(own * self.slots), pulse, view)
                continue
            for part in sorted(set(own[own >= self.shortest_share].tolist()), reverse=True):
                counts = np.where(own == part, sign, 0).astype(np.int8)
                batches.append(PulseBatch(counts, Pulse(pulse.amplitude_v, pulse.width_s * part), bias))
        return tuple(batches)


class Counted(HostTimed):
    """Identical pulses that do not overlap, their number from the traces that the host keeps.

    Li et al. 2013 and Zhong et al. 2014 compare overlapped and non-overlapped pulses on chalcogenides (from memory).
    A pair gets pulses_plus e^{-dt/tau_plus} potentiating pulses for dt > 0 and pulses_minus e^{dt/tau_minus}
    depressing ones for dt < 0, rounded to whole pulses (half to even); dt = 0 gets none. Every bench and every device
    that depresses can do it.
    """

    kind: Literal["counted"] = "counted"
    pulses_plus: int = Field(10, ge=1, le=MOST_COUNT, description="potentiating pulses of a pair at dt just above 0")
    pulses_minus: int = Field(10, ge=1, le=MOST_COUNT, description="depressing pulses of a pair at dt just below 0")

    @property
    def reach_s(self) -> float:
        """Where half a pulse is left."""
        return max(self.tau_plus_s * log(2 * self.pulses_plus), self.tau_minus_s * log(2 * self.pulses_minus))

    def counts(self, dt_s: FloatArray) -> np.ndarray[Any, np.dtype[np.int16]]:
        """Pulses of each pair, depressing ones negative; 0 where dt_s is nan."""
        share = _share(np.abs(dt_s), dt_s, self)
        up, down = np.where(dt_s > 0, share, 0.0), np.where(dt_s < 0, share, 0.0)
        return _whole(up * self.pulses_plus) - _whole(down * self.pulses_minus)

    def stimuli(self, pairs: SpikePairs, view: BenchView) -> tuple[Stimulus, ...]:
        """One batch, or two where potentiating and depressing pulses differ; () where no pair gets a pulse."""
        counts = self.counts(pairs.dt_s())
        up, down = self.pulse(1, view), self.pulse(-1, view)
        if up == down:
            return tuple(_batches(counts, up, view))
        return (*_batches(np.maximum(counts, 0), up, view), *_batches(np.minimum(counts, 0), down, view))


def _share(apart_s: FloatArray, dt_s: FloatArray, scheme: HostTimed) -> FloatArray:
    """e^{-apart/tau} with the time constant of the sign of dt; 0 for dt = 0 and where a line is silent."""
    tau_s = np.where(dt_s > 0, scheme.tau_plus_s, scheme.tau_minus_s)
    share: FloatArray = np.where((dt_s != 0) & ~np.isnan(dt_s), np.exp(-np.nan_to_num(apart_s) / tau_s), 0.0)
    return share


def _whole(values: FloatArray) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.rint(values).astype(np.int16)


def _batches(counts: np.ndarray[Any, np.dtype[np.int16]], pulse: Pulse, view: BenchView) -> list[PulseBatch]:
    """The batch, unless it holds no pulse."""
    return [PulseBatch(counts, pulse, choose_bias("auto", view))] if counts.any() else []


# ---------------------------------------------------------------------------------------------- by name

SCHEMES: dict[str, type[PulseScheme]] = {
    "exponential": Exponential, "triangular": Triangular, "rectangular": Rectangular, "biphasic": Biphasic,
    "file": File, "time-division": TimeDivision, "staircase": Staircase, "counted": Counted,
}  # fmt: skip

_Any = Exponential | Triangular | Rectangular | Biphasic | File | TimeDivision | Staircase | Counted


def _named(given: Any) -> Any:
    """A scheme by its kind alone, as it is typed: scheme=rectangular."""
    if isinstance(given, str):
        if given not in SCHEMES:
            raise ValueError(unknown("pulse scheme", given, SCHEMES))
        return {"kind": given}
    return given


Scheme = Annotated[Annotated[_Any, Field(discriminator="kind")], BeforeValidator(_named)]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Scheme)


def scheme_of(kind: str, settings: Mapping[str, Any] | None = None) -> PulseScheme:
    """A scheme by its kind with these settings. Raises ConfigError naming what is wrong and what is allowed."""
    try:
        scheme: PulseScheme = _ADAPTER.validate_python({"kind": kind, **settings} if settings else kind)
    except ValidationError as error:
        raise ConfigError("\n".join(_wrong(kind, dict(mistake)) for mistake in error.errors())) from error
    return scheme


def _wrong(kind: str, mistake: dict[str, Any]) -> str:
    """One line on one mistake; the discriminator of the union is not part of what was typed."""
    path = [str(part) for part in mistake["loc"] if part != kind]
    if mistake["type"] == "extra_forbidden":
        return f"scheme {kind}: {unknown('setting', path[-1], SCHEMES[kind].model_fields)}"
    reason = mistake["msg"].removeprefix("Value error, ")
    return f"scheme {kind}: {': '.join([*path, reason])}"
