"""The acquirer of the gateware against docs/fpga-wire.md: which samples come, in which order, of which levels."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from engine_bench import Board, EngineBench, packed, pulses, record, some_bits
from neurobench.sim_instruments.gateware.analog import Conversion
from neurobench.sim_instruments.gateware.hardware import Hardware

BOTH, BACKWARD, FLOATING, EVERY = 1, 2, 4, 8
GROUNDED, DRIVEN, AMMETER = 0, 1, 3


def hardware(rows: int, cols: int, **more: Any) -> Hardware:
    return Hardware(rows=rows, cols=cols, **{"min_gap": 4, "settle": 25, "convert": 30, "min_period": 280, **more})


def conductances(rows: int, cols: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1e-7, 5e-6, (rows, cols))


@dataclass
class Read:
    """A read program and what docs/fpga-wire.md says of it."""

    kind: int
    flags: int
    averages: int
    integration: int
    region: tuple[int, int, int, int]
    value: int  # the level of cells
    mask: list[int]
    vectors: list[list[int]]

    @property
    def packed(self) -> bytes:
        head = struct.pack("<BBBHI4H", self.kind, self.flags, 4, self.averages, self.integration, *self.region)
        if self.kind == 3:
            return head + struct.pack("<h", self.value) + (b"" if self.flags & EVERY else packed(self.mask))
        codes = [code for vector in self.vectors for code in vector]
        return head + struct.pack(f"<H{len(codes)}h", len(self.vectors), *codes)

    def steps(self, rows: int, cols: int) -> list[tuple[list[int], list[int], list[int]]]:
        """Settings and levels of all lines, and the lines that are read out, for each step in order."""
        return self._cells(rows, cols) if self.kind == 3 else self._products(rows, cols)

    def _signs(self) -> list[int]:
        return [1, -1] if self.flags & BOTH else [1]

    def _cells(self, rows: int, cols: int) -> list[tuple[list[int], list[int], list[int]]]:
        row0, n, col0, m = self.region
        found = []
        for row in range(n):
            mask = [1] * m if self.flags & EVERY else self.mask[row * m : (row + 1) * m]
            read = [rows + col0 + col for col in range(m) if mask[col]]
            signs = self._signs() if read else []
            found += [self._step(rows + cols, {row0 + row: sign * self.value}, read) for sign in signs]
        return found

    def _products(self, rows: int, cols: int) -> list[tuple[list[int], list[int], list[int]]]:
        row0, n, col0, m = self.region
        ours, theirs = range(row0, row0 + n), range(rows + col0, rows + col0 + m)
        inputs, read = (theirs, ours) if self.flags & BACKWARD else (ours, theirs)
        return [
            self._step(rows + cols, {line: sign * code for line, code in zip(inputs, vector, strict=True)}, list(read))
            for vector in self.vectors
            for sign in self._signs()
        ]

    def _step(self, lines: int, driven: dict[int, int], read: list[int]) -> tuple[list[int], list[int], list[int]]:
        settings = [DRIVEN if k in driven else AMMETER if k in read else GROUNDED for k in range(lines)]
        return settings, [driven.get(k, 0) for k in range(lines)], read


def currents_a(conductance: np.ndarray, settings: Sequence[int], volts: np.ndarray, floating: bool) -> np.ndarray:
    """Into every line by Kirchhoff's law, the floating lines relaxed until nothing flows into them."""
    rows = len(conductance)
    volts = volts.copy()
    for _ in range(3000 if floating else 0):
        row_means = conductance @ volts[rows:] / conductance.sum(1)
        volts[:rows] = np.where(np.array(settings[:rows]) == GROUNDED, row_means, volts[:rows])
        col_means = volts[:rows] @ conductance / conductance.sum(0)
        volts[rows:] = np.where(np.array(settings[rows:]) == GROUNDED, col_means, volts[rows:])
    across = volts[:rows, None] - volts[None, rows:]
    return np.concatenate([-(conductance * across).sum(1), (conductance * across).sum(0)])


def expected(read: Read, board: Hardware, conductance: np.ndarray) -> list[int]:
    found = []
    for settings, levels, lines in read.steps(board.rows, board.cols):
        volts = np.array(levels) * board.read_step_v
        currents = currents_a(conductance, settings, volts, read.kind == 4 and bool(read.flags & FLOATING))
        full = 2 ** (board.adc_bits - 1) - 1
        codes = np.clip(np.rint(currents / board.adc_step_a), -full, full).astype(int)
        found += [int(codes[line]) * read.averages for line in lines]
    return found


