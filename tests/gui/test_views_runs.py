"""Views of runs that were really made: small protocols on the emulator, read by the Follower."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from neurobench.gui.views.activations import ActivationsView
from neurobench.gui.views.console import ConsoleView
from neurobench.gui.views.driven import polarity_of
from neurobench.gui.views.energy import EnergyView, rows_of
from neurobench.gui.views.iv import IvView
from neurobench.gui.views.plots import HeatMap, Panel
from neurobench.gui.views.progress import ProgressView
from neurobench.gui.views.raster import RasterView
from neurobench.gui.views.schedule import ScheduleView
from neurobench.gui.views.stdp import StdpView
from neurobench.gui.views.truth import TruthView
from neurobench.gui.views.weights import WeightsView
from PySide6.QtWidgets import QPlainTextEdit
from seen import curves, shown, words

from neurobench.runs.history import Follower, Snapshot
from neurobench.runs.launch import launch
from neurobench.runs.request import Request, prepare
from neurobench.runs.runfile import RunFile

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

SETTINGS: dict[str, dict[str, Any]] = {
    "manhattan": {"preset": "seed"},
    "iv-sweep": {"levels": 6, "cycles": 2},
    "stdp-window": {"repeats": 1, "devices": 1},
    "moving-bar": {"epochs": 1},
}
ALL = (WeightsView, ProgressView, ActivationsView, RasterView, StdpView, IvView, ScheduleView, EnergyView, ConsoleView,
       TruthView)  # fmt: skip


@pytest.fixture(autouse=True)
def app(window_app: QApplication) -> QApplication:
    return window_app


@pytest.fixture(scope="module")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each protocol."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for protocol, settings in SETTINGS.items():
        found[protocol], error = launch(prepare(Request(protocol, settings=settings, seed=3)), folder)
        assert error is None
    return found


def followed(path: Path, at_seq: int | None = None) -> Snapshot:
    follower = Follower(path)
    while follower.read():
        pass
    found = follower.snapshot(at_seq)
    follower.close()
    return found


@pytest.mark.parametrize("protocol", SETTINGS)
def test_every_view_draws_every_run_and_says_that_it_is_simulated(
    qtbot: Any, made_runs: dict[str, Path], protocol: str
) -> None:
    snapshot = followed(made_runs[protocol])
    for kind in ALL:
        view: Panel = kind()
        qtbot.addWidget(view)
        view.draw(snapshot)
        view.draw(followed(made_runs[protocol], snapshot.last_seq // 2))
        view.draw(snapshot)
        view.show()
        assert "SIMULATED" in words(view), kind


def test_training_is_drawn_as_it_was_recorded(qtbot: Any, made_runs: dict[str, Path]) -> None:
    path = made_runs["manhattan"]
    with RunFile.open(path) as record:
        epochs = [note.value for note in record.notes("epoch")]
        truth = list(record.truth())
    snapshot = followed(path)
    progress = shown(qtbot, ProgressView, snapshot)
    np.testing.assert_allclose(curves(progress._plots[0])[0][1], [epoch["error"] for epoch in epochs])
    weights = [np.asarray(epoch["weights"]) for epoch in epochs if "weights" in epoch][-1]
    learned = shown(qtbot, WeightsView, snapshot)
    drawn = learned.findChild(HeatMap).image.image
    np.testing.assert_allclose(drawn / np.abs(drawn).max(), weights / np.abs(weights).max())
    emulated = shown(qtbot, TruthView, snapshot)
    hidden = emulated.findChild(HeatMap).image.image
    np.testing.assert_allclose(hidden / hidden.max(), truth[-1][1] / np.max(truth[-1][1]))
    active = shown(qtbot, ActivationsView, snapshot)
    last = np.asarray(epochs[-1]["activations"])
    np.testing.assert_allclose(np.stack([y for _, y in curves(active._plot)], axis=1), last)


def test_pulses_of_the_schedule_are_those_of_the_run_file(qtbot: Any, made_runs: dict[str, Path]) -> None:
    snapshot = followed(made_runs["manhattan"])
    assert polarity_of(snapshot.about) == 1
    view = shown(qtbot, ScheduleView, snapshot)
    assert "half select" in words(view)
    assert "victim" in words(view)
    table = rows_of(snapshot)
    with RunFile.open(made_runs["manhattan"]) as record:
        assert table[3][1] == f"{record.manifest['totals']['pulses']:,}"


def test_a_sweep_and_a_window_are_drawn_as_they_were_recorded(qtbot: Any, made_runs: dict[str, Path]) -> None:
    with RunFile.open(made_runs["iv-sweep"]) as record:
        branches = [note.value for note in record.notes("branch")]
    sweeps = shown(qtbot, IvView, followed(made_runs["iv-sweep"]))
    drawn = curves(sweeps._plots[0])
    older = np.concatenate([part for branch in branches[:2] for part in (branch["volts_v"], [np.nan])])
    expected = [older, branches[2]["volts_v"], branches[3]["volts_v"]]
    assert len(branches) == 4
    for (volts, _), wanted in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(volts, wanted)
    with RunFile.open(made_runs["stdp-window"]) as record:
        points = [note.value for note in record.notes("point")]
    view = shown(qtbot, StdpView, followed(made_runs["stdp-window"]))
    pairs = [one for one in points if one["kind"] == "pair" and one["initialised"] and not one["over_range"]]
    assert len(view._curves.items["points"].getData()[0]) == len(pairs)


def test_spikes_are_those_of_the_notes(qtbot: Any, made_runs: dict[str, Path]) -> None:
    with RunFile.open(made_runs["moving-bar"]) as record:
        spikes = [note.value for note in record.notes("spikes")]
    snapshot = followed(made_runs["moving-bar"])
    view = shown(qtbot, RasterView, snapshot)
    for layer in snapshot.rasters:
        told = sum(len(one["tick"]) for one in spikes if one["layer"] == layer)
        assert len(view._spikes[layer].getData()[0]) == 2 * told


def test_the_console_tells_the_last_steps_of_a_run(qtbot: Any, made_runs: dict[str, Path]) -> None:
    snapshot = followed(made_runs["manhattan"])
    view = shown(qtbot, ConsoleView, snapshot)
    text = view.findChild(QPlainTextEdit).toPlainText()
    assert f"#{snapshot.recent[-1].seq}" in text
    assert "manhattan on emulator" in text
