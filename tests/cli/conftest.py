"""The command line as a function: arguments in, exit code and what was printed out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from neurobench import cli


class Ended(NamedTuple):
    """Exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The JSON object on stdout: exactly one, on one line, and without NaN."""
        assert self.out.count("\n") == 1, self.out
        assert self.out.endswith("\n"), self.out
        found: dict[str, Any] = json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        return found


@pytest.fixture
def neurobench(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ended]:
    """Run a command line inside this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        code = cli.invoke(list(arguments))
        return Ended(code, *capfd.readouterr())

    return run
