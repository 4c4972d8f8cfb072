"""SCPI instruments: the commands of IEEE 488.2, the subsystems that all have, and how an instrument declares its own.

    @dataclass
    class Channel:
        level_v: float = 0.0
        max_v: float = 5.0
        def moved(self) -> None: ...

    class Blinker(ScpiInstrument):
        MODEL, IDN, ROLE = "acme-blinker", "ACME,Blinker,{serial},1.0", "pulse"
        SETTINGS = (
            Setting("[:SOURce#]:VOLTage[:LEVel]", "level_v", Number("V", low=0, high="max_v", default=0),
                    part="channels", changed="moved"),
            Setting(":DISPlay:TEXT", "shown", Text()),
        )

        def build(self) -> None:                 before the first reset, which gives every setting its default
            self.channels = [Channel(), Channel()]

        @scpi(":BLINk#2", event=True)            event: no query; `?` at the end of a pattern: query only
        def blink(self, call: Call) -> None:
            times = call.number(0, low=1, high=100, integer=True)
            self.channels[call.suffixes[0] - 1] ...

        @scpi(":MEASure:{VOLTage|CURRent}?", params=2)        params: how many parameters at most (default 1)
        def measure(self, call: Call) -> str:
            channels = call.channels(0)          (@1,2)
            return self.format_number(self.volts() if call.choices[0] == "VOLT" else self.amps())

A handler returns what it answers (str or bytes), None for nothing, and raises ScpiError(-222, "Data out of range; ...")
to refuse. A command error (-1xx) drops the rest of its message; any other error only its own command. Patterns are
explained in `grammar.Pattern`. A handler may be overridden by its name; a subclass's patterns come first.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, ClassVar, TypeVar

from . import grammar
from .grammar import Match, Pattern, Range, block, match_word, quoted
from .instrument import SimInstrument
from .status import ErrorEntry, Register, ScpiError

__all__ = [
    "Boolean", "Call", "Ieee488", "Number", "ScpiError", "ScpiInstrument", "Setting", "Text", "Words",
    "block", "match_word", "quoted", "scpi",
]  # fmt: skip

Answer = str | bytes | None
Handler = TypeVar("Handler", bound=Callable[..., Answer])
Bound = float | str  # a number, or the name of an attribute of the object that the setting belongs to


@dataclass(frozen=True, slots=True)
class Call:
    """One command as it came in. Parameters are counted from 0; a missing one is -109."""

    header: str
    query: bool
    args: tuple[str, ...] = ()
    suffixes: tuple[int, ...] = ()
    choices: tuple[str, ...] = ()

    def arg(self, i: int) -> str:
        """Parameter i as typed."""
        if i >= len(self.args) or not self.args[i]:
            raise ScpiError(-109)
        return self.args[i]

    def number(
        self,
        i: int = 0,
        unit: str = "",
        *,
        low: float = -math.inf,
        high: float = math.inf,
        default: float | None = None,
        integer: bool = False,
        infinite: bool = False,
    ) -> float:
        """A number in the unit (`V|VPP`: one of these), also MIN, MAX, DEF; INF where `infinite`."""
        return Range(low, high, default, unit, integer, infinite).read(self.arg(i))

    def boolean(self, i: int = 0) -> bool:
        """ON, OFF, 1, 0."""
        return grammar.truth(self.arg(i))

    def word(self, i: int, *words: str) -> str:
        """The short form of the word that was given, of those written as `PULSe`."""
        found = match_word(self.arg(i), *words)
        if found is None:
            raise ScpiError(-224)
        return found

    def text(self, i: int = 0) -> str:
        """The contents of a quoted string."""
        return grammar.unquoted(self.arg(i))

    def channels(self, i: int = 0, known: Container[int] | None = None) -> list[int]:
        """A channel list; `known`: the channels that there are (see `grammar.channel_list`)."""
        return grammar.channel_list(self.arg(i), known)

    def block(self, i: int = 0) -> bytes:
        """The data of a definite-length block."""
        return grammar.unblocked(self.arg(i))


# ---------------------------------------------------------------------------------------------- rules


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern, what of set and query it allows, how many parameters, and what is done."""

    pattern: Pattern
    sets: bool
    queries: bool
    params: int | None
    act: Callable[[Any, Call], Answer]


