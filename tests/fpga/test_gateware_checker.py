"""The gateware's checks of programs and read programs against a Python reading of docs/fpga-wire.md."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator
from neurobench.sim_instruments.gateware.checker import Checker
from neurobench.sim_instruments.gateware.hardware import Hardware
from neurobench.sim_instruments.gateware.table import LIMITS_AT
from neurobench.sim_instruments.gateware.wire import identity

OK, MALFORMED, BAD_CRC, LIMIT, NO_ROOM = 0, 7, 8, 9, 10
BOARD = Hardware(rows=3, cols=5, program_bytes=256, read_bytes=128, samples=64, rx_bytes=1024, max_body=300)
LIMITS = (4000, 3900, 2100, 5000, 480, 60_000, 131_072)

# -- the page in Python -----------------------------------------------------------------------------------------------


class WrongError(Exception):
    """MALFORMED."""


@dataclass
class Found:
    """What a program is, limits aside: the limits that it would pass are in `passed`."""

    shots: int = 0
    pulses: int = 0
    samples: int = 0
    width: int = 0
    passed: set[int] = field(default_factory=set)


class Layout:
    """Takes numbers from a program's front."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, layout: str) -> tuple[int, ...]:
        size = struct.calcsize("<" + layout)
        if len(self.data) < size:
            raise WrongError
        piece, self.data = self.data[:size], self.data[size:]
        return struct.unpack("<" + layout, piece)

    def bits(self, count: int) -> list[int]:
        piece = self.take(f"{(count + 7) // 8}s")[0]
        assert isinstance(piece, bytes)
        number = int.from_bytes(piece, "little")
        if number >> count:
            raise WrongError
        return [number >> i & 1 for i in range(count)]


def _check(wrong: bool) -> None:
    if wrong:
        raise WrongError


def _over(found: Found, index: int, magnitude: int, most: int) -> None:
    if magnitude > most:
        found.passed.add(index)


def read_pulses(layout: Layout, h: Hardware, limits: Sequence[int]) -> Found:
    axis, width, gap, row, other_row, col, other_col = layout.take("BIIhhhh")
    _check(axis > 1 or gap < h.min_gap)
    found = Found()
    for level in (row, other_row, col, other_col):
        _over(found, 0, abs(level), min(limits[0], h.pulse_max))
    _over(found, 1, abs(row - col), limits[1])
    for a, b in ((row, other_col), (other_row, col), (other_row, other_col)):
        _over(found, 2, abs(a - b), limits[2])
    _times(found, width, limits, least=limits[4])
    lines_of, across = (h.rows, h.cols) if axis == 0 else (h.cols, h.rows)
    while layout.data:
        sign, repeat, first, lines = layout.take("BHHH")
        _check(sign not in (1, 2) or repeat == 0 or lines == 0 or first + lines > lines_of)
        bits = layout.bits(lines * across)
        fired = sum(any(bits[i * across : (i + 1) * across]) for i in range(lines))
        found.shots, found.pulses = found.shots + fired, found.pulses + fired * repeat
    return found


def _times(found: Found, ticks: int, limits: Sequence[int], least: int = 0) -> None:
    if ticks < least:
        found.passed.add(4)
    _over(found, 5, ticks, limits[5])
    if not 2 * ticks < limits[6]:
        found.passed.add(6)


def read_waves(layout: Layout, h: Hardware, limits: Sequence[int]) -> Found:
    (period,) = layout.take("I")
    _check(period < h.min_period)
    for lines in (h.rows, h.cols):
        bits = layout.bits(2 * lines)
        _check(any(bits[2 * i] and bits[2 * i + 1] for i in range(lines)))
    _check(not layout.data or len(layout.data) % 8 != 0)
    found, count = Found(shots=1, pulses=1), len(layout.data) // 8
    while layout.data:
        row_a, row_b, col_a, col_b = levels = layout.take("hhhh")
        for level in levels:
            _over(found, 0, abs(level), min(limits[0], h.pulse_max))
        for row, col in product((0, row_a, row_b), (0, col_a, col_b)):
            _over(found, 1, abs(row - col), limits[1])
    _times(found, count * period, limits)
    return found


