"""A closed loop that a backend may run by itself: input spikes, leaky neurons on columns, STDP by pulses on the cells.

Each tick (1) the rows that spike are driven with `read_v` and every column's current charges its neuron, (2) neurons at
threshold fire, (3) pulses follow from the traces: a neuron that fires potentiates the cells of rows that spiked a
short while ago; a row that spikes depresses the cells of neurons that fired a short while ago. What a pulse is, a
`Rule` says: one where the trace is above a threshold, one with a probability, or one of a proportional width.

Compiled and stepped by the host are the same loop; a test holds them equal. Rule: pair
STDP (Morrison, Diesmann, Gerstner 2008, Biol. Cybern. 98, 459), reduced to pulses as in Querlioz et al. 2013,
IEEE TNANO 12, 288. What stays on the host or in the backend, not in a conductance: membranes, thresholds and traces.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from neurobench.bench.steps import BenchView, Loop, LoopAnswer, LoopBounds, LoopProgram, Step
from neurobench.bench.stimulus import BoolArray, Direction, FloatArray, IndexArray, Pulse, require
from neurobench.errors import CapabilityMissing, UsageError
from neurobench.physics.kernels import LoopDevice
from neurobench.physics.noise import Key, Stream, key, operations

from ._loop_kernels import Constants, Pulsed, State, full_step, lif_stdp, scratch
from ._loop_steps import run_stepped
from .bias import choose_bias

Order = Literal["reference", "brian", "bindsnet"]
Traces = Literal["nearest", "all"]
Update = Literal["window", "stochastic", "width"]
Pairing = Literal["pair", "post"]

MOST_PULSES = 32_000  # per cell and loop: they are counted in 16 bits
MOST_SEED = 2**53  # a seed is recorded as a float

_NO_STARTS = np.empty(0, np.int32)


class Spikes(NamedTuple):
    """Input spikes as sparse events: rows[indptr[t]:indptr[t + 1]] spike in tick t, each at most once.

    `starts`: ticks, ascending, at which a presentation begins: before them membranes, traces and refractory times are
    set to 0; thresholds stay.
    """

    indptr: IndexArray
    rows: IndexArray
    starts: IndexArray = _NO_STARTS

    def begins(self) -> BoolArray:
        """Whether a presentation begins [ticks]."""
        begins = np.zeros(len(self.indptr) - 1, np.bool_)
        begins[self.starts] = True
        return begins


def poisson(rates: FloatArray, ticks: int, rng: np.random.Generator) -> Spikes:
    """Independent spikes: row i spikes in each tick with probability rates[i]."""
    return sparse(rng.random((ticks, len(rates))) < rates)


def sparse(raster: BoolArray, starts: IndexArray = _NO_STARTS) -> Spikes:
    """The sparse form of raster[ticks, rows]."""
    at_tick, rows = np.nonzero(raster)
    indptr = np.searchsorted(at_tick, np.arange(len(raster) + 1)).astype(np.int32)
    return Spikes(indptr, rows.astype(np.int32), np.asarray(starts, np.int32))


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

    Neurons: each gains `gain_per_a` x current every tick, loses the share 1 - exp(-tick_s / tau_membrane_s), fires at
    1 + theta and is then at 0 and deaf for `refractory_s`. theta rises by `theta_step` with each spike and decays
    with `theta_tau_s`. `inhibit`: only the one that is highest above its theta fires, and all membranes start from 0.

    Traces: 1 at a spike ("nearest") or 1 more with each ("all"), decaying with tau. A trace counts for `window` seconds
    after a spike (inf: for ever), that is while it is above exp(-window / tau).

    pairing "pair": a neuron that fires potentiates its cells in rows whose trace counts, by a_plus x trace; a row that
    spikes depresses its cells of neurons whose trace counts, by a_minus x trace. "post": only a neuron that fires
    moves cells: those in rows whose trace counts up by a_plus x trace, all others down by a_minus.

    update: what "by x" means, x at most 1. "window": one pulse, whatever x is. "stochastic": one pulse with
    probability x, from random numbers of `seed`, tick and cell. "width": one pulse of x times the full width; only on
    devices whose response is linear in the width.

    order: what happens first within a tick; it changes what is learnt (compare Brian2 and BindsNET).
    "reference": charge, threshold, depression, potentiation; a neuron that fires in the very tick of a row's spike
    potentiates and does not depress. "brian": threshold before charge, so that a spike acts one tick later, and what
    comes in the tick in which a neuron fires is lost by its reset; then depression by the trace of earlier spikes,
    and potentiation (Brian2: groups, thresholds, synapses, resets). "bindsnet": charge, threshold, then both traces
    are raised before depression and potentiation, so that a pair at one tick does both (BindsNET's PostPre with
    one_step).

    `learn` False: no pulses, thresholds stay. `cell_budget`: pulses per cell and loop.
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
    refractory_s: float = 0.0
    theta_step: float = 0.0
    theta_tau_s: float = float("inf")
    learn: bool = True
    order: Order = "reference"
    traces: Traces = "nearest"
    pairing: Pairing = "pair"
    update: Update = "window"
    a_plus: float = 1.0
    a_minus: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("gain_per_a", "read_v", "tick_s", "tau_membrane_s", "tau_pre_s", "tau_post_s"):
            value = getattr(self, name)
            require(0 < value < float("inf"), f"{name} = {value} must be positive")
        for name in ("pre_window_s", "post_window_s", "theta_tau_s"):
            require(getattr(self, name) > 0, f"{name} = {getattr(self, name)} must be positive")
        for name in ("refractory_s", "theta_step", "a_plus", "a_minus"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"{name} = {value} must be 0 or positive")
        require(1 <= self.cell_budget <= MOST_PULSES, f"cell_budget = {self.cell_budget} lies in 1..{MOST_PULSES}")
        require(0 <= self.seed < MOST_SEED, f"seed = {self.seed} lies in 0..{MOST_SEED - 1}")
        for name, allowed in _OPTIONS.items():
            given = getattr(self, name)
            require(given in allowed, f"{name} = {given!r} is none of {', '.join(allowed)}")

    def constants(self) -> Constants:
        """What the kernel needs, per tick and as numbers."""
        return Constants(
            leak=_decay(self.tick_s, self.tau_membrane_s),
            pre_decay=_decay(self.tick_s, self.tau_pre_s),
            post_decay=_decay(self.tick_s, self.tau_post_s),
            # half a tick of slack: a trace that is exactly as old as the window still counts
            pre_least=_decay(self.pre_window_s + self.tick_s / 2, self.tau_pre_s),
            post_least=_decay(self.post_window_s + self.tick_s / 2, self.tau_post_s),
            theta_decay=_decay(self.tick_s, self.theta_tau_s) if self.learn else 1.0,
            theta_step=float(self.theta_step) if self.learn else 0.0,
            gain_per_a=float(self.gain_per_a),
            read_v=float(self.read_v),
            a_plus=float(self.a_plus),
            a_minus=float(self.a_minus),
            refractory=float(round(self.refractory_s / self.tick_s)),
            summed=self.traces == "all",
            post_only=self.pairing == "post",
            inhibit=bool(self.inhibit),
            learn=bool(self.learn),
            order=_OPTIONS["order"].index(self.order),
            update=_OPTIONS["update"].index(self.update),
        )

    def draws(self) -> Key:
        """Key of the random numbers of "stochastic": they belong to the rule, not to the chip."""
        return key(self.seed, Stream.LOOP)

    def scalars(self) -> dict[str, float]:
        """All fields as numbers, options by their place in the list of what is allowed."""
        return {field.name: float(self._number(field.name)) for field in fields(self)}

    def _number(self, name: str) -> float:
        value = getattr(self, name)
        return _OPTIONS[name].index(value) if name in _OPTIONS else value


_OPTIONS: dict[str, tuple[str, ...]] = {
    "order": get_args(Order), "traces": get_args(Traces), "pairing": get_args(Pairing), "update": get_args(Update)
}  # fmt: skip


def _decay(seconds: float, tau_s: float) -> float:
    return float(np.exp(-seconds / tau_s))


@dataclass(frozen=True)
class LifStdp(LoopProgram):
    """Leaky integrate-and-fire neurons on the columns, STDP by pulses on the cells; state and input of one loop.

    start: neurons and traces at the start, `first_tick`: ticks before it; `after` makes the program of the next loop.
    A neuron whose theta is inf never fires: so a column is left out. `cell_most[rows, cols]`: pulses that each cell
    may have in this loop (none given: the rule's `cell_budget` for all).
    """

    rule: Rule
    spikes: Spikes
    potentiate: Pulse
    depress: Pulse
    start: State
    first_tick: int = 0
    cell_most: IndexArray | None = None

    kind = "lif_stdp"

    def __post_init__(self) -> None:
        start = self.start
        same = len(start.membrane) == len(start.post) == len(start.theta) == len(start.refractory)
        require(same, "membrane, theta, refractory and post need one entry per column")
        _check_input(self.spikes, len(start.pre))
        if self.cell_most is not None:
            shape = np.shape(self.cell_most)
            require(shape == self.shape, f"cell_most is for {shape} cells, the loop for {self.shape}")

    @classmethod
    def fresh(
        cls, rule: Rule, spikes: Spikes, shape: tuple[int, int], potentiate: Pulse, depress: Pulse,
        theta: FloatArray | None = None, cell_most: IndexArray | None = None, first_tick: int = 0,
    ) -> LifStdp:  # fmt: skip
        """A loop that starts from rest on an array of `shape`; `theta[cols]`: thresholds learnt before."""
        rows, cols = shape
        theta = np.zeros(cols) if theta is None else np.array(theta, np.float64)
        start = State(np.zeros(cols), theta, np.zeros(cols), np.zeros(rows), np.zeros(cols))
        return cls(rule, spikes, potentiate, depress, start, first_tick, cell_most)

    def after(self, answer: LoopAnswer, spikes: Spikes, rule: Rule | None = None) -> LifStdp:
        """The same loop with new input, going on from where `answer` left it; perhaps with another rule."""
        start = State(*(answer.state[name] for name in State._fields))
        ticks = self.first_tick + answer.ticks
        return LifStdp(rule or self.rule, spikes, self.potentiate, self.depress, start, ticks, self.cell_most)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the array that the loop runs on."""
        return len(self.start.pre), len(self.start.post)

    def state(self) -> State:
        """A copy of the state at the start, for whoever runs the loop."""
        return State(*(np.array(array, np.float64) for array in self.start))

    def most(self) -> IndexArray:
        """Pulses that a cell may have in this loop [rows, cols]; [1, 1]: the same for all."""
        if self.cell_most is None:
            return np.full((1, 1), self.rule.cell_budget, np.int32)
        return np.clip(self.cell_most, 0, self.rule.cell_budget).astype(np.int32)

    def compiled(self, ticks: int, device: LoopDevice, noise: LoopNoise | None = None) -> LoopAnswer:
        """Run on the live arrays of an emulated chip; `device.u` and `device.pulses` change in place."""
        noise = noise or SILENT
        require(self.shape == device.shape, f"the loop is for {self.shape} cells, the chip has {device.shape}")
        require(len(self.spikes.indptr) > ticks, f"the input has {len(self.spikes.indptr) - 1} ticks")
        check_width(self.rule.update, device)
        state, most = self.state(), self.most().ravel()
        rows, of_rows = np.array(self.spikes.rows, np.int32), np.bincount(self.spikes.rows, minlength=1)
        counts = np.zeros((2, device.u.size), np.int16)
        even = (
            device.base_s.size == device.gain_s.size == 1 and not device.levels.size and bool((device.step == 1).all())
        )
        pulsed = Pulsed(
            counts[0], counts[1], most, int(most.min() - of_rows.max()), full_step(device, 1), full_step(device, -1),
            np.zeros(self.shape[0], np.int16), even,
        )  # fmt: skip
        draws = operations(self.rule.draws(), 2 * self.first_tick, 2 * ticks).reshape(ticks, 2, 2)
        on, todo, late, room = scratch(ticks, device.shape, self.rule.constants().pre_decay, draws)
        kernel: Any = lif_stdp
        fired = kernel(
            ticks, np.array(self.spikes.indptr, np.int32), rows, self.spikes.begins(), self.rule.constants(), device,
            operations(noise.key, noise.first_read, ticks), noise.sigma2, noise.relative2, state, pulsed, on, todo,
            late, room,
        )  # fmt: skip
        device.pulses[:] += counts[0].astype(np.uint32) + counts[1].astype(np.uint32)
        ups, downs = counts.reshape(2, *self.shape)
        return self.answer(ticks, late.spikes[:fired].copy(), ups, downs, state)

    def stepped(self, ticks: int, view: BenchView) -> Generator[Step, Any, LoopAnswer]:
        """The same loop by the host: a read and at most two batches per tick."""
        in_array = Direction.ROWS_TO_COLS in view.capabilities.vector_reads
        return run_stepped(self, ticks, choose_bias("auto", view), in_array)

    def answer(self, ticks: int, spikes: Any, ups: Any, downs: Any, state: State) -> LoopAnswer:
        """What a loop gives; whoever ran it adds times and energy."""
        digest = blake2b(digest_size=16)
        for array in (spikes, ups, downs, *state):
            digest.update(array.tobytes())
        end_s = ticks * self.rule.tick_s
        return LoopAnswer(ticks, spikes, ups, downs, state._asdict(), 0.0, end_s, float("nan"), digest.hexdigest())

    def bounds(self, ticks: int) -> LoopBounds:
        """At most the budget of a cell; at most a pulse per cell and tick, two where a pair at one tick does both."""
        a_tick = 2 if self.rule.order != "reference" and self.rule.pairing == "pair" else 1
        most: Any = np.minimum(self.most(), a_tick * ticks if self.rule.learn else 0)
        most = int(most[0, 0]) if self.cell_most is None else most
        return LoopBounds(self.potentiate, self.depress, most, self.rule.read_v)

    def arrays(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Input, state, and what each cell may have."""
        most = {} if self.cell_most is None else {"cell_most": self.cell_most}
        return {**self.spikes._asdict(), **self.start._asdict(), **most}

    def scalars(self) -> Mapping[str, float]:
        """The rule, and how many ticks there were before."""
        return {**self.rule.scalars(), "first_tick": float(self.first_tick)}


def _check_input(spikes: Spikes, rows: int) -> None:
    indptr, at, starts = spikes
    require(len(indptr) > 1 and indptr[0] == 0 and indptr[-1] == len(at), "indptr does not fit to rows")
    require(bool((np.diff(indptr) >= 0).all()), "indptr does not fall")
    inside = not len(at) or (at.min() >= 0 and at.max() < rows)
    require(bool(inside), f"a spike names a row outside 0..{rows - 1}")
    inside = not len(starts) or (starts.min() >= 0 and starts.max() < len(indptr) - 1)
    require(bool(inside), f"a presentation starts outside the ticks 0..{len(indptr) - 2}")


def check_width(update: str, device: LoopDevice) -> None:
    """Widths may carry a weight change only where half of a width does half, everywhere in the window."""
    if update != "width":
        return
    if not device.linear:
        raise CapabilityMissing(
            "update = 'width' needs a device whose response is linear in the pulse's width, as model 'ideal' is; "
            "take another update for this one, such as 'stochastic' (the loop's rule)"
        )
    largest = max(abs(full_step(device, sign)) for sign in (1, -1))
    if largest >= device.u_max - device.u_min:
        raise UsageError("update = 'width': the full pulse moves a cell through its whole window; take a shorter one")


def run(program: LoopProgram, ticks: int, view: BenchView) -> Generator[Step, Any, LoopAnswer]:
    """Run a loop where it runs best: in the backend if it can, else stepped by the host (`yield from`)."""
    if view.capabilities.compiled_loops:
        answer: LoopAnswer = yield Loop(program, ticks)
        return answer
    return (yield from program.stepped(ticks, view))
