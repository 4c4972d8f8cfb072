"""Stimuli validate in the constructor: a wrong one cannot exist."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_bench import rectangle

from neurobench.bench.crossbar import Capabilities, Needs, Reading, conductance_s
from neurobench.bench.stimulus import (
    Bias,
    CellRead,
    Direction,
    LineState,
    Pulse,
    PulseBatch,
    Region,
    Shape,
    VectorRead,
    Waveforms,
    levels,
)
from neurobench.errors import CapabilityMissing, UsageError

PULSE = Pulse(1.0, 1e-6)


@pytest.mark.parametrize("amplitude_v", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_pulse_has_a_positive_finite_magnitude(amplitude_v: float) -> None:
    with pytest.raises(UsageError, match="amplitude_v"):
        Pulse(amplitude_v, 1e-6)


@pytest.mark.parametrize("width_s", [0.0, -1e-6, math.nan, math.inf])
def test_a_pulse_has_a_positive_finite_width(width_s: float) -> None:
    with pytest.raises(UsageError, match="width_s"):
        Pulse(1.0, width_s)


@pytest.mark.parametrize(("rise_s", "fall_s"), [(-1e-9, 0.0), (0.0, math.inf), (math.nan, 0.0)])
def test_edges_are_not_negative(rise_s: float, fall_s: float) -> None:
    with pytest.raises(UsageError, match="edges"):
        Pulse(1.0, 1e-6, rise_s, fall_s)


def test_edges_come_on_top_of_the_width() -> None:
    assert Pulse(1.0, 1e-6, 2e-7, 3e-7).duration_s == pytest.approx(1.5e-6, rel=1e-12)


@pytest.mark.parametrize(
    "counts",
    [np.zeros((2, 2)), np.zeros(4, np.int8), np.zeros((0, 3), np.int8), np.full((2, 2), 32768), np.ones((2, 2), bool),
     np.full((2, 2), -32768), np.zeros((2, 2), np.uint16)],
)  # fmt: skip
def test_counts_are_whole_numbers_of_rows_and_columns(counts: np.ndarray) -> None:
    with pytest.raises(UsageError, match="counts"):
        PulseBatch(counts, PULSE)


def test_a_batch_keeps_its_own_copy_and_cannot_be_changed() -> None:
    counts = np.ones((2, 2), np.int8)
    batch = PulseBatch(counts, PULSE)
    counts[0, 0] = 99
    assert batch.counts.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match="read-only"):
        batch.counts[0, 0] = 5
    with pytest.raises(FrozenInstanceError):
        batch.pulse = PULSE  # type: ignore[misc]


def test_an_unknown_bias_is_refused() -> None:
    with pytest.raises(ValueError, match="quarter"):
        PulseBatch(np.ones((2, 2), np.int8), PULSE, "quarter")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("t_s", "v"),
    [
        ([0.0, 1.0], [0.0, 1.0]),  # does not end at 0 V
        ([0.0, 1.0], [1.0, 0.0]),  # does not begin at 0 V
        ([1.0, 2.0], [0.0, 0.0]),  # does not begin at 0 s
        ([0.0, 2.0, 1.0], [0.0, 1.0, 0.0]),  # time runs back
        ([0.0, 0.0], [0.0, 0.0]),  # lasts 0 s
        ([0.0], [0.0]),
        ([0.0, 1.0], [0.0, 1.0, 0.0]),
        ([0.0, math.nan], [0.0, 0.0]),
    ],
)
def test_a_shape_that_leaves_a_line_at_volts_or_has_no_order_is_refused(t_s: list[float], v: list[float]) -> None:
    with pytest.raises(UsageError):
        Shape(np.array(t_s), np.array(v))


def test_waveforms_index_their_shapes_and_have_one_start_per_line() -> None:
    shape, zeros = rectangle(1.0, 1e-6), np.zeros(2)
    with pytest.raises(UsageError, match="row_shape"):
        Waveforms((shape,), np.array([0, 1]), np.array([0, 0]), zeros, zeros)
    with pytest.raises(UsageError, match="row_shape"):
        Waveforms((shape,), np.array([0, -2]), np.array([0, 0]), zeros, zeros)
    with pytest.raises(UsageError, match="col_start_s"):
        Waveforms((shape,), np.array([0, 0]), np.array([0, 0]), zeros, np.zeros(3))
    with pytest.raises(UsageError, match="negative"):
        Waveforms((shape,), np.array([0, 0]), np.array([0, 0]), zeros, -np.ones(2))
    with pytest.raises(UsageError, match="at least one shape"):
        Waveforms((), np.array([-1]), np.array([-1]), np.zeros(1), np.zeros(1))


def test_waveforms_last_until_the_last_driven_line_is_back_at_rest() -> None:
    shapes = (rectangle(1.0, 1e-6), rectangle(1.0, 3e-6))
    waves = Waveforms(shapes, np.array([0, -1]), np.array([1, -1]), np.array([5e-6, 0]), np.array([0, 0]))
    assert waves.duration_s == pytest.approx(6e-6, rel=1e-12)


def test_the_shapes_of_waveforms_cannot_be_exchanged_afterwards() -> None:
    shapes = [rectangle(1.0, 1e-6)]
    waves = Waveforms(shapes, np.array([0]), np.array([-1]), np.zeros(1), np.zeros(1))  # type: ignore[arg-type]
    shapes[0] = rectangle(9.0, 1e-6)
    assert waves.shapes[0].v.max() == 1.0


@pytest.mark.parametrize(
    "wrong",
    [{"voltage_v": 0.0}, {"voltage_v": math.inf}, {"integration_s": 0.0}, {"averages": 0}, {"averages": 1.5},
     {"delay_s": -1.0}, {"delay_s": math.nan}, {"mask": np.zeros((2, 2), bool)}, {"mask": np.ones(4, bool)}],
)  # fmt: skip
def test_a_cell_read_that_reads_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        CellRead(**{"mask": np.ones((2, 2), bool), "voltage_v": 0.1, **wrong})  # type: ignore[arg-type]


def test_a_vector_read_is_finite_and_its_idle_lines_are_not_driven() -> None:
    with pytest.raises(UsageError, match="finite"):
        VectorRead(np.array([[math.nan]]))
    with pytest.raises(UsageError, match="idle"):
        VectorRead(np.array([[0.1]]), idle=LineState.DRIVEN)
    with pytest.raises(UsageError, match="dimensions"):
        VectorRead(np.array([0.1]))


@pytest.mark.parametrize("corners", [(0, 0, 0, 1), (1, 0, 0, 1), (-1, 1, 0, 1), (0, 1, 2, 2)])
def test_a_region_has_cells(corners: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="region"):
        Region(*corners)


@given(st.sampled_from(list(Bias)), st.floats(-10, 10))
def test_every_bias_puts_the_declared_volts_on_the_selected_cell(bias: Bias, volts: float) -> None:
    assert levels(bias, volts).cell_v == pytest.approx(volts, rel=1e-12)


@given(st.floats(-10, 10))
def test_victims_see_a_half_a_third_or_all(volts: float) -> None:
    assert levels(Bias.HALF, volts).victims_v == pytest.approx((volts / 2, volts / 2, 0.0), rel=1e-12)
    assert np.abs(levels(Bias.THIRD, volts).victims_v) == pytest.approx(np.full(3, abs(volts) / 3), rel=1e-12)
    assert levels(Bias.GROUNDED, volts).victims_v == pytest.approx((volts, 0.0, 0.0), rel=1e-12)


# ------------------------------------------------------------------ capabilities and needs


def refusal_of(asked: object, **has: object) -> str:
    refusal = Capabilities((2, 2), **has).refusal(asked)  # type: ignore[arg-type]
    assert refusal is not None
    return refusal


def test_a_bench_names_what_it_cannot_do() -> None:
    batch = PulseBatch(np.ones((2, 2), np.int8), PULSE, Bias.THIRD)
    waves = Waveforms((rectangle(1.0, 1e-6),), np.array([0, 0]), np.array([-1, -1]), np.zeros(2), np.zeros(2))
    back = VectorRead(np.full((1, 2), 0.1), Direction.COLS_TO_ROWS)
    assert "'third'; the bench has half" in refusal_of(batch, biases=frozenset({Bias.HALF}))
    assert "1 V; the bench reaches 0.5 V" in refusal_of(batch, max_pulse_v=0.5)
    assert "width of 1e-06 s; the bench does 1e-05 to inf s" in refusal_of(batch, min_width_s=1e-5)
    assert "1 distinct waveform shapes; the bench plays 0" in refusal_of(waves)
    assert "waveforms of 1 V; the bench reaches 0.5 V" in refusal_of(waves, distinct_shapes=1, max_pulse_v=0.5)
    assert "cols_to_rows vector read; the bench has rows_to_cols" in refusal_of(back)
    assert "both polarities" in refusal_of(CellRead(np.ones((2, 2), bool), 0.1), both_polarities=False)


def test_a_bench_that_can_has_nothing_to_say() -> None:
    has = Capabilities((2, 2), vector_reads=frozenset(Direction), distinct_shapes=1)
    assert has.refusal(PulseBatch(np.ones((2, 2), np.int8), PULSE)) is None
    assert has.refusal(VectorRead(np.full((1, 2), 0.1), Direction.COLS_TO_ROWS)) is None


def test_needs_name_all_that_is_missing_at_once() -> None:
    needs = Needs(rows=8, cols=8, transposed=True, biases=frozenset({Bias.ISOLATED}), distinct_shapes=2)
    with pytest.raises(CapabilityMissing) as refused:
        needs.plan(Capabilities((4, 4)))
    for words in ("8 x 8 (it has 4 x 4)", "isolated", "transposed", "2 waveform shapes"):
        assert words in str(refused.value)


def test_products_are_made_on_the_host_where_the_array_cannot() -> None:
    assert Needs(multiply=True).plan(Capabilities((4, 4))).multiply == "array"
    assert Needs(multiply=True).plan(Capabilities((4, 4), vector_reads=frozenset())).multiply == "host"


def test_an_offset_of_the_ammeter_cancels_in_the_conductance() -> None:
    g_s, offset_a, volts = np.array([1e-7, 4e-7]), 1.6e-9, 0.05
    both = Reading(np.stack([g_s * volts + offset_a, -g_s * volts + offset_a]), 0.0, 1.0, 0.0, 0.0)
    assert conductance_s(both, volts) == pytest.approx(g_s, rel=1e-12)
    # at the other polarity the same cells have the same conductance
    assert conductance_s(Reading(both.currents_a[::-1], 0.0, 1.0, 0.0, 0.0), -volts) == pytest.approx(g_s, rel=1e-12)
