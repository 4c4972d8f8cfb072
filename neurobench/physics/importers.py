"""Other people's curve files -> a device card, with a report of what was read and what was odd about it.

Known kinds: the pulse log of the LSMO/Gaq3 bench (`Number of Pulses: ...`), the two Y-Flash texts (`(U2,...`),
`pulse_number,conductance` tables, and plain one- or two-column CSV with or without a header line. Nothing is repaired
in silence: a value that cannot be a conductance is an error with file and line, and every choice made stands in the
report.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from neurobench.errors import CurveError
from neurobench.physics.card import (
    MAX_CONDUCTANCE_S,
    Curve,
    DeviceCard,
    DirectionName,
    Noise,
    ReadProtocol,
    Spread,
    WriteCurrent,
    explain,
)
from neurobench.physics.fit import mean_curve, mean_train, sinh_v0, split_noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from neurobench.physics.response import FloatArray

Line = tuple[int, str]

MOST_BYTES = 50_000_000  # a million pulses; what is larger is no curve, and would fill the memory
DECIMAL = re.compile(r"\d+\.\d+([eE][+-]?\d+)?")
# Units that a header may name and that are not siemens. ms is a time: only a capital S is a conductance.
OTHER_UNITS = re.compile(r"(?:(?<![A-Za-zµμ])|(?<=_))([pnuµμmkM]S|(?:(?<=current_)|(?<=[(\[]))[pnuµμm]?A)(?![A-Za-z])")


@dataclass(frozen=True)
class ImportReport:
    """What an import gave: the card, what to tell the user, and the arrays behind it (for plots and checks)."""

    card: DeviceCard
    lines: tuple[str, ...]
    arrays: dict[str, FloatArray]


@dataclass(frozen=True)
class ImportOptions:
    """What a file does not say and its owner may.

    amplitude_v, width_s: the write pulse. direction: of a one-column file. window_s: conductances [S] onto which the
    lowest and the highest value of a file in arbitrary units are mapped. name, source: of the card.
    """

    name: str | None = None
    source: str | None = None
    amplitude_v: float | None = None
    width_s: float | None = None
    direction: DirectionName | None = None
    window_s: tuple[float, float] | None = None


@dataclass
class _Draft:
    """What a reader has found so far; becomes the card and the report."""

    path: Path
    options: ImportOptions
    lines: list[str] = field(default_factory=list)
    arrays: dict[str, FloatArray] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    read: ReadProtocol = field(default_factory=ReadProtocol)
    spread: Spread = field(default_factory=Spread)
    write_current: WriteCurrent | None = None
    noise: Noise | None = None
    notes: str = ""

    def add(
        self, direction: DirectionName, points_s: FloatArray, amplitude_v: float | None, width_s: float | None
    ) -> None:
        """One curve; what the owner declared wins over what the file says."""
        volts = self.options.amplitude_v if self.options.amplitude_v is not None else amplitude_v
        width = self.options.width_s if self.options.width_s is not None else width_s
        values = tuple(points_s.tolist())
        self.curves.append(Curve(direction=direction, amplitude_v=volts, width_s=width, conductance_s=values))
        self.arrays[f"{direction}_s"] = points_s
        down = int(np.sum(np.diff(points_s) * (1 if direction == "potentiate" else -1) < 0))
        self.lines.append(
            f"{direction}: {points_s.size} points, {points_s[0]:.4g} -> {points_s[-1]:.4g} S (range "
            f"{points_s.min():.4g} .. {points_s.max():.4g} S), {down} of {points_s.size - 1} steps go the other way"
        )
        if points_s.min() == points_s.max():
            self.lines.append(f"{direction}: every point is {points_s[0]:.4g} S: no pulse moves this device")
        missing = " and ".join(k for k, v in (("amplitude", volts), ("width", width)) if v is None)
        if missing:
            self.lines.append(
                f"{direction}: {missing} not stated in the file; any {missing} is taken as the measured one"
            )

    def finish(self) -> ImportReport:
        """The card with its noise split."""
        noise, text = (self.noise, []) if self.noise is not None else _noise(self.curves)
        card = DeviceCard(
            name=self.options.name or re.sub(r"[^A-Za-z0-9._-]+", "-", self.path.stem).strip("-._") or "curve",
            title=f"measured curve {self.path.name}",
            source=self.options.source or f"imported from {self.path.name}; add the citation here",
            notes=self.notes,
            model="measured",
            read=self.read,
            noise=noise,
            spread=self.spread,
            write_current=self.write_current,
            curve=tuple(self.curves),
        )
        return ImportReport(card, (*self.lines, *text), self.arrays)


def import_curve(path: Path, options: ImportOptions | None = None) -> ImportReport:
    """Read a curve file of any known kind; CurveError names the file and the line."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise CurveError(f"{path} is not a file")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise CurveError(
                f"{path}: {size / 1e6:.0f} MB; a curve is a table of pulses and is read up to {MOST_BYTES / 1e6:.0f} MB"
            )
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a mark at the beginning
    except (OSError, UnicodeDecodeError) as error:
        raise CurveError(f"{path}: cannot read it as a text file: {error}") from None
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise CurveError(f"{path}: the file is empty; a curve needs at least two conductances")
    draft = _Draft(path, options or ImportOptions())
    kind, reader = _kind(lines[0][1])
    draft.lines.append(f"{path.name}: read as {kind}")
    try:
        reader(draft, lines)
        return draft.finish()
    except ValidationError as error:  # a declared option that no card may hold
        raise explain(error, str(path), DeviceCard) from None


