"""What is done to the array: pulses, waveforms, reads, and their one expansion into shots.

Rows are word lines (inputs), columns are bit lines (outputs), V_cell = V_row - V_col everywhere.
All values are SI, all objects frozen; arrays are copied in and made read-only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobench.compiling import compiled
from neurobench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .crossbar import Capabilities

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.integer[Any]]
IndexArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]

MAX_ENTRIES = 2**28  # (shot, cell) entries of one expansion: 1 GiB, and far from what an int32 can index
_NO_COUNT = 1 << 16  # more than any pulse count


class LineState(IntEnum):
    """What a line is connected to. Every line is always in exactly one state (bench rule 1)."""

    FLOATING = 0
    GROUNDED = 1
    VIRTUAL_GROUND = 2
    DRIVEN = 3


class Bias(StrEnum):
    """What the unselected lines do while a pulse is on."""

    HALF = "half"  # selected lines at +-V/2, the rest at 0 V: victims see V/2
    THIRD = "third"  # rest at V/3 and 2V/3: every other cell sees V/3
    GROUNDED = "grounded"  # V on one line, the rest at 0 V: the whole line sees V
    ISOLATED = "isolated"  # transistor or single cell: only the selected cell sees V


class Direction(StrEnum):
    """Which way a vector read multiplies."""

    ROWS_TO_COLS = "rows_to_cols"
    COLS_TO_ROWS = "cols_to_rows"


def frozen_floats(values: Any, name: str, ndim: int) -> FloatArray:
    """Copy `values` into a finite, read-only float64 array of `ndim` dimensions."""
    array = np.array(values, dtype=np.float64)
    if array.ndim != ndim or not array.size:
        raise UsageError(f"{name} needs a non-empty array of {ndim} dimensions, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds a value that is not finite")
    array.setflags(write=False)
    return array


def require(condition: bool, message: str) -> None:
    """Raise `UsageError(message)` unless `condition` holds."""
    if not condition:
        raise UsageError(message)


@dataclass(frozen=True, slots=True)
class Pulse:
    """One rectangular (or trapezoidal) pulse: magnitude only, the batch says potentiate or depress.

    `width_s` is the time at full amplitude; `rise_s` and `fall_s` come on top of it.
    """

    amplitude_v: float
    width_s: float
    rise_s: float = 0.0
    fall_s: float = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.amplitude_v) and self.amplitude_v > 0):
            raise UsageError(
                f"amplitude_v = {self.amplitude_v} V: a pulse has a positive magnitude; "
                "the sign of the batch's counts says potentiate or depress"
            )
        if not (isfinite(self.width_s) and self.width_s > 0):
            raise UsageError(f"width_s = {self.width_s} s: a pulse has a positive width")
        if not (0 <= self.rise_s < float("inf") and 0 <= self.fall_s < float("inf")):
            raise UsageError(f"rise_s = {self.rise_s}, fall_s = {self.fall_s}: edges are not negative")

    @property
    def duration_s(self) -> float:
        """Time from the first volt to the last, in seconds."""
        return self.width_s + self.rise_s + self.fall_s


@dataclass(frozen=True, slots=True)
class PulseBatch:
    """What a rule wants: counts[rows, cols] identical pulses, > 0 potentiates, < 0 depresses.

    `measure`: also measure the current through each selected cell in the first pulse of each shot
    (`Applied.currents_a`), where the bench can.
    """

    counts: IntArray
    pulse: Pulse
    bias: Bias = Bias.HALF
    measure: bool = False

    def __post_init__(self) -> None:
        counts = np.array(self.counts)
        if counts.ndim != 2 or not counts.size:
            raise UsageError(f"counts needs shape [rows, cols], got {counts.shape}")
        if counts.dtype.kind not in "iu":
            raise UsageError(f"counts needs whole numbers, got dtype {counts.dtype}")
        if counts.itemsize > 2:
            if counts.min() < -32767 or counts.max() > 32767:
                raise UsageError("counts are at most 32767 pulses per cell and batch; split the batch")
            counts = counts.astype(np.int16)
        elif counts.dtype == np.uint16:
            raise UsageError("counts needs a signed dtype (int8 or int16)")
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "bias", Bias(self.bias))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the array that the batch is for."""
        return self.counts.shape[0], self.counts.shape[1]


