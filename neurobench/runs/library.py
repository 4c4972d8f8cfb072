"""The folder of runs: find one by id, list them, say what one did, compare some. Reads run files, changes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurobench import registry
from neurobench.bench.config import bench_names, load_bench
from neurobench.bench.crossbar import Applied
from neurobench.errors import NeurobenchError, UnknownName, UsageError, unknown
from neurobench.runs import sweep
from neurobench.runs.runfile import SUFFIX, RunFile, jsonable

NUMBERLESS = {"nan", "inf", "-inf"}  # how a run file writes what JSON has no number for


def plain(value: Any) -> Any:
    """A value as JSON has it: arrays as lists, what is no number as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Path):
        return str(value)
    return plain(value.tolist()) if hasattr(value, "tolist") else plain(jsonable(value))


def is_sweep(path: Path) -> bool:
    """Whether a file is a sweep, by its name."""
    return path.name.endswith(sweep.SUFFIX)


def files(folder: Path) -> list[Path]:
    """Run and sweep files of a folder, the oldest first; ids begin with their time."""
    if not folder.is_dir():
        return []
    return sorted([*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*{sweep.SUFFIX}")], key=_age)


def _age(path: Path) -> tuple[float, str]:
    try:
        return path.stat().st_mtime, path.name
    except OSError:  # it went away while we looked
        return 0.0, path.name


def find(name: str, folder: Path) -> Path:
    """The run that `name` means: a file, an id, the only id that begins or ends so, or `last`.

    Errors: UnknownName with the nearest ids, or naming the ids that all fit.
    """
    path = Path(name)
    if path.suffix and path.is_file():
        return path
    known = {run_id(file): file for file in files(folder)}
    if name == "last" and known:
        return list(known.values())[-1]
    if name in known:
        return known[name]
    fitting = [found for found in known if found.startswith(name) or found.endswith(name)]
    if len(fitting) == 1:
        return known[fitting[0]]
    if fitting:
        raise UnknownName(f"{name!r} fits {len(fitting)} runs: {', '.join(sorted(fitting)[:5])}; give more of the id")
    if not known:
        raise UnknownName(f"no run {name!r}; {folder} holds no runs (choose the folder with --in)")
    raise UnknownName(unknown("run", name, known, f"searched {folder}; choose the folder with --in"))


def run_id(path: Path) -> str:
    """Id of a run or a sweep: its file name without the ending."""
    return path.name.removesuffix(sweep.SUFFIX).removesuffix(SUFFIX)


# ---------------------------------------------------------------------------------------------- one run


def report(path: Path) -> dict[str, Any]:
    """What a run did, as the one JSON object of `--json`; its keys are described in docs/cli.md."""
    with RunFile.open(path) as run:
        manifest, result, status = run.manifest, run.result, run.status
        basis = energy_basis(run)
        if "pulses" not in manifest:
            manifest = {**manifest, **so_far(run)}
    return {
        "run_id": run_id(path),
        "run_file": str(path),
        "protocol": protocol_name(manifest),
        "bench": manifest.get("bench"),
        "seed": manifest.get("seed"),
        "simulated": manifest.get("simulated"),
        "status": status,
        "stopped": bool(manifest.get("stopped", False)),
        "result": plain(result),
        "pulses": manifest["pulses"],
        "energy_j": number(manifest.get("energy_j")),
        "energy_basis": basis,
        "wall_s": number(manifest.get("wall_s")),
        "harm": manifest.get("harm", []),
        "error": manifest.get("error"),
    }


def so_far(run: RunFile) -> dict[str, Any]:
    """Pulses and energy of a run that has not ended, or could not say its last words: counted from its journal."""
    from neurobench.runs.runner import Totals

    totals = Totals()
    for entry in run.entries():
        totals.add(entry.answer)
    return {"pulses": totals.pulses, "energy_j": totals.energy_j}


def protocol_name(manifest: Mapping[str, Any]) -> str | None:
    """Name of a run's protocol: as it was asked for, else the module that it came from."""
    asked = manifest.get("request")
    if asked:
        return str(asked["protocol"])
    kind = manifest.get("protocol", {}).get("class", "")
    return kind.partition(":")[0].rpartition(".")[2].replace("_", "-") or None


def number(value: Any) -> Any:
    """A number of a manifest, None where it holds none."""
    return None if value in NUMBERLESS else plain(value)


def energy_basis(run: RunFile) -> str:
    """What the energy of the pulses rests on; one of a run's pulses says it for all."""
    for entry in run.entries():
        if isinstance(answer := entry.answer if entry.kind == "apply" else None, Applied):
            return answer.energy_basis
    return "unknown"


def exit_code(path: Path) -> int:
    """What the command line ends with after this run."""
    with RunFile.open(path) as run:
        return code_of(run.status, run.value("exit_code", 0))


def code_of(status: str, recorded: int = 0) -> int:
    """Exit code of a status. A fault ends with the code of its error; one that has none is a mistake in a program."""
    known = {"finished": 0, "not_converged": 1, "aborted": 130}
    if status in known:
        return known[status]
    return recorded if recorded > 1 else 70 if recorded == 1 else 4


# ---------------------------------------------------------------------------------------------- many runs


@dataclass(frozen=True)
class Row:
    """One line of the list of runs. `converged` and `updates` are None where a protocol does not say.

    `stopped`: it was ended in order before it had done all that it was asked; it can go on.
    """

    run_id: str
    kind: str
    protocol: str
    bench: str
    status: str
    converged: bool | None
    updates: int | None
    seed: int | str | None
    created: str
    simulated: bool | None
    file: str
    stopped: bool = False


def rows(folder: Path, *, converged: bool | None = None, protocol: str | None = None) -> list[Row]:
    """Runs and sweeps of a folder, the oldest first: of one protocol, and only those that have (not) converged.

    A file that cannot be read is listed with its error as status, and never hides the others.
    """
    found = (row(path) for path in files(folder))
    return [one for one in found if _wanted(one, converged, protocol)]


def _wanted(one: Row, converged: bool | None, protocol: str | None) -> bool:
    return (converged is None or one.converged is converged) and (protocol is None or one.protocol == protocol)


def row(path: Path) -> Row:
    """The line of one file."""
    try:
        return _sweep_row(path) if is_sweep(path) else _run_row(path)
    except NeurobenchError as error:
        return Row(run_id(path), "damaged", "", "", str(error), None, None, None, "", None, str(path))


def _run_row(path: Path) -> Row:
    with RunFile.open(path) as run:
        manifest, result, status = run.manifest, run.result or {}, run.status
    converged = result.get("converged", manifest.get("reached"))
    return Row(
        run_id(path), "run", protocol_name(manifest) or "", str(manifest.get("bench", "")), status,
        None if converged is None else bool(converged), result.get("updates"), manifest.get("seed"),
        str(manifest.get("created", "")), manifest.get("simulated"), str(path), bool(manifest.get("stopped", False)),
    )  # fmt: skip


def _sweep_row(path: Path) -> Row:
    found = sweep.load(path)
    head, reached = found.head, sum(chip.reached for chip in found.chips)
    left = f", {len(found.missing)} to go" if found.missing else ""
    return Row(
        run_id(path), "sweep", head.request.protocol, head.request.bench, f"{reached} of {len(found.chips)}{left}",
        None, None, f"{head.first_seed}:{head.end_seed}", head.started, True, str(path),
    )  # fmt: skip


def compare(paths: Iterable[Path]) -> dict[str, Any]:
    """What differs between runs: settings with a value for each run, and their results side by side.

    `settings` holds only what is not the same in all, by dotted names; `same` counts the others.
    """
    reports = {run_id(path): (report(path), flat_settings(path)) for path in paths}
    if len(reports) < 2:
        raise UsageError("compare needs at least two different runs")
    names = sorted({name for _, settings in reports.values() for name in settings})
    table = {name: {run: plain(settings.get(name)) for run, (_, settings) in reports.items()} for name in names}
    differing = {name: values for name, values in table.items() if len({str(v) for v in values.values()}) > 1}
    return {
        "runs": list(reports),
        "settings": differing,
        "same": len(table) - len(differing),
        "results": {run: _outline(said) for run, (said, _) in reports.items()},
    }


def _outline(said: Mapping[str, Any]) -> dict[str, Any]:
    """Status, cost, and every single number or word of the result; grids are left to `export`."""
    result = said["result"] or {}
    single = {name: value for name, value in result.items() if value is None or isinstance(value, str | int | float)}
    return {name: said[name] for name in ("status", "simulated", "pulses", "energy_j", "wall_s")} | single


def flat_settings(path: Path) -> dict[str, Any]:
    """Everything that was set for a run, by dotted names: protocol parameters, bench, limits, device, seed."""
    with RunFile.open(path) as run:
        manifest = run.manifest
    kept = {name: manifest[name] for name in SETTINGS if name in manifest}
    return dict(_flat(kept, ""))


SETTINGS = (
    "protocol",
    "parameters",
    "bench",
    "bench_config",
    "config",
    "seed",
    "limits",
    "device",
    "versions",
    "request",
)


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif not isinstance(value, bytes):
        yield prefix, value


def as_dict(one: Row) -> dict[str, Any]:
    """A row for `--json`."""
    return asdict(one)


# ---------------------------------------------------------------------------------------------- what there is besides

COLUMNS = {
    "runs": ("run_id", "kind", "protocol", "bench", "status", "updates", "seed", "simulated"),
    "protocols": ("name", "summary", "source"),
    "devices": ("name", "title", "model", "source"),
    "benches": ("name", "backend", "summary"),
    "instruments": ("name", "roles", "summary", "simulated"),
}


def catalogue(kind: str) -> list[dict[str, Any]]:
    """Protocols, devices or benches that can be named; one that is broken is listed with its error."""
    return {"protocols": _protocols, "devices": _devices, "benches": _benches,
            "instruments": _instruments}[kind]()  # fmt: skip


def _protocols() -> list[dict[str, Any]]:
    found = registry.check("protocols").values()
    return [{"name": p.name, "summary": p.error or p.summary, "source": p.source, "error": p.error} for p in found]


def _devices() -> list[dict[str, Any]]:
    from neurobench.physics import library as devices  # half a second, which a list of runs need not wait for

    return [{"name": c.name, "title": c.title, "model": c.model, "source": c.source} for c in devices.cards()]


def _instruments() -> list[dict[str, Any]]:
    """Models that a bench file can name, and whether each can also be simulated."""
    simulated = registry.find("sim_instruments")
    return [
        {"name": p.name, "roles": [] if p.error else roles_of(p.name), "summary": p.error or p.summary,
         "simulated": p.name in simulated, "error": p.error}
        for p in registry.check("instruments").values()
    ]  # fmt: skip


def roles_of(model: str) -> list[str]:
    """In which roles an instrument can serve, as its driver says."""
    roles: Any = getattr(registry.load("instruments", model), "roles", list)
    return list(roles())


def _benches() -> list[dict[str, Any]]:
    return [_bench(name) for name in bench_names()]


def _bench(name: str) -> dict[str, Any]:
    config = load_bench(name)
    chip = config.chip
    return {
        "name": name,
        "backend": config.bench.backend,
        "summary": f"{chip.rows} x {chip.cols} {chip.model}, up to {config.limits.max_cell_v:g} V at a cell",
    }


# ---------------------------------------------------------------------------------------------- while it goes on


def follow(path: Path, hear: Callable[[str, Any], None], every_s: float = 1 / 30) -> None:
    """Tell every note of a run, as they are written, until nobody writes the file any more.

    It only reads: the run is not held up, and does not notice when the watcher goes.
    """
    seen = -1
    with RunFile.open(path) as run:
        while True:
            going_on = run.live  # asked before the notes, so that the last ones are not missed
            for note in run.notes(None, seen):
                seen = note.seq
                hear(note.name, note.value)
            if not going_on:
                return
            time.sleep(every_s)


def background(path: Path) -> dict[str, Any]:
    """What a run was asked to do and where: for `show`, besides the report."""
    with RunFile.open(path) as run:
        manifest = run.manifest
    kind = manifest.get("protocol") or {}
    return {
        "created": manifest.get("created"),
        "command": manifest.get("command"),
        "parameters": kind.get("parameters", {}),
        "chip": manifest.get("chip_id"),
        "limits": manifest.get("limits"),
        "multiply": manifest.get("multiply"),
        "machine": manifest.get("machine"),
    }