def _kind(first: str) -> tuple[str, Callable[[_Draft, list[Line]], None]]:
    if first.startswith("Number of Pulses"):
        return "pulse log", _read_log
    if first.startswith("(U") and "tprog:" in first:
        return "Y-Flash cycle-to-cycle text", _read_cycles
    if first.startswith("(U"):
        return "Y-Flash device-to-device text", _read_devices
    if re.match(r"pulse[ _]?number\s*,", first, re.IGNORECASE):
        return "pulse number, conductance table", _read_table
    return "CSV columns", _read_columns


def _noise(curves: list[Curve]) -> tuple[Noise, list[str]]:
    splits = [split_noise(c.points(), mean_curve(c.points(), c.sign)) for c in curves]
    read_s = math.sqrt(float(np.mean([s.read_sigma_s**2 for s in splits])))
    step_s = math.sqrt(float(np.mean([s.step_sigma_s**2 for s in splits])))
    text = [
        f"{c.direction}: scatter about the mean curve, {s.steps} steps, lag-1 correlation {s.lag1:+.2f}: "
        f"read noise {s.read_sigma_s:.3g} S, step noise {s.step_sigma_s:.3g} S"
        for c, s in zip(curves, splits, strict=True)
    ]
    return Noise(read_sigma_s=read_s, step_sigma_s=step_s), text


# ---- numbers -----------------------------------------------------------------------------------------------------


def _number(text: str, path: Path, line: int) -> float:
    """A number as instruments write it (`+001.817E-03`); anything else is an error, NaN and infinity too."""
    try:
        value = float(text)
    except ValueError:
        hint = "; columns are separated by commas" if ";" in text or "\t" in text.strip() else ""
        raise CurveError(f"{path}:{line}: {text.strip()[:40]!r} is not a number{hint}") from None
    if not math.isfinite(value):
        raise CurveError(f"{path}:{line}: {text.strip()!r} is not a finite number; remove the point or the curve")
    return value


def _conductance(value: float, path: Path, line: int) -> float:
    if not 0 < value <= MAX_CONDUCTANCE_S:
        raise CurveError(
            f"{path}:{line}: {value:g} S is not a conductance in (0, {MAX_CONDUCTANCE_S:g} S]; "
            "if the file is in arbitrary units, declare the window in siemens that its range stands for (window_s)"
        )
    return value


def _check_header(draft: _Draft, number: int, header: str) -> None:
    """A header that names another unit than siemens is believed, unless its owner says what the values stand for."""
    where = f"{draft.path}:{number}: header {header!r} announces"
    if re.search(r"ohm|resistance", header, re.IGNORECASE):
        raise CurveError(f"{where} resistances; give conductances in S")
    other = OTHER_UNITS.search(header)
    if other is not None and draft.options.window_s is None:
        raise CurveError(
            f"{where} {other[1]}; give conductances in S, or declare the window in siemens that the values stand for"
        )


def _check_decimal_commas(path: Path, rows: list[Line]) -> None:
    """`1,5e-6` is two columns to us: taken as such it would be a device of 1 S."""
    joined = [re.sub(r"\s*,\s*", ".", line) for _, line in rows]
    if joined and all(DECIMAL.fullmatch(text) and 0 < float(text) <= MAX_CONDUCTANCE_S for text in joined):
        raise CurveError(
            f"{path}:{rows[0][0]}: {rows[0][1]!r} is two columns here; if its comma is a decimal one, write a point"
        )


