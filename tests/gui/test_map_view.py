"""The crossbar map, used as a person does: real mouse and key events; what is drawn is what was read back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snapshots
from neurobench.gui import theme
from neurobench.gui.selection import Selection
from neurobench.gui.views import crossbar as crossbar_module
from neurobench.gui.views.crossbar import CrossbarView
from neurobench.gui.views.quantities import ago, levels_of, scale_of, with_sigma
from PySide6.QtCore import QEvent, QPointF, Qt
from PySide6.QtGui import QGuiApplication, QImage, QMouseEvent
from PySide6.QtWidgets import QApplication

NONE, CTRL, SHIFT = (
    Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier,
)  # fmt: skip
LEFT = Qt.MouseButton.LeftButton


def mouse(view: CrossbarView, kind: QEvent.Type, at: QPointF, keys: Any = NONE, buttons: Any = LEFT) -> None:
    button = LEFT if kind != QEvent.Type.MouseMove else Qt.MouseButton.NoButton
    event = QMouseEvent(kind, at, view.canvas.mapToGlobal(at), button, buttons, keys)
    QApplication.sendEvent(view.canvas, event)


def centre(view: CrossbarView, cell: tuple[int, int]) -> QPointF:
    return view.canvas.cell_rect(cell).center()


def click(view: CrossbarView, cell: tuple[int, int], keys: Any = NONE) -> None:
    mouse(view, QEvent.Type.MouseButtonPress, centre(view, cell), keys)
    mouse(view, QEvent.Type.MouseButtonRelease, centre(view, cell), keys, Qt.MouseButton.NoButton)


def drag(view: CrossbarView, a: tuple[int, int], b: tuple[int, int], keys: Any = NONE) -> None:
    mouse(view, QEvent.Type.MouseButtonPress, centre(view, a), keys)
    start, end = centre(view, a), centre(view, b)
    for k in (0.3, 0.6, 1.0):
        mouse(view, QEvent.Type.MouseMove, start + (end - start) * k, keys)
    mouse(view, QEvent.Type.MouseButtonRelease, end, keys, Qt.MouseButton.NoButton)


@pytest.fixture
def view(window_app: QApplication, qtbot: Any) -> Iterator[CrossbarView]:
    made = CrossbarView(Selection((4, 4)))
    qtbot.addWidget(made)
    made.resize(460, 420)
    made.show()
    qtbot.waitExposed(made)
    yield made
    made.close()


def known(**changes: Any) -> Any:
    grid = np.linspace(10e-6, 85e-6, 16).reshape(4, 4)
    grid[1, 1] = math.nan
    excluded = np.zeros((4, 4), np.bool_)
    excluded[3, 0] = True
    made = snapshots.cells(
        conductance_s=grid, first_s=grid - 2e-6, sigma_s=np.full((4, 4), 0.4e-6), excluded=excluded,
        read_at_s=np.where(np.isnan(grid), np.nan, 1.0), ups=np.full((4, 4), 12), downs=np.zeros((4, 4), np.int64),
    )  # fmt: skip
    device = replace(snapshots.about().device, read_voltage_v=0.1)
    made = snapshots.snapshot(cells=made, about=snapshots.about(device=device), at_s=4.2)
    return replace(made, **changes)


# ------------------------------------------------------------------------------------------------- choosing cells


def test_a_click_chooses_one_cell(view: CrossbarView) -> None:
    view.draw(known())
    click(view, (2, 1))
    assert view.selection.cells == ((2, 1),)
    click(view, (0, 3))
    assert view.selection.cells == ((0, 3),)


def test_a_drag_chooses_a_block_in_any_direction(view: CrossbarView) -> None:
    view.draw(known())
    drag(view, (2, 2), (1, 0))
    assert view.selection.cells == ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2))


def test_a_drag_that_leaves_the_map_ends_at_its_rim(view: CrossbarView) -> None:
    view.draw(known())
    mouse(view, QEvent.Type.MouseButtonPress, centre(view, (3, 2)))
    mouse(view, QEvent.Type.MouseMove, QPointF(5000, 5000))
    assert view.selection.cells == ((3, 2), (3, 3))


def test_ctrl_toggles_and_adds_a_block(view: CrossbarView) -> None:
    view.draw(known())
    click(view, (0, 0))
    click(view, (3, 3), CTRL)
    assert view.selection.cells == ((0, 0), (3, 3))
    drag(view, (1, 1), (1, 2), CTRL)
    assert view.selection.cells == ((0, 0), (1, 1), (1, 2), (3, 3))
    click(view, (3, 3), CTRL)
    assert view.selection.cells == ((0, 0), (1, 1), (1, 2))


def test_shift_draws_the_block_from_where_it_began(view: CrossbarView) -> None:
    view.draw(known())
    click(view, (1, 1))
    click(view, (2, 3), SHIFT)
    assert len(view.selection.cells) == 6
    click(view, (0, 1), SHIFT)
    assert view.selection.cells == ((0, 1), (1, 1))


def test_the_name_of_a_line_chooses_the_line(view: CrossbarView) -> None:
    view.draw(known())
    grid = view.canvas.grid_rect()
    mouse(view, QEvent.Type.MouseButtonPress, QPointF(grid.left() - 8, centre(view, (2, 0)).y()))
    assert view.selection.cells == tuple((2, col) for col in range(4))
    mouse(view, QEvent.Type.MouseButtonPress, QPointF(centre(view, (0, 1)).x(), grid.top() - 8))
    assert view.selection.cells == tuple((row, 1) for row in range(4))


def test_keys_move_extend_toggle_and_choose_all(view: CrossbarView, qtbot: Any) -> None:
    view.draw(known())
    click(view, (1, 1))
    view.canvas.setFocus()
    for key, keys in ((Qt.Key.Key_Right, NONE), (Qt.Key.Key_Down, SHIFT)):
        qtbot.keyClick(view.canvas, key, keys)
    assert view.selection.cells == ((1, 2), (2, 2))
    qtbot.keyClick(view.canvas, Qt.Key.Key_Home, NONE)
    assert view.selection.cells == ((2, 0),)
    qtbot.keyClick(view.canvas, Qt.Key.Key_Up, CTRL)
    assert (view.selection.cells, view.selection.cursor) == (((2, 0),), (1, 0))
    qtbot.keyClick(view.canvas, Qt.Key.Key_Space)
    assert view.selection.cells == ((1, 0), (2, 0))
    qtbot.keyClick(view.canvas, Qt.Key.Key_A, CTRL)
    assert view.selection.count == 16


def test_cells_can_be_chosen_before_anything_was_read(view: CrossbarView) -> None:
    view.draw(None)
    drag(view, (0, 0), (0, 1))
    assert view.selection.cells == ((0, 0), (0, 1))
    assert "never read" in view.words
    assert "No run is open" in view.canvas.picture.empty


# ------------------------------------------------------------------------------------------------- what is told


def test_hover_says_value_sigma_pulses_state_and_age(view: CrossbarView) -> None:
    view.draw(known())
    mouse(view, QEvent.Type.MouseMove, centre(view, (2, 2)), buttons=Qt.MouseButton.NoButton)
    assert view.words.split("   ") == ["W2 B2", "60.0 ±0.4 µS", "12 pulses", "ok", "read 3.2 s ago"]
    mouse(view, QEvent.Type.MouseMove, centre(view, (3, 0)), buttons=Qt.MouseButton.NoButton)
    assert "excluded" in view.words.split("   ")
    QApplication.sendEvent(view.canvas, QEvent(QEvent.Type.Leave))
    assert view.words.startswith("W0 B0"), "without a mouse the line is about the cursor"


def test_a_cell_that_was_never_read_is_not_zero(view: CrossbarView) -> None:
    view.draw(known())
    mouse(view, QEvent.Type.MouseMove, centre(view, (1, 1)), buttons=Qt.MouseButton.NoButton)
    assert view.words.startswith("W1 B1   never read")
    picture = view.canvas.picture
    assert picture.unread[1, 1]
    assert picture.unread.sum() == 1
    assert picture.numbers((1, 1)) == "?"
    lut = {tuple(color) for color in picture.bar.lut.tolist()}
    assert tuple(picture.rgba[1, 1].tolist()) not in lut, "it has no colour of the scale"


def test_excluded_cells_are_hatched_on_the_screen(view: CrossbarView) -> None:
    view.draw(known())
    view.set_numbers(False)
    view.selection.clear()
    image = view.canvas.grab().toImage()
    colors = {cell: _colors(image, view.canvas.cell_rect(cell)) for cell in ((3, 0), (3, 1))}
    assert len(colors[3, 1]) == 1
    assert {"#ffffff", "#000000"} <= colors[3, 0]


def _colors(image: QImage, room: Any) -> set[str]:
    inside = room.adjusted(6, 6, -6, -6).toRect()
    return {
        image.pixelColor(x, y).name()
        for x in range(inside.left(), inside.right(), 1)
        for y in range(inside.top(), inside.bottom(), 1)
    }


@pytest.mark.parametrize(
    ("key", "value", "title"),
    [("G", 60e-6, "conductance (µS)"), ("R", 1 / 60e-6, "resistance (kΩ)"), ("I", 6e-6, "(µA)"),
     ("dG", 2e-6, "change of the conductance (µS), against the first value read"), ("age", 3.2, "(s)")],
)  # fmt: skip
def test_each_quantity_in_its_unit(view: CrossbarView, qtbot: Any, key: str, value: float, title: str) -> None:
    view.draw(known())
    qtbot.mouseClick(view.buttons[key], LEFT)
    assert view.field.values[2, 2] == pytest.approx(value)
    assert title in view.canvas.picture.title
    factor, _ = scale_of(max(map(abs, view.levels)), view.quantity.unit)
    assert float(view.canvas.picture.numbers((2, 2))) == pytest.approx(value * factor, rel=0.01)
    assert math.isnan(view.field.values[1, 1])


def test_without_a_declared_read_voltage_there_is_no_current_and_it_says_so(view: CrossbarView) -> None:
    view.draw(known(about=snapshots.about()))
    view.show_quantity("I")
    assert "not declared" in view.canvas.picture.empty
    assert np.isnan(view.field.values).all()


def test_weights_stand_on_both_cells_of_their_pair(view: CrossbarView) -> None:
    shot = snapshots.trained(outputs=3)
    view.draw(shot)
    view.show_quantity("W")
    assert (view.field.values[:, 0::2] == shot.weights_s).all()
    assert (view.field.values[:, 1::2] == shot.weights_s).all()
    assert view.levels[0] == -view.levels[1], "signed colours are centred at 0"


def test_weights_that_nobody_told_are_no_zeros(view: CrossbarView) -> None:
    view.draw(known())
    view.show_quantity("W")
    assert "no weights" in view.canvas.picture.empty
    assert np.isnan(view.field.values).all()


def test_the_mask_names_its_colours(view: CrossbarView) -> None:
    view.draw(known())
    view.show_quantity("mask")
    assert [words for _, words in view.canvas.picture.legend] == ["in use", "never read", "excluded"]
    assert view.canvas.picture.numbers((3, 0)) == "x"
    assert view.canvas.picture.numbers((1, 1)) == "?"


def test_simulated_stands_in_the_picture_and_a_real_chip_has_none(view: CrossbarView) -> None:
    view.draw(known())
    assert view.canvas.picture.tag == "SIMULATED"
    tag = theme.tokens().simulated
    assert tag in _colors(view.canvas.grab().toImage(), view.canvas.rect().toRectF())
    view.draw(known(about=snapshots.about(simulated=False)))
    assert view.canvas.picture.tag == ""
    assert tag not in _colors(view.canvas.grab().toImage(), view.canvas.rect().toRectF())


# ------------------------------------------------------------------------------------------------- the scale


def test_the_scale_is_fixed_grows_when_left_and_is_fitted_on_request(view: CrossbarView, qtbot: Any) -> None:
    shot = known()
    view.draw(shot)
    first = view.levels
    view.draw(_times(shot, 0.9))
    assert view.levels == first, "not fitted to every frame"
    view.draw(_times(shot, 2.0))
    assert view.levels[1] > 170e-6
    grown = view.levels
    view.draw(shot)
    assert view.levels == grown
    qtbot.mouseClick(view.buttons["range"], LEFT)
    assert view.levels == pytest.approx(first)


def test_a_held_scale_stays_and_says_what_is_beyond(view: CrossbarView) -> None:
    shot = known()
    view.draw(shot)
    view.set_hold(True)
    first = view.levels
    view.draw(_times(shot, 2.0))
    assert view.levels == first
    assert "9 cells beyond the colours" in view.badge.text()


def _times(shot: Any, factor: float) -> Any:
    return replace(shot, cells=replace(shot.cells, conductance_s=shot.cells.conductance_s * factor))


def test_logarithmic_colours_spread_decades_evenly(view: CrossbarView, qtbot: Any) -> None:
    grid = np.logspace(-9, -3, 16).reshape(4, 4)
    shot = snapshots.snapshot(cells=snapshots.cells(conductance_s=grid))
    view.draw(shot)
    qtbot.mouseClick(view.buttons["log"], LEFT)
    lut = view.canvas.picture.bar.lut.tolist()
    at = [lut.index(color) for color in view.canvas.picture.rgba.reshape(-1, 4).tolist()]
    assert np.diff(at) == pytest.approx(17, abs=2)


def test_what_has_no_logarithm_is_counted_and_leaves_the_scale_alone(view: CrossbarView) -> None:
    grid = np.logspace(-9, -4, 16).reshape(4, 4)
    grid[0] = [0.0, -1e-9, 1e-9, 2e-9]
    shot = known(cells=snapshots.cells(conductance_s=grid, first_s=grid))
    view.set_log(True)
    view.draw(shot)
    levels = view.levels
    assert levels == pytest.approx((1e-9, 1e-4))
    assert view.badge.text() == "! 2 cells at 0 or below: no place on a logarithmic scale"
    view.set_hold(True)
    assert "no place" in view.badge.text()
    assert [view.canvas.picture.numbers((0, n)) for n in range(4)] == ["0", "-0.001", "0.001", "0.002"]
    view.set_hold(False)
    view.draw(replace(shot, cells=replace(shot.cells)))
    assert view.levels == levels
    view.set_log(False)
    assert not view.badge.text()


def test_another_run_gets_a_scale_of_its_own(view: CrossbarView) -> None:
    view.draw(known())
    view.draw(_times(known(about=snapshots.about(path="/runs/other.nbr")), 1e-3))
    assert view.levels[1] < 1e-6


def test_dg_can_be_measured_against_marked_values(view: CrossbarView) -> None:
    shot = known()
    view.draw(shot)
    view.mark_now()
    view.show_quantity("dG")
    view.set_against(crossbar_module.MARKED)
    view.draw(_times(shot, 1.5))
    assert view.field.values[2, 2] == pytest.approx(30e-6)
    assert "the marked values" in view.canvas.picture.title
    view.draw(known(about=snapshots.about(path="/runs/other.nbr")))  # its marks are those of another run
    assert "the first value read" in view.canvas.picture.title


def test_dg_can_be_measured_against_the_read_before(view: CrossbarView) -> None:
    shot = known()
    before_s = shot.cells.conductance_s - 3e-6
    view.show_quantity("dG")
    view.set_against(crossbar_module.BEFORE)
    view.draw(replace(shot, cells=replace(shot.cells, before_s=before_s)))
    assert view.field.values[2, 2] == pytest.approx(3e-6)
    assert "the value read before" in view.canvas.picture.title
    view.draw(replace(shot, cells=replace(shot.cells, before_s=np.full((4, 4), np.nan))))
    assert "read once" in view.canvas.picture.empty


def test_the_same_snapshot_is_drawn_once(view: CrossbarView, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = crossbar_module.field_of
    monkeypatch.setattr(crossbar_module, "field_of", lambda *args: calls.append(1) or original(*args))
    shot = known()
    view.draw(shot)
    view.draw(shot)
    view.draw(replace(shot, seq=11, last_seq=11))  # only time has passed
    assert len(calls) == 1


# ------------------------------------------------------------------------------------------------- stale, table, files


def test_a_live_run_without_news_is_stale_and_one_by_hand_is_not(
    view: CrossbarView, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossbar_module, "STALE_S", 0.2)
    view.draw(known())
    qtbot.waitUntil(lambda: view.badge.isVisible() and "STALE" in view.badge.text(), timeout=3000)
    view.draw(replace(known(), seq=11, last_seq=11))
    assert not view.badge.isVisible()
    for quiet in (known(about=snapshots.about(protocol="hand")), replace(known(), live=False), known(seq=3)):
        view.draw(quiet)
        view._heard -= 60
        view.look_for_news()
        assert not view.badge.isVisible()


def test_the_table_has_the_same_numbers_and_chooses_the_same_cells(view: CrossbarView, qtbot: Any) -> None:
    view.draw(known())
    view._table.setChecked(True)
    model = view.table.model()
    assert model.index(2, 2).data() == "60"
    assert view._table_title.text().startswith("conductance (µS)")
    assert view._table_tag.isVisible(), "what is simulated says so in the table, too"
    assert model.index(1, 1).data() == "?"
    assert model.index(3, 0).data().endswith(" x")
    assert model.headerData(2, Qt.Orientation.Horizontal) == "B2"
    view.show_quantity("W")
    assert model.index(2, 2).data() == "–", "it was read; there is no weight"
    assert model.index(1, 1).data() == "?"
    view.show_quantity("G")
    at = view.table.visualRect(model.index(3, 3)).center()
    qtbot.mouseClick(view.table.viewport(), LEFT, pos=at)
    assert view.selection.cells == ((3, 3),)
    view.selection.set([(0, 0), (0, 1)])
    chosen = {(one.row(), one.column()) for one in view.table.selectionModel().selectedIndexes()}
    assert chosen == {(0, 0), (0, 1)}


def test_export_writes_beside_the_run_and_says_where(view: CrossbarView, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    view.told.connect(lambda level, words: told.append((level, words)))
    assert view.export_csv() is None
    assert told[-1][0] == "warning"
    view.draw(known(about=snapshots.about(path=str(tmp_path / "0143.nbr"))))
    table, picture = view.export_csv(), view.export_png()
    assert [str(table) in told[-2][1], str(picture) in told[-1][1]] == [True, True]
    lines = table.read_text().splitlines()
    assert "SIMULATED" in lines[0]
    assert lines[1] == "G_S,B0,B1,B2,B3"
    assert lines[3].split(",")[:3] == ["W1", "3e-05", ""], "what was never read is empty, not 0"
    assert QImage(str(picture)).width() == view.canvas.width()


def test_a_folder_that_cannot_be_written_is_told(view: CrossbarView) -> None:
    told: list[tuple[str, str]] = []
    view.told.connect(lambda level, words: told.append((level, words)))
    view.draw(known(about=snapshots.about(path="/proc/nowhere/0143.nbr")))
    assert view.export_csv() is None
    assert view.export_png() is None
    assert [level for level, _ in told] == ["error", "error"]


def test_copy_gives_what_a_spreadsheet_takes(view: CrossbarView) -> None:
    view.draw(known())
    view.copy()
    lines = QGuiApplication.clipboard().text().splitlines()
    assert len(lines) == 5
    assert lines[1].split("\t")[1] == "1e-05"


def test_zoom_keeps_the_cell_under_the_mouse(view: CrossbarView, qtbot: Any) -> None:
    shape = (64, 64)
    view.draw(replace(snapshots.snapshot(), about=snapshots.about(shape), cells=snapshots.cells(shape)))
    at = centre(view, (10, 50))
    view.canvas.zoom(4.0, at)
    assert view.canvas.cell_at(at) == (10, 50)
    assert view.canvas.seen.width() == pytest.approx(16)
    view.selection.begin((0, 0))
    view.canvas.setFocus()
    qtbot.keyClick(view.canvas, Qt.Key.Key_Right)
    assert view.canvas.seen.contains(QPointF(1.5, 0.5)), "the cursor is brought into sight"
    view.canvas.fit()
    assert view.canvas.seen.width() == 64


def test_a_large_array_is_drawn(view: CrossbarView) -> None:
    shape = (512, 512)
    view.draw(replace(snapshots.snapshot(), about=snapshots.about(shape), cells=snapshots.cells(shape)))
    view.selection.all()
    assert not view.canvas.grab().isNull()
    assert view.canvas.picture.rgba.shape == (512, 512, 4)


# ------------------------------------------------------------------------------------------------- numbers in words


def test_numbers_and_their_sigma_share_a_unit() -> None:
    assert with_sigma(41.32e-6, 0.38e-6, "S") == "41.3 ±0.4 µS"
    assert with_sigma(41.32e-6, math.nan, "S") == "41.3 µS"
    assert with_sigma(41.32e-6, 3e-12, "S") == "41.3 µS ±3 pS"
    assert with_sigma(math.nan, 1e-6, "S") == "never read"


def test_ages_in_words() -> None:
    assert [ago(one) for one in (0, 3.2, 600, 36000, math.nan)] == [
        "read just now", "read 3.2 s ago", "read 10 min ago", "read 10.0 h ago", "",
    ]  # fmt: skip


def test_ranges_hold_what_they_are_for() -> None:
    values = np.array([1e-6, 5e-6, math.nan])
    low, high = levels_of(values, signed=False, log=False)
    assert low <= 1e-6 < 5e-6 <= high
    assert levels_of(values, signed=True, log=False) == (-5e-6, 5e-6)
    assert levels_of(np.array([math.nan]), signed=False, log=False) is None
    assert levels_of(np.array([-1.0, 0.0]), signed=False, log=True) is None
