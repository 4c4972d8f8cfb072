"""A loop's counts of a million cells are recorded small, and come back as they were; steps keep their layouts."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neurobench.bench import codec
from neurobench.bench.steps import LoopAnswer
from neurobench.errors import RunFileError

KINDS = st.sampled_from([np.dtype(name) for name in ("|u1", "<i2", "<i4", ">i2", "<i8")])
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def answer(ups: np.ndarray[Any, Any], downs: np.ndarray[Any, Any] | None = None) -> LoopAnswer:
    spikes = np.array([[0, 1], [3, 2]], np.int32)
    return LoopAnswer(5, spikes, ups, ups if downs is None else downs, {"v": np.zeros(3)}, 0.0, 1.0, 2.0, "digest")


@given(st.data())
def test_counts_come_back_as_they_were(data: st.DataObject) -> None:
    kind, shape = data.draw(KINDS), data.draw(SHAPES)
    largest = data.draw(st.sampled_from([1, 3, 15, 100, 20_000]))
    least = data.draw(st.sampled_from([0, 0, -3])) if kind.kind == "i" else 0
    numbers = st.integers(least, min(largest, np.iinfo(kind).max))
    counts = data.draw(hnp.arrays(kind, shape, elements=numbers, fill=st.just(kind.type(0))))
    found = codec.decode_answer(codec.encode_answer(answer(counts)))
    assert isinstance(found, LoopAnswer)
    np.testing.assert_array_equal(found.potentiations, counts)
    assert found.potentiations.dtype == kind.newbyteorder("<")
    assert codec.encode_answer(found) == codec.encode_answer(answer(counts.astype(kind.newbyteorder("<"))))


@pytest.mark.parametrize(("most", "bits"), [(1, 1), (2, 2), (3, 2), (15, 4), (16, 8), (255, 8), (256, 16), (65535, 16)])
def test_numbers_take_as_few_bits_as_they_need(most: int, bits: int) -> None:
    counts = np.zeros((100, 100), np.int32)
    counts.ravel()[::5] = 1
    counts[7, 5] = most
    _, _, _, _, payload = codec._counted(counts)
    assert payload[0] == bits
    assert len(payload) == 1 + 1250 + (0 if bits == 1 else 2000 * bits // 8)
    np.testing.assert_array_equal(codec._ungrid(codec._counted(counts)), counts)


def test_a_hundred_answers_of_a_thousand_neurons_stay_far_below_their_size() -> None:
    rng = np.random.default_rng(0)
    used = rng.random((1000, 1000)) < 0.1
    counts = (used * rng.integers(0, 4, used.shape)).astype(np.uint8)
    assert len(codec.encode_answer(answer(counts))) < 0.32e6, (
        "100 of them in 32 MB, which were 800 as counts of 32 bits"
    )
    silent = np.zeros((1000, 1000), np.uint8)
    assert len(codec.encode_answer(answer(silent))) < 500


def test_what_was_recorded_before_there_were_bit_masks_is_read() -> None:
    """Answers of an older version: every layout of a step's grid."""
    rng = np.random.default_rng(1)
    for share in (0.001, 0.2, 0.9):
        counts = ((rng.random((60, 60)) < share) * rng.integers(1, 9, (60, 60))).astype(np.int32)
        ticks, spikes, ups, downs, *rest = answer(counts)
        older = codec.pack([4, ticks, spikes, codec._grid(ups), codec._grid(downs), *rest])
        found = codec.decode_answer(older)
        assert isinstance(found, LoopAnswer)
        np.testing.assert_array_equal(found.potentiations, counts)
        assert codec._grid(counts)[3] != codec._BITMAP, "steps keep the layouts that resuming compares"


@given(st.binary(max_size=60), st.integers(1, 20), st.integers(1, 20))
def test_a_damaged_mask_is_told(payload: bytes, rows: int, cols: int) -> None:
    try:
        found = codec._ungrid(["<i4", rows, cols, codec._BITMAP, payload])
    except RunFileError:
        return
    assert found.shape == (rows, cols)
    assert payload[0] in (1, 2, 4, 8, 16)


def test_a_damaged_mask_of_an_answer_is_a_damaged_record() -> None:
    whole = codec.encode_answer(answer(np.eye(40, dtype=np.int32) * 3))
    fields = msgpack.unpackb(whole, ext_hook=msgpack.ExtType)
    assert fields[3][3] == codec._BITMAP
    fields[3][4] = fields[3][4][:-1]
    with pytest.raises(RunFileError, match="damaged"):
        codec.decode_answer(msgpack.packb(fields))
