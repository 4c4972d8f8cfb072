"""Unsupervised digits: learnt on ideal and on measured devices, reduced on simulated instruments, and after a stop."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("sklearn")  # the images come from it

from neurobench.protocols._digits_data import encode, split
from neurobench.protocols.digits import Digits, accuracy, shares, vote

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply, Checkpoint, Loop, Note, Result, Sense
from neurobench.errors import CapabilityMissing, Refused
from neurobench.learning.statistics import rasters
from neurobench.runs import figures, runner
from neurobench.runs.runfile import MemoryRecord

SHORT: dict[str, Any] = {"classes": 5, "neurons": 40, "samples": 300, "test_samples": 90, "epochs": 2}
# What a bench that the host steps does in seconds: two digits, four neurons, short presentations, little looking for.
REDUCED: dict[str, Any] = {
    "classes": 2, "neurons": 4, "samples": 14, "test_samples": 36, "epochs": 1, "ticks": 14, "rate": 5e-3,
    "theta_step": 0.1, "window_s": 5e-3, "scatter_pulses": 2, "stuck_pulses": 0, "goal_accuracy": 0.8,
}  # fmt: skip


class Ran(NamedTuple):
    """What a run gave: its values, whether its goal was reached, notes by name, checkpoints with the chip's state."""

    values: Any
    reached: bool
    notes: dict[str, list[Any]]
    checkpoints: list[tuple[Any, bytes | None, int]]


def opened(bench: str, protocol: Digits, chip: dict[str, Any]) -> Guard:
    return open_bench(load_bench(bench, chip, protocol.bench_defaults()), seed=1)


def driven(protocol: Digits, guard: Guard, start: Any = None, seq: int = 0) -> Ran:
    """Run it through the Guard, step by step."""
    notes: dict[str, list[Any]] = {}
    checkpoints: list[tuple[Any, bytes | None, int]] = []
    steps, answer = protocol.steps(guard.view(), np.random.default_rng(1), start), None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return Ran(result.values, result.reached, notes, checkpoints)
        answer, seq = None, seq + 1
        if isinstance(step, Apply):
            guard.stage(seq, step.stimulus)
            answer = guard.fire(seq)
        elif isinstance(step, Sense):
            answer = guard.sense(step.read)
        elif isinstance(step, Loop):
            answer = guard.loop(seq, step)
        elif isinstance(step, Note):
            notes.setdefault(step.name, []).append(step.value)
        elif isinstance(step, Checkpoint):
            checkpoints.append((copy.deepcopy(step.state), guard.snapshot(), seq))


@cache
def short(model: str, fold: int = 0) -> Ran:
    protocol = Digits(**SHORT, fold=fold)
    return driven(protocol, opened("emulator", protocol, {"chip.model": model}))


def test_it_learns_on_ideal_and_on_measured_devices_nearly_as_well() -> None:
    """Five digits, 300 samples: 20 % by chance. Whole runs of ten digits are in docs/benchmarks.md."""
    ideal, device = (
        np.mean([short(model, fold).values["accuracy"] for fold in range(3)]) for model in ("ideal", "ag-a-si")
    )
    assert ideal > 0.85
    assert device > ideal - 0.05
    found = short("ideal")
    assert found.reached
    assert found.values["accuracy_per_epoch"][-1] > 0.8
    assert found.values["silent_neurons"] <= 4
    assert found.values["unanswered"] == 0


def test_without_learning_the_same_neurons_tell_less() -> None:
    """A rate so small that hardly a pulse is given: random weights with such thresholds and votes tell much."""
    untrained = [Digits(**SHORT | {"rate": 1e-9}, fold=fold) for fold in range(3)]
    told = [driven(p, opened("emulator", p, {"chip.model": "ideal"})).values["accuracy"] for p in untrained]
    assert np.mean(told) < np.mean([short("ideal", fold).values["accuracy"] for fold in range(3)]) - 0.04


