"""Device models against closed forms and published checkpoints (shared reference: published-results 1.4, 3.7, 3.8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobench import registry
from neurobench.errors import CapabilityMissing, ConfigError, CurveError, OutsideHull, UnknownName
from neurobench.physics import library
from neurobench.physics.card import parse_card
from neurobench.physics.fit import mean_curve
from neurobench.physics.latent import clip_to_window
from neurobench.physics.models.exponential import normalised_a
from neurobench.physics.models.measured import hull_weights
from neurobench.physics.response import DeviceModel, Response

BASE: dict[str, Any] = {"name": "x", "source": "made up for a test"}


def make(replay: Any = "latent", **card: Any) -> DeviceModel:
    return library.build_model(parse_card(BASE | {"model": "measured"} | card, "test"), replay)


def curve(values: Any, direction: str = "potentiate", volts: float | None = 1.0, width: float = 1e-3) -> dict[str, Any]:
    stated = {} if volts is None else {"amplitude_v": volts, "width_s": width}
    return {"direction": direction, "conductance_s": [float(v) for v in values]} | stated


def train(model: DeviceModel, direction: int, n: int, volts: float, width: float, u: float | None = None) -> Any:
    """Mean conductances [S] after 0 .. n noise-free pulses."""
    response = model.response(direction, volts, width)
    states = [np.array(model.u_start if u is None else u)]
    for _ in range(n):
        states.append(response.step(states[-1]))
    return model.level(np.array(states))


# ---- closed forms ------------------------------------------------------------------------------------------------


def step_card(model: str, parameters: dict[str, Any], **more: Any) -> DeviceModel:
    pulses = [
        {"direction": "potentiate", "amplitude_v": 1.0, "width_s": 1e-6},
        {"direction": "depress", "amplitude_v": -1.0, "width_s": 1e-6},
    ]
    window = {"g_min_s": 1e-6, "g_max_s": 2e-6}
    return make(model=model, parameters=parameters, pulse=pulses, window=window, **more)


@pytest.mark.parametrize(("n", "w"), [(10, 0.019821), (100, 0.181433), (500, 0.632489)])
def test_soft_bounds_reach_the_published_weights(n: int, w: float) -> None:
    model = step_card("soft_bounds", {"rate_up": 0.002, "rate_down": 0.002})
    g = train(model, 1, n, 1.0, 1e-6, u=0.5)[-1]  # w = 0 of -1 .. 1
    found = 2 * (g - 1e-6) / 1e-6 - 1
    assert found == pytest.approx(w, abs=5e-7)
    assert found == pytest.approx(1 - (1 - 0.002) ** n, rel=1e-9)


@pytest.mark.parametrize(("direction", "end"), [(1, 2e-6), (-1, 1e-6)])
def test_the_constant_step_is_a_staircase_that_stops_at_the_bound(direction: int, end: float) -> None:
    model = step_card("linear", {"dw_up": 0.03, "dw_down": 0.03, "w_min": -1.0, "w_max": 1.0})
    g = train(model, direction, 50, 1.0, 1e-6, u=0.5)
    np.testing.assert_allclose(g[:34], 1.5e-6 + direction * 15e-9 * np.arange(34), rtol=1e-12)
    np.testing.assert_allclose(g[34:], end, rtol=1e-12)


def test_the_linear_step_follows_its_recursion_in_weights() -> None:
    p = {"dw_up": 0.01, "dw_down": 0.02, "gamma_up": 0.4, "gamma_down": 0.7, "w_min": -0.8, "w_max": 1.2}
    model = step_card("linear", p)
    up, down = [0.0], [0.0]
    for _ in range(100):
        up.append(min(up[-1] + 0.01 * (1 - 0.4 * up[-1] / 1.2), 1.2))
        down.append(max(down[-1] - 0.02 * (1 - 0.7 * down[-1] / -0.8), -0.8))
    for direction, w in ((1, up), (-1, down)):
        g = train(model, direction, 100, 1.0, 1e-6, u=0.4)
        np.testing.assert_allclose((g - 1e-6) / 1e-6 * 2 - 0.8, w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("nl", "a"),
    [
        (0.01, 126.269), (0.5, 2.519877), (1, 1.251653), (2, 0.609035), (2.4, 0.499181), (3, 0.38683),
        (4, 0.269089), (4.88, 0.200303), (5, 0.192406), (6, 0.135619), (9, 0.02281),
    ],
)  # fmt: skip
def test_the_nonlinearity_label_gives_the_published_table(nl: float, a: float) -> None:
    assert normalised_a(nl) == pytest.approx(a, rel=2e-5)
    assert normalised_a(-nl) == -normalised_a(nl)


@pytest.mark.parametrize(("nl", "u"), [(1, 0.59856), (2.4, 0.73138), (4.88, 0.92388)])
def test_the_middle_of_the_exponential_curve(nl: float, u: float) -> None:
    a = normalised_a(nl)
    assert np.expm1(-0.5 / a) / np.expm1(-1 / a) == pytest.approx(u, abs=5e-6)


@pytest.mark.parametrize(
    ("nl_up", "nl_down"), [(-6.76, -6.76), (-0.5, -0.5), (0.0, 0.0), (0.04, 0.04), (2.4, 2.4), (9.0, -9.0), (7.0, 7.0)]
)
def test_the_exponential_model_is_its_closed_form_after_many_pulses(nl_up: float, nl_down: float) -> None:
    model = step_card("exponential", {"pulses_up": 97, "pulses_down": 50, "nl_up": nl_up, "nl_down": nl_down})
    for direction, pulses, nl in ((1, 97, nl_up), (-1, 50, nl_down)):
        a = normalised_a(nl)
        p = np.arange(pulses + 1.0) if direction > 0 else np.arange(pulses, -1.0, -1.0)
        u = p / pulses if np.isinf(a) else np.expm1(-p / (a * pulses)) / np.expm1(-1 / a)
        g = train(model, direction, pulses, 1.0, 1e-6, u=0.0 if direction > 0 else 1.0)
        np.testing.assert_allclose(g, 1e-6 + u * 1e-6, rtol=1e-9)


def test_a_curve_whose_first_step_is_lost_in_rounding_is_refused() -> None:
    with pytest.raises(ConfigError, match="parameters.nl_down"):
        step_card("exponential", {"pulses_up": 97, "pulses_down": 50, "nl_up": 2.4, "nl_down": 9.0})


def test_the_ag_a_si_preset_passes_through_the_published_conductances() -> None:
    model = library.load_model("ag-a-si")
    up = train(model, 1, 97, 3.2, 300e-6)
    np.testing.assert_allclose(up[[1, 10, 48]], [3.913e-9, 10.709e-9, 28.801e-9], rtol=2e-4)
    down = train(model, -1, 100, 2.8, 300e-6, u=1.0)  # the table counts its depression from the low end
    np.testing.assert_allclose(down[[50, 10, 1]], [5.771e-9, 24.460e-9, 36.727e-9], rtol=2e-4)


def test_the_step_noise_of_a_preset_is_a_share_of_the_window() -> None:
    response = library.load_model("ag-a-si").response(1, 3.2, 300e-6)
    np.testing.assert_allclose(response.sigma, 0.035, rtol=1e-5)
    multiplicative = library.load_model("gokmen-vlasov").response(1, 1.0, 1e-6)
    np.testing.assert_allclose(multiplicative.sigma, 0.3 * multiplicative.delta, rtol=1e-12)


# ---- the Strukov-group device ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("from_us", "volts", "change_us", "digits"),
    [
        (40, 1.3, 10.96, 0.005), (40, -1.3, -2.20, 0.005), (40, 1.0, 2.73, 0.005), (40, -1.0, -0.225, 0.0005),
        (40, 0.8, 0.32, 0.005), (150, 1.3, 9.10, 0.005), (150, -1.3, -4.62, 0.005), (10, -1.3, -0.033, 0.0005),
    ],
)  # fmt: skip
def test_published_steps_of_the_metal_oxide_device(
    from_us: float, volts: float, change_us: float, digits: float
) -> None:
    model = library.load_model("al2o3-tio2-nili")
    direction = 1 if volts > 0 else -1
    u = np.array((from_us * 1e-6 - model.g_min_s) / (model.g_max_s - model.g_min_s))
    after = model.level(model.response(direction, abs(volts), 500e-6).step(u))
    assert (after * 1e6 - from_us) == pytest.approx(change_us, abs=digits)


def test_half_select_of_the_metal_oxide_device_is_modelled_and_small() -> None:
    model = library.load_model("al2o3-tio2-nili")
    assert model.half_select_modelled
    u = (np.array([10e-6, 40e-6, 150e-6]) - model.g_min_s) / (model.g_max_s - model.g_min_s)
    shares: list[float] = []
    for direction in (1, -1):
        for volts in (1.0, 1.3):
            half, full = model.disturb(direction, volts / 2, 500e-6), model.response(direction, volts, 500e-6)
            assert half is not None
            shares.extend((half.step(u) - u) / (full.step(u) - u))
    assert min(shares) > 0.0001
    assert max(shares) == pytest.approx(0.0084, rel=0.05)  # published: 0.02 .. 0.84 %


def test_the_metal_oxide_device_stays_in_its_window_and_its_range_of_pulses() -> None:
    model = library.load_model("al2o3-tio2-nili")
    for direction in (1, -1):
        g = train(model, direction, 3000, 1.3, 500e-6)
        assert model.g_min_s * (1 - 1e-12) <= g.min() <= g.max() <= model.g_max_s * (1 + 1e-12)
    with pytest.raises(OutsideHull, match="up to 1.5 V"):
        model.response(1, 1.6, 500e-6)
    with pytest.raises(OutsideHull, match="1e-06"):
        model.response(1, 1.3, 1e-7)


# ---- measured, latent --------------------------------------------------------------------------------------------

UP = 1e-6 + 1e-6 * (1 - np.exp(-np.arange(21) / 5))
DOWN = 1.9e-6 - 1.1e-6 * (1 - np.exp(-np.arange(13) / 4))


def test_a_noise_free_train_walks_the_mean_curve_node_by_node() -> None:
    noisy = UP.copy()
    noisy[[5, 9, 15]] -= 8e-8
    for values in (UP, noisy):
        model = make(curve=[curve(values)])
        mean = mean_curve(values, 1)
        np.testing.assert_allclose(train(model, 1, 20, 1.0, 1e-3), mean, rtol=1e-12)


def test_the_measured_curve_is_walked_at_its_own_pace(shared_data: Path) -> None:
    model = library.load_model(shared_data / "cateru" / "datafile.csv")
    g = np.loadtxt(shared_data / "cateru" / "datafile.csv", skiprows=1)
    np.testing.assert_allclose(train(model, 1, 50, 2.0, 1e-3), mean_curve(g, 1), rtol=1e-12)
    assert (model.read_sigma_s, model.baseline_s) == pytest.approx((3.453e-9, g[0]), rel=1e-3)
    sigma_s = model.response(1, 2.0, 1e-3).sigma * (model.g_max_s - model.g_min_s)
    np.testing.assert_allclose(sigma_s, 1.476e-9, rtol=1e-3)
    assert not model.half_select_modelled
    assert model.disturb(1, 1.0, 1e-3) is None


def test_two_curves_of_different_length_and_range_share_one_window() -> None:
    model = make(curve=[curve(UP), curve(DOWN, "depress", -1.5, 2e-3)])
    assert (model.g_min_s, model.g_max_s) == pytest.approx((DOWN.min(), UP.max()), rel=1e-12)
    assert model.baseline_s == pytest.approx(UP[0], rel=1e-12)
    assert make(curve=[curve(DOWN, "depress")]).baseline_s == pytest.approx(DOWN[0], rel=1e-12)
    top = model.state(1.9e-6)
    np.testing.assert_allclose(train(model, -1, 12, 1.5, 2e-3, top), DOWN, rtol=1e-12)
    # beyond its end a direction does nothing, before its start it takes its first step
    assert train(model, -1, 1, 1.5, 2e-3, model.state(DOWN[-1]))[-1] == pytest.approx(DOWN[-1], rel=1e-12)
    first = train(model, 1, 1, 1.0, 1e-3, model.state(0.85e-6))
    assert first[1] - first[0] == pytest.approx(UP[1] - UP[0], rel=1e-9)


@given(st.integers(0, 19), st.integers(1, 40), st.integers(1, 40))
def test_a_reversal_maps_by_conductance_alone(start: int, ups: int, downs: int) -> None:
    """However a conductance was reached, the way back from it is the same, and nothing leaves the window."""
    model = make(curve=[curve(UP), curve(DOWN, "depress", -1.5, 2e-3)])
    there = train(model, 1, ups, 1.0, 1e-3, model.state(UP[start]))[-1]
    back = train(model, -1, downs, 1.5, 2e-3, model.state(there))
    assert np.all(np.diff(back) <= 0)
    assert model.g_min_s <= back.min() <= back.max() <= model.g_max_s * (1 + 1e-12)
    again = train(model, -1, downs, 1.5, 2e-3, model.state(float(back[0])))
    np.testing.assert_allclose(back, again, rtol=1e-12)


def test_the_direction_is_the_curves_not_the_signs() -> None:
    model = make(curve=[curve(UP, "potentiate", 0.7), curve(UP[::-1], "depress", 3.0, 1e-7)])
    assert train(model, 1, 1, 0.7, 1e-3, 0.5)[1] > train(model, -1, 1, 3.0, 1e-7, 0.5)[1]
    with pytest.raises(OutsideHull, match="depress with 0.7 V for 0.001 s was never measured; measured: 3 V, 1e-07 s"):
        model.response(-1, 0.7, 1e-3)


def test_a_missing_direction_is_an_error_or_a_declared_mirror() -> None:
    with pytest.raises(CapabilityMissing, match="x cannot depress.*assumed_mirror"):
        make(curve=[curve(UP)]).response(-1, 1.0, 1e-3)
    model = make(curve=[curve(UP)], assumed_mirror=True)
    assert model.card.assumed_mirror
    np.testing.assert_allclose(train(model, -1, 20, 1.0, 1e-3, 1.0), UP[0] + UP[-1] - UP, rtol=1e-12)
    with pytest.raises(ConfigError, match="both directions were measured"):
        make(curve=[curve(UP), curve(DOWN, "depress")], assumed_mirror=True)
    assert library.load_model("lsmo-gaq3", assume_mirror=True).card.assumed_mirror


def family_step(u: Any, volts: float, width: float) -> Any:
    """A device whose step is exactly log-linear: ln dG = a + 2 V + 0.3 ln t, times a shape in u."""
    return 1e-8 * np.exp(2 * volts + 0.3 * np.log(width / 1e-3)) * (1.2 - u)


def grow(volts: float, width: float) -> Any:
    g = [1e-6]
    while g[-1] < 2e-6:
        g.append(g[-1] + float(family_step((g[-1] - 1e-6) / 1e-6, volts, width)))
    return g


def test_families_are_interpolated_in_log_step_at_equal_state() -> None:
    pulses = [(1.0, 1e-3), (1.0, 1e-2), (1.4, 1e-3), (1.4, 1e-2)]
    model = make(curve=[curve(grow(v, t), "potentiate", v, t) for v, t in pulses])
    span_s = model.g_max_s - model.g_min_s
    for volts, width in ((1.2, 1e-3), (1.0, 3e-3), (1.13, 4e-3), (1.4, 2e-3), (1.3, 8e-3)):
        response = model.response(1, volts, width)
        for g in (1.1e-6, 1.4e-6, 1.7e-6):
            step_s = float(np.interp(model.state(g), response.nodes, response.delta)) * span_s
            assert step_s == pytest.approx(float(family_step((g - 1e-6) / 1e-6, volts, width)), rel=2e-3)


@pytest.mark.parametrize(("volts", "width"), [(0.9, 1e-3), (1.5, 1e-3), (1.2, 5e-4), (1.2, 2e-2), (0.5, 1e-3)])
def test_outside_the_hull_is_refused_by_naming_it(volts: float, width: float) -> None:
    pulses = [(1.0, 1e-3), (1.0, 1e-2), (1.4, 1e-3), (1.4, 1e-2)]
    model = make(curve=[curve(grow(v, t), "potentiate", v, t) for v, t in pulses])
    with pytest.raises(OutsideHull, match="measured: 1 V, 0.001 s; 1 V, 0.01 s; 1.4 V"):
        model.response(1, volts, width)


@pytest.mark.parametrize("pulse", [(1.03, 1e-3), (0.97, 1e-3), (1.0, 1.03e-3), (0.5, 1e-3)])
def test_one_curve_is_a_hull_of_one_point(pulse: tuple[float, float]) -> None:
    model = make(curve=[curve(UP)])
    model.response(1, 1.01, 0.99e-3)
    with pytest.raises(OutsideHull):
        model.response(1, *pulse)


@given(st.floats(0, 1), st.floats(0, 1))
def test_hull_weights_reproduce_the_point(x: float, y: float) -> None:
    places = [(1.0, -7.0), (2.0, -7.0), (1.0, -5.0), (2.0, -5.0), (1.6, -6.1)]
    wanted = (1.0 + x, -7.0 + 2 * y)
    weights = hull_weights(places, wanted)
    assert sum(weights.values()) == pytest.approx(1.0, rel=1e-9)
    found = np.sum([w * np.array(places[i]) for i, w in weights.items()], axis=0)
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_points_on_a_slanted_line_have_no_hull() -> None:
    assert hull_weights([(1.0, -7.0), (2.0, -6.0), (3.0, -5.0)], (2.0, -6.5)) == {}


def test_half_select_is_what_was_measured_there_or_declared_or_nothing() -> None:
    assert make(curve=[curve(UP)]).disturb(1, 0.5, 1e-3) is None
    declared = make(curve=[curve(UP)], half_select={"fraction": 0.0084})
    assert declared.half_select_modelled
    disturb = declared.disturb(1, 0.5, 1e-3)
    assert disturb is not None
    np.testing.assert_allclose(disturb.delta, 0.0084 * declared.response(1, 1.0, 1e-3).delta, rtol=1e-12)
    assert declared.disturb(1, 1 / 3, 1e-3) is None  # V/3 was not declared
    measured = make(curve=[curve(UP[:2], volts=0.5), curve(UP, volts=1.0)])
    assert measured.half_select_modelled
    assert measured.disturb(1, 0.5, 1e-3) is not None


def test_a_curve_that_never_moves_and_a_window_too_narrow() -> None:
    with pytest.raises(CurveError, match="does not move"):
        make(curve=[curve([1e-6, 1e-6, 1e-6])])
    with pytest.raises(ConfigError, match="does not contain"):
        make(curve=[curve(UP)], window={"g_min_s": 1.2e-6, "g_max_s": 3e-6})
    wide = make(curve=[curve(UP)], window={"g_min_s": 0.5e-6, "g_max_s": 3e-6, "g_start_s": 1e-6})
    np.testing.assert_allclose(train(wide, 1, 20, 1.0, 1e-3), UP, rtol=1e-12)


# ---- measured, literal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["hold", "refuse"])
def test_literal_repeats_the_samples_and_never_runs_over(end: str) -> None:
    values = UP.copy()
    values[7] = 3e-6
    model = make("literal", curve=[curve(values)], end=end)
    np.testing.assert_array_equal(train(model, 1, 25, 1.0, 1e-3), np.append(values, [values[-1]] * 5))
    assert model.end == end
    assert (model.read_sigma_s, model.read_sigma_relative, model.step_spread) == (0.0, 0.0, 0.0)
    assert np.all(model.response(1, 1.0, 1e-3).sigma == 0)
    assert model.disturb(1, 0.5, 1e-3) is None
    with pytest.raises(CapabilityMissing, match="only potentiate"):
        model.response(-1, 1.0, 1e-3)
    with pytest.raises(OutsideHull):
        model.response(1, 1.5, 1e-3)


def test_literal_replays_the_measured_file_digit_for_digit(shared_data: Path) -> None:
    path = shared_data / "cateru" / "datafile.csv"
    model = library.load_model(path, replay="literal")
    np.testing.assert_array_equal(train(model, 1, 50, 2.0, 1e-3), np.loadtxt(path, skiprows=1))
    assert model.baseline_s == np.loadtxt(path, skiprows=1)[0]


def test_literal_needs_one_potentiation_curve() -> None:
    for name in ("ag-a-si", "al2o3-tio2-nili"):
        with pytest.raises(CapabilityMissing, match="literal"):
            library.load_model(name, replay="literal")
    with pytest.raises(CapabilityMissing, match="holds 2"):
        make("literal", curve=[curve(UP, volts=1.0), curve(UP, volts=2.0)])


# ---- the seam ----------------------------------------------------------------------------------------------------


def test_write_current_laws() -> None:
    sinh = library.load_model("lsmo-gaq3")
    assert sinh.write_current_factor(0.05) == pytest.approx(1.0, rel=1e-12)
    assert sinh.write_current_factor(-2.0) == pytest.approx(1853, rel=1e-3)
    cubic = library.load_model("al2o3-tio2-nili").write_current_factor(1.3)
    assert cubic == pytest.approx((1 + 1.986 * 1.69) / (1 + 1.986 * 0.01), rel=1e-12)
    assert library.load_model("ag-a-si").write_current_factor(3.2) is None


def test_relaxation_is_in_units_of_the_state() -> None:
    model = make(curve=[curve(UP)], relaxation={"tau_s": 5.0, "g_rest_s": 1e-6})
    assert model.relaxation is not None
    assert (model.relaxation.tau_s, model.relaxation.u_rest) == (5.0, 0.0)
    assert make(curve=[curve(UP)]).relaxation is None


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-2, 2)), min_size=2, max_size=8, unique_by=lambda p: p[0]))
def test_a_clipped_map_never_leaves_the_window_and_else_is_the_same(points: list[tuple[float, float]]) -> None:
    nodes, delta = (np.array(x) for x in zip(*sorted(points), strict=True))
    if np.any(np.diff(nodes) < 1e-9):
        return
    found = Response(*clip_to_window(nodes, delta), sigma=np.zeros(clip_to_window(nodes, delta)[0].size))
    u = np.linspace(nodes[0], nodes[-1], 301)
    np.testing.assert_allclose(found.step(u), np.clip(u + np.interp(u, nodes, delta), 0, 1), atol=1e-9)


def test_unknown_models_and_parameters_are_named() -> None:
    with pytest.raises(UnknownName, match="did you mean measured"):
        make(model="mesured", curve=[curve(UP)])
    with pytest.raises(ConfigError, match=r"device x: parameters.rate_op: unknown key; did you mean rate_up"):
        step_card("soft_bounds", {"rate_op": 0.1, "rate_down": 0.1})
    with pytest.raises(ConfigError, match="needs \\[window\\] and \\[\\[pulse\\]\\]"):
        make(model="linear", parameters={"dw_up": 0.1, "dw_down": 0.1})
    with pytest.raises(ConfigError, match=r"needs \[\[curve\]\]"):
        make()


@pytest.mark.parametrize("name", library.names())
def test_every_device_of_the_library_moves_the_way_it_says(name: str) -> None:
    model = library.load_model(name)
    assert model.u_min <= model.u_start <= model.u_max
    for entry in (*model.card.pulse, *model.card.curve):
        assert entry.amplitude_v is not None
        assert entry.width_s is not None
        response = model.response(entry.sign, abs(entry.amplitude_v), entry.width_s)
        assert np.all(entry.sign * response.delta >= 0)
        assert np.any(entry.sign * response.delta > 0)
        after = response.step(np.linspace(0, 1, 101))
        assert -1e-12 <= after.min() <= after.max() <= 1 + 1e-12


def test_the_library_holds_at_least_ten_published_devices() -> None:
    published = [c for c in library.cards() if not c.assumed_mirror]
    assert len(published) >= 10
    assert {c.model.replace("_", "-") for c in published} == set(registry.find("models"))
