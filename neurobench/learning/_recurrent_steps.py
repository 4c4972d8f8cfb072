"""The loop of `recurrent.RecurrentStdp` stepped by the host: for benches that run none, and the kernel's plain twin."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobench.bench.steps import LoopAnswer, Step
from neurobench.bench.stimulus import Bias, BoolArray, FloatArray, IndexArray

from ._loop_kernels import BINDSNET, BRIAN, REFERENCE
from ._loop_steps import Counted, Currents, batches
from ._recurrent_kernel import FADED, NEST, Constants, State

if TYPE_CHECKING:
    from .recurrent import RecurrentStdp


class UsedCurrents(Currents):
    """Column currents of the used cells alone, as products on the host: what "leakage False" declares."""

    def __init__(self, used: BoolArray, read_v: float, tick_s: float) -> None:
        super().__init__(used.shape, read_v, tick_s, in_array=False)
        self._stale[:] = used


class Lines:
    """Lines that spiked in the last ticks: `ago(1)` in the tick before this one."""

    def __init__(self, flying: BoolArray) -> None:
        self._past = deque((_lines(row) for row in flying), maxlen=len(flying))

    def ago(self, ticks: int) -> IndexArray:
        """The lines that spiked so many ticks ago."""
        return self._past[ticks - 1]

    def add(self, lines: IndexArray) -> None:
        """Those of this tick: the oldest are forgotten."""
        self._past.appendleft(lines)

    def flying(self, rows: int) -> BoolArray:
        """As a raster [delay, rows], the latest tick first."""
        out = np.zeros((len(self._past), rows), np.bool_)
        for row, lines in zip(out, self._past, strict=True):
            row[lines] = True
        return out


def _lines(spiked: BoolArray) -> IndexArray:
    return np.flatnonzero(spiked).astype(np.int32)


def run_stepped(program: RecurrentStdp, ticks: int, bias: Bias, in_array: bool) -> Generator[Step, Any, LoopAnswer]:
    """The loop stepped by the host: a read per tick, and a batch for each sign (update "width": for each width).

    A sub-generator (`yield from`); the answer's times and energy are those of the bench.
    """
    rule, c, s = program.rule, program.rule.constants(), program.state()
    lines, used = Lines(program.flying), program.used
    counted = Counted(program.shape, np.where(used, c.budget, 0))
    currents = (
        Currents(program.shape, c.read_v, rule.tick_s, in_array)
        if c.leakage
        else UsedCurrents(used, c.read_v, rule.tick_s)
    )
    fired: list[tuple[int, int]] = []
    for tick in range(ticks):
        at = program.first_tick + tick
        inputs = program.spikes.rows[program.spikes.indptr[tick] : program.spikes.indptr[tick + 1]].astype(np.int32)
        driven = lines.ago(1) if c.dendritic else np.concatenate([lines.ago(c.delay), inputs])
        arriving = delayed((yield from currents.of(driven)), at, c, s)
        fires = _lines(neurons(arriving, program.drive(), c, s))
        fired += [(tick, int(j)) for j in fires]
        own = np.concatenate([fires, inputs]) if c.dendritic else fires
        here, back = (own, lines.ago(c.delay)) if c.dendritic else (driven, fires)
        lines.add(own)
        for array, factor in ((s.pre, c.pre_decay), (s.post, c.post_decay)):
            array *= factor
            array[array < FADED] = 0.0
        back = back[back < program.shape[1]]
        for sign, strength in pairs(here, back, used, c, s):
            if c.learn:
                yield from _pulse(program, sign, strength, 2 * at + (sign > 0), counted, currents, bias)
    spiked = np.array(fired, np.int32).reshape(-1, 2)
    ups, downs = (counts.reshape(-1)[program.net.flat] for counts in (counted.ups, counted.downs))
    answer = program.answer(ticks, spiked, (ups, downs), s, lines.flying(program.shape[0]))
    return answer._replace(start_s=currents.start_s, end_s=currents.end_s, energy_j=counted.energy_j)


def delayed(current_a: FloatArray, tick: int, c: Constants, s: State) -> FloatArray:
    """The currents that reach the neurons in this tick: dendritic ones come `delay - 1` ticks after they were read."""
    if not c.dendritic or c.delay == 1:
        return current_a
    s.late_a[(tick + c.delay - 1) % c.delay] = current_a
    arriving: FloatArray = s.late_a[tick % c.delay].copy()
    return arriving


def neurons(current_a: FloatArray, drive: FloatArray, c: Constants, s: State) -> BoolArray:
    """Move the neurons one tick on and reset those that fire: which do."""
    np.maximum(s.refractory - 1, 0, out=s.refractory)
    free = s.refractory == 0
    free_run, gained = s.membrane * c.leak + drive, c.gain_per_a * current_a
    fires: BoolArray = free & ((free_run if c.order == BRIAN else free_run + gained) >= 1.0)
    s.membrane[:] = np.where(free & ~fires, free_run + gained, 0.0)
    s.refractory[fires] = c.refractory
    return fires


def pairs(
    here: IndexArray, back: IndexArray, used: BoolArray, c: Constants, s: State
) -> Iterator[tuple[int, FloatArray]]:
    """Spikes at the cells in this tick, along rows (`here`) and back from neurons: sign and strength [rows, cols] of
    the pulses, in order; moves the traces on in between."""
    if c.order == NEST:
        yield 1, _up(back, used, c, s)
        yield -1, _down(here, s.post, used, c)
    _raise(s.pre, here, c.summed)
    if c.order in (NEST, BINDSNET):
        _raise(s.post, back, c.summed)
    if c.order == NEST:
        return
    earlier = s.post.copy()
    if c.order == REFERENCE:
        earlier[back] = 0.0
    yield -1, _down(here, earlier, used, c)
    if c.order != BINDSNET:
        _raise(s.post, back, c.summed)
    yield 1, _up(back, used, c, s)


def _raise(trace: FloatArray, lines: IndexArray, summed: bool) -> None:
    trace[lines] = trace[lines] + 1.0 if summed else 1.0


def _down(here: IndexArray, post: FloatArray, used: BoolArray, c: Constants) -> FloatArray:
    strength = np.zeros(used.shape)
    counts = (post > 0) & (post >= c.post_least)
    strength[here] = np.where(counts, np.minimum(c.a_minus * post, 1.0), 0.0)
    return strength * used


def _up(back: IndexArray, used: BoolArray, c: Constants, s: State) -> FloatArray:
    strength = np.zeros(used.shape)
    counts = (s.pre > 0) & (s.pre >= c.pre_least)
    strength[:, back] = np.where(counts, np.minimum(c.a_plus * s.pre, 1.0), 0.0)[:, None]
    return strength * used


def _pulse(
    program: RecurrentStdp, sign: int, strength: FloatArray, draw: int, counted: Counted, currents: Currents, bias: Bias
) -> Generator[Step, Any, None]:
    """The pulses of one sign in one tick."""
    full = program.potentiate if sign > 0 else program.depress
    constants: Any = program.rule.constants()
    for share, cells in batches(constants, strength, program.rule.draws(), draw):
        pulse = full if share == 1.0 else replace(full, width_s=full.width_s * share)
        applied = yield from counted.fire(cells, pulse, sign, bias)
        if applied is not None:
            currents.pulsed(cells)
            currents.note_time(applied.start_s, applied.end_s)
