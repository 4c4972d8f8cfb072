"""What a run has shown so far, put together from its run file: the same for a live run and an old one.

A `Follower` reads what is new; `snapshot(at_seq)` is all that a view needs, for now or for any earlier step. Only what
was read back through the bench is in it; the hidden truth of an emulated chip has a field of its own, for a view of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.steps import DeviceSpan
from neurobench.bench.stimulus import BoolArray, FloatArray, PulseBatch, Waveforms
from neurobench.learning.statistics import Raster
from neurobench.runs.drawing import Series


@dataclass(frozen=True)
class About:
    """What was said once about a run: who, where, under which limits. Does not change while it runs.

    pulses_used[rows, cols]: what each cell had had in its life before this run; pulses_allowed: its budget (inf: none).
    `chip`: polarity and other facts of the passport that the run file holds, as text by name.
    """

    path: str
    run_id: str
    protocol: str
    bench: str
    backend: str
    chip_id: str
    seed: int | None
    simulated: bool
    created: str
    shape: tuple[int, int]
    limits: Mapping[str, Any]
    device: DeviceSpan
    parameters: Mapping[str, Any]
    excluded: BoolArray
    pulses_used: NDArray[np.int64]
    pulses_allowed: FloatArray
    chip: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cells:
    """The array as last read back, [rows, cols] each: siemens and their sigma (nan: never read), the bench's time of the
    read, the first value read in this run, pulses of each sign in this run, cells that are out of use."""

    conductance_s: FloatArray
    sigma_s: FloatArray
    read_at_s: FloatArray
    first_s: FloatArray
    ups: NDArray[np.int64]
    downs: NDArray[np.int64]
    excluded: BoolArray


@dataclass(frozen=True)
class Shown:
    """One step of the journal in words and numbers: for the schedule and for the console.

    `sign`: 1 potentiates, -1 depresses, 0 both or neither; `cells`: how many are addressed; `pulses`: how many were fired.
    """

    seq: int
    kind: str
    at_s: float
    words: str
    sign: int = 0
    cells: int = 0
    pulses: int = 0
    amplitude_v: float = float("nan")
    width_s: float = float("nan")
    energy_j: float = float("nan")
    doubt: bool = False


@dataclass(frozen=True)
class Energy:
    """Joules of pulses and reads (nan: not known), what the first rests on, and the counts behind them."""

    pulses_j: float = 0.0
    reads_j: float = 0.0
    basis: str = "unknown"
    pulses: int = 0
    reads: int = 0
    compliance_hits: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A run as it stood after step `seq` (of `last_seq` so far). Arrays are not written to again.

    at_s: the bench's time since the first step. `progress`: scalar series of the notes "epoch" by name (error, accuracy,
    test_accuracy, loss, ...). weights_s: [outputs, inputs] or as noted; `single_cells`: a weight is one cell, no pair.
    activations, targets: [patterns, outputs]. `notes`: the last value of every other note by name ("network",
    "confusion", "activity", "preflight", "control", ...); `points`: all notes "point", `branches`: all notes "branch", in
    order. `result`: what the protocol returned, {} before. `stimulus`: the last one that was fired.
    `recent`: the last steps, newest last. `truth_s`: the emulated chip's hidden conductances, never to be mixed with
    `cells`. `history` gives traces.
    """

    about: About
    history: Traces
    live: bool
    status: str
    error: str | None
    seq: int
    last_seq: int
    at_s: float
    cells: Cells
    progress: Mapping[str, Series]
    weights_s: FloatArray | None
    single_cells: bool
    activations: FloatArray | None
    targets: FloatArray | None
    rasters: Mapping[str, Raster]
    notes: Mapping[str, Any]
    points: Sequence[Mapping[str, Any]]
    branches: Sequence[Mapping[str, Any]]
    result: Mapping[str, Any]
    stimulus: PulseBatch | Waveforms | None
    recent: Sequence[Shown]
    energy: Energy
    truth_s: FloatArray | None
    harm: Sequence[str]


class Traces:
    """Conductances over time, for whoever draws them."""

    def trace(self, cells: Sequence[tuple[int, int]], until_seq: int) -> tuple[FloatArray, FloatArray]:
        """Times [n] in seconds and conductances [n, cells] in siemens (nan: not read then)."""
        raise NotImplementedError

    def band(self, until_seq: int) -> tuple[FloatArray, FloatArray]:
        """Times [n] and lower quartile, median, upper quartile [n, 3] of all cells that were read then."""
        raise NotImplementedError
