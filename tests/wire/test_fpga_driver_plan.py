"""Volts and seconds as codes and ticks: nothing beyond what was asked, nothing refused that the Guard admits."""

from __future__ import annotations

import contextlib
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from neurobench.drivers._fpga_plan import EXACT, Plan
from neurobench.sim_instruments.fpga import program as board_side
from neurobench.sim_instruments.fpga import wire as board_wire

from neurobench.bench.board import Board
from neurobench.bench.config import load_bench
from neurobench.bench.frames import BoardIdentity, on_the_line
from neurobench.bench.limits import Guard, Limits
from neurobench.bench.passport import Passport
from neurobench.bench.stimulus import (
    Bias,
    CellRead,
    Play,
    Pulse,
    PulseBatch,
    Shape,
    Shots,
    VectorRead,
    Waveforms,
    shots,
)
from neurobench.errors import CapabilityMissing, ConfigError, Refused

SHAPE = (3, 5)
IDENTITY = BoardIdentity(
    1, 1 | 2 | 4 | 8 | 16, 1, 0, 0, 24, 1, 4, 6, 48_000_000, 12_000_000, 4096, 512, 1024, 2048, 600, 32767, 32767, 48,
    480, 240, 2.5e-4, 2e-5, 1.2e-12, 0.0,
)  # fmt: skip


class Raw:
    """A bench that is only asked what it can do."""

    def __init__(self, plan: Plan) -> None:
        self.capabilities = plan.capabilities()


def plan_of(identity: BoardIdentity = IDENTITY, **said: Any) -> Plan:
    overrides = {name.replace("__", "."): value for name, value in said.items()}
    return Plan(identity, load_bench("fpga-sim", {"chip.rows": SHAPE[0], "chip.cols": SHAPE[1], **overrides}))


def admitted(plan: Plan, limits: Limits, asked: Any) -> bool:
    try:
        Guard(Raw(plan), limits, Passport("chip", SHAPE)).check(asked)  # type: ignore[arg-type]
    except Refused:
        return False
    return True


def board_limits(plan: Plan, limits: Limits) -> board_wire.Limits:
    return board_wire.Limits(*plan.registers(limits))


def hardware(identity: BoardIdentity = IDENTITY) -> board_wire.Hardware:
    return board_wire.Hardware(
        flags=identity.flags, firmware=(1, 0, 0), adc_bits=identity.adc_bits, serial=1, rows=identity.rows,
        cols=identity.cols, clock_hz=identity.clock_hz, max_baud=identity.max_baud,
        program_bytes=identity.program_bytes, read_bytes=identity.read_bytes, samples=identity.samples,
        rx_bytes=identity.rx_bytes, max_body=identity.max_body, pulse_max=identity.pulse_max,
        read_max=identity.read_max, min_gap=identity.min_gap, min_period=identity.min_period, settle=identity.settle,
        pulse_step_v=identity.pulse_step_v, read_step_v=identity.read_step_v, adc_step_a=identity.adc_step_a,
        source_ohm=identity.source_ohm,
    )  # fmt: skip


VOLTS = st.floats(0.05, 4.0)
STEPS = st.sampled_from([2.5e-4, 8.19175 / 127, 1e-3 / 3, 0.01])


