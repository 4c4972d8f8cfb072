"""Form cells: a ramp of pulses, each measured while it is on and read after it, up to a current or a conductance.

Forming is the one thing that is done to a chip with more volts than it will ever see again. It runs under limits of
its own, [limits.forming] of the bench file, and only after the operator has typed the chip's id (bench rule 16). What
was formed, with which pulse and current, goes into the chip's passport. A current limit in hardware is still the
bench's: a pulse is over before software could end it, so `stop_current_a` ends the ramp, not the pulse.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from neurobench.bench.crossbar import Needs
from neurobench.bench.steps import CELL_STATE, BenchView, Note, Result, Step, Steps
from neurobench.bench.stimulus import FloatArray, Pulse
from neurobench.errors import Refused

from ._characterise import SIGNS, Cell, Characterisation, DirectionName, Probe, Progress, pulse_of, usable_cells


class Form(Characterisation):
    """Form cells by a ramp of measured pulses, under limits of its own, after confirmation by chip id."""

    figures: ClassVar[tuple[str, ...]] = ("forming",)
    limits_profile: ClassVar[str] = "forming"

    confirm_chip_id: str = Field("", description="the chip's id, typed by the operator; anything else is refused")
    stop_v: float = Field(gt=0, description="amplitude that the ramp does not go beyond, in volts")
    stop_current_a: float = Field(gt=0, description="in-pulse current that ends the ramp, in amperes")
    stop_conductance_s: float = Field(gt=0, description="conductance, read after a pulse, that counts as formed")
    start_v: float = Field(0.5, gt=0, description="amplitude of the first pulse, in volts")
    step_v: float = Field(0.1, gt=0, description="amplitude by which each pulse exceeds the one before, in volts")
    width_s: float | None = Field(None, gt=0, description="width of the pulses, in s; none: as the device was measured")
    attempts: int = Field(1, ge=1, le=1000, description="ramps on one cell at most")
    polarity: DirectionName = Field("potentiate", description="which way the pulses go; most cells form as they SET")
    retire: bool = Field(False, description="retire cells that did not form in the chip's passport")

    @model_validator(mode="after")
    def _ramp_rises(self) -> Self:
        if self.stop_v < self.start_v:
            raise ValueError(f"stop_v = {self.stop_v:g} V lies below start_v = {self.start_v:g} V")
        if self._steps >= 10_000:  # counted, not made: a ramp of 1e9 pulses would fill the memory first
            raise ValueError(f"a ramp of {self._steps + 1} pulses: choose a larger step_v")
        return self

    @property
    def _steps(self) -> int:
        steps = (self.stop_v - self.start_v) / self.step_v * (1 + 1e-9) + 1e-9
        return int(min(steps, 1e9))

    @property
    def amplitudes_v(self) -> FloatArray:
        """The ramp, in volts; its last pulse is not beyond stop_v."""
        ramp: FloatArray = np.round(self.start_v + self.step_v * np.arange(self._steps + 1), 12)
        return ramp

    @property
    def needs(self) -> Needs:
        """The current in a pulse: without it nothing would end a ramp in time."""
        return Needs(biases=self.chosen_biases, pulse_current=True)

    def bench_defaults(self) -> dict[str, Any]:
        """A device that answers a range of amplitudes, where nobody says which chip."""
        return {"chip.model": "al2o3-tio2-nili"}

    def admit(self, view: BenchView) -> None:
        """Refuse unless the operator has named this very chip."""
        if not view.chip_id:
            raise Refused(
                "forming needs a chip with an id, so that it can be confirmed: set [chip] id in the bench file"
            )
        if self.confirm_chip_id != view.chip_id:
            typed = f"confirm_chip_id = {self.confirm_chip_id!r}" if self.confirm_chip_id else "nothing was confirmed"
            raise Refused(
                f"forming cannot be undone, and the chip on this bench is {view.chip_id!r}; {typed}. If this is the "
                f"chip to form, say so: --set confirm_chip_id={view.chip_id}"
            )
        super().admit(view)

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:  # noqa: ARG002
        """One cell after another; a checkpoint after each. `start`: a state that was yielded as a Checkpoint."""
        self.admit(view)
        probe, cells = Probe.of(self, view), usable_cells(view, self.cells, self.devices)
        state = _State() if start is None else _State.back(start)
        for cell in cells[state.next :]:
            found = yield from self._cell(view, probe, cell, state)
            yield from self._book(found, self._pulse(view, self.start_v).width_s, state)
            state.next += 1
            yield state.checkpoint()
        if self.retire and (failed := [list(end["cell"]) for end in state.ends if not end["formed"]]):
            yield Note(CELL_STATE, {"state": "retired", "cells": failed})
        return Result(all(end["formed"] for end in state.ends), self._values(state, probe))

    def _cell(self, view: BenchView, probe: Probe, cell: Cell, state: _State) -> Generator[Step, Any, _End]:
        """All ramps on one cell."""
        look = yield from probe.read(cell)
        if look.conductance_s >= self.stop_conductance_s:
            return _End(cell, True, "was formed already", 0, 0, np.nan, np.nan, look.conductance_s)
        left, pulses, ended = float(view.pulses_left[cell]), 0, _Ramp("", 0, np.nan, np.nan, look.conductance_s)
        for attempt in range(1, self.attempts + 1):
            ended = yield from self._ramp(view, probe, cell, attempt, left - pulses, state)
            pulses += ended.pulses
            formed = ended.conductance_s >= self.stop_conductance_s
            if formed or ended.why in ("budget", "no current was measured"):
                break
        last = (ended.amplitude_v, ended.current_a, ended.conductance_s)
        return _End(cell, ended.conductance_s >= self.stop_conductance_s, ended.why, attempt, pulses, *last)

    def _ramp(
        self, view: BenchView, probe: Probe, cell: Cell, attempt: int, left: float, state: _State
    ) -> Generator[Step, Any, _Ramp]:
        """One ramp; ends at the first of: conductance, current, compliance, stop_v, the chip's budget."""
        sign, ramp = SIGNS[self.polarity], _Ramp("budget", 0, np.nan, np.nan, np.nan)
        for n, amplitude_v in enumerate(self.amplitudes_v.tolist(), start=1):
            if n > left:
                return ramp
            shot = yield from probe.pulse(cell, sign, self._pulse(view, amplitude_v), True)
            look = yield from probe.read(cell)
            why = self._why(shot.current_a, shot.compliance_hit, look.conductance_s)
            ramp = _Ramp(why or "budget", n, amplitude_v, shot.current_a, look.conductance_s)
            told = {"row": cell[0], "col": cell[1], "attempt": attempt, "amplitude_v": amplitude_v,
                    "current_a": shot.current_a, "conductance_s": look.conductance_s}  # fmt: skip
            state.pulses.append(told)
            yield Note("pulse", told)
            if why:
                return ramp
        return ramp._replace(why="stop_v")

    def _pulse(self, view: BenchView, amplitude_v: float) -> Pulse:
        return pulse_of(view, SIGNS[self.polarity], amplitude_v, self.width_s, "")

    def _why(self, current_a: float, compliance_hit: bool, conductance_s: float) -> str:
        """What ends the ramp after this pulse; a current that is no number does, too."""
        if conductance_s >= self.stop_conductance_s:
            return "stop_conductance_s"
        if not np.isfinite(current_a):
            return "no current was measured"
        if current_a >= self.stop_current_a:
            return "stop_current_a"
        return "compliance" if compliance_hit else ""

    def _book(self, end: _End, width_s: float, state: _State) -> Generator[Step, Any, None]:
        """Keep what became of a cell, and have it written into the passport."""
        state.ends.append({**end._asdict(), "cell": list(end.cell)})
        log = {
            "cell": list(end.cell), "formed": end.formed, "why": end.why, "attempts": end.attempts,
            "pulses": end.pulses, "amplitude_v": end.amplitude_v, "width_s": width_s, "current_a": end.current_a,
            "conductance_s": end.conductance_s,
        }  # fmt: skip
        words = "formed" if end.formed else "virgin"
        said = {name: None if isinstance(value, float) and value != value else value for name, value in log.items()}
        yield Note(CELL_STATE, {"state": words, "cells": [list(end.cell)], "log": [said] if end.pulses else []})

    def _values(self, state: _State, probe: Probe) -> dict[str, Any]:
        ends, columns = state.ends, ("row", "col", "attempt", "amplitude_v", "current_a", "conductance_s")
        return {
            "cells": np.array([end["cell"] for end in ends]),
            "cell_formed": np.array([end["formed"] for end in ends]), "cell_why": [end["why"] for end in ends],
            **{f"cell_{name}": np.array([end[name] for end in ends]) for name in _End._fields[3:]},
            **{f"pulse_{name}": np.array([pulse[name] for pulse in state.pulses]) for name in columns},
            "not_formed": [end["cell"] for end in ends if not end["formed"]],
            "yield": float(np.mean([end["formed"] for end in ends])), "read_v": probe.read_v,
            "retired": self.retire and not all(end["formed"] for end in ends),
        }  # fmt: skip


class _End(NamedTuple):
    """What became of one cell; amplitude, current and conductance are those of its last pulse."""

    cell: Cell
    formed: bool
    why: str
    attempts: int
    pulses: int
    amplitude_v: float
    current_a: float
    conductance_s: float


class _Ramp(NamedTuple):
    """How one ramp ended."""

    why: str
    pulses: int
    amplitude_v: float
    current_a: float
    conductance_s: float


@dataclass(slots=True)
class _State(Progress):
    """What a checkpoint holds: cells done, what became of each, and every pulse."""

    next: int = 0
    ends: list[dict[str, Any]] = field(default_factory=list)
    pulses: list[dict[str, Any]] = field(default_factory=list)


plugin = Form
