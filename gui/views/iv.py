"""Current over voltage: linear, and its magnitude on a logarithmic axis, with arrows that say which way it went."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyqtgraph as pg
from PySide6.QtWidgets import QWidget

from neurobench.bench.stimulus import FloatArray
from neurobench.runs.history import Snapshot
from neurobench.runs.screen import si

from .. import theme
from ..selection import Selection, name_of
from .plots import Canvas, Curves, Marks, Panel, dash_of, name, painted, scaled

NAMED = 8  # up to so many cells are named
FAR = 3.0  # a compliance farther away than so many times the largest current is told in words


class Branch(NamedTuple):
    """One polarity of one cycle of one cell."""

    cell: tuple[int, int]
    cycle: int
    direction: int
    volts_v: FloatArray
    current_a: FloatArray
    switch_v: float
    turned: str


class IvView(Panel):
    """The branches of a sweep as they are measured, a colour for each cell; older cycles are fainter."""

    name: ClassVar[str] = "iv"
    title: ClassVar[str] = "I-V"
    every_s: ClassVar[float] = 0.1

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self._canvas = Canvas()
        self._plots = [self._canvas.add(0, n, bottom="V_row − V_col (V)") for n in range(2)]
        self._plots[1].setLogMode(y=True)
        self._plots[1].setXLink(self._plots[0])
        self._curves = [Curves(plot) for plot in self._plots]
        self._marks = [Marks(plot) for plot in self._plots]
        self._arrows: list[tuple[Any, Any]] = []
        self._fill(self._canvas)

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return snapshot.branches, len(snapshot.branches), snapshot.result

    def _missing(self, snapshot: Snapshot) -> str:
        if branches_of(snapshot):
            return ""
        if snapshot.about.protocol == "iv-sweep":
            return "The first branch has not ended yet."
        return f"The protocol {snapshot.about.protocol} sweeps no voltage; iv-sweep does."

    def _draw(self, snapshot: Snapshot) -> None:
        branches = branches_of(snapshot)
        factor, unit = scaled(np.concatenate([one.current_a for one in branches]), "A")
        cells = list(dict.fromkeys(one.cell for one in branches))
        last = {cell: max(one.cycle for one in branches if one.cell == cell) for cell in cells}
        for curves in self._curves:
            curves.begin()
        for n, cell in enumerate(cells):
            of_cell = [one for one in branches if one.cell == cell]
            newest = [one for one in of_cell if one.cycle == last[cell]]
            self._older([one for one in of_cell if one.cycle != last[cell]], n, factor)
            for one in newest:
                self._branch(one, n, factor)
        for curves in self._curves:
            curves.end()
        self._turn(branches, cells, last, factor)
        name(self._plots[0], "left", f"I ({unit})")
        name(self._plots[1], "left", "|I|")
        self._plots[1].getAxis("left").setTicks(decades(np.concatenate([one.current_a for one in branches])))
        far = self._compliance(snapshot, branches, factor)
        named = cells if 1 < len(cells) <= NAMED else ()
        self._explain((dash_of(n), theme.trace_color(n), name_of(cell)) for n, cell in enumerate(named))
        self._caption.say(_words(branches, cells) + far)

    def _branch(self, one: Branch, n: int, factor: float) -> None:
        dots = {"symbol": "o", "symbolSize": 4, "symbolBrush": theme.trace_color(n), "symbolPen": None}
        self._both((one.cell, one.direction), one.volts_v, one.current_a, factor, pen=theme.trace_pen(n), **dots)

    def _older(self, branches: Sequence[Branch], n: int, factor: float) -> None:
        """Older cycles of a cell as one faint curve with gaps: a curve for each would be slow."""
        if not branches:
            return
        gap = np.full(1, np.nan)
        volts = np.concatenate([part for one in branches for part in (one.volts_v, gap)])
        amps = np.concatenate([part for one in branches for part in (one.current_a, gap)])
        pen = theme.trace_pen(n)
        pen.setColor(painted(theme.trace_color(n), 90))
        self._both((branches[0].cell, "older"), volts, amps, factor, pen=pen, connect="finite")

    def _both(self, key: Hashable, volts_v: FloatArray, current_a: FloatArray, factor: float, **look: Any) -> None:
        """On both plots; 0 A has no logarithm."""
        self._curves[0].put(key, volts_v, current_a * factor, **look)
        self._curves[1].put(key, volts_v, np.where(current_a != 0, np.abs(current_a), np.nan), **look)

    def _turn(
        self, branches: Sequence[Branch], cells: Sequence[tuple[int, int]], last: Mapping[Any, int], factor: float
    ) -> None:
        """Arrows on the newest cycle of each cell, in the middle of its way up and of its way back."""
        for plot, arrow in self._arrows:
            plot.removeItem(arrow)
        self._arrows = []
        for one in branches:
            if last[one.cell] == one.cycle and len(cells) <= NAMED:
                color = theme.trace_color(cells.index(one.cell))
                for k in arrow_places(len(one.volts_v)):
                    self._arrow(one, k, factor, color)

    def _arrow(self, one: Branch, k: int, factor: float, color: str) -> None:
        forward = one.volts_v[k + 1] > one.volts_v[k]
        for plot in self._plots:
            log = plot is self._plots[1]
            amps = one.current_a[k] * (1.0 if log else factor)
            if log and amps == 0:
                continue
            arrow = pg.ArrowItem(angle=180 if forward else 0, headLen=11, tipAngle=40, brush=color, pen=None)
            arrow.setPos(one.volts_v[k], np.log10(abs(amps)) if log else amps)
            plot.addItem(arrow)
            self._arrows.append((plot, arrow))

    def _compliance(self, snapshot: Snapshot, branches: Sequence[Branch], factor: float) -> str:
        """The compliance as a line where it is near; otherwise it is told in words."""
        limit = snapshot.about.limits.get("compliance_a")
        if not isinstance(limit, int | float) or not isfinite(limit):
            self._marks[0].show(())
            self._marks[1].show(())
            return ""
        most = max(float(np.nanmax(np.abs(one.current_a), initial=0.0)) for one in branches)
        near, bad = limit <= FAR * most, theme.tokens().bad
        lines = [(limit * factor, "compliance", False, bad), (-limit * factor, "", False, bad)] if near else []
        self._marks[0].show(lines)
        self._marks[1].show([(float(np.log10(limit)), "compliance", False, bad)] if near else ())
        value, unit = scaled(np.array([limit]), "A")
        return "" if near else f"; compliance {limit * value:.3g} {unit}, far away"


def decades(amps: FloatArray) -> list[list[tuple[float, str]]]:
    """Ticks of a logarithmic axis: a word for each decade, and eight lines between two."""
    known = np.abs(amps[np.isfinite(amps) & (amps != 0)])
    low, high = (int(np.floor(np.log10(end))) for end in ((known.min(), known.max()) if len(known) else (1.0, 1.0)))
    powers = range(low - 1, high + 3)
    between = [(power + float(np.log10(n)), "") for power in powers for n in range(2, 10)]
    return [[(float(power), si(10.0**power, "A")) for power in powers], between]


def arrow_places(points: int) -> tuple[int, ...]:
    """Which points of a branch carry an arrow: the middle of the way up, and of the way back."""
    return tuple(k for k in sorted({points // 4, (3 * points) // 4}) if k + 1 < points)


def branches_of(snapshot: Snapshot) -> list[Branch]:
    """The branches of a run so far: from its notes, or else from what it returned."""
    if snapshot.branches:
        return [_branch(one) for one in snapshot.branches if "volts_v" in one and len(one["volts_v"])]
    found = snapshot.result
    if "level_volts_v" not in found or "branch_cell" not in found:
        return []
    level, volts, amps = (np.asarray(found[f"level_{key}"]) for key in ("branch", "volts_v", "current_a"))
    turned = list(found.get("branch_turned") or [""] * len(found["branch_cell"]))
    columns = {key: np.asarray(found[f"branch_{key}"]) for key in ("cell", "cycle", "direction", "switch_v")}
    rows = [{key: column[n] for key, column in columns.items()} for n in range(len(columns["cell"]))]
    return [
        _branch({**row, "turned": turned[n], "volts_v": volts[level == n], "current_a": amps[level == n]})
        for n, row in enumerate(rows)
        if (level == n).any()
    ]


def _branch(told: Mapping[str, Any]) -> Branch:
    row, col = (int(n) for n in told["cell"])
    volts, amps = (np.asarray(told[key], np.float64) for key in ("volts_v", "current_a"))
    switch_v = float(told.get("switch_v", np.nan))
    return Branch((row, col), int(told["cycle"]), int(told["direction"]), volts, amps, switch_v, str(told["turned"]))


def _words(branches: Sequence[Branch], cells: Sequence[tuple[int, int]]) -> str:
    cycles = len({(one.cell, one.cycle) for one in branches})
    said = name_of(cells[0]) if len(cells) == 1 else f"{len(cells)} cells"
    told = f"{said}, {cycles} cycle{'s' * (cycles != 1)}"
    for words, sign in (("SET", 1), ("RESET", -1)):
        known = [one.switch_v for one in branches if one.direction == sign and isfinite(one.switch_v)]
        told += f", {words} {np.median(known):.3g} V" if known else ""
    turned = sum(one.turned == "compliance" for one in branches)
    return told + (f", {turned} branches turned by compliance" if turned else "")
