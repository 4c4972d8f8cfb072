"""Views behind other tabs are made when somebody looks at them, and then are what they always were."""

from __future__ import annotations

from typing import Any

import snapshots
from neurobench.gui.views.base import View
from neurobench.gui.views.late import LateView, late
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget


class Telling(View):
    """Says when it is made and what it is asked."""

    name = "telling"
    title = "Telling"
    every_s = 0.25
    log: list[str] = []  # noqa: RUF012 - one for all, on purpose

    def __init__(self, _selection: object = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.log.append("made")

    def draw(self, snapshot: object) -> None:
        self.log.append("nothing" if snapshot is None else "drawn")

    def lacks(self, snapshot: object) -> bool:
        return snapshot is not None

    def restyle(self) -> None:
        self.log.append("restyled")


def test_a_late_view_is_made_with_the_first_frame(window_app: QApplication, qtbot: Any) -> None:
    Telling.log.clear()
    window = QMainWindow()
    qtbot.addWidget(window)
    view = late(Telling)()
    assert isinstance(view, LateView)
    assert (view.name, view.title, view.every_s) == ("telling", "Telling", 0.25)
    dock = QDockWidget(view.title, window)
    dock.setWidget(view)
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
    window.show()
    view.restyle()
    assert Telling.log == []
    view.draw(None)
    view.draw(snapshots.snapshot())
    view.restyle()
    assert Telling.log == ["made", "nothing", "drawn", "restyled"]
    qtbot.waitUntil(lambda: view.view.isVisible())
    assert view.lacks(snapshots.snapshot())
    assert view.focusProxy() is view.view
