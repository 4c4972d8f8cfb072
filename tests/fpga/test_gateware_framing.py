"""RxFrames of the gateware against cobs and zlib."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from gateware_streams import (
    Sink,
    Source,
    between,
    bodies_of,
    body_of,
    dawdling,
    framed,
    give,
    long_runs,
    run,
    sealed,
    settle,
    take_body,
    with_crc_of,
)
from neurobench.sim_instruments.gateware.framing import RxFrames
from neurobench.sim_instruments.gateware.hardware import Hardware
from neurobench.sim_instruments.gateware.ports import BODY, BYTES

SMALL = Hardware(rx_bytes=512, max_body=300)


def received(
    data: bytes, hardware: Hardware = SMALL, giving: Sequence[int] = (0,), taking: Sequence[int] = (0,)
) -> tuple[list[bytes], int, int]:
    """Bodies that RxFrames finds in `data`, and its counts of good and bad frames."""
    frames, source, sink = RxFrames(hardware), Source(BYTES, data, giving), Sink(BODY, len(data) + 1, taking)
    found: list[bytes] = []
    counts = []

    async def bench(ctx: Any) -> None:
        await settle(ctx, source, sink)
        found.extend(bodies_of(sink.taken(ctx)))
        counts.extend((ctx.get(frames.good), ctx.get(frames.bad)))

    run(between(source, frames, sink, "bytes", "bodies"), bench)
    return found, counts[0], counts[1]


def checked(data: bytes, expected: Sequence[bytes], bad: int, hardware: Hardware = SMALL) -> None:
    bodies, good, dropped = received(data, hardware)
    assert bodies == list(expected)
    assert (good, dropped) == (len(expected), bad)


def test_bodies_of_every_length_are_received() -> None:
    draw = random.Random(1)
    bodies = [body_of(draw, length) for length in range(7, 297)]
    checked(b"".join(map(framed, bodies)), bodies, 0)


def test_full_blocks_are_received() -> None:
    checked(b"".join(map(framed, long_runs())), long_runs(), 0, replace(SMALL, rx_bytes=1024, max_body=600))


@pytest.mark.parametrize("length", [9, 250, 251])
def test_a_crc_that_ends_with_a_zero_is_received(length: int) -> None:
    body = with_crc_of(0, length)
    checked(2 * framed(body), [body, body], 0)


def test_a_block_of_another_encoder_that_ends_with_an_empty_one_is_received() -> None:
    body = next(b for b in (bytes([n]) * 250 for n in range(1, 255)) if 0 not in sealed(b))
    checked(b"\xff" + sealed(body) + b"\1\0", [body], 0)


@pytest.mark.parametrize("seed", range(3))
def test_whoever_dawdles_nothing_is_lost(seed: int) -> None:
    draw = random.Random(seed)
    bodies = [body_of(draw, draw.randint(7, 60)) for _ in range(25)]
    line = b"".join(map(framed, bodies))
    slow = replace(SMALL, rx_bytes=4096)
    assert received(line, slow, dawdling(seed), dawdling(seed + 1, 9))[0] == bodies


def test_one_wrong_bit_anywhere_drops_the_frame_and_no_other() -> None:
    draw = random.Random(11)
    before, after = body_of(draw, 7), body_of(draw, 9)
    body = bytes((1, 2, 0, 4, 0, 0, 0, 8, 9, 0, 255))
    data, expected, bad = bytearray(), [], 0
    for bit in range(8 * (len(framed(body)) - 1)):
        wrong = bytearray(framed(body))
        wrong[bit // 8] ^= 1 << bit % 8
        data += framed(before) + wrong + framed(after)
        expected += [before, after]
        bad += sum(1 for part in wrong.split(b"\0") if part)  # a flipped bit may make a zero: two bad frames
    checked(bytes(data), expected, bad)


def test_empty_frames_are_no_frames() -> None:
    body = bytes(range(7))
    checked(b"\0\0\0" + framed(body) + b"\0\0" + framed(body) + b"\0\0", [body, body], 0)


def test_frames_that_are_too_short_are_dropped_though_their_crc_is_right() -> None:
    shorts = [bytes(range(1, length + 1)) for length in range(7)]
    body = bytes(range(7))
    checked(b"".join(map(framed, shorts)) + framed(body), [body], len(shorts))


def test_the_longest_body_is_taken_and_a_longer_one_dropped() -> None:
    longest, longer = bytes(range(256)) + bytes(40), bytes(range(256)) + bytes(41)
    assert len(sealed(longest)) == SMALL.max_body
    checked(framed(longer) + framed(longest) + framed(longer), [longest], 2)


def test_a_frame_without_an_end_does_not_spoil_what_follows_its_end() -> None:
    body = bytes(range(7))
    checked(bytes([3]) * 3000 + b"\0" + framed(body), [body], 1)


def test_a_frame_that_ends_inside_a_block_is_dropped() -> None:
    whole = framed(bytes(range(1, 30)))
    checked(b"".join(whole[:length] + b"\0" for length in range(1, len(whole) - 1)), [], len(whole) - 2)


@pytest.mark.parametrize("seed", range(4))
def test_garbage_is_counted_and_dropped(seed: int) -> None:
    draw = random.Random(seed)
    data, expected, bad = bytearray(), [], 0
    for _ in range(60):
        noise = draw.randbytes(draw.randint(0, 60)) + b"\0"
        body = body_of(draw, draw.randint(7, 40))
        data += noise + framed(body)
        expected.append(body)
        bad += sum(1 for part in noise.split(b"\0") if part)
    checked(bytes(data), expected, bad)


def test_bodies_wait_until_they_are_taken_and_what_does_not_fit_is_dropped_whole() -> None:
    """As many bytes as `rx_bytes` are taken at any length of frame; then frames are lost, and none is cut."""
    draw = random.Random(3)
    for length in (7, 30, 120, 296):
        frames = RxFrames(SMALL)
        bodies = [body_of(draw, length) for _ in range(2 + 700 // length)]
        found: list[bytes] = []

        async def bench(ctx: Any, frames: Any = frames, bodies: Any = bodies, found: Any = found) -> None:
            await give(ctx, frames.bytes, b"".join(map(framed, bodies)))
            await ctx.tick().repeat(10)
            assert ctx.get(frames.good) + ctx.get(frames.bad) == len(bodies)
            for _ in range(ctx.get(frames.good)):
                found.append(await take_body(ctx, frames.bodies))
            await give(ctx, frames.bytes, framed(bodies[-1]))
            found.append(await take_body(ctx, frames.bodies))

        run(frames, bench)
        promised = [n for n in range(len(bodies)) if len(b"".join(map(framed, bodies[:n]))) <= SMALL.rx_bytes]
        assert len(found) - 1 >= promised[-1]
        assert found == [*bodies[: len(found) - 1], bodies[-1]]


def test_no_byte_of_a_body_leaves_before_its_crc_was_seen() -> None:
    frames, body = RxFrames(SMALL), bytes(range(20))

    async def bench(ctx: Any) -> None:
        await give(ctx, frames.bytes, framed(body)[:-1])
        await ctx.tick().repeat(50)
        assert not ctx.get(frames.bodies.valid)
        await give(ctx, frames.bytes, b"\0")
        assert await take_body(ctx, frames.bodies) == body

    run(frames, bench)


def test_a_line_at_twelve_megabaud_is_not_kept_waiting() -> None:
    """40 ticks a byte at 48 MHz and 4 ticks a bit: a byte is taken in fewer than 10, the end of a frame included."""
    frames, waits = RxFrames(SMALL), []
    line = framed(bytes(60)) + framed(bytes(range(1, 200)))

    async def bench(ctx: Any) -> None:
        for byte in line:
            ctx.set(frames.bytes.payload, byte)
            ctx.set(frames.bytes.valid, 1)
            waits.append(1)
            while not ctx.get(frames.bytes.ready):
                waits[-1] += 1
                await ctx.tick()
            await ctx.tick()

    run(frames, bench)
    assert max(waits) < 10
