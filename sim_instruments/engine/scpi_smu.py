"""What the SMUs that speak SCPI have in common: levels, limits, ranges, integration, formats.

A model names its sheet, its channels and its own commands; `Channel.apply` brings settings to source and meter.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, ClassVar

from . import grammar
from .scpi import Boolean, Call, ScpiError, ScpiInstrument, Setting, Words, scpi
from .smu import LINE_HZ, OVERFLOW, Background, DataSheet, Quantity, SourceMeter, Steps

if TYPE_CHECKING:
    from ..world.world import Terminal

UNITS = {"VOLT": "V", "CURR": "A", "RES": "OHM"}
FUNCTIONS = ("VOLTage[:DC]", "CURRent[:DC]", "RESistance")
LEAST_LIMIT = {"VOLT": 0.02, "CURR": 1e-9}  # from memory
SETUPS = 5  # places of *SAV and *RCL
INTERLOCK_V = 42.0  # beyond this an output needs a closed interlock; here it is open


def quantity(word: str) -> Quantity:
    """VOLT or CURR from a choice of a header."""
    return "CURR" if word.startswith("CURR") else "VOLT"


def other(kind: Quantity) -> Quantity:
    """What is limited when this is sourced."""
    return "VOLT" if kind == "CURR" else "CURR"


def _plain(part: object) -> dict[str, object]:
    """The settings of an object: numbers, words, and lists and tables of them."""
    return {
        name: deepcopy(value)
        for name, value in vars(part).items()
        if isinstance(value, bool | int | float | str | list | dict) and name not in ("results", "layers", "bus")
    }


class Channel:
    """One channel: its meter, and what sweeps and measurements of the SCPI models need besides."""

    def __init__(self, unit: ScpiSmu, number: int, guard: Terminal | None = None) -> None:
        self.unit, self.number = unit, number
        seed = f"{unit.serial}.{number}"
        self.meter = SourceMeter(
            unit.world, unit.terminal(number), unit.SHEET, seed=seed, noise=unit.noise, guard=guard
        )
        self.clear()

    def clear(self) -> None:
        """As after *RST: output off, 0 V, lists empty."""
        self.meter.reset()
        self.meter.off_state = "normal"
        self.meter.limit = {"VOLT": self.unit.LIMIT_V, "CURR": self.unit.LIMIT_A}
        self.nplc = 1.0
        self.sensed: list[str] = ["CURR"]
        self.averaging, self.average_count, self.average_kind = False, 10, "REP"
        self.mode: dict[Quantity, str] = {"VOLT": "FIX", "CURR": "FIX"}
        self.lists: dict[Quantity, list[float]] = {"VOLT": [], "CURR": []}
        self.sweep: dict[str, dict[Quantity, float]] = {name: {"VOLT": 0.0, "CURR": 0.0} for name in ("STAR", "STOP")}
        self.step: dict[Quantity, float] = {"VOLT": 0.0, "CURR": 0.0}
        self.four_wire = self.high_capacitance = False
        self.apply()

    def apply(self) -> None:
        """Bring the settings to the meter and the terminal."""
        self.meter.aperture_s = self.nplc / self.unit.line_hz
        self.meter.averages = self.average_count if self.averaging else 1
        self.meter.update()

    def switch(self, on: bool) -> None:
        """Output on or off."""
        if on and self.meter.source == "VOLT" and abs(self.meter.present) > INTERLOCK_V:
            raise ScpiError(-221, f"Settings conflict; interlock is open, more than {INTERLOCK_V:g} V")
        self.meter.output = on
        self.meter.force(None)


class ScpiSmu(ScpiInstrument):
    """Commands that the 2400, the 2450 and the B2900 share. `self.channels` from 1 on."""

    SHEET: ClassVar[DataSheet]
    LIMIT_V: ClassVar[float]  # limits after *RST
    LIMIT_A: ClassVar[float]
    NPLC: ClassVar[tuple[float, float]]
    CHANNELS: ClassVar[int] = 1
    GUARDED: ClassVar[bool] = False  # channel 1 has a guard terminal on the bench
    ROLE = "smu"
    SETTINGS: ClassVar[tuple[Setting, ...]] = (
        Setting("SYSTem:BEEPer:STATe", "beeps", Boolean(True)),
        Setting("SYSTem:KEY:LOCK", "keys_locked", Boolean(False)),
        Setting("FORMat:BORDer", "byte_order", Words("NORMal", "SWAPped")),
    )
    byte_order: str

    def build(self) -> None:
        """Channels and what runs in the background."""
        super().build()
        self.line_hz, self.line_found = LINE_HZ, True  # the mains of the bench; kept by *RST
        self.work = Background(self)
        guard = self.world.terminal(f"{self.role}.guard") if self.GUARDED else None
        self.channels = [self.new_channel(n, guard if n == 1 else None) for n in range(1, self.CHANNELS + 1)]
        self.data_format = "ASC"
        self._setups: dict[int, list[dict[str, object]]] = {}

    def new_channel(self, number: int, guard: Terminal | None) -> Channel:
        """A channel of this model."""
        return Channel(self, number, guard)

    def reset(self) -> None:
        """Outputs off, everything that runs stopped, settings as after *RST."""
        self.work.stop()
        super().reset()
        self.data_format = "ASC"
        for channel in self.channels:
            channel.clear()

    def power_cycle(self) -> None:
        """What runs ends where it is."""
        with self.world.lock:
            self.work.stop()
            super().power_cycle()

    def ask_wait(self) -> None:
        """Let time pass for what will end by itself."""
        self.work.finish()
        super().ask_wait()

    def run(self, steps: Steps) -> None:
        """Carry something out that a command waits for. Raises ScpiError -214 if no trigger can end it."""
        process = self.work.launch(steps)
        while process.running and process.next_ps is not None:
            self.world.run_until(process.next_ps)
        if process.running:
            process.stop()
            raise ScpiError(-214, "Trigger deadlock")

    def channel(self, call: Call, place: int = 0) -> Channel:
        """The channel of a numeric suffix."""
        number = call.suffixes[place] if len(call.suffixes) > place else 1
        if number > len(self.channels):
            raise ScpiError(-114)
        return self.channels[number - 1]

    def knob(
        self, call: Call, now: float, put: Callable[[float], None], low: float, high: float, default: float,
        unit: str = "", *, integer: bool = False,
    ) -> str | None:  # fmt: skip
        """Set or answer a number; the query answers MIN, MAX and DEF as well."""
        if not call.query:
            put(call.number(0, unit, low=low, high=high, default=default, integer=integer))
            return None
        named = grammar.Range(low, high, default, unit).named(call.arg(0)) if call.args else now
        if named is None:
            raise ScpiError(-224)
        return f"{round(named)}" if integer else self.format_number(named)

    def flag(self, call: Call, now: bool, put: Callable[[bool], None]) -> str | None:
        """Set or answer ON or OFF."""
        if call.query:
            return "1" if now else "0"
        put(call.boolean(0))
        return None

    # -- stored setups

    @scpi("*SAV", event=True)
    def _save(self, call: Call) -> None:
        place = int(call.number(0, low=0, high=SETUPS - 1, integer=True))
        self._setups[place] = [_plain(part) for part in self._parts()]

    @scpi("*RCL", event=True)
    def _recall(self, call: Call) -> None:
        place = int(call.number(0, low=0, high=SETUPS - 1, integer=True))
        if place not in self._setups:
            raise ScpiError(-224, f"Illegal parameter value; nothing is stored in {place}")
        self.work.stop()
        for part, kept in zip(self._parts(), self._setups[place], strict=True):
            vars(part).update(deepcopy(kept))
        for channel in self.channels:
            channel.apply()
            channel.switch(False)

    def _parts(self) -> list[object]:
        """What has settings: channels and their meters, and what a table of settings names."""
        meters = [channel.meter for channel in self.channels]
        return [*self.channels, *meters]

    # -- numbers out

    def format_number(self, value: float) -> str:
        """A setting or a reading: seven digits as on the wire, all of them where nothing is rounded."""
        return f"{value:+.6E}" if self.noise or abs(value) >= OVERFLOW else f"{value:+.15E}"

    def format_readings(self, values: Sequence[float]) -> str | bytes:
        """Readings in the format of FORMat[:DATA]: text, or an indefinite block of binary numbers."""
        if self.data_format == "ASC":
            return ",".join(map(self.format_number, values))
        letter = "d" if self.data_format == "REAL64" else "f"
        order = ">" if self.byte_order == "NORM" else "<"
        return grammar.block(struct.pack(f"{order}{len(values)}{letter}", *values))

    @scpi("FORMat[:DATA]", params=2)
    def _data(self, call: Call) -> str | None:
        if call.query:
            return {"ASC": "ASC", "REAL64": "REAL,64", "REAL32": "REAL,32"}[self.data_format]
        word = call.word(0, "ASCii", "REAL", "SREal")
        bits = call.number(1) if len(call.args) > 1 and word == "REAL" else self.REAL_BITS
        if bits not in (32, 64) and word == "REAL":
            raise ScpiError(-224)
        self.data_format = {"ASC": "ASC", "REAL": f"REAL{bits:.0f}", "SRE": "REAL32"}[word]
        return None

    REAL_BITS: ClassVar[float] = 64.0

    # -- source

    @scpi("SOURce#:FUNCtion[:MODE]")
    def _source(self, call: Call) -> str | None:
        channel = self.channel(call)
        if call.query:
            return channel.meter.source
        kind = quantity(call.word(0, "VOLTage", "CURRent"))
        if kind != channel.meter.source:
            channel.meter.source = kind
            self.changed_source(channel)
        channel.apply()
        return None

    def changed_source(self, channel: Channel) -> None:
        """The 2400 and 2450 go off when the source function changes."""
        channel.switch(False)

    @scpi("SOURce#:{VOLTage|CURRent}[:LEVel][:IMMediate][:AMPLitude]")
    def _level(self, call: Call) -> str | None:
        channel, kind = self.channel(call), quantity(call.choices[0])
        meter, top = channel.meter, self.SHEET.most(kind)

        def put(value: float) -> None:
            self.check_level(channel, kind, value)
            meter.level[kind] = value
            meter.force(None)

        return self.knob(call, meter.level[kind], put, -top, top, 0.0, UNITS[kind])

    def check_level(self, channel: Channel, kind: Quantity, value: float) -> None:
        """Refuse a level beyond a fixed range or the interlock."""
        meter = channel.meter
        top = meter.set_range[kind] * self.SHEET.over
        if not meter.set_auto[kind] and abs(value) > top * (1 + 1e-9):
            raise ScpiError(-222, f"Data out of range; {value:g} is beyond the source range {meter.set_range[kind]:g}")
        if kind == "VOLT" and abs(value) > INTERLOCK_V and meter.output and meter.source == kind:
            raise ScpiError(-221, f"Settings conflict; interlock is open, more than {INTERLOCK_V:g} V")

    @scpi("SOURce#:{VOLTage|CURRent}:RANGe")
    def _source_range(self, call: Call) -> str | None:
        channel, kind = self.channel(call), quantity(call.choices[0])
        meter = channel.meter
        tops = self.SHEET.of(kind)

        def put(value: float) -> None:
            chosen = self.SHEET.fit(kind, value).full
            if abs(meter.level[kind]) > chosen * self.SHEET.over * (1 + 1e-9):
                raise ScpiError(-221, f"Settings conflict; the level {meter.level[kind]:g} is beyond that range")
            meter.set_range[kind], meter.set_auto[kind] = chosen, False
            channel.apply()

        now = self.SHEET.fit(kind, meter.level[kind], over=True).full if meter.set_auto[kind] else meter.set_range[kind]
        top = tops[-1].full * self.SHEET.over
        return self.knob(call, now, put, -top, top, tops[0].full, UNITS[kind])

    @scpi("SOURce#:{VOLTage|CURRent}:RANGe:AUTO")
    def _source_auto(self, call: Call) -> str | None:
        channel, kind = self.channel(call), quantity(call.choices[0])

        def put(on: bool) -> None:
            if not on and channel.meter.set_auto[kind]:
                channel.meter.set_range[kind] = self.SHEET.fit(kind, channel.meter.level[kind], over=True).full
            channel.meter.set_auto[kind] = on
            channel.apply()

        return self.flag(call, channel.meter.set_auto[kind], put)

    def limit_knob(self, call: Call, channel: Channel, kind: Quantity) -> str | None:
        """The limit (compliance) of this quantity, which holds when the other one is sourced."""

        def put(value: float) -> None:
            channel.meter.limit[kind] = value
            channel.apply()

        default = self.LIMIT_A if kind == "CURR" else self.LIMIT_V
        return self.knob(
            call, channel.meter.limit[kind], put, LEAST_LIMIT[kind], self.SHEET.most(kind), default, UNITS[kind]
        )

    def tripped(self, channel: Channel, kind: Quantity) -> str:
        """1 while the limit of this quantity acts."""
        return "1" if channel.meter.limited and channel.meter.source == other(kind) else "0"

    @scpi("OUTPut#[:STATe]")
    def _output(self, call: Call) -> str | None:
        channel = self.channel(call)

        def put(on: bool) -> None:
            self.switched(channel, on)

        return self.flag(call, channel.meter.output, put)

    def switched(self, channel: Channel, on: bool) -> None:
        """An output command; stops what runs on the channel when it goes off."""
        if not on:
            self.work.stop(channel)
        channel.switch(on)

    # -- lists and sweeps

    @scpi("SOURce#:LIST:{VOLTage|CURRent}", params=None)
    def _list(self, call: Call) -> str | bytes | None:
        channel, kind = self.channel(call), quantity(call.choices[0])
        if call.query:
            return ",".join(map(self.format_number, channel.lists[kind]))
        channel.lists[kind] = self._list_values(call, kind, 0)
        return None

    @scpi("SOURce#:LIST:{VOLTage|CURRent}:APPend", params=None, event=True)
    def _append(self, call: Call) -> None:
        channel, kind = self.channel(call), quantity(call.choices[0])
        channel.lists[kind] += self._list_values(call, kind, len(channel.lists[kind]))

    @scpi("SOURce#:LIST:{VOLTage|CURRent}:POINts?", params=0)
    def _list_points(self, call: Call) -> str:
        return str(len(self.channel(call).lists[quantity(call.choices[0])]))

    LIST_PER_COMMAND: ClassVar[int] = 100
    LIST_TOTAL: ClassVar[int] = 2500

    def _list_values(self, call: Call, kind: Quantity, there: int) -> list[float]:
        if len(call.args) > self.LIST_PER_COMMAND or there + len(call.args) > self.LIST_TOTAL:
            raise ScpiError(-223, "Too much data")
        top = self.SHEET.most(kind)
        return [call.number(i, UNITS[kind], low=-top, high=top, default=0.0) for i in range(max(len(call.args), 1))]

    # -- sense

    def read_range_knob(self, call: Call, channel: Channel, kind: Quantity) -> str | None:
        """The range of the meter; automatic ranging goes off."""
        ranges = self.SHEET.of(kind)

        def put(value: float) -> None:
            channel.meter.read_range[kind] = self.SHEET.fit(kind, value, over=True).full
            channel.meter.read_auto[kind] = False
            channel.apply()

        top = ranges[-1].full * self.SHEET.over
        now = channel.meter.read_range[kind]
        if kind == channel.meter.source and channel.meter.output:
            now = channel.meter.source_range().full
        return self.knob(call, now, put, -top, top, ranges[0].full, UNITS[kind])

    def read_auto_flag(self, call: Call, channel: Channel, kind: Quantity) -> str | None:
        """Automatic ranging of the meter."""

        def put(on: bool) -> None:
            channel.meter.read_auto[kind] = on

        return self.flag(call, channel.meter.read_auto[kind], put)

    def read_least_knob(self, call: Call, channel: Channel, kind: Quantity) -> str | None:
        """The lowest range of automatic ranging."""
        ranges = self.SHEET.of(kind)

        def put(value: float) -> None:
            channel.meter.read_least[kind] = self.SHEET.fit(kind, value).full

        return self.knob(
            call, channel.meter.read_least[kind], put, ranges[0].full, ranges[-1].full, ranges[0].full, UNITS[kind]
        )

    def nplc_knob(self, call: Call, channel: Channel) -> str | None:
        """The integration time in power line cycles (one for all functions of a channel)."""

        def put(value: float) -> None:
            channel.nplc = value
            channel.apply()

        return self.knob(call, channel.nplc, put, *self.NPLC, 1.0)

    def average_count_knob(self, call: Call, channel: Channel) -> str | None:
        """How many readings the filter averages."""

        def put(value: float) -> None:
            channel.average_count = int(value)
            channel.apply()

        return self.knob(call, channel.average_count, put, 1, 100, 10, integer=True)

    def average_flag(self, call: Call, channel: Channel) -> str | None:
        """The filter on or off."""

        def put(on: bool) -> None:
            channel.averaging = on
            channel.apply()

        return self.flag(call, channel.averaging, put)

    # -- system

    @scpi("SYSTem:BEEPer[:IMMediate]", params=2, event=True)
    def _beep(self, call: Call) -> None:
        call.number(0, "HZ", low=20, high=2e6)
        call.number(1, "S", low=0, high=100)

    @scpi("SYSTem:LFRequency")
    def _line_frequency(self, call: Call) -> str | None:
        if call.query:
            return f"{self.line_hz:.0f}"
        if (asked := call.number(0, "HZ")) not in (50.0, 60.0):
            raise ScpiError(-224, "Illegal parameter value; 50 or 60 Hz")
        self.line_hz, self.line_found = asked, False
        for channel in self.channels:
            channel.apply()
        return None

    @scpi("SYSTem:LFRequency:AUTO")
    def _line_auto(self, call: Call) -> str | None:
        def put(on: bool) -> None:
            self.line_found = on
            self.line_hz = LINE_HZ if on else self.line_hz
            for channel in self.channels:
                channel.apply()

        return self.flag(call, self.line_found, put)

    @scpi("SYSTem:{LOCal|REMote|RWLock|CLEar}", params=0, event=True)
    def _control(self, call: Call) -> None:
        if call.choices[0] == "CLE":
            self.status.errors.clear()
