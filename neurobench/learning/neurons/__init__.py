"""Neuron models as pure steps: frozen parameters, a state of arrays, and state, current -> state, spikes.

`start(n, parameters)` gives n neurons at rest, `step(state, current, parameters, dt_s)` takes them one tick on; both
work on numpy arrays and change nothing in place, so that a state is a checkpoint. What `current` is each model says
itself. All of them have a refractory time: it is counted in whole ticks, rounded up, so on a grid of 1 ms a refractory
time of 2.5 ms lasts 3 ticks. A spike in tick k means that the threshold was reached by the end of that tick.

Models: LIF and AdaptiveLIF (exact integration), ConductanceLIF (Song, Miller & Abbott 2000), AdEx (Naud et al. 2008),
Izhikevich (2003, 2004, with the twenty patterns), ThresholdSwitch (a volatile switch across a membrane capacitor).
"""

from .adex import NAUD, AdEx, AdExState
from .izhikevich import CELL_TYPES, PATTERNS, Izhikevich, IzhikevichState, Pattern, Piece
from .leaky import LIF, AdaptiveLIF, AdaptiveState, ConductanceLIF, ConductanceState, LIFState
from .model import Neuron, drive, refractory_ticks, start, step
from .switch import SwitchState, ThresholdSwitch

__all__ = [
    "CELL_TYPES", "LIF", "NAUD", "PATTERNS", "AdEx", "AdExState", "AdaptiveLIF", "AdaptiveState", "ConductanceLIF",
    "ConductanceState", "Izhikevich", "IzhikevichState", "LIFState", "Neuron", "Pattern", "Piece", "SwitchState",
    "ThresholdSwitch", "drive", "refractory_ticks", "start", "step",
]  # fmt: skip
