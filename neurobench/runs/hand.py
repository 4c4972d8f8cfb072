"""A bench by hand: an engine that keeps it open and does single reads and pulses as a client asks for them.

    engine = hand.start(load_bench("visa-sim"), seed=0)
    engine.ask_hand({"do": "read", "cells": "all", "averages": 4})
    engine.ask_hand({"do": "pulse", "cells": [[0, 1]], "sign": 1, "count": 3, "amplitude_v": 1.2, "width_s": 1e-3})
    engine.ask_hand({"do": "end"})

Everything passes the same Guard and the same runner as a run, and stands in one run file. After each request the bench
is at rest. What is refused has fired nothing and leaves the session usable; any other error ends it (decision 0080).
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from neurobench.bench.config import IN_PROCESS, BenchConfig, explain, said_in
from neurobench.bench.crossbar import Applied, Reading
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Answer, Apply, BenchView, Note, Protocol, Result, Sense, Step, Steps
from neurobench.bench.stimulus import BoolArray, CellRead, IntArray, Pulse, PulseBatch, Shots, levels, shots
from neurobench.errors import Refused, UsageError
from neurobench.learning.bias import choose_bias
from neurobench.runs import engine
from neurobench.runs.inbox import Asked, Inbox
from neurobench.runs.launch import new_path
from neurobench.runs.library import plain
from neurobench.runs.request import Request
from neurobench.runs.runfile import RunWriter, jsonable
from neurobench.runs.runner import Runner, RunOutcome, begin
from neurobench.runs.states import Control, State
from neurobench.system import runs_folder

NAME = "hand"  # of the protocol in the record, and of the notes that say who asked for what
LOOK_S = 0.02  # how long a pause or a stop may wait for somebody to look
MOST_TRIED = 20_000  # pulses that a preview tries on an emulated chip: more would take too long for a glance
MOST_NAMED = 64  # cells that are named one by one in a note


class ByHand(Protocol):
    """What stands for a protocol in the record of a session by hand: its steps are the operator's."""

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:  # noqa: ARG002
        """A session by hand has no steps of its own."""
        raise UsageError(
            f"a session by hand is not run, and not resumed: its steps are the operator's ({view.chip_id})"
        )


# ------------------------------------------------------------------------------------------------- what can be asked


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Read(_Asked):
    """Read cells. `voltage_v` is the bench's own read voltage unless it is given."""

    do: Literal["read"]
    cells: list[tuple[int, int]] | Literal["all"] = "all"
    averages: int = Field(default=1, ge=1)
    voltage_v: float | None = None


class Fire(_Asked):
    """Pulse cells, and read them afterwards. `preview`: say what would happen, and fire nothing."""

    do: Literal["pulse"]
    cells: list[tuple[int, int]] | Literal["all"]
    sign: Literal[1, -1]
    count: int = Field(default=1, ge=1, le=32767)
    amplitude_v: float = Field(gt=0)
    width_s: float = Field(gt=0)
    averages: int = Field(default=1, ge=1)
    preview: bool = False


class End(_Asked):
    """End the session in order."""

    do: Literal["end"]


Wish = Read | Fire | End
_WISH: TypeAdapter[Wish] = TypeAdapter(Annotated[Wish, Field(discriminator="do")])
_KINDS: Mapping[str, type[_Asked]] = {"read": Read, "pulse": Fire, "end": End}


def wish_of(request: Mapping[str, Any]) -> Wish:
    """A request, checked. Raises UsageError that says what is wrong and what is allowed."""
    try:
        return _WISH.validate_python(dict(request))
    except ValidationError as error:
        kind = _KINDS.get(str(request.get("do")))
        if kind is None:
            raise UsageError(f"do = {request.get('do')!r}: by hand there are {', '.join(_KINDS)}") from error
        try:
            kind.model_validate(dict(request))
        except ValidationError as plain:
            raise UsageError("; ".join(explain(plain, kind, "by hand"))) from error
        raise UsageError(str(error)) from error


# ------------------------------------------------------------------------------------------------- the client's side


