"""A chip's file: who it is, how it is wired, what every cell has been through, and who holds it now.

Every chip has one, real or emulated (bench rule 15). The budgets of the Guard run against it, across runs.
The file is a plain .npz: a JSON text named `passport` and one array per quantity, so numpy alone reads it.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobench.compiling import compiled
from neurobench.errors import ConfigError, Refused, RunFileError, UsageError
from neurobench.system import Lock, replace_file

from .counts import CellCounts, Counts
from .stimulus import BoolArray, FloatArray

if TYPE_CHECKING:
    from .limits import Limits

VERSION = 1
NO_LIMIT = 1 << 62
ROUNDING = 1 + 1e-9  # a limit of 1.3 V admits the float sum 0.65 + 0.65
EXCLUDED = 2  # cell states from here on are not pulsed


class CellState(IntEnum):
    """What is known of a cell. Stuck, shorted and retired cells are not pulsed."""

    VIRGIN = 0
    FORMED = 1
    STUCK = EXCLUDED
    SHORTED = 3
    RETIRED = 4


@dataclass
class Lifetime:
    """What the cells and lines have been through. Energies are bounds (V x compliance x time), in joules.

    `pulses` [rows, cols] counts own pulses, `row_selects` and `col_selects` how often a line was selected. Energies
    are kept so that a pulse costs O(lines) to book: `everywhere_j` [1] went into every cell, `row_j` and `col_j`
    into every cell of a line, `energy_j` [rows, cols] into one cell; `total_j` is their sum.
    """

    pulses: NDArray[np.int64]
    energy_j: FloatArray
    row_selects: NDArray[np.int64]
    col_selects: NDArray[np.int64]
    row_j: FloatArray
    col_j: FloatArray
    everywhere_j: FloatArray

    @classmethod
    def fresh(cls, shape: tuple[int, int]) -> Lifetime:
        """An array that was never pulsed."""
        rows, cols = shape
        return cls(
            np.zeros(shape, np.int64), np.zeros(shape), np.zeros(rows, np.int64), np.zeros(cols, np.int64),
            np.zeros(rows), np.zeros(cols), np.zeros(1),
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every quantity by its name."""
        return dict(vars(self))

    def copy(self) -> Lifetime:
        """A copy to try something on."""
        return Lifetime(**{name: array.copy() for name, array in self.arrays().items()})

    def add_cells(self, pulses: Counts, energy_per_pulse_j: float) -> None:
        """Book pulses [rows, cols] that were given cell by cell, their row and column mates half-selected."""
        if isinstance(pulses, CellCounts):
            rows, cols = (np.zeros(n, np.int64) for n in self.pulses.shape)
            _add_some(pulses.flat, pulses.values, self.pulses.reshape(-1), rows, cols)
        else:
            self.pulses += pulses
            rows, cols = pulses.sum(axis=1, dtype=np.int64), pulses.sum(axis=0, dtype=np.int64)
        self.row_selects += rows
        self.col_selects += cols
        # V/2 on each of the two lines: the pulsed cell sees both halves, its mates one
        self.row_j += rows * (energy_per_pulse_j / 2)
        self.col_j += cols * (energy_per_pulse_j / 2)

    def half_selects(self) -> NDArray[np.int64]:
        """How often each cell [rows, cols] was half-selected."""
        selects: NDArray[np.int64] = self.row_selects[:, None] + self.col_selects - 2 * self.pulses
        return np.maximum(selects, 0)

    def total_j(self) -> FloatArray:
        """Bound of the energy in each cell [rows, cols], own pulses and half-selects together."""
        total: FloatArray = self.energy_j + self.row_j[:, None] + self.col_j + self.everywhere_j[0]
        return total

    def pulses_left(self, limits: Limits) -> FloatArray:
        """Pulses that each cell may still get [rows, cols]; inf without a budget."""
        if limits.max_pulses_per_cell is None:
            return np.full(self.pulses.shape, np.inf)
        return np.maximum(limits.max_pulses_per_cell - self.pulses, 0).astype(np.float64)

    def refusal(self, limits: Limits) -> Spent | None:
        """Which budget is passed, where and by how much; None if none is."""
        if not limits.has_budgets:
            return None
        pulses, selects = limits.max_pulses_per_cell, limits.max_half_selects_per_cell
        energy_j = limits.max_energy_per_cell_j
        if not _passed(
            self.pulses, self.energy_j, self.row_selects, self.col_selects, self.row_j, self.col_j, self.everywhere_j,
            NO_LIMIT if pulses is None else pulses,
            NO_LIMIT if selects is None else selects,
            np.inf if energy_j is None else energy_j * ROUNDING,
        ):  # fmt: skip
            return None
        return (
            _beyond(self.pulses, pulses, "max_pulses_per_cell", "pulses")
            or _beyond(self.total_j(), energy_j, "max_energy_per_cell_j", "J")
            or _beyond(self.half_selects(), selects, "max_half_selects_per_cell", "half-selects")
        )


