"""The two threads beside the window: one reads the run file, one asks the engine. The window never waits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurobench.bench.config import IN_PROCESS, SIMULATED_BACKENDS
from neurobench.errors import NeurobenchError
from neurobench.runs.history import Follower
from neurobench.runs.runfile import RunFile
from neurobench.system import free_bytes

from .offers import offer_of

if TYPE_CHECKING:
    from neurobench.runs.engine import Engine
    from neurobench.runs.history import Snapshot

EVERY_S = 1 / 30
BUDGET_S = 0.012  # of work in one look: the window's thread waits about so long for Python while it is done
REST_S = 0.004  # between two looks at least, however long the last one took
UNDRAWN_S = 0.1  # a window that has not drawn by then (it is hidden, or busy) is not waited for any longer
ASK_EVERY_S = 0.1
FULL_BYTES = 1_000_000  # with less than that a run cannot even record how it ended
WIRE_BYTES = 64_000  # so much of the dialogue is taken in at a time; of a longer one its end


@dataclass(frozen=True)
class RunBench:
    """The bench of a run as its file says it: its own name, and by what name or file it was asked for ("": unsaid)."""

    bench: str = ""
    backend: str = ""
    simulated: bool = False
    named: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def emulated(self) -> bool:
        """Whether the chip lives, and dies, with its engine."""
        return self.backend in IN_PROCESS


def bench_of_run(path: Path) -> RunBench:
    """Which bench a run is on; of a file that says nothing: a real one, nobody knows which."""
    try:
        with RunFile.open(path) as run:
            config, request = run.value("config") or {}, run.value("request") or {}
            simulated = run.value("simulated")
    except (NeurobenchError, OSError):
        return RunBench()
    bench = config.get("bench", {})
    backend = str(bench.get("backend", ""))
    return RunBench(
        str(bench.get("name", "")), backend, backend in SIMULATED_BACKENDS if simulated is None else bool(simulated),
        str(request.get("bench", "")), dict(request.get("bench_settings", {})),
    )  # fmt: skip


class Reader(threading.Thread):
    """Follows one run file and keeps the newest snapshot, or the one that was asked for, in `latest`.

    `news` is called when there is another one. Until the window has drawn it (`go_on`) nothing is read: two threads
    that want Python at the same time cost more than one after the other.
    """

    def __init__(self, path: Path, hear: Callable[[list[str]], None], news: Callable[[], None]) -> None:
        super().__init__(name=f"reader of {path.name}", daemon=True)
        self.path = path
        self.latest: Snapshot | None = None
        self.problem: str | None = None
        self.reads = 0
        self._at: int | None = None
        self._again = True  # the slider was moved: show it even if the file has not grown
        self._news = news
        self._wake, self._drawn, self._quit = threading.Event(), threading.Event(), threading.Event()
        self._wire = Wire(path.with_name(path.name + ".wire.log"), hear)

    def show_at(self, seq: int | None) -> None:
        """Show the run as it stood after that step; None: the newest."""
        self._at, self._again = seq, True
        self._wake.set()

    def go_on(self) -> None:
        """The window has drawn what it was given last."""
        self._drawn.set()

    def stop(self) -> None:
        """End the thread; it lets go of the file."""
        self._quit.set()
        self._wake.set()
        self._drawn.set()

    def run(self) -> None:
        """Until it is stopped."""
        try:
            follower = Follower(self.path, BUDGET_S)
        except (NeurobenchError, OSError) as error:
            self.problem = str(error)
            return
        try:
            while not self._quit.is_set():
                began = time.monotonic()
                self._once(follower)
                self._catch_up(follower, began + EVERY_S)
                self._wake.wait(max(began + EVERY_S - time.monotonic(), REST_S))
                self._wake.clear()
        finally:
            follower.close()

    def _once(self, follower: Follower) -> None:
        try:
            grown = follower.read()
            if grown or self._again or self.latest is None:
                self._again = False
                snapshot = follower.snapshot(self._at)
                self._drawn.clear()
                self.latest, self.problem = snapshot, None
                self.reads += 1
                self._news()
                self._drawn.wait(UNDRAWN_S)
            self._wire.read()
        except (NeurobenchError, OSError) as error:
            self.problem = str(error)

    def _catch_up(self, follower: Follower, until: float) -> None:
        """What is left of the time of a picture goes into reading while the run is ahead of what was read."""
        left_s = until - REST_S - time.monotonic()
        if follower.behind and left_s > 0 and not self._quit.is_set():
            with contextlib.suppress(NeurobenchError, OSError):  # the next look says it
                if follower.read(left_s):
                    self._again = True


class Wire:
    """What the instruments said since the last look, from the log beside the run file."""

    def __init__(self, path: Path, hear: Callable[[list[str]], None]) -> None:
        self._path, self._hear, self._at, self._rest = path, hear, 0, b""

    def read(self) -> None:
        """Tell the new lines, if there are any."""
        try:
            size = self._path.stat().st_size
        except OSError:
            return
        if size == self._at:
            return
        self._at = self._at if size > self._at else 0  # it began anew
        with self._path.open("rb") as file:
            file.seek(max(self._at, size - WIRE_BYTES))
            found = self._rest + file.read(WIRE_BYTES)
            self._at = file.tell()
        *lines, self._rest = found.split(b"\n")
        if lines:
            self._hear([line.decode(errors="replace") for line in lines])


class Link(threading.Thread):
    """Asks an engine how it is, ten times a second, until it has ended; `state` is None then, and `ended` is set."""

    def __init__(self, engine: Engine, outputs: dict[str, Any]) -> None:
        super().__init__(name=f"link to {engine.path.name}", daemon=True)
        self.engine = engine
        self.state: str | None = "ready"
        self.asked_at = float("-inf")  # when the question was put that `state` answers
        self.outputs = outputs  # until the engine has been asked
        self.last_words: dict[str, Any] = {}
        self.file_gone = False  # taken away under the engine, which does not notice
        self.ended = threading.Event()
        self._quit = threading.Event()

    def stop(self) -> None:
        """End the thread; the engine hears nothing of it."""
        self._quit.set()

    def run(self) -> None:
        """Until the engine has ended or nobody wants to know any more."""
        while not self._quit.is_set():
            asked_at = time.monotonic()
            self.state = self.engine.state()
            self.asked_at = asked_at
            if self.state is None and not self.engine.alive:
                self.last_words = last_words(self.engine.path)
                self.ended.set()
                return
            outputs = self.engine.outputs()
            self.outputs, self.file_gone = outputs, not self.engine.path.exists()
            self._quit.wait(ASK_EVERY_S)


def last_words(path: Path) -> dict[str, Any]:
    """How a run has ended, from its file: status, error, outputs, and what may be accepted to go on with it.

    A file that says no end is that of an engine that died, whoever writes it now; its `watcher` says what became of the
    bench, once it has done that.
    """
    try:
        with RunFile.open(path) as run:
            said = {name: run.value(name) for name in ("error", "outputs", "watcher", "stopped")}
            status = str(run.value("status") or "crashed")
            if status == "crashed" and not said["error"] and free_bytes(path) < FULL_BYTES:
                said["error"] = f"there is no room left in {path.parent}, so its end could not be recorded"
            return {"status": status, "offer": offer_of(run), **said}
    except (NeurobenchError, OSError) as error:
        return {"status": "damaged", "error": str(error), "outputs": None}
