"""The host's reading of docs/fpga-wire.md, against a second one written here straight from the page."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobench.bench import frames
from neurobench.bench.crossbar import Capabilities, Parallelism
from neurobench.bench.frames import Deframer, Op, PulseTiming, Request, Status
from neurobench.bench.stimulus import Pulse, PulseBatch, Shots, shots
from neurobench.errors import UsageError

TIMING = PulseTiming(480, 48, (100, 0, -100, 0))


def a_reply(op: int = 2, tag: int = 7, session: int = 9, status: int = 0, payload: bytes = b"") -> bytes:
    body = struct.pack("<BHIB", op | 0x80, tag, session, status) + payload
    return bytes(cobs.encode(body + struct.pack("<I", zlib.crc32(body)))) + b"\0"


def test_a_request_is_laid_out_as_the_page_says() -> None:
    line = frames.encode(Request(Op.ECHO, 0x1234, 0xDEADBEEF, b"\0ab"))
    assert line.endswith(b"\0")
    assert line.count(b"\0") == 1
    body = cobs.decode(line[:-1])
    assert body[:7] == bytes([0x06, 0x34, 0x12, 0xEF, 0xBE, 0xAD, 0xDE])
    assert body[7:-4] == b"\0ab"
    assert body[-4:] == zlib.crc32(body[:-4]).to_bytes(4, "little")


def test_the_length_on_the_line_is_not_underestimated() -> None:
    for n in (0, 1, 100, 242, 243, 254, 500, 1065, 1530):
        worst = frames.encode(Request(Op.ECHO, 0x1111, 0x11111111, b"\1" * n))
        assert len(worst) <= frames.on_the_line(n) <= len(worst) + 1


@given(st.binary(max_size=600), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.data())
def test_replies_are_found_however_the_bytes_come(payload: bytes, tag: int, session: int, draw: st.DataObject) -> None:
    line = b"\0" + a_reply(Op.FETCH, tag, session, 0, payload) * 2
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(line)), max_size=5)))
    deframer, found = Deframer(), []
    for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
        found += deframer.feed(line[start:end])
    assert found == [frames.Reply(Op.FETCH, tag, session, Status.OK, payload)] * 2
    assert deframer.bad == 0


@given(st.binary(max_size=400))
def test_garbage_is_dropped_and_counted_and_what_follows_is_read(noise: bytes) -> None:
    deframer = Deframer()
    found = deframer.feed(noise + b"\0" + a_reply())
    assert found[-1] == frames.Reply(2, 7, 9, 0, b"")
    assert deframer.bad <= noise.count(b"\0") + 1


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_is_noticed(at: int, change: int) -> None:
    line = bytearray(a_reply(payload=b"some payload"))
    at %= len(line) - 1
    line[at] ^= change
    assert [r for r in Deframer().feed(bytes(line) + b"\0") if r.payload == b"some payload"] == []


def test_a_frame_without_an_end_does_not_grow_for_ever() -> None:
    deframer = Deframer(longest=1000)
    for _ in range(100):
        assert deframer.feed(b"\1" * 100) == []
    assert len(deframer._kept) <= 1000
    assert deframer.feed(b"\0" + a_reply()) == [frames.Reply(2, 7, 9, 0, b"")]
    assert deframer.bad == 1


def test_a_request_is_no_reply() -> None:
    assert Deframer().feed(frames.encode(Request(Op.STATUS, 1, 2))) == []


# ------------------------------------------------------------------ programs


def fired(program: bytes, across: int) -> tuple[tuple[int, ...], list[tuple[int, int, int, tuple[int, ...]]]]:
    """Head, and (line, sign, repeat, crossed lines) of every shot: the page's text in Python."""
    kind, axis, width, gap, *levels = struct.unpack_from("<BBII4h", program)
    assert kind == 1
    at, found = 18, []
    while at < len(program):
        sign, repeat, first, lines = struct.unpack_from("<BHHH", program, at)
        size = (lines * across + 7) // 8
        bits = int.from_bytes(program[at + 7 : at + 7 + size], "little")
        assert bits >> (lines * across) == 0
        for n in range(lines):
            mask = bits >> (n * across) & ((1 << across) - 1)
            if mask:
                crossed = tuple(c for c in range(across) if mask >> c & 1)
                found.append((first + n, 1 if sign == 1 else -1, repeat, crossed))
        at += 7 + size
    return (axis, width, gap, *levels), found


