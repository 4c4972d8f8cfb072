"""Views are shown what is odd: nothing, only nan, one of everything, other shapes than agreed. None fails or warns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import snapshots as made
from neurobench.gui.views.activations import ActivationsView
from neurobench.gui.views.console import ConsoleView
from neurobench.gui.views.energy import EnergyView
from neurobench.gui.views.iv import IvView
from neurobench.gui.views.progress import ProgressView
from neurobench.gui.views.raster import RasterView
from neurobench.gui.views.schedule import ScheduleView
from neurobench.gui.views.stdp import StdpView
from neurobench.gui.views.truth import TruthView
from neurobench.gui.views.weights import WeightsView

from neurobench.bench.stimulus import Pulse, PulseBatch, Shape, Waveforms
from neurobench.learning.statistics import Raster
from neurobench.runs.drawing import Series
from neurobench.runs.history import Energy, Snapshot

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

NAN, NONE = float("nan"), np.zeros(0, np.int64)


@pytest.fixture(autouse=True)
def app(window_app: QApplication) -> QApplication:
    return window_app


def layer(neurons: int, spans: Any, tick: Any = NONE, neuron: Any = NONE) -> Snapshot:
    spans = np.asarray(spans, np.int64).reshape(-1, 2)
    return made.snapshot(rasters={"a": Raster("a", neurons, 1e-3, spans, np.asarray(tick), np.asarray(neuron))})


def points(n: int, **changes: Any) -> Snapshot:
    return made.window(points=[{**one, **changes} for one in list(made.window().points)[:n]], result={})


def branch(**changes: Any) -> Snapshot:
    return made.snapshot(branches=[{**made.sweep().branches[0], **changes}])


def many_lines() -> Snapshot:
    """Waveforms of which every line has its own time."""
    shape, start = Shape(np.array([0, 1e-3, 2e-3]), np.array([0.0, 1, 0])), np.linspace(0, 1, 50)
    waves = Waveforms((shape,), np.zeros(50), np.zeros(50), start, start)
    return made.trained(stimulus=waves, about=made.about((50, 50)), cells=made.cells((50, 50)))


def flat() -> Waveforms:
    return Waveforms(
        (Shape(np.array([0, 1e-3]), np.zeros(2)),), np.zeros(10), np.full(6, -1), np.zeros(10), np.zeros(6)
    )


ODD = {
    WeightsView: lambda: [
        made.trained(weights_s=np.full((3, 2), NAN)), made.trained(weights_s=np.array([[1e-9]])),
        made.trained(weights_s=np.zeros((3, 2))), made.trained(weights_s=np.ones((3, 2, 2))),
        made.trained(weights_s=np.ones(5)), made.trained(notes={"network": {"layers": []}}),
    ],
    TruthView: lambda: [made.trained(truth_s=np.zeros((2, 2))), made.trained(truth_s=np.array([[1e-9]]))],
    ProgressView: lambda: [
        made.trained(epochs=1), made.trained(progress={"error": made.series(NAN, NAN)}),
        made.trained(progress={"error": Series(np.zeros(0), np.zeros(0))}),
        made.trained(progress={"outer": made.series(1, 2)}), made.trained(progress={}, live=False),
    ],
    ActivationsView: lambda: [
        made.trained(activations=np.full((4, 2), NAN), targets=np.full((4, 2), 0.8)),
        made.trained(targets=np.ones((2, 2))), made.trained(targets=None), made.trained(patterns=500),
    ],
    RasterView: lambda: [
        layer(5, [[0, 100]]), layer(5, []), layer(0, [[0, 100]]), layer(5, [[0, 100], [500, 10]], [3, 505], [1, 4]),
        made.snapshot(rasters={f"l{k}": made.raster(f"l{k}", 10, 50) for k in range(12)}),
    ],
    StdpView: lambda: [
        points(1), points(3, sigma_s=NAN), points(3, dt_s=0.0), points(5, initialised=False), points(4, kind="none"),
        made.snapshot(points=[{"index": 1, "conductance_s": 1e-6}]),
        made.window(result={**made.window().result, "fit": {"a_plus": None, "said": {"plus": "not fitted: noise"}}}),
    ],
    IvView: lambda: [
        branch(volts_v=np.array([0.5]), current_a=np.zeros(1)), branch(current_a=np.full(29, NAN)),
        branch(switch_v=NAN), made.sweep(about=made.about(limits={"compliance_a": None})),
    ],
    ScheduleView: lambda: [
        made.trained(stimulus=PulseBatch(np.zeros((10, 6), np.int16), Pulse(1, 1e-3))), made.trained(stimulus=flat()),
        made.trained(about=made.about((10, 6), limits={})), many_lines(), made.trained(recent=()),
        made.trained(about=made.about((10, 6), pulses_allowed=np.zeros((10, 6)))),
    ],
    EnergyView: lambda: [
        made.trained(energy=Energy(NAN, NAN, "unknown", 3, 0, 0)), made.trained(energy=Energy(1, 1, "new", 3, 0, 0)),
        made.trained(progress={"energy_j": made.series(1e-6, 2e-6)}), made.trained(recent=()),
    ],
    ConsoleView: lambda: [made.trained(harm=("cell (0, 0) is shorted",), error="x & <b>y</b>"),
                          made.trained(recent=())],
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_is_drawn_or_answered_in_words(qtbot: Any, kind: Any) -> None:
    view = kind()
    qtbot.addWidget(view)
    view.resize(500, 300)
    view.show()
    for odd in ODD[kind]():
        view.draw(odd)
        assert not view.grab().toImage().isNull()
        assert view.accessibleDescription()
