"""docs/bench.md lists every key of a bench.toml as it is declared; `python tests/bench/test_bench_doc.py` renews it."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from neurobench.bench.config import BenchConfig, load_bench
from neurobench.bench.limits import Limits
from neurobench.errors import ConfigError

DOC = Path(__file__).resolve().parents[2] / "docs" / "bench.md"
BOUNDS = {"gt": "> ", "ge": ">= ", "lt": "< ", "le": "<= "}
PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", NoneType: ""}


def table(model: type[BaseModel]) -> str:
    """One line per key: name, type and bounds, default, description."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        description = str(field.description).replace("|", "\\|")
        lines.append(f"| `{name}` | {kind(field)} | {default(field)} | {description} |")
    return "\n".join(lines)


def kind(field: FieldInfo) -> str:
    bounds = [f"{sign}{getattr(rule, name):g}" for rule in field.metadata for name, sign in BOUNDS.items()
              if getattr(rule, name, None) is not None]  # fmt: skip
    return ", ".join([in_words(field.annotation), *bounds])


def in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(filter(None, map(in_words, get_args(kind))))
    if get_origin(kind) in (frozenset, list, tuple):
        return f"list of ({in_words(get_args(kind)[0])})"
    if get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return "table"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{value}`" for value in kind)
    return PLAIN.get(kind, "")


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**must be said**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel | dict):
        return ""
    if isinstance(value, frozenset):
        return ", ".join(f"`{item}`" for item in sorted(value))
    return "" if value in (None, "") else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def sections() -> dict[str, type[BaseModel]]:
    """Every table of the file by its name; a kind of table that occurs again stands under its first name only."""
    found: dict[str, type[BaseModel]] = {}
    for name, model in tables_of("", BenchConfig):
        if model not in found.values():
            found[name] = model
    return found


def tables_of(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        below = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if below is not None and not issubclass(model, below):  # [limits.forming] has the keys of [limits]
            yield f"{prefix}{name}", below
            yield from tables_of(f"{prefix}{name}.", below)


def renewed(text: str) -> str:
    for name, model in sections().items():
        block = re.compile(rf"(<!-- keys of \[{name}\] -->\n).*?(<!-- end of \[{name}\] -->)", re.DOTALL)
        assert block.search(text), f"docs/bench.md has no place for the keys of [{name}]"
        rows = table(model).replace("\\", "\\\\")  # a backslash means something in a replacement
        text = block.sub(rf"\g<1>{rows}\n\g<2>", text)
    return text


@pytest.fixture
def text(checkout: Path) -> str:
    return (checkout / "docs" / "bench.md").read_text(encoding="utf-8")


def test_every_key_stands_there_as_it_is_declared(text: str) -> None:
    assert text == renewed(text), "renew it: python tests/bench/test_bench_doc.py"


@pytest.mark.parametrize("name", list(sections()))
def test_every_key_is_explained(name: str) -> None:
    for key, field in sections()[name].model_fields.items():
        assert field.description, f"[{name}] {key}"


def test_no_limit_is_left_out_of_what_the_guard_refuses(text: str) -> None:
    refuses = text.partition("## What the Guard refuses")[2].partition("\n## ")[0]
    for name in Limits.model_fields:
        assert f"`{name}`" in refuses, name


def test_the_examples_are_bench_files(text: str, tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        path = tmp_path / "example.toml"
        path.write_text(example)
        assert load_bench(path)
    real = [example for example in examples if tomllib.loads(example)["bench"].get("backend") != "emulator"]
    assert real, "a real bench is shown, too"
    path.write_text(real[0].partition("[limits]")[0])
    with pytest.raises(ConfigError, match="limits"):
        load_bench(path)


if __name__ == "__main__":
    DOC.write_text(renewed(DOC.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
