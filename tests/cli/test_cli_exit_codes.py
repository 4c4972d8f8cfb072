"""Every ending has its exit code, and with --json one object that says the same."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neurobench import cli, registry
from neurobench.bench.config import load_bench, open_bench
from neurobench.errors import InstrumentError, RunFileError
from neurobench.runs import runfile
from neurobench.runs.runfile import RunFile

Command = Callable[..., Any]

# The published settings miss their goal with this seed; five updates are as good as fifty to see it.
UNLUCKY = ("--set", "preset=seed", "--set", "max_updates=5")


def test_reached(neurobench: Command) -> None:
    ended = neurobench("run", "manhattan", "--json")
    assert (ended.code, ended.data["status"]) == (cli.OK, "finished")
    assert ended.data["error"] is None


def test_not_reached(neurobench: Command) -> None:
    ended = neurobench("run", "manhattan", *UNLUCKY, "--json")
    assert (ended.code, ended.data["status"]) == (cli.NOT_REACHED, "not_converged")
    assert ended.data["result"]["converged"] is False


USAGE = {
    "unknown protocol": (["run", "manhatan"], "did you mean manhattan"),
    "unknown parameter": (["run", "manhattan", "--set", "max_update=3"], "did you mean max_updates"),
    "unknown setting of a kind": (
        ["run", "stdp-window", "--set", "scheme={kind='counted', pulse_plus=3}"],
        "did you mean pulses_plus",
    ),
    "parameters that do not fit together": (
        ["run", "coincidence", "--set", "synchronised=20"],
        "protocol coincidence: synchronised = 20 of 20 inputs",
    ),
    "a parameter out of bounds": (["run", "manhattan", "--set", "max_updates=0"], "max_updates"),
    "no key": (["run", "manhattan", "--set", "fast"], "key=value"),
    "unknown bench": (["run", "manhattan", "--bench", "emulater"], "did you mean emulator"),
    "unknown key of the bench": (["run", "manhattan", "--bench-set", "chip.row=4"], "did you mean rows"),
    "unknown section": (["run", "manhattan", "--bench-set", "chp.rows=4"], "did you mean chip"),
    "no section": (["run", "manhattan", "--bench-set", "rows=4"], "section.key"),
    "unknown device": (["run", "manhattan", "--bench-set", "chip.model=lsmo"], "lsmo-gaq3"),
    "no such option": (["run", "manhattan", "--sed", "3"], "--seed"),
    "a negative seed": (["run", "manhattan", "--seed", "-1"], "--seed"),
    "no protocol": (["run"], "PROTOCOL"),
    "no such command": (["runn"], "run"),
    "no such run": (["show", "yesterday"], "holds no runs"),
    "nothing to compare": (["compare", "last"], "holds no runs"),
    "bad seeds": (["sweep", "manhattan", "--seeds", "5:5"], "the end is not included"),
    "worse seeds": (["sweep", "manhattan", "--seeds", "a:b"], "first:end"),
    "no such kind": (["list", "chips"], "runs"),
    "filter of runs on devices": (["list", "devices", "--converged"], "choose among runs"),
    "no such figure": (["plot", "last", "--figure", "x"], "holds no runs"),
    "a curve that is not there": (["import-curve", "no.csv", "-o", "c.toml"], "no.csv"),
    "a card that is no toml": (["import-curve", "no.csv", "-o", "c.csv"], "c.toml"),
}


@pytest.mark.parametrize("case", USAGE)
def test_usage(neurobench: Command, case: str, tmp_path: Path) -> None:
    arguments, said = USAGE[case]
    ended = neurobench(*arguments)
    assert (ended.code, ended.out) == (cli.USAGE, "")
    assert said in ended.err
    ended = neurobench(*arguments, "--json")
    assert (ended.code, ended.data["exit_code"]) == (cli.USAGE, cli.USAGE)
    assert said in ended.data["error"]
    assert not list(tmp_path.rglob("*.nbr")), "a usage error leaves no run file"


@pytest.mark.parametrize(
    "text", ["[bench\n", "a = \n", "\xff\xfe", "[chip]\nrows = 'four'", "[chip]\nrows = 4\nrows = 5"]
)
def test_malformed_bench_files(neurobench: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.toml").write_text(text, encoding="latin-1")
    ended = neurobench("run", "manhattan", "--bench", "lab.toml", "--json")
    assert ended.code == cli.USAGE
    assert "lab.toml" in ended.data["error"]


def test_a_run_file_of_a_newer_version(neurobench: Command) -> None:
    run = neurobench("run", "manhattan", "--json").data
    with contextlib.closing(sqlite3.connect(run["run_file"])) as db:
        db.execute("PRAGMA user_version = 99")
    for command in ("show", "plot", "export", "watch", "resume", "settle"):
        ended = neurobench(command, "last", "--json")
        assert ended.code == cli.USAGE, command
        assert "update neurobench" in ended.data["error"]


def test_a_chip_that_another_run_holds(neurobench: Command, tmp_path: Path) -> None:
    kept = ("--bench-set", "chip.file=chip.nbc", "--json")
    assert neurobench("run", "manhattan", *kept).code == cli.OK
    held = open_bench(load_bench("emulator", {"chip.file": tmp_path / "chip.nbc"}))
    try:
        ended = neurobench("run", "manhattan", *kept)
        assert ended.code == cli.USAGE
        assert "in use by process" in ended.data["error"]
    finally:
        held.close()
    assert neurobench("run", "manhattan", *kept).code in (cli.OK, cli.NOT_REACHED)


def test_refused_before_the_first_step(neurobench: Command, tmp_path: Path) -> None:
    ended = neurobench("run", "manhattan", "--bench-set", "chip.rows=2", "--json")
    assert ended.code == cli.REFUSED
    assert "an array of 4 x 4 (it has 2 x 4)" in ended.data["error"]
    assert not list(tmp_path.rglob("*.nbr"))


def test_refused_by_a_limit(neurobench: Command) -> None:
    ended = neurobench("run", "manhattan", "--bench-set", "limits.max_cell_v=1.5", "--json")
    assert (ended.code, ended.data["status"]) == (cli.REFUSED, "fault")
    assert "max_cell_v = 1.5" in ended.data["error"]
    assert ended.data["pulses"] == 0


def test_refused_by_a_full_disk(neurobench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runfile, "free_bytes", lambda path: 1 << 20)
    ended = neurobench("run", "manhattan", "--json")
    assert ended.code == cli.REFUSED
    assert "1 MB are free" in ended.data["error"]
    assert not list(tmp_path.rglob("*.nbr")), "no pulse was fired, so there is nothing to keep"


@pytest.mark.parametrize("command", [["run", "manhattan"], ["sweep", "manhattan", "--seeds", "0:2"], ["demo"]])
def test_a_folder_that_cannot_be_written(neurobench: Command, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = neurobench(*command, "--out", "file/runs", "--json")
    assert ended.code == cli.USAGE
    assert "file/runs" in ended.data["error"]
    assert "--out" in ended.data["error"]


def test_an_instrument_fails(neurobench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    load = registry.load

    def driver(settings: Any, seed: int) -> Any:
        real: Any = load("drivers", "emulator")
        crossbar, span = real(settings, seed)

        def broken(read: object) -> Any:
            raise InstrumentError("the ammeter says -410 Query INTERRUPTED")

        monkeypatch.setattr(crossbar, "sense", broken, raising=True)
        return crossbar, span

    monkeypatch.setattr(registry, "load", lambda kind, name: driver if kind == "drivers" else load(kind, name))
    ended = neurobench("run", "manhattan", "--json")
    assert (ended.code, ended.data["status"]) == (cli.FAULT, "fault")
    assert "-410 Query INTERRUPTED" in ended.data["error"]
    assert Path(ended.data["run_file"]).is_file()


def test_a_mistake_of_ours(neurobench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: str) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(registry, "check", broken)
    ended = neurobench("list", "protocols", "--json")
    assert ended.code == cli.BUG
    assert "ZeroDivisionError: ours" in ended.data["error"]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line in a process of its own, which ends with the test."""
    with contextlib.ExitStack() as ends:

        def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "neurobench", *arguments, "--out", str(folder), "--json"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            ends.enter_context(process)
            ends.callback(process.kill)
            return process

        yield begin


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def has_notes(folder: Path) -> bool:
    files = list(folder.glob("*.nbr"))
    if not files:
        return False
    try:
        with RunFile.open(files[0]) as run:
            return len(run.notes("epoch")) > 3
    except RunFileError:  # so young that its tables are not there yet
        return False


