"""The house rules that a parser can check. docs/decisions/0001-layout.md says why they are as they are."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

OUTER = ("drivers", "protocols", "gui", "sim_instruments")
# A room of the core imports from its own step and from those above it here.
STEPS = (
    ("__init__", "errors", "system", "registry", "compiling"),
    ("bench",),
    ("physics",),
    ("learning",),
    ("runs",),
    ("interchange",),
    ("service", "cli"),
    ("__main__",),
)
RANK = {room: rank for rank, step in enumerate(STEPS) for room in step}
QT = {"PySide6", "PySide2", "PyQt5", "PyQt6", "shiboken6", "pyqtgraph"}
INSTRUMENTS = {"pyvisa", "pyvisa_sim", "pyvisa_py", "serial"}
# What must start without the numerical libraries.
LIGHT = ("neurobench.errors", "neurobench.system", "neurobench.registry", "neurobench.__main__", "neurobench.cli")


@dataclass(frozen=True)
class Module:
    """A source file with the name it is imported by."""

    name: str
    tree: ast.Module
    is_package: bool = False

    @property
    def place(self) -> str:
        """`core.<room>` or the outer folder."""
        first = ([*self.name.split(".")[1:], "__init__"])[0]
        return first if first in OUTER else f"core.{first}"


def module_of(file: Path, checkout: Path) -> Module:
    parts = file.relative_to(checkout).with_suffix("").parts
    parts = parts if parts[0] == "neurobench" else ("neurobench", *parts)
    is_package = parts[-1] == "__init__"
    return Module(".".join(parts[:-1] if is_package else parts), ast.parse(file.read_text()), is_package)


@pytest.fixture(scope="module")
def modules(checkout: Path) -> list[Module]:
    folders = [checkout / name for name in ("neurobench", *OUTER)]
    found = [module_of(file, checkout) for folder in folders for file in sorted(folder.rglob("*.py"))]
    assert len(found) >= 15, "the walk lost the sources"
    return found


# ------------------------------------------------------------------ who may import whom


def imports(module: Module) -> Iterator[tuple[int, str, bool]]:
    """(line, dotted name, was relative) of every import, wherever it stands; `from a import b` gives a.b."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                keep = module.name.split(".")
                up = node.level - 1 if module.is_package else node.level
                base = ".".join([*keep[: len(keep) - up], *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}", bool(node.level)) for alias in node.names)


def place_of(name: str) -> str:
    return Module(name, ast.Module([], [])).place


def room_of_import(name: str) -> str:
    place = place_of(name)
    room = place.removeprefix("core.")
    # `from neurobench import __version__` is an import of the root itself.
    return place if room in OUTER or room in RANK else "core.__init__"


def import_faults(module: Module) -> Iterator[str]:
    for line, name, relative in imports(module):
        where = f"{module.name}:{line} imports {name}"
        root = name.split(".")[0]
        if root == "neurobench":
            fault = _neighbour_fault(module.place, room_of_import(name), relative)
            if fault:
                yield f"{where}: {fault}"
        elif root in OUTER:
            yield f"{where}: import it as neurobench.{root}"
        elif root in QT and module.place != "gui":
            yield f"{where}: only gui imports Qt"
        elif root in INSTRUMENTS and module.place not in ("drivers", "sim_instruments"):
            yield f"{where}: only drivers and simulated instruments talk to VISA and serial ports"


def _neighbour_fault(here: str, there: str, relative: bool) -> str:
    if here in OUTER:
        if there in OUTER and there != here:
            return f"{here} may not know {there}"
        if there == here and not relative:
            return "import inside this folder relatively"
        return "a relative import leaves its folder" if relative and there != here else ""
    if there in OUTER:
        return "the core reaches plug-ins through registry only"
    rooms = here.removeprefix("core."), there.removeprefix("core.")
    if rooms[0] not in RANK:
        return f"{rooms[0]} is no room of the house; give it a step in tests/test_architecture.py"
    if RANK[rooms[1]] > RANK[rooms[0]]:
        return f"{rooms[0]} may not know {rooms[1]}"
    return "a relative import leaves its room" if relative and rooms[0] != rooms[1] else ""


def test_every_room_imports_only_what_it_may_know(modules: list[Module]) -> None:
    assert [fault for module in modules for fault in import_faults(module)] == []


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("neurobench.bench.x", "from neurobench.physics import chip", "bench may not know physics"),
        ("neurobench.bench.x", "def f():\n    import neurobench.runs.runner", "bench may not know runs"),
        ("neurobench.bench.x", "from neurobench import cli", "bench may not know cli"),
        ("neurobench.errors", "from neurobench.bench.limits import Limits", "errors may not know bench"),
        ("neurobench.bench.x", "from ..errors import Refused", "leaves its room"),
        ("neurobench.runs.x", "from neurobench.drivers import emulator", "through registry only"),
        ("neurobench.cli", "from neurobench import gui", "through registry only"),
        ("neurobench.attic.x", "from neurobench import errors", "no room of the house"),
        ("neurobench.drivers.x", "from neurobench.protocols.manhattan import M", "drivers may not know protocols"),
        ("neurobench.drivers.x", "from neurobench.drivers.fpga import F", "relatively"),
        ("neurobench.drivers.x", "from ..bench import limits", "leaves its folder"),
        ("neurobench.drivers.x", "import protocols.manhattan", "import it as neurobench.protocols"),
        ("neurobench.protocols.x", "import pyqtgraph as pg", "only gui imports Qt"),
        ("neurobench.runs.x", "from PySide6 import QtCore", "only gui imports Qt"),
        ("neurobench.bench.x", "import pyvisa", "VISA"),
    ],
)
def test_the_import_rule_sees(name: str, source: str, fault: str) -> None:
    faults = list(import_faults(Module(name, ast.parse(source))))
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("neurobench.runs.x", "from neurobench.bench.limits import Guard\nfrom . import runfile\nimport numpy as np"),
        ("neurobench.physics.models.x", "from ..chip import Chip\nfrom neurobench import __version__"),
        (
            "neurobench.drivers.x",
            "from .instruments.k2400 import K\nfrom neurobench.runs import runfile\nimport serial",
        ),
        ("neurobench.gui.x", "from PySide6 import QtWidgets\nfrom .plot import P"),
        ("neurobench.cli", "from neurobench.runs.engine import start"),
    ],
)
def test_the_import_rule_allows(name: str, source: str) -> None:
    assert list(import_faults(Module(name, ast.parse(source)))) == []


