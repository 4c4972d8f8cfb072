"""Linear step: the step falls (or not) linearly with the weight, and stops hard at the bounds.

dw+ = dw_up (1 - gamma_up w / w_max), dw- = -dw_down (1 - gamma_down w / w_min), clipped to [w_min, w_max].
gamma = 0 is the constant step. Source: aihwkit LinearStepDevice and ConstantStepDevice (Rasch et al. 2021,
arXiv:2104.02184). The weight range is mapped linearly onto the card's conductance window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from neurobench.physics.latent import Parameters, StepModel, read_parameters

if TYPE_CHECKING:
    from neurobench.physics.card import DeviceCard
    from neurobench.physics.response import DeviceModel, FloatArray, Replay


class LinearParameters(Parameters):
    """Steps at w = 0 and bounds, all in units of the weight."""

    dw_up: float = Field(gt=0)
    dw_down: float = Field(gt=0)
    gamma_up: float = 0.0
    gamma_down: float = 0.0
    w_min: float = 0.0
    w_max: float = 1.0

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if self.w_min >= self.w_max:
            raise ValueError(f"w_min = {self.w_min:g} must lie below w_max = {self.w_max:g}")
        if (self.gamma_up and self.w_max <= 0) or (self.gamma_down and self.w_min >= 0):
            raise ValueError("gamma_up needs w_max > 0, gamma_down needs w_min < 0: the step is relative to that bound")
        return self


class Linear(StepModel):
    """See the module's formula."""

    def __init__(self, card: DeviceCard, replay: Replay) -> None:
        super().__init__(card, replay)
        self._p = read_parameters(card, LinearParameters)

    def steps(self, direction: int) -> tuple[FloatArray, FloatArray]:
        """Affine in u: two nodes are exact."""
        p = self._p
        w = np.array([p.w_min, p.w_max])
        if direction > 0:
            dw = p.dw_up * (1 - (p.gamma_up * w / p.w_max if p.gamma_up else 0 * w))
        else:
            dw = -p.dw_down * (1 - (p.gamma_down * w / p.w_min if p.gamma_down else 0 * w))
        return np.array([0.0, 1.0]), dw / (p.w_max - p.w_min)


def build(card: DeviceCard, replay: Replay) -> DeviceModel:
    """The model of a card with model = "linear"."""
    return Linear(card, replay)


plugin = build
