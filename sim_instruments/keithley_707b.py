"""Keithley 707B switching matrix with 8x12 cards (7072 class), spoken to in TSP.

Commands and replies after the Series 700B Reference Manual 707B-901-01 (section 2, channel specifiers; section 7,
channel functions); error numbers and settling time from memory. An error in a channel list is put into the error queue
and nothing moves; the function answers nil and the rest of its line goes on, as there. Not there: scans, backplane,
labels, TSP-Link. Of the DDC commands of the 707A: closing, opening, clearing (CA03X, NA03X, P0X).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from .engine.lua import library
from .engine.matrix import BREAK, MAKE, OFF, Frame, Point, Rule
from .engine.status import ScpiError
from .engine.tsp import Attribute, Constant, Method, Node, OneOf, Row, TspInstrument, Value

ROWS, COLUMNS, SLOTS = 8, 12, (1, 2, 3, 4, 5, 6)
SETTLE_S: Final = 3e-3
LETTERS: Final = "ABCDEFGH"
RULES: Final[dict[float, Rule]] = {0.0: OFF, 1.0: BREAK, 2.0: MAKE}
CONSTANTS: Final = (("OFF", 0), ("ON", 1), ("BREAK_BEFORE_MAKE", 1), ("MAKE_BEFORE_BREAK", 2), ("IND_CLOSED", 1),
                    ("TYPE_SWITCH", 1))  # fmt: skip
WRONG_CHANNEL, NOT_A_CHANNEL, FORBIDDEN = 1115, 1116, 1117
_SPECIFIER = re.compile(r"([1-6])([A-Ha-h1-8])([0-9]{2})")
_DDC = re.compile(r"(?:[CN][A-H][0-9]{1,2}(?:,[A-H][0-9]{1,2})*|[PR]0)+X", re.IGNORECASE)
_DDC_COMMAND = re.compile(r"([CNPR])((?:,?[A-H][0-9]{1,2})+|0)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_]\w{0,18}")
Found = TypeVar("Found")


def specifier(point: Point) -> str:
    """`1A03`."""
    return f"{point.slot}{LETTERS[point.row - 1]}{point.column:02d}"


def point_of(text: str) -> Point | None:
    """The crosspoint of `1A03` or `1103`; None: it is no such specifier."""
    found = _SPECIFIER.fullmatch(text.strip())
    if found is None:
        return None
    row = int(found[2]) if found[2].isdigit() else LETTERS.index(found[2].upper()) + 1
    return Point(int(found[1]), row, int(found[3]))


class Keithley707B(TspInstrument):
    """Simulated 707B; [instruments.matrix] slots names the slots that hold a card (default: all six)."""

    MODEL = "keithley-707b"
    IDN = "Keithley Instruments Inc., Model 707B, {serial}, 01.20a"
    ROLE = "matrix"

    connect_rule: float
    connect_sequential: float

    def build(self) -> None:
        """Cards and the tree of commands."""
        self.frame = Frame(self.world, self.section.slots or SLOTS, ROWS, COLUMNS, SETTLE_S, self.spend)
        self._forbidden: set[Point] = set()
        self._delays: dict[Point, float] = {}
        self._patterns: dict[str, list[Point]] = {}
        self._setup: list[Point] = []
        names = ("close", "open", "exclusiveclose", "exclusiveslotclose", "getclose", "getstate", "gettype", "setdelay",
                 "getdelay", "setforbidden", "getforbidden", "clearforbidden", "reset")  # fmt: skip
        rows: list[Row] = [
            *(Method(name, f"channel_{name}") for name in names),
            *(Method(f"pattern.{name}", f"pattern_{name}") for name in ("setimage", "getimage", "snapshot", "delete")),
            *(Constant(name, float(value)) for name, value in CONSTANTS),
            Attribute("connectrule", "connect_rule", OneOf(*RULES, default=1.0)),
            Attribute("connectsequential", "connect_sequential", OneOf(0.0, 1.0)),
        ]
        for row in (*library(self), Method("setup.save", self.setup_save), Method("setup.recall", self.setup_recall)):
            self.tree.add(row)
        self.tree.add(Node("channel", self, rows))
        slots = {number: self._slot(number) for number in SLOTS}
        self.tree.add(Node("slot", self, index=slots.get))

    def _slot(self, number: int) -> Node:
        if number not in self.frame.slots:
            return Node(f"slot[{number}]", self, (Constant("idn", "Empty Slot"),))
        card = f"7072,8x12 Semiconductor Matrix,01.40h,{self.serial}S{number}"
        rows: tuple[tuple[str, Value], ...] = (
            ("idn", card),
            ("interlock.state", None),
            ("rows.matrix", float(ROWS)),
            ("columns.matrix", float(COLUMNS)),
            ("matrix", 1.0),
        )
        return Node(f"slot[{number}]", self, [Constant(name, value) for name, value in rows])

    def reset(self) -> None:
        """All relays open, no rules of the user's."""
        super().reset()
        self._forbidden.clear()
        self._delays.clear()
        self._patterns.clear()
        self.frame.release()

    # ---- the commands of the 707A

    def execute(self, message: bytes) -> Iterator[None]:
        """TSP, or device-dependent commands as the 707A has them, which end with X."""
        text = message.decode("latin-1").replace(" ", "").strip()
        if _DDC.fullmatch(text) is None:
            yield from super().execute(message)
            return
        for found in _DDC_COMMAND.finditer(text):
            self.guarded(partial(self._ddc, found[1].upper(), found[2]))
            yield

    def _ddc(self, command: str, given: str) -> None:
        if command in "PR":  # setup 0 are the relays as they are now; R0: factory settings
            self.frame.open(self.frame.closed)
            return
        points = [self._counted_on(item) for item in given.split(",")]
        (self.frame.close if command == "C" else self.frame.open)(points)

    def _counted_on(self, item: str) -> Point:
        """A crosspoint as A03, whose columns are counted on from slot to slot."""
        column = int(item[1:]) - 1
        point = Point(column // COLUMNS + 1, LETTERS.index(item[0].upper()) + 1, column % COLUMNS + 1)
        if column < 0 or point not in self.frame:
            raise ScpiError(WRONG_CHANNEL, f"Parameter error; no channel {item}")
        return point

    # ---- setups

    def setup_save(self, _place: Value = None) -> None:
        """Keep what is closed now."""
        self._setup = self.frame.closed

    def setup_recall(self, place: Value) -> None:
        """0: as after a reset; 1: what was saved, and nothing else, is closed."""
        if str(place) in ("0", "0.0"):
            self.reset()
            return
        self._exclusive(self._setup, self.frame.slots)

    # ---- channel lists

    def _points(self, text: str, *, slots: bool) -> list[Point]:
        """Crosspoints of a list, in its order. Raises ScpiError for what is not there; `slots`: slotX is allowed."""
        points: list[Point] = []
        for item in filter(None, (part.strip() for part in re.split("[,;]", text))):
            points += self._item(item, slots=slots)
        return list(dict.fromkeys(points))

    def _item(self, item: str, *, slots: bool) -> list[Point]:
        word = item.lower()
        if word == "allslots" or re.fullmatch("slot[1-6]", word):
            if not slots:
                raise ScpiError(NOT_A_CHANNEL, f"Parameter error; {item} is not allowed here")
            chosen = self.frame.slots if word == "allslots" else (int(word[4:]),)
            return [point for slot in sorted(chosen) for point in self.frame.card(slot)]
        if item in self._patterns:
            return self._patterns[item]
        ends = [point_of(part) for part in item.split(":")]
        first, last = ends[0], ends[-1]
        if len(ends) > 2 or first is None or last is None or first not in self.frame or last not in self.frame:
            raise ScpiError(WRONG_CHANNEL, f"Parameter error; no channel {item}")
        if last < first:
            raise ScpiError(WRONG_CHANNEL, f"Parameter error; range {item} runs backwards")
        if first == last:
            return [first]
        every = [point for slot in range(first.slot, last.slot + 1) for point in self.frame.card(slot)]
        return [point for point in every if first <= point <= last]

    def _closable(self, text: str) -> list[Point]:
        points = self._points(text, slots=False)
        barred = sorted(self._forbidden & set(points))
        if barred:
            raise ScpiError(FORBIDDEN, f"Settings conflict; channel {specifier(barred[0])} is forbidden to close")
        return points

    def _or_nil(self, act: Callable[[], Found]) -> Found | None:
        """What `act` finds; an error goes into the queue and gives nil: the rest of the line is carried out."""
        found: list[Found] = []
        self.guarded(lambda: found.append(act()))
        return found[0] if found else None

    def _some(self, text: str, *, slots: bool = True) -> list[Point]:
        points = self._points(text, slots=slots)
        if not points:
            raise ScpiError(NOT_A_CHANNEL, "Parameter error; the channel list is empty")
        return points

    # ---- switching

    def _delay_of(self, points: Iterable[Point]) -> float:
        return max((self._delays.get(point, 0.0) for point in points), default=0.0)

    def _close(self, points: Sequence[Point]) -> None:
        groups = [[point] for point in points] if self.connect_sequential else [list(points)]
        for group in groups:
            self.frame.close(group, self._delay_of(group))

    def _exclusive(self, points: Sequence[Point], within: Iterable[int]) -> None:
        slots = set(within)
        opening = [point for point in self.frame.closed if point.slot in slots and point not in points]
        if self.connect_sequential:
            for point in opening:
                self.frame.open([point])
            self._close(points)
            return
        self.frame.exchange(opening, points, RULES[self.connect_rule], self._delay_of(points))

    def channel_close(self, channels: str) -> None:
        """Close these; nothing opens."""

        def act() -> None:
            if not channels.strip():
                raise ScpiError(NOT_A_CHANNEL, "Parameter error; the channel list is empty")
            self._close(self._closable(channels))

        self._or_nil(act)

    def channel_open(self, channels: str) -> None:
        """Open these."""
        self._or_nil(lambda: self.frame.open(self._some(channels)))

    def channel_exclusiveclose(self, channels: str) -> None:
        """Only these are closed afterwards; an empty list opens all."""
        self._or_nil(lambda: self._exclusive(self._closable(channels), self.frame.slots))

    def channel_exclusiveslotclose(self, channels: str) -> None:
        """Only these are closed afterwards on their cards; other cards stay."""

        def act() -> None:
            points = self._closable(channels)
            self._exclusive(points, {point.slot for point in points})

        self._or_nil(act)

    def channel_getclose(self, channels: str) -> str | None:
        """Which of these are closed, `1A01;1B02` in order; nil: none."""
        points = self._or_nil(lambda: set(self._some(channels)))
        return ";".join(specifier(point) for point in self.frame.closed if point in (points or ())) or None

    def channel_getstate(self, channels: str, _mask: float | None = None) -> str | None:
        """1 (closed) or 0 for each of these."""
        closed = set(self.frame.closed)
        return self._each(channels, lambda point: str(int(point in closed)))

    def channel_gettype(self, channels: str) -> str | None:
        """1 for each: a switch."""
        return self._each(channels, lambda _: "1")

    def _each(self, channels: str, tell: Callable[[Point], str]) -> str | None:
        points = self._or_nil(lambda: self._some(channels))
        return None if points is None else ",".join(map(tell, points))

    # ---- what the user adds

    def channel_setdelay(self, channels: str, seconds: float) -> None:
        """Time to wait after these have closed and settled."""

        def act() -> None:
            if not 0 <= seconds <= 60:
                raise ScpiError(-222, "Parameter data out of range")
            self._delays.update(dict.fromkeys(self._some(channels), seconds))

        self._or_nil(act)

    def channel_getdelay(self, channels: str) -> str | None:
        """The delay of each of these."""
        return self._each(channels, lambda point: self.text(self._delays.get(point, 0.0)))

    def channel_setforbidden(self, channels: str) -> None:
        """These must not close any more; patterns with them are deleted."""

        def act() -> None:
            points = set(self._some(channels))
            self._forbidden |= points
            self._patterns = {name: image for name, image in self._patterns.items() if not points & set(image)}

        self._or_nil(act)

    def channel_getforbidden(self, channels: str) -> str | None:
        """Which of these must not close; nil: none."""
        points = self._or_nil(lambda: self._some(channels)) or []
        return ",".join(specifier(point) for point in points if point in self._forbidden) or None

    def channel_clearforbidden(self, channels: str) -> None:
        """These may close again."""
        self._or_nil(lambda: self._forbidden.difference_update(self._some(channels)))

    def channel_reset(self, channels: str) -> None:
        """Open these and forget what the user set for them."""

        def act() -> None:
            points = self._some(channels)
            self.frame.open(points)
            self._forbidden.difference_update(points)
            for point in points:
                self._delays.pop(point, None)

        self._or_nil(act)

    # ---- patterns

    def pattern_setimage(self, channels: str, name: str) -> None:
        """Give a list a name."""
        self._or_nil(lambda: self._keep(name, self._closable(channels)))

    def pattern_snapshot(self, name: str) -> None:
        """Give what is closed now a name."""
        self._or_nil(lambda: self._keep(name, self.frame.closed))

    def _keep(self, name: str, points: list[Point]) -> None:
        if _NAME.fullmatch(name) is None or re.fullmatch("allslots|slot[1-6]", name.lower()):
            raise ScpiError(NOT_A_CHANNEL, f"Parameter error; {name} is no name of a pattern")
        self._patterns[name] = points

    def pattern_getimage(self, name: str) -> str | None:
        """The list of that name; nil: there is none."""
        return ",".join(map(specifier, self._patterns.get(name, ()))) or None

    def pattern_delete(self, name: str) -> None:
        """Forget a name."""
        self._patterns.pop(name, None)


plugin = Keithley707B
