"""What the live views are made of: a panel with words where there is nothing to see, plots and maps in the theme."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QHideEvent,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QShowEvent,
)
from PySide6.QtWidgets import (
    QApplication,
    QButtonGroup,
    QHBoxLayout,
    QLabel,
    QSplitter,
    QStackedLayout,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from neurobench.bench.stimulus import FloatArray
from neurobench.runs.drawing import SIMULATED, si_scale
from neurobench.runs.history import Snapshot

from .. import theme
from ..parts.line import Line
from .base import BY_HAND, View

NO_RUN = "No run is open. F5 starts one."
STALE_S = 2.0  # without news from a run that goes on, until a view says so
LOW = 9  # heights of a line: a lower view shows no key
SCALARS = (str, int, float, bool, type(None))


def scaled(values: FloatArray, base: str) -> tuple[float, str]:
    """Factor and unit for an axis: as `si_scale`, of any base unit."""
    factor, unit = si_scale(values)
    return factor, unit.replace("S", base)


def milliseconds(times_s: FloatArray) -> tuple[float, str]:
    """Factor and unit for an axis of times."""
    largest = float(np.nanmax(np.abs(times_s))) if np.isfinite(times_s).any() else 0.0
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if 0 < largest < limit:
            return factor, unit
    return 1.0, "s"


def painted(color: str, alpha: int = 255) -> QColor:
    """A token as a colour, more or less opaque."""
    made = QColor(color)
    made.setAlpha(alpha)
    return made


def line_of(color: str, style: Qt.PenStyle = Qt.PenStyle.SolidLine) -> QPen:
    """A line one pixel wide: wider ones are several times slower."""
    pen = QPen(QColor(color), 1)
    pen.setCosmetic(True)
    pen.setStyle(style)
    return pen


def so_far(snapshot: Snapshot) -> str:
    """When: `yet` in a run that goes on, up to the step that is shown, or in all of a run that is over."""
    if snapshot.seq < snapshot.last_seq:
        return "up to this step"
    return "yet" if snapshot.live else "in this run"


class Panel(View):
    """A view: a line of words and the mark SIMULATED above its body, or a sentence where there is nothing to see.

    A view says by `_parts` which objects of a snapshot it draws (nothing is done while they are the same), by
    `_missing` why there is nothing to draw, and draws in `_draw`. Home shows all of a plot again.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # what lies below is not painted with every frame
        self.setAccessibleName(self.title)
        self.snapshot: Snapshot | None = None
        self._drawn: tuple[object, ...] | None = None
        self._make_labels()
        self._heard = time.monotonic()
        self._clock = QTimer(self)
        self._clock.setInterval(500)
        self._clock.timeout.connect(self._look_for_news)
        self._head = QHBoxLayout()
        self._head.addWidget(self._caption, 1)
        self._head.addWidget(self._stale)
        self._head.addWidget(self._simulated)
        self._body = QStackedLayout()
        self._body.addWidget(self._words)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(6, 4, 6, 4)
        whole.setSpacing(4)
        whole.addLayout(self._head)
        whole.addWidget(self._key)
        whole.addLayout(self._body, 1)
        self._simulated.hide()
        self._canvases: list[Canvas] = []
        self._controls_of_head: tuple[QWidget, ...] = ()

    def _make_labels(self) -> None:
        """Caption, mark, words, key: what is written in every view."""
        self._caption = Line(self)
        self._simulated = QLabel(SIMULATED, self)
        self._simulated.setProperty("role", "simulated")
        self._simulated.setAccessibleName("What is shown comes from a simulated chip")
        self._simulated.setToolTip("This comes from an emulated or simulated chip: no hardware was measured.")
        self._stale = QLabel(self)
        self._stale.setProperty("role", "warn")
        self._stale.setToolTip("The run goes on, but nothing new has come from it since. What is shown is that old.")
        self._stale.hide()
        self._words = QLabel(NO_RUN, self)
        self._words.setWordWrap(True)
        self._words.setProperty("role", "dim")
        self._words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._key = QLabel(self)
        self._key.setTextFormat(Qt.TextFormat.RichText)
        self._key.setWordWrap(True)
        self._key.hide()

    def _fill(self, body: QWidget, *controls: QWidget) -> None:
        """Put in the body, and the controls right of the caption. The last thing in a view's constructor."""
        self._body.addWidget(body)
        self._controls_of_head = controls
        for n, control in enumerate(controls):
            self._head.insertWidget(1 + n, control)
        self._canvases = [body] if isinstance(body, Canvas) else body.findChildren(Canvas)
        self.restyle()

    def _explain(self, entries: Iterable[tuple[str, str, str]]) -> None:
        """The key of the marks, above the plot, where it hides nothing: mark, colour and words of each."""
        told = [f'<span style="color:{color}">{escape(mark)}</span>&nbsp;{escape(words).replace(" ", "&nbsp;")}'
                for mark, color, words in entries]  # fmt: skip
        text = "&nbsp;&nbsp; ".join(told)
        if text != self._key.text():
            self._key.setText(text)
            self._key.setToolTip(text)
        self._make_room()

    def _make_room(self) -> None:
        """The key gives way where the view is low."""
        self._key.setVisible(
            bool(self._key.text()) and self.height() >= LOW * theme.em() + self._key.sizeHint().height()
        )

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """See what there is room for."""
        super().resizeEvent(event)
        self._make_room()

    # -- what a view says of itself ------------------------------------------------------------------------------

    def lacks(self, snapshot: Snapshot) -> bool:
        """See View."""
        return bool(self._missing(snapshot))

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        raise NotImplementedError

    def _missing(self, snapshot: Snapshot) -> str:
        raise NotImplementedError

    def _draw(self, snapshot: Snapshot) -> None:
        raise NotImplementedError

    # -- what the window asks of it ------------------------------------------------------------------------------

    def draw(self, snapshot: Snapshot | None) -> None:
        """Show this snapshot; nothing is done if what this view draws of it is drawn already."""
        self.snapshot, self._heard = snapshot, time.monotonic()
        self._stale.hide()
        parts = () if snapshot is None else (snapshot.about, so_far(snapshot), *self._parts(snapshot))
        if self._drawn is not None and _same(parts, self._drawn):
            return
        self._drawn = parts
        words = NO_RUN if snapshot is None else self._missing(snapshot)
        self._simulated.setVisible(snapshot is not None and snapshot.about.simulated)
        self._words.setText(words)
        self._body.setCurrentIndex(0 if words else self._body.count() - 1)
        self._caption.say("")
        for control in self._controls_of_head:
            control.setVisible(not words)
        if words:
            self._explain(())
        if snapshot is not None and not words:
            self._draw(snapshot)
        self.setAccessibleDescription(words or self._caption.text())

    def _look_for_news(self) -> None:
        """A run that goes on and says nothing is told: what is seen may be old."""
        shown, silent_s = self.snapshot, time.monotonic() - self._heard
        runs = shown is not None and shown.live and shown.status == "running" and shown.about.protocol != BY_HAND
        newest = shown is not None and runs and shown.seq >= shown.last_seq
        if newest and silent_s >= STALE_S:
            self._stale.setText(f"! no news for {silent_s:.0f} s")
        self._stale.setVisible(newest and silent_s >= STALE_S)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Look for news only while anybody sees it."""
        super().showEvent(event)
        self._heard = time.monotonic()
        self._clock.start()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """Look for news only while anybody sees it."""
        super().hideEvent(event)
        self._clock.stop()

    def again(self) -> None:
        """Draw the same snapshot again: a setting of the view has changed."""
        self._drawn = None
        self.draw(self.snapshot)

    def restyle(self) -> None:
        """Colours or font sizes have changed."""
        self.setMinimumSize(8 * theme.em(), 6 * theme.em())
        for canvas in self._canvases:
            canvas.restyle()
        self._styled()
        self.again()

    def _styled(self) -> None:
        """Whatever a view has to colour besides its plots."""

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Home shows all again."""
        if event.key() == Qt.Key.Key_Home:
            for canvas in self._canvases:
                canvas.show_all()
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        """Who has the keyboard is seen."""
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        """Who has the keyboard is seen."""
        super().focusOutEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """The ground, and a frame while the view has the keyboard."""
        super().paintEvent(event)
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(theme.tokens().panel))
        if self.hasFocus():
            painter.setPen(QPen(QColor(theme.tokens().accent), 1))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether the same objects are to be drawn; numbers and words by their value."""
    return len(one) == len(other) and all(
        a is b or (isinstance(a, SCALARS) and type(a) is type(b) and a == b) for a, b in zip(one, other, strict=True)
    )


# ---------------------------------------------------------------------------------------------- plots


class Canvas(pg.GraphicsLayoutWidget):
    """Plots side by side; right clicks open no menu, since its exports would not say SIMULATED."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.viewport().setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # its ground is painted, by itself
        self.plots: list[Any] = []
        self.ci.layout.setContentsMargins(0, 5, 4, 0)  # the half of a number that stands above its tick
        self.ci.layout.setSpacing(2)

    def add(self, row: int, col: int, left: str = "", bottom: str = "", whole: str = "") -> Any:
        """A plot in the grid; `whole`: the axis that counts, with ticks at whole numbers only."""
        axes = {whole: WholeAxis(whole)} if whole else None
        plot = self.addPlot(row=row, col=col, axisItems=axes, enableMenu=False)  # a menu takes as long as all the rest
        for side, words in (("left", left), ("bottom", bottom)):
            plot.getAxis(side).enableAutoSIPrefix(False)
            name(plot, side, words)
        self.plots.append(plot)
        return plot

    def restyle(self) -> None:
        """Colours and fonts of now."""
        self.setBackground(theme.tokens().panel)
        for plot in self.plots:
            style(plot)

    def show_all(self) -> None:
        """Every plot as wide as what it shows."""
        for plot in self.plots:
            plot.enableAutoRange()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Small: docks give it what room there is."""
        return QSize(16 * theme.em(), 10 * theme.em())


def style(plot: Any) -> None:
    """The theme's look of one plot, its labels in the size of the font."""
    theme.style_plot(plot)
    font = QApplication.font()
    for side in ("left", "bottom", "right", "top"):
        plot.getAxis(side).label.setFont(font)


