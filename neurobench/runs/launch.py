"""From a request to a run file: in this process for an emulated chip, in the engine for anything else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from neurobench.bench.config import BenchConfig, load_bench, open_bench
from neurobench.errors import ResumeRefused, RunFileError
from neurobench.runs import replay
from neurobench.runs.request import Prepared, Request, pairs, prepare
from neurobench.runs.runfile import SUFFIX, RunFile, RunWriter, jsonable
from neurobench.runs.runner import RunOutcome, run
from neurobench.runs.states import Control
from neurobench.system import on_stop_signal, runs_folder, utc_now

Watch = Callable[[str, Any], None]


def launch(prepared: Prepared, out: Path | None = None, watch: Watch | None = None) -> tuple[Path, RunOutcome]:
    """Do a run on an emulated chip, in this process, and return its file and how it ended.

    `watch(name, value)` hears every note. SIGINT and SIGTERM abort the run in order. Raises what makes the run
    impossible from the start (a limit, a missing capability, a folder that cannot be written); no pulse was fired
    then and no file is left.
    """
    guard = open_bench(prepared.bench, prepared.request.seed)
    try:
        prepared.protocol.needs.plan(guard.capabilities)
        with _new_file(prepared, out or runs_folder()) as writer:
            writer.watch = watch
            with _abort_on_signal() as control:
                outcome = run(prepared.protocol, guard, seed=prepared.request.seed, record=writer, control=control)
            return writer.path, outcome
    finally:
        guard.close()


def resume(path: Path, watch: Watch | None = None, *, accept_doubt: bool, accept_baseline: bool) -> RunOutcome:
    """Go on with an interrupted run, on the bench as its file describes it.

    Raises ResumeRefused where file, chip and program do not fit together; no pulse was fired then.
    """
    with RunFile.open(path) as reader:
        asked, config = reader.value("request"), reader.value("config")
    if asked is None or config is None:
        raise ResumeRefused(f"{path} does not say how it was started, so it cannot be resumed from here")
    prepared = prepare(Request(**asked))
    guard = open_bench(BenchConfig.model_validate(config), prepared.request.seed)
    try:
        with cast("Told", Told.reopen(path)) as writer, _abort_on_signal() as control:
            writer.watch = watch
            return replay.resume(
                prepared.protocol,
                guard,
                writer,
                control=control,
                accept_doubt=accept_doubt,
                accept_baseline=accept_baseline,
            )
    finally:
        guard.close()


def title(prepared: Prepared) -> str:
    """What is running, for a progress bar."""
    return f"{prepared.request.protocol} on {prepared.bench.bench.name}"


def updates(prepared: Prepared) -> int | None:
    """How many updates the protocol makes at most, where it says so."""
    return getattr(prepared.protocol, "max_updates", None)


@contextlib.contextmanager
def _abort_on_signal() -> Iterator[Control]:
    """Only the main thread hears signals; elsewhere whoever started the thread has to end the run."""
    control = Control()
    if threading.current_thread() is not threading.main_thread():
        yield control
        return
    with on_stop_signal(lambda name: void(control.abort(name))):
        yield control


def void(_: object) -> None:
    """Forget an answer."""


class Told(RunWriter):
    """A run file whose notes are also told to whoever watches from this process."""

    watch: Watch | None = None

    def note(self, seq: int, name: str, value: Any) -> None:
        """Record a note and tell it."""
        super().note(seq, name, value)
        if self.watch:
            self.watch(name, value)


@contextlib.contextmanager
def _new_file(prepared: Prepared, folder: Path) -> Iterator[Told]:
    """A new run file in `folder`; taken away again if the run turns out to be impossible."""
    writer = cast("Told", Told.create(new_path(folder, prepared.request), manifest(prepared)))
    try:
        yield writer
    except BaseException:
        writer.close()
        writer.path.unlink(missing_ok=True)
        raise
    writer.close()


def new_path(folder: Path, asked: Request) -> Path:
    """A file name that is not taken, made of time, protocol and seed; the folder is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFileError(
            f"cannot make the folder {folder}: {error.strerror or error}; choose one with --out"
        ) from error
    moment = utc_now()[:19].replace("-", "").replace(":", "").replace("T", "-")
    name = f"{moment}-{asked.protocol}-s{asked.seed}"
    taken = 0
    while (path := folder / f"{name}{f'-{taken}' if taken else ''}{SUFFIX}").exists():
        taken += 1
    return path


def manifest(prepared: Prepared) -> dict[str, Any]:
    """What a run file says of the request besides what the runner itself records."""
    asked = prepared.request
    return {"request": asked, "config": prepared.bench, "command": asked.command()}


# ---------------------------------------------------------------------------------------------- a bench without a run


def check(bench: str, settings: Iterable[str] = ()) -> dict[str, Any]:
    """Open a bench, say what is there, rest it and close it. Nothing is fired."""
    config = load_bench(bench, pairs(settings, "--bench-set"))
    guard = open_bench(config, 0)
    try:
        identity, view = guard.identity(), guard.view()
        guard.rest()
        return {
            "bench": config.bench.name,
            "backend": identity.backend,
            "simulated": identity.simulated,
            "chip": identity.chip_id,
            "details": jsonable(identity.details),
            "capabilities": jsonable(guard.capabilities),
            "limits": jsonable(guard.limits),
            "device": {name: value for name, value in jsonable(guard.span).items() if not isinstance(value, list)},
            "excluded_cells": int(view.excluded.sum()),
            "at_rest": True,
        }
    finally:
        guard.close()


def rest(bench: str, settings: Iterable[str] = ()) -> dict[str, Any]:
    """Bring a bench to rest."""
    config = load_bench(bench, pairs(settings, "--bench-set"))
    guard = open_bench(config, 0)
    try:
        guard.rest()
    finally:
        guard.close()
    return {"bench": config.bench.name, "at_rest": True}
