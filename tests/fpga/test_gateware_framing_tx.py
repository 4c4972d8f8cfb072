"""TxFrames of the gateware against cobs and zlib."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from gateware_streams import (
    PERIOD_S,
    Sink,
    Source,
    between,
    body_of,
    dawdling,
    framed,
    long_runs,
    marked,
    run,
    sealed,
    settle,
    with_crc_of,
)
from neurobench.sim_instruments.gateware.framing import TxFrames
from neurobench.sim_instruments.gateware.ports import BODY, BYTES


def sent(bodies: Sequence[bytes], giving: Sequence[int] = (0,), taking: Sequence[int] = (0,)) -> bytes:
    """What TxFrames makes of bodies."""
    frames, room = TxFrames(), 2 * len(b"".join(bodies)) + 16 * len(bodies)
    source, sink = Source(BODY, marked(bodies), giving), Sink(BYTES, room, taking)
    line = bytearray()

    async def bench(ctx: Any) -> None:
        assert not ctx.get(frames.busy)
        await settle(ctx, source, sink)
        assert not ctx.get(frames.busy)
        line.extend(sink.taken(ctx))

    run(between(source, frames, sink, "bodies", "bytes"), bench)
    return bytes(line)


def test_bodies_of_every_length_are_sent() -> None:
    draw = random.Random(2)
    bodies = [body_of(draw, length) for length in range(1, 301)]
    assert sent(bodies) == b"".join(map(framed, bodies))


def test_full_blocks_are_sent_as_cobs_has_them() -> None:
    assert sent(long_runs()) == b"".join(map(framed, long_runs()))


def test_a_block_that_is_full_at_the_end_of_the_frame_has_no_other_behind_it() -> None:
    draw = random.Random(5)
    bodies = [bytes(draw.randint(1, 255) for _ in range(250)) for _ in range(20)]
    full = [body for body in bodies if 0 not in sealed(body)]
    assert full
    line = sent(full)
    assert line == b"".join(map(framed, full))
    assert len(line) == 256 * len(full)


def test_the_sender_keeps_the_line_busy_from_block_to_block() -> None:
    """A byte is there whenever the line wants one, every 40 ticks, once the first block was written."""
    frames, source = TxFrames(), Source(BODY, marked([bytes([9]) * 600, bytes(50), bytes([9]) * 300]))
    m = Module()
    m.submodules += [frames, source]
    wiring.connect(m, source.stream, frames.bodies)
    missing = []

    async def uart(ctx: Any) -> None:
        await ctx.delay(1000 * PERIOD_S)
        ended = 0
        while ended < 3:
            missing.append(not ctx.get(frames.bytes.valid))
            ended += ctx.get(frames.bytes.payload) == 0
            ctx.set(frames.bytes.ready, 1)
            await ctx.tick()
            ctx.set(frames.bytes.ready, 0)
            await ctx.delay(39 * PERIOD_S)

    run(m, uart)
    assert len(missing) > 950
    assert not any(missing)


@pytest.mark.parametrize("pause", [0, 39])
def test_the_sender_is_busy_from_the_first_byte_of_a_body_to_the_last_of_its_frame(pause: int) -> None:
    frames, source, sink = TxFrames(), Source(BODY, marked([bytes(20)])), Sink(BYTES, 64, [pause])

    async def bench(ctx: Any) -> None:
        while not ctx.get(source.count):
            await ctx.tick()
        while ctx.get(sink.count) < len(framed(bytes(20))):
            assert ctx.get(frames.busy)
            await ctx.tick()
        await ctx.tick().repeat(2)
        assert not ctx.get(frames.busy)

    run(between(source, frames, sink, "bodies", "bytes"), bench)


@pytest.mark.parametrize("length", [9, 250, 251])
def test_a_crc_that_ends_with_a_zero_is_sent(length: int) -> None:
    body = with_crc_of(0, length)
    assert sent([body, body]) == 2 * framed(body)


@pytest.mark.parametrize("seed", range(3))
def test_whoever_dawdles_the_frames_are_the_same(seed: int) -> None:
    draw = random.Random(seed)
    bodies = [body_of(draw, draw.randint(1, 60)) for _ in range(25)]
    assert sent(bodies, dawdling(seed), dawdling(seed + 1, 9, 0.9)) == b"".join(map(framed, bodies))
