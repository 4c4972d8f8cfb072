"""What only grows while a run goes on: series over epochs, points, branches, spikes. Each with its step, so that it can
be told as it stood after any step, and each in a bounded amount of memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from sys import intern
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from neurobench.learning.statistics import Raster, rasters
from neurobench.runs.drawing import Series
from neurobench.runs.traces import Grown, Traces, thinned

MOST_EPOCHS = 1 << 13  # of each series, more than a screen has pixels; beyond that every second one is dropped
MOST_TOLD = 20_000  # points, branches, and pulses of ramps
MOST_SPIKES = 300_000  # of each layer, the last ones
MOST_NOTES = 5000  # of spikes, of each layer


class Heard:
    """All of these, of one run."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.traces = Traces(shape)
        self.points, self.branches, self.ramps = Told(), Told(), Told()
        self._epochs = 0
        self._series: dict[str, _Scalars] = {}
        self._progress: Mapping[str, Series] = {}
        self._layers: dict[str, _Spikes] = {}
        self._rasters: Mapping[str, Raster] = {}

    def epoch(self, seq: int, told: Mapping[str, Any]) -> None:
        """Take in the single numbers of a note "start" or "epoch"."""
        index = told.get("index")
        at = float(index if _is_number(index) else self._epochs)
        self._epochs += 1
        for name, value in told.items():
            if name != "index" and _is_number(value):
                if name not in self._series:
                    self._series[name] = _Scalars()
                self._series[name].add(seq, at, float(value))

    def spikes(self, seq: int, told: Mapping[str, Any]) -> None:
        """Take in a note "spikes"; of another form it raises ValueError, TypeError or KeyError, and nothing is kept."""
        rasters([told])
        self._layers.setdefault(str(told["layer"]), _Spikes()).add(seq, told)

    def progress(self, seq: int) -> Mapping[str, Series]:
        """Series by name, up to step `seq`; the same object while nothing was added."""
        found = {name: one.series(seq) for name, one in self._series.items()}
        self._progress = _same(self._progress, {name: one for name, one in found.items() if one})
        return self._progress

    def rasters(self, seq: int) -> Mapping[str, Raster]:
        """Rasters by layer, up to step `seq`; the same object while nothing was added."""
        found = {layer: one.raster(seq) for layer, one in self._layers.items()}
        self._rasters = _same(self._rasters, {layer: one for layer, one in found.items() if one is not None})
        return self._rasters


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _same(before: Mapping[str, Any], now: dict[str, Any]) -> Mapping[str, Any]:
    """The mapping from before, if it holds the very same objects."""
    alike = before.keys() == now.keys() and all(before[name] is value for name, value in now.items())
    return before if alike else now


class _Scalars:
    """One number over the epochs."""

    def __init__(self) -> None:
        self._kept = Grown(np.int64), Grown(np.float64), Grown(np.float64)
        self._last: tuple[int, Series] | None = None

    def add(self, seq: int, at: float, value: float) -> None:
        """Append one."""
        for kept, one in zip(self._kept, (seq, at, value), strict=True):
            kept.add(one)
        if len(self._kept[0]) > MOST_EPOCHS:
            which = thinned(np.zeros(len(self._kept[0]), np.int64))
            for kept in self._kept:
                kept.keep(which)
            self._last = None

    def series(self, seq: int) -> Series:
        """Up to a step."""
        seqs, at, values = self._kept
        n = int(np.searchsorted(seqs.seen(), seq, "right"))
        if self._last is None or self._last[0] != n:
            self._last = n, Series(at.seen(n), values.seen(n))
        return self._last[1]


