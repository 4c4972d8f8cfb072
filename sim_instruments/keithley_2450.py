"""The Keithley 2450 SourceMeter in its SCPI language.

What it does: source and measure, reading buffers by name, linear, logarithmic and list sweeps by SOUR:SWE and INIT.
Sources: Model 2450 Reference Manual 2450-901-01 (SCPI command reference) and the commands that public drivers send;
ranges, resolutions, noise, automatic delays and status bits by data sheet and manual, from memory.

An output that is off stays at 0 V with a limit of 0.5 % of the current range (output-off state NORMal, the default of
the manual); HIMPedance opens it, ZERO keeps the programmed limit, GUARd is taken as NORMal. A sweep switches the output
on at its start and off at its end. The interlock is open: not more than 42 V. TSP and SCPI2400 cannot be chosen.
A step takes its delay, then the integration; nothing else takes time.
"""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from .engine.scpi import Boolean, Call, Number, ScpiError, Setting, Text, Words, scpi
from .engine.scpi_smu import UNITS, Channel, ScpiSmu, other, quantity
from .engine.smu import OVERFLOW, DataSheet, Quantity, Range, Reading, Steps, Store
from .engine.status import ErrorEntry

if TYPE_CHECKING:
    from collections.abc import Callable

SHEET: Final = DataSheet(
    volts=(
        Range(0.02, 1e-8, 500e-9, 1e-7),
        Range(0.2, 1e-7, 5e-6, 2e-7),
        Range(2.0, 1e-6, 50e-6, 2e-6),
        Range(20.0, 1e-5, 500e-6, 2e-5),
        Range(200.0, 1e-4, 5e-3, 2e-4),
    ),
    amps=(
        Range(10e-9, 1e-14, 500e-15, 1e-13),
        Range(100e-9, 1e-13, 5e-12, 3e-13),
        Range(1e-6, 1e-12, 50e-12, 2e-12),
        Range(10e-6, 1e-11, 500e-12, 2e-11),
        Range(100e-6, 1e-10, 5e-9, 2e-10),
        Range(1e-3, 1e-9, 50e-9, 2e-9),
        Range(10e-3, 1e-8, 500e-9, 2e-8),
        Range(100e-3, 1e-7, 5e-6, 2e-7),
        Range(1.0, 1e-6, 50e-6, 5e-6),
    ),
    over=1.05,
    limit_v=210.0,
    limit_a=1.05,
)

AUTO_DELAY: Final = {10e-9: 0.15, 100e-9: 0.1, 1e-6: 3e-3, 10e-6: 2e-3}  # by current range; else 1 ms
EPOCH_S: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()  # what the clock of the instrument says at the start
LIMITED, FOUR_WIRE, OUTPUT_ON = 8, 16, 32  # source status of a reading
NAMES: Final = {"CURR": '"CURR:DC"', "VOLT": '"VOLT:DC"', "RES": '"RES"'}
SENSE: Final = "SENSe#:{VOLTage|CURRent|RESistance}[:DC]"
ELEMENTS: Final = (
    "READing", "SOURce", "RELative", "FORMatted", "SOURFORMatted", "SOURSTATus", "SOURUNIT", "STATus", "UNIT",
    "DATE", "TIME", "TSTamp", "SEConds", "FRACtional", "EXTRa",
)  # fmt: skip
OFF_STATES: Final = ("NORMal", "HIMPedance", "ZERO", "GUARd")
SCREENS: Final = ("HOME", "HOME_LARGe_reading", "READing_table", "GRAPh", "SWIPE_USER")
USUAL_SIZE: Final = 100_000
LARGEST_SIZE: Final = 6_875_000


class Plan(NamedTuple):
    """A sweep that INIT carries out."""

    kind: Quantity
    values: tuple[float, ...]
    delay_s: float
    times: int
    fail_abort: bool
    buffer: str


class Loop(NamedTuple):
    """The trigger model SimpleLoop: so many readings, each after a delay."""

    readings: int
    delay_s: float
    buffer: str


