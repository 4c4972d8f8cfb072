"""Proof (b), second half: a loop of 784 x 256 at 20,000 ticks a second through Guard and run file, 10 % input."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PrivateAttr

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import BenchView, Loop, Protocol, Result, Steps
from neurobench.bench.stimulus import Pulse
from neurobench.learning.loops import LifStdp, Rule, Spikes, poisson
from neurobench.runs import runner
from neurobench.runs.runfile import RunWriter

SHAPE, TICKS = (784, 256), 1000
PULSE = Pulse(1.0, 1e-6)
RULE = Rule(gain_per_a=2e3, inhibit=True)


class Learn(Protocol):
    """Ten loops of a thousand ticks, each going on where the last one ended."""

    _inputs: list[Spikes] = PrivateAttr(default_factory=list)

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        program = LifStdp.fresh(RULE, self._inputs[0], SHAPE, PULSE, PULSE)
        spikes = pulses = 0
        for k, spikes_in in enumerate(self._inputs):
            program = program if k == 0 else program.after(answer, spikes_in)  # noqa: F821 - bound from the second loop on
            answer = yield Loop(program, TICKS)
            spikes += len(answer.spikes)
            pulses += int(answer.potentiations.sum() + answer.depressions.sum())
        return Result(True, {"spikes": spikes, "pulses": pulses})


def test_twenty_thousand_ticks_a_second_through_guard_and_run_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    protocol = Learn()
    protocol._inputs.extend(poisson(np.full(SHAPE[0], 0.1), TICKS, rng) for _ in range(10))
    config = load_bench("emulator", {"chip.model": "reram-sb", "chip.rows": SHAPE[0], "chip.cols": SHAPE[1]})
    rates = []
    for k in range(4):
        guard = open_bench(config, seed=1)
        record = RunWriter.create(tmp_path / f"{k}.nbr")
        begin = time.perf_counter()
        outcome = runner.run(protocol, guard, seed=1, record=record)
        rates.append(10 * TICKS / (time.perf_counter() - begin))
        assert outcome.error is None
        assert outcome.result is not None
        assert outcome.result["spikes"] > 1000, "a loop in which nothing fires proves nothing"
        assert outcome.result["pulses"] > 500_000
        record.close()
        guard.close()
    best = max(rates[1:])
    print(
        f"\n784 x 256, 10 % input, {outcome.result}: median {np.median(rates[1:]):,.0f}, best {best:,.0f} ticks/s "
        f"(cold: {rates[0]:,.0f})"
    )
    # the best of three: other work on the machine only takes away
    assert best >= 20_000
