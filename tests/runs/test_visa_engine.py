"""Runs on instruments through their own processes: ended, killed, aborted, cut off, and gone on with. Never one pulse
more than the record says, and outputs off whatever happened."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

# tests/cli, also when only this folder is collected
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))

from test_cli_sim_bench import Bench, bench_file, kept_pulses

from neurobench import cli
from neurobench.bench.crossbar import Applied
from neurobench.runs.runfile import RunFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

HANG_S = 10.0
PULSES = 60


class Run:
    """A `neurobench run` in a process of its own, with the engine that it started."""

    begun: ClassVar[list[Run]] = []

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        said = [sys.executable, "-m", "neurobench", *arguments, "--json"]
        self.process = subprocess.Popen(
            said, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.begun.append(self)

    def until(self, ready: Any, what: str) -> None:
        until_s = time.monotonic() + 30
        while not ready():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until_s, what
            time.sleep(0.01)

    @property
    def control(self) -> Path | None:
        return next(iter(self.folder.glob("runs/*.control")), None)

    @property
    def engine(self) -> int:
        """The pid of the engine's process."""
        self.until(lambda: self.control and self.control.read_text().endswith("}"), "the engine has not started")
        assert self.control is not None
        return int(json.loads(self.control.read_text())["pid"])

    def end(self) -> tuple[int, dict[str, Any]]:
        """Exit code and the one JSON object; more than ten seconds is a hang."""
        out, err = self.process.communicate(timeout=HANG_S)
        assert out.count("\n") == 1, (out, err)
        found: dict[str, Any] = json.loads(out)
        return self.process.returncode, found


