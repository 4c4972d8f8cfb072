"""What a run would do, found out without touching the chip: on a copy of it where it is emulated."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neurobench.bench.config import SIMULATED_BACKENDS, BenchConfig, open_bench
from neurobench.bench.crossbar import Witness
from neurobench.bench.limits import Guard, exposure
from neurobench.bench.steps import Answer, Apply, Protocol, Sense, Step
from neurobench.bench.stimulus import CellRead, PulseBatch, Stimulus
from neurobench.runs import runner
from neurobench.runs.request import Prepared, Request, prepare
from neurobench.runs.runfile import MemoryRecord, jsonable

BESIDE = ("", ".passport")  # what belongs to a chip that is kept in a file


class _Tally(MemoryRecord):
    """A record that keeps the largest volts and the longest pulse of a run, and what its preflight said."""

    def __init__(self) -> None:
        super().__init__()
        self.max_pulse_v = self.max_read_v = self.longest_pulse_s = 0.0

    def entry(self, seq: int, step: Step, answer: Answer) -> None:  # noqa: ARG002 - steps are looked at, not kept
        """Look at the volts of a step."""
        self._look(step)

    def intent(self, seq: int, step: Step, witness: Witness) -> None:  # noqa: ARG002
        """Look at the volts of a step that is recorded before it is fired."""
        self._look(step)

    def _look(self, step: Step) -> None:
        if isinstance(step, Apply):
            volts, lasts_s = _extent(step.stimulus)
            self.max_pulse_v, self.longest_pulse_s = max(self.max_pulse_v, volts), max(self.longest_pulse_s, lasts_s)
        elif isinstance(step, Sense):
            volts = step.read.voltage_v if isinstance(step.read, CellRead) else abs(step.read.volts).max()
            self.max_read_v = max(self.max_read_v, abs(float(volts)))

    def said(self, name: str) -> str | None:
        """The sentence of a note of that name."""
        sentences = [note.value.get("sentence") for note in self.notes if note.name == name]
        return sentences[-1] if sentences else None


def _extent(stimulus: Stimulus) -> tuple[float, float]:
    """Largest volts on a line or cell, and the longest time that they are on."""
    if isinstance(stimulus, PulseBatch):
        return stimulus.pulse.amplitude_v, stimulus.pulse.duration_s
    on_lines_v = max(float(abs(shape.v).max()) for shape in stimulus.shapes)
    return max(on_lines_v, float(exposure(stimulus, math.inf).worst_v.max())), stimulus.duration_s


def preview(asked: Request) -> dict[str, Any]:
    """What `run` would do: needs against capabilities, the preflight's sentence, pulses, time, energy, largest volts.

    On a bench that is simulated here the run is done on a copy of the chip, so the numbers are those of this very run.
    On any other only the needs are compared: the chip is not touched, nor one that somebody else simulates. Raises what
    the run would raise before its first step.
    """
    prepared = prepare(asked)
    with _copied(prepared.bench) as bench:
        guard = open_bench(bench, asked.seed, prepared.protocol.limits_profile)
        try:
            found = _needs(prepared.protocol, guard)
            if prepared.bench.bench.backend not in SIMULATED_BACKENDS:
                whose = "simulated elsewhere" if guard.identity().simulated else "real"
                return found | {"dry_run": f"none: the chip of this bench is {whose}, and a preview does not touch it"}
            return found | _dry_run(prepared, guard)
        finally:
            guard.close()


@contextlib.contextmanager
def _copied(config: BenchConfig) -> Iterator[BenchConfig]:
    """The bench with a copy of the chip that it keeps in a file; any other bench as it is."""
    file = config.chip.file
    if file is None or config.bench.backend not in SIMULATED_BACKENDS:
        yield config
        return
    with tempfile.TemporaryDirectory(prefix="neurobench-preview-") as folder:
        for suffix in BESIDE:
            if (original := file.with_name(file.name + suffix)).exists():
                shutil.copyfile(original, Path(folder) / original.name)
        chip = config.chip.model_copy(update={"file": Path(folder) / file.name})
        yield config.model_copy(update={"chip": chip})


def _needs(protocol: Protocol, guard: Guard) -> dict[str, Any]:
    plan = protocol.needs.plan(guard.capabilities)
    return {
        "bench": guard.bench_name,
        "simulated": guard.identity().simulated,
        "needs": jsonable(protocol.needs),
        "capabilities": {name: jsonable(getattr(guard.capabilities, name)) for name in COMPARED},
        "multiply": plan.multiply,
    }


COMPARED = ("shape", "biases", "vector_reads", "parallelism", "isolation", "distinct_shapes")


def _dry_run(prepared: Prepared, guard: Guard) -> dict[str, Any]:
    record, before_s = _Tally(), guard.clock_s
    outcome = runner.run(prepared.protocol, guard, seed=prepared.request.seed, record=record)
    if isinstance(outcome.error, KeyboardInterrupt):
        raise outcome.error
    result = outcome.result or {}
    return {
        "dry_run": "on a copy of the emulated chip",
        "preflight": record.said("preflight"),
        "status": outcome.status,
        "error": str(outcome.error) if outcome.error else None,
        "updates": result.get("updates"),
        "pulses": outcome.pulses,
        "reads": result.get("cost", {}).get("reads", outcome.totals.reads),
        "bench_s": guard.clock_s - before_s,
        "energy_j": outcome.energy_j if math.isfinite(outcome.energy_j) else None,
        "max_pulse_v": record.max_pulse_v,
        "max_read_v": record.max_read_v,
        "longest_pulse_s": record.longest_pulse_s,
        "limits": {name: getattr(guard.limits, name) for name in ("max_cell_v", "max_read_v", "max_width_s")},
    }
