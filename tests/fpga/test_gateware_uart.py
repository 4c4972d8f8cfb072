"""The UART of the gateware against bits that were laid on the line by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from gateware_streams import PERIOD_S, Sink, Source, give, run
from neurobench.sim_instruments.gateware.ports import BYTES
from neurobench.sim_instruments.gateware.uart import SHORTEST_BIT, UartRx, UartTx


def bits_of(byte: int) -> list[int]:
    """Start bit, eight bits, stop bit."""
    return [0, *(byte >> i & 1 for i in range(8)), 1]


def heard(levels: list[tuple[int, float]], divisor: int, phase: float = 0.5) -> bytes:
    """Bytes that UartRx finds in levels of the line, each for so many ticks (that need not be whole)."""
    uart, sink, found = UartRx(), Sink(BYTES, 4096), bytearray()
    m = Module()
    m.submodules += [uart, sink]
    wiring.connect(m, uart.bytes, sink.stream)

    async def line(ctx: Any) -> None:
        ctx.set(uart.divisor, divisor)
        await ctx.delay((20 + phase) * PERIOD_S)
        for level, ticks in levels:
            ctx.set(uart.rx, level)
            await ctx.delay(ticks * PERIOD_S)
        ctx.set(uart.rx, 1)
        await ctx.delay(12 * divisor * PERIOD_S)
        found.extend(sink.taken(ctx))

    run(m, line)
    return bytes(found)


def laid(data: bytes, bit: float) -> list[tuple[int, float]]:
    """Bytes on the line, back to back, `bit` ticks each bit."""
    return [(level, bit) for byte in data for level in bits_of(byte)]


ALL_BYTES = bytes(range(256))


@pytest.mark.parametrize("phase", [0.02, 0.3, 0.6, 0.98])
def test_all_bytes_are_heard_at_four_ticks_a_bit_whenever_they_begin(phase: float) -> None:
    assert heard(laid(ALL_BYTES, SHORTEST_BIT), SHORTEST_BIT, phase) == ALL_BYTES


@pytest.mark.parametrize(("divisor", "off"), [(4, 0.98), (4, 1.02), (5, 1.02), (16, 0.97), (16, 1.03), (417, 1.03)])
def test_a_sender_whose_clock_is_off_is_heard(divisor: int, off: float) -> None:
    data = random.Random(divisor).randbytes(60)
    assert heard(laid(data, divisor * off), divisor) == data


@pytest.mark.parametrize("divisor", [4, 7, 48])
def test_bytes_with_pauses_between_them_are_heard(divisor: int) -> None:
    draw = random.Random(divisor)
    levels = [part for byte in ALL_BYTES[:80] for part in [*laid(bytes([byte]), divisor), (1, 9 * draw.random())]]
    assert heard(levels, divisor) == ALL_BYTES[:80]


def test_a_byte_without_a_stop_bit_is_dropped_and_the_next_one_heard() -> None:
    spoiled = [*laid(b"A", 8), *laid(b"B", 8)[:-1], (0, 8), (1, 8), *laid(b"C", 8)]
    assert heard(spoiled, 8) == b"AC"


def test_a_break_gives_no_bytes() -> None:
    assert heard([(0, 1000), (1, 16), *laid(b"Z", 8)], 8) == b"Z"


def test_a_spike_is_no_start_bit() -> None:
    assert heard([(0, 2), (1, 20), *laid(b"Z", 8)], 8) == b"Z"


def test_the_divisor_may_change_between_two_bytes() -> None:
    uart, sink, found = UartRx(), Sink(BYTES, 16), bytearray()
    m = Module()
    m.submodules += [uart, sink]
    wiring.connect(m, uart.bytes, sink.stream)

    async def line(ctx: Any) -> None:
        for divisor, byte in ((40, b"x"), (4, b"y"), (417, b"z"), (16, b"0")):
            ctx.set(uart.divisor, divisor)
            for level, ticks in laid(byte, divisor):
                ctx.set(uart.rx, level)
                await ctx.delay(ticks * PERIOD_S)
            await ctx.delay(10 * PERIOD_S)
        found.extend(sink.taken(ctx))

    run(m, line)
    assert found == b"xyz0"


def test_a_byte_that_nobody_takes_stays_as_it_is() -> None:
    uart = UartRx()

    async def line(ctx: Any) -> None:
        ctx.set(uart.divisor, 4)
        for level, ticks in laid(b"12", 4):
            ctx.set(uart.rx, level)
            await ctx.delay(ticks * PERIOD_S)
        assert ctx.get(uart.bytes.valid)
        assert ctx.get(uart.bytes.payload) == ord("1")

    run(uart, line)


def spoken(data: bytes, divisor: int, pauses: list[int]) -> list[int]:
    """Levels of the line that UartTx makes of bytes, tick by tick, from the first start bit to rest."""
    uart, source = UartTx(), Source(BYTES, data, pauses)
    m = Module()
    m.submodules += [uart, source]
    wiring.connect(m, source.stream, uart.bytes)
    levels: list[int] = []

    async def line(ctx: Any) -> None:
        ctx.set(uart.divisor, divisor)
        while not ctx.get(uart.busy):
            await ctx.tick()
        while ctx.get(uart.busy) or ctx.get(source.count) < len(data):
            levels.append(ctx.get(uart.tx))
            await ctx.tick()

    run(m, line)
    return levels


@pytest.mark.parametrize("divisor", [4, 5, 48])
def test_bytes_are_sent_back_to_back_with_bits_of_exactly_so_many_ticks(divisor: int) -> None:
    data = bytes((0, 255, 0x55, 0xAA, 1, 128))
    assert spoken(data, divisor, [0]) == [level for byte in data for level in bits_of(byte) for _ in range(divisor)]


def test_the_line_is_high_in_a_pause() -> None:
    levels = spoken(b"\0\0", 4, [0, 60])
    assert levels == [*36 * [0], *4 * [1], *(len(levels) - 80) * [1], *36 * [0], *4 * [1]]
    assert len(levels) > 80


def test_a_new_divisor_counts_from_the_next_start_bit() -> None:
    uart, levels = UartTx(), []

    async def line(ctx: Any) -> None:
        for divisor in (4, 9):
            ctx.set(uart.divisor, divisor)
            await give(ctx, uart.bytes, b"\x0f")
            ctx.set(uart.divisor, 100)
            while ctx.get(uart.busy):
                levels.append(ctx.get(uart.tx))
                await ctx.tick()

    run(uart, line)
    assert levels == [level for divisor in (4, 9) for level in bits_of(0x0F) for _ in range(divisor)]


def test_what_one_sends_the_other_hears() -> None:
    data = random.Random(0).randbytes(300)
    source, tx, rx, sink, found = Source(BYTES, data), UartTx(), UartRx(), Sink(BYTES, 300), bytearray()
    m = Module()
    m.submodules += [source, tx, rx, sink]
    wiring.connect(m, source.stream, tx.bytes)
    wiring.connect(m, rx.bytes, sink.stream)
    m.d.comb += rx.rx.eq(tx.tx)

    async def bench(ctx: Any) -> None:
        await ctx.delay(300 * 41 * PERIOD_S)
        found.extend(sink.taken(ctx))

    run(m, bench)
    assert found == data
