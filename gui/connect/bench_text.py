"""A bench file as text: what is wrong on which line, one key changed in place, and who has said which limit. No Qt."""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from neurobench.bench.config import SIMULATED_BACKENDS, BenchConfig, bench_names, load_bench
from neurobench.bench.limits import ChipLimits, Limits
from neurobench.errors import NeurobenchError
from neurobench.runs.screen import si

_SECTION = re.compile(r"\s*\[\s*([\w.-]+)\s*\]")
_KEY = re.compile(r"\s*([\w.-]+)\s*=")
_AT_LINE = re.compile(r"at line (\d+)")
_NO_KEY = re.compile(r"no key '([^']+)'.*\((?:\[([\w.]+)\]|the file)\)")
_PATH = re.compile(r"([a-z_]+(?:\.\w+)*)(?::| is missing)")
BUILT_IN = "built in"
UNITS = {"_v": "V", "_s": "s", "_a": "A", "_j": "J"}
# limits that follow from another one where nobody says them: by which property, and how
FOLLOWS = {"max_line_v": ("line_v", "as max_cell_v"), "max_victim_v": ("victim_v", "max_cell_v / 2")}


@dataclass(frozen=True)
class Mistake:
    """What is wrong in a bench file, and on which line (from 1 on; 0: nobody can say)."""

    line: int
    words: str


@dataclass(frozen=True)
class LimitRow:
    """One limit as it is shown: name, value with its unit, who says so, and what it means."""

    name: str
    value: str
    forming: str
    said_by: str
    meaning: str


def is_builtin(bench: str) -> bool:
    """Whether it is a name, not a file."""
    return bench in bench_names()


def text_of(bench: str) -> str:
    """The text of a bench file, or of a built-in bench. Raises OSError where a file cannot be read."""
    if is_builtin(bench):
        return (resources.files("neurobench.bench") / "benches" / f"{bench}.toml").read_text(encoding="utf-8")
    return Path(bench).read_text(encoding="utf-8")


def read(text: str, name: str) -> tuple[BenchConfig | None, list[Mistake]]:
    """What a text says as a bench file, or all its mistakes. Nothing is opened."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (Path(name).stem + ".toml")
        path.write_text(text, encoding="utf-8")
        try:
            return load_bench(path), []
        except (NeurobenchError, OSError) as error:
            words = str(error).replace(f"bench {path}: ", "").replace(str(path), Path(name).name)
    return None, [Mistake(_line_of_words(text, line), line) for line in words.splitlines()]


def _line_of_words(text: str, words: str) -> int:
    if found := _AT_LINE.search(words):
        return int(found[1])
    if found := _NO_KEY.search(words):
        return line_of(text, f"{found[2]}.{found[1]}" if found[2] else found[1])
    if found := _PATH.match(words):
        return line_of(text, found[1])
    return 0


def line_of(text: str, dotted: str) -> int:
    """The line (from 1 on) that says a key of a section; else that of the section, or of the one around it; else 0."""
    best, best_length = 0, 0
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _SECTION.match(line):
            section = here = found[1]
        elif found := _KEY.match(line):
            here = f"{section}.{found[1]}".strip(".")
        else:
            continue
        if here == dotted:
            return number
        if dotted.startswith(here + ".") and len(here) > best_length:
            best, best_length = number, len(here)
    return best


def with_value(text: str, section: str, key: str, value: str) -> str:
    """The same text with `key = value` in a section: in its place, else at the section's end, else in a new section.

    What stands behind a value as a comment stays.
    """
    lines = text.splitlines()
    if (at := line_of(text, f"{section}.{key}")) and _is_key(lines[at - 1], key):
        # a list may be broken over several lines: all of it goes
        last = _end_of_value(lines, at - 1)
        comment = re.search(r"\s+#.*$", lines[last])
        lines[at - 1 : last + 1] = [f"{key} = {value}" + (comment[0] if comment else "")]
    elif (at := line_of(text, section)) and _SECTION.match(lines[at - 1]) and section in lines[at - 1]:
        lines.insert(_end_of_section(lines, at), f"{key} = {value}")
    else:
        lines += ["", f"[{section}]", f"{key} = {value}"]
    return "\n".join(lines) + "\n"


def _is_key(line: str, key: str) -> bool:
    found = _KEY.match(line)
    return found is not None and found[1].split(".")[-1] == key


def _end_of_value(lines: list[str], at: int) -> int:
    """The line on which the value that begins on line `at` ends."""
    for last in range(at, len(lines)):
        try:
            tomllib.loads("\n".join(lines[at : last + 1]))
        except tomllib.TOMLDecodeError:
            continue
        return last
    return at


def _end_of_section(lines: list[str], at: int) -> int:
    end = at
    for number in range(at, len(lines)):
        if _SECTION.match(lines[number]):
            break
        if lines[number].strip() and not lines[number].lstrip().startswith("#"):
            end = number + 1
    return max(end, at)


# -- limits ---------------------------------------------------------------------------------------------------------


def limit_rows(config: BenchConfig, bench: str, settings: Mapping[str, Any]) -> list[LimitRow]:
    """Every limit of the chip on a bench, and who says so: the file, the built-in bench, a setting, or nobody."""
    limits, forming = config.limits, config.limits.forming
    said = _limits_said(bench)
    return [
        LimitRow(
            name,
            value_words(limits, name),
            _forming_words(limits, forming, name),
            _said_by(name, config, bench, said, settings),
            info.description or "",
        )
        for name, info in Limits.model_fields.items()
    ]


def _limits_said(bench: str) -> Mapping[str, Any]:
    try:
        found = tomllib.loads(text_of(bench)).get("limits", {})
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _said_by(name: str, config: BenchConfig, bench: str, said: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    if f"limits.{name}" in settings:
        return "a setting of this session"
    if name in said:
        return BUILT_IN if is_builtin(bench) else Path(bench).name
    backend = config.bench.backend
    if not is_builtin(bench) and backend in SIMULATED_BACKENDS and name in _limits_said(backend):
        return BUILT_IN
    if name in FOLLOWS:
        return FOLLOWS[name][1]
    return "nobody" if getattr(config.limits, name) is None else "default"


def value_words(limits: ChipLimits | Limits, name: str) -> str:
    """A limit's value with its unit."""
    value = getattr(limits, name)
    if value is None:
        return si(getattr(limits, FOLLOWS[name][0]), "V") if name in FOLLOWS else "no limit"
    unit = UNITS.get(name[-2:], "")
    return si(value, unit) if unit else f"{value:,}".replace(",", " ")


def _forming_words(limits: ChipLimits, forming: Limits | None, name: str) -> str:
    if forming is None or getattr(forming, name) == getattr(limits, name):
        return ""
    return value_words(forming, name)
