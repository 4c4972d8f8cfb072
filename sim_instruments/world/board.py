"""What instruments are plugged into: terminals of the bench, and the relays of its matrix."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from .network import Source

if TYPE_CHECKING:
    from .world import World


class Terminal:
    """An output of an instrument, as it is wired to the bench. Currents count out of the terminal, into the bench."""

    def __init__(self, world: World, name: str, node: int) -> None:
        self.name, self.node, self._world = name, node, world
        self.source: Source | None = None

    def drive(self, volts: float, ohm: float = 0.0, limit_a: float = inf) -> None:
        """Put an ideal source of `volts` behind `ohm` on this terminal, good for |limit_a| amperes."""
        self._world.set_source(self, Source(float(volts), float(ohm), float(limit_a)))

    def release(self) -> None:
        """Open circuit. The cable keeps its charge for a while."""
        self._world.set_source(self, None)

    @property
    def volts(self) -> float:
        """The voltage that its source is set to; 0 if it is released."""
        return 0.0 if self.source is None else self.source.volts

    @property
    def connected(self) -> bool:
        """Whether a source drives it."""
        return self.source is not None

    @property
    def limited(self) -> bool:
        """Whether it cannot hold its voltage: its current limit acts, or another source fights it on the same net."""
        return self._world.limited(self)

    def current_a(self) -> float:
        """True current now, in amperes."""
        return self._world.current_a(self)

    def voltage_v(self) -> float:
        """Voltage at the terminal now, in volts."""
        return self._world.voltage_v(self.node)

    def measure_a(self, aperture_s: float, averages: int = 1) -> float:
        """Current with the devices' read noise and the offset of [readout]: one draw, of variance / averages.

        No time passes. The noise of the device models does not depend on the aperture; the instrument adds its own.
        """
        del aperture_s
        return self._world.measured_a(self, averages)


class Relays:
    """The switch matrix: crosspoints (row, column), counted from 1, that join a row with a column."""

    def __init__(self, world: World, rows: list[int], columns: list[int]) -> None:
        self._world, self._rows, self._columns = world, rows, columns
        self._closed: set[tuple[int, int]] = set()

    @property
    def closed(self) -> frozenset[tuple[int, int]]:
        """Crosspoints that are closed now."""
        return frozenset(self._closed)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return len(self._rows), len(self._columns)

    def row_node(self, row: int) -> int:
        """The node of a row."""
        return self._rows[row - 1]

    def column_node(self, column: int) -> int:
        """The node of a column."""
        return self._columns[column - 1]

    def close(self, row: int, column: int) -> None:
        """Close a crosspoint; nothing happens if it is closed. Raises IndexError for one that there is not."""
        ends = self._ends(row, column)
        if (row, column) not in self._closed:
            self._closed.add((row, column))
            self._world.join(*ends)

    def open(self, row: int, column: int) -> None:
        """Open a crosspoint; nothing happens if it is open. Raises IndexError for one that there is not."""
        ends = self._ends(row, column)
        if (row, column) in self._closed:
            self._closed.discard((row, column))
            self._world.part(*ends)

    def open_all(self) -> None:
        """Open every crosspoint."""
        for row, column in sorted(self._closed):
            self.open(row, column)

    def _ends(self, row: int, column: int) -> tuple[int, int]:
        if not (1 <= row <= len(self._rows) and 1 <= column <= len(self._columns)):
            raise IndexError(f"crosspoint ({row}, {column}) of a matrix of {self.shape}")
        return self._rows[row - 1], self._columns[column - 1]
