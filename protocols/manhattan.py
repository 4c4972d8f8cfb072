"""In-situ training of a perceptron on a crossbar by the Manhattan rule: one pulse per weight and update, by the sign.

Equations 1 to 5 of cateru/Memristor_Crossbar_Training_Class (commit c3a4408), after Prezioso et al., Nature 521, 61
(2015) and Shumilin et al., Adv. Electron. Mater. 2300887 (2024). `preset=seed` repeats the published settings
exactly; the default looks before it pulses (preflight), zeroes the initial weights, and calls it learned only when
every pattern stands five standard deviations clear of zero on three independent reads.

Kept on the host, and so a cost on hardware: the targets, beta, the sign of the summed gradient, and with auto_zero
one zero W0 per pair; with two layers also the hidden activations of the present batch (`host_state` in the result).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from neurobench.bench.crossbar import Applied, Needs
from neurobench.bench.steps import Apply, BenchView, Checkpoint, Note, Protocol, Result, Sense, Step, Steps
from neurobench.bench.stimulus import Bias, BoolArray, CellRead, FloatArray, Pulse, PulseBatch
from neurobench.errors import CapabilityMissing, UsageError
from neurobench.learning import datasets, preflight
from neurobench.learning.convergence import Noise, criterion, margin_a, spread_a
from neurobench.learning.datasets import Dataset
from neurobench.learning.neurons import Judged, accuracy, goal_current_a, judge
from neurobench.learning.perceptron import Net, OneLayer, TwoLayers, with_bias
from neurobench.learning.synapses import (
    Pairs,
    ReadSettings,
    Retirement,
    adjacent,
    allow_refresh,
    can_transpose,
    cell_read,
    count_reads,
    grid_of,
    multiplier,
    refresh,
    remapped,
)

SEED: dict[str, Any] = {
    "task": "seed", "beta_per_a": 6e6, "target": 0.8, "writes": "set_only", "auto_zero": False, "averages": 1,
    "both_polarities": False, "preflight": False, "goal": "activation", "update": "batch", "max_updates": 50,
    "amplitude_v": 2.0, "width_s": 1e-3, "retire_after": 0, "remap": False, "layers": 1, "bias_row": "none",
    "rereads": 0,
}  # fmt: skip
RECORDED = 20_000  # activations are recorded up to so many values per epoch


class Manhattan(Protocol):
    """Train a perceptron in situ by the Manhattan rule (seed: cateru, Prezioso 2015)."""

    figures: ClassVar[tuple[str, ...]] = ("conductances", "weights", "activations", "error", "bars")

    preset: Literal["improved", "seed"] = Field("improved", description="seed: the published settings, exactly")
    task: str = Field("seed", description="seed, letters, digits, iris, or the path of a .csv file")
    beta_per_a: float | None = Field(None, gt=0, description="slope of tanh(beta I) in 1/A; none: from preflight")
    target: float = Field(0.8, gt=0, lt=1, description="activation asked for: f >= target, or <= -target")
    read_v: float = Field(0.1, gt=0, description="amplitude of the inputs (+-V coding) and of cell reads, in volts")
    integration_s: float = Field(1e-3, gt=0, description="time of one read, in seconds")
    amplitude_v: float | None = Field(None, gt=0, description="write pulse, in volts; none: as the device was measured")
    width_s: float | None = Field(None, gt=0, description="write pulse, in s; none: as the device was measured")
    select: Literal["auto", "half", "third", "grounded", "isolated"] = Field(
        "auto", description="bias of unselected lines while writing; auto: the safest that the bench has"
    )
    max_updates: int = Field(50, ge=1, le=100_000, description="updates (epochs) at most")
    update: Literal["batch", "sample"] = Field("batch", description="one update per epoch, or one per pattern")
    writes: Literal["auto", "set_only", "set_reset"] = Field(
        "auto", description="set_reset also depresses the other cell of a pair; auto: where the devices depress"
    )
    goal: Literal["auto", "activation", "margin", "classified", "accuracy"] = Field(
        "auto",
        description="activation: every f beyond its target (the seed's test); margin: margin_sigma clear of zero; "
        "classified: every pattern named rightly; accuracy: goal_accuracy of them; auto: margin, "
        "accuracy for digits and iris",
    )
    goal_accuracy: float = Field(0.85, gt=0, le=1, description="share of training patterns for goal=accuracy")
    margin_sigma: float = Field(5.0, gt=0, description="clearance of every pattern, in standard deviations")
    confirm_reads: int = Field(3, ge=1, le=1000, description="independent reads that must all confirm")
    rereads: int = Field(20, ge=0, le=10_000, description="reads after convergence for the pass rate; 0: none")
    auto_zero: bool = Field(True, description="subtract the initial weight of every pair, kept on the host")
    rezero_every: int = Field(0, ge=0, description="epochs between looks for drift of the zeros; 0: never")
    averages: int | None = Field(None, ge=1, le=1_000_000, description="reads averaged; none: chosen from the noise")
    max_averages: int = Field(256, ge=1, le=1_000_000, description="most reads that preflight may choose to average")
    both_polarities: bool = Field(True, description="read at +V and -V, so that ammeter offsets cancel")
    preflight: bool = Field(True, description="read all cells and compute before any pulse what can be reached")
    when_unreachable: Literal["train", "stop"] = Field("train", description="what to do if preflight says no")
    bias_row: Literal["auto", "none", "row"] = Field("auto", description="a row held at -read_v; auto: not for seed")
    layers: Literal[1, 2] = Field(1, description="two layers are two blocks of one crossbar")
    hidden: int = Field(4, ge=1, le=4096, description="hidden neurons where layers = 2")
    scatter: int | None = Field(
        None, ge=0, le=100, description="random pulses per pair before training, at most; none: 4 where layers = 2"
    )
    remap: bool = Field(True, description="use spare lines of the array in place of those with bad cells")
    retire_after: int = Field(25, ge=0, description="pulses without a move of 3 sigma that retire a cell; 0: never")
    refresh: bool = Field(False, description="depress saturated pairs and restore their difference (SET-only)")
    refresh_at: float = Field(0.8, gt=0, le=1, description="share of the range at which a pair is refreshed")
    max_refreshes: int = Field(5, ge=1, description="refreshes in one run at most")
    refresh_budget: int = Field(50, ge=1, description="pulses per cell that one refresh may spend, each way")
    monitor_every: int = Field(1, ge=0, description="epochs between reads of all cells; 0: only at the end")
    checkpoint_every: int = Field(10, ge=0, description="epochs between checkpoints; 0: none")

    @model_validator(mode="before")
    @classmethod
    def _preset_first(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("preset") == "seed":
            return {**SEED, **given}
        return given

    def dataset(self) -> Dataset:
        """The task; raises UsageError naming what is wrong with it."""
        return datasets.load(self.task)

    @property
    def has_bias(self) -> bool:
        """Whether a bias row is driven."""
        return self.bias_row == "row" or (self.bias_row == "auto" and self.task != "seed")

    def extent(self) -> tuple[int, int]:
        """Rows and columns that the task takes on the array."""
        data = self.dataset()
        inputs = data.features + self.has_bias
        if self.layers == 1:
            return inputs, 2 * data.neurons
        return inputs + self.hidden + self.has_bias, 2 * (self.hidden + data.neurons)

    @property
    def needs(self) -> Needs:
        """An array that holds all pairs, and products; a missing transposed read is replaced by the host."""
        rows, cols = self.extent()
        biases = frozenset() if self.select == "auto" else frozenset({Bias(self.select)})
        return Needs(rows=rows, cols=cols, multiply=True, biases=biases)

    def bench_defaults(self) -> dict[str, Any]:
        """The array of the task; for the seed's task also its invented offsets, for its preset its idealised chip."""
        rows, cols = self.extent()
        defaults: dict[str, Any] = {"chip.rows": rows, "chip.cols": cols}
        if self.task == "letters":
            defaults["chip.model"] = "al2o3-tio2-nili"
        if self.task == "seed":
            defaults["chip.offsets"] = "seed-lognormal"
        if self.preset == "seed":
            defaults |= {
                "chip.replay": "literal", "chip.scale": 10.0, "chip.baseline": "removed", "chip.step_spread": 0.0,
                "readout.ideal": True,
            }  # fmt: skip
        return defaults

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """Preflight, train, confirm, measure. `start`: a state that was yielded as a Checkpoint."""
        setup = _setup(self, view)
        if start is None:
            state = yield from _prepare(setup, rng)
        else:
            state = State(**{name: start[name] for name in State.__slots__})
        training = _Training(setup, state, _net(setup, state))
        if not (self.when_unreachable == "stop" and state.verdict.get("ok") is False):
            yield from training.run()
        return (yield from training.result())


