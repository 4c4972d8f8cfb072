"""What was read and fired by hand, line by line: refusals too, with their words."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt, Signal
from PySide6.QtGui import QColor, QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QPushButton,
    QStackedLayout,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from neurobench.runs.drawing import SIMULATED
from neurobench.runs.screen import si
from neurobench.system import utc_now

from .. import theme
from ..parts.flow import FlowLayout
from ..selection import name_of
from .base import View
from .quantities import plural, with_sigma

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

MOST_NAMED = 64  # cells of one answer that get a line each; the run file and the map have them all
MOST_ROWS = 10_000
EMPTY = "Nothing was read or pulsed by hand yet. R reads the chosen cells."
COLUMNS = ("time", "cells", "conductance", "what was asked", "step", "note")

Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True)
class Row:
    """One line: when, after which step, what was asked of which cells, what came of it; `refused` fired nothing."""

    at: str
    seq: int | None
    asked: str
    cells: str
    found: str
    note: str = ""
    refused: bool = False
    conductance_s: float = math.nan
    sigma_s: float = math.nan

    def texts(self) -> tuple[str, ...]:
        """As they stand in the table."""
        note = f"refused: {self.note}" if self.refused else self.note
        return self.at, self.cells, self.found, self.asked, "" if self.seq is None else str(self.seq), note


def asked_words(request: Mapping[str, Any]) -> str:
    """A request in words."""
    if request.get("do") != "pulse":
        averages = int(request.get("averages", 1))
        return "read" + (f", {averages} averages" if averages > 1 else "")
    sign, count = ("+" if request["sign"] > 0 else "-"), int(request["count"])
    name = "potentiate" if request["sign"] > 0 else "depress"
    return f"{name} {count} x {sign} {si(request['amplitude_v'], 'V')}, {si(request['width_s'], 's')}"


def rows_of(request: Mapping[str, Any], answer: Mapping[str, Any], at: str) -> list[Row]:
    """An answer as lines of the table."""
    asked, seq = asked_words(request), answer.get("seq")
    if "refused" in answer:
        return [Row(at, seq, asked, cells_words(request.get("cells")), "", str(answer["refused"]), True)]
    cells, found = answer.get("cells") or [], [_number(one) for one in answer.get("conductance_s") or []]
    note = _note(answer)
    if not found or len(found) > MOST_NAMED:
        return [Row(at, seq, asked, cells_words(cells), _summary(found), note)]
    sigmas = [_number(one) for one in answer.get("sigma_s") or []]
    sigmas += [math.nan] * (len(found) - len(sigmas))
    return [
        Row(at, seq, asked, name_of((cell[0], cell[1])), with_sigma(g_s, sigma_s, "S"), note, False, g_s, sigma_s)
        for cell, g_s, sigma_s in zip(cells, found, sigmas, strict=True)
    ]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _note(answer: Mapping[str, Any]) -> str:
    energy_j = answer.get("energy_j")
    parts = [
        plural(int(answer["pulses"]), "pulse") + " fired" if "pulses" in answer else "",
        f"{si(energy_j, 'J')} ({answer.get('energy_basis', 'unknown')})" if isinstance(energy_j, float) else "",
        "compliance was hit" if answer.get("compliance_hit") else "",
        f"not read: {answer['not_read']}" if answer.get("not_read") else "",
        *(str(flag).replace("_", " ") for flag in answer.get("flags") or ()),
    ]
    return ", ".join(filter(None, parts))


def cells_words(cells: Any) -> str:
    """Cells in few words."""
    if isinstance(cells, str):
        return cells
    found: Sequence[Any] = cells or ()
    return name_of((found[0][0], found[0][1])) if len(found) == 1 else plural(len(found), "cell")


def _summary(found: Sequence[float]) -> str:
    known = np.array([one for one in found if math.isfinite(one)])
    if not known.size:
        return ""
    low, middle, high = np.percentile(known, (0, 50, 100))
    return f"median {si(middle, 'S')} ({si(low, 'S')} to {si(high, 'S')})"


class _Rows(QAbstractTableModel):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def add(self, rows: list[Row]) -> None:
        at = len(self.rows)
        self.beginInsertRows(QModelIndex(), at, at + len(rows) - 1)
        self.rows += rows
        self.endInsertRows()
        if (over := len(self.rows) - MOST_ROWS) > 0:
            self.beginRemoveRows(QModelIndex(), 0, over - 1)
            del self.rows[:over]
            self.endRemoveRows()

    def clear(self) -> None:
        self.beginResetModel()
        self.rows = []
        self.endResetModel()

    def rowCount(self, parent: Index | None = None) -> int:  # noqa: N802
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index | None = None) -> int:  # noqa: N802
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = self.rows[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return row.texts()[index.column()]
        if role == Qt.ItemDataRole.ForegroundRole and row.refused:
            return QColor(theme.tokens().warn)
        return None

    def headerData(self, section: int, way: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        if role == Qt.ItemDataRole.DisplayRole and way == Qt.Orientation.Horizontal:
            return COLUMNS[section]
        return None


class ResultsView(View):
    """See the module. `take` adds an answer; `told`: words for the status line."""

    name = "results"
    title = "Read and fired by hand"
    told = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = _Rows()
        self._snapshot: Snapshot | None = None
        self._simulated = QLabel(SIMULATED, self)
        self._simulated.setProperty("role", "simulated")
        self._simulated.hide()
        self._count = QLabel("", self)
        self._count.setProperty("role", "dim")
        self.table = self._table_of()
        self._empty = QLabel(EMPTY, self)
        self._empty.setWordWrap(True)
        self._empty.setProperty("role", "dim")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._stack = QStackedLayout()
        self._stack.addWidget(self._empty)
        self._stack.addWidget(self.table)
        self._build()
        self.restyle()

    def _table_of(self) -> QTableView:
        table = QTableView(self)
        table.setModel(self.model)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setAlternatingRowColors(True)
        table.setTabKeyNavigation(False)
        table.setWordWrap(False)
        table.verticalHeader().hide()
        table.horizontalHeader().setStretchLastSection(True)
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        table.setAccessibleName("What was read and fired by hand")
        table.setToolTip("Every read and pulse by hand, and every refusal")
        return table

    def _build(self) -> None:
        bar = QWidget(self)
        head = FlowLayout(bar, 4)
        head.addWidget(self._simulated)
        self.buttons: dict[str, QPushButton] = {}
        for words, tip, call in (
            ("Copy", "Copy the chosen lines, or all of them (Ctrl+C)", self.copy),
            ("Export", "Write the lines into a CSV file beside the run", self.export_csv),
            ("Clear", "Empty this list; the run file keeps everything", self.clear),
        ):
            button = QPushButton(words, self)
            button.setToolTip(tip)
            button.setAccessibleName(f"{words} the results")
            button.setStyleSheet("QPushButton { padding: 2px 6px; }")
            button.clicked.connect(call)
            head.addWidget(button)
            self.buttons[words] = button
        head.addWidget(self._count)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(6, 4, 6, 4)
        whole.setSpacing(4)
        whole.addWidget(bar)
        whole.addLayout(self._stack, 1)
        self.setAutoFillBackground(True)
        self.setAccessibleName(self.title)

    def draw(self, snapshot: Snapshot | None) -> None:
        """Only whether it is simulated comes from here; the lines come as answers."""
        self._snapshot = snapshot
        self._simulated.setVisible(snapshot is not None and snapshot.about.simulated)

    def take(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """One more answer; the newest line is brought into sight."""
        rows = rows_of(request, answer, time.strftime("%H:%M:%S"))
        first = not self.model.rows
        self.model.add(rows)
        self._stack.setCurrentWidget(self.table)
        self._count.setText(plural(len(self.model.rows), "line"))
        if first:
            self._fit_columns()
        if len(rows) == 1:
            self._widen(rows[0])
        self.table.scrollToBottom()

    def clear(self) -> None:
        """Empty the list."""
        self.model.clear()
        self._stack.setCurrentWidget(self._empty)
        self._count.setText("")

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Ctrl+C copies."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        else:
            super().keyPressEvent(event)

    def copy(self) -> None:
        """Put the chosen lines, or all, on the clipboard."""
        if not self.model.rows:
            self.told.emit("warning", "there is nothing to copy: nothing was read or pulsed by hand yet")
            return
        at = sorted({index.row() for index in self.table.selectionModel().selectedRows()})
        rows = [self.model.rows[k] for k in at] or self.model.rows
        lines = [COLUMNS, *(row.texts() for row in rows)]
        QGuiApplication.clipboard().setText("\n".join("\t".join(line) for line in lines))
        self.told.emit("info", f"copied: {plural(len(rows), 'line')}")

    def export_csv(self) -> Path | None:
        """Write all lines beside the run file, and say where."""
        if not self.model.rows or self._snapshot is None:
            self.told.emit("warning", "there is nothing to export: nothing was read or pulsed by hand yet")
            return None
        about, run = self._snapshot.about, Path(self._snapshot.about.path)
        stamp = utc_now().replace(":", "").replace("-", "").split(".")[0]
        path = run.with_name(f"{run.stem}-by-hand-{stamp}.csv")
        said = f"# by hand, {f'{SIMULATED}, ' if about.simulated else ''}run {about.run_id}, chip {about.chip_id}"
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                out = csv.writer(file)
                out.writerows([[said], [*COLUMNS, "conductance_s", "sigma_s"]])
                out.writerows([*row.texts(), _exact(row.conductance_s), _exact(row.sigma_s)] for row in self.model.rows)
        except OSError as error:
            self.told.emit("error", f"the results could not be written: {error}")
            return None
        self.told.emit("info", f"written: {path}")
        return path

    def _widen(self, row: Row) -> None:
        """What stands for many cells is longer than a value: it is not cut off."""
        metrics, em = self.table.fontMetrics(), theme.em()
        for column, text in list(enumerate(row.texts()))[1:4]:
            wide = min(metrics.horizontalAdvance(text) + em, 16 * em)
            self.table.setColumnWidth(column, max(self.table.columnWidth(column), wide))

    def _fit_columns(self) -> None:
        em = theme.em()
        for column, wide in enumerate((4.6, 4.0, 6.6, 8.4, 2.8)):
            self.table.setColumnWidth(column, round(wide * em))

    def restyle(self) -> None:
        """Font sizes have changed."""
        self.setMinimumSize(14 * theme.em(), 6 * theme.em())
        self.table.verticalHeader().setDefaultSectionSize(round(1.6 * theme.em()))
        self._fit_columns()


def _exact(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.9g}"