@settings(max_examples=300, deadline=None)
@given(
    amplitude_v=VOLTS, slack=st.sampled_from([1.0, 1.0 + 1e-12, 1.001, 1.4]), step_v=STEPS,
    bias=st.sampled_from([Bias.HALF, Bias.THIRD, Bias.GROUNDED]), ticks=st.integers(1, 5000),
    part=st.sampled_from([0.0, 0.004, 0.3]), tight=st.booleans(), sign=st.sampled_from([1, -1]),
)  # fmt: skip
def test_a_pulse_is_never_beyond_what_was_asked_and_passes_if_the_guard_admits_it(
    amplitude_v: float, slack: float, step_v: float, bias: Bias, ticks: int, part: float, tight: bool, sign: int
) -> None:
    identity = IDENTITY._replace(pulse_step_v=step_v, pulse_max=min(32767, int(8.2 / step_v)))
    isolation = "isolated" if bias is Bias.GROUNDED else "passive"
    plan = plan_of(identity, bench__biases=["half", "third", "grounded"], chip__isolation=isolation,
                   chip__potentiating_sign=sign)  # fmt: skip
    pulse = Pulse(amplitude_v, (ticks + part) / identity.clock_hz)
    victim_v = amplitude_v / (3 if bias is Bias.THIRD else 2) if tight else None
    limits = Limits(max_cell_v=amplitude_v * slack, max_read_v=0.01, max_width_s=pulse.width_s * slack,
                    max_victim_v=victim_v, max_line_v=None, min_width_s=pulse.width_s / slack)  # fmt: skip
    counts = np.zeros(SHAPE, np.int16)
    counts[1, 2], counts[2, 4] = 2, -1
    batch = PulseBatch(counts, pulse, bias)
    assume(admitted(plan, limits, batch))
    expanded = shots(batch, plan.capabilities())
    assert isinstance(expanded, Shots)
    try:
        programs = plan.programs(expanded)
    except CapabilityMissing:
        assert part, "whole ticks can always be had"
        return
    (_, code), *more = programs
    assert not more
    parsed = board_side.parse(code, hardware(identity))
    assert isinstance(parsed, board_side.PulseProgram)
    board_side.check(parsed, board_limits(plan, limits), hardware(identity))  # raises if it does not pass
    for level, wanted_v in zip(parsed.levels, expanded.levels(1), strict=True):
        assert abs(level) * step_v <= abs(wanted_v) + EXACT * step_v
        assert level * wanted_v >= 0
    assert abs(parsed.width / identity.clock_hz - pulse.width_s) <= 0.01 * pulse.width_s


@settings(max_examples=200, deadline=None)
@given(
    cell_v=VOLTS, read=st.floats(0.01, 0.9), line=st.floats(0.3, 2.0), width_s=st.floats(1e-7, 1.0), step_v=STEPS,
    watchdog_s=st.sampled_from([0.01, 0.5, 60.0]), passive=st.booleans(),
)  # fmt: skip
def test_no_register_is_above_its_limit_by_more_than_is_said(
    cell_v: float, read: float, line: float, width_s: float, step_v: float, watchdog_s: float, passive: bool
) -> None:
    identity = IDENTITY._replace(pulse_step_v=step_v)
    plan = plan_of(identity, board__watchdog_s=watchdog_s, chip__isolation="passive" if passive else "isolated")
    limits = Limits(max_cell_v=cell_v, max_read_v=cell_v * read, max_line_v=cell_v * line, max_width_s=width_s)
    found, rounding = plan.registers(limits), EXACT * step_v
    assert found.max_line * step_v <= limits.line_v + rounding
    assert found.max_cell * step_v <= limits.max_cell_v + rounding
    assert found.max_victim * step_v <= (limits.victim_v + step_v if passive else limits.max_cell_v) + rounding
    assert found.max_victim <= found.max_cell
    assert found.max_read * identity.read_step_v <= limits.max_read_v + EXACT * identity.read_step_v
    assert found.max_width < limits.max_width_s * identity.clock_hz + 1
    assert found.watchdog == round(watchdog_s * identity.clock_hz)


