"""Runs on a served FPGA board through their own processes: the engine or the board dies in the middle, and record and
chip agree afterwards. A doubt is said where there is one and nowhere else."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# tests/cli, also when only this folder is collected
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))

from test_board_served import LAB, Served
from test_cli_sim_bench import kept_pulses
from test_visa_engine import Run

from neurobench import cli
from neurobench.bench.crossbar import Applied
from neurobench.runs.runfile import RunFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

PULSES = 40
REST_S = 10.0


class Lab:
    """A served board with a kept chip, and a bench file of backend "fpga" beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.chip = folder, folder / "chip.npz"
        self.served = Served(folder, "--tcp", "--instant", "--chip", "chip.npz")
        text = LAB.format(url=self.served.said["url"]).replace("[chip]\n", '[chip]\nfile = "books.chip"\n')
        (folder / "lab.toml").write_text(text, encoding="utf-8")

    def kill_the_board(self) -> None:
        """Dead at once, as by a power cut."""
        self.served.process.kill()
        self.served.process.communicate()

    def bring_it_back(self) -> None:
        """At the same port, with the same chip, without its counters."""
        port = self.served.said["url"].rpartition(":")[2]
        self.served = Served(self.folder, "--tcp", "--instant", "--chip", "chip.npz", "--port-base", port)

    @property
    def fired(self) -> int:
        return kept_pulses(self.chip) if self.chip.exists() else 0

    def booked(self) -> int:
        """Pulses in the record."""
        with RunFile.open(next(self.folder.glob("runs/*.nbr"))) as run:
            return sum(entry.answer.pulses for entry in run.entries() if isinstance(entry.answer, Applied))

    def interrupted(self, after: int) -> Run:
        """A run of many single pulses, in the middle of them."""
        wanted = (f"pulses={PULSES}", "cycles=1", "trains=potentiate", "stuck_after=100000", "noise_reads=2")
        settings = [word for one in wanted for word in ("--set", one)]
        run = Run(self.folder, "run", "measure-curve", "--bench", "lab.toml", *settings)
        assert run.engine
        run.until(lambda: self.fired >= after, "no pulses")
        return run

    def wait_for_rest(self) -> None:
        """The watcher has done what it can: the file that clients find the engine by is gone."""
        until_s = time.monotonic() + REST_S
        while list(self.folder.glob("runs/*.control")):
            assert time.monotonic() < until_s, "the watcher is still at it"
            time.sleep(0.01)

    def do(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """A command line in this process; what it runs is in the engine's all the same.

        The watcher of the run before may still hold the chip, looking for a board that is gone: then it is in use.
        """
        until_s = time.monotonic() + REST_S
        while True:
            said = io.StringIO()
            with contextlib.chdir(self.folder), contextlib.redirect_stdout(said):
                code = cli.invoke([*arguments, "--json"])
            found: dict[str, Any] = json.loads(said.getvalue())
            if " is in use by " not in str(found.get("error")) or time.monotonic() > until_s:
                return code, found
            time.sleep(0.1)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    for run in Run.begun:
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()
    Run.begun.clear()
    made.served.end()


def test_the_engine_is_killed_and_the_board_tells_what_became_of_its_pulse(lab: Lab) -> None:
    run = lab.interrupted(after=6)
    os.kill(run.engine, signal.SIGKILL)
    code, said = run.end()
    assert (code, said["status"]) == (cli.FAULT, "fault")
    lab.wait_for_rest()
    assert lab.fired - lab.booked() in (0, 1), "at most the one whose answer nobody heard"
    code, said = lab.do("resume", "last")
    assert (code, said["status"]) == (cli.OK, "finished"), "no doubt: the board has counted"
    assert lab.fired == lab.booked() == said["pulses"] == PULSES


def test_the_board_is_killed_and_a_doubt_is_said_only_if_a_pulse_was_open(lab: Lab) -> None:
    run = lab.interrupted(after=6)
    lab.kill_the_board()
    code, said = run.end()
    assert (code, said["status"]) == (cli.FAULT, "fault")
    assert lab.served.said["url"] in said["error"], "whom it lost"
    lab.wait_for_rest()
    unheard = lab.fired - lab.booked()
    assert unheard in (0, 1)
    lab.bring_it_back()
    then = lab.fired
    code, said = lab.do("settle", "last")
    assert lab.fired == then, "without volts"
    assert "outcome" in said, said
    if said["outcome"] == "unknown":
        assert code == cli.FAULT
        assert "restarted" in said["why"]
        code, said = lab.do("resume", "last")
        assert code == cli.FAULT, "a doubt wants to be accepted"
        assert lab.fired == then
        code, said = lab.do("resume", "last", "--accept-doubt")
    else:
        assert (code, said["outcome"], unheard) == (cli.OK, "nothing open", 0)
        code, said = lab.do("resume", "last")
    assert (code, said["status"]) == (cli.OK, "finished"), said.get("error")
    assert lab.fired - lab.booked() == unheard, "the doubtful one was not fired again"
