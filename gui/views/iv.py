"""Current over voltage: linear, and its magnitude on a logarithmic axis, with arrows that say which way it went.

Branches of a sweep, or the ramps of forming: the current in each of their pulses.
"""

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
from .driven import polarity_of
from .plots import Canvas, Curves, Marks, Panel, dash_of, name, painted, scaled

NAMED = 8  # up to so many cells are named
FAR = 3.0  # a compliance farther away than so many times the largest current is told in words


class Branch(NamedTuple):
    """One polarity of one cycle of one cell, or one ramp (its number is the cycle)."""

    cell: tuple[int, int]
    cycle: int
    direction: int
    volts_v: FloatArray
    current_a: FloatArray
    switch_v: float
    turned: str


class IvView(Panel):
    """Branches and ramps as they are measured, a colour for each cell; older cycles are fainter."""

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
        return snapshot.branches, len(snapshot.branches), snapshot.ramps, len(snapshot.ramps), snapshot.result

    def _missing(self, snapshot: Snapshot) -> str:
        if branches_of(snapshot):
            return ""
        if snapshot.about.protocol == "iv-sweep":
            return "The first branch has not ended yet."
        if snapshot.about.protocol == "form":
            return "No pulse of a ramp was fired yet."
        return f"The protocol {snapshot.about.protocol} sweeps no voltage; iv-sweep does, and form in ramps."

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
        name(self._plots[1], "left", "abs I")
        self._plots[1].getAxis("left").setTicks(decades(np.concatenate([one.current_a for one in branches])))
        far = self._compliance(snapshot, branches, factor)
        named = cells if 1 < len(cells) <= NAMED else ()
        self._explain((dash_of(n), theme.trace_color(n), name_of(cell)) for n, cell in enumerate(named))
        said = ramp_words(snapshot, branches, cells) if snapshot.ramps else _words(branches, cells)
        self._caption.say(said + far)

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
            if not isfinite(amps) or (log and amps == 0):
                continue
            arrow = pg.ArrowItem(angle=180 if forward else 0, headLen=11, tipAngle=40, brush=color, pen=None)
            arrow.setPos(one.volts_v[k], np.log10(abs(amps)) if log else amps)
            plot.addItem(arrow)
            self._arrows.append((plot, arrow))

    def _compliance(self, snapshot: Snapshot, branches: Sequence[Branch], factor: float) -> str:
        """Currents that end a branch as lines where they are near; otherwise they are told in words."""
        most = max(float(np.nanmax(np.abs(one.current_a), initial=0.0)) for one in branches)
        near = [one for one in ends_of(snapshot) if one[0] <= FAR * most]
        self._marks[0].show((sign * limit * factor, words if sign > 0 else "", False, color)
                            for limit, words, color in near for sign in (1, -1))  # fmt: skip
        self._marks[1].show((float(np.log10(limit)), words, False, color) for limit, words, color in near)
        far = (f"; {words} {si(limit, 'A')}, far away" for limit, words, _ in ends_of(snapshot) if limit > FAR * most)
        return "".join(far)


def decades(amps: FloatArray) -> list[list[tuple[float, str]]]:
    """Ticks of a logarithmic axis: a word for each decade, and eight lines between two."""
    known = np.abs(amps[np.isfinite(amps) & (amps != 0)])
    low, high = (int(np.floor(np.log10(end))) for end in ((known.min(), known.max()) if len(known) else (1.0, 1.0)))
    powers = range(low - 1, high + 3)
    between = [(power + float(np.log10(n)), "") for power in powers for n in range(2, 10)]
    return [[(float(power), si(10.0**power, "A")) for power in powers], between]


def ends_of(snapshot: Snapshot) -> list[tuple[float, str, str]]:
    """Currents at which a branch or a ramp ends: amperes, what they are called, their colour."""
    told = ((snapshot.about.limits.get("compliance_a"), "compliance", theme.tokens().bad),
            (snapshot.about.parameters.get("stop_current_a"), "stop current", theme.tokens().warn))  # fmt: skip
    return [(float(limit), words, color) for limit, words, color in told
            if isinstance(limit, int | float) and isfinite(limit) and limit > 0]  # fmt: skip


def arrow_places(points: int) -> tuple[int, ...]:
    """Which points of a branch carry an arrow: the middle of the way up, and of the way back."""
    return tuple(k for k in sorted({points // 4, (3 * points) // 4}) if k + 1 < points)


def branches_of(snapshot: Snapshot) -> list[Branch]:
    """The branches of a run so far: from its notes, or else from what it returned."""
    if snapshot.ramps:
        return _ramps(snapshot)
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


def _ramps(snapshot: Snapshot) -> list[Branch]:
    """The pulses of each ramp as a branch. Amplitude and current are noted without their sign."""
    sign = -1 if snapshot.about.parameters.get("polarity") == "depress" else 1
    volts_sign = sign * (polarity_of(snapshot.about) or 1)
    of: dict[tuple[int, int, int], list[tuple[float, float]]] = {}
    for told in snapshot.ramps:
        if "amplitude_v" in told and "row" in told:
            key = int(told["row"]), int(told["col"]), int(told.get("attempt", 1))
            of.setdefault(key, []).append((float(told["amplitude_v"]), float(told.get("current_a", np.nan))))
    grids = {key: volts_sign * np.array(points) for key, points in of.items()}
    return [Branch(key[:2], key[2], sign, grid[:, 0], grid[:, 1], np.nan, "") for key, grid in grids.items()]


def ramp_words(snapshot: Snapshot, ramps: Sequence[Branch], cells: Sequence[tuple[int, int]]) -> str:
    """How many ramps there were, how high the last one went, and how many cells are formed by it."""
    last, result = ramps[-1], snapshot.result
    where = name_of(cells[0]) if len(cells) == 1 else f"{len(cells)} cells"
    told = f"forming: {where}, {len(ramps)} ramp{'s' * (len(ramps) != 1)}, the last to {si(last.volts_v[-1], 'V')}"
    formed = result.get("cell_formed")
    return told if formed is None else f"{told}; {int(np.sum(formed))} of {len(formed)} formed"


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
