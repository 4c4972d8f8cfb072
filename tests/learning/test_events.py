"""Event streams: the edges of synthetic scenes move as asked, noise is Poisson, filters only ever take away."""

from __future__ import annotations

from collections.abc import Callable
from math import hypot, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neurobench.errors import UsageError
from neurobench.learning.events import (
    BRIGHT,
    CONTRAST,
    EVENT,
    EventStream,
    between,
    crop,
    crossings,
    denoise,
    downsample,
    edge_speed,
    make_events,
    of_polarity,
    refractory,
)

SENSOR = EventStream(32, 24)


@st.composite
def streams(draw: st.DrawFn) -> EventStream:
    """Any stream of up to 40 events on a small sensor, with many events at the same time and place."""
    width, height = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    n = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    t = np.sort(rng.integers(0, draw(st.sampled_from([3, 50, 10_000])), n))
    x, y, p = (rng.integers(0, high, n) for high in (width, height, 2))
    return EventStream(width, height, make_events(x, y, t, p))


def rows(stream: EventStream) -> list[tuple[int, ...]]:
    return [tuple(map(int, event)) for event in stream.events]


def is_part_of(some: EventStream, whole: EventStream) -> bool:
    """Whether `some` is a subsequence of `whole`: nothing invented, nothing out of order."""
    rest = iter(rows(whole))
    return all(event in rest for event in rows(some))


# ------------------------------------------------------------------ scenes


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 90.0, 180.0, 270.0])
@pytest.mark.parametrize("velocity_px_s", [80.0, 700.0])
def test_the_slope_of_a_bars_edge_is_its_velocity(angle_deg: float, velocity_px_s: float) -> None:
    stream = SENSOR.moving_bar(45 / velocity_px_s, velocity_px_s, angle_deg)
    for edge in (True, False):
        speed = edge_speed(of_polarity(stream, edge), angle_deg)
        assert speed.velocity_px_s == pytest.approx(velocity_px_s, rel=0.01)
        assert speed.correlation > 0.99


def test_a_bar_passes_each_pixel_once_with_an_on_and_an_off_edge() -> None:
    stream = SENSOR.moving_bar(0.5, 100.0)
    events_of_an_edge = int(BRIGHT / CONTRAST)  # 5.49: five thresholds fit into the step
    for on in (True, False):
        assert set(of_polarity(stream, on).counts().ravel()) == {events_of_an_edge}
    first_on = of_polarity(stream, True).events["t"][0]
    # the middle starts one pixel and half a width outside, so the blurred edge meets the first pixel after half a pixel
    assert first_on * 1e-6 == pytest.approx((0.5 + CONTRAST / BRIGHT) / 100.0, rel=1e-3)


def test_on_and_off_edges_of_a_bar_are_its_width_apart() -> None:
    stream = SENSOR.moving_bar(0.5, 100.0, width_px=6.0)
    on, off = (of_polarity(stream, which).events["t"].mean() for which in (True, False))
    assert (off - on) * 1e-6 == pytest.approx(6.0 / 100.0, rel=0.02)


def test_a_turning_bar_sweeps_the_angle_it_is_asked_to() -> None:
    stream = of_polarity(EventStream(41, 41).rotating_bar(0.2, turns_per_s=1.0), True)
    x, y, t_s = stream.events["x"] - 20.0, stream.events["y"] - 20.0, stream.events["t"] * 1e-6
    far = np.hypot(x, y) > 8
    leading = 1.0 / np.hypot(x, y)[far]  # the leading edge runs half a width ahead of the middle
    angle = np.mod(np.arctan2(y, x)[far] - np.arcsin(leading) - 2 * np.pi * t_s[far] + np.pi / 2, np.pi) - np.pi / 2
    assert np.abs(angle).mean() < 0.05
    slope = np.polyfit(t_s[far], angle, 1)[0]
    assert abs(slope) < 0.01 * 2 * np.pi  # what is left of the speed after subtracting it


@pytest.mark.parametrize(("velocity_px_s", "on"), [(300.0, 1), (-300.0, 0)])
def test_a_discs_radius_grows_or_shrinks_at_its_velocity(velocity_px_s: float, on: int) -> None:
    stream = EventStream(41, 41).expanding_disc(0.05, velocity_px_s, radius_px=2.0 if on else 17.0)
    assert set(stream.events["p"]) == {on}
    radius = np.hypot(stream.events["x"] - 20.0, stream.events["y"] - 20.0)
    t_of_r = np.polyfit(radius, stream.events["t"] * 1e-6, 1)[0]
    assert 1 / t_of_r == pytest.approx(velocity_px_s, rel=0.01)


