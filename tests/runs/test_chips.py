"""Devices to look at, and emulated chips to make, break and keep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import conductance_s
from neurobench.bench.stimulus import CellRead
from neurobench.cli import invoke
from neurobench.errors import ConfigError, UsageError
from neurobench.physics import library
from neurobench.physics.chip import SHORTED_S, Chip, load_chip
from neurobench.runs import chips
from neurobench.runs.library import plain

SMALL = ["chip.rows=3", "chip.cols=5", "chip.step_spread=0.3"]
DEFECTS = "0,1,stuck\n2,2,short\n1,4,open\n"


def _kept(tmp_path: Path, defects: str = DEFECTS) -> tuple[dict[str, object], Chip]:
    asked = tmp_path / "defects.csv"
    asked.write_text(defects)
    found = chips.make(settings=SMALL, seed=7, defects=asked, out=tmp_path / "mine.toml")
    return found, load_chip(tmp_path / "mine.chip", library.load_model("lsmo-gaq3"))


@pytest.mark.parametrize("name", library.names())
def test_every_device_of_the_library_says_its_curves_in_plain_json(name: str) -> None:
    found = plain(chips.device(name))
    json.dumps(found, allow_nan=False)
    low, high = found["window_s"]
    for curve in found["curves"]:
        assert len(curve["fit_s"]) > 1
        assert min(curve["fit_s"]) >= low * (1 - 1e-9)
        assert max(curve["fit_s"]) <= high * (1 + 1e-9)
    assert found["curves"]


@pytest.mark.parametrize(("name", "stated"), [("epiram", False), ("lsmo-gaq3", True)])
def test_a_device_of_which_nobody_stated_the_noise_of_reads_says_so(name: str, stated: bool) -> None:
    found = chips.device(name)
    assert bool(found["read_sigma_s"] or found["read_sigma_relative"]) is stated
    assert any("no noise of a read is stated" in words for words in found["said"]) is not stated


def test_the_residual_is_what_lies_between_points_and_fit() -> None:
    up, down = chips.device("gong-rram")["curves"]
    for curve in (up, down):
        assert np.allclose(np.subtract(curve["points_s"], curve["fit_s"]), curve["residual_s"])
        steps = np.diff(curve["fit_s"]) * (1 if curve["direction"] == "potentiate" else -1)
        assert (steps >= 0).all(), "the emulator replays a monotone curve"


def test_broken_cells_are_broken_in_the_file(tmp_path: Path) -> None:
    found, chip = _kept(tmp_path)
    g = chip.conductance_s()
    assert g[2, 2] == SHORTED_S
    assert g[1, 4] == 0
    moves = chip.devices.step.reshape(chip.shape) > 0
    assert sorted(zip(*np.nonzero(~moves), strict=True)) == [(0, 1), (1, 4), (2, 2)]
    assert (found["stuck"], found["shorted"], found["open"], found["works"]) == (1, 1, 1, 12)


def test_a_kept_chip_runs_on_the_bench_that_names_it(tmp_path: Path) -> None:
    _kept(tmp_path)
    config = load_bench(tmp_path / "mine.toml")
    assert (config.chip.rows, config.chip.cols, config.chip.file) == (3, 5, tmp_path / "mine.chip")
    guard = open_bench(config)
    try:
        assert guard.identity().chip_id == "mine"
        read = conductance_s(guard.sense(CellRead(np.ones((3, 5), np.bool_), 0.05)), 0.05)
    finally:
        guard.close()
    assert read.ravel()[2 * 5 + 2] == pytest.approx(SHORTED_S, rel=0.05)
    assert abs(read.ravel()[1 * 5 + 4]) < 2e-8


def test_cells_that_are_not_named_are_as_the_seed_makes_them(tmp_path: Path) -> None:
    whole = chips.make(
        settings=[*SMALL, "chip.range_spread=0.4", "chip.offsets=normal", "chip.offset_sigma_s=1e-8"], seed=3
    )
    asked = tmp_path / "d.csv"
    asked.write_text("0,0,open\n")
    broken = chips.make(
        settings=[*SMALL, "chip.range_spread=0.4", "chip.offsets=normal", "chip.offset_sigma_s=1e-8"],
        seed=3,
        defects=asked,
    )
    same = np.array(whole["conductance_s"]) == np.array(broken["conductance_s"])
    assert not same[0, 0]
    assert same.sum() == same.size - 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0;1;stuck", "row,column,kind"),
        ("0,1,bent", "stuck, short, open"),
        ("0,1", "row,column,kind"),
        ("3,0,open", "not on a chip of 3 x 5"),
        ("0,1,open\n0,1,short", "named twice"),
        ("-1,0,open", "row,column,kind"),
    ],
)
def test_a_wrong_defect_is_refused_and_nothing_is_written(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _kept(tmp_path, text)
    assert [path.name for path in tmp_path.iterdir()] == ["defects.csv"]


@pytest.mark.parametrize("taken", ["mine.toml", "mine.chip", "mine.chip.passport"])
def test_nothing_is_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("precious")
    with pytest.raises(UsageError, match="exists and is not overwritten"):
        chips.make(settings=SMALL, out=tmp_path / "mine.toml")
    assert (tmp_path / taken).read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_real_bench_has_no_chip_to_make() -> None:
    with pytest.raises(UsageError, match="real"):
        chips.make(
            "visa-sim", ["bench.backend=visa", "limits.max_cell_v=1", "limits.max_read_v=0.1", "limits.max_width_s=1"]
        )


def test_a_card_of_ones_own_is_named_by_its_whole_path(tmp_path: Path) -> None:
    curve = tmp_path / "up.csv"
    curve.write_text("".join(f"{1e-6 + n * 1e-8}\n" for n in range(40)))
    chips.make(settings=[f"chip.curve={curve}"], out=tmp_path / "deep" / "own.toml")
    assert load_bench(tmp_path / "deep" / "own.toml").chip.curve == curve


def test_devices_of_another_step_climb_at_another_pace() -> None:
    alike = chips.make(settings=["chip.model=ag-a-si", "chip.step_spread=0"])["curves"][0]["conductance_s"]
    differ = chips.make(settings=["chip.model=ag-a-si", "chip.step_spread=0.3"])["curves"][0]["conductance_s"]
    assert np.ptp(alike[10]) == pytest.approx(0, abs=1e-15)
    assert np.ptp(differ[10]) > 1e-9


def test_the_commands_say_one_object(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert invoke(["device", "lsmo-gaq3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "lsmo-gaq3"
    assert invoke(["make-chip", "-o", str(tmp_path / "a.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bench_file"] == str(tmp_path / "a.toml")
    assert invoke(["make-chip", "-o", str(tmp_path / "a.toml"), "--json"]) == 2
    assert "not overwritten" in json.loads(capsys.readouterr().out)["error"]
    assert invoke(["make-chip"]) == 0
    assert "works" in capsys.readouterr().out
