"""The time slider says where the run is shown, and that it goes to a step while that takes a moment."""

from __future__ import annotations

from typing import Any

from neurobench.gui.frame.actions import ACTIONS
from neurobench.gui.frame.timebar import TimeBar
from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QWidget
from snapshots import snapshot

from neurobench.runs.history import Snapshot


class Shown(QObject):
    """As much of a session as the slider needs; nothing is read."""

    snapshot_changed = Signal()
    said = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.snapshot: Snapshot | None = snapshot(seq=90, last_seq=90)
        self.at_seq: int | None = None

    def show_at(self, seq: int | None) -> bool:
        self.at_seq = seq
        return True

    def comes(self, seq: int, error: str | None = None) -> None:
        self.snapshot = snapshot(seq=seq, last_seq=90, error=error)
        self.snapshot_changed.emit()


class Keys(QWidget):
    """The window that the actions hang on."""

    def by_name(self, name: str) -> QAction:
        return self.findChild(QAction, name)


def test_the_bar_says_that_it_goes_to_a_step_until_that_is_shown(qtbot: Any) -> None:
    session, keys = Shown(), Keys()
    qtbot.addWidget(keys)
    for action in ACTIONS:
        QAction(action.text, keys).setObjectName(action.name)
    bar = TimeBar(session, keys, keys)  # type: ignore[arg-type]
    keys.show()
    assert bar.words.text().endswith("newest")
    qtbot.mouseClick(bar.back, Qt.MouseButton.LeftButton)
    assert session.at_seq == 89
    qtbot.waitUntil(lambda: bar.words.text().endswith("going to step 89 ..."))
    assert bar.words.text().startswith("step 90 of 90")
    session.comes(89)
    qtbot.waitUntil(lambda: bar.words.text().endswith("looking back"))
    bar.slider.setValue(40)
    qtbot.waitUntil(lambda: bar.words.text().endswith("going to step 40 ..."))
    session.comes(30, "step 31 is damaged")
    qtbot.waitUntil(lambda: bar.words.text().endswith("looking back"))
    bar.slider.setValue(90)
    qtbot.waitUntil(lambda: bar.words.text().endswith("newest"))
