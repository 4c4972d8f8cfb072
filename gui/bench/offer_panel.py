"""A run that ended and can go on if something is accepted: what is doubted, what accepting means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from ..parts.flow import FlowLayout
from ..session.offers import Offer
from ..session.states import BenchState

if TYPE_CHECKING:
    from ..session.session import Session

TITLES = {"doubt": "Nobody knows whether a pulse was fired", "baseline": "Cells have moved since the record"}


class OfferPanel(QFrame):
    """Stands there as long as the session has an offer that nobody has put away. offers(bool): whether it does."""

    offers = Signal(bool)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("A run that waits for your word")
        self._session = session
        self._away: Offer | None = None  # what was put away
        self.title, self.words = QLabel(), QLabel()
        self.title.setProperty("role", "warn")
        for label in (self.title, self.words):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.typed = QLineEdit()
        self.typed.setAccessibleName("id of the chip")
        self.typed.setToolTip("Type the id of the chip: this is said of a real one")
        self.typed.textChanged.connect(self._enable)
        self.typed.returnPressed.connect(self._accept)
        self.accept = self._button("Accept and go on", self._accept)
        self.copy = self._button("Copy command", self._copy)
        self.later = self._button("Not now", self._put_away)
        self.accept.setToolTip("Go on with the run; what was accepted is recorded in it")
        self.copy.setToolTip("The same as a command, into the clipboard")
        self.later.setToolTip("Put this away; Resume on the Runs page asks again")
        column, row = QVBoxLayout(self), FlowLayout(spacing=6)
        column.setContentsMargins(8, 6, 8, 6)
        for widget in (self.title, self.words, self.typed):
            column.addWidget(widget)
        for button in (self.accept, self.copy, self.later):
            row.addWidget(button)
        column.addLayout(row)
        session.state_changed.connect(self.look)
        self.look()

    def _button(self, words: str, do: object) -> QPushButton:
        button = QPushButton(words)
        button.setAccessibleName(words)
        button.clicked.connect(do)
        return button

    def look(self, *_: object) -> None:
        """Show what the session offers, or nothing."""
        offer = self._session.offer
        stands = offer is not None and offer is not self._away
        self.setVisible(stands)
        self.offers.emit(stands)
        if offer is None:
            return
        self.title.setText(f"▲ {TITLES[offer.what]}")
        self.words.setText(f"{offer.path.name} ended: {offer.why}\n\n{offer.means}")
        self.typed.setVisible(not offer.simulated)
        self.typed.setPlaceholderText(f"id of the chip: {offer.chip_id}")
        self._enable()

    def _enable(self, *_: object) -> None:
        why = self._why_not()
        self.accept.setEnabled(not why)
        self.accept.setToolTip(f"Not now: {why}" if why else "Go on with this run, with what is said above")

    def _why_not(self) -> str:
        offer, state = self._session.offer, self._session.state
        if state is BenchState.FAULT:
            return "acknowledge the fault first"
        if state is not BenchState.READY:
            return f"the bench is {state.value}"
        if offer is not None and not offer.accepted_by(self.typed.text()):
            return f"type the id of the chip, {offer.chip_id}"
        return ""

    def _accept(self) -> None:
        if self._session.accept(self.typed.text()):
            self.typed.clear()

    def _copy(self) -> None:
        if (offer := self._session.offer) is not None:
            QGuiApplication.clipboard().setText(offer.command)
            self._session.said.emit("info", f"copied: {offer.command}")

    def _put_away(self) -> None:
        self._away = self._session.offer
        self.look()
