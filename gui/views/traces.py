"""Conductance over time: the chosen cells one by one, all others as their median and quartiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QObject, QPointF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QKeyEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QGraphicsPolygonItem, QToolButton, QVBoxLayout, QWidget

from neurobench.bench.stimulus import BoolArray, FloatArray
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
SAMPLE = 4  # cells that are shown one by one while none is chosen
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
        self._sample: tuple[Cell, ...] = ()
        self.nothing = plots.NO_RUN
        self.at: float | None = None  # where the crosshair is, as on the axis
        self._times: FloatArray = np.zeros(0)
        self._values: FloatArray = np.zeros((0, 0))
        self._factors = (1.0, 1.0)
        self._unit = "s"
        self._bounds = _Bounds()
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
        self._banded = True
        self.plot = self.canvas.add(0, 0, "G", "time")
        self.curves = plots.Curves(self.plot)
        self._cross = pg.InfiniteLine(angle=90, movable=False)
        self._cross.hide()
        self.plot.addItem(self._cross, ignoreBounds=True)
        self._filling = QGraphicsPolygonItem()
        self._filling.setPen(QPen(Qt.PenStyle.NoPen))
        self._filling.setZValue(-1)
        self.plot.addItem(self._filling, ignoreBounds=True)
        self.plot.disableAutoRange()
        self.plot.hideButtons()
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
        cells = self.chosen or self._sample
        self.entries = [KeyEntry(self._names, theme.trace_pen(i), name_of(cell)) for i, cell in enumerate(cells)]
        pen = plots.line_of(theme.tokens().text_dim) if self._banded else QPen(Qt.PenStyle.NoPen)
        self.entries.append(KeyEntry(self._names, pen, BAND if self._banded else ""))
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
        if not self.chosen:
            self._take_sample(snapshot)
        inside = tuple(cell for cell in self.chosen or self._sample if _inside(cell, snapshot.about.shape))
        if inside:
            times, values = snapshot.history.trace(inside, snapshot.seq)
        else:
            times, values = np.zeros(0), np.zeros((0, 0))
        band_times, band = snapshot.history.band(snapshot.seq)
        self._times, self._values = np.asarray(times, np.float64), np.asarray(values, np.float64)
        factor, unit = scale_of(_largest(self._values, band), "S")
        numbered, every_s = self.by_read.isChecked(), np.append(band_times, times)
        time_factor, self._unit = (1.0, "") if numbered else plots.milliseconds(every_s)
        self._factors = time_factor, factor
        plots.name(self.plot, "left", f"G ({unit})")
        plots.name(self.plot, "bottom", "read number" if self.by_read.isChecked() else f"time ({self._unit})")
        self._draw_curves(inside, band_times, band)
        self._show_band(len(band_times) > 0)
        if self.follow.isChecked():
            self._keep_in_sight(tight=not snapshot.live)
        self._caption.say(self._words_of(len(inside)))
        self._say_values()

    def _words_of(self, one_by_one: int) -> str:
        shown = self.selection.count
        if not shown:
            return f"{plural(one_by_one, 'cell')} as a sample; choose cells in the map to see those"
        more = shown > one_by_one
        return f"{one_by_one} of {plural(shown, 'cell')} one by one" if more else plural(shown, "cell")

    def _show_band(self, there: bool) -> None:
        """The key names the band where there is one: reads of a few cells say nothing of all of them."""
        if there != self._banded:
            self._banded = there
            self._new_names()

    def _take_sample(self, snapshot: Snapshot) -> None:
        """While nothing is chosen: of a few cells that are spread over the array those that were read; if none, others.

        It depends on what is shown alone, and changes only while a run reads its cells for the first time.
        """
        known = np.isfinite(snapshot.cells.conductance_s)
        sample = _spread(~snapshot.about.excluded & known, ~snapshot.about.excluded) or _spread(known, known)
        if sample != self._sample:
            self._sample = sample
            self._new_names()

    def _draw_curves(self, inside: tuple[Cell, ...], band_times: FloatArray, band: FloatArray) -> None:
        factor, dim = self._factors[1], theme.tokens().text_dim
        x, band = _thinned_band(self._x(band_times), band)
        self.curves.begin()
        band = band * factor
        around = np.concatenate([band[:, 0], band[::-1, 2]])
        there = pg.functions.arrayToQPolygonF(np.concatenate([x, x[::-1]]), around) if len(x) else QPolygonF()
        self._filling.setPolygon(there)
        self.curves.put("median", x, band[:, 1], pen=plots.line_of(dim), **_thinned(len(x)))
        self._bounds = _Bounds().taken(x, band)
        at, follows = self._x(self._times), self.follow.isChecked()
        most = int(np.isfinite(self._values).sum(axis=0).max(initial=0))  # all are marked, or none; a lone point always
        for i, cell in enumerate(inside):
            known = np.isfinite(self._values[:, i])
            x, y = at[known], self._values[known, i] * factor
            self._bounds = self._bounds.taken(x, y)
            x, y = peaks(x, y) if follows else (x, y)
            self.curves.put(cell, x, y, **self._look(i, most if len(x) > 1 else len(x)))
        self.curves.end()

    def _keep_in_sight(self, *, tight: bool) -> None:
        """Show all of it. In a live run there is room to grow into, so that the axes are not made anew each time.

        A run that is over has the same axes whatever was looked at before.
        """
        if self._bounds.known:
            view = self.plot.viewRange()
            x, y = self._bounds.room([] if tight else view, spare=0.02 if tight else 0.15)
            if [x, y] != view:
                self.plot.setRange(xRange=x, yRange=y, padding=0)

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
        self._filling.setBrush(plots.painted(t.text_dim, 50))
        self._cross.setPen(plots.line_of(t.text_dim, Qt.PenStyle.DashLine))
        self._new_names()  # its lines have the colours of before

    # -- range and crosshair ------------------------------------------------------------------------------------

    def _follow(self, _on: bool) -> None:
        """All of it, thinned; or, where somebody looks closer, all points."""
        self.again()

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
            return
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


class _Bounds(NamedTuple):
    """What is drawn reaches from here to there."""

    left: float = math.inf
    right: float = -math.inf
    low: float = math.inf
    high: float = -math.inf

    @property
    def known(self) -> bool:
        """Whether there is anything."""
        return self.left <= self.right and self.low <= self.high

    def taken(self, x: FloatArray, y: FloatArray) -> _Bounds:
        """With these points too."""
        y = y[np.isfinite(y)]
        if not (len(x) and len(y)):
            return self
        return _Bounds(
            min(self.left, float(x[0])), max(self.right, float(x[-1])),
            min(self.low, float(y.min())), max(self.high, float(y.max())),
        )  # fmt: skip

    def room(self, view: list[list[float]], spare: float) -> tuple[list[float], list[float]]:
        """Ranges of x and y that hold all of it: those of `view`, unless it has left them or fills little of them."""
        x, y = _around(self.left, self.right, 0.02, spare), _around(self.low, self.high, 0.06, 0.06)
        if view and _fits(self.left, self.right, view[0], 0.8):
            x = view[0]
        if view and _fits(self.low, self.high, view[1], 0.7):
            y = view[1]
        return x, y


def _fits(low: float, high: float, seen: list[float], share: float) -> bool:
    return seen[0] <= low and high <= seen[1] and high - low >= share * (seen[1] - seen[0])


def _around(low: float, high: float, below: float, above: float) -> list[float]:
    size = (high - low) or abs(high) or 1.0
    return [low - below * size, high + above * size]


def peaks(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A long curve as the lowest and the highest of its points, for one place after another."""
    per = -(-len(x) // WIDEST)
    if per <= 4:
        return x, y
    whole = len(x) // per * per
    parts = y[:whole].reshape(-1, per)
    first = np.arange(0, whole, per)
    ends = np.sort([first + parts.argmin(axis=1), first + parts.argmax(axis=1)], axis=0).T.reshape(-1)
    which = np.append(ends, np.arange(whole, len(x)))
    return x[which], y[which]


def _spread(of: BoolArray, among: BoolArray) -> tuple[Cell, ...]:
    """A few cells of a mask [rows, cols]: those that are also in the places spread evenly among another one's cells."""
    cells = np.argwhere(among)
    places = np.unique(np.linspace(0, max(len(cells) - 1, 0), SAMPLE).round().astype(int))[: len(cells)]
    return tuple((int(row), int(col)) for row, col in cells[places] if of[row, col])


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
