"""Settings: how the window looks, and what becomes of a run if it dies. All of it is kept at once; nothing to apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QShowEvent
from PySide6.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from .. import theme
from . import dialogs
from .preferences import DEATHS, SOFT_SHARES, Preferences

if TYPE_CHECKING:
    from ..selection import Selection
    from ..session.session import Session
    from .actions import Actions

THEME_WORDS = {"system": "As the desktop", "dark": "Dark", "light": "Light"}
DEATH_WORDS = {
    "suggested": "As the bench suggests: abort on a real bench, go on if it is simulated",
    "keep": "The run goes on without a window",
    "abort": "Abort the run, outputs off",
}

SOFT_WORDS = {str(share): f"above {share:.0%} of max_cell_v" if share else "always" for share in SOFT_SHARES}
SOFT_NOTE = (
    "Near the chip's limit a key fires nothing: the button is held for a second, and on a real chip its id is typed "
    "first. max_cell_v itself stands in the bench file (Ctrl+L)."
)
NOTE = (
    "It holds for runs that are started from now on. Runs and their files are never lost either way: what was measured "
    "is in the run file, and a new window finds a run that goes on."
)


class SettingsPage(QWidget):
    """Theme, text size, what becomes of a run; below, diagnostics as text."""

    def __init__(
        self, session: Session, actions: Actions, _selection: Selection | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.views: tuple[()] = ()
        self.left: QWidget | None = None
        self._session, self._actions = session, actions
        self._preferences = getattr(actions.parent(), "preferences", None) or Preferences()
        self.theme = self._combo("Theme", THEME_WORDS, "Dark, light, or as the desktop is")
        self.scale = self._combo(
            "Text size", {str(scale): f"{scale:.0%}" for scale in theme.SCALES}, "Up to twice the system's size"
        )
        self.death = self._combo(
            "If the window dies", DEATH_WORDS, "What becomes of a run that this window has started"
        )
        self.soft = self._combo("Hold for a pulse", SOFT_WORDS, "From where a pulse by hand is held for, not pressed")
        self.text = QPlainTextEdit(self)
        self._build()
        self.refresh()
        self.theme.activated.connect(self._theme_chosen)
        self.scale.activated.connect(self._scale_chosen)
        self.death.activated.connect(self._death_chosen)
        self.soft.activated.connect(self._soft_chosen)

    def _combo(self, name: str, words: dict[str, str], tip: str) -> QComboBox:
        combo = QComboBox(self)
        combo.setAccessibleName(name)
        combo.setToolTip(tip)
        for key, text in words.items():
            combo.addItem(text, key)
        combo.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        return combo

    def _build(self) -> None:
        inside = QWidget(self)
        column = QVBoxLayout(inside)
        column.setContentsMargins(20, 16, 20, 16)
        column.setSpacing(14)
        column.addWidget(self._box("Look", (("Theme", self.theme), ("Text size", self.scale))))
        column.addWidget(self._box("Runs", (("If the window dies", self.death), ("", self._note(NOTE)))))
        column.addWidget(self._box("By hand", (("Hold for a pulse", self.soft), ("", self._note(SOFT_NOTE)))))
        column.addWidget(self._diagnostics(), 1)
        area = QScrollArea(self)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # what is in it has the keyboard
        area.setWidgetResizable(True)
        area.setWidget(inside)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(area)

    def _note(self, words: str) -> QLabel:
        note = QLabel(words, self)
        note.setWordWrap(True)
        note.setProperty("role", "dim")
        return note

    def _box(self, title: str, rows: tuple[tuple[str, QWidget], ...]) -> QGroupBox:
        box = QGroupBox(title, self)
        form = QFormLayout(box)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.FieldsStayAtSizeHint)
        for words, widget in rows:
            if words:
                form.addRow(words, widget)
            else:
                form.addRow(widget)
        return box

    def _diagnostics(self) -> QGroupBox:
        box = QGroupBox("Diagnostics", self)
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setAccessibleName("Diagnostics")
        self.text.setToolTip("Versions, platform and paths: send this with a report")
        copy, again = QPushButton("Copy", box), QPushButton("Look again", box)
        copy.setAccessibleName("Copy the diagnostics")
        copy.setToolTip("Copy all of it as text")
        again.setAccessibleName("Look again")
        again.setToolTip("Ask for everything anew")
        copy.clicked.connect(self._copy)
        again.clicked.connect(self.refresh)
        row = QHBoxLayout()
        row.addWidget(copy)
        row.addWidget(again)
        row.addStretch(1)
        layout = QVBoxLayout(box)
        layout.addWidget(self.text, 1)
        layout.addLayout(row)
        return box

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Qt's: what is told is of now; and Qt has taken the font away with which the text was made."""
        super().showEvent(event)
        self.refresh()

    def restyle(self) -> None:
        """Colours or font have changed, perhaps from the menu."""
        self.refresh()

    def refresh(self) -> None:
        """Show what holds now."""
        for combo, value in ((self.theme, self._preferences.theme), (self.scale, str(theme.scale())),
                             (self.death, self._preferences.on_death), (self.soft, str(self._preferences.soft_share)),
                             ):  # fmt: skip
            combo.setCurrentIndex(max(combo.findData(value), 0))
        self.text.setFont(theme.mono())
        self.text.setPlainText(dialogs.diagnostics(self._session, self._preferences))
        self.text.setMinimumHeight(18 * theme.em())

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.text.toPlainText())
        self._session.said.emit("info", "the diagnostics are in the clipboard")

    def _theme_chosen(self) -> None:
        self._actions.by_name(f"theme.{self.theme.currentData()}").trigger()

    def _scale_chosen(self) -> None:
        window = self._actions.parent()
        set_look = getattr(window, "set_look", None)
        if set_look is not None:
            set_look(scale=float(self.scale.currentData()))

    def _death_chosen(self) -> None:
        chosen = str(self.death.currentData())
        assert chosen in DEATHS
        self._preferences.on_death = chosen
        self._session.on_death = None if chosen == "suggested" else chosen
        self._session.said.emit("info", f"if the window dies: {DEATH_WORDS[chosen].lower()}; from the next run on")

    def _soft_chosen(self) -> None:
        self._preferences.soft_share = float(self.soft.currentData())
        self._session.said.emit("info", f"by hand, pulses are held for: {SOFT_WORDS[self.soft.currentData()]}")
