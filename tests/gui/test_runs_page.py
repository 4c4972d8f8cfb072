"""The Runs page, used as people use it: with mouse and keys, on real run files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.gui.frame.preferences import Preferences
from neurobench.gui.frame.window import MainWindow
from neurobench.gui.parts.working import Working
from neurobench.gui.runs import runs_page
from neurobench.gui.runs.runs_details import diff_rows, short_ids, told
from neurobench.gui.runs.runs_notes import Notes
from neurobench.gui.runs.runs_overlay import MEDIAN, curves_of
from neurobench.gui.runs.runs_page import RunsPage
from neurobench.gui.runs.runs_table import COLUMNS, NOTE, RUN, SEED, STATUS, TAGS, Entry, RunsModel, RunsProxy, look_of
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState
from PySide6.QtCore import QModelIndex, QObject, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLineEdit

from neurobench.bench.config import load_bench
from neurobench.runs import figures, launch, library
from neurobench.runs.request import Request, prepare
from neurobench.runs.runfile import RunFile, RunWriter

ASKED = (
    Request("manhattan", seed=1, settings={"task": "letters", "max_updates": 4}),
    Request("manhattan", seed=2, settings={"task": "letters", "max_updates": 6}),
    Request("iv-sweep", seed=0),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, a crashed one, and a file that is none."""
    folder = tmp_path_factory.mktemp("runs")
    for asked in ASKED:
        launch.launch(prepare(asked), folder)
    crashed = folder / "20251122-120000-manhattan-s9.nbr"
    RunWriter.create(crashed, launch.manifest(prepare(ASKED[0]))).close()
    (folder / "20251122-130000-manhattan-s8.nbr").write_bytes(b"this is no run file")
    return folder


class Home:
    """The window with the Runs page shown, on a folder of its own, and no bench connected."""

    def __init__(self, folder: Path, keep: Path) -> None:
        self.session = Session(folder)
        self.window = MainWindow(self.session, Preferences(keep))
        self.window.resize(1280, 720)
        self.said: list[tuple[str, str]] = []
        self.session.said.connect(self.hear)
        self.actions_of = self.window.actions_of
        self.page: RunsPage = self.window.show_mode("runs").page

    def hear(self, level: str, words: str) -> None:
        self.said.append((level, words))


@pytest.fixture
def home(made: Path, tmp_path: Path, window_app: Any, qtbot: Any) -> Iterator[Home]:
    folder = tmp_path / "runs"
    shutil.copytree(made, folder)
    one = Home(folder, tmp_path / "window.ini")
    one.window.show()
    qtbot.waitUntil(lambda: one.page.model.rowCount() == len(ASKED) + 2, timeout=10_000)
    yield one
    one.session.said.disconnect(one.hear)
    one.window.close()


def _click(qtbot: Any, page: RunsPage, run: str, column: int = RUN, keys: Any = Qt.KeyboardModifier.NoModifier) -> None:
    table = page.table
    row = next(n for n in range(page.proxy.rowCount()) if page.proxy.entry(page.proxy.index(n, 0)).row.run_id == run)
    place = table.visualRect(page.proxy.index(row, column)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, keys, place)


def _runs(page: RunsPage, protocol: str = "manhattan") -> list[str]:
    entries = [page.model.entry(n) for n in range(page.model.rowCount())]
    return [e.row.run_id for e in entries if e.row.protocol == protocol and e.row.updates is not None]


def _shown(page: RunsPage, column: int) -> list[str]:
    return [str(page.proxy.index(n, column).data()) for n in range(page.proxy.rowCount())]


def test_a_damaged_file_is_listed_and_hides_nothing(home: Home, qtbot: Any) -> None:
    page = home.page
    assert sorted(_shown(page, STATUS)) == sorted(
        ["◐ not converged", "◐ not converged", "✓ finished", "▲ crashed", "▲ damaged"]
    )
    _click(qtbot, page, "20251122-130000-manhattan-s8")
    qtbot.waitUntil(lambda: "run file" in page.details.text.toPlainText())
    assert not page._buttons["open"].isEnabled()
    assert "damaged" in page._buttons["open"].toolTip()


