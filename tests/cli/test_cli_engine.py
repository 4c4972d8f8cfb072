"""What is no emulator runs in the engine; and a pulse under way is settled by asking, without volts."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeCrossbar, guarded, lossy_without, perfect

from neurobench import cli
from neurobench.bench.steps import Apply
from neurobench.bench.stimulus import Pulse, PulseBatch
from neurobench.runs import launch
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import RunFile, RunWriter, Settled

Command = Callable[..., Any]


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the emulator for a real bench: the engine, its run file and its watcher serve it."""
    monkeypatch.setattr(launch, "IN_PROCESS", ())


def test_the_engine_gives_what_this_process_gives(neurobench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    here = neurobench("run", "manhattan", "--seed", "3", "--json")
    monkeypatch.setattr(launch, "IN_PROCESS", ())
    engine = neurobench("run", "manhattan", "--seed", "3", "--json")
    assert engine.code == here.code == cli.OK
    assert engine.data["result"] == here.data["result"]
    assert engine.data["protocol"] == "manhattan"
    assert "--seed 3" in neurobench("show", engine.data["run_id"], "--json").data["command"]


@pytest.mark.usefixtures("real")
def test_what_the_engine_refuses_is_said_here(neurobench: Command) -> None:
    before = neurobench("run", "manhattan", "--bench-set", "chip.rows=2", "--json")
    assert before.code == cli.REFUSED
    assert "an array of 4 x 4" in before.data["error"]
    inside = neurobench("run", "manhattan", "--bench-set", "limits.max_cell_v=1.5", "--json")
    assert (inside.code, inside.data["status"]) == (cli.REFUSED, "fault")
    assert "max_cell_v" in inside.data["error"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.usefixtures("real")
def test_ctrl_c_reaches_the_engine(neurobench: Command, tmp_path: Path) -> None:
    def interrupt() -> None:
        while not list(tmp_path.glob("runs/*.nbr.control")):
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    ended = neurobench("run", "manhattan", "--set", "preset=seed", "--set", "max_updates=100000", "--json")
    assert (ended.code, ended.data["status"]) == (cli.INTERRUPTED, "aborted")
    assert ended.data["pulses"] > 0
    assert not list(tmp_path.glob("runs/*.control")), "the engine has gone"


# ------------------------------------------------------------------------------------------------- settling

STEP = Apply(PulseBatch(np.eye(4, dtype=np.int8), Pulse(1.0, 1e-3)))


@pytest.fixture
def cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A run file that ends with an open intent, and the bench that it was left on."""

    def leave(crossbar: FakeCrossbar, *, fired: bool) -> Path:
        guard = guarded(crossbar)
        witness = guard.stage(0, STEP.stimulus)
        path = tmp_path / "runs" / "left.nbr"
        path.parent.mkdir()
        with RunWriter.create(path, launch.manifest(prepare(request("manhattan")))) as writer:
            writer.intent(0, STEP, witness)
        if fired:
            guard.fire(0)
        monkeypatch.setattr(launch, "open_bench", lambda config, seed, profile: guard)
        return path

    return leave


def test_a_pulse_that_was_fired(neurobench: Command, cut_off: Callable[..., Path]) -> None:
    path = cut_off(perfect(), fired=True)
    ended = neurobench("settle", "left", "--json")
    assert (ended.code, ended.data["outcome"], ended.data["pulses"]) == (cli.OK, "done", 4)
    with RunFile.open(path) as run:
        assert [row.settled for row in run.entries()] == [Settled.DONE]
    assert neurobench("settle", "left", "--json").data["outcome"] == "nothing open"


def test_a_pulse_that_was_not(neurobench: Command, cut_off: Callable[..., Path]) -> None:
    path = cut_off(perfect(), fired=False)
    assert neurobench("settle", "left", "--json").data["outcome"] == "not done"
    with RunFile.open(path) as run:
        assert [row.settled for row in run.entries()] == [Settled.OPEN]


def test_a_pulse_in_doubt(neurobench: Command, cut_off: Callable[..., Path]) -> None:
    path = cut_off(lossy_without(share=0.0), fired=True)
    ended = neurobench("settle", "left", "--json")
    assert (ended.code, ended.data["outcome"]) == (cli.FAULT, "unknown")
    assert "counts nothing" in ended.data["why"]
    with RunFile.open(path) as run:
        assert [row.settled for row in run.entries()] == [Settled.DOUBT]
        assert run.value("doubt")["seq"] == 0
