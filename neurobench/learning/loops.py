"""A closed loop that a backend may run by itself: input spikes, leaky neurons on columns, pair STDP by single pulses.

Each tick (1) the rows that spike are driven with `read_v` and every column's current charges its neuron, (2) neurons at
threshold fire, (3) pulses follow from the traces: a neuron that fires potentiates the cells of rows that spiked a
short while ago; a row that spikes depresses the cells of neurons that fired a short while ago. That means that an
exponential trace, set to 1 by a spike, is still above a threshold: one pulse or none, no analog weight change.

Compiled and stepped by the host are the same loop; a test holds them equal. Rule: pair
STDP with nearest spikes (Morrison, Diesmann, Gerstner 2008, Biol. Cybern. 98, 459), reduced to pulses as in Querlioz et
al. 2013, IEEE TNANO 12, 288. What stays on the host or in the backend, not in a conductance: membranes and both traces.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from neurobench.bench.crossbar import Applied
from neurobench.bench.steps import Apply, BenchView, Loop, LoopAnswer, LoopBounds, LoopProgram, Sense, Step
from neurobench.bench.stimulus import (
    Bias,
    BoolArray,
    FloatArray,
    IndexArray,
    Pulse,
    PulseBatch,
    VectorRead,
    frozen_floats,
    require,
)
from neurobench.physics.kernels import HEAD, LoopDevice, cell_s, level, pulse_cell
from neurobench.physics.noise import Key, bits, normal, operation

from .bias import choose_bias


class Spikes(NamedTuple):
    """Input spikes as sparse events: rows[indptr[t]:indptr[t + 1]] spike in tick t, each at most once."""

    indptr: IndexArray
    rows: IndexArray


def poisson(rates: FloatArray, ticks: int, rng: np.random.Generator) -> Spikes:
    """Independent spikes: row i spikes in each tick with probability rates[i]."""
    return sparse(rng.random((ticks, len(rates))) < rates)


def sparse(raster: BoolArray) -> Spikes:
    """The sparse form of raster[ticks, rows]."""
    at_tick, rows = np.nonzero(raster)
    indptr = np.searchsorted(at_tick, np.arange(len(raster) + 1)).astype(np.int32)
    return Spikes(indptr, rows.astype(np.int32))


class LoopNoise(NamedTuple):
    """Read noise inside a compiled loop: the same draws as single vector reads of the same index.

    key of the chip's read stream, index of the first read, absolute and relative variance of one device's conductance.
    """

    key: Key
    first_read: int
    sigma2: float
    relative2: float


SILENT = LoopNoise(Key(0, 0), 0, 0.0, 0.0)


@dataclass(frozen=True)
class Rule:
    """Constants of neurons and rule. Times in seconds, amplitudes in volts.

    A neuron gains `gain_per_a` x current each tick, loses the share 1 - exp(-tick_s / tau_membrane_s), and fires at 1.
    `inhibit`: only the highest fires, and all membranes start again from 0. A trace counts for `window` seconds after
    a spike: its threshold is exp(-window / tau). `cell_budget`: pulses per cell and loop.
    """

    gain_per_a: float
    read_v: float = 0.1
    tick_s: float = 1e-3
    tau_membrane_s: float = 20e-3
    tau_pre_s: float = 20e-3
    tau_post_s: float = 20e-3
    pre_window_s: float = 5e-3
    post_window_s: float = 5e-3
    inhibit: bool = False
    cell_budget: int = 1000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(field.name == "inhibit" or 0 < value < float("inf"), f"{field.name} = {value} must be positive")

    def constants(self) -> FloatArray:
        """What the kernel needs: leak, decays and thresholds of the traces, gain x read_v, inhibit, budget."""
        return np.array([
            np.exp(-self.tick_s / self.tau_membrane_s),
            np.exp(-self.tick_s / self.tau_pre_s),
            np.exp(-self.tick_s / self.tau_post_s),
            # half a tick of slack: a trace that is exactly as old as the window still counts
            np.exp(-(self.pre_window_s + self.tick_s / 2) / self.tau_pre_s),
            np.exp(-(self.post_window_s + self.tick_s / 2) / self.tau_post_s),
            self.gain_per_a,
            self.read_v,
            float(self.inhibit),
            float(self.cell_budget),
        ])  # fmt: skip


@dataclass(frozen=True)
class LifStdp(LoopProgram):
    """Leaky integrate-and-fire neurons on the columns, STDP by pulses on the cells; state and input of one loop.

    membrane[cols], pre[rows], post[cols]: state at the start; `after` makes the program of the next loop.
    """

    rule: Rule
    spikes: Spikes
    potentiate: Pulse
    depress: Pulse
    membrane: FloatArray
    pre: FloatArray
    post: FloatArray

    kind = "lif_stdp"

    def __post_init__(self) -> None:
        for name in ("membrane", "pre", "post"):
            object.__setattr__(self, name, frozen_floats(getattr(self, name), name, 1))
        require(len(self.membrane) == len(self.post), "membrane and post need one entry per column")
        rows, indptr = self.spikes.rows, self.spikes.indptr
        require(len(indptr) > 1 and indptr[0] == 0 and indptr[-1] == len(rows), "indptr does not fit to rows")
        require(bool((np.diff(indptr) >= 0).all()), "indptr does not fall")
        inside = not len(rows) or (rows.min() >= 0 and rows.max() < len(self.pre))
        require(bool(inside), f"a spike names a row outside 0..{len(self.pre) - 1}")

    @classmethod
    def fresh(cls, rule: Rule, spikes: Spikes, shape: tuple[int, int], potentiate: Pulse, depress: Pulse) -> LifStdp:
        """A loop that starts from rest on an array of `shape`."""
        rows, cols = shape
        return cls(rule, spikes, potentiate, depress, np.zeros(cols), np.zeros(rows), np.zeros(cols))

    def after(self, answer: LoopAnswer, spikes: Spikes) -> LifStdp:
        """The same loop with new input, going on from where `answer` left it."""
        state = answer.state
        return LifStdp(self.rule, spikes, self.potentiate, self.depress, state["membrane"], state["pre"], state["post"])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the array that the loop runs on."""
        return len(self.pre), len(self.post)

    def compiled(self, ticks: int, device: LoopDevice, noise: LoopNoise | None = None) -> LoopAnswer:
        """Run on the live arrays of an emulated chip; `device.u` and `device.pulses` change in place."""
        noise = noise or SILENT
        require(self.shape == device.shape, f"the loop is for {self.shape} cells, the chip has {device.shape}")
        require(len(self.spikes.indptr) > ticks, f"the input has {len(self.spikes.indptr) - 1} ticks")
        state = {name: np.array(getattr(self, name)) for name in ("membrane", "pre", "post")}
        ups, downs = np.zeros(device.shape, np.int32), np.zeros(device.shape, np.int32)
        spikes = np.empty((ticks * device.shape[1], 2), np.int32)
        kernel: Any = _lif_stdp
        fired = kernel(
            ticks, self.spikes.indptr, self.spikes.rows, self.rule.constants(), device, *noise.key,
            noise.first_read, noise.sigma2, noise.relative2, *state.values(), ups, downs, spikes,
        )  # fmt: skip
        return _answer(self, ticks, spikes[:fired].copy(), ups, downs, state)

    def stepped(self, ticks: int, view: BenchView) -> Generator[Step, Any, LoopAnswer]:
        """The same loop by the host: a read and at most two batches per tick."""
        return run_stepped(self, ticks, choose_bias("auto", view))

    def bounds(self, ticks: int) -> LoopBounds:
        """At most one pulse per cell and tick, and no more than the budget of a cell."""
        return LoopBounds(self.potentiate, self.depress, min(ticks, self.rule.cell_budget), self.rule.read_v)

    def arrays(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Input and state."""
        return {
            "indptr": self.spikes.indptr, "rows": self.spikes.rows,
            "membrane": self.membrane, "pre": self.pre, "post": self.post,
        }  # fmt: skip

    def scalars(self) -> Mapping[str, float]:
        """The rule."""
        return {field.name: float(getattr(self.rule, field.name)) for field in fields(self.rule)}


def run(program: LoopProgram, ticks: int, view: BenchView) -> Generator[Step, Any, LoopAnswer]:
    """Run a loop where it runs best: in the backend if it can, else stepped by the host (`yield from`)."""
    if view.capabilities.compiled_loops:
        answer: LoopAnswer = yield Loop(program, ticks)
        return answer
    return (yield from program.stepped(ticks, view))


def _answer(
    program: LifStdp, ticks: int, spikes: Any, ups: Any, downs: Any, state: dict[str, FloatArray]
) -> LoopAnswer:
    digest = blake2b(digest_size=16)
    for array in (spikes, ups, downs, *state.values()):
        digest.update(array.tobytes())
    end_s = ticks * program.rule.tick_s
    return LoopAnswer(ticks, spikes, ups, downs, dict(state), 0.0, end_s, float("nan"), digest.hexdigest())


@njit(cache=True)
def _lif_stdp(
    ticks: int, indptr: Any, rows_in: Any, constants: Any, device: LoopDevice, k0: int, k1: int, read0: int,
    sigma2: float, relative2: float, membrane: Any, pre: Any, post: Any, ups: Any, downs: Any, spikes: Any,
) -> int:  # pragma: no cover - compiled  # fmt: skip
    """All ticks; returns the number of spikes written to spikes[n, 2]."""
    rows, cols = device.shape
    grid = np.empty((rows, cols))
    for i in range(rows):
        for j in range(cols):
            grid[i, j] = cell_s(device, i * cols + j)
    current, variance = np.empty(cols), np.empty(cols)
    fires, recent, cells = np.zeros(cols, np.bool_), np.empty(cols, np.int64), np.empty(rows * cols, np.int64)
    done = 0
    for tick in range(ticks):
        active = rows_in[indptr[tick] : indptr[tick + 1]]
        _columns(grid, active, constants[6], current)
        if sigma2 > 0 or relative2 > 0:
            _add_noise(grid, active, constants[6], sigma2, relative2, k0, k1, read0 + tick, variance, current)
        fired = _neurons(current, constants, membrane, fires)
        for i in range(rows):
            pre[i] *= constants[1]
        for i in active:
            pre[i] = 1.0
        # the traces of neurons that fired before this tick; this tick's own spikes potentiate and do not depress
        count = n = 0
        for j in range(cols):
            post[j] *= constants[2]
            if post[j] >= constants[4] and not fires[j]:
                recent[count] = j
                count += 1
        for i in active:
            for q in range(count):
                cells[n] = i * cols + recent[q]
                n += 1
        _pulse_all(device, grid, cells[:n], -1, constants[8], ups, downs)
        if fired:
            n = 0
            for j in range(cols):
                if fires[j]:
                    post[j] = 1.0
                    spikes[done, 0], spikes[done, 1] = tick, j
                    done += 1
                    for i in range(rows):
                        if pre[i] >= constants[3]:
                            cells[n] = i * cols + j
                            n += 1
            _pulse_all(device, grid, cells[:n], 1, constants[8], ups, downs)
    return done


@njit(cache=True)
def _columns(grid: Any, active: Any, read_v: float, current: Any) -> None:  # pragma: no cover - compiled
    """Currents of the columns while the active rows are at read_v."""
    current[:] = 0.0
    for i in active:
        row = grid[i]
        for j in range(current.size):
            current[j] += row[j]
    for j in range(current.size):
        current[j] *= read_v


@njit(cache=True)
def _add_noise(
    grid: Any, active: Any, read_v: float, sigma2: float, relative2: float, k0: int, k1: int, read: int, variance: Any,
    current: Any,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """One normal draw per column, exact for independent Gaussian devices; keyed like a vector read of its own."""
    a, b = operation(k0, k1, read)
    variance[:] = active.size * sigma2
    if relative2 > 0:
        for i in active:
            for j in range(current.size):
                variance[j] += relative2 * grid[i, j] * grid[i, j]
    for j in range(current.size):
        current[j] += read_v * np.sqrt(variance[j]) * normal(bits(a, b, np.uint64(j)))


@njit(cache=True)
def _neurons(current: Any, constants: Any, membrane: Any, fires: Any) -> bool:  # pragma: no cover - compiled
    """Charge the neurons and mark those that fire; True if any does."""
    any_, best = False, 0
    for j in range(membrane.size):
        membrane[j] = membrane[j] * constants[0] + constants[5] * current[j]
        fires[j] = membrane[j] >= 1.0
        any_ |= fires[j]
        if membrane[j] > membrane[best]:
            best = j
    if not any_:
        return False
    if constants[7] > 0:
        fires[:] = False
        fires[best] = True
        membrane[:] = 0.0
        return True
    for j in range(membrane.size):
        if fires[j]:
            membrane[j] = 0.0
    return True


@njit(cache=True)
def _pulse_all(
    device: LoopDevice, grid: Any, cells: Any, sign: int, budget: float, ups: Any, downs: Any
) -> None:  # pragma: no cover - compiled
    """One pulse on each of these cells (flat indices), unless a cell has used up its budget in this loop.

    The device is taken apart once: handed on pulse by pulse, its arrays cost more than the pulse.
    """
    flat, up, down, had = grid.ravel(), ups.ravel(), downs.ravel(), ups.ravel() if sign > 0 else downs.ravel()
    table = device.up if sign > 0 else device.down
    u, step, pulses, base_s, gain_s, levels = (
        device.u, device.step, device.pulses, device.base_s, device.gain_s, device.levels,
    )  # fmt: skip
    k0, k1, noisy = np.uint64(device.k0), np.uint64(device.k1), table.pieces[HEAD, 3] > 0
    selected_s, z = 0.0, 0.0
    for c in cells:
        if up[c] + down[c] >= budget:
            continue
        selected_s += flat[c]
        if noisy:
            z = normal(bits(k0, k1, (np.uint64(pulses[c]) << np.uint64(32)) | np.uint64(c)))
        u[c] = pulse_cell(u[c], table, step[c], z, device.u_min, device.u_max)
        pulses[c] += np.uint32(1)
        had[c] += 1
        flat[c] = base_s[c] + gain_s[c] * level(u[c], levels)
    device.selected_s[0 if sign > 0 else 1] += selected_s


def run_stepped(program: LifStdp, ticks: int, bias: Bias = Bias.HALF) -> Generator[Step, Any, LoopAnswer]:
    """The same loop stepped by the host, for benches that run none: a read and at most two batches per tick.

    A sub-generator (`yield from`); the answer's times and energy are those of the bench.
    """
    rule, constants = program.rule, program.rule.constants()
    state = {name: np.array(getattr(program, name)) for name in ("membrane", "pre", "post")}
    ups, downs = np.zeros(program.shape, np.int32), np.zeros(program.shape, np.int32)
    fired: list[tuple[int, int]] = []
    energy_j, start_s, end_s = 0.0, float("nan"), float("nan")
    for tick in range(ticks):
        active = program.spikes.rows[program.spikes.indptr[tick] : program.spikes.indptr[tick + 1]]
        volts = np.zeros((1, program.shape[0]))
        volts[0, active] = rule.read_v
        reading = yield Sense(VectorRead(volts, integration_s=rule.tick_s))
        start_s, end_s = (reading.start_s if tick == 0 else start_s), reading.end_s
        fires = _stepped_neurons(reading.currents_a[0, 0], rule, state["membrane"], constants[0])
        wish = _wishes(state, active, fires, constants)
        wish[(ups + downs) >= rule.cell_budget] = 0
        fired += [(tick, int(j)) for j in np.flatnonzero(fires)]
        for sign, pulse in ((-1, program.depress), (1, program.potentiate)):
            counts = np.where(wish == sign, wish, 0).astype(np.int8)
            if counts.any():
                applied: Applied = yield Apply(PulseBatch(counts, pulse, bias))
                energy_j += applied.energy_j
                end_s = applied.end_s
        ups += wish > 0
        downs += wish < 0
    spikes = np.array(fired, np.int32).reshape(-1, 2)
    answer = _answer(program, ticks, spikes, ups, downs, state)
    return answer._replace(start_s=start_s, end_s=end_s, energy_j=energy_j)


def _stepped_neurons(currents_a: FloatArray, rule: Rule, membrane: FloatArray, leak: float) -> BoolArray:
    membrane *= leak
    membrane += rule.gain_per_a * currents_a
    fires: BoolArray = membrane >= 1.0
    if fires.any() and rule.inhibit:
        best = int(membrane.argmax())
        fires[:] = False
        fires[best] = True
        membrane[:] = 0.0
    membrane[fires] = 0.0
    return fires


def _wishes(state: dict[str, FloatArray], active: IndexArray, fires: BoolArray, constants: FloatArray) -> Any:
    """Pulses of one tick as int8 [rows, cols]: +1, -1 or 0; moves the traces on."""
    pre, post = state["pre"], state["post"]
    pre *= constants[1]
    pre[active] = 1.0
    post *= constants[2]
    wish = np.zeros((len(pre), len(post)), np.int8)
    wish[np.ix_(active, np.flatnonzero((post >= constants[4]) & ~fires))] = -1
    post[fires] = 1.0
    wish[np.ix_(np.flatnonzero(pre >= constants[3]), np.flatnonzero(fires))] = 1
    return wish
