"""Can it be learned at all? Answered before the first pulse, in one sentence (bench rules 17 and 18).

A linear programme over the bounds of every weight gives the largest margin that any training could reach. From it
follow beta, the averaging of the reads, and what is missing. Decision record: docs/decisions/0031-preflight.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atanh, ceil, inf, isfinite, isnan
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import block_diag
from scipy.optimize import linprog

from neurobench.bench.steps import DeviceSpan
from neurobench.bench.stimulus import BoolArray, FloatArray

from .synapses import Pairs, Writes

GOAL_SHARE = (
    0.5  # of the reachable margin: training aims at this current, which leaves room for the spread of the steps
)
NOISE_SHARE = 0.15  # of the reachable margin: the required number of sigmas may take up so much


TOGETHER = 20_000  # entries of a programme for all neurons at once


class Bounds(NamedTuple):
    """How far each weight [inputs, neurons] can be brought, in siemens, from its start at zero; and on whose word."""

    low_s: FloatArray
    high_s: FloatArray
    basis: str


def cell_reach(
    grid_s: FloatArray, span: DeviceSpan, pulses_left: FloatArray, pulses_used: Any, pulses: int
) -> tuple[FloatArray, FloatArray, str]:
    """By how much each cell [rows, cols] can rise and fall within `pulses`, in siemens, and the basis of that.

    The declared curve is absolute where the cells lie on it. Where they lie beyond it (a chip with offsets) it is
    taken from where the pulses that a cell has had would have brought it, or, on devices that also depress, from
    its start; the basis then says "assumed".
    """
    left = np.minimum(pulses_left, pulses)
    slack = 0.05 * (span.g_max_s - span.g_min_s)
    on_curve = bool(np.nanmin(grid_s) >= span.g_min_s - slack and np.nanmax(grid_s) <= span.g_max_s + slack)
    state = np.clip(grid_s, span.g_min_s, span.g_max_s) if on_curve else _assumed_state(span, pulses_used)
    up = _gain(np.array(span.potentiation_s), state, left, span.g_max_s - state, span.g_step_s)
    down = np.zeros_like(up)
    if span.depresses:
        down = _gain(-np.array(span.depression_s), -state, left, state - span.g_min_s, span.g_step_s)
    return up, down, span.basis if on_curve else "assumed"


def _assumed_state(span: DeviceSpan, pulses_used: Any) -> FloatArray:
    """Where on the declared curve each cell [rows, cols] is, by the pulses that it has had."""
    if not span.potentiation_s:
        return np.full(pulses_used.shape, span.g_min_s)
    rising = np.maximum.accumulate(np.array(span.potentiation_s))
    state: FloatArray = rising[np.minimum(0 if span.depresses else pulses_used, len(rising) - 1)]
    return np.broadcast_to(state, pulses_used.shape)


def _gain(curve_s: FloatArray, state_s: FloatArray, left: FloatArray, room_s: FloatArray, step_s: float) -> FloatArray:
    """Gain of so many pulses along a rising mean curve from each state; without a curve, steps of one size."""
    if len(curve_s) < 2:
        linear = left * step_s if isfinite(step_s) else np.where(left > 0, inf, 0.0)
        return np.maximum(np.minimum(linear, room_s), 0.0)
    rising = np.maximum.accumulate(curve_s)
    last = len(rising) - 1
    at = np.minimum(np.searchsorted(rising, state_s - 1e-12 * abs(rising[-1])), last)
    known = np.minimum(left, last - at)
    gain = np.maximum(rising[at + known.astype(np.int64)] - np.maximum(state_s, rising[0]), 0.0)
    # a declared curve may end before the device does: from there on with its last step
    gain = gain + (left - known) * (rising[-1] - rising[-2])
    bounded: FloatArray = np.clip(gain, 0.0, np.maximum(room_s, 0.0))
    return bounded


def bounds(pairs: Pairs, reach: tuple[FloatArray, FloatArray, str], writes: Writes) -> Bounds:
    """Bounds of the weights; cells that may not be pulsed do not move."""
    up, down = (np.where(pairs.usable, grid, 0.0) for grid in reach[:2])
    high, low = pairs.plus_of(up), pairs.minus_of(up)
    if writes == "set_reset":
        high, low = high + pairs.minus_of(down), low + pairs.plus_of(down)
    return Bounds(-low, high, reach[2])


def largest_margin_a(
    volts: FloatArray, targets: FloatArray, within: Bounds, start_s: FloatArray | None = None
) -> float:
    """The largest current m such that weights within the bounds give s I >= m on every pattern and neuron, in amperes.

    volts [n, inputs], targets [n, neurons]; `start_s` [inputs, neurons]: weights that are there before training and
    not zeroed. Linear programme: maximise t subject to s_n (V_n . w) >= t for every neuron, low <= w <= high. Neurons
    share nothing but t, so small tasks are one programme (its set-up costs more than its solution), large ones one
    each.
    """
    low, high = within.low_s, within.high_s
    if start_s is not None:
        low, high = low + start_s, high + start_s
    scale_s, scale_v = float(np.abs([low, high]).max()), float(np.abs(volts).max())
    if scale_s == 0 or scale_v == 0:
        return 0.0
    blocks = [-volts * targets[:, k : k + 1] / scale_v for k in range(targets.shape[1])]
    if volts.size * targets.shape[1] ** 2 <= TOGETHER:
        best = _margin(block_diag(*blocks), low.T.ravel() / scale_s, high.T.ravel() / scale_s)
    else:
        best = min(_margin(blocks[k], low[:, k] / scale_s, high[:, k] / scale_s) for k in range(len(blocks)))
    return best * scale_s * scale_v


def _margin(against: FloatArray, low: FloatArray, high: FloatArray) -> float:
    """The largest t with against . w + t <= 0 and low <= w <= high."""
    cost = np.append(np.zeros(len(low)), -1.0)
    rows = np.column_stack([against, np.ones(len(against))])
    limits: Any = np.column_stack([np.append(low, -np.inf), np.append(high, np.inf)])
    answer = linprog(cost, A_ub=rows, b_ub=np.zeros(len(rows)), bounds=limits, method="highs")
    assert answer.x is not None, "a box of weights is never empty"
    return float(answer.x[-1])


class Setting(NamedTuple):
    """What is asked of the run: numbers that the preflight may not change (None: to be chosen).

    `every_pattern`: the goal is a statement about each of them, not an accuracy. `typical_a`: current to aim at
    where no margin on every pattern is reachable or asked for. `coarse`: the noise is the rounding of a converter,
    which does not average out.
    """

    beta_per_a: float | None
    averages: int | None
    goal: float
    margin_sigma: float
    max_averages: int
    read_v: float
    max_read_v: float
    auto_zero: bool
    every_pattern: bool
    typical_a: float
    coarse: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the preflight found and chose. Currents in amperes.

    `reachable_a` and `without_zero_a`: the largest margins with auto-zero, and without it where it is off;
    `needed_a`: what the criterion asks at the chosen averaging; `sentence` says what is missing and what would fix
    it.
    """

    reachable_a: float
    without_zero_a: float | None
    needed_a: float
    goal_a: float
    beta_per_a: float
    averages: int
    ok: bool
    basis: str
    sentence: str


