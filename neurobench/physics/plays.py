"""Voltages over time on the cells of a chip: what a rate model integrates, and what a replayed curve can answer.

An event lasts from the first volt to the last. What a cell feels in it is one pulse of the cell's own, or one disturb,
with one draw of noise, whether its voltage came in one piece (a waveform) or in many (a bench of instruments):

    event = Event(chip, potentiating_sign)
    event.play(waveforms, law)              or, piece by piece, event.stand(cell_v, seconds)
    pulsed = event.end()

The states move as the voltage comes. The noise is drawn at the end, of the size that a rectangular pulse of as long a
way has: sigma = hypot(step sigma, relative step sigma x way), with the way up and down added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.stimulus import Bias, BoolArray, FloatArray, IndexArray
from neurobench.compiling import compiled
from neurobench.errors import CapabilityMissing, OutsideHull
from neurobench.physics.kernels import Table, table
from neurobench.physics.noise import bits, normal
from neurobench.physics.rates import RateLaw, moved, take

if TYPE_CHECKING:
    from neurobench.bench.stimulus import Shots, Waveforms
    from neurobench.physics.chip import Chip
    from neurobench.physics.drive import Drive
    from neurobench.physics.response import DeviceModel

_S32 = np.uint64(32)
NO_CELLS = np.zeros(0, np.int32)


class Lines(NamedTuple):
    """Voltages of all lines. Lines that carry the same shape from the same time on are one class.

    t_s, v: breakpoints of all shapes, shape k at bounds[k] .. bounds[k + 1]; rows, cols [classes, 2]: (shape, start_s),
    shape -1: grounded; the word lines of class k are row_at[row_ptr[k] : row_ptr[k + 1]], bit lines likewise.
    """

    t_s: FloatArray
    v: FloatArray
    bounds: IndexArray
    rows: FloatArray
    row_ptr: IndexArray
    row_at: IndexArray
    cols: FloatArray
    col_ptr: IndexArray
    col_at: IndexArray

    def cells(self, row_class: int, col_class: int) -> IndexArray:
        """Flat indices of the cells where a word line of one class meets a bit line of another."""
        rows = self.row_at[self.row_ptr[row_class] : self.row_ptr[row_class + 1]]
        cols = self.col_at[self.col_ptr[col_class] : self.col_ptr[col_class + 1]]
        return (rows[:, None] * len(self.col_at) + cols[None, :]).ravel().astype(np.int32)


def lines_of(waveforms: Waveforms) -> Lines:
    """The lines of an array under waveforms."""
    bounds = np.cumsum([0] + [len(shape.t_s) for shape in waveforms.shapes]).astype(np.int32)
    return Lines(
        np.concatenate([shape.t_s for shape in waveforms.shapes]), np.concatenate([s.v for s in waveforms.shapes]),
        bounds, *_classes(waveforms.row_shape, waveforms.row_start_s),
        *_classes(waveforms.col_shape, waveforms.col_start_s),
    )  # fmt: skip


def _classes(index: IndexArray, start_s: FloatArray) -> tuple[FloatArray, IndexArray, IndexArray]:
    both = np.stack([index.astype(np.float64), np.where(index >= 0, start_s, 0.0)], axis=1)
    pairs, which, counts = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    at = np.argsort(which.reshape(-1), kind="stable").astype(np.int32)
    return pairs, np.cumsum(np.append(0, counts)).astype(np.int32), at


class Marks(NamedTuple):
    """What an event has been so far for every cell: way of its state, largest |V|, whether anything was felt."""

    way: FloatArray
    peak_v: FloatArray
    felt: BoolArray


class Event:
    """What the cells of one chip feel from the first volt to the last; see the head of this module.

    potentiating_sign: sign of V_row - V_col that potentiates.
    """

    def __init__(self, chip: Chip, law: RateLaw, potentiating_sign: int) -> None:
        self._chip, self._law, self._sign = chip, law, potentiating_sign
        n = len(chip.u)
        self._marks = Marks(np.zeros(n), np.zeros(n), np.zeros(n, np.bool_))
        self.open = False  # whether something was seen since the last end

    @property
    def felt(self) -> BoolArray:
        """Which cells (flat) have felt something in this event; the event's own array."""
        return self._marks.felt

    def stand(self, cell_v: FloatArray, seconds: float) -> IndexArray:
        """A voltage V_row - V_col [rows, cols] has stood at every cell for a time; gives the cells that it moved."""
        chip = self._begin()
        flat, now = np.ascontiguousarray(cell_v, np.float64).reshape(-1), np.zeros(len(chip.u), np.bool_)
        _stand(
            self._law, self._sign, flat, seconds, chip.u, chip.devices.step, chip.devices.threshold, now, self._marks
        )
        return np.flatnonzero(now).astype(np.int32)

    def play(self, lines: Lines) -> float:
        """A waveform, whole; gives its energy in joule by the conductances before it, nan where I(V) is not known."""
        chip = self._begin()
        ohmic, cubic = _energy_law(chip.model)
        conductance_s = chip.conductance_s().reshape(-1).copy()
        self._begin()
        devices = chip.devices
        energy_j = _play(
            self._law, lines, self._sign, chip.u, devices.step, devices.threshold, conductance_s, devices.shorted,
            ohmic, cubic, self._marks,
        )  # fmt: skip
        return float(energy_j)

    def end(self, share: float = 0.0, own: BoolArray | None = None) -> IndexArray:
        """The last volt is gone: draw the noise, count. Gives the cells (flat) that had a pulse of their own.

        These are `own`, where the caller knows them. Else those that saw more than the threshold of the model and than
        `share` of the largest voltage: what a bench says that does not know how the thresholds of its chip scatter
        (`bench.limits.pulsed_cells`). What another cell has felt was a disturb.
        """
        if not self.open:
            return NO_CELLS
        self.open = False
        chip, marks = self._chip, self._marks
        if own is None:
            own = marks.peak_v > max(share * float(marks.peak_v.max()), self._law.threshold_v)
        noise, model = chip.model.card.noise, chip.model
        absolute = (noise.step_sigma_s or 0.0) / (model.g_max_s - model.g_min_s)
        kinds = (own, marks.felt & ~own), (chip.pulses, chip.disturbs), chip.opened()
        for cells, count, key in zip(*kinds, strict=True):
            _scatter(
                np.flatnonzero(cells), absolute, noise.step_sigma_relative, chip.u, chip.devices.step, count, marks,
                *key,
            )  # fmt: skip
        for mark in marks:
            mark[:] = 0
        return np.flatnonzero(own).astype(np.int32)

    def _begin(self) -> Chip:
        self._chip.opened()
        self.open = True
        return self._chip


