"""What a stimulus does to lines and cells, as numbers and words. No Qt.

It is worked out from the stimulus alone: which cells are meant, which lines are driven to what, who else sees a part of
the volts. In which order the shots come is the bench's business and makes no difference to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurobench.bench.stimulus import FloatArray, IntArray, PulseBatch, Waveforms, levels
from neurobench.learning.schemes import Spike, cell_v, line_v
from neurobench.runs.history import About, Cells

CELL, VICTIMS = "cell", "victim"  # whose limits there are
PAIRS = 400  # of row classes and column classes that waveforms are looked at for


@dataclass(frozen=True)
class Curve:
    """Volts over time of a line or cell, or of several that see the same."""

    words: str
    t_s: FloatArray
    v: FloatArray


@dataclass(frozen=True)
class Driven:
    """A stimulus seen from the array.

    pulses[rows, cols]: of each cell, > 0 potentiates; worst_v[rows, cols]: the largest volts that a cell sees, V_row -
    V_col with their sign; row_v and col_v: the volts that a line is driven to, by line (several: in different shots).
    `curves`: one pulse, or the waveforms, of the cell that sees most and of its lines.
    """

    pulses: IntArray
    worst_v: FloatArray
    row_v: Mapping[int, tuple[float, ...]]
    col_v: Mapping[int, tuple[float, ...]]
    curves: tuple[Curve, ...]
    words: str

    @property
    def victims(self) -> Any:
        """Which cells [rows, cols] see volts without being meant."""
        return (self.pulses == 0) & (np.abs(self.worst_v) > 1e-12)

    @property
    def victim_v(self) -> float:
        """The largest volts at a cell that is not meant."""
        return float(np.abs(self.worst_v[self.victims]).max(initial=0.0))


def driven(stimulus: PulseBatch | Waveforms, potentiating_sign: int = 1) -> Driven:
    """What a stimulus does."""
    if isinstance(stimulus, PulseBatch):
        return _batch(stimulus, potentiating_sign)
    return _waveforms(stimulus, potentiating_sign)


def _batch(batch: PulseBatch, polarity: int) -> Driven:
    counts, volts = np.asarray(batch.counts), batch.pulse.amplitude_v
    worst_v = np.zeros(counts.shape)
    row_v: dict[int, tuple[float, ...]] = {}
    col_v: dict[int, tuple[float, ...]] = {}
    for sign in (1, -1):
        meant = counts * sign > 0
        if not meant.any():
            continue
        level = levels(batch.bias, sign * polarity * volts)
        rows, cols = np.flatnonzero(meant.any(axis=1)), np.flatnonzero(meant.any(axis=0))
        on_row, on_col, on_none = level.victims_v
        seen = np.full(counts.shape, on_none)
        seen[:, cols] = _larger(seen[:, cols], on_col)
        seen[rows] = _larger(seen[rows], on_row)
        worst_v = np.where(meant, level.cell_v, np.where(np.abs(seen) > np.abs(worst_v), seen, worst_v))
        for into, lines, line in ((row_v, rows, level.selected_row_v), (col_v, cols, level.selected_col_v)):
            for one in lines.tolist():
                into[one] = (*into.get(one, ()), line) if line else into.get(one, ())
    for sign in (1, -1):  # what is meant in a later shot must not be hidden by what it suffers in an earlier one
        worst_v[counts * sign > 0] = sign * polarity * volts
    return Driven(counts, worst_v, row_v, col_v, _pulse_curves(batch, polarity), _batch_words(batch))


def _larger(seen_v: FloatArray, other_v: float) -> FloatArray:
    return np.where(np.abs(seen_v) >= abs(other_v), seen_v, other_v)


def _pulse_curves(batch: PulseBatch, polarity: int) -> tuple[Curve, ...]:
    """One pulse: at the cell, on its row and column, at the victim that sees most."""
    if not batch.counts.any():
        return ()
    sign = 1 if (batch.counts > 0).any() else -1
    level, pulse = levels(batch.bias, sign * polarity * batch.pulse.amplitude_v), batch.pulse
    t_s = np.cumsum([0.0, pulse.rise_s, pulse.width_s, pulse.fall_s])
    victim_v = max(level.victims_v, key=abs)
    named = (("cell", level.cell_v), ("row", level.selected_row_v), ("column", level.selected_col_v),
             ("victims", victim_v))  # fmt: skip
    return tuple(Curve(words, t_s, np.array([0.0, volts, volts, 0.0])) for words, volts in named if volts)


def _batch_words(batch: PulseBatch) -> str:
    ups, downs = int((batch.counts > 0).sum()), int((batch.counts < 0).sum())
    told = [f"{n} cell{'s' * (n != 1)} {what}" for n, what in ((ups, "up"), (downs, "down")) if n]
    return f"{' and '.join(told) or 'no cell'}, {batch.bias.value} select"


def _waveforms(one: Waveforms, polarity: int) -> Driven:
    """Lines that carry the same shape from the same time on are looked at once."""
    row_class, row_of = _classes(one.row_shape, one.row_start_s)
    col_class, col_of = _classes(one.col_shape, one.col_start_s)
    seen = np.zeros((len(row_class), len(col_class)))
    if seen.size <= PAIRS:
        for r, row in enumerate(row_class):
            for c, col in enumerate(col_class):
                seen[r, c] = _extreme(cell_v(one, row, col))
    worst_v: FloatArray = seen[np.ix_(row_of, col_of)]
    most = np.unravel_index(np.abs(worst_v).argmax(), worst_v.shape)
    meant = (one.row_shape >= 0)[:, None] & (one.col_shape >= 0)
    row_v = {n: (_extreme(line_v(one, "pre", n)),) for n in np.flatnonzero(one.row_shape >= 0).tolist()}
    col_v = {n: (_extreme(line_v(one, "post", n)),) for n in np.flatnonzero(one.col_shape >= 0).tolist()}
    pulses = np.where(meant, np.sign(polarity * worst_v), 0).astype(np.int8)
    rows, cols = (f"{len(of)} {what}{'s' * (len(of) != 1)}" for of, what in ((row_v, "row"), (col_v, "column")))
    words = f"waveforms on {rows} and {cols}"
    return Driven(pulses, worst_v, row_v, col_v, _wave_curves(one, int(most[0]), int(most[1])), words)


def _wave_curves(one: Waveforms, row: int, col: int) -> tuple[Curve, ...]:
    named = (("cell", cell_v(one, row, col)), (f"row {row}", line_v(one, "pre", row)),
             (f"column {col}", line_v(one, "post", col)))  # fmt: skip
    return tuple(Curve(words, spike.t_s, spike.v) for words, spike in named if spike.v.any())


def _classes(shape: Any, start_s: FloatArray) -> tuple[list[int], Any]:
    """One line of each kind, and of which kind every line is."""
    lines = np.stack([np.asarray(shape, np.float64), np.where(np.asarray(shape) >= 0, start_s, 0.0)], axis=1)
    _, first, which = np.unique(lines, axis=0, return_index=True, return_inverse=True)
    return first.tolist(), which.reshape(-1)


def _extreme(spike: Spike) -> float:
    return float(spike.v[np.abs(spike.v).argmax()])


def polarity_of(about: About) -> int | None:
    """The sign of V_row - V_col that potentiates this chip, where the run file says it."""
    told = about.chip.get("polarity", "")
    return {"V_row > V_col potentiates": 1, "V_row < V_col potentiates": -1}.get(told)


def limit_lines(limits: Mapping[str, Any]) -> dict[str, float]:
    """The limits for cells in volts, by name; the victims' is half of the cells' where nobody said another."""
    cell_v = limits.get("max_cell_v")
    if not isinstance(cell_v, int | float):
        return {}
    victim_v = limits.get("max_victim_v")
    return {CELL: float(cell_v), VICTIMS: float(cell_v / 2 if victim_v is None else victim_v)}


def lifetime_words(about: About, cells: Cells) -> str:
    """How much of the life of the most used cell is spent."""
    used = about.pulses_used + cells.ups + cells.downs
    if not np.isfinite(about.pulses_allowed).any():
        return f"no pulse budget; most pulses of a cell in its life: {int(used.max(initial=0)):,}"
    share = used / np.maximum(about.pulses_allowed, 1)
    row, col = np.unravel_index(int(np.argmax(share)), share.shape)
    of = f"{int(used[row, col]):,} of {int(about.pulses_allowed[row, col]):,} pulses"
    return f"lifetime used: {100 * share[row, col]:.3g} % at W{row} B{col} ({of})"
