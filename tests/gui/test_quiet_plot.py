"""A plot is not seen while it is empty, and fills its widget once something is in it."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from neurobench.gui.parts.plot import Plot
from PySide6.QtWidgets import QApplication


def test_a_plot_that_was_empty_when_it_was_shown_fills_its_widget(window_app: QApplication, qtbot: Any) -> None:
    plot = Plot("a curve")
    qtbot.addWidget(plot)
    plot.resize(400, 300)
    plot.show()
    qtbot.waitExposed(plot)
    blank = plot.grab().toImage()
    assert len({blank.pixel(x, 150) for x in range(400)}) == 1, "no axes while nothing was measured"
    plot.item.addItem(pg.PlotDataItem([0, 1, 2], [0, 4, 1]))
    QApplication.processEvents()
    assert plot.item.geometry().width() > 380
    assert plot.item.geometry().height() > 280
    plot.item.clear()
    QApplication.processEvents()
    blank = plot.grab().toImage()
    assert len({blank.pixel(x, 150) for x in range(400)}) == 1
