"""A row of widgets that goes on in the next line where it is too long: for bars that must show all they hold."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtWidgets import QLayout, QLayoutItem, QWidget


class FlowLayout(QLayout):
    """Left to right, then down. Widgets of one line are as high as the highest of them; a stretchable one is not."""

    def __init__(self, parent: QWidget | None = None, spacing: int = 6, line_spacing: int | None = None) -> None:
        super().__init__(parent)
        self._between = spacing if line_spacing is None else line_spacing
        self._items: list[QLayoutItem] = []
        self.setContentsMargins(0, 0, 0, 0)
        self.setSpacing(spacing)

    def addItem(self, item: QLayoutItem) -> None:  # noqa: N802 - Qt's name
        """Qt's: one more at the end."""
        self._items.append(item)

    def count(self) -> int:
        """Qt's: how many there are."""
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:  # noqa: N802 - Qt's name
        """Qt's: one of them."""
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:  # noqa: N802 - Qt's name
        """Qt's: take one out."""
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def expandingDirections(self) -> Qt.Orientation:  # noqa: N802 - Qt's name
        """Qt's: it takes no more room than it needs."""
        return Qt.Orientation(0)

    def hasHeightForWidth(self) -> bool:  # noqa: N802 - Qt's name
        """Qt's: the narrower, the higher."""
        return True

    def heightForWidth(self, width: int) -> int:  # noqa: N802 - Qt's name
        """Qt's: the height that a width makes."""
        lines = self._lines(width)
        return sum(height for _, height in lines) + self._between * max(len(lines) - 1, 0)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Qt's: all in one line."""
        widths = sum(self._width(item) for item in self._shown()) + self.spacing() * max(len(self._items) - 1, 0)
        return QSize(widths, self.heightForWidth(widths))

    def minimumSize(self) -> QSize:  # noqa: N802 - Qt's name
        """Qt's: the widest of them alone."""
        return QSize(
            max((self._width(item) for item in self._shown()), default=0),
            max((item.sizeHint().height() for item in self._shown()), default=0),
        )

    def setGeometry(self, rect: QRect) -> None:  # noqa: N802 - Qt's name
        """Qt's: put all in their places."""
        super().setGeometry(rect)
        y = rect.y()
        for items, height in self._lines(rect.width()):
            x = rect.x()
            for item in items:
                item.setGeometry(QRect(QPoint(x, y), QSize(self._width(item), height)))
                x += self._width(item) + self.spacing()
            y += height + self._between

    def _shown(self) -> list[QLayoutItem]:
        return [item for item in self._items if not item.isEmpty()]

    def _width(self, item: QLayoutItem) -> int:
        return max(item.sizeHint().width(), item.minimumSize().width())

    def _lines(self, width: int) -> list[tuple[list[QLayoutItem], int]]:
        lines: list[tuple[list[QLayoutItem], int]] = []
        items: list[QLayoutItem] = []
        used = 0
        for item in self._shown():
            wide = self._width(item)
            if items and used + wide > width:
                lines.append((items, max(one.sizeHint().height() for one in items)))
                items, used = [], 0
            items.append(item)
            used += wide + self.spacing()
        if items:
            lines.append((items, max(one.sizeHint().height() for one in items)))
        return lines
