"""Learning rules of spike timing as pure steps of one tick: pair STDP, triplet STDP, reward-modulated STDP.

`step(traces, pre, post, weights, parameters, dt_s) -> (traces, dw)`: pre[rows] and post[cols] say who spiked in this
tick, dw[rows, cols] is what the weights are to change by. A rule reads spikes and weights, pulses nothing itself (see
quantised.py for dw -> pulses), and keeps its traces (and eligibility, where it has one) on the host.

Time is counted in ticks of `dt_s`. Within a tick all traces decay first, by exp(-dt_s / tau), so that a trace is the
closed form at every tick and no integration error depends on dt_s. Both branches of a tick see the weights as they were
at its beginning. dt = t_post - t_pre.

Who comes first within a tick decides what dt = 0 means (`same_tick`), and so what is learnt:

- "potentiates": pre spikes before post spikes. Depression reads the post traces from before this tick, then the pre
  traces rise, then potentiation reads them: dt = 0 is the limit dt -> 0+.
- "depresses": post spikes before pre spikes: dt = 0 is the limit dt -> 0-.
- "both": all traces rise before any is read: dt = 0 gives the sum of both limits.
- "neither": all traces are read before any rises: dt = 0 gives nothing.

Whether a neuron is compared with its threshold before or after the input of the tick reaches it is not the rule's
doing, but it decides which post spikes it is given; `ORDERS` names the combinations that simulators use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import singledispatch
from math import exp, inf, isfinite
from typing import Any, Literal, NamedTuple

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray, require
from neurobench.errors import UsageError

Pairing = Literal["all", "nearest"]
SameTick = Literal["potentiates", "depresses", "both", "neither"]
DelayPlace = Literal["axonal", "dendritic"]

MOST_DELAY_TICKS = 100_000


class Order(NamedTuple):
    """The order within a tick.

    `threshold_first`: neurons are compared with their thresholds before the input of the tick reaches them, so that a
    spike can cause one in the next tick at the earliest. `same_tick`: see the module.
    """

    threshold_first: bool
    same_tick: SameTick


# Brian2 schedules thresholds before synapses, and the pre pathway (order -1) before the post pathway (order 1);
# BindsNET raises both traces in the layers' forward pass, before the connection's update reads them; NEST's
# stdp_synapse pairs a spike with strictly earlier ones. The names are those of the compiled loops (loops.py,
# recurrent.py).
ORDERS: Mapping[str, Order] = {
    "reference": Order(threshold_first=False, same_tick="potentiates"),
    "brian": Order(threshold_first=True, same_tick="potentiates"),
    "bindsnet": Order(threshold_first=False, same_tick="both"),
    "nest": Order(threshold_first=False, same_tick="neither"),
}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What pair and triplet rules share: which spikes pair, what dt = 0 means, delays, and the place of the weights.

    `pairing`: "all" adds 1 to a trace at each spike, so that every pre spike pairs with every post spike; "nearest"
    sets it to 1, so that a spike pairs with the last one of the other side only (Morrison, Diesmann & Gerstner 2008,
    Biol. Cybern. 98, 459).

    `delay_s` with `delay` "axonal": the pre spike reaches the synapse so much later, the pair counts as dt - delay_s;
    "dendritic": the post spike reaches it so much later, the pair counts as dt + delay_s. It is rounded to ticks. It
    shifts what the synapse sees; the current into the neuron is the caller's to delay.

    Dependence on the weight (Gutig, Aharonov, Rotter & Sompolinsky 2003, J. Neurosci. 23, 3697): with x = (w - w_min) /
    (w_max - w_min), potentiation is scaled by (1 - x)^mu and depression by x^mu. `mu` 0 is the additive rule with hard
    bounds, 1 the multiplicative one, between them soft bounds. A weight never leaves its bounds by its rule.
    """

    pairing: Pairing = "all"
    same_tick: SameTick = "potentiates"
    delay_s: float = 0.0
    delay: DelayPlace = "axonal"
    mu: float = 0.0
    w_min: float = 0.0
    w_max: float = 1.0

    def __post_init__(self) -> None:
        for name, allowed in (("pairing", Pairing), ("same_tick", SameTick), ("delay", DelayPlace)):
            words = allowed.__args__  # type: ignore[attr-defined]
            value = getattr(self, name)
            require(value in words, f"{name} = {value!r}: it is one of {', '.join(words)}")
        require(0 <= self.delay_s < float("inf"), f"delay_s = {self.delay_s} s must be finite and not negative")
        require(0 <= self.mu < float("inf"), f"mu = {self.mu} must be finite and not negative")
        require(self.w_min < self.w_max, f"w_min = {self.w_min} must lie below w_max = {self.w_max}")
        bounded = isfinite(self.w_max - self.w_min)
        require(self.mu == 0 or bounded, f"mu = {self.mu} needs finite bounds of the weights (mu = 0 does not)")
        _check(self)

    def delay_ticks(self, dt_s: float) -> int:
        """The delay in whole ticks of `dt_s`, rounded; UsageError for a tick that is none or a delay beyond reason."""
        require(0 < dt_s < float("inf"), f"dt_s = {dt_s} s must be positive")
        ticks = round(self.delay_s / dt_s)
        allowed = f"{MOST_DELAY_TICKS} ticks of {dt_s:g} s at most"
        require(ticks <= MOST_DELAY_TICKS, f"delay_s = {self.delay_s:g} s: {allowed}")
        return ticks


