"""The same chip on the emulator and behind a simulated FPGA board: equal readout and schedule give equal bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Answer, Apply, Sense
from neurobench.bench.stimulus import PulseBatch
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord

# What fpga-sim is by its file, said of the emulator: the converters of its board.
SAME = {"readout.adc_bits": 24, "readout.adc_range_a": 1e-5, "readout.dac_bits": 16, "readout.dac_range_v": 0.65534}


class Kept(MemoryRecord):
    """Every pulse batch with what was answered, and every current that was read."""

    keeps_truth = True  # as a run file: lost replies are settled by asking

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[np.ndarray[Any, Any]] = []
        self.fired: list[int] = []
        self.currents_a: list[np.ndarray[Any, Any]] = []

    def entry(self, seq: int, step: Any, answer: Answer) -> None:
        super().entry(seq, step, answer)
        if isinstance(step, Sense):
            self.currents_a.append(answer.currents_a)  # type: ignore[union-attr]
        self._keep(step, answer)

    def intent(self, seq: int, step: Any, witness: Any) -> None:
        super().intent(seq, step, witness)
        self._step = step

    def answer(self, seq: int, answer: Any, *more: Any) -> None:
        super().answer(seq, answer, *more)
        self._keep(self._step, answer)

    def _keep(self, step: Any, answer: Any) -> None:
        if isinstance(step, Apply) and isinstance(step.stimulus, PulseBatch):
            self.batches.append(step.stimulus.counts)
            self.fired.append(answer.pulses)


def on(bench: str, seed: int, settings: dict[str, Any], chip: dict[str, Any]) -> tuple[dict[str, Any], Kept]:
    protocol = Manhattan(**settings)
    guard = open_bench(load_bench(bench, chip, protocol.bench_defaults()), seed)
    record = Kept()
    try:
        outcome = runner.run(protocol, guard, seed=seed, record=record)
    finally:
        guard.close()
    if outcome.error is not None:
        raise outcome.error
    return dict(outcome.result or {}), record


def equal_runs(here: tuple[dict[str, Any], Kept], there: tuple[dict[str, Any], Kept]) -> None:
    """The same pulses, and every number that was read, to the bit; not what they cost in time."""
    (measured, ours), (emulated, theirs) = here, there
    assert len(ours.batches) == len(theirs.batches) >= 1
    for mine, other in zip(ours.batches, theirs.batches, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert ours.fired == theirs.fired
    assert len(ours.currents_a) == len(theirs.currents_a)
    for mine, other in zip(ours.currents_a, theirs.currents_a, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert set(measured) == set(emulated)
    for key in set(emulated) - {"cost"}:
        np.testing.assert_equal(measured[key], emulated[key], err_msg=key)


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"rereads": 0}, {"chip.model": "idealized"}),
    ({"rereads": 0, "auto_zero": False}, {"chip.model": "lsmo-gaq3-mirror"}),
    ({"rereads": 0}, {"chip.model": "idealized", "bench.parallelism": "column"}),
    ({"rereads": 0}, {"chip.model": "idealized", "chip.potentiating_sign": -1}),
    ({"rereads": 0}, {"chip.model": "idealized", "bench.vector_reads": []}),
]
NAMES = ["lsmo", "idealized", "mirror", "by column", "negative volts", "multiplied on the host"]


@pytest.mark.parametrize(("settings", "chip"), CASES, ids=NAMES)
@pytest.mark.parametrize("seed", [0, 3])
def test_with_the_same_converters_the_run_is_the_same_to_the_bit(
    seed: int, settings: dict[str, Any], chip: dict[str, Any]
) -> None:
    """Noise of the devices included: pulses, currents, errors, conductances."""
    equal_runs(on("fpga-sim", seed, settings, chip), on("emulator", seed, settings, {**SAME, **chip}))


def test_letters_train_on_the_board_as_on_the_emulator() -> None:
    """A larger array, both directions of pulses by different pulses: 10 x 6."""
    settings = {"task": "letters", "rereads": 0}
    equal_runs(on("fpga-sim", 1, settings, {}), on("emulator", 1, settings, SAME))


def test_default_benches_differ_only_by_the_converters_of_the_board() -> None:
    """The emulator's default has no converters: currents agree to a step and pulses are equal.

    One conversion is rounded by at most half a step of 1.2 pA, its level by half a step of 20 uV of 0.1 V.
    """
    measured, here = on("fpga-sim", 0, {}, {})
    emulated, there = on("emulator", 0, {}, {})
    assert measured["converged"] is emulated["converged"] is True
    assert here.fired == there.fired
    np.testing.assert_array_equal(measured["pulses"], emulated["pulses"])
    step_a = 1e-5 / (2**23 - 1)
    for ours, theirs in zip(here.currents_a, there.currents_a, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=step_a)