@dataclass(frozen=True, slots=True)
class _Setup:
    """What does not change during a run: parameters, view, task, voltages, pulse."""

    p: Manhattan
    view: BenchView
    data: Dataset
    x: FloatArray
    volts: FloatArray
    test_volts: FloatArray
    targets: FloatArray
    pulse: Pulse
    bias: Bias
    writes: Literal["set_only", "set_reset"]
    where: Literal["array", "host"]
    both: bool
    goal: str

    def settings(self, averages: int) -> ReadSettings:
        return ReadSettings(self.p.read_v, averages, self.both, self.p.integration_s)

    def all_cells(self, averages: int) -> CellRead:
        return cell_read(np.ones(self.view.shape, np.bool_), self.settings(averages))


def _setup(p: Manhattan, view: BenchView) -> _Setup:
    data, plan = p.dataset(), p.needs.plan(view.capabilities)
    x = with_bias(data.inputs, p.has_bias)
    if p.refresh:
        allow_refresh(view.device.depresses)
    writes = ("set_reset" if view.device.depresses else "set_only") if p.writes == "auto" else p.writes
    if writes == "set_reset" and not view.device.depresses:
        raise CapabilityMissing(
            "writes = set_reset needs devices that depress; no depression curve is measured or declared for this chip "
            "(use writes=set_only, or declare the curve in the chip's card)"
        )
    goal = p.goal if p.goal != "auto" else ("accuracy" if p.task in ("digits", "iris") else "margin")
    return _Setup(
        p, view, data, x, p.read_v * x, p.read_v * with_bias(data.test_inputs, p.has_bias), data.targets,
        _pulse(p, view), _bias(p, view), writes, plan.multiply, p.both_polarities and
        view.capabilities.both_polarities, goal,
    )  # fmt: skip


