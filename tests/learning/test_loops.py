"""The compiled loop and the loop stepped by the host are one loop; its bounds hold."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply, Loop, LoopAnswer
from neurobench.bench.stimulus import Pulse
from neurobench.errors import LimitExceeded, Refused, UsageError
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


def stepped(guard: Guard, steps: Generator[Any, Any, LoopAnswer]) -> LoopAnswer:
    answer: Any = None
    seq = 0
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
