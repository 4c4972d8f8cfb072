"""A sweep: one line per chip, equal to the run of that chip, durable, and honest statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from neurobench.errors import InUse, NoRoom, RunFileError, UsageError
from neurobench.runs import launch, library, screen, sweep
from neurobench.runs.request import Prepared, Request, prepare, request
from neurobench.runs.sweep import Chip

ASKED = Request("manhattan", settings={"auto_zero": False, "max_updates": 4})


def made(folder: Path, seeds: range = range(5), asked: Request = ASKED, workers: int = 1) -> sweep.Sweep:
    return sweep.run(sweep.create(asked, seeds, folder), workers)


def test_a_chip_of_a_sweep_is_the_run_of_its_seed(tmp_path: Path) -> None:
    found = made(tmp_path)
    for chip in found.chips:
        path, error = launch.launch(prepare(Request(**{**vars(ASKED), "seed": chip.seed})), tmp_path / "runs")
        said = library.report(path)
        result = said["result"]
        assert error is None
        assert chip.status == said["status"]
        assert (chip.updates, chip.pulses) == (result["updates"], said["pulses"])
        assert chip.reads == result["cost"]["reads"]
        assert chip.energy_j == pytest.approx(said["energy_j"], rel=1e-12)
        assert chip.test_accuracy == result["test_accuracy"]


def test_seeds_differ(tmp_path: Path) -> None:
    """With independent noise and step spread no two chips cost the same energy."""
    chips = made(tmp_path, range(12)).chips
    assert len({chip.energy_j for chip in chips}) == 12
    assert len({chip.updates for chip in chips}) > 1


def test_workers_give_what_one_process_gives(tmp_path: Path) -> None:
    def outcome(found: sweep.Sweep) -> list[Chip]:
        return sorted(chip._replace(wall_s=0.0, preflight_s=0.0) for chip in found.chips)

    alone = made(tmp_path / "a", range(45))
    shared = made(tmp_path / "b", range(45), workers=2)
    assert outcome(alone) == outcome(shared)
    assert alone.run_id(3).endswith("-s3")


def test_the_command_of_a_chip_is_complete(tmp_path: Path) -> None:
    asked = request("manhattan", settings=["auto_zero=false", "target=0.75"], bench_settings=["readout.noise=false"])
    head = sweep.load(sweep.create(asked, range(3), tmp_path)).head
    command = head.command(2).split()
    assert command[:3] == ["neurobench", "run", "manhattan"]
    assert {"auto_zero=false", "target=0.75", "readout.noise=false"} < set(command)
    assert command[command.index("--seed") + 1] == "2"


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_line_is_dropped_and_its_chip_run_again(tmp_path: Path, cut: int) -> None:
    whole = made(tmp_path, range(6))
    text = whole.path.read_bytes()
    whole.path.write_bytes(text[:-cut])
    assert [chip.seed for chip in sweep.load(whole.path).chips] == [0, 1, 2, 3, 4]
    again = sweep.run(whole.path, 1)
    assert [c._replace(wall_s=0.0, preflight_s=0.0) for c in again.chips] == [
        c._replace(wall_s=0.0, preflight_s=0.0) for c in whole.chips
    ]


def test_only_missing_seeds_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sweep.create(ASKED, range(8), tmp_path)
    done = [Chip(seed, "finished", 1, 2, 3, 0.1, 0.1, 0.0) for seed in (1, 4, 6)]
    path.write_bytes(path.read_bytes() + b"".join(json.dumps(chip).encode() + b"\n" for chip in done))
    ran: list[int] = []
    real = sweep.trial

    def trial(prepared: Prepared, seed: int) -> Chip:
        ran.append(seed)
        return real(prepared, seed)

    monkeypatch.setattr(sweep, "trial", trial)
    seen: list[tuple[int, int]] = []
    sweep.run(path, 1, lambda done, reached: seen.append((done, reached)))
    assert ran == [0, 2, 3, 5, 7]
    assert seen[-1][0] == 8
    assert not sweep.load(path).missing


def test_a_sweep_that_goes_on_is_not_run_twice(tmp_path: Path) -> None:
    """Else every chip would be in the file twice, and the rate be that of twice as many."""
    path, seen = sweep.create(ASKED, range(2), tmp_path), []

    def watch(done: int, _reached: int) -> None:
        seen.append(sweep.writer(path))
        with pytest.raises(InUse, match="sweep"):
            sweep.run(path, 1)

    assert len(sweep.run(path, 1, watch).chips) == 2
    assert seen
    assert None not in seen
    assert sweep.writer(path) is None
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "no lock is left behind"


def test_a_refused_chip_counts_against_the_rate(tmp_path: Path) -> None:
    asked = Request("manhattan", bench_settings={"chip.rows": 2})
    said = sweep.report(made(tmp_path, range(3), asked), "finished")["result"]
    assert (said["converged"], said["chips"], said["statuses"]) == (0, 3, {"refused": 3})
    assert next(iter(said["reasons"])).startswith("this bench lacks")
    assert said["updates"]["median"] is None
    assert said["interval"][0] == 0


def test_updates_are_told_only_of_protocols_that_count_them(tmp_path: Path) -> None:
    said = sweep.report(made(tmp_path, range(2), Request("read-all", settings={"repeats": 2})), "finished")
    assert said["result"]["converged"] == 2
    assert (said["result"]["updates"]["median"], said["result"]["updates"]["histogram"]) == (None, {})
    with (console := Console()).capture() as shown:
        screen.sweep_ended(console, said)
    assert "to the goal" not in shown.get()


def test_a_limit_in_the_middle_counts_too(tmp_path: Path) -> None:
    asked = Request("manhattan", bench_settings={"limits.max_pulses_per_cell": 1}, settings={"preset": "seed"})
    said = sweep.report(made(tmp_path, range(2), asked), "finished")["result"]
    assert said["statuses"] == {"fault": 2}
    assert "LimitExceeded" in next(iter(said["reasons"]))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Request("manhattan", settings={"max_update": 3}), "did you mean max_updates"),
        (Request("manhattan", bench_settings={"chip.file": "chip.nbc"}), "is one chip"),
        (Request("manhattan", bench_settings={"chip.seed": 3}), "makes every chip the same"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_is_written(tmp_path: Path, asked: Request, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sweep.create(asked, range(3), tmp_path / "runs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a sweep file"),
        (b"hello\n", "not a sweep file"),
        (b'{"schema": 9}\n', "schema 9"),
        (b'{"schema": 1, "sweep": "x"}\n', "not a sweep file"),
        (b"[1, 2]\n", "not a sweep file"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.sweep.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=said):
        sweep.load(path)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = sweep.create(ASKED, range(2), tmp_path)
    path.write_bytes(path.read_bytes() + b'[0, "finished"]\n')
    with pytest.raises(RunFileError, match="line 2: damaged"):
        sweep.load(path)


def test_no_room_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--out"):
        sweep.create(ASKED, range(2), tmp_path / "file")
    monkeypatch.setattr(sweep, "free_bytes", lambda folder: 1000)
    with pytest.raises(NoRoom, match="1000 are free"):
        sweep.create(ASKED, range(2), tmp_path)
    assert not list(tmp_path.glob("*.jsonl"))


def test_two_sweeps_in_one_second(tmp_path: Path) -> None:
    assert len({sweep.create(ASKED, range(2), tmp_path) for _ in range(3)}) == 3


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_spread_is_that_of_numpy(values: list[float]) -> None:
    found = sweep.spread(values)
    expected = np.percentile(values, [0, 5, 50, 95, 100])
    assert [found[k] for k in ("min", "p5", "median", "p95", "max")] == pytest.approx(
        list(expected), rel=1e-9, abs=1e-9
    )
    assert found["mean"] == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)


@given(first=st.integers(0, 10**6), more=st.integers(1, 10**6))
def test_seeds_are_parsed(first: int, more: int) -> None:
    assert sweep.parse_seeds(f"{first}:{first + more}") == range(first, first + more)
    assert sweep.parse_seeds(str(first)) == range(first, first + 1)
    with pytest.raises(UsageError, match="holds no seed"):
        sweep.parse_seeds(f"{first + more}:{first}")


@given(st.text(max_size=12))
def test_seeds_that_are_none_are_refused(text: str) -> None:
    try:
        seeds: Any = sweep.parse_seeds(text)
    except UsageError:
        return
    assert seeds
    assert seeds.start >= 0
