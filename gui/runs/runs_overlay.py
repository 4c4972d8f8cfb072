"""One quantity of several runs over their updates, in one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from neurobench.runs.drawing import SIMULATED, Series
from neurobench.runs.figures import series
from neurobench.runs.runfile import RunFile

from .. import theme
from ..parts.plot import Plot
from .runs_details import label_of, short_ids, unit_of

MEDIAN = "conductance median"
MOST = 16  # runs in one plot; more cannot be told apart
FIRST = ("error", "test_accuracy", "accuracy", MEDIAN)


def curves_of(path: Path) -> dict[str, Series]:
    """The scalar series of a run over its updates, and the median of its conductances. Reads the file."""
    with RunFile.open(path) as run:
        told = [note.value for name in ("start", "epoch") for note in run.notes(name)]
    epochs = [value for value in told if isinstance(value, dict)]
    names = [n for n in dict.fromkeys(n for epoch in epochs for n in epoch) if n != "index" and _single(epochs, n)]
    found = {name: series(epochs, name) for name in names}
    grids = series(epochs, "conductance_s") if any("conductance_s" in epoch for epoch in epochs) else None
    if grids is not None and grids and grids.values.ndim == 3:
        flat = grids.values.reshape(len(grids.at), -1)
        found[MEDIAN] = Series(grids.at, np.nanmedian(flat, axis=1))
    return found


def _single(epochs: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = [epoch[name] for epoch in epochs if name in epoch]
    return all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values)


class OverlayPanel(QWidget):
    """A plot with a line for each chosen run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._curves: dict[str, dict[str, Series]] = {}
        self._simulated = False
        self.what = QComboBox()
        self.what.setAccessibleName("Quantity of the overlay")
        self.what.setToolTip("Which quantity is drawn")
        self.log = QCheckBox("logarithmic")
        self.log.setToolTip("Logarithmic axis; values of 0 and below are left out")
        self.words = QLabel("Choose runs in the table")
        self.words.setWordWrap(True)
        self.words.setProperty("role", "dim")
        self.mark = QLabel()
        self.mark.setProperty("role", "simulated")
        self.plot = Plot("Overlay of the chosen runs")
        self.plot.item.addLegend(offset=(-8, 8))
        self._lay_out()
        self.what.currentTextChanged.connect(self._draw)
        self.log.toggled.connect(self._draw)
        self.restyle()

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self.what)
        top.addWidget(self.log)
        top.addStretch(1)
        top.addWidget(self.mark)
        layout = QVBoxLayout(self)
        layout.addLayout(top)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.words)

    def restyle(self) -> None:
        """Colours or font sizes have changed."""
        self.plot.restyle()
        back = QColor(theme.tokens().panel)
        back.setAlpha(210)
        self.plot.item.legend.setBrush(back)
        self._draw()

    def clear(self, words: str) -> None:
        """Nothing to draw, and why."""
        self._curves = {}
        self.words.setText(words)
        self._fill([])
        self._draw()

    def show_curves(self, curves: Mapping[str, Mapping[str, Series]], simulated: bool) -> None:
        """The series of some runs, by run id and by name."""
        self._curves, self._simulated = {run: dict(found) for run, found in curves.items()}, simulated
        names = dict.fromkeys(name for found in self._curves.values() for name in found)
        self._fill(sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)))
        self._draw()

    def _fill(self, names: Sequence[str]) -> None:
        before = self.what.currentText()
        self.what.blockSignals(True)
        self.what.clear()
        for name in names:
            self.what.addItem(label_of(name), name)
        if before in [self.what.itemText(n) for n in range(self.what.count())]:
            self.what.setCurrentText(before)
        self.what.blockSignals(False)
        self.what.setEnabled(bool(names))

    def _draw(self) -> None:
        item, name = self.plot.item, self.what.currentData()
        item.clear()
        self.mark.setText(SIMULATED if self._simulated and self._curves else "")
        drawn = {run: found[name] for run, found in self._curves.items() if name in found}
        unit = _unit(name)
        item.getAxis("left").enableAutoSIPrefix(unit is not None)  # an accuracy of 0.9 is not 900 (x0.001)
        item.setLabel("left", self.what.currentText() or "value", units=unit)
        item.setLabel("bottom", "update")
        item.setLogMode(y=self.log.isChecked())
        names = dict(zip(drawn, short_ids(list(drawn)), strict=True))
        for n, (run, one) in enumerate(list(drawn.items())[:MOST]):
            values = np.where(one.values > 0, one.values, np.nan) if self.log.isChecked() else one.values
            item.plot(one.at, values, pen=theme.trace_pen(n), name=names[run], symbol="o" if len(one.at) < 2 else None,
                      symbolBrush=theme.trace_color(n), connect="finite")  # fmt: skip
        item.enableAutoRange()
        if self._curves:
            self.words.setText(_words(drawn, self._curves))


def _unit(name: str | None) -> str | None:
    """The unit of a quantity; None where its name says none, or one over a unit, which takes no prefix."""
    unit = "S" if name in (MEDIAN, "error_s") else unit_of(name or "")
    return None if unit.startswith("/") else unit or None


def _words(drawn: Mapping[str, Series], chosen: Mapping[str, Any]) -> str:
    without = [run for run in chosen if run not in drawn]
    words = f"{min(len(drawn), MOST)} of {len(chosen)} runs drawn"
    if len(drawn) > MOST:
        words += f"; no more than {MOST} can be told apart"
    return words + (f"; without this quantity: {', '.join(without[:4])}" if without else "")
