"""The command line: thin commands over the core, each importing what it needs when it runs.

`neurobench --help` imports no numpy, so everything heavy stands inside the functions. Every command ends in a
`Said`: an exit code, one JSON object for `--json`, and what a person reads.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from neurobench.errors import Aborted, NeurobenchError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

OK, NOT_REACHED, USAGE, REFUSED, FAULT, INTERRUPTED, BUG = 0, 1, 2, 3, 4, 130, 70

EXIT_CODES = {
    OK: "reached its goal",
    NOT_REACHED: "ran, but did not reach its goal",
    USAGE: "usage: the request is wrong; nothing was done",
    REFUSED: "refused by a limit, a capability or the disk; nothing was done",
    FAULT: "an instrument or a link failed",
    INTERRUPTED: "interrupted; outputs are off",
    BUG: "a mistake in neurobench itself; please report it",
}

app = typer.Typer(
    name="neurobench",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="A bench on which memristor crossbars are characterised, trained and emulated.",
)
bench_app = typer.Typer(name="bench", help="Bench files.", no_args_is_help=True)
app.add_typer(bench_app, rich_help_panel="Bench and devices")
waveform_app = typer.Typer(name="waveform", help="Waveforms of pulse schemes.", no_args_is_help=True)
app.add_typer(waveform_app, rich_help_panel="Look")

# ---------------------------------------------------------------------------------------------- what all share

ProtocolArg = Annotated[str, typer.Argument(metavar="PROTOCOL", help="A protocol by name, or a recipe (.toml).")]
BenchOpt = Annotated[str | None, typer.Option("--bench", "-b", help="A bench by name, or a bench.toml.  [emulator]")]
BenchArg = Annotated[str, typer.Argument(metavar="BENCH", help="A bench by name, or a bench.toml.")]
SetOpt = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="A protocol parameter.")]
BenchSetOpt = Annotated[
    list[str] | None, typer.Option("--bench-set", metavar="SECTION.KEY=VALUE", help="Overrides the bench file.")
]
SeedOpt = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the run and of an emulated chip.  [0]")]
OutOpt = Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run files.  [runs]")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
RunArg = Annotated[str, typer.Argument(metavar="RUN", help="A run: id, start of an id, file, or `last`.")]
FolderOpt = Annotated[Path | None, typer.Option("--in", help="Folder of the run files.  [runs]")]


@dataclass(frozen=True)
class Said:
    """What a command says at its end: the exit code, the JSON object, and how to show it to a person."""

    code: int
    data: dict[str, Any]
    show: Callable[[Console], None]


def _say(said: Said, as_json: bool) -> NoReturn:
    """Print what was asked for, JSON or text, and end the command."""
    if as_json:
        _print_json(said.data)
    else:
        said.show(_console())
    raise typer.Exit(said.code)


def _print_json(data: dict[str, Any]) -> None:
    import json

    from neurobench.runs.library import plain

    sys.stdout.write(json.dumps(plain(data), allow_nan=False) + "\n")
    sys.stdout.flush()


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    # A file or a pipe has no width: what a line holds must not depend on the terminal behind it.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def _nobody_looks(_done: int, _text: str) -> None:
    pass


@contextlib.contextmanager
def _progress(title: str, total: int | None, quiet: bool) -> Iterator[Callable[[int, str], None]]:
    """A bar with the time left on stderr; the block calls it with (done, text). Silent where nobody looks."""
    console = _console(stderr=True)
    if quiet or not console.is_terminal:
        yield _nobody_looks
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, text="")
        yield lambda done, text: bar.update(task, completed=done, text=text)


def _request(
    protocol: str, bench: str | None, settings: list[str] | None, bench_settings: list[str] | None, seed: int | None
) -> Any:
    from neurobench.runs.request import request

    return request(protocol, bench=bench, settings=settings or (), bench_settings=bench_settings or (), seed=seed)


def _folder(folder: Path | None) -> Path:
    from neurobench.system import runs_folder

    return folder or runs_folder()


def _found(run: str, folder: Path | None) -> Path:
    from neurobench.runs.library import find

    return find(run, _folder(folder))


# ---------------------------------------------------------------------------------------------- doing

DOING, LOOKING, BENCHES = "Do", "Look", "Bench and devices"


@app.command(rich_help_panel=DOING)
def run(
    protocol: ProtocolArg,
    bench: BenchOpt = None,
    settings: SetOpt = None,
    bench_settings: BenchSetOpt = None,
    seed: SeedOpt = None,
    out: OutOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Run a protocol on a bench and record it in a run file."""
    from neurobench.runs import launch, screen
    from neurobench.runs.request import prepare

    prepared = prepare(_request(protocol, bench, settings, bench_settings, seed))
    with _progress(launch.title(prepared), launch.updates(prepared), as_json) as step:
        path, error = launch.launch(prepared, out, screen.stepper(step))
    _say_run(path, error, as_json)


