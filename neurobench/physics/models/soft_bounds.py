"""Soft bounds: each pulse covers a fixed share of what is left to the bound.

w_n = w_max - (w_max - w_0)(1 - dw/w_max)^n upwards, and the same towards w_min. In the normalised state that is
u -> 1 - (1 - u)(1 - rate_up) and u -> u (1 - rate_down), with rate_up = dw_up / w_max, rate_down = dw_down / |w_min|.
Source: Fusi and Abbott, Nat. Neurosci. 10 (2007) 485; aihwkit SoftBoundsDevice (Rasch et al. 2021, arXiv:2104.02184).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from neurobench.physics.latent import Parameters, StepModel, read_parameters

if TYPE_CHECKING:
    from neurobench.physics.card import DeviceCard
    from neurobench.physics.response import DeviceModel, FloatArray, Replay


class SoftBoundsParameters(Parameters):
    """Share of the remaining way that one pulse covers."""

    rate_up: float = Field(gt=0, lt=1)
    rate_down: float = Field(gt=0, lt=1)


class SoftBounds(StepModel):
    """See the module's formula."""

    def __init__(self, card: DeviceCard, replay: Replay) -> None:
        super().__init__(card, replay)
        self._p = read_parameters(card, SoftBoundsParameters)

    def steps(self, direction: int) -> tuple[FloatArray, FloatArray]:
        """Affine in u: two nodes are exact."""
        delta = [self._p.rate_up, 0.0] if direction > 0 else [0.0, -self._p.rate_down]
        return np.array([0.0, 1.0]), np.array(delta)


def build(card: DeviceCard, replay: Replay) -> DeviceModel:
    """The model of a card with model = "soft_bounds"."""
    return SoftBounds(card, replay)


plugin = build
