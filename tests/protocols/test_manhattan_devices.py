"""Manhattan on every device of the library, with the pulses that its card states for SET and for RESET."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ideal_bench import IdealBench
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Witness
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply
from neurobench.bench.stimulus import Pulse, PulseBatch, Stimulus
from neurobench.errors import CapabilityMissing
from neurobench.physics import library
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord

READ_V = {"vteam": 0.01}  # devices that the usual 0.1 V would write


def trained(model: str, seed: int = 0, **settings: Any) -> runner.RunOutcome:
    protocol = Manhattan(**settings)
    guard = open_bench(load_bench("emulator", {"chip.model": model}, protocol.bench_defaults()), seed)
    try:
        return runner.run(protocol, guard, seed=seed, record=MemoryRecord())
    finally:
        guard.close()


@pytest.mark.parametrize("model", library.names())
def test_every_device_is_trained_without_a_word_of_its_pulses(model: str) -> None:
    outcome = trained(model, max_updates=3, read_v=READ_V.get(model, 0.1))
    assert outcome.error is None
    assert outcome.pulses > 0


@pytest.mark.parametrize("model", READ_V)
def test_a_read_that_would_write_is_refused_before_anything_is_pulsed(model: str) -> None:
    outcome = trained(model)
    assert isinstance(outcome.error, CapabilityMissing)
    assert "would write" in str(outcome.error)
    assert outcome.pulses == 0


def test_a_device_with_two_pulses_learns() -> None:
    """Ag:a-Si (Jo 2010): +3.2 V and -2.8 V, 300 us. Of 30 chips 29 converged within 50 updates."""
    outcomes = [trained("ag-a-si", seed, max_updates=50) for seed in range(10)]
    assert sum(outcome.status == "finished" for outcome in outcomes) >= 8
    assert len({outcome.result["updates"] for outcome in outcomes}) > 1


@pytest.mark.parametrize("model", ["ag-a-si", "alox-hfo2", "epiram", "gst-pcm", "hzo-fefet", "taox-tio2"])
def test_on_the_bench_every_direction_is_fired_with_its_own_pulse(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the Guard let through: potentiations by the one pulse, depressions by the other, in turn."""
    passed: list[PulseBatch] = []
    stage = Guard.stage

    def watched(guard: Guard, seq: int, stimulus: Stimulus) -> Witness:
        witness = stage(guard, seq, stimulus)
        assert isinstance(stimulus, PulseBatch)
        passed.append(stimulus)
        return witness

    monkeypatch.setattr(Guard, "stage", watched)
    outcome = trained(model, max_updates=1)
    span = open_bench(load_bench("emulator", {"chip.model": model}), 0).span
    assert outcome.error is None
    assert [batch.pulse for batch in passed] == [span.pulse, span.depress_pulse]
    assert passed[0].counts.min() == 0 < passed[0].counts.max()
    assert passed[1].counts.max() == 0 > passed[1].counts.min()


def test_set_and_reset_with_their_own_pulses_are_two_batches() -> None:
    up, down = Pulse(3.2, 3e-4), Pulse(2.8, 3e-4)
    span = {"pulse": up, "depress_pulse": down, "depresses": True, "basis": "declared"}
    bench = IdealBench(lambda n: 1e-6 + 1e-8 * n, (4, 4), **span)
    bench.run(Manhattan(max_updates=2, preflight=False).steps(bench.view(), np.random.default_rng(0)))
    batches = [step.stimulus for step in bench.log if isinstance(step, Apply)]
    assert len(batches) >= 2
    for batch in batches:
        assert isinstance(batch, PulseBatch)
        assert batch.pulse == (up if batch.counts.max() > 0 else down)
        assert not (batch.counts.max() > 0 and batch.counts.min() < 0)
    assert {batch.pulse for batch in batches if isinstance(batch, PulseBatch)} == {up, down}


def test_the_depressing_pulse_can_be_set_by_itself() -> None:
    span = {"pulse": Pulse(1.0, 1e-6), "depresses": True, "basis": "declared"}
    bench = IdealBench(lambda n: 1e-6 + 1e-8 * n, (4, 4), **span)
    settings: dict[str, Any] = {"amplitude_v": 1.2, "depress_amplitude_v": 0.9, "max_updates": 1, "preflight": False}
    bench.run(Manhattan(**settings).steps(bench.view(), np.random.default_rng(0)))
    used = {
        step.stimulus.pulse for step in bench.log if isinstance(step, Apply) and isinstance(step.stimulus, PulseBatch)
    }
    assert used == {Pulse(1.2, 1e-6), Pulse(0.9, 1e-6)}


@pytest.mark.parametrize(
    ("range_a", "words"),
    [(4e-7, "the ammeter's rounding are"), (1e-7, "reads went over the ammeter's range of 100 nA")],
)
def test_a_coarse_ammeter_is_named_before_the_first_pulse(range_a: float, words: str) -> None:
    """Four bits: every read repeats itself, which is no sign of little noise."""
    protocol = Manhattan(when_unreachable="stop")
    readout = {"readout.adc_bits": 4, "readout.adc_range_a": range_a}
    guard = open_bench(load_bench("emulator", readout, protocol.bench_defaults()), 0)
    outcome = runner.run(protocol, guard, seed=0, record=MemoryRecord())
    guard.close()
    assert outcome.result is not None
    assert words in outcome.result["preflight"]
    assert outcome.result["reachable"] is False
    assert outcome.pulses == 0


def test_an_amplitude_that_is_asked_for_holds_for_both_directions() -> None:
    span = {"pulse": Pulse(3.2, 3e-4), "depress_pulse": Pulse(2.8, 2e-4), "depresses": True, "basis": "declared"}
    bench = IdealBench(lambda n: 1e-6 + 1e-8 * n, (4, 4), **span)
    settings: dict[str, Any] = {"amplitude_v": 3.0, "max_updates": 1, "preflight": False}
    bench.run(Manhattan(**settings).steps(bench.view(), np.random.default_rng(0)))
    used = [step.stimulus for step in bench.log if isinstance(step, Apply)]
    assert [batch.pulse for batch in used if isinstance(batch, PulseBatch)] == [Pulse(3.0, 3e-4), Pulse(3.0, 2e-4)]
