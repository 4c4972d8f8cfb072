"""The engine of the gateware with two memories, a silence counter and the model of the analogue part, to be scripted.

bench = EngineBench(hardware)
bench.run(script)      # async def script(board: Board) -> None
bench.analog.pulses
"""

from __future__ import annotations

import random
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator
from neurobench.sim_instruments.gateware.analog import Analog
from neurobench.sim_instruments.gateware.engine import Engine
from neurobench.sim_instruments.gateware.hardware import Hardware
from numpy.typing import NDArray

ROOM = 1024
QUIET = 1_000_000_000  # a watchdog that does not matter


class _Bench(wiring.Component):
    def __init__(self, hardware: Hardware) -> None:
        super().__init__({})
        self.engine = Engine(hardware)
        self.program, self.read = (Memory(shape=8, depth=ROOM, init=[]) for _ in range(2))
        self.ticks, self.heard = Signal(32), Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine, m.submodules.program, m.submodules.read = self.engine, self.program, self.read
        engine = self.engine
        get_program, get_read = self.program.read_port(), self.read.read_port()
        m.d.comb += [get_program.addr.eq(engine.program_addr), engine.program_data.eq(get_program.data)]
        m.d.comb += [get_read.addr.eq(engine.read_addr), engine.read_data.eq(get_read.data)]
        m.d.sync += [self.ticks.eq(self.ticks + 1), engine.since.eq(engine.since + 1)]
        with m.If(self.heard):
            m.d.sync += engine.since.eq(0)
        return m


class Board:
    """What a script does with the engine; `ctx` is the simulator's."""

    def __init__(self, bench: EngineBench, ctx: Any) -> None:
        self._bench, self.ctx, self.engine = bench, ctx, bench.design.engine
        self.samples: list[int] = []

    def get(self, name: str) -> int:
        """An output of the engine."""
        return int(self.ctx.get(getattr(self.engine, name)))

    def counters(self) -> tuple[int, ...]:
        """end, shots, in_shot, started, done."""
        return tuple(self.get(name) for name in ("end", "shots", "in_shot", "started", "done"))

    @property
    def tick(self) -> int:
        """Ticks since the begin."""
        return int(self.ctx.get(self._bench.design.ticks))

    async def ticks(self, n: int) -> None:
        """Lets n ticks pass."""
        if n:
            await self.ctx.tick().repeat(n)

    async def strobe(self, name: str) -> None:
        """One tick of an input."""
        signal = getattr(self.engine, name)
        self.ctx.set(signal, 1)
        await self.ctx.tick()
        self.ctx.set(signal, 0)

    async def hear(self) -> None:
        """A good request arrives."""
        self.ctx.set(self._bench.design.heard, 1)
        await self.ctx.tick()
        self.ctx.set(self._bench.design.heard, 0)

    async def fire(self, program: bytes, watchdog: int = QUIET) -> None:
        """Puts a program into the memory and begins it."""
        self._put(self._bench.design.program, program)
        self.ctx.set(self.engine.length, len(program))
        self.ctx.set(self.engine.watchdog, watchdog)
        await self.hear()
        await self.ticks(2)
        await self.strobe("fire")

    async def gate(self, on: bool) -> None:
        """Waits until the gate pin is as asked."""
        gate = self.engine.pins.gate
        if bool(self.ctx.get(gate)) != on:
            await self.ctx.tick().until(gate if on else ~gate)

    async def fired(self, program: bytes, watchdog: int = QUIET) -> None:
        """Fires a program and waits for its end."""
        await self.fire(program, watchdog)
        await self.ctx.tick().until(self.engine.ended)
        await self.ticks(2)

    async def acquire(self, program: bytes, watchdog: int = QUIET) -> None:
        """Puts a read program into the memory and begins it; samples come into `samples`."""
        self._put(self._bench.design.read, program)
        self.ctx.set(self.engine.read_length, len(program))
        self.ctx.set(self.engine.watchdog, watchdog)
        self.samples.clear()
        await self.hear()
        await self.ticks(2)
        await self.strobe("acquire")

    async def acquired(self, program: bytes, watchdog: int = QUIET) -> list[int]:
        """Acquires and waits for the end: the samples, signed."""
        await self.acquire(program, watchdog)
        engine = self.engine
        written = self.ctx.tick().sample(engine.acquiring, engine.sample_write, engine.sample_addr, engine.sample_data)
        async for _, _, acquiring, write, addr, data in written:
            if write:
                assert addr == len(self.samples), "samples are written in order"
                self.samples.append(data - (data >> 31 << 32))
            if not acquiring:
                break
        await self.ticks(2)
        return self.samples

    def _put(self, memory: Memory, content: bytes) -> None:
        for place, byte in enumerate(content):
            self.ctx.set(memory.data[place], byte)


class EngineBench:
    """The engine of one build, in the simulator."""

    def __init__(self, hardware: Hardware, conductance_s: NDArray[Any] | None = None) -> None:
        self.hardware = hardware
        self.design = _Bench(hardware)
        self.analog = Analog(hardware, conductance_s)

    def run(self, script: Callable[[Board], Awaitable[None]]) -> None:
        """Runs a script to its end."""
        simulator = Simulator(self.design)
        simulator.add_clock(1e-6)
        simulator.add_process(self.analog.process(self.design.engine.pins, self.design.ticks))

        async def testbench(ctx: Any) -> None:
            await script(Board(self, ctx))

        simulator.add_testbench(testbench)
        simulator.run()


# -- programs, packed here straight from docs/fpga-wire.md ------------------------------------------------------------


def packed(bits: Sequence[int]) -> bytes:
    """Least significant first, the last byte filled with zeros."""
    value = sum(bit << place for place, bit in enumerate(bits))
    return value.to_bytes((len(bits) + 7) // 8, "little")


def pulses(axis: int, width: int, gap: int, levels: Sequence[int], *records: bytes) -> bytes:
    """A pulse program."""
    return struct.pack("<BBII4h", 1, axis, width, gap, *levels) + b"".join(records)


def record(sign: int, repeat: int, first: int, masks: Sequence[Sequence[int]]) -> bytes:
    """A record; one mask for each line."""
    head = struct.pack("<BHHH", sign, repeat, first, len(masks))
    return head + packed([bit for mask in masks for bit in mask])


def some_bits(draw: random.Random, n: int, share: float) -> list[int]:
    """n bits of which about `share` are set."""
    return [int(draw.random() < share) for _ in range(n)]
