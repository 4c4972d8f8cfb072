"""Waveforms over VISA: samples, what the driver says and believes, and what of it reaches the chip."""

from __future__ import annotations

import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from neurobench.drivers.instruments._roles import Line, Waves
from neurobench.drivers.instruments._sampling import PS, STAIRS, SampleClock, Samples, coded, sampled
from neurobench.drivers.instruments.keysight_33500b import FULL, Keysight33500B
from neurobench.drivers.instruments.keysight_81160a import Keysight81160A
from parrot import Parrot, generator_on, refuses_before_an_output_goes_on
from recorder import Recorder

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from visa_bench import PARTS, SimulatedBench, open_simulated

from neurobench.bench.crossbar import Applied, Done, NotDone, Unknown
from neurobench.bench.stimulus import FloatArray, Pulse, PulseBatch, Shape, Waveforms, shots
from neurobench.errors import CapabilityMissing, InstrumentError, LimitExceeded, NeurobenchError

US = 1e-6
CLOCK = SampleClock(least_ps=16_000, least=32, most=4096)


def rectangle(volts: float, width_s: float, start_s: float = 0.0) -> Line:
    end_s = start_s + width_s
    return ((start_s, 0.0), (start_s, volts), (end_s, volts), (end_s, 0.0))


def triangle(volts: float, width_s: float) -> Line:
    return ((0.0, 0.0), (width_s / 2, volts), (width_s, 0.0))


def runs(volts: FloatArray) -> list[tuple[float, int]]:
    """Values that follow each other, and how often."""
    edges = [0, *(np.flatnonzero(np.diff(volts)) + 1).tolist(), len(volts)]
    return [(float(volts[a]), b - a) for a, b in pairwise(edges)]


# ---------------------------------------------------------------------------------------------- samples


def test_edges_that_fit_one_clock_are_exact() -> None:
    waves = Waves((rectangle(1.0, 70 * US), rectangle(-0.5, 30 * US, 25 * US)))
    found = sampled(waves, CLOCK, "it")
    each_s = found.period_ps / PS
    for line, (volts, width_s, start_s) in zip(found.lines, ((1.0, 70, 0), (-0.5, 30, 25)), strict=True):
        assert line is not None
        played = [(v, round(n * each_s / US, 9)) for v, n in runs(line[1:]) if v]
        assert played == [(volts, width_s)]
        before = next(n for v, n in runs(line) if not v)
        assert (before - 1) * each_s == pytest.approx(start_s * US, rel=1e-12)


def test_a_ramp_is_a_stair_with_the_same_time_under_it() -> None:
    found = sampled(Waves((triangle(2.0, 1e-3),)), CLOCK, "it")
    line = found.lines[0]
    assert line is not None
    assert line.sum() * found.period_ps / PS == pytest.approx(1e-3, rel=1e-12)
    assert 1.9 < line.max() < 2.0
    assert np.abs(np.diff(line)).max() <= 2.0 / STAIRS * (1 + 1e-9)


def test_a_line_without_volts_has_no_samples() -> None:
    found = sampled(Waves(((), rectangle(1.0, US))), CLOCK, "it")
    assert found.lines[0] is None
    assert found.lines[1] is not None


def test_edges_that_fit_no_clock_move_by_half_a_sample_at_most() -> None:
    widths_s = (1.0 * US, 0.7310585 * US)
    found = sampled(Waves((rectangle(1.0, widths_s[0]), rectangle(1.0, widths_s[1], 0.1234567 * US))), CLOCK, "it")
    for line, width_s in zip(found.lines, widths_s, strict=True):
        assert line is not None
        assert line.sum() * found.period_ps / PS == pytest.approx(width_s, abs=0.0161 * US)


