"""The whole path, generator -> Guard -> bench -> run file, held against its bars: `make bench`, or run this file.

A 4 x 4 step, the seed's fit with opening and closing apart, and one noisy pulse on every cell of 1024 x 1024 against
the bare model kernel. Steps take processor time of their thread (other programs do not count), kernels alternate with
steps in one run; opening and closing wait for the disk, so theirs is time on the wall.
"""

# ruff: noqa: E402 - BLAS reads its thread count when numpy is imported

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any, NamedTuple

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pytest
from neurobench.drivers.emulator import Emulator, open_emulator
from neurobench.protocols.manhattan import Manhattan
from pydantic import PrivateAttr

from neurobench.bench.config import BenchConfig, load_bench, open_bench
from neurobench.bench.steps import Apply, BenchView, Note, Protocol, Result, Sense, Step, Steps
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch, VectorRead, shots
from neurobench.runs import runner
from neurobench.runs.runfile import RunWriter

PULSE = Pulse(2.0, 1e-3)
CURVE = "cateru/datafile.csv"  # in the folder of measured data: the curve that the seed's class replays
STEP_BAR_S, FIT_BAR_S, ENDS_BAR_S, PULSE_BAR = 40e-6, 6e-3, 10e-3, 2.0
RUNS = 100  # of the fit: the least of them counts, since other work on the machine only adds


class Line(NamedTuple):
    """One row of a table: what, how long, its bar in the same unit (inf: none was set), and what belongs to it."""

    name: str
    took: float
    unit: str
    bar: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.took <= self.bar


def table(lines: list[Line]) -> str:
    """The lines as text."""
    return "\n".join(
        f"{x.name:50} {x.took:8.2f} {x.unit:9} {f'bar {x.bar:g}' if x.bar < np.inf else '':8} "
        f"{'' if x.ok else 'MISSED'} {x.note}".rstrip()
        for x in lines
    )


def recorded(protocol: Protocol, config: BenchConfig, folder: Path, seed: int = 1) -> runner.RunOutcome:
    """One run with a run file on disk."""
    guard = open_bench(config, seed)
    with RunWriter.create(folder / f"{len(list(folder.iterdir()))}.nbr") as record:
        outcome = runner.run(protocol, guard, seed=seed, record=record)
    guard.close()
    if outcome.error is not None:
        raise outcome.error
    return outcome


# ---------------------------------------------------------------------------------------------- a 4 x 4 step


class Asking(Protocol):
    """Asks the same kind of step again and again, and notes how long each answer took."""

    count: int
    _make: Callable[[], Step] = PrivateAttr()
    _taken: list[float] = PrivateAttr(default_factory=list)

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        del view, rng, start
        for _ in range(self.count):
            begin = thread_time()
            yield self._make()
            self._taken.append(thread_time() - begin)
        return Result(True)


def asked(make: Callable[[], Step], config: BenchConfig, folder: Path, count: int = 2000) -> list[float]:
    """Seconds of each of `count` steps."""
    protocol = Asking(count=count)
    protocol._make = make
    recorded(protocol, config, folder)
    return protocol._taken


def steps(folder: Path) -> list[Line]:
    """Microseconds of one step of each kind on 4 x 4, its share of the run file's transactions included."""
    config, rng = load_bench("emulator", {"chip.rows": 4, "chip.cols": 4}), np.random.default_rng(0)
    grids = [rng.integers(0, 2, (4, 4)).astype(np.int8) for _ in range(64)]
    turn = iter(range(10**9))
    look, cells = VectorRead(rng.uniform(-0.1, 0.1, (4, 4))), CellRead(np.ones((4, 4), bool), 0.1)
    kinds: dict[str, tuple[Callable[[], Step], float]] = {
        "pulses on half of the cells": (lambda: Apply(PulseBatch(grids[next(turn) % 64], PULSE)), 40.0),
        "one product of 4 vectors": (lambda: Sense(look), 40.0),
        "a new product in every step": (lambda: Sense(VectorRead(look.volts)), 40.0),
        "a read of all 16 cells": (lambda: Sense(cells), 40.0),
        "a note of one number": (lambda: Note("error", 0.5), np.inf),
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in kinds}
    for _ in range(5):
        for name, (make, _bar) in kinds.items():
            taken[name].append(asked(make, config, folder))
    out = []
    for name, (_make, bar) in kinds.items():
        mean = min(sum(run) / len(run) for run in taken[name]) * 1e6
        middle = median(median(run) for run in taken[name]) * 1e6
        out.append(Line(f"4 x 4 step: {name}", mean, "us", bar, f"mean of 2000 steps; median step {middle:.1f} us"))
    return out


# ---------------------------------------------------------------------------------------------- the seed's fit


