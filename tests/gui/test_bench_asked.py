"""`neurobench gui --bench`: a name that nobody knows ends in words; a file with mistakes is shown to be mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from neurobench.gui import starting
from neurobench.gui.app import Asked, opened
from neurobench.gui.frame.preferences import Preferences
from neurobench.gui.session.states import BenchState
from PySide6.QtWidgets import QApplication

from neurobench.errors import UsageError


def test_a_bench_that_nobody_knows_opens_no_window(tmp_path: Path, qt: str) -> None:
    with pytest.raises(UsageError, match="no bench 'nowhere'; known: emulator"):
        starting.main(None, "nowhere", None, None, tmp_path)


def test_a_bench_file_with_mistakes_is_shown_where_it_can_be_mended(
    window_app: QApplication, tmp_path: Path, qtbot: Any
) -> None:
    bench = tmp_path / "mine.toml"
    bench.write_text('[bench]\nbackend = "emulator"\n[limits]\nmax_cell_v = "x"\n')
    window = opened(Asked(bench=str(bench), folder=tmp_path), Preferences())
    qtbot.addWidget(window)
    page: Any = window.modes["connect"].page
    assert window.actions_of.page == "connect"
    assert "line 4" in page.file.verdict.text()
    qtbot.wait(50)  # what the pages do by themselves
    assert window.session.state is BenchState.DISCONNECTED, "and no other bench was taken in its place"
    window.close()
    qtbot.waitUntil(lambda: not window.isVisible())
