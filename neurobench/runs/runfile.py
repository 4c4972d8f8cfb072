"""The run file: one SQLite file that holds all of a run, crash-safe while it grows, alone and readable afterwards.

The runner is its only writer; the window, the command line and the service are readers, whether the run is live or
a year old. `RunFile` reads, `RunWriter` writes, `MemoryRecord` stands in for a writer where nothing is kept (sweeps).
Tables and versions are described in docs/runfile.md; decision 0004 says why it is built like this.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sqlite3
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from enum import IntEnum
from functools import cache
from heapq import merge
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self
from urllib.parse import quote

from pydantic import BaseModel

from neurobench.bench.codec import (
    decode_answer,
    decode_step,
    decode_witness,
    encode_answer,
    encode_step,
    encode_witness,
)
from neurobench.bench.codec import pack as pack_value
from neurobench.bench.codec import unpack as unpack_value
from neurobench.bench.crossbar import Unknown, Witness
from neurobench.bench.steps import Answer, Apply, Checkpoint, Loop, Sense, Step, Wait
from neurobench.bench.stimulus import FloatArray
from neurobench.errors import NoRoom, RunFileError, UsageError
from neurobench.system import Lock, free_bytes, holder_of, network_filesystem, replace_file, utc_now

SUFFIX = ".nbr"
SCHEMA = 1
APPLICATION_ID = 0x4E42524E  # "NBRN": tells a run file from any other SQLite file
FLUSH_S = 0.05  # what a watcher may lag behind an emulated run, and what a power cut may cost it
FLUSH_ROWS = 2000
FLUSH_BYTES = 16 << 20
RESERVE_BYTES = 32 << 20  # room that is kept for ending a run in order: its last rows and the final checkpoint
READ_S = 0.03  # a reader ends its transaction within 50 ms: a held one lets the log grow without bound
WAL_PAGES = 4000  # 16 MB between checkpoints; a 1024 x 1024 batch takes 64 pages

_TABLES = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, step BLOB NOT NULL, witness BLOB, answer BLOB,
    state INTEGER NOT NULL, t REAL NOT NULL);
CREATE TABLE notes (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL);
CREATE TABLE truth (seq INTEGER PRIMARY KEY, conductance_s BLOB NOT NULL);
CREATE TABLE snapshots (seq INTEGER PRIMARY KEY, chip BLOB NOT NULL);
"""

KINDS: dict[type, str] = {Apply: "apply", Sense: "sense", Wait: "wait", Loop: "loop", Checkpoint: "checkpoint"}


class Settled(IntEnum):
    """What is known of a journal row: OPEN, an intent without an answer; DONE; DOUBT, nobody can tell whether it was
    fired; WAIVED, a doubt with which the operator chose to go on.
    """

    OPEN = 0
    DONE = 1
    DOUBT = 2
    WAIVED = 3


_STATES = frozenset(map(int, Settled))


class NoteRow(NamedTuple):
    """A note as it was recorded. Names that begin with an underscore are the runner's own."""

    seq: int
    name: str
    value: Any


class Entry(NamedTuple):
    """One row of the journal; `step`, `answer` and `witness` are decoded when asked for."""

    seq: int
    kind: str
    step_bytes: bytes
    witness_bytes: bytes | None
    answer_bytes: bytes | None
    settled: Settled
    t: float

    @property
    def step(self) -> Step:
        """What the protocol asked."""
        return decode_step(self.step_bytes)

    @property
    def answer(self) -> Answer:
        """What happened; None also where nothing is known yet."""
        return None if self.answer_bytes is None else decode_answer(self.answer_bytes)

    @property
    def witness(self) -> Witness:
        """What was staged under, to ask for the outcome."""
        return Witness() if self.witness_bytes is None else decode_witness(self.witness_bytes)


def jsonable(value: Any) -> Any:
    """Objects of the contract as plain JSON values; numbers that JSON does not have become strings."""
    if isinstance(value, BaseModel):
        return jsonable(value.model_dump(mode="python"))
    if is_dataclass(value) and not isinstance(value, type):
        return jsonable(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(jsonable(item) for item in value)
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bool | int | None):
        return value
    return jsonable(value.tolist()) if hasattr(value, "tolist") else str(value)


