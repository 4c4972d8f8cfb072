"""What the board converts: one acquisition, its samples as they become ready, and how it is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .converters import Converted

if TYPE_CHECKING:
    from ..world.clock import Handle
    from .array import Array
    from .converters import Converters
    from .program import ReadProgram
    from .ticks import BoardTime

COMPLETE, OVER, STOPPED = 1, 2, 4  # flags of FETCH


class Acquirer:
    """Takes one acquisition after another; the samples of the last one stay."""

    def __init__(self, time: BoardTime, array: Array, converters: Converters, settle: int) -> None:
        self._time, self._array, self._converters, self._settle = time, array, converters, settle
        self._read: ReadProgram | None = None
        self._found: Converted | None = None
        self._ends = np.zeros(0, np.int64)  # samples that are ready after each level
        self._began, self._each, self._began_s = 0, 1, 0.0
        self._done: Handle | None = None
        self._levels = 0  # that were converted, once it has ended
        self._stopped = False

    @property
    def acquiring(self) -> bool:
        """Whether it converts."""
        return self._done is not None

    def reset(self) -> None:
        """The board restarts: lines grounded, samples gone."""
        self._end(stopped=True)
        self._read = self._found = None

    def begin(self, read: ReadProgram) -> None:
        """Acquire; what is under way is replaced."""
        self._end(stopped=True)
        self._array.age(self._time.now_s())
        self._read, self._found, self._stopped = read, self._converters.convert(read), False
        self._ends = np.cumsum(self._found.per_level)
        self._began, self._began_s = self._time.ticks, self._time.now_s()
        self._each = max(self._settle + read.averages * read.integration, 1)
        self._done = self._time.at_tick(self._began + self._each * len(self._ends), self._complete)
        if not len(self._ends):
            self._complete()

    def _complete(self) -> None:
        self._end(stopped=False)

    def stop(self) -> None:
        """REST, or the watchdog."""
        self._end(stopped=True)

    def _end(self, *, stopped: bool) -> None:
        if self._done is None or self._found is None:
            return
        self._time.cancel(self._done)
        self._levels = self._passed()
        # A level that is stopped half-way has stood too, but not for so long: nobody counts on such a read.
        self._array.looked(self._found.loud[: self._levels], self._each, self._began_s)
        self._done, self._stopped = None, stopped and self._levels < len(self._ends)

    def _passed(self) -> int:
        """Levels that are converted by now."""
        if self._done is None:
            return self._levels
        return min((self._time.ticks - self._began) // self._each, len(self._ends))

    def fetch(self, first: int, count: int, room: int) -> tuple[int, int, bytes]:
        """Samples ready, flags, and the bytes of samples [first, first + count) that are ready, at most `room`."""
        if self._read is None or self._found is None:
            return 0, 0, b""
        levels = self._passed()
        ready = int(self._ends[levels - 1]) if levels else 0
        width = self._read.width
        last = min(ready, first + min(count, room // width))
        flags = COMPLETE * (levels == len(self._ends)) | STOPPED * self._stopped
        flags |= OVER * bool(self._found.over[:ready].any())
        return ready, flags, _packed(self._found.sums[first : max(last, first)], width)


def _packed(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]], width: int) -> bytes:
    return np.ascontiguousarray(values, "<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
