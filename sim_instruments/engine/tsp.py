"""TSP instruments: a tree of attributes and functions, spoken to line by line in the subset of Lua of `chunks`.

    class Channel:
        level_v: float
        def measure_i(self) -> float: ...
        def moved(self) -> None: ...
        def limit_hit(self) -> bool: ...

    class Blinker(TspInstrument):
        MODEL, IDN, ROLE = "acme-blinker", "ACME Inc., Model Blinker, {serial}, 1.0", "smu"

        def build(self) -> None:                               once, before the first reset
            channel = Channel()
            buffer = Node("nvbuffer1", series=lambda: channel.readings, rows=(Computed("n", lambda: ...),))
            self.tree.add(Node("smua", channel, (
                Attribute("source.levelv", "level_v", Real(-40, 40, default=0), changed="moved"),
                Attribute("source.output", "output", OneOf(0, 1)),
                Computed("source.compliance", "limit_hit"),    a method's (or property's) name, or a function; `store`
                Method("measure.i", "measure_i"),              likewise
                Constant("OUTPUT_DCVOLTS", 1),
                Constant("nvbuffer1", buffer),                 any value, also another node
            )))
            self.tree.add(Node("slot", index=lambda n: ...))   slot[1]
            self.tree.add(Method("InitiatePulseTest", self.initiate_pulse_test))

Dots in the name of a row make the nodes in between. A function that is called checks what it is given by its
annotations: `float`, `int` (a whole number), `str`, `bool`, `Node`, `list[float]`, each also with `| None`; a missing
or surplus argument is an error. Several results are a tuple. A function that takes time calls `self.spend`; one that
works in the background `self.begin(until_ps)`, see `instrument`.

Numbers are printed as by a 2600B (`1.00000e-06`, `format.asciiprecision` significant digits). Sources: Series 2600B
Reference Manual 2600BS-901-01, chapters 5 to 8, and Series 700B Reference Manual 707B-901-01; details from memory.
"""

from __future__ import annotations

import inspect
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from .chunks import Statement, Table, Value, fail, is_number, kind_of, parse
from .scpi import Ieee488
from .status import MSS, ScpiError

__all__ = [
    "Attribute", "Computed", "Constant", "Function", "Method", "Node", "OneOf", "Real", "ScpiError", "String", "Truth",
    "TspInstrument", "Value", "fail",
]  # fmt: skip


# ---------------------------------------------------------------------------------------------- kinds of attributes


class Kind(ABC):
    """What values an attribute takes."""

    default: Any

    @abstractmethod
    def check(self, value: Value) -> Any:
        """The value as it is kept. Raises ScpiError -104 (type) or -222, -224 (which value)."""


@dataclass(frozen=True)
class Real(Kind):
    """A number in a range."""

    low: float = float("-inf")
    high: float = float("inf")
    default: float = 0.0
    integer: bool = False

    def check(self, value: Value) -> float:
        """The number."""
        number = _number(value)
        if self.integer:
            number = float(_whole(number))
        if not self.low <= number <= self.high:
            raise ScpiError(-222, f"Parameter data out of range; {number:g} is not in {self.low:g} .. {self.high:g}")
        return number


class OneOf(Kind):
    """One of some numbers, such as 0 and 1; the first is the default."""

    def __init__(self, *allowed: float, default: float | None = None) -> None:
        self.allowed = allowed
        self.default = allowed[0] if default is None else default

    def check(self, value: Value) -> float:
        """The number."""
        number = _number(value)
        if number not in self.allowed:
            raise ScpiError(-224, f"Illegal parameter value; {number:g}")
        return number


@dataclass(frozen=True)
class String(Kind):
    """A text."""

    default: str = ""

    def check(self, value: Value) -> str:
        """The text."""
        return _string(value)


@dataclass(frozen=True)
class Truth(Kind):
    """true or false."""

    default: bool = False

    def check(self, value: Value) -> bool:
        """The truth; 1 and 0 do as well."""
        if not isinstance(value, bool | int | float):
            raise ScpiError(-104, "Data type error; true or false expected")
        return bool(value)


def _number(value: Value) -> float:
    if not is_number(value):
        raise ScpiError(-104, f"Data type error; number expected, got {kind_of(value)}")
    return float(value)


def _whole(value: Value) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ScpiError(-104, f"Data type error; whole number expected, got {number:g}")
    return int(number)


def _string(value: Value) -> str:
    if not isinstance(value, str):
        raise ScpiError(-104, f"Data type error; string expected, got {kind_of(value)}")
    return value


