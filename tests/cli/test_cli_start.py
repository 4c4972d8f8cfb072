"""Starting is light: help imports nothing numerical, and a foreign package of our name is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

import neurobench
from neurobench import cli

HEAVY = ("numpy", "scipy", "numba", "PySide6", "pyqtgraph", "matplotlib", "msgpack", "h5py", "xarray")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["nonsense"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from neurobench.cli import invoke\n"
        f"invoke({arguments!r})\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke([]) == cli.USAGE
    printed = capsys.readouterr()
    assert "import-curve" in printed.out + printed.err


def test_a_foreign_package_of_our_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(neurobench, "__project__", "another")
    assert cli.invoke(["list", "devices"]) == cli.USAGE
    assert "pip uninstall neurobench" in capsys.readouterr().err
