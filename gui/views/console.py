"""What was said: the dialogue with the instruments, and the journal's own words. The newest 10,000 lines."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

from PySide6.QtCore import Qt
from PySide6.QtGui import (
    QColor,
    QGuiApplication,
    QKeyEvent,
    QSyntaxHighlighter,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
)
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from neurobench.runs.history import Shown, Snapshot

from .. import theme
from ..selection import Selection
from .plots import Panel, toggle

KEPT = 10_000
KINDS = ("all", "sent", "received", "journal", "warnings")
TX, RX, JOURNAL, WARN = "tx", "rx", "journal", "warn"
ASKED = dict(zip(KINDS[1:], (TX, RX, JOURNAL, WARN), strict=True))
WIRE = re.compile(r"\d\d:\d\d:\d\d\.\d+\s+\S.*?\s([<>!])(\s|$)")  # a line of the wire log; !: of the log itself
BAD_WORDS = ("error", "warn", "fault", "refused", "timeout", "timed out", "in doubt", "over_range", "-> hurt")


class ConsoleView(Panel):
    """Lines of the instruments (`hear`) and of the journal, with filters. It listens while it is hidden too."""

    name: ClassVar[str] = "console"
    title: ClassVar[str] = "Console"
    every_s: ClassVar[float] = 0.25

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self.lines: deque[tuple[str, str]] = deque(maxlen=KEPT)  # (kind, line)
        self._run, self._seq, self._told = "", -1, 0
        self._waiting: list[tuple[str, str]] = []  # heard while the view is paused
        self._kind = QComboBox()
        self._kind.addItems(KINDS)
        self._kind.setAccessibleName("Which lines are shown")
        self._kind.setToolTip("Show all lines, or those sent, received, of the journal, or that warn")
        self._text = QLineEdit()
        self._text.setPlaceholderText("filter")
        self._text.setClearButtonEnabled(True)
        self._text.setAccessibleName("Show only lines that hold this text")
        self._text.setToolTip("Show only lines that hold this text")
        self._pause = toggle("hold", "Hold what is shown still; what comes meanwhile is kept and shown afterwards")
        self._copy = QPushButton("copy")
        self._copy.setAccessibleName("Copy the shown lines")
        self._copy.setToolTip("Copy the selected text, or all lines that are shown")
        self._page = QPlainTextEdit()
        self._page.setReadOnly(True)
        self._page.setMaximumBlockCount(KEPT)
        self._page.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._page.setAccessibleName("Console lines")
        self._page.setToolTip("What was said to the instruments, and what they answered")
        self._page.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self._colors = Colors(self._page.document())
        self._kind.activated.connect(self._refill)
        self._text.textChanged.connect(self._refill)
        self._pause.toggled.connect(self._held)
        self._copy.clicked.connect(self.copy)
        self._fill(self._laid_out())

    def _laid_out(self) -> QWidget:
        body, tools = QWidget(), QHBoxLayout()
        for widget in (self._kind, self._text, self._pause, self._copy):
            tools.addWidget(widget, 1 if widget is self._text else 0)
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(tools)
        column.addWidget(self._page, 1)
        return body

    # -- what is heard ------------------------------------------------------------------------------------------

    def hear(self, lines: Sequence[str]) -> None:
        """Lines of the dialogue with the instruments, as the wire log has them."""
        self._take([(kind_of(line), line.rstrip("\r\n")) for line in lines])

    def _take(self, heard: Sequence[tuple[str, str]]) -> None:
        self.lines.extend(heard)
        if self._pause.isChecked():
            self._waiting.extend(heard)
            del self._waiting[:-KEPT]
        else:
            self._write(heard)
        self._count()
        if heard and self._body.currentIndex() == 0:
            self._body.setCurrentIndex(1)

    def _write(self, heard: Iterable[tuple[str, str]]) -> None:
        shown = [line for kind, line in heard if self._wanted(kind, line)]
        if shown:
            bar = self._page.verticalScrollBar()
            at_the_end = bar.value() >= bar.maximum() - 1
            self._page.appendPlainText("\n".join(shown))
            if at_the_end and not self._page.textCursor().hasSelection():
                self._follow()

    def _follow(self) -> None:
        """Go to the newest line, to its beginning; who has scrolled up or selected something is left alone."""
        cursor = self._page.textCursor()
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.movePosition(QTextCursor.MoveOperation.StartOfBlock)
        self._page.setTextCursor(cursor)

    def _wanted(self, kind: str, line: str) -> bool:
        asked, text = ASKED.get(self._kind.currentText(), kind), self._text.text().lower()
        fits = is_warning(line) if asked == WARN else asked == kind
        return fits and (not text or text in line.lower())

    def draw(self, snapshot: Snapshot | None) -> None:
        """Tell what is new of a run; what was heard stays when the run is closed."""
        super().draw(snapshot)
        if self.lines and self._body.currentIndex() == 0:
            self._body.setCurrentIndex(1)
            self._count()

    # -- the journal --------------------------------------------------------------------------------------------

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return snapshot.recent, snapshot.error, snapshot.harm, snapshot.status

    def _missing(self, snapshot: Snapshot) -> str:
        del snapshot
        return ""

    def _draw(self, snapshot: Snapshot) -> None:
        if snapshot.about.run_id != self._run:
            self._run, self._seq, self._told = snapshot.about.run_id, -1, 0
            self._take([(JOURNAL, f"---- {snapshot.about.protocol} on {snapshot.about.bench}, run {self._run} ----")])
        new = [step for step in snapshot.recent if step.seq > self._seq]
        if new:
            missed = new[0].seq - self._seq - 1 if self._seq >= 0 else 0
            gap = [f"… {missed:,} steps not told here"] if missed > 0 else []
            self._seq = new[-1].seq
            self._take([(JOURNAL, line) for line in (*gap, *(journal_line(step) for step in new))])
        bad = [
            *([f"error: {snapshot.error}"] if snapshot.error else []),
            *(f"error, hurt: {one}" for one in snapshot.harm),
        ]
        if len(bad) > self._told:
            self._take([(JOURNAL, line) for line in bad[self._told :]])
            self._told = len(bad)
        self._count()

    # -- how it is shown ----------------------------------------------------------------------------------------

    def _count(self) -> None:
        waiting = f", {len(self._waiting):,} waiting" if self._waiting else ""
        warned = sum(is_warning(line) for _, line in self._last())
        lines = f"{len(self.lines):,} line{'s' * (len(self.lines) != 1)}{waiting}"
        self._caption.say(lines + (f"   |   {warned} recent warnings" if warned else ""))

    def _last(self) -> list[tuple[str, str]]:
        n = len(self.lines)
        return [self.lines[k] for k in range(max(0, n - 100), n)]

    def _refill(self, _how: object = None) -> None:
        self._waiting = []
        self._page.clear()
        self._write(self.lines)

    def _held(self, held: bool) -> None:
        if not held:
            waiting, self._waiting = self._waiting, []
            self._write(waiting)
            self._count()

    def copy(self) -> None:
        """The selected text, or else all that is shown, into the clipboard."""
        chosen = self._page.textCursor().selectedText().replace(" ", "\n")
        QGuiApplication.clipboard().setText(chosen or self._page.toPlainText())

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """End goes to the newest line."""
        if event.key() == Qt.Key.Key_End:
            self._follow()
        else:
            super().keyPressEvent(event)

    def _styled(self) -> None:
        self._page.setFont(theme.mono())
        self._page.setStyleSheet(f'font-family: "{theme.mono().family()}"; font-size: {theme.mono().pointSizeF():g}pt;')
        self._colors.rehighlight()


class Colors(QSyntaxHighlighter):
    """Sent, received and warning lines in their colours; the signs > and < and the words stand there anyway."""

    def __init__(self, document: QTextDocument) -> None:
        super().__init__(document)

    def highlightBlock(self, text: str) -> None:  # noqa: N802
        """Colour one line."""
        t = theme.tokens()
        kind = WARN if is_warning(text) else kind_of(text)
        color = {WARN: t.warn, TX: t.accent, RX: t.text, JOURNAL: t.text_dim}[kind]
        look = QTextCharFormat()
        look.setForeground(QColor(color))
        self.setFormat(0, len(text), look)


def kind_of(line: str) -> str:
    """Whether a line was sent (>), received (<), says what of the wire was lost (!), or is none of the wire's."""
    found = WIRE.match(line)
    return JOURNAL if found is None else {">": TX, "<": RX, "!": WARN}[found[1]]


def is_warning(line: str) -> bool:
    """Whether a line tells of trouble. To ask for errors is none, and they answer with 0 where there is none."""
    lowered, kind = line.lower(), kind_of(line)
    if kind == JOURNAL:  # a protocol may speak of errors that it learns from
        return lowered.startswith("error") or "in doubt: " in lowered
    if kind in (TX, WARN):
        return kind == WARN
    return any(word in lowered for word in BAD_WORDS) and "no error" not in lowered


def journal_line(step: Shown) -> str:
    """A step in words."""
    doubt = "in doubt: " if step.doubt else ""
    return f"{step.at_s:9.3f} s  #{step.seq:<6d} {doubt}{step.words or step.kind}"
