"""What voltages at the cells do to a chip when no protocol asks: pulses, disturbs, nothing, or damage.

The emulator fires shots that were checked before. On a bench of simulated instruments any voltage may stand at a cell
for any time: by a pulse, by a wrong order of commands, by a relay that switches hot. The rules:

- A voltage up to a reading level (`reading_v`) does nothing, for any time.
- In an exposure beyond it, cells that see more than 2/3 of the largest voltage are selected: they feel a pulse, with
  the noise that the same pulse has in `Chip.fire`. The others are victims: they feel what the model knows of disturbs.
- A pulse outside the device's hull that is larger than any known one, or at a write level (2/3 of the smallest known
  amplitude) longer than any known one, destroys the cell: it becomes a short. So does anything beyond three times the
  largest known amplitude, for models that answer every pulse. Both are rules of the simulation, not measurements.
- Any other pulse outside the hull does nothing, and is counted: nobody knows what it would do. In a direction that was
  never measured, one at a write level is a pulse of the cell's own all the same: it was fired.

A device with a rate model answers every voltage, so for it no level is a reading level, and no exposure stands alone:

- It integrates every stretch of time, with the threshold of every cell; up to the lowest one the rate is exactly 0.
- Stretches belong to one event until no cell sees a volt (`calm`); then the noise is drawn and pulses are counted, of
  the cells that saw more than 2/3 of the event's largest voltage. The others that felt something had a disturb.
- Beyond three times the largest amplitude that its card states, a cell is destroyed.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurobench.errors import CapabilityMissing, OutsideHull
from neurobench.physics.kernels import Table, table
from neurobench.physics.plays import Event, lowest_threshold_v
from neurobench.physics.response import Response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from neurobench.bench.stimulus import FloatArray, IndexArray
    from neurobench.physics.card import Pulse
    from neurobench.physics.chip import Chip
    from neurobench.physics.response import DeviceModel

SELECTED = 2 / 3
BEYOND_ANY_MODEL = 3.0
UNSTATED_V = 1.0  # amplitude of a card that states none
KEPT_TABLES = 4096


class Wound(NamedTuple):
    """A cell (row, column) that was destroyed, by what it saw, and by which rule."""

    cell: tuple[int, int]
    volts: float
    seconds: float
    why: str


class Felt(NamedTuple):
    """What one exposure did: flat indices of the cells that had a pulse of their own, those destroyed, and how many
    saw something of which nobody knows what it does."""

    pulsed: IndexArray
    wounds: tuple[Wound, ...]
    unknown: int


class Known(NamedTuple):
    """The pulses of one direction that a card states: amplitudes as magnitudes in volts, the longest in seconds."""

    least_v: float
    most_v: float
    most_s: float


STILL = table(Response(np.zeros(1), np.zeros(1), np.zeros(1)))
NOTHING = Felt(np.zeros(0, np.int32), (), 0)


def known_pulses(model: DeviceModel, direction: int) -> Known:
    """What the card states for a direction; of the other one where it states none. inf: nothing limits it."""
    card = model.card
    stated: list[Pulse] = [*card.curve, *card.pulse]
    own = [p for p in stated if p.sign == direction] or stated
    volts = [abs(p.amplitude_v) for p in own if p.amplitude_v is not None]
    widths_s = [inf if p.width_s is None else p.width_s for p in own]
    return Known(min(volts, default=UNSTATED_V), max(volts, default=inf), max(widths_s, default=inf))


def reading_level_v(model: DeviceModel) -> float:
    """Largest |V| that leaves a cell as it is: 1.5 times the card's read voltage or a quarter of the smallest write
    amplitude, whichever is larger, but always below half of that amplitude, which victims see."""
    least_v = min(known_pulses(model, direction).least_v for direction in (1, -1))
    return min(max(1.5 * model.card.read.voltage_v, least_v / 4), 0.45 * least_v)


class Stress:
    """The rules of this module for one chip; `potentiating_sign`: sign of V_row - V_col that potentiates."""

    def __init__(self, chip: Chip, potentiating_sign: int) -> None:
        self.chip, self._sign = chip, potentiating_sign
        law = chip.model.rate
        self._event = None if law is None else Event(chip, law, potentiating_sign)
        self.reading_v = reading_level_v(chip.model) if law is None else lowest_threshold_v(chip)
        self._known = {direction: known_pulses(chip.model, direction) for direction in (1, -1)}
        # How long a write level may stand before it has lasted longer than any known pulse.
        longest_s = max(k.most_s for k in self._known.values()) * (1 + chip.model.card.tolerance.width)
        self.patience_s = longest_s if law is None else inf
        self._tables: dict[tuple[float, float, bool], Table | str | None] = {}

    def expose(self, cell_v: FloatArray, seconds: float, *, rounded: bool = False) -> Felt:
        """Let cells see cell_v[rows, cols] (V_row - V_col) for a time. rounded: voltages come from a solved circuit and
        are rounded to 1e-4 of themselves, as in `plan_shots`, so that equal cells share a table."""
        volts = cell_v.ravel()
        largest = float(np.abs(volts).max())
        if largest <= self.reading_v or seconds <= 0:
            return NOTHING
        if self._event is not None:
            return self._integrated(self._event, cell_v, seconds)
        if rounded:
            volts = np.array([float(f"{v:.4e}") for v in volts.tolist()])
        groups = [(v, np.flatnonzero(volts == v).astype(np.int32)) for v in np.unique(volts[volts != 0]).tolist()]
        return self.expose_cells(groups, largest, seconds)

    def calm(self, share: float = SELECTED) -> bool:
        """No cell sees a volt any more; whether an event ended by that. share: of the largest voltage, beyond which a
        cell had a pulse of its own."""
        ends = self._event is not None and self._event.open
        if self._event is not None:
            self._event.end(share)
        return ends

    def _integrated(self, event: Event, cell_v: FloatArray, seconds: float) -> Felt:
        volts, most_v = cell_v.ravel(), BEYOND_ANY_MODEL * self._most_v(cell_v)
        over = np.flatnonzero(np.abs(volts) > most_v.ravel()).astype(np.int32)
        wounds = [(np.array([cell]), float(volts[cell]), self._too_much(float(volts[cell]))) for cell in over.tolist()]
        return Felt(event.stand(cell_v, seconds), self._destroyed(wounds, seconds), 0)

    def _most_v(self, cell_v: FloatArray) -> FloatArray:
        """Largest known amplitude in the direction in which every cell is driven."""
        return np.where(cell_v * self._sign > 0, self._known[1].most_v, self._known[-1].most_v)

    def _too_much(self, volts: float) -> str:
        known_v = self._known[1 if volts * self._sign > 0 else -1].most_v
        return f"{abs(volts):g} V is over {BEYOND_ANY_MODEL:g} times the largest known amplitude, {known_v:g} V"

    def notices(self, cell_v: float, largest_v: float, seconds: float) -> bool:
        """Whether an exposure whose largest |V| is `largest_v` does anything to cells that see `cell_v`."""
        if largest_v <= self.reading_v or seconds <= 0 or not cell_v:
            return False
        if self._event is not None:
            return abs(cell_v) > self.reading_v
        chosen = abs(cell_v) > SELECTED * largest_v
        return chosen or self._found(cell_v * self._sign, seconds, chosen) is not None

    def expose_cells(self, groups: Iterable[tuple[float, IndexArray]], largest_v: float, seconds: float) -> Felt:
        """`expose` for who knows already which cells (flat indices) see which voltage, none of them 0: much faster.

        largest_v: the largest |V| on the chip. Groups that notice nothing may be left out. It is a pulse by itself: the
        lines were at rest before it, and are after it.
        """
        if largest_v <= self.reading_v or seconds <= 0:
            return NOTHING
        if self._event is not None and self.chip.devices.threshold.size > 1:
            cell_v = np.zeros(len(self.chip.u))
            for v, cells in groups:
                cell_v[cells] = v
            found = self._integrated(self._event, cell_v.reshape(self.chip.shape), seconds)
            self.calm()
            return found
        felt, pulsed, wounds, unknown = [], [], [], 0
        for v, cells in groups:
            chosen = abs(v) > SELECTED * largest_v
            answer = self._found(v * self._sign, seconds, chosen)
            if isinstance(answer, Table):
                felt.append((answer, cells, chosen))
                pulsed += [cells] if chosen else []
                unknown += len(cells) if answer is STILL else 0
            elif answer:
                wounds.append((cells, v, answer))
            else:
                unknown += len(cells) if chosen else 0
        self.chip.feel(felt)
        return Felt(np.concatenate(pulsed) if pulsed else NOTHING.pulsed, self._destroyed(wounds, seconds), unknown)

    def _destroyed(self, wounds: list[tuple[IndexArray, float, str]], seconds: float) -> tuple[Wound, ...]:
        found = []
        for cells, volts, why in wounds:
            fresh = cells[~self.chip.devices.shorted[cells]]
            if fresh.size:
                self.chip.destroy(fresh)
            found += [Wound(divmod(int(c), self.chip.shape[1]), volts, seconds, why) for c in fresh]
        return tuple(found)

    def _found(self, towards: float, seconds: float, chosen: bool) -> Table | str | None:
        key = (towards, seconds, chosen)
        if key not in self._tables:
            if len(self._tables) >= KEPT_TABLES:
                self._tables.clear()
            self._tables[key] = self._look_up(*key)
        return self._tables[key]

    def _look_up(self, towards: float, seconds: float, chosen: bool) -> Table | str | None:
        """A table to be felt, why the cell is destroyed, or None for nothing."""
        direction, volts = (1 if towards > 0 else -1), abs(towards)
        known = self._known[direction]
        if volts > BEYOND_ANY_MODEL * known.most_v:
            return self._too_much(towards * self._sign)
        model = self.chip.model
        try:
            found = (model.response if chosen else model.disturb)(direction, volts, seconds)
        except CapabilityMissing:
            level = volts > SELECTED * known.least_v
            return self._beyond(known, volts, seconds) or (STILL if chosen and level else None)
        except OutsideHull:
            found = None
        if found is None:
            return self._beyond(known, volts, seconds)
        return table(found) if chosen or _moves(found) else None

    def _beyond(self, known: Known, volts: float, seconds: float) -> str | None:
        tolerance = self.chip.model.card.tolerance
        if volts > known.most_v * (1 + tolerance.amplitude):
            return f"{volts:g} V is more than the largest known amplitude, {known.most_v:g} V"
        if volts > SELECTED * known.least_v and seconds > known.most_s * (1 + tolerance.width):
            return f"{volts:g} V for {seconds:g} s is longer than the longest known pulse, {known.most_s:g} s"
        return None


def _moves(response: Response) -> bool:
    return bool(response.delta.any() or response.sigma.any())