def start(
    bench: BenchConfig, seed: int = 0, out: Path | None = None, held: bool = False, made: engine.Made | None = None
) -> engine.Engine:
    """Open a bench by hand in an engine of its own and return once it can be asked.

    `held`: it aborts in order if this process dies. `made` has the engine before that, to abort it. Raises what opening
    the bench raises; no file is left then.
    """
    path = new_path(out or runs_folder(), Request(NAME, bench.bench.name, seed=seed))
    return engine.start(
        engine.Spec(
            str(path.absolute()), f"{__name__}:ByHand", {}, said_in(bench), seed,
            manifest=jsonable({"config": bench, "config_said": said_in(bench)}),
            watched=bench.bench.backend not in IN_PROCESS, held=held, conductor=f"{__name__}:conduct",
        ),
        made,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- the engine's side


def conduct(
    protocol: Protocol, guard: Guard, record: RunWriter, control: Control, seed: int, inbox: Inbox
) -> RunOutcome:
    """Serve requests on an open bench until somebody ends it."""
    runner, view = begin(protocol, guard, seed=seed, record=record, control=control)
    return runner.conduct(Hand(runner, view, inbox).work)


class Hand:
    """One session: does what is asked, one request after another."""

    def __init__(self, runner: Runner, view: BenchView, inbox: Inbox) -> None:
        self.runner, self.view, self.inbox = runner, view, inbox
        self.guard, self.control = runner.guard, runner.control
        self._bias = choose_bias("auto", view)
        self._read_v = _read_v(view)
        self._who = _who()
        self._over = False

    def work(self) -> Result:
        """Until the end was asked for. A pause refuses what waits: nobody wants it to happen when it is over."""
        while not self._over and self.control.state is not State.STOPPING:
            if self.control.state is not State.RUNNING:
                self.inbox.refuse_all(f"the session is {self.control.state.value}: nothing was done")
                self.runner.obey()
            if (asked := self.inbox.take(LOOK_S)) is not None:
                self._serve(asked)
        return Result(True)

    def _serve(self, asked: Asked) -> None:
        """Answer one request, whatever comes of it; what is no refusal ends the session."""
        try:
            answer = self._done(wish_of(asked.request))
        except (Refused, UsageError) as refused:
            answer = {"refused": str(refused)}
        except BaseException as error:
            words = f"the session has ended: {str(error) or self.control.state.value}"
            asked.say({"refused": words, "failed": True, "seq": self.runner.seq})
            raise
        asked.say(plain(answer))
        if not (self._over or "preview" in answer):
            self._note(asked.request, answer)

    def _done(self, wish: Wish) -> dict[str, Any]:
        if isinstance(wish, End):
            self._over = True
            return {"ended": True}
        if isinstance(wish, Fire) and wish.preview:
            return self._preview(wish)
        try:
            return self._read(wish) if isinstance(wish, Read) else self._pulse(wish)
        finally:
            if not self.runner.replayable:
                self.guard.rest()  # nothing stays switched on while the operator thinks

    def _one(self, step: Step) -> Answer:
        """One step, recorded. `runner.seq` is its number afterwards."""
        found: list[Answer] = []
        self.runner.go_on(_single(step, found), None)
        return found[0]

    def _note(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Who asked for what, and what came of it; the measured values stand in the steps themselves."""
        asked = {**request, "cells": _named(request.get("cells"))} if "cells" in request else dict(request)
        came = {name: answer[name] for name in ("refused", "seq", "pulses") if name in answer}
        self._one(Note(NAME, {"who": self._who, "asked": plain(asked), **came}))
        self.runner.record.flush()

    # -- reads --------------------------------------------------------------------------------------------------

    def _read(self, wish: Read) -> dict[str, Any]:
        volts = self._read_v if wish.voltage_v is None else wish.voltage_v
        return self._sensed(CellRead(self._mask(wish.cells), volts, self._both, averages=wish.averages))

    @property
    def _both(self) -> bool:
        return self.view.capabilities.both_polarities

    def _sensed(self, read: CellRead) -> dict[str, Any]:
        reading = self._one(Sense(read))
        assert isinstance(reading, Reading)
        found_s = reading.signed_a() / read.voltage_v
        sigma_s = reading.sigma_a / (abs(read.voltage_v) * len(reading.currents_a) ** 0.5)
        return {
            "seq": self.runner.seq,
            "cells": np.argwhere(read.mask).tolist(),
            "conductance_s": found_s.tolist(),
            "sigma_s": [float(sigma_s)] * len(found_s),
            "voltage_v": read.voltage_v,
            "averages": read.averages,
            "flags": list(reading.flags),
        }

    def _mask(self, cells: list[tuple[int, int]] | Literal["all"]) -> BoolArray:
        mask = np.full(self.view.shape, cells == "all")
        for row, col in () if cells == "all" else cells:
            if not (0 <= row < mask.shape[0] and 0 <= col < mask.shape[1]):
                raise UsageError(f"cell ({row}, {col}) is outside the array of {mask.shape[0]} x {mask.shape[1]}")
            mask[row, col] = True
        if not mask.any():
            raise UsageError("no cell is selected: choose at least one")
        return mask

    # -- pulses -------------------------------------------------------------------------------------------------

    def _pulse(self, wish: Fire) -> dict[str, Any]:
        """Fire and read the cells afterwards; both are checked before the first volt."""
        batch = self._batch(wish)
        after = CellRead(batch.counts != 0, self._read_v, self._both, averages=wish.averages)
        self.guard.check(after)
        applied = self._one(Apply(batch))
        assert isinstance(applied, Applied)
        fired = {
            "pulse_seq": self.runner.seq,
            "pulses": applied.pulses,
            "energy_j": applied.energy_j,
            "energy_basis": applied.energy_basis,
            "compliance_hit": applied.compliance_hit,
        }
        try:
            return {**self._sensed(after), **fired}
        except (Refused, UsageError) as refused:  # the pulses have been fired: that is what is to be said
            unread = {"seq": self.runner.seq - 1, "cells": np.argwhere(after.mask).tolist(), "not_read": str(refused)}
            return {**unread, "conductance_s": [], "sigma_s": [], "flags": [], **fired}

    def _batch(self, wish: Fire) -> PulseBatch:
        counts = np.where(self._mask(wish.cells), wish.sign * wish.count, 0).astype(np.int16)
        return PulseBatch(counts, self._shape_of(wish), self._bias)

    def _shape_of(self, wish: Fire) -> Pulse:
        """The pulse as asked for, with the edges that the device's own pulse is declared to have."""
        span = self.view.device
        known = span.pulse if wish.sign > 0 or span.depress_pulse is None else span.depress_pulse
        if known is None:
            return Pulse(wish.amplitude_v, wish.width_s)
        return replace(known, amplitude_v=wish.amplitude_v, width_s=wish.width_s)

    def _preview(self, wish: Fire) -> dict[str, Any]:
        """What would happen, and whether it may. Nothing is staged, nothing is fired, nothing is recorded."""
        batch = self._batch(wish)
        expanded = shots(batch, self.view.capabilities)
        assert isinstance(expanded, Shots)
        signed_v = wish.sign * self.view.capabilities.potentiating_sign * batch.pulse.amplitude_v
        found = {
            "preview": True,
            "cells": np.argwhere(batch.counts != 0).tolist(),
            "pulses": expanded.pulses,
            "duration_s": expanded.duration_s,
            "bias": self._bias.value,
            **_volts(batch, signed_v),
            **self._victims(batch, expanded),
            "limits": _limits(self.guard),
            "pulses_left": self._pulses_left(batch),
            "warnings": self._warnings(wish),
        }
        try:
            self.guard.check(batch)
            return {**found, **self._tried(expanded)}
        except (Refused, UsageError) as refused:
            return {**found, "refused": str(refused)}

    def _tried(self, expanded: Shots) -> dict[str, Any]:
        """What an emulated chip says of the energy, and whether it knows this pulse; it is put back to where it was.

        Of any other chip nobody knows the energy beforehand: at the pulse's volts its current is not that of a read.
        """
        chip = self.guard.snapshot() if self.runner.replayable else None
        if chip is None or expanded.pulses > MOST_TRIED:
            return {"energy_j": None, "energy_basis": "unknown", "tried": False}
        raw = self.guard.raw
        self.guard.trying = True
        try:
            raw.stage(self.runner.seq + 1, expanded)
            applied = raw.fire(self.runner.seq + 1)
            return {"energy_j": applied.energy_j, "energy_basis": applied.energy_basis, "tried": True}
        finally:
            raw.restore(chip)
            self.guard.trying = False

    def _warnings(self, wish: Fire) -> list[str]:
        if wish.sign < 0 and not self.view.device.depresses:
            return ["nobody has declared or measured that pulses of this polarity depress this device"]
        return []

    def _victims(self, batch: PulseBatch, expanded: Shots) -> dict[str, Any]:
        """Cells that are not selected and see volts: on a selected line, and anywhere else.

        `in_turn`: how often a selected cell sees such volts at most, while others of the selected are pulsed.
        """
        hit = batch.counts != 0
        on_a_line = (hit.any(axis=1)[:, None] | hit.any(axis=0)[None, :]) & ~hit
        row_v, col_v, rest_v = levels(batch.bias, batch.pulse.amplitude_v).victims_v
        isolated = self.view.capabilities.isolation != "passive"
        lines = bool(row_v or col_v) and not isolated
        half = int(on_a_line.sum()) if lines else 0
        rest = int((~hit & ~on_a_line).sum()) if rest_v and not isolated else 0
        return {
            "victims": half + rest,
            "half_selected": half,
            "others": int((~hit).sum()),
            "isolated": isolated,
            "in_turn": int(_in_turn(expanded)[hit].max()) if lines else 0,
        }

    def _pulses_left(self, batch: PulseBatch) -> int | None:
        """What the lifetime budget leaves to the poorest of these cells before this; None: nothing is counted."""
        left = float(np.min(self.guard.view().pulses_left[batch.counts != 0]))
        return int(left) if np.isfinite(left) and self.guard.limits.max_pulses_per_cell is not None else None


def _single(step: Step, found: list[Answer]) -> Steps:
    found.append((yield step))
    return Result(True)


def _in_turn(expanded: Shots) -> IntArray:
    """How many pulses go by a cell [rows, cols] on one of its lines, of those that are meant for others."""
    rows, cols = expanded.shape if expanded.axis == 0 else expanded.shape[::-1]
    on_line = np.bincount(expanded.line, expanded.repeat, rows)
    each = np.repeat(expanded.repeat, np.diff(expanded.indptr))
    across = np.bincount(expanded.cross, each, cols)
    own = expanded.counts() if expanded.axis == 0 else expanded.counts().T
    seen = (on_line[:, None] + across[None, :] - 2 * own).astype(np.int64)
    return seen if expanded.axis == 0 else seen.T


def _volts(batch: PulseBatch, signed_v: float) -> dict[str, Any]:
    level = levels(batch.bias, signed_v)
    row_v, col_v, rest_v = level.victims_v
    return {
        "cell_v": level.cell_v,
        "victim_row_v": row_v,
        "victim_col_v": col_v,
        "victim_rest_v": rest_v,
        "max_victim_v": max(map(abs, level.victims_v)),
        "line_v": max(map(abs, level)),
        "width_s": batch.pulse.width_s,
    }


def _limits(guard: Guard) -> dict[str, Any]:
    limits = guard.limits
    return {
        "max_cell_v": limits.max_cell_v,
        "max_victim_v": limits.victim_v,
        "max_line_v": limits.line_v,
        "max_width_s": limits.max_width_s,
        "min_width_s": limits.min_width_s,
        "compliance_a": limits.compliance_a,
        "max_pulses_per_cell": limits.max_pulses_per_cell,
    }


def _read_v(view: BenchView) -> float:
    """The voltage that the device is declared to be read at, within the limits of the chip and the bench."""
    known_v, most_v = view.device.read_voltage_v, min(view.limits.max_read_v, view.capabilities.max_read_v)
    return min(known_v, most_v) if np.isfinite(known_v) else most_v


def _named(cells: Any) -> Any:
    """Cells in a note: one by one where they are few."""
    return f"{len(cells)} cells" if isinstance(cells, list | tuple) and len(cells) > MOST_NAMED else cells


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a process without a name, as in a container
        return ""
