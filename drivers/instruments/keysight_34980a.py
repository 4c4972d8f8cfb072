"""Keysight (Agilent) 34980A mainframe with 34934A matrix modules.

Sources: 34934A User's Guide page 228 (channel numbers of every layout), 34980A command reference (ROUTe:OPEN, CLOSe).
Rows of several modules are joined by cables. Layouts with high and low banks (4x32, 4x64, 8x32) use the (first) high
bank. `options.layout` says which layout the jumpers of the modules make, where the instrument is not to be asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from neurobench.errors import ConfigError, InstrumentError, UsageError

from ._link import garbled
from ._matrix import CardMatrix, Path, Switched, packed
from ._roles import Crosspoint, Identification
from ._table import Scpi

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection

    from ._link import Link

LONGEST = 1000  # characters in one message [memory: less than its input buffer]


class Layout(NamedTuple):
    """Rows and columns of a module, and the number that its channels in a row begin after."""

    rows: int
    columns: int
    base: Callable[[int], int]


LAYOUTS = {
    "4x32": Layout(4, 32, lambda row: 100 * (2 * row - 1)),
    "4x64": Layout(4, 64, lambda row: 100 * (2 * row - 1)),
    "4x128": Layout(4, 128, lambda row: 100 * (2 * row - 1)),
    "8x32": Layout(8, 32, lambda row: 100 * row),
    "8x64": Layout(8, 64, lambda row: 100 * row),
    "16x32": Layout(16, 32, lambda row: 50 * (row + 1)),
}


class Keysight34980A(Scpi, CardMatrix):
    """Modules are found by asking the slots, or stand in `slots`."""

    MODELS = (r"34980A",)
    SLOTS: ClassVar[int] = 8
    OPTIONS: ClassVar[tuple[str, ...]] = ("settle_s", "layout")
    settle_s = 2e-3  # [memory: reed relays of the 34934A operate in half a millisecond]

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        self._use(str(section.options.get("layout", "8x32")))

    def _use(self, name: str) -> None:
        if name not in LAYOUTS:
            raise ConfigError(f"[instruments.matrix.options] layout = {name!r}; a 34934A has {', '.join(LAYOUTS)}")
        self.layout = LAYOUTS[name]
        self.rows, self.card_columns = self.layout.rows, self.layout.columns

    def identify(self) -> Identification:
        """Who it is, and which of its slots hold the modules. Raises InstrumentError if there is none."""
        found = super().identify()
        answers = self.ask(";".join(f":SYST:CTYP? {slot}" for slot in self.slots), len(self.slots))
        words = [f"{answer},,".split(",")[1].strip() for answer in answers]
        modules = dict(zip(self.slots, words, strict=True))
        matrices = {slot: word for slot, word in modules.items() if word.startswith("34934A")}
        missing = [slot for slot in self.slots if slot not in matrices]
        if not matrices or (self.section.slots and missing):
            holds = ", ".join(f"{slot}: {word}" for slot, word in modules.items())
            empty = ", ".join(map(str, missing))
            raise InstrumentError(f"{self.link.name}: no 34934A in slot {empty} (it holds {holds})")
        self.slots = tuple(matrices)
        layouts = {word.removeprefix("34934A").lstrip("-") for word in matrices.values()} - {""}
        if "layout" not in self.section.options and layouts:
            if len(layouts) > 1:
                raise InstrumentError(f"{self.link.name}: modules of different layouts: {', '.join(sorted(layouts))}")
            self._use(layouts.pop())
        return found

    def self_test(self) -> str:
        """`*TST?`; it opens relays."""
        code = self.link.query("*TST?", timeout_s=60.0).strip()
        return "" if code in ("0", "+0") else f"its self-test (*TST?) answers {code}"

    def name_of(self, point: Crosspoint) -> str:
        """Slot and three digits that the layout makes of row and column: 1203."""
        slot, column = self.place(point)
        return f"{slot}{self.layout.base(point.row) + column:03d}"

    def crosspoint_of(self, name: str) -> Crosspoint:
        """The crosspoint of a channel number. Raises UsageError for any other text."""
        found = re.fullmatch(r"([1-8])([0-9]{3})", name)
        if found is None:
            raise UsageError(f"{name!r} is no channel of a 34934A: slot and three digits, such as 1203")
        number = int(found[2])
        row = next((r for r in range(self.rows, 0, -1) if self.layout.base(r) < number), 0)
        return self.point_at(int(found[1]), row, number - self.layout.base(row), name)

    def _switch(self, closed: Path) -> Switched:
        """One message, if it is not too long: commands are carried out in their order."""
        asks = [f":ROUT:CLOS? (@{channels})" for channels in self._everything()]
        closes = [f":ROUT:CLOS (@{channels})" for channels in packed(self.runs(closed), LONGEST, ",")]
        parts = [":ROUT:OPEN:ALL", *asks, *closes, *asks, ":SYST:ERR?"]
        answers = [answer for message in packed(parts, LONGEST, ";") for answer in self._said(message)]
        code, text = self._error_of(answers.pop())
        said = [text, *self.errors()] if code else []  # may be old ones: what counts is what is closed
        return Switched(self._points(answers[: len(asks)]), self._points(answers[len(asks) :]), said)

    def _said(self, message: str) -> list[str]:
        if "?" in message:
            return self.ask(message, message.count("?"))
        self.link.write(message)
        return []

    def _everything(self) -> list[str]:
        """One channel list for each module: all that it has, row by row."""
        cards = range(0, self.columns, self.card_columns)
        return [",".join(self._whole_row(row, card) for row in range(1, self.rows + 1)) for card in cards]

    def _whole_row(self, row: int, before: int) -> str:
        first, last = (self.name_of(Crosspoint(row, before + n)) for n in (1, self.card_columns))
        return f"{first}:{last}"

    def _points(self, answers: list[str]) -> Path:
        closed: set[Crosspoint] = set()
        for card, answer in enumerate(answers):
            states = answer.split(",")
            if len(states) != self.rows * self.card_columns or not {s.strip() for s in states} <= {"0", "1"}:
                raise garbled(self.link, answer, f"{self.rows * self.card_columns} times 0 or 1")
            for n, state in enumerate(states):
                row, column = divmod(n, self.card_columns)
                if state.strip() == "1":
                    closed.add(Crosspoint(row + 1, card * self.card_columns + column + 1))
        return frozenset(closed)


plugin = Keysight34980A
