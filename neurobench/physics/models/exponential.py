"""The exponential curve of NeuroSim: G(P) = B (1 - exp(-P/A)) + Gmin, B = (Gmax - Gmin)/(1 - exp(-Pmax/A)).

Potentiation runs P upwards on the curve with A(nl_up), depression runs P downwards on its own curve with A(nl_down);
a negative label is a negative A, the mirrored curve. So nl_down = -4.88 begins with its largest step and nl_down > 0
ends with it. The published label is analytic: NL = 10.10152 max|u(x) - x|, where u(x) = (1 - e^(-x/a))/(1 - e^(-1/a))
and a = A/Pmax. Source: MLP NeuroSim V3.0 manual, section 9. Pulse by pulse, the curve is an affine map of the
conductance, so the state needs no pulse counter and reverses by itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from scipy.optimize import brentq

from neurobench.physics.latent import Parameters, StepModel, read_parameters

if TYPE_CHECKING:
    from neurobench.physics.card import DeviceCard
    from neurobench.physics.response import DeviceModel, FloatArray, Replay

NL_SCALE = 10.10152
# Below this the curve differs from a straight line by less than 1e-5 of the window.
STRAIGHT_NL = 1e-4


class ExponentialParameters(Parameters):
    """Number of pulses over the window and nonlinearity label, per direction.

    A direction that begins with its smallest step (nl_up < 0, nl_down > 0) expands differences pulse by pulse; beyond a
    label of 7 its first step is lost in double precision, so that is refused.
    """

    pulses_up: int = Field(ge=1, le=1_000_000)
    pulses_down: int = Field(ge=1, le=1_000_000)
    nl_up: float = Field(ge=-7, le=9)
    nl_down: float = Field(ge=-9, le=7)


def normalised_a(nl: float) -> float:
    """A / Pmax of a nonlinearity label (its sign is A's sign); infinite for a straight line."""
    if abs(nl) < STRAIGHT_NL:
        return math.inf
    k = math.exp(float(brentq(lambda log_k: _label(math.exp(log_k)) - abs(nl), -10.0, 8.0, xtol=1e-13)))
    return math.copysign(1.0 / k, nl)


def _label(k: float) -> float:
    """The label of the curve with a = 1/k; the largest bend lies where the slope of u(x) is 1."""
    whole = -math.expm1(-k)
    x = math.log(k / whole) / k
    return NL_SCALE * (-math.expm1(-k * x) / whole - x)


class Exponential(StepModel):
    """See the module's formula."""

    def __init__(self, card: DeviceCard, replay: Replay) -> None:
        super().__init__(card, replay)
        self._p = read_parameters(card, ExponentialParameters)

    def steps(self, direction: int) -> tuple[FloatArray, FloatArray]:
        """Affine in u: with U = 1/(1 - exp(-Pmax/A)), du = (U - u)(1 - exp(-direction/A)). Two nodes are exact."""
        pulses, nl = (self._p.pulses_up, self._p.nl_up) if direction > 0 else (self._p.pulses_down, self._p.nl_down)
        u = np.array([0.0, 1.0])
        a = normalised_a(nl)
        if math.isinf(a):
            return u, np.full(2, direction / pulses)
        asymptote = -1.0 / math.expm1(-1.0 / a)
        return u, (asymptote - u) * -math.expm1(-direction / (a * pulses))


def build(card: DeviceCard, replay: Replay) -> DeviceModel:
    """The model of a card with model = "exponential"."""
    return Exponential(card, replay)


plugin = build
