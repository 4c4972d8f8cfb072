"""What tests of the views look at: a view on the screen, the curves in its plots, the words around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from neurobench.gui.views.plots import Panel
from PySide6.QtWidgets import QLabel, QWidget

from neurobench.runs.history import Snapshot


def shown(qtbot: Any, kind: type[Panel], snapshot: Snapshot | None) -> Any:
    """A view on the screen that has drawn a snapshot."""
    view = kind()
    view.resize(640, 360)
    view.draw(snapshot)
    view.show()
    qtbot.waitExposed(view)
    return view


def active(qtbot: Any, window: QWidget) -> None:
    """A window on the screen that has the keys: on a server without a window manager nobody else gives it them."""
    window.show()
    qtbot.waitExposed(window)
    qtbot.waitUntil(lambda: window.activateWindow() or window.isActiveWindow(), timeout=20_000)


def curves(plot: Any) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """What every visible curve of a plot was given."""
    items = [item for item in plot.listDataItems() if isinstance(item, pg.PlotDataItem) and item.isVisible()]
    return [(item.xData, item.yData) for item in items if item.xData is not None]


def words(view: Any) -> str:
    """All that is written in a view outside of its plots."""
    return "\n".join(label.text() for label in view.findChildren(QLabel) if label.isVisible())
