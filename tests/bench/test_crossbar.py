"""What a crossbar is when its driver says nothing else, and what its capabilities admit."""

from __future__ import annotations

import time

import numpy as np
import pytest
from recording_bench import Busy, Recording

from neurobench.bench.crossbar import Capabilities, Crossbar, Reading
from neurobench.bench.steps import MAX_LOOP_TICKS, Loop
from neurobench.bench.stimulus import Pulse
from neurobench.errors import CapabilityMissing, UsageError


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"shape": (0, 4)}, "at least one row"), ({"potentiating_sign": 0}, "potentiating_sign = 0"),
     ({"potentiating_sign": 2}, "it is \\+1 or -1")],
)  # fmt: skip
def test_capabilities_make_sense(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Capabilities(**{"shape": (4, 4), **wrong})  # type: ignore[arg-type]


def test_a_driver_has_to_answer_for_everything_that_touches_the_chip() -> None:
    owed = {"capabilities", "identity", "stage", "fire", "sense", "outcome", "enforce", "rest", "close"}
    assert Crossbar.__abstractmethods__ == owed


def test_what_only_some_benches_do_is_refused_by_name() -> None:
    bench = Recording()
    with pytest.raises(CapabilityMissing, match=r"Recording does not run a loop of 5 ticks \(step 3\)"):
        Crossbar.loop(bench, 3, Loop(Busy(Pulse(1.0, 1e-6), 1, 0), 5))
    with pytest.raises(CapabilityMissing, match="Recording cannot turn a chip back to a snapshot of 4 bytes"):
        bench.restore(b"chip")
    assert bench.snapshot() is None
    assert bench.truth_s() is None


def test_a_real_bench_lives_in_real_time() -> None:
    bench = Recording()
    before_s = bench.clock_s
    bench.wait(0.01)
    assert bench.clock_s - before_s >= 0.009
    assert abs(bench.clock_s - time.time()) < 5


@pytest.mark.parametrize("ticks", [0, -1, MAX_LOOP_TICKS + 1])
def test_a_loop_has_an_end_that_an_abort_can_wait_for(ticks: int) -> None:
    with pytest.raises(UsageError, match="1 to 1000 ticks"):
        Loop(Busy(Pulse(1.0, 1e-6), 1, 0), ticks)


def test_a_reading_at_one_polarity_is_taken_as_it_is() -> None:
    assert Reading(np.array([[1.0, 2.0]]), 0.0, 1.0, 0.0, 0.0).signed_a().tolist() == [1.0, 2.0]
