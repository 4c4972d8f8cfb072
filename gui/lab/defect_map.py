"""A map of a chip's cells on which some are broken: with the mouse, or with the arrow keys and the space bar."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QBrush, QColor, QFocusEvent, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from neurobench.bench.stimulus import FloatArray
from neurobench.runs.chips import KINDS

from .. import theme

Cell = tuple[int, int]
WORKS = "works"
BRUSHES = (*KINDS, WORKS)
MARKS = {"stuck": "×", "short": "▬", "open": "○", WORKS: ""}
MOST = 256  # lines up to which single cells can be hit with a mouse
_ARROWS = {Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0), Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1)}


class DefectMap(QWidget):
    """Cells [rows, cols], each whole or broken. The left button makes a cell what `brush` says; the right one mends."""

    changed = Signal()
    pointed = Signal(str)  # words about the cell under the mouse or the cursor

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.brush = KINDS[0]
        self.shape: Cell = (4, 4)
        self.cursor_cell: Cell = (0, 0)
        self._broken: dict[Cell, str] = {}
        self._fresh_s: FloatArray | None = None
        self._last: Cell | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setAccessibleName("Broken cells of the chip")
        self.setToolTip("Left button: break cells as chosen above; right button: mend. Arrow keys, space, Delete")

    # -- what it holds ------------------------------------------------------------------------------------------

    @property
    def broken(self) -> Mapping[Cell, str]:
        """The broken cells, each with what it is."""
        return dict(self._broken)

    def set_broken(self, broken: Mapping[Cell, str]) -> None:
        """These cells are broken, and no others; cells outside are left out."""
        self._broken = {cell: kind for cell, kind in broken.items() if self._inside(cell)}
        self._say_changed()

    def set_shape(self, rows: int, cols: int) -> None:
        """Another chip; what is broken stays so where it is still there."""
        if (rows, cols) == self.shape:
            return
        self.shape, self._fresh_s = (rows, cols), None
        kept = {cell: kind for cell, kind in self._broken.items() if self._inside(cell)}
        self.cursor_cell = (min(self.cursor_cell[0], rows - 1), min(self.cursor_cell[1], cols - 1))
        lost, self._broken = len(kept) < len(self._broken), kept
        self.update()
        if lost:
            self.changed.emit()

    def set_fresh(self, conductance_s: FloatArray | None) -> None:
        """First conductances [rows, cols], drawn as colours; None: not known."""
        fits = conductance_s is not None and conductance_s.shape == self.shape
        self._fresh_s = conductance_s if fits else None
        self.update()

    def text(self) -> str:
        """The broken cells as `make-chip --defects` reads them."""
        return "".join(f"{row},{col},{kind}\n" for (row, col), kind in sorted(self._broken.items()))

    def _inside(self, cell: Cell) -> bool:
        return 0 <= cell[0] < self.shape[0] and 0 <= cell[1] < self.shape[1]

    def _paint_cell(self, cell: Cell, kind: str) -> None:
        if not self._inside(cell) or max(self.shape) > MOST:
            return
        if self._broken.get(cell, WORKS) != kind:
            if kind == WORKS:
                del self._broken[cell]
            else:
                self._broken[cell] = kind
            self._say_changed()

    def _say_changed(self) -> None:
        self.update()
        self.changed.emit()

    # -- mouse and keys -----------------------------------------------------------------------------------------

    def cell_at(self, point: QPointF) -> Cell | None:
        """The cell under a point of the widget."""
        area, size = self._area()
        if size <= 0 or not area.contains(point):
            return None
        cell = (int((point.y() - area.y()) / size), int((point.x() - area.x()) / size))
        return cell if self._inside(cell) else None

    def rect_of(self, cell: Cell) -> QRectF:
        """Where a cell is drawn."""
        area, size = self._area()
        return QRectF(area.x() + cell[1] * size, area.y() + cell[0] * size, size, size)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Begin to paint."""
        self._last = None
        self._drag(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Paint all cells between here and there; without a button only say what is there."""
        if event.buttons() & (Qt.MouseButton.LeftButton | Qt.MouseButton.RightButton):
            self._drag(event)
        elif (cell := self.cell_at(event.position())) is not None:
            self.pointed.emit(self._words(cell))

    def _drag(self, event: QMouseEvent) -> None:
        cell = self.cell_at(event.position())
        if cell is None:
            self._last = None
            return
        kind = WORKS if event.buttons() & Qt.MouseButton.RightButton else self.brush
        for one in _between(self._last or cell, cell):
            self._paint_cell(one, kind)
        self._last = self.cursor_cell = cell
        self.pointed.emit(self._words(cell))

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Arrows move the cursor, with Shift they paint; space breaks, Delete mends."""
        key = Qt.Key(event.key())
        if key in _ARROWS:
            row, col = self.cursor_cell[0] + _ARROWS[key][0], self.cursor_cell[1] + _ARROWS[key][1]
            self.cursor_cell = (min(max(row, 0), self.shape[0] - 1), min(max(col, 0), self.shape[1] - 1))
            if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
                self._paint_cell(self.cursor_cell, self.brush)
        elif key == Qt.Key.Key_Space:
            same = self._broken.get(self.cursor_cell, WORKS) == self.brush
            self._paint_cell(self.cursor_cell, WORKS if same else self.brush)
        elif key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self._paint_cell(self.cursor_cell, WORKS)
        else:
            super().keyPressEvent(event)
            return
        self.pointed.emit(self._words(self.cursor_cell))
        self.update()

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        """Show the cursor."""
        super().focusInEvent(event)
        self.pointed.emit(self._words(self.cursor_cell))
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        """Hide the cursor."""
        super().focusOutEvent(event)
        self.update()

    def _words(self, cell: Cell) -> str:
        return f"W{cell[0]} B{cell[1]}: {self._broken.get(cell, WORKS)}"

    # -- drawing ------------------------------------------------------------------------------------------------

    def sizeHint(self) -> QSize:  # noqa: N802
        """Large enough to hit cells."""
        return QSize(theme.em() * 18, theme.em() * 16)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Still usable."""
        return QSize(theme.em() * 10, theme.em() * 9)

    def _area(self) -> tuple[QRectF, float]:
        """Where the cells are drawn, and how large each is."""
        rows, cols = self.shape
        side, top = self._name_width() + 6, theme.em() * 1.6  # for the names of the lines
        size = min((self.width() - side - 4) / cols, (self.height() - top - 4) / rows)
        size = float(int(size)) if size >= 2 else max(size, 0.1)
        return QRectF(side, top, cols * size, rows * size), size

    def _name_width(self) -> int:
        """Of the longest name of a line."""
        return self.fontMetrics().horizontalAdvance(f"W{max(self.shape) - 1}")

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802
        """Colours of the first conductances, then marks of what is broken, then the cursor."""
        painter = QPainter(self)
        area, size = self._area()
        self._draw_ground(painter, area)
        if size >= 6:
            self._draw_grid(painter, area, size)
        self._draw_names(painter, area, size)
        self._draw_broken(painter, size)
        if self.hasFocus():
            painter.setPen(QPen(QColor(theme.tokens().accent), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self.rect_of(self.cursor_cell).adjusted(1, 1, -1, -1))
        painter.end()

    def _draw_ground(self, painter: QPainter, area: QRectF) -> None:
        if self._fresh_s is None:
            painter.fillRect(area, QColor(theme.tokens().field))
            return
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, on=False)
        painter.drawImage(area, _image(self._fresh_s, self._broken))

    def _draw_grid(self, painter: QPainter, area: QRectF, size: float) -> None:
        painter.setPen(QPen(QColor(theme.tokens().line), 1))
        for row in range(self.shape[0] + 1):
            y = area.top() + row * size
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
        for col in range(self.shape[1] + 1):
            x = area.left() + col * size
            painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))

    def _draw_names(self, painter: QPainter, area: QRectF, size: float) -> None:
        """As many as there is room for."""
        painter.setPen(QColor(theme.tokens().text_dim))
        wide, high = self._name_width() + theme.em() * 0.5, theme.em() * 1.8
        for row in range(0, self.shape[0], max(1, int(np.ceil(high / size)))):
            place = QRectF(0, area.top() + row * size, area.left() - 3, max(size, theme.em()))
            painter.drawText(place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"W{row}")
        for col in range(0, self.shape[1], max(1, int(np.ceil(wide / size)))):
            place = QRectF(area.left() + (col + 0.5) * size - wide, 0, 2 * wide, area.top() - 2)
            painter.drawText(place, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignBottom, f"B{col}")

    def _draw_broken(self, painter: QPainter, size: float) -> None:
        t = theme.tokens()
        font = self.font()
        font.setPixelSize(max(int(size * 0.7), 4))
        font.setBold(True)
        painter.setFont(font)
        for cell, kind in self._broken.items():
            place = self.rect_of(cell)
            painter.fillRect(place.adjusted(1, 1, 0, 0), QBrush(QColor(t.panel)))
            painter.setPen(QColor(t.bad if kind == "short" else t.warn if kind == "stuck" else t.text))
            if size >= 8:
                painter.drawText(place, Qt.AlignmentFlag.AlignCenter, MARKS[kind])
            else:
                painter.fillRect(place, painter.pen().color())


def _image(fresh_s: FloatArray, broken: Mapping[Cell, str]) -> QImage:
    """First conductances as colours, over the range of the cells that work."""
    whole = np.ones(fresh_s.shape, np.bool_)
    for cell in broken:
        whole[cell] = False
    known = fresh_s[whole] if whole.any() else fresh_s.ravel()
    low, high = np.percentile(known, (1, 99))
    level = np.clip((fresh_s - low) / (high - low if high > low else 1.0), 0, 1) if high > low else fresh_s * 0 + 0.5
    table = theme.map_of("viridis").getLookupTable(0.0, 1.0, 256)
    pixels = np.ascontiguousarray(table[(level * 255).astype(int)][:, :, :3].astype(np.uint8))
    rows, cols = fresh_s.shape
    return QImage(pixels.tobytes(), cols, rows, cols * 3, QImage.Format.Format_RGB888).copy()


def _between(one: Cell, other: Cell) -> list[Cell]:
    """The cells on the line from one to another: a fast mouse skips some."""
    steps = max(abs(other[0] - one[0]), abs(other[1] - one[1]), 1)
    return [
        (round(one[0] + (other[0] - one[0]) * n / steps), round(one[1] + (other[1] - one[1]) * n / steps))
        for n in range(steps + 1)
    ]
