"""Speed of Manhattan through generator, Guard, runner and run file, on one BLAS thread (`make bench`).

Median and least of many runs are printed; the bars are held against the least: other work on the machine only adds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Apply, Sense
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord, RunWriter

RUNS = 25


@pytest.fixture
def steps_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time of each run's steps alone: opening and closing of bench and file are not in it."""
    taken: list[float] = []
    plain = runner.Runner.go_on

    def timed(self: Any, steps: Any, answer: Any) -> Any:
        begin = time.perf_counter()
        try:
            return plain(self, steps, answer)
        finally:
            taken.append(time.perf_counter() - begin)

    monkeypatch.setattr(runner.Runner, "go_on", timed)
    return taken


def runs(protocol: Manhattan, folder: Path | None) -> runner.RunOutcome:
    outcome = None
    for seed in range(RUNS):
        guard = open_bench(load_bench("emulator", {}, protocol.bench_defaults()), seed)
        record = MemoryRecord() if folder is None else RunWriter.create(folder / f"{time.time_ns()}.nbr")
        outcome = runner.run(protocol, guard, seed=seed, record=record)
        assert outcome.error is None
        guard.close()
        record.close()
    assert outcome is not None
    return outcome


def show(what: str, seconds: list[float], steps: int = 0) -> float:
    middle, least = float(np.median(seconds)), min(seconds)
    each = f", {least / steps * 1e6:.1f} us a step ({steps} steps)" if steps else ""
    print(f"\n{what}: median {middle * 1e3:.2f} ms, least {least * 1e3:.2f} ms{each}")
    return least


@pytest.mark.parametrize(("monitor_every", "bar_s"), [(0, 6e-3), (1, 40e-6 * 208)])
def test_the_seeds_fit_of_fifty_epochs_with_a_run_file(
    steps_s: list[float], tmp_path: Path, monitor_every: int, bar_s: float
) -> None:
    """6 ms for the fit; a read of all cells in every epoch comes on top, at no more than 40 us a step."""
    runs(Manhattan(preset="seed", monitor_every=monitor_every), tmp_path)
    steps = 208 if monitor_every else 158
    assert show(f"seed fit, monitor_every={monitor_every}, run file", steps_s, steps) <= bar_s


def test_a_fit_without_preflight_in_memory(steps_s: list[float]) -> None:
    """What one chip of a sweep costs: 4 ms of one core, so 2 ms a chip on two."""
    runs(Manhattan(preflight=False, averages=4), None)
    assert show("improved fit, no preflight, in memory", steps_s[1:]) <= 4e-3


def test_the_preflight_apart(steps_s: list[float]) -> None:
    runs(Manhattan(), None)
    show("improved fit with preflight, in memory", steps_s[1:])


def test_the_generator_alone() -> None:
    """The protocol's own share of a step, answers at hand."""
    protocol = Manhattan(preset="seed")
    guard = open_bench(load_bench("emulator", {}, protocol.bench_defaults()), 5)
    view, answers, seq = guard.view(), [], 0
    steps = protocol.steps(view, np.random.default_rng(0))
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            answer = None
            if isinstance(step, Apply):
                seq += 1
                guard.stage(seq, step.stimulus)
                answer = guard.fire(seq)
            elif isinstance(step, Sense):
                answer = guard.sense(step.read)
            answers.append(answer)
    except StopIteration:
        pass
    taken = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        again = protocol.steps(view, np.random.default_rng(0))
        next(again)
        try:
            for known in answers:
                again.send(known)
        except StopIteration:
            pass
        taken.append(time.perf_counter() - begin)
    assert show("generator alone, seed fit", taken, len(answers)) <= 40e-6 * 50 * 1.5


def test_cost_is_linear_in_epochs(steps_s: list[float]) -> None:
    least = {}
    for updates in (10, 20, 40):
        steps_s.clear()
        runs(Manhattan(preset="seed", max_updates=updates), None)
        least[updates] = show(f"{updates} updates", steps_s[1:])
    assert least[40] - least[20] <= 2.6 * (least[20] - least[10])