def test_a_stretch_that_is_too_short_is_refused_with_both_numbers() -> None:
    with pytest.raises(CapabilityMissing, match="a stretch of 1e-06 s in waveforms of 1 s: it plays 4096 samples"):
        sampled(Waves((rectangle(1.0, US), rectangle(1.0, 0.9, 0.1000001))), CLOCK, "it")
    with pytest.raises(CapabilityMissing, match="samples of 1.6e-08 s"):
        sampled(Waves((rectangle(1.0, 1e-9),)), CLOCK, "it")


@pytest.mark.parametrize(("width_us", "plays"), [(1.0000001, False), (30.0000001, True)])
def test_a_width_that_samples_would_change_by_a_third_is_refused(width_us: float, plays: bool) -> None:
    """10 ms in 4096 samples: 2.4 us each, off every grid."""
    waves = Waves((rectangle(1.0, width_us * US, 1e-3), rectangle(1.0, 9e-3, 1.0000001e-3)))
    if plays:
        line = sampled(waves, CLOCK, "it").lines[0]
        assert line is not None
        assert line.sum() * sampled(waves, CLOCK, "it").period_ps / PS == pytest.approx(width_us * US, rel=0.1)
        return
    with pytest.raises(CapabilityMissing, match="a stretch of"):
        sampled(waves, CLOCK, "it")


def test_a_peak_that_lies_between_two_samples_is_refused() -> None:
    """Both channels fit a clock of 1 us: the triangle would come out as two samples of half its volts."""
    far = rectangle(1.0, 1e-3, 3e-3)
    with pytest.raises(CapabilityMissing, match=r"a peak of 2 V: it would play 1 V of it.*1e-06 s"):
        sampled(Waves((triangle(2.0, 2 * US), far)), CLOCK, "it")
    assert sampled(Waves((triangle(2.0, 1e-3), far)), CLOCK, "it").lines[0] is not None


levels = st.floats(-5, 5).map(lambda v: round(v, 3))


@st.composite
def drawn_lines(draw: st.DrawFn) -> Line:
    """Breakpoints on a grid of 10 ns, with jumps and ramps."""
    steps = draw(st.lists(st.tuples(st.integers(0, 4000), levels), min_size=1, max_size=6))
    times = np.cumsum([step for step, _ in steps]) + draw(st.integers(0, 3000))
    inner = [(float(t) * 1e-8, v) for t, (_, v) in zip(times.tolist(), steps, strict=True)]
    assume(any(v for _, v in inner))
    return ((inner[0][0], 0.0), *inner, (inner[-1][0] + 1e-6, 0.0))


def or_refused(waves: Waves) -> Samples | None:
    try:
        return sampled(waves, CLOCK, "it")
    except CapabilityMissing:
        return None


@given(drawn_lines(), drawn_lines())
def test_samples_stay_within_extremes_and_time_and_rest_at_zero(a: Line, b: Line) -> None:
    found = or_refused(Waves((a, b)))
    assume(found is not None)
    assert found is not None
    end_s = max(a[-1][0], b[-1][0])
    for line, asked in zip(found.lines, (a, b), strict=True):
        assert line is not None
        volts = [v for _, v in asked]
        assert min(0.0, *volts) <= line.min()
        assert line.max() <= max(0.0, *volts)
        assert max(abs(line.max() - max(volts)), abs(line.min() - min(volts))) <= max(map(abs, volts)) / 16
        assert line[0] == line[-1] == 0
        assert CLOCK.least <= len(line) <= CLOCK.most
        last = int(np.flatnonzero(line)[-1]) if line.any() else 0
        assert last * found.period_ps / PS <= end_s * (1 + 1e-12)
    assert found.period_ps >= CLOCK.least_ps