def _say_run(path: Path, error: BaseException | None, as_json: bool) -> NoReturn:
    """Say how a run ended, from its file; the outcome's error only where the file could not take it."""
    from neurobench.runs import library, screen

    said = library.report(path)
    if error is not None and said["error"] is None:
        said |= {"status": "fault", "error": f"{type(error).__name__}: {error}"}
    code = library.code_of(said["status"], getattr(error, "exit_code", 1))
    _say(Said(code, said, lambda console: screen.run_ended(console, said)), as_json)


@app.command(rich_help_panel=DOING)
def demo(
    out: OutOpt = None,
    seed: SeedOpt = None,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as it goes, not slowed down to be watched.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Watch two emulated memristor crossbars learn; writes the run files and their figures."""
    from neurobench.runs import library, screen

    console = _console(stderr=as_json)
    acts, code = [], OK
    for title, settings in ACTS:
        asked = _request("manhattan", None, settings, None, seed)
        path, error = _shown_live(console, title, asked, out, slowly=console.is_terminal and not fast)
        acts.append(library.report(path) | {"figures": _figures(path)})
        code = max(code, library.code_of(acts[-1]["status"], getattr(error, "exit_code", 1)))
        if code == INTERRUPTED:
            break
    said = acts[-1] | {"first_run_id": acts[0]["run_id"]}
    _say(Said(code, said, lambda console: screen.lesson(console, acts)), as_json)


# The bundled device learns in a step or two, its first pulse being its largest; the second act takes its time.
ACTS: tuple[tuple[str, list[str]], ...] = (
    ("1 of 2: six 4-bit patterns on a 4 x 4 chip of a measured spintronic device (emulated)", []),
    ("2 of 2: thirty noisy letters on 10 x 6 cells of a measured metal-oxide device (emulated)", ["task=letters"]),
)


def _shown_live(
    console: Console, title: str, asked: Any, out: Path | None, *, slowly: bool
) -> tuple[Path, BaseException | None]:
    from neurobench.runs import launch, screen
    from neurobench.runs.request import prepare

    if not console.is_terminal:
        console.print(title)
        return launch.launch(prepare(asked), out, screen.lines(console))
    live, watch = screen.live(console, title, screen.PACE_S if slowly else 0.0)
    with live:
        return launch.launch(prepare(asked), out, watch)


def _figures(path: Path) -> str:
    """Draw the figures beside the run file where matplotlib is installed, and say where."""
    from neurobench.runs import figures

    try:
        figures.draw(path, path.with_suffix(""))
    except UsageError:
        return ""
    return str(path.with_suffix(""))


@app.command(rich_help_panel=DOING)
def preview(
    protocol: ProtocolArg,
    bench: BenchOpt = None,
    settings: SetOpt = None,
    bench_settings: BenchSetOpt = None,
    seed: SeedOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Say what a run would do, without touching the chip: needs, preflight, pulses, time, energy, volts."""
    from neurobench.runs import preview as previews
    from neurobench.runs import screen

    found = previews.preview(_request(protocol, bench, settings, bench_settings, seed))
    _say(Said(OK, found, lambda console: screen.table(console, found)), as_json)


@app.command(rich_help_panel=DOING)
def sweep(
    protocol: ProtocolArg,
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="FIRST:END", help="Seeds; the end is not included.")
    ] = "0:100",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes.  [one for each core]")] = None,
    bench: BenchOpt = None,
    settings: SetOpt = None,
    bench_settings: BenchSetOpt = None,
    out: OutOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Run a protocol on many emulated chips, one for each seed, and give the rate with its interval."""
    from neurobench.runs import sweep as sweeps

    path = sweeps.create(
        _request(protocol, bench, settings, bench_settings, None), sweeps.parse_seeds(seeds), _folder(out)
    )
    _sweep(path, workers, as_json)


def _sweep(path: Path, workers: int | None, as_json: bool) -> NoReturn:
    from neurobench.runs import screen
    from neurobench.runs import sweep as sweeps

    head = sweeps.load(path).head
    with _progress(f"{len(head.seeds)} chips", len(head.seeds), as_json) as step:
        found, status = sweeps.go(
            path, workers, lambda done, reached: step(done, f"{reached} of {done} reached the goal")
        )
    said = sweeps.report(found, status)
    code = {"finished": OK, "aborted": INTERRUPTED}[status]
    _say(Said(code, said, lambda console: screen.sweep_ended(console, said)), as_json)


@app.command(rich_help_panel=DOING)
def resume(
    run: RunArg,
    folder: FolderOpt = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes, for a sweep.")] = None,
    accept_doubt: Annotated[bool, typer.Option(help="Go on although nobody knows whether a pulse was fired.")] = False,
    accept_baseline: Annotated[bool, typer.Option(help="Go on although cells have moved since the record.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Go on with a run or a sweep that was interrupted; no pulse is fired twice."""
    from neurobench.runs import launch, library, screen

    path = _found(run, folder)
    if library.is_sweep(path):
        _sweep(path, workers, as_json)
    with _progress(f"resuming {path.stem}", None, as_json) as step:
        error = launch.resume(path, screen.stepper(step), accept_doubt=accept_doubt, accept_baseline=accept_baseline)
    _say_run(path, error, as_json)


