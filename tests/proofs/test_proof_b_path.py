"""Proof (b): nothing is left out on the fast path, generator -> Guard -> bench -> run file; benchmarks hold its speed.

Every step of a 4 x 4 run stands in the run file in order, and the Guard's books, the file and the chip agree; so they
do for a loop of 784 x 256, which is one entry. Bars and figures: tests/benchmarks/bench_path.py and bench_loop.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PrivateAttr

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Applied
from neurobench.bench.steps import Apply, BenchView, Loop, LoopAnswer, Protocol, Result, Sense, Steps
from neurobench.bench.stimulus import Pulse, PulseBatch, VectorRead
from neurobench.learning.loops import LifStdp, Rule, Spikes, poisson
from neurobench.runs import runner
from neurobench.runs.runfile import RunFile, RunWriter

STEPS, LINES, TICKS = 400, (784, 256), 250
PULSE = Pulse(1.0, 1e-6)


class Walk(Protocol):
    """Random sign updates and a product after each, as a training does them."""

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        assert view.device.pulse is not None
        fired = np.zeros(view.shape, np.int64)
        for _ in range(STEPS // 2):
            counts = rng.integers(0, 2, view.shape).astype(np.int8)
            applied = yield Apply(PulseBatch(counts, view.device.pulse))
            fired += counts
            assert applied.pulses == counts.sum()
            yield Sense(VectorRead(0.1 * rng.choice([-1.0, 1.0], (6, view.shape[0]))))
        return Result(True, {"fired": fired})


def test_every_step_is_guarded_and_recorded(tmp_path: Path) -> None:
    guard = open_bench(load_bench("emulator"), seed=4)
    with RunWriter.create(tmp_path / "run.nbr") as record:
        outcome = runner.run(Walk(), guard, seed=4, record=record)
    assert outcome.error is None
    assert outcome.result is not None
    fired = outcome.result["fired"]
    assert np.array_equal(guard.passport.life.pulses, fired)
    assert np.array_equal(guard.raw.chip.pulses.reshape(4, 4), fired)  # type: ignore[attr-defined]
    with RunFile.open(record.path) as run:
        entries = list(run.entries())
    assert [entry.seq for entry in entries] == list(range(STEPS))
    assert [entry.kind for entry in entries] == ["apply", "sense"] * (STEPS // 2)
    answers = [entry.answer for entry in entries if entry.kind == "apply"]
    assert sum(a.pulses for a in answers if isinstance(a, Applied)) == fired.sum() == outcome.pulses
    guard.close()


class Spiking(Protocol):
    """Two loops, the second going on where the first one ended."""

    _inputs: list[Spikes] = PrivateAttr(default_factory=list)

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        program = LifStdp.fresh(Rule(gain_per_a=2e3, inhibit=True), self._inputs[0], LINES, PULSE, PULSE)
        answer = yield Loop(program, TICKS)
        answer = yield Loop(program.after(answer, self._inputs[1]), TICKS)
        return Result(True, {"spikes": len(answer.spikes)})


def test_a_loop_is_one_guarded_entry(tmp_path: Path) -> None:
    protocol = Spiking()
    rng = np.random.default_rng(2)
    protocol._inputs.extend(poisson(np.full(LINES[0], 0.1), TICKS, rng) for _ in range(2))
    guard = open_bench(load_bench("emulator", {"chip.model": "reram-sb", "chip.rows": 784, "chip.cols": 256}), seed=1)
    with RunWriter.create(tmp_path / "loop.nbr") as record:
        outcome = runner.run(protocol, guard, seed=1, record=record)
    assert outcome.error is None
    with RunFile.open(record.path) as run:
        answers = [entry.answer for entry in run.entries() if entry.kind == "loop"]
    assert len(answers) == 2
    done = np.zeros(LINES, np.int64)
    for answer in answers:
        assert isinstance(answer, LoopAnswer)
        assert answer.ticks == TICKS
        assert len(answer.spikes) > 0
        done += answer.potentiations.astype(np.int64) + answer.depressions
    assert done.sum() == outcome.pulses > 10_000
    assert np.array_equal(guard.passport.life.pulses, done)
    guard.close()
