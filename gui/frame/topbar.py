"""The bar that never goes away: state, bench, SIMULATED, run, progress, limits, outputs, abort."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, Qt, QTimer
from PySide6.QtGui import QAction, QFontMetrics
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from .. import theme
from ..parts.calm import Calm
from ..parts.flow import FlowLayout
from ..parts.spoken import announce
from ..session.states import LIVE, BenchState
from . import facts

if TYPE_CHECKING:
    from ..session.session import Session
    from .actions import Actions


ON_HELD_S = 0.5  # the lamp shows at least so long that the outputs were on
AT_ONCE = (BenchState.PAUSED, BenchState.ABORTING, BenchState.FAULT)  # here OFF is waited for: it is told at once


class ActionButton(QPushButton):
    """A button that is one action: its text, its key, its tip, and whether it is possible.

    `at_once`: it acts when it is pressed, and does not wait until it is let go.
    """

    def __init__(
        self, action: QAction, mark: str = "", parent: QWidget | None = None, words: str = "", *, at_once: bool = False
    ) -> None:
        super().__init__(parent)
        self._action, self._mark, self._words = action, mark, words
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        (self.pressed if at_once else self.clicked).connect(action.trigger)
        action.changed.connect(self._show)
        self._show()

    def _show(self) -> None:
        action = self._action
        key = action.shortcut().toString()
        self.setText(self._words or " ".join(part for part in (self._mark, action.text(), key) if part))
        self.setToolTip(action.toolTip())
        self.setAccessibleName(action.text())
        self.setEnabled(action.isEnabled())


class TwoLines(QWidget):
    """A fact in bold, and what belongs to it below; long words are cut with dots and stand whole in the tip."""

    def __init__(self, name: str, chars: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._chars, self._words = chars, ("", "")
        self._lines = (QLabel(self), QLabel(self))
        self._lines[1].setProperty("role", "dim")
        self.setAccessibleName(name)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 0, 4, 0)
        layout.setSpacing(0)
        for line in self._lines:
            line.setTextFormat(Qt.TextFormat.PlainText)
            layout.addWidget(line)
        self.restyle()

    def say(self, first: str, second: str) -> None:
        """Show these."""
        if (first, second) != self._words:
            self._words = first, second
            self._cut()
            self.setToolTip(f"{self.accessibleName()}: {first}; {second}")
            self.setAccessibleDescription(f"{first}; {second}")

    def restyle(self) -> None:
        """The font has changed: its width goes with it."""
        font = self.font()
        font.setBold(True)
        self._lines[0].setFont(font)
        self.setFixedWidth(
            QFontMetrics(self.font()).averageCharWidth() * round(self._chars * (1.0 if theme.scale() < 1.4 else 0.82))
            + 8
        )
        self._cut()

    def _cut(self) -> None:
        for line, words in zip(self._lines, self._words, strict=True):
            room = self.width() - 10
            line.setText(QFontMetrics(line.font()).elidedText(words, Qt.TextElideMode.ElideRight, room))


class Badge(QLabel):
    """A word on a colour, with its mark; as wide as the widest of `words`, so that the bar does not jump."""

    def __init__(self, name: str, words: tuple[str, ...], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._widest = words
        self.setAccessibleName(name)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._colors = ("", "")

    def say(self, words: str, color: str, on_color: str) -> None:
        """Show these words on this colour."""
        if words != self.text():
            self.setText(words)
            self.setAccessibleDescription(words)
            self.restyle()
        if (color, on_color) != self._colors:
            self._colors = color, on_color
            self.setStyleSheet(
                f"background: {color}; color: {on_color}; border-radius: 4px; padding: 2px; font-weight: 700;"
            )

    def restyle(self) -> None:
        """The font or the words have changed: what is longer than all that was expected has its room, too."""
        font = self.font()
        font.setBold(True)
        metrics = QFontMetrics(font)
        lines = [line for word in (*self._widest, self.text()) for line in word.split("\n")]
        self.setFixedWidth(max(metrics.horizontalAdvance(line) for line in lines) + 14)


class ProgressCell(QProgressBar):
    """A bar with two lines upon it: what is done, and what is left."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Progress")
        self.setTextVisible(False)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        self.label = QLabel("no run", self)
        self.label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setStyleSheet("background: transparent;")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label)

    def say(self, done: int, total: int, words: str) -> None:
        """So much of so much (0: nobody can say), in these words."""
        if (self.value(), self.maximum()) != (done, max(total, 1)):
            self.setRange(0, max(total, 1))
            self.setValue(done)
        if words != self.label.text():
            self.label.setText(words)
            self.grow()
            self.setToolTip(f"Progress: {words.replace(chr(10), ', ')}")
            self.setAccessibleDescription(words)

    def grow(self) -> None:
        """Long words are not cut; it does not shrink again, so that the bar stays calm."""
        needs = self.label.sizeHint().width() + 12
        if needs > self.width():
            self.setFixedWidth(needs)