def name(plot: Any, side: str, words: str) -> None:
    """The words beside an axis; nothing is done if they stand there."""
    axis = plot.getAxis(side)
    if axis.labelText != words:
        axis.setLabel(words)
        axis.showLabel(bool(words))


class WholeAxis(pg.AxisItem):
    """An axis of things that are counted."""

    def tickSpacing(self, least: float, most: float, size: float) -> list[tuple[float, float]]:  # noqa: N802
        """No ticks between whole numbers."""
        found = [(spacing, offset) for spacing, offset in super().tickSpacing(least, most, size) if spacing >= 1]
        return found or [(1.0, 0.0)]


class Curves:
    """The curves of a plot by name: what is not given again is taken away, and nothing is drawn twice."""

    def __init__(self, plot: Any) -> None:
        self._plot = plot
        self.items: dict[Hashable, Any] = {}
        self._new: set[Hashable] = set()

    def begin(self) -> None:
        """A new picture begins."""
        self._new = set()

    def put(self, key: Hashable, x: FloatArray, y: FloatArray, **look: Any) -> Any:
        """One curve of the picture; `look` as for PlotDataItem."""
        self._new.add(key)
        if not (np.isfinite(x).any() and np.isfinite(y).any()):  # nothing but nan has no bounds
            x, y, look["stepMode"] = np.zeros(0), np.zeros(0), None
        item = self.items.get(key)
        if item is None:
            item = self.items[key] = pg.PlotDataItem()
            self._plot.addItem(item)
        item.setData(x, y, **look)
        return item

    def end(self) -> None:
        """The picture is complete."""
        for key in set(self.items) - self._new:
            self._plot.removeItem(self.items.pop(key))


