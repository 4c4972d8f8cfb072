"""What is said of spikes, computed in one place: rates, regularity, how many neurons take part.

A run tells its spikes in notes named "spikes", any number for each layer; `rasters` puts them together again. Figures,
`show` and the protocols' results use what is here, so that one word means one number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurobench.bench.steps import Note
from neurobench.bench.stimulus import FloatArray
from neurobench.errors import UsageError

IntArray = NDArray[np.int64]
SPIKES = "spikes"  # the notes' name


@dataclass(frozen=True)
class Raster:
    """Spikes of one layer: neuron[n] spikes in tick[n], in the order of time.

    spans[k, 2]: first tick and number of ticks of each stretch that was recorded, ascending; stretches that adjoin are
    one. Between them nothing is known.
    """

    layer: str
    neurons: int
    tick_s: float
    spans: IntArray
    tick: IntArray
    neuron: IntArray

    @property
    def ticks(self) -> int:
        """How many ticks were recorded."""
        return int(self.spans[:, 1].sum())

    @property
    def seconds(self) -> float:
        """How long was recorded."""
        return self.ticks * self.tick_s


def spikes_note(
    layer: str, neurons: int, tick_s: float, start: int, ticks: int, tick: ArrayLike, neuron: ArrayLike
) -> Note:
    """A note of the spikes of `ticks` ticks from tick `start` of the run on; tick[n] counts from `start`."""
    at, who = np.asarray(tick, np.int64), np.asarray(neuron, np.int64)
    _refuse_outside(layer, at, ticks, "tick")
    _refuse_outside(layer, who, neurons, "neuron")
    narrow = np.uint16 if max(ticks, neurons) <= 1 << 16 else np.uint32
    said = {"tick": at.astype(narrow), "neuron": who.astype(narrow)}
    about = {"layer": layer, "neurons": int(neurons), "tick_s": float(tick_s), "start": int(start), "ticks": int(ticks)}
    return Note(SPIKES, about | said)


def _refuse_outside(layer: str, values: IntArray, end: int, what: str) -> None:
    if len(values) and not 0 <= values.min() <= values.max() < end:
        raise UsageError(f"a spike of layer {layer!r} names {what} {values.max()}; there are {end}, counted from 0")


def rasters(notes: Iterable[Mapping[str, Any]]) -> dict[str, Raster]:
    """The values of the notes "spikes" put together, by layer, in the order in which the layers first spoke."""
    told: dict[str, list[Mapping[str, Any]]] = {}
    for note in notes:
        told.setdefault(str(note["layer"]), []).append(note)
    return {layer: _joined(layer, parts) for layer, parts in told.items()}


def _joined(layer: str, parts: list[Mapping[str, Any]]) -> Raster:
    last = parts[-1]
    tick = np.concatenate([np.asarray(part["tick"], np.int64) + int(part["start"]) for part in parts])
    neuron = np.concatenate([np.asarray(part["neuron"], np.int64) for part in parts])
    order = np.argsort(tick, kind="stable")
    spans = _merged(np.array([[int(part["start"]), int(part["ticks"])] for part in parts], np.int64))
    return Raster(layer, int(last["neurons"]), float(last["tick_s"]), spans, tick[order], neuron[order])


def _merged(spans: IntArray) -> IntArray:
    """Stretches in order, those that adjoin or overlap as one."""
    out: list[list[int]] = []
    for start, ticks in sorted(spans.tolist()):
        if out and start <= out[-1][0] + out[-1][1]:
            out[-1][1] = max(out[-1][1], start + ticks - out[-1][0])
        else:
            out.append([start, ticks])
    return np.array(out, np.int64).reshape(-1, 2)


def counts(raster: Raster) -> IntArray:
    """Spikes of each neuron [neurons]."""
    return np.bincount(raster.neuron, minlength=raster.neurons).astype(np.int64)


def rates_hz(raster: Raster) -> FloatArray:
    """Mean rate of each neuron [neurons] over all that was recorded, in hertz; nan if nothing was."""
    if raster.seconds == 0:
        return np.full(raster.neurons, np.nan)
    rates: FloatArray = counts(raster) / raster.seconds
    return rates


def active_fraction(raster: Raster) -> float:
    """Share of the neurons that spike at all."""
    return float(np.count_nonzero(counts(raster)) / raster.neurons) if raster.neurons else float("nan")


def interval_cv(raster: Raster) -> FloatArray:
    """Standard deviation over mean of the intervals between a neuron's spikes [neurons]; nan below two intervals.

    1 for a Poisson process, 0 for a clock. The population's standard deviation (ddof 0). Intervals across a stretch
    that was not recorded are left out.
    """
    order = np.lexsort((raster.tick, raster.neuron))
    who, when = raster.neuron[order], raster.tick[order]
    stretch = np.searchsorted(raster.spans[:, 0], when, side="right")
    real = (np.diff(who) == 0) & (np.diff(stretch) == 0)
    whose, gap = who[1:][real], np.diff(when)[real].astype(np.float64)
    n = np.bincount(whose, minlength=raster.neurons)
    many = np.where(n >= 2, n, np.nan)
    mean = np.bincount(whose, gap, minlength=raster.neurons) / many
    spread = np.bincount(whose, (gap - mean[whose]) ** 2, minlength=raster.neurons) / many
    cv: FloatArray = np.sqrt(spread) / np.where(mean > 0, mean, np.nan)
    return cv


def population_rate_hz(raster: Raster, bins: int = 200) -> tuple[FloatArray, FloatArray]:
    """Mean rate of a neuron over time: (middle of each bin in seconds [n], hertz [n]); n <= bins, ticks are not split.

    Bins of which nothing was recorded are nan.
    """
    first = int(raster.spans[0, 0]) if len(raster.spans) else 0
    last = int(raster.spans[-1].sum()) if len(raster.spans) else 0
    width = max(1, -(-(last - first) // bins))
    edges = np.arange(first, last + width, width)
    if len(edges) < 2:
        return np.zeros(0), np.zeros(0)
    found = np.histogram(raster.tick, edges)[0]
    seconds = _recorded(raster.spans, edges) * raster.tick_s
    hertz: FloatArray = found / np.where(seconds > 0, seconds, np.nan) / max(raster.neurons, 1)
    middle_s: FloatArray = (edges[:-1].astype(np.float64) + width / 2) * raster.tick_s
    return middle_s, hertz


def _recorded(spans: IntArray, edges: IntArray) -> IntArray:
    """How many ticks of each bin were recorded."""
    out = np.zeros(len(edges) - 1, np.int64)
    for start, ticks in spans:
        out += np.maximum(np.minimum(edges[1:], start + ticks) - np.maximum(edges[:-1], start), 0)
    return out


def summary(raster: Raster) -> dict[str, float]:
    """What is said of a layer in words: neurons, seconds, spikes, mean rate, mean CV of intervals, active fraction."""
    cv = interval_cv(raster)
    known = cv[np.isfinite(cv)]
    return {
        "neurons": raster.neurons,
        "seconds": raster.seconds,
        "spikes": len(raster.tick),
        "rate_hz": float(rates_hz(raster).mean()) if raster.neurons else float("nan"),
        "interval_cv": float(known.mean()) if len(known) else float("nan"),
        "active_fraction": active_fraction(raster),
    }