@dataclass(frozen=True, slots=True)
class Shape:
    """A voltage over time as piecewise-linear breakpoints: t_s rising from 0, v in volts, 0 V at both ends."""

    t_s: FloatArray
    v: FloatArray

    def __post_init__(self) -> None:
        t_s, v = frozen_floats(self.t_s, "t_s", 1), frozen_floats(self.v, "v", 1)
        require(len(t_s) == len(v) >= 2, f"a shape needs as many times as volts, at least 2: {len(t_s)}, {len(v)}")
        require(t_s[0] == 0 and bool((np.diff(t_s) >= 0).all()), "t_s starts at 0 and does not fall")
        require(t_s[-1] > 0, "a shape lasts longer than 0 s")
        require(v[0] == 0 and v[-1] == 0, "a shape begins and ends at 0 V: lines are at rest outside it")
        object.__setattr__(self, "t_s", t_s)
        object.__setattr__(self, "v", v)


@dataclass(frozen=True, slots=True)
class Waveforms:
    """Few distinct shapes on many lines, as for overlapping pre and post spikes.

    row_shape[rows], col_shape[cols] index `shapes` (-1: grounded); row_start_s, col_start_s delay each line.
    """

    shapes: tuple[Shape, ...]
    row_shape: IndexArray
    col_shape: IndexArray
    row_start_s: FloatArray
    col_start_s: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", tuple(self.shapes))
        require(len(self.shapes) > 0, "waveforms need at least one shape")
        for name in ("row_shape", "col_shape"):
            index = np.array(getattr(self, name), dtype=np.int32)
            require(index.ndim == 1 and index.size > 0, f"{name} needs one entry per line")
            require(bool(((index >= -1) & (index < len(self.shapes))).all()), f"{name} is -1 or indexes shapes")
            index.setflags(write=False)
            object.__setattr__(self, name, index)
        for name, lines in (("row_start_s", self.row_shape), ("col_start_s", self.col_shape)):
            start = frozen_floats(getattr(self, name), name, 1)
            require(len(start) == len(lines), f"{name} needs one start per line")
            require(bool((start >= 0).all()), f"{name} must not be negative")
            object.__setattr__(self, name, start)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the array that the waveforms are for."""
        return len(self.row_shape), len(self.col_shape)

    @property
    def duration_s(self) -> float:
        """Time until the last line is back at 0 V, in seconds."""
        lasts = np.array([shape.t_s[-1] for shape in self.shapes] + [0.0])
        rows_s, cols_s = self.row_start_s + lasts[self.row_shape], self.col_start_s + lasts[self.col_shape]
        return float(max(rows_s.max(), cols_s.max()))


Stimulus = PulseBatch | Waveforms


@dataclass(frozen=True, slots=True)
class Region:
    """A block of the array: rows row0..row1-1 and columns col0..col1-1."""

    row0: int
    row1: int
    col0: int
    col1: int

    def __post_init__(self) -> None:
        require(0 <= self.row0 < self.row1 and 0 <= self.col0 < self.col1, f"an empty or negative region: {self}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the block."""
        return self.row1 - self.row0, self.col1 - self.col0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the block in an array [rows, cols]."""
        return slice(self.row0, self.row1), slice(self.col0, self.col1)


def _check_timing(delay_s: float, integration_s: float, averages: int) -> None:
    require(0 <= delay_s < float("inf"), f"delay_s = {delay_s} s must be finite and not negative")
    require(0 < integration_s < float("inf"), f"integration_s = {integration_s} s must be positive")
    require(int(averages) == averages and averages >= 1, f"averages = {averages} must be a whole number >= 1")


@dataclass(frozen=True, slots=True)
class CellRead:
    """Read single cells: mask[rows, cols] says which, row-major order; the unselected lines are grounded.

    Both polarities by default, so that an offset of the ammeter cancels (bench rule 5).
    """

    mask: BoolArray
    voltage_v: float
    both_polarities: bool = True
    delay_s: float = 0.0
    integration_s: float = 1e-3
    averages: int = 1

    def __post_init__(self) -> None:
        mask = np.array(self.mask, dtype=np.bool_)
        require(mask.ndim == 2 and bool(mask.any()), "mask needs shape [rows, cols] and at least one cell")
        mask.setflags(write=False)
        object.__setattr__(self, "mask", mask)
        require(isfinite(self.voltage_v) and self.voltage_v != 0, f"voltage_v = {self.voltage_v} V reads nothing")
        _check_timing(self.delay_s, self.integration_s, self.averages)


@dataclass(frozen=True, slots=True)
class VectorRead:
    """Multiply: volts[n, inputs] on the input lines of a region, currents at its output lines at virtual ground.

    Lines outside the region are in the state `idle`; `region` None is the whole array. Each of the n vectors
    is one settled read of `integration_s`, repeated `averages` times; with `both_polarities` each is also read
    with all signs turned.
    """

    volts: FloatArray
    direction: Direction = Direction.ROWS_TO_COLS
    region: Region | None = None
    both_polarities: bool = False
    delay_s: float = 0.0
    integration_s: float = 1e-3
    averages: int = 1
    idle: LineState = LineState.GROUNDED

    def __post_init__(self) -> None:
        object.__setattr__(self, "volts", frozen_floats(self.volts, "volts", 2))
        _check_timing(self.delay_s, self.integration_s, self.averages)
        allowed = (LineState.GROUNDED, LineState.FLOATING)
        require(self.idle in allowed, f"idle lines are grounded or floating, not {self.idle!r}")


Read = CellRead | VectorRead


class LineStates(NamedTuple):
    """The declared state of every line at one instant: states and, where driven, volts."""

    row_state: NDArray[np.int8]
    row_v: FloatArray
    col_state: NDArray[np.int8]
    col_v: FloatArray


class Levels(NamedTuple):
    """The four levels of a half-select scheme, in volts."""

    selected_row_v: float
    unselected_row_v: float
    selected_col_v: float
    unselected_col_v: float

    @property
    def cell_v(self) -> float:
        """Voltage at a selected cell."""
        return self.selected_row_v - self.selected_col_v

    @property
    def victims_v(self) -> tuple[float, float, float]:
        """Voltage at the other cells: on the selected row, on the selected column, on neither."""
        return (
            self.selected_row_v - self.unselected_col_v,
            self.unselected_row_v - self.selected_col_v,
            self.unselected_row_v - self.unselected_col_v,
        )


def levels(bias: Bias, signed_v: float) -> Levels:
    """Line levels that put `signed_v` (V_row - V_col) on the selected cells under `bias`.

    ISOLATED lists what the conducting cells see: the gates of all other cells are off, so no victim sees a volt.
    """
    v = signed_v
    if bias is Bias.HALF:
        return Levels(v / 2, 0.0, -v / 2, 0.0)
    if bias is Bias.THIRD:
        return Levels(v, v / 3, 0.0, 2 * v / 3)
    return Levels(v, 0.0, 0.0, 0.0)


class Shot(NamedTuple):
    """One programmed state of all lines, fired n times."""

    states: LineStates
    n: int


@dataclass(frozen=True, slots=True)
class Shots:
    """The one truth of what will happen, in firing order: Guard, emulator and drivers execute this.

    Shot k selects `line[k]` of `axis` (0 rows, 1 columns) and, across it, the lines
    `cross[indptr[k]:indptr[k+1]]`; it potentiates (`sign[k]` = +1) or depresses (-1) with `repeat[k]` pulses.
    """

    shape: tuple[int, int]
    pulse: Pulse
    bias: Bias
    potentiating_sign: int
    axis: int
    line: IndexArray
    indptr: IndexArray
    cross: IndexArray
    sign: NDArray[np.int8]
    repeat: IndexArray
    measure: bool = False

    def __len__(self) -> int:
        return len(self.line)

    @property
    def pulses(self) -> int:
        """Pulses on selected cells, all shots together."""
        return int(np.dot(np.diff(self.indptr), self.repeat.astype(np.int64)))

    @property
    def duration_s(self) -> float:
        """Time at which a volt is on some line, in seconds (instrument overhead not counted)."""
        return float(self.repeat.sum()) * self.pulse.duration_s

    def levels(self, sign: int) -> Levels:
        """Line levels while a shot of that sign (+1 potentiate, -1 depress) is on."""
        return levels(self.bias, sign * self.potentiating_sign * self.pulse.amplitude_v)

    def signs(self) -> tuple[int, ...]:
        """Which signs occur, each once."""
        return tuple(s for s in (1, -1) if (self.sign == s).any())

    def counts(self) -> NDArray[np.int32]:
        """Pulses per cell [rows, cols], both signs counted up."""
        out = np.zeros(self.shape, np.int32)
        _count(self.axis, self.line, self.indptr, self.cross, self.repeat, out)
        return out

    def states(self, k: int) -> LineStates:
        """Declared state of every line while shot k is on."""
        level = self.levels(int(self.sign[k]))
        cross = self.cross[self.indptr[k] : self.indptr[k + 1]]
        row_v, col_v = np.full(self.shape[0], level.unselected_row_v), np.full(self.shape[1], level.unselected_col_v)
        rows, cols = ([self.line[k]], cross) if self.axis == 0 else (cross, [self.line[k]])
        row_v[rows], col_v[cols] = level.selected_row_v, level.selected_col_v
        return LineStates(_driven_where(row_v), row_v, _driven_where(col_v), col_v)

    def cells(self, k: int) -> tuple[Any, Any]:
        """Row and column indices of the cells that shot k selects."""
        cross = self.cross[self.indptr[k] : self.indptr[k + 1]]
        return (self.line[k], cross) if self.axis == 0 else (cross, self.line[k])

    def only(self, k: int) -> Shots:
        """Shot k alone."""
        at = slice(self.indptr[k], self.indptr[k + 1])
        indptr = np.array([0, at.stop - at.start], np.int32)
        alone = {name: getattr(self, name)[k : k + 1] for name in ("line", "sign", "repeat")}
        return replace(self, indptr=indptr, cross=self.cross[at], **alone)

    def __getitem__(self, k: int) -> Shot:
        if not 0 <= k < len(self):
            raise IndexError(f"shot {k} of {len(self)}")
        return Shot(self.states(k), int(self.repeat[k]))

    def __iter__(self) -> Iterator[Shot]:
        return (self[k] for k in range(len(self)))


def _driven_where(volts: FloatArray) -> NDArray[np.int8]:
    return np.where(volts != 0, LineState.DRIVEN, LineState.GROUNDED).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Play:
    """The expansion of waveforms: one shot in which every line follows its own voltage."""

    waveforms: Waveforms

    def __len__(self) -> int:
        return 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the array."""
        return self.waveforms.shape

    @property
    def duration_s(self) -> float:
        """Time until the last line is back at 0 V, in seconds."""
        return self.waveforms.duration_s