@dataclass(frozen=True, kw_only=True)
class PairStdp(Timing):
    """Pair STDP: dw = a_plus exp(-dt / tau_plus_s) for dt > 0, -a_minus exp(dt / tau_minus_s) for dt < 0.

    Song, Miller & Abbott 2000, Nat. Neurosci. 3, 919; as traces: Morrison et al. 2008. At a post spike potentiation
    reads the pre trace, at a pre spike depression reads the post trace. On the host: one trace per row and per column.
    Amplitudes are in the unit of the weights.
    """

    a_plus: float
    a_minus: float
    tau_plus_s: float = 20e-3
    tau_minus_s: float = 20e-3


@dataclass(frozen=True, kw_only=True)
class Triplet(Timing):
    """Triplet STDP (Pfister & Gerstner 2006, J. Neurosci. 26, 9673, eqs. 3 and 4).

    Pre spike: dw = -o1 (a2_minus + a3_minus r2). Post spike: dw = r1 (a2_plus + a3_plus o2). r1 (tau_plus_s) and r2
    (tau_x_s) are pre traces, o1 (tau_minus_s) and o2 (tau_y_s) post traces; r2 and o2 are read just before their own
    spike raises them. On the host: two traces per row and per column.
    """

    a2_plus: float
    a3_plus: float
    a2_minus: float
    a3_minus: float
    tau_plus_s: float = 16.8e-3
    tau_minus_s: float = 33.7e-3
    tau_x_s: float = 101e-3
    tau_y_s: float = 125e-3


@dataclass(frozen=True, kw_only=True)
class RewardStdp:
    """Reward-modulated STDP with dopamine (Izhikevich 2007, Cereb. Cortex 17, 2443).

    dc/dt = -c / tau_eligibility_s + STDP(dt) delta(t - t_spike), dw/dt = gain c d, dd/dt = -d / tau_dopamine_s + reward
    (given by `rewarded`). What pair STDP would have changed at once is only remembered, in the eligibility c[rows,
    cols], and becomes a change of the weight while dopamine d is there. Both decay exponentially, so that a tick is
    integrated exactly. `gain` is per second. On the host: traces, the eligibility of every synapse, and dopamine.

    The eligibility takes the pair rule's amplitudes at the weights of that moment.
    """

    pair: PairStdp
    tau_eligibility_s: float = 1.0
    tau_dopamine_s: float = 0.2
    gain: float = 1.0

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class Mstdpet:
    """Modulated STDP with eligibility trace (Florian 2007, Neural Comput. 19, 1468; equation from memory).

    z' = z exp(-dt_s / tau_eligibility_s) + STDP / tau_eligibility_s, dw = gain r z: the reward r counts in the one tick
    that follows it (`rewarded`) and in none after it. With a chip that means pulses at rewards only. `gain` is in
    seconds. On the host: traces and the eligibility of every synapse.
    """

    pair: PairStdp
    tau_eligibility_s: float = 1.0
    gain: float = 1.0

    def __post_init__(self) -> None:
        _check(self)


