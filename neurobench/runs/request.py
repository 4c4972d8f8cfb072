"""What was asked for, as names and texts, and what it comes to: a protocol and a bench, validated.

The command line, the sweep and the service all begin here, so that a name, a recipe file and a setting mean the
same everywhere.
"""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neurobench import registry
from neurobench.bench.config import BenchConfig, explain, load_bench, parse_value
from neurobench.bench.steps import Protocol
from neurobench.errors import ConfigError, UsageError, unknown

RECIPE_KEYS = ("protocol", "bench", "seed", "set", "bench-set")


@dataclass(frozen=True)
class Request:
    """One run, as asked: names and settings, nothing opened yet.

    `protocol` is a name; `bench` a name or the path of a bench.toml; `settings` and `bench_settings` ("section.key")
    hold values as parsed. Everything in it can be written as JSON.
    """

    protocol: str
    bench: str = "emulator"
    settings: Mapping[str, Any] = field(default_factory=dict)
    bench_settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"seed = {self.seed}: a seed is a whole number from 0 on")

    def command(self) -> str:
        """The command line that asks for the same run."""
        words = ["neurobench", "run", self.protocol, "--bench", self.bench, "--seed", str(self.seed)]
        return shlex.join([*words, *flags("--set", self.settings), *flags("--bench-set", self.bench_settings)])


@dataclass(frozen=True)
class Prepared:
    """A request whose names were found and whose settings are valid; still nothing opened."""

    request: Request
    protocol: Protocol
    bench: BenchConfig


def request(
    protocol: str | Path,
    *,
    bench: str | Path | None = None,
    settings: Iterable[str] = (),
    bench_settings: Iterable[str] = (),
    seed: int | None = None,
) -> Request:
    """A request from texts. `protocol` is a name or a recipe (TOML: protocol, bench, seed, [set], [bench-set]); what
    is given here wins over the recipe. `settings` are "key=value", `bench_settings` "section.key=value".

    Errors: ConfigError names the file or text, the key, and what is allowed.
    """
    recipe: dict[str, Any] = _recipe(Path(protocol)) if _is_recipe(protocol) else {"protocol": str(protocol)}
    asked = Request(
        protocol=str(recipe["protocol"]),
        bench=str(recipe.get("bench", "emulator")),
        settings={**recipe.get("set", {}), **pairs(settings, "--set")},
        bench_settings={**recipe.get("bench-set", {}), **pairs(bench_settings, "--bench-set")},
        seed=recipe.get("seed", 0),
    )
    asked = asked if bench is None else replace(asked, bench=str(bench))
    return asked if seed is None else replace(asked, seed=seed)


def prepare(asked: Request) -> Prepared:
    """Find the protocol, validate its parameters, and lay bench file, defaults and overrides over each other.

    The protocol's `bench_defaults` lie below the bench file, the request's `bench_settings` above it.
    Errors: UnknownName and ConfigError, with the nearest known name or key.
    """
    kind = protocol_class(asked.protocol)
    protocol = validated(kind, asked.settings, asked.protocol)
    bench = load_bench(asked.bench, asked.bench_settings, protocol.bench_defaults())
    return Prepared(asked, protocol, bench)


def protocol_class(name: str) -> type[Protocol]:
    """The protocol of that name."""
    kind = registry.load("protocols", name)
    if not (isinstance(kind, type) and issubclass(kind, Protocol)):
        raise UsageError(f"protocols: {name!r} offers {kind!r}, which is not a Protocol")
    return kind


def validated(kind: type[Protocol], settings: Mapping[str, Any], name: str) -> Protocol:
    """A protocol with these parameters; ConfigError says which are wrong and what is allowed."""
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        lines = explain(error, kind, f"protocol {name}")
        raise ConfigError("\n".join(line.replace("(the file)", "(--set)") for line in lines)) from error


def pairs(texts: Iterable[str], flag: str) -> dict[str, Any]:
    """`key=value` texts as a mapping, values read as TOML where they are TOML."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            example = "beta=5e7" if flag == "--set" else "readout.ideal=true"
            raise ConfigError(f"{flag} {text!r} is not of the form key=value, for example {flag} {example}")
        found[key.strip()] = parse_value(value.strip())
    return found


def _is_recipe(protocol: str | Path) -> bool:
    return Path(protocol).suffix == ".toml"


def _recipe(path: Path) -> dict[str, Any]:
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for key in recipe:
        if key not in RECIPE_KEYS:
            raise ConfigError(f"recipe {path}: {unknown('key', key, RECIPE_KEYS)}")
    if not isinstance(recipe.get("protocol"), str):
        raise ConfigError(f'recipe {path}: needs protocol = "name", for example protocol = "manhattan"')
    if not (isinstance(seed := recipe.get("seed", 0), int) and not isinstance(seed, bool)):
        raise ConfigError(f"recipe {path}: seed = {seed!r}: a seed is a whole number from 0 on")
    _check_tables(recipe, path)
    recipe["bench-set"] = _flat(recipe.get("bench-set", {}))
    return _beside(recipe, path.parent)


def _check_tables(recipe: Mapping[str, Any], path: Path) -> None:
    for table in ("set", "bench-set"):
        if not isinstance(recipe.get(table, {}), dict):
            raise ConfigError(f"recipe {path}: {table} is a table: write [{table}] above its keys")


def _beside(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A bench file that a recipe names lies beside the recipe."""
    bench = recipe.get("bench")
    if isinstance(bench, str) and bench.endswith(".toml"):
        recipe["bench"] = str(folder / bench)
    return recipe


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """`readout.ideal = true`, as TOML nests it, back to {"readout.ideal": True}."""
    flat: dict[str, Any] = {}
    for section, values in tables.items():
        if isinstance(values, dict):
            flat |= {f"{section}.{key}": value for key, value in values.items()}
        else:
            flat[section] = values
    return flat


def flags(flag: str, values: Mapping[str, Any]) -> list[str]:
    """Values as they are given on the command line, each behind its flag."""
    return [word for key, value in values.items() for word in (flag, f"{key}={_typed(value)}")]


def _typed(value: Any) -> str:
    """One value as it is typed on the command line: text as it is where nothing else can be meant, else TOML."""
    return value if isinstance(value, str) and parse_value(value) == value else _toml(value)


def _toml(value: Any) -> str:
    """A value as TOML writes it in one line; single ones are written as in JSON."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
