"""A run that a command line has begun: it is found and shown, and what cannot be done to it here is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from neurobench.gui.session.states import BenchState
from PySide6.QtCore import Qt

from neurobench.runs import launch
from neurobench.runs.request import Request, prepare
from neurobench.runs.runfile import RunWriter

if TYPE_CHECKING:
    from neurobench.gui.frame.window import MainWindow

SHIFT = Qt.KeyboardModifier.ShiftModifier
NONE = Qt.KeyboardModifier.NoModifier


@pytest.mark.parametrize(
    ("key", "with_keys"), [(Qt.Key.Key_Escape, NONE), (Qt.Key.Key_F6, NONE), (Qt.Key.Key_F5, SHIFT)]
)
def test_a_run_of_another_program_is_found_and_says_where_it_is_stopped(
    window: MainWindow, qtbot: Any, key: Qt.Key, with_keys: Qt.KeyboardModifier
) -> None:
    session = window.session
    session.runs_folder.mkdir(exist_ok=True)
    path = session.runs_folder / "another.nbr"
    asked = Request("read-all", "emulator", {}, {}, 1)
    with RunWriter.create(path, launch.manifest(prepare(asked)) | {"state": "running"}):
        window.find_live()
        qtbot.waitUntil(lambda: "another.nbr is written by another program" in window.messages.text(), timeout=10_000)
        qtbot.waitUntil(lambda: session.snapshot is not None and session.snapshot.live, timeout=10_000)
        assert session.state is BenchState.READY
        window.strip.hide()
        qtbot.keyClick(window, key, with_keys)
        assert "stopped where it was started" in window.strip.label.text()
        assert "nothing is running" not in window.strip.label.text()
