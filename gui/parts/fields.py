"""What a form has to know of the fields of a pydantic model: words, unit, range, default. No Qt."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from neurobench.bench.config import explain, parse_value
from neurobench.errors import UsageError, unknown

Kind = Literal["float", "int", "bool", "choice", "text", "path", "folder", "numbers", "toml", "table"]

REQUIRED = object()  # stands where a field has no default
FIRST = 10  # so many fields of a protocol stand in a form at once; the others are one click away

PREFIXES = {"f": -15, "p": -12, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9}
_PLAIN = ("", "1/A", "px/s")  # units that take no prefix
_POWERS = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")
_ENDINGS = {"v": "V", "a": "A", "hz": "Hz", "ohm": "Ω", "j": "J", "s": "s"}
_COMPOUND = {"_per_a": "1/A", "_px_s": "px/s"}
_LABELS = {"dt_s": "Δt = post - pre", "g0_s": "G0"}
_SIEMENS = re.compile(r"conductance|^g\d*_|^g_", re.IGNORECASE)
_VOLTAGES = ("read", "start", "stop", "step", "potentiate", "depress")
_STANDS_FOR = re.compile(r"\b(?:none|default): (.+)$")
_NAMES = re.compile(r"^((?:[\w-]+, )+)or the path of")


@dataclass(frozen=True)
class Spec:
    """One field, as it is shown and asked for.

    `unit`: "" if it has none. `default`: REQUIRED if there is none. `optional`: None is allowed, and `stands_for` says
    what it means. `low`, `high`: bounds (None: none), which are themselves not allowed where `low_open`, `high_open`.
    `choices`: all values of a "choice", known names of a "text". `tables`: models of a "table" by their kind.
    """

    name: str
    label: str
    kind: Kind
    unit: str = ""
    default: Any = REQUIRED
    description: str = ""
    optional: bool = False
    stands_for: str = ""
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    choices: tuple[Any, ...] = ()
    tables: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    own: bool = True

    def range_words(self) -> str:
        """The allowed range in words, "" where everything is allowed."""
        if self.kind == "choice":
            return "one of " + ", ".join(shown(one) for one in self.choices)
        low = high = ""
        if self.low is not None:
            low = f"{'more than' if self.low_open else 'from'} {number(self.low, self.unit)}"
        if self.high is not None:
            high = f"{'less than' if self.high_open else 'up to'} {number(self.high, self.unit)}"
        return " ".join(filter(None, (low, high)))

    def help_words(self) -> str:
        """Description, range, default and the name on the command line, one line each."""
        allowed = self.range_words()
        default = "" if self.default is REQUIRED else self.value_words(self.default)
        told = [
            self.description[:1].upper() + self.description[1:],
            f"Allowed: {allowed}" if allowed else "",
            f"Default: {default}" if default else "It has no default: a value is needed.",
            f"On the command line: --set {self.name}=...",
        ]
        return "\n".join(filter(None, told))

    def value_words(self, value: Any) -> str:
        """A value as it would be typed into the form."""
        if value is None:
            return f"auto ({self.stands_for})" if self.stands_for else "none"
        if self.kind in ("float", "int"):
            return number(value, self.unit)
        if self.kind == "numbers":
            return ", ".join(number(one, self.unit) for one in value) or "none"
        return shown(value)


def specs(kind: type[BaseModel]) -> tuple[Spec, ...]:
    """The fields of a model in the order in which a form shows them: its own first, then those it inherits."""
    own = [name for name in kind.__annotations__ if name in kind.model_fields]
    names = [*own, *(name for name in kind.model_fields if name not in own)]
    return tuple(_spec(name, kind.model_fields[name], name in own) for name in names)


def _spec(name: str, info: FieldInfo, own: bool) -> Spec:
    description = info.description or ""
    inner, optional = _without_none(info.annotation)
    kind, choices, tables = _kind(inner, description)
    if info.examples and kind == "text":
        kind, choices = "path", tuple(info.examples)
    default = REQUIRED if info.is_required() else as_plain(info.get_default(call_default_factory=True))
    said = _STANDS_FOR.search(description)
    return Spec(
        name=name, label=label_of(name, description), kind=kind, default=default, description=description,
        unit=unit_of(name, description) if kind in ("float", "numbers", "int", "toml") else "",
        optional=optional, stands_for=said[1] if said else "", choices=choices, tables=tables, own=own,
        **_bounds(info),
    )  # fmt: skip


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    args = get_args(annotation)
    left = tuple(one for one in args if one is not type(None))
    return (left[0] if len(left) == 1 else Union[left]), len(left) < len(args)  # noqa: UP007 - made at run time


def _kind(inner: Any, description: str) -> tuple[Kind, tuple[Any, ...], Mapping[str, type[BaseModel]]]:
    tables = _tables(inner)
    if tables:
        return "table", (), tables
    if get_origin(inner) is Literal:
        return "choice", get_args(inner), {}
    if isinstance(inner, type) and issubclass(inner, Enum):
        return "choice", tuple(one.value for one in inner), {}
    simple: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", Path: "path"}
    if inner in simple:
        return simple[inner], (), {}
    if inner is str:
        return _text(description)
    return ("numbers" if inner == tuple[float, ...] else "toml"), (), {}


def _text(description: str) -> tuple[Kind, tuple[Any, ...], Mapping[str, type[BaseModel]]]:
    if description.startswith("folder"):
        return "folder", (), {}
    if named := _NAMES.match(description):
        return "path", tuple(named[1].rstrip(", ").split(", ")), {}
    return ("path" if "file" in description.split(";")[0].lower().split() else "text"), (), {}


def _tables(inner: Any) -> dict[str, type[BaseModel]]:
    """Models that an annotation chooses from, by the one value of their field `kind`."""
    found: dict[str, type[BaseModel]] = {}
    for one in get_args(inner) or (inner,):
        if not (isinstance(one, type) and issubclass(one, BaseModel) and "kind" in one.model_fields):
            return {}
        found[str(get_args(one.model_fields["kind"].annotation)[0])] = one
    return found


_BOUNDS = (("ge", "low", False), ("gt", "low", True), ("le", "high", False), ("lt", "high", True))


def _bounds(info: FieldInfo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for mark in info.metadata:
        for name, side, is_open in _BOUNDS:
            if (value := getattr(mark, name, None)) is not None:
                found |= {side: value, f"{side}_open": is_open}
    return found


# -- words ----------------------------------------------------------------------------------------------------------


def unit_of(name: str, description: str) -> str:
    """The unit that a field's name or description gives, "" if none: `_s` may be seconds or siemens."""
    for ending, unit in _COMPOUND.items():
        if name.endswith(ending):
            return unit
    unit = "s" if name == "seconds" else _ENDINGS.get(name.rpartition("_")[2], "") if "_" in name else ""
    if unit != "s":
        return unit
    if "in siemens" in description:
        return "S"
    if re.search(r"\bin (?:s|seconds)\b", description):
        return "s"
    return "S" if _SIEMENS.search(name) or _SIEMENS.search(description) else "s"


