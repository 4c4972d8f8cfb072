"""How the Connect page shares out its room: three columns where they fit, else the third is the first tab."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QScrollArea, QSplitter, QTabWidget, QVBoxLayout, QWidget

from .. import theme

WIDE_EM, LEFT_EM, NARROW_EM = 62, 16, 13  # width from which three columns fit; of the first, and where they do not


class Columns(QWidget):
    """What is chosen at the left, tabs in the middle, what the chip bears at the right."""

    def __init__(self, left: QWidget, tabs: QTabWidget, right: QWidget) -> None:
        super().__init__()
        self.split, self.tabs = QSplitter(Qt.Orientation.Horizontal), tabs
        self._left, self._right = scrolled(left), scrolled(right)
        self._laid_out = (False, 0)
        for part in (self._left, tabs, self._right):
            self.split.addWidget(part)
        self.split.setChildrenCollapsible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.split)
        self.lay_out()

    @property
    def _beside(self) -> bool:
        return self.tabs.indexOf(self._right) < 0

    def lay_out(self) -> None:
        """For this width and font."""
        em, beside = theme.em(), self.width() >= WIDE_EM * theme.em()
        self._left.setMinimumWidth((LEFT_EM if beside else NARROW_EM) * em)
        if beside is not self._beside:
            self._move_right(beside)
        if (beside, em) != self._laid_out:
            self._laid_out = beside, em
            QTimer.singleShot(0, self, self._share_width)  # once the parts know their new font

    def _share_width(self) -> None:
        left = self._left.minimumWidth()
        rest = self.width() - left
        self.split.setSizes([left, rest * 11 // 20, rest * 9 // 20] if self._beside else [left, rest])

    def _move_right(self, beside: bool) -> None:
        if beside:
            self.split.addWidget(self._right)
        else:
            self.tabs.insertTab(0, self._right, "Chip")
            self.tabs.setTabToolTip(0, "What the chip bears, and what it has been through")
            self.tabs.setCurrentIndex(0)
        self._right.show()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Give the parts their room."""
        super().resizeEvent(event)
        self.lay_out()


def scrolled(panel: QWidget) -> QScrollArea:
    """A panel that scrolls where there is no room for it, with no seam around it."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setWidget(panel)
    panel.setAutoFillBackground(False)
    area.viewport().setAutoFillBackground(False)
    return area
