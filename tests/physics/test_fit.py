"""Mean curve, noise split and compact fits, against what is known exactly and against the measured file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurobench.errors import CurveError
from neurobench.physics import library
from neurobench.physics.fit import (
    double_exponential,
    fit_double_exponential,
    mean_curve,
    mean_train,
    sinh_v0,
    split_noise,
)


def test_a_strictly_monotone_curve_is_its_own_mean() -> None:
    g = 1e-6 * np.array([1.0, 1.5, 1.75, 1.875])
    np.testing.assert_allclose(mean_curve(g, 1), g, rtol=1e-15)
    np.testing.assert_allclose(mean_curve(g[::-1], -1), g[::-1], rtol=1e-15)


def test_pooled_blocks_are_joined_at_their_centres() -> None:
    # 2, 1 is pooled to 1.5 at index 1.5; the straight lines to 0 and 4 pass through 0.5 .. and so on
    mean = mean_curve(1e-6 * np.array([0.5, 2.0, 1.0, 4.0]), 1)
    np.testing.assert_allclose(mean * 1e6, [0.5, 0.5 + 1 / 1.5, 1.5 + 2.5 * 0.5 / 1.5, 4.0], rtol=1e-12)
    assert np.all(np.diff(mean) > 0)


def test_the_mean_curve_keeps_the_number_of_pulses(shared_data: Path) -> None:
    g = np.loadtxt(shared_data / "cateru" / "datafile.csv", skiprows=1)
    mean = mean_curve(g, 1)
    assert np.unique(mean).size == 49  # plain isotonic blocks: 15
    assert np.sqrt(np.mean((g - mean) ** 2)) == pytest.approx(3.756e-9, rel=1e-3)


def test_split_of_the_measured_curve(shared_data: Path) -> None:
    g = np.loadtxt(shared_data / "cateru" / "datafile.csv", skiprows=1)
    noise = split_noise(g, mean_curve(g, 1))
    assert noise.lag1 == pytest.approx(-0.458, abs=5e-4)
    assert noise.read_sigma_s == pytest.approx(3.453e-9, rel=1e-3)
    assert noise.step_sigma_s == pytest.approx(1.476e-9, rel=1e-3)


@pytest.mark.parametrize(("read_s", "step_s"), [(3.7e-9, 1.3e-9), (4e-9, 0.0), (0.0, 2e-9)])
def test_the_split_finds_what_was_put_in(read_s: float, step_s: float) -> None:
    """A long synthetic train: read noise within 3 %, step noise within 6 % (or 3 % of the read noise where it is 0)."""
    rng = np.random.default_rng(7)
    mean = double_exponential(np.arange(40_001.0), 450e-9, 40e-9, 3.0, 30e-9, 5000.0)
    state = mean + np.append(0.0, np.cumsum(rng.normal(0, step_s, 40_000)))
    noise = split_noise(state + rng.normal(0, read_s, 40_001), mean)
    assert noise.read_sigma_s == pytest.approx(read_s, rel=0.03, abs=0.1 * step_s)
    assert noise.step_sigma_s == pytest.approx(step_s, rel=0.06, abs=0.2 * read_s)


def test_a_noise_free_curve_has_no_noise() -> None:
    g = 1e-6 + 1e-7 * np.sqrt(np.arange(30.0))
    noise = split_noise(g, mean_curve(g, 1))
    assert (noise.read_sigma_s, noise.step_sigma_s) == (0.0, 0.0)
    assert split_noise(g[:3], g[:3] + 1e-9).steps == 2


def test_the_double_exponential_finds_its_own_parameters() -> None:
    g = double_exponential(np.arange(60.0), 450e-9, 40e-9, 0.8, 30e-9, 12.0)
    fit = fit_double_exponential(g)
    np.testing.assert_allclose(
        [fit.start_s, fit.a1_s, fit.n1, fit.a2_s, fit.n2], [450e-9, 40e-9, 0.8, 30e-9, 12.0], rtol=1e-5
    )
    assert fit.rms_s < 1e-15
    with pytest.raises(CurveError, match=">= 8 points"):
        fit_double_exponential(np.full(20, 1e-6))


def test_the_demo_device_is_the_fit_of_the_measured_curve_and_not_its_samples(shared_data: Path) -> None:
    g = np.loadtxt(shared_data / "cateru" / "datafile.csv", skiprows=1)
    fit = fit_double_exponential(g)
    card = library.card("lsmo-gaq3")
    (curve,) = card.curve
    assert curve.conductance_s is None
    np.testing.assert_allclose(curve.points(), fit.curve(50), rtol=1e-6)
    residual = g - curve.points()
    assert np.sqrt(np.mean(residual**2)) == pytest.approx(4.05e-9, rel=5e-3)  # as the card's notes say
    assert np.abs(residual).max() == pytest.approx(14.6e-9, rel=5e-3)
    noise = split_noise(g, fit.curve(50))
    assert card.noise.read_sigma_s == pytest.approx(noise.read_sigma_s, rel=1e-3)
    assert card.noise.step_sigma_s == pytest.approx(noise.step_sigma_s, rel=1e-3)


@pytest.mark.parametrize("ratio", [1.05, 12.0, 1853.0, 1e6])
def test_sinh_law_gives_back_its_ratio(ratio: float) -> None:
    v0 = sinh_v0(ratio, 2.0, 0.05)
    chord = np.sinh(2.0 / v0) / 2.0 / (np.sinh(0.05 / v0) / 0.05)
    assert chord == pytest.approx(ratio, rel=1e-9)
    with pytest.raises(CurveError, match="ratio > 1"):
        sinh_v0(0.9, 2.0, 0.05)


def test_a_mean_train_of_equal_trains_is_that_train() -> None:
    up = np.exp(np.linspace(np.log(1e-9), np.log(1e-6), 31))
    train, relative, scatter = mean_train([up, up], 1)
    np.testing.assert_allclose(train, up, rtol=1e-9)
    np.testing.assert_allclose(relative, 1.0)
    assert scatter < 1e-12
    train, _, _ = mean_train([up[::-1], up[::-1]], -1)
    np.testing.assert_allclose(train, up[::-1], rtol=1e-9)


def test_trains_are_averaged_at_equal_conductance_not_at_equal_index() -> None:
    fast, slow = (np.exp(np.linspace(np.log(1e-9), np.log(1e-6), n)) for n in (11, 31))
    train, relative, _ = mean_train([fast, slow], 1)
    steps = np.diff(np.log(train))
    np.testing.assert_allclose(steps, (np.log(1e3) / 10 + np.log(1e3) / 30) / 2, rtol=1e-9)
    assert relative[0] < 1 < relative[1]