def read_read(kind: int, layout: Layout, h: Hardware, limits: Sequence[int]) -> Found:
    flags, width, averages, _, row0, rows, col0, cols = layout.take("BBHIHHHH")
    _check(bool(flags & (0xF6 if kind == 3 else 0xF8)) or width not in (2, 3, 4) or averages == 0)
    _check(rows == 0 or cols == 0 or row0 + rows > h.rows or col0 + cols > h.cols)
    found = Found(width=width)
    if kind == 3:
        levels = layout.take("h")
        found.samples = rows * cols if flags & 8 else sum(layout.bits(rows * cols))
    else:
        inputs, outputs = (cols, rows) if flags & 2 else (rows, cols)
        (n,) = layout.take("H")
        _check(n == 0)
        levels = layout.take(f"{n * inputs}h")
        found.samples = n * outputs
    _check(layout.data != b"")
    found.samples <<= flags & 1
    for level in levels:
        _over(found, 3, abs(level), min(limits[3], h.read_max))
    return found


Answer = tuple[int, ...]


def expected(program: bytes, reading: bool, h: Hardware, limits: Sequence[int]) -> Answer:
    """(status), (LIMIT, index), (OK, shots, pulses) or (OK, samples, width)."""
    layout, found = Layout(program), Found()
    try:
        (kind,) = layout.take("B")
        _check(kind not in ((3, 4) if reading else (1, 2)))
        if reading:
            found = read_read(kind, layout, h, limits)
        else:
            found = (read_pulses if kind == 1 else read_waves)(layout, h, limits)
    except WrongError:
        return (MALFORMED,)
    if reading and (found.samples > h.samples or len(program) > h.read_bytes):
        return (NO_ROOM,)
    if found.passed:
        return (LIMIT, min(found.passed))
    return (OK, found.samples, found.width) if reading else (OK, found.shots, found.pulses)


# -- the gateware -----------------------------------------------------------------------------------------------------


class Bench:
    """A checker with its memories, and what it answers to one program after the other."""

    def __init__(self, hardware: Hardware, limits: Sequence[int] = LIMITS) -> None:
        self.hardware, self.limits, self.spoil_crc = hardware, limits, 0
        self.module = m = Module()
        m.submodules.checker = self.checker = Checker(hardware)
        table = identity(hardware).ljust(LIMITS_AT, b"\0") + struct.pack("<4H3I", *limits)
        m.submodules.program = self.program = Memory(shape=8, depth=4096, init=[])
        m.submodules.table = self.table = Memory(shape=8, depth=256, init=list(table))
        for memory, addr, data in (
            (self.program, self.checker.addr, self.checker.data),
            (self.table, self.checker.table_addr, self.checker.table_data),
        ):
            port = memory.read_port()
            m.d.comb += [port.addr.eq(addr), data.eq(port.data)]

    def answers(self, programs: Sequence[tuple[bytes, bool]], first: int = 0, closed: bool = False) -> list[Answer]:
        """Of all programs in one simulation."""
        found: list[Answer] = []

        async def ask(ctx: Any) -> None:
            ctx.set(self.checker.first, first)
            ctx.set(self.checker.closed, closed)
            for program, reading in programs:
                for at, byte in enumerate(program):
                    ctx.set(self.program.data[first + at], byte)
                found.append(await self._answer(ctx, program, reading))

        simulator = Simulator(self.module)
        simulator.add_clock(1e-6)
        simulator.add_testbench(ask)
        simulator.run()
        return found

    async def _answer(self, ctx: Any, program: bytes, reading: bool) -> Answer:
        checker = self.checker
        ctx.set(checker.reading, reading)
        ctx.set(checker.count, len(program))
        ctx.set(checker.expected, zlib.crc32(program) ^ self.spoil_crc)
        ctx.set(checker.start, 1)
        await ctx.tick()
        ctx.set(checker.start, 0)
        await ctx.tick().until(checker.done)
        return self._told(ctx, reading)

    def _told(self, ctx: Any, reading: bool) -> Answer:
        checker = self.checker
        if (status := ctx.get(checker.status)) == LIMIT:
            return (LIMIT, ctx.get(checker.index))
        if status != OK:
            return (status,)
        told = (checker.samples, checker.width) if reading else (checker.shots, checker.pulses)
        return (OK, *(ctx.get(signal) for signal in told))


