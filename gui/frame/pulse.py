"""Draws the views that are seen, at most thirty times a second, and measures how well the window keeps up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QTimer

if TYPE_CHECKING:
    from ..session.session import Session
    from ..views.base import View

FRAME_S = 1 / 30
BEAT_MS = 100


class Pulse(QObject):
    """`seen` gives the views of which anything can be seen. What comes too fast is drawn once, the newest of it."""

    def __init__(self, session: Session, seen: Callable[[], Iterable[View]], parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._seen = session, seen
        self._drawn_at, self._due = 0.0, QTimer(self)
        self._each_at: dict[str, float] = {}  # when a view that takes its time was drawn last, by its name
        self._due.setSingleShot(True)
        self._due.setTimerType(Qt.TimerType.PreciseTimer)
        self._due.timeout.connect(self.draw)
        self._painted = QTimer(self)  # runs out when what was drawn is painted: Qt paints before it hears timers
        self._painted.setSingleShot(True)
        self._painted.setInterval(0)
        self._painted.timeout.connect(session.drawn)
        self._frames, self._late_s, self._since = 0, 0.0, time.monotonic()
        self._beat_at = time.monotonic()
        self._beat = QTimer(self)
        self._beat.setInterval(BEAT_MS)
        self._beat.setTimerType(Qt.TimerType.PreciseTimer)
        self._beat.timeout.connect(self._heard_beat)
        self._beat.start()
        session.snapshot_changed.connect(self.ask)

    def ask(self) -> None:
        """Something new is to be drawn: now, or when the last frame is old enough."""
        wait_ms = max(round(1000 * (self._drawn_at + FRAME_S - time.monotonic())), 0)
        if not self._due.isActive() or self._due.remainingTime() > wait_ms:
            self._due.start(wait_ms)

    def draw(self) -> None:
        """Draw every view that is seen. One that fails says so once, and the others are drawn.

        Of the views that take their time (`every_s`) one is drawn in a frame, so that the loop is never long away;
        what was left out is drawn in one of the next frames, also if nothing new comes.
        """
        now = self._drawn_at = time.monotonic()
        self._frames += 1
        self._painted.start()
        snapshot, slow = self._session.snapshot, []
        calm = snapshot is not None and snapshot.live and self._session.at_seq is None
        for view in self._seen():
            if view.every_s and calm:
                slow.append(view)
            else:
                self._draw(view)
        slow.sort(key=lambda view: self._each_at.get(view.name, 0.0) + view.every_s)
        if slow and self._each_at.get(slow[0].name, 0.0) + slow[0].every_s <= now:
            self._each_at[slow[0].name] = now
            self._draw(slow.pop(0))
        if slow:
            wait_s = min(self._each_at.get(view.name, 0.0) + view.every_s for view in slow) - now
            self._due.start(round(1000 * max(wait_s, FRAME_S)))

    def _draw(self, view: View) -> None:
        try:
            view.draw(self._session.snapshot)
        except Exception as error:  # noqa: BLE001 - a view's mistake must not take the window with it
            self._failed(view, error)

    def _failed(self, view: View, error: Exception) -> None:
        if view.property("neurobench_failed") != str(error):
            view.setProperty("neurobench_failed", str(error))
            self._session.said.emit("error", f"the view {view.title} cannot show this: {type(error).__name__}: {error}")

    def _heard_beat(self) -> None:
        now = time.monotonic()
        self._late_s = max(self._late_s, now - self._beat_at - BEAT_MS / 1000)
        self._beat_at = now

    def measured(self) -> tuple[float, float]:
        """Frames per second and the largest lateness of the window's loop in seconds, since the last call."""
        now = time.monotonic()
        frames, late_s = self._frames / max(now - self._since, 1e-3), max(self._late_s, 0.0)
        self._frames, self._late_s, self._since = 0, 0.0, now
        return frames, late_s

    def stop(self) -> None:
        """No frame any more."""
        self._due.stop()
        self._painted.stop()
        self._beat.stop()
