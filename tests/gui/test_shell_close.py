"""The window and a run that goes on: abort in time, closing, signals, a window that is killed, and the next window."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

# tests, also when only this folder is collected
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes import RemoteChip, Toy, remote_chip
from neurobench.gui.frame import closing
from neurobench.gui.frame.preferences import Preferences
from neurobench.gui.frame.window import MainWindow
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import LIVE, BenchState
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QSpinBox

from neurobench.runs.engine import Spec, attach, start
from neurobench.runs.request import Request
from neurobench.runs.runfile import RunFile

if TYPE_CHECKING:
    from neurobench.runs.engine import Engine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

S = BenchState
LEFT = Qt.MouseButton.LeftButton
TESTS = Path(__file__).resolve().parent.parent
LATE_MS = 30_000
LONG = Request("measure-curve", settings={"pulses": 20000, "cycles": 1, "trains": "potentiate", "stuck_after": 100000,
                                          "noise_reads": 2})  # fmt: skip


@pytest.fixture
def plain(window_app: QApplication, qtbot: Any, tmp_path: Path) -> Iterator[MainWindow]:
    """The window without its pages, which this is not about, on the emulator."""
    made = MainWindow(Session(tmp_path / "runs"), Preferences(tmp_path / "window.ini"))
    made.show()
    qtbot.waitExposed(made)
    made.session.connect_bench("emulator")
    yield made
    if made.isVisible():
        made.session.close_all(lambda: None)
        qtbot.waitUntil(lambda: made.session.state not in LIVE, timeout=LATE_MS)
        made.session.outputs = {"on": False, "how": "the test is over"}
        made.close()


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteChip]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    with remote_chip(tmp_path / "chip") as remote:
        yield remote


def until(qtbot: Any, window: MainWindow, *states: BenchState) -> None:
    qtbot.waitUntil(lambda: window.session.state in states, timeout=LATE_MS)


def running(window: MainWindow, qtbot: Any) -> Path:
    assert window.session.start(LONG)
    until(qtbot, window, S.RUNNING)
    qtbot.waitUntil(lambda: window.session.snapshot is not None, timeout=LATE_MS)
    assert window.session.run_path is not None
    return window.session.run_path


def taken_over(window: MainWindow, qtbot: Any, chip: RemoteChip, path: Path, **toy: Any) -> Engine:
    """A run on a chip in another process, to which the window is attached."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = start(Spec(str(path), "fakes:Toy", Toy(epochs=100_000, **toy).model_dump(), chip.config(), 1,
                        opener="fakes:open_remote"))  # fmt: skip
    window.open_run(str(path))
    until(qtbot, window, S.RUNNING)
    return engine


def status(path: Path) -> str:
    with RunFile.open(path) as run:
        return run.status


def watchers(engine: Engine) -> set[int]:
    """The processes that bring the bench to rest if this engine dies."""
    words = {"neurobench.runs.watcher", str(engine._folder)}
    return {one.pid for one in psutil.process_iter(["cmdline"]) if words <= set(one.info["cmdline"] or [])}


def rested_after(chip: RemoteChip, moment: float) -> float | None:
    """Seconds from a moment to the first command that puts the outputs off."""
    return next((at - moment for op, _, at in chip.log() if op == "rest" and at >= moment), None)


# ---------------------------------------------------------------------------------------------- abort


@pytest.mark.parametrize("blocked", [False, True], ids=["a busy engine", "a blocked read"])
def test_from_esc_to_the_command_that_cuts_the_outputs(
    plain: MainWindow, qtbot: Any, chip: RemoteChip, tmp_path: Path, blocked: bool
) -> None:
    engine = taken_over(plain, qtbot, chip, tmp_path / "runs" / "a.nbr")
    if blocked:
        chip.tell("hang", True)
        qtbot.waitUntil(lambda: any(op == "hung" for op, _, _ in chip.log()), timeout=LATE_MS)
    spin = QSpinBox(plain)
    spin.show()
    pressed = time.monotonic()
    qtbot.keyClick(spin, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: rested_after(chip, pressed) is not None, timeout=LATE_MS)
    found = rested_after(chip, pressed)
    assert found is not None
    assert found < 0.1
    assert plain.session.state in {S.ABORTING, S.READY, S.FAULT}
    until(qtbot, plain, S.READY, S.FAULT)
    assert engine.wait(20)
    assert status(engine.path) == "aborted"
    assert "aborted" in plain.messages.text()


