"""While a file is asked for, the window goes on: ABORT can be pressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PySide6")

from neurobench.gui.parts.files import ask_path
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialogButtonBox, QPushButton, QWidget


def test_a_file_is_asked_for_and_a_button_beside_it_still_heard(qtbot: Any, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    window, heard, found = QWidget(), list[str](), list[Path]()
    qtbot.addWidget(window)
    abort = QPushButton("ABORT", window)
    abort.clicked.connect(lambda: heard.append("abort"))
    window.show()
    dialog = ask_path(window, "A file", found.append, start=str(tmp_path), filters="TOML (*.toml)")
    assert not dialog.isModal()
    qtbot.mouseClick(abort, Qt.MouseButton.LeftButton)
    assert heard == ["abort"]
    dialog.selectFile("a.toml")
    opens = dialog.findChild(QDialogButtonBox).button(QDialogButtonBox.StandardButton.Open)
    qtbot.waitUntil(opens.isEnabled, timeout=3000)
    qtbot.mouseClick(opens, Qt.MouseButton.LeftButton)
    assert found == [tmp_path / "a.toml"]


def test_a_new_file_gets_its_suffix_and_who_chooses_nothing_is_heard(qtbot: Any, tmp_path: Path) -> None:
    window, found, none = QWidget(), list[Path](), list[str]()
    qtbot.addWidget(window)
    dialog = ask_path(window, "A new file", found.append, wanted="new file", start=str(tmp_path), name="recipe.toml",
                      otherwise=lambda: none.append("none"))  # fmt: skip
    dialog.selectFile("other")
    dialog.accept()
    assert found == [tmp_path / "other.toml"]
    dialog = ask_path(window, "A file", found.append, otherwise=lambda: none.append("none"))
    dialog.reject()
    assert none == ["none"]
