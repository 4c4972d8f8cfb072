"""The program `neurobench gui`: one process, one window, one session."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QApplication

from neurobench.system import on_stop_signal

from . import theme
from .frame.preferences import Preferences

if TYPE_CHECKING:
    from .frame.window import MainWindow

SWITCH_S = 0.0005  # of one thread before another that waits for Python is let in; the 5 ms of old are felt
SIGNALS_MS = 50  # Python hears signals only when it runs: this often it does


@dataclass(frozen=True)
class Asked:
    """How the window was called: a run to show, a bench to take, and looks for this once (None: as kept)."""

    run: Path | None = None
    bench: str = "emulator"
    theme: str | None = None
    scale: float | None = None
    folder: Path | None = None


class _Signals:
    """What the system asks of the program, heard in Qt's loop."""

    def __init__(self) -> None:
        self.heard: str | None = None

    def hear(self, name: str) -> None:
        """Note it; nothing else may be done inside a signal handler."""
        self.heard = name


def application() -> QApplication:
    """The one QApplication of this process."""
    app = QApplication.instance()
    if isinstance(app, QApplication):
        return app
    # Esc must be heard in dialogs for files, too: those of the desktop keep their keys to themselves.
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_DontUseNativeDialogs)
    made = QApplication(["neurobench"])
    made.setApplicationName("neurobench")
    made.setApplicationDisplayName("neurobench")
    made.setDesktopFileName("neurobench")
    return made


def opened(asked: Asked, preferences: Preferences) -> MainWindow:
    """The window, painted once; its first page is made right after."""
    app = application()
    sys.setswitchinterval(SWITCH_S)
    theme.apply(app, asked.theme or preferences.theme, asked.scale or preferences.scale)
    from .frame.window import MainWindow
    from .session.session import Session

    window = MainWindow(Session(asked.folder), preferences)
    window.show()
    app.processEvents()  # the first picture stands before the pages are made
    taken = window.session.connect_bench(asked.bench)
    window.begin()
    if not taken:
        _show_mistakes(window, Path(asked.bench))
    if asked.run is not None:
        window.open_run(str(asked.run))
    return window


def _show_mistakes(window: MainWindow, bench: Path) -> None:
    """A bench file that cannot be used is shown where it can be mended."""
    from .connect.connect_page import ConnectPage

    page = window.show_mode("connect").page
    if isinstance(page, ConnectPage):
        page.open_file(bench)
        page.tabs.setCurrentWidget(page.file)


def main(asked: Asked) -> int:
    """Open the window, and return when it has closed."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="neurobench: %(levelname)s %(message)s")
    app, signals = application(), _Signals()
    with on_stop_signal(signals.hear):
        window = opened(asked, Preferences())
        timer = QTimer()
        timer.setInterval(SIGNALS_MS)

        def look() -> None:
            if signals.heard is not None:
                name, signals.heard = signals.heard, None
                window.end_by(name)

        timer.timeout.connect(look)
        timer.start()
        code = app.exec()
        timer.stop()
    return code
