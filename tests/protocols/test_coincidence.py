"""coincidence: only the weights of inputs that spike together rise, on rate and on measured devices, on every bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.protocols.coincidence import Coincidence
from pydantic import ValidationError

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.passport import CellState
from neurobench.bench.steps import Apply, Checkpoint, Result, Sense
from neurobench.bench.stimulus import CellRead, VectorRead, Waveforms
from neurobench.errors import CapabilityMissing, Refused, UsageError
from neurobench.learning.schemes import Exponential
from neurobench.runs import figures, launch, runner
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import MemoryRecord

NILI, LSMO = {"chip.model": "al2o3-tio2-nili"}, {"chip.model": "lsmo-gaq3-mirror"}
# What CI runs on simulated instruments: six inputs, three of them together, instead of twenty and eight.
REDUCED: dict[str, Any] = {
    "inputs": 6, "synchronised": 3, "threshold_inputs": 2.4, "tick_s": 5e-3, "presentations": 60,
}  # fmt: skip
RECTANGULAR = {"kind": "rectangular", "post_tail_v": 0.25}
RECTANGLES_INSIDE = {"kind": "rectangular", "amplitude_v": 0.65, "tail_v": 0.35, "post_tail_v": 0.65, "lead_s": 5e-4}
COUNTED = {"kind": "counted", "pulses_plus": 2, "pulses_minus": 16}


def ran(bench: str, seed: int, settings: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    protocol = Coincidence(**parameters)
    guard = open_bench(load_bench(bench, settings or {}, protocol.bench_defaults()), seed)
    try:
        outcome = runner.run(protocol, guard, seed=seed, record=MemoryRecord())
    finally:
        guard.close()
    if outcome.error is not None:
        raise outcome.error
    assert outcome.result is not None
    return dict(outcome.result) | {"status": outcome.status}


def only_they_rose(found: dict[str, Any]) -> None:
    assert found["status"] == "finished"
    together, others = found["synchronised_after_s"], found["others_after_s"]
    assert together.min() - others.max() == pytest.approx(found["separation_s"])
    assert found["separation_s"] > found["needed_s"] >= 5 * found["read_sigma_s"]
    assert (together > found["synchronised_before_s"]).all()
    assert others.mean() <= found["others_before_s"].mean() + 5 * found["read_sigma_s"]


@pytest.mark.parametrize("seed", range(4))
def test_only_the_synchronised_weights_rise_on_twenty_synapses(seed: int) -> None:
    found = ran("emulator", seed)
    only_they_rose(found)
    assert (len(found["synchronised"]), len(found["others_after_s"])) == (8, 12)
    assert found["fired"] >= found["fired_with_them"] > 0.8 * found["presentations"]
    assert found["multiply"] == "array"


@pytest.mark.parametrize(
    ("chip", "parameters"),
    [
        (NILI, {"scheme": COUNTED}),
        (LSMO, {"scheme": {"kind": "counted", "pulses_plus": 4, "pulses_minus": 16}, "averages": 64}),
        (NILI, {"scheme": RECTANGLES_INSIDE}),
    ],
    ids=["formula of measured data, counted", "measured curve, counted", "formula of measured data, rectangular"],
)  # fmt: skip
def test_measured_devices_learn_it_by_counted_pulses_or_by_rectangles_inside_their_hull(
    chip: dict[str, Any], parameters: dict[str, Any]
) -> None:
    only_they_rose(ran("emulator", 1, chip, **parameters))


@pytest.mark.parametrize("bench", ["visa-sim", "fpga-sim"])
@pytest.mark.parametrize("scheme", [RECTANGULAR, COUNTED], ids=["rate chip, rectangular", "measured chip, counted"])
def test_simulated_instruments_learn_it_at_a_reduced_size(bench: str, scheme: dict[str, Any]) -> None:
    found = ran(bench, 2, {} if scheme is RECTANGULAR else NILI, scheme=scheme, **REDUCED)
    only_they_rose(found)
    assert found["multiply"] == ("host" if bench == "visa-sim" else "array")


def test_the_board_is_given_what_the_emulator_is_given() -> None:
    here, there = (ran(bench, 2, scheme=RECTANGULAR, **REDUCED) for bench in ("emulator", "fpga-sim"))
    for name in ("synchronised", "presentations", "fired", "fired_with_them"):
        np.testing.assert_array_equal(here[name], there[name])
    np.testing.assert_allclose(here["after_s"], there["after_s"], rtol=0.1)


def test_a_neuron_that_never_fires_teaches_nothing() -> None:
    found = ran("emulator", 0, threshold_inputs=1000.0, presentations=10)
    assert (found["status"], found["fired"]) == ("not_converged", 0)
    np.testing.assert_array_equal(found["after_s"], found["before_s"])


# ---------------------------------------------------------------------------------------------- how it runs


def driven(protocol: Coincidence, guard: Guard, start: Any = None) -> tuple[Result, list[Any]]:
    """Run on a Guard by hand; keep every step, and the chip at the checkpoints."""
    steps, answer, log = protocol.steps(guard.view(), np.random.default_rng(5), start), None, []
    seq = guard.raw._last_seq  # type: ignore[attr-defined]
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value, log
        answer = None
        if isinstance(step, Apply):
            seq += 1
            guard.stage(seq, step.stimulus)
            answer = guard.fire(seq)
        elif isinstance(step, Sense):
            answer = guard.sense(step.read)
        log.append((step, guard.snapshot() if isinstance(step, Checkpoint) else None))


def test_starting_from_any_checkpoint_equals_the_whole_run() -> None:
    protocol = Coincidence(presentations=12, look_every=3, stop_when_reached=False)
    guard = open_bench(load_bench("emulator", {"readout.offset_a": 1e-9}, protocol.bench_defaults()), 3)
    whole, log = driven(protocol, guard)
    found = [(step, chip) for step, chip in log if isinstance(step, Checkpoint)]
    assert len(found) == 4
    for step, chip in found[:3]:
        guard.restore(chip)
        rest, more = driven(protocol, guard, step.state)
        assert repr(rest.values) == repr(whole.values)
        assert len(more) < len(log)
    guard.close()


def test_a_presentation_is_one_read_and_then_what_the_scheme_says() -> None:
    protocol = Coincidence(presentations=4, look_every=4, start="as-is")
    guard = open_bench(load_bench("emulator", {}, protocol.bench_defaults()), 0)
    _, log = driven(protocol, guard)
    guard.close()
    work = [step for step, _ in log if isinstance(step, Apply | Sense)]
    kinds = ["W" if isinstance(s, Apply) else "C" if isinstance(s.read, CellRead) else "V" for s in work]
    assert "".join(kinds) == "CC" + "VW" * 4 + "C", "the first one learns the ammeter's range"
    for step in work:
        if isinstance(step, Sense) and isinstance(step.read, VectorRead):
            spikes = step.read.volts != 0
            assert spikes.sum() == 20, "each input spikes once in a presentation"
            assert spikes.sum(axis=1).max() >= 8, "eight of them together"
        elif isinstance(step, Apply):
            assert isinstance(step.stimulus, Waveforms)
            assert len(step.stimulus.shapes) == 2


def test_its_figures_are_drawn_from_its_run(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path, error = launch.launch(prepare(request("coincidence", settings=["presentations=10"])), tmp_path)
    assert error is None
    drawn = figures.draw(path, tmp_path / "figures", Coincidence.figures)
    assert [file.stem.rpartition("-")[2] for file in drawn] == list(Coincidence.figures)


# ---------------------------------------------------------------------------------------------- refusals


def test_what_cannot_work_is_refused_before_the_first_volt() -> None:
    with pytest.raises(ValidationError, match="leaves none to tell them from"):
        Coincidence(inputs=4, synchronised=4)
    with pytest.raises(ValidationError, match="fewer than 4 ticks"):
        Coincidence(period_s=5e-3)
    with pytest.raises(CapabilityMissing):
        ran("visa-sim", 0, {"instruments.pulse.model": "keysight-81160a"}, **REDUCED)
    with pytest.raises(Refused, match="lower the amplitudes"):
        ran("emulator", 0, scheme=Exponential(amplitude_v=1.2))
    with pytest.raises(CapabilityMissing, match="an array of 20 x 1"):
        ran("emulator", 0, {"chip.rows": 8})
    guard = open_bench(load_bench("emulator", {}, Coincidence().bench_defaults()), 0)
    guard.passport.cell_state[3, 0] = CellState.STUCK
    with pytest.raises(Refused, match="stuck, shorted or retired"):
        Coincidence().admit(guard.view())
    guard.close()


def test_a_read_voltage_that_would_leave_the_ammeters_range_is_refused_and_none_is_chosen() -> None:
    with pytest.raises(UsageError, match="ammeter's range of 1e-05 A; at most"):
        ran("fpga-sim", 2, NILI, scheme=COUNTED, read_v=0.1, **REDUCED)


@pytest.mark.parametrize(
    "parameters", [{"presentations": 2, "start": "as-is"}, pytest.param({}, marks=pytest.mark.slow)],
    ids=["two presentations", "the default task"],
)  # fmt: skip
def test_twenty_synapses_stay_in_the_range_of_the_boards_ammeter(parameters: dict[str, Any]) -> None:
    found = ran("fpga-sim", 1, **parameters)
    if not parameters:
        only_they_rose(found)
    # eight at least spike together, on cells of at most 20 uS, with 10 uA to be measured
    assert 0.9 * 1e-5 / (20 * 2e-5) <= found["read_v"] <= 0.9 * 1e-5 / (8 * 2e-5)
