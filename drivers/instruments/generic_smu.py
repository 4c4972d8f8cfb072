"""Any SMU with one channel that speaks SCPI, described by a TOML file: reads, no pulses.

`docs/generic-smu.toml` is an example with all keys. The bench file names it: `[instruments.smu] description`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from neurobench.errors import BenchFault, ConfigError, InstrumentError, LinkLost

from ._link import Link, floats_of, garbled
from ._roles import Identification, Sweep
from ._smu import MeteringSmu, mean_sweep
from ._table import AtLeast, Codec, Flag, Knob, Number, Scpi, Setting

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection

MESSAGE_S = 1.0  # longer reads are cut into several messages


def _template(text: str) -> str:
    names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    if names != ["value"]:
        raise ValueError("a command with exactly one {value}, such as ':SOUR:VOLT {value}'")
    return text


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    return text


def _question(text: str) -> str:
    if not re.search(r"\?(\s|$)", text):
        raise ValueError("a question, with a '?'")
    return text


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(values) or min(values) <= 0:
        raise ValueError("positive currents, smallest first")
    return values


Template = Annotated[str, AfterValidator(_template)]
Question = Annotated[str, AfterValidator(_question)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class IdentitySection(_Part):
    """[identity]"""

    idn: Annotated[str, AfterValidator(_expression)] = Field(description="regular expression found in its *IDN? answer")


class RangesSection(_Part):
    """[ranges]"""

    current_a: Annotated[tuple[float, ...], AfterValidator(_rising)] = Field(min_length=1, description="full scales")
    max_v: float = Field(gt=0, description="largest |V| of the output")
    min_aperture_s: float = Field(gt=0, description="shortest integration time")
    max_aperture_s: float = Field(gt=0, description="longest integration time")
    aperture_unit_s: float = Field(default=1.0, gt=0, description="seconds in one unit of the aperture command")


class CommandsSection(_Part):
    """[commands]: what is said; {value} stands for the number, and 1 or 0 for on and off."""

    setup: tuple[str, ...] = Field(default=(), description="said first of all, with the output off")
    level: Template
    level_query: Question
    limit: Template
    limit_query: Question
    range: Template
    range_query: Question
    aperture: Template
    aperture_query: Question
    settle: Template | None = Field(default=None, description="delay between level and measurement, in seconds")
    settle_query: Question | None = None
    output: Template
    output_query: Question
    measure: Question
    measure_field: int = Field(default=0, ge=0, description="which of the numbers of its answer is the current")
    measure_fields: int = Field(default=1, ge=1, description="how many numbers its answer has")
    tripped: Question | None = Field(default=None, description="whether the current limit acts: 1 or 0")
    abort: str = Field(default=":ABOR", description="ends whatever it is doing")
    error: Question = Field(default=":SYST:ERR?", description='oldest entry of its error queue: number, "text"')


class Description(_Part):
    """One file."""

    identity: IdentitySection
    ranges: RangesSection
    commands: CommandsSection


_SECTIONS: dict[str, type[BaseModel]] = {
    "identity": IdentitySection,
    "ranges": RangesSection,
    "commands": CommandsSection,
}


def read_description(path: str) -> Description:
    """The description in a file. Raises ConfigError naming the file, the key and what is allowed there."""
    if not path:
        raise ConfigError("a generic-smu needs its description: [instruments.smu] description = 'my-smu.toml'")
    try:
        raw: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        return Description.model_validate(raw)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error} ([instruments.smu] description)") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML file: {error}") from error
    except ValidationError as error:
        raise ConfigError(_told(path, error)) from error


def _told(path: str, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _SECTIONS[str(problem["loc"][0])] if len(problem["loc"]) > 1 else Description
            said = f"no such key; allowed: {', '.join(known.model_fields)}"
        lines.append(f"{key}: {said}")
    return f"{path}: {'; '.join(lines)}"


class GenericSmu(Scpi, MeteringSmu):
    """An SMU that a lab has described itself. It measures; pulses come from a generator."""

    MODELS = (r".*",)  # [identity] idn decides
    ranges_a: tuple[float, ...] = ()  # type: ignore[misc]  # they are in its description

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        self.description = read_description(section.description)
        ranges = self.description.ranges
        self.MAX_V = ranges.max_v  # type: ignore[misc]
        super().__init__(link, section)
        self.ranges_a = ranges.current_a
        self.min_aperture_s, self.max_aperture_s = ranges.min_aperture_s, ranges.max_aperture_s
        self.ERRORS = self.description.commands.error  # type: ignore[misc]
        self._knobs = _knobs(self.description.commands)

    def _identified(self, answer: str) -> Identification:
        found = super()._identified(answer)
        if not re.search(self.description.identity.idn, answer):
            raise InstrumentError(
                f"{self.link.name}: {answer} answers; {self.section.description} is for "
                f"{self.description.identity.idn!r} ([identity] idn)"
            )
        return found

    def enforce(self, compliance_a: float | None, max_v: float) -> None:
        """Output off, its own set-up, level 0 V, then the current limit."""
        limit_a = min(compliance_a or self.ranges_a[-1], self.ranges_a[-1])
        self.forget()
        self.set_up([self._to("output", False)])
        for command in self.description.commands.setup:
            self.link.write(command)
        self.check()
        self.set_up([self._to("level", 0.0), self._to("limit", limit_a)])
        self._limit_a, self._cap_v = limit_a, min(max_v, self.max_v)

    def prepare(self, range_a: float, aperture_s: float, settle_s: float) -> None:
        """Range, aperture and, where it has one, the delay before a measurement."""
        self._check_aperture(aperture_s)
        full_a = self.smallest_range(range_a)
        units = aperture_s / self.description.ranges.aperture_unit_s
        settings = [self._to("range", full_a), self._to("aperture", units)]
        if "settle" in self._knobs:
            settings.append(self._to("settle", settle_s))
        self.ensure(settings)
        self._range_a, self._reading_s, self._settle_s = full_a, aperture_s, settle_s

    def sweep(self, levels_v: Sequence[float], averages: int) -> Sweep:
        """Level by level, as many as take a second in one message; every message ends at 0 V."""
        self._check_sweep(levels_v)
        levels = [level_v for level_v in levels_v for _ in range(averages)]
        at_once = max(1, int(MESSAGE_S / (self._reading_s + self._settle_s + 2e-3)))
        currents, limited = [], False
        for start in range(0, len(levels), at_once):
            found, hit = self._read(levels[start : start + at_once])
            currents += found
            limited |= hit
        return mean_sweep(currents, len(levels_v), self._range_a, limited)

    def _switch_off(self) -> list[str]:
        self.forget()
        for command in (
            self.description.commands.abort,
            self._to("level", 0.0).said(),
            self._to("output", False).said(),
        ):
            with suppress(BenchFault):
                self.link.write(command)
        off = self._to("output", False)
        return [] if self._agrees(off, self.link.query(off.asked())) else ["1"]

    def _to(self, name: str, value: float | bool) -> Setting:
        return Setting(self._knobs[name], value)

    def _read(self, levels_v: Sequence[float]) -> tuple[list[float], bool]:
        commands = self.description.commands
        one = [commands.measure, *([commands.tripped] if commands.tripped else [])]
        said = [self._to("level", 0.0).said(), self._to("output", True).said()]
        for level_v in levels_v:
            said += [self._to("level", level_v).said(), *one]
        said += [self._to("level", 0.0).said(), commands.limit_query]
        timeout_s = self.link.timeout_s + 2 * len(levels_v) * (self._reading_s + self._settle_s)
        try:
            answers = self.ask(";".join(said), len(levels_v) * len(one) + 1, timeout_s)
        except LinkLost as lost:
            raise self.explained(lost) from lost
        self._check_limit(answers.pop())
        trips = [self._truth(word) for word in answers[1::2]] if commands.tripped else []
        return [self._current(answer) for answer in answers[:: len(one)]], any(trips)

    def _check_limit(self, answer: str) -> None:
        if not self._agrees(self._to("limit", self._limited_to()), answer):
            self.forget()
            raise InstrumentError(f"{self.link.name}: its current limit is {answer} A, set was {self._limit_a} A")

    def _current(self, answer: str) -> float:
        commands = self.description.commands
        return floats_of(answer, self.link, commands.measure_fields)[commands.measure_field]

    def _truth(self, word: str) -> bool:
        found = Flag().agrees(True, word)
        if found is None:
            raise garbled(self.link, word, "0 or 1")
        return found


def _knobs(commands: CommandsSection) -> dict[str, Knob]:
    codecs: dict[str, Codec] = {
        "level": Number(),
        "limit": Number(1e-3),
        "range": AtLeast(),
        "aperture": Number(1e-2),
        "settle": Number(1e-2),
        "output": Flag(),
    }
    found = {}
    for name, codec in codecs.items():
        said, asked = getattr(commands, name), getattr(commands, f"{name}_query")
        if said and asked:
            found[name] = Knob(name, said.replace("{value}", "{v}"), asked, codec=codec)
    return found


plugin = GenericSmu
