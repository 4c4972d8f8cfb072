"""VTEAM against the published constants (published-results 3.1)."""

from __future__ import annotations

import numpy as np
import pytest

from neurobench.physics.library import load_model
from neurobench.physics.rates import RateLaw

R_ON, R_OFF = 50.0, 1000.0
MODEL = load_model("vteam")


def law() -> RateLaw:
    assert MODEL.rate is not None
    return MODEL.rate


def resistance_ohm(u: float) -> float:
    return 1.0 / float(MODEL.level(np.array(u)))


def at(x: float) -> float:
    """State of x / D: R = R_on + (R_off - R_on) x / D."""
    return MODEL.state(1.0 / (R_ON + (R_OFF - R_ON) * x))


@pytest.mark.parametrize(("volts", "seconds"), [(1.0, 122.449e-9), (0.1, 1.5e-6), (-0.4, 0.300e-9), (-1.0, 4.6875e-12)])
def test_a_full_traverse_takes_the_published_time(volts: float, seconds: float) -> None:
    """Positive volts raise the resistance: towards the potentiating direction they are negative."""
    start, end = (1.0, 0.0) if volts > 0 else (0.0, 1.0)
    for share, arrives in ((1 - 1e-4, False), (1 + 1e-5, True)):
        (by,) = law().doses(np.array([0.0, share * seconds]), np.full(2, -volts))
        assert (float(law().moved(np.array([start]), by)[0]) == end) is arrives
    assert abs(law().doses(np.array([0.0, seconds]), np.full(2, -volts))[0]) == pytest.approx(1, rel=1e-5)


def test_between_the_thresholds_nothing_drifts_for_ever() -> None:
    ages, inside = np.array([0.0, 1e12, 2e12]), np.array([-0.02, 0.2, -0.02])
    assert law().doses(ages, inside).size == 0
    assert law().doses(ages, np.nextafter(inside, np.array([-1, 1, -1]))).size > 0


@pytest.mark.parametrize("x", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_the_resistance_is_linear_in_time_at_constant_voltage(x: float, share: float) -> None:
    (by,) = law().doses(np.array([0.0, share * 122.4489796e-9]), np.array([-1.0, -1.0]))
    found = resistance_ohm(float(law().moved(np.array([at(x)]), by)[0]))
    assert found == pytest.approx(min(R_ON + (R_OFF - R_ON) * (x + share), R_OFF), rel=1e-7)


def test_a_pulse_moves_the_resistance_as_the_equation_says() -> None:
    rate_per_s = 5e-4 * (0.1 / 0.02 - 1) / 3e-9
    after = MODEL.response(-1, 0.1, 5e-8).step(np.array([at(0.25)]))
    assert resistance_ohm(float(after[0])) == pytest.approx(
        R_ON + (R_OFF - R_ON) * (0.25 + rate_per_s * 5e-8), rel=1e-4
    )


def test_the_lobes_of_a_sine_are_the_published_areas() -> None:
    """|int I dV| of a sine of 1 V from x = 0, 20 000 straight pieces a period: 5 MHz 3.603e-3 / 0.841e-3 A V,
    50 MHz 3.172e-3 / 0.429e-3 A V; the loops are pinched."""
    for hertz, plus, minus in ((5e6, 3.603e-3, 0.841e-3), (50e6, 3.172e-3, 0.429e-3)):
        t_s = np.linspace(0, 1 / hertz, 20001)
        v, u = np.sin(2 * np.pi * hertz * t_s), np.empty(20001)
        u[0] = at(0.0)
        for k in range(20000):
            u[k + 1] = u[k]
            for by in law().doses(t_s[k : k + 2], -v[k : k + 2]):
                u[k + 1] = law().moved(u[k + 1 : k + 2], by)[0]
        current_a = MODEL.level(u) * v
        half = 10000
        areas = [abs(np.trapezoid(current_a[at], v[at])) for at in (slice(0, half + 1), slice(half, None))]
        np.testing.assert_allclose(areas, [plus, minus], rtol=5e-3)
        assert abs(current_a[half]) < 1e-9