def decide(setting: Setting, reachable_a: float, without_zero_a: float | None, sigma_a: float, basis: str) -> Verdict:
    """Choose beta and averaging, and say whether the goal is within reach; `sigma_a`: noise of one unaveraged read."""
    best = reachable_a if setting.auto_zero or without_zero_a is None else without_zero_a
    usable = best if best > 0 and setting.every_pattern else setting.typical_a
    averages = setting.averages or _averages(setting, usable, sigma_a)
    needed = setting.margin_sigma * sigma_a / (1.0 if setting.coarse else averages**0.5)
    aim = min(max(GOAL_SHARE * usable, needed), 0.9 * usable) if usable > 0 else max(needed, 1e-12)
    beta = setting.beta_per_a or atanh(setting.goal) / aim
    goal_a = atanh(setting.goal) / beta
    sentence, ok = _sentence(setting, best, reachable_a, needed, goal_a, basis, averages)
    if not ok and not setting.every_pattern:
        sentence, ok = f"{sentence}; the goal is an accuracy, so training can go on", True
    return Verdict(reachable_a, without_zero_a, needed, goal_a, beta, averages, ok, basis, sentence)


def _averages(setting: Setting, best_a: float, sigma_a: float) -> int:
    if sigma_a == 0 or isnan(sigma_a) or setting.coarse:
        return 1
    if best_a <= 0:
        return setting.max_averages
    wanted = ceil((setting.margin_sigma * sigma_a / (NOISE_SHARE * best_a)) ** 2)
    return min(max(wanted, 1), setting.max_averages)


