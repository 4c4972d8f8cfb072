"""Frames as the simulated board reads and writes them, against `cobs`, `zlib` and the host's own reading."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st
from neurobench.sim_instruments.fpga.wire import Hardware, Inlet, StatusWords, reply, stuffed, unstuffed

from neurobench.bench import frames
from neurobench.bench.frames import BoardIdentity, BoardStatus

sys.path.insert(0, str(Path(__file__).resolve().parent))

from board_bench import Table, opened

MAX = 300


def framed(body: bytes) -> bytes:
    coded: bytes = cobs.encode(body + zlib.crc32(body).to_bytes(4, "little"))
    return coded + b"\0"


@given(st.binary(max_size=800) | st.lists(st.sampled_from([b"\0", b"\1" * 253, b"\1" * 254]), max_size=6).map(b"".join))
def test_stuffing_is_cobs_and_comes_undone(body: bytes) -> None:
    assert stuffed(body) == cobs.encode(body)
    assert unstuffed(stuffed(body)) == body


@given(st.lists(st.integers(1, 255), max_size=40).map(bytes))
def test_what_is_no_cobs_is_known_as_such(frame: bytes) -> None:
    try:
        expected = cobs.decode(frame)
    except cobs.DecodeError:
        expected = None
    assert unstuffed(frame) == expected


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_any_bytes_in_any_pieces_are_taken_without_a_fuss(data: bytes, piece: int) -> None:
    at_once, in_pieces = Inlet(MAX), Inlet(MAX)
    whole = at_once.feed(data + b"\0")
    parts = [one for at in range(0, len(data) + 1, piece) for one in in_pieces.feed((data + b"\0")[at : at + piece])]
    assert (whole, at_once.good, at_once.bad) == (parts, in_pieces.good, in_pieces.bad)
    assert at_once.good + at_once.bad == sum(bool(part) for part in data.split(b"\0"))


@given(st.binary(min_size=7, max_size=MAX - 4), st.binary(max_size=30).map(lambda b: b.replace(b"\0", b"\1")))
def test_a_body_comes_through_whatever_stands_before_it(body: bytes, junk: bytes) -> None:
    inlet = Inlet(MAX)
    assert inlet.feed(junk + b"\0\0" + framed(body))[-1] == (body, len(framed(body)))
    assert (inlet.good, inlet.bad) == (1, bool(junk))


@pytest.mark.parametrize(
    "data",
    [framed(bytes(6)), framed(bytes(MAX - 3)), b"\x05ab\0", framed(bytes(20))[:-3] + b"\1\1\0", b"\1" * 5000 + b"\0"],
    ids=["too short", "too long", "no COBS", "wrong CRC", "endless"],
)
def test_what_is_wrong_is_dropped_and_counted_once(data: bytes) -> None:
    inlet = Inlet(MAX)
    assert inlet.feed(data) == []
    assert (inlet.good, inlet.bad) == (0, 1)
    assert inlet.feed(framed(bytes(7)))[0][0] == bytes(7)


def test_the_shortest_and_the_longest_body_are_taken() -> None:
    inlet = Inlet(MAX)
    assert [len(body) for body, _ in inlet.feed(framed(bytes(7)) + framed(bytes(MAX - 4)))] == [7, MAX - 4]


@given(
    st.integers(0, 127), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 255), st.binary(max_size=99)
)
def test_the_host_reads_what_the_board_writes(op: int, tag: int, session: int, status: int, payload: bytes) -> None:
    data = reply(op, tag, session, status, payload)
    assert data.count(0) == 1
    assert frames.decode(data[:-1]) == (op, tag, session, status, payload)


def test_status_and_identity_are_as_the_host_reads_them() -> None:
    words = StatusWords(3, 2, 5, 65535, 1, 2**32 + 7, 9, 10, 11, 12, 13, 2**40)
    assert BoardStatus.unpack(words.pack()) == (*words[:5], 7, *words[6:])
    has = Hardware(31, (1, 2, 3), 24, 0xABCDEF, 3, 5, 48_000_000, 12_000_000, 256, 128, 64, 1024, 300, 32767, 4095, 48,
                   480, 240, 2.5e-4, 2e-5, 1.2e-12, 50.0)  # fmt: skip
    read = BoardIdentity.unpack(has.pack())
    assert (read.protocol, read.flags, read.firmware) == (1, 31, "1.2.3")
    assert tuple(read)[5:] == tuple(has)[2:]


def test_counters_tell_good_and_bad_frames() -> None:
    table = Table(opened())
    try:
        table.greet(None)
        table.board.receive(b"\0\0\0abc\0")
        table.board.receive(framed(bytes(3)))
        status = table.status()
        assert (status.good, status.bad) == (2, 2)
    finally:
        table.bench.close()
