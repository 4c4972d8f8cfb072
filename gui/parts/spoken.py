"""What a screen reader says without being asked: the cell that the cursor came to, another state, a message."""

from __future__ import annotations

from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent
from PySide6.QtWidgets import QWidget


def announce(of: QWidget, words: str, *, urgent: bool = False) -> None:
    """Have it said, if anybody listens; `urgent`: before what is being said just now."""
    if not words or not QAccessible.isActive():
        return
    event = QAccessibleAnnouncementEvent(of, words)
    if urgent:
        event.setPoliteness(QAccessible.AnnouncementPoliteness.Assertive)
    QAccessible.updateAccessibility(event)
