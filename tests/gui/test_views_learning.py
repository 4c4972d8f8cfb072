"""Views of what is learned: weights, truth, progress, activations, spikes. What they draw is what the snapshot says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import snapshots as made
from neurobench.gui.views.activations import ActivationsView, passing
from neurobench.gui.views.plots import HeatMap
from neurobench.gui.views.progress import ProgressView, goal_accuracy, reached_at
from neurobench.gui.views.raster import RasterView, density
from neurobench.gui.views.truth import MARK, TruthView
from neurobench.gui.views.weights import WeightsView
from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QApplication, QComboBox, QToolButton
from seen import curves, shown, words

from neurobench.learning.statistics import population_rate_hz
from neurobench.runs.drawing import Series


@pytest.fixture(autouse=True)
def app(window_app: QApplication) -> QApplication:
    return window_app


# ---------------------------------------------------------------------------------------------- weights, truth


def test_weights_are_drawn_as_they_are_with_zero_in_the_middle(qtbot: Any) -> None:
    snapshot = made.trained()
    view = shown(qtbot, WeightsView, snapshot)
    weights_map = view.findChild(HeatMap)
    assert snapshot.weights_s is not None
    np.testing.assert_allclose(weights_map.image.image, snapshot.weights_s * 1e6)
    low, high = weights_map.image.levels
    assert low == -high
    assert high == pytest.approx(np.abs(snapshot.weights_s).max() * 1e6)


def test_single_cells_have_no_middle(qtbot: Any) -> None:
    snapshot = made.trained(weights_s=np.array([[1e-6], [5e-6]]), single_cells=True)
    view = shown(qtbot, WeightsView, snapshot)
    assert tuple(view.findChild(HeatMap).image.levels) == pytest.approx((1.0, 5.0))
    assert "single cells" in words(view)


def test_the_histogram_counts_every_weight(qtbot: Any) -> None:
    view = shown(qtbot, WeightsView, made.trained())
    ((edges, counts),) = curves(view._plot)
    assert counts.sum() == 30
    assert len(edges) == len(counts) + 1


def test_arrows_walk_over_the_weights_and_tell_them(qtbot: Any) -> None:
    snapshot = made.trained()
    view = shown(qtbot, WeightsView, snapshot)
    weights_map = view.findChild(HeatMap)
    weights_map.setFocus()
    qtbot.keyClick(weights_map, Qt.Key.Key_Down)
    qtbot.keyClick(weights_map, Qt.Key.Key_Right)
    assert snapshot.weights_s is not None
    assert f"input 1, neuron 1: {snapshot.weights_s[1, 1] * 1e6:.4g} µS" in words(view)
    later = snapshot.weights_s + 1e-6
    view.draw(replace(snapshot, weights_s=later))
    assert f"input 1, neuron 1: {later[1, 1] * 1e6:.4g} µS" in words(view), "it is told anew with every frame"
    QApplication.sendEvent(weights_map, QEvent(QEvent.Type.Leave))
    assert "input 1" not in words(view)


def test_another_layer_shows_its_cells(qtbot: Any) -> None:
    network = {"layers": [], "connections": [{"from": "in", "to": "out", "rows": [2, 6], "cols": [1, 4]}]}
    snapshot = made.trained(notes={"network": network})
    view = shown(qtbot, WeightsView, snapshot)
    layers = view.findChild(QComboBox)
    assert [layers.itemText(n) for n in range(layers.count())] == ["weights of the run", "in → out"]
    layers.setFocus()
    qtbot.keyClick(layers, Qt.Key.Key_Down)
    expected = snapshot.cells.conductance_s[2:6, 1:4]
    np.testing.assert_allclose(view.findChild(HeatMap).image.image, expected * 1e6)


def test_the_truth_is_labelled_and_absent_for_real_chips(qtbot: Any) -> None:
    snapshot = made.trained()
    view = shown(qtbot, TruthView, snapshot)
    assert MARK in words(view)
    assert snapshot.truth_s is not None
    np.testing.assert_allclose(view.findChild(HeatMap).image.image, snapshot.truth_s * 1e6)
    view.draw(made.snapshot(about=made.about(simulated=False)))
    assert MARK not in words(view)
    assert "real" in words(view)


# ---------------------------------------------------------------------------------------------- progress


def test_error_and_accuracy_are_the_series_of_the_epochs(qtbot: Any) -> None:
    snapshot = made.trained()
    view = shown(qtbot, ProgressView, snapshot)
    error, accuracy = view._plots[:2]
    np.testing.assert_array_equal(curves(error)[0][0], snapshot.progress["error"].at)
    np.testing.assert_array_equal(curves(error)[0][1], snapshot.progress["error"].values)
    np.testing.assert_allclose(curves(accuracy)[0][1], 100 * snapshot.progress["accuracy"].values)


def test_another_quantity_is_shown_in_its_unit(qtbot: Any) -> None:
    snapshot = made.trained(result={"required_a": 5e-9})
    view = shown(qtbot, ProgressView, snapshot)
    chooser = view.findChild(QComboBox)
    chooser.setFocus()
    qtbot.keyClick(chooser, Qt.Key.Key_Down)
    plot = view._plots[2]
    np.testing.assert_allclose(curves(plot)[0][1], snapshot.progress["margin_a"].values * 1e9)
    assert plot.getAxis("left").labelText == "margin (nA)"
    assert [line.value() for line in view._marks[2].items] == [pytest.approx(5.0)]


def test_where_the_goal_was_reached_is_marked_only_once_it_was(qtbot: Any) -> None:
    going = made.trained(epochs=12)
    view = shown(qtbot, ProgressView, going)
    assert view._marks[0].items == []
    view.draw(replace(going, status="finished", live=False))
    assert [line.value() for line in view._marks[0].items] == [12.0]
    assert reached_at(replace(going, status="not_converged", live=False)) is None
    assert reached_at(replace(going, status="finished", seq=3)) is None  # an earlier step of a run that reached it


def test_the_goal_stands_as_a_line_where_it_is_an_accuracy(qtbot: Any) -> None:
    about = made.about(parameters={"goal_accuracy": 0.9})
    view = shown(qtbot, ProgressView, made.trained(about=about))
    assert [line.value() for line in view._marks[1].items] == [pytest.approx(90.0)]
    assert goal_accuracy({"goal": "margin", "goal_accuracy": 0.9}) is None
    assert goal_accuracy({"goal": "classified"}) == 1.0


def test_other_runs_lie_beside_this_one_and_are_named(qtbot: Any) -> None:
    view = shown(qtbot, ProgressView, made.trained())
    view.set_others([("0142", made.series(9, 8, 7)), ("0141", {"error": made.series(5), "accuracy": made.series(0.5)})])
    assert len(curves(view._plots[0])) == 3
    assert "0142" in words(view)
    assert "0141" in words(view)
    view.set_others([])
    assert len(curves(view._plots[0])) == 1


# ---------------------------------------------------------------------------------------------- activations


def test_every_activation_is_a_mark_at_its_pattern(qtbot: Any) -> None:
    snapshot = made.trained(patterns=12, outputs=3)
    view = shown(qtbot, ActivationsView, snapshot)
    assert snapshot.activations is not None
    drawn = curves(view._plot)
    assert len(drawn) == 3
    for k, (x, y) in enumerate(drawn):
        np.testing.assert_array_equal(np.rint(x), np.arange(12))
        np.testing.assert_array_equal(y, snapshot.activations[:, k])


def test_a_band_goes_from_each_target_outwards(qtbot: Any) -> None:
    snapshot = made.trained(patterns=12, outputs=3)
    view = shown(qtbot, ActivationsView, snapshot)
    assert snapshot.targets is not None
    np.testing.assert_array_equal(view._bands.opts["y0"], snapshot.targets.ravel())
    np.testing.assert_array_equal(view._bands.opts["y1"], np.sign(snapshot.targets).ravel())


def test_how_many_patterns_pass_is_told(qtbot: Any) -> None:
    targets = np.array([[0.8, -0.8], [-0.8, 0.8], [0.8, -0.8]])
    found = np.array([[0.9, -0.85], [-0.9, 0.7], [0.8, -0.8]])
    assert passing(found, targets) == 2
    view = shown(qtbot, ActivationsView, made.trained(activations=found, targets=targets))
    assert "2 of 3 patterns" in words(view)


# ---------------------------------------------------------------------------------------------- spikes


def test_every_spike_is_one_pair_of_points(qtbot: Any) -> None:
    snapshot = made.spiking(4000)
    view = shown(qtbot, RasterView, snapshot)
    for layer, raster in snapshot.rasters.items():
        item = view._spikes[layer]
        x, y = item.getData()
        np.testing.assert_allclose(x[::2], raster.tick * raster.tick_s)
        np.testing.assert_array_equal(x[::2], x[1::2])
        assert item.opts["connect"] == "pairs"
        low = y[::2]
        bottom = low[raster.neuron == raster.neuron.min()][0]
        step = (low.max() - low.min()) / (raster.neuron.max() - raster.neuron.min())
        np.testing.assert_allclose(np.rint((low - bottom) / step), raster.neuron - raster.neuron.min())


def test_layers_do_not_overlap(qtbot: Any) -> None:
    view = shown(qtbot, RasterView, made.spiking())
    spans = sorted((item.getData()[1].min(), item.getData()[1].max()) for item in view._spikes.values())
    assert spans[0][1] < spans[1][0]


def test_the_rate_below_is_that_of_the_statistics(qtbot: Any) -> None:
    snapshot = made.spiking()
    view = shown(qtbot, RasterView, snapshot)
    for (x, y), raster in zip(curves(view._rate), snapshot.rasters.values(), strict=True):
        at_s, hertz = population_rate_hz(raster)
        np.testing.assert_allclose(x, at_s)
        np.testing.assert_allclose(y, hertz)


def test_a_test_before_the_first_epoch_is_in_sight(qtbot: Any) -> None:
    tested = Series(np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.6, 0.9]))
    progress = {"loss": made.series(0.6, 0.3), "accuracy": made.series(0.4, 0.7), "test_accuracy": tested}
    view = shown(qtbot, ProgressView, made.snapshot(progress=progress))
    qtbot.waitUntil(lambda: view._plots[1].viewRange()[0][0] <= 0)


def test_what_there_is_not_yet_is_told_of_its_step(qtbot: Any) -> None:
    view = shown(qtbot, WeightsView, made.snapshot(live=True))
    assert "no weights yet" in words(view)
    view.draw(made.snapshot(live=False, seq=5, about=view.snapshot.about))
    assert "no weights up to this step" in words(view)
    view.draw(made.snapshot(live=False, about=view.snapshot.about))
    assert "no weights in this run" in words(view)


def test_a_crowd_of_one_neuron_is_a_density_too(qtbot: Any) -> None:
    view = shown(qtbot, RasterView, made.snapshot(rasters={"neuron": made.raster("neuron", 1, 700)}))
    assert list(view._density) == ["neuron"]
    view.draw(made.snapshot(rasters={"neuron": made.raster("neuron", 1, 500)}))
    assert list(view._spikes) == ["neuron"]


def test_very_many_spikes_are_a_density_that_counts_each_once(qtbot: Any) -> None:
    many = made.raster("input", 200, 350_000, ticks=50_000)
    snapshot = made.snapshot(rasters={"input": many})
    view = shown(qtbot, RasterView, snapshot)
    assert view._spikes == {}
    assert view._density["input"].image.sum() == 350_000
    found, first, last = density(many)
    assert (first, last) == (0, 50_000)
    assert found[0].sum() == (many.neuron == 0).sum()
    view.draw(made.spiking())
    assert view._density == {}


def test_close_up_shows_the_last_ticks_only(qtbot: Any) -> None:
    snapshot = made.spiking(4000)
    view = shown(qtbot, RasterView, snapshot)
    qtbot.mouseClick(view.findChild(QToolButton), Qt.MouseButton.LeftButton)
    raster = snapshot.rasters["input"]
    x, _ = view._spikes["input"].getData()
    assert len(x) == 2 * int((raster.tick >= 19_500).sum())
