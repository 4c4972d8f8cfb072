"""Where Tab leads: through what can be seen, as it is read, column by column; also after panels were moved.

Qt goes by the order in which widgets were made, and into views that are behind another tab.
"""

from __future__ import annotations

from PySide6.QtCore import QRect, Qt
from PySide6.QtWidgets import QAbstractScrollArea, QScrollArea, QWidget


def next_of(window: QWidget, at: QWidget | None, step: int) -> QWidget | None:
    """Who has the keyboard after `at`: the next one (1) or the one before (-1); None if nobody could have it."""
    stops = in_order(window)
    if not stops:
        return None
    while at is not None and at not in stops:  # a part of a control, or one that just went: what it is in
        at = at.parentWidget()
    return stops[(stops.index(at) + step) % len(stops)] if at is not None else stops[0 if step > 0 else -1]


def in_order(within: QWidget) -> list[QWidget]:
    """All that Tab stops at, in the order in which it is read."""
    found: list[QWidget] = []
    for child in _as_read(_children(within)):
        if _is_stop(child):
            found.append(child)
        found += in_order(child)
    return found


def show(widget: QWidget) -> None:
    """Scroll to it wherever it is."""
    area = widget.parentWidget()
    while area is not None:
        if isinstance(area, QScrollArea):
            area.ensureWidgetVisible(widget)
        area = area.parentWidget()


def _is_stop(one: QWidget) -> bool:
    by_tab = one.focusPolicy() & Qt.FocusPolicy.TabFocus
    return bool(by_tab) and one.isEnabled() and one.focusProxy() is None


def _children(within: QWidget) -> list[QWidget]:
    """What is in it and can be seen, or scrolled to."""
    area = within.parentWidget()
    scrolls = isinstance(area, QAbstractScrollArea) and area.viewport() is within
    shown = [one for one in within.children() if isinstance(one, QWidget) and one.isVisible() and not one.isWindow()]
    return [one for one in shown if scrolls or one.geometry().intersects(within.rect())]


def _as_read(widgets: list[QWidget]) -> list[QWidget]:
    """From top to bottom; what stands beside each other, from left to right."""
    found: list[QWidget] = []
    row: list[QWidget] = []
    for one in sorted(widgets, key=lambda one: (one.y(), one.x())):
        if row and not _beside(row[0].geometry(), one.geometry()):
            found += sorted(row, key=lambda one: (one.x(), one.y()))
            row = []
        row.append(one)
    return found + sorted(row, key=lambda one: (one.x(), one.y()))


def _beside(one: QRect, other: QRect) -> bool:
    """Whether more than half of the lower of the two stands beside the other."""
    both = min(one.bottom(), other.bottom()) - max(one.top(), other.top()) + 1
    return 2 * both > min(one.height(), other.height())
