"""Snapshots made by hand, so that a view can be shown any run without running one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.limits import Limits
from neurobench.bench.steps import DeviceSpan
from neurobench.bench.stimulus import Bias, FloatArray, Pulse, PulseBatch, Shape, Waveforms
from neurobench.learning.statistics import Raster
from neurobench.runs.drawing import Series
from neurobench.runs.history import About, Cells, Energy, Shown, Snapshot, Traces

LIMITS = Limits(
    max_cell_v=2.0, max_read_v=0.2, max_width_s=50e-3, min_width_s=1e-7, compliance_a=100e-6, max_pulses_per_cell=1000
)


class WanderingTraces(Traces):
    """Random walks of every cell, the same for the same seed: `steps` reads of all cells."""

    def __init__(self, shape: tuple[int, int] = (4, 4), steps: int = 200, seed: int = 0) -> None:
        walk = np.random.default_rng(seed).normal(0, 0.4e-6, (steps, *shape)).cumsum(axis=0)
        self.at_s: FloatArray = np.arange(steps) * 0.1
        self.conductance_s: FloatArray = np.abs(40e-6 + walk)

    def trace(self, cells: Sequence[tuple[int, int]], until_seq: int) -> tuple[FloatArray, FloatArray]:
        rows, cols = [cell[0] for cell in cells], [cell[1] for cell in cells]
        return self.at_s[: until_seq + 1], self.conductance_s[: until_seq + 1, rows, cols]

    def band(self, until_seq: int) -> tuple[FloatArray, FloatArray]:
        flat = self.conductance_s[: until_seq + 1].reshape(len(self.at_s[: until_seq + 1]), -1)
        return self.at_s[: until_seq + 1], np.percentile(flat, (25, 50, 75), axis=1).T


def about(shape: tuple[int, int] = (4, 4), **changes: Any) -> About:
    """A run of `manhattan` on an emulated chip."""
    made = About(
        path="/runs/0143.nbrun", run_id="0143", protocol="manhattan", bench="emulator", backend="emulator",
        chip_id="A17", seed=7, simulated=True, created="2026-11-20T20:41:07", shape=shape,
        limits=LIMITS.model_dump(), device=DeviceSpan(g_min_s=1e-6, g_max_s=100e-6, threshold_v=1.1),
        parameters={"target": 0.8, "max_updates": 48}, excluded=np.zeros(shape, np.bool_),
        pulses_used=np.full(shape, 20, np.int64), pulses_allowed=np.full(shape, 1000.0),
    )  # fmt: skip
    return replace(made, **changes)


def cells(shape: tuple[int, int] = (4, 4), seed: int = 0, **changes: Any) -> Cells:
    """Every cell read once, between 1 and 100 microsiemens."""
    rng = np.random.default_rng(seed)
    grid = rng.uniform(1e-6, 100e-6, shape)
    ups: NDArray[np.int64] = rng.integers(0, 20, shape)
    made = Cells(
        conductance_s=grid, sigma_s=np.full(shape, 0.4e-6), read_at_s=np.full(shape, 1.0), first_s=grid * 0.9,
        before_s=grid * 0.95, ups=ups, downs=rng.integers(0, 20, shape), excluded=np.zeros(shape, np.bool_),
    )  # fmt: skip
    return replace(made, **changes)


def snapshot(shape: tuple[int, int] = (4, 4), **changes: Any) -> Snapshot:
    """A run that has begun and said nothing yet; `changes` replace its fields."""
    nothing: Mapping[str, Any] = {}
    made = Snapshot(
        about=about(shape), history=WanderingTraces(shape), live=True, status="running", error=None, seq=10,
        last_seq=10, at_s=1.5, cells=cells(shape), progress={}, weights_s=None, single_cells=False, activations=None,
        targets=None, rasters={}, notes=nothing, points=(), branches=(), ramps=(), result=nothing, stimulus=None,
        recent=(), energy=Energy(), truth_s=None, harm=(),
    )  # fmt: skip
    return replace(made, **changes)


def series(*values: float) -> Series:
    """Values of the epochs 1, 2, ..."""
    return Series(np.arange(1.0, 1 + len(values)), np.array(values, np.float64))


def trained(epochs: int = 12, patterns: int = 30, outputs: int = 3, seed: int = 1, **changes: Any) -> Snapshot:
    """A run of `manhattan` after some epochs: progress, weights, activations, the last pulses."""
    rng = np.random.default_rng(seed)
    error = 30 * np.exp(-np.arange(epochs) / 4.0)
    targets = np.where(np.arange(outputs) == np.arange(patterns)[:, None] % outputs, 0.8, -0.8)
    found = np.clip(targets * rng.uniform(0.7, 1.2, targets.shape), -1, 1)
    progress = {
        "error": series(*error),
        "accuracy": series(*(1 - error / 35)),
        "margin_a": series(*np.linspace(-2e-9, 8e-9, epochs)),
    }
    weights = rng.normal(0, 20e-6, (10, outputs))
    made = snapshot(
        (10, 2 * outputs), progress=progress, weights_s=weights, activations=found, targets=targets, stimulus=batch(),
        recent=steps(), energy=Energy(1.8e-6, 40e-9, "measured", 412, 96, 0), truth_s=cells((10, 2 * outputs)).first_s,
    )  # fmt: skip
    return replace(made, **changes)


def batch(shape: tuple[int, int] = (10, 6), amplitude_v: float = 1.5, bias: Bias = Bias.HALF) -> PulseBatch:
    """Two pulses that potentiate in the first row, one that depresses in the second."""
    counts = np.zeros(shape, np.int16)
    counts[0, 0], counts[0, 2], counts[1, 1] = 2, 1, -1
    return PulseBatch(counts, Pulse(amplitude_v, 5e-3), bias)


def pair(shape: tuple[int, int] = (4, 4), dt_s: float = 1e-3) -> Waveforms:
    """A pre spike on row 1 and a post spike on column 2."""
    spike = Shape(np.array([0, 1e-3, 1e-3, 6e-3]), np.array([0.0, 0.9, -0.5, 0.0]))
    rows, cols = np.full(shape[0], -1), np.full(shape[1], -1)
    rows[1], cols[2] = 0, 0
    late = np.zeros(shape[1])
    late[2] = dt_s
    return Waveforms((spike,), rows, cols, np.zeros(shape[0]), late)


def steps(n: int = 20) -> tuple[Shown, ...]:
    """Pulses and reads in turn."""
    return tuple(
        Shown(k, "pulses", 0.1 * k, "2 cells, 1.5 V, 5 ms", 1 if k % 4 else -1, 2, 3, 1.5, 5e-3, 4e-9)
        if k % 2
        else Shown(k, "read", 0.1 * k, "read all cells at 0.1 V", 0, 60)
        for k in range(n)
    )


def raster(layer: str, neurons: int, spikes: int, ticks: int = 20_000, seed: int = 0) -> Raster:
    """Spikes at random."""
    rng = np.random.default_rng(seed)
    tick = np.sort(rng.integers(0, ticks, spikes))
    return Raster(layer, neurons, 1e-3, np.array([[0, ticks]]), tick, rng.integers(0, neurons, spikes))


def spiking(spikes: int = 2000, **changes: Any) -> Snapshot:
    """Two layers that spike."""
    layers = {"input": raster("input", 64, spikes), "neurons": raster("neurons", 10, spikes // 8, seed=1)}
    return snapshot((64, 10), rasters=layers, **changes)


A_S, TAU_S = 2e-6, 12e-3


def window(fitted: bool = True, seed: int = 3, **changes: Any) -> Snapshot:
    """A learning window: exponential branches with noise, controls, and with `fitted` what the run returned."""
    rng = np.random.default_rng(seed)
    times = np.repeat(np.array([-40, -20, -10, -5, -2, 2, 5, 10, 20, 40]) * 1e-3, 3)
    dg_s = np.sign(times) * A_S * np.exp(-np.abs(times) / TAU_S) + rng.normal(0, 0.1e-6, len(times))
    points = [_point("pair", float(dt), float(dg)) for dt, dg in zip(times, dg_s, strict=True)]
    points += [_point(kind, float("nan"), 1e-8 * n) for kind in ("lone_pre", "lone_post", "none") for n in range(3)]
    result = _window_result(times, dg_s) if fitted else {}
    made = snapshot(points=points, result=result)
    return replace(made, **changes)


def _point(kind: str, dt_s: float, dg_s: float) -> dict[str, Any]:
    return {"kind": kind, "dt_s": dt_s, "cell": [0, 0], "repeat": 0, "g0_s": 50e-6, "dg_s": dg_s, "sigma_s": 0.1e-6,
            "initialised": True, "over_range": False}  # fmt: skip


def _window_result(times: FloatArray, dg_s: FloatArray) -> dict[str, Any]:
    at_s = np.linspace(-50e-3, 50e-3, 101)
    fit = {
        "a_plus": A_S, "tau_plus_s": TAU_S, "a_minus": -A_S, "tau_minus_s": TAU_S, "said": {"plus": "", "minus": ""},
        "intervals": {"a_plus": [A_S, 0.9 * A_S, 1.1 * A_S], "tau_plus_s": [TAU_S, 0.8 * TAU_S, 1.3 * TAU_S],
                      "a_minus": [-A_S, -1.1 * A_S, -0.9 * A_S], "tau_minus_s": [TAU_S, 0.8 * TAU_S, 1.3 * TAU_S]},
    }  # fmt: skip
    theory = {"dt_s": at_s, "dg_s": np.sign(at_s) * 1.1 * A_S * np.exp(-np.abs(at_s) / TAU_S)}
    controls = {f"{kind}_s": np.array([0, 1e-8, 2e-8]) for kind in ("lone_pre", "lone_post", "none")}
    return {"dt_s": times, "dg_s": dg_s, "g0_s": np.full(len(times), 50e-6), "fit": fit, "theory": theory,
            "controls": controls, "noise_s": 0.1e-6}  # fmt: skip


def sweep(cycles: int = 2, **changes: Any) -> Snapshot:
    """Current over voltage of one cell, both polarities, as the notes "branch" tell it."""
    branches = [_branch(cycle, sign) for cycle in range(cycles) for sign in (1, -1)]
    return snapshot(branches=branches, **changes)


def _branch(cycle: int, sign: int) -> dict[str, Any]:
    up = np.linspace(0.1, 1.5, 15)
    volts = sign * np.concatenate([up, up[-2::-1]])
    low, high = (10e-6, 60e-6) if sign > 0 else (60e-6, 10e-6)
    conductance = np.where(np.arange(len(volts)) > 12, high, low) * (1 + 0.02 * cycle)
    return {"cell": [1, 2], "cycle": cycle, "direction": sign, "switch_v": sign * 1.3, "before_s": low, "after_s": high,
            "turned": "compliance" if cycle else "", "volts_v": volts, "current_a": volts * conductance}  # fmt: skip
