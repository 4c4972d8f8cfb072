"""Thresholds that adapt, scaling that finds its rate, and normalisation that knows what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neurobench.errors import UsageError
from neurobench.learning import homeostasis
from neurobench.learning.homeostasis import DIEHL_COOK, AdaptiveThreshold, Scaling
from neurobench.learning.quantised import Quantiser

weights_of = arrays.arrays(np.float64, (6, 3), elements=st.floats(0.01, 1.0))


def test_a_threshold_rises_with_each_spike_and_decays_between_them() -> None:
    p, theta = AdaptiveThreshold(0.5, 0.1), np.zeros(2)
    for tick in range(30):
        theta = homeostasis.adapted(theta, np.array([tick in (0, 10), False]), p, 10e-3)
    expected = 0.5 * (np.exp(-29 * 0.1) + np.exp(-19 * 0.1))
    assert theta == pytest.approx([expected, 0.0])


def test_a_threshold_of_diehl_and_cook_settles_where_rise_and_decay_balance() -> None:
    # one spike every 0.1 s: theta = step / (1 - exp(-0.1 / tau)), about step rate tau
    theta = np.array([DIEHL_COOK.step / -np.expm1(-0.1 / DIEHL_COOK.tau_s)])
    assert theta[0] == pytest.approx(0.05e-3 * 10 * 1e4, rel=1e-5)
    assert homeostasis.adapted(theta, np.array([True]), DIEHL_COOK, 0.1) == pytest.approx(theta, rel=1e-12)


def test_scaling_keeps_the_ratios_of_a_neurons_weights() -> None:
    weights, p = np.array([[0.1, 0.5], [0.2, 0.25]]), Scaling(10.0, 1.0, 0.05)
    _, dw = homeostasis.scaled(np.array([0.0, 40.0]), np.array([False, False]), weights, p, 0.1)
    after = weights + dw
    assert after[0] / after[1] == pytest.approx(weights[0] / weights[1], rel=1e-12)
    assert (dw[:, 0] > 0).all()
    assert (dw[:, 1] < 0).all()


@pytest.mark.parametrize("first", [0.2, 5.0])
def test_scaling_brings_a_neuron_to_its_target_rate(first: float) -> None:
    p, rng, dt_s = Scaling(20.0, 1.0, 0.1), np.random.default_rng(5), 1e-3
    weights, rates, hz = np.full((4, 1), first / 4), np.array([20.0]), []
    for _ in range(20_000):
        rate = 30.0 * weights.sum()
        rates, dw = homeostasis.scaled(rates, rng.random(1) < rate * dt_s, weights, p, dt_s)
        weights = weights + dw
        hz.append(rate)
    assert np.mean(hz[10_000:]) == pytest.approx(20.0, rel=0.05)


@given(weights=weights_of, target=st.floats(0.1, 100))
def test_normalised_columns_have_the_target_sum(weights: Any, target: float) -> None:
    after = weights + homeostasis.normalised(weights, target)
    assert after.sum(axis=0) == pytest.approx(np.full(3, target), rel=1e-12)


def test_a_column_without_weight_is_left_alone() -> None:
    assert homeostasis.normalised(np.zeros((4, 2)), 1.0).tolist() == np.zeros((4, 2)).tolist()


@given(weights=weights_of, budget=st.integers(0, 4000), tolerance=st.sampled_from([0.0, 0.1]))
def test_normalisation_stays_within_its_budget_and_says_what_all_would_cost(
    weights: Any, budget: int, tolerance: float
) -> None:
    q = Quantiser(1e-3, 1e-3, "nearest")
    plan = homeostasis.normalisation(weights, 2.0, q, budget=budget, tolerance=tolerance)
    assert plan.pulses == plan.asked[plan.done].sum() <= budget
    assert not plan.counts[:, ~plan.done].any()
    assert (plan.off[plan.done] > tolerance).all()
    left_out = (plan.off > tolerance) & ~plan.done
    assert (plan.asked[left_out] > budget - plan.pulses).all()
    after = (weights + 1e-3 * plan.counts).sum(axis=0)[plan.done]
    assert after == pytest.approx(np.full(plan.done.sum(), 2.0), abs=6 * 0.5e-3 + 1e-9)


def test_the_cost_of_normalising_is_the_change_over_the_step() -> None:
    weights = np.full((10, 1), 0.5)
    plan = homeostasis.normalisation(weights, 6.0, Quantiser(0.01, 0.02, "nearest"), budget=1000)
    assert plan.asked.tolist() == [100]  # ten weights by 0.1 each, in steps of 0.01
    down = homeostasis.normalisation(weights, 4.0, Quantiser(0.01, 0.02, "nearest"), budget=1000)
    assert down.asked.tolist() == [50]


def test_the_worst_column_is_normalised_first() -> None:
    weights = np.array([[0.5, 0.2, 0.4]])
    plan = homeostasis.normalisation(weights, 1.0, Quantiser(0.1, 0.1, "nearest"), budget=8)
    assert plan.done.tolist() == [False, True, False]
    assert plan.asked.tolist() == [5, 8, 6]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: AdaptiveThreshold(-1.0, 1.0),
        lambda: AdaptiveThreshold(1.0, 0.0),
        lambda: Scaling(0.0, 1.0, 1.0),
        lambda: homeostasis.normalised(np.ones((1, 1)), 0.0),
        lambda: homeostasis.normalisation(np.ones((1, 1)), 1.0, Quantiser(1.0, 1.0), budget=-1),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="must be|not negative"):
        wrong()
