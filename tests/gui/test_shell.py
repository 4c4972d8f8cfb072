"""The window as a whole, by mouse and keys: first start, Esc from anywhere, modes, layouts, palette, messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from neurobench.gui import theme
from neurobench.gui.frame import dialogs, modes
from neurobench.gui.frame.preferences import Preferences
from neurobench.gui.frame.pulse import Pulse
from neurobench.gui.frame.window import MainWindow
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState
from neurobench.gui.views.base import View
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication, QComboBox, QDialog, QLabel, QSpinBox, QVBoxLayout, QWidget
from snapshots import snapshot

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

S = BenchState
LEFT = Qt.MouseButton.LeftButton


class CountingView(View):
    name = "counting"
    title = "Counts & draws"

    def __init__(self, name: str = "counting") -> None:
        super().__init__()
        self.name = name  # type: ignore[misc]
        self.drawn: list[Any] = []
        self.broken = False
        QVBoxLayout(self).addWidget(QLabel(name))

    def draw(self, snapshot: Snapshot | None) -> None:
        self.drawn.append(snapshot)
        if self.broken:
            raise ValueError("no such axis")


class StandIn(QWidget):
    """A page with three views and a panel, in place of one that this test is not about."""

    def __init__(self, _session: Any, _actions: Any, _selection: Any) -> None:
        super().__init__()
        self.views = tuple(CountingView(name) for name in ("crossbar", "traces", "progress", "weights"))
        self.left = QWidget()
        box = QVBoxLayout(self.left)
        self.spin, self.combo = QSpinBox(), QComboBox()
        self.combo.addItems(["one", "two", "three"])
        box.addWidget(self.spin)
        box.addWidget(self.combo)


def set_state(window: MainWindow, state: BenchState) -> None:
    window.session.state = state
    window.session.state_changed.emit(state)


@pytest.fixture
def shell(
    window_app: QApplication, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MainWindow]:
    """The window with a stand-in for every page, on the emulator; nothing runs in it."""
    monkeypatch.setattr(modes, "made_page", lambda of, *rest: StandIn(*rest))
    monkeypatch.setattr("neurobench.gui.frame.window.made_page", lambda of, *rest: StandIn(*rest))
    made = MainWindow(Session(tmp_path / "runs"), Preferences(tmp_path / "window.ini"))
    made.resize(1280, 720)
    made.show()
    qtbot.waitExposed(made)
    # without a window manager nobody else gives it the keys
    qtbot.waitUntil(lambda: made.activateWindow() or made.isActiveWindow(), timeout=20_000)
    made.session.connect_bench("emulator")
    made.begin()
    yield made
    set_state(made, S.READY)
    made.close()


def page(window: MainWindow) -> StandIn:
    found = window.modes["bench"].page
    assert isinstance(found, StandIn)
    return found


# ---------------------------------------------------------------------------------------------- Esc


@pytest.fixture
def aborts(shell: MainWindow, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When abort was asked for."""
    heard: list[float] = []
    monkeypatch.setattr(shell.session, "abort", lambda: heard.append(time.monotonic()))
    return heard


def in_the_spin_box(shell: MainWindow, qtbot: Any) -> QWidget:
    page(shell).spin.setFocus()
    return page(shell).spin


def in_a_pop_up(shell: MainWindow, qtbot: Any) -> QWidget:
    page(shell).combo.showPopup()
    qtbot.waitUntil(lambda: QApplication.activePopupWidget() is not None)
    return page(shell).combo.view()


def in_a_menu(shell: MainWindow, qtbot: Any) -> QWidget:
    menu = shell.menuBar().actions()[0].menu()
    menu.popup(shell.mapToGlobal(shell.rect().center()))
    qtbot.waitUntil(menu.isVisible)
    return menu


def in_the_palette(shell: MainWindow, qtbot: Any) -> QWidget:
    shell.actions_of.by_name("palette").trigger()
    return shell.palette_dialog.line


