"""The map itself: a picture of the array on which cells are chosen with mouse and keyboard.

It knows colours, marks and texts of cells, and nothing of what they mean. Cells are painted from one small image, so
512 x 512 of them cost what 4 x 4 cost; marks and numbers are drawn where they can be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QBrush,
    QColor,
    QContextMenuEvent,
    QFont,
    QFontMetricsF,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from neurobench.bench.stimulus import BoolArray

from .. import theme
from ..selection import Cell, Selection

STRETCH = 1.3  # a cell may be so many times wider than high, and the other way round
LONG = 4.0  # beyond this ratio of rows and columns an array fills its place whatever its cells look like
MARKS_PX = 5.0  # cells smaller than this carry no marks of their own
GRID_PX = 9.0
MOST_MARKS = 4000  # more pieces than this are not painted one by one
MOST_NUMBERS = 32  # lines of an array whose cells may carry numbers
ZOOM = 1.25
NOTHING = QRectF()
KEYS_OF_MAP = "Arrow keys move, Shift extends, Space toggles, Ctrl+A chooses all cells."


@dataclass(frozen=True)
class Bar:
    """The colour bar: colours from low to high [n, 4], and what stands beside it at which share of its height."""

    lut: NDArray[np.uint8]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Picture:
    """All that is to be seen: colours [rows, cols, 4], marks, and what the rims say.

    `numbers(cell)`: the text in a cell, "" for none; `legend`: colour and words where there is no bar.
    """

    rgba: NDArray[np.uint8]
    hatched: BoolArray
    unread: BoolArray
    title: str
    bar: Bar | None = None
    legend: tuple[tuple[str, str], ...] = ()
    numbers: Callable[[Cell], str] | None = None
    tag: str = ""
    empty: str = ""

    @property
    def shape(self) -> Cell:
        """Rows and columns."""
        return self.hatched.shape[0], self.hatched.shape[1]


class MapCanvas(QWidget):
    """Shows a Picture; turns mouse and keys into a Selection. `hovered` tells the cell under the mouse, or None."""

    hovered = Signal(object)
    menu_asked = Signal(object)  # global position

    def __init__(self, selection: Selection, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.selection = selection
        self.picture: Picture | None = None
        self.words = "no run is open"
        self._image: QImage | None = None
        self._seen = NOTHING  # the part of the array that is shown, in cells
        self._hover: Cell | None = None
        self._dragging, self._panned_from = False, QPointF()
        self._marks: tuple[tuple[Any, ...], list[QRectF], list[QRectF]] | None = None
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # what lies below is not painted with every frame
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Crossbar map")
        self.setAccessibleDescription(KEYS_OF_MAP)
        selection.changed.connect(self.update)

    def sizeHint(self) -> QSize:  # noqa: N802
        """Room for a small array with its rims."""
        return QSize(22 * theme.em(), 17 * theme.em())

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Below this nothing could be told apart."""
        return QSize(11 * theme.em(), 9 * theme.em())

    def show_picture(self, picture: Picture | None, words: str = "") -> None:
        """Show this; None: nothing, and the words why."""
        before = self.picture
        self.picture, self.words = picture, words or self.words
        if picture is None:
            self._image = None
        else:
            rows, cols = picture.shape
            self._image = QImage(picture.rgba.data, cols, rows, 4 * cols, QImage.Format.Format_RGBA8888)
            if before is None or before.shape != picture.shape:
                self._seen = QRectF(0, 0, cols, rows)
        self.update()

    # -- geometry -----------------------------------------------------------------------------------------------

    def _font(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(max(font.pointSizeF() * 0.88, 6.0))
        return font

    def grid_rect(self) -> QRectF:
        """Where the cells are, in pixels of this widget."""
        if self.picture is None:
            return NOTHING
        metrics = QFontMetricsF(self._font())
        rows, cols = self.picture.shape
        left = metrics.horizontalAdvance(f"W{rows - 1}") + 8
        top = 2 * metrics.height() + 10
        room = QRectF(left, top, self.width() - left - self._rim(metrics), self.height() - top - 6)
        cell_w, cell_h = max(room.width(), 1.0) / cols, max(room.height(), 1.0) / rows
        if 1 / LONG <= rows / cols <= LONG:
            cell_w, cell_h = min(cell_w, STRETCH * cell_h), min(cell_h, STRETCH * cell_w)
        size = cell_w * cols, cell_h * rows
        return QRectF(left + max(room.width() - size[0], 0) / 2, top, *size)

    def _rim(self, metrics: QFontMetricsF) -> float:
        """Width of the colour bar or the legend, with its texts."""
        picture = self.picture
        if picture is None:
            return 6.0
        if picture.bar is not None:
            return 12 + 14 + 8 + max((metrics.horizontalAdvance(text) for _, text in picture.bar.ticks), default=0.0)
        return 12 + 14 + 10 + max((metrics.horizontalAdvance(text) for _, text in picture.legend), default=0.0)

    def _cell_size(self, grid: QRectF) -> tuple[float, float]:
        return grid.width() / max(self._seen.width(), 1e-9), grid.height() / max(self._seen.height(), 1e-9)

    def cell_rect(self, cell: Cell) -> QRectF:
        """Where a cell is, in pixels of this widget; empty if it is not on the map."""
        if self.picture is None or not (0 <= cell[0] < self.picture.shape[0] and 0 <= cell[1] < self.picture.shape[1]):
            return NOTHING
        return self._rect(self.grid_rect(), cell)

    def _rect(self, grid: QRectF, cell: Cell) -> QRectF:
        w, h = self._cell_size(grid)
        return QRectF(grid.x() + (cell[1] - self._seen.x()) * w, grid.y() + (cell[0] - self._seen.y()) * h, w, h)

    def cell_at(self, at: QPointF) -> Cell | None:
        """The cell under a point of this widget."""
        grid = self.grid_rect()
        return self._nearest(grid, at) if self.picture is not None and grid.contains(at) else None

    def _nearest(self, grid: QRectF, at: QPointF) -> Cell:
        assert self.picture is not None
        w, h = self._cell_size(grid)
        row = math.floor(self._seen.y() + (at.y() - grid.y()) / h)
        col = math.floor(self._seen.x() + (at.x() - grid.x()) / w)
        rows, cols = self.picture.shape
        return min(max(row, 0), rows - 1), min(max(col, 0), cols - 1)

    def zoom(self, factor: float, about: QPointF | None = None) -> None:
        """Show fewer cells larger, or more of them; the point stays where it is."""
        if self.picture is None:
            return
        grid, (rows, cols) = self.grid_rect(), self.picture.shape
        about = about or self._rect(grid, self.selection.cursor).center()
        x, y = (about.x() - grid.x()) / grid.width(), (about.y() - grid.y()) / grid.height()
        w = min(max(self._seen.width() / factor, min(2.0, cols)), cols)
        h = min(max(self._seen.height() / factor, min(2.0, rows)), rows)
        left = self._seen.x() + x * (self._seen.width() - w)
        top = self._seen.y() + y * (self._seen.height() - h)
        self._look(QRectF(left, top, w, h))

    def fit(self) -> None:
        """Show the whole array."""
        if self.picture is not None:
            self._look(QRectF(0, 0, self.picture.shape[1], self.picture.shape[0]))

    @property
    def seen(self) -> QRectF:
        """The part of the array that is shown, in cells."""
        return QRectF(self._seen)

    def _look(self, seen: QRectF) -> None:
        assert self.picture is not None
        rows, cols = self.picture.shape
        left, top = max(cols - seen.width(), 0.0), max(rows - seen.height(), 0.0)
        seen.moveTo(min(max(seen.x(), 0.0), left), min(max(seen.y(), 0.0), top))
        self._seen = seen
        self.update()

    def _bring_into_sight(self, cell: Cell) -> None:
        seen = QRectF(self._seen)
        seen.moveLeft(min(max(seen.x(), cell[1] + 1 - seen.width()), cell[1]))
        seen.moveTop(min(max(seen.y(), cell[0] + 1 - seen.height()), cell[0]))
        self._look(seen)

    # -- mouse and keys -----------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Left chooses, the middle button moves the map."""
        if event.button() == Qt.MouseButton.MiddleButton:
            self._panned_from = event.position()
        if event.button() != Qt.MouseButton.LeftButton or self.picture is None:
            return
        cell, keys = self.cell_at(event.position()), event.modifiers()
        if cell is None:
            self._press_rim(event.position())
        elif keys & Qt.KeyboardModifier.ShiftModifier:
            self.selection.extend(cell)
            self._dragging = True
        elif keys & Qt.KeyboardModifier.ControlModifier:
            was = cell in self.selection
            self.selection.toggle(cell)
            self._dragging = False
            if not was:
                self.selection.begin(cell, add=True)
                self._dragging = True
        else:
            self.selection.begin(cell)
            self._dragging = True

    def _press_rim(self, at: QPointF) -> None:
        """The name of a line chooses the whole line."""
        grid = self.grid_rect()
        if grid.top() <= at.y() <= grid.bottom() and at.x() < grid.left():
            self.selection.lines(rows=[self._nearest(grid, at)[0]])
        elif grid.left() <= at.x() <= grid.right() and grid.top() - 1.6 * theme.em() <= at.y() < grid.top():
            self.selection.lines(cols=[self._nearest(grid, at)[1]])

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Draw the block, move the map, or tell what is under the mouse."""
        if self.picture is None:
            return
        if event.buttons() & Qt.MouseButton.MiddleButton:
            self._pan(event.position())
        elif self._dragging and event.buttons() & Qt.MouseButton.LeftButton:
            cell = self._nearest(self.grid_rect(), event.position())
            if cell != self.selection.cursor:
                self.selection.extend(cell)
        self._set_hover(self.cell_at(event.position()))

    def _pan(self, to: QPointF) -> None:
        w, h = self._cell_size(self.grid_rect())
        moved = to - self._panned_from
        self._panned_from = to
        self._look(self._seen.translated(-moved.x() / w, -moved.y() / h))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """The block is complete."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._dragging = False

    def leaveEvent(self, event: object) -> None:  # noqa: N802
        """The mouse is gone."""
        del event
        self._set_hover(None)

    def _set_hover(self, cell: Cell | None) -> None:
        if cell != self._hover:
            self._hover = cell
            self.hovered.emit(cell)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        """Zoom about the mouse."""
        turns = event.angleDelta().y() / 120
        if turns and self.picture is not None:
            self.zoom(ZOOM**turns, event.position())
            event.accept()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:  # noqa: N802
        """The menu of the map."""
        self.menu_asked.emit(event.globalPos())

    MOVES: ClassVar[dict[Qt.Key, Cell]] = {
        Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1), Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0),
        Qt.Key.Key_Home: (0, -(1 << 20)), Qt.Key.Key_End: (0, 1 << 20),
    }  # fmt: skip

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Arrows, Home, End, Space, Ctrl+A, Page Up and Page Down; everything else is somebody else's."""
        key, keys = Qt.Key(event.key()), event.modifiers()
        shift, ctrl = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
        if self.picture is None:
            event.ignore()
        elif key in self.MOVES:
            self._move(self.MOVES[key], extend=bool(keys & shift), alone=bool(keys & ctrl))
        elif key == Qt.Key.Key_Space:
            self.selection.toggle(self.selection.cursor)
        elif key == Qt.Key.Key_A and keys & ctrl:
            self.selection.all()
        elif key in (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown):
            self.zoom(ZOOM if key == Qt.Key.Key_PageUp else 1 / ZOOM)
        else:
            event.ignore()

    def _move(self, by: Cell, *, extend: bool, alone: bool) -> None:
        """With Ctrl the cursor goes alone, so that Space can choose cells that lie apart."""
        if alone:
            self.selection.point(by)
        else:
            self.selection.move_cursor(*by, extend=extend)
        self._bring_into_sight(self.selection.cursor)

    # -- painting -----------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Paint the picture, or the words why there is none."""
        del event
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(theme.tokens().panel))
        painter.setFont(self._font())
        if self.picture is None or self._image is None:
            self._paint_words(painter, self.words, QRectF(self.rect()))
        else:
            self._paint_picture(painter, self.picture, self._image)
        painter.end()

    def _paint_words(self, painter: QPainter, words: str, room: QRectF) -> None:
        painter.setPen(QColor(theme.tokens().text_dim))
        flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
        painter.drawText(room.adjusted(12, 12, -12, -12), int(flags), words)

    def _paint_picture(self, painter: QPainter, picture: Picture, image: QImage) -> None:
        grid = self.grid_rect()
        cell_w, cell_h = self._cell_size(grid)
        small = min(cell_w, cell_h)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, small < 1)
        painter.drawImage(grid, image, self._seen)
        painter.save()
        painter.setClipRect(grid)
        if small >= MARKS_PX:
            self._paint_marks(painter, picture, grid)
        if small >= GRID_PX:
            self._paint_grid(painter, grid)
        self._paint_numbers(painter, picture, grid)
        self._paint_selection(painter, grid)
        painter.restore()
        self._paint_frame(painter, grid)
        self._paint_names(painter, picture, grid)
        self._paint_rim(painter, picture, grid)
        self._paint_header(painter, picture)
        if picture.empty:
            self._paint_note(painter, picture.empty, grid)

    def _visible(self) -> tuple[range, range]:
        assert self.picture is not None
        rows, cols = self.picture.shape
        top, left = max(math.floor(self._seen.top()), 0), max(math.floor(self._seen.left()), 0)
        bottom, right = math.ceil(self._seen.bottom() - 1e-9), math.ceil(self._seen.right() - 1e-9)
        return range(top, min(bottom, rows)), range(left, min(right, cols))

    def _paint_marks(self, painter: QPainter, picture: Picture, grid: QRectF) -> None:
        """Hatches on cells that are out of use, dots on those that nobody has read."""
        hatched, unread = self._marked(picture, grid)
        t = theme.tokens()
        painter.setPen(Qt.PenStyle.NoPen)
        for pieces, style, color in (
            (unread, Qt.BrushStyle.Dense6Pattern, t.line),
            (hatched, Qt.BrushStyle.BDiagPattern, "#ffffff"),
            (hatched, Qt.BrushStyle.FDiagPattern, "#000000"),
        ):
            painter.setBrush(QBrush(QColor(color), style))
            painter.drawRects(pieces)

    def _marked(self, picture: Picture, grid: QRectF) -> tuple[list[QRectF], list[QRectF]]:
        """Pieces to hatch and to dot; found once for as long as nothing moves."""
        key = (picture.hatched, picture.unread, grid.getRect(), self._seen.getRect())
        old = self._marks
        if old is None or not (old[0][0] is key[0] and old[0][1] is key[1] and old[0][2:] == key[2:]):
            unread = picture.unread & ~picture.hatched
            old = key, list(self._pieces(picture.hatched, grid)), list(self._pieces(unread, grid))
            self._marks = old
        return old[1], old[2]

    def _pieces(self, mask: BoolArray, grid: QRectF) -> Iterator[QRectF]:
        """Runs of marked cells as rectangles; none if there are too many to tell apart."""
        rows, cols = self._visible()
        part = mask[rows.start : rows.stop, cols.start : cols.stop]
        if not part.any():
            return
        runs = _runs(part)
        for row, first, last in runs if len(runs) <= MOST_MARKS else ():
            one = self._rect(grid, (rows.start + row, cols.start + first))
            yield QRectF(one.x(), one.y(), one.width() * (last - first), one.height())

    def _paint_grid(self, painter: QPainter, grid: QRectF) -> None:
        rows, cols = self._visible()
        lines = [QLineF(x, grid.top(), x, grid.bottom()) for x in (self._rect(grid, (0, c)).left() for c in cols)]
        lines += [QLineF(grid.left(), y, grid.right(), y) for y in (self._rect(grid, (r, 0)).top() for r in rows)]
        t = theme.tokens()
        painter.setPen(QPen(QColor(t.panel if self.picture is not None and self.picture.bar else t.line), 1))
        painter.drawLines(lines)

    def _paint_numbers(self, painter: QPainter, picture: Picture, grid: QRectF) -> None:
        if picture.numbers is None or max(picture.shape) > MOST_NUMBERS:
            return
        metrics = QFontMetricsF(painter.font())
        cell_w, cell_h = self._cell_size(grid)
        if cell_h < metrics.height() or cell_w < metrics.horizontalAdvance("000"):
            return
        rows, cols = self._visible()
        for row in rows:
            for col in cols:
                text = picture.numbers((row, col))
                if text and metrics.horizontalAdvance(text) <= cell_w - 2:
                    self._paint_number(painter, picture, self._rect(grid, (row, col)), (row, col), text)

    def _paint_number(self, painter: QPainter, picture: Picture, room: QRectF, cell: Cell, text: str) -> None:
        red, green, blue = (int(part) for part in picture.rgba[cell][:3])
        light = 0.299 * red + 0.587 * green + 0.114 * blue > 140
        on, off = ("#000000", "#ffffff") if light else ("#ffffff", "#000000")
        if picture.hatched[cell]:  # on a hatch only a plate can be read
            width = QFontMetricsF(painter.font()).horizontalAdvance(text) + 6
            plate = QRectF(0, 0, width, QFontMetricsF(painter.font()).height())
            plate.moveCenter(room.center())
            painter.fillRect(plate, QColor(off))
        painter.setPen(QColor(on))
        painter.drawText(room, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_selection(self, painter: QPainter, grid: QRectF) -> None:
        """The rim of what is chosen, white between black, so that it stands out of every colour."""
        lines = self._rims(grid)
        for color, width in (("#000000", 4), ("#ffffff", 2)) if len(lines) < MOST_MARKS else (("#ffffff", 1),):
            pen = QPen(QColor(color), width)
            pen.setCapStyle(Qt.PenCapStyle.SquareCap)
            painter.setPen(pen)
            painter.drawLines(lines)
        if self.selection.shape == self.picture.shape if self.picture else False:
            self._paint_cursor(painter, self._rect(grid, self.selection.cursor))

    def _paint_cursor(self, painter: QPainter, room: QRectF) -> None:
        inside = room.adjusted(3, 3, -3, -3) if min(room.width(), room.height()) > 12 else room
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for color, style in (("#000000", Qt.PenStyle.SolidLine), ("#ffffff", Qt.PenStyle.DotLine)):
            painter.setPen(QPen(QColor(color), 1, style))
            painter.drawRect(inside)

    def _rims(self, grid: QRectF) -> list[QLineF]:
        """Where chosen cells meet others: the outline of the selection, in pixels."""
        mask = self.selection.mask
        if self.picture is None or mask.shape != self.picture.shape or not mask.any():
            return []
        rows, cols = self._visible()
        part = np.pad(mask[rows.start : rows.stop, cols.start : cols.stop].astype(np.int8), 1)
        lines = []
        for down, first, last in _runs(np.diff(part, axis=0)[:, 1:-1] != 0):
            one = self._rect(grid, (rows.start + down, cols.start + first))
            y = min(max(one.top(), grid.top() + 1.5), grid.bottom() - 1.5)
            lines.append(QLineF(one.left(), y, one.left() + (last - first) * one.width(), y))
        for across, first, last in _runs((np.diff(part, axis=1)[1:-1] != 0).T):
            one = self._rect(grid, (rows.start + first, cols.start + across))
            x = min(max(one.left(), grid.left() + 1.5), grid.right() - 1.5)
            lines.append(QLineF(x, one.top(), x, one.top() + (last - first) * one.height()))
        return lines

    def _paint_frame(self, painter: QPainter, grid: QRectF) -> None:
        t = theme.tokens()
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(t.accent if self.hasFocus() else t.line), 1))
        painter.drawRect(grid.adjusted(-1, -1, 0, 0))

    def _paint_names(self, painter: QPainter, picture: Picture, grid: QRectF) -> None:
        """W0, W1, ... and B0, B1, ... as many as there is room for; those of the cursor always."""
        metrics, (cell_w, cell_h) = QFontMetricsF(painter.font()), self._cell_size(grid)
        rows, cols = self._visible()
        height = metrics.height()
        here = self.selection.cursor if self.selection.shape == picture.shape else (-1, -1)
        wide = metrics.horizontalAdvance(f"B{picture.shape[1] - 1}") + 6
        for row in _thinned(rows, max(math.ceil(height / cell_h), 1)):
            y = self._rect(grid, (row, 0)).center().y()
            self._name(
                painter, f"W{row}", QRectF(0, y - height / 2, grid.left() - 5, height), row == here[0], right=True
            )
        for col in _thinned(cols, max(math.ceil(wide / cell_w), 1)):
            x = self._rect(grid, (0, col)).center().x()
            room = QRectF(x - wide / 2, grid.top() - height - 3, wide, height)
            self._name(painter, f"B{col}", room, col == here[1])

    def _name(self, painter: QPainter, text: str, room: QRectF, here: bool, *, right: bool = False) -> None:
        t = theme.tokens()
        painter.setPen(QColor(t.text if here else t.text_dim))
        side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignHCenter
        painter.drawText(room, int(side | Qt.AlignmentFlag.AlignVCenter), text)

    def _paint_rim(self, painter: QPainter, picture: Picture, grid: QRectF) -> None:
        if picture.bar is not None:
            self._paint_bar(painter, picture.bar, QRectF(grid.right() + 12, grid.top(), 14, grid.height()))
            return
        height = QFontMetricsF(painter.font()).height()
        for i, (color, words) in enumerate(picture.legend):
            box = QRectF(grid.right() + 12, grid.top() + i * (height + 8), 14, 14)
            painter.fillRect(box, QColor(color))
            if words == "excluded":
                painter.fillRect(box, QBrush(QColor("#ffffff"), Qt.BrushStyle.BDiagPattern))
            painter.setPen(QColor(theme.tokens().text))
            painter.drawText(QPointF(box.right() + 8, box.top() + 12), words)

    def _paint_bar(self, painter: QPainter, bar: Bar, room: QRectF) -> None:
        column = np.ascontiguousarray(bar.lut[::-1][:, None, :])
        image = QImage(column.data, 1, len(column), 4, QImage.Format.Format_RGBA8888)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
        painter.drawImage(room, image)
        t, height = theme.tokens(), QFontMetricsF(painter.font()).height()
        painter.setPen(QPen(QColor(t.line), 1))
        painter.drawRect(room)
        painter.setPen(QColor(t.text_dim))
        for share, text in bar.ticks:
            y = room.bottom() - share * room.height()
            painter.drawLine(QLineF(room.right(), y, room.right() + 4, y))
            at = min(max(y, room.top() + height / 2 - 4), room.bottom() - height / 2 + 4)
            painter.drawText(QPointF(room.right() + 7, at + height / 2 - 4), text)

    def _paint_header(self, painter: QPainter, picture: Picture) -> None:
        """What the map shows, and that it is simulated, in its own corner: whoever grabs the picture has it too."""
        t, metrics = theme.tokens(), QFontMetricsF(painter.font())
        room = QRectF(6, 3, self.width() - 12, metrics.height() + 2)
        if picture.tag:
            wide = metrics.horizontalAdvance(picture.tag) + 12
            plate = QRectF(room.right() - wide, room.top(), wide, room.height())
            painter.fillRect(plate, QColor(t.simulated))
            painter.setPen(QColor(t.on_simulated))
            painter.drawText(plate, Qt.AlignmentFlag.AlignCenter, picture.tag)
            room.setRight(plate.left() - 8)
        painter.setPen(QColor(t.text))
        title = metrics.elidedText(picture.title, Qt.TextElideMode.ElideRight, room.width())
        painter.drawText(room, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), title)

    def _paint_note(self, painter: QPainter, words: str, grid: QRectF) -> None:
        t, metrics = theme.tokens(), QFontMetricsF(painter.font())
        flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
        plate = metrics.boundingRect(grid.adjusted(10, 10, -10, -10), flags, words).adjusted(-8, -5, 8, 5)
        plate.moveBottom(grid.bottom() - 8)
        painter.fillRect(plate, QColor(t.panel))
        painter.setPen(QPen(QColor(t.line), 1))
        painter.drawRect(plate)
        painter.setPen(QColor(t.text))
        painter.drawText(plate, flags, words)


def _runs(mask: BoolArray) -> list[list[int]]:
    """Stretches of true values in each line of a mask, as (line, first, behind the last)."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    begin, end = np.argwhere(edges == 1), np.argwhere(edges == -1)
    found: list[list[int]] = np.column_stack([begin, end[:, 1]]).tolist()
    return found


def _thinned(lines: range, step: int) -> list[int]:
    """Every n-th line, n a round number."""
    nice = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1 << 30) if n >= step)
    return [line for line in lines if line % nice == 0]
