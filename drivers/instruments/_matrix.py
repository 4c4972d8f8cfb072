"""What the switch matrices have in common: checked crosspoints, short channel lists, and proofs by reading back.

Rows of all cards of a mainframe are joined (by its backplane, or by cables), and columns are counted across the cards
in the order of their slots: with twelve columns on a card, column 14 is the second one of the second card.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from neurobench.errors import ConfigError, InstrumentError, UsageError

from ._roles import Crosspoint, Matrix

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection

    from ._link import Link

Path = frozenset[Crosspoint]


class Switched(NamedTuple):
    """What was found closed after opening all, and after closing; `said`: the error queue, which is empty now."""

    opened: Path
    closed: Path
    said: list[str]


class CardMatrix(Matrix):
    """A mainframe with equal cards. A subclass opens, closes and reads back; this class compares and insists."""

    SLOTS: ClassVar[int]
    OPTIONS: ClassVar[tuple[str, ...]] = ("settle_s",)
    card_columns: int

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        if unknown := sorted(set(section.options) - set(self.OPTIONS)):
            known = ", ".join(self.OPTIONS)
            raise ConfigError(
                f"[instruments.matrix.options] has no {', '.join(unknown)}; a {section.model} has {known}"
            )
        self.settle_s = float(section.options.get("settle_s", self.settle_s))
        self.slots: tuple[int, ...] = section.slots or tuple(range(1, self.SLOTS + 1))
        if not all(1 <= slot <= self.SLOTS for slot in self.slots) or len(set(self.slots)) < len(self.slots):
            raise ConfigError(f"[instruments.matrix] slots = {self.slots}: different slots, 1 to {self.SLOTS}")

    @property
    def columns(self) -> int:  # type: ignore[override]
        """Columns of all cards."""
        return self.card_columns * len(self.slots)

    def open_all(self) -> None:
        """Open every relay and prove by reading back that none is closed."""
        self._prove(frozenset())

    def route(self, closed: Path) -> None:
        """Open all, prove none closed, close exactly these, prove exactly these; settled when it returns."""
        for point in closed:
            self.require(point)
        self._prove(closed)

    def safe(self) -> None:
        """All relays open, proven."""
        self.open_all()

    def require(self, point: Crosspoint) -> None:
        """Raise UsageError for a crosspoint that the matrix does not have."""
        if not (1 <= point.row <= self.rows and 1 <= point.column <= self.columns):
            has = f"{self.rows} rows and {self.columns} columns (slots {', '.join(map(str, self.slots))})"
            raise UsageError(f"row {point.row}, column {point.column}: the {self.section.model} has {has}")

    def place(self, point: Crosspoint) -> tuple[int, int]:
        """Slot, and column on its card, of a crosspoint."""
        self.require(point)
        card, column = divmod(point.column - 1, self.card_columns)
        return self.slots[card], column + 1

    def point_at(self, slot: int, row: int, column: int, name: str) -> Crosspoint:
        """The crosspoint of a place on a card. Raises UsageError, with the name that was asked about."""
        if slot not in self.slots or not 1 <= column <= self.card_columns or not 1 <= row <= self.rows:
            has = f"slots {', '.join(map(str, self.slots))}, {self.rows} rows, {self.card_columns} columns on a card"
            raise UsageError(f"{name!r} is no channel of this {self.section.model} ({has})")
        return Crosspoint(row, self.slots.index(slot) * self.card_columns + column)

    @abstractmethod
    def name_of(self, point: Crosspoint) -> str:
        """What the instrument calls a crosspoint. Raises UsageError if it has none such."""

    @abstractmethod
    def crosspoint_of(self, name: str) -> Crosspoint:
        """The crosspoint of that name. Raises UsageError if it has none such."""

    @abstractmethod
    def _switch(self, closed: Path) -> Switched:
        """Open all, read back, close these, read back."""

    def _prove(self, closed: Path) -> None:
        found = self._switch(closed)
        if found.opened or found.closed != closed:
            found = self._switch(closed)  # a command may have been lost on its way
        if not found.opened and found.closed == closed:
            self.link.clock.sleep(self.settle_s)
            return
        self._switch(frozenset())
        still = f"; {self._words(found.opened)} stayed closed when all were opened" if found.opened else ""
        said = f"; it says: {'; '.join(found.said)}" if found.said else ""
        raise InstrumentError(
            f"{self.link.name}: closed should be {self._words(closed)}, found "
            f"{self._words(found.closed)}{still}{said}; "
            "all relays were told to open"
        )

    def _words(self, points: Path) -> str:
        return ", ".join(self.name_of(p) for p in sorted(points)) or "nothing"

    def runs(self, points: Iterable[Crosspoint]) -> list[str]:
        """Names of crosspoints, neighbours of one row and card as first:last."""
        found = []
        for _, group in groupby(enumerate(sorted(points)), self._run_of):
            run = [point for _, point in group]
            first, last = self.name_of(run[0]), self.name_of(run[-1])
            found.append(first if len(run) == 1 else f"{first}:{last}")
        return found

    def _run_of(self, numbered: tuple[int, Crosspoint]) -> tuple[int, int, int]:
        n, point = numbered
        return point.row, self.place(point)[0], point.column - n


def packed(parts: Sequence[str], longest: int, joint: str) -> list[str]:
    """Join parts in order into as few messages as fit an input buffer of `longest` characters."""
    messages: list[str] = []
    for part in parts:
        if messages and len(messages[-1]) + len(joint) + len(part) <= longest:
            messages[-1] += joint + part
        else:
            messages.append(part)
    return messages
