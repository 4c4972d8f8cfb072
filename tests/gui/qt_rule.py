"""Skip or fail when Qt cannot start: one rule for all tests of the window."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = Path(__file__).resolve().parents[2] / ".ci" / "qt-packages"
PROBE = """
from PySide6 import QtCore, QtOpenGLWidgets, QtWidgets
QtWidgets.QApplication([])
print(QtCore.qVersion())
"""


def start_qt() -> tuple[str, str]:
    """The version of Qt that starts offscreen, and what went wrong; in a process of its own, as it may crash."""
    answer = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    if answer.returncode == 0:
        return answer.stdout.strip(), ""
    said = answer.stderr.strip().splitlines() or [f"no word, exit code {answer.returncode}"]
    return "", said[-1]


def apt_line() -> str:
    return f"sudo apt-get install {PACKAGES.read_text().strip()}"


def skip_or_fail(problem: str) -> NoReturn:
    # Not installed is another matter than not able to start.
    cure = "pip install 'neurobench-hil[gui]'" if "No module named 'PySide6'" in problem else apt_line()
    if os.environ.get("NEUROBENCH_REQUIRE_QT") == "1":
        pytest.fail(f"NEUROBENCH_REQUIRE_QT=1 and Qt cannot start: {problem}; run: {cure}")
    pytest.skip(f"Qt cannot start: {problem}; run: {cure}")
