"""The runs of a folder as a table that fills itself: read in a thread, newest first, again only where changed."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QSortFilterProxyModel,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QColor

from neurobench.errors import NeurobenchError
from neurobench.runs import library, sweep
from neurobench.runs.library import Row
from neurobench.runs.runfile import SUFFIX, RunFile

from .. import theme
from .runs_filter import Filter
from .runs_notes import Notes, tags_of

EVERY_MS = 2000
BATCH = 50  # rows that are handed over at once
LIVE_WORDS = frozenset({"ready", "running", "pausing", "paused", "stopping", "aborting"})
ARCHIVE = "archive"

Index = QModelIndex | QPersistentModelIndex
Stamp = tuple[int, ...]

# Mark and tone of a status; the word stands beside them.
LOOKS = {
    "finished": ("✓", "ok"), "not_converged": ("◐", "warn"), "aborted": ("✕", "warn"), "fault": ("▲", "bad"),
    "refused": ("▲", "bad"), "crashed": ("▲", "bad"), "damaged": ("▲", "bad"),
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A run as the table shows it: its row, and whether somebody writes it now."""

    row: Row
    live: bool = False

    @property
    def path(self) -> Path:
        """The run file."""
        return Path(self.row.file)

    @property
    def damaged(self) -> bool:
        """Whether it cannot be read; its status then says why."""
        return self.row.kind == "damaged"

    @property
    def is_sweep(self) -> bool:
        """Whether it is a sweep, not a single run."""
        return self.row.kind == "sweep"

    @property
    def status(self) -> str:
        """The status in one word."""
        return "damaged" if self.damaged else self.row.status


def read_entry(path: Path) -> Entry:
    """One run file as an entry; one that cannot be read says so."""
    try:
        row = library.row(path)
        live = row.status in LIVE_WORDS if row.kind == "run" else row.kind == "sweep" and bool(sweep.writer(path))
    except Exception as error:  # noqa: BLE001 - a damaged file must never hide the others
        words = f"{type(error).__name__}: {error}"
        row = Row(library.run_id(path), "damaged", "", "", words, None, None, None, "", None, str(path))
        live = False
    return Entry(row, live)


def look_of(entry: Entry) -> tuple[str, str, str]:
    """Mark, words and tone ("ok", "warn", "bad", "accent", "text_dim") of a status."""
    if entry.is_sweep:  # what there is to go is said where there is room
        reached, to_go, _ = entry.status.partition(",")
        mark, tone = ("►", "accent") if entry.live else ("◐", "warn") if to_go else ("▦", "text")
        return mark, reached, tone
    if entry.live:
        return "►", entry.status.replace("_", " "), "accent"
    if entry.row.stopped:
        return "■", "stopped", "warn"
    mark, tone = LOOKS.get(entry.status, ("·", "text_dim"))
    return mark, entry.status.replace("_", " "), tone


def stamp_of(path: Path) -> Stamp:
    """Changes when a run is written: of a live one SQLite's log grows first."""
    found: list[int] = []
    for one in (path, path.with_name(path.name + "-wal")):
        with contextlib.suppress(OSError):
            stat = one.stat()
            found += [stat.st_mtime_ns, stat.st_size]
    return tuple(found)


def listed(folder: Path) -> dict[Path, Stamp]:
    """Run and sweep files of a folder with their stamps, in one look."""
    sides: dict[str, Stamp] = {}
    found: dict[Path, Stamp] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                stat = entry.stat()
                stamp = (stat.st_mtime_ns, stat.st_size)
                if entry.name.endswith((SUFFIX, sweep.SUFFIX)):
                    found[Path(entry.path)] = stamp
                elif entry.name.endswith(f"{SUFFIX}-wal"):
                    sides[entry.path.removesuffix("-wal")] = stamp
    return {path: stamp + sides.get(str(path), ()) for path, stamp in found.items()}


