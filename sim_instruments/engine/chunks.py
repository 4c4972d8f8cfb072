"""The part of Lua that TSP clients send line by line, read into plain functions; nothing else is carried out.

    chunk := {statement [;]}       statement := a.b.c = e {, e} | a, b = f(...) | f(...) | local n = e
                               | if e then ... [elseif e then ...] [else ...] end | do ... end
                               | for n = e, e[, e] do ... end | while e do ... end | break
    e     := numbers, 'strings', true, false, nil, names, a.b, a[i], f(e), {e, e}, - not, * / + - .. == ~= < <= > >=

`parse(text)` returns statements, each to be called with a `Scope`. What does not parse is -285 and nothing has been
done; what fails while it runs is -286. Function definitions are refused, and a loop without end is broken off: a
simulated instrument runs the short scripts of public drivers, no programs. Source: Lua 5.0 reference manual, sections
2.1 to 2.5; from memory.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

from .status import ScpiError

Value = Any  # float, str, bool, None, list, Function, Node; a tuple is what a function with several results returns


class Scope(Protocol):
    """Where names live, and what is behind a dot."""

    def get(self, name: str) -> Value:
        """The value of a name; None: it has none."""

    def set(self, name: str, value: Value, local: bool = False) -> None:
        """Give a name a value."""

    def member(self, container: Value, key: Value, what: str) -> Value:
        """container.key or container[key]; `what` is how the container was written, for the message."""

    def set_member(self, container: Value, key: Value, value: Value, what: str) -> None:
        """container.key = value."""

    def call(self, function: Value, args: Sequence[Value], what: str) -> Value:
        """Call a function; a tuple is several results."""


class Table(list[Any]):
    """A table of the client: what it numbers from 1, and `fields` by name."""

    def __init__(self, items: Sequence[Value] = ()) -> None:
        super().__init__(items)
        self.fields: dict[str, Value] = {}


Expression = Callable[[Scope], Value]
Statement = Callable[[Scope], object]


def fail(why: str) -> ScpiError:
    """A run-time error."""
    return ScpiError(-286, f"TSP Runtime error at line 1: {why}")


# ---------------------------------------------------------------------------------------------- words

_TOKEN = re.compile(
    r"""(?P<blank>[\x00-\x20]+|--.*)
    | (?P<number>0[xX][0-9a-fA-F]+ | (?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<string>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | \[\[[^\]]*\]\])
    | (?P<sign>==|~=|<=|>=|\.\.|[=<>+*/.,;()\[\]{}-])""",
    re.VERBOSE | re.ASCII,
)
_KEYWORDS: Final = frozenset({
    "and", "break", "do", "else", "elseif", "end", "false", "for",
    "function", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
})  # fmt: skip
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_DEEPEST = 30  # parentheses, lists and ifs inside each other
_LONGEST = 1 << 16  # characters of a string
_MOST_ROUNDS = 100_000  # of one loop


class Token(NamedTuple):
    """A word of a chunk: its class (number, name, string, sign, keyword, end) and its text."""

    what: str
    text: str


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or not token.group().isascii():
            raise ScpiError(-285, f"TSP Syntax error at line 1: unexpected symbol near `{text[at : at + 20]}'")
        at = token.end()
        kind = token.lastgroup or ""
        if kind != "blank":
            found.append(Token("keyword" if token.group() in _KEYWORDS else kind, token.group()))
    return [*found, Token("end", "<eof>")]


# ---------------------------------------------------------------------------------------------- operators


def one(value: Value) -> Value:
    """The first of several results."""
    return (value[0] if value else None) if isinstance(value, tuple) else value


def is_number(value: Value) -> bool:
    """Whether it is a number (true and false are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_true(value: Value) -> bool:
    """What counts as true: all but nil and false."""
    return value is not None and value is not False


def kind_of(value: Value) -> str:
    """What Lua's `type` says."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "boolean"
    if is_number(value):
        return "number"
    return "string" if isinstance(value, str) else "function" if callable(value) else "table"


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    return float("nan") if a == 0 or a != a else float("inf") * a


def _arithmetic(compute: Callable[[float, float], float]) -> Callable[[Value, Value], Value]:
    def act(a: Value, b: Value) -> Value:
        if not (is_number(a) and is_number(b)):
            raise fail(f"attempt to perform arithmetic on a {kind_of(b if is_number(a) else a)} value")
        return compute(float(a), float(b))

    return act


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Value, Value], Value]:
    def act(a: Value, b: Value) -> Value:
        if not (is_number(a) and is_number(b)) and not (isinstance(a, str) and isinstance(b, str)):
            raise fail(f"attempt to compare {kind_of(a)} with {kind_of(b)}")
        return compare(a, b)

    return act


def _equal(a: Value, b: Value) -> bool:
    return a is b if kind_of(a) not in ("number", "string") else kind_of(a) == kind_of(b) and bool(a == b)


def _join(a: Value, b: Value) -> Value:
    parts = [value if isinstance(value, str) else f"{value:.14g}" if is_number(value) else None for value in (a, b)]
    if parts[0] is None or parts[1] is None:
        raise fail(f"attempt to concatenate a {kind_of(a if parts[0] is None else b)} value")
    if len(parts[0]) + len(parts[1]) > _LONGEST:
        raise fail("not enough memory")
    return parts[0] + parts[1]


_LEVELS: Final[tuple[dict[str, Callable[[Value, Value], Value]], ...]] = (
    {
        "==": _equal,
        "~=": lambda a, b: not _equal(a, b),
        "<": _comparison(operator.lt),
        "<=": _comparison(operator.le),
        ">": _comparison(operator.gt),
        ">=": _comparison(operator.ge),
    },
    {"..": _join},
    {"+": _arithmetic(operator.add), "-": _arithmetic(operator.sub)},
    {"*": _arithmetic(operator.mul), "/": _arithmetic(_divide)},
)


# ---------------------------------------------------------------------------------------------- places


class Step(NamedTuple):
    """One step along `a.b[i](x)`: to a member or through a call; `what`: all that was written before it."""

    key: Expression | None
    args: Sequence[Expression]
    what: str


@dataclass(frozen=True, slots=True)
class Place:
    """A name and the steps from it: `smua.nvbuffer1[1]`, `print(x)`."""

    name: str
    steps: Sequence[Step]

    @property
    def is_call(self) -> bool:
        """Whether the last step is a call."""
        return bool(self.steps) and self.steps[-1].key is None

    def _walk(self, scope: Scope, steps: Sequence[Step]) -> Value:
        value = scope.get(self.name)
        for step in steps:
            if step.key is None:
                value = scope.call(one(value), values(step.args, scope), step.what)
            else:
                value = scope.member(one(value), one(step.key(scope)), step.what)
        return value

    def __call__(self, scope: Scope) -> Value:
        """Its value."""
        return self._walk(scope, self.steps)

    def assign(self, scope: Scope, value: Value) -> None:
        """Put a value there."""
        if not self.steps:
            scope.set(self.name, value)
            return
        last = self.steps[-1]
        assert last.key is not None  # the parser refuses a call before `=`
        scope.set_member(one(self._walk(scope, self.steps[:-1])), one(last.key(scope)), value, last.what)


def values(expressions: Sequence[Expression], scope: Scope) -> list[Value]:
    """The values of a list: only the last may be a call with several results."""
    if not expressions:
        return []
    found = [one(each(scope)) for each in expressions[:-1]]  # from left to right: a call may change what follows it
    last = expressions[-1](scope)
    return [*found, *(last if isinstance(last, tuple) else (last,))]


# ---------------------------------------------------------------------------------------------- loops


class _Broken(Exception):
    """`break` was reached."""


def _break(_scope: Scope) -> None:
    raise _Broken


def _repeat(rounds: Iterator[None], inside: Sequence[Statement], scope: Scope) -> None:
    """Carry out what is inside of a loop; one that does not end is broken off, so that it stops no server."""
    try:
        for turn, _ in enumerate(rounds):
            if turn >= _MOST_ROUNDS:
                raise fail("the loop does not end")
            for statement in inside:
                statement(scope)
    except _Broken:
        pass


# ---------------------------------------------------------------------------------------------- parser


class _Parser:
    """Recursive descent over the words of one chunk; chains of operators and steps are loops, so depth is bounded."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0
        self.loops = 0  # that the present statement is in

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def wrong(self) -> ScpiError:
        return ScpiError(-285, f"TSP Syntax error at line 1: unexpected symbol near `{self.token.text[:20]}'")

    def accept(self, *texts: str) -> str:
        token = self.token
        if token.what not in ("sign", "keyword") or token.text not in texts:
            return ""
        self.at += 1
        return token.text

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise self.wrong()

    def name(self) -> str:
        if self.token.what != "name":
            raise self.wrong()
        self.at += 1
        return self.tokens[self.at - 1].text

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ScpiError(-285, "TSP Syntax error at line 1: chunk has too many syntax levels")

    # ---- statements

    def block(self, *ends: str) -> tuple[list[Statement], str]:
        """Statements up to one of these words, and which it was."""
        found: list[Statement] = []
        while True:
            if self.accept(";"):
                continue
            if not ends and self.token.what == "end":
                return found, ""
            if end := self.accept(*ends):
                return found, end
            found.append(self.statement())

    def statement(self) -> Statement:
        special = {"if": self.choice, "local": self.local, "for": self.counted, "while": self.loop, "do": self.inner}
        if word := self.accept(*special, *(("break",) if self.loops else ())):
            return special[word]() if word in special else _break
        first = self.place()
        if first.is_call and self.token.text not in ("=", ","):
            return first
        return self.assignment(first)

    def choice(self) -> Statement:
        self.deeper()
        condition = self.expression()
        self.expect("then")
        yes, end = self.block("elseif", "else", "end")
        no = [self.choice()] if end == "elseif" else self.block("end")[0] if end == "else" else []
        self.depth -= 1

        def act(scope: Scope) -> None:
            for statement in yes if is_true(one(condition(scope))) else no:
                statement(scope)

        return act

    def body(self, loop: int = 1) -> list[Statement]:
        """Statements between `do` and `end`."""
        self.deeper()
        self.loops += loop
        found = self.block("end")[0]
        self.loops -= loop
        self.depth -= 1
        return found

    def inner(self) -> Statement:
        inside = self.body(loop=0)

        def act(scope: Scope) -> None:
            for statement in inside:
                statement(scope)

        return act

    def counted(self) -> Statement:
        """for name = first, last, step do .. end"""
        name = self.name()
        self.expect("=")
        bounds = self.expressions()
        self.expect("do")
        inside = self.body()
        if not 2 <= len(bounds) <= 3:
            raise self.wrong()

        def act(scope: Scope) -> None:
            numbers = [one(each(scope)) for each in bounds]
            if not all(map(is_number, numbers)):
                raise fail("`for' limits and step must be numbers")
            first, last, step = float(numbers[0]), float(numbers[1]), float(numbers[2] if len(numbers) > 2 else 1)

            def rounds() -> Iterator[None]:
                value = first
                while value <= last if step > 0 else value >= last:
                    scope.set(name, value, local=True)
                    yield
                    value += step

            _repeat(rounds(), inside, scope)

        return act

    def loop(self) -> Statement:
        """while condition do .. end"""
        condition = self.expression()
        self.expect("do")
        inside = self.body()

        def act(scope: Scope) -> None:
            def rounds() -> Iterator[None]:
                while is_true(one(condition(scope))):
                    yield

            _repeat(rounds(), inside, scope)

        return act

    def local(self) -> Statement:
        names = [self.name()]
        while self.accept(","):
            names.append(self.name())
        sources = self.expressions() if self.accept("=") else []

        def act(scope: Scope) -> None:
            given = values(sources, scope)
            for i, name in enumerate(names):
                scope.set(name, given[i] if i < len(given) else None, local=True)

        return act

    def assignment(self, first: Place) -> Statement:
        places = [first]
        while self.accept(","):
            places.append(self.place())
        if any(place.is_call for place in places):
            raise self.wrong()
        self.expect("=")
        sources = self.expressions()

        def act(scope: Scope) -> None:
            given = values(sources, scope)
            for i, place in enumerate(places):
                place.assign(scope, given[i] if i < len(given) else None)

        return act

    # ---- expressions

    def expressions(self) -> list[Expression]:
        found = [self.expression()]
        while self.accept(","):
            found.append(self.expression())
        return found

    def listed(self, end: str) -> list[Expression]:
        """Expressions up to a closing sign."""
        self.deeper()
        found: list[Expression] = []
        while not ((end == "}" or not found) and self.accept(end)):  # a list may end with a comma
            found.append(self.expression())
            if not self.accept(","):
                self.expect(end)
                break
        self.depth -= 1
        return found

    def expression(self, level: int = 0) -> Expression:
        if level == len(_LEVELS):
            return self.unary()
        first = self.expression(level + 1)
        rest: list[tuple[Callable[[Value, Value], Value], Expression]] = []
        while sign := self.accept(*_LEVELS[level]):
            rest.append((_LEVELS[level][sign], self.expression(level + 1)))
        if not rest:
            return first

        def act(scope: Scope) -> Value:
            value = one(first(scope))
            for combine, other in rest:
                value = combine(value, one(other(scope)))
            return value

        return act

    def unary(self) -> Expression:
        signs: list[str] = []
        while sign := self.accept("-", "not"):
            signs.append(sign)
        inner = self.simple()
        if not signs:
            return inner

        def act(scope: Scope) -> Value:
            value = one(inner(scope))
            for sign in reversed(signs):
                value = not is_true(value) if sign == "not" else _LEVELS[2]["-"](-0.0, value)
            return value

        return act

    def simple(self) -> Expression:
        token = self.token
        if token.what == "name":
            return self.place()
        if self.accept("("):
            inner = self.grouped()
            return lambda scope: one(inner(scope))
        if self.accept("{"):
            items = self.listed("}")
            return lambda scope: Table(values(items, scope))
        constant = _constant(token)
        if constant is NotImplemented:
            raise self.wrong()
        self.at += 1
        return lambda _scope: constant

    def grouped(self) -> Expression:
        self.deeper()
        inner = self.expression()
        self.expect(")")
        self.depth -= 1
        return inner

    def place(self) -> Place:
        start = self.at
        name = self.name()
        steps: list[Step] = []
        while sign := self.accept(".", "[", "("):
            what = "".join(token.text for token in self.tokens[start : self.at - 1])
            steps.append(self.step(sign, what))
        return Place(name, steps)

    def step(self, sign: str, what: str) -> Step:
        if sign == "(":
            return Step(None, self.listed(")"), what)
        if sign == ".":
            key = self.name()
            return Step(lambda _scope: key, (), what)
        self.deeper()
        index = self.expression()
        self.expect("]")
        self.depth -= 1
        return Step(index, (), what)


def _constant(token: Token) -> Value:
    """The value of a literal; NotImplemented: it is none."""
    if token.what == "number":
        return float(int(token.text, 16)) if token.text[:2] in ("0x", "0X") else float(token.text)
    if token.text.startswith("[["):
        return token.text[2:-2]
    if token.what == "string":
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), token.text[1:-1])
    return {"true": True, "false": False, "nil": None}.get(
        token.text if token.what == "keyword" else "", NotImplemented
    )


@lru_cache(maxsize=512)  # clients say the same lines again and again
def parse(text: str) -> tuple[Statement, ...]:
    """The statements of a chunk. Raises ScpiError -285 if any of it does not parse."""
    return tuple(_Parser(text).block()[0])