def _energy_law(model: DeviceModel) -> tuple[float, float]:
    """(a, b) of I = G V (a + b V^2); nan where it is not known or of another form."""
    law = model.card.write_current
    if law is None or law.law == "sinh":
        return np.nan, np.nan
    ohmic = 1.0 / (1.0 + (law.cubic_per_v2 or 0.0) * model.card.read.voltage_v**2)
    return ohmic, ohmic * (law.cubic_per_v2 or 0.0)


def lowest_threshold_v(chip: Chip) -> float:
    """Largest |V| that moves no cell of a rate chip, in either direction."""
    law = chip.model.rate
    if law is None:
        raise CapabilityMissing(f"device {chip.model.name} has no threshold: it replays pulses (bench rule 14)")
    return law.threshold_v * float(chip.devices.threshold.min())


def fire_by_cell(chip: Chip, shots: Shots, drive: Drive) -> tuple[float, int, int]:
    """Rectangular pulses on a chip whose cells have thresholds of their own: energy in J, pulses on selected cells,
    pulses one after another. Every cell feels what it sees; edges are no levels."""
    assert chip.model.rate is not None
    event, energy_j = Event(chip, chip.model.rate, shots.potentiating_sign), 0.0
    shorted = chip.devices.shorted.reshape(chip.shape)
    for k, repeat in enumerate(shots.repeat.tolist()):
        own, place = _places(shots, k)
        states, side = shots.states(k), 0 if shots.sign[k] > 0 else 1
        cell_v = states.row_v[:, None] - states.col_v[None, :]
        seen_v = np.where(own, cell_v, 0.0) if shots.bias is Bias.ISOLATED else cell_v
        joule_per_s = np.where(shorted, drive.ohmic_per_s[side][place], drive.joule_per_s[side][place])
        for _ in range(repeat):
            energy_j += float(np.sum(chip.conductance_s() * joule_per_s))
            event.stand(seen_v, shots.pulse.width_s)
            event.end(own=own.reshape(-1))
    return energy_j if drive.metered else np.nan, shots.pulses, int(shots.repeat.sum())


