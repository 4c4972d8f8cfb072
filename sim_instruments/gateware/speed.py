"""Which speed the serial line has: what SPEED agrees on, and the way back when nobody is heard."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .hardware import Hardware
from .wire import BASE_BAUD

MOST_TICKS = 65535  # of a bit
NUMBER_BITS = 32
TOLERANCE = 50  # 2 %


class Divider(wiring.Component):
    """`quotient` of two numbers of 32 bits at `done`; by 0 the largest number. A bit in a tick."""

    def __init__(self) -> None:
        numbers = {"dividend": In(NUMBER_BITS), "divisor": In(NUMBER_BITS), "quotient": Out(NUMBER_BITS)}
        super().__init__({"start": In(1), **numbers, "done": Out(1)})

    def elaborate(self, _platform: object) -> Module:
        """On paper: bring down a bit, take away what can be taken."""
        m = Module()
        divisor, rest, left = Signal(NUMBER_BITS), Signal(NUMBER_BITS), Signal(range(NUMBER_BITS + 1))
        brought, less = Signal(NUMBER_BITS + 1), Signal(NUMBER_BITS + 2)
        m.d.comb += [brought.eq(Cat(self.quotient[-1], rest)), less.eq(brought - divisor)]
        fits = ~less[-1]
        m.d.sync += self.done.eq(left == 1)
        with m.If(self.start):
            m.d.sync += [self.quotient.eq(self.dividend), divisor.eq(self.divisor), rest.eq(0), left.eq(NUMBER_BITS)]
        with m.Elif(left != 0):
            m.d.sync += [self.quotient.eq(Cat(fits, self.quotient)), left.eq(left - 1)]
            m.d.sync += rest.eq(Mux(fits, less, brought))
        return m


class Speed(wiring.Component):
    """`divisor`: ticks of a bit. `ask` finds the nearest to `asked` baud; at `answered` the speed is `baud`.

    `begin` comes with the reply that tells it: the speed is used when that reply was handed over (`sending` low again)
    and then has left (`sent`); until then it is `changing`. `good` is a strobe for every good frame.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self.base = round(hardware.clock_hz / BASE_BAUD)
        self.fewest = -(-hardware.clock_hz // hardware.max_baud)
        strobes = dict.fromkeys(("ask", "begin", "sending", "sent", "good"), In(1))
        told = {"answered": Out(1), "baud": Out(32), "changing": Out(1), "divisor": Out(16, init=self.base)}
        super().__init__({**strobes, "asked": In(32), **told})

    def elaborate(self, _platform: object) -> Module:
        """Two divisions find a speed, a third how far it may be from the asked one."""
        m = Module()
        m.submodules.divider = self._divider = Divider()
        self._found, self._new = Signal(16), Signal()  # ticks of a bit; whether they are not the present ones
        self._unheard, self._gone_over = Signal(), Signal()
        with m.FSM() as fsm:
            m.d.comb += self.changing.eq(fsm.ongoing("SENDING") | fsm.ongoing("LEAVING"))
            with m.State("IDLE"):
                with m.If(self.ask):
                    m.next = "NEAREST"
                with m.If(self.begin):
                    m.next = "SENDING"
            self._find(m)
            self._bound(m)
            self._change(m)
        self._fall_back(m)
        return m

    def _find(self, m: Module) -> None:
        """The nearest number of ticks, and the speed that it makes."""
        divider, clock = self._divider, self.hardware.clock_hz
        divisor, quotient = divider.divisor, divider.quotient
        m.d.comb += [divisor.eq(self._found), divider.dividend.eq(clock + (divisor >> 1))]
        with m.State("NEAREST"):
            m.d.comb += [divider.start.eq(1), divisor.eq(self.asked)]
            m.next = "NEAREST ..."
        with m.State("NEAREST ..."), m.If(divider.done):
            can = (quotient >= self.fewest) & (quotient <= MOST_TICKS)
            m.d.sync += [self._new.eq(can), self._found.eq(Mux(can, quotient, self.divisor))]
            m.next = "BAUD"
        with m.State("BAUD"):
            m.d.comb += divider.start.eq(1)
            m.next = "BAUD ..."
        with m.State("BAUD ..."), m.If(divider.done):
            m.d.sync += self.baud.eq(quotient)
            m.next = "ANSWER"
            with m.If(self._new):
                m.next = "BOUND"

    def _bound(self, m: Module) -> None:
        """What is too far from the asked speed is not taken."""
        divider, off, distance = self._divider, Signal(signed(33)), Signal(32)
        m.d.sync += [off.eq(self.baud - self.asked), distance.eq(Mux(off < 0, -off, off))]
        with m.State("BOUND"):
            m.d.comb += [divider.start.eq(1), divider.dividend.eq(self.asked), divider.divisor.eq(TOLERANCE)]
            m.next = "BOUND ..."
        with m.State("BOUND ..."), m.If(divider.done):
            m.next = "ANSWER"
            with m.If(distance > divider.quotient):
                m.d.sync += [self._new.eq(0), self._found.eq(self.divisor)]
                m.next = "BAUD"
        with m.State("ANSWER"):
            m.d.comb += self.answered.eq(1)
            m.next = "IDLE"

    def _change(self, m: Module) -> None:
        with m.State("SENDING"), m.If(~self.sending):
            m.next = "LEAVING"
        with m.State("LEAVING"), m.If(self.sent):
            m.d.comb += self._gone_over.eq(1)
            m.next = "IDLE"

    def _fall_back(self, m: Module) -> None:
        """A speed at which nobody is heard is of no use."""
        at_once, in_the_end = self.hardware.clock_hz // 5, 2 * self.hardware.clock_hz  # 200 ms, 2 s
        quiet, over = Signal(range(in_the_end + 1)), Signal()
        m.d.sync += [quiet.eq(quiet + 1), over.eq(quiet == Mux(self._unheard, at_once, in_the_end))]
        with m.If(self._gone_over):
            m.d.sync += [self.divisor.eq(self._found), self._unheard.eq(self._new)]
        with m.Elif(self.good):
            m.d.sync += self._unheard.eq(0)
        with m.Elif(over):
            m.d.sync += [self.divisor.eq(self.base), self._unheard.eq(0)]
        with m.If(self._gone_over | self.good | over):
            m.d.sync += [quiet.eq(0), over.eq(0)]