class Marks:
    """Lines across a plot with a word beside them: limits, goals. The same rule as for `Curves`."""

    def __init__(self, plot: Any) -> None:
        self._plot = plot
        self.items: list[Any] = []
        self._said: tuple[float, list[tuple[float, str, bool, str]]] = (0.0, [])

    def show(self, wanted: Iterable[tuple[float, str, bool, str]]) -> None:
        """Lines as (where, words, upright, colour)."""
        said = list(wanted)
        if (theme.scale(), said) == self._said:
            return
        self._said = theme.scale(), said
        for item in self.items:
            self._plot.removeItem(item)
        self.items = [self._line(*one) for one in said]

    def _line(self, at: float, words: str, upright: bool, color: str) -> Any:
        style = Qt.PenStyle.DotLine if upright else Qt.PenStyle.DashLine
        place = {"position": 0.9 if upright else 0.02, "color": color, "anchors": [(0, 0.5), (1, 0.5)],
                 "fill": painted(theme.tokens().panel, 190)}  # fmt: skip
        if not upright:
            place["anchors"] = [(0, 0), (0, 1)]
        line = pg.InfiniteLine(at, 90 if upright else 0, line_of(color, style), label=words or None, labelOpts=place)
        if words:
            line.label.setFont(QApplication.font())
        self._plot.addItem(line)
        return line


