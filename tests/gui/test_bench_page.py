"""The Bench page in the whole window: choose, look ahead, run, queue, recipes, and what is remembered."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PySide6")
pytest.importorskip("pytestqt")

from neurobench.gui.bench import preview_panel, remembered, run_panel
from neurobench.gui.bench.bench_page import BenchPage, recipe_of
from neurobench.gui.frame.actions import Actions
from neurobench.gui.frame.slow_motion import SlowMotion
from neurobench.gui.parts.forms import NumberBox
from neurobench.gui.selection import Selection
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import LIVE, BenchState
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QLabel, QToolButton, QVBoxLayout, QWidget

from neurobench.runs.request import Request, prepare, request

QUICK = Request("read-all", settings={"repeats": 2})
PATIENCE = 30_000


class Host(QWidget):
    """What the page needs of a window: a session, the actions, and a place."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.session, self.selection = Session(folder), Selection(parent=self)
        self.session.connect_bench("emulator")
        self.actions_of = Actions(self.session, self)
        self.page = BenchPage(self.session, self.actions_of, self.selection, self)
        QVBoxLayout(self).addWidget(self.page.left)
        self.resize(420, 680)


@pytest.fixture
def window(window_app: QApplication, qtbot: Any, tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "runs")
    made.show()
    qtbot.waitExposed(made)
    made.activateWindow()
    yield made
    made.session.close_all(lambda: None)
    qtbot.waitUntil(lambda: made.session.state not in LIVE, timeout=20_000)
    made.session.shutdown()


@pytest.fixture
def page(window: Host, qtbot: Any) -> BenchPage:
    ready(window.page, qtbot)
    return window.page


def ready(page: BenchPage, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: page.run_panel.form is not None, timeout=PATIENCE)


def heard(window: Host) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    window.session.said.connect(lambda level, words: said.append((level, words)))
    return said


def choose(page: BenchPage, name: str, qtbot: Any) -> None:
    """As a user does: type the name, press return."""
    line = page.run_panel.protocols.lineEdit()
    line.setFocus()
    line.selectAll()
    qtbot.keyClicks(line, name)
    qtbot.keyClick(line, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: page.run_panel.protocol == name, timeout=PATIENCE)
    ready(page, qtbot)


def put(page: BenchPage, key: str, text: str) -> None:
    assert page.run_panel.form is not None
    box = page.run_panel.form.rows[key].editor.findChild(NumberBox)
    box.setText(text)


def run_to_end(window: Host, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: window.session.state in LIVE, timeout=PATIENCE)
    qtbot.waitUntil(lambda: window.session.state not in LIVE, timeout=PATIENCE)


# ---------------------------------------------------------------------------------------------- running


def test_a_new_user_presses_run_and_a_chip_learns(window: Host, page: BenchPage, qtbot: Any) -> None:
    said = heard(window)
    qtbot.mouseClick(page.run_button, Qt.MouseButton.LeftButton)
    run_to_end(window, qtbot)
    qtbot.waitUntil(lambda: window.session.snapshot is not None and not window.session.snapshot.live, timeout=PATIENCE)
    snapshot = window.session.snapshot
    assert snapshot is not None
    assert (snapshot.about.protocol, snapshot.about.simulated, snapshot.status) == ("manhattan", True, "finished")
    assert len(snapshot.progress["error"].at) >= 5  # it took its time
    # it was over sooner than anybody can see: it is shown once more
    qtbot.waitUntil(lambda: page.motion.running, timeout=PATIENCE)
    qtbot.waitUntil(lambda: window.session.at_seq is not None, timeout=PATIENCE)
    assert "shown once more, slowly" in said[-1][1]
    window.session.show_at(None)  # the user has seen enough
    qtbot.waitUntil(lambda: not page.motion.running, timeout=PATIENCE)
    assert window.session.at_seq is None


