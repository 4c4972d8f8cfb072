"""Pulses that are added up in bytes are as many as those that are added up one by one."""

from __future__ import annotations

from copy import copy

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neurobench.runs.tally import Tally, part_of

SHAPE = (2, 3)
BATCH = st.one_of(
    arrays(np.int8, SHAPE, elements=st.integers(-1, 1)),
    arrays(np.int8, SHAPE),
    arrays(np.int64, SHAPE, elements=st.integers(-1000, 1000)),
    arrays(np.uint8, SHAPE),
)


@given(st.lists(st.tuples(BATCH, st.booleans()), max_size=12), st.integers(1, 130))
def test_both_signs_are_as_if_added_one_by_one(batches: list[tuple[np.ndarray, bool]], times: int) -> None:
    tallies, wanted, earlier = {1: Tally(SHAPE), -1: Tally(SHAPE)}, {1: np.zeros(SHAPE), -1: np.zeros(SHAPE)}, []
    for batch, looked_at in batches:
        for sign, tally in tallies.items():
            of_sign = np.maximum(sign * batch.astype(np.int64), 0)
            part = part_of(batch, sign)
            assert part.pulses == of_sign.sum()
            assert part.most == of_sign.max()
            for _ in range(times):
                tally.add(part_of(batch, sign).cells, part.most)
            wanted[sign] += times * of_sign
            if looked_at:
                earlier.append((tally.counts, wanted[sign].copy()))
    for sign, tally in tallies.items():
        np.testing.assert_array_equal(tally.counts, wanted[sign])
    for counts, then in earlier:
        np.testing.assert_array_equal(counts, then)


def test_a_copy_goes_on_by_itself() -> None:
    one = Tally(SHAPE)
    one.add(np.ones(SHAPE, np.int8), 1)
    assert one.counts.sum() == 6
    other = copy(one)
    other.add(np.ones(SHAPE, np.int8), 1)
    one.add(np.full(SHAPE, 200), 200)
    assert (one.counts.sum(), other.counts.sum()) == (6 + 6 * 200, 12)
