"""Bytes of steps and answers: they come back as they were, they are canonical, and malformed ones are refused."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from neurobench.bench.codec import (
    decode_answer,
    decode_step,
    decode_witness,
    encode_answer,
    encode_step,
    encode_witness,
    pack,
    unpack,
)
from neurobench.bench.crossbar import Applied, Reading, Witness
from neurobench.bench.steps import Apply, Checkpoint, LoopAnswer, Note, Sense, Step, Wait
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
)
from neurobench.errors import RunFileError, UsageError

positive = st.floats(1e-12, 10, allow_nan=False)
edges = st.floats(0, 1)
pulses = st.builds(Pulse, positive, positive, edges, edges)
sides = st.tuples(st.integers(1, 24), st.integers(1, 24))


@st.composite
def batches(draw: Any) -> PulseBatch:
    dtype = draw(st.sampled_from([np.int8, np.int16, np.uint8]))
    low = 0 if dtype is np.uint8 else draw(st.sampled_from([-1, -100]))
    counts = draw(
        npst.arrays(dtype, sides, elements=st.integers(low, draw(st.sampled_from([1, 100]))), fill=st.just(0))
    )
    return PulseBatch(counts, draw(pulses), draw(st.sampled_from(Bias)), draw(st.booleans()))


@st.composite
def waveforms(draw: Any) -> Waveforms:
    end_s, volts = draw(positive), draw(st.floats(-2, 2))
    rows, cols = draw(sides)
    shape = Shape(np.array([0, end_s / 2, end_s]), np.array([0, volts, 0]))
    index = npst.arrays(np.int32, st.just(rows), elements=st.integers(-1, 0))
    return Waveforms((shape,), draw(index), np.zeros(cols, np.int32), np.zeros(rows), np.full(cols, draw(edges)))


@st.composite
def reads(draw: Any) -> CellRead | VectorRead:
    timing = (draw(st.booleans()), draw(edges), draw(positive), draw(st.integers(1, 64)))
    if draw(st.booleans()):
        mask = draw(npst.arrays(np.bool_, sides))
        mask[0, 0] = True
        return CellRead(mask, draw(positive), *timing)
    volts = draw(npst.arrays(np.float64, sides, elements=st.floats(-1, 1)))
    region = draw(st.none() | st.just(Region(1, 3, 0, 4)))
    idle = draw(st.sampled_from([LineState.GROUNDED, LineState.FLOATING]))
    both, delay_s, integration_s, averages = timing
    return VectorRead(volts, draw(st.sampled_from(Direction)), region, both, delay_s, integration_s, averages, idle)


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
arrays = npst.arrays(
    st.sampled_from([np.bool_, np.int64, np.float32, np.float64, np.complex128, np.uint16]),
    npst.array_shapes(min_side=0),
)
values = st.recursive(
    plain | arrays.map(lambda a: np.nan_to_num(a)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=8,
)
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Apply, batches() | waveforms()),
    st.builds(Sense, reads()),
    st.builds(Wait, edges),
    st.builds(Note, st.text(), values),
    st.builds(Checkpoint, st.dictionaries(st.text(), values, max_size=4)),
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        equal = isinstance(other, np.ndarray) and one.dtype == other.dtype and one.shape == other.shape
        return equal and one.tobytes() == other.tobytes()
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


@given(values)
def test_values_come_back_as_they_were(value: Any) -> None:
    assert same(unpack(pack(value)), value)


@given(steps)
@settings(max_examples=300)
def test_steps_come_back_with_the_same_bytes(step: Step) -> None:
    data = encode_step(step)
    again = decode_step(data)
    assert type(again) is type(step)
    assert encode_step(again) == data
    if isinstance(step, Apply) and isinstance(step.stimulus, PulseBatch) and isinstance(again, Apply):
        found = again.stimulus
        assert isinstance(found, PulseBatch)
        assert same(found.counts, step.stimulus.counts)
        assert (found.pulse, found.bias, found.measure) == (
            step.stimulus.pulse,
            step.stimulus.bias,
            step.stimulus.measure,
        )


@given(batches(), batches())
def test_equal_batches_have_equal_bytes_and_others_do_not(one: PulseBatch, other: PulseBatch) -> None:
    equal = same(one.counts, other.counts) and (one.pulse, one.bias, one.measure) == (
        other.pulse,
        other.bias,
        other.measure,
    )
    assert (encode_step(Apply(one)) == encode_step(Apply(other))) == equal
    copy = PulseBatch(
        one.counts.copy(), Pulse(*(getattr(one.pulse, f) for f in one.pulse.__slots__)), one.bias, one.measure
    )
    assert encode_step(Apply(copy)) == encode_step(Apply(one))


def test_a_pulse_of_whole_numbers_has_the_bytes_of_its_floats() -> None:
    counts = np.ones((2, 2), np.int8)
    whole, broken = Pulse(1, 1, 0, 0), Pulse(1.0, 1.0, -0.0, 0.0)
    assert encode_step(Apply(PulseBatch(counts, whole))) == encode_step(Apply(PulseBatch(counts, broken)))


@given(steps, st.data())
@settings(max_examples=300)
def test_malformed_bytes_raise_nothing_but_a_run_file_error(step: Step, data: Any) -> None:
    good = bytearray(encode_step(step))
    kind = data.draw(st.sampled_from(["cut", "flip", "noise"]))
    if kind == "cut":
        bad = bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    elif kind == "flip":
        good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
        bad = bytes(good)
    else:
        bad = data.draw(st.binary(max_size=60))
    for decode in (decode_step, decode_answer, decode_witness, unpack):
        with contextlib.suppress(RunFileError):
            decode(bad)


def test_a_damaged_size_does_not_ask_for_all_memory() -> None:
    huge = pack([1, False, 1, [0.5, 0.1, 0.0, 0.0, "half"], "|i1", 2**40, 2**20, 2, b""])
    with pytest.raises(RunFileError):
        decode_step(huge)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array(["a"]), np.array([object()]), 1j, {"a": [lambda: 0]}])
def test_what_cannot_be_recorded_is_named(value: Any) -> None:
    with pytest.raises(UsageError, match="cannot be recorded"):
        pack(value)


def test_answers_come_back() -> None:
    applied = Applied(3, 7, 1.0, 2.0, 1e-9, "model", True, np.arange(4.0))
    back = decode_answer(encode_answer(applied))
    assert isinstance(back, Applied)
    assert back[:7] == applied[:7]
    assert same(back.currents_a, applied.currents_a)
    reading = Reading(np.ones((2, 3, 4)), math.nan, 1e-6, 0.0, 1.0, 2.0, ("over_range",))
    again = decode_answer(encode_answer(reading))
    assert isinstance(again, Reading)
    assert same(again.currents_a, reading.currents_a)
    assert again.flags == ("over_range",)
    assert decode_answer(encode_answer(None)) is None
    moved = np.zeros((40, 40), np.int32)
    moved[3, 4] = 70000
    loop = LoopAnswer(5, np.zeros((2, 2), np.int64), moved, moved * 0, {"v": np.ones(3)}, 0.0, 1.0, 2.0, "ab")
    looped = decode_answer(encode_answer(loop))
    assert isinstance(looped, LoopAnswer)
    assert all(map(same, looped, loop))
    assert len(encode_answer(loop)) < 400, "a sparse change takes little room"
    assert decode_witness(encode_witness(Witness(7, "ab"))) == Witness(7, "ab")


def test_a_whole_array_of_signs_takes_two_bits_per_cell() -> None:
    signs = np.random.default_rng(0).integers(-1, 2, (1024, 1024)).astype(np.int8)
    data = encode_step(Apply(PulseBatch(signs, Pulse(0.5, 1e-3))))
    assert len(data) < 2 * 1024 * 1024 / 8 + 200
    back = decode_step(data)
    assert isinstance(back, Apply)
    assert isinstance(back.stimulus, PulseBatch)
    assert same(back.stimulus.counts, signs)
