"""Which speed the serial line has: what SPEED agrees on, and the way back when nobody is heard."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .hardware import Hardware
from .wire import BASE_BAUD

MOST_TICKS = 65535  # of a bit
TOLERANCE = 50  # 2 %


class Divider(wiring.Component):
    """`quotient` and `rest` of two numbers at `done`; by 0 the largest number. A bit in a tick."""

    def __init__(self) -> None:
        numbers = {"dividend": In(32), "divisor": In(32), "quotient": Out(32), "rest": Out(32)}
        super().__init__({"start": In(1), **numbers, "done": Out(1)})

    def elaborate(self, _platform: object) -> Module:
        """On paper: bring down a bit, take away what can be taken."""
        m = Module()
        divisor, left = Signal(32), Signal(range(33))
        brought, less = Signal(33), Signal(34)
        m.d.comb += [brought.eq(Cat(self.quotient[-1], self.rest)), less.eq(brought - divisor)]
        fits = ~less[-1]
        m.d.sync += self.done.eq(left == 1)
        with m.If(self.start):
            m.d.sync += [self.quotient.eq(self.dividend), divisor.eq(self.divisor)]
            m.d.sync += [self.rest.eq(0), left.eq(32)]
        with m.Elif(left != 0):
            m.d.sync += [self.quotient.eq(Cat(fits, self.quotient)), left.eq(left - 1)]
            m.d.sync += self.rest.eq(Mux(fits, less, brought))
        return m


class Speed(wiring.Component):
    """`divisor`: ticks of a bit. `ask` finds the nearest to `asked` baud; at `answered` the speed is `baud`.

    `begin` comes with the reply that tells it: the speed is used when that reply was handed over (`sending` low again)
    and then has left (`sent`); until then it is `changing`. `good` is a strobe for every good frame. The base speed is
    called 115200, whatever its ticks make of it.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self.base = round(hardware.clock_hz / BASE_BAUD)
        self.fewest = -(-hardware.clock_hz // hardware.max_baud)
        strobes = dict.fromkeys(("ask", "begin", "sending", "sent", "good"), In(1))
        told = {"answered": Out(1), "baud": Out(32), "changing": Out(1), "divisor": Out(16, init=self.base)}
        super().__init__({**strobes, "asked": In(32), **told})

    def elaborate(self, _platform: object) -> Module:
        """Twice the clock is divided by a speed or by ticks: half of the quotient, rounded, is the other."""
        m = Module()
        m.submodules.divider = self._divider = divider = Divider()
        self._found, self._new = Signal(16), Signal()  # ticks of a bit; whether they are not the present ones
        self._unheard, self._gone_over = Signal(), Signal()
        self._half = Signal(32)
        m.d.comb += [divider.dividend.eq(2 * self.hardware.clock_hz), self._half.eq((divider.quotient + 1) >> 1)]
        m.d.comb += [divider.divisor.eq(self._found), self.baud.eq(self._half)]
        with m.If(self._found == self.base):
            m.d.comb += self.baud.eq(BASE_BAUD)
        with m.FSM() as fsm:
            m.d.comb += self.changing.eq(fsm.ongoing("SENDING") | fsm.ongoing("LEAVING"))
            self._find(m)
            self._change(m)
        self._fall_back(m)
        return m

    def _find(self, m: Module) -> None:
        """The nearest number of ticks, and the speed that it makes. What is too far away is not taken."""
        divider, near = self._divider, Signal()
        m.d.sync += near.eq(self._is_near())
        with m.State("IDLE"):
            with m.If(self.ask):
                m.next = "TICKS"
            with m.If(self.begin):
                m.next = "SENDING"
        with m.State("TICKS"):
            m.d.comb += [divider.start.eq(1), divider.divisor.eq(self.asked)]
            m.next = "DIVIDE"
        with m.State("DIVIDE"), m.If(divider.done):
            m.next = "NEAR"
        with m.State("NEAR"):
            can = near & (self._half >= self.fewest) & (self._half <= MOST_TICKS)
            m.d.sync += [self._new.eq(can), self._found.eq(Mux(can, self._half, self.divisor))]
            m.next = "BAUD"
        with m.State("BAUD"):
            m.d.comb += divider.start.eq(1)
            m.next = "ANSWER"
        with m.State("ANSWER"), m.If(divider.done):
            m.d.comb += self.answered.eq(1)
            m.next = "IDLE"

    def _is_near(self) -> Value:
        """Whether the clock is within 2 % of ticks x speed: what is left of the division tells how far it is."""
        divider, twice = self._divider, 2 * self.hardware.clock_hz
        below = divider.rest <= twice // (TOLERANCE + 1)
        above = self.asked - divider.rest <= twice // (TOLERANCE - 1)
        return Mux(divider.quotient[0], above, below)

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
