"""Proof (a): over a lossy link to a chip in another process, killed at every line and resumed, no pulse is lost or
fired twice: the chip's ledger equals the run file.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import RemoteChip, Toy, remote_chip, undisturbed

HELPER = Path(__file__).with_name("crash_points.py")
TOY = Toy(epochs=2, pulses=2)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills by signal and talks over unix sockets")


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[RemoteChip]:
    with remote_chip(tmp_path / "chip") as remote:
        yield remote


def helper(what: str, folder: Path, config: dict[str, Any], *more: Any, toy: Toy = TOY) -> list[Any]:
    folder.mkdir(exist_ok=True)
    words = [sys.executable, str(HELPER), what, str(folder), json.dumps(config), toy.model_dump_json()]
    done = subprocess.run(
        [*words, *map(json.dumps, more)],
        env={"PYTHONPATH": str(HELPER.parent.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_exact(trial: dict[str, Any], toy: Toy = TOY) -> None:
    expected = undisturbed(toy, 1)[1]
    assert trial["status"] == "finished", trial
    assert [n for _, n in trial["ledger"]] == expected, trial
    assert trial["file"] == trial["ledger"], trial
    assert trial["pulses"] == sum(expected), trial


LOSSY = {"command": 0.15, "reply": 0.15, "loss_seed": 4}


def check_every_line(chip: RemoteChip, tmp_path: Path, everything: bool, enough: int) -> None:
    config = chip.config(**LOSSY)
    runs = helper("lines", tmp_path / "runs", config, everything)
    assert runs[-1]["deaths"] == 0, "the last run met no line at which nobody had died"
    assert runs[-1]["lines"] == sum(run["deaths"] for run in runs) > enough
    for run in runs:
        check_exact(run)


@pytest.mark.timeout(400)
def test_killed_at_every_line_ledger_equals_pulses(chip: RemoteChip, tmp_path: Path) -> None:
    """Runner, run file, replay and link die once at each of their lines, one after the other."""
    check_every_line(chip, tmp_path, everything=False, enough=300)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_every_line_of_guard_passport_and_codec_too(chip: RemoteChip, tmp_path: Path) -> None:
    check_every_line(chip, tmp_path, everything=True, enough=500)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_kills_at_random_moments_lose_nothing(chip: RemoteChip, tmp_path: Path) -> None:
    kills_at_random(chip, tmp_path, 200)


def test_6_kills_at_random_moments_lose_nothing(chip: RemoteChip, tmp_path: Path) -> None:
    kills_at_random(chip, tmp_path, 6)


def kills_at_random(chip: RemoteChip, tmp_path: Path, count: int) -> None:
    config = chip.config(**LOSSY)
    total = len(helper("survey", tmp_path / "survey", config)[0])
    rng = random.Random(7)
    points = [[rng.randrange(total)] for _ in range(count)]
    for trial in helper("trials", tmp_path / "trials", config, points):
        check_exact(trial)


@pytest.mark.timeout(400)
def test_killed_again_while_resuming(chip: RemoteChip, tmp_path: Path) -> None:
    rng = random.Random(5)
    config = chip.config(command=0.1, reply=0.1, loss_seed=2)
    total = len(helper("survey", tmp_path / "survey", config)[0])
    points = [[rng.randrange(total // 3, total), *(rng.randrange(1, total) for _ in range(3))] for _ in range(12)]
    trials = helper("trials", tmp_path / "trials", config, points)
    assert sum(trial["killed"] for trial in trials) > 20
    for trial in trials:
        check_exact(trial)


@pytest.mark.timeout(400)
def test_without_a_witness_doubt_is_reported_and_no_pulse_is_repeated(chip: RemoteChip, tmp_path: Path) -> None:
    config = chip.config(witness=False)
    rng = random.Random(6)
    total = len(helper("survey", tmp_path / "survey", config)[0])
    points = [[rng.randrange(total // 4, total)] for _ in range(60)]
    expected = undisturbed(TOY, 1)[1]
    doubts = 0
    for trial in helper("trials", tmp_path / "trials", config, points):
        fired = [seq for seq, _ in trial["ledger"]]
        assert len(fired) == len(set(fired)), "a pulse was repeated"
        if not trial["unknown"]:
            check_exact(trial)
            continue
        doubts += 1
        assert "nobody can tell" in trial["error"]
        # The file holds one step more than is certain; the chip has fired it or not, and nothing after it.
        certain = [row for row in trial["file"] if row[1] is not None]
        assert len(trial["file"]) == len(certain) + 1
        assert trial["ledger"][: len(certain)] == certain
        assert len(trial["ledger"]) <= len(certain) + 1
        assert [n for _, n in trial["ledger"]] == expected[: len(trial["ledger"])]
    assert doubts > 0, "no kill fell between trigger and answer"
