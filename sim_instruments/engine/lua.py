"""Functions of Lua that clients of TSP instruments use beside those of the instrument: what is there, of what type.

A table of the instrument shows its members as a real one does, through its metatable: `Getters`, `Setters` and
`Objects` by name, and `luatype` (as clients read them that build their classes from the instrument's own tree). Tables
of the client and `_G` show what they hold. Source: Lua 5.0 reference manual, section 5; the metatables from what public
drivers ask for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from .chunks import Table, Value, fail, is_number, kind_of
from .tsp import Attribute, Constant, Function, Method, Node, Real, Row, Truth

if TYPE_CHECKING:
    from ..world.world import World
    from .tsp import TspInstrument


_MOST_OBJECTS: Final = 64  # of one array


class Globals(Node):
    """_G: the instrument's own names and the client's."""

    def __init__(self, unit: TspInstrument) -> None:
        super().__init__("_G", unit)
        self._unit = unit

    def __contains__(self, name: str) -> bool:
        return name in self._unit.tree or name in self._unit.users

    def get(self, name: str) -> Value:
        """The value of a global name."""
        return self._unit.tree.get(name) if name in self._unit.tree else self._unit.users.get(name)

    def set(self, name: str | int, value: Value) -> None:
        """Give a name of the client a value."""
        if not isinstance(name, str) or name in self._unit.tree:
            raise fail(f"`{name}' belongs to the instrument")
        self._unit.users[name] = value

    def shown(self) -> Mapping[str, Value]:
        """All names with their values."""
        tree = self._unit.tree
        given = {name: value for name, value in self._unit.users.items() if value is not None}
        return {name: tree.get(name) for name in tree.names()} | given


def metatable(table: Value = None) -> Table | None:
    """What a table of the instrument consists of; nil for anything else."""
    if not isinstance(table, Node) or isinstance(table, Globals):
        return None
    accessor = Function("accessor", lambda: None)
    found = Table()
    settable = table.settable()
    shown = {name: table.get(name) for name in table.names() if name not in settable}
    objects = {name: value for name, value in shown.items() if name not in table.computed()}
    for part, members in (
        ("Getters", dict.fromkeys((*settable, *table.computed()), accessor)),
        ("Setters", dict.fromkeys(settable, accessor)),
        ("Objects", objects),
    ):
        found.fields[part] = inner = Table()
        inner.fields.update(members)
    found.fields["luatype"] = _luatype(table)
    return found


def _luatype(table: Node) -> str:
    if table.series is None:
        return "table"
    return "reading_buffer" if "n" in table else "synchronous_table"


def _array(table: Node) -> dict[Value, Value]:
    """The objects of an array such as slot[1], slot[2]."""
    entries: dict[Value, Value] = {}
    while table.indexed and len(entries) < _MOST_OBJECTS and (found := table.at(len(entries) + 1)) is not None:
        entries[float(len(entries) + 1)] = found
    return entries


def following(table: Value, key: Value = None) -> Value:
    """next(table, key): the entry after this key with its value; nil after the last."""
    if isinstance(table, Globals):
        entries: dict[Value, Value] = dict(table.shown())
    elif isinstance(table, Table):
        entries = {float(place): value for place, value in enumerate(table, 1)} | table.fields
    elif isinstance(table, Node):
        entries = _array(table)
    else:
        raise fail(f"bad argument #1 to `next' (table expected, got {kind_of(table)})")
    keys = list(entries)
    place = 0 if key is None else keys.index(key) + 1 if key in keys else len(keys)
    return (keys[place], entries[keys[place]]) if place < len(keys) else None


def to_number(value: Value = None) -> Value:
    """tonumber(value); nil if it is none."""
    try:
        return float(value) if is_number(value) or isinstance(value, str) else None
    except ValueError:
        return None


class Stopwatch:
    """timer.reset() and timer.measure.t()."""

    def __init__(self, world: World) -> None:
        self._world, self._from_s = world, 0.0

    def reset(self) -> None:
        """It begins at 0."""
        self._from_s = self._world.now_s()

    def seconds(self) -> float:
        """Since it was reset, or since power-on."""
        return self._world.now_s() - self._from_s


class Ports:
    """How the instrument is connected and what memory is free: can be read, and has no effect here."""

    ROWS: ClassVar[tuple[Row, ...]] = (
        *(Attribute(f"comm.{name}.enable", f"{name}_enabled", Truth(True)) for name in ("gpib", "lan")),
        Attribute("gpib.address", "gpib_address", Real(0, 30, 16, integer=True)),
        Constant("lan.status.ipaddress", "127.0.0.1"),
        Method("lan.reset", "nothing"),
        Method("memory.available", "free"),
    )

    def nothing(self) -> None:
        """Nothing to be done."""

    def free(self) -> str:
        """Percent that are free: system, scripts, patterns, configuration."""
        return "100.00, 100.00, 100.00, 100.00"


def _magnitude(value: float) -> float:
    return abs(value)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def _root(value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan


def _power(base: float, exponent: float) -> float:
    return math.pow(base, exponent) if base or exponent >= 0 else math.inf


MATH: Final[tuple[Row, ...]] = (
    *(Constant("math.pi", math.pi), Method("math.abs", _magnitude)),
    *(Method("math.sqrt", _root), Method("math.log", _log), Method("math.pow", _power)),
)


def library(unit: TspInstrument) -> list[Row]:
    """What an instrument has of it."""
    watch = Stopwatch(unit.world)
    world = Constant("_G", Globals(unit))
    ports = Node("", Ports(), Ports.ROWS)
    return [
        world, Method("type", kind_of), Method("next", following), Method("getmetatable", metatable),
        Method("tostring", unit.text), Method("tonumber", to_number), *MATH,
        Method("timer.reset", watch.reset), Method("timer.measure.t", watch.seconds),
        *(Constant(name, ports.get(name)) for name in ports.names()),
        Constant("node", Node("node", index=lambda number: world.value if number == 1 else None)),
    ]  # fmt: skip
