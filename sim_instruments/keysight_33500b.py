"""Keysight 33500B and 33600A waveform generators (two channels), as a 33522B.

Commands, defaults and couplings after the 33500 Series Operating and Service Guide (partly from memory; the words
behind "Settings conflict" are those of the 33220A family). Differences from the real one that are known: edges are
straight, and steps if they are as fast as after *RST; a value out of range is refused, not clipped; no modulation,
sweep, list or sequence; a smooth function is 16 levels per period; the output relay takes no time. Like the real one it
has no query that tells how many bursts it has sent.

Arbitrary waveforms: -1 and 1 are LOW and HIGH, whatever the samples span (the guide leaves open what levels mean for
samples that do not span all of it, page 192); a burst rests at the first sample (phase 0). From memory: at least 8 and
at most 1,000,000 samples in all, 250 MSa/s and 62.5 MSa/s with the filter off, *RST empties the memory, attributes are
in parts of full scale, and the words of the errors. Samples are steps whatever the filter says.
"""

from __future__ import annotations

import struct
from math import inf, sqrt
from typing import ClassVar

from .engine.generator import OWN_OHM, Channel, Generator
from .engine.grammar import quoted, unblocked, unquoted
from .engine.scpi import Boolean, Call, Number, ScpiError, Setting, Text, Words, scpi

FUNCTIONS = ("SINusoid", "SQUare", "TRIangle", "RAMP", "PULSe", "PRBS", "NOISe", "ARB", "DC")
BUILT_IN = "INT:\\BUILTIN\\EXP_RISE.ARB"
RISE = tuple(1 - 2 * 0.5 ** (k / 8) for k in range(65))
LONGEST_ARB = 1_000_000
UNFILTERED_HZ = 62.5e6
DAC_FULL = 32767


class Channel33500B(Channel):
    """One channel with the couplings of the 33500B: what does not go together is adjusted and reported."""

    STEP_S: ClassVar[float] = 1e-8
    MIN_EDGE_S: ClassVar[float] = 8.4e-9
    MAX_HZ: ClassVar[dict[str, float]] = {
        "SIN": 30e6, "SQU": 30e6, "PULS": 30e6, "RAMP": 200e3, "TRI": 200e3, "ARB": 30e6, "NOIS": 30e6, "PRBS": 30e6,
        "DC": 30e6,
    }  # fmt: skip

    trigger = "IMM"
    timer_s = 1.0
    continuous = True
    triggers_per_init = 1.0
    burst_mode = "TRIG"
    gate_polarity = "NORM"
    output_mode = "NORM"
    arms = 0.0  # triggers that INIT still allows
    arb_name = BUILT_IN
    arb_filter = "STEP"

    def rate_changed(self) -> None:
        """Without a filter samples are slower. What is being played goes on as it began."""
        if self.arb_filter == "OFF" and self.samples_per_s > UNFILTERED_HZ:
            self.samples_per_s = UNFILTERED_HZ
            self._complain("sample rate reduced because the filter is off")

    @property
    def mode(self) -> str:
        """See `Channel.mode`. Nothing is plugged into the trigger input: it reads low."""
        if not self.burst:
            return "free"
        if self.burst_mode == "GAT":
            return "free" if self.gate_polarity == "INV" else "idle"
        if not self.continuous and not self.arms:
            return "idle"
        return "repeat" if self.trigger in ("IMM", "TIM") else "wait"

    @property
    def min_period_s(self) -> float:
        """Of pulses: 33 ns in the manual, though 30 MHz is the fastest."""
        return 33e-9

    @property
    def awaits_bus(self) -> bool:
        """Burst mode with the bus as its trigger."""
        return self.trigger == "BUS" and self.mode == "wait"

    @property
    def repeat_every_s(self) -> float:
        """Burst period, or the trigger timer."""
        return self.timer_s if self.trigger == "TIM" else self.repeat_s

    def fire(self) -> None:
        """A trigger came; it counts against those that INIT allowed."""
        super().fire()
        if not self.continuous:
            self.arms = max(self.arms - 1, 0.0)

    def fit_pulse(self) -> None:
        """First the edges give way, then the width."""
        if self.function != "PULS":
            return
        if self._edges() > self.width_s * (1 + 1e-9):
            self.lead_s = self.trail_s = max(self.width_s / 1.25 + 0.6e-9, self.MIN_EDGE_S)
            self._complain("edge time decreased due to pulse width")
        if self.width_s + self._edges() > self.period_s * (1 + 1e-9):
            self.lead_s = self.trail_s = self.MIN_EDGE_S
            self._complain("edge time decreased due to period")
        if self.width_s + self._edges() > self.period_s * (1 + 1e-9):
            self.width_s = self.period_s - self._edges()
            self._complain("pulse width decreased due to period")

    def _edges(self) -> float:
        """Room for edges in a width and in the rest of a period: 0.625 of each edge less 0.6 ns (manual)."""
        return 0.625 * (self.lead_s + self.trail_s - 1.2e-9)

    def timing_changed(self) -> None:
        """A burst that repeats fits into its period."""
        if not self.burst or self.burst_mode != "TRIG":
            return
        if self.function == "NOIS":
            self._complain("triggered burst not available for noise")
            self.burst = False
        if self.trigger != "IMM":
            return
        if self.cycles == inf:
            self.trigger = "BUS"
            self._complain("infinite burst changed trigger source to BUS")
            return
        needed_s = self.cycles * self.period_s + 1e-6
        if self.repeat_s < needed_s:
            self.repeat_s = needed_s
            self._complain("burst period increased to fit entire burst")

    def mode_changed(self) -> None:
        """Burst or trigger set up anew."""
        self.timing_changed()
        self.restart()


