"""What bars and dialogs say of bench, chip and run, as words: from session and snapshot alone. No Qt."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobench.bench.config import SIMULATED_BACKENDS, BenchConfig
from neurobench.bench.limits import Limits
from neurobench.runs.screen import si

from ..session.states import LIVE

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

    from ..session.session import Session

TOTALS = ("max_updates", "epochs", "presentations", "cycles")  # parameters that say how far a run goes at most


@dataclass(frozen=True)
class Origin:
    """Whether what is shown, and the bench that anything would be done on, are simulated; None: there is none."""

    data: bool | None
    bench: bool | None

    @property
    def differ(self) -> bool:
        """Whether one is real and the other is not: then both are said."""
        return None not in (self.data, self.bench) and self.data != self.bench

    def badge(self) -> str:
        """For the bar; "" where nothing is simulated, or nothing is there."""
        if not self.differ:
            return "SIMULATED" if self.data or self.bench else ""
        return "SIMULATED data\nREAL bench" if self.data else "MEASURED data\nSIMULATED bench"

    def words(self) -> str:
        """For the line at the bottom."""
        if self.data is None:
            return "no data" if self.bench is None else f"no data; {self._bench()}"
        data = "simulated data: NO HARDWARE" if self.data else "measured data"
        return f"{data}; but {self._bench()}" if self.differ else data

    def _bench(self) -> str:
        return "the bench is simulated" if self.bench else "the bench is REAL"


def origin(session: Session) -> Origin:
    """Where what is shown comes from, by its own file; and what the bench is, by the run that goes on, or by its name.

    An old run says nothing about the bench, nor the bench about an old run.
    """
    shown, bench, ran = session.snapshot, session.bench, session.run_bench
    data = None if shown is None else shown.about.simulated
    if shown is not None and shown.live:
        return Origin(data, data)
    if ran is not None and session.state in LIVE:
        return Origin(data, ran.simulated)
    return Origin(data, None if bench is None else bench.bench.backend in SIMULATED_BACKENDS)


def bench_words(session: Session) -> tuple[str, str]:
    """Bench and chip in bold; below, the chip's polarity and how much of its lifetime is used.

    While a run goes on they are those of the run, whatever the form says by then.
    """
    bench, shown = session.bench, session.snapshot
    if shown is not None and shown.live:
        name, backend = shown.about.bench, shown.about.backend
    elif bench is not None:
        name, backend = bench.bench.name, bench.bench.backend
    else:
        return "no bench", "Ctrl+2 connects one"
    chip = chip_id(session)
    kind = "" if name == backend else f" ({backend})"
    first = f"{name}{kind}{f' | {chip}' if chip else ''}"
    return first, " | ".join(part for part in (polarity(bench), life_words(session)) if part)


def chip_id(session: Session) -> str:
    """The chip by its own name, as the run that goes on or the last check says; "" where nobody has said one."""
    shown = session.snapshot
    return shown.about.chip_id if shown is not None and shown.live else session.chip_id


def polarity(bench: BenchConfig | None) -> str:
    """Which sign of V_row - V_col raises the conductance; "" where nobody has said it."""
    if bench is None:
        return ""
    return "-V raises G" if bench.chip.potentiating_sign == -1 else "+V raises G"


def life_used(snapshot: Snapshot | None) -> float | None:
    """The largest share of its allowed pulses that any cell has had; None where none is counted."""
    if snapshot is None:
        return None
    allowed = snapshot.about.pulses_allowed
    if not np.isfinite(allowed).any():
        return None
    had = snapshot.about.pulses_used + snapshot.cells.ups + snapshot.cells.downs
    return float(np.max(had / np.maximum(allowed, 1.0)))


def life_words(session: Session) -> str:
    """Lifetime used, as words: of the chip on the bench, never of another one whose old run is shown."""
    shown = session.snapshot
    used = life_used(shown) if shown is not None and (shown.live or _same_chip(session, shown)) else None
    if used is None:
        limits = session.bench.limits if session.bench is not None else None
        return "life unlimited" if limits is not None and limits.max_pulses_per_cell is None else ""
    return f"life used {used:.1%}" if used < 0.1 else f"life used {used:.0%}"


def _same_chip(session: Session, shown: Snapshot) -> bool:
    bench = session.bench
    return bench is not None and (shown.about.bench, shown.about.chip_id) == (bench.bench.name, session.chip_id)


def limits_words(bench: BenchConfig | None) -> tuple[str, str]:
    """The limits that are always in sight: volts, then currents and widths."""
    if bench is None:
        return "no limits", "no bench"
    limits = bench.limits
    amps = "none" if limits.compliance_a is None else si(limits.compliance_a, "A")
    return (
        f"|V| ≤ {si(limits.max_cell_v, 'V')}  read ≤ {si(limits.max_read_v, 'V')}",
        f"I ≤ {amps}  W ≤ {si(limits.max_width_s, 's')}",
    )


def limit_names() -> tuple[str, ...]:
    """All limits by name."""
    return tuple(Limits.model_fields)


@dataclass(frozen=True)
class Progress:
    """How far a run is: steps done, of how many at most (0: nobody can say), and what a step is called."""

    done: int
    total: int
    noun: str

    def words(self) -> str:
        """For a bar: epoch 12/48."""
        return f"{self.noun} {self.done}{f'/{self.total}' if self.total else ''}"


def progress(snapshot: Snapshot | None) -> Progress | None:
    """How far the run is that is shown; None if there is none."""
    if snapshot is None:
        return None
    given = snapshot.about.parameters
    name = next((name for name in TOTALS if isinstance(given.get(name), int)), "")
    series = next((one for one in snapshot.progress.values() if len(one.at)), None)
    if series is not None:
        return Progress(int(series.at[-1]), int(given.get(name) or 0), "epoch")
    if snapshot.points:
        return Progress(len(snapshot.points), 0, "point")
    return Progress(max(snapshot.seq, 0), 0, "step")  # the number that the slider says


class Pace:
    """How long the rest of a run will take, from what it did while we looked."""

    def __init__(self) -> None:
        self._key = ""
        self._began: tuple[float, int] = (0.0, 0)

    def left_s(self, snapshot: Snapshot, now: Progress) -> float | None:
        """Seconds left at this pace; None while it cannot be said."""
        at = time.monotonic()
        if snapshot.about.path != self._key or now.done < self._began[1]:
            self._key, self._began = snapshot.about.path, (at, now.done)
        passed, made = at - self._began[0], now.done - self._began[1]
        if not (snapshot.live and now.total and made > 0 and passed > 0.5):
            return None
        return passed / made * max(now.total - now.done, 0)


def clock(seconds: float) -> str:
    """92 -> 01:32; 3700 -> 1:01:40."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}"