Rule = PairStdp | Triplet | RewardStdp | Mstdpet


def _check(rule: Any) -> None:
    for one in fields(rule):
        value = getattr(rule, one.name)
        if one.name.startswith("tau_"):
            require(0 < value < float("inf"), f"{one.name} = {value} s must be positive and finite")
        elif isinstance(value, float) and not one.name.startswith("w_"):
            require(isfinite(value), f"{one.name} = {value} must be finite")


# ------------------------------------------------------------------------------------------------------- parameter sets

# Fit to Bi & Poo 1998 (J. Neurosci. 18, 10464), amplitudes relative to the weight; from memory, but for the time
# constants, which NEST's and NESTML's triplet models give as well.
BI_POO = PairStdp(a_plus=0.777, a_minus=0.273, tau_plus_s=16.8e-3, tau_minus_s=33.7e-3)

# Song, Miller & Abbott 2000 as brian2/examples/synapses/STDP.py has it; amplitudes in units of the largest weight.
SONG_MILLER_ABBOTT = PairStdp(a_plus=0.01, a_minus=0.0105)


def _triplet(
    pairing: Pairing, plus: tuple[float, float], minus: tuple[float, float], tau_x_ms: float, tau_y_ms: float
) -> Triplet:
    return Triplet(
        a2_plus=plus[0], a3_plus=plus[1], a2_minus=minus[0], a3_minus=minus[1], tau_x_s=tau_x_ms * 1e-3,
        tau_y_s=tau_y_ms * 1e-3, pairing=pairing, w_min=-float("inf"), w_max=float("inf"),
    )  # fmt: skip


# Pfister & Gerstner 2006, tables 3 and 4, from memory; the visual cortex sets are checked against the frequency table
# of their figure. Minimal sets do not use r2 (a3_minus = 0): its tau_x stands for nothing there.
TRIPLETS: Mapping[str, Triplet] = {
    "visual cortex, all-to-all, full": _triplet("all", (5e-10, 6.2e-3), (7e-3, 2.3e-4), 101, 125),
    "visual cortex, all-to-all, minimal": _triplet("all", (0.0, 6.5e-3), (7.1e-3, 0.0), 101, 114),
    "visual cortex, nearest, full": _triplet("nearest", (8.8e-11, 5.3e-2), (6.6e-3, 3.1e-3), 714, 40),
    "visual cortex, nearest, minimal": _triplet("nearest", (0.0, 5e-2), (8e-3, 0.0), 714, 40),
    "hippocampus, all-to-all, minimal": _triplet("all", (5.3e-3, 8e-3), (3.5e-3, 0.0), 101, 40),
    "hippocampus, nearest, minimal": _triplet("nearest", (4.6e-3, 9.1e-3), (3e-3, 0.0), 714, 48),
}


# --------------------------------------------------------------------------------------------------------------- traces


class PairTraces(NamedTuple):
    """Traces of pair STDP: pre[rows], post[cols]; `waiting[ticks, lines]`: delayed spikes, the next to arrive first."""

    pre: FloatArray
    post: FloatArray
    waiting: BoolArray


class TripletTraces(NamedTuple):
    """Traces of triplet STDP: r1, r2 [rows], o1, o2 [cols], and the delayed spikes as in `PairTraces`."""

    r1: FloatArray
    r2: FloatArray
    o1: FloatArray
    o2: FloatArray
    waiting: BoolArray