def jsonable_dict(**values: Any) -> dict[str, Any]:
    """Named values as plain JSON values."""
    return {key: jsonable(value) for key, value in values.items()}


# ------------------------------------------------------------------------------------------------- records


class Record(ABC):
    """Where a runner writes what it does. `seq` numbers the steps of a run from 0.

    `durable`: an intent survives a power cut once `intent` has returned. `keeps_truth`: the hidden conductances of an
    emulated chip, and its snapshots, are wanted. `name` is how a chip's passport names the run.
    """

    durable: bool
    keeps_truth: bool
    name: str = ""

    @abstractmethod
    def put(self, **values: Any) -> None:
        """Set values of the manifest: JSON-able ones, or bytes."""

    @abstractmethod
    def entry(self, seq: int, step: Step, answer: Answer) -> None:
        """Record a step with its answer; it becomes durable within `FLUSH_S` of work, and in order."""

    @abstractmethod
    def intent(self, seq: int, step: Step, witness: Witness) -> None:
        """Record, durably before returning, that `step` will be fired. Again with a new witness if it is staged anew.

        Raises NoRoom when the disk is too full to record what will come of it.
        """

    @abstractmethod
    def answer(self, seq: int, answer: Answer, settled: Settled = Settled.DONE) -> None:
        """Close an intent, durably before returning."""

    @abstractmethod
    def doubt(self, seq: int, unknown: Unknown) -> None:
        """Record that nobody can tell whether an intent was fired."""

    @abstractmethod
    def note(self, seq: int, name: str, value: Any) -> None:
        """Record a named value."""

    @abstractmethod
    def truth(self, seq: int, conductance_s: FloatArray) -> None:
        """Record the hidden conductances of an emulated chip, apart from all that was measured."""

    @abstractmethod
    def snapshot(self, seq: int, chip: bytes) -> None:
        """Keep an emulated chip as it is after step `seq` (-1: before the first), besides the first one kept."""

    @abstractmethod
    def flush(self) -> None:
        """Make durable, and show to readers, all that was recorded so far."""

    @abstractmethod
    def close(self) -> None:
        """Flush and let go."""


