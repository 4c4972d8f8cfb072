"""Sweep the voltage of single cells, 0 -> +V -> 0 -> -V -> 0, and find where they SET and RESET.

A level is a pulse whose current is measured while it is on, and every level returns to 0 V before the next one:
outside a pulse all outputs of a bench are at 0 V, so that a lost host leaves no volt on a chip. A `staircase` is
therefore a row of long pulses, not a held ramp: a volatile device may look different from a sweep that never lets go.
`pulsed` takes short pulses and reads the cell at the read voltage after each.
Levels that a read may have (up to [limits] max_read_v) and that leave the device as it is are read at that voltage
instead of pulsed.

Where it switched: in a staircase at the lowest level whose current on the way up is nearer, in log, to that on the way
back than to the old state's; when pulsed, at the first level whose read has gone half of the way, in log, that the
branch covered. A branch that changed by less than `switch_factor` did not switch.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from neurobench.bench.crossbar import Needs
from neurobench.bench.steps import BenchView, Note, Result, Step, Steps
from neurobench.bench.stimulus import Pulse

from ._characterise import (
    SIGNS,
    Cell,
    Characterisation,
    DirectionName,
    Probe,
    Progress,
    due,
    pulse_of,
    usable_cells,
)

NAN = float("nan")


class IvSweep(Characterisation):
    """Sweep the voltage of single cells in both polarities: currents, SET and RESET voltages, on/off ratio."""

    figures: ClassVar[tuple[str, ...]] = ("iv",)

    mode: Literal["staircase", "pulsed"] = Field(
        "staircase",
        description="staircase: long levels, current measured in each; pulsed: short pulses, each then read",
    )
    potentiate_v: float | None = Field(
        None, gt=0, description="end of the SET branch, in volts; none: the device's own"
    )
    depress_v: float | None = Field(None, gt=0, description="top of the RESET branch, in V; none: the device's own")
    first: DirectionName = Field("potentiate", description="which branch a cycle begins with")
    levels: int = Field(20, ge=2, le=10_000, description="levels from 0 V to the end of a branch")
    level_s: float | None = Field(None, gt=0, description="time of one level, in s; none: 10 ms, or the device's pulse")
    cycles: int = Field(3, ge=1, le=100_000, description="sweeps of each cell")
    switch_factor: float = Field(1.2, gt=1, description="change of conductance in a branch that counts as switching")
    stop_current_a: float | None = Field(None, gt=0, description="current at which a branch turns round, in amperes")
    stop_factor: float | None = Field(
        None, gt=1, description="change of conductance since its first level at which a branch turns round"
    )

    @property
    def needs(self) -> Needs:
        """The current in a pulse; only a pulsed sweep without a stop current can do with reads alone."""
        measured = self.mode == "staircase" or self.stop_current_a is not None
        return Needs(biases=self.chosen_biases, pulse_current=measured)

    def bench_defaults(self) -> dict[str, Any]:
        """A device that answers a range of amplitudes, where nobody says which chip."""
        return {"chip.model": "al2o3-tio2-nili"}

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:  # noqa: ARG002
        """Every cycle of every cell. `start`: a state that was yielded as a Checkpoint."""
        self.admit(view)
        sweeps = _Sweeps(self, view)
        state = _State() if start is None else _State.back(start)
        plan = list(product(sweeps.cells, range(self.cycles)))
        for cell, cycle in plan[state.next :]:
            yield from sweeps.sweep(cell, cycle, state)
            state.next += 1
            if due(state.next):
                yield state.checkpoint()
        return Result(any(branch["switch_v"] == branch["switch_v"] for branch in state.branches), sweeps.values(state))


def _read_up_to_v(view: BenchView) -> float:
    """Largest |V| of a level that is read instead of pulsed.

    A read counts nowhere as a pulse, so it must not be one: half more than the device's own read voltage, or a quarter
    of its smallest known write amplitude, but less than what half-selected cells see.
    """
    known = view.device
    writes_v = [pulse.amplitude_v for pulse in (known.pulse, known.depress_pulse) if pulse is not None]
    if not writes_v:
        return view.limits.max_read_v
    read_v = known.read_voltage_v if known.read_voltage_v > 0 else 0.0
    return min(view.limits.max_read_v, max(1.5 * read_v, min(writes_v) / 4), 0.45 * min(writes_v))


class Point(NamedTuple):
    """One level: volts at the cell (V_row - V_col), its current in amperes, and the read after it (nan: none)."""

    volts_v: float
    current_a: float
    conductance_s: float
    read: bool

    @property
    def chord_s(self) -> float:
        """Current over voltage, in siemens."""
        return self.current_a / self.volts_v


class Branch(NamedTuple):
    """One polarity of one cycle: levels on the way up and back, reads before and after, and why it turned round."""

    up: list[Point]
    back: list[Point]
    before_s: float
    after_s: float
    turned: str


@dataclass(slots=True)
class _State(Progress):
    """What a checkpoint holds: cycles done, every level, and what was found in every branch."""

    next: int = 0
    levels: list[dict[str, Any]] = field(default_factory=list)
    branches: list[dict[str, Any]] = field(default_factory=list)


class _Sweeps:
    """The sweeps of one run; everything that changes is in the state."""

    def __init__(self, p: IvSweep, view: BenchView) -> None:
        self.p, self.view, self.probe = p, view, Probe.of(p, view)
        self.cells = usable_cells(view, p.cells, p.devices)
        width_s = p.level_s or (1e-2 if p.mode == "staircase" else None)
        self.tops = {
            1: pulse_of(view, 1, p.potentiate_v, width_s, "potentiate"),
            -1: pulse_of(view, -1, p.depress_v, width_s, "depress"),
        }
        # staircases and stop currents rest on the current: there the bench refuses a level that it cannot measure
        rests_on_it = p.mode == "staircase" or p.stop_current_a is not None
        self.measures = rests_on_it or all(self.probe.measures(top) for top in self.tops.values())
        other = "depress" if p.first == "potentiate" else "potentiate"
        self.order = (SIGNS[p.first], SIGNS[other])
        self.read_up_to_v = _read_up_to_v(view)

    def sweep(self, cell: Cell, cycle: int, state: _State) -> Generator[Step, Any, None]:
        """Both branches of one cycle."""
        for sign in self.order:
            branch = yield from self._branch(cell, sign)
            index = len(state.branches)
            switch_v = self._switch_v(branch)
            state.branches.append(
                {
                    "cell": list(cell), "cycle": cycle, "direction": sign, "switch_v": switch_v,
                    "before_s": branch.before_s, "after_s": branch.after_s, "turned": branch.turned,
                }
            )  # fmt: skip
            state.levels += [{"branch": index, **point._asdict()} for point in (*branch.up, *branch.back)]
            points = np.array([(p.volts_v, p.current_a) for p in (*branch.up, *branch.back)])
            yield Note("branch", {**state.branches[-1], "volts_v": points[:, 0], "current_a": points[:, 1]})

    def _branch(self, cell: Cell, sign: int) -> Generator[Step, Any, Branch]:
        """0 -> V -> 0 in one polarity, between two reads at the read voltage."""
        before = yield from self.probe.read(cell)
        up: list[Point] = []
        turned = ""
        for volts in self._amplitudes(sign):
            point, hit = yield from self._level(cell, sign, volts)
            up.append(point)
            if turned := self._turns(up, before.conductance_s, hit):
                break
        back: list[Point] = []
        for done in reversed(up[:-1]):
            point, _ = yield from self._level(cell, sign, abs(done.volts_v))
            back.append(point)
        after = yield from self.probe.read(cell)
        return Branch(up, back, before.conductance_s, after.conductance_s, turned)

    def _amplitudes(self, sign: int) -> Iterator[float]:
        top = self.tops[sign].amplitude_v
        return (float(round(top * k / self.p.levels, 12)) for k in range(1, self.p.levels + 1))

    def _level(self, cell: Cell, sign: int, amplitude_v: float) -> Generator[Step, Any, tuple[Point, bool]]:
        """One level, and whether it hit the compliance: a read where its volts may be read, else a pulse."""
        volts = self.probe.volts(sign, amplitude_v)
        if amplitude_v <= self.read_up_to_v:
            current_a = yield from self.probe.current(cell, volts)
            return Point(volts, current_a, NAN, True), False
        pulse = Pulse(amplitude_v, self.tops[sign].width_s)
        shot = yield from self.probe.pulse(cell, sign, pulse, self.measures)
        conductance_s = NAN
        if self.p.mode == "pulsed":
            look = yield from self.probe.read(cell)
            conductance_s = look.conductance_s
        signed_a = float(np.sign(volts)) * shot.current_a
        return Point(volts, signed_a, conductance_s, False), shot.compliance_hit

    def _turns(self, up: list[Point], before_s: float, compliance_hit: bool) -> str:
        """Why a branch turns round at its last level; "" while it goes on."""
        p, last = self.p, up[-1]
        if compliance_hit:
            return "compliance"
        if p.stop_current_a is not None and not abs(last.current_a) < p.stop_current_a:
            return "stop_current_a"
        if p.stop_factor is None:
            return ""
        then_s, now_s = (before_s, last.conductance_s) if p.mode == "pulsed" else (up[0].chord_s, last.chord_s)
        return "stop_factor" if _factor(then_s, now_s) >= p.stop_factor else ""

    def _switch_v(self, branch: Branch) -> float:
        """Volts at which the branch switched; nan where it did not."""
        if _factor(branch.before_s, branch.after_s) < self.p.switch_factor:
            return NAN
        return _switched_by_reads(branch) if self.p.mode == "pulsed" else _switched_by_currents(branch)

    def values(self, state: _State) -> dict[str, Any]:
        """Everything found: `level_*` over levels, `branch_*` over branches, and per cycle the on/off ratio."""
        levels, branches = state.levels, state.branches
        ratio = np.array([_ratio(*branches[n : n + 2]) for n in range(0, len(branches), 2)])
        found = {sign: [b["switch_v"] for b in branches if b["direction"] == sign] for sign in (1, -1)}
        return {
            **{f"level_{name}": np.array([level[name] for level in levels]) for name in ("branch", *Point._fields)},
            **{f"branch_{name}": np.array([branch[name] for branch in branches]) for name in BRANCH_COLUMNS},
            "branch_turned": [branch["turned"] for branch in branches], "cycle_ratio": ratio,
            "set_v": _median(found[1]), "reset_v": _median(found[-1]), "ratio": _median(ratio.tolist()),
            "switched": float(np.mean([v == v for v in found[1] + found[-1]])) if branches else 0.0,
            "cells": np.array(self.cells), "mode": self.p.mode, "returns_to_0_v": True, "read_v": self.probe.read_v,
            "level_s": np.array([self.tops[1].width_s, self.tops[-1].width_s]),
            "in_pulse": "measured" if self.measures else "not measured",
        }  # fmt: skip


BRANCH_COLUMNS = ("cell", "cycle", "direction", "switch_v", "before_s", "after_s")


def _factor(then_s: float, now_s: float) -> float:
    """By what factor a conductance has changed, up or down; 1 where that cannot be said."""
    if not (then_s > 0 and now_s > 0):
        return 1.0
    return max(now_s / then_s, then_s / now_s)


def _switched_by_reads(branch: Branch) -> float:
    half = (branch.before_s * branch.after_s) ** 0.5
    rising = branch.after_s > branch.before_s
    for point in (*branch.up, *branch.back):  # a gradual device may be half-way only on the way back
        if (point.conductance_s >= half) if rising else (point.conductance_s <= half):
            return point.volts_v
    return NAN


def _switched_by_currents(branch: Branch) -> float:
    """The lowest level, counted from the top, whose up and back currents are nearer than half of the loop's opening."""
    returned = {round(point.volts_v, 12): point.current_a for point in branch.back}
    opened = [
        (point.volts_v, abs(np.log(returned[key] / point.current_a)))
        for point in branch.up[:-1]
        if (key := round(point.volts_v, 12)) in returned and returned[key] * point.current_a > 0
    ]
    half = max([opening for _, opening in opened], default=0.0) / 2
    if half == 0:
        return NAN
    switch_v = branch.up[-1].volts_v
    for volts, opening in reversed(opened):
        if opening > half:
            return switch_v
        switch_v = volts
    return switch_v


def _ratio(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """Conductance after the SET branch over that after the RESET branch of one cycle."""
    on, off = (first, second) if first["direction"] > 0 else (second, first)
    return float(on["after_s"] / off["after_s"]) if off["after_s"] > 0 else NAN


def _median(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.median(known)) if known else NAN


plugin = IvSweep