@app.command(rich_help_panel=DOING)
def settle(run: RunArg, folder: FolderOpt = None, as_json: JsonOpt = False) -> None:
    """Ask what became of the pulse under way when a run was cut off, book the run, free the chip. Sends no volts."""
    from neurobench.runs import launch, screen

    found = launch.settle(_found(run, folder))
    code = FAULT if found["outcome"] == "unknown" else OK
    _say(Said(code, found, lambda console: screen.table(console, found)), as_json)


class Look(StrEnum):
    """Colours of the window."""

    DARK = "dark"
    LIGHT = "light"
    SYSTEM = "system"


@app.command(rich_help_panel=DOING)
def gui(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run to show: id, start of an id, file.")] = None,
    bench: BenchOpt = None,
    theme: Annotated[Look | None, typer.Option("--theme", help="Colours, for this once.  [as kept]")] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", min=1.0, max=2.0, help="Size of the text, for this once.  [as kept]")
    ] = None,
    folder: FolderOpt = None,
) -> None:
    """Open the window: choose, run and watch, on an emulated chip or on a bench."""
    from neurobench import registry

    path = None if run is None else _found(run, folder)
    look = None if theme is None else theme.value
    raise typer.Exit(registry.window().main(path, bench or "emulator", look, scale, _folder(folder)))


# ---------------------------------------------------------------------------------------------- looking


class Kind(StrEnum):
    """What can be listed."""

    RUNS = "runs"
    PROTOCOLS = "protocols"
    DEVICES = "devices"
    BENCHES = "benches"
    INSTRUMENTS = "instruments"


