"""The fault campaign on the FPGA bench: commands over a bad line to a board that restarts; then the pulses are counted.

    python tests/fpga/fpga_campaign.py              100,000 commands, 500 restarts, some minutes
    python tests/fpga/fpga_campaign.py 2000 10      so many commands and restarts

Of all frames, each way, 1 % is lost, 1 % changed, 1 % doubled, 1 % late. The pulses that the emulated chip had must
equal the run file's ledger, or the run must say UNKNOWN: never one more. An UNKNOWN is a defect unless the board
restarted since the step was staged, at most one for each restart; a run that ends in any other fault is a defect too.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fpga_bench import FAULTY, open_simulated, reopened

from neurobench.bench.crossbar import Applied, Unknown, Witness
from neurobench.bench.steps import Answer, Apply, BenchView, Protocol, Result, Sense, Step, Steps
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch
from neurobench.errors import LinkLost, PulseUnknown
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord, Settled

COMMANDS, RESTARTS = 100_000, 500
PER_RUN = 200
COMMAND_S = 11e-3  # of simulated time, about what one takes: restarts are spread over all of them
SHAPE = (2, 3)
PULSE = Pulse(2.0, 1e-3)  # long, so that restarts come in the middle of some
CHIP = {"chip.rows": SHAPE[0], "chip.cols": SHAPE[1], "chip.model": "lsmo-gaq3-mirror", "readout.ideal": True}


class Script(Protocol):
    """Pulse batches, of both signs, of no shot, one and several, and a read after every third."""

    commands: int = PER_RUN

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        for n in range(self.commands):
            if n % 4 == 3:
                yield Sense(CellRead(np.ones(view.shape, np.bool_), 0.05))
            else:
                yield Apply(PulseBatch(rng.integers(-2, 3, view.shape).astype(np.int16), PULSE))
        return Result(True)


class Ledger(MemoryRecord):
    """The ledger of a run as its file keeps it, and how often the board restarted since its last answer."""

    durable = True
    keeps_truth = True

    def __init__(self, restarts: list[float]) -> None:
        super().__init__()
        self.intents: dict[int, int] = {}
        self.answered: dict[int, int] = {}
        self.doubts: dict[int, Unknown] = {}
        self.reads = 0
        self._restarts, self._before = restarts, len(restarts)

    @property
    def restarts_since_answer(self) -> int:
        """Of the last step: the board may restart after it has answered ARM and before the host hears of it."""
        return len(self._restarts) - self._before

    def intent(self, seq: int, step: Step, witness: Witness) -> None:
        assert isinstance(step, Apply)
        assert isinstance(step.stimulus, PulseBatch)
        self.intents[seq] = int(np.abs(step.stimulus.counts).sum())

    def answer(self, seq: int, answer: Answer, settled: Settled = Settled.DONE) -> None:
        assert isinstance(answer, Applied)
        self.answered[seq] = answer.pulses
        self._before = len(self._restarts)

    def entry(self, seq: int, step: Step, answer: Answer) -> None:
        self.reads += 1
        self._before = len(self._restarts)

    def doubt(self, seq: int, unknown: Unknown) -> None:
        self.doubts[seq] = unknown


@dataclass
class Table:
    """What came of all runs."""

    commands: int = 0
    runs: int = 0
    pulses: int = 0
    unknown: int = 0
    restarts: int = 0
    not_opened: int = 0  # at once, because the board restarted just then
    injected: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.injected.items()))
        lines = [
            f"{self.commands} commands in {self.runs} runs, {self.pulses} pulses; frames: {faults}",
            f"{self.restarts} restarts ({self.not_opened} while the bench was being opened), "
            f"{self.unknown} times UNKNOWN, {len(self.wrong)} wrong",
        ]
        return "\n".join([*lines, *self.wrong[:20]])


class Campaign:
    """One board for all runs; it restarts at instants that were drawn."""

    def __init__(self, restarts: int, seed: int, mean_s: float) -> None:
        self.bench = open_simulated({**CHIP, **FAULTY, "board.simulation.fault_seed": seed}, seed)
        self.table = Table()
        self.restarts: list[float] = []
        self._rng, self._left, self._mean_s = np.random.default_rng(seed), restarts, mean_s
        self._plan_restart()

    def _plan_restart(self) -> None:
        if self._left:
            self._left -= 1
            self.bench.simulation.time.at(float(self._rng.uniform(0, 2 * self._mean_s)), self._restart)

    def _restart(self) -> None:
        self.restarts.append(self.bench.board.now_s())
        self.bench.board.reboot()
        self._plan_restart()

    def run(self, seed: int, commands: int) -> None:
        """One run on the board as the last one left it, and whether chip and ledger agree."""
        self._open()
        record, before = Ledger(self.restarts), self.bench.board.pulses_fired()
        outcome = runner.run(Script(commands=commands), self.bench.guard(), seed=seed, record=record)
        fired = self.bench.board.pulses_fired() - before
        table, where = self.table, f"run {seed}, after {outcome.error!r}"
        table.runs, table.commands = table.runs + 1, table.commands + len(record.intents) + record.reads
        table.pulses, table.unknown = table.pulses + fired, table.unknown + len(record.doubts)
        table.restarts, table.injected = len(self.restarts), Counter(self.bench.simulation.line.count())
        table.wrong += [f"{where}: {what}" for what in wrongs(record, outcome.error, fired) if what]

    def _open(self) -> None:
        """As the next process does; once more where a restart came in the middle of it: nothing was fired."""
        before = len(self.restarts)
        try:
            self.bench = reopened(self.bench)
        except LinkLost as lost:
            if len(self.restarts) == before:
                self.table.wrong.append(f"the bench did not open: {lost}")
            self.table.not_opened += 1
            self.bench = reopened(self.bench)

    def close(self) -> Table:
        self.bench.close()
        if self.table.unknown > self.table.restarts:
            self.table.wrong.append("more UNKNOWN than restarts")
        return self.table


def wrongs(record: Ledger, error: BaseException | None, fired: int) -> list[str]:
    """Chip and ledger: equal, or within what is said to be in doubt, for a reason."""
    sure = sum(record.answered.values())
    doubtful = sum(pulses for seq, pulses in record.intents.items() if seq in record.doubts)
    found = []
    if not sure <= fired <= sure + doubtful:
        found.append(f"the chip had {fired} pulses, the ledger says {sure} and {doubtful} in doubt")
    if record.doubts and not record.restarts_since_answer:
        found.append(f"a needless doubt: {list(record.doubts.values())}")
    if error is not None and not isinstance(error, PulseUnknown):
        found.append("the run ended in a fault")
    if error is None and set(record.intents) != set(record.answered):
        found.append(f"steps {set(record.intents) - set(record.answered)} have no answer, and the run finished")
    return found


def campaign(commands: int, restarts: int, seed: int = 1) -> Table:
    """At least so many commands, over so many restarts."""
    runs = Campaign(restarts, seed, mean_s=COMMAND_S * commands / max(restarts, 1))
    try:
        n, end_s = 0, time.monotonic() + 60
        while runs.table.commands < commands or len(runs.restarts) < restarts:
            runs.run(n, PER_RUN)
            n += 1
            if time.monotonic() > end_s:
                print(runs.table, flush=True)
                end_s += 60
    finally:
        table = runs.close()
    return table


def main() -> int:
    commands, restarts = (int(arg) for arg in sys.argv[1:3]) if len(sys.argv) > 2 else (COMMANDS, RESTARTS)
    began_s = time.monotonic()
    table = campaign(commands, restarts)
    print(f"{table}\n{time.monotonic() - began_s:.0f} s")
    return 1 if table.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
