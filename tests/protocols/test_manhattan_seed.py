"""preset=seed repeats the published class exactly: reference vectors and golden files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ideal_bench import IdealBench, seed_level
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord


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


def emulated(protocol: Manhattan, seed: int, **chip: Any) -> Any:
    """Run on the emulator, through Guard and runner, with the protocol's own bench defaults."""
    guard = open_bench(load_bench("emulator", chip, protocol.bench_defaults()), seed)
    try:
        outcome = runner.run(protocol, guard, seed=seed, record=MemoryRecord())
    finally:
        guard.close()
    if outcome.error is not None:
        raise outcome.error
    return outcome


def test_every_reference_run_is_repeated_through_emulator_guard_and_runner(
    vectors: dict[str, Any], shared_data: Path
) -> None:
    curve = str(shared_data / "cateru" / "datafile.csv")
    for run in vectors["runs"] + vectors["extra_converged_runs"]:
        outcome = emulated(Manhattan(preset="seed"), 0, **{"chip.curve": curve, "chip.offset_s": run["shifts"]})
        values = outcome.result
        assert outcome.status == ("finished" if run["converged"] else "not_converged")
        np.testing.assert_allclose(values["error_per_epoch"], run["total_error_per_epoch"], rtol=1e-9, atol=0)
        np.testing.assert_array_equal(values["pulses"], run["final_pulse_index"])
        np.testing.assert_allclose(values["conductance_s"], run["final_conductances"], rtol=1e-9, atol=0)


def test_golden_files_of_seed_190_from_its_own_draw_of_offsets(shared_data: Path) -> None:
    folder = shared_data / "cateru"
    outcome = emulated(Manhattan(preset="seed"), 190, **{"chip.curve": str(folder / "datafile.csv")})
    values = outcome.result
    assert values["converged"]
    assert values["updates"] == 18
    golden = np.loadtxt(folder / "golden_errors_seed190.csv")
    np.testing.assert_allclose(values["error_per_epoch"], golden, rtol=1e-9)
    np.testing.assert_array_equal(values["pulses"], np.loadtxt(folder / "golden_pulses_seed190.csv", delimiter=","))


def test_the_published_settings_rarely_converge_and_the_preflight_says_why(shared_data: Path) -> None:
    """12 of 3000 draws converge; the target of 183 nA lies beyond what the curve can reach."""
    curve = {"chip.curve": str(shared_data / "cateru" / "datafile.csv")}
    assert not any(emulated(Manhattan(preset="seed"), seed, **curve).result["converged"] for seed in range(20))
    said = emulated(Manhattan(preset="seed", preflight=True), 0, **curve).result["preflight"]
    assert "not reachable" in said


def test_a_preset_can_be_overridden_field_by_field() -> None:
    p = Manhattan(preset="seed", beta_per_a=1e7)
    assert p.beta_per_a == 1e7
    assert p.goal == "activation"
    assert p.auto_zero is False
    assert Manhattan.model_validate(p.model_dump()) == p


def test_an_as_measured_run_stands_beside_the_scaled_one(shared_data: Path) -> None:
    """The published class without offsets begins with an error of 9.6 and does not converge (published-results 1.1):
    scale and baseline change nothing of that, since K goes into beta."""
    curve = str(shared_data / "cateru" / "datafile.csv")
    measured = emulated(Manhattan(preset="as-measured"), 190, **{"chip.curve": curve}).result
    zero = np.zeros((4, 4)).tolist()
    scaled = emulated(Manhattan(preset="seed"), 190, **{"chip.curve": curve, "chip.offset_s": zero}).result
    assert measured["device"] == "datafile, literal replay, as measured"
    assert scaled["device"] == "datafile, literal replay, scaled: K = 10, baseline removed, offsets given"
    assert measured["error_per_epoch"][0] == pytest.approx(9.6, rel=1e-12)
    np.testing.assert_allclose(measured["error_per_epoch"], scaled["error_per_epoch"], rtol=1e-9, atol=0)
    assert not measured["converged"]
    assert np.all(measured["conductance_s"] > 4.5e-7)
