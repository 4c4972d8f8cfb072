"""A measured curve into a device card on disk, with what was read, what was odd, and a picture of it.

The curve is somebody's file, or a run of `measure-curve`. What came from an emulated chip says SIMULATED wherever it
goes: in the card's title, notes and [origin], and in its picture (bench rule 22).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobench.errors import UsageError
from neurobench.physics.card import DeviceCard, Origin, ReadProtocol, card_toml
from neurobench.physics.importers import ImportOptions, ImportReport, import_curve
from neurobench.physics.trains import About, Train, card_from_trains
from neurobench.runs.drawing import SIMULATED, figure_of, need_matplotlib, si_scale, tidy
from neurobench.runs.library import find, protocol_name, run_id
from neurobench.runs.runfile import SUFFIX, RunFile
from neurobench.system import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def source_of(name: str, folder: Path) -> Path:
    """What `name` means: a curve file, or a run (id, start or end of an id, file, `last`) of `folder`."""
    path = Path(name)
    return path if path.is_file() or (path.suffix and path.suffix != SUFFIX) else find(name, folder)


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
    """Import `file`, a curve file or a run of measure-curve; write its card to `out` (.toml), with `picture` a PNG too.

    What a curve file does not say can be declared: see `ImportOptions`; of a run only name and source. Errors:
    CurveError names file and line; UsageError where the card cannot be written, or matplotlib is missing (nothing is
    written then).
    """
    if out.suffix != ".toml":
        raise UsageError(f"{out}: a device card is a .toml file, for example -o {out.stem}.toml")
    if picture:
        need_matplotlib()
    options = ImportOptions(name=name, source=source, amplitude_v=amplitude_v, width_s=width_s, window_s=window_s)
    found = from_run(file, options) if file.suffix == SUFFIX else import_curve(file, options)
    written = [out] + ([out.with_suffix(".png")] if picture else [])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, card_toml(found.card).encode())
        if picture:
            curve_figure(found.card).savefig(written[-1], format="png")
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}; choose another file with -o") from error
    return {"device": found.card.name, "report": list(found.lines), "written": [str(path) for path in written]}


def from_run(path: Path, options: ImportOptions) -> ImportReport:
    """The card of a finished measure-curve run; UsageError for any other run, or where something else was declared."""
    if any(value is not None for value in astuple(options)[2:]):
        raise UsageError(f"{path}: a run says its own pulses and conductances; declare only --name and --source")
    with RunFile.open(path) as run:
        manifest, result = run.manifest, run.result
    protocol = protocol_name(manifest)
    if protocol != "measure-curve":
        hint = "; an iv-sweep holds no train of equal pulses" if protocol == "iv-sweep" else ""
        raise UsageError(f"{path} is a run of {protocol}; a curve is made from a run of measure-curve{hint}")
    if result is None:
        raise UsageError(f"{path} did not come to its end, so it has no result; go on with: neurobench resume {path}")
    found = card_from_trains(_trains(result), _about(path, manifest, result, options))
    said = [f"{path.name}: measure-curve on chip {found.card.origin.chip_id}"] if found.card.origin else []
    said += [f"{SIMULATED}: the chip was emulated; nothing in this card was measured"] if found.card.simulated else []
    said += [f"reads before the first pulse alone scatter by {np.nanmean(result['cell_sigma_s']):.3g} S"]
    said += [f"cell {cell}: {why}" for cell, why in _ends(result) if why]
    return ImportReport(found.card, (*said, *found.lines), found.arrays)


def _ends(result: Mapping[str, Any]) -> list[tuple[list[int], str]]:
    return [(cell.tolist(), why) for cell, why in zip(result["cells"], result["cell_ended"], strict=True)]


def _trains(result: Mapping[str, Any]) -> list[Train]:
    """The trains of a result, its devices numbered in the order of its cells."""
    number = {tuple(cell): n for n, cell in enumerate(np.asarray(result["cells"]).tolist())}
    trains = []
    for k, cell in enumerate(np.asarray(result["train_cell"]).tolist()):
        n = int(result["train_pulses"][k])
        trains.append(
            Train(
                number[tuple(cell)], int(result["train_direction"][k]), float(result["train_amplitude_v"][k]),
                float(result["train_width_s"][k]), np.array(result["train_conductance_s"][k][: n + 1]),
                np.array(result["train_in_pulse_a"][k][:n]), bool(result["train_initialised"][k]),
                bool(result["train_moved"][k]),
            )
        )  # fmt: skip
    return trains


def _about(path: Path, manifest: Mapping[str, Any], result: Mapping[str, Any], options: ImportOptions) -> About:
    run, chip = run_id(path), str(manifest.get("chip_id", ""))
    simulated, date = bool(manifest.get("simulated", True)), str(manifest.get("created", ""))[:10]
    mark = f"{SIMULATED}: " if simulated else ""
    origin = Origin(
        run=run, chip_id=chip, date=date, simulated=simulated, devices=len(result["cells"]),
        cycles=int(np.max(result["train_cycle"], initial=0)) + 1,
    )  # fmt: skip
    delay_s, period_s = float(result["measured_delay_s"]), float(result["measured_period_s"])
    read = ReadProtocol(
        voltage_v=float(result["read_v"]), delay_s=max(delay_s, 0.0) if np.isfinite(delay_s) else None,
        period_s=period_s if period_s > 0 else None,
    )  # fmt: skip
    how = "measured on an emulated chip: no number here is a measurement of a device" if simulated else "measured"
    alone = "" if result["both_polarities"] else " Reads of one polarity: an offset of the ammeter is in every value."
    name = options.name or re.sub(r"[^A-Za-z0-9._-]+", "-", chip or run).strip("-._")[:64] or "curve"
    return About(
        name=name,
        title=f"{mark}pulse trains on chip {chip}",
        source=options.source or f"{mark}neurobench run {run} (measure-curve) on chip {chip}, {date}",
        notes=f"{mark}{how}; run {run}, chip {chip}, {date}.{alone}",
        read=read,
        potentiating_sign=int((manifest.get("capabilities") or {}).get("potentiating_sign", 1)),
        origin=origin,
        reads_in_point=int(result["reads_in_point"]),
    )


def curve_figure(card: DeviceCard) -> Figure:
    """The curves of a card: conductance over the number of pulses, one line for each condition."""
    values = np.concatenate([curve.points() for curve in card.curve])
    factor, unit = si_scale(values)
    wide = values.max() > 50 * values.min()
    figure = figure_of(6.4, 4.0, f"{card.name}: {f'{SIMULATED} curves' if card.simulated else 'measured curves'}")
    axes = figure.subplots()
    for curve in card.curve:
        axes.plot(curve.points() * factor, marker="o", markersize=2.5, linewidth=1, label=f"{curve.direction}: {curve}")
    axes.set(xlabel="pulse", ylabel=f"G ({unit})", yscale="log" if wide else "linear")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
    return figure
