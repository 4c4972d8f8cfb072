"""Keithley 2600B: two SMU channels that speak TSP. Reads in one line of Lua, pulses by its trigger model.

Source: Series 2600B Reference Manual 2600BS-901-01, command reference and trigger model; widths, buffer size and
settling of pulses from memory of the data sheet (2602B).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from neurobench.bench.crossbar import Witness
from neurobench.errors import BenchFault, InstrumentError, LinkLost

from ._link import Link, float_of, floats_of, garbled, int_of
from ._roles import Sweep, Train
from ._smu import Counted, PulsingSmu, groups_of, mean_sweep
from ._table import AtLeast, Flag, Knob, Number, Setting, Tsp

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection
    from neurobench.bench.stimulus import FloatArray

LETTERS = {1: "smua", 2: "smub"}
GAP_S = 200e-6  # between pulses, at 0 V: longer than the channels take to arm again
MOST_FILTERED = 100  # readings that the averaging filter takes
BUFFER = 60_000  # readings of a buffer with time stamps and source values, from memory


def _knob(name: str, attribute: str, unit: str = "", **more: object) -> Knob:
    return Knob(name, f"{{c}}.{attribute}={{v}}", f"{{c}}.{attribute}", unit, **more)  # type: ignore[arg-type]


FUNCTION = _knob("source function", "source.func", doc="1: volts")
LEVEL = _knob("level", "source.levelv", "V", low=-200.0, high=200.0)
OUTPUT = _knob("output", "source.output", doc="0: off, 1: on, 2: off and open")
OFF_MODE = _knob("output-off mode", "source.offmode", doc="0: an output that is off stays at 0 V, with its own limit")
LIMIT = _knob("current limit", "source.limiti", "A", low=1e-8, high=3.03, codec=Number(2e-4))
SOURCE_RANGE = _knob("source range", "source.rangev", "V", high=200.0, codec=AtLeast(), doc="caps what it puts out")
AUTO_RANGE = _knob("automatic range", "measure.autorangei")
RANGE = _knob("range", "measure.rangei", "A", codec=Number(1e-3), doc="full scale")
NPLC = _knob("aperture", "measure.nplc", "PLC", low=0.001, high=25.0, codec=Number(1e-3))
DELAY = _knob("measure delay", "measure.delay", "s", low=0.0, codec=Number(1e-3))
AUTOZERO = _knob("autozero", "measure.autozero", doc="1: once, when set; reads of 0 V follow the drift (rule 6)")
FILTER = _knob("filter", "measure.filter.enable")
FILTER_KIND = _knob("filter type", "measure.filter.type", doc="1: each reading is the mean of its own samples")
READY = Knob("mark", "nb_ready={v}", "nb_ready", doc="a Lua global: it is gone after a restart, as the limits are")
COUNT = _knob("points of a sweep", "trigger.count")
SOURCE_ACTION = _knob("source action", "trigger.source.action")
PULSE_LIMIT = _knob("current limit of pulses", "trigger.source.limiti", "A", codec=Number(2e-4))
MEASURE_ACTION = _knob("measure action", "trigger.measure.action")
END_PULSE = _knob("level after a pulse", "trigger.endpulse.action", doc="0: back to the idle level, 0 V")
END_SWEEP = _knob("level after a sweep", "trigger.endsweep.action", doc="0: back to the idle level")
ARM_STIMULUS = _knob("arm stimulus", "trigger.arm.stimulus", doc="0: none is waited for")
MEASURE_STIMULUS = _knob("measure stimulus", "trigger.measure.stimulus", doc="0: as soon as the level is out")
TIMER_DELAY = Knob("timer", "trigger.timer[{c}].delay={v}", "trigger.timer[{c}].delay", "s", codec=Number(1e-3))
TIMER_COUNT = Knob("timer count", "trigger.timer[{c}].count={v}", "trigger.timer[{c}].count")
PASSTHROUGH = Knob(
    "timer start", "trigger.timer[{c}].passthrough=false", "trigger.timer[{c}].passthrough", codec=Flag()
)
# A list cannot be read back: what is read back is the number that the list was made from, in the same chunk.
TOP = Knob("pulse level", "nb_top_{c}={v} {c}.trigger.source.listv({{nb_top_{c}}})", "nb_top_{c}", "V", -200.0, 200.0)
STORE = Knob("pulse buffer", "{c}.trigger.measure.i({c}.nvbuffer1) nb_store_{c}={v}", "nb_store_{c}")

WIDTH_TIMER, GAP_TIMER = 1, 2


def _follows(name: str, listener: str, event: str) -> Knob:
    # event numbers differ between models: set by name, and read back as a difference of 0
    return Knob(name, f"{listener}.stimulus={event}", f"{listener}.stimulus-{event}")


START = _follows("start of pulse", "{c}.trigger.source", f"trigger.timer[{GAP_TIMER}].EVENT_ID")
STOP = _follows("end of pulse", "{c}.trigger.endpulse", f"trigger.timer[{WIDTH_TIMER}].EVENT_ID")
WIDTH_START = _follows("start of width", f"trigger.timer[{WIDTH_TIMER}]", "{c}.trigger.SOURCE_COMPLETE_EVENT_ID")
GAP_START = _follows("start of gap", f"trigger.timer[{GAP_TIMER}]", "{c}.trigger.ARMED_EVENT_ID")


class Keithley2600B(Tsp, PulsingSmu):
    """A 2601B, 2602B, 2604B, 2611B, 2612B, 2614B, 2634B, 2635B or 2636B with one or two channels in use.

    Pulses: arming starts the gap timer, its event starts the pulse on all channels, the width timer ends it; each
    arm cycle is one pulse and one reading of each channel, taken inside it. The Lua globals nb_* are the witness:
    they are gone after a restart, and arithmetic with a missing one stops the chunk before it does anything.
    """

    MODELS = (r"26[013][124456]B",)
    CHANNELS = (1, 2)
    MAX_V = 40.0  # of the 2601B, 2602B and 2604B; the others do 200 V behind an interlock: max_v in the bench file
    ranges_a = (100e-9, 1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0)
    min_aperture_s = 0.001 / 50
    max_aperture_s = 25.0 / 60
    min_width_s = 100e-6
    max_width_s = 100.0
    max_pulses = 50_000
    gap_s = GAP_S
    CAPACITY = 999_999  # six digits are printed; a full buffer is cleared in between

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        self.names = [LETTERS[channel] for channel in self.used]
        self._line_hz = 0.0
        self._cleared = 0  # pulses that were counted and then cleared out of a full buffer
        self._stored = 0

    # -- limits and rest

    def enforce(self, compliance_a: float | None, max_v: float) -> None:
        """Level 0 V, then the current limit, and a fixed source range as the cap of the voltage, on all channels."""
        limit_a = min(compliance_a or self.ranges_a[-1], self.ranges_a[-1])
        cap_v = min(max_v, self.max_v)
        rows = ((FUNCTION, 1.0), (LEVEL, 0.0), (OUTPUT, 0.0), (OFF_MODE, 0.0), (LIMIT, limit_a), (SOURCE_RANGE, cap_v))
        self.forget()
        for name in self.names:
            self.set_up([Setting(knob, value, name) for knob, value in rows])
        self.set_up([Setting(READY, 1.0)])
        self._limit_a, self._cap_v = limit_a, cap_v

    def connect(self) -> None:
        """Limit, level 0 V, then outputs on; all read back."""
        rows = ((LIMIT, self._limited_to()), (LEVEL, 0.0), (OUTPUT, 1.0))
        self.set_up([Setting(knob, value, name) for knob, value in rows for name in self.names])

    def _switch_off(self) -> list[str]:
        self.forget()
        self._try("abort")  # of a running chunk
        # A train that is cut may have shortened its last pulse after its reading: the count alone would not show it.
        aborts = " ".join(f"{name}.abort()" for name in self.names)
        self._try(f"if nb_cut then nb_cut=nb_cut+status.operation.sweeping.condition end {aborts}")
        for action in ("source.levelv=0", "source.output=0"):
            for name in self.names:
                self._try(f"{name}.{action}")
        asked = ", ".join(f"{name}.source.output" for name in self.names)
        states = [float_of(state, self.link) for state in self.ask(f"print({asked})", self.channels)]
        return [name for name, state in zip(self.names, states, strict=True) if state not in (0.0, 2.0)]

    def _try(self, chunk: str) -> None:
        with suppress(BenchFault):
            self.link.write(chunk)

    def explained(self, lost: LinkLost) -> BenchFault:
        """As for all; but a chunk that missed the mark was stopped by a restart, and would be again."""
        found = super().explained(lost)
        if READY.get in str(found).removeprefix(str(lost)):
            return InstrumentError(
                f"{self.link.name} has restarted, its limits are gone: open the bench anew ({found})"
            )
        return found

    # -- reading

    def prepare(self, range_a: float, aperture_s: float, settle_s: float) -> None:
        """Range, aperture, autozero and filter of the meter; the settling time is a delay in the sweep itself."""
        self._check_aperture(aperture_s)
        full_a = self.smallest_range(range_a)
        self.ensure(self._meter_settings(self.names[-1], full_a, aperture_s, 0.0, averaging=True))
        self._range_a, self._reading_s, self._settle_s = full_a, aperture_s, settle_s

    def _meter_settings(
        self, name: str, full_a: float, aperture_s: float, delay_s: float, *, averaging: bool
    ) -> list[Setting]:
        values = (
            (AUTO_RANGE, 0.0),
            (RANGE, full_a),
            (NPLC, min(max(aperture_s * self._mains_hz(), 0.001), 25.0)),
            (DELAY, delay_s),
            (FILTER_KIND, 1.0),
            (FILTER, float(averaging)),
            (AUTOZERO, 1.0),
        )
        return [Setting(knob, value, name) for knob, value in values]

    def _mains_hz(self) -> float:
        if not self._line_hz:
            self._line_hz = float_of(self.link.query("print(localnode.linefreq)"), self.link)
        return self._line_hz

    def sweep(self, levels_v: Sequence[float], averages: int) -> Sweep:
        """One chunk: for each level set, settle, measure; then 0 V and print all. Outputs stay on, at 0 V."""
        self._check_sweep(levels_v)
        groups, count = groups_of(averages, MOST_FILTERED)
        took_s = len(levels_v) * (self._settle_s + groups * count * (self._reading_s + 1e-3))
        printed = len(levels_v) * (groups + self.channels)
        try:
            values = self.ask(self._sweep_chunk(levels_v, groups, count), printed, self.link.timeout_s + 2 * took_s)
        except LinkLost as lost:
            raise self.explained(lost) from lost
        return self._swept(values, len(levels_v), groups)

    def _sweep_chunk(self, levels_v: Sequence[float], groups: int, count: int) -> str:
        # The mark is gone after a restart, and the limits with it: the product then stops the chunk here.
        drive, meter = self.names[0], self.names[-1]
        said = [f"nb_ready=nb_ready*1 format.asciiprecision=16 {meter}.measure.filter.count={count}"]
        said += [f"{name}.source.levelv=0 {name}.source.output=1" for name in reversed(self.names)]
        printed = []
        for k, level_v in enumerate(levels_v):
            said.append(f"{drive}.source.levelv={level_v:.9g} delay({self._settle_s:.9g})")
            currents = [f"nb_i{k}_{group}" for group in range(groups)]
            limited = [f"nb_c{k}_{name[-1]}" for name in self.names]
            said += [f"{current}={meter}.measure.i()" for current in currents]
            said += [f"{c}={name}.source.compliance" for c, name in zip(limited, self.names, strict=True)]
            printed += currents + limited
        said.append(f"{drive}.source.levelv=0 print({', '.join(printed)})")
        return " ".join(said)

    def _swept(self, values: list[str], levels: int, groups: int) -> Sweep:
        each = groups + self.channels
        readings, words = [], []
        for start in range(0, levels * each, each):
            readings += [float_of(value, self.link) for value in values[start : start + groups]]
            words += values[start + groups : start + each]
        if set(words) - {"true", "false"}:
            raise garbled(self.link, " ".join(words), "true or false")
        return mean_sweep(readings, levels, self._range_a, "true" in words, 1 if self.channels == 1 else -1)

    # -- pulsing

    def program(self, train: Train, *, measure: bool = False) -> None:
        """The trigger model of all channels; only what differs from the last train and read is sent.

        Every pulse is measured, asked for or not: its reading is the count. Edges are the SMU's own.
        """
        levels = self._levels(train)
        full_a = self._pulse_range_a()
        settings = [s for name in self.names for s in self._model_settings(name)]
        settings += self._timer_settings(train)
        for name, level_v in zip(self.names, levels, strict=True):
            # the reading lies in the middle of the pulse: after its delay, over before its end
            aperture_s = min(0.4 * train.width_s, 1 / self._mains_hz())
            settings += self._meter_settings(name, full_a, aperture_s, 0.3 * train.width_s, averaging=False)
            settings += [Setting(PULSE_LIMIT, self._limited_to(), name), Setting(TOP, level_v, name)]
        self.ensure(settings)
        self._train, self._measuring = train, measure

    def _model_settings(self, name: str) -> list[Setting]:
        ones = (COUNT, SOURCE_ACTION, MEASURE_ACTION, STORE)
        zeros = (END_PULSE, END_SWEEP, ARM_STIMULUS, MEASURE_STIMULUS, START, STOP)
        return [Setting(knob, 1.0, name) for knob in ones] + [Setting(knob, 0.0, name) for knob in zeros]

    def _timer_settings(self, train: Train) -> list[Setting]:
        settings = [Setting(TIMER_DELAY, train.width_s, WIDTH_TIMER), Setting(TIMER_DELAY, GAP_S, GAP_TIMER)]
        for timer in (WIDTH_TIMER, GAP_TIMER):
            settings += [Setting(TIMER_COUNT, 1.0, timer), Setting(PASSTHROUGH, False, timer)]
        return [*settings, Setting(WIDTH_START, 0.0, self.names[0]), Setting(GAP_START, 0.0, self.names[0])]

    def baseline(self, seq: int) -> Witness:
        """Empty the pulse buffers and name the stimulus, in one chunk that a restart would have made impossible."""
        nonce = self._nonce(899_999) + 100_000  # six digits: as many as are printed
        said = ["nb_ready=nb_ready*1"]
        said += [f"{name}.nvbuffer1.clear() {name}.nvbuffer1.appendmode=1" for name in self.names]
        said.append(f"nb_base=0 nb_cut=0 nb_shot=0 nb_seq={seq % 1_000_000} nb_nonce={nonce}")
        try:
            counted = self._counted(" ".join(said) + " ")
        except LinkLost as lost:
            raise self.explained(lost) from lost
        if counted != Counted(str(nonce), seq % 1_000_000, 0, 0, cut=False):
            raise InstrumentError(f"{self.link.name}: its counters do not start at 0 ({counted})")
        self._count_from(seq, 0)
        self._cleared = 0
        return Witness(0, str(nonce))

    def trigger(self) -> None:
        """One chunk: the number of the shot, the count, go. Without the witness's globals it stops before it fires."""
        shot, pulses = self._armed
        said = [f"nb_shot=nb_nonce*0+{shot + 1}"]
        if self._expected - self._cleared > BUFFER:
            self._cleared = self._expected - pulses
            said.append(f"nb_base={self._cleared}")
            said += [f"{name}.nvbuffer1.clear()" for name in self.names]
        said += [f"{name}.trigger.arm.count={pulses}" for name in self.names]
        said += [f"{name}.trigger.initiate()" for name in reversed(self.names)]
        self.link.write(" ".join(said))

    def done(self) -> bool:
        """All readings are there and no channel sweeps any more."""
        first = self.names[0]
        stored, sweeping = self.ask(f"print({first}.nvbuffer1.n, status.operation.sweeping.condition)", 2)
        self._stored = int_of(stored, self.link)
        return int_of(sweeping, self.link) == 0 and self._cleared + self._stored >= self._expected

    def currents_a(self) -> FloatArray | None:
        """Currents that every channel measured in the pulses of the last shot, as magnitudes [pulses, outputs]."""
        if not self._measuring:
            return None
        pulses = self._armed[1]
        first = self._stored - pulses + 1
        said = [f"printbuffer({first}, {self._stored}, {name}.nvbuffer1)" for name in self.names]
        lines = self.link.query_lines("format.asciiprecision=16 " + " ".join(said), self.channels)
        return np.abs([floats_of(line, self.link, pulses) for line in lines]).T

    def _counted(self, before: str = "") -> Counted:
        asked = "nb_nonce, nb_seq, nb_shot, nb_cut, nb_base, {}.nvbuffer1.n, status.operation.sweeping.condition"
        words = self.ask(f"{before}print({asked.format(self.names[0])})", 7)
        if words[0] == "nil":
            return Counted("", -1, 0, 0)
        nonce, seq, shot, cut, base, stored, sweeping = (int_of(word, self.link) for word in words)
        return Counted(str(nonce), seq, base + stored, shot, busy=sweeping != 0, cut=cut != 0)


plugin = Keithley2600B
