"""As little of a world as the command engine needs: a lock, a clock, events in their order."""

from __future__ import annotations

import threading
from collections.abc import Callable

from neurobench.bench.instruments import InstrumentSection

SECTION = InstrumentSection(model="toy")


class QuietWorld:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.now_ps = 0
        self._due: list[tuple[int, Callable[[], None]]] = []

    def now_s(self) -> float:
        return self.now_ps / 1e12

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        self._due.append((self.now_ps + round(delay_s * 1e12), action))

    def run_until(self, ps: int) -> None:
        while due := [entry for entry in self._due if entry[0] <= ps]:
            first = min(due, key=lambda entry: entry[0])
            self._due.remove(first)
            self.now_ps = max(self.now_ps, first[0])
            first[1]()
        self.now_ps = max(self.now_ps, ps)

    def run_for(self, seconds: float) -> None:
        self.run_until(self.now_ps + round(seconds * 1e12))
