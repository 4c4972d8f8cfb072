"""The hidden conductances of an emulated chip: what no reader of a chip can know, in a view of its own."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from PySide6.QtWidgets import QLabel, QWidget

from neurobench.runs.history import Snapshot

from .. import theme
from ..selection import Selection, name_of
from .plots import HeatMap, Panel, name, scaled, so_far, spanning

MARK = "EMULATOR TRUTH"


class TruthView(Panel):
    """What the emulated devices really are, never in one picture with what was read."""

    name: ClassVar[str] = "truth"
    title: ClassVar[str] = "Emulator truth"
    every_s: ClassVar[float] = 0.1

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:  # noqa: ARG002
        super().__init__(parent)
        self._mark = QLabel(MARK)
        self._mark.setToolTip("Hidden state of the emulator. Nothing on a real bench can show this.")
        self._map = HeatMap()
        self._map.setAccessibleName("Map of hidden conductances; arrow keys move a cursor")
        self._map.pointed.connect(self._pointed)
        self._unit = "S"
        self._fill(self._map, self._mark)

    def _parts(self, snapshot: Snapshot) -> tuple[object, ...]:
        return (snapshot.truth_s,)

    def _missing(self, snapshot: Snapshot) -> str:
        if not snapshot.about.simulated:
            return "This chip is real: nobody knows its true conductances, only what was read back."
        if snapshot.truth_s is not None:
            return ""
        return f"Nothing of the hidden state of its chip was recorded {so_far(snapshot)}."

    def _styled(self) -> None:
        t = theme.tokens()
        self._mark.setStyleSheet(
            f"background: {t.simulated}; color: {t.on_simulated}; font-weight: 700; padding: 1px 6px; "
            "border-radius: 3px;"
        )

    def draw(self, snapshot: Snapshot | None) -> None:
        """Show what the emulator hid; the mark stands there whenever there is anything."""
        super().draw(snapshot)
        self._mark.setVisible(snapshot is not None and not self._missing(snapshot))

    def _draw(self, snapshot: Snapshot) -> None:
        assert snapshot.truth_s is not None
        factor, self._unit = scaled(snapshot.truth_s, "S")
        grid = snapshot.truth_s * factor
        self._map.paint_grid(grid, spanning(grid), "cividis", f"hidden G ({self._unit})")
        name(self._map.plot, "left", "row")
        name(self._map.plot, "bottom", "column")
        self._pointed()

    def _pointed(self) -> None:
        at, said = self._map.at, ""
        if at is not None and np.isfinite(self._map.grid[at]):
            said = f"{name_of(at)}: {self._map.grid[at]:.4g} {self._unit}   |   "
        self._caption.say(f"{said}hidden conductances of the emulated chip, not read back")
