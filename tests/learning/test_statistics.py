"""What is said of spikes: rates, regularity, active neurons, over what was recorded and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobench.errors import UsageError
from neurobench.learning.statistics import (
    Raster,
    active_fraction,
    counts,
    interval_cv,
    population_rate_hz,
    rasters,
    rates_hz,
    spikes_note,
    summary,
)


def raster(*parts: dict[str, Any]) -> Raster:
    return rasters(parts)["a"]


def part(start: int, ticks: int, tick: list[int], neuron: list[int], neurons: int = 3) -> dict[str, Any]:
    value: dict[str, Any] = spikes_note("a", neurons, 1e-3, start, ticks, tick, neuron).value
    return value


def test_a_clock_has_no_spread_and_its_own_rate() -> None:
    said = raster(part(0, 100, list(range(0, 100, 10)), [1] * 10))
    assert counts(said).tolist() == [0, 10, 0]
    assert rates_hz(said).tolist() == [0.0, pytest.approx(100.0), 0.0]
    assert active_fraction(said) == pytest.approx(1 / 3)
    cv = interval_cv(said)
    assert cv[1] == 0.0
    assert np.isnan(cv[[0, 2]]).all()


def test_a_poisson_process_has_a_spread_of_one() -> None:
    tick, neuron = np.nonzero(np.random.default_rng(2).random((200_000, 3)) < 0.01)
    said = raster(part(0, 200_000, tick.tolist(), neuron.tolist()))
    np.testing.assert_allclose(interval_cv(said), np.sqrt(1 - 0.01), rtol=0.05)  # a geometric interval's is sqrt(1 - p)
    assert summary(said)["rate_hz"] == pytest.approx(10.0, rel=0.05)


def test_two_intervals_of_one_and_three_ticks_have_a_spread_of_a_half() -> None:
    assert interval_cv(raster(part(0, 9, [0, 1, 4], [0, 0, 0])))[0] == pytest.approx(0.5)


def test_notes_are_joined_by_their_starts_and_unrecorded_ticks_do_not_count() -> None:
    said = raster(part(0, 10, [0, 5], [0, 0]), part(10, 10, [0, 5], [0, 0]), part(100, 10, [0, 5], [0, 0]))
    assert said.spans.tolist() == [[0, 20], [100, 10]]
    assert said.tick.tolist() == [0, 5, 10, 15, 100, 105]
    assert said.ticks == 30
    assert rates_hz(said)[0] == pytest.approx(200.0)
    assert interval_cv(said)[0] == 0.0, "the gap from 15 to 100 is no interval"


def test_the_rate_over_time_leaves_out_what_was_not_recorded() -> None:
    said = raster(part(0, 10, [0, 5], [0, 0]), part(30, 10, [2], [1]))
    at_s, hertz = population_rate_hz(said, bins=4)
    np.testing.assert_allclose(at_s, [5e-3, 15e-3, 25e-3, 35e-3])
    np.testing.assert_allclose(hertz, [2 / 10e-3 / 3, np.nan, np.nan, 1 / 10e-3 / 3])


def test_a_layer_without_spikes_has_a_rate_of_zero_and_no_regularity() -> None:
    said = summary(raster(part(0, 50, [], [])))
    assert said["rate_hz"] == 0.0
    assert said["active_fraction"] == 0.0
    assert np.isnan(said["interval_cv"])


def test_layers_keep_the_order_in_which_they_spoke() -> None:
    notes = [spikes_note(layer, 1, 1e-3, 0, 5, [0], [0]).value for layer in ("input", "hidden", "input", "output")]
    assert list(rasters(notes)) == ["input", "hidden", "output"]


@pytest.mark.parametrize(
    ("tick", "neuron", "what"), [([5], [0], "tick 5"), ([0], [3], "neuron 3"), ([-1], [0], "tick")]
)
def test_a_spike_outside_its_note_is_refused(tick: list[int], neuron: list[int], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        part(0, 5, tick, neuron)


@given(st.lists(st.integers(0, 299), max_size=60), st.integers(1, 40))
def test_every_spike_is_in_one_bin_of_the_rate(tick: list[int], bins: int) -> None:
    said = raster(part(0, 300, sorted(tick), [0] * len(tick)))
    at_s, hertz = population_rate_hz(said, bins)
    assert 1 <= len(at_s) <= bins
    width_s = 1e-3 * -(-300 // bins)
    # the last bin may reach beyond what was recorded: its rate is over what it holds
    held_s = np.minimum(300e-3 - (at_s - width_s / 2), width_s)
    assert (hertz * held_s).sum() * 3 == pytest.approx(len(tick))
