"""Rows of a run file in the order of its steps, a few at a time, for whoever follows a run while it is written.

Journal and notes are two tables; a step is a row of one of them. A `Feed` merges them and gives back only what will not
change any more: a pulse that is on its way, or in doubt, stands in `pending` until it is known what became of it.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from neurobench.bench.codec import unpack
from neurobench.bench.stimulus import FloatArray
from neurobench.runs.runfile import Entry, RunFile, Settled, _entry

ROWS = 2000  # of each table, fetched at once
FETCH_BYTES = 4 << 20
FETCH_S = 0.005
FACTS = ("status", "state", "error", "harm", "reached", "stopped", "doubt")  # what of the manifest changes on the way

_ENTRIES = "SELECT seq, kind, step, witness, answer, state, t FROM journal WHERE seq > ? ORDER BY seq"
_NOTES = "SELECT id, seq, name, value FROM notes WHERE id > ? ORDER BY id"
_FACTS = f"SELECT key, value FROM manifest WHERE key IN ({','.join('?' * len(FACTS))})"
_LAST = """SELECT max(coalesce((SELECT max(seq) FROM journal), -1),
                      coalesce((SELECT seq FROM notes ORDER BY id DESC LIMIT 1), -1))"""


class RawNote(NamedTuple):
    """A note that is decoded when it is asked for; `place` numbers the notes of a file."""

    place: int
    seq: int
    name: str
    data: bytes

    @property
    def value(self) -> Any:
        """The value that was noted."""
        return unpack(self.data)


_TRUTH = "SELECT seq, conductance_s FROM truth WHERE seq > ? ORDER BY seq DESC LIMIT 1"

Row = TypeVar("Row", Entry, RawNote)


class Place(NamedTuple):
    """How far a file was read: the last row of the journal and the last note."""

    seq: int = -1
    note: int = 0


class Batch(NamedTuple):
    """What one look into the file gave; `all_entries`, `all_notes`: nothing came after these then. `truth`: the newest
    one, with its step, if it is newer than the one that was known.
    """

    entries: list[Entry]
    notes: list[RawNote]
    all_entries: bool
    all_notes: bool
    last_seq: int
    facts: dict[str, Any]
    truth: tuple[int, bytes] | None


class FollowedFile(RunFile):
    """A run file that is looked into again and again."""

    def after(self, place: Place, wants_entries: bool, wants_notes: bool, known_truth: int) -> Batch:
        """Rows after `place` and what the manifest says, all of one moment."""
        with self._transaction() as db:
            db.execute("BEGIN")
            rows, all_rows = _some(db.execute(_ENTRIES, (place.seq,))) if wants_entries else ([], False)
            notes, all_notes = _some(db.execute(_NOTES, (place.note,))) if wants_notes else ([], False)
            said = db.execute(_FACTS, FACTS).fetchall()
            last = db.execute(_LAST).fetchone()[0]
            truth = db.execute(_TRUTH, (known_truth,)).fetchone()
        entries = [_entry(row) for row in rows]
        facts = {key: self._loaded(value) for key, value in said}
        return Batch(entries, [RawNote(*note) for note in notes], all_rows, all_notes, int(last), facts, truth)

    def truth_at(self, seq: int) -> FloatArray | None:
        """The hidden conductances as they were recorded last, up to step `seq`."""
        rows = self._rows("SELECT conductance_s FROM truth WHERE seq <= ? ORDER BY seq DESC LIMIT 1", seq)
        return unpack(rows[0][0]) if rows else None

    def stamp(self) -> tuple[int, ...]:
        """What changes whenever somebody has written the file: sizes and times of it and of its log."""
        found = []
        for file in (self.path, *map(self._side, self._SIDES)):
            try:
                said = file.stat()
            except OSError:
                continue
            found += [said.st_size, said.st_mtime_ns]
        return tuple(found)


def _some(cursor: Iterable[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], bool]:
    """Rows up to a number, a size and a time, at least two; and whether these are all.

    Two, because the last one may be an intent that has to be read again.
    """
    rows: list[tuple[Any, ...]] = []
    end, size = time.monotonic() + FETCH_S, 0
    for row in cursor:
        if len(rows) >= 2 and (len(rows) >= ROWS or size > FETCH_BYTES or time.monotonic() > end):
            return rows, False
        rows.append(row)
        size += sum(len(part) for part in row if isinstance(part, bytes))
    return rows, True


class Feed:
    """Settled rows after `place`, one by one: `next` gives what is at hand, `refill` looks into the file."""

    def __init__(self, file: FollowedFile, place: Place = Place()) -> None:  # noqa: B008 - it is immutable
        self.pending: Entry | None = None
        self.last_seq = place.seq
        self.facts: dict[str, Any] = {}
        self.truth: tuple[int, bytes] = -1, b""  # the newest hidden conductances, and after which step
        self._file = file
        self._seq, self._note = place  # up to where rows were given out
        self._fetched = place
        self._rows: deque[Entry | RawNote] = deque()  # in order: nothing that is not fetched yet comes between them
        self._entries: list[Entry] = []  # and what may have to wait for a row of the other table
        self._notes: list[RawNote] = []
        self._horizon: float = -1
        self._sure: float = -inf  # up to which step nothing can come to what is at hand
        self._all = False

    @property
    def place(self) -> Place:
        """Up to where rows were given out."""
        return Place(self._seq, self._note)

    @property
    def waiting(self) -> bool:
        """Whether there is more than was given out, as far as is known."""
        return bool(self._rows) or not self._all

    def needs_more(self, until: float) -> bool:
        """Whether rows with seq <= `until` may be in the file that are not at hand."""
        return self._sure < min(until, self.last_seq)

    def refill(self) -> None:
        """Look into the file for what comes after what is at hand."""
        few = len(self._rows) < ROWS
        wanted = few and len(self._entries) < ROWS, few and len(self._notes) < ROWS
        found = self._file.after(self._fetched, *wanted, self.truth[0])
        if few:
            self._sort_in(found)
        else:
            self._all = False
        self.last_seq, self.facts, self.truth = found.last_seq, found.facts, found.truth or self.truth

    def _sort_in(self, found: Batch) -> None:
        entries, self.pending = found.entries, None
        if entries and found.all_entries and entries[-1].settled in (Settled.OPEN, Settled.DOUBT):
            self.pending = entries.pop()
        seq = entries[-1].seq if entries else self._fetched.seq
        self._fetched = Place(seq, found.notes[-1].place if found.notes else self._fetched.note)
        self._entries += entries
        self._notes += found.notes
        self._all = found.all_entries and found.all_notes
        self._horizon = self._safe_until(found)
        # a resumed run has notes with the number of the step before them
        self._sure = min(self._horizon, found.last_seq) if found.all_notes else self._horizon - 1
        steps, self._entries = _parted(self._entries, self._horizon)
        told, self._notes = _parted(self._notes, self._horizon)
        self._rows += sorted([*steps, *told], key=_seq)

    def _safe_until(self, found: Batch) -> float:
        """Up to which step nothing can be missing in between."""
        entries = inf if found.all_entries else self._entries[-1].seq if self._entries else -1
        notes = inf if found.all_notes else self._notes[-1].seq if self._notes else -1
        return min(entries, notes, inf if self.pending is None else self.pending.seq - 1)

    def next(self, until: float = inf) -> Entry | RawNote | None:
        """The next row with seq <= `until`; None where none is at hand."""
        if not self._rows or self._rows[0].seq > until:
            return None
        row = self._rows.popleft()
        if isinstance(row, Entry):
            self._seq = row.seq
        else:
            self._note = row.place
        return row


_seq = attrgetter("seq")


def _parted(rows: list[Row], until: float) -> tuple[list[Row], list[Row]]:
    """Rows with seq <= `until`, and the others."""
    n = bisect_right(rows, until, key=_seq)
    return rows[:n], rows[n:]
