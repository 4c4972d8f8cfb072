"""Work that is not for the window's own process: a child process of the command line, whose JSON comes back."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QObject, QProcess, QTimer, Signal

PATIENCE_MS = 5000  # so long a cancelled child may take to end in order


class Job(QObject):
    """`python -m neurobench WORDS --json` beside the window.

    done(dict): the object it printed, with its "exit_code"; failed(str): it printed none, in its own words; one of the
    two comes exactly once, unless it was cancelled. line(str): what it says meanwhile on stderr. gone: the child has
    ended, in whatever way; nothing comes after it.
    """

    done = Signal(dict)
    failed = Signal(str)
    line = Signal(str)
    gone = Signal()

    def __init__(self, words: Sequence[str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.words = [*words] if "--json" in words else [*words, "--json"]
        self._said = bytearray()
        self._cancelled = False
        self._process = QProcess(self)
        self._process.setProgram(sys.executable)
        self._process.setArguments(["-m", "neurobench", *self.words])
        self._process.readyReadStandardError.connect(self._hear)
        self._process.finished.connect(self._ended)
        self._process.errorOccurred.connect(self._not_started)

    def start(self) -> None:
        """Begin; returns at once."""
        self._process.start()

    @property
    def running(self) -> bool:
        """Whether the child is there."""
        return bool(self._process.state() != QProcess.ProcessState.NotRunning)

    def cancel(self) -> None:
        """Ask the child to end in order; it is ended hard if it takes too long. Nothing is told any more."""
        self._cancelled = True
        if self.running:
            self._process.terminate()
            QTimer.singleShot(PATIENCE_MS, self._process, self._process.kill)

    def wait(self, timeout_ms: int = PATIENCE_MS) -> bool:
        """Wait for the child's end, for a window that closes; it is ended hard after the time."""
        if self.running and not self._process.waitForFinished(timeout_ms):
            self._process.kill()
            self._process.waitForFinished(timeout_ms)
        return not self.running

    def _hear(self) -> None:
        heard = bytes(self._process.readAllStandardError().data())
        self._said += heard
        for text in heard.decode(errors="replace").splitlines():
            if text.strip():
                self.line.emit(text)

    def _ended(self, code: int, _how: QProcess.ExitStatus) -> None:
        if not self._cancelled:
            self._tell(code)
        self.gone.emit()

    def _tell(self, code: int) -> None:
        out = bytes(self._process.readAllStandardOutput().data()).decode(errors="replace")
        try:
            found: Any = json.loads(out)
        except ValueError:
            found = None
        if isinstance(found, dict):
            self.done.emit({**found, "exit_code": code})
        else:
            words = self._said.decode(errors="replace").strip() or out.strip() or f"it ended with code {code}"
            self.failed.emit(words[-2000:])

    def _not_started(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:  # then `finished` never comes
            if not self._cancelled:
                self.failed.emit(f"cannot start {sys.executable}: {self._process.errorString()}")
            self.gone.emit()
