"""The sequencer of the gateware against docs/fpga-wire.md: which pulses leave the pins, how long, what is counted."""

from __future__ import annotations

import itertools
import random
import struct
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from engine_bench import Board, EngineBench, packed, pulses, record, some_bits
from neurobench.sim_instruments.gateware.analog import Pulse
from neurobench.sim_instruments.gateware.hardware import Hardware
from neurobench.sim_instruments.gateware.sequencer import check_period

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


class Outcome(NamedTuple):
    """What one FIRE left behind: pulses at the pins so far, and the counters."""

    fired: int
    end: int
    shots: int
    in_shot: int
    started: int
    done: int


def run(bench: EngineBench, programs: list[bytes]) -> list[Outcome]:
    """Fires programs one after the other."""
    outcomes: list[Outcome] = []

    async def script(board: Board) -> None:
        for program in programs:
            await board.fired(program)
            outcomes.append(Outcome(len(bench.analog.pulses), *board.counters()))

    bench.run(script)
    assert bench.analog.faults == []
    return outcomes


def seen(pulses_: list[Pulse]) -> list[Expected]:
    return [Expected(pulse.ticks, pulse.levels) for pulse in pulses_]


def flat(shots: list[list[Expected]]) -> list[Expected]:
    return [pulse for shot in shots for pulse in shot]


def assert_pauses(found: list[Pulse], shots: list[list[Expected]], gap: int) -> None:
    """Exactly `gap` ticks between the pulses of a shot, at least as many between shots."""
    pauses = [after.start - before.start - before.ticks for before, after in itertools.pairwise(found)]
    last_of_shot = [rest == 1 for shot in shots for rest in range(len(shot), 0, -1)][:-1]
    assert [pause for pause, between in zip(pauses, last_of_shot, strict=True) if pause < gap] == []
    assert {pause for pause, between in zip(pauses, last_of_shot, strict=True) if not between} <= {gap}


@pytest.mark.parametrize(("rows", "cols", "n"), [(1, 1, 12), (3, 5, 16), (16, 16, 6), (7, 2, 10)])
def test_random_programs_leave_the_pins_as_the_page_says(rows: int, cols: int, n: int) -> None:
    draw = random.Random(100 * rows + cols)
    bench, oracle = EngineBench(hardware(rows, cols)), Oracle(rows, cols)
    programs = [random_program(draw, rows, cols) for _ in range(n)]
    shots = pulses_before = 0
    for program, outcome in zip(programs, run(bench, programs), strict=True):
        expected = oracle.shots(program)
        found = bench.analog.pulses[pulses_before : outcome.fired]
        assert seen(found) == flat(expected)
        assert_pauses(found, expected, struct.unpack_from("<I", program, 6)[0])
        shots, pulses_before = shots + len(expected), outcome.fired
        assert outcome == (outcome.fired, COMPLETE, shots, 0, outcome.fired, outcome.fired)
    assert pulses_before > n / 2


@pytest.mark.parametrize(("switch_div", "dac_div"), [(3, 2), (1, 4)])
def test_slower_chains_change_nothing_but_the_time(switch_div: int, dac_div: int) -> None:
    draw = random.Random(4)
    board = hardware(3, 5, switch_div=switch_div, dac_div=dac_div, min_period=600)
    programs = [random_program(draw, 3, 5) for _ in range(5)] + [waveform([1] * 3, [2] * 5, 600, [(1, 2, 3, 4)] * 3)]
    bench, oracle = EngineBench(board), Oracle(3, 5)
    run(bench, programs)
    expected = [pulse for program in programs[:-1] for pulse in flat(oracle.shots(program))]
    assert seen(bench.analog.pulses) == [*expected, Expected(1800, (1,) * 3 + (4,) * 5)]


def test_a_level_that_has_no_negative_is_never_turned_into_its_own_sign() -> None:
    bench = EngineBench(hardware(1, 1))
    run(bench, [pulses(0, 5, 4, [-32768, 1, 32767, -1], record(2, 1, 0, [[1]]))])
    assert seen(bench.analog.pulses) == [Expected(5, (32767, -32767))]


# -- waveforms --------------------------------------------------------------------------------------------------------


def waveform(rows: list[int], cols: list[int], period: int, samples: list[tuple[int, int, int, int]]) -> bytes:
    """A waveform program; channels 0, 1, 2 of all lines."""
    channels = b"".join(packed([bit for c in side for bit in (c & 1, c >> 1)]) for side in (rows, cols))
    return struct.pack("<BI", 2, period) + channels + b"".join(struct.pack("<4h", *sample) for sample in samples)


