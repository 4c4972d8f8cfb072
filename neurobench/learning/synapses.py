"""Weights as differential pairs of cells: W = G+ - G-, multiplied in the array, moved by single pulses.

Input i drives row `rows[i]`; neuron j owns the columns `plus[j]` and `minus[j]`. All multi-step operations are
sub-generators (`yield from`), so that they stay recordable and resumable like any protocol.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, NamedTuple

import numpy as np

from neurobench.bench.crossbar import Applied, Capabilities, Plan, Reading, conductance_s
from neurobench.bench.steps import Apply, BenchView, Sense, Step
from neurobench.bench.stimulus import (
    Bias,
    BoolArray,
    CellRead,
    Direction,
    FloatArray,
    IndexArray,
    Pulse,
    PulseBatch,
    Region,
    VectorRead,
    require,
)
from neurobench.compiling import compiled
from neurobench.errors import CapabilityMissing, UsageError

SignArray = np.ndarray[Any, np.dtype[np.int8]]
Where = Literal["array", "host"]
Writes = Literal["set_only", "set_reset"]

RANGE_USED = 0.9  # of the ammeter's range, at most: devices differ, and offsets add to what is read


class ReadSettings(NamedTuple):
    """How a product is read: amplitude, repeats in the instrument, both polarities, integration time."""

    read_v: float
    averages: int = 1
    both_polarities: bool = False
    integration_s: float = 1e-3
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which cells of an array [rows, cols] form the weights [inputs, neurons]; `usable[rows, cols]` may be pulsed."""

    shape: tuple[int, int]
    rows: IndexArray
    plus: IndexArray
    minus: IndexArray
    usable: BoolArray

    def __post_init__(self) -> None:
        require(len(self.plus) == len(self.minus) > 0, "every neuron needs a plus and a minus column")
        columns = np.concatenate([self.plus, self.minus])
        require(len(set(columns.tolist())) == len(columns), "two neurons cannot share a column")
        require(len(set(self.rows.tolist())) == len(self.rows) > 0, "two inputs cannot share a row")
        inside = max(self.rows) < self.shape[0] and max(columns) < self.shape[1]
        require(bool(inside), f"the pairs do not fit into an array of {self.shape[0]} x {self.shape[1]}")

    @property
    def region(self) -> Region:
        """The smallest block of the array that holds all pairs."""
        low, high = min(self.plus.min(), self.minus.min()), max(self.plus.max(), self.minus.max())
        return Region(int(self.rows.min()), int(self.rows.max()) + 1, int(low), int(high) + 1)

    def cells(self) -> BoolArray:
        """Mask [rows, cols] of all cells that belong to a pair."""
        mask = np.zeros(self.shape, np.bool_)
        mask[np.ix_(self.rows, np.concatenate([self.plus, self.minus]))] = True
        return mask

    def plus_of(self, grid: Any) -> Any:
        """Values of the plus cells [inputs, neurons] out of a grid [rows, cols]."""
        return grid[self.rows[:, None], self.plus]

    def minus_of(self, grid: Any) -> Any:
        """Values of the minus cells [inputs, neurons] out of a grid [rows, cols]."""
        return grid[self.rows[:, None], self.minus]

    def weights(self, conductances_s: FloatArray) -> FloatArray:
        """W = G+ - G- [inputs, neurons] in siemens out of a grid [rows, cols]."""
        require(conductances_s.shape == self.shape, f"a grid of {conductances_s.shape} for pairs on {self.shape}")
        difference = np.empty((len(self.rows), len(self.plus)))
        _weights(conductances_s, self.rows, self.plus, self.minus, difference)
        return difference

    def nudge(self, signs: SignArray, writes: Writes, counts: SignArray) -> None:
        """Add to counts[rows, cols] the pulses that move the weights by signs[inputs, neurons].

        SET-only: a rising weight potentiates G+, a falling one G-. SET + RESET also depresses the other cell of the
        pair. Cells that are not usable get nothing.
        """
        _nudge(signs, self.rows, self.plus, self.minus, self.usable, writes == "set_reset", counts)