def _is_header(line: str) -> bool:
    try:
        [float(part) for part in line.split(",") if part.strip()]
    except ValueError:
        return True
    return False


# ---- CSV ---------------------------------------------------------------------------------------------------------


def _read_columns(draft: _Draft, lines: list[Line]) -> None:
    """One column = one curve; two columns = potentiation and depression, each a train from its first row."""
    header = lines[0][1] if _is_header(lines[0][1]) else ""
    _check_header(draft, lines[0][0], header)
    rows = lines[1:] if header else lines
    _check_decimal_commas(draft.path, [row for row in rows if "," in row[1]])
    columns = _columns(draft.path, rows)
    if len(columns) > 2:
        raise CurveError(f"{draft.path}: {len(columns)} columns; a curve file has one (a train) or two (up, down)")
    columns = _in_siemens(draft, columns)
    if len(columns) == 1:
        directions: tuple[DirectionName, ...] = (draft.options.direction or _trend(columns[0]),)
    else:
        directions = ("potentiate", "depress")
    for direction, column in zip(directions, columns, strict=True):
        draft.add(direction, np.array([value for _, value in column]), None, None)


def _columns(path: Path, lines: list[Line]) -> list[list[tuple[int, float]]]:
    rows = [(n, [part.strip() for part in line.split(",")]) for n, line in lines]
    if len(rows) < 2:
        raise CurveError(f"{path}: {len(rows)} data rows; a curve needs at least two conductances")
    width = len(rows[0][1])
    for n, row in rows:
        if len(row) != width:
            raise CurveError(f"{path}:{n}: {len(row)} columns where the first row has {width}")
    return [_column(path, [(n, row[k]) for n, row in rows]) for k in range(width)]


def _column(path: Path, cells: list[Line]) -> list[tuple[int, float]]:
    """One column; a shorter one may end early (trailing empty cells), a hole inside is an error."""
    while cells and not cells[-1][1]:
        cells = cells[:-1]
    if len(cells) < 2:
        raise CurveError(f"{path}: a column with {len(cells)} values; a curve needs at least two conductances")
    return [(n, _number(text or "empty field", path, n)) for n, text in cells]


def _in_siemens(draft: _Draft, columns: list[list[tuple[int, float]]]) -> list[list[tuple[int, float]]]:
    """Check siemens, or map arbitrary units; all columns share one unit, so one mapping."""
    window = draft.options.window_s
    if window is None:
        return [[(n, _conductance(value, draft.path, n)) for n, value in column] for column in columns]
    values = [value for column in columns for _, value in column]
    low, high = min(values), max(values)
    if not (0 < window[0] < window[1] <= MAX_CONDUCTANCE_S and low < high):
        raise CurveError(f"{draft.path}: cannot map {low:g} .. {high:g} onto {window[0]:g} .. {window[1]:g} S")
    draft.lines.append(f"arbitrary units: {low:g} .. {high:g} stand for {window[0]:g} .. {window[1]:g} S, as declared")
    scale = (window[1] - window[0]) / (high - low)
    return [[(n, window[0] + (value - low) * scale) for n, value in column] for column in columns]


def _trend(column: list[tuple[int, float]]) -> DirectionName:
    values = np.array([value for _, value in column])
    return "potentiate" if np.polyfit(np.arange(values.size), values / values.max(), 1)[0] >= 0 else "depress"


def _read_table(draft: _Draft, lines: list[Line]) -> None:
    """`pulse_number,conductance`: resampled to whole pulses; a depression table may be stored in rising order."""
    _check_header(draft, lines[0][0], lines[0][1].partition(",")[2])
    columns = _columns(draft.path, lines[1:])
    if len(columns) != 2:
        raise CurveError(f"{draft.path}:{lines[0][0]}: {len(columns)} columns; expected pulse_number,conductance")
    pulses, values = columns
    for (_, before), (n, after) in pairwise(pulses):
        if after <= before:
            raise CurveError(f"{draft.path}:{n}: pulse number {after:g} follows {before:g}; the rows must ascend")
    (values,) = _in_siemens(draft, [values])
    if len(values) != len(pulses):
        raise CurveError(f"{draft.path}: {len(pulses)} pulse numbers, but {len(values)} conductances")
    x, y = np.array([v for _, v in pulses]), np.array([v for _, v in values])
    grid = np.arange(math.ceil(x[0]), math.floor(x[-1]) + 1.0)
    points_s = np.interp(grid, x, y)
    if grid.size < 2:
        raise CurveError(f"{draft.path}: pulse numbers {x[0]:g} .. {x[-1]:g} span less than one whole pulse")
    draft.lines.append(
        f"{x.size} points at pulse {x[0]:g} .. {x[-1]:g}, resampled to {grid.size} whole pulses (neighbours share "
        "samples: the split below counts part of the read noise as step noise)"
    )
    named_depression = re.search(r"ltd|depress|reset|erase", draft.path.stem, re.IGNORECASE) is not None
    direction: DirectionName = draft.options.direction or ("depress" if named_depression else _trend(values))
    if direction == "depress" and _trend(values) == "potentiate":
        points_s = points_s[::-1].copy()
        draft.lines.append("a depression table stored in rising order: its pulse axis runs backwards; turned round")
    draft.arrays["table_pulse"], draft.arrays["table_s"] = x, y
    draft.add(direction, points_s, None, None)