def test_the_second_press_ends_the_engine_itself(
    plain: MainWindow, qtbot: Any, chip: RemoteChip, tmp_path: Path
) -> None:
    engine = taken_over(plain, qtbot, chip, tmp_path / "runs" / "a.nbr", wait_s=0.2)
    (first,) = watchers(engine)  # one that is killed is followed by another
    os.kill(first, signal.SIGKILL)
    qtbot.waitUntil(lambda: bool(watchers(engine) - {first}), timeout=LATE_MS)
    os.kill(engine.pid, signal.SIGSTOP)  # it hears nothing any more
    qtbot.keyClick(plain, Qt.Key.Key_Escape)
    assert plain.session.state is S.ABORTING
    pressed = time.monotonic()
    qtbot.keyClick(plain, Qt.Key.Key_Escape)
    assert engine.wait(20)
    qtbot.waitUntil(lambda: rested_after(chip, pressed) is not None, timeout=LATE_MS)
    assert "HARD OFF" in plain.messages.text()
    until(qtbot, plain, S.READY, S.FAULT)


# ---------------------------------------------------------------------------------------------- closing


def test_closing_asks_and_cancel_changes_nothing(plain: MainWindow, qtbot: Any) -> None:
    running(plain, qtbot)
    plain.actions_of.by_name("quit").trigger()
    assert plain.isVisible()
    panel = plain.closing
    assert panel.isVisible()
    assert (panel.keep.isVisible(), panel.end.isVisible(), panel.force.isVisible()) == (True, True, False)
    qtbot.mouseClick(panel.cancel, LEFT)
    assert not panel.isVisible()
    assert plain.session.state is S.RUNNING
    plain.close()
    plain.session.abort()  # it ends while the question stands
    until(qtbot, plain, S.READY)
    assert panel.isVisible()
    assert "Nothing goes on any more" in panel.words.text()
    assert (panel.keep.isVisible(), panel.end.text()) == (False, "Close")
    qtbot.mouseClick(panel.end, LEFT)
    qtbot.waitUntil(lambda: not plain.isVisible(), timeout=LATE_MS)


def test_abort_and_close_waits_for_the_outputs(plain: MainWindow, qtbot: Any) -> None:
    path = running(plain, qtbot)
    plain.close()
    qtbot.mouseClick(plain.closing.end, LEFT)
    assert plain.isVisible(), "not before the outputs are off"
    assert "outputs going off" in plain.closing.words.text()
    qtbot.waitUntil(lambda: not plain.isVisible(), timeout=LATE_MS)
    assert status(path) == "aborted"


