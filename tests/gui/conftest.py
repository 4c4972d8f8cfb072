"""What tests of the window may ask for, and what they may not leave behind: windows, threads, child processes.

A window that Python's collector deletes in the middle of an event crashes the next test. So every test ends with its
windows closed and deleted in order, and fails if one of its threads or child processes still lives.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from qt_here import QT
from qt_rule import skip_or_fail, start_qt

if TYPE_CHECKING:
    from neurobench.gui.frame.window import MainWindow
    from PySide6.QtWidgets import QApplication, QWidget

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

PATIENCE_S = 10.0  # how long a thread or a child of a test may take to end after it


# Where Qt is missing, test_qt_available says so, by the rule; the others cannot even be imported.
collect_ignore = (
    [] if QT else [file.name for file in Path(__file__).parent.glob("test_*.py") if file.name != "test_qt_available.py"]
)


@pytest.fixture(scope="session")
def qt_probe() -> tuple[str, str]:
    return start_qt()


@pytest.fixture
def qt(qt_probe: tuple[str, str]) -> str:
    """The version of a Qt that starts offscreen; otherwise the test is skipped or, where Qt is required, fails."""
    version, problem = qt_probe
    if problem:
        skip_or_fail(problem)
    return version


@pytest.fixture(scope="session")
def qapp_args(qt_probe: tuple[str, str]) -> list[str]:
    """Asked for by pytest-qt before it makes the QApplication, which would end this process where Qt cannot start."""
    if qt_probe[1]:
        skip_or_fail(qt_probe[1])
    return ["neurobench"]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings and layouts of each test are its own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("NEUROBENCH_HOME", str(home))
    return home


# ---------------------------------------------------------------------------------------------- what is left behind


def _children() -> dict[int, psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return {child.pid: child for child in found if _counts(child)}


def _counts(child: psutil.Process) -> bool:
    try:
        return child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline())
    except psutil.Error:
        return False


def _close_windows() -> None:
    """Close and delete every window in order, while the loop still runs.

    Other widgets without a parent are left alone: pyqtgraph keeps menus so, which go with their plots.
    """
    from PySide6.QtCore import QCoreApplication, QEvent
    from PySide6.QtWidgets import QApplication, QDialog, QMainWindow
    from shiboken6 import isValid

    if QApplication.instance() is None:
        return
    for window in QApplication.topLevelWidgets():
        if isValid(window) and window.parent() is None and isinstance(window, QMainWindow | QDialog):
            session = getattr(window, "session", None)
            if session is not None:
                session.shutdown()
            window.hide()
            _close_plots(window)
            window.deleteLater()
    for _ in range(3):
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QApplication.processEvents()


def _close_plots(window: QWidget) -> None:
    """pyqtgraph's items call Python while they are deleted: they go first, while all of them are still there."""
    if "pyqtgraph" not in sys.modules:
        return
    import pyqtgraph as pg
    from shiboken6 import isValid

    for plot in window.findChildren(pg.GraphicsView):
        if isValid(plot):
            plot.close()


def _wait(left: Callable[[], list[str]]) -> list[str]:
    end = time.monotonic() + PATIENCE_S
    while left() and time.monotonic() < end:
        if QT:
            from PySide6.QtWidgets import QApplication

            QApplication.processEvents()
        time.sleep(0.02)
    return left()


@pytest.fixture(scope="module", autouse=True)
def only_what_is_new() -> None:
    """The collection of garbage after a test goes through what its file has made, not what all before it have left."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left(own_home: Path) -> Iterator[None]:
    """Fails a test whose threads or child processes outlive it, and ends what it left."""
    threads, children = {thread.ident for thread in threading.enumerate()}, set(_children())

    def left() -> list[str]:
        alive = [f"thread {one.name}" for one in threading.enumerate()
                 if one.ident not in threads and not one.name.startswith("reaper-")]  # fmt: skip
        return alive + [f"process {pid}: {_line(one)}" for pid, one in _children().items() if pid not in children]

    gc.disable()  # or it may take a window apart, item by item, while its events are still on their way
    yield
    if QT:
        _close_windows()
    gc.enable()
    gc.collect()
    found = _wait(left)
    for pid, one in _children().items():
        if pid not in children:
            one.kill()
    assert not found, f"the test left behind: {found}"


def _line(child: psutil.Process) -> str:
    try:
        return " ".join(child.cmdline())[:200]
    except psutil.Error:
        return "gone"


# ---------------------------------------------------------------------------------------------- windows


@pytest.fixture
def window_app(qt: str, qapp: QApplication) -> QApplication:
    """The application in the dark theme at its smallest scale, as most tests expect it."""
    from neurobench.gui import theme

    theme.apply(qapp, "dark", 1.0)
    return qapp


@pytest.fixture
def window(window_app: QApplication, qtbot: Any, tmp_path: Path) -> Iterator[MainWindow]:
    """The whole window at 1280 x 720 with the emulator connected; what goes on at the end of the test is aborted."""
    from neurobench.gui.frame.preferences import Preferences
    from neurobench.gui.frame.window import MainWindow
    from neurobench.gui.session.session import Session
    from neurobench.gui.session.states import LIVE

    made = MainWindow(Session(tmp_path / "runs"), Preferences(tmp_path / "window.ini"))
    made.resize(1280, 720)
    made.show()
    qtbot.waitExposed(made)
    # without a window manager nobody else gives it the keys
    qtbot.waitUntil(lambda: made.activateWindow() or made.isActiveWindow(), timeout=20_000)
    made.session.connect_bench("emulator")
    made.begin()
    yield made
    made.session.close_all(lambda: None)
    qtbot.waitUntil(lambda: made.session.state not in LIVE, timeout=20_000)
    made.close()