class Told:
    """Values of the notes of one name, in order."""

    def __init__(self) -> None:
        self._seqs: list[int] = []
        self._values: list[Mapping[str, Any]] = []
        self._last: tuple[int, Sequence[Mapping[str, Any]]] = 0, ()

    def add(self, seq: int, value: Any) -> None:
        """Append one; a note of another form is left out."""
        if not isinstance(value, Mapping):
            return
        self._seqs.append(seq)
        self._values.append({intern(str(key)): item for key, item in value.items()})
        if len(self._seqs) > MOST_TOLD:
            self._seqs, self._values, self._last = self._seqs[::-2][::-1], self._values[::-2][::-1], (0, ())

    def until(self, seq: int) -> Sequence[Mapping[str, Any]]:
        """Up to a step."""
        n = bisect_right(self._seqs, seq)
        if self._last[0] != n:
            self._last = n, tuple(self._values[:n])
        return self._last[1]


class _Spikes:
    """The notes of one layer, and the raster of all of them, which is made longer and not anew."""

    def __init__(self) -> None:
        self._notes: deque[tuple[int, Mapping[str, Any]]] = deque()
        self._spikes = 0
        self._new: list[Mapping[str, Any]] = []
        self._newest = -1
        self._raster: Raster | None = None
        self._earlier: tuple[int, Raster | None] | None = None

    def add(self, seq: int, told: Mapping[str, Any]) -> None:
        """Append one."""
        self._notes.append((seq, told))
        self._new.append(told)
        self._newest = seq
        self._spikes += len(told["tick"])
        while len(self._notes) > 1 and (self._spikes > MOST_SPIKES or len(self._notes) > MOST_NOTES):
            _, gone = self._notes.popleft()
            self._spikes -= len(gone["tick"])
        if len(self._new) > MOST_NOTES:
            self._raster, self._new = None, []

    def raster(self, seq: int) -> Raster | None:
        """Up to a step."""
        if seq < self._newest:
            return self._until(seq)
        if self._raster is not None and self._new:
            longer, first = _longer(self._raster, self._new), int(self._notes[0][1]["start"])
            self._raster = None if longer is None else _last_of(longer, first, self._spikes)
        self._new = []
        self._raster = self._raster or _only(rasters(told for _, told in self._notes))
        return self._raster

    def _until(self, seq: int) -> Raster | None:
        notes = [told for at, told in self._notes if at <= seq]
        if self._earlier is None or self._earlier[0] != len(notes):
            self._earlier = len(notes), _only(rasters(notes)) if notes else None
        return self._earlier[1]


def _only(found: Mapping[str, Raster]) -> Raster:
    return next(iter(found.values()))


def _longer(raster: Raster, notes: Sequence[Mapping[str, Any]]) -> Raster | None:
    """The raster with what came after it; None where that did not come in order."""
    spans: list[list[int]] = raster.spans.tolist()
    ticks: list[NDArray[np.int64]] = [raster.tick]
    neurons: list[NDArray[np.int64]] = [raster.neuron]
    for note in notes:
        start, length = int(note["start"]), int(note["ticks"])
        end = sum(spans[-1])
        if start < end:
            return None
        if start == end:
            spans[-1][1] += length
        else:
            spans.append([start, length])
        tick = np.asarray(note["tick"], np.int64) + start
        order = np.argsort(tick, kind="stable")
        ticks.append(tick[order])
        neurons.append(np.asarray(note["neuron"], np.int64)[order])
    last = notes[-1]
    tick, neuron = np.concatenate(ticks), np.concatenate(neurons)
    return Raster(
        raster.layer,
        int(last["neurons"]),
        float(last["tick_s"]),
        np.array(spans, np.int64).reshape(-1, 2),
        tick,
        neuron,
    )


def _last_of(raster: Raster, first: int, spikes: int) -> Raster:
    """The raster without what came before tick `first`; so many spikes are left."""
    if len(raster.tick) == spikes and int(raster.spans[0, 0]) >= first:
        return raster
    gone = len(raster.tick) - spikes
    ends = raster.spans.sum(axis=1)
    stays = ends > first
    starts = np.maximum(raster.spans[stays, 0], first)
    spans = np.stack([starts, ends[stays] - starts], axis=1)
    return Raster(raster.layer, raster.neurons, raster.tick_s, spans, raster.tick[gone:], raster.neuron[gone:])