class TopBar(QFrame):
    """Always there: where the window is too narrow it goes on in a second line, and Abort stays at the right."""

    def __init__(self, session: Session, actions: Actions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("topbar")
        self._session, self._pace = session, facts.Pace()
        self._look, self._on_at = Calm(self.look, self), -ON_HELD_S
        self._on = QTimer(self)  # runs out when the lamp may show again that the outputs are off
        self._on.setSingleShot(True)
        self._on.timeout.connect(self._outputs)
        looks = tuple(theme.state_look(state) for state in BenchState)
        self.state = Badge("State", tuple(f"{mark} {word}" for _, word, mark in looks), self)
        self.bench = TwoLines("Bench and chip", 28, self)
        self.banner = Badge("Origin of the data", ("SIMULATED",), self)
        self.progress = ProgressCell(self)
        self.limits = QToolButton(self)
        self.outputs = Badge("Outputs", ("? UNKNOWN",), self)
        self.abort = ActionButton(actions.by_name("abort"), parent=self, words="ABORT  Esc", at_once=True)
        self.run = ActionButton(actions.by_name("run"), "►", self)
        self.pause = ActionButton(actions.by_name("pause"), "‖", self)
        self.stop = ActionButton(actions.by_name("stop"), parent=self, words="■ Stop")
        self.acknowledge = ActionButton(actions.by_name("acknowledge"), "▲", self)
        self._build(actions)
        session.state_changed.connect(self._state)
        session.bench_changed.connect(self._bench)
        session.outputs_changed.connect(self._outputs)
        session.snapshot_changed.connect(self._look.ask)
        self.restyle()

    def _build(self, actions: Actions) -> None:
        self.run.setProperty("role", "primary")
        self.abort.setProperty("role", "abort")
        self.limits.setAccessibleName("Limits")
        self.limits.setProperty("role", "fact")
        self.limits.clicked.connect(actions.by_name("limits").trigger)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 6, 8, 6)
        row.setSpacing(8)
        flow = FlowLayout(spacing=6)
        for one in (self.state, self.bench, self.banner, self.run, self.pause, self.stop, self.acknowledge,
                    self.progress, self.limits, self.outputs):  # fmt: skip
            flow.addWidget(one)
        row.addLayout(flow, 1)
        row.addWidget(self.abort, 0, Qt.AlignmentFlag.AlignTop)

    def restyle(self) -> None:
        """Colours or font have changed."""
        em = theme.em()
        self.abort.setMinimumSize(max(150, 8 * em), max(44, round(2.35 * em)))
        boxes = (
            self.state,
            self.banner,
            self.run,
            self.pause,
            self.stop,
            self.acknowledge,
            self.progress,
            self.outputs,
        )
        for box in boxes:
            box.setFixedHeight(max(44, round(2.35 * em)))
        self.progress.setFixedWidth(8 * em)
        self.progress.grow()
        for badge in (self.bench, self.state, self.banner, self.outputs):
            badge.restyle()
        self._state()
        self._bench()
        self._outputs()

    def _state(self, *_: object) -> None:
        color, word, mark = theme.state_look(self._session.state)
        told = "There is a fault" if self._session.state is BenchState.FAULT else f"The bench is {word.lower()}"
        if told != self.state.toolTip():
            announce(self.state, told, urgent=self._session.state is BenchState.FAULT)
        self.state.say(f"{mark} {word}", color, theme.ON_STATE)
        self.state.setToolTip(told)
        self.state.setAccessibleDescription(told)
        self.acknowledge.setVisible(self._session.state is BenchState.FAULT)
        self.stop.setVisible(self._session.state is not BenchState.FAULT)
        self._outputs()
        self.look()

    def _bench(self) -> None:
        self.bench.say(*facts.bench_words(self._session))
        first, second = facts.limits_words(self._session.bench)
        self.limits.setText(f"{first}\n{second}")
        self.limits.setAccessibleDescription(f"{first}; {second}. A click shows all of them, and whose rule each is")
        self.limits.setToolTip("The limits of this chip; a click (Ctrl+L) shows all of them, and whose rule each is")
        self._origin()

    def _origin(self) -> None:
        t = theme.tokens()
        origin = facts.origin(self._session)
        words = origin.badge()
        self.banner.setVisible(bool(words))
        if words:
            self.banner.say(words, t.simulated, t.on_simulated)
            self.banner.setToolTip(
                "What is shown does not come from this bench: " + origin.words() if origin.differ
                else "No real chip: what is shown was computed by an emulator or simulated instruments"
            )  # fmt: skip

    def _outputs(self) -> None:
        mark, word, how = facts.outputs_words(self._lamp())
        look = {"ON": theme.WRONG, "OFF": theme.IDLE, "UNKNOWN": theme.HELD}[word]
        self.outputs.say(f"OUTPUTS\n{mark} {word}", look, theme.ON_STATE)
        self.outputs.setAccessibleDescription(f"Outputs {word}")
        self.outputs.setToolTip(f"Outputs {word}: {how}. ON is shown for half a second at least, however short it was")

    def _lamp(self) -> Mapping[str, Any]:
        """The outputs as the lamp shows them: pulses come and go faster than anybody can read, so ON stays a while."""
        outputs, now = self._session.outputs, time.monotonic()
        if outputs.get("on") is not False:
            self._on_at = now if outputs.get("on") else -ON_HELD_S
        left_s = self._on_at + ON_HELD_S - now
        if outputs.get("on") is not False or left_s <= 0 or self._session.state in AT_ONCE:
            self._on.stop()
            return outputs
        if not self._on.isActive():
            self._on.start(round(1000 * left_s) + 1)
        return {**outputs, "on": True}

    def look(self) -> None:
        """What follows the snapshot: progress, time left, origin, lifetime."""
        snapshot = self._session.snapshot
        now = facts.progress(snapshot)
        if snapshot is None or now is None:
            self.progress.say(0, 1, "no run")
        else:
            left_s = self._pace.left_s(snapshot, now)
            left = "" if left_s is None else f"{facts.clock(left_s)} left"
            below = left if self._session.state in LIVE else snapshot.status.replace("_", " ")
            if self._session.at_seq is not None:
                below = "looking back"
            self.progress.say(min(now.done, now.total), now.total, f"{now.words()}\n{below}".strip())
        self.bench.say(*facts.bench_words(self._session))
        self._origin()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """A new font comes from the program as a whole."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and isinstance(self.layout(), QHBoxLayout):
            self.restyle()
