"""Commands of instruments as data, one row per knob, and the two dialects that set and check them."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from neurobench.errors import BenchFault, InstrumentError, LinkLost, UsageError

from ._link import Link, float_of, garbled, is_number
from ._roles import Identification, Instrument

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection

MOST_ERRORS = 50
"""More entries than any of the queues holds: a queue that goes on is broken."""

Value = float | bool | str


class Codec(Protocol):
    """How a value is written to an instrument, and whether an answer means the same."""

    def say(self, value: Value) -> str:
        """The value in the instrument's words."""

    def agrees(self, value: Value, answer: str) -> bool | None:
        """Whether the answer means this value; None: it is no answer of this kind at all."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number; `resolution` is how far, relative to it, the instrument may round it."""

    resolution: float = 1e-5

    def say(self, value: Value) -> str:
        """Nine digits: more than any of the instruments resolves."""
        return f"{float(value):.9g}"

    def agrees(self, value: Value, answer: str) -> bool | None:
        """Equal within the resolution."""
        found = _number(answer)
        return None if found is None else abs(found - float(value)) <= self.resolution * abs(float(value))


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A range: asked for by a value that it has to hold, answered with its full scale."""

    def say(self, value: Value) -> str:
        """As a number."""
        return Number().say(value)

    def agrees(self, value: Value, answer: str) -> bool | None:
        """Holds the value."""
        found = _number(answer)
        return None if found is None else found >= float(value) * (1 - 1e-6)


@dataclass(frozen=True, slots=True)
class Flag:
    """On or off: written `on` or `off`, answered 1, 0, 1.00000e+00, ON, OFF, true or false."""

    on: str = "1"
    off: str = "0"

    def say(self, value: Value) -> str:
        """The word for it."""
        return self.on if value else self.off

    def agrees(self, value: Value, answer: str) -> bool | None:
        """The same state."""
        word = {"ON": 1.0, "TRUE": 1.0, "OFF": 0.0, "FALSE": 0.0}.get(answer.strip().upper())
        found = _number(answer) if word is None else word
        return None if found not in (0.0, 1.0) else bool(found) == bool(value)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the instrument's language; the answer may be its short or its long form, quoted or not."""

    def say(self, value: Value) -> str:
        """The word as it is."""
        return str(value)

    def agrees(self, value: Value, answer: str) -> bool | None:
        """One is the beginning of the other ("CURR" and "CURR:DC")."""
        asked, found = (text.strip().strip("\"'").upper() for text in (str(value), answer))
        if not re.fullmatch(r"[A-Z0-9_:.,\-+ ]+", found, re.ASCII):
            return None
        return found.startswith(asked) or asked.startswith(found)