def _pulse(p: Manhattan, view: BenchView) -> Pulse:
    known = view.device.pulse
    amplitude, width = p.amplitude_v, p.width_s
    if known is None and (amplitude is None or width is None):
        raise UsageError("nothing is known of this chip's pulses: set amplitude_v and width_s")
    if amplitude is None and width is None and known is not None:
        return known
    return Pulse(amplitude or (known.amplitude_v if known else 0.0), width or (known.width_s if known else 0.0))


def _bias(p: Manhattan, view: BenchView) -> Bias:
    """The bias asked for, or the one that disturbs least; `grounded` is never chosen by itself."""
    if p.select != "auto":
        return Bias(p.select)
    if view.capabilities.isolation != "passive" and Bias.ISOLATED in view.capabilities.biases:
        return Bias.ISOLATED
    for bias in (Bias.HALF, Bias.THIRD, Bias.ISOLATED):
        if bias in view.capabilities.biases:
            return bias
    raise CapabilityMissing("this bench has no bias scheme for single cells of an array: half, third or isolated")


@dataclass(slots=True)
class State:
    """All that a checkpoint holds: plain numbers, lists, dicts and arrays.

    zeros_s: W0 of each layer; bad, retired, pulses and grid_s are [rows, cols]; `noise`: read and zero part in
    amperes for the chosen averages.
    """

    epoch: int
    zeros_s: list[FloatArray]
    bad: BoolArray
    retired: BoolArray
    since: Any
    reference_s: FloatArray
    pulses: Any
    grid_s: FloatArray
    beta_per_a: float
    hidden_beta_per_a: float
    averages: int
    noise: list[float]
    cell_sigma_s: float
    errors: list[float]
    accuracies: list[float]
    verdict: dict[str, Any]
    order_key: int
    cost: dict[str, float]
    stalled: bool = False
    refreshes: int = 0
    drift_s: float = 0.0
    converged: bool = False

    def checkpoint(self) -> Checkpoint:
        """A copy that later work does not change."""
        return Checkpoint({name: _copied(getattr(self, name)) for name in State.__slots__})


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(v) for v in value]
    if isinstance(value, dict):
        return dict(value)
    return value.copy() if isinstance(value, np.ndarray) else value


