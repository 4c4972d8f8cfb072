"""Proof (d): an abort, and a dying engine, while a read never returns. The outputs go off without the runner."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import RemoteChip, Toy, remote_chip

from neurobench.bench.passport import Passport
from neurobench.errors import InUse, Refused, ResumeRefused, UnknownName
from neurobench.runs.engine import Engine, Spec, attach, start
from neurobench.runs.runfile import RunFile
from neurobench.system import pid_alive

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteChip]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    with remote_chip(tmp_path / "chip") as remote:
        yield remote


def spec(chip: RemoteChip, path: Path, toy: Toy, **more: Any) -> Spec:
    return Spec(
        path=str(path), protocol="fakes:Toy", parameters=toy.model_dump(), bench=chip.config(), seed=1,
        opener="fakes:open_remote", **more,
    )  # fmt: skip


def wait_for(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
    return found


def rests_after(chip: RemoteChip, moment: float) -> list[float]:
    return [t for op, _, t in chip.log() if op == "rest" and t >= moment]


def hanging_in_a_read(chip: RemoteChip, path: Path, **more: Any) -> Engine:
    chip.tell("hang", True)
    engine = start(spec(chip, path, Toy(epochs=3), **more))
    wait_for(lambda: any(op == "sense" for op, _, _ in chip.log()))
    return engine


def test_engine_runs_to_its_end_and_leaves_one_file(chip: RemoteChip, tmp_path: Path) -> None:
    engine = start(spec(chip, tmp_path / "a.nbr", Toy(epochs=3)))
    assert engine.wait(20)
    with RunFile.open(tmp_path / "a.nbr") as run_file:
        assert run_file.status == "finished"
        fired = [row.seq for row in run_file.entries() if row.kind == "apply"]
    assert [seq for seq, _ in chip.ledger()] == fired
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nbr", "chip"]
    assert not engine.abort(), "an engine that has ended takes no command"
    with pytest.raises(UnknownName):
        attach(tmp_path / "a.nbr")


def test_abort_cuts_the_outputs_within_100_ms_though_a_read_never_returns(chip: RemoteChip, tmp_path: Path) -> None:
    engine = hanging_in_a_read(chip, tmp_path / "a.nbr")
    asked = time.monotonic()
    assert attach(tmp_path / "a.nbr").abort()
    first = wait_for(lambda: rests_after(chip, asked))[0]
    assert first - asked < 0.1, f"outputs off after {first - asked:.3f} s"
    assert engine.wait(20), "the engine must end, though its runner is stuck"
    with RunFile.open(tmp_path / "a.nbr") as run_file:
        assert run_file.status == "aborted"
        assert run_file.value("stuck") is True
        assert [row.seq for row in run_file.entries() if row.kind == "apply"] == [seq for seq, _ in chip.ledger()]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_aborts(chip: RemoteChip, tmp_path: Path, name: str) -> None:
    engine = hanging_in_a_read(chip, tmp_path / "a.nbr")
    asked = time.monotonic()
    os.kill(engine.pid, getattr(signal, name))
    first = wait_for(lambda: rests_after(chip, asked))[0]
    assert first - asked < 0.1, f"outputs off after {first - asked:.3f} s"
    assert engine.wait(20)
    with RunFile.open(tmp_path / "a.nbr") as run_file:
        assert run_file.status == "aborted"
        assert name in run_file.value("error")


def test_abort_in_time_when_the_runner_answers(chip: RemoteChip, tmp_path: Path) -> None:
    engine = start(spec(chip, tmp_path / "a.nbr", Toy(epochs=3, wait_s=30)))
    wait_for(lambda: any(op == "sense" for op, _, _ in chip.log()))
    asked = time.monotonic()
    assert engine.abort()
    first = wait_for(lambda: rests_after(chip, asked))[0]
    assert first - asked < 0.1
    assert engine.wait(20)
    with RunFile.open(tmp_path / "a.nbr") as run_file:
        assert run_file.status == "aborted"
        assert run_file.value("stuck") is None


def test_dead_engine_is_followed_by_rest(chip: RemoteChip, tmp_path: Path) -> None:
    engine = hanging_in_a_read(chip, tmp_path / "a.nbr")
    died = time.monotonic()
    os.kill(engine.pid, signal.SIGKILL)
    rest = wait_for(lambda: rests_after(chip, died))[0]
    assert rest - died < 5
    wait_for(lambda: not engine._folder.exists())
    with RunFile.open(tmp_path / "a.nbr") as run_file:
        assert run_file.status == "crashed"
        assert run_file.value("watcher")["rested"] is True
        assert [row.seq for row in run_file.entries() if row.kind == "apply"] == [seq for seq, _ in chip.ledger()]


def test_engine_outlives_its_client_and_takes_commands_from_another(chip: RemoteChip, tmp_path: Path) -> None:
    pid = os.getpid()
    engine = start(spec(chip, tmp_path / "a.nbr", Toy(epochs=200, wait_s=0.02)))
    assert os.getpgid(engine.pid) != os.getpgid(pid), "a signal to the client's group must not reach the engine"
    other = attach(tmp_path / "a.nbr")
    del engine
    assert other.pause()
    with RunFile.open(tmp_path / "a.nbr") as run_file:
        wait_for(lambda: run_file.status == "paused")
    assert other.resume()
    assert other.stop()
    assert other.wait(20)
    with RunFile.open(tmp_path / "a.nbr") as run_file:
        assert run_file.status == "not_converged"
        assert run_file.value("stopped") is True


def test_what_makes_a_run_impossible_is_raised_where_it_was_started(chip: RemoteChip, tmp_path: Path) -> None:
    first = start(spec(chip, tmp_path / "a.nbr", Toy(epochs=3, wait_s=30)))
    with pytest.raises(InUse, match=r"a\.nbr"):
        start(spec(chip, tmp_path / "a.nbr", Toy(epochs=3)))
    assert first.abort()
    assert first.wait(20)
    assert not pid_alive(first.pid)
    with pytest.raises(ResumeRefused, match="epochs"):
        start(spec(chip, tmp_path / "a.nbr", Toy(epochs=4), go_on=True))
    assert (tmp_path / "a.nbr").exists()
    again = start(spec(chip, tmp_path / "a.nbr", Toy(epochs=3, wait_s=30), go_on=True))
    assert again.abort()
    assert again.wait(20)
    with RunFile.open(tmp_path / "a.nbr") as run_file:
        assert run_file.value("resumed") == 1


def test_run_that_never_began_leaves_no_file(chip: RemoteChip, tmp_path: Path) -> None:
    passport = Passport.open(tmp_path / "drawer", "fake-1", (4, 4))
    passport.begin_run("elsewhere.nbr")
    passport.save()
    assert passport._lock is not None
    passport._lock.release()
    one = spec(chip, tmp_path / "a.nbr", Toy())
    with pytest.raises(Refused, match=r"elsewhere\.nbr"):
        start(replace(one, bench={**one.bench, "passport": str(tmp_path / "drawer")}))
    assert not (tmp_path / "a.nbr").exists()
    assert not chip.ledger()
