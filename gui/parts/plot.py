"""One plot as a widget, in the colours of the theme."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QWidget

from .. import theme


class QuietItem(pg.PlotItem):
    """A plot that is not seen while there is nothing in it: axes from 0 to 1 would say what nobody measured."""

    def __init__(self) -> None:
        super().__init__()
        self.setOpacity(0.0)  # and not hidden: a layout gives what is hidden no room, and none when it is shown again

    def addItem(self, item: Any, *args: Any, **named: Any) -> None:  # noqa: N802
        """pyqtgraph's: a curve or a mark comes."""
        super().addItem(item, *args, **named)
        self.setOpacity(1.0)

    def clear(self) -> None:
        """pyqtgraph's: all of it goes."""
        super().clear()
        self.setOpacity(0.0)


class Plot(pg.GraphicsLayoutWidget):
    """A single PlotItem, `item`, in a widget of its own, with a quiet grid."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.ci.layout.setContentsMargins(2, 2, 2, 2)
        self.item: Any = QuietItem()
        self.addItem(self.item)
        self.item.showGrid(x=True, y=True, alpha=0.15)

    def restyle(self, prefixes: bool = False) -> None:
        """Colours and font of now; `prefixes`: the axes may put an SI prefix before their unit."""
        theme.style_plot(self.item)
        for side in ("left", "bottom"):
            self.item.getAxis(side).enableAutoSIPrefix(prefixes)
        self.setMinimumHeight(theme.em() * 6)

    def sizeHint(self) -> QSize:  # noqa: N802
        """Room for a curve and its axes."""
        return QSize(theme.em() * 16, theme.em() * 11)
