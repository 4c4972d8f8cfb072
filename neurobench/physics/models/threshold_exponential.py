"""The device of published pulse schemes: exponential beyond a threshold, nothing below it.

    dw/dt = rate_hz sign(V) (exp(|V| / v0) - exp(threshold / v0))        for |V| > threshold

Source: Linares-Barranco, Serrano-Gotarredona 2009, Nature Precedings, npre.2009.3010.1; Serrano-Gotarredona et al.
2013, Front. Neurosci. 7:2 (the equation is from memory of both). `window`: soft bounds, dw/dt times (1 - w)^window
upwards and w^window downwards (Guetig et al. 2003); 0: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from neurobench.physics.latent import Parameters, read_parameters
from neurobench.physics.rates import EXPONENTIAL, RateLaw, RateModel, Side

if TYPE_CHECKING:
    from neurobench.physics.card import DeviceCard
    from neurobench.physics.response import DeviceModel, Replay


class Direction(BaseModel):
    """One direction: rate in windows per second, threshold and v0 in volts (magnitudes), exponent of the soft bound."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate_hz: float = Field(gt=0)
    threshold_v: float = Field(gt=0)
    v0_v: float = Field(gt=0)
    window: float = Field(default=0.0, ge=0, le=10)

    def side(self) -> Side:
        """For the rate law."""
        return Side(EXPONENTIAL, self.rate_hz, self.threshold_v, self.v0_v, self.window)


class ThresholdExponential(Parameters):
    """The card's [parameters.potentiate] and [parameters.depress]."""

    potentiate: Direction
    depress: Direction


def build(card: DeviceCard, replay: Replay) -> DeviceModel:
    """The model of a card with model = "threshold_exponential"."""
    p = read_parameters(card, ThresholdExponential)
    return RateModel(card, replay, RateLaw(p.potentiate.side(), p.depress.side()))


plugin = build