def _places(shots: Shots, k: int) -> tuple[BoolArray, NDArray[np.intp]]:
    """Selected cells [rows, cols] of a shot, and the place of every cell as `Drive` counts them."""
    on = np.zeros(shots.shape[0], np.bool_), np.zeros(shots.shape[1], np.bool_)
    on[shots.axis][shots.line[k]] = True
    on[1 - shots.axis][shots.cross[shots.indptr[k] : shots.indptr[k + 1]]] = True
    along, across = (on[0][:, None], on[1][None, :]) if shots.axis == 0 else (on[1][None, :], on[0][:, None])
    return along & across, (3 - 2 * along - across).astype(np.intp)


# -- devices that replay pulses ---------------------------------------------------------------------------------------


class Stretch(NamedTuple):
    """A constant voltage V_row - V_col at some cells (flat): when it begins, and for how long, in seconds."""

    begin_s: float
    seconds: float
    volts: float
    cells: IndexArray


def stretches(lines: Lines, level_v: float, width: int) -> list[Stretch]:
    """What waveforms are to a device that knows rectangular pulses, in the order of their ends; what stays within
    `level_v` is left out. width: bit lines. Raises CapabilityMissing where a voltage beyond it is not constant."""
    found = []
    for r in range(len(lines.rows)):
        for c in range(len(lines.cols)):
            pieces = np.empty((_most(lines), 4))
            n = walk(lines, lines.rows[r], lines.cols[c], pieces)
            loud = pieces[:n][np.abs(pieces[:n, 2:]).max(axis=1) > level_v] if n else pieces[:0]
            if len(loud):
                cells = lines.cells(r, c)
                found += [Stretch(*one, cells) for one in _constant(loud, divmod(int(cells[0]), width))]
    return sorted(found, key=lambda one: (one.begin_s + one.seconds, one.begin_s))


def _constant(pieces: FloatArray, cell: tuple[int, int]) -> list[tuple[float, float, float]]:
    """Begin, duration, volts of constant pieces, joined where one goes on as the other."""
    out: list[tuple[float, float, float]] = []
    for begin_s, seconds, a, b in pieces.tolist():
        if seconds <= 1e-9 * begin_s:  # two breakpoints of one instant that rounding has set apart
            continue
        if a != b:
            raise CapabilityMissing(
                f"the voltage at cell {cell} goes from {a:g} V to {b:g} V in {seconds:g} s, from {begin_s:g} s on: a "
                "device that replays measured pulses answers constant voltages only; other shapes need a rate (ODE) "
                "model ([chip] model = 'threshold-exponential', bench rule 14)"
            )
        if out and out[-1][2] == a and abs(out[-1][0] + out[-1][1] - begin_s) <= 1e-9 * begin_s:
            begin_s, seconds = out[-1][0], begin_s + seconds - out[-1][0]
            out.pop()
        out.append((begin_s, seconds, a))
    return out


