"""Every compiled kernel against a plain numpy twin that says the same in the most obvious way."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from neurobench.bench.crossbar import Capabilities
from neurobench.bench.stimulus import Pulse, PulseBatch, Shots, shots
from neurobench.physics import kernels, noise
from neurobench.physics.kernels import Table, table
from neurobench.physics.noise import Stream, key
from neurobench.physics.response import Response

KEY, OTHER = key(11, Stream.PULSE), key(11, Stream.DISTURB)
PULSE = Pulse(1.0, 1e-6)


@njit(cache=True)
def draw(k0: int, k1: int, cell: int, count: int) -> Any:
    word = (np.uint64(count) << np.uint64(32)) | np.uint64(cell)
    return noise.normal(noise.bits(np.uint64(k0), np.uint64(k1), word))


def response(seed: int, nodes: int = 9, sigma: float = 0.0) -> Response:
    rng = np.random.default_rng(seed)
    at = np.sort(np.r_[0, rng.random(max(nodes - 2, 0)), 1])[:nodes]
    return Response(
        at, rng.uniform(-0.02, 0.1, len(at)), rng.uniform(0, sigma, len(at)) if sigma else np.zeros(len(at))
    )


class Array(NamedTuple):
    """A small array with everything that may differ between its cells."""

    shape: tuple[int, int]
    u: np.ndarray
    pulses: np.ndarray
    step: np.ndarray
    base_s: np.ndarray
    gain_s: np.ndarray
    levels: np.ndarray
    ends: tuple[float, float]

    def twin_s(self) -> Any:
        """Conductances of all cells, the obvious way."""
        level = self.levels[self.u.astype(int)] if self.levels.size else self.u
        return self.base_s + self.gain_s * level

    def copy(self) -> Array:
        return self._replace(u=self.u.copy(), pulses=self.pulses.copy())


def array(rows: int, cols: int, seed: int = 0, uniform: bool = False, literal: bool = False) -> Array:
    rng = np.random.default_rng(seed)
    n = rows * cols
    size = 1 if uniform else n
    step = np.exp(0.2 * rng.standard_normal(n)).astype(np.float32)
    step[rng.random(n) < 0.2] = 0
    levels = rng.uniform(0, 1e-7, 12) if literal else np.zeros(0)
    u = rng.integers(0, 8, n).astype(float) if literal else rng.random(n)
    if literal:
        step = (step > 0).astype(np.float32)
    ends = (0.0, 11.0) if literal else (0.0, 1.0)
    pulses = rng.integers(0, 50, n).astype(np.uint32)
    return Array(
        (rows, cols), u, pulses, step, rng.uniform(1e-7, 2e-7, size), rng.uniform(1e-7, 2e-7, size), levels, ends
    )


def batch(shape: tuple[int, int], parallelism: Any, seed: int = 0, signed: bool = True) -> Shots:
    rng = np.random.default_rng(seed)
    counts = rng.integers(-2 if signed else 0, 4, shape)
    made = shots(PulseBatch(counts, PULSE), Capabilities(shape, parallelism=parallelism))
    assert isinstance(made, Shots)
    return made


JOULE = np.array([[1.0, 0.25, 0.2, 0.01], [1.5, 0.3, 0.35, 0.02]])


def fire(a: Array, s: Shots, up: Table, down: Table, metered: bool = True) -> tuple[float, int, int]:
    """The kernel as the chip calls it."""
    rows, cols = a.shape
    sums = np.empty(rows), np.empty(cols)
    kernels.sums(a.u, a.base_s, a.gain_s, a.levels, *sums)
    strides, lines = ((cols, 1), sums) if s.axis == 0 else ((1, cols), sums[::-1])
    answer = kernels.fire(
        a.u, a.pulses, a.step, a.base_s, a.gain_s, a.levels, *a.ends, *strides,
        s.line, s.indptr, s.cross, s.sign, s.repeat, *up, *down, *KEY, metered, JOULE, *lines,
    )  # fmt: skip
    if metered:
        g = np.broadcast_to(a.twin_s(), rows * cols).reshape(rows, cols)
        np.testing.assert_allclose(sums[0], g.sum(axis=1), rtol=1e-12)
        np.testing.assert_allclose(sums[1], g.sum(axis=0), rtol=1e-12)
    return answer


def twin_fire(
    a: Array, s: Shots, responses: dict[tuple[int, int], Response], disturbs: np.ndarray
) -> tuple[float, int, int]:
    """Pulse after pulse, cell after cell; responses[sign, place] with place 0 selected, 1 line, 2 across, 3 neither."""
    rows, cols = a.shape
    energy, done, slots = 0.0, 0, 0
    for k in range(len(s)):
        cross = set(s.cross[s.indptr[k] : s.indptr[k + 1]].tolist())
        sign = int(s.sign[k])
        for _ in range(s.repeat[k]):
            g = np.broadcast_to(a.twin_s(), rows * cols)
            for cell in range(rows * cols):
                i, j = divmod(cell, cols)
                line, other = (i, j) if s.axis == 0 else (j, i)
                place = (0 if other in cross else 1) if line == s.line[k] else (2 if other in cross else 3)
                energy += g[cell] * JOULE[0 if sign > 0 else 1, place]
                r = responses.get((sign, place))
                if r is None:
                    continue
                count, keys = (a.pulses, KEY) if place == 0 else (disturbs, OTHER)
                u = a.u[cell]
                change = np.interp(u, r.nodes, r.delta)
                sigma = np.interp(u, r.nodes, r.sigma)
                if sigma > 0:
                    change += sigma * draw(*keys, cell, int(count[cell]))
                a.u[cell] = min(max(u + float(a.step[cell]) * change, a.ends[0]), a.ends[1])
                count[cell] += 1
                done += place == 0
            slots += 1
    return energy, done, slots


@pytest.mark.parametrize("parallelism", ["row", "column", "cell"])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("uniform", [True, False])
def test_fire_equals_its_twin(parallelism: Any, sigma: float, uniform: bool) -> None:
    up, down = response(1, 9, sigma), response(2, 5, sigma)
    a = array(5, 7, 3, uniform)
    b, s = a.copy(), batch((5, 7), parallelism, 4)
    energy, done, slots = fire(a, s, table(up), table(down))
    expected = twin_fire(b, s, {(1, 0): up, (-1, 0): down}, np.zeros(35, np.uint32))
    np.testing.assert_allclose(a.u, b.u, rtol=1e-12, atol=1e-14)
    assert a.pulses.tolist() == b.pulses.tolist()
    assert (energy, done, slots) == pytest.approx(expected, rel=1e-11)
    assert done == s.pulses


def test_fire_equals_its_twin_literally() -> None:
    r = Response(np.array([0.0, 10.0, 11.0]), np.array([1.0, 1.0, 0.0]), np.zeros(3))
    a = array(4, 6, 5, literal=True)
    b, s = a.copy(), batch((4, 6), "row", 6, signed=False)
    energy, _, _ = fire(a, s, table(r), table(r))
    expected = twin_fire(b, s, {(1, 0): r}, np.zeros(24, np.uint32))
    assert a.u.tolist() == b.u.tolist()
    assert energy == pytest.approx(expected[0], rel=1e-11)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_fire_finds_pieces_that_are_crowded_into_one_bucket(sigma: float) -> None:
    """Measured curves have plateaus: a dozen nodes within a ten-thousandth of the range, and states among them."""
    rng = np.random.default_rng(2)
    nodes = np.unique(np.r_[0.0, 0.5 + rng.random(12) * 1e-4, 1.0])
    r = Response(nodes, rng.uniform(-0.02, 0.1, len(nodes)), np.full(len(nodes), sigma))
    t = table(r)
    assert t.pieces[kernels.HEAD, 2] > 3
    a = array(6, 8, 3)
    a.u[:] = 0.5 + rng.random(48) * 1e-4
    b, s = a.copy(), batch((6, 8), "row", 4)
    fire(a, s, t, t)
    twin_fire(b, s, {(1, 0): r, (-1, 0): r}, np.zeros(48, np.uint32))
    np.testing.assert_allclose(a.u, b.u, rtol=1e-9)


def test_unmetered_fire_moves_the_same_bits() -> None:
    up = table(response(1, 9, 0.05))
    a = array(6, 6, 1)
    b, s = a.copy(), batch((6, 6), "row", 2)
    fire(a, s, up, up)
    assert fire(b, s, up, up, metered=False)[0] == 0.0
    assert a.u.tobytes() == b.u.tobytes()


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_a_cell_moves_alike_alone_and_in_company(sigma: float) -> None:
    """Vector code, remainder loops and gathered cells must not differ in the last bit: 131 columns make all three."""
    up, down = table(response(1, 9, sigma)), table(response(2, 5, sigma))
    states = []
    for parallelism in ("row", "column", "cell"):
        a = array(9, 131, 3)
        fire(a, batch(a.shape, parallelism, 8), up, down)
        states.append(a.u.tobytes())
    assert states[0] == states[1] == states[2]


@pytest.mark.parametrize("parallelism", ["row", "column", "cell"])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_fire_disturbing_equals_its_twin(parallelism: Any, sigma: float) -> None:
    weak = response(4, 3, sigma / 10)
    felt = {(1, 0): response(1, 9, sigma), (-1, 0): response(2, 5, sigma), (1, 1): weak, (1, 2): weak, (-1, 3): weak}
    a = array(4, 5, 3)
    b, s = a.copy(), batch(a.shape, parallelism, 4)
    nothing = table(Response(np.zeros(1), np.zeros(1), np.zeros(1)))
    places = [(sign, place) for sign in (1, -1) for place in range(4)]
    tables = tuple(table(felt[p]) if p in felt else nothing for p in places)
    active = np.array([p in felt for p in places]).reshape(2, 4)
    ours, twins = np.zeros(20, np.uint32), np.zeros(20, np.uint32)
    lines, stride, across, n = (4, 5, 1, 5) if s.axis == 0 else (5, 1, 5, 4)
    found = kernels.fire_disturbing(
        a.u, a.pulses, ours, a.step, a.base_s, a.gain_s, a.levels, a.ends, lines, stride, across,
        s.line, s.indptr, s.cross, s.sign, s.repeat, tables, active, KEY, OTHER, True, JOULE, n,
    )  # fmt: skip
    expected = twin_fire(b, s, felt, twins)
    np.testing.assert_allclose(a.u, b.u, rtol=1e-12, atol=1e-14)
    assert ours.tolist() == twins.tolist()
    assert found == pytest.approx(expected, rel=1e-11)


@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from(["even", "random", "close"]))
@settings(max_examples=60, deadline=None)
def test_look_up_equals_interpolation(seed: int, nodes: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    at = {"even": np.linspace(-1, 3, nodes), "random": np.unique(rng.normal(0, 1, nodes))}.get(kind)
    if at is None:  # many nodes in one bucket
        at = np.unique(np.r_[rng.normal(0, 1e-5, nodes), 5.0])
    r = Response(at, rng.uniform(-1, 1, len(at)), rng.uniform(0, 1, len(at)))
    t = table(r)
    for u in np.r_[at, rng.uniform(at[0] - 1, at[-1] + 1, 30)]:
        for z in (0.0, 1.0, -2.0):
            expected = u + 0.5 * (np.interp(u, at, r.delta) + z * np.interp(u, at, r.sigma))
            found = kernels.pulse_cell(u, t, 0.5, z, -1e9, 1e9)
            assert found == pytest.approx(expected, rel=1e-8, abs=1e-8 if kind == "close" else 1e-11)


def test_look_up_keeps_jumps_and_whole_numbers() -> None:
    """A jump is two nodes one rounding apart (Nili's bins); literal indices stay whole."""
    edge = np.nextafter(0.5, 0)
    t = table(Response(np.array([0.0, edge, 0.5, 1.0]), np.array([0.1, 0.1, 0.3, 0.3]), np.zeros(4)))
    ends = (0.0, 10.0)
    assert kernels.pulse_cell(edge, t, 1.0, 0.0, *ends) == pytest.approx(edge + 0.1, rel=1e-15)
    assert kernels.pulse_cell(0.5, t, 1.0, 0.0, *ends) == pytest.approx(0.8, rel=1e-15)
    whole = table(Response(np.array([0.0, 49.0, 50.0]), np.array([1.0, 1.0, 0.0]), np.zeros(3)))
    u = 0.0
    for n in range(60):
        assert u == min(n, 50)
        u = kernels.pulse_cell(u, whole, 1.0, 0.0, 0.0, 50.0)


@pytest.mark.parametrize("literal", [True, False])
@pytest.mark.parametrize("uniform", [True, False])
def test_conductances_and_sums(literal: bool, uniform: bool) -> None:
    a = array(5, 9, 2, uniform, literal)
    g, rows, by_row, by_col = np.empty((5, 9)), np.empty(5), np.empty(5), np.empty(9)
    kernels.conductances(a.u, a.base_s, a.gain_s, a.levels, g, rows)
    kernels.sums(a.u, a.base_s, a.gain_s, a.levels, by_row, by_col)
    np.testing.assert_allclose(g.ravel(), a.twin_s(), rtol=1e-15)
    np.testing.assert_allclose(rows, g.sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(by_row, g.sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(by_col, g.sum(axis=0), rtol=1e-14)


def test_pulse_list_and_pulse_at_equal_fire() -> None:
    t = table(response(1, 9, 0.05))
    a, b, c = (array(3, 4, 1) for _ in range(3))
    s = shots(PulseBatch(np.ones((3, 4), np.int8), PULSE), Capabilities((3, 4)))
    assert isinstance(s, Shots)
    fire(a, s, t, t)
    kernels.pulse_list(b.u, b.pulses, b.step, *b.ends, np.arange(12, dtype=np.int32), *t, *KEY)
    d = kernels.LoopDevice(
        (3, 4), c.u, c.pulses, c.step, c.base_s, c.gain_s, c.levels, t, t, *KEY, *c.ends, np.zeros(2)
    )
    before = c.twin_s().copy()
    after = [kernels.pulse_at(d, cell, 1) for cell in range(12)]
    np.testing.assert_allclose(b.u, a.u, rtol=1e-14)
    np.testing.assert_allclose(c.u, a.u, rtol=1e-14)
    np.testing.assert_allclose(after, c.twin_s(), rtol=1e-14)
    assert d.selected_s[0] == pytest.approx(before.sum(), rel=1e-14)


def test_read_kernels() -> None:
    rng = np.random.default_rng(1)
    volts, g = rng.normal(0, 0.1, (3, 4)), rng.uniform(1e-7, 2e-7, (4, 5))
    line_s = g.sum(axis=1)
    assert kernels.read_power(volts, line_s) == pytest.approx(float((volts**2 @ line_s).sum()), rel=1e-13)
    mask = rng.random((4, 5)) < 0.5
    out = np.empty((2, mask.sum()))
    variance, power = kernels.read_cells(mask, g, line_s, 1e5, 0.1, 0.0, 0.0, *KEY, 0, out)
    row_v = 0.1 / (1 + 1e5 * line_s)
    expected = (row_v[:, None] * g)[mask]
    np.testing.assert_allclose(out, [expected, -expected], rtol=1e-14)
    assert variance == 0
    assert power == pytest.approx(float((np.broadcast_to((row_v**2 * line_s)[:, None], (4, 5))[mask]).sum()), rel=1e-13)


def test_convert_rounds_and_clips() -> None:
    x = np.array([-2.0, -1.0, -0.3, 0.0, 0.26, 0.99, 1.7])
    y = x.copy()
    assert kernels.convert(y, 0.0, 0.0, 1.0)
    assert y.tolist() == np.clip(x, -1, 1).tolist()
    lsb = 1 / 3  # 3 bits over -1 .. 1: codes at -1, -2/3 .. 1, and one at 0, so that 0 V is 0 V
    y = x.copy()
    assert kernels.convert(y, 0.0, lsb, 1.0)
    np.testing.assert_allclose(y, [-1, -1, -1 / 3, 0, 1 / 3, 1, 1], rtol=1e-12)
    y = np.array([0.1, 0.2])
    assert not kernels.convert(y, 0.5, 0.0, np.inf)
    np.testing.assert_allclose(y, [0.6, 0.7])
