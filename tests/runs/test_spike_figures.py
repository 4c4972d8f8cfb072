"""Figures of spiking runs hold what the notes say, at any size, and say SIMULATED."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import PrivateAttr

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Note, Protocol, Result
from neurobench.learning.statistics import spikes_note
from neurobench.runs import figures, runner
from neurobench.runs import spike_figures as drawn
from neurobench.runs.drawing import Series
from neurobench.runs.figures import FIGURES, History
from neurobench.runs.runfile import RunWriter
from neurobench.runs.spike_figures import NOTES, SERIES, Spiking, spiking

pytest.importorskip("matplotlib")

NAMES = ("raster", "activity", "training", "confusion", "network", "window")
AT = np.arange(1.0, 6.0)
EMPTY = Series(np.empty(0), np.empty(0))


def spikes(layer: str, neurons: int, ticks: int, rate: float, start: int = 0) -> dict[str, Any]:
    tick, neuron = np.nonzero(np.random.default_rng(neurons).random((ticks, neurons)) < rate)
    value: dict[str, Any] = spikes_note(layer, neurons, 1e-3, start, ticks, tick, neuron).value
    return value


def network(layers: int = 2, name: str = "layer") -> dict[str, Any]:
    names = [f"{name} {k}" for k in range(layers)]
    connections = [*pairwise(names), (names[-1], names[-1]), (names[-1], names[0])]
    return {
        "layers": [{"name": one, "neurons": 10, "kind": "lif"} for one in names],
        "connections": [
            {"from": a, "to": b, "rows": [0, 10], "cols": [0, 10], "cells": 25, "rule": "pair STDP"}
            for a, b in connections
        ],
    }


def told(**more: Any) -> dict[str, list[Any]]:
    notes: dict[str, list[Any]] = {
        "spikes": [spikes("input", 20, 200, 0.05), spikes("output", 4, 200, 0.02)],
        "activity": [{"layer": "output", "shape": [2, 2], "counts": np.array([[1, 2], [3, 4]])}],
        "confusion": [{"labels": ["0", "1"], "counts": np.array([[3, 1], [0, 4]])}],
        "network": [network()],
    }
    return notes | more


def history(notes: dict[str, list[Any]] | None = None, simulated: bool = True, **series: Series) -> History:
    epochs = {name: series.get(name, EMPTY) for name in SERIES}
    said = spiking(told() if notes is None else notes, epochs)
    return History("a run", simulated, EMPTY, EMPTY, EMPTY, EMPTY, None, EMPTY, window(), said)


def window(**more: Any) -> dict[str, Any]:
    dt_s = np.array([-40e-3, -10e-3, 10e-3, 40e-3])
    fit = {"a_plus": 2e-8, "tau_plus_s": 20e-3, "a_minus": None, "tau_minus_s": None}
    fit["intervals"] = {"a_plus": [2e-8, 1e-8, 3e-8], "tau_plus_s": [20e-3, 15e-3, 25e-3]}  # type: ignore[assignment]
    found = {"dt_s": dt_s, "dg_s": np.sign(dt_s) * 1e-8, "g0_s": np.full(4, 1e-6), "fit": fit}
    found["controls"] = {"lone_pre_s": [1e-10, 2e-10], "lone_post_s": [0.0], "none_s": []}
    return found | more


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def markers(axes: Any) -> tuple[list[float], list[float]]:
    line = axes.get_lines()[0]
    return list(line.get_xdata()), list(line.get_ydata())


def test_every_spike_has_a_mark_at_its_time() -> None:
    figure: Any = FIGURES["raster"](history())
    note = told()["spikes"][0]
    x, y = markers(figure.get_axes()[0])
    np.testing.assert_allclose(x, note["tick"] * 1e-3)
    assert y == note["neuron"].tolist()
    assert f"20 neurons, {len(x)} spikes in 0.2 s" in texts(figure)


def test_notes_of_one_layer_follow_each_other() -> None:
    parts = [spikes("a", 5, 100, 0.1, start) for start in (0, 100)]
    figure: Any = FIGURES["raster"](history(told(spikes=parts)))
    axes = figure.get_axes()
    assert len(axes) == 1
    assert axes[0].get_xlim() == (0.0, pytest.approx(0.2))


def test_a_long_raster_shows_its_end_close_up(monkeypatch: pytest.MonkeyPatch) -> None:
    figure: Any = FIGURES["raster"](history(told(spikes=[spikes("a", 3, 6000, 0.01)])))
    whole, end = figure.get_axes()
    assert end.get_xlim() == (pytest.approx(5.5), pytest.approx(6.0))
    assert whole.get_lines()
    monkeypatch.setattr(drawn, "MARKS", 10)
    crowded: Any = FIGURES["raster"](history(told(spikes=[spikes("a", 3, 6000, 0.01)])))
    assert crowded.get_axes()[0].get_images(), "too many spikes for marks are drawn as a density"


def test_the_activity_map_is_the_last_one_told() -> None:
    later = {"layer": "output", "shape": [1, 4], "counts": np.array([9, 8, 7, 6])}
    notes = told()
    figure: Any = FIGURES["activity"](history(notes | {"activity": [*notes["activity"], later]}))
    image = next(axes.get_images()[0] for axes in figure.get_axes() if axes.get_images())
    assert image.get_array().tolist() == [[9, 8, 7, 6]]


def test_the_training_curve_holds_both_accuracies_and_the_loss() -> None:
    loss, accuracy, test = Series(AT, 1 / AT), Series(AT, AT / 10), Series(AT, AT / 20)
    figure: Any = FIGURES["training"](history(loss=loss, accuracy=accuracy, test_accuracy=test))
    left, right = figure.get_axes()
    assert [list(line.get_ydata()) for line in left.get_lines()] == [
        pytest.approx((100 * AT / 10).tolist()), pytest.approx((100 * AT / 20).tolist())
    ]  # fmt: skip
    assert list(right.get_lines()[0].get_ydata()) == (1 / AT).tolist()
    assert "test: 25.0 % at the end" in texts(figure)
    alone: Any = FIGURES["training"](history(error=loss, test_accuracy=test))
    assert len(alone.get_axes()) == 2, "an error counts as the loss where no loss was told"


def test_the_confusion_says_how_many_were_right() -> None:
    figure: Any = FIGURES["confusion"](history())
    assert "87.5 % of 8 right" in texts(figure)
    assert figure.get_axes()[0].get_images()[0].get_array().tolist() == [[75, 25], [0, 100]]


def test_the_window_shows_points_controls_and_the_branch_that_was_fitted() -> None:
    figure: Any = FIGURES["window"](history())
    words = texts(figure)
    assert "4 points" in words
    assert "lone pre: 0.15 ± 0.071 nS (n = 2)" in words
    assert "A+ = 20 [10, 30] nS, τ = 20 [15, 25] ms" in words
    assert "A−" not in words, "a branch that could not be fitted is not drawn"
    assert "no pulse" not in words
    assert "ΔG / G₀ (%)" in words


def test_a_branch_has_the_sign_of_its_amplitude() -> None:
    fit = {"a_plus": 2e-8, "tau_plus_s": 20e-3, "a_minus": -1e-8, "tau_minus_s": 30e-3}
    figure: Any = FIGURES["window"](History("t", True, EMPTY, EMPTY, EMPTY, EMPTY, None, EMPTY, window(fit=fit)))
    branches = {line.get_label()[:2]: line for line in figure.get_axes()[0].get_lines()}
    assert min(branches["A+"].get_ydata()) > 0
    assert min(branches["A+"].get_xdata()) > 0
    assert max(branches["A−"].get_ydata()) < 0
    assert max(branches["A−"].get_xdata()) < 0


def test_the_network_says_cells_density_and_rule() -> None:
    figure: Any = FIGURES["network"](history())
    words = texts(figure)
    assert "layer 0" in words
    assert words.count("25 cells (25 %)") == 3
    assert "rows 0-9, cols 0-9" in words
    assert words.count("pair STDP") == 3


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_is_said_on_every_figure(tmp_path: Path, simulated: bool) -> None:
    said = history(simulated=simulated, accuracy=Series(AT, AT / 10))
    for name in NAMES:
        figure: Any = FIGURES[name](said)
        path = figures._saved(figure, said, tmp_path / f"{name}.png")
        assert path.stat().st_size > 3000
        assert any("SIMULATED" in text.get_text() for text in figure.texts) is simulated


def test_any_size_and_any_name_can_be_drawn(tmp_path: Path) -> None:
    long = "a name that is much longer than anybody would write on a chip"
    labels = [f"{long} {k}" for k in range(70)]
    odd = told(
        spikes=[spikes(long, 1, 6000, 0.01), spikes("silent", 1000, 30, 0.0)],
        activity=[{"layer": "of another", "shape": [1, 1], "counts": [[0]]}],
        confusion=[{"labels": labels, "counts": np.zeros((70, 70), int)}], network=[network(7, long)],
    )  # fmt: skip
    said = history(odd, accuracy=Series(AT[:1], AT[:1] / 10))
    empty = window(dt_s=[], dg_s=[], g0_s=None, fit=None, controls=None, theory=None)
    for name in NAMES:
        for one in (said, History("t", True, EMPTY, EMPTY, EMPTY, EMPTY, None, EMPTY, empty, said.spiking)):
            figure: Any = FIGURES[name](one)
            assert figures._saved(figure, one, tmp_path / f"{name}.png").exists()


def test_what_was_not_told_is_not_drawn() -> None:
    said = History("t", True, EMPTY, EMPTY, EMPTY, EMPTY, None, EMPTY, {}, Spiking())
    assert [FIGURES[name](said) for name in NAMES] == [None] * len(NAMES)
    assert FIGURES["training"](history(loss=Series(AT, AT))) is None, "an error alone has a figure of its own"


class Tells(Protocol):
    """A protocol that only tells."""

    _notes: list[Note] = PrivateAttr(default_factory=list)

    def steps(self, view: Any, rng: Any, start: Any = None) -> Any:
        yield from self._notes
        return Result(True, {})


def test_a_run_is_drawn_from_its_file(tmp_path: Path) -> None:
    protocol = Tells()
    protocol._notes.extend(Note(name, value) for name, values in told().items() for value in values)
    protocol._notes.append(Note("epoch", {"index": 1, "accuracy": 0.5, "loss": 2.0}))
    guard = open_bench(load_bench("emulator", {"chip.rows": 2, "chip.cols": 2}), seed=1)
    with RunWriter.create(tmp_path / "one.nbr") as record:
        assert runner.run(protocol, guard, seed=1, record=record).error is None
    guard.close()
    files = figures.draw(tmp_path / "one.nbr", tmp_path / "out")
    told_of = ("raster", "activity", "training", "confusion", "network")
    assert [file.stem for file in files] == [f"one-{name}" for name in told_of]
    said = figures.read_history(tmp_path / "one.nbr")
    assert set(NOTES) == set(told())
    assert said.spiking.rasters["input"].neurons == 20
