"""What the board does over time: the pulses of a program, one after another, and how they are stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from .program import Program, PulseProgram, Shot

if TYPE_CHECKING:
    from ..world.clock import Handle
    from .array import Array
    from .ticks import BoardTime

REST_GRACE_S = 0.02
LONG_AGO = -(1 << 32)  # a tick before every gap
WAVE = Shot(1, 0, np.zeros(0, np.intp), 1)  # a waveform is one shot of one pulse


class End(IntEnum):
    """How the last FIRE ended."""

    NONE = 0
    COMPLETE = 1
    RESTED = 2
    WATCHDOG = 3
    CUT = 4


@dataclass(slots=True)
class Counts:
    """Since the session began: shots completed, pulses begun and completed; and pulses of a shot that was not."""

    shots: int = 0
    in_shot: int = 0
    started: int = 0
    done: int = 0


class Sequencer:
    """Fires one program after another. `deadline`: the tick at which a silent host counts as gone; least_gap: ticks
    that the chains to the switches take to be loaded."""

    def __init__(self, time: BoardTime, array: Array, deadline: Callable[[], int], least_gap: int) -> None:
        self._time, self._array, self._deadline, self._least_gap = time, array, deadline, least_gap
        self.counts, self.end = Counts(), End.NONE
        self._program: Program | None = None
        self._ended: Callable[[], None] = lambda: None
        self._shots: Iterator[Shot] = iter(())
        self._shot, self._left = WAVE, 0
        self._next: Handle | None = None
        self._on_since: int | None = None
        self._off_at = LONG_AGO
        self._start_s = 0.0
        self._last: End | None = None  # how it ends when the pulse that is on has ended
        self._held = False

    @property
    def firing(self) -> bool:
        """Whether a program is being executed, also if only its last pulse is on."""
        return self._program is not None

    @property
    def stopping(self) -> bool:
        """Whether a last pulse is on."""
        return self._last is not None

    @property
    def on(self) -> bool:
        """Whether a pulse is on the lines."""
        return self._on_since is not None

    def reset(self) -> None:
        """The board restarts: a pulse that is on is cut off, and nothing is told to anybody."""
        self._drop()
        self._program, self._last, self._off_at = None, None, LONG_AGO
        self.counts, self.end = Counts(), End.NONE

    def fire(self, program: Program, ended: Callable[[], None]) -> None:
        """Execute a program that was checked; `ended` is called when it has ended, in whatever way."""
        self._program, self._ended, self._last, self._held = program, ended, None, False
        self._shots = program.shots() if isinstance(program, PulseProgram) else iter((WAVE,))
        self._left, self.counts.in_shot, self.end = 0, 0, End.NONE
        self._go_on()

    def _go_on(self) -> None:
        """Schedule the next pulse, or end. A gap is kept to the last pulse, also to that of an earlier program."""
        while not self._left:
            shot = next(self._shots, None)
            if shot is None:
                self._finish(End.COMPLETE)
                return
            self._shot, self._left, self.counts.in_shot = shot, shot.repeat, 0
        gap = self._program.gap if isinstance(self._program, PulseProgram) else self._least_gap
        self._next = self._time.at_tick(max(self._time.ticks + self._least_gap, self._off_at + gap), self._begin)

    def _begin(self) -> None:
        assert self._program is not None
        now, width = self._time.ticks, self._program.width
        if now + width > self._deadline():
            self._held = True  # a silent host never has a pulse cut off: wait for a word from it, or for its end
            return
        self.counts.started += 1
        self._on_since, self._start_s = now, self._time.now_s()
        self._next = self._time.at_tick(now + width, self._over)

    def heard(self) -> None:
        """The host has said something: a pulse that was held back may begin."""
        if self._held:
            self._held = False
            self._begin()

    def _over(self) -> None:
        """The pulse that is on has ended."""
        assert self._program is not None
        self._feel(self._program.width)
        self.counts.done += 1
        self.counts.in_shot += 1
        self._left -= 1
        if not self._left:
            self.counts.shots += 1
            self.counts.in_shot = 0
        if self._last is not None:
            self._finish(self._last)
        else:
            self._go_on()

    def _feel(self, ticks: int) -> None:
        program, self._on_since, self._off_at = self._program, None, self._time.ticks
        if isinstance(program, PulseProgram):
            self._array.pulse(program, self._shot, ticks, self._start_s)
        elif program is not None:
            self._array.wave(program, ticks, self._start_s)

    def rest(self) -> None:
        """No further pulse; the one that is on goes on if it ends within the grace, else it is cut off now."""
        if self._program is None:
            return
        left = 0 if self._on_since is None else self._on_since + self._program.width - self._time.ticks
        if self._on_since is not None and 0 <= left <= REST_GRACE_S * self._time.clock_hz:
            self._last = End.RESTED
            return
        cut = self._drop()
        self._finish(End.CUT if cut else End.RESTED)

    def silence(self) -> None:
        """The watchdog stops the firing. A pulse that is over just now is over, not cut off."""
        if self._program is None:
            return
        if self._on_since is not None and self._on_since + self._program.width <= self._time.ticks:
            self._cancel()
            self._last = End.WATCHDOG
            self._over()
            return
        cut = self._drop()
        self._finish(End.CUT if cut else End.WATCHDOG)

    def _drop(self) -> bool:
        """Gate off, now. Whether a pulse was cut off."""
        self._cancel()
        if self._on_since is None:
            return False
        self._feel(self._time.ticks - self._on_since)
        return True

    def _cancel(self) -> None:
        if self._next is not None:
            self._time.cancel(self._next)
        self._next, self._held = None, False

    def _finish(self, end: End) -> None:
        self._cancel()
        self._program, self._last, self.end = None, None, end
        self._ended()
