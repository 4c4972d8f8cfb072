"""Measure the learning window of a pulse scheme: the change of conductance over dt = t_post - t_pre.

As bench rule 20 demands: every point starts from G0 again (pulses and reads until it is within the tolerance), dt comes
in random order, lone pre spikes, lone post spikes and nothing at all are interleaved as controls, and a read follows
what it follows after a fixed wait. Between the spikes nothing is read: columns are read only while no waveform plays.

The two branches are fitted with A exp(-|dt|/tau); what lies within the noise is no evidence, and a branch without
evidence is not fitted. Beside them stands the theory: the scheme integrated over the law that the chip's card declares.
docs/stdp.md says how to read the result.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from neurobench.bench.crossbar import Needs
from neurobench.bench.limits import exposure
from neurobench.bench.steps import Apply, BenchView, Note, Result, Step, Steps, Wait
from neurobench.bench.stimulus import CellRead, FloatArray, Stimulus, Waveforms
from neurobench.errors import CapabilityMissing, LimitExceeded, NeurobenchError, UsageError
from neurobench.learning.schemes import Exponential, Scheme, SpikePairs, lowest_thresholds
from neurobench.learning.synapses import Pulses, write_verify
from neurobench.physics.library import load_model

from ._characterise import MOVED_SIGMA, Cell, Characterisation, Probe, Progress, due, pulse_of, usable_cells
from ._stdp_fit import fit_window, is_window
from ._stdp_theory import theory

Kind = Literal["pair", "lone_pre", "lone_post", "none"]
CONTROLS: tuple[Kind, ...] = ("lone_pre", "lone_post", "none")


class StdpWindow(Characterisation):
    """Measure dG over dt = t_post - t_pre of a pulse scheme, with controls, fit and theory."""

    figures: ClassVar[tuple[str, ...]] = ("window",)

    scheme: Scheme = Field(
        default_factory=Exponential,
        description="pulse scheme: its kind, or a table of kind and settings (docs/stdp.md)",
    )
    dt_s: tuple[float, ...] = Field(
        (), description="t_post - t_pre in seconds; none: both signs over the scheme's reach"
    )
    repeats: int = Field(3, ge=1, le=100_000, description="how often every dt and every control is measured on a cell")
    devices: int = Field(2, ge=1, le=1_000_000, description="how many cells, where none is named")
    delay_s: float = Field(0.01, ge=0, le=3600, description="fixed wait before each read, in seconds")
    g0_s: float | None = Field(
        None, gt=0, description="where every point starts, in siemens; none: the middle of the declared range"
    )
    tolerance: float = Field(0.03, gt=0, le=1, description="how near G0 is near enough, as a share of it")
    init_pulses: int = Field(300, ge=0, le=100_000, description="pulses at most to bring a cell to G0")
    potentiate_v: float | None = Field(None, gt=0, description="pulse towards G0, in volts; none: the chip's own")
    potentiate_width_s: float | None = Field(None, gt=0, description="pulse towards G0, in s; none: the chip's own")
    depress_v: float | None = Field(None, gt=0, description="pulse down to G0, in volts; none: the chip's own")
    depress_width_s: float | None = Field(None, gt=0, description="pulse down to G0, in seconds; none: the chip's own")
    theory: str = Field(
        "auto", description="card whose law the theory integrates; auto: the chip's own; none: no theory"
    )

    @property
    def needs(self) -> Needs:
        """A bias for single cells, and the waveforms of one pair."""
        return Needs(biases=self.chosen_biases, distinct_shapes=self.scheme.distinct_shapes)

    def bench_defaults(self) -> dict[str, Any]:
        """A device that integrates what it sees, where nobody says which chip."""
        return {"chip.model": "threshold-exponential"}

    def times_s(self) -> tuple[float, ...]:
        """Every dt that is measured, once."""
        wanted = self.dt_s or tuple(sign * dt_s for dt_s in self.scheme.times_s for sign in (-1, 1))
        return tuple(sorted(set(wanted)))

    def admit(self, view: BenchView) -> None:
        """Refuse what cannot work: the scheme on this chip and bench, cells, pulses, G0, volts and lengths."""
        super().admit(view)
        self.needs.plan(view.capabilities)
        self.scheme.admit(view)
        _check_times(self)
        _check_card(self)
        Setup(self, view)
        for dt_s in self.times_s():
            for one in self.scheme.stimuli(SpikePairs.one(view.shape, (0, 0), dt_s), view):
                if isinstance(one, Waveforms):
                    _check_limits(one, view, dt_s)

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """All points in random order. `start`: a state that was yielded as a Checkpoint."""
        self.admit(view)
        work = Setup(self, view)
        plan = work.plan()
        state = State(rng.permutation(len(plan)).tolist()) if start is None else State.back(start)
        for k in state.order[state.next :]:
            yield from work.measure(plan[k], state)
            state.next += 1
            if due(state.next):
                yield state.checkpoint()
        return work.result(state)


def _check_times(p: StdpWindow) -> None:
    far = [dt_s for dt_s in p.times_s() if abs(dt_s) < p.scheme.reach_s and dt_s]
    if not far:
        raise UsageError(
            f"no dt at which a pair could move anything: scheme {p.scheme.kind} reaches {p.scheme.reach_s:g} s "
            f"(--set dt_s; asked were {list(p.times_s())})"
        )


def _check_card(p: StdpWindow) -> None:
    """A card that was asked for by name is there: the theory comes at the end of the run."""
    if p.theory in ("auto", "none"):
        return
    try:
        load_model(p.theory)
    except NeurobenchError as error:
        raise UsageError(f"theory = {p.theory}: {error} (--set theory; or auto, none)") from error


def _check_limits(one: Waveforms, view: BenchView, dt_s: float) -> None:
    """What the Guard will refuse of the first pair is refused before the first volt."""
    limits, seen_v = view.limits, float(exposure(one, view.limits.max_read_v).worst_v.max())
    longest_s = min(limits.max_width_s, limits.max_batch_s)
    line_v = max(float(np.abs(shape.v).max()) for shape in one.shapes)
    checks = ((seen_v, limits.max_cell_v, "V on a cell", "max_cell_v"),
              (line_v, limits.line_v, "V on a line", "max_line_v"),
              (one.duration_s, longest_s, "s of waveforms", "max_width_s or max_batch_s"))  # fmt: skip
    for value, allowed, what, name in checks:
        if value > allowed * (1 + 1e-9):
            raise LimitExceeded(f"spikes {dt_s:g} s apart put {value:g} {what}; limits.{name} allows {allowed:g}")


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement to come: on which cell, in which repeat, what is done, and at which dt (nan: a control)."""

    cell: Cell
    repeat: int
    kind: Kind
    dt_s: float


