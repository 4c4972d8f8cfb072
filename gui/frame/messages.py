"""What was said: one line that is always text to copy, and all of it in a list."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget

from .. import theme
from ..parts.spoken import announce
from . import facts

MARKS = {"info": "●", "warning": "▲", "error": "✕"}
KEPT = 1000
INFO_MS = 12_000  # so long a mere information stands; warnings and errors stay until they are put away


@dataclass(frozen=True)
class Message:
    """One thing that was said, when, and how bad it is."""

    at: str
    level: str
    words: str

    def line(self) -> str:
        """As text."""
        return f"{self.at}  {self.level:<7}  {self.words}"


class Messages(QObject):
    """All that was said in this session, the last thousand."""

    added = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.all: list[Message] = []

    def add(self, level: str, words: str) -> None:
        """Say something."""
        message = Message(facts.moment(), level if level in MARKS else "info", words)
        self.all.append(message)
        del self.all[:-KEPT]
        self.added.emit(message)

    def text(self) -> str:
        """All of it as text."""
        return "\n".join(message.line() for message in self.all) or "nothing was said yet"


class MessageStrip(QFrame):
    """The last message, across the window; it takes no room while there is none."""

    def __init__(self, messages: Messages, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("messages")
        self._level = "info"
        self.label = QLabel(self)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setWordWrap(True)
        self.label.setAccessibleName("Last message")
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse
                                           | Qt.TextInteractionFlag.TextSelectableByKeyboard)  # fmt: skip
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.away = QPushButton("Put away", self)
        self.away.setProperty("role", "flat")
        self.away.setAccessibleName("Put the message away")
        self.away.setToolTip("It stays in the list of messages (Ctrl+M)")
        self.away.clicked.connect(self.hide)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.hide)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(10, 2, 6, 2)
        layout.addWidget(self.label, 1)
        layout.addWidget(self.away)
        messages.added.connect(self.show_message)
        self.hide()

    def show_message(self, message: Message) -> None:
        """Show it; an information does not push an error away."""
        if message.level == "info" and self._level == "error" and self.isVisible():
            return
        self._level = message.level
        words = message.words if len(message.words) < 600 else message.words[:600] + " ... (Ctrl+M shows all)"
        self.label.setText(f"{MARKS[message.level]} {message.level.upper()}  {words}")
        self.label.setAccessibleDescription(message.words)
        announce(self.label, f"{message.level}: {words}", urgent=message.level == "error")
        self.restyle()
        self.show()
        self._timer.start(INFO_MS) if message.level == "info" else self._timer.stop()

    def restyle(self) -> None:
        """Colours have changed."""
        t = theme.tokens()
        color = {"info": t.accent, "warning": t.warn, "error": t.bad}[self._level]
        ground = theme.mixed(t.panel, color, 0.08)
        self.setStyleSheet(f"QFrame#messages {{ background: {ground}; border-left: 4px solid {color}; }}"
                           f"QFrame#messages QLabel {{ color: {t.text}; background: transparent; }}")  # fmt: skip