def curve() -> dict[str, Any]:
    """The measured curve that the seed replays where it is at hand, else the bundled fit of it."""
    given = os.environ.get("NEUROBENCH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
    path = Path(given) / CURVE
    return {"chip.curve": path} if path.is_file() else {}


class Parts(NamedTuple):
    """Seconds of one run: opening (bench, run file, first rows), its steps, closing (last rows, one file again)."""

    opening: float
    steps: float
    closing: float
    steps_cpu: float


def parts(protocol: Manhattan, config: BenchConfig, path: Path, seed: int) -> tuple[Parts, runner.RunOutcome]:
    """Run once; `go_on` is where the runner serves the protocol's steps, the rest is opening and closing."""
    marks: list[tuple[float, float]] = []
    plain = runner.Runner.go_on

    def marked(self: Any, generator: Any, answer: Any) -> Any:
        marks.append((perf_counter(), thread_time()))
        try:
            return plain(self, generator, answer)
        finally:
            marks.append((perf_counter(), thread_time()))

    begin = perf_counter()
    guard = open_bench(config, seed)
    record = RunWriter.create(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.Runner, "go_on", marked)
        outcome = runner.run(protocol, guard, seed=seed, record=record)
    record.close()
    guard.close()
    end, (first, last) = perf_counter(), marks
    assert outcome.error is None
    return Parts(first[0] - begin, last[0] - first[0], end - last[0], last[1] - first[1]), outcome


def fit(folder: Path, monitor_every: int) -> list[Line]:
    """The seed's preset over its 50 epochs, on chips on which it does not converge before."""
    protocol = Manhattan(preset="seed", monitor_every=monitor_every)
    config = load_bench("emulator", curve(), protocol.bench_defaults())
    found = [parts(protocol, config, folder / f"{monitor_every}-{seed}.nbr", seed) for seed in range(RUNS)]
    full = [taken for taken, outcome in found if (outcome.result or {})["updates"] == protocol.max_updates]
    assert len(full) > RUNS // 2, "the published settings converge in about 0.4 % of draws"
    which = "cells read at the end" if not monitor_every else "and in every epoch"
    return [
        Line(f"{name}, {which}", min(v) * 1e3, "ms", bar * 1e3, f"median {median(v) * 1e3:.2f} ms")
        for name, v, bar in (
            ("seed fit, 50 epochs", [p.steps_cpu for p in full], FIT_BAR_S),
            ("  the same by the clock", [p.steps for p in full], np.inf),
            ("  opening, apart", [p.opening for p in full], ENDS_BAR_S),
            ("  closing, apart", [p.closing for p in full], ENDS_BAR_S),
        )
    ]


# ---------------------------------------------------------------------------------------------- a large pulse


class Alternating(Protocol):
    """A pulse on every cell through Guard and run file, the bare kernel on a second chip in between."""

    size: int
    count: int
    share: float = 1.0
    _chip: Emulator = PrivateAttr()
    _taken: list[tuple[float, float]] = PrivateAttr(default_factory=list)

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        del view, rng, start
        counts = self.counts()
        made = shots(PulseBatch(counts, PULSE), self._chip.capabilities)
        kernel = partial(self._chip.chip.fire, made, self._chip._drive(made))
        for _ in range(self.count + 1):
            bare = cpu_s(kernel)
            whole = yield from timed(counts)
            self._taken.append((bare, whole))
        return Result(True)

    def counts(self) -> Any:
        """One pulse for each cell, or for a random share of them."""
        return (np.random.default_rng(0).random((self.size, self.size)) < self.share).astype(np.int8)


def cpu_s(job: Callable[[], Any]) -> float:
    """Processor time of one call."""
    begin = thread_time()
    job()
    return thread_time() - begin


def timed(counts: Any) -> Generator[Step, Any, float]:
    """Processor time of one batch, from making it to having its answer."""
    begin = thread_time()
    yield Apply(PulseBatch(counts, PULSE))
    return thread_time() - begin


def whole_and_bare(folder: Path, size: int, count: int, share: float = 1.0) -> tuple[float, float, float]:
    """Mean seconds of a recorded pulse on every cell and median of the bare kernel, and the ratio of their sums."""
    config = load_bench("emulator", {"chip.rows": size, "chip.cols": size})
    protocol = Alternating(size=size, count=count, share=share)
    protocol._chip = open_emulator(config, 2)[0]
    recorded(protocol, config, folder)
    bare, whole = np.array(protocol._taken[1:]).T
    return float(whole.mean()), float(np.median(bare)), float(whole.sum() / bare.sum())


def pulses(folder: Path) -> list[Line]:
    """A noisy pulse on every cell of 1024 x 1024 through Guard and run file, as a multiple of the kernel's time."""
    out = []
    for name, share in (("on every cell", 1.0), ("on a random half of them", 0.5)):
        runs = [whole_and_bare(folder, 1024, 25, share) for _ in range(3)]
        whole, bare, ratio = min(runs, key=lambda run: run[2])
        note = f"{whole * 1e3:.2f} ms against {bare * 1e3:.2f} ms"
        out.append(Line(f"1024 x 1024 noisy pulse {name}", ratio, "x kernel", PULSE_BAR, note))
    return out


PARTS: dict[str, Callable[[Path], list[Line]]] = {
    "steps": steps,
    "fit": partial(fit, monitor_every=0),
    "fit with reads": partial(fit, monitor_every=1),
    "pulses": pulses,
}


@pytest.mark.parametrize("part", PARTS)
def test_the_whole_path(part: str, tmp_path: Path) -> None:
    lines = PARTS[part](tmp_path)
    print("\n" + table(lines))
    assert all(line.ok for line in lines), table(lines)


if __name__ == "__main__":
    for part in PARTS.values():
        with tempfile.TemporaryDirectory() as made_for_it:
            sys.stdout.write(table(part(Path(made_for_it))) + "\n")
