"""What goes to the array: the last steps, the last stimulus on lines and cells, its volts beside the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from operator import gt
from typing import Any, ClassVar

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetrics, QResizeEvent
from PySide6.QtWidgets import QApplication, QHeaderView, QTableView, QWidget

from neurobench.runs.history import Shown, Snapshot
from neurobench.runs.screen import si

from .. import theme
from ..selection import Selection
from .driven import CELL, VICTIMS, Curve, Driven, driven, lifetime_words, limit_lines, polarity_of
from .plots import Canvas, Curves, Marks, Panel, Parts, milliseconds, name, painted

SHOWN = 16  # steps
WRITTEN = 64  # cells of an array up to which their pulses are written into them
NAMED = 12  # driven lines up to which their volts are written beside them
BEYOND = 2.5  # a limit farther away than so many times the volts is told in words
NARROW = 44  # heights of a line: a narrower view shows one of its parts at a time
PARTS = (("Steps", "The last steps, newest first"), ("Array", "Which lines and cells the last stimulus reached"),
         ("Volts", "Volts over time of the last stimulus, beside the limits"))  # fmt: skip
NARROW_TABLE = 40  # heights of a line: a narrower table leaves out what its column of words says too
SAID_IN_WORDS = ("cells", "pulses", "volts", "width")
HEADINGS = ("step", "time", "what", "cells", "pulses", "volts", "width", "energy")
Keys = tuple[tuple[str, str, str], ...]
Index = QModelIndex | QPersistentModelIndex


class Steps(QAbstractTableModel):
    """The last steps, newest first."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: tuple[Shown, ...] = ()
        self._rows: tuple[tuple[str, ...], ...] = ()

    def put(self, steps: Sequence[Shown]) -> None:
        """Show these."""
        new = tuple(reversed(steps[-SHOWN:]))
        self._rows = tuple(map(words_of, new))
        if len(new) != len(self.steps):
            self.beginResetModel()
            self.steps = new
            self.endResetModel()
        elif new:
            self.steps = new
            self.dataChanged.emit(self.index(0, 0), self.index(len(new) - 1, len(HEADINGS) - 1))

    def widths(self, metrics: QFontMetrics) -> tuple[int, ...]:
        """How wide the widest words of each column are, those of the heading too; () if there are no steps."""
        columns = zip(*self._rows, strict=True)
        return tuple(max(map(metrics.horizontalAdvance, {head, *words}))
                     for head, words in zip(HEADINGS, columns, strict=False))  # fmt: skip

    def rowCount(self, _parent: Index = QModelIndex()) -> int:  # noqa: N802, B008
        """How many steps."""
        return len(self.steps)

    def columnCount(self, _parent: Index = QModelIndex()) -> int:  # noqa: N802, B008
        """How many columns."""
        return len(HEADINGS)

    def headerData(self, section: int, way: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        """The headings."""
        if role == Qt.ItemDataRole.DisplayRole and way == Qt.Orientation.Horizontal:
            return HEADINGS[section]
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Words of a step; one in doubt says so, in colour too."""
        step = self.steps[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._rows[index.row()][index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return step.words
        if role == Qt.ItemDataRole.ForegroundRole and step.doubt:
            return QColor(theme.tokens().warn)
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() != HEADINGS.index("what"):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None


def words_of(step: Shown) -> tuple[str, ...]:
    """A step as a row of the table."""
    sign = {1: "▲ ", -1: "▼ "}.get(step.sign, "")
    what = f"{'in doubt: ' if step.doubt else ''}{sign}{step.words or step.kind}"
    return (
        str(step.seq),
        si(step.at_s, "s") if step.at_s < 1000 else f"{step.at_s:,.0f} s",  # nobody says kiloseconds
        what,
        str(step.cells or ""),
        str(step.pulses or ""),
        si(step.amplitude_v, "V") if isfinite(step.amplitude_v) else "",
        si(step.width_s, "s") if isfinite(step.width_s) else "",
        si(step.energy_j, "J") if isfinite(step.energy_j) else "",
    )


class ScheduleView(Panel):
    """Last steps, where the last stimulus went, its volts over time, and what is spent of the cells' lives."""

    name: ClassVar[str] = "schedule"
    title: ClassVar[str] = "Pulse schedule"
    every_s: ClassVar[float] = 0.25

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self._steps = Steps()
        self._table = _table(self._steps)
        self._array = ArrayPicture()
        self._volts = Canvas()
        self._plot = self._volts.add(0, 0, left="V", bottom="time")
        self._curves, self._marks = Curves(self._plot), Marks(self._plot)
        self._said = self._far = ""
        self._widest: tuple[int, ...] = ()
        self._drew: tuple[object, object] = (None, None)
        self._keys: tuple[Keys, Keys] = ((), ())  # of the array, of the volts
        self._part = -1
        parts = Parts(NARROW, ((*PARTS[0], self._table, 4), (*PARTS[1], self._array, 3), (*PARTS[2], self._volts, 3)))
        parts.changed.connect(self._chosen)
        self._fill(parts)

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return snapshot.recent, snapshot.stimulus, snapshot.cells

    def _missing(self, snapshot: Snapshot) -> str:
        return "" if snapshot.recent or snapshot.stimulus is not None else "No step has been done yet."

    def _draw(self, snapshot: Snapshot) -> None:
        self._steps.put(snapshot.recent)
        self._fit_columns()
        if self._drew[0] is not snapshot.stimulus or self._drew[1] is not snapshot.about:
            self._stimulus(snapshot)
            self._drew = snapshot.stimulus, snapshot.about
        self._caption.say(
            " | ".join(filter(None, (self._said, lifetime_words(snapshot.about, snapshot.cells), self._far)))
        )

    def _fit_columns(self) -> None:
        """Columns grow with what stands in them, and do not shrink: the table stays calm."""
        widths = self._steps.widths(self._table.fontMetrics())
        if len(widths) != len(self._widest) or any(map(gt, widths, self._widest)):
            self._widest = tuple(map(max, widths, self._widest or widths))
            for n, (heading, width) in enumerate(zip(HEADINGS, self._widest, strict=False)):
                if heading != "what":  # which has the rest of the room
                    self._table.setColumnWidth(n, width + theme.em())

    def again(self) -> None:
        """Draw all of it again."""
        self._drew, self._widest = (None, None), ()
        super().again()

    def _stimulus(self, snapshot: Snapshot) -> None:
        if snapshot.stimulus is None:
            self._said, self._far = "nothing was fired yet", ""
            self._array.paint(None)
            self._wave((), {})
            return
        found = driven(snapshot.stimulus, polarity_of(snapshot.about) or 1)
        limits = limit_lines(snapshot.about.limits)
        self._array.paint(found)
        self._far = self._wave(found.curves, limits)
        self._said = f"last: {found.words}; {_victim_words(found, limits)}"

    def _wave(self, curves: Sequence[Curve], limits: Mapping[str, float]) -> str:
        """The volts over time, and the limits that are near; the others are told."""
        factor, unit = milliseconds(np.array([curve.t_s[-1] for curve in curves] or [1.0]))
        self._curves.begin()
        for n, curve in enumerate(curves):
            pen = theme.trace_pen(n)
            pen.setStyle(Qt.PenStyle.DotLine if curve.words == "victims" else Qt.PenStyle.SolidLine)
            self._curves.put(curve.words, curve.t_s * factor, curve.v, pen=pen)
        self._curves.end()
        reach = max((float(np.abs(curve.v).max()) for curve in curves), default=0.0)
        near = {words: volts for words, volts in limits.items() if volts <= BEYOND * reach}
        bad, warn = theme.tokens().bad, theme.tokens().warn
        self._marks.show(
            (sign * volts, f"{words} limit" if sign > 0 else "", False, bad if words == CELL else warn)
            for words, volts in near.items()
            for sign in (1, -1)
        )
        name(self._plot, "bottom", f"time ({unit})")
        key = [(_glyph(k), color, words) for k, color, words in _key_of_cells()] if curves else []
        dashes = ("┈" if curve.words == "victims" else "―" for curve in curves)
        told = ((dash, theme.trace_color(n), curves[n].words) for n, dash in enumerate(dashes))
        self._keys = (tuple(key), tuple(told))
        self._chosen(self._part)
        return ", ".join(f"{words} limit {si(volts, 'V')}" for words, volts in limits.items() if words not in near)

    def _chosen(self, part: int) -> None:
        """The key is that of the parts that are seen."""
        self._part = part
        self._explain({-1: (*self._keys[0], *self._keys[1]), 0: (), 1: self._keys[0], 2: self._keys[1]}[part])

    def _styled(self) -> None:
        self._table.verticalHeader().setDefaultSectionSize(theme.em() + 4)


def _victim_words(found: Driven, limits: Mapping[str, float]) -> str:
    n = int(found.victims.sum())
    if not n:
        return "no victim"
    allowed = f" (limit {si(limits[VICTIMS], 'V')})" if VICTIMS in limits else ""
    return f"{n} victim{'s' * (n != 1)} at up to {si(found.victim_v, 'V')}{allowed}"


class StepsTable(QTableView):
    """A table that leaves out columns where it is narrow, rather than cut the words."""

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """See what there is room for."""
        narrow = self.width() < NARROW_TABLE * theme.em()
        for heading in SAID_IN_WORDS:
            self.setColumnHidden(HEADINGS.index(heading), narrow)
        super().resizeEvent(event)


def _table(model: Steps) -> QTableView:
    table = StepsTable()
    table.setTabKeyNavigation(False)
    table.setModel(model)
    table.setAccessibleName("Last steps, newest first")
    table.setToolTip("What was done last, newest first")
    table.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
    table.setAlternatingRowColors(True)
    table.setShowGrid(False)
    table.verticalHeader().hide()
    header = table.horizontalHeader()
    header.setSectionResizeMode(HEADINGS.index("what"), QHeaderView.ResizeMode.Stretch)
    return table


# ---------------------------------------------------------------------------------------------- the array


UP, DOWN, VICTIM = 1, 2, 3


def _key_of_cells() -> tuple[tuple[int, str, str], ...]:
    return ((UP, theme.trace_color(0), "potentiated"), (DOWN, theme.trace_color(1), "depressed"),
            (VICTIM, theme.tokens().warn, "victim"))  # fmt: skip


def _glyph(kind: int) -> str:
    return {UP: "▲", DOWN: "▼", VICTIM: "▒"}[kind]


class ArrayPicture(Canvas):
    """The array with the cells that were meant, those that only saw a part, and the volts of the driven lines."""

    def __init__(self) -> None:
        super().__init__()
        self.plot = self.add(0, 0)
        self.plot.invertY(True)
        self.plot.setMouseEnabled(False, False)
        self.plot.hideButtons()
        self.image = pg.ImageItem(axisOrder="row-major")
        self.plot.addItem(self.image)
        self.texts: list[Any] = []

    def paint(self, found: Driven | None) -> None:
        """Show a stimulus; None: nothing was fired."""
        for text in self.texts:
            self.plot.removeItem(text)
        self.texts = []
        self.plot.setVisible(found is not None)
        if found is None:
            return
        self.image.setImage(_colored(found), autoLevels=False, levels=(0, 255))
        rows, cols = found.pulses.shape
        self.plot.setRange(QRectF(0, 0, cols, rows), padding=0.02)
        self._name_lines("left", "W", rows, found.row_v)
        self._name_lines("bottom", "B", cols, found.col_v)
        if found.pulses.size <= WRITTEN:
            self._write(found)

    def show_all(self) -> None:
        """It always shows all."""

    def _name_lines(self, side: str, letter: str, count: int, driven_v: Mapping[int, tuple[float, ...]]) -> None:
        """Ticks at the driven lines, if they are few; which volts they have stands beside the axis."""
        em = theme.em()
        room = self.width() - 6 * em if side == "bottom" else self.height() - 4 * em
        most = max(min(8, room // (3 * em if side == "bottom" else 2 * em)), 1)
        every = max(1, -(-count // most))
        few = 0 < len(driven_v) <= NAMED
        ticks: list[tuple[float, str]] = []
        for n in sorted(driven_v) if few else range(0, count, every):
            if not ticks or n + 0.5 - ticks[-1][0] >= count / (
                1.25 * most
            ):  # nearer ones would be written over each other
                ticks.append((n + 0.5, f"{letter}{n}"))
        self.plot.getAxis(side).setTicks([ticks])
        name(self.plot, side, grouped(letter, driven_v))

    def _write(self, found: Driven) -> None:
        color = theme.tokens().text
        for row, col in np.argwhere(found.pulses != 0).tolist():
            text = pg.TextItem(f"{int(found.pulses[row, col]):+d}", color=color, anchor=(0.5, 0.5))
            text.setFont(QApplication.font())
            text.setPos(col + 0.5, row + 0.5)
            self.plot.addItem(text)
            self.texts.append(text)


def grouped(letter: str, driven_v: Mapping[int, tuple[float, ...]]) -> str:
    """Driven lines with their volts, those of the same volts together: `B0 B2 -0.75 V, B1 +0.75 V`."""
    groups: dict[str, list[str]] = {}
    for n, volts in driven_v.items():
        groups.setdefault(_volts(volts), []).append(f"{letter}{n}")
    named = {said: " ".join(lines) if len(lines) <= 4 else f"{len(lines)} {letter}" for said, lines in groups.items()}
    told = [f"{lines} {said}" for said, lines in named.items()]
    return ", ".join(told[:3]) + (" …" if len(told) > 3 else "")


def _volts(volts: Sequence[float]) -> str:
    known = sorted(set(volts))
    if len(known) == 2 and known[0] == -known[1]:
        return f"±{known[1]:.3g} V"
    return ", ".join(f"{one:+.3g} V" for one in known)


def _colored(found: Driven) -> Any:
    """The picture [rows, cols, 4]: what is done to each cell."""
    kinds = np.zeros(found.pulses.shape, np.intp)
    kinds[found.victims] = VICTIM
    kinds[found.pulses > 0], kinds[found.pulses < 0] = UP, DOWN
    empty = QColor(theme.tokens().window)
    table = [(empty.red(), empty.green(), empty.blue(), 255)]
    for kind, color, _ in _key_of_cells():
        made = painted(color, 90 if kind == VICTIM else 220)
        table.append((made.red(), made.green(), made.blue(), made.alpha()))
    return np.array(table, np.uint8)[kinds]