@settings(max_examples=100, deadline=None)
@given(volts=st.floats(-0.2, 0.2).filter(bool), most_v=st.floats(0.001, 0.2), bits=st.sampled_from([8, 12, 16]))
def test_a_read_that_the_guard_admits_passes_and_no_level_is_beyond_the_limit(
    volts: float, most_v: float, bits: int
) -> None:
    most = 2 ** (bits - 1) - 1
    identity = IDENTITY._replace(read_step_v=0.65534 / most, read_max=most)
    plan = plan_of(identity)
    limits = Limits(max_cell_v=2.0, max_read_v=most_v, max_width_s=1.0)
    read = CellRead(np.ones(SHAPE, np.bool_), volts)
    assume(admitted(plan, limits, read))
    plan.read_most = plan.registers(limits).max_read
    codes = plan.read_code(np.array([volts]))
    assert abs(int(codes[0])) * identity.read_step_v <= most_v * (1 + 1e-9) + EXACT * identity.read_step_v
    (block,) = plan.cell_blocks(read, 1)
    asked = board_side.parse_read(block.program, hardware(identity))
    board_side.check_read(asked, len(block.program), board_limits(plan, limits), hardware(identity))
    assert asked.samples == block.samples


SHAPES = st.lists(
    st.tuples(st.floats(2e-6, 2e-4), st.floats(-2.0, 2.0)), min_size=1, max_size=5
).map(lambda points: Shape(
    np.array([0.0, *np.cumsum([t for t, _ in points]), sum(t for t, _ in points) + 2e-5]),
    np.array([0.0, *(v for _, v in points), 0.0])))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(shapes=st.tuples(SHAPES, SHAPES), start_s=st.floats(0, 1e-4), memory=st.sampled_from([256, 4096]))
def test_a_waveform_is_never_higher_nor_longer_than_it_was_asked(
    shapes: tuple[Shape, Shape], start_s: float, memory: int
) -> None:
    plan = plan_of(IDENTITY._replace(program_bytes=memory))
    waves = Waveforms(shapes, np.array([0, -1, 0]), np.array([1, -1, -1, 1, -1]), np.full(3, start_s), np.zeros(5))
    program = b""
    with contextlib.suppress(CapabilityMissing):
        program = plan.play(Play(waves))
    if not program:
        return  # a peak lies between two samples: see below
    parsed = board_side.parse(program, hardware())
    assert isinstance(parsed, board_side.WaveProgram)
    assert parsed.width <= ceil(waves.duration_s * IDENTITY.clock_hz)
    assert parsed.width >= waves.duration_s * IDENTITY.clock_hz - len(parsed.samples) - 1
    assert parsed.period >= IDENTITY.min_period
    volts = parsed.samples * IDENTITY.pulse_step_v
    for channel, shape in ((0, shapes[0]), (2, shapes[1])):
        assert shape.v.min() - EXACT <= volts[:, channel].min() <= volts[:, channel].max() <= shape.v.max() + EXACT
        low_v, high_v = min(volts[:, channel].min(), 0.0), max(volts[:, channel].max(), 0.0)
        lost_v = max(low_v - shape.v.min(), shape.v.max() - high_v)
        assert lost_v <= np.abs(shape.v).max() / 16 + IDENTITY.pulse_step_v
    assert not volts[:, (1, 3)].any()
    assert parsed.rows.tolist() == [1, 0, 1, 0], "the board has one word line more than the chip"
    assert parsed.cols.tolist() == [1, 0, 0, 1, 0, 0]


def test_a_waveform_beyond_the_converter_is_refused_and_does_not_come_out_with_the_other_sign() -> None:
    """With half bias alone a pulse may have twice the reach of a line; a waveform may not: its code would wrap."""
    plan = plan_of(bench__biases=["half"])
    shape = Shape(np.array([0.0, 1e-4, 2e-4, 3e-4]), np.array([0.0, 9.0, 9.0, 0.0]))
    waves = Waveforms((shape,), np.zeros(3, int), np.full(5, -1), np.zeros(3), np.zeros(5))
    assert plan.capabilities().refusal(waves) is None
    with pytest.raises(CapabilityMissing, match=r"9 V on a line; the board reaches 8\.19"):
        plan.play(Play(waves))


