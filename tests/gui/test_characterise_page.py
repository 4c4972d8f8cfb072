"""By hand, on a session whose engine is a stand-in: what is asked, what is refused and in which words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import seen
import snapshots
from neurobench.gui.characterise import pulse_panel
from neurobench.gui.characterise.characterise_page import CharacterisePage
from neurobench.gui.characterise.hand import Hand
from neurobench.gui.frame.actions import Actions
from neurobench.gui.frame.preferences import Preferences
from neurobench.gui.selection import Selection
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState, Event
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QDockWidget, QMainWindow, QPushButton

from neurobench.bench.stimulus import Pulse

LEFT = Qt.MouseButton.LeftButton
UP, DOWN = pulse_panel.UP, pulse_panel.DOWN
DEVICE = replace(snapshots.about().device, pulse=Pulse(1.5, 1e-3), depress_pulse=Pulse(1.2, 2e-3))


def preview(request: dict[str, Any]) -> dict[str, Any]:
    """What the engine says before a pulse."""
    cells = [[0, 0]] * 16 if request["cells"] == "all" else request["cells"]
    limits = {"max_cell_v": 5.5, "max_victim_v": 2.75, "max_line_v": 5.5, "max_width_s": 1.0}
    found = {
        "preview": True, "cells": cells, "pulses": len(cells) * request["count"], "duration_s": 1e-3, "bias": "half",
        "cell_v": request["sign"] * request["amplitude_v"], "max_victim_v": request["amplitude_v"] / 2, "victims": 6,
        "half_selected": 6, "limits": limits, "pulses_left": 980, "energy_j": None, "others": 14, "in_turn": 0,
        "tried": False,
    }  # fmt: skip
    if request["cells"] == "all":
        found |= {"victims": 0, "half_selected": 0, "others": 0, "in_turn": 3}
    if request["amplitude_v"] > 5.5:
        found["refused"] = "pulse 6.00 V exceeds max_cell_v = 5.50 V"
    return found


class Stand(Session):
    """A session whose engine answers previews at once and everything else when the test says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wishes: list[dict[str, Any]] = []
        self.previews: list[dict[str, Any]] = []
        self._answers: list[Callable[[dict[str, Any]], None]] = []
        self.opening_fails = ""

    def hand_open(self) -> bool:
        if (words := self._why_not()) is not None:
            return self._refuse(words)
        self.hand = True
        self._move(Event.START)
        return True

    def opened(self) -> None:
        if self.opening_fails:
            self._not_begun(self.opening_fails)
            return
        self._move(Event.BEGUN)
        self.snapshot = snapshots.snapshot(about=snapshots.about(protocol="hand", device=DEVICE))
        self.snapshot_changed.emit()

    def hand_do(self, request: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> bool:
        if not self.hand or self.state is not BenchState.RUNNING:
            return self._refuse(f"the bench is not open by hand (it is {self.state.value})")
        if request.get("preview"):
            self.previews.append(request)
            answer(preview(request))
        else:
            self.wishes.append(request)
            self._answers.append(answer)
        return True

    def answer(self, **found: Any) -> None:
        cells = self.wishes[-1]["cells"]
        cells = [[r, c] for r in range(4) for c in range(4)] if cells == "all" else cells
        made = {"seq": len(self.wishes), "cells": cells, "conductance_s": [41.3e-6] * len(cells),
                "sigma_s": [0.4e-6] * len(cells), "flags": []}  # fmt: skip
        self._answers.pop(0)(found if "refused" in found else made | found)

    def hand_close(self) -> bool:
        if not self.hand:
            return self._refuse("no hand session is open")
        self.hand = False
        return self._move(Event.ENDED)


class Desk:
    """The page in a window, and all that was said."""

    def __init__(self, folder: Path) -> None:
        self.window = QMainWindow()
        self.session = Stand(folder)
        self.said: list[tuple[str, str]] = []
        self.session.said.connect(lambda level, words: self.said.append((level, words)))
        self.window.preferences = Preferences(folder / "window.ini")  # type: ignore[attr-defined]
        self.selection = Selection((4, 4), self.window)
        self.actions = Actions(self.session, self.window)
        self.page = CharacterisePage(self.session, self.actions, self.selection, self.window)
        self.actions.show_page("characterise")
        self.window.setCentralWidget(self.page.left)
        for view in self.page.views:
            dock = QDockWidget(view.title, self.window)
            dock.setWidget(view)
            self.window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
        self.window.resize(900, 700)

    @property
    def pulse(self) -> pulse_panel.PulsePanel:
        return self.page.pulse

    def open(self, cells: Any = ((0, 1), (2, 1))) -> None:
        self.session.connect_bench("emulator")
        self.selection.set(cells)
        assert self.page.hand.open() == ""
        self.session.opened()

    def armed(self, qtbot: Any) -> None:
        qtbot.waitUntil(lambda: self.pulse.why_not_armed() == "")
        qtbot.mouseClick(self.pulse.arm, LEFT)
        assert self.pulse.armed


@pytest.fixture
def desk(window_app: QApplication, qtbot: Any, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    qtbot.addWidget(made.window)
    seen.active(qtbot, made.window)
    yield made
    made.session.shutdown()
    made.window.close()


def rows(desk: Desk) -> list[tuple[str, ...]]:
    return [row.texts()[1:] for row in desk.page.results.model.rows]


# ------------------------------------------------------------------------------------------------- reading


def test_r_without_a_bench_says_why(desk: Desk, qtbot: Any) -> None:
    desk.selection.set([(0, 0)])
    qtbot.mouseClick(desk.page.read_buttons["selection"], LEFT)
    assert "no bench is connected" in desk.page.read_words.text()
    assert desk.page.read_words.isVisible()
    assert "no bench is connected" in rows(desk)[-1][-1]
    assert any(level == "warning" and "nothing was read" in words for level, words in desk.said)


def test_r_without_cells_says_so(desk: Desk, qtbot: Any) -> None:
    desk.open(cells=())
    qtbot.keyClick(desk.window, Qt.Key.Key_R)
    assert "no cell is chosen" in desk.page.read_words.text()
    assert desk.session.wishes == []


def test_the_first_read_opens_the_bench_and_is_done_then(desk: Desk, qtbot: Any) -> None:
    desk.session.connect_bench("emulator")
    desk.selection.set([(2, 1)])
    qtbot.keyClick(desk.window, Qt.Key.Key_R)
    assert desk.session.wishes == []
    assert desk.session.state is BenchState.STARTING
    desk.session.opened()
    assert desk.session.wishes == [{"do": "read", "cells": [[2, 1]], "averages": 1}]
    desk.session.answer()
    assert rows(desk) == [("W2 B1", "41.3 ±0.4 µS", "read", "1", "")]


def test_a_bench_that_does_not_open_is_told_in_its_own_words(desk: Desk, qtbot: Any) -> None:
    desk.session.connect_bench("emulator")
    desk.selection.set([(2, 1)])
    desk.session.opening_fails = "the chip is in use by another run"
    qtbot.keyClick(desk.window, Qt.Key.Key_R)
    desk.session.opened()
    qtbot.waitUntil(lambda: "in use" in desk.page.read_words.text())
    assert not desk.page.hand.busy


def test_read_all_and_the_cursor_with_averages(desk: Desk, qtbot: Any) -> None:
    desk.open()
    desk.page.averages.setText("16")
    qtbot.mouseClick(desk.page.read_buttons["all"], LEFT)
    desk.session.answer()
    qtbot.mouseClick(desk.page.read_buttons["cursor"], LEFT)
    desk.session.answer()
    assert [(one["cells"], one["averages"]) for one in desk.session.wishes] == [("all", 16), ([[2, 1]], 16)]
    assert len(rows(desk)) == 17


def test_one_thing_at_a_time(desk: Desk, qtbot: Any) -> None:
    desk.open()
    for _ in range(2):
        qtbot.keyClick(desk.window, Qt.Key.Key_R)
    assert len(desk.session.wishes) == 1
    assert "has not been answered yet" in desk.page.read_words.text()


def test_a_read_that_is_refused_is_told_everywhere(desk: Desk, qtbot: Any) -> None:
    desk.open()
    qtbot.keyClick(desk.window, Qt.Key.Key_R)
    desk.session.answer(refused="a read at 1 V exceeds max_read_v = 0.5 V")
    assert "max_read_v" in desk.page.read_words.text()
    assert rows(desk)[-1][-1] == "refused: a read at 1 V exceeds max_read_v = 0.5 V"
    assert "max_read_v" in desk.said[-1][1]


# ------------------------------------------------------------------------------------------------- cells as text


def test_cells_are_typed_and_shown_as_text(desk: Desk, qtbot: Any) -> None:
    desk.session.connect_bench("emulator")
    box = desk.page.cells
    box.setFocus()
    qtbot.keyClicks(box, "W0-1 B2")
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert desk.selection.cells == ((0, 2), (1, 2))
    desk.selection.all()
    assert box.text() == "all"
    box.selectAll()
    qtbot.keyClicks(box, "W9")
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert "W9 is outside" in desk.page.cells_words.text()
    assert desk.selection.count == 16, "what means no cells changes nothing"


# ------------------------------------------------------------------------------------------------- pulses


def test_the_declared_pulses_of_both_polarities_are_offered(desk: Desk) -> None:
    desk.open()
    assert [box.text() for box in (desk.pulse.amplitude[UP], desk.pulse.amplitude[DOWN])] == ["1.5 V", "1.2 V"]
    assert [box.text() for box in (desk.pulse.width_of[UP], desk.pulse.width_of[DOWN])] == ["1 ms", "2 ms"]


def test_what_was_typed_is_not_replaced(desk: Desk, qtbot: Any) -> None:
    desk.session.connect_bench("emulator")
    qtbot.keyClicks(desk.pulse.amplitude[UP], "0.7")
    desk.open()
    assert desk.pulse.amplitude[UP].number() == 0.7


def test_the_preview_of_both_is_always_said(desk: Desk, qtbot: Any) -> None:
    assert "choose the cells first" in desk.pulse.previews[UP].text()
    desk.open()
    qtbot.waitUntil(lambda: "+1.5 V on 2 cells" in desk.pulse.previews[UP].text())
    words = desk.pulse.previews[UP].text()
    for part in ("27% of 5.5 V", "2 pulses", "up to 750 mV on 6 cells", "980 pulses left"):
        assert part in words
    assert "-1.2 V on 2 cells" in desk.pulse.previews[DOWN].text()
    assert "known once it is fired" in desk.pulse.untried.text(), "where nobody can try it, that is said"
    assert desk.pulse.untried.isVisible()
    desk.selection.all()
    qtbot.waitUntil(lambda: "there is no other cell" in desk.pulse.previews[UP].text())
    assert "up to 750 mV 3 times on each other" in desk.pulse.previews[UP].text()


def test_nothing_is_fired_that_was_not_armed(desk: Desk, qtbot: Any) -> None:
    desk.open()
    qtbot.waitUntil(lambda: desk.pulse.why_not_armed() == "")
    qtbot.keyClick(desk.window, Qt.Key.Key_Plus)
    qtbot.mouseClick(desk.pulse.fire[DOWN], LEFT)
    assert desk.session.wishes == []
    assert "not armed" in desk.pulse.words.text()
    assert desk.pulse.words.isVisible()


def test_arming_without_a_bench_says_why(desk: Desk, qtbot: Any) -> None:
    qtbot.mouseClick(desk.pulse.arm, LEFT)
    assert not desk.pulse.armed
    assert "not open by hand" in desk.pulse.words.text()


def test_armed_plus_and_minus_fire_their_own_pulses(desk: Desk, qtbot: Any) -> None:
    desk.open()
    desk.armed(qtbot)
    qtbot.keyClick(desk.window, Qt.Key.Key_Plus)
    desk.session.answer(pulses=2, energy_j=3e-9, energy_basis="measured")
    qtbot.waitUntil(lambda: desk.pulse.why_not_fired(DOWN) == "")
    qtbot.mouseClick(desk.pulse.fire[DOWN], LEFT)
    asked = [(one["sign"], one["amplitude_v"], one["width_s"], one["count"]) for one in desk.session.wishes]
    assert asked == [(1, 1.5, 1e-3, 1), (-1, 1.2, 2e-3, 1)]
    assert rows(desk)[-1] == ("W2 B1", "41.3 ±0.4 µS", "potentiate 1 x + 1.5 V, 1 ms", "1",
                              "2 pulses fired, 3 nJ (measured)")  # fmt: skip


def test_a_second_pulse_waits_for_the_answer_to_the_first(desk: Desk, qtbot: Any) -> None:
    desk.open()
    desk.armed(qtbot)
    for _ in range(3):
        qtbot.keyClick(desk.window, Qt.Key.Key_Plus)
    assert len(desk.session.wishes) == 1
    assert "not been answered" in desk.pulse.words.text()


@pytest.mark.parametrize("change", ["selection", "amplitude", "count", "session"])
def test_every_change_disarms(desk: Desk, qtbot: Any, change: str) -> None:
    desk.open()
    desk.armed(qtbot)
    if change == "selection":
        desk.selection.toggle((3, 3))
    elif change == "session":
        desk.session.hand_close()
    else:
        box = desk.pulse.count if change == "count" else desk.pulse.amplitude[DOWN]
        qtbot.keyClick(box, Qt.Key.Key_Up)
    assert not desk.pulse.armed
    assert desk.pulse.words.text().startswith("disarmed: ")
    qtbot.keyClick(desk.window, Qt.Key.Key_Plus)
    assert desk.session.wishes == []


def test_the_cursor_alone_does_not_disarm(desk: Desk, qtbot: Any) -> None:
    desk.open()
    desk.armed(qtbot)
    desk.selection.point((1, 0))
    assert desk.pulse.armed


def test_armed_ends_by_itself(desk: Desk, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse_panel, "ARMED_S", 0.4)
    desk.open()
    desk.armed(qtbot)
    qtbot.waitUntil(lambda: not desk.pulse.armed, timeout=3000)
    assert "without a pulse" in desk.pulse.words.text()


def near_the_limit(desk: Desk, qtbot: Any) -> None:
    desk.open()
    desk.pulse.amplitude[UP].setText("5 V")
    desk.armed(qtbot)


def test_near_the_limit_a_short_press_and_a_key_fire_nothing(desk: Desk, qtbot: Any) -> None:
    near_the_limit(desk, qtbot)
    assert desk.pulse.fire[UP].text() == "Hold + 1 s"
    assert "hold the button" in desk.pulse.previews[UP].text()
    qtbot.mouseClick(desk.pulse.fire[UP], LEFT)
    assert "hold the button Hold + 1 s" in desk.pulse.words.text()
    desk.pulse.say("")
    qtbot.keyClick(desk.window, Qt.Key.Key_Plus)
    assert "5 V is above 80% of max_cell_v = 5.5 V" in desk.pulse.words.text()
    assert desk.session.wishes == []


@pytest.mark.parametrize("by", ["mouse", "space"])
def test_near_the_limit_the_button_is_held(desk: Desk, qtbot: Any, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    monkeypatch.setattr(pulse_panel, "HOLD_S", 0.25)
    near_the_limit(desk, qtbot)
    button: QPushButton = desk.pulse.fire[UP]
    button.setFocus()
    if by == "mouse":
        qtbot.mousePress(button, LEFT)
    else:
        qtbot.keyPress(button, Qt.Key.Key_Space)
    assert desk.session.wishes == []
    qtbot.waitUntil(lambda: len(desk.session.wishes) == 1, timeout=3000)
    if by == "mouse":
        qtbot.mouseRelease(button, LEFT)
    else:
        qtbot.keyRelease(button, Qt.Key.Key_Space)
    assert len(desk.session.wishes) == 1, "letting go fires nothing more"


def test_beyond_the_limit_the_guards_words_stand_there_and_forming_is_named(desk: Desk, qtbot: Any) -> None:
    desk.open()
    desk.pulse.amplitude[UP].setText("6 V")
    qtbot.waitUntil(lambda: "would be refused" in desk.pulse.previews[UP].text())
    assert "max_cell_v = 5.50 V" in desk.pulse.previews[UP].text()
    assert "the protocol form" in desk.pulse.previews[UP].text()
    assert desk.pulse.form.isVisible()
    desk.armed(qtbot)  # the other polarity may be fired
    assert "max_cell_v" in desk.pulse.why_not_fired(UP)
    qtbot.mouseClick(desk.pulse.fire[UP], LEFT)
    assert "exceeds max_cell_v" in desk.pulse.words.text(), "nobody is asked to hold what is refused however long"
    assert "hold the button" not in desk.pulse.words.text()
    desk.pulse.amplitude[DOWN].setText("6 V")
    qtbot.waitUntil(lambda: "would be refused" in desk.pulse.previews[DOWN].text())
    qtbot.mouseClick(desk.pulse.arm, LEFT)
    assert not desk.pulse.armed
    assert "max_cell_v = 5.50 V" in desk.pulse.words.text()


def test_forming_is_handed_to_its_protocol_with_cells_and_volts(desk: Desk, qtbot: Any) -> None:
    desk.open()
    assert not desk.pulse.form.isVisible()
    asked: list[Any] = []
    desk.page.load_asked.connect(asked.append)
    desk.pulse.amplitude[DOWN].setText("6 V")
    qtbot.mouseClick(desk.pulse.form, LEFT)
    assert not desk.session.hand, "the bench cannot be open for both"
    (request,) = asked
    assert (request.protocol, request.bench) == ("form", "emulator")
    assert request.settings == {"cells": [[0, 1], [2, 1]], "stop_v": 6.0, "polarity": "depress", "width_s": 2e-3}
    desk.pulse.amplitude[DOWN].setText("60 V")
    assert not desk.pulse.form.isVisible(), "nobody may go so high"


def test_near_the_limit_of_a_real_chip_its_id_is_typed(desk: Desk, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stand, "simulated", property(lambda _session: False))
    monkeypatch.setattr(Stand, "chip_id", property(lambda _session: "A17"))
    desk.session.connect_bench("emulator")
    desk.session.confirmed = True
    desk.selection.set([(0, 1), (2, 1)])
    assert desk.page.hand.open() == ""
    desk.session.opened()
    desk.pulse.amplitude[UP].setText("5 V")
    desk.armed(qtbot)
    assert desk.pulse.confirm.isVisible()
    assert "type the chip's id" in desk.pulse.previews[UP].text()
    assert "the chip's id is typed first" in desk.pulse.why_not_fired(UP)
    assert desk.pulse.why_not_fired(DOWN) == "", "what is far from the limit is not held up"
    qtbot.keyClicks(desk.pulse.confirm, desk.session.chip_id + "x")
    assert "typed first" in desk.pulse.why_not_fired(UP)
    qtbot.keyClick(desk.pulse.confirm, Qt.Key.Key_Backspace)
    assert desk.pulse.why_not_fired(UP) == ""
    desk.pulse.amplitude[UP].setText("4.9 V")
    desk.armed(qtbot)
    assert desk.pulse.why_not_fired(UP) == "", "less than what was confirmed"
    desk.pulse.amplitude[UP].setText("5.2 V")
    assert desk.pulse.confirm.text() == ""
    desk.armed(qtbot)
    assert "typed first" in desk.pulse.why_not_fired(UP)
    qtbot.keyClicks(desk.pulse.confirm, desk.session.chip_id)
    desk.selection.toggle((3, 3))
    assert desk.pulse.unconfirmed(UP), "other cells ask again"


def test_settings_say_from_where_a_pulse_is_held_for(desk: Desk) -> None:
    kept = desk.window.preferences  # type: ignore[attr-defined]
    desk.open()
    desk.pulse.amplitude[UP].setText("1.5 V")
    assert not desk.pulse.is_soft(UP)
    kept.soft_share = 0.2
    desk.pulse.hide()
    desk.pulse.show()
    assert desk.pulse.is_soft(UP)
    assert "20% of max_cell_v = 5.5 V" in desk.pulse._soft_limit()
    assert Preferences(kept.path).soft_share == 0.2
    kept._put("hand/soft_share", 0.95)
    assert kept.soft_share == 0.8, "never above what the program says itself"


def test_a_pulse_that_the_bench_refuses_is_told(desk: Desk, qtbot: Any) -> None:
    desk.open()
    desk.armed(qtbot)
    qtbot.keyClick(desk.window, Qt.Key.Key_Plus)
    desk.session.answer(refused="the lifetime budget of cell (0, 1) is spent")
    assert desk.pulse.words.text() == "nothing was fired: the lifetime budget of cell (0, 1) is spent"
    assert "lifetime budget" in rows(desk)[-1][-1]
    assert any("lifetime budget" in words for _, words in desk.said)


def test_what_was_fired_but_not_read_is_not_called_refused(desk: Desk, qtbot: Any) -> None:
    desk.open()
    desk.armed(qtbot)
    qtbot.keyClick(desk.window, Qt.Key.Key_Plus)
    desk.session.answer(pulses=2, conductance_s=[], sigma_s=[], not_read="the meter is over range")
    assert "fired, but not read afterwards" in desk.pulse.words.text()
    assert "2 pulses fired" in rows(desk)[-1][-1]


def test_a_session_that_ends_while_asked_gives_an_answer(desk: Desk, qtbot: Any) -> None:
    desk.open()
    qtbot.keyClick(desk.window, Qt.Key.Key_R)
    desk.session.hand_close()
    qtbot.waitUntil(lambda: not desk.page.hand.busy)
    assert "nothing was read" in desk.page.read_words.text()


def test_open_and_end_by_the_button(desk: Desk, qtbot: Any) -> None:
    qtbot.mouseClick(desk.page.open, LEFT)
    assert "no bench is connected" in desk.page.state_words.text()
    desk.session.connect_bench("emulator")
    qtbot.mouseClick(desk.page.open, LEFT)
    desk.session.opened()
    assert desk.page.hand.is_open
    assert desk.page.open.text() == "End"
    qtbot.mouseClick(desk.page.open, LEFT)
    assert not desk.session.hand


def test_results_are_copied_and_exported(desk: Desk, qtbot: Any, tmp_path: Path) -> None:
    results = desk.page.results
    results.export_csv()
    assert "nothing to export" in desk.said[-1][1]
    desk.open()
    qtbot.keyClick(desk.window, Qt.Key.Key_R)
    desk.session.answer()
    results.draw(replace(desk.session.snapshot, about=snapshots.about(path=str(tmp_path / "hand.nbr"))))
    qtbot.keyClick(results.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert "41.3 ±0.4 µS" in QApplication.clipboard().text()
    path = results.export_csv()
    lines = path.read_text().splitlines()
    assert "SIMULATED" in lines[0]
    assert lines[2].endswith(",4.13e-05,4e-07")


def test_ctrl_e_writes_lines_numbers_and_picture_or_says_why_not(desk: Desk, qtbot: Any, tmp_path: Path) -> None:
    qtbot.keyClick(desk.window, Qt.Key.Key_E, Qt.KeyboardModifier.ControlModifier)
    assert "no run is open" in desk.said[-1][1]
    desk.open()
    qtbot.keyClick(desk.window, Qt.Key.Key_R)
    desk.session.answer()
    shown = replace(desk.session.snapshot, about=snapshots.about(path=str(tmp_path / "hand.nbr")))
    for view in desk.page.views:
        view.draw(shown)
    qtbot.keyClick(desk.window, Qt.Key.Key_E, Qt.KeyboardModifier.ControlModifier)
    assert sorted(path.suffix for path in tmp_path.glob("hand-*")) == [".csv", ".csv", ".png"]
    assert [words.startswith("written: ") for _, words in desk.said[-3:]] == [True] * 3


def test_every_control_has_a_name(desk: Desk) -> None:
    for widget in desk.page.left.findChildren(object):
        if hasattr(widget, "focusPolicy") and widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisible():
            assert widget.accessibleName(), widget


def test_an_answer_of_a_session_that_has_ended_is_not_taken_for_that_of_the_next(
    window_app: Any, qtbot: Any, tmp_path: Path
) -> None:
    session = Stand(tmp_path)
    hand, told = Hand(session), list[tuple[Any, Any]]()
    hand.answered.connect(lambda request, answer: told.append((request["cells"], answer)))
    session.connect_bench("emulator")
    for cell in (0, 1):
        assert hand.ask({"do": "read", "cells": [[cell, cell]]})
        session.opened()
        if cell == 0:
            session.hand_close()
            qtbot.waitUntil(lambda: not hand.busy)
    late, now = session._answers
    late({"refused": "the engine ended before it answered"})
    assert hand.busy
    assert len(told) == 1, "the first was given up; what comes after that is no answer to the second"
    now({"conductance_s": [1e-6]})
    assert told[-1] == ([[1, 1]], {"conductance_s": [1e-6]})
    session.shutdown()
