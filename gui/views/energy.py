"""Energy by where it went and by what is known of it: pulses and reads apart, measured and computed never added up."""

from __future__ import annotations

from math import isfinite
from typing import ClassVar

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from neurobench.bench.stimulus import FloatArray
from neurobench.runs.history import Energy, Snapshot
from neurobench.runs.screen import si

from .. import theme
from ..selection import Selection
from .plots import Canvas, Curves, Panel, Parts, line_of, name, painted, scaled

BASES = {
    "measured": ("measured", "current and voltage were measured in the pulse: I × V × t"),
    "model": ("modelled", "computed from the device model: no current was measured"),
    "bound": ("at most", "bounded by voltage × compliance × time: no current was measured"),
    "unknown": ("not known", "nobody measured or modelled the current in a pulse"),
}
NONE = ("-", "no pulse was fired")


PARTS = (("Sums", "What pulses and reads took, and where that is known from"), ("Steps", "Of the last steps or epochs"))


class EnergyView(Panel):
    """What pulses and reads took so far, each with its source, and per step and epoch."""

    name: ClassVar[str] = "energy"
    title: ClassVar[str] = "Energy"
    every_s: ClassVar[float] = 0.5

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self._table = QGridLayout()
        self._table.setHorizontalSpacing(14)
        self._table.setVerticalSpacing(4)
        self._cells: dict[tuple[int, int], QLabel] = {}
        left = QWidget()
        column = QVBoxLayout(left)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(self._table)
        column.addStretch(1)
        self._canvas = Canvas()
        self._plot = self._canvas.add(0, 0, bottom="step")
        self._bars = pg.BarGraphItem(x=[], height=[], width=0.8)
        self._plot.addItem(self._bars)
        self._epochs = Curves(self._plot)
        self._fill(Parts(38, ((*PARTS[0], left, 2), (*PARTS[1], self._canvas, 3))))

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return snapshot.energy, snapshot.recent, snapshot.progress

    def _missing(self, snapshot: Snapshot) -> str:
        used = snapshot.energy.pulses or snapshot.energy.reads
        return "" if used else "No pulse was fired and nothing was read yet."

    def _draw(self, snapshot: Snapshot) -> None:
        for n, row in enumerate(rows_of(snapshot)):
            for k, words in enumerate(row):
                self._cell(n, k).setText(words)
        self._cell(1, 2).setToolTip(basis_of(snapshot.energy)[1])
        self._per_step(snapshot)
        hits = snapshot.energy.compliance_hits
        self._caption.say(_words(snapshot.energy) + (f"   |   {hits} pulses reached the compliance" if hits else ""))

    def _cell(self, row: int, col: int) -> QLabel:
        label = self._cells.get((row, col))
        if label is None:
            label = self._cells[row, col] = QLabel()
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            if row == 0 or col == 0:
                label.setProperty("role", "dim")
            if col:
                label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self._table.addWidget(label, row, col)
        return label

    def _per_step(self, snapshot: Snapshot) -> None:
        """Energy of each epoch where the run tells it, otherwise of the last steps."""
        of = snapshot.progress.get("energy_j")
        epochs = of is not None and bool(of)
        at, joules = (of.at, of.values) if of is not None and epochs else _last_steps(snapshot)
        factor, unit = scaled(joules, "J")
        color = theme.trace_color(0)
        self._epochs.begin()
        if epochs:
            self._epochs.put("epochs", at, joules * factor, pen=theme.trace_pen(0), symbol="o", symbolSize=5,
                             symbolBrush=color, symbolPen=None)  # fmt: skip
        self._epochs.end()
        shown = np.zeros(0) if epochs else np.arange(float(len(at)))
        self._bars.setOpts(x=shown, height=np.nan_to_num(joules[: len(shown)]) * factor, width=0.8,
                           brush=painted(color, 120), pen=line_of(color))  # fmt: skip
        every = max(1, len(at) // 4)
        ticks = None if epochs else [[(float(n), f"{at[n]:.0f}") for n in range(0, len(at), every)]]
        self._plot.getAxis("bottom").setTicks(ticks)
        name(self._plot, "bottom", "epoch" if epochs else "step (the last ones that fired)")
        name(self._plot, "left", f"pulses ({unit})")


def _words(energy: Energy) -> str:
    if not energy.pulses:
        return NONE[1]
    if not isfinite(energy.pulses_j):
        return "the energy of the pulses is not known"
    return f"pulses {si(energy.pulses_j, 'J')} ({basis_of(energy)[0]})"


def basis_of(energy: Energy) -> tuple[str, str]:
    """What the energy of pulses rests on: one word, and a sentence."""
    if not energy.pulses:
        return NONE
    return BASES.get(energy.basis, (energy.basis, energy.basis))


def rows_of(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """The table: what, how much for pulses (measured or computed), how much for reads."""
    used = snapshot.energy
    epochs = max((len(of.at) for of in snapshot.progress.values()), default=0)
    return [
        ("", "pulses", "reads"),
        ("source", basis_of(used)[0], "told by bench" if isfinite(used.reads_j) else "not known"),
        ("total", si(used.pulses_j, "J"), si(used.reads_j, "J")),
        ("how many", f"{used.pulses:,}", f"{used.reads:,}"),
        ("mean of one", _mean(used.pulses_j, used.pulses), _mean(used.reads_j, used.reads)),
        ("mean of an epoch", _mean(used.pulses_j, epochs), _mean(used.reads_j, epochs)),
        ("at the compliance", f"{used.compliance_hits:,}", ""),
    ]


def _mean(total_j: float, count: int) -> str:
    return si(total_j / count, "J") if count and isfinite(total_j) else "-"


def _last_steps(snapshot: Snapshot) -> tuple[FloatArray, FloatArray]:
    fired = [step for step in snapshot.recent if step.pulses and isfinite(step.energy_j) and step.amplitude_v > 0]
    return np.array([float(step.seq) for step in fired]), np.array([step.energy_j for step in fired])
