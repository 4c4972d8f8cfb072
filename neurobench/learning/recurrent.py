"""A recurrent spiking network on one crossbar: neuron k spikes along row k and listens to column k; pair STDP.

The network's matrix is the array: the cell (i, j) is the synapse from neuron i to neuron j, rows beyond the columns are
inputs from outside. `used` says which cells are synapses; the others are never pulsed. Membranes, traces, and what is
under way stay on the host or in the backend, not in a conductance.

Each tick (1) the rows whose spikes arrive are driven with `read_v`, and the columns' currents charge the neurons, (2)
neurons at threshold fire, (3) pulses follow from the traces. Compiled and stepped by the host are the same loop; a
test holds them equal. Pair STDP and the place of the delay: Morrison, Diesmann, Gerstner 2008, Biol. Cybern. 98, 459.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.counts import CellCounts
from neurobench.bench.steps import BenchView, LoopAnswer, LoopBounds, LoopProgram, Step
from neurobench.bench.stimulus import BoolArray, Direction, FloatArray, IndexArray, Pulse, require
from neurobench.physics.kernels import HEAD, LoopDevice, conductances
from neurobench.physics.noise import Key, Stream, key, operations

from ._loop_kernels import full_step
from ._recurrent_kernel import (
    BASE,
    DRIVE,
    FLOAT_ROWS,
    FREE,
    GAIN,
    HAD,
    INT_ROWS,
    MEMBRANE,
    NEURON_ROWS,
    POST,
    PULSED,
    STEP,
    Constants,
    Device,
    State,
    U,
    gather,
    put_back,
    recurrent,
)  # fmt: skip
from ._recurrent_steps import run_stepped
from .bias import choose_bias
from .loops import MOST_PULSES, MOST_SEED, SILENT, LoopNoise, Spikes, Traces, Update, check_width

AnyArray = NDArray[Any]
Order = Literal["reference", "brian", "bindsnet", "nest"]
Place = Literal["axonal", "dendritic"]

_OPTIONS: dict[str, tuple[str, ...]] = {
    "order": get_args(Order), "traces": get_args(Traces), "update": get_args(Update), "delay_place": get_args(Place)
}  # fmt: skip


@dataclass(frozen=True)
class RecurrentRule:
    """Constants of neurons, delay and rule. Times in seconds, amplitudes in volts; membranes in units of the threshold.

    Neurons: v follows tau_membrane dv/dt = bias - v exactly from tick to tick, rises by `gain_per_a` x current when
    spikes arrive, fires at 1 and is then at 0 and deaf for `refractory_s` (a spike at tick t: next charge at
    t + refractory_s / tick_s).

    Delay: a spike of tick t charges the neurons in tick t + `delay_s` / tick_s, at least one. Where it passes is not
    seen in the spikes but in what is learnt. "axonal" (Brian2's `delay`): on the way to the cells; they meet the spike
    when it arrives, and the neuron's own spikes at once. "dendritic" (NEST's): between cells and neuron; the cells meet
    the spike at once, and the neuron's own spikes after the delay. Inputs from outside have no axon here: axonal, they
    arrive in their tick; dendritic, they are delayed as all others.

    Traces: 1 at a spike ("nearest") or 1 more with each ("all"), decaying with tau; each counts for `window` seconds
    (inf: for ever, until it is below 1e-30). A neuron's spike potentiates its cells by a_plus x the rows' traces, a
    row's spike depresses its cells by a_minus x the neurons' traces.

    update: what "by x" means, x at most 1. "width": one pulse of x times the full width (only devices that are linear
    in the width, as model ideal is); "stochastic": one full pulse with probability x, from random numbers of `seed`,
    tick and cell.

    order: what happens first within a tick, for spikes that meet at a cell in one tick. "reference": charge, threshold,
    depression, potentiation; such a pair potentiates and does not depress. "brian": threshold before charge (what comes
    in the tick in which a neuron fires is lost), then depression by the trace of earlier spikes and potentiation
    (Brian2: groups, thresholds, synapses, resets). "bindsnet": charge, threshold, both traces rise, depression,
    potentiation: such a pair does both. "nest": charge, threshold, potentiation, depression, then the traces rise: such
    a pair does nothing (NEST's stdp_synapse).

    `leakage`: whether the unused cells' currents count; False declares them 0 (nothing is there, or it is switched
    off), and a bench then reads the used ones cell by cell. `learn` False: no pulses. `cell_budget`: pulses per cell
    and loop.
    """

    gain_per_a: float
    read_v: float = 0.1
    tick_s: float = 1e-4
    tau_membrane_s: float = 20e-3
    tau_pre_s: float = 20e-3
    tau_post_s: float = 20e-3
    pre_window_s: float = float("inf")
    post_window_s: float = float("inf")
    refractory_s: float = 2e-3
    delay_s: float = 1e-3
    delay_place: Place = "axonal"
    order: Order = "reference"
    traces: Traces = "all"
    update: Update = "stochastic"
    a_plus: float = 0.1
    a_minus: float = 0.1
    leakage: bool = True
    learn: bool = True
    cell_budget: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("gain_per_a", "read_v", "tick_s", "tau_membrane_s", "tau_pre_s", "tau_post_s"):
            value = getattr(self, name)
            require(0 < value < float("inf"), f"{name} = {value} must be positive")
        for name in ("pre_window_s", "post_window_s"):
            require(getattr(self, name) > 0, f"{name} = {getattr(self, name)} must be positive")
        for name in ("refractory_s", "a_plus", "a_minus"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"{name} = {value} must be 0 or positive")
        require(1 <= self.cell_budget <= MOST_PULSES, f"cell_budget = {self.cell_budget} lies in 1..{MOST_PULSES}")
        require(0 <= self.seed < MOST_SEED, f"seed = {self.seed} lies in 0..{MOST_SEED - 1}")
        for name, allowed in _OPTIONS.items():
            given = getattr(self, name)
            require(given in allowed, f"{name} = {given!r} is none of {', '.join(allowed)}")
        require(self.update != "window", "update = 'window' is for feed-forward loops; take 'stochastic' or 'width'")
        require(self.delay >= 1, f"delay_s = {self.delay_s:g} is shorter than a tick of {self.tick_s:g} s")

    @property
    def delay(self) -> int:
        """The delay in ticks."""
        return round(self.delay_s / self.tick_s)

    @property
    def late(self) -> int:
        """For how many ticks currents are kept under way: only dendritic ones are."""
        return self.delay if self.delay_place == "dendritic" else 0

    def constants(self) -> Constants:
        """What the kernel needs, per tick and as numbers."""
        return Constants(
            leak=_decay(self.tick_s, self.tau_membrane_s),
            pre_decay=_decay(self.tick_s, self.tau_pre_s),
            post_decay=_decay(self.tick_s, self.tau_post_s),
            # half a tick of slack: a trace that is exactly as old as the window still counts
            pre_least=_decay(self.pre_window_s + self.tick_s / 2, self.tau_pre_s),
            post_least=_decay(self.post_window_s + self.tick_s / 2, self.tau_post_s),
            gain_per_a=float(self.gain_per_a),
            read_v=float(self.read_v),
            a_plus=float(self.a_plus),
            a_minus=float(self.a_minus),
            refractory=float(round(self.refractory_s / self.tick_s)),
            budget=int(self.cell_budget),
            delay=self.delay,
            order=_OPTIONS["order"].index(self.order),
            update=_OPTIONS["update"].index(self.update),
            dendritic=self.delay_place == "dendritic",
            leakage=bool(self.leakage),
            summed=self.traces == "all",
            learn=bool(self.learn),
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


def _decay(seconds: float, tau_s: float) -> float:
    return float(np.exp(-seconds / tau_s))


class Room:
    """Where a network's loops work: the used cells' devices, copied together. Each loop overwrites it.

    It is kept because new memory would cost a loop of a thousand neurons a tenth of its time.
    """

    def __init__(self, cells: int) -> None:
        self.floats, self.ints = np.empty((FLOAT_ROWS, cells)), np.empty((INT_ROWS, cells), np.int32)
        self._step: AnyArray = np.empty(0)

    def gathered(self, flat: AnyArray, device: LoopDevice) -> tuple[FloatArray, IndexArray]:
        """The used cells of the live devices; of what is the same for all cells, the first."""
        floats, ints = self.floats, self.ints
        gather(flat, device.u, floats[U])
        ints[PULSED] = 0
        if self._step is not device.step:  # a chip's steps do not change, so they are copied once
            floats[STEP], self._step = device.step[flat], device.step
        for row, values in ((BASE, device.base_s), (GAIN, device.gain_s)):
            if values.size > 1:
                floats[row] = values[flat]
            else:
                floats[row, :1] = values
        if device.up.pieces[HEAD, 3] > 0 or device.down.pieces[HEAD, 3] > 0:
            ints[HAD] = device.pulses[flat].view(np.int32)  # else nobody looks at the count that keys the noise
        return floats, ints


class Net(NamedTuple):
    """Which cells of the array are synapses, as the kernel wants it; made once by `net` and handed from loop to loop.

    bits: `used` packed eight to a byte, as it is recorded; digest: a hash of it. flat: index among all cells of each
    used cell, row-major.
    wiring: rows as `_recurrent_kernel` names them; row_start [rows + 1], col_start [cols + 1]: where each line begins.
    room: scratch; so one network is run by one run at a time.
    """

    used: BoolArray
    bits: AnyArray
    digest: AnyArray
    flat: AnyArray
    wiring: IndexArray
    row_start: IndexArray
    col_start: IndexArray
    room: Room


def net(used: BoolArray) -> Net:
    """Prepare the mask used[rows, cols] of the cells that are synapses, rows >= cols."""
    mask = np.array(used, np.bool_)
    require(mask.ndim == 2 and mask.shape[0] >= mask.shape[1], f"used is {mask.shape}: it needs a row for every neuron")
    mask.flags.writeable = False
    flat = np.flatnonzero(mask)
    row, col = np.divmod(flat, mask.shape[1])
    place = np.argsort(col, kind="stable")
    row_start, col_start = (np.concatenate([[0], np.cumsum(mask.sum(axis=k))]).astype(np.int32) for k in (1, 0))
    wiring = np.array([col, flat, place, row[place]], np.int32)
    bits = np.packbits(mask)
    digest = np.frombuffer(blake2b(bits.tobytes(), digest_size=16).digest(), np.uint8)
    return Net(mask, bits, digest, flat, wiring, row_start, col_start, Room(len(flat)))


def random_used(neurons: int, probability: float, rng: np.random.Generator, inputs: int = 0) -> BoolArray:
    """A mask [neurons + inputs, neurons] in which each cell is used with this probability; no neuron meets itself."""
    used: BoolArray = rng.random((neurons + inputs, neurons)) < probability
    np.fill_diagonal(used[:neurons], False)
    return used


@dataclass(frozen=True)
class RecurrentStdp(LoopProgram):
    """A recurrent network with pair STDP: its wiring, its state and its input for one loop.

    bias[cols]: constant drive, the value that a membrane tends to in thresholds (above 1 a neuron fires by itself).
    spikes: of the inputs, rows cols .. rows - 1 of the array. start: neurons and traces; flying[delay, rows]: which
    lines spiked one, two, ... ticks before. `after` makes the program of the next loop.
    """

    rule: RecurrentRule
    net: Net
    bias: FloatArray
    spikes: Spikes
    potentiate: Pulse
    depress: Pulse
    start: State
    flying: BoolArray
    first_tick: int = 0

    kind = "recurrent_stdp"

    def __post_init__(self) -> None:
        rows, cols = self.shape
        shapes = {
            "membrane": (cols,),
            "refractory": (cols,),
            "pre": (rows,),
            "post": (cols,),
            "late_a": (self.rule.late, cols),
        }
        for name, shape in shapes.items():
            found = np.shape(getattr(self.start, name))
            require(found == shape, f"{name} is {found}, for this network it is {shape}")
        require(np.shape(self.bias) == (cols,), f"bias is {np.shape(self.bias)}: it needs an entry for every neuron")
        flying = np.shape(self.flying)
        require(
            flying == (self.rule.delay, rows), f"flying is {flying}, for this delay it is {(self.rule.delay, rows)}"
        )
        _check_input(self.spikes, cols, rows)

    @classmethod
    def fresh(
        cls, rule: RecurrentRule, net: Net, bias: FloatArray | float, spikes: Spikes, potentiate: Pulse, depress: Pulse,
        membrane: FloatArray | None = None,
    ) -> RecurrentStdp:  # fmt: skip
        """A network at rest, or with `membrane[cols]` where the neurons begin."""
        rows, cols = net.used.shape
        v = np.zeros(cols) if membrane is None else np.array(membrane, np.float64)
        start = State(v, np.zeros(cols), np.zeros(rows), np.zeros(cols), np.zeros((rule.late, cols)))
        drive = np.broadcast_to(np.asarray(bias, np.float64), (cols,)).copy()
        return cls(rule, net, drive, spikes, potentiate, depress, start, np.zeros((rule.delay, rows), np.bool_))

    def after(self, answer: LoopAnswer, spikes: Spikes, rule: RecurrentRule | None = None) -> RecurrentStdp:
        """The same network with new input, going on from where `answer` left it; perhaps with another rule."""
        start = State(*(answer.state[name] for name in State._fields))
        flying = np.unpackbits(answer.state["flying"], count=self.flying.size).astype(np.bool_)
        return RecurrentStdp(
            rule or self.rule, self.net, self.bias, spikes, self.potentiate, self.depress, start,
            flying.reshape(self.flying.shape), self.first_tick + answer.ticks,
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the array that the network runs on."""
        rows, cols = self.used.shape
        return rows, cols

    @property
    def used(self) -> BoolArray:
        """Which cells are synapses [rows, cols]."""
        return self.net.used

    def state(self) -> State:
        """A copy of the state at the start, for whoever runs the loop."""
        return State(*(np.array(array, np.float64) for array in self.start))

    def drive(self) -> FloatArray:
        """What the bias adds to each membrane in one tick: exact for tau dv/dt = bias - v."""
        return self.bias * (1.0 - _decay(self.rule.tick_s, self.rule.tau_membrane_s))

    def compiled(self, ticks: int, device: LoopDevice, noise: LoopNoise | None = None) -> LoopAnswer:
        """Run on the live arrays of an emulated chip; `device.u` and `device.pulses` change in place."""
        require(self.shape == device.shape, f"the network is for {self.shape} cells, the chip has {device.shape}")
        require(len(self.spikes.indptr) > ticks, f"the input has {len(self.spikes.indptr) - 1} ticks")
        check_width(self.rule.update, device)
        noise = noise or SILENT
        floats, ints = self.net.room.gathered(self.net.flat, device)
        neurons, pre, late = self._neurons(), np.array(self.start.pre), np.array(self.start.late_a)
        start, queue = self._queue(ticks)
        kernel: Any = recurrent
        kernel(
            ticks, self.first_tick, self.spikes.indptr, self.spikes.rows, self.rule.constants(),
            _numbers(device, noise, floats), neurons, pre, late, self._words(ticks, noise),
            np.empty(2 * len(pre), np.int32), self.net.row_start, self.net.col_start, self.net.wiring, floats, ints,
            _leak_s(self.net, device) if self.rule.leakage else np.empty((0, 0)), device.levels,
            *device.up, *device.down, start, queue, device.selected_s,
        )  # fmt: skip
        pulses = np.empty(len(self.net.flat), np.int16), np.empty(len(self.net.flat), np.int16)
        put_back(self.net.flat, floats, ints, device.u, device.pulses, *pulses)
        wait = np.maximum(neurons[FREE] - (ticks - 1), 0.0)
        state = State(neurons[MEMBRANE], wait, pre, neurons[POST], late)
        flying = _raster(start, queue, ticks, self.flying.shape)
        return self.answer(ticks, self._own(start, queue, ticks), pulses, state, flying)

    def _words(self, ticks: int, noise: LoopNoise) -> AnyArray:
        """Key words of each tick's random numbers [ticks, 3, 2]: depressions, potentiations, read."""
        draws = operations(self.rule.draws(), 2 * self.first_tick, 2 * ticks).reshape(ticks, 2, 2)
        return np.concatenate([draws, operations(noise.key, noise.first_read, ticks)[:, None]], axis=1)

    def _neurons(self) -> FloatArray:
        """The kernel's vectors of neurons, with the state at the start."""
        out = np.zeros((NEURON_ROWS, self.shape[1]))
        out[MEMBRANE], out[FREE], out[POST] = self.start.membrane, self.start.refractory - 1.0, self.start.post
        out[DRIVE] = self.drive()
        return out

    def _queue(self, ticks: int) -> tuple[AnyArray, IndexArray]:
        """Room for all spikes of the loop, behind those that are under way."""
        start = np.zeros(self.rule.delay + ticks + 1, np.int64)
        start[1 : self.rule.delay + 1] = np.cumsum(self.flying[::-1].sum(axis=1))
        flying = np.nonzero(self.flying[::-1])[1]
        queue = np.empty(len(flying) + ticks * self.shape[0] + 1, np.int32)
        queue[: len(flying)] = flying
        return start, queue

    def _own(self, start: AnyArray, queue: IndexArray, ticks: int) -> IndexArray:
        """The neurons' spikes as (tick, neuron) [n, 2]; dendritic, the inputs' are in the queue, too."""
        ends = start[self.rule.delay :]
        tick, line = np.repeat(np.arange(ticks, dtype=np.int32), np.diff(ends)), queue[ends[0] : ends[-1]]
        own = line < self.shape[1]
        return np.stack([tick[own], line[own]], axis=1)

    def stepped(self, ticks: int, view: BenchView) -> Generator[Step, Any, LoopAnswer]:
        """The same network by the host: a read per tick, and a batch for each sign (update "width": each width)."""
        in_array = Direction.ROWS_TO_COLS in view.capabilities.vector_reads
        return run_stepped(self, ticks, choose_bias("auto", view), in_array)

    def answer(
        self, ticks: int, spikes: IndexArray, pulses: tuple[AnyArray, AnyArray], state: State, flying: BoolArray
    ) -> LoopAnswer:
        """What a loop gives; `pulses` of the used cells, up and down. Whoever ran it adds times and energy."""
        after, digest = {**state._asdict(), "flying": np.packbits(flying)}, blake2b(digest_size=16)
        narrow = [counts.astype(np.uint8 if counts.max(initial=0) < 256 else np.int16) for counts in pulses]
        for array in (spikes, *narrow, *after.values()):
            digest.update(array.tobytes())
        ups: Any
        downs: Any  # numpy takes them as arrays
        ups, downs = (CellCounts(self.shape, self.net.flat, self.net.bits, values) for values in narrow)
        end_s = ticks * self.rule.tick_s
        return LoopAnswer(ticks, spikes, ups, downs, after, 0.0, end_s, float("nan"), digest.hexdigest())

    def bounds(self, ticks: int) -> LoopBounds:
        """At most the budget of a used cell, and two pulses per tick; no other cell is pulsed."""
        most = min(2 * ticks, self.rule.cell_budget) if self.rule.learn else 0
        narrow = np.uint8 if most < 256 else np.int16
        values = np.full(len(self.net.flat), most, narrow)
        per_cell: Any = CellCounts(self.shape, self.net.flat, self.net.bits, values)
        return LoopBounds(self.potentiate, self.depress, per_cell, self.rule.read_v)

    def arrays(self) -> Mapping[str, AnyArray]:
        """Wiring, bias, input, state. A loop that goes on names the wiring by its digest: the first loop holds it."""
        used = {"used": self.net.bits} if self.first_tick == 0 else {"used_digest": self.net.digest}
        return {
            **used, "shape": np.array(self.shape), "bias": self.bias, "indptr": self.spikes.indptr,
            "rows": self.spikes.rows, **self.start._asdict(), "flying": np.packbits(self.flying),
        }  # fmt: skip

    def scalars(self) -> Mapping[str, float]:
        """The rule, and how many ticks there were before."""
        return {**self.rule.scalars(), "first_tick": float(self.first_tick)}


