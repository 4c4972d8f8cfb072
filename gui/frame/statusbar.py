"""The line at the bottom: origin of the data, energy with its basis, file, and how well the window keeps up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QFrame, QLabel, QVBoxLayout, QWidget

from .. import theme
from ..parts.flow import FlowLayout
from ..session.states import LIVE
from . import facts

if TYPE_CHECKING:
    from ..session.session import Session
    from .pulse import Pulse

EVERY_MS = 1000
ROOMY = 1.6  # text size from which the speed of the window is left out


class StatusBar(QFrame):
    """Looks once a second; at large fonts it goes on in a second line."""

    def __init__(self, session: Session, pulse: Pulse, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("statusbar")
        self._session, self._pulse = session, pulse
        self._about: object = None  # of the run that was shown last
        row = FlowLayout(spacing=16, line_spacing=1)
        self.origin, self.energy, self.file, self.death, self.speed = (
            self._label(row, name) for name in ("Origin", "Energy", "File", "If the window dies", "Speed of the window")
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 2, 10, 3)
        layout.addLayout(row)
        self._timer = QTimer(self)
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()
        for signal in (session.state_changed, session.bench_changed):
            signal.connect(self._now)
        session.snapshot_changed.connect(self._another)
        self.look()

    def _label(self, row: FlowLayout, name: str) -> QLabel:
        label = QLabel(self)
        label.setAccessibleName(name)
        label.setToolTip(name)
        label.setProperty("role", "dim")
        row.addWidget(label)
        return label

    def _now(self, *_: object) -> None:
        self.look()

    def _another(self) -> None:
        """Whose data is shown is said with the first of it."""
        snapshot = self._session.snapshot
        about = None if snapshot is None else snapshot.about
        if about is not self._about:
            self._about = about
            self.look()

    def look(self) -> None:
        """Say how it is."""
        session = self._session
        origin = facts.origin(session)
        self._say(self.origin, origin.words())
        self._role(self.origin, "simulated" if origin.badge() else "dim")
        self._say(self.energy, facts.energy_words(session.snapshot))
        self._say(self.file, facts.file_words(session))
        self.file.setToolTip(str(session.run_path.absolute()) if session.run_path else "File of the run")
        self._say(self.death, self._death())
        frames, late_s = self._pulse.measured()
        roomy = theme.scale() < ROOMY  # of large text there is only as much as has to be known
        self._say(self.speed, f"view {frames:.0f} fps  lag {late_s * 1000:.0f} ms" if roomy else "")

    def _death(self) -> str:
        if self._session.state not in LIVE:
            return ""
        held = self._session.run_held  # as it was begun: a setting that was changed since is for the next run
        return "if the window dies: abort, outputs off" if held else "if the window dies: the run goes on"

    def _say(self, label: QLabel, words: str) -> None:
        if label.text() != words:
            label.setText(words)
        label.setVisible(bool(words))

    def _role(self, label: QLabel, role: str) -> None:
        if label.property("role") != role:
            label.setProperty("role", role)
            label.style().unpolish(label)
            label.style().polish(label)

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()
