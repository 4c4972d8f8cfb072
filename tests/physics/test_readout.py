"""The ammeter: exact noise at the outputs, converters, flags."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neurobench.errors import ConfigError
from neurobench.physics.noise import Stream, key
from neurobench.physics.readout import ReadNoise, Readout

KEY = key(4, Stream.READ)


def test_noise_at_the_outputs_has_the_variance_of_the_devices() -> None:
    """2000 reads against sum_i v_i^2 sigma_ij^2, device by device; independent across reads, inputs and outputs."""
    rng = np.random.default_rng(0)
    volts, g = rng.uniform(-0.2, 0.2, (3, 6)), rng.uniform(1e-7, 1e-6, (6, 4))
    noise = ReadNoise(5e-9, 0.02)
    drawn, mean = np.zeros((2000, 2, 3, 4)), 0.0
    for n in range(len(drawn)):
        mean = noise.add(drawn[n], volts, g, KEY, n)
    exact = volts**2 @ (5e-9**2 + (0.02 * g) ** 2)
    z = drawn / np.sqrt(exact)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_allclose(z.var(axis=0), 1, atol=4.5 * np.sqrt(2 / 2000))
    assert mean == pytest.approx(exact.mean(), rel=1e-5)
    correlation = np.corrcoef(z.reshape(2000, -1).T) - np.eye(24)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_output_noise_has_the_distribution_of_noise_drawn_per_device() -> None:
    """The claim itself: a fresh G per read gives the same distribution (two-sample test)."""
    rng = np.random.default_rng(1)
    volts, g = rng.uniform(-0.2, 0.2, (1, 8)), rng.uniform(1e-7, 1e-6, (8, 1))
    ours = np.zeros((4000, 1, 1, 1))
    for n in range(len(ours)):
        ReadNoise(0.0, 0.1).add(ours[n], volts, g, KEY, n)
    fresh = rng.standard_normal((4000, 8)) * (0.1 * g[:, 0]) @ volts[0]
    assert stats.ks_2samp(ours.ravel(), fresh).pvalue > 1e-3


def test_the_float32_variance_is_right_to_a_thousandth() -> None:
    """At 1024 inputs and conductances over three decades; the error of a standard deviation is half of it."""
    rng = np.random.default_rng(2)
    volts, g = rng.uniform(-0.2, 0.2, (4, 1024)), 10 ** rng.uniform(-8, -5, (1024, 64))
    noise = ReadNoise(0.0, 0.05, averages=16)
    variance = (volts**2).astype(np.float32) @ noise._squared(g)
    exact = volts**2 @ ((0.05 * g) ** 2 / 16)
    assert np.abs(variance / exact - 1).max() < 1e-4


def test_averages_divide_the_variance() -> None:
    volts, g = np.full((1, 3), 0.1), np.full((3, 2), 1e-6)
    one = ReadNoise(1e-9, 0.01).add(np.zeros((1, 1, 2)), volts, g, KEY, 0)
    many = ReadNoise(1e-9, 0.01, 16).add(np.zeros((1, 1, 2)), volts, g, KEY, 0)
    assert one / many == pytest.approx(16, rel=1e-6)


def test_a_voltage_of_zero_reads_no_device_noise() -> None:
    currents = np.zeros((1, 1, 2))
    assert ReadNoise(1e-9, 0.01).add(currents, np.zeros((1, 3)), np.full((3, 2), 1e-6), KEY, 0) == 0
    assert not currents.any()


def test_the_same_read_index_gives_the_same_bits_and_another_gives_others() -> None:
    volts, g = np.full((2, 3), 0.1), np.full((3, 2), 1e-6)
    runs = []
    for index in (7, 7, 8):
        currents = np.zeros((2, 2, 2))
        ReadNoise(1e-9, 0.0).add(currents, volts, g, KEY, index)
        runs.append(currents)
    assert runs[0].tobytes() == runs[1].tobytes()
    assert not np.isin(runs[0], runs[2]).any()
    assert len(np.unique(runs[0])) == 8, "both polarities and all vectors draw for themselves"


def test_converter_steps_and_zero() -> None:
    readout = Readout(adc_bits=8, adc_range_a=1e-6)
    currents = np.linspace(-1e-6, 1e-6, 1001)
    raw = currents.copy()
    assert readout.convert(currents) == ()
    assert np.abs(currents - raw).max() <= readout.lsb_a / 2 * (1 + 1e-9)
    assert len(np.unique(np.round(currents / readout.lsb_a))) == 255
    zero = np.zeros(1)
    readout.convert(zero)
    assert zero[0] == 0
    assert readout.sigma_a(0.0) == pytest.approx(readout.lsb_a / np.sqrt(12))


def test_over_range_is_clipped_and_said() -> None:
    currents = np.array([0.5e-6, 2e-6])
    assert Readout(adc_range_a=1e-6).convert(currents) == ("over_range",)
    assert currents.tolist() == [0.5e-6, 1e-6]


def test_offset_comes_before_the_converter() -> None:
    currents = np.array([1e-9])
    assert Readout(offset_a=1.62e-9).convert(currents) == ()
    assert currents[0] == pytest.approx(2.62e-9)


def test_dac_leaves_the_asked_volts_alone() -> None:
    readout = Readout(dac_bits=4, dac_range_v=0.7)
    asked = np.array([[0.0, 0.11, -0.9]])
    volts, over = readout.drive(asked)
    np.testing.assert_allclose(volts, [[0.0, 0.1, -0.7]], rtol=1e-12)
    assert over
    assert asked[0, 1] == 0.11


@pytest.mark.parametrize("wrong", [{"adc_bits": 8}, {"dac_bits": 8}, {"adc_bits": 1, "adc_range_a": 1.0}])
def test_a_converter_needs_a_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="converter"):
        Readout(**wrong)  # type: ignore[arg-type]