def book(counts: SignArray, *books: Any) -> None:
    """Add the pulses of a batch, both signs counted up, to books of whole numbers [rows, cols]."""
    for kept in books:
        _book(counts, kept)


# In every epoch: a pass of numpy over a small array costs more than all of its additions.


@compiled
def _book(counts: Any, kept: Any) -> None:  # pragma: no cover - compiled
    for i in range(counts.shape[0]):
        for j in range(counts.shape[1]):
            kept[i, j] += abs(np.int64(counts[i, j]))


@compiled
def _weights(grid: Any, rows: Any, plus: Any, minus: Any, out: Any) -> None:  # pragma: no cover - compiled
    for i in range(len(rows)):
        for k in range(len(plus)):
            out[i, k] = grid[rows[i], plus[k]] - grid[rows[i], minus[k]]


@compiled
def _nudge(
    signs: Any, rows: Any, plus: Any, minus: Any, usable: Any, both: bool, counts: Any
) -> None:  # pragma: no cover - compiled
    for i in range(len(rows)):
        for k in range(len(plus)):
            s = signs[i, k]
            if usable[rows[i], plus[k]] and (both or s > 0):
                counts[rows[i], plus[k]] += s
            if usable[rows[i], minus[k]] and (both or s < 0):
                counts[rows[i], minus[k]] -= s


def adjacent(
    shape: tuple[int, int], inputs: int, neurons: int, bad: BoolArray | None = None, row0: int = 0, col0: int = 0
) -> Pairs:
    """Pairs in the block at (row0, col0): neuron j uses the columns col0 + 2j and col0 + 2j + 1."""
    columns = col0 + 2 * np.arange(neurons, dtype=np.int32)
    usable = np.ones(shape, np.bool_) if bad is None else ~bad
    return Pairs(shape, row0 + np.arange(inputs, dtype=np.int32), columns, columns + 1, usable)


def remapped(shape: tuple[int, int], inputs: int, neurons: int, bad: BoolArray) -> Pairs:
    """Pairs on the rows and column pairs with the fewest `bad[rows, cols]` cells; what stays bad is masked.

    Uses the spare lines of an array that is larger than the task. Without bad cells, or without spare lines, this
    is `adjacent`.
    """
    slots = shape[1] // 2
    require(inputs <= shape[0] and neurons <= slots, f"{inputs} x {2 * neurons} cells do not fit into {shape}")
    per_slot = bad[:, : 2 * slots].reshape(shape[0], slots, 2).sum(axis=(0, 2))
    chosen = np.sort(np.argsort(per_slot, kind="stable")[:neurons]).astype(np.int32)
    columns = np.concatenate([2 * chosen, 2 * chosen + 1])
    rows = np.sort(np.argsort(bad[:, columns].sum(axis=1), kind="stable")[:inputs]).astype(np.int32)
    return Pairs(shape, rows, 2 * chosen, 2 * chosen + 1, ~bad)


class Product(NamedTuple):
    """Differential currents [n, neurons] (or [n, inputs] backwards) in amperes, and how they came about.

    `sigma_a`: standard deviation of one of them as the instrument declares it (nan: not known). `over_a`: the range of
    the ammeter, where a current left it and was cut off; else 0.
    """

    currents_a: FloatArray
    sigma_a: float
    start_s: float
    end_s: float
    over_a: float = 0.0


@dataclass(frozen=True, slots=True)
class Multiplier:
    """A product of fixed voltages with the weights, prepared once and read many times.

    In the array it is one vector read; where the bench cannot do that, the cells are read and multiplied on the
    host, and `where` says so.
    """

    pairs: Pairs
    volts: FloatArray
    where: Where
    sense: Sense
    plus: Any
    minus: Any

    def of(self, reading: Reading) -> Product:
        """The product in the answer to `sense`."""
        if self.where == "host":
            return self._on_host(reading)
        both = reading.currents_a
        columns = both[0] if len(both) == 1 else (both[0] - both[1]) / 2
        return Product(
            columns[:, self.plus] - columns[:, self.minus],
            reading.sigma_a * (2.0 / len(both)) ** 0.5,
            reading.start_s,
            reading.end_s,
            over_a(reading),
        )

    def _on_host(self, reading: Reading) -> Product:
        read = self.sense.read
        assert isinstance(read, CellRead)
        grid = np.zeros(self.pairs.shape)
        grid[read.mask] = conductance_s(reading, read.voltage_v)
        sigma_s = reading.sigma_a / (read.voltage_v * len(reading.currents_a) ** 0.5)
        spread = sigma_s * (2 * (self.volts**2).sum(axis=1).max()) ** 0.5
        product = self.volts @ self.pairs.weights(grid)
        return Product(product, float(spread), reading.start_s, reading.end_s, over_a(reading))

    def read(self) -> Generator[Step, Any, Product]:
        """Read the product once."""
        reading = yield self.sense
        return self.of(reading)