def _boolean(value: Value) -> bool:
    if not isinstance(value, bool):
        raise ScpiError(-104, f"Data type error; boolean expected, got {kind_of(value)}")
    return value


def _numbers(value: Value) -> list[float]:
    if not isinstance(value, list):
        raise ScpiError(-104, f"Data type error; table expected, got {kind_of(value)}")
    return [_number(each) for each in value]


def _node(value: Value) -> Node:
    if not isinstance(value, Node):
        raise ScpiError(-104, f"Data type error; object expected, got {kind_of(value)}")
    return value


_CHECKS: Final[Mapping[str, Callable[[Value], Any]]] = {
    "float": _number, "int": _whole, "str": _string, "bool": _boolean, "list[float]": _numbers, "Node": _node,
}  # fmt: skip


def _check_of(annotation: object) -> Callable[[Value], Any]:
    """What checks an argument of this annotation: a string, or a type in modules that evaluate annotations."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    words = [word.strip() for word in text.split("|")]
    check = next((_CHECKS[word] for word in words if word in _CHECKS), None)

    def act(value: Value) -> Any:
        return value if check is None or (value is None and "None" in words) else check(value)

    return act


# ---------------------------------------------------------------------------------------------- the tree


class Function:
    """A function of the tree: called with values, which it checks by its annotations."""

    def __init__(self, name: str, act: Callable[..., Value]) -> None:
        self.name = name
        self._act = act
        self._checks: list[Callable[[Value], Any]] = []
        self._rest: Callable[[Value], Any] | None = None
        self._needed = 0
        for parameter in inspect.signature(act).parameters.values():
            check = _check_of(parameter.annotation)
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = check
            else:
                self._checks.append(check)
                self._needed += parameter.default is parameter.empty

    def __call__(self, *args: Value) -> Value:
        """Its result."""
        if len(args) < self._needed:
            raise ScpiError(-109, f"Missing parameter; {self.name}")
        if len(args) > len(self._checks) and self._rest is None:
            raise ScpiError(-108, f"Parameter not allowed; {self.name}")
        surplus = [self._rest] * max(len(args) - len(self._checks), 0) if self._rest is not None else []
        checks = [*self._checks[: len(args)], *surplus]
        return self._act(*(check(value) for check, value in zip(checks, args, strict=True)))


@dataclass(frozen=True, slots=True)
class Attribute:
    """A value that can be read and written: `attribute` of the node's owner; `changed`: its method to call after it.

    `reset()` gives it the default of its kind (without calling `changed`).
    """

    name: str
    attribute: str
    kind: Kind
    changed: str = ""


@dataclass(frozen=True, slots=True)
class Computed:
    """A value that is asked for each time: a method or property of the owner (by name) or a function.

    `store`: method of the owner (by name) or function that takes a new value; without it, it can only be read.
    """

    name: str
    source: str | Callable[[], Value]
    store: str | Callable[[Value], object] | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A function: a method of the owner (by name) or any other."""

    name: str
    source: str | Callable[..., Value]


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that never changes, or another node."""

    name: str
    value: Value


Row = Attribute | Computed | Method | Constant


class Node:
    """A table of the instrument, such as smua or smua.nvbuffer1: a value that can be passed to functions.

    `series`: the numbers that `printbuffer` prints and `[n]` gives (from 1); `index`: what `[n]` gives otherwise;
    `place`: what `[n] = value` does.
    """

    def __init__(
        self,
        name: str,
        owner: object = None,
        rows: Sequence[Row] = (),
        *,
        series: Callable[[], Sequence[float]] | None = None,
        index: Callable[[int], Value] | None = None,
        place: Callable[[int, Value], object] | None = None,
    ) -> None:
        self.name = name
        self.owner = owner
        self.series = series
        self._index = index
        self._place = place
        self._members: dict[str, Value | Attribute | Computed] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Row | Node) -> None:
        """One more row or child; the nodes of a dotted name are made as needed."""
        *path, last = row.name.split(".")
        node = self
        for name in path:
            node = node._child(name)
        node._members[last] = self._bound(row)

    def _child(self, name: str) -> Node:
        child = self._members.setdefault(name, Node(name, self.owner))
        if not isinstance(child, Node):
            raise ValueError(f"{self.name}.{name} is no table")
        return child

    def _bound(self, row: Row | Node) -> Value:
        """What is kept of a row: functions and getters bound to the owner."""
        if isinstance(row, Constant):
            return row.value
        if isinstance(row, Method):
            act = getattr(self.owner, row.source) if isinstance(row.source, str) else row.source
            return Function(row.name, act)
        return _Owned(row, self.owner) if isinstance(row, Attribute | Computed) else row

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def get(self, name: str) -> Value:
        """The member of that name; None (nil) if there is none."""
        member = self._members.get(name)
        return member.get() if isinstance(member, _Owned) else member

    def at(self, index: Value) -> Value:
        """`node[index]`; None (nil) outside."""
        if isinstance(index, str):
            return self.get(index)
        place = _whole(index)
        if self._index is not None:
            return self._index(place)
        numbers = self.series() if self.series is not None else ()
        return float(numbers[place - 1]) if 1 <= place <= len(numbers) else None

    def set(self, name: str | int, value: Value) -> None:
        """Give an attribute a value. Raises ScpiError -286 if there is none of that name that can be set."""
        if isinstance(name, int) and self._place is not None:
            self._place(name, value)
            return
        member = self._members.get(name) if isinstance(name, str) else None
        if not isinstance(member, _Owned):
            raise fail(f"cannot set `{self.name}.{name}'")
        member.set(value)

    @property
    def indexed(self) -> bool:
        """Whether it is an array of objects, as slot[1]."""
        return self._index is not None

    def names(self) -> list[str]:
        """Its members."""
        return list(self._members)

    def settable(self) -> list[str]:
        """Members that can be set."""
        return [name for name, member in self._members.items() if isinstance(member, _Owned) and member.can_be_set]

    def computed(self) -> list[str]:
        """Members that can be read only, and change."""
        return [name for name, member in self._members.items() if isinstance(member, _Owned) and not member.can_be_set]

    def restore(self) -> None:
        """Give all attributes from here on their defaults."""
        for member in self._members.values():
            if isinstance(member, _Owned | Node):
                member.restore()


@dataclass(frozen=True, slots=True)
class _Owned:
    """An attribute or a computed value with the object that has it."""

    row: Attribute | Computed
    owner: Any

    @property
    def can_be_set(self) -> bool:
        return isinstance(self.row, Attribute) or self.row.store is not None

    def get(self) -> Value:
        if isinstance(self.row, Attribute):
            return getattr(self.owner, self.row.attribute)
        found = getattr(self.owner, self.row.source) if isinstance(self.row.source, str) else self.row.source
        return found() if callable(found) else found

    def set(self, value: Value) -> None:
        if isinstance(self.row, Computed):
            self._store(self.row, value)
            return
        setattr(self.owner, self.row.attribute, self.row.kind.check(value))
        if self.row.changed:
            getattr(self.owner, self.row.changed)()

    def _store(self, row: Computed, value: Value) -> None:
        if row.store is None:
            raise fail(f"`{row.name}' can only be read")
        store = getattr(self.owner, row.store) if isinstance(row.store, str) else row.store
        store(value)

    def restore(self) -> None:
        if isinstance(self.row, Attribute):
            setattr(self.owner, self.row.attribute, self.row.kind.default)


def _put(table: Table, key: Value, value: Value) -> None:
    """table[key] = value for a table of the client, which has no gaps."""
    if isinstance(key, str):
        table.fields[key] = value
        return
    place = _whole(key)
    if not 1 <= place <= min(len(table) + 1, _LONGEST_TABLE):
        raise fail(f"a table of {len(table)} values has no place {place}")
    table[place - 1 : place] = [value]


_LONGEST_TABLE: Final = 1_000_000

# ---------------------------------------------------------------------------------------------- names


class _Names:
    """The names of one chunk: its locals, the instrument's tree, the user's globals."""

    def __init__(self, tree: Node, users: dict[str, Value]) -> None:
        self._tree = tree
        self._users = users
        self._locals: dict[str, Value] = {}

    def get(self, name: str) -> Value:
        if name in self._locals:
            return self._locals[name]
        return self._tree.get(name) if name in self._tree else self._users.get(name)

    def set(self, name: str, value: Value, local: bool = False) -> None:
        if local or name in self._locals:
            self._locals[name] = value
        elif name in self._tree:
            raise fail(f"`{name}' belongs to the instrument")
        else:
            self._users[name] = value

    def member(self, container: Value, key: Value, what: str) -> Value:
        if isinstance(container, Node):
            return container.at(key)
        if isinstance(container, Table) and isinstance(key, str):
            return container.fields.get(key)
        if isinstance(container, list):
            place = _whole(key)
            return container[place - 1] if 1 <= place <= len(container) else None
        raise fail(f"attempt to index `{what[:60]}' (a {kind_of(container)} value)")

    def set_member(self, container: Value, key: Value, value: Value, what: str) -> None:
        if isinstance(container, Node):
            container.set(key if isinstance(key, str) else _whole(key), value)
            return
        if isinstance(container, Table):
            _put(container, key, value)
            return
        raise fail(f"attempt to set an index of `{what[:60]}' (a {kind_of(container)} value)")

    def call(self, function: Value, args: Sequence[Value], what: str) -> Value:
        if isinstance(function, Node) and isinstance(function.owner, Script):
            function = function.get("run")
        if not isinstance(function, Function):
            raise fail(f"attempt to call `{what[:60]}' (a {kind_of(function)} value)")
        return function(*args)


# ---------------------------------------------------------------------------------------------- scripts


class Script:
    """A script that was loaded: run by its name or `name.run()`."""

    def __init__(self, unit: TspInstrument, name: str, lines: Sequence[str]) -> None:
        self._unit, self.source = unit, "\n".join(lines)
        self.node = Node(name, self, (Method("run", "run"), Method("save", "save"), Constant("source", self.source)))

    def run(self) -> None:
        """Carry it out."""
        names = self._unit.names()
        for statement in parse(self.source):
            statement(names)

    def save(self) -> None:
        """Saved scripts would survive a power cycle: not simulated, the command is accepted."""


# ---------------------------------------------------------------------------------------------- instruments


class TspInstrument(Ieee488):
    """An instrument that is spoken to in TSP. `tree` is its root: what stands there is a global name."""

    SEVERITY: ClassVar[float] = 20.0  # of every entry of the error queue: recoverable
    ascii_precision: float
    data_format: float
    byte_order: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.tree = Node("", self, _COMMON)
        self.users: dict[str, Value] = {}  # global variables of the client; a power cycle loses them
        self._loading: list[str] | None = None  # lines of a script that is being loaded, its first line included
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Every attribute gets its default."""
        super().reset()
        self.tree.restore()

    def switched_on(self) -> None:
        """The client's variables are gone."""
        super().switched_on()
        self.users.clear()

    # ---- messages

    def _end_of_message(self, buffer: bytearray) -> int:
        return buffer.find(b"\n")

    def _interrupt(self) -> None:
        """Printed lines queue up; a new chunk takes none of them away."""

    def execute(self, message: bytes) -> Iterator[None]:
        """Carry out one line: a chunk, or a message of common commands if it begins with `*`."""
        text = message.decode("latin-1")
        if self._loading is not None or _LOAD.fullmatch(text.strip()):
            text = self._loaded(text)
        if text.lstrip().startswith("*"):
            yield from super().execute(message)
            return
        if text.strip() == "abort":  # the bus command that ends a running script; none runs between messages
            return
        names = self.names()
        statements: list[Statement] = []
        self.guarded(lambda: statements.extend(parse(text)))
        for statement in statements:
            failed = self.guarded(partial(statement, names))
            yield
            if failed:
                return

    def names(self) -> _Names:
        """The names that a chunk sees."""
        return _Names(self.tree, self.users)

    def _loaded(self, line: str) -> str:
        """Keep a line of loadscript .. endscript; what is to be carried out after it."""
        self._loading = [*(self._loading or ()), line]
        if line.strip() != "endscript" and len(self._loading) <= _LONGEST_SCRIPT:
            return ""
        (first, *body, _), self._loading = self._loading, None
        found = _LOAD.fullmatch(first.strip())
        assert found is not None  # it has begun with this line
        if found[2]:
            self.users[found[2]] = Script(self, found[2], body).node
        return "\n".join(body) if found[1] == "loadandrunscript" else ""

    def clear(self) -> None:
        """Device clear: also a script that is only half there."""
        self._loading = None
        super().clear()

    def text(self, value: Value) -> str:
        """A value as `print` shows it."""
        if value is None or isinstance(value, bool):
            return {None: "nil", True: "true", False: "false"}[value]
        if is_number(value):
            return f"{value:.{int(self.ascii_precision or 16) - 1}e}"
        return value if isinstance(value, str) else f"{kind_of(value)}: {getattr(value, 'name', '')}"

    def _line(self, values: Iterable[Value], between: str) -> None:
        self.reply(between.join(map(self.text, values)).replace("\n", " ").encode("ascii", "replace"))

    # ---- functions that all have

    def _print(self, *values: Value) -> None:
        self._line(values, "\t")

    def _print_number(self, *values: float) -> None:
        self._numbers(values)

    def _numbers(self, values: Sequence[float]) -> None:
        """Numbers as text, or as `format.data` says: an indefinite block, #0, in the byte order of `format`."""
        if self.data_format == 1:
            self._line(values, ", ")
            return
        letter, order = "f" if self.data_format == 2 else "d", "<" if self.byte_order else ">"
        self.reply(b"#0" + struct.pack(f"{order}{len(values)}{letter}", *values))

    def _print_buffer(self, first: int, last: int, *buffers: Node) -> None:
        """Readings first .. last of each buffer, by turns; what is beyond the last reading is left out."""
        if first < 1 or any(buffer.series is None for buffer in buffers):
            raise ScpiError(-222, "Parameter data out of range; printbuffer(first, last, buffer ..)")
        columns = [buffer.series()[first - 1 : max(last, 0)] for buffer in buffers if buffer.series is not None]
        self._numbers([value for row in zip(*columns, strict=False) for value in row])

    def _delay(self, seconds: float) -> None:
        if not 0 <= seconds <= 1e5:
            raise ScpiError(-222)
        self.spend(seconds)

    def _wait_complete(self, _group: float | None = None) -> None:
        self.ask_wait()

    def _field(self, number: int) -> str:
        return self.identity.split(",")[number].strip()

    def _model(self) -> str:
        return self._field(1).removeprefix("Model ").removeprefix("MODEL ")

    def _serial(self) -> str:
        return self._field(2)

    def _revision(self) -> str:
        return self._field(3)

    def _error_count(self) -> float:
        return float(len(self.status.errors))

    def _next_error(self) -> tuple[Value, ...]:
        """Code, message, severity, node."""
        entry = self.status.next_error()
        text = entry.text if entry.code else "Queue Is Empty"
        return float(entry.code), text, self.SEVERITY if entry.code else 0.0, 1.0

    def _clear_errors(self) -> None:
        self.status.errors.clear()

    def _ask_opc(self) -> None:
        self.status.ask_opc()

    def _take_esr(self) -> float:
        return float(self.status.take_esr())

    def _status_byte(self) -> float:
        return float(self.status.stb())

    def _status_reset(self) -> None:
        self.status.preset()
        self.status.ese = self.status.sre = 0

    def _ese_now(self) -> float:
        return float(self.status.ese)

    def _sre_now(self) -> float:
        return float(self.status.sre)

    def _set_ese(self, mask: Value) -> None:
        self.status.ese = int(_MASK.check(mask))

    def _set_sre(self, mask: Value) -> None:
        self.status.sre = int(_MASK.check(mask)) & ~MSS


