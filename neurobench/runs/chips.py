"""Devices and emulated chips to look at before they are used: curves of a card, the spread of a chip, a chip to keep.

A chip is made from a bench and a seed as any run would make it; then single cells can be broken. What is kept are two
files: the chip, and a bench.toml that names it. Nothing that exists is overwritten.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from neurobench.bench.config import SIMULATED_BACKENDS, BenchConfig, load_bench, said_in
from neurobench.bench.stimulus import FloatArray, Pulse
from neurobench.errors import ConfigError, NeurobenchError, UsageError
from neurobench.physics import fit, library
from neurobench.physics.card import Curve, DeviceCard
from neurobench.physics.card import Pulse as CardPulse
from neurobench.physics.chip import SHORTED_S, Chip, Devices
from neurobench.physics.drive import mean_curve
from neurobench.physics.maker import make_chip
from neurobench.physics.noise import Stream, uniforms
from neurobench.physics.response import DeviceModel
from neurobench.runs.request import pairs
from neurobench.system import utc_now

KINDS = ("stuck", "short", "open")
LOOKED_PULSES = 64  # of a formula, or of a chip's devices
LOOKED_DEVICES = 24
GRID_CELLS = 65536  # more cells are told as a sample
UNSTATED = (1.0, 1e-3)  # volts and seconds of a curve whose file does not state them: such a device answers any pulse

Defect = tuple[int, int, str]

# ---------------------------------------------------------------------------------------------- a device


def device(name: str, assume_mirror: bool = False) -> dict[str, Any]:
    """What a card says and does: its facts in words, and of each direction the points, the model's curve and what
    lies between them. `points_s` is empty where the card holds an equation and nobody's points."""
    model = library.load_model(name, assume_mirror=assume_mirror)
    card = model.card
    return {
        "device": card.name,
        "title": card.title,
        "source": card.source,
        "notes": card.notes,
        "model": card.model,
        "simulated": card.simulated,
        "window_s": [model.g_min_s, model.g_max_s],
        "read_v": card.read.voltage_v,
        "read_sigma_s": model.read_sigma_s,
        "read_sigma_relative": model.read_sigma_relative,
        "step_spread": model.step_spread,
        "said": _said(card, model),
        "curves": [_measured(c) for c in card.curve] or [c for sign in (1, -1) for c in _computed(model, sign)],
    }


def _said(card: DeviceCard, model: DeviceModel) -> list[str]:
    """What an owner should know before trusting it."""
    signs = {p.sign for p in (*card.curve, *card.pulse)}
    said = ["its numbers come from an emulated chip: nothing was measured"] if card.simulated else []
    if len(signs) == 1 and not card.assumed_mirror:
        said.append(f"only {'potentiation' if 1 in signs else 'depression'} is known; the other direction is refused")
    said += ["the direction that nobody measured mirrors the other one (assumed)"] if card.assumed_mirror else []
    if not (model.read_sigma_s or model.read_sigma_relative):
        said.append("no noise of a read is stated; an emulated one is read without any")
    if model.write_current_factor(1.0) is None:
        said.append("current while writing is unknown, and so is the energy of a pulse")
    if not model.half_select_modelled and model.rate is None:
        said.append("half-selected cells do not move in this model: that disturb was never measured")
    if any(p.amplitude_v is None or p.width_s is None for p in (*card.curve, *card.pulse)):
        said.append("amplitude or width of the pulse is not stated; any is taken as the measured one")
    return said


def _measured(curve: Curve) -> dict[str, Any]:
    points = curve.points()
    mean = points if curve.formula is not None else fit.mean_curve(points, curve.sign)
    return _of(curve) | {"points_s": points, "fit_s": mean, "residual_s": points - mean}


def _computed(model: DeviceModel, sign: int) -> list[dict[str, Any]]:
    """The curve of an equation for the pulse that its card names, from one end of its range."""
    pulse = next((p for p in model.card.pulse if p.sign == sign), None)
    if pulse is None:
        return []
    amplitude_v, width_s = _stated(pulse)
    drawn = mean_curve(model, sign, Pulse(amplitude_v, width_s), LOOKED_PULSES)
    return [_of(pulse) | {"points_s": [], "fit_s": drawn, "residual_s": []}]


def _of(pulse: CardPulse) -> dict[str, Any]:
    return {"direction": pulse.direction, "amplitude_v": pulse.amplitude_v, "width_s": pulse.width_s}


def _stated(pulse: CardPulse) -> tuple[float, float]:
    return abs(pulse.amplitude_v or UNSTATED[0]), pulse.width_s or UNSTATED[1]


