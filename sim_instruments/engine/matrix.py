"""What every switch matrix is: cards of relays in the slots of a mainframe, and the order and time of switching.

The cards of a mainframe share their rows; columns are counted on from card to card, in the order of the slots that the
bench file names. Relays act on the one matrix of the world; one that switches hot hurts what is behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from ..world.world import World

Rule = Literal["break", "make", "off"]
BREAK: Final = "break"  # before make
MAKE: Final = "make"  # before break
OFF: Final = "off"  # in no order


class Point(NamedTuple):
    """A crosspoint by its card: slot, row and column, each counted from 1."""

    slot: int
    row: int
    column: int


class Frame:
    """The relays of a mainframe. `spend` lets the settling time pass; `columns` are those of one card."""

    def __init__(
        self, world: World, slots: Sequence[int], rows: int, columns: int, settle_s: float,
        spend: Callable[[float], None],
    ) -> None:  # fmt: skip
        self.slots, self.rows, self.columns = tuple(slots), rows, columns
        self._settle_s, self._spend = settle_s, spend
        self._relays = world.relays(rows, columns * len(self.slots))
        self._place = {slot: index for index, slot in enumerate(self.slots)}
        self._cards = {
            slot: [Point(slot, r, c) for r in range(1, rows + 1) for c in range(1, columns + 1)] for slot in self.slots
        }

    def __contains__(self, point: object) -> bool:
        return (
            isinstance(point, Point)
            and point.slot in self._place
            and 1 <= point.row <= self.rows
            and 1 <= point.column <= self.columns
        )

    def card(self, slot: int) -> list[Point]:
        """All crosspoints of a card, in order; none if the slot is empty."""
        return self._cards.get(slot, [])

    @property
    def closed(self) -> list[Point]:
        """What is closed, in order."""
        return sorted(
            Point(self.slots[(column - 1) // self.columns], row, (column - 1) % self.columns + 1)
            for row, column in self._relays.closed
        )

    def _at(self, point: Point) -> tuple[int, int]:
        return point.row, self._place[point.slot] * self.columns + point.column

    def open(self, points: Iterable[Point]) -> None:
        """Open relays, which takes time if any of them moves."""
        if self._move(points, closed=False):
            self._spend(self._settle_s)

    def close(self, points: Iterable[Point], delay_s: float = 0.0) -> None:
        """Close relays; time for settling and the user's delay passes if any of them moves."""
        if self._move(points, closed=True):
            self._spend(self._settle_s + delay_s)

    def _move(self, points: Iterable[Point], *, closed: bool) -> bool:
        now = self._relays.closed
        moving = [at for at in map(self._at, dict.fromkeys(points)) if (at in now) != closed]
        for at in moving:
            (self._relays.close if closed else self._relays.open)(*at)
        return bool(moving)

    def exchange(self, opening: Sequence[Point], closing: Sequence[Point], rule: Rule, delay_s: float = 0.0) -> None:
        """Open some and close others: one after the other, or (`off`) in no order at all."""
        if rule == MAKE:
            self.close(closing, delay_s)
            self.open(opening)
            return
        if rule == BREAK:
            self.open(opening)
            self.close(closing, delay_s)
            return
        moved = self._move(closing, closed=True)
        moved = self._move(opening, closed=False) or moved
        if moved:
            self._spend(self._settle_s + delay_s)

    def release(self) -> None:
        """All relays fall open at once, without waiting: reset, or no power."""
        self._relays.open_all()