@app.command("list", rich_help_panel=LOOKING)
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    converged: Annotated[bool | None, typer.Option("--converged/--not-converged", help="Only such runs.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="Only runs of this protocol.")] = None,
    folder: FolderOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """List runs, protocols, devices, benches or instruments."""
    from neurobench.runs import library, screen

    if kind is Kind.RUNS:
        rows = [library.as_dict(row) for row in library.rows(_folder(folder), converged=converged, protocol=protocol)]
        none = f"no such runs in {_folder(folder)}; begin with: neurobench demo"
    elif converged is not None or protocol is not None or folder is not None:
        raise UsageError(f"--converged, --protocol and --in choose among runs; they mean nothing for {kind.value}")
    else:
        rows, none = library.catalogue(kind.value), f"no {kind.value}"
    columns = library.COLUMNS[kind.value]
    _say(Said(OK, {kind.value: rows}, lambda console: screen.listing(console, rows, columns, none)), as_json)


@app.command(rich_help_panel=LOOKING)
def show(run: RunArg, folder: FolderOpt = None, as_json: JsonOpt = False) -> None:
    """Say what a run or a sweep was asked to do and what came of it; for a sweep, how to run one chip again."""
    from neurobench.runs import library, screen
    from neurobench.runs import sweep as sweeps

    path = _found(run, folder)
    if library.is_sweep(path):
        found = sweeps.load(path)
        said = sweeps.report(found, "aborted" if found.missing else "finished")
        _say(Said(OK, said, lambda console: screen.sweep_ended(console, said)), as_json)
    said = library.report(path) | library.background(path)
    _say(Said(OK, said, lambda console: screen.run_shown(console, said)), as_json)


@app.command(rich_help_panel=LOOKING)
def watch(run: RunArg, folder: FolderOpt = None, as_json: JsonOpt = False) -> None:
    """Follow a run while it is going on, from its file; ends when the run ends."""
    from neurobench.runs import library, screen

    path = _found(run, folder)
    console = _console(stderr=as_json)
    if console.is_terminal:
        live, hear = screen.live(console, path.stem, 0.0)
        with live:
            library.follow(path, hear)
    else:
        library.follow(path, screen.lines(console))
    said = library.report(path)
    code = library.exit_code(path)
    _say(Said(code, said, lambda console: screen.run_ended(console, said)), as_json)


@app.command(rich_help_panel=LOOKING)
def plot(
    run: RunArg,
    names: Annotated[
        list[str] | None, typer.Option("--figure", "-f", help="Only this figure; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the figures.  [beside the run]")] = None,
    folder: FolderOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Draw the figures of a run as PNG files, from its run file alone."""
    from neurobench.runs import figures

    path = _found(run, folder)
    drawn = [str(file) for file in figures.draw(path, out or path.with_suffix(""), names or ())]
    data = {"run_file": str(path), "figures": drawn}
    _say(Said(OK, data, lambda console: console.print("\n".join(drawn) or "nothing to draw")), as_json)


class Format(StrEnum):
    """What a run can be exported to."""

    CSV = "csv"
    HDF5 = "hdf5"
    NETCDF = "netcdf"


@app.command(rich_help_panel=LOOKING)
def export(
    run: RunArg,
    to: Annotated[Format, typer.Option("--format", "-f", help="csv: a folder; hdf5, netcdf: one file.")] = Format.CSV,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write to.  [beside the run]")] = None,
    folder: FolderOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Export a run as CSV, HDF5 or netCDF."""
    from neurobench.runs import export as exports

    path = _found(run, folder)
    written = str(exports.export(path, to.value, out or path.parent))
    data = {"run_file": str(path), "format": to.value, "file": written}
    _say(Said(OK, data, lambda console: console.print(written)), as_json)


@app.command(rich_help_panel=LOOKING)
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two runs or more.")],
    folder: FolderOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Say what differs between runs: settings, and results side by side."""
    from neurobench.runs import library, screen

    said = library.compare([_found(run, folder) for run in runs])
    _say(Said(OK, said, lambda console: screen.compared(console, said)), as_json)


@waveform_app.command("preview")
def waveform_preview(
    scheme: Annotated[str, typer.Argument(metavar="SCHEME", help="A pulse scheme by its kind: docs/stdp.md.")],
    dt_s: Annotated[
        list[float] | None,
        typer.Option("--dt", metavar="SECONDS", help="t_post - t_pre; may be repeated.  [both signs]"),
    ] = None,
    bench: BenchOpt = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting of the scheme.")
    ] = None,
    bench_settings: BenchSetOpt = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FIGURE", help="Draw it into this file.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Say and draw what a pulse scheme would put on every line and every cell of a bench. Fires nothing."""
    from neurobench.runs import screen, waves

    found = waves.preview(scheme, dt_s or (), bench or "emulator", settings or (), bench_settings or ())
    found["figure"] = None if out is None else str(waves.draw(found, out))
    _say(Said(OK, found, lambda console: screen.waveforms_seen(console, found)), as_json)


# ---------------------------------------------------------------------------------------------- bench and devices


@app.command(rich_help_panel=BENCHES)
def check(
    bench: BenchArg = "emulator",
    bench_settings: BenchSetOpt = None,
    every: Annotated[bool, typer.Option("--list", help="Instead: list all instruments that answer.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Say who and what is on a bench and what it may do, read a cell, leave it at rest. Fires nothing."""
    from neurobench.runs import benches, screen

    if every:
        rows = benches.find_real() if bench == "emulator" else benches.find(bench, bench_settings or ())
        columns, none = ("resource", "answers", "model", "role", "why"), "nothing answers"
        _say(Said(OK, {"found": rows}, lambda console: screen.listing(console, rows, columns, none)), as_json)
    found = benches.check(bench, bench_settings or ())
    code = FAULT if "fault" in found else OK
    _say(Said(code, found, lambda console: screen.bench_checked(console, found)), as_json)


@app.command(rich_help_panel=BENCHES)
def rest(bench: BenchArg = "emulator", bench_settings: BenchSetOpt = None, as_json: JsonOpt = False) -> None:
    """Bring a bench to rest: outputs at 0 V, lines as its file says."""
    from neurobench.runs import benches

    found = benches.rest(bench, bench_settings or ())
    _say(Said(OK, found, lambda console: console.print(f"{found['bench']} is at rest")), as_json)


@app.command("sim-bench", rich_help_panel=BENCHES)
def sim_bench(
    tcp: Annotated[bool, typer.Option("--tcp", help="On sockets of this computer; so it is without --serial.")] = False,
    serial: Annotated[bool, typer.Option("--serial", help="On pseudo-terminals, as serial ports.")] = False,
    chip: Annotated[
        Path | None, typer.Option("--chip", metavar="FILE", help="Keeps the chip; without it the chip ends too.")
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="One of every model: the others on benches and chips of their own, SMUs on a cell."),
    ] = False,
    bench: Annotated[str | None, typer.Option("--bench", "-b", help="A simulated bench.  [visa-sim]")] = None,
    bench_settings: BenchSetOpt = None,
    seed: SeedOpt = None,
    port_base: Annotated[
        int, typer.Option("--port-base", min=0, max=65000, help="First port; 0: free ones are taken.")
    ] = 0,
    instant: Annotated[bool, typer.Option("--instant", help="What would block an instrument takes no time.")] = False,
) -> None:
    """Keep simulated instruments running for other programs; the first line says where, as JSON. Ctrl-C ends it."""
    from neurobench.runs import sim_bench as benches

    asked = benches.benches(bench, bench_settings or (), chip, every, instant)
    with benches.serving(asked, seed or 0, tcp=tcp or not serial, serial=serial, port_base=port_base) as (said, wait):
        _print_json(said)
        wait()


@bench_app.command("new")
def bench_new(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="BENCH.toml", help="The file to write.")] = Path(
        "bench.toml"
    ),
    library: Annotated[str, typer.Option("--library", help="pyvisa library, such as @py.  [pyvisa's choice]")] = "",
    as_json: JsonOpt = False,
) -> None:
    """Write a commented bench file from the instruments that answer."""
    from neurobench.runs import benches

    made = benches.new(out, library)
    words = ", ".join(f"{role} at {resource}" for role, resource in made["used"].items()) or "no instrument"
    _say(
        Said(OK, made, lambda console: console.print(f"{made['bench_file']}: {words} found; fill in the rest")), as_json
    )


@app.command("import-curve", rich_help_panel=BENCHES)
def import_curve(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|RUN", help="A curve (instrument log, CSV, Y-Flash text), or a measure-curve run."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="CURVE.toml", help="The device card to write.")],
    picture: Annotated[bool, typer.Option("--plot", help="Also draw the curve, beside the card.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name of the device.  [the file's]")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Who measured it: a citation.")] = None,
    amplitude_v: Annotated[float | None, typer.Option("--amplitude-v", help="Write pulse, in volts.")] = None,
    width_s: Annotated[float | None, typer.Option("--width-s", help="Write pulse, in seconds.")] = None,
    window_s: Annotated[
        tuple[float, float] | None, typer.Option("--window-s", help="Siemens that arbitrary units stand for.")
    ] = None,
    folder: FolderOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Read a measured curve, file or run, into a device card (TOML), and say what was read and what was odd."""
    from neurobench.runs import curves

    path = curves.source_of(file, _folder(folder))
    found = curves.card_from(path, out, picture, name, source, amplitude_v, width_s, window_s)
    _say(Said(OK, found, lambda console: console.print("\n".join([*found["report"], *found["written"]]))), as_json)


@app.command("device", rich_help_panel=BENCHES)
def device(
    name: Annotated[str, typer.Argument(metavar="DEVICE", help="A device by name, or a card or curve file.")],
    mirror: Annotated[bool, typer.Option("--assume-mirror", help="Let the unmeasured direction mirror the other.")] = (
        False
    ),
    as_json: JsonOpt = False,
) -> None:
    """Say what a device card holds: facts, doubts, and its curves beside the points that they come from."""
    from neurobench.runs import chips, library, screen

    found = library.plain(chips.device(name, mirror))
    _say(Said(OK, found, lambda console: screen.table(console, found)), as_json)


@app.command("make-chip", rich_help_panel=BENCHES)
def make_chip(
    bench: BenchOpt = None,
    bench_settings: BenchSetOpt = None,
    seed: SeedOpt = None,
    defects: Annotated[
        Path | None, typer.Option("--defects", metavar="FILE", help="Cells to break, row,column,kind to a line.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="BENCH.toml", help="Keep it: a new file.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Make an emulated chip and say what it is like; with --out keep it beside a bench file that names it."""
    from neurobench.runs import chips, library, screen

    found = library.plain(chips.make(bench or "emulator", bench_settings or (), seed or 0, defects, out))
    _say(Said(OK, found, lambda console: screen.table(console, found)), as_json)


# ---------------------------------------------------------------------------------------------- the way in and out


def invoke(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code; what went wrong is said on stderr, or as JSON with --json."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        from neurobench.registry import ensure_ours

        ensure_ours()
        answer = typer.main.get_command(app).main(arguments, prog_name="neurobench", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the outermost place: every error gets its words and its code
        return _failed(error, "--json" in arguments)
    except KeyboardInterrupt:
        return _failed(Aborted("interrupted"), "--json" in arguments)
    return answer if isinstance(answer, int) else OK


def _failed(error: Exception, as_json: bool) -> int:
    """Say an error: what it is, as text or as one JSON object; and its exit code."""
    if isinstance(error, BrokenPipeError):  # whoever read our output has had enough
        return _quiet()
    code, text = _said(error)
    if as_json:
        _print_json({"status": "fault", "error": text, "exit_code": code})
    elif text:
        sys.stderr.write(f"neurobench: {text}\n")
    return code


def _quiet() -> int:
    """Keep Python from failing once more when it closes a pipe that nobody reads."""
    with contextlib.suppress(OSError):
        sys.stdout.close()
    return OK


def _said(error: Exception) -> tuple[int, str]:
    if isinstance(error, NeurobenchError):
        return error.exit_code, str(error)
    if isinstance(error, typer.Abort):
        return INTERRUPTED, "interrupted"
    # typer brings its own copy of click, or not, depending on its version: its errors are known by what they can.
    if callable(words := getattr(error, "format_message", None)):
        said = words()  # none where the help was shown instead, because nothing was asked for
        return USAGE, f"{said}{_help_of(error)}" if said else ""
    import traceback

    return BUG, "".join(traceback.format_exception(error)) + "This is a mistake in neurobench; please report it."


def _help_of(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context else ""


def main() -> NoReturn:
    """The command `neurobench`."""
    sys.exit(invoke())