class Watcher(QObject):
    """Looks into the folder now and then, and reads what is new in a thread.

    came(entries): rows that are new or have changed; gone(paths); looked(): the folder has been read as it is now.
    """

    came = Signal(list)
    gone = Signal(list)
    looked = Signal()

    def __init__(self, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.folder = folder
        self._known: dict[Path, Stamp] = {}
        self._live: set[Path] = set()
        self._thread: threading.Thread | None = None
        self._quit = threading.Event()
        self._timer = QTimer(self)
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self.look)

    def start(self) -> None:
        """Look now, and every two seconds from now on."""
        self._quit.clear()
        self._timer.start()
        self.look()

    def stop(self, patience_s: float) -> None:
        """Look no more; what is being read is left at the next file, and its end is waited for at most so long."""
        self._timer.stop()
        self._quit.set()
        if self._thread is not None:
            self._thread.join(patience_s)

    def look(self) -> None:
        """Look once, unless the last look is still going on."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._look, name="runs folder", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        now = listed(self.folder)
        away = [path for path in self._known if path not in now]
        for path in away:
            del self._known[path]
        with contextlib.suppress(RuntimeError):  # the window has gone
            if away:
                self.gone.emit(away)
            changed = [path for path, stamp in now.items() if self._known.get(path) != stamp or path in self._live]
            for at in range(0, len(changed), BATCH):
                if not self._read(sorted(changed, key=lambda path: path.name, reverse=True)[at : at + BATCH], now):
                    return
            self.looked.emit()

    def _read(self, paths: list[Path], now: Mapping[Path, Stamp]) -> bool:
        """Read and hand over some rows; False if nobody wants them any more."""
        entries = []
        for path in paths:
            if self._quit.is_set():
                return False
            entry = read_entry(path)
            (self._live.add if entry.live else self._live.discard)(path)
            self._known[path] = now[path]
            entries.append(entry)
        self.came.emit(entries)
        return True


# ---------------------------------------------------------------------------------------------- the table

# A run's name says protocol and seed: their columns, to sort by, come after those that a small window has room for.
COLUMNS = ("When", "Run", "Status", "Data", "Updates", "Tags", "Notes", "Protocol", "Bench", "Seed")
WHEN, RUN, STATUS, SIMULATED, UPDATES, TAGS, NOTE, PROTOCOL, BENCH, SEED = range(len(COLUMNS))
SORT = int(Qt.ItemDataRole.UserRole)
ROOT = QModelIndex()
READ = Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemNeverHasChildren
WRITTEN = READ | Qt.ItemFlag.ItemIsEditable


class RunsModel(QAbstractTableModel):
    """All runs of the folder; tags and notes can be written in the table."""

    refused = Signal(str)

    def __init__(self, notes: Notes, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.notes = notes
        self._entries: list[Entry] = []
        self._at: dict[str, int] = {}

    # -- filling ------------------------------------------------------------------------------------------------

    def take(self, entries: Iterable[Entry]) -> None:
        """Put entries in: in the place of the same file, or behind the others."""
        new: list[Entry] = []
        for entry in entries:
            at = self._at.get(entry.row.file)
            if at is None:
                new.append(entry)
            elif self._entries[at] != entry:
                self._entries[at] = entry
                self.dataChanged.emit(self.index(at, 0), self.index(at, len(COLUMNS) - 1))
        if new:
            self.beginInsertRows(ROOT, len(self._entries), len(self._entries) + len(new) - 1)
            for entry in new:
                self._at[entry.row.file] = len(self._entries)
                self._entries.append(entry)
            self.endInsertRows()

    def drop(self, paths: Iterable[Path]) -> None:
        """Files that are not there any more."""
        for path in paths:
            at = self._at.get(str(path))
            if at is not None:
                self.beginRemoveRows(ROOT, at, at)
                del self._entries[at]
                self._at = {entry.row.file: n for n, entry in enumerate(self._entries)}
                self.endRemoveRows()

    def words_changed(self) -> None:
        """Tags or notes were written elsewhere."""
        if self._entries:
            self.dataChanged.emit(self.index(0, TAGS), self.index(len(self._entries) - 1, NOTE))

    def entry(self, row: int) -> Entry:
        """The entry in a row."""
        return self._entries[row]

    def place(self, path: Path) -> int | None:
        """The row of a file."""
        return self._at.get(str(path))

    def facts(self, row: int) -> dict[str, str]:
        """What the filter looks at."""
        entry, one = self._entries[row], self._entries[row].row
        words = self.notes.of(one.run_id)
        said = {
            "id": one.run_id, "kind": one.kind, "protocol": one.protocol, "bench": one.bench,
            "status": f"{entry.status} {look_of(entry)[1]} {'live' if entry.live else ''}", "seed": str(one.seed),
            "when": when_of(one), "simulated": _yes(one.simulated), "data": _data(one.simulated),
            "tag": " ".join(words.tags), "note": words.note,
        }  # fmt: skip
        return {key: value.lower() for key, value in said.items()}

    # -- what Qt asks -------------------------------------------------------------------------------------------

    def rowCount(self, parent: Index = ROOT) -> int:  # noqa: N802
        """Runs."""
        return 0 if parent.isValid() else len(self._entries)

    def columnCount(self, parent: Index = ROOT) -> int:  # noqa: N802
        """Facts of each."""
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        """Names of the columns."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.ToolTipRole:
            return f"{COLUMNS[section]}: a click sorts, a second one turns it round"
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        """Tags and notes can be edited."""
        return WRITTEN if index.column() in (TAGS, NOTE) else READ

    def data(self, index: Index, role: int = 0) -> Any:
        """One cell."""
        entry, column = self._entries[index.row()], index.column()
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return self._text(entry, column)
        if role == SORT:
            return self._key(entry, column)
        if role == Qt.ItemDataRole.ForegroundRole:
            return _color(entry, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(entry, column)
        if role == Qt.ItemDataRole.TextAlignmentRole and column in (SEED, UPDATES):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def setData(self, index: Index, value: Any, role: int = 2) -> bool:  # noqa: N802
        """Tags or a note were written in the table."""
        if role != Qt.ItemDataRole.EditRole or index.column() not in (TAGS, NOTE):
            return False
        text, run = str(value).strip(), self._entries[index.row()].row.run_id
        return self.write([run], tags=tags_of(text) if index.column() == TAGS else None,
                          note=text if index.column() == NOTE else None)  # fmt: skip

    def write(self, runs: Iterable[str], *, tags: Iterable[str] | None = None, note: str | None = None) -> bool:
        """Write tags or a note on some runs; says so by `refused` where it cannot."""
        try:
            self.notes.set(runs, tags=tags, note=note)
        except NeurobenchError as error:
            self.refused.emit(str(error))
            return False
        self.words_changed()
        return True

    def _text(self, entry: Entry, column: int) -> str:
        """Asked for every cell that is drawn, and to sort by: what is not needed is not made."""
        if column in (TAGS, NOTE):
            words = self.notes.of(entry.row.run_id)
            return " ".join(words.tags) if column == TAGS else words.note
        if column == STATUS:
            mark, text, _ = look_of(entry)
            return f"{mark} {text}"
        one = entry.row
        if column == WHEN:
            return _shortly(when_of(one))
        if column in (UPDATES, SEED):
            number = one.updates if column == UPDATES else one.seed
            return "" if number is None else str(number)
        if column == SIMULATED:
            return _data(one.simulated)
        return one.run_id if column == RUN else one.protocol if column == PROTOCOL else one.bench

    def _key(self, entry: Entry, column: int) -> Any:
        if column == WHEN:
            return re.sub(r"\D", "", entry.row.created or entry.row.run_id)[:14]
        if column == UPDATES:
            return -1 if entry.row.updates is None else entry.row.updates
        if column == SEED:
            first = str(entry.row.seed).partition(":")[0]
            return int(first) if first.isdecimal() else -1
        return self._text(entry, column).lower()

    def _tip(self, entry: Entry, column: int) -> str:
        if column == STATUS and (entry.damaged or entry.is_sweep):
            return entry.row.status
        if column in (TAGS, NOTE):
            return "F2 or a double click writes here; kept beside the runs, never in a run file"
        if column == WHEN:
            return when_of(entry.row)
        if column == SIMULATED:
            return {"SIM": "simulated: no real chip was there", "REAL": "measured on a real chip"}.get(
                self._text(entry, column), ""
            )
        return self._text(entry, column)


def _color(entry: Entry, column: int) -> QColor | None:
    if column == STATUS:
        return QColor(getattr(theme.tokens(), look_of(entry)[2]))
    if column == SIMULATED and entry.row.simulated:
        return QColor(theme.tokens().simulated)
    return None


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _data(value: bool | None) -> str:
    return "" if value is None else "SIM" if value else "REAL"


def when_of(row: Row) -> str:
    """When a run began, in the time of this place; of a damaged file what its name says."""
    return _moment(row.created or row.run_id[:15])


@lru_cache(maxsize=16384)
def _moment(said: str) -> str:
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(said)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return ""


@lru_cache(maxsize=16384)
def _shortly(when: str) -> str:
    """When a run began, as short as it can be told from the others: a column has to be small."""
    if not when:
        return ""
    moment = datetime.fromisoformat(when)
    this_year = moment.year == datetime.now().astimezone().year
    return moment.strftime("%d %b %H:%M" if this_year else "%d %b %Y")


class RunsProxy(QSortFilterProxyModel):
    """The table as it is filtered and sorted."""

    def __init__(self, model: RunsModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._filter = Filter()
        self.setSourceModel(model)
        self.setSortRole(SORT)
        self.setDynamicSortFilter(True)

    def filter_by(self, wanted: Filter) -> None:
        """Show only what fits."""
        self.beginFilterChange()
        self._filter = wanted
        self.endFilterChange(QSortFilterProxyModel.Direction.Rows)

    def filterAcceptsRow(self, source_row: int, source_parent: Index) -> bool:  # noqa: N802, ARG002
        """Whether a run is shown."""
        model = self.sourceModel()
        return not self._filter.parts or (isinstance(model, RunsModel) and self._filter.fits(model.facts(source_row)))

    def entry(self, index: Index) -> Entry:
        """The entry behind an index of this table."""
        model = self.sourceModel()
        assert isinstance(model, RunsModel)
        return model.entry(self.mapToSource(index).row())


def movable(entry: Entry) -> str:
    """Why a run may not be put into the archive; "" if it may."""
    if entry.live or (entry.is_sweep and sweep.writer(entry.path)):
        return "it is going on"
    if entry.status == "crashed":
        return "it crashed: resume or settle it first, its chip's passport may wait for this file"
    with contextlib.suppress(NeurobenchError, OSError):
        if not entry.is_sweep and not entry.damaged:
            with RunFile.open(entry.path) as run:
                return "it is going on" if run.live else ""
    return ""


def archive(entry: Entry) -> Path:
    """Move a run, its figures and its dialogue into the subfolder `archive`; gives where it is now. OSError if not."""
    folder = entry.path.parent / ARCHIVE
    folder.mkdir(exist_ok=True)
    moved = [path for path in _belonging(entry.path) if path.exists()]
    for path in moved:
        if (folder / path.name).exists():
            raise FileExistsError(f"{folder / path.name} exists; nothing was moved")
    for path in moved:
        path.rename(folder / path.name)
    return folder / entry.path.name


def _belonging(path: Path) -> list[Path]:
    return [
        path.with_suffix(""),
        *(path.with_name(path.name + end) for end in (".wire.log", ".wire.log.1", "-wal", "-shm")),
        path,
    ]


Chosen = Callable[[], list[Entry]]
