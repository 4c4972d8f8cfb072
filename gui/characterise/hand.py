"""The bench by hand as the window uses it: opened when it is first needed, one request at a time, refusals in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from ..selection import Selection
from ..session.states import LIVE, BenchState

if TYPE_CHECKING:
    from ..session.session import Session

BUSY = "the last request has not been answered yet: nothing was done"
NOT_OPENED = "the bench could not be opened by hand"

Request = Mapping[str, Any]
Answer = dict[str, Any]


class Hand(QObject):
    """Asks the session, which asks the engine.

    answered(request, answer): what was asked and what came of it; an answer with "refused" has fired nothing.
    changed: it was opened or closed, or began or ended to be busy.
    """

    answered = Signal(object, object)
    changed = Signal()

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._under_way: Request | None = None
        self._waiting: Request | None = None  # until the bench is open
        self._last_words = ""
        session.said.connect(self._heard)
        session.state_changed.connect(self._moved)

    @property
    def is_open(self) -> bool:
        """Whether the bench can be asked now."""
        return self.session.hand and self.session.state is BenchState.RUNNING

    @property
    def busy(self) -> bool:
        """Whether something was asked and is not answered yet."""
        return self._under_way is not None or self._waiting is not None

    def ask(self, request: Request) -> bool:
        """Have this done, and open the bench for it if need be. False: `answered` has said why not."""
        if self.busy:
            return self._refuse(request, BUSY)
        if self.is_open:
            return self._send(request)
        words = self._words_of(self.session.hand_open)
        if words:
            return self._refuse(request, words)
        self._waiting = request
        self.changed.emit()
        return True

    def preview(self, request: Request, answer: Callable[[Answer], None]) -> bool:
        """What a pulse would do; False if the bench is not open or has something else to do."""
        if not self.is_open or self.busy:
            return False
        return self.session.hand_do({**request, "preview": True}, answer)

    def open(self) -> str:
        """Open the bench; words if that cannot be."""
        return "" if self.is_open else self._words_of(self.session.hand_open)

    def close(self) -> str:
        """End the session by hand; words if that cannot be."""
        return self._words_of(self.session.hand_close)

    def _send(self, request: Request) -> bool:
        self._under_way = request
        words = self._words_of(
            lambda: self.session.hand_do(dict(request), lambda answer: self._answer(request, answer))
        )
        if words:
            self._under_way = None
            return self._refuse(request, words)
        self.changed.emit()
        return True

    def _answer(self, request: Request, answer: Answer) -> None:
        if request is not self._under_way:
            return  # it was given up when its session ended; by now another may be under way
        self._under_way = None
        self.answered.emit(request, answer)
        self.changed.emit()

    def _refuse(self, request: Request, words: str) -> bool:
        self.answered.emit(request, {"refused": words})
        return False

    def _words_of(self, call: Callable[[], bool]) -> str:
        """What the session says when it refuses; "" if it does not."""
        self._last_words = ""
        return "" if call() else self._last_words or "it was refused"

    def _heard(self, _level: str, words: str) -> None:
        self._last_words = words

    def _moved(self, state: BenchState) -> None:
        if self._waiting is not None and self.is_open:
            request, self._waiting = self._waiting, None
            self._send(request)
        elif state not in LIVE and self.busy:
            # The words why come right behind the change of state.
            QTimer.singleShot(0, self, self._give_up)
        self.changed.emit()

    def _give_up(self) -> None:
        """The session has ended, or never began: what was asked is not going to be answered."""
        request = self._waiting or self._under_way
        if request is None or self.session.state in LIVE:
            return
        begun = self._waiting is None
        self._waiting = self._under_way = None
        words = self._last_words or (NOT_OPENED if not begun else "the session by hand has ended before it answered")
        self._refuse(request, words)
        self.changed.emit()


def cells_of(selection: Selection) -> list[list[int]] | str:
    """The chosen cells as a request names them."""
    rows, cols = selection.shape
    return "all" if selection.count == rows * cols > 0 else [list(cell) for cell in selection.cells]