def label_of(name: str, description: str) -> str:
    """The human words of a field's name, without its unit."""
    if name in _LABELS:
        return _LABELS[name]
    compound = next((ending for ending in _COMPOUND if name.endswith(ending)), "")
    words = name.removesuffix(compound).split("_")
    if not compound and unit_of(name, description) and len(words) > 1:
        ending, words = words[-1], words[:-1]
        words += ["voltage"] if ending == "v" and words[-1] in _VOLTAGES else []
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def shown(value: Any) -> str:
    """A value as text of a form: lists and tables as TOML writes them, texts as they are."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return value if isinstance(value, str) else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return shown(value) if isinstance(value, Mapping) else "none" if value is None else repr(value)


# -- numbers --------------------------------------------------------------------------------------------------------


def number(value: Any, unit: str = "") -> str:
    """A number exactly as it is, with an SI prefix where its unit takes one: 0.0005, "s" -> 500 µs."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    exact = Decimal(repr(value))
    if isinstance(value, int) or not exact.is_finite() or unit in _PLAIN or exact == 0:
        return f"{_plain(exact)} {unit}".strip()
    power = min(max(exact.adjusted() // 3 * 3, -15), 0 if unit == "s" else 9)
    return f"{_mantissa(exact.scaleb(-power))} {_POWERS[power]}{unit}"


def _plain(value: Decimal) -> str:
    """As it is typed: 0.03, 1000, and 5e7 from there on."""
    if -5 <= value.adjusted() < 7 or not value.is_finite():
        return _mantissa(value)
    return f"{value.normalize():e}".replace("e+", "e")


def _mantissa(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_number(text: str, unit: str = "", integer: bool = False) -> int | float:
    """A number as people type it: 2e-3, "1.5 m", "1.5 ms", 100u. ValueError says what is allowed."""
    found = _NUMBER.match(text)
    power = None if found is None else _power(found[2], unit)
    if found is None or power is None:
        example = f"1.5 m, 1.5 m{unit} or 1.5e-3" if unit else "20 or 2e-3"
        raise ValueError(f"{text.strip()!r} is not a number; write for example {example}")
    exact = Decimal(found[1]).scaleb(power)
    if integer and exact != exact.to_integral_value():
        raise ValueError(f"{text.strip()} is not a whole number")
    return int(exact) if integer else float(exact)


def _power(ending: str, unit: str) -> int | None:
    """The power of ten that an ending stands for; None if it means nothing here."""
    ending = ending.replace("Ohm", "Ω").replace("ohm", "Ω")
    if unit and ending.endswith(unit):
        ending = ending.removesuffix(unit)
    return PREFIXES.get(ending.strip())


def parse(spec: Spec, text: str) -> Any:
    """The value that a text means for a field; a text that means nothing is given back, to be refused in due place."""
    text = text.strip()
    try:
        if spec.kind in ("float", "int"):
            return parse_number(text, spec.unit, spec.kind == "int")
        if spec.kind == "numbers":
            inside = text.removeprefix("[").removesuffix("]")
            return tuple(parse_number(one, spec.unit) for one in inside.split(",") if one.strip())
    except ValueError:
        return text
    if spec.kind == "toml":
        return as_plain(parse_value(text or "[]"))
    return text


def as_plain(value: Any) -> Any:
    """A value as it can be compared and written: tuples, texts, and tables of what differs from their own defaults."""
    if isinstance(value, BaseModel):
        return _table(value)
    if isinstance(value, list | tuple):
        return tuple(as_plain(one) for one in value)
    if isinstance(value, set | frozenset):
        return tuple(sorted(str(as_plain(one)) for one in value))
    if isinstance(value, Enum):
        return as_plain(value.value)
    return str(value) if isinstance(value, Path) else value


def _table(value: BaseModel) -> Any:
    """A table as it would be asked for: its kind alone where nothing else was said."""
    plain = {
        name: as_plain(getattr(value, name))
        for name, info in type(value).model_fields.items()
        if name != "kind" and as_plain(getattr(value, name)) != as_plain(info.get_default(call_default_factory=True))
    }
    named = getattr(value, "kind", None)
    return plain if named is None else {"kind": named, **plain} if plain else str(named)


# -- validity -------------------------------------------------------------------------------------------------------


def baseline(kind: type[BaseModel], preset: str | None = None) -> dict[str, Any]:
    """The values of all fields that have any where nothing is said, or nothing but the preset."""
    found = {one.name: one.default for one in specs(kind)}
    if preset is None:
        return found
    try:
        chosen = kind.model_validate({"preset": preset})
    except ValidationError:
        return found | {"preset": preset}
    return {name: as_plain(getattr(chosen, name)) for name in found}


def mistakes(kind: type[BaseModel], settings: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    """Field ("": of no single one) and words of everything that is wrong with these settings, as `run` would say it."""
    try:
        kind.model_validate(dict(settings))
    except ValidationError as error:
        lines = explain(error, kind, f"protocol {name}")
        at = [str(mistake["loc"][0]) if mistake["loc"] else "" for mistake in error.errors()]
        return [(where, line.replace("(the file)", "(--set)")) for where, line in zip(at, lines, strict=True)]
    except Exception as error:  # noqa: BLE001 - somebody else's protocol may fail in any way, and the form stays
        return [("", f"protocol {name}: {type(error).__name__}: {error}")]
    return []


def check_names(kind: type[BaseModel], settings: Mapping[str, Any], what: str) -> None:
    """Raise UsageError for a setting that the model does not have, with the nearest that it has."""
    for name in settings:
        if name not in kind.model_fields:
            raise UsageError(f"{what}: {unknown('key', name, kind.model_fields)}")
