"""Exports hold what the run file holds, in each format, and the truth stays apart."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neurobench.errors import UsageError
from neurobench.runs import export, launch
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import RunFile


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the published settings: it has notes, pulses and no convergence."""
    asked = request("manhattan", settings=["preset=seed", "max_updates=6"], seed=3)
    return launch.launch(prepare(asked), tmp_path_factory.mktemp("runs"))[0]


@pytest.fixture(scope="module")
def notes(run: Path) -> Iterator[list[dict[str, object]]]:
    with RunFile.open(run) as file:
        yield [note.value for note in file.notes("epoch")]


def test_netcdf_opens_with_xarray(run: Path, notes: list[dict[str, object]], tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(export.export(run, "netcdf", tmp_path), engine="h5netcdf") as data:
        assert data["epoch_conductance_s"].dims == ("epoch", "row", "col")
        assert np.array_equal(data["epoch_conductance_s"], np.array([note["conductance_s"] for note in notes]))
        assert data["epoch_error"].values.tolist() == [note["error"] for note in notes]
        assert data["result_pulses"].values.sum() == data.attrs["pulses"] == data["step_pulses"].values.sum()
        assert (data.attrs["protocol"], data.attrs["simulated"], data.attrs["status"]) == (
            "manhattan",
            1,
            "not_converged",
        )
        assert json.loads(data.attrs["manifest"])["seed"] == 3


def test_truth_has_an_axis_and_a_name_of_its_own(run: Path) -> None:
    found = export.variables(run)
    truth = [v for v in found if v.name.startswith("truth")]
    assert {v.axes[0] for v in truth} == {"truth"}
    assert not [v for v in found if "truth" in v.axes and not v.name.startswith("truth")]


def test_hdf5_holds_the_same(run: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(export.export(run, "hdf5", tmp_path)) as file:
        expected = {v.name: v for v in export.variables(run)}
        assert set(file) == set(expected)
        for name, (_, axes, values) in expected.items():
            assert [dim.label for dim in file[name].dims] == list(axes)
            if values.dtype.kind == "U":
                assert [text.decode() for text in file[name][()]] == values.tolist()
            else:
                assert np.array_equal(file[name][()], values, equal_nan=values.dtype.kind == "f")


def test_csv_tables_hold_the_same(run: Path, notes: list[dict[str, object]], tmp_path: Path) -> None:
    folder = export.export(run, "csv", tmp_path)

    def rows(name: str) -> list[dict[str, str]]:
        with (folder / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    assert [float(row["epoch_error"]) for row in rows("epoch")] == [note["error"] for note in notes]
    cells = rows("epoch_conductance_s")
    assert len(cells) == 6 * 16
    last = np.array([float(row["epoch_conductance_s"]) for row in cells]).reshape(6, 4, 4)[-1]
    assert np.array_equal(last, np.asarray(notes[-1]["conductance_s"]))
    about = {row["name"]: row["value"] for row in rows("run")}
    assert about["protocol"] == "manhattan"
    assert about["result_converged"] == "False"
    assert [row["step_kind"] for row in rows("step")].count("apply") == 6


def test_axes_of_unequal_length_do_not_collide() -> None:
    made = export._with_equal_axes(
        [
            export.Variable(n, ("row", "col"), np.zeros(shape))
            for n, shape in (("a", (2, 3)), ("b", (2, 4)), ("c", (2, 4)))
        ]
    )
    assert [v.axes for v in made] == [("row", "col"), ("row", "col_4"), ("row", "col_4")]


def test_words_and_tables_within_tables_are_exported(tmp_path: Path) -> None:
    asked = request("stdp-window", settings=["repeats=1", "devices=1"])
    path, _ = launch.launch(prepare(asked), tmp_path)
    found = {v.name: v for v in export.variables(path)}
    assert found["point_kind"].values.tolist().count("lone_pre") == len(found["result_controls_lone_pre_s"].values) == 1
    with RunFile.open(path) as file:
        assert file.result is not None
        fit = file.result["fit"]
    assert found["result_fit_a_plus"].values == fit["a_plus"]
    assert found["result_fit_intervals_a_plus"].values.tolist() == list(fit["intervals"]["a_plus"])
    assert "mean device" in str(export.attributes(path)["result_theory_said"])
    for to in export.WRITERS:
        assert export.export(path, to, tmp_path).exists()


def test_every_spike_is_exported_with_the_note_that_it_is_of(tmp_path: Path) -> None:
    path, _ = launch.launch(prepare(request("coincidence", settings=["presentations=5"])), tmp_path)
    found = {v.name: v.values for v in export.variables(path)}
    with RunFile.open(path) as file:
        noted = [note.value for note in file.notes("spikes")]
    assert len({len(one["tick"]) for one in noted}) > 1, "lists of different lengths"
    assert found["spikes_layer"].tolist() == [one["layer"] for one in noted]
    for n, one in enumerate(noted):
        mine = found["spikes_tick_note"] == n
        assert found["spikes_tick"][mine].tolist() == list(one["tick"])
        assert found["spikes_neuron"][mine].tolist() == list(one["neuron"])


def test_an_export_that_is_broken_off_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an export would look like a whole one; one that was there before stays as it was."""
    before = export.export(run, "csv", tmp_path)
    tables = {table.name: table.read_bytes() for table in before.iterdir()}

    def torn(path: Path, *_: object) -> None:
        path.mkdir()
        (path / "run.csv").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setitem(export.WRITERS, "csv", torn)
    with pytest.raises(KeyboardInterrupt):
        export.export(run, "csv", tmp_path)
    assert {table.name: table.read_bytes() for table in before.iterdir()} == tables
    assert list(tmp_path.iterdir()) == [before]


@pytest.mark.parametrize(("to", "module"), [("hdf5", "h5py"), ("netcdf", "xarray"), ("netcdf", "h5netcdf")])
def test_a_missing_extra_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"neurobench-hil\[export\]"):
        export.export(run, to, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["csv", "hdf5", "netcdf"])
def test_a_folder_that_cannot_be_written(run: Path, tmp_path: Path, to: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--out"):
        export.export(run, to, tmp_path / "file")