# ---- the pulse log -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LogRow:
    line: int
    time_s: float
    volts: float
    amps: float
    back_amps: float | None
    ohms: float


def _read_log(draft: _Draft, lines: list[Line]) -> None:
    """The log of the LSMO/Gaq3 bench: a write row, a 0 V row and a read row of both polarities per pulse."""
    start = _table_start(draft.path, lines)
    header = dict(_header_entry(line) for _, line in lines[:start])
    rows = [_log_row(draft.path, n, line) for n, line in lines[start + 1 :]]
    reads = [row for row in rows if row.back_amps is not None]
    writes = [row for row in rows if row.back_amps is None and row.volts != 0]
    if len(reads) < 2 or len(writes) != len(reads):
        raise CurveError(f"{draft.path}: {len(writes)} write and {len(reads)} read rows; expected equally many, >= 2")
    conductance_s = np.array([1 / _ohms(draft.path, row) for row in reads])
    in_pulse_s = np.array([1 / _ohms(draft.path, row) for row in writes])
    on_v = _header_number(draft.path, header, "ON Voltage (V)")
    width_s = _header_number(draft.path, header, "tON (ms)") * 1e-3
    draft.arrays["in_pulse_s"] = in_pulse_s
    _log_timing(draft, writes, reads)
    _log_currents(draft, reads, conductance_s)
    _log_write_current(draft, conductance_s, in_pulse_s, on_v)
    if not all(math.isclose(row.volts, on_v) for row in writes[1:]):
        raise CurveError(f"{draft.path}: the write rows do not all show the header's ON voltage {on_v:g} V")
    draft.lines.append(
        f"width: the header says tON = {width_s:g} s and is used; the published description of this curve says 50 ms"
    )
    draft.lines.append(f"the first write is {writes[0].volts:g} V (initial state) and belongs to no curve")
    zero = sum(row.ohms == 0 for row in rows)
    draft.lines.append(f"{zero} rows at 0 V with R = 0 are idle states, not conductances; left out")
    draft.add(draft.options.direction or "potentiate", conductance_s, on_v, width_s)


def _table_start(path: Path, lines: list[Line]) -> int:
    for k, (_, line) in enumerate(lines):
        if line.startswith("Time stamp"):
            return k
    raise CurveError(f"{path}: no `Time stamp (s), Voltage (V), ...` line; not a pulse log")


