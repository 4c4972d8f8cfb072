"""The Manhattan rule: every weight moves by the sign of its summed gradient, one pulse at a time (eq. 4 and 5)."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurobench.bench.stimulus import FloatArray
from neurobench.compiling import compiled

from .synapses import SignArray


def signs(deltas: FloatArray, inputs: FloatArray) -> SignArray:
    """sgn(sum over n of delta_k(n) V_i(n)) as [inputs, neurons], from deltas [n, neurons] and inputs [n, inputs].

    The sum runs in the order of the patterns, so that a sum which is exactly zero in the seed is zero here; zero:
    no pulse.
    """
    out = np.empty((inputs.shape[1], deltas.shape[1]), np.int8)
    _signs(deltas, inputs, out)
    return out


@compiled
def _signs(deltas: Any, inputs: Any, out: Any) -> None:  # pragma: no cover - compiled
    for i in range(inputs.shape[1]):
        for k in range(deltas.shape[1]):
            total = 0.0
            for n in range(inputs.shape[0]):
                total += deltas[n, k] * inputs[n, i]
            out[i, k] = 1 if total > 0 else (-1 if total < 0 else 0)


def hidden_deltas(back: FloatArray, activations: FloatArray) -> FloatArray:
    """Gradient of hidden neurons [n, hidden] from the error that came back through the next layer: e (1 - f^2)."""
    deltas: FloatArray = back * (1 - activations**2)
    return deltas