@compiled
def _add_some(flat: Any, values: Any, pulses: Any, rows: Any, cols: Any) -> None:  # pragma: no cover - compiled
    """Add the counts of some cells (ascending) to pulses [rows * cols], and their sums over lines."""
    k, end, width = 0, flat.size, cols.size
    for i in range(rows.size):
        first, total = i * width, np.int64(0)
        while k < end and flat[k] < first + width:
            at, n = np.uint64(flat[k]), np.int64(values[k])
            pulses[at] += n
            cols[at - np.uint64(first)] += n
            total += n
            k += 1
        rows[i] += total


class Spent(NamedTuple):
    """A budget that would be passed: the limit's name, and the sentence that says where and by how much."""

    limit: str
    words: str


def _beyond(values: NDArray[Any], allowed: float | None, name: str, unit: str) -> Spent | None:
    if allowed is None or values.max() <= allowed * (ROUNDING if unit == "J" else 1):
        return None
    row, col = np.unravel_index(int(values.argmax()), values.shape)
    had = f"cell ({row}, {col}) would have had {values[row, col]:.10g} {unit} over its life"
    return Spent(name, f"{had}; {name} = {allowed:.10g}")


@compiled
def _passed(
    pulses: Any, energy_j: Any, row_selects: Any, col_selects: Any, row_j: Any, col_j: Any, everywhere_j: Any,
    most_pulses: int, most_selects: int, most_j: float,
) -> bool:  # fmt: skip  # pragma: no cover - compiled
    """Whether any cell is beyond any budget; one pass, since it is asked before every pulse."""
    passed = False
    for i in range(pulses.shape[0]):
        for j in range(pulses.shape[1]):
            passed |= pulses[i, j] > most_pulses
            passed |= row_selects[i] + col_selects[j] - 2 * pulses[i, j] > most_selects
            passed |= not (energy_j[i, j] + row_j[i] + col_j[j] + everywhere_j[0] <= most_j)
    return passed