def test_a_grating_gives_each_pixel_the_events_of_its_cycles_one_pixel_after_the_other() -> None:
    seconds, velocity, period = 1.0, 40.0, 8.0
    stream = SENSOR.grating(seconds, velocity, period_px=period)
    cycles = seconds * velocity / period
    # a pixel's levels lie a threshold apart; 5 or 6 of them within the wave's BRIGHT: 4 or 5 events each way
    assert set(stream.counts().ravel() // cycles) <= {7, 8, 9, 10}
    assert stream.counts().max() == 10 * cycles
    assert stream.counts().min() in (8 * cycles - 1, 8 * cycles)
    on = of_polarity(stream, True)
    firsts = [on.events["t"][(on.events["x"] == x) & (on.events["y"] == 3)] for x in (16, 24)]
    late = np.median(firsts[0][-20:])
    assert np.median(firsts[1][-20:]) == pytest.approx(late, abs=1000)  # one period further: the same phase


def test_a_step_gives_as_many_events_as_thresholds_fit_at_their_exact_times() -> None:
    ramp = lambda t: t * np.array([[1.0, -0.5]])  # noqa: E731
    events = crossings(ramp, 1.0, 7, contrast=0.3)
    assert [tuple(map(int, e)) for e in events] == [
        (0, 0, 300_000, 1), (0, 0, 600_000, 1), (1, 0, 600_000, 0), (0, 0, 900_000, 1),
    ]  # fmt: skip


def test_noise_is_poisson_at_its_rate_and_even_over_pixels_and_polarities() -> None:
    seconds, rate_hz = 20.0, 4.0
    stream = SENSOR.noise(seconds, rate_hz, np.random.default_rng(5))
    expected = seconds * rate_hz * 32 * 24
    assert abs(len(stream) - expected) < 5 * expected**0.5
    counts = stream.counts().ravel()
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=5 * (2 / counts.size) ** 0.5)
    assert abs(stream.events["p"].mean() - 0.5) < 5 * 0.5 / expected**0.5
    gaps = np.diff(stream.events["t"][stream.pixels % 97 == 0])
    assert stats.kstest(gaps, "expon", args=(0, gaps.mean())).pvalue > 1e-3


def test_the_same_seed_makes_the_same_noise() -> None:
    one, two, other = (SENSOR.noise(0.1, 10.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert rows(one) == rows(two) != rows(other)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EventStream(0, 4), "0 x 4 pixels"),
        (lambda: SENSOR.moving_bar(1.0, -3.0), "angle says which way"),
        (lambda: SENSOR.moving_bar(1e9, 10.0), "samples"),
        (lambda: SENSOR.noise(1e9, 10.0, np.random.default_rng(0)), "at most"),
        (lambda: SENSOR.moving_bar(-1.0, 10.0), "a scene lasts"),
        (lambda: EventStream(4, 4, make_events([4], [0], [0], [0])), "x is 0 to 3"),
        (lambda: EventStream(4, 4, make_events([0], [0], [0], [2])), "p is 0 to 1"),
        (lambda: EventStream(4, 4, make_events([0, 1], [0, 1], [5, 4], [0, 0])), "event 1 lies before"),
        (lambda: EventStream(4, 4, make_events([0], [0], [-5], [0])), "times begin at 0"),
        (lambda: EventStream(4, 4, np.zeros(3)), "fields x, y, t, p"),
        (
            lambda: EventStream(4, 4, np.array([(0, 0, 0.25, 1)], [("x", int), ("y", int), ("t", float), ("p", int)])),
            "t holds float64: whole numbers",
        ),
        (lambda: crop(SENSOR, 30, 0, 8, 8), "a window of 8 x 8 at"),
        (lambda: downsample(SENSOR, 64, 24), "coarser only"),
        (lambda: SENSOR + EventStream(8, 8), "do not add up"),
    ],
)
def test_what_cannot_be_is_refused_in_words(make: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


# ------------------------------------------------------------------ filters


@given(streams(), st.integers(0, 60))
def test_after_a_refractory_period_events_of_a_pixel_are_further_apart(stream: EventStream, period_us: int) -> None:
    kept = refractory(stream, period_us * 1e-6)
    assert is_part_of(kept, stream)
    assert set(kept.pixels) == set(stream.pixels)  # the first event of each pixel always stays
    for pixel in set(kept.pixels):
        assert (np.diff(kept.events["t"][kept.pixels == pixel]) > period_us).all()
    # maximal: every event that was dropped lies within the period after one that was kept
    events = rows(kept)
    for x, y, t, p in rows(stream):
        near = any((a, b) == (x, y) and s <= t <= s + period_us for a, b, s, _ in events)
        assert (x, y, t, p) in events or near


@given(streams(), st.integers(1, 60))
def test_denoise_keeps_what_a_neighbour_supports_and_only_that(stream: EventStream, window_us: int) -> None:
    events = rows(stream)
    expected = [
        (x, y, t, p)
        for k, (x, y, t, p) in enumerate(events)
        if any(max(abs(x - a), abs(y - b)) == 1 and t - s <= window_us for a, b, s, _ in events[:k])
    ]
    assert rows(denoise(stream, window_us * 1e-6)) == expected


@given(streams(), st.data())
def test_a_coarser_frame_holds_every_event_in_its_block(stream: EventStream, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, stream.width)), data.draw(st.integers(1, stream.height))
    coarse = downsample(stream, width, height)
    assert (coarse.width, coarse.height, len(coarse)) == (width, height, len(stream))
    assert (coarse.events["t"] == stream.events["t"]).all()
    assert (coarse.events["x"] == stream.events["x"] * width // stream.width).all()
    assert coarse.counts().sum() == stream.counts().sum()


@given(streams(), st.data())
def test_a_window_holds_what_lies_inside_it(stream: EventStream, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, stream.width - 1)), data.draw(st.integers(0, stream.height - 1))
    width, height = data.draw(st.integers(1, stream.width - x)), data.draw(st.integers(1, stream.height - y))
    part = crop(stream, x, y, width, height)
    assert (part.counts() == stream.counts()[y : y + height, x : x + width]).all()
    back = part.events.copy()
    back["x"] += x
    back["y"] += y
    assert is_part_of(stream.with_events(back), stream)


