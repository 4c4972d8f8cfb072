"""A run as CSV, HDF5 or netCDF, for other programs: notes over their index, the result, every step, the truth.

All three formats hold the same variables under the same names, with units in the names (`_s` siemens or seconds, `_v`,
`_a`, `_j`). The hidden truth of an emulated chip has names that begin with `truth_` and an axis of its own.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.crossbar import Applied, Reading
from neurobench.errors import UsageError
from neurobench.runs.library import plain, report, run_id
from neurobench.runs.runfile import Entry, NoteRow, RunFile
from neurobench.system import interrupted_by_signals

EXTRA = "HDF5 and netCDF need an extra: pip install 'neurobench-hil[export]'"
AXES: Mapping[str, tuple[str, ...]] = {
    "conductance_s": ("row", "col"), "pulses": ("row", "col"), "activations": ("pattern", "neuron"),
    "targets": ("pattern", "neuron"), "weights": ("input", "neuron"), "weight_s": ("input", "neuron"),
}  # fmt: skip
STEP_COLUMNS = ("seq", "kind", "settled", "t_unix_s", "start_s", "end_s", "pulses", "shots", "energy_j")


class Variable(NamedTuple):
    """One array of a run with the names of its axes; axes of the same name have the same length in all variables."""

    name: str
    axes: tuple[str, ...]
    values: NDArray[Any]


def export(run: Path, to: str, folder: Path) -> Path:
    """Write the run into `folder`: a folder of CSV files, or one .h5 or .nc file. Returns its path.

    Errors: UsageError without the extra that the format needs, or where the folder cannot be written.
    """
    path = folder / f"{run_id(run)}{ENDINGS[to]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with interrupted_by_signals(), tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=folder) as making:
            made = Path(making) / path.name
            WRITERS[to](made, variables(run), attributes(run))
            _put(made, path)
    except ImportError as error:
        raise UsageError(EXTRA) from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose a folder with --out") from error
    return path


def _put(made: Path, path: Path) -> None:
    """Have it under its name once all of it is written: half an export looks like a whole one."""
    if not made.is_dir():
        made.replace(path)
        return
    path.mkdir(exist_ok=True)
    for table in sorted(made.iterdir()):
        table.replace(path / table.name)


def attributes(run: Path) -> dict[str, str | int | float]:
    """What is said once about the run: every single value of its report, and all of its settings as JSON."""
    said = report(run)
    with RunFile.open(run) as file:
        manifest = {name: value for name, value in file.manifest.items() if not isinstance(value, bytes)}
    single = {name: value for name, value in said.items() if isinstance(value, str | int | float)}
    words = {f"result_{name}": value for name, value in _flat(said["result"] or {}) if isinstance(value, str)}
    numbers = {name: int(value) if isinstance(value, bool) else value for name, value in {**single, **words}.items()}
    return {**numbers, "manifest": json.dumps(plain(manifest))}


def variables(run: Path) -> list[Variable]:
    """Everything numeric that the run recorded."""
    with RunFile.open(run) as file:
        notes, result = file.notes(), file.result or {}
        steps, truth = [_step(entry) for entry in file.entries()], list(file.truth())
    found = [*_noted(notes), *_results(result), *_steps(steps)]
    if truth:
        grids = np.array([grid for _, grid in truth])
        found.append(Variable("truth_conductance_s", ("truth", "row", "col"), grids))
        found.append(Variable("truth_seq", ("truth",), np.array([seq for seq, _ in truth])))
    return _with_equal_axes(found)


def _noted(notes: Sequence[NoteRow]) -> Iterator[Variable]:
    """Each note's name is an axis; a note that is a table of values gives one variable for each of them."""
    for name in dict.fromkeys(note.name for note in notes):
        rows = [(note.seq, note.value) for note in notes if note.name == name]
        yield Variable(f"{name}_seq", (name,), np.array([seq for seq, _ in rows]))
        if all(isinstance(value, Mapping) for _, value in rows):
            for key in dict.fromkeys(key for _, value in rows for key in value):
                yield from _stacked(name, f"{name}_{key}", key, [value.get(key) for _, value in rows])
        else:
            yield from _stacked(name, name, name, [value for _, value in rows])


def _stacked(axis: str, name: str, key: str, values: Sequence[Any]) -> Iterator[Variable]:
    """Values over their axis, where they are numbers of one shape, or words; what was not noted is nan or "" there.

    Lists of different lengths, such as spikes, become one long list, and `.._note` says which note each value is of.
    """
    arrays = [None if value is None else np.asarray(value) for value in values]
    known = [array for array in arrays if array is not None]
    words = bool(known) and all(a.dtype.kind == "U" and not a.shape for a in known)
    if not known or not (words or all(a.dtype.kind in "biuf" for a in known)):
        return
    if any(a.shape != known[0].shape for a in known):
        if all(a.ndim == 1 for a in known):
            yield from _joined(axis, name, arrays)
        return
    gap = np.array("") if words else np.full(known[0].shape, np.nan)
    stack = np.array([gap if array is None else array for array in arrays])
    yield Variable(name, (axis, *_axes(key, stack.shape[1:])), stack)


