"""The fault campaign: every fault at every line of every dialogue, and many at once; then the pulses are counted.

    python tests/faults/campaign.py                 more than 10,000 faults, some minutes (`make faults`)

The pulses that the emulated chip received must equal the run file's ledger, or the run must say UNKNOWN: never one
more. UNKNOWN is a defect unless an instrument restarted, or the trigger message itself was changed on its way.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neurobench.sim_instruments.serve.faults import Fault, FaultPlan
from visa_bench import PARTS, SimulatedBench, open_simulated

from neurobench.bench.crossbar import Applied, Unknown, Witness
from neurobench.bench.steps import Answer, Apply, BenchView, Protocol, Result, Sense, Step, Steps
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch, Shape, Stimulus, Waveforms
from neurobench.errors import NeurobenchError
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord, Settled

SHAPE = (2, 3)
PULSE = Pulse(2.0, 1e-3)
BATCHES = ([[1, 0, 2], [0, -1, 0]], [[0, 3, 0], [0, 0, 0]], [[-1, -1, 0], [0, 0, 1]])
CHIP = {"chip.rows": SHAPE[0], "chip.cols": SHAPE[1], "chip.model": "lsmo-gaq3-mirror"}
RESTARTS = frozenset({Fault.REBOOT_BEFORE, Fault.REBOOT_AFTER})


class Script(Protocol):
    """Reads and pulses in turn, of both signs, of one shot and of several."""

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        for counts in BATCHES:
            yield Sense(CellRead(np.ones(view.shape, np.bool_), 0.05))
            yield Apply(PulseBatch(np.array(counts), PULSE))
        yield Sense(CellRead(np.ones(view.shape, np.bool_), 0.05))
        return Result(True)


def rectangles(row: int, cols: list[int], volts: float) -> Waveforms:
    """A rectangle of half the volts on a row and one of the other sign on columns, begun together."""
    t_s, v = np.array([0.0, 0.0, PULSE.width_s, PULSE.width_s]), np.array([0.0, 1.0, 1.0, 0.0]) * volts / 2
    row_shape, col_shape = np.full(SHAPE[0], -1), np.full(SHAPE[1], -1)
    row_shape[row], col_shape[cols] = 0, 1
    return Waveforms((Shape(t_s, v), Shape(t_s, -v)), row_shape, col_shape, np.zeros(SHAPE[0]), np.zeros(SHAPE[1]))


def pulses_of(stimulus: Stimulus) -> int:
    """Pulses that cells have of it: each cell between two lines of `rectangles` has one."""
    if isinstance(stimulus, PulseBatch):
        return int(np.abs(stimulus.counts).sum())
    return int((stimulus.row_shape >= 0).sum() * (stimulus.col_shape >= 0).sum())


class WaveScript(Protocol):
    """Reads and waveforms in turn, the last one after pulses: samples are staged again."""

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        pulses = PulseBatch(np.array(BATCHES[0]), PULSE)
        stimuli = (rectangles(0, [1], 2.0), rectangles(1, [0, 2], -2.0), pulses, rectangles(0, [1], 2.0))
        for stimulus in stimuli:
            yield Apply(stimulus)
            yield Sense(CellRead(np.ones(view.shape, np.bool_), 0.05))
        return Result(True)


class Ledger(MemoryRecord):
    """The ledger of a run as its file keeps it: what was answered of every intent, and what is in doubt."""

    durable = True
    keeps_truth = True

    def __init__(self) -> None:
        super().__init__()
        self.intents: dict[int, int] = {}
        self.answered: dict[int, int] = {}
        self.doubts: dict[int, Unknown] = {}

    def intent(self, seq: int, step: Step, witness: Witness) -> None:
        assert isinstance(step, Apply)
        self.intents[seq] = pulses_of(step.stimulus)

    def answer(self, seq: int, answer: Answer, settled: Settled = Settled.DONE) -> None:
        if isinstance(answer, Applied):
            self.answered[seq] = answer.pulses

    def doubt(self, seq: int, unknown: Unknown) -> None:
        self.doubts[seq] = unknown


@dataclass
class Verdict:
    """How one run with faults ended: `kind` is finished, fault, unknown or refused (the bench did not open)."""

    kind: str
    faults: int
    wrong: str = ""
    error: str = ""


@dataclass
class Table:
    """Verdicts by fault and by how the run ended."""

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: int = 0
    runs: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, name: str, verdict: Verdict, where: str) -> None:
        self.runs += 1
        self.faults += verdict.faults
        self.rows[name, verdict.kind] += 1
        if verdict.wrong:
            self.wrong.append(f"{where}: {verdict.wrong} ({verdict.error})")

    def __str__(self) -> str:
        kinds = ("finished", "fault", "unknown", "refused")
        names = sorted({name for name, _ in self.rows})
        lines = [f"{'fault':28}" + "".join(f"{kind:>10}" for kind in kinds)]
        lines += [f"{name:28}" + "".join(f"{self.rows[name, kind]:10}" for kind in kinds) for name in names]
        lines.append(f"{self.runs} runs, {self.faults} faults injected, {len(self.wrong)} wrong")
        return "\n".join([*lines, *self.wrong[:20]])


def judged(parts: Mapping[str, Any], plan: FaultPlan, script: type[Protocol] = Script) -> Verdict:
    """One run through the faults of `plan`, and whether chip and ledger agree."""
    record = Ledger()
    try:
        bench = open_simulated({**CHIP, **parts}, plan=plan)
    except NeurobenchError as error:
        return Verdict("refused", len(plan.injected), error=str(error))
    try:
        outcome = runner.run(script(), bench.guard(), seed=0, record=record)
    finally:
        fired = bench.world.pulses_fired()
        _close(bench)
    error = "" if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"
    kind = "unknown" if record.doubts else ("finished" if outcome.status == "finished" else "fault")
    wrong = _wrong(record, fired) or _needless(record, plan) or _unfinished(kind, record)
    return Verdict(kind, len(plan.injected), wrong, error)


def _close(bench: SimulatedBench) -> None:
    with contextlib.suppress(NeurobenchError):  # a fault on the way out; the outputs are checked by others
        bench.close()


def _wrong(record: Ledger, fired: int) -> str:
    """Chip and ledger: equal, or within what is said to be in doubt."""
    sure = sum(record.answered.values())
    doubtful = sum(pulses for seq, pulses in record.intents.items() if seq in record.doubts)
    if not record.doubts and fired != sure:
        return f"the chip had {fired} pulses, the ledger says {sure}"
    if not sure <= fired <= sure + doubtful:
        return f"the chip had {fired} pulses, the ledger says {sure} and {doubtful} in doubt"
    return ""


def _needless(record: Ledger, plan: FaultPlan) -> str:
    """A doubt without a restart, and without a changed trigger message, is one too many."""
    if not record.doubts:
        return ""
    told = {one.fault for one in plan.injected}
    changed = any(one.fault is Fault.COMMAND_GARBLED and _fires(one.line) for one in plan.injected)
    why = "; ".join(doubt.why for doubt in record.doubts.values())
    return "" if told & RESTARTS or changed else f"a needless doubt: {why}"


def _fires(line: bytes) -> bool:
    return any(word in line for word in (b"*TRG", b"initiate", b"INIT"))


def _unfinished(kind: str, record: Ledger) -> str:
    """Every intent has an answer, is in doubt, or was certainly not fired and ended the run."""
    open_ones = [seq for seq in record.intents if seq not in record.answered and seq not in record.doubts]
    return f"steps {open_ones} have no answer, and the run finished" if kind == "finished" and open_ones else ""


def dialogue_length(parts: Mapping[str, Any], script: type[Protocol] = Script) -> int:
    """Lines of the run without faults."""
    plan = FaultPlan.at({})
    verdict = judged(parts, plan, script)
    assert verdict.kind == "finished", verdict
    assert not verdict.wrong, verdict
    return len(plan.dialogue)


def singles(name: str, step: int = 1, script: type[Protocol] = Script) -> Iterator[tuple[str, str, FaultPlan]]:
    """One fault per run: every kind at every `step`-th line."""
    for position in range(0, dialogue_length(PARTS[name], script), step):
        for fault in Fault:
            yield fault.value, f"{name}, {fault} at line {position}", FaultPlan.at({position: fault}, seed=position)


def storms(name: str, seeds: range, rate: float) -> Iterator[tuple[str, str, FaultPlan]]:
    """Many faults per run, drawn; restarts and changed commands apart, since they alone may leave a doubt."""
    mild = [f for f in Fault if f not in RESTARTS and f is not Fault.COMMAND_GARBLED]
    for seed in seeds:
        for kinds, what in ((mild, "many, no restart"), (list(Fault), "many of all kinds")):
            rates = dict.fromkeys(kinds, rate / len(kinds))
            yield f"{what} ({rate:.0%})", f"{name}, {what}, seed {seed}", FaultPlan.drawn(rates, seed=seed)


def campaign(
    table: Table, names: list[str], step: int, seeds: range, rate: float, script: type[Protocol] = Script
) -> None:
    for name in names:
        for fault, where, plan in (*singles(name, step, script), *storms(name, seeds, rate)):
            table.add(fault, judged(PARTS[name], plan, script), where)


FULL_RATE = 0.05
WITH_WAVES = [name for name in PARTS if "33500b" in name]  # the generators that play waveforms


def main() -> int:
    table = Table()
    for name in PARTS:
        campaign(table, [name], 1, range(40), FULL_RATE)
        print(f"after {name}:\n{table}\n", flush=True)
    for name in WITH_WAVES:
        campaign(table, [name], 1, range(40), FULL_RATE, WaveScript)
        print(f"after waveforms on {name}:\n{table}\n", flush=True)
    return 1 if table.wrong or table.faults < 10_000 else 0


if __name__ == "__main__":
    sys.exit(main())
