"""Rate models: closed forms against plain numpy, the published waveform checkpoints, and what must never happen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobench.errors import CapabilityMissing, ConfigError, UsageError
from neurobench.physics.card import DeviceCard, HalfSelect
from neurobench.physics.library import build_model, load_model
from neurobench.physics.rates import EXPONENTIAL, POWER, RateLaw, RateModel, Side, dose

DEVICE = load_model("threshold-exponential")
V0 = 1 / 7


def law_of(model: Any) -> RateLaw:
    assert model.rate is not None
    return model.rate  # type: ignore[no-any-return]


LAW = law_of(DEVICE)


# -- plain twins ------------------------------------------------------------------------------------------------------


def primitive(side: Side, theta: float, v: Any) -> Any:
    """Integral of r over V from the threshold to v."""
    if side.law == EXPONENTIAL:
        grown = side.scale * (np.exp(v / side.scale) - np.exp(theta / side.scale))
        return side.rate_hz * (grown - np.exp(theta / side.scale) * (v - theta))
    return side.rate_hz * theta / (side.scale + 1) * (v / theta - 1) ** (side.scale + 1)


def rate(side: Side, theta: float, v: float) -> float:
    if v <= theta:
        return 0.0
    if side.law == EXPONENTIAL:
        return float(side.rate_hz * (np.exp(v / side.scale) - np.exp(theta / side.scale)))
    return float(side.rate_hz * (v / theta - 1) ** side.scale)


def twin_dose(side: Side, a: float, b: float, seconds: float, factor: float) -> float:
    """By the primitive function of r: dose = seconds / (b - a) x its change, above the threshold."""
    theta = side.threshold_v * factor
    if a == b:
        return rate(side, theta, a) * seconds
    low, high = max(min(a, b), theta), max(a, b, theta)
    return float((primitive(side, theta, high) - primitive(side, theta, low)) * seconds / abs(b - a))


def twin_doses(law: RateLaw, t_s: Any, v: Any, factor: float = 1.0) -> list[float]:
    found: list[float] = []
    for k in range(len(t_s) - 1):
        a, b, seconds = float(v[k]), float(v[k + 1]), float(t_s[k + 1] - t_s[k])
        up, down = twin_dose(law.up, a, b, seconds, factor), -twin_dose(law.down, -a, -b, seconds, factor)
        for by in (up, down) if a > b else (down, up):
            if seconds > 0 and found and by * found[-1] > 0:
                found[-1] += by
            elif seconds > 0 and by:
                found.append(by)
    return found


def twin_moved(law: RateLaw, u: float, by: float) -> float:
    w = law.ratio * u / (1 + (law.ratio - 1) * u)
    side, room = (law.up, 1 - w) if by > 0 else (law.down, w)
    p = 1 - side.window
    if p == 0:
        left = room * np.exp(-abs(by))
    elif room == 0:
        left = 0.0
    else:
        left = max(room**p - p * abs(by), 0.0) ** (1 / p) if p > 0 else (room**p - p * abs(by)) ** (1 / p)
    w = 1 - left if by > 0 else left
    return float(w / (law.ratio - (law.ratio - 1) * w))


exponential_side = st.builds(
    Side,
    st.just(EXPONENTIAL),
    st.floats(1e-3, 1e3),
    st.floats(0.05, 2),
    st.floats(0.05, 1),
    st.sampled_from([0.0, 0.5]),
)
power_side = st.builds(
    Side, st.just(POWER), st.floats(1e-3, 1e3), st.floats(0.05, 2), st.floats(0.5, 6), st.sampled_from([0.0, 1.0, 2.0])
)
side = st.one_of(exponential_side, power_side)
laws = st.builds(RateLaw, side, side, st.sampled_from([1.0, 3.0, 20.0]))
voltages = st.lists(st.tuples(st.sampled_from([0.0, 1e-4, 1e-3, 7e-3]), st.floats(-3, 3)), min_size=1, max_size=12).map(
    lambda pieces: (np.cumsum([0.0, *(t for t, _ in pieces)]), np.array([0.0, *(v for _, v in pieces)]))
)
states = st.floats(0, 1, allow_subnormal=False)


@given(side, st.floats(-3, 3), st.floats(-3, 3), st.floats(1e-9, 1), st.floats(0.5, 1.5))
def test_the_dose_of_a_straight_piece_is_the_integral_of_the_rate(
    one: Side, a: float, b: float, seconds: float, factor: float
) -> None:
    if abs(b - a) < 1e-3:  # the twin's difference cancels there
        b = a
    expected = twin_dose(one, a, b, seconds, factor)
    top = rate(one, one.threshold_v * factor, max(a, b)) * seconds
    assert dose(one, a, b, seconds, factor) == pytest.approx(expected, rel=1e-7, abs=1e-8 * top)


@pytest.mark.parametrize("one", [LAW.up, Side(POWER, 2.0, 0.3, 3.7)])
@pytest.mark.parametrize("rise_v", [1e-12, 1e-7, 1e-4, 1e-3, 3e-3, 0.1])
def test_a_voltage_that_hardly_changes_has_the_dose_of_a_constant_one(one: Side, rise_v: float) -> None:
    a = 1.3 * one.threshold_v
    nodes, weights = np.polynomial.legendre.leggauss(20)
    v = a + rise_v * (nodes + 1) / 2
    expected = float(sum(w / 2 * rate(one, one.threshold_v, x) for x, w in zip(v, weights, strict=True)))
    assert dose(one, a, a + rise_v, 1.0, 1.0) == pytest.approx(expected, rel=1e-10)


@given(laws, voltages, st.floats(0.7, 1.3))
def test_doses_follow_the_voltage_in_order_and_are_joined_while_the_sign_stays(
    law: RateLaw, wave: Any, factor: float
) -> None:
    got, expected = law.doses(*wave, factor), twin_doses(law, *wave, factor)
    scale = max(map(abs, expected), default=0.0)
    kept = [by for by in expected if abs(by) > 1e-7 * scale]
    np.testing.assert_allclose([by for by in got if abs(by) > 1e-7 * scale], kept, rtol=1e-6, atol=1e-6 * scale)
    assert (np.sign(got[1:]) == -np.sign(got[:-1])).all()


@given(laws, states, st.floats(-5, 5))
def test_the_map_of_a_dose_is_the_solution_of_the_equation(law: RateLaw, u: float, by: float) -> None:
    expected = u if by == 0 else twin_moved(law, u, by)
    assert law.moved(np.array([u]), by)[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_map_obeys_its_differential_equation() -> None:
    law = RateLaw(LAW.up._replace(window=1.7), LAW.down._replace(window=0.6), 20.0)
    u, small = np.linspace(0.05, 0.95, 7), 1e-6
    w = law.ratio * u / (1 + (law.ratio - 1) * u)
    du_dw = law.ratio / (law.ratio - (law.ratio - 1) * w) ** 2
    np.testing.assert_allclose((law.moved(u, small) - u) / small, du_dw * (1 - w) ** 1.7, rtol=1e-4)
    np.testing.assert_allclose((law.moved(u, -small) - u) / -small, du_dw * w**0.6, rtol=1e-4)


# -- what must never happen -------------------------------------------------------------------------------------------


def after(law: RateLaw, u: float, t_s: Any, v: Any) -> float:
    for by in law.doses(np.asarray(t_s), np.asarray(v)):
        u = float(law.moved(np.array([u]), by)[0])
    return u


@given(laws, states, voltages)
def test_the_state_stays_in_its_window(law: RateLaw, u: float, wave: Any) -> None:
    assert 0 <= after(law, u, *wave) <= 1


@given(laws, states, voltages, st.floats(0, 1))
@settings(max_examples=200)
def test_a_voltage_that_is_cut_in_two_does_the_same(law: RateLaw, u: float, wave: Any, where: float) -> None:
    t_s, v = wave
    cut_s = where * t_s[-1]
    k = int(np.searchsorted(t_s, cut_s, "right"))
    if k in (0, len(t_s)) or t_s[k] == t_s[k - 1]:
        return
    cut_v = v[k - 1] + (v[k] - v[k - 1]) * (cut_s - t_s[k - 1]) / (t_s[k] - t_s[k - 1])
    first = after(law, u, [*t_s[:k], cut_s], [*v[:k], cut_v])
    # a steep law makes 1e-16 of a volt or of a second visible in the state
    assert after(law, first, [cut_s, *t_s[k:]], [cut_v, *v[k:]]) == pytest.approx(after(law, u, t_s, v), abs=1e-7)


@given(laws, states, voltages)
def test_nothing_moves_up_to_the_threshold_bit_for_bit(law: RateLaw, u: float, wave: Any) -> None:
    t_s, v = wave
    quiet = np.clip(v, -law.down.threshold_v, law.up.threshold_v)
    assert law.doses(1e9 * t_s, quiet).size == 0
    assert after(law, u, 1e9 * t_s, quiet) == u


# -- the published window ---------------------------------------------------------------------------------------------


def spike(n: int = 4000, lead_s: float = 5e-3, tail_s: float = 75e-3) -> tuple[Any, Any]:
    """spk(t) of published-results 2.3: A+ 1, A- 0.25, t+ 3 ms, T+ 5 ms, t- 40 ms, T- 75 ms, straight between nodes."""
    rise, fall = np.linspace(-lead_s, 0, n), np.linspace(0, tail_s, n)
    first = (np.exp(rise / 3e-3) - np.exp(-lead_s / 3e-3)) / (1 - np.exp(-lead_s / 3e-3))
    second = -0.25 * (np.exp(-fall / 40e-3) - np.exp(-tail_s / 40e-3)) / (1 - np.exp(-tail_s / 40e-3))
    return np.concatenate([rise, fall]), np.concatenate([first, second])


def pair(dt_s: float) -> tuple[Any, Any]:
    """v = spk(t - dt) - spk(t) with both sides of every jump."""
    t_s, v = spike()
    at = np.unique(np.concatenate([t_s, t_s + dt_s]))

    def sides(shift_s: float) -> tuple[Any, Any]:
        split = len(t_s) // 2
        left, right = (t_s[:split] + shift_s, v[:split]), (t_s[split:] + shift_s, v[split:])
        one = np.interp(at, *left, left=0, right=0) * (at <= left[0][-1])
        two = np.interp(at, *right, left=0, right=0) * (at >= right[0][0])
        at_jump = at == left[0][-1]
        return np.where(at_jump, one, one + two), np.where(at_jump, two, one + two)

    (a_left, a_right), (b_left, b_right) = sides(dt_s), sides(0.0)
    times, volts = np.repeat(at, 2), np.empty(2 * len(at))
    volts[::2], volts[1::2] = a_left - b_left, a_right - b_right
    return times, volts


def window(dt_s: float) -> float:
    return float(LAW.doses(*pair(dt_s)).sum())


def test_the_window_of_two_spikes_is_the_published_one() -> None:
    """published-results 2.3, exact values, normalised to |dw(2 ms)|."""
    at_2_ms = window(2e-3)
    got = [window(dt * 1e-3) / at_2_ms for dt in (5, 10, 20, 40, 60, 80)]
    np.testing.assert_allclose(got, [0.78108, 0.52070, 0.23342, 0.04254, 0.00400, 0.0], atol=1e-5)
    assert window(80e-3) == 0
    np.testing.assert_allclose([window(-dt * 1e-3) / at_2_ms for dt in (2, 5, 20)], [-1, -0.78108, -0.23342], atol=1e-5)


def test_one_full_pairing_moves_the_shipped_device_by_a_few_per_cent_of_its_window() -> None:
    assert window(2e-3) == pytest.approx(0.0421, rel=1e-2)


def test_a_lone_spike_moves_nothing_and_a_low_threshold_shows() -> None:
    """Bench rule 20: with a threshold 10 % low, a lone spike moves 5.8 % of the change at 2 ms."""
    assert LAW.doses(*spike()).size == 0
    assert LAW.doses(*spike(), factor=0.9).sum() / window(2e-3) == pytest.approx(0.058, abs=1e-3)


# -- rectangular pulses -----------------------------------------------------------------------------------------------


def with_law(**change: Any) -> RateModel:
    law = LAW._replace(up=LAW.up._replace(**change), down=LAW.down._replace(**change))
    return RateModel(DEVICE.card, "latent", law)


@pytest.mark.parametrize("model", [DEVICE, load_model("vteam"), with_law(window=0.5), with_law(window=1.0),
                                   with_law(window=3.0)])  # fmt: skip
@pytest.mark.parametrize("direction", [1, -1])
def test_the_step_of_a_pulse_is_the_map_of_its_dose(model: Any, direction: int) -> None:
    law, u = law_of(model), np.linspace(0, 1, 20001)
    one = law.up if direction > 0 else law.down
    for by in np.geomspace(1e-6, 3, 25):
        volts = 1.3 * one.threshold_v
        width_s = by / dose(one, volts, volts, 1.0, 1.0)
        response = model.response(direction, volts, width_s)
        assert np.abs(response.step(u) - law.moved(u, direction * by)).max() < 2e-5
        nodes = response.nodes
        np.testing.assert_allclose(response.step(nodes), law.moved(nodes, direction * by), atol=1e-12)
        assert np.all(direction * response.delta >= -1e-12)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("volts", [0.1, 0.6, 1.0])
def test_up_to_the_threshold_a_pulse_of_any_width_does_nothing(direction: int, volts: float) -> None:
    noisy = build_model(DEVICE.card.model_copy(update={"noise": DEVICE.card.noise.model_copy(
        update={"step_sigma_s": 1e-7, "step_sigma_relative": 0.1})}))  # fmt: skip
    for answer in (noisy.response(direction, volts, 1e9), noisy.disturb(direction, volts, 1e9)):
        assert answer is not None
        assert not answer.delta.any()
        assert not answer.sigma.any()
    assert noisy.response(direction, 1.2, 1e-4).sigma.min() > 0


@pytest.mark.parametrize("window", [0.0, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("volts", [60.0, 200.0])
def test_voltages_whose_exponential_no_float_holds_take_a_device_to_its_end(window: float, volts: float) -> None:
    said = DEVICE.card.model_dump()
    for way in ("potentiate", "depress"):
        said["parameters"][way]["window"] = window
    model = build_model(DeviceCard.model_validate(said))
    np.testing.assert_allclose(model.response(1, volts, 1e-3).step(np.array([0.0, 0.3, 1.0])), 1.0, rtol=1e-6)
    for first_v in (0.0, 1.0, volts):
        for sign, end in ((1, 1.0), (-1, 0.0)):
            u = np.array([0.5])
            for by in law_of(model).doses(np.array([0.0, 1e-3]), sign * np.array([first_v, volts])):
                u = law_of(model).moved(u, by)
            assert u[0] == pytest.approx(end, abs=1e-6)


def test_a_rate_model_says_so_and_a_replayed_one_has_none() -> None:
    assert DEVICE.half_select_modelled
    assert LAW.threshold_v == 1.0
    assert load_model("lsmo-gaq3").rate is None


def test_cards_that_a_rate_model_cannot_mean_are_refused() -> None:
    card: DeviceCard = DEVICE.card
    with pytest.raises(CapabilityMissing, match="literal"):
        build_model(card, "literal")
    for update in ({"window": None}, {"half_select": HalfSelect(fraction=0.1)}, {"assumed_mirror": True}):
        with pytest.raises(ConfigError, match=r"\[window\]"):
            build_model(card.model_copy(update=update))
    with pytest.raises(ConfigError, match="threshold_v"):
        build_model(card.model_copy(update={"parameters": {"potentiate": {"rate_hz": 1, "threshold_v": 0, "v0_v": 1}}}))
    with pytest.raises(UsageError, match="ascending"):
        LAW.doses(np.array([0.0, -1.0]), np.zeros(2))


def test_directions_may_differ() -> None:
    parameters = {"potentiate": {"rate_hz": 0.04, "threshold_v": 1.0, "v0_v": V0},
                  "depress": {"rate_hz": 0.01, "threshold_v": 1.5, "v0_v": 0.3, "window": 1.0}}  # fmt: skip
    model = build_model(DEVICE.card.model_copy(update={"parameters": parameters}))
    assert model.response(-1, 1.4, 1.0).delta.max() == 0
    expected = 0.01 * (np.exp(1.6 / 0.3) - np.exp(1.5 / 0.3)) * 1e-3
    down = model.response(-1, 1.6, 1e-3)
    np.testing.assert_allclose(down.step(np.array([0.2, 0.9])), np.array([0.2, 0.9]) * np.exp(-expected), rtol=1e-9)
