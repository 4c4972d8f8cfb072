"""One channel of a 2602B in the words of TSP: settings by name, reading buffers, the trigger model and its timers.

See `keithley_2600b` for the sources, and for what is from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .engine.smu import PLC_S, DataSheet, Detector, Quantity, Range, Reading, SourceMeter, Steps, integrate
from .engine.status import ScpiError
from .engine.tsp import Attribute, Computed, Constant, Method, Node, OneOf, Real, Row, Truth, Value

if TYPE_CHECKING:
    from .keithley_2600b import Keithley2600B

SHEET: Final = DataSheet(
    volts=(
        Range(0.1, 1e-7, 5e-6, 2e-7),
        Range(1.0, 1e-6, 50e-6, 2e-6),
        Range(6.0, 1e-5, 50e-6, 1e-5),
        Range(40.0, 1e-5, 500e-6, 5e-5),
    ),
    amps=(
        Range(100e-9, 1e-13, 2e-12, 3e-13),
        Range(1e-6, 1e-12, 20e-12, 2e-12),
        Range(10e-6, 1e-11, 200e-12, 2e-11),
        Range(100e-6, 1e-10, 2e-9, 2e-10),
        Range(1e-3, 1e-9, 20e-9, 2e-9),
        Range(10e-3, 1e-8, 200e-9, 2e-8),
        Range(100e-3, 1e-7, 2e-6, 2e-7),
        Range(1.0, 1e-6, 20e-6, 5e-6),
        Range(3.0, 1e-6, 20e-6, 2e-5),
    ),
    over=1.02,
    limit_v=40.4,
    limit_a=3.03,
)

CONSTANTS: Final = {
    "OUTPUT_DCAMPS": 0,
    "OUTPUT_DCVOLTS": 1,
    "OUTPUT_OFF": 0,
    "OUTPUT_ON": 1,
    "OUTPUT_NORMAL": 0,
    "OUTPUT_ZERO": 1,
    "OUTPUT_HIGH_Z": 2,
    "AUTORANGE_OFF": 0,
    "AUTORANGE_ON": 1,
    "AUTORANGE_FOLLOW_LIMIT": 2,
    "AUTOZERO_OFF": 0,
    "AUTOZERO_ONCE": 1,
    "AUTOZERO_AUTO": 2,
    "SENSE_LOCAL": 0,
    "SENSE_REMOTE": 1,
    "SENSE_CALA": 3,
    "DELAY_OFF": 0,
    "DELAY_AUTO": -1,
    "FILTER_OFF": 0,
    "FILTER_ON": 1,
    "FILTER_MOVING_AVG": 0,
    "FILTER_REPEAT_AVG": 1,
    "FILTER_MEDIAN": 2,
    "DISABLE": 0,
    "ENABLE": 1,
    "ASYNC": 2,
    "SOURCE_IDLE": 0,
    "SOURCE_HOLD": 1,
    "LIMIT_AUTO": 0,
    "REL_OFF": 0,
    "REL_ON": 1,
    "FILL_ONCE": 0,
    "FILL_WINDOW": 1,
    "OE_NONE": 0,
    "OE_OUTPUT_OFF": 1,
    "SETTLE_SMOOTH": 0,
    "SETTLE_FAST_RANGE": 1,
    "SETTLE_FAST_POLARITY": 2,
    "SETTLE_DIRECT_IRANGE": 3,
    "SETTLE_SMOOTH_100NA": 4,
    "SETTLE_FAST_ALL": 128,
}

# Settings of a channel: name, value after reset, lowest, highest. Limits that are not from the manual: from memory.
ROWS: Final = (
    *(("source.func", 1, 0, 1), ("source.output", 0, 0, 2), ("source.levelv", 0, -40.4, 40.4)),
    *(("source.leveli", 0, -3.03, 3.03), ("source.limitv", 40, 1e-2, 40.4), ("source.limiti", 0.1, 1e-8, 3.03)),
    *(("source.limitp", 0, 0, 200), ("source.autorangev", 1, 0, 1), ("source.autorangei", 1, 0, 1)),
    *(("source.lowrangev", 0.1, 0.1, 40), ("source.lowrangei", 1e-7, 1e-7, 3), ("source.delay", 0, -1, 1e4)),
    *(("source.offmode", 0, 0, 2), ("source.offfunc", 1, 0, 1), ("source.offlimiti", 1e-3, 1e-8, 3.03)),
    *(("source.offlimitv", 40, 1e-2, 40.4), ("source.highc", 0, 0, 1), ("source.sink", 0, 0, 1)),
    *(("source.settling", 0, 0, 128), ("source.outputenableaction", 0, 0, 1), ("sense", 0, 0, 3)),
    *(("measure.nplc", 1, 0.001, 25), ("measure.autorangei", 1, 0, 2), ("measure.autorangev", 1, 0, 2)),
    *(("measure.lowrangei", 1e-7, 1e-7, 3), ("measure.lowrangev", 0.1, 0.1, 40), ("measure.autozero", 2, 0, 2)),
    *(("measure.delay", 0, -1, 1e4), ("measure.delayfactor", 1, 0, 1e3), ("measure.count", 1, 1, 1e6)),
    *(("measure.interval", 0, 0, 1e4), ("measure.analogfilter", 1, 0, 1), ("measure.filter.type", 1, 0, 2)),
    *(("measure.highcrangedelayfactor", 10, 1, 99), ("measure.filter.count", 1, 1, 100)),
    *(("measure.filter.enable", 0, 0, 1), ("trigger.count", 1, 0, 1e6), ("trigger.autoclear", 0, 0, 1)),
    *((f"measure.rel.enable{kind}", 0, 0, 1) for kind in "ivrp"),
    *((f"measure.rel.level{kind}", 0, -1e37, 1e37) for kind in "ivrp"),
    *(("trigger.arm.count", 1, 0, 1e6), ("trigger.source.limiti", 0, 0, 3.03), ("trigger.source.limitv", 0, 0, 40.4)),
    *(("trigger.source.action", 0, 0, 1), ("trigger.measure.action", 0, 0, 2), ("trigger.endpulse.action", 1, 0, 1)),
    *(("trigger.endsweep.action", 0, 0, 1), ("trigger.arm.stimulus", 0, 0, 999)),
    *((f"trigger.{layer}.stimulus", 0, 0, 999) for layer in ("source", "measure", "endpulse")),
)

EVENTS: Final = ("SWEEPING", "ARMED", "SOURCE_COMPLETE", "MEASURE_COMPLETE", "PULSE_COMPLETE", "SWEEP_COMPLETE", "IDLE")
BUS_EVENT: Final = 1
TIMER_EVENTS: Final = 100
TIMERS: Final = 8
BLENDER_EVENTS: Final = 200
BLENDERS: Final = 6
BUFFER_SIZE: Final = 140_000  # a dedicated buffer without time stamps and source values, from memory
KINDS: Final[Mapping[str, str]] = {"i": "CURR", "v": "VOLT", "r": "RES", "p": "POW"}
LIMIT_V, LIMIT_I, OVERFLOWED, BUFFER_BIT = 1, 2, 128, 256  # status.measurement.instrument.smuX
SWEEPING, MEASURING = 8, 16  # status.operation.instrument.smuX
FILTERED, IN_COMPLIANCE, REMOTE, RELATIVE, AUTO_SOURCE, AUTO_MEASURE = (
    0x80,
    0x40,
    0x10,
    0x20,
    0x08,
    0x04,
)  # of a reading


ONLY_EMPTY: Final = ("appendmode", "collecttimestamps", "collectsourcevalues", "fillmode")
BUFFER_ROWS: Final[tuple[Row, ...]] = (
    *(Attribute(name, name, OneOf(0.0, 1.0)) for name in ("appendmode", "collectsourcevalues", "fillmode")),
    *(Attribute(name, name, OneOf(1.0, 0.0)) for name in ("collecttimestamps", "cachemode")),
    *(Computed("n", "n"), Computed("capacity", "capacity"), Computed("basetimestamp", "base_s")),
    *(Constant("timestampresolution", 1e-6), Method("clear", "clear"), Method("clearcache", "clear_cache")),
)


class Entry(NamedTuple):
    """One reading in a buffer."""

    value: float
    source: float
    time_s: float
    status: int


class ReadingBuffer:
    """A reading buffer. What it collects, and whether it appends, can only be changed while it is empty."""

    appendmode: float
    collecttimestamps: float
    collectsourcevalues: float
    fillmode: float
    cachemode: float

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.appendmode = self.collectsourcevalues = self.fillmode = 0.0
        self.collecttimestamps = self.cachemode = 1.0
        self.entries: list[Entry] = []
        self.kind = "CURR"
        self.base_s = 0.0

    def clear(self) -> None:
        """Forget all readings."""
        self.entries = []

    @property
    def n(self) -> float:
        """How many readings it holds."""
        return float(len(self.entries))

    def clear_cache(self) -> None:
        """There is no cache to clear: a buffer shows what it holds."""

    def begin(self) -> None:
        """A measurement command that will store here starts: without append mode the old readings go."""
        if not self.appendmode:
            self.clear()

    def add(self, entry: Entry, kind: str) -> None:
        """Store a reading; a full buffer takes no more."""
        if not self.entries:
            self.base_s, self.kind = entry.time_s, kind
        if len(self.entries) < self.capacity:
            self.entries.append(entry)

    def readings(self) -> list[float]:
        """What was measured."""
        return [entry.value for entry in self.entries]

    def timestamps(self) -> list[float]:
        """Seconds since the first reading."""
        return [entry.time_s - self.base_s for entry in self.entries] if self.collecttimestamps else []

    def sourcevalues(self) -> list[float]:
        """What was sourced meanwhile."""
        return [entry.source for entry in self.entries] if self.collectsourcevalues else []

    def statuses(self) -> list[float]:
        """Status bits."""
        return [float(entry.status) for entry in self.entries]

    def node(self, name: str) -> Node:
        """The buffer as it is seen from outside."""
        made = Node(name, self, BUFFER_ROWS, series=self.readings)
        for column in ("readings", "timestamps", "sourcevalues", "statuses"):
            made.add(_column(column, getattr(self, column)))
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ONLY_EMPTY and self.__dict__.get("entries") and value != getattr(self, name):
            raise ScpiError(-221, f"Settings conflict; {name} can be changed in an empty reading buffer only")
        object.__setattr__(self, name, value)


def _column(name: str, series: Callable[[], list[float]]) -> Node:
    """One column of a buffer: `[n]`, or `getreading(n)` as older scripts ask for it."""
    made = Node(name, series=series)

    def reading(place: int) -> Value:
        return made.at(float(place))

    made.add(Method("getreading", reading))
    return made


class Smu:
    """One channel in the words of TSP: its settings by name, what they do, and its trigger model."""

    def __init__(self, unit: Keithley2600B, letter: str, number: int) -> None:
        self.unit = unit
        self.name = f"smu{letter}"
        seed = f"{unit.serial}.{number}"
        self.meter = SourceMeter(unit.world, unit.terminal(number), SHEET, seed=seed, noise=unit.noise)
        self.buffers = (ReadingBuffer(BUFFER_SIZE), ReadingBuffer(BUFFER_SIZE))
        self.event = {name: 10 * number + i for i, name in enumerate(EVENTS)}
        self.detectors = {layer: Detector() for layer in ("arm", "source", "measure", "endpulse")}
        self.condition = 0
        self.sweeping = False
        self.reset()

    def reset(self) -> None:
        """smuX.reset(): output off, settings as after power-on, buffers empty."""
        self.unit.work.stop(self)
        for buffer in self.buffers:
            buffer.clear()
        self.meter.reset()
        self.values: dict[str, float] = {name: float(value) for name, value, _, _ in ROWS}
        self.sweep: list[float] = []
        self.stores: list[tuple[str, ReadingBuffer]] = []
        self.meter.set_range["CURR"] = self.meter.read_range["CURR"] = 0.1
        self.apply()

    def apply(self) -> None:
        """Bring source and meter to what the settings say."""
        values, meter = self.values, self.meter
        meter.source = "VOLT" if values["source.func"] else "CURR"
        for letter in "vi":
            kind = _quantity(letter)
            meter.level[kind] = values[f"source.level{letter}"]
            meter.limit[kind] = values[f"source.limit{letter}"]
            meter.set_auto[kind] = bool(values[f"source.autorange{letter}"])
            meter.read_auto[kind] = bool(values[f"measure.autorange{letter}"])
            meter.read_least[kind] = values[f"measure.lowrange{letter}"]
        meter.aperture_s = values["measure.nplc"] * PLC_S
        meter.averages = int(values["measure.filter.count"]) if values["measure.filter.enable"] else 1
        meter.off_limit_a = values["source.offlimiti"]
        meter.off_state = ("normal", "zero", "open")[int(values["source.offmode"])]
        if values["source.output"] == 2:  # OUTPUT_HIGH_Z: off and open
            meter.off_state = "open"
        meter.output = values["source.output"] == 1
        meter.update()

    def get(self, name: str) -> float:
        """What a setting is."""
        side, _, last = name.partition(".")
        return self.get_range(side, last[-1]) if last in ("rangev", "rangei") else self.values[name]

    def set(self, name: str, value: float) -> None:
        """A setting gets a value that is in its range."""
        side, _, last = name.partition(".")
        if last in ("rangev", "rangei"):
            self.set_range(side, last[-1], value)
            return
        if value == self.values[name]:
            return
        letter = name[-1]
        if name.startswith("source.level") and not self.values[f"source.autorange{letter}"]:
            self._fits_range(letter, value)
        self.values[name] = value
        if name.startswith("source.level") and not self.sweeping:
            self.meter.force(None)
        self.apply()

    def _fits_range(self, letter: str, value: float) -> None:
        top = self.meter.set_range["VOLT" if letter == "v" else "CURR"]
        if abs(value) > 1.01 * top * (1 + 1e-9):
            raise ScpiError(-222, f"Parameter data out of range; {value:g} is beyond the source range {top:g}")

    def set_range(self, side: str, letter: str, value: float) -> None:
        """source.rangeX or measure.rangeX: the smallest range that holds it; automatic ranging goes off."""
        kind = _quantity(letter)
        chosen = SHEET.fit(kind, value).full
        (self.meter.set_range if side == "source" else self.meter.read_range)[kind] = chosen
        self.values[f"{side}.autorange{letter}"] = 0.0
        self.apply()

    def get_range(self, side: str, letter: str) -> float:
        """The range in use."""
        kind = _quantity(letter)
        if side == "measure":
            if kind == self.meter.source and self.meter.output:
                return self.meter.source_range().full
            return self.meter.read_range[kind]
        if self.values[f"source.autorange{letter}"]:
            return SHEET.fit(kind, self.meter.level[kind], over=True).full
        return self.meter.set_range[kind]

    # -- measuring

    @property
    def delay_s(self) -> float:
        """measure.delay; automatic: by the range, from memory."""
        delay = self.values["measure.delay"]
        if delay >= 0.0:
            return delay
        waits = {100e-9: 3e-3, 1e-6: 1e-3, 10e-6: 3e-4, 100e-6: 1e-4}
        return waits.get(self.meter.read_range["CURR"], 0.0) * self.values["measure.delayfactor"]

    def measure(self, letters: str, *buffers: Node | None) -> Value:
        """smuX.measure.i(), .v(), .r(), .p(), .iv(): blocks; the last reading of measure.count."""
        stores = self._stores(letters, buffers)
        values: list[float] = []
        for k in range(int(self.values["measure.count"])):
            pause = max(self.values["measure.interval"] - self.meter.reading_s, 0.0) if k else self.delay_s
            self.unit.spend(pause + self.meter.reading_s)
            values = self.record(letters, stores)
        return values[0] if len(values) == 1 else tuple(values)

    def overlapped(self, letters: str, *buffers: Node | None) -> None:
        """smuX.measure.overlappedX(buffer): the same in the background."""
        stores = self._stores(letters, buffers)

        def steps() -> Steps:
            for k in range(int(self.values["measure.count"])):
                pause = max(self.values["measure.interval"] - self.meter.reading_s, 0.0) if k else self.delay_s
                yield from integrate(pause + self.meter.reading_s, lambda: self.record(letters, stores))

        self.unit.work.launch(steps(), self)

    def measure_and_step(self, letters: str, value: float) -> Value:
        """smuX.measureXandstep(value): measure, then go to the next level."""
        found = self.measure(letters)
        self.set(f"source.level{'v' if self.meter.source == 'VOLT' else 'i'}", value)
        return found

    def _stores(self, letters: str, buffers: Sequence[Node | None]) -> list[tuple[str, ReadingBuffer]]:
        found = [buffer_of(node) for node in buffers if node is not None]
        for buffer in found:
            buffer.begin()
        return list(zip(letters, found, strict=False))

    def record(self, letters: str, stores: Sequence[tuple[str, ReadingBuffer]]) -> list[float]:
        """The reading whose integration ends now: into buffers and status; the values asked for."""
        reading = self.meter.take()
        status = self._reading_status(reading)
        for letter, buffer in stores:
            buffer.add(Entry(self._value(letter, reading), reading.source, reading.time_s, status), KINDS[letter])
        self.condition = (OVERFLOWED if reading.over else 0) | (BUFFER_BIT if stores else 0)
        return [self._value(letter, reading) for letter in letters]

    def _value(self, letter: str, reading: Reading) -> float:
        value = reading.of(KINDS[letter])
        if self.values[f"measure.rel.enable{letter}"] and abs(value) < 1e37:
            value -= self.values[f"measure.rel.level{letter}"]
        return value

    def _reading_status(self, reading: Reading) -> int:
        kind = "v" if self.meter.source == "VOLT" else "i"
        other = "i" if kind == "v" else "v"
        return (
            (IN_COMPLIANCE if reading.limited else 0)
            | (REMOTE if self.values["sense"] == 1 else 0)
            | (FILTERED if self.values["measure.filter.enable"] else 0)
            | (RELATIVE if self.values[f"measure.rel.enable{other}"] else 0)
            | (AUTO_SOURCE if self.values[f"source.autorange{kind}"] else 0)
            | (AUTO_MEASURE if self.values[f"measure.autorange{other}"] else 0)
        )

    def measurement_condition(self) -> int:
        """status.measurement.instrument.smuX.condition."""
        limited = 0
        if self.meter.limited:
            limited = LIMIT_I if self.meter.source == "VOLT" else LIMIT_V
        return limited | self.condition

    def operation_condition(self) -> int:
        """status.operation.instrument.smuX.condition."""
        return SWEEPING if self.sweeping else 0

    # -- the trigger model

    def list_sweep(self, kind: str, values: list[float]) -> None:
        """trigger.source.listv, linearv, logv (or i): what the source action steps through."""
        top = SHEET.most(_quantity(kind))
        if not values or max(map(abs, values)) > top:
            raise ScpiError(-222, f"Parameter data out of range; a sweep of 1 or more values up to {top:g}")
        self.sweep = values

    def ramp_sweep(self, kind: str, first: float, last: float, points: int, *, log: bool = False) -> None:
        """trigger.source.linearv and logv (or i)."""
        self.list_sweep(kind, ramp(first, last, points, log=log))

    def measure_into(self, letters: str, buffer: Node, *more: Node) -> None:
        """trigger.measure.i(buffer) and so on: what the measure action does."""
        self.stores = list(zip(letters, [buffer_of(node) for node in (buffer, *more)], strict=False))

    def initiate(self) -> None:
        """trigger.initiate(): leave idle; goes on in the background."""
        if self.sweeping:
            raise ScpiError(-213, "Init ignored; the trigger model is running")
        if self.values["trigger.source.action"] and not self.sweep:
            raise ScpiError(-221, "Settings conflict; no sweep is configured")
        for detector in self.detectors.values():
            detector.clear()
        for _, buffer in self.stores:
            if self.values["trigger.measure.action"]:
                buffer.begin()
        self.unit.emit(self.event["SWEEPING"])
        if self.values["trigger.measure.action"] == 2:
            self.unit.work.launch(self._asynchronous(), self)
        self.sweeping = True
        self.unit.work.launch(self._layers(), self)

    def _layers(self) -> Steps:
        try:
            for _ in _counted(self.values["trigger.arm.count"]):
                yield from self._wait("arm")
                self.unit.emit(self.event["ARMED"])
                for k in _counted(self.values["trigger.count"]):
                    yield from self._point(k)
                if not self.values["trigger.endsweep.action"]:
                    self.meter.force(None)
                self.unit.emit(self.event["SWEEP_COMPLETE"])
        finally:
            self.sweeping = False
        self.unit.emit(self.event["IDLE"])

    def _point(self, k: int) -> Steps:
        yield from self._wait("source")
        if self.values["trigger.source.action"]:
            letter = "i" if self.meter.source == "VOLT" else "v"
            limit = self.values[f"trigger.source.limit{letter}"]
            self.meter.force(self.sweep[k % len(self.sweep)], limit or None)
        yield max(self.values["source.delay"], 0.0)
        self.unit.emit(self.event["SOURCE_COMPLETE"])
        if self.values["trigger.measure.action"] == 1:
            yield from self._wait("measure")
            yield from self._measure_action()
        yield from self._wait("endpulse")
        if not self.values["trigger.endpulse.action"]:
            self.meter.force(None)
        self.unit.emit(self.event["PULSE_COMPLETE"])

    def _measure_action(self) -> Steps:
        for k in range(int(self.values["measure.count"])):
            pause = max(self.values["measure.interval"] - self.meter.reading_s, 0.0) if k else self.delay_s
            yield from integrate(pause + self.meter.reading_s, lambda: self.record("", self.stores))
        self.unit.emit(self.event["MEASURE_COMPLETE"])

    def _asynchronous(self) -> Steps:
        for _ in _counted(self.values["trigger.arm.count"] * self.values["trigger.count"]):
            yield from self._wait("measure")
            yield from self._measure_action()

    def _wait(self, layer: str) -> Steps:
        if self.values[f"trigger.{layer}.stimulus"]:
            yield self.detectors[layer]

    def heard(self, event: int) -> None:
        """An event happened: detectors that it is the stimulus of take note."""
        for layer, detector in self.detectors.items():
            if int(self.values[f"trigger.{layer}.stimulus"]) == event:
                detector.fire()

    def abort(self) -> None:
        """smuX.abort(): the trigger model goes idle, the source to its bias level."""
        self.unit.work.stop(self)
        self.meter.force(None)


def _quantity(letter: str) -> Quantity:
    return "VOLT" if letter == "v" else "CURR"


def buffer_of(node: Node) -> ReadingBuffer:
    """The reading buffer that a parameter names."""
    if not isinstance(node.owner, ReadingBuffer):
        raise ScpiError(-104, f"Data type error; {node.name} is no reading buffer")
    return node.owner


def _counted(count: float) -> range:
    """A count of the trigger model; 0 is for ever."""
    return range(int(count) or 10**12)


class Timer:
    """trigger.timer[n]: after its stimulus, `count` events, `delay` apart; `passthrough`: one at once as well.

    A timer that runs does not listen, and runs on when a channel is aborted.
    """

    ROWS = (
        *(Attribute("delay", "delay_s", Real(5e-7, 1e5, 10e-6)), Attribute("count", "count", Real(0, 1048575, 1))),
        *(Attribute("passthrough", "passthrough", Truth()), Attribute("stimulus", "stimulus", Real(0, 999, 0))),
        *(Computed("EVENT_ID", "event"), Method("clear", "clear"), Method("reset", "reset")),
    )

    def __init__(self, unit: Keithley2600B, number: int) -> None:
        self.unit = unit
        self.event = float(TIMER_EVENTS + number)
        self.node = Node(f"timer[{number}]", self, self.ROWS)
        self.node.restore()

    delay_s: float
    count: float
    passthrough: bool
    stimulus: float

    def clear(self) -> None:
        """There is nothing to forget: a timer reacts at once or not at all."""

    def reset(self) -> None:
        """As after power-on."""
        self.unit.work.stop(self)
        self.node.restore()

    def heard(self, event: int) -> None:
        """An event happened."""
        if int(self.stimulus) == event and not self.unit.work.busy(self):
            self.unit.work.launch(self._steps(), self, pending=False)

    def _steps(self) -> Steps:
        if self.passthrough:
            self.unit.emit(int(self.event))
        for _ in _counted(self.count):
            yield self.delay_s
            self.unit.emit(int(self.event))


class Blender:
    """trigger.blender[n]: its event after one (`orenable`) or all of up to four stimuli."""

    ROWS = (
        *(Attribute("orenable", "any_of", Truth()), Computed("EVENT_ID", "event"), Constant("overrun", False)),
        *(Method("clear", "clear"), Method("reset", "reset")),
    )
    STIMULI: Final = 4
    any_of: bool

    def __init__(self, unit: Keithley2600B, number: int) -> None:
        self.unit = unit
        self.event = float(BLENDER_EVENTS + number)
        self.stimuli: dict[int, int] = {}
        self.seen: set[int] = set()
        self.node = Node(f"blender[{number}]", self, self.ROWS)
        stimulus = Node("stimulus", self, index=lambda place: float(self.stimuli.get(place, 0)), place=self.listen)
        self.node.add(Constant("stimulus", stimulus))
        self.node.restore()

    def listen(self, place: int, event: Value) -> None:
        """stimulus[place] = event; 0: none."""
        if not 1 <= place <= self.STIMULI:
            raise ScpiError(-222, f"Parameter data out of range; stimulus 1 to {self.STIMULI}")
        self.stimuli[place] = int(Real(0, 999).check(event))

    def clear(self) -> None:
        """Forget stimuli that have come."""
        self.seen.clear()

    def reset(self) -> None:
        """As after power-on."""
        self.stimuli.clear()
        self.clear()
        self.node.restore()

    def heard(self, event: int) -> None:
        """An event happened."""
        wanted = {stimulus for stimulus in self.stimuli.values() if stimulus}
        if event not in wanted:
            return
        self.seen.add(event)
        if self.any_of or self.seen >= wanted:
            self.clear()
            self.unit.emit(int(self.event))


def ramp(first: float, last: float, points: int, *, log: bool = False) -> list[float]:
    """Values of a linear or logarithmic sweep."""
    if points < 1:
        raise ScpiError(-222, f"Parameter data out of range; {points} points")
    if log and first * last <= 0.0:
        raise ScpiError(-221, "Settings conflict; a logarithmic sweep does not touch 0")
    steps = max(points - 1, 1)
    if log:
        return [first * (last / first) ** (k / steps) for k in range(points)]
    return [first + (last - first) * k / steps for k in range(points)]


class Knobs:
    """The settings of a channel as the rows of its node see them: attributes under their names in TSP."""

    def __init__(self, get: Callable[[str], float], put: Callable[[str, float], None]) -> None:
        self.__dict__.update(_get=get, _put=put)

    def __getattr__(self, name: str) -> float:
        found: float = self.__dict__["_get"](name)
        return found

    def __setattr__(self, name: str, value: float) -> None:
        self.__dict__["_put"](name, value)


def _measuring(smu: Smu, letters: str) -> list[Row]:
    """All functions that measure these quantities."""

    def measure(*buffers: Node | None) -> Value:
        return smu.measure(letters, *buffers)

    def overlapped(buffer: Node, *more: Node) -> None:
        smu.overlapped(letters, buffer, *more)

    def and_step(source_value: float) -> Value:
        return smu.measure_and_step(letters, source_value)

    def into(buffer: Node, *more: Node) -> None:
        smu.measure_into(letters, buffer, *more)

    return [
        Method(f"measure.{letters}", measure),
        Method(f"measure.overlapped{letters}", overlapped),
        Method(f"measure{letters}andstep", and_step),
        Method(f"trigger.measure.{letters}", into),
    ]


def _sweeping(smu: Smu, letter: str) -> list[Row]:
    """The functions that say what is swept."""

    def values(levels: list[float]) -> None:
        smu.list_sweep(letter, levels)

    def linear(start: float, stop: float, points: int) -> None:
        smu.ramp_sweep(letter, start, stop, points)

    def logarithmic(start: float, stop: float, points: int, _asymptote: float | None = None) -> None:
        smu.ramp_sweep(letter, start, stop, points, log=True)

    return [
        Method(f"trigger.source.list{letter}", values),
        Method(f"trigger.source.linear{letter}", linear),
        Method(f"trigger.source.log{letter}", logarithmic),
    ]


def channel_node(smu: Smu) -> Node:
    """What smua or smub is in TSP."""
    node = Node(smu.name, Knobs(smu.get, smu.set))

    def reset() -> None:
        smu.reset()
        node.restore()

    tops = {"v": SHEET.limit_v, "i": SHEET.limit_a}
    for side in ("source", "measure"):
        for letter, top in tops.items():  # before the automatic ranges, which a range switches off
            node.add(Attribute(f"{side}.range{letter}", f"{side}.range{letter}", Real(-top, top, SHEET.volts[0].full)))
    for name, value, low, high in ROWS:
        node.add(Attribute(name, name, Real(low, high, value)))
    rows: list[Row] = [Constant(name, float(value)) for name, value in CONSTANTS.items()]
    rows += [Constant(f"trigger.{name}_EVENT_ID", float(number)) for name, number in smu.event.items()]
    rows += [Constant(f"nvbuffer{k}", buffer.node(f"nvbuffer{k}")) for k, buffer in enumerate(smu.buffers, 1)]
    rows += [row for letters in ("i", "v", "r", "p", "iv") for row in _measuring(smu, letters)]
    rows += [row for letter in "vi" for row in _sweeping(smu, letter)]
    rows += [Method(f"trigger.{layer}.set", detector.fire) for layer, detector in smu.detectors.items()]
    rows += [
        Computed("source.compliance", lambda: smu.meter.limited),
        Method("trigger.initiate", smu.initiate),
        Method("abort", smu.abort),
        Method("reset", reset),
        Method("makebuffer", _make_buffer),
        Method("savebuffer", _save_buffer),
    ]
    for row in rows:
        node.add(row)
    return node


def _make_buffer(size: int) -> Node:
    if not 1 <= size <= BUFFER_SIZE:
        raise ScpiError(-222, f"Parameter data out of range; a buffer of 1 to {BUFFER_SIZE} readings")
    return ReadingBuffer(size).node("buffer")


def _save_buffer(buffer: Node) -> None:
    """Saved readings would survive a power cycle: not simulated, the command is accepted."""
    buffer_of(buffer)