def scpi(*patterns: str, params: int | None = 1, event: bool = False) -> Callable[[Handler], Handler]:
    """Declare a method as the handler of these headers; `params`: at most so many, None: any number.

    The method takes the call, or nothing but itself if it does not look at it.
    """

    def mark(handler: Handler) -> Handler:
        name = handler.__name__
        asks = len(signature(handler).parameters) > 1

        def act(instrument: Any, call: Call) -> Answer:
            method = getattr(instrument, name)
            answer: Answer = method(call) if asks else method()
            return answer

        rules = [
            Rule(Pattern(text.removesuffix("?")), not text.endswith("?"), not event, params, act) for text in patterns
        ]
        setattr(handler, "_scpi_rules", rules)  # noqa: B010 (a function has no such attribute for the type checker)
        return handler

    return mark


class Kind(ABC):
    """What values a setting has: how a parameter is read and how a query is answered."""

    default: Any

    @abstractmethod
    def read(self, call: Call) -> Any:
        """The value that a command gives."""

    @abstractmethod
    def show(self, value: Any) -> str | float:
        """What the query answers; a float is formatted by the instrument."""


@dataclass(frozen=True)
class Number(Kind):
    """A number with its unit and range. A bound may be the name of an attribute. `form`: format of the answer."""

    unit: str = ""
    low: Bound = -math.inf
    high: Bound = math.inf
    default: float = 0.0
    integer: bool = False
    infinite: bool = False
    form: str = ""

    def of(self, target: object) -> Number:
        """With the bounds that this object has now."""
        low, high = (getattr(target, bound) if isinstance(bound, str) else bound for bound in (self.low, self.high))
        return replace(self, low=low, high=high)

    @property
    def range(self) -> Range:
        """Its values."""
        return Range(float(self.low), float(self.high), self.default, self.unit, self.integer, self.infinite)

    def read(self, call: Call) -> float:
        """The value in the unit."""
        return self.range.read(call.arg(0))

    def show(self, value: float) -> str | float:
        """The value; infinity is 9.9E37."""
        shown = math.copysign(grammar.INFINITY, value) if math.isinf(value) else value
        return format(shown, self.form) if self.form else shown

    def bound(self, call: Call) -> float:
        """What `VOLT? MAX` asks for."""
        named = self.range.named(call.arg(0))
        if named is None:
            raise ScpiError(-224)
        return named


@dataclass(frozen=True)
class Boolean(Kind):
    """ON or OFF; the query answers 1 or 0."""

    default: bool = False

    def read(self, call: Call) -> bool:
        """The state."""
        return call.boolean(0)

    def show(self, value: bool) -> str:
        """1 or 0."""
        return "1" if value else "0"


class Words(Kind):
    """One of some words, written as `PULSe`; kept and answered in the short form. The first is the default."""

    def __init__(self, *words: str, default: str = "") -> None:
        self.words = words
        self.default = grammar.short_form(default or words[0])

    def read(self, call: Call) -> str:
        """The short form."""
        return call.word(0, *self.words)

    def show(self, value: str) -> str:
        """The short form."""
        return value


@dataclass(frozen=True)
class Text(Kind):
    """A string of at most `longest` characters."""

    default: str = ""
    longest: int = 255

    def read(self, call: Call) -> str:
        """What is between the quotes."""
        text = call.text(0)
        if len(text) > self.longest:
            raise ScpiError(-223)
        return text

    def show(self, value: str) -> str:
        """In double quotes."""
        return quoted(value)


@dataclass(frozen=True, slots=True)
class Setting:
    """A plain setting: header pattern, attribute, kind.

    `part`: the instrument's attribute that is a sequence of objects, one per (first) header suffix, which hold the
    attribute; empty: the instrument itself holds it. `changed`: method of that object to call after a new value.
    *RST gives the default of the kind (without calling `changed`), unless `kept`.
    """

    pattern: str
    attribute: str
    kind: Kind
    part: str = ""
    changed: str = ""
    kept: bool = False

    def targets(self, instrument: object) -> list[object]:
        """All objects that have this setting."""
        return list(getattr(instrument, self.part)) if self.part else [instrument]

    def restore(self, instrument: object) -> None:
        """Give every target the default."""
        for target in self.targets(instrument):
            setattr(target, self.attribute, self.kind.default)

    def act(self, instrument: Any, call: Call) -> Answer:
        """Set or answer."""
        targets = self.targets(instrument)
        index = call.suffixes[0] - 1 if self.part and call.suffixes else 0
        if index >= len(targets):
            raise ScpiError(-114)
        target = targets[index]
        kind = self.kind.of(target) if isinstance(self.kind, Number) else self.kind
        if not call.query:
            self._change(target, kind.read(call))
            return None
        value = getattr(target, self.attribute)
        if call.args:
            if not isinstance(kind, Number):
                raise ScpiError(-108)
            value = kind.bound(call)
        shown = kind.show(value)
        return shown if isinstance(shown, str) else str(instrument.format_number(shown))

    def _change(self, target: object, value: Any) -> None:
        setattr(target, self.attribute, value)
        if self.changed:
            getattr(target, self.changed)()

    def rule(self) -> Rule:
        """The rule of its header."""
        return Rule(Pattern(self.pattern), True, True, 1, self.act)


