"""Reading a program byte by byte, bit by bit and word by word, and counting the lines of the array."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .hardware import Hardware

BYTE = wiring.Signature({"byte": Out(8), "valid": Out(1), "dry": Out(1), "next": In(1)})


class Reader(wiring.Component):
    """The bytes of a memory in order, up to `length`; beyond it the reader is `dry` and gives nothing.

    `bytes.next` goes on by one, `jump` goes to `target`; two ticks later `valid` or `dry` is high again.
    """

    def __init__(self) -> None:
        super().__init__(
            {"bytes": Out(BYTE), "jump": In(1), "target": In(16), "length": In(16), "addr": Out(16), "data": In(8)}
        )

    def elaborate(self, _platform: object) -> Module:
        """An address, and whether its byte has come."""
        m = Module()
        fresh, dry = Signal(), Signal()
        m.d.sync += fresh.eq(~(self.jump | self.bytes.next))
        m.d.comb += [
            dry.eq(self.addr >= self.length),
            self.bytes.byte.eq(self.data),
            self.bytes.valid.eq(fresh & ~dry),
            self.bytes.dry.eq(fresh & dry),
        ]
        with m.If(self.jump):
            m.d.sync += self.addr.eq(self.target)
        with m.Elif(self.bytes.next):
            m.d.sync += self.addr.eq(self.addr + 1)
        return m


class Bits(wiring.Component):
    """The bits of a mask, least significant first: `bits` are the next two; `take` removes one, or two if `pair`.

    Bytes are fetched while `wanted` only; `drop` forgets the rest of a byte. `starved`: the program ended before.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "source": In(BYTE),
                "wanted": In(1),
                "pair": In(1),
                "take": In(1),
                "drop": In(1),
                "bits": Out(2),
                "valid": Out(1),
                "starved": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """A byte of which bits are left."""
        m = Module()
        rest, left = Signal(8), Signal(4)
        m.d.comb += [
            self.bits.eq(rest[:2]),
            self.valid.eq(left != 0),
            self.starved.eq(self.wanted & ~self.valid & self.source.dry),
            self.source.next.eq(self.wanted & ~self.valid & self.source.valid),
        ]
        with m.If(self.drop):
            m.d.sync += left.eq(0)
        with m.Elif(self.source.next):
            m.d.sync += [rest.eq(self.source.byte), left.eq(8)]
        with m.Elif(self.take):
            m.d.sync += [rest.eq(Mux(self.pair, rest >> 2, rest >> 1)), left.eq(Mux(self.pair, left - 2, left - 1))]
        return m


class Words(wiring.Component):
    """Codes of 16 bits, fetched while `wanted`; `drop` forgets half a code. `starved`: the program ended before."""

    def __init__(self) -> None:
        super().__init__(
            {
                "source": In(BYTE),
                "wanted": In(1),
                "drop": In(1),
                "words": Out(stream.Signature(16)),
                "starved": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """A low byte that waits for its high one."""
        m = Module()
        low, half = Signal(8), Signal()
        m.d.comb += [
            self.words.payload.eq(Cat(low, self.source.byte)),
            self.words.valid.eq(self.wanted & half & self.source.valid),
            self.source.next.eq(self.wanted & self.source.valid & (~half | self.words.ready)),
            self.starved.eq(self.wanted & self.source.dry),
        ]
        with m.If(self.drop):
            m.d.sync += half.eq(0)
        with m.Elif(self.source.next):
            m.d.sync += [half.eq(~half), low.eq(self.source.byte)]
        return m


def negated(code: Value, negate: Value) -> Value:
    """A code or its negative; there is no +32768, and a wrong sign would be worse than one code of 32768."""
    lowest = code == 0x8000
    return Mux(negate, Mux(lowest, 0x7FFF, -code), code)[:16]


def line_bits(hardware: Hardware) -> int:
    """Bits of a number of lines of one side, from none to all."""
    return max(hardware.rows, hardware.cols).bit_length()


class Lines(wiring.Component):
    """Counts the lines in the order of the chains: word lines, then bit lines. `number` counts within a side."""

    def __init__(self, hardware: Hardware) -> None:
        self._rows, self._cols = hardware.rows, hardware.cols
        number = Out(range(max(self._rows, self._cols)))
        flags = {name: Out(1) for name in ("column", "turn", "last")}  # turn: the last word line
        super().__init__({"restart": In(1), "next": In(1), "number": number, **flags})

    def elaborate(self, _platform: object) -> Module:
        """Two counters in one."""
        m = Module()
        m.d.comb += [
            self.turn.eq(~self.column & (self.number == self._rows - 1)),
            self.last.eq(self.column & (self.number == self._cols - 1)),
        ]
        with m.If(self.restart):
            m.d.sync += [self.number.eq(0), self.column.eq(0)]
        with m.Elif(self.next):
            m.d.sync += self.number.eq(Mux(self.turn | self.last, 0, self.number + 1))
            m.d.sync += self.column.eq(self.turn | (self.column & ~self.last))
        return m


class Wait(wiring.Component):
    """At least so many ticks from now: `least` is taken with `start` unless a longer wait is under way; then `over`."""

    def __init__(self, longest: int) -> None:
        shape = range(longest + 1)
        super().__init__({"start": In(1), "least": In(shape), "over": Out(1)})
        self._left = Signal(shape)

    def elaborate(self, _platform: object) -> Module:
        """One counter."""
        m = Module()
        m.d.comb += self.over.eq(self._left == 0)
        with m.If(self.start & (self._left < self.least)):
            m.d.sync += self._left.eq(self.least)
        with m.Elif(~self.over):
            m.d.sync += self._left.eq(self._left - 1)
        return m
