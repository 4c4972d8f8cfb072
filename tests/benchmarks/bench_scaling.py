"""Cost is linear in cells and in epochs, through Guard and run file: `make bench`, or run this file.

From 64 x 64 to 4096 x 4096 cells: one product of one vector, and one noisy pulse on every cell. From 10 to 1000 epochs:
the seed's fit. Processor time of the thread that does it. `python tests/benchmarks/bench_scaling.py` also draws
docs/images/scaling.png.
"""

# ruff: noqa: E402 - BLAS reads its thread count when numpy is imported

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import thread_time
from typing import Any, NamedTuple

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pytest
from bench_path import Asking
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Apply, Sense
from neurobench.bench.stimulus import Pulse, PulseBatch, VectorRead
from neurobench.runs import runner
from neurobench.runs.runfile import RunWriter

SIDES = (64, 128, 256, 512, 1024, 2048, 4096)
EPOCHS = (10, 20, 50, 100, 200, 500, 1000)
PULSE = Pulse(2.0, 1e-3)
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "scaling.png"
STEEPEST = 1.15  # log-log slope: 1 is linear, 2 would be quadratic


class Growth(NamedTuple):
    """Seconds for each size. `slope`: of the line through the upper half in the log-log plot."""

    what: str
    unit: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def slope(self) -> float:
        """Where the fixed cost of a step no longer counts."""
        half = len(self.sizes) // 2
        return float(np.polyfit(np.log(self.sizes[half:]), np.log(self.seconds[half:]), 1)[0])

    @property
    def slope_of_all(self) -> float:
        """Fixed cost included: below 1 where small sizes pay mostly for the step itself."""
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), 1)[0])

    def table(self) -> str:
        """The sizes, the times, and what one cell or epoch costs."""
        rows = [
            f"  {n:>10} {self.unit:7} {t * 1e3:10.3f} ms   {t / n * 1e9:10.2f} ns each"
            for n, t in zip(self.sizes, self.seconds, strict=True)
        ]
        said = f"log-log slope {self.slope_of_all:.2f}, upper half {self.slope:.2f} (bar {STEEPEST})"
        return "\n".join([f"{self.what}: {said}", *rows])


def each(side: int, kind: str) -> float:
    """Median seconds of one recorded step on an array of so many rows and columns."""
    protocol = Asking(count=max(5, min(300, 2**22 // side**2)))
    counts = np.ones((side, side), np.int8)
    read = VectorRead(np.random.default_rng(0).uniform(-0.1, 0.1, (1, side)))
    protocol._make = (lambda: Apply(PulseBatch(counts, PULSE))) if kind == "pulse" else (lambda: Sense(read))
    guard = open_bench(load_bench("emulator", {"chip.rows": side, "chip.cols": side}), 1)
    with tempfile.TemporaryDirectory() as folder, RunWriter.create(Path(folder) / "a.nbr") as record:
        outcome = runner.run(protocol, guard, seed=1, record=record)
    guard.close()
    if outcome.error is not None:
        raise outcome.error
    return float(np.median(protocol._taken[1:]))


def in_cells(kind: str) -> Growth:
    """One step of this kind on growing arrays."""
    what = {"pulse": "noisy pulse on every cell", "read": "product of one vector"}[kind]
    seconds = tuple(min(each(side, kind) for _ in range(3 if side < 2048 else 1)) for side in SIDES)
    return Growth(what, "cells", tuple(side * side for side in SIDES), seconds)


def steps_s(updates: int, seed: int = 5) -> float:
    """Seconds of the steps of one seed fit of so many epochs with a run file, all cells read in every epoch."""
    protocol = Manhattan(preset="seed", max_updates=updates)
    guard = open_bench(load_bench("emulator", {}, protocol.bench_defaults()), seed)
    taken: list[float] = []
    plain = runner.Runner.go_on

    def marked(self: Any, generator: Any, answer: Any) -> Any:
        begin = thread_time()
        try:
            return plain(self, generator, answer)
        finally:
            taken.append(thread_time() - begin)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.Runner, "go_on", marked)
        with RunWriter.create(Path(folder) / "a.nbr") as record:
            outcome = runner.run(protocol, guard, seed=seed, record=record)
    guard.close()
    assert outcome.error is None
    assert (outcome.result or {})["updates"] == updates, "this chip was to use all of its epochs"
    return taken[0]


def in_epochs() -> Growth:
    """The seed's fit over more and more epochs."""
    steps_s(10)
    return Growth("seed fit", "epochs", EPOCHS, tuple(min(steps_s(n) for _ in range(5)) for n in EPOCHS))


GROWTHS: dict[str, Callable[[], Growth]] = {
    "read": lambda: in_cells("read"),
    "pulse": lambda: in_cells("pulse"),
    "epochs": in_epochs,
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", GROWTHS)
def test_cost_is_linear(what: str) -> None:
    growth = GROWTHS[what]()
    print("\n" + growth.table())
    assert growth.slope <= STEEPEST


def draw(growths: list[Growth], path: Path) -> None:
    """Cells on the left, epochs on the right, with the line of slope 1."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for growth in growths:
        axis = axes[int(growth.unit == "epochs")]
        sizes, seconds = np.array(growth.sizes, float), np.array(growth.seconds)
        (line,) = axis.loglog(sizes, seconds, "o", label=f"{growth.what} (slope {growth.slope:.2f})")
        axis.loglog(sizes, seconds[-1] * sizes / sizes[-1], "-", lw=0.8, color=line.get_color())
        axis.set_xlabel(growth.unit)
        axis.set_ylabel("processor time (s)")
        axis.legend(frameon=False)
    figure.suptitle("Through Guard and run file; lines: proportional to size")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    measured = []
    for grow in GROWTHS.values():
        measured.append(grow())
        sys.stdout.write(measured[-1].table() + "\n")
    draw(measured, PICTURE)
