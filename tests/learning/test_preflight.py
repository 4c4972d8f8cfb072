"""The reachability programme against hand-made cases, and every sentence it can say."""

from __future__ import annotations

from dataclasses import replace
from math import atanh

import numpy as np
import pytest

from neurobench.bench.steps import DeviceSpan
from neurobench.learning import preflight
from neurobench.learning.datasets import letters, seed_patterns
from neurobench.learning.perceptron import with_bias
from neurobench.learning.preflight import Bounds, Setting, bounds, cell_reach, decide, largest_margin_a, suspicious
from neurobench.learning.synapses import adjacent

CURVE = tuple(1e-6 + 1e-8 * n for n in range(11))
SPAN = DeviceSpan(1e-6, 1.1e-6, 1e-8, 1e-9, 0.0, False, "declared", CURVE)
FRESH = np.zeros((1, 2), np.int64)
SETTING = Setting(None, None, 0.8, 5.0, 256, 0.1, 0.3, True, True, 1e-9)


def equal(reach_s: float, inputs: int, neurons: int) -> Bounds:
    full = np.full((inputs, neurons), reach_s)
    return Bounds(-full, full, "declared")


def test_seed_task_with_equal_bounds_reaches_two_weights() -> None:
    """W = w (-1, +1, +1, -1) gives 2 w V on patterns one bit off their prototype; no weights do better."""
    data = seed_patterns()
    assert largest_margin_a(0.1 * data.inputs, data.targets, equal(78e-9, 4, 2)) == pytest.approx(2 * 0.1 * 78e-9)


def test_offsets_larger_than_the_reach_are_not_trained_away() -> None:
    data = seed_patterns()
    start = np.full((4, 2), 90e-9) * np.array([[1], [-1], [-1], [1]])
    start[:, 1] *= -1
    without = largest_margin_a(0.1 * data.inputs, data.targets, equal(78e-9, 4, 2), start)
    assert without < 0


def test_letters_are_separable_with_a_bias_row_and_the_margin_is_linear() -> None:
    data = letters()
    volts = 0.1 * with_bias(data.inputs, True)
    one = largest_margin_a(volts, data.targets, equal(1e-6, 10, 3))
    assert one > 0
    assert largest_margin_a(volts, data.targets, equal(2e-6, 10, 3)) == pytest.approx(2 * one)


def test_what_no_weights_can_do_has_no_margin() -> None:
    xor = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    targets = np.array([[-1.0], [1.0], [1.0], [-1.0]])
    assert largest_margin_a(0.1 * with_bias(xor, True), targets, equal(1e-6, 3, 1)) == pytest.approx(0, abs=1e-15)


def test_a_chip_with_offsets_that_was_used_has_less_to_give() -> None:
    """SET-only: what is left of the curve is counted from the pulses that the passport holds."""
    above, left = np.full((1, 2), 2e-6), np.full((1, 2), np.inf)
    up, _, basis = cell_reach(above, SPAN, left, np.array([[0, 7]]), 50)
    assert basis == "assumed"
    assert up[0] == pytest.approx([10e-8, 3e-8], rel=1e-9)


def test_cells_that_may_not_move_bound_their_weights() -> None:
    bad = np.zeros((2, 2), np.bool_)
    bad[0, 0] = True
    pairs = adjacent((2, 2), 2, 1, bad)
    reach = cell_reach(np.full((2, 2), 1e-6), SPAN, np.full((2, 2), np.inf), np.zeros((2, 2), int), 50)
    within = bounds(pairs, reach, "set_only")
    np.testing.assert_allclose(within.high_s, [[0], [1e-7]], atol=1e-18)
    np.testing.assert_allclose(within.low_s, [[-1e-7], [-1e-7]])


def test_reach_counts_the_pulses_that_are_left_and_the_state() -> None:
    grid = np.array([[1e-6, 1.05e-6], [1.1e-6, 1e-6]])
    left = np.array([[3.0, np.inf], [np.inf, 0.0]])
    up, down, basis = cell_reach(grid, SPAN, left, np.zeros_like(left, int), 50)
    np.testing.assert_allclose(up, [[3e-8, 5e-8], [0, 0]], atol=1e-13)
    assert not down.any()
    assert basis == "declared"


def test_a_chip_beyond_its_curve_is_taken_as_fresh_and_called_assumed() -> None:
    up, _, basis = cell_reach(np.full((1, 2), 2e-6), SPAN, np.full((1, 2), np.inf), FRESH, 4)
    np.testing.assert_allclose(up, 4e-8, rtol=1e-9)
    assert basis == "assumed"


def test_a_curve_that_ends_before_the_device_goes_on_with_its_last_step() -> None:
    span = replace(SPAN, g_max_s=1.3e-6)
    up, _, _ = cell_reach(np.array([[1.2e-6, 1e-6]]), span, np.full((1, 2), np.inf), FRESH, 15)
    np.testing.assert_allclose(up, [[1e-7, 1.5e-7]], rtol=1e-9)


