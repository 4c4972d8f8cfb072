"""The array as a circuit, against closed forms and an independent brute-force nodal solution."""

from __future__ import annotations

from math import sinh
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq, fsolve

from neurobench.bench.stimulus import LineState, LineStates
from neurobench.physics import circuit

F, G0, VG, D = LineState.FLOATING, LineState.GROUNDED, LineState.VIRTUAL_GROUND, LineState.DRIVEN


def lines(rows: list[Any], cols: list[Any]) -> LineStates:
    """States from lists of (state, volts) or state."""

    def parts(found: list[Any]) -> tuple[Any, Any]:
        pairs = [x if isinstance(x, tuple) else (x, 0.0) for x in found]
        return np.array([s for s, _ in pairs], np.int8), np.array([v for _, v in pairs], float)

    return LineStates(*parts(rows), *parts(cols))


def one_cell(rows: int, cols: int, others: LineState) -> LineStates:
    return lines([(D, 1.0)] + [others] * (rows - 1), [VG] + [others] * (cols - 1))


@pytest.mark.parametrize(("rows", "cols", "factor"), [(4, 4, 16 / 7), (32, 32, 1024 / 63), (3, 7, 21 / 9), (1, 5, 1.0)])
def test_a_floating_passive_array_reads_mn_over_m_plus_n_minus_1(rows: int, cols: int, factor: float) -> None:
    found = circuit.solve(one_cell(rows, cols, F), np.full((rows, cols), 1e-6))
    assert -found.col_a[0] == pytest.approx(factor * 1e-6, rel=1e-12)


def test_grounded_neighbours_leave_the_cell_alone() -> None:
    g = np.random.default_rng(1).uniform(1e-7, 1e-5, (4, 4))
    found = circuit.solve(one_cell(4, 4, G0), g)
    assert -found.col_a[0] == pytest.approx(g[0, 0], rel=1e-15)


def test_floating_lines_put_most_of_the_volt_on_a_wrong_cell() -> None:
    """Bench rule 1: three series steps of 3, 9 and 3 parallel cells; the weak ones take nearly all of it."""
    g = np.full((4, 4), 1e-5)
    g[0, 1:] = 1e-6
    found = circuit.solve(one_cell(4, 4, F), g)
    share = (1 / 3e-6) / (1 / 3e-6 + 1 / 9e-5 + 1 / 3e-5)
    assert found.cell_v[0, 1] == pytest.approx(share, rel=1e-12)
    assert share > 0.88


def brute_force(states: LineStates, g: np.ndarray, ohm: float, factor: Any) -> np.ndarray:
    """Kirchhoff's law written out cell by cell, solved by a general root finder: shares no code with the module."""
    rows, cols = g.shape

    def volts(x: np.ndarray) -> np.ndarray:
        v, at = np.zeros(rows + cols), 0
        for k, (s, given) in enumerate(
            zip([*states.row_state, *states.col_state], [*states.row_v, *states.col_v], strict=True)
        ):
            if s == F or (s == D and ohm):
                v[k], at = x[at], at + 1
            elif s == D:
                v[k] = given
        return v

    def kirchhoff(x: np.ndarray) -> list[float]:
        v, out = volts(x), []
        for k, (s, given) in enumerate(
            zip([*states.row_state, *states.col_state], [*states.row_v, *states.col_v], strict=True)
        ):
            if not (s == F or (s == D and ohm)):
                continue
            total = 0.0
            for other in range(cols) if k < rows else range(rows):
                u = v[k] - v[rows + other] if k < rows else v[k] - v[other]
                total += (g[k, other] if k < rows else g[other, k - rows]) * u * factor(abs(u))
            out.append((total - ((given - v[k]) / ohm if s == D else 0.0)) * 1e6)
        return out

    n = sum(s == F or (s == D and ohm > 0) for s in [*states.row_state, *states.col_state])
    x, _, _, why = fsolve(kirchhoff, np.zeros(n), xtol=1e-12, full_output=True)
    assert np.abs(kirchhoff(x)).max() < 1e-9, why  # in microamperes; the currents are some of them
    return volts(x)