def _sentence(
    setting: Setting, best_a: float, zeroed_a: float, needed_a: float, goal_a: float, basis: str, averages: int
) -> tuple[str, bool]:
    """One sentence, and whether it is good news."""
    bounds_said = f"{basis} bounds of the cells"
    if best_a <= 0 and zeroed_a > 0:
        return (
            f"not reachable: the cells start so unequal that no pulses within the {bounds_said} give every pattern "
            f"the right sign; auto_zero=true would, with up to {amps(zeroed_a)} of margin"
        ), False
    if best_a <= 0:
        return (
            f"not reachable: no weights within the {bounds_said} give every pattern the right sign; "
            "a bias row, a second layer, spare lines in place of bad cells or more range would be needed"
        ), False
    if needed_a > best_a:
        return _noise_sentence(setting, best_a, needed_a, averages, bounds_said), False
    if goal_a > best_a:
        return (
            f"not reachable: the goal f = {setting.goal:g} asks for {amps(goal_a)} on every pattern, the "
            f"{bounds_said} allow {amps(best_a)}; "
            f"beta_per_a >= {atanh(setting.goal) / best_a:.3g} would bring it within reach"
            + ("" if setting.auto_zero or zeroed_a < goal_a else ", and so would auto_zero=true")
        ), False
    return (
        f"reachable: the {bounds_said} allow a margin of {amps(best_a)} on every pattern, and "
        f"{setting.margin_sigma:g} sigma of a read with {averages} averages are {amps(needed_a)}"
    ), True


def _noise_sentence(setting: Setting, best_a: float, needed_a: float, averages: int, bounds_said: str) -> str:
    factor = needed_a / best_a
    volts = setting.read_v * factor
    if setting.coarse:
        return (
            f"not reachable: the {bounds_said} allow a margin of {amps(best_a)}, but {setting.margin_sigma:g} sigma of "
            f"the ammeter's rounding are {amps(needed_a)}, which averaging does not lower; a finer range, more bits or "
            f"read_v >= {volts:.2g} V would bring it within reach"
        )
    louder = f" or read_v >= {volts:.2g} V" if volts <= setting.max_read_v else ""
    return (
        f"not reachable: the {bounds_said} allow a margin of {amps(best_a)}, but {setting.margin_sigma:g} sigma of a "
        f"read with {averages} averages are {amps(needed_a)}; averages >= {ceil(averages * factor**2)}{louder} "
        "would bring it within reach"
    )


def amps(current_a: float) -> str:
    """A current for a sentence, with the prefix that suits it."""
    for prefix, unit_a in (("", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9)):
        if abs(current_a) >= unit_a:
            return f"{current_a / unit_a:.3g} {prefix}A"
    return f"{current_a * 1e9:.2g} nA"


# A cell above so many times the top of its curve is a short. Cells scatter about their curve by some ten per cent
# (a lognormal spread of 0.3 reaches 2.5 once in a thousand cells); a failed insulator, 1 kohm, is 3.2 times the top
# of the most conducting device of the library (316 uS).
SHORT = 2.5
HOPELESS = 100.0  # the seed's invented offsets reach 2.3 times its scaled curve


def suspicious(grid_s: FloatArray, sigma_s: float, span: DeviceSpan) -> tuple[BoolArray, BoolArray]:
    """Dead and shorted cells of a read grid [rows, cols]: below a tenth, or above SHORT times, what is declared.

    Where nothing is declared, or noise hides a tenth of it, a dead cell cannot be told from a high-ohmic one by
    reading; the retirement rule finds it later. A chip may lie above its curve as a whole, by its offsets: then only
    what stands out from the rest, by ten times its lower quartile, is called a short; and anything HOPELESS times the
    curve, which no offset explains, also where all cells are.
    """
    lowest = span.g_min_s if isfinite(span.g_min_s) else 0.0
    top = span.g_max_s if isfinite(span.g_max_s) else 0.0
    largest = SHORT * top
    if float(np.nanmedian(grid_s)) > top:
        largest = max(largest, 10 * float(np.nanquantile(grid_s, 0.25)))
        largest = min(largest, HOPELESS * top) if top > 0 else largest
    return grid_s + 3 * sigma_s < lowest / 10, grid_s - 3 * sigma_s > largest
