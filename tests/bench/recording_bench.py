"""A raw crossbar that does nothing but keep what it was really told to do, and loses replies when asked to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurobench.bench.crossbar import (
    Applied,
    Capabilities,
    Crossbar,
    Done,
    Identity,
    NotDone,
    Outcome,
    Reading,
    Unknown,
    Witness,
)
from neurobench.bench.limits import Guard, Limits
from neurobench.bench.passport import Passport
from neurobench.bench.steps import Loop, LoopAnswer, LoopBounds, LoopProgram
from neurobench.bench.stimulus import Bias, Direction, Pulse, Read, Shape, ShotList, Waveforms
from neurobench.errors import LinkLost

EVERYTHING = Capabilities(
    (3, 4),
    parallelism="row",
    biases=frozenset(Bias),
    vector_reads=frozenset(Direction),
    distinct_shapes=4,
    compiled_loops=True,
)
ROOMY = Limits(max_cell_v=2.0, max_read_v=0.5, max_width_s=1.0)


class Recording(Crossbar):
    """`fate` of the next trigger: ok; lost_before: no pulse; lost_after: a pulse; unknown: a pulse and no witness."""

    def __init__(self, capabilities: Capabilities = EVERYTHING) -> None:
        self._capabilities = capabilities
        self.armed: dict[int, ShotList] = {}
        self.fired: list[tuple[int, ShotList]] = []
        self.reads: list[Read] = []
        self.loops: list[tuple[Loop, LoopAnswer]] = []
        self.found: dict[int, Outcome] = {}
        self.fate = "ok"
        self.stage_fails = False
        self.loop_fails = False
        self.rests = 0
        self.closed = False

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def identity(self) -> Identity:
        return Identity("recording", True, "recorded")

    def stage(self, seq: int, shots: ShotList) -> Witness:
        if self.stage_fails:
            raise LinkLost("the reply to stage was lost")
        self.armed = {seq: shots}
        return Witness(len(self.fired))

    def fire(self, seq: int) -> Applied:
        shots, fate = self.armed.pop(seq), self.fate
        self.fate = "ok"
        applied = Applied(len(shots), 0, 0.0, 0.0)
        if fate != "lost_before":
            self.fired.append((seq, shots))
            self.found[seq] = Done(applied) if fate != "unknown" else Unknown(0, "rebooted")
        if fate != "ok":
            raise LinkLost(f"the reply to fire({seq}) was lost")
        return applied

    def sense(self, read: Read) -> Reading:
        self.reads.append(read)
        return Reading(np.zeros((1, 1)), 0.0, 1.0, 0.0, 0.0)

    def outcome(self, seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        return self.found.get(seq, NotDone())

    def loop(self, seq: int, loop: Loop) -> LoopAnswer:
        program = loop.program
        assert isinstance(program, Busy)
        done = np.broadcast_to(np.asarray(program.does), self.capabilities.shape).astype(np.int32)
        answer = LoopAnswer(loop.ticks, np.zeros((0, 2)), done, np.zeros_like(done), {}, 0.0, 0.0, 0.0, "")
        self.loops.append((loop, answer))
        if self.loop_fails:
            self.loop_fails = False
            raise LinkLost("the loop's answer was lost")
        return answer

    def enforce(self, limits: Limits) -> None:
        self.enforced = limits

    def rest(self) -> None:
        self.rests += 1

    def close(self) -> None:
        self.closed = True


class Busy(LoopProgram):
    """A loop that may give every cell `most` pulses (a number, or one per cell) and gives it `does`."""

    kind = "busy"

    def __init__(self, pulse: Pulse, most: Any, does: Any, read_v: float = 0.1) -> None:
        self.pulse, self.most, self.does, self.read_v = pulse, most, does, read_v

    def bounds(self, ticks: int) -> LoopBounds:
        return LoopBounds(self.pulse, self.pulse, self.most, self.read_v)

    def arrays(self) -> Mapping[str, np.ndarray[Any, Any]]:
        return {}

    def scalars(self) -> Mapping[str, float]:
        return {}


def guard(limits: Limits = ROOMY, raw: Recording | None = None, passport: Passport | None = None) -> Guard:
    """A Guard named `lab` over a recording crossbar."""
    raw = raw or Recording()
    return Guard(raw, limits, passport or Passport("c1", raw.capabilities.shape), bench_name="lab")


def rectangle(volts: float, width_s: float, count: int = 1) -> Shape:
    """`count` rectangles of `width_s`, as far apart as they are wide."""
    t_s, v = [0.0], [0.0]
    for k in range(count):
        begin, end = 2 * k * width_s, (2 * k + 1) * width_s
        t_s += [begin, begin, end, end]
        v += [0.0, volts, volts, 0.0]
    return Shape(np.array(t_s[1:]), np.array(v[1:]))


def on_lines(shape: Shape, rows: list[int], cols: list[int], array: tuple[int, int] = (3, 4)) -> Waveforms:
    """`shape` on some rows and columns of an array, from 0 s on; the rest grounded."""
    row_shape, col_shape = np.full(array[0], -1), np.full(array[1], -1)
    row_shape[rows], col_shape[cols] = 0, 0
    return Waveforms((shape,), row_shape, col_shape, np.zeros(array[0]), np.zeros(array[1]))
