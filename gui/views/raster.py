"""Spikes of every layer over time, and their rate below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QRectF
from PySide6.QtWidgets import QApplication, QWidget

from neurobench.bench.stimulus import FloatArray
from neurobench.learning.statistics import Raster, population_rate_hz
from neurobench.runs.history import Snapshot
from neurobench.runs.spike_figures import END_TICKS, brief

from .. import theme
from ..selection import Selection
from .plots import Canvas, Curves, Panel, milliseconds, name, so_far, toggle

MARKS = 100_000  # up to so many spikes each get a mark; more are drawn as a density
CROWDED = 600  # spikes of one neuron of which the marks would be one block
COLUMNS, LINES = 1200, 400  # of a density
LEAST, MOST = 12, 160  # neurons: a layer's room grows with its neurons between these


class RasterView(Panel):
    """A mark for every spike, layers above each other in their colours, their mean rates below."""

    name: ClassVar[str] = "raster"
    title: ClassVar[str] = "Spikes"
    every_s: ClassVar[float] = 0.1

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self._end = toggle(f"last {END_TICKS} ticks", "Follow the end of the run close up, instead of all of it")
        self._canvas = Canvas()
        self._plot = self._canvas.add(0, 0)
        self._rate = self._canvas.add(1, 0, left="rate (Hz)", bottom="time (s)")
        self._rate.setXLink(self._plot)
        self._plot.getAxis("bottom").setStyle(showValues=False)
        self._canvas.ci.layout.setRowStretchFactor(0, 3)
        self._canvas.ci.layout.setRowStretchFactor(1, 1)
        self._spikes: dict[str, pg.PlotCurveItem] = {}
        self._density: dict[str, pg.ImageItem] = {}
        self._rates = Curves(self._rate)
        self._end.toggled.connect(self._toggled)
        self._fill(self._canvas, self._end)

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return tuple(snapshot.rasters.values()) or (None,)

    def _missing(self, snapshot: Snapshot) -> str:
        if _layers(snapshot):
            return ""
        return f"The protocol {snapshot.about.protocol} has told of no spikes {so_far(snapshot)}."

    def _draw(self, snapshot: Snapshot) -> None:
        layers = _layers(snapshot)
        if self._end.isChecked():
            layers = {layer: _ending(raster) for layer, raster in layers.items()}
        crowded = any(len(raster.tick) > CROWDED * raster.neurons for raster in layers.values())
        many = crowded or sum(len(raster.tick) for raster in layers.values()) > MARKS
        room = _room(layers)
        factor, unit = milliseconds(np.array([raster.spans[-1].sum() * raster.tick_s for raster in layers.values()]))
        self._forget(set(layers), many)
        self._rates.begin()
        for n, (layer, raster) in enumerate(layers.items()):
            (self._dense if many else self._marked)(n, layer, raster, room[layer], factor)
            at_s, hertz = population_rate_hz(raster)
            self._rates.put(layer, at_s * factor, hertz, pen=theme.trace_pen(n), connect="finite")
        self._rates.end()
        name(self._rate, "bottom", f"time ({unit})")
        self._name_layers(layers, room)
        self._caption.say("   |   ".join(_words(raster) for raster in layers.values()))

    def _marked(self, n: int, layer: str, raster: Raster, room: tuple[float, float], factor: float) -> None:
        item = self._spikes.get(layer)
        if item is None:
            item = self._spikes[layer] = pg.PlotCurveItem()
            self._plot.addItem(item)
        x, y = ticks_of(raster, room, factor)
        item.setData(x, y, connect="pairs", pen=theme.trace_pen(n), skipFiniteCheck=True)

    def _dense(self, n: int, layer: str, raster: Raster, room: tuple[float, float], factor: float) -> None:
        item = self._density.get(layer)
        if item is None:
            item = self._density[layer] = pg.ImageItem(axisOrder="row-major")
            self._plot.addItem(item)
        found, first, last = density(raster)
        colors = pg.ColorMap(np.array([0.0, 1.0]), [theme.tokens().panel, theme.trace_color(n)])
        item.setImage(found, autoLevels=False, levels=(0.0, float(found.max()) or 1.0), lut=colors.getLookupTable())
        wide = (last - first) * raster.tick_s * factor
        item.setRect(QRectF(first * raster.tick_s * factor, room[0], wide, room[1] - room[0]))

    def _forget(self, layers: set[str], many: bool) -> None:
        """Take away what is not drawn this time."""
        for kept, used in ((self._spikes, not many), (self._density, many)):
            for layer in [one for one in kept if not used or one not in layers]:
                self._plot.removeItem(kept.pop(layer))

    def _name_layers(self, layers: Mapping[str, Raster], room: Mapping[str, tuple[float, float]]) -> None:
        ticks = [(sum(room[layer]) / 2, f"{brief(layer, 14)}\n{raster.neurons:,}") for layer, raster in layers.items()]
        self._plot.getAxis("left").setTicks([ticks])
        self._plot.getAxis("left").setStyle(tickFont=QApplication.font())

    def _styled(self) -> None:
        for plot in (self._plot, self._rate):  # both begin at the same place
            plot.getAxis("left").setWidth(5 * theme.em())

    def _toggled(self, _on: bool) -> None:
        self.again()


def _layers(snapshot: Snapshot) -> dict[str, Raster]:
    """The layers of which anything was recorded."""
    return {layer: one for layer, one in snapshot.rasters.items() if one.neurons and one.ticks}


def _room(layers: Mapping[str, Raster]) -> dict[str, tuple[float, float]]:
    """From where to where each layer stands: the first at the bottom, so that spikes go upwards through a network."""
    room, low = {}, 0.0
    for layer, raster in layers.items():
        high = low + min(max(raster.neurons, LEAST), MOST)
        room[layer] = (low, high)
        low = high + 0.08 * MOST
    return room


def ticks_of(raster: Raster, room: tuple[float, float], factor: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """Both ends of the mark of every spike: x [2 spikes] and y [2 spikes], to be joined in pairs."""
    high = (room[1] - room[0]) / raster.neurons
    y = np.empty((len(raster.tick), 2))
    y[:, 0] = room[0] + (raster.neuron + 0.1) * high
    y[:, 1] = y[:, 0] + 0.8 * high
    return np.repeat(raster.tick * (raster.tick_s * factor), 2), y.ravel()


def density(raster: Raster) -> tuple[FloatArray, int, int]:
    """How many spikes fell into each field [neurons, times] of a grid, and its first and last tick."""
    first, last = int(raster.spans[0, 0]), int(raster.spans[-1].sum())
    wide, high = min(last - first, COLUMNS), min(raster.neurons, LINES)
    col = (raster.tick - first) * wide // max(last - first, 1)
    row = raster.neuron * high // raster.neurons
    found = np.bincount(row * wide + col, minlength=high * wide).reshape(high, wide)
    return found.astype(np.float64), first, last


def _ending(raster: Raster) -> Raster:
    """The last ticks of a raster."""
    last = int(raster.spans[-1].sum())
    first = max(last - END_TICKS, int(raster.spans[-1, 0]))
    at = int(np.searchsorted(raster.tick, first))
    spans = np.array([[first, last - first]])
    return Raster(raster.layer, raster.neurons, raster.tick_s, spans, raster.tick[at:], raster.neuron[at:])


def _words(raster: Raster) -> str:
    seconds = raster.seconds
    rate = f", {len(raster.tick) / seconds / raster.neurons:.3g} Hz" if seconds > 0 else ""
    return f"{brief(raster.layer)}: {len(raster.tick):,} spikes of {raster.neurons:,} neurons{rate}"
