"""Keysight (Agilent) 81160A pulse generator, two channels.

Commands after the 81150A and 81160A User's Guide and public drivers; ranges and defaults partly from memory. Triggers
are of the 81110A family: an arming source (MAN: *TRG or :TRIG), and so many cycles per trigger. Pulse times that do
not go together are kept as they were set and reported as -221; what goes out is cut to fit (from memory of the 811xx
family). The width is from the start of one edge to the start of the next (page 435 of the guide). Differences that are
known: edges are straight, and steps if they are as fast as after *RST; the complement output is wired to nothing; no
modulation, no double pulses, no patterns. No query tells how many bursts it has sent.
"""

from __future__ import annotations

import struct
from typing import ClassVar

from .engine.generator import OWN_OHM, Channel, Generator, on_grid
from .engine.grammar import quoted
from .engine.scpi import Boolean, Call, Number, ScpiError, Setting, Words, scpi

MOST = 2_147_483_647
MOST_STORED = 4  # names besides VOLATILE (from memory of the 33220A family)
FUNCTIONS = ("SINusoid", "SQUare", "RAMP", "PULSe", "NOISe", "DC", "USER")
RISE = tuple(1 - 2 * 0.5 ** (k / 8) for k in range(65))
DAC_FULL = 8191.0
EDGE = Number("S", 1e-9, 1e3, 2.5e-9)
PERIOD = Number("S", "min_period_s", 1e6, 1e-6)
WIDTH = Number("S", 1.5e-9, 1e6, 1e-7)


class Channel81160A(Channel):
    """One channel; see the module for what it does with settings that do not go together."""

    STEP_S: ClassVar[float] = 2.5e-9
    OPEN_OHM: ClassVar[float] = 1e6  # the largest setting: 50 ppm beside an open circuit, far below its accuracy
    LEAST_PP: ClassVar[float] = 0.05
    MAX_HZ: ClassVar[dict[str, float]] = {
        "SIN": 500e6, "SQU": 330e6, "PULS": 330e6, "RAMP": 20e6, "USER": 200e6, "NOIS": 500e6, "DC": 500e6,
    }  # fmt: skip

    arming = "IMM"
    sense = "EDGE"
    burst_mode = "TRIG"
    timer_s = 1e-5
    follows = True  # the trailing edge follows the leading one
    arb_name = "EXP_RISE"

    @property
    def mode(self) -> str:
        """See `Channel.mode`. Nothing is plugged into the external input."""
        if self.sense == "LEV" and self.arming == "EXT":
            return "idle"
        if self.arming == "IMM":
            return "repeat" if self.burst else "free"
        return "repeat" if self.arming == "INT2" else "wait"

    @property
    def awaits_bus(self) -> bool:
        """MAN: the key, :TRIG or *TRG."""
        return self.arming == "MAN" and self.mode == "wait"

    @property
    def count(self) -> float:
        """Cycles per trigger."""
        return self.cycles if self.burst else 1.0

    @property
    def per_trigger(self) -> float:
        """The same as the trigger count, which switches burst on and off."""
        return self.count

    @per_trigger.setter
    def per_trigger(self, count: float) -> None:
        """More than one switches burst on."""
        self.burst = count > 1
        if self.burst:
            self.cycles = count

    @property
    def repeat_every_s(self) -> float:
        """Burst period, or the period of the internal trigger."""
        return self.timer_s if self.arming == "INT2" else self.repeat_s

    @property
    def pulse_hz(self) -> float:
        """The same as the frequency."""
        return self.frequency_hz

    @pulse_hz.setter
    def pulse_hz(self, hz: float) -> None:
        """Sets the period."""
        self.frequency_hz = hz

    @property
    def sample_rate(self) -> float:
        """A period is the whole waveform."""
        return len(self.samples) / self.period_s

    def top_ps(self, lead_ps: int, trail_ps: int) -> int:
        """The leading edge belongs to the width, the trailing one does not."""
        del trail_ps
        return on_grid(self.width_s) - lead_ps

    def fit_pulse(self) -> None:
        """Report what does not fit."""
        if self.function != "PULS":
            return
        lead_s, trail_s = self._whole_ps(self.lead_s) / 1e12, self._whole_ps(self.trail_s) / 1e12
        if self.width_s * (1 + 1e-9) < lead_s:
            self._complain("leading edge is longer than the pulse width")
        if self.width_s + trail_s > self.period_s * (1 + 1e-9):
            self._complain("pulse width and trailing edge do not fit into the period")

    def lead_changed(self) -> None:
        """The trailing edge follows, unless it was set by itself."""
        if self.follows:
            self.trail_s = self.lead_s
        self.fit_pulse()

    def trail_changed(self) -> None:
        """It follows no longer."""
        self.follows = False
        self.fit_pulse()

    def follows_changed(self) -> None:
        """Edges alike again."""
        self.lead_changed()

    def timing_changed(self) -> None:
        """A repeated burst that does not fit into its period is repeated at once; nothing is adjusted."""

    def mode_changed(self) -> None:
        """Arming or burst set up anew."""
        self.restart()


