"""Conductance over time: the chosen cells one by one, all others as their median and quartiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QObject, QPointF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QKeyEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QToolButton, QVBoxLayout, QWidget

from neurobench.bench.stimulus import FloatArray
from neurobench.runs.screen import si

from .. import theme
from ..parts.flow import FlowLayout
from ..selection import Cell, Selection, name_of
from . import plots
from .quantities import plural, scale_of

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

    from ..frame.actions import Actions

MOST = 8  # traces at once: more cannot be told apart
MANY = 10_000  # points from which a curve is thinned to the width of the view, its peaks kept
FEW = 60  # points that are also marked one by one
BAND = "all cells: median, quartiles"
WIDEST = 600  # points of the band: it is thinned to as many


class KeyEntry(QWidget):
    """One entry of the key: a piece of the line, the cell's name, and its value where the mouse is."""

    def __init__(self, parent: QWidget, pen: QPen, name: str) -> None:
        super().__init__(parent)
        self._pen, self.name, self.value = pen, name, ""
        self._widest = name
        self.setAccessibleName(name)

    def say(self, value: str) -> None:
        """The value beside the name."""
        if value == self.value:
            return
        self.value = value
        self.setAccessibleName(self.text)
        if len(self.text) > len(self._widest):  # it grows and does not shrink: the key stays calm
            self._widest = self.text
            self.updateGeometry()
        self.update()

    @property
    def text(self) -> str:
        """What stands beside the line."""
        return f"{self.name}  {self.value}".strip()

    def sizeHint(self) -> QSize:  # noqa: N802
        """The line and the text."""
        metrics = QFontMetrics(self.font())
        return QSize(metrics.horizontalAdvance(self._widest) + 2 * theme.em() + 6, metrics.height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """As it is."""
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """The line and the text."""
        del event
        painter, long = QPainter(self), int(1.6 * theme.em())
        pen = QPen(self._pen)
        pen.setWidth(2)
        painter.setPen(pen)
        painter.drawLine(0, self.height() // 2, long, self.height() // 2)
        painter.setPen(QColor(theme.tokens().text))
        room = self.rect().adjusted(long + 5, 0, 0, 0)
        painter.drawText(room, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), self.text)


class TracesView(plots.Panel):
    """See the module. `chosen`: the cells that are shown one by one."""

    name = "traces"
    title = "Conductance over time"

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.selection = selection if selection is not None else Selection(parent=self)
        self.chosen: tuple[Cell, ...] = ()
        self.nothing = plots.NO_RUN
        self.at: float | None = None  # where the crosshair is, as on the axis
        self._times: FloatArray = np.zeros(0)
        self._values: FloatArray = np.zeros((0, 0))
        self._factors = (1.0, 1.0)
        self._unit = "s"
        self.entries: list[KeyEntry] = []
        body = self._body_of()
        self.follow = self._toggle(
            "Follow", "Keep all in sight as it grows; off once you zoom or move the plot (Home)", on=True
        )
        self.by_read = self._toggle("by read", "Number the reads instead of the time between them")
        self.follow.toggled.connect(self._follow)
        self.by_read.toggled.connect(self.again)
        for button in (self.follow, self.by_read):
            self._names_row.addWidget(button)
        self._fill(body)
        self._take_selection()
        self.selection.changed.connect(self._selected)

    def _body_of(self) -> QWidget:
        body = QWidget(self)
        self.canvas = plots.Canvas(body)
        self.plot = self.canvas.add(0, 0, "G", "time")
        self.curves = plots.Curves(self.plot)
        self._cross = pg.InfiniteLine(angle=90, movable=False)
        self._cross.hide()
        self.plot.addItem(self._cross, ignoreBounds=True)
        self._low, self._high = pg.PlotDataItem(), pg.PlotDataItem()
        self._fillings = pg.FillBetweenItem(self._low, self._high)
        self._names = QWidget(body)
        self._names_row = FlowLayout(self._names, 8)
        whole = QVBoxLayout(body)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(2)
        whole.addWidget(self.canvas, 1)
        whole.addWidget(self._names)
        self.plot.getViewBox().sigRangeChangedManually.connect(self._moved_by_hand)
        self.canvas.scene().sigMouseMoved.connect(self._mouse)
        self.canvas.viewport().installEventFilter(self)
        return body

    def _toggle(self, words: str, tip: str, *, on: bool = False) -> QToolButton:
        button = QToolButton(self)
        button.setText(words)
        button.setCheckable(True)
        button.setChecked(on)
        button.setToolTip(tip)
        button.setAccessibleName(words)
        button.setStyleSheet("QToolButton { padding: 1px 4px; }")
        return button

    def listen(self, actions: Actions) -> None:
        """Do what the window's keys ask for, while this view can be seen."""
        actions.by_name("fit").triggered.connect(self._fit_if_seen)

    def _fit_if_seen(self) -> None:
        if self.isVisible():
            self.follow.setChecked(True)

    # -- the selection ------------------------------------------------------------------------------------------

    def _take_selection(self) -> None:
        chosen = tuple(self.selection.cells[:MOST]) if self.selection.count <= 4 * MOST else self._first()
        if chosen != self.chosen:
            self.chosen = chosen
            self._new_names()

    def _first(self) -> tuple[Cell, ...]:
        """The first few of very many: without a list of all of them."""
        flat = np.flatnonzero(self.selection.mask)[:MOST]
        rows, cols = np.unravel_index(flat, self.selection.shape)
        return tuple(zip(rows.tolist(), cols.tolist(), strict=True))

    def _selected(self) -> None:
        before = self.chosen
        self._take_selection()
        if self.chosen is not before:
            self.again()

    def _new_names(self) -> None:
        for entry in self.entries:
            self._names_row.removeWidget(entry)
            entry.hide()
            entry.deleteLater()
        self.entries = [KeyEntry(self._names, theme.trace_pen(i), name_of(cell)) for i, cell in enumerate(self.chosen)]
        self.entries.append(KeyEntry(self._names, plots.line_of(theme.tokens().text_dim), BAND))
        for entry in self.entries:
            self._names_row.addWidget(entry)
            entry.show()

    # -- drawing ------------------------------------------------------------------------------------------------

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return snapshot.history, snapshot.cells.conductance_s, self.chosen

    def draw(self, snapshot: Snapshot | None) -> None:
        """See Panel; where there is no run, the words are those of the page."""
        super().draw(snapshot)
        if snapshot is None:
            self._words.setText(self.nothing)

    def _missing(self, snapshot: Snapshot) -> str:
        if np.isnan(snapshot.cells.conductance_s).all():
            return "No cell has been read in this run yet."
        return ""

    def _draw(self, snapshot: Snapshot) -> None:
        inside = tuple(cell for cell in self.chosen if _inside(cell, snapshot.about.shape))
        if inside:
            times, values = snapshot.history.trace(inside, snapshot.seq)
        else:
            times, values = np.zeros(0), np.zeros((0, 0))
        band_times, band = snapshot.history.band(snapshot.seq)
        self._times, self._values = np.asarray(times, np.float64), np.asarray(values, np.float64)
        factor, unit = scale_of(_largest(self._values, band), "S")
        time_factor, self._unit = (1.0, "") if self.by_read.isChecked() else plots.milliseconds(band_times)
        self._factors = time_factor, factor
        plots.name(self.plot, "left", f"G ({unit})")
        plots.name(self.plot, "bottom", "read number" if self.by_read.isChecked() else f"time ({self._unit})")
        self._draw_curves(inside, band_times, band)
        shown = self.selection.count
        more = f"{len(inside)} of {plural(shown, 'cell')} one by one" if shown > len(inside) else plural(shown, "cell")
        self._caption.say(more if shown else "choose cells in the map to see them one by one")
        self._say_values()

    def _draw_curves(self, inside: tuple[Cell, ...], band_times: FloatArray, band: FloatArray) -> None:
        factor, dim = self._factors[1], theme.tokens().text_dim
        x, band = _thinned_band(self._x(band_times), band)
        self.curves.begin()
        if len(x) > 1:  # of one point there is nothing to fill, and an empty path reaches to 0
            for item, column in ((self._low, 0), (self._high, 2)):
                item.setData(x, band[:, column] * factor)
        self._fill_between(len(x) > 1)
        self.curves.put("median", x, band[:, 1] * factor, pen=plots.line_of(dim), **_thinned(len(x)))
        at = self._x(self._times)
        for i, cell in enumerate(inside):
            known = np.isfinite(self._values[:, i])
            self.curves.put(cell, at[known], self._values[known, i] * factor, **self._look(i, int(known.sum())))
        self.curves.end()

    def _fill_between(self, there: bool) -> None:
        if there and self._fillings.scene() is None:
            self.plot.addItem(self._fillings)
        elif not there and self._fillings.scene() is not None:
            self.plot.removeItem(self._fillings)

    def _look(self, i: int, points: int) -> dict[str, Any]:
        """The i-th curve: few points are marked, so that a single read is seen too."""
        few = {"symbol": "o", "symbolSize": 5, "symbolBrush": theme.trace_color(i), "symbolPen": None}
        return {"pen": theme.trace_pen(i), **(few if points <= FEW else {"symbol": None}), **_thinned(points)}

    def _x(self, times: FloatArray) -> FloatArray:
        """Where reads stand on the axis."""
        if self.by_read.isChecked():
            return np.arange(1.0, len(times) + 1)
        return np.asarray(times, np.float64) * self._factors[0]

    def _styled(self) -> None:
        t = theme.tokens()
        self._fillings.setBrush(plots.painted(t.text_dim, 50))
        self._cross.setPen(plots.line_of(t.text_dim, Qt.PenStyle.DashLine))
        self.chosen = ()
        self._take_selection()
        if not self.entries:
            self._new_names()

    # -- range and crosshair ------------------------------------------------------------------------------------

    def _follow(self, on: bool) -> None:
        self.plot.enableAutoRange(enable=on)

    def _moved_by_hand(self, _axes: object) -> None:
        self.follow.setChecked(False)

    def _mouse(self, at: QPointF) -> None:
        view = self.plot.getViewBox()
        inside = view.sceneBoundingRect().contains(at)
        self._set_cross(float(view.mapSceneToView(at).x()) if inside else None)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """The mouse leaves the plot: the newest values are told again."""
        if event.type() == QEvent.Type.Leave:
            self._set_cross(None)
        return super().eventFilter(watched, event)

    def _set_cross(self, at: float | None) -> None:
        self.at = at
        self._cross.setVisible(at is not None)
        if at is not None:
            self._cross.setPos(at)
        self._say_values()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Left and right go from read to read; Home shows all and follows."""
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        if event.key() == Qt.Key.Key_Home:
            self._set_cross(None)
            self.follow.setChecked(True)
        if steps is None or not len(self._times):
            super().keyPressEvent(event)
            return
        x = self._x(self._times)
        now = len(x) if self.at is None else int(np.searchsorted(x, self.at))
        self._set_cross(float(x[min(max(now + steps, 0), len(x) - 1)]))

    def _say_values(self) -> None:
        """Beside every name: the value at the crosshair, or the newest one."""
        x = self._x(self._times)
        for i in range(min(len(self.entries) - 1, self._values.shape[1])):
            self.entries[i].say(si(_value_at(x, self._values[:, i], self.at), "S").replace("unknown", "not read"))
        if self.at is not None:
            where = f"read {self.at:.0f}" if self.by_read.isChecked() else f"t = {self.at:.4g} {self._unit}"
            self.entries[-1].say(f"at {where}")
        elif self.entries:
            self.entries[-1].say("")

    @property
    def words(self) -> list[str]:
        """What the key says."""
        return [entry.text for entry in self.entries]


def _inside(cell: Cell, shape: Cell) -> bool:
    return cell[0] < shape[0] and cell[1] < shape[1]


def _largest(*values: FloatArray) -> float:
    """The largest of all known values."""
    known = [float(np.nanmax(np.abs(one))) for one in values if one.size and np.isfinite(one).any()]
    return max(known, default=math.nan)


def _thinned(points: int) -> dict[str, Any]:
    """A long curve is thinned to the width of the view, and its peaks stay."""
    many = points > MANY
    return {"autoDownsample": many, "downsampleMethod": "peak", "clipToView": many}


def _thinned_band(x: FloatArray, band: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A long band as the extremes of its quartiles and the middle of its medians, for one place after another."""
    per = -(-len(x) // WIDEST)
    if per <= 1:
        return x, band
    whole = len(x) // per * per
    parts = band[:whole].reshape(-1, per, 3)
    thin = np.stack([parts[:, :, 0].min(1), np.median(parts[:, :, 1], axis=1), parts[:, :, 2].max(1)], axis=1)
    rest = band[whole:]
    return np.concatenate([x[:whole:per], x[whole:]]), np.concatenate([thin, rest])


def _value_at(x: FloatArray, values: FloatArray, at: float | None) -> float:
    """The last value that was known at a place of the axis; at None: the newest."""
    known = np.flatnonzero(np.isfinite(values) if at is None else np.isfinite(values) & (x <= at * (1 + 1e-12)))
    return float(values[known[-1]]) if known.size else math.nan
