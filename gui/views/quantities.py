"""What a map of the array can show of a snapshot, as numbers and words. No Qt.

A value that is not known is nan, never 0; where a quantity cannot be shown at all, `Field.why` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray
from neurobench.runs.screen import si

from ..selection import Cell, name_of

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

PREFIXES = {-5: "f", -4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G"}
IN_USE, NEVER_READ, EXCLUDED = 0, 1, 2
STATES = ("in use", "never read", "excluded")
TOLERANCE = 1e-6  # weights and the pairs that they were computed from differ by rounding only


@dataclass(frozen=True)
class Quantity:
    """One thing that the map can show: `letter` stands on its button. `log`: whether a logarithmic scale has sense."""

    key: str
    letter: str
    title: str
    unit: str
    signed: bool = False
    log: bool = True


QUANTITIES = (
    Quantity("G", "G", "conductance", "S"),
    Quantity("R", "R", "resistance", "Ω"),
    Quantity("I", "I", "current at the read voltage", "A"),
    Quantity("W", "W", "weight of the cell's pair", "S", signed=True, log=False),
    Quantity("dG", "ΔG", "change of the conductance", "S", signed=True, log=False),
    Quantity("age", "age", "time since the cell was read", "s"),
    Quantity("mask", "mask", "which cells are in use", "", log=False),
)
BY_KEY = {one.key: one for one in QUANTITIES}


@dataclass(frozen=True)
class Field:
    """A quantity of every cell [rows, cols] in SI units, nan where it is not known; `why`: why there is nothing."""

    values: FloatArray
    why: str = ""


def field_of(key: str, snapshot: Snapshot, base_s: FloatArray | None = None) -> Field:
    """A quantity of a snapshot. `base_s`: what dG is measured against; None: the first value read in this run."""
    cells = snapshot.cells
    g_s = np.asarray(cells.conductance_s, np.float64)
    if key == "R":
        return Field(_inverse(g_s), _unread(g_s))
    if key == "I":
        volts = read_v(snapshot)
        why = "" if math.isfinite(volts) else "the read voltage of this chip is not declared"
        return Field(g_s * volts, why or _unread(g_s))
    if key == "W":
        return _weights(snapshot)
    if key == "dG":
        return _change(g_s, cells.first_s if base_s is None or base_s.shape != g_s.shape else base_s)
    if key == "age":
        return Field(np.maximum(snapshot.at_s - cells.read_at_s, 0.0), _unread(g_s))
    if key == "mask":
        return Field(states(cells.excluded, g_s).astype(np.float64))
    return Field(g_s, _unread(g_s))


def read_v(snapshot: Snapshot) -> float:
    """The voltage that this chip is read at, as declared."""
    return float(snapshot.about.device.read_voltage_v)


def states(excluded: BoolArray, conductance_s: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """IN_USE, NEVER_READ or EXCLUDED for every cell [rows, cols]."""
    found = np.where(np.isnan(conductance_s), NEVER_READ, IN_USE)
    return np.where(excluded, EXCLUDED, found).astype(np.int8)


def _unread(g_s: FloatArray) -> str:
    return "no cell has been read yet in this run" if bool(np.isnan(g_s).all()) else ""


def _change(g_s: FloatArray, base_s: FloatArray) -> Field:
    change_s = g_s - base_s
    once = "no cell has a value to measure a change against: all were read once" if np.isnan(change_s).all() else ""
    return Field(change_s, _unread(g_s) or once)


def _inverse(g_s: FloatArray) -> FloatArray:
    """Resistance; a conductance that noise made zero or negative has none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.where(g_s > 0, 1 / g_s, np.nan)
    return found


def _weights(snapshot: Snapshot) -> Field:
    """Each cell shows the weight that it is part of: a weight is one cell, or a pair in columns 2j and 2j + 1."""
    shape, weights = snapshot.about.shape, snapshot.weights_s
    nothing = np.full(shape, np.nan)
    if weights is None:
        return Field(nothing, "this run has told no weights yet")
    for found in (weights, weights.T):
        wide = found if snapshot.single_cells or found.shape == shape else np.repeat(found, 2, axis=1)
        if wide.shape[0] <= shape[0] and wide.shape[1] <= shape[1] and _fits(snapshot, wide):
            out = nothing.copy()
            out[: wide.shape[0], : wide.shape[1]] = wide
            return Field(out)
    return Field(nothing, "the weights do not lie side by side in this array: see the view Weights")


