"""The queue of runs: what is done to it, as pure functions on a tuple."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from neurobench.runs.request import Request


@dataclass(frozen=True)
class Queued:
    """A request that waits its turn. `status`: "waiting", "running", or the words of how it ended."""

    id: int
    request: Request
    status: str = "waiting"


Queue = tuple[Queued, ...]


def place(queue: Queue, queue_id: int) -> int | None:
    """Where an entry stands; None if there is none of that number."""
    return next((at for at, one in enumerate(queue) if one.id == queue_id), None)


def added(queue: Queue, request: Request, behind: int | None = None) -> Queue:
    """One more, at the end or behind an entry; its number is the highest."""
    new = Queued(max((one.id for one in queue), default=0) + 1, request)
    at = len(queue) if behind is None else (place(queue, behind) or 0) + 1
    return (*queue[:at], new, *queue[at:])


def changed(queue: Queue, queue_id: int, change: Callable[[Queued], Queued]) -> Queue:
    """The queue with one entry changed."""
    return tuple(change(one) if one.id == queue_id else one for one in queue)


def moved(queue: Queue, queue_id: int, by: int) -> Queue:
    """The queue with one entry moved up (by < 0) or down, at most to its end."""
    at = place(queue, queue_id)
    if at is None:
        return queue
    left = [*queue[:at], *queue[at + 1 :]]
    left.insert(min(max(at + by, 0), len(left)), queue[at])
    return tuple(left)


def ended(queue: Queue, queue_id: int, words: str) -> Queue:
    """The queue with an entry that has ended so."""
    return changed(queue, queue_id, lambda one: replace(one, status=words))


def next_waiting(queue: Queue) -> Queued | None:
    """Whose turn it is."""
    return next((one for one in queue if one.status == "waiting"), None)