@dataclass(slots=True)
class State(Progress):
    """What a checkpoint holds: the order of the points, how many are done, and what they gave."""

    order: list[int]
    next: int = 0
    points: list[dict[str, Any]] = field(default_factory=list)
    pulses: int = 0


class Setup:
    """What does not change during a run. Raises UsageError for a G0 or a pulse that nobody knows."""

    def __init__(self, p: StdpWindow, view: BenchView) -> None:
        self.p, self.view, self.probe = p, view, Probe.of(p, view)
        self.cells = usable_cells(view, p.cells, p.devices)
        if not view.device.depresses and p.depress_v is None:
            raise CapabilityMissing(
                "every point starts from G0 again, and no depressing pulse is known of this chip: say depress_v and "
                "depress_width_s (bench rule 20)"
            )
        self.pulses = Pulses(
            pulse_of(view, 1, p.potentiate_v, p.potentiate_width_s, "potentiate"),
            pulse_of(view, -1, p.depress_v, p.depress_width_s, "depress"),
        )
        self.g0_s = p.g0_s or (view.device.g_min_s + view.device.g_max_s) / 2
        if not isfinite(self.g0_s):
            raise UsageError("the range of this chip's devices is not declared: say g0_s (--set g0_s=..., in siemens)")
        if p.g0_s and not (view.device.g_min_s <= p.g0_s <= view.device.g_max_s or not isfinite(view.device.g_max_s)):
            raise UsageError(
                f"g0_s = {p.g0_s:g} S lies outside the declared range of this chip, {view.device.g_min_s:g} to "
                f"{view.device.g_max_s:g} S"
            )

    def plan(self) -> list[Point]:
        """Every point once, in order; controls as often as each dt."""
        points = []
        for repeat in range(self.p.repeats):
            for cell in self.cells:
                points += [Point(cell, repeat, "pair", dt_s) for dt_s in self.p.times_s()]
                points += [Point(cell, repeat, kind, nan) for kind in self.controls()]
        return points

    def controls(self) -> tuple[Kind, ...]:
        """Lone spikes are controls only where they send something."""
        return CONTROLS if self.p.scheme.plays_waveforms else ("none",)

    @property
    def near_s(self) -> float:
        """How near G0 a point starts: the tolerance, or what one pulse or one read can tell apart."""
        device = self.view.device
        step_s = device.g_step_s if isfinite(device.g_step_s) else 0.0
        return max(self.p.tolerance * self.g0_s, step_s, MOVED_SIGMA * self._read_sigma_s())

    def _read_sigma_s(self) -> float:
        device = self.view.device
        absolute = device.read_sigma_s if isfinite(device.read_sigma_s) else 0.0
        return float(np.hypot(absolute, device.read_sigma_relative * self.g0_s))

    def measure(self, point: Point, state: State) -> Generator[Step, Any, None]:
        """One point: to G0, read, do it, read again."""
        ready = yield from self._to_g0(point.cell, state)
        before = yield from self.probe.read(point.cell)
        for stimulus in self.stimuli(point):
            yield Apply(stimulus)
        if point.kind == "none":
            yield Wait(self._lasts_s())
        after = yield from self.probe.read(point.cell)
        change = {
            "kind": point.kind, "dt_s": point.dt_s, "cell": list(point.cell), "repeat": point.repeat,
            "g0_s": before.conductance_s, "dg_s": after.conductance_s - before.conductance_s,
            "sigma_s": float(np.hypot(before.sigma_s, after.sigma_s)), "initialised": ready,
            "over_range": before.over_range or after.over_range,
        }  # fmt: skip
        state.points.append(change)
        yield Note("point", {"index": len(state.points), **change})

    def stimuli(self, point: Point) -> tuple[Stimulus, ...]:
        """What is applied at a point."""
        scheme, (row, col) = self.p.scheme, point.cell
        if point.kind == "pair":
            return scheme.stimuli(SpikePairs.one(self.view.shape, point.cell, point.dt_s), self.view)
        if point.kind == "lone_pre":
            return scheme.lone("pre", [row], self.view)
        return scheme.lone("post", [col], self.view) if point.kind == "lone_post" else ()

    def _lasts_s(self) -> float:
        """How long a lone spike plays: as long nothing is done for the no-pulse control."""
        return sum(one.duration_s for one in self.p.scheme.lone("pre", [0], self.view) if isinstance(one, Waveforms))

    def _to_g0(self, cell: Cell, state: State) -> Generator[Step, Any, bool]:
        """Bring a cell to G0 by pulses and reads; whether it is there."""
        mask, target = self.probe.mask(cell), np.full(self.view.shape, self.g0_s)
        probe = self.probe
        read = CellRead(mask, probe.read_v, probe.both, 0.0, probe.integration_s, probe.averages)
        near_s = self.p.tolerance * self.g0_s
        written = yield from write_verify(target, mask, self.pulses, probe.bias, read, near_s, self.p.init_pulses)
        state.pulses += written.pulses
        return bool(abs(written.conductances_s[cell] - self.g0_s) <= self.near_s)

    # -- what came of it -----------------------------------------------------------------------------------------

    def result(self, state: State) -> Result:
        """Points, controls, fit, theory. Reached: both branches surely of the right sign, lone spikes do nothing."""
        used = [one for one in state.points if one["initialised"] and not one["over_range"]]
        pairs = sorted((one for one in used if one["kind"] == "pair"), key=lambda one: float(one["dt_s"]))
        controls = {f"{kind}_s": _of(used, kind, "dg_s") for kind in CONTROLS}
        dt_s, dg_s, g0_s = (np.array([one[key] for one in pairs]) for key in ("dt_s", "dg_s", "g0_s"))
        noise_s = _noise(controls["none_s"], np.array([one["sigma_s"] for one in used]))
        fit = fit_window(dt_s, dg_s, noise_s, self.g0_s)
        quiet, words = _quiet(controls, noise_s, self.g0_s)
        values = {
            "dt_s": dt_s, "dg_s": dg_s, "g0_s": g0_s, "dg_over_g": dg_s / g0_s,
            "cell": np.array([one["cell"] for one in pairs]).reshape(-1, 2), "controls": controls, "noise_s": noise_s,
            "lone_spikes": words, "fit": fit, "theory": self._theory(), "scheme": self.p.scheme.model_dump(mode="json"),
            "target_g0_s": self.g0_s, "points": len(pairs), "left_out": len(state.points) - len(used),
            "left_out_said": _why_left_out(state.points), "init_pulses": state.pulses,
            "cells": np.array(self.cells), "read_v": self.probe.read_v, "delay_s": self.p.delay_s,
            "peak_v": self.p.scheme.peak_v, "lowest_threshold_v": self._lowest_v(),
            "half_select": self.view.device.half_select,
        }  # fmt: skip
        return Result(is_window(fit) and quiet, values)

    def _theory(self) -> dict[str, Any]:
        asked = self.p.theory
        if asked == "none":
            return {"said": "none: not asked for"}
        card = self.view.device.card if asked == "auto" else asked
        reach_s = max(abs(dt_s) for dt_s in self.p.times_s())
        return theory(self.p.scheme, self.view, card, reach_s, self.g0_s)

    def _lowest_v(self) -> float | None:
        known = [v for v in lowest_thresholds(self.view) if isfinite(v)]
        return min(known) if known else None


