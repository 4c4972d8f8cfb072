"""A button for what must not happen by a slip: it can ask to be held down, by mouse or by the space bar."""

from __future__ import annotations

import time

from PySide6.QtCore import QRect, QTimer, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QPushButton, QWidget

from .. import theme

LOOK_MS = 30


class HoldButton(QPushButton):
    """`fired`: it was pressed, and held for `hold_s` where that is not 0. `let_go(seconds)`: not long enough."""

    fired = Signal()
    let_go = Signal(float)

    def __init__(self, text: str, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.hold_s = 0.0
        self._since: float | None = None
        self._look = QTimer(self)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self._held)
        self.pressed.connect(self._pressed)
        self.released.connect(self._released)
        self.setAutoDefault(False)

    def _pressed(self) -> None:
        if self.hold_s > 0:
            self._since = time.monotonic()
            self._look.start()

    def _held(self) -> None:
        if self._since is None or time.monotonic() - self._since >= self.hold_s:
            fired = self._since is not None
            self._end()
            if fired:
                self.fired.emit()
        self.update()

    def _released(self) -> None:
        if self.hold_s <= 0:
            self.fired.emit()
        elif self._since is not None:
            held_s = time.monotonic() - self._since
            self._end()
            self.let_go.emit(held_s)
        self.update()

    def _end(self) -> None:
        self._since = None
        self._look.stop()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """While it is held, a bar shows how long it still takes."""
        super().paintEvent(event)
        if self._since is None:
            return
        share = min((time.monotonic() - self._since) / self.hold_s, 1.0)
        painter = QPainter(self)
        painter.fillRect(QRect(3, self.height() - 6, int((self.width() - 6) * share), 4), QColor(theme.tokens().warn))
