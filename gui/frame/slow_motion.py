"""A run shown once more, slowly: an emulated one is over before anybody has seen it learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QObject, QTimer, Signal

from ..session.states import LIVE

if TYPE_CHECKING:
    from ..session.session import Session

LASTS_S = 8.0
MOST_FRAMES = 120


class SlowMotion(QObject):
    """Moves the session's time from the first step to the newest. It gives way to whoever else moves it.

    running_changed(bool): whether it is going on.
    """

    running_changed = Signal(bool)

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._path: Path | None = None
        self._left: list[int] = []
        self._at: int | None = None
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._step)

    @property
    def running(self) -> bool:
        """Whether it is going on."""
        return self._timer.isActive()

    def start(self, lasts_s: float = LASTS_S) -> bool:
        """Show the open run from its beginning; False where there is nothing to show."""
        snapshot = self._session.snapshot
        if snapshot is None or snapshot.last_seq < 1 or self._session.state in LIVE:
            return False
        frames = min(snapshot.last_seq + 1, MOST_FRAMES)
        self._left = [int(seq) for seq in np.linspace(0, snapshot.last_seq, frames)]
        self._path, self._at = self._session.run_path, self._session.at_seq
        self._timer.start(int(1000 * lasts_s / frames))
        self.running_changed.emit(True)
        return True

    def stop(self) -> None:
        """Leave the run where it is shown."""
        if self._timer.isActive():
            self._timer.stop()
            self.running_changed.emit(False)

    def _step(self) -> None:
        session = self._session
        moved = session.at_seq != self._at or session.run_path != self._path
        if moved or session.state in LIVE:
            self.stop()
            return
        if len(self._left) <= 1:
            session.show_at(None)
            self.stop()
            return
        self._at = self._left.pop(0)
        session.show_at(self._at)
