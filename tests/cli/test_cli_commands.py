"""What each command does, through the command line, with --json and for a person."""

from __future__ import annotations

import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurobench import cli
from neurobench.runs import launch, library
from neurobench.runs.runfile import RunFile

Command = Callable[..., Any]


def test_a_run_says_what_the_issue_asks(neurobench: Command) -> None:
    said = neurobench("run", "manhattan", "--seed", "3", "--json").data
    result = said["result"]
    assert (said["protocol"], said["bench"], said["seed"], said["simulated"]) == ("manhattan", "emulator", 3, True)
    assert result["converged"] is True
    assert len(result["error_per_epoch"]) == result["updates"]
    assert [len(row) for row in result["pulses"]] == [4] * 4
    assert sum(map(sum, result["pulses"])) == said["pulses"]
    assert all(1e-8 < g < 1e-4 for row in result["conductance_s"] for g in row)
    assert 0 <= result["test_accuracy"] <= 1
    assert said["energy_basis"] == "model"
    assert 1e-12 < said["energy_j"] < 1e-2
    assert 0 < said["wall_s"] < 60


def test_json_of_a_run_has_null_for_what_is_no_number() -> None:
    assert library.plain({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": Path("x")}}) == {
        "a": None, "b": [None, 1.5], "c": {"d": "x"},
    }  # fmt: skip


def test_seed_and_settings_reach_the_run(neurobench: Command) -> None:
    one = neurobench("run", "manhattan", "--seed", "1", "--json").data
    again = neurobench("run", "manhattan", "--seed", "1", "--json").data
    other = neurobench("run", "manhattan", "--seed", "2", "--json").data
    assert one["result"] == again["result"]
    assert one["result"]["conductance_s"] != other["result"]["conductance_s"]
    larger = neurobench("run", "manhattan", "--bench-set", "chip.rows=6", "--bench-set", "chip.cols=5", "--json").data
    assert [len(row) for row in larger["result"]["pulses"]] == [5] * 6


def test_a_recipe_and_what_wins_over_it(neurobench: Command, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "lab.toml").write_text('[bench]\nname = "lab"\n[chip]\nrows = 5\n')
    (folder / "try.toml").write_text(
        'protocol = "manhattan"\nbench = "lab.toml"\nseed = 9\n[set]\nmax_updates = 7\n[bench-set]\nchip.cols = 6\n'
    )
    said = neurobench("run", "recipes/try.toml", "--json").data
    assert (said["bench"], said["seed"]) == ("lab", 9)
    assert [len(row) for row in said["result"]["pulses"]] == [6] * 5
    shown = neurobench("show", "last", "--json").data
    assert shown["parameters"]["max_updates"] == 7
    over = ("--seed", "2", "--set", "max_updates=8", "--bench-set", "chip.cols=4", "--bench", "emulator")
    said = neurobench("run", "recipes/try.toml", *over, "--json").data
    assert (said["bench"], said["seed"]) == ("emulator", 2)
    assert [len(row) for row in said["result"]["pulses"]] == [4] * 4
    assert neurobench("show", "last", "--json").data["parameters"]["max_updates"] == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("protocl = 'manhattan'", "did you mean protocol"),
        ("seed = 3", "protocol ="),
        ("protocol = 'manhattan'\nseed = 'x'", "whole number"),
        ("protocol = 'manhattan'\nset = 3", "[set]"),
        ("protocol = ", "not valid TOML"),
    ],
)
def test_recipes_that_are_wrong(neurobench: Command, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    ended = neurobench("run", "r.toml")
    assert ended.code == cli.USAGE
    assert "r.toml" in ended.err
    assert said in ended.err


def test_the_command_of_a_run_runs_it_again(neurobench: Command) -> None:
    import shlex

    first = neurobench(
        "run", "manhattan", "--seed", "5", "--set", "target=0.75", "--bench-set", "readout.noise=false", "--json"
    )
    command = neurobench("show", "last", "--json").data["command"]
    again = neurobench(*shlex.split(command)[1:], "--json")
    assert again.data["result"] == first.data["result"]


def test_runs_are_listed_filtered_and_found(neurobench: Command) -> None:
    good = neurobench("run", "manhattan", "--json").data["run_id"]
    bad = neurobench("run", "manhattan", "--set", "preset=seed", "--set", "max_updates=3", "--json").data["run_id"]
    Path("runs/broken.nbr").write_bytes(b"no run file")

    def ids(*filters: str) -> list[str]:
        return [row["run_id"] for row in neurobench("list", "runs", *filters, "--json").data["runs"]]

    assert sorted(ids()) == sorted([good, bad, "broken"])
    assert ids("--converged") == [good]
    assert ids("--not-converged") == [bad]
    assert ids("--protocol", "manhattan") == [good, bad]
    assert ids("--protocol", "stdp") == []
    text = neurobench("list", "runs").out
    assert "not converged" in text
    assert "not a run file" in text
    assert neurobench("show", good, "--json").data["run_id"] == good
    assert neurobench("show", f"runs/{bad}.nbr", "--json").data["run_id"] == bad
    ambiguous = neurobench("show", good[:8])
    assert ambiguous.code == cli.USAGE
    assert good in ambiguous.err
    assert neurobench("show", "broken").code == cli.USAGE


def test_what_there_is(neurobench: Command) -> None:
    devices = neurobench("list", "devices", "--json").data["devices"]
    assert len(devices) >= 10
    assert all(len(device["source"]) > 8 for device in devices)
    assert "manhattan" in [row["name"] for row in neurobench("list", "protocols", "--json").data["protocols"]]
    assert "emulator" in neurobench("list", "benches").out


def test_show_compare_plot_and_watch(neurobench: Command, tmp_path: Path) -> None:
    one = neurobench("run", "manhattan", "--seed", "1", "--json").data["run_id"]
    other = neurobench("run", "manhattan", "--seed", "2", "--set", "target=0.7", "--json").data["run_id"]
    assert "simulated" in neurobench("show", one).out
    said = neurobench("compare", one, other, "--json").data
    assert said["settings"]["protocol.parameters.target"] == {one: 0.8, other: 0.7}
    assert said["settings"]["seed"] == {one: 1, other: 2}
    assert "protocol.parameters.max_updates" not in said["settings"]
    assert said["results"][one]["status"] == "finished"
    assert "target" in neurobench("compare", one, other).out
    assert neurobench("compare", one, one).code == cli.USAGE
    figures = neurobench("plot", one, "--figure", "error", "--out", "pictures", "--json").data["figures"]
    assert [Path(figure).name for figure in figures] == [f"{one}-error.png"]
    assert (tmp_path / figures[0]).read_bytes().startswith(b"\x89PNG")
    watched = neurobench("watch", one, "--json")
    assert (watched.code, watched.data["run_id"]) == (cli.OK, one)
    assert "epoch" in watched.err


def test_preview_is_the_run_and_touches_nothing(neurobench: Command, tmp_path: Path) -> None:
    kept = ("--bench-set", "chip.file=drawer/chip.nbc")
    (tmp_path / "drawer").mkdir()
    neurobench("run", "manhattan", *kept, "--json")
    before = {file: file.read_bytes() for file in (tmp_path / "drawer").iterdir()}
    assert before
    foretold = neurobench("preview", "manhattan", *kept, "--json").data
    assert {file: file.read_bytes() for file in (tmp_path / "drawer").iterdir()} == before
    came = neurobench("run", "manhattan", *kept, "--json").data
    assert (foretold["status"], foretold["pulses"]) == (came["status"], came["pulses"])
    assert foretold["updates"] == came["result"]["updates"]
    assert foretold["energy_j"] == pytest.approx(came["energy_j"], rel=1e-12)
    assert foretold["preflight"] == came["result"]["preflight"]
    assert foretold["max_pulse_v"] == 2.0
    assert 0 < foretold["max_read_v"] <= foretold["limits"]["max_read_v"]
    assert "reachable" in neurobench("preview", "manhattan").out
    refused = neurobench("preview", "manhattan", "--bench-set", "chip.rows=2")
    assert refused.code == cli.REFUSED


def test_preview_tells_what_two_lines_put_on_a_cell(neurobench: Command) -> None:
    scheme = "scheme={kind='rectangular', amplitude_v=0.9, tail_v=0.5}"
    asked = ("stdp-window", "--set", "repeats=1", "--set", "dt_s=[0.002]", "--set", scheme)
    assert neurobench("preview", *asked, "--json").data["max_pulse_v"] == pytest.approx(1.4)


def test_check_and_rest(neurobench: Command) -> None:
    said = neurobench("check", "emulator", "--bench-set", "chip.rows=7", "--json").data
    assert said["capabilities"]["shape"] == [7, 4]
    assert (said["simulated"], said["at_rest"]) == (True, True)
    assert said["limits"]["max_cell_v"] == 5.5
    assert neurobench("rest", "--json").data == {"bench": "emulator", "at_rest": True}
    assert neurobench("check", "nowhere").code == cli.USAGE


def test_import_curve(neurobench: Command, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("conductance_s\n" + "\n".join(f"{1e-6 + 1e-8 * n:.4e}" for n in range(40)))
    arguments = ("import-curve", "c.csv", "-o", "c.toml", "--plot", "--amplitude-v", "1.5", "--width-s", "1e-3")
    said = neurobench(*arguments, "--source", "measured for this test", "--json").data
    assert said["written"] == ["c.toml", "c.png"]
    assert any("40 points" in line for line in said["report"])
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    ran = neurobench("run", "manhattan", "--bench-set", "chip.curve=c.toml", "--json")
    assert ran.code in (cli.OK, cli.NOT_REACHED)
    assert all(g > 0.9e-6 for row in ran.data["result"]["conductance_s"] for g in row)
    (tmp_path / "bad.csv").write_text("1e-6\nnan\n2e-6\n")
    bad = neurobench("import-curve", "bad.csv", "-o", "bad.toml")
    assert bad.code == cli.USAGE
    assert "bad.csv:2" in bad.err
    assert not (tmp_path / "bad.toml").exists()


def test_measured_log_is_imported(neurobench: Command, shared_data: Path) -> None:
    log = shared_data / "cateru" / "SP291D1NR100.dat"
    said = neurobench("import-curve", str(log), "-o", "m.toml", "--json").data
    assert any("51 points" in line for line in said["report"])


def test_demo(neurobench: Command) -> None:
    ended = neurobench("demo")
    assert ended.code == cli.OK
    assert [line[:2] for line in ended.out.splitlines() if line[1:2] == "."] == ["1.", "2."]
    assert "emulated from published measurements" in ended.out
    titles = [line for line in (ended.out + ended.err).splitlines() if " of 2: " in line]
    assert len(titles) == 2
    assert all(title.endswith("(emulated)") for title in titles)
    drawn = sorted(file.stem.rsplit("-", 1)[1] for file in Path("runs").glob("*/*.png"))
    assert drawn == sorted(2 * ["activations", "bars", "conductances", "error", "training", "weights"])
    for file in Path("runs").glob("*.nbr"):
        with RunFile.open(file) as run:
            assert run.status == "finished"
    said = neurobench("demo", "--json").data
    assert said["status"] == "finished"
    assert (said["result"]["updates"], said["result"]["train_accuracy"]) == (10, 1.0)
    assert said["first_run_id"] != said["run_id"]


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
def test_demo_in_a_terminal_shows_the_chip(tmp_path: Path) -> None:
    """In a terminal the picture is drawn again after every update, and ends with the lesson."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50", "NO_COLOR": ""}
    command = [sys.executable, "-m", "neurobench", "demo", "--fast", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave, env=environment, close_fds=True)
    os.close(slave)
    seen = b""
    while True:
        try:
            seen += os.read(master, 65536)
        except OSError:  # the other end was closed
            break
    os.close(master)
    assert process.wait(timeout=30) == 0
    text = seen.decode()
    assert "conductances in nS, read back" in text
    assert "epoch   1" in text
    assert "Try next" in text


def test_someone_stops_reading(tmp_path: Path) -> None:
    """`neurobench list devices | head -1` ends quietly."""
    command = f"{sys.executable} -m neurobench list devices | head -1"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert ended.stderr == ""
    assert "name" in ended.stdout


def test_runs_of_one_second_get_a_file_each(neurobench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both look for a free name before either has made its file, as processes do that start together.
    free, asked = launch.new_path, []

    def late(folder: Path, request: Any) -> Path:
        path = free(folder, request)
        if not asked:
            asked.append(path)
            path.write_bytes(b"somebody else's")
        return path

    monkeypatch.setattr(launch, "utc_now", lambda: "2026-01-02T03:04:05.678Z")
    monkeypatch.setattr(launch, "new_path", late)
    said = neurobench("run", "read-all", "--out", "here", "--json").data
    assert said["run_file"] == str(Path("here") / "20260102-030405-read-all-s0-1.nbr")
    assert (said["status"], Path(said["run_file"]).is_file()) == ("finished", True)
    assert asked[0].read_bytes() == b"somebody else's"


def test_what_a_crashed_run_fired_is_counted_from_its_journal(neurobench: Command) -> None:
    whole = neurobench("run", "manhattan", "--json").data
    with sqlite3.connect(whole["run_file"]) as db:  # as a kill leaves it: no last words
        last_words = ("status", "state", "pulses", "energy_j", "wall_s", "totals", "result", "exit_code", "reached")
        db.executemany("DELETE FROM manifest WHERE key = ?", [(key,) for key in last_words])
    said = neurobench("show", "last", "--json").data
    assert said["status"] == "crashed"
    assert said["pulses"] == whole["pulses"] > 0
    assert said["energy_j"] == pytest.approx(whole["energy_j"])