def test_set_reset_adds_the_way_down() -> None:
    span = replace(SPAN, depresses=True, depression_s=tuple(reversed(CURVE)))
    reach = cell_reach(np.full((1, 2), 1.05e-6), span, np.full((1, 2), np.inf), FRESH, 50)
    within = bounds(adjacent((1, 2), 1, 1), reach, "set_reset")
    assert within.high_s[0, 0] == pytest.approx(1e-7)
    assert within.low_s[0, 0] == pytest.approx(-1e-7)


def test_reachable_says_so_and_chooses_beta_and_averages_from_it() -> None:
    verdict = decide(SETTING, 14e-9, -1e-9, 0.8e-9, "assumed")
    assert verdict.ok
    assert verdict.sentence.startswith("reachable: the assumed bounds")
    assert verdict.goal_a == pytest.approx(7e-9)
    assert verdict.beta_per_a == pytest.approx(atanh(0.8) / 7e-9)
    assert verdict.averages == 4
    assert 5 * 0.8e-9 / verdict.averages**0.5 <= preflight.NOISE_SHARE * 14e-9


@pytest.mark.parametrize(
    ("setting", "reachable_a", "without_a", "sigma_a", "words"),
    [
        (SETTING._replace(auto_zero=False), 14e-9, -1e-9, 0.0, "auto_zero=true would"),
        (SETTING, 0.0, 0.0, 0.0, "no weights within the assumed bounds"),
        (SETTING._replace(beta_per_a=6e6), 15.5e-9, 0.0, 0.0, r"beta_per_a >= 7.09e\+07"),
        (SETTING._replace(averages=1), 2e-9, 0.0, 1e-9, "averages >= 7 or read_v >= 0.25 V"),
        (SETTING._replace(averages=1), 1e-9, 0.0, 1e-9, "averages >= 25 would"),
    ],
)
def test_unreachable_says_what_is_missing_and_what_would_fix_it(
    setting: Setting, reachable_a: float, without_a: float, sigma_a: float, words: str
) -> None:
    import re

    verdict = decide(setting, reachable_a, without_a, sigma_a, "assumed")
    assert not verdict.ok
    assert verdict.sentence.startswith("not reachable")
    assert re.search(words, verdict.sentence), verdict.sentence
    assert "\n" not in verdict.sentence


def test_an_accuracy_can_be_a_goal_where_no_weights_serve_every_pattern() -> None:
    verdict = decide(SETTING._replace(every_pattern=False, typical_a=3e-9), 0.0, 0.0, 0.1e-9, "declared")
    assert verdict.ok
    assert verdict.goal_a == pytest.approx(1.5e-9)
    assert "the goal is an accuracy" in verdict.sentence


def test_dead_and_shorted_cells_are_seen_and_fresh_ones_are_not() -> None:
    grid = np.array([[1e-6, 1e-9], [1e-3, 1.3e-6]])
    dead, shorted = suspicious(grid, 1e-9, SPAN)
    assert dead.tolist() == [[False, True], [False, False]]
    assert shorted.tolist() == [[False, False], [True, False]]
    removed = replace(SPAN, g_min_s=0.0, g_max_s=7e-7)
    assert not suspicious(np.zeros((2, 2)), 1e-9, removed)[0].any()


def test_a_short_is_seen_beside_the_most_conducting_device_of_the_library() -> None:
    metal_oxide = replace(SPAN, g_min_s=3.16e-6, g_max_s=3.16e-4)
    grid = np.array([[1e-5, 3.1e-4], [1e-3, 2e-5]])
    assert suspicious(grid, 0.0, metal_oxide)[1].tolist() == [[False, False], [True, False]]


def test_shorts_are_seen_where_they_are_the_majority() -> None:
    grid = np.full((4, 4), 1e-3)
    grid[0] = 4.6e-7
    grid[1, 0] = 4.7e-7
    shorted = suspicious(grid, 4e-9, replace(SPAN, g_min_s=4.5e-7, g_max_s=5.2e-7))[1]
    assert shorted.sum() == 11
    assert not shorted[0].any()


def test_cells_above_their_curve_by_their_offsets_are_no_shorts() -> None:
    # Offsets of the seed's shape, ten times the range of the curve: lognormal with sigma ln(10) / 5.
    offsets = np.random.default_rng(5).lognormal(np.log(5e-6), np.log(10) / 5, (32, 32))
    assert not suspicious(offsets, 1e-9, replace(SPAN, g_min_s=0.0, g_max_s=7e-7))[1].any()


def test_a_chip_of_nothing_but_shorts_is_seen() -> None:
    """And the seed's scaled chip, whose offsets reach 2.3 times its curve, is not taken for one."""
    _, shorted = suspicious(np.full((2, 2), 1e-3), 1e-9, SPAN)
    assert shorted.all()
    scaled = DeviceSpan(0.0, 7.8e-7, 1e-8)
    _, shorted = suspicious(np.array([[1e-7, 1.8e-6], [9e-7, 1.2e-6]]), 1e-9, scaled)
    assert not shorted.any()