def _header_entry(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _header_number(path: Path, header: dict[str, str], key: str) -> float:
    if key not in header:
        raise CurveError(f"{path}: the header has no entry {key!r}")
    return _number(header[key], path, 1 + list(header).index(key))


def _log_row(path: Path, n: int, line: str) -> _LogRow:
    cells = line.split(",")
    if len(cells) != 6:
        raise CurveError(f"{path}:{n}: {len(cells)} columns; a row of the log has 6")
    back = None if not cells[4].strip() else _number(cells[4], path, n)
    time_s, volts, amps, ohms = (_number(cells[k], path, n) for k in (0, 1, 2, 5))
    return _LogRow(n, time_s, volts, amps, back, ohms)


def _ohms(path: Path, row: _LogRow) -> float:
    if row.ohms <= 0:
        raise CurveError(f"{path}:{row.line}: resistance {row.ohms:g} Ohm in a row that is not at 0 V")
    _conductance(1 / row.ohms, path, row.line)
    return row.ohms


def _log_timing(draft: _Draft, writes: list[_LogRow], reads: list[_LogRow]) -> None:
    delay_s = float(np.median([r.time_s - w.time_s for w, r in zip(writes, reads, strict=True)]))
    period_s = float(np.median(np.diff([r.time_s for r in reads])))
    draft.read = ReadProtocol(voltage_v=abs(reads[0].volts), delay_s=round(delay_s, 3), period_s=round(period_s, 3))
    draft.lines.append(
        f"read at {abs(reads[0].volts):g} V of both polarities, {delay_s:.2f} s after the pulse, every {period_s:.2f} s"
    )


def _log_currents(draft: _Draft, reads: list[_LogRow], conductance_s: FloatArray) -> None:
    """The currents lag the R column by one row: say so, use R, and report the polarity offset."""
    plus = np.array([r.amps for r in reads])
    minus = np.array([r.back_amps for r in reads], dtype=np.float64)
    volts = abs(reads[0].volts)
    from_current_s = (np.abs(plus) + np.abs(minus)) / 2 / volts
    lagging = int(np.sum(np.isclose(from_current_s[1:], conductance_s[:-1], rtol=1e-5)))
    same = int(np.sum(np.isclose(from_current_s[1:], conductance_s[1:], rtol=1e-5)))
    if lagging > same:
        draft.lines.append(
            f"the current columns lag the R column by one read in {lagging} of {len(reads) - 1} rows; R is used"
        )
    offset_a = (plus + minus) / 2
    draft.arrays["read_offset_a"] = offset_a
    draft.lines.append(
        f"read offset between the polarities {offset_a.mean() * 1e9:+.2f} +- {offset_a.std() * 1e9:.2f} nA: a read of "
        f"one polarity alone is wrong by {offset_a.mean() / volts * 1e9:.0f} nS"
    )


def _log_write_current(draft: _Draft, conductance_s: FloatArray, in_pulse_s: FloatArray, on_v: float) -> None:
    before, after = in_pulse_s[1:] / conductance_s[:-1], in_pulse_s / conductance_s
    typical = float(np.exp(np.mean(np.log(before))))
    every = np.concatenate([before, after])
    v0_v = sinh_v0(typical, on_v, draft.read.voltage_v)
    draft.write_current = WriteCurrent(law="sinh", v0_v=v0_v)
    draft.lines.append(
        f"in-pulse conductance is {every.min():.0f} .. {every.max():.0f} times the ones read before and after, "
        f"{typical:.0f} times the one before (geometric mean): I(V) = sinh law, v0 = {v0_v:.4f} V"
    )


# ---- Y-Flash -----------------------------------------------------------------------------------------------------


def _read_cycles(draft: _Draft, lines: list[Line]) -> None:
    """One cell, many program/erase cycles: line 1 has the widths, then `Gprog, ...` and `Gerase, ...` in turn."""
    widths = [_number(t, draft.path, lines[0][0]) for t in re.findall(r"t(?:prog|erase):\s*([^\s,]+)", lines[0][1])]
    if len(widths) != 2:
        raise CurveError(f"{draft.path}:{lines[0][0]}: expected `tprog: ..., terase: ...`")
    trains: dict[str, list[FloatArray]] = {"Gprog": [], "Gerase": []}
    for n, line in lines[1:]:
        label, _, rest = line.partition(",")
        if label.strip() not in trains:
            raise CurveError(f"{draft.path}:{n}: the line begins with {label[:20]!r}; expected Gprog or Gerase")
        trains[label.strip()].append(_train(draft.path, n, rest))
    _add_yflash(draft, trains, widths[0], widths[1], "cycles of one cell")


def _read_devices(draft: _Draft, lines: list[Line]) -> None:
    """Many cells, one program and one erase train each: `(U2,r,c),tprog=0.0002,Gprog, ...`."""
    trains: dict[str, list[FloatArray]] = {"Gprog": [], "Gerase": []}
    widths: dict[str, float] = {}
    for n, line in lines:
        found = re.match(r"\([^)]*\),\s*t(?:prog|erase)=([^,]+),\s*(Gprog|Gerase),(.*)", line)
        if found is None:
            raise CurveError(f"{draft.path}:{n}: expected `(chip,row,col),tprog=...,Gprog, ...` or its erase form")
        widths[found[2]] = _number(found[1], draft.path, n)
        trains[found[2]].append(_train(draft.path, n, found[3]))
    spread = _add_yflash(draft, trains, widths.get("Gprog", 0.0), widths.get("Gerase", 0.0), "devices")
    draft.spread = Spread(step_lognormal=round(spread, 3))
    draft.lines.append(f"step spread between devices: lognormal sigma {spread:.3f}, from the pulse counts")


def _train(path: Path, n: int, text: str) -> FloatArray:
    cells = [part for part in text.split(",") if part.strip()]
    values = [_conductance(_number(part, path, n), path, n) for part in cells]
    if len(values) < 2:
        raise CurveError(f"{path}:{n}: {len(values)} conductances; a train needs at least two")
    return np.array(values)


def _add_yflash(draft: _Draft, trains: dict[str, list[FloatArray]], prog_s: float, erase_s: float, what: str) -> float:
    """Program lowers the conductance, erase raises it. Returns the lognormal spread of the step over the trains."""
    spreads, scatters = [], []
    if not all(trains.values()):
        raise CurveError(f"{draft.path}: needs both Gprog and Gerase trains")
    erase: tuple[str, DirectionName, float] = ("Gerase", "potentiate", erase_s)
    program: tuple[str, DirectionName, float] = ("Gprog", "depress", prog_s)
    for label, direction, width_s in (erase, program):
        train_s, relative, scatter = mean_train(trains[label], 1 if direction == "potentiate" else -1)
        scatters.append(scatter)
        counts = np.array([float(t.size - 1) for t in trains[label]])
        spreads.append(float(np.std(np.log(relative))))
        draft.lines.append(
            f"{label}: {len(counts)} {what}, {counts.min():.0f} .. {counts.max():.0f} pulses (mean {counts.mean():.1f},"
            f" sd {counts.std():.1f}); one representative train by averaging the step at equal conductance; "
            f"one step scatters by {scatter:.0%} of itself inside a train (read noise included)"
        )
        draft.arrays[f"{label}_pulses"] = counts
        if what.startswith("cycles"):
            tenth = max(1, counts.size // 10)
            first, last = counts[:tenth].mean(), counts[-tenth:].mean()
            draft.lines.append(
                f"{label}: {first:.0f} pulses in the first {tenth} cycles, {last:.0f} in the last (wear)"
            )
        draft.add(direction, train_s, None, width_s)
    step_relative = round(float(np.sqrt(np.mean(np.square(scatters)))), 3)
    draft.noise = Noise(read_sigma_s=0.0, step_sigma_s=0.0, step_sigma_relative=step_relative)
    draft.notes = "program = depress, erase = potentiate; the direction is the curve's, not the sign of a voltage"
    return float(np.sqrt(np.mean(np.square(spreads))))


# ---- plot --------------------------------------------------------------------------------------------------------


def plot_card(card: DeviceCard, out_png: Path) -> None:
    """Draw a card's curves: samples, monotone mean, steps with the noise band. Needs matplotlib (extra `plot`)."""
    from matplotlib.figure import Figure

    if not card.curve:
        raise CurveError(f"device {card.name}: model {card.model!r} has no curve to draw")
    figure = Figure(figsize=(9, 4), layout="constrained")
    curves, steps = figure.subplots(1, 2)
    top_s = max(float(curve.points().max()) for curve in card.curve)
    unit, per_s = next((u, s) for u, s in (("nS", 1e9), ("uS", 1e6), ("mS", 1e3)) if top_s * s < 2e3)
    for curve in card.curve:
        points_s, mean_s = curve.points(), mean_curve(curve.points(), curve.sign)
        noise = split_noise(points_s, mean_s)
        (drawn,) = curves.plot(points_s * per_s, ".", label=f"{curve.direction}, {curve}")
        curves.plot(mean_s * per_s, "-", color=drawn.get_color(), linewidth=1)
        steps.plot(mean_s[:-1] * per_s, np.diff(points_s) * per_s, ".", color=drawn.get_color())
        steps.plot(mean_s[:-1] * per_s, np.diff(mean_s) * per_s, "-", color=drawn.get_color(), linewidth=1)
        steps.axhspan(-noise.read_sigma_s * per_s, noise.read_sigma_s * per_s, color=drawn.get_color(), alpha=0.12)
    curves.set(xlabel="pulse", ylabel=f"conductance ({unit})", title=card.name + ", SIMULATED" * card.simulated)
    if top_s > 30 * min(float(curve.points().min()) for curve in card.curve):
        curves.set_yscale("log")
    steps.set(xlabel=f"mean conductance ({unit})", ylabel=f"step ({unit})", title="steps; band = read noise")
    curves.legend(fontsize="small")
    figure.savefig(out_png, dpi=120)
