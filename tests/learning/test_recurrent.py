"""A recurrent network in the backend and by the host is one network; delay and order change what is learnt."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply, Loop, LoopAnswer
from neurobench.bench.stimulus import Bias, Pulse
from neurobench.errors import CapabilityMissing, LimitExceeded, Refused, UsageError
from neurobench.learning._recurrent_steps import run_stepped
from neurobench.learning.loops import poisson
from neurobench.learning.recurrent import RecurrentRule, RecurrentStdp, net, no_input, random_used

NEURONS, INPUTS, TICKS = 14, 6, 120
PULSE = Pulse(1.0, 1e-5)  # a hundredth of the ideal cell's window
BASE = {"gain_per_a": 2e5, "tick_s": 1e-3, "delay_s": 3e-3, "a_plus": 0.8, "a_minus": 0.5}


def opened(model: str = "ideal", shape: tuple[int, int] = (NEURONS + INPUTS, NEURONS), **more: Any) -> Guard:
    told = {"readout.noise": False, "chip.model": model, "chip.rows": shape[0], "chip.cols": shape[1]}
    return open_bench(load_bench("emulator", told | more), seed=3)


def program(ticks: int = TICKS, pulse: Pulse = PULSE, **rule: Any) -> RecurrentStdp:
    rng = np.random.default_rng(5)
    wiring = net(random_used(NEURONS, 0.5, rng, INPUTS))
    rates = np.r_[np.zeros(NEURONS), np.full(INPUTS, 0.1)]
    spikes = poisson(rates, ticks, rng)
    return RecurrentStdp.fresh(
        RecurrentRule(**BASE | {"update": "width"} | rule), wiring, rng.uniform(0.9, 1.3, NEURONS), spikes, pulse, pulse
    )


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


def truth(guard: Guard) -> Any:
    found = guard.truth_s()
    assert found is not None
    return found


def assert_one_loop(one: LoopAnswer, other: LoopAnswer) -> None:
    np.testing.assert_array_equal(one.spikes, other.spikes)
    np.testing.assert_array_equal(one.potentiations, other.potentiations)
    np.testing.assert_array_equal(one.depressions, other.depressions)
    assert set(one.state) == set(other.state)
    for name, values in one.state.items():
        np.testing.assert_allclose(values, other.state[name], rtol=1e-9, atol=1e-300, err_msg=name)


@pytest.mark.parametrize("place", ["axonal", "dendritic"])
@pytest.mark.parametrize("order", ["reference", "brian", "bindsnet", "nest"])
@pytest.mark.parametrize("update", ["width", "stochastic"])
def test_compiled_and_stepped_are_the_same_network(place: str, order: str, update: str) -> None:
    loop = program(delay_place=place, order=order, update=update, refractory_s=4e-3)
    alone, host = opened(), opened()
    compiled = alone.loop(1, Loop(loop, TICKS))
    by_hand = stepped(host, loop.stepped(TICKS, host.view()))
    assert len(compiled.spikes) > 30
    assert compiled.potentiations.sum() > 50
    assert compiled.depressions.sum() > 50
    assert_one_loop(compiled, by_hand)
    np.testing.assert_allclose(truth(alone), truth(host), rtol=1e-9)


@pytest.mark.parametrize(
    "rule",
    [
        {"leakage": False}, {"traces": "nearest"}, {"pre_window_s": 5e-3, "post_window_s": 8e-3}, {"delay_s": 1e-3},
        {"delay_s": 1e-3, "delay_place": "dendritic"}, {"learn": False}, {"refractory_s": 0.0},
        {"cell_budget": 2, "update": "stochastic"}, {"leakage": False, "delay_place": "dendritic", "order": "brian"},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_is_the_same_network_compiled_and_stepped(rule: dict[str, Any]) -> None:
    loop = program(**rule)
    alone, host = opened(), opened()
    compiled = alone.loop(1, Loop(loop, TICKS))
    assert len(compiled.spikes) > 10
    assert_one_loop(compiled, stepped(host, loop.stepped(TICKS, host.view())))
    np.testing.assert_allclose(truth(alone), truth(host), rtol=1e-9)
    assert (compiled.potentiations + compiled.depressions.astype(int)).max() <= rule.get("cell_budget", 1000)


@pytest.mark.parametrize("model", ["reram-sb", "lsmo-gaq3-mirror"])
def test_noisy_devices_are_the_same_network_compiled_and_stepped(model: str) -> None:
    """Step noise is keyed by cell and pulse, read noise by the read: both are the same draws in the backend."""
    pulse = Pulse(1.0, 1e-6) if model == "reram-sb" else Pulse(2.0, 1e-3)
    gain = 1e4 if model == "reram-sb" else 3e5
    loop = program(pulse=pulse, update="stochastic", gain_per_a=gain)
    more = {"readout.noise": True}
    alone, host = opened(model, **more), opened(model, **more)
    compiled = alone.loop(1, Loop(loop, TICKS))
    assert compiled.potentiations.sum() > 50
    assert_one_loop(compiled, stepped(host, loop.stepped(TICKS, host.view())))
    np.testing.assert_allclose(truth(alone), truth(host), rtol=1e-9)


@pytest.mark.parametrize("place", ["axonal", "dendritic"])
def test_loops_of_a_part_of_the_length_are_one_loop(place: str) -> None:
    whole, parts = opened(), opened()
    loop = program(delay_place=place)
    once = whole.loop(1, Loop(loop, TICKS))
    spikes, potentiations, program_now = [], np.zeros(loop.shape, int), loop
    for seq, (first, end) in enumerate([(0, 1), (1, 50), (50, TICKS)]):
        a, b = loop.spikes.indptr[first], loop.spikes.indptr[end]
        part = loop.spikes._replace(indptr=loop.spikes.indptr[first : end + 1] - a, rows=loop.spikes.rows[a:b])
        program_now = (
            RecurrentStdp.fresh(loop.rule, loop.net, loop.bias, part, PULSE, PULSE)
            if seq == 0
            else program_now.after(answer, part)  # noqa: F821 - bound from the second loop on
        )
        answer = parts.loop(1 + seq, Loop(program_now, end - first))
        spikes.append(answer.spikes + np.array([first, 0]))
        potentiations += answer.potentiations
    np.testing.assert_array_equal(np.vstack(spikes), once.spikes)
    np.testing.assert_array_equal(potentiations, once.potentiations)
    # not bit for bit: at a loop's end the traces' common decay is multiplied in, which rounds
    np.testing.assert_allclose(truth(parts), truth(whole), rtol=1e-13)
    for name, values in once.state.items():
        np.testing.assert_allclose(values, answer.state[name], rtol=1e-12, err_msg=name)


# ------------------------------------------------------------------ what a delay and an order mean, on two neurons


def pair(place: str, order: str, gap: int, delay: int = 3) -> tuple[int, int]:
    """Neuron 0 fires once, neuron 1 `gap` ticks later; pulses up and down of the cell from 0 to 1."""
    used = np.zeros((4, 2), np.bool_)
    used[0, 1] = used[2, 0] = used[3, 1] = True
    raster = np.zeros((60, 4), np.bool_)
    raster[20, 2], raster[20 + gap, 3] = True, True
    at_tick, rows = np.nonzero(raster)
    spikes = no_input(60)._replace(
        indptr=np.searchsorted(at_tick, np.arange(61)).astype(np.int32), rows=rows.astype(np.int32)
    )
    # an input's spike alone makes its neuron fire: it sees half of the window at 0.1 V
    rule = RecurrentRule(**BASE | {"gain_per_a": 1.5e6, "delay_s": delay * 1e-3, "delay_place": place, "order": order,
                                   "update": "stochastic", "a_plus": 1e9, "a_minus": 1e9, "traces": "nearest",
                                   "refractory_s": 5e-2, "leakage": False})  # fmt: skip
    guard = opened(shape=(4, 2))
    answer = guard.loop(1, Loop(RecurrentStdp.fresh(rule, net(used), 0.0, spikes, PULSE, PULSE), 60))
    fired = {neuron: tick for tick, neuron in answer.spikes.tolist()}
    assert fired[1] - fired[0] == gap, "the two neurons fire as they are told"
    return int(answer.potentiations[0, 1]), int(answer.depressions[0, 1])


@pytest.mark.parametrize("order", ["reference", "brian", "bindsnet", "nest"])
def test_the_place_of_the_delay_decides_what_a_pair_does(order: str) -> None:
    """Neuron 1 fires one tick after neuron 0, 3 ticks away. Along the axon the spike of 0 is late: depression. Through
    the dendrite the cell has met it already, and the spike of 1 comes back later still: potentiation."""
    assert pair("axonal", order, 1) == (0, 1)
    assert pair("dendritic", order, 1) == (1, 0)
    assert pair("dendritic", order, -1) == (1, 0)
    assert pair("dendritic", order, -4) == (0, 1)


@pytest.mark.parametrize(
    ("order", "does"), [("reference", (1, 0)), ("brian", (1, 0)), ("bindsnet", (1, 1)), ("nest", (0, 0))]
)
def test_a_pair_that_meets_at_one_tick_does_what_the_order_says(order: str, does: tuple[int, int]) -> None:
    assert pair("axonal", order, 3) == does
    assert pair("dendritic", order, -3) == does


def test_a_neuron_without_synapses_fires_at_the_rate_of_its_formula() -> None:
    """LIF, exact: the interval is the refractory time plus tau ln(b / (b - 1)), rounded up to a tick."""
    rule = RecurrentRule(gain_per_a=1.0, tick_s=1e-4, tau_membrane_s=20e-3, refractory_s=2e-3, learn=False)
    bias = np.array([1.2, 1.5, 3.0, 0.99])
    loop = RecurrentStdp.fresh(rule, net(np.zeros((4, 4), np.bool_)), bias, no_input(1000), PULSE, PULSE)
    fired = opened(shape=(4, 4)).loop(1, Loop(loop, 1000)).spikes
    for k, b in enumerate(bias[:3]):
        ticks = np.diff(fired[fired[:, 1] == k, 0])
        # free again in the tick in which the refractory time ends, which is the first that charges
        expected = 20 - 1 + np.ceil(200 * np.log(b / (b - 1)) - 1e-9)
        assert len(ticks) >= 1
        assert set(ticks.tolist()) == {int(expected)}
    assert 3 not in fired[:, 1]


def test_the_leak_of_unused_cells_charges_and_can_be_declared_away() -> None:
    base = program(learn=False).rule
    one = RecurrentStdp.fresh(base, net(np.zeros((3, 3), np.bool_)), 1.5, no_input(80), PULSE, PULSE)
    silent = RecurrentStdp.fresh(RecurrentRule(**BASE | {"leakage": False}), one.net, 1.5, no_input(80), PULSE, PULSE)
    with_leak, without = (opened(shape=(3, 3)).loop(1, Loop(loop, 80)) for loop in (one, silent))
    assert with_leak.spikes[1, 0] == without.spikes[1, 0]
    assert len(with_leak.spikes) > len(without.spikes)


# ------------------------------------------------------------------ bounds and bad input


def test_only_used_cells_are_pulsed_and_no_more_than_the_bounds_say() -> None:
    loop = program(update="stochastic", cell_budget=5)
    bounds = loop.bounds(TICKS)
    most: Any = bounds.pulses_per_cell
    assert ((most > 0) == loop.used).all()
    answer = opened(**{"limits.max_loop_pulses_per_cell": 5}).loop(1, Loop(loop, TICKS))
    assert (answer.potentiations + answer.depressions <= most).all()
    with pytest.raises(LimitExceeded, match="max_loop_pulses_per_cell"):
        opened(**{"limits.max_loop_pulses_per_cell": 4}).loop(1, Loop(loop, TICKS))
    with pytest.raises(Refused, match="max_read_v"):
        opened().loop(1, Loop(program(read_v=1.0), TICKS))


def test_a_width_needs_a_device_that_is_linear_in_it() -> None:
    with pytest.raises(CapabilityMissing, match="linear in the pulse's width"):
        opened("reram-sb").loop(1, Loop(program(pulse=Pulse(1.0, 1e-6)), TICKS))
    with pytest.raises(UsageError, match="whole window"):
        opened().loop(1, Loop(program(pulse=Pulse(1.0, 1e-3)), TICKS))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"gain_per_a": -1.0}, "gain_per_a"), ({"delay_s": 1e-5}, "shorter than a tick"),
        ({"order": "neuron"}, "order"), ({"update": "window"}, "feed-forward"),
        ({"delay_place": "nowhere"}, "delay_place"), ({"cell_budget": 0}, "cell_budget"),
    ],
)  # fmt: skip
def test_rules_that_mean_nothing_are_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RecurrentRule(**BASE | rule)


def test_input_that_does_not_fit_is_refused() -> None:
    loop = program()
    into_neuron = poisson(np.r_[np.ones(1), np.zeros(NEURONS + INPUTS - 1)], 5, np.random.default_rng(1))
    with pytest.raises(UsageError, match=f"outside {NEURONS}..{NEURONS + INPUTS - 1}"):
        RecurrentStdp.fresh(loop.rule, loop.net, 1.0, into_neuron, PULSE, PULSE)
    with pytest.raises(UsageError, match="a row for every neuron"):
        net(np.ones((3, 4), np.bool_))
    with pytest.raises(UsageError, match="ticks"):
        opened().loop(1, Loop(loop, TICKS + 1))
    with pytest.raises(Refused, match=r"the loop is for \(20, 14\) cells, the bench has \(8, 8\)"):
        opened(shape=(8, 8)).loop(1, Loop(loop, TICKS))
    with pytest.raises(UsageError, match="flying is"):
        RecurrentStdp(loop.rule, loop.net, loop.bias, loop.spikes, PULSE, PULSE, loop.start, loop.flying[:1])


@pytest.mark.parametrize("update", ["width", "stochastic"])
def test_the_energy_is_that_of_the_pulsed_cells(update: str) -> None:
    """A loop in the backend counts the cells that it pulses; by the host that is so where the others see nothing."""
    loop, told = program(update=update), {"chip.isolation": "isolated", "bench.biases": ["half", "isolated"]}
    guards = [opened(**told) for _ in range(2)]
    compiled = guards[0].loop(1, Loop(loop, TICKS))
    by_hand = stepped(guards[1], run_stepped(loop, TICKS, Bias.ISOLATED, in_array=True))
    assert compiled.energy_j > 0
    assert compiled.energy_j == pytest.approx(by_hand.energy_j, rel=1e-9)
