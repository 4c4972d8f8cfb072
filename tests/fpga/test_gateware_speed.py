"""The speed of the gateware's line: what is agreed on, when it changes, and the way back."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import pytest
from amaranth.sim import Simulator
from neurobench.sim_instruments.gateware.hardware import Hardware
from neurobench.sim_instruments.gateware.speed import Divider, Speed

BASE_BAUD = 115_200
BOARD = Hardware()
BASE_TICKS = 417  # 48 MHz / 115200


def simulated(component: Any, testbench: Callable[[Any], Awaitable[None]]) -> None:
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def nearest(hardware: Hardware, asked: int, present: int = BASE_TICKS) -> tuple[int, int]:
    """Ticks and baud as the page says: the nearest within 2 %, else the present one."""
    if asked:
        ticks = int(Fraction(hardware.clock_hz, asked) + Fraction(1, 2))
        real = Fraction(hardware.clock_hz, ticks) if ticks else Fraction(0)
        if -(-hardware.clock_hz // hardware.max_baud) <= ticks <= 65535 and abs(real - asked) <= Fraction(asked, 50):
            present = ticks
    if present == round(hardware.clock_hz / BASE_BAUD):
        return present, BASE_BAUD
    return present, int(Fraction(hardware.clock_hz, present) + Fraction(1, 2))


async def agree(ctx: Any, speed: Speed, asked: int) -> int:
    """SPEED up to its reply; the baud that is told."""
    ctx.set(speed.asked, asked)
    ctx.set(speed.ask, 1)
    await ctx.tick()
    ctx.set(speed.ask, 0)
    *_, baud = await ctx.tick().sample(speed.baud).until(speed.answered)
    return int(baud)


async def change(ctx: Any, speed: Speed) -> None:
    """The reply is handed over, and leaves."""
    ctx.set(speed.begin, 1)
    ctx.set(speed.sending, 0)
    await ctx.tick()
    ctx.set(speed.begin, 0)
    ctx.set(speed.sending, 1)
    await ctx.tick().repeat(3)
    ctx.set(speed.sending, 0)
    await ctx.tick().repeat(3)
    ctx.set(speed.sent, 1)
    await ctx.tick()
    ctx.set(speed.sent, 0)


@pytest.mark.parametrize("clock_hz", [48_000_000, 24_000_000, 100_000_000])
def test_the_nearest_speed_is_found_to_the_baud(clock_hz: int) -> None:
    board, draw = Hardware(clock_hz=clock_hz, max_baud=clock_hz // 4), random.Random(clock_hz)
    base = round(clock_hz / BASE_BAUD)
    edges = [clock_hz / ticks * off for ticks in (4, 5, 7, 24, 25, 60) for off in (0.979, 0.9801, 1, 1.0199, 1.0201)]
    asked = [0, 1, 9600, 115_200, 1_000_000, 3_000_000, 12_000_000, 4_000_000_000, 2**32 - 1, *map(round, edges)]
    asked += [round(10 ** draw.uniform(2, 8)) for _ in range(100)]

    async def ask(ctx: Any) -> None:
        for baud in asked:
            assert await agree(ctx, speed, baud) == nearest(board, baud, base)[1], baud
        assert ctx.get(speed.divisor) == base

    speed = Speed(board)
    simulated(speed, ask)


def test_a_speed_is_used_when_its_reply_has_left_and_not_before() -> None:
    async def ask(ctx: Any) -> None:
        assert await agree(ctx, speed, 1_000_000) == 1_000_000
        seen = []
        for begin, sending, sent in ((1, 0, 1), (0, 1, 1), (0, 1, 0), (0, 0, 0), (0, 0, 0), (0, 0, 1)):
            ctx.set(speed.begin, begin)
            ctx.set(speed.sending, sending)
            ctx.set(speed.sent, sent)
            await ctx.tick()
            seen.append((ctx.get(speed.divisor), ctx.get(speed.changing)))
        assert seen == [(BASE_TICKS, 1)] * 5 + [(48, 0)]

    speed = Speed(BOARD)
    simulated(speed, ask)


def test_what_cannot_be_done_leaves_the_present_speed() -> None:
    async def ask(ctx: Any) -> None:
        assert await agree(ctx, speed, 2_000_000) == 2_000_000
        await change(ctx, speed)
        assert ctx.get(speed.divisor) == 24
        assert await agree(ctx, speed, 50_000_000) == 2_000_000
        await change(ctx, speed)
        assert ctx.get(speed.divisor) == 24

    speed = Speed(BOARD)
    simulated(speed, ask)


SLOW = Hardware(clock_hz=115_200, max_baud=28_800)  # its base speed is 1 tick a bit
AT_ONCE, IN_THE_END = 23_040, 230_400  # 200 ms, 2 s
LOOK = 64  # ticks


async def _until_base(ctx: Any, speed: Speed) -> int:
    ticks = 0
    while ctx.get(speed.divisor) != 1:
        await ctx.tick().repeat(LOOK)
        ticks += LOOK
    return ticks


def test_a_new_speed_at_which_nobody_is_heard_is_left_after_200_ms() -> None:
    async def ask(ctx: Any) -> None:
        assert await agree(ctx, speed, 28_800) == 28_800
        await change(ctx, speed)
        assert AT_ONCE <= await _until_base(ctx, speed) <= AT_ONCE + LOOK + 8

    speed = Speed(SLOW)
    simulated(speed, ask)


def test_a_speed_at_which_somebody_was_heard_is_left_after_2_s_of_silence() -> None:
    async def ask(ctx: Any) -> None:
        await agree(ctx, speed, 28_800)
        await change(ctx, speed)
        for pause in (AT_ONCE - 10, AT_ONCE + 10):
            await ctx.tick().repeat(pause)
            assert ctx.get(speed.divisor) == 4
            ctx.set(speed.good, 1)
            await ctx.tick()
            ctx.set(speed.good, 0)
        assert IN_THE_END <= await _until_base(ctx, speed) <= IN_THE_END + LOOK + 8

    speed = Speed(SLOW)
    simulated(speed, ask)


def test_asking_again_for_the_present_speed_in_vain_puts_it_not_on_trial() -> None:
    async def ask(ctx: Any) -> None:
        await agree(ctx, speed, 28_800)
        await change(ctx, speed)
        ctx.set(speed.good, 1)
        await ctx.tick()
        ctx.set(speed.good, 0)
        await agree(ctx, speed, 4_000_000)
        await change(ctx, speed)
        await ctx.tick().repeat(AT_ONCE + 100)
        assert ctx.get(speed.divisor) == 4

    speed = Speed(SLOW)
    simulated(speed, ask)


def test_the_divider_divides() -> None:
    draw = random.Random(4)
    pairs = [(draw.getrandbits(draw.randint(1, 32)), draw.getrandbits(draw.randint(1, 32))) for _ in range(60)]

    async def divide(ctx: Any) -> None:
        for dividend, divisor in [*pairs, (2**32 - 1, 1), (2**32 - 1, 2**32 - 1), (0, 5), (5, 0)]:
            ctx.set(divider.dividend, dividend)
            ctx.set(divider.divisor, divisor)
            ctx.set(divider.start, 1)
            await ctx.tick()
            ctx.set(divider.start, 0)
            await ctx.tick().until(divider.done)
            found = ctx.get(divider.quotient), ctx.get(divider.rest)
            assert found[0] == (dividend // divisor if divisor else 2**32 - 1)
            assert divisor == 0 or found[1] == dividend % divisor

    divider = Divider()
    simulated(divider, divide)