CASES = [
    lines([(D, 1.0), F, G0], [VG, F, (D, -0.5), VG]),
    lines([(D, 0.3), (D, -0.7), F], [F, F, VG, G0]),
    lines([(D, 1.0), (D, 1.0), (D, 0.5)], [F, (D, 0.2), F, F]),
]


@pytest.mark.parametrize("states", CASES)
@pytest.mark.parametrize("ohm", [0.0, 5e4])
def test_linear_solution_equals_brute_force(states: LineStates, ohm: float) -> None:
    g = np.random.default_rng(7).uniform(1e-6, 1e-5, (3, 4))
    found = circuit.solve(states, g, ohm)
    expected = brute_force(states, g, ohm, lambda _: 1.0)
    np.testing.assert_allclose(np.concatenate([found.row_v, found.col_v]), expected, rtol=1e-9, atol=1e-12)
    delivered = found.row_a.sum() + found.col_a.sum()
    assert abs(delivered) < 1e-9 * np.abs(found.row_a).max(), "currents of an array sum to zero"


@pytest.mark.parametrize("states", CASES)
def test_nonlinear_solution_equals_brute_force(states: LineStates) -> None:
    def factor(v: float) -> float:
        x = max(v, 1e-12) / 0.2
        return sinh(x) / x

    g = np.random.default_rng(8).uniform(1e-6, 1e-5, (3, 4))
    law = circuit.tabulated_law(factor, 2.0)
    found = circuit.solve(states, g, 2e4, law)
    expected = brute_force(states, g, 2e4, factor)
    np.testing.assert_allclose(np.concatenate([found.row_v, found.col_v]), expected, rtol=1e-6, atol=1e-9)


def test_50_ohm_into_the_in_pulse_cell_loses_4_5_percent() -> None:
    """Bench rule 8: 50 ohm before a cell of 1.07 kohm."""
    found = circuit.solve(lines([(D, 2.0)], [G0]), np.array([[1 / 1070.0]]), 50.0)
    assert 1 - found.cell_v[0, 0] / 2.0 == pytest.approx(50 / 1120, rel=1e-12)
    assert 1 - found.cell_v[0, 0] / 2.0 == pytest.approx(0.045, abs=5e-4)


def test_a_steep_cell_behind_a_resistor_against_one_equation() -> None:
    """V = I R + V_cell with a sinh cell: Newton from an ohmic start far away."""

    def factor(v: float) -> float:
        return sinh(v / 0.1) / (v / 0.1) if v else 1.0

    law = circuit.tabulated_law(factor, 2.0)
    found = circuit.solve(lines([(D, 2.0)], [G0]), np.array([[1e-6]]), 1e3, law)
    exact = brentq(lambda v: v + 1e3 * 1e-6 * v * factor(v) - 2.0, 0, 2, xtol=1e-14)
    assert found.cell_v[0, 0] == pytest.approx(exact, rel=1e-6)


def test_many_vectors_equal_one_by_one() -> None:
    rng = np.random.default_rng(3)
    g = rng.uniform(1e-6, 1e-5, (4, 3))
    states = lines([(D, 1.0), F, (D, 1.0), G0], [VG, F, VG])
    volts = rng.uniform(-0.2, 0.2, (5, 4))
    many = circuit.input_volts(states, volts, g, 1e4)
    for n, vector in enumerate(volts):
        single = circuit.solve(states._replace(row_v=vector), g, 1e4)
        np.testing.assert_allclose(many[n], single.row_v, rtol=1e-12, atol=1e-15)


def test_lines_that_nothing_holds_stay_at_zero() -> None:
    found = circuit.solve(lines([F, F], [F, F]), np.full((2, 2), 1e-6))
    assert not found.cell_v.any()
    g = np.zeros((2, 2))
    g[0, 0] = 1e-6
    assert circuit.solve(lines([(D, 1.0), F], [VG, F]), g).row_v.tolist() == [1.0, 0.0]