def over_a(reading: Reading) -> float:
    """The ammeter's range where a current left it and was cut off, else 0."""
    return reading.range_a if "over_range" in reading.flags else 0.0


def refuse_cut(range_a: float, read_v: float) -> None:
    """Refuse a current that left the ammeter's range (0: none did): better no product than a wrong one."""
    if range_a:
        raise CapabilityMissing(
            f"a current left the ammeter's range of {range_a:g} A at a read voltage of {read_v:g} V; read with fewer "
            "volts (--set read_v of the protocol; in a script matrix(read_v=...)), drive fewer lines at once, or "
            "choose a larger range"
        )


def fit_range(
    view: BenchView, settings: ReadSettings, cell: tuple[int, int], lines: int, asked: bool,
    highest_s: float | None = None,
) -> Generator[Step, Any, ReadSettings]:  # fmt: skip
    """Settings whose read voltage keeps the current of a column in the ammeter's range, whatever its cells become.

    `lines` rows at most are driven at once, on cells of at most `highest_s` siemens (None: the devices' own g_max_s; if
    nobody knows that, nothing is changed). `cell` (row, column) is read once, to learn the range. UsageError where the
    read voltage was `asked` for and is too high: it is then not lowered in silence.
    """
    most_s = view.device.g_max_s if highest_s is None else highest_s
    if not isfinite(most_s):
        return settings
    mask = np.zeros(view.shape, np.bool_)
    mask[cell] = True
    reading: Reading = yield Sense(cell_read(mask, settings))
    highest_v = RANGE_USED * reading.range_a / (max(lines, 1) * most_s)
    if asked and settings.read_v > highest_v:
        rows = "1 row" if lines <= 1 else f"{lines} rows"
        raise UsageError(
            f"read_v = {settings.read_v} V: {rows} at once, with cells of {most_s:.3g} S, would leave the "
            f"ammeter's range of {reading.range_a:.3g} A; at most {highest_v:.3g} V (--set read_v)"
        )
    return settings._replace(read_v=min(settings.read_v, highest_v))


def multiplier(pairs: Pairs, volts: FloatArray, where: Where, settings: ReadSettings) -> Multiplier:
    """Prepare the product of volts[n, inputs] with the weights, in the array or on the host."""
    if where == "host":
        return Multiplier(pairs, volts, where, Sense(cell_read(pairs.cells(), settings)), slice(0), slice(0))
    region = pairs.region
    on_lines = np.zeros((len(volts), region.row1 - region.row0))
    on_lines[:, pairs.rows - region.row0] = volts
    read = VectorRead(
        on_lines,
        region=region,
        both_polarities=settings.both_polarities,
        delay_s=settings.delay_s,
        integration_s=settings.integration_s,
        averages=settings.averages,
    )
    plus, minus = pairs.plus - region.col0, pairs.minus - region.col0
    return Multiplier(pairs, volts, where, Sense(read), _as_slice(plus), _as_slice(minus))


def _as_slice(lines: IndexArray) -> Any:
    """The same lines as a slice where they are evenly spaced: indexing is then free."""
    steps = set(np.diff(lines).tolist())
    if len(steps) > 1 or min(steps, default=1) < 1:
        return lines
    return slice(int(lines[0]), int(lines[-1]) + 1, steps.pop() if steps else 1)


