"""The Keithley 2602B System SourceMeter: two channels, smua and smub, spoken to in TSP.

What it does: source and measure, reading buffers, the trigger model of each channel with the timers, the factory
scripts KIPulse (ConfigPulse..., InitiatePulseTest...) and KISweep. Sources: Series 2600B Reference Manual 2600BS-901-01
(command reference, trigger model), the vendor's published command help; ranges, resolutions and noise by the data
sheet of the 2602B, from memory; numbers of trigger events, status bits and most error messages likewise.

An output that is off stays at 0 V with the limit `source.offlimiti` (OUTPUT_NORMAL, the default of the manual);
`offmode = OUTPUT_HIGH_Z` opens it. No interlock: the highest voltage is 40 V. Triggers from other boxes (digio,
tsplink, blenders) are not there. A reading takes its aperture times the filter count; a source step takes no time.
InitiatePulseTest and waitcomplete() block, `trigger.initiate()` and `measure.overlapped...()` do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, NamedTuple

from ._keithley_2600b import (
    BLENDERS,
    BUFFER_BIT,
    BUS_EVENT,
    LIMIT_I,
    LIMIT_V,
    OVERFLOWED,
    SHEET,
    SWEEPING,
    TIMERS,
    Blender,
    ReadingBuffer,
    Smu,
    Timer,
    buffer_of,
    channel_node,
    ramp,
)
from .engine.lua import library
from .engine.smu import LINE_HZ, Background, Steps
from .engine.status import ScpiError
from .engine.tsp import (
    Attribute,
    Computed,
    Constant,
    Method,
    Node,
    OneOf,
    Real,
    Row,
    String,
    Truth,
    TspInstrument,
    Value,
)


class PulsePlan(NamedTuple):
    """A pulse train of the factory script KIPulse; `ton_s` is the time at the level, `toff_s` that at the bias."""

    smu: Smu
    letter: str  # of what is sourced
    bias: float
    levels: tuple[float, ...]
    limit: float
    ton_s: float
    toff_s: float
    stores: tuple[tuple[str, ReadingBuffer], ...]

    def refusal(self) -> str:
        """Why this train cannot be made; "" if it can."""
        values, meter = self.smu.values, self.smu.meter
        reads = "i" if self.letter == "v" else "v"
        top = SHEET.most("VOLT" if self.letter == "v" else "CURR")
        checks = (
            (max(map(abs, (self.bias, *self.levels))) <= top, f"level is beyond {top:g}"),
            (len(self.levels) > 0, "points must be at least 1"),
            (0.0 < self.limit <= SHEET.most("CURR" if self.letter == "v" else "VOLT"), "limit is out of range"),
            (not values[f"measure.autorange{reads}"], f"{self.smu.name}.measure.autorange{reads} must be off"),
            (values["measure.autozero"] != 2, f"{self.smu.name}.measure.autozero must be OFF or ONCE"),
            (self.ton_s >= meter.reading_s, "ton is shorter than the measurement"),
            (self.ton_s > 0.0 and self.toff_s > 0.0, "ton and toff must be more than 0"),
            (all(buffer.appendmode for _, buffer in self.stores), "the reading buffer must be in append mode"),
        )
        return next((f"{self.smu.name}: {why}" for good, why in checks if not good), "")

    def start(self) -> None:
        """What the script programs before the first pulse."""
        self.smu.values["source.func"] = 1.0 if self.letter == "v" else 0.0
        self.smu.values[f"source.level{self.letter}"] = self.bias
        self.smu.apply()

    def rise(self, k: int) -> None:
        """To the level of pulse k, with the limit of the pulse."""
        self.smu.meter.force(self.levels[k], self.limit)

    def record(self) -> None:
        """The measurement near the end of the pulse."""
        if self.stores:
            self.smu.record("", self.stores)

    def fall(self) -> None:
        """Back to the bias level."""
        self.smu.meter.force(None)


def _train(plans: Sequence[PulsePlan]) -> Steps:
    """One or two trains in step: the first rises first and encloses the second, both fall together."""
    outer, inner = plans[0], plans[-1]
    for k in range(len(outer.levels)):
        outer.rise(k)
        yield outer.ton_s - inner.ton_s
        if inner is not outer:
            inner.rise(k)
        yield inner.ton_s
        for plan in plans:
            plan.record()
        for plan in reversed(plans):
            plan.fall()
        yield outer.toff_s


SHOWN: Final = ("DCAMPS", "DCVOLTS", "OHMS", "WATTS")


def _accepted(*_: Value) -> None:
    """Front panel and beeper: nothing to be seen or heard here."""


class Panel:
    """What can be set and read back without any effect on a measurement."""

    ROWS: ClassVar[tuple[Row, ...]] = (
        *(Method(f"display.{name}", _accepted) for name in ("clear", "settext", "setcursor", "sendkey", "loadmenu")),
        *(Constant(f"display.{name}", float(n)) for n, name in enumerate(("SMUA", "SMUB", "SMUA_SMUB", "USER"))),
        *(Constant(f"display.MEASURE_{name}", float(n)) for n, name in enumerate(SHOWN)),
        *(Constant(f"display.DIGITS_{n}_5", float(n)) for n in (4, 5, 6)),
        Attribute("display.screen", "screen", Real(0, 3, 2)),
        Attribute("display.locallockout", "locked", OneOf(0.0, 1.0)),
        *(Attribute(f"display.smu{x}.measure.func", f"shows_{x}", Real(0, 3, 1)) for x in "ab"),
        *(Attribute(f"display.smu{x}.digits", f"digits_{x}", Real(4, 6, 5)) for x in "ab"),
        *(Attribute(f"display.smu{x}.limit.func", f"limit_{x}", Real(0, 2, 0)) for x in "ab"),
    )
    BEEPER: ClassVar[tuple[Row, ...]] = (
        *(Constant("ON", 1.0), Constant("OFF", 0.0), Method("beep", _accepted)),
        Attribute("enable", "beeps", OneOf(1.0, 0.0)),
    )
    NODE: ClassVar[tuple[Row, ...]] = (
        Attribute("prompts", "prompts", OneOf(0.0, 1.0)),
        Attribute("prompts4882", "prompts4882", OneOf(1.0, 0.0)),
        Attribute("showerrors", "showerrors", OneOf(0.0, 1.0)),
        Attribute("description", "description", String()),
        Attribute("linefreq", "line_hz", OneOf(LINE_HZ, 60.0)),
        Attribute("autolinefreq", "auto_line", Truth()),
    )


class Keithley2600B(TspInstrument):
    """See the module."""

    MODEL, ROLE = "keithley-2600b", "smu"
    IDN = "Keithley Instruments Inc., Model 2602B, {serial}, 3.3.5"

    def build(self) -> None:
        """Channels, timers and everything that has a name."""
        super().build()
        self.work = Background(self)
        self.timers: list[Timer] = []
        self.blenders: list[Blender] = []
        self.smus: dict[str, Smu] = {}
        self.plans: dict[int, PulsePlan] = {}
        for number, letter in enumerate("ab", 1):
            smu = Smu(self, letter, number)
            self.smus[smu.name] = smu
            self.tree.add(channel_node(smu))
        self.timers = [Timer(self, n) for n in range(1, TIMERS + 1)]
        self.blenders = [Blender(self, n) for n in range(1, BLENDERS + 1)]
        for row in (*library(self), *self._status_rows(), *self._trigger_rows(), *self._script_rows()):
            self.tree.add(row)
        self._add_panel()

    def _add_panel(self) -> None:
        panel = Panel()
        self.tree.add(Constant("beeper", Node("beeper", panel, Panel.BEEPER)))
        display = Node("", panel, Panel.ROWS).get("display")
        self.tree.add(Constant("display", display))
        node = self.tree.get("localnode")
        for row in Panel.NODE:
            node.add(row)

    @property
    def listeners(self) -> list[Timer | Blender]:
        """What events of the trigger system may start."""
        return [*self.timers, *self.blenders]

    def reset(self) -> None:
        """Everything off and as after power-on; readings and pulse configurations are gone."""
        self.work.stop()
        for smu in self.smus.values():
            smu.reset()
        for part in self.listeners:
            part.reset()
        self.plans.clear()
        super().reset()

    def power_cycle(self) -> None:
        """Pulse trains end where they are."""
        with self.world.lock:
            self.work.stop()
            super().power_cycle()

    def ask_wait(self) -> None:
        """Let time pass for what will end by itself."""
        self.work.finish()
        super().ask_wait()

    def triggered(self) -> None:
        """*TRG: the event trigger.EVENT_ID."""
        self.emit(BUS_EVENT)

    def emit(self, event: int) -> None:
        """An event of the trigger system happens: whoever has it as stimulus reacts."""
        for smu in self.smus.values():
            smu.heard(event)
        for part in self.listeners:
            part.heard(event)

    def smu_of(self, node: Node) -> Smu:
        """The channel that a parameter names."""
        if node.name not in self.smus:
            raise ScpiError(-104, f"Data type error; {node.name} is no channel")
        return self.smus[node.name]

    # -- status

    def _status_rows(self) -> list[Row]:
        rows: list[Row] = []
        for smu in self.smus.values():
            rows += [
                Computed(f"status.measurement.instrument.{smu.name}.condition", smu.measurement_condition),
                Computed(f"status.operation.instrument.{smu.name}.condition", smu.operation_condition),
            ]
        per_channel: dict[str, Callable[[Smu], bool]] = {
            "measurement.voltage_limit": lambda smu: bool(smu.measurement_condition() & LIMIT_V),
            "measurement.current_limit": lambda smu: bool(smu.measurement_condition() & LIMIT_I),
            "measurement.reading_overflow": lambda smu: bool(smu.condition & OVERFLOWED),
            "measurement.buffer_available": lambda smu: bool(smu.condition & BUFFER_BIT),
            "operation.sweeping": lambda smu: smu.sweeping,
        }
        rows += [Computed(f"status.{name}.condition", self._bits(test)) for name, test in per_channel.items()]
        rows.append(Computed("status.operation.condition", self._operation))
        rows.append(Computed("status.measurement.condition", self._measurement))
        rows += [Constant("status.operation.sweeping.SMUA", 2.0), Constant("status.operation.sweeping.SMUB", 4.0)]
        return rows

    def _bits(self, test: Callable[[Smu], bool]) -> Callable[[], float]:
        """Bit 1 for smua, bit 2 for smub."""
        return lambda: float(sum(2**k for k, smu in enumerate(self.smus.values(), 1) if test(smu)))

    def _operation(self) -> float:
        return float(SWEEPING if any(smu.sweeping for smu in self.smus.values()) else 0)

    def _measurement(self) -> float:
        bits = 0
        for smu in self.smus.values():
            bits |= int(smu.measurement_condition())
        return float(bits)

    # -- triggers

    def _trigger_rows(self) -> list[Row]:
        def timer(n: int) -> Value:
            return self.timers[n - 1].node if 1 <= n <= len(self.timers) else None

        def blender(n: int) -> Value:
            return self.blenders[n - 1].node if 1 <= n <= len(self.blenders) else None

        return [
            Constant("trigger.timer", Node("timer", index=timer)),
            Constant("trigger.blender", Node("blender", index=blender)),
            Constant("trigger.EVENT_ID", float(BUS_EVENT)),
            Method("trigger.clear", lambda: None),
        ]

    # -- factory scripts

    def _script_rows(self) -> list[Row]:
        return [
            Method("ConfigPulseVMeasureI", self._config_v),
            Method("ConfigPulseIMeasureV", self._config_i),
            Method("ConfigPulseVMeasureISweepLin", self._config_v_sweep),
            Method("InitiatePulseTest", self._initiate_one),
            Method("InitiatePulseTestDual", self._initiate_two),
            *(Method(f"Sweep{a}LinMeasure{b}", self._ramp_script(a, log=False)) for a, b in ("VI", "IV")),
            *(Method(f"Sweep{a}LogMeasure{b}", self._ramp_script(a, log=True)) for a, b in ("VI", "IV")),
            *(Method(f"Sweep{a}ListMeasure{b}", self._list_script(a)) for a, b in ("VI", "IV")),
        ]

    def _config_v(
        self, smu: Node, bias: float, level: float, limit: float, ton: float, toff: float, points: int,
        buffer: Node | None, tag: int,
    ) -> Value:  # fmt: skip
        return self._configure(tag, self.smu_of(smu), "v", bias, [level] * points, limit, (ton, toff), buffer)

    def _config_i(
        self, smu: Node, bias: float, level: float, limit: float, ton: float, toff: float, points: int,
        buffer: Node | None, tag: int,
    ) -> Value:  # fmt: skip
        return self._configure(tag, self.smu_of(smu), "i", bias, [level] * points, limit, (ton, toff), buffer)

    def _config_v_sweep(
        self, smu: Node, bias: float, start: float, stop: float, limit: float, ton: float, toff: float, points: int,
        buffer: Node | None, tag: int,
    ) -> Value:  # fmt: skip
        levels = ramp(start, stop, points)
        return self._configure(tag, self.smu_of(smu), "v", bias, levels, limit, (ton, toff), buffer)

    def _configure(
        self, tag: int, smu: Smu, letter: str, bias: float, levels: list[float], limit: float,
        times_s: tuple[float, float], buffer: Node | None,
    ) -> tuple[bool, str]:  # fmt: skip
        stores = () if buffer is None else (("i" if letter == "v" else "v", buffer_of(buffer)),)
        plan = PulsePlan(smu, letter, bias, tuple(levels), limit, *times_s, stores)
        refusal = plan.refusal()
        if refusal:
            return False, refusal
        self.plans[tag] = plan
        return True, f"tag {tag} configured"

    def _initiate_one(self, tag: int) -> Value:
        return self._initiate(tag)

    def _initiate_two(self, tag1: int, tag2: int) -> Value:
        return self._initiate(tag1, tag2)

    def _initiate(self, *tags: int) -> tuple[bool, str]:
        plans = [self.plans[tag] for tag in tags if tag in self.plans]
        if len(plans) < len(tags):
            return False, "tag is not configured"
        off = [plan.smu.name for plan in plans if not plan.smu.meter.output]
        if off:
            return False, f"{off[0]}: output is off"
        if any(plan.smu.sweeping for plan in plans):
            return False, "the channel is sweeping"
        if not _in_step(plans):
            return False, "the first pulse must enclose the second, with as many points and the same period"
        for plan in plans:
            plan.start()
        self.work.launch(_train(plans), plans[0].smu)
        self.work.finish()
        return True, f"tag {tags[0]} done"

    def _ramp_script(self, sourced: str, *, log: bool) -> Callable[..., Value]:
        def script(smu: Node, start: float, stop: float, stime: float, points: int) -> None:
            self._sweep_script(self.smu_of(smu), sourced, ramp(start, stop, points, log=log), stime)

        return script

    def _list_script(self, sourced: str) -> Callable[..., Value]:
        def script(smu: Node, values: list[float], stime: float, points: int) -> None:
            self._sweep_script(self.smu_of(smu), sourced, values[:points], stime)

        return script

    def _sweep_script(self, smu: Smu, sourced: str, values: list[float], settle_s: float) -> None:
        """KISweep: source and measure through the values into nvbuffer1, in the background."""
        letter, reads = sourced.lower(), "i" if sourced == "V" else "v"
        buffer = smu.buffers[0]
        buffer.clear()
        buffer.appendmode = buffer.collecttimestamps = buffer.collectsourcevalues = 1.0
        smu.list_sweep(letter, values)
        smu.stores = [(reads, buffer)]
        for name, value in (
            *(("source.func", float(sourced == "V")), ("measure.delay", settle_s), ("source.output", 1.0)),
            *(("trigger.count", float(len(values))), ("trigger.arm.count", 1.0), ("trigger.source.action", 1.0)),
            *(("trigger.measure.action", 1.0), ("trigger.endpulse.action", 1.0), ("trigger.endsweep.action", 0.0)),
        ):
            smu.set(name, value)
        smu.initiate()


def _in_step(plans: Sequence[PulsePlan]) -> bool:
    outer, inner = plans[0], plans[-1]
    if len(plans) == 1:
        return True
    same_period = math.isclose(outer.ton_s + outer.toff_s, inner.ton_s + inner.toff_s, rel_tol=1e-9)
    encloses = len(outer.levels) == len(inner.levels) and outer.ton_s >= inner.ton_s
    return outer.smu is not inner.smu and encloses and same_period


plugin = Keithley2600B
