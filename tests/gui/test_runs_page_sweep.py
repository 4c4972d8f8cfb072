"""The sweep panel: a small sweep is started, followed as it grows, cancelled, gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.gui.runs.runs_table import Entry, look_of, movable, read_entry
from neurobench.gui.runs.sweep_panel import SweepPanel, grown, look, newest_of, words_of
from neurobench.gui.session.session import Session
from PySide6.QtCore import Qt

from neurobench.learning.convergence import wilson
from neurobench.runs import library, sweep
from neurobench.runs.request import Request

LEFT = Qt.MouseButton.LeftButton
ASKED = Request("manhattan", settings={"max_updates": 2}, bench_settings={"chip.offsets": "seed-lognormal"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of twelve chips."""
    path = sweep.create(ASKED, range(12), tmp_path_factory.mktemp("sweeps"))
    sweep.run(path, workers=1)
    return path


@pytest.fixture
def panel(window_app: Any, qtbot: Any, tmp_path: Path) -> Iterator[SweepPanel]:
    session = Session(tmp_path / "runs")
    session.runs_folder.mkdir()
    one = SweepPanel(session)
    one.session = session  # type: ignore[attr-defined]  # ended with its window
    qtbot.addWidget(one)
    one.resize(480, 620)
    one.show()
    yield one
    one.close_down()
    session.shutdown()


def test_the_command_is_that_of_the_request(tmp_path: Path) -> None:
    assert words_of(ASKED, "0:8", tmp_path) == [
        "sweep", "manhattan", "--bench", "emulator", "--set", "max_updates=2", "--bench-set",
        "chip.offsets=seed-lognormal", "--seeds", "0:8", "--out", str(tmp_path),
    ]  # fmt: skip


def test_the_rate_grows_with_its_interval(made: Path) -> None:
    found = sweep.load(made)
    curve = grown(found)
    assert curve.chips.tolist() == list(range(1, 13))
    reached = np.cumsum([chip.reached for chip in found.chips])
    assert np.allclose(curve.rate, reached / np.arange(1, 13))
    for n, k in enumerate(reached, start=1):
        assert (curve.low[n - 1], curve.high[n - 1]) == wilson(int(k), n)
    assert grown(sweep.Sweep(made, found.head, ())).chips.size == 0


def test_a_file_of_another_request_is_not_taken_for_ours(made: Path) -> None:
    assert newest_of(made.parent, ASKED, frozenset()) == made
    assert newest_of(made.parent, Request("manhattan"), frozenset()) is None
    assert newest_of(made.parent, ASKED, frozenset([made])) is None


def test_a_sweep_is_shown_and_one_chip_is_run_again(made: Path, panel: SweepPanel, qtbot: Any) -> None:
    path = panel._session.runs_folder / made.name
    shutil.copy(made, path)
    panel.show_file(path)
    qtbot.waitUntil(lambda: panel.chips.rowCount() == 12)
    said = look(path).summary
    assert f"{said['converged']} of 12 reached the goal" in panel.rate.text()
    assert "Wilson" in panel.rate.text()
    assert not panel.run_seed.isEnabled()
    place = panel.chips.visualItemRect(panel.chips.item(0, 0)).center()
    qtbot.mouseClick(panel.chips.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, place)
    with qtbot.waitSignal(panel.run_asked) as heard:
        qtbot.mouseClick(panel.run_seed, LEFT)
    assert heard.args[0].seed == 0
    assert heard.args[0].settings == ASKED.settings


def test_a_sweep_that_somebody_runs_is_live_and_one_with_chips_to_go_is_marked(made: Path, tmp_path: Path) -> None:
    path = tmp_path / made.name
    shutil.copy(made, path)
    reached = sum(chip.reached for chip in sweep.load(path).chips)
    assert look_of(read_entry(path)) == ("▦", f"{reached} of 12", "text")
    with sweep._alone(path):
        assert look_of(read_entry(path))[0] == "►"
        assert movable(Entry(library.row(path))) == "it is going on", "also where the table does not know it yet"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert look_of(read_entry(path))[::2] == ("◐", "warn")


def test_a_sweep_is_started_and_followed_to_its_end(panel: SweepPanel, qtbot: Any) -> None:
    assert not panel.start.isEnabled()
    panel.set_request(ASKED, "as the test says")
    panel.seeds.setText("0:6")
    qtbot.mouseClick(panel.start, LEFT)
    assert panel.cancel.isEnabled()
    assert not panel.start.isEnabled()
    qtbot.waitUntil(lambda: panel.chips.rowCount() == 6 and not panel.running, timeout=40_000)
    assert (panel.bar.value(), panel.bar.maximum()) == (6, 6)
    assert not panel.go_on.isEnabled()
    assert len(list(panel._session.runs_folder.glob(f"*{sweep.SUFFIX}"))) == 1


def test_a_cancelled_sweep_keeps_what_has_run_and_goes_on(panel: SweepPanel, qtbot: Any) -> None:
    panel.set_request(ASKED, "as the test says")
    panel.seeds.setText("0:20000")
    qtbot.mouseClick(panel.start, LEFT)
    qtbot.waitUntil(lambda: panel.chips.rowCount() > 0, timeout=40_000)
    qtbot.mouseClick(panel.cancel, LEFT)
    qtbot.waitUntil(lambda: not panel.running and panel.go_on.isEnabled(), timeout=20_000)
    path = next(panel._session.runs_folder.glob(f"*{sweep.SUFFIX}"))
    kept = len(sweep.load(path).chips)
    assert 0 < kept < 20000
    assert "kept" in panel.words.text()


def test_wrong_seeds_say_why(panel: SweepPanel, qtbot: Any) -> None:
    panel.set_request(ASKED, "as the test says")
    panel.seeds.setText("ten")
    qtbot.mouseClick(panel.start, LEFT)
    assert "first:end" in panel.words.text()
    assert not panel.running
