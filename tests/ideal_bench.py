"""An ideal crossbar in sixty lines: answers a protocol's steps without drivers, Guard or runner.

Device: literal replay of a curve by pulse index (SET), or constant steps with optional depression; Gaussian read
noise per device and read. It exists so that the protocol is tested on its own; the emulator has its own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from neurobench.bench.crossbar import Applied, Capabilities, Reading
from neurobench.bench.limits import Limits
from neurobench.bench.steps import Apply, BenchView, DeviceSpan, Note, Result, Sense
from neurobench.bench.stimulus import CellRead, Direction, Pulse, VectorRead


class IdealBench:
    """State, answers, and a log of the steps."""

    def __init__(
        self,
        level: Callable[[Any], Any],
        shape: tuple[int, int],
        sigma_s: float = 0.0,
        seed: int = 0,
        capabilities: Capabilities | None = None,
        **span: Any,
    ) -> None:
        self.level, self.index, self.sigma_s = level, np.zeros(shape, np.int64), sigma_s
        self.rng = np.random.default_rng(seed)
        self.capabilities = capabilities or Capabilities(shape)
        self.span = DeviceSpan(**{"depresses": False, "basis": "declared", "pulse": Pulse(2.0, 1e-3), **span})
        self.time_s, self.log, self.notes = 0.0, [], []
        self.dead = np.zeros(shape, np.bool_)

    def view(self) -> BenchView:
        shape = self.capabilities.shape
        limits = Limits(max_cell_v=3.0, max_read_v=0.3, max_width_s=1.0)
        return BenchView(
            self.capabilities,
            limits,
            self.span,
            np.zeros(shape, np.bool_),
            np.full(shape, np.inf),
            np.zeros(shape, np.int64),
        )

    def noisy_g(self, n: int) -> Any:
        g = np.asarray(self.level(self.index))
        return (
            g + self.sigma_s * self.rng.standard_normal((n, *g.shape))
            if self.sigma_s
            else np.broadcast_to(g, (n, *g.shape))
        )

    def answer(self, step: Any) -> Any:
        self.log.append(step)
        self.time_s += 1e-3
        if isinstance(step, Note):
            self.notes.append(step)
        if isinstance(step, Apply):
            counts = np.where(self.dead, 0, step.stimulus.counts)
            self.index += counts
            return Applied(1, int(np.abs(step.stimulus.counts).sum()), self.time_s, self.time_s)
        return self.reading(step.read) if isinstance(step, Sense) else None

    def reading(self, read: CellRead | VectorRead) -> Reading:
        signs = np.array([1.0, -1.0] if read.both_polarities else [1.0])
        if isinstance(read, CellRead):
            g = self.averaged(read.averages, len(signs))[:, read.mask]
            return Reading(
                signs[:, None] * read.voltage_v * g, self.sigma_s * read.voltage_v, np.inf, self.time_s, self.time_s
            )
        g = self.averaged(read.averages, len(signs) * len(read.volts))
        if read.region is not None:
            g = g[(slice(None), *read.region.slices)]
        if read.direction is Direction.COLS_TO_ROWS:
            g = g.transpose(0, 2, 1)
        volts = np.concatenate([sign * read.volts for sign in signs])
        currents = np.einsum("ni,nij->nj", volts, g).reshape(len(signs), len(read.volts), -1)
        return Reading(currents, self.sigma_s * 0.1 * 2, np.inf, self.time_s, self.time_s)

    def averaged(self, averages: int, n: int) -> Any:
        sigma_s, self.sigma_s = self.sigma_s, self.sigma_s / averages**0.5
        g = self.noisy_g(n)
        self.sigma_s = sigma_s
        return g

    def run(self, steps: Generator[Any, Any, Result]) -> Result:
        answer = None
        while True:
            try:
                answer = self.answer(steps.send(answer))
            except StopIteration as end:
                result: Result = end.value
                return result


def seed_level(curve: Any, shifts: Any, scale: float = 10.0) -> Callable[[Any], Any]:
    """G = K [(curve(m) - curve(0)) + shift], the seed's device."""
    removed = np.asarray(curve) - curve[0]
    return lambda index: scale * (removed[index] + np.asarray(shifts))
