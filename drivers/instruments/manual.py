"""No matrix: the operator has put the probes on one cell, and nothing can be switched.

Word line 1 is on the SMU's first channel and bit line 1 on ground, for as long as the bench is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurobench.errors import CapabilityMissing

from ._roles import Crosspoint, Identification, Matrix

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection

    from ._link import Link


class ManualMatrix(Matrix):
    """Stands for the operator's hands: one connection, made before and not changed. It has no line to speak on."""

    MODELS = ()
    rows = 0
    columns = 0
    settle_s = 0.0

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        self._wired: frozenset[Crosspoint] = frozenset()

    def identify(self) -> Identification:
        """Nobody answers."""
        return Identification("", "manual", "", "", False)

    def errors(self) -> list[str]:
        """There is nobody to make any."""
        return []

    def safe(self) -> None:
        """The sources are off by themselves; hands are not moved."""

    def open_all(self) -> None:
        """Nothing can be opened; the instruments' outputs are off where a matrix would have opened."""

    def route(self, closed: frozenset[Crosspoint]) -> None:
        """Accept the one connection that there is: one word line and one bit line, always on the same terminals.

        Raises CapabilityMissing for anything else.
        """
        if not closed:
            return
        columns = {point.column for point in closed}
        if len(closed) > 2 or len(columns) < len(closed):
            lines = ", ".join(map(str, sorted(columns)))
            raise CapabilityMissing(f"the probes are on one word line and one bit line; lines {lines} were asked for")
        if self._wired and closed != self._wired:
            raise CapabilityMissing("the probes are where the operator put them; only a matrix can move them")
        self._wired = closed


plugin = ManualMatrix
