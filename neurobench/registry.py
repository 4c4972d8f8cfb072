"""Finds plug-ins by name: drivers, instruments, protocols, device models and simulated instruments and benches.

One file is one plug-in. It is found by scanning its folder, is not imported until it is loaded, and
ends with a line that says what it offers:

    plugin = Manhattan

Files and folders whose name begins with an underscore are not plug-ins, nor are sub-packages. Other
distributions add theirs by an entry point of the group `neurobench.protocols` (and so on) that names
a module with such a line, or the object itself as `module:object`.

Only this module knows where plug-ins and the window live; the core names them by strings.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import neurobench
from neurobench.errors import UnknownName, UsageError, unknown

PROJECT = "neurobench-hil"

# kind -> the package that is scanned
KINDS = {
    "drivers": "neurobench.drivers",
    "protocols": "neurobench.protocols",
    "models": "neurobench.physics.models",
    "sim_instruments": "neurobench.sim_instruments",
    "instruments": "neurobench.drivers.instruments",
    "simulations": "neurobench.sim_instruments.benches",
}

WINDOW = "neurobench.gui.starting"


@dataclass(frozen=True)
class Plugin:
    """One plug-in, as it can be known without importing it.

    `name` is written with dashes; `module` is what is imported; `attribute` is what is taken from it;
    `source` is "built-in" or the name of the distribution that brings it; `error` says why it cannot
    be used, or is empty.
    """

    name: str
    kind: str
    module: str
    summary: str = ""
    source: str = "built-in"
    attribute: str = "plugin"
    error: str = ""


def find(kind: str) -> dict[str, Plugin]:
    """All plug-ins of a kind, sorted by name; nothing is imported.

    A name that another distribution shares with a built-in plug-in is shown as `distribution:name`,
    so that installing a package never changes what an old name means.
    Errors: `UnknownName` for a kind that does not exist.
    """
    found = {plugin.name: plugin for plugin in _built_in(kind)}
    for plugin in _from_others(kind):
        name = _shown(f"{plugin.source}:{plugin.name}") if plugin.name in found else plugin.name
        found[name] = replace(plugin, name=name)
    return dict(sorted(found.items()))


def load(kind: str, name: str) -> object:
    """Import the plug-in `name`, written with dashes or underscores, and return what it offers.

    Errors: `UnknownName` with the nearest names; `UsageError` if the plug-in is broken, with its own error as cause.
    """
    stem = name.replace("-", "_")
    ready = sys.modules.get(f"{KINDS.get(kind)}.{stem}")
    if hasattr(ready, "plugin") and not stem.startswith("_"):
        # A sweep opens thousands of benches, and a built-in plug-in always wins over others of its name.
        return ready.plugin  # type: ignore[union-attr]
    known = find(kind)
    plugin = known.get(_shown(name))
    if plugin is None:
        raise UnknownName(unknown(kind.replace("_", " ").removesuffix("s"), name, known, _where(kind)))
    if plugin.error:
        raise UsageError(_broken(plugin, plugin.error))
    try:
        return _imported(plugin)
    except Exception as error:
        raise UsageError(_broken(plugin, _said(error))) from error


def check(kind: str) -> dict[str, Plugin]:
    """Like `find`, but imports every plug-in, so that `error` of each says whether it can be used."""
    return {name: _checked(plugin) for name, plugin in find(kind).items()}


def window() -> ModuleType:
    """The module that opens the window, by its `main`; Qt is imported only there."""
    return importlib.import_module(WINDOW)


def ensure_ours() -> None:
    """Raise `UsageError` if another project of the same import name was installed over this one.

    `neurobench` on PyPI is a benchmark suite; installed later, its `__init__.py` replaces ours, and
    half of each project would run. The command line calls this before anything else.
    """
    if getattr(neurobench, "__project__", None) == PROJECT:
        return
    raise UsageError(
        f"the package 'neurobench' in {Path(neurobench.__file__ or '?').parent} is not {PROJECT}, or not all of it: "
        "another project of that name was installed over it. Use one environment for each, or run: "
        f"pip uninstall neurobench {PROJECT} && pip install {PROJECT}"
    )


def _checked(plugin: Plugin) -> Plugin:
    if plugin.error:
        return plugin
    try:
        _imported(plugin)
    except Exception as error:  # noqa: BLE001 - someone else's code may fail in any way, and is never fatal
        return replace(plugin, error=_said(error))
    return plugin


def _imported(plugin: Plugin) -> object:
    found: object = importlib.import_module(plugin.module)
    for part in plugin.attribute.split("."):
        found = getattr(found, part)
    return found


def _shown(name: str) -> str:
    return name.replace("_", "-")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _broken(plugin: Plugin, why: str) -> str:
    return f"{plugin.kind}: {plugin.name!r} ({plugin.source}, {plugin.module}) cannot be used: {why}"


def _where(kind: str) -> str:
    return f"searched {KINDS[kind]} and the entry points {_group(kind)}"


def _group(kind: str) -> str:
    return f"neurobench.{kind}"


def _folders(kind: str) -> list[Path]:
    """The folders of a kind's package on disk; only the `__init__` of its parents is run to find them."""
    if kind not in KINDS:
        raise UnknownName(unknown("kind of plug-in", kind, KINDS))
    spec = importlib.util.find_spec(KINDS[kind])
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def _built_in(kind: str) -> Iterator[Plugin]:
    for folder in _folders(kind):
        for file in folder.glob("*.py"):
            if not file.stem.startswith("_"):
                summary, error = _summary(file)
                yield Plugin(_shown(file.stem), kind, f"{KINDS[kind]}.{file.stem}", summary, error=error)


def _summary(file: Path) -> tuple[str, str]:
    """First line of the file's docstring, and what is wrong with the file; parsed, not imported."""
    try:
        text = ast.get_docstring(ast.parse(file.read_bytes()))
    except (OSError, SyntaxError, ValueError) as error:
        return "", _said(error)
    return (text or "").partition("\n")[0], ""


def _from_others(kind: str) -> Iterator[Plugin]:
    from importlib.metadata import entry_points  # slow to import

    for entry in entry_points(group=_group(kind)):
        source = entry.dist.name if entry.dist else "unknown distribution"
        summary = entry.dist.metadata["Summary"] if entry.dist and "Summary" in entry.dist.metadata else ""
        yield Plugin(_shown(entry.name), kind, entry.module, summary, source, entry.attr or "plugin")