def test_a_pulse_beyond_the_converter_is_refused_also_without_a_guard() -> None:
    plan = plan_of(bench__biases=["half", "third"])
    expanded = shots(PulseBatch(np.ones(SHAPE, np.int16), Pulse(9.0, 1e-6), Bias.THIRD), plan.capabilities())
    assert isinstance(expanded, Shots)
    with pytest.raises(CapabilityMissing, match="the board reaches"):
        plan.programs(expanded)


def rectangle(width_s: float, start_s: float) -> Shape:
    at_s = np.array([0.0, start_s, start_s, start_s + width_s, start_s + width_s, 80e-3])
    return Shape(at_s, np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0]))


@pytest.mark.parametrize(("width_s", "memory"), [(1e-6, 4096), (100e-6, 4096), (1e-3, 16384)])
def test_a_width_that_samples_would_change_or_lose_is_refused(width_s: float, memory: int) -> None:
    """80 ms in 500 samples of this board: 1 us is lost or comes out for 160 us, 100 us for 160; in 2000 1 ms fits."""
    plan = plan_of(IDENTITY._replace(program_bytes=memory))
    for start_s in (10.01e-3, 10.08e-3):
        waves = Waveforms((rectangle(width_s, start_s),), np.zeros(3, int), np.full(5, -1), np.zeros(3), np.zeros(5))
        if width_s == 1e-3:
            assert plan.play(Play(waves))
            continue
        with pytest.raises(CapabilityMissing, match="a stretch of .* samples of 0.000156542 s"):
            plan.play(Play(waves))


def test_a_waveform_shorter_than_a_sample_would_be_longer_than_asked() -> None:
    plan = plan_of()
    shape = Shape(np.array([0.0, 1e-6, 2e-6]), np.array([0.0, 1.0, 0.0]))
    waves = Waveforms((shape,), np.zeros(3, int), np.full(5, -1), np.zeros(3), np.zeros(5))
    with pytest.raises(CapabilityMissing, match="a sample of this board takes 1e-05 s"):
        plan.play(Play(waves))


def test_three_waveforms_on_one_side_are_more_than_the_board_has() -> None:
    shape = Shape(np.array([0.0, 1e-3, 2e-3]), np.array([0.0, 1.0, 0.0]))
    waves = Waveforms((shape,), np.zeros(3, int), np.full(5, -1), np.array([0.0, 1e-4, 2e-4]), np.zeros(5))
    with pytest.raises(CapabilityMissing, match="3 different waveforms"):
        plan_of().play(Play(waves))


def test_edges_and_odd_widths_are_refused() -> None:
    plan = plan_of()
    for pulse, why in ((Pulse(1.0, 1e-6, 1e-7), "edges"), (Pulse(1.0, 3.4e-8), "no whole number of ticks")):
        expanded = shots(PulseBatch(np.ones(SHAPE, np.int16), pulse), plan.capabilities())
        assert isinstance(expanded, Shots)
        with pytest.raises(CapabilityMissing, match=why):
            plan.programs(expanded)


def test_an_integration_that_the_board_cannot_do_is_not_shortened_in_silence() -> None:
    read = CellRead(np.ones(SHAPE, np.bool_), 0.1, integration_s=100.0)
    with pytest.raises(CapabilityMissing, match="integration_s = 100"):
        plan_of().cell_blocks(read, 1)


@pytest.mark.parametrize(("asked", "sums"), [(1, [1]), (256, [256]), (700, [256, 256, 188]), (257, [256, 1])])
def test_averages_are_split_so_that_their_sums_fit(asked: int, sums: list[int]) -> None:
    plan = plan_of()
    assert plan.averages(asked) == sums
    for averages in sums:
        frame = plan.frame(CellRead(np.ones(SHAPE, np.bool_), 0.1), (0, 1, 0, 1), averages)
        assert averages * 2 ** (IDENTITY.adc_bits - 1) <= 2 ** (8 * frame.width - 1)
        assert frame.width <= 4


