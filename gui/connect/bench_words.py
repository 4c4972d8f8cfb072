"""What a bench check and a chip's passport say, as lines of a mark, a word and a sentence. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neurobench.bench.config import SIMULATED_BACKENDS, BenchConfig
from neurobench.bench.passport import CellState, Passport
from neurobench.errors import NeurobenchError
from neurobench.runs.screen import si, word

Level = Literal["ok", "look", "bad", "plain"]
MARKS: dict[Level, str] = {"ok": "✓", "look": "!", "bad": "✕", "plain": "·"}
QUANTITIES = {"V": "voltage", "s": "width"}
WORDS: dict[Level, str] = {"ok": "ok", "look": "look", "bad": "failed", "plain": ""}


@dataclass(frozen=True)
class Line:
    """One thing that was looked at: how it is, what it is, what was found."""

    level: Level
    part: str
    words: str

    def text(self) -> str:
        """The line as plain text, to be copied."""
        return f"{MARKS[self.level]} {WORDS[self.level]:6} {self.part}: {self.words}"


def is_real(config: BenchConfig) -> bool:
    """Whether there may be a chip that a wrong pulse destroys."""
    return config.bench.backend not in SIMULATED_BACKENDS


# -- the self-test --------------------------------------------------------------------------------------------------


def check_lines(found: Mapping[str, Any]) -> list[Line]:
    """What `neurobench check BENCH --json` printed, part by part; what is wrong comes first."""
    lines = [_instrument(row) for row in found.get("instruments", ())]
    if "capabilities" in found:
        lines += [*_identity(found), *_array(found), *_pulse_path(found)]
    if "reference" in found:
        lines.append(_reference(found["reference"]))
    if (excluded := found.get("excluded_cells")) is not None:
        words = f"{excluded} cells are out of use" if excluded else "all cells are in use"
        lines.append(Line("look" if excluded else "ok", "cells", words))
    if "at_rest" in found:
        words = "outputs at 0 V, lines as the bench file says" if found["at_rest"] else "the bench was not opened"
        lines.append(Line("ok" if found["at_rest"] else "bad", "at rest", words))
    wrong = found.get("error") or found.get("fault")
    return [Line("bad", "fault", str(wrong)), *lines] if wrong else lines


def _instrument(row: Mapping[str, Any]) -> Line:
    verdict = str(row.get("verdict", ""))
    level: Level = "ok" if verdict.startswith("ok") else "look" if verdict.startswith("the operator") else "bad"
    said = [
        f"{row.get('model', '')} at {row['resource']}" if row.get("resource") else str(row.get("model", "")),
        str(row.get("answers") or "no answer"),
        f"self-test {row['self_test']}" if row.get("self_test") else "",
        verdict,
        _link(row["link"]) if "link" in row else "",
    ]
    return Line(level, str(row["role"]), "; ".join(filter(None, said)))


def _link(link: Mapping[str, Any]) -> str:
    return (
        f"{link['baud']} baud, round trip {si(link['round_trip_s'], 's')}, {link['repeated']} of {link['requests']} "
        f"requests repeated, {link['bad_here'] + link['bad_at_the_board']} unreadable frames"
    )


def _identity(found: Mapping[str, Any]) -> list[Line]:
    real = "SIMULATED: nothing real is connected" if found["simulated"] else "a real bench"
    return [
        Line("plain", "bench", f"{found['bench']} (backend {found['backend']}), {real}"),
        Line("ok" if found["chip"] else "look", "chip", str(found["chip"] or "has no id: say it in [chip] id")),
    ]


def _array(found: Mapping[str, Any]) -> list[Line]:
    has = found["capabilities"]
    rows, cols = has["shape"]
    biases = ", ".join({"half": "V/2", "third": "V/3"}.get(one, one) for one in has["biases"])
    vectors = ", ".join(one.replace("_", " ") for one in has["vector_reads"]) or "made on the host from cell reads"
    lines = f"{rows} word lines x {cols} bit lines"
    return [
        Line("plain", "array", f"{lines}, {has['isolation']}; one {has['parallelism']} a shot"),
        Line("plain", "writes", f"bias {biases or 'none'}; {_widths(has)}; {_most(has['max_pulse_v'], 'V')}"),
        Line("plain", "reads", f"{has['read_topology'].replace('_', ' ')}; products {vectors}"),
    ]  # fmt: skip


def _widths(has: Mapping[str, Any]) -> str:
    least = float(has["min_width_s"])
    return ("pulses " if not least else f"pulses from {si(least, 's')} ") + _most(has["max_width_s"], "s")


def _most(value: Any, unit: str) -> str:
    number = float(value)
    return f"up to {si(number, unit)}" if np.isfinite(number) else f"of any {QUANTITIES[unit]} that [limits] allow"


def _pulse_path(found: Mapping[str, Any]) -> list[Line]:
    has, limit = found["capabilities"], found["limits"].get("compliance_a")
    path = has["compliance_path"]
    limited = "nothing limits the current of a pulse" if path == "none" else f"limited by {path.replace('_', ' ')}"
    asked = f"; compliance {si(limit, 'A')} is asked for" if limit else ""
    ohm = f"source {si(has['source_ohm'], 'ohm')}, series {si(has['series_ohm'], 'ohm')}"
    level: Level = "look" if path == "none" and not found["simulated"] else "plain"
    return [Line(level, "pulse path", f"{limited}{asked}; {ohm}")]


def _reference(seen: Mapping[str, Any]) -> Line:
    row, col = seen["cell"]
    words = f"cell ({row}, {col}) at {si(seen['voltage_v'], 'V')}: {si(seen['conductance_s'], 'S')}"
    if seen.get("offset_a") is not None:
        words += f", offset {si(seen['offset_a'], 'A')}"
    declared = seen.get("declared_s")
    words += f"; declared {si(declared, 'S')}" if declared else "; nothing declared to compare with"
    return Line("ok" if seen["within"] else "bad", "reference", words + "".join(f"; {flag}" for flag in seen["flags"]))


# -- the chip -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chip:
    """What is known of the chip of a bench: lines, and the run that used it last without an end ("": none)."""

    lines: Sequence[Line]
    unsettled_run: str = ""


def chip_of(config: BenchConfig) -> Chip:
    """The chip that a bench file names, with its passport if it has one; nothing is locked or opened."""
    lines = _declared(config)
    file = config.chip.file
    if file is None:
        if is_real(config):
            words = "no [chip] file: pulses of its life are not counted across runs"
            return Chip([*lines, Line("look", "passport", words)])
        return Chip([*lines, Line("plain", "passport", "each run makes a new chip from its seed")])
    path = file.with_name(file.name + ".passport")
    if not path.exists():
        return Chip([*lines, Line("plain", "passport", f"none yet; the first run makes {path.name}")])
    try:
        passport = Passport.look(path)
    except (NeurobenchError, OSError) as error:
        return Chip([*lines, Line("bad", "passport", str(error))])
    return Chip([*lines, *_lived(passport, config, path)], passport.run_file if passport.unsettled else "")


def _declared(config: BenchConfig) -> list[Line]:
    chip, real = config.chip, is_real(config)
    sign = {1: "positive V_row - V_col potentiates", -1: "negative V_row - V_col potentiates"}
    polarity = sign.get(chip.potentiating_sign or 0, "not said: [chip] potentiating_sign" if real else sign[1])
    device = str(chip.curve.name if chip.curve else chip.model)
    name = chip.id or ("not said: [chip] id" if real else "made from the seed")
    lines = [
        Line("plain" if chip.id or not real else "bad", "identity", name),
        Line("plain", "array", f"{chip.rows} x {chip.cols}, {chip.isolation}"),
        Line("bad" if real and chip.potentiating_sign is None else "plain", "polarity", polarity),
    ]  # fmt: skip
    if chip.top_electrode is not None or real:
        level: Level = "plain" if chip.top_electrode else "bad"
        lines.append(Line(level, "top electrode", chip.top_electrode or "not said: [chip] top_electrode"))
    return lines if real else [*lines, Line("plain", "device", f"{device}, {chip.replay} replay")]


def _lived(passport: Passport, config: BenchConfig, path: Path) -> list[Line]:
    states = {state: int((passport.cell_state == state).sum()) for state in CellState}
    out = sum(states[state] for state in (CellState.STUCK, CellState.SHORTED, CellState.RETIRED))
    counted = ", ".join(f"{n} {state.name.lower()}" for state, n in states.items() if n)
    lines = [
        Line("plain", "passport", f"{passport.chip_id or 'no id'} in {path.name}"),
        _used(passport, config),
        Line("look" if out else "ok", "cells", counted),
    ]
    if log := passport.about.get("forming_log"):
        lines.append(Line("plain", "forming", f"{len(log)} cells were formed"))
    if passport.unsettled:
        lines.append(Line("bad", "last run", f"{passport.run_file} did not end: settle it, or resume it in Runs"))
    elif passport.run_file:
        lines.append(Line("ok", "last run", f"{Path(passport.run_file).name}, all of its pulses are booked"))
    return lines


def _used(passport: Passport, config: BenchConfig) -> Line:
    pulses, budget = passport.life.pulses, config.limits.max_pulses_per_cell
    most, energy_j = int(pulses.max()), float(passport.life.total_j().max())
    words = f"{word(int(pulses.sum()))} pulses, at most {most} on one cell"
    if energy_j > 0:
        words += f", up to {si(energy_j, 'J')}"
    if budget is None:
        return Line("plain", "life used", words + "; no budget")
    share = most / budget
    level: Level = "bad" if share >= 1 else "look" if share >= 0.8 else "ok"
    return Line(level, "life used", f"{words} of {budget} ({share:.1%})")
