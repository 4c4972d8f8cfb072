"""VTEAM, the voltage-controlled threshold model: a power of the voltage beyond the threshold.

    dx/dt = k_off (v / v_off - 1)^alpha_off        v > v_off > 0: x grows, the resistance grows
    dx/dt = k_on (v / v_on - 1)^alpha_on           v < v_on < 0: x falls
    I = v / [R_on + (R_off - R_on) x / D]

Source: Kvatinsky, Ramadan, Friedman, Kolodny 2015, IEEE Trans. Circuits Syst. II 62:786 (equations); x without a window
function, between 0 and D. R_on and R_off are the card's [window]. A positive voltage depresses here: a card of this
model says potentiating_sign = -1 where v is V_row - V_col.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from neurobench.errors import ConfigError
from neurobench.physics.latent import Parameters, read_parameters
from neurobench.physics.rates import POWER, RateLaw, RateModel, Side

if TYPE_CHECKING:
    from neurobench.physics.card import DeviceCard
    from neurobench.physics.response import DeviceModel, Replay


class Vteam(Parameters):
    """Constants by the names of the paper: lengths in metres, k in metres per second, with their signs."""

    length_m: float = Field(gt=0)
    k_off_m_per_s: float = Field(gt=0)
    k_on_m_per_s: float = Field(lt=0)
    alpha_off: float = Field(gt=0, le=20)
    alpha_on: float = Field(gt=0, le=20)
    v_off_v: float = Field(gt=0)
    v_on_v: float = Field(lt=0)

    def on(self) -> Side:
        """Towards R_on: potentiation."""
        return Side(POWER, -self.k_on_m_per_s / self.length_m, -self.v_on_v, self.alpha_on)

    def off(self) -> Side:
        """Towards R_off: depression."""
        return Side(POWER, self.k_off_m_per_s / self.length_m, self.v_off_v, self.alpha_off)


def build(card: DeviceCard, replay: Replay) -> DeviceModel:
    """The model of a card with model = "vteam"; the state is w = 1 - x / D, and the resistance is linear in it."""
    p = read_parameters(card, Vteam)
    if card.window is None:
        raise ConfigError(
            f"device {card.name}: model 'vteam' needs a [window]: g_min_s = 1 / R_off, g_max_s = 1 / R_on"
        )
    return RateModel(card, replay, RateLaw(p.on(), p.off(), card.window.g_max_s / card.window.g_min_s))


plugin = build