ShotList = Shots | Play


def shots(stimulus: Stimulus, capabilities: Capabilities) -> ShotList:
    """Expand a stimulus into what happens, in order: the only place where this is decided (bench rule 4).

    Potentiating shots come first, then depressing ones; within a sign, line by line; within a line the pulses
    that all selected cells share come first. Parallelism `row` selects one row and many columns at a time,
    `column` one column and many rows, `cell` one cell. Where one ammeter measures, so does a batch that measures.
    """
    if stimulus.shape != capabilities.shape:
        raise UsageError(f"the stimulus is for {stimulus.shape} cells, the bench has {capabilities.shape}")
    if isinstance(stimulus, Waveforms):
        return Play(stimulus)
    by_column, single = capabilities.parallelism == "column", capabilities.parallelism == "cell"
    single = single or (stimulus.measure and capabilities.measures_one_cell)
    counts = np.ascontiguousarray(stimulus.counts.T) if by_column else stimulus.counts
    seen = np.empty((2, len(counts), 3), np.int32)
    n, m = _measure(counts, single, seen)
    if m > MAX_ENTRIES:
        raise UsageError(f"{n} shots with {m} cells to select are more than {MAX_ENTRIES}; split the batch")
    line, indptr, cross = np.empty(n, np.int32), np.zeros(n + 1, np.int32), np.empty(m + 1, np.int32)
    sign, repeat = np.empty(n, np.int8), np.empty(n, np.int32)
    _expand(counts, single, seen, line, indptr, cross, sign, repeat)
    return Shots(stimulus.shape, stimulus.pulse, stimulus.bias, capabilities.potentiating_sign, int(by_column),
                 line, indptr, cross[:m], sign, repeat, stimulus.measure)  # fmt: skip


