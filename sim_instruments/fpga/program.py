"""Programs of a board: parsed, and checked against the limit registers, before anything is driven."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .wire import BACKWARD, FLOATS, FORWARD, WAVEFORMS, Hardware, Limits, RequestRefusal, Status

PULSES, WAVES, CELLS, VECTORS = 1, 2, 3, 4
_PULSES, _RECORD, _WAVES = struct.Struct("<BBII4h"), struct.Struct("<BHHH"), struct.Struct("<BI")
_READ, _LEVEL, _COUNT = struct.Struct("<BBBHIHHHH"), struct.Struct("<h"), struct.Struct("<H")

Bits = NDArray[np.bool_]
Codes = NDArray[np.int64]


class Malformed(RequestRefusal):
    """It is no program."""

    def __init__(self) -> None:
        super().__init__(Status.MALFORMED)


class Limited(RequestRefusal):
    """A limit register would be passed."""

    def __init__(self, index: int) -> None:
        super().__init__(Status.LIMIT, bytes([index]))


class Shot(NamedTuple):
    """`repeat` pulses of one sign on one line and the lines `cross` across it."""

    sign: int
    line: int
    cross: NDArray[np.intp]
    repeat: int


class Record(NamedTuple):
    """Shots on consecutive lines; bits[lines, across]."""

    sign: int
    repeat: int
    first: int
    bits: Bits


class PulseProgram(NamedTuple):
    """Rectangular pulses; levels in codes: selected row, unselected row, selected column, unselected column."""

    axis: int
    width: int
    gap: int
    levels: tuple[int, int, int, int]
    records: tuple[Record, ...]

    @property
    def counted(self) -> tuple[int, int]:
        """Shots and pulses."""
        lines = [int(r.bits.any(axis=1).sum()) for r in self.records]
        return sum(lines), sum(n * r.repeat for n, r in zip(lines, self.records, strict=True))

    def shots(self) -> Iterator[Shot]:
        """In the order of firing."""
        for record in self.records:
            for k in np.flatnonzero(record.bits.any(axis=1)).tolist():
                yield Shot(record.sign, record.first + k, np.flatnonzero(record.bits[k]), record.repeat)

    def at(self, sign: int) -> tuple[int, int, int, int]:
        """Codes at cells in a pulse of that sign: selected, on the selected row, on a selected column, on neither."""
        rs, ru, cs, cu = self.levels if sign == 1 else tuple(-level for level in self.levels)
        return rs - cs, rs - cu, ru - cs, ru - cu


class WaveProgram(NamedTuple):
    """One waveform: channel (0 grounded, 1 A, 2 B) of every line; samples[n, 4] of row A, row B, column A, column B."""

    period: int
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    samples: Codes

    @property
    def counted(self) -> tuple[int, int]:
        """Shots and pulses."""
        return 1, 1

    @property
    def width(self) -> int:
        """Ticks from the first sample to the end."""
        return self.period * len(self.samples)

    def sides(self) -> tuple[Codes, Codes]:
        """Codes [sample, channel] of the three channels of the word lines and of the bit lines."""
        nothing = np.zeros((len(self.samples), 1), np.int64)
        return np.hstack([nothing, self.samples[:, :2]]), np.hstack([nothing, self.samples[:, 2:]])


Program = PulseProgram | WaveProgram


class ReadProgram(NamedTuple):
    """What is to be converted. Cells: levels has one code, `mask` is [rows, cols] of the region. Vectors: levels is
    [n, inputs], mask None. region: row0, rows, col0, cols."""

    both: bool
    backward: bool
    floating: bool
    width: int
    averages: int
    integration: int
    region: tuple[int, int, int, int]
    levels: Codes
    mask: Bits | None

    @property
    def outputs(self) -> int:
        """Output lines of a vector read."""
        return self.region[1] if self.backward else self.region[3]

    @property
    def samples(self) -> int:
        """How many will be taken."""
        each = len(self.levels) * self.outputs if self.mask is None else int(np.count_nonzero(self.mask))
        return each * (1 + self.both)


def parse(data: bytes, hardware: Hardware) -> Program:
    """A pulse program or a waveform. Raises RequestRefusal with MALFORMED."""
    kind = data[0] if data else 0
    if kind == PULSES:
        return _pulses(data, hardware)
    if kind == WAVES and hardware.offers(WAVEFORMS):
        return _waves(data, hardware)
    raise Malformed


def _pulses(data: bytes, hardware: Hardware) -> PulseProgram:
    _, axis, width, gap, *levels = _unpacked(_PULSES, data, 0)
    if axis > 1 or gap < hardware.min_gap:
        raise Malformed
    rs, ru, cs, cu = levels
    return PulseProgram(axis, width, gap, (rs, ru, cs, cu), tuple(_records(data, axis, hardware)))


def _records(data: bytes, axis: int, hardware: Hardware) -> Iterator[Record]:
    along, across = (hardware.rows, hardware.cols) if axis == 0 else (hardware.cols, hardware.rows)
    at = _PULSES.size
    while at < len(data):
        sign, repeat, first, lines = _unpacked(_RECORD, data, at)
        at += _RECORD.size
        if sign not in (1, 2) or not repeat or not lines or first + lines > along:
            raise Malformed
        end = at + (lines * across + 7) // 8
        yield Record(sign, repeat, first, _bits(data[at:end], lines, across))
        at = end


def _waves(data: bytes, hardware: Hardware) -> WaveProgram:
    _, period = _unpacked(_WAVES, data, 0)
    rows_end = _WAVES.size + (2 * hardware.rows + 7) // 8
    cols_end = rows_end + (2 * hardware.cols + 7) // 8
    rows, cols = (
        _channels(data[_WAVES.size : rows_end], hardware.rows),
        _channels(data[rows_end:cols_end], hardware.cols),
    )
    rest = data[cols_end:]
    if period < hardware.min_period or not rest or len(rest) % 8:
        raise Malformed
    return WaveProgram(period, rows, cols, np.frombuffer(rest, "<i2").reshape(-1, 4).astype(np.int64))


def _channels(data: bytes, lines: int) -> NDArray[np.intp]:
    two = _bits(data, lines, 2).astype(np.intp)
    if bool(two.all(axis=1).any()):
        raise Malformed
    channels: NDArray[np.intp] = two[:, 0] + 2 * two[:, 1]
    return channels


def _bits(data: bytes, lines: int, across: int) -> Bits:
    n = lines * across
    if len(data) != (n + 7) // 8:
        raise Malformed
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[n:].any():
        raise Malformed
    found: Bits = bits[:n].reshape(lines, across).astype(np.bool_)
    return found


def _unpacked(layout: struct.Struct, data: bytes, at: int) -> tuple[int, ...]:
    if len(data) < at + layout.size:
        raise Malformed
    return layout.unpack_from(data, at)


# -- limits -----------------------------------------------------------------------------------------------------------


def check(program: Program, limits: Limits, hardware: Hardware) -> None:
    """Raise RequestRefusal with LIMIT and the lowest index that would be passed."""
    found = (
        _passed_by_pulses(program, limits) if isinstance(program, PulseProgram) else _passed_by_wave(program, limits)
    )
    levels = program.levels if isinstance(program, PulseProgram) else program.samples
    beyond_converter = bool(np.abs(np.array(levels)).max() > hardware.pulse_max)
    width = program.width
    tests = (beyond_converter or found[0], *found[1:], width > limits.max_width, 2 * width >= limits.watchdog)
    for index, passed in zip((0, 1, 2, 4, 5, 6), tests, strict=True):
        if passed:
            raise Limited(index)


def _passed_by_pulses(program: PulseProgram, limits: Limits) -> tuple[bool, bool, bool, bool]:
    selected, *others = program.at(1)
    return (
        max(map(abs, program.levels)) > limits.max_line,
        abs(selected) > limits.max_cell,
        max(map(abs, others)) > limits.max_victim,
        program.width < limits.min_width,
    )


def _passed_by_wave(program: WaveProgram, limits: Limits) -> tuple[bool, bool, bool, bool]:
    rows, cols = program.sides()
    worst = int(np.abs(rows[:, :, None] - cols[:, None, :]).max())
    return int(np.abs(program.samples).max()) > limits.max_line, worst > limits.max_cell, False, False


# -- reads ------------------------------------------------------------------------------------------------------------


def parse_read(data: bytes, hardware: Hardware) -> ReadProgram:
    """A read program. Raises RequestRefusal with MALFORMED."""
    kind, flags, width, averages, integration, *region = _unpacked(_READ, data, 0)
    row0, rows, col0, cols = region
    inside = rows and cols and row0 + rows <= hardware.rows and col0 + cols <= hardware.cols
    if not (inside and averages and width in (2, 3, 4)):
        raise Malformed
    both, backward, floating, every = (bool(flags & bit) for bit in (1, 2, 4, 8))
    rest = data[_READ.size :]
    head = (both, backward, floating, width, averages, integration, (row0, rows, col0, cols))
    if kind == CELLS and not flags & ~9:
        return ReadProgram(*head, *_cells(rest, rows, cols, every))
    if kind == VECTORS and not flags & ~7 and _offered(hardware, backward, floating):
        return ReadProgram(*head, _vectors(rest, rows if not backward else cols), None)
    raise Malformed


def _offered(hardware: Hardware, backward: bool, floating: bool) -> bool:
    return hardware.offers(BACKWARD if backward else FORWARD) and (hardware.offers(FLOATS) or not floating)


def _cells(data: bytes, rows: int, cols: int, every: bool) -> tuple[Codes, Bits]:
    level = np.array(_unpacked(_LEVEL, data, 0), np.int64)
    if every and len(data) == _LEVEL.size:
        return level, np.ones((rows, cols), np.bool_)
    if every:
        raise Malformed
    return level, _bits(data[_LEVEL.size :], rows, cols)


def _vectors(data: bytes, inputs: int) -> Codes:
    (n,) = _unpacked(_COUNT, data, 0)
    if not n or len(data) != _COUNT.size + 2 * n * inputs:
        raise Malformed
    return np.frombuffer(data, "<i2", offset=_COUNT.size).reshape(n, inputs).astype(np.int64)


def check_read(read: ReadProgram, length: int, limits: Limits, hardware: Hardware) -> None:
    """Raise RequestRefusal with NO_ROOM or LIMIT."""
    if length > hardware.read_bytes or read.samples > hardware.samples:
        raise RequestRefusal(Status.NO_ROOM)
    if int(np.abs(read.levels).max()) > min(limits.max_read, hardware.read_max):
        raise Limited(3)
