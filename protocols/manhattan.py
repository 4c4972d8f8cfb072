"""In-situ training of a perceptron on a crossbar by the Manhattan rule: one pulse per weight and update, by the sign.

Equations 1 to 5 of cateru/Memristor_Crossbar_Training_Class (commit c3a4408), after Prezioso et al., Nature 521, 61
(2015) and Shumilin et al., Adv. Electron. Mater. 2300887 (2024). `preset=seed` repeats the published settings
exactly; the default looks before it pulses (preflight), zeroes the initial weights, and calls it learned only when
every pattern stands five standard deviations clear of zero on three independent reads.

Kept on the host, and so a cost on hardware: the targets, beta, the sign of the summed gradient, and with auto_zero
one zero W0 per pair; with two layers also the hidden activations of the present batch (`host_state` in the result).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from neurobench.bench.crossbar import Needs
from neurobench.bench.steps import BenchView, Protocol, Steps
from neurobench.bench.stimulus import Bias
from neurobench.learning import datasets
from neurobench.learning.datasets import Dataset

from ._manhattan_prepare import prepare
from ._manhattan_setup import State, copied, make_net, make_setup
from ._manhattan_train import Training

SEED: dict[str, Any] = {
    "task": "seed", "beta_per_a": 6e6, "target": 0.8, "writes": "set_only", "auto_zero": False, "averages": 1,
    "both_polarities": False, "preflight": False, "goal": "activation", "update": "batch", "max_updates": 50,
    "amplitude_v": 2.0, "width_s": 1e-3, "retire_after": 0, "remap": False, "layers": 1, "bias_row": "none",
    "rereads": 0,
}  # fmt: skip
# The published rule on the device as it was measured. Currents are ten times smaller without K = 10, so beta is larger.
AS_MEASURED: dict[str, Any] = SEED | {"beta_per_a": 6e7}
PRESETS = {"seed": SEED, "as-measured": AS_MEASURED}


class Manhattan(Protocol):
    """Train a perceptron in situ by the Manhattan rule (seed: cateru, Prezioso 2015)."""

    figures: ClassVar[tuple[str, ...]] = ("conductances", "weights", "activations", "error", "bars")

    preset: Literal["improved", "seed", "as-measured"] = Field(
        "improved", description="seed: the published settings, exactly; as-measured: without their scaling and offsets"
    )
    task: str = Field("seed", description="seed, letters, digits, iris, or the path of a .csv file")
    beta_per_a: float | None = Field(None, gt=0, description="slope of tanh(beta I) in 1/A; none: from preflight")
    target: float = Field(0.8, gt=0, lt=1, description="activation asked for: f >= target, or <= -target")
    read_v: float = Field(0.1, gt=0, description="amplitude of the inputs (+-V coding) and of cell reads, in volts")
    integration_s: float = Field(1e-3, gt=0, description="time of one read, in seconds")
    amplitude_v: float | None = Field(None, gt=0, description="write pulse, in volts; none: as the device was measured")
    width_s: float | None = Field(None, gt=0, description="write pulse, in s; none: as the device was measured")
    depress_amplitude_v: float | None = Field(
        None, gt=0, description="depressing pulse, in volts; none: amplitude_v, else as the device was measured"
    )
    depress_width_s: float | None = Field(
        None, gt=0, description="depressing pulse, in s; none: width_s, else as the device was measured"
    )
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
    checkpoint_every: int = Field(
        10, ge=0, description="epochs between checkpoints, which become rarer in runs of more than 32 times it; 0: none"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset_first(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {**PRESETS.get(str(given.get("preset")), {}), **given}
        return given

    @model_validator(mode="after")
    def _beta_comes_from_somewhere(self) -> Manhattan:
        if self.beta_per_a is None and not (self.preflight or self.auto_zero):
            raise ValueError("beta_per_a has to be given where neither preflight nor auto_zero reads the cells first")
        return self

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
        if self.preset in PRESETS:
            defaults |= {"chip.replay": "literal", "chip.step_spread": 0.0, "readout.ideal": True}
        if self.preset == "seed":
            defaults |= {"chip.scale": 10.0, "chip.baseline": "removed"}
        if self.preset == "as-measured":
            defaults["chip.offsets"] = "none"
        return defaults

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """Preflight, train, confirm, measure. `start`: a state that was yielded as a Checkpoint."""
        setup = make_setup(self, view)
        if start is None:
            state = yield from prepare(setup, rng)
        else:
            state = State(**{name: copied(start[name]) for name in State.__slots__})
        training = Training(setup, state, make_net(setup, state))
        if start is None:
            yield from training.begin()
        if not (self.when_unreachable == "stop" and state.verdict.get("ok") is False):
            yield from training.run()
        return (yield from training.result())


plugin = Manhattan
