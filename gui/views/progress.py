"""How learning goes: error, loss, accuracies and whatever else the run notes of its epochs, beside other runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar

import numpy as np
from PySide6.QtWidgets import QComboBox, QWidget

from neurobench.runs.drawing import Series
from neurobench.runs.history import Snapshot

from .. import theme
from ..selection import Selection
from .plots import Canvas, Curves, Marks, Panel, dash_of, name, scaled, so_far

MISSES = ("error", "loss")  # the less the better
SHARES = ("accuracy", "test_accuracy")  # told in percent
MORE = "more …"
GOALS = ("goal_accuracy", "stop_accuracy")  # parameters that name the accuracy to be reached
Mark = tuple[float, str, bool, str]
Panels = list[tuple[str, ...]]


class ProgressView(Panel):
    """Error or loss, accuracies, and one more quantity by choice, over the epochs."""

    name: ClassVar[str] = "progress"
    title: ClassVar[str] = "Progress"
    every_s: ClassVar[float] = 0.25

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self._more = QComboBox()
        self._more.setAccessibleName("Another quantity over the epochs")
        self._more.setToolTip("Show another quantity that the run notes of each epoch")
        self._more.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self._canvas = Canvas()
        self._plots = [self._canvas.add(0, n, bottom="epoch", whole="bottom") for n in range(3)]
        self._shown = 3
        for plot in self._plots:
            plot.setXLink(self._plots[0]) if plot is not self._plots[0] else None
        self._curves = [Curves(plot) for plot in self._plots]
        self._marks = [Marks(plot) for plot in self._plots]
        self._key_of: list[tuple[str, str, str]] = []
        self._others: tuple[tuple[str, Mapping[str, Series]], ...] = ()
        self._more.activated.connect(self._chosen)
        self._fill(self._canvas, self._more)

    def set_others(self, others: Sequence[tuple[str, Series | Mapping[str, Series]]]) -> None:
        """Other runs to be drawn beside this one: a label, and its series by name (or its error alone)."""
        self._others = tuple((label, {"error": of} if isinstance(of, Series) else of) for label, of in others)
        self.again()

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return snapshot.progress, snapshot.status, snapshot.result

    def _missing(self, snapshot: Snapshot) -> str:
        if any(snapshot.progress.values()) or any(any(of.values()) for _, of in self._others):
            return ""
        return f"The protocol {snapshot.about.protocol} has told of no epoch {so_far(snapshot)}."

    def _draw(self, snapshot: Snapshot) -> None:
        self._offer(snapshot)
        wanted, self._key_of = self._wanted(snapshot), []
        for n in range(3):
            self._picture(n, wanted[n] if n < len(wanted) else (), snapshot)
        self._reach([of for names in wanted for of in self._series(names, snapshot)], wanted, snapshot)
        self._arrange(len(wanted))
        self._explain(self._key_of)
        self._caption.say(_words(snapshot))

    def _series(self, names: Sequence[str], snapshot: Snapshot) -> list[Series]:
        """All series of a plot, of this run and of others."""
        return [of[one] for of in (snapshot.progress, *(of for _, of in self._others)) for one in names if of.get(one)]

    def _reach(self, every: Sequence[Series], wanted: Panels, snapshot: Snapshot) -> None:
        """All plots have the epochs of the first one, which must hold those of the others: a test before training."""
        first = self._series(wanted[0], snapshot) if wanted else []
        if not first:
            return
        ends = [end for of in every for end in (float(of.at[0]), float(of.at[-1]))]
        own = [end for of in first for end in (float(of.at[0]), float(of.at[-1]))]
        if min(ends) < min(own) or max(ends) > max(own):
            factor, _ = _axis(wanted[0], snapshot.progress)
            y = np.full(2, float(first[0].values[0]) * factor)
            self._curves[0].put("reach", np.array([min(ends), max(ends)]), y, pen=None)

    # -- which quantities ----------------------------------------------------------------------------------------

    def _offer(self, snapshot: Snapshot) -> None:
        others = [one for one, of in snapshot.progress.items() if of and one not in (*MISSES, *SHARES)]
        if [MORE, *others] != [self._more.itemText(n) for n in range(self._more.count())]:
            chosen = self._more.currentText()
            self._more.clear()
            self._more.addItems([MORE, *others])
            self._more.setCurrentText(chosen if chosen in others else MORE)
        self._more.setVisible(bool(others))

    def _wanted(self, snapshot: Snapshot) -> Panels:
        """The names of the series in each plot."""
        have = [snapshot.progress, *(of for _, of in self._others)]
        there = [tuple(one for one in names if any(of.get(one) for of in have)) for names in (MISSES, SHARES)]
        found = [names for names in there if names]
        more = self._more.currentText() if self._more.currentIndex() > 0 else ""
        if not found and not more and self._more.count() > 1:
            more = self._more.itemText(1)
        return [*found, (more,)] if more else found

    def _arrange(self, count: int) -> None:
        """Give the room to the plots that show something."""
        if count == self._shown:
            return
        self._shown = count
        for plot in self._plots:
            if plot.scene() is not None and plot in self._canvas.ci.items:
                self._canvas.ci.removeItem(plot)
        for n, plot in enumerate(self._plots[:count]):
            self._canvas.ci.addItem(plot, 0, n)

    # -- one plot -------------------------------------------------------------------------------------------------

    def _picture(self, n: int, names: Sequence[str], snapshot: Snapshot) -> None:
        curves = self._curves[n]
        factor, label = _axis(names, snapshot.progress)
        curves.begin()
        runs = [("", snapshot.progress), *self._others]
        color = 0
        for who, series in runs:
            for one in names:
                if of := series.get(one):
                    self._curve(curves, (who, one), of, factor, color)
                    if len(runs) > 1 or len(names) > 1:
                        said = f"{one} of {who or 'this run'}" if len(runs) > 1 else one
                        self._key_of.append((dash_of(color), theme.trace_color(color), said.replace("_", " ")))
                    color += 1
        curves.end()
        name(self._plots[n], "left", label)
        self._marks[n].show(_marks(names, snapshot, factor, told=n == 0))

    def _curve(self, curves: Curves, key: tuple[str, str], of: Series, factor: float, n: int) -> None:
        shown = "o" if len(of.at) <= 200 else None
        color = theme.trace_color(n)
        curves.put(
            key, of.at, of.values * factor, pen=theme.trace_pen(n), symbol=shown, symbolSize=5, symbolBrush=color,
            symbolPen=None,
        )  # fmt: skip

    def _chosen(self, _index: int) -> None:
        self.again()


def unit_of(quantity: str) -> str:
    """The unit that a name ends with; of `_s` it says what is meant only where the name does."""
    ends = {"_a": "A", "_v": "V", "_j": "J", "_hz": "Hz"}
    for end, unit in ends.items():
        if quantity.endswith(end):
            return unit
    conductances = ("conductance_s", "separation_s", "weight_s", "drift_s", "needed_s", "spread_s")
    return "S" if quantity.endswith(conductances) else ""


def _axis(names: Sequence[str], progress: Mapping[str, Series]) -> tuple[float, str]:
    """Factor and label of the axis of these series."""
    if not names:
        return 1.0, ""
    if names[0] in SHARES:
        return 100.0, "accuracy (%)"
    unit = unit_of(names[0])
    values = progress[names[0]].values if names[0] in progress else np.zeros(1)
    factor, shown = scaled(values, unit) if unit else (1.0, "")
    words = " or ".join(names).replace("_", " ")
    if unit:
        words = words.rsplit(" ", 1)[0]
    return factor, f"{words} ({shown})" if unit else words


def _marks(names: Sequence[str], snapshot: Snapshot, factor: float, told: bool) -> list[Mark]:
    """The goal as a line, and where it was reached."""
    ok, dim = theme.tokens().ok, theme.tokens().text_dim
    found: list[Mark] = []
    if names and names[0] in SHARES and (goal := goal_accuracy(snapshot.about.parameters)) is not None:
        found.append((100 * goal, f"goal {100 * goal:g} %", False, dim))
    needed = snapshot.result.get("required_a")
    if names == ("margin_a",) and isinstance(needed, float) and isfinite(needed):
        found.append((needed * factor, "needed", False, dim))
    if names and (at := reached_at(snapshot)) is not None:
        found.append((at, "✓ goal reached" if told else "", True, ok))
    return found


def goal_accuracy(parameters: Mapping[str, Any]) -> float | None:
    """The accuracy that a run is after; None where it is after something else."""
    kind = parameters.get("goal")
    if kind == "classified":
        return 1.0
    if kind not in (None, "accuracy"):
        return None
    return next((float(parameters[one]) for one in GOALS if isinstance(parameters.get(one), int | float)), None)


def reached_at(snapshot: Snapshot) -> float | None:
    """The epoch at which the run reached its goal: its last; None while it has not."""
    if snapshot.status != "finished" or snapshot.seq < snapshot.last_seq:
        return None
    ends = [float(of.at[-1]) for of in snapshot.progress.values() if of]
    return max(ends, default=None)


def _words(snapshot: Snapshot) -> str:
    said = []
    for one, of in snapshot.progress.items():
        if of and one in MISSES:
            said.append(f"{one} {of.values[-1]:.3g}")
        if of and one in SHARES:
            said.append(f"{one.replace('_', ' ')} {100 * of.values[-1]:.1f} %")
    if not said:
        said = [f"{one.replace('_', ' ')} {of.values[-1]:.3g}" for one, of in snapshot.progress.items() if of][:2]
    ends = [int(of.at[-1]) for of in snapshot.progress.values() if of]
    return f"epoch {max(ends)}: {', '.join(said)}" if ends else ""
