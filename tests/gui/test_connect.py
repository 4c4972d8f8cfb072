"""The Connect page: benches, self-test, the bench file by lines, wiring, limits that are confirmed, the passport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PySide6")

from neurobench.gui import theme
from neurobench.gui.connect import bench_text
from neurobench.gui.connect.bench_words import check_lines, chip_of
from neurobench.gui.connect.connect_page import ConnectPage
from neurobench.gui.frame.actions import Actions
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QLineEdit, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from neurobench.bench.config import load_bench
from neurobench.bench.passport import CellState, Passport

pytestmark = pytest.mark.usefixtures("qt")
LEFT = Qt.MouseButton.LeftButton

REAL = """\
[bench]
name = "hp-lab"
backend = "visa"

[chip]
id = "A7"
rows = 4
cols = 4
file = "A7.chip"
potentiating_sign = -1
top_electrode = "row"

[limits]                      # of chip A7
max_cell_v = 1.5
max_read_v = 0.1
max_width_s = 1e-3
max_pulses_per_cell = 1000
"""


class Jobs:
    """Child processes that answer at once, or never: what was asked for is in `asked`."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answers: dict[str, dict[str, Any]] = {}

    def job(self, words: list[str], done: Callable[[dict[str, Any]], None], _failed: Callable[[str], None]) -> Jobs:
        self.asked.append(words)
        if words[0] in self.answers:
            done({"exit_code": 0, **self.answers[words[0]]})
        return self

    def cancel(self) -> None:
        self.asked.append(["cancelled"])


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot) -> Iterator[Session]:
    monkeypatch.setenv("NEUROBENCH_HOME", str(tmp_path / "home"))
    made = Session(tmp_path / "runs")
    yield made
    made.shutdown()


@pytest.fixture
def page(session: Session, qtbot: QtBot) -> Iterator[ConnectPage]:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    theme.apply(app, "dark")
    window = QWidget()
    made = ConnectPage(session, Actions(session, window))
    qtbot.addWidget(window)
    qtbot.addWidget(made)
    made.resize(1160, 600)
    made.show()
    qtbot.waitExposed(made)
    yield made
    made.close()