def _fits(snapshot: Snapshot, wide: FloatArray) -> bool:
    """Whether pairs of neighbours give these weights; where cells were read again since, nobody can tell."""
    if snapshot.single_cells or wide.shape[1] % 2:
        return wide.shape == snapshot.about.shape
    if wide.shape == (snapshot.about.shape[0], snapshot.about.shape[1] // 2 * 2):
        return True
    g_s = snapshot.cells.conductance_s[: wide.shape[0], : wide.shape[1]]
    difference = g_s[:, 0::2] - g_s[:, 1::2]
    known = np.isfinite(difference)
    close = np.isclose(difference, wide[:, 0::2], rtol=TOLERANCE, atol=0.0)
    return bool(known.any() and close[known].mean() > 0.5)


# ------------------------------------------------------------------------------------------------- scales and words


def scale_of(largest: float, unit: str) -> tuple[float, str]:
    """Factor and prefixed unit that bring a number between 1 and 1000."""
    if not unit or not math.isfinite(largest) or largest <= 0:
        return 1.0, unit
    if unit == "s" and largest >= 1:  # nobody says kiloseconds
        return 1.0, unit
    power = min(max(math.floor(math.log10(largest) / 3 + 1e-9), -5), 3)
    return float(1000.0**-power), PREFIXES[power] + unit


def levels_of(values: FloatArray, *, signed: bool, log: bool) -> tuple[float, float] | None:
    """Ends of a scale that holds all these values; None if there are none. Signed ones are centred at 0."""
    known = values[np.isfinite(values) & (values > 0)] if log else values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    if signed:
        high = max(abs(low), abs(high)) or 1e-12
        return -high, high
    if log:
        return (low / 1.5, high * 1.5) if high <= low * 1.01 else (low, high)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin if low - margin > 0 or low < 0 else 0.0, high + margin


def beyond(values: FloatArray, levels: tuple[float, float]) -> int:
    """How many values lie outside a scale."""
    with np.errstate(invalid="ignore"):
        outside = (values < levels[0] * (1 - 1e-9 * np.sign(levels[0]))) | (values > levels[1] * (1 + 1e-9))
    return int(np.count_nonzero(outside))


def with_sigma(value: float, sigma: float, unit: str) -> str:
    """A number and its standard deviation in one unit: 41.3 ±0.4 µS."""
    if not math.isfinite(value):
        return "never read"
    if not (math.isfinite(sigma) and sigma > 0):
        return si(value, unit)
    factor, prefixed = scale_of(abs(value), unit)
    # as many decimals as the first digit of sigma has, and not more than anybody can read
    decimals = max(-math.floor(math.log10(sigma * factor)), 0)
    if decimals > 4:  # one of them is nothing beside the other
        return f"{si(value, unit)} ±{si(sigma, unit)}"
    return f"{value * factor:.{decimals}f} ±{sigma * factor:.{decimals}f} {prefixed}"


def ago(seconds: float) -> str:
    """How long ago, in words."""
    if not math.isfinite(seconds):
        return ""
    if seconds < 1e-9:
        return "read just now"
    if seconds < 120:
        return f"read {si(seconds, 's')} ago"
    minutes, hours = seconds / 60, seconds / 3600
    return f"read {minutes:.0f} min ago" if minutes < 120 else f"read {hours:.1f} h ago"


def plural(n: int, noun: str) -> str:
    """12 pulses, 1 pulse."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def cell_words(snapshot: Snapshot, cell: Cell, quantity: Quantity, field: Field) -> str:
    """All that is known of one cell, in one line."""
    cells = snapshot.cells
    g_s, sigma_s = float(cells.conductance_s[cell]), float(cells.sigma_s[cell])
    ups, downs = int(cells.ups[cell]), int(cells.downs[cell])
    parts = [name_of(cell), with_sigma(g_s, sigma_s, "S")]
    value = float(field.values[cell])
    if quantity.key in ("R", "I", "W", "dG") and math.isfinite(value):
        parts.insert(1, f"{quantity.letter} {si(value, quantity.unit)}")
    parts.append(plural(ups + downs, "pulse") + (f" ({ups} up, {downs} down)" if ups and downs else ""))
    parts.append("excluded" if cells.excluded[cell] else "ok")
    if math.isfinite(g_s):
        parts.append(ago(max(snapshot.at_s - float(cells.read_at_s[cell]), 0.0)))
    return "   ".join(filter(None, parts))
