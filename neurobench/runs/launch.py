"""From a request to a run file: in this process for an emulated chip, in the engine for anything else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from neurobench.bench.config import open_bench
from neurobench.bench.limits import Guard
from neurobench.errors import RunFileError
from neurobench.runs.request import Prepared, Request, prepare
from neurobench.runs.runfile import SUFFIX, RunWriter
from neurobench.runs.runner import RunOutcome, run
from neurobench.runs.states import Control
from neurobench.system import on_stop_signal, runs_folder, utc_now

Watch = Callable[[str, Any], None]


def launch(asked: Request, out: Path | None = None, watch: Watch | None = None) -> tuple[Path, RunOutcome]:
    """Do a run on an emulated chip, in this process, and return its file and how it ended.

    `watch(name, value)` hears every note. SIGINT and SIGTERM abort the run in order. Raises what makes the run
    impossible from the start (a wrong setting, a limit, a folder that cannot be written); no pulse was fired then
    and no file is left.
    """
    prepared = prepare(asked)
    guard = open_bench(prepared.bench, asked.seed)
    try:
        prepared.protocol.needs.plan(guard.capabilities)
        with _new_file(prepared, out or runs_folder()) as writer:
            writer.watch = watch
            return writer.path, _conduct(prepared, guard, writer)
    finally:
        guard.close()


def _conduct(prepared: Prepared, guard: Guard, writer: Told) -> RunOutcome:
    control = Control()
    with _abort_on_signal(control):
        return run(
            prepared.protocol,
            guard,
            seed=prepared.request.seed,
            record=writer,
            control=control,
        )


@contextlib.contextmanager
def _abort_on_signal(control: Control) -> Iterator[None]:
    """Only the main thread hears signals; elsewhere whoever started the thread has to end the run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with on_stop_signal(lambda name: void(control.abort(name))):
        yield


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