def test_another_choice_during_a_run_relabels_nothing(window: Host, page: BenchPage, qtbot: Any) -> None:
    page.slow_action.setChecked(False)
    put(page, "max_updates", "100000")
    assert page.run_panel.form is not None
    page.run_panel.form.rows["goal"].editor.put("activation")
    put(page, "target", "0.999")
    page.run_panel.seed.setText("7")
    window.actions_of.by_name("run").trigger()
    qtbot.waitUntil(lambda: window.session.state is BenchState.RUNNING, timeout=PATIENCE)
    qtbot.waitUntil(lambda: window.session.snapshot is not None, timeout=PATIENCE)
    before = window.session.snapshot.about  # type: ignore[union-attr]
    choose(page, "read-all", qtbot)
    page.run_panel.seed.setText("99")
    bench = page.run_panel.benches
    bench.setCurrentIndex(bench.findData("visa-sim"))
    bench.activated.emit(bench.currentIndex())
    assert page.run_panel.bench == "visa-sim"
    seq = window.session.snapshot.seq  # type: ignore[union-attr]
    qtbot.waitUntil(lambda: window.session.snapshot.seq > seq, timeout=PATIENCE)  # type: ignore[union-attr]
    about = window.session.snapshot.about  # type: ignore[union-attr]
    assert (
        (about.protocol, about.bench, about.seed) == (before.protocol, before.bench, 7) == ("manhattan", "emulator", 7)
    )
    assert window.session.bench_name == "emulator"
    for view in page.views:
        for label in view.findChildren(QLabel):
            assert "read-all" not in label.text()
    window.session.stop()
    qtbot.waitUntil(lambda: window.session.state not in LIVE, timeout=PATIENCE)


def test_what_is_wrong_is_said_beside_the_buttons_and_nothing_starts(window: Host, page: BenchPage, qtbot: Any) -> None:
    said = heard(window)
    put(page, "target", "2")
    assert page.problem.isVisible()
    assert "target: Input should be less than 1" in page.problem.text()
    for name in ("run", "queue", "preview"):
        window.actions_of.by_name(name).trigger()
        assert said[-1][0] == "warning"
        assert "target" in said[-1][1]
    assert window.session.state is BenchState.READY
    assert window.session.queue == ()
    page.run_panel.seed.setText("-4")
    put(page, "target", "0.8")
    assert "a seed is a whole number" in page.problem.text()
    page.run_panel.seed.setText("4")
    assert not page.problem.isVisible()


def test_settings_of_the_chip_are_on_the_bench_that_runs(window: Host, page: BenchPage, qtbot: Any) -> None:
    page.slow_action.setChecked(False)
    choose(page, "read-all", qtbot)
    qtbot.mouseClick(page.run_panel.chip_button, Qt.MouseButton.LeftButton)
    page.run_panel.chip.set_values({"rows": 3, "cols": 5, "model": "ecram"})
    window.actions_of.by_name("run").trigger()
    run_to_end(window, qtbot)
    qtbot.waitUntil(lambda: window.session.snapshot is not None, timeout=PATIENCE)
    assert window.session.snapshot.about.shape == (3, 5)  # type: ignore[union-attr]
    assert window.session.bench_settings == {"chip.rows": 3, "chip.cols": 5, "chip.model": "ecram"}
    assert window.session.bench.chip.rows == 3  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------- looking ahead


def test_a_preview_says_what_a_run_would_do_and_goes_stale(window: Host, page: BenchPage, qtbot: Any) -> None:
    with qtbot.waitSignal(page.preview.came, timeout=PATIENCE):
        qtbot.mouseClick(page.preview_button, Qt.MouseButton.LeftButton)
    facts = {fact.name: fact for fact in page.preview.facts}
    assert "SIMULATED" in facts["Verdict"].words
    assert facts["Reach"].level == "ok"
    assert facts["Pulse"].words == "up to 1.3 V of 5.5 V allowed (24%)"
    assert not page.preview.stale
    put(page, "target", "0.7")
    assert page.preview.stale
    assert not page.preview.findChildren(QLabel)[-1].isEnabled()
    put(page, "target", "0.8")
    assert not page.preview.stale
    with qtbot.waitSignal(page.preview.came, timeout=PATIENCE):
        page.look_ahead()
        put(page, "target", "0.7")  # while it is being looked at
    assert page.preview.stale
    assert window.session.run_path is None  # nothing was run