@dataclass
class Passport:
    """Identity and life of one chip. `path` None: kept in memory only, for an emulated chip made for one run."""

    chip_id: str
    shape: tuple[int, int]
    path: Path | None = None
    about: dict[str, Any] = field(default_factory=dict)
    run_file: str = ""
    run_seq: int = -1
    run_open: bool = False

    def __post_init__(self) -> None:
        self._life = Lifetime.fresh(self.shape)
        self._put_off: CellCounts | None = None
        self.cell_state = np.full(self.shape, CellState.FORMED, np.int8)
        self.last_g_s = np.full(self.shape, np.nan)
        self.last_g_time_s = float("nan")
        self.unsettled = False
        self._lock: Lock | None = None

    @classmethod
    def open(cls, path: Path, chip_id: str, shape: tuple[int, int], about: dict[str, Any] | None = None) -> Passport:
        """Take the chip: lock its file and read it, or begin one. Raises InUse if another process holds it."""
        lock = Lock(path.with_name(path.name + ".lock"), f"chip {chip_id or path.name}")
        lock.acquire()
        try:
            known = path.exists()
            passport = cls._read(path, chip_id, shape) if known else cls(chip_id, shape, path, dict(about or {}))
        except BaseException:
            lock.release()
            raise
        passport._lock = lock
        return passport

    @classmethod
    def look(cls, path: Path) -> Passport:
        """What the file says, without taking the chip: for whoever only shows it. Raises RunFileError if damaged."""
        header, arrays = _load(path)
        try:
            return cls._from(header, arrays, path)
        except (KeyError, TypeError, ValueError) as error:
            raise RunFileError(f"{path} is damaged: {type(error).__name__}: {error}") from error

    @classmethod
    def _read(cls, path: Path, chip_id: str, shape: tuple[int, int]) -> Passport:
        passport = cls.look(path)
        if passport.shape != tuple(shape):
            said = f"the chip has {passport.shape} cells, the bench file says {tuple(shape)}"
            raise ConfigError(f"{path}: {said} ([chip] rows, cols)")
        if chip_id and passport.chip_id != chip_id:
            raise ConfigError(f"{path} is the passport of chip {passport.chip_id!r}, not of {chip_id!r} ([chip] id)")
        return passport

    @classmethod
    def _from(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]], path: Path) -> Passport:
        rows, cols = header["shape"]
        passport = cls(str(header["chip_id"]), (int(rows), int(cols)), path, dict(header["about"]))
        passport.run_file, passport.run_seq = str(header["run_file"]), int(header["run_seq"])
        # a run without a file was one on an emulated chip, whose pulses ended with it
        passport.run_open = passport.unsettled = bool(header["run_open"]) and passport.run_file != ""
        passport.last_g_time_s = float(header["last_g_time_s"])
        for name, fresh in passport.life.arrays().items():
            setattr(passport.life, name, _like(arrays[f"life_{name}"], fresh, f"life_{name}"))
        passport.cell_state = _like(arrays["cell_state"], passport.cell_state, "cell_state")
        passport.last_g_s = _like(arrays["last_g_s"], passport.last_g_s, "last_g_s", nan=True)
        return passport

    @property
    def life(self) -> Lifetime:
        """What the chip has had, with all that `book_cells` put off."""
        self._settle()
        return self._life

    @life.setter
    def life(self, life: Lifetime) -> None:
        """Put another in its place, such as a copy to try something on."""
        self._life = life

    def _settle(self) -> None:
        put_off, self._put_off = self._put_off, None
        if put_off is not None:
            self._life.add_cells(put_off, 0.0)

    def book_cells(self, pulses: Counts, more: Counts, energy_per_pulse_j: float) -> None:
        """`Lifetime.add_cells`, put off until somebody looks where it is cheap: whole numbers of the same few cells.

        The loops of a network pulse the same tenth of a million cells a hundred times a second.
        """
        for given in (pulses, more):
            if energy_per_pulse_j or not isinstance(given, CellCounts):  # energies would round in another order
                self.life.add_cells(given, energy_per_pulse_j)
                continue
            if self._put_off is None or self._put_off.flat is not given.flat:
                self._settle()
                self._put_off = given.zeros()
            self._put_off.values += given.values

    def excluded(self) -> BoolArray:
        """Cells [rows, cols] that must not be pulsed."""
        excluded: BoolArray = self.cell_state >= CellState.STUCK
        return excluded

    def excludes_any(self) -> bool:
        """Whether any cell must not be pulsed: asked for before every loop, so no mask is made for it."""
        return bool(self.cell_state.max() >= CellState.STUCK)

    def mark(self, said: Any) -> None:
        """Take in what a protocol found out: {"state": "formed", "cells": [[row, col], ...], "log": [...]}.

        `log` holds one table of values for each cell, kept in `about["forming_log"]` with the run's file. Doing it
        again changes nothing, so a replayed run may. The states count at once and are saved where the run ends.
        Raises UsageError for anything else.
        """
        try:
            state = CellState[str(said["state"]).upper()]
            cells = [(int(row), int(col)) for row, col in said["cells"]]
            log = [dict(entry) for entry in said.get("log", ())]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{said!r} does not say the state of cells ({type(error).__name__}: {error})") from error
        if any(not (0 <= row < self.shape[0] and 0 <= col < self.shape[1]) for row, col in cells):
            raise UsageError(f"the chip has {self.shape} cells; {cells} are not all on it")
        for cell in cells:
            self.cell_state[cell] = state
        kept = self.about.setdefault("forming_log", [])
        for entry in ({"run": self.run_file, **entry} for entry in log):
            if entry not in kept:
                kept.append(entry)

    def begin_run(self, run_file: str, seq: int = -1) -> None:
        """Say durably that a run uses the chip; until `end_run` the file misses its pulses after step `seq`."""
        if self.run_open and not self.unsettled:
            raise Refused(f"chip {self.chip_id!r} is already in run {self.run_file}; end it before {run_file} begins")
        if self.unsettled and run_file != self.run_file:
            raise Refused(self.unsettled_words())
        if not self.unsettled:
            self.run_file, self.run_seq, self.run_open = run_file, seq, True
            self.save()
        self.unsettled = False

    def end_run(self, seq: int) -> None:
        """Say that the books are complete up to step `seq`, the last of the run."""
        self.run_seq, self.run_open, self.unsettled = seq, False, False
        self.save()

    def unsettled_words(self) -> str:
        """What to do about an unsettled run."""
        return (
            f"chip {self.chip_id!r} was last used by run {self.run_file}, which did not end. "
            f"Go on with `neurobench resume {self.run_file}`, or book its pulses and leave it with "
            f"`neurobench settle {self.run_file}`"
        )

    def save(self) -> None:
        """Replace the file atomically; nothing to do for a chip in memory."""
        if self.path is not None:
            replace_file(self.path, self._dump())

    def _dump(self) -> bytes:
        header = {
            "version": VERSION, "chip_id": self.chip_id, "shape": list(self.shape), "about": self.about,
            "run_file": self.run_file, "run_seq": self.run_seq, "run_open": self.run_open,
            "last_g_time_s": self.last_g_time_s,
        }  # fmt: skip
        arrays: dict[str, Any] = {f"life_{name}": array for name, array in self.life.arrays().items()}
        arrays |= {"cell_state": self.cell_state, "last_g_s": self.last_g_s}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, passport=np.array(json.dumps(header)), **arrays)
        return buffer.getvalue()

    def close(self) -> None:
        """Save and let go. Of a run that did not end nothing is saved: its run file is replayed into the books."""
        try:
            if not self.run_open:
                self.save()
        finally:
            self.release()

    def release(self) -> None:
        """Let go without saving."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


# what numpy, zlib and json raise for a file that is cut, overwritten or of another kind
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)


def _load(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        # from memory: numpy leaves a file open that it cannot read
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header: dict[str, Any] = json.loads(str(arrays.pop("passport")))
        version = int(header["version"])
    except _DAMAGE as error:
        raise RunFileError(f"{path} is not a chip's passport, or is damaged: {error}") from error
    if version > VERSION:
        raise RunFileError(f"{path} was written by a newer neurobench (passport version {version} > {VERSION})")
    return header, arrays


def _like(found: NDArray[Any], fresh: NDArray[Any], name: str, nan: bool = False) -> NDArray[Any]:
    """`found`, if it can stand where `fresh` stood: the compiled books check no bounds."""
    if found.shape != fresh.shape or found.dtype != fresh.dtype:
        raise ValueError(f"{name} is {found.dtype}{found.shape}, not {fresh.dtype}{fresh.shape}")
    if not nan and not np.isfinite(found).all():
        raise ValueError(f"{name} holds a value that is no number")
    return np.ascontiguousarray(found)
