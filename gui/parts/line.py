"""A line of words that changes often. It needs no plots, so that the window can stand before those are loaded."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from .. import theme


class Line(QLabel):
    """A line of words that is shortened where there is no room; all of it stands in its tip.

    It changes with every frame, so its words are its own: those of a QLabel would lay out the whole window anew.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._words = ""
        self.setProperty("role", "dim")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setTextFormat(Qt.TextFormat.PlainText)

    def say(self, words: str) -> None:
        """Show these words."""
        if words != self._words:
            self._words = words
            self.setToolTip(words)
            self.setAccessibleDescription(words)
            self.update()

    def text(self) -> str:
        """The words."""
        return self._words

    def sizeHint(self) -> QSize:  # noqa: N802
        """One line high, and as wide as there is room."""
        return self.minimumSizeHint()

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """No width of its own."""
        return QSize(0, QFontMetrics(self.font()).height())

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802
        """The words as far as they fit."""
        painter = QPainter(self)
        shown = QFontMetrics(self.font()).elidedText(self._words, Qt.TextElideMode.ElideRight, self.width())
        role = self.property("role")
        painter.setPen(QColor(theme.tokens().text_dim if role == "dim" else theme.tokens().text))
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)