class Lab:
    """A running sim-bench with a kept chip, and a bench file of backend "visa" in a folder of its own."""

    def __init__(self, folder: Path, served: Bench, chip: Path) -> None:
        self.folder, self.served, self.chip = folder, served, chip
        said = f'[chip]\nid = "{served.said["chip"]["id"]}"\nfile = "books.chip"\n'
        (folder / "lab.toml").write_text(bench_file(served.said).replace("[chip]\n", said), encoding="utf-8")
        self.before = self.kept()

    def kept(self) -> int:
        return kept_pulses(self.chip) if self.chip.exists() else 0

    @property
    def fired(self) -> int:
        """Pulses on the chip since this lab was set up."""
        return self.kept() - self.before

    def train(self, pulses: int = PULSES, bench: str = "lab.toml") -> Run:
        """A run of many single pulses."""
        settings = (f"pulses={pulses}", "cycles=1", "trains=potentiate", "stuck_after=100000", "noise_reads=2")
        return Run(self.folder, "run", "measure-curve", "--bench", bench, *(w for s in settings for w in ("--set", s)))

    def file(self) -> Path:
        return sorted(self.folder.glob("runs/*.nbr"))[-1]

    def booked(self) -> int:
        """Pulses in the record."""
        with RunFile.open(self.file()) as run:
            return sum(entry.answer.pulses for entry in run.entries() if isinstance(entry.answer, Applied))

    def off(self) -> bool:
        """Whether all outputs are off, by the instruments' own word, and all lines on ground."""
        generator = self.served.ask("keysight-33500b", "OUTP1?;:OUTP2?")
        smu = self.served.ask("keithley-2600b", "print(smua.source.output,smub.source.output)").split()
        closed = self.served.ask("keithley-707b", 'print(channel.getclose("allslots"))')
        grounded = ";".join(f"1E{column:02d}" for column in range(1, 9))
        return generator == "0;0" and all(float(word) == 0 for word in smu) and closed == grounded

    def wait_for_rest(self) -> None:
        """The watcher has done its work: the file that clients find the engine by is gone."""
        until_s = time.monotonic() + HANG_S
        while list(self.folder.glob("runs/*.control")):
            assert time.monotonic() < until_s, "nobody rested the bench"
            time.sleep(0.01)

    def do(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """A command line in this process; what it runs is in the engine's all the same."""
        said = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(said):
            code = cli.invoke([*arguments, "--json"])
        found: dict[str, Any] = json.loads(said.getvalue())
        return code, found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a failing test has started is ended."""
    yield
    for run in Run.begun:
        if run.process.poll() is None:
            run.process.kill()
        for pipe in (run.process.stdout, run.process.stderr):
            if pipe is not None:
                pipe.close()
        run.process.wait()
    Run.begun.clear()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Path]]:
    folder = tmp_path_factory.mktemp("served")
    bench = Bench(folder, "--tcp", "--instant", "--chip", "chip.npz")
    yield bench, folder / "chip.npz"
    bench.end()


@pytest.fixture
def lab(tmp_path: Path, served: tuple[Bench, Path]) -> Lab:
    return Lab(tmp_path, *served)


# ---------------------------------------------------------------------------------------------- ends in order


def test_manhattan_on_the_built_in_bench(tmp_path: Path) -> None:
    code, said = Run(tmp_path, "run", "manhattan", "--bench", "visa-sim").end()
    assert code == cli.OK
    assert (said["status"], said["simulated"], said["result"]["converged"]) == ("finished", True, True)
    with RunFile.open(tmp_path / said["run_file"]) as run:
        engine = run.value("engine")
        assert engine is not None, "in a process of its own"
        assert engine["pid"] != os.getpid()
        fired = sum(entry.answer.pulses for entry in run.entries() if isinstance(entry.answer, Applied))
    assert fired == said["pulses"] == sum(map(sum, said["result"]["pulses"])) > 0


def test_a_run_over_sockets_books_what_the_chip_has_felt(lab: Lab) -> None:
    run = lab.train()
    code, said = run.end()
    assert code == cli.OK
    assert lab.fired == lab.booked() == said["pulses"] == PULSES
    assert said["simulated"], "the instruments say so by their serial numbers"
    assert lab.off()


# ---------------------------------------------------------------------------------------------- cut off


def interrupted(lab: Lab, after: int = 8, pulses: int = PULSES) -> Run:
    """A run in the middle of its pulses."""
    run = lab.train(pulses)
    engine = run.engine
    run.until(lambda: lab.fired >= after, "no pulses")
    assert engine
    return run


def test_the_engine_is_killed_and_the_run_goes_on(lab: Lab) -> None:
    run = interrupted(lab)
    os.kill(run.engine, signal.SIGKILL)
    code, said = run.end()
    assert (code, said["status"]) == (cli.FAULT, "fault")
    assert "neurobench resume" in said["error"]
    lab.wait_for_rest()
    assert lab.off(), "the watcher rested the bench"
    with RunFile.open(lab.file()) as file:
        assert file.value("watcher")["rested"] is True
        assert file.status == "crashed"
    then = lab.fired
    assert then - lab.booked() in (0, 1), "at most the one whose answer nobody heard"
    code, said = lab.do("resume", "last")
    assert (code, said["status"]) == (cli.OK, "finished")
    assert lab.fired == lab.booked() == said["pulses"] == PULSES
    assert lab.off()


def test_what_a_killed_engine_left_open_is_settled_without_volts(lab: Lab) -> None:
    run = interrupted(lab)
    os.kill(run.engine, signal.SIGKILL)
    run.end()
    lab.wait_for_rest()
    then = lab.fired
    code, said = lab.do("settle", "last")
    assert code == cli.OK
    assert said["outcome"] in ("nothing open", "done", "not done")
    assert said["chip"] == "settled"
    assert lab.fired == then == lab.booked()
    # the chip is free for another run now, and the old one cannot be taken up as if nothing had happened since
    assert lab.do("run", "read-all", "--bench", "lab.toml", "--set", "repeats=2")[0] == cli.OK


def test_sigterm_ends_the_run_at_rest(lab: Lab) -> None:
    run = interrupted(lab)
    began_s = time.monotonic()
    run.process.send_signal(signal.SIGTERM)
    code, said = run.end()
    assert time.monotonic() - began_s < HANG_S
    assert (code, said["status"]) == (cli.INTERRUPTED, "aborted")
    assert "outputs are off" in said["error"]
    assert lab.off()
    assert lab.fired == lab.booked() == said["pulses"] < PULSES


@pytest.mark.slow
def test_another_process_aborts_the_run(lab: Lab) -> None:
    run = interrupted(lab)
    assert run.engine
    words = "import sys; from neurobench.runs import engine; print(engine.attach(sys.argv[1]).abort())"
    asked = subprocess.run(
        [sys.executable, "-c", words, str(lab.file())], capture_output=True, text=True, timeout=20, check=True
    )
    assert asked.stdout.strip() == "True"
    code, said = run.end()
    assert (code, said["status"]) == (cli.INTERRUPTED, "aborted")
    assert lab.off()
    assert lab.fired == lab.booked() == said["pulses"]


@pytest.mark.slow
def test_the_engine_hears_sigterm_itself(lab: Lab) -> None:
    run = interrupted(lab)
    os.kill(run.engine, signal.SIGTERM)
    code, said = run.end()
    assert (code, said["status"]) == (cli.INTERRUPTED, "aborted")
    assert lab.off()
    assert lab.fired == lab.booked() == said["pulses"]


def test_the_instruments_disappear_in_the_middle(tmp_path: Path) -> None:
    """Nobody answers any more: the run ends in a fault, says whom it lost, and does not hang."""
    bench = Bench(tmp_path, "--tcp", "--instant", "--chip", "chip.npz")
    try:
        lab = Lab(tmp_path, bench, tmp_path / "chip.npz")
        run = interrupted(lab)
        bench.process.kill()
        began_s = time.monotonic()
        code, said = run.end()
        assert time.monotonic() - began_s < HANG_S
        assert (code, said["status"]) == (cli.FAULT, "fault")
        assert any(f"{model} at TCPIP::127.0.0.1::" in said["error"]
                   for model in ("keithley-2600b", "keysight-33500b", "keithley-707b"))  # fmt: skip
        assert lab.fired - lab.booked() in (0, 1), "at most one that nobody can answer for"
    finally:
        with contextlib.suppress(OSError):
            bench.end()


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 7, 12, 21, 30, 41, 50])
def test_wherever_the_engine_is_killed_no_pulse_is_lost_or_repeated(lab: Lab, after: int) -> None:
    """Killed twice: once in the run, once while it is resumed."""
    run = interrupted(lab, after)
    os.kill(run.engine, signal.SIGKILL)
    run.end()
    lab.wait_for_rest()
    again = Run(lab.folder, "resume", "last")
    engine = again.engine
    again.until(lambda: lab.fired >= after + 4, "no pulses after resuming")
    os.kill(engine, signal.SIGKILL)
    again.end()
    lab.wait_for_rest()
    assert lab.off()
    code, said = lab.do("resume", "last")
    assert code == cli.OK
    assert lab.fired == lab.booked() == said["pulses"] == PULSES


# ------------------------------------------------------------------------------- the chip in the engine's own process


def test_a_killed_engine_takes_the_simulated_instruments_with_it_but_not_the_chip(tmp_path: Path) -> None:
    """On visa-sim the instruments restart with the engine: a pulse under way is in doubt then, and said to be."""
    chip = tmp_path / "kept.npz"
    settings = ("pulses=4000", "cycles=1", "trains=potentiate", "stuck_after=100000", "noise_reads=2")
    said = [word for setting in settings for word in ("--set", setting)]
    said += ["--bench-set", f"chip.file={chip}", "--bench-set", "chip.model=lsmo-gaq3"]
    run = Run(tmp_path, "run", "measure-curve", "--bench", "visa-sim", *said)
    engine = run.engine
    run.until(lambda: chip.exists() and kept_pulses(chip) >= 10, "no pulses")
    os.kill(engine, signal.SIGKILL)
    assert run.end()[0] == cli.FAULT
    until_s = time.monotonic() + HANG_S
    while run.control is not None and time.monotonic() < until_s:
        time.sleep(0.01)
    (file,) = tmp_path.glob("runs/*.nbr")
    with RunFile.open(file) as record:
        booked = sum(entry.answer.pulses for entry in record.entries() if isinstance(entry.answer, Applied))
    assert kept_pulses(chip) - booked in (0, 1)
    again = Run(tmp_path, "settle", "last").end()
    if again[0] == cli.FAULT:
        assert again[1]["outcome"] == "unknown"
        assert again[1]["why"]
    else:
        assert again[1]["outcome"] in ("nothing open", "not done")
        assert kept_pulses(chip) == booked
