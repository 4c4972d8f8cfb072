"""Views of what is done and measured: learning window, sweeps, schedule, energy, console."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import snapshots as made
from neurobench.gui.views.console import ConsoleView, is_warning, kind_of
from neurobench.gui.views.driven import driven, lifetime_words
from neurobench.gui.views.energy import EnergyView
from neurobench.gui.views.iv import IvView, branches_of
from neurobench.gui.views.schedule import ArrayPicture, ScheduleView, grouped
from neurobench.gui.views.stdp import StdpView, means_of, measured
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QComboBox, QLineEdit, QPlainTextEdit, QPushButton, QTableView, QToolButton
from seen import curves, shown, words

from neurobench.bench.stimulus import Bias
from neurobench.runs.history import Energy, Shown

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication


@pytest.fixture(autouse=True)
def app(window_app: QApplication) -> QApplication:
    return window_app


# ---------------------------------------------------------------------------------------------- learning window, sweeps


def test_points_of_a_window_are_drawn_live_with_mean_and_error(qtbot: Any) -> None:
    snapshot = made.window(fitted=False)
    view = shown(qtbot, StdpView, snapshot)
    found = measured(snapshot)
    assert len(found.dt_s) == 30
    x, y = view._curves.items["points"].getData()
    np.testing.assert_allclose(np.sort(x), np.sort(found.dt_s * 1e3))
    at_s, means, error = means_of(found)
    first = found.dg_s[found.dt_s == at_s[0]]
    assert means[0] == pytest.approx(first.mean())
    assert error[0] == pytest.approx(first.std(ddof=1) / 3**0.5)
    np.testing.assert_allclose(view._bars.opts["height"], 2 * error * 1e6)
    assert ("fit", 1) not in view._curves.items
    assert len(y) == 30


def test_fit_theory_and_intervals_come_with_the_result(qtbot: Any) -> None:
    view = shown(qtbot, StdpView, made.window())
    x, y = view._curves.items["fit", 1].getData()
    np.testing.assert_allclose(y, made.A_S * 1e6 * np.exp(-x / (made.TAU_S * 1e3)))
    assert ("theory", -1) in view._curves.items
    said = words(view).replace("&nbsp;", " ")
    assert "A+ = 2 [1.8, 2.2] µS, τ = 12 [9.6, 15.6] ms" in said
    assert "A− = -2" in said


def test_controls_stand_beside_the_window_on_the_same_scale(qtbot: Any) -> None:
    view = shown(qtbot, StdpView, made.window())
    assert sorted(view._beside.items) == ["lone_post", "lone_pre", "none"]
    np.testing.assert_allclose(view._beside.items["none"].getData()[1], [0, 0.01, 0.02], atol=1e-12)
    assert view._controls.viewRange()[1] == view._plot.viewRange()[1]


def test_a_window_without_its_points_is_drawn_from_the_result(qtbot: Any) -> None:
    snapshot = made.window()
    same, without = measured(snapshot), measured(replace(snapshot, points=()))
    np.testing.assert_array_equal(np.sort(same.dt_s), np.sort(without.dt_s))
    view = shown(qtbot, StdpView, replace(snapshot, points=()))
    assert len(view._curves.items["points"].getData()[0]) == 30


def test_what_did_not_start_at_g0_is_left_out() -> None:
    snapshot = made.window(fitted=False)
    away = [dict(point, initialised=False) for point in snapshot.points]
    assert len(measured(replace(snapshot, points=away)).dt_s) == 0


def test_a_sweep_is_drawn_linear_and_logarithmic(qtbot: Any) -> None:
    snapshot = made.sweep(cycles=1)
    view = shown(qtbot, IvView, snapshot)
    linear, logarithmic = view._plots
    for (x, y), branch in zip(curves(linear), snapshot.branches, strict=True):
        np.testing.assert_allclose(x, branch["volts_v"])
        np.testing.assert_allclose(y, branch["current_a"] * 1e6)
    x, y = logarithmic.listDataItems()[0].getData()
    np.testing.assert_allclose(y, np.log10(np.abs(snapshot.branches[0]["current_a"])))


def test_arrows_say_which_way_round(qtbot: Any) -> None:
    view = shown(qtbot, IvView, made.sweep(cycles=3))
    on_linear = [arrow for plot, arrow in view._arrows if plot is view._plots[0]]
    assert len(on_linear) == 4  # up and back, both polarities, the newest cycle only
    up = [arrow for arrow in on_linear if arrow.pos().x() > 0 and arrow.opts["angle"] == 180]
    assert len(up) == 1
    assert up[0].pos().y() < 20  # the way up is the low branch


def test_the_compliance_is_a_line_where_it_is_near_and_words_where_it_is_far(qtbot: Any) -> None:
    view = shown(qtbot, IvView, made.sweep())
    assert sorted(line.value() for line in view._marks[0].items) == pytest.approx([-100, 100])
    far = made.about(limits={"compliance_a": 0.1})
    view.draw(made.sweep(about=far))
    assert view._marks[0].items == []
    assert "compliance 100 mA" in words(view)


def test_branches_of_an_old_run_come_from_its_result() -> None:
    told = made.sweep(cycles=2)
    result = {
        "branch_cell": np.array([one["cell"] for one in told.branches]), "branch_turned": ["", "", "", ""],
        **{f"branch_{key}": np.array([one[key] for one in told.branches])
           for key in ("cycle", "direction", "switch_v")},
        "level_branch": np.repeat(np.arange(4), [len(one["volts_v"]) for one in told.branches]),
        "level_volts_v": np.concatenate([one["volts_v"] for one in told.branches]),
        "level_current_a": np.concatenate([one["current_a"] for one in told.branches]),
    }  # fmt: skip
    for one, other in zip(branches_of(told), branches_of(replace(told, branches=(), result=result)), strict=True):
        assert one.cell == other.cell
        np.testing.assert_array_equal(one.current_a, other.current_a)


def test_ramps_of_forming_are_drawn_with_the_sign_of_their_volts(qtbot: Any) -> None:
    pulses = [{"row": row, "col": 2, "attempt": attempt, "amplitude_v": 0.5 * n, "current_a": 1e-6 * n**2}
              for row in (0, 1) for attempt in (1, 2) for n in (1, 2, 3)]  # fmt: skip
    pulses[-1]["current_a"] = math.nan  # was not measured
    about = made.about(protocol="form", parameters={"polarity": "depress", "stop_current_a": 10e-6}, limits={},
                       chip={"polarity": "V_row < V_col potentiates"})  # fmt: skip
    view = shown(qtbot, IvView, made.snapshot(about=about, ramps=pulses))
    found = branches_of(view.snapshot)
    assert [(one.cell, one.cycle) for one in found] == [((0, 2), 1), ((0, 2), 2), ((1, 2), 1), ((1, 2), 2)]
    np.testing.assert_allclose(
        found[0].volts_v, [0.5, 1.0, 1.5]
    )  # depressing, on a chip that V_row < V_col potentiates
    np.testing.assert_allclose(found[0].current_a, [1e-6, 4e-6, 9e-6])
    assert "2 cells, 4 ramps, the last to 1.5 V" in words(view)
    assert sorted(line.value() for line in view._marks[0].items) == pytest.approx([-10, 10])
    view.draw(made.snapshot(about=about, ramps=pulses, result={"cell_formed": np.array([True, False])}))
    assert "1 of 2 formed" in words(view)


# ---------------------------------------------------------------------------------------------- schedule


def test_a_batch_under_half_select_gives_victims_half_of_the_volts() -> None:
    found = driven(made.batch(amplitude_v=1.6))
    assert found.worst_v[0, 0] == pytest.approx(1.6)
    assert found.worst_v[1, 1] == pytest.approx(-1.6)
    assert found.worst_v[0, 5] == pytest.approx(0.8)  # on a selected row
    assert found.worst_v[9, 2] == pytest.approx(0.8)  # on a selected column
    assert found.worst_v[9, 5] == 0
    assert found.victim_v == pytest.approx(0.8)
    assert found.row_v == {0: (0.8,), 1: (-0.8,)}
    assert found.col_v == {0: (-0.8,), 2: (-0.8,), 1: (0.8,)}


def test_other_schemes_have_other_victims() -> None:
    third = driven(made.batch(amplitude_v=1.5, bias=Bias.THIRD))
    assert third.victim_v == pytest.approx(0.5)
    assert third.victims.sum() == 60 - 3
    assert driven(made.batch(bias=Bias.ISOLATED)).victims.sum() + 3 < 60
    assert driven(made.batch(amplitude_v=1.5), potentiating_sign=-1).worst_v[0, 0] == pytest.approx(-1.5)


def test_waveforms_meet_on_the_cell_of_the_pair() -> None:
    found = driven(made.pair(dt_s=1e-3))
    assert set(found.row_v) == {1}
    assert set(found.col_v) == {2}
    assert np.argwhere(found.pulses != 0).tolist() == [[1, 2]]
    assert found.worst_v[1, 2] == pytest.approx(-1.3)  # the late spike 0.9 V, the early one at -0.4 V
    assert abs(found.worst_v[1, 0]) == pytest.approx(0.9)
    assert found.worst_v[0, 0] == 0


def test_the_last_steps_stand_newest_first(qtbot: Any) -> None:
    view = shown(qtbot, ScheduleView, made.trained())
    table = view.findChild(QTableView)
    model = table.model()
    assert model.rowCount() == 16
    assert model.index(0, 0).data() == "19"
    assert model.index(0, 6).data() == "5 ms"
    doubtful = Shown(20, "pulses", 2.0, "1 cell", 1, 1, 0, 1.5, 5e-3, doubt=True)
    view.draw(made.trained(recent=(*made.steps(), doubtful)))
    assert "in doubt" in model.index(0, 2).data()


def test_lines_cells_and_limits_are_told(qtbot: Any) -> None:
    view = shown(qtbot, ScheduleView, made.trained())
    picture = view.findChild(ArrayPicture)
    assert picture.plot.getAxis("left").labelText == "W0 +0.75 V, W1 -0.75 V"
    assert picture.plot.getAxis("bottom").labelText == "B0 B2 -0.75 V, B1 +0.75 V"
    assert sorted(text.toPlainText() for text in picture.texts) == ["+1", "+2", "-1"]
    assert "up to 750 mV (limit 1 V)" in words(view)
    assert sorted(line.value() for line in view._marks.items) == [-2, -1, 1, 2]


def test_limits_far_away_are_told_in_words(qtbot: Any) -> None:
    about = made.about((10, 6), limits={"max_cell_v": 9.0, "max_victim_v": None})
    view = shown(qtbot, ScheduleView, made.trained(about=about))
    assert view._marks.items == []
    assert "cell limit 9 V" in view.accessibleDescription()


def test_the_life_of_the_most_used_cell_is_told() -> None:
    cells = made.cells(ups=np.full((4, 4), 5), downs=np.eye(4, dtype=np.int64))
    assert lifetime_words(made.about(), cells) == "lifetime used: 2.6 % at W0 B0 (26 of 1,000 pulses)"
    unlimited = made.about(pulses_allowed=np.full((4, 4), np.inf))
    assert "no pulse budget" in lifetime_words(unlimited, cells)


def test_lines_of_the_same_volts_are_told_together() -> None:
    assert grouped("W", {0: (0.5,), 3: (0.5,), 1: (-0.5, 0.5)}) == "W0 W3 +0.5 V, W1 ±0.5 V"
    assert grouped("B", dict.fromkeys(range(9), (1.0,))) == "9 B +1 V"


# ---------------------------------------------------------------------------------------------- energy


def test_energy_of_pulses_and_reads_is_never_added_up(qtbot: Any) -> None:
    view = shown(qtbot, EnergyView, made.trained(energy=Energy(3e-6, 1e-6, "model", 30, 10, 2)))
    said = words(view)
    assert "modelled" in said
    assert "3 µJ" in said
    assert "1 µJ" in said
    assert "4 µJ" not in said
    assert "2 pulses reached the compliance" in said


def test_unknown_energy_is_not_zero(qtbot: Any) -> None:
    nan = float("nan")
    view = shown(qtbot, EnergyView, made.trained(energy=Energy(nan, nan, "unknown", 30, 10, 0)))
    assert "unknown" in words(view)
    assert "0 J" not in words(view)


# ---------------------------------------------------------------------------------------------- console

WIRE = [
    "20:41:07.123  pulser  >  :SOUR:PULS:WIDT 5e-3",
    "20:41:07.125  meter  <  +1.23E-07",
    "20:41:07.130  meter  <  -222,\"Data out of range error\"",
]  # fmt: skip


def test_lines_of_the_wire_are_shown_and_filtered(qtbot: Any) -> None:
    view = shown(qtbot, ConsoleView, None)
    view.hear(WIRE)
    page, kind = view.findChild(QPlainTextEdit), view.findChild(QComboBox)
    assert page.toPlainText().splitlines() == WIRE
    kind.setFocus()
    qtbot.keyClick(kind, Qt.Key.Key_Down)
    assert page.toPlainText() == WIRE[0]
    kind.setCurrentText("all")
    qtbot.keyClicks(view.findChild(QLineEdit), "1.23e")
    assert page.toPlainText() == WIRE[1]


def test_directions_and_warnings_are_recognised() -> None:
    assert [kind_of(line) for line in WIRE] == ["tx", "rx", "rx"]
    assert [is_warning(line) for line in WIRE] == [False, False, True]
    assert kind_of("     1.500 s  #3  note epoch 1: error 9.5 > 3") == "journal"
    assert not is_warning("     1.500 s  #3  note epoch 1: error 9.5")
    assert not is_warning('20:41:07.130  meter  <  0,"No error"')
    assert not is_warning("20:41:07.130  smu  >  print(errorqueue.count)"), "to ask for errors is none"
    assert is_warning("20:41:07.130  log  !  12 lines could not be written and are lost")


def test_the_journal_is_told_once_and_gaps_are_said(qtbot: Any) -> None:
    steps = made.steps(30)
    view = shown(qtbot, ConsoleView, made.trained(recent=steps[:5]))
    view.draw(made.trained(recent=steps[3:8]))
    view.draw(made.trained(recent=steps[20:25]))
    text = view.findChild(QPlainTextEdit).toPlainText()
    assert [text.count(f"#{n} ") for n in (3, 4, 7, 20)] == [1, 1, 1, 1]
    assert "12 steps not told here" in text


def test_holding_keeps_what_comes_and_shows_it_afterwards(qtbot: Any) -> None:
    view = shown(qtbot, ConsoleView, made.snapshot())
    page, hold = view.findChild(QPlainTextEdit), view.findChild(QToolButton)
    qtbot.mouseClick(hold, Qt.MouseButton.LeftButton)
    view.hear(WIRE)
    assert WIRE[0] not in page.toPlainText()
    assert "3 waiting" in words(view)
    qtbot.mouseClick(hold, Qt.MouseButton.LeftButton)
    assert page.toPlainText().count(WIRE[0]) == 1


def test_the_console_keeps_ten_thousand_lines(qtbot: Any) -> None:
    view = shown(qtbot, ConsoleView, None)
    view.hear([f"20:41:07.123  meter  <  {n}" for n in range(10_050)])
    assert len(view.lines) == 10_000
    assert view.findChild(QPlainTextEdit).blockCount() == 10_000


def test_the_console_can_be_copied(qtbot: Any) -> None:
    view = shown(qtbot, ConsoleView, None)
    view.hear(WIRE[:2])
    qtbot.mouseClick(view.findChild(QPushButton), Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == "\n".join(WIRE[:2])


def test_a_fault_is_told_as_a_warning(qtbot: Any) -> None:
    view = shown(qtbot, ConsoleView, made.trained(error="the ammeter does not answer", status="fault"))
    view.draw(made.trained(error="the ammeter does not answer", status="fault"))
    text = view.findChild(QPlainTextEdit).toPlainText()
    assert text.count("error: the ammeter does not answer") == 1


# ---------------------------------------------------------------------------------------------- little room


def test_a_narrow_schedule_shows_one_part_by_choice(qtbot: Any) -> None:
    view = shown(qtbot, ScheduleView, made.trained())
    view.resize(320, 300)
    table, picture = view.findChild(QTableView), view.findChild(ArrayPicture)
    qtbot.waitUntil(lambda: table.isVisible() and not picture.isVisible())
    array = next(button for button in view.findChildren(QToolButton) if button.text() == "Array")
    qtbot.mouseClick(array, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: picture.isVisible() and not table.isVisible())
    assert "depressed" in words(view)
    view.resize(1200, 300)
    qtbot.waitUntil(lambda: picture.isVisible() and table.isVisible() and not array.isVisible())


def test_in_a_low_view_the_key_gives_way_to_the_plot(qtbot: Any) -> None:
    view = shown(qtbot, StdpView, made.window())
    assert "theory" in words(view)
    view.resize(640, 120)
    qtbot.waitUntil(lambda: "theory" not in words(view))


def test_nothing_fired_and_nothing_known_are_not_the_same(qtbot: Any) -> None:
    view = shown(qtbot, EnergyView, made.snapshot(energy=Energy(0.0, 1e-9, "unknown", 0, 5)))
    assert "no pulse was fired" in words(view)
    assert "not known" not in words(view)
    view.draw(made.snapshot(energy=Energy(math.nan, 1e-9, "unknown", 4, 5)))
    assert "the energy of the pulses is not known" in words(view)


def test_the_columns_of_the_steps_are_as_wide_as_their_numbers(qtbot: Any) -> None:
    view = shown(qtbot, ScheduleView, made.snapshot(recent=made.steps(4)))
    for at_s in (1.816, 0.7584, 2028.0):  # 758 ms has no more letters than 1.82 s, and is wider
        view.draw(made.snapshot(recent=tuple(replace(step, at_s=at_s) for step in made.steps(4))))
        model, metrics = view._table.model(), view._table.fontMetrics()
        for column in (0, 1):
            said = str(model.index(0, column).data())
            assert metrics.horizontalAdvance(said) + 6 <= view._table.columnWidth(column), said
