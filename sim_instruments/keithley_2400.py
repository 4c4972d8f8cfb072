"""The Keithley 2400 SourceMeter: one channel, SCPI.

What it does: source and measure, fixed, list and staircase sources by the trigger count, the trace buffer with its
statistics, bus and timed arming. Sources: Series 2400 User's Manual 2400S-900-01 (chapters 11 and 18: triggers and
command reference) and the commands that public drivers send; ranges, resolutions, noise and the errors from 800 on by
data sheet and manual, from memory.

An output that is off stays at 0 V with a limit of 0.5 % of the current range (OUTP:SMOD NORMal, the manual's default
after *RST); HIMPedance opens it, ZERO keeps the programmed limit, GUARd is taken as NORMal. With a fixed meter range a
reading beyond it is +9.9E37. A reading with the output off is refused (803). The interlock counts as open: not more
than 42 V. A point takes trigger delay, source delay and integration; nothing else takes time.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from .engine.scpi import Boolean, Call, Number, ScpiError, Setting, Text, Words, scpi
from .engine.scpi_smu import UNITS, ScpiSmu, quantity
from .engine.smu import DataSheet, Detector, Quantity, Range, Reading, Steps, Store
from .engine.status import MSS, Register

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine.scpi_smu import Channel

SHEET: Final = DataSheet(
    volts=(
        Range(0.2, 1e-6, 5e-6, 1e-6),
        Range(2.0, 1e-5, 50e-6, 5e-6),
        Range(20.0, 1e-4, 500e-6, 5e-5),
        Range(200.0, 1e-3, 5e-3, 5e-4),
    ),
    amps=(
        Range(1e-6, 1e-11, 50e-12, 5e-12),
        Range(10e-6, 1e-10, 500e-12, 5e-11),
        Range(100e-6, 1e-9, 5e-9, 5e-10),
        Range(1e-3, 1e-8, 50e-9, 5e-9),
        Range(10e-3, 1e-7, 500e-9, 5e-8),
        Range(100e-3, 1e-6, 5e-6, 5e-7),
        Range(1.0, 1e-5, 50e-6, 1e-5),
    ),
    over=1.05,
    limit_v=210.0,
    limit_a=1.05,
)

NOT_MEASURED: Final = 9.91e37
ORDER: Final = ("VOLT", "CURR", "RES", "TIME", "STAT")  # answers keep it, however the elements were chosen
AUTO_DELAY_S: Final = 1e-3
MOST_POINTS: Final = 2500
OVERFLOWED, COMPLIANCE = 1 << 0, 1 << 3  # status word of a reading, chapter 18, from memory
READING_AVAILABLE, BUFFER_AVAILABLE, BUFFER_FULL = 1 << 6, 1 << 8, 1 << 9  # measurement register
SWEEPING, WAITS_TRIGGER, WAITS_ARM, IDLE = 1 << 3, 1 << 5, 1 << 6, 1 << 10  # operation register
MSB: Final = 1  # measurement summary bit of the status byte
SOURCE: Final = "SOURce#:{VOLTage|CURRent}"
SENSE: Final = "[:SENSe#]:{VOLTage|CURRent|RESistance}[:DC]"


class Keithley2400(ScpiSmu):
    """See the module."""

    MODEL = "keithley-2400"
    IDN = "KEITHLEY INSTRUMENTS INC.,MODEL 2400,{serial},C33"
    SHEET = SHEET
    LIMIT_V, LIMIT_A = 21.0, 105e-6
    NPLC = (0.01, 10.0)
    GUARDED = True
    REAL_BITS = 32.0
    ERROR_DEPTH = 10
    SETTINGS = (
        Setting("ROUTe:TERMinals", "terminals", Words("FRONt", "REAR")),
        Setting("OUTPut#:SMODe", "off_word", Words("NORMal", "HIMPedance", "ZERO", "GUARd"), changed="off"),
        Setting("OUTPut#:ENABle[:STATe]", "enable", Boolean(False)),
        Setting("SOURce#:CLEar:AUTO", "auto_clear", Boolean(False)),
        Setting("SOURce#:SWEep:SPACing", "spacing", Words("LINear", "LOGarithmic")),
        Setting("SOURce#:SWEep:DIRection", "direction", Words("UP", "DOWN")),
        Setting("SOURce#:SWEep:RANGing", "ranging", Words("BEST", "AUTO", "FIXed")),
        Setting("SOURce#:SWEep:CABort", "cabort", Words("NEVer", "EARLy", "LATE")),
        Setting("SOURce#:VOLTage:PROTection[:LEVel]", "over_volts", Number("V", 20, 210, 210)),
        Setting("SYSTem:RSENse", "remote", Boolean(False)),
        Setting("SYSTem:GUARd", "guard_kind", Words("CABLe", "OHMS")),
        Setting("SYSTem:AZERo:CACHing[:STATe]", "caching", Boolean(True)),
        Setting("SYSTem:TIME:RESet:AUTO", "time_auto", Boolean(False)),
        Setting("[:SENSe#]:RESistance:MODE", "ohms_mode", Words("MANual", "AUTO")),
        Setting("[:SENSe#]:RESistance:OCOMpensated", "ohms_compensated", Boolean(False)),
        Setting("[:SENSe#]:RESistance:RANGe[:UPPer]", "ohms_range", Number("OHM", 0, 210e6, 210e3)),
        Setting("[:SENSe#]:RESistance:RANGe:AUTO", "ohms_auto", Boolean(True)),
        Setting("[:SENSe#]:FUNCtion:CONCurrent", "concurrent", Boolean(True)),
        Setting("[:SENSe#]:AVERage:TCONtrol", "filter_kind", Words("REPeat", "MOVing")),
        Setting("TRIGger[:SEQuence#]:COUNt", "points", Number("", 1, MOST_POINTS, 1, integer=True, form=".0f")),
        Setting("TRIGger[:SEQuence#]:DELay", "trigger_delay_s", Number("S", 0, 1000, 0)),
        Setting("TRIGger[:SEQuence#]:SOURce", "trigger_source", Words("IMMediate", "TLINk", "BUS")),
        Setting("TRIGger[:SEQuence#]:INPut", "trigger_input", Words("SOURce", "DELay", "SENSe", "NONE")),
        Setting("TRIGger[:SEQuence#]:OUTPut", "trigger_output", Words("NONE", "SOURce", "DELay", "SENSe")),
        Setting("TRIGger[:SEQuence#]:DIRection", "trigger_direction", Words("ACCeptor", "SOURce")),
        Setting("TRIGger[:SEQuence#]:ILINe", "trigger_in", Number("", 1, 4, 1, integer=True, form=".0f")),
        Setting("TRIGger[:SEQuence#]:OLINe", "trigger_out", Number("", 1, 4, 2, integer=True, form=".0f")),
        Setting("ARM[:SEQuence#][:LAYer#]:COUNt", "arms", Number("", 1, MOST_POINTS, 1, integer=True, form=".0f")),
        Setting("ARM[:SEQuence#][:LAYer#]:SOURce", "arm_source", Words("IMMediate", "TLINk", "TIMer", "MANual", "BUS")),
        Setting("ARM[:SEQuence#][:LAYer#]:TIMer", "arm_timer_s", Number("S", 1e-3, 1e5, 0.1)),
        Setting("ARM[:SEQuence#][:LAYer#]:DIRection", "arm_direction", Words("ACCeptor", "SOURce")),
        Setting("ARM[:SEQuence#][:LAYer#]:OUTPut", "arm_output", Words("NONE", "TENTer", "TEXit")),
        Setting("ARM[:SEQuence#][:LAYer#]:ILINe", "arm_in", Number("", 1, 4, 1, integer=True, form=".0f")),
        Setting("ARM[:SEQuence#][:LAYer#]:OLINe", "arm_out", Number("", 1, 4, 2, integer=True, form=".0f")),
        Setting("TRACe:FEED", "feed", Words("SENSe", "SENSe1", "CALCulate", "CALCulate1", "CALCulate2")),
        Setting("TRACe:TSTamp:FORMat", "stamp", Words("ABSolute", "DELTa")),
        Setting("CALCulate3:FORMat", "statistic", Words("MEAN", "SDEViation", "MAXimum", "MINimum", "PKPK")),
        Setting("FORMat:SREGister", "register_form", Words("ASCii", "HEXadecimal", "OCTal", "BINary")),
        Setting("FORMat:SOURce2", "limit_form", Words("ASCii", "HEXadecimal", "OCTal", "BINary")),
        Setting("DISPlay:ENABle", "display_on", Boolean(True)),
        Setting("DISPlay:DIGits", "digits", Number("", 4, 7, 6, integer=True, form=".0f")),
        Setting("DISPlay[:WINDow[1]]:TEXT:DATA", "text1", Text("", 20)),
        Setting("DISPlay[:WINDow[1]]:TEXT:STATe", "text1_on", Boolean(False)),
        Setting("DISPlay:WINDow2:TEXT:DATA", "text2", Text("", 32)),
        Setting("DISPlay:WINDow2:TEXT:STATe", "text2_on", Boolean(False)),
    )
    off_word: str
    auto_clear: bool
    spacing: str
    direction: str
    cabort: str
    concurrent: bool
    points: float
    trigger_delay_s: float
    trigger_source: str
    arms: float
    arm_source: str
    arm_timer_s: float
    statistic: str

    def build(self) -> None:
        """The trace buffer and what a bus trigger is waited for with."""
        super().build()
        self.trace = Store(100)
        self.measurement = Register()
        self.bus = Detector()

    def reset(self) -> None:
        """The trace is empty, too."""
        super().reset()
        self.smu.sensed = ["CURR"]
        self.delay_s, self.delay_auto = 0.0, True
        self.triggered_level: dict[Quantity, float | None] = {"VOLT": None, "CURR": None}
        self.sweep_points = 2500
        self.elements: list[str] = list(ORDER)
        self.feed_control = "NEV"
        self.auto_zero = True
        self.trace = Store(100)
        self.latest: list[Reading] = []
        self.status.operation.update(IDLE, True)

    def power_cycle(self) -> None:
        """The measurement registers go as well."""
        with self.world.lock:
            self.measurement = Register()
            super().power_cycle()

    @property
    def smu(self) -> Channel:
        """Its only channel."""
        return self.channels[0]

    def off(self) -> None:
        """An output-off state was chosen."""
        self.smu.meter.off_state = {"HIMP": "open", "ZERO": "zero"}.get(self.off_word, "normal")  # type: ignore[assignment]
        self.smu.meter.update()

    # -- status: the measurement register has its own summary bit

    @scpi("*STB?", params=0)
    def _stb(self) -> str:
        byte = self.status.stb() | (MSB if self.measurement.summary else 0)
        return str(byte | (MSS if byte & self.status.sre & ~MSS else 0))

    def status_byte(self) -> int:
        """Serial poll."""
        return super().status_byte() | (MSB if self.measurement.summary else 0)

    @scpi("STATus:MEASurement[:EVENt]?", params=0)
    def _measurement_event(self) -> str:
        return str(self.measurement.take_event())

    @scpi("STATus:MEASurement:CONDition?", params=0)
    def _measurement_condition(self) -> str:
        return str(self.measurement.condition)

    @scpi("STATus:MEASurement:ENABle")
    def _measurement_enable(self, call: Call) -> str:
        if not call.query:
            self.measurement.enable = int(call.number(0, low=0, high=65535, integer=True)) & 0x7FFF
        return str(self.measurement.enable)

    @scpi("STATus:QUEue:CLEar", params=0, event=True)
    def _clear_queue(self) -> None:
        self.status.errors.clear()

    @scpi("STATus:QUEue[:NEXT]?", params=0)
    def _queue(self) -> str:
        return self.format_error(self.status.next_error())

    @scpi("*CLS", "STATus:PRESet", params=0, event=True)
    def _clear_events(self, call: Call) -> None:
        if call.header.startswith("*"):
            self.status.clear()
            self.measurement.event = 0
        else:
            self.status.preset()
            self.measurement.enable = 0

    @scpi("SYSTem:TIME:RESet", "SYSTem:PRESet", params=0, event=True)
    def _system(self, call: Call) -> None:
        if call.header.upper().endswith(("PRES", "PRESET")):
            self.reset()

    @scpi("SYSTem:RCMode?", "SYSTem:POSetup?", params=0)
    def _modes(self, call: Call) -> str:
        return "SING" if ":RCM" in call.header else "RST"

    @scpi("SYSTem:KEY", event=True)
    def _key(self, call: Call) -> None:
        call.number(0, low=1, high=32)

    @scpi("SYSTem:BEEPer:CLOSe", "DISPlay:CNDisplay", params=0, event=True)
    def _shown(self) -> None:
        """Nothing is shown or heard here."""

    @scpi("SYSTem:AZERo[:STATe]")
    def _auto_zero(self, call: Call) -> str | None:
        if not call.query and call.arg(0).upper() == "ONCE":
            return None
        return self.flag(call, self.auto_zero, lambda on: setattr(self, "auto_zero", on))

    # -- source

    @scpi(f"{SOURCE}:MODE")
    def _mode(self, call: Call) -> str | None:
        kind = quantity(call.choices[0])
        if call.query:
            return self.smu.mode[kind]
        self.smu.mode[kind] = call.word(0, "FIXed", "LIST", "SWEep")
        return None

    @scpi(f"{SOURCE}[:LEVel]:TRIGgered[:AMPLitude]")
    def _triggered_level(self, call: Call) -> str | None:
        kind = quantity(call.choices[0])
        level, top = self.triggered_level[kind], SHEET.most(kind)

        def put(value: float) -> None:
            self.check_level(self.smu, kind, value)
            self.triggered_level[kind] = value

        now = self.smu.meter.level[kind] if level is None else level
        return self.knob(call, now, put, -top, top, 0.0, UNITS[kind])

    @scpi(f"{SOURCE}:{{STARt|STOP}}")
    def _ends(self, call: Call) -> str | None:
        kind = quantity(call.choices[0])
        values, top = self.smu.sweep[call.choices[1]], SHEET.most(kind)
        return self.knob(call, values[kind], lambda v: values.__setitem__(kind, v), -top, top, 0.0, UNITS[kind])

    @scpi(f"{SOURCE}:STEP")
    def _stair_step(self, call: Call) -> str | None:
        kind = quantity(call.choices[0])
        step, top = self.smu.step, SHEET.most(kind)

        def put(value: float) -> None:
            step[kind] = value
            span = self.smu.sweep["STOP"][kind] - self.smu.sweep["STAR"][kind]
            self.sweep_points = min(int(abs(span / value) + 1e-9) + 1, MOST_POINTS) if value else 1

        return self.knob(call, step[kind], put, -top, top, 0.0, UNITS[kind])

    @scpi("SOURce#:SWEep:POINts")
    def _sweep_points(self, call: Call) -> str | None:
        put: Callable[[float], None] = lambda value: setattr(self, "sweep_points", int(value))  # noqa: E731
        return self.knob(call, self.sweep_points, put, 2, MOST_POINTS, 2500, integer=True)

    @scpi("SOURce#:DELay")
    def _delay(self, call: Call) -> str | None:
        def put(value: float) -> None:
            self.delay_s, self.delay_auto = value, False

        return self.knob(call, AUTO_DELAY_S if self.delay_auto else self.delay_s, put, 0.0, 9999.999, 0.0, "S")

    @scpi("SOURce#:DELay:AUTO")
    def _delay_auto(self, call: Call) -> str | None:
        return self.flag(call, self.delay_auto, lambda on: setattr(self, "delay_auto", on))

    @scpi("SOURce#:CLEar[:IMMediate]", params=0, event=True)
    def _source_clear(self) -> None:
        self.switched(self.smu, False)

    # -- sense

    @scpi("[:SENSe#]:{VOLTage|CURRent}[:DC]:PROTection[:LEVel]")
    def _protection(self, call: Call) -> str | None:
        if call.args and call.args[0].startswith("-"):  # the manual allows both signs: it holds for both polarities
            call = replace(call, args=(call.args[0][1:],))
        return self.limit_knob(call, self.smu, quantity(call.choices[0]))

    @scpi("[:SENSe#]:{VOLTage|CURRent}[:DC]:PROTection:TRIPped?", params=0)
    def _tripped(self, call: Call) -> str:
        return self.tripped(self.smu, quantity(call.choices[0]))

    @scpi("[:SENSe#]:{VOLTage|CURRent}[:DC]:RANGe[:UPPer]")
    def _range(self, call: Call) -> str | None:
        return self.read_range_knob(call, self.smu, quantity(call.choices[0]))

    @scpi("[:SENSe#]:{VOLTage|CURRent}[:DC]:RANGe:AUTO")
    def _range_auto(self, call: Call) -> str | None:
        return self.read_auto_flag(call, self.smu, quantity(call.choices[0]))

    @scpi("[:SENSe#]:{VOLTage|CURRent}[:DC]:RANGe:AUTO:LLIMit")
    def _range_least(self, call: Call) -> str | None:
        return self.read_least_knob(call, self.smu, quantity(call.choices[0]))

    @scpi(f"{SENSE}:NPLCycles")
    def _nplc(self, call: Call) -> str | None:
        return self.nplc_knob(call, self.smu)

    @scpi("[:SENSe#]:AVERage[:STATe]")
    def _average(self, call: Call) -> str | None:
        return self.average_flag(call, self.smu)

    @scpi("[:SENSe#]:AVERage:COUNt")
    def _average_count(self, call: Call) -> str | None:
        return self.average_count_knob(call, self.smu)

    @scpi("[:SENSe#]:FUNCtion[:ON]", params=3)
    def _function(self, call: Call) -> str | None:
        names = self.smu.sensed
        if call.query:
            return ",".join(f'"{name}:DC"' if name != "RES" else '"RES"' for name in names)
        chosen = self._sensed(call)
        self.smu.sensed = [name for name in ORDER if name in chosen or (self.concurrent and name in names)]
        return None

    @scpi("[:SENSe#]:FUNCtion:OFF", params=3, event=True)
    def _function_off(self, call: Call) -> None:
        chosen = self._sensed(call)
        self.smu.sensed = [name for name in self.smu.sensed if name not in chosen]

    @scpi("[:SENSe#]:FUNCtion:{ON|OFF}:ALL", "[:SENSe#]:FUNCtion:ALL", params=0, event=True)
    def _function_all(self, call: Call) -> None:
        self.smu.sensed = [] if call.choices == ("OFF",) else ["VOLT", "CURR", "RES"]

    def _sensed(self, call: Call) -> list[str]:
        found = []
        for i in range(max(len(call.args), 1)):
            typed = call.arg(i)  # public drivers also send it without quotes
            word = (call.text(i) if typed[0] in "\"'" else typed).upper().removesuffix(":DC")
            name = next((s for s, long in (("VOLT", "VOLTAGE"), ("CURR", "CURRENT"), ("RES", "RESISTANCE"))
                         if word in (s, long)), None)  # fmt: skip
            if name is None:
                raise ScpiError(-224)
            found.append(name)
        return found

    # -- triggers and measuring

    def _value(self, k: int) -> float | None:
        """What the source is at point k; None: its level stays."""
        kind = self.smu.meter.source
        if self.smu.mode[kind] == "LIST":
            return self.smu.lists[kind][k % len(self.smu.lists[kind])]
        if self.smu.mode[kind] == "SWE":
            return self._staircase(k % self.sweep_points, kind)
        return self.triggered_level[kind]

    def _staircase(self, k: int, kind: Quantity) -> float:
        first, last = self.smu.sweep["STAR"][kind], self.smu.sweep["STOP"][kind]
        if self.direction == "DOWN":
            first, last = last, first
        steps = max(self.sweep_points - 1, 1)
        if self.spacing == "LOG" and first * last > 0.0:
            return float(first * (last / first) ** (k / steps))
        return first + (last - first) * k / steps

    def _start(self) -> None:
        kind = self.smu.meter.source
        if self.work.busy(self.smu):
            raise ScpiError(-213)
        if self.smu.mode[kind] == "LIST" and not self.smu.lists[kind]:
            raise ScpiError(-221, "Settings conflict; the source list is empty")
        if not self.smu.meter.output and not self.auto_clear:
            raise ScpiError(803, "Not permitted with OUTPUT off")
        self.latest = []
        self.bus.clear()

    def _points(self) -> Steps:
        operation = self.status.operation
        operation.update(IDLE, False)
        try:
            yield from self._all_points()
        finally:
            operation.update(SWEEPING | WAITS_TRIGGER | WAITS_ARM, False)
            operation.update(IDLE, True)

    def _wait_for_bus(self, bit: int) -> Steps:
        self.status.operation.update(bit, True)
        yield self.bus
        self.status.operation.update(bit, False)

    def _all_points(self) -> Steps:
        if self.auto_clear:
            self.smu.switch(True)
        for _ in range(int(self.arms)):
            if self.arm_source == "BUS":
                yield from self._wait_for_bus(WAITS_ARM)
            elif self.arm_source == "TIM":
                yield self.arm_timer_s
            self.status.operation.update(SWEEPING, True)
            for k in range(int(self.points)):
                if self.trigger_source == "BUS":
                    yield from self._wait_for_bus(WAITS_TRIGGER)
                yield from self._point(k)
                if self.latest[-1].limited and self.cabort != "NEV":
                    break
        if self.auto_clear:
            self.smu.switch(False)

    def _point(self, k: int) -> Steps:
        yield self.trigger_delay_s
        value = self._value(k)
        if value is not None:
            self.smu.meter.force(value)
        yield (AUTO_DELAY_S if self.delay_auto else self.delay_s) + self.smu.meter.reading_s
        reading = self.smu.meter.take()
        self.latest.append(reading)
        self.measurement.update(READING_AVAILABLE, True)
        self._store(reading)
        if self.auto_clear:
            self.smu.meter.force(None)

    def _store(self, reading: Reading) -> None:
        if self.feed_control != "NEXT":
            return
        self.trace.add(reading)
        self.measurement.update(BUFFER_AVAILABLE, len(self.trace.readings) >= 2)
        if len(self.trace.readings) >= self.trace.capacity:
            self.feed_control = "NEV"
            self.measurement.update(BUFFER_FULL, True)

    @scpi("INITiate[:IMMediate]", params=0, event=True)
    def _initiate(self) -> None:
        self._start()
        self.work.launch(self._points(), self.smu)

    @scpi("ABORt", params=0, event=True)
    def _abort(self) -> None:
        if self.work.busy(self.smu):
            self.work.stop(self.smu)
            self.smu.meter.force(None)

    @scpi("{ARM|TRIGger}:CLEar", "TRIGger[:SEQuence#]:CLEar", params=0, event=True)
    def _clear_trigger(self) -> None:
        self.bus.clear()

    def triggered(self) -> None:
        """*TRG or a group execute trigger, for an arm or trigger layer on BUS."""
        if not self.bus.waited_for:
            raise ScpiError(-211)
        self.bus.fire()

    @scpi("READ?", params=0)
    def _read(self) -> str | bytes:
        self._start()
        self.run(self._points())
        return self._numbers(self.latest)

    @scpi("FETCh?", "[:SENSe#]:DATA[:LATest]?", params=0)
    def _fetch(self) -> str | bytes:
        self.work.finish()
        if not self.latest:
            raise ScpiError(-230)
        return self._numbers(self.latest)

    @scpi("CONFigure:{VOLTage|CURRent|RESistance}[:DC]", params=0, event=True)
    def _configure(self, call: Call) -> None:
        self.smu.sensed = [call.choices[0]]
        self.points = self.arms = 1
        self.trigger_source = self.arm_source = "IMM"
        self.smu.switch(True)

    @scpi("CONFigure?", params=0)
    def _configured(self) -> str:
        return ",".join(f'"{name}"' for name in self.smu.sensed)

    @scpi("MEASure?", "MEASure:{VOLTage|CURRent|RESistance}[:DC]?")
    def _measure(self, call: Call) -> str | bytes:
        if call.choices and call.choices[0]:
            self._configure(call)
        return self._read()

    def _numbers(self, readings: list[Reading]) -> str | bytes:
        return self.format_readings([self._element(e, r) for r in readings for e in self.elements])

    def _element(self, element: str, reading: Reading) -> float:
        if element == "TIME":
            return reading.time_s
        if element == "STAT":
            return float((COMPLIANCE if reading.limited else 0) | (OVERFLOWED if reading.over else 0))
        if element in self.smu.sensed:
            return reading.of(element)
        return reading.source if element == self.smu.meter.source else NOT_MEASURED

    @scpi("FORMat:ELEMents[:SENSe#]", params=5)
    def _elements(self, call: Call) -> str | None:
        if call.query:
            return ",".join(self.elements)
        words = ("VOLTage", "CURRent", "RESistance", "TIME", "STATus")
        chosen = {call.word(i, *words) for i in range(max(len(call.args), 1))}
        self.elements = [name for name in ORDER if name in chosen]
        return None

    # -- trace

    @scpi("TRACe:CLEar", params=0, event=True)
    def _trace_clear(self) -> None:
        self.trace.clear()
        self.measurement.update(BUFFER_FULL | BUFFER_AVAILABLE, False)

    @scpi("TRACe:POINts")
    def _trace_points(self, call: Call) -> str | None:
        def put(value: float) -> None:
            self.trace = Store(int(value))
            self.measurement.update(BUFFER_FULL | BUFFER_AVAILABLE, False)

        return self.knob(call, self.trace.capacity, put, 1, MOST_POINTS, 100, integer=True)

    @scpi("TRACe:POINts:ACTual?", params=0)
    def _trace_count(self) -> str:
        return str(len(self.trace.readings))

    @scpi("TRACe:FREE?", params=0)
    def _trace_free(self) -> str:
        free = self.trace.capacity - len(self.trace.readings)
        return f"{free * 30},{len(self.trace.readings) * 30}"  # bytes, so many a reading [memory]

    @scpi("TRACe:FEED:CONTrol")
    def _feed_control(self, call: Call) -> str | None:
        if call.query:
            return self.feed_control
        word = call.word(0, "NEXT", "NEVer")
        if word == "NEXT" and len(self.trace.readings) >= self.trace.capacity:
            self._trace_clear()
        self.feed_control = word
        return None

    @scpi("TRACe:DATA?", params=0)
    def _trace_data(self) -> str | bytes:
        return self._numbers(self.trace.readings)

    @scpi("CALCulate3:DATA?", params=0)
    def _statistics(self) -> str | bytes:
        if not self.trace.readings:
            raise ScpiError(-230)
        how: dict[str, Callable[[list[float]], float]] = {
            "MEAN": statistics.fmean, "MAX": max, "MIN": min, "PKPK": lambda v: max(v) - min(v),
            "SDEV": lambda v: statistics.stdev(v) if len(v) > 1 else 0.0,
        }  # fmt: skip
        measured = [e for e in self.elements if e in ("VOLT", "CURR", "RES")]
        columns = [[self._element(e, r) for r in self.trace.readings] for e in measured]
        return self.format_readings([how[self.statistic](column) for column in columns])


plugin = Keithley2400
