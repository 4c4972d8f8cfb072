"""What a screen reader is told: the cell under the cursor, the lamps and the banner, another state, a message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import seen
import snapshots
from neurobench.gui.frame.actions import Actions
from neurobench.gui.frame.messages import Messages, MessageStrip
from neurobench.gui.frame.topbar import TopBar
from neurobench.gui.parts import spoken
from neurobench.gui.selection import Selection
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import Event
from neurobench.gui.views.crossbar import CrossbarView
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QApplication, QMainWindow, QWidget

TEXT = QAccessible.Text


class Reader:
    """Stands in for QAccessible: somebody listens, and here is what was said."""

    AnnouncementPoliteness = QAccessible.AnnouncementPoliteness
    isActive = staticmethod(lambda: True)  # noqa: N815 - Qt's name

    def __init__(self) -> None:
        self.heard: list[tuple[str, bool]] = []

    def updateAccessibility(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Qt's: hear it."""
        assert event.type() == QAccessible.Event.Announcement
        self.heard.append((event.message(), event.politeness() == self.AnnouncementPoliteness.Assertive))


@pytest.fixture
def reader(qt: str, monkeypatch: pytest.MonkeyPatch) -> Reader:
    made = Reader()
    monkeypatch.setattr(spoken, "QAccessible", made)
    return made


@pytest.fixture
def view(window_app: QApplication, qtbot: Any) -> Iterator[CrossbarView]:
    made = CrossbarView(Selection((4, 4)))
    qtbot.addWidget(made)
    made.resize(460, 420)
    seen.active(qtbot, made)
    yield made
    made.close()


def told(widget: QWidget) -> tuple[str, str]:
    """Name and description, as the interface of a screen reader has them."""
    interface = QAccessible.queryAccessibleInterface(widget)
    assert interface is not None
    return interface.text(TEXT.Name), interface.text(TEXT.Description)


def test_the_cell_that_the_cursor_comes_to_is_said(view: CrossbarView, reader: Reader, qtbot: Any) -> None:
    view.draw(snapshots.snapshot())
    view.canvas.setFocus()
    qtbot.keyClick(view.canvas, Qt.Key.Key_Down)
    qtbot.keyClick(view.canvas, Qt.Key.Key_Space)
    (moved, _), (toggled, _) = reader.heard
    assert moved.startswith("W1 B0")
    assert "µS" in moved
    assert moved == f"{toggled}, chosen"
    name, description = told(view.canvas)
    assert name == "Crossbar map"
    assert description.startswith(toggled)
    assert "Arrow keys move" in description


def test_news_of_a_run_are_not_said_thirty_times_a_second(view: CrossbarView, reader: Reader) -> None:
    view.canvas.setFocus()
    for seq in range(3):
        view.draw(snapshots.snapshot(seq=seq, cells=snapshots.cells(seed=seq)))
    assert reader.heard == []


def test_lamps_and_banner_say_in_words_what_their_colours_say(
    window_app: QApplication, reader: Reader, qtbot: Any, tmp_path: Path
) -> None:
    session, window = Session(tmp_path), QMainWindow()
    qtbot.addWidget(window)
    bar = TopBar(session, Actions(session, window), window)
    reader.heard.clear()
    try:
        for event in (Event.BEGUN, Event.FAILED):
            session._move(event)
        assert reader.heard == [("The bench is running", False), ("There is a fault", True)]
        assert told(bar.state) == ("State", "There is a fault")
        assert told(bar.outputs) == ("Outputs", "Outputs UNKNOWN")
        assert told(bar.limits)[0] == "Limits"
        assert "no bench" in told(bar.limits)[1]
        bar.banner.say("SIMULATED", "#ffffff", "#000000")
        assert told(bar.banner) == ("Origin of the data", "SIMULATED")
    finally:
        session.shutdown()


def test_a_message_is_said_and_an_error_at_once(window_app: QApplication, reader: Reader, qtbot: Any) -> None:
    messages = Messages()
    strip = MessageStrip(messages)
    qtbot.addWidget(strip)
    messages.add("info", "the run ended: finished")
    messages.add("error", "the engine has gone")
    assert reader.heard == [("info: the run ended: finished", False), ("error: the engine has gone", True)]
    assert told(strip.label)[0] == "Last message"
