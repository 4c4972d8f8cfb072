"""Hebbian learning on the crossbar: dw = rate x y by pulses, as it stands or kept in bounds by Oja's or Sanger's rule.

Hebb 1949; Oja 1982, J. Math. Biol. 15, 267: dw = rate y (x - y w), |w| -> 1 along the first principal axis; Sanger
1989, Neural Networks 2, 459: neuron k learns axis k (on a crossbar: Choi et al. 2015, Sci. Rep. 5, 10492).
Plain Hebb diverges in theory; here the devices' window bounds it. Reads: one product per answer. Pulses: the change,
rounded stochastically to whole pulses. On the host: a copy of the weights as they were read last, for Oja and Sanger.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from neurobench.bench.steps import BenchView, Step
from neurobench.bench.stimulus import FloatArray, require

from .matrix import Matrix, Programmed, matrix

RuleName = Literal["hebb", "oja", "sanger"]


@dataclass(slots=True)
class HebbianLearner:
    """Weights [inputs, outputs] that store correlations; made by `hebbian_learner`. `held`: as read last."""

    weights: Matrix
    rule: RuleName
    rate: float
    held: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        self.held = np.zeros(self.weights.shape)

    def answer(self, pre: Any) -> Generator[Step, Any, FloatArray]:
        """y[outputs] = pre[inputs] w, by one read."""
        products: FloatArray = yield from self.weights.multiply(np.asarray(pre, np.float64))
        return products.reshape(-1)

    def update_weights_hebbian(self, pre: Any, post: Any, rng: np.random.Generator) -> Generator[Step, Any, int]:
        """Pulses for one pair of activities pre[inputs], post[outputs]; answers how many were fired."""
        x, y = np.asarray(pre, np.float64), np.asarray(post, np.float64)
        require((len(x), len(y)) == self.weights.shape, f"{len(x)} and {len(y)} activities for {self.weights.shape}")
        dw = self.rate * change(self.rule, x, y, self.held)
        pulses = yield from self.weights.change(dw, rng)
        self.held = np.clip(self.held + dw, -1, 1)
        return pulses

    def correlate(self, first: Any, second: Any) -> Generator[Step, Any, float]:
        """first W second / (|first| |second|): how much of this pair the stored weights hold, by one read.

        It is a read-out of what was learnt, not the cosine of the two patterns: that would need no crossbar.
        """
        a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
        require(size > 0, "a pattern of zeros correlates with nothing")
        held = yield from self.answer(a)
        return float(held @ b) / size

    def write(self, weights: Any) -> Generator[Step, Any, Programmed]:
        """Program weights[inputs, outputs] in [-1, 1]; what is read back is held."""
        done = yield from self.weights.write(np.asarray(weights, np.float64))
        self.held = done.weights
        return done

    def read(self) -> Generator[Step, Any, FloatArray]:
        """The weights [inputs, outputs], read back and held."""
        self.held = yield from self.weights.read()
        return self.held


def hebbian_learner(
    view: BenchView, inputs: int, outputs: int, *, rate: float = 0.01, rule: RuleName = "hebb", row0: int = 0,
    col0: int = 0,
) -> HebbianLearner:  # fmt: skip
    """A learner in the block of the array at (row0, col0): `inputs` rows, 2 x `outputs` columns."""
    require(rate > 0, f"rate = {rate}: positive")
    require(rule in get_args(RuleName), f"rule = {rule!r}: {', '.join(get_args(RuleName))}")
    return HebbianLearner(matrix(view, inputs, outputs, row0=row0, col0=col0), rule, rate)


def change(rule: RuleName, x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """dw / rate [inputs, outputs] of one sample x[inputs], y[outputs] by the rule of that name."""
    hebb = np.outer(x, y)
    if rule == "hebb":
        return hebb
    if rule == "oja":
        return hebb - weights * y**2
    # Sanger: output k is decorrelated from those before it
    return hebb - weights @ np.triu(np.outer(y, y))


@dataclass(slots=True)
class Autoencoder:
    """Tied weights: `encode` reads the array forwards, `decode` backwards; Oja's subspace rule makes it PCA.

    Oja 1989, Int. J. Neural Syst. 1, 61: dw = rate (x - x_hat) y. `decode` needs a bench that multiplies backwards;
    elsewhere it uses the weights that were read last.
    """

    learner: HebbianLearner

    def encode(self, x: Any) -> Generator[Step, Any, FloatArray]:
        """The code [hidden] of x[inputs] in [-1, 1]."""
        return (yield from self.learner.answer(x))

    def decode(self, code: Any) -> Generator[Step, Any, FloatArray]:
        """What the code [hidden] stands for: [inputs]."""
        back: FloatArray = yield from self.learner.weights.multiply_back(
            np.asarray(code, np.float64), self.learner.held
        )
        return back.reshape(-1)

    def train(self, x: Any, rng: np.random.Generator) -> Generator[Step, Any, float]:
        """Learn one sample; answers the mean square error of its reconstruction before that."""
        x = np.asarray(x, np.float64)
        code = yield from self.encode(x)
        error = x - (yield from self.decode(code))
        dw = self.learner.rate * np.outer(error, code)
        yield from self.learner.weights.change(dw, rng)
        self.learner.held = np.clip(self.learner.held + dw, -1, 1)
        return float((error**2).mean())


def autoencoder(view: BenchView, inputs: int, hidden: int, *, rate: float = 0.01) -> Autoencoder:
    """An autoencoder from the corner of the array: `inputs` rows, 2 x `hidden` columns; write small weights first."""
    return Autoencoder(hebbian_learner(view, inputs, hidden, rate=rate, rule="oja"))
