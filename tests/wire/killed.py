"""A run on simulated instruments of another process, in a process that may be killed at any moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Apply, BenchView, Protocol, Result, Sense, Steps
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch
from neurobench.runs.replay import resume
from neurobench.runs.runfile import RunWriter
from neurobench.runs.runner import run

PULSE = Pulse(2.0, 1e-3)


class Script(Protocol):
    """Reads and pulses in turn, of both signs, of one shot and of several, one of them with many pulses."""

    batches: int = 8
    pulses: int = 20

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        for k in range(self.batches):
            counts = np.zeros(view.shape, np.int16)
            counts[0, :3], counts[1, 1] = (1, 0, self.pulses + k), -3
            yield Apply(PulseBatch(counts, PULSE))
            yield Sense(CellRead(counts != 0, 0.05))
        return Result(True)


def bench_file(path: Path, instruments: list[dict[str, str]]) -> None:
    """A real bench as a lab writes it, on these instruments."""
    sections = "".join(
        f'[instruments.{row["role"]}]\nmodel = "{row["model"]}"\nresource = "{row["resource"]}"\n'
        for row in instruments
    )
    path.write_text(
        '[bench]\nbackend = "visa"\nsource_ohm = 0.0\nbiases = ["half"]\n'
        '[chip]\nrows = 4\ncols = 4\nmodel = "lsmo-gaq3-mirror"\npotentiating_sign = 1\n'
        'top_electrode = "row"\naccept_no_compliance = true\n'
        "[limits]\nmax_cell_v = 2.5\nmax_read_v = 0.1\nmax_width_s = 1e-2\n"
        f'[instruments]\nlibrary = "@py"\n{sections}'
        "[instruments.wiring]\nsmu = 1\nmeter = 2\npulse_row = 3\npulse_col = 4\nground = 5\n"
    )


def session(bench: Path, path: Path, script: Protocol, accept_doubt: bool, said: Connection) -> None:
    """Run, or go on with what is in the run file; says "begun" at its first own step, and then how it ended."""
    guard = open_bench(load_bench(bench), 0)
    _tell_begin(guard.raw, said)
    try:
        if not path.exists():
            with RunWriter.create(path, {}) as record:
                outcome = run(script, guard, seed=0, record=record)
        else:
            with RunWriter.reopen(path) as record:
                outcome = resume(script, guard, record, accept_doubt=accept_doubt, accept_baseline=True)
    finally:
        guard.close()
    said.send(type(outcome.error).__name__ if outcome.error else outcome.status)


def _tell_begin(crossbar: Any, said: Connection) -> None:
    def telling(call: Any) -> Any:
        def told(*given: Any) -> Any:
            said.send("begun")
            return call(*given)

        return told

    for name in ("stage", "sense", "outcome"):
        setattr(crossbar, name, telling(getattr(crossbar, name)))


def ended(said: Connection) -> str:
    """How the session ended: its status, or the name of its error."""
    while said.poll(20) and (word := said.recv()) == "begun":
        pass
    return str(word)


def started(
    bench: Path, path: Path, script: Protocol, accept_doubt: bool = False
) -> tuple[multiprocessing.Process, Connection]:
    """The session in a process of its own, once it does something of its own with the chip."""
    here, there = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process: Any = context.Process(target=session, args=(bench, path, script, accept_doubt, there))
    process.start()
    there.close()
    assert here.poll(20)
    here.recv()
    return process, here
