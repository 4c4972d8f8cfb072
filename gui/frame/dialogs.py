"""Windows of text: limits, messages, keys, diagnostics, about. None of them stops anything, Esc still aborts a run."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from textwrap import fill
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, qVersion
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from neurobench import __version__
from neurobench.system import data_folder

from .. import theme
from . import facts
from .actions import ACTIONS

if TYPE_CHECKING:
    from ..session.session import Session
    from .preferences import Preferences

PACKAGES = (
    "PySide6-Essentials",
    "pyqtgraph",
    "numpy",
    "scipy",
    "numba",
    "pydantic",
    "pyvisa",
    "pyvisa-sim",
    "pyserial",
)
HELP_CHARS = 76  # in a line: what its dialog is wide
RULES = "docs/bench.md says what each of them protects from. They are changed in the bench file, never from here."


class TextDialog(QDialog):
    """Text to read and to copy."""

    def __init__(self, title: str, text: str, parent: QWidget, *, mono: bool = True) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.text = QPlainTextEdit(text, self)
        self.text.setReadOnly(True)
        self.text.setAccessibleName(title)
        self.text.setToolTip("To read and to copy: Ctrl+A chooses all of it, Ctrl+C copies")
        self.text.setTabChangesFocus(True)
        if mono:
            self.text.setFont(theme.mono())
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addWidget(_buttons(self, self.text.toPlainText))
        self.resize(*_size(parent, 46, 30))


def _size(parent: QWidget, wide: int, high: int) -> tuple[int, int]:
    em, window = theme.em(), parent.window()
    return min(wide * em, max(window.width() - 2 * em, 320)), min(high * em, max(window.height() - 2 * em, 240))


def _buttons(dialog: QDialog, text: object) -> QDialogButtonBox:
    box = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, dialog)
    copy = QPushButton("Copy", box)
    copy.setAccessibleName("Copy all of it")
    copy.setToolTip("Copy all of it as text")
    copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(text() if callable(text) else str(text)))
    box.addButton(copy, QDialogButtonBox.ButtonRole.ActionRole)
    box.rejected.connect(dialog.close)
    close = box.button(QDialogButtonBox.StandardButton.Close)
    close.setAccessibleName("Close")
    close.setToolTip("Close this; nothing else is closed")
    return box


class LimitsDialog(QDialog):
    """All limits of the chip on the bench: value, whose rule, what it means, where it is changed."""

    def __init__(self, session: Session, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Limits")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        head = QLabel(limits_head(session), self)
        head.setWordWrap(True)
        head.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.table = _table(("Limit", "Value", "While forming", "Said by", "Meaning"), limit_cells(session), self)
        self.table.setAccessibleName("Limits of this chip")
        self.table.setToolTip("What the Guard refuses, whose rule that is, and what it protects from")
        layout = QVBoxLayout(self)
        layout.addWidget(head)
        layout.addWidget(self.table)
        rows = limit_cells(session)
        layout.addWidget(_buttons(self, "\n".join("\t".join(row) for row in rows)))
        self.resize(*_size(parent, 60, 26))


def limits_head(session: Session) -> str:
    """Whose limits they are."""
    if session.bench is None:
        return "No bench is connected, so there are no limits to show. Ctrl+2 connects one."
    name = session.bench.bench.name
    return (f"Limits of the chip on bench {name} ({session.bench_name}). The Guard refuses what is beyond them, it "
            f"never clips. {RULES}")  # fmt: skip


def limit_cells(session: Session) -> list[tuple[str, ...]]:
    """The table of limits."""
    from ..connect.bench_text import limit_rows

    if session.bench is None:
        return []
    rows = limit_rows(session.bench, session.bench_name, session.bench_settings)
    return [(row.name, row.value, row.forming or "same", row.said_by, row.meaning) for row in rows]


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], parent: QWidget) -> QTableWidget:
    table = QTableWidget(len(rows), len(heads), parent)
    table.setHorizontalHeaderLabels(heads)
    table.verticalHeader().hide()
    table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
    table.setAlternatingRowColors(True)
    table.setWordWrap(True)
    table.setTabKeyNavigation(False)
    for at, row in enumerate(rows):
        for column, words in enumerate(row):
            table.setItem(at, column, QTableWidgetItem(words))
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(len(heads) - 1, QHeaderView.ResizeMode.Stretch)
    table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    return table


HELP = {
    "bench": "Bench: choose a bench, a protocol and its parameters at the left; F7 says what a run would do, F5 does "
    "it, Ctrl+Return puts it into the queue. The panels show what is read back, of a live run or an old one; the "
    "slider below goes back in time.",
    "connect": "Connect: who answers where, is it as the bench file says, what may be done to this chip. On a real "
    "bench the chip's id is typed before anything can be fired.",
    "characterise": "Characterise: read and pulse single cells by hand. Everything is recorded. Pulses need Arm.",
    "runs": "Runs: every run of the folder. Enter shows one; several can be compared; nothing is ever deleted.",
    "lab": "Emulator lab: from a measured curve to an emulated chip.",
    "settings": "Settings: theme, text size, what becomes of a run if this window dies.",
}


def help_text(page: str) -> str:
    """What a mode is for, and all keys."""
    width = max(len(action.keys) for action in ACTIONS) + 2
    keys = [f"{action.keys:<{width}}{action.text}: {action.tip}" for action in ACTIONS if action.keys]
    keys = [fill(line, HELP_CHARS, subsequent_indent=" " * width) for line in keys]
    whole = [fill(HELP.get(page, ""), HELP_CHARS), "KEYS\n" + "\n".join(keys),
             "Arrows move the cell cursor, with Shift they extend the choice."]  # fmt: skip
    return "\n\n".join(whole)


def diagnostics(session: Session, preferences: Preferences) -> str:
    """Versions, platform and paths."""

    def version(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    _, word, how = facts.outputs_words(session.outputs)
    lines = [
        f"neurobench          {__version__}",
        f"Python              {platform.python_version()} ({sys.executable})",
        f"Qt                  {qVersion()}, platform {QGuiApplication.platformName()}",
        f"System              {platform.platform()}",
        *(f"{name:<20}{version(name)}" for name in PACKAGES),
        "",
        f"Data folder         {data_folder()}",
        f"Settings            {preferences.path}",
        f"Runs                {session.runs_folder.absolute()}",
        f"Run shown           {session.run_path or 'none'}",
        f"Bench               {session.bench_name or 'none'}",
        f"State               {session.state.value}; outputs {word} ({how})",
        f"Theme               {theme.tokens().name}, text at {theme.scale():.0%}",
    ]
    return "\n".join(lines)


ABOUT = f"""neurobench {__version__}

A bench on which memristor crossbars are characterised, trained and emulated.
MIT licence. Colour map vik: F. Crameri, Scientific colour maps, MIT licence.
Trace colours: M. Okabe and K. Ito.

Software is no emergency stop: keep a switch within reach that takes the power away."""
