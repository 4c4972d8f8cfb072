"""Differential pairs: where pulses go, products in the array and on the host, write-verify, refresh, retirement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ideal_bench import IdealBench

from neurobench.bench.steps import Apply, Result
from neurobench.bench.stimulus import Bias, Pulse, PulseBatch
from neurobench.errors import CapabilityMissing, UsageError
from neurobench.learning.synapses import (
    Pairs,
    Pulses,
    ReadSettings,
    Retirement,
    adjacent,
    allow_refresh,
    book,
    cell_read,
    multiply,
    multiply_back,
    refresh,
    remapped,
    write_verify,
)

SHAPE = (4, 6)
READ = ReadSettings(0.1)
PULSE = Pulse(1.0, 1e-6)
PULSES = Pulses(PULSE, PULSE)


def bench(sigma_s: float = 0.0) -> IdealBench:
    start = np.random.default_rng(0).uniform(1e-6, 2e-6, SHAPE)
    return IdealBench(lambda index: start + 1e-8 * index, SHAPE, sigma_s)


def done(on: IdealBench, steps: Any) -> Any:
    def wrapped() -> Any:
        value = yield from steps
        return Result(True, {"value": value})

    return on.run(wrapped()).values["value"]


def test_products_in_the_array_and_on_the_host_agree() -> None:
    on, pairs = bench(), adjacent(SHAPE, 3, 2)
    volts = np.array([[0.1, -0.1, 0.1], [0.05, 0.0, -0.1]])
    exact = volts @ pairs.weights(on.level(on.index))
    for where in ("array", "host"):
        product = done(on, multiply(pairs, volts, where, READ))  # type: ignore[arg-type]
        np.testing.assert_allclose(product.currents_a, exact, rtol=1e-12)


def test_products_on_scattered_lines() -> None:
    on = bench()
    pairs = Pairs(
        SHAPE, np.array([3, 1], np.int32), np.array([4, 0], np.int32), np.array([5, 3], np.int32), np.ones(SHAPE, bool)
    )
    volts = np.array([[0.1, -0.05]])
    grid = on.level(on.index)
    by_hand = [
        [
            0.1 * (grid[3, 4] - grid[3, 5]) - 0.05 * (grid[1, 4] - grid[1, 5]),
            0.1 * (grid[3, 0] - grid[3, 3]) - 0.05 * (grid[1, 0] - grid[1, 3]),
        ]
    ]
    np.testing.assert_allclose(done(on, multiply(pairs, volts, "array", READ)).currents_a, by_hand, rtol=1e-12)
    np.testing.assert_allclose(done(on, multiply(pairs, volts, "host", READ)).currents_a, by_hand, rtol=1e-12)


def test_products_backwards_through_the_array_are_the_transposed_weights() -> None:
    on, pairs = bench(), adjacent(SHAPE, 4, 3)
    errors = np.random.default_rng(4).normal(size=(5, 3)) * 1e3
    weights = pairs.weights(on.level(on.index))
    cost = {"reads": 0.0, "read_s": 0.0}
    in_array = done(on, multiply_back(pairs, errors, True, np.zeros((4, 3)), READ, cost))
    np.testing.assert_allclose(in_array, errors @ weights.T, rtol=1e-9)
    assert cost["reads"] == 5 * 4
    held = done(on, multiply_back(pairs, errors, False, weights, READ, cost))
    np.testing.assert_allclose(held, in_array, rtol=1e-9)


def test_declared_sigma_of_a_product_is_the_one_seen() -> None:
    on, pairs = bench(2e-9), adjacent(SHAPE, 4, 3)
    volts = np.full((1, 4), 0.1)
    for settings in (READ, ReadSettings(0.1, 4, True)):
        host = [done(on, multiply(pairs, volts, "host", settings)).currents_a for _ in range(400)]
        assert np.std(host) > 0
        spread = np.std(np.array(host) - np.mean(host, axis=0))
        expected = 2e-9 * 0.1 * (2 * 4) ** 0.5 / (settings.averages * (1 + settings.both_polarities)) ** 0.5
        assert spread == pytest.approx(expected, rel=0.08)


@given(
    wish=st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=4, max_size=4),
    bad=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=6),
    both=st.booleans(),
)
def test_pulses_go_where_they_should_and_never_to_bad_cells(
    wish: list[list[int]], bad: set[tuple[int, int]], both: bool
) -> None:
    mask = np.zeros(SHAPE, np.bool_)
    for cell in bad:
        mask[cell] = True
    pairs, counts = adjacent(SHAPE, 4, 3, mask), np.zeros(SHAPE, np.int8)
    signs = np.array(wish, np.int8)
    pairs.nudge(signs, "set_reset" if both else "set_only", counts)
    assert not counts[mask].any()
    plus, minus = pairs.plus_of(counts), pairs.minus_of(counts)
    up, down = np.maximum(signs, 0), np.maximum(-signs, 0)
    good_plus, good_minus = pairs.plus_of(~mask), pairs.minus_of(~mask)
    np.testing.assert_array_equal(plus, np.where(good_plus, signs if both else up, 0))
    np.testing.assert_array_equal(minus, np.where(good_minus, -signs if both else down, 0))


def test_spare_lines_replace_those_with_bad_cells() -> None:
    bad = np.zeros((5, 8), np.bool_)
    bad[0, 1] = bad[2, 4] = True
    pairs = remapped((5, 8), 4, 2, bad)
    assert pairs.plus.tolist() == [2, 6]
    assert pairs.minus.tolist() == [3, 7]
    assert pairs.rows.tolist() == [0, 1, 2, 3]
    bad[1, 6] = True
    assert remapped((5, 8), 4, 3, bad).rows.tolist() != [0, 1, 2, 3]


def test_without_bad_cells_the_layout_is_the_adjacent_one() -> None:
    none = np.zeros(SHAPE, np.bool_)
    chosen, plain = remapped(SHAPE, 4, 3, none), adjacent(SHAPE, 4, 3)
    assert chosen.plus.tolist() == plain.plus.tolist() == [0, 2, 4]


def test_pairs_that_do_not_fit_or_overlap_are_refused() -> None:
    with pytest.raises(UsageError, match="do not fit"):
        adjacent(SHAPE, 5, 3)
    with pytest.raises(UsageError, match="share a column"):
        Pairs(SHAPE, np.array([0]), np.array([0, 2]), np.array([1, 2]), np.ones(SHAPE, bool))


def test_write_verify_brings_cells_to_their_targets_and_counts() -> None:
    on = bench()
    grid = on.level(on.index)
    target, mask = grid.copy(), np.zeros(SHAPE, np.bool_)
    target[0, 0] += 7e-8
    target[1, 1] -= 5e-8
    target[2, 2] += 1e-6
    mask[[0, 1, 2], [0, 1, 2]] = True
    read = cell_read(np.ones(SHAPE, bool), READ)
    written = done(on, write_verify(target, mask, PULSES, Bias.HALF, read, 6e-9, 20))
    assert written.counts[[0, 1, 2], [0, 1, 2]].tolist() == [7, 5, 20]
    assert written.pulses == 32
    assert written.missed.sum() == 1
    assert written.missed[2, 2]


def test_write_verify_depresses_with_the_depressing_pulse() -> None:
    on, mask = bench(), np.zeros(SHAPE, bool)
    target = on.level(on.index)
    target[0, 0] += 3e-8
    target[1, 1] -= 2e-8
    mask[[0, 1], [0, 1]] = True
    read, down = cell_read(np.ones(SHAPE, bool), READ), Pulse(0.8, 2e-6)
    written = done(on, write_verify(target, mask, Pulses(PULSE, down), Bias.HALF, read, 1e-9, 9))
    fired = [step.stimulus for step in on.log if isinstance(step, Apply)]
    assert [(batch.pulse, int(batch.counts.sum())) for batch in fired if isinstance(batch, PulseBatch)] == [
        (PULSE, 1), (down, -1), (PULSE, 1), (down, -1), (PULSE, 1)
    ]  # fmt: skip
    assert (written.pulses, written.reads, int(written.missed.sum())) == (5, 4, 0)


def test_refresh_lowers_a_pair_and_keeps_its_difference() -> None:
    on = bench()
    pairs = adjacent(SHAPE, 4, 3)
    on.index += 60
    worn = np.zeros((4, 3), np.bool_)
    worn[1, 2] = True
    before = on.level(on.index)
    read = cell_read(np.ones(SHAPE, bool), READ)
    done(on, refresh(pairs, worn, 1.0e-6, PULSES, Bias.HALF, read, 1e-8, 200))
    after = on.level(on.index)
    assert pairs.weights(after)[1, 2] == pytest.approx(pairs.weights(before)[1, 2], abs=2e-8)
    assert min(after[1, 4], after[1, 5]) == pytest.approx(1.0e-6, abs=1.1e-8)
    untouched = np.ones(SHAPE, bool)
    untouched[1, 4:] = False
    np.testing.assert_array_equal(after[untouched], before[untouched])


def test_refresh_without_depression_is_refused() -> None:
    with pytest.raises(CapabilityMissing, match="no depression curve"):
        allow_refresh(False)
    allow_refresh(True)


def test_a_cell_that_does_not_move_is_retired_and_a_moving_one_is_not() -> None:
    start = np.full((1, 3), 1e-6)
    watch = Retirement.fresh(10, start)
    watch.since = np.array([[10, 10, 9]], np.int32)
    lost = watch.look(start + np.array([[1e-7, 3e-9, 0.0]]), 1e-9)
    assert lost.tolist() == [[False, True, False]]
    assert watch.reference_s[0, 0] == pytest.approx(1.1e-6)
    assert watch.since.tolist() == [[0, 0, 9]]
    assert not watch.look(start, 1e-9).any()


def test_pulses_of_both_signs_are_booked_and_weights_need_their_own_grid() -> None:
    counts = np.array([[1, -2, 0], [-128, 127, -1]], np.int8)
    long, short = np.full((2, 3), 5, np.int64), np.zeros((2, 3), np.int32)
    book(counts, long, short)
    assert short.tolist() == [[1, 2, 0], [128, 127, 1]]
    assert (long - 5).tolist() == short.tolist()
    pairs = adjacent(SHAPE, 4, 3)
    grid = np.random.default_rng(0).random(SHAPE) * 1e-6
    assert (pairs.weights(grid) == grid[:, 0::2] - grid[:, 1::2]).all()
    with pytest.raises(UsageError, match="pairs on"):
        pairs.weights(grid[:2])
