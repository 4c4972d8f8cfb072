"""The published reference vectors over the bridge, at the resolution that it states: 24, 16 and 12 bits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Sense
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord

STEP_A = {bits: 1e-5 / (2 ** (bits - 1) - 1) for bits in (24, 16, 12)}
# Of 26. The rule takes the sign of a sum and asks whether an activation is beyond its goal: a current within half a
# step of where either turns is read on the other side, and from there on the run is another one.
PASS = {24: 26, 16: 23, 12: 10}


class Kept(MemoryRecord):
    """As a run file, so that lost replies are settled by asking; keeps the pulses and the currents of every step."""

    keeps_truth = True

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[np.ndarray[Any, Any]] = []

    def entry(self, seq: int, step: Any, answer: Any) -> None:
        if isinstance(step, Sense):
            self.steps.append(answer.currents_a)

    def intent(self, seq: int, step: Any, witness: Any) -> None:
        self.steps.append(step.stimulus.counts)


@dataclass
class Bridged:
    """What a reference run gave over the bridge, and its steps: pulse counts (integers) and currents (floats)."""

    reference: dict[str, Any]
    values: dict[str, Any]
    steps: list[np.ndarray[Any, Any]]

    @property
    def same(self) -> bool:
        equal = np.array_equal(self.values["pulses"], self.reference["final_pulse_index"])
        return equal and self.values["converged"] is self.reference["converged"]


def bridged(reference: dict[str, Any], curve: str, bits: int) -> Bridged:
    protocol = Manhattan(preset="seed")
    chip = {"chip.curve": curve, "chip.offset_s": reference["shifts"], "readout.adc_bits": bits}
    guard = open_bench(load_bench("fpga-sim", chip, protocol.bench_defaults()), 0)
    record = Kept()
    try:
        outcome = runner.run(protocol, guard, seed=0, record=record)
    finally:
        guard.close()
    assert outcome.error is None, outcome.error
    return Bridged(reference, dict(outcome.result or {}), record.steps)


@pytest.fixture(scope="module")
def curve(shared_data: Path) -> str:
    return str(shared_data / "cateru" / "datafile.csv")


@pytest.fixture(scope="module")
def references(shared_data: Path) -> list[dict[str, Any]]:
    file = shared_data.parent / "reference" / "seed-crossbar-vectors-public.json"
    if not file.is_file():
        pytest.skip(f"no reference vectors in {file}")
    vectors = json.loads(file.read_text())
    found: list[dict[str, Any]] = vectors["runs"] + vectors["extra_converged_runs"]
    assert len(found) == 26
    return found


@pytest.fixture(scope="module")
def finest(references: list[dict[str, Any]], curve: str) -> list[Bridged]:
    return [bridged(reference, curve, 24) for reference in references]


def test_every_vector_passes_at_24_bits(finest: list[Bridged]) -> None:
    """Pulses and convergence equal; activations to beta (6e6 per ampere) times a step of 1.2 pA."""
    assert sum(run.same for run in finest) == PASS[24]
    for run in finest:
        errors = run.reference["total_error_per_epoch"]
        np.testing.assert_allclose(run.values["error_per_epoch"], errors, rtol=0, atol=1e-4)
        np.testing.assert_allclose(run.values["conductance_s"], run.reference["final_conductances"], rtol=1e-4)


@pytest.mark.parametrize("bits", [16, 12])
def test_at_fewer_bits_some_pass_and_the_others_part_where_a_current_was_rounded(
    bits: int, references: list[dict[str, Any]], curve: str, finest: list[Bridged]
) -> None:
    passed = 0
    for reference, fine in zip(references, finest, strict=True):
        coarse = bridged(reference, curve, bits)
        passed += coarse.same
        if not coarse.same:
            _parts_by_rounding(fine, coarse, (STEP_A[bits] + STEP_A[24]) / 2)
    assert passed == PASS[bits]


def _parts_by_rounding(fine: Bridged, coarse: Bridged, half_step_a: float) -> None:
    """Up to the first decision that differs both saw the same chip: every current within half a step."""
    for ours, theirs in zip(coarse.steps, fine.steps, strict=False):
        if ours.dtype.kind != theirs.dtype.kind or (ours.dtype.kind == "i" and not np.array_equal(ours, theirs)):
            return
        if ours.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=half_step_a * (1 + 1e-9))
    assert len(coarse.steps) != len(fine.steps), "the runs never part, and yet their results differ"