_LOAD: Final = re.compile(r"(loadscript|loadandrunscript)(?:\s+([A-Za-z_]\w*))?")
_LONGEST_SCRIPT: Final = 20_000  # lines
_FORMATS: Final = {
    "ASCII": 1.0, "SREAL": 2.0, "REAL32": 2.0, "REAL": 3.0, "REAL64": 3.0, "DREAL": 3.0,
    "NORMAL": 0.0, "NETWORK": 0.0, "BIGENDIAN": 0.0, "SWAPPED": 1.0, "LITTLEENDIAN": 1.0,
}  # fmt: skip
_MASK: Final = Real(0, 255, integer=True)
_COMMON: Final[tuple[Row, ...]] = (
    Method("print", "_print"),
    Method("printnumber", "_print_number"),
    Method("printbuffer", "_print_buffer"),
    Method("delay", "_delay"),
    Method("opc", "_ask_opc"),
    Method("waitcomplete", "_wait_complete"),
    Method("reset", "reset"),
    Computed("localnode.model", "_model"),
    Computed("localnode.serialno", "_serial"),
    Computed("localnode.revision", "_revision"),
    Method("localnode.reset", "reset"),
    Computed("errorqueue.count", "_error_count"),
    Method("errorqueue.next", "_next_error"),
    Method("errorqueue.clear", "_clear_errors"),
    Attribute("format.asciiprecision", "ascii_precision", Real(0, 16, default=6, integer=True)),
    Attribute("format.data", "data_format", OneOf(1.0, 2.0, 3.0)),
    Attribute("format.byteorder", "byte_order", OneOf(1.0, 0.0)),
    *(Constant(f"format.{name}", value) for name, value in _FORMATS.items()),
    Method("status.reset", "_status_reset"),
    Computed("status.condition", "_status_byte"),
    Computed("status.standard.event", "_take_esr"),
    Computed("status.standard.enable", "_ese_now", "_set_ese"),
    Computed("status.request_enable", "_sre_now", "_set_sre"),
)
