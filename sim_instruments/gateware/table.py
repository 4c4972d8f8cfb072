"""One small memory for what is told to the host or checked against: identity, limits, status."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .hardware import Hardware
from .wire import STATUS_BYTES, identity

IDENTITY_AT = 0
LIMITS_AT = 88  # a multiple of 8, and the times a multiple of 16: an address is put together, not added up
TIMES_AT = LIMITS_AT + 8
LIVE_AT = 128  # what the reply that goes out next tells
KEPT_AT = 192  # status of the kept reply
TABLE_BYTES = 256


class Table(wiring.Component):
    """The table. `freeze` takes all of `told` in one tick, so that its numbers belong together, and writes them `at`
    while it is `busy`; with `blank` zeros instead. `write` puts one byte at `place`; not while busy.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        frozen = {"freeze": In(1), "blank": In(1), "told": In(8 * STATUS_BYTES), "at": In(8), "busy": Out(1)}
        written = {"write": In(1), "place": In(8), "byte": In(8)}
        super().__init__({**frozen, **written, "addr": In(8), "data": Out(8)})

    def elaborate(self, _platform: object) -> Module:
        """A shift register before the memory's one write port."""
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=TABLE_BYTES, init=list(identity(self.hardware)))
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [read.addr.eq(self.addr), self.data.eq(read.data)]
        shift, at, blank, left = Signal(8 * STATUS_BYTES), Signal(8), Signal(), Signal(range(STATUS_BYTES + 1))
        m.d.comb += [self.busy.eq(left != 0), write.en.eq(self.write | self.busy)]
        with m.If(self.busy):
            m.d.comb += [write.addr.eq(at), write.data.eq(shift[:8] & ~blank.replicate(8))]
            m.d.sync += [shift.eq(shift >> 8), at.eq(at + 1), left.eq(left - 1)]
        with m.Else():
            m.d.comb += [write.addr.eq(self.place), write.data.eq(self.byte)]
        with m.If(self.freeze):
            m.d.sync += [shift.eq(self.told), at.eq(self.at), blank.eq(self.blank), left.eq(STATUS_BYTES)]
        return m
