"""Keithley 2450 SourceMeter, SCPI command set: reads level by level, pulses by a list sweep of (level, 0 V).

Source: Model 2450 Reference Manual 2450-901-01, SCPI command reference; times of a sweep point from memory.
The instrument must be set to SCPI (`*LANG SCPI`): in TSP mode it does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurobench.errors import CapabilityMissing, InstrumentError

from ._link import float_of, floats_of, garbled, int_of
from ._roles import Identification, Train
from ._scpi_smu import FUNCTION, PULSE, SENSE, TRIGGERS, LevelReader, magnitudes
from ._table import AtLeast, Flag, Knob, Number, Setting, Word

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray

PROTECTIONS_V = (2, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180)
PULSES, READS = "defbuffer1", "defbuffer2"
SHORTEST_PLC = 0.01
CYCLE_S = 3e-4  # what a point of a sweep takes besides its delay and its aperture, from memory
STATES = ("IDLE", "RUNNING", "WAITING", "EMPTY", "BUILDING", "FAILED", "ABORTING", "ABORTED", "INACTIVE")
WORKING = ("RUNNING", "WAITING", "BUILDING", "ABORTING")

PROTECTION = Knob("voltage protection", ":SOUR:VOLT:PROT {v}", ":SOUR:VOLT:PROT?", codec=Word())
SOURCE_RANGE = Knob("source range", ":SOUR:VOLT:RANG {v}", ":SOUR:VOLT:RANG?", "V", high=200.0, codec=AtLeast())
READ_BACK = Knob("source readback", ":SOUR:VOLT:READ:BACK {v}", ":SOUR:VOLT:READ:BACK?", codec=Flag())
DELAY = Knob("source delay", ":SOUR:VOLT:DEL {v}", ":SOUR:VOLT:DEL?", "s", low=0.0, high=1e4, codec=Number(1e-3))
AUTO_RANGE = Knob("automatic range", ":SENS:CURR:RANG:AUTO {v}", ":SENS:CURR:RANG:AUTO?", codec=Flag())
RANGE = Knob("range", ":SENS:CURR:RANG {v}", ":SENS:CURR:RANG?", "A", codec=Number(1e-3))
NPLC = Knob("aperture", ":SENS:CURR:NPLC {v}", ":SENS:CURR:NPLC?", "PLC", low=0.01, high=10.0, codec=Number(1e-3))
AUTOZERO = Knob("autozero", ":SENS:CURR:AZER {v}", ":SENS:CURR:AZER?", codec=Flag())
FILTER = Knob("filter", ":SENS:CURR:AVER {v}", ":SENS:CURR:AVER?", codec=Flag())
FILTER_KIND = Knob("filter type", ":SENS:CURR:AVER:TCON {v}", ":SENS:CURR:AVER:TCON?", codec=Word())


class Keithley2450(LevelReader):
    """A 2450. Drift of its zero is met by reads of 0 V and both polarities, so autozero is off (bench rules 5, 6).

    A pulse is two points of a sweep: the level and 0 V, each for delay + aperture + about 0.3 ms of its own (from
    memory), so widths below some milliseconds are longer than asked by a noticeable part.
    """

    MODELS = (r"2450",)
    MAX_V = 200.0
    ranges_a = (10e-9, 100e-9, 1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0)
    min_aperture_s = 0.01 / 50
    max_aperture_s = 10.0 / 60
    min_width_s = 1e-3
    max_width_s = 100.0
    max_pulses = 50_000
    CAPACITY = 50_000  # two readings each, defbuffer1 holds 100 000
    # A sweep begins by clearing its buffer (a block of its trigger model, from memory). It is cleared with every
    # trigger, so that its count means the same where that should not be so.
    EACH_TRAIN_CLEARS = True
    FIRST = f':TRAC:CLE "{PULSES}";'

    LEVEL = Knob("level", ":SOUR:VOLT {v}", ":SOUR:VOLT?", "V", low=-210.0, high=210.0)
    LIMIT = Knob("current limit", ":SOUR:VOLT:ILIM {v}", ":SOUR:VOLT:ILIM?", "A", 1e-9, 1.05, Number(2e-4))
    AVERAGES = Knob("averages", ":SENS:CURR:AVER:COUN {v}", ":SENS:CURR:AVER:COUN?", "", 1, 100)
    CLEAR = f':TRAC:CLE "{PULSES}"'
    COUNT = f':TRAC:ACT? "{PULSES}"'
    PROOF = PULSE
    STATE = ":TRIG:STAT?"
    STATE_PARTS = 3
    READ = f':READ? "{READS}";:SOUR:VOLT:ILIM:TRIP?'
    READ_PARTS = 2

    _mains = 0.0

    def identify(self) -> Identification:
        """Ask `*IDN?`; raises InstrumentError if it is set to another language than SCPI."""
        found = super().identify()
        language = self.link.query("*LANG?")
        if language.strip() != "SCPI":
            raise InstrumentError(f"{self.link.name} is set to {language}: say *LANG SCPI and restart it")
        return found

    def _limits(self, place: int | str, limit_a: float, cap_v: float) -> list[Setting]:
        protection = next((f"PROT{volts}" for volts in PROTECTIONS_V if volts >= cap_v), "NONE")
        function = [Setting(FUNCTION, "VOLT", place), Setting(SENSE, "CURR", place), Setting(self.LEVEL, 0.0, place)]
        rows = ((self.LIMIT, limit_a), (PROTECTION, protection), (SOURCE_RANGE, cap_v), (READ_BACK, False))
        return [*function, *(Setting(knob, value, place) for knob, value in rows)]

    # -- reading

    def prepare(self, range_a: float, aperture_s: float, settle_s: float) -> None:
        """Range, aperture, filter, source delay; autozero off."""
        self._check_aperture(aperture_s)
        full_a = self.smallest_range(range_a)
        self.ensure([*self._meter(full_a, aperture_s, averaging=True), Setting(DELAY, settle_s)])
        self._range_a, self._reading_s, self._settle_s = full_a, aperture_s, settle_s

    def _meter(self, full_a: float, aperture_s: float, *, averaging: bool) -> list[Setting]:
        plc = min(max(aperture_s * self._mains_hz(), SHORTEST_PLC), 10.0)
        rows = ((AUTO_RANGE, False), (RANGE, full_a), (NPLC, plc), (AUTOZERO, False))
        return [Setting(k, v) for k, v in (*rows, (FILTER_KIND, "REP"), (FILTER, averaging))]

    def _mains_hz(self) -> float:
        if not self._mains:
            self._mains = float_of(self.link.query(":SYST:LFR?"), self.link)
        return self._mains

    def _reading(self, answers: Sequence[str]) -> tuple[float, bool]:
        tripped = Flag().agrees(True, answers[1])
        if tripped is None:
            raise garbled(self.link, answers[1], "0 or 1")
        return float_of(answers[0], self.link), tripped

    # -- pulsing

    def program(self, train: Train, *, measure: bool = False) -> None:
        """The list of one pulse (level, 0 V), and a meter that is fast; the sweep itself is said with the trigger."""
        (level_v,) = self._levels(train)
        settings = [*self._meter(self._pulse_range_a(), self._shortest_s(), averaging=False), Setting(DELAY, 0.0)]
        self.ensure([*settings, Setting(PULSE, level_v)])
        self._train, self._measuring = train, measure

    def _shortest_s(self) -> float:
        return SHORTEST_PLC / self._mains_hz()

    @property
    def gap_s(self) -> float:  # type: ignore[override]
        """The point at 0 V takes as long as the pulse, and both a cycle of their own."""
        return 2 * CYCLE_S + (self._train.width_s if self._train is not None else 0.0)

    def arm(self, seq: int, shot: int, pulses: int) -> None:
        """As every SMU; a stimulus has at most 254 triggers, since their number is all that tells its trains apart."""
        if shot >= TRIGGERS - 1:
            raise CapabilityMissing(
                f"{self.link.name}: shot {shot} of a stimulus; it tells {TRIGGERS - 1} apart (split the batch)"
            )
        super().arm(seq, shot, pulses)

    def done(self) -> bool:
        """The trigger has arrived, all its readings are there, and nothing runs any more."""
        shot, _ = self._armed
        triggers, count, *state = self.ask(f"*ESE?;{self.COUNT};{self.STATE}", 2 + self.STATE_PARTS)
        arrived = int_of(triggers, self.link) == 1 + (shot + 1) % TRIGGERS
        return (
            arrived and not self._runs(state) and int_of(count, self.link) >= self.READINGS_PER_PULSE * self._expected
        )

    def _go(self, pulses: int) -> str:
        if self._train is None:
            raise InstrumentError(f"{self.link.name}: a trigger before any pulse was programmed")
        wait_s = self._train.width_s - self._shortest_s()
        return f':SOUR:SWE:VOLT:LIST 1,{wait_s:.9g},{pulses},OFF,"{PULSES}";:INIT'

    def _runs(self, state: Sequence[str]) -> bool:
        if state[0] not in STATES:
            raise garbled(self.link, ";".join(state), "a state of the trigger model")
        return state[0] in WORKING

    def currents_a(self) -> FloatArray | None:
        """Currents in the pulses of the last shot, as magnitudes [pulses, 1]; every second reading is one at 0 V."""
        if not self._measuring:
            return None
        n = 2 * self._armed[1]
        last = 2 * self._expected
        text = self.link.query(f':TRAC:DATA? {last - n + 1},{last},"{PULSES}",READ')
        return magnitudes(floats_of(text, self.link, n)[::2])


plugin = Keithley2450
