"""Ctrl+K: every command by a few of its letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QDialog, QLabel, QLineEdit, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from .. import theme
from .actions import why_not

if TYPE_CHECKING:
    from ..session.session import Session
    from .actions import Actions


def score(asked: str, text: str) -> int | None:
    """How well the letters fit a command: the smaller the better; None if they do not occur in this order."""
    text, at, sum_ = text.lower(), -1, 0
    if asked.lower() in text:
        return text.index(asked.lower())
    for letter in asked.lower().replace(" ", ""):
        found = text.find(letter, at + 1)
        if found < 0:
            return None
        sum_, at = sum_ + (found - at) * 10, found
    return sum_ + 100


class CommandPalette(QDialog):
    """Type, choose with the arrows, Enter. What is not possible now is grey, and says why."""

    def __init__(self, session: Session, actions: Actions, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Dialog)
        self.setWindowTitle("Commands")
        self.setAccessibleName("Command palette")
        self._session, self._actions, self._over = session, actions, parent
        self.line = QLineEdit(self)
        self.line.setPlaceholderText("Type a command")
        self.line.setAccessibleName("Command")
        self.line.setToolTip("Type some of a command; arrows choose, Enter does it")
        self.line.setClearButtonEnabled(True)
        self.list = QListWidget(self)
        self.list.setAccessibleName("Commands that fit")
        self.list.setToolTip("Enter or a double click does it; what is grey is not possible now")
        self.list.setUniformItemSizes(True)
        self.why = QLabel(self)
        self.why.setWordWrap(True)
        self.why.setProperty("role", "dim")
        layout = QVBoxLayout(self)
        for one in (self.line, self.list, self.why):
            layout.addWidget(one)
        self.line.textChanged.connect(self._filter)
        self.line.returnPressed.connect(self._take)
        self.list.itemActivated.connect(self._take)
        self.list.currentItemChanged.connect(self._explain)
        self.line.installEventFilter(self)

    def ask(self) -> None:
        """Open it, empty."""
        em = theme.em()
        self.resize(min(32 * em, max(self._over.width() - 4 * em, 300)), 22 * em)
        self.line.clear()
        self._filter("")
        self.show()  # not modal: Abort can be clicked meanwhile
        self.line.setFocus()

    def _filter(self, asked: str) -> None:
        self.list.clear()
        found = []
        for action, made in self._actions:
            points = score(asked, f"{action.group} {made.text()}")
            if points is not None:
                found.append((not made.isEnabled() if not asked else False, points, action, made))
        for _, _, action, made in sorted(found, key=lambda one: one[:2]):
            item = QListWidgetItem(f"{made.text()}    {action.keys}" if action.keys else made.text())
            item.setData(Qt.ItemDataRole.UserRole, action.name)
            item.setToolTip(action.tip)
            if not made.isEnabled():
                item.setForeground(self.palette().placeholderText())
            self.list.addItem(item)
        self.list.setCurrentRow(0)

    def _explain(self) -> None:
        item = self.list.currentItem()
        name = "" if self.list.currentRow() < 0 else item.data(Qt.ItemDataRole.UserRole)
        for action, made in self._actions:
            if action.name == name:
                self.why.setText(action.tip if made.isEnabled() else why_not(action, self._session.state))
                return
        self.why.setText("no command fits")

    def _take(self, *_: object) -> None:
        if self.list.currentRow() < 0:
            return
        item = self.list.currentItem()
        made = self._actions.by_name(str(item.data(Qt.ItemDataRole.UserRole)))
        if made.isEnabled():
            self.accept()
            made.trigger()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Arrows in the line move in the list."""
        arrows = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress and event.key() in arrows:
            step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1, Qt.Key.Key_PageUp: -8}.get(Qt.Key(event.key()), 8)
            row = min(max(self.list.currentRow() + step, 0), self.list.count() - 1)
            self.list.setCurrentRow(row)
            return True
        return super().eventFilter(watched, event)