def _layout(setup: _Setup, bad: BoolArray) -> tuple[Pairs, ...]:
    """Where the pairs lie: one layer from the corner (or on the best lines), two as blocks along the diagonal."""
    p, data, shape = setup.p, setup.data, setup.view.shape
    inputs, bias = setup.x.shape[1], int(p.has_bias)
    if p.layers == 1:
        place = remapped if p.remap and bad.any() else adjacent
        return (place(shape, inputs, data.neurons, bad),)
    hidden = adjacent(shape, inputs, p.hidden, bad)
    return hidden, adjacent(shape, p.hidden + bias, data.neurons, bad, inputs, 2 * p.hidden)


def _net(setup: _Setup, state: State) -> Net:
    p, pairs = setup.p, _layout(setup, state.bad)
    pairs = tuple(_without(layer, state.retired) for layer in pairs)
    settings = setup.settings(state.averages)
    if p.layers == 1:
        net: Net = OneLayer(pairs[0], state.zeros_s[0], setup.where, settings, setup.writes, state.cost)
        net.keep(setup.volts)
        return net
    back: Literal["array", "host"] = "array" if can_transpose(setup.view.capabilities) else "host"
    two = TwoLayers(
        pairs[0],
        pairs[1],
        state.zeros_s,
        setup.where,
        back,
        settings,
        setup.writes,
        state.hidden_beta_per_a,
        p.has_bias,
        state.cost,
    )
    two.hold(state.grid_s)
    return two


def _without(pairs: Pairs, retired: BoolArray) -> Pairs:
    return Pairs(pairs.shape, pairs.rows, pairs.plus, pairs.minus, pairs.usable & ~retired)


PROBES = 4  # reads of every cell before the first pulse
NOISE_READS = 8  # reads of all patterns before the first pulse
ZERO_EFFORT = 4  # the zeros are averaged so much more than a read: they err the same way every time


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen before the first pulse: mean conductances [rows, cols], noise of one unaveraged read, cost."""

    grid_s: FloatArray
    cell_sigma_s: float
    read_sigma_a: float


def _look(setup: _Setup, cost: dict[str, float]) -> Generator[Step, Any, _Look]:
    """Read every cell a few times, and all patterns a few times, to see the cells and the noise."""
    read = setup.all_cells(1)
    grids = []
    for _ in range(PROBES):
        reading = yield Sense(read)
        count_reads(cost, reading)
        grids.append(grid_of(read, reading))
    stack = np.array(grids)
    cell_sigma_s = float(np.sqrt(stack.var(axis=0, ddof=1).mean()))
    if setup.where == "host" or setup.p.layers == 2:
        return _Look(stack.mean(axis=0), cell_sigma_s, cell_sigma_s * 2**0.5 * _largest_v(setup))
    pairs = _layout(setup, setup.view.excluded)[0]
    repeats = np.tile(setup.volts, (NOISE_READS, 1))
    prepared = multiplier(pairs, repeats, "array", setup.settings(1))
    reading = yield prepared.sense
    count_reads(cost, reading)
    currents = prepared.of(reading).currents_a.reshape(NOISE_READS, *setup.targets.shape)
    return _Look(stack.mean(axis=0), cell_sigma_s, float(np.sqrt(currents.var(axis=0, ddof=1).mean())))


def _prepare(setup: _Setup, rng: np.random.Generator) -> Generator[Step, Any, State]:
    """Everything before the first pulse: see the cells, decide, read the zeros."""
    p, shape = setup.p, setup.view.shape
    state = State(
        epoch=0, zeros_s=[], bad=setup.view.excluded.copy(), retired=np.zeros(shape, np.bool_),
        since=np.zeros(shape, np.int32), reference_s=np.full(shape, np.nan), pulses=np.zeros(shape, np.int64),
        grid_s=np.full(shape, np.nan), beta_per_a=p.beta_per_a or 0.0, hidden_beta_per_a=0.0, averages=p.averages or
        1, noise=[0.0, 0.0], cell_sigma_s=0.0, errors=[], accuracies=[], verdict={},
        order_key=int(rng.integers(2**62)), cost={"reads": 0.0, "read_s": 0.0, "pulses": 0.0, "write_s": 0.0},
    )  # fmt: skip
    yield Note("targets", setup.targets * p.target)
    if p.preflight or p.auto_zero or setup.goal == "margin":
        yield from _decide(setup, state)
    pairs = _layout(setup, state.bad)
    state.zeros_s = [np.zeros((len(layer.rows), len(layer.plus))) for layer in pairs]
    if p.auto_zero:
        yield from _zero(setup, state, pairs)
    scatter = 4 * (p.layers - 1) if p.scatter is None else p.scatter
    if scatter:
        yield from _scatter(setup, state, pairs, rng.integers(-scatter, scatter + 1, shape))
    return state


def _decide(setup: _Setup, state: State) -> Generator[Step, Any, None]:
    p, device = setup.p, setup.view.device
    seen = yield from _look(setup, state.cost)
    dead, shorted = preflight.suspicious(seen.grid_s, seen.cell_sigma_s, device)
    state.bad |= dead | shorted
    state.grid_s, state.reference_s, state.cell_sigma_s = seen.grid_s, seen.grid_s, seen.cell_sigma_s
    pairs = _layout(setup, state.bad)
    reach = preflight.cell_reach(seen.grid_s, device, setup.view.pulses_left, p.max_updates)
    within = preflight.bounds(pairs[-1], reach, setup.writes)
    setting = preflight.Setting(
        p.beta_per_a, p.averages, p.target, p.margin_sigma, p.max_averages, p.read_v, setup.view.limits.max_read_v,
        p.auto_zero, setup.goal != "accuracy", _typical_a(setup, within),
    )  # fmt: skip
    verdict = _verdict(setup, pairs, within, seen, setting)
    state.beta_per_a, state.averages = verdict.beta_per_a, verdict.averages
    state.hidden_beta_per_a = 1.0 / max(_typical_a(setup, preflight.bounds(pairs[0], reach, setup.writes)), 1e-15)
    zeroed = (2 / (ZERO_EFFORT * verdict.averages)) ** 0.5 if p.auto_zero else 0.0
    zero_a = _largest_v(setup) * seen.cell_sigma_s * zeroed
    state.noise = [seen.read_sigma_a / verdict.averages**0.5, zero_a]
    state.verdict = {name: getattr(verdict, name) for name in preflight.Verdict.__slots__}
    state.verdict |= {
        "sigma_a": seen.read_sigma_a, "cell_sigma_s": seen.cell_sigma_s, "dead": int(dead.sum()),
        "shorted": int(shorted.sum()), "excluded": int(setup.view.excluded.sum()),
    }  # fmt: skip
    yield Note("preflight", dict(state.verdict))


def _typical_a(setup: _Setup, within: preflight.Bounds) -> float:
    """Current of a pattern when half of the weights' range pulls at random: r.m.s. over the inputs."""
    inputs = len(within.high_s)
    return 0.5 * setup.p.read_v * float(within.high_s.mean() - within.low_s.mean()) / 2 * float(np.sqrt(inputs))


