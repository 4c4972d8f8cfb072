"""Learning rules: their closed forms, the published values, and the step form against sums over pairs of spikes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobench.errors import UsageError
from neurobench.learning import loops, plasticity, recurrent
from neurobench.learning.plasticity import BI_POO, TRIPLETS, Mstdpet, PairStdp, RewardStdp, Triplet

FAR: Any = {"w_min": -np.inf, "w_max": np.inf}
PAIR = PairStdp(a_plus=0.7, a_minus=0.3, tau_plus_s=16.8e-3, tau_minus_s=33.7e-3, **FAR)
TICK_S = 1e-3


def stepped(pre_ticks: Any, post_ticks: Any, rule: Any, dt_s: float = TICK_S, more: int = 0) -> float:
    """Total dw of one synapse whose spikes stand at these ticks; `more`: silent ticks after the last one."""
    pre, post = set(map(int, pre_ticks)), set(map(int, post_ticks))
    traces, total, weight = plasticity.start(rule, (1, 1), dt_s), 0.0, np.full((1, 1), 0.5)
    for tick in range(max(pre | post | {0}) + 1 + more):
        spikes = np.array([tick in pre]), np.array([tick in post])
        traces, dw = plasticity.step(traces, *spikes, weight, rule, dt_s)
        total += dw[0, 0]
    return total


def pairings(rho_hz: float, lead_s: float, dt_s: float) -> tuple[Any, Any]:
    """60 pre spikes at rho_hz and as many post spikes, `lead_s` after them (negative: before), in ticks."""
    period, lead = round(1 / rho_hz / dt_s), round(lead_s / dt_s)
    pre = np.arange(60) * period + max(-lead, 0)
    return pre, pre + lead


# Checkpoints: Pfister & Gerstner 2006, 60 pairings, dw at rho = 0.1, 10, 20, 40, 50 Hz for +10 and -10 ms.
RHO_HZ = (0.1, 10, 20, 40, 50)
FREQUENCIES = {
    ("visual cortex, all-to-all, minimal", 10e-3): (0.000, 0.119, 0.228, 0.532, 0.763),
    ("visual cortex, all-to-all, minimal", -10e-3): (-0.317, -0.332, -0.342, 0.174, 0.749),
    ("visual cortex, nearest, full", 10e-3): (0.000, 0.104, 0.323, 0.560, 0.624),
    ("visual cortex, nearest, full", -10e-3): (-0.294, -0.411, -0.338, 0.260, 0.619),
}


@pytest.mark.parametrize(("name", "lead_s"), FREQUENCIES)
def test_the_triplet_rule_gives_the_frequency_table_to_the_digits_given(name: str, lead_s: float) -> None:
    for rho_hz, published in zip(RHO_HZ, FREQUENCIES[name, lead_s], strict=True):
        dt_s = 10e-3 if rho_hz < 1 else 5e-3
        ticks = pairings(rho_hz, lead_s, dt_s)
        assert stepped(*ticks, TRIPLETS[name], dt_s) == pytest.approx(published, abs=5e-4)
        seconds = (spikes * dt_s for spikes in ticks)
        assert plasticity.of_trains(*seconds, TRIPLETS[name]) == pytest.approx(published, abs=5e-4)


@given(a_plus=st.floats(0, 1), a_minus=st.floats(0, 1), pairing=st.sampled_from(["all", "nearest"]))
def test_no_pair_rule_turns_the_sign_of_post_before_pre_with_the_frequency(
    a_plus: float, a_minus: float, pairing: Any
) -> None:
    # Amplitudes scaled so that 60 pairings at 0.1 Hz give what was measured there (Sjostrom 2001: -0.04 +- 0.1 at
    # +10 ms, -0.29 +- 0.1 at -10 ms), time constants as the triplet rule has them.
    most, least, deepest = 0.06, 0.19, 0.39
    rule = replace(PAIR, pairing=pairing, a_plus=a_plus * most / 60 * np.exp(10 / 16.8),
                   a_minus=(least + (deepest - least) * a_minus) / 60 * np.exp(10 / 33.7))  # fmt: skip
    seconds = [spikes * TICK_S for spikes in pairings(40, -10e-3, TICK_S)]
    triplet = TRIPLETS["visual cortex, all-to-all, minimal"]
    assert plasticity.of_trains(*seconds, rule) < 0 < plasticity.of_trains(*seconds, triplet)


def test_the_window_has_the_values_of_bi_and_poo() -> None:
    dt_s = np.array([5, 10, 20, 40, -5, -10, -20, -40]) * 1e-3
    published = [0.577, 0.428, 0.236, 0.0718, -0.235, -0.203, -0.151, -0.0833]
    assert plasticity.window(dt_s, BI_POO) == pytest.approx(published, abs=5e-4)


def test_a_stepped_pair_is_the_window_whatever_the_tick() -> None:
    for dt_s in (1e-4, 1e-3, 5e-3):
        for lead_s in (-40e-3, -5e-3, 5e-3, 40e-3):
            lead = round(lead_s / dt_s)
            dw = stepped([max(-lead, 0)], [max(lead, 0)], PAIR, dt_s)
            assert dw == pytest.approx(float(plasticity.window(lead_s, PAIR)), rel=1e-12)


@pytest.mark.parametrize("rule", [BI_POO, plasticity.SONG_MILLER_ABBOTT])
def test_the_integral_of_the_window_is_the_difference_of_its_branches(rule: PairStdp) -> None:
    dt_s = np.linspace(-0.5, 0.5, 100_001)
    integral_s = np.trapezoid(plasticity.window(dt_s, replace(rule, same_tick="both")), dt_s)
    assert integral_s == pytest.approx(rule.a_plus * rule.tau_plus_s - rule.a_minus * rule.tau_minus_s, rel=2e-3)
    assert (integral_s < 0) == (rule is plasticity.SONG_MILLER_ABBOTT)


# ------------------------------------------------------------------------------------------ step form = sum over pairs

trains = st.lists(st.integers(0, 120), unique=True, max_size=25).map(sorted)
options = st.fixed_dictionaries(
    {
        "pairing": st.sampled_from(["all", "nearest"]),
        "same_tick": st.sampled_from(["potentiates", "depresses", "both", "neither"]),
        "delay": st.sampled_from(["axonal", "dendritic"]),
        "delay_s": st.integers(0, 7).map(lambda ticks: ticks * TICK_S),
    }
)


@given(pre=trains, post=trains, said=options)
def test_stepped_pair_stdp_is_the_sum_over_its_pairs(pre: Any, post: Any, said: Any) -> None:
    rule = replace(PAIR, **said)
    summed = plasticity.of_trains(np.array(pre) * TICK_S, np.array(post) * TICK_S, rule)
    assert stepped(pre, post, rule, more=8) == pytest.approx(summed, rel=1e-9, abs=1e-12)


@given(pre=trains, post=trains, said=options, name=st.sampled_from(sorted(TRIPLETS)))
def test_stepped_triplets_are_the_sum_over_their_pairs_and_triplets(pre: Any, post: Any, said: Any, name: str) -> None:
    rule = replace(TRIPLETS[name], **said)
    summed = plasticity.of_trains(np.array(pre) * TICK_S, np.array(post) * TICK_S, rule)
    assert stepped(pre, post, rule, more=8) == pytest.approx(summed, rel=1e-9, abs=1e-12)


@given(seed=st.integers(0, 1000), said=options)
@settings(max_examples=20)
def test_every_synapse_of_a_crossbar_is_on_its_own(seed: int, said: Any) -> None:
    rule, rng = replace(PAIR, **said), np.random.default_rng(seed)
    pre, post = rng.random((40, 3)) < 0.2, rng.random((40, 2)) < 0.2
    traces, total, weights = plasticity.start(rule, (3, 2), TICK_S), np.zeros((3, 2)), np.zeros((3, 2))
    for at in range(40):
        traces, dw = plasticity.step(traces, pre[at], post[at], weights, rule, TICK_S)
        total += dw
    alone = [[_of(pre[:, i], post[:, j], rule) for j in range(2)] for i in range(3)]
    # pairs that are still on their way with the delay at the end are in neither
    assert total == pytest.approx(np.array(alone), rel=1e-9, abs=1e-12)


def _of(pre: Any, post: Any, rule: PairStdp) -> float:
    last = len(pre) - rule.delay_ticks(TICK_S)
    arriving = (pre[:last], post) if rule.delay == "axonal" else (pre, post[:last])
    return plasticity.of_trains(*(np.flatnonzero(spikes) * TICK_S for spikes in arriving), rule)


# --------------------------------------------------------------------------------------------- order, delay and weights


@pytest.mark.parametrize(
    ("same_tick", "dw"), [("potentiates", 0.7), ("depresses", -0.3), ("both", 0.7 - 0.3), ("neither", 0.0)]
)
def test_the_order_within_a_tick_decides_what_a_coincidence_does(same_tick: Any, dw: float) -> None:
    rule = replace(PAIR, same_tick=same_tick)
    assert stepped([3], [3], rule) == pytest.approx(dw)
    assert float(plasticity.window(0.0, rule)) == pytest.approx(dw)


def test_the_place_of_a_delay_turns_what_is_learnt() -> None:
    axonal, dendritic = (replace(PAIR, delay_s=2e-3, delay=place) for place in ("axonal", "dendritic"))
    # a post spike 1 ms after the pre spike: before it arrives through the axon, 3 ms after it through the dendrite
    assert stepped([0], [1], axonal, more=3) == pytest.approx(-0.3 * np.exp(-1 / 33.7))
    assert stepped([0], [1], dendritic, more=3) == pytest.approx(0.7 * np.exp(-3 / 16.8))
    assert plasticity.window([1e-3], dendritic)[0] == pytest.approx(0.7 * np.exp(-3 / 16.8))


def test_nearest_spikes_pair_once_where_all_spikes_pair_often() -> None:
    assert stepped([0, 5], [10], replace(PAIR, pairing="nearest")) == pytest.approx(0.7 * np.exp(-5 / 16.8))
    assert stepped([0, 5], [10], PAIR) == pytest.approx(0.7 * (np.exp(-5 / 16.8) + np.exp(-10 / 16.8)))


@pytest.mark.parametrize("mu", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_soft_bounds_scale_both_branches_by_the_room_that_is_left(mu: float, weight: float) -> None:
    rule = PairStdp(a_plus=1e-3, a_minus=2e-3, mu=mu, w_min=-1.0, w_max=1.0)
    weights = np.full((1, 1), 2 * weight - 1)
    for pre_first in (True, False):
        traces = plasticity.start(rule, (1, 1), TICK_S)
        first, last = (
            (np.array([pre_first]), np.array([not pre_first])),
            (np.array([not pre_first]), np.array([pre_first])),
        )
        traces, _ = plasticity.step(traces, *first, weights, rule, TICK_S)
        _, dw = plasticity.step(traces, *last, weights, rule, TICK_S)
        room = 1 - weight if pre_first else weight
        free = (1e-3 if pre_first else -2e-3) * np.exp(-1 / 20) * room**mu
        expected = 0.0 if room == 0 else free  # the additive rule has hard bounds
        assert dw[0, 0] == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(weight=st.floats(-0.5, 1.5), mu=st.sampled_from([0.0, 0.5, 1.0]), size=st.floats(0, 10), up=st.booleans())
def test_a_rule_never_moves_a_weight_out_of_its_bounds_nor_one_that_saw_no_spike(
    weight: float, mu: float, size: float, up: bool
) -> None:
    rule, weights = PairStdp(a_plus=size, a_minus=size, mu=mu), np.full((1, 1), weight)
    traces = plasticity.start(rule, (1, 1), TICK_S)
    traces, still = plasticity.step(traces, np.array([up]), np.array([not up]), weights, rule, TICK_S)
    _, dw = plasticity.step(traces, np.array([not up]), np.array([up]), weights, rule, TICK_S)
    assert still[0, 0] == 0
    assert min(weight, 0.0) <= weight + dw[0, 0] <= max(weight, 1.0)
    assert dw[0, 0] >= 0 if up else dw[0, 0] <= 0


# ----------------------------------------------------------------------------------------------------------- the reward


def distal(rule: RewardStdp | Mstdpet, rewarded_at: int | None, ticks: int = 4000, reward: float = 1e-3) -> float:
    """dw of a pre-post pair (10 ms) with a reward at this tick after the post spike, until all has decayed."""
    weights, total = np.full((1, 1), 0.5), 0.0
    traces = plasticity.start(rule, (1, 1), TICK_S)
    for tick in range(ticks):
        traces, dw = plasticity.step(traces, np.array([tick == 0]), np.array([tick == 10]), weights, rule, TICK_S)
        total += dw[0, 0]
        if rewarded_at is not None and tick == 10 + rewarded_at:
            traces = plasticity.rewarded(traces, reward)
    return total


@pytest.mark.parametrize("rule", [RewardStdp(pair=PAIR), Mstdpet(pair=PAIR)])
def test_a_reward_a_second_late_gives_the_share_1_over_e_and_no_reward_gives_nothing(rule: Any) -> None:
    assert distal(rule, 1000) / distal(rule, 0) == pytest.approx(np.exp(-1), rel=1e-6)
    assert distal(rule, None) == 0
    assert distal(rule, 300, reward=-1e-3) == pytest.approx(-distal(rule, 300))


def test_dopamine_acts_on_what_is_remembered_with_the_published_size() -> None:
    # c(t) = c0 exp(-t / tau_c), d(t) = r exp(-t / tau_d): the integral of c d is c0 r tau_c tau_d / (tau_c + tau_d)
    pair_dw = 0.7 * np.exp(-10 / 16.8)
    whole = pair_dw * 1e-3 * (1.0 * 0.2) / (1.0 + 0.2)
    assert distal(RewardStdp(pair=PAIR), 0) == pytest.approx(whole, rel=1e-6)


def test_a_reward_without_a_tail_moves_the_weight_in_one_tick() -> None:
    rule = Mstdpet(pair=PAIR, tau_eligibility_s=0.5, gain=2.0)
    pair_dw = 0.7 * np.exp(-10 / 16.8)
    assert distal(rule, 0) == pytest.approx(2.0 * 1e-3 * pair_dw / 0.5 * np.exp(-1e-3 / 0.5), rel=1e-12)


# -------------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"pairing": "some"}, "all, nearest"),
        ({"same_tick": "later"}, "potentiates, depresses, both, neither"),
        ({"delay": "somatic"}, "axonal, dendritic"),
        ({"delay_s": -1e-3}, "delay_s"),
        ({"tau_plus_s": 0.0}, "tau_plus_s"),
        ({"a_plus": float("nan")}, "a_plus"),
        ({"w_min": 1.0, "w_max": 1.0}, "w_min"),
        ({"mu": 0.5, **FAR}, "finite bounds"),
        ({"mu": -1.0}, "mu"),
    ],
)
def test_a_rule_that_makes_no_sense_says_what_is_allowed(said: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        PairStdp(**{"a_plus": 0.1, "a_minus": 0.1, **said})


def test_shapes_rules_and_delays_that_do_not_fit_are_refused() -> None:
    traces = plasticity.start(PAIR, (2, 3), TICK_S)
    spikes = np.ones(2, np.bool_), np.ones(3, np.bool_)
    with pytest.raises(UsageError, match="shape"):
        plasticity.step(traces, *spikes, np.zeros((3, 2)), PAIR, TICK_S)
    with pytest.raises(UsageError, match="no rule"):
        plasticity.step(traces, *spikes, np.zeros((2, 3)), "stdp", TICK_S)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="ticks"):
        plasticity.start(replace(PAIR, delay_s=1.0), (2, 3), 1e-9)
    with pytest.raises(UsageError, match="mu"):
        plasticity.window(1e-3, PairStdp(a_plus=1, a_minus=1, mu=0.5))
    with pytest.raises(UsageError, match="ascend"):
        plasticity.of_trains([1.0, 1.0], [2.0], PAIR)
    with pytest.raises(UsageError, match="tau_eligibility_s"):
        RewardStdp(pair=PAIR, tau_eligibility_s=0)


def test_the_orders_have_the_names_of_the_compiled_loops_and_say_what_a_coincidence_does() -> None:
    assert set(get_args(loops.Order)) < set(get_args(recurrent.Order)) == set(plasticity.ORDERS)
    assert {name for name, order in plasticity.ORDERS.items() if order.threshold_first} == {"brian"}
    coincidence = {n: stepped([3], [3], replace(PAIR, same_tick=o.same_tick)) for n, o in plasticity.ORDERS.items()}
    expected = {"reference": 0.7, "brian": 0.7, "bindsnet": 0.7 - 0.3, "nest": 0.0}
    assert coincidence == pytest.approx(expected)


def test_a_triplet_without_its_triplet_terms_is_the_pair_rule() -> None:
    triplet = Triplet(a2_plus=0.7, a3_plus=0, a2_minus=0.3, a3_minus=0, **FAR)
    pre, post = [0, 7, 30, 31], [5, 7, 33]
    assert stepped(pre, post, triplet) == pytest.approx(stepped(pre, post, PAIR), rel=1e-12)
