"""What every part of the session stands on: the state, what is said, the clock, child processes, calls from threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from neurobench.bench.config import BenchConfig
from neurobench.system import runs_folder

from .jobs import Job
from .states import BenchState, Event, after

FRAME_MS = 33
ENDS_S = 5.0  # so long a thread that is told to end is waited for
UNKNOWN: dict[str, Any] = {"on": None, "age_s": 0.0, "how": "nobody has asked the bench yet"}
EMULATED: dict[str, Any] = {"on": False, "age_s": 0.0, "how": "emulated"}


class Owner(QObject):
    """State and bench of a window. Methods that cannot do what is asked say why by `said` and return False."""

    state_changed = Signal(object)
    snapshot_changed = Signal()
    said = Signal(str, str)
    queue_changed = Signal()
    bench_changed = Signal()
    outputs_changed = Signal()
    wire = Signal(list)
    _posted = Signal(object)  # a call from another thread, to be made in this one

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.runs_folder = folder or runs_folder()
        self.state = BenchState.DISCONNECTED
        self.bench: BenchConfig | None = None
        self.outputs: dict[str, Any] = UNKNOWN
        self._jobs: list[Job] = []
        self._ending = False
        self._pool = ThreadPoolExecutor(4, "window")
        self._posted.connect(self._call)
        self._clock = QTimer(self)
        self._clock.setInterval(FRAME_MS)
        self._clock.timeout.connect(self._tick)
        self._clock.start()

    def outputs_words(self) -> str:
        """The outputs in words, as they were read back."""
        on = self.outputs.get("on")
        word = "UNKNOWN" if on is None else "ON" if on else "OFF"
        return f"{word} ({self.outputs.get('how', 'unknown')})"

    def job(self, words: list[str], done: Callable[[dict[str, Any]], None], failed: Callable[[str], None]) -> Job:
        """A child process of the command line; one of the two is called at its end."""
        job = Job(words)  # whoever asked may keep it: it has no parent that would end it first
        self._jobs.append(job)

        job.done.connect(done)
        job.failed.connect(failed)
        job.gone.connect(lambda: self._jobs.remove(job))
        job.start()
        return job

    @property
    def sweeping(self) -> bool:
        """Whether a sweep goes on that was started here: it ends with the window."""
        return any(job.running and job.words[0] == "sweep" for job in self._jobs)

    def _post(self, call: Callable[[], None]) -> None:
        """Have it called in the window's own thread, from any other; a window that has gone hears nothing."""
        with contextlib.suppress(RuntimeError):
            self._posted.emit(call)

    def _call(self, call: Callable[[], None]) -> None:
        call()

    def _refuse(self, words: str) -> bool:
        self.said.emit("warning", words)
        return False

    def _move(self, event: Event) -> bool:
        to = after(self.state, event)
        if to is not None:
            self._stand(to)
        return to is not None

    def _stand(self, state: BenchState) -> None:
        if state is BenchState.READY and self.bench is None:
            state = BenchState.DISCONNECTED  # a run that was only attached to has ended
        if state is not self.state:
            self.state = state
            self.state_changed.emit(state)

    def _set_outputs(self, outputs: dict[str, Any]) -> None:
        if outputs != self.outputs:
            self.outputs = outputs
            self.outputs_changed.emit()

    def _aside(self, call: Callable[[], object], name: str = "abort") -> threading.Thread:
        """In a thread of its own: an abort must not stand in a queue, nor a window that ends wait for it."""
        thread = threading.Thread(target=call, name=name, daemon=True)
        thread.start()
        return thread

    def _tick(self) -> None:
        """Thirty times a second; each part looks after its own."""

    def shutdown(self) -> None:
        """End all threads and child processes of this window; an engine goes on unless it is held."""
        self._clock.stop()
        self._ending = True
        for job in list(self._jobs):
            job.cancel()
            job.wait()
        self._pool.shutdown(wait=True, cancel_futures=True)
