"""Random programs on the simulated board against an oracle that reads them straight from the wire page, bit by bit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobench.bench import frames
from neurobench.bench.frames import LIMIT_NAMES, End, LimitRegisters, Op, Status

sys.path.insert(0, str(Path(__file__).resolve().parent))

from board_bench import LIMITS, Table, cells, pulses, record, table, vectors, waves

WIDTH, CODE = 48, 2000  # 1 us and half of 1 V: what the device knows
SHAPES = [(1, 1), (3, 5), (4, 9)]


class Part(NamedTuple):
    """A record as it is meant."""

    sign: int
    repeat: int
    first: int
    bits: Any

    def encoded(self) -> bytes:
        flat = [int(b) for b in self.bits.ravel()]
        mask = bytearray((len(flat) + 7) // 8)
        for n, bit in enumerate(flat):
            mask[n // 8] |= bit << (n % 8)
        return record(bytes(mask), self.sign, self.repeat, self.first, len(self.bits))


def parts_of(shape: tuple[int, int], axis: int) -> st.SearchStrategy[list[Part]]:
    along, across = shape[axis], shape[1 - axis]

    @st.composite
    def one(draw: Any) -> Part:
        first = draw(st.integers(0, along - 1))
        lines = draw(st.integers(1, along - first))
        bits = draw(st.lists(st.booleans(), min_size=lines * across, max_size=lines * across))
        return Part(
            draw(st.sampled_from([1, 2])), draw(st.integers(1, 4)), first, np.array(bits).reshape(lines, across)
        )

    return st.lists(one(), max_size=5)


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def board(request: Any) -> Iterator[Table]:
    rows, cols = request.param
    made = table(chip__rows=rows, chip__cols=cols, chip__model="idealized", readout__noise=False)
    yield made
    made.bench.close()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_cell_has_the_pulses_of_its_bits_in_both_axes(board: Table, data: st.DataObject) -> None:
    shape: tuple[int, int] = board.board.chip.shape
    axis = data.draw(st.integers(0, 1))
    parts = data.draw(parts_of(shape, axis))
    expected, shots, count = np.zeros(shape, np.int64), 0, 0
    for part in parts:
        for k, line in enumerate(part.bits):
            block = expected[part.first + k] if axis == 0 else expected[:, part.first + k]
            block += part.repeat * line
            shots += bool(line.any())
            count += part.repeat * bool(line.any())
    program = pulses(*(part.encoded() for part in parts), axis=axis, width=WIDTH, levels=(CODE, 0, -CODE, 0))
    before, had = board.status(), board.board.chip.pulses.reshape(shape).astype(np.int64)
    reply = board.load((before.fired + 1) & 0xFFFF, program)
    assert frames.ARMED.unpack(reply.payload) == (shots, count)
    status = board.fired((before.fired + 1) & 0xFFFF, program, 1e-2)
    assert (status.end, status.shots - before.shots, status.done - before.done) == (End.COMPLETE, shots, count)
    np.testing.assert_array_equal(board.board.chip.pulses.reshape(shape) - had, expected)


LEVEL = st.integers(-300, 300) | st.sampled_from([-32767, 32767, 0])
REGISTER = st.integers(0, 600) | st.just(65535)


@given(
    levels=st.tuples(LEVEL, LEVEL, LEVEL, LEVEL),
    line=REGISTER,
    cell=REGISTER,
    victim=REGISTER,
    width=st.integers(0, 60),
    least=st.integers(0, 60),
    most=st.integers(0, 60),
    watchdog=st.integers(0, 130),
)
@settings(max_examples=200, deadline=None)  # fmt: skip
def test_the_lowest_register_that_is_passed_is_told(
    board: Table, levels: tuple[int, int, int, int], line: int, cell: int, victim: int, width: int, least: int,
    most: int, watchdog: int,
) -> None:  # fmt: skip
    sr, ur, sc, uc = levels
    passed = {
        "max_line": any(abs(level) > line for level in levels),
        "max_cell": abs(sr - sc) > cell,
        "max_victim": any(abs(v) > victim for v in (sr - uc, ur - sc, ur - uc)),
        "min_width": width < least,
        "max_width": width > most,
        "watchdog": 2 * width >= watchdog,
    }
    board.ok(Op.LIMITS, LimitRegisters(line, cell, victim, 0, least, most, watchdog).pack())
    reply = board.load((board.status().fired + 1) & 0xFFFF, pulses(width=width, levels=levels))
    board.ok(Op.LIMITS, LIMITS.pack())
    worst = [name for name in LIMIT_NAMES if passed.get(name)]
    if worst:
        assert (reply.status, LIMIT_NAMES[reply.payload[0]]) == (Status.LIMIT, worst[0])
    else:
        assert reply.status == Status.OK


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_bytes_after_a_kind_are_taken_or_refused_and_never_fired(board: Table, data: st.DataObject) -> None:
    """Mutated programs and reads: a status, no crash; and whatever is armed keeps the limits."""
    rows, cols = board.board.chip.shape
    whole = (0, rows, 0, cols)
    start = data.draw(st.sampled_from([
        pulses(record(b"\1")), waves([(10, 0, 0, -10)] * 3, [1] * rows, [2] * cols), b"\1", b"\2",
        cells(100, whole, mask=np.eye(rows, cols, dtype=np.bool_)), vectors([[100] * rows], whole),
    ]))  # fmt: skip
    mutated = bytearray(start + data.draw(st.binary(max_size=6)))
    for _ in range(data.draw(st.integers(0, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    had, status = board.board.pulses_fired(), board.status()
    known = {Status.OK, Status.MALFORMED, Status.LIMIT, Status.CHIP, Status.NO_ROOM}
    assert board.load((status.fired + 1) & 0xFFFF, bytes(mutated)).status in known
    number = (status.acquired + 1) & 0xFFFF
    assert board.ask(Op.ACQUIRE, frames.ACQUIRE.pack(number) + bytes(mutated)).status in known
    board.ok(Op.REST)
    assert board.board.pulses_fired() == had
    assert board.board.lines_grounded
