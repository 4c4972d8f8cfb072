"""Weights as they were read back: a map with 0 in the middle of its colours, and how they are distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from PySide6.QtWidgets import QComboBox, QWidget

from neurobench.bench.stimulus import FloatArray
from neurobench.runs.history import Snapshot

from .. import theme
from ..selection import Selection
from .plots import (
    Canvas,
    Curves,
    HeatMap,
    Panel,
    Parts,
    histogram,
    line_of,
    name,
    painted,
    scaled,
    so_far,
    spanning,
    symmetric,
)

PARTS = (("Map", "Every weight at its place"), ("Histogram", "How the weights are distributed"))
NOTED = "weights of the run"


class WeightsView(Panel):
    """The weights that the run noted, or the cells of one connection of its network."""

    name: ClassVar[str] = "weights"
    title: ClassVar[str] = "Weights"
    every_s: ClassVar[float] = 0.1

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self._layer = QComboBox()
        self._layer.setAccessibleName("Layer whose weights are shown")
        self._layer.setToolTip("Which weights are shown: those that the run noted, or the cells of one connection")
        self._layer.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self._map = HeatMap()
        self._map.setAccessibleName("Map of weights; arrow keys move a cursor")
        self._spread = Canvas()
        self._plot = self._spread.add(0, 0, bottom="W", left="weights", whole="left")
        self._bars = Curves(self._plot)
        self._about = ""
        self._layer.activated.connect(self._chosen)
        self._map.pointed.connect(self._pointed)
        self._fill(Parts(26, ((*PARTS[0], self._map, 3), (*PARTS[1], self._spread, 2))), self._layer)

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        cells = snapshot.cells.conductance_s if self._layer.currentIndex() > 0 else None
        return snapshot.weights_s, snapshot.notes.get("network"), cells

    def _missing(self, snapshot: Snapshot) -> str:
        if snapshot.weights_s is not None or _connections(snapshot):
            return ""
        return f"The protocol {snapshot.about.protocol} has noted no weights {so_far(snapshot)}."

    def _draw(self, snapshot: Snapshot) -> None:
        self._offer(snapshot)
        grid_s, what, signed, rows = _chosen(snapshot, self._layer.currentText())
        factor, unit = scaled(grid_s, "S")
        grid = grid_s * factor
        self._map.paint_grid(grid, symmetric(grid) if signed else spanning(grid), "vik" if signed else "viridis", unit)
        name(self._map.plot, "left", rows[0])
        name(self._map.plot, "bottom", rows[1])
        self._distribution(grid, f"{what[0]} ({unit})")
        self._about = _words(grid, what, unit)
        self._unit = unit
        self._pointed()

    def _offer(self, snapshot: Snapshot) -> None:
        """The layers to choose from."""
        names = [NOTED] if snapshot.weights_s is not None else []
        names += [_named(one) for one in _connections(snapshot)]
        if names != [self._layer.itemText(n) for n in range(self._layer.count())]:
            self._layer.clear()
            self._layer.addItems(names)
        self._layer.setVisible(len(names) > 1)

    def _distribution(self, grid: FloatArray, label: str) -> None:
        edges, counts = histogram(grid, min(40, max(8, grid.size // 2)))
        color = theme.trace_color(0)
        self._bars.begin()
        look = {"stepMode": "center", "fillLevel": 0, "fillBrush": painted(color, 90), "pen": line_of(color)}
        self._bars.put("counts", edges, counts, **look)
        self._bars.end()
        name(self._plot, "bottom", label)

    def _chosen(self, _index: int) -> None:
        self.again()

    def _pointed(self) -> None:
        """The weight under the mouse or the cursor, also when it becomes another one; and what all of it is."""
        at, said = self._map.at, ""
        if at is not None:
            rows = self._map.plot.getAxis("left").labelText, self._map.plot.getAxis("bottom").labelText
            value = self._map.grid[at]
            words = f"{value:.4g} {self._unit}" if np.isfinite(value) else "never read"
            said = f"{rows[0]} {at[0]}, {rows[1]} {at[1]}: {words}   |   "
        self._caption.say(said + self._about)


def _connections(snapshot: Snapshot) -> Sequence[Mapping[str, Any]]:
    network = snapshot.notes.get("network")
    return tuple(network.get("connections") or ()) if isinstance(network, Mapping) else ()


def _named(connection: Mapping[str, Any]) -> str:
    return f"{connection['from']} → {connection['to']}"


def _chosen(snapshot: Snapshot, layer: str) -> tuple[FloatArray, tuple[str, str], bool, tuple[str, str]]:
    """Siemens [rows, cols], their letter and words, whether 0 is their middle, and the names of both sides."""
    for one in _connections(snapshot):
        if layer == _named(one):
            (row0, row1), (col0, col1) = one["rows"], one["cols"]
            cells = snapshot.cells.conductance_s[row0:row1, col0:col1]
            return cells, ("G", f"cells of {layer}, as read back"), False, ("row", "column")
    found = snapshot.weights_s
    assert found is not None
    grid = found if found.ndim == 2 else found.reshape(len(found), -1)
    if snapshot.single_cells:
        return grid, ("W", "single cells above the floor"), False, ("input", "neuron")
    return grid, ("W", "differential: W = G⁺ − G⁻"), True, ("input", "neuron")


def _words(grid: FloatArray, what: tuple[str, str], unit: str) -> str:
    known = grid[np.isfinite(grid)]
    size = f"{grid.shape[0]} × {grid.shape[1]}"
    if not len(known):
        return f"{what[1]}, {size}, none was read yet"
    return f"{what[1]}, {size}, mean {known.mean():.3g} ± {known.std():.3g} {unit}"