# Both loops below walk a line once per distinct pulse count, and write without branching on the data: a branch
# that follows random signs costs ten times the work itself.


@compiled
def _look(counts: Any, s: int, level: int) -> tuple[int, int, int]:  # pragma: no cover - compiled
    """How many cells of a line get more than `level` pulses of sign s, and the least and the most of these counts."""
    c: Any
    cells, least, most = 0, _NO_COUNT, 0
    for count in counts:
        c = np.int32(s * count)
        cells += c > level
        least = min(least, c if c > level else _NO_COUNT)
        most = max(most, c)
    return cells, least, most


@compiled
def _choose(counts: Any, s: int, level: int, cells: int, cross: Any, m: Any) -> Any:  # pragma: no cover - compiled
    """Write these cells into cross[m:]; answers where they end."""
    if cells == len(counts):
        for j in range(cells):
            cross[m + j] = j
        return m + cells
    for j in range(len(counts)):
        cross[m] = j
        m += np.int32(s * counts[j]) > level
    return m


@compiled
def _measure(counts: Any, single: bool, seen: Any) -> tuple[int, int]:  # pragma: no cover - compiled
    """Number of shots and of (shot, cell) entries that `_expand` will write; `seen` keeps its first look at lines."""
    n = m = 0
    for s in (1, -1):
        for i in range(counts.shape[0]):
            cells, least, most = _look(counts[i], s, 0)
            kept = seen[(1 - s) // 2, i]
            kept[0], kept[1], kept[2] = cells, least, most
            while cells:
                n += cells if single else 1
                m += cells
                if single or least == most:
                    break
                cells, least, most = _look(counts[i], s, least)
    return n, m


@compiled
def _expand(
    counts: Any, single: bool, seen: Any, line: Any, indptr: Any, cross: Any, sign: Any, repeat: Any
) -> None:  # pragma: no cover - compiled
    """Write the shots of `counts` into the arrays that `_measure` sized; `cross` has one entry to spare."""
    n = m = 0
    for s in (1, -1):
        for i in range(counts.shape[0]):
            level, kept = 0, seen[(1 - s) // 2, i]
            cells, least, most = kept[0], kept[1], kept[2]
            while cells:
                first = m
                m = _choose(counts[i], s, level, cells, cross, first)
                if single:
                    for p in range(first, m):
                        line[n], sign[n], repeat[n] = i, s, s * counts[i, cross[p]]
                        n += 1
                        indptr[n] = p + 1
                    break
                line[n], sign[n], repeat[n] = i, s, least - level
                n += 1
                indptr[n] = m
                if least == most:
                    break
                level = least
                cells, least, most = _look(counts[i], s, level)


@compiled
def _count(axis: int, line: Any, indptr: Any, cross: Any, repeat: Any, out: Any) -> None:  # pragma: no cover - compiled
    for k in range(len(line)):
        for p in range(indptr[k], indptr[k + 1]):
            if axis == 0:
                out[line[k], cross[p]] += repeat[k]
            else:
                out[cross[p], line[k]] += repeat[k]
