"""Distal reward: the rewarded synapse grows, on every bench, and not where rewards depend on nothing.

REDUCED is the size that runs on each simulated bench in every test run: 8 inputs, 12 epochs of 20 s in each phase.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from ideal_bench import IdealBench
from neurobench.protocols.conditioning import Conditioning
from pydantic import ValidationError

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Capabilities, Reading
from neurobench.bench.steps import Apply, Checkpoint, Note, Sense
from neurobench.bench.stimulus import CellRead, Direction, Pulse, VectorRead
from neurobench.errors import CapabilityMissing, Refused, UsageError
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord

REDUCED: dict[str, Any] = {"inputs": 8, "lift": 0.4, "background_hz": 0.5, "gain": 0.08, "epochs": 12}
SMALL: dict[str, Any] = REDUCED | {"epochs": 3, "epoch_s": 5.0, "lift": 0.8, "gain": 0.1}
BENCHES = ("emulator", "visa-sim", "fpga-sim")
LOW_S, HIGH_S, STEP_S = 1e-6, 1e-5, 1e-7


def ran(bench: str, settings: Mapping[str, Any], seed: int = 0, **chip: Any) -> tuple[Any, Any]:
    """Run it through Guard and runner as `neurobench run` does: the outcome, and whether anything was harmed."""
    protocol = Conditioning(**settings)
    said = {f"chip.{name}": value for name, value in chip.items()}
    guard = open_bench(load_bench(bench, said, protocol.bench_defaults()), seed)
    try:
        outcome = runner.run(protocol, guard, seed=seed, record=MemoryRecord())
        if outcome.error is not None:
            raise outcome.error
        return outcome, guard.raw.harm()
    finally:
        guard.close()


@cache
def learnt(bench: str) -> tuple[Any, Any]:
    """The run at the reduced size, once for each bench."""
    return ran(bench, REDUCED)


@pytest.mark.parametrize("bench", BENCHES)
def test_the_rewarded_synapse_grows_and_with_rewards_that_depend_on_nothing_it_does_not(
    bench: str,
) -> None:
    outcome, harm = learnt(bench)
    rewarded, shuffled = (outcome.result["phases"][name] for name in ("rewarded", "shuffled"))
    assert (outcome.status, harm) == ("finished", [])
    assert rewarded["growth"] > 0.3 > 3 * rewarded["others_growth"]
    assert rewarded["end_s"].argmax() == 0
    assert rewarded["separation"] > 3 > shuffled["separation"]
    assert not shuffled["stands_out"]
    assert shuffled["rewards"] == rewarded["rewards"] > 30
    # it answers what is rewarded more and more often, which is learning and not only a weight
    assert np.mean(rewarded["answered"][-4:]) > 2 * np.mean(rewarded["answered"][:4])
    assert np.mean(rewarded["answered"][-4:]) > 2 * np.mean(shuffled["answered"][-4:])


@pytest.mark.parametrize("bench", BENCHES[1:])
def test_it_is_the_same_run_on_every_bench(bench: str) -> None:
    here, there = learnt(bench)[0], learnt("emulator")[0]
    assert here.pulses == there.pulses
    assert here.result["multiply"] == ("host" if bench == "visa-sim" else "array")
    np.testing.assert_array_equal(here.result["pulses_on_cells"], there.result["pulses_on_cells"])
    for name, phase in there.result["phases"].items():
        # the same device states: what differs is the noise of the SMU (mean of 4 reads), and the converters of the
        # board, which round to 1.2 pA at 0.1 V
        seen = here.result["phases"][name]
        atol_s = 5 * seen["sigma_read_s"] / 4**0.5 + 1.2e-11
        np.testing.assert_allclose(seen["end_s"], phase["end_s"], rtol=0, atol=atol_s)
        assert atol_s < 0.05 * here.result["step_up_s"], "a step would be seen"
        assert seen["answered"] == phase["answered"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_full_task_is_learnt_by_nearly_every_chip() -> None:
    results = [ran("emulator", {}, seed)[0] for seed in range(8)]
    assert sum(outcome.status == "finished" for outcome in results) >= 6
    assert all(outcome.result["phases"]["rewarded"]["growth"] > 0.2 for outcome in results)
    assert np.mean([outcome.result["phases"]["shuffled"]["growth"] for outcome in results]) < 0.1


def test_without_a_reward_nothing_is_pulsed_and_nothing_changes() -> None:
    outcome, _ = ran("emulator", SMALL | {"controls": ["unrewarded"]})
    phase = outcome.result["phases"]["unrewarded"]
    assert (phase["rewards"], phase["pulses"]) == (0, 0)
    np.testing.assert_array_equal(phase["start_s"], phase["end_s"])
    assert outcome.result["phases"]["rewarded"]["pulses"] > 0


def test_another_input_may_be_the_target() -> None:
    outcome, _ = ran("emulator", REDUCED | {"target": 5, "controls": []}, seed=1)
    assert outcome.result["phases"]["rewarded"]["end_s"].argmax() == 5


# ---------------------------------------------------------------------------------------------- as a generator of steps


def bench(rows: int = 8, **said: Any) -> IdealBench:
    """Linear devices of 90 steps between two hard ends, both directions, without noise."""
    span: dict[str, Any] = {"depresses": True, "g_min_s": LOW_S, "g_max_s": HIGH_S, "g_step_s": STEP_S}
    known = Capabilities((rows, 1), vector_reads=frozenset(said.pop("vector_reads", {Direction.ROWS_TO_COLS})))
    return IdealBench(
        lambda index: np.clip(LOW_S + STEP_S * index, LOW_S, HIGH_S), (rows, 1), capabilities=known,
        **(span | said),
    )  # fmt: skip


def drive(protocol: Conditioning, on: IdealBench, state: Any = None) -> tuple[Any, list[tuple[Any, IdealBench]]]:
    """Run to the end; also every checkpoint with the bench as it was then."""
    steps, answer, kept = protocol.steps(on.view(), np.random.default_rng(3), state), None, []
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value, kept
        if isinstance(step, Checkpoint):
            kept.append((copy.deepcopy(dict(step.state)), copy.deepcopy(on)))
        answer = on.answer(step)


def test_it_goes_on_bit_for_bit_from_every_checkpoint() -> None:
    protocol = Conditioning(**SMALL)
    whole, kept = drive(protocol, bench())
    assert len(kept) == 8  # the beginning and three epochs of both phases
    for state, on in kept:
        again, _ = drive(protocol, on, state)
        np.testing.assert_equal(dict(again.values), dict(whole.values))


def test_a_silent_tick_is_not_read_and_pulses_come_at_rewards_only() -> None:
    on = bench()
    result, _ = drive(Conditioning(**SMALL | {"controls": []}), on)
    spikes = [note.value for note in on.notes if note.name == "spikes" and note.value["layer"] == "input"]
    ticks = sum(len(np.unique(note["tick"])) for note in spikes)
    assert sum(isinstance(step, Sense) and isinstance(step.read, VectorRead) for step in on.log) == ticks
    first = next(n for n, step in enumerate(on.log) if isinstance(step, Note) and step.name == "start")
    writes = [step for step in on.log[first:] if isinstance(step, Apply)]
    assert 0 < len(writes) <= result.values["phases"]["rewarded"]["rewards"]


def test_a_bench_that_does_not_multiply_reads_the_cells_after_each_batch_of_pulses_only() -> None:
    on = bench(vector_reads=())
    result, _ = drive(Conditioning(**SMALL | {"controls": []}), on)
    assert result.values["multiply"] == "host"
    assert all(isinstance(step.read, CellRead) for step in on.log if isinstance(step, Sense))
    with_array, _ = drive(Conditioning(**SMALL | {"controls": []}), bench())
    np.testing.assert_array_equal(result.values["conductance_s"], with_array.values["conductance_s"])


def test_the_notes_hold_what_the_figures_are_drawn_from() -> None:
    on = bench()
    drive(Conditioning(**SMALL), on)
    names = [note.name for note in on.notes]
    assert names.count("epoch") == names.count("control") == 3
    last = [note.value for note in on.notes if note.name == "epoch"][-1]
    assert last["conductance_s"].shape == last["weights"].shape == (8, 1)
    assert last["conductance_s"] == pytest.approx(last["weights"] + LOW_S)
    assert 0 <= last["answered"] <= 1
    w = (last["conductance_s"][:, 0] - LOW_S) / (HIGH_S - LOW_S)
    assert (last["target"], last["others"]) == (pytest.approx(w[0]), pytest.approx(w[1:].mean()))
    assert not {"accuracy", "test_accuracy", "error", "loss"} & set(last), "it is no classifier: no figure of training"
    assert "training" not in Conditioning.figures
    spikes = [note.value for note in on.notes if note.name == "spikes"]
    assert {note["layer"] for note in spikes} == {"input", "neuron"}
    rate_hz = sum(len(note["tick"]) for note in spikes if note["layer"] == "input") / (15.0 * 8)
    assert rate_hz == pytest.approx(2.0, rel=0.3)


def test_no_reward_arrives_outside_the_delays_asked_for() -> None:
    on, settings = bench(), SMALL | {"min_delay_s": 0.3, "max_delay_s": 0.4, "controls": [], "epochs": 6}
    _, kept = drive(Conditioning(**settings), on)
    fired = np.concatenate(
        [n.value["start"] + n.value["tick"].astype(int) for n in on.notes
         if n.name == "spikes" and n.value["layer"] == "neuron"]
    )  # fmt: skip
    given = kept[-1][0]["given"]
    assert len(given) > 3
    for reward in given:
        assert ((reward - fired >= 300) & (reward - fired <= 400)).any()


class Ammeter(IdealBench):
    """Ends at 1 uA: a current beyond it is cut off, and says so."""

    def reading(self, read: CellRead | VectorRead) -> Reading:
        found = super().reading(read)._replace(range_a=1e-6)
        over = bool((np.abs(found.currents_a) > 1e-6).any())
        return found._replace(currents_a=np.clip(found.currents_a, -1e-6, 1e-6), flags=("over_range",) * over)


def behind_ammeter(highest_s: float = HIGH_S) -> IdealBench:
    return Ammeter(
        lambda index: np.clip(LOW_S + STEP_S * index, LOW_S, highest_s), (8, 1), depresses=True, g_min_s=LOW_S,
        g_max_s=HIGH_S, g_step_s=STEP_S, capabilities=Capabilities((8, 1), vector_reads=frozenset(Direction)),
    )  # fmt: skip


def test_the_read_voltage_is_such_that_no_tick_leaves_the_ammeters_range() -> None:
    busy = SMALL | {"rate_hz": 100.0, "epochs": 1}
    result, _ = drive(Conditioning(**busy), behind_ammeter())
    assert 0.9e-6 / (8 * HIGH_S) <= result.values["read_v"] <= 0.9e-6 / (2 * HIGH_S)
    with pytest.raises(UsageError, match="leave the ammeter's range"):
        drive(Conditioning(**busy | {"read_v": 0.1}), behind_ammeter())


def test_a_current_that_was_cut_off_is_not_taken_for_a_product() -> None:
    with pytest.raises(CapabilityMissing, match="left the ammeter's range"):
        on = behind_ammeter(highest_s=1.0)
        on.index[:] = 1000  # ten times what is declared of these devices
        drive(Conditioning(**SMALL | {"start_rounds": 1, "cap": 1}), on)


# ------------------------------------------------------------------------------------------------------ what is refused


def refused(on: IdealBench, **said: Any) -> str:
    protocol = Conditioning(**SMALL | said)
    with pytest.raises((CapabilityMissing, Refused, UsageError)) as caught:
        protocol.admit(on.view())
    return str(caught.value)


def test_what_cannot_work_is_refused_before_the_first_volt() -> None:
    assert "needs devices that depress" in refused(bench(depresses=False))
    assert "window" in refused(bench(g_max_s=float("nan")))
    assert "step" in refused(bench(g_step_s=float("nan")))
    assert "array of 8 x 1" in refused(bench(rows=4))
    assert "pulse" in refused(bench(pulse=None))


def test_a_column_with_too_few_usable_cells_is_refused_and_spare_rows_are_used() -> None:
    on = bench(rows=9)
    view = on.view()
    view.excluded[2, 0] = True
    Conditioning(**SMALL).admit(view)
    view.excluded[3, 0] = True
    with pytest.raises(Refused, match="7 cells of column 0"):
        Conditioning(**SMALL).admit(view)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"target": 8}, "0 to 7"),
        ({"min_delay_s": 2.0}, "min_delay_s"),
        ({"rate_hz": 200.0, "tick_s": 5e-3}, "rate_hz"),
        ({"controls": ["shuffled", "shuffled"]}, "each once"),
        ({"controls": ["rewarded"]}, "shuffled"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(said: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Conditioning(**SMALL | said)


def test_no_cell_is_pulsed_beyond_its_life() -> None:
    on = bench()
    view = on.view()
    view.pulses_left[:] = 100
    protocol = Conditioning(**SMALL | {"gain": 1.0})
    steps, answer = protocol.steps(view, np.random.default_rng(3)), None
    with pytest.raises(StopIteration):
        while True:
            answer = on.answer(steps.send(answer))
    spent = sum(np.abs(step.stimulus.counts.astype(int)) for step in on.log if isinstance(step, Apply))
    assert spent.max() == 100


def test_the_pulses_may_be_said() -> None:
    on = bench()
    drive(Conditioning(**SMALL | {"amplitude_v": 1.5, "width_s": 2e-3, "controls": []}), on)
    assert {step.stimulus.pulse for step in on.log if isinstance(step, Apply)} == {Pulse(1.5, 2e-3)}