def test_keep_running_headless_and_the_next_window_finds_it(plain: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    path = running(plain, qtbot)
    plain.close()
    qtbot.mouseClick(plain.closing.keep, LEFT)
    qtbot.waitUntil(lambda: not plain.isVisible(), timeout=LATE_MS)
    assert attach(path).alive
    again = MainWindow(Session(tmp_path / "runs"), Preferences(tmp_path / "window.ini"))
    again.show()
    again.session.connect_bench("emulator")
    again.find_live()
    until(qtbot, again, S.RUNNING)
    assert again.session.run_path == path
    assert "attached" in again.messages.text()
    qtbot.keyClick(again, Qt.Key.Key_Escape)
    until(qtbot, again, S.READY)
    assert status(path) == "aborted"
    again.close()


def test_force_is_offered_when_nobody_verifies_and_is_logged(
    plain: MainWindow, qtbot: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(closing, "PATIENCE_S", 0.2)
    running(plain, qtbot)
    plain.close()
    monkeypatch.setattr(plain.session, "close_all", lambda then: None)  # an engine that does not answer
    qtbot.mouseClick(plain.closing.end, LEFT)
    qtbot.waitUntil(plain.closing.force.isVisible, timeout=LATE_MS)
    with caplog.at_level(logging.ERROR, logger="neurobench.window"):
        qtbot.mouseClick(plain.closing.force, LEFT)
    assert "closed by force" in caplog.text
    qtbot.waitUntil(lambda: not plain.isVisible(), timeout=LATE_MS)
    path = plain.session.run_path
    assert path is not None
    qtbot.waitUntil(lambda: status(path) != "running", timeout=LATE_MS)


def test_a_sweep_ends_with_the_window_so_it_asks(plain: MainWindow, qtbot: Any) -> None:
    plain.session.job(["sweep", "--help"], lambda _: None, lambda _: None)
    plain.close()
    assert plain.isVisible()
    assert "sweep" in plain.closing.words.text()
    assert not plain.closing.keep.isVisible()
    qtbot.mouseClick(plain.closing.end, LEFT)
    qtbot.waitUntil(lambda: not plain.isVisible(), timeout=LATE_MS)


def test_with_nothing_going_on_it_closes_at_once(plain: MainWindow) -> None:
    plain.close()
    assert not plain.isVisible()


# ---------------------------------------------------------------------------------------------- signals, sudden death

PROGRAM = """
import sys
from pathlib import Path
from PySide6.QtCore import QTimer
from neurobench.gui import app
from neurobench.gui.frame.preferences import Preferences
from neurobench.runs.request import Request

kept = Preferences()
kept.on_death = sys.argv[3]
kept.save()
opened = app.opened

def opened_and_started(asked, preferences):
    window = opened(asked, preferences)
    asked_for = Request("measure-curve", bench=sys.argv[2], settings=dict(pulses=20000, cycles=1, trains="potentiate",
                        stuck_after=100000, noise_reads=2))
    timer = QTimer(window)

    def look():
        state = window.session.state.value
        if state == "ready" and window.session.run_path is None:
            window.session.start(asked_for)
        if state == "running" and window.session.snapshot is not None:
            timer.stop()
            print("running", window.session.run_path, flush=True)

    timer.timeout.connect(look)
    timer.start(50)
    return window

app.opened = opened_and_started
sys.exit(app.main(app.Asked(bench=sys.argv[2], folder=Path(sys.argv[1]))))
"""


@contextlib.contextmanager
def program(folder: Path, bench: str, on_death: str = "suggested") -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The whole program in a process of its own, in which a long run goes on, and the file of that run."""
    words = [sys.executable, "-c", PROGRAM, str(folder), bench, on_death]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as window:
        try:
            assert window.stdout is not None
            said = window.stdout.readline().split()
            assert said[:1] == ["running"], said
            yield window, Path(said[1])
        finally:
            window.kill()


def wait_for_status(path: Path, *wanted: str) -> str:
    end = time.monotonic() + 30
    while (found := status(path)) not in wanted:
        assert time.monotonic() < end, f"{found}, never {wanted}"
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(
    ("bench", "number"),
    [
        pytest.param("emulator", signal.SIGTERM, marks=pytest.mark.slow),
        ("emulator", signal.SIGINT),
        ("visa-sim", signal.SIGTERM),
    ],
)
def test_a_signal_aborts_verifies_and_closes(qt: str, tmp_path: Path, bench: str, number: signal.Signals) -> None:
    with program(tmp_path / "runs", bench) as (window, path):
        window.send_signal(number)
        assert window.wait(30) == 0
    assert status(path) == "aborted"
    with RunFile.open(path) as run:
        assert run.value("outputs")["on"] is False


@pytest.mark.parametrize(("bench", "on_death"), [("visa-sim", "abort")])
def test_a_window_that_is_killed_takes_its_run_to_a_safe_end(
    qt: str, tmp_path: Path, bench: str, on_death: str
) -> None:
    with program(tmp_path / "runs", bench, on_death) as (window, path):
        window.kill()
    wait_for_status(path, "aborted")
    with RunFile.open(path) as run:
        assert run.value("outputs")["on"] is False


@pytest.mark.parametrize("bench", ["emulator"])
def test_a_window_that_is_killed_leaves_the_run_to_itself_if_that_was_chosen(
    qt: str, tmp_path: Path, bench: str
) -> None:
    with program(tmp_path / "runs", bench, "keep") as (window, path):
        window.kill()
    engine = attach(path)
    with RunFile.open(path) as run:
        before = run.value("status"), sum(1 for _ in run.entries())
    end = time.monotonic() + 20
    while True:
        with RunFile.open(path) as run:
            if sum(1 for _ in run.entries()) > before[1]:
                break
        assert time.monotonic() < end, "it stands still"
        time.sleep(0.05)
    assert engine.alive
    assert engine.abort()
    assert engine.wait(20)
    assert status(path) == "aborted"
