"""Runs on visa-sim through every command that makes or shows them: each says that they are simulated."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurobench import cli
from neurobench.bench.crossbar import Applied
from neurobench.runs import launch
from neurobench.runs.figures import SIMULATED
from neurobench.runs.runfile import RunFile

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on visa-sim: one by the engine, one in this process."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        for seed in ("0", "1"):
            asked = ["run", "manhattan", "--bench", "visa-sim", "--seed", seed, "--set", "rereads=0"]
            assert cli.invoke([*asked, "--out", str(folder / "runs")]) == cli.OK
            patch.setattr(launch, "IN_PROCESS", (*launch.IN_PROCESS, "visa-sim"))
    return folder


@pytest.fixture
def runs(made: Path, neurobench: Command, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Their ids; the command line is in their folder."""
    del neurobench  # it goes into a folder of its own first
    monkeypatch.chdir(made)
    return sorted(path.stem for path in made.glob("runs/*.nbr"))


def test_a_run_and_its_record_agree(runs: list[str], neurobench: Command, made: Path) -> None:
    for run in runs:
        said = neurobench("show", run, "--json").data
        assert (said["simulated"], said["bench"], said["status"]) == (True, "visa-sim", "finished")
        assert said["chip"] == f"emulated-{said['seed']}"
        with RunFile.open(made / "runs" / f"{run}.nbr") as file:
            fired = sum(entry.answer.pulses for entry in file.entries() if isinstance(entry.answer, Applied))
            identity = file.manifest["identity"]
        assert said["pulses"] == fired
        assert all(one["simulated"] for one in identity["details"]["instruments"].values())
        assert "(simulated)" in neurobench("show", run).out
    assert all(row["simulated"] for row in neurobench("list", "runs", "--json").data["runs"])


def test_preview_is_what_the_run_did(runs: list[str], neurobench: Command, made: Path) -> None:
    said = neurobench("preview", "manhattan", "--bench", "visa-sim", "--set", "rereads=0", "--json").data
    ran = neurobench("show", runs[0], "--json").data
    assert (said["simulated"], said["status"], said["error"]) == (True, "finished", None)
    assert said["pulses"] == ran["pulses"]
    assert said["multiply"] == "host"
    assert not list(made.glob("*.nbr")), "and leaves nothing"
    shown = neurobench("preview", "manhattan", "--bench", "visa-sim", "--set", "rereads=0")
    assert "simulated        yes" in shown.out


def test_every_figure_is_marked(
    runs: list[str], neurobench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    written: list[str] = []
    save = figure.savefig

    def savefig(self: Any, *arguments: Any, **more: Any) -> None:
        written.append(" ".join(text.get_text() for text in self.texts))
        save(self, *arguments, **more)

    monkeypatch.setattr(figure, "savefig", savefig)
    drawn = neurobench("plot", runs[0], "--out", str(tmp_path / "figures"), "--json").data["figures"]
    assert len(drawn) == len(written) >= 4
    assert all(SIMULATED in text for text in written)
    assert all(Path(file).stat().st_size > 1000 for file in drawn)


def test_exports_carry_the_mark(runs: list[str], neurobench: Command, tmp_path: Path) -> None:
    folder = Path(neurobench("export", runs[0], "--out", str(tmp_path), "--json").data["file"])
    rows = {row[0]: row[1] for row in csv.reader((folder / "run.csv").read_text(encoding="utf-8").splitlines())}
    assert rows["simulated"] == "1"
    assert json.loads(rows["manifest"])["simulated"] is True
    h5py = pytest.importorskip("h5py")
    file = neurobench("export", runs[0], "--format", "hdf5", "--out", str(tmp_path), "--json").data["file"]
    with h5py.File(file) as kept:
        assert bool(kept.attrs["simulated"])


def test_compare_says_it_of_both(runs: list[str], neurobench: Command) -> None:
    said = neurobench("compare", *runs, "--json").data
    assert [said["results"][run]["simulated"] for run in runs] == [True, True]
    assert said["settings"]["seed"] == dict(zip(runs, (0, 1), strict=True))
    assert "simulated" in neurobench("compare", *runs).out


def test_a_sweep_runs_and_a_chip_of_it_comes_again(neurobench: Command, runs: list[str], tmp_path: Path) -> None:
    asked = ("--bench", "visa-sim", "--seeds", "0:6", "--set", "rereads=0", "--out", str(tmp_path / "sweep"))
    said = neurobench("sweep", "manhattan", *asked, "--json")
    assert said.code == cli.OK
    found = said.data
    assert (found["simulated"], found["status"], found["result"]["chips"]) == (True, "finished", 6)
    assert "--bench visa-sim" in found["example"]
    shown = neurobench("show", found["run_id"], "--in", str(tmp_path / "sweep"))
    assert "6 simulated chips reached the goal" in shown.out
    lines = [json.loads(line) for line in Path(found["run_file"]).read_text(encoding="utf-8").splitlines()[1:]]
    alone = [neurobench("show", run, "--json").data for run in runs]
    by_seed = {line[0]: line for line in lines}
    assert [by_seed[run["seed"]][4] for run in alone] == [run["pulses"] for run in alone], "as in a run of its own"
