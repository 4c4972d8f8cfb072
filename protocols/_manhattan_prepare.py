"""What Manhattan does before its first pulse: look at the cells and the noise, decide, read the zeros."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurobench.bench.crossbar import Reading
from neurobench.bench.steps import Note, Sense, Step
from neurobench.bench.stimulus import FloatArray
from neurobench.learning import preflight
from neurobench.learning.synapses import (
    Pairs,
    book,
    count_reads,
    fire,
    grid_of,
    multiplier,
)

from ._manhattan_setup import Setup, State, layout

PROBES = 4  # reads of every cell before the first pulse
NOISE_READS = 8  # reads of all patterns before the first pulse
ZERO_EFFORT = 4  # the zeros are averaged so much more than a read: they err the same way every time


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen before the first pulse: mean conductances [rows, cols], noise of one unaveraged read.

    `coarse`: what hides the noise is the rounding of a converter, as the bench declares it; `over_range_a`: the
    ammeter's range in amperes if some read went over it, else 0.
    """

    grid_s: FloatArray
    cell_sigma_s: float
    read_sigma_a: float
    coarse: bool = False
    over_range_a: float = 0.0


def _look(setup: Setup, cost: dict[str, float]) -> Generator[Step, Any, _Look]:
    """Read every cell a few times, and all patterns a few times, to see the cells and the noise."""
    read = setup.all_cells(1)
    readings: list[Reading] = []
    for _ in range(PROBES):
        readings.append((yield Sense(read)))
        count_reads(cost, readings[-1])
    stack, reading = np.array([grid_of(read, one) for one in readings]), readings[-1]
    declared_s = reading.sigma_a / (setup.p.read_v * len(reading.currents_a) ** 0.5)
    cell_sigma_s, coarse = _seen_or_declared(stack, declared_s)
    over_a = max((one.range_a for one in readings if "over_range" in one.flags), default=0.0)
    if setup.where == "host" or setup.p.layers == 2:
        return _Look(stack.mean(axis=0), cell_sigma_s, cell_sigma_s * 2**0.5 * _largest_v(setup), coarse, over_a)
    pairs = layout(setup, setup.view.excluded)[0]
    repeats = np.tile(setup.volts, (NOISE_READS, 1))
    prepared = multiplier(pairs, repeats, "array", setup.settings(1))
    reading = yield prepared.sense
    count_reads(cost, reading)
    product = prepared.of(reading)
    currents = product.currents_a.reshape(NOISE_READS, *setup.targets.shape)
    sigma_a, coarse = _seen_or_declared(currents, product.sigma_a)
    over_a = reading.range_a if "over_range" in reading.flags else over_a
    return _Look(stack.mean(axis=0), cell_sigma_s, sigma_a, coarse, over_a)


def _seen_or_declared(repeats: FloatArray, declared: float) -> tuple[float, bool]:
    """Noise of one of the repeated reads [reads, ...]; the declared one, and True, where rounding hides the noise."""
    seen = float(np.sqrt(repeats.var(axis=0, ddof=1).mean()))
    coarse = seen < declared / 2
    return (declared if coarse else seen), coarse


def prepare(setup: Setup, rng: np.random.Generator) -> Generator[Step, Any, State]:
    """Everything before the first pulse: see the cells, decide, read the zeros."""
    p, shape = setup.p, setup.view.shape
    state = State(
        epoch=0, zeros_s=[], bad=setup.view.excluded.copy(), retired=np.zeros(shape, np.bool_),
        since=np.zeros(shape, np.int32), reference_s=np.full(shape, np.nan), pulses=np.zeros(shape, np.int64),
        grid_s=np.full(shape, np.nan), beta_per_a=p.beta_per_a or 0.0, hidden_beta_per_a=0.0, averages=p.averages or
        1, noise=[0.0, 0.0], cell_sigma_s=0.0, errors=[], accuracies=[], verdict={},
        order_key=int(rng.integers(2**62)), cost={"reads": 0.0, "read_s": 0.0, "pulses": 0.0, "write_s": 0.0},
    )  # fmt: skip
    yield Note("targets", setup.targets * p.target)
    if p.preflight or p.auto_zero or setup.goal == "margin":
        yield from _decide(setup, state)
    pairs = layout(setup, state.bad)
    state.zeros_s = [np.zeros((len(layer.rows), len(layer.plus))) for layer in pairs]
    if p.auto_zero:
        yield from _zero(setup, state, pairs)
    scatter = 4 * (p.layers - 1) if p.scatter is None else p.scatter
    if scatter:
        yield from _scatter(setup, state, pairs, rng.integers(-scatter, scatter + 1, shape))
    return state


