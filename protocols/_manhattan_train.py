"""The epochs of Manhattan: evaluate, confirm, update, look after the cells; and what the result rests on."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurobench.bench.steps import Note, Result, Sense, Step, Steps
from neurobench.bench.stimulus import FloatArray
from neurobench.learning.activations import Judged, accuracy, goal_current_a, judge
from neurobench.learning.convergence import Noise, criterion, margin_a, spread_a
from neurobench.learning.perceptron import Net
from neurobench.learning.synapses import (
    Retirement,
    count_reads,
    grid_of,
    refresh,
)

from ._manhattan_prepare import apply
from ._manhattan_setup import Setup, State

RECORDED = 20_000  # activations are recorded up to so many values per epoch


def spacing(every: int, epoch: int) -> int:
    """Epochs between two checkpoints at this epoch: doubled at 32, 64, ... times `every`.

    A checkpoint holds the errors of all epochs so far. Evenly spaced, their cost would grow with the square of the
    epochs; what is not covered by one is replayed from the record anyway.
    """
    return int(every) << max((epoch // (16 * every)).bit_length() - 1, 0)


@dataclass
class Training:
    """The epochs: evaluate, confirm, update, look."""

    setup: Setup
    state: State
    net: Net
    confirmed_a: float | None = None

    def __post_init__(self) -> None:
        p, state = self.setup.p, self.state
        goal_a = goal_current_a(state.beta_per_a, p.target)
        self.criterion = criterion(Noise(*state.noise), p.margin_sigma, goal_a, p.confirm_reads)
        # From which current a bit is a 1: what the criterion asks of the patterns; the goal in the seed's test.
        self.threshold_a = goal_a if self.setup.goal == "activation" else self.criterion.required_a
        self.cells = self.setup.all_cells(state.averages)
        self.look = Sense(self.cells)

    def begin(self) -> Generator[Step, Any, None]:
        """Note the cells as they are before the first update: what learning is compared with."""
        state = self.state
        if not self.setup.p.monitor_every:
            return
        if np.isnan(state.grid_s).any():
            state.grid_s = yield from self._read_cells()
        yield Note("start", {"index": 0, **self._cells_told()})

    def run(self) -> Generator[Step, Any, None]:
        """Epochs until it has converged or `max_updates` are spent; the seed does not look again after its last one."""
        p, state = self.setup.p, self.state
        while state.epoch < p.max_updates and not (state.converged or state.stalled):
            judged = yield from self._evaluate()
            if not state.converged:
                yield from self._update(judged)
                yield from self._look_after(judged)
        if not state.converged and self.setup.goal != "activation":
            yield from self._evaluate()

    def _evaluate(self) -> Generator[Step, Any, Judged]:
        setup, state = self.setup, self.state
        currents = yield from self.net.forward(setup.volts)
        judged = judge(currents, setup.targets, state.beta_per_a, setup.p.target)
        state.accuracies.append(accuracy(currents, setup.targets, setup.data.decision, self.threshold_a))
        if self._passes(judged.satisfied, judged.margin_a, state.accuracies[-1]):
            state.converged = yield from self._confirm()
        if state.converged:
            yield Note("epoch", self._told(judged, state.epoch + 1))
        return judged

    def _passes(self, satisfied: bool, margin_a: float, right: float) -> bool:
        goal = self.setup.goal
        if goal == "activation":
            return satisfied
        if goal == "margin":
            return margin_a >= self.criterion.required_a
        return right >= (1.0 if goal == "classified" else self.setup.p.goal_accuracy)

    def _confirm(self) -> Generator[Step, Any, bool]:
        """Independent reads that must all pass; the read that called for them does not count."""
        setup = self.setup
        if setup.goal == "activation":
            return True
        stack = yield from self.net.repeated(setup.volts, setup.p.confirm_reads, setup.where)
        self.confirmed_a = margin_a(stack, setup.targets)
        return all(self._passing(stack))

    def _passing(self, stack: FloatArray) -> list[bool]:
        """Which of the repeated reads [reads, n, neurons] reach the goal."""
        setup, verdicts = self.setup, []
        for currents in stack:
            judged = judge(currents, setup.targets, self.state.beta_per_a, setup.p.target)
            right = accuracy(currents, setup.targets, setup.data.decision, self.threshold_a)
            verdicts.append(self._passes(judged.satisfied, judged.margin_a, right))
        return verdicts

    def _update(self, judged: Judged) -> Generator[Step, Any, None]:
        setup, state = self.setup, self.state
        state.errors.append(judged.error)
        if setup.p.update == "batch":
            counts = np.zeros(setup.view.shape, np.int8)
            yield from self.net.wishes(judged, setup.volts, counts)
            state.stalled = not counts.any()
            yield from apply(setup, state, counts)
        else:
            yield from self._sample_by_sample()
        state.epoch += 1

    def _sample_by_sample(self) -> Generator[Step, Any, None]:
        setup, state = self.setup, self.state
        for n in np.random.default_rng([state.order_key, state.epoch]).permutation(len(setup.volts)):
            volts, targets = setup.volts[n : n + 1], setup.targets[n : n + 1]
            currents = yield from self.net.forward(volts)
            counts = np.zeros(setup.view.shape, np.int8)
            yield from self.net.wishes(judge(currents, targets, state.beta_per_a, setup.p.target), volts, counts)
            yield from apply(setup, state, counts)

    def _look_after(self, judged: Judged) -> Generator[Step, Any, None]:
        """After the pulses: read the cells where it is due, retire and refresh, tell whoever watches."""
        p, state = self.setup.p, self.state
        told = self._told(judged, state.epoch)
        if (p.monitor_every and state.epoch % p.monitor_every == 0) or self.net.back == "host":
            yield from self._monitor()
            told |= self._cells_told()
        yield Note("epoch", told)
        if p.checkpoint_every and state.epoch % spacing(p.checkpoint_every, state.epoch) == 0:
            yield state.checkpoint()

    def _told(self, judged: Judged, index: int) -> dict[str, Any]:
        """What is noted of evaluation `index` (1 is the first); its error is that before the update."""
        told = {
            "index": index,
            "error": judged.error,
            "accuracy": self.state.accuracies[-1],
            "margin_a": judged.margin_a,
        }
        return told | ({"activations": judged.activations} if judged.activations.size <= RECORDED else {})

    def _cells_told(self) -> dict[str, Any]:
        return {"conductance_s": self.state.grid_s, "weights": self.net.pairs[-1].weights(self.state.grid_s)}

    def _read_cells(self) -> Generator[Step, Any, FloatArray]:
        reading = yield self.look
        count_reads(self.state.cost, reading, self.state.averages)
        return grid_of(self.cells, reading)

    def _monitor(self) -> Generator[Step, Any, None]:
        setup, state = self.setup, self.state
        state.grid_s = yield from self._read_cells()
        if setup.p.retire_after:
            yield from self._retire()
        if setup.p.refresh and state.refreshes < setup.p.max_refreshes:
            yield from self._refresh()
        if setup.p.rezero_every and setup.p.auto_zero and state.epoch % setup.p.rezero_every == 0:
            yield from self._rezero()
        self.net.hold(state.grid_s)

    def _retire(self) -> Generator[Step, Any, None]:
        """Retire cells that no longer move; the net stops pulsing them (bench rule 18)."""
        state = self.state
        watch = Retirement(self.setup.p.retire_after, state.reference_s, state.since, state.retired)
        lost = watch.look(state.grid_s, state.cell_sigma_s / state.averages**0.5)
        state.reference_s, state.since, state.retired = watch.reference_s, watch.since, watch.retired
        if lost.any():
            for layer in self.net.pairs:
                layer.usable[lost] = False
            yield Note("retired", {"index": state.epoch, "cells": np.argwhere(lost)})

    def _refresh(self) -> Generator[Step, Any, None]:
        """Bring pairs down of which both cells are high, keeping their difference; counted and recorded."""
        setup, state, span = self.setup, self.state, self.setup.view.device
        for layer in self.net.pairs:
            lower = np.minimum(layer.plus_of(state.grid_s), layer.minus_of(state.grid_s))
            worn = lower > span.g_min_s + setup.p.refresh_at * (span.g_max_s - span.g_min_s)
            if not worn.any() or state.refreshes >= setup.p.max_refreshes:
                continue
            read, before = setup.all_cells(state.averages), layer.weights(state.grid_s)
            written = yield from refresh(
                layer, worn, span.g_min_s, setup.pulses, setup.bias, read, span.g_step_s, setup.p.refresh_budget
            )
            state.refreshes += 1
            state.grid_s, state.reference_s = written.conductances_s, written.conductances_s
            state.pulses += written.counts
            state.since[:] = 0
            state.cost["pulses"] += written.pulses
            state.cost["reads"] += written.reads * read.mask.sum() * (1 + read.both_polarities) * read.averages
            moved = np.abs(layer.weights(state.grid_s) - before)[worn]
            yield Note(
                "refresh", {"index": state.epoch, "pairs": int(worn.sum()), "largest_error_s": float(moved.max())}
            )

    def _rezero(self) -> Generator[Step, Any, None]:
        """What the cells moved between two reads without a pulse is drift; beyond 3 sigma it goes into the zeros."""
        state = self.state
        again = yield from self._read_cells()
        noise_s = (2.0 / state.averages) ** 0.5 * state.cell_sigma_s
        drift = np.where(np.abs(again - state.grid_s) > 3 * noise_s, again - state.grid_s, 0.0)
        state.drift_s = max(state.drift_s, float(np.abs(drift).max()))
        layers = zip(state.zeros_s, self.net.pairs, strict=True)
        state.zeros_s = [zero + layer.weights(drift) for zero, layer in layers]
        self.net.rezero(state.zeros_s)
        state.grid_s = again

    # -- the end ------------------------------------------------------------------------------------------------

    def result(self) -> Steps:
        """Re-read, test on what was held out, read every cell, and say what it all rests on."""
        state = self.state
        values = yield from self._pass_rates()
        values["train_accuracy"] = values.get("train_accuracy", state.accuracies[-1] if state.accuracies else None)
        values["test_accuracy"] = yield from self._test_accuracy()
        state.grid_s = yield from self._read_cells()
        values |= {
            "converged": state.converged,
            "updates": state.epoch,
            "stalled": state.stalled,
            "error_per_epoch": list(state.errors),
            "accuracy_per_epoch": list(state.accuracies),
            "pulses": state.pulses.copy(),
            "conductance_s": state.grid_s,
            "weight_s": self.net.pairs[-1].weights(state.grid_s) - state.zeros_s[-1],
        }
        return Result(state.converged, values | self._grounds())

    def _pass_rates(self) -> Generator[Step, Any, dict[str, Any]]:
        """Margin and pass rate on fresh reads, with the zeros and without them (the same reads, bench rule 17)."""
        setup = self.setup
        if not setup.p.rereads:
            return {"margin_a": self.confirmed_a, "reread_pass_rate": None}
        stack = yield from self.net.repeated(setup.volts, setup.p.rereads, setup.where)
        right = [accuracy(c, setup.targets, setup.data.decision, self.threshold_a) for c in stack]
        values: dict[str, Any] = {
            "margin_a": margin_a(stack, setup.targets),
            "reread_pass_rate": float(np.mean(self._passing(stack))),
            "seen_sigma_a": spread_a(stack),
            "train_accuracy": float(np.mean(right)),
        }
        if setup.p.auto_zero and setup.p.layers == 1:
            raw = self._passing(stack + setup.volts @ self.state.zeros_s[0])
            values["reread_pass_rate_without_zero"] = float(np.mean(raw))
        return values

    def _test_accuracy(self) -> Generator[Step, Any, float | None]:
        setup = self.setup
        if not len(setup.test_volts):
            return None
        currents = yield from self.net.forward(setup.test_volts)
        return accuracy(currents, setup.data.test_targets, setup.data.decision, self.threshold_a)

    def _grounds(self) -> dict[str, Any]:
        """What the result rests on, in words and numbers (bench rule 22)."""
        setup, state = self.setup, self.state
        noise = Noise(*state.noise)
        return {
            "goal": setup.goal,
            "beta_per_a": state.beta_per_a,
            "averages": state.averages,
            "required_a": self.criterion.required_a if setup.goal != "activation" else None,
            "sigma_a": noise.sigma_a,
            "sigma_read_a": noise.read_a,
            "sigma_zero_a": noise.zero_a,
            "preflight": state.verdict.get("sentence"),
            "reachable": state.verdict.get("ok"),
            "reachable_a": state.verdict.get("reachable_a"),
            "host_state": self._host_state(),
            "multiply": setup.where,
            "transposed": self.net.back,
            "writes": setup.writes,
            "select": setup.bias.value,
            "half_select": setup.view.device.half_select,
            "device": setup.view.device.origin,
            "device_basis": setup.view.device.basis,
            "bounds_basis": state.verdict.get("basis"),
            "retired": int(state.retired.sum()),
            "excluded": int(state.bad.sum()),
            "refreshes": state.refreshes,
            "drift_s": state.drift_s,
            "cost": dict(state.cost),
        }

    def _host_state(self) -> list[str]:
        p = self.setup.p
        kept = ["targets", "beta_per_a", "sign of the summed gradient"]
        kept += [f"zeros_s: {sum(z.size for z in self.state.zeros_s)} initial weights"] if p.auto_zero else []
        kept += ["hidden activations"] if p.layers == 2 else []
        kept += ["weights for the hidden error"] if self.net.back == "host" else []
        return kept + (["weights for every product"] if self.setup.where == "host" else [])
