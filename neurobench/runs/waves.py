"""What a pulse scheme would put on every line and every cell, without putting it there: data, and a figure of them.

A pair of spikes stands on one row and one column; all lines and cells of an array fall into a few classes then (the
spiking row, the spiking column, the others; the pair's cell, its half-selected neighbours, the rest), so that a few
voltages over time say everything. Limits of the bench and thresholds of the chip come as numbers beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.steps import BenchView
from neurobench.bench.stimulus import PulseBatch, Shots, Stimulus, Waveforms, shots
from neurobench.errors import NeurobenchError, UsageError
from neurobench.learning.schemes import (
    PulseScheme,
    Spike,
    SpikePairs,
    cell_v,
    line_v,
    lowest_thresholds,
    scheme_of,
)
from neurobench.runs.benches import without_making_a_chip
from neurobench.runs.drawing import BLUE, GREY, RED, figure_of, need_matplotlib, tidy
from neurobench.runs.request import pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEFAULTS = {"chip.model": "threshold-exponential"}  # where the bench file says no chip, as for stdp-window
NEAR = 2  # which of the scheme's times a pair is looked at, unless --dt says another
FORMATS = (".png", ".svg", ".pdf")
CELL = (0, 0)  # where the pair stands; which cell it is makes no difference
DOWN = {"threshold_v": "threshold_depress_v", "lowest_threshold_v": "lowest_threshold_depress_v"}
BEYOND = 2.0  # a limit farther away than so many times the volts shown is told in words


def preview(
    kind: str, dt_s: Sequence[float] = (), bench: str = "emulator", settings: Iterable[str] = (),
    bench_settings: Iterable[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """What the lines and cells of a bench would see of pairs `dt_s` apart (none: one of either sign); fires nothing.

    `refused`: why this chip and bench would not have it, null where they would. Raises ConfigError for a wrong setting.
    """
    scheme = scheme_of(kind, pairs(settings, "--set"))
    if not all(map(isfinite, dt_s)):
        raise UsageError(f"--dt {' '.join(map(str, dt_s))}: finite seconds, t_post - t_pre")
    config = load_bench(bench, pairs(bench_settings, "--bench-set"), DEFAULTS)
    guard = open_bench(without_making_a_chip(config), 0)
    try:
        return _looked_at(scheme, tuple(dt_s) or _two(scheme), guard)
    finally:
        guard.close()


def _two(scheme: PulseScheme) -> tuple[float, float]:
    times_s = scheme.times_s
    near_s = float(f"{times_s[min(NEAR, len(times_s) - 1)]:.2g}")
    return near_s, -near_s


def _looked_at(scheme: PulseScheme, dt_s: Sequence[float], guard: Guard) -> dict[str, Any]:
    view = guard.view()
    seen = [(one, _stimuli(scheme, one, guard, view)) for one in dt_s]
    refusals = [_refusal(scheme, view), *(played["refused"] for _, stimuli in seen for played in stimuli)]
    return {
        "scheme": scheme.model_dump(mode="json", exclude={"pre_points", "post_points"}),
        "bench": guard.bench_name,
        "simulated": guard.identity().simulated,
        "potentiating_sign": guard.capabilities.potentiating_sign,
        "peak_v": scheme.peak_v,
        "reach_s": scheme.reach_s,
        "refused": next((words for words in refusals if words), None),
        "limits": _limits(view),
        "pairs": [{"dt_s": one, "stimuli": stimuli} for one, stimuli in seen],
    }


def _refusal(scheme: PulseScheme, view: BenchView) -> str | None:
    try:
        scheme.admit(view)
    except NeurobenchError as error:
        return str(error)
    return None


def _limits(view: BenchView) -> dict[str, float | None]:
    """Limit lines in volts, null where nothing is declared."""
    lowest, device, limits = lowest_thresholds(view), view.device, view.limits
    lines = {
        "max_cell_v": limits.max_cell_v, "max_line_v": limits.line_v, "max_victim_v": limits.victim_v,
        "max_read_v": limits.max_read_v, "threshold_v": device.threshold_v,
        "threshold_depress_v": device.threshold_depress_v, "lowest_threshold_v": lowest.up_v,
        "lowest_threshold_depress_v": lowest.down_v,
    }  # fmt: skip
    return {name: value if isfinite(value) else None for name, value in lines.items()}


def _stimuli(scheme: PulseScheme, dt_s: float, guard: Guard, view: BenchView) -> list[dict[str, Any]]:
    try:
        found = scheme.stimuli(SpikePairs.one(view.shape, CELL, dt_s), view)
    except NeurobenchError as error:
        return [{"kind": "none", "repeat": 0, "duration_s": 0.0, "lines": [], "cells": [], "refused": str(error)}]
    return [_seen(one, guard) | {"refused": _guarded(one, guard)} for one in found]


def _guarded(one: Stimulus, guard: Guard) -> str | None:
    try:
        guard.check(one)
    except NeurobenchError as error:
        return str(error)
    return None


def _seen(one: Stimulus, guard: Guard) -> dict[str, Any]:
    """Every class of lines and cells with its volts over time, once for each pulse of a batch."""
    (row, col), shape = CELL, one.shape
    others = [name for name, size in (("row", shape[0]), ("column", shape[1])) if size > 1]
    far_row, far_col = shape[0] - 1, shape[1] - 1
    if isinstance(one, Waveforms):
        lines = [line_v(one, "pre", row), line_v(one, "post", col)]
        at = {place: cell_v(one, *place) for place in ((row, col), (row, far_col), (far_row, col), (far_row, far_col))}
        rest = [Spike(np.array([0.0, one.duration_s]), np.zeros(2))] * len(others)
        repeat = 1
    else:
        lines, rest, at, repeat = _of_batch(one, guard, others)
    named = [("the row of the pre spike", lines[0]), ("the column of the post spike", lines[1])]
    named += [(f"every other {name}", spike) for name, spike in zip(others, rest, strict=True)]
    cells = [("the cell of the pair", at[row, col])]
    cells += [("cells on the spiking row", at[row, far_col])] if "column" in others else []
    cells += [("cells on the spiking column", at[far_row, col])] if "row" in others else []
    cells += [("all other cells", at[far_row, far_col])] if len(others) == 2 else []
    sign = guard.capabilities.potentiating_sign
    return {
        "kind": "waveforms" if isinstance(one, Waveforms) else "pulses",
        "repeat": repeat,
        "duration_s": one.duration_s if isinstance(one, Waveforms) else one.pulse.duration_s,
        "lines": [_told("line", name, spike) for name, spike in named],
        "cells": [_told("cell", name, spike) | _towards(spike, sign) for name, spike in cells],
    }


def _of_batch(
    one: PulseBatch, guard: Guard, others: list[str]
) -> tuple[list[Spike], list[Spike], dict[tuple[int, int], Spike], int]:
    """Lines, other lines and cells while one pulse of a batch is on, and how often it comes."""
    expanded = shots(one, guard.capabilities)
    assert isinstance(expanded, Shots)
    states, pulse = expanded.states(0), one.pulse
    t_s = np.cumsum([0.0, pulse.rise_s, pulse.width_s, pulse.fall_s])

    def spike(volts: float) -> Spike:
        return Spike(t_s, np.array([0.0, volts, volts, 0.0]))

    ends = {"row": states.row_v[-1], "column": states.col_v[-1]}
    places = [(r, c) for r in {CELL[0], len(states.row_v) - 1} for c in {CELL[1], len(states.col_v) - 1}]
    at = {(r, c): spike(float(states.row_v[r] - states.col_v[c])) for r, c in places}
    lines = [spike(float(states.row_v[CELL[0]])), spike(float(states.col_v[CELL[1]]))]
    return lines, [spike(float(ends[name])) for name in others], at, int(abs(one.counts[CELL]))


def _told(what: str, name: str, spike: Spike) -> dict[str, Any]:
    driven = bool(spike.v.any())
    state = {} if what == "cell" else {"state": "driven" if driven else "grounded"}
    return {what: name, **state, "t_s": spike.t_s, "v": spike.v, "max_v": float(spike.v.max()),
            "min_v": float(spike.v.min())}  # fmt: skip


def _towards(spike: Spike, sign: int) -> dict[str, float]:
    """Largest volts towards potentiation and depression of this chip."""
    return {
        "potentiating_v": float(max((sign * spike.v).max(), 0)),
        "depressing_v": float(max((-sign * spike.v).max(), 0)),
    }


# ---------------------------------------------------------------------------------------------- the figure


def draw(found: Mapping[str, Any], out: Path) -> Path:
    """Draw a preview into the file `out` (.png, .svg or .pdf). UsageError without matplotlib, or where it cannot be."""
    need_matplotlib()
    if out.suffix not in FORMATS:
        raise UsageError(f"--out {out}: the figure is a file that ends with {', '.join(FORMATS)}")
    figure = waveforms_figure(found)
    if figure is None:
        raise UsageError(f"nothing to draw: {found['refused'] or 'no pair sends anything (--dt)'}")
    figure.text(0.995, 0.004, f"computed, nothing was played · {found['bench']}", ha="right", va="bottom", fontsize=7,
                color=GREY)  # fmt: skip
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}; choose another place with --out") from error
    return out


def waveforms_figure(found: Mapping[str, Any]) -> Figure | None:
    """Lines on the left, cells on the right, one row of panels for each stimulus; None where nothing is played."""
    played = [(pair["dt_s"], one) for pair in found["pairs"] for one in pair["stimuli"] if one["lines"]]
    if not played:
        return None
    figure = figure_of(10.4, 1.2 + 2.6 * len(played), f"What lines and cells see of scheme {found['scheme']['kind']}")
    panels = figure.subplots(len(played), 2, squeeze=False)
    for row, (dt_s, one) in zip(panels, played, strict=True):
        factor, unit = (1e3, "ms") if one["duration_s"] >= 1e-3 else (1e6, "µs")
        times = f", {one['repeat']} times" if one["repeat"] > 1 else ""
        _panel(row[0], one["lines"], "line", factor, f"dt = {dt_s * 1e3:.3g} ms: lines{times}")
        _panel(row[1], one["cells"], "cell", factor, "cells: V_row - V_col")
        _limit_lines(row[0], found, ("max_line_v",))
        _limit_lines(row[1], found, ("max_cell_v", "threshold_v", "lowest_threshold_v"))
        for axes in row:
            axes.set_xlabel(f"t ({unit})", fontsize=8)
            axes.set_ylabel("V", fontsize=8)
    for axes in panels[-1]:
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    return figure


ON_THE_RIGHT = ("axes fraction", "data")
COLOURS = (BLUE, RED, "#3f8f5b", GREY)


def _panel(axes: Axes, curves: Sequence[Mapping[str, Any]], what: str, factor: float, title: str) -> None:
    # the lone spikes lie over the pair where they are the same: the pair is drawn first, and wider
    for n, curve in enumerate(curves):
        axes.plot(np.asarray(curve["t_s"]) * factor, curve["v"], color=COLOURS[n], linewidth=2.2 - 0.4 * n,
                  label=str(curve[what]))  # fmt: skip
    axes.set_title(title, fontsize=9, loc="left")
    tidy(axes)
    axes.locator_params(axis="x", integer=False)


def _limit_lines(axes: Axes, found: Mapping[str, Any], names: Sequence[str]) -> None:
    """Limits and thresholds, at both signs; one that lies far outside is told in words."""
    reach, far = max(map(abs, axes.get_ylim())), []
    for name in names:
        up_v, down_v = (found["limits"][key] for key in (name, DOWN.get(name, name)))
        if up_v is None or (name == "lowest_threshold_v" and up_v == found["limits"]["threshold_v"]):
            continue
        if up_v > BEYOND * reach:
            far.append(f"{name} {up_v:g} V")
            continue
        sign = found["potentiating_sign"]
        for volts in (sign * up_v, -sign * (down_v or up_v)):
            axes.axhline(volts, color="#222222", linewidth=0.8, linestyle=":" if "lowest" in name else "--")
        words, at = f"{name} {up_v:g} V", (1, sign * up_v)
        axes.annotate(words, at, xycoords=ON_THE_RIGHT, ha="right", va="bottom", fontsize=6.5, color="#222222")
    if far:
        words = "off the scale: " + ", ".join(far)
        axes.annotate(words, (1, 0), xycoords="axes fraction", ha="right", va="bottom", fontsize=6.5, color=GREY)
