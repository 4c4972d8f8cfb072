"""What every source-measure unit is: a source with a limit, a meter with ranges, memory for readings, and time.

No command stands here: the models translate their own language into these parts. Currents are positive when the
channel sources them, out of its HI terminal. Figures of the data sheets are from memory where a model says so.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ..world.clock import Handle
    from ..world.world import Terminal, World
    from .instrument import SimInstrument

Quantity = Literal["VOLT", "CURR"]
OVERFLOW: Final = 9.9e37  # what all of them say of a reading beyond the range (SCPI 1999, volume 1, 7.2.1)
LINE_HZ: Final = 50.0
PLC_S: Final = 1.0 / LINE_HZ
PS: Final = 10**12


@dataclass(frozen=True, slots=True)
class Range:
    """One range: its nominal full scale, the steps in which it reads and sets, and its rms noise at 1 PLC."""

    full: float
    reads: float
    sets: float
    noise: float

    def __post_init__(self) -> None:
        if not 0 < self.reads <= self.full or not 0 < self.sets <= self.full or self.noise < 0:
            raise ValueError(f"not a range: {self}")


@dataclass(frozen=True, slots=True)
class DataSheet:
    """Ranges of a model, smallest first; `over` is how far beyond its full scale a range works (1.05: 5 %)."""

    volts: tuple[Range, ...]
    amps: tuple[Range, ...]
    over: float
    limit_v: float  # largest voltage that the source puts out
    limit_a: float

    def of(self, kind: Quantity) -> tuple[Range, ...]:
        """The ranges of a quantity."""
        return self.volts if kind == "VOLT" else self.amps

    def most(self, kind: Quantity) -> float:
        """The largest level or limit of a quantity."""
        return self.limit_v if kind == "VOLT" else self.limit_a

    def fit(self, kind: Quantity, value: float, *, over: bool = False) -> Range:
        """The smallest range whose full scale (`over`: with its margin) holds |value|; the largest if none does."""
        margin = (self.over if over else 1.0) * (1.0 + 1e-9)
        ranges = self.of(kind)
        return next((r for r in ranges if abs(value) <= r.full * margin), ranges[-1])


class Reading(NamedTuple):
    """One measurement: what was measured and what was sourced meanwhile; beyond a range stands OVERFLOW."""

    volts: float
    amps: float
    source: float
    time_s: float
    limited: bool
    over: bool

    @property
    def ohms(self) -> float:
        """V/I; OVERFLOW without a current or beyond a range."""
        if self.over or self.amps == 0.0:
            return OVERFLOW
        return self.volts / self.amps

    @property
    def watts(self) -> float:
        """V times I; OVERFLOW beyond a range."""
        return OVERFLOW if self.over else self.volts * self.amps

    def of(self, kind: str) -> float:
        """What was measured of VOLT, CURR, RES or POW."""
        if kind == "VOLT":
            return self.volts
        if kind == "CURR":
            return self.amps
        return self.ohms if kind.startswith("RES") else self.watts


class SourceMeter:
    """One channel: what it puts on its terminal, and what it reads there.

    `limit["CURR"]` holds when it sources volts, `limit["VOLT"]` when it sources amperes. Setting an attribute does
    nothing by itself: `update` puts it on the terminal. `noise=False`: exact numbers, nothing rounded.
    """

    def __init__(
        self,
        world: World,
        terminal: Terminal,
        sheet: DataSheet,
        *,
        seed: str,
        noise: bool,
        guard: Terminal | None = None,
    ) -> None:
        self.world = world
        self.terminal = terminal
        self.guard = guard
        self.sheet = sheet
        self._random = np.random.default_rng(zlib.crc32(seed.encode())) if noise else None
        self.limit: dict[Quantity, float] = {"VOLT": 0.0, "CURR": 0.0}
        self.off_state: Literal["normal", "zero", "open"] = "normal"
        self.off_limit_a: float | None = None  # of an output that is off at 0 V; None: 0.5 % of the current range
        self.reset()

    def reset(self) -> None:
        """Output off; source of 0 V on automatic ranges; 1 PLC, no averaging. Limits are the model's to set."""
        self.source: Quantity = "VOLT"
        self.level: dict[Quantity, float] = {"VOLT": 0.0, "CURR": 0.0}
        self.set_range: dict[Quantity, float] = {k: self.sheet.of(k)[0].full for k in ("VOLT", "CURR")}
        self.set_auto: dict[Quantity, bool] = {"VOLT": True, "CURR": True}
        self.read_range: dict[Quantity, float] = {k: self.sheet.of(k)[0].full for k in ("VOLT", "CURR")}
        self.read_auto: dict[Quantity, bool] = {"VOLT": True, "CURR": True}
        self.read_least: dict[Quantity, float] = {k: self.sheet.of(k)[0].full for k in ("VOLT", "CURR")}
        self.aperture_s = PLC_S
        self.averages = 1
        self.output = False
        self._sweep_value: float | None = None
        self._sweep_limit: float | None = None

    # -- source

    @property
    def present(self) -> float:
        """What is being sourced: the value of a sweep or pulse, or the level."""
        return self.level[self.source] if self._sweep_value is None else self._sweep_value

    def force(self, value: float | None, limit: float | None = None) -> None:
        """Put a value of a sweep or pulse out, with its own limit if given; None: back to the level."""
        self._sweep_value = value
        self._sweep_limit = None if value is None else limit
        self.update()

    def turn_on(self, value: float) -> None:
        """Output on, at a value of a sweep at once."""
        self.output = True
        self.force(value)

    def _limit(self, kind: Quantity) -> float:
        return self.limit[kind] if self._sweep_limit is None else self._sweep_limit

    def update(self) -> None:
        """Put on the terminal what the settings say."""
        if not self.output:
            self._off()
            return
        value = self._rounded(self.present)
        if self.source == "VOLT":
            self.terminal.drive(value, limit_a=self._limit("CURR"))
            self._guard_at(value)
        elif value == 0.0:
            self.terminal.release()
            self._guard_at(None)
        else:
            # A source of amperes is one of its voltage limit that is limited to those amperes.
            limit_v = math.copysign(self._limit("VOLT"), value)
            self.terminal.drive(limit_v, limit_a=abs(value))
            self._guard_at(self.terminal.voltage_v())

    def _off(self) -> None:
        if self.off_state == "open":
            self.terminal.release()
            self._guard_at(None)
            return
        limit = 0.005 * self.read_range["CURR"] if self.off_limit_a is None else self.off_limit_a
        self.terminal.drive(0.0, limit_a=max(limit, self.limit["CURR"]) if self.off_state == "zero" else limit)
        self._guard_at(None)

    def _guard_at(self, volts: float | None) -> None:
        if self.guard is None:
            return
        if volts is None:
            self.guard.release()
        else:
            self.guard.drive(volts)

    def _rounded(self, value: float) -> float:
        if self._random is None:
            return value
        return _to_step(value, self.source_range().sets)

    def source_range(self) -> Range:
        """The range on which it sources now."""
        kind = self.source
        value = self.present if self.set_auto[kind] else self.set_range[kind]
        return self.sheet.fit(kind, value, over=self.set_auto[kind])

    @property
    def limited(self) -> bool:
        """Whether the limit (compliance) is acting."""
        if not self.output:
            return False
        if self.source == "VOLT":
            return bool(self.terminal.limited)
        return self.present != 0.0 and not self.terminal.limited

    # -- meter

    @property
    def reading_s(self) -> float:
        """How long one reading takes."""
        return self.aperture_s * self.averages

    def take(self) -> Reading:
        """The reading whose integration ends now; lets no time pass."""
        amps = self.terminal.measure_a(self.aperture_s, self.averages) if self._joined else 0.0
        volts = self.terminal.voltage_v()
        read_a, over_a = self._read("CURR", amps)
        read_v, over_v = self._read("VOLT", volts)
        return Reading(read_v, read_a, self.present, self.world.now_s(), self.limited, over_a or over_v)

    @property
    def _joined(self) -> bool:
        return self.output or self.off_state != "open"

    def reads_on(self, kind: Quantity, value: float) -> Range:
        """The range on which a value is read: of what is sourced, the range of the source; automatic ranging also
        leaves the meter there."""
        if kind == self.source and self.output:
            return self.source_range()
        if self.read_auto[kind]:
            least = self.read_least[kind]
            chosen = self.sheet.fit(kind, max(abs(value), least), over=abs(value) > least)
            self.read_range[kind] = chosen.full
            return chosen
        return self.sheet.fit(kind, self.read_range[kind])

    def _read(self, kind: Quantity, value: float) -> tuple[float, bool]:
        on = self.reads_on(kind, value)
        if abs(value) > on.full * self.sheet.over * (1.0 + 1e-9):
            return math.copysign(OVERFLOW, value), True
        if self._random is None:
            return value, False
        sigma = on.noise * math.sqrt(PLC_S / (self.aperture_s * self.averages))
        return _to_step(value + sigma * float(self._random.standard_normal()), on.reads), False


