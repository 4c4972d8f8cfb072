"""Esc, and a click on ABORT, from anywhere: whatever has the focus, and whatever lies in front."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QAbstractButton, QApplication

from ..session.session import Session
from ..session.states import LIVE, BenchState

_PRESSES = (QEvent.Type.KeyPress, QEvent.Type.ShortcutOverride)
_HEARD = (*_PRESSES, QEvent.Type.KeyRelease, QEvent.Type.MouseButtonPress)
HELD_MS = 10  # nobody lets a key go and presses it again so fast: an X server repeats a held key as such pairs
NESTED = 8  # pop-ups upon each other that are closed at most


class EscapeKey(QObject):
    """Esc aborts whatever is live, wherever the focus is: spin boxes, pop-ups and dialogs included.

    It is heard before any widget hears it. A key that is held down counts once. Otherwise Esc means what it always
    means: a pop-up or a dialog goes away. While a pop-up is open the first click beside it only closes it; not so upon
    ABORT.
    """

    def __init__(self, session: Session, button: QAbstractButton, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._button = session, button
        self._released_ms = 0

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Qt's: sees every event of the program, so the first line must be quick."""
        kind = event.type()
        if kind not in _HEARD:
            return False
        if isinstance(event, QMouseEvent):
            return self._clicked(event)
        if not isinstance(event, QKeyEvent) or event.key() != Qt.Key.Key_Escape:
            return False
        if kind == QEvent.Type.KeyRelease:
            self._released_ms = event.timestamp()
            return False
        return self._pressed(event)

    def _pressed(self, event: QKeyEvent) -> bool:
        if self._session.state not in LIVE and self._session.state is not BenchState.CONNECTING:
            return False
        if event.type() == QEvent.Type.ShortcutOverride:
            event.accept()
        elif not self._held(event):
            self._abort()
        return True

    def _held(self, event: QKeyEvent) -> bool:
        """Whether the key was not let go since the press before: else the second one would be a hard off."""
        since_ms = event.timestamp() - self._released_ms
        return event.isAutoRepeat() or (self._released_ms > 0 and 0 <= since_ms <= HELD_MS)

    def _clicked(self, event: QMouseEvent) -> bool:
        if QApplication.activePopupWidget() is None or event.button() != Qt.MouseButton.LeftButton:
            return False
        at = self._button.mapFromGlobal(event.globalPosition().toPoint())
        if not (self._button.isEnabled() and self._button.isVisible() and self._button.rect().contains(at)):
            return False
        self._abort()
        return True

    def _abort(self) -> None:
        self._session.abort()
        for _ in range(NESTED):
            popup = QApplication.activePopupWidget()
            if popup is None or not popup.close():
                return