LONG = ("run", "manhattan", "--set", "preset=seed", "--set", "max_updates=100000")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(neurobench: Command, start: Command, tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, *LONG)
    wait_for(lambda: has_notes(tmp_path), process)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == cli.INTERRUPTED, err
    said = json.loads(out)
    assert said["status"] == "aborted"
    assert number.name in said["error"]
    assert Path(said["run_file"]).exists()
    shown = neurobench("show", "last", "--in", str(tmp_path), "--json").data
    assert (shown["status"], shown["pulses"]) == ("aborted", said["pulses"])
    assert said["pulses"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupted_sweep_goes_on(neurobench: Command, start: Command, tmp_path: Path) -> None:
    settings = ("--set", "preset=seed", "--set", "max_updates=60")
    process = start(tmp_path, "sweep", "manhattan", "--seeds", "0:120", "--workers", "2", *settings)
    wait_for(lambda: any(len(f.read_bytes().splitlines()) > 1 for f in tmp_path.glob("*.sweep.jsonl")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED, err
    said = json.loads(out)
    done = said["result"]["chips"]
    assert said["status"] == "aborted"
    assert 0 < done < 120
    ended = neurobench("resume", "last", "--in", str(tmp_path), "--workers", "1", "--json")
    assert (ended.code, ended.data["status"], ended.data["result"]["chips"]) == (cli.OK, "finished", 120)
    assert len(set(ended.data["result"]["run_ids"])) == 120


def test_a_crashed_run_is_resumed(neurobench: Command, start: Command, tmp_path: Path) -> None:
    arguments = (*LONG[:-1], "max_updates=3000", "--seed", "4")
    undisturbed = neurobench(*arguments, "--out", str(tmp_path / "whole"), "--json").data
    process = start(tmp_path, *arguments)
    wait_for(lambda: has_notes(tmp_path), process)
    process.kill()
    process.communicate()
    assert neurobench("show", "last", "--in", str(tmp_path), "--json").data["status"] == "crashed"
    ended = neurobench("resume", "last", "--in", str(tmp_path), "--json")
    assert ended.code == cli.NOT_REACHED
    assert ended.data["result"] == undisturbed["result"]
    assert ended.data["pulses"] == undisturbed["pulses"]


def test_nothing_asked_for_shows_the_help_and_no_empty_complaint(neurobench: Command) -> None:
    ended = neurobench()
    assert ended.code == cli.USAGE
    assert "Usage" in ended.out + ended.err
    assert "neurobench: " not in ended.err
