"""The job that Brian2 and our loop both do: 784 inputs, 256 leaky neurons, pair STDP on line, one tick of 1 ms.

Numbers only, no package of ours: the oracle runs in an environment of its own. All in units of the largest conductance:
a weight is a state of an ideal cell in [0, 1].
"""

from __future__ import annotations

import numpy as np

ROWS, COLS, RATE = 784, 256, 0.1
TICK_S, TAU_S = 1e-3, 20e-3
GAIN = 2.8e-3  # what one spike at weight 1 adds to a membrane; a neuron fires at 1
UP, DOWN = 0.005, 0.00525  # weight change per pair at no delay (Song, Miller, Abbott 2000: depression 1.05 times)


def inputs(ticks: int, seed: int = 1) -> np.ndarray:
    """Raster [ticks, rows]: each row spikes in each tick with probability RATE."""
    return np.random.default_rng(seed).random((ticks, ROWS)) < RATE


def weights(seed: int = 2) -> np.ndarray:
    """Weights at the start [rows, cols], in hundredths, 0.00 to 0.50: what pulses of an ideal cell can set."""
    return np.random.default_rng(seed).integers(0, 51, (ROWS, COLS)) / 100
