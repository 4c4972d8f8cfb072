"""The metal-oxide device of the Strukov group, as a table of pulse responses over bins of conductance.

SET   dG = c0 [1 - tanh(c1 (ln t - c2))] [tanh(c3 V - c4) + 1]        (V > 0)
RESET dG = c0 [-1 - tanh(c1 (ln t - c2))] [tanh(c3 V - c4) - 1]       (V < 0)
with one row of c0 .. c4 per bin of conductance. Source: Nili et al. 2020, "Comprehensive Compact Phenomenological
Modeling of Integrated Metal-Oxide Memristors" (IEEE document 9047174); the numbers of the table are those of
caixunshiren/pytorch-metal-oxide-memristor-crossbar (Apache-2.0), memristor/dynamic_params.txt.
The device-to-device term of that table is left out: as transcribed it is -188 % per sigma at 10 uS and +1.3 V, which
flips the sign of the step. The spread of the step is the card's lognormal instead. The formula is defined below the
switching voltage too, so half-select disturb is modelled.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from neurobench.errors import OutsideHull
from neurobench.physics.latent import DIRECTIONS, Parameters, StepModel, missing_direction, read_parameters

if TYPE_CHECKING:
    from neurobench.physics.card import DeviceCard
    from neurobench.physics.response import DeviceModel, FloatArray, Replay, Response

EDGE = 1e-9
Row = tuple[float, float, float, float, float]


class NiliParameters(Parameters):
    """Bin edges [S], one row (c0 [S], c1, c2, c3 [1/V], c4) per bin, and the pulses the table may be used for."""

    edges_s: Annotated[tuple[float, ...], Field(min_length=2)]
    set_rows: tuple[Row, ...]
    reset_rows: tuple[Row, ...]
    amplitude_max_v: float = Field(gt=0)
    width_min_s: float = Field(gt=0)
    width_max_s: float = Field(gt=0)

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        if not np.all(np.diff(self.edges_s) > 0):
            raise ValueError("edges_s must ascend")
        if not len(self.set_rows) == len(self.reset_rows) == len(self.edges_s) - 1:
            raise ValueError(f"{len(self.edges_s)} edges need {len(self.edges_s) - 1} set_rows and reset_rows")
        return self


def step_s(row: Row, direction: int, amplitude_v: float, width_s: float) -> float:
    """Change of conductance [S] of one pulse in one bin; amplitude_v is a magnitude."""
    c0, c1, c2, c3, c4 = row
    rate = direction - math.tanh(c1 * (math.log(width_s) - c2))
    return c0 * rate * (math.tanh(c3 * direction * amplitude_v - c4) + direction)


class Nili(StepModel):
    """See the module's formula."""

    def __init__(self, card: DeviceCard, replay: Replay) -> None:
        super().__init__(card, replay)
        self._p = read_parameters(card, NiliParameters)
        self.half_select_modelled = True

    def response(self, direction: int, amplitude_v: float, width_s: float) -> Response:
        """The table at this pulse: constant inside a bin, a jump (two close nodes) at its edge."""
        if direction not in {p.sign for p in self.card.pulse}:
            raise missing_direction(self.card, direction)
        p = self._p
        if not (0 < abs(amplitude_v) <= p.amplitude_max_v and p.width_min_s <= width_s <= p.width_max_s):
            raise OutsideHull(
                f"device {self.name}: {DIRECTIONS[direction]} with {abs(amplitude_v):g} V for {width_s:g} s; its table "
                f"holds up to {p.amplitude_max_v:g} V and for {p.width_min_s:g} .. {p.width_max_s:g} s ([parameters])"
            )
        rows = p.set_rows if direction > 0 else p.reset_rows
        steps = np.array([step_s(row, direction, abs(amplitude_v), width_s) for row in rows])
        return self.make_response(self._nodes(), np.repeat(steps, 2) / self.span_s, self.card.noise.step_sigma_s or 0.0)

    def disturb(self, direction: int, amplitude_v: float, width_s: float) -> Response | None:
        """The same table at the half-selected cell's voltage."""
        return self.response(direction, amplitude_v, width_s)

    def steps(self, direction: int) -> tuple[FloatArray, FloatArray]:
        """The response at the card's own pulse, as every step model has it."""
        pulse = next(p for p in self.card.pulse if p.sign == direction)
        found = self.response(direction, pulse.amplitude_v or 0.0, pulse.width_s or 0.0)
        return found.nodes, found.delta

    def _nodes(self) -> FloatArray:
        """Two nodes per bin: its lower edge, and the last state before the next bin.

        An inner edge belongs to the bin above it; it is moved down by EDGE, so that rounding of a state cannot change
        its bin.
        """
        u = (np.array(self._p.edges_s) - self.g_min_s) / self.span_s
        u[1:-1] -= EDGE
        last = np.append(np.nextafter(u[1:-1], -np.inf), u[-1])
        return np.column_stack([u[:-1], last]).ravel()


def build(card: DeviceCard, replay: Replay) -> DeviceModel:
    """The model of a card with model = "nili"."""
    return Nili(card, replay)


plugin = build
