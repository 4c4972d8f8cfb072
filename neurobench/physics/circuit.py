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
    from neurobench.bench.stimulus import BoolArray, FloatArray, IndexArray, LineStates

MAX_NEWTON = 60
RELATIVE = 1e-12
LAW_POINTS = 513
# One net to everything else; far below any device, far above rounding.
INSULATION_S = 1e-18


class Solution(NamedTuple):
    """Line voltages, voltage at every cell (V_row - V_col), and the current from each line into the array."""

    row_v: FloatArray
    col_v: FloatArray
    cell_v: FloatArray
    row_a: FloatArray
    col_a: FloatArray


@dataclass(frozen=True, slots=True)
class Law:
    """I(V) of the cells relative to their conductance when read: I = G V factor(|V|); slope is the derivative.

    ohmic [rows, cols]: cells that follow no law (a short is a resistor); None: all follow it.
    """

    factor: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]
    ohmic: BoolArray | None = None

    def chord(self, volts: FloatArray) -> FloatArray:
        """Factor at every cell of an array that sees volts[rows, cols], of either sign."""
        found = self.factor(np.abs(volts))
        return found if self.ohmic is None else np.where(self.ohmic, 1.0, found)

    def tangent(self, volts: FloatArray) -> FloatArray:
        """d(V factor)/dV at every cell."""
        size = np.abs(volts)
        found = self.factor(size) + size * self.slope(size)
        return found if self.ohmic is None else np.where(self.ohmic, 1.0, found)


@dataclass(frozen=True, slots=True)
class _Circuit:
    """Lines and what hangs on them. Without `node` each line is a node of its own, else node[line] names it.

    link_s: conductance from a node to its source of given_v; push_a: current that a source without a voltage pushes
    into a node; free: nodes whose voltage is unknown.
    """

    g: FloatArray
    free: BoolArray
    link_s: FloatArray
    given_v: FloatArray
    push_a: FloatArray
    law: Law | None = None
    node: IndexArray | None = None

    def across(self, v: FloatArray) -> FloatArray:
        """Voltage at every cell [rows, cols]."""
        line_v = v if self.node is None else v[self.node]
        rows = len(self.g)
        difference: FloatArray = line_v[:rows, None] - line_v[None, rows:]
        return difference

    def gathered(self, cell_a: FloatArray) -> FloatArray:
        """Current from each node into the array."""
        line_a: FloatArray = np.concatenate([cell_a.sum(axis=1), -cell_a.sum(axis=0)])
        if self.node is None:
            return line_a
        node_a: FloatArray = np.bincount(self.node, line_a, len(self.free)).astype(np.float64)
        return node_a

    def matrix(self, g: FloatArray) -> FloatArray:
        """Nodal conductance matrix of the array: current into node k from the array is -(matrix @ v)[k]."""
        lines = _laplacian(g)
        if self.node is None:
            return lines
        n = len(self.free)
        nodes = np.zeros((n, n))
        np.add.at(nodes, (self.node[:, None], self.node[None, :]), lines)
        return nodes

    def currents(self, v: FloatArray) -> FloatArray:
        """Current through every cell, from its row to its column."""
        cell_v = self.across(v)
        return self.g * cell_v if self.law is None else self.g * cell_v * self.law.chord(cell_v)

    def excess(self, v: FloatArray) -> FloatArray:
        """Current that leaves each node into the array minus what its source delivers."""
        delivered = self.link_s * (self.given_v - v) + self.push_a
        difference: FloatArray = self.gathered(self.currents(v)) - delivered
        return difference

    def solved(self, v: FloatArray) -> FloatArray:
        """Node voltages; v holds those that are given."""
        if not self.free.any():
            return v
        return _linear(self, v) if self.law is None else _newton(self, v)


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
    circuit = _Circuit(g, free, link_s, given_v, np.zeros(len(state)), law)
    v = circuit.solved(np.where(free, 0.0, given_v))
    cell_a = circuit.currents(v)
    return Solution(v[:rows], v[rows:], circuit.across(v), cell_a.sum(axis=1), -cell_a.sum(axis=0))


class Nets(NamedTuple):
    """Lines joined into nets, and one source (or none) on each net.

    node[rows + cols]: net of every row, then of every column; given_v [nets]: voltage of the net's source; link_s:
    conductance between the two, inf: the source holds the net; 0: none. push_a: current pushed into the net.
    """

    node: IndexArray
    given_v: FloatArray
    link_s: FloatArray
    push_a: FloatArray


class NetSolution(NamedTuple):
    """Voltage of every net, voltage [rows, cols] and current of every cell, current from each net into the array."""

    net_v: FloatArray
    cell_v: FloatArray
    cell_a: FloatArray
    net_a: FloatArray


def solve_nets(nets: Nets, g: FloatArray, law: Law | None = None) -> NetSolution:
    """Voltages and currents of an array g[rows, cols] whose lines are joined into nets.

    At least one net must have a source with a voltage. Raises NeurobenchError if the solution is not found.
    """
    free = np.isfinite(nets.link_s)
    # Nothing insulates perfectly, and a net that nothing is on must not make the matrix singular.
    link_s = np.where(free, nets.link_s + INSULATION_S, 0.0)
    circuit = _Circuit(g, free, link_s, nets.given_v, nets.push_a, law, nets.node)
    v = circuit.solved(np.where(free, 0.0, nets.given_v))
    cell_a = circuit.currents(v)
    return NetSolution(v, circuit.across(v), cell_a, circuit.gathered(cell_a))


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


def _linear(c: _Circuit, v: FloatArray) -> FloatArray:
    matrix = c.matrix(c.g)
    drawn = (c.link_s * c.given_v + c.push_a)[c.free] - matrix[c.free] @ v
    out = v.copy()
    out[c.free] = np.linalg.solve(matrix[np.ix_(c.free, c.free)] + np.diag(c.link_s[c.free]), drawn)
    return out


def _newton(c: _Circuit, v: FloatArray) -> FloatArray:
    """Newton with halved steps on the currents of the free nodes; starts from the ohmic solution.

    I(V) rises with V, so the currents are the gradient of a convex function: a short enough step always helps.
    """
    assert c.law is not None
    v = _linear(c, v)
    scale = float(np.abs(c.link_s * c.given_v + c.push_a).sum()) or float(np.abs(c.given_v).max() * c.g.sum()) or 1.0
    excess = c.excess(v)[c.free]
    for _ in range(MAX_NEWTON):
        if np.abs(excess).max() <= RELATIVE * scale:
            return v
        jacobian = c.matrix(c.g * c.law.tangent(c.across(v)))[np.ix_(c.free, c.free)]
        step: FloatArray = np.linalg.solve(jacobian + np.diag(c.link_s[c.free]), excess).astype(np.float64)
        v, new = _shortened(c, v, step, excess)
        if np.abs(new).max() >= np.abs(excess).max():
            break  # rounding: no step helps any more
        excess = new
    if np.abs(excess).max() <= 1e-9 * scale:
        return v
    raise NeurobenchError(
        f"the voltages of a {c.g.shape[0]} x {c.g.shape[1]} array were not found in {MAX_NEWTON} Newton steps"
    )


def _shortened(c: _Circuit, v: FloatArray, step: FloatArray, excess: FloatArray) -> tuple[FloatArray, FloatArray]:
    share = 1.0
    while True:
        tried = v.copy()
        tried[c.free] -= share * step
        new = c.excess(tried)[c.free]
        if np.abs(new).max() < np.abs(excess).max() or share < 1e-6:
            return tried, new
        share /= 2