def random_read(draw: random.Random, rows: int, cols: int) -> Read:
    n, m = draw.randint(1, rows), draw.randint(1, cols)
    region = draw.randint(0, rows - n), n, draw.randint(0, cols - m), m
    kind = draw.choice([3, 4])
    flags = draw.choice([0, BOTH]) | (draw.choice([0, EVERY]) if kind == 3 else draw.choice([0, BACKWARD, FLOATING, 6]))
    inputs = m if flags & BACKWARD else n
    vectors = [[draw.choice([0, draw.randint(-9999, 9999)]) for _ in range(inputs)] for _ in range(draw.randint(1, 3))]
    mask = some_bits(draw, n * m, draw.choice([0.2, 0.6]))
    return Read(
        kind,
        flags,
        draw.randint(1, 3),
        draw.choice([0, 1, 29, 31, 90]),
        region,
        draw.randint(-9999, 9999),
        mask,
        vectors,
    )


def assert_as_the_page_says(
    read: Read, board: Hardware, bench: EngineBench, samples: list[int], conversions: list[Conversion]
) -> None:
    want = expected(read, board, bench.analog.conductance_s)
    assert samples == pytest.approx(want, abs=read.averages if read.flags & FLOATING else 0)
    steps = [step for step in read.steps(board.rows, board.cols) for _ in range(read.averages)]
    assert [(list(c.settings), list(c.levels)) for c in conversions] == [step[:2] for step in steps]
    assert {c.ticks for c in conversions} <= {max(read.integration, board.convert)}
    assert {c.settled for c in conversions[:: read.averages]} <= {board.settle + 1}


@pytest.mark.parametrize(
    ("rows", "cols", "n", "adc_bits", "adc_div"),
    [(1, 1, 8, 24, 1), (3, 5, 8, 12, 1), (8, 2, 3, 12, 2), (16, 16, 1, 8, 1)],
)
def test_random_reads_give_the_samples_of_the_page(rows: int, cols: int, n: int, adc_bits: int, adc_div: int) -> None:
    draw = random.Random(10 * rows + cols)
    step_a = 4e-6 * max(rows, cols) / 2**adc_bits
    hardware_ = hardware(rows, cols, adc_bits=adc_bits, adc_div=adc_div, adc_step_a=step_a)
    bench = EngineBench(hardware_, conductances(rows, cols))
    reads = [random_read(draw, rows, cols) for _ in range(n)]
    found: list[tuple[Read, list[int], list[Conversion]]] = []

    async def script(board: Board) -> None:
        for read in reads:
            before = len(bench.analog.conversions)
            samples = list(await board.acquired(read.packed))
            found.append((read, samples, bench.analog.conversions[before:]))
            assert (board.get("ready"), board.get("stopped"), board.get("over")) == (len(samples), 0, 0)

    bench.run(script)
    for read, samples, conversions in found:
        assert_as_the_page_says(read, hardware_, bench, samples, conversions)
    assert sum(len(samples) for _, samples, _ in found) > n
    assert bench.analog.faults == []
    assert bench.analog.pulses == []


def cells(averages: int = 1, level: int = 5000, flags: int = EVERY, integration: int = 40) -> Read:
    return Read(3, flags, averages, integration, (0, 2, 0, 2), level, [1] * 4, [])


def small(**more: Any) -> tuple[Hardware, EngineBench]:
    board = hardware(2, 2, **{"adc_bits": 12, "adc_step_a": 1e-9, **more})
    return board, EngineBench(board, np.array([[2e-6, 4e-6], [6e-6, 8e-6]]))


@pytest.mark.parametrize(("level", "over"), [(2500, 0), (20000, 1), (-20000, 1)])
def test_a_code_at_either_end_of_the_range_is_told(level: int, over: int) -> None:
    _, bench = small()

    async def script(board: Board) -> None:
        samples = await board.acquired(cells(level=level).packed)
        assert board.get("over") == over == int(max(map(abs, samples)) == 2047)
        await board.acquired(cells(level=1).packed)
        assert board.get("over") == 0, "each acquisition tells its own"

    bench.run(script)


def test_only_lines_that_were_asked_for_can_be_out_of_range() -> None:
    _, bench = small()

    async def script(board: Board) -> None:
        assert await board.acquired(Read(3, 0, 1, 40, (0, 1, 0, 2), 2500, [1, 0], []).packed) == [100]
        assert board.get("over") == 0

    bench.run(script)
    assert bench.analog.conversions[0].codes == (-2048, -2048, 100, -2048)


@pytest.mark.parametrize("flags", [FLOATING, FLOATING | BACKWARD])
def test_idle_lines_of_a_vector_read_float_if_asked_to(flags: int) -> None:
    hardware_ = hardware(3, 3, adc_bits=12, adc_step_a=1e-9)
    bench = EngineBench(hardware_, conductances(3, 3))
    read = Read(4, flags, 1, 30, (1, 2, 0, 2), 0, [], [[9000, 8000]])
    grounded = Read(4, flags ^ FLOATING, 1, 30, (1, 2, 0, 2), 0, [], [[9000, 8000]])
    found: list[list[int]] = []

    async def script(board: Board) -> None:
        found.append(list(await board.acquired(read.packed)))
        found.append(list(await board.acquired(grounded.packed)))

    bench.run(script)
    wanted = [expected(asked, hardware_, bench.analog.conductance_s) for asked in (read, grounded)]
    assert found[0] == pytest.approx(wanted[0], abs=1)
    assert found[1] == wanted[1]
    assert abs(found[0][0] - found[1][0]) > 5


