"""The queue: what waits, what runs and how it ended; order by dragging or by keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDropEvent, QKeyEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..frame import facts
from ..parts.fields import shown
from ..parts.flow import FlowLayout
from ..session.states import LIVE

if TYPE_CHECKING:
    from neurobench.runs.request import Request

    from ..session.session import Session
    from ..session.waiting import Queued

ID = Qt.ItemDataRole.UserRole
MARKS = {"waiting": "○", "running": "►", "finished": "✓", "not_converged": "▲", "stopped": "■"}
OTHER = "✕"
EMPTY = "Nothing waits. Ctrl+Return puts what the form shows into the queue."


def title(request: Request) -> str:
    """What a request asks for, in one line."""
    changes = ", ".join(
        f"{key}={shown(value)}" for key, value in {**request.settings, **request.bench_settings}.items()
    )
    return f"{request.protocol} on {request.bench}, seed {request.seed}" + (f": {changes}" if changes else "")


class QueueList(QListWidget):
    """Entries that are dragged, or moved with Alt+Up and Alt+Down. moved(id, by); asked(what, id) for other keys."""

    moved = Signal(int, int)
    asked = Signal(str, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.setDefaultDropAction(Qt.DropAction.MoveAction)
        self.setAlternatingRowColors(True)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Queue of runs")
        self.setToolTip("Runs that wait; drag them, or Alt+Up and Alt+Down, into another order")

    @property
    def chosen(self) -> int | None:
        """Number of the entry that is chosen."""
        item: QListWidgetItem | None = self.currentItem()
        return None if item is None or item.data(ID) is None else int(item.data(ID))

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Alt+Up, Alt+Down, Delete, Return, Ctrl+D."""
        chosen, alt = self.chosen, event.modifiers() == Qt.KeyboardModifier.AltModifier
        by = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}.get(Qt.Key(event.key()))
        what = {Qt.Key.Key_Delete: "remove", Qt.Key.Key_Return: "edit", Qt.Key.Key_Enter: "edit"}.get(
            Qt.Key(event.key())
        )
        if chosen is not None and alt and by is not None:
            self.moved.emit(chosen, by)
        elif chosen is not None and what is not None and not event.modifiers():
            self.asked.emit(what, chosen)
        else:
            super().keyPressEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802 - Qt's name
        """Tell where to; the session moves it, and the list follows the session."""
        chosen = self.chosen
        if chosen is not None and event.source() is self:
            self.drop_at(chosen, self._target(event))
        event.setDropAction(Qt.DropAction.IgnoreAction)
        event.accept()

    def drop_at(self, queue_id: int, to: int) -> None:
        """An entry was dropped before the row `to`."""
        was = next((row for row in range(self.count()) if self.item(row).data(ID) == queue_id), None)
        if was is not None and to not in (was, was + 1):
            self.moved.emit(queue_id, to - was - (to > was))

    def _target(self, event: QDropEvent) -> int:
        at = event.position().toPoint()
        index = self.indexAt(at)
        if not index.isValid():
            return self.count()
        below = at.y() > self.visualRect(index).center().y()
        return index.row() + below