@given(st.lists(st.floats(-10, 10).filter(lambda v: abs(v) > 1e-3), min_size=1, max_size=40))
def test_codes_reach_both_ends_and_zero_is_one_of_them(values: list[float]) -> None:
    volts = np.array([0.0, *values, 0.0])
    found = coded(volts, FULL)
    high_v, low_v = max(volts.max(), 0.0), min(volts.min(), 0.0)
    assert found.high_v <= high_v
    assert found.low_v >= low_v
    step_v = (found.high_v - found.low_v) / (2 * FULL)
    assert high_v - found.high_v <= 1.001 * step_v * max(1.0, abs(high_v / low_v) if low_v else 1.0)
    assert found.codes[0] == found.codes[-1] == found.idle
    assert abs(found.idle_v(found.high_v, found.low_v, FULL)) <= 1e-12 * (high_v - low_v)
    assert found.codes.min() >= -FULL
    assert found.codes.max() <= FULL
    if high_v > -low_v:
        assert found.codes.max() == FULL
    back_v = found.low_v + (found.codes + FULL) * step_v
    assert (np.abs(back_v) <= np.abs(volts) * (1 + 1e-9) + 1e-12).all()
    assert np.abs(back_v - volts).max() <= step_v * (1 + 1e-6) + (high_v - found.high_v) + (found.low_v - low_v)


@pytest.mark.parametrize("volts", [1.3, -1.3])
def test_a_rectangle_of_one_sign_is_exact_and_rests_at_a_level_of_zero(volts: float) -> None:
    found = coded(np.array([0.0, volts, 0.0]), FULL)
    assert sorted((found.high_v, found.low_v)) == sorted((volts, 0.0))
    assert abs(found.idle) == FULL
    assert str(found.low_v + 0) != "-0.0"


def test_equal_volts_of_both_signs_are_exact() -> None:
    found = coded(np.array([0.0, 0.7, -0.7, 0.0]), FULL)
    assert (found.high_v, found.low_v, found.codes.tolist()) == (0.7, -0.7, [0, FULL, -FULL, 0])


# ---------------------------------------------------------------------------------------------- the dialogue


class Memory(Parrot):
    """A parrot that tells the mean of the samples that it was given."""

    def unit(self, unit: str) -> str | None:
        header, _, value = unit.partition(" ")
        if header.endswith(":DATA:ARB:DAC"):
            codes = np.array(value.split(",")[1:], float)
            self.kept[header.replace("ARB:DAC", "ATTR:AVER")] = f"{codes.mean() / FULL:.6E}"
        return super().unit(unit)


WAVES = Waves((rectangle(0.5, 2 * US), rectangle(-0.25, 2 * US, US)))


def bench(**settings: Any) -> tuple[Keysight33500B, Memory, Recorder]:
    parrot = Memory()
    driver, recorder = generator_on(parrot, Keysight33500B, "keysight-33500b", **settings)
    return driver, parrot, recorder


def test_a_waveform_is_set_up_by_one_message_of_its_channel_and_all_is_read_back_by_one() -> None:
    driver, _, recorder = bench()
    driver.load(WAVES)
    first, second, questions = recorder.said
    head, _, tail = first.partition(":SOUR1:DATA:ARB:DAC ")
    assert head == (
        ":OUTP1 0;:SOUR1:VOLT:LIM:STAT 0;:OUTP1:LOAD INF;"
        ":SOUR1:BURS:STAT 0;:SOUR1:FUNC PULS;:SOUR1:VOLT MIN;:SOUR1:VOLT:OFFS 0;:SOUR1:FUNC ARB;"
        ":SOUR1:VOLT:LIM:HIGH 10;:SOUR1:VOLT:LIM:LOW -10;:SOUR1:VOLT:LIM:STAT 1;:SOUR1:DATA:VOL:CLE;"
    )
    samples, _, rest = tail.partition(";")
    name, *codes = samples.split(",")
    assert codes[0] == codes[-1] == "-32767"
    assert set(codes) == {"-32767", "32767"}
    assert rest == (
        f":SOUR1:FUNC:ARB {name};:SOUR1:FUNC:ARB:FILT OFF;:SOUR1:FUNC:ARB:ADV SRAT;:SOUR1:FUNC:ARB:SRAT 16000000;"
        ":OUTP1:POL NORM;:SOUR1:VOLT:HIGH 0.5;:SOUR1:VOLT:LOW 0;"
        ":SOUR1:BURS:MODE TRIG;:TRIG1:SOUR BUS;:INIT1:CONT 1;:TRIG1:DEL 0;:SOUR1:BURS:PHAS 0;:OUTP1:MODE NORM;"
        ":SOUR1:BURS:NCYC 1;:SOUR1:BURS:STAT 1"
    )
    assert second.index(":SOUR2:VOLT:LOW -0.25") < second.index(":SOUR2:VOLT:HIGH 0")
    assert ":SOUR2:FUNC:ARB:SRAT 16000000" in second
    asked = questions.split(";")
    assert all(question.endswith("?") for question in asked)
    assert {":SOUR1:DATA:ATTR:AVER?", ":SOUR2:FUNC:ARB?", ":SOUR1:FUNC:ARB:SRAT?", ":SOUR2:FUNC:ARB:FILT?"} <= set(
        asked
    )


