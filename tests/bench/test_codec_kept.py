"""What the codec keeps ready (heads of arrays, bytes of reads) never shows in the bytes."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neurobench.bench import codec
from neurobench.bench.crossbar import Reading
from neurobench.bench.steps import Sense
from neurobench.bench.stimulus import CellRead, VectorRead


def plainly(value: np.ndarray[Any, Any]) -> bytes:
    """An array as the layout says, with nothing kept."""
    little = value.astype(value.dtype.newbyteorder("<"))
    inner = msgpack.packb([little.dtype.str, list(value.shape), little.tobytes()])
    packed: bytes = msgpack.packb(msgpack.ExtType(1, inner))
    return packed


DTYPES = st.sampled_from([np.dtype(name) for name in ("<f8", ">f8", "<f4", "|i1", ">i2", "<i8", "|b1", "<c16")])


@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40)))
def test_an_array_has_the_same_bytes_the_second_time(array: np.ndarray[Any, Any]) -> None:
    expected = plainly(array)
    for given_array in (array, array.copy(order="F"), array[...]):
        assert codec.pack(given_array) == expected
    found = codec.unpack(expected)
    assert found.shape == array.shape
    assert found.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_equal_reads_have_equal_bytes_whether_kept_or_not() -> None:
    volts = np.linspace(-0.1, 0.1, 8).reshape(2, 4)
    first, second = VectorRead(volts), VectorRead(volts)
    assert codec.encode_step(Sense(first)) == codec.encode_step(Sense(second)) == codec.encode_step(Sense(first))
    other = VectorRead(volts, averages=2)
    assert codec.encode_step(Sense(other)) != codec.encode_step(Sense(first))
    mask = np.eye(4, dtype=bool)
    seen = {codec.encode_step(Sense(CellRead(mask, 0.01 * k))) for k in range(1, 50) for _ in range(3)}
    assert len(seen) == 49, "short-lived reads share ids: their bytes must not be taken for each other's"


def test_what_is_kept_is_bounded() -> None:
    for k in range(3 * codec._KEPT):
        codec.encode_step(Sense(VectorRead(np.full((1, 3), 1e-6 * (k + 1)))))
        codec.pack(np.zeros((1, k % 400)))
    assert len(codec._reads) <= codec._KEPT
    assert len(codec._array_heads) <= codec._KEPT
    large = VectorRead(np.zeros((64, 64)))
    codec.encode_step(Sense(large))
    assert id(large) not in codec._reads, "large reads are not kept alive"


@pytest.mark.parametrize("flags", [(), ("over_range",)])
@pytest.mark.parametrize("sigma", [0.0, float("nan"), np.float64(1e-9), 1])
def test_a_reading_has_the_bytes_of_its_fields(flags: tuple[str, ...], sigma: Any) -> None:
    reading = Reading(np.arange(6.0).reshape(1, 6) * 1e-9, sigma, float("inf"), 0.0, 1e-3, 1e-15, flags)
    data = codec.encode_answer(reading)
    assert data == codec.pack([2, *reading])
    found = codec.decode_answer(data)
    assert isinstance(found, Reading)
    assert type(found.sigma_a) is type(sigma)
    assert found.flags == flags
    assert found.currents_a.tobytes() == reading.currents_a.tobytes()
