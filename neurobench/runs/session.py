"""A bench in a script or a notebook: sub-generators run one after another, guarded and recorded like any run.

    with session("emulator", rows=100, cols=50) as bench:
        layer = spiking_layer(bench.view, inputs=100, neurons=25)
        spikes = bench.do(layer.forward(x))

What is done stands in a run file (`neurobench show`, `plot`, `export` read it). It cannot be resumed: its steps are
those of a script, which nobody can replay. A refused step fires nothing and leaves the session usable; whatever else
goes wrong ends it. A real chip has no session, since this process has no watcher: write a protocol for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from neurobench.bench.config import SIMULATED_BACKENDS, BenchConfig, load_bench, open_bench, said_in
from neurobench.bench.limits import Guard
from neurobench.bench.steps import BenchView, Note, Protocol, Result, Step, Steps
from neurobench.errors import Refused, UsageError
from neurobench.runs.launch import new_path
from neurobench.runs.request import Request
from neurobench.runs.runfile import RunWriter
from neurobench.runs.runner import Conducted, Runner, begin
from neurobench.system import runs_folder

T = TypeVar("T")
NAME = "session"
SHORT = {"rows": "chip.rows", "cols": "chip.cols", "model": "chip.model", "curve": "chip.curve"}


class Scripted(Protocol):
    """What stands for a protocol in the record of a session: the steps are the script's."""

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:  # noqa: ARG002
        """A session has no steps of its own."""
        raise UsageError(f"a session is not run, and not resumed: its steps are a script's ({view.chip_id})")


class Session:
    """An open bench. `view` is what protocols are given; `rng` draws from the session's seed; `path`: its run file."""

    def __init__(self, runner: Runner, view: BenchView, rng: np.random.Generator, path: Path) -> None:
        self._runner, self.view, self.rng, self.path = runner, view, rng, path
        self._broken: BaseException | None = None

    def do(self, steps: Generator[Step, Any, T]) -> T:
        """Run a sub-generator to its end and return what it returns. Raises Refused and UsageError before a volt of
        the step in question; any other error ends the session."""
        if self._broken is not None:
            raise UsageError(f"this session has ended: {self._broken}; open another one") from self._broken
        if not isinstance(steps, Generator):
            raise UsageError(f"do() runs the steps of a generator, such as layer.forward(x); this is {steps!r:.60}")
        found: list[T] = []
        try:
            self._runner.go_on(_kept(steps, found), None)
        except (Refused, UsageError):
            raise
        except BaseException as error:
            self._broken = error
            raise
        return found[0]

    def end(self) -> None:
        """Nothing is done any more: the bench is closed."""
        self._broken = self._broken or UsageError("its block is over")

    def note(self, name: str, value: Any) -> None:
        """Put a named value into the run file; `epoch`, `spikes`, ... are what figures are drawn from."""
        self.do(_note(name, value))

    @property
    def truth_s(self) -> Any:
        """The emulated chip's hidden conductances [rows, cols] in siemens; None for one that nobody here sees."""
        return self._runner.guard.truth_s()


def _kept(steps: Generator[Step, Any, T], found: list[T]) -> Steps:
    found.append((yield from steps))
    return Result(True)


def _note(name: str, value: Any) -> Generator[Step, Any, None]:
    yield Note(name, value)


@contextmanager
def session(
    bench: str | Path = "emulator",
    *,
    seed: int = 0,
    out: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    **short: Any,
) -> Iterator[Session]:
    """Open a simulated bench for a script; it rests and closes at the end of the block.

    `settings`: "section.key" of the bench file and its value; rows, cols, model and curve may be given by themselves.
    `out`: folder of the run file (default: `runs`). Errors: what opening the bench raises, UsageError for a real one.
    """
    config = _config(bench, settings or {}, short)
    guard = open_bench(config, seed)
    try:
        path = new_path(out or runs_folder(), Request(NAME, str(bench), {}, dict(settings or {}), seed))
        writer = RunWriter.create(path, {"config": config, "config_said": said_in(config)})
        runner, view = _begun(guard, seed, writer)
        with writer:
            done = Conducted(Result(True))
            with _told(done), runner.ending(done):
                runner.start()
                opened = Session(runner, view, np.random.default_rng(seed), path)
                try:
                    yield opened
                finally:
                    opened.end()
    finally:
        guard.close()


def _begun(guard: Guard, seed: int, writer: RunWriter) -> tuple[Runner, BenchView]:
    """A session that cannot begin leaves no file."""
    try:
        return begin(Scripted(), guard, seed=seed, record=writer)
    except BaseException:
        writer.close()
        writer.path.unlink(missing_ok=True)
        raise


@contextmanager
def _told(done: Conducted) -> Iterator[None]:
    """The end of a run swallows what ended it; a script wants to hear it."""
    yield
    if done.outcome is not None and done.outcome.error is not None:
        raise done.outcome.error


def _config(bench: str | Path, settings: Mapping[str, Any], short: Mapping[str, Any]) -> BenchConfig:
    for name in short:
        if name not in SHORT:
            raise UsageError(f"session({name}=...): it knows {', '.join(SHORT)}; everything else goes into `settings`")
    config = load_bench(bench, {**settings, **{SHORT[name]: value for name, value in short.items()}})
    if config.bench.backend not in SIMULATED_BACKENDS:
        raise Refused(
            f"bench {config.bench.name} has a real chip: a session runs in your own process, whose death nobody would "
            "notice; write a protocol and use `neurobench run`, which has a watcher"
        )
    return config
