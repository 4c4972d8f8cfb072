"""What a child process is doing for a page, for how long already, and the way to stop it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QWidget

from .line import Line

if TYPE_CHECKING:
    from ..session.jobs import Job

SECOND_MS = 1000


class Working(QWidget):
    """One line that is only there while something is worked on.

    ended: the child is gone, and another one may be asked; cancelled(words): it went because somebody wanted that.
    """

    ended = Signal()
    cancelled = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._words, self._began, self._unwanted = "", 0.0, False
        self._job: Job | None = None
        self.line = Line()
        self.line.setProperty("role", "")
        self.stop = QPushButton("Cancel")
        self.stop.setAccessibleName("Cancel what is being worked on")
        self.stop.setToolTip("End it in order; what it has not finished is not kept")
        self.stop.clicked.connect(self._stop)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        row.addWidget(self.stop)
        self._clock = QTimer(self)
        self._clock.setInterval(SECOND_MS)
        self._clock.timeout.connect(self._say)
        self.hide()

    @property
    def words(self) -> str:
        """What is being worked on; "" if nothing is."""
        return self._words

    def watch(self, job: Job, words: str, *, stoppable: bool = True) -> None:
        """Show this child until it is gone."""
        if not job.running:  # it could not even be started, and has said so
            return
        self._words, self._began, self._job, self._unwanted = words, time.monotonic(), job, False
        job.gone.connect(self._gone)
        self.stop.setVisible(stoppable)
        self.stop.setEnabled(True)
        self._clock.start()
        self._say()
        self.show()

    def _say(self) -> None:
        if self._unwanted:
            self.line.say(f"Cancelling: {self._words} ...")
            return
        seconds = int(time.monotonic() - self._began)
        self.line.say(f"{self._words} ..." + (f" {seconds} s" if seconds else ""))

    def _stop(self) -> None:
        if self._job is not None and self._job.running:
            self._unwanted = True
            self.stop.setEnabled(False)
            self._job.cancel()
            self._say()

    def _gone(self) -> None:
        words, unwanted = self._words, self._unwanted
        self._words, self._job = "", None
        self._clock.stop()
        self.hide()
        self.ended.emit()
        if unwanted:
            self.cancelled.emit(words)
