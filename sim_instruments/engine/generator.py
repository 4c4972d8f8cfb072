"""What every pulse and function generator is: cycles that are played on a terminal, levels, couplings, triggers.

No command stands here: the models translate their own headers into these parts. What a generator does to a chip when
it is set up in the wrong order comes from here as well: an idle level that is not 0 V, a waveform that runs freely
because its output went on before burst mode, a load setting that doubles the voltage, a relay that closes on a level.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, Generic, NamedTuple, TypeVar

import numpy as np

from .scpi import Boolean, Call, ScpiError, ScpiInstrument, Setting, scpi

if TYPE_CHECKING:
    from ..world.clock import Handle
    from ..world.world import Terminal, World

PS: Final = 10**12
GRID_PS: Final = 100  # resolution of all times
LINEAR_10_90: Final = 0.8  # part of a straight edge that is between 10 and 90 %
OWN_OHM: Final = 50.0  # output resistance that the load setting reckons with
MANY_STEPS: Final = 3000  # levels of a free run after which it is thinned out: 1000 pulses and more
POINTS: Final = 16  # levels that stand for one period of a smooth function
Complain = Callable[[str], None]


def on_grid(seconds: float) -> int:
    """Seconds as picoseconds, rounded to the resolution."""
    return round(seconds * PS / GRID_PS) * GRID_PS


# ---------------------------------------------------------------------------------------------- cycles


class Step(NamedTuple):
    """A level for some time; `part` is how far it is from LOW (0) to HIGH (1)."""

    ps: int
    part: float


class Cycle(NamedTuple):
    """One period of a waveform, and where the output rests before and after a burst of it."""

    idle: float
    steps: tuple[Step, ...]

    @property
    def ps(self) -> int:
        """How long it lasts."""
        return sum(step.ps for step in self.steps)


def _cycle(idle: float, steps: Iterable[tuple[int, float]]) -> Cycle:
    return Cycle(idle, tuple(Step(ps, part) for ps, part in steps if ps > 0))


@lru_cache(maxsize=64)
def pulse_cycle(period_ps: int, lead_ps: int, top_ps: int, trail_ps: int) -> Cycle:
    """A pulse: the world sees only the top between its edges. What does not fit into the period is cut to fit."""
    top_ps = max(min(top_ps, period_ps - lead_ps - trail_ps), 0)
    return _cycle(0.0, ((lead_ps, 0.0), (top_ps, 1.0), (max(period_ps - lead_ps - top_ps, GRID_PS), 0.0)))


@lru_cache(maxsize=64)
def square_cycle(period_s: float, duty_percent: float) -> Cycle:
    """HIGH first, then LOW; rests at LOW."""
    period = max(on_grid(period_s), 2 * GRID_PS)
    high = round(period * duty_percent / 100)
    return _cycle(0.0, ((high, 1.0), (period - high, 0.0)))


@lru_cache(maxsize=64)
def smooth_cycle(period_s: float, shape: Callable[[float], float]) -> Cycle:
    """A function of the phase (0..1) in steps, each centred on the phase whose value it has, so that peaks are met."""
    period = max(on_grid(period_s), 2 * POINTS)
    ends = [0, *(round(period * (k + 0.5) / POINTS) for k in range(POINTS)), period]
    levels = [shape(k / POINTS % 1.0) for k in range(POINTS + 1)]
    return _cycle(shape(0.0), ((end - begin, v) for begin, end, v in zip(ends, ends[1:], levels, strict=False)))


def sampled_cycle(samples_per_s: float, samples: tuple[float, ...]) -> Cycle:
    """Samples of -1..1 one after the other; equal ones become one step. Rests at the first.

    Steps begin at the picosecond nearest to their sample, so that a rate of no whole picoseconds does not run away.
    """
    values = np.array(samples)
    begins = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1])
    ends_ps = [round(k * PS / samples_per_s) for k in [*begins[1:].tolist(), len(values)]]
    lengths_ps = np.diff([0, *ends_ps]).tolist()
    parts = ((values[begins] + 1) / 2).tolist()
    return _cycle(parts[0], zip(lengths_ps, parts, strict=True))


def sine(phase: float) -> float:
    """Middle at phase 0, then up."""
    return 0.5 + 0.5 * math.sin(2 * math.pi * phase)


@lru_cache(maxsize=64)
def ramp(symmetry_percent: float) -> Callable[[float], float]:
    """Rises during this part of the period; middle at phase 0, on the way up."""
    up = symmetry_percent / 100

    def shape(phase: float) -> float:
        at = (phase + up / 2) % 1.0
        if at < up:
            return at / up
        return 1.0 - (at - up) / (1.0 - up) if up < 1.0 else 1.0

    return shape


@lru_cache(maxsize=8)
def noise_cycle(period_s: float, bits: bool) -> Cycle:
    """Always the same 64 random levels (Gaussian, clipped at 3.3 sigma) or bits: enough to see that it is noise."""
    draw = random.Random(33500)
    parts = [
        float(draw.random() < 0.5) if bits else min(max(0.5 + draw.gauss(0, 1) / 6.6, 0.0), 1.0) for _ in range(64)
    ]
    return _cycle(0.0 if bits else 0.5, ((max(on_grid(period_s), GRID_PS), part) for part in parts))


class Player:
    """Plays cycles, one edge ahead of the world's time. `show` is told every new level.

    A free run (count inf) would cost work for ever: after MANY_STEPS levels only some cycles are played, fewer and
    fewer, with rest between them. A device is ruined or saturated by then; finite counts are always played in full.
    """

    def __init__(self, world: World, show: Callable[[float], None]) -> None:
        self._world, self._show = world, show
        self._handle: Handle | None = None
        self._steps: tuple[Step, ...] = ()
        self._index, self._at, self._left, self.played = 0, 0, 0.0, 0
        self._make: Callable[[], Cycle] = lambda: Cycle(0.0, ())
        self._ended: Callable[[], None] = lambda: None

    @property
    def running(self) -> bool:
        """Whether something is being played or about to be."""
        return self._handle is not None

    def start(self, make: Callable[[], Cycle], count: float, at_ps: int, ended: Callable[[], None]) -> None:
        """Play `count` cycles from `at_ps` on, each as `make` says at its beginning; then call `ended`."""
        self.stop()
        self._make, self._left, self._ended, self.played = make, count, ended, 0
        self._due(at_ps, self._begin)

    def stop(self) -> None:
        """Play nothing more; `ended` is not called."""
        if self._handle is not None:
            self._world.cancel(self._handle)
            self._handle = None

    def _due(self, ps: int, action: Callable[[], None]) -> None:
        self._at = ps
        self._handle = self._world.at(ps, action)

    def _begin(self) -> None:
        cycle = self._make()
        if self._left <= 0 or not cycle.steps:
            self._handle = None
            self._show(cycle.idle)
            self._ended()
            return
        self._left -= 1
        self.played += 1
        self._steps, self._index = cycle.steps, 0
        self._next()

    def _next(self) -> None:
        if self._index < len(self._steps):
            step = self._steps[self._index]
            self._index += 1
            self._due(self._at + step.ps, self._next)
            self._show(step.part)
        elif math.isinf(self._left) and self.played * len(self._steps) >= MANY_STEPS:
            self._thin_out()
        else:
            self._begin()

    def _thin_out(self) -> None:
        cycle = self._make()
        skipped = self.played * 10 * len(cycle.steps) // MANY_STEPS
        self.played += skipped
        self._show(cycle.idle)
        self._due(self._at + skipped * cycle.ps, self._begin)


# ---------------------------------------------------------------------------------------------- one channel


class Channel(ABC):
    """One output: settings as the models' tables name them, their couplings, and what reaches the terminal.

    A setter only stores (so *RST can restore in any order); the `..._changed` methods are called after a command:
    they adjust or refuse what does not go together, and let the output follow. HIGH and LOW are what is kept;
    amplitude and offset follow from them. All voltages are those across the load that `load_ohm` says is there.
    """

    OPEN_V: ClassVar[float] = 10.0  # largest |V| into an open circuit
    OPEN_OHM: ClassVar[float] = math.inf  # a load setting of this and more stands for an open circuit
    LEAST_PP: ClassVar[float] = 1e-3  # smallest amplitude into 50 ohm
    STEP_S: ClassVar[float]  # the edges after *RST: these and faster ones count as steps
    MAX_HZ: ClassVar[dict[str, float]]  # by function

    def __init__(
        self, world: World, terminal: Terminal, complain: Complain, began: Callable[[int | None], None],
        ended: Callable[[], None],
    ) -> None:  # fmt: skip
        self._world, self._terminal, self._complain = world, terminal, complain
        self._began, self._ended = began, ended
        self._player = Player(world, self._show)
        self._part = 0.0
        self._pending = False  # a burst that was triggered goes on
        self.on = self.inverted = self.limited = self.burst = False
        self.function, self.unit, self.hold = "SIN", "VPP", "WIDT"
        self.high_v, self.low_v, self.high_limit_v, self.low_limit_v = 0.05, -0.05, 5.0, -5.0
        self._good = (self.high_v, self.low_v)
        self._load_ohm = self._load_before_ohm = OWN_OHM
        self.period_s, self.width_s, self.lead_s, self.trail_s = 1e-3, 1e-4, 1e-8, 1e-8
        self._duty = 10.0
        self.square_duty, self.symmetry, self.phase_deg = 50.0, 100.0, 0.0
        self.cycles, self.repeat_s, self.delay_s = 1.0, 1e-2, 0.0
        self.noise_hz, self.bits_hz, self.samples_per_s = 1e5, 1e3, 4e4
        self.samples: tuple[float, ...] = (0.0,)
        self._kept: tuple[float, tuple[float, ...], Cycle] | None = None

    # ---- levels

    @property
    def amplitude(self) -> float:
        """Peak to peak, in volts."""
        return self.high_v - self.low_v

    @amplitude.setter
    def amplitude(self, volts: float) -> None:
        """The offset stays."""
        middle = self.offset_v
        self.high_v, self.low_v = middle + volts / 2, middle - volts / 2

    @property
    def offset_v(self) -> float:
        """Middle between HIGH and LOW."""
        return (self.high_v + self.low_v) / 2

    @offset_v.setter
    def offset_v(self, volts: float) -> None:
        """The amplitude stays."""
        half = self.amplitude / 2
        self.high_v, self.low_v = volts + half, volts - half

    @property
    def max_v(self) -> float:
        """Largest |V| across the load."""
        return self.OPEN_V / self.emf_factor

    @property
    def min_v(self) -> float:
        """The same below zero."""
        return -self.max_v

    @property
    def max_pp(self) -> float:
        """Largest amplitude."""
        return 2 * self.max_v

    @property
    def emf_factor(self) -> float:
        """What a setting has to be multiplied by to get the voltage of the source behind its resistance."""
        return 1.0 if self._load_ohm >= self.OPEN_OHM else (self._load_ohm + OWN_OHM) / self._load_ohm

    @property
    def load_ohm(self) -> float:
        """The load that levels are stated for; it changes what they are called, not what comes out."""
        return self._load_ohm

    @load_ohm.setter
    def load_ohm(self, ohm: float) -> None:
        """Levels and limits are restated for this load."""
        before, self._load_before_ohm = self.emf_factor, self._load_ohm
        self._load_ohm = ohm
        scale = before / self.emf_factor
        self.high_v, self.low_v = self.high_v * scale, self.low_v * scale
        self.high_limit_v, self.low_limit_v = self.high_limit_v * scale, self.low_limit_v * scale
        self._good = (self.high_v, self.low_v)

    @property
    def _peak_ratio(self) -> float:
        """Vpp of 1 Vrms."""
        ratios = {"SIN": 2 * math.sqrt(2), "RAMP": 2 * math.sqrt(3), "TRI": 2 * math.sqrt(3), "NOIS": 6.6}
        return ratios.get(self.function, 2.0)

    @property
    def shown_amplitude(self) -> float:
        """The amplitude in its unit."""
        return self._in_unit(self.amplitude)

    @shown_amplitude.setter
    def shown_amplitude(self, value: float) -> None:
        """In its unit."""
        self.amplitude = self._from_unit(value)

    @property
    def most_shown(self) -> float:
        """Largest amplitude in its unit."""
        return self._in_unit(self.max_pp)

    @property
    def least_shown(self) -> float:
        """Smallest amplitude in its unit."""
        return self._in_unit(self.LEAST_PP * 2 / self.emf_factor)

    def _in_unit(self, volts: float) -> float:
        if self.unit == "VPP":
            return volts
        rms = volts / self._peak_ratio
        return rms if self.unit == "VRMS" else 10 * math.log10(rms * rms / self._load_ohm / 1e-3)

    def _from_unit(self, value: float) -> float:
        if self.unit == "VPP":
            return value
        rms = value if self.unit == "VRMS" else math.sqrt(1e-3 * 10 ** (value / 10) * self._load_ohm)
        return rms * self._peak_ratio

    def unit_changed(self) -> None:
        """There is no power without a load."""
        if self.unit == "DBM" and math.isinf(self._load_ohm):
            self.unit = "VPP"
            raise ScpiError(-221, "Settings conflict; dBm needs a finite output load")

    def load_changed(self) -> None:
        """Only the numbers change (the property has scaled them). Under limits the load stays as it is."""
        if self.limited:
            self.load_ohm = self._load_before_ohm
            raise ScpiError(-221, "Settings conflict; the load cannot be changed while voltage limits are on")
        if self.unit == "DBM" and math.isinf(self._load_ohm):
            self.unit = "VPP"
            self._complain("amplitude units changed to Vpp due to high-Z load")

    def amplitude_changed(self) -> None:
        """The offset gives way."""
        room = max(self.max_v - self.amplitude / 2, 0.0)
        if abs(self.offset_v) > room * (1 + 1e-9):
            self.offset_v = math.copysign(room, self.offset_v)
            self._complain("offset changed due to amplitude")
        self.levels_changed()

    def offset_changed(self) -> None:
        """The amplitude gives way."""
        room = max(2 * (self.max_v - abs(self.offset_v)), 0.0)
        if self.amplitude > room * (1 + 1e-9) and self.function != "DC":
            self.amplitude = max(room, self.LEAST_PP)
            self._complain("amplitude changed due to offset")
        self.levels_changed()

    def high_changed(self) -> None:
        """LOW stays below."""
        if self.low_v >= self.high_v:
            self.low_v = self.high_v - self.LEAST_PP
            self._complain("low level changed due to high level")
        self.levels_changed()

    def low_changed(self) -> None:
        """HIGH stays above."""
        if self.high_v <= self.low_v:
            self.high_v = self.low_v + self.LEAST_PP
            self._complain("high level changed due to low level")
        self.levels_changed()

    def levels_changed(self) -> None:
        """Refuse what is beyond the limits; else the output follows at once."""
        if self.limited and (self.high_v > self.high_limit_v or self.low_v < self.low_limit_v):
            self.high_v, self.low_v = self._good
            raise ScpiError(-221, "Settings conflict; level is beyond the voltage limits, not changed")
        self._good = (self.high_v, self.low_v)
        self.follow()

    def limits_changed(self) -> None:
        """Limits that the levels already exceed do not go on."""
        if self.limited and (self.high_v > self.high_limit_v or self.low_v < self.low_limit_v):
            self.limited = False
            raise ScpiError(-221, "Settings conflict; levels are beyond the voltage limits, limits are off")

    def source_v(self) -> float:
        """Voltage of the source behind its resistance, now."""
        if self.function == "DC":
            return self.offset_v * self.emf_factor
        part = 1.0 - self._part if self.inverted else self._part
        if part in (0.0, 1.0):  # exact
            return (self.high_v if part else self.low_v) * self.emf_factor
        return (self.low_v + part * (self.high_v - self.low_v)) * self.emf_factor

    def follow(self) -> None:
        """Bring the terminal to what the settings say now."""
        if self.on:
            self._terminal.drive(self.source_v(), self._world.source_ohm)
        else:
            self._terminal.release()

    def _show(self, part: float) -> None:
        if part != self._part:
            self._part = part
            if self.on:
                self.follow()

    # ---- shape and time

    @property
    def polarity(self) -> str:
        """NORM, or INV: mirrored about the offset."""
        return "INV" if self.inverted else "NORM"

    @polarity.setter
    def polarity(self, word: str) -> None:
        """NORM or INV."""
        self.inverted = word == "INV"

    @property
    def frequency_hz(self) -> float:
        """One over the period."""
        return 1 / self.period_s

    @frequency_hz.setter
    def frequency_hz(self, hz: float) -> None:
        """Sets the period."""
        self.period_s = 1 / hz

    @property
    def max_hz(self) -> float:
        """Of the present function."""
        return self.MAX_HZ.get(self.function, max(self.MAX_HZ.values()))

    @property
    def min_period_s(self) -> float:
        """Of pulses."""
        return 1 / self.MAX_HZ["PULS"]

    @property
    def both_edges_s(self) -> float:
        """The leading edge; set: both edges."""
        return self.lead_s

    @both_edges_s.setter
    def both_edges_s(self, seconds: float) -> None:
        """Both edges alike."""
        self.lead_s = self.trail_s = seconds

    @property
    def duty(self) -> float:
        """Pulse width in percent of the period."""
        return 100 * self.width_s / self.period_s

    @duty.setter
    def duty(self, percent: float) -> None:
        """Sets the width."""
        self.width_s = self.period_s * percent / 100

    def width_changed(self) -> None:
        """Edges and width fit into the period."""
        self.fit_pulse()
        self._duty = self.duty

    def period_changed(self) -> None:
        """Holds the width or the duty cycle."""
        if self.hold == "DCYC":
            self.duty = self._duty
        self.fit_pulse()
        self._duty = self.duty
        self.timing_changed()

    @abstractmethod
    def fit_pulse(self) -> None:
        """What the model does with pulse times that do not go together."""

    @abstractmethod
    def timing_changed(self) -> None:
        """What the model does with a burst that does not go with its trigger or period."""

    def function_changed(self) -> None:
        """Another function begins from its start."""
        if self.frequency_hz > self.max_hz * (1 + 1e-9):
            self.frequency_hz = self.max_hz
            self._complain("frequency reduced for the function")
        self.fit_pulse()
        self.timing_changed()
        self.restart()

    def cycle(self) -> Cycle:
        """One period as it is set now."""
        match self.function:
            case "PULS":
                lead_ps, trail_ps = self._whole_ps(self.lead_s), self._whole_ps(self.trail_s)
                return pulse_cycle(on_grid(self.period_s), lead_ps, self.top_ps(lead_ps, trail_ps), trail_ps)
            case "SQU":
                return square_cycle(self.period_s, self.square_duty)
            case "SIN":
                return smooth_cycle(self.period_s, sine)
            case "RAMP" | "TRI":
                return smooth_cycle(self.period_s, ramp(50.0 if self.function == "TRI" else self.symmetry))
            case "NOIS" | "PRBS":
                bits = self.function == "PRBS"
                return noise_cycle(1 / (self.bits_hz if bits else self.noise_hz), bits)
            case "ARB" | "USER":
                return self._sampled()
        return Cycle(0.0, ())

    @property
    def sample_rate(self) -> float:
        """Samples per second of an arbitrary waveform."""
        return self.samples_per_s

    def _sampled(self) -> Cycle:
        if self._kept is None or self._kept[0] != self.sample_rate or self._kept[1] is not self.samples:
            self._kept = self.sample_rate, self.samples, sampled_cycle(self.sample_rate, self.samples)
        return self._kept[2]

    def _whole_ps(self, edge_s: float) -> int:
        """A whole edge, 0 to 100 %, of one programmed from 10 to 90 %; 0 for a fast one, which counts as a step."""
        return on_grid(edge_s / LINEAR_10_90) if edge_s > self.STEP_S * (1 + 1e-9) else 0

    def top_ps(self, lead_ps: int, trail_ps: int) -> int:
        """Time between the edges: the width is between their middles."""
        return on_grid(self.width_s) - (lead_ps + trail_ps) // 2

    # ---- triggers

    @property
    @abstractmethod
    def mode(self) -> str:
        """`free`: runs on; `repeat`: a burst every `repeat_every_s`; `wait`: a burst on a trigger; `idle`: nothing."""

    @property
    @abstractmethod
    def awaits_bus(self) -> bool:
        """Whether *TRG is what it waits for."""

    @property
    def count(self) -> float:
        """Cycles of one burst."""
        return self.cycles

    @property
    def repeat_every_s(self) -> float:
        """From the start of one burst to the next."""
        return self.repeat_s

    def output_changed(self) -> None:
        """The relay closes or opens on what is there now; what runs freely begins."""
        if self.mode == "wait":
            self.follow()
        else:
            self.restart()

    def restart(self) -> None:
        """Begin anew in the present mode: a burst that was going on is broken off."""
        self._player.stop()
        self._part = self.cycle().idle
        self.follow()
        if self.on and self.mode in ("free", "repeat"):
            self._run_on(self._world.now_ps)
        self._end_burst()

    def _run_on(self, start_ps: int) -> None:
        if self.mode == "free":
            self._player.start(self.cycle, math.inf, start_ps, lambda: None)
        else:
            self._player.start(self.cycle, self.count, start_ps, lambda: self._again(start_ps))

    def _again(self, start_ps: int) -> None:
        length_ps = max(on_grid(self.repeat_every_s), self._world.now_ps - start_ps)
        self._run_on(start_ps + length_ps)

    def fire(self) -> None:
        """A trigger came. Raises ScpiError -211 if it is not waiting for one."""
        if self.mode != "wait" or self._pending or self.function == "DC":
            raise ScpiError(-211)
        start_ps = self._world.now_ps + on_grid(self.delay_s)
        count = self.count
        until_ps = None if math.isinf(count) else start_ps + int(count) * self.cycle().ps
        self._pending = True
        self._player.start(self.cycle, count, start_ps, self._end_burst)
        self._began(until_ps)

    def _end_burst(self) -> None:
        if self._pending:
            self._pending = False
            self._ended()


# ---------------------------------------------------------------------------------------------- the instrument

AnyChannel = TypeVar("AnyChannel", bound=Channel)
SETUPS: Final = 5  # places of *SAV and *RCL


class Generator(ScpiInstrument, Generic[AnyChannel]):
    """What the models share: two channels, triggers, stored setups. A model says how it makes a channel."""

    ROLE = "pulse"
    CHANNELS: ClassVar[int] = 2

    SETTINGS: ClassVar[tuple[Setting, ...]] = (
        Setting("SYSTem:BEEPer:STATe", "beeps", Boolean(True), kept=True),
        Setting("SYSTem:KLOCk[:STATe]", "locked", Boolean(), kept=True),
        Setting("DISPlay[:WINDow][:STATe]", "display", Boolean(True)),
    )

    channels: list[AnyChannel]

    def build(self) -> None:
        """Make the channels."""
        self._setups: dict[int, list[tuple[object, str, object]]] = {}
        self.channels = [self.channel(n) for n in range(1, self.CHANNELS + 1)]

    @abstractmethod
    def channel(self, number: int) -> AnyChannel:
        """A new channel on its terminal."""

    def complain(self, what: str) -> None:
        """Report a setting that was adjusted."""
        self.status.error(-221, f"Settings conflict; {what}")

    def chosen(self, call: Call) -> AnyChannel:
        """The channel that the first suffix of a header names."""
        index = call.suffixes[0] - 1 if call.suffixes else 0
        if index >= len(self.channels):
            raise ScpiError(-114)
        return self.channels[index]

    def reset(self) -> None:
        """Outputs off, everything as after *RST."""
        super().reset()
        for channel in self.channels:
            channel.restart()

    def triggered(self) -> None:
        """Fire every channel that waits for the bus."""
        waiting = [channel for channel in self.channels if channel.awaits_bus]
        if not waiting:
            raise ScpiError(-211)
        for channel in waiting:
            self.guarded(channel.fire)

    def _state(self) -> list[tuple[object, str, object]]:
        tables = [vars(cls).get("SETTINGS", ()) for cls in reversed(type(self).__mro__)]
        settings = [setting for table in tables for setting in table if not setting.kept]
        return [(one, s.attribute, getattr(one, s.attribute)) for s in settings for one in s.targets(self)]

    @scpi("*SAV", event=True)
    def _save(self, call: Call) -> None:
        self._setups[int(call.number(0, low=0, high=SETUPS - 1, integer=True))] = self._state()

    @scpi("*RCL", event=True)
    def _recall(self, call: Call) -> None:
        place = int(call.number(0, low=0, high=SETUPS - 1, integer=True))
        if place not in self._setups:
            raise ScpiError(-224, f"Illegal parameter value; nothing is stored in {place}")
        for target, attribute, value in self._setups[place]:
            setattr(target, attribute, value)
        for channel in self.channels:
            channel.restart()

    @scpi("SYSTem:BEEPer[:IMMediate]", "SYSTem:{LOCal|REMote|RWLock}", params=0, event=True)
    def _nothing(self) -> None:
        """Heard or seen at the front panel only."""
