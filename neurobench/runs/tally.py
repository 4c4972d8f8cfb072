"""How many pulses each cell has had: thousands of batches are added up for the few times that somebody looks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]
MOST = 127  # of an int8: batches are added up in bytes as long as these cannot run over, eight times as fast


class Tally:
    """Pulses of one sign, per cell. A copy of it (`copy.copy`) taken after `counts` goes on by itself."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._sum: NDArray[np.int64] = np.zeros(shape, np.int64)
        self._few: NDArray[np.int8] | None = None
        self._room = 0

    def add(self, cells: AnyArray, most: int = MOST + 1) -> None:
        """Add counts of 0 to `most` per cell; they are taken over, not to be written to afterwards."""
        if most > MOST or cells.dtype != np.int8:
            self._sum = self._sum + cells
            return
        if most == 0:
            return
        if most > self._room:
            self._settle()
        if self._few is None:
            self._few, self._room = cells, MOST - most
        else:
            self._few += cells
            self._room -= most

    def _settle(self) -> None:
        if self._few is not None:
            self._sum = self._sum + self._few
            self._few, self._room = None, 0

    @property
    def counts(self) -> NDArray[np.int64]:
        """Of all that was added; not to be written to, and not written to again."""
        self._settle()
        self._sum.setflags(write=False)
        return self._sum


class Part(NamedTuple):
    """What of a batch has one sign: pulses per cell (an array of its own), the most of a cell, all together."""

    cells: AnyArray
    most: int
    pulses: int


def part_of(counts: AnyArray, sign: int) -> Part:
    """Which pulses of a batch (per cell, negative: they depress) have this sign."""
    most = int(counts.max()) if sign > 0 else -int(counts.min())
    if most <= 0:
        return NOTHING
    wide = counts if most <= MOST else counts.astype(np.int64)
    cells = np.maximum(wide if sign > 0 else -wide, 0)
    return Part(cells, most, int(np.count_nonzero(cells > 0) if most == 1 else cells.sum(dtype=np.int64)))


NOTHING = Part(np.zeros((), np.int8), 0, 0)