class RewardTraces(NamedTuple):
    """Traces of the pair rule, eligibility[rows, cols] in the unit of the weights, and dopamine (or the reward)."""

    pair: PairTraces
    eligibility: FloatArray
    dopamine: float


Traces = PairTraces | TripletTraces | RewardTraces


def start(parameters: Rule, shape: tuple[int, int], dt_s: float) -> Any:
    """The traces of a rule at rest, for weights of `shape` [rows, cols] and ticks of `dt_s` seconds."""
    rows, cols = shape
    if isinstance(parameters, RewardStdp | Mstdpet):
        return RewardTraces(start(parameters.pair, shape, dt_s), np.zeros(shape), 0.0)
    lines = rows if parameters.delay == "axonal" else cols
    waiting = np.zeros((parameters.delay_ticks(dt_s), lines), np.bool_)
    if isinstance(parameters, Triplet):
        return TripletTraces(np.zeros(rows), np.zeros(rows), np.zeros(cols), np.zeros(cols), waiting)
    return PairTraces(np.zeros(rows), np.zeros(cols), waiting)


def rewarded(traces: RewardTraces, reward: float) -> RewardTraces:
    """A reward (negative: a punishment) right after the last tick; it adds to what is there."""
    return traces._replace(dopamine=traces.dopamine + reward)


# ---------------------------------------------------------------------------------------------------------------- steps


def step(
    traces: Any, pre: BoolArray, post: BoolArray, weights: FloatArray, parameters: Rule, dt_s: float
) -> tuple[Any, FloatArray]:
    """One tick of a rule: the traces after it, and dw[rows, cols] in the unit of the weights.

    `traces` come from `start`, with the same `dt_s`, or from the step before. pre[rows] and post[cols]: who spikes in
    this tick. weights[rows, cols] are read where the rule depends on them or a bound is near.
    """
    return _step(parameters, traces, pre, post, weights, dt_s)


@singledispatch
def _step(parameters: Any, traces: Any, pre: Any, post: Any, weights: Any, dt_s: float) -> tuple[Any, FloatArray]:
    del traces, pre, post, weights, dt_s
    raise UsageError(f"{type(parameters).__name__} is no rule: use PairStdp, Triplet, RewardStdp or Mstdpet")


@_step.register
def _pair(p: PairStdp, traces: PairTraces, pre: BoolArray, post: BoolArray, weights: FloatArray, dt_s: float) -> Any:
    pre, post, waiting = _arrived(p, traces.waiting, pre, post)
    r, r_read = _raised(traces.pre, pre, p.tau_plus_s, dt_s, p, "potentiates")
    o, o_read = _raised(traces.post, post, p.tau_minus_s, dt_s, p, "depresses")
    up, down = (r_read, np.full(len(post), p.a_plus)), (np.full(len(pre), p.a_minus), o_read)
    dw = _changes(p, weights, pre, post, up, down)
    return PairTraces(r, o, waiting), dw


@_step.register
def _of_triplets(
    p: Triplet, traces: TripletTraces, pre: BoolArray, post: BoolArray, weights: FloatArray, dt_s: float
) -> Any:
    pre, post, waiting = _arrived(p, traces.waiting, pre, post)
    r1, r1_read = _raised(traces.r1, pre, p.tau_plus_s, dt_s, p, "potentiates")
    o1, o1_read = _raised(traces.o1, post, p.tau_minus_s, dt_s, p, "depresses")
    r2_before, o2_before = traces.r2 * exp(-dt_s / p.tau_x_s), traces.o2 * exp(-dt_s / p.tau_y_s)
    up = r1_read, p.a2_plus + p.a3_plus * o2_before
    down = p.a2_minus + p.a3_minus * r2_before, o1_read
    dw = _changes(p, weights, pre, post, up, down)
    return TripletTraces(r1, _spiked(r2_before, pre, p), o1, _spiked(o2_before, post, p), waiting), dw


