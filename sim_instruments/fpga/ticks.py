"""Time on a simulated board: the bench's picoseconds, and the board's own ticks since its last reset."""

from __future__ import annotations

from collections.abc import Callable

from ..world.clock import PS_PER_S, Handle, Timeline


class BoardTime(Timeline):
    """The timeline of one board. `keep` is called before anybody outside hears of what has happened."""

    def __init__(self, clock_hz: int, *, wall: bool = False) -> None:
        super().__init__(wall=wall)
        self.clock_hz, self.reset_ps = clock_hz, 0
        self.keep: Callable[[], None] = lambda: None

    def before_time_moves(self) -> None:
        """Nothing: what a board does it does at events."""

    def settle(self) -> None:
        """See `keep`."""
        self.keep()

    @property
    def ticks(self) -> int:
        """Ticks since the last reset."""
        return (self._now - self.reset_ps) * self.clock_hz // PS_PER_S

    def reset(self) -> None:
        """The counter of ticks begins anew."""
        self.reset_ps = self._now

    def at_tick(self, tick: int, action: Callable[[], None]) -> Handle:
        """Do something when the counter of ticks reaches `tick`."""
        return self.at(self.reset_ps - (-tick * PS_PER_S // self.clock_hz), action)

    def step(self, until_ps: int) -> None:
        """Let time pass up to the next event, at most until `until_ps`.

        In wall time at most WALL_STEP_PS, because another thread may bring about an earlier event.
        """
        while self._events and self._events[0].action is None:
            self.next_due_s()
        due_ps = self._events[0].ps if self._events else until_ps
        if self._wall:
            due_ps = min(due_ps, self._target() + WALL_STEP_PS)
        self.run_until(max(min(due_ps, until_ps), self._now))

    def busy(self) -> bool:
        """Whether anything is to come."""
        while self._events and self._events[0].action is None:
            self.next_due_s()
        return bool(self._events)


WALL_STEP_PS = 2 * 10**9


class BoardClock:
    """Time as drivers see it."""

    def __init__(self, time: BoardTime) -> None:
        self._time = time

    def now_s(self) -> float:
        """Seconds since the bench was opened."""
        with self._time.lock:
            return self._time.now_s()

    def sleep(self, seconds: float) -> None:
        """Let simulated time pass, at least a picosecond: who sleeps until a time must arrive there."""
        if seconds > 0:
            with self._time.lock:
                self._time.run_for(max(seconds, 1 / PS_PER_S))
