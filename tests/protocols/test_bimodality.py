"""bimodality: STDP on one column of cells splits the weights, and what the run says of itself is so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from ideal_bench import IdealBench
from neurobench.protocols.bimodality import Bimodality, Stride

from neurobench.bench.codec import pack, unpack
from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Apply, Checkpoint, Note, Sense
from neurobench.bench.stimulus import CellRead, PulseBatch, VectorRead
from neurobench.errors import CapabilityMissing, Refused, UsageError
from neurobench.learning.statistics import rasters
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord

SMALL: dict[str, Any] = {"inputs": 60, "seconds": 2.0, "a_plus": 0.02}
LOW_S, STEP_S, PULSES = 1e-6, 1e-8, 1000


class Column(IdealBench):
    """Cells that move by equal steps between hard bounds; keeps its state at each checkpoint."""

    def __init__(self, inputs: int, **more: Any) -> None:
        known = {"g_min_s": LOW_S, "g_max_s": LOW_S + PULSES * STEP_S, "g_step_s": STEP_S, "depresses": True}
        super().__init__(lambda n: LOW_S + STEP_S * n, (inputs, 1), **{**known, **more})
        self.index += PULSES // 2
        self.kept: list[tuple[bytes, Any]] = []

    def answer(self, step: Any) -> Any:
        answer = super().answer(step)
        self.index = np.clip(self.index, 0, PULSES)
        if isinstance(step, Checkpoint):
            self.kept.append((pack(dict(step.state)), self.index.copy()))
        return answer


def on_column(bench: Column, start: Mapping[str, Any] | None = None, **parameters: Any) -> Mapping[str, Any]:
    protocol = Bimodality(**{**SMALL, **parameters})
    return bench.run(protocol.steps(bench.view(), np.random.default_rng(4), start)).values


def ran(bench: str, settings: Mapping[str, Any], seed: int = 1, **parameters: Any) -> tuple[Any, Any]:
    protocol = Bimodality(**parameters)
    guard = open_bench(load_bench(bench, settings, protocol.bench_defaults()), seed)
    outcome = runner.run(protocol, guard, seed=seed, record=MemoryRecord())
    truth_s = guard.truth_s()
    guard.close()
    if outcome.error is not None:
        raise outcome.error
    return outcome, truth_s


# ------------------------------------------------------------------------------------------------ that it learns


def test_weights_split_on_a_device_with_a_measured_curve() -> None:
    outcome, truth_s = ran("emulator", {}, inputs=200, seconds=30)
    values = outcome.result
    assert values["checks"] == {"bimodal": True, "learned": True, "rate_settles": True}
    assert values["conditions"] == {"integral_negative": True}
    assert values["outer_fraction"] > 0.6 > values["outer_fraction_first"] + 0.1
    assert min(values["low_fraction"], values["high_fraction"]) > 0.15, "both ends, not one"
    assert 5 < values["rate_hz"][-1] < 150
    np.testing.assert_allclose(values["conductance_s"], truth_s[:, 0], rtol=1e-9)
    assert outcome.pulses == values["total_pulses"] > values["learning_pulses"] > 10_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_full_task_reaches_the_published_picture() -> None:
    outcome, _ = ran("emulator", {})
    assert outcome.status == "finished"
    assert outcome.result["checks"] == {"bimodal": True, "learned": True, "rate_settles": True}
    assert 8 < outcome.result["rate_hz"][-1] < 40, "the paper's neuron settles near the rate of its inputs"


def test_without_the_excess_of_depression_all_weights_go_up() -> None:
    values = on_column(Column(60), depression=0.3, seconds=12.0)
    assert values["integral_s"] > 0
    assert values["conditions"] == {"integral_negative": False}
    assert values["high_fraction"] > 0.9


def test_without_learning_nothing_is_reached() -> None:
    bench, protocol = Column(60), Bimodality(**SMALL | {"a_plus": 1e-9})
    even = bench.run(protocol.steps(bench.view(), np.random.default_rng(4)))
    again, state = Column(60), dict(unpack(bench.kept[0][0]))
    again.index = np.where(np.arange(60)[:, None] % 2, PULSES - 20, 20)
    state["first"] = state["weights"] = again.index[:, 0] / PULSES
    at_both_ends = again.run(protocol.steps(again.view(), np.random.default_rng(4), state))
    assert at_both_ends.values["checks"]["bimodal"]
    for result in (even, at_both_ends):
        assert not result.reached
        assert not result.values["checks"]["learned"]
        assert result.values["conditions"] == {"integral_negative": True}, "it is the same, whatever was learned"
        assert result.values["learning_pulses"] == 0 < result.values["total_pulses"]


def test_with_far_too_much_depression_all_weights_go_down() -> None:
    bench = Column(60)
    values = on_column(bench, depression=4.0, seconds=10.0)
    assert values["mean_weight"] < 0.3
    assert values["rate_hz"][-1] < values["rate_hz"][0]


# ------------------------------------------------------------------------------------------- what it does to the bench


def test_it_reads_the_column_and_pulses_once_per_block() -> None:
    bench = Column(60)
    on_column(bench)
    steps = [step for step in bench.log if isinstance(step, Apply | Sense)]
    learning = steps[-40:]
    assert [type(step) for step in learning] == [Apply, Sense] * 20
    assert all(isinstance(step.read, CellRead) and step.read.mask[:, 0].all() for step in learning[1::2])
    assert all(isinstance(step.stimulus, PulseBatch) for step in learning[::2])


def test_products_in_the_array_are_those_of_the_host() -> None:
    host, array = Column(60), Column(60)
    on_host, in_array = on_column(host), on_column(array, multiply="array")
    np.testing.assert_array_equal(host.index, array.index)
    assert on_host["rate_hz"] == in_array["rate_hz"]
    vectors = [step.read for step in array.log if isinstance(step, Sense) and isinstance(step.read, VectorRead)]
    assert not vectors[0].volts.any(), "whether such vectors can be read is asked before the first pulse"
    assert [vector.volts.shape for vector in vectors[1:]] == [(100, 60)] * 20
    assert not any(isinstance(step, Sense) and isinstance(step.read, VectorRead) for step in host.log)


def test_products_in_the_array_stay_in_the_ammeters_range() -> None:
    """Cells fit one by one at 0.1 V; the inputs of one tick do not, together."""
    board = {"readout.adc_bits": 24, "readout.adc_range_a": 5e-6}
    found = {where: ran("emulator", board, **SMALL, multiply=where)[0].result for where in ("host", "array")}
    g_max_s = max(found["array"]["conductance_s"].max(), 2.5e-5)
    assert found["array"]["read_v"] < found["host"]["read_v"] == 0.1
    assert 4.5e-6 / (20 * g_max_s) < found["array"]["read_v"] < 4.5e-6 / (2 * 2.5e-5)
    with pytest.raises(UsageError, match="leave the ammeter's range"):
        ran("emulator", board, **SMALL, multiply="array", read_v=0.1)


def test_the_rule_moves_cells_as_it_asked() -> None:
    """Pulses x step is the change that the pairs of spikes ask for, within the rounding of one block."""
    bench = Column(60)
    values = on_column(bench, seconds=10.0)
    assert values["step_up"]["mean"] == pytest.approx(1 / PULSES)
    assert values["step_down"]["mean"] == pytest.approx(1 / PULSES)
    batches = [step.stimulus.counts for step in bench.log if isinstance(step, Apply)][-100:]
    assert values["learning_pulses"] == sum(int(np.abs(counts).sum()) for counts in batches)
    starts = [note for note in bench.notes if note.name == "start"]
    first = (starts[0].value["conductance_s"] - LOW_S) / (PULSES * STEP_S)
    np.testing.assert_allclose(first.ravel(), np.random.default_rng(4).random(61)[1:], atol=0.02)


def test_a_cell_that_may_not_be_pulsed_is_not() -> None:
    protocol = Bimodality(**SMALL)
    guard = open_bench(load_bench("emulator", {}, protocol.bench_defaults()), 1)
    guard.passport.mark({"state": "stuck", "cells": [[3, 0], [7, 0]]})
    before_s = guard.truth_s()
    outcome = runner.run(protocol, guard, seed=1, record=MemoryRecord())
    after_s = guard.truth_s()
    guard.close()
    assert outcome.result is not None
    assert before_s is not None
    assert after_s is not None
    assert outcome.result["excluded"] == 2
    still = np.flatnonzero(before_s[:, 0] == after_s[:, 0])
    assert still.tolist() == [3, 7]


@pytest.mark.parametrize("readout", [{"readout.ideal": True}, {}], ids=["ideal readout", "noisy readout"])
def test_cells_that_do_not_answer_are_set_aside_before_it_learns(readout: dict[str, Any]) -> None:
    settings = {"chip.stuck_fraction": 0.1, "chip.shorted_fraction": 0.05, "chip.model": "capacitor", **readout}
    protocol = Bimodality(inputs=100, seconds=2)
    guard = open_bench(load_bench("emulator", settings, protocol.bench_defaults()), 3)
    before_s = guard.truth_s()
    outcome = runner.run(protocol, guard, seed=3, record=MemoryRecord())
    after_s = guard.truth_s()
    guard.close()
    assert outcome.error is None
    values = outcome.result
    assert values is not None
    assert before_s is not None
    assert after_s is not None
    np.testing.assert_array_equal(~values["usable"], before_s[:, 0] == after_s[:, 0])
    assert values["retired"] == 100 - values["usable"].sum() > 5
    w = values["weights"][values["usable"]]
    assert ((w > -0.01) & (w < 1.01)).all(), "no short among them"
    assert values["rate_hz"][-1] < 300, "and no short drives the neuron"


# ------------------------------------------------------------------------------------------------ going on, telling


def test_starting_from_any_checkpoint_equals_the_whole_run() -> None:
    bench = Column(60)
    whole = on_column(bench)
    assert len(bench.kept) >= 10
    for packed, index in bench.kept[::6]:
        again = Column(60)
        again.index = index
        rest = on_column(again, unpack(packed))
        assert repr(rest) == repr(whole)
        np.testing.assert_array_equal(rest["weights"], whole["weights"])
        np.testing.assert_array_equal(again.index, bench.index)


def test_runs_are_repeated_by_their_seed_and_differ_between_seeds() -> None:
    first, again = ran("emulator", {}, 1, **SMALL)[0].result, ran("emulator", {}, 1, **SMALL)[0].result
    np.testing.assert_array_equal(first["weights"], again["weights"])
    other = ran("emulator", {}, 2, **SMALL)[0].result
    assert not np.array_equal(first["weights"], other["weights"])


def test_the_notes_tell_spikes_weights_and_the_network() -> None:
    bench = Column(60)
    values = on_column(bench)
    notes: dict[str, list[Any]] = {}
    for note in bench.notes:
        assert isinstance(note, Note)
        notes.setdefault(note.name, []).append(note.value)
    told = rasters(notes["spikes"])
    assert told["neuron"].ticks == 2000
    assert len(told["neuron"].tick) / told["neuron"].seconds == pytest.approx(np.mean(values["rate_hz"]))
    assert told["input"].ticks == 1000, "of the inputs the last second"
    assert len(told["input"].tick) / 60 == pytest.approx(15, rel=0.15)
    assert [epoch["index"] for epoch in notes["epoch"]] == list(range(1, 21))
    np.testing.assert_allclose(notes["epoch"][-1]["conductance_s"][:, 0], values["conductance_s"])
    assert notes["network"][0]["connections"][0]["cells"] == 60


# ------------------------------------------------------------------------------------------------------- other benches


@pytest.mark.parametrize("bench", ["visa-sim", "fpga-sim"])
def test_a_small_column_learns_the_same_on_simulated_instruments(bench: str) -> None:
    # converters and read noise are left out, so that the runs can be compared
    parameters: dict[str, Any] = {"inputs": 4, "seconds": 0.4, "rate_hz": 60.0, "calibration_pulses": 4}
    chip = {"chip.rows": 4, "chip.cols": 4, "chip.model": "ideal", "readout.ideal": True, "bench.biases": ["half"]}
    same = {"bench.vector_reads": []} if bench == "visa-sim" else {}
    there, truth_s = ran(bench, chip, **parameters)
    here, _ = ran("emulator", chip | same, **parameters)
    np.testing.assert_allclose(there.result["weights"], here.result["weights"], atol=1e-4)
    for name in ("learning_pulses", "total_pulses"):
        assert there.result[name] == here.result[name] > 0
    del truth_s


# ------------------------------------------------------------------------------------------------------------- refusals


def test_what_cannot_be_is_refused_before_the_first_volt() -> None:
    cases: list[tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = [
        ({"depresses": False}, {}, CapabilityMissing, "devices that depress"),
        ({"g_max_s": float("nan")}, {}, UsageError, "say g_low_s and g_high_s"),
        ({}, {"g_low_s": 1.0, "g_high_s": 0.5}, UsageError, "window of the devices"),
    ]
    for known, parameters, error, says in cases:
        bench = Column(60, **known)
        with pytest.raises(error, match=says):
            on_column(bench, **parameters)
        assert not any(isinstance(step, Apply) for step in bench.log)
    with pytest.raises(CapabilityMissing, match="vector reads"):
        ran("emulator", {"bench.vector_reads": []}, multiply="array", **SMALL)
    dead = Column(2)
    view = dead.view()
    view.excluded[:] = True
    with pytest.raises(Refused, match="every cell of the column"):
        Bimodality(inputs=2).admit(view)


def test_vectors_too_long_for_the_bench_are_told_before_the_first_pulse() -> None:
    guard = open_bench(load_bench("fpga-sim", {}, Bimodality().bench_defaults()), 1)
    outcome = runner.run(Bimodality(multiply="array"), guard, seed=1, record=MemoryRecord())
    guard.close()
    assert outcome.pulses == 0
    with pytest.raises(CapabilityMissing, match="a vector of 1000 volts .* do not fit"):
        raise outcome.error or AssertionError("it ran")


def test_a_device_that_does_not_move_is_not_counted_with() -> None:
    bench = Column(60)
    bench.dead[:] = True
    with pytest.raises(UsageError, match="no step to count with"):
        on_column(bench)


def test_a_stride_follows_the_weight_but_not_to_nothing() -> None:
    weights = np.linspace(0, 1, 11)
    stride = Stride.fit(weights, 0.02 * (1 - weights) + 1e-12)
    np.testing.assert_allclose(stride.local(weights[:9]), 0.02 * (1 - weights[:9]), rtol=1e-9)
    assert stride.local(np.array([1.0]))[0] == pytest.approx(0.1 * stride.mean)
    flat = Stride.fit(np.full(5, 0.5), np.array([1.0, 2.0, 3.0, 2.0, 2.0]))
    assert (flat.mean, flat.slope) == (2.0, 0.0)
