"""Runs of which nothing is kept (sweeps, notebooks) on a board whose replies get lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from fpga_bench import open_simulated

from neurobench.bench.steps import Apply, BenchView, Protocol, Result, Sense, Steps
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord


class Script(Protocol):
    """Pulses and reads in turn."""

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        for sign in (1, -1, 1, 1, -1, 1):
            yield Apply(PulseBatch(np.full(view.shape, sign, np.int16), Pulse(1.0, 1e-6)))
            yield Sense(CellRead(np.ones(view.shape, np.bool_), 0.05))
        return Result(True)


@pytest.mark.parametrize("seed", range(6))
def test_a_lost_reply_is_settled_also_where_no_record_is_kept(seed: int) -> None:
    """Exactly-once delivery does not mean that no reply is lost: the runner once took the one for the other."""
    said = {"board.simulation.lost": 0.25, "board.retries": 2, "board.simulation.fault_seed": seed}
    bench = open_simulated({"chip.model": "idealized", **said})
    try:
        outcome = runner.run(Script(), bench.guard(), seed=0, record=MemoryRecord())
    finally:
        fired = bench.board.pulses_fired()
        bench.close()
    assert outcome.status == "finished", outcome.error
    assert outcome.pulses == fired == 6 * 16