class MemoryRecord(Record):
    """A record that keeps manifest and notes in memory and nothing else: for sweeps and for work in a notebook."""

    durable = False
    keeps_truth = False

    def __init__(self) -> None:
        self.manifest: dict[str, Any] = {}
        self.notes: list[NoteRow] = []

    def put(self, **values: Any) -> None:
        """Set values of the manifest."""
        self.manifest.update(values)

    def note(self, seq: int, name: str, value: Any) -> None:
        """Keep a note."""
        self.notes.append(NoteRow(seq, name, value))

    def entry(self, seq: int, step: Step, answer: Answer) -> None:
        """Not kept."""

    def intent(self, seq: int, step: Step, witness: Witness) -> None:
        """Not kept."""

    def answer(self, seq: int, answer: Answer, settled: Settled = Settled.DONE) -> None:
        """Not kept."""

    def doubt(self, seq: int, unknown: Unknown) -> None:
        """Not kept."""

    def truth(self, seq: int, conductance_s: FloatArray) -> None:
        """Not kept."""

    def snapshot(self, seq: int, chip: bytes) -> None:
        """Not kept."""

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class RunWriter(Record):
    """The one writer of a run file. `create` begins a file, `reopen` goes on with one that was not finished.

    Rows without volts behind them are gathered and written in groups; an intent takes all rows before it along, so
    the file is at any moment a prefix of the run. Errors: NoRoom (disk full), RunFileError (damaged, or not writable).
    """

    durable = True
    keeps_truth = True

    def __init__(self, path: Path, lock: Lock, db: sqlite3.Connection) -> None:
        self.path = path
        self.name = str(path)
        self._lock = lock
        self._db = db
        self._manifest: dict[str, Any] = {}
        self._journal: list[tuple[Any, ...]] = []
        self._notes: list[tuple[Any, ...]] = []
        self._truth: list[tuple[Any, ...]] = []
        self._bytes = 0
        self._full = False
        self._flushed = self._room_seen = time.monotonic()

    @classmethod
    def create(cls, path: Path | str, manifest: Mapping[str, Any] | None = None) -> Self:
        """Begin a run file. An existing file is never overwritten; a network file system is refused."""
        path = Path(path).absolute()
        lock = _prepared(path)
        try:
            with _explained(path):
                if path.exists():
                    raise FileExistsError
                # It appears under its name as a whole: a crash here must not leave half a run file.
                replace_file(path, _empty_file())
                db = _connect(path)
                _tune(db)
            writer = cls(path, lock, db)
            writer.put(created=utc_now(), **dict(manifest or {}))
            writer.flush()
        except BaseException:
            _unlock(lock)
            raise
        return writer

    @classmethod
    def reopen(cls, path: Path | str) -> Self:
        """Go on writing a run file that was left; raises InUse while another process writes it."""
        path = Path(path).absolute()
        RunFile.open(path).close()  # says what is wrong with it before anything of it is changed
        lock = _prepared(path)
        try:
            with _explained(path):
                db = _connect(path)
                _tune(db)
        except BaseException:
            _unlock(lock)
            raise
        return cls(path, lock, db)

    # -- recording ----------------------------------------------------------------------------------------------

    def put(self, **values: Any) -> None:
        """Set values of the manifest; durable at the next flush."""
        self._manifest.update(values)

    def entry(self, seq: int, step: Step, answer: Answer) -> None:
        """Record a step with its answer."""
        data, answered = encode_step(step), encode_answer(answer)
        self._journal.append((seq, KINDS[type(step)], data, None, answered, 1, time.time()))
        self._grown(len(data) + len(answered))

    def note(self, seq: int, name: str, value: Any) -> None:
        """Record a named value."""
        data = pack_value(value)
        self._notes.append((seq, name, data))
        self._grown(len(data))

    def truth(self, seq: int, conductance_s: FloatArray) -> None:
        """Record hidden conductances."""
        data = pack_value(conductance_s)
        self._truth.append((seq, data))
        self._grown(len(data))

    def _grown(self, size: int) -> None:
        self._bytes += size
        late = time.monotonic() - self._flushed > FLUSH_S
        if late or self._bytes > FLUSH_BYTES or len(self._journal) + len(self._notes) > FLUSH_ROWS:
            self.flush()

    def intent(self, seq: int, step: Step, witness: Witness) -> None:
        """Record, durably, what will be fired."""
        data = encode_step(step)
        self._need_room(4 * len(data))
        row = (seq, KINDS[type(step)], data, encode_witness(witness), None, Settled.OPEN, time.time())
        self._write(("INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", row))

    def answer(self, seq: int, answer: Answer, settled: Settled = Settled.DONE) -> None:
        """Close an intent, durably."""
        row = (encode_answer(answer), int(settled), seq)
        self._write(("UPDATE journal SET answer = ?, state = ? WHERE seq = ?", row))

    def doubt(self, seq: int, unknown: Unknown) -> None:
        """Record that an intent may or may not have been fired."""
        self.put(doubt={"seq": seq, "shot": unknown.shot, "why": unknown.why})
        self._write(("UPDATE journal SET state = ? WHERE seq = ?", (int(Settled.DOUBT), seq)))

    def snapshot(self, seq: int, chip: bytes) -> None:
        """Keep the chip as it is now; of several only the first and the last stay."""
        self._need_room(2 * len(chip))
        first = "(SELECT min(seq) FROM snapshots)"
        self._write(
            (f"DELETE FROM snapshots WHERE seq > {first}", ()),
            ("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", (seq, chip)),
        )

    def flush(self) -> None:
        """Write all that was gathered, durably."""
        if self._journal or self._notes or self._truth or self._manifest:
            # Once it was said that the disk is full, the reserve is for what was done and for how it ended.
            if not self._full and time.monotonic() - self._room_seen > 1:
                self._need_room(self._bytes)
            self._write()
        self._flushed = time.monotonic()

    def _need_room(self, size: int) -> None:
        free, need = free_bytes(self.path.parent), size + RESERVE_BYTES
        self._full = free < need
        if self._full:
            raise NoRoom(
                f"{free >> 20} MB are free for {self.path}, {need >> 20} MB are needed to record what would be done; "
                "nothing was done. Free some space, then resume"
            )
        self._room_seen = time.monotonic()

    def _write(self, *more: tuple[str, tuple[Any, ...]]) -> None:
        """One durable transaction: all gathered rows, then `more`."""
        with _explained(self.path):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._write_gathered()
                for statement, row in more:
                    self._db.execute(statement, row)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        self._journal, self._notes, self._truth, self._manifest = [], [], [], {}
        self._bytes, self._flushed = 0, time.monotonic()

    def _write_gathered(self) -> None:
        many = self._db.executemany
        if self._journal:
            many("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", self._journal)
        if self._notes:
            many("INSERT INTO notes (seq, name, value) VALUES (?, ?, ?)", self._notes)
        if self._truth:
            many("INSERT OR REPLACE INTO truth VALUES (?, ?)", self._truth)
        if self._manifest:
            rows = [(key, _stored(value)) for key, value in self._manifest.items()]
            many("INSERT OR REPLACE INTO manifest VALUES (?, ?)", rows)

    def close(self) -> None:
        """Flush, make it one file again, and let go. What cannot be written any more is given up, not the file."""
        try:
            with contextlib.suppress(NoRoom):
                self.flush()
            _into_one_file(self._db)
        finally:
            self._db.close()
            _unlock(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@cache
def _empty_file() -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA};"
        db.executescript(marks + _TABLES)
        return db.serialize()


