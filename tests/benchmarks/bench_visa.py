"""What the host costs on a VISA bench: round trips per epoch, and time above the instruments' own. `make bench`.

Round trips are counted at the driver's links; time is that of the simulated bench (1 ms per round trip, 3 ms per
relay), so the figures do not depend on the machine. The host's own processor time is measured apart, without what the
simulation takes behind the VISA call. The sync of a run file is listed apart too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any, NamedTuple

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from visa_bench import SimulatedBench, open_simulated

from neurobench.bench.codec import pack
from neurobench.bench.crossbar import Witness
from neurobench.bench.steps import Apply
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch, shots
from neurobench.runs.runfile import RunWriter

ROUND_TRIP_S = 1e-3
SHAPES = ((4, 4), (10, 6), (32, 32))
PULSE = Pulse(2.0, 1e-3)
READ_V, INTEGRATION_S = 0.05, 1e-3
RELAY_S = 3e-3  # to open, and to close, as the simulated 707B takes it
OVERHEAD_BAR = 0.05


class Count(NamedTuple):
    """Of one stimulus or read: exchanges with an answer, messages without one, simulated time, the host's own time."""

    round_trips: int
    writes: int
    seconds: float
    host_s: float


class Meter:
    """Counts what goes over the links of a bench, and takes the time that is spent behind VISA calls and in waiting."""

    def __init__(self, bench: SimulatedBench) -> None:
        self.bench, self.asked, self.answered, self.behind_s = bench, 0, 0, 0.0
        for link in bench.crossbar._connected.links.values():
            link.log = self.hear
            for name in ("write_raw", "read_bytes"):
                self._time(link._resource, name)
        for name in ("sleep", "now_s"):  # time that passes moves the simulated world
            self._time(bench.simulation.clock, name)
        self._open = False

    def _time(self, resource: Any, name: str) -> None:
        inner = getattr(resource, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = thread_time()
            try:
                return inner(*args, **kwargs)
            finally:
                self.behind_s += thread_time() - began

        setattr(resource, name, timed)

    def hear(self, direction: str, line: str) -> None:
        if direction == ">":
            self.asked += 1
            self._open = True
        elif direction == "<" and self._open:
            self.answered += 1
            self._open = False

    def of(self, do: Any) -> Count:
        self.asked = self.answered = 0
        self.behind_s, clock = 0.0, self.bench.simulation.clock
        began_s, began = clock.now_s(), thread_time()
        do()
        host_s = thread_time() - began - self.behind_s
        return Count(self.answered, self.asked - self.answered, clock.now_s() - began_s, host_s)


def opened(shape: tuple[int, int]) -> SimulatedBench:
    slots = list(range(1, 1 + -(-sum(shape) // 12)))
    return open_simulated({
        "chip.rows": shape[0], "chip.cols": shape[1], "chip.model": "lsmo-gaq3-mirror", "readout.ideal": True,
        "instruments.simulation.round_trip_s": ROUND_TRIP_S, "instruments.matrix.slots": slots,
    })  # fmt: skip


def epoch(bench: SimulatedBench, seq: int) -> tuple[CellRead, PulseBatch]:
    rng = np.random.default_rng(seq)
    shape = bench.crossbar.capabilities.shape
    return CellRead(np.ones(shape, np.bool_), READ_V, True, 0.0, INTEGRATION_S), PulseBatch(
        rng.integers(-1, 2, shape).astype(np.int16), PULSE
    )


def measured(shape: tuple[int, int]) -> dict[str, Any]:
    """An epoch (all cells read, one update) after a first one that is not counted: settings are as in mid-run."""
    bench = opened(shape)
    try:
        guard, meter = bench.guard(), Meter(bench)
        for seq in range(2):
            read, batch = epoch(bench, seq)
            reading = meter.of(lambda read=read: guard.sense(read))

            def fire(seq: int = seq, batch: PulseBatch = batch) -> None:
                guard.stage(seq, batch)
                guard.fire(seq)

            firing = meter.of(fire)
        n_shots, n_cells = len(shots(batch, guard.capabilities)), read.mask.size
        return {"shape": shape, "reading": reading, "firing": firing, "shots": n_shots, "cells": n_cells,
                "signs": 2}  # fmt: skip
    finally:
        bench.close()


def least_round_trips(found: dict[str, Any]) -> tuple[int, int]:
    """What this hardware allows, reads and pulses: matrix and SMU (or generator) are two instruments, and neither may
    begin before the other has answered. Each cell or shot takes 2; each kind of pulse 2, because it is proven before
    the output goes on and its idle level after; a stimulus 1 for the baseline of its witness; and each end 1."""
    return 2 * found["cells"] + 1, 2 * found["shots"] + 2 * found["signs"] + 2


def least_seconds(found: dict[str, Any]) -> tuple[float, float]:
    """Programmed widths, integration, relays that open and close, and the least round trips."""
    reads, pulses = least_round_trips(found)
    relays_s = 2 * RELAY_S
    reading_s = found["cells"] * (relays_s + 2 * INTEGRATION_S) + reads * ROUND_TRIP_S
    firing_s = found["shots"] * (relays_s + PULSE.width_s) + pulses * ROUND_TRIP_S
    return reading_s, firing_s


def sync_s(n: int = 30) -> float:
    """One durable intent in a run file: the median, in seconds on the wall."""
    with tempfile.TemporaryDirectory() as folder, RunWriter.create(Path(folder) / "a.nbr") as writer:
        step, took = Apply(PulseBatch(np.ones((10, 6), np.int16), PULSE)), []
        for seq in range(n):
            began = perf_counter()
            writer.intent(seq, step, Witness(seq, pack("x").hex()))
            took.append(perf_counter() - began)
        return median(took)


def report(found: list[dict[str, Any]]) -> str:
    lines = ["array    what   shots/cells  round trips (least)   time s (least)   overhead   host us each"]
    for one in found:
        for name, count, n, trips, seconds in zip(
            ("read", "fire"), (one["reading"], one["firing"]), (one["cells"], one["shots"]),
            least_round_trips(one), least_seconds(one), strict=True,
        ):  # fmt: skip
            shape = "{}x{}".format(*one["shape"])
            lines.append(
                f"{shape:8} {name:6} {n:11} {count.round_trips:12} ({trips})    {count.seconds:10.4f} ({seconds:.4f}) "
                f"{count.seconds / seconds - 1:9.2%} {1e6 * count.host_s / n:12.0f}"
            )
    return "\n".join([*lines, f"one durable intent (one per batch): {1e3 * sync_s():.2f} ms"])


@pytest.mark.bench
def test_round_trips_and_overhead() -> None:
    found = [measured(shape) for shape in SHAPES]
    print("\n" + report(found))
    for one in found:
        trips, seconds = least_round_trips(one), least_seconds(one)
        for count, n, least, least_s in zip(
            (one["reading"], one["firing"]), (one["cells"], one["shots"]), trips, seconds, strict=True
        ):
            if n >= 20:
                total_s = count.seconds + count.host_s
                assert total_s <= least_s * (1 + OVERHEAD_BAR), (one["shape"], total_s / least_s)
            assert count.round_trips <= 1.1 * least + 4, one["shape"]


if __name__ == "__main__":
    test_round_trips_and_overhead()