# ---------------------------------------------------------------------------------------------- instruments


def _rules(cls: type) -> list[Rule]:
    """All rules of a class: its own before those of its bases, settings after handlers."""
    found: list[Rule] = []
    for base in cls.__mro__:
        for member in vars(base).values():
            found += getattr(member, "_scpi_rules", ())
        found += [setting.rule() for setting in vars(base).get("SETTINGS", ())]
    return found


_KEPT_LOOKUPS = 4096  # spellings remembered per class


class Ieee488(SimInstrument):
    """An instrument that knows the common commands, and any others that are declared with @scpi or SETTINGS."""

    SETTINGS: ClassVar[tuple[Setting, ...]] = ()
    _RULES: ClassVar[list[Rule]]
    _SEEN: ClassVar[dict[tuple[str, bool], tuple[Rule, Match]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._RULES, cls._SEEN = _rules(cls), {}

    def format_number(self, value: float) -> str:
        """How a number is answered; an integer setting as well."""
        return f"{value:+.14E}"

    def format_error(self, entry: ErrorEntry) -> str:
        """How an entry of the error queue is answered."""
        return f"{entry.code:+d},{quoted(entry.text)}"

    def reset(self) -> None:
        """Every setting gets its default, but for those that are kept."""
        super().reset()
        self._restore(kept=False)

    def switched_on(self) -> None:
        """The settings that *RST keeps get theirs."""
        super().switched_on()
        self._restore(kept=True)

    def _restore(self, *, kept: bool) -> None:
        for cls in reversed(type(self).__mro__):
            for setting in vars(cls).get("SETTINGS", ()):
                if setting.kept == kept:
                    setting.restore(self)

    # ---- messages

    def _end_of_message(self, buffer: bytearray) -> int:
        return grammar.message_end(buffer)

    def _trimmed(self, message: bytes) -> bytes:
        """As it is: a carriage return is white space, or the last byte of a block."""
        return message

    def execute(self, message: bytes) -> Iterator[None]:
        """Carry out the commands of one message and send their answers as one line."""
        if not message.strip():
            return
        self._interrupt()
        answers: list[bytes] = []
        path = ""
        reader = grammar.commands(message.decode("latin-1"))
        while True:
            command: grammar.Command | None = None

            def one() -> None:
                nonlocal command, path
                command = next(reader, None)
                if command is not None:
                    full, path = _full_header(command.header, path)
                    answers.extend(self._answer(full, command.args))

            code = self.guarded(one)
            yield
            if command is None or -200 < code <= -100:
                break
        if answers:
            self.reply(b";".join(answers))

    def _interrupt(self) -> None:
        """A new message came before the answer to the last one was read: that answer is lost."""
        if self.replies and not self.streaming:
            self.replies.clear()
            self.status.error(-410)

    def _answer(self, header: str, args: tuple[str, ...]) -> list[bytes]:
        query = header.endswith("?")
        rule, match = self._find(header.removesuffix("?"), query)
        if rule.params is not None and len(args) > rule.params:
            raise ScpiError(-108)
        answer = rule.act(self, Call(header, query, args, match.suffixes, match.choices))
        if answer is None or not query:
            return []
        return [answer if isinstance(answer, bytes) else _line(answer)]

    def _find(self, header: str, query: bool) -> tuple[Rule, Match]:
        seen = self._SEEN.get((header, query))
        if seen is not None:
            return seen
        refused = ScpiError(-113, f"Undefined header; {header}{'?' if query else ''}")
        for rule in self._RULES:
            if not (rule.queries if query else rule.sets):
                continue
            try:
                match = rule.pattern.match(header)
            except ScpiError as out_of_range:
                refused = out_of_range
                continue
            if match is not None:
                if len(self._SEEN) < _KEPT_LOOKUPS:
                    self._SEEN[header, query] = rule, match
                return rule, match
        raise refused

    # ---- common commands

    @scpi("*IDN?", params=0)
    def _idn(self) -> str:
        return self.identity

    @scpi("*RST", params=0, event=True)
    def _rst(self) -> None:
        self.reset()

    @scpi("*CLS", params=0, event=True)
    def _cls(self) -> None:
        self.status.clear()

    @scpi("*ESE")
    def _ese(self, call: Call) -> str:
        if not call.query:
            self.status.ese = int(call.number(0, low=0, high=255, integer=True))
        return str(self.status.ese)

    @scpi("*SRE")
    def _sre(self, call: Call) -> str:
        if not call.query:
            self.status.sre = int(call.number(0, low=0, high=255, integer=True)) & ~0x40
        return str(self.status.sre)

    @scpi("*ESR?", params=0)
    def _esr(self) -> str:
        return str(self.status.take_esr())

    @scpi("*STB?", params=0)
    def _stb(self) -> str:
        return str(self.status.stb())

    @scpi("*OPC", params=0)
    def _opc(self, call: Call) -> str:
        if call.query:
            self.ask_wait()
        else:
            self.status.ask_opc()
        return "1"

    @scpi("*WAI", params=0, event=True)
    def _wai(self) -> None:
        self.ask_wait()

    @scpi("*TRG", params=0, event=True)
    def _trg(self) -> None:
        self.triggered()

    @scpi("*OPT?", params=0)
    def _options(self) -> str:
        return "0"

    @scpi("*PSC")
    def _psc(self, call: Call) -> str:
        """Whether a power-on clears the enable registers: it always does here."""
        if not call.query:
            call.number(0, low=-32767, high=32767)
        return "1"

    @scpi("*TST?", params=0)
    def _tst(self) -> str:
        return str(self.self_test())


def _full_header(typed: str, path: str) -> tuple[str, str]:
    """The whole header in capitals, and the path that the next command of the message begins with."""
    header = typed.upper()
    if header.lstrip(":").startswith("*"):
        return header.lstrip(":"), path
    full = header if header.startswith(":") else f"{path}:{header}"
    return full, full[: full.rindex(":")]


def _line(answer: str) -> bytes:
    """An answer as bytes: it may quote what came in, and must stay one line of ASCII."""
    return answer.replace("\n", " ").replace("\r", " ").encode("ascii", "replace")


class ScpiInstrument(Ieee488):
    """An instrument with the SYSTem and STATus subsystems of SCPI."""

    @scpi("SYSTem:ERRor[:NEXT]?", params=0)
    def _next_error(self) -> str:
        return self.format_error(self.status.next_error())

    @scpi("SYSTem:ERRor:ALL?", params=0)
    def _all_errors(self) -> str:
        first = self.format_error(self.status.next_error())
        return ",".join([first, *(self.format_error(self.status.next_error()) for _ in list(self.status.errors))])

    @scpi("SYSTem:ERRor:CODE[:NEXT]?", params=0)
    def _error_code(self) -> str:
        return f"{self.status.next_error().code:+d}"

    @scpi("SYSTem:ERRor:COUNt?", params=0)
    def _error_count(self) -> str:
        return str(len(self.status.errors))

    @scpi("SYSTem:VERSion?", params=0)
    def _version(self) -> str:
        return "1999.0"

    @scpi("STATus:PRESet", params=0, event=True)
    def _preset(self) -> None:
        self.status.preset()

    def _register(self, call: Call) -> Register:
        return self.status.operation if call.choices[0] == "OPER" else self.status.questionable

    @scpi("STATus:{OPERation|QUEStionable}[:EVENt]?", params=0)
    def _event(self, call: Call) -> str:
        return str(self._register(call).take_event())

    @scpi("STATus:{OPERation|QUEStionable}:CONDition?", params=0)
    def _condition(self, call: Call) -> str:
        return str(self._register(call).condition)

    @scpi("STATus:{OPERation|QUEStionable}:ENABle")
    def _enable(self, call: Call) -> str:
        register = self._register(call)
        if not call.query:
            register.enable = int(call.number(0, low=0, high=65535, integer=True)) & 0x7FFF
        return str(register.enable)
