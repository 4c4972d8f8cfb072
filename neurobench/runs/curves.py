"""A measured curve file into a device card on disk, with what was read, what was odd, and a picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobench.errors import UsageError
from neurobench.physics.card import DeviceCard, card_toml
from neurobench.physics.importers import ImportOptions, import_curve
from neurobench.runs.figures import figure_of, need_matplotlib, si_scale, tidy
from neurobench.system import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def card_from(
    file: Path,
    out: Path,
    picture: bool = False,
    name: str | None = None,
    source: str | None = None,
    amplitude_v: float | None = None,
    width_s: float | None = None,
    window_s: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Import `file`, write its card to `out` (.toml), and with `picture` a PNG beside it.

    What the file does not say can be declared: see `ImportOptions`. Errors: CurveError names file and line; UsageError
    where the card cannot be written, or matplotlib is missing (nothing is written then).
    """
    if out.suffix != ".toml":
        raise UsageError(f"{out}: a device card is a .toml file, for example -o {out.stem}.toml")
    if picture:
        need_matplotlib()
    options = ImportOptions(name=name, source=source, amplitude_v=amplitude_v, width_s=width_s, window_s=window_s)
    found = import_curve(file, options)
    written = [out] + ([out.with_suffix(".png")] if picture else [])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, card_toml(found.card).encode())
        if picture:
            curve_figure(found.card).savefig(written[-1], format="png")
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}; choose another file with -o") from error
    return {"device": found.card.name, "report": list(found.lines), "written": [str(path) for path in written]}


def curve_figure(card: DeviceCard) -> Figure:
    """The curves of a card: conductance over the number of pulses, one line for each condition."""
    values = np.concatenate([curve.points() for curve in card.curve])
    factor, unit = si_scale(values)
    wide = values.max() > 50 * values.min()
    figure = figure_of(6.4, 4.0, f"{card.name}: measured curves")
    axes = figure.subplots()
    for curve in card.curve:
        axes.plot(curve.points() * factor, marker="o", markersize=2.5, linewidth=1, label=f"{curve.direction}: {curve}")
    axes.set(xlabel="pulse", ylabel=f"G ({unit})", yscale="log" if wide else "linear")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
    return figure
