"""A matrix of weights on the crossbar: what is written is read back, multiplied and moved, on every bench."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurobench.errors import CapabilityMissing, UsageError
from neurobench.learning.matrix import matrix
from neurobench.runs.session import Session, session

BENCHES = ("emulator", "visa-sim", "fpga-sim")
FINE = "gokmen-vlasov"  # both directions, 1200 states


@contextmanager
def bench(tmp_path: Path, name: str = "emulator", shape: tuple[int, int] = (4, 4), **more: Any) -> Iterator[Session]:
    settings = {"readout.ideal": True} if name == "emulator" else {}
    given = {"model": FINE, **more}
    with session(name, out=tmp_path, rows=shape[0], cols=shape[1], settings=settings, **given) as opened:
        yield opened


@pytest.mark.parametrize("name", BENCHES)
def test_what_is_written_is_read_back_and_multiplied(name: str, tmp_path: Path) -> None:
    wanted = np.array([[0.5, -0.25], [0.0, 0.3], [-0.5, 0.1], [0.2, -0.4]])
    with bench(tmp_path, name) as opened:
        weights = matrix(opened.view, 4, 2)
        done = opened.do(weights.write(wanted))
        product = opened.do(weights.multiply(np.array([[1.0, 0.5, -1.0, 0.25], [0, 0, 0, 1]])))
        assert weights.where == ("host" if name == "visa-sim" else "array")
    assert done.missed == 0
    assert abs(done.weights - wanted).max() < 2 * weights.tolerance
    assert done.pulses == weights.cost["pulses"] > 0
    expected = np.array([[1.0, 0.5, -1.0, 0.25], [0, 0, 0, 1]]) @ done.weights
    np.testing.assert_allclose(product, expected, atol=0.03)


def test_a_change_has_the_right_mean_though_pulses_are_whole(tmp_path: Path) -> None:
    with bench(tmp_path, shape=(40, 40)) as opened:
        weights = matrix(opened.view, 40, 20)
        before = opened.do(weights.write(np.zeros((40, 20)))).weights
        opened.do(weights.change(np.full((40, 20), 0.4 * weights.step), opened.rng))
        small = opened.do(weights.read()) - before
        opened.do(weights.change(np.full((40, 20), -0.05), opened.rng))
        large = opened.do(weights.read()) - before - small
    assert small.mean() == pytest.approx(0.4 * weights.step, rel=0.2)
    assert large.mean() == pytest.approx(-0.05, rel=0.15)


def test_a_set_only_pair_falls_by_its_minus_cell(tmp_path: Path) -> None:
    with bench(tmp_path, model="lsmo-gaq3") as opened:
        weights = matrix(opened.view, 4, 2)
        counts = weights.counts(np.array([[3 * weights.step, -2 * weights.step]] * 4), opened.rng)
    assert weights.writes == "set_only"
    assert counts[:, 0].tolist() == [3] * 4
    assert counts[:, 3].tolist() == [2] * 4
    assert not counts[:, 1:3].any()


def test_an_excluded_cell_gets_no_pulse(tmp_path: Path) -> None:
    with bench(tmp_path) as opened:
        opened.note("cell_state", {"state": "stuck", "cells": [[1, 0]]})
        guard = opened._runner.guard
        weights = matrix(guard.view(), 4, 2)
        counts = weights.counts(np.full((4, 2), 0.1), opened.rng)
    assert counts[1, 0] == 0
    assert (counts[[0, 2, 3], 0] > 0).all()


def test_backwards_through_the_array_equals_the_transposed_product(tmp_path: Path) -> None:
    with bench(tmp_path) as opened:
        weights = matrix(opened.view, 4, 2)
        held = opened.do(weights.write(np.linspace(-0.5, 0.5, 8).reshape(4, 2))).weights
        back = opened.do(weights.multiply_back(np.array([[0.7, -0.2]])))
    np.testing.assert_allclose(back, np.array([[0.7, -0.2]]) @ held.T, rtol=1e-9, atol=1e-12)


def test_without_a_way_back_the_weights_that_were_read_are_needed(tmp_path: Path) -> None:
    with bench(tmp_path, "visa-sim") as opened:
        weights = matrix(opened.view, 4, 2)
        with pytest.raises(CapabilityMissing, match="backwards"):
            opened.do(weights.multiply_back(np.ones((1, 2))))
        back = opened.do(weights.multiply_back(np.ones((1, 2)), np.full((4, 2), 0.25)))
    np.testing.assert_allclose(back, 0.5, rtol=1e-12)


def test_silent_inputs_cost_no_read(tmp_path: Path) -> None:
    with bench(tmp_path) as opened:
        weights = matrix(opened.view, 4, 2)
        assert not opened.do(weights.multiply(np.zeros(4))).any()
        assert weights.cost["reads"] == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda w: w.multiply(np.full(4, 1.5)), "read voltage"),
        (lambda w: w.multiply(np.zeros(3)), "3 inputs for a matrix of 4 x 2"),
        (lambda w: w.write(np.full((4, 2), 2.0)), "whole window"),
        (lambda w: w.write(np.zeros((2, 2))), r"\(2, 2\)"),
        (lambda w: w.change(np.full((4, 2), np.nan), np.random.default_rng(0)), "not finite"),
    ],
)
def test_wrong_numbers_are_refused_before_any_volt(wrong: Any, words: str, tmp_path: Path) -> None:
    with bench(tmp_path) as opened:
        weights = matrix(opened.view, 4, 2)
        with pytest.raises(UsageError, match=words):
            opened.do(wrong(weights))
        assert weights.cost == {"pulses": 0.0, "reads": 0.0, "read_s": 0.0}


def test_an_array_that_is_too_small_is_told(tmp_path: Path) -> None:
    with bench(tmp_path) as opened, pytest.raises(CapabilityMissing, match="an array of 4 x 6"):
        matrix(opened.view, 4, 3)


def test_a_current_beyond_the_ammeter_is_refused_not_cut(tmp_path: Path) -> None:
    more = {"readout.adc_bits": 12, "readout.adc_range_a": 1e-6, "readout.ideal": False}
    with session(out=tmp_path, rows=4, cols=4, model=FINE, settings=more) as opened:
        weights = matrix(opened.view, 4, 2)
        with pytest.raises(CapabilityMissing, match="left the ammeter's range of 1e-06 A"):
            opened.do(weights.multiply(np.ones(4)))
        with pytest.raises(CapabilityMissing, match="read_v"):
            opened.do(weights.read())


@pytest.mark.parametrize(("lines", "read_v"), [(1, 0.09), (4, 0.0225)])
def test_no_column_leaves_the_ammeter_whatever_its_cells_become(lines: int, read_v: float, tmp_path: Path) -> None:
    with session(out=tmp_path, rows=4, cols=4, model=FINE, settings={"readout.adc_range_a": 1e-6}) as opened:
        weights = matrix(opened.view, 4, 2)
        highest_s = opened.view.device.g_max_s
        weights.settings = weights.settings._replace(read_v=1e-5 / highest_s)
        opened.do(weights.fit_range(lines, asked=False))
        assert weights.settings.read_v == pytest.approx(read_v * 1e-5 / highest_s, rel=1e-3)
        opened.do(weights.write(np.ones((4, 2))))
        opened.do(weights.multiply(np.arange(4) < lines))
        with pytest.raises(UsageError, match=rf"{lines} rows? at once.*--set read_v"):
            weights.settings = weights.settings._replace(read_v=1e-5 / highest_s)
            opened.do(weights.fit_range(lines, asked=True))
