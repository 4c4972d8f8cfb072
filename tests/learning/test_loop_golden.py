"""The loop in Brian's order does exactly what Brian2 does: its spikes and weights are kept here (see oracles/).

The slow ones ask Brian2 again: NEUROBENCH_BRIAN names a Python that has it (`make oracles`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.stimulus import Pulse
from neurobench.learning.loops import LifStdp, Order, Rule, sparse

ORACLES = Path(__file__).parent / "oracles"
sys.path.insert(0, str(ORACLES))

import dense_job as job  # noqa: E402 - it stands beside the oracle, which imports it as a script

FULL = Pulse(1.0, 1e-4)  # moves an ideal cell by a tenth of its window
STEP = 0.1

# What Brian2 2.9.0 printed, by (ticks, refractory time in s).
BRIAN: dict[tuple[int, float], dict[str, Any]] = {
    (1000, 0.0): {
        "spikes": 4722, "w_mean": 0.2562436137380898, "w_squares": 0.08778003118314982,
        "w_corner": [0.42653394089612745, 0.17258192615119633, 0.26172041782262073, 0.4006654428239524],
        "first": [50, 45, 145, 238, 55, 59, 76, 93, 112, 127, 143, 174, 202, 240, 11, 20, 24, 27, 30, 40],
    },
    (1000, 5e-3): {
        "spikes": 4344, "w_mean": 0.25528339534124544, "w_squares": 0.0872574391689246,
        "w_corner": [0.4213341303727624, 0.11493898989164329, 0.29614680300787555, 0.40435065846661755],
        "first": [50, 45, 145, 238, 55, 59, 76, 93, 112, 127, 143, 174, 202, 240, 11, 20, 24, 27, 30, 40],
    },
    (10_000, 0.0): {
        "spikes": 53946, "w_mean": 0.2693723073029042, "w_squares": 0.09865098497434359,
        "w_corner": [0.6652397272681548, 0.19944237929033637, 0.40971110273921263, 0.3394017708317967],
        "first": [50, 45, 145, 238, 55, 59, 76, 93, 112, 127, 143, 174, 202, 240, 11, 20, 24, 27, 30, 40],
    },
}  # fmt: skip
# Ours, on the same job: a change of what an order means would show here.
OWN = {"reference": 5964, "brian": 4722, "bindsnet": 5384}


def ours(order: Order, ticks: int, refractory_s: float = 0.0) -> dict[str, Any]:
    """The job on ideal cells, in loops of 1000 ticks, told as the oracle tells it."""
    bench = {"chip.model": "ideal", "chip.rows": job.ROWS, "chip.cols": job.COLS}
    chip = open_bench(load_bench("emulator", bench), seed=1).raw.chip  # type: ignore[attr-defined]
    chip.u[:] = job.weights().ravel()
    rule = Rule(
        job.GAIN / (0.1 * chip.model.g_max_s), order=order, traces="all", update="width", a_plus=job.UP / STEP,
        a_minus=job.DOWN / STEP, pre_window_s=np.inf, post_window_s=np.inf, refractory_s=refractory_s, cell_budget=2000,
    )  # fmt: skip
    raster, spikes, program = job.inputs(ticks), [], None
    for first in range(0, ticks, 1000):
        part = sparse(raster[first : first + 1000])
        program = LifStdp.fresh(rule, part, chip.shape, FULL, FULL) if program is None else program.after(answer, part)  # noqa: F821
        answer = program.compiled(1000, chip.loop_device(FULL, FULL))
        spikes.append(answer.spikes[:, 1])
    w, fired = chip.u.reshape(chip.shape), np.concatenate(spikes)
    return {
        "spikes": len(fired), "w_mean": w.mean(), "w_squares": (w**2).mean(), "w_corner": w[:2, :2].ravel().tolist(),
        "first": fired[:20].tolist(),
    }  # fmt: skip


def assert_equal(told: dict[str, Any], golden: dict[str, Any]) -> None:
    assert told["spikes"] == golden["spikes"]
    assert told["first"] == golden["first"]
    for name in ("w_mean", "w_squares", "w_corner"):
        assert told[name] == pytest.approx(golden[name], rel=1e-9), name


@pytest.mark.parametrize("asked", BRIAN)
def test_brians_order_gives_the_spikes_and_weights_of_brian2(asked: tuple[int, float]) -> None:
    assert_equal(ours("brian", *asked), BRIAN[asked])


@pytest.mark.parametrize("order", OWN)
def test_every_order_learns_something_else(order: Order) -> None:
    assert ours(order, 1000)["spikes"] == OWN[order]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("asked", [key for key in BRIAN if key[0] == 1000])
def test_brian2_itself_says_the_same(asked: tuple[int, float]) -> None:
    python = os.environ.get("NEUROBENCH_BRIAN")
    if not python:
        pytest.skip("NEUROBENCH_BRIAN names no Python with Brian2 (make oracles)")
    ticks, refractory_s = asked
    command = [python, ORACLES / "brian_dense.py", "--ticks", str(ticks), "--refractory-s", str(refractory_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert_equal({**found, "w_corner": [w for row in found["w_corner"][:2] for w in row[:2]]}, BRIAN[asked])