def said(expanded: Shots) -> list[tuple[int, int, int, tuple[int, ...]]]:
    return [
        (int(expanded.line[k]), int(expanded.sign[k]), int(expanded.repeat[k]),
         tuple(int(c) for c in expanded.cross[expanded.indptr[k] : expanded.indptr[k + 1]]))
        for k in range(len(expanded))
    ]  # fmt: skip


def expanded_of(counts: np.ndarray[tuple[int, ...], np.dtype[np.int16]], parallelism: Parallelism) -> Shots:
    found = shots(PulseBatch(counts, Pulse(1.0, 1e-5)), Capabilities(counts.shape, parallelism=parallelism))
    assert isinstance(found, Shots)
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 20), st.integers(0, 2**32 - 1), st.sampled_from(["row", "column", "cell"]),
    st.integers(64, 400), st.sampled_from([1, 3]),
)  # fmt: skip
def test_programs_fire_the_shots_in_their_order(
    rows: int, cols: int, seed: int, parallelism: Parallelism, room: int, most: int
) -> None:
    rng = np.random.default_rng(seed)
    counts = (rng.integers(-most, most + 1, (rows, cols)) * (rng.random((rows, cols)) < rng.random())).astype(np.int16)
    expanded = expanded_of(counts, parallelism)
    across = (cols, rows)[expanded.axis]
    programs = frames.pulse_programs(expanded, TIMING, room)
    found = []
    for n, program in programs:
        assert len(program) <= room
        head, part = fired(program, across)
        assert head == (expanded.axis, 480, 48, 100, 0, -100, 0)
        assert len(part) == n
        found += part
    assert found == said(expanded)


def test_a_shot_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="does not fit"):
        frames.pulse_programs(expanded_of(np.ones((2, 600), np.int16), "row"), TIMING, 64)


@pytest.mark.parametrize("n", [64, 65, 100, 128, 256, 511])
def test_a_full_sign_update_costs_little_more_than_its_two_masks(n: int) -> None:
    """Issue 4: all bytes to the board, with UPLOADs, ARM and FIREs, within 1.1 of two bits a cell."""
    signs = np.random.default_rng(n).choice([-1, 1], (n, n)).astype(np.int16)
    total = 0
    for _, program in frames.pulse_programs(expanded_of(signs, "row"), TIMING, 16384):
        for at in range(0, len(program), 1536 - 15):
            total += len(frames.encode(Request(Op.UPLOAD, 1, 1, frames.UPLOAD.pack(1, at) + program[at : at + 1521])))
        total += len(frames.encode(Request(Op.ARM, 1, 1, frames.ARM.pack(1, len(program), 1))))
        total += len(frames.encode(Request(Op.FIRE, 1, 1, frames.FIRE.pack(1, 1))))
    assert total <= 1.1 * (2 * n * n / 8)


def test_samples_are_signed_whatever_their_width() -> None:
    for width in (2, 3, 4):
        values = [0, 1, -1, 2 ** (8 * width - 1) - 1, -(2 ** (8 * width - 1))]
        data = b"".join(v.to_bytes(width, "little", signed=True) for v in values)
        assert frames.sample_values(data, width).tolist() == values


def test_every_command_and_status_stands_on_the_page(checkout: Path) -> None:
    page = (checkout / "docs" / "fpga-wire.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([0-9A-F]{2}) \| ([A-Z_]+) \|", page, re.MULTILINE))
    commands = {f"{op:02X}": op.name for op in Op}
    statuses = {f"{status:02X}": status.name for status in Status}
    found = re.findall(r"^\| ([0-9A-F]{2}) \| ([A-Z_]+) \|", page, re.MULTILINE)
    assert rows
    assert {*found} == {*commands.items(), *statuses.items()}