@given(streams(), st.integers(0, 100), st.integers(1, 100))
def test_a_cut_in_time_is_counted_from_its_start(stream: EventStream, start_us: int, length_us: int) -> None:
    part = between(stream, start_us * 1e-6, (start_us + length_us) * 1e-6)
    t = stream.events["t"]
    assert list(part.events["t"]) == [s - start_us for s in t if start_us <= s < start_us + length_us]


@given(streams())
def test_the_polarities_add_up_to_the_stream(stream: EventStream) -> None:
    on, off = of_polarity(stream, True), of_polarity(stream, False)
    assert set(on.events["p"]) <= {1}
    assert set(off.events["p"]) <= {0}
    assert sorted(rows(on + off)) == sorted(rows(stream))


def test_denoise_takes_noise_and_leaves_the_bar() -> None:
    bar = SENSOR.moving_bar(0.3, 150.0)
    noise = SENSOR.noise(0.3, 3.0, np.random.default_rng(2))
    assert len(denoise(noise, 5e-3)) < 0.2 * len(noise)
    assert len(denoise(bar, 5e-3)) > 0.95 * len(bar)
    speed = edge_speed(of_polarity(denoise(bar + noise, 5e-3), True))
    assert speed.velocity_px_s == pytest.approx(150.0, rel=0.05)


def test_streams_cannot_be_changed_by_their_user() -> None:
    stream = SENSOR.moving_bar(0.1, 200.0)
    with pytest.raises(ValueError, match="read-only"):
        stream.events["x"][0] = 7
    part = crop(stream, 4, 4, 8, 8)
    assert part.events["x"].min() >= 0
    assert stream.events.dtype == EVENT


def test_the_threshold_counts_are_those_of_the_log_intensity() -> None:
    assert pytest.approx(log(3.0)) == BRIGHT
    assert hypot(3, 4) == 5  # the disc's radius is measured from the middle of the frame
    finer = SENSOR.moving_bar(0.4, 100.0, contrast=CONTRAST / 2)
    assert len(finer) == 2 * 32 * 24 * int(BRIGHT / (CONTRAST / 2))


# ------------------------------------------------------------------ Tonic


def test_tonics_transforms_take_our_events() -> None:
    transforms = pytest.importorskip("tonic.transforms", exc_type=ImportError)
    stream = SENSOR.moving_bar(0.3, 150.0)
    frames = transforms.ToFrame(sensor_size=(32, 24, 2), n_time_bins=6)(stream.events)
    assert frames.shape == (6, 2, 24, 32)
    assert transforms.Denoise(filter_time=5000)(stream.events).dtype == EVENT
