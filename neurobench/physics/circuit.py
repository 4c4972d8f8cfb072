"""The array as a circuit: from the declared state of every line to the voltage at every cell.

Each line is one node (docs/decisions/0021-circuit.md). A driven line hangs on its source through a resistance, grounded
lines and virtual grounds are at 0 V, floating lines are where their currents cancel. Cells are conductances, or follow
I = G V f(|V|) with a factor f that the device card declares.

Room for line resistance: `solve` and `input_volts` are all that the rest of the house calls. A solver with one node per
crossing answers the same two questions with the same result type, and nothing else has to know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline

from neurobench.bench.stimulus import LineState
from neurobench.errors import NeurobenchError

if TYPE_CHECKING:
    from neurobench.bench.stimulus import BoolArray, FloatArray, LineStates

MAX_NEWTON = 60
RELATIVE = 1e-12
LAW_POINTS = 513


class Solution(NamedTuple):
    """Line voltages, voltage at every cell (V_row - V_col), and the current from each line into the array."""

    row_v: FloatArray
    col_v: FloatArray
    cell_v: FloatArray
    row_a: FloatArray
    col_a: FloatArray


@dataclass(frozen=True, slots=True)
class Law:
    """I(V) of the cells relative to their conductance when read: I = G V factor(|V|); slope is the derivative."""

    factor: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]


def tabulated_law(factor: Callable[[float], float], max_v: float) -> Law:
    """A law from a function of one voltage, as a cubic spline of 513 points over 0 .. max_v."""
    v = np.linspace(0.0, max_v, LAW_POINTS)
    v[0] = max_v * 1e-9  # a chord at 0 V is 0/0 in some laws
    spline = CubicSpline(v, [factor(float(x)) for x in v])
    return Law(spline, spline.derivative())


def solve(states: LineStates, g: FloatArray, source_ohm: float = 0.0, law: Law | None = None) -> Solution:
    """Voltages and currents of an array g[rows, cols] in siemens, its lines in `states`.

    source_ohm: everything between a source and its line (source and series resistance). Without a law the cells are
    ohmic. Raises NeurobenchError if the nonlinear solution is not found.
    """
    rows = len(states.row_state)
    state = np.concatenate([states.row_state, states.col_state])
    given_v = np.where(state == LineState.DRIVEN, np.concatenate([states.row_v, states.col_v]), 0.0)
    free = _free(state, g, source_ohm)
    link_s = np.where(state == LineState.DRIVEN, 1.0 / source_ohm if source_ohm else 0.0, 0.0)
    v = np.where(free, 0.0, given_v)
    if free.any():
        v = _linear(v, g, free, link_s, given_v) if law is None else _newton(v, g, free, link_s, given_v, law)
    cell_v = v[:rows, None] - v[None, rows:]
    cell_a = g * cell_v if law is None else g * cell_v * law.factor(np.abs(cell_v))
    return Solution(v[:rows], v[rows:], cell_v, cell_a.sum(axis=1), -cell_a.sum(axis=0))


def input_volts(state: LineStates, volts: FloatArray, g: FloatArray, source_ohm: float) -> FloatArray:
    """Row voltages [n, rows] of an ohmic array for n vectors volts[n, rows] on its driven rows; see `solve`."""
    lines = np.concatenate([state.row_state, state.col_state])
    driven = lines == LineState.DRIVEN
    given_v = np.zeros((len(volts), len(lines)))
    given_v[:, : len(state.row_state)] = volts
    given_v[:, ~driven] = 0.0
    free = _free(lines, g, source_ohm)
    link_s = np.where(driven, 1.0 / source_ohm if source_ohm else 0.0, 0.0)
    v = np.where(free, 0.0, given_v)
    if free.any():
        matrix = _laplacian(g)
        drawn = (link_s * given_v)[:, free] - v @ matrix[:, free]
        v[:, free] = np.linalg.solve(matrix[np.ix_(free, free)] + np.diag(link_s[free]), drawn.T).T
    rows_v: FloatArray = v[:, : len(state.row_state)]
    return rows_v


def _free(state: FloatArray, g: FloatArray, source_ohm: float) -> BoolArray:
    """Lines whose voltage is unknown. A floating line that nothing connects stays at 0 V."""
    connected = np.concatenate([g.sum(axis=1), g.sum(axis=0)]) > 0
    anchored = bool((state != LineState.FLOATING).any())
    free: BoolArray = (state == LineState.FLOATING) & connected & anchored
    if source_ohm:
        free |= state == LineState.DRIVEN
    return free


def _laplacian(g: FloatArray) -> FloatArray:
    """Nodal conductance matrix of the array: current into line k from the array is -(matrix @ v)[k]."""
    rows, cols = g.shape
    matrix = np.zeros((rows + cols, rows + cols))
    matrix[:rows, rows:], matrix[rows:, :rows] = -g, -g.T
    matrix[np.diag_indices(rows + cols)] = np.concatenate([g.sum(axis=1), g.sum(axis=0)])
    return matrix


def _linear(v: FloatArray, g: FloatArray, free: BoolArray, link_s: FloatArray, given_v: FloatArray) -> FloatArray:
    matrix = _laplacian(g)
    drawn = (link_s * given_v)[free] - matrix[free] @ v
    out = v.copy()
    out[free] = np.linalg.solve(matrix[np.ix_(free, free)] + np.diag(link_s[free]), drawn)
    return out


def _newton(
    v: FloatArray, g: FloatArray, free: BoolArray, link_s: FloatArray, given_v: FloatArray, law: Law
) -> FloatArray:
    """Newton with halved steps on the currents of the free lines; starts from the ohmic solution.

    I(V) rises with V, so the currents are the gradient of a convex function: a short enough step always helps.
    """
    rows = g.shape[0]
    v = _linear(v, g, free, link_s, given_v)
    scale = float(np.abs(link_s * given_v).sum()) or float(np.abs(given_v).max() * g.sum()) or 1.0
    excess = _excess(v, g, link_s, given_v, law)[free]
    for _ in range(MAX_NEWTON):
        if np.abs(excess).max() <= RELATIVE * scale:
            return v
        u = v[:rows, None] - v[None, rows:]
        chord = law.factor(np.abs(u))
        jacobian = _laplacian(g * (chord + np.abs(u) * law.slope(np.abs(u))))[np.ix_(free, free)]
        step: FloatArray = np.linalg.solve(jacobian + np.diag(link_s[free]), excess).astype(np.float64)
        v, new = _shortened(v, step, excess, g, free, link_s, given_v, law)
        if np.abs(new).max() >= np.abs(excess).max():
            break  # rounding: no step helps any more
        excess = new
    if np.abs(excess).max() <= 1e-9 * scale:
        return v
    raise NeurobenchError(
        f"the voltages of a {g.shape[0]} x {g.shape[1]} array were not found in {MAX_NEWTON} Newton steps"
    )


def _shortened(
    v: FloatArray, step: FloatArray, excess: FloatArray, g: FloatArray, free: BoolArray, link_s: FloatArray,
    given_v: FloatArray, law: Law,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    share = 1.0
    while True:
        tried = v.copy()
        tried[free] -= share * step
        new = _excess(tried, g, link_s, given_v, law)[free]
        if np.abs(new).max() < np.abs(excess).max() or share < 1e-6:
            return tried, new
        share /= 2


def _excess(v: FloatArray, g: FloatArray, link_s: FloatArray, given_v: FloatArray, law: Law) -> FloatArray:
    """Current that leaves each line into the array minus what its source delivers."""
    rows = g.shape[0]
    u = v[:rows, None] - v[None, rows:]
    a = g * u * law.factor(np.abs(u))
    out: FloatArray = np.concatenate([a.sum(axis=1), -a.sum(axis=0)]) - link_s * (given_v - v)
    return out