def replayed(
    model: DeviceModel, lines: Lines, potentiating_sign: int, level_v: float
) -> list[tuple[Table, IndexArray, bool]]:
    """The pulses of waveforms for `Chip.feel`, in order. Raises OutsideHull or CapabilityMissing with cell, volts and
    time where the device does not know one."""
    known: dict[tuple[float, float], Table] = {}
    out = []
    for one in stretches(lines, level_v, len(lines.col_at)):
        towards = one.volts * potentiating_sign
        if (towards, one.seconds) not in known:
            try:
                known[towards, one.seconds] = table(model.response(1 if towards > 0 else -1, abs(towards), one.seconds))
            except (OutsideHull, CapabilityMissing) as refused:
                cell = divmod(int(one.cells[0]), len(lines.col_at))
                raise type(refused)(
                    f"the waveforms put {one.volts:g} V on cell {cell} for {one.seconds:g} s, from {one.begin_s:g} s "
                    f"on: {refused} (bench rule 14)"
                ) from None
        out.append((known[towards, one.seconds], one.cells, True))
    return out


def rises(lines: Lines, potentiating_sign: int, level_v: float) -> IndexArray:
    """Potentiating pulses [rows * cols] that waveforms are to every cell; arguments as in `replayed`."""
    width = len(lines.col_at)
    up = np.zeros(len(lines.row_at) * width, np.int32)
    for one in stretches(lines, level_v, width):
        if one.volts * potentiating_sign > 0:
            up[one.cells] += 1
    return up


# -- kernels ----------------------------------------------------------------------------------------------------------


@compiled
def _feel(law: RateLaw, by: float, cell: int, u: Any, step: Any, marks: Marks) -> None:  # pragma: no cover - compiled
    """One dose on one cell."""
    if step[cell] == 0:
        return
    after = moved(law, u[cell], by * step[cell])
    marks.way[cell] += abs(after - u[cell])
    marks.felt[cell] = True
    u[cell] = after


@compiled
def _stand(
    law: RateLaw, sign: int, cell_v: Any, seconds: float, u: Any, step: Any, threshold: Any, now: Any, marks: Marks
) -> None:  # pragma: no cover - compiled
    """A constant voltage at every cell."""
    run = np.zeros(2)
    for cell in range(cell_v.size):
        volts = sign * cell_v[cell]
        marks.peak_v[cell] = max(marks.peak_v[cell], abs(volts))
        if take(law, volts, volts, seconds, threshold[cell if threshold.size > 1 else 0], run, 0):
            _feel(law, run[0], cell, u, step, marks)
            now[cell] = step[cell] != 0


@compiled
def _piece(
    lines: Lines, line: Any, k: int, now_s: float, next_s: float
) -> tuple[float, float]:  # pragma: no cover - compiled
    """Voltages of one line just after one instant and just before the next one; k: its first breakpoint after now."""
    shape = int(line[0])
    if shape < 0 or k == lines.bounds[shape] or k == lines.bounds[shape + 1]:
        return 0.0, 0.0
    a_s, b_s, a, b = lines.t_s[k - 1] + line[1], lines.t_s[k] + line[1], lines.v[k - 1], lines.v[k]
    first = a if a_s == now_s else a + (b - a) * ((now_s - a_s) / (b_s - a_s))
    return first, b if b_s == next_s else a + (b - a) * ((next_s - a_s) / (b_s - a_s))


@compiled
def _span(lines: Lines, line: Any) -> tuple[int, int]:  # pragma: no cover - compiled
    shape = int(line[0])
    return (lines.bounds[shape], lines.bounds[shape + 1]) if shape >= 0 else (0, 0)


@compiled
def walk(lines: Lines, row: Any, col: Any, out: Any) -> int:  # pragma: no cover - compiled
    """Straight pieces of the voltage V_row - V_col of a pair of lines into out[n, 4]: begin in s, duration in s, volts
    at both ends. Pieces of 0 V are left out. Gives how many there are."""
    (i, i_end), (j, j_end), n, now_s = _span(lines, row), _span(lines, col), 0, -np.inf
    while i < i_end or j < j_end:
        row_s = lines.t_s[i] + row[1] if i < i_end else np.inf
        col_s = lines.t_s[j] + col[1] if j < j_end else np.inf
        next_s = min(row_s, col_s)
        if now_s >= 0:
            a, b = _piece(lines, row, i, now_s, next_s)
            c, d = _piece(lines, col, j, now_s, next_s)
            if a != c or b != d:
                out[n, 0], out[n, 1], out[n, 2], out[n, 3] = now_s, next_s - now_s, a - c, b - d
                n += 1
        now_s = next_s
        while i < i_end and lines.t_s[i] + row[1] <= now_s:
            i += 1
        while j < j_end and lines.t_s[j] + col[1] <= now_s:
            j += 1
    return n


