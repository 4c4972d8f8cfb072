"""What all views have in common: words where there is nothing, the mark SIMULATED, nothing drawn twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import snapshots as made
from neurobench.gui import theme
from neurobench.gui.views import plots
from neurobench.gui.views.activations import ActivationsView
from neurobench.gui.views.console import ConsoleView
from neurobench.gui.views.energy import EnergyView
from neurobench.gui.views.iv import IvView
from neurobench.gui.views.plots import Canvas, Panel
from neurobench.gui.views.progress import ProgressView
from neurobench.gui.views.raster import RasterView
from neurobench.gui.views.schedule import ScheduleView
from neurobench.gui.views.stdp import StdpView
from neurobench.gui.views.truth import TruthView
from neurobench.gui.views.weights import WeightsView
from PySide6.QtWidgets import QLabel
from seen import shown, words

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

KINDS = (WeightsView, ProgressView, ActivationsView, RasterView, StdpView, IvView, ScheduleView, EnergyView,
         ConsoleView, TruthView)  # fmt: skip
FULL = {
    WeightsView: made.trained, ProgressView: made.trained, ActivationsView: made.trained, RasterView: made.spiking,
    StdpView: made.window, IvView: made.sweep, ScheduleView: made.trained, EnergyView: made.trained,
    ConsoleView: made.trained, TruthView: made.trained,
}  # fmt: skip


@pytest.fixture(autouse=True)
def app(window_app: QApplication) -> QApplication:
    return window_app


# ---------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_run_a_view_says_what_to_do(qtbot: Any, kind: type[Panel]) -> None:
    view = shown(qtbot, kind, None)
    assert "F5" in words(view)
    assert "SIMULATED" not in words(view)
    assert view.accessibleName()
    assert view.name
    assert view.title


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_simulated_is_marked_and_what_is_real_is_not(qtbot: Any, kind: type[Panel]) -> None:
    snapshot = FULL[kind]()
    view = shown(qtbot, kind, snapshot)
    assert "SIMULATED" in words(view)
    view.draw(replace(snapshot, about=replace(snapshot.about, simulated=False)))
    assert "SIMULATED" not in words(view)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (ConsoleView,)])
def test_a_run_that_has_nothing_for_a_view_is_answered_in_words(qtbot: Any, kind: type[Panel]) -> None:
    empty = made.snapshot()
    view = shown(qtbot, kind, empty)
    said = max((label.text() for label in view.findChildren(QLabel) if label.isVisible()), key=len)
    assert said.endswith(".")
    assert len(said) > 20
    view.draw(FULL[kind]())
    assert said not in words(view)
    view.draw(empty)
    assert said in words(view)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_drawn_twice(qtbot: Any, kind: type[Panel], monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a view is drawn, its plots hold as much as at first; and the same parts are not drawn again."""
    snapshot = FULL[kind]()
    view = shown(qtbot, kind, snapshot)
    before = [len(plot.items) for canvas in view.findChildren(Canvas) for plot in canvas.plots]
    for _ in range(3):
        view.draw(FULL[kind]())
    view.draw(snapshot)
    assert [len(plot.items) for canvas in view.findChildren(Canvas) for plot in canvas.plots] == before
    drawn: list[object] = []
    monkeypatch.setattr(kind, "_draw", lambda _self, what: drawn.append(what))
    view.draw(snapshot)
    view.draw(replace(snapshot, at_s=99.0))  # another snapshot, the same parts
    assert drawn == []
    view.restyle()
    assert len(drawn) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_is_not_blank_and_takes_theme_and_size(qtbot: Any, app: QApplication, kind: type[Panel]) -> None:
    view = shown(qtbot, kind, FULL[kind]())
    for name, scale in (("dark", 1.0), ("light", 2.0)):
        theme.apply(app, name, scale)
        view.restyle()
        image = view.grab().toImage()
        seen = {image.pixel(x, y) for x in range(0, image.width(), 7) for y in range(0, image.height(), 7)}
        assert len(seen) > 5
        assert image.pixelColor(2, image.height() - 3).name() == theme.tokens().panel


def test_a_view_says_when_a_run_is_silent(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "STALE_S", 0.2)
    view = shown(qtbot, ProgressView, made.trained())
    qtbot.waitUntil(lambda: "no news for" in words(view), timeout=5000)
    view.draw(made.trained(epochs=13))
    assert "no news" not in words(view)


def test_a_paused_or_old_run_is_not_called_silent(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "STALE_S", 0.2)
    silent = shown(qtbot, ProgressView, made.trained())
    view = shown(qtbot, ProgressView, made.trained(status="paused"))
    old = shown(qtbot, ProgressView, made.trained(live=False, status="finished"))
    live = made.trained()
    by_hand = shown(qtbot, ProgressView, replace(live, about=replace(live.about, protocol="hand")))
    qtbot.waitUntil(lambda: "no news for" in words(silent), timeout=5000)
    assert "no news" not in words(view) + words(old) + words(by_hand)
