"""Counts of few cells mean what the whole array means: to numpy, to the books, to the record."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobench.bench import codec
from neurobench.bench.counts import CellCounts
from neurobench.bench.passport import Lifetime, Passport
from neurobench.bench.steps import LoopAnswer


def counts(seed: int = 0, shape: tuple[int, int] = (30, 20), most: int = 9, share: float = 0.2) -> CellCounts:
    rng = np.random.default_rng(seed)
    mask = np.random.default_rng(99).random(shape) < share
    values = rng.integers(0, most + 1, int(mask.sum())).astype(np.uint8 if most < 256 else np.int16)
    return CellCounts(shape, np.flatnonzero(mask), np.packbits(mask), values)


def test_numpy_takes_it_as_the_array() -> None:
    some = counts()
    whole = some.dense()
    np.testing.assert_array_equal(some, whole)
    np.testing.assert_array_equal(some + some, 2 * whole)
    np.testing.assert_array_equal(some > 3, whole > 3)
    np.testing.assert_array_equal(some[3], whole[3])
    np.testing.assert_array_equal(some.astype(np.int64), whole)
    assert some.astype(np.int64).dtype == np.int64
    assert some.sum() == whole.sum() == np.asarray(some).sum()
    assert some.max() == whole.max()


def test_booked_one_by_one_or_put_off_or_whole_is_the_same() -> None:
    passport, direct = Passport("chip", (30, 20)), Lifetime.fresh((30, 20))
    flat = counts().flat
    for seed in range(5):
        up, down = counts(seed), counts(seed + 50)
        up.flat = down.flat = flat
        passport.book_cells(up, down, 0.0)
        direct.add_cells(up.dense().astype(np.int64) + down.dense(), 0.0)
    other = counts(7, share=0.5)
    passport.book_cells(other, other, 1e-9)
    direct.add_cells(other, 1e-9)
    direct.add_cells(other.dense(), 1e-9)
    for name, booked in passport.life.arrays().items():
        np.testing.assert_allclose(booked, direct.arrays()[name], rtol=1e-14, err_msg=name)
    assert passport.life.pulses.sum() > 1000


def test_what_was_put_off_is_in_the_file(tmp_path: pytest.TempPathFactory) -> None:
    path = tmp_path / "chip.zip"  # type: ignore[operator]
    passport = Passport.open(path, "chip", (30, 20))
    some = counts()
    passport.book_cells(some, some, 0.0)
    passport.begin_run("a.nbr")
    passport.end_run(3)
    passport.close()
    again = Passport.open(path, "chip", (30, 20))
    assert again.life.pulses.sum() == 2 * some.sum()
    again.close()


@given(st.integers(0, 99), st.sampled_from([0, 1, 2, 3, 15, 200, 3000]), st.floats(0.01, 1.0))
def test_a_recorded_answer_comes_back_as_the_array(seed: int, most: int, share: float) -> None:
    up, down = counts(seed, (40, 25), most, share), counts(seed + 1, (40, 25), most, share)
    answer = LoopAnswer(5, np.zeros((0, 2), np.int32), up, down, {}, 0.0, 1.0, 2.0, "x")  # type: ignore[arg-type]
    data = codec.encode_answer(answer)
    found = codec.decode_answer(data)
    assert isinstance(found, LoopAnswer)
    np.testing.assert_array_equal(found.potentiations, up.dense())
    np.testing.assert_array_equal(found.depressions, down.dense())
    assert codec.encode_answer(answer) == data
