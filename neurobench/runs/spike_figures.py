"""The figures of spiking runs: raster, activity, training, confusion, learning window, network.

Each is drawn from what the run recorded (notes and result), and is None where the run holds nothing for it. Numbers
that stand in a figure are computed in `learning.statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neurobench.bench.stimulus import FloatArray
from neurobench.learning.statistics import Raster, interval_cv, population_rate_hz, rasters, rates_hz, summary
from neurobench.runs.drawing import BLUE, GREY, RED, Series, figure_of, si_scale, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = 300_000  # up to so many spikes each get a mark; more are drawn as a density
LONG_TICKS = 5000  # a longer raster shows its end once more, as wide as its beginning is narrow
END_TICKS = 500
NUMBERED = 20  # up to so many classes have their counts written into the confusion matrix
NAMED = 60  # up to so many classes have their names beside it
NAME = 24  # so much of a layer's name is written

EMPTY = Series(np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Spiking:
    """What a spiking run told: rasters and last activity by layer, last confusion and network, series over epochs."""

    rasters: Mapping[str, Raster] = field(default_factory=dict)
    activity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    confusion: Mapping[str, Any] | None = None
    network: Mapping[str, Any] | None = None
    loss: Series = EMPTY
    accuracy: Series = EMPTY
    test_accuracy: Series = EMPTY


def spiking(notes: Mapping[str, Sequence[Any]], epochs: Mapping[str, Series]) -> Spiking:
    """Gather what the figures show from the values of notes by name, and the series of the notes "epoch"."""
    loss = epochs["loss"] or epochs["error"]
    return Spiking(
        rasters=rasters(notes["spikes"]),
        activity={str(note["layer"]): note for note in notes["activity"]},
        confusion=notes["confusion"][-1] if notes["confusion"] else None,
        network=notes["network"][-1] if notes["network"] else None,
        loss=loss,
        accuracy=epochs["accuracy"],
        test_accuracy=epochs["test_accuracy"],
    )


NOTES = ("spikes", "activity", "confusion", "network")
SERIES = ("loss", "error", "accuracy", "test_accuracy")


def brief(name: object, room: int = NAME) -> str:
    """A name as it fits into a figure: its middle is left out, since many differ by their ends."""
    words = str(name)
    return words if len(words) <= room else f"{words[: room - 5]}…{words[-4:]}"


# ---------------------------------------------------------------------------------------------- raster


def raster_figure(said: Spiking) -> Figure | None:
    """Every spike of every layer; of a long run its end once more, close up."""
    layers = [raster for raster in said.rasters.values() if raster.neurons]
    if not layers:
        return None
    long = max(int(raster.spans[-1].sum()) for raster in layers) > LONG_TICKS
    heights = [min(max(raster.neurons, 12), 160) for raster in layers]
    figure = figure_of(9.6, 1.2 + max(1.4 * len(layers), min(2.6 * len(layers), 8.0)), "Spikes")
    panels = figure.subplots(
        len(layers), 1 + long, squeeze=False, sharex="col", height_ratios=heights, width_ratios=(3, 2)[: 1 + long]
    )
    for row, raster in zip(panels, layers, strict=True):
        _spikes(row[0], raster)
        if long:
            _close_up(row[1], raster)
        row[0].set_ylabel(brief(raster.layer, 16), fontsize=9)
        row[0].set_title(_words(raster), fontsize=8, color="#444444", loc="left", pad=3)
    for axes in panels[-1]:
        axes.set_xlabel("time (s)", fontsize=9)
    return figure


def _words(raster: Raster) -> str:
    said = summary(raster)
    cv = f", CV of intervals {said['interval_cv']:.2f}" if isfinite(said["interval_cv"]) else ""
    return (
        f"{raster.neurons:,} neuron{'s' * (raster.neurons != 1)}, {len(raster.tick):,} spikes "
        f"in {raster.seconds:.4g} s, {said['rate_hz']:.3g} Hz{cv}, {100 * said['active_fraction']:.3g} % active"
    )


def _spikes(axes: Axes, raster: Raster) -> None:
    first, last = int(raster.spans[0, 0]), int(raster.spans[-1].sum())
    if len(raster.tick) > MARKS:
        _density(axes, raster, first, last)
    else:
        # an inch has 72 points; a mark is as high as the line that a neuron has, within reason
        high = axes.get_window_extent().height * 72 / axes.figure.dpi
        size = min(max(0.8 * high / raster.neurons, 1.5), 8.0)
        axes.plot(raster.tick * raster.tick_s, raster.neuron, "|", color=BLUE, markersize=size, markeredgewidth=0.7)
    _frame(axes, raster, first * raster.tick_s, last * raster.tick_s)


def _density(axes: Axes, raster: Raster, first: int, last: int) -> None:
    bins = (min(last - first, 1200), min(raster.neurons, 400))
    span = ((first, last), (0, raster.neurons))
    found, _, _ = np.histogram2d(raster.tick + 0.5, raster.neuron + 0.5, bins, span)
    extent = (first * raster.tick_s, last * raster.tick_s, -0.5, raster.neurons - 0.5)
    axes.imshow(found.T, extent=extent, origin="lower", aspect="auto", cmap="Blues", interpolation="antialiased")


def _close_up(axes: Axes, raster: Raster) -> None:
    last = int(raster.spans[-1].sum())
    first = max(last - END_TICKS, int(raster.spans[-1, 0]))
    shown = raster.tick >= first
    high = axes.get_window_extent().height * 72 / axes.figure.dpi
    size = min(max(0.8 * high / raster.neurons, 1.5), 8.0)
    axes.plot(raster.tick[shown] * raster.tick_s, raster.neuron[shown], "|", color=BLUE, markersize=size)
    axes.set_title(f"its last {last - first} ticks", fontsize=8, color="#444444", loc="left", pad=3)
    _frame(axes, raster, first * raster.tick_s, last * raster.tick_s)


def _frame(axes: Axes, raster: Raster, start_s: float, end_s: float) -> None:
    tidy(axes)
    axes.locator_params(axis="x", integer=False, nbins=6)
    axes.locator_params(axis="y", integer=True, nbins=4)
    if raster.neurons == 1:
        axes.set_yticks([0])
    axes.set(xlim=(start_s, end_s), ylim=(-0.6, raster.neurons - 0.4))


# ---------------------------------------------------------------------------------------------- activity


def activity_figure(said: Spiking) -> Figure | None:
    """For each layer its activity map (if it told one), its rate over time, and how the rates are distributed."""
    names = list(dict.fromkeys([*said.rasters, *said.activity]))
    if not names:
        return None
    mapped = bool(said.activity)
    figure = figure_of(9.6 if mapped else 7.2, 0.8 + 2.2 * len(names), "Activity")
    panels = figure.subplots(len(names), 2 + mapped, squeeze=False, width_ratios=(1.1, 1.6, 1.1)[not mapped :])
    for row, name in zip(panels, names, strict=True):
        if mapped:
            _activity_map(figure, row[0], said.activity.get(name))
        _rates(row[-2], row[-1], said.rasters.get(name))
        row[0].set_title(brief(name), fontsize=9, loc="left")
    return figure


def _activity_map(figure: Figure, axes: Axes, note: Mapping[str, Any] | None) -> None:
    if note is None:
        axes.set_axis_off()
        return
    grid = np.asarray(note["counts"], np.float64).reshape(tuple(note["shape"]))
    image = axes.imshow(grid, cmap="viridis", interpolation="nearest", vmin=0, vmax=max(float(grid.max()), 1.0))
    axes.tick_params(labelsize=7.5)
    axes.locator_params(integer=True, nbins=5)
    bar = figure.colorbar(image, ax=axes, label="spikes", shrink=0.85)
    bar.ax.tick_params(labelsize=7.5)


def _rates(over_time: Axes, spread: Axes, raster: Raster | None) -> None:
    if raster is None or not raster.ticks or not raster.neurons:
        over_time.set_axis_off()
        spread.set_axis_off()
        return
    at_s, hertz = population_rate_hz(raster)
    over_time.plot(at_s, hertz, color=BLUE, linewidth=1.1, marker="o" if len(at_s) == 1 else None)
    over_time.set(xlabel="time (s)", ylabel="mean rate (Hz)", ylim=(0, None if np.nanmax(hertz) > 0 else 1))
    rates, cv = rates_hz(raster), interval_cv(raster)
    top = float(rates.max()) or 1.0
    spread.hist(rates, bins=30 if raster.neurons > 30 else 10, range=(0, top), color=BLUE, alpha=0.75)
    regular = np.nanmean(cv) if np.isfinite(cv).any() else float("nan")
    words = f"mean {rates.mean():.3g} Hz" + (f", CV {regular:.2f}" if isfinite(regular) else "")
    spread.set_title(words, fontsize=8, color="#444444")
    spread.set(xlabel="rate (Hz)", ylabel="neurons")
    for axes in (over_time, spread):
        tidy(axes)
        axes.locator_params(axis="x", integer=False, nbins=5)
    spread.locator_params(axis="y", integer=True, nbins=4)


# ---------------------------------------------------------------------------------------------- training


def training_figure(said: Spiking) -> Figure | None:
    """Loss and accuracies over the epochs."""
    if not (said.accuracy or said.test_accuracy):
        return None
    figure = figure_of(9.6 if said.loss else 6.4, 3.8, "Training")
    panels = figure.subplots(1, 1 + bool(said.loss), squeeze=False)[0]
    for name, of, colour in (("training", said.accuracy, GREY), ("test", said.test_accuracy, BLUE)):
        if of:
            label = f"{name}: {100 * float(of.values[-1]):.1f} % at the end"
            panels[0].plot(of.at, 100 * of.values, ".-", color=colour, linewidth=1.2, label=label)
    panels[0].set(xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 102))
    panels[0].legend(frameon=False, fontsize=8, loc="lower right")
    if said.loss:
        panels[1].plot(said.loss.at, said.loss.values, ".-", color=RED, linewidth=1.2)
        panels[1].set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    for axes in panels:
        tidy(axes)
    return figure


def confusion_figure(said: Spiking) -> Figure | None:
    """How often each class was taken for which, as shares of the true class, with the counts."""
    if said.confusion is None:
        return None
    found = np.asarray(said.confusion["counts"], np.int64)
    labels = [brief(label, 14) for label in said.confusion["labels"]]
    total, right = int(found.sum()), int(np.trace(found))
    side = min(max(3.6, 0.42 * len(labels) + 2.2), 9.0)
    score = f": {100 * right / total:.1f} % of {total:,} right" if total else ": nothing was shown"
    figure = figure_of(side + 1.0, side, f"Confusion{score}")
    axes = figure.subplots()
    of_class = found / np.maximum(found.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(100 * of_class, cmap="Blues", vmin=0, vmax=100)
    if len(labels) <= NUMBERED:
        _write_counts(axes, found, of_class)
    if len(labels) <= NAMED:
        places = np.arange(len(labels))
        axes.set_xticks(places, labels, rotation=90 if max(map(len, labels), default=0) > 3 else 0)
        axes.set_yticks(places, labels)
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(labelsize=8 if len(labels) <= NUMBERED else 6)
    figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.85)
    return figure


def _write_counts(axes: Axes, found: Any, of_class: FloatArray) -> None:
    for (i, j), n in np.ndenumerate(found):
        if n:
            colour = "white" if of_class[i, j] > 0.55 else "#333333"
            axes.text(j, i, f"{n}", ha="center", va="center", fontsize=7, color=colour)


# ---------------------------------------------------------------------------------------------- learning window


def window_figure(result: Mapping[str, Any]) -> Figure | None:
    """The learning window of stdp-window: points, controls, fit with its intervals, theory."""
    if "dt_s" not in result or "dg_s" not in result:
        return None
    dt_s, dg_s = np.asarray(result["dt_s"], np.float64).ravel(), np.asarray(result["dg_s"], np.float64).ravel()
    factor, unit = si_scale(dg_s)
    ms = 1e3 if not len(dt_s) or np.abs(dt_s).max() >= 1e-3 else 1e6
    figure = figure_of(8.4, 4.6, "Learning window: change of the conductance over dt = t_post - t_pre")
    axes = figure.subplots()
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    axes.plot(dt_s * ms, dg_s * factor, "o", color=BLUE, markersize=3.5, alpha=0.7, label=f"{len(dt_s)} points")
    _controls(axes, result.get("controls") or {}, factor, unit)
    _theory(axes, result.get("theory") or {}, factor, ms)
    _fit(axes, result.get("fit") or {}, dt_s, (factor, unit), ms)
    axes.set(xlabel=f"dt ({'ms' if ms == 1e3 else 'µs'})", ylabel=f"ΔG ({unit})")
    tidy(axes)
    axes.locator_params(axis="x", integer=False)
    _relative(axes, result.get("g0_s"), factor)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


CONTROLS = (
    ("lone_pre_s", "lone pre", RED, "<"),
    ("lone_post_s", "lone post", RED, ">"),
    ("none_s", "no pulse", GREY, "x"),
)


def _controls(axes: Axes, controls: Mapping[str, Any], factor: float, unit: str) -> None:
    low, high = axes.get_xlim()
    for n, (key, label, colour, mark) in enumerate(CONTROLS):
        values = np.asarray(controls.get(key, ()), np.float64).ravel() * factor
        if len(values):
            # controls have no dt: they stand in a column of their own at the left edge
            at = np.full(len(values), low - (0.03 + 0.025 * (len(CONTROLS) - 1 - n)) * (high - low))
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            said = f"{label}: {values.mean():.3g} ± {spread:.2g} {unit} (n = {len(values)})"
            axes.plot(at, values, mark, color=colour, markersize=4.5, alpha=0.7, label=said)


def _theory(axes: Axes, theory: Mapping[str, Any], factor: float, ms: float) -> None:
    if "dt_s" in theory and "dg_s" in theory:
        dt_s, dg_s = np.asarray(theory["dt_s"], np.float64), np.asarray(theory["dg_s"], np.float64)
        for side, label in ((dt_s < 0, "theory"), (dt_s >= 0, None)):  # a window may jump at 0
            axes.plot(dt_s[side] * ms, dg_s[side] * factor, "--", color="#222222", linewidth=1.0, zorder=3, label=label)


def _fit(axes: Axes, fit: Mapping[str, Any], dt_s: FloatArray, scale: tuple[float, str], ms: float) -> None:
    for one in fitted(fit, dt_s):
        x, factor = one.dt_s * ms, scale[0]
        words = one.words(scale, (ms, "ms" if ms == 1e3 else "µs"))
        axes.plot(x, one.dg_s * factor, color=RED, linewidth=1.5, label=words)
        if one.ends_s is not None:
            axes.fill_between(x, one.ends_s[0] * factor, one.ends_s[1] * factor, color=RED, alpha=0.12, linewidth=0)


class Fitted(NamedTuple):
    """A fitted branch of a learning window: its curve dg_s over dt_s, between `ends_s` (None: no interval is known).

    a_s and tau_s: value, and where they are known the ends of the interval.
    """

    side: int
    dt_s: FloatArray
    dg_s: FloatArray
    ends_s: tuple[FloatArray, FloatArray] | None
    a_s: tuple[float, ...]
    tau_s: tuple[float, ...]

    def words(self, of_a: tuple[float, str], of_tau: tuple[float, str]) -> str:
        """Amplitude and time constant with their intervals, by factors and units."""
        sign = "+" if self.side > 0 else "−"
        return f"A{sign} = {_told_as(self.a_s, *of_a)}, τ = {_told_as(self.tau_s, *of_tau)}"


def fitted(fit: Mapping[str, Any], dt_s: FloatArray) -> list[Fitted]:
    """The branches that a fit found, as far as the measured dt_s reach."""
    intervals, found = fit.get("intervals") or {}, []
    for side, sign in (("plus", 1), ("minus", -1)):
        a, tau = fit.get(f"a_{side}"), fit.get(f"tau_{side}_s")
        if a is None or tau is None or not (isfinite(a) and isfinite(tau) and tau > 0):
            continue
        reach_s = float(np.abs(dt_s[dt_s * sign > 0]).max(initial=0.0)) or 5 * tau
        at_s = np.linspace(reach_s / 400, reach_s, 200)
        a_s, tau_s = (tuple(intervals.get(f"{key}_{side}{end}") or ()) for key, end in (("a", ""), ("tau", "_s")))
        ends = None
        if a_s and tau_s:
            ends = _branch(a_s[1], tau_s[1], at_s), _branch(a_s[2], tau_s[2], at_s)
        found.append(Fitted(sign, sign * at_s, _branch(a, tau, at_s), ends, (a, *a_s[1:]), (tau, *tau_s[1:])))
    return found


def _branch(a_s: float, tau_s: float, at_s: FloatArray) -> FloatArray:
    """One side of the window, `at_s` from dt = 0; the amplitude has its sign: a depression is told as negative."""
    branch: FloatArray = a_s * np.exp(-at_s / tau_s)
    return branch


def _told_as(values: Sequence[float], factor: float, unit: str) -> str:
    value, *ends = (f"{one * factor:.3g}" for one in values)
    return f"{value}{f' [{ends[0]}, {ends[1]}]' if ends else ''} {unit}"


def _relative(axes: Axes, g0_s: Any, factor: float) -> None:
    """A second scale in percent of the conductance that every point began at."""
    mean = float(np.mean(np.asarray(g0_s, np.float64))) if g0_s is not None else float("nan")
    if isfinite(mean) and mean > 0:
        per = 100 / (mean * factor)
        to, back = np.poly1d([per, 0.0]), np.poly1d([1 / per, 0.0])
        right = axes.secondary_yaxis("right", functions=(to, back))
        right.set_ylabel("ΔG / G₀ (%)")
        right.tick_params(labelsize=7.5)


# ---------------------------------------------------------------------------------------------- network


def network_figure(said: Spiking) -> Figure | None:
    """Layers as columns, connections as arrows that say how many cells of the crossbar they are, and how dense."""
    if said.network is None or not said.network["layers"]:
        return None
    layers, connections = list(said.network["layers"]), list(said.network.get("connections") or ())
    place = {str(layer["name"]): n for n, layer in enumerate(layers)}
    steps = [_steps(place, one) for one in connections]
    deep = max([0, *(abs(step) for step in steps if step is not None)])
    width, down = max(2.6 * len(layers), 5.2), 0.75 if deep < 2 else 0.8 + 0.35 * deep
    figure = figure_of(min(width, 24.0), 0.6 + 1.4 * (1.5 + down), "Network")
    axes = figure.subplots()
    axes.set_axis_off()
    middle = (len(layers) - 1) / 2
    axes.set(xlim=(middle - width / 5.2, middle + width / 5.2), ylim=(-down, 1.5))
    for n, layer in enumerate(layers):
        _layer(axes, n, layer)
    used: dict[tuple[int, int], int] = {}
    for one, step in zip(connections, steps, strict=True):
        if step is not None:
            ends = place[str(one["from"])], place[str(one["to"])]
            used[ends] = used.get(ends, -1) + 1
            _connection(axes, *ends, one, used[ends])
    return figure


def _steps(place: Mapping[str, int], connection: Mapping[str, Any]) -> int | None:
    ends = place.get(str(connection["from"])), place.get(str(connection["to"]))
    return None if ends[0] is None or ends[1] is None else ends[1] - ends[0]


def _layer(axes: Axes, n: int, layer: Mapping[str, Any]) -> None:
    from matplotlib.patches import FancyBboxPatch

    box = FancyBboxPatch(
        (n - 0.22, -0.35), 0.44, 0.7, boxstyle="round,pad=0.02,rounding_size=0.05", facecolor="#eef3f9", edgecolor=BLUE
    )
    axes.add_patch(box)
    axes.text(n, 0.16, brief(layer["name"], 14), ha="center", va="center", fontsize=9, weight="bold")
    neurons = int(layer["neurons"])
    axes.text(n, -0.03, f"{neurons:,}", ha="center", va="center", fontsize=9)
    axes.text(n, -0.19, brief(layer.get("kind", ""), 16), ha="center", va="center", fontsize=7, color="#555555")


def _connection(axes: Axes, first: int, last: int, told: Mapping[str, Any], again: int) -> None:
    from matplotlib.patches import FancyArrowPatch

    middle, lift = (first + last) / 2, 0.3 * again
    if last == first + 1:
        ends, arc, at = ((first + 0.25, 0.0), (last - 0.25, 0.0)), -0.25 * again, (middle, 0.05 + lift)
    elif first == last:
        ends, arc, at = ((first - 0.12, 0.38), (first + 0.12, 0.38)), -1.6, (middle, 0.82 + lift)
    else:
        ends, arc = ((first, -0.38), (last, -0.38)), 0.25 if last > first else -0.25
        at = (middle, -0.5 - 0.26 * abs(last - first) - lift)
    arrow = FancyArrowPatch(
        *ends, connectionstyle=f"arc3,rad={arc}", arrowstyle="-|>", mutation_scale=12, color=GREY, linewidth=1.2,
        shrinkA=0, shrinkB=0,
    )  # fmt: skip
    axes.add_patch(arrow)
    axes.text(*at, _told(told), ha="center", va="bottom" if first <= last else "top", fontsize=7, linespacing=1.25)


def _told(connection: Mapping[str, Any]) -> str:
    """Cells and density, where on the array, and the rule."""
    (row0, row1), (col0, col1) = connection["rows"], connection["cols"]
    room, cells = (row1 - row0) * (col1 - col0), int(connection["cells"])
    share = f" ({100 * cells / room:.3g} %)" if room and cells != room else ""
    where = f"{_lines('row', row0, row1)}, {_lines('col', col0, col1)}"
    return (
        f"{cells:,} cell{'s' * (cells != 1)}{share}\n{where}\n{fill(brief(connection.get('rule') or 'fixed', 60), 22)}"
    )


def _lines(what: str, first: int, end: int) -> str:
    return f"{what} {first}" if end == first + 1 else f"{what}s {first}-{end - 1}"