def played(rows: list[int], cols: list[int], sample: tuple[int, int, int, int]) -> tuple[int, ...]:
    row_a, row_b, col_a, col_b = sample
    return (*((0, row_a, row_b)[c] for c in rows), *((0, col_a, col_b)[c] for c in cols))


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 5), (16, 16), (4, 8)])
def test_every_sample_of_a_waveform_stands_for_its_period(rows: int, cols: int) -> None:
    draw = random.Random(rows)
    bench = EngineBench(hardware(rows, cols))
    programs, expected = [], []
    for period in (280, 333, 901):
        on_rows, on_cols = ([draw.randrange(3) for _ in range(n)] for n in (rows, cols))
        samples = [tuple(draw.randint(-32768, 32767) for _ in range(4)) for _ in range(draw.randint(1, 6))]
        programs.append(waveform(on_rows, on_cols, period, samples))
        expected.append([(period, played(on_rows, on_cols, sample)) for sample in samples])
    outcomes = run(bench, programs)
    assert [[(s.ticks, s.levels) for s in pulse.segments] for pulse in bench.analog.pulses] == expected
    assert outcomes == [Outcome(n, COMPLETE, n, 0, n, n) for n in (1, 2, 3)]


# -- ends -------------------------------------------------------------------------------------------------------------


def test_programs_without_a_pulse_are_complete_at_once() -> None:
    bench = EngineBench(hardware(3, 5))
    nothing = [b"", pulses(0, 5, 4, [1, 2, 3, 4]), waveform([1] * 3, [1] * 5, 300, [])]
    blank = pulses(1, 5, 4, [1, 2, 3, 4], record(1, 9, 2, [[0, 0, 0]] * 3))
    assert run(bench, [*nothing, blank]) == [Outcome(0, COMPLETE, 0, 0, 0, 0)] * 4
    assert bench.analog.pulses == []


def test_a_pulse_of_no_width_is_counted_and_never_on() -> None:
    bench = EngineBench(hardware(1, 1))
    assert run(bench, [pulses(0, 0, 4, [9, 0, 0, 0], record(1, 3, 0, [[1]]))]) == [Outcome(0, COMPLETE, 1, 0, 3, 3)]