def _stored(value: Any) -> str | bytes:
    return value if isinstance(value, bytes) else json.dumps(jsonable(value), ensure_ascii=False)


def _prepared(path: Path) -> Lock:
    """Check the folder and take the run's lock."""
    kind = network_filesystem(path.parent)
    if kind:
        raise UsageError(
            f"{path.parent} lies on a network file system ({kind}), whose locks and syncs cannot be trusted with a "
            "run file; choose a local folder (--out) and move the finished file"
        )
    lock = Lock(_lock_path(path), f"run {path.name}")
    lock.acquire()
    return lock


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _unlock(lock: Lock) -> None:
    with contextlib.suppress(OSError):
        lock.path.unlink()
    lock.release()


def _connect(path: Path) -> sqlite3.Connection:
    # An engine's last words may come from another thread than the one that opened the file.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)


def _tune(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")


def _into_one_file(db: sqlite3.Connection) -> None:
    """Leave WAL mode: it needs a moment without readers. If they do not let go, the log stays beside the file."""
    for _ in range(50):
        try:
            db.execute("PRAGMA journal_mode = DELETE")
            return
        except sqlite3.OperationalError:
            time.sleep(0.01)
    with contextlib.suppress(sqlite3.OperationalError):
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say what SQLite and the system meant in terms of the run file."""
    try:
        yield
    except FileExistsError as error:
        raise RunFileError(f"{path} exists; a run file is never overwritten") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another folder (--out)") from error
    except sqlite3.Error as error:
        if "full" in str(error):
            raise NoRoom(f"no room left while writing {path}; what was recorded before stays readable") from error
        raise RunFileError(f"cannot use {path} as a run file: {error}") from error


# ------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class _Copy:
    """A recovered copy of a crashed file, and the state of the original that it was made from."""

    folder: tempfile.TemporaryDirectory[str]
    path: Path
    made_from: tuple[int, ...]


class RunFile:
    """Reads a run file, live or finished; nothing in it is ever changed, and the writer is never held up.

    Each call reads in transactions of its own of less than 50 ms. The file of a crashed run is read through a
    recovered copy. Errors: RunFileError if it is no run file, damaged, or of a newer version.
    """

    _SIDES: ClassVar[tuple[str, ...]] = ("-wal", "-journal")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._copy: _Copy | None = None

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open for reading."""
        path = Path(path).absolute()
        _check_kind(path)
        reader = cls(path)
        try:
            _check_version(path, reader._rows("PRAGMA user_version")[0][0])
        except BaseException:
            reader.close()
            raise
        return reader

    def close(self) -> None:
        """Remove the recovered copy, if there is one."""
        if self._copy is not None:
            self._copy.folder.cleanup()
            self._copy = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- what it holds ------------------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether a process is writing it now."""
        return holder_of(_lock_path(self.path)) is not None

    @property
    def manifest(self) -> dict[str, Any]:
        """Everything said once about the run: parameters, seed, bench, identity, versions, status, result."""
        rows = self._rows("SELECT key, value FROM manifest")
        return {key: self._loaded(value) for key, value in rows}

    def value(self, key: str, default: Any = None) -> Any:
        """One value of the manifest."""
        rows = self._rows("SELECT value FROM manifest WHERE key = ?", key)
        if not rows:
            return default
        return self._loaded(rows[0][0])

    def _loaded(self, value: Any) -> Any:
        try:
            return value if isinstance(value, bytes) else json.loads(value)
        except (ValueError, TypeError) as error:
            raise RunFileError(f"{self.path} is damaged: its manifest holds {str(value)[:40]!r}") from error

    @property
    def status(self) -> str:
        """finished, not_converged, aborted, fault; running, paused and so on while live; crashed if it was left."""
        ended: str | None = self.value("status")
        if ended:
            return ended
        return str(self.value("state", "ready")) if self.live else "crashed"

    @property
    def result(self) -> dict[str, Any] | None:
        """What the protocol returned, or None if it has not."""
        found = self.value("result")
        return None if found is None else unpack_value(found)

    def entries(self, since: int = -1) -> Iterator[Entry]:
        """Rows of the journal with seq > `since` in order, open intents included; to follow a live run, ask again
        from the last row whose `settled` was not OPEN.
        """
        for row in self._stream("SELECT seq, kind, step, witness, answer, state, t FROM journal", "seq", since):
            yield _entry(row)

    def notes(self, name: str | None = None, since: int = -1) -> list[NoteRow]:
        """Notes with seq > `since`, of one name or of all but the runner's own."""
        rows = self._stream("SELECT id, seq, name, value FROM notes", "id", self._first_note(since) - 1)
        wanted = (row for row in rows if row[1] > since and _is_wanted(row[2], name))
        return [NoteRow(seq, named, unpack_value(value)) for _, seq, named, value in wanted]

    def _first_note(self, since: int) -> int:
        # Seqs rise with ids, so bisecting ids would do; an index on seq is not worth its price per note.
        if since < 0:
            return 0
        low, high = 0, int(self._rows("SELECT coalesce(max(id), 0) FROM notes")[0][0]) + 1
        while low < high:
            middle = (low + high) // 2
            row = self._rows("SELECT seq FROM notes WHERE id >= ? ORDER BY id LIMIT 1", middle)
            low, high = (middle + 1, high) if row and row[0][0] <= since else (low, middle)
        return low

    def truth(self, since: int = -1) -> Iterator[tuple[int, FloatArray]]:
        """Hidden conductances of an emulated chip as (seq, siemens[rows, cols])."""
        for seq, value in self._stream("SELECT seq, conductance_s FROM truth", "seq", since):
            yield seq, unpack_value(value)

    def recorded(self, since: int = -1) -> Iterator[Entry | NoteRow]:
        """Journal and notes of the protocol in the order of its steps, for a replay."""
        streams: tuple[Iterator[Entry | NoteRow], ...] = (self.entries(since), iter(self.notes(None, since)))
        yield from merge(*streams, key=lambda row: row.seq)

    def last_checkpoint(self) -> Entry | None:
        """The last checkpoint, or None."""
        rows = self._rows(
            "SELECT seq, kind, step, witness, answer, state, t FROM journal WHERE kind = 'checkpoint' "
            "ORDER BY seq DESC LIMIT 1"
        )
        return _entry(rows[0]) if rows else None

    def snapshots(self) -> list[int]:
        """After which steps an emulated chip was kept; -1 is before the first."""
        return [seq for (seq,) in self._rows("SELECT seq FROM snapshots ORDER BY seq")]

    def snapshot(self, seq: int) -> bytes:
        """The emulated chip as it was after step `seq`."""
        rows = self._rows("SELECT chip FROM snapshots WHERE seq = ?", seq)
        if not rows:
            raise RunFileError(f"{self.path} holds no chip after step {seq}")
        return bytes(rows[0][0])

    # -- how it is read -----------------------------------------------------------------------------------------

    def _stream(self, select: str, key: str, since: int) -> Iterator[tuple[Any, ...]]:
        """All rows with key > since, in chunks that each end their transaction in time."""
        while True:
            rows, finished = self._chunk(f"{select} WHERE {key} > ? ORDER BY {key}", since)
            yield from rows
            if finished:
                return
            since = rows[-1][0]

    def _chunk(self, select: str, since: int) -> tuple[list[tuple[Any, ...]], bool]:
        with self._transaction() as db:
            end, rows = time.monotonic() + READ_S, []
            for row in db.execute(select, (since,)):
                rows.append(row)
                if time.monotonic() > end:
                    return rows, False
            return rows, True

    def _rows(self, select: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._transaction() as db:
            return db.execute(select, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection for one read. It is not kept: an open one would keep the writer from ending in one file."""
        try:
            with contextlib.closing(self._connected()) as db:
                yield db
        except sqlite3.Error as error:
            raise RunFileError(f"{self.path} cannot be read as a run file: {error}") from error

    def _connected(self) -> sqlite3.Connection:
        for attempt in range(20):
            db = None
            try:
                db = sqlite3.connect(f"file:{quote(str(self._source()))}?mode=ro", uri=True, timeout=2.0)
                db.execute("PRAGMA schema_version").fetchone()
                return db
            except (sqlite3.OperationalError, FileNotFoundError):
                # Its writer or a watcher may be ending it at this moment, in which its side files come and go.
                if db is not None:
                    db.close()
                if attempt == 19:
                    raise
                time.sleep(0.005)
        raise AssertionError("unreachable")

    def _source(self) -> Path:
        """The file itself while it is live or when it is complete, else a recovered copy."""
        sides = [side for side in map(self._side, self._SIDES) if side.exists() and side.stat().st_size]
        if not sides or self.live:
            return self.path
        state = _state_of(self.path, *sides)
        if self._copy is None or self._copy.made_from != state:
            self.close()
            self._copy = self._recovered(sides, state)
            if _state_of(self.path, *sides) != state:
                self.close()
                raise sqlite3.OperationalError("the file was written while it was copied")
        return self._copy.path

    def _recovered(self, sides: list[Path], state: tuple[int, ...]) -> _Copy:
        folder = tempfile.TemporaryDirectory(prefix="neurobench-recovered-")
        try:
            for file in (self.path, *sides):
                shutil.copyfile(file, Path(folder.name) / file.name)
            path = Path(folder.name) / self.path.name
            with contextlib.closing(_connect(path)) as db:
                _into_one_file(db)
        except BaseException:  # a side file that its writer has just taken away, say: it is tried again
            folder.cleanup()
            raise
        return _Copy(folder, path, state)

    def _side(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def _state_of(*files: Path) -> tuple[int, ...]:
    """What tells whether files were written since: sizes and times."""
    return tuple(n for file in files for n in (file.stat().st_size, file.stat().st_mtime_ns))


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, kind, step, witness, answer, state, t = row
    if state not in _STATES:
        raise RunFileError(f"step {seq} is damaged: {state!r} is no state")
    return Entry(seq, kind, step, witness, answer, Settled(state), t)


def _is_wanted(name: str, wanted: str | None) -> bool:
    return not name.startswith("_") if wanted is None else name == wanted


def _check_version(path: Path, version: int) -> None:
    if version > SCHEMA:
        raise RunFileError(
            f"{path} was written by a newer neurobench: its layout has version {version}, "
            f"this one reads up to {SCHEMA}; update neurobench"
        )


def _check_kind(path: Path) -> None:
    """Refuse what is no run file, before SQLite sees it."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise RunFileError(f"cannot read {path}: {error.strerror or error}") from error
    if not head.startswith(b"SQLite format 3\0") or int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise RunFileError(f"{path} is not a run file (those end in {SUFFIX} and are written by `neurobench run`)")


def end_abandoned(path: Path | str, **values: Any) -> None:
    """Add last words to the manifest of a run whose own thread is stuck: for the abort's second path and the watcher.

    It writes over a connection of its own and takes no lock: the stuck thread may hold it.
    """
    path = Path(path).absolute()
    _check_kind(path)
    rows = [(key, _stored(value)) for key, value in values.items()]
    with _explained(path), contextlib.closing(_connect(path)) as db:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT OR REPLACE INTO manifest VALUES (?, ?)", rows)
        db.execute("COMMIT")