def test_a_refusal_is_shown_in_its_own_words() -> None:
    facts = preview_panel.facts_of(
        {"status": "refused", "error": "pulse 9 V exceeds max_cell_v = 5.5 V", "exit_code": 3}
    )
    assert [(fact.level, fact.words) for fact in facts] == [("bad", "pulse 9 V exceeds max_cell_v = 5.5 V")]


def test_what_is_close_to_a_limit_is_pointed_out() -> None:
    levels = [preview_panel._against("Pulse", value, 2.0, "V").level for value in (1.0, 1.9, 2.1)]
    assert levels == ["ok", "warn", "bad"]
    assert preview_panel.duration(3725) == "1 h 02 min"


@pytest.mark.slow
def test_waveforms_of_a_scheme_are_shown(window: Host, page: BenchPage, qtbot: Any) -> None:
    assert not page.waves_action.isEnabled()
    choose(page, "stdp-window", qtbot)
    assert page.waves_action.isEnabled()
    assert page.run_panel.form is not None
    page.run_panel.form.rows["scheme"].editor.put({"kind": "triangular", "tail_v": 0.125})
    page.show_waveforms()
    waves = page._waves
    assert waves is not None
    qtbot.waitUntil(lambda: "triangular" in waves.words.text(), timeout=PATIENCE)
    assert "SIMULATED" in waves.words.text()
    waves.close()


# ---------------------------------------------------------------------------------------------- the queue


