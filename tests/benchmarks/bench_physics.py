"""How fast the emulated chip is, as ratios within one run, one BLAS thread: `make bench`, or run this file.

The bars are those of the project's speed section. Times are medians of CPU time (other programs do not count) of
alternating calls (a slow memory slows both sides).
"""

# ruff: noqa: E402 - BLAS reads its thread count when numpy is imported

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from time import thread_time
from typing import Any, NamedTuple

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pytest
from neurobench.drivers.emulator import Emulator, open_emulator

from neurobench.bench.config import load_bench
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch, VectorRead, shots
from neurobench.physics.noise import Stream, fill_normals, key

N = 1024


class Line(NamedTuple):
    """One row of the table: what, how long, the bar in the same unit, and what it is compared with."""

    name: str
    took: float
    unit: str
    bar: float
    note: str

    @property
    def ok(self) -> bool:
        return self.took <= self.bar


def alternate(*jobs: Callable[[], Any], repeat: int = 15) -> list[float]:
    """Median CPU seconds of each job, called in turn."""
    for job in jobs:
        job()
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(repeat):
        for job, kept in zip(jobs, times, strict=True):
            start = thread_time()
            job()
            kept.append(thread_time() - start)
    return [median(kept) for kept in times]


def times(job: Callable[[], Any], count: int) -> None:
    """Call it so often."""
    for _ in range(count):
        job()


def emulator(n: int = N, **more: Any) -> Emulator:
    """An n x n chip of the bundled measured device (latent)."""
    chosen = {"chip.rows": n, "chip.cols": n} | {k.replace("__", "."): v for k, v in more.items()}
    return open_emulator(load_bench("emulator", chosen), 1)[0]


def pulses() -> list[Line]:
    """One pulse on every cell in the model kernel, against a float32 outer-product update."""
    w, x = np.zeros((N, N), np.float32), np.random.default_rng(0).random(N).astype(np.float32)

    def outer() -> None:
        nonlocal w
        w -= np.float32(0.01) * np.outer(x, x)

    out = []
    for name, bar, noisy in (("noisy", 7.0, True), ("without noise", 2.5, False)):
        e = emulator()
        made = shots(PulseBatch(np.ones((N, N), np.int8), Pulse(2.0, 1e-3)), e.capabilities)
        drive = e._drive(made)
        if not noisy:
            drive.tables[0].pieces[2:4] = 0.0
            drive.tables[0].pieces[5, 3] = 0.0

        base, ours = alternate(outer, partial(e.chip.fire, made, drive), repeat=25)
        out.append(Line(f"pulse on every cell, {name}", ours / base, "x outer", bar, f"{ours * 1e3:.2f} ms"))
    return out


def reads() -> list[Line]:
    """Whole-array reads against the bare float64 product."""
    out = []
    ideal: dict[str, Any] = {"readout__ideal": True}
    coded: dict[str, Any] = {"readout__noise": False}
    coded |= {"readout__adc_bits": 8, "readout__adc_range_a": 1e-4, "readout__dac_bits": 8, "readout__dac_range_v": 0.2}
    noisy: dict[str, Any] = {}
    for name, settings, batches, bar in (
        ("ideal", ideal, (1, 128), 1.2),
        ("8-bit converters", coded, (1, 128), 2.0),
        ("read noise, uniform sigma", noisy, (1, 128), 3.5),
        ("read noise, sigma relative to G", noisy, (1, 128), 3.5),
    ):
        e = emulator(N, **settings)
        if "relative" in name:
            e.chip.model.read_sigma_relative = 0.02
        for n in batches:
            volts = np.random.default_rng(n).uniform(-0.2, 0.2, (n, N))
            read, g = VectorRead(volts), e.truth_s()
            base, ours = alternate(partial(np.matmul, volts, g), partial(e.sense, read))
            if n == 1 and "noise" in name:  # no bar was set for one vector: reported
                out.append(Line(f"read, {name}, batch 1", ours / base, "x product", np.inf, f"{ours * 1e3:.2f} ms"))
                continue
            spare = 20e-6 if name == "ideal" else 0.0
            ratio = (ours - spare) / base
            out.append(Line(f"read, {name}, batch {n}", ratio, "x product", bar, f"{ours * 1e3:.2f} ms"))
    return out


def small() -> list[Line]:
    """Calls on a 4 x 4 chip, in microseconds."""
    e = emulator(4)
    made = shots(PulseBatch(np.ones((4, 4), np.int8), Pulse(2.0, 1e-3)), e.capabilities)
    vector, cells = VectorRead(np.full((1, 4), 0.1)), CellRead(np.ones((4, 4), bool), 0.05)
    seq = iter(range(10**9))

    def step() -> None:
        now = next(seq)
        e.stage(now, made)
        e.fire(now)

    out = []
    for name, job, bar in (
        ("4 x 4 stage and fire", step, 10.0),
        ("4 x 4 vector read", lambda: e.sense(vector), 12.0),
        ("4 x 4 read of 16 cells", lambda: e.sense(cells), 12.0),
    ):
        (took,) = alternate(partial(times, job, 500), repeat=9)
        out.append(Line(name, took / 500 * 1e6, "us", bar, ""))
    return out


def draws() -> list[Line]:
    """Normal draws."""
    many, few, k = np.empty(1 << 20), np.empty(16), key(1, Stream.PULSE)
    (took,) = alternate(lambda: fill_normals(*k, 0, many))
    (call,) = alternate(lambda: [fill_normals(*k, i, few) for i in range(500)])
    return [
        Line("normal draw", took / many.size * 1e9, "ns", 5.0, ""),
        Line("call for 16 draws", call / 500 * 1e6, "us", 2.0, ""),
    ]


def growth() -> list[Line]:
    """Nanoseconds per cell of one noisy pulse on every cell: linear in cells."""
    out = []
    for n in (64, 256, 1024, 4096):
        e = emulator(n)
        made = shots(PulseBatch(np.ones((n, n), np.int8), Pulse(2.0, 1e-3)), e.capabilities)
        drive = e._drive(made)
        (took,) = alternate(partial(e.chip.fire, made, drive), repeat=5)
        out.append(Line(f"noisy pulse, {n} x {n}", took / n / n * 1e9, "ns/cell", np.inf, f"{took * 1e3:.2f} ms"))
    return out


def table(lines: list[Line]) -> str:
    """The lines as text."""
    rows = [
        f"{x.name:42} {x.took:8.2f} {x.unit:10} bar {x.bar:6.1f}  {'ok' if x.ok else 'MISSED':7}{x.note}" for x in lines
    ]
    return "\n".join(rows)


@pytest.mark.bench
@pytest.mark.parametrize("part", [draws, small, pulses, reads, growth])
def test_speed(part: Callable[[], list[Line]]) -> None:
    lines = part()
    print("\n" + table(lines))
    assert all(line.ok for line in lines), table(lines)


if __name__ == "__main__":
    for chosen in (draws, small, pulses, reads, growth):
        sys.stdout.write(table(chosen()) + "\n")
