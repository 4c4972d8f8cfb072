"""Conductances over time, series and spikes: bounded, and right as long as the bounds are not reached."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from threading import Thread
from typing import Any

import numpy as np
import pytest

from neurobench.learning.statistics import Raster, rasters, spikes_note
from neurobench.runs import heard as heard_module
from neurobench.runs import traces as traces_module
from neurobench.runs.heard import Heard
from neurobench.runs.traces import Grown, Traces, thinned

ALL = np.arange(16)


def grid(seq: int, of: int = 16) -> Any:
    return (1e-6 * np.arange(1.0, of + 1) + 1e-9 * seq).astype(np.float32).astype(np.float64)


def test_a_grown_array_keeps_what_it_showed() -> None:
    grown = Grown(np.float64)
    shown = []
    for n in range(500):
        grown.add(float(n))
        shown.append(grown.seen())
    assert [len(one) for one in shown] == list(range(1, 501))
    assert all(one.tolist() == list(range(len(one))) for one in shown)
    with pytest.raises(ValueError, match="read-only"):
        shown[0][0] = 5


def test_reads_of_all_cells_and_of_single_ones_are_one_trace() -> None:
    traces = Traces((4, 4))
    traces.add(0, 0.0, ALL, grid(0))
    traces.add(1, 0.1, np.array([5]), np.array([7e-6]))
    traces.add(2, 0.2, np.array([6]), np.array([8e-6]))
    traces.add(3, 0.3, ALL, grid(3))
    at_s, values = traces.trace([(1, 1)], 9)
    assert at_s.tolist() == [0.0, 0.1, 0.3]
    np.testing.assert_allclose(values[:, 0], [grid(0)[5], 7e-6, grid(3)[5]], rtol=1e-6)
    at_s, values = traces.trace([(1, 2), (1, 1), (1, 2)], 2)
    assert at_s.tolist() == [0.0, 0.1, 0.2]
    assert np.isnan(values).tolist() == [[False] * 3, [True, False, True], [False, True, False]]
    assert traces.trace([(3, 3)], -1)[0].tolist() == []
    assert traces.trace([(3, 3)], -1)[1].shape == (0, 1)


def test_a_read_of_half_the_cells_leaves_gaps_in_the_others() -> None:
    traces = Traces((4, 4))
    for seq in range(6):
        traces.add(seq, float(seq), ALL[seq % 2 :: 2], grid(seq)[seq % 2 :: 2])
    at_s, values = traces.trace([(0, 0)], 9)
    assert at_s.tolist() == [0, 2, 4]
    assert not np.isnan(values).any()
    both = traces.trace([(0, 0), (0, 1)], 9)[1]
    assert np.isnan(both).sum() == 6


def test_the_band_is_that_of_the_cells_that_were_read() -> None:
    traces, rng = Traces((4, 4)), np.random.default_rng(0)
    reads = [rng.random(16 if n % 3 else 9) for n in range(200)]
    reads[7][3] = np.nan
    for seq, values in enumerate(reads):
        traces.add(seq, float(seq), ALL[: len(values)], values)
    at_s, band = traces.band(1000)
    assert at_s.tolist() == list(range(200))
    np.testing.assert_allclose(band, [np.nanpercentile(values, (25, 50, 75)) for values in reads])
    assert len(traces.band(99)[0]) == 100


def test_a_read_of_one_cell_of_many_is_no_band() -> None:
    traces, lone = Traces((4, 4)), Traces((1, 1))
    for one in (traces, lone):
        one.add(0, 0.0, np.array([0]), np.array([1e-6]))
    assert len(traces.band(9)[0]) == 0
    assert lone.band(9)[1].tolist() == [[1e-6] * 3]


def test_reads_of_a_large_array_are_not_held_as_they_came() -> None:
    traces, alive = Traces((512, 512)), []
    for seq in range(6):
        values = np.full(512 * 512, 1e-6 * (seq + 1))
        alive.append(weakref.ref(values))
        traces.add(seq, float(seq), np.arange(512 * 512), values)
        del values
    assert [one() for one in alive] == [None] * 6
    assert traces.band(9)[1][:, 1].tolist() == [1e-6 * (seq + 1) for seq in range(6)]
    np.testing.assert_allclose(traces.trace([(511, 511)], 9)[1][:, 0], 1e-6 * np.arange(1, 7), rtol=1e-6)


def test_every_second_value_of_a_trace_goes_and_never_its_last() -> None:
    of = np.array([1, 2, 1, 1, 2, 3, 1, 1])
    assert np.flatnonzero(thinned(of)).tolist() == [0, 3, 4, 5, 7]
    assert np.flatnonzero(thinned(of, least=2)).tolist() == [0, 1, 3, 4, 5, 7]


def test_memory_is_bounded_and_the_last_value_stays() -> None:
    traces = Traces((8, 8), cap_bytes=60_000)
    for seq in range(3000):
        traces.add(seq, float(seq), np.arange(64), grid(seq, 64))
        traces.add(seq, float(seq), np.array([seq % 3]), np.array([1e-3 * (seq % 3 + 1)]))
    assert traces.nbytes < 2.2 * 60_000 + 40 * (1 << 15)
    at_s, values = traces.trace([(0, 0), (7, 7)], 3000)
    assert (np.diff(at_s) >= 0).all()
    assert at_s[0] == 0 or at_s[0] < 1500
    assert at_s[-1] == 2999
    assert values[-1, 1] == pytest.approx(grid(2999, 64)[63], rel=1e-6)
    for cell in range(3):
        assert np.isclose(traces.trace([(0, cell)], 3000)[1], 1e-3 * (cell + 1)).sum() > 20


def test_one_trace_never_becomes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces_module, "MOST", 100)
    traces = Traces((64, 64))
    for seq in range(1000):
        traces.add(seq, float(seq), np.array([7]), np.array([1e-6 * seq]))
        if seq % 100 == 0:
            traces.add(seq, float(seq), np.array([9]), np.array([1e-6]))
    at_s, values = traces.trace([(0, 7)], 2000)
    assert 50 <= len(at_s) <= 101
    np.testing.assert_allclose(values[:, 0], 1e-6 * at_s, rtol=1e-6)
    assert at_s[-1] == 999
    assert len(traces.trace([(0, 9)], 2000)[0]) == 10, "a trace that is short is left alone"


def test_a_view_may_look_while_a_reader_adds() -> None:
    traces, wrong = Traces((4, 4), cap_bytes=30_000), list[Exception]()
    done = False

    def look() -> None:
        while not done:
            try:
                at_s, values = traces.trace([(0, 0), (1, 1)], 10**6)
                assert len(at_s) == len(values)
                at_s, band = traces.band(10**6)
                assert len(at_s) == len(band)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                wrong.append(error)
                return

    viewer = Thread(target=look)
    viewer.start()
    for seq in range(5000):
        traces.add(seq, float(seq), ALL, grid(seq))
    done = True
    viewer.join()
    assert wrong == []


def test_series_are_cut_at_a_step_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard_module, "MOST_EPOCHS", 50)
    heard = Heard((4, 4))
    for n in range(40):
        heard.epoch(10 * n, {"index": n + 1, "error": 1.0 / (n + 1), "weights": np.ones(3), "word": "no"})
    assert list(heard.progress(1000)) == ["error"]
    assert heard.progress(95)["error"].at.tolist() == list(range(1, 11))
    assert heard.progress(1000) is heard.progress(1000)
    before = heard.progress(1000)["error"]
    for n in range(40, 400):
        heard.epoch(10 * n, {"index": n + 1, "error": 1.0 / (n + 1)})
    after = heard.progress(10_000)["error"]
    assert len(after.at) <= 51
    assert after.at[-1] == 400
    np.testing.assert_allclose(after.values, 1 / after.at)
    assert before.at.tolist() == list(range(1, 41))


def told(start: int, ticks: int, rng: Any, layer: str = "input") -> Mapping[str, Any]:
    n = int(rng.integers(0, 20))
    value: Mapping[str, Any] = spikes_note(
        layer, 5, 1e-3, start, ticks, rng.integers(0, ticks, n), rng.integers(0, 5, n)
    ).value
    return value


def equal(a: Raster, b: Raster) -> bool:
    same = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("spans", "tick", "neuron"))
    return same and (a.layer, a.neurons, a.tick_s) == (b.layer, b.neurons, b.tick_s)


@pytest.mark.parametrize("in_order", [True, False])
def test_a_raster_made_longer_is_the_raster_of_all_notes(in_order: bool) -> None:
    rng, heard, notes, start = np.random.default_rng(3), Heard((4, 4)), list[Mapping[str, Any]](), 0
    for seq in range(60):
        start += int(rng.integers(0, 2)) * 7
        notes.append(told(start if in_order else int(rng.integers(0, 500)), 10, rng))
        start += 10
        heard.spikes(seq, notes[-1])
        if rng.random() < 0.5:
            assert equal(heard.rasters(seq)["input"], rasters(notes)["input"])
    assert equal(heard.rasters(60)["input"], rasters(notes)["input"])
    assert equal(heard.rasters(30)["input"], rasters(notes[:31])["input"])
    assert heard.rasters(60) is heard.rasters(60)


def test_of_a_long_raster_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard_module, "MOST_SPIKES", 200)
    rng, heard, notes, kept = np.random.default_rng(4), Heard((4, 4)), list[Mapping[str, Any]](), 0
    for seq in range(120):
        notes.append(told(10 * seq, 10, rng))
        heard.spikes(seq, notes[-1])
        found = heard.rasters(seq)["input"]
        assert len(found.tick) <= 220
        kept = int(found.spans[0, 0]) // 10
        assert equal(found, rasters(notes[kept:])["input"])
    assert kept > 60


def test_points_are_cut_at_a_step_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard_module, "MOST_TOLD", 30)
    points = Heard((4, 4)).points
    for seq in range(25):
        points.add(seq, {"index": seq})
    assert [one["index"] for one in points.until(9)] == list(range(10))
    assert points.until(9) is points.until(9)
    for seq in range(25, 100):
        points.add(seq, {"index": seq})
    assert len(points.until(100)) <= 30
    assert points.until(100)[-1]["index"] == 99


def test_reads_of_half_of_the_cells_are_not_called_those_of_all() -> None:
    traces = Traces((2, 2))
    for seq, cells in enumerate(([0, 1, 2, 3], [0, 1], [0, 1, 2])):
        traces.add(seq, float(seq), np.array(cells, np.intp), np.full(len(cells), 1e-6))
    assert traces.band(2)[0].tolist() == [0.0, 2.0]
