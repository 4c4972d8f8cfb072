"""From changes to pulses: what is rounded how, what is left, and that it fits into a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neurobench.bench.steps import DeviceSpan
from neurobench.bench.stimulus import Pulse, PulseBatch
from neurobench.errors import UsageError
from neurobench.learning import quantised
from neurobench.learning.quantised import Levels, Quantiser, quantise

UP_S, DOWN_S = 1e-7, 2.5e-7
wishes = arrays.arrays(np.float64, (2, 3), elements=st.floats(-1e-5, 1e-5))


def test_nearest_rounds_each_direction_by_its_own_step() -> None:
    dw = np.array([[0.4e-7, 0.6e-7, 3.2e-7], [-1.0e-7, -1.5e-7, -5.1e-7]])
    assert quantise(dw, Quantiser(UP_S, DOWN_S, "nearest")).counts.tolist() == [[0, 1, 3], [0, -1, -2]]


@given(dw=wishes)
def test_the_nearest_count_is_never_off_by_more_than_half_a_step(dw: Any) -> None:
    q = Quantiser(UP_S, DOWN_S, "nearest")
    off = dw - quantised.change(quantise(dw, q).counts, q)
    assert (np.abs(off) <= np.where(dw > 0, UP_S, DOWN_S) / 2 * (1 + 1e-9)).all()


@given(share=st.floats(-3, 3), seed=st.integers(0, 2**32 - 1))
def test_stochastic_rounding_has_the_wished_change_as_its_mean(share: float, seed: int) -> None:
    q, n = Quantiser(UP_S, DOWN_S), 4000
    wish = share * (UP_S if share > 0 else DOWN_S)
    counts = quantise(np.full((1, n), wish), q, np.random.default_rng(seed)).counts
    fraction = share - np.floor(share)
    assert set(np.unique(counts)) <= {np.floor(share), np.floor(share) + 1}
    # 6 sigma of a binomial: once in 5e8 draws
    assert counts.mean() == pytest.approx(share, abs=6 * np.sqrt(fraction * (1 - fraction) / n) + 2 / n)


def test_changes_below_a_step_add_up_only_if_they_are_rounded_stochastically_or_carried() -> None:
    dw, ticks, rng = np.full((1, 200), UP_S / 10), 100, np.random.default_rng(1)
    total = {}
    for name, q in {
        "nearest": Quantiser(UP_S, DOWN_S, "nearest"),
        "stochastic": Quantiser(UP_S, DOWN_S),
        "carried": Quantiser(UP_S, DOWN_S, "nearest", carry=True),
    }.items():
        residual, sum_ = None, 0
        for _ in range(ticks):
            counts, residual = quantise(dw, q, rng, residual)
            sum_ += int(counts.sum())
        total[name] = sum_ / 200
    assert total["nearest"] == 0
    assert total["stochastic"] == pytest.approx(10, rel=0.1)
    assert total["carried"] == 10


@given(
    steps=st.lists(st.floats(-5e-7, 5e-7), min_size=1, max_size=40), rounding=st.sampled_from(["nearest", "stochastic"])
)
def test_what_is_carried_is_the_wish_less_what_was_fired(steps: list[float], rounding: Any) -> None:
    q, rng = Quantiser(UP_S, DOWN_S, rounding, carry=True), np.random.default_rng(0)
    residual, fired = None, 0.0
    for dw in steps:
        counts, residual = quantise(np.array([[dw]]), q, rng, residual)
        fired += float(quantised.change(counts, q)[0, 0])
        assert abs(residual[0, 0]) <= DOWN_S * (1 + 1e-9)
    assert residual is not None
    assert sum(steps) - fired == pytest.approx(residual[0, 0], abs=1e-18)


@given(dw=wishes, cap=st.integers(1, 5))
def test_no_cell_gets_more_than_the_cap_and_the_rest_is_owed(dw: Any, cap: int) -> None:
    counts, residual = quantise(dw, Quantiser(UP_S, DOWN_S, "nearest", cap, carry=True))
    assert np.abs(counts).max() <= cap
    assert residual == pytest.approx(dw - quantised.change(counts, Quantiser(UP_S, DOWN_S)), abs=1e-18)


def test_a_device_that_cannot_depress_gets_no_depressing_pulse_and_owes_none() -> None:
    q = Quantiser(UP_S, 0.0, "nearest", carry=True)
    counts, residual = quantise(np.array([[-1e-5, 2e-7]]), q)
    assert counts.tolist() == [[0, 2]]
    assert residual.tolist() == [[0.0, 0.0]]


def test_counts_go_into_a_batch_of_pulses() -> None:
    dw = np.array([[1.0, -1.0], [0.0, 3e-7]])
    counts = quantise(dw, Quantiser(UP_S, DOWN_S, "nearest")).counts
    batch = PulseBatch(counts, Pulse(1.0, 1e-6))
    assert batch.counts.tolist() == [[32767, -32767], [0, 3]]


def test_the_steps_come_from_what_is_declared_of_the_device() -> None:
    curve = tuple(1e-5 - 2e-7 * np.arange(41))
    both = Quantiser.of(DeviceSpan(g_step_s=1e-7, depression_s=curve))
    assert (both.step_up, both.step_down) == (1e-7, pytest.approx(2e-7))
    assert Quantiser.of(DeviceSpan(g_step_s=1e-7)).step_down == 1e-7
    # saturated after three pulses: the step is that of the middle, not of the sixty pulses that moved nothing
    abrupt = (1e-5, 6e-6, 2.5e-6, 2e-6, *[2e-6] * 60)
    assert Quantiser.of(DeviceSpan(g_step_s=1e-7, depression_s=abrupt)).step_down == pytest.approx(3.75e-6)
    assert Quantiser.of(DeviceSpan(g_step_s=1e-7, depresses=False)).step_down == 0
    with pytest.raises(UsageError, match="measure-curve"):
        Quantiser.of(DeviceSpan())


def test_levels_are_where_they_were_asked_for() -> None:
    levels = Levels(0.0, 3.0, 2)
    assert levels.nearest(np.array([-1.0, 0.4, 0.6, 2.4, 9.0])).tolist() == [0, 0, 1, 2, 3]


def test_a_weight_is_brought_to_the_level_nearest_to_what_was_wished() -> None:
    weights, dw = np.array([[0.0, 0.9, 2.0, 0.9]]), np.array([[0.7, 0.2, -0.4, 0.0]])
    q = Quantiser(0.1, 0.1, "nearest")
    counts = quantised.to_level(weights, dw, Levels(0.0, 3.0, 2), q).counts
    assert counts.tolist() == [[10, 1, 0, 0]]


def test_the_bits_of_a_device_follow_from_its_range_and_noise() -> None:
    assert quantised.bits(16.0, 0.5) == pytest.approx(4.0)
    assert quantised.whole_bits(20e-6, 0.5e-6) == 4
    assert quantised.whole_bits(1.0, 10.0) == 1
    with pytest.raises(UsageError, match="positive"):
        quantised.bits(1.0, 0.0)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"step_up": 0.0}, "step_up"),
        ({"step_down": -1.0}, "step_down"),
        ({"rounding": "up"}, "nearest, stochastic"),
        ({"cap": 0}, "cap"),
        ({"cap": 40_000}, "cap"),
    ],
)
def test_a_quantiser_that_makes_no_sense_is_refused(said: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Quantiser(**{"step_up": 1.0, "step_down": 1.0, **said})


def test_what_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(UsageError, match="not finite"):
        quantise(np.array([[np.nan]]), Quantiser(1.0, 1.0, "nearest"))
    with pytest.raises(UsageError, match="rng"):
        quantise(np.array([[1.0]]), Quantiser(1.0, 1.0))
    with pytest.raises(UsageError, match="bits"):
        Levels(0.0, 1.0, 0)