def in_a_dialog(shell: MainWindow, qtbot: Any) -> QWidget:
    shell.actions_of.by_name("limits").trigger()
    return shell.findChild(dialogs.LimitsDialog)


def in_a_modal_dialog(shell: MainWindow, qtbot: Any) -> QWidget:
    dialog = QDialog(shell)
    dialog.open()
    return dialog


def in_the_window(shell: MainWindow, qtbot: Any) -> QWidget:
    return shell


WHERE = [in_the_spin_box, in_a_pop_up, in_a_menu, in_the_palette, in_a_dialog, in_a_modal_dialog, in_the_window]


@pytest.mark.parametrize("where", WHERE, ids=lambda where: where.__name__)
def test_esc_aborts_once_wherever_the_focus_is(shell: MainWindow, aborts: list[float], qtbot: Any, where: Any) -> None:
    widget = where(shell, qtbot)
    set_state(shell, S.RUNNING)
    qtbot.keyClick(widget, Qt.Key.Key_Escape)
    assert len(aborts) == 1
    assert QApplication.activePopupWidget() is None, "a pop-up goes away with it"
    qtbot.keyClick(widget if widget.isVisible() else shell, Qt.Key.Key_Escape)
    assert len(aborts) == 2, "the second press is heard too: hard off"


def test_esc_through_the_window_system_counts_once(shell: MainWindow, aborts: list[float], qtbot: Any) -> None:
    """As a real key comes: first to the window's handle, then to the widget that has the focus."""
    page(shell).spin.setFocus()
    set_state(shell, S.PAUSED)
    qtbot.keyClick(shell.windowHandle(), Qt.Key.Key_Escape)
    assert len(aborts) == 1


def test_a_key_that_is_held_down_counts_once(shell: MainWindow, aborts: list[float], qtbot: Any) -> None:
    set_state(shell, S.RUNNING)
    qtbot.keyPress(shell, Qt.Key.Key_Escape)
    for _ in range(20):
        again = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier, "", True)
        QApplication.sendEvent(shell, again)
    assert len(aborts) == 1