class QueuePanel(QWidget):
    """Shows the session's queue. edit(id, request): the form is to show this entry."""

    edit = Signal(int, object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.list = QueueList()
        self.list.moved.connect(self._moved)
        self.list.asked.connect(self._asked)
        self.list.itemDoubleClicked.connect(self._double)
        self.list.currentRowChanged.connect(self._enable)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 2)
        column.setSpacing(4)
        column.addWidget(self.list, 1)
        column.addLayout(self._buttons())
        session.queue_changed.connect(self._changed)
        session.state_changed.connect(self._enable)
        session.snapshot_changed.connect(self._progress)
        self.refresh()

    def _buttons(self) -> FlowLayout:
        row = FlowLayout(spacing=4)
        self.start_button = self._button(row, "Start queue", "Run what waits, one after another (Ctrl+F5)", self.start)
        self.up_button = self._button(row, "▲", "Move up (Alt+Up)", lambda: self._move(-1), "Move up")
        self.down_button = self._button(row, "▼", "Move down (Alt+Down)", lambda: self._move(1), "Move down")
        self.edit_button = self._button(row, "Edit", "Bring it into the form (Return)", lambda: self._do("edit"))
        self.copy_button = self._button(
            row, "Duplicate", "The same once more, behind it", lambda: self._do("duplicate")
        )
        self.remove_button = self._button(row, "Remove", "Take it out (Delete)", lambda: self._do("remove"))
        self.one_only = QCheckBox("Stop after each")
        self.one_only.setToolTip("After each run the queue waits for Start queue again; else the next one begins")
        self.one_only.setAccessibleName("Stop the queue after each run")
        self.one_only.toggled.connect(self._halting)
        row.addWidget(self.one_only)
        return row

    def _button(self, row: FlowLayout, text: str, tip: str, call: Callable[[], object], name: str = "") -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.setAccessibleName(name or text)
        button.clicked.connect(call)
        row.addWidget(button)
        return button

    # -- what is asked ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run what waits."""
        self._session.start_queue()

    def _halting(self, on: bool) -> None:
        if on:
            self._session.stop_queue()
        elif {"running", "waiting"} <= {one.status for one in self._session.queue}:
            self._session.start_queue()

    def _changed(self) -> None:
        if self.one_only.isChecked() and any(one.status == "running" for one in self._session.queue):
            self._session.stop_queue()
        self.refresh()

    def _moved(self, queue_id: int, by: int) -> None:
        self._session.move(queue_id, by)

    def _move(self, by: int) -> None:
        if (chosen := self.list.chosen) is not None:
            self._moved(chosen, by)

    def _do(self, what: str) -> None:
        if (chosen := self.list.chosen) is not None:
            self._asked(what, chosen)

    def _double(self, item: QListWidgetItem) -> None:
        self._asked("edit", int(item.data(ID)))

    def _asked(self, what: str, queue_id: int) -> None:
        one = next((one for one in self._session.queue if one.id == queue_id), None)
        if one is None:
            return
        if what == "edit":
            self.edit.emit(queue_id, one.request)
        elif what == "duplicate":
            self._session.duplicate(queue_id)
        else:
            self._session.remove(queue_id)

    # -- what is shown ------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the session's queue, the same entry chosen as before."""
        chosen, at = self.list.chosen, self.list.currentRow()
        self.list.blockSignals(True)
        self.list.clear()
        for one in self._session.queue:
            self.list.addItem(self._item(one))
        rows = [row for row, one in enumerate(self._session.queue) if one.id == chosen]
        self.list.setCurrentRow(rows[0] if rows else min(at, self.list.count() - 1))
        self.list.blockSignals(False)
        if not self._session.queue:
            nothing = QListWidgetItem(EMPTY)
            nothing.setFlags(Qt.ItemFlag.NoItemFlags)
            self.list.addItem(nothing)
        self.list.setWordWrap(not self._session.queue)
        self._enable()

    def _item(self, one: Queued) -> QListWidgetItem:
        item = QListWidgetItem(self._words(one))
        item.setData(ID, one.id)
        item.setToolTip(f"{title(one.request)}\n{one.status.replace('_', ' ')}\n{one.request.command()}")
        flags = item.flags() & ~Qt.ItemFlag.ItemIsDropEnabled
        item.setFlags(flags if one.status == "waiting" else flags & ~Qt.ItemFlag.ItemIsDragEnabled)
        return item

    def _words(self, one: Queued) -> str:
        status = one.status.partition(":")[0].replace("_", " ")  # the whole of it stands in the tip
        now = facts.progress(self._session.snapshot) if one.status == "running" else None
        mark = MARKS.get(one.status, OTHER)
        return f"{mark} {status}{f', {now.words()}' if now else ''}   {title(one.request)}"

    def _progress(self) -> None:
        """The entry that runs says how far it is."""
        for row, one in enumerate(self._session.queue):
            item: QListWidgetItem | None = self.list.item(row)
            if one.status == "running" and item is not None and item.text() != (words := self._words(one)):
                item.setText(words)

    def _enable(self, *_: object) -> None:
        chosen = next((one for one in self._session.queue if one.id == self.list.chosen), None)
        waits = chosen is not None and chosen.status == "waiting"
        row, count = self.list.currentRow(), len(self._session.queue)
        self.up_button.setEnabled(waits and row > 0)
        self.down_button.setEnabled(waits and row < count - 1)
        self.edit_button.setEnabled(waits)
        self.copy_button.setEnabled(chosen is not None)
        self.remove_button.setEnabled(chosen is not None and chosen.status != "running")
        any_waits = any(one.status == "waiting" for one in self._session.queue)
        self.start_button.setEnabled(any_waits and self._session.state not in LIVE)
