"""The gateware in Amaranth's simulator, as a serial port: the driver talks to the circuit itself, tick by tick.

    board = SimulatedGateware(Hardware(rows=2, cols=3, clock_hz=1_843_200), conductance_s)
    link = Link(board.port, board.clock, settings)
    ...
    board.pulses          # what left the pins

Some thousand ticks a second: for short pulses, small arrays and slow clocks. Bytes come and go without the bits of the
UART, one as soon as the other was taken, but only while port and gateware agree on the speed. Time passes only while
somebody waits: in `read` and in `clock.sleep`.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Any

import numpy as np
from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.sim import Simulator
from numpy.typing import NDArray

from .analog import Analog, Pulse
from .hardware import Hardware
from .top import Bridge

PERIOD_S = 1e-6  # of the simulator's own time, which nobody sees: what counts is ticks
STRIDE = 16  # ticks between two looks at what the host has sent
SPEED_TOLERANCE = 0.04  # a UART that is further off hears rubbish
BASE_BAUD = 115_200
RESET_TICKS = 4


class GatewarePort:
    """A serial port as pyserial has it, with the simulated gateware at its other end."""

    def __init__(self, board: SimulatedGateware) -> None:
        self._board: SimulatedGateware | None = board
        self.timeout: float | None = 0.0
        self.baudrate = BASE_BAUD

    @property
    def board(self) -> SimulatedGateware:
        """Raises OSError when the port is closed."""
        if self._board is None:
            raise OSError("the port is closed")
        return self._board

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once."""
        return len(self.board.sent)

    def write(self, data: bytes) -> int:
        """Send; the gateware takes them as time passes."""
        self.board.to_come.extend((byte, self.baudrate) for byte in data)
        return len(data)

    def read(self, size: int = 1) -> bytes:
        """Up to `size` bytes, as soon as one is there; waits `timeout` seconds of the board's time for it."""
        board = self.board
        board.port_baud = self.baudrate
        end = None if self.timeout is None else board.ticks + round(self.timeout * board.hardware.clock_hz)
        while not board.sent and (end is None or board.ticks < end):
            board.run(STRIDE)
        return bytes(board.sent.popleft() for _ in range(min(size, len(board.sent))))

    def close(self) -> None:
        """Let go of it."""
        self._board = None


class SimulatedGateware:
    """The circuit, what hangs on its pins, and its time. `conductance_s`: rows x cols, in siemens."""

    def __init__(self, hardware: Hardware, conductance_s: NDArray[np.float64] | None = None) -> None:
        self.hardware = hardware
        self.analog = Analog(hardware, conductance_s)
        self.ticks = 0
        self.to_come: deque[tuple[int, int]] = deque()  # bytes that the host has sent, and how fast
        self.sent: deque[int] = deque()  # bytes that the gateware has sent
        self.port_baud = BASE_BAUD  # at which the host listens
        self._bridge, self._domain, self._tick = Bridge(hardware), ClockDomain("sync"), Signal(48, reset_less=True)
        self._reset_due = False
        self._simulator = Simulator(self._design())
        self._simulator.add_clock(PERIOD_S)
        self._simulator.add_process(self.analog.process(self._bridge.pins, self._tick))
        for testbench in (self._give, self._take, self._watch):
            self._simulator.add_testbench(testbench, background=True)

    @property
    def pulses(self) -> list[Pulse]:
        """What left the pins so far."""
        return self.analog.pulses

    @property
    def clock(self) -> SimulatedGateware:
        """Its time, as a bench has it."""
        return self

    def now_s(self) -> float:
        """Seconds of the board's clock."""
        return self.ticks / self.hardware.clock_hz

    def sleep(self, seconds: float) -> None:
        """Let so much of the board's time pass: a tick at least, or whoever waits in a loop waits for ever."""
        if seconds > 0:
            self.run(ceil(seconds * self.hardware.clock_hz))

    def port(self) -> GatewarePort:
        """Opens the line."""
        return GatewarePort(self)

    def run(self, ticks: int) -> None:
        """Simulates."""
        self.ticks += ticks
        self._simulator.run_until(self.ticks * PERIOD_S)

    def reboot(self) -> None:
        """Resets the circuit, as when its power fails for a moment; what was on the line to it is lost."""
        self.to_come.clear()
        self._reset_due = True
        self.run(2 * RESET_TICKS + STRIDE)

    def _design(self) -> Module:
        m = Module()
        m.domains.sync = self._domain
        m.submodules.bridge = self._bridge
        m.d.sync += self._tick.eq(self._tick + 1)
        return m

    def _in_step(self, ctx: Any, baud: int) -> bool:
        divisor = ctx.get(self._bridge.divisor)
        return bool(divisor) and abs(self.hardware.clock_hz / divisor / baud - 1) <= SPEED_TOLERANCE

    async def _give(self, ctx: Any) -> None:
        """Bytes of the host into the gateware."""
        requests = self._bridge.requests
        while True:
            if not self.to_come:
                await ctx.delay(STRIDE * PERIOD_S)
                continue
            byte, baud = self.to_come.popleft()
            if not self._in_step(ctx, baud):
                continue
            ctx.set(requests.payload, byte)
            ctx.set(requests.valid, 1)
            ready = False
            while not ready:
                *_, ready = await ctx.tick().sample(requests.ready)
            ctx.set(requests.valid, 0)

    async def _take(self, ctx: Any) -> None:
        """Bytes of the gateware to the host; it is woken only when there are some."""
        replies = self._bridge.replies
        ctx.set(replies.ready, 1)
        while True:
            if not ctx.get(replies.valid):
                await ctx.posedge(replies.valid)
            *_, valid, byte = await ctx.tick().sample(replies.valid, replies.payload)
            if valid and self._in_step(ctx, self.port_baud):
                self.sent.append(byte)

    async def _watch(self, ctx: Any) -> None:
        """Resets when it is asked to."""
        while True:
            if self._reset_due:
                ctx.set(self._domain.rst, 1)
                await ctx.delay(RESET_TICKS * PERIOD_S)
                ctx.set(self._domain.rst, 0)
                self._reset_due = False
            await ctx.delay(STRIDE * PERIOD_S)