def test_a_held_key_as_an_x_server_repeats_it_counts_once(shell: MainWindow, aborts: list[float], qtbot: Any) -> None:
    """There it is let go and pressed again within the same millisecond; as a second press it would be a hard off."""
    set_state(shell, S.RUNNING)
    press, release = QEvent.Type.KeyPress, QEvent.Type.KeyRelease
    for kind, at_ms in ((press, 1000), (release, 1500), (press, 1500), (release, 1540), (press, 1541)):
        event = QKeyEvent(kind, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
        event.setTimestamp(at_ms)
        QApplication.sendEvent(shell, event)
    assert len(aborts) == 1
    for kind, at_ms in ((release, 1600), (press, 1640)):
        event = QKeyEvent(kind, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
        event.setTimestamp(at_ms)
        QApplication.sendEvent(shell, event)
    assert len(aborts) == 2, "so fast a hand can be"


def test_a_click_on_abort_beside_an_open_pop_up_is_an_abort(shell: MainWindow, aborts: list[float], qtbot: Any) -> None:
    set_state(shell, S.RUNNING)
    popup = in_a_pop_up(shell, qtbot).window()
    button = shell.topbar.abort
    there = popup.mapFromGlobal(button.mapToGlobal(button.rect().center()))
    qtbot.mouseClick(popup, Qt.MouseButton.RightButton, pos=there)
    assert aborts == []
    in_a_pop_up(shell, qtbot)
    qtbot.mouseClick(popup, LEFT, pos=there)
    assert len(aborts) == 1
    assert QApplication.activePopupWidget() is None


@pytest.mark.parametrize("state", [S.READY, S.DISCONNECTED, S.FAULT])
def test_esc_means_what_it_always_means_where_nothing_is_live(
    shell: MainWindow, aborts: list[float], qtbot: Any, state: BenchState
) -> None:
    line = in_the_palette(shell, qtbot)
    set_state(shell, state)
    qtbot.keyClick(line, Qt.Key.Key_Escape)
    assert not shell.palette_dialog.isVisible()
    assert aborts == []


def test_the_abort_button_is_large_and_never_disabled_while_live(
    shell: MainWindow, aborts: list[float], qtbot: Any
) -> None:
    button = shell.topbar.abort
    for state in BenchState:
        set_state(shell, state)
        live = state in {S.STARTING, S.RUNNING, S.PAUSING, S.PAUSED, S.STOPPING, S.ABORTING, S.CONNECTING}
        assert button.isEnabled() == live, state
        assert button.isVisible()
    assert button.width() >= 150
    assert button.height() >= 40
    set_state(shell, S.RUNNING)
    qtbot.mousePress(button, LEFT)
    assert len(aborts) == 1, "it does not wait until the button is let go"
    qtbot.mouseRelease(button, LEFT)
    assert len(aborts) == 1
    right = shell.topbar.mapFromGlobal(button.mapToGlobal(button.rect().topRight())).x()
    assert right > shell.topbar.width() - 40, "far right"


# ---------------------------------------------------------------------------------------------- the bar


def test_the_banner_follows_what_is_shown_and_cannot_be_closed(shell: MainWindow) -> None:
    banner = shell.topbar.banner
    assert banner.isVisible()
    assert banner.text() == "SIMULATED"
    real = snapshot()
    shell.session.snapshot = real.__class__(**{**real.__dict__, "about": real.about.__class__(
        **{**real.about.__dict__, "simulated": False})})  # fmt: skip
    shell.session.snapshot_changed.emit()
    assert not banner.isVisible()
    assert shell.status.origin.text() != "", "the line at the bottom says it too"
    shell.status.look()
    assert "measured" in shell.status.origin.text()


def test_the_lamp_says_what_was_read_back(shell: MainWindow) -> None:
    on: dict[str, Any] = {"on": True, "how": "commanded", "age_s": 0.1}
    off: dict[str, Any] = {"on": False, "how": "read back", "age_s": 1.0}
    unknown: dict[str, Any] = {"on": None, "how": "lost"}
    for outputs, word in ((on, "ON"), (unknown, "UNKNOWN"), (off, "OFF")):
        shell.session.outputs = outputs
        shell.session.outputs_changed.emit()
        assert word in shell.topbar.outputs.text()
        assert str(outputs["how"]) in shell.topbar.outputs.toolTip()


def test_the_bar_stays_on_one_line_at_1280_and_shows_all_at_twice_the_size(shell: MainWindow, qtbot: Any) -> None:
    parts = (shell.topbar.state, shell.topbar.bench, shell.topbar.run, shell.topbar.limits, shell.topbar.outputs)
    assert len({part.mapTo(shell, part.rect().center()).y() for part in parts}) == 1
    shell.set_look(scale=2.0)
    qtbot.waitUntil(lambda: shell.topbar.height() > 100)
    for part in (*parts, shell.topbar.abort, shell.topbar.progress):
        corner = part.mapTo(shell, part.rect().bottomRight())
        assert shell.rect().contains(corner), part.accessibleName()
    shell.set_look(scale=1.0)


def test_limits_are_all_shown_with_whose_rule_they_are(shell: MainWindow, qtbot: Any) -> None:
    qtbot.mouseClick(shell.topbar.limits, LEFT)
    dialog = shell.findChild(dialogs.LimitsDialog)
    assert dialog.isVisible()
    assert not dialog.isModal(), "Abort can be clicked meanwhile"
    from neurobench.bench.limits import Limits

    assert dialog.table.rowCount() == len(Limits.model_fields)
    rows = {dialog.table.item(r, 0).text(): [dialog.table.item(r, c).text() for c in range(5)]
            for r in range(dialog.table.rowCount())}  # fmt: skip
    assert rows["max_cell_v"][1] == "5.5 V"
    assert all(row[3] for row in rows.values()), "somebody says each of them"
    assert "volts" in rows["max_cell_v"][4]


# ---------------------------------------------------------------------------------------------- messages


def test_a_key_in_vain_says_why_and_can_be_copied(shell: MainWindow, qtbot: Any) -> None:
    qtbot.keyClick(shell, Qt.Key.Key_F6)
    assert "Pause is not possible now: nothing is running" in shell.strip.label.text()
    assert shell.strip.label.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse


def test_acknowledging_nothing_says_that_there_is_no_fault(shell: MainWindow, qtbot: Any) -> None:
    qtbot.keyClick(shell, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert "there is no fault" in shell.strip.label.text()


def test_a_new_run_does_not_stand_below_the_end_of_the_last_one(shell: MainWindow) -> None:
    shell.session.said.emit("warning", "the run ended: aborted")
    assert shell.strip.isVisible()
    shell.session._stand(BenchState.STARTING)
    assert not shell.strip.isVisible()
    assert "aborted" in shell.messages.text()


def test_an_error_stays_until_it_is_put_away(shell: MainWindow, qtbot: Any) -> None:
    shell.session.said.emit("error", "the link to the generator is lost")
    shell.session.said.emit("info", "something small")
    assert "generator" in shell.strip.label.text()
    qtbot.mouseClick(shell.strip.away, LEFT)
    assert not shell.strip.isVisible()
    assert "generator" in shell.messages.text()
    assert "something small" in shell.messages.text()
    shell.session.said.emit("info", "now it has room")
    assert "now it has room" in shell.strip.label.text()


# ---------------------------------------------------------------------------------------------- modes, views, layouts


@pytest.mark.parametrize("number", range(1, 7))
def test_modes_by_key(shell: MainWindow, qtbot: Any, number: int) -> None:
    qtbot.keyClick(shell, Qt.Key(Qt.Key.Key_0 + number), Qt.KeyboardModifier.ControlModifier)
    name = list(shell.rail.buttons)[number - 1]
    assert shell.actions_of.page == name
    assert shell.rail.buttons[name].isChecked()


def test_a_page_that_cannot_be_shown_says_why_and_is_not_fatal(
    window_app: QApplication, qtbot: Any, tmp_path: Path
) -> None:
    broken = modes.made_page(modes.PageOf("lab", "no_such_page", "LabPage"), None, None, None)  # type: ignore[arg-type]
    qtbot.addWidget(broken)
    words = broken.findChild(QLabel).text()
    assert "no_such_page" in words
    assert "Everything else goes on" in words


def test_only_what_can_be_seen_is_drawn(shell: MainWindow, qtbot: Any) -> None:
    crossbar, _, progress, weights = page(shell).views
    qtbot.waitUntil(lambda: bool(crossbar.drawn))
    assert weights.drawn == [], "it lies below the tab of another"
    shell.modes["bench"].docks["weights"].raise_()
    qtbot.waitUntil(lambda: bool(weights.drawn))
    before = len(progress.drawn)
    shell.session.snapshot = snapshot()
    shell.session.snapshot_changed.emit()
    qtbot.waitUntil(lambda: crossbar.drawn[-1] is shell.session.snapshot)
    assert len(progress.drawn) == before


def test_a_detached_view_is_drawn_in_every_mode(shell: MainWindow, qtbot: Any) -> None:
    shell.modes["bench"].docks["traces"].setFloating(True)
    shell.show_mode("connect")
    shell.session.snapshot = snapshot()
    shell.session.snapshot_changed.emit()
    traces = page(shell).views[1]
    qtbot.waitUntil(lambda: bool(traces.drawn) and traces.drawn[-1] is shell.session.snapshot)


def test_what_comes_too_fast_is_drawn_thirty_times_a_second(shell: MainWindow, qtbot: Any) -> None:
    view = page(shell).views[0]
    qtbot.waitUntil(lambda: bool(view.drawn))
    before, end = len(view.drawn), time.monotonic() + 0.5
    while time.monotonic() < end:
        shell.session.snapshot_changed.emit()
        QApplication.processEvents()
    assert 3 <= len(view.drawn) - before <= 17


def test_a_view_that_fails_says_so_once_and_the_others_are_drawn(shell: MainWindow, qtbot: Any) -> None:
    first, second = page(shell).views[:2]
    first.broken = True
    for _ in range(3):
        count = len(second.drawn)
        shell.session.snapshot_changed.emit()
        qtbot.waitUntil(lambda count=count: len(second.drawn) > count)
    assert shell.messages.text().count("no such axis") == 1


def test_layouts_are_kept_and_reset(shell: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    shell.modes["bench"].docks["weights"].toggleViewAction().trigger()
    assert not shell.modes["bench"].docks["weights"].isVisible()
    shell.close()
    again = MainWindow(Session(tmp_path / "runs"), Preferences(tmp_path / "window.ini"))
    again.show()
    qtbot.waitExposed(again)
    again.begin()
    dock = again.modes["bench"].docks["weights"]
    assert dock.isHidden()
    again.actions_of.by_name("reset_layout").trigger()
    assert not dock.isHidden()
    again.close()


def test_a_layout_of_another_version_is_left_alone(shell: MainWindow, tmp_path: Path) -> None:
    kept = shell.modes["bench"].saveState(99)
    shell.modes["bench"].docks["weights"].close()
    shell.modes["bench"].take_layout(kept)
    assert shell.modes["bench"].docks["weights"].isHidden(), "it did not fit, so nothing changed"


def test_an_ampersand_does_not_vanish(window_app: QApplication, qtbot: Any) -> None:
    page_ = StandIn(None, None, None)
    page_.views[0].title = "Targets & errors"  # type: ignore[misc]
    mode = modes.Mode(modes.PAGES[0], page_)
    qtbot.addWidget(mode)
    assert mode.docks["crossbar"].windowTitle() == "Targets && errors"


# ---------------------------------------------------------------------------------------------- palette, looks


def test_the_palette_finds_and_does(shell: MainWindow, qtbot: Any) -> None:
    qtbot.keyClick(shell, Qt.Key.Key_K, Qt.KeyboardModifier.ControlModifier)
    line = shell.palette_dialog.line
    qtbot.keyClicks(line, "theme light")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert theme.tokens().name == "light"
    assert shell.preferences.theme == "light"
    assert not shell.palette_dialog.isVisible()


def test_the_palette_says_why_something_is_not_possible(shell: MainWindow, qtbot: Any) -> None:
    shell.actions_of.by_name("palette").trigger()
    line = shell.palette_dialog.line
    qtbot.keyClicks(line, "acknowledge")
    assert "there is no fault to acknowledge" in shell.palette_dialog.why.text()
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert shell.palette_dialog.isVisible(), "nothing was done, so it stays"
    qtbot.keyClick(line, Qt.Key.Key_Escape)


def test_text_grows_by_key_and_is_remembered(shell: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    small = theme.em()
    qtbot.keyClick(shell, Qt.Key.Key_Plus, Qt.KeyboardModifier.ControlModifier)
    assert theme.em() > small
    shell.preferences.save()
    assert Preferences(tmp_path / "window.ini").scale == 1.25
    qtbot.keyClick(shell, Qt.Key.Key_Minus, Qt.KeyboardModifier.ControlModifier)
    assert theme.em() == small


def test_a_damaged_settings_file_is_no_reason_not_to_open(tmp_path: Path, qt: str) -> None:
    (tmp_path / "window.ini").write_text("[look]\ntheme=pink\nscale=huge\n[run]\non_death=explode\n")
    kept = Preferences(tmp_path / "window.ini")
    assert (kept.theme, kept.scale, kept.on_death, kept.layout("bench")) == ("system", 1.0, "suggested", None)


def test_the_pulse_measures_how_late_the_loop_is(qt: str, qtbot: Any, tmp_path: Path) -> None:
    session = Session(tmp_path)
    pulse = Pulse(session, list, session)
    pulse.measured()
    time.sleep(0.25)  # the loop is held up
    qtbot.wait(20)
    assert pulse.measured()[1] > 0.1
    session.shutdown()
