"""The request that is executed: its bytes in a memory, and in registers what most commands look at."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .hardware import Hardware
from .ports import BODY
from .wire import CRC_BYTES, HEADER_BYTES

PAYLOAD_AT = HEADER_BYTES  # in the memory
PROGRAM_AT = PAYLOAD_AT + 2  # of an ACQUIRE
UPLOAD_AT = PAYLOAD_AT + 4  # bytes of an UPLOAD


class Intake(wiring.Component):
    """Takes the next body after `take`; `done` is a strobe, and all else stays until the next `take`.

    `length` is that of the payload, `number` its first two bytes, `second` the next two, `tail` its last four.
    `same_session`: the request carries `session`. `runt`: not even a header (RxFrames gives none such). A body is no
    longer than the board's `max_body` without its CRC: RxFrames sees to that. `data` follow `addr` a tick later.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.depth = hardware.max_body - CRC_BYTES
        fields = {"op": Out(8), "tag": Out(16), "number": Out(16), "second": Out(16), "tail": Out(32)}
        flags = dict.fromkeys(("done", "runt", "same_session"), Out(1))
        memory = {"length": Out(range(self.depth)), "addr": In(range(self.depth)), "data": Out(8)}
        super().__init__({"bodies": In(BODY), "take": In(1), "session": In(32), **fields, **flags, **memory})

    def elaborate(self, _platform: object) -> Module:
        """A byte in a tick."""
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=self.depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        taking, at = Signal(), Signal(range(self.depth))
        byte = self.bodies.p.data
        m.d.comb += [read.addr.eq(self.addr), self.data.eq(read.data), self.bodies.ready.eq(taking)]
        m.d.comb += [write.addr.eq(at), write.data.eq(byte), write.en.eq(taking & self.bodies.valid)]
        m.d.sync += self.done.eq(write.en & self.bodies.p.last)
        with m.If(self.take):
            m.d.sync += [taking.eq(1), at.eq(0), self.same_session.eq(1), self.runt.eq(1)]
            m.d.sync += self.length.eq(-HEADER_BYTES)
        with m.If(write.en):
            m.d.sync += [at.eq(at + 1), self.length.eq(self.length + 1), self.tail.eq(Cat(self.tail[8:], byte))]
            m.d.sync += taking.eq(~self.bodies.p.last)
            self._header(m, at, byte)
        return m

    def _header(self, m: Module, at: Signal, byte: Signal) -> None:
        places = {0: self.op, 1: self.tag[:8], 2: self.tag[8:], 7: self.number[:8], 8: self.number[8:]}
        places |= {9: self.second[:8], 10: self.second[8:]}
        with m.Switch(at):
            for place, target in places.items():
                with m.Case(place):
                    m.d.sync += target.eq(byte)
            for i in range(4):
                with m.Case(3 + i), m.If(byte != self.session.word_select(i, 8)):
                    m.d.sync += self.same_session.eq(0)
        with m.If(at == HEADER_BYTES - 1):
            m.d.sync += self.runt.eq(0)