def test_the_filter_box_chooses_rows_and_says_what_it_does_not_know(home: Home, qtbot: Any) -> None:
    page = home.page
    qtbot.keyClicks(page.filter, "protocol:manhattan seed:2")
    assert _shown(page, RUN) == [run for run in _runs(page) if run.endswith("s2")]
    assert page.count.text() == "1 of 5 runs"
    page.filter.clear()
    qtbot.keyClicks(page.filter, "colour:red")
    assert "no key 'colour'" in page.problem.text()
    assert page.problem.isVisible()
    page.filter.clear()
    assert not page.problem.isVisible()
    qtbot.keyClicks(page.filter, "nothing-like-this")
    assert page.empty.isVisible()
    assert "No run fits" in page.empty.text()


def test_details_say_what_the_run_did(home: Home, qtbot: Any) -> None:
    page = home.page
    run = _runs(page)[0]
    _click(qtbot, page, run)
    qtbot.waitUntil(lambda: "max updates" in page.details.text.toPlainText())
    text = page.details.text.toPlainText()
    assert str(home.session.runs_folder / f"{run}.nbr") in text
    assert "SIMULATED" in page.details.state.text()


def test_tags_are_written_in_the_table_and_survive(home: Home, qtbot: Any) -> None:
    page = home.page
    run = _runs(page)[0]
    before = (home.session.runs_folder / f"{run}.nbr").read_bytes()
    _click(qtbot, page, run)
    page.table.setFocus()
    qtbot.keyClick(page.table, Qt.Key.Key_F2)
    editor = page.table.findChild(QLineEdit)
    assert editor is not None
    qtbot.keyClicks(editor, "Good paper")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: Notes(home.session.runs_folder).of(run).tags == ("good", "paper"))
    assert "good paper" in _shown(page, TAGS)
    page.filter.setText("tag:paper")
    assert _shown(page, RUN) == [run]
    assert (home.session.runs_folder / f"{run}.nbr").read_bytes() == before, "a run file is never written to"


def test_a_note_goes_to_all_chosen_runs(home: Home, qtbot: Any) -> None:
    page, runs = home.page, _runs(home.page)
    _click(qtbot, page, runs[0])
    _click(qtbot, page, runs[1], keys=Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: page.details.title.text() == "2 runs")
    page.details.note.setFocus()
    qtbot.keyClicks(page.details.note, "same wafer")
    qtbot.keyClick(page.details.note, Qt.Key.Key_Return)
    assert [Notes(home.session.runs_folder).of(run).note for run in runs] == ["same wafer"] * 2
    assert _shown(page, NOTE).count("same wafer") == 2


def test_compare_shows_what_differs(home: Home, qtbot: Any) -> None:
    page, runs = home.page, _runs(home.page)
    page.tabs.setCurrentWidget(page.compare)
    _click(qtbot, page, runs[0])
    _click(qtbot, page, runs[1], keys=Qt.KeyboardModifier.ControlModifier)
    table = page.compare.table
    qtbot.waitUntil(lambda: table.columnCount() == 3)
    lines = {table.item(n, 0).text(): n for n in range(table.rowCount())}
    wanted = {"manhattan-s1": "4", "manhattan-s2": "6"}
    row = lines["max_updates"]
    shown = {table.horizontalHeaderItem(c).text(): table.item(row, c).text() for c in (1, 2)}
    assert shown == wanted
    assert {table.horizontalHeaderItem(c).toolTip() for c in (1, 2)} == set(runs), "the whole name"
    assert "task" not in lines, "what is the same in all is left out"


def test_what_was_asked_is_told_once_as_it_was_taken_and_before_what_followed() -> None:
    said = {
        "runs": ["a", "b"], "same": 3,
        "settings": {name: {"a": 1, "b": 2} for name in (
            "protocol.parameters.averages", "protocol.parameters.target", "request.settings.target", "request.seed",
            "seed", "config.chip.rows", "request.bench_settings.chip.rows", "request.bench_settings.chip.id")},
        "results": {"a": {}, "b": {}},
    }  # fmt: skip
    names = [name for name, _, heading in diff_rows(said) if not heading]
    assert names == [
        "config.chip.rows", "protocol.parameters.target", "seed", "request.bench_settings.chip.id",
        "protocol.parameters.averages",
    ]  # fmt: skip
    assert short_ids(["20260101-000000-a-s1", "20260101-000001-a-s2"]) == ["a-s1", "a-s2"]
    assert short_ids(["20260101-000000-a-s1", "20260101-000001-a-s1"])[0].startswith("2026"), "else nobody knows which"
    assert told("beta_per_a", 93800.0) == "9.38e+04 /A", "one over amperes"