def cell_read(mask: BoolArray, settings: ReadSettings) -> CellRead:
    """A read of single cells with these settings."""
    return CellRead(
        mask, settings.read_v, settings.both_polarities, settings.delay_s, settings.integration_s, settings.averages
    )


def read_grid(read: CellRead) -> Generator[Step, Any, FloatArray]:
    """Conductances [rows, cols] in siemens of the cells of the read; nan elsewhere."""
    reading = yield Sense(read)
    return grid_of(read, reading)


def grid_of(read: CellRead, reading: Reading) -> FloatArray:
    """Conductances [rows, cols] in siemens in the answer to a cell read; nan where nothing was read."""
    if reading.currents_a.shape[1] == read.mask.size:
        return conductance_s(reading, read.voltage_v).reshape(read.mask.shape)
    grid = np.full(read.mask.shape, np.nan)
    grid[read.mask] = conductance_s(reading, read.voltage_v)
    return grid


def multiply(pairs: Pairs, volts: FloatArray, where: Where, settings: ReadSettings) -> Generator[Step, Any, Product]:
    """Read the product of volts[n, inputs] with the weights once; `multiplier` saves work when it is read often."""
    return (yield from multiplier(pairs, volts, where, settings).read())


def count_reads(cost: dict[str, float], reading: Reading, averages: int = 1) -> None:
    """Add a reading to the cost: `reads` (one per line or cell, polarity and average) and `read_s`."""
    cost["reads"] += reading.currents_a.size * averages
    cost["read_s"] += reading.end_s - reading.start_s


def can_transpose(capabilities: Capabilities) -> bool:
    """Whether the bench multiplies backwards through the array."""
    return Direction.COLS_TO_ROWS in capabilities.vector_reads


def multiply_back(
    pairs: Pairs, errors: FloatArray, in_array: bool, held_s: FloatArray, settings: ReadSettings, cost: dict[str, float]
) -> Generator[Step, Any, FloatArray]:
    """Errors [n, neurons] through the weights backwards: [n, inputs], in siemens times the unit of the errors.

    In the array +error drives the plus column and -error the minus column, and the rows carry the answer; else the
    product is taken with `held_s`, the weights [inputs, neurons] that the host remembers from its last read.
    """
    largest = float(np.abs(errors).max())
    if not in_array or largest == 0:
        held: FloatArray = errors @ held_s.T
        return held
    region = pairs.region
    volts = np.zeros((len(errors), region.col1 - region.col0))
    volts[:, pairs.plus - region.col0] = errors * (settings.read_v / largest)
    volts[:, pairs.minus - region.col0] = -volts[:, pairs.plus - region.col0]
    reading = yield Sense(
        VectorRead(volts, Direction.COLS_TO_ROWS, region, settings.both_polarities, averages=settings.averages)
    )
    count_reads(cost, reading, settings.averages)
    answer: FloatArray = reading.signed_a()[:, pairs.rows - region.row0] * (largest / settings.read_v)
    return answer


def where_to_multiply(plan: Plan) -> Where:
    """Where this bench multiplies, as the plan says."""
    return plan.multiply


class Written(NamedTuple):
    """What a write-verify did: the conductances read last [rows, cols], pulses and reads spent, cells still off.

    `counts[rows, cols]` are the pulses per cell, both signs counted up; `pulses` is their sum.
    """

    conductances_s: FloatArray
    counts: IndexArray
    pulses: int
    reads: int
    missed: BoolArray


class Pulses(NamedTuple):
    """The pulses of a chip: many devices are RESET by another amplitude or width than they are SET by."""

    potentiate: Pulse
    depress: Pulse


def fire(counts: SignArray, pulses: Pulses, bias: Bias) -> Generator[Step, Any, tuple[Applied, ...]]:
    """Fire counts[rows, cols]: one batch where both directions share a pulse, else one for each that occurs."""
    if pulses.potentiate == pulses.depress:
        applied: Applied = yield Apply(PulseBatch(counts, pulses.potentiate, bias))
        return (applied,)
    answers = []
    for pulse, part in ((pulses.potentiate, np.maximum(counts, 0)), (pulses.depress, np.minimum(counts, 0))):
        if part.any():
            applied = yield Apply(PulseBatch(part, pulse, bias))
            answers.append(applied)
    return tuple(answers)


