"""Event streams of a silicon retina: structured arrays (x, y, t, p), made synthetically and filtered by pure functions.

A pixel sends an event each time its log intensity has changed by a contrast threshold since its last one: ON (p = 1)
for brighter, OFF (p = 0) for darker (Lichtsteiner, Posch, Delbruck 2008, IEEE JSSC 43, 566; Gallego et al. 2020,
arXiv 1904.08405, eq. 1 to 3). x counts columns to the right and y rows downwards from the upper left pixel, t is whole
microseconds. Fields and their types are those of Tonic's structured arrays, so its transforms take them as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, cos, hypot, log, pi, radians, sin
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.stimulus import FloatArray, require
from neurobench.compiling import compiled

EVENT = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])
EventArray = NDArray[Any]  # of EVENT

MAX_EVENTS = 2**26  # 2 GiB of records
MAX_SIDE = 2**15  # the address fields of the formats hold 15 bits
_MAX_SAMPLES = 2**31  # (pixel, moment) values that one scene may take: minutes of work
_CHUNK = 2**17  # (pixel, moment) values of a scene that are held at once: 1 MiB
_MOVE_PX = 0.1  # an edge moves at most so far between two samples of a scene
US = 1e-6
CONTRAST = 0.2  # of log intensity; nominal thresholds of DVS pixels are 10 to 50 % (Gallego 2020, section 2.4)
BRIGHT = log(3.0)  # a figure is three times as bright as its ground: five events per edge and pixel


def make_events(x: Any, y: Any, t: Any, p: Any) -> EventArray:
    """One structured array of four columns; t in microseconds."""
    events = np.empty(len(x), EVENT)
    for name, column in zip("xytp", (x, y, t, p), strict=True):
        events[name] = column
    return events


@dataclass(frozen=True)
class EventStream:
    """The events of a sensor of width x height pixels, in the order of their times, none outside the frame.

    `EventStream(32, 32)` is a sensor that has seen nothing; its methods give the stream of a synthetic scene, and
    `a + b` is what a sensor reports that sees both. Arrays are checked and made read-only.
    """

    width: int
    height: int
    events: EventArray = field(default_factory=lambda: np.empty(0, EVENT))

    def __post_init__(self) -> None:
        allowed = 1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE
        require(allowed, f"a sensor of {self.width} x {self.height} pixels; sides are 1 to {MAX_SIDE}")
        events = np.array(self.events)
        named = events.dtype.names is not None and set("xytp") <= set(events.dtype.names)
        require(named and events.ndim == 1, f"events need the fields x, y, t, p in one dimension, got {events.dtype}")
        for name in "xytp":
            whole = events[name].dtype.kind in "iub"
            require(whole, f"{name} holds {events[name].dtype}: whole numbers are expected, t in microseconds")
        events = make_events(*(events[name] for name in "xytp"))
        _check_inside(events, self.width, self.height)
        events.setflags(write=False)
        object.__setattr__(self, "events", events)

    def __len__(self) -> int:
        return len(self.events)

    def __add__(self, other: EventStream) -> EventStream:
        same = (self.width, self.height) == (other.width, other.height)
        require(same, f"{self.width} x {self.height} and {other.width} x {other.height} pixels do not add up")
        both = np.concatenate([self.events, other.events])
        return self.with_events(both[np.argsort(both["t"], kind="stable")])

    def with_events(self, events: EventArray) -> EventStream:
        """The same sensor with other events."""
        return EventStream(self.width, self.height, events)

    @property
    def end_s(self) -> float:
        """Time of the last event in seconds; 0 of an empty stream."""
        return float(self.events["t"][-1]) * US if len(self) else 0.0

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Number of the pixel of each event, row by row: y * width + x."""
        numbers: NDArray[np.int64] = self.events["y"] * self.width + self.events["x"]
        return numbers

    def counts(self) -> NDArray[np.int64]:
        """Events of each pixel [height, width]."""
        return np.bincount(self.pixels, minlength=self.width * self.height).reshape(self.height, self.width)

    # -- scenes ---------------------------------------------------------------------------------------------------

    def moving_bar(
        self, duration_s: float, velocity_px_s: float, angle_deg: float = 0.0, width_px: float = 2.0,
        start_px: float | None = None, contrast: float = CONTRAST,
    ) -> EventStream:  # fmt: skip
        """A bright bar that moves across: 0 degrees to the right, 90 downwards (as y counts), 180 to the left.

        `velocity_px_s`: speed of the bar perpendicular to itself. `start_px`: where its middle begins, in pixels from
        the middle of the frame along its way; none: just outside the frame.
        """
        require(velocity_px_s > 0, f"velocity_px_s = {velocity_px_s}: the angle says which way, the speed is positive")
        require(width_px > 0, f"width_px = {width_px}: a bar has a width")
        along = self._along(angle_deg)
        first = float(along.min()) - width_px / 2 - 1 if start_px is None else start_px
        scene: Scene = lambda t: BRIGHT * _inside(width_px / 2 - np.abs(along - first - velocity_px_s * t))  # noqa: E731
        return self._seen(scene, duration_s, velocity_px_s, contrast)

    def rotating_bar(
        self, duration_s: float, turns_per_s: float, width_px: float = 2.0, contrast: float = CONTRAST
    ) -> EventStream:
        """A bright bar through the middle of the frame that turns; positive turns go from +x towards +y."""
        require(turns_per_s != 0 and width_px > 0, f"turns_per_s = {turns_per_s}, width_px = {width_px}")
        x, y = self._centred()

        def scene(t: FloatArray) -> FloatArray:
            angle = 2 * pi * turns_per_s * t
            return BRIGHT * _inside(width_px / 2 - np.abs(y * np.cos(angle) - x * np.sin(angle)))

        rim_px_s = 2 * pi * abs(turns_per_s) * hypot(self.width, self.height) / 2
        return self._seen(scene, duration_s, rim_px_s, contrast)

    def expanding_disc(
        self, duration_s: float, velocity_px_s: float, radius_px: float = 0.0, contrast: float = CONTRAST
    ) -> EventStream:
        """A bright disc around the middle whose radius grows from `radius_px` (or shrinks, at negative velocity)."""
        require(velocity_px_s != 0 and radius_px >= 0, f"velocity_px_s = {velocity_px_s}, radius_px = {radius_px}")
        radius = np.hypot(*self._centred())
        scene: Scene = lambda t: BRIGHT * _inside(radius_px + velocity_px_s * t - radius)  # noqa: E731
        return self._seen(scene, duration_s, abs(velocity_px_s), contrast)

    def grating(
        self, duration_s: float, velocity_px_s: float, angle_deg: float = 0.0, period_px: float = 8.0,
        contrast: float = CONTRAST,
    ) -> EventStream:  # fmt: skip
        """A grating, sinusoidal in log intensity, that drifts: each pixel sees velocity / period cycles per second."""
        require(velocity_px_s > 0 and period_px >= 2, f"velocity_px_s = {velocity_px_s}, period_px = {period_px}")
        phase, wave = self._along(angle_deg) / period_px, velocity_px_s / period_px
        scene: Scene = lambda t: BRIGHT / 2 * np.sin(2 * pi * (phase - wave * t))  # noqa: E731
        return self._seen(scene, duration_s, velocity_px_s, contrast)

    def noise(self, duration_s: float, rate_hz: float, rng: np.random.Generator) -> EventStream:
        """Background activity: every pixel sends events of either polarity at random times, Poisson at `rate_hz`."""
        require(duration_s > 0 and rate_hz >= 0, f"duration_s = {duration_s}, rate_hz = {rate_hz}")
        expected = duration_s * rate_hz * self.width * self.height
        require(expected < MAX_EVENTS, f"{expected:.3g} events of noise; at most {MAX_EVENTS} are made")
        n = int(rng.poisson(expected))
        x, y, p = (rng.integers(0, high, n) for high in (self.width, self.height, 2))
        t = np.sort(rng.random(n)) * duration_s / US
        return self.with_events(make_events(x, y, t.astype(np.int64), p))

    def _centred(self) -> tuple[FloatArray, FloatArray]:
        """x and y [height, width] of the pixels' middles, from the middle of the frame."""
        y, x = np.mgrid[: self.height, : self.width].astype(np.float64)
        return x - (self.width - 1) / 2, y - (self.height - 1) / 2

    def _along(self, angle_deg: float) -> FloatArray:
        """Way of each pixel [height, width] in the direction of that angle, from the middle of the frame."""
        x, y = self._centred()
        return x * cos(radians(angle_deg)) + y * sin(radians(angle_deg))

    def _seen(self, scene: Scene, duration_s: float, fastest_px_s: float, contrast: float) -> EventStream:
        require(0 < duration_s < float("inf"), f"duration_s = {duration_s}: a scene lasts")
        require(contrast > 0, f"contrast = {contrast}: the threshold of a pixel is positive")
        steps = max(1, ceil(duration_s * fastest_px_s / _MOVE_PX))
        work = steps * self.width * self.height
        require(work <= _MAX_SAMPLES, f"a scene of {work:.3g} samples (pixels x moments); at most {_MAX_SAMPLES:.3g}")
        return self.with_events(crossings(scene, duration_s, steps, contrast))


