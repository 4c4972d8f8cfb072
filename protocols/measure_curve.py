"""Measure what pulses do to a device: potentiation and depression trains over amplitudes and widths.

A train is: read, then pulse, wait, read at both polarities, again and again. Before each train the device is brought
back to the level that the first train of that direction began at, as far as it can be moved the other way; a device
that cannot be is measured on from where it is, and the record says so. Several cycles and devices tell the scatter of
one pulse from the noise of one read (bench rule 12). `neurobench import-curve RUN -o curve.toml` turns the run into a
device card that the emulator replays; docs/characterise.md.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from neurobench.bench.crossbar import Needs
from neurobench.bench.steps import BenchView, Note, Result, Step, Steps
from neurobench.bench.stimulus import FloatArray, Pulse
from neurobench.errors import CapabilityMissing
from neurobench.physics.fit import mean_curve, split_noise

from ._characterise import (
    MOVED_SIGMA,
    Characterisation,
    Probe,
    Progress,
    due,
    padded,
    pulse_of,
    usable_cells,
)

Volts = tuple[float, ...]


class MeasureCurve(Characterisation):
    """Measure conductance over pulses, both directions, for a device card that the emulator replays."""

    figures: ClassVar[tuple[str, ...]] = ("curves",)

    trains: Literal["auto", "both", "potentiate", "depress"] = Field(
        "auto", description="directions to measure; auto: both where the devices depress"
    )
    potentiate_v: Volts = Field((), description="potentiating amplitudes, in volts; none: as the device was measured")
    potentiate_width_s: Volts = Field((), description="potentiating widths, in s; none: as the device was measured")
    depress_v: Volts = Field((), description="depressing amplitudes, in volts; none: as the device was measured")
    depress_width_s: Volts = Field((), description="depressing widths, in s; none: as the device was measured")
    pulses: int = Field(50, ge=4, le=1_000_000, description="pulses in a train at most")
    cycles: int = Field(3, ge=1, le=100_000, description="how often every train is repeated on a device")
    measure_current: bool = Field(True, description="measure the current in every pulse, where the bench can")
    noise_reads: int = Field(16, ge=2, le=10_000, description="reads of a device before its first pulse, for the noise")
    start_tolerance: float = Field(
        0.1, gt=0, le=1, description="how near the start level is near enough, as a share of what a train covers"
    )
    init_pulses: int = Field(500, ge=0, le=1_000_000, description="pulses at most to bring a device back to its start")
    stuck_after: int = Field(
        20,
        ge=2,
        description="pulses without a move of 3 sigma after which a train ends; a device that never moved is stuck",
    )
    stop_current_a: float | None = Field(None, gt=0, description="in-pulse current that ends a train, in amperes")
    stop_above_s: float | None = Field(None, gt=0, description="conductance that ends a potentiation, in siemens")
    stop_below_s: float | None = Field(None, gt=0, description="conductance that ends a depression, in siemens")
    max_pulses_per_cell: int | None = Field(None, ge=1, description="pulses of this run on one cell at most")

    @property
    def needs(self) -> Needs:
        """A bias for single cells; the current in a pulse only where a stop rests on it."""
        return Needs(biases=self.chosen_biases, pulse_current=self.stop_current_a is not None)

    def bench_defaults(self) -> dict[str, Any]:
        """A device that goes both ways, where nobody says which chip."""
        return {"chip.model": "reram-sb"}

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:  # noqa: ARG002
        """All trains of all devices. `start`: a state that was yielded as a Checkpoint."""
        self.admit(view)
        work = _Work(self, view)
        state = work.fresh() if start is None else _State.back(start)
        for train in work.plan[state.next :]:
            if not state.ended[train.device]:
                yield from work.measure(train, state)
            state.next += 1
            if due(state.next):
                yield state.checkpoint()
        return Result(*work.outcome(state))


class Plan(NamedTuple):
    """One train to come: which device, in which cycle, with which pulse and which way (+1, -1)."""

    device: int
    cycle: int
    condition: int
    sign: int
    pulse: Pulse


@dataclass(slots=True)
class _State(Progress):
    """What a checkpoint holds. Lists over devices; `trains`: all that was measured, in order."""

    low_s: list[float]
    high_s: list[float]
    sigma_s: list[float]
    used: list[int]
    moved: list[bool]
    still: list[int]
    ended: list[str]
    next: int = 0
    trains: list[dict[str, Any]] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)
    periods_s: list[float] = field(default_factory=list)


class _Work:
    """The trains of one run; everything that changes is in the state."""

    def __init__(self, p: MeasureCurve, view: BenchView) -> None:
        self.p, self.view, self.probe = p, view, Probe.of(p, view)
        self.cells = usable_cells(view, p.cells, p.devices)
        self.pulses = {sign: _conditions(p, view, sign) for sign in _directions(p, view)}
        every = [pulse for pulses in self.pulses.values() for pulse in pulses]
        # a stop current is never given up: the bench refuses a pulse in which it cannot measure
        wanted, must = p.measure_current, p.stop_current_a is not None
        self.measured = {pulse: must or (wanted and self.probe.measures(pulse)) for pulse in every}
        conditions = range(max(len(pulses) for pulses in self.pulses.values()))
        self.plan = [
            Plan(device, cycle, condition, sign, pulses[condition])
            for device, cycle, condition in product(range(len(self.cells)), range(p.cycles), conditions)
            for sign, pulses in self.pulses.items()
            if condition < len(pulses)
        ]

    def fresh(self) -> _State:
        """Nothing measured yet."""
        n, nan = len(self.cells), float("nan")
        return _State([nan] * n, [nan] * n, [nan] * n, [0] * n, [False] * n, [0] * n, [""] * n)

    def left(self, device: int, state: _State) -> float:
        """Pulses that the device may still get: by its life, and by what this run may spend on it."""
        most = min(float(self.view.pulses_left[self.cells[device]]), self.p.max_pulses_per_cell or float("inf"))
        return most - state.used[device]

    def measure(self, plan: Plan, state: _State) -> Generator[Step, Any, None]:
        """One train, from bringing the device to its start to the note that says what was seen."""
        device = plan.device
        if state.sigma_s[device] != state.sigma_s[device]:
            yield from self._look_first(plan, state)
        ready = yield from self._initialise(plan, state)
        points_s, currents_a, why = yield from self._train(plan, state)
        moves = _moves(np.array(points_s), state.sigma_s[device])
        self._judge(plan, state, points_s, moves, why)
        state.trains.append(
            {
                "cell": list(self.cells[device]), "cycle": plan.cycle, "direction": plan.sign,
                "amplitude_v": plan.pulse.amplitude_v, "width_s": plan.pulse.width_s, "initialised": ready,
                "moved": moves, "ended": why, "conductance_s": np.array(points_s), "in_pulse_a": np.array(currents_a),
            }
        )  # fmt: skip
        yield Note("train", {"index": len(state.trains), **_told(state.trains[-1])})

    def _look_first(self, plan: Plan, state: _State) -> Generator[Step, Any, None]:
        """The noise of one read of this device, and where it stands."""
        seen, declared_s = [], float("nan")
        for _ in range(self.p.noise_reads):
            look = yield from self.probe.read(self.cells[plan.device], 0.0)
            seen.append(look.conductance_s)
            declared_s = look.sigma_s
        sigma_s = float(np.std(seen, ddof=1))
        # rounding of a converter can hide the noise: what the bench declares then stands for it
        state.sigma_s[plan.device] = sigma_s or (declared_s if declared_s > 0 else 0.0)

    def _initialise(self, plan: Plan, state: _State) -> Generator[Step, Any, bool]:
        """Bring the device to where trains of this direction begin: at the first one that is where it stands.

        True: within the tolerance, or one pulse beyond it. False: it cannot be moved there, or not in `init_pulses`.
        """
        device, levels = plan.device, state.low_s if plan.sign > 0 else state.high_s
        look = yield from self.probe.read(self.cells[device])
        if levels[device] != levels[device]:
            levels[device] = look.conductance_s
            return True
        span_s = abs(state.high_s[device] - state.low_s[device])
        share_s = self.p.start_tolerance * span_s if span_s == span_s else 0.0
        near_s = max(share_s, MOVED_SIGMA * state.sigma_s[device])
        first = 0
        for _ in range(self.p.init_pulses):
            away_s = levels[device] - look.conductance_s
            sign = 1 if away_s > 0 else -1
            if abs(away_s) <= near_s or sign == -first:
                return True
            if sign not in self.pulses or self.left(device, state) < 1:
                return False
            first = first or sign
            pulses = self.pulses[sign]
            yield from self.probe.pulse(self.cells[device], sign, pulses[min(plan.condition, len(pulses) - 1)], False)
            state.used[device] += 1
            look = yield from self.probe.read(self.cells[device])
        return abs(levels[device] - look.conductance_s) <= near_s

    def _train(self, plan: Plan, state: _State) -> Generator[Step, Any, tuple[list[float], list[float], str]]:
        """Read, then pulse and read: conductances [n + 1], in-pulse currents [n], and what ended it."""
        cell, device = self.cells[plan.device], plan.device
        look = yield from self.probe.read(cell)
        points_s, currents_a = [look.conductance_s], list[float]()
        for n in range(1, self.p.pulses + 1):
            if self.left(device, state) < 1:
                return points_s, currents_a, "budget"
            shot = yield from self.probe.pulse(cell, plan.sign, plan.pulse, self.measured[plan.pulse])
            state.used[device] += 1
            before, look = look, (yield from self.probe.read(cell))
            points_s.append(look.conductance_s)
            currents_a.append(shot.current_a)
            if n <= 2:  # the same every time: a few tell it
                state.delays_s.append(look.start_s - shot.end_s)
                state.periods_s.append(look.start_s - before.start_s)
            yield Note("point", self._point(plan, n, look.conductance_s, shot.current_a))
            if why := self._stop(plan, shot.compliance_hit, shot.current_a, look.conductance_s):
                return points_s, currents_a, why
            if n == self.p.stuck_after and not _moves(np.array(points_s), state.sigma_s[device]):
                return points_s, currents_a, "no move"
        return points_s, currents_a, ""

    def _point(self, plan: Plan, n: int, conductance_s: float, current_a: float) -> dict[str, Any]:
        row, col = self.cells[plan.device]
        return {
            "row": row, "col": col, "direction": plan.sign, "cycle": plan.cycle, "pulse": n,
            "amplitude_v": plan.pulse.amplitude_v, "conductance_s": conductance_s, "in_pulse_a": current_a,
        }  # fmt: skip

    def _stop(self, plan: Plan, compliance_hit: bool, current_a: float, conductance_s: float) -> str:
        p = self.p
        if compliance_hit:
            return "compliance"
        if p.stop_current_a is not None and not current_a < p.stop_current_a:
            return "stop current"
        if plan.sign > 0 and p.stop_above_s is not None and conductance_s >= p.stop_above_s:
            return "stop conductance"
        if plan.sign < 0 and p.stop_below_s is not None and conductance_s <= p.stop_below_s:
            return "stop conductance"
        return ""

    def _judge(self, plan: Plan, state: _State, points_s: list[float], moves: bool, why: str) -> None:
        """What the train says of the device: where the other direction begins, and whether to go on with it."""
        device = plan.device
        others = state.high_s if plan.sign > 0 else state.low_s
        if moves and others[device] != others[device]:
            others[device] = points_s[-1]
        state.moved[device] |= moves
        state.still[device] = 0 if moves else state.still[device] + 1
        if why in ("budget", "compliance", "stop current"):
            state.ended[device] = why
        elif state.still[device] >= len(self.pulses) and len(points_s) > self.p.stuck_after:
            state.ended[device] = "no longer moves" if state.moved[device] else "stuck"

    def outcome(self, state: _State) -> tuple[bool, dict[str, Any]]:
        """Whether every device gave what was asked, and all values; `train_*` are over trains."""
        trains, devices = state.trains, len(self.cells)
        columns = {f"train_{key}": np.array([train[key] for train in trains]) for key in TRAIN_COLUMNS}
        columns |= {f"train_{key}": np.array([_told(train)[key] for train in trains]) for key in STATISTICS}
        stuck = [list(cell) for cell, why in zip(self.cells, state.ended, strict=True) if why == "stuck"]
        return not any(state.ended), {
            **columns,
            "train_conductance_s": padded([train["conductance_s"] for train in trains]),
            "train_in_pulse_a": padded([train["in_pulse_a"] for train in trains]),
            "cells": np.array(self.cells), "cell_sigma_s": np.array(state.sigma_s), "cell_pulses": np.array(state.used),
            "cell_ended": list(state.ended), "stuck": stuck, "yield": sum(state.moved) / devices,
            "excluded": int(self.view.excluded.sum()), "reinitialised": all(bool(t["initialised"]) for t in trains),
            "reinitialised_said": "" if len(self.pulses) == 2 else "one direction only: no device was brought back",
            "in_pulse": _measured_words(self.measured.values()), "read_v": self.probe.read_v,
            "delay_s": self.p.delay_s, "measured_delay_s": _median(state.delays_s),
            "measured_period_s": _median(state.periods_s), "both_polarities": self.probe.both,
            "reads_in_point": self.p.averages * (2 if self.probe.both else 1),
        }  # fmt: skip


TRAIN_COLUMNS = ("cell", "cycle", "direction", "amplitude_v", "width_s", "initialised", "moved")
STATISTICS = ("pulses", "mean_step_s", "sigma_read_s", "sigma_step_s")


def _directions(p: MeasureCurve, view: BenchView) -> tuple[int, ...]:
    """+1 potentiates, -1 depresses; raises CapabilityMissing for a depression that nobody knows."""
    both = p.trains == "both" or (p.trains == "auto" and (view.device.depresses or bool(p.depress_v)))
    if p.trains in ("both", "depress") and not view.device.depresses and not p.depress_v:
        raise CapabilityMissing(
            f"trains = {p.trains} needs a depressing pulse, and none is known of this chip: say depress_v and "
            "depress_width_s, or measure trains=potentiate"
        )
    return (1, -1) if both else (-1,) if p.trains == "depress" else (1,)


def _conditions(p: MeasureCurve, view: BenchView, sign: int) -> list[Pulse]:
    """Every amplitude with every width, in ascending order."""
    volts, widths = (p.potentiate_v, p.potentiate_width_s) if sign > 0 else (p.depress_v, p.depress_width_s)
    name = "potentiate" if sign > 0 else "depress"
    pairs = product(sorted(set(map(abs, volts))) or (None,), sorted(set(widths)) or (None,))
    return [pulse_of(view, sign, volt, width, name) for volt, width in pairs]


def _moves(points_s: FloatArray, sigma_s: float) -> bool:
    """Whether a train [n + 1] has moved by 3 sigma: its later half against its first half, or against its start."""
    half = max(1, len(points_s) // 2)
    last_s, rounding_s = float(points_s[-half:].mean()), 1e-9 * float(np.abs(points_s).max())
    halves_s, start_s = abs(last_s - float(points_s[:half].mean())), abs(last_s - float(points_s[0]))
    sure_s = MOVED_SIGMA * sigma_s
    of_halves_s, of_start_s = sure_s * float(np.sqrt(2 / half)), sure_s * float(np.sqrt(1 + 1 / half))
    return halves_s > max(of_halves_s, rounding_s) or start_s > max(of_start_s, rounding_s)


def _told(train: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of one train: what it is, its mean step, and its scatter split as bench rule 12 says."""
    points_s = train["conductance_s"]
    split = split_noise(points_s, mean_curve(points_s, train["direction"]))
    n = len(points_s) - 1
    told = {key: train[key] for key in TRAIN_COLUMNS} | {"ended": train["ended"], "pulses": n}
    step_s = float(points_s[-1] - points_s[0]) / n if n else float("nan")
    return told | {"mean_step_s": step_s, "sigma_read_s": split.read_sigma_s, "sigma_step_s": split.step_sigma_s}


def _measured_words(measured: Iterable[bool]) -> str:
    each = set(measured)
    return "measured" if each == {True} else "not measured" if each == {False} else "measured in some of the pulses"


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else float("nan")


plugin = MeasureCurve
