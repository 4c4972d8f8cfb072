"""What all figures share: the sheet with its title, axes, units and colours.

matplotlib is an extra and is imported only when a figure is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobench.bench.stimulus import FloatArray
from neurobench.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIMULATED = "SIMULATED"  # stands on everything that shows what an emulated chip gave
DPI = 130
BLUE, RED, GREY = "#2a6fb0", "#c2452d", "#8a8f98"
EXTRA = "figures need matplotlib, which is an extra: pip install 'neurobench-hil[plot]'"


@dataclass(frozen=True)
class Series:
    """One quantity over the updates: `at[n]` and `values[n, ...]`."""

    at: FloatArray
    values: FloatArray

    def __bool__(self) -> bool:
        return len(self.at) > 0


def need_matplotlib() -> None:
    """Raise UsageError naming the extra, unless matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(EXTRA) from error


def figure_of(width: float, height: float, title: str, *, laid_out: bool = True) -> Figure:
    """An empty figure of so many inches, with room for the line that says which run it is of."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # The strip below is for the line that says which run this is.
    layout = ConstrainedLayoutEngine(rect=(0, 0.14 / height, 1, 1 - 0.14 / height))
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout if laid_out else None)
    # A place given by hand makes the layout engine forget to leave room for it.
    place = {} if laid_out else {"y": 1 - 0.1 / height, "va": "top"}
    figure.suptitle(title, fontsize=11, x=0.012, ha="left", **place)
    return figure


def panels_of(rows: int, cols: int, panel: tuple[float, float], title: str) -> tuple[Figure, Any]:
    """A figure of rows x cols panels of so many inches that share their axes, and its panels [rows, cols].

    Laid out by hand: the engine that does it for the other figures takes seconds for sixty panels.
    """
    width, height = 1.0 + panel[0] * cols, 1.25 + panel[1] * rows
    figure = figure_of(width, height, title, laid_out=False)
    figure.subplots_adjust(0.8 / width, 0.65 / height, 1 - 0.15 / width, 1 - 0.65 / height, 0.12, 0.3)
    return figure, figure.subplots(rows, cols, sharex=True, sharey=True, squeeze=False)


def tidy(axes: Axes) -> None:
    """The look of every panel: quiet frame and grid, whole numbers on the x axis."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7.5)
    axes.grid(visible=True, color="#e3e5e8", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", integer=True)


def si_scale(values: FloatArray) -> tuple[float, str]:
    """Factor and unit that keep the numbers on the axis between 1 and 1000."""
    largest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
    for limit, factor, unit in ((1e-9, 1e12, "pS"), (1e-6, 1e9, "nS"), (1e-3, 1e6, "µS"), (1.0, 1e3, "mS")):
        if largest < limit:
            return factor, unit
    return 1.0, "S"


def draw_map(figure: Figure, axes: Axes, grid: FloatArray, label: str, names: tuple[str, str]) -> None:
    """A grid of values as a map with its scale; names: of rows and of columns."""
    image = axes.imshow(grid, aspect="auto", cmap="viridis", interpolation="nearest")
    axes.set(xlabel=names[1], ylabel=names[0], title="at the end")
    axes.locator_params(integer=True)
    axes.title.set_fontsize(9)
    figure.colorbar(image, ax=axes, label=label)
