"""The numbers of the map as a table, for whoever would rather read them or has them read aloud."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PySide6.QtCore import (
    QAbstractTableModel,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    Qt,
)
from PySide6.QtWidgets import QAbstractItemView, QTableView, QWidget

from neurobench.bench.stimulus import FloatArray

from ..selection import Cell, Selection
from .quantities import EXCLUDED, NEVER_READ, STATES

NO_VALUE = "–"  # it was read, and this quantity has no value there
KEY = f"? was never read, {NO_VALUE} has no such value, x is excluded"
MOST = 1024  # a selection of more cells is not marked in the table, cell by cell

Index = QModelIndex | QPersistentModelIndex


class _Cells(QAbstractTableModel):
    def __init__(self) -> None:
        super().__init__()
        self.values: FloatArray = np.zeros((0, 0))
        self.kinds: Any = np.zeros((0, 0), np.int8)
        self.unit = ""
        self.decimals: int | None = 1

    def take(self, values: FloatArray, kinds: Any, unit: str, decimals: int | None) -> None:
        same = values.shape == self.values.shape
        if not same:
            self.beginResetModel()
        self.values, self.kinds, self.unit, self.decimals = values, kinds, unit, decimals
        if not same:
            self.endResetModel()
        elif values.size:
            self.dataChanged.emit(self.index(0, 0), self.index(values.shape[0] - 1, values.shape[1] - 1))

    def rowCount(self, parent: Index | None = None) -> int:  # noqa: N802
        return 0 if parent is not None and parent.isValid() else int(self.values.shape[0])

    def columnCount(self, parent: Index | None = None) -> int:  # noqa: N802
        return 0 if parent is not None and parent.isValid() else int(self.values.shape[1])

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        cell = index.row(), index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self.text(cell)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role in (Qt.ItemDataRole.AccessibleTextRole, Qt.ItemDataRole.ToolTipRole):
            return f"W{cell[0]} B{cell[1]}: {self.text(cell)} {self.unit}, {STATES[int(self.kinds[cell])]}"
        return None

    def text(self, cell: Cell) -> str:
        kind, value = int(self.kinds[cell]), float(self.values[cell])
        if not self.unit and math.isfinite(value):
            return STATES[kind]
        if not math.isfinite(value):
            number = "?" if kind == NEVER_READ else NO_VALUE
        else:
            number = f"{value:.3g}" if self.decimals is None else f"{value:.{self.decimals}f}"
        return f"{number} x" if kind == EXCLUDED else number

    def headerData(self, section: int, way: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return f"B{section}" if way == Qt.Orientation.Horizontal else f"W{section}"


class CellTable(QTableView):
    """Shows values [rows, cols] in the unit of the map; what is chosen here is chosen everywhere."""

    def __init__(self, selection: Selection, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.selection = selection
        self.cells = _Cells()
        self._shown: Any = None
        self._busy = False
        self.setModel(self.cells)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setAccessibleName(f"The numbers of the map as a table; {KEY}")
        self.setToolTip(f"The numbers of the map; {KEY}")
        self.setTabKeyNavigation(False)
        self.selectionModel().selectionChanged.connect(self._chosen_here)
        selection.changed.connect(self._chosen_elsewhere)

    def show_field(
        self, values: FloatArray | None, kinds: Any = None, unit: str = "", decimals: int | None = 1
    ) -> None:
        """Show these; while the table is hidden they only wait. `decimals`: None over decades, then digits count."""
        self._shown = None if values is None else (values, kinds, unit, decimals)
        if self.isVisible() or values is None:
            self._take()

    def _take(self) -> None:
        if self._shown is None:
            self.cells.take(np.zeros((0, 0)), np.zeros((0, 0), np.int8), "", 1)
        else:
            self.cells.take(*self._shown)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """What has waited is shown."""
        super().showEvent(event)
        self._take()
        self._chosen_elsewhere()

    def _chosen_here(self) -> None:
        if self._busy or not self.isVisible():
            return
        self._busy = True
        self.selection.set((one.row(), one.column()) for one in self.selectionModel().selectedIndexes())
        self._busy = False

    def _chosen_elsewhere(self) -> None:
        same = self.cells.values.shape == self.selection.shape
        if self._busy or not self.isVisible() or not same or self.selection.count > MOST:
            return
        self._busy = True
        chosen = QItemSelection()
        for cell in self.selection.cells:
            chosen.select(self.cells.index(*cell), self.cells.index(*cell))
        self.selectionModel().select(chosen, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        self._busy = False