def _why_left_out(points: list[dict[str, Any]]) -> str:
    over = sum(one["over_range"] for one in points)
    away = sum(not one["initialised"] and not one["over_range"] for one in points)
    return f"{away} points could not be brought to G0, {over} were read over range (--set g0_s, tolerance, init_pulses)"


def _of(points: list[dict[str, Any]], kind: Kind, key: str) -> FloatArray:
    return np.array([one[key] for one in points if one["kind"] == kind], np.float64)


def _noise(none_s: FloatArray, declared_s: FloatArray) -> float:
    """Standard deviation of one change where nothing was done: of the controls, or what the instrument declares."""
    seen = float(none_s.std(ddof=1)) if len(none_s) > 1 else 0.0
    known = declared_s[np.isfinite(declared_s)]
    return max(seen, float(np.median(known)) if len(known) else 0.0)


def _quiet(controls: Mapping[str, FloatArray], noise_s: float, g0_s: float) -> tuple[bool, str]:
    """Whether lone spikes moved the cells no more than nothing did, within the noise, and that in words."""
    said, quiet = [], True
    for key, words in (("lone_pre_s", "lone pre"), ("lone_post_s", "lone post")):
        lone, none = controls[key], controls["none_s"]
        if not len(lone):
            said.append(f"{words} spikes send nothing" if len(none) else f"{words}: no control was measured")
            continue
        more_s = float(lone.mean()) - (float(none.mean()) if len(none) else 0.0)
        sure_s = max(MOVED_SIGMA * noise_s * (1 / len(lone) + 1 / max(len(none), 1)) ** 0.5, 1e-9 * g0_s)
        moved = abs(more_s) > sure_s
        quiet &= not moved
        said.append(
            f"{words} spikes moved {more_s:.3g} S more than nothing did, {'beyond' if moved else 'within'} noise"
        )
    return quiet, "; ".join(said)


plugin = StdpWindow