def model_in(field: str) -> str:
    """The model in the second field of an answer to `*IDN?`; some makers write MODEL before it."""
    return re.sub(r"(?i)^model\s+", "", field.strip())


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing that can be set and read back.

    In `set`, `{v}` stands for the value and `{c}` for the channel; `get` is the question (SCPI) or expression (TSP)
    that gives it back.
    """

    name: str
    set: str
    get: str
    unit: str = ""
    low: float = -inf
    high: float = inf
    codec: Codec = field(default_factory=Number)
    doc: str = ""

    def checked(self, value: Value) -> Value:
        """The value, if it is allowed. Raises UsageError with the allowed range."""
        if isinstance(value, float | int) and not self.low <= value <= self.high:
            allowed = f"{self.low:g} to {self.high:g} {self.unit}".strip()
            raise UsageError(f"{self.name} = {value:g} {self.unit}: this instrument does {allowed}")
        return value


class Setting(NamedTuple):
    """A knob, the value it is to have, and the channel whose knob it is."""

    knob: Knob
    value: Value
    channel: str | int = ""

    def said(self) -> str:
        """The command that sets it."""
        return self.knob.set.format(v=self.knob.codec.say(self.knob.checked(self.value)), c=self.channel)

    def asked(self) -> str:
        """The question that gives it back."""
        return self.knob.get.format(c=self.channel)


class Dialect(Instrument):
    """What both dialects share: set up, read back, compare, in one exchange; errors are raised, not logged."""

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        self._known: dict[tuple[str, str | int], Value] = {}
        self._losses = link.losses  # a lost answer may mean a restart

    def identify(self) -> Identification:
        """Ask `*IDN?`; asks once more before it believes in a wrong instrument."""
        try:
            return self._identified(self.link.query("*IDN?"))
        except InstrumentError:
            return self._identified(self.link.query("*IDN?"))

    def set_up(self, settings: Sequence[Setting]) -> None:
        """Set all, read all back and ask for errors, in one message.

        Errors may be old ones, or the queue may have overflowed: then it is emptied and all is done once more.
        Raises InstrumentError in the instrument's words, or naming what it did not take; LinkLost if it was not heard.
        """
        wrong = self._attempt(settings)
        if wrong:
            wrong = self._attempt(settings)
        if wrong:
            raise InstrumentError(f"{self.link.name}: {'; '.join(wrong)}")

    def ensure(self, settings: Sequence[Setting]) -> None:
        """Set up those of the settings that are not known to be so already; nothing is sent if all are."""
        if self._losses != self.link.losses:
            self.forget()
        missing = [s for s in settings if self._known.get((s.knob.name, s.channel)) != s.value]
        if not missing:
            return
        for s in missing:
            self._known.pop((s.knob.name, s.channel), None)
        self.set_up(missing)
        self._known |= {(s.knob.name, s.channel): s.value for s in missing}

    def forget(self) -> None:
        """How the instrument is set is not known any more: `ensure` sets everything anew."""
        self._known.clear()
        self._losses = self.link.losses

    def lose(self, *knobs: Knob) -> None:
        """How these knobs are set is not known any more."""
        names = {knob.name for knob in knobs}
        self._known = {place: value for place, value in self._known.items() if place[0] not in names}

    def explained(self, lost: LinkLost) -> BenchFault:
        """The error of an exchange that had no answer, with the words that the instrument has for it.

        It stays a LinkLost, which may be asked again: the words can be old ones.
        """
        self.forget()
        said = self.errors()
        return LinkLost(f"{lost}; it says: {'; '.join(said)}") if said else lost

    def check(self) -> None:
        """Raise InstrumentError if its error queue holds anything."""
        said = self.errors()
        if said:
            raise InstrumentError(f"{self.link.name} says: {'; '.join(said)}")

    def set_checked(self, knob: Knob, value: Value, channel: str | int = "") -> None:
        """Set one knob, read it back, compare."""
        self.set_up([Setting(knob, value, channel)])

    def errors(self) -> list[str]:
        """Take all entries out of the error queue."""
        found: list[str] = []
        for _ in range(MOST_ERRORS):
            code, text = self._next_error()
            if code == 0:
                break
            found.append(text)
        return found

    def _attempt(self, settings: Sequence[Setting]) -> list[str]:
        # what went wrong, in words; the queue is empty afterwards if there was anything in it
        try:
            answers, said = self._set_and_ask(settings)
        except LinkLost:
            said = self.errors()  # a command it did not understand costs the answers of the whole message
            if not said:
                raise
            return [f"it says: {text}" for text in said]
        if said is not None:
            return [f"it says: {text}" for text in [*said, *self.errors()]] or ["it has an error without words"]
        return [self._difference(s, a) for s, a in zip(settings, answers, strict=True) if not self._agrees(s, a)]

    def _agrees(self, setting: Setting, answer: str) -> bool:
        agrees = setting.knob.codec.agrees(setting.value, answer)
        if agrees is None:
            raise garbled(self.link, answer, f"the {setting.knob.name}")
        return agrees

    def _difference(self, setting: Setting, answer: str) -> str:
        asked = setting.knob.codec.say(setting.value)
        return f"{setting.knob.name} was set to {asked} {setting.knob.unit} and reads back {answer.strip()}"

    def _identified(self, answer: str) -> Identification:
        parts = [part.strip() for part in answer.split(",")]
        if len(parts) != 4 or not all(parts[:3]):
            raise garbled(self.link, answer, "maker, model, serial number and firmware")
        maker, model, serial, firmware = parts
        model = model_in(model)
        if not any(re.fullmatch(known, model) for known in self.MODELS):
            raise InstrumentError(
                f"{self.link.name}: {model} (serial {serial}) answers, the bench file says model = "
                f"{self.section.model!r}: correct [instruments] model or resource"
            )
        if self.section.serial and serial != self.section.serial:
            raise InstrumentError(
                f"{self.link.name}: serial number {serial} answers, the bench file says serial = "
                f"{self.section.serial!r}: another instrument of this kind is on the line"
            )
        return Identification(maker, model, serial, firmware, serial.startswith("NBSIM"))

    @abstractmethod
    def _set_and_ask(self, settings: Sequence[Setting]) -> tuple[list[str], list[str] | None]:
        """One message: set all, ask all, ask for errors. The answers; None, or errors with those taken out already."""

    @abstractmethod
    def _next_error(self) -> tuple[int, str]:
        """The oldest entry of the error queue, taken out; code 0: it is empty."""


class Scpi(Dialect):
    """Instruments that speak SCPI (SCPI-99, IEEE 488.2). All commands of knobs begin with a colon."""

    ERRORS: ClassVar[str] = ":SYST:ERR?"

    def _set_and_ask(self, settings: Sequence[Setting]) -> tuple[list[str], list[str] | None]:
        parts = [s.said() for s in settings] + [s.asked() for s in settings] + [self.ERRORS]
        answers = self.ask(";".join(parts), len(settings) + 1)
        code, text = self._error_of(answers[-1])
        return answers[:-1], [text] if code else None

    def _next_error(self) -> tuple[int, str]:
        return self._error_of(self.link.query(self.ERRORS))

    def ask(self, message: str, n: int, timeout_s: float | None = None) -> list[str]:
        """A message with n questions: their n answers, which come joined by semicolons."""
        text = self.link.query(message, timeout_s)
        answers = split_answers(text)
        if len(answers) != n:
            raise garbled(self.link, text, f"{n} answers")
        return answers

    def _error_of(self, answer: str) -> tuple[int, str]:
        found = re.fullmatch(r'\s*([+-]?\d+)\s*,\s*"(.*)"\s*', answer)
        if found is None:
            raise garbled(self.link, answer, "an error number and its text")
        return int(found[1]), f"{int(found[1])}, {found[2]}"


class Tsp(Dialect):
    """Instruments that run Lua (Keithley's TSP): one line is one chunk, and answers only to print()."""

    def _set_and_ask(self, settings: Sequence[Setting]) -> tuple[list[str], list[str] | None]:
        expressions = [s.asked() for s in settings] + ["errorqueue.count"]
        chunk = " ".join([s.said() for s in settings] + [f"print({', '.join(expressions)})"])
        answers = self.ask(chunk, len(expressions))
        return answers[:-1], [] if float_of(answers[-1], self.link) else None

    def _next_error(self) -> tuple[int, str]:
        code, text = self.ask("print(errorqueue.next())", None)[:2]
        return int(float_of(code, self.link)), f"{int(float_of(code, self.link))}, {text}"

    def ask(self, chunk: str, n: int | None, timeout_s: float | None = None) -> list[str]:
        """A chunk that prints n values in one line (None: at least two): the values."""
        text = self.link.query(chunk, timeout_s)
        values = [value.strip() for value in text.split("\t")]
        if len(values) != n and not (n is None and len(values) > 1):
            raise garbled(self.link, text, f"{n or 'several'} values")
        return values


def split_answers(text: str) -> list[str]:
    """Cut the answer to a compound question at its semicolons, but not inside quotes."""
    return [part.strip() for part in re.findall(r'(?:"[^"]*"|[^";]|")+', text)]


def _number(text: str) -> float | None:
    return float(text) if is_number(text) else None