def no_input(ticks: int) -> Spikes:
    """Input for a network that is driven by its bias alone."""
    return Spikes(np.zeros(ticks + 1, np.int32), np.empty(0, np.int32))


def _check_input(spikes: Spikes, cols: int, rows: int) -> None:
    indptr, at, starts = spikes
    require(len(indptr) > 1 and indptr[0] == 0 and indptr[-1] == len(at), "indptr does not fit to rows")
    require(bool((np.diff(indptr) >= 0).all()), "indptr does not fall")
    inside = not len(at) or (at.min() >= cols and at.max() < rows)
    require(bool(inside), f"an input spike names a row outside {cols}..{rows - 1}, the rows that belong to no neuron")
    require(not len(starts), "a recurrent network is shown no presentations; spikes.starts must be empty")


def _numbers(device: LoopDevice, noise: LoopNoise, floats: FloatArray) -> Device:
    kinds = ((BASE, device.base_s), (GAIN, device.gain_s), (STEP, device.step))
    base, gain, step = (int(v.size > 1 and bool(np.any(floats[row] != floats[row, :1]))) for row, v in kinds)
    return Device(
        device.u_min, device.u_max, full_step(device, 1), full_step(device, -1), device.k0, device.k1,
        noise.sigma2, noise.relative2, base, gain, step, not (base or gain or step),
    )  # fmt: skip


def _leak_s(net: Net, device: LoopDevice) -> FloatArray:
    """Conductances of the unused cells [rows, cols], the used ones 0."""
    out = np.empty(device.shape)
    conductances(device.u, device.base_s, device.gain_s, device.levels, out, np.empty(device.shape[0]))
    out.reshape(-1)[net.flat] = 0.0
    return out


def _raster(start: AnyArray, queue: IndexArray, ticks: int, shape: tuple[int, ...]) -> BoolArray:
    """The lines that spiked in the last ticks [delay, rows], the latest first."""
    out = np.zeros(shape, np.bool_)
    for ago in range(shape[0]):
        at = shape[0] + ticks - 1 - ago
        out[ago, queue[start[at] : start[at + 1]]] = True
    return out