def test_many_samples_are_given_the_time_that_a_slow_line_needs_and_nothing_else_is() -> None:
    driver, _, recorder = bench()
    allowed_ms: list[tuple[int, float]] = []
    write = recorder.write_raw

    def timed(message: bytes) -> int:
        allowed_ms.append((len(message), recorder.timeout))
        return write(message)

    recorder.write_raw = timed  # type: ignore[method-assign]
    ramp = ((0.0, 0.0), (US, 1.0), (9.9e-5, 1.0), (1e-4, 0.0))
    driver.load(Waves((ramp, rectangle(0.5, 1e-4))))
    longest, most_ms = max(allowed_ms)
    assert longest > 20_000
    assert most_ms == pytest.approx(longest / 100)  # 100 bytes in a millisecond
    assert all(ms == 50 for n, ms in allowed_ms if n < 5000)
    assert recorder.timeout == 50


def test_outputs_go_on_last_and_one_trigger_plays_both() -> None:
    driver, _, recorder = bench()
    driver.load(WAVES)
    assert not any(":OUTP1 1" in line or ":OUTP2 1" in line for line in recorder.said)
    driver.connect()
    assert recorder.said[-1].startswith(":OUTP1 1;:OUTP2 1;")
    witness = driver.baseline(7)
    driver.arm(7, 0, 1)
    driver.trigger()
    assert recorder.said[-1].split(";")[2:-2] == [
        f':DISP:TEXT "NB {witness.nonce} 7 0 armed"', ":SOUR1:BURS:NCYC 1", ":SOUR2:BURS:NCYC 1", "*TRG",
    ]  # fmt: skip
    assert driver.done()
    assert driver.tally(7, witness, [1]).shots == 1


def test_what_is_loaded_is_not_loaded_again_unless_an_answer_was_lost() -> None:
    driver, _, recorder = bench()
    driver.load(WAVES)
    driver.connect()
    recorder.said.clear()
    driver.load(Waves(tuple(WAVES.lines)))
    driver.connect()
    assert recorder.said == []
    driver.link.losses += 1
    driver.load(WAVES)
    assert len(recorder.said) == 3


def test_a_channel_without_a_waveform_is_switched_off() -> None:
    driver, parrot, recorder = bench()
    parrot.count = ":SOUR2:BURS:NCYC"
    driver.load(Waves(((), rectangle(0.5, US))))
    assert recorder.said[0] == ":OUTP1 0"
    driver.connect()
    assert ":OUTP1 1" not in recorder.said[-1]
    driver.baseline(1)
    driver.arm(1, 0, 1)
    driver.trigger()
    assert ":SOUR1:BURS:NCYC" not in recorder.said[-1]


