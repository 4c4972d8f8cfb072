"""Keysight B2900 series SMU (B2901, B2902 and so on), SCPI: reads by list sweeps, pulses in pulse mode.

Source: B2900A SCPI Command Reference B2910-90030 (SOURce, SENSe, TRIGger, TRACe, FETCh); bits of the operation register
and of the status element, and the shortest pulse, from memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurobench.errors import InstrumentError, LinkLost

from ._link import floats_of, garbled, int_of
from ._roles import Sweep, Train
from ._scpi_smu import ScpiPulser
from ._smu import mean_sweep
from ._table import AtLeast, Flag, Knob, Number, Setting, Word

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray

BUFFER = 100_000
MOST_POINTS = 2500  # of a list
COMPLIANCE = 1 << 3  # of the status element of a reading, from memory
GAP_S = 200e-6  # between pulses, at 0 V
POLLS = 200
IDLE = {1: 1 << 1, 2: 1 << 7}  # source of the channel idle, from memory; that it has measured, its readings say

OUTPUT = Knob("output", ":OUTP{c} {v}", ":OUTP{c}?", codec=Flag())
FUNCTION = Knob("source function", ":SOUR{c}:FUNC:MODE {v}", ":SOUR{c}:FUNC:MODE?", codec=Word())
SOURCE_RANGE = Knob("source range", ":SOUR{c}:VOLT:RANG {v}", ":SOUR{c}:VOLT:RANG?", "V", codec=AtLeast())
SHAPE = Knob("source shape", ":SOUR{c}:FUNC:SHAP {v}", ":SOUR{c}:FUNC:SHAP?", codec=Word())
MODE = Knob("source mode", ":SOUR{c}:VOLT:MODE {v}", ":SOUR{c}:VOLT:MODE?", codec=Word(), doc="FIX or LIST")
TOP = Knob("pulse level", ":SOUR{c}:VOLT:TRIG {v}", ":SOUR{c}:VOLT:TRIG?", "V")
WIDTH = Knob("pulse width", ":SOUR{c}:PULS:WIDT {v}", ":SOUR{c}:PULS:WIDT?", "s", codec=Number(1e-3))
PULSE_DELAY = Knob("pulse delay", ":SOUR{c}:PULS:DEL {v}", ":SOUR{c}:PULS:DEL?", "s", codec=Number(1e-3))
SENSE = Knob("measure function", ':SENS{c}:FUNC:OFF:ALL;:SENS{c}:FUNC "{v}"', ":SENS{c}:FUNC?", codec=Word())
AUTO_RANGE = Knob("automatic range", ":SENS{c}:CURR:RANG:AUTO {v}", ":SENS{c}:CURR:RANG:AUTO?", codec=Flag())
RANGE = Knob("range", ":SENS{c}:CURR:RANG {v}", ":SENS{c}:CURR:RANG?", "A", codec=Number(1e-3))
APERTURE = Knob("aperture", ":SENS{c}:CURR:APER {v}", ":SENS{c}:CURR:APER?", "s", codec=Number(1e-2))
ELEMENTS = Knob("elements", ":FORM:ELEM:SENS {v}", ":FORM:ELEM:SENS?", codec=Word())
TRIGGER = Knob("trigger source", ":TRIG{c}:ALL:SOUR {v}", ":TRIG{c}:TRAN:SOUR?", codec=Word())
PERIOD = Knob("trigger period", ":TRIG{c}:ALL:TIM {v}", ":TRIG{c}:TRAN:TIM?", "s", codec=Number(1e-3))
MEASURE_DELAY = Knob("measure delay", ":TRIG{c}:ACQ:DEL {v}", ":TRIG{c}:ACQ:DEL?", "s", codec=Number(1e-2))
FEED = Knob("buffer", ":TRAC{c}:FEED:CONT {v}", ":TRAC{c}:FEED:CONT?", codec=Word(), doc="NEV: reads are not counted")


class KeysightB2900(ScpiPulser):
    """A B2901A to B2912B with one or two channels in use. Both start with one INITiate, so their pulses are in step."""

    MODELS = (r"B29[01][12][ABC]L?",)
    CHANNELS = (1, 2)
    MAX_V = 42.0  # without the interlock; 210 V with it: max_v in the bench file
    ranges_a = (100e-9, 1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0, 1.5)
    min_aperture_s = 20e-6
    max_aperture_s = 2.0
    min_width_s = 50e-6
    max_width_s = 100.0
    max_pulses = 50_000
    CAPACITY = BUFFER

    LEVEL = Knob("level", ":SOUR{c}:VOLT {v}", ":SOUR{c}:VOLT?", "V", low=-210.0, high=210.0)
    LIMIT = Knob("current limit", ":SENS{c}:CURR:PROT {v}", ":SENS{c}:CURR:PROT?", "A", 1e-9, 1.515, Number(2e-4))
    READINGS_PER_PULSE = 1
    PROOF = SHAPE
    STATE = ":STAT:OPER:COND?"
    SUFFIXES = True

    CLEAR = (
        ":TRAC{c}:FEED:CONT NEV;:TRAC{c}:CLE;:TRAC{c}:POIN "
        f"{BUFFER}"
        ";:TRAC{c}:FEED SENS;:TRAC{c}:FEED:CONT NEXT"
    )
    COUNT = ":TRAC{c}:POIN:ACT?"
    LOST = (FEED,)

    def _limits(self, place: int | str, limit_a: float, cap_v: float) -> list[Setting]:
        words = ((FUNCTION, "VOLT"), (SENSE, "CURR"), (SHAPE, "DC"), (MODE, "FIX"))
        function = [Setting(knob, word, place) for knob, word in words]
        limits = [Setting(self.LIMIT, limit_a, place), Setting(SOURCE_RANGE, cap_v, place)]
        return [Setting(self.LEVEL, 0.0, place), *function, *limits]

    @property
    def _all(self) -> str:
        return f"(@{','.join(map(str, self.used))})"

    # -- reading

    def prepare(self, range_a: float, aperture_s: float, settle_s: float) -> None:
        """Range, aperture and trigger delay; direct current; its reads leave the counting buffers alone."""
        self._check_aperture(aperture_s)
        full_a = self.smallest_range(range_a)
        settings: list[Setting] = []
        for c in self.used:
            mode = "LIST" if c == self.used[0] else "FIX"
            words = ((FEED, "NEV"), (SHAPE, "DC"), (MODE, mode), (TRIGGER, "AINT"))
            # a trigger brings a channel in fixed mode to its pulse level, so that of the last pulse must be gone
            settings += [*(Setting(knob, word, c) for knob, word in words), Setting(TOP, 0.0, c)]
            settings += [*self._meter(c, full_a, aperture_s), Setting(MEASURE_DELAY, settle_s, c)]
        self.ensure(settings)
        self._range_a, self._reading_s, self._settle_s = full_a, aperture_s, settle_s

    def _meter(self, channel: int, full_a: float, aperture_s: float) -> list[Setting]:
        rows = ((AUTO_RANGE, False), (RANGE, full_a), (APERTURE, aperture_s))
        return [Setting(knob, value, channel) for knob, value in rows]

    def sweep(self, levels_v: Sequence[float], averages: int) -> Sweep:
        """A list sweep with every level `averages` times, then one question for all currents; outputs stay on."""
        self._check_sweep(levels_v)
        readings: list[float] = []
        limited = False
        repeated = [level_v for level_v in levels_v for _ in range(averages)]
        try:
            for start in range(0, len(repeated), MOST_POINTS):
                currents, hit = self._list_sweep(repeated[start : start + MOST_POINTS])
                readings += currents
                limited |= hit
        except LinkLost as lost:
            raise self.explained(lost) from lost
        sign = 1 if self.channels == 1 else -1
        return mean_sweep(readings, len(levels_v), self._range_a, limited, sign)

    def _list_sweep(self, levels_v: Sequence[float]) -> tuple[list[float], bool]:
        drive, n = self.used[0], len(levels_v)
        said = [f":SOUR{drive}:LIST:VOLT {','.join(f'{v:.9g}' for v in levels_v)}"]
        said += [f":TRIG{c}:ALL:COUN {n};:OUTP{c} 1" for c in reversed(self.used)]
        self.link.write(";".join([*said, f":INIT {self._all}"]))
        self._wait(n * (self._reading_s + self._settle_s))
        limit = Setting(self.LIMIT, self._limited_to(), drive)
        asked = [f":FETC:ARR:CURR? (@{self.used[-1]})", *(f":FETC:ARR:STAT? (@{c})" for c in self.used), limit.asked()]
        answers = self.ask(";".join(asked), len(asked))
        if not self._agrees(limit, answers[-1]):
            self.forget()
            raise InstrumentError(f"{self.link.name} has restarted: its current limit is {answers[-1]} A")
        words = [word for answer in answers[1:-1] for word in floats_of(answer, self.link, n)]
        if not all(word.is_integer() for word in words):
            raise garbled(self.link, answers[1], "status words")
        return floats_of(answers[0], self.link, n), any(int(word) & COMPLIANCE for word in words)

    def _wait(self, seconds: float) -> None:
        self.link.clock.sleep(seconds)
        until_s = self.link.clock.now_s() + self.link.timeout_s + seconds
        while self._runs([self.link.query(self.STATE)]):
            if self.link.clock.now_s() > until_s:
                raise LinkLost(f"{self.link.name}: its sweep does not end")
            self.link.clock.sleep(max(0.01, seconds / POLLS))

    # -- pulsing

    def program(self, train: Train, *, measure: bool = False) -> None:
        """Pulse mode of all channels, with a reading in the middle of every pulse; only what differs is sent."""
        full_a, width_s = self._pulse_range_a(), train.width_s
        aperture_s = min(max(0.4 * width_s, self.min_aperture_s), 0.02)
        settings: list[Setting] = []
        for c, level_v in zip(self.used, self._levels(train), strict=True):
            words = ((SHAPE, "PULS"), (MODE, "FIX"), (TRIGGER, "TIM"))
            settings += [Setting(self.LEVEL, 0.0, c), *(Setting(knob, word, c) for knob, word in words)]
            numbers = ((TOP, level_v), (WIDTH, width_s), (PULSE_DELAY, 0.0), (PERIOD, width_s + GAP_S))
            settings += [Setting(knob, number, c) for knob, number in numbers]
            settings += [*self._meter(c, full_a, aperture_s), Setting(MEASURE_DELAY, 0.3 * width_s, c)]
        self.ensure([*settings, Setting(ELEMENTS, "CURR")])
        self._train, self._measuring = train, measure

    def _go(self, pulses: int) -> str:
        if self._train is None:
            raise InstrumentError(f"{self.link.name}: a trigger before any pulse was programmed")
        counts = [f":TRIG{c}:ALL:COUN {pulses}" for c in self.used]
        return ";".join([*counts, f":INIT {self._all}"])

    def _runs(self, state: Sequence[str]) -> bool:
        bits = int_of(state[0], self.link)
        return any(bits & IDLE[c] != IDLE[c] for c in self.used)

    def currents_a(self) -> FloatArray | None:
        """Currents that every channel measured in the pulses of the last shot, as magnitudes [pulses, outputs]."""
        if not self._measuring:
            return None
        n = self._armed[1]
        answers = self.ask(";".join(f":FETC:ARR:CURR? (@{c})" for c in self.used), self.channels)
        return np.abs([floats_of(answer, self.link, n) for answer in answers]).T


plugin = KeysightB2900
