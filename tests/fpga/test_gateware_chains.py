"""The serial chains of the gateware, what reads programs for them, and the model that decodes them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.sim import Simulator
from neurobench.sim_instruments.gateware.analog import Analog, PinLevels
from neurobench.sim_instruments.gateware.chains import AdcChain, Chains, Shifter
from neurobench.sim_instruments.gateware.cursor import Bits, Lines, Wait, Words, negated
from neurobench.sim_instruments.gateware.hardware import Hardware


def simulate(design: Elaboratable, *scripts: Callable[[Any], Awaitable[None]]) -> None:
    simulator = Simulator(design)
    simulator.add_clock(1e-6)
    for script in scripts:

        async def testbench(ctx: Any, script: Callable[[Any], Awaitable[None]] = script) -> None:
            await script(ctx)

        simulator.add_testbench(testbench)
    simulator.run()


# -- shifting out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "div"), [(1, 1), (2, 1), (16, 1), (2, 3), (16, 5)])
def test_words_leave_most_significant_bit_first_with_even_clocks(width: int, div: int) -> None:
    draw = random.Random(width + div)
    sent = [draw.getrandbits(width) for _ in range(6)]
    shifter = Shifter(width, div)
    bits: list[int] = []
    highs: list[int] = []

    async def feed(ctx: Any) -> None:
        for word in sent:
            ctx.set(shifter.words.payload, word)
            ctx.set(shifter.words.valid, 1)
            await ctx.tick().until(shifter.words.ready)
            ctx.set(shifter.words.valid, 0)
            await ctx.tick()
        await ctx.tick().until(shifter.idle)

    async def watch(ctx: Any) -> None:
        was, data_was = 0, 0
        for _ in range(6 * (2 * width * div + 4)):
            _, _, clk, data = await ctx.tick().sample(shifter.clk, shifter.data)
            if clk and not was:
                bits.append(data)
                highs.append(0)
            highs[-1:] = [highs[-1] + clk] if highs else []
            assert not (clk and was and data != data_was), "data change only while the clock is low"
            was, data_was = clk, data

    simulate(shifter, feed, watch)
    words = [int("".join(map(str, bits[n : n + width])), 2) for n in range(0, len(bits), width)]
    assert words == sent
    assert set(highs) == {div}


def test_a_load_shows_nothing_until_it_is_taken_over() -> None:
    chains = Chains(Hardware())
    latches, syncs = [], []

    async def script(ctx: Any) -> None:
        load = chains.load
        ctx.set(load.settings.valid, 1)
        ctx.set(load.words.valid, 1)
        await ctx.tick()
        ctx.set(load.settings.valid, 0)
        ctx.set(load.words.valid, 0)
        while not ctx.get(load.idle):
            latches.append(ctx.get(chains.switch_latch))
            syncs.append(ctx.get(chains.dac_sync))
            await ctx.tick()
        ctx.set(load.latch, 1)
        ctx.set(load.take, 1)
        await ctx.tick()
        ctx.set(load.latch, 0)
        ctx.set(load.take, 0)
        assert (ctx.get(chains.switch_latch), ctx.get(chains.dac_sync)) == (1, 0)

    simulate(chains, script)
    assert set(latches) == {0}
    assert set(syncs) == {1}
    assert len(syncs) == 32


# -- taking in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "div"), [(8, 1), (24, 1), (12, 3)])
def test_codes_of_converters_come_in_with_their_sign(bits: int, div: int) -> None:
    codes = [0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), 37, -37]
    chain = AdcChain(Hardware(adc_bits=bits, adc_div=div))
    sent = [code >> place & 1 for code in codes for place in range(bits - 1, -1, -1)]
    found: list[int] = []

    async def converters(ctx: Any) -> None:
        for bit in sent:
            ctx.set(chain.data, bit)
            await ctx.negedge(chain.clk)

    async def script(ctx: Any) -> None:
        for _ in codes:
            ctx.set(chain.start, 1)
            await ctx.tick()
            ctx.set(chain.start, 0)
            await ctx.tick().until(chain.valid)
            found.append(ctx.get(chain.word))
            assert ctx.get(chain.idle)

    simulate(chain, converters, script)
    assert found == codes


# -- reading programs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 5), (4, 2)])
def test_the_lines_come_in_the_order_of_the_chains_again_and_again(rows: int, cols: int) -> None:
    lines = Lines(Hardware(rows=rows, cols=cols))
    seen: list[tuple[int, ...]] = []

    async def script(ctx: Any) -> None:
        ctx.set(lines.next, 1)
        for _ in range(2 * (rows + cols)):
            _, _, *now = await ctx.tick().sample(lines.column, lines.number, lines.turn, lines.last)
            seen.append(tuple(now))

    simulate(lines, script)
    once = [(0, k, k == rows - 1, 0) for k in range(rows)] + [(1, k, 0, k == cols - 1) for k in range(cols)]
    assert seen == once * 2


@pytest.mark.parametrize("pair", [False, True])
def test_bits_come_least_significant_first_and_stop_where_the_bytes_do(pair: bool) -> None:
    bits = Bits()
    source, step = [0b10110001, 0b01000111], 2 if pair else 1
    found: list[int] = []

    async def script(ctx: Any) -> None:
        left = list(source)
        ctx.set(bits.wanted, 1)
        ctx.set(bits.pair, pair)
        while not ctx.get(bits.starved):
            ctx.set(bits.source.byte, left[0] if left else 0)
            ctx.set(bits.source.valid, bool(left))
            ctx.set(bits.source.dry, not left)
            await ctx.delay(0)
            if ctx.get(bits.source.next):
                left.pop(0)
            ctx.set(bits.take, ctx.get(bits.valid))
            if ctx.get(bits.valid):
                found.append(ctx.get(bits.bits) & (1 << step) - 1)
            await ctx.tick()
            ctx.set(bits.take, 0)

    simulate(bits, script)
    whole = source[0] | source[1] << 8
    assert found == [whole >> place & (1 << step) - 1 for place in range(0, 16, step)]


def test_a_code_waits_for_its_second_byte_and_for_its_reader() -> None:
    words = Words()

    async def script(ctx: Any) -> None:
        ctx.set(words.wanted, 1)
        ctx.set(words.source.valid, 1)
        ctx.set(words.source.byte, 0x34)
        assert (ctx.get(words.words.valid), ctx.get(words.source.next)) == (0, 1)
        await ctx.tick()
        ctx.set(words.source.byte, 0x12)
        assert (ctx.get(words.words.valid), ctx.get(words.words.payload)) == (1, 0x1234)
        assert ctx.get(words.source.next) == 0
        ctx.set(words.words.ready, 1)
        assert ctx.get(words.source.next) == 1
        await ctx.tick()
        assert ctx.get(words.words.valid) == 0

    simulate(words, script)


def test_the_longest_of_two_waits_counts() -> None:
    wait = Wait(20)
    over: list[int] = []

    async def script(ctx: Any) -> None:
        for tick in range(30):
            ctx.set(wait.start, tick in (0, 5, 8))
            ctx.set(wait.least, {0: 12, 5: 3, 8: 11}.get(tick, 0))
            await ctx.tick()
            over.append(ctx.get(wait.over))

    simulate(wait, script)
    assert over == [0] * 19 + [1] * 11


def test_every_code_but_the_lowest_has_its_negative() -> None:
    m = Module()
    code, negate, out = Signal(16), Signal(), Signal(16)
    m.d.comb += out.eq(negated(code, negate))
    m.d.sync += Signal().eq(0)

    async def script(ctx: Any) -> None:
        for value in (0, 1, -1, 32767, -32767, -32768, 1234):
            ctx.set(code, value & 0xFFFF)
            ctx.set(negate, 0)
            assert ctx.get(out) == value & 0xFFFF
            ctx.set(negate, 1)
            assert ctx.get(out) == min(-value, 32767) & 0xFFFF

    simulate(m, script)


# -- the model --------------------------------------------------------------------------------------------------------


class Pins:
    """Sets the pins of the model by hand, one tick for each change."""

    def __init__(self, analog: Analog) -> None:
        self.analog, self.now, self.tick = analog, PinLevels(), 0

    def set(self, **levels: int) -> int:
        self.now, self.tick = self.now._replace(**levels), self.tick + 1
        return self.analog.change(self.tick, self.now)

    def switches(self, settings: list[int]) -> None:
        for bit in [bit for setting in settings for bit in (setting & 1, setting >> 1)]:
            self.set(switch_clk=0, switch_data=bit)
            self.set(switch_clk=1)
        self.set(switch_latch=1)
        self.set(switch_latch=0, switch_clk=0)

    def words(self, words: list[int]) -> None:
        self.set(dac_sync=1)
        for bit in [word >> place & 1 for word in words for place in range(15, -1, -1)]:
            self.set(dac_clk=0, dac_data=bit)
            self.set(dac_clk=1)
        self.set(dac_sync=0, dac_clk=0)


BOARD = Hardware(rows=1, cols=2, settle=5, convert=4, adc_bits=8, adc_step_a=1e-9, read_step_v=1e-3)


def test_the_model_knows_the_level_of_every_line_while_the_gate_is_on() -> None:
    pins = Pins(Analog(BOARD))
    pins.switches([1, 2, 0])
    pins.words([10, -20, 30, -40])
    assert pins.analog.settings == (1, 2, 0)
    assert pins.analog.words[:4] == (10, -20, 30, -40)
    assert pins.analog.levels == (0, 0, 0)
    pins.tick += 48
    pins.set(gate=1)
    assert pins.analog.levels == (10, -40, 0)
    pins.set(gate=0)
    assert [(pulse.ticks, pulse.levels) for pulse in pins.analog.pulses] == [(1, (10, -40, 0))]
    assert pins.analog.faults == []


def test_the_model_converts_what_flows_into_ammeters() -> None:
    pins = Pins(Analog(BOARD, np.array([[1e-6, 3e-6]])))
    pins.switches([1, 3, 3])
    pins.words([10, 0, 0, 0, 0, 0, 0])
    pins.set(reading=1)
    pins.tick += 5
    pins.set(gate=1)
    pins.tick += 5
    pins.set(adc_convert=1)
    pins.tick += 3
    bits = [pins.set(adc_convert=0, gate=0)]
    for _ in range(23):
        pins.set(adc_clk=1)
        bits.append(pins.set(adc_clk=0))
    assert [int("".join(map(str, bits[n : n + 8])), 2) for n in (0, 8, 16)] == [128, 10, 30]
    [conversion] = pins.analog.conversions
    assert (conversion.ticks, conversion.settled, conversion.codes) == (4, 6, (-128, 10, 30))
    assert pins.analog.faults == []


def test_the_model_tells_what_no_board_may_do() -> None:
    pins = Pins(Analog(BOARD))
    pins.set(gate=1)
    pins.switches([3, 0, 0])
    pins.set(adc_convert=1)
    pins.set(reading=1, adc_convert=0)
    pins.words([1, 2, 3, 4])
    pins.set(reading=0)
    pins.set(gate=0)
    pins.set(gate=1)
    told = [fault.partition(": ")[2] for fault in pins.analog.faults]
    assert told == [
        "switches changed while the gate was on",
        "a conversion without a read",
        "`reading` changed while the gate was on",
        "read levels changed while the gate was on",
        "`reading` changed while the gate was on",
        "a pulse on an ammeter",
        "the gate rose before switches and levels had settled",
    ]


def test_idle_lines_of_the_model_float_when_asked_to() -> None:
    G = np.array([[1e-6, 1e-6], [1e-6, 1e-6]])
    board = Hardware(rows=2, cols=2, settle=0, convert=1, adc_bits=16, adc_step_a=1e-12, read_step_v=1e-3)
    codes = []
    for floating in (0, 1):
        pins = Pins(Analog(board, G))
        pins.switches([1, 0, 0, 3])
        pins.words([10, 0, 0, 0, 0, 0, 0, 0])
        pins.set(reading=1, float_idle=floating)
        pins.set(gate=1)
        pins.set(adc_convert=1)
        pins.set(adc_convert=0)
        codes.append(pins.analog.conversions[0].codes[-1])
    # alone: 10 mV x 1 uS; floating: beside it three such cells in a row
    assert codes == [10_000, 13_333]
