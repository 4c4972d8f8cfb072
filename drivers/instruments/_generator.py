"""What the pulse generators have in common: an idle level proven to be 0 V, and a witness in the status byte.

No generator tells how many bursts it has fired. What can be asked after a lost answer is (bench rule 19):
- a mark in a place that nothing but this driver writes and that a restart empties: how far the shots have come;
- whether the burst has ended: the operation-complete bit, by `*STB?` (bit 5, with `*ESE 1`), which reading does not
  clear. `*OPC` asks for it again where a device clear has cancelled it (IEEE 488.2): it sends nothing.

    baseline  mark "0 idle"; *ESE 1; *CLS
    trigger   mark "k idle"; *CLS; mark "k armed"; burst count; *TRG; mark "k fired"; *OPC        one message
    tally     "k idle": k shots; "k fired": k + 1, when they have ended

Wherever that message is cut off, what was executed of it tells the truth, or ("k armed") that nobody knows. A restart
shows in `*ESE?`, which is 0 then (as long as `*PSC` is at its factory setting). Whoever switches the outputs off while
pulses go out marks the shot "cut": nobody can tell then how many there were.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple
from zlib import crc32

from neurobench.bench.crossbar import Witness
from neurobench.errors import CapabilityMissing, InstrumentError, LimitExceeded, LinkLost, UsageError

from ._link import garbled, int_of, is_number
from ._roles import Identification, PulseSource, Tally, Train, Waves
from ._sampling import PS, Coded, SampleClock, Samples, coded, sampled
from ._table import Knob, Number, Scpi, Setting, Value, split_answers

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection

    from ._link import Link

ESB, EAV = 0x20, 0x04
"""Bits of the status byte: an enabled event (here: operation complete), and an entry in the error queue."""

IDLE_V = 1e-3
"""How far from 0 V an idle level may read back: a rounding of the instrument, far below what moves a device."""

GAP_S = 40e-9
"""Time at 0 V between two pulses of a train: eight time constants of 50 ohm and 100 pF of cable."""

LINEAR_10_90 = 0.8
"""Edge times are programmed from 10 % to 90 %; a straight edge of 1 s takes 0.8 s for that."""

WAIT_SLICE_S = 0.02
TRIGGER_ERRORS = range(-219, -209)
"""Error numbers that say that a trigger was not taken (SCPI-99: -210 to -219)."""

State = Literal["idle", "armed", "fired", "cut"]


@dataclass(frozen=True, slots=True)
class Volts:
    """A level: four digits of it, and a tenth of a millivolt where it is zero."""

    def say(self, value: Value) -> str:
        """In volts."""
        return f"{float(value):.9g}"

    def agrees(self, value: Value, answer: str) -> bool | None:
        """Equal within the resolution of the outputs."""
        found = number_in(answer)
        return None if found is None else abs(found - float(value)) <= 1e-4 + 5e-4 * abs(float(value))


@dataclass(frozen=True, slots=True)
class Edge:
    """A transition time; 0 asks for the fastest one, which takes `fastest_s` at most."""

    fastest_s: float

    def say(self, value: Value) -> str:
        """In seconds, or MIN."""
        return f"{float(value):.9g}" if float(value) > self.fastest_s else "MIN"

    def agrees(self, value: Value, answer: str) -> bool | None:
        """Equal within 1 %, or as fast as it can."""
        found = number_in(answer)
        if found is None:
            return None
        asked = max(float(value), self.fastest_s)
        return found <= asked * 1.01 and (asked == self.fastest_s or found >= asked * 0.99)


@dataclass(frozen=True, slots=True)
class OpenCircuit:
    """The load that levels are meant for: none. `word` says it; the answer is at least `least_ohm`.

    With 50 ohm set, the outputs give twice the programmed level into the open circuit that a device nearly is.
    """

    word: str = "INF"
    least_ohm: float = 9.8e37

    def say(self, value: Value) -> str:
        """The word, whatever the value."""
        del value
        return self.word

    def agrees(self, value: Value, answer: str) -> bool | None:
        """Large enough."""
        del value
        found = number_in(answer)
        return None if found is None else found >= self.least_ohm


SECONDS = Number(resolution=1e-3)
COUNT = Number(resolution=0.0)


class Levels(NamedTuple):
    """The two levels of a pulse output and its polarity."""

    high_v: float
    low_v: float
    inverted: bool

    @property
    def idle_v(self) -> float:
        """Where the output rests between bursts: an inverted one at its high level."""
        return self.high_v if self.inverted else self.low_v


def levels_of(level_v: float) -> Levels:
    """Levels with the top at `level_v` that rest at 0 V. HIGH 0 / LOW -V without inversion would rest at -V."""
    return Levels(level_v, 0.0, False) if level_v >= 0 else Levels(0.0, level_v, True)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The knobs of one channel; `{c}` is its number.

    Setting `load` releases the limits first (a load cannot be changed under limits), setting `function` goes by way of
    the smallest pulse around 0 V, setting `period` by way of the shortest pulse: so no order of old and new values is
    refused. `firing`: what makes the channel wait for `*TRG` and then play `count` pulses, with the values it takes;
    `flat`: what keeps a channel at its DC level from waiting for it.
    """

    output: Knob
    load: Knob
    function: Knob
    offset: Knob
    limit_high: Knob
    limit_low: Knob
    limited: Knob
    period: Knob
    width: Knob
    rise: Knob
    fall: Knob
    polarity: Knob
    high: Knob
    low: Knob
    count: Knob
    firing: tuple[tuple[Knob, Value], ...]
    flat: tuple[tuple[Knob, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class UploadedCodes:
    """Samples under a name, written `name,code,code,...`; answered by their mean, in parts of full scale.

    No instrument gives samples back. One wrong sample of n moves the mean by its error / n: what an answer of five
    digits cannot show is less than 1e-4 of full scale over the whole waveform.
    """

    full: int

    def say(self, value: Value) -> str:
        """As it is."""
        return str(value)

    def agrees(self, value: Value, answer: str) -> bool | None:
        """The same mean."""
        found = number_in(answer)
        codes = [int(code) for code in str(value).split(",")[1:]]
        return None if found is None else abs(found - sum(codes) / len(codes) / self.full) <= 1e-4


@dataclass(frozen=True, slots=True)
class Memory:
    """How a channel keeps and plays samples of -full .. full, in the order in which they are set up.

    `samples` empties the memory and fills it; `chosen` is the waveform that is played, `rate` its samples per second,
    `ways` what makes every sample come out as it is.
    """

    clock: SampleClock
    full: int
    function: str
    samples: Knob
    chosen: Knob
    rate: Knob
    ways: tuple[tuple[Knob, Value], ...]


class Mark(NamedTuple):
    """What the scratch place of a generator says: who counts (`nonce`), which stimulus (-1: not said), which shot."""

    nonce: str
    seq: int
    shot: int
    state: State


class Evidence(NamedTuple):
    """All that can be asked without changing it. `mark` is None if the scratch place says nothing of ours."""

    mark: Mark | None
    ended: bool
    ese: int
    errors_wait: bool
    differences: tuple[str, ...] = ()


class _Loaded(NamedTuple):
    """What is set up: the channels that are used with the proof of each, those that wait for the trigger, and how long
    one pulse of them takes. `at`: how many answers had been lost then."""

    what: Train | Waves
    proofs: dict[int, _Proof]
    playing: tuple[int, ...]
    period_s: float
    at: int


class _Proof(NamedTuple):
    """What has to be read back before an output may be on, and where it rests, of the levels HIGH and LOW read back."""

    settings: list[Setting]
    idle: Callable[[float, float], float] | None = None


class _Flight(NamedTuple):
    seq: int
    shot: int
    counts: list[Setting]  # pulses of this shot, on every channel that plays
    message: str


class Generator(Scpi, PulseSource):
    """A generator of one or two channels whose outputs are triggered together by `*TRG`."""

    WORDS: ClassVar[Vocabulary]
    MEMORY: ClassVar[Memory | None] = None
    MAX_V: ClassVar[float]
    ABORT: ClassVar[str] = ""
    MARK_QUESTIONS: ClassVar[tuple[str, ...]]
    source_ohm = 50.0
    gap_s = GAP_S
    measures = False
    limits_current = False
    witness = True

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        self.channels: tuple[int, ...] = section.channels or (1, 2)
        self.outputs = len(self.channels)
        self.plays = self.MEMORY is not None
        self.max_v = min(self.MAX_V, section.max_v or self.MAX_V)
        self._limit_v = self.max_v
        self._loaded: _Loaded | None = None  # what is programmed; None: not known
        self._on = False
        self._mark: Mark | None = None  # of the stimulus that baseline() began
        self._armed: _Flight | None = None
        self._flying: _Flight | None = None

    def identify(self) -> Identification:
        """Ask `*IDN?`; a model with an odd number has one channel."""
        found = super().identify()
        single = re.search(r"(\d)\D*$", found.model)
        if not self.section.channels and single and int(single[1]) % 2:
            self.channels, self.outputs = (1,), 1
        return found

    def self_test(self) -> str:
        """`*TST?`; outputs must be off."""
        self._forget()
        code = self.link.query("*TST?", timeout_s=60.0).strip()
        return "" if code in ("0", "+0") else f"its self-test (*TST?) answers {code}"

    def _set_and_ask(self, settings: Sequence[Setting]) -> tuple[list[str], list[str] | None]:
        """Each channel's commands in a message of its own, all questions in one: one round trip, no very long line."""
        for channel in dict.fromkeys(s.channel for s in settings):
            self.link.write(";".join(s.said() for s in settings if s.channel == channel))
        answers = self.ask(";".join([*(s.asked() for s in settings), ":SYST:ERR?"]), len(settings) + 1)
        code, text = self._error_of(answers[-1])
        return answers[:-1], [text] if code else None

    # -- levels and times ----------------------------------------------------------------------------------------

    @abstractmethod
    def programmed_width_s(self, train: Train) -> float:
        """What this instrument calls the width of a pulse that is `train.width_s` at its top."""

    def enforce(self, compliance_a: float | None, max_v: float) -> None:
        """Program the voltage limits of all channels and read them back; nothing if they are set.

        No generator limits a current: the compliance has to be in the path (bench rule 8).
        """
        del compliance_a
        self._limit_v = min(max_v, self.max_v)
        limits = [s for c in self.channels for s in self._limits(c)]
        if not self._agree(limits):
            self._forget()
            self.set_up([Setting(self.WORDS.output, False, c) for c in self.channels] + self._guarded())

    def _guarded(self) -> list[Setting]:
        w = self.WORDS
        return [
            s
            for c in self.channels
            for s in (Setting(w.load, 0.0, c), Setting(w.function, "PULS", c), *self._limits(c))
        ]

    def _limits(self, channel: int) -> list[Setting]:
        w, most_v = self.WORDS, self._limit_v
        rows: tuple[tuple[Knob, Value], ...] = ((w.limit_high, most_v), (w.limit_low, -most_v), (w.limited, True))
        return [Setting(knob, value, channel) for knob, value in rows]

    def _agree(self, settings: Sequence[Setting]) -> bool:
        answers = self.ask(";".join(s.asked() for s in settings), len(settings))
        return all(s.knob.codec.agrees(s.value, answer) for s, answer in zip(settings, answers, strict=True))

    def program(self, train: Train, *, measure: bool = False) -> None:
        """Outputs off, then everything that makes one kind of pulse; all of it read back. Sends no pulse.

        Raises CapabilityMissing, LimitExceeded, InstrumentError in the instrument's words, LinkLost.
        """
        self._check(train, measure)
        if self._is_loaded(train):
            return
        pairs = list(zip(self.channels, train.levels_v, strict=False))
        settings = [s for channel, level_v in pairs for s in self._channel(channel, level_v, train)]
        proofs = {channel: self._proof(channel, level_v) for channel, level_v in pairs}
        playing = tuple(channel for channel, level_v in pairs if level_v)
        self._set_up_all(settings, _Loaded(train, proofs, playing, self.period_s(train), -1))

    def _is_loaded(self, what: Train | Waves) -> bool:
        return self._loaded is not None and (self._loaded.what, self._loaded.at) == (what, self.link.losses)

    def _set_up_all(self, settings: Sequence[Setting], loaded: _Loaded) -> None:
        self._forget()
        unused = [Setting(self.WORDS.output, False, c) for c in self.channels if c not in loaded.proofs]
        self.set_up([*unused, *settings])
        self._loaded = loaded._replace(at=self.link.losses)

    def load(self, waves: Waves) -> None:
        """Outputs off, then everything that makes the waveforms: samples, rate, levels; all of it read back.

        All channels play on one sample clock, triggered together. Raises as `program` does.
        """
        memory = self.MEMORY
        if memory is None:
            return super().load(waves)
        self._refuse_beyond([v for line in waves.lines for _, v in line], waves.lines)
        if self._is_loaded(waves):
            return None
        found = sampled(waves, memory.clock, self.link.name)
        lines = {c: coded(v, memory.full) for c, v in zip(self.channels, found.lines, strict=False) if v is not None}
        settings = [s for channel, line in lines.items() for s in self._wave(channel, line, found, memory)]
        proofs = {channel: self._wave_proof(channel, line, memory) for channel, line in lines.items()}
        return self._set_up_all(settings, _Loaded(waves, proofs, tuple(lines), found.duration_s, -1))

    def _wave(self, channel: int, line: Coded, samples: Samples, memory: Memory) -> list[Setting]:
        w, codes = self.WORDS, ",".join(map(str, line.codes.tolist()))
        rows: tuple[tuple[Knob, Value], ...] = (
            (memory.samples, f"{self._name_of(codes)},{codes}"),
            (memory.chosen, self._name_of(codes)),
            *memory.ways,
            (memory.rate, PS / samples.period_ps),
        )
        return [
            Setting(w.output, False, channel),
            Setting(w.load, 0.0, channel),
            Setting(w.function, memory.function, channel),
            *self._limits(channel),
            *(Setting(knob, value, channel) for knob, value in rows),
            *self._extremes(channel, line),
            *self._firing(channel),
        ]

    def _extremes(self, channel: int, line: Coded) -> list[Setting]:
        """From the smallest amplitude around 0 V: first the level that is further from it, so HIGH stays above LOW."""
        w = self.WORDS
        high, low = Setting(w.high, line.high_v, channel), Setting(w.low, line.low_v, channel)
        order = (high, low) if line.high_v >= -line.low_v else (low, high)
        return [Setting(w.polarity, "NORM", channel), *order]

    @staticmethod
    def _name_of(codes: str) -> str:
        """A name that samples have to themselves; 12 characters are allowed [memory]."""
        return f"NB{crc32(codes.encode()):08X}"

    def _wave_proof(self, channel: int, line: Coded, memory: Memory) -> _Proof:
        w, codes = self.WORDS, ",".join(map(str, line.codes.tolist()))
        settings = [
            Setting(w.output, True, channel),
            Setting(w.load, 0.0, channel),
            Setting(w.function, memory.function, channel),
            Setting(memory.chosen, self._name_of(codes), channel),
            *self._waits(channel),
            *self._extremes(channel, line),
        ]
        return _Proof(settings, lambda high_v, low_v: line.idle_v(high_v, low_v, memory.full))

    def _check(self, train: Train, measure: bool) -> None:
        if measure:
            raise CapabilityMissing(f"{self.link.name} has no ammeter: it cannot measure in its pulses")
        if not self.min_width_s <= train.width_s <= self.max_width_s:
            allowed = f"{self.min_width_s:g} to {self.max_width_s:g} s"
            raise CapabilityMissing(f"a width of {train.width_s:g} s; {self.link.name} does {allowed}")
        self._refuse_beyond(train.levels_v, train.levels_v)

    def _refuse_beyond(self, levels_v: Iterable[float], outputs: Sequence[object]) -> None:
        if len(outputs) > self.outputs:
            raise CapabilityMissing(f"{len(outputs)} levels at once; {self.link.name} has {self.outputs}")
        highest_v = max(map(abs, levels_v))
        if highest_v > self._limit_v * (1 + 1e-9):
            raise LimitExceeded(
                f"a level of {highest_v:g} V on {self.link.name}, which is limited to {self._limit_v:g} V "
                "([limits] of the bench file, or max_v of the instrument)"
            )

    def _channel(self, channel: int, level_v: float, train: Train) -> list[Setting]:
        w = self.WORDS
        begin = [Setting(w.output, False, channel), Setting(w.load, 0.0, channel)]
        limits = self._limits(channel)
        if not level_v:
            flat = [Setting(knob, value, channel) for knob, value in ((w.offset, 0.0), *w.flat)]
            return [*begin, Setting(w.function, "DC", channel), *limits, *flat]
        pulse = Setting(w.function, "PULS", channel)
        return [
            *begin,
            pulse,
            *limits,
            *self._shape(channel, train),
            *self._levels(channel, level_v),
            *self._firing(channel),
        ]

    def _shape(self, channel: int, train: Train) -> list[Setting]:
        w = self.WORDS
        rows: tuple[tuple[Knob, float], ...] = (
            (w.period, self.period_s(train)),
            (w.width, self.programmed_width_s(train)),
            (w.rise, train.rise_s * LINEAR_10_90),
            (w.fall, train.fall_s * LINEAR_10_90),
        )
        return [Setting(knob, value, channel) for knob, value in rows]

    @staticmethod
    def period_s(train: Train) -> float:
        """Time from pulse to pulse: the pulse, its edges, and time to come to 0 V."""
        return train.width_s + train.rise_s + train.fall_s + GAP_S

    def _levels(self, channel: int, level_v: float) -> list[Setting]:
        """From the smallest pulse around 0 V: first the level that moves away from 0, so that HIGH stays above LOW."""
        w, levels = self.WORDS, levels_of(level_v)
        high, low = Setting(w.high, levels.high_v, channel), Setting(w.low, levels.low_v, channel)
        first, second = (low, high) if levels.inverted else (high, low)
        return [Setting(w.polarity, "INV" if levels.inverted else "NORM", channel), first, second]

    def _firing(self, channel: int) -> list[Setting]:
        return [Setting(knob, value, channel) for knob, value in self.WORDS.firing]

    # -- outputs -------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Outputs on. All that decides the idle level is asked back in the same message, and computed.

        Raises InstrumentError, with the outputs off again, unless every channel waits for a trigger at 0 V.
        """
        loaded = self._loaded
        if loaded is None:
            raise InstrumentError(
                f"{self.link.name}: no pulse is programmed, so its idle level is not proven (program)"
            )
        if self._on and loaded.at == self.link.losses:
            return
        on = ";".join(Setting(self.WORDS.output, True, c).said() for c in loaded.proofs)
        questions = [s.asked() for proof in loaded.proofs.values() for s in proof.settings]
        answers = iter(self.ask(f"{on};{';'.join(questions)}", len(questions)))
        wrong = [fault for proof in loaded.proofs.values() for fault in self._faults(proof, answers)]
        if wrong:
            self.safe()
            raise InstrumentError(f"{self.link.name}: outputs are off again: {'; '.join(wrong)}")
        self._on, self._loaded = True, loaded._replace(at=self.link.losses)

    def _proof(self, channel: int, level_v: float) -> _Proof:
        w = self.WORDS
        state = [Setting(w.output, True, channel), Setting(w.load, 0.0, channel)]
        if not level_v:
            return _Proof([*state, Setting(w.function, "DC", channel), Setting(w.offset, 0.0, channel)])
        pulse = Setting(w.function, "PULS", channel)
        return _Proof([*state, pulse, *self._waits(channel), *self._levels(channel, level_v)])

    def _waits(self, channel: int) -> list[Setting]:
        return [s for s in self._firing(channel) if s.knob is not self.WORDS.count]

    def _faults(self, proof: _Proof, answers: Iterable[str]) -> list[str]:
        answered = {s.knob.name: answer for s, answer in zip(proof.settings, answers, strict=False)}
        asked = [(s, answered[s.knob.name]) for s in proof.settings]
        found = [self._difference(s, answer) for s, answer in asked if not self._agrees(s, answer)]
        return found + self._idle_fault(proof, answered)

    def _idle_fault(self, proof: _Proof, answered: dict[str, str]) -> list[str]:
        w = self.WORDS
        if w.high.name in answered:
            high_v, low_v = self._number(answered[w.high.name]), self._number(answered[w.low.name])
            inverted = answered[w.polarity.name].strip().upper().startswith("INV")
            idle_v = Levels(high_v, low_v, inverted).idle_v if proof.idle is None else proof.idle(high_v, low_v)
        else:
            idle_v = self._number(answered[w.offset.name])
        channel = proof.settings[0].channel
        return [f"channel {channel} would rest at {idle_v:g} V"] if abs(idle_v) > IDLE_V else []

    def _number(self, answer: str) -> float:
        found = number_in(answer)
        if found is None:
            raise garbled(self.link, answer, "a number")
        return found

    def safe(self) -> None:
        """Outputs off, confirmed. A shot whose pulses were going out is marked as cut; nothing else is touched.

        The first attempt goes out at once, whatever answer is still under way; the others clear the line before.
        """
        self._forget()
        try:
            still_on = self._switch_off(self.link.urge)
        except LinkLost:
            still_on = self._switch_off(self._patiently, again=True)
        if still_on and self._switch_off(self._patiently):
            raise InstrumentError(f"{self.link.name}: an output stays on although it was switched off")

    def _patiently(self, message: str, fits: Callable[[str], bool]) -> str:
        answer = self.link.query(message)
        if not fits(answer):
            raise garbled(self.link, answer, "whether its outputs are off")
        return answer

    def _switch_off(self, ask: Callable[[str, Callable[[str], bool]], str], *, again: bool = False) -> bool:
        """Whether an output is still on. `again`: it was told before and its answer was lost.

        If the outputs are off by then, they may have been cut in a burst that has ended behind them since: the status
        byte says nothing any more about what came out.
        """
        outputs = [Setting(self.WORDS.output, False, c) for c in self.channels]
        asked = [*(s.asked() for s in outputs), *self.MARK_QUESTIONS, *self.MARK_QUESTIONS]
        # the status byte before the outputs: a burst that had ended by then was not cut off
        before = [s.asked() for s in outputs] if again else []
        message = ";".join(["*OPC", "*STB?", *before, *(s.said() for s in outputs), *asked])
        answers = split_answers(ask(message, lambda text: self._says_off(text, len(before), len(asked))))
        were = [answers.pop(1) for _ in before]
        unclear = again and all(outputs[0].knob.codec.agrees(False, state) for state in were)
        marks = answers[1 + len(outputs) :]
        self._mark_cut(0 if unclear else int_of(answers[0], self.link), marks)
        states = [s.knob.codec.agrees(False, answer) for s, answer in zip(outputs, answers[1:], strict=False)]
        return not all(states)

    def _says_off(self, text: str, before: int, asked: int) -> bool:
        """Whether it is the answer of `_switch_off`, and not that of an earlier question."""
        status, *states = split_answers(text)
        n, half = before + len(self.channels), len(self.MARK_QUESTIONS)
        flags, marks = states[:n], states[n:]
        whole = is_number(status) and len(states) == before + asked and marks[:half] == marks[half:]
        return whole and all(state.strip() in ("0", "1") for state in flags)

    def _mark_cut(self, stb: int, answers: list[str]) -> None:
        half = len(self.MARK_QUESTIONS)
        mark = self.read_mark(answers[:half])
        if stb & ESB or mark is None or mark.state != "fired" or answers[:half] != answers[half:]:
            return
        cut = self.write_mark(mark._replace(state="cut"))
        self.link.write(";".join([cut, self.ABORT]) if self.ABORT else cut)

    def _forget(self) -> None:
        self._loaded, self._armed, self._on = None, None, False

    # -- firing --------------------------------------------------------------------------------------------------

    @abstractmethod
    def first_mark(self, seq: int) -> Mark:
        """The mark with which the counting of a stimulus begins."""

    @abstractmethod
    def write_mark(self, mark: Mark) -> str:
        """The command that writes it; if it is several, every beginning of them is true as well."""

    @abstractmethod
    def read_mark(self, answers: Sequence[str]) -> Mark | None:
        """The mark in the answers to MARK_QUESTIONS; None: it is not one of ours."""

    def baseline(self, seq: int) -> Witness:
        """Begin to count: shot 0 of `seq` is next. May be repeated until the first trigger."""
        mark = self.first_mark(seq)
        found = self._evidence(f"{self.write_mark(mark)};*ESE 1;*CLS")
        if found.mark != mark or found.ese != 1 or found.ended:
            raise LinkLost(f"{self.link.name}: the count of step {seq} did not begin (it answers {found})")
        self._mark, self._armed, self._flying = mark, None, None
        return Witness(0, mark.nonce)

    def arm(self, seq: int, shot: int, pulses: int) -> None:
        """Keep in mind what `trigger` will send. Raises UsageError for what was not staged."""
        mark, loaded = self._mark, self._loaded
        if mark is None or mark.seq not in (seq, -1):
            raise UsageError(f"{self.link.name}: the count of step {seq} was not begun (baseline)")
        if not self._on or loaded is None:
            raise InstrumentError(f"{self.link.name}: its outputs are off: shot {shot} of step {seq} would be lost")
        if not 1 <= pulses <= self.max_pulses:
            raise CapabilityMissing(f"{pulses} pulses by one trigger; {self.link.name} does 1 to {self.max_pulses}")
        states: tuple[State, ...] = ("idle", "armed", "fired")
        idle, armed, fired = (self.write_mark(mark._replace(shot=shot, state=state)) for state in states)
        counts = self._counts(loaded, pulses)
        message = ";".join([idle, "*CLS", armed, *(s.said() for s in counts), "*TRG", fired, "*OPC"])
        self._armed = _Flight(seq, shot, counts, message)

    def trigger(self) -> None:
        """Arm and trigger in one message without an answer. Never repeated: it has to be armed again."""
        flight = self._armed
        if flight is None:
            raise UsageError(f"{self.link.name}: nothing is armed")
        self._armed, self._flying = None, flight
        self.link.write(flight.message)

    def _counts(self, loaded: _Loaded, pulses: int) -> list[Setting]:
        return [Setting(self.WORDS.count, float(pulses), channel) for channel in loaded.playing]

    def done(self) -> bool:
        """Whether the triggered shot has ended. Raises LinkLost if its trigger did not arrive: `tally` knows more."""
        flight, mark = self._flying, self._mark
        if flight is None or mark is None:
            raise UsageError(f"{self.link.name}: nothing was triggered")
        found = self._evidence("*OPC", flight.counts)
        if found.ese != 1 or found.mark != mark._replace(shot=flight.shot, state="fired"):
            raise LinkLost(
                f"{self.link.name}: the trigger of shot {flight.shot} of step {flight.seq} is not seen there"
            )
        if found.differences:
            raise InstrumentError(f"{self.link.name} fired another number of pulses: {'; '.join(found.differences)}")
        if found.ended and found.errors_wait:
            self._refuse_ignored_trigger()
        return found.ended

    def _refuse_ignored_trigger(self) -> None:
        # other errors may be old ones, or somebody else's: they do not count against us
        said = [text for text in self.errors() if int(text.split(",")[0]) in TRIGGER_ERRORS]
        if said:
            raise InstrumentError(f"{self.link.name} did not take the trigger: {'; '.join(said)}")

    def tally(self, seq: int, witness: Witness, repeats: Sequence[int]) -> Tally:
        """How many whole shots of `seq` were fired, by the mark and the status byte."""
        found = self._evidence()
        doubt = self._doubt(found, seq, witness, len(repeats))
        if doubt or found.mark is None:
            return Tally(0, 0, doubt)
        mark = found.mark
        if mark.seq not in (-1, seq):
            return Tally(0)
        if mark.state == "idle":
            return Tally(mark.shot)
        if mark.state == "cut":
            return Tally(mark.shot, 0, f"the outputs were switched off while pulses of shot {mark.shot} were going out")
        if mark.state == "armed":
            return Tally(mark.shot, 0, f"the message that triggers shot {mark.shot} ended before or at its trigger")
        if found.ended or self._ends(mark, repeats[mark.shot]):
            return Tally(mark.shot + 1)
        return Tally(mark.shot, 0, f"shot {mark.shot} was triggered, and its end is not reported")

    def _doubt(self, found: Evidence, seq: int, witness: Witness, shots: int) -> str:
        mark = found.mark
        if found.ese != 1:
            return "the generator was restarted: its status enable register is empty"
        if mark is None:
            return "the generator's mark is gone: another program or the front panel wrote over it"
        if mark.nonce != witness.nonce or mark.seq > seq:
            return "another count was begun on the generator since"
        if mark.seq in (-1, seq) and mark.shot >= shots + (mark.state == "idle"):
            return f"the generator's mark names shot {mark.shot} of {shots}"
        return ""

    def _ends(self, mark: Mark, pulses: int) -> bool:
        """Whether a shot that was going out when it was asked for has ended after the time that it takes.

        Another process does not know that time; there, `safe` has marked what was going out.
        """
        if self._evidence("*OPC").ended:
            return True
        lasts_s = pulses * self._loaded.period_s + WAIT_SLICE_S if self._loaded else 0.0
        end_s = self.link.clock.now_s() + lasts_s
        while (left_s := end_s - self.link.clock.now_s()) > 0:
            self.link.clock.sleep(min(left_s, WAIT_SLICE_S))
        found = self._evidence()
        return found.mark == mark and found.ended

    def _evidence(self, first: str = "", more: Sequence[Setting] = ()) -> Evidence:
        """Ask for the mark and the status byte, each twice: a garbled answer is not believed.

        `more`: settings to ask for as well; what they differ in is in the evidence.
        """
        once = ("*STB?", "*ESE?", *self.MARK_QUESTIONS)
        questions = [*once, *(s.asked() for s in more), *once]
        answers = self.ask(";".join([first, *questions] if first else questions), len(questions))
        before, after = answers[: len(once)], answers[-len(once) :]
        if before[1:] != after[1:]:
            raise garbled(self.link, ";".join(answers), "the same mark twice")
        pairs = zip(more, answers[len(once) :], strict=False)
        wrong = tuple(self._difference(s, answer) for s, answer in pairs if not self._agrees(s, answer))
        stb, ese = self._register(before[0]) & self._register(after[0]), self._register(before[1])
        return Evidence(self.read_mark(before[2:]), bool(stb & ESB), ese, bool(stb & EAV), wrong)

    def _register(self, answer: str) -> int:
        value = int_of(answer, self.link)
        if not 0 <= value <= 255:
            raise garbled(self.link, answer, "a status register of 8 bits")
        return value


def number_in(answer: str) -> float | None:
    """The number that an answer is, None if it is none."""
    return float(answer) if is_number(answer) else None