class Keithley2450(ScpiSmu):
    """See the module."""

    MODEL = "keithley-2450"
    IDN = "KEITHLEY INSTRUMENTS,MODEL 2450,{serial},1.7.12b"
    SHEET = SHEET
    LIMIT_V, LIMIT_A = 21.0, 105e-6
    NPLC = (0.01, 10.0)
    GUARDED = True
    LIST_TOTAL = 100_000
    SETTINGS = (
        Setting("ROUTe:TERMinals", "terminals", Words("FRONt", "REAR")),
        Setting("SENSe#:COUNt", "count", Number("", 1, 300000, 1, integer=True, form=".0f")),
        *(
            Setting(f"OUTPut#:{name}:SMODe", f"off_{name}", Words(*OFF_STATES), changed="off")
            for name in ("VOLTage", "CURRent")
        ),
        *(
            Setting(f"SOURce#:{name}:READ:BACK", f"read_back_{name}", Boolean(True))
            for name in ("VOLTage", "CURRent")
        ),
        *(
            Setting(f"SOURce#:{name}:HIGH:CAPacitance", f"high_c_{name}", Boolean(False))
            for name in ("VOLTage", "CURRent")
        ),
        Setting("SOURce#:VOLTage:PROTection[:LEVel]", "protection", Words(
            "NONE", "PROT2", "PROT5", "PROT10", "PROT20", "PROT40", "PROT60", "PROT80", "PROT100", "PROT120", "PROT140",
            "PROT160", "PROT180")),
        Setting("FORMat:ASCii:PRECision", "precision", Number("", 0, 16, 0, integer=True, form=".0f")),
        Setting("DISPlay:LIGHt:STATe", "light", Words("ON100", "ON75", "ON50", "ON25", "OFF", "BLACkout")),
        Setting("DISPlay:SCReen", "screen", Words(*SCREENS)),
        Setting("DISPlay:USER1:TEXT[:DATA]", "line1", Text("", 20)),
        Setting("DISPlay:USER2:TEXT[:DATA]", "line2", Text("", 32)),
    )  # fmt: skip
    count: float
    off_VOLTage: str  # noqa: N815 (named as its header)
    off_CURRent: str  # noqa: N815

    def build(self) -> None:
        """The two buffers that are always there."""
        super().build()
        self.buffers: dict[str, Store] = {}
        self.plan: Plan | Loop | None = None

    def reset(self) -> None:
        """Made buffers are gone, the others empty; no sweep is configured."""
        super().reset()
        self.buffers = {name: Store(USUAL_SIZE, ring=True) for name in ("DEFBUFFER1", "DEFBUFFER2")}
        self.plan = None
        self.source_delay: dict[Quantity, float] = {"VOLT": 0.0, "CURR": 0.0}
        self.auto_delay: dict[Quantity, bool] = {"VOLT": True, "CURR": True}
        self.user_delay: dict[tuple[str, int], float] = {}
        self.auto_zero: dict[str, bool] = dict.fromkeys(NAMES, True)
        self.apertures: dict[str, float] = dict.fromkeys(NAMES, 1.0)
        self.four_wire: dict[str, bool] = dict.fromkeys(NAMES, False)
        self.relative: dict[str, float] = dict.fromkeys(NAMES, 0.0)
        self.relative_on: dict[str, bool] = dict.fromkeys(NAMES, False)
        self.ohms_auto, self.ohms_range = True, 200e3

    @property
    def smu(self) -> Channel:
        """Its only channel."""
        return self.channels[0]

    @property
    def function(self) -> str:
        """What it measures."""
        return self.smu.sensed[0]

    def off(self) -> None:
        """An output-off state was chosen."""
        word = self.off_VOLTage if self.smu.meter.source == "VOLT" else self.off_CURRent
        self.smu.meter.off_state = {"HIMP": "open", "ZERO": "zero"}.get(word, "normal")  # type: ignore[assignment]
        self.smu.meter.update()

    def format_error(self, entry: ErrorEntry) -> str:
        """Number, text, kind of event, time."""
        kind = 0 if entry.code == 0 else 1
        stamp = (
            "0 0"
            if entry.code == 0
            else datetime.fromtimestamp(EPOCH_S + self.world.now_s(), UTC).strftime("%Y/%m/%d %H:%M:%S.000")
        )
        return f'{entry.code},"{entry.text};{kind};{stamp}"'

    # -- language and system

    @scpi("*LANG")
    def _language(self, call: Call) -> str | None:
        if call.query:
            return "SCPI"
        if call.word(0, "SCPI", "TSP", "SCPI2400") != "SCPI":
            raise ScpiError(-224, "Illegal parameter value; this simulated 2450 speaks SCPI only")
        return None

    @scpi("SYSTem:EVENtlog:NEXT?", params=1)
    def _event(self, call: Call) -> str:
        del call
        return self.format_error(self.status.next_error())

    @scpi("SYSTem:EVENtlog:COUNt?", params=1)
    def _events(self, call: Call) -> str:
        del call
        return str(len(self.status.errors))

    @scpi("STATus:CLEar", params=0, event=True)
    def _clear_status(self) -> None:
        self.status.clear()

    @scpi("SYSTem:TIME", params=6)
    def _time(self, call: Call) -> str | None:
        now = datetime.fromtimestamp(EPOCH_S + self.world.now_s(), UTC)
        return now.strftime("%a %b %d %H:%M:%S %Y") if call.query else None

    @scpi("DISPlay:CLEar", params=0, event=True)
    def _clear_display(self) -> None:
        """Nothing is shown here."""

    @scpi("OUTPut#:INTerlock:{STATe|TRIPped}?", params=0)
    def _interlock(self) -> str:
        return "0"

    # -- source

    @scpi("SOURce#:VOLTage:ILIMit[:LEVel]")
    def _limit_a(self, call: Call) -> str | None:
        return self.limit_knob(call, self.channel(call), "CURR")

    @scpi("SOURce#:CURRent:VLIMit[:LEVel]")
    def _limit_v(self, call: Call) -> str | None:
        return self.limit_knob(call, self.channel(call), "VOLT")

    @scpi("SOURce#:{VOLTage|CURRent}:{ILIMit|VLIMit}[:LEVel]:TRIPped?", params=0)
    def _tripped(self, call: Call) -> str:
        sourced = quantity(call.choices[0])
        if (sourced == "VOLT") != (call.choices[1] == "ILIM"):
            raise ScpiError(-113)
        return self.tripped(self.channel(call), other(sourced))

    @scpi("SOURce#:VOLTage:PROTection:TRIPped?", params=0)
    def _protection_tripped(self) -> str:
        return "0"

    @scpi("SOURce#:{VOLTage|CURRent}:DELay")
    def _delay(self, call: Call) -> str | None:
        kind = quantity(call.choices[0])

        def put(value: float) -> None:
            self.source_delay[kind], self.auto_delay[kind] = value, False

        return self.knob(call, self._source_delay_s(kind), put, 0.0, 1e4, 0.0, "S")

    @scpi("SOURce#:{VOLTage|CURRent}:DELay:AUTO")
    def _delay_auto(self, call: Call) -> str | None:
        kind = quantity(call.choices[0])
        return self.flag(call, self.auto_delay[kind], lambda on: self.auto_delay.__setitem__(kind, on))

    def _source_delay_s(self, kind: Quantity) -> float:
        if not self.auto_delay[kind]:
            return self.source_delay[kind]
        return AUTO_DELAY.get(self.smu.meter.read_range["CURR"], 1e-3)

    @scpi("{SOURce|SENSe}#:{VOLTage|CURRent|RESistance}:DELay:USER#")
    def _user_delay(self, call: Call) -> str | None:
        key = (f"{call.choices[0]}:{call.choices[1]}", call.suffixes[1])
        if key[1] > 5:
            raise ScpiError(-114)
        put: Callable[[float], None] = lambda value: self.user_delay.__setitem__(key, value)  # noqa: E731
        return self.knob(call, self.user_delay.get(key, 0.0), put, 0.0, 1e4, 0.0, "S")

    # -- sense

    @scpi("SENSe#:FUNCtion[:ON]")
    def _function(self, call: Call) -> str | None:
        if call.query:
            return NAMES[self.function]
        found = call.text(0).upper().removesuffix(":DC")
        short = next((s for s, long in (("VOLT", "VOLTAGE"), ("CURR", "CURRENT"), ("RES", "RESISTANCE"))
                      if found in (s, long)), None)  # fmt: skip
        if short is None:
            raise ScpiError(-224)
        self.smu.sensed = [short]
        self._use_aperture()
        return None

    def _use_aperture(self) -> None:
        self.smu.nplc = self.apertures[self.function]
        self.smu.apply()

    @scpi(f"{SENSE}:NPLCycles")
    def _nplc(self, call: Call) -> str | None:
        kind = call.choices[0]

        def put(value: float) -> None:
            self.apertures[kind] = value
            self._use_aperture()

        return self.knob(call, self.apertures[kind], put, *self.NPLC, 1.0)

    @scpi(f"{SENSE}:RANGe[:UPPer]")
    def _range(self, call: Call) -> str | None:
        if call.choices[0] != "RES":
            return self.read_range_knob(call, self.channel(call), quantity(call.choices[0]))

        def put(value: float) -> None:
            self.ohms_range = min(2 * 10 ** max(math.ceil(math.log10(value / 2)), 1), 200e6)
            self.ohms_auto = False

        return self.knob(call, self.ohms_range, put, 2.0, 210e6, 200e3, "OHM")

    @scpi(f"{SENSE}:RANGe:AUTO")
    def _range_auto(self, call: Call) -> str | None:
        if call.choices[0] != "RES":
            return self.read_auto_flag(call, self.channel(call), quantity(call.choices[0]))
        return self.flag(call, self.ohms_auto, lambda on: setattr(self, "ohms_auto", on))

    @scpi("SENSe#:{VOLTage|CURRent}[:DC]:RANGe:AUTO:LLIMit")
    def _range_least(self, call: Call) -> str | None:
        return self.read_least_knob(call, self.channel(call), quantity(call.choices[0]))

    @scpi(f"{SENSE}:RSENse")
    def _remote(self, call: Call) -> str | None:
        kind = call.choices[0]
        return self.flag(call, self.four_wire[kind], lambda on: self.four_wire.__setitem__(kind, on))

    @scpi(f"{SENSE}:AZERo[:STATe]")
    def _auto_zero(self, call: Call) -> str | None:
        kind = call.choices[0]
        return self.flag(call, self.auto_zero[kind], lambda on: self.auto_zero.__setitem__(kind, on))

    @scpi("SENSe#:AZERo:ONCE", params=0, event=True)
    def _zero_once(self) -> None:
        self.spend(3 * self.smu.meter.aperture_s)

    @scpi(f"{SENSE}:AVERage[:STATe]")
    def _average(self, call: Call) -> str | None:
        return self.average_flag(call, self.channel(call))

    @scpi(f"{SENSE}:AVERage:COUNt")
    def _average_count(self, call: Call) -> str | None:
        return self.average_count_knob(call, self.channel(call))

    @scpi(f"{SENSE}:AVERage:TCONtrol")
    def _average_kind(self, call: Call) -> str | None:
        if call.query:
            return self.smu.average_kind
        self.smu.average_kind = call.word(0, "REPeat", "MOVing")
        return None

    @scpi(f"{SENSE}:RELative")
    def _relative(self, call: Call) -> str | None:
        kind = call.choices[0]
        put: Callable[[float], None] = lambda value: self.relative.__setitem__(kind, value)  # noqa: E731
        return self.knob(call, self.relative[kind], put, -210e6, 210e6, 0.0, UNITS[kind])

    @scpi(f"{SENSE}:RELative:STATe")
    def _relative_state(self, call: Call) -> str | None:
        kind = call.choices[0]
        return self.flag(call, self.relative_on[kind], lambda on: self.relative_on.__setitem__(kind, on))

    # -- measuring

    @scpi("{READ|MEASure}?", "{READ|MEASure}:{VOLTage|CURRent|RESistance}[:DC]?", params=None)
    def _read(self, call: Call) -> str | bytes:
        if len(call.choices) > 1 and call.choices[1]:
            self.smu.sensed = [call.choices[1]]
            self._use_aperture()
        name, elements = self._buffer_and_elements(call, 0)
        for _ in range(int(self.count)):
            self.spend(self.smu.meter.reading_s)
            self._record(name)
        return self._show(self.buffers[name].readings[-1:], elements, self.buffers[name])

    @scpi("FETCh?", params=None)
    def _fetch(self, call: Call) -> str | bytes:
        name, elements = self._buffer_and_elements(call, 0)
        store = self.buffers[name]
        if not store.readings:
            raise ScpiError(-230, "Data corrupt or stale; the buffer is empty")
        return self._show(store.readings[-1:], elements, store)

    def _record(self, name: str) -> Reading:
        reading = self.smu.meter.take()
        if self.relative_on[self.function] and not reading.over:
            shift = self.relative[self.function]
            if self.function == "VOLT":
                reading = reading._replace(volts=reading.volts - shift)
            elif self.function == "CURR":
                reading = reading._replace(amps=reading.amps - shift)
        self.buffers[name].add(reading)
        return reading

    def _buffer_and_elements(self, call: Call, first: int) -> tuple[str, list[str]]:
        rest = list(range(first, len(call.args)))
        name = "DEFBUFFER1"
        if rest and call.args[rest[0]][:1] in "\"'":
            name = self._known(call.text(rest.pop(0)))
        return name, [call.word(i, *ELEMENTS) for i in rest] or ["READ"]

    def _known(self, name: str) -> str:
        if name.upper() not in self.buffers:
            raise ScpiError(4917, f"Reading buffer {name} not found")
        return name.upper()

    def _show(self, readings: list[Reading], elements: list[str], store: Store) -> str | bytes:
        if self.data_format != "ASC":
            numbers = [float(self._element(e, r, store)) for r in readings for e in elements]
            return self.format_readings(numbers)
        return ",".join(self._element(element, reading, store) for reading in readings for element in elements)

    def _element(self, element: str, reading: Reading, store: Store) -> str:
        stamp = datetime.fromtimestamp(EPOCH_S + reading.time_s, UTC)
        value, unit = reading.of(self.function), {"VOLT": "Volt DC", "CURR": "Amp DC"}.get(self.function, "Ohm")
        source_unit = "Volt DC" if self.smu.meter.source == "VOLT" else "Amp DC"
        status = (LIMITED if reading.limited else 0) | OUTPUT_ON
        return {
            "READ": self.format_number(value),
            "FORM": f"{value:+.6E} {unit}",
            "SOUR": self.format_number(reading.source),
            "SOURFORM": f"{reading.source:+.6E} {source_unit}",
            "SOURSTAT": str(status | (FOUR_WIRE if self.four_wire[self.function] else 0)),
            "SOURUNIT": source_unit,
            "STAT": str(1 if abs(value) >= OVERFLOW else 0),
            "UNIT": unit,
            "REL": self.format_number(reading.time_s - store.started_s),
            "DATE": stamp.strftime("%m/%d/%Y"),
            "TIME": stamp.strftime("%H:%M:%S"),
            "TST": stamp.strftime("%m/%d/%Y %H:%M:%S.%f"),
            "SEC": str(int(EPOCH_S + reading.time_s)),
            "FRAC": f"{math.fmod(reading.time_s, 1.0):.9f}",
            "EXTR": "0",
        }[element]

    # -- buffers

    @scpi("TRACe:MAKE", params=3, event=True)
    def _make(self, call: Call) -> None:
        name = call.text(0).upper()
        size = int(call.number(1, low=10, high=LARGEST_SIZE, integer=True))
        if name in self.buffers:
            raise ScpiError(4913, f"Reading buffer {call.text(0)} already exists")
        if len(call.args) > 2 and call.args[2]:
            call.word(2, "COMPact", "STANdard", "FULL", "WRITable", "FULLWRITable")
        self.buffers[name] = Store(size)

    @scpi("TRACe:DELete", event=True)
    def _delete(self, call: Call) -> None:
        name = self._known(call.text(0))
        if name.startswith("DEFBUFFER"):
            raise ScpiError(-221, "Settings conflict; a default buffer cannot be deleted")
        del self.buffers[name]

    @scpi("TRACe:CLEar", event=True)
    def _clear(self, call: Call) -> None:
        self.buffers[self._named(call, 0)].clear()

    def _named(self, call: Call, i: int) -> str:
        return self._known(call.text(i)) if len(call.args) > i else "DEFBUFFER1"

    @scpi("TRACe:ACTual?", "TRACe:ACTual:{STARt|END}?")
    def _actual(self, call: Call) -> str:
        n = len(self.buffers[self._named(call, 0)].readings)
        return str(min(n, 1) if call.choices[:1] == ("STAR",) else n)

    @scpi("TRACe:DATA?", params=None)
    def _data_of(self, call: Call) -> str | bytes:
        first = int(call.number(0, integer=True))
        last = int(call.number(1, integer=True))
        name, elements = self._buffer_and_elements(call, 2)
        store = self.buffers[name]
        if not 1 <= first <= last <= len(store.readings):
            raise ScpiError(-222, f"Data out of range; readings {first} to {last} of {len(store.readings)}")
        return self._show(store.readings[first - 1 : last], elements, store)

    @scpi("TRACe:POINts", params=2)
    def _points(self, call: Call) -> str | None:
        if call.query:
            return str(self.buffers[self._named(call, 0)].capacity)
        store = self.buffers[self._named(call, 1)]
        store.capacity = int(call.number(0, low=10, high=LARGEST_SIZE, integer=True))
        store.clear()
        return None

    @scpi("TRACe:FILL:MODE", params=2)
    def _fill(self, call: Call) -> str | None:
        store = self.buffers[self._named(call, 0 if call.query else 1)]
        if call.query:
            return "CONT" if store.ring else "ONCE"
        store.ring = call.word(0, "CONTinuous", "ONCE") == "CONT"
        return None

    @scpi("TRACe:TRIGger", event=True)
    def _trace_trigger(self, call: Call) -> None:
        name = self._named(call, 0)
        for _ in range(int(self.count)):
            self.spend(self.smu.meter.reading_s)
            self._record(name)

    @scpi("TRACe:STATistics:{AVERage|MAXimum|MINimum|STDDev|PK2Pk}?")
    def _statistics(self, call: Call) -> str:
        values = [reading.of(self.function) for reading in self.buffers[self._named(call, 0)].readings]
        if not values:
            raise ScpiError(-230, "Data corrupt or stale; the buffer is empty")
        how: dict[str, Callable[[list[float]], float]] = {
            "AVER": statistics.fmean, "MAX": max, "MIN": min, "PK2P": lambda v: max(v) - min(v),
            "STDD": lambda v: statistics.stdev(v) if len(v) > 1 else 0.0,
        }  # fmt: skip
        return self.format_number(how[call.choices[0]](values))

    # -- sweeps

    def _sweep_rest(self, call: Call, first: int, *, dual: bool) -> tuple[float, int, bool, bool, str]:
        """delay, count, fail-abort, dual, buffer: what stands after the values of a sweep."""
        given = [i < len(call.args) and call.args[i] != "" for i in range(first, first + 6)]
        places = iter(range(first, first + 6))
        at = {name: next(places) for name in (("delay", "count", "range", "fail", "dual", "buffer") if dual else
                                              ("delay", "count", "fail", "buffer"))}  # fmt: skip

        def has(name: str) -> bool:
            return name in at and given[at[name] - first]

        delay = call.number(at["delay"], "S", low=-1, high=1e4, default=-1) if has("delay") else -1.0
        count = int(call.number(at["count"], low=0, high=268435455, default=1, integer=True)) if has("count") else 1
        if has("range"):
            self.smu.meter.set_auto[self.smu.meter.source] = call.word(at["range"], "AUTO", "BEST", "FIXed") != "FIX"
        fail = call.boolean(at["fail"]) if has("fail") else True
        back = call.boolean(at["dual"]) if has("dual") else False
        name = self._known(call.text(at["buffer"])) if has("buffer") else "DEFBUFFER1"
        return delay, count, fail, back, name

    @scpi("SOURce#:SWEep:{VOLTage|CURRent}:{LINear|LOG}", params=None, event=True)
    def _ramp(self, call: Call) -> None:
        kind = quantity(call.choices[0])
        start, stop = (call.number(i, UNITS[kind], low=-self._top(kind), high=self._top(kind)) for i in (0, 1))
        points = int(call.number(2, low=2, high=1e6, integer=True))
        self._configure(call, kind, _ramp(start, stop, points, log=call.choices[1] == "LOG"), 3)

    @scpi("SOURce#:SWEep:{VOLTage|CURRent}:LINear:STEP", params=None, event=True)
    def _steps(self, call: Call) -> None:
        kind = quantity(call.choices[0])
        start, stop, step = (call.number(i, UNITS[kind], low=-self._top(kind), high=self._top(kind)) for i in range(3))
        if step == 0.0:
            raise ScpiError(-222, "Data out of range; a step of 0")
        points = int(abs(stop - start) / abs(step) + 1e-9) + 1
        values = [start + math.copysign(step, stop - start) * k for k in range(points)]
        self._configure(call, kind, values, 3)

    def _top(self, kind: Quantity) -> float:
        return SHEET.most(kind)

    def _configure(self, call: Call, kind: Quantity, values: list[float], first: int) -> None:
        delay, count, fail, back, name = self._sweep_rest(call, first, dual=True)
        there_and_back = values + values[-2::-1] if back else values
        self.plan = Plan(kind, tuple(there_and_back), delay, count, fail, name)

    @scpi("SOURce#:SWEep:{VOLTage|CURRent}:LIST", params=6, event=True)
    def _list_sweep(self, call: Call) -> None:
        kind = quantity(call.choices[0])
        first = int(call.number(0, low=1, high=self.LIST_TOTAL, integer=True)) if call.args and call.args[0] else 1
        values = self.smu.lists[kind][first - 1 :]
        if not values:
            raise ScpiError(-221, "Settings conflict; the source list is empty")
        delay, count, fail, _, name = self._sweep_rest(call, 1, dual=False)
        self.plan = Plan(kind, tuple(values), delay, count, fail, name)

    @scpi("INITiate[:IMMediate]", params=0, event=True)
    def _initiate(self) -> None:
        if self.plan is None:
            raise ScpiError(2731, "Trigger model, Initiate failed: no trigger model is configured")
        if self.work.busy(self.smu):
            raise ScpiError(-213)
        if isinstance(self.plan, Plan):  # the trigger model of a sweep begins with a block that clears (from memory)
            self.buffers[self.plan.buffer].clear()
        steps = self._loop(self.plan) if isinstance(self.plan, Loop) else self._sweep(self.plan)
        self.work.launch(steps, self.smu)

    @scpi("TRIGger:LOAD", params=4, event=True)
    def _load(self, call: Call) -> None:
        if call.text(0).upper() != "SIMPLELOOP":
            raise ScpiError(-224, "Illegal parameter value; of the trigger models only SimpleLoop is simulated")
        count = int(call.number(1, low=1, high=268435455, integer=True))
        delay_s = call.number(2, "S", low=0, high=1e4, default=0.0) if len(call.args) > 2 else 0.0
        self.plan = Loop(count, delay_s, self._named(call, 3))

    def _loop(self, plan: Loop) -> Steps:
        for _ in range(plan.readings):
            yield plan.delay_s + self.smu.meter.reading_s
            self._record(plan.buffer)

    def _sweep(self, plan: Plan) -> Steps:
        meter = self.smu.meter
        meter.source = plan.kind
        delay_s = self._source_delay_s(plan.kind) if plan.delay_s < 0 else plan.delay_s
        meter.turn_on(plan.values[0])
        for k in range((plan.times or 10**9) * len(plan.values)):
            meter.force(plan.values[k % len(plan.values)])
            yield delay_s + meter.reading_s
            if self._record(plan.buffer).limited and plan.fail_abort:
                break
        self.smu.switch(False)

    @scpi("ABORt", params=0, event=True)
    def _abort(self) -> None:
        if self.work.busy(self.smu):
            self.work.stop(self.smu)
            self.smu.switch(False)

    @scpi("TRIGger:STATe?", params=0)
    def _state(self) -> str:
        word = "RUNNING" if self.work.busy(self.smu) else "IDLE"
        return f"{word};{word};0"

    def triggered(self) -> None:
        """*TRG: no block of a sweep waits for it."""


def _ramp(start: float, stop: float, points: int, *, log: bool) -> list[float]:
    if log and start * stop <= 0.0:
        raise ScpiError(-222, "Data out of range; a logarithmic sweep does not touch 0")
    if log:
        return [start * (stop / start) ** (k / (points - 1)) for k in range(points)]
    return [start + (stop - start) * k / (points - 1) for k in range(points)]


plugin = Keithley2450
