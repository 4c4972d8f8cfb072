"""A bench without a run: look at it, bring it to rest, find its instruments, write its file. Fires nothing."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from neurobench import registry
from neurobench.bench.config import IN_PROCESS, SIMULATED_BACKENDS, BenchConfig, load_bench, open_bench
from neurobench.bench.crossbar import conductance_s
from neurobench.bench.instruments import ROLES
from neurobench.bench.limits import Guard
from neurobench.bench.stimulus import CellRead
from neurobench.errors import ConfigError, UsageError
from neurobench.runs.request import pairs
from neurobench.runs.runfile import jsonable
from neurobench.system import replace_file

REFERENCE_WITHIN = 0.05  # of its declared conductance; a resistor of 1 % behind leads and a range of 0.1 %
REFERENCE_S_INTEGRATION = 20e-3  # one period of 50 Hz mains, so that its hum averages out


@runtime_checkable
class Examines(Protocol):
    """A driver that can say who answers where without opening the bench as a whole."""

    def examine(self, config: BenchConfig, seed: int) -> list[dict[str, Any]]:
        """One row per instrument: role, model, resource, answers, self_test, verdict ("ok ..." where all is well)."""

    def find(self, config: BenchConfig) -> list[dict[str, Any]]:
        """One row per address that answers: resource, answers, model, role, why."""


def check(bench: str, settings: Iterable[str] = ()) -> dict[str, Any]:
    """Say who is there and what it may do, read the reference cell, leave the bench at rest.

    `instruments` has a row for each instrument of the bench file. Where one of them is not as the file says, the
    bench is not opened and `at_rest` is False. `fault` says what is wrong: an instrument, or the reference cell.
    """
    config = without_making_a_chip(load_bench(bench, pairs(settings, "--bench-set")))
    driver = registry.load("drivers", config.bench.backend)
    rows = driver.examine(config, 0) if isinstance(driver, Examines) else []
    if bad := [row for row in rows if not str(row["verdict"]).startswith(("ok", "the operator"))]:
        fault = "; ".join(f"{row['role']}: {row['verdict']}" for row in bad)
        return {"bench": config.bench.name, "backend": config.bench.backend, "instruments": rows, "at_rest": False,
                "fault": fault}  # fmt: skip
    guard = open_bench(config, 0)
    try:
        found = _opened(config, guard)
        guard.rest()
        stand = guard.outputs()
        found["outputs"] = {"on": stand.on, "age_s": stand.age_s, "how": stand.how}
        return found | ({"instruments": rows} if rows else {}) | {"at_rest": True}
    finally:
        guard.close()


def _opened(config: BenchConfig, guard: Guard) -> dict[str, Any]:
    identity, view = guard.identity(), guard.view()
    found = {
        "bench": config.bench.name,
        "backend": identity.backend,
        "simulated": identity.simulated,
        "chip": identity.chip_id,
        "details": jsonable(identity.details),
        "capabilities": jsonable(guard.capabilities),
        "limits": jsonable(guard.limits),
        "device": {name: value for name, value in jsonable(guard.span).items() if not isinstance(value, list)},
        "excluded_cells": int(view.excluded.sum()),
    }
    if config.bench.backend not in IN_PROCESS:  # an emulated chip's noise would move on
        found["reference"] = seen = _reference(config, guard)
        if not seen["within"]:
            found["fault"] = (
                f"reference cell {tuple(seen['cell'])}: {seen['conductance_s']:g} S, declared are "
                f"{seen['declared_s']:g} S within {REFERENCE_WITHIN:.0%} ([instruments] reference_s): check wiring, "
                "ranges and the resistor"
            )
    return found


def _reference(config: BenchConfig, guard: Guard) -> dict[str, Any]:
    """Read one cell and, where its conductance is declared, compare: `within` 5 %."""
    cell, expected_s = config.instruments.reference_cell, config.instruments.reference_s
    shape = guard.capabilities.shape
    if not (0 <= cell[0] < shape[0] and 0 <= cell[1] < shape[1]):
        raise ConfigError(f"[instruments] reference_cell = {list(cell)} is outside the array of {shape}")
    known_v = guard.span.read_voltage_v
    volts = min(known_v if isfinite(known_v) else guard.limits.max_read_v, guard.limits.max_read_v)
    mask = np.zeros(shape, np.bool_)
    mask[cell] = True
    both = guard.capabilities.both_polarities
    reading = guard.sense(CellRead(mask, volts, both, 0.0, REFERENCE_S_INTEGRATION))
    measured_s = float(conductance_s(reading, volts)[0])
    offset_a = float(reading.currents_a.mean()) if both else None
    within = expected_s is None or abs(measured_s - expected_s) <= REFERENCE_WITHIN * expected_s
    return {"cell": list(cell), "voltage_v": volts, "conductance_s": measured_s, "offset_a": offset_a,
            "declared_s": expected_s, "within": within, "flags": list(reading.flags)}  # fmt: skip


def rest(bench: str, settings: Iterable[str] = ()) -> dict[str, Any]:
    """Bring a bench to rest."""
    config = without_making_a_chip(load_bench(bench, pairs(settings, "--bench-set")))
    guard = open_bench(config, 0)
    try:
        guard.rest()
    finally:
        guard.close()
    return {"bench": config.bench.name, "at_rest": True}


def without_making_a_chip(config: BenchConfig) -> BenchConfig:
    """Who only looks does not put a chip into an empty drawer: the first run makes it, with its own seed."""
    file = config.chip.file
    if file is None or file.exists() or config.bench.backend not in SIMULATED_BACKENDS:
        return config
    return config.model_copy(update={"chip": config.chip.model_copy(update={"file": None})})


def find(bench: str = "visa-sim", settings: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Everything that answers on this computer (bench `visa-sim`: the simulated instruments), and who it is."""
    return _find(load_bench(bench, pairs(settings, "--bench-set")))


