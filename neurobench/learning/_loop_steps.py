"""The loop of `loops.LifStdp` stepped by the host: for benches that run none, and the plain twin of the kernel."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobench.bench.crossbar import Applied, Reading, conductance_s
from neurobench.bench.steps import Apply, LoopAnswer, Sense, Step
from neurobench.bench.stimulus import (
    Bias,
    BoolArray,
    CellRead,
    FloatArray,
    IndexArray,
    Pulse,
    PulseBatch,
    VectorRead,
)
from neurobench.errors import UsageError
from neurobench.physics.noise import Key, fill_uniforms

from ._loop_kernels import BINDSNET, BRIAN, REFERENCE, STOCHASTIC, WIDTH, Constants, State
from .synapses import over_a

if TYPE_CHECKING:
    from .loops import LifStdp

Batches = Iterator[tuple[float, BoolArray]]


class Currents:
    """Column currents of one tick after the other: a vector read, or products on the host where the bench has none.

    On the host a cell is read before it is used for the first time after a pulse, and held until its next pulse: its
    read noise is then the same in all ticks between, and drift shows only when it is pulsed.
    """

    def __init__(self, shape: tuple[int, int], read_v: float, tick_s: float, in_array: bool) -> None:
        self._read_v, self._tick_s, self._in_array = read_v, tick_s, in_array
        self._held_s, self._stale = np.zeros(shape), np.ones(shape, np.bool_)
        self.start_s = self.end_s = float("nan")

    def of(self, active: IndexArray) -> Generator[Step, Any, FloatArray]:
        """Currents [cols] in amperes while the `active` rows are at the read voltage."""
        if not self._in_array:
            return (yield from self._on_host(active))
        volts = np.zeros((1, len(self._held_s)))
        volts[0, active] = self._read_v
        reading = yield Sense(VectorRead(volts, integration_s=self._tick_s))
        self._note(reading)
        currents: FloatArray = reading.currents_a[0, 0]
        return currents

    def _on_host(self, active: IndexArray) -> Generator[Step, Any, FloatArray]:
        mask = np.zeros_like(self._stale)
        mask[active] = self._stale[active]
        if mask.any():
            reading = yield Sense(CellRead(mask, self._read_v, both_polarities=False, integration_s=self._tick_s))
            self._note(reading)
            self._held_s[mask] = conductance_s(reading, self._read_v)
            self._stale[mask] = False
        currents: FloatArray = self._read_v * self._held_s[active].sum(axis=0)
        return currents

    def pulsed(self, cells: BoolArray) -> None:
        """These cells have moved."""
        self._stale |= cells

    def _note(self, reading: Reading) -> None:
        if range_a := over_a(reading):
            raise UsageError(
                f"a current left the ammeter's range of {range_a:.3g} A and was cut off: the neurons would see too "
                "little. Read with fewer volts (the rule's read_v), or set a wider range on the bench"
            )
        self.note_time(reading.start_s, reading.end_s)

    def note_time(self, start_s: float, end_s: float) -> None:
        """Of the first and the last step on the bench."""
        self.start_s, self.end_s = (start_s if np.isnan(self.start_s) else self.start_s), end_s


def neurons(currents_a: FloatArray, c: Constants, s: State) -> BoolArray:
    """Charge the neurons and reset those that fire: which do."""
    membrane, theta, refractory, _, _ = s
    np.maximum(refractory - 1, 0, out=refractory)
    membrane *= c.leak
    theta *= c.theta_decay
    free = refractory == 0
    gained = np.where(free, c.gain_per_a * currents_a, 0.0)
    if c.order != BRIAN:
        membrane += gained
    fires: BoolArray = free & (membrane >= 1.0 + theta)
    excess = np.where(free, membrane - theta, -np.inf)
    if c.order == BRIAN:
        membrane += gained
    if fires.any() and c.inhibit:
        fires[:] = False
        fires[int(excess.argmax())] = True
        membrane[:] = 0.0
    membrane[fires] = 0.0
    refractory[fires] = c.refractory
    theta[fires] += c.theta_step
    return fires


def strengths(c: Constants, s: State, active: IndexArray, fires: BoolArray) -> tuple[FloatArray, FloatArray]:
    """How strongly each cell [rows, cols] is depressed and potentiated in this tick, 0 to 1; moves the traces on."""
    s.pre[:] *= c.pre_decay
    s.post[:] *= c.post_decay
    s.pre[active] = s.pre[active] + 1.0 if c.summed else 1.0
    raised = s.post + 1.0 if c.summed else np.ones_like(s.post)
    if c.order == BINDSNET:
        s.post[fires] = raised[fires]
    down, up = np.zeros((len(s.pre), len(s.post))), np.zeros((len(s.pre), len(s.post)))
    recent = (s.pre >= c.pre_least) & (s.pre > 0)
    if c.post_only:
        down[np.ix_(~recent, fires)] = min(c.a_minus, 1.0)
    else:
        counts = (s.post >= c.post_least) & (s.post > 0) & ~(fires & (c.order == REFERENCE))
        down[active] = np.where(counts, np.minimum(c.a_minus * s.post, 1.0), 0.0)
    up[np.ix_(recent, fires)] = np.minimum(c.a_plus * s.pre[recent], 1.0)[:, None]
    if c.order != BINDSNET:
        s.post[fires] = raised[fires]
    return down, up


def batches(c: Constants, strength: FloatArray, of: Key, draw: int) -> Batches:
    """The cells [rows, cols] that are pulsed together, with their share of the full width."""
    addressed = strength > 0
    if c.update == STOCHASTIC:
        uniform = np.empty(strength.size)
        fill_uniforms(*of, draw, uniform)
        addressed &= uniform.reshape(strength.shape) < strength
    if c.update != WIDTH:
        yield 1.0, addressed
        return
    for share in np.unique(strength[addressed]).tolist():
        yield share, addressed & (strength == share)


class Counted:
    """Pulses of the loop so far by sign, what each cell may have, and the energy that they took."""

    def __init__(self, shape: tuple[int, int], most: Any) -> None:
        self.ups, self.downs, self.most, self.energy_j = np.zeros(shape, np.int16), np.zeros(shape, np.int16), most, 0.0

    def fire(self, cells: BoolArray, pulse: Pulse, sign: int, bias: Bias) -> Generator[Step, Any, Applied | None]:
        """One pulse on each of the cells that may still have one."""
        open_ = cells & (self.ups + self.downs < self.most)
        if not open_.any():
            return None
        applied: Applied = yield Apply(PulseBatch(sign * open_.astype(np.int8), pulse, bias))
        had = self.ups if sign > 0 else self.downs
        had += open_
        self.energy_j += applied.energy_j
        return applied


def run_stepped(
    program: LifStdp, ticks: int, bias: Bias = Bias.HALF, in_array: bool = True
) -> Generator[Step, Any, LoopAnswer]:
    """The loop stepped by the host: a read and at most two batches per tick (update "width": one for each width).

    A sub-generator (`yield from`); the answer's times and energy are those of the bench. `in_array`: it reads vectors.
    """
    c, s, spikes = program.rule.constants(), program.state(), program.spikes
    counted = Counted(program.shape, program.most())
    currents = Currents(program.shape, c.read_v, program.rule.tick_s, in_array)
    fired: list[tuple[int, int]] = []
    begins = spikes.begins()
    for tick in range(ticks):
        if begins[tick]:
            for array in (s.membrane, s.refractory, s.pre, s.post):
                array[:] = 0.0
        active = spikes.rows[spikes.indptr[tick] : spikes.indptr[tick + 1]]
        fires = neurons((yield from currents.of(active)), c, s)
        fired += [(tick, int(j)) for j in np.flatnonzero(fires)]
        wished = strengths(c, s, active, fires)
        if c.learn:
            yield from _pulse(program, tick, wished, counted, currents, bias)
    spiked = np.array(fired, np.int32).reshape(-1, 2)
    answer = program.answer(ticks, spiked, counted.ups, counted.downs, s)
    return answer._replace(start_s=currents.start_s, end_s=currents.end_s, energy_j=counted.energy_j)


def _pulse(
    program: LifStdp, tick: int, wished: tuple[FloatArray, FloatArray], counted: Counted, currents: Currents, bias: Bias
) -> Generator[Step, Any, None]:
    """The pulses of one tick: first all that depress."""
    c, draw = program.rule.constants(), 2 * (program.first_tick + tick)
    for side, (sign, full) in enumerate(((-1, program.depress), (1, program.potentiate))):
        for share, cells in batches(c, wished[side], program.rule.draws(), draw + side):
            pulse = full if share == 1.0 else replace(full, width_s=full.width_s * share)
            applied = yield from counted.fire(cells, pulse, sign, bias)
            if applied is not None:
                currents.pulsed(cells)
                currents.note_time(applied.start_s, applied.end_s)