def test_the_diff_puts_what_was_asked_first_and_never_takes_seconds_for_siemens() -> None:
    said = {
        "runs": ["a", "b"], "same": 3,
        "settings": {"device.g_min_s": {"a": 1e-9, "b": 2e-9}, "seed": {"a": 1, "b": 2},
                     "limits.max_width_s": {"a": 1e-3, "b": 1.0}, "x.oddity_s": {"a": 1e-3, "b": 2.0}},
        "results": {"a": {"status": "finished"}, "b": {"status": "fault"}},
    }  # fmt: skip
    lines = diff_rows(said)
    assert [name for name, _, heading in lines if not heading] == [
        "seed", "limits.max_width_s", "device.g_min_s", "x.oddity_s", "status",
    ]  # fmt: skip
    texts = {name: values for name, values, _ in lines}
    assert texts["device.g_min_s"] == ["1 nS", "2 nS"]
    assert texts["limits.max_width_s"] == ["1 ms", "1 s"]
    assert texts["x.oddity_s"] == ["0.001", "2"], "what could be either has no unit"
    assert told("energy_j", None) == "-"


def test_the_overlay_draws_the_series_of_the_runs(home: Home, qtbot: Any) -> None:
    page, runs = home.page, _runs(home.page)
    page.tabs.setCurrentWidget(page.overlay)
    _click(qtbot, page, runs[0])
    _click(qtbot, page, runs[1], keys=Qt.KeyboardModifier.ControlModifier)
    item = page.overlay.plot.item
    qtbot.waitUntil(lambda: len(item.listDataItems()) == 2)
    drawn = {curve.name(): curve.getData() for curve in item.listDataItems()}
    for run in runs:
        history = figures.read_history(home.session.runs_folder / f"{run}.nbr")
        at, values = drawn[short_ids([run])[0]]  # as the legend has it
        assert np.array_equal(at, history.error.at)
        assert np.array_equal(values, history.error.values)
    assert page.overlay.mark.text() == "SIMULATED"
    page.overlay.what.setCurrentIndex(page.overlay.what.findData(MEDIAN))
    medians = {curve.name(): curve.getData()[1] for curve in item.listDataItems()}
    grid = figures.read_history(home.session.runs_folder / f"{runs[0]}.nbr").conductance_s.values
    assert np.allclose(medians[short_ids(runs)[0]], np.median(grid.reshape(len(grid), -1), axis=1))


def test_a_run_without_updates_has_no_series_and_says_so(home: Home, qtbot: Any) -> None:
    page = home.page
    page.tabs.setCurrentWidget(page.overlay)
    iv = next(e.row.run_id for e in map(page.model.entry, range(page.model.rowCount())) if e.row.protocol == "iv-sweep")
    _click(qtbot, page, iv)
    qtbot.waitUntil(lambda: "0 of 1 runs drawn" in page.overlay.words.text())
    assert curves_of(home.session.runs_folder / f"{iv}.nbr") == {}


def test_return_opens_the_run_and_shows_the_bench_page(home: Home, qtbot: Any) -> None:
    page, run = home.page, _runs(home.page)[0]
    asked: list[str] = []
    home.actions_of.by_name("mode.bench").triggered.connect(lambda: asked.append("bench"))
    _click(qtbot, page, run)
    qtbot.keyClick(page.table, Qt.Key.Key_Return)
    assert asked == ["bench"]
    assert home.session.run_path == home.session.runs_folder / f"{run}.nbr"


