"""Conductances over time, as they were read back: what a view draws as traces, in a bounded amount of memory."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.stimulus import FloatArray

AnyArray = NDArray[Any]

CAP_BYTES = 64 << 20
MOST = 1 << 15  # values of one trace: more than any screen has pixels
BANDS = 1 << 13
AT_ONCE = 64
GATHERED_BYTES = 1 << 20
SPREAD = 8  # a read of at least one in so many cells is kept as a whole grid


def at_once(row_bytes: int) -> int:
    """How many rows are gathered: few of large ones, which are held as they came meanwhile."""
    return max(min(AT_ONCE, GATHERED_BYTES // max(row_bytes, 1)), 1)


class Grown:
    """An array that grows at its end. What `seen` gives is not written to again."""

    def __init__(self, dtype: Any, shape: tuple[int, ...] = ()) -> None:
        self._rows: AnyArray = np.empty((16, *shape), dtype)
        self._n = 0
        self._new: list[Any] = []  # an array is not written to for each single row
        self._at_once = at_once(self._rows[0].nbytes)

    def __len__(self) -> int:
        return self._n + len(self._new)

    @property
    def nbytes(self) -> int:
        """Memory that is held, in bytes."""
        return self._rows.nbytes

    def add(self, row: Any) -> None:
        """Append one row."""
        self._new.append(row)
        if len(self._new) >= self._at_once:
            self._settle()

    def extend(self, rows: Any, n: int) -> None:
        """Append `n` rows."""
        self._settle()
        end = self._n + n
        if end > len(self._rows):
            more = np.empty((max(end, 2 * len(self._rows)), *self._rows.shape[1:]), self._rows.dtype)
            more[: self._n] = self._rows[: self._n]
            self._rows = more
        self._rows[self._n : end] = rows
        self._n = end

    def _settle(self) -> None:
        if self._new:
            new, self._new = self._new, []
            self.extend(new, len(new))

    def keep(self, which: AnyArray) -> None:
        """Let go of all rows but these."""
        self._settle()
        self._rows = self._rows[: self._n][which]
        self._n = len(self._rows)

    def seen(self, n: int | None = None) -> AnyArray:
        """The first `n` rows, or all, not to be written to."""
        self._settle()
        rows = self._rows[: self._n if n is None else n]
        rows.setflags(write=False)
        return rows


class Traces:
    """Conductances over time, for whoever draws them, in any thread.

    Values are kept in single precision. Where there are too many, every second one of a trace is dropped, so old times
    are told more coarsely than new ones; the last value always stays.
    """

    def __init__(self, shape: tuple[int, int] = (1, 1), cap_bytes: int = CAP_BYTES) -> None:
        size = shape[0] * shape[1]
        self._cols, self._size, self._lock = shape[1], size, Lock()
        row = 4 * size + 20
        self._most_rows = max(min(MOST, cap_bytes * 3 // 4 // row), 16)
        self._most_entries = max(cap_bytes // 4 // 24, 64)
        # reads of much of the array, one row each: its step, its time, which mask it had, the grid
        self._grids = Grown(np.int64), Grown(np.float64), Grown(np.int64), Grown(np.float32, (size,))
        self._masks: dict[bytes, int] = {}
        # values of reads of few cells: step, time, cell, value
        self._values = Grown(np.int64), Grown(np.float64), Grown(np.int32), Grown(np.float32)
        self._of_cell = np.zeros(size, np.int64)
        self._bands = Grown(np.int64), Grown(np.float64), Grown(np.float64, (3,))
        self._unsorted: list[FloatArray] = []

    def add(self, seq: int, at_s: float, flat: NDArray[np.intp], conductance_s: FloatArray) -> None:
        """Take in a read of the cells `flat` (row-major numbers); the values are not to be written to afterwards."""
        with self._lock:
            if len(flat) * SPREAD >= self._size and len(flat) > 1:
                self._add_grid(seq, at_s, flat, conductance_s)
            else:
                self._add_values(seq, at_s, flat, conductance_s)
            if 2 * len(flat) > self._size:
                self._add_band(seq, at_s, conductance_s)

    def _add_grid(self, seq: int, at_s: float, flat: NDArray[np.intp], conductance_s: FloatArray) -> None:
        mask, row = -1, conductance_s
        if len(flat) < self._size:
            known = blake2b(flat.tobytes(), digest_size=16).digest()  # masks of a large array are large
            mask, row = self._masks.setdefault(known, len(self._masks)), np.full(self._size, np.nan)
            row[flat] = conductance_s
        _append(self._grids, seq, at_s, mask, row)
        if len(self._grids[0]) > self._most_rows:
            _thin(self._grids, self._grids[2].seen())
        if len(self._masks) > MOST:
            self._masks.clear()

    def _add_values(self, seq: int, at_s: float, flat: NDArray[np.intp], conductance_s: FloatArray) -> None:
        if len(flat) == 1:
            _append(self._values, seq, at_s, flat[0], conductance_s[0])
        else:
            for kept, value in zip(self._values, (seq, at_s, flat, conductance_s), strict=True):
                kept.extend(value, len(flat))
        self._of_cell[flat] += 1
        full = len(self._values[0]) > self._most_entries
        if full or self._of_cell[flat].max() > MOST:
            _thin(self._values, self._values[2].seen(), 1 if full else MOST // 2)
            self._of_cell = np.bincount(self._values[2].seen(), minlength=self._size)

    def _add_band(self, seq: int, at_s: float, conductance_s: FloatArray) -> None:
        if self._unsorted and len(self._unsorted[0]) != len(conductance_s):
            self._sort_bands()
        self._unsorted.append(conductance_s)
        _append(self._bands[:2], seq, at_s)
        if len(self._unsorted) >= at_once(conductance_s.nbytes):
            self._sort_bands()

    def _sort_bands(self) -> None:
        if self._unsorted:
            self._bands[2].extend(_quartiles(np.array(self._unsorted)), len(self._unsorted))
            self._unsorted = []
        if len(self._bands[0]) > BANDS:
            _thin(self._bands, np.zeros(len(self._bands[0]), np.int64))

    @property
    def nbytes(self) -> int:
        """Memory that is held, in bytes."""
        return sum(kept.nbytes for group in (self._grids, self._values, self._bands) for kept in group)

    def trace(self, cells: Sequence[tuple[int, int]], until_seq: int) -> tuple[FloatArray, FloatArray]:
        """Times [n] in seconds and conductances [n, cells] in siemens (nan: not read then)."""
        flat = np.array([row * self._cols + col for row, col in cells], np.int64)
        wanted, back = np.unique(flat, return_inverse=True)
        with self._lock:
            grids, values = _until(self._grids, until_seq), _until(self._values, until_seq)
        seqs, at_s, found = _of_grids(grids, wanted)
        few = _of_values(values, wanted, self._size)
        if len(few[0]):
            seqs, at_s = np.concatenate([seqs, few[0]]), np.concatenate([at_s, few[1]])
            found, order = np.concatenate([found, few[2]]), np.argsort(seqs, kind="stable")
            at_s, found = at_s[order], found[order]
        return at_s, found[:, back]

    def band(self, until_seq: int) -> tuple[FloatArray, FloatArray]:
        """Times [n] and lower quartile, median, upper quartile [n, 3] of all cells that were read then.

        Reads of half of the array or less say nothing of the others, and are left out.
        """
        with self._lock:
            self._sort_bands()
            _, at_s, quartiles = _until(self._bands, until_seq)
        return at_s, quartiles


def _until(group: Sequence[Grown], seq: int) -> list[AnyArray]:
    n = int(np.searchsorted(group[0].seen(), seq, "right"))
    return [kept.seen(n) for kept in group]


def _of_grids(grids: Sequence[AnyArray], wanted: AnyArray) -> tuple[AnyArray, FloatArray, FloatArray]:
    seqs, at_s, _, rows = grids
    found = rows[:, wanted].astype(np.float64)
    some = ~np.isnan(found).all(axis=1)
    return (seqs, at_s, found) if some.all() else (seqs[some], at_s[some], found[some])


def _of_values(values: Sequence[AnyArray], wanted: AnyArray, size: int) -> tuple[AnyArray, FloatArray, FloatArray]:
    """The same from the values of single cells: a row for each read that had one of them."""
    column = np.full(size, -1, np.int64)
    column[wanted] = np.arange(len(wanted))
    seqs, at_s, cells, value = values
    of = column[cells]
    here = np.flatnonzero(of >= 0)
    steps, times = seqs[here], at_s[here]
    begins = np.ones(len(here), np.bool_)  # a resumed run reads again under the number of the step before it
    begins[1:] = (np.diff(steps) != 0) | (np.diff(times) != 0)
    found = np.full((int(begins.sum()), len(wanted)), np.nan)
    found[np.cumsum(begins) - 1, of[here]] = value[here]
    return steps[begins], times[begins], found


def _quartiles(reads: FloatArray) -> FloatArray:
    """Quartiles [reads, 3] of the known values of each of `reads` [reads, cells]."""
    known = np.sort(reads, axis=1)
    if np.isnan(known[:, -1]).any():
        return _quartiles_of_known(reads)
    place = (known.shape[1] - 1) * np.array([0.25, 0.5, 0.75])
    low = place.astype(np.intp)
    high = np.minimum(low + 1, known.shape[1] - 1)
    quartiles: FloatArray = known[:, low] + (place - low) * (known[:, high] - known[:, low])
    return quartiles


def _quartiles_of_known(reads: FloatArray) -> FloatArray:
    out = np.full((len(reads), 3), np.nan)
    some = ~np.isnan(reads).all(axis=1)
    out[some] = np.nanpercentile(reads[some], (25, 50, 75), axis=1).T
    return out


def _append(group: Sequence[Grown], *values: Any) -> None:
    for kept, value in zip(group, values, strict=True):
        kept.add(value)


def _thin(group: Sequence[Grown], trace: AnyArray, least: int = 1) -> None:
    which = thinned(trace, least)
    for kept in group:
        kept.keep(which)


def thinned(trace: AnyArray, least: int = 1) -> AnyArray:
    """Which values stay when every second one of each trace that has more than `least` goes; the last one stays.

    `trace` says to which trace each value belongs.
    """
    order = np.argsort(trace, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(trace[order])), len(trace) - 1)
    lengths = np.diff(np.append(-1, ends))
    from_the_end = np.repeat(ends, lengths) - np.arange(len(trace))
    which = np.zeros(len(trace), np.bool_)
    which[order] = (from_the_end % 2 == 0) | (np.repeat(lengths, lengths) <= least)
    return which
