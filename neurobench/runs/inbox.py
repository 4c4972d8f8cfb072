"""Requests of clients to a run by hand, on their way from the threads that hear them to the one that works."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """A request of a client to a run by hand, and the answer that its thread waits for."""

    request: Mapping[str, Any]
    answer: dict[str, Any] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def say(self, answer: Mapping[str, Any]) -> None:
        """Answer it."""
        self.answer = dict(answer)
        self.done.set()


class Inbox:
    """Requests of clients, in the order in which they came; closed, it refuses all of them."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._closed = ""
        self._lock = threading.Lock()

    def put(self, asked: Asked) -> None:
        """Add one; it is refused at once where nobody will look at it any more."""
        with self._lock:
            if not self._closed:
                self._waiting.put(asked)
                return
        asked.say({"refused": self._closed})

    def take(self, patience_s: float) -> Asked | None:
        """The next one, or None."""
        try:
            return self._waiting.get(timeout=patience_s)
        except queue.Empty:
            return None

    def refuse_all(self, words: str) -> None:
        """Refuse those that wait now."""
        while (asked := self.take(0)) is not None:
            asked.say({"refused": words})

    def close(self, words: str) -> None:
        """Refuse those that wait, and all that come."""
        with self._lock:
            self._closed = words
        self.refuse_all(words)