def write_verify(
    target_s: FloatArray, mask: BoolArray, using: Pulses, bias: Bias, read: CellRead, tolerance_s: float, budget: int
) -> Generator[Step, Any, Written]:
    """Pulse and read until each masked cell is within `tolerance_s` of target_s[rows, cols]; `budget` pulses a cell.

    A cell that has crossed its target stops: the next pulse would only bring it back across.
    """
    grid = yield from read_grid(read)
    first = np.sign(target_s - grid)
    pulses, reads, spent = 0, 1, np.zeros(mask.shape, np.int32)
    for _ in range(budget):
        open_ = mask & (np.abs(target_s - grid) > tolerance_s) & (np.sign(target_s - grid) == first)
        if not open_.any():
            break
        counts = np.where(open_, first, 0).astype(np.int8)
        answers = yield from fire(counts, using, bias)
        grid = yield from read_grid(read)
        pulses, reads, spent = pulses + sum(a.pulses for a in answers), reads + 1, spent + np.abs(counts)
    return Written(grid, spent, pulses, reads, mask & (np.abs(target_s - grid) > tolerance_s))


def refresh(
    pairs: Pairs, worn: BoolArray, floor_s: float, using: Pulses, bias: Bias, read: CellRead, step_s: float, budget: int
) -> Generator[Step, Any, Written]:
    """SET-only refresh: bring both cells of `worn[inputs, neurons]` pairs down, keeping the difference of each pair.

    The lower cell of a pair goes to `floor_s`, the other to `floor_s` + difference, by write-verify with depressing
    pulses first and the finer direction last; at most `budget` pulses per cell. Needs a device that depresses
    (`allow_refresh`).
    """
    grid = yield from read_grid(read)
    weights = pairs.weights(grid)
    target, mask = grid.copy(), np.zeros(pairs.shape, np.bool_)
    rows = pairs.rows[:, None]
    target[rows, pairs.plus] = floor_s + np.maximum(weights, 0)
    target[rows, pairs.minus] = floor_s + np.maximum(-weights, 0)
    mask[rows, pairs.plus] = mask[rows, pairs.minus] = worn
    mask &= pairs.usable
    down = yield from write_verify(target, mask, using, bias, read, step_s, budget)
    up = yield from write_verify(target, mask, using, bias, read, step_s, max(budget - 1, 1))
    return Written(
        up.conductances_s, down.counts + up.counts, down.pulses + up.pulses, 1 + down.reads + up.reads, up.missed
    )


def allow_refresh(depresses: bool) -> None:
    """Refuse a refresh on devices whose depression is not known (bench rule 18)."""
    if not depresses:
        raise CapabilityMissing(
            "refresh = true needs devices that depress; no depression curve is measured or declared for this chip "
            "(set refresh = false, or declare the curve in the chip's card)"
        )


@dataclass(slots=True)
class Retirement:
    """Which cells stopped answering: no move by 3 sigma in `after` pulses and they are retired (bench rule 18).

    `reference_s` and `since` [rows, cols]: the conductance that a cell is compared with and the pulses it got since.
    """

    after: int
    reference_s: FloatArray
    since: IndexArray
    retired: BoolArray

    @classmethod
    def fresh(cls, after: int, conductances_s: FloatArray) -> Retirement:
        """Start from a first read of all cells."""
        shape = conductances_s.shape
        return cls(after, conductances_s, np.zeros(shape, np.int32), np.zeros(shape, np.bool_))

    def look(self, conductances_s: FloatArray, sigma_s: float) -> BoolArray:
        """Judge the cells that had enough pulses by a new read; the mask of those newly retired."""
        due = (self.since >= self.after) & ~self.retired
        moved = np.abs(conductances_s - self.reference_s) > 3 * 2**0.5 * sigma_s
        lost: BoolArray = due & ~moved
        self.reference_s = np.where(due & moved, conductances_s, self.reference_s)
        self.since = np.where(due, 0, self.since).astype(np.int32)
        self.retired = self.retired | lost
        return lost
