"""Which cells of the array are chosen: one for the whole window, so that the map, the traces and the hand agree.

Cells are (row, column) from 0: word line W1 and bit line B2 cross in (1, 2). In text: `W0-3 B1`, `W2`, `B0,B2`, `all`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from PySide6.QtCore import QObject, Signal

from neurobench.bench.stimulus import BoolArray
from neurobench.errors import UsageError

Cell = tuple[int, int]

_PART = re.compile(r"([WB])(\d+)(?:-\1?(\d+))?", re.IGNORECASE)
HOW = "write W0-3 B1 (word lines and bit lines), several parts with ;, or all"


def name_of(cell: Cell) -> str:
    """A cell as people say it: W2 B1."""
    return f"W{cell[0]} B{cell[1]}"


def parse(text: str, shape: Cell) -> BoolArray:
    """The mask [rows, cols] that a text means. Raises UsageError with what is wrong and what may be written."""
    mask = np.zeros(shape, np.bool_)
    for part in filter(None, (one.strip() for one in text.split(";"))):
        mask |= _parse_part(part, shape)
    return mask


def _parse_part(part: str, shape: Cell) -> BoolArray:
    mask = np.zeros(shape, np.bool_)
    words = part.replace(",", " ").split()
    if "all" in (word.lower() for word in words):
        mask[:] = True
        return mask
    lines: dict[str, set[int]] = {"W": set(), "B": set()}
    for word in words:
        found = _PART.fullmatch(word)
        if found is None:
            raise UsageError(f"{word!r} names no cells: {HOW}")
        letter, first, last = found[1].upper(), int(found[2]), int(found[3] or found[2])
        _inside(letter, max(first, last), shape)
        lines[letter] |= set(range(min(first, last), max(first, last) + 1))
    rows = sorted(lines["W"]) or range(shape[0])
    cols = sorted(lines["B"]) or range(shape[1])
    mask[np.ix_([*rows], [*cols])] = True
    return mask


def _inside(letter: str, line: int, shape: Cell) -> None:
    lines = shape[0] if letter == "W" else shape[1]
    if line >= lines:
        what = "word" if letter == "W" else "bit"
        raise UsageError(f"{letter}{line} is outside: this array has {what} lines {letter}0 to {letter}{lines - 1}")


def words_of(mask: BoolArray) -> str:
    """The shortest plain text that means this mask again: one block for each set of rows that are chosen alike."""
    if mask.size and mask.all():
        return "all"
    alike: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(mask.any(axis=1)).tolist():
        alike.setdefault(mask[row].tobytes(), []).append(row)
    return "; ".join(f"{_spans('W', rows)} {_spans('B', np.flatnonzero(mask[rows[0]]).tolist())}"
                     for rows in alike.values())  # fmt: skip


def _spans(letter: str, lines: list[int]) -> str:
    spans: list[list[int]] = []
    for line in lines:
        if spans and line == spans[-1][1] + 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    return ",".join(f"{letter}{a}" if a == b else f"{letter}{a}-{b}" for a, b in spans)


class Selection(QObject):
    """The chosen cells of an array of `shape`, a cursor, and the anchor from which a block is drawn.

    `changed` comes once for every change of cells, cursor or shape. `mask` [rows, cols] is not to be written to.
    """

    changed = Signal()

    def __init__(self, shape: Cell = (0, 0), parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._mask: BoolArray = np.zeros(shape, np.bool_)
        self._base = self._mask  # what stays chosen while a block is drawn
        self._cells: tuple[Cell, ...] | None = ()
        self.cursor: Cell = (0, 0)
        self.anchor: Cell = (0, 0)

    @property
    def shape(self) -> Cell:
        """Rows and columns of the array."""
        return self._mask.shape[0], self._mask.shape[1]

    @property
    def mask(self) -> BoolArray:
        """Chosen cells [rows, cols]."""
        return self._mask

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The chosen cells, row by row."""
        if self._cells is None:
            rows, cols = np.nonzero(self._mask)
            self._cells = tuple(zip(rows.tolist(), cols.tolist(), strict=True))
        return self._cells

    @property
    def count(self) -> int:
        """How many cells are chosen."""
        return int(np.count_nonzero(self._mask))

    def __contains__(self, cell: Cell) -> bool:
        return self.inside(cell) and bool(self._mask[cell])

    def inside(self, cell: Cell) -> bool:
        """Whether the array has such a cell."""
        return 0 <= cell[0] < self.shape[0] and 0 <= cell[1] < self.shape[1]

    def set_shape(self, shape: Cell) -> None:
        """Another array: what lies in both stays chosen."""
        if shape == self.shape:
            return
        mask = np.zeros(shape, np.bool_)
        rows, cols = min(shape[0], self.shape[0]), min(shape[1], self.shape[1])
        mask[:rows, :cols] = self._mask[:rows, :cols]
        self.cursor, self.anchor = _clipped(self.cursor, shape), _clipped(self.anchor, shape)
        self._take(mask, always=True)

    def set(self, cells: Iterable[Cell]) -> None:
        """Choose these and no others; cells outside the array are left out."""
        mask = np.zeros(self.shape, np.bool_)
        inside = [cell for cell in cells if self.inside(cell)]
        for cell in inside:
            mask[cell] = True
        if inside:
            self.cursor = self.anchor = inside[-1]
        self._take(mask)

    def set_mask(self, mask: BoolArray) -> None:
        """Choose the cells of a mask [rows, cols]."""
        if mask.shape != self.shape:
            raise UsageError(f"a mask of {mask.shape} for an array of {self.shape}")
        if mask.any():
            self.cursor = self.anchor = tuple(np.argwhere(mask)[0].tolist())
        self._take(mask.copy())

    def toggle(self, cell: Cell) -> None:
        """Choose a cell, or leave it out if it was chosen; the others stay as they are."""
        if self.inside(cell):
            mask = self._mask.copy()
            mask[cell] = not mask[cell]
            self.cursor = self.anchor = cell
            self._take(mask)

    def begin(self, cell: Cell, *, add: bool = False) -> None:
        """A block begins here: alone, or beside what is chosen. `extend` draws it out."""
        if self.inside(cell):
            base = self._mask if add else np.zeros(self.shape, np.bool_)
            self.cursor = self.anchor = cell
            self._block(base)

    def extend(self, cell: Cell) -> None:
        """Choose the block from the anchor to this cell, beside what was chosen when it began."""
        if min(self.shape) > 0:
            self.cursor = _clipped(cell, self.shape)
            self._block(self._base)

    def all(self) -> None:
        """Choose every cell."""
        self._take(np.ones(self.shape, np.bool_))

    def clear(self) -> None:
        """Choose nothing; the cursor stays."""
        self._take(np.zeros(self.shape, np.bool_))

    def lines(self, rows: Iterable[int] = (), cols: Iterable[int] = ()) -> None:
        """Choose whole word lines and bit lines."""
        mask = np.zeros(self.shape, np.bool_)
        mask[[*rows], :] = True
        mask[:, [*cols]] = True
        self.set_mask(mask)

    def move_cursor(self, d_row: int, d_col: int, extend: bool = False) -> None:
        """Step with the cursor; it stays inside, and chooses where it stands or the block from the anchor to there."""
        if min(self.shape) == 0:
            return
        to = _clipped((self.cursor[0] + d_row, self.cursor[1] + d_col), self.shape)
        if extend:
            self.extend(to)
        else:
            self.begin(to)

    def point(self, by: Cell) -> None:
        """Step with the cursor alone: what is chosen stays."""
        self.cursor = self.anchor = _clipped((self.cursor[0] + by[0], self.cursor[1] + by[1]), self.shape)
        self.changed.emit()

    def _block(self, base: BoolArray) -> None:
        (row0, row1), (col0, col1) = (sorted(pair) for pair in zip(self.anchor, self.cursor, strict=True))
        mask = base.copy()
        mask[row0 : row1 + 1, col0 : col1 + 1] = True
        self._take(mask, base=base, always=True)

    def _take(self, mask: BoolArray, base: BoolArray | None = None, *, always: bool = False) -> None:
        same = not always and bool((mask == self._mask).all())
        mask.setflags(write=False)
        self._mask, self._base = mask, np.zeros(mask.shape, np.bool_) if base is None else base
        if not same:
            self._cells = None
        self.changed.emit()


def _clipped(cell: Cell, shape: Cell) -> Cell:
    return min(max(cell[0], 0), max(shape[0] - 1, 0)), min(max(cell[1], 0), max(shape[1] - 1, 0))
