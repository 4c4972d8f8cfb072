"""Activations f_i(n) of every pattern n, with the targets that they have to pass."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyqtgraph as pg
from PySide6.QtWidgets import QWidget

from neurobench.bench.stimulus import FloatArray
from neurobench.runs.history import Snapshot

from .. import theme
from ..selection import Selection
from .plots import Canvas, Curves, Marks, Panel, painted, so_far

SYMBOLS = ("o", "x", "t", "s", "d", "+", "t1", "h")  # of the neurons: told apart without their colours too
GLYPHS = "●✕▼■◆✚▲⬢"  # the same, in words
BANDS = 300  # up to so many activations each show the band in which they pass
LEGEND = 8  # up to so many neurons are named


class ActivationsView(Panel):
    """One mark for each neuron and pattern; the shaded band is where it passes."""

    name: ClassVar[str] = "activations"
    title: ClassVar[str] = "Activations"
    every_s: ClassVar[float] = 0.1

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self._canvas = Canvas()
        self._plot = self._canvas.add(0, 0, left="f", bottom="pattern n", whole="bottom")
        self._plot.setYRange(-1.1, 1.1)
        self._bands = pg.BarGraphItem(x=[], width=0.1, y0=[], y1=[])
        self._plot.addItem(self._bands)
        self._curves, self._marks = Curves(self._plot), Marks(self._plot)
        self._fill(self._canvas)

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return snapshot.activations, snapshot.targets

    def _missing(self, snapshot: Snapshot) -> str:
        found = snapshot.activations
        if found is not None and found.ndim == 2 and found.size:
            return ""
        if snapshot.targets is not None:
            return "No activations yet: they come with the first epoch, and only where there are not too many."
        return f"The protocol {snapshot.about.protocol} has told no activations {so_far(snapshot)}."

    def _draw(self, snapshot: Snapshot) -> None:
        found, targets = snapshot.activations, snapshot.targets
        assert found is not None
        if targets is not None and targets.shape != found.shape:
            targets = None
        at, offset = np.arange(len(found), dtype=np.float64), _offsets(found.shape[1])
        self._curves.begin()
        for k in range(found.shape[1]):
            self._neuron(k, at + offset[k], found[:, k], None if targets is None else targets[:, k])
        self._curves.end()
        self._band(at, offset, targets)
        levels = [] if targets is None else sorted(set(np.round(targets, 6).ravel().tolist()))
        dim = theme.tokens().text_dim
        self._marks.show([(0.0, "", False, theme.tokens().line)] + [(y, "", False, dim) for y in levels[:8]])
        named = range(found.shape[1]) if 1 < found.shape[1] <= LEGEND else ()
        self._explain((GLYPHS[k], theme.trace_color(k), f"neuron {k}") for k in named)
        self._caption.say(_words(found, targets))

    def _neuron(self, k: int, at: FloatArray, found: FloatArray, targets: FloatArray | None) -> None:
        color = theme.trace_color(k)
        look = {"symbol": SYMBOLS[k % len(SYMBOLS)], "symbolSize": 8 if targets is None or targets.size <= BANDS else 4}
        self._curves.put(k, at, found, pen=None, symbolBrush=painted(color, 200), symbolPen=color, **look)

    def _band(self, at: FloatArray, offset: FloatArray, targets: FloatArray | None) -> None:
        """Where each neuron passes: from its target outwards."""
        if targets is None or targets.size > BANDS:
            self._bands.setOpts(x=[], y0=[], y1=[], width=0.1)
            return
        x = (at[:, None] + offset).ravel()
        y0 = targets.ravel()
        brushes = [painted(theme.trace_color(k), 60) for k in range(targets.shape[1])] * len(at)
        wide = 0.8 * (offset[1] - offset[0] if len(offset) > 1 else 0.8)
        self._bands.setOpts(x=x, y0=y0, y1=np.sign(y0), width=wide, brushes=brushes, pen=None, pens=None)


def passing(found: FloatArray, targets: FloatArray) -> int:
    """How many patterns have all their neurons beyond their targets."""
    return int(((np.sign(targets) * found) >= np.abs(targets)).all(axis=1).sum())


def _offsets(neurons: int) -> FloatArray:
    """Neurons stand beside each other, so that none hides another."""
    return (np.arange(neurons) - (neurons - 1) / 2) * 0.7 / max(neurons, 1)


def _words(found: FloatArray, targets: FloatArray | None) -> str:
    each = f"{found.shape[1]} neuron{'s' * (found.shape[1] != 1)} each"
    if targets is None:
        return f"{len(found)} patterns, {each}"
    return f"{passing(found, targets)} of {len(found)} patterns beyond their targets, {each}"
