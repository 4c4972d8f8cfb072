"""From a run to a card in one command, and the figures of characterisation runs: from the file alone, SIMULATED."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurobench import cli
from neurobench.errors import UsageError
from neurobench.physics.card import load_card
from neurobench.runs import export, figures, launch
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import RunFile

RUNS = {
    "curves": ("measure-curve", ["pulses=8", "cycles=2", "potentiate_v=[1.2, 1.4]"], ["chip.model=al2o3-tio2-nili"]),
    "iv": ("iv-sweep", ["potentiate_v=1.2", "depress_v=1.2", "levels=6", "cycles=1", "devices=2"], []),
    "forming": (
        "form",
        ["stop_v=1.4", "stop_current_a=1e-3", "stop_conductance_s=4e-5", "confirm_chip_id=emulated-0", "devices=2"],
        [],
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for figure, (protocol, settings, bench) in RUNS.items():
        asked = request(protocol, settings=settings, bench_settings=bench)
        found[figure], error = launch.launch(prepare(asked), folder)
        assert error is None
    return found


@pytest.mark.parametrize("name", list(RUNS))
def test_its_figure_is_drawn_and_says_simulated(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drawn = figures.draw(runs[name], tmp_path)
    assert [path.name for path in drawn] == [f"{runs[name].stem}-{name}.png"]
    history = figures.read_history(runs[name])
    figure: Any = figures.FIGURES[name](history)
    figures._saved(figure, history, tmp_path / "x.png")
    assert any("SIMULATED" in text.get_text() for text in figure.texts)
    with pytest.raises(UsageError, match="holds nothing for the figure 'weights'"):
        figures.draw(runs[name], tmp_path, ["weights"])


def test_what_is_drawn_is_what_was_recorded(runs: dict[str, Path]) -> None:
    pytest.importorskip("matplotlib")
    for name, key in (("curves", "train_conductance_s"), ("iv", "level_current_a")):
        with RunFile.open(runs[name]) as file:
            assert file.result is not None
            values = np.asarray(file.result[key])
        figure: Any = figures.FIGURES[name](figures.read_history(runs[name]))
        drawn = np.concatenate([line.get_ydata() for axes in figure.get_axes()[: 2 if name == "curves" else 1]
                                for line in axes.get_lines()])  # fmt: skip
        factor, _ = figures.si_scale(values)
        np.testing.assert_allclose(np.sort(drawn), np.sort(values.ravel() * factor))


@pytest.mark.parametrize("name", list(RUNS))
def test_a_characterisation_is_exported(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    found = {variable.name: variable for variable in export.variables(runs[name])}
    key = {"curves": "train_conductance_s", "iv": "level_volts_v", "forming": "pulse_current_a"}[name]
    assert np.isfinite(found[f"result_{key}"].values).all()
    assert export.export(runs[name], "csv", tmp_path).is_dir()


def test_one_command_makes_a_card_of_a_run(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "curve.toml", runs["curves"]
    assert cli.invoke(["import-curve", run.stem, "--in", str(run.parent), "-o", str(out), "--json"]) == cli.OK
    said = json.loads(capsys.readouterr().out)
    assert said["written"] == [str(out)]
    assert any("SIMULATED" in line for line in said["report"])
    card = load_card(out)
    assert card.simulated
    assert card.write_current is not None
    assert card.write_current.law == "cubic"
    assert card.write_current.cubic_per_v2 == pytest.approx(1.986, rel=0.05)
    assert cli.invoke(["import-curve", str(run), "-o", str(tmp_path / "again.toml"), "--json"]) == cli.OK
    assert load_card(tmp_path / "again.toml") == card
    capsys.readouterr()
    asked = ["run", "measure-curve", "--bench-set", f"chip.curve={out}", "--set", "pulses=8", "--out", str(tmp_path)]
    assert cli.invoke([*asked, "--json"]) == cli.OK
    assert json.loads(capsys.readouterr().out)["energy_basis"] == "model"


@pytest.mark.parametrize(("run", "says"), [("iv", "holds no train of equal pulses"), ("forming", "a run of form")])
def test_another_run_is_no_curve(
    run: str, says: str, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.invoke(["import-curve", str(runs[run]), "-o", "x.toml"]) == cli.USAGE
    assert says in capsys.readouterr().err


def test_a_name_that_is_neither_file_nor_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["import-curve", "nothing", "--in", str(tmp_path), "-o", "x.toml"]) == cli.USAGE
    assert "no run 'nothing'" in capsys.readouterr().err
    assert cli.invoke(["import-curve", str(tmp_path / "no.csv"), "-o", "x.toml"]) == cli.USAGE
    assert "cannot read it" in capsys.readouterr().err
