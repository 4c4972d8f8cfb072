"""The door to the window, for the command line: imports Qt only when it is opened, and says what is missing. No Qt."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from neurobench.bench.config import load_bench
from neurobench.errors import UsageError

# What Qt needs of a Debian or Ubuntu that has no desktop: the same as in .ci/qt-packages.
PACKAGES = (
    "libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libfreetype6 libglib2.0-0 libx11-6 "
    "libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-render-util0 libxcb-render0 libxcb-shape0 "
    "libxcb-util1 libxcb-xkb1 libxkbcommon-x11-0"
)
EXTRA = "pip install 'neurobench-hil[gui]'"


def words_of(problem: str) -> str:
    """What to do about an import of Qt that failed."""
    missing = any(f"No module named '{name}" in problem for name in ("PySide6", "pyqtgraph", "shiboken6"))
    return f"Qt cannot start: {problem}; run: {EXTRA if missing else f'sudo apt-get install {PACKAGES}'}"


def no_display() -> bool:
    """Whether this is a Linux without a screen, and nobody has chosen another way to draw."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return sys.platform.startswith("linux") and not any(os.environ.get(name) for name in named)


def main(run: Path | None, bench: str, theme: str | None, scale: float | None, folder: Path) -> int:
    """Open the window and return when it was closed. Raises UsageError where Qt cannot start, or nobody has the bench.

    A bench file with mistakes opens the window: there they can be mended.
    """
    if not Path(bench).is_file():
        load_bench(bench)
    try:
        from . import app
    except ImportError as error:
        raise UsageError(words_of(str(error))) from error
    if no_display():
        raise UsageError("there is no display (DISPLAY and WAYLAND_DISPLAY are not set); everything that the window "
                         "does is also a command: neurobench --help")  # fmt: skip
    return app.main(app.Asked(run, bench, theme, scale, folder))
