"""From one kind of pulse to what the chip's kernels need: a response per place, and energy per siemens."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurobench.bench.stimulus import Bias, IndexArray, Pulse, Shots, levels
from neurobench.errors import CapabilityMissing
from neurobench.physics.circuit import Law, solve, tabulated_law
from neurobench.physics.kernels import Table, table
from neurobench.physics.response import Response

if TYPE_CHECKING:
    from neurobench.bench.stimulus import BoolArray, FloatArray
    from neurobench.physics.response import DeviceModel

_NOTHING = table(Response(np.zeros(1), np.zeros(1), np.zeros(1)))
# A victim that sees (nearly) the full voltage is written, whatever it is called.
_FULL = 1 - 1e-6
# Gauss-Legendre on [0, 1]: exact for the edges of any polynomial I(V) up to degree 29.
_EDGE_X, _EDGE_W = np.polynomial.legendre.leggauss(16)
_EDGE_X, _EDGE_W = (_EDGE_X + 1) / 2, _EDGE_W / 2


class Drive(NamedTuple):
    """What one kind of pulse does to a chip, prepared once.

    tables[4 * sign + place] (sign 0 potentiates, 1 depresses; place 0 selected, 1 on the selected line, 2 on a line
    across, 3 on neither) counts where active[sign, place]; disturbing: some victim feels something. joule_per_s
    [2, 4]: energy per siemens at that place; metered False: not known. ohmic_per_s [2, 4]: the same of a resistor,
    which a shorted cell is.
    """

    tables: tuple[Table, ...]
    active: BoolArray
    disturbing: bool
    joule_per_s: FloatArray
    metered: bool
    ohmic_per_s: FloatArray


def make_drive(
    model: DeviceModel, pulse: Pulse, bias: Bias, potentiating_sign: int, axis: int, signs: tuple[int, ...]
) -> Drive:
    """Prepare a pulse for shots along `axis` of the given signs (+1 potentiate, -1 depress).

    Raises OutsideHull or CapabilityMissing where the model does not know the pulse; nothing was done then.
    """
    tables, active = [_NOTHING] * 8, np.zeros((2, 4), np.bool_)
    joule_per_s, ohmic_per_s, metered = np.zeros((2, 4)), np.zeros((2, 4)), True
    for sign in signs:
        side = 0 if sign > 0 else 1
        for place, volts in enumerate(_volts(bias, sign * potentiating_sign * pulse.amplitude_v, axis)):
            if volts == 0:
                continue
            felt = _felt(model, pulse, place, volts * potentiating_sign)
            if felt is not None:
                tables[4 * side + place], active[side, place] = felt, True
            energy = _joule_per_s(model, pulse, abs(volts))
            joule_per_s[side, place], metered = energy or 0.0, metered and energy is not None
            # The mean of V^2 over a straight edge is a third of its top.
            ohmic_per_s[side, place] = volts**2 * (pulse.width_s + (pulse.rise_s + pulse.fall_s) / 3)
    return Drive(tuple(tables), active, bool(active[:, 1:].any()), joule_per_s, metered, ohmic_per_s)


def _volts(bias: Bias, signed_v: float, axis: int) -> tuple[float, float, float, float]:
    """V_row - V_col at a selected cell, on the selected line, on a line across, on neither."""
    level = levels(bias, signed_v)
    if bias is Bias.ISOLATED:  # the gates of all other cells are off
        return level.cell_v, 0.0, 0.0, 0.0
    on_row, on_col, neither = level.victims_v
    return (level.cell_v, on_row, on_col, neither) if axis == 0 else (level.cell_v, on_col, on_row, neither)


def _felt(model: DeviceModel, pulse: Pulse, place: int, towards: float) -> Table | None:
    """Response at a place that sees |towards| volts; its sign is the direction. None: nothing, or not modelled."""
    direction, volts = (1 if towards > 0 else -1), abs(towards)
    if place == 0 or volts >= pulse.amplitude_v * _FULL:
        return table(model.response(direction, volts, pulse.width_s))
    found = model.disturb(direction, volts, pulse.width_s)
    if found is None or not (found.delta.any() or found.sigma.any()):
        return None
    return table(found)


def _joule_per_s(model: DeviceModel, pulse: Pulse, volts: float) -> float | None:
    """Energy of one pulse per siemens: V^2 f(V) t, with I = G V f(V); edges integrated. None: I(V) not known."""
    flat = model.write_current_factor(volts)
    if flat is None:
        return None
    edges = pulse.rise_s + pulse.fall_s
    energy = volts**2 * flat * pulse.width_s
    if edges:
        energy += edges * sum(w * (x * volts) ** 2 * _known(model, x * volts) for x, w in _nodes())
    return float(energy)


def _nodes() -> list[tuple[float, float]]:
    return list(zip(_EDGE_X.tolist(), _EDGE_W.tolist(), strict=True))


def _known(model: DeviceModel, volts: float) -> float:
    factor = model.write_current_factor(volts)
    return float("nan") if factor is None else factor


def mean_curve(model: DeviceModel, direction: int, pulse: Pulse, pulses: int) -> FloatArray:
    """Conductance in siemens of a typical device after 0 .. `pulses` pulses from one end of its range, no noise."""
    response = model.response(direction, pulse.amplitude_v, pulse.width_s)
    u = np.empty(pulses + 1)
    u[0] = model.u_min if direction > 0 else model.u_max
    for n in range(pulses):
        u[n + 1] = min(max(float(response.step(u[n])), model.u_min), model.u_max)
    return model.level(u)


class SolvedShot(NamedTuple):
    """One shot behind a resistance: which cells feel which table, and the power that the cells take while it is on."""

    felt: tuple[tuple[Table, IndexArray, bool], ...]
    power_w: float


class Plan(NamedTuple):
    """Shots behind a source or series resistance, solved for the conductances at staging; `seconds` per pulse counts
    the edges as those of an ohmic cell (a third)."""

    shots: tuple[SolvedShot, ...]
    seconds: float


def plan_shots(model: DeviceModel, shots: Shots, g: FloatArray, ohm: float) -> Plan:
    """Solve every shot in the circuit and ask the model for the pulse that each cell really sees.

    Voltages are rounded to 1e-4 of themselves, so that equal cells share a table. Raises OutsideHull where a cell
    would see what was never measured, CapabilityMissing where the model has no I(V): the drop is not known then.
    """
    law = _law(model, shots.pulse.amplitude_v, ohm)
    known: dict[tuple[int, float], Table | None] = {}
    solved = tuple(_solve_shot(model, shots, k, g, ohm, law, known) for k in range(len(shots)))
    return Plan(solved, shots.pulse.width_s + (shots.pulse.rise_s + shots.pulse.fall_s) / 3)


def _law(model: DeviceModel, max_v: float, ohm: float) -> Law:
    if model.write_current_factor(max_v) is None:
        raise CapabilityMissing(
            f"device {model.name} has no I(V), so its voltage behind {ohm:g} ohm is not known; add [write_current] to "
            "its card, or set bench.source_ohm and bench.series_ohm to 0"
        )
    return tabulated_law(lambda v: _known(model, v), max_v)


def _solve_shot(
    model: DeviceModel, shots: Shots, k: int, g: FloatArray, ohm: float, law: Law,
    known: dict[tuple[int, float], Table | None],
) -> SolvedShot:  # fmt: skip
    selected = np.zeros(shots.shape, np.bool_)
    cross, line = shots.cross[shots.indptr[k] : shots.indptr[k + 1]], shots.line[k]
    selected[(line, cross) if shots.axis == 0 else (cross, line)] = True
    conducts = np.where(selected, g, 0.0) if shots.bias is Bias.ISOLATED else g
    cell_v = solve(shots.states(k), conducts, ohm, law).cell_v
    power_w = float(np.sum(conducts * cell_v**2 * law.factor(np.abs(cell_v))))
    seen = np.where(conducts > 0, cell_v, 0.0) * shots.potentiating_sign
    felt = []
    for chosen in (True, False):
        where = np.flatnonzero((selected == chosen) & (seen != 0))
        rounded = np.array([float(f"{v:.4e}") for v in seen.ravel()[where]])
        for volts in np.unique(rounded):
            key = (int(chosen), float(volts))
            if key not in known:
                known[key] = _felt(model, shots.pulse, 0 if chosen else 1, float(volts))
            found = known[key]
            if found is not None:
                felt.append((found, where[rounded == volts].astype(np.int32), chosen))
    return SolvedShot(tuple(felt), power_w)
