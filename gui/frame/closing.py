"""Closing the window while something goes on: never without a word, and never with the outputs on by accident."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from .. import theme
from ..parts.flow import FlowLayout
from ..session.states import LIVE, BenchState
from . import facts

if TYPE_CHECKING:
    from ..session.session import Session

PATIENCE_S = 5.0  # after this the window may be closed by force
LOOK_MS = 50
END = "Abort and close"
log = logging.getLogger("neurobench.window")


def holds(session: Session) -> bool:
    """Whether something goes on that a closed window would leave behind, or a real bench may have its outputs on."""
    if session.state is BenchState.FAULT:
        harmless = session.run_bench is not None and session.run_bench.simulated
        return not harmless and session.outputs.get("on") is not False
    return session.state in LIVE or session.state is BenchState.CONNECTING


class ClosingPanel(QFrame):
    """Asks what becomes of the run, then waits for the outputs to be off, then closes. It stands in the window and
    locks nothing: Abort and everything else can be used meanwhile.
    """

    def __init__(self, session: Session, close: Callable[[], None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("closing")
        self._session, self._close = session, close
        self._since = 0.0
        self._by_signal = False
        self.words = QLabel(self)
        self.words.setWordWrap(True)
        self.words.setAccessibleName("Closing the window")
        self.words.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.keep = self._button("Keep running headless", "The run goes on without a window; a new window finds it",
                                 self.keep_running)  # fmt: skip
        self.end = self._button(END, "Outputs off, verified, then the window closes", self.abort)
        self.force = self._button("Force", "End the engine and close, although nobody has verified that the outputs "
                                  "are off; this is logged", self.close_by_force)  # fmt: skip
        self.cancel = self._button("Cancel", "The window stays open", self.stay)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 8, 12, 8)
        layout.addWidget(self.words)
        row = FlowLayout(spacing=8)
        for one in (self.keep, self.end, self.force, self.cancel):
            row.addWidget(one)
        layout.addLayout(row)
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self._look)
        session.state_changed.connect(self._moved_on)
        self.hide()

    def _button(self, words: str, tip: str, do: Callable[[], None]) -> QPushButton:
        button = QPushButton(words, self)
        button.setAccessibleName(words)
        button.setToolTip(tip)
        button.clicked.connect(do)
        return button

    @property
    def ending(self) -> bool:
        """Whether the abort was asked for, and the window only waits for the outputs."""
        return self._timer.isActive()

    def ask(self) -> None:
        """Show what can be done. Asked again while it waits, it goes on waiting."""
        if self.ending:
            return
        self.words.setText(self._question())
        self._show(keep=self._session.state in LIVE, end=True, force=False)
        self.keep.setFocus() if self.keep.isVisible() else self.end.setFocus()

    def _moved_on(self, _state: BenchState) -> None:
        """What the question was about is over, or another: it is put anew."""
        if self.isVisible() and not self.ending:
            self.words.setText(self._question())
            self._show(keep=self._session.state in LIVE, end=True, force=False)

    def _question(self) -> str:
        if not holds(self._session) and self._session.sweeping:
            return (
                "<b>A sweep is going on, and ends with the window.</b> What has run is kept; <i>Go on</i> takes it up."
            )
        if not holds(self._session):
            return "<b>Nothing goes on any more.</b> Close the window?"
        if self._session.state is BenchState.FAULT:
            return (
                "<b>Nobody has read back that the outputs are off.</b> Abort and close brings the bench to rest first."
            )
        if self._session.state is BenchState.CONNECTING:
            return "<b>Close the window while a bench is being connected?</b>"
        return "<b>Close the window while a run is going on?</b> It can go on without a window, or be aborted."

    def _show(self, *, keep: bool, end: bool, force: bool) -> None:
        self.restyle()
        self.end.setText(END if holds(self._session) else "Close")
        for button, visible in ((self.keep, keep), (self.end, end), (self.force, force), (self.cancel, True)):
            button.setVisible(visible)
        self.show()

    def keep_running(self) -> None:
        """Let the run go on, and close."""
        self._session.keep_running()
        log.info("the window closes; %s goes on without it", self._session.run_path)
        self._finish()

    def abort(self) -> None:
        """Abort, wait until the outputs are off, close."""
        if not holds(self._session):
            self._finish()
            return
        self._begin()
        if self._session.state is BenchState.FAULT:
            self._session.acknowledge()  # brings the bench to rest
        elif self._session.state is BenchState.CONNECTING:
            self._session.abort()
        else:
            self._session.close_all(lambda: None)
        self._look()

    def by_signal(self, name: str) -> None:
        """The system wants the program to end: the same without a question, and by force if it takes too long."""
        going_on = holds(self._session)
        log.warning("%s: the window closes%s", name, ", outputs go off first" if going_on else "")
        self._by_signal = True
        if going_on:
            self.abort()
        else:
            self._finish()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self.words.setText(
            "<b>Aborting, outputs going off.</b> The window closes by itself once they are verified off."
        )
        self._show(keep=False, end=False, force=False)
        self._timer.start()

    def _look(self) -> None:
        if not self.ending:
            return
        nothing_driven = self._session.state is BenchState.DISCONNECTED
        if not holds(self._session) and (nothing_driven or self._session.outputs.get("on") is False):
            self._finish()
        elif time.monotonic() - self._since > PATIENCE_S:
            self._late()

    def _late(self) -> None:
        if self._by_signal:
            self.close_by_force()
            return
        mark, word, how = facts.outputs_words(self._session.outputs)
        if not self.force.isVisible():
            self._show(keep=False, end=False, force=True)
        self.words.setText(f"<b>{mark} The outputs are {word} ({how}).</b> Look at the instruments. Force ends the "
                           "engine and closes without a verification, and is logged.")  # fmt: skip

    def close_by_force(self) -> None:
        """End the engine hard and close."""
        _, word, how = facts.outputs_words(self._session.outputs)
        log.error("closed by force; state %s, outputs %s (%s)", self._session.state.value, word, how)
        if self._session.state in LIVE:
            self._session.abort()  # the second within two seconds, or the first: either way towards off
            self._session.abort()
        self._finish()

    def stay(self) -> None:
        """Not now."""
        self._timer.stop()
        self.hide()

    def _finish(self) -> None:
        self._timer.stop()
        self.hide()
        self._close()

    def restyle(self) -> None:
        """Colours have changed."""
        t = theme.tokens()
        ground = theme.mixed(t.panel, t.warn, 0.14)
        self.setStyleSheet(f"QFrame#closing {{ background: {ground}; border: 1px solid {t.warn}; }}"
                           f"QFrame#closing QLabel {{ background: transparent; color: {t.text}; }}")  # fmt: skip