def test_the_queue_by_mouse_and_keys(window: Host, page: BenchPage, qtbot: Any) -> None:
    for seed in ("1", "2", "3"):
        page.run_panel.seed.setText(seed)
        qtbot.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert seeds(window) == [1, 2, 3]
    assert page.tabs.tabText(1) == "Queue (3)"
    view = page.queue.list
    view.setFocus()
    click_row(page, 2, qtbot)
    qtbot.keyClick(view, Qt.Key.Key_Up, Qt.KeyboardModifier.AltModifier)
    assert seeds(window) == [1, 3, 2]
    assert view.currentRow() == 1  # the same entry stays chosen
    qtbot.keyClick(view, Qt.Key.Key_Down, Qt.KeyboardModifier.AltModifier)
    assert seeds(window) == [1, 2, 3]
    qtbot.mouseClick(page.queue.up_button, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(page.queue.up_button, Qt.MouseButton.LeftButton)
    assert seeds(window) == [3, 1, 2]
    assert not page.queue.up_button.isEnabled()
    qtbot.mouseClick(page.queue.copy_button, Qt.MouseButton.LeftButton)
    assert seeds(window) == [3, 3, 1, 2]
    qtbot.keyClick(view, Qt.Key.Key_Delete)
    assert seeds(window) == [3, 1, 2]
    ids = [one.id for one in window.session.queue]
    view.drop_at(ids[0], 3)  # dropped below the last
    assert seeds(window) == [1, 2, 3]
    view.drop_at(ids[0], 1)
    assert seeds(window) == [1, 3, 2]


def seeds(window: Host) -> list[int]:
    return [one.request.seed for one in window.session.queue]


def click_row(page: BenchPage, row: int, qtbot: Any) -> None:
    at = page.queue.list.visualItemRect(page.queue.list.item(row)).center()
    qtbot.mouseClick(page.queue.list.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(at))


def test_an_entry_is_edited_in_the_form_and_put_back(window: Host, page: BenchPage, qtbot: Any) -> None:
    window.session.enqueue(QUICK)
    page.tabs.setCurrentWidget(page.queue)
    click_row(page, 0, qtbot)
    qtbot.mouseClick(page.queue.edit_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: page.run_panel.protocol == "read-all", timeout=PATIENCE)
    ready(page, qtbot)
    assert page.run_panel.request() == QUICK
    put(page, "repeats", "3")
    assert page.queue_button.text() == "Put back (1)"
    qtbot.mouseClick(page.queue_button, Qt.MouseButton.LeftButton)
    assert [one.request.settings for one in window.session.queue] == [{"repeats": 3}]
    assert page.queue_button.text() == "Queue"
    choose(page, "manhattan", qtbot)
    assert page.run_panel.settings() == {"task": "letters"}  # its own values were kept


@pytest.mark.slow
def test_a_queue_runs_and_stops_after_each_if_asked(window: Host, page: BenchPage, qtbot: Any) -> None:
    for seed in (1, 2):
        window.session.enqueue(Request("read-all", settings={"repeats": 2}, seed=seed))
    page.tabs.setCurrentWidget(page.queue)
    page.queue.one_only.setChecked(True)
    qtbot.mouseClick(page.queue.start_button, Qt.MouseButton.LeftButton)
    run_to_end(window, qtbot)
    assert [one.status for one in window.session.queue] == ["finished", "waiting"]
    page.queue.one_only.setChecked(False)
    qtbot.mouseClick(page.queue.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: [one.status for one in window.session.queue] == ["finished"] * 2, timeout=PATIENCE)
    assert page.queue.list.item(1).text().startswith("✓ finished")


# ---------------------------------------------------------------------------------------------- recipes and memory


def test_a_recipe_goes_out_and_in_and_runs_on_the_command_line(
    window: Host, page: BenchPage, qtbot: Any, tmp_path: Path
) -> None:
    choose(page, "stdp-window", qtbot)
    assert page.run_panel.form is not None
    page.run_panel.form.set_values({"scheme": {"kind": "triangular", "tail_v": 0.125}, "dt_s": (0.01, -0.01)})
    page.run_panel.chip.set_values({"model": "vteam", "rows": 2})
    page.run_panel.seed.setText("12")
    asked, file = page.run_panel.request(), tmp_path / "recipe.toml"
    assert page.save_recipe(file)
    assert asked is not None
    assert prepare(request(file)).protocol == prepare(asked).protocol
    assert prepare(request(file)).bench == prepare(asked).bench
    page.reset()
    choose(page, "manhattan", qtbot)
    page.run_panel.seed.setText("0")
    assert page.load_recipe(file)
    ready(page, qtbot)
    assert page.run_panel.request() == asked
    page.copy_command()
    assert QGuiApplication.clipboard().text() == asked.command()


def test_a_recipe_that_is_wrong_says_why_and_changes_nothing(window: Host, page: BenchPage, tmp_path: Path) -> None:
    said, file, before = heard(window), tmp_path / "recipe.toml", page.run_panel.request()
    for text, words in (("protocol = 'manhatan'", "did you mean manhattan"), ("[set]\nx = 1", "needs protocol"),
                        ("protocol = 'manhattan'\nbench = 'emulatr'", "did you mean emulator")):  # fmt: skip
        file.write_text(text, encoding="utf-8")
        assert not page.load_recipe(file)
        assert words in said[-1][1]
        assert said[-1][0] == "error"
        assert page.run_panel.request() == before


def test_every_protocol_keeps_its_own_values(page: BenchPage, qtbot: Any) -> None:
    put(page, "target", "0.7")
    choose(page, "read-all", qtbot)
    put(page, "repeats", "5")
    choose(page, "manhattan", qtbot)
    assert page.run_panel.settings() == {"task": "letters", "target": 0.7}
    choose(page, "read-all", qtbot)
    assert page.run_panel.settings() == {"repeats": 5}


def test_the_confirmation_of_a_chip_is_typed_for_every_run(
    window: Host, page: BenchPage, qtbot: Any, own_home: Path
) -> None:
    choose(page, "form", qtbot)
    assert page.run_panel.form is not None
    typed = {"stop_v": 2.0, "stop_current_a": 1e-4, "stop_conductance_s": 1e-4, "confirm_chip_id": "A17"}
    page.run_panel.form.set_values(typed)
    window.actions_of.by_name("queue").trigger()
    assert window.session.queue[0].request.settings == typed
    left = {key: value for key, value in typed.items() if key != "confirm_chip_id"}
    assert page.run_panel.settings() == left
    page.run_panel.form.set_values(typed)
    page.keep()
    assert "A17" not in (own_home / "bench_page.json").read_text(encoding="utf-8")
    choose(page, "read-all", qtbot)
    choose(page, "form", qtbot)
    assert page.run_panel.settings() == left


def test_what_was_set_is_there_the_next_time(page: BenchPage, qtbot: Any, own_home: Path) -> None:
    put(page, "target", "0.7")
    page.run_panel.seed.setText("31")
    page.run_panel.chip.set_values({"cols": 8})
    page.keep()
    kept = remembered.load(own_home / "bench_page.json")
    again = run_panel.RunPanel(None, kept)
    qtbot.addWidget(again)
    qtbot.waitUntil(lambda: again.form is not None, timeout=PATIENCE)
    assert again.request() == page.run_panel.request()
    (own_home / "bench_page.json").write_text('{"version": 1, "seed": "x"}', encoding="utf-8")
    assert remembered.load(own_home / "bench_page.json") == remembered.Remembered()


def test_cells_are_taken_from_the_map(window: Host, page: BenchPage, qtbot: Any) -> None:
    choose(page, "measure-curve", qtbot)
    assert page.run_panel.form is not None
    editor = page.run_panel.form.rows["cells"].editor
    button = next(one for one in editor.findChildren(QToolButton) if one.text() == "From map")
    said = heard(window)
    window.selection.clear()
    button.click()
    assert "no cell is selected" in said[-1][1]
    window.selection.set_shape((4, 4))
    window.selection.set([(0, 1), (2, 3)])
    button.click()
    assert page.run_panel.settings()["cells"] == ((0, 1), (2, 3))


def test_a_recipe_file_holds_tables() -> None:
    asked = Request("manhattan", "emulator", {"task": "letters"}, {"chip.rows": 4, "readout.ideal": True}, 3)
    assert tomllib.loads(recipe_of(asked)) == {
        "protocol": "manhattan", "bench": "emulator", "seed": 3, "set": {"task": "letters"},
        "bench-set": {"chip": {"rows": 4}, "readout": {"ideal": True}},
    }  # fmt: skip


def test_slow_motion_has_nothing_to_show_without_a_run(window: Host, page: BenchPage) -> None:
    assert not SlowMotion(window.session, page).start()


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_nothing_of_the_panel_is_cut_off(page: BenchPage, window_app: QApplication, qtbot: Any, scale: float) -> None:
    from neurobench.gui import theme

    theme.apply(window_app, "dark", scale)
    page.left.setParent(None)
    qtbot.addWidget(page.left)
    page.left.show()
    for _ in range(3):  # a layout within a layout needs another turn
        QApplication.processEvents()
    page.left.resize(page.left.minimumSizeHint().width(), 700)
    QApplication.processEvents()
    for button in (page.run_button, page.preview_button, page.queue_button, page.more_button, page.run_panel.seed):
        right = button.mapTo(page.left, QPoint(button.width(), 0)).x()
        assert button.width() >= button.minimumSizeHint().width()
        assert right <= page.left.width()
    inside: QWidget = page.run_panel.area.widget()
    assert inside.width() <= page.run_panel.area.viewport().width()
    theme.apply(window_app, "dark", 1.0)


def test_a_panel_in_little_room_scrolls_as_a_whole_and_its_form_does_not(page: BenchPage, qtbot: Any) -> None:
    from neurobench.gui.frame.modes import SidePanel

    around, form = SidePanel(page.left), page.run_panel.area
    qtbot.addWidget(around)
    around.show()
    around.resize(400, 240)
    qtbot.waitUntil(lambda: around.verticalScrollBar().maximum() > 0 and form.verticalScrollBar().maximum() == 0)
    assert form.widget().height() <= form.viewport().height(), "all of it can be reached"
    around.resize(400, 640)
    qtbot.waitUntil(lambda: around.verticalScrollBar().maximum() == 0 < form.verticalScrollBar().maximum())


def test_a_chip_that_is_too_small_for_the_first_task_gets_the_protocols_own(
    window: Host, page: BenchPage, qtbot: Any, tmp_path: Path
) -> None:
    assert page.run_panel.settings() == {"task": "letters"}
    file = tmp_path / "made.toml"
    file.write_text('[bench]\nbackend = "emulator"\n[chip]\nrows = 4\ncols = 4\n')
    page.run_panel.choose_bench(str(file))
    assert page.run_panel.settings() == {}
    page.run_panel.choose_bench("visa-sim")
    assert page.run_panel.settings() == {"task": "letters"}
