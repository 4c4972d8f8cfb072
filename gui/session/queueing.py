"""The queue: what is to be run after what goes on, one after the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject

from neurobench.runs.request import Request

from . import waiting
from .faults import Faults
from .states import LIVE, BenchState


class Queueing(Faults):
    """What is done to the tuple itself stands in waiting.py."""

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(folder, parent)
        self.queue: waiting.Queue = ()
        self._queue_on, self._running_id = False, 0
        self._ran: list[int] = []  # entries that have ended since the queue was started

    def enqueue(self, request: Request) -> int:
        """Put a request at the end of the queue; its number."""
        self._set_queue(waiting.added(self.queue, request))
        return self.queue[-1].id

    def replace(self, queue_id: int, request: Request) -> bool:
        """Another request in its place, while it waits."""
        return self._edit(queue_id, waiting.changed(self.queue, queue_id, lambda one: replace(one, request=request)))

    def duplicate(self, queue_id: int) -> bool:
        """The same once more, behind it."""
        at = waiting.place(self.queue, queue_id)
        again = () if at is None else waiting.added(self.queue, self.queue[at].request, queue_id)
        return self._edit(queue_id, again)

    def remove(self, queue_id: int) -> bool:
        """Take an entry out, unless it runs."""
        if queue_id == self._running_id:
            return self._refuse("an entry that runs is not removed: stop or abort it")
        return self._edit(queue_id, tuple(one for one in self.queue if one.id != queue_id))

    def move(self, queue_id: int, by: int) -> bool:
        """Move an entry up (by < 0) or down."""
        return self._edit(queue_id, waiting.moved(self.queue, queue_id, by))

    def start_queue(self) -> bool:
        """Run what waits, one after another; a stop, an abort or a fault halts the queue."""
        if waiting.next_waiting(self.queue) is None:
            return self._refuse("nothing waits in the queue (Ctrl+Enter puts the form into it)")
        self._queue_on, self._ran = True, []
        return True if self.state in LIVE else self._next()

    def stop_queue(self) -> None:
        """Let the run that is going on end, and begin no other."""
        self._queue_on = False

    def _next(self) -> bool:
        one = waiting.next_waiting(self.queue)
        self._queue_on = one is not None and self.start(one.request)
        if one is None or not self._queue_on:
            return False
        self._running_id = one.id
        self._set_queue(waiting.ended(self.queue, one.id, "running"))
        return True

    def _after_run(self, words: str, *, well: bool) -> None:
        super()._after_run(words, well=well)
        ended, self._running_id = self._running_id, 0
        if ended:
            self._set_queue(waiting.ended(self.queue, ended, words))
            self._ran.append(ended)
        self._queue_on = self._queue_on and well
        if self._queue_on and self.state is BenchState.READY and not self._next():
            self._say_ended()

    def _say_ended(self) -> None:
        """What became of the queue: what a run was refused for is no longer in sight when later ones have ended."""
        ran = [one.status for one in self.queue if one.id in self._ran]
        if waiting.next_waiting(self.queue) is not None or len(ran) < 2:
            return
        counted = Counter(status.partition(":")[0].replace("_", " ") for status in ran)
        refused = next((status.partition(": ")[2] for status in ran if ":" in status), "")
        words = "the queue has ended: " + ", ".join(f"{number} {how}" for how, number in counted.items())
        self.said.emit("warning" if refused else "info", f"{words} ({refused})" if refused else words)

    def _edit(self, queue_id: int, queue: waiting.Queue) -> bool:
        if waiting.place(self.queue, queue_id) is None:
            return self._refuse(f"the queue has no entry {queue_id}")
        self._set_queue(queue)
        return True

    def _set_queue(self, queue: waiting.Queue) -> None:
        self.queue = queue
        self.queue_changed.emit()