Scene = Callable[[FloatArray], FloatArray]  # times [n, 1, 1] in seconds -> log intensity [n, height, width]


def crossings(scene: Scene, duration_s: float, steps: int, contrast: float) -> EventArray:
    """Events of the pixels that watch `scene`, sampled `steps` times, sorted by time.

    Between two samples the log intensity is taken as a straight line, so the moment of each crossing is exact for
    edges with a linear profile (as in ESIM: Rebecq, Gehrig, Scaramuzza 2018, CoRL).
    """
    times = np.linspace(0.0, duration_s, steps + 1)
    memory = np.array(scene(times[:1, None, None])[0])
    parts, found, chunk = list[EventArray](), 0, max(1, _CHUNK // memory.size)
    for first in range(0, steps, chunk):
        part = times[first : first + chunk + 1]
        levels = scene(part[:, None, None])
        columns = np.empty((_crossed(levels, part, memory.copy(), contrast, np.empty((0, 4), np.int64)), 4), np.int64)
        _crossed(levels, part, memory, contrast, columns)
        found += len(columns)
        require(found <= MAX_EVENTS, f"more than {MAX_EVENTS} events in one stream")
        parts.append(make_events(*columns.T))
    events = np.concatenate(parts)
    return events[np.argsort(events["t"], kind="stable")]


def _inside(depth_px: FloatArray) -> FloatArray:
    """Share of a pixel's light from a figure whose edge lies so far beyond the pixel's middle: a blur of one pixel."""
    return np.clip(depth_px + 0.5, 0.0, 1.0)


def _check_inside(events: EventArray, width: int, height: int) -> None:
    if not len(events):
        return
    require(len(events) <= MAX_EVENTS, f"{len(events)} events; at most {MAX_EVENTS} in one stream")
    for name, size in (("x", width), ("y", height), ("p", 2)):
        low, high = int(events[name].min()), int(events[name].max())
        require(
            low >= 0 and high < size, f"an event has {name} = {low if low < 0 else high}; {name} is 0 to {size - 1}"
        )
    back = np.flatnonzero(np.diff(events["t"]) < 0)
    require(not len(back), f"event {int(back[:1].sum()) + 1} lies before the one ahead of it: events are sorted by t")
    require(int(events["t"][0]) >= 0, f"the first event is at t = {int(events['t'][0])} us: times begin at 0")


# -- filters: a stream in, a stream with fewer events out ----------------------------------------------------------


def refractory(stream: EventStream, period_s: float) -> EventStream:
    """Drop the events of a pixel within `period_s` after the last one that was kept (a dead time).

    Tonic's RefractoryPeriod also counts from events that it dropped: there a busy pixel falls silent for ever.
    """
    require(0 <= period_s < float("inf"), f"period_s = {period_s}: a refractory period is not negative")
    return stream.with_events(stream.events[_rested(stream.pixels, stream.events["t"], round(period_s / US))])


def denoise(stream: EventStream, window_s: float) -> EventStream:
    """Keep the events that one of the 8 neighbouring pixels supports by an event in the `window_s` before.

    The background activity filter of Delbruck 2008 (from memory); events of single pixels, such as noise, go.
    """
    require(0 < window_s < float("inf"), f"window_s = {window_s}: a window has a length")
    e = stream.events
    kept = _supported(e["x"], e["y"], e["t"], stream.width, stream.height, round(window_s / US))
    return stream.with_events(e[kept])


def downsample(stream: EventStream, width: int, height: int) -> EventStream:
    """The events on a coarser frame: each pixel of it gathers the events of a block. No event is dropped.

    Often followed by `refractory`, because a block sends what all its pixels send.
    """
    fits = 1 <= width <= stream.width and 1 <= height <= stream.height
    require(fits, f"{width} x {height} pixels out of {stream.width} x {stream.height}: a frame becomes coarser only")
    events = stream.events.copy()
    events["x"] = events["x"] * width // stream.width
    events["y"] = events["y"] * height // stream.height
    return EventStream(width, height, events)


def crop(stream: EventStream, x: int, y: int, width: int, height: int) -> EventStream:
    """The events of a window of the frame, counted from the window's upper left pixel."""
    inside = min(x, y) >= 0 and x + width <= stream.width and y + height <= stream.height
    where = f"a window of {width} x {height} at ({x}, {y}) in a frame of {stream.width} x {stream.height}"
    require(inside and width >= 1 and height >= 1, where)
    e = stream.events
    events = e[(e["x"] >= x) & (e["x"] < x + width) & (e["y"] >= y) & (e["y"] < y + height)]
    events["x"] -= x
    events["y"] -= y
    return EventStream(width, height, events)


def between(stream: EventStream, start_s: float, end_s: float) -> EventStream:
    """The events from `start_s` up to, not including, `end_s`, counted from `start_s`."""
    require(0 <= start_s < end_s, f"from {start_s} s to {end_s} s: a cut begins at 0 or later and lasts")
    t, start_us, end_us = stream.events["t"], round(start_s / US), round(end_s / US)
    events = stream.events[(t >= start_us) & (t < end_us)]
    events["t"] -= start_us
    return stream.with_events(events)


def of_polarity(stream: EventStream, on: bool) -> EventStream:
    """The ON events alone, or the OFF events."""
    return stream.with_events(stream.events[stream.events["p"] == int(on)])


class Speed(NamedTuple):
    """A fitted edge: speed in pixels per second and the correlation of way and time."""

    velocity_px_s: float
    correlation: float


def edge_speed(stream: EventStream, angle_deg: float = 0.0) -> Speed:
    """Speed of an edge that moves in that direction: the slope of its way over the time of the events.

    The slope is that of time over way, turned round: the pixels' places are exact, the times are what was measured.
    """
    require(len(stream) >= 2, f"{len(stream)} events have no speed")
    along = stream._along(angle_deg)[stream.events["y"], stream.events["x"]]
    t_s = stream.events["t"] * US
    spread = np.cov(along, t_s)
    require(spread[0, 0] > 0 and spread[1, 1] > 0, "the events lie on one line across the direction, or at one time")
    slope_s = spread[0, 1] / spread[0, 0]
    correlation = spread[0, 1] / (spread[0, 0] * spread[1, 1]) ** 0.5
    return Speed(1 / float(slope_s) if slope_s else float("inf"), float(correlation))


@compiled
def _crossed(levels: Any, times: Any, memory: Any, contrast: float, out: Any) -> int:  # pragma: no cover - compiled
    """Count the events between the samples and write as many as `out`[n, 4] holds; `memory`[height, width] is the
    level of each pixel's last event and moves along."""
    n = 0
    for k in range(1, len(times)):
        for y in range(memory.shape[0]):
            for x in range(memory.shape[1]):
                before, after = levels[k - 1, y, x], levels[k, y, x]
                sign = 1.0 if after > memory[y, x] else -1.0
                while sign * (after - memory[y, x]) >= contrast:
                    memory[y, x] += sign * contrast
                    if n < len(out):
                        # a crossed step has moved; the level may lie a rounding outside of it
                        share = min(max((memory[y, x] - before) / (after - before), 0.0), 1.0)
                        at_s = times[k - 1] + share * (times[k] - times[k - 1])
                        out[n, 0], out[n, 1], out[n, 2], out[n, 3] = x, y, np.rint(at_s * 1e6), sign > 0
                    n += 1
    return n


@compiled
def _rested(pixel: Any, t: Any, period_us: int) -> Any:  # pragma: no cover - compiled
    last = np.full(pixel.max() + 1 if pixel.size else 1, -1)
    kept = np.zeros(pixel.size, np.bool_)
    for k in range(pixel.size):
        if last[pixel[k]] < 0 or t[k] - last[pixel[k]] > period_us:
            kept[k] = True
            last[pixel[k]] = t[k]
    return kept


@compiled
def _supported(x: Any, y: Any, t: Any, width: int, height: int, window_us: int) -> Any:  # pragma: no cover - compiled
    last = np.full((height + 2, width + 2), -1)  # a frame of one pixel, so that edges need no care
    kept = np.zeros(x.size, np.bool_)
    for k in range(x.size):
        for dy in range(3):
            for dx in range(3):
                seen = last[y[k] + dy, x[k] + dx]
                if (dx != 1 or dy != 1) and seen >= 0 and t[k] - seen <= window_us:
                    kept[k] = True
        last[y[k] + 1, x[k] + 1] = t[k]
    return kept