@compiled
def _most(lines: Lines) -> int:  # pragma: no cover - compiled
    """Pieces that a pair of lines can have."""
    longest = 0
    for k in range(lines.bounds.size - 1):
        longest = max(longest, lines.bounds[k + 1] - lines.bounds[k])
    return 2 * longest + 2


@compiled
def _doses(law: RateLaw, sign: int, pieces: Any, n: int, factor: float, runs: Any) -> int:  # pragma: no cover
    found = 0
    for k in range(n):
        found = take(law, sign * pieces[k, 2], sign * pieces[k, 3], pieces[k, 1], factor, runs, found)
    return found


@compiled
def _moments(pieces: Any, n: int) -> tuple[float, float, float]:  # pragma: no cover - compiled
    """Integrals of V^2 and V^4 over time, and the largest |V|, of straight pieces."""
    second = fourth = peak = 0.0
    for k in range(n):
        a, b, seconds = pieces[k, 2], pieces[k, 3], pieces[k, 1]
        second += seconds * (a * a + a * b + b * b) / 3
        fourth += seconds * (a**4 + a**3 * b + a * a * b * b + a * b**3 + b**4) / 5
        peak = max(peak, abs(a), abs(b))
    return second, fourth, peak


@compiled
def _play(
    law: RateLaw, lines: Lines, sign: int, u: Any, step: Any, threshold: Any, conductance_s: Any, shorted: Any,
    ohmic: float, cubic: float, marks: Marks,
) -> float:  # pragma: no cover  # fmt: skip
    """Whole waveforms on all cells; gives their energy in J (nan: not known)."""
    most, width, energy_j = _most(lines), lines.col_at.size, 0.0
    pieces, runs, found = np.empty((most, 4)), np.empty(2 * most + 2), 0
    for r in range(lines.rows.shape[0]):
        for c in range(lines.cols.shape[0]):
            n = walk(lines, lines.rows[r], lines.cols[c], pieces)
            second, fourth, peak = _moments(pieces, n)
            joule_per_s = ohmic * second + cubic * fourth if n else 0.0
            if threshold.size == 1:
                found = _doses(law, sign, pieces, n, threshold[0], runs)
            for i in lines.row_at[lines.row_ptr[r] : lines.row_ptr[r + 1]]:
                for j in lines.col_at[lines.col_ptr[c] : lines.col_ptr[c + 1]]:
                    cell = i * width + j
                    energy_j += conductance_s[cell] * (second if shorted[cell] else joule_per_s)
                    marks.peak_v[cell] = max(marks.peak_v[cell], peak)
                    if threshold.size > 1:
                        found = _doses(law, sign, pieces, n, threshold[cell], runs)
                    for k in range(found):
                        _feel(law, runs[k], cell, u, step, marks)
    return energy_j


@compiled
def _scatter(
    cells: Any, absolute: float, relative: float, u: Any, step: Any, count: Any, marks: Marks, k0: int, k1: int
) -> None:  # pragma: no cover - compiled
    """End of an event for these cells: noise keyed by (cell, count) where something was felt, and the count."""
    for cell in cells:
        sigma = np.hypot(step[cell] * absolute, relative * marks.way[cell])
        if marks.felt[cell] and sigma > 0:
            word = bits(np.uint64(k0), np.uint64(k1), (np.uint64(count[cell]) << _S32) | np.uint64(cell))
            u[cell] = min(max(u[cell] + sigma * normal(word), 0.0), 1.0)
        count[cell] += np.uint32(1)
