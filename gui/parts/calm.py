"""Words that follow a run need no thirty frames a second: whoever asks more often is told ten times a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer

EVERY_S = 0.1


class Calm(QObject):
    """Calls `call` when it is asked to: at once, or when the last time is long enough ago, so nothing is left out."""

    def __init__(self, call: Callable[[], None], parent: QObject, every_s: float = EVERY_S) -> None:
        super().__init__(parent)
        self._call, self._every_s, self._at = call, every_s, 0.0
        self._due = QTimer(self)
        self._due.setSingleShot(True)
        self._due.timeout.connect(self._now)

    def ask(self) -> None:
        """There is something new."""
        wait_s = self._at + self._every_s - time.monotonic()
        if wait_s <= 0:
            self._now()
        elif not self._due.isActive():
            self._due.start(round(1000 * wait_s))

    def _now(self) -> None:
        self._due.stop()
        self._at = time.monotonic()
        self._call()
