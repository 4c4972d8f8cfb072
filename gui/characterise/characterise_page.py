"""Characterise: single cells read and pulsed by hand, with everything recorded in one run file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import (
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from neurobench.errors import UsageError

from .. import theme
from ..parts.flow import FlowLayout
from ..parts.forms import NumberBox
from ..selection import HOW, Selection, name_of, parse, words_of
from ..session.states import BenchState
from ..views.console import ConsoleView
from ..views.crossbar import CrossbarView
from ..views.quantities import plural
from ..views.results import ResultsView
from ..views.traces import TracesView
from .hand import Answer, Hand, cells_of
from .pulse_panel import DOWN, SOFT, UP, PulsePanel

if TYPE_CHECKING:
    from ..frame.actions import Actions
    from ..session.session import Session
    from ..views.base import View

MOST_AVERAGES = 10_000
NOTHING = "Nothing has been read yet. Choose cells; R reads them."
MANY_CELLS = 4096  # a selection of more is not written out as text


class Side(QWidget):
    """The panel at the left: it asks for no more width than it needs, since the map is what people look at."""

    def sizeHint(self) -> QSize:  # noqa: N802
        """Hardly more than it must have."""
        return QSize(self.minimumSizeHint().width() + theme.em(), super().sizeHint().height())


class CharacterisePage(QWidget):
    """The panel at the left, and the map, the traces and the results beside it.

    `load_asked`: a request to be put into the form of the Bench page.
    """

    load_asked = Signal(object)

    def __init__(self, session: Session, actions: Actions, selection: Selection, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.selection, self._actions = session, selection, actions
        self.hand = Hand(session, self)
        self.crossbar, self.traces, self.results = CrossbarView(selection), TracesView(selection), ResultsView()
        self.console = ConsoleView(selection)
        self.views: tuple[View, ...] = (self.crossbar, self.traces, self.results, self.console)
        self.left: QWidget | None = Side()
        self.crossbar.nothing = self.traces.nothing = NOTHING
        self._build(self.left)
        self._listen(actions)
        self.restyle()
        self._show_cells()
        self._show_state()

    # -- what it is made of -------------------------------------------------------------------------------------

    def _build(self, panel: QWidget) -> None:
        self.pulse = PulsePanel(self.session, self.hand, self.selection, self.averages_of, self._soft_share)
        column = QVBoxLayout(panel)
        column.setContentsMargins(6, 4, 6, 6)
        column.setSpacing(4)
        for box in (self._bench_box(), self._cells_box(), self._read_box(), self.pulse):
            column.addWidget(box)
        column.addStretch(1)
        panel.setAccessibleName("Read and pulse by hand")

    def _bench_box(self) -> QGroupBox:
        box = QGroupBox("Bench by hand")
        row = QHBoxLayout(box)
        row.setContentsMargins(6, 4, 6, 6)
        self.state_words = _plain("How the bench is")
        self.open = self._button("Open", "Open the bench by hand; the first read does it too", self._open_or_close)
        self.open.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        row.addWidget(self.state_words, 1)
        row.addWidget(self.open, 0, Qt.AlignmentFlag.AlignTop)
        return box

    def _cells_box(self) -> QGroupBox:
        box = QGroupBox("Cells")
        column = QVBoxLayout(box)
        column.setContentsMargins(6, 4, 6, 6)
        self.cells = QLineEdit(box)
        self.cells.setAccessibleName("The chosen cells as text")
        self.cells.setPlaceholderText("W0-3 B1, or all")
        self.cells.setToolTip(HOW[0].upper() + HOW[1:])
        self.cells.editingFinished.connect(self._cells_typed)
        self.cells_words = _plain("How many cells are chosen")
        row = QHBoxLayout()
        row.addWidget(self.cells, 1)
        row.addWidget(self._button("All", "Choose every cell (Ctrl+A)", self.selection.all))
        row.addWidget(self._button("None", "Choose no cell", self.selection.clear))
        column.addLayout(row)
        column.addWidget(self.cells_words)
        return box

    def _read_box(self) -> QGroupBox:
        box = QGroupBox("Read")
        column = QVBoxLayout(box)
        column.setContentsMargins(6, 4, 6, 6)
        self.averages = NumberBox("", integer=True, low=1, high=MOST_AVERAGES)
        self.averages.setText("1")
        self.averages.setAccessibleName("Averages of each read")
        self.averages.setToolTip("So often the instrument repeats a read, and averages")
        self.averages.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        buttons = QFrame(box)
        flow = FlowLayout(buttons, 6)
        self.read_buttons = {
            "selection": self._button("Selection", "Read the chosen cells (R)", self.read_selection),
            "all": self._button("All", "Read every cell", partial(self._read, "all")),
            "cursor": self._button("Cursor", "Read the one cell that the cursor is on", self.read_cursor),
        }
        for button in self.read_buttons.values():
            button.setAccessibleName(f"Read: {button.text()}")
            flow.addWidget(button)
        together = QFrame(box)
        pair = QHBoxLayout(together)
        pair.setContentsMargins(0, 0, 0, 0)
        pair.addWidget(QLabel("Averages", box))
        pair.addWidget(self.averages)
        flow.addWidget(together)
        self.read_words = _plain("Why nothing was read", "warn")
        self.read_words.hide()
        column.addWidget(buttons)
        column.addWidget(self.read_words)
        return box

    def _button(self, words: str, tip: str, call: Any) -> QPushButton:
        button = QPushButton(words)
        button.setToolTip(tip)
        button.setAccessibleName(words)
        button.setAutoDefault(False)
        button.clicked.connect(lambda _on: call())
        return button

    def _listen(self, actions: Actions) -> None:
        for name, call in (
            ("read_selection", self.read_selection),
            ("pulse_up", partial(self.pulse.fire_by_key, UP)),
            ("pulse_down", partial(self.pulse.fire_by_key, DOWN)),
        ):
            act = actions.by_name(name)
            act.setAutoRepeat(False)  # a key that is held down is one wish
            act.triggered.connect(partial(self._called, call))
        actions.by_name("export").triggered.connect(self._export_if_seen)
        self.crossbar.listen(actions, export=False)
        self.traces.listen(actions)
        for told in (self.crossbar.told, self.results.told):
            told.connect(self.session.said)
        self.hand.answered.connect(self._answered)
        self.hand.changed.connect(self._show_state)
        self.pulse.fire_asked.connect(self.hand.ask)
        self.pulse.form_asked.connect(self._to_form)
        self.session.wire.connect(self.console.hear)
        self.pulse.refused.connect(partial(self.session.said.emit, "warning"))
        self.selection.changed.connect(self._show_cells)
        for signal in (self.session.state_changed, self.session.bench_changed):
            signal.connect(self._show_state)
        self.session.snapshot_changed.connect(self._suggest)

    def _soft_share(self) -> float:
        """The share of the limit above which pulses are held for, as Settings say it."""
        return float(getattr(getattr(self._actions.parent(), "preferences", None), "soft_share", SOFT))

    def _to_form(self, request: object) -> None:
        """Show the protocol that may do what the hand may not; the bench cannot be open for both."""
        if self.session.hand and (words := self.hand.close()):
            self.pulse.say(f"form was not opened: {words}")
            return
        self._actions.by_name("mode.bench").trigger()
        self.load_asked.emit(request)

    def _called(self, call: Any, _on: bool = False) -> None:
        call()

    def _export_if_seen(self) -> None:
        """What this mode has to export: the lines of results where there are any, else the numbers of the map."""
        if not self.left or not self.left.isVisible():
            return
        if self.results.model.rows:
            self.results.export_csv()
        self.crossbar.export()

    # -- cells --------------------------------------------------------------------------------------------------

    def _cells_typed(self) -> None:
        text = self.cells.text()
        if text.strip() == self._cells_text():
            return
        try:
            mask = parse(text, self.selection.shape)
        except UsageError as error:
            self._say(self.cells_words, f"▲ {error}", "warn")
            return
        self.selection.set_mask(mask)

    def _cells_text(self) -> str:
        count = self.selection.count
        return words_of(self.selection.mask) if count <= MANY_CELLS or self.selection.mask.all() else ""

    def _show_cells(self) -> None:
        self.cells.setText(self._cells_text())
        rows, cols = self.selection.shape
        count, cursor = self.selection.count, self.selection.cursor
        words = f"{plural(count, 'cell')} of {rows} x {cols}, cursor on {name_of(cursor)}" if rows else "no array yet"
        self._say(self.cells_words, words, "dim")

    # -- read ---------------------------------------------------------------------------------------------------

    def averages_of(self) -> int:
        """How often a read is repeated."""
        found = self.averages.number()
        return min(max(int(found), 1), MOST_AVERAGES) if found is not None else 1

    def read_selection(self) -> None:
        """Read the chosen cells; what cannot be is said beside the button and in the log."""
        if not self.selection.count:
            self._refuse_read("no cell is chosen: click the map, or press Ctrl+A")
        else:
            self._read(cells_of(self.selection))

    def read_cursor(self) -> None:
        """Read the one cell under the cursor."""
        self._read([list(self.selection.cursor)])

    def _read(self, cells: Any) -> None:
        if self.averages.number() is None:
            self._refuse_read("the number of averages is not a number")
            return
        self.read_words.hide()
        self.hand.ask({"do": "read", "cells": cells, "averages": self.averages_of()})

    def _refuse_read(self, words: str) -> None:
        self._say(self.read_words, f"nothing was read: {words}", "warn")
        self.read_words.show()
        self.session.said.emit("warning", f"nothing was read: {words}")

    # -- answers ------------------------------------------------------------------------------------------------

    def _answered(self, request: Mapping[str, Any], answer: Answer) -> None:
        self.results.take(request, answer)
        fired = request.get("do") == "pulse"
        if "refused" in answer:
            words = str(answer["refused"])
            if fired:
                self.pulse.say(f"nothing was fired: {words}" if not answer.get("failed") else words)
            else:
                self._refuse_read(words)
        elif answer.get("not_read"):
            self.pulse.say(f"fired, but not read afterwards: {answer['not_read']}")
        if fired:
            self.pulse.fired()

    def _open_or_close(self) -> None:
        words = self.hand.close() if self.session.hand else self.hand.open()
        if words:
            self._say(self.state_words, f"▲ {words}", "warn")

    def _suggest(self) -> None:
        """The pulses that the devices of this bench are declared for."""
        snapshot = self.session.snapshot
        if snapshot is not None and self.session.hand and snapshot.live:
            self.pulse.suggest(snapshot.about.device.pulse, snapshot.about.device.depress_pulse)

    def _show_state(self, *_: object) -> None:
        session = self.session
        self.open.setText("End" if session.hand else "Open")
        self.open.setAccessibleName("End the session by hand" if session.hand else "Open the bench by hand")
        self._say(self.state_words, self._state_text(), "ok" if self.hand.is_open else "dim")

    def _state_text(self) -> str:
        session, state = self.session, self.session.state
        if session.hand:
            path = session.run_path
            if state is not BenchState.RUNNING:
                return f"{state.value} ..."
            doing = "● busy" if self.hand.busy else "● open"
            return doing + (f", recorded in {path.name}" if path is not None else "")
        if state is BenchState.DISCONNECTED:
            return "○ no bench is connected (Ctrl+2)"
        if state is BenchState.READY:
            return f"○ {session.bench_name} is not open; a read (R) opens it"
        return f"○ not open by hand: the bench is {state.value}"

    def _say(self, label: QLabel, words: str, role: str) -> None:
        label.setText(words)
        if label.property("role") != role:
            label.setProperty("role", role)
            label.style().unpolish(label)
            label.style().polish(label)

    def restyle(self) -> None:
        """Font sizes have changed."""
        self.averages.setFixedWidth(round(2.8 * theme.em()))
        self.pulse.restyle()


def _plain(name: str, role: str = "dim") -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    flags = Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
    label.setTextInteractionFlags(flags)
    label.setProperty("role", role)
    label.setAccessibleName(name)
    return label
