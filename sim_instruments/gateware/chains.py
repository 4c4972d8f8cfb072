"""The three serial chains between the FPGA and the analogue part: line switches, level converters, current converters.

The layout on the wires, which a board must have (analog.py is its model):

    switches   two bits a line, low bit first, word line 0 first: it ends at the far end of the chain. Data are taken
               on a rising clock; a rising latch shows all lines their new setting. The latch falls with the next load.
    levels     16 bits a word, two's complement, most significant bit first. The words of the lines come first (word
               line 0 at the far end), the buses row A, row B, column A, column B last: they lie nearest, and a load
               of 4 words renews them alone (the words behind move along: garbage until a read loads them all).
               `sync` rises with a load; its fall takes all words over.
    currents   `adc_bits` a word, two's complement, most significant bit first, word line 0 first. The first bit is
               there when a conversion has ended; a falling clock brings the next one.

A chain waits where its words do: what was begun and left alone changes nothing, since nothing was taken over.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .hardware import Hardware

SETTING = 2
WORD = 16


class ChainsSignature(wiring.Signature):
    """Who loads switches and levels; Out of the one who asks. Strobes last one tick and need `idle`."""

    def __init__(self) -> None:
        super().__init__(
            {
                "settings": Out(stream.Signature(SETTING)),
                "latch": Out(1),  # the switches show what was loaded
                "words": Out(stream.Signature(WORD)),
                "take": Out(1),  # the converters show what was loaded
                "idle": In(1),  # nothing is being shifted
            }
        )


class Shifter(wiring.Component):
    """Sends words of `width` bits, most significant first; half a clock lasts `div` ticks, data change as it falls."""

    def __init__(self, width: int, div: int) -> None:
        self._width, self._div = width, div
        super().__init__(
            {"words": In(stream.Signature(width)), "idle": Out(1), "clk": Out(1), "data": Out(1)},
        )

    def elaborate(self, _platform: object) -> Module:
        """Two half clocks for every bit."""
        m = Module()
        bits, left = Signal(self._width), Signal(range(self._width + 1))
        tock = half_clocks(m, self._div, self.idle)
        m.d.comb += [self.idle.eq(left == 0), self.words.ready.eq(self.idle), self.data.eq(bits[-1])]
        with m.If(self.idle):
            m.d.sync += bits.eq(self.words.payload)
            with m.If(self.words.valid):
                m.d.sync += left.eq(self._width)
        with m.Elif(tock):
            m.d.sync += self.clk.eq(~self.clk)
            with m.If(self.clk):
                m.d.sync += [bits.eq(bits << 1), left.eq(left - 1)]
        return m


def half_clocks(m: Module, div: int, idle: Signal) -> Signal:
    """High in the last of every `div` ticks since `idle` went low."""
    tock = Signal()
    if div == 1:
        m.d.comb += tock.eq(1)
        return tock
    timer = Signal(range(div))
    m.d.comb += tock.eq(timer == div - 1)
    m.d.sync += timer.eq(Mux(idle | tock, 0, timer + 1))
    return tock


class Chains(wiring.Component):
    """The chains of switches and levels, loaded by `load`."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        pins = ("switch_clk", "switch_data", "switch_latch", "dac_clk", "dac_data", "dac_sync")
        super().__init__({"load": In(ChainsSignature()), **{name: Out(1) for name in pins}})

    def elaborate(self, _platform: object) -> Module:
        """Two shifters, and what makes their words known."""
        m = Module()
        m.submodules.switches = switches = Shifter(SETTING, self._hardware.switch_div)
        m.submodules.levels = levels = Shifter(WORD, self._hardware.dac_div)
        asked = self.load.settings
        m.d.comb += [
            switches.words.payload.eq(asked.payload[::-1]),
            switches.words.valid.eq(asked.valid),
            asked.ready.eq(switches.words.ready),
            self.switch_clk.eq(switches.clk),
            self.switch_data.eq(switches.data),
            self.dac_clk.eq(levels.clk),
            self.dac_data.eq(levels.data),
            self.load.idle.eq(switches.idle & levels.idle),
        ]
        wiring.connect(m, wiring.flipped(self.load.words), levels.words)
        _remember(m, self.switch_latch, self.load.latch, asked.valid)
        _remember(m, self.dac_sync, self.load.words.valid, self.load.take)
        return m


def _remember(m: Module, level: Signal, rise: Signal, fall: Signal) -> None:
    with m.If(rise):
        m.d.sync += level.eq(1)
    with m.Elif(fall):
        m.d.sync += level.eq(0)


class AdcChain(wiring.Component):
    """Takes one word off the current converters after `start` (which needs `idle`); `valid` is a strobe."""

    def __init__(self, hardware: Hardware) -> None:
        self._div, self._width = hardware.adc_div, hardware.adc_bits
        shape = signed(hardware.adc_bits)
        super().__init__(
            {"start": In(1), "idle": Out(1), "word": Out(shape), "valid": Out(1), "clk": Out(1), "data": In(1)}
        )

    def elaborate(self, _platform: object) -> Module:
        """Two half clocks for every bit."""
        m = Module()
        left = Signal(range(self._width + 1))
        tock = half_clocks(m, self._div, self.idle)
        m.d.comb += self.idle.eq(left == 0)
        m.d.sync += self.valid.eq(0)
        with m.If(self.idle & self.start):
            m.d.sync += left.eq(self._width)
        with m.Elif(~self.idle & tock):
            m.d.sync += self.clk.eq(~self.clk)
            with m.If(self.clk):
                # a bit is taken at the very end of its clock: the pin and the converter have had 2 * div ticks
                m.d.sync += [self.word.eq(Cat(self.data, self.word[:-1])), left.eq(left - 1), self.valid.eq(left == 1)]
        return m