def compared(hardware: Hardware, programs: Sequence[tuple[bytes, bool]], limits: Sequence[int] = LIMITS) -> list[int]:
    """The statuses of all programs, after the gateware was held to the page for each."""
    answers = Bench(hardware, limits).answers(programs)
    for (program, reading), answer in zip(programs, answers, strict=True):
        assert answer == expected(program, reading, hardware, limits), (program.hex(), reading)
    return [answer[0] for answer in answers]


# -- programs at random -----------------------------------------------------------------------------------------------


def packed(bits: Sequence[int]) -> bytes:
    number = sum(bit << i for i, bit in enumerate(bits))
    return number.to_bytes((len(bits) + 7) // 8, "little")


class Draw:
    """Programs as they may be, most of them without a fault, many of them at an edge."""

    def __init__(self, hardware: Hardware, seed: int) -> None:
        self.h, self.random = hardware, random.Random(seed)

    def bits(self, count: int) -> bytes:
        share = self.random.choice((0.0, 0.1, 0.5, 1.0))
        return packed([int(self.random.random() < share) for _ in range(count)])

    def level(self, most: int) -> int:
        edge = self.random.choice((0, most // 2, most, most + 1, -most, -most - 1, 1))
        return edge if self.random.random() < 0.5 else self.random.randint(-most // 2, most // 2)

    def pulses(self) -> bytes:
        draw, h = self.random, self.h
        axis = draw.randrange(2)
        lines_of, across = (h.rows, h.cols) if axis == 0 else (h.cols, h.rows)
        width = draw.choice((480, 479, 481, 50_000, 60_000, 60_001, 65_535, 65_536, 2**31, 2**32 - 1))
        levels = draw.choice(((3900, 1950, 0, 1950), (2000, 0, -1900, -100), [self.level(4000) for _ in range(4)]))
        data = struct.pack("<BBIIhhhh", 1, axis, width, draw.choice((48, 49, 47, 2**24, 96)), *levels)
        for _ in range(draw.randrange(4)):
            first = draw.randrange(lines_of)
            lines = draw.randint(1, lines_of - first)
            data += struct.pack("<BHHH", draw.randint(1, 2), draw.choice((1, 2, 65535)), first, lines)
            data += self.bits(lines * across)
        return data

    def waves(self) -> bytes:
        draw, h = self.random, self.h
        period = draw.choice((480, 479, 30_000, 60_000, 2**31, 2**32 - 1))
        channels = [packed([draw.choice(((0, 0), (1, 0), (0, 1)))[k] for _ in range(n) for k in range(2)])
                    for n in (h.rows, h.cols)]  # fmt: skip
        levels = [self.level(draw.choice((1950, 1950, 4000))) for _ in range(4 * draw.randint(0, 3))]
        return struct.pack("<BI", 2, period) + b"".join(channels) + struct.pack(f"<{len(levels)}h", *levels)

    def read(self) -> bytes:
        draw, h = self.random, self.h
        kind, row0, col0 = draw.randint(3, 4), draw.randrange(h.rows), draw.randrange(h.cols)
        rows, cols = draw.randint(1, h.rows - row0), draw.randint(1, h.cols - col0)
        flags = draw.randrange(2) | (draw.choice((0, 8)) if kind == 3 else draw.choice((0, 2, 4, 6)))
        head = struct.pack("<BBBHI4H", kind, flags, draw.randint(2, 4), draw.randint(1, 9), 480, row0, rows, col0, cols)
        if kind == 3:
            return head + struct.pack("<h", self.level(5000)) + (b"" if flags & 8 else self.bits(rows * cols))
        n = draw.choice((1, 2, 25))
        levels = [self.level(4000) for _ in range(n * (cols if flags & 2 else rows))]
        return head + struct.pack(f"<H{len(levels)}h", n, *levels)

    def spoilt(self, program: bytes) -> bytes:
        """With one byte changed, cut short, or grown."""
        what, at = self.random.randrange(4), self.random.randrange(len(program))
        if what == 0:
            return program[:at]
        if what == 1:
            return program + self.random.randbytes(self.random.randint(1, 8))
        return program[:at] + bytes([self.random.choice((0, 1, 3, 255, program[at] ^ 4))]) + program[at + 1 :]

    def programs(self, count: int) -> Iterator[tuple[bytes, bool]]:
        for i in range(count):
            make = self.random.choice((self.pulses, self.waves, self.read))
            program = make()
            yield (self.spoilt(program) if i % 2 else program), program[0] > 2


# -- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "cols"), [(3, 5), (1, 1), (4, 4), (16, 9)])
def test_random_programs_are_judged_as_the_page_says(rows: int, cols: int) -> None:
    board = Hardware(rows=rows, cols=cols, program_bytes=1024, read_bytes=200, samples=24)
    statuses = compared(board, list(Draw(board, 100 * rows + cols).programs(150)))
    assert set(statuses) == {OK, MALFORMED, LIMIT, NO_ROOM}
    assert min(statuses.count(status) for status in (OK, MALFORMED, LIMIT)) > 10


def test_each_limit_of_a_pulse_passes_when_met_and_refuses_one_more() -> None:
    head, record = "<BBIIhhhh", struct.pack("<BHHH", 1, 1, 0, 1) + b"\x01"
    cases = [
        (480, (2000, 0, 0, 0)), (479, (2000, 0, 0, 0)), (60_000, (2000, 0, 0, 0)), (60_001, (2000, 0, 0, 0)),
        (480, (4000, 1900, 100, 1900)), (480, (4001, 1901, 101, 1901)), (480, (-4000, -1900, -100, -1900)),
        (480, (3900, 1800, 0, 1800)), (480, (3901, 1801, 0, 1801)), (480, (-3900, -1800, 0, -1800)),
        (480, (3900, 2100, 0, 2100)), (480, (3900, 2101, 0, 2100)), (480, (3900, 2100, 0, 1799)),
        (480, (0, 1050, 0, -1050)), (480, (0, 1050, 0, -1051)), (480, (0, 0, 0, 4001)),
        (480, (-32768, -32768, -32768, -32768)), (480, (32767, -32768, -32768, 32767)),
    ]  # fmt: skip
    programs = [(struct.pack(head, 1, 0, width, 48, *levels) + record, False) for width, levels in cases]
    statuses = compared(BOARD, programs)
    assert statuses[:4] == [OK, LIMIT, OK, LIMIT]


def test_the_largest_magnitude_is_refused_even_where_the_registers_allow_it() -> None:
    open_registers = (65535, 65535, 65535, 65535, 0, 2**32 - 1, 2**32 - 1)
    levels = [(-32768, 0, 0, 0), (0, 0, -32768, 0), (-32767, 0, 32767, 0)]
    programs = [(struct.pack("<BBIIhhhh", 1, 0, 480, 48, *four), False) for four in levels]
    read = struct.pack("<BBBHI4H", 3, 8, 4, 1, 480, 0, 1, 0, 1)
    programs += [(read + struct.pack("<h", level), True) for level in (-32768, -32767, 32767)]
    assert compared(BOARD, programs, open_registers) == [LIMIT, LIMIT, OK, LIMIT, OK, OK]


@pytest.mark.parametrize("watchdog", [2_000_001, 0x01FE_FF00, 0xFFFF_FFFF])
def test_a_pulse_is_shorter_than_half_the_watchdog(watchdog: int) -> None:
    registers = (4000, 4000, 4000, 4000, 0, 2**32 - 1, watchdog)
    last = (watchdog - 1) // 2
    widths = [0, 0x80, 0x8080, 0x808080, last, last + 1, 2**31 - 1, 2**31, 2**32 - 1]
    programs = [(struct.pack("<BBIIhhhh", 1, 0, width, 48, 1, 0, 0, 0), False) for width in widths]
    statuses = compared(BOARD, programs, registers)
    assert statuses[4:6] == [OK, LIMIT]


@pytest.mark.parametrize(("rows", "cols"), [(3, 5), (2, 7), (1, 9)])
def test_no_filling_bit_may_be_set(rows: int, cols: int) -> None:
    board = Hardware(rows=rows, cols=cols, program_bytes=256, read_bytes=128, samples=64)
    pulses = struct.pack("<BBIIhhhh", 1, 0, 480, 48, 1, 0, 0, 0) + struct.pack("<BHHH", 1, 1, 0, rows)
    waves = struct.pack("<BI", 2, 480)
    cells = struct.pack("<BBBHI4Hh", 3, 0, 2, 1, 480, 0, rows, 0, cols, 1)
    programs = []
    for head, bits, rest in (
        (pulses, rows * cols, b""),
        (waves, 2 * rows, bytes((2 * cols + 7) // 8) + bytes(8)),
        (waves + bytes((2 * rows + 7) // 8), 2 * cols, bytes(8)),
        (cells, rows * cols, b""),
    ):
        size = (bits + 7) // 8
        programs += [(head + (1 << bit).to_bytes(size, "little") + rest, head is cells) for bit in range(8 * size)]
    statuses = compared(board, programs)
    assert 0 < statuses.count(MALFORMED) < statuses.count(OK)


def test_the_length_of_a_waveform_is_added_up_beyond_32_bits() -> None:
    sample = bytes(8)
    lengths = [(30_000, 2), (30_001, 2), (2**31, 2), (2**31, 4), (2**32 - 1, 3), (480, 20)]
    head = b"\x01\x01\x00"
    programs = [(struct.pack("<BI", 2, period) + head + sample * count, False) for period, count in lengths]
    assert compared(BOARD, programs) == [OK, LIMIT, LIMIT, LIMIT, LIMIT, OK]


def test_a_channel_that_does_not_exist_comes_before_a_limit() -> None:
    waves = struct.pack("<BI", 2, 480) + b"\x03\x01\x00" + struct.pack("<4h", 9000, 0, 0, 0)
    assert compared(BOARD, [(waves, False)]) == [MALFORMED]


def test_a_program_is_armed_only_with_its_crc() -> None:
    bench, program = Bench(BOARD), struct.pack("<BBIIhhhh", 1, 0, 480, 48, 1, 0, 0, 0)
    assert bench.answers([(program, False)]) == [(OK, 0, 0)]
    for bit in (0, 8, 31):
        bench.spoil_crc = 1 << bit
        assert bench.answers([(program, False), (b"\xff", False)]) == [(BAD_CRC,)] * 2


def test_without_limits_nothing_is_read_not_even_at_0_volts() -> None:
    read = struct.pack("<BBBHI4Hh", 3, 8, 4, 1, 480, 0, 1, 0, 1, 0)
    assert Bench(BOARD).answers([(read, True)], closed=True) == [(LIMIT, 3)]
    assert Bench(BOARD).answers([(read, True)]) == [(OK, 1, 4)]


def test_a_program_may_begin_anywhere_in_its_memory() -> None:
    programs = list(Draw(BOARD, 7).programs(30))
    assert Bench(BOARD).answers(programs, first=9) == [expected(p, r, BOARD, LIMITS) for p, r in programs]
