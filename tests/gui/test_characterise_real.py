"""By hand in the whole window, on an emulated chip and both simulated benches: from the key to the map and the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from neurobench.gui.session.states import LIVE, BenchState
from PySide6.QtCore import Qt

from neurobench.runs.runfile import RunFile

if TYPE_CHECKING:
    from neurobench.gui.characterise.characterise_page import CharacterisePage
    from neurobench.gui.frame.window import MainWindow

LEFT = Qt.MouseButton.LeftButton
SLOW_MS = 30_000


def by_hand(window: MainWindow, qtbot: Any, bench: str) -> CharacterisePage:
    """The page, with that bench connected."""
    if bench != "emulator":
        window.session.connect_bench(bench)
        qtbot.waitUntil(lambda: window.session.state is BenchState.READY, timeout=SLOW_MS)
    page: Any = window.show_mode("characterise").page
    return page


def idle(page: CharacterisePage, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not page.hand.busy, timeout=SLOW_MS)


@pytest.mark.parametrize("bench", ["emulator", "visa-sim", "fpga-sim"])
def test_read_arm_fire_and_see_it(window: MainWindow, qtbot: Any, bench: str) -> None:
    page = by_hand(window, qtbot, bench)
    window.selection.set([(1, 2), (3, 0)])
    qtbot.keyClick(window, Qt.Key.Key_R)
    idle(page, qtbot)
    qtbot.waitUntil(lambda: page.pulse.why_not_armed() == "", timeout=SLOW_MS)
    qtbot.mouseClick(page.pulse.arm, LEFT)
    qtbot.waitUntil(lambda: page.pulse.why_not_fired(1) == "", timeout=SLOW_MS)  # previews come in any order
    qtbot.keyClick(window, Qt.Key.Key_Plus)
    idle(page, qtbot)
    lines = [row.texts() for row in page.results.model.rows]
    assert [line[1] for line in lines] == ["W1 B2", "W3 B0"] * 2
    assert "2 pulses fired" in lines[-1][-1]
    qtbot.waitUntil(lambda: _ups(window).sum() == 2, timeout=SLOW_MS)
    found_s = page.results.model.rows[-1].conductance_s
    qtbot.waitUntil(lambda: _g(window)[3, 0] == pytest.approx(found_s), timeout=SLOW_MS)
    assert _ups(window)[1, 2] == _ups(window)[3, 0] == 1
    qtbot.waitUntil(lambda: page.crossbar.field.values[3, 0] == _g(window)[3, 0], timeout=SLOW_MS)
    assert page.crossbar.canvas.picture.tag == "SIMULATED"
    assert np.isnan(page.crossbar.field.values[0, 0]), "cells that nobody read stay unread"
    path = window.session.run_path
    qtbot.mouseClick(page.open, LEFT)
    qtbot.waitUntil(lambda: window.session.state not in LIVE, timeout=SLOW_MS)
    with RunFile.open(path) as run:
        assert run.status == "finished"


def _ups(window: MainWindow) -> Any:
    snapshot = window.session.snapshot
    return snapshot.cells.ups if snapshot is not None else np.zeros((4, 4))


def _g(window: MainWindow) -> Any:
    return window.session.snapshot.cells.conductance_s


def test_a_pulse_beyond_the_limit_is_refused_by_the_guard_itself(window: MainWindow, qtbot: Any) -> None:
    page = by_hand(window, qtbot, "emulator")
    window.selection.set([(0, 0)])
    assert page.hand.open() == ""
    qtbot.waitUntil(lambda: page.hand.is_open, timeout=SLOW_MS)
    for box in page.pulse.amplitude.values():
        qtbot.waitUntil(lambda box=box: box.text() == "2 V", timeout=SLOW_MS)
        box.selectAll()
        qtbot.keyClicks(box, "6 V")
    qtbot.waitUntil(lambda: "max_cell_v" in page.pulse.previews[1].text(), timeout=SLOW_MS)
    qtbot.mouseClick(page.pulse.arm, LEFT)
    assert not page.pulse.armed
    answers: list[Any] = []
    page.hand.answered.connect(lambda _asked, answer: answers.append(answer))
    page.hand.ask(page.pulse.request(1))  # past the page's own checks
    idle(page, qtbot)
    assert "max_cell_v" in answers[0]["refused"]
    assert "max_cell_v" in page.pulse.words.text()
    assert page.hand.is_open, "a refusal leaves the session usable"


def test_abort_ends_the_session_by_hand_and_the_page_says_so(window: MainWindow, qtbot: Any) -> None:
    page = by_hand(window, qtbot, "emulator")
    assert page.hand.open() == ""
    qtbot.waitUntil(lambda: page.hand.is_open, timeout=SLOW_MS)
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: window.session.state not in LIVE, timeout=SLOW_MS)
    assert not page.hand.is_open
    assert "not open" in page.state_words.text()
    assert page.open.text() == "Open"


def test_keys_of_the_map_reach_the_mode_that_is_seen(window: MainWindow, qtbot: Any) -> None:
    page = by_hand(window, qtbot, "emulator")
    qtbot.keyClick(window, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert window.selection.count == 16
    qtbot.keyClick(window, Qt.Key.Key_R, Qt.KeyboardModifier.ShiftModifier)
    assert page.crossbar.quantity.key == "R"
    qtbot.keyClick(window, Qt.Key.Key_L)
    assert page.crossbar.log
    qtbot.keyClick(window, Qt.Key.Key_G)
    assert page.crossbar.quantity.key == "G"
