"""A small editor for TOML: numbers beside the lines, mistakes marked on theirs. Tab leaves it, as everywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping

from PySide6.QtCore import QRect, QSize, Qt
from PySide6.QtGui import (
    QColor,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QSyntaxHighlighter,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextFormat,
)
from PySide6.QtWidgets import QPlainTextEdit, QTextEdit, QWidget

from .. import theme

_SECTION = re.compile(r"^\s*\[[^\]]*\]")
_COMMENT = re.compile(r"#(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$).*$")  # a # between quotes is no comment


class TomlEditor(QPlainTextEdit):
    """Text with line numbers; `mark` shows which lines are wrong."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTabChangesFocus(True)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._wrong: dict[int, str] = {}
        self._colours = _Colours(self.document())
        self._numbers = _Numbers(self)
        self.blockCountChanged.connect(self._make_room)
        self.updateRequest.connect(self._scroll_numbers)
        self.restyle()

    def restyle(self) -> None:
        """Fonts and colours of now."""
        self.setFont(theme.mono())
        self._make_room()
        self._colours.rehighlight()
        self.mark(self._wrong)

    def mark(self, wrong: Mapping[int, str]) -> None:
        """Show that these lines (from 1 on) are wrong, and why as their tip."""
        self._wrong = dict(wrong)
        self.setExtraSelections([self._marked(line) for line in wrong if line])
        self._numbers.setToolTip("\n".join(f"line {line}: {words}" for line, words in wrong.items() if line))
        self._numbers.update()

    def go_to(self, line: int) -> None:
        """Put the cursor at the beginning of a line and show it, with what follows, from the top."""
        cursor = QTextCursor(self.document().findBlockByNumber(max(line - 1, 0)))
        self.setTextCursor(cursor)
        self.verticalScrollBar().setValue(max(line - 3, 0))

    def put(self, text: str) -> None:
        """Replace all of the text as one edit that can be undone; the place that is seen stays."""
        at = self.verticalScrollBar().value()
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(text)
        self.verticalScrollBar().setValue(at)

    def _marked(self, line: int) -> QTextEdit.ExtraSelection:
        marked = QTextEdit.ExtraSelection()
        color = QColor(theme.tokens().bad)
        color.setAlpha(60)
        marked.format.setBackground(color)
        marked.format.setProperty(QTextFormat.Property.FullWidthSelection, True)
        marked.cursor = QTextCursor(self.document().findBlockByNumber(line - 1))
        return marked

    # -- the numbers --------------------------------------------------------------------------------------------

    def numbers_width(self) -> int:
        """Pixels for the numbers and the mark beside them."""
        digits = max(3, len(str(self.blockCount())) + 1)
        return self.fontMetrics().horizontalAdvance("0") * digits + 8

    def _make_room(self) -> None:
        self.setViewportMargins(self.numbers_width(), 0, 0, 0)
        self._place_numbers()

    def _place_numbers(self) -> None:
        inside = self.contentsRect()
        self._numbers.setGeometry(QRect(inside.left(), inside.top(), self.numbers_width(), inside.height()))

    def _scroll_numbers(self, rect: QRect, by: int) -> None:
        if by:
            self._numbers.scroll(0, by)
        else:
            self._numbers.update(0, rect.y(), self._numbers.width(), rect.height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Keep the numbers beside the text."""
        super().resizeEvent(event)
        self._place_numbers()

    def paint_numbers(self, event: QPaintEvent) -> None:
        """Draw the numbers of the lines that are seen; a wrong one has a mark."""
        t = theme.tokens()
        painter = QPainter(self._numbers)
        painter.fillRect(event.rect(), QColor(t.window))
        painter.setFont(self.font())
        block = self.firstVisibleBlock()
        top = round(self.blockBoundingGeometry(block).translated(self.contentOffset()).top())
        while block.isValid() and top <= event.rect().bottom():
            height, number = round(self.blockBoundingRect(block).height()), block.blockNumber() + 1
            wrong = number in self._wrong
            painter.setPen(QColor(t.bad if wrong else t.text_dim))
            words = f"✕{number}" if wrong else str(number)
            painter.drawText(0, top, self._numbers.width() - 5, height, Qt.AlignmentFlag.AlignRight, words)
            block, top = block.next(), top + height


class _Numbers(QWidget):
    def __init__(self, editor: TomlEditor) -> None:
        super().__init__(editor)
        self._editor = editor

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(self._editor.numbers_width(), 0)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        self._editor.paint_numbers(event)


class _Colours(QSyntaxHighlighter):
    """Sections in bold, comments dim: enough to find one's way."""

    def __init__(self, document: QTextDocument) -> None:
        super().__init__(document)

    def highlightBlock(self, text: str) -> None:  # noqa: N802 - Qt's name
        t = theme.tokens()
        if found := _SECTION.match(text):
            section = QTextCharFormat()
            section.setFontWeight(700)
            section.setForeground(QColor(t.accent))
            self.setFormat(found.start(), found.end() - found.start(), section)
        if found := _COMMENT.search(text):
            comment = QTextCharFormat()
            comment.setForeground(QColor(t.text_dim))
            self.setFormat(found.start(), found.end() - found.start(), comment)
