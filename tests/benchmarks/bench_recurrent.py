"""The recurrent job: 1000 LIF neurons, 10 % connected, pair STDP, 10 s at 0.1 ms, as `Loop` steps through Guard and run
file; beside Brian2 (C++ standalone) and NEST (one thread) on the same job in the same run.

The peers run where NEUROBENCH_BRIAN and NEUROBENCH_NEST name a Python that has them (`make oracles`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import PrivateAttr

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import BenchView, Loop, Protocol, Result, Steps
from neurobench.bench.stimulus import Pulse
from neurobench.learning.recurrent import RecurrentRule, RecurrentStdp, net, no_input
from neurobench.runs import runner
from neurobench.runs.runfile import RunWriter

ORACLES = Path(__file__).parents[1] / "learning" / "oracles"
sys.path.insert(0, str(ORACLES))
import recurrent_job as common  # noqa: E402 - the oracles' folder is no package

NEURONS, SECONDS, LOOPS = 1000, 10, 100
PULSE, FULL, SPAN_S = Pulse(1.0, 1e-5), 0.01, 2e-5 - 1e-12


class Learn(Protocol):
    """A hundred loops of a thousand ticks, each going on where the last one ended."""

    loops: int = LOOPS
    _program: list[RecurrentStdp] = PrivateAttr(default_factory=list)

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        program, quiet = self._program[0], no_input(1000)
        spikes = pulses = 0
        for _ in range(self.loops):
            answer = yield Loop(program, 1000)
            program = program.after(answer, quiet)
            spikes += len(answer.spikes)
            pulses += int(answer.potentiations.sum()) + int(answer.depressions.sum())
        return Result(True, {"spikes": spikes, "pulses": pulses})


def learn(folder: Path, name: str, neurons: int = NEURONS, loops: int = LOOPS, rate: float = 1.0, **rule: Any) -> Any:
    """Seconds, result, size of the run file; `rate` scales the drive's distance from the threshold."""
    job = common.job(neurons)
    config = load_bench("emulator", {"chip.model": "ideal", "chip.rows": neurons, "chip.cols": neurons})
    guard = open_bench(config, seed=1)
    used = np.zeros((neurons, neurons), np.bool_)
    used[job.origin, job.target] = True
    guard.raw.chip.u[np.flatnonzero(used)] = job.weights  # type: ignore[attr-defined]
    told = {
        "gain_per_a": job.gain / (0.1 * SPAN_S), "leakage": False, "update": "width", "a_plus": common.UP / FULL,
        "a_minus": common.DOWN / FULL, "order": "brian", "tick_s": common.TICK_S, "delay_s": common.DELAY_S,
        "refractory_s": common.REFRACTORY_S,
    }  # fmt: skip
    protocol = Learn(loops=loops)
    bias = 1.0 + rate * (job.bias - 1.0)
    program = RecurrentStdp.fresh(
        RecurrentRule(**told | rule), net(used), bias, no_input(1000), PULSE, PULSE, job.membrane
    )
    protocol._program.append(program)
    record = RunWriter.create(folder / f"{name}.nbr")
    begin = time.perf_counter()
    outcome = runner.run(protocol, guard, seed=1, record=record)
    seconds = time.perf_counter() - begin
    record.close()
    guard.close()
    assert outcome.error is None
    return seconds, outcome.result, (folder / f"{name}.nbr").stat().st_size


def peer(variable: str, script: str, *arguments: str) -> dict[str, Any] | None:
    """What a peer prints; None where it is not installed."""
    python = os.environ.get(variable)
    if not python:
        return None
    size = ["--neurons", str(NEURONS), "--ticks", str(SECONDS * 10_000)]
    done = subprocess.run(
        [python, ORACLES / script, *size, *arguments], capture_output=True, text=True, check=True, timeout=900
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.timeout(3600)
def test_ten_seconds_of_a_thousand_neurons(tmp_path: Path) -> None:
    cold, _, _ = learn(tmp_path, "cold", loops=1)
    runs, brian, nest = [], [], []
    for k in range(3):  # in turn, so that other work on the machine meets all of them
        runs.append(learn(tmp_path, f"run{k}"))
        brian.append(peer("NEUROBENCH_BRIAN", "recurrent_brian.py", "--standalone", "--base", str(1e-12 / SPAN_S)))
        nest.append(peer("NEUROBENCH_NEST", "recurrent_nest.py"))
    seconds, result, size = min(runs, key=lambda run: run[0])
    print(f"\n{result}: best {seconds:.2f} s, {SECONDS / seconds:.1f}x real time, run file {size / 1e6:.0f} MB")
    print(f"all {[round(run[0], 2) for run in runs]}; first loop of the process {cold:.1f} s")
    for name, found, least in (("Brian2 standalone", brian, 1.0), ("NEST, 1 thread", nest, 2.0)):
        times = [one["run_s"] for one in found if one]
        if times:
            print(f"{name}: best {min(times):.2f} s, {found[0]['spikes']} spikes: ours x {min(times) / seconds:.2f}")
            assert min(times) / seconds >= least
    if brian[0]:
        assert brian[0]["spikes"] == result["spikes"], "the same job"
    assert SECONDS / seconds >= 5.0
    assert size < 100e6


def test_the_cost_of_a_tick_grows_with_events_and_not_with_synapses(tmp_path: Path) -> None:
    """The same number of spikes in networks of four sizes; then more spikes in one of them."""
    print("\nneurons  synapses   spikes/tick  us/tick")
    for neurons in (250, 500, 1000, 2000):
        at_work(tmp_path, neurons, 250 / neurons)
    for share in (0.5, 1.0, 2.0, 4.0):
        at_work(tmp_path, 1000, share)


def at_work(folder: Path, neurons: int, share: float) -> None:
    seconds, result, _ = learn(folder, f"{neurons}-{share}", neurons, 5, share)
    again, _, _ = learn(folder, f"{neurons}-{share}-again", neurons, 5, share)
    synapses = len(common.job(neurons).origin)
    print(f"{neurons:7d} {synapses:9d} {result['spikes'] / 5000:12.2f} {min(seconds, again) / 5000 * 1e6:9.1f}")
