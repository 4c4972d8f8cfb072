"""Reading all cells gives conductances, their noise and the ammeter's offset, and fires nothing."""

from __future__ import annotations

import numpy as np
import pytest
from ideal_bench import IdealBench
from neurobench.protocols.read_all import ReadAll

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Apply
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord


def test_mean_and_noise_of_every_cell() -> None:
    start = np.random.default_rng(0).uniform(1e-6, 2e-6, (5, 7))
    on = IdealBench(lambda n: start + 0 * n, (5, 7), 5e-9)
    values = on.run(ReadAll(repeats=200).steps(on.view(), np.random.default_rng(0))).values
    np.testing.assert_allclose(values["conductance_s"], start, atol=5e-9)
    assert values["sigma_s"].mean() == pytest.approx(5e-9 / 2**0.5, rel=0.05)
    assert not any(isinstance(step, Apply) for step in on.log)


def test_an_offset_is_seen_and_does_not_reach_the_conductance() -> None:
    guard = open_bench(load_bench("emulator", {"readout.offset_a": 1.62e-9, "readout.noise": False}), seed=1)
    outcome = runner.run(ReadAll(), guard, seed=1, record=MemoryRecord())
    assert outcome.error is None
    assert outcome.result is not None
    assert outcome.result["offset_a"] == pytest.approx(1.62e-9, rel=1e-6)
    np.testing.assert_allclose(outcome.result["conductance_s"], guard.truth_s(), rtol=1e-9)