# ---------------------------------------------------------------------------------------------- maps


class HeatMap(Canvas):
    """A grid of numbers as colours, with its scale; `pointed` tells that `at` has changed."""

    pointed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.grid: FloatArray = np.zeros((0, 0))
        self.plot = self.add(0, 0)
        self.plot.invertY(True)
        self.plot.setMouseEnabled(False, False)
        self.plot.hideButtons()
        self.image = pg.ImageItem(axisOrder="row-major")
        self.plot.addItem(self.image)
        self.bar = pg.ColorBarItem(width=12, interactive=False, colorMapMenu=False)
        self.bar.setImageItem(self.image, insert_in=self.plot)
        self.bar.axis.setWidth(None)
        self.bar.axis.enableAutoSIPrefix(False)
        self._cursor: tuple[int, int] = (0, 0)
        self._at: tuple[int, int] | None = None
        self._frame = pg.PlotCurveItem()
        self.plot.addItem(self._frame)
        self._map = ""
        self.scene().sigMouseMoved.connect(self._hover)

    @property
    def at(self) -> tuple[int, int] | None:
        """Where the mouse is, or the cursor that arrow keys move; None: nowhere."""
        inside = self._at is not None and self._at[0] < self.grid.shape[0] and self._at[1] < self.grid.shape[1]
        return self._at if inside else None

    def _point(self, at: tuple[int, int] | None) -> None:
        if at != self._at:
            self._at = at
            self.pointed.emit()

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802
        """The mouse points at nothing any more."""
        super().leaveEvent(event)
        self._point(None)

    def paint_grid(self, grid: FloatArray, levels: tuple[float, float], colors: str, unit: str) -> None:
        """Show numbers [rows, cols]; nan is left empty."""
        if colors != self._map:
            self._map = colors
            self.bar.setColorMap(theme.map_of(colors))
        new_shape = grid.shape != self.grid.shape
        self.grid = grid
        low, high = levels
        self.image.setImage(grid, autoLevels=False, levels=(low, high if high > low else low + 1.0))
        self.bar.setLevels((low, high if high > low else low + 1.0))
        if self.bar.axis.labelText != unit:
            self.bar.axis.setLabel(unit)
            style(self.bar)
            self.bar.axis.label.setFont(QApplication.font())
        if new_shape:
            self._fit()

    def _fit(self) -> None:
        rows, cols = self.grid.shape
        self.plot.setRange(QRectF(0, 0, cols, rows), padding=0.01)
        for side, count in (("left", rows), ("bottom", cols)):
            every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1 << 30) if 8 * n >= count)
            self.plot.getAxis(side).setTicks([[(n + 0.5, str(n)) for n in range(0, count, every)]])
        self._cursor = (0, 0)
        self._show_cursor()

    def restyle(self) -> None:
        """Colours and fonts of now."""
        super().restyle()
        theme.style_plot(self.bar)
        self.bar.axis.label.setFont(QApplication.font())
        self._show_cursor()

    def show_all(self) -> None:
        """It always shows all."""

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Arrows move the cursor."""
        moves = {Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0), Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1)}
        move = moves.get(Qt.Key(event.key()))
        if move is None or not self.grid.size:
            super().keyPressEvent(event)
            return
        rows, cols = self.grid.shape
        self._cursor = (
            min(max(self._cursor[0] + move[0], 0), rows - 1), min(max(self._cursor[1] + move[1], 0), cols - 1)
        )  # fmt: skip
        self._show_cursor()
        self._point(self._cursor)

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        """The cursor is seen while the map has the keyboard."""
        super().focusInEvent(event)
        self._show_cursor()

    def focusOutEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        """The cursor is seen while the map has the keyboard."""
        super().focusOutEvent(event)
        self._show_cursor()

    def _show_cursor(self) -> None:
        row, col = self._cursor
        self._frame.setVisible(self.hasFocus() and bool(self.grid.size))
        self._frame.setData(
            np.array([0.0, 1, 1, 0, 0]) + col, np.array([0.0, 0, 1, 1, 0]) + row, pen=line_of(theme.tokens().accent)
        )

    def _hover(self, place: Any) -> None:
        if not self.plot.vb.sceneBoundingRect().contains(place):
            self._point(None)
            return
        at = self.plot.vb.mapSceneToView(place)
        row, col = int(np.floor(at.y())), int(np.floor(at.x()))
        inside = 0 <= row < self.grid.shape[0] and 0 <= col < self.grid.shape[1]
        self._point((row, col) if inside else None)


DASHES = ("―", "╌", "┈", "┉")  # in a key, as the pens of the traces are dashed


def dash_of(n: int) -> str:
    """How the line of the n-th trace looks in a key."""
    return DASHES[(n // 4) % len(DASHES)]


def toggle(words: str, tip: str) -> QToolButton:
    """A button that stays down."""
    button = QToolButton()
    button.setText(words)
    button.setToolTip(tip)
    button.setAccessibleName(words)
    button.setCheckable(True)
    return button


def symmetric(values: FloatArray) -> tuple[float, float]:
    """Levels with 0 in the middle."""
    reach = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    return -(reach or 1.0), reach or 1.0


def spanning(values: FloatArray) -> tuple[float, float]:
    """Levels from the least to the most."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def histogram(values: FloatArray, bins: int = 40) -> tuple[FloatArray, FloatArray]:
    """Edges [n + 1] and counts [n] of what is finite."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(2), np.zeros(1)
    counts, edges = np.histogram(known, bins)
    return edges, counts.astype(np.float64)


class Parts(QWidget):
    """Parts of a view beside each other; where there is no room for all of them one is shown, by choice.

    Each part is (words and tip of its button, widget, share of the room); `narrow`: the width that all of them need, in
    heights of a line.
    """

    changed = Signal(int)  # which part is shown; -1: all

    def __init__(self, narrow: int, parts: Sequence[tuple[str, str, QWidget, int]]) -> None:
        super().__init__()
        self._narrow = narrow
        self._parts = tuple(part for _, _, part, _ in parts)
        self._choice = QButtonGroup(self)
        split = QSplitter(Qt.Orientation.Horizontal)
        split.setChildrenCollapsible(False)
        row = QHBoxLayout()
        for n, (words, tip, part, share) in enumerate(parts):
            button = toggle(words, tip)
            self._choice.addButton(button, n)
            row.addWidget(button)
            split.addWidget(part)
            split.setStretchFactor(n, share)
        row.addStretch(1)
        self._choice.button(0).setChecked(True)
        self._choice.idToggled.connect(self._fit)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(split, 1)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """See what there is room for."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self, _id: int = 0, on: bool = True) -> None:
        narrow = self.width() < self._narrow * theme.em()
        for n, part in enumerate(self._parts if on else ()):
            self._choice.button(n).setVisible(narrow)
            part.setVisible(not narrow or n == self._choice.checkedId())
        if on:
            self.changed.emit(self._choice.checkedId() if narrow else -1)
