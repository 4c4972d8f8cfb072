"""An abort in the seconds in which an engine is only just being started: nothing is fired, and nothing is left."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

# tests, also when only this folder is collected
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes import Toy, remote_chip

from neurobench.errors import Aborted
from neurobench.runs.engine import Engine, Spec, start
from neurobench.system import pid_alive

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the chip listens on a socket of POSIX")
TESTS = Path(__file__).resolve().parent.parent


def test_an_engine_that_does_not_hear_yet_is_aborted_before_it_fires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    made: list[Engine] = []

    def at_once(engine: Engine) -> None:
        assert not engine.abort(), "it does not even listen"
        made.append(engine)
        threading.Thread(target=engine.abort_soon).start()

    path = tmp_path / "a.nbr"
    with remote_chip(tmp_path / "chip") as chip:
        spec = Spec(str(path), "fakes:Toy", Toy(epochs=100).model_dump(), chip.config(), 1, opener="fakes:open_remote")
        with pytest.raises(Aborted, match="nothing was fired"):
            start(spec, at_once)
        assert made[0].wait(20)
        assert not any(op == "fire" for op, _, _ in chip.log())
    assert not path.exists()
    assert not pid_alive(made[0].pid)
