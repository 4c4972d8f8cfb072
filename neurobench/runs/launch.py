"""From a request to a run file: in this process for an emulated chip, in the engine for anything else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurobench.bench.config import IN_PROCESS, BenchConfig, open_bench, said_in
from neurobench.bench.crossbar import Done, Unknown
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply
from neurobench.errors import InUse, NeurobenchError, ResumeRefused, RunFileError
from neurobench.runs import engine, library, replay
from neurobench.runs.request import Prepared, Request, protocol_class, validated
from neurobench.runs.runfile import SUFFIX, Entry, RunFile, RunWriter, Settled, jsonable
from neurobench.runs.runner import run
from neurobench.runs.states import Control, State
from neurobench.system import on_stop_signal, runs_folder, utc_now

Watch = Callable[[str, Any], None]


def launch(
    prepared: Prepared, out: Path | None = None, watch: Watch | None = None
) -> tuple[Path, BaseException | None]:
    """Do a run and return its file and what ended it, if it was not the protocol itself.

    An emulated chip is run in this process; anything else in the engine, which outlives this process and whose
    watcher rests the bench. `watch(name, value)` hears every note. SIGINT and SIGTERM abort the run in order. Raises
    what makes the run impossible from the start (a limit, a missing capability, a folder that cannot be written); no
    pulse was fired then and no file is left.
    """
    path = new_path(out or runs_folder(), prepared.request)
    if prepared.bench.bench.backend not in IN_PROCESS:
        return path, _by_engine(_spec(prepared, path), watch)
    guard = open_bench(prepared.bench, prepared.request.seed, prepared.protocol.limits_profile)
    try:
        prepared.protocol.needs.plan(guard.capabilities)
        with _abort_on_signal() as control, _new_file(prepared, path, control) as writer:
            writer.watch = watch
            outcome = run(prepared.protocol, guard, seed=prepared.request.seed, record=writer, control=control)
        return path.with_name(writer.path.name), outcome.error
    finally:
        guard.close()


def start(
    prepared: Prepared, out: Path | None = None, *, held: bool = False, made: engine.Made | None = None
) -> engine.Engine:
    """Begin a run in an engine of its own, whatever its bench is, and return once it has begun.

    `held`: it aborts in order if this process dies, until `let_go` is called. `made` has the engine before it has
    begun, to abort it. Raises what makes the run impossible from the start, as `launch` does.
    """
    while True:
        path = new_path(out or runs_folder(), prepared.request)
        try:
            return engine.start(replace(_spec(prepared, path), held=held), made)
        except (RunFileError, InUse):
            if not _taken(path):
                raise
            # another run has taken this name since: this one takes the next


def go_on(
    path: Path, *, held: bool = False, accept_doubt: bool = False, accept_baseline: bool = False,
    made: engine.Made | None = None,
) -> engine.Engine:  # fmt: skip
    """Go on with an interrupted run in an engine of its own and return once it does; `held` and refusals as above."""
    spec = replace(_spec(recorded(path), path), go_on=True, held=held)
    return engine.start(replace(spec, accept_doubt=accept_doubt, accept_baseline=accept_baseline), made)


def resume(
    path: Path, watch: Watch | None = None, *, accept_doubt: bool = False, accept_baseline: bool = False
) -> BaseException | None:
    """Go on with an interrupted run, on the bench as its file describes it, and return what ended it.

    Raises ResumeRefused where file, chip and program do not fit together; no pulse was fired then.
    """
    prepared = recorded(path)
    if prepared.bench.bench.backend not in IN_PROCESS:
        spec = replace(_spec(prepared, path), go_on=True, accept_doubt=accept_doubt, accept_baseline=accept_baseline)
        return _by_engine(spec, watch)
    guard = open_bench(prepared.bench, prepared.request.seed, prepared.protocol.limits_profile)
    try:
        with Told.reopen(path) as writer, _abort_on_signal() as control:
            writer.watch = watch
            return replay.resume(
                prepared.protocol,
                guard,
                writer,
                control=control,
                accept_doubt=accept_doubt,
                accept_baseline=accept_baseline,
            ).error
    finally:
        guard.close()


def settle(path: Path) -> dict[str, Any]:
    """Ask what became of the pulse that was under way when the run was cut off, record it, and book the run.

    `outcome`: "nothing open", "done", "not done" (resuming will fire it) or "unknown" (resuming needs the doubt
    accepted). `chip`: "settled" if it waited for this run, and is free for others now. No volts are sent.
    """
    guard = _opened_again(path)
    try:
        with RunFile.open(path) as reader, RunWriter.reopen(path) as writer:
            last = next((row for row in reversed(list(reader.entries())) if row.settled is Settled.OPEN), None)
            found = {"run_file": str(path)} | (_settled(guard, writer, last) if last else {"outcome": "nothing open"})
            if guard.passport.unsettled and guard.passport.run_file == str(reader.path):
                not_fired = last.seq if last and found["outcome"] == "not done" else None
                replay.settle(guard, reader, not_fired)
                found["chip"] = "settled"
            return found
    finally:
        guard.close()


def _opened_again(path: Path) -> Guard:
    """The bench of a recorded run, also of one that cannot be resumed: what it left open must be asked all the same."""
    with RunFile.open(path) as reader:
        asked, config = reader.value("request"), reader.value("config_said") or reader.value("config")
        seed = reader.value("seed", 0)
    if asked is None and config is not None:  # a session, of a script or by hand: under the usual limits
        return open_bench(BenchConfig.model_validate(config), seed)
    prepared = recorded(path)
    return open_bench(prepared.bench, prepared.request.seed, prepared.protocol.limits_profile)


def _settled(guard: Guard, writer: RunWriter, entry: Entry) -> dict[str, Any]:
    step = entry.step
    found = guard.outcome(entry.seq, entry.witness, step.stimulus if isinstance(step, Apply) else None)
    if isinstance(found, Done):
        writer.answer(entry.seq, found.applied)
        return {"step": entry.seq, "outcome": "done", "pulses": found.applied.pulses}
    if isinstance(found, Unknown):
        writer.doubt(entry.seq, found)
        return {"step": entry.seq, "outcome": "unknown", "shots_certain": found.shot, "why": found.why}
    return {"step": entry.seq, "outcome": "not done"}


def recorded(path: Path) -> Prepared:
    """What a run file was started with: its bench as it was then, not as the bench file is now."""
    with RunFile.open(path) as reader:
        asked, config, said = reader.value("request"), reader.value("config"), reader.value("config_said")
        began = reader.value("protocol")
    if asked is None or config is None:
        raise ResumeRefused(
            f"{path} does not say how it was started, so it cannot be resumed from here (a script's session never "
            f"can, nor one by hand; neurobench settle {path.stem} books what it did and frees the chip)"
        )
    request = Request(**asked)
    protocol = validated(protocol_class(request.protocol), _as_begun(request, began), request.protocol)
    return Prepared(request, protocol, BenchConfig.model_validate(said or config))


def _as_begun(request: Request, began: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings with what they came to when the run began: one that names a file then holds what the file said."""
    then = (began or {}).get("parameters", {})  # there is none of a run that was refused before it began
    return {key: then.get(key, value) for key, value in request.settings.items()}


