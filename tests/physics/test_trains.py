"""Trains into a card: the estimators give back what made the trains, and say what was not measured."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neurobench.errors import CurveError
from neurobench.physics.card import Curve, DeviceCard, Origin, ReadProtocol, card_toml, parse_card
from neurobench.physics.fit import cubic_per_v2, split_cycles
from neurobench.physics.importers import ImportReport
from neurobench.physics.library import load_model
from neurobench.physics.trains import About, Train, card_from_trains

READ = ReadProtocol(voltage_v=0.1)


def about(sign: int = 1, reads: int = 1) -> About:
    origin = Origin(run="a-run", chip_id="A7", date="2026-01-01", simulated=False)
    return About("A7", "chip A7", "a test of the trains", "", READ, sign, origin, reads)


def saturating(points: int, direction: int, rate: float = 0.05) -> Any:
    share = 1 - (1 - rate) ** np.arange(points)
    return 2e-6 + 6e-6 * (share if direction > 0 else 1 - share)


def train(direction: int, device: int = 0, factor: float = 3.0, **more: Any) -> Train:
    rate, volts = more.pop("rate", 0.05), more.pop("amplitude_v", 1.5)
    points_s = more.pop("conductance_s", saturating(61, direction, rate))
    current_a = factor * volts * points_s[:-1]
    return Train(device, direction, volts, 1e-3, points_s, current_a, **more)


def made(trains: list[Train], **more: Any) -> ImportReport:
    return card_from_trains(trains, about(**more))


# ---------------------------------------------------------------------------------------------- noise


def test_scatter_between_cycles_is_split_into_what_made_it() -> None:
    rng, cycles, pulses, read_s, step_s = np.random.default_rng(1), 60, 200, 3e-9, 5e-9
    true = 1e-6 + np.cumsum(1e-9 + step_s * rng.standard_normal((cycles, pulses + 1)), axis=1)
    found = split_cycles(true + read_s * rng.standard_normal(true.shape))
    n = cycles * pulses
    # variances: step^2 and read^2 follow from var(d) and cov(d, d'), each known to about var(d) sqrt(2 / n)
    variance = step_s**2 + 2 * read_s**2
    assert found.step_sigma_s**2 == pytest.approx(step_s**2, abs=4 * variance * (10 / n) ** 0.5)
    assert found.read_sigma_s**2 == pytest.approx(read_s**2, abs=4 * variance * (2 / n) ** 0.5)
    assert found.steps == n


def test_what_two_cycles_share_is_no_noise_and_one_cycle_says_nothing() -> None:
    same = np.tile(saturating(20, 1), (2, 1))
    assert (split_cycles(same).read_sigma_s, split_cycles(same).step_sigma_s) == (0.0, 0.0)
    assert split_cycles(same[:1]).steps == 0


def test_a_point_of_many_reads_has_less_noise_than_one_read() -> None:
    rng = np.random.default_rng(2)
    noisy = [
        train(s, conductance_s=saturating(61, s) + 2e-8 * rng.standard_normal(61)) for s in (1, -1) for _ in range(30)
    ]
    one, eight = made(noisy).card.noise.read_sigma_s, made(noisy, reads=8).card.noise.read_sigma_s
    assert one == pytest.approx(2e-8, rel=0.1)
    assert one is not None
    assert eight == pytest.approx(one * 8**0.5)


# ---------------------------------------------------------------------------------------------- curves


@pytest.mark.parametrize("sign", [1, -1])
def test_a_quiet_device_is_replayed_exactly(sign: int) -> None:
    report = made([train(1), train(-1)], sign=sign)
    up, down = report.card.curve
    np.testing.assert_allclose(up.points(), saturating(61, 1), rtol=1e-12)
    np.testing.assert_allclose(down.points(), saturating(61, -1), rtol=1e-12)
    assert (up.amplitude_v, down.amplitude_v) == (1.5 * sign, -1.5 * sign)
    assert report.card.potentiating_sign == sign
    assert parse_card(tomllib.loads(card_toml(report.card)), "x") == report.card


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_devices_that_differ_in_their_step_give_the_median_one(spread: float) -> None:
    steps = np.exp(spread * np.linspace(-1.5, 1.5, 7))
    trains = [
        train(s, device, conductance_s=np.interp(k * np.arange(61), np.arange(400), saturating(400, s, 0.02)))
        for s in (1, -1)
        for device, k in enumerate(steps)
    ]
    report = made(trains)
    up, down = (c.points() for c in report.card.curve)
    np.testing.assert_allclose(up[:40], saturating(40, 1, 0.02), rtol=3e-3)
    np.testing.assert_allclose(down[:40], saturating(40, -1, 0.02), rtol=3e-3)
    assert report.card.spread.step_lognormal == pytest.approx(np.std(np.log(steps), ddof=1), rel=0.02, abs=1e-6)


def test_noise_in_a_curve_does_not_make_its_device_faster() -> None:
    rng, drift, cycles = np.random.default_rng(3), 1e-8, 16
    walk = 2e-6 + np.cumsum(drift + 5 * drift * rng.standard_normal((cycles, 301)), axis=1)
    card = made([train(1, conductance_s=one) for one in walk]).card
    curve = card.curve[0].points()
    assert curve[-1] - curve[0] == pytest.approx((walk[:, -1] - walk[:, 0]).mean(), rel=1e-9)
    pieces = np.unique(np.diff(curve).round(15)).size
    assert pieces < 30, "300 steps of noise are not 300 steps of the device"
    # the slope of a piece is known to a third: what is left cannot speed up a wandering device by more than a tenth
    slope = np.diff(curve)
    assert (slope.mean() * (1 / slope[slope > 0]).mean()) < 1.5


def test_several_conditions_ascend_and_each_is_its_own_curve() -> None:
    trains = [train(1, amplitude_v=v, rate=r) for v, r in ((2.0, 0.1), (1.5, 0.05), (1.8, 0.08))]
    card = made([*trains, train(-1)]).card
    assert [c.amplitude_v for c in card.curve] == [1.5, 1.8, 2.0, -1.5]
    model = load_model_of(card)
    fast, slow = model.response(1, 2.0, 1e-3), model.response(1, 1.5, 1e-3)
    between = model.response(1, 1.65, 1e-3)
    assert slow.delta.max() < between.delta.max() < fast.delta.max()


def load_model_of(card: DeviceCard) -> Any:
    from neurobench.physics.models.measured import build

    return build(card, "latent")


def test_what_did_not_move_or_did_not_begin_where_it_should_is_left_out_and_said() -> None:
    flat = np.full(61, 2e-6)
    odd = train(1, conductance_s=saturating(61, 1) + 3e-6, initialised=False)
    report = made([train(1), odd, train(1, device=1, conductance_s=flat, moved=False), train(-1)])
    said = "\n".join(report.lines)
    assert "1 of 3 trains used; 1 did not move; 1 did not begin at the start level" in said
    np.testing.assert_allclose(report.card.curve[0].points(), saturating(61, 1), rtol=1e-12)
    with pytest.raises(CurveError, match="no train in it moved"):
        made([train(1, conductance_s=flat, moved=False)])


def test_a_direction_that_reaches_less_far_is_said() -> None:
    short = saturating(61, -1)[:20]
    assert "depression was measured down to" in "\n".join(made([train(1), train(-1, conductance_s=short)]).lines)
    assert "only potentiation was measured" in "\n".join(made([train(1)]).lines)


# ---------------------------------------------------------------------------------------------- current


@pytest.mark.parametrize(
    ("factors", "law"), [({1.5: 1.0, 2.0: 1.0}, "ohmic"), ({1.5: 4.0}, "sinh"), ({1.0: None, 1.5: None}, "cubic")]
)
def test_the_law_is_the_one_that_holds_the_currents(factors: dict[float, float | None], law: str) -> None:
    cubic = {v: f if f is not None else (1 + 1.986 * v**2) / (1 + 1.986 * 0.01) for v, f in factors.items()}
    found = made([train(1, amplitude_v=v, factor=f) for v, f in cubic.items()]).card.write_current
    assert found is not None
    assert found.law == law
    for volts, factor in cubic.items():
        assert found.factor(volts, 0.1) == pytest.approx(factor, rel=1e-6)
    if law == "cubic":
        assert found.cubic_per_v2 == pytest.approx(1.986, rel=1e-6)


def test_currents_that_no_law_holds_give_none_and_are_said() -> None:
    report = made([train(1, amplitude_v=1.0, factor=50.0), train(1, amplitude_v=2.0, factor=0.2)])
    assert report.card.write_current is None
    assert "no law of a card holds them" in "\n".join(report.lines)
    unmeasured = Train(0, 1, 1.5, 1e-3, saturating(61, 1), np.full(60, np.nan))
    assert "not measured" in "\n".join(made([unmeasured]).lines)


def test_what_flows_through_the_neighbours_is_not_the_devices_current() -> None:
    trains = [train(s, amplitude_v=v, factor=f) for s in (1, -1) for v, f in ((1.5, 4.0), (2.0, 6.0))]
    leaking = [
        Train(t.device, t.direction, t.amplitude_v, t.width_s, t.conductance_s, t.in_pulse_a + t.amplitude_v * 9e-6)
        for t in trains
    ]
    report, clean = made(leaking), made(trains)
    assert "half-selected cells" in "\n".join(report.lines)
    assert "half-selected" not in "\n".join(clean.lines)
    assert report.card.write_current is not None
    assert clean.card.write_current is not None
    for volts in (1.5, 2.0):
        expected = clean.card.write_current.factor(volts, 0.1)
        assert report.card.write_current.factor(volts, 0.1) == pytest.approx(expected, rel=1e-6)
    assert report.card.curve[0].in_pulse_a == pytest.approx(leaking[0].in_pulse_a.tolist()), "as measured"


@given(st.floats(0.01, 50), st.floats(0.5, 5))
def test_cubic_law_comes_back(k: float, write_v: float) -> None:
    ratio = (1 + k * write_v**2) / (1 + k * 0.01)
    assert cubic_per_v2(ratio, write_v, 0.1) == pytest.approx(k, rel=1e-6)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1e6])
def test_a_cubic_law_that_cannot_be_is_refused(ratio: float) -> None:
    with pytest.raises(CurveError, match="cubic law needs"):
        cubic_per_v2(ratio, 1.0, 0.1)


# ---------------------------------------------------------------------------------------------- the card


def test_currents_in_a_card_are_one_for_each_pulse() -> None:
    Curve(direction="potentiate", conductance_s=(1e-6, 2e-6, 3e-6), in_pulse_a=(1e-3, 2e-3))
    with pytest.raises(ValidationError, match="one for each pulse"):
        Curve(direction="potentiate", conductance_s=(1e-6, 2e-6, 3e-6), in_pulse_a=(1e-3,))


def test_a_card_without_an_origin_is_a_card_as_before() -> None:
    card = load_model("lsmo-gaq3").card
    assert card.origin is None
    assert not card.simulated
    assert "origin" not in card_toml(card)
