"""The sequencer of the gateware against docs/fpga-wire.md: which pulses leave the pins, how long, and what is counted."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from engine_bench import Board, EngineBench, packed, pulses, record, some_bits

from neurobench.sim_instruments.gateware.hardware import Hardware

COMPLETE, RESTED, WATCHDOG, CUT = 1, 2, 3, 4


def hardware(rows: int, cols: int, **more: int) -> Hardware:
    return Hardware(rows=rows, cols=cols, **{"min_gap": 4, "settle": 9, "min_period": 280, "grace": 50, **more})


class Expected(NamedTuple):
    """A pulse: ticks and levels of all lines, word lines first."""

    ticks: int
    levels: tuple[int, ...]


@dataclass
class Oracle:
    """Expands pulse programs as docs/fpga-wire.md reads."""

    rows: int
    cols: int

    def shots(self, program: bytes) -> list[list[Expected]]:
        axis, width = struct.unpack_from("<xBI", program)
        levels = struct.unpack_from("<4h", program, 10)
        found, place = [], 18
        while place < len(program):
            sign, repeat, first, lines = struct.unpack_from("<BHHH", program, place)
            across = (self.cols, self.rows)[axis]
            size = (lines * across + 7) // 8
            bits = int.from_bytes(program[place + 7 : place + 7 + size], "little")
            place += 7 + size
            for line in range(lines):
                mask = [bits >> (line * across + k) & 1 for k in range(across)]
                if any(mask):
                    signed = [-level if sign == 2 else level for level in levels]
                    found.append([Expected(width, self._levels(axis, first + line, mask, signed))] * repeat)
        return found

    def _levels(self, axis: int, line: int, mask: list[int], levels: list[int]) -> tuple[int, ...]:
        own = [int(k == line) for k in range((self.rows, self.cols)[axis])]
        on_rows, on_cols = (own, mask) if axis == 0 else (mask, own)
        row_on, row_off, col_on, col_off = levels
        return (*(row_on if on else row_off for on in on_rows), *(col_on if on else col_off for on in on_cols))


def random_program(draw: random.Random, rows: int, cols: int) -> bytes:
    axis = draw.randrange(2)
    lines, across = ((rows, cols), (cols, rows))[axis]
    records = []
    for _ in range(draw.randrange(4)):
        n = draw.randint(1, min(lines, 6))
        masks = [some_bits(draw, across, draw.choice([0, 0.2, 0.5, 1])) for _ in range(n)]
        records.append(record(draw.choice([1, 2]), draw.choice([1, 1, 2, 5]), draw.randint(0, lines - n), masks))
    levels = [draw.choice([0, draw.randint(-32767, 32767)]) for _ in range(4)]
    return pulses(axis, draw.choice([1, 2, 3, draw.randint(4, 400)]), draw.randint(4, 60), levels, *records)


@pytest.mark.parametrize(("rows", "cols", "n"), [(1, 1, 12), (3, 5, 16), (16, 16, 6), (7, 2, 10)])
def test_random_programs_leave_the_pins_as_the_page_says(rows: int, cols: int, n: int) -> None:
    draw = random.Random(100 * rows + cols)
    bench, oracle = EngineBench(hardware(rows, cols)), Oracle(rows, cols)
    programs = [random_program(draw, rows, cols) for _ in range(n)]
    totals: list[tuple[int, ...]] = []

    async def script(board: Board) -> None:
        for program in programs:
            await board.fired(program)
            totals.append((len(bench.analog.pulses), *board.counters()))

    bench.run(script)
    shots = pulses_so_far = 0
    for program, (fired, end, counted, in_shot, started, done) in zip(programs, totals, strict=True):
        expected = oracle.shots(program)
        found = bench.analog.pulses[pulses_so_far:fired]
        assert [Expected(p.ticks, p.levels) for p in found] == [pulse for shot in expected for pulse in shot]
        gap = struct.unpack_from("<I", program, 6)[0]
        pauses = iter(zip(found, found[1:], strict=False))
        for shot in expected:
            for before, after in (next(pauses) for _ in shot[1:]):
                assert after.start - before.start - before.ticks == gap, "between pulses of one shot"
            for before, after in [next(pauses, (None, None))]:
                assert before is None or after.start - before.start - before.ticks >= gap, "between shots"
        shots, pulses_so_far = shots + len(expected), fired
        assert (end, counted, in_shot, started, done) == (COMPLETE, shots, 0, fired, fired)
    assert pulses_so_far > n / 2
    assert bench.analog.faults == []