# ---------------------------------------------------------------------------------------------- in the engine


def _spec(prepared: Prepared, path: Path) -> engine.Spec:
    asked = prepared.request
    bench, parameters = said_in(prepared.bench), prepared.protocol.model_dump(mode="json")
    watched = prepared.bench.bench.backend not in IN_PROCESS  # an emulated chip dies with its engine
    return engine.Spec(
        str(path.absolute()), asked.protocol, parameters, bench, asked.seed, manifest=jsonable(manifest(prepared)),
        watched=watched,
    )  # fmt: skip


def _by_engine(spec: engine.Spec, watch: Watch | None) -> BaseException | None:
    """Start the engine and follow its run file; a signal asks it to abort, and its end is waited for."""
    stop = _Stop()
    with _abort_on_signal(stop.ask):
        running = engine.start(spec, stop.made)
        library.follow(running.path, watch or _deaf)
        running.wait()
    with RunFile.open(running.path) as reader:
        words, code = reader.value("error"), reader.value("exit_code", 0)
        if words is None and reader.status == "crashed":
            go_on = f"go on with: neurobench resume {running.path.stem}"
            words, code = f"the engine died, and its watcher brings the bench to rest; {go_on}", 4
    return None if words is None else Ended(words, code)


class _Stop:
    """An abort that may be asked for before there is an engine, or one that hears."""

    def __init__(self) -> None:
        self._engine: engine.Engine | None = None
        self._asked = False

    def made(self, running: engine.Engine) -> None:
        """From now on there is one."""
        self._engine = running
        if self._asked:
            self.ask()

    def ask(self) -> None:
        """Abort it, in a thread: a signal's handler must not wait."""
        self._asked = True
        if self._engine is not None:
            threading.Thread(target=self._engine.abort_soon, name="abort", daemon=True).start()


