"""Echo-state reservoirs whose recurrent and input weights are cells of the crossbar, and their linear readout.

x <- (1 - leak) x + leak tanh(gain [u, x] [W_in; W]) (Jaeger 2001, GMD report 148; leaky: Jaeger et al. 2007, Neural
Networks 20, 335). One read a step multiplies both; W is programmed once and its spectral radius is computed from what
was read back, since programming errors change it. On the host: tanh, the state, and the readout weights (ridge
regression or LMS). A spectral radius below 1 is neither sufficient nor necessary for the echo state in general:
`fading` shows it on the bench.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurobench.bench.steps import BenchView, Step
from neurobench.bench.stimulus import FloatArray, require
from neurobench.errors import UsageError

from .matrix import Matrix, matrix


@dataclass(slots=True)
class Reservoir:
    """A reservoir on a block of the crossbar; made by `reservoir`, usable once `program` has run.

    target[inputs + size, size]: the weights to be written, W_in above W. `input_range`: largest |u|; larger inputs are
    refused, not clipped. `gain` follows from the W that was read back. readout[size + 1, outputs]: a constant last.
    """

    weights: Matrix
    target: FloatArray
    spectral_radius: float
    leak: float
    input_range: float
    gain: float = float("nan")
    state: FloatArray = field(default_factory=lambda: np.zeros(0))
    readout: FloatArray | None = None

    def __post_init__(self) -> None:
        self.reset()

    @property
    def size(self) -> int:
        """Units."""
        return self.weights.shape[1]

    @property
    def inputs(self) -> int:
        """Inputs from outside."""
        return self.weights.shape[0] - self.size

    def reset(self) -> None:
        """All units at 0."""
        self.state = np.zeros(self.size)

    def program(self) -> Generator[Step, Any, float]:
        """Write the weights once; answers the spectral radius of what was read back, before `gain` brings it right."""
        done = yield from self.weights.write(self.target)
        return self.tune(done.weights)

    def tune(self, weights: FloatArray) -> float:
        """Choose the gain for weights[inputs + size, size] that were read back; answers their spectral radius."""
        radius = spectral_radius(weights[self.inputs :])
        if radius == 0:
            raise UsageError("nothing recurrent was written: the devices do not take these weights")
        self.gain = self.spectral_radius / radius
        return radius

    def step(self, u: Any) -> Generator[Step, Any, FloatArray]:
        """One step with input u[inputs]; the state [size] after it."""
        u = np.atleast_1d(np.asarray(u, np.float64))
        require(u.shape == (self.inputs,), f"{u.shape} values for a reservoir of {self.inputs} inputs")
        require(bool(np.isfinite(self.gain)), "the reservoir is not programmed: run program() first")
        require(
            bool((np.abs(u) <= self.input_range).all()),
            f"an input of {np.abs(u).max():g} lies beyond input_range = {self.input_range:g}, the full read voltage",
        )
        pushed = (yield from self.weights.multiply(np.concatenate([u / self.input_range, self.state])))[0]
        drawn: FloatArray = np.tanh(self.gain * pushed)
        self.state = (1 - self.leak) * self.state + self.leak * drawn
        return self.state

    def run(self, sequence: Any) -> Generator[Step, Any, FloatArray]:
        """States [steps, size] over a sequence[steps, inputs], going on from the state as it is."""
        states = np.zeros((len(sequence), self.size))
        for at, u in enumerate(sequence):
            states[at] = yield from self.step(u)
        return states

    def train_output(
        self, inputs: Sequence[Any], targets: Sequence[Any], ridge: float = 1e-6, washout: int = 0
    ) -> Generator[Step, Any, float]:
        """Fit the readout to target sequences by ridge regression; answers the NRMSE on what it was fitted to.

        Each sequence starts from rest; its first `washout` steps are not used.
        """
        collected, wanted = [], []
        for sequence, target in zip(inputs, targets, strict=True):
            self.reset()
            collected.append((yield from self.run(sequence))[washout:])
            wanted.append(np.asarray(target, np.float64).reshape(len(target), -1)[washout:])
        x, y = with_constant(np.concatenate(collected)), np.concatenate(wanted)
        require(len(x) > 0, f"washout = {washout} leaves nothing to learn from")
        readout = np.asarray(np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y), np.float64)
        self.readout = readout
        return nrmse(x @ readout, y)

    def forward(self, u: Any) -> Generator[Step, Any, FloatArray]:
        """One step, and what the readout says of it: [outputs]; without a readout the state itself."""
        state: FloatArray = yield from self.step(u)
        if self.readout is None:
            return state
        said: FloatArray = with_constant(state[None])[0] @ self.readout
        return said

    def learn_online(self, u: Any, target: Any, rate: float) -> Generator[Step, Any, FloatArray]:
        """One step of LMS (Widrow & Hoff 1960), normalised by the power of the state; answers the error before it."""
        target = np.atleast_1d(np.asarray(target, np.float64))
        if self.readout is None:
            self.readout = np.zeros((self.size + 1, len(target)))
        x = with_constant((yield from self.step(u))[None])[0]
        error: FloatArray = target - x @ self.readout
        self.readout = self.readout + rate * np.outer(x, error) / (x @ x)
        return error

    def fading(self, sequence: Any, rng: np.random.Generator) -> Generator[Step, Any, FloatArray]:
        """Distance [steps] between two runs of one sequence from two random states, over the first distance: it falls
        towards the noise of the reads where the reservoir has the echo state property."""
        runs = []
        for _ in range(2):
            self.state = rng.uniform(-1, 1, self.size)
            start = self.state
            runs.append(np.vstack([start, (yield from self.run(sequence))]))
        apart = np.linalg.norm(runs[0] - runs[1], axis=1)
        faded: FloatArray = apart[1:] / apart[0]
        return faded


def reservoir(
    view: BenchView, inputs: int, size: int, *, rng: np.random.Generator, spectral_radius: float = 0.9,
    connectivity: float = 0.1, leak: float = 1.0, input_scaling: float = 0.5, input_range: float = 1.0, row0: int = 0,
    col0: int = 0,
) -> Reservoir:  # fmt: skip
    """A reservoir in the block of the array at (row0, col0): inputs + size rows, 2 x size columns.

    `connectivity`: share of recurrent weights that are not 0; `input_scaling`: weight of the inputs against the largest
    recurrent one.
    """
    require(0 < connectivity <= 1, f"connectivity = {connectivity}: a share above 0")
    require(0 < leak <= 1, f"leak = {leak}: above 0, at most 1")
    require(0 < input_scaling <= 1, f"input_scaling = {input_scaling}: above 0, at most 1")
    require(input_range > 0 and spectral_radius > 0, "input_range and spectral_radius are positive")
    inner = rng.uniform(-1, 1, (size, size)) * (rng.random((size, size)) < connectivity)
    outer = input_scaling * rng.uniform(-1, 1, (inputs, size))
    block = matrix(view, inputs + size, size, row0=row0, col0=col0)
    return Reservoir(block, np.vstack([outer, inner]), spectral_radius, leak, input_range)


def spectral_radius(weights: FloatArray) -> float:
    """Largest magnitude of an eigenvalue."""
    return float(np.abs(np.linalg.eigvals(weights)).max())


def with_constant(states: FloatArray) -> FloatArray:
    """States [n, size] with a column of ones behind them."""
    return np.hstack([states, np.ones((len(states), 1))])


def nrmse(found: FloatArray, wanted: FloatArray) -> float:
    """Root mean square error over the standard deviation of what was wanted."""
    return float(np.sqrt(((found - wanted) ** 2).mean()) / max(float(wanted.std()), np.finfo(float).tiny))
