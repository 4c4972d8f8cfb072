"""What all views are: a widget that draws a snapshot when it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from PySide6.QtWidgets import QWidget

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

BY_HAND = "hand"  # the protocol of a session by hand: it has news only when somebody asks for something


class View(QWidget):
    """A live view. `name` is its key in layouts and settings, `title` stands on its dock.

    `draw` must be pure: what is seen depends on the snapshot (and the view's own settings) alone, and the same snapshot
    drawn twice costs nothing the second time. None: no run is open.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    every_s: ClassVar[float] = 0.0  # seconds between two frames of a live run at least; text nobody reads in 33 ms

    def draw(self, snapshot: Snapshot | None) -> None:
        """Show this; cheap: at most a few milliseconds, since 30 of these come every second for each open view."""
        raise NotImplementedError

    def lacks(self, snapshot: Snapshot) -> bool:  # noqa: ARG002
        """Whether there is nothing in it that this view could show; views that always show something need not say."""
        return False

    def in_sight(self) -> bool:
        """Whether anything of it can be seen: it is not behind another tab."""
        return self.isVisible() and not self.visibleRegion().isEmpty()

    def restyle(self) -> None:
        """Colours or font sizes have changed: take them from `gui.theme` again."""
