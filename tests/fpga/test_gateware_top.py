"""The whole gateware bit by bit: a host's UART on its line, and its answers at the right speed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator
from gateware_streams import PERIOD_S, Sink, give
from neurobench.sim_instruments.gateware.hardware import Hardware
from neurobench.sim_instruments.gateware.ports import BYTES
from neurobench.sim_instruments.gateware.top import Top
from neurobench.sim_instruments.gateware.uart import UartRx, UartTx

from neurobench.bench import frames
from neurobench.bench.frames import BoardIdentity, Deframer, Op, Reply, Request, Status

HARDWARE = Hardware(
    rows=2, cols=3, clock_hz=4 * 115_200, max_baud=115_200, program_bytes=64, read_bytes=64, samples=16,
    rx_bytes=256, max_body=128, min_gap=8, min_period=160, settle=8, grace=9216, convert=8,
)  # fmt: skip
TWO_SPEEDS = replace(HARDWARE, clock_hz=8 * 115_200, max_baud=2 * 115_200)
FAST = 4  # ticks of a bit at the faster one


class Host:
    """The other end of the line: sends requests, keeps replies; its speed is its own."""

    def __init__(self, hardware: Hardware) -> None:
        self.top, self.tx, self.rx, self.sink = Top(hardware), UartTx(), UartRx(), Sink(BYTES, 4096)
        self.deframer, self.seen, self.gates = Deframer(), 0, 0

    def design(self) -> Module:
        m = Module()
        m.submodules += [self.top, self.tx, self.rx, self.sink]
        wiring.connect(m, self.rx.bytes, self.sink.stream)
        m.d.comb += [self.top.rx.eq(self.tx.tx), self.rx.rx.eq(self.top.tx)]
        return m

    def listen(self, ctx: Any, divisor: int) -> None:
        ctx.set(self.tx.divisor, divisor)
        ctx.set(self.rx.divisor, divisor)

    async def send(self, ctx: Any, data: bytes) -> None:
        await give(ctx, self.tx.bytes, data)
        while ctx.get(self.tx.busy):
            await ctx.delay(PERIOD_S)

    async def replies(self, ctx: Any, n: int, patience: int = 20_000) -> list[Reply]:
        """The next n replies, or those that came in time."""
        found: list[Reply] = []
        for _ in range(patience // 100):
            await ctx.delay(100 * PERIOD_S)
            count = ctx.get(self.sink.count)
            found += self.deframer.feed(bytes(ctx.get(self.sink.memory.data[i]) for i in range(self.seen, count)))
            self.seen = count
            if len(found) >= n:
                break
        return found

    async def ask(self, ctx: Any, op: Op, payload: bytes = b"", session: int = 0) -> Reply:
        await self.send(ctx, frames.encode(Request(op, 7, session, payload)))
        (reply,) = await self.replies(ctx, 1)
        assert (reply.op, reply.tag) == (op, 7)
        return reply


def talk(dialogue: Callable[[Any, Host], Awaitable[None]], hardware: Hardware = HARDWARE) -> None:
    host = Host(hardware)
    simulator = Simulator(host.design())
    simulator.add_clock(PERIOD_S)

    async def bench(ctx: Any) -> None:
        host.listen(ctx, hardware.clock_hz // 115_200)
        await ctx.delay(100 * PERIOD_S)
        await dialogue(ctx, host)

    async def gate(ctx: Any) -> None:
        while True:
            await ctx.posedge(host.top.pins.gate)
            host.gates += 1

    simulator.add_testbench(bench)
    simulator.add_testbench(gate, background=True)
    simulator.run()


def test_the_gateware_says_who_it_is() -> None:
    async def dialogue(ctx: Any, host: Host) -> None:
        await host.send(ctx, b"\0")
        reply = await host.ask(ctx, Op.HELLO, frames.HELLO.pack(0x1234_5678))
        has = BoardIdentity.unpack(reply.payload)
        assert (has.rows, has.cols, has.clock_hz, has.max_baud) == (2, 3, HARDWARE.clock_hz, HARDWARE.max_baud)
        assert (has.program_bytes, has.read_bytes, has.samples) == (64, 64, 16)
        assert (has.rx_bytes, has.max_body) == (256, 128)
        assert reply.session

    talk(dialogue)


def test_a_speed_is_agreed_on_at_the_old_one_and_used_after_the_reply_has_left() -> None:
    async def dialogue(ctx: Any, host: Host) -> None:
        session = (await host.ask(ctx, Op.HELLO, frames.HELLO.pack(1))).session
        reply = await host.ask(ctx, Op.SPEED, frames.SPEED.pack(2 * 115_200), session)
        assert frames.SPEED.unpack(reply.payload) == (2 * 115_200,)
        await ctx.delay(20 * PERIOD_S)
        host.listen(ctx, FAST)
        for text in (b"now at four ticks", bytes(range(20))):
            assert (await host.ask(ctx, Op.ECHO, text, session)).payload == text

    talk(dialogue, TWO_SPEEDS)


def test_what_was_answered_before_the_speed_leaves_at_the_old_one() -> None:
    """Two requests in a row: the second asks for another speed while the first one's reply is still on the line."""

    async def dialogue(ctx: Any, host: Host) -> None:
        session = (await host.ask(ctx, Op.HELLO, frames.HELLO.pack(1))).session
        echo = frames.encode(Request(Op.ECHO, 1, session, bytes(range(1, 50))))
        await host.send(ctx, echo + frames.encode(Request(Op.SPEED, 2, session, frames.SPEED.pack(2 * 115_200))))
        first, second = await host.replies(ctx, 2, 60_000)
        assert first.payload == bytes(range(1, 50))
        assert frames.SPEED.unpack(second.payload) == (2 * 115_200,)
        await ctx.delay(20 * PERIOD_S)
        host.listen(ctx, FAST)
        assert (await host.ask(ctx, Op.ECHO, b"fast", session)).payload == b"fast"

    talk(dialogue, TWO_SPEEDS)


@pytest.mark.parametrize("wrong", [0, 40])
def test_a_wrong_bit_on_the_line_is_counted_and_the_next_frame_answered(wrong: int) -> None:
    async def dialogue(ctx: Any, host: Host) -> None:
        session = (await host.ask(ctx, Op.HELLO, frames.HELLO.pack(1))).session
        spoiled = bytearray(frames.encode(Request(Op.ECHO, 1, session, b"never answered")))
        spoiled[wrong // 8] ^= 1 << wrong % 8
        await host.send(ctx, bytes(spoiled))
        assert await host.replies(ctx, 1, 3000) == []
        status = frames.BoardStatus.unpack((await host.ask(ctx, Op.STATUS, session=session)).payload)
        assert status.bad >= 1
        assert status.good == 2

    talk(dialogue)


def test_the_lines_stay_grounded_through_all_of_it() -> None:
    async def dialogue(ctx: Any, host: Host) -> None:
        session = (await host.ask(ctx, Op.HELLO, frames.HELLO.pack(1))).session
        for op, payload in ((Op.FIRE, frames.FIRE.pack(1, 0)), (Op.REST, b""), (Op.FENCE, frames.FENCE.pack(1))):
            reply = await host.ask(ctx, op, payload, session)
            assert reply.status == (Status.NOT_ARMED if op == Op.FIRE else Status.OK)
        assert host.gates == 0

    talk(dialogue)