def _on(pattern: str, attribute: str, kind: Number | Words | Boolean, changed: str = "") -> Setting:
    return Setting(pattern, attribute, kind, part="channels", changed=changed)


def _pulse(name: str, attribute: str, kind: Number | Words | Boolean, changed: str) -> tuple[Setting, Setting]:
    """Two spellings: [:SOURce]:PULSe:WIDTh# and [:SOURce]:FUNCtion#:PULSe:WIDTh."""
    node, _, rest = name.partition(":")
    tail = f":{rest}" if rest and not rest.startswith("[") else rest
    return (
        _on(f"[:SOURce]:PULSe:{node}#{tail}", attribute, kind, changed),
        _on(f"[:SOURce]:FUNCtion#:PULSe:{node}{tail}", attribute, kind, changed),
    )


class Keysight81160A(Generator[Channel81160A]):
    """Simulated 81160A with two channels."""

    MODEL = "keysight-81160a"
    IDN = "Agilent Technologies,81160A,{serial},1.0.3.0"

    SETTINGS: ClassVar[tuple[Setting, ...]] = (
        # output; the load first: it scales levels
        _on("OUTPut#:LOAD", "load_ohm", Number("OHM", 0.3, 1e6, OWN_OHM), "load_changed"),
        _on("OUTPut#:IMPedance:EXTernal", "load_ohm", Number("OHM", 0.3, 1e6, OWN_OHM), "load_changed"),
        _on("OUTPut#:IMPedance[:INTernal]", "own_ohm", Number("OHM", 5, 50, 50)),
        _on("OUTPut#[:STATe]", "on", Boolean(), "output_changed"),
        _on("OUTPut#:COMPlement", "complement", Boolean()),
        _on("OUTPut#:POLarity", "polarity", Words("NORMal", "INVerted"), "follow"),
        _on("OUTPut#:ROUTe", "route", Words("HIVoltage", "HIBandwidth")),
        Setting("OUTPut:TRIGger[:STATe]", "trigger_out", Boolean()),
        # shape
        _on("[:SOURce]:FUNCtion#[:SHAPe]", "function", Words(*FUNCTIONS), "function_changed"),
        _on("[:SOURce]:FREQuency#[:CW]", "frequency_hz", Number("HZ", 1e-6, "max_hz", 1e6), "period_changed"),
        _on("[:SOURce]:FREQuency#:FIXed", "frequency_hz", Number("HZ", 1e-6, "max_hz", 1e6), "period_changed"),
        _on("[:SOURce]:PULSe:FREQuency#", "pulse_hz", Number("HZ", 1e-6, 330e6, 1e6), "period_changed"),
        _on("[:SOURce]:PHASe#[:ADJust]", "phase_deg", Number("DEG", -360, 360)),
        _on("[:SOURce]:FUNCtion#:SQUare:DCYCle", "square_duty", Number("PCT", 1.5e-4, 99.9998485, 50)),
        _on("[:SOURce]:FUNCtion#:RAMP:SYMMetry", "symmetry", Number("PCT", 0, 100, 100)),
        *_pulse("PERiod", "period_s", PERIOD, "period_changed"),
        *_pulse("WIDTh", "width_s", WIDTH, "width_changed"),
        *_pulse("DCYCle", "duty", Number("PCT", 1e-6, 100, 10), "width_changed"),
        *_pulse("DELay", "delay_s", Number("S", 0, 1e6), "timing_changed"),
        *_pulse("HOLD", "hold", Words("WIDTh", "DCYCle"), "timing_changed"),
        *_pulse("TRANsition:TRAiling:AUTO", "follows", Boolean(True), "follows_changed"),
        *_pulse("TRANsition:TRAiling", "trail_s", EDGE, "trail_changed"),
        *_pulse("TRANsition:[:LEADing]", "lead_s", EDGE, "lead_changed"),
        # levels
        _on("[:SOURce]:VOLTage#:UNIT", "unit", Words("VPP", "VRMS", "DBM"), "unit_changed"),
        _on("[:SOURce]:VOLTage#[:LEVel][:IMMediate][:AMPLitude]", "shown_amplitude",
            Number("V|VPP|VRMS|DBM", "least_shown", "most_shown", 1.0), "amplitude_changed"),
        _on("[:SOURce]:VOLTage#[:LEVel][:IMMediate]:OFFSet", "offset_v", Number("V", "min_v", "max_v", 0),
            "offset_changed"),
        _on("[:SOURce]:VOLTage#[:LEVel][:IMMediate]:HIGH", "high_v", Number("V", "min_v", "max_v", 0.5),
            "high_changed"),
        _on("[:SOURce]:VOLTage#[:LEVel][:IMMediate]:LOW", "low_v", Number("V", "min_v", "max_v", -0.5), "low_changed"),
        _on("[:SOURce]:VOLTage#:LIMit:STATe", "limited", Boolean(), "limits_changed"),
        _on("[:SOURce]:VOLTage#:LIMit:HIGH", "high_limit_v", Number("V", "min_v", "max_v", 5), "limits_changed"),
        _on("[:SOURce]:VOLTage#:LIMit:LOW", "low_limit_v", Number("V", "min_v", "max_v", -5), "limits_changed"),
        # bursts and triggers
        _on("[:SOURce]:BURSt#:NCYCles", "cycles", Number("", 2, MOST, 2, integer=True, infinite=True)),
        _on("[:SOURce]:BURSt#:MODE", "burst_mode", Words("TRIGgered", "GATed")),
        _on("[:SOURce]:BURSt#:INTernal:PERiod", "repeat_s", Number("S", 3.03e-9, 1e6, 1e-2)),
        _on("[:SOURce]:BURSt#:PHASe", "burst_phase", Number("DEG", -360, 360)),
        _on("[:SOURce]:BURSt#:STATe", "burst", Boolean(), "mode_changed"),
        _on("TRIGger:COUNt#", "per_trigger", Number("", 1, MOST, 1, integer=True), "mode_changed"),
        _on("TRIGger#:COUNt", "per_trigger", Number("", 1, MOST, 1, integer=True), "mode_changed"),
        _on("TRIGger:SOURce#", "trigger_source", Words("IMMediate", "INTernal[1]", "EXTernal", "BUS")),
        _on("ARM[:SEQuence][:LAYer]:SOURce#", "arming", Words("IMMediate", "INT2", "EXTernal", "MANual"),
            "mode_changed"),
        _on("ARM[:SEQuence][:LAYer]:SENSe#", "sense", Words("EDGE", "LEVel"), "mode_changed"),
        _on("ARM[:SEQuence][:LAYer]:SLOPe#", "arm_slope", Words("POSitive", "NEGative", "EITHer")),
        _on("ARM[:SEQuence][:LAYer]:LEVel#", "arm_level_v", Number("V", -10, 10, 1)),
        _on("ARM[:SEQuence][:LAYer]:PERiod#", "timer_s", Number("S", 2e-9, 1e3, 1e-5)),
        # the rest
        Setting("FORMat:BORDer", "byte_order", Words("NORMal", "SWAPped")),
        Setting("CHANnel:MATH", "math", Words("OFF")),
        Setting("[:SOURce]:ROSCillator:SOURce", "reference", Words("INTernal", "EXTernal")),
        Setting("SYSTem:CHECk[:ALL][:STATe]", "checks", Boolean(True)),
    )  # fmt: skip

    byte_order: str

    def channel(self, number: int) -> Channel81160A:
        """A new channel on its terminal."""
        return Channel81160A(self.world, self.terminal(number), self.complain, self.begin, self.end)

    def reset(self) -> None:
        """Also the waveform memory."""
        self._arbs: dict[str, tuple[float, ...]] = {"EXP_RISE": RISE}
        for channel in self.channels:
            channel.arb_name, channel.samples = "EXP_RISE", RISE
        super().reset()

    @scpi("TRIGger#[:IMMediate]", "ARM[:IMMediate]#", params=0, event=True)
    def fire(self, call: Call) -> None:
        """The trigger key of one channel."""
        channel = self.chosen(call)
        if not channel.awaits_bus:
            raise ScpiError(-211)
        channel.fire()

    @scpi("[:SOURce]:{AM|FM|PM|FSKey|PWM|SWEep}#:STATe", "[:SOURce]:{AM|FM|PM|FSKey|PWM|SWEep}:STATe#",
          "TRACk:CHANnel#", "TRACk:FREQuency")  # fmt: skip
    def modulation(self, call: Call) -> str:
        """Off, and stays so: this is not simulated."""
        if not call.query and call.boolean():
            raise ScpiError(-241, "Hardware missing; not simulated")
        return "0"

    @scpi("[:SOURce]:APPLy#:{SINusoid|SQUare|RAMP|PULSe|NOISe|DC|USER}", params=3, event=True)
    def apply(self, call: Call) -> None:
        """Function, frequency, amplitude and offset; burst off, armed at once and output ON: it runs freely."""
        channel = self.chosen(call)
        channel.on = False
        channel.output_changed()
        channel.function, channel.burst, channel.arming = call.choices[0], False, "IMM"
        channel.function_changed()
        if call.args:
            channel.frequency_hz = call.number(0, "HZ", low=1e-6, high=channel.max_hz, default=1e6)
            channel.period_changed()
        if len(call.args) > 1:
            low, high = channel.least_shown, channel.most_shown
            channel.shown_amplitude = call.number(1, "V|VPP|VRMS|DBM", low=low, high=high, default=1.0)
            channel.amplitude_changed()
        if len(call.args) > 2:
            channel.offset_v = call.number(2, "V", low=channel.min_v, high=channel.max_v, default=0.0)
            channel.offset_changed()
        channel.on = True
        channel.output_changed()

    @scpi("[:SOURce]:APPLy#?", params=0)
    def applied(self, call: Call) -> str:
        """The same, as a quoted string."""
        channel = self.chosen(call)
        values = (channel.frequency_hz, channel.shown_amplitude, channel.offset_v)
        return quoted(f"{channel.function} {','.join(map(self.format_number, values))}")

    # ---- arbitrary waveforms and files

    @scpi("[:SOURce]:{DATA|TRACe}#[:DATA]", params=None, event=True)
    def upload(self, call: Call) -> None:
        """VOLATILE and samples of -1..1."""
        self._keep(call, 1.0)

    @scpi("[:SOURce]:{DATA|TRACe}#:DAC", params=None, event=True)
    def upload_codes(self, call: Call) -> None:
        """VOLATILE and samples of -8191..8191."""
        self._keep(call, DAC_FULL)

    def _keep(self, call: Call, full: float) -> None:
        call.word(0, "VOLATILE")
        if len(call.args) == 2 and call.args[1].startswith("#"):
            data = call.block(1)
            order = "<" if self.byte_order == "SWAP" else ">"
            values = [float(code) for code in struct.unpack(f"{order}{len(data) // 2}h", data[: len(data) & ~1])]
        else:
            values = [call.number(i, low=-full, high=full) for i in range(1, len(call.args))]
        if max(map(abs, values), default=0.0) > full:
            raise ScpiError(-222)
        if len(values) < 2:
            raise ScpiError(-109)
        self._arbs["VOLATILE"] = tuple(value / full for value in values)
        for channel in self.channels:
            if channel.arb_name == "VOLATILE":
                channel.samples = self._arbs["VOLATILE"]

    @scpi("[:SOURce]:{DATA|TRACe}#:CATalog?", params=0)
    def waveforms(self) -> str:
        """Names of the waveforms in memory."""
        return ",".join(map(quoted, self._arbs))

    @scpi("[:SOURce]:{DATA|TRACe}#:NVOLatile:{CATalog|FREE}?", params=0)
    def stored(self, call: Call) -> str:
        """Names of the waveforms that a power cycle does not lose, or how many more fit."""
        kept = [name for name in self._arbs if name != "VOLATILE"]
        return ",".join(map(quoted, kept)) if call.choices[1] == "CAT" else str(MOST_STORED + 1 - len(kept))

    @scpi("[:SOURce]:{DATA|TRACe}#:COPY", params=2, event=True)
    def store(self, call: Call) -> None:
        """Give the volatile waveform a name."""
        name = call.arg(0).strip("\"'").upper()
        if "VOLATILE" not in self._arbs:
            raise ScpiError(780, "Specified arb waveform does not exist")
        if len(self._arbs) > MOST_STORED + 1:
            raise ScpiError(781, "Not enough memory to store new arb waveform; use DATA:DELETE")
        self._arbs[name] = self._arbs["VOLATILE"]

    @scpi("[:SOURce]:{DATA|TRACe}#:DELete", event=True)
    def delete(self, call: Call) -> None:
        """Forget a waveform that no channel uses."""
        name = call.arg(0).strip("\"'").upper()
        if name == "EXP_RISE" or any(channel.arb_name == name for channel in self.channels):
            raise ScpiError(-221, f"Settings conflict; {name} is in use or built in")
        self._arbs.pop(name, None)

    @scpi("[:SOURce]:FUNCtion#:USER")
    def user(self, call: Call) -> str:
        """Choose a waveform in memory."""
        channel = self.chosen(call)
        if not call.query:
            name = call.arg(0).strip("\"'").upper()
            if name not in self._arbs:
                raise ScpiError(-224, f"Illegal parameter value; no waveform {name}")
            channel.arb_name, channel.samples = name, self._arbs[name]
            if channel.function == "USER":
                channel.restart()
        return channel.arb_name

    @scpi("MMEMory:CATalog?")
    def catalog(self) -> str:
        """The disk is empty."""
        return "0,100000000"


plugin = Keysight81160A
