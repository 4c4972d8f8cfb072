"""One question at a time to a bench, as a child process of the command line: what is asked, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from ..session.jobs import Job
    from ..session.session import Session

BUSY = "something is being asked of a bench already: wait, or cancel it"


class Asking(QObject):
    """said(words, role): what goes on, and how it ended. changed: it has begun, or ended."""

    said = Signal(str, str)
    changed = Signal()

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._job: Job | None = None

    @property
    def working(self) -> bool:
        """Whether something is being asked."""
        return self._job is not None

    def ask(self, doing: str, words: Sequence[str], done: Callable[[dict[str, Any]], None]) -> bool:
        """Ask; `done` is called with the answer. False where something else is being asked."""
        if self._job is not None:
            self.said.emit(BUSY, "warn")
            return False

        def ended(found: dict[str, Any]) -> None:
            self._job = None
            done(found)
            self.changed.emit()

        self.said.emit(doing + " ...", "")
        self._job = self._session.job(list(words), ended, self._failed)
        self.changed.emit()
        return True

    def _failed(self, words: str) -> None:
        self._job = None
        self.said.emit(words, "bad")
        self.changed.emit()

    def plain_end(self, found: Mapping[str, Any], well: str) -> None:
        """Say how it ended: `well`, or in its own words."""
        if found["exit_code"] == 0:
            self.said.emit(well, "ok")
        else:
            wrong = found.get("error") or found.get("fault") or f"it ended with code {found['exit_code']}"
            self.said.emit(str(wrong), "bad")

    def cancel(self) -> bool:
        """Give up what is being asked; False if it is nothing."""
        job, self._job = self._job, None
        if job is None:
            return False
        job.cancel()
        self.said.emit("cancelled", "warn")
        self.changed.emit()
        return True
