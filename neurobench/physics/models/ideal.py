"""The ideal cell: its state moves in proportion to the time at the stated voltage, the same everywhere, without noise.

du = +-rate_per_s width_s at the stated amplitude, for a pulse of any width; hard bounds; nothing at half the voltage.
It is what float weights are in software, as a device: the bar that real devices are compared with, and the only kind
for which the compiled loop may turn a weight change into a pulse of proportional width (`learning.loops`). No device
is like this; no number of it is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from neurobench.errors import ConfigError
from neurobench.physics.latent import (
    Parameters,
    StepModel,
    missing_direction,
    outside_hull,
    read_parameters,
    same_pulse,
)

if TYPE_CHECKING:
    from neurobench.physics.card import DeviceCard
    from neurobench.physics.response import DeviceModel, FloatArray, Replay, Response


class IdealParameters(Parameters):
    """How fast the state, 0 at one end of the window and 1 at the other, moves."""

    rate_per_s: float = Field(gt=0)


class Ideal(StepModel):
    """See the module's formula."""

    linear_in_width = True

    def __init__(self, card: DeviceCard, replay: Replay) -> None:
        super().__init__(card, replay)
        self._rate_per_s = read_parameters(card, IdealParameters).rate_per_s
        noise = card.noise
        if noise.read_sigma_s or noise.read_sigma_relative or noise.step_sigma_s or noise.step_sigma_relative:
            raise ConfigError(f"device {card.name}: model 'ideal' has no noise; leave [noise] out, or take 'linear'")

    def response(self, direction: int, amplitude_v: float, width_s: float) -> Response:
        """A pulse of the stated amplitude and of any width; OutsideHull for another amplitude."""
        found = [p for p in self.card.pulse if p.sign == direction]
        if not found:
            raise missing_direction(self.card, direction)
        if not any(same_pulse(p.model_copy(update={"width_s": None}), amplitude_v, width_s, self.card.tolerance)
                   for p in found):  # fmt: skip
            raise outside_hull(self.card, direction, amplitude_v, width_s, found)
        return self.make_response(np.array([0.0, 1.0]), np.full(2, direction * self._rate_per_s * width_s), 0.0)

    def steps(self, direction: int) -> tuple[FloatArray, FloatArray]:
        """Nodes and step of the card's own pulse."""
        own = next(p for p in self.card.pulse if p.sign == direction)
        return np.array([0.0, 1.0]), np.full(2, direction * self._rate_per_s * (own.width_s or 0.0))


def build(card: DeviceCard, replay: Replay) -> DeviceModel:
    """The model of a card with model = "ideal"."""
    return Ideal(card, replay)


plugin = build
