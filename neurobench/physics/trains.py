"""Measured pulse trains -> a device card: cycles and devices into one curve per condition, scatter into noise.

This is the way from a `measure-curve` run to a chip that the emulator replays. Cycles of one device begin at one
level, so they are averaged at equal pulse number. Devices differ in their step, so of them the number of pulses is
averaged that each needs from one conductance to the next. A curve keeps no more detail than its noise supports. Read
noise and step noise are told apart as bench rule 12 says, from the scatter between the cycles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import ValidationError

from neurobench.errors import CurveError
from neurobench.physics.card import (
    Curve,
    DeviceCard,
    Noise,
    Origin,
    ReadProtocol,
    Spread,
    Window,
    WriteCurrent,
    explain,
)
from neurobench.physics.fit import cubic_per_v2, mean_curve, sinh_v0, split_cycles, split_noise
from neurobench.physics.importers import ImportReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neurobench.physics.response import FloatArray

OHMIC = 0.02  # an in-pulse conductance within so much of the one read before it is an ohmic cell's
SURE = 3.0  # standard deviations
GAP = 0.02  # of the whole range
VARIED = 1.5  # a conductance varied by this factor tells a slope
LEAK = 0.05  # a constant part of the in-pulse current from this share on is not the device's
FITS = 0.2  # a law that misses the in-pulse current by more than this, relative, is not written


@dataclass(frozen=True, slots=True)
class Train:
    """One train on one device: conductance_s [n + 1] in siemens, in_pulse_a [n] in amperes (nan: not measured).

    direction: +1 potentiated, -1 depressed. amplitude_v is a magnitude. initialised: it began at its device's start
    level. moved: by more than the noise of its reads.
    """

    device: int
    direction: int
    amplitude_v: float
    width_s: float
    conductance_s: FloatArray
    in_pulse_a: FloatArray
    initialised: bool = True
    moved: bool = True


@dataclass(frozen=True, slots=True)
class About:
    """What a card says besides its numbers. reads_in_point: single reads (polarities x averages) behind each point."""

    name: str
    title: str
    source: str
    notes: str
    read: ReadProtocol
    potentiating_sign: int
    origin: Origin
    reads_in_point: int = 1


class _Condition(NamedTuple):
    """All usable trains of one pulse: one array [cycles, points] for each device."""

    direction: int
    amplitude_v: float
    width_s: float
    devices: tuple[FloatArray, ...]
    currents_a: tuple[FloatArray, ...]


def card_from_trains(trains: Sequence[Train], about: About) -> ImportReport:
    """The card and what to tell about it; CurveError where no train moved, or the card would not be valid."""
    lines: list[str] = []
    conditions = [found for key in _keys(trains) if (found := _condition(trains, key, lines)) is not None]
    if not conditions:
        raise CurveError(f"{about.origin.run}: no train in it moved a device; there is no curve to make a card of")
    read_s, step_s = _noise(conditions, lines)
    one_read_s = read_s * math.sqrt(about.reads_in_point)
    if about.reads_in_point > 1:
        lines.append(
            f"each point is the mean of {about.reads_in_point} reads (polarities x averages): one read has "
            f"{one_read_s:.3g} S, and so has the card"
        )
    curves = [_curve(condition, (read_s, step_s), about.potentiating_sign, lines) for condition in conditions]
    _tell_gaps(curves, lines)
    spread = _spread(conditions, lines)
    current = _write_current(trains, about.read.voltage_v, lines)
    try:
        card = DeviceCard(
            name=about.name, title=about.title, source=about.source, notes=about.notes, model="measured",
            potentiating_sign=1 if about.potentiating_sign > 0 else -1, read=about.read, spread=spread,
            window=_window(curves, conditions[0]),
            noise=Noise(read_sigma_s=one_read_s, step_sigma_s=step_s),
            write_current=current, origin=about.origin, curve=tuple(curves),
        )  # fmt: skip
    except ValidationError as error:
        raise explain(error, about.origin.run, DeviceCard) from None
    return ImportReport(card, tuple(lines), {})


Key = tuple[int, float, float]


def _keys(trains: Sequence[Train]) -> list[Key]:
    """Conditions in the order of a card: potentiation first, then ascending amplitude and width."""
    keys = {(train.direction, train.amplitude_v, train.width_s) for train in trains}
    return sorted(keys, key=lambda key: (-key[0], key[1], key[2]))


def _words(direction: int, amplitude_v: float, width_s: float) -> str:
    return f"{'potentiate' if direction > 0 else 'depress'} {amplitude_v:g} V, {width_s:g} s"


def _condition(trains: Sequence[Train], key: Key, lines: list[str]) -> _Condition | None:
    """The trains of one pulse that can be used; what was left out is told."""
    own = [t for t in trains if (t.direction, t.amplitude_v, t.width_s) == key]
    moved = [t for t in own if t.moved and t.conductance_s.size > 1]
    used = [t for t in moved if t.initialised] or moved
    said = [f"{len(own) - len(moved)} did not move"] if len(moved) < len(own) else []
    said += [f"{len(moved) - len(used)} did not begin at the start level"] if len(used) < len(moved) else []
    said += ["none began at the start level"] if used and not used[0].initialised else []
    lines.append(f"{_words(*key)}: {len(used)} of {len(own)} trains used" + "".join(f"; {text}" for text in said))
    if not used:
        return None
    devices = sorted({t.device for t in used})
    groups = [[t for t in used if t.device == device] for device in devices]
    shortest = [min(t.conductance_s.size for t in group) for group in groups]
    points = tuple(np.array([t.conductance_s[:n] for t in group]) for group, n in zip(groups, shortest, strict=True))
    currents = tuple(
        np.array([t.in_pulse_a[: n - 1] for t in group]) for group, n in zip(groups, shortest, strict=True)
    )
    return _Condition(*key, points, currents)


def _curve(condition: _Condition, noise: tuple[float, float], potentiating_sign: int, lines: list[str]) -> Curve:
    """One representative train: the mean of the cycles; over several devices, of the median device."""
    means = [_knotted(cycles, noise) for cycles in condition.devices]
    points_s, currents = means[0], _mean_currents(condition) if len(means) == 1 else None
    how = "mean"
    if len(means) > 1:
        typical_s = _median_device(means, condition.direction)
        shortest = min(one.size for one in means)
        points_s = np.mean([one[:shortest] for one in means], axis=0) if typical_s is None else typical_s
        how = "mean at equal conductance" if typical_s is not None else "mean at equal pulse number (no common range)"
    words = _words(condition.direction, condition.amplitude_v, condition.width_s)
    cycles = sum(len(one) for one in condition.devices)
    lines.append(
        f"{words}: {points_s.size} points, {points_s[0]:.4g} -> {points_s[-1]:.4g} S, {how} of {cycles} trains on "
        f"{len(means)} device{'s' if len(means) > 1 else ''}"
    )
    return Curve(
        direction="potentiate" if condition.direction > 0 else "depress",
        amplitude_v=condition.direction * potentiating_sign * condition.amplitude_v,
        width_s=condition.width_s,
        conductance_s=tuple(points_s.tolist()),
        in_pulse_a=currents,
    )


def _tell_gaps(curves: Sequence[Curve], lines: list[str]) -> None:
    """Say where one direction was measured and the other was not: there the card knows no step and holds."""
    reach = {
        sign: (min(ends), max(ends))
        for sign in (1, -1)
        if (ends := [float(level) for c in curves if c.sign == sign for level in c.points()[[0, -1]]])
    }
    if len(reach) == 1:
        only, other = ("potentiation", "depress") if 1 in reach else ("depression", "potentiate")
        lines.append(f"only {only} was measured: an emulated chip of this card does not {other}")
        return
    span_s = max(high for _, high in reach.values()) - min(low for low, _ in reach.values())
    if reach[-1][0] > reach[1][0] + GAP * span_s:
        lines.append(f"depression was measured down to {reach[-1][0]:.4g} S only: below, the card does not depress")
    if reach[1][1] < reach[-1][1] - GAP * span_s:
        lines.append(f"potentiation was measured up to {reach[1][1]:.4g} S only: above, the card does not potentiate")


def _window(curves: Sequence[Curve], first: _Condition) -> Window | None:
    """All that the curves went through, and where a typical device stood before its first pulse."""
    every_s = np.concatenate([curve.points() for curve in curves])
    start_s = float(np.median([one[0, 0] for one in first.devices]))
    low_s, high_s = min(float(every_s.min()), start_s), max(float(every_s.max()), start_s)
    return Window(g_min_s=low_s, g_max_s=high_s, g_start_s=start_s) if low_s < high_s else None


def _mean_currents(condition: _Condition) -> tuple[float, ...] | None:
    """Mean current in each pulse over the cycles of a lone device; None where it was not measured."""
    mean_a = condition.currents_a[0].mean(axis=0)
    return tuple(mean_a.tolist()) if mean_a.size and np.isfinite(mean_a).all() else None


def _knotted(cycles_s: FloatArray, noise: tuple[float, float]) -> FloatArray:
    """Mean [points] of the cycles of one device, straight between the pulses at which it is sure to have moved on.

    A device whose step scatters wanders over its curve: ups and downs of the curve that are noise would speed it up. So
    a piece goes on until it has moved by 3 sigma of what noise can move the mean of these cycles in as many pulses.
    """
    mean_s = cycles_s.mean(axis=0)
    (read_s, step_s), last = noise, mean_s.size - 1
    knots = [0]
    for n in range(1, mean_s.size):
        sigma_s = math.sqrt((2 * read_s**2 + (n - knots[-1]) * step_s**2) / len(cycles_s))
        if abs(mean_s[n] - mean_s[knots[-1]]) >= SURE * sigma_s:
            knots.append(n)
    if knots[-1] != last:  # what is left is not sure by itself: it belongs to the piece before it
        knots = [*knots[: max(1, len(knots) - 1)], last]
    return np.asarray(np.interp(np.arange(mean_s.size), knots, mean_s[knots]), dtype=np.float64)


def _median_device(means: Sequence[FloatArray], direction: int) -> FloatArray | None:
    """The train of the median device, over all that any of them went through; None where they have no common range.

    Over steps of conductance, the pulses that each device needs are averaged after dividing by how slow it is.
    """
    counts = _pulses_needed(means, direction)
    if counts is None:
        return None
    slow = counts / np.exp(np.mean(np.log(counts)))
    passed = [_passage(one, direction) for one in means]
    grid = np.linspace(min(levels[0] for levels, _ in passed), max(levels[-1] for levels, _ in passed), 512)
    times = np.array([np.interp(grid, *one, left=np.nan, right=np.nan) for one in passed]) / slow[:, None]
    pulses = np.concatenate([[0.0], np.cumsum(np.nanmean(np.diff(times, axis=1), axis=0))])
    whole = np.arange(math.floor(pulses[-1] + 1e-9) + 1.0)
    return np.asarray(direction * np.interp(whole, pulses, grid), dtype=np.float64) if whole.size > 1 else None


def _passage(mean_s: FloatArray, direction: int) -> tuple[FloatArray, FloatArray]:
    """Levels (rising, times the direction) that a train passes, and the pulse number of each, without its flat ends."""
    rising = direction * mean_curve(mean_s, direction)
    first, last = int(np.flatnonzero(rising == rising[0])[-1]), int(np.flatnonzero(rising == rising[-1])[0])
    return rising[first : last + 1], np.arange(first, last + 1.0)


def _noise(conditions: Sequence[_Condition], lines: list[str]) -> tuple[float, float]:
    """Read and step noise of the points [S], from the scatter between cycles; of a lone train about its mean curve."""
    repeated = [one for condition in conditions for one in condition.devices if len(one) > 1 and one.shape[1] > 2]
    if repeated:
        splits, how = [split_cycles(cycles) for cycles in repeated], "between cycles"
    else:
        single = [(one[0], condition.direction) for condition in conditions for one in condition.devices]
        splits, how = [split_noise(points, mean_curve(points, sign)) for points, sign in single], "about the mean curve"
    weights = np.array([float(split.steps) for split in splits])
    read_s, step_s = (
        math.sqrt(float(np.average(np.square(values), weights=weights))) if weights.any() else 0.0
        for values in ([s.read_sigma_s for s in splits], [s.step_sigma_s for s in splits])
    )
    lines.append(f"scatter {how}, {int(weights.sum())} steps: read noise {read_s:.3g} S, step noise {step_s:.3g} S")
    return read_s, step_s


def _spread(conditions: Sequence[_Condition], lines: list[str]) -> Spread:
    """Spread of the step between devices: of the pulses that each needs for the conductances that all went through."""
    found = [_pulses_needed([one.mean(axis=0) for one in c.devices], c.direction) for c in conditions]
    logs = [np.log(counts) for counts in found if counts is not None]
    if not logs:
        default = Spread()
        lines.append(
            "step spread between devices: not measured (it needs two devices that went through the same conductances); "
            f"the card's default of {default.step_lognormal:g} stands"
        )
        return default
    freedom = sum(log.size - 1 for log in logs)
    sigma = math.sqrt(sum(float(np.sum((log - log.mean()) ** 2)) for log in logs) / freedom)
    lines.append(f"step spread between devices: lognormal sigma {sigma:.3f}, from the pulses needed for equal ways")
    return Spread(step_lognormal=round(min(sigma, 3.0), 4))


def _pulses_needed(means: Sequence[FloatArray], direction: int) -> FloatArray | None:
    """Pulses [devices] from one conductance to another that every device passed; None where there are none such."""
    passed = [_passage(one, direction) for one in means]
    if len(passed) < 2 or min(levels.size for levels, _ in passed) < 2:
        return None
    low, high = max(levels[0] for levels, _ in passed), min(levels[-1] for levels, _ in passed)
    if not low < high:
        return None
    counts = np.array([float(np.interp(high, *one) - np.interp(low, *one)) for one in passed])
    return counts if counts.min() > 0 else None


def _write_current(trains: Sequence[Train], read_v: float, lines: list[str]) -> WriteCurrent | None:
    """I(V) from the currents in the pulses, relative to the conductance read before each (bench rule 11)."""
    seen: dict[tuple[float, int], list[FloatArray]] = {}
    for train in trains:
        before_s = train.conductance_s[: train.in_pulse_a.size]
        good = np.isfinite(train.in_pulse_a) & (train.in_pulse_a > 0) & (before_s > 0)
        points = np.stack([before_s[good], train.in_pulse_a[good] / train.amplitude_v])
        seen.setdefault((train.amplitude_v, train.device), []).append(points)
    logs: dict[float, list[float]] = {}
    leaks: list[float] = []
    for (volts, _), parts in sorted(seen.items(), key=lambda item: item[0]):
        before_s, chord_s = np.concatenate(parts, axis=1)
        if before_s.size and volts > read_v:
            ratio, leak = _chord_ratio(before_s, chord_s)
            logs.setdefault(volts, []).append(math.log(ratio))
            leaks += [leak] if leak else []
    if leaks:
        lines.append(
            f"in-pulse currents hold {np.mean(leaks):.0%} that does not follow the conductance of the pulsed cell, "
            "such as half-selected cells on the same line: left out of I(V); in_pulse_a is as measured"
        )
    known = {volts: math.exp(float(np.mean(each))) for volts, each in logs.items()}
    if not known:
        lines.append("current in the pulse: not measured, so current and energy of this card are unknown")
        return None
    told = ", ".join(f"{ratio:.4g} at {volts:g} V" for volts, ratio in known.items())
    errors = [(_misses(law, known, read_v), law) for law in _laws(known, read_v)]
    # to a millionth: one amplitude is held by every law, and then the first of them is taken
    fits = sorted((fit for fit in errors if fit[0] < FITS), key=lambda fit: round(fit[0], 6))
    if not fits:
        lines.append(f"in-pulse over read conductance: {told}; no law of a card holds them, so none is written")
        return None
    error, law = fits[0]
    alone = " (one amplitude does not tell the laws apart)" if len(known) == 1 and law.law != "ohmic" else ""
    lines.append(f"in-pulse over read conductance: {told}; I(V) = {law.law} law{alone}, within {error:.1%} there")
    return law


def _chord_ratio(before_s: FloatArray, chord_s: FloatArray) -> tuple[float, float]:
    """In-pulse over read conductance of one device at one amplitude, and the share of a constant part (0: none).

    Where the conductance was varied enough, the slope tells the ratio and what is left at G = 0 flows elsewhere.
    """
    plain = math.exp(float(np.mean(np.log(chord_s / before_s))))
    if before_s.size < 8 or before_s.max() < VARIED * before_s.min():
        return plain, 0.0
    slope, rest = np.polyfit(before_s, chord_s, 1)
    share = float(rest / chord_s.mean())
    return (float(slope), share) if share > LEAK and slope > 0 else (plain, 0.0)


def _laws(known: dict[float, float], read_v: float) -> list[WriteCurrent]:
    """The laws that could hold the ratios {volts: ratio}; each with the mean of what the amplitudes say."""
    laws = [WriteCurrent(law="ohmic")] if all(abs(math.log(ratio)) < OHMIC for ratio in known.values()) else []
    above = {volts: ratio for volts, ratio in known.items() if ratio > 1 + OHMIC}
    if above:
        v0s = [math.log(sinh_v0(ratio, volts, read_v)) for volts, ratio in above.items()]
        laws.append(WriteCurrent(law="sinh", v0_v=math.exp(float(np.mean(v0s)))))
    cubic = [cubic_per_v2(r, v, read_v) for v, r in above.items() if r * read_v**2 < v**2]
    if cubic and len(cubic) == len(above):
        laws.append(WriteCurrent(law="cubic", cubic_per_v2=float(np.mean(cubic))))
    return laws


def _misses(law: WriteCurrent, known: dict[float, float], read_v: float) -> float:
    """Largest relative error of a law over what was measured."""
    return max(abs(math.log(law.factor(volts, read_v) / ratio)) for volts, ratio in known.items())
