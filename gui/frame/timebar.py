"""The time slider: a run as it stood after any of its steps, the same for a live run and an old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QSlider, QWidget

from .. import theme
from ..parts.calm import Calm
from ..parts.line import Line
from .topbar import ActionButton

if TYPE_CHECKING:
    from ..session.session import Session
    from .actions import Actions

TICKS = 10_000_000  # Qt's sliders hold 32 bits


class TimeBar(QFrame):
    """Moves `session.show_at`; at its right end it follows the newest step."""

    def __init__(self, session: Session, actions: Actions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("timebar")
        self._session, self._telling = session, False
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setAccessibleName("Step of the run")
        self.slider.setToolTip("Back in the run's time; at the right end it follows the newest step (Alt+End)")
        self.slider.setPageStep(10)
        self.words = Line(self)
        self.words.setProperty("role", "")
        self.words.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.words.setAccessibleName("Step that is shown")
        self._look = Calm(self.look_now, self)
        self.back = ActionButton(actions.by_name("step.back"), parent=self, words="◄")
        self.forward = ActionButton(actions.by_name("step.forward"), parent=self, words="►")
        self.newest = ActionButton(actions.by_name("step.newest"), parent=self, words="►|")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 2)
        layout.addWidget(self.back)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.forward)
        layout.addWidget(self.newest)
        layout.addWidget(self.words)
        self.slider.valueChanged.connect(self._moved)
        actions.by_name("step.back").triggered.connect(self.step_back)
        actions.by_name("step.forward").triggered.connect(self.step_forward)
        actions.by_name("step.newest").triggered.connect(self.follow)
        session.snapshot_changed.connect(self._look.ask)
        self.restyle()
        self.look_now()

    def restyle(self) -> None:
        """The font has changed."""
        self.words.setFixedWidth(15 * theme.em())
        self._say(self.words.text())

    def _say(self, words: str) -> None:
        """The place of the words grows with them and does not shrink: the bar stays calm."""
        wide = QFontMetrics(self.words.font()).horizontalAdvance(words)
        if wide > self.words.minimumWidth():
            self.words.setFixedWidth(wide + theme.em())
        self.words.say(words)

    def look_now(self) -> None:
        """Show where the snapshot stands."""
        snapshot, at = self._session.snapshot, self._session.at_seq
        self.slider.setEnabled(snapshot is not None)
        if snapshot is None:
            self._say("no run is open")
            return
        self._telling = True
        last = max(min(snapshot.last_seq, TICKS), 0)
        if self.slider.maximum() != last:
            self.slider.setMaximum(last)
        if not self.slider.isSliderDown():
            self.slider.setValue(last if at is None else at)
        self._telling = False
        following = "newest" if at is None else "looking back"
        if at is not None and at != snapshot.seq and snapshot.error is None:  # of a long run that takes a moment
            following = f"going to step {at} ..."
        self._say(f"step {snapshot.seq} of {snapshot.last_seq}   {snapshot.at_s:.4g} s   {following}")

    def _moved(self, value: int) -> None:
        if not self._telling:
            self._go_to(None if value >= self.slider.maximum() else value)

    def _go_to(self, seq: int | None) -> None:
        self._session.show_at(seq)
        self._look.ask()

    def step_back(self) -> None:
        """One step earlier."""
        self._step(-1)

    def step_forward(self) -> None:
        """One step later."""
        self._step(1)

    def _step(self, by: int) -> None:
        snapshot = self._session.snapshot
        if snapshot is None:
            self._session.said.emit("warning", "no run is open, so there is no step to go to: F5 starts one")
            return
        to = max((snapshot.seq if self._session.at_seq is None else self._session.at_seq) + by, 0)
        self._go_to(None if to >= snapshot.last_seq else to)

    def follow(self) -> None:
        """The newest step, and every one that comes."""
        if self._session.snapshot is None:
            self._session.said.emit("warning", "no run is open: F5 starts one")
        else:
            self._session.show_at(None)