def _largest_v(setup: _Setup) -> float:
    """Root of the summed squares of the voltages that one output sees at most."""
    if setup.p.layers == 2:
        return setup.p.read_v * float(np.sqrt(setup.p.hidden + 1))
    return float(np.sqrt((setup.volts**2).sum(axis=1).max()))


def _verdict(
    setup: _Setup, pairs: tuple[Pairs, ...], within: preflight.Bounds, seen: _Look, setting: preflight.Setting
) -> preflight.Verdict:
    typical_a = setting.typical_a
    if len(pairs) == 2:
        verdict = preflight.decide(setting, typical_a, typical_a, seen.read_sigma_a, "assumed")
        said = f"two layers, so no linear programme: {typical_a * 1e9:.3g} nA taken as a typical margin (assumed)"
        return replace(verdict, sentence=said)
    if not setup.p.preflight:
        verdict = preflight.decide(setting, typical_a, typical_a, seen.read_sigma_a, "assumed")
        return replace(verdict, sentence="no preflight asked for: only the noise was measured")
    start = pairs[0].weights(seen.grid_s)
    zeroed = preflight.largest_margin_a(setup.volts, setup.targets, within)
    raw = preflight.largest_margin_a(setup.volts, setup.targets, within, start)
    return preflight.decide(setting, zeroed, raw, seen.read_sigma_a, within.basis)


def _zero(setup: _Setup, state: State, pairs: tuple[Pairs, ...]) -> Generator[Step, Any, None]:
    averages = ZERO_EFFORT * state.averages
    read = setup.all_cells(averages)
    reading = yield Sense(read)
    count_reads(state.cost, reading, averages)
    state.grid_s = grid_of(read, reading)
    state.reference_s = state.grid_s
    state.zeros_s = [layer.weights(state.grid_s) for layer in pairs]


