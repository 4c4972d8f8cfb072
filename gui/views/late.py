"""Views that are made when somebody first looks at them: a window stands sooner without those behind other tabs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from PySide6.QtWidgets import QVBoxLayout, QWidget

from .. import theme
from .base import View

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

    from ..selection import Selection

Maker = Callable[["Selection | None", QWidget | None], View]


class LateView(View):
    """Stands in the place of a view. It is made with the first frame, since only what is seen is drawn."""

    maker: ClassVar[type[View]]

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._selection = selection
        self._made: View | None = None
        self._place = QVBoxLayout(self)
        self._place.setContentsMargins(0, 0, 0, 0)
        self.setAccessibleName(self.title)
        self.restyle()

    @property
    def view(self) -> View:
        """What stands here, made now if it was not yet."""
        if self._made is None:
            made: Maker = self.maker
            self._made = made(self._selection, self)
            self._place.addWidget(self._made)
            self.setFocusProxy(self._made)
        return self._made

    def draw(self, snapshot: Snapshot | None) -> None:
        """See View."""
        self.view.draw(snapshot)

    def lacks(self, snapshot: Snapshot) -> bool:
        """See View."""
        return self.view.lacks(snapshot)

    def in_sight(self) -> bool:
        """See View. What was made covers all of this, so that nothing of this itself can be seen any more."""
        return super().in_sight() if self._made is None else self._made.in_sight()

    def restyle(self) -> None:
        """See View."""
        if self._made is not None:
            self._made.restyle()
        else:
            self.setMinimumSize(8 * theme.em(), 6 * theme.em())  # as every view has it


def late(kind: type[View]) -> type[LateView]:
    """A kind of view that is made late."""
    same = {"name": kind.name, "title": kind.title, "every_s": kind.every_s, "maker": kind}
    return type(f"Late{kind.__name__}", (LateView,), same)