def test_everything_that_the_figures_need_is_noted() -> None:
    found = short("ag-a-si")
    epochs, confusion, activity = found.notes["epoch"], found.notes["confusion"][-1], found.notes["activity"][-1]
    assert [note["index"] for note in epochs] == [1, 2]
    assert epochs[-1]["conductance_s"].shape == (64, 40)
    moved_s = np.abs(epochs[-1]["weights"] - found.notes["start"][0]["weights"])
    assert moved_s.max() > 0.3 * epochs[-1]["conductance_s"].max()
    assert confusion["counts"].sum() == SHORT["test_samples"]
    assert np.trace(confusion["counts"]) == round(found.values["accuracy"] * SHORT["test_samples"])
    assert activity["counts"].shape == tuple(activity["shape"]) == (5, 8)
    layers = rasters(found.notes["spikes"])
    assert set(layers) == {"input", "neurons"}
    assert len(layers["neurons"].tick) > 50
    assert set(Digits.figures) <= set(figures.FIGURES)
    before = (20 + 20) * 64 * 40  # at most: looking for stuck cells, and scattering
    assert 0 < found.values["pulses"] - sum(found.values["pulses_per_epoch"]) <= before


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit() -> None:
    protocol = Digits(**SHORT | {"neurons": 10, "samples": 60, "test_samples": 30, "classes": 3})
    guard = opened("emulator", protocol, {})
    whole = driven(protocol, guard)
    for state, snapshot, seq in whole.checkpoints[:: max(len(whole.checkpoints) // 3, 1)]:
        assert snapshot is not None
        guard.restore(snapshot)
        again = driven(protocol, guard, state, seq)
        assert again.values["accuracy"] == whole.values["accuracy"]
        for name in ("conductance_s", "theta", "confusion"):
            np.testing.assert_array_equal(again.values[name], whole.values[name])
        assert again.values["pulses_per_epoch"] == whole.values["pulses_per_epoch"]


@pytest.mark.parametrize("bench", ["visa-sim", "fpga-sim"])
def test_reduced_it_learns_on_simulated_instruments(bench: str) -> None:
    protocol = Digits(**REDUCED)
    wires = {"instruments.matrix.slots": [1, 2, 3, 4, 5, 6]} if bench == "visa-sim" else {}
    guard = opened(bench, protocol, {"chip.model": "al2o3-tio2-nili"} | wires)
    try:
        outcome = runner.run(protocol, guard, seed=1, record=MemoryRecord())
        assert outcome.error is None
        assert guard.raw.harm() == []
    finally:
        guard.close()
    assert outcome.result is not None
    assert not outcome.result["compiled"]
    assert outcome.result["accuracy"] >= REDUCED["goal_accuracy"]
    assert outcome.result["pulses"] > 500


def test_an_array_that_is_larger_and_has_stuck_cells_is_used_as_far_as_it_goes() -> None:
    protocol = Digits(**SHORT | {"neurons": 10, "samples": 60, "test_samples": 30, "classes": 3})
    larger = {"chip.model": "ideal", "chip.rows": 70, "chip.cols": 13, "chip.stuck_fraction": 0.03}
    guard = opened("emulator", protocol, larger)
    guard.passport.mark({"state": "shorted", "cells": [[5, 5]]})
    found = driven(protocol, guard)
    used = guard.passport.life.pulses
    assert used[64:].max() == used[:, 10:].max() == used[5, 5] == 0
    assert 5 <= found.values["left_out"] <= 50
    assert found.values["accuracy"] > 0.6


def test_a_chip_that_cannot_do_it_is_refused_with_a_reason() -> None:
    protocol = Digits(neurons=4)
    with pytest.raises(CapabilityMissing, match="either direction"):
        driven(protocol, opened("emulator", protocol, {"chip.model": "lsmo-gaq3"}))
    with pytest.raises((CapabilityMissing, Refused), match="64 x 4"):
        runner.run(protocol, opened("emulator", protocol, {"chip.rows": 8}), seed=1, record=MemoryRecord())


def test_folds_are_stratified_and_share_no_sample() -> None:
    parts = [split(10, fold, None, None) for fold in (0, 1)]
    assert [len(part.test_labels) for part in parts] == [180, 180]
    assert all(np.bincount(part.test_labels).min() >= 17 for part in parts)
    held_out = {image.tobytes() for image in parts[0].test_images}
    assert held_out.isdisjoint(image.tobytes() for image in parts[1].test_images)
    assert split(3, 0, 50, 10).images.shape == (50, 64)


def test_images_spike_in_proportion_to_their_pixels() -> None:
    images = np.zeros((2, 4))
    images[0], images[1, :2] = [0.4, 0.2, 0.1, 0.1], 1.0
    spikes = encode(images, 6, 5000, 1.5, np.random.default_rng(3))
    counts = [
        np.bincount(spikes.rows[a:b], minlength=6) for a, b in ((0, spikes.indptr[5000]), (spikes.indptr[5000], None))
    ]
    np.testing.assert_allclose(counts[0][:4] / 5000, 1.5 * images[0] / 0.8, rtol=0.1)
    np.testing.assert_allclose(counts[1][:2] / 5000, 0.75, rtol=0.05)
    assert counts[1][2:].sum() == 0
    assert spikes.starts.tolist() == [0, 5000]


def test_neurons_vote_with_the_shares_of_their_responses() -> None:
    responses = np.array([[4, 0, 1], [2, 0, 1], [0, 3, 1]])
    labels = np.array([0, 0, 1])
    votes = shares(responses, labels, 2)
    np.testing.assert_allclose(votes, [[1, 0], [0, 1], [0.5, 0.5]])
    said = vote(np.array([[1, 0, 0], [0, 2, 1], [0, 0, 0]]), votes)
    assert said.tolist() == [0, 1, -1]
    assert accuracy(said, np.array([0, 1, 1])) == pytest.approx(2 / 3)
