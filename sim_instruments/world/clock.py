"""Time of a simulated bench: whole picoseconds, and what is due when.

Virtual time stands still between entries and jumps where something waits. Wall time follows the computer's clock: what
is due happens with its own time stamp as soon as somebody looks (`catch_up`), so pulse widths are exact there too.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World

PS_PER_S = 10**12


def to_ps(seconds: float) -> int:
    """Seconds as the nearest whole picoseconds."""
    return round(seconds * PS_PER_S)


class Handle:
    """Something that is due at a time; `action` is None once it was done or cancelled."""

    __slots__ = ("action", "order", "ps")

    def __init__(self, ps: int, order: int, action: Callable[[], None]) -> None:
        self.ps, self.order = ps, order
        self.action: Callable[[], None] | None = action

    def __lt__(self, other: Handle) -> bool:
        return (self.ps, self.order) < (other.ps, other.order)


class EntryLock:
    """A reentrant lock with hooks: `enter` runs when a thread gets in, `leave` before it is out again."""

    def __init__(self, enter: Callable[[], None], leave: Callable[[], None]) -> None:
        self._lock, self._enter, self._leave, self._depth = threading.RLock(), enter, leave, 0
        self._woken = threading.Condition(self._lock)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.RLock.acquire`."""
        if not self._lock.acquire(blocking, timeout):
            return False
        self._depth += 1
        if self._depth == 1:
            try:
                self._enter()
            except BaseException:
                self._out()
                raise
        return True

    def release(self) -> None:
        """As `threading.RLock.release`."""
        try:
            if self._depth == 1:
                self._leave()
        finally:
            self._out()

    def _out(self) -> None:
        self._depth -= 1
        self._lock.release()

    def pause(self, seconds: float) -> None:
        """Let others in for a time; the lock is held again afterwards, as deep as before."""
        depth, self._depth = self._depth, 0
        try:
            self._woken.wait(seconds)
        finally:
            self._depth = depth

    def __enter__(self) -> EntryLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Timeline(ABC):
    """Now, and the events to come. All methods are for whoever holds `lock`.

    wall: time follows the computer's clock.
    """

    def __init__(self, *, wall: bool = False) -> None:
        self._wall = wall
        self._now, self._order, self._began_s = 0, 0, time.monotonic()
        self._events: list[Handle] = []
        self._holds: list[tuple[int, int]] = []  # where a waiting thread wants time to stop for it, and which thread
        self.lock = EntryLock(self.catch_up, self.settle)

    @abstractmethod
    def before_time_moves(self) -> None:
        """Called whenever time is about to leave the present."""

    @abstractmethod
    def settle(self) -> None:
        """Called before the lock is given back: nobody hears an answer to what is not yet true and kept."""

    @property
    def now_ps(self) -> int:
        """Now, in picoseconds since the bench was opened."""
        return self._now

    @property
    def wall(self) -> bool:
        """Whether time follows the computer's clock."""
        return self._wall

    def at(self, when: float, action: Callable[[], None]) -> Handle:
        """Do something later. A float is a delay in seconds, an int an absolute time in picoseconds.

        What is due at one time happens in the order in which it was asked for; what is past, at the next move of time.
        """
        self._order += 1
        handle = Handle(when if isinstance(when, int) else self._now + to_ps(when), self._order, action)
        heappush(self._events, handle)
        return handle

    def cancel(self, handle: Handle) -> None:
        """Forget it; nothing happens if it was done."""
        handle.action = None

    def now_s(self) -> float:
        """Now, in seconds since the bench was opened."""
        return self._now / PS_PER_S

    def next_due_s(self) -> float:
        """Seconds until the next event, inf if there is none: how long a helper thread may sleep."""
        while self._events and self._events[0].action is None:
            heappop(self._events)
        return max(self._events[0].ps - self._target(), 0) / PS_PER_S if self._events else inf

    def run_until(self, ps: int) -> None:
        """Let time pass until `ps`; everything due happens. In wall time others get in while this waits."""
        if self._wall:
            self._wait(ps)
        self._run(ps)

    def run_for(self, seconds: float) -> None:
        """Let time pass for everything; see `run_until`."""
        self.run_until(self._now + to_ps(seconds))

    def catch_up(self) -> None:
        """In wall time: let everything happen that is due by the computer's clock; in virtual time nothing."""
        if self._wall:
            self._run(min([self._target(), *(ps for ps, _ in self._holds)]))

    def _target(self) -> int:
        return to_ps(time.monotonic() - self._began_s) if self._wall else self._now

    def _wait(self, ps: int) -> None:
        hold = (ps, threading.get_ident())
        self._holds.append(hold)
        try:
            while (left := ps - self._target()) > 0 or self._others_first(hold):
                self.catch_up()
                self.lock.pause(min(max(left / PS_PER_S, 1e-3), max(self.next_due_s(), 1e-4)))
        finally:
            self._holds.remove(hold)

    def _others_first(self, hold: tuple[int, int]) -> bool:
        return any(ps < hold[0] and thread != hold[1] for ps, thread in self._holds)

    def _run(self, ps: int) -> None:
        while self._events and self._events[0].ps <= ps:
            handle = heappop(self._events)
            if handle.action is not None:
                self._move(handle.ps)
                action, handle.action = handle.action, None
                action()
        self._move(ps)

    def _move(self, ps: int) -> None:
        if ps > self._now:
            self.before_time_moves()
            self._now = ps


class SimClock:
    """Time as drivers see it: `sleep` lets simulated time pass."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_s(self) -> float:
        """Seconds since the bench was opened."""
        with self._world.lock:
            return self._world.now_s()

    def sleep(self, seconds: float) -> None:
        """Let simulated time pass, at least a picosecond: who sleeps until a time must arrive there."""
        if seconds <= 0:
            return
        with self._world.lock:
            self._world.run_for(max(seconds, 1 / PS_PER_S))
