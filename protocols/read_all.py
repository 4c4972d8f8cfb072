"""Read every cell a few times: conductances, their noise, the ammeter's offset. Fires no pulse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from neurobench.bench.steps import BenchView, Note, Protocol, Result, Sense, Steps
from neurobench.bench.stimulus import CellRead


class ReadAll(Protocol):
    """Read all cells at both polarities and report what the bench sees (bench rule 5)."""

    read_v: float = Field(0.1, gt=0, description="read voltage, in volts")
    repeats: int = Field(8, ge=2, le=10_000, description="independent reads of every cell")
    averages: int = Field(1, ge=1, le=1_000_000, description="reads that the instrument averages in each")
    integration_s: float = Field(1e-3, gt=0, description="time of one read, in seconds")

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:  # noqa: ARG002
        """Repeat one read; needs no checkpoint, since a repeated read costs little."""
        both = view.capabilities.both_polarities
        read = CellRead(np.ones(view.shape, np.bool_), self.read_v, both, 0.0, self.integration_s, self.averages)
        grids, offsets = [], []
        for _ in range(self.repeats):
            reading = yield Sense(read)
            grids.append((reading.signed_a() / self.read_v).reshape(view.shape))
            offsets.append(reading.currents_a.mean(axis=0).reshape(view.shape))
            yield Note("conductance_s", grids[-1])
        stack = np.array(grids)
        values = {
            "conductance_s": stack.mean(axis=0),
            "sigma_s": stack.std(axis=0, ddof=1),
            "offset_a": float(np.mean(offsets)) if both else None,
            "declared_sigma_s": view.device.read_sigma_s,
        }
        return Result(bool(np.isfinite(stack).all()), values)


plugin = ReadAll
