"""Streams of the gateware in Amaranth's simulator: a source and a sink that dawdle as they are told, and their bench.

They are circuits themselves: a test bench in Python that wakes at every tick takes longer than the design under test.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from cobs import cobs
from neurobench.sim_instruments.gateware.ports import BODY

PERIOD_S = 1e-6
PAUSE_BITS = 8
LAST = 256  # bit of a body's byte that marks the last one


def marked(bodies: Iterable[bytes]) -> list[int]:
    """Bodies as the bytes of a BODY stream."""
    return [byte | LAST * (i == len(body) - 1) for body in bodies for i, byte in enumerate(body)]


def bodies_of(items: Iterable[int]) -> list[bytes]:
    """Bodies from the bytes of a BODY stream, an unfinished one too."""
    found, body = [], bytearray()
    for item in items:
        body.append(item % LAST)
        if item & LAST:
            found.append(bytes(body))
            body.clear()
    return [*found, bytes(body)] if body else found


def dawdling(seed: int, most: int = 5, share: float = 0.5) -> list[int]:
    """Pauses of up to `most` ticks before a `share` of the transfers, to be used over and over."""
    draw = random.Random(seed)
    return [draw.randint(1, most) if draw.random() < share else 0 for _ in range(997)]


class _Paced(wiring.Component):
    """Counts transfers and the ticks of the pause before each."""

    def __init__(self, ports: dict[str, Any], pauses: Sequence[int]) -> None:
        self.pauses = Memory(shape=PAUSE_BITS, depth=max(2, len(pauses)), init=list(pauses))
        self.turns = max(1, len(pauses))
        super().__init__({**ports, "count": Out(24)})

    def pace(self, m: Module, transfer: Any) -> Signal:
        """High when the pause is over; `transfer` is the event that is counted."""
        m.submodules.pauses = self.pauses
        turn, waited, port = Signal(range(self.turns + 1)), Signal(PAUSE_BITS), self.pauses.read_port(domain="comb")
        over = Signal()
        m.d.comb += [port.addr.eq(turn), over.eq(waited == port.data)]
        with m.If(transfer):
            m.d.sync += [self.count.eq(self.count + 1), waited.eq(0), turn.eq(turn + 1)]
            with m.If(turn == self.turns - 1):
                m.d.sync += turn.eq(0)
        with m.Elif(~over):
            m.d.sync += waited.eq(waited + 1)
        return over


class Source(_Paced):
    """Gives `items`, each after its pause."""

    def __init__(self, signature: stream.Signature, items: Sequence[int], pauses: Sequence[int] = (0,)) -> None:
        self.items = len(items)
        self.width = _width(signature)
        self.memory = Memory(shape=self.width, depth=max(2, len(items)), init=list(items))
        super().__init__({"stream": Out(signature)}, pauses)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.memory = self.memory
        port = self.memory.read_port(domain="comb")
        over = self.pace(m, self.stream.valid & self.stream.ready)
        payload = self.stream.payload
        m.d.comb += [port.addr.eq(self.count), getattr(payload, "as_value", lambda: payload)().eq(port.data)]
        m.d.comb += self.stream.valid.eq(over & (self.count < self.items))
        return m


class Sink(_Paced):
    """Takes items, each after its pause; `taken` tells them."""

    def __init__(self, signature: stream.Signature, room: int, pauses: Sequence[int] = (0,)) -> None:
        self.memory = Memory(shape=_width(signature), depth=room, init=[])
        super().__init__({"stream": In(signature)}, pauses)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.memory = self.memory
        port = self.memory.write_port()
        transfer = self.stream.valid & self.stream.ready
        m.d.comb += [port.addr.eq(self.count), port.data.eq(self.stream.payload), port.en.eq(transfer)]
        m.d.comb += self.stream.ready.eq(self.pace(m, transfer))
        return m

    def taken(self, ctx: Any) -> list[int]:
        """What was taken so far."""
        return [ctx.get(self.memory.data[i]) for i in range(ctx.get(self.count))]


def _width(signature: stream.Signature) -> int:
    return Shape.cast(signature.members["payload"].shape).width


def between(source: Source, component: Any, sink: Sink, inward: str, outward: str) -> Module:
    """The component with a source and a sink on two of its streams."""
    m = Module()
    m.submodules += [source, component, sink]
    wiring.connect(m, source.stream, getattr(component, inward))
    wiring.connect(m, getattr(component, outward), sink.stream)
    return m


async def settle(ctx: Any, source: Source, sink: Sink, quiet: int = 400) -> None:
    """Until all was given and nothing was taken for `quiet` ticks."""
    before = None
    while (now := (ctx.get(source.count), ctx.get(sink.count))) != before or now[0] < source.items:
        before = now
        await ctx.delay(quiet * PERIOD_S)


async def give(ctx: Any, target: Any, items: Iterable[Any]) -> None:
    """Every item, one after the other, from a test bench."""
    for item in items:
        ctx.set(target.payload, item)
        ctx.set(target.valid, 1)
        ready = False
        while not ready:
            *_, ready = await ctx.tick().sample(target.ready)
        ctx.set(target.valid, 0)


async def take_body(ctx: Any, target: Any) -> bytes:
    """A body, to its marked byte, from a test bench."""
    assert target.signature == BODY
    body = bytearray()
    ctx.set(target.ready, 1)
    while True:
        *_, item, valid = await ctx.tick().sample(target.payload, target.valid)
        if valid:
            body.append(item.data)
        if valid and item.last:
            ctx.set(target.ready, 0)
            return bytes(body)


def run(component: Any, *testbenches: Callable[[Any], Awaitable[None]]) -> None:
    """Simulates until all testbenches have ended."""
    simulator = Simulator(component)
    simulator.add_clock(PERIOD_S)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    simulator.run()


def sealed(body: bytes) -> bytes:
    """With its CRC."""
    return body + zlib.crc32(body).to_bytes(4, "little")


def framed(body: bytes) -> bytes:
    """As it stands on the line, its end included."""
    return cobs.encode(sealed(body)) + b"\0"


def body_of(draw: random.Random, length: int) -> bytes:
    """Half of the bytes are zeros in some, none in others."""
    zeros = draw.choice((0.0, 0.02, 0.5, 1.0))
    return bytes(0 if draw.random() < zeros else draw.randint(1, 255) for _ in range(length))


def long_runs() -> list[bytes]:
    """Runs without a zero around the 254 bytes of a full block, with and without a zero behind them."""
    runs = [bytes([7]) * length for length in (249, 250, 251, 253, 254, 255, 256, 508, 509, 510)]
    return [*runs, *(run + b"\0" for run in runs), *(run + b"\0\1" for run in runs), *(b"\0" + run for run in runs)]


def with_crc_of(last: int, length: int) -> bytes:
    """A body whose CRC ends with this byte."""
    draw = random.Random(last)
    while True:
        body = body_of(draw, length)
        if sealed(body)[-1] == last:
            return body
