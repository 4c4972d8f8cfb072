"""The same chip on the emulator and behind simulated instruments: equal readout and schedule give equal pulses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Answer, Apply, Sense
from neurobench.bench.stimulus import PulseBatch
from neurobench.learning.convergence import wilson
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord

# What visa-sim is by its file, said of the emulator: one ammeter, V/2, row by row.
SAME = {"bench.vector_reads": [], "bench.biases": ["half"], "bench.parallelism": "row"}


class Kept(MemoryRecord):
    """Every pulse batch with what was answered, and how often the cells were read."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[np.ndarray[Any, Any]] = []
        self.fired: list[int] = []
        self.reads = 0

    def entry(self, seq: int, step: Any, answer: Answer) -> None:
        super().entry(seq, step, answer)
        self._keep(step, answer)
        self.reads += isinstance(step, Sense)

    def intent(self, seq: int, step: Any, witness: Any) -> None:
        super().intent(seq, step, witness)
        self.step = step

    def answer(self, seq: int, answer: Answer, *more: Any) -> None:
        super().answer(seq, answer, *more)
        self._keep(self.step, answer)

    def _keep(self, step: Any, answer: Answer) -> None:
        if isinstance(step, Apply) and isinstance(step.stimulus, PulseBatch):
            self.batches.append(step.stimulus.counts)
            self.fired.append(answer.pulses)  # type: ignore[union-attr]


def on(bench: str, seed: int, settings: dict[str, Any], chip: dict[str, Any]) -> tuple[dict[str, Any], Kept]:
    protocol = Manhattan(**settings)
    same = SAME if bench == "emulator" else {}
    guard = open_bench(load_bench(bench, {**same, **chip}, protocol.bench_defaults()), seed)
    record = Kept()
    try:
        outcome = runner.run(protocol, guard, seed=seed, record=record)
    finally:
        guard.close()
    if outcome.error is not None:
        raise outcome.error
    return dict(outcome.result or {}), record


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"readout.ideal": True}),
    ({"rereads": 0}, {"readout.ideal": True, "chip.model": "idealized"}),
    ({"rereads": 0, "auto_zero": False}, {"readout.ideal": True, "chip.model": "lsmo-gaq3-mirror"}),
]


@pytest.mark.parametrize(("settings", "chip"), CASES, ids=["lsmo", "idealized", "mirror"])
@pytest.mark.parametrize("seed", [0, 3])
def test_the_same_chip_gets_the_same_pulses_epoch_for_epoch(
    seed: int, settings: dict[str, Any], chip: dict[str, Any]
) -> None:
    emulated, there = on("emulator", seed, settings, chip)
    measured, here = on("visa-sim", seed, settings, chip)
    assert len(here.batches) == len(there.batches) >= 1
    for ours, theirs in zip(here.batches, there.batches, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert here.fired == there.fired
    assert here.reads == there.reads
    np.testing.assert_allclose(measured["conductance_s"], emulated["conductance_s"], rtol=1e-8)
    np.testing.assert_allclose(measured["error_per_epoch"], emulated["error_per_epoch"], rtol=1e-6, atol=1e-15)
    assert measured["converged"] == emulated["converged"]


def test_the_published_vectors_pass_at_the_resolution_of_the_instruments(shared_data: Path) -> None:
    """Pulses equal; errors and conductances within what the instruments print and resolve."""
    file = shared_data.parent / "reference" / "seed-crossbar-vectors-public.json"
    if not file.is_file():
        pytest.skip(f"no reference vectors in {file}")
    vectors = json.loads(file.read_text())
    curve = str(shared_data / "cateru" / "datafile.csv")
    for run in (vectors["runs"] + vectors["extra_converged_runs"])[::3]:
        chip = {"chip.curve": curve, "chip.offset_s": run["shifts"]}
        values, _ = on("visa-sim", 0, {"preset": "seed"}, chip)
        assert values["converged"] is run["converged"]
        np.testing.assert_array_equal(values["pulses"], run["final_pulse_index"])
        np.testing.assert_allclose(values["error_per_epoch"], run["total_error_per_epoch"], rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(values["conductance_s"], run["final_conductances"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "settings", [{"rereads": 0}, {"rereads": 0, "auto_zero": False}], ids=["default", "no auto-zero"]
)
def test_with_noise_as_many_chips_converge_as_on_the_emulator(settings: dict[str, Any]) -> None:
    """100 chips each: the intervals of the two rates overlap, and the mean numbers of updates agree.

    Without auto-zero about two chips in three converge, so the comparison can fail.
    """
    rates, updates = {}, {}
    for bench in ("emulator", "visa-sim"):
        results = [on(bench, seed, settings, {})[0] for seed in range(100)]
        rates[bench] = wilson(sum(r["converged"] for r in results), 100)
        updates[bench] = np.array([r["updates"] for r in results], dtype=float)
    assert rates["emulator"][0] <= rates["visa-sim"][1], rates
    assert rates["visa-sim"][0] <= rates["emulator"][1], rates
    spread = np.sqrt(sum(found.var(ddof=1) / 100 for found in updates.values()))
    assert abs(updates["emulator"].mean() - updates["visa-sim"].mean()) <= 4 * spread, (updates, spread)