@_step.register
def _with_dopamine(
    p: RewardStdp, traces: RewardTraces, pre: BoolArray, post: BoolArray, weights: FloatArray, dt_s: float
) -> Any:
    rate = 1 / p.tau_eligibility_s + 1 / p.tau_dopamine_s
    # the integral of c d over the tick that ends now
    lasting_s = -np.expm1(-rate * dt_s) / rate
    dw = (p.gain * traces.dopamine * lasting_s) * traces.eligibility
    pair, due = _pair(p.pair, traces.pair, pre, post, weights, dt_s)
    eligibility = traces.eligibility * exp(-dt_s / p.tau_eligibility_s) + due
    dopamine = traces.dopamine * exp(-dt_s / p.tau_dopamine_s)
    return RewardTraces(pair, eligibility, dopamine), _bounded(p.pair, weights, dw)


@_step.register
def _at_reward(
    p: Mstdpet, traces: RewardTraces, pre: BoolArray, post: BoolArray, weights: FloatArray, dt_s: float
) -> Any:
    pair, due = _pair(p.pair, traces.pair, pre, post, weights, dt_s)
    decayed = traces.eligibility * exp(-dt_s / p.tau_eligibility_s)
    eligibility = decayed + due / p.tau_eligibility_s
    dw = (p.gain * traces.dopamine) * eligibility
    return RewardTraces(pair, eligibility, 0.0), _bounded(p.pair, weights, dw)


def _arrived(p: Timing, waiting: BoolArray, pre: BoolArray, post: BoolArray) -> tuple[BoolArray, BoolArray, BoolArray]:
    """The spikes that reach the synapses in this tick, and those that are on their way after it."""
    if not len(waiting):
        return pre, post, waiting
    late, sent = waiting[0], (pre if p.delay == "axonal" else post)
    rest = np.concatenate([waiting[1:], sent[None]])
    return (late, post, rest) if p.delay == "axonal" else (pre, late, rest)


def _raised(
    trace: FloatArray, spikes: BoolArray, tau_s: float, dt_s: float, p: Timing, branch: SameTick
) -> tuple[FloatArray, FloatArray]:
    """A trace after this tick, and as the branch that reads it sees it: with this tick's spikes or without."""
    before = trace * exp(-dt_s / tau_s)
    after = _spiked(before, spikes, p)
    return after, after if p.same_tick in (branch, "both") else before


def _spiked(trace: FloatArray, spikes: BoolArray, p: Timing) -> FloatArray:
    return trace + spikes if p.pairing == "all" else np.where(spikes, 1.0, trace)


Factors = tuple[FloatArray, FloatArray]


def _changes(p: Timing, weights: FloatArray, pre: BoolArray, post: BoolArray, up: Factors, down: Factors) -> FloatArray:
    """dw[rows, cols]: products of factors ([rows], [cols]), `up` in the columns that spike, `down` in the rows."""
    dw = np.zeros((len(pre), len(post)))
    if weights.shape != dw.shape:
        raise UsageError(f"weights have shape {weights.shape}, the spikes are of {len(pre)} rows and {len(post)} cols")
    if post.any():
        dw[:, post] += np.outer(up[0], up[1][post]) * _dependence(p, weights[:, post], 1)
    if pre.any():
        dw[pre] -= np.outer(down[0][pre], down[1]) * _dependence(p, weights[pre], -1)
    return _bounded(p, weights, dw)


def _dependence(p: Timing, weights: FloatArray, sign: int) -> Any:
    """(1 - x)^mu for potentiation, x^mu for depression; a weight read beyond a bound counts as at the bound."""
    if p.mu == 0:
        return 1.0
    x = np.clip((weights - p.w_min) / (p.w_max - p.w_min), 0.0, 1.0)
    return (1 - x if sign > 0 else x) ** p.mu