def test_the_command_is_copied_and_edited_settings_are_handed_over(home: Home, qtbot: Any) -> None:
    page = home.page
    run = next(run for run in _runs(page) if run.endswith("s1"))
    _click(qtbot, page, run)
    qtbot.mouseClick(page._buttons["command"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: QGuiApplication.clipboard().text() == ASKED[0].command())
    with qtbot.waitSignal(page.load_asked) as heard:
        qtbot.mouseClick(page._buttons["load"], Qt.MouseButton.LeftButton)
    assert heard.args == [ASKED[0]]


def test_run_again_needs_a_bench_and_the_right_one(home: Home, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page, started = home.page, list[Request]()
    _click(qtbot, page, next(run for run in _runs(page) if run.endswith("s1")))
    assert not page._buttons["again"].isEnabled()
    home.session.connect_bench("emulator")
    qtbot.waitUntil(page._buttons["again"].isEnabled)
    monkeypatch.setattr(home.session, "start", lambda asked: started.append(asked) or True)
    qtbot.mouseClick(page._buttons["again"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: started == [ASKED[0]])


def test_a_run_of_a_real_bench_is_not_started_on_another(home: Home, qtbot: Any, tmp_path: Path) -> None:
    real = tmp_path / "lab.toml"
    real.write_text("[bench]\nbackend='visa'\n[limits]\nmax_cell_v=1\nmax_read_v=0.1\nmax_width_s=1e-3\n")
    home.session.connect_bench("emulator")
    assert load_bench(real).bench.backend == "visa"
    home.page._start(Request("iv-sweep", bench=str(real)))
    qtbot.waitUntil(lambda: home.session.state is BenchState.READY, timeout=20_000)
    assert home.said[-1][0] == "error"
    assert "connect that bench" in home.said[-1][1]


def test_only_a_run_that_was_cut_off_can_go_on(home: Home, qtbot: Any) -> None:
    page = home.page
    _click(qtbot, page, next(run for run in _runs(page) if run.endswith("s1")))
    assert not page._buttons["resume"].isEnabled()
    assert "cut off" in page._buttons["resume"].toolTip()
    _click(qtbot, page, "20251122-120000-manhattan-s9")
    assert "disconnected" in page._buttons["resume"].toolTip()
    home.session.connect_bench("emulator")
    qtbot.waitUntil(page._buttons["resume"].isEnabled)
    assert page._buttons["settle"].isEnabled()
    assert not page._buttons["archive"].isEnabled()


def test_a_run_that_was_stopped_says_so_and_can_go_on(home: Home) -> None:
    path = home.session.runs_folder / "20260101-000000-manhattan-s1.nbr"
    said = launch.manifest(prepare(ASKED[0])) | {"status": "not_converged", "stopped": True}
    with RunWriter.create(path, said) as writer:
        writer.put(status="not_converged", stopped=True)
    home.session.connect_bench("emulator")
    row = library.row(path)
    assert row.stopped
    entry = Entry(replace(row, status="not_converged"))
    assert look_of(entry) == ("■", "stopped", "warn")
    assert not home.page._why_not("resume", [entry])
    assert "stopped can go on" in home.page._why_not("resume", [replace(entry, row=replace(entry.row, stopped=False))])


def test_an_archived_run_is_moved_with_its_figures_and_nothing_is_lost(home: Home, qtbot: Any) -> None:
    page, run = home.page, _runs(home.page)[0]
    folder = home.session.runs_folder
    content = (folder / f"{run}.nbr").read_bytes()
    (folder / run).mkdir()
    (folder / run / "a.png").write_text("x")
    _click(qtbot, page, run)
    qtbot.mouseClick(page._buttons["archive"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: run not in _shown(page, RUN), timeout=8000)
    assert (folder / "archive" / f"{run}.nbr").read_bytes() == content
    assert (folder / "archive" / run / "a.png").exists()


def test_new_runs_appear_by_themselves(home: Home, qtbot: Any) -> None:
    source = home.session.runs_folder / f"{_runs(home.page)[0]}.nbr"
    shutil.copy(source, source.with_name("20991231-000000-manhattan-s1.nbr"))
    qtbot.waitUntil(lambda: "20991231-000000-manhattan-s1" in _shown(home.page, RUN), timeout=8000)


def test_export_writes_beside_the_run(home: Home, qtbot: Any) -> None:
    page, run = home.page, _runs(home.page)[0]
    _click(qtbot, page, run)
    home.actions_of.by_name("export").trigger()
    assert page.working.line.text() == f"exporting {run} as csv ..."
    assert page.working.stop.isVisible()
    assert "goes on" in page._buttons["export"].toolTip(), "one at a time"
    qtbot.waitUntil(lambda: any(words.startswith("exported") for _, words in home.said), timeout=20_000)
    assert list((home.session.runs_folder / run).glob("*.csv")) or list(home.session.runs_folder.glob(f"{run}*/*.csv"))


def test_another_folder_may_be_chosen_for_exports(home: Home, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page, asked = home.page, list[list[str]]()
    monkeypatch.setattr(runs_page, "ask_path", lambda _page, _title, then, **_: then(Path("/elsewhere")))
    monkeypatch.setattr(home.session, "job", lambda words, *_: asked.append(words) or FakeJob())
    _click(qtbot, page, _runs(page)[0])
    actions = {action.text(): action for action in page._buttons["export"].menu().actions()}
    actions["Into another folder ..."].trigger()
    actions["HDF5"].trigger()
    assert asked[0][2:] == ["--format", "hdf5", "--out", "/elsewhere"]


def test_what_was_done_by_hand_is_not_offered_to_be_run_again(home: Home) -> None:
    row = library.Row("x", "run", "hand", "emulator", "finished", None, None, 0, "", True, "/runs/x.nbr")
    for name in ("again", "load", "command"):
        assert "by hand" in home.page._why_not(name, [Entry(row)])
    assert not home.page._why_not("export", [Entry(row)])


def test_a_name_is_no_markup(home: Home) -> None:
    row = library.Row("<b>x</b>", "run", "a", "b", "finished", None, None, 0, "", True, "/runs/x.nbr")
    home.page.details.show_entries([Entry(row)])
    assert home.page.details.title.textFormat() == Qt.TextFormat.PlainText


def test_notes_that_cannot_be_read_are_told_until_they_can(home: Home, qtbot: Any) -> None:
    page, file = home.page, home.session.runs_folder / ".notes.json"
    file.write_text("{broken")
    page.watcher.look()
    qtbot.waitUntil(lambda: "cannot be read" in page.problem.text())
    page.model.write([_runs(page)[0]], note="new")
    page.watcher.look()
    qtbot.waitUntil(lambda: not page.problem.isVisible())
    assert list(file.parent.glob(".notes.json.damaged-*")), "what was there is kept"


class FakeJob(QObject):
    """A child process that never was."""

    gone = Signal()
    running = True
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def test_what_is_worked_on_is_said_and_cancelled_once(window_app: Any, qtbot: Any) -> None:
    working, job = Working(), FakeJob()
    qtbot.addWidget(working)
    working.watch(job, "drawing")  # type: ignore[arg-type]
    assert working.isVisible()
    qtbot.mouseClick(working.stop, Qt.MouseButton.LeftButton)
    assert job.cancelled
    assert not working.stop.isEnabled()
    assert working.line.text() == "Cancelling: drawing ..."
    with qtbot.waitSignal(working.cancelled) as heard:
        job.gone.emit()
    assert heard.args == ["drawing"]
    assert not working.isVisible()
    assert not working.words


def test_a_live_run_is_marked(home: Home, qtbot: Any) -> None:
    path = home.session.runs_folder / "20991231-111111-manhattan-s1.nbr"
    with RunWriter.create(path, launch.manifest(prepare(ASKED[0])) | {"state": "running"}):
        qtbot.waitUntil(lambda: any("►" in text for text in _shown(home.page, STATUS)), timeout=8000)
        assert RunFile.open(path).live
    qtbot.waitUntil(lambda: not any("►" in text for text in _shown(home.page, STATUS)), timeout=8000)


# ---------------------------------------------------------------------------------------------- many


def _many(count: int) -> list[Entry]:
    rows = (
        library.Row(f"20261122-{n:06}-manhattan-s{n}", "run", "manhattan", "emulator", "finished" if n % 3 else "fault",
                    True, n % 50, n, f"2026-11-22T{n % 24:02}:00:00+00:00", True, f"/runs/{n}.nbr")
        for n in range(count)
    )  # fmt: skip
    return [Entry(row) for row in rows]


def test_thousands_of_runs_are_filtered_and_sorted_at_once(window_app: Any, tmp_path: Path) -> None:
    from neurobench.gui.runs.runs_filter import parse

    model = RunsModel(Notes(tmp_path))
    proxy = RunsProxy(model)
    began = time.perf_counter()
    entries = _many(5000)
    for at in range(0, len(entries), 50):
        model.take(entries[at : at + 50])
    proxy.filter_by(parse("status:fault -seed:3"))
    proxy.sort(SEED, Qt.SortOrder.DescendingOrder)
    took = time.perf_counter() - began
    assert proxy.rowCount() == len([n for n in range(5000) if n % 3 == 0]) - 1
    assert proxy.index(0, SEED).data() == "4998"
    assert model.columnCount(QModelIndex()) == len(COLUMNS)
    assert took < 3.0, f"{took:.2f} s for 5000 runs"


def test_the_same_row_again_changes_nothing(window_app: Any, qtbot: Any, tmp_path: Path) -> None:
    model = RunsModel(Notes(tmp_path))
    model.take(_many(3))
    with qtbot.assertNotEmitted(model.dataChanged), qtbot.assertNotEmitted(model.rowsInserted):
        model.take(_many(3))
    model.drop([Path("/runs/1.nbr")])
    assert [model.entry(n).row.seed for n in range(model.rowCount())] == [0, 2]
    assert model.place(Path("/runs/2.nbr")) == 1
