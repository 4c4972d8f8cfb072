"""The published reference vectors over the bridge, at the resolution that it states: 24, 16 and 12 bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord


class Durable(MemoryRecord):
    """As a run file: lost replies are settled by asking."""

    keeps_truth = True


@pytest.fixture(scope="module")
def vectors(shared_data: Path) -> dict[str, Any]:
    file = shared_data.parent / "reference" / "seed-crossbar-vectors-public.json"
    if not file.is_file():
        pytest.skip(f"no reference vectors in {file}")
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def bridged(run: dict[str, Any], curve: str, **readout: Any) -> dict[str, Any]:
    """One reference run over the bridge."""
    protocol = Manhattan(preset="seed")
    chip = {"chip.curve": curve, "chip.offset_s": run["shifts"]}
    said = {f"readout.{name}": value for name, value in readout.items()}
    guard = open_bench(load_bench("fpga-sim", {**chip, **said}, protocol.bench_defaults()), 0)
    try:
        outcome = runner.run(protocol, guard, seed=0, record=Durable())
    finally:
        guard.close()
    assert outcome.error is None, outcome.error
    return dict(outcome.result or {})


def same_pulses(values: dict[str, Any], run: dict[str, Any]) -> bool:
    return values["converged"] is run["converged"] and np.array_equal(values["pulses"], run["final_pulse_index"])


def test_every_vector_passes_at_24_bits(vectors: dict[str, Any], shared_data: Path) -> None:
    curve = str(shared_data / "cateru" / "datafile.csv")
    runs = vectors["runs"] + vectors["extra_converged_runs"]
    assert len(runs) == 26
    for run in runs:
        values = bridged(run, curve)
        assert same_pulses(values, run)
        np.testing.assert_allclose(values["error_per_epoch"], run["total_error_per_epoch"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(values["conductance_s"], run["final_conductances"], rtol=1e-4)