def _scatter(setup: _Setup, state: State, pairs: tuple[Pairs, ...], wish: Any) -> Generator[Step, Any, None]:
    """Random pulses, so that hidden neurons differ: with all weights at zero no error would come back."""
    counts = np.zeros(setup.view.shape, np.int8)
    for layer in pairs:
        layer.nudge(layer.plus_of(wish).astype(np.int8), setup.writes, counts)
    yield from _apply(setup, state, counts)
    read = setup.all_cells(state.averages)
    reading = yield Sense(read)
    count_reads(state.cost, reading, state.averages)
    state.grid_s = grid_of(read, reading)


def _apply(setup: _Setup, state: State, counts: Any) -> Generator[Step, Any, None]:
    applied: Applied = yield Apply(PulseBatch(counts, setup.pulse, setup.bias))
    number = np.abs(counts)
    state.pulses += number
    state.since += number
    state.cost["pulses"] += applied.pulses
    state.cost["write_s"] += applied.end_s - applied.start_s


@dataclass
class _Training:
    """The epochs: evaluate, confirm, update, look."""

    setup: _Setup
    state: State
    net: Net
    confirmed_a: float | None = None

    def __post_init__(self) -> None:
        p, state = self.setup.p, self.state
        goal_a = goal_current_a(state.beta_per_a, p.target)
        self.criterion = criterion(Noise(*state.noise), p.margin_sigma, goal_a, p.confirm_reads)
        # From which current a bit is a 1: what the criterion asks of the patterns; the goal in the seed's test.
        self.threshold_a = goal_a if self.setup.goal == "activation" else self.criterion.required_a
        self.cells = self.setup.all_cells(state.averages)
        self.look = Sense(self.cells)

    def run(self) -> Generator[Step, Any, None]:
        """Epochs until it has converged or `max_updates` are spent; the seed does not look again after its last one."""
        p, state = self.setup.p, self.state
        while state.epoch < p.max_updates and not (state.converged or state.stalled):
            judged = yield from self._evaluate()
            if not state.converged:
                yield from self._update(judged)
                yield from self._look_after(judged)
        if not state.converged and self.setup.goal != "activation":
            yield from self._evaluate()

    def _evaluate(self) -> Generator[Step, Any, Judged]:
        setup, state = self.setup, self.state
        currents = yield from self.net.forward(setup.volts)
        judged = judge(currents, setup.targets, state.beta_per_a, setup.p.target)
        state.accuracies.append(accuracy(currents, setup.targets, setup.data.decision, self.threshold_a))
        if self._passes(judged.satisfied, judged.margin_a, state.accuracies[-1]):
            state.converged = yield from self._confirm()
        return judged

    def _passes(self, satisfied: bool, margin_a: float, right: float) -> bool:
        goal = self.setup.goal
        if goal == "activation":
            return satisfied
        if goal == "margin":
            return margin_a >= self.criterion.required_a
        return right >= (1.0 if goal == "classified" else self.setup.p.goal_accuracy)

    def _confirm(self) -> Generator[Step, Any, bool]:
        """Independent reads that must all pass; the read that called for them does not count."""
        setup = self.setup
        if setup.goal == "activation":
            return True
        stack = yield from self.net.repeated(setup.volts, setup.p.confirm_reads, setup.where)
        self.confirmed_a = margin_a(stack, setup.targets)
        return all(self._passing(stack))

    def _passing(self, stack: FloatArray) -> list[bool]:
        """Which of the repeated reads [reads, n, neurons] reach the goal."""
        setup, verdicts = self.setup, []
        for currents in stack:
            judged = judge(currents, setup.targets, self.state.beta_per_a, setup.p.target)
            right = accuracy(currents, setup.targets, setup.data.decision, self.threshold_a)
            verdicts.append(self._passes(judged.satisfied, judged.margin_a, right))
        return verdicts

    def _update(self, judged: Judged) -> Generator[Step, Any, None]:
        setup, state = self.setup, self.state
        state.errors.append(judged.error)
        if setup.p.update == "batch":
            counts = np.zeros(setup.view.shape, np.int8)
            yield from self.net.wishes(judged, setup.volts, counts)
            state.stalled = not counts.any()
            yield from _apply(setup, state, counts)
        else:
            yield from self._sample_by_sample()
        state.epoch += 1

    def _sample_by_sample(self) -> Generator[Step, Any, None]:
        setup, state = self.setup, self.state
        for n in np.random.default_rng([state.order_key, state.epoch]).permutation(len(setup.volts)):
            volts, targets = setup.volts[n : n + 1], setup.targets[n : n + 1]
            currents = yield from self.net.forward(volts)
            counts = np.zeros(setup.view.shape, np.int8)
            yield from self.net.wishes(judge(currents, targets, state.beta_per_a, setup.p.target), volts, counts)
            yield from _apply(setup, state, counts)

    def _look_after(self, judged: Judged) -> Generator[Step, Any, None]:
        """After the pulses: read the cells where it is due, retire and refresh, tell whoever watches."""
        p, state = self.setup.p, self.state
        told: dict[str, Any] = {
            "index": state.epoch,
            "error": judged.error,
            "accuracy": state.accuracies[-1],
            "margin_a": judged.margin_a,
        }
        if judged.activations.size <= RECORDED:
            told["activations"] = judged.activations
        if (p.monitor_every and state.epoch % p.monitor_every == 0) or self.net.back == "host":
            yield from self._monitor()
            told |= {"conductance_s": state.grid_s, "weights": self.net.pairs[-1].weights(state.grid_s)}
        yield Note("epoch", told)
        if p.checkpoint_every and state.epoch % p.checkpoint_every == 0:
            yield state.checkpoint()

    def _read_cells(self) -> Generator[Step, Any, FloatArray]:
        reading = yield self.look
        count_reads(self.state.cost, reading, self.state.averages)
        return grid_of(self.cells, reading)

    def _monitor(self) -> Generator[Step, Any, None]:
        setup, state = self.setup, self.state
        state.grid_s = yield from self._read_cells()
        if setup.p.retire_after:
            yield from self._retire()
        if setup.p.refresh and state.refreshes < setup.p.max_refreshes:
            yield from self._refresh()
        if setup.p.rezero_every and setup.p.auto_zero and state.epoch % setup.p.rezero_every == 0:
            yield from self._rezero()
        self.net.hold(state.grid_s)

    def _retire(self) -> Generator[Step, Any, None]:
        """Retire cells that no longer move; the net stops pulsing them (bench rule 18)."""
        state = self.state
        watch = Retirement(self.setup.p.retire_after, state.reference_s, state.since, state.retired)
        lost = watch.look(state.grid_s, state.cell_sigma_s / state.averages**0.5)
        state.reference_s, state.since, state.retired = watch.reference_s, watch.since, watch.retired
        if lost.any():
            for layer in self.net.pairs:
                layer.usable[lost] = False
            yield Note("retired", {"index": state.epoch, "cells": np.argwhere(lost)})

    def _refresh(self) -> Generator[Step, Any, None]:
        """Bring pairs down of which both cells are high, keeping their difference; counted and recorded."""
        setup, state, span = self.setup, self.state, self.setup.view.device
        for layer in self.net.pairs:
            lower = np.minimum(layer.plus_of(state.grid_s), layer.minus_of(state.grid_s))
            worn = lower > span.g_min_s + setup.p.refresh_at * (span.g_max_s - span.g_min_s)
            if not worn.any() or state.refreshes >= setup.p.max_refreshes:
                continue
            read, before = setup.all_cells(state.averages), layer.weights(state.grid_s)
            written = yield from refresh(
                layer, worn, span.g_min_s, setup.pulse, setup.bias, read, span.g_step_s, setup.p.refresh_budget
            )
            state.refreshes += 1
            state.grid_s, state.reference_s = written.conductances_s, written.conductances_s
            state.pulses += written.counts
            state.since[:] = 0
            state.cost["pulses"] += written.pulses
            state.cost["reads"] += written.reads * read.mask.sum() * (1 + read.both_polarities) * read.averages
            moved = np.abs(layer.weights(state.grid_s) - before)[worn]
            yield Note(
                "refresh", {"index": state.epoch, "pairs": int(worn.sum()), "largest_error_s": float(moved.max())}
            )

    def _rezero(self) -> Generator[Step, Any, None]:
        """What the cells moved between two reads without a pulse is drift; beyond 3 sigma it goes into the zeros."""
        state = self.state
        again = yield from self._read_cells()
        noise_s = (2.0 / state.averages) ** 0.5 * state.cell_sigma_s
        drift = np.where(np.abs(again - state.grid_s) > 3 * noise_s, again - state.grid_s, 0.0)
        state.drift_s = max(state.drift_s, float(np.abs(drift).max()))
        layers = zip(state.zeros_s, self.net.pairs, strict=True)
        state.zeros_s = [zero + layer.weights(drift) for zero, layer in layers]
        self.net.rezero(state.zeros_s)
        state.grid_s = again

    # -- the end ------------------------------------------------------------------------------------------------

    def result(self) -> Steps:
        """Re-read, test on what was held out, read every cell, and say what it all rests on."""
        state = self.state
        values = yield from self._pass_rates()
        values["train_accuracy"] = values.get("train_accuracy", state.accuracies[-1] if state.accuracies else None)
        values["test_accuracy"] = yield from self._test_accuracy()
        state.grid_s = yield from self._read_cells()
        values |= {
            "converged": state.converged,
            "updates": state.epoch,
            "stalled": state.stalled,
            "error_per_epoch": list(state.errors),
            "pulses": state.pulses.copy(),
            "conductance_s": state.grid_s,
            "weight_s": self.net.pairs[-1].weights(state.grid_s) - state.zeros_s[-1],
        }
        return Result(state.converged, values | self._grounds())

    def _pass_rates(self) -> Generator[Step, Any, dict[str, Any]]:
        """Margin and pass rate on fresh reads, with the zeros and without them (the same reads, bench rule 17)."""
        setup = self.setup
        if not setup.p.rereads:
            return {"margin_a": self.confirmed_a, "reread_pass_rate": None}
        stack = yield from self.net.repeated(setup.volts, setup.p.rereads, setup.where)
        right = [accuracy(c, setup.targets, setup.data.decision, self.threshold_a) for c in stack]
        values: dict[str, Any] = {
            "margin_a": margin_a(stack, setup.targets),
            "reread_pass_rate": float(np.mean(self._passing(stack))),
            "seen_sigma_a": spread_a(stack),
            "train_accuracy": float(np.mean(right)),
        }
        if setup.p.auto_zero and setup.p.layers == 1:
            raw = self._passing(stack + setup.volts @ self.state.zeros_s[0])
            values["reread_pass_rate_without_zero"] = float(np.mean(raw))
        return values

    def _test_accuracy(self) -> Generator[Step, Any, float | None]:
        setup = self.setup
        if not len(setup.test_volts):
            return None
        currents = yield from self.net.forward(setup.test_volts)
        return accuracy(currents, setup.data.test_targets, setup.data.decision, self.threshold_a)

    def _grounds(self) -> dict[str, Any]:
        """What the result rests on, in words and numbers (bench rule 22)."""
        setup, state = self.setup, self.state
        noise = Noise(*state.noise)
        return {
            "goal": setup.goal,
            "beta_per_a": state.beta_per_a,
            "averages": state.averages,
            "required_a": self.criterion.required_a if setup.goal != "activation" else None,
            "sigma_a": noise.sigma_a,
            "sigma_read_a": noise.read_a,
            "sigma_zero_a": noise.zero_a,
            "preflight": state.verdict.get("sentence"),
            "reachable": state.verdict.get("ok"),
            "reachable_a": state.verdict.get("reachable_a"),
            "host_state": self._host_state(),
            "multiply": setup.where,
            "transposed": self.net.back,
            "writes": setup.writes,
            "select": setup.bias.value,
            "half_select": setup.view.device.half_select,
            "device_basis": setup.view.device.basis,
            "bounds_basis": state.verdict.get("basis"),
            "retired": int(state.retired.sum()),
            "excluded": int(state.bad.sum()),
            "refreshes": state.refreshes,
            "drift_s": state.drift_s,
            "cost": dict(state.cost),
        }

    def _host_state(self) -> list[str]:
        p = self.setup.p
        kept = ["targets", "beta_per_a", "sign of the summed gradient"]
        kept += [f"zeros_s: {sum(z.size for z in self.state.zeros_s)} initial weights"] if p.auto_zero else []
        kept += ["hidden activations"] if p.layers == 2 else []
        kept += ["weights for the hidden error"] if self.net.back == "host" else []
        return kept + (["weights for every product"] if self.setup.where == "host" else [])


plugin = Manhattan
