"""What a Manhattan run rests on: the task laid out on the array, and the state that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurobench.bench.steps import BenchView, Checkpoint
from neurobench.bench.stimulus import Bias, BoolArray, CellRead, FloatArray, Pulse
from neurobench.errors import CapabilityMissing, UsageError
from neurobench.learning.bias import choose_bias
from neurobench.learning.datasets import Dataset
from neurobench.learning.perceptron import Net, OneLayer, TwoLayers, with_bias
from neurobench.learning.synapses import (
    Pairs,
    Pulses,
    ReadSettings,
    adjacent,
    allow_refresh,
    can_transpose,
    cell_read,
    remapped,
)

if TYPE_CHECKING:
    from .manhattan import Manhattan


@dataclass(frozen=True, slots=True)
class Setup:
    """What does not change during a run: parameters, view, task, voltages, pulses."""

    p: Manhattan
    view: BenchView
    data: Dataset
    x: FloatArray
    volts: FloatArray
    test_volts: FloatArray
    targets: FloatArray
    pulses: Pulses
    bias: Bias
    writes: Literal["set_only", "set_reset"]
    where: Literal["array", "host"]
    both: bool
    goal: str

    def settings(self, averages: int) -> ReadSettings:
        """How a product or a cell is read with so many averages."""
        return ReadSettings(self.p.read_v, averages, self.both, self.p.integration_s)

    def all_cells(self, averages: int) -> CellRead:
        """A read of every cell of the array."""
        return cell_read(np.ones(self.view.shape, np.bool_), self.settings(averages))


def make_setup(p: Manhattan, view: BenchView) -> Setup:
    """Lay the task out for this bench; raises CapabilityMissing for what it lacks."""
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
    return Setup(
        p, view, data, x, p.read_v * x, p.read_v * with_bias(data.test_inputs, p.has_bias), data.targets,
        _pulses(p, view), choose_bias(p.select, view), writes, plan.multiply, p.both_polarities and
        view.capabilities.both_polarities, goal,
    )  # fmt: skip


def _pulses(p: Manhattan, view: BenchView) -> Pulses:
    """What was asked for, else what is declared of the chip; what is asked of SET holds for RESET too."""
    device = view.device
    down = device.depress_pulse or device.pulse
    return Pulses(
        _pulse(p.amplitude_v, p.width_s, device.pulse),
        _pulse(p.depress_amplitude_v or p.amplitude_v, p.depress_width_s or p.width_s, down),
    )


def _pulse(amplitude_v: float | None, width_s: float | None, known: Pulse | None) -> Pulse:
    if known is None and (amplitude_v is None or width_s is None):
        raise UsageError("nothing is known of this chip's pulses: set amplitude_v and width_s")
    if amplitude_v is None and width_s is None and known is not None:
        return known
    return Pulse(amplitude_v or (known.amplitude_v if known else 0.0), width_s or (known.width_s if known else 0.0))


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
        return Checkpoint({name: copied(getattr(self, name)) for name in State.__slots__})


def copied(value: Any) -> Any:
    """A deep copy of what a state holds; arrays that came from a record become writable."""
    if isinstance(value, list):
        return value.copy() if value and isinstance(value[0], float) else [copied(v) for v in value]
    if isinstance(value, dict):
        return dict(value)
    return value.copy() if isinstance(value, np.ndarray) else value


def layout(setup: Setup, bad: BoolArray) -> tuple[Pairs, ...]:
    """Where the pairs lie: one layer from the corner (or on the best lines), two as blocks along the diagonal."""
    p, data, shape = setup.p, setup.data, setup.view.shape
    inputs, bias = setup.x.shape[1], int(p.has_bias)
    if p.layers == 1:
        place = remapped if p.remap and bad.any() else adjacent
        return (place(shape, inputs, data.neurons, bad),)
    hidden = adjacent(shape, inputs, p.hidden, bad)
    return hidden, adjacent(shape, p.hidden + bias, data.neurons, bad, inputs, 2 * p.hidden)


def make_net(setup: Setup, state: State) -> Net:
    """The perceptron on the array as the state has it."""
    p, pairs = setup.p, layout(setup, state.bad)
    pairs = tuple(without(layer, state.retired) for layer in pairs)
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


def without(pairs: Pairs, retired: BoolArray) -> Pairs:
    """The same pairs, with retired cells no longer pulsed."""
    return Pairs(pairs.shape, pairs.rows, pairs.plus, pairs.minus, pairs.usable & ~retired)