def strings_naming_plugins(module: Module) -> list[str]:
    pattern = re.compile(rf"neurobench\.({'|'.join(OUTER)})(\.\w+)*")
    return [
        f"{module.name}:{node.lineno} names {node.value}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.fullmatch(node.value)
    ]


def test_only_the_registry_names_the_outer_folders(modules: list[Module]) -> None:
    core = [module for module in modules if module.place not in OUTER and module.name != "neurobench.registry"]
    assert [found for module in core for found in strings_naming_plugins(module)] == []
    registry = next(module for module in modules if module.name == "neurobench.registry")
    assert len(strings_naming_plugins(registry)) == 6, (
        "drivers, instruments, protocols, simulated ones and benches, the window"
    )


# ------------------------------------------------------------------ size


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: Module) -> list[Function]:
    return [node for node in ast.walk(module.tree) if isinstance(node, Function)]


def code_lines(function: Function) -> int:
    """Lines from `def` to the end, the docstring left out: words are not complexity."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return lines
    words = function.body[0]
    return lines - ((words.end_lineno or words.lineno) - words.lineno + 1)


def test_functions_are_short(modules: list[Module]) -> None:
    sizes = sorted((code_lines(one), f"{module.name}.{one.name}") for module in modules for one in functions(module))
    assert [size for size in sizes if size[0] > 80] == []
    long = [size for size in sizes if size[0] > 40]
    assert len(long) <= 0.05 * len(sizes), f"more than 5 % of {len(sizes)} functions have over 40 lines: {long}"
    assert statistics.median(size for size, _ in sizes) <= 8


def test_code_lines_leave_the_docstring_out() -> None:
    tree = ast.parse('def f(\n    x,\n):\n    """One.\n\n    Two.\n    """\n    y = x\n    return y\n')
    (function,) = functions(Module("m", tree))
    assert code_lines(function) == 5


# ------------------------------------------------------------------ docstrings


def public_things(module: Module) -> Iterator[tuple[str, ast.AST]]:
    yield module.name, module.tree
    for node in module.tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{module.name}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from (
                    (f"{module.name}.{node.name}.{one.name}", one)
                    for one in node.body
                    if isinstance(one, Function) and not one.name.startswith("_")
                )


def test_public_things_say_what_they_are_for(modules: list[Module]) -> None:
    """A method may leave it to a method of the same name elsewhere: the contract that it implements."""
    things = [thing for module in modules for thing in public_things(module)]
    methods = {id(node) for module in modules for cls in module.tree.body for node in getattr(cls, "body", [])}
    written = {name: bool(ast.get_docstring(node)) for name, node in things}  # type: ignore[arg-type]
    explained = {name.rsplit(".")[-1] for name, node in things if written[name] and id(node) in methods}
    silent = [
        name
        for name, node in things
        if not written[name] and not (id(node) in methods and name.rsplit(".")[-1] in explained)
    ]
    assert silent == []


# ------------------------------------------------------------------ what a start may cost


def run_clean(code: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=55, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


HEAVY = ("numpy", "scipy", "numba", "PySide6", "pyqtgraph", "pyvisa", "serial", "matplotlib")


@pytest.mark.parametrize("name", LIGHT)
def test_starting_the_command_line_imports_nothing_heavy(name: str, checkout: Path) -> None:
    if not (checkout / f"{name.replace('.', '/')}.py").exists():
        pytest.skip(f"{name} is not written yet")
    loaded = run_clean(f"import sys, {name}; print(*sys.modules)").split()
    assert name in loaded
    assert [heavy for heavy in HEAVY if heavy in loaded] == []


def test_listing_all_plugins_imports_none_of_them() -> None:
    code = "import sys; from neurobench import registry\nfor kind in registry.KINDS: registry.find(kind)\n"
    loaded = run_clean(code + "print(*sys.modules)").split()
    assert [heavy for heavy in HEAVY if heavy in loaded] == []


IMPORT_ALL_WITHOUT_QT = """
import importlib, sys

class NoQt:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {qt}:
            raise ImportError(f"{{name}} was imported outside gui")

sys.meta_path.insert(0, NoQt())
for name in {names}:
    importlib.import_module(name)
print("all")
"""


def test_everything_but_the_window_imports_without_qt_and_without_a_warning(modules: list[Module]) -> None:
    names = [module.name for module in modules if module.place != "gui"]
    assert run_clean(IMPORT_ALL_WITHOUT_QT.format(qt=QT, names=names)) == "all\n"


@pytest.mark.parametrize("folder", OUTER)
def test_an_outer_folder_refuses_another_name(folder: str, checkout: Path) -> None:
    """A stale `drivers` in the working directory must not be executed in place of the installed one."""
    code = f"import sys; sys.path.insert(0, {str(checkout)!r})\ntry:\n    import {folder}\n"
    said = run_clean(code + "except ImportError as error:\n    print(error)\n")
    assert f"import it as 'neurobench.{folder}'" in said
