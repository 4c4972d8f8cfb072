"""The learning window: change of the conductance over dt, its controls, and with the result fit and theory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from neurobench.bench.stimulus import FloatArray
from neurobench.runs.history import Snapshot
from neurobench.runs.spike_figures import Fitted, fitted

from .. import theme
from ..selection import Selection
from .plots import Canvas, Curves, Marks, Panel, line_of, milliseconds, name, painted, scaled

SINGLE = 1000  # up to so many points each have a mark; of more only the means are drawn
CONTROLS = (("lone_pre", "pre"), ("lone_post", "post"), ("none", "–"))


class Measured(NamedTuple):
    """What was measured so far: changes dg_s[n] at dt_s[n], their declared sigma, and the controls by kind."""

    dt_s: FloatArray
    dg_s: FloatArray
    sigma_s: FloatArray
    controls: Mapping[str, FloatArray]


class StdpView(Panel):
    """Every point, the mean of each dt with its standard error, and beside them what happened without a pair."""

    name: ClassVar[str] = "stdp"
    title: ClassVar[str] = "STDP window"
    every_s: ClassVar[float] = 0.1

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self._canvas = Canvas()
        self._controls = self._canvas.add(0, 0, left="ΔG", bottom="lone spikes")
        self._plot = self._canvas.add(0, 1, bottom="dt = t_post − t_pre")
        self._controls.setYLink(self._plot)
        self._plot.getAxis("left").setStyle(showValues=False)
        self._controls.setMouseEnabled(x=False)
        self._canvas.ci.layout.setColumnStretchFactor(0, 2)
        self._canvas.ci.layout.setColumnStretchFactor(1, 5)
        self._bars = pg.ErrorBarItem(x=np.zeros(0), y=np.zeros(0), height=np.zeros(0), beam=0.0)
        self._plot.addItem(self._bars)
        self._curves, self._beside = Curves(self._plot), Curves(self._controls)
        self._bands: list[Any] = []
        self._zeros = [Marks(self._plot), Marks(self._controls)]
        self._fill(self._canvas)

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return snapshot.points, len(snapshot.points), snapshot.result

    def _missing(self, snapshot: Snapshot) -> str:
        if len(measured(snapshot).dt_s) or any(len(values) for values in measured(snapshot).controls.values()):
            return ""
        if snapshot.about.protocol == "stdp-window":
            return "No point of the window has been measured yet."
        return f"The protocol {snapshot.about.protocol} measures no learning window; stdp-window does."

    def _draw(self, snapshot: Snapshot) -> None:
        found = measured(snapshot)
        changes = np.concatenate([found.dg_s, *found.controls.values()])
        factor, unit = scaled(changes, "S")
        ms, of_time = milliseconds(found.dt_s)
        self._points(found, factor, ms)
        branches = fitted(snapshot.result.get("fit") or {}, found.dt_s)
        self._lines(branches, snapshot.result.get("theory") or {}, factor, ms)
        self._control_points(found, factor)
        self._curves.end()
        name(self._controls, "left", f"ΔG ({unit})")
        name(self._plot, "bottom", f"dt = t_post − t_pre ({of_time})")
        line = theme.tokens().line
        self._zeros[0].show([(0.0, "", False, line), (0.0, "", True, line)])
        self._zeros[1].show([(0.0, "", False, line)])
        self._explain(_key(branches, snapshot.result, (factor, unit), (ms, of_time)))
        self._caption.say(_words(found, snapshot.result))

    def _points(self, found: Measured, factor: float, ms: float) -> None:
        color = theme.trace_color(0)
        self._curves.begin()
        if len(found.dt_s) <= SINGLE:
            self._curves.put(
            "points", found.dt_s * ms, found.dg_s * factor, pen=None, symbol="o", symbolSize=4,
            symbolBrush=painted(color, 110), symbolPen=None,
        )  # fmt: skip
        at_s, means, error = means_of(found)
        self._curves.put(
            "means", at_s * ms, means * factor, pen=None, symbol="o", symbolSize=8, symbolBrush=None, symbolPen=color
        )
        self._bars.setData(x=at_s * ms, y=means * factor, height=2 * error * factor, pen=line_of(color))

    def _lines(self, branches: Sequence[Fitted], theory: Mapping[str, Any], factor: float, ms: float) -> None:
        for band in self._bands:
            self._plot.removeItem(band)
        self._bands = []
        color = theme.trace_color(1)
        for one in branches:
            self._curves.put(("fit", one.side), one.dt_s * ms, one.dg_s * factor, pen=line_of(color))
            if one.ends_s is not None:
                self._band(one, factor, ms, color)
        if "dt_s" in theory and "dg_s" in theory:
            dt_s, dg_s = np.asarray(theory["dt_s"], np.float64), np.asarray(theory["dg_s"], np.float64)
            pen = line_of(theme.tokens().text, Qt.PenStyle.DashLine)
            for side, part in ((-1, dt_s < 0), (1, dt_s >= 0)):  # a window may jump at 0
                self._curves.put(("theory", side), dt_s[part] * ms, dg_s[part] * factor, pen=pen)

    def _band(self, one: Fitted, factor: float, ms: float, color: str) -> None:
        assert one.ends_s is not None
        edges = [pg.PlotCurveItem(one.dt_s * ms, end * factor) for end in one.ends_s]
        band = pg.FillBetweenItem(*edges, brush=painted(color, 40))
        self._bands.append(band)
        self._plot.addItem(band)

    def _control_points(self, found: Measured, factor: float) -> None:
        self._beside.begin()
        ticks = []
        for n, (kind, words) in enumerate(CONTROLS):
            values = found.controls.get(kind, np.zeros(0))
            if not len(values):
                continue
            ticks.append((float(n), words))
            at = n + np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.array([float(n)])
            color = theme.trace_color(3)
            look = {"symbol": "t3", "symbolSize": 6, "symbolBrush": painted(color, 160), "symbolPen": None}
            self._beside.put(kind, at, values * factor, pen=None, **look)
        self._beside.end()
        self._controls.getAxis("bottom").setTicks([ticks])
        self._controls.setXRange(-0.5, len(CONTROLS) - 0.5, padding=0)
        # both plots have one scale, which must hold the controls too
        every = np.concatenate([np.zeros(1), *found.controls.values()]) * factor
        reach = np.array([np.nanmin(every), np.nanmax(every)])
        self._curves.put("reach", np.zeros(2), reach, pen=painted(theme.tokens().panel, 0))


def measured(snapshot: Snapshot) -> Measured:
    """The points of a run so far: from its notes, or else from what it returned. What was not at G0 is left out."""
    points = [one for one in snapshot.points if "dt_s" in one and "dg_s" in one]
    if points:
        used = [one for one in points if one.get("initialised", True) and not one.get("over_range", False)]
        pairs = sorted((one for one in used if one.get("kind", "pair") == "pair"), key=lambda one: float(one["dt_s"]))
        dt_s, dg_s, sigma_s = (_column(pairs, key) for key in ("dt_s", "dg_s", "sigma_s"))
        kinds = {kind: _column([one for one in used if one.get("kind") == kind], "dg_s") for kind, _ in CONTROLS}
        return Measured(dt_s, dg_s, sigma_s, kinds)
    result = snapshot.result
    if "dt_s" not in result or "dg_s" not in result:
        return Measured(np.zeros(0), np.zeros(0), np.zeros(0), {})
    dt_s, dg_s = (np.asarray(result[key], np.float64).ravel() for key in ("dt_s", "dg_s"))
    told = result.get("controls") or {}
    kinds = {kind: np.asarray(told.get(f"{kind}_s", ()), np.float64).ravel() for kind, _ in CONTROLS}
    return Measured(dt_s, dg_s, np.full(len(dt_s), float(result.get("noise_s") or np.nan)), kinds)


def _column(points: Sequence[Mapping[str, Any]], key: str) -> FloatArray:
    return np.array([one.get(key, np.nan) for one in points], np.float64)


def means_of(found: Measured) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Each dt once, the mean change there and its standard error; of a single point that is its declared sigma."""
    at_s, where = np.unique(found.dt_s, return_inverse=True)
    n = np.bincount(where, minlength=len(at_s))
    means = np.bincount(where, found.dg_s, len(at_s)) / n
    squares = np.bincount(where, (found.dg_s - means[where]) ** 2, len(at_s))
    seen = np.sqrt(squares / np.maximum(n - 1, 1) / n)
    declared = np.sqrt(np.bincount(where, np.nan_to_num(found.sigma_s) ** 2, len(at_s))) / n
    return at_s, means, np.where(n > 1, seen, declared)


def _key(
    branches: Sequence[Fitted], result: Mapping[str, Any], of_a: tuple[float, str], of_tau: tuple[float, str]
) -> list[tuple[str, str, str]]:
    blue, orange = theme.trace_color(0), theme.trace_color(1)
    told = [("•", blue, "points"), ("○", blue, "mean ± standard error")]
    told += [("◂", theme.trace_color(3), "controls: lone pre, lone post, no pulse")]
    told += [("―", orange, f"fit: {one.words(of_a, of_tau)}") for one in branches]
    said = (result.get("fit") or {}).get("said") or {}
    told += [("―", orange, f"{side}: {words}") for side, words in said.items() if words]
    theory = result.get("theory") or {}
    return [*told, ("╌", theme.tokens().text, "theory")] if "dt_s" in theory else told


def _words(found: Measured, result: Mapping[str, Any]) -> str:
    controls = sum(len(values) for values in found.controls.values())
    after = "" if result else "; the fit comes with the result"
    return f"{len(found.dt_s)} pairs at {len(np.unique(found.dt_s))} dt, {controls} controls{after}"
