"""Checkpoints hold the history of a run: that must not make long runs cost with the square of their length."""

from __future__ import annotations

import numpy as np
import pytest
from neurobench.protocols._manhattan_setup import copied
from neurobench.protocols._manhattan_train import spacing
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Applied, Reading
from neurobench.bench.steps import Checkpoint, Step
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord


@pytest.mark.parametrize("every", [1, 3, 10])
def test_what_checkpoints_hold_grows_with_the_epochs_and_not_with_their_square(every: int) -> None:
    epochs = 20_000
    due = [epoch for epoch in range(1, epochs + 1) if epoch % spacing(every, epoch) == 0]
    assert due[:32] == [every * k for k in range(1, 33)], "short runs keep the spacing that was asked for"
    assert sum(due) < 50 * epochs, "values copied into checkpoints, all together"
    gaps = np.diff(due)
    assert (gaps <= np.maximum(np.array(due[:-1]) / 8, every)).all(), "and none is far behind"


class Counting(MemoryRecord):
    """Counts what the checkpoints of a run hold."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.count = 0

    def entry(self, seq: int, step: Step, answer: Applied | Reading | object) -> None:
        if isinstance(step, Checkpoint):
            self.held += len(step.state["errors"])
            self.count += 1


def test_a_long_fit_writes_few_checkpoints() -> None:
    protocol = Manhattan(preset="seed", max_updates=1000)
    guard = open_bench(load_bench("emulator", {}, protocol.bench_defaults()), 5)
    record = Counting()
    outcome = runner.run(protocol, guard, seed=5, record=record)
    guard.close()
    assert outcome.result is not None
    assert outcome.result["updates"] == 1000
    assert 40 <= record.count <= 70
    assert record.held < 25_000


def test_a_copied_history_is_a_copy() -> None:
    history = [1.0, 2.0]
    copy = copied(history)
    copy.append(3.0)
    assert history == [1.0, 2.0]
    arrays = [np.zeros(2)]
    copied(arrays)[0][0] = 1.0
    assert arrays[0][0] == 0.0
    assert copied([]) == []
