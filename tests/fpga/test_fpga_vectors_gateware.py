"""The vectors on the gateware: all of it but the bits of the line, in Amaranth's simulator; one simulation for all.

The simulator does some 5,000 ticks a second. `make test` takes all cases of numbers and of how firing ends, and of the
others every third; `make soak` takes all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("neurobench.sim_instruments.gateware.core", reason="the gateware's core is not there yet")

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator
from neurobench.sim_instruments.gateware.analog import Analog
from neurobench.sim_instruments.gateware.hardware import Hardware
from neurobench.sim_instruments.gateware.top import Bridge

sys.path.insert(0, str(Path(__file__).resolve().parent))

import vector_kit as kit
from vector_kit import Case, run
from vectors import CASES, ENDS, NUMBERS

HARDWARE = Hardware(**kit.BOARD)
ROOM = 8192  # bytes each way in one exchange
TICK_S = 1e-6
LOOK = 6  # ticks between two looks
PATIENCE = 60_000  # ticks without an answer after which none will come
AFTER = 30  # of a case
SILENCE = 100  # where none is expected: one that comes later is too much for what comes next


class Around(wiring.Component):
    """Gives the bytes that are put into `given` and keeps those that come out in `kept`; the board can be reset."""

    def __init__(self) -> None:
        self.given, self.kept = (Memory(shape=8, depth=ROOM, init=[]) for _ in range(2))
        self.level, self.sent, self.taken, self.frames = (Signal(16, reset_less=True) for _ in range(4))
        self.domain, self.ticks = ClockDomain("sync"), Signal(32, reset_less=True)
        self.bridge = Bridge(HARDWARE)
        super().__init__({})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.domains += self.domain
        m.submodules.given, m.submodules.kept = self.given, self.kept
        m.submodules.bridge = self.bridge
        requests, replies = self.bridge.requests, self.bridge.replies
        out, back = self.given.read_port(domain="comb"), self.kept.write_port()
        m.d.comb += [out.addr.eq(self.sent), requests.payload.eq(out.data)]
        m.d.comb += [requests.valid.eq((self.sent != self.level) & ~self.domain.rst), replies.ready.eq(1)]
        m.d.comb += [back.addr.eq(self.taken), back.data.eq(replies.payload), back.en.eq(replies.valid)]
        with m.If(requests.valid & requests.ready):
            m.d.sync += self.sent.eq(self.sent + 1)
        with m.If(replies.valid):
            m.d.sync += [self.taken.eq(self.taken + 1), self.frames.eq(self.frames + (replies.payload == 0))]
        m.d.sync += self.ticks.eq(self.ticks + 1)
        return m


class SimulatedGateware:
    """The gateware as a device: time stands still between two exchanges."""

    clock_hz = HARDWARE.clock_hz

    def __init__(self) -> None:
        self.around = Around()
        conductance_s = np.linspace(1e-6, 1e-5, kit.ROWS * kit.COLS).reshape(kit.ROWS, kit.COLS)
        self.analog = Analog(HARDWARE, conductance_s)
        self._parts: list[bytes | int] = []
        self._expected: int | None = 0
        self._answer = b""
        self._first = self._frames = 0  # bytes and frames that were seen
        self._busy, self._reset = False, False
        self.met: kit.Met | None = None  # where the next case may go on
        self.simulator = Simulator(self.around)
        self.simulator.add_clock(TICK_S)
        self.simulator.add_testbench(self._talk, background=True)
        self.simulator.add_process(self.analog.process(self.around.bridge.pins, self.around.ticks))

    def reset(self) -> None:
        self._reset = True
        self._until_done()

    def exchange(self, parts: Sequence[bytes | int], expected: int | None) -> bytes:
        """expected None: nothing is waited for beyond what `parts` say."""
        self._parts, self._expected = list(parts), expected
        self._until_done()
        return self._answer

    def _until_done(self) -> None:
        self._busy = True
        while self._busy:
            self.simulator.advance()

    async def _talk(self, ctx: Any) -> None:
        while True:
            if self._reset:
                await self._restarted(ctx)
            elif self._busy:
                await self._exchanged(ctx)
            self._reset = self._busy = False
            await ctx.delay(TICK_S)

    async def _restarted(self, ctx: Any) -> None:
        around = self.around
        ctx.set(around.domain.rst, 1)
        await ctx.delay(4 * TICK_S)
        ctx.set(around.level, ctx.get(around.sent))
        ctx.set(around.domain.rst, 0)
        self._kept(ctx)
        self._frames = ctx.get(around.frames)

    async def _exchanged(self, ctx: Any) -> None:
        around = self.around
        for part in self._parts:
            if isinstance(part, int):
                await ctx.delay(part * TICK_S)
            else:
                await self._give(ctx, part)
        waited, patience = 0, {None: 0, 0: SILENCE}.get(self._expected, PATIENCE)
        while waited < patience and (ctx.get(around.frames) - self._frames) & 0xFFFF < (self._expected or 1):
            await ctx.delay(LOOK * TICK_S)
            waited += LOOK
        self._answer, self._frames = self._kept(ctx), ctx.get(around.frames)

    async def _give(self, ctx: Any, data: bytes) -> None:
        around, level = self.around, ctx.get(self.around.level)
        for n, byte in enumerate(data):
            ctx.set(around.given.data[(level + n) % ROOM], byte)
        ctx.set(around.level, level + len(data))
        while ctx.get(around.sent) != ctx.get(around.level):
            await ctx.delay(LOOK * TICK_S)

    def _kept(self, ctx: Any) -> bytes:
        """All that came since it was last asked: what came too late for one exchange is too much for the next."""
        around, first = self.around, self._first
        self._first = ctx.get(around.taken)
        return bytes(ctx.get(around.kept.data[(first + i) % ROOM]) for i in range((self._first - first) & 0xFFFF))


@pytest.fixture(scope="module")
def gateware() -> SimulatedGateware:
    return SimulatedGateware()


def marked() -> list[Any]:
    """The cases, those that are left to `make soak` as slow."""
    kept = [*NUMBERS, *ENDS]
    others = [case for case in CASES if case not in kept]
    late = [case for n, case in enumerate(others) if n % 3]
    return [pytest.param(case, id=case.name, marks=pytest.mark.slow if case in late else ()) for case in CASES]


@pytest.mark.parametrize("case", marked())
def test_the_gateware_answers_as_the_page_says(case: Case, gateware: SimulatedGateware) -> None:
    met = gateware.met if case.chained else None
    if met is None:
        gateware.reset()
    gateware.met = None
    found = run(case, gateware, met)
    assert gateware.exchange([AFTER], None) == b""
    assert gateware.analog.faults == []
    gateware.met = found if case.chained else None
