"""The serial line, 8N1: bytes to bits and back, at a number of ticks per bit that may change between two bytes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .ports import BYTES

SHORTEST_BIT = 4  # ticks; with fewer the middle of a bit cannot be told from its edges


class UartRx(wiring.Component):
    """Bytes from the line; a byte without its stop bit is dropped, the CRC of its frame tells.

    Each bit is looked at once, in its middle. A line that stays low (a break, no cable) gives no bytes. A byte that
    nobody took is kept and the next one lost: RxFrames takes each in a few ticks.
    """

    def __init__(self) -> None:
        super().__init__({"rx": In(1, init=1), "divisor": In(16, init=SHORTEST_BIT), "bytes": Out(BYTES)})

    def elaborate(self, _platform: object) -> Module:
        """Waits for a start bit, half a bit, then ten times a bit."""
        m = Module()
        line = self._synchronised(m)
        ticks, bits, shift = Signal(16), Signal(4), Signal(8)
        with m.If(self.bytes.ready):
            m.d.sync += self.bytes.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [ticks.eq((self.divisor >> 1) - 1), bits.eq(0)]
                with m.If(~line):
                    m.next = "BITS"
            with m.State("BITS"):
                m.d.sync += ticks.eq(ticks - 1)
                with m.If(ticks == 0):
                    m.d.sync += [ticks.eq(self.divisor - 1), bits.eq(bits + 1)]
                    self._middle_of_bit(m, line, bits, shift)
            with m.State("BREAK"), m.If(line):
                m.next = "IDLE"
        return m

    def _synchronised(self, m: Module) -> Signal:
        """The line as the clock sees it; two registers, for its edges come at any time."""
        early, line = Signal(init=1), Signal(init=1)
        m.d.sync += Cat(early, line).eq(Cat(self.rx, early))
        return line

    def _middle_of_bit(self, m: Module, line: Signal, bits: Signal, shift: Signal) -> None:
        with m.If((bits == 0) & line):  # no start bit: a spike
            m.next = "IDLE"
        with m.Elif(bits == 9):
            m.next = "BREAK"
            with m.If(line):
                m.d.sync += self.bytes.valid.eq(1)
                m.next = "IDLE"
            with m.If(line & ~self.bytes.valid):
                m.d.sync += self.bytes.payload.eq(shift)
        with m.Else():
            m.d.sync += shift.eq(Cat(shift[1:], line))


class UartTx(wiring.Component):
    """Bytes to the line. `busy` until the stop bit of the last one is over; `divisor` is read at each start bit."""

    def __init__(self) -> None:
        super().__init__(
            {"tx": Out(1, init=1), "divisor": In(16, init=SHORTEST_BIT), "bytes": In(BYTES), "busy": Out(1)}
        )

    def elaborate(self, _platform: object) -> Module:
        """A shift register and the ticks of its present bit."""
        m = Module()
        period, ticks, bits, shift = Signal(16), Signal(16), Signal(4), Signal(9)
        m.d.comb += [self.busy.eq(bits != 0), self.bytes.ready.eq((bits == 0) | ((bits == 1) & (ticks == 0)))]
        with m.If(self.bytes.valid & self.bytes.ready):
            m.d.sync += [period.eq(self.divisor - 1), ticks.eq(self.divisor - 1)]
            m.d.sync += [shift.eq(Cat(self.bytes.payload, 1)), bits.eq(10), self.tx.eq(0)]
        with m.Elif(self.busy):
            m.d.sync += ticks.eq(Mux(ticks == 0, period, ticks - 1))
            with m.If(ticks == 0):
                m.d.sync += [bits.eq(bits - 1), self.tx.eq(shift[0]), shift.eq(Cat(shift[1:], 1))]
        return m
