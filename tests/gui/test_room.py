"""Views are stacked where there is no room for them beside each other, and the side panel can be put away."""

from __future__ import annotations

import pytest
from neurobench.gui.frame.modes import Mode, fitted
from neurobench.gui.frame.window import MainWindow
from neurobench.gui.parts.plot import Plot
from neurobench.gui.session.states import BenchState
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from neurobench.runs.request import Request

pytestmark = pytest.mark.usefixtures("qt")

FOUR = ((("map",), ("schedule", "console")), (("traces",), ("progress", "spikes")))


def seen(mode: Mode) -> set[str]:
    """The views of which anything can be seen."""
    return {view.name for view in mode.shown()}


@pytest.mark.parametrize(
    ("fit", "columns"),
    [
        ((2, 2), FOUR),
        ((2, 1), ((("map", "schedule", "console"),), (("traces", "progress", "spikes"),))),
        ((1, 2), ((("map", "traces"), ("schedule", "progress", "console", "spikes")),)),
        ((1, 1), ((("map", "traces", "schedule", "progress", "console", "spikes"),),)),
    ],
)
def test_views_in_fewer_columns_and_rows(fit: tuple[int, int], columns: object) -> None:
    assert fitted(FOUR, fit) == columns


def test_at_twice_the_text_size_one_view_has_all_the_room_and_f9_gives_more(window: MainWindow, qtbot: QtBot) -> None:
    mode = window.show_mode("bench")
    qtbot.waitUntil(lambda: len(seen(mode)) == 4)
    window.set_look(scale=2.0)
    qtbot.waitUntil(lambda: seen(mode) == {"crossbar"})
    qtbot.keyClick(window, Qt.Key.Key_F9)
    qtbot.waitUntil(lambda: seen(mode) == {"crossbar", "traces"})
    assert not mode.side.isVisible()
    qtbot.mouseClick(window.rail.side, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: seen(mode) == {"crossbar"})
    assert mode.side.isVisible()
    window.set_look(scale=1.0)
    qtbot.waitUntil(lambda: len(seen(mode)) == 4)


def test_a_closed_view_stays_closed_when_there_is_room_again(window: MainWindow, qtbot: QtBot) -> None:
    mode = window.show_mode("bench")
    qtbot.waitUntil(lambda: len(seen(mode)) == 4)
    mode.docks["traces"].close()
    window.set_look(scale=2.0)
    qtbot.waitUntil(lambda: len(seen(mode)) == 1)
    window.set_look(scale=1.0)
    qtbot.waitUntil(lambda: {"crossbar", "schedule"} <= seen(mode))
    assert not mode.docks["traces"].isVisible()


def test_the_view_of_what_a_run_shows_comes_to_the_front(window: MainWindow, qtbot: QtBot) -> None:
    mode, session = window.show_mode("bench"), window.session
    qtbot.waitUntil(lambda: session.state is BenchState.READY and "progress" in seen(mode), timeout=30_000)
    for asked, name in ((Request("iv-sweep"), "iv"), (Request("manhattan"), "progress")):
        assert session.start(asked)
        qtbot.waitUntil(lambda name=name: name in seen(mode), timeout=30_000)
        qtbot.waitUntil(lambda: session.state is BenchState.READY, timeout=30_000)


def test_a_plot_without_a_curve_shows_no_axes(window_app: QApplication, qtbot: QtBot) -> None:
    plot = Plot("Nothing yet")
    qtbot.addWidget(plot)
    assert plot.item.opacity() == 0.0
    plot.item.plot([1.0, 2.0])
    assert plot.item.opacity() == 1.0
    plot.item.clear()
    assert plot.item.opacity() == 0.0