def test_a_program_that_ends_too_soon_stops_there() -> None:
    whole = pulses(1, 7, 4, [1, 2, 3, 4], record(1, 2, 0, [[1, 0, 1]] * 5), record(2, 1, 1, [[1, 1, 1]]))
    wave = waveform([1, 0, 2], [1] * 5, 280, [(1, 2, 3, 4)] * 2)
    bench = EngineBench(hardware(3, 5))
    parts = [whole[:n] for n in range(len(whole))] + [wave[:n] for n in range(len(wave))]
    outcomes = run(bench, parts)
    most = flat(Oracle(3, 5).shots(whole))
    before = 0
    for part, outcome in zip(parts, outcomes, strict=True):
        found, before = bench.analog.pulses[before : outcome.fired], outcome.fired
        if part[:1] == b"\2":
            assert [p.ticks for p in found] == [280 * n for n in [(len(part) - 8) // 8] if n > 0]
        else:
            assert seen(found) == most[: len(found)]
        assert outcome.started == outcome.done == outcome.fired


class Stopped(NamedTuple):
    """A program that was disturbed: when, its pulses at the pins, and what was counted."""

    program: bytes
    after: int
    pulses: list[Pulse]
    outcome: Outcome


def disturbed(bench: EngineBench, programs: list[bytes], draw: random.Random, longest: int) -> list[Stopped]:
    """REST at a random tick of every program, and the next one a random moment later."""
    found: list[Stopped] = []

    async def script(board: Board) -> None:
        for program in programs:
            before, after = len(bench.analog.pulses), draw.randrange(longest)
            await board.strobe("clear")
            await board.fire(program)
            await board.ticks(after)
            await board.strobe("rest")
            await board.ticks(2)
            assert board.get("firing") == board.get("stopping")
            await board.gate(False)
            await board.ticks(draw.randrange(40))
            outcome = Outcome(len(bench.analog.pulses), *board.counters())
            found.append(Stopped(program, after, bench.analog.pulses[before:], outcome))

    bench.run(script)
    assert bench.analog.faults == []
    return found


@pytest.mark.parametrize(("rows", "cols", "longest"), [(1, 1, 1500), (3, 5, 2000)])
def test_rest_at_any_tick_leaves_a_true_count_and_the_next_program_whole(rows: int, cols: int, longest: int) -> None:
    draw = random.Random(rows)
    bench, oracle = EngineBench(hardware(rows, cols)), Oracle(rows, cols)
    programs = [random_program(draw, rows, cols) for _ in range(30)]
    ends = set()
    for stopped in disturbed(bench, programs, draw, longest):
        expected = flat(oracle.shots(stopped.program))
        assert_true_count(stopped, oracle.shots(stopped.program))
        ends.add(stopped.outcome.end)
        whole = stopped.outcome.done
        assert seen(stopped.pulses[:whole]) == expected[:whole]
        for pulse in stopped.pulses[whole:]:
            assert pulse.levels == expected[whole].levels
            assert pulse.ticks <= expected[whole].ticks - 50, "a pulse is cut only if it would last longer than grace"
    assert ends == {COMPLETE, RESTED, CUT}


def assert_true_count(stopped: Stopped, shots: list[list[Expected]]) -> None:
    _, end, shots_done, in_shot, started, done = stopped.outcome
    assert started - done == (end == CUT)
    assert len(stopped.pulses) in (started, done), "a pulse that was cut in its first tick may not have been on"
    assert done == sum(map(len, shots[:shots_done])) + in_shot
    assert in_shot < max([0, *map(len, shots[shots_done : shots_done + 1])]) or in_shot == 0
    if end == COMPLETE:
        assert shots_done == len(shots)


@pytest.mark.parametrize(
    ("left", "end", "ticks"), [(40, RESTED, 200), (48, RESTED, 200), (56, CUT, 146), (150, CUT, 52)]
)
def test_the_pulse_that_is_on_ends_by_itself_if_that_comes_soon(left: int, end: int, ticks: int) -> None:
    bench = EngineBench(hardware(2, 2))

    async def script(board: Board) -> None:
        await board.fire(pulses(0, 200, 10, [5, 0, 0, 0], record(1, 9, 0, [[1, 0]])))
        await board.gate(True)
        await board.ticks(200 - left)
        await board.strobe("rest")
        await board.ticks(1)
        assert board.get("firing") == board.get("stopping") == (end == RESTED)
        await board.ctx.tick().until(board.engine.ended)
        await board.ticks(2)
        done = int(end == RESTED)
        assert board.counters() == (end, 0, done, 1, done)
        assert (board.get("firing"), board.get("stopping"), board.get("tripped")) == (0, 0, 0)

    bench.run(script)
    assert [abs(pulse.ticks - ticks) <= 2 for pulse in bench.analog.pulses] == [True]
    assert end == CUT or bench.analog.pulses[0].ticks == 200


def test_a_pulse_is_cut_off_if_the_watchdog_runs_out_under_it_all_the_same() -> None:
    bench = EngineBench(hardware(1, 1))

    async def script(board: Board) -> None:
        await board.fire(PULSES_OF_400)
        await board.gate(True)
        board.ctx.set(board.engine.watchdog, 10)
        await board.ticks(4)
        assert (*board.counters(), board.get("tripped")) == (CUT, 0, 0, 1, 0, 1)
        assert not bench.analog.gate

    bench.run(script)


def test_a_waveform_is_cut_off_inside() -> None:
    bench = EngineBench(hardware(2, 2))

    async def script(board: Board) -> None:
        await board.fire(waveform([1, 2], [0, 1], 300, [(5, 6, 7, 8)] * 9))
        await board.gate(True)
        await board.ticks(1000)
        await board.strobe("rest")
        await board.ticks(3)
        assert board.counters() == (CUT, 0, 0, 1, 0)

    bench.run(script)
    assert [(len(pulse.segments), 1000 <= pulse.ticks <= 1004) for pulse in bench.analog.pulses] == [(4, True)]


PULSES_OF_400 = pulses(0, 400, 10, [5, 0, 0, 0], record(1, 1, 0, [[1]]))
WAVEFORM_OF_840 = waveform([1], [1], 280, [(1, 2, 3, 4)] * 3)


# -- the watchdog -----------------------------------------------------------------------------------------------------


def test_the_watchdog_never_cuts_a_pulse_and_begins_none_that_would_outlast_it() -> None:
    draw = random.Random(7)
    bench = EngineBench(hardware(2, 3))
    spans: list[tuple[int, int, int, Outcome]] = []

    async def script(board: Board) -> None:
        for _ in range(25):
            width, watchdog = draw.randint(1, 120), draw.randint(500, 1500)
            program = pulses(0, width, draw.randint(4, 40), [5, 0, 0, 0], record(1, 60, 0, [[1, 0, 1]]))
            await board.strobe("clear")
            heard = board.tick + 1
            await board.fired(program, watchdog)
            spans.append((heard, width, watchdog, Outcome(len(bench.analog.pulses), *board.counters())))
            assert board.get("tripped") == (spans[-1][3].end == WATCHDOG)

    bench.run(script)
    before = 0
    for heard, width, watchdog, outcome in spans:
        found, before = bench.analog.pulses[before : outcome.fired], outcome.fired
        assert {pulse.ticks for pulse in found} <= {width}
        assert found[-1].start + width - heard <= watchdog
        assert outcome.end in (COMPLETE, WATCHDOG)
        assert outcome.started == outcome.done == len(found)
    assert sum(outcome.end == WATCHDOG for *_, outcome in spans) > 12


@pytest.mark.parametrize("program", [PULSES_OF_400, WAVEFORM_OF_840], ids=["pulses", "waveform"])
def test_a_pulse_that_just_fits_is_begun(program: bytes) -> None:
    begun: list[tuple[int, int]] = []
    bench = EngineBench(hardware(1, 1))

    async def script(board: Board) -> None:
        await board.fire(program)
        heard = board.tick - board.get("since")
        await board.gate(True)
        await board.gate(False)
        first = bench.analog.pulses[0]
        for spare in (-2, -1, 0, 1):
            await board.strobe("clear")
            await board.fired(program, first.start + first.ticks - heard + spare)
            begun.append((spare, board.get("done")))

    bench.run(script)
    assert begun == [(-2, 0), (-1, 0), (0, 1), (1, 1)]


def test_a_host_that_speaks_keeps_a_program_running_and_a_pulse_waits_for_it() -> None:
    bench = EngineBench(hardware(1, 1))

    async def script(board: Board) -> None:
        await board.fire(pulses(0, 300, 10, [5, 0, 0, 0], record(1, 12, 0, [[1]])), 900)
        while board.get("firing"):
            await board.ticks(700)
            await board.hear()
        assert board.counters() == (COMPLETE, 1, 0, 12, 12)
        assert board.get("tripped") == 0

    bench.run(script)
    assert {pulse.ticks for pulse in bench.analog.pulses} == {300}
    pauses = [after.start - before.start - 300 for before, after in itertools.pairwise(bench.analog.pulses)]
    assert max(pauses) > 10, "it waited where the next pulse would not have been over in time"


# -- counting ---------------------------------------------------------------------------------------------------------


def test_a_pulse_is_counted_before_its_first_volt_and_done_not_before_its_last_but_one_tick() -> None:
    bench = EngineBench(hardware(2, 2))
    late = []

    async def script(board: Board) -> None:
        engine, rises, was = board.engine, 0, 0
        await board.fire(pulses(0, 3, 4, [5, 0, 0, 0], record(1, 5, 0, [[1, 0], [1, 1]])))
        async for _, _, gate, started, done in board.ctx.tick().sample(engine.pins.gate, engine.started, engine.done):
            rises, was = rises + (gate and not was), gate
            late.append(started < rises or done > rises)
            if board.ctx.get(engine.ended):
                break

    bench.run(script)
    assert len(bench.analog.pulses) == 10
    assert late
    assert not any(late)


def test_pulses_of_a_shot_that_was_not_completed_are_those_of_the_last_fire() -> None:
    bench = EngineBench(hardware(1, 1))
    program = pulses(0, 3, 500, [5, 0, 0, 0], record(1, 9, 0, [[1]]))

    async def script(board: Board) -> None:
        for fired in (3, 6):
            await board.fire(program)
            for _ in range(3):
                await board.gate(True)
                await board.gate(False)
            await board.strobe("rest")
            await board.ticks(3)
            assert board.counters() == (RESTED, 0, 3, fired, fired)
        await board.fired(program[:18])
        assert board.counters() == (COMPLETE, 0, 0, 6, 6)

    bench.run(script)


def test_a_new_session_counts_from_nothing() -> None:
    bench = EngineBench(hardware(1, 1))

    async def script(board: Board) -> None:
        await board.fired(pulses(0, 3, 4, [5, 0, 0, 0], record(1, 5, 0, [[1]])))
        assert board.counters() == (COMPLETE, 1, 0, 5, 5)
        await board.strobe("clear")
        await board.ticks(1)
        assert board.counters() == (0, 0, 0, 0, 0)

    bench.run(script)


def test_a_period_too_short_for_the_converters_is_refused() -> None:
    with pytest.raises(ValueError, match="min_period"):
        check_period(hardware(1, 1, dac_div=3))
