"""Keithley 2400 SourceMeter, SCPI: reads level by level, pulses by a list sweep of (level, 0 V).

Source: Series 2400 SourceMeter User's Manual 2400S-900-01, section 18 (SCPI), section 11 (trigger model), section 9
(buffer: 1 to 2500 readings); bits of the status word and times of a source-measure cycle from memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurobench.errors import InstrumentError

from ._link import float_of, floats_of, garbled, int_of
from ._roles import Train
from ._scpi_smu import FUNCTION, PULSE, SENSE, LevelReader, magnitudes
from ._table import AtLeast, Flag, Knob, Number, Setting, Word

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray

PROTECTIONS_V = (20, 40, 60, 80, 100, 120, 160)
BUFFER = 2500
SHORTEST_PLC = 0.01
CYCLE_S = 5e-4  # what a point of a sweep takes besides its delay and its aperture, from memory
OVERFLOW, COMPLIANCE, RANGE_COMPLIANCE = 1 << 0, 1 << 3, 1 << 16  # status word of a reading
SWEEPING, WAITS_TRIGGER, WAITS_ARM = 1 << 3, 1 << 5, 1 << 6  # operation register

PROTECTION = Knob("voltage protection", ":SOUR:VOLT:PROT {v}", ":SOUR:VOLT:PROT?", "V", codec=AtLeast())
SOURCE_RANGE = Knob("source range", ":SOUR:VOLT:RANG {v}", ":SOUR:VOLT:RANG?", "V", high=210.0, codec=AtLeast())
DELAY = Knob("source delay", ":SOUR:DEL {v}", ":SOUR:DEL?", "s", low=0.0, high=999.0, codec=Number(1e-2))
MODE = Knob("source mode", ":SOUR:VOLT:MODE {v}", ":SOUR:VOLT:MODE?", codec=Word())
# The range is answered with the 5 % above it that it reads.
RANGE = Knob("range", ":SENS:CURR:RANG {v}", ":SENS:CURR:RANG?", "A", codec=Number(0.06))
NPLC = Knob("aperture", ":SENS:CURR:NPLC {v}", ":SENS:CURR:NPLC?", "PLC", low=0.01, high=10.0, codec=Number(1e-2))
AUTOZERO = Knob("autozero", ":SYST:AZER {v}", ":SYST:AZER?", codec=Flag(on="ON", off="OFF"))
FILTER = Knob("filter", ":SENS:AVER {v}", ":SENS:AVER?", codec=Flag())
FILTER_KIND = Knob("filter type", ":SENS:AVER:TCON {v}", ":SENS:AVER:TCON?", codec=Word())
ELEMENTS = Knob("elements", ":FORM:ELEM {v}", ":FORM:ELEM?", codec=Word())
TRIGGERS = Knob("trigger count", ":TRIG:COUN {v}", ":TRIG:COUN?", low=1, high=2500)
FEED = Knob("buffer", ":TRAC:FEED:CONT {v}", ":TRAC:FEED:CONT?", codec=Word(), doc="NEV: reads are not counted")


class Keithley2400(LevelReader):
    """A 2400 (also 2401, 2410, 2420, 2425, 2430, 2440 within its ranges). Autozero is off: bench rules 5 and 6.

    A pulse is two cycles of a list sweep, each the source delay and the aperture and about 0.5 ms of its own (from
    memory). While it sweeps it answers nothing: a question about it waits, in slices, for the end of the train.
    """

    MODELS = (r"24(00|01|10|20|25|30|40)[A-Z-]*",)
    MAX_V = 200.0
    ranges_a = (1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0)
    min_aperture_s = 0.01 / 50
    max_aperture_s = 10.0 / 60
    min_width_s = 1.5e-3
    max_width_s = 900.0
    max_pulses = BUFFER // 2
    CAPACITY = BUFFER // 2

    LEVEL = Knob("level", ":SOUR:VOLT {v}", ":SOUR:VOLT?", "V", low=-210.0, high=210.0)
    LIMIT = Knob("current limit", ":SENS:CURR:PROT {v}", ":SENS:CURR:PROT?", "A", 1e-9, 1.05, Number(2e-4))
    AVERAGES = Knob("averages", ":SENS:AVER:COUN {v}", ":SENS:AVER:COUN?", "", 1, 100)
    CLEAR = f":TRAC:CLE;:TRAC:FEED SENS;:TRAC:POIN {BUFFER};:TRAC:FEED:CONT NEXT"
    COUNT = ":TRAC:POIN:ACT?"
    LOST = (FEED, TRIGGERS)
    PROOF = MODE
    STATE = ":STAT:OPER:COND?"
    READ = ":READ?"
    READ_PARTS = 1

    _mains = 0.0

    def _limits(self, place: int | str, limit_a: float, cap_v: float) -> list[Setting]:
        function = [Setting(FUNCTION, "VOLT", place), Setting(SENSE, "CURR", place), Setting(self.LEVEL, 0.0, place)]
        protection = [Setting(PROTECTION, float(v), place) for v in PROTECTIONS_V if v >= cap_v][:1]
        return [*function, Setting(self.LIMIT, limit_a, place), *protection, Setting(SOURCE_RANGE, cap_v, place)]

    # -- reading

    def prepare(self, range_a: float, aperture_s: float, settle_s: float) -> None:
        """Range, aperture, filter, source delay; its reads leave the counting buffer alone."""
        self._check_aperture(aperture_s)
        full_a = self.smallest_range(range_a)
        single = [Setting(FEED, "NEV"), Setting(MODE, "FIX"), Setting(TRIGGERS, 1.0)]
        self.ensure([*single, *self._meter(full_a, aperture_s, averaging=True), Setting(DELAY, settle_s)])
        self._range_a, self._reading_s, self._settle_s = full_a, aperture_s, settle_s

    def _meter(self, full_a: float, aperture_s: float, *, averaging: bool) -> list[Setting]:
        plc = min(max(aperture_s * self._mains_hz(), SHORTEST_PLC), 10.0)
        rows = ((ELEMENTS, "CURR,STAT"), (RANGE, full_a), (NPLC, plc), (AUTOZERO, False), (FILTER_KIND, "REP"))
        return [*(Setting(knob, value) for knob, value in rows), Setting(FILTER, averaging)]

    def _mains_hz(self) -> float:
        if not self._mains:
            self._mains = float_of(self.link.query(":SYST:LFR?"), self.link)
        return self._mains

    def _reading(self, answers: Sequence[str]) -> tuple[float, bool]:
        current_a, word = floats_of(answers[0], self.link, 2)
        if not (word.is_integer() and 0 <= word < 1 << 24):
            raise garbled(self.link, answers[0], "a current and a status word")
        status = int(word)
        over = current_a if not status & OVERFLOW else float("inf")
        return over, bool(status & (COMPLIANCE | RANGE_COMPLIANCE))

    # -- pulsing

    def program(self, train: Train, *, measure: bool = False) -> None:
        """The list of one pulse (level, 0 V), repeated by the trigger count; a meter that is fast."""
        (level_v,) = self._levels(train)
        shortest_s = SHORTEST_PLC / self._mains_hz()
        settings = [*self._meter(self._pulse_range_a(), shortest_s, averaging=False), Setting(MODE, "LIST")]
        self.ensure([*settings, Setting(PULSE, level_v), Setting(DELAY, train.width_s - shortest_s)])
        self._train, self._measuring = train, measure

    @property
    def gap_s(self) -> float:  # type: ignore[override]
        """The point at 0 V takes as long as the pulse, and both a cycle of their own."""
        return 2 * CYCLE_S + (self._train.width_s if self._train is not None else 0.0)

    def _go(self, pulses: int) -> str:
        if self._train is None:
            raise InstrumentError(f"{self.link.name}: a trigger before any pulse was programmed")
        return f":TRIG:COUN {2 * pulses};:INIT"

    def _answer_s(self) -> float:
        width_s = self._train.width_s if self._train is not None else 1.0
        return self.link.timeout_s + 3 * width_s * max(self._armed[1], 1)

    def _runs(self, state: Sequence[str]) -> bool:
        return bool(int_of(state[0], self.link) & (SWEEPING | WAITS_TRIGGER | WAITS_ARM))

    def currents_a(self) -> FloatArray | None:
        """Currents in the pulses of the last shot, as magnitudes [pulses, 1]: the whole buffer is read."""
        if not self._measuring:
            return None
        n = 4 * self._expected  # two readings a pulse, a current and a status word each
        values = floats_of(self.link.query(":TRAC:DATA?", self._answer_s() + n * 1e-3), self.link, n)
        return magnitudes(values[::4][-self._armed[1] :])


plugin = Keithley2400
