"""The one expansion of a batch into shots, against a plain re-statement of its rule."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from recording_bench import on_lines, rectangle

from neurobench.bench import stimulus
from neurobench.bench.crossbar import Capabilities, Parallelism
from neurobench.bench.stimulus import Bias, IntArray, LineState, Play, Pulse, PulseBatch, Shots, shots
from neurobench.errors import UsageError

PULSE = Pulse(0.9, 1e-6)
PARALLEL: list[Parallelism] = ["cell", "row", "column"]
batches = hnp.arrays(
    st.sampled_from([np.int8, np.int16, np.int32, np.int64]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.one_of(st.integers(-1, 1), st.integers(-4, 4), st.integers(-127, 127)),
)


class PlainShot(NamedTuple):
    cells: frozenset[tuple[int, int]]
    sign: int
    repeat: int


def plain(counts: IntArray, parallelism: Parallelism) -> list[PlainShot]:
    """Potentiate before depress; line by line; shared pulses of a line first. Without arrays or indices."""
    rows, cols = counts.shape
    found = []
    for sign in (1, -1):
        for line in lines_of(rows, cols, parallelism):
            wanted = {cell: sign * int(counts[cell]) for cell in line if sign * int(counts[cell]) > 0}
            before = 0
            for level in sorted(set(wanted.values())):
                cells = frozenset(cell for cell, n in wanted.items() if n >= level)
                found.append(PlainShot(cells, sign, level - before))
                before = level
    return found


def lines_of(rows: int, cols: int, parallelism: Parallelism) -> list[list[tuple[int, int]]]:
    if parallelism == "row":
        return [[(i, j) for j in range(cols)] for i in range(rows)]
    if parallelism == "column":
        return [[(i, j) for i in range(rows)] for j in range(cols)]
    return [[(i, j)] for i in range(rows) for j in range(cols)]


def expanded(counts: IntArray, parallelism: Parallelism, bias: Bias = Bias.HALF, potentiating_sign: int = 1) -> Shots:
    has = Capabilities(counts.shape, parallelism, potentiating_sign=potentiating_sign)
    found = shots(PulseBatch(counts, PULSE, bias), has)
    assert isinstance(found, Shots)
    return found


def cells_of(found: Shots, k: int) -> frozenset[tuple[int, int]]:
    line, across = int(found.line[k]), found.cross[found.indptr[k] : found.indptr[k + 1]].tolist()
    return frozenset((line, c) if found.axis == 0 else (c, line) for c in across)


@pytest.mark.parametrize("parallelism", PARALLEL)
@given(counts=batches)
def test_the_expansion_equals_its_plain_restatement(counts: IntArray, parallelism: Parallelism) -> None:
    found = expanded(counts, parallelism)
    told = [PlainShot(cells_of(found, k), int(found.sign[k]), int(found.repeat[k])) for k in range(len(found))]
    assert told == plain(counts, parallelism)


@pytest.mark.parametrize("parallelism", PARALLEL)
@given(counts=batches)
def test_what_is_fired_is_what_was_asked_for(counts: IntArray, parallelism: Parallelism) -> None:
    found, given_back = expanded(counts, parallelism), np.zeros(counts.shape, np.int64)
    for k in range(len(found)):
        for cell in cells_of(found, k):
            given_back[cell] += int(found.sign[k]) * int(found.repeat[k])
    assert (given_back == counts).all()
    assert (found.counts() == np.abs(counts.astype(np.int64))).all()
    assert found.pulses == np.abs(counts.astype(np.int64)).sum()
    assert found.duration_s == pytest.approx(sum(shot.n for shot in found) * PULSE.duration_s, rel=1e-12)


@pytest.mark.parametrize("potentiating_sign", [1, -1])
@pytest.mark.parametrize("bias", [Bias.HALF, Bias.THIRD])
@pytest.mark.parametrize("parallelism", PARALLEL)
@given(counts=batches)
@settings(max_examples=25)
def test_the_line_states_put_the_declared_volts_on_every_cell(
    counts: IntArray, parallelism: Parallelism, bias: Bias, potentiating_sign: int
) -> None:
    found = expanded(counts, parallelism, bias, potentiating_sign)
    share = {Bias.HALF: (0.5, 0.5, 0.0), Bias.THIRD: (1 / 3, 1 / 3, -1 / 3)}[bias]
    for k, shot in enumerate(found):
        states = shot.states
        cell_v = states.row_v[:, None] - states.col_v
        selected, signed_v = cells_of(found, k), int(found.sign[k]) * potentiating_sign * PULSE.amplitude_v
        rows, cols = {i for i, _ in selected}, {j for _, j in selected}
        for (i, j), volts in np.ndenumerate(cell_v):
            part = 1.0 if (i, j) in selected else share[0] if i in rows else share[1] if j in cols else share[2]
            assert volts == pytest.approx(part * signed_v, rel=1e-12, abs=1e-15)


@given(counts=batches)
def test_no_line_is_left_in_an_undeclared_state(counts: IntArray) -> None:
    for shot in expanded(counts, "row"):
        states = shot.states
        for state, volts in ((states.row_state, states.row_v), (states.col_state, states.col_v)):
            assert (state == np.where(volts != 0, LineState.DRIVEN, LineState.GROUNDED)).all()


def test_the_order_in_words() -> None:
    """Row 0 wants 3 and 1 up and 2 down: the shared pulse first, then the other two, at the very end those down."""
    found = expanded(np.array([[3, 1, -2], [0, 1, 0]]), "row")
    told = [(sorted(cells_of(found, k)), int(found.sign[k]), int(found.repeat[k])) for k in range(len(found))]
    assert told == [
        ([(0, 0), (0, 1)], 1, 1),
        ([(0, 0)], 1, 2),
        ([(1, 1)], 1, 1),
        ([(0, 2)], -1, 2),
    ]


def test_nothing_asked_for_is_no_shot() -> None:
    found = expanded(np.zeros((3, 3), np.int8), "row")
    assert (len(found), found.pulses, found.duration_s, list(found)) == (0, 0, 0.0, [])


def test_the_extremes_of_int8_are_pulses_like_others() -> None:
    found = expanded(np.array([[-128, 127]], np.int8), "row")
    assert sorted((int(s), int(n)) for s, n in zip(found.sign, found.repeat, strict=True)) == [(-1, 128), (1, 127)]


def test_the_number_of_pulses_does_not_overflow() -> None:
    found = expanded(np.full((300, 300), 32767, np.int16), "row")
    assert found.pulses == 300 * 300 * 32767 > 2**31


def test_an_expansion_that_no_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stimulus, "MAX_ENTRIES", 100)
    with pytest.raises(UsageError, match="split the batch"):
        expanded(np.arange(1, 17).reshape(1, 16), "row")


def test_a_batch_of_another_shape_is_not_for_this_bench() -> None:
    with pytest.raises(UsageError, match=r"\(2, 2\) cells, the bench has \(4, 4\)"):
        shots(PulseBatch(np.ones((2, 2), np.int8), PULSE), Capabilities((4, 4)))


def test_there_is_no_shot_beyond_the_last() -> None:
    found = expanded(np.ones((2, 2), np.int8), "row")
    with pytest.raises(IndexError):
        found[2]
    with pytest.raises(IndexError):
        found[-1]


def test_waveforms_are_one_shot() -> None:
    waves = on_lines(rectangle(0.5, 1e-6), [0], [])
    found = shots(waves, Capabilities((3, 4), distinct_shapes=1))
    assert isinstance(found, Play)
    assert (len(found), found.shape, found.duration_s) == (1, (3, 4), waves.duration_s)
