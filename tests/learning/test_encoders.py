"""Encoders: rates and latencies are those asked for, deltas can be decoded, bins hold every event once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobench.errors import UsageError
from neurobench.learning.encoders import binned, decoded, delta, dense, events_of, latency, rate
from neurobench.learning.events import EventStream, make_events
from neurobench.learning.loops import Spikes, sparse


def spike_ticks(spikes: Spikes, lines: int) -> list[list[int]]:
    """Ticks of each line's spikes."""
    return [list(np.flatnonzero(column)) for column in dense(spikes, lines).T]


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**32))
def test_sparse_and_dense_are_each_others_inverse(ticks: int, lines: int, seed: int) -> None:
    raster = np.random.default_rng(seed).random((ticks, lines)) < 0.3
    assert (dense(sparse(raster), lines) == raster).all()


def test_rates_are_values_times_the_largest_rate() -> None:
    values, seconds, tick_s = np.linspace(0, 1, 6), 200.0, 1e-3
    raster = dense(rate(values, int(seconds / tick_s), tick_s, 60.0, np.random.default_rng(3)), 6)
    counts, expected = raster.sum(axis=0), values * 60.0 * seconds
    assert counts[0] == 0
    assert (np.abs(counts - expected)[1:] < 5 * expected[1:] ** 0.5).all()
    gaps = np.diff(np.flatnonzero(raster[:, 5])) * tick_s
    # geometric intervals: CV^2 = 1 - p
    assert gaps.std() / gaps.mean() == pytest.approx((1 - 0.06) ** 0.5, rel=0.05)


def test_a_latency_falls_evenly_with_the_value() -> None:
    spikes = latency(np.array([1.0, 0.505, 0.01, 0.005, 0.0]), ticks=11)
    assert spike_ticks(spikes, 5) == [[0], [5], [10], [], []]


def test_a_log_latency_is_the_charging_time_of_a_membrane() -> None:
    values = np.array([1.0, 0.5, 0.25, 0.21, 0.2, 0.1])
    spikes = latency(values, ticks=40, law="log", least=0.2, tau_ticks=10.0)
    expected = [int(10 * np.log(v / (v - 0.2))) for v in values[:4]]
    assert spike_ticks(spikes, 6) == [[t] for t in expected] + [[], []]
    # the membrane itself: first tick in which v (1 - exp(-t / tau)) has passed the threshold
    for value, tick in zip(values[:4], expected, strict=True):
        assert value * (1 - np.exp(-(tick + 1) / 10)) > 0.2 >= value * (1 - np.exp(-tick / 10))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 50), st.sampled_from(["linear", "log"]))
def test_larger_values_never_spike_later(values: list[float], ticks: int, law: str) -> None:
    found = spike_ticks(latency(np.array(values), ticks, law), len(values))  # type: ignore[arg-type]
    assert all(len(each) <= 1 for each in found)
    order = np.argsort(values)[::-1]
    firsts = [found[i][0] if found[i] else ticks for i in order]
    assert firsts == sorted(firsts)


def test_a_signal_is_decoded_from_its_deltas_to_within_a_threshold() -> None:
    t = np.arange(400)
    signals = np.stack([np.sin(t / 40), np.cos(t / 25), np.zeros(400)], axis=1)
    threshold = 0.05
    spikes = delta(signals, threshold)
    again = decoded(spikes, signals[0], threshold)
    assert np.abs(again - signals).max() < threshold
    assert dense(spikes, 6)[:, [2, 5]].sum() == 0


def test_a_step_larger_than_the_threshold_is_caught_up_with() -> None:
    signals = np.array([[0.0], [0.3], [0.3], [0.3], [0.3], [0.2]])
    assert spike_ticks(delta(signals, 0.1), 2) == [[1, 2, 3], [5]]


@st.composite
def streams(draw: st.DrawFn) -> EventStream:
    n, rng = draw(st.integers(0, 30)), np.random.default_rng(draw(st.integers(0, 2**32)))
    columns = [rng.integers(0, high, n) for high in (3, 4, 2)]
    return EventStream(3, 4, make_events(columns[0], columns[1], np.sort(rng.integers(0, 20_000, n)), columns[2]))


@given(streams(), st.booleans())
def test_a_bin_holds_a_spike_of_each_pixel_that_sent_something(stream: EventStream, polarities: bool) -> None:
    raster = dense(binned(stream, 1e-3, polarities=polarities), 24)
    expected = {
        (int(t) // 1000, int(y) * 3 + int(x) + (12 if polarities and not p else 0)) for x, y, t, p in stream.events
    }
    assert set(zip(*np.nonzero(raster), strict=True)) == expected


@given(streams(), st.integers(1, 25))
def test_events_after_the_last_tick_are_left_out(stream: EventStream, ticks: int) -> None:
    cut = dense(binned(stream, 1e-3, ticks), 12)
    whole = dense(binned(stream, 1e-3, 25), 12)
    assert len(cut) == ticks
    assert (cut == whole[:ticks]).all()


@given(streams())
def test_spikes_become_events_of_the_same_pixels_and_ticks(stream: EventStream) -> None:
    spikes = binned(stream, 1e-3, 20)
    back = binned(events_of(spikes, 3, 4, 1e-3), 1e-3, 20)
    assert (back.indptr == spikes.indptr).all()
    assert (back.rows == spikes.rows).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rate(np.array([0.5]), 10, 1e-3, 2000.0, np.random.default_rng(0)), "2 spikes in a tick"),
        (lambda: rate(np.array([1.5]), 10, 1e-3, 20.0, np.random.default_rng(0)), "between 0 and 1"),
        (lambda: latency(np.array([np.nan]), 10), "between 0 and 1"),
        (lambda: latency(np.array([0.5]), 0), "0 ticks"),
        (lambda: delta(np.zeros(3), 0.1), r"\[ticks, n\]"),
        (lambda: delta(np.zeros((3, 1)), 0.0), "threshold"),
        (lambda: binned(EventStream(2, 2), 0.0), "tick_s = 0.0 must be positive"),
        (lambda: binned(EventStream(2, 2, make_events([0], [0], [10**12], [0])), 1e-3), "ticks; 1 to"),
        (lambda: dense(Spikes(np.array([0, 1], np.int32), np.array([7], np.int32)), 4), "beyond 0..3"),
    ],
)
def test_what_cannot_be_is_refused_in_words(make: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()
