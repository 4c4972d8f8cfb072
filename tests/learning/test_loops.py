"""The compiled loop and the loop stepped by the host are one loop; its bounds hold."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from neurobench.bench.codec import encode_step
from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply, Loop, LoopAnswer
from neurobench.bench.stimulus import Bias, Pulse
from neurobench.errors import CapabilityMissing, LimitExceeded, Refused, UsageError
from neurobench.learning.loops import LifStdp, LoopNoise, Rule, Spikes, poisson, run_stepped, sparse
from neurobench.physics.noise import Stream, key

SHAPE = (12, 5)
PULSE = Pulse(1.0, 1e-6)
QUIET = {"readout.noise": False, "chip.model": "reram-sb", "chip.rows": SHAPE[0], "chip.cols": SHAPE[1]}


def opened(**more: Any) -> Guard:
    return open_bench(load_bench("emulator", QUIET | more), seed=3)


def program(ticks: int = 200, **rule: Any) -> LifStdp:
    spikes = poisson(np.full(SHAPE[0], 0.15), ticks, np.random.default_rng(5))
    return LifStdp.fresh(Rule(**{"gain_per_a": 4e4, **rule}), spikes, SHAPE, PULSE, PULSE)


def stepped(guard: Guard, steps: Generator[Any, Any, LoopAnswer], seq: int = 0) -> LoopAnswer:
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            if isinstance(step, Apply):
                seq += 1
                guard.stage(seq, step.stimulus)
                answer = guard.fire(seq)
            else:
                answer = guard.sense(step.read)
    except StopIteration as end:
        result: LoopAnswer = end.value
        return result


@pytest.mark.parametrize("inhibit", [False, True])
def test_compiled_and_stepped_are_the_same_loop(inhibit: bool) -> None:
    loop = program(inhibit=inhibit, cell_budget=9)
    alone, host = opened(), opened()
    compiled = alone.loop(1, Loop(loop, 200))
    by_hand = stepped(host, run_stepped(loop, 200))
    assert len(compiled.spikes) > 10
    assert compiled.potentiations.sum() > 50
    assert compiled.depressions.sum() > 50
    np.testing.assert_array_equal(compiled.spikes, by_hand.spikes)
    np.testing.assert_array_equal(compiled.potentiations, by_hand.potentiations)
    np.testing.assert_array_equal(compiled.depressions, by_hand.depressions)
    for name in ("membrane", "pre", "post"):
        np.testing.assert_allclose(compiled.state[name], by_hand.state[name], rtol=1e-12, atol=1e-300)
    truth, twin = alone.truth_s(), host.truth_s()
    assert truth is not None
    assert twin is not None
    np.testing.assert_allclose(truth, twin, rtol=1e-12)
    assert (compiled.potentiations + compiled.depressions).max() == 9


IDEAL = {"chip.model": "ideal", "chip.isolation": "isolated", "bench.biases": ["half", "isolated"]}
RULES: dict[str, dict[str, Any]] = {
    "brian": {"order": "brian"},
    "bindsnet": {"order": "bindsnet"},
    "refractory": {"refractory_s": 4e-3},
    "refractory in Brian's order": {"refractory_s": 4e-3, "order": "brian"},
    "adaptive": {"theta_step": 0.3, "theta_tau_s": 30e-3},
    "winner takes all": {"theta_step": 0.1, "inhibit": True, "refractory_s": 2e-3},
    "summed traces": {"traces": "all", "update": "stochastic", "a_plus": 0.4, "a_minus": 0.3, "pre_window_s": np.inf},
    "stochastic": {"update": "stochastic", "a_plus": 0.5, "a_minus": 0.4, "seed": 7},
    "post": {"pairing": "post"},
    "post, stochastic": {"pairing": "post", "update": "stochastic", "a_plus": 0.3, "a_minus": 0.3},
    "post, all to all, budget": {"pairing": "post", "traces": "all", "cell_budget": 5},
    "width": {"update": "width", "a_plus": 0.6, "a_minus": 0.5, "post_window_s": np.inf, "pre_window_s": np.inf},
    "width, Brian": {"update": "width", "traces": "all", "a_plus": 0.2, "a_minus": 0.2, "order": "brian"},
    "width, whole rows until cells run out": {
        "update": "width",
        "traces": "all",
        "a_plus": 0.05,
        "a_minus": 0.04,
        "pre_window_s": np.inf,
        "post_window_s": np.inf,
        "cell_budget": 26,
        "gain_per_a": 3e5,
    },
    "width, budget": {"update": "width", "pairing": "post", "cell_budget": 7, "order": "bindsnet"},
    "no learning": {"learn": False, "theta_step": 0.5},
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_the_same_loop_compiled_and_by_the_host(name: str) -> None:
    """Two loops in a row, each with three presentations: the second goes on with the state of the first."""
    rule = Rule(**{"gain_per_a": 1e5, **RULES[name]})
    chip = IDEAL if rule.update == "width" else {}  # its energy is that of the selected cells alone
    pulse = Pulse(1.0, 5e-5) if chip else PULSE
    raster = np.random.default_rng(5).random((120, SHAPE[0])) < 0.2
    first, second = sparse(raster[:60], np.array([0, 20, 40])), sparse(raster[60:], np.array([10, 30]))
    alone, host = opened(**chip), opened(**chip)
    bias = Bias.ISOLATED if chip else Bias.HALF
    program = LifStdp.fresh(rule, first, SHAPE, pulse, pulse, theta=np.linspace(0, 0.3, SHAPE[1]))
    compiled, by_hand, ours, theirs = [], [], program, program
    for k in range(2):
        compiled.append(alone.loop(1 + k, Loop(ours, 60)))
        by_hand.append(stepped(host, run_stepped(theirs, 60, bias), 1000 * k))
        ours, theirs = ours.after(compiled[-1], second), theirs.after(by_hand[-1], second)
    assert sum(len(answer.spikes) for answer in compiled) > 10
    assert all((answer.potentiations.sum() > 3) == rule.learn for answer in compiled)
    assert all((answer.depressions.sum() > 3) == rule.learn for answer in compiled)
    for a, b in zip(compiled, by_hand, strict=True):
        np.testing.assert_array_equal(a.spikes, b.spikes)
        np.testing.assert_array_equal(a.potentiations, b.potentiations)
        np.testing.assert_array_equal(a.depressions, b.depressions)
        if chip:  # the other card says nothing of the current in a pulse
            assert a.energy_j == pytest.approx(b.energy_j, rel=1e-9)
        for part in a.state:
            np.testing.assert_allclose(a.state[part], b.state[part], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(truth_of(alone), truth_of(host), rtol=1e-9)
    bound = program.bounds(60).pulses_per_cell
    assert all((answer.potentiations + answer.depressions).max() <= bound for answer in compiled)


def truth_of(guard: Guard) -> Any:
    truth = guard.truth_s()
    assert truth is not None
    return truth


@pytest.mark.parametrize(("order", "fires_at", "depressed"), [("reference", 4, 1), ("brian", 5, 0), ("bindsnet", 4, 2)])
def test_the_order_within_a_tick_decides_what_a_pair_at_one_tick_does(
    order: Any, fires_at: int, depressed: int
) -> None:
    """All rows spike at ticks 4 and 5; the first volley makes all neurons fire, in Brian's order one tick later.

    Then they wait. The second volley depresses; in BindsNET's order the first one does, too.
    """
    raster = np.zeros((8, SHAPE[0]), np.bool_)
    raster[[4, 5]] = True
    rule = Rule(gain_per_a=1e5, order=order, refractory_s=1.0)
    guard = opened(**IDEAL)
    before = truth_of(guard)
    answer = guard.loop(1, Loop(LifStdp.fresh(rule, sparse(raster), SHAPE, PULSE, PULSE), 8))
    up, down = answer.potentiations, answer.depressions
    assert set(answer.spikes[:, 0].tolist()) == {fires_at}
    assert (up == 1).all()
    assert (down == depressed).all()
    np.testing.assert_allclose((truth_of(guard) - before) / 2e-5, (up - down.astype(float)) * 1e-3, atol=1e-12)


def test_a_column_with_an_infinite_threshold_is_left_out() -> None:
    theta = np.array([0, np.inf, 0, np.inf, 0])
    loop = LifStdp.fresh(Rule(gain_per_a=2e5), program().spikes, SHAPE, PULSE, PULSE, theta=theta)
    answer = opened().loop(1, Loop(loop, 200))
    assert set(answer.spikes[:, 1].tolist()) == {0, 2, 4}
    assert answer.potentiations[:, [1, 3]].sum() == 0


def test_cells_may_have_budgets_of_their_own() -> None:
    """A chip with a stuck cell: the Guard refuses a loop that may pulse it, not one that leaves it out."""
    guard = opened()
    guard.passport.mark({"state": "stuck", "cells": [[2, 1]]})
    with pytest.raises(Refused, match="stuck"):
        guard.loop(1, Loop(program(), 200))
    most = np.full(SHAPE, 9)
    most[2, 1] = 0
    loop = LifStdp.fresh(Rule(gain_per_a=1e5), program().spikes, SHAPE, PULSE, PULSE, cell_most=most)
    answer = guard.loop(2, Loop(loop, 200))
    had = answer.potentiations + answer.depressions
    assert had[2, 1] == 0
    assert had.max() == 9
    assert encode_step(Loop(loop, 200)) == encode_step(Loop(loop, 200))


def test_a_bench_without_vector_reads_steps_the_same_loop() -> None:
    loop = program(ticks=60, gain_per_a=1e5)
    vectors, cells = opened(), opened(**{"bench.vector_reads": []})
    by_vectors = stepped(vectors, loop.stepped(60, vectors.view()))
    by_cells = stepped(cells, loop.stepped(60, cells.view()))
    assert len(by_cells.spikes) > 5
    np.testing.assert_array_equal(by_cells.spikes, by_vectors.spikes)
    np.testing.assert_array_equal(by_cells.depressions, by_vectors.depressions)
    np.testing.assert_allclose(truth_of(cells), truth_of(vectors), rtol=1e-12)


def test_widths_are_refused_where_they_do_not_mean_a_share() -> None:
    with pytest.raises(CapabilityMissing, match="linear in the pulse's width"):
        opened().loop(1, Loop(program(update="width"), 200))
    whole = LifStdp.fresh(Rule(1e5, update="width"), program().spikes, SHAPE, Pulse(1.0, 1e-3), PULSE)
    with pytest.raises(UsageError, match="whole window"):
        opened(**IDEAL).loop(1, Loop(whole, 200))


def test_two_loops_of_half_the_length_are_one_loop() -> None:
    whole, halves, guard = program(), opened(), opened()
    once = guard.loop(1, Loop(whole, 200))
    cut = whole.spikes.indptr[100]
    first = LifStdp.fresh(whole.rule, Spikes(whole.spikes.indptr[:101], whole.spikes.rows[:cut]), SHAPE, PULSE, PULSE)
    answer = halves.loop(1, Loop(first, 100))
    rest = Spikes(whole.spikes.indptr[100:] - cut, whole.spikes.rows[cut:])
    again = halves.loop(2, Loop(first.after(answer, rest), 100))
    later = again.spikes + np.array([100, 0])
    np.testing.assert_array_equal(np.vstack([answer.spikes, later]), once.spikes)
    np.testing.assert_array_equal(answer.potentiations + again.potentiations, once.potentiations)
    np.testing.assert_array_equal(halves.truth_s(), guard.truth_s())


def test_a_pair_moves_a_weight_by_its_order() -> None:
    """Row 0 spikes before neuron 0 fires (driven by all other rows) and is potentiated; row 1 after it: depressed."""
    raster = np.zeros((12, SHAPE[0]), np.bool_)
    raster[2, 0] = True
    raster[4, 2:] = True
    raster[6, 1] = True
    loop = LifStdp.fresh(Rule(gain_per_a=1e5), sparse(raster), SHAPE, PULSE, PULSE)
    answer = opened().loop(1, Loop(loop, 12))
    assert answer.potentiations[0].min() == 1
    assert answer.potentiations[1].max() == 0
    assert answer.depressions[1].min() == 1
    assert answer.depressions[0].max() == 0


def test_bounds_are_what_the_guard_refuses_by() -> None:
    guard = opened(**{"limits.max_loop_pulses_per_cell": 20})
    with pytest.raises(LimitExceeded, match="max_loop_pulses_per_cell"):
        guard.loop(1, Loop(program(), 200))
    assert program(cell_budget=20).bounds(200).pulses_per_cell == 20
    answer = guard.loop(1, Loop(program(cell_budget=20), 200))
    assert (answer.potentiations + answer.depressions).max() <= 20
    with pytest.raises(Refused, match="max_read_v"):
        guard.loop(2, Loop(program(read_v=1.0, cell_budget=1), 200))


def test_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="names a row outside"):
        LifStdp.fresh(
            Rule(gain_per_a=1.0), Spikes(np.array([0, 1], np.int32), np.array([12], np.int32)), SHAPE, PULSE, PULSE
        )
    with pytest.raises(UsageError, match="gain_per_a"):
        Rule(gain_per_a=-1.0)
    with pytest.raises(UsageError, match="ticks"):
        opened().loop(1, Loop(program(), 300))


def test_read_noise_in_a_compiled_loop_is_that_of_single_reads() -> None:
    """The same draws: with noise that changes when neurons fire, compiled and stepped still agree spike by spike."""
    noisy = {"chip.model": "lsmo-gaq3-mirror", "readout.noise": True}
    pulse = Pulse(2.0, 1e-3)
    spikes = poisson(np.full(SHAPE[0], 0.15), 150, np.random.default_rng(8))
    loop = LifStdp.fresh(Rule(gain_per_a=1.5e6), spikes, SHAPE, pulse, pulse)
    host, alone, quiet = opened(**noisy), opened(**noisy), opened(**noisy)
    by_hand = stepped(host, run_stepped(loop, 150))
    chip = alone.raw.chip  # type: ignore[attr-defined]
    sigma2 = (chip.model.read_sigma_s * chip.devices.noise_scale) ** 2
    noise = LoopNoise(key(chip.seed, Stream.READ), chip.counters.reads, sigma2, chip.model.read_sigma_relative**2)
    compiled = loop.compiled(150, chip.loop_device(pulse, pulse), noise)
    silent = loop.compiled(150, quiet.raw.chip.loop_device(pulse, pulse))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(compiled.spikes, by_hand.spikes)
    np.testing.assert_array_equal(compiled.potentiations, by_hand.potentiations)
    np.testing.assert_allclose(compiled.state["membrane"], by_hand.state["membrane"], rtol=1e-9, atol=1e-300)
    assert np.abs(silent.state["membrane"] - compiled.state["membrane"]).max() > 1e-6