def find_real(library: str = "") -> list[dict[str, Any]]:
    """Everything that answers to a VISA library on this computer."""
    config = load_bench("visa-sim")
    instruments = config.instruments.model_copy(update={"library": library})
    bench = config.bench.model_copy(update={"backend": "visa"})
    return _find(config.model_copy(update={"instruments": instruments, "bench": bench}))


def _find(config: BenchConfig) -> list[dict[str, Any]]:
    driver = registry.load("drivers", config.bench.backend)
    if not isinstance(driver, Examines):
        raise UsageError(f"backend {config.bench.backend!r} has no instruments to find; try visa")
    return driver.find(config)


def new(out: Path, library: str = "", found: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Write a commented bench file from what answers; what was not found is left to be filled in.

    Raises UsageError if the file exists: a bench file holds limits that somebody thought about.
    """
    if out.exists():
        raise UsageError(f"{out} exists and is not overwritten; choose another name with --out")
    rows = find_real(library) if found is None else found
    chosen = {row["role"]: row for row in reversed(rows) if row["role"]}
    replace_file(out, _bench_text(chosen, library).encode())
    return {"bench_file": str(out), "found": rows, "used": {role: row["resource"] for role, row in chosen.items()}}


def _bench_text(chosen: dict[str, dict[str, Any]], library: str) -> str:
    head = _HEAD.format(library=library)
    return "\n".join([head, *(_instrument_text(role, chosen.get(role)) for role in ROLES), _TAIL])


def _instrument_text(role: str, row: dict[str, Any] | None) -> str:
    what = {"smu": "reads, and drives word lines", "pulse": "fires; two channels for +V/2 and -V/2 on an array",
            "matrix": "connects; model = \"manual\" where the operator moves probes on one cell"}[role]  # fmt: skip
    if row is None:
        return f'#[instruments.{role}]                  # {what}: nothing found that can\n#model = ""\n#resource = ""\n'
    return (
        f"[instruments.{role}]                   # {what}\n"
        f'model = "{row["model"]}"          # answered: {row["answers"]}\n'
        f'resource = "{row["resource"]}"\n'
    )


_HEAD = """\
# A bench of instruments for neurobench. Written from what answered; everything marked TODO is yours to say.
# `neurobench check THIS-FILE` then says whether all is as it stands here. All units are SI. docs/visa.md explains.

[bench]
backend = "visa"
#source_ohm = 50.0                      # output resistance of the generator; default: its data sheet's
#series_ohm = 0.0                       # resistor in series with the pulse path
#compliance_path = "none"               # what limits the current of a pulse: series_ohm | transistor | none

[chip]
#id = "TODO"                            # the name on its box
#file = "TODO.chip"                     # its passport: pulses per cell over its life, across runs
rows = 4                                # word lines
cols = 4                                # bit lines
#potentiating_sign = 1                  # TODO sign of V_row - V_col that raises the conductance: 1 or -1
#top_electrode = "row"                  # TODO row | column
#accept_no_compliance = false           # true: you accept pulses that nothing limits in current

[limits]                                # TODO what this chip bears; nothing is ever sent beyond
#max_cell_v = 1.0
#max_read_v = 0.1
#max_width_s = 1e-3
#compliance_a = 1e-4
#max_pulses_per_cell = 100000

[instruments]
library = "{library}"                            # pyvisa library: empty for its own choice, @py for pyvisa-py
"""

_TAIL = """\
[instruments.wiring]                    # matrix row of each terminal (1 is A); 0: not wired; no matrix: all 0
smu = 1                                 # SMU channel that drives word lines
meter = 2                               # second SMU channel: the ammeter at 0 V (guard = N for a one-channel SMU)
pulse_row = 3                           # generator channel for word lines
pulse_col = 4                           # generator channel for bit lines
ground = 5
#word_lines = [1, 2, 3, 4]              # matrix column of each line; default: word lines first, then bit lines
#bit_lines = [5, 6, 7, 8]
"""