def _on(pattern: str, attribute: str, kind: Number | Words | Boolean | Text, changed: str = "") -> Setting:
    return Setting(pattern, attribute, kind, part="channels", changed=changed)


class Keysight33500B(Generator[Channel33500B]):
    """Simulated 33522B."""

    MODEL = "keysight-33500b"
    IDN = "Agilent Technologies,33522B,{serial},3.05-1.19-2.00-52-00"

    SETTINGS: ClassVar[tuple[Setting, ...]] = (
        # output; the load first: it scales levels
        _on("OUTPut#:LOAD", "load_ohm", Number("OHM", 1, 1e4, OWN_OHM, infinite=True), "load_changed"),
        _on("OUTPut#[:STATe]", "on", Boolean(), "output_changed"),
        _on("OUTPut#:POLarity", "polarity", Words("NORMal", "INVerted"), "follow"),
        _on("OUTPut#:MODE", "output_mode", Words("NORMal", "GATed")),
        Setting("OUTPut:SYNC[:STATe]", "sync", Boolean(True)),
        Setting("OUTPut#:SYNC:MODE", "sync_mode", Words("NORMal", "CARRier", "MARKer")),
        Setting("OUTPut#:SYNC:POLarity", "sync_polarity", Words("NORMal", "INVerted")),
        Setting("OUTPut:SYNC:SOURce", "sync_source", Words("CH1", "CH2")),
        Setting("OUTPut#:TRIGger[:STATe]", "trigger_out", Boolean()),
        Setting("OUTPut#:TRIGger:SLOPe", "trigger_out_slope", Words("POSitive", "NEGative")),
        Setting("OUTPut:TRIGger:SOURce", "trigger_out_source", Words("CH1", "CH2")),
        # shape
        _on("[:SOURce#]:FUNCtion[:SHAPe]", "function", Words(*FUNCTIONS), "function_changed"),
        _on("[:SOURce#]:FREQuency[:CW]", "frequency_hz", Number("HZ", 1e-6, "max_hz", 1e3), "period_changed"),
        _on("[:SOURce#]:FREQuency:FIXed", "frequency_hz", Number("HZ", 1e-6, "max_hz", 1e3), "period_changed"),
        _on("[:SOURce#]:FREQuency:MODE", "frequency_mode", Words("CW", "FIXed")),
        _on("[:SOURce#]:PHASe[:ADJust]", "phase_deg", Number("DEG", -360, 360)),
        _on("[:SOURce#]:FUNCtion:SQUare:DCYCle", "square_duty", Number("PCT", 0.01, 99.99, 50)),
        _on("[:SOURce#]:FUNCtion:SQUare:PERiod", "period_s", Number("S", 33e-9, 1e6, 1e-3), "period_changed"),
        _on("[:SOURce#]:FUNCtion:RAMP:SYMMetry", "symmetry", Number("PCT", 0, 100, 100)),
        _on("[:SOURce#]:FUNCtion:NOISe:BANDwidth", "noise_hz", Number("HZ", 1e-3, 30e6, 1e5)),
        _on("[:SOURce#]:FUNCtion:PRBS:BRATe", "bits_hz", Number("", 1e-3, 50e6, 1e3)),
        _on("[:SOURce#]:FUNCtion:PULSe:PERiod", "period_s", Number("S", "min_period_s", 1e6, 1e-3), "period_changed"),
        # the 33220A's spelling, which public drivers still send (that this model knows it: from memory)
        _on("[:SOURce#]:PULSe:PERiod", "period_s", Number("S", "min_period_s", 1e6, 1e-3), "period_changed"),
        _on("[:SOURce#]:FUNCtion:PULSe:WIDTh", "width_s", Number("S", 16e-9, 1e6, 1e-4), "width_changed"),
        _on("[:SOURce#]:FUNCtion:PULSe:DCYCle", "duty", Number("PCT", 1e-6, 100, 10), "width_changed"),
        _on("[:SOURce#]:FUNCtion:PULSe:HOLD", "hold", Words("WIDTh", "DCYCle")),
        _on("[:SOURce#]:FUNCtion:PULSe:TRANsition:LEADing", "lead_s", Number("S", 8.4e-9, 1e-6, 1e-8), "width_changed"),
        _on("[:SOURce#]:FUNCtion:PULSe:TRANsition:TRAiling", "trail_s", Number("S", 8.4e-9, 1e-6, 1e-8),
            "width_changed"),
        _on("[:SOURce#]:FUNCtion:PULSe:TRANsition[:BOTH]", "both_edges_s", Number("S", 8.4e-9, 1e-6, 1e-8),
            "width_changed"),
        # levels
        _on("[:SOURce#]:VOLTage:UNIT", "unit", Words("VPP", "VRMS", "DBM"), "unit_changed"),
        _on("[:SOURce#]:VOLTage[:LEVel][:IMMediate][:AMPLitude]", "shown_amplitude",
            Number("V|VPP|VRMS|DBM", "least_shown", "most_shown", 0.1), "amplitude_changed"),
        _on("[:SOURce#]:VOLTage[:LEVel][:IMMediate]:OFFSet", "offset_v", Number("V", "min_v", "max_v", 0),
            "offset_changed"),
        _on("[:SOURce#]:VOLTage[:LEVel][:IMMediate]:HIGH", "high_v", Number("V", "min_v", "max_v", 0.05),
            "high_changed"),
        _on("[:SOURce#]:VOLTage[:LEVel][:IMMediate]:LOW", "low_v", Number("V", "min_v", "max_v", -0.05), "low_changed"),
        _on("[:SOURce#]:VOLTage:LIMit:STATe", "limited", Boolean(), "limits_changed"),
        _on("[:SOURce#]:VOLTage:LIMit:HIGH", "high_limit_v", Number("V", "min_v", "max_v", 5), "limits_changed"),
        _on("[:SOURce#]:VOLTage:LIMit:LOW", "low_limit_v", Number("V", "min_v", "max_v", -5), "limits_changed"),
        _on("[:SOURce#]:VOLTage:RANGe:AUTO", "auto_range", Boolean(True)),
        # bursts and triggers
        _on("[:SOURce#]:BURSt:MODE", "burst_mode", Words("TRIGgered", "GATed"), "mode_changed"),
        _on("[:SOURce#]:BURSt:NCYCles", "cycles", Number("", 1, 1e8, 1, integer=True, infinite=True), "timing_changed"),
        _on("[:SOURce#]:BURSt:INTernal:PERiod", "repeat_s", Number("S", 1e-6, 8000, 1e-2), "timing_changed"),
        _on("[:SOURce#]:BURSt:PHASe", "burst_phase", Number("DEG", -360, 360)),
        _on("[:SOURce#]:BURSt:GATE:POLarity", "gate_polarity", Words("NORMal", "INVerted"), "mode_changed"),
        _on("[:SOURce#]:BURSt:STATe", "burst", Boolean(), "mode_changed"),
        _on("TRIGger#:SOURce", "trigger", Words("IMMediate", "EXTernal", "TIMer", "BUS"), "mode_changed"),
        _on("TRIGger#:DELay", "delay_s", Number("S", 0, 1000)),
        _on("TRIGger#:COUNt", "triggers_per_init", Number("", 1, 1e6, 1, integer=True)),
        _on("TRIGger#:SLOPe", "trigger_slope", Words("POSitive", "NEGative")),
        _on("TRIGger#:TIMer", "timer_s", Number("S", 1e-6, 8000, 1)),
        _on("TRIGger#:LEVel", "trigger_level_v", Number("V", 0.9, 3.8, 1.65)),
        _on("INITiate#:CONTinuous", "continuous", Boolean(True), "mode_changed"),
        # arbitrary waveforms
        _on("[:SOURce#]:FUNCtion:ARBitrary:SRATe", "samples_per_s", Number("", 1e-6, 250e6, 4e4), "rate_changed"),
        _on("[:SOURce#]:FUNCtion:ARBitrary:FILTer", "arb_filter", Words("NORMal", "STEP", "OFF", default="STEP"),
            "rate_changed"),
        _on("[:SOURce#]:FUNCtion:ARBitrary:ADVance", "arb_advance", Words("SRATe", "TRIGger")),
        # the rest
        Setting("DISPlay:TEXT[:DATA]", "text", Text(longest=40), kept=True),
        Setting("DISPlay:FOCus", "focus", Words("CH1", "CH2")),
        Setting("FORMat:BORDer", "byte_order", Words("NORMal", "SWAPped")),
        Setting("UNIT:ANGLe", "angle_unit", Words("DEGree", "RADian", "SECond", "DEFault")),
        Setting("[:SOURce]:ROSCillator:SOURce", "reference", Words("INTernal", "EXTernal")),
        Setting("[:SOURce]:ROSCillator:SOURce:AUTO", "reference_auto", Boolean(True)),
    )  # fmt: skip

    text: str
    byte_order: str

    def channel(self, number: int) -> Channel33500B:
        """A new channel on its terminal."""
        return Channel33500B(self.world, self.terminal(number), self.complain, self.begin, self.end)

    def reset(self) -> None:
        """Also the waveform memory."""
        self._arbs: list[dict[str, tuple[float, ...]]] = [{BUILT_IN: RISE} for _ in self.channels]
        for channel in self.channels:
            channel.arb_name, channel.samples, channel.arms = BUILT_IN, RISE, 0.0
        super().reset()

    # ---- triggers

    @scpi("TRIGger#[:IMMediate]", params=0, event=True)
    def fire(self, call: Call) -> None:
        """Trigger one channel, whatever its source."""
        self.chosen(call).fire()

    @scpi("INITiate#[:IMMediate]", params=0, event=True)
    def initiate(self, call: Call) -> None:
        """Allow so many triggers; while they are allowed anyway it is ignored."""
        channel = self.chosen(call)
        self._initiate(channel)

    @scpi("INITiate[:IMMediate]:ALL", params=0, event=True)
    def initiate_all(self) -> None:
        """The same for all channels."""
        for channel in self.channels:
            self._initiate(channel)

    def _initiate(self, channel: Channel33500B) -> None:
        if channel.continuous:
            raise ScpiError(-213)
        channel.arms = channel.triggers_per_init
        channel.restart()

    @scpi("INITiate:CONTinuous:ALL", event=True)
    def continuous_all(self, call: Call) -> None:
        """Trigger systems of all channels ready by themselves, or not."""
        for channel in self.channels:
            channel.continuous = call.boolean()
            channel.mode_changed()

    @scpi("ABORt", params=0, event=True)
    def abort(self) -> None:
        """Break off what all channels do; the trigger systems are ready again, or idle."""
        for channel in self.channels:
            channel.arms = 0.0
            channel.restart()

    # ---- all at once

    @scpi("[:SOURce#]:APPLy:{SINusoid|SQUare|TRIangle|RAMP|PULSe|PRBS|NOISe|ARBitrary|DC}", params=3, event=True)
    def apply(self, call: Call) -> None:
        """Function, frequency, amplitude and offset; burst mode off and output ON: it runs freely at once."""
        channel = self.chosen(call)
        if channel.on:
            channel.on = False
            channel.output_changed()
        channel.function = call.choices[0]
        channel.burst, channel.trigger = False, "IMM"
        channel.function_changed()
        self._apply_values(channel, call)
        channel.on = True
        channel.output_changed()

    def _apply_values(self, channel: Channel33500B, call: Call) -> None:
        if len(call.args) > 0:
            channel.frequency_hz = call.number(0, "HZ", low=1e-6, high=channel.max_hz, default=1e3)
            channel.period_changed()
        if len(call.args) > 1:
            low, high = channel.least_shown, channel.most_shown
            channel.shown_amplitude = call.number(1, "V|VPP|VRMS|DBM", low=low, high=high, default=0.1)
            channel.amplitude_changed()
        if len(call.args) > 2:
            channel.offset_v = call.number(2, "V", low=channel.min_v, high=channel.max_v, default=0.0)
            channel.offset_changed()

    @scpi("[:SOURce#]:APPLy?", params=0)
    def applied(self, call: Call) -> str:
        """The same, as a quoted string."""
        channel = self.chosen(call)
        values = (channel.frequency_hz, channel.shown_amplitude, channel.offset_v)
        return quoted(f"{channel.function} {','.join(map(self.format_number, values))}")

    @scpi("[:SOURce#]:PHASe:SYNChronize", "[:SOURce]:PHASe:SYNChronize", "[:SOURce#]:FUNCtion:ARBitrary:SYNChronize",
          params=0, event=True)  # fmt: skip
    def synchronize(self) -> None:
        """Start all that runs freely at the same time."""
        for channel in self.channels:
            if channel.mode == "free":
                channel.restart()

    @scpi("[:SOURce#]:{AM|FM|PM|FSKey|BPSK|PWM|SUM|SWEep}:STATe", "[:SOURce#]:{FREQuency|VOLTage}:COUPle[:STATe]",
          "[:SOURce#]:TRACk")  # fmt: skip
    def modulation(self, call: Call) -> str:
        """Off, and stays so: this is not simulated."""
        if not call.query and call.arg(0).upper() not in ("OFF", "0", "NONE"):
            raise ScpiError(-241, "Hardware missing; not simulated")
        return "OFF" if ":TRAC" in call.header else "0"

    # ---- the display and files

    @scpi("DISPlay:TEXT:CLEar", params=0, event=True)
    def clear_text(self) -> None:
        """No text."""
        self.text = ""

    @scpi("MMEMory:CATalog[:ALL]?")
    def catalog(self) -> str:
        """The disk is empty."""
        return "+0.00000000000000E+00,+1.00000000000000E+08"

    @scpi("MMEMory:CDIRectory?", params=0)
    def directory(self) -> str:
        """The root of the disk."""
        return quoted("INT:\\")

    # ---- arbitrary waveforms

    def _arb(self, call: Call) -> dict[str, tuple[float, ...]]:
        return self._arbs[self.channels.index(self.chosen(call))]

    @scpi("[:SOURce#]:DATA:ARBitrary", params=None, event=True)
    def upload(self, call: Call) -> None:
        """Samples of -1..1, typed or as a block of 4-byte floats."""
        self._keep(call, 4, "f", 1.0)

    @scpi("[:SOURce#]:DATA:ARBitrary:DAC", params=None, event=True)
    def upload_codes(self, call: Call) -> None:
        """Samples of -32767..32767, typed or as a block of 2-byte integers."""
        self._keep(call, 2, "h", float(DAC_FULL))

    def _keep(self, call: Call, size: int, code: str, full: float) -> None:
        name, arbs = _name(call.arg(0)), self._arb(call)
        if name in arbs:
            raise ScpiError(781, "Not able to load specified arb; arb already loaded in waveform memory")
        if call.arg(1).startswith("#"):
            data = unblocked(call.arg(1))
            if len(data) % size:
                raise ScpiError(-161)
            order = "<" if self.byte_order == "SWAP" else ">"
            values = list(map(float, struct.unpack(f"{order}{len(data) // size}{code}", data)))
        else:
            values = [call.number(i) for i in range(1, len(call.args))]
        if not 8 <= len(values) <= LONGEST_ARB or not all(-full <= value <= full for value in values):
            raise ScpiError(-222)
        if len(values) > LONGEST_ARB - sum(map(len, arbs.values())):
            raise ScpiError(-225, "Out of memory")
        arbs[name] = tuple(value / full for value in values)

    @scpi("[:SOURce#]:DATA:VOLatile:CATalog?", params=0)
    def volatile(self, call: Call) -> str:
        """Names of the waveforms in memory."""
        return ",".join(map(quoted, self._arb(call)))

    @scpi("[:SOURce#]:DATA:VOLatile:FREE?", params=0)
    def free(self, call: Call) -> str:
        """Samples that still fit."""
        return str(LONGEST_ARB - sum(map(len, self._arb(call).values())))

    @scpi("[:SOURce#]:DATA:ATTRibute:POINts?")
    def points_of(self, call: Call) -> str:
        """Samples of a waveform, by default the chosen one."""
        return str(len(self._meant(call)))

    @scpi("[:SOURce#]:DATA:ATTRibute:{AVERage|CFACtor|PTPeak}?")
    def attribute_of(self, call: Call) -> str:
        """Mean, crest factor (peak over root mean square) or span of a waveform, by default the chosen one."""
        samples = self._meant(call)
        if call.choices[0] == "AVER":
            return self.format_number(sum(samples) / len(samples))
        if call.choices[0] == "PTP":
            return self.format_number(max(samples) - min(samples))
        rms = sqrt(sum(sample * sample for sample in samples) / len(samples))
        return self.format_number(max(map(abs, samples)) / rms if rms else 0.0)

    def _meant(self, call: Call) -> tuple[float, ...]:
        return self._found(call, _name(call.arg(0)) if call.args else self.chosen(call).arb_name)

    @scpi("[:SOURce#]:DATA:VOLatile:CLEar", params=0, event=True)
    def forget(self, call: Call) -> None:
        """Only the built-in waveform is left, and chosen."""
        arbs = self._arb(call)
        arbs.clear()
        arbs[BUILT_IN] = RISE
        self._choose(call, BUILT_IN)

    @scpi("[:SOURce#]:FUNCtion:ARBitrary")
    def arbitrary(self, call: Call) -> str:
        """Choose a waveform in memory."""
        if not call.query:
            self._choose(call, _name(call.arg(0)))
        return quoted(self.chosen(call).arb_name)

    @scpi("[:SOURce#]:FUNCtion:ARBitrary:POINts?", params=0)
    def points(self, call: Call) -> str:
        """Samples of the chosen waveform."""
        return str(len(self.chosen(call).samples))

    @scpi("[:SOURce#]:FUNCtion:ARBitrary:{FREQuency|PERiod}")
    def arb_rate(self, call: Call) -> str:
        """The sample rate, said as the rate of whole waveforms."""
        channel = self.chosen(call)
        points, as_period = len(channel.samples), call.choices[0] == "PER"
        if not call.query:
            value = call.number(0, "S" if as_period else "HZ", low=1e-9, high=1e6)
            channel.samples_per_s = min(points / value if as_period else points * value, 250e6)
        hz = channel.samples_per_s / points
        return self.format_number(1 / hz if as_period else hz)

    @scpi("[:SOURce#]:FUNCtion:ARBitrary:PTPeak")
    def arb_amplitude(self, call: Call) -> str:
        """The amplitude."""
        channel = self.chosen(call)
        if not call.query:
            channel.amplitude = call.number(0, "V|VPP", low=channel.least_shown, high=channel.max_pp)
            channel.amplitude_changed()
        return self.format_number(channel.amplitude)

    def _choose(self, call: Call, name: str) -> None:
        channel = self.chosen(call)
        channel.samples = self._found(call, name)
        channel.arb_name = name
        if channel.function == "ARB":
            channel.restart()

    def _found(self, call: Call, name: str) -> tuple[float, ...]:
        arbs = self._arb(call)
        found = next((arbs[known] for known in arbs if known.upper() == name.upper()), None)
        if found is None:
            raise ScpiError(786, "Specified arb waveform does not exist")
        return found


def _name(text: str) -> str:
    """A waveform's name, quoted or bare."""
    return unquoted(text) if text[:1] in "\"'" else text


plugin = Keysight33500B