def outputs_words(outputs: Mapping[str, Any]) -> tuple[str, str, str]:
    """Mark, word, and how it is known: ON, OFF or UNKNOWN. What nobody has read back is unknown, never off."""
    on = outputs.get("on")
    mark, word = ("?", "UNKNOWN") if on is None else ("●", "ON") if on else ("○", "OFF")
    how, age, at = str(outputs.get("how", "unknown")), float(outputs.get("age_s") or 0.0), outputs.get("at")
    if at:  # of a run that has ended: what was so many seconds before its end says nothing about now
        return mark, word, f"{how}, when the run ended at {_time_of(str(at))}"
    return mark, word, f"{how}, {age:.1f} s ago" if age else how


def _time_of(at: str) -> str:
    """Day and time, here, of a moment in a record."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return at


def energy_words(snapshot: Snapshot | None) -> str:
    """Energy of the pulses with what it rests on."""
    if snapshot is None or not snapshot.energy.pulses:
        return "no pulse fired" if snapshot is not None else ""
    energy = snapshot.energy
    known = math.isfinite(energy.pulses_j)
    return f"pulses {si(energy.pulses_j, 'J')} ({energy.basis})" if known else "energy of the pulses unknown"


def file_words(session: Session, now_s: float | None = None) -> str:
    """The run file: name, size, and for how long it has not been written to."""
    path = session.run_path
    if path is None:
        return "no run open"
    try:
        size, at = _size_and_age(path)
    except OSError:
        return f"{path.name} (gone)"
    age = max((time.time() if now_s is None else now_s) - at, 0.0)  # the clock may have been set back
    flushed = f", flushed {age:.1f} s ago" if session.state in LIVE else ""
    return f"{path.name}  {size_words(size)}{flushed}"


def _size_and_age(path: Path) -> tuple[int, float]:
    """Bytes and last writing of a run file; what is not yet merged into it lies beside it."""
    size, at = path.stat().st_size, path.stat().st_mtime
    beside = path.with_name(path.name + "-wal")
    if beside.exists():
        size, at = size + beside.stat().st_size, max(at, beside.stat().st_mtime)
    return size, at


def size_words(size: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def moment() -> str:
    """The time of day, for messages."""
    return datetime.now(UTC).astimezone().strftime("%H:%M:%S")
