"""Keithley 707B switching mainframe with 8 x 12 matrix cards (7072, 7174A and their like), by TSP.

Sources: 707B-901-01, channel lists page 2-89, channel names pages 5-5 and 5-6, close page 7-17 (returns after the
relays have settled), order of a close page 7-20. The 708B is the same with one slot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from neurobench.errors import UsageError

from ._link import garbled, int_of
from ._matrix import CardMatrix, Path, Switched, packed
from ._roles import Crosspoint
from ._table import Tsp

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection

    from ._link import Link

LONGEST = 1000  # characters in one message; the manual that was seen gives no limit
ROWS = "ABCDEFGH"
ALL = 'channel.getclose("allslots")'


class Keithley707B(Tsp, CardMatrix):
    """Rows A to H are joined by its backplane; columns are counted across the cards."""

    MODELS = (r"70[78]B",)
    SLOTS: ClassVar[int] = 6
    rows = len(ROWS)
    card_columns = 12
    settle_s = 0.0  # channel.close() waits for its relays

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        self._names: dict[str, Crosspoint] = {}

    def name_of(self, point: Crosspoint) -> str:
        """Slot, row letter and two digits of the column on the card: 1A03."""
        slot, column = self.place(point)
        return f"{slot}{ROWS[point.row - 1]}{column:02d}"

    def crosspoint_of(self, name: str) -> Crosspoint:
        """The crosspoint of a channel name. Raises UsageError for any other text."""
        found = re.fullmatch(r"([1-6])([A-H])([0-9]{2})", name)
        if found is None:
            raise UsageError(
                f"{name!r} is no channel of a {self.section.model}: slot, row letter, column, such as 1A03"
            )
        return self.point_at(int(found[1]), ROWS.index(found[2]) + 1, int(found[3]), name)

    def _switch(self, closed: Path) -> Switched:
        """One message: statements run in their order, so nothing closes before everything has opened."""
        *first, last = self._messages(closed)
        for message in first:
            self.link.write(message)
        opened, after, errors = self.ask(last, 3)
        said = self.errors() if int_of(errors, self.link) else []  # may be old ones: what counts is what is closed
        return Switched(self._points(opened), self._points(after), said)

    def _messages(self, closed: Path) -> list[str]:
        lists = packed(self.runs(closed), LONGEST - 200, ",")
        closes = [f'channel.close("{channels}")' for channels in lists]
        proof = f"print(nb_opened, {ALL}, errorqueue.count)"
        return packed(['channel.open("allslots")', f"nb_opened = {ALL}", *closes, proof], LONGEST, " ")

    def _point_of(self, name: str) -> Crosspoint:
        """As `crosspoint_of`, but a name is taken apart once: every proof reads all closed ones back."""
        if name not in self._names:
            self._names[name] = self.crosspoint_of(name)
        return self._names[name]

    def _points(self, answer: str) -> Path:
        if answer == "nil":
            return frozenset()
        try:
            return frozenset(self._point_of(name.strip()) for name in answer.replace(",", ";").split(";"))
        except UsageError as error:
            raise garbled(self.link, answer, "a list of channels") from error


plugin = Keithley707B