def _decide(setup: Setup, state: State) -> Generator[Step, Any, None]:
    p, device = setup.p, setup.view.device
    seen = yield from _look(setup, state.cost)
    dead, shorted = preflight.suspicious(seen.grid_s, seen.cell_sigma_s, device)
    state.bad |= dead | shorted
    state.grid_s, state.reference_s, state.cell_sigma_s = seen.grid_s, seen.grid_s, seen.cell_sigma_s
    pairs = layout(setup, state.bad)
    view = setup.view
    reach = preflight.cell_reach(seen.grid_s, device, view.pulses_left, view.pulses_used, p.max_updates)
    within = preflight.bounds(pairs[-1], reach, setup.writes)
    setting = preflight.Setting(
        p.beta_per_a, p.averages, p.target, p.margin_sigma, p.max_averages, p.read_v, setup.view.limits.max_read_v,
        p.auto_zero, setup.goal != "accuracy", _typical_a(setup, within), seen.coarse,
    )  # fmt: skip
    verdict = _verdict(setup, pairs, within, seen, setting)
    if seen.over_range_a:
        said = f"not known: reads went over the ammeter's range of {preflight.amps(seen.over_range_a)}"
        fix = "a wider range ([readout] adc_range_a) or a lower read_v would show what can be reached"
        verdict = replace(verdict, ok=False, sentence=f"{said}; {fix}")
    state.beta_per_a, state.averages = verdict.beta_per_a, verdict.averages
    state.hidden_beta_per_a = 1.0 / max(_typical_a(setup, preflight.bounds(pairs[0], reach, setup.writes)), 1e-15)
    zeroed = (2 / (ZERO_EFFORT * verdict.averages)) ** 0.5 if p.auto_zero else 0.0
    zero_a = _largest_v(setup) * seen.cell_sigma_s * zeroed
    state.noise = [seen.read_sigma_a / (1.0 if seen.coarse else verdict.averages**0.5), zero_a]
    state.verdict = {name: getattr(verdict, name) for name in preflight.Verdict.__slots__}
    state.verdict |= {
        "sigma_a": seen.read_sigma_a, "cell_sigma_s": seen.cell_sigma_s, "dead": int(dead.sum()),
        "shorted": int(shorted.sum()), "excluded": int(setup.view.excluded.sum()),
    }  # fmt: skip
    yield Note("preflight", dict(state.verdict))


def _typical_a(setup: Setup, within: preflight.Bounds) -> float:
    """Current of a pattern when half of the weights' range pulls at random: r.m.s. over the inputs."""
    inputs = len(within.high_s)
    return 0.5 * setup.p.read_v * float(within.high_s.mean() - within.low_s.mean()) / 2 * float(np.sqrt(inputs))


def _largest_v(setup: Setup) -> float:
    """Root of the summed squares of the voltages that one output sees at most."""
    if setup.p.layers == 2:
        return setup.p.read_v * float(np.sqrt(setup.p.hidden + 1))
    return float(np.sqrt((setup.volts**2).sum(axis=1).max()))


def _verdict(
    setup: Setup, pairs: tuple[Pairs, ...], within: preflight.Bounds, seen: _Look, setting: preflight.Setting
) -> preflight.Verdict:
    typical_a = setting.typical_a
    if len(pairs) == 2:
        verdict = preflight.decide(setting, typical_a, typical_a, seen.read_sigma_a, "assumed")
        said = f"two layers, so no linear programme: {preflight.amps(typical_a)} taken as a typical margin (assumed)"
        return replace(verdict, sentence=said)
    if not setup.p.preflight:
        verdict = preflight.decide(setting, typical_a, typical_a, seen.read_sigma_a, "assumed")
        return replace(verdict, sentence="no preflight asked for: only the noise was measured")
    start = pairs[0].weights(seen.grid_s)
    zeroed = preflight.largest_margin_a(setup.volts, setup.targets, within)
    raw = None if setup.p.auto_zero else preflight.largest_margin_a(setup.volts, setup.targets, within, start)
    return preflight.decide(setting, zeroed, raw, seen.read_sigma_a, within.basis)


def _zero(setup: Setup, state: State, pairs: tuple[Pairs, ...]) -> Generator[Step, Any, None]:
    averages = ZERO_EFFORT * state.averages
    read = setup.all_cells(averages)
    reading = yield Sense(read)
    count_reads(state.cost, reading, averages)
    state.grid_s = grid_of(read, reading)
    state.reference_s = state.grid_s
    state.zeros_s = [layer.weights(state.grid_s) for layer in pairs]


def _scatter(setup: Setup, state: State, pairs: tuple[Pairs, ...], wish: Any) -> Generator[Step, Any, None]:
    """Random pulses, so that hidden neurons differ: with all weights at zero no error would come back."""
    counts = np.zeros(setup.view.shape, np.int8)
    for layer in pairs:
        layer.nudge(layer.plus_of(wish).astype(np.int8), setup.writes, counts)
    yield from apply(setup, state, counts)
    read = setup.all_cells(state.averages)
    reading = yield Sense(read)
    count_reads(state.cost, reading, state.averages)
    state.grid_s = grid_of(read, reading)


def apply(setup: Setup, state: State, counts: Any) -> Generator[Step, Any, None]:
    """Fire these counts[rows, cols] and book them."""
    answers = yield from fire(counts, setup.pulses, setup.bias)
    book(counts, state.pulses, state.since)
    for applied in answers:
        state.cost["pulses"] += applied.pulses
        state.cost["write_s"] += applied.end_s - applied.start_s