def _to_step(value: float, step: float) -> float:
    """Rounded to a multiple of a step, without the dust of binary fractions."""
    return float(f"{round(value / step) * step:.9e}")


class Store:
    """A memory of readings that only grows until it is cleared. Full: takes no more, or (`ring`) forgets the first."""

    def __init__(self, capacity: int, *, ring: bool = False) -> None:
        self.capacity = capacity
        self.ring = ring
        self.readings: list[Reading] = []
        self.started_s = 0.0

    def add(self, reading: Reading) -> bool:
        """Take a reading; False if there was no place."""
        if not self.readings:
            self.started_s = reading.time_s
        if len(self.readings) >= self.capacity:
            if not self.ring:
                return False
            del self.readings[0]
        self.readings.append(reading)
        return True

    def clear(self) -> None:
        """Forget all readings."""
        self.readings = []


class Detector:
    """Something a process waits for. An event that comes early is kept, once, as the detectors of instruments do."""

    def __init__(self) -> None:
        self.latched = False
        self._waiting: Callable[[], None] | None = None

    @property
    def waited_for(self) -> bool:
        """Whether a process waits for it now."""
        return self._waiting is not None

    def clear(self) -> None:
        """Forget an event that nobody has waited for."""
        self.latched = False

    def fire(self) -> None:
        """The event happens."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            self.latched = True
        else:
            waiting()

    def wait(self, resume: Callable[[], None]) -> bool:
        """True if it has happened already; else `resume` is called when it does."""
        if self.latched:
            self.latched = False
            return True
        self._waiting = resume
        return False

    def forget(self) -> None:
        """Nobody waits any more."""
        self._waiting = None


Steps = Generator[float | Detector, None, None]
BEFORE_S: Final = 1e-12  # a reading is taken so long before its integration ends, so that it sees what ends then


def integrate(seconds: float, take: Callable[[], object]) -> Steps:
    """Wait for the end of an integration and take its reading, before what another channel does at that time."""
    if seconds <= BEFORE_S:
        yield seconds
        take()
        return
    yield seconds - BEFORE_S
    take()
    yield BEFORE_S


class Process:
    """Something that an instrument does by itself: a generator that yields seconds to pass, or what it waits for.

    It begins at once and goes on as the world's time comes. `ended` is called once, also when it was stopped.
    """

    def __init__(self, world: World, steps: Steps, ended: Callable[[], None]) -> None:
        self._world = world
        self._steps = steps
        self._ended = ended
        self._handle: Handle | None = None
        self._detector: Detector | None = None
        self.next_ps: int | None = world.now_ps
        self.running = True

    def start(self) -> None:
        """Do what comes before the first wait."""
        self._resume()

    def _resume(self) -> None:
        self._handle, self._detector, self.next_ps = None, None, None
        for wait in self._steps:
            if isinstance(wait, Detector):
                if wait.wait(self._resume):
                    continue
                self._detector = wait
                return
            if wait > 0.0:
                self.next_ps = self._world.now_ps + round(wait * PS)
                self._handle = self._world.at(self.next_ps, self._resume)
                return
        self._end()

    def _end(self) -> None:
        if self.running:
            self.running = False
            self._ended()

    def stop(self) -> None:
        """End it where it stands."""
        if self._handle is not None:
            self._world.cancel(self._handle)
        if self._detector is not None:
            self._detector.forget()
        self._handle, self._detector, self.next_ps = None, None, None
        self._steps.close()
        self._end()


class Background:
    """What an instrument does by itself, so that its pending operations and their waits are right."""

    def __init__(self, instrument: SimInstrument) -> None:
        self._instrument = instrument
        self._running: list[tuple[Process, object]] = []

    def launch(self, steps: Steps, owner: object = None, *, pending: bool = True) -> Process:
        """Start a process for an owner (a channel, a timer); `pending`: it counts as an operation for *OPC and *WAI."""

        def ended() -> None:
            self._running.remove((process, owner))
            if pending:
                self._instrument.end()

        process = Process(self._instrument.world, steps, ended)
        self._running.append((process, owner))
        if pending:
            self._instrument.begin()
        process.start()
        return process

    def busy(self, owner: object) -> bool:
        """Whether something runs for this owner."""
        return any(other is owner for _, other in self._running)

    def finish(self) -> None:
        """Let time pass until nothing is pending, or only what waits for a trigger that does not come by itself."""
        while self._instrument.status.pending:
            due = [process.next_ps for process, _ in self._running if process.next_ps is not None]
            if not due:
                return
            self._instrument.world.run_until(min(due))

    def stop(self, owner: object = None) -> None:
        """Stop where it stands what runs for this owner; None: everything."""
        for process, other in list(self._running):
            if owner is None or other is owner:
                process.stop()