def test_many_conversions_are_summed_in_32_bits() -> None:
    _, bench = small(adc_bits=24, adc_step_a=1e-13, convert=1)

    async def script(board: Board) -> None:
        read = Read(3, BOTH, 20, 1, (1, 1, 1, 1), 31000, [1], [])
        full = 2**23 - 1
        expected = round(31000 * 2e-5 * 8e-6 / 1e-13)
        assert await board.acquired(read.packed) == [20 * min(full, expected), -20 * min(full, expected)]

    bench.run(script)


def test_a_level_that_has_no_negative_is_turned_into_the_highest() -> None:
    _, bench = small()

    async def script(board: Board) -> None:
        await board.acquired(Read(3, BOTH, 1, 1, (0, 1, 0, 1), -32768, [1], []).packed)

    bench.run(script)
    assert [c.levels[0] for c in bench.analog.conversions] == [-32768, 32767]


@pytest.mark.parametrize("after", [1, 30, 150, 290, 420, 560, 640, 800])
def test_rest_stops_an_acquisition_at_once_and_the_next_one_is_whole(after: int) -> None:
    hardware_, bench = small()

    async def script(board: Board) -> None:
        await board.acquire(cells(averages=2).packed)
        await board.ticks(after)
        await board.strobe("rest")
        await board.ticks(2)
        assert (board.get("acquiring"), board.get("stopped"), board.get("tripped")) == (0, 1, 0)
        assert not bench.analog.gate
        assert await board.acquired(cells(averages=2).packed) == expected(cells(averages=2), hardware_, G)
        assert board.get("stopped") == 0

    G = bench.analog.conductance_s
    bench.run(script)
    assert bench.analog.faults == []


def test_a_silent_host_stops_an_acquisition_and_one_that_speaks_does_not() -> None:
    _, bench = small()

    async def script(board: Board) -> None:
        samples = await board.acquired(cells(averages=9).packed, watchdog=2500)
        assert len(samples) < 4
        assert board.get("since") >= 2500
        assert (board.get("stopped"), board.get("tripped"), board.get("ready")) == (1, 1, len(samples))
        assert not bench.analog.gate
        await board.acquire(cells(averages=9).packed, watchdog=2500)
        while board.get("acquiring"):
            await board.ticks(2000)
            await board.hear()
        assert (board.get("stopped"), board.get("tripped"), board.get("ready")) == (0, 1, 4)
        await board.strobe("clear")
        await board.ticks(1)
        assert (board.get("tripped"), board.get("ready")) == (0, 0)

    bench.run(script)


@pytest.mark.parametrize("after", [1, 200, 700, 1100])
def test_an_acquisition_under_way_is_replaced(after: int) -> None:
    hardware_, bench = small()

    async def script(board: Board) -> None:
        await board.acquire(cells(averages=5).packed)
        await board.ticks(after)
        other = Read(4, BACKWARD, 1, 0, (0, 2, 0, 2), 0, [], [[100, -300]])
        assert await board.acquired(other.packed) == expected(other, hardware_, bench.analog.conductance_s)

    bench.run(script)
    assert [fault for fault in bench.analog.faults if "short" not in fault] == []


def test_a_read_program_that_ends_too_soon_stops_there() -> None:
    _, bench = small(settle=3, convert=4)
    wholes = [
        Read(3, BOTH, 1, 0, (0, 2, 0, 2), 7, [1] * 4, []),
        Read(4, 0, 1, 0, (0, 2, 0, 2), 7, [], [[1, 2], [3, 4]]),
    ]

    async def script(board: Board) -> None:
        for whole in wholes:
            for n in range(len(whole.packed)):
                await board.acquired(whole.packed[:n])
                assert (board.get("acquiring"), board.get("stopped")) == (0, 1)

    bench.run(script)
    assert bench.analog.faults == []


def test_pulses_and_reads_take_turns_on_the_same_chains() -> None:
    hardware_, bench = small()
    fired = pulses(0, 9, 4, [31000, 1, -31000, 2], record(1, 1, 0, [[1, 0]]))

    async def script(board: Board) -> None:
        for _ in range(2):
            await board.fired(fired)
            read = cells(flags=EVERY | BOTH)
            assert await board.acquired(read.packed) == expected(read, hardware_, bench.analog.conductance_s)

    bench.run(script)
    assert [(pulse.ticks, pulse.levels) for pulse in bench.analog.pulses] == [(9, (31000, 1, -31000, 2))] * 2
    assert bench.analog.faults == []