def _joined(axis: str, name: str, lists: Sequence[NDArray[Any] | None]) -> Iterator[Variable]:
    held = [(n, one) for n, one in enumerate(lists) if one is not None]
    yield Variable(name, (f"{axis}_values",), np.concatenate([one for _, one in held]))
    yield Variable(f"{name}_note", (f"{axis}_values",), np.repeat([n for n, _ in held], [len(one) for _, one in held]))


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of a table; those of tables within it by both names."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}_")
        else:
            yield f"{before}{key}", value


def _axes(key: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    named = AXES.get(key, ())
    return named if len(named) == len(shape) else tuple(f"{key}_{n}" for n in range(len(shape)))


def _results(result: Mapping[str, Any]) -> Iterator[Variable]:
    for key, value in _flat(result):
        array = np.asarray(value if value is not None else np.nan)
        if array.dtype.kind in "biuf":
            yield Variable(f"result_{key}", _axes(key, array.shape), array)


def _step(entry: Entry) -> tuple[Any, ...]:
    answer = entry.answer
    head = (entry.seq, entry.kind, entry.settled.name.lower(), entry.t)
    if isinstance(answer, Applied):
        return (*head, answer.start_s, answer.end_s, answer.pulses, answer.shots_done, answer.energy_j)
    if isinstance(answer, Reading):
        return (*head, answer.start_s, answer.end_s, 0, 0, answer.energy_j)
    return (*head, np.nan, np.nan, 0, 0, np.nan)


def _steps(rows: Sequence[tuple[Any, ...]]) -> Iterator[Variable]:
    for n, column in enumerate(STEP_COLUMNS if rows else ()):
        yield Variable(f"step_{column}", ("step",), np.array([row[n] for row in rows]))


def _with_equal_axes(found: Iterable[Variable]) -> list[Variable]:
    """An axis has one length in one file: where a variable's differs, it gets an axis of its own."""
    lengths: dict[str, int] = {}
    made = []
    for name, axes, values in found:
        own = tuple(
            axis if lengths.setdefault(axis, size) == size else f"{axis}_{size}"
            for axis, size in zip(axes, values.shape, strict=True)
        )
        lengths |= dict(zip(own, values.shape, strict=True))
        made.append(Variable(name, own, values))
    return made


# ---------------------------------------------------------------------------------------------- the formats


def _csv(folder: Path, found: Sequence[Variable], about: Mapping[str, Any]) -> None:
    """run.csv (name, value), then for each axis a table of its single values, and a long table for each grid."""
    folder.mkdir(exist_ok=True)
    scalars = [(v.name, v.values.item()) for v in found if not v.axes]
    _table(folder / "run.csv", ("name", "value"), [*about.items(), *scalars])
    for axis in dict.fromkeys(v.axes[0] for v in found if len(v.axes) == 1):
        columns = [v for v in found if v.axes == (axis,)]
        rows = zip(*(v.values.tolist() for v in columns), strict=True)
        _table(folder / f"{axis}.csv", tuple(v.name for v in columns), rows)
    for grid in (v for v in found if len(v.axes) > 1):
        cells = ((*index, value) for index, value in np.ndenumerate(grid.values))
        _table(folder / f"{grid.name}.csv", (*grid.axes, grid.name), cells)


def _table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _hdf5(path: Path, found: Sequence[Variable], about: Mapping[str, Any]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update(about)
        for name, axes, values in found:
            data = values.astype(object) if values.dtype.kind == "U" else values
            kind = h5py.string_dtype() if values.dtype.kind == "U" else None
            stored = file.create_dataset(name, data=data, dtype=kind)
            for n, axis in enumerate(axes):
                stored.dims[n].label = axis


def _netcdf(path: Path, found: Sequence[Variable], about: Mapping[str, Any]) -> None:
    import h5netcdf  # noqa: F401 - asked for here, so that its absence is said before anything is written
    import xarray

    # An axis and a variable of one name would make it a coordinate, which has to have one dimension.
    axes = {axis for v in found for axis in v.axes}
    names = {v.name: f"{v.name}_values" if v.name in axes else v.name for v in found}
    values = {
        names[v.name]: (v.axes, v.values.astype(np.int8) if v.values.dtype.kind == "b" else v.values) for v in found
    }
    xarray.Dataset(values, attrs=dict(about)).to_netcdf(path, engine="h5netcdf")


ENDINGS = {"csv": "-csv", "hdf5": ".h5", "netcdf": ".nc"}
WRITERS = {"csv": _csv, "hdf5": _hdf5, "netcdf": _netcdf}
