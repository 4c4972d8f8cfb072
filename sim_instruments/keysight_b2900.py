"""The Keysight B2902B precision source/measure unit: two channels, SCPI.

What it does: spot measurements, fixed, list and staircase sources as dc or as pulses, the trigger system with its
transient and acquire layers on both channels in step, array results and the trace buffer. Sources: B2900 series SCPI
Command Reference and User's Guide, commands that public drivers send; ranges, resolutions and noise by the data sheet
of the B2902B, from memory; as is what a source does after a sweep (it goes back to its immediate level).

An output that is off stays at 0 V with a limit of 100 uA (OUTP:OFF:MODE NORMal, the default of the manual); HIZ opens
it, ZERO keeps the programmed limit. The interlock is open: not more than 42 V. Wait times (SOUR:WAIT, SENS:WAIT) are
accepted and are 0; a trigger takes its delays, its pulse and its aperture, nothing else takes time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .engine.scpi import Boolean, Call, Number, ScpiError, Setting, Text, Words, scpi
from .engine.scpi_smu import UNITS, Channel, ScpiSmu, quantity
from .engine.smu import BEFORE_S, DataSheet, Detector, Quantity, Range, Reading, Steps, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .world.world import Terminal

SHEET: Final = DataSheet(
    volts=(
        Range(0.2, 1e-7, 1e-6, 2e-7),
        Range(2.0, 1e-6, 1e-5, 2e-6),
        Range(20.0, 1e-5, 1e-4, 2e-5),
        Range(200.0, 1e-4, 1e-3, 2e-4),
    ),
    amps=(
        Range(100e-9, 1e-13, 1e-12, 5e-13),
        Range(1e-6, 1e-12, 1e-11, 2e-12),
        Range(10e-6, 1e-11, 1e-10, 2e-11),
        Range(100e-6, 1e-10, 1e-9, 2e-10),
        Range(1e-3, 1e-9, 1e-8, 2e-9),
        Range(10e-3, 1e-8, 1e-7, 2e-8),
        Range(100e-3, 1e-7, 1e-6, 2e-7),
        Range(1.0, 1e-6, 1e-5, 5e-6),
        Range(1.5, 1e-6, 1e-5, 5e-6),
        Range(3.0, 1e-6, 1e-5, 2e-5),
    ),
    over=1.05,
    limit_v=210.0,
    limit_a=3.03,
)

NOT_MEASURED: Final = 9.91e37
ELEMENTS: Final = ("VOLTage", "CURRent", "RESistance", "TIME", "STATus", "SOURce")
ORDER: Final = ("VOLT", "CURR", "RES", "TIME", "STAT", "SOUR")  # answers keep it, however the elements were chosen
SOURCES: Final = ("AINT", "BUS", "TIMer", "INT1", "INT2", "LAN", "EXT1", "EXT2")
COMPLIANCE, OVERFLOWED = 1 << 3, 1 << 0  # in the status of a reading, from memory
LIMIT: Final = "SENSe#:{VOLTage|CURRent}[:DC]:PROTection"
SWITCHES: Final = (
    "[:SOURce#]:FUNCtion:TRIGgered:CONTinuous", "[:SOURce#]:WAIT[:STATe]", "SENSe#:WAIT[:STATe]",
    "[:SOURce#]:WAIT:AUTO", "SENSe#:WAIT:AUTO", "OUTPut#:ON:AUTO", "OUTPut#:OFF:AUTO", "OUTPut#:PROTection[:STATe]",
    "OUTPut#:HCAPacitance[:STATe]", "OUTPut#:FILTer[:LPASs][:STATe]", "SENSe#:REMote",
)  # fmt: skip
LAYER: Final = "{ARM|TRIGger}#"
TRIG_SOURCE: Final = "[:SOURce#]:{VOLTage|CURRent}"


class Layer:
    """Count, delay, source and timer of one device action: transient (source) or acquire (measurement)."""

    def __init__(self) -> None:
        self.count, self.delay_s, self.source, self.timer_s, self.bypass = 1, 0.0, "AINT", 1e-5, "OFF"


class Action(NamedTuple):
    """What happens so many seconds after a trigger; `order` for those at one time."""

    at_s: float
    order: int
    act: Callable[[], None]


class Unit(Channel):
    """A channel of the B2900."""

    def clear(self) -> None:
        """As after *RST."""
        self.layers = {(side, kind): Layer() for side in ("ARM", "TRIG") for kind in ("TRAN", "ACQ")}
        self.bus = {kind: Detector() for kind in ("TRAN", "ACQ")}
        self.shape = "DC"
        self.pulse_delay_s, self.pulse_width_s = 0.0, 50e-6
        self.triggered_level: dict[Quantity, float | None] = {"VOLT": None, "CURR": None}
        self.points: dict[Quantity, int] = {"VOLT": 1, "CURR": 1}
        self.spacing, self.direction = "LIN", "UP"
        self.concurrent, self.off_mode = True, "NORM"
        self.aperture_auto = True
        self.results: list[Reading] = []
        self.trace = Store(100_000)
        self.feed, self.feed_control = "SENS", "NEV"
        self.started_s = 0.0
        super().clear()
        self.nplc = 1.0
        self.sensed = ["VOLT", "CURR", "RES"]
        self.meter.off_limit_a = 100e-6

    def value(self, k: int) -> float:
        """What the source is after its k-th trigger (from 0)."""
        kind = self.meter.source
        if self.mode[kind] == "LIST":
            values = self.lists[kind]
            if not values:
                raise ScpiError(-221, "Settings conflict; the source list is empty")
            return values[k % len(values)]
        if self.mode[kind] == "SWE":
            return self._staircase(k % self.points[kind], kind)
        level = self.triggered_level[kind]
        return self.meter.level[kind] if level is None else level

    def _staircase(self, k: int, kind: Quantity) -> float:
        first, last = self.sweep["STAR"][kind], self.sweep["STOP"][kind]
        if self.direction == "DOWN":
            first, last = last, first
        steps = max(self.points[kind] - 1, 1)
        if self.spacing == "LOG" and first * last > 0.0:
            return float(first * (last / first) ** (k / steps))
        return first + (last - first) * k / steps

    def source_actions(self, k: int) -> Iterator[Action]:
        """What the k-th transient trigger does; ends with the end of the pulse."""
        delay = self.layers["TRIG", "TRAN"].delay_s
        value = self.value(k)
        if self.shape == "DC":
            yield Action(delay, 0, lambda: self.meter.force(value))
            return
        rise = delay + self.pulse_delay_s
        yield Action(rise, 0, lambda: self.meter.force(value))
        yield Action(rise + self.pulse_width_s, 2, lambda: self.meter.force(None))

    @property
    def acquired_s(self) -> float:
        """How long after its trigger an integration ends."""
        return self.layers["TRIG", "ACQ"].delay_s + self.meter.reading_s

    def measure_action(self) -> Action:
        """What an acquire trigger does: the end of the integration, just before what else happens at that time."""
        return Action(self.acquired_s - BEFORE_S, 1, self.acquire)

    def acquire(self) -> None:
        """Take a reading into the results, and into the trace buffer if it is fed."""
        reading = self.meter.take()
        self.results.append(reading)
        if self.feed_control == "NEXT" and not self.trace.add(reading):
            self.feed_control = "NEV"


class KeysightB2900(ScpiSmu):
    """See the module."""

    MODEL = "keysight-b2900"
    IDN = "Keysight Technologies,B2902B,{serial},6.0"
    SHEET = SHEET
    LIMIT_V, LIMIT_A = 2.0, 100e-6
    NPLC = (4e-4, 100.0)
    CHANNELS = 2
    LIST_PER_COMMAND = LIST_TOTAL = 2500
    REAL_BITS = 64.0
    SETTINGS = (
        Setting("DISPlay:ENABle", "display_on", Boolean(True)),
        Setting("DISPlay[:WINDow#]:TEXT:DATA", "text", Text("", 32)),
        Setting("DISPlay[:WINDow#]:TEXT:STATe", "text_on", Boolean(False)),
        Setting("DISPlay:VIEW", "view", Words("SINGle1", "SINGle2", "DUAL", "GRAPh", "ROLL")),
        Setting("DISPlay:DIGits", "digits", Number("", 4, 7, 7, integer=True, form=".0f")),
        Setting("FORMat:SREGister", "register_form", Words("ASCii", "BINary", "HEXadecimal", "OCTal")),
        Setting("SYSTem:GROup:SYNChronize", "grouped", Boolean(True)),
    )

    def new_channel(self, number: int, guard: Terminal | None) -> Channel:
        """A channel with trigger layers."""
        return Unit(self, number, guard)

    def reset(self) -> None:
        """Results and traces are gone, too."""
        self.elements: list[str] = ["VOLT", "CURR", "TIME", "STAT", "SOUR"]
        self.extra: dict[tuple[str, int], bool] = {}
        super().reset()

    def unit(self, call: Call) -> Unit:
        """The channel of the first numeric suffix."""
        found = self.channel(call)
        assert isinstance(found, Unit)  # build makes nothing else
        return found

    def units(self, call: Call, i: int = 0) -> list[Unit]:
        """The channels of a list; without one, channel 1."""
        numbers = call.channels(i, range(1, self.CHANNELS + 1)) if len(call.args) > i else [1]
        return [unit for n in numbers if isinstance(unit := self.channels[n - 1], Unit)]

    # -- the same with the root left out, as this instrument allows

    @scpi("FUNCtion:MODE")
    def _bare_source(self, call: Call) -> str | None:
        return self._source(call)

    @scpi("{VOLTage|CURRent}[:LEVel][:IMMediate][:AMPLitude]")
    def _bare_level(self, call: Call) -> str | None:
        return self._level(call)

    @scpi("SOURce#:FUNCtion:MODE")
    def _source_mode(self, call: Call) -> str | None:
        return self._source(call)

    def changed_source(self, channel: Channel) -> None:
        """The output stays on; the new source begins at its own level."""
        channel.meter.force(None)

    # -- source

    @scpi("[:SOURce#]:FUNCtion[:SHAPe]")
    def _shape(self, call: Call) -> str | None:
        unit = self.unit(call)
        if call.query:
            return unit.shape
        unit.shape = call.word(0, "DC", "PULSe")
        return None

    @scpi(*SWITCHES)
    def _switches(self, call: Call) -> str | None:
        """Switches without an effect here, except that OUTP:ON:AUTO is on after *RST and can be read back."""
        self.channel(call)
        key = (call.header.upper().removesuffix("?"), call.suffixes[0])
        return self.flag(call, self.extra.get(key, ":AUTO" in key[0]), lambda on: self.extra.__setitem__(key, on))

    @scpi("[:SOURce#]:PULSe:{DELay|WIDTh}")
    def _pulse(self, call: Call) -> str | None:
        unit = self.unit(call)
        if call.choices[0] == "DEL":
            return self.knob(
                call, unit.pulse_delay_s, lambda v: setattr(unit, "pulse_delay_s", v), 0.0, 99999.9, 0.0, "S"
            )
        return self.knob(
            call, unit.pulse_width_s, lambda v: setattr(unit, "pulse_width_s", v), 50e-6, 100000.0, 50e-6, "S"
        )

    @scpi(f"{TRIG_SOURCE}[:LEVel]:TRIGgered[:AMPLitude]")
    def _triggered_level(self, call: Call) -> str | None:
        unit, kind = self.unit(call), quantity(call.choices[0])
        top = SHEET.most(kind)

        def put(value: float) -> None:
            self.check_level(unit, kind, value)
            unit.triggered_level[kind] = value

        level = unit.triggered_level[kind]
        return self.knob(call, unit.meter.level[kind] if level is None else level, put, -top, top, 0.0, UNITS[kind])

    @scpi(f"{TRIG_SOURCE}:MODE")
    def _mode(self, call: Call) -> str | None:
        unit, kind = self.unit(call), quantity(call.choices[0])
        if call.query:
            return unit.mode[kind]
        unit.mode[kind] = call.word(0, "FIXed", "SWEep", "LIST", "ARB")
        if unit.mode[kind] == "ARB":
            unit.mode[kind] = "FIX"
            raise ScpiError(-224, "Illegal parameter value; arbitrary waveforms are not simulated")
        return None

    @scpi("[:SOURce#]:{VOLTage|CURRent}:{STARt|STOP}")
    def _ends(self, call: Call) -> str | None:
        unit, kind = self.unit(call), quantity(call.choices[0])
        values, top = unit.sweep[call.choices[1]], SHEET.most(kind)
        return self.knob(call, values[kind], lambda v: values.__setitem__(kind, v), -top, top, 0.0, UNITS[kind])

    @scpi("[:SOURce#]:{VOLTage|CURRent}:POINts", "[:SOURce#]:SWEep:POINts")
    def _points(self, call: Call) -> str | None:
        unit = self.unit(call)
        kind = quantity(call.choices[0]) if call.choices and call.choices[0] else unit.meter.source
        return self.knob(
            call, unit.points[kind], lambda v: unit.points.__setitem__(kind, int(v)), 1, 2500, 1, integer=True
        )

    @scpi("[:SOURce#]:{VOLTage|CURRent}:STEP")
    def _stair_step(self, call: Call) -> str | None:
        unit, kind = self.unit(call), quantity(call.choices[0])
        span = abs(unit.sweep["STOP"][kind] - unit.sweep["STAR"][kind])

        def put(value: float) -> None:
            unit.step[kind] = value
            unit.points[kind] = int(span / abs(value) + 1e-9) + 1 if value else 1

        return self.knob(call, unit.step[kind], put, -SHEET.most(kind), SHEET.most(kind), 0.0, UNITS[kind])

    @scpi("[:SOURce#]:SWEep:{SPACing|DIRection|STAir|RANGing}")
    def _sweep_words(self, call: Call) -> str | None:
        unit = self.unit(call)
        words = {"SPAC": ("LINear", "LOGarithmic"), "DIR": ("UP", "DOWN"), "STA": ("SINGle", "DOUBle"),
                 "RANG": ("BEST", "AUTO", "FIXed")}[call.choices[0]]  # fmt: skip
        name = {"SPAC": "spacing", "DIR": "direction"}.get(call.choices[0], f"sweep_{call.choices[0].lower()}")
        if call.query:
            return str(getattr(unit, name, words[0].upper()[:4]))
        word = call.word(0, *words)
        if word == "DOUB":
            raise ScpiError(-224, "Illegal parameter value; double staircases are not simulated, use a list")
        setattr(unit, name, word)
        return None

    @scpi("OUTPut#:OFF:MODE")
    def _off_mode(self, call: Call) -> str | None:
        unit = self.unit(call)
        if call.query:
            return unit.off_mode
        unit.off_mode = call.word(0, "NORMal", "HIZ", "ZERO")
        unit.meter.off_state = {"HIZ": "open", "ZERO": "zero"}.get(unit.off_mode, "normal")  # type: ignore[assignment]
        unit.meter.update()
        return None

    @scpi("OUTPut#:LOW")
    def _low(self, call: Call) -> str | None:
        self.channel(call)
        return "GRO" if call.query else None

    # -- sense

    @scpi(f"{LIMIT}[:LEVel][:BOTH]", f"{LIMIT}[:LEVel]:POSitive", f"{LIMIT}[:LEVel]:NEGative")
    def _protection(self, call: Call) -> str | None:
        return self.limit_knob(call, self.channel(call), quantity(call.choices[0]))

    @scpi(f"{LIMIT}:TRIPped?", params=0)
    def _protection_tripped(self, call: Call) -> str:
        return self.tripped(self.channel(call), quantity(call.choices[0]))

    @scpi("SENSe#:{VOLTage|CURRent|RESistance}[:DC]:RANGe[:UPPer]")
    def _range(self, call: Call) -> str | None:
        if call.choices[0] == "RES":
            return self.knob(call, 2e6, lambda _: None, 2.0, 2e8, 2e6, "OHM")
        return self.read_range_knob(call, self.channel(call), quantity(call.choices[0]))

    @scpi("SENSe#:{VOLTage|CURRent}[:DC]:RANGe:AUTO")
    def _range_auto(self, call: Call) -> str | None:
        return self.read_auto_flag(call, self.channel(call), quantity(call.choices[0]))

    @scpi("SENSe#:{VOLTage|CURRent}[:DC]:RANGe:AUTO:LLIMit")
    def _range_least(self, call: Call) -> str | None:
        return self.read_least_knob(call, self.channel(call), quantity(call.choices[0]))

    @scpi("SENSe#:{VOLTage|CURRent|RESistance}[:DC]:NPLCycles", "SENSe#:NPLCycles")
    def _nplc(self, call: Call) -> str | None:
        unit = self.unit(call)
        if not call.query:
            unit.aperture_auto = False
        return self.nplc_knob(call, unit)

    @scpi("SENSe#:{VOLTage|CURRent|RESistance}[:DC]:APERture", "SENSe#:APERture")
    def _aperture(self, call: Call) -> str | None:
        unit = self.unit(call)

        def put(value: float) -> None:
            unit.nplc, unit.aperture_auto = value * self.line_hz, False
            unit.apply()
            unit.meter.aperture_s = value

        low, high = (n / self.line_hz for n in self.NPLC)
        return self.knob(call, unit.meter.aperture_s, put, low, high, 0.1 / self.line_hz, "S")

    @scpi("SENSe#:{VOLTage|CURRent|RESistance}[:DC]:{NPLCycles|APERture}:AUTO")
    def _aperture_auto(self, call: Call) -> str | None:
        unit = self.unit(call)
        return self.flag(call, unit.aperture_auto, lambda on: setattr(unit, "aperture_auto", on))

    @scpi("SENSe#:FUNCtion[:ON]", params=3)
    def _function(self, call: Call) -> str | None:
        unit = self.unit(call)
        if call.query:
            return ",".join(f'"{name}"' for name in unit.sensed)
        names = [self._sensed(call.text(i)) for i in range(len(call.args) or 1)]
        unit.sensed = [name for name in ORDER if name in {*unit.sensed, *names}]
        return None

    @scpi("SENSe#:FUNCtion:OFF", params=3, event=True)
    def _function_off(self, call: Call) -> None:
        unit = self.unit(call)
        names = [self._sensed(call.text(i)) for i in range(len(call.args) or 1)]
        unit.sensed = [name for name in unit.sensed if name not in names]

    @scpi("SENSe#:FUNCtion:{ON|OFF}:ALL", params=0, event=True)
    def _function_all(self, call: Call) -> None:
        self.unit(call).sensed = ["VOLT", "CURR", "RES"] if call.choices[0] == "ON" else []

    def _sensed(self, text: str) -> str:
        word = text.upper().removesuffix(":DC")
        found = next((n for n in ("VOLT", "CURR", "RES") if word.startswith(n)), None)
        if found is None:
            raise ScpiError(-224)
        return found

    # -- triggers

    @scpi(f"{LAYER}[:ALL]:COUNt", f"{LAYER}:{{TRANsient|ACQuire}}:COUNt")
    def _count(self, call: Call) -> str | None:
        return self._layer(call, "count", 1, 100000, 1, integer=True)

    @scpi(f"{LAYER}[:ALL]:DELay", f"{LAYER}:{{TRANsient|ACQuire}}:DELay")
    def _delay(self, call: Call) -> str | None:
        return self._layer(call, "delay_s", 0.0, 100000.0, 0.0, "S")

    @scpi(f"{LAYER}[:ALL]:TIMer", f"{LAYER}:{{TRANsient|ACQuire}}:TIMer")
    def _timer(self, call: Call) -> str | None:
        return self._layer(call, "timer_s", 1e-5, 100000.0, 1e-5, "S")

    @scpi(f"{LAYER}[:ALL]:SOURce[:SIGNal]", f"{LAYER}:{{TRANsient|ACQuire}}:SOURce[:SIGNal]")
    def _trigger_source(self, call: Call) -> str | None:
        layers = self._layers(call)
        if call.query:
            return layers[0].source
        word = call.word(0, *SOURCES)
        if word not in ("AINT", "BUS", "TIM"):
            raise ScpiError(-224, "Illegal parameter value; the simulated B2900 has AINT, BUS and TIM")
        for layer in layers:
            layer.source = word
        return None

    @scpi(f"{LAYER}[:ALL]:BYPass", f"{LAYER}:{{TRANsient|ACQuire}}:BYPass")
    def _bypass(self, call: Call) -> str | None:
        layers = self._layers(call)
        if call.query:
            return layers[0].bypass
        for layer in layers:
            layer.bypass = call.word(0, "ONCE", "OFF")
        return None

    def _layers(self, call: Call) -> list[Layer]:
        unit = self.unit(call)
        kinds = [call.choices[1]] if len(call.choices) > 1 and call.choices[1] else ["TRAN", "ACQ"]
        return [unit.layers[call.choices[0], kind] for kind in kinds]

    def _layer(
        self, call: Call, name: str, low: float, high: float, default: float, unit: str = "", *, integer: bool = False
    ) -> str | None:
        layers = self._layers(call)

        def put(value: float) -> None:
            for layer in layers:
                setattr(layer, name, int(value) if integer else value)

        return self.knob(call, getattr(layers[0], name), put, low, high, default, unit, integer=integer)

    @scpi("INITiate[:IMMediate][:ALL]", event=True)
    def _initiate(self, call: Call) -> None:
        self._launch(self.units(call), ("TRAN", "ACQ"))

    @scpi("INITiate[:IMMediate]:{TRANsient|ACQuire}", event=True)
    def _initiate_one(self, call: Call) -> None:
        self._launch(self.units(call), (call.choices[0],))

    def _launch(self, units: list[Unit], kinds: tuple[str, ...]) -> None:
        if any(self.work.busy(unit) for unit in units):
            raise ScpiError(-213)
        for unit in units:
            unit.value(0)  # a list that is empty is refused before anything moves
            if not unit.meter.output:
                unit.switch(True)
            if "ACQ" in kinds:
                unit.results = []
                unit.started_s = self.world.now_s()
            for detector in unit.bus.values():
                detector.clear()
        for unit in units:
            self.work.launch(self._armed(unit, kinds), unit)

    def _armed(self, unit: Unit, kinds: tuple[str, ...]) -> Steps:
        arm = unit.layers["ARM", kinds[0]]
        for _ in range(arm.count):
            if arm.source == "BUS":
                yield unit.bus[kinds[0]]
            yield arm.delay_s
            counts = {kind: unit.layers["TRIG", kind].count for kind in kinds}
            for k in range(max(counts.values())):
                yield from self._one(unit, [kind for kind in kinds if k < counts[kind]], k)
        unit.meter.force(None)

    def _one(self, unit: Unit, kinds: list[str], k: int) -> Steps:
        """One trigger of these layers: their actions in the order of their times; a timer makes it last longer."""
        layer = unit.layers["TRIG", kinds[0]]
        if layer.source == "BUS":
            yield unit.bus[kinds[0]]
        actions = [*unit.source_actions(k)] if "TRAN" in kinds else []
        actions += [unit.measure_action()] if "ACQ" in kinds else []
        now_s = 0.0
        for action in sorted(actions, key=lambda a: (a.at_s, a.order)):
            yield action.at_s - now_s
            now_s = action.at_s
            action.act()
        ends_s = [now_s]
        ends_s += [unit.acquired_s] if "ACQ" in kinds else []
        ends_s += [layer.timer_s] if layer.source == "TIM" else []
        yield max(ends_s) - now_s

    def triggered(self) -> None:
        """*TRG: every layer that waits for the bus."""
        self._fire([unit for unit in self.channels if isinstance(unit, Unit)])

    def _fire(self, units: list[Unit]) -> None:
        waiting = [detector for unit in units for detector in unit.bus.values() if detector.waited_for]
        if not waiting:
            raise ScpiError(-211)
        for detector in waiting:
            detector.fire()

    @scpi("TRIGger[:ALL][:IMMediate]", event=True)
    def _trigger_now(self, call: Call) -> None:
        self._fire(self.units(call))

    @scpi("ABORt[:ALL]", "ABORt:{TRANsient|ACQuire}", event=True)
    def _abort(self, call: Call) -> None:
        units = self.units(call) if call.args else [u for u in self.channels if isinstance(u, Unit)]
        for unit in units:
            if self.work.busy(unit):
                self.work.stop(unit)
                unit.meter.force(None)

    @scpi("IDLE#[:ALL]?", params=0)
    def _idle(self, call: Call) -> str:
        return "0" if self.work.busy(self.unit(call)) else "1"

    @scpi("STATus:OPERation:CONDition?", params=0)
    def _idle_bits(self) -> str:
        """Bit 1 and 7: the transient actions of channel 1 and 2 are idle; 3 and 9: their acquisitions [memory]."""
        bits = 0
        for shift, channel in zip((0, 6), self.channels, strict=True):
            if not self.work.busy(channel):
                bits |= (1 << 1 | 1 << 3) << shift
        return str(bits)

    # -- results

    @scpi("MEASure?")
    def _measure(self, call: Call) -> str | bytes:
        units = self.units(call)
        return self._numbers([self._spot(units)], units, self.elements)

    @scpi("MEASure:{VOLTage|CURRent|RESistance}[:DC]?")
    def _measure_one(self, call: Call) -> str | bytes:
        units = self.units(call)
        return self._numbers([self._spot(units)], units, [call.choices[0]])

    def _spot(self, units: list[Unit]) -> list[Reading]:
        for unit in units:
            if not unit.meter.output:
                unit.switch(True)
        longest = max(unit.meter.reading_s for unit in units)
        self.spend(longest)
        for unit in units:
            unit.results = [unit.meter.take()]
        return [unit.results[-1] for unit in units]

    @scpi("READ?", "READ[:SCALar]:{VOLTage|CURRent|RESistance|TIME|STATus|SOURce}?")
    def _read(self, call: Call) -> str | bytes:
        units = self.units(call)
        self._launch(units, ("TRAN", "ACQ"))
        self.work.finish()
        return self._fetch(call)

    @scpi("READ:ARRay?", "READ:ARRay:{VOLTage|CURRent|RESistance|TIME|STATus|SOURce}?")
    def _read_array(self, call: Call) -> str | bytes:
        self._launch(self.units(call), ("TRAN", "ACQ"))
        self.work.finish()
        return self._fetch_array(call)

    @scpi("FETCh?", "FETCh[:SCALar]:{VOLTage|CURRent|RESistance|TIME|STATus|SOURce}?")
    def _fetch(self, call: Call) -> str | bytes:
        units = self.units(call)
        return self._numbers([[self._results(unit)[-1] for unit in units]], units, self._asked(call))

    @scpi("FETCh:ARRay?", "FETCh:ARRay:{VOLTage|CURRent|RESistance|TIME|STATus|SOURce}?")
    def _fetch_array(self, call: Call) -> str | bytes:
        units = self.units(call)
        self.work.finish()  # as the manual says: it waits for the end of the acquisition
        rows = zip(*(self._results(unit) for unit in units), strict=False)
        return self._numbers([list(row) for row in rows], units, self._asked(call))

    def _asked(self, call: Call) -> list[str]:
        return [call.choices[0]] if call.choices and call.choices[0] else self.elements

    def _results(self, unit: Unit) -> list[Reading]:
        if not unit.results:
            raise ScpiError(-230)
        return unit.results

    def _numbers(self, rows: list[list[Reading]], units: list[Unit], elements: list[str]) -> str | bytes:
        return self.format_readings(
            [
                self._element(element, reading, unit)
                for row in rows
                for unit, reading in zip(units, row, strict=True)
                for element in elements
            ]
        )

    def _element(self, element: str, reading: Reading, unit: Unit) -> float:
        if element == "TIME":
            return reading.time_s - unit.started_s
        if element == "STAT":
            return float((COMPLIANCE if reading.limited else 0) | (OVERFLOWED if reading.over else 0))
        if element == "SOUR":
            return reading.source
        return reading.of(element)

    @scpi("FORMat:ELEMents:SENSe", params=None)
    def _elements(self, call: Call) -> str | None:
        if call.query:
            return ",".join(self.elements)
        chosen = {call.word(i, *ELEMENTS) for i in range(max(len(call.args), 1))}
        self.elements = [name for name in ORDER if name in chosen]
        return None

    # -- trace buffer

    @scpi("TRACe#:CLEar", params=0, event=True)
    def _trace_clear(self, call: Call) -> None:
        self.unit(call).trace.clear()

    @scpi("TRACe#:POINts")
    def _trace_points(self, call: Call) -> str | None:
        unit = self.unit(call)

        def put(value: float) -> None:
            unit.trace = Store(int(value))

        return self.knob(call, unit.trace.capacity, put, 1, 100000, 100000, integer=True)

    @scpi("TRACe#:POINts:ACTual?", params=0)
    def _trace_count(self, call: Call) -> str:
        return str(len(self.unit(call).trace.readings))

    @scpi("TRACe#:FREE?", params=0)
    def _trace_free(self, call: Call) -> str:
        store = self.unit(call).trace
        return f"{store.capacity - len(store.readings)},{len(store.readings)}"

    @scpi("TRACe#:FEED")
    def _feed(self, call: Call) -> str | None:
        unit = self.unit(call)
        if call.query:
            return unit.feed
        unit.feed = call.word(0, "SENSe", "MATH", "LIMit")
        return None

    @scpi("TRACe#:FEED:CONTrol")
    def _feed_control(self, call: Call) -> str | None:
        unit = self.unit(call)
        if call.query:
            return unit.feed_control
        unit.feed_control = call.word(0, "NEVer", "NEXT")
        return None

    @scpi("TRACe#:TSTamp:FORMat")
    def _stamp(self, call: Call) -> str | None:
        key = ("TST", call.suffixes[0])
        if call.query:
            return "DELT" if self.extra.get(key) else "ABS"
        self.extra[key] = call.word(0, "ABSolute", "DELTa") == "DELT"
        return None

    @scpi("TRACe#:DATA?", params=2)
    def _trace_data(self, call: Call) -> str | bytes:
        unit = self.unit(call)
        readings = unit.trace.readings
        first = int(call.number(0, low=0, high=len(readings), integer=True)) if call.args else 0
        count = int(call.number(1, low=0, high=100000, integer=True)) if len(call.args) > 1 else len(readings)
        return self._numbers([[reading] for reading in readings[first : first + count]], [unit], self.elements)


plugin = KeysightB2900
