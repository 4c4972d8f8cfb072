"""Traces of the chosen cells: what is drawn is what the history says, and the key tells the values at the mouse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import snapshots
from neurobench.gui.selection import Selection, name_of
from neurobench.gui.views.traces import BAND, MANY, MOST, SAMPLE, TracesView
from PySide6.QtCore import QEvent, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication

from neurobench.bench.stimulus import FloatArray


class Sparse(snapshots.WanderingTraces):
    """Every read is of one cell alone, in turn: all others are nan then."""

    def trace(self, cells: Sequence[tuple[int, int]], until_seq: int) -> tuple[FloatArray, FloatArray]:
        times, values = super().trace(cells, until_seq)
        seen = np.full(values.shape, math.nan)
        for k in range(len(cells)):
            seen[k :: len(cells), k] = values[k :: len(cells), k]
        return times, seen


def shot(steps: int = 40, **changes: Any) -> Any:
    history = snapshots.WanderingTraces(steps=steps)
    return replace(snapshots.snapshot(history=history, seq=steps - 1, last_seq=steps - 1), **changes)


@pytest.fixture
def view(window_app: QApplication, qtbot: Any) -> Iterator[TracesView]:
    made = TracesView(Selection((4, 4)))
    qtbot.addWidget(made)
    made.resize(480, 340)
    made.show()
    qtbot.waitExposed(made)
    yield made
    made.close()


def test_chosen_cells_are_drawn_as_the_history_has_them(view: TracesView) -> None:
    view.selection.set([(0, 1), (2, 3)])
    drawn = shot()
    view.draw(drawn)
    for cell in ((0, 1), (2, 3)):
        x, y = view.curves.items[cell].getData()
        assert x == pytest.approx(drawn.history.at_s)
        assert y == pytest.approx(drawn.history.conductance_s[:, *cell] * 1e6)
    _, band = drawn.history.band(39)
    assert view.curves.items["median"].getData()[1] == pytest.approx(band[:, 1] * 1e6)
    assert view.plot.getAxis("left").labelText == "G (µS)"


def test_only_what_was_read_up_to_the_step_is_drawn(view: TracesView) -> None:
    view.selection.set([(0, 1)])
    view.draw(shot(seq=9))
    assert len(view.curves.items[0, 1].getData()[0]) == 10


def test_reads_of_one_cell_after_the_other_give_whole_lines(view: TracesView) -> None:
    view.selection.set([(0, 0), (0, 1), (0, 2)])
    view.draw(shot(history=Sparse(steps=40)))
    x, y = view.curves.items[0, 1].getData()
    assert np.isfinite(y).all()
    assert len(x) == 13


def test_at_most_eight_are_drawn_and_the_view_says_so(view: TracesView) -> None:
    view.selection.all()
    view.draw(shot())
    assert len([key for key in view.curves.items if key != "median"]) == MOST
    assert view._caption.text() == "8 of 16 cells one by one"
    assert [entry.name for entry in view.entries][-1] == BAND


def test_what_is_seen_of_an_old_run_does_not_depend_on_what_was_looked_at_before(view: TracesView) -> None:
    grid = np.full((4, 4), np.nan)
    grid[2, 1] = 40e-6
    early = snapshots.snapshot(live=False, seq=5, cells=snapshots.cells(conductance_s=grid))
    late = snapshots.snapshot(live=False, seq=150, last_seq=150)

    def seen(shot: Any) -> tuple[Any, ...]:
        view.draw(shot)
        return list(view.curves.items), view.plot.viewRange(), view.words

    first = seen(late)
    assert seen(early)[0] == ["median", (2, 1)]
    assert seen(late) == first


def test_where_only_single_cells_were_read_a_sample_of_them_is_drawn_without_a_band(view: TracesView) -> None:
    view.draw(shot(history=Sparse(steps=40)))
    sample = [key for key in view.curves.items if key != "median"]
    assert len(sample) == SAMPLE
    assert f"{SAMPLE} cells as a sample" in view._caption.text()
    assert [entry.name for entry in view.entries][:-1] == [name_of(cell) for cell in sample]
    view.selection.set([(0, 1)])
    assert set(view.curves.items) == {"median", (0, 1)}


def test_another_selection_is_drawn_at_once(view: TracesView) -> None:
    view.draw(shot())
    assert "choose cells" in view._caption.text()
    view.selection.set([(3, 3)])
    assert (3, 3) in view.curves.items
    view.selection.set([(1, 1)])
    assert set(view.curves.items) == {"median", (1, 1)}


def test_the_key_tells_the_newest_values_and_those_at_the_mouse(view: TracesView, qtbot: Any) -> None:
    view.selection.set([(2, 1)])
    drawn = shot()
    view.draw(drawn)
    newest = drawn.history.conductance_s[-1, 2, 1] * 1e6
    assert view.words[0] == f"W2 B1  {newest:.3g} µS"
    box = view.plot.getViewBox()
    QApplication.processEvents()
    scene = box.mapViewToScene(QPointF(1.0, newest))
    view.canvas.scene().sigMouseMoved.emit(scene)
    there = drawn.history.conductance_s[10, 2, 1] * 1e6
    assert float(view.words[0].split()[2]) == pytest.approx(there, rel=0.01)
    assert "t = 1" in view.words[-1]
    QApplication.sendEvent(view.canvas.viewport(), QEvent(QEvent.Type.Leave))
    assert view.words[0] == f"W2 B1  {newest:.3g} µS"


def test_keys_go_from_read_to_read(view: TracesView, qtbot: Any) -> None:
    view.selection.set([(2, 1)])
    drawn = shot()
    view.draw(drawn)
    view.setFocus()
    for _ in range(3):
        qtbot.keyClick(view, Qt.Key.Key_Left)
    assert view.at == pytest.approx(3.7)
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.at == pytest.approx(3.8)
    qtbot.keyClick(view, Qt.Key.Key_Home)
    assert view.at is None


def test_by_read_numbers_the_reads(view: TracesView, qtbot: Any) -> None:
    view.selection.set([(0, 0)])
    view.draw(shot())
    qtbot.mouseClick(view.by_read, Qt.MouseButton.LeftButton)
    assert view.curves.items[0, 0].getData()[0].tolist() == list(range(1, 41))
    assert view.plot.getAxis("bottom").labelText == "read number"


def test_the_plot_follows_until_it_is_moved_by_hand(view: TracesView, qtbot: Any) -> None:
    view.selection.set([(0, 0)])
    view.draw(shot(40))
    view.draw(shot(80))
    QApplication.processEvents()
    assert view.plot.viewRange()[0][1] >= 7.9
    at = QPointF(view.canvas.viewport().rect().center())
    wheel = QWheelEvent(
        at, view.canvas.viewport().mapToGlobal(at), QPointF(0, 120).toPoint(), QPointF(0, 120).toPoint(),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(view.canvas.viewport(), wheel)
    assert not view.follow.isChecked()
    kept = view.plot.viewRange()
    view.draw(shot(160))
    QApplication.processEvents()
    assert view.plot.viewRange() == kept
    qtbot.mouseClick(view.follow, Qt.MouseButton.LeftButton)
    QApplication.processEvents()
    assert view.plot.viewRange()[0][1] >= 15.9


def test_long_curves_are_thinned_and_keep_their_peaks(view: TracesView) -> None:
    history = snapshots.WanderingTraces(steps=3 * MANY)
    history.conductance_s[12_345, 0, 0] = 900e-6
    view.selection.set([(0, 0)])
    view.draw(shot(3 * MANY, history=history))
    QApplication.processEvents()
    x, y = view.curves.items[0, 0].getData()
    assert len(x) < 2 * MANY
    assert y.max() == pytest.approx(900)


def test_the_same_reads_are_drawn_once(view: TracesView) -> None:
    calls: list[int] = []
    drawn = shot()
    band = drawn.history.band
    drawn.history.band = lambda until: calls.append(1) or band(until)
    view.draw(drawn)
    view.draw(replace(drawn, at_s=9.0))
    assert len(calls) == 1


def test_what_nobody_read_is_told_in_words(view: TracesView) -> None:
    view.draw(None)
    assert "No run is open" in view._words.text()
    grid = np.full((4, 4), math.nan)
    view.draw(shot(cells=snapshots.cells(conductance_s=grid)))
    assert "No cell has been read" in view._words.text()


def test_simulated_is_said(view: TracesView) -> None:
    view.draw(shot())
    assert view._simulated.isVisible()
    view.draw(shot(about=snapshots.about(simulated=False)))
    assert not view._simulated.isVisible()
