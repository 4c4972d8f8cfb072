"""A widget that scrolls where there is too little room for it, instead of being crushed: for large fonts."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget


def scrolled(owner: QWidget, inside: QWidget, name: str) -> QScrollArea:
    """Fill `owner` with `inside`, which is never smaller than it has to be."""
    area = QScrollArea()
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setWidgetResizable(True)
    area.setWidget(inside)
    area.setAccessibleName(name)
    layout = QVBoxLayout(owner)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(area)
    return area