TRAPS = {
    "another waveform": (":SOUR1:FUNC:ARB?", '"EXP_RISE"', "waveform was set to NB"),
    "samples that got lost": (":SOUR1:DATA:ATTR:AVER?", "+1.0E-01", "samples was set to"),
    "a filter that overshoots": (":SOUR2:FUNC:ARB:FILT?", "NORM", "filter was set to OFF"),
    "another rate": (":SOUR2:FUNC:ARB:SRAT?", "+1.60001E+07", "sample rate was set to"),
    "sample by sample": (":SOUR1:FUNC:ARB:ADV?", "TRIG", "advance was set to SRAT"),
    "turned over": (":OUTP1:POL?", "INV", "polarity was set to NORM"),
    "a load of 50 ohm": (":OUTP2:LOAD?", "+5.0E+01", "load was set to INF"),
    "burst mode off": (":SOUR1:BURS:STAT?", "0", "burst was set to 1"),
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_a_trap_is_refused_before_an_output_goes_on(trap: tuple[str, str, str]) -> None:
    driver, parrot, recorder = bench()
    refuses_before_an_output_goes_on(driver, parrot, recorder, lambda: driver.load(WAVES), trap)


@pytest.mark.parametrize(
    ("question", "answer"),
    [(":SOUR1:VOLT:LOW?", "+2.0E-03"), (":SOUR2:VOLT:HIGH?", "-3.0E-03"), (":SOUR1:FUNC:ARB?", '"OTHER"')],
)
def test_an_idle_level_off_zero_switches_the_outputs_off_again(question: str, answer: str) -> None:
    driver, parrot, _ = bench()
    driver.load(WAVES)
    parrot.lies[question] = answer
    with pytest.raises(InstrumentError, match="outputs are off again"):
        driver.connect()
    assert parrot.kept[":OUTP1"] == parrot.kept[":OUTP2"] == "0"


def test_the_idle_level_of_a_waveform_of_both_signs_is_computed_from_both_levels() -> None:
    driver, parrot, _ = bench()
    driver.load(Waves((((0.0, 0.0), (0.0, 5.0), (US, 5.0), (US, -5.0), (2 * US, -5.0), (2 * US, 0.0)),)))
    parrot.lies |= {":SOUR1:VOLT:HIGH?": "+5.0024E+00", ":SOUR1:VOLT:LOW?": "-4.9976E+00"}
    with pytest.raises(InstrumentError, match=r"channel 1 would rest at 0\.0024 V"):  # each within its resolution
        driver.connect()


def test_beyond_the_limits_nothing_is_said() -> None:
    driver, _, recorder = bench()
    driver.enforce(None, 0.3)
    recorder.said.clear()
    with pytest.raises(LimitExceeded, match=r"a level of 0\.5 V .* limited to 0\.3 V"):
        driver.load(WAVES)
    with pytest.raises(CapabilityMissing, match="3 levels at once"):
        driver.load(Waves((rectangle(0.1, US),) * 3))
    assert recorder.said == []


def test_a_generator_of_pulses_only_says_so() -> None:
    driver, recorder = generator_on(Parrot(), Keysight81160A, "keysight-81160a")
    assert not driver.plays
    with pytest.raises(CapabilityMissing, match="no memory for 2 waveforms"):
        driver.load(WAVES)
    assert recorder.said == []


def test_pulses_follow_waveforms_and_waveforms_pulses() -> None:
    from neurobench.drivers.instruments._roles import Train

    driver, _, recorder = bench()
    for _ in range(2):
        driver.load(WAVES)
        driver.connect()
        driver.program(Train((0.5, -0.5), US))
        driver.connect()
    assert sum(":SOUR1:FUNC PULS;:SOUR1:VOLT:LIM" in line for line in recorder.said) == 2
    assert sum(":SOUR1:FUNC ARB;" in line for line in recorder.said) == 2


# ---------------------------------------------------------------------------------------------- what reaches the chip

MEASURED = {"chip.rows": 3, "chip.cols": 4, "chip.model": "lsmo-gaq3-mirror", "readout.ideal": True}
GRID = (3, 4)
MS = 1e-3


def shape(line: Line) -> Shape:
    t_s, v = np.array(line).T
    return Shape(t_s, v)


def waves(
    rows: dict[int, Line], cols: dict[int, Line], row_start_s: float = 0.0, col_start_s: float = 0.0
) -> Waveforms:
    """Lines by row and by column, each its own shape."""
    lines = list(dict.fromkeys([*rows.values(), *cols.values()]))
    index = [[lines.index(side[n]) if n in side else -1 for n in range(size)]
             for side, size in zip((rows, cols), GRID, strict=True)]  # fmt: skip
    starts = np.full(GRID[0], row_start_s), np.full(GRID[1], col_start_s)
    return Waveforms(tuple(map(shape, lines)), np.array(index[0]), np.array(index[1]), *starts)


def fire(opened: SimulatedBench, stimulus: Waveforms | PulseBatch, seq: int = 1) -> Applied:
    guard = opened.guard()
    guard.stage(seq, stimulus)
    return guard.fire(seq)


def cells_s(opened: SimulatedBench) -> FloatArray:
    found: FloatArray = opened.world.chip.conductance_s().copy()
    return found


def test_a_rectangle_as_a_waveform_moves_cells_as_the_pulse_does_bit_for_bit() -> None:
    as_waves, as_pulses = open_simulated(MEASURED), open_simulated(MEASURED)
    for seq, volts in enumerate((2.0, -2.0, 2.0), start=1):
        lines = rectangle(volts / 2, MS), rectangle(-volts / 2, MS)
        told = fire(as_waves, waves({1: lines[0]}, {0: lines[1], 2: lines[1]}), seq)
        counts = np.zeros(GRID, int)
        counts[1, [0, 2]] = np.sign(volts)
        fire(as_pulses, PulseBatch(counts, Pulse(2.0, MS)), seq)
        assert told.shots_done == 1
    before, after = open_simulated(MEASURED), cells_s(as_waves)
    assert (after == cells_s(as_pulses)).all()
    assert (after != cells_s(before)).sum() == 2
    assert as_waves.world.pulses_fired() == 6
    assert not as_waves.world.mishaps
    assert not as_waves.world.damage


def test_only_the_lines_that_have_a_waveform_are_driven_and_the_others_are_grounded() -> None:
    opened = open_simulated(MEASURED)
    fire(opened, waves({0: rectangle(1.0, MS)}, {3: rectangle(-1.0, MS)}))
    moved = opened.world.pulses
    assert moved[0, 3] == 1
    assert moved.sum() == 1
    assert [one.peak_v for one in opened.world.ledger] == [2.0]


def test_overlaps_are_where_the_starts_say() -> None:
    opened = open_simulated(MEASURED)
    line = rectangle(1.0, 2 * MS)
    fire(opened, waves({0: line}, {0: tuple((t, -v) for t, v in line)}, col_start_s=1 * MS))
    both = [one for one in opened.world.ledger if one.peak_v == 2.0]
    assert [one.seconds for one in both] == [1 * MS]
    assert opened.world.pulses[0, 0] == 1


def test_a_lone_spike_and_nothing_at_all_are_played_too() -> None:
    opened = open_simulated(MEASURED)
    said: list[str] = []
    opened.crossbar.team.generator.link.log = lambda direction, line: said.append(line)  # type: ignore[union-attr]
    assert fire(opened, waves({0: rectangle(1.0, MS)}, {}), 1).shots_done == 1
    assert [one.peak_v for one in opened.world.ledger] == [1.0]
    assert sum("*TRG" in line for line in said) == 1
    assert fire(opened, waves({0: rectangle(0.0, MS)}, {}), 2)[:2] == (1, 0)
    assert sum("*TRG" in line for line in said) == 1
    assert opened.world.pulses_fired() == 0


def test_two_waveforms_on_one_side_are_refused_before_anything_is_said() -> None:
    opened = open_simulated(MEASURED)
    said: list[str] = []
    opened.crossbar.team.generator.link.log = lambda direction, line: said.append(line)  # type: ignore[union-attr]
    two = waves({0: rectangle(1.0, MS), 1: rectangle(0.5, MS)}, {})
    late = Waveforms((shape(rectangle(1.0, MS)),), np.zeros(3), np.full(4, -1), np.array([0, 0, MS]), np.zeros(4))
    for wrong, side in ((two, "word"), (late, "word")):
        with pytest.raises(
            CapabilityMissing, match=f"2 different waveforms .* on the {side} lines; this bench plays one"
        ):
            opened.guard().stage(1, wrong)
    assert not any("*TRG" in line or "OUTP1 1" in line for line in said)
    assert not opened.world.ledger


@pytest.mark.parametrize(("parts", "shapes"), [("b2900, 33500b, 34980a", 2), ("2600b, 81160a, 707b", 0),
                                               ("2600b that pulses, 707b", 0)])  # fmt: skip
def test_a_bench_says_how_many_waveforms_it_plays(parts: str, shapes: int) -> None:
    opened = open_simulated({**MEASURED, **PARTS[parts]})
    assert opened.crossbar.capabilities.distinct_shapes == shapes
    one = waves({0: rectangle(1.0, MS)}, {})
    if shapes:
        assert fire(opened, one).shots_done == 1
        return
    with pytest.raises(CapabilityMissing, match="waveform"):
        opened.guard().stage(1, one)
    with pytest.raises(CapabilityMissing, match="plays rectangular pulses only"):
        opened.crossbar.stage(1, shots(one, opened.crossbar.capabilities))


def test_with_one_channel_wired_only_word_lines_have_waveforms() -> None:
    cell = {"chip.rows": 1, "chip.cols": 1, "chip.isolation": "isolated", "bench.biases": ["isolated"]}
    opened = open_simulated({**MEASURED, **cell, "instruments.wiring.pulse_col": 0})
    assert opened.crossbar.capabilities.distinct_shapes == 1
    one, none = np.zeros(1), np.full(1, -1)
    on_row = Waveforms((shape(rectangle(2.0, MS)),), np.zeros(1), none, one, one)
    assert fire(opened, on_row)[:2] == (1, 1)
    on_col = Waveforms((shape(rectangle(2.0, MS)),), none, np.zeros(1), one, one)
    with pytest.raises(CapabilityMissing, match="waveforms on bit lines; this bench has one output"):
        opened.crossbar.stage(2, shots(on_col, opened.crossbar.capabilities))


def test_isolated_cells_of_an_array_have_no_waveforms_and_a_single_one_has() -> None:
    isolated = {**MEASURED, "chip.isolation": "isolated"}
    assert open_simulated(isolated).crossbar.capabilities.distinct_shapes == 0
    single = open_simulated({**isolated, "chip.rows": 1, "chip.cols": 1})
    assert single.crossbar.capabilities.distinct_shapes == 2


def test_a_process_that_dies_in_a_waveform_leaves_a_doubt_and_outputs_that_are_off() -> None:
    opened = open_simulated({**MEASURED, "limits.max_width_s": 10.0})
    play = shots(waves({0: rectangle(0.8, 1.0)}, {1: rectangle(-0.2, 1.0)}), opened.crossbar.capabilities)
    witness = opened.crossbar.stage(1, play)
    opened.crossbar._make_ready(opened.crossbar._staged, 0)  # type: ignore[arg-type]
    opened.crossbar._trigger(opened.crossbar._staged, 0)  # type: ignore[arg-type]
    opened.world.run_for(0.3)
    other = type(opened.crossbar)(opened.crossbar._connected, opened.config, opened.span, "visa-sim")
    other.rest()
    assert opened.world.terminal("pulse.1").source is None
    opened.world.run_for(2.0)
    found = other.outcome(1, witness, play)
    assert isinstance(found, Unknown)
    assert found.shot == 0
    assert "switched off" in found.why


def test_the_instruments_own_limits_hold_for_waveforms() -> None:
    """Should the Guard let it pass, the driver refuses; should the driver let it pass, the generator does."""
    opened = open_simulated({**MEASURED, "limits.max_cell_v": 2.1})
    one = waves({0: rectangle(1.2, MS)}, {})
    with pytest.raises(NeurobenchError):
        opened.guard().stage(1, one)
    with pytest.raises(LimitExceeded):
        opened.crossbar.stage(1, shots(one, opened.crossbar.capabilities))
    opened.crossbar.team.generator._limit_v = 10.0  # type: ignore[union-attr]
    opened.simulation.instruments["pulse"].receive(b":SOUR1:VOLT:LIM:HIGH 1.05;:SOUR1:VOLT:LIM:STAT 1\n")
    sim = opened.simulation.instruments["pulse"]
    receive = sim.receive
    sim.receive = lambda data: receive(data.replace(b"LIM:HIGH 10", b"LIM:HIGH 1.05"))
    with pytest.raises(InstrumentError):
        opened.crossbar.stage(1, shots(one, opened.crossbar.capabilities))
    assert not opened.world.ledger


def test_a_new_process_settles_a_waveform_that_was_fired() -> None:
    opened = open_simulated(MEASURED)
    play = shots(waves({0: rectangle(1.0, MS)}, {1: rectangle(-1.0, MS)}), opened.crossbar.capabilities)
    witness = opened.crossbar.stage(3, play)
    opened.crossbar._fire_shot(opened.crossbar._staged, 0)  # type: ignore[arg-type]
    opened.crossbar._answers.clear()
    other = type(opened.crossbar)(opened.crossbar._connected, opened.config, opened.span, "visa-sim")
    found = other.outcome(3, witness, play)
    assert isinstance(found, Done)
    assert found.applied.shots_done == 1
    assert opened.world.pulses_fired() == 1


def test_a_waveform_that_was_staged_and_not_triggered_is_not_done() -> None:
    opened = open_simulated(MEASURED)
    play = shots(waves({0: rectangle(1.0, MS)}, {1: rectangle(-1.0, MS)}), opened.crossbar.capabilities)
    witness = opened.crossbar.stage(3, play)
    assert opened.crossbar.outcome(3, witness, play) == NotDone()
    opened.crossbar.rest()
    with pytest.raises(NeurobenchError):
        opened.crossbar.fire(3)
    assert opened.world.pulses_fired() == 0


def test_an_abort_cuts_a_waveform_off_within_a_tenth_of_a_second_and_leaves_a_doubt() -> None:
    opened = open_simulated({**MEASURED, "instruments.simulation.clock": "wall", "limits.max_width_s": 10.0})
    long = waves({0: rectangle(0.8, 5.0)}, {1: rectangle(-0.2, 5.0)})
    play = shots(long, opened.crossbar.capabilities)
    witness = opened.crossbar.stage(1, play)
    raised: list[BaseException] = []

    def firing() -> None:
        try:
            opened.crossbar.fire(1)
        except NeurobenchError as error:
            raised.append(error)

    thread = threading.Thread(target=firing)
    thread.start()
    while not opened.world.terminal("pulse.1").volts:
        time.sleep(0.005)
    begin_s = time.monotonic()
    opened.crossbar.rest()
    assert time.monotonic() - begin_s < 0.1
    assert opened.world.terminal("pulse.1").source is None
    thread.join(5)
    assert raised
    found = opened.crossbar.outcome(1, witness, play)
    assert isinstance(found, Unknown)
    assert "switched off" in found.why
    opened.close()
