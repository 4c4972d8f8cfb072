"""preset=seed repeats the published class exactly: reference vectors and golden files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ideal_bench import IdealBench, seed_level
from neurobench.protocols.manhattan import Manhattan


@pytest.fixture(scope="module")
def vectors(shared_data: Path) -> dict[str, Any]:
    file = shared_data.parent / "reference" / "seed-crossbar-vectors-public.json"
    if not file.is_file():
        pytest.skip(f"no reference vectors in {file}")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def test_every_reference_run_is_repeated_exactly(vectors: dict[str, Any]) -> None:
    runs = vectors["runs"] + vectors["extra_converged_runs"]
    assert len(runs) == 26
    for run in runs:
        bench = IdealBench(seed_level(vectors["curve"], run["shifts"]), (4, 4))
        result = bench.run(Manhattan(preset="seed").steps(bench.view(), np.random.default_rng(0)))
        values = result.values
        assert values["converged"] is result.reached is run["converged"]
        np.testing.assert_allclose(values["error_per_epoch"], run["total_error_per_epoch"], rtol=1e-9, atol=0)
        np.testing.assert_array_equal(values["pulses"], run["final_pulse_index"])
        np.testing.assert_allclose(values["conductance_s"], run["final_conductances"], rtol=1e-9, atol=0)
        assert values["updates"] == (run["epochs_to_convergence"] - 1 if run["converged"] else 50)
