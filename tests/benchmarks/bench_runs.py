"""What recording costs: codec, run file, and the runner's own share of a step. `make bench`, or run this file with -s.

Shares are measured apart from the physics: the bench behind the Guard is a table that answers at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np

from neurobench.bench.codec import decode_step, encode_answer, encode_step
from neurobench.bench.crossbar import Applied, Reading, Witness
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply, BenchView, Note, Protocol, Result, Steps
from neurobench.bench.stimulus import Pulse, PulseBatch
from neurobench.runs.runfile import RunFile, RunWriter
from neurobench.runs.runner import Runner
from neurobench.runs.states import Control, Event

PULSE = Pulse(0.5, 1e-3)
DONE = Applied(4, 16, 0.0, 1.0, 1e-9, "model")


def each_us(work: Callable[[], object], times: int) -> float:
    """Microseconds of one call: the median of five rounds."""
    rounds = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append((time.perf_counter() - begin) / times * 1e6)
    return median(rounds)


def say(what: str, took: float, unit: str, bar: float) -> None:
    print(f"{what:60} {took:9.2f} {unit:3} (bar {bar:g})")
    assert took <= bar, what


def batch(side: int) -> Apply:
    signs = np.random.default_rng(0).integers(-1, 2, (side, side)).astype(np.int8)
    return Apply(PulseBatch(signs, PULSE))


def test_codec() -> None:
    small, large = batch(4), batch(1024)
    data = encode_step(large)
    say("encode a 4 x 4 step", each_us(lambda: encode_step(small), 20_000), "us", 5)
    say("encode its answer", each_us(lambda: encode_answer(DONE), 20_000), "us", 5)
    reading = Reading(np.ones((2, 16)), 1e-12, 1e-6, 0.0, 1.0)
    say("encode a read of 16 cells", each_us(lambda: encode_answer(reading), 20_000), "us", 10)
    say("encode signs of 1024 x 1024", each_us(lambda: encode_step(large), 20) / 1000, "ms", 3)
    say("decode them", each_us(lambda: decode_step(data), 20) / 1000, "ms", 10)
    say("their size", len(data) / 1024, "KiB", 257)


def test_run_file(tmp_path: Path) -> None:
    opened: list[float] = []
    recorded: list[float] = []
    closed: list[float] = []
    step, rows = batch(4), 20_000
    for n in range(6):
        moments = [time.perf_counter()]
        writer = RunWriter.create(tmp_path / f"{n}.nbr", {"protocol": "bench"})
        moments.append(time.perf_counter())
        for seq in range(rows):
            writer.entry(seq, step, DONE)
        writer.flush()
        moments.append(time.perf_counter())
        writer.put(status="finished")
        writer.close()
        moments.append(time.perf_counter())
        for series, begin, end in zip((opened, recorded, closed), moments, moments[1:], strict=False):
            series.append(end - begin)
    say("record a 4 x 4 step, encoding and group commits", median(recorded) / rows * 1e6, "us", 10)
    say("open a run file", median(opened[1:]) * 1e3, "ms", 10)
    say(f"end one of {rows} steps in one file", median(closed) * 1e3, "ms", 20)
    begin = time.perf_counter()
    with RunFile.open(tmp_path / "0.nbr") as reader:
        assert sum(1 for _ in reader.entries()) == rows
    say(f"read {rows} rows", (time.perf_counter() - begin) * 1e3, "ms", 500)


def test_durable_intent(tmp_path: Path) -> None:
    step = batch(4)
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        seq = iter(range(10_000))

        def pair() -> None:
            n = next(seq)
            writer.intent(n, step, Witness(n, "boot"))
            writer.answer(n, DONE)

        say("intent and answer, each synced to the disk", each_us(pair, 100) / 1000, "ms", 20)


class Steady(Protocol):
    """Always the same batch."""

    n: int = 20_000

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, object] | None = None) -> Steps:
        step = batch(4)
        for _ in range(self.n):
            yield step
        yield Note("end", self.n)
        return Result(True)


class Table(Guard):
    """Answers at once: what is left is the runner and its record."""

    def __init__(self) -> None:
        pass

    def stage(self, seq: int, stimulus: object) -> Witness:
        return Witness()

    def fire(self, seq: int) -> Applied:
        return DONE

    def rest(self) -> None:
        pass


def test_share_of_runner_and_record(tmp_path: Path) -> None:
    took = []
    for n in range(5):
        protocol = Steady()
        with RunWriter.create(tmp_path / f"{n}.nbr") as writer:
            runner = Runner(Table(), writer, Control())
            runner.replayable = True
            runner.control.tell(Event.START)
            steps = protocol.steps(None, np.random.default_rng(0))  # type: ignore[arg-type]
            begin = time.perf_counter()
            runner.go_on(steps, None)
            writer.flush()
            took.append((time.perf_counter() - begin) / protocol.n * 1e6)
    say("runner and record of a 4 x 4 step, without Guard and bench", median(took), "us", 15)