def _bounded(p: Timing, weights: FloatArray, dw: FloatArray) -> FloatArray:
    """dw cut off at the bounds; a weight that lies beyond one (by noise) is not moved by that alone."""
    if p.w_min == -inf and p.w_max == inf:
        return dw
    room_up, room_down = np.maximum(p.w_max - weights, 0.0), np.minimum(p.w_min - weights, 0.0)
    cut: FloatArray = np.clip(dw, room_down, room_up)
    return cut


# ---------------------------------------------------------------------------------------------------------- closed form

SAME_TIME_S = 1e-12  # times that differ by less are the same time


def window(dt_s: Any, parameters: PairStdp) -> FloatArray:
    """dw(dt) of one lone pair, for dt_s of any shape and a weight far from its bounds (mu = 0).

    dt_s is t_post - t_pre at the neurons; the delay is applied here. At dt = 0 as `same_tick` says.
    """
    p = parameters
    require(p.mu == 0, f"mu = {p.mu}: the window depends on the weight; take mu = 0, or step the rule")
    at_synapse_s = np.asarray(dt_s, dtype=np.float64) + (-p.delay_s if p.delay == "axonal" else p.delay_s)
    causal, acausal = _sides(at_synapse_s, p)
    up = p.a_plus * np.exp(-np.abs(at_synapse_s) / p.tau_plus_s)
    down = p.a_minus * np.exp(-np.abs(at_synapse_s) / p.tau_minus_s)
    dw: FloatArray = np.where(causal, up, 0.0) - np.where(acausal, down, 0.0)
    return dw


def of_trains(pre_s: Any, post_s: Any, parameters: PairStdp | Triplet) -> float:
    """dw of two whole spike trains (times in seconds, ascending), by summing over pairs: no traces, no ticks.

    For weights far from their bounds (mu = 0). It is the independent check of `step`, and the theory beside a
    measurement. Sources as for the rule.
    """
    p = parameters
    require(p.mu == 0, f"mu = {p.mu}: the change depends on the weight; take mu = 0, or step the rule")
    pre, post = np.asarray(pre_s, dtype=np.float64), np.asarray(post_s, dtype=np.float64)
    require(bool((np.diff(pre) > 0).all() and (np.diff(post) > 0).all()), "spike times ascend, each once")
    pre, post = (pre + p.delay_s, post) if p.delay == "axonal" else (pre, post + p.delay_s)
    causal, acausal = _sides(post[:, None] - pre[None, :], p)
    r1 = _summed(post[:, None] - pre[None, :], causal, p.tau_plus_s, p)
    o1 = _summed(pre[:, None] - post[None, :], acausal.T, p.tau_minus_s, p)
    if isinstance(p, PairStdp):
        return float(p.a_plus * r1.sum() - p.a_minus * o1.sum())
    o2, r2 = (_summed(t[:, None] - t[None, :], None, tau_s, p) for t, tau_s in ((post, p.tau_y_s), (pre, p.tau_x_s)))
    return float((r1 * (p.a2_plus + p.a3_plus * o2)).sum() - (o1 * (p.a2_minus + p.a3_minus * r2)).sum())


def _sides(dt_s: FloatArray, p: Timing) -> tuple[Any, Any]:
    """Which time differences potentiate, and which depress."""
    same = np.abs(dt_s) < SAME_TIME_S
    causal = ((dt_s > 0) & ~same) | (same & (p.same_tick in ("potentiates", "both")))
    acausal = ((dt_s < 0) & ~same) | (same & (p.same_tick in ("depresses", "both")))
    return causal, acausal


def _summed(age_s: FloatArray, counts: Any, tau_s: float, p: Timing) -> FloatArray:
    """What a trace is at each reading spike, from the ages [reading, earlier] of all spikes; None: those before it."""
    earlier = age_s > SAME_TIME_S if counts is None else counts
    each = np.where(earlier, np.exp(-np.where(earlier, np.abs(age_s), 0.0) / tau_s), 0.0)
    total: FloatArray = each.sum(axis=1) if p.pairing == "all" else each.max(axis=1, initial=0.0)
    return total