@pytest.fixture
def jobs(session: Session, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    made = Jobs()
    monkeypatch.setattr(session, "job", made.job)
    return made


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(REAL)
    return path


def click(qtbot: QtBot, button: QPushButton) -> None:
    assert button.isVisible()
    assert button.isEnabled(), button.toolTip()
    qtbot.mouseClick(button, LEFT)


def click_bench(qtbot: QtBot, page: ConnectPage, starts: str) -> None:
    items = [page.benches.item(row) for row in range(page.benches.count())]
    (item,) = [one for one in items if one.text().removeprefix("● ").startswith(starts)]
    at = page.benches.visualItemRect(item).center()
    qtbot.mouseClick(page.benches.viewport(), LEFT, pos=QPoint(at.x(), at.y()))


def texts(table: Any) -> list[list[str]]:
    return [[table.item(row, col).text() for col in range(table.columnCount())] for row in range(table.rowCount())]


def lines(page: ConnectPage) -> dict[str, str]:
    return {part: f"{mark}: {words}" for mark, part, words in texts(page.self_test)}


# -- a bench that is there ------------------------------------------------------------------------------------------


def test_a_simulated_bench_is_chosen_connected_and_shown_part_by_part(qtbot: QtBot, page: ConnectPage) -> None:
    click_bench(qtbot, page, "visa-sim")
    click(qtbot, page.connect_button)
    assert page.busy.isVisible()
    qtbot.waitUntil(lambda: page.session.state is BenchState.READY, timeout=30_000)
    found = lines(page)
    assert found["smu"].startswith("✓ ok: keithley-2600b")
    assert "Keithley Instruments Inc. 2602B" in found["smu"]
    assert found["at rest"].startswith("✓ ok")
    assert "SIMULATED" in found["bench"]
    assert "SIMULATED" in page.limits.asked.text()
    assert not page.limits.confirm_button.isVisible()
    assert page.now.text() == "Connected: visa-sim"
    assert not page.busy.isVisible()
    click(qtbot, page.disconnect_button)
    assert page.now.text() == "No bench is connected"
    assert not page.disconnect_button.isEnabled()
    assert "no bench is connected" in page.disconnect_button.toolTip()


def test_who_answers_is_listed_and_copied(qtbot: QtBot, page: ConnectPage) -> None:
    click_bench(qtbot, page, "visa-sim")
    page.tabs.setCurrentWidget(page.instruments)
    click(qtbot, page.instruments.ask)
    qtbot.waitUntil(lambda: page.instruments.table.rowCount() == 3, timeout=30_000)
    rows = texts(page.instruments.table)
    assert any("Model 2602B" in answers and "keithley-2600b (smu)" in known for _, answers, known in rows)
    assert "simulated bench visa-sim" in page.instruments.where.text()
    page.instruments.table.setFocus()
    qtbot.keyClick(page.instruments.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert "TCPIP0::sim-smu::5025::SOCKET\t" in QGuiApplication.clipboard().text()


def test_a_self_test_can_be_given_up(qtbot: QtBot, page: ConnectPage) -> None:
    click_bench(qtbot, page, "visa-sim")
    click(qtbot, page.test_button)
    assert not page.connect_button.isEnabled()
    click(qtbot, page.cancel_button)
    assert page.words.text() == "cancelled"
    assert page.connect_button.isEnabled()
    assert lines(page) == {"not tested": "·: press Self-test: it asks who is there and fires nothing"}


def test_what_is_not_possible_now_says_why(page: ConnectPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.session, "state", BenchState.RUNNING)
    page.session.state_changed.emit(BenchState.RUNNING)
    for button in (page.connect_button, page.disconnect_button, page.test_button, page.rest_button):
        assert not button.isEnabled()
        assert "a run is going on" in button.toolTip()
    monkeypatch.setattr(page.session, "state", BenchState.FAULT)
    page.session.state_changed.emit(BenchState.FAULT)
    assert "acknowledge" in page.connect_button.toolTip()


def test_a_fault_that_the_check_found_is_its_first_line(qtbot: QtBot, page: ConnectPage, jobs: Jobs) -> None:
    rows = [{"role": "smu", "model": "keithley-2450", "resource": "TCPIP::10.0.0.9", "answers": "", "self_test": "",
             "verdict": "no answer"}]  # fmt: skip
    jobs.answers["check"] = {"bench": "x", "backend": "visa", "instruments": rows, "at_rest": False,
                             "fault": "smu: no answer", "exit_code": 4}  # fmt: skip
    click(qtbot, page.test_button)
    assert texts(page.self_test)[0] == ["✕ failed", "fault", "smu: no answer"]
    assert lines(page)["at rest"].startswith("✕ failed")
    assert "found a fault" in page.words.text()


# -- the bench file -------------------------------------------------------------------------------------------------


def test_mistakes_are_shown_with_their_lines_while_typing(qtbot: QtBot, page: ConnectPage, lab: Path) -> None:
    page.open_file(lab)
    page.tabs.setCurrentWidget(page.file)
    page.file.editor.go_to(15)
    qtbot.keyClick(page.file.editor, Qt.Key.Key_End)
    qtbot.keyClick(page.file.editor, Qt.Key.Key_Return)
    qtbot.keyClicks(page.file.editor, "max_cel_v = 3")
    qtbot.waitUntil(lambda: "line 16: no key 'max_cel_v'" in page.file.verdict.text())
    assert "did you mean max_cell_v" in page.file.verdict.text()
    assert page.file.editor.extraSelections()[0].cursor.blockNumber() == 15
    for _ in range(len("max_cel_v = 3") + 1):
        qtbot.keyClick(page.file.editor, Qt.Key.Key_Backspace)
    qtbot.waitUntil(lambda: page.file.verdict.text() == "✓ This is a valid bench file.")
    assert not page.file.save_button.isEnabled()


def test_a_text_that_is_not_saved_is_not_connected(qtbot: QtBot, page: ConnectPage, lab: Path, jobs: Jobs) -> None:
    page.open_file(lab)
    page.tabs.setCurrentWidget(page.file)
    qtbot.keyClicks(page.file.editor, "# mine")
    qtbot.keyClick(page.file.editor, Qt.Key.Key_Return)
    click(qtbot, page.connect_button)
    assert "changed and not saved" in page.words.text()
    assert page.session.state is BenchState.DISCONNECTED
    click_bench(qtbot, page, "emulator")
    click_bench(qtbot, page, "lab.toml (changed, not saved)")
    assert page.file.text().startswith("# mine\n"), "what was typed is not lost by looking at another bench"
    click(qtbot, page.file.save_button)
    assert lab.read_text().startswith("# mine\n[bench]")
    click(qtbot, page.connect_button)
    assert page.session.state is BenchState.CONNECTING
    assert jobs.asked == [["check", str(lab)]]


def test_a_built_in_bench_is_saved_under_another_name_and_remembered(
    qtbot: QtBot, page: ConnectPage, session: Session, tmp_path: Path
) -> None:
    page.tabs.setCurrentWidget(page.file)
    assert "Save as" in page.file.save_button.toolTip()
    text = page.file.text().replace("max_cell_v = 5.5", "max_cell_v = 4.0")
    page.file.editor.selectAll()
    page.file.editor.insertPlainText(text)
    own = tmp_path / "own.toml"
    page.save_as(own)
    assert load_bench(own).limits.max_cell_v == 4.0
    assert page.bench == str(own)
    values = {name: (value, by) for name, value, by in texts(page.limits.table)}
    assert values["max_cell_v"] == ("4 V, forming 8 V", "own.toml")
    assert values["max_line_v"] == ("4 V", "as max_cell_v")
    assert values["max_pulses_per_cell"] == ("no limit", "nobody")
    again = ConnectPage(session, Actions(session, page))
    qtbot.addWidget(again)
    assert "own.toml" in [again.benches.item(row).text().split("\n")[0] for row in range(again.benches.count())]


def test_wiring_is_typed_into_the_text(qtbot: QtBot, page: ConnectPage) -> None:
    click_bench(qtbot, page, "visa-sim")
    page.tabs.setCurrentWidget(page.file.wiring)
    table = page.file.wiring.table
    assert texts(table)[6] == ["word line 0", "column 1", "1"]

    def type_number(row: int, number: str) -> None:
        qtbot.waitUntil(lambda: not table.findChildren(QLineEdit))  # the last one goes when Qt has time
        table.setCurrentCell(row, 2)
        qtbot.keyClick(table, Qt.Key.Key_F2)
        (editor,) = table.findChildren(QLineEdit)
        editor.selectAll()
        qtbot.keyClicks(editor, number)
        qtbot.keyClick(editor, Qt.Key.Key_Return)

    type_number(6, "9")
    qtbot.waitUntil(lambda: "word_lines = [9, 2, 3, 4]" in page.file.text())
    qtbot.waitUntil(lambda: texts(table)[6] == ["word line 0", "column 9", "9"])
    type_number(0, "x")
    qtbot.waitUntil(lambda: "'x' is no number" in page.file.wiring.words.text())
    assert texts(table)[0][2] == "1"
    type_number(7, "9")
    qtbot.waitUntil(lambda: "two lines on one matrix column: 9" in page.file.verdict.text())


# -- limits and chip ------------------------------------------------------------------------------------------------


def test_the_limits_of_a_real_chip_are_confirmed_by_its_id(
    qtbot: QtBot, page: ConnectPage, lab: Path, jobs: Jobs
) -> None:
    jobs.answers["check"] = {"bench": "hp-lab", "backend": "visa", "chip": "A7", "at_rest": True}
    page.open_file(lab)
    assert "Connect first" in page.limits.asked.text()
    assert not page.limits.confirm_button.isVisible()
    click(qtbot, page.connect_button)
    assert page.session.state is BenchState.READY
    assert "type the id of the chip: A7" in page.limits.asked.text()
    qtbot.keyClicks(page.limits.typed, "A8")
    click(qtbot, page.limits.confirm_button)
    assert not page.session.confirmed
    assert page.words.text() == "the chip on this bench is called 'A7', not 'A8'"
    page.limits.typed.clear()
    qtbot.keyClicks(page.limits.typed, "A7")
    qtbot.keyClick(page.limits.typed, Qt.Key.Key_Return)
    assert page.session.confirmed
    assert "Confirmed for chip A7" in page.limits.asked.text()


def test_other_limits_have_to_be_confirmed_again(qtbot: QtBot, page: ConnectPage, lab: Path, jobs: Jobs) -> None:
    jobs.answers["check"] = {"bench": "hp-lab", "backend": "visa", "chip": "A7", "at_rest": True}
    page.open_file(lab)
    click(qtbot, page.connect_button)
    assert page.session.confirm_limits("A7")
    page.file.editor.put(page.file.text().replace("max_cell_v = 1.5", "max_cell_v = 3.0"))
    page.tabs.setCurrentWidget(page.file)
    click(qtbot, page.file.save_button)
    assert page.session.bench is not None
    assert page.session.bench.limits.max_cell_v == 3.0
    assert not page.session.confirmed
    assert "Not confirmed" in page.limits.asked.text()


def test_the_passport_and_a_run_that_did_not_end(qtbot: QtBot, page: ConnectPage, lab: Path, jobs: Jobs) -> None:
    passport = Passport.open(lab.with_name("A7.chip.passport"), "A7", (4, 4))
    passport.life.pulses[1, 2] = 900
    passport.cell_state[0, 0] = CellState.STUCK
    passport.begin_run("/data/cut-off.nbr")
    passport.release()
    page.open_file(lab)
    shown = {part: f"{mark}: {words}" for mark, part, words in texts(page.chip.lines)}
    assert shown["polarity"] == "·: negative V_row - V_col potentiates"
    assert shown["life used"] == "! look: 900 pulses, at most 900 on one cell of 1000 (90.0%)"
    assert shown["cells"] == "! look: 15 formed, 1 stuck"
    assert "/data/cut-off.nbr did not end" in shown["last run"]
    jobs.answers["settle"] = {"outcome": "not done", "chip": "settled"}
    click(qtbot, page.chip.settle_button)
    assert jobs.asked == [["settle", "/data/cut-off.nbr"]]
    assert "not done" in page.words.text()
    assert (
        not Path(f"{lab.with_name('A7.chip.passport')}.lock").exists()
        or Passport.open(lab.with_name("A7.chip.passport"), "A7", (4, 4)).release() is None
    ), "looking takes no lock"


def test_a_damaged_passport_is_said(page: ConnectPage, lab: Path) -> None:
    lab.with_name("A7.chip.passport").write_bytes(b"nothing")
    page.open_file(lab)
    shown = {part: (mark, words) for mark, part, words in texts(page.chip.lines)}
    assert shown["passport"][0] == "✕ failed"
    assert "is not a chip's passport" in shown["passport"][1]


def test_twice_the_text_size_puts_limits_and_chip_into_a_tab(qtbot: QtBot, page: ConnectPage) -> None:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    titles = [page.tabs.tabText(at) for at in range(page.tabs.count())]
    theme.apply(app, "light", 2.0)
    page.restyle()
    assert [page.tabs.tabText(at) for at in range(page.tabs.count())] == ["Chip", *titles]
    theme.apply(app, "light", 1.0)
    page.restyle()
    assert [page.tabs.tabText(at) for at in range(page.tabs.count())] == titles
    assert page.limits.isVisible()


# -- without a window -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dotted", "line"), [("limits.max_read_v", 15), ("limits.forming", 13), ("chip", 5), ("x", 0)])
def test_the_line_that_says_a_key(dotted: str, line: int) -> None:
    assert bench_text.line_of(REAL, dotted) == line


def test_one_key_is_changed_and_the_rest_stays() -> None:
    text = "[a]\nx = 1   # one\ny = [\n  1,\n  2,\n] # two\n# end of a\n\n[b]\nx = 5\n"
    assert bench_text.with_value(text, "a", "x", "2") == text.replace("x = 1", "x = 2")
    assert bench_text.with_value(text, "a", "y", "[3]") == text.replace("[\n  1,\n  2,\n]", "[3]")
    assert bench_text.with_value(text, "a", "z", "7") == text.replace("] # two\n", "] # two\nz = 7\n")
    assert bench_text.with_value(text, "c.d", "z", "7") == text + "\n[c.d]\nz = 7\n"


def test_who_says_a_limit() -> None:
    rows = bench_text.limit_rows(load_bench("emulator"), "emulator", {"limits.max_read_v": 0.2})
    said = {row.name: row.said_by for row in rows}
    assert said["max_cell_v"] == "built in"
    assert said["max_read_v"] == "a setting of this session"
    assert said["max_victim_v"] == "max_cell_v / 2"
    assert said["max_loop_pulses_per_cell"] == "default"


def test_a_check_that_could_not_be_made_is_one_line() -> None:
    (line,) = check_lines({"status": "fault", "error": "no answer from TCPIP0::10.0.0.9"})
    assert line.text() == "✕ failed fault: no answer from TCPIP0::10.0.0.9"


def test_a_real_chip_must_say_its_polarity(lab: Path) -> None:
    lab.write_text(REAL.replace("potentiating_sign = -1\n", ""))
    levels = {line.part: line.level for line in chip_of(load_bench(lab)).lines}
    assert levels["polarity"] == "bad"
