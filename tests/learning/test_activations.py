"""Equations 1, 3, 4 and 5 against plain numpy, and what convergence statistics say."""

from __future__ import annotations

from math import atanh

import numpy as np
import pytest

from neurobench.learning.activations import accuracy, goal_current_a, judge
from neurobench.learning.convergence import Noise, criterion, margin_a, spread_a, wilson
from neurobench.learning.manhattan import hidden_deltas, signs

BETA, GOAL = 6e6, 0.8


@pytest.fixture
def currents() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 2e-7, (7, 3))


@pytest.fixture
def targets() -> np.ndarray:
    return np.where(np.random.default_rng(2).random((7, 3)) < 0.5, -1.0, 1.0)


def test_judgement_is_the_published_equations(currents: np.ndarray, targets: np.ndarray) -> None:
    judged = judge(currents, targets, BETA, GOAL)
    f = np.tanh(BETA * currents)
    np.testing.assert_allclose(judged.activations, f, rtol=1e-13)
    np.testing.assert_allclose(judged.deltas, (targets * GOAL - f) * BETA / np.cosh(BETA * currents) ** 2, rtol=1e-12)
    missing = np.where(targets > 0, np.maximum(GOAL - f, 0), np.maximum(f + GOAL, 0))
    assert judged.error == pytest.approx(missing.sum(), rel=1e-12)
    assert judged.margin_a == (currents * targets).min()
    assert not judged.satisfied


def test_exactly_at_the_goal_is_satisfied() -> None:
    at_goal = np.array([[0.5, -0.5]])
    judged = judge(np.arctanh(at_goal), np.array([[1.0, -1.0]]), 1.0, float(np.tanh(np.arctanh(0.5))))
    assert judged.satisfied
    assert judged.error == 0


def test_currents_far_beyond_the_goal_do_not_overflow() -> None:
    judged = judge(np.array([[1.0]]), np.array([[-1.0]]), 1e6, GOAL)
    assert judged.deltas[0, 0] == 0
    assert judged.error == pytest.approx(1.8)


def test_goal_current() -> None:
    assert goal_current_a(BETA, GOAL) == atanh(0.8) / 6e6 == pytest.approx(1.83e-7, rel=1e-3)


def test_signs_are_those_of_the_summed_gradient(currents: np.ndarray, targets: np.ndarray) -> None:
    deltas = judge(currents, targets, BETA, GOAL).deltas
    volts = np.random.default_rng(3).choice([-0.1, 0.1], (7, 5))
    np.testing.assert_array_equal(signs(deltas, volts), np.sign(volts.T @ deltas))


def test_a_gradient_that_cancels_exactly_moves_nothing() -> None:
    deltas, volts = np.array([[0.3], [-0.3]]), np.array([[0.1, 0.1], [0.1, -0.1]])
    assert signs(deltas, volts).tolist() == [[0], [1]]


def test_hidden_deltas() -> None:
    np.testing.assert_allclose(hidden_deltas(np.array([[2.0, 3.0]]), np.array([[0.5, -1.0]])), [[1.5, 0.0]])


def test_accuracy_by_argmax_and_by_bits() -> None:
    targets = np.array([[1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    got = np.array([[3e-9, 1e-9], [2e-9, 1e-9], [1e-9, -1e-9]])
    assert accuracy(got[:2], targets[:2], "argmax") == 0.5
    assert accuracy(got, targets, "bits", 2e-9) == pytest.approx(2 / 3)
    assert accuracy(got, targets, "bits", 0.5e-9) == 0
    assert np.isnan(accuracy(got[:0], targets[:0], "bits"))


def test_criterion_takes_the_larger_of_noise_and_goal() -> None:
    noise = Noise(3e-10, 4e-10)
    assert noise.sigma_a == pytest.approx(5e-10)
    assert criterion(noise, 5, 1e-9, 3).required_a == pytest.approx(2.5e-9)
    assert criterion(noise, 5, 8e-9, 3).required_a == pytest.approx(4e-9)


def test_margin_and_spread_of_repeats() -> None:
    rng = np.random.default_rng(0)
    stack = np.array([[[5.0, -5.0]]]) + rng.normal(0, 0.1, (4000, 1, 2))
    targets = np.array([[1.0, -1.0]])
    assert spread_a(stack) == pytest.approx(0.1, rel=0.03)
    assert 4.4 < margin_a(stack, targets) < 4.8
    assert np.isnan(spread_a(stack[:1]))


def test_wilson_interval_known_values() -> None:
    low, high = wilson(12, 3000)
    assert (round(low, 5), round(high, 5)) == (0.00229, 0.00698)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1.0)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
