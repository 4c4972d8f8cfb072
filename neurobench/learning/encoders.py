"""From values and events to spikes on lines, tick by tick, in the sparse form that loops take (`loops.Spikes`).

rate: a value is a rate. latency: a value is how early its one spike comes. delta: a change by a threshold is a spike.
binned: events of a sensor, each pixel a line. `loops.sparse` and `dense` go between Spikes and a raster[ticks, lines].
An encoder stands on the host; its spikes become volts on word lines.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray, require

from .events import US, EventStream, make_events
from .loops import Spikes, poisson, sparse

MAX_TICKS = 10_000_000
_SLACK = 1e-9  # of a threshold or a tick: floats that mean to reach it exactly do


def dense(spikes: Spikes, lines: int) -> BoolArray:
    """Raster[ticks, lines] of sparse spikes."""
    ticks = len(spikes.indptr) - 1
    inside = not len(spikes.rows) or int(spikes.rows.max()) < lines
    require(inside, f"a spike on a line beyond 0..{lines - 1}")
    raster = np.zeros((ticks, lines), np.bool_)
    raster[np.repeat(np.arange(ticks), np.diff(spikes.indptr)), spikes.rows] = True
    return raster


def rate(values: FloatArray, ticks: int, tick_s: float, max_rate_hz: float, rng: np.random.Generator) -> Spikes:
    """Independent spikes: line i spikes at values[i] x max_rate_hz, values in 0..1.

    At most one spike a tick, with probability rate x tick_s: the mean rate is exact, and intervals are geometric, which
    is Poisson for rates far below one a tick. UsageError for a rate of more than one spike a tick.
    """
    values = _unit(values)
    _check_ticks(ticks, tick_s)
    probability = max_rate_hz * tick_s
    require(0 <= probability <= 1, f"{max_rate_hz} Hz are {probability:g} spikes in a tick of {tick_s} s: 0 to 1 fit")
    return poisson(values * probability, ticks, rng)


def latency(
    values: FloatArray,
    ticks: int,
    law: Literal["linear", "log"] = "linear",
    least: float = 0.01,
    tau_ticks: float = 5.0,
) -> Spikes:
    """One spike per line, the larger its value (0..1) the earlier; values below `least` never spike.

    linear: 1 spikes in tick 0, `least` in the last one. log: when an RC membrane that the value charges reaches
    `least`, tau ln(v / (v - least)), as a spike that a constant current causes; what comes later than the last tick is
    left out.
    """
    values = _unit(values)
    _check_ticks(ticks, 1.0)
    require(
        0 < least < 1 and tau_ticks > 0, f"least = {least} lies between 0 and 1, tau_ticks = {tau_ticks} is positive"
    )
    if law == "linear":
        fires = values >= least
        when = np.rint((1 - values) / (1 - least) * (ticks - 1))
    else:
        fires = values > least
        charged = np.where(fires, values, 1.0)
        when = np.floor(tau_ticks * np.log(charged / (charged - least)))
    fires &= when < ticks
    return _placed(when[fires].astype(np.int64), np.flatnonzero(fires), ticks)


def delta(signals: FloatArray, threshold: float) -> Spikes:
    """Send on delta: signals[ticks, n] over time; line i rises, line n + i falls by `threshold` since its last spike.

    The first sample is where a signal starts from. At most one spike per line and tick: a faster signal is caught up
    with in the ticks after, and its lines fall behind meanwhile.
    """
    signals = np.asarray(signals, np.float64)
    require(signals.ndim == 2 and len(signals) > 0, f"signals need shape [ticks, n], got {signals.shape}")
    require(bool(np.isfinite(signals).all()), "signals hold a value that is not finite")
    require(threshold > 0, f"threshold = {threshold} must be positive")
    raster = np.zeros((len(signals), 2 * signals.shape[1]), np.bool_)
    level, reach = signals[0].copy(), threshold * (1 - _SLACK)
    for tick, now in enumerate(signals):
        up, down = now - level >= reach, level - now >= reach
        level += threshold * (up.astype(np.float64) - down)
        raster[tick] = np.concatenate([up, down])
    return sparse(raster)


def decoded(spikes: Spikes, first: FloatArray, threshold: float) -> FloatArray:
    """What delta-coded spikes say of the signals [ticks, n], which began at first[n]."""
    raster = dense(spikes, 2 * len(first)).astype(np.float64)
    steps = raster[:, : len(first)] - raster[:, len(first) :]
    signals: FloatArray = np.asarray(first) + threshold * np.cumsum(steps, axis=0)
    return signals


def binned(stream: EventStream, tick_s: float, ticks: int | None = None, polarities: bool = False) -> Spikes:
    """Events as spikes: pixel (x, y) is line y * width + x, a tick in which it sent anything has one spike of it.

    `ticks`: events after that many are left out; none: up to the last event. `polarities`: OFF events get lines of
    their own, width x height further on.
    """
    _check_ticks(1 if ticks is None else ticks, tick_s)
    # an event at the very beginning of a tick belongs to it, however the quotient is rounded
    tick = np.floor(stream.events["t"] * (US / tick_s) + _SLACK).astype(np.int64)
    if ticks is None:
        ticks = int(tick[-1]) + 1 if len(stream) else 1
        _check_ticks(ticks, tick_s)
    lines = stream.pixels + (1 - stream.events["p"]) * (stream.width * stream.height if polarities else 0)
    inside = tick < ticks
    return _placed(tick[inside], lines[inside], ticks)


def events_of(spikes: Spikes, width: int, height: int, tick_s: float) -> EventStream:
    """The way back: each spike an ON event of its pixel at the beginning of its tick."""
    ticks = np.repeat(np.arange(len(spikes.indptr) - 1), np.diff(spikes.indptr))
    y, x = np.divmod(spikes.rows.astype(np.int64), width)
    return EventStream(width, height, make_events(x, y, np.rint(ticks * tick_s / US), np.ones(len(x))))


def _placed(tick: np.ndarray[tuple[int], np.dtype[np.int64]], line: np.ndarray[tuple[int], np.dtype[np.int64]],
            ticks: int) -> Spikes:  # fmt: skip
    """Sparse spikes out of (tick, line) pairs in any order, each pair once."""
    width = int(line.max()) + 1 if len(line) else 1
    at, line = np.divmod(np.unique(tick * width + line), width)
    return Spikes(np.searchsorted(at, np.arange(ticks + 1)).astype(np.int32), line.astype(np.int32))


def _unit(values: FloatArray) -> FloatArray:
    values = np.asarray(values, np.float64)
    require(values.ndim == 1 and len(values) > 0, f"values need shape [lines], got {values.shape}")
    require(bool(((values >= 0) & (values <= 1)).all()), "values lie between 0 and 1")
    return values


def _check_ticks(ticks: int, tick_s: float) -> None:
    require(0 < tick_s < float("inf"), f"tick_s = {tick_s} must be positive")
    require(1 <= ticks <= MAX_TICKS, f"{ticks} ticks; 1 to {MAX_TICKS} are allowed")
