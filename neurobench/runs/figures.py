"""The figures of a run, from its run file alone: conductances, weights, activations, error and final bars.

Only what was read back through the bench is drawn. The hidden truth of an emulated chip has a figure of its own
(`truth`), drawn when asked for and never beside measured values. Figures of emulated chips say SIMULATED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobench.bench.crossbar import Reading, conductance_s
from neurobench.bench.stimulus import CellRead, FloatArray
from neurobench.errors import UsageError, unknown
from neurobench.runs import spike_figures
from neurobench.runs.drawing import (
    BLUE,
    GREY,
    RED,
    SIMULATED,
    Series,
    draw_map,
    figure_of,
    need_matplotlib,
    panels_of,
    si_scale,
    tidy,
)
from neurobench.runs.library import protocol_name
from neurobench.runs.runfile import NoteRow, RunFile
from neurobench.runs.spike_figures import Spiking
from neurobench.system import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 5  # so many panels stand in a row where the array is a single line
PANELS = 64  # up to so many cells each get a panel; more are drawn as a band
MOST_READ = 4_000_000  # values of a run's reads that are held to be drawn
READS = "reads"
BARS = 32 * 32  # up to so many cells get a 3-D bar; more are drawn as a map


@dataclass(frozen=True)
class History:
    """What the figures are drawn from. Conductances and weights in siemens, over the number of updates.

    `result`: what the protocol returned, for the figures of a characterisation. `spiking`: what a spiking run told.
    `single_cells`: a weight is one cell, not a pair.
    """

    title: str
    simulated: bool
    error: Series
    activations: Series
    conductance_s: Series
    weights_s: Series
    targets: FloatArray | None
    truth_s: Series
    result: Mapping[str, Any] = field(default_factory=dict)
    spiking: Spiking = field(default_factory=Spiking)
    single_cells: bool = False
    read_s: Series = field(default_factory=lambda: Series(np.zeros(0), np.zeros((0, 1, 1))))


def draw(run: Path, out: Path, names: Sequence[str] = ()) -> list[Path]:
    """Draw figures of a run into the folder `out` as PNG files and return their paths.

    `names`: which (default: all that the run holds values for, but not `truth`; `reads`, what its reads gave, where it
    holds nothing else). Errors: UsageError without
    matplotlib, for a name that is none, or where the run does not hold what a named figure shows.
    """
    need_matplotlib()
    for name in names:
        if name not in FIGURES:
            raise UsageError(unknown("figure", name, FIGURES))
    history = read_history(run)
    if READS in names:
        history = replace(history, read_s=reads_of(run))
    wanted = names or [name for name in FIGURES if name != "truth"]
    drawn = [(name, FIGURES[name](history)) for name in wanted]
    if not any(figure for _, figure in drawn) and not names:  # a session by hand tells nothing but what it read
        drawn = [(READS, read_figure(replace(history, read_s=reads_of(run))))]
    missing = [name for name, figure in drawn if figure is None]
    if names and missing:
        raise UsageError(f"{run.name} holds nothing for the figure {missing[0]!r}")
    return [_saved(figure, history, out / f"{run.stem}-{name}.png") for name, figure in drawn if figure is not None]


def _saved(figure: Figure, history: History, path: Path) -> Path:
    mark = f"{SIMULATED} · " if history.simulated else ""
    figure.text(0.995, 0.004, mark + history.title, ha="right", va="bottom", fontsize=7, color=GREY)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = BytesIO()
        figure.savefig(drawn, format="png")
        replace_file(path, drawn.getvalue())  # whoever is stopped here leaves no half picture
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose a folder with --out") from error
    return path


# ---------------------------------------------------------------------------------------------- what was recorded


def read_history(path: Path) -> History:
    """Gather the notes of a run that figures are drawn from."""
    with RunFile.open(path) as run:
        told = [*run.notes("start"), *run.notes("epoch")]
        epochs = [note.value for note in told if isinstance(note.value, dict)]
        targets = run.notes("targets")
        manifest = run.manifest
        truth, result = list(run.truth()), run.result or {}
        notes = {name: [note.value for note in run.notes(name)] for name in spike_figures.NOTES}
    return History(
        title=" · ".join(str(part) for part in (protocol_name(manifest), path.stem) if part),
        simulated=bool(manifest.get("simulated")),
        error=series(epochs, "error"),
        activations=series(epochs, "activations"),
        conductance_s=series(epochs, "conductance_s"),
        weights_s=series(epochs, "weights"),
        targets=_last(targets),
        truth_s=Series(np.arange(len(truth), dtype=np.float64), np.array([grid for _, grid in truth])),
        result=result,
        single_cells=any(epoch.get("synapse") == "cell" for epoch in epochs),
        spiking=spike_figures.spiking(notes, {name: series(epochs, name) for name in spike_figures.SERIES}),
    )


def series(epochs: Sequence[dict[str, Any]], name: str) -> Series:
    """One named value out of the epoch notes, where it was noted; notes of another shape are left out."""
    found = [(epoch.get("index", n), np.asarray(epoch[name])) for n, epoch in enumerate(epochs) if name in epoch]
    alike = [(at, value) for at, value in found if value.shape == found[-1][1].shape]
    values = np.array([value for _, value in alike], dtype=np.float64)
    return Series(np.array([at for at, _ in alike], dtype=np.float64), values)


def reads_of(path: Path) -> Series:
    """Conductances as they were known after each read of cells; nan where a cell was not read yet.

    Of more reads than can be drawn every second, fourth or so is kept, and the last.
    """
    found: list[tuple[int, FloatArray]] = []
    known, every, n = np.zeros((0, 0)), 1, 0
    with RunFile.open(path) as run:
        for entry in run.entries():
            read, answer = getattr(entry.step, "read", None), entry.answer
            if not (isinstance(read, CellRead) and isinstance(answer, Reading)):
                continue
            if not known.size:
                known = np.full(read.mask.shape, np.nan)
            known[read.mask] = conductance_s(answer, read.voltage_v)
            if n % every == 0:
                found.append((n, known.copy()))
            if len(found) * known.size > MOST_READ:
                found, every = found[::2], every * 2
            n += 1
    if found and found[-1][0] != n - 1:
        found.append((n - 1, known))
    return Series(np.array([at + 1.0 for at, _ in found]), np.array([grid for _, grid in found]))


def _last(notes: Sequence[NoteRow]) -> FloatArray | None:
    return np.asarray(notes[-1].value, dtype=np.float64) if notes else None


# ---------------------------------------------------------------------------------------------- the figures


def error_figure(history: History) -> Figure | None:
    """Total error per update."""
    if not history.error:
        return None
    figure = figure_of(6.4, 3.8, "Error per update")
    axes = figure.subplots()
    axes.plot(history.error.at, history.error.values, color=BLUE, marker="o", markersize=3.5, linewidth=1.2)
    axes.set(xlabel="update", ylabel="total error", ylim=(0, None))
    tidy(axes)
    return figure


def conductance_figure(history: History) -> Figure | None:
    """Conductance of every device over the updates, as read back."""
    if not history.conductance_s:
        return None
    return _grid_figure(history.conductance_s, "Conductance of every device, as read back", "G", ("row", "column"))


def read_figure(history: History) -> Figure | None:
    """Conductance of every cell after each read of cells; of a single read a map."""
    if not history.read_s:
        return None
    if len(history.read_s.at) > 1:
        return _grid_figure(history.read_s, "Conductance of every cell, as read", "G", ("row", "column"), "read")
    factor, unit = si_scale(history.read_s.values)
    figure = figure_of(6.0, 4.6, "Conductance of every cell, as read once")
    draw_map(figure, figure.subplots(), history.read_s.values[0] * factor, f"G ({unit})", ("row", "column"))
    return figure


def truth_figure(history: History) -> Figure | None:
    """Hidden conductances of the emulated chip: what no reader of the chip can know."""
    if not history.truth_s:
        return None
    return _grid_figure(
        history.truth_s, "Hidden truth of the emulated chip, not read back", "G", ("row", "column"), "record"
    )


def weight_figure(history: History) -> Figure | None:
    """Weights over the updates: differential ones, or what single cells have above the lowest conductance."""
    if not history.weights_s:
        return None
    title = "Weights of single cells above the floor" if history.single_cells else "Differential weights"
    return _grid_figure(history.weights_s, f"{title}, as read back", "W", ("input", "neuron"))


def _grid_figure(of: Series, title: str, letter: str, names: tuple[str, str], x: str = "update") -> Figure:
    """One panel for each cell in the arrangement of the array; a band of percentiles where there are too many."""
    factor, unit = si_scale(of.values)
    values, (rows, cols) = of.values * factor, of.values.shape[1:]
    if rows * cols > PANELS:
        what = "cells" if letter == "G" else "weights"
        return _band_figure(Series(of.at, values), title, f"{letter} ({unit})", names, what, x)
    high, wide = _arranged(rows, cols)
    figure, panels = panels_of(high, wide, (1.9, 1.5), title)
    for n, panel in enumerate(panels.flat):
        panel.set_visible(n < rows * cols)
        if n < rows * cols:
            i, j = divmod(n, cols)
            _cell(panel, of.at, values[:, i, j], f"{names[0]} {i}, {names[1]} {j}")
    for panel in panels[-1]:
        panel.set_xlabel(x, fontsize=8)
    figure.supylabel(f"{letter} ({unit})", fontsize=9)
    return figure


def _arranged(rows: int, cols: int) -> tuple[int, int]:
    """Rows and columns of panels: those of the array; a long single line is broken into several."""
    n = rows * cols
    if min(rows, cols) > 1 or n <= LINE:
        return rows, cols
    return -(-n // LINE), LINE


def _cell(axes: Axes, at: FloatArray, values: FloatArray, title: str) -> None:
    axes.plot(at, values, color=BLUE, linewidth=1.2)
    axes.plot(at[-1:], values[-1:], "o", color=RED, markersize=3)
    axes.set_title(title, fontsize=7.5, color="#444444", pad=2)
    tidy(axes)


def _band_figure(of: Series, title: str, label: str, names: tuple[str, str], what: str, x: str = "update") -> Figure:
    rows, cols = of.values.shape[1:]
    figure = figure_of(11.6, 3.9, f"{title} ({rows} x {cols})")
    left, right, spread = figure.subplots(1, 3, width_ratios=(1.25, 1, 0.75))
    flat = of.values.reshape(len(of.at), -1)
    shares = np.nanpercentile if np.isfinite(flat).any(axis=1).all() else np.percentile  # cells may not be read yet
    low, below, middle, above, high = shares(flat, (0, 25, 50, 75, 100), axis=1)
    left.fill_between(of.at, low, high, color=BLUE, alpha=0.15, linewidth=0, label="all")
    left.fill_between(of.at, below, above, color=BLUE, alpha=0.35, linewidth=0, label="middle half")
    left.plot(of.at, middle, color=BLUE, label="median")
    left.set(xlabel=x, ylabel=label)
    left.legend(frameon=False, fontsize=8)
    tidy(left)
    draw_map(figure, right, of.values[-1], label, names)
    _histogram(spread, of.values[-1], label, what)
    return figure


def _histogram(axes: Axes, values: FloatArray, label: str, what: str) -> None:
    """How the values are distributed at the end."""
    known = values[np.isfinite(values)]
    axes.hist(known, bins=40, color=BLUE, alpha=0.75)
    axes.set(xlabel=label, ylabel=what, title="at the end")
    axes.title.set_fontsize(9)
    tidy(axes)
    axes.locator_params(axis="x", integer=False, nbins=5)


def activation_figure(history: History) -> Figure | None:
    """Activation of every neuron for every pattern, with the target that it has to pass."""
    if not history.activations or history.activations.values.ndim != 3:
        return None
    at, values = history.activations.at, history.activations.values
    patterns, neurons = values.shape[1:]
    if patterns > PANELS:
        return _band_figure(Series(at, values), "Activations", "f", ("pattern", "neuron"), "activations")
    cols = next((n for n in (4, 5, 3) if patterns % n == 0), min(4, patterns))
    rows = -(-patterns // cols)
    figure, panels = panels_of(rows, cols, (2.3, 1.75), "Activations for every pattern, and their targets")
    for n in range(patterns):
        _pattern(panels[divmod(n, cols)], at, values[:, n], None if history.targets is None else history.targets[n])
        panels[divmod(n, cols)].set_title(f"pattern {n}", fontsize=8, color="#444444", pad=2)
    for n in range(patterns, rows * cols):
        panels[divmod(n, cols)].set_visible(False)
    if neurons <= 10:
        handles = panels[0, 0].get_lines()[:neurons]
        names = [f"neuron {k}" for k in range(neurons)]
        figure.legend(handles, names, loc="upper right", ncols=neurons, frameon=False, fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("update", fontsize=8)
    figure.supylabel("activation f", fontsize=9)
    return figure


def _pattern(axes: Axes, at: FloatArray, values: FloatArray, targets: FloatArray | None) -> None:
    colours = [f"C{k}" for k in range(values.shape[1])]
    for k, colour in enumerate(colours):
        axes.plot(at, values[:, k], color=colour, linewidth=1.2)
    for k, colour in enumerate(colours if targets is not None else []):
        axes.axhline(targets[k], color=colour, linewidth=0.9, linestyle="--", alpha=0.7)  # type: ignore[index]
    axes.axhline(0.0, color=GREY, linewidth=0.5)
    axes.set_ylim(-1.08, 1.08)
    tidy(axes)


def bar_figure(history: History) -> Figure | None:
    """Conductance of every device at the end, as 3-D bars."""
    if not history.conductance_s:
        return None
    factor, unit = si_scale(history.conductance_s.values)
    grid = history.conductance_s.values[-1] * factor
    title = "Conductance of every device at the end, as read back"
    if grid.size > BARS:
        figure = figure_of(6.0, 4.6, title)
        draw_map(figure, figure.subplots(), grid, f"G ({unit})", ("row", "column"))
        return figure
    figure = figure_of(6.4, 5.4, title)
    _bars(figure.add_subplot(projection="3d"), grid, f"G ({unit})")
    return figure


def _bars(axes: Any, grid: FloatArray, label: str) -> None:
    from matplotlib import colormaps

    rows, cols = grid.shape
    j, i = np.meshgrid(np.arange(cols), np.arange(rows))
    height = grid.ravel()
    span = np.ptp(height) or 1.0
    colours = colormaps["viridis"]((height - height.min()) / span)
    floor = np.minimum(height, 0.0)
    axes.bar3d(j.ravel() - 0.35, i.ravel() - 0.35, floor, 0.7, 0.7, np.abs(height), color=colours, shade=True)
    axes.set(xlabel="column", ylabel="row", zlabel=label, ylim=(rows - 0.5, -0.5), xlim=(-0.5, cols - 0.5))
    every = max(1, max(rows, cols) // 8)
    axes.set_xticks(range(0, cols, every))
    axes.set_yticks(range(0, rows, every))
    axes.view_init(elev=28, azim=-60)


def curves_figure(history: History) -> Figure | None:
    """Trains of measure-curve: conductance over pulses, potentiation left, depression right, a colour per condition."""
    found = history.result
    if "train_conductance_s" not in found:
        return None
    values = np.asarray(found["train_conductance_s"])
    factor, unit = si_scale(values)
    figure = figure_of(9.6, 3.9, "Conductance over pulses, as read back")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, sign, title in zip(panels, (1, -1), ("potentiation", "depression"), strict=True):
        named: dict[tuple[float, float], str] = {}
        for train in np.flatnonzero(np.asarray(found["train_direction"]) == sign):
            pulse = float(found["train_amplitude_v"][train]), float(found["train_width_s"][train])
            new = pulse not in named
            colour = named.setdefault(pulse, f"C{len(named)}")
            label = f"{pulse[0]:g} V, {pulse[1]:g} s" if new else None
            axes.plot(values[train] * factor, ".-", color=colour, markersize=2.5, linewidth=0.7, alpha=0.7, label=label)
        axes.set(xlabel="pulse", title=title if named else f"{title}: none")
        axes.title.set_fontsize(9)
        if named:
            axes.legend(frameon=False, fontsize=7)
        tidy(axes)
    panels[0].set_ylabel(f"G ({unit})")
    return figure


def iv_figure(history: History) -> Figure | None:
    """Sweeps of iv-sweep: current over voltage, and its magnitude on a logarithmic axis, a colour per cell."""
    found = history.result
    if "level_volts_v" not in found:
        return None
    volts, amps = np.asarray(found["level_volts_v"]), np.asarray(found["level_current_a"])
    cells = [tuple(cell) for cell in np.asarray(found["branch_cell"]).tolist()]
    factor, unit = si_scale(amps)
    unit = unit.replace("S", "A")
    figure = figure_of(9.6, 3.9, f"Current over voltage ({found['mode']}; every level returns to 0 V)")
    linear, logarithmic = figure.subplots(1, 2)
    colours = {cell: f"C{n}" for n, cell in enumerate(dict.fromkeys(cells))}
    for n, cell in enumerate(cells):
        at = np.asarray(found["level_branch"]) == n
        label = f"cell {cell}" if n == cells.index(cell) else None
        linear.plot(volts[at], amps[at] * factor, ".-", color=colours[cell], markersize=2.5, linewidth=0.8, label=label)
        logarithmic.plot(volts[at], np.abs(amps[at]) * factor, ".-", color=colours[cell], markersize=2.5, linewidth=0.8)
    for axes, label in ((linear, f"I ({unit})"), (logarithmic, f"|I| ({unit})")):
        tidy(axes)
        axes.set(xlabel="V_row - V_col (V)", ylabel=label)
        axes.locator_params(axis="x", integer=False)
    logarithmic.set_yscale("log")
    linear.legend(frameon=False, fontsize=7)
    return figure


def forming_figure(history: History) -> Figure | None:
    """Ramps of form: current in the pulse and conductance after it, over the amplitude, a colour per cell."""
    found = history.result
    if "pulse_attempt" not in found or not len(found["pulse_attempt"]):
        return None
    cells = np.stack([found["pulse_row"], found["pulse_col"]], axis=1)
    figure = figure_of(9.6, 3.9, "Forming: current in the pulse, conductance after it")
    panels = figure.subplots(1, 2)
    for axes, name, letter, base in zip(panels, ("current_a", "conductance_s"), "IG", "AS", strict=True):
        values = np.asarray(found[f"pulse_{name}"])
        factor, unit = si_scale(values)
        for n, cell in enumerate(np.unique(cells, axis=0)):
            at = (cells == cell).all(axis=1)
            x, y = np.asarray(found["pulse_amplitude_v"])[at], values[at] * factor
            axes.plot(x, y, ".-", color=f"C{n}", markersize=3, linewidth=0.8, label=f"cell {tuple(cell.tolist())}")
        tidy(axes)
        axes.set(xlabel="amplitude (V)", ylabel=f"{letter} ({unit.replace('S', base)})", yscale="log")
        axes.locator_params(axis="x", integer=False)
    panels[0].legend(frameon=False, fontsize=7)
    return figure


FIGURES: dict[str, Callable[[History], Figure | None]] = {
    "conductances": conductance_figure,
    READS: read_figure,
    "weights": weight_figure,
    "activations": activation_figure,
    "error": error_figure,
    "bars": bar_figure,
    "curves": curves_figure,
    "iv": iv_figure,
    "forming": forming_figure,
    "raster": lambda history: spike_figures.raster_figure(history.spiking),
    "activity": lambda history: spike_figures.activity_figure(history.spiking),
    "training": lambda history: spike_figures.training_figure(history.spiking),
    "confusion": lambda history: spike_figures.confusion_figure(history.spiking),
    "window": lambda history: spike_figures.window_figure(history.result),
    "network": lambda history: spike_figures.network_figure(history.spiking),
    "truth": truth_figure,
}