@settings(max_examples=100, deadline=None)
@given(
    mask=st.integers(1, 2**15 - 1), both=st.booleans(), samples=st.integers(10, 40), room=st.integers(20, 40),
    body=st.integers(128, 200),
)  # fmt: skip
def test_a_read_is_split_into_programs_that_fit_and_together_read_every_cell_once(
    mask: int, both: bool, samples: int, room: int, body: int
) -> None:
    identity = IDENTITY._replace(samples=samples, read_bytes=room, max_body=body)
    plan = plan_of(identity)
    cells = np.array([mask >> k & 1 for k in range(15)], np.bool_).reshape(SHAPE)
    blocks = plan.cell_blocks(CellRead(cells, 0.1, both), 1)
    seen: list[tuple[int, int]] = []
    for block in blocks:
        asked = board_side.parse_read(block.program, hardware(identity))
        assert asked.mask is not None
        assert asked.samples == block.samples <= samples
        assert len(block.program) <= room
        row0, _, col0, _ = asked.region
        seen += [(row0 + r, col0 + c) for r, c in np.argwhere(asked.mask).tolist()]
    assert seen == [tuple(cell) for cell in np.argwhere(cells).tolist()]


@pytest.mark.parametrize("body", [128, 300, 2048])
def test_no_read_program_is_longer_than_a_frame(body: int) -> None:
    """A read memory larger than the longest frame is of no use; what is longer is dropped without a word."""
    identity = IDENTITY._replace(read_bytes=8192, max_body=body, rx_bytes=1024)
    plan = plan_of(identity)
    blocks = plan.vector_blocks(VectorRead(np.full((300, 3), 0.1)), 1)
    assert sum(block.samples for block in blocks) == 300 * 5
    for block in blocks:
        assert len(block.program) + 2 + 11 <= body
        assert on_the_line(len(block.program) + 2) <= identity.rx_bytes


@settings(max_examples=200, deadline=None)
@given(rx=st.integers(128, 65535), body=st.integers(128, 65535))
def test_the_longest_payload_fits_into_a_frame_and_into_the_boards_memory(rx: int, body: int) -> None:
    longest = IDENTITY._replace(rx_bytes=rx, max_body=body).longest_payload
    assert longest + 11 <= body
    assert on_the_line(longest) <= rx
    assert longest > 64


def test_a_chip_larger_than_the_board_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the board has \(4, 6\) lines"):
        plan_of(chip__rows=5)
    with pytest.raises(ConfigError, match="no gate lines"):
        plan_of(chip__isolation="1t1r")


def test_capabilities_are_what_board_and_bench_file_both_have() -> None:
    without = IDENTITY._replace(flags=1 | 2)
    has = plan_of(without, bench__biases=["half"], bench__series_ohm=100.0).capabilities()
    assert [str(d) for d in has.vector_reads] == ["rows_to_cols"]
    assert (has.distinct_shapes, has.biases, has.delivery) == (0, {Bias.HALF}, "exactly_once")
    assert has.max_pulse_v == pytest.approx(2 * 32767 * 2.5e-4)
    assert plan_of().capabilities().max_pulse_v == pytest.approx(32767 * 2.5e-4)
    assert has.max_width_s < Board().watchdog_s / 2
    assert plan_of(IDENTITY._replace(source_ohm=50.0)).capabilities().source_ohm == 50.0
    assert plan_of(IDENTITY._replace(source_ohm=50.0), bench__source_ohm=0.0).capabilities().source_ohm == 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [("pulse_step_v", 0.0), ("pulse_step_v", float("nan")), ("read_step_v", -1e-5), ("adc_step_a", float("inf")),
     ("clock_hz", 0), ("rows", 0), ("pulse_max", 40000), ("read_max", 0), ("adc_bits", 40), ("max_body", 20),
     ("source_ohm", -1.0), ("samples", 0)],
)  # fmt: skip
def test_what_no_board_can_have_is_named(field: str, value: float) -> None:
    assert IDENTITY.nonsense() == []
    assert IDENTITY._replace(**{field: value}).nonsense() == [f"{field} = {value}"]
