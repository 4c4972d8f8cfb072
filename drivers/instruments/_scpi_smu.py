"""What the SCPI SMUs share: reading level by level in one message, and two registers beside the buffer as a witness.

The buffer holds readings of pulses and only grows. `*SRE` names the stimulus and `*ESE` counts its triggers (1 more
than there were, modulo 255): both can be read without clearing them, are changed by nobody else, have no effect on a
source, and are 0 after a restart (IEEE 488.2, 11.3.2 and 11.5.1.4, with `*PSC 1`, the factory setting).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from neurobench.bench.crossbar import Witness
from neurobench.errors import BenchFault, InstrumentError, LinkLost

from ._link import int_of, is_number
from ._roles import Sweep
from ._smu import Counted, PulsingSmu, groups_of, mean_sweep
from ._table import Flag, Knob, Number, Scpi, Setting, Value, Word

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray

TRIGGERS = 255
MESSAGE_S = 1.0  # longer work is cut into several messages, so that an abort comes in between
READING_S = 0.5
MOST_AVERAGED = 100  # readings that the averaging filter takes

OUTPUT = Knob("output", ":OUTP{c} {v}", ":OUTP{c}?", codec=Flag())
FUNCTION = Knob("source function", ":SOUR{c}:FUNC {v}", ":SOUR{c}:FUNC?", codec=Word())
SENSE = Knob("measure function", ':SENS:FUNC "{v}"', ":SENS:FUNC?", codec=Word())


class LevelAndZero:
    """A list of one pulse: its level and 0 V."""

    def say(self, value: Value) -> str:
        """The two numbers."""
        return f"{Number().say(value)},0"

    def agrees(self, value: Value, answer: str) -> bool | None:
        """The same two numbers and no others."""
        words = answer.split(",")
        if not all(is_number(word) for word in words):
            return None
        return len(words) == 2 and bool(Number().agrees(value, words[0])) and float(words[1]) == 0.0


PULSE = Knob("pulse level", ":SOUR:LIST:VOLT {v}", ":SOUR:LIST:VOLT?", "V", codec=LevelAndZero())


def magnitudes(currents_a: Sequence[float]) -> FloatArray:
    """Currents of the pulses of one channel as magnitudes [pulses, 1]."""
    table: FloatArray = np.abs(np.asarray(currents_a, float)).reshape(-1, 1)
    return table


class ScpiPulser(Scpi, PulsingSmu):
    """An SMU that speaks SCPI. Class attributes are its words; settings of the two ways to use it are methods."""

    LEVEL: ClassVar[Knob]
    LIMIT: ClassVar[Knob]
    OUTPUT: ClassVar[Knob] = OUTPUT
    CLEAR: ClassVar[str]  # empty the pulse buffer and let it grow ({c}: channel)
    COUNT: ClassVar[str]  # how many readings are in it
    PROOF: ClassVar[Knob]  # of a programmed pulse: it is otherwise after a restart
    LOST: ClassVar[tuple[Knob, ...]] = ()  # what CLEAR and a trigger set besides
    STATE: ClassVar[str]  # whether something runs
    STATE_PARTS: ClassVar[int] = 1
    STOP: ClassVar[str] = ":ABOR"
    READINGS_PER_PULSE: ClassVar[int] = 2
    FIRST: ClassVar[str] = ""  # what a trigger begins with
    SUFFIXES: ClassVar[bool] = False  # whether commands name the channel

    @property
    def places(self) -> list[int | str]:
        """Suffix of each channel in use."""
        return list(self.used) if self.SUFFIXES else [""]

    # -- limits and rest

    def enforce(self, compliance_a: float | None, max_v: float) -> None:
        """Level 0 V, then the current limit and what caps the voltage, for all channels."""
        limit_a = min(compliance_a or self.ranges_a[-1], self.ranges_a[-1])
        cap_v = min(max_v, self.max_v)
        self.forget()
        for place in self.places:
            self.set_up([Setting(self.OUTPUT, False, place), *self._limits(place, limit_a, cap_v)])
        self._limit_a, self._cap_v = limit_a, cap_v

    def connect(self) -> None:
        """Limit, level 0 V, then outputs on; all read back."""
        for place in self.places:
            limit = Setting(self.LIMIT, self._limited_to(), place)
            self.set_up([limit, Setting(self.LEVEL, 0.0, place), Setting(self.OUTPUT, True, place)])

    def _switch_off(self) -> list[str]:
        self.forget()
        self._try(self.STOP)
        for knob, value in ((self.LEVEL, 0.0), (self.OUTPUT, False)):
            for place in self.places:
                self._try(Setting(knob, value, place).said())
        asked = [Setting(self.OUTPUT, False, place) for place in self.places]
        answers = self.ask(";".join(setting.asked() for setting in asked), len(asked))
        return [str(s.channel) for s, answer in zip(asked, answers, strict=True) if not self._agrees(s, answer)]

    def _try(self, message: str) -> None:
        with suppress(BenchFault):
            self.link.write(message)

    # -- pulsing

    def baseline(self, seq: int) -> Witness:
        """Empty the pulse buffer, name the stimulus, no trigger yet; what was programmed is proven to be there still.

        A restart since then would leave a source at 0 V that takes triggers, and count its readings as pulses.
        """
        nonce = self._nonce(63)  # bit 6 of the register does not exist
        proofs = [self._proof(place) for place in self.places]
        clear = [self.CLEAR.format(c=place) for place in self.places]
        said = [*(proof.asked() for proof in proofs), *clear, f"*SRE {nonce};*ESE 1", self._counters()]
        self.lose(*self.LOST)
        answers = self.ask(";".join(said), len(proofs) + 3 + self.STATE_PARTS, self._answer_s())
        if not all(self._agrees(proof, answer) for proof, answer in zip(proofs, answers, strict=False)):
            self.forget()
            raise InstrumentError(f"{self.link.name}: the pulse that was programmed is gone: it has restarted")
        counted = self._count_of(answers[len(proofs) :])
        if counted != Counted(str(nonce), None, 0, 0, TRIGGERS):
            raise InstrumentError(f"{self.link.name}: its counters do not start at 0 ({counted})")
        self._count_from(seq, 0)
        return Witness(0, str(nonce))

    def _proof(self, place: int | str) -> Setting:
        value = self._known.get((self.PROOF.name, place))
        if value is None:
            raise InstrumentError(f"{self.link.name}: no pulse is programmed (program, then baseline)")
        return Setting(self.PROOF, value, place)

    def trigger(self) -> None:
        """One message: the count of triggers, then go. An instrument that has restarted has its outputs off."""
        shot, pulses = self._armed
        self.lose(*self.LOST)
        self.link.write(f"{self.FIRST}*ESE {1 + (shot + 1) % TRIGGERS};{self._go(pulses)}")

    def done(self) -> bool:
        """All readings are there and nothing runs any more."""
        count, *state = self.ask(f"{self._count_words()};{self.STATE}", 1 + self.STATE_PARTS, self._answer_s())
        return not self._runs(state) and int_of(count, self.link) >= self.READINGS_PER_PULSE * self._expected

    def _counters(self) -> str:
        return f"*ESE?;*SRE?;{self._count_words()};{self.STATE}"

    def _counted(self) -> Counted:
        return self._count_of(self.ask(self._counters(), 3 + self.STATE_PARTS, self._answer_s()))

    def _count_of(self, answers: Sequence[str]) -> Counted:
        ese, sre, count, *state = answers
        triggers, readings = int_of(ese, self.link) - 1, int_of(count, self.link)
        if triggers < 0:
            return Counted("", None, 0, 0, TRIGGERS)
        fired = ceil(readings / self.READINGS_PER_PULSE)
        return Counted(str(int_of(sre, self.link)), None, fired, triggers, TRIGGERS, busy=self._runs(state))

    def _count_words(self) -> str:
        return self.COUNT.format(c=self.places[0])

    def _answer_s(self) -> float:
        return self.link.timeout_s

    @abstractmethod
    def _limits(self, place: int | str, limit_a: float, cap_v: float) -> list[Setting]:
        """Source of volts at 0 V, current limit, cap of the voltage: in the order that protects the chip."""

    @abstractmethod
    def _go(self, pulses: int) -> str:
        """The commands that fire a train of so many pulses."""

    @abstractmethod
    def _runs(self, state: Sequence[str]) -> bool:
        """Whether the answer to STATE says that something runs."""


class LevelReader(ScpiPulser):
    """An SMU with one channel that reads level by level: set, READ?, set, READ?, ... all in one message."""

    READ: ClassVar[str]
    READ_PARTS: ClassVar[int]  # answers of one READ
    AVERAGES: ClassVar[Knob]

    def sweep(self, levels_v: Sequence[float], averages: int) -> Sweep:
        """One message where it takes less than a second, else several; every one ends at 0 V. The output stays on."""
        self._check_sweep(levels_v)
        most = min(MOST_AVERAGED, max(1, int(READING_S / self._reading_s)))
        groups, count = groups_of(averages, most)
        self.ensure([Setting(self.AVERAGES, float(count))])
        took_s = count * (self._reading_s + 2e-3) + self._settle_s
        at_once = max(1, int(MESSAGE_S / took_s))
        readings, limited = [], False
        for part in _parts([level_v for level_v in levels_v for _ in range(groups)], at_once):
            currents, hit = self._read_levels(part, self.link.timeout_s + 2 * took_s * len(part))
            readings += currents
            limited |= hit
        return mean_sweep(readings, len(levels_v), self._range_a, limited)

    def _read_levels(self, levels_v: Sequence[float], timeout_s: float) -> tuple[list[float], bool]:
        said = [Setting(self.LEVEL, 0.0).said(), Setting(self.OUTPUT, True).said()]
        for level_v in levels_v:
            said += [Setting(self.LEVEL, level_v).said(), self.READ]
        limit = Setting(self.LIMIT, self._limited_to())
        said += [Setting(self.LEVEL, 0.0).said(), limit.asked()]
        try:
            answers = self.ask(";".join(said), len(levels_v) * self.READ_PARTS + 1, timeout_s)
        except LinkLost as lost:
            raise self.explained(lost) from lost
        if not self._agrees(limit, answers[-1]):
            self.forget()
            raise InstrumentError(f"{self.link.name} has restarted: its current limit is {answers[-1]} A")
        n = self.READ_PARTS
        found = [self._reading(answers[k : k + n]) for k in range(0, len(answers) - 1, n)]
        return [current for current, _ in found], any(hit for _, hit in found)

    @abstractmethod
    def _reading(self, answers: Sequence[str]) -> tuple[float, bool]:
        """Current of one READ, and whether the limit acted."""


def _parts(values: Sequence[float], most: int) -> Iterator[Sequence[float]]:
    for start in range(0, len(values), most):
        yield values[start : start + most]