# ---------------------------------------------------------------------------------------------- a chip


def make(
    bench: str = "emulator",
    settings: Iterable[str] = (),
    seed: int = 0,
    defects: Path | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Make the chip of a simulated bench, break the cells that the file `defects` names, and say what it is like.

    With `out`, a bench.toml, both are kept: that file, and the chip beside it (.chip). Errors: ConfigError for what the
    bench or the defects say, UsageError where a file exists or cannot be written; nothing is written then.
    """
    config = _fresh(load_bench(bench, pairs(settings, "--bench-set")), seed, out)
    section = config.chip
    model = library.load_model(
        section.curve or section.model, replay=section.replay, assume_mirror=section.assumed_mirror
    )
    wanted = [] if defects is None else read_defects(defects, (section.rows, section.cols))
    made = make_chip(config, model, seed)
    chip = Chip(model, broken(made, wanted), made.seed, made.chip_id)
    written = {"bench_file": None, "chip_file": None} if out is None else _keep(config, chip, out)
    return _looked(chip, wanted) | {"simulated": True} | written


def _fresh(config: BenchConfig, seed: int, out: Path | None) -> BenchConfig:
    """The bench without the chip that it may hold already; the new one says its seed and its name."""
    if config.bench.backend not in SIMULATED_BACKENDS:
        raise UsageError(
            f"bench {config.bench.name}: its chip is real, and nobody can make one; take a simulated bench"
        )
    named = config.chip.id or (out.stem if out else "")
    chosen = seed if config.chip.seed is None else config.chip.seed
    said = {"file": None, "seed": chosen} | ({"id": named} if named else {})
    return config.model_copy(update={"chip": config.chip.model_copy(update=said)})


def read_defects(path: Path, shape: tuple[int, int]) -> list[Defect]:
    """Cells to break, one `row,column,kind` to a line; kinds: stuck, short, open. ConfigError names file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    found = [_defect(line, f"{path}:{n}", shape) for n, line in enumerate(lines, start=1) if line.strip()]
    if twice := [cell for cell, times in Counter((row, col) for row, col, _ in found).items() if times > 1]:
        raise ConfigError(f"{path}: cell {twice[0]} is named twice")
    return found


def _defect(line: str, where: str, shape: tuple[int, int]) -> Defect:
    row, col, kind, *more = [part.strip() for part in line.split(",")] + ["", "", ""]
    if not (row.isdecimal() and col.isdecimal()) or any(more) or kind not in KINDS:
        raise ConfigError(f"{where}: {line.strip()[:40]!r} is not row,column,kind with a kind of {', '.join(KINDS)}")
    if int(row) >= shape[0] or int(col) >= shape[1]:
        raise ConfigError(f"{where}: cell ({row}, {col}) is not on a chip of {shape[0]} x {shape[1]}; rows begin at 0")
    return int(row), int(col), kind


def broken(chip: Chip, defects: Sequence[Defect]) -> Devices:
    """The chip's devices with some cells broken: stuck somewhere in the window, a short, or open (no current)."""
    d, n, cols = chip.devices, len(chip.u), chip.shape[1]
    where = {kind: np.array([r * cols + c for r, c, k in defects if k == kind], np.intp) for kind in KINDS}
    step, stuck, shorted = d.step.copy(), d.stuck.copy(), d.shorted.copy()
    base_s, gain_s = np.broadcast_to(d.base_s, n).copy(), np.broadcast_to(d.gain_s, n).copy()
    u_start = d.u_start.copy()
    for cells in where.values():
        step[cells] = 0
        shorted[cells] = False
    u_start[where["stuck"]] = _anywhere(chip)[where["stuck"]]
    stuck[where["stuck"]] = stuck[where["open"]] = True
    stuck[where["short"]], shorted[where["short"]] = False, True
    base_s[where["short"]], base_s[where["open"]] = SHORTED_S, 0.0
    gain_s[where["short"]] = gain_s[where["open"]] = 0.0
    return replace(d, step=step, base_s=base_s, gain_s=gain_s, u_start=u_start, stuck=stuck, shorted=shorted)


def _anywhere(chip: Chip) -> FloatArray:
    """Where each cell would be stuck, from the chip's seed: the same draw that [chip] stuck_fraction makes."""
    model = chip.model
    drawn = model.u_min + uniforms(chip.seed, Stream.STUCK_STATE, 0, (len(chip.u),)) * (model.u_max - model.u_min)
    return drawn if model.levels_s is None else np.floor(drawn)


# ---------------------------------------------------------------------------------------------- what it is like


def _looked(chip: Chip, defects: Sequence[Defect]) -> dict[str, Any]:
    d, fresh_s, model = chip.devices, chip.conductance_s(), chip.model
    works = d.step > 0
    told = fresh_s.ravel() if fresh_s.size <= GRID_CELLS else fresh_s.ravel()[:: -(-fresh_s.size // GRID_CELLS)]
    painted = Counter(kind for _, _, kind in defects)
    return {
        "chip_id": chip.chip_id,
        "device": model.name,
        "seed": chip.seed,
        "shape": list(chip.shape),
        "conductance_s": fresh_s if fresh_s.size <= GRID_CELLS else None,
        "sample_s": told,
        "median_s": float(np.median(fresh_s)),
        "works": int(works.sum()),
        "stuck": int((d.stuck & (d.gain_s > 0)).sum()),
        "shorted": int(d.shorted.sum()),
        "open": painted["open"],
        "read_sigma_s": model.read_sigma_s * d.noise_scale,
        "curves": [curve for sign in (1, -1) for curve in _devices_curves(chip, sign)],
    }


def _devices_curves(chip: Chip, sign: int) -> list[dict[str, Any]]:
    """Mean curves of some working devices from the end of their range, without noise and with one threshold for all."""
    model, card = chip.model, chip.model.card
    known = [p for p in (*card.curve, *card.pulse) if p.sign == sign or card.assumed_mirror]
    cells = np.flatnonzero(chip.devices.step > 0)[:LOOKED_DEVICES]
    if not known or not cells.size:
        return []
    amplitude_v, width_s = _stated(known[0])
    try:
        response = model.response(sign, amplitude_v, width_s)
    except NeurobenchError:  # a device that knows the other direction only
        return []
    u = np.empty((LOOKED_PULSES + 1, cells.size))
    u[0] = model.u_min if sign > 0 else model.u_max
    for n in range(LOOKED_PULSES):
        moved = u[n] + chip.devices.step[cells] * (response.step(u[n]) - u[n])
        u[n + 1] = np.clip(moved, model.u_min, model.u_max)
    about = {"amplitude_v": amplitude_v, "width_s": width_s, "cells": [divmod(int(c), chip.shape[1]) for c in cells]}
    return [{"direction": "potentiate" if sign > 0 else "depress", "conductance_s": _level_s(chip, u, cells), **about}]


def _level_s(chip: Chip, u: FloatArray, cells: Any) -> FloatArray:
    d, model = chip.devices, chip.model
    level = u if model.levels_s is None else model.levels_s[u.astype(np.intp)] - model.g_min_s
    base_s, gain_s = (np.broadcast_to(a, len(chip.u))[cells] for a in (d.base_s, d.gain_s))
    drawn: FloatArray = base_s + gain_s * level
    return drawn


# ---------------------------------------------------------------------------------------------- kept


def _keep(config: BenchConfig, chip: Chip, out: Path) -> dict[str, Any]:
    """Write chip and bench; first as a trial elsewhere, which has to load as the bench would load it."""
    kept = out.with_suffix(".chip")
    if out.suffix != ".toml":
        raise UsageError(f"{out}: a bench is a .toml file, for example {out.stem}.toml")
    for path in (out, kept, kept.with_name(kept.name + ".passport")):
        if path.exists():
            raise UsageError(f"{path} exists and is not overwritten; choose another name")
    text = bench_toml(config, kept.name)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / out.name
        trial.write_bytes(text)
        chip.save(trial.with_suffix(".chip"))
        loaded = load_bench(trial)
        make_chip(loaded, chip.model, loaded.chip.seed or 0)
        data = trial.with_suffix(".chip").read_bytes()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, content in ((kept, data), (out, text)):
            with path.open("xb") as file:
                file.write(content)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}; choose another file") from error
    return {"bench_file": str(out), "chip_file": str(kept)}


def bench_toml(config: BenchConfig, chip_file: str) -> bytes:
    """A bench file that says all that `config` says, and the chip's file beside it."""
    said = _without_nothing(said_in(config))
    said["chip"]["file"] = chip_file
    for name in ("biases", "vector_reads"):  # sets, whose order is not kept
        said["bench"][name] = sorted(getattr(config.bench, name))
    if config.chip.curve is not None:
        said["chip"]["curve"] = str(config.chip.curve.absolute())
    head = (
        f"# An emulated chip, made {utc_now()[:10]}. Its devices stand in {chip_file}: what is said of them here only\n"
    )
    return (head + "# describes how they were made.\n\n" + tomli_w.dumps(said)).encode()


def _without_nothing(value: Any) -> Any:
    """What TOML can hold: it has no word for nothing."""
    if isinstance(value, dict):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    return value