class Ended(NeurobenchError):
    """What ended a run in another process, in the words of its record."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.exit_code = code


def _deaf(_name: str, _value: Any) -> None:
    pass


# ---------------------------------------------------------------------------------------------- in this process


def title(prepared: Prepared) -> str:
    """What is running, for a progress bar."""
    return f"{prepared.request.protocol} on {prepared.bench.bench.name}"


def updates(prepared: Prepared) -> int | None:
    """How many updates the protocol makes at most, where it says so."""
    return getattr(prepared.protocol, "max_updates", None)


@contextlib.contextmanager
def _abort_on_signal(abort: Callable[[], object] | None = None) -> Iterator[Control]:
    """Only the main thread hears signals; elsewhere whoever started the thread has to end the run."""
    control = Control()

    def heard(name: str) -> None:
        if abort:
            abort()
        else:
            control.abort(name)

    if threading.current_thread() is not threading.main_thread():
        yield control
        return
    with on_stop_signal(heard):
        yield control


class Told(RunWriter):
    """A run file whose notes are also told to whoever watches from this process."""

    watch: Watch | None = None

    def note(self, seq: int, name: str, value: Any) -> None:
        """Record a note and tell it."""
        super().note(seq, name, value)
        if self.watch:
            self.watch(name, value)


@contextlib.contextmanager
def _new_file(prepared: Prepared, path: Path, control: Control) -> Iterator[Told]:
    """A new run file; taken away again if the run turns out to be impossible before it has begun."""
    writer = _created(prepared, path)
    try:
        yield writer
    except BaseException:
        writer.close()
        if control.state is State.READY:
            writer.path.unlink(missing_ok=True)
        raise
    writer.close()


def _created(prepared: Prepared, path: Path) -> Told:
    """The file at `path`, or at the next free name where a run that began in the same second has taken it."""
    while True:
        try:
            return Told.create(path, manifest(prepared))
        except (RunFileError, InUse):
            if (free := new_path(path.parent, prepared.request)) == path:
                raise
            path = free


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
    while _taken(path := folder / f"{name}{f'-{taken}' if taken else ''}{SUFFIX}"):
        taken += 1
    return path


def _taken(path: Path) -> bool:
    return path.exists() or path.with_name(path.name + ".lock").exists()


def manifest(prepared: Prepared) -> dict[str, Any]:
    """What a run file says of the request besides what the runner itself records."""
    asked = prepared.request
    said = {"config": prepared.bench, "config_said": said_in(prepared.bench)}
    return {"request": asked, "command": asked.command(), **said}
