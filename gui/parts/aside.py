"""Work that would hold up the window, done in a thread; its answer comes back into the window."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Signal

from neurobench.errors import NeurobenchError


class Aside(QObject):
    """One thing at a time: of several questions that are asked while one is being worked on, the last is answered.

    `work` runs in a thread and must not touch a widget; `answer` is called in the window's thread, with what `work`
    returned, or with its words where it was refused. A question that was replaced is not answered.
    """

    _came = Signal(int, object)

    def __init__(self, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._number = 0
        self._next: tuple[Callable[[], Any], Callable[[Any], None], Callable[[str], None]] | None = None
        self._thread: threading.Thread | None = None
        self._answers: dict[int, tuple[Callable[[Any], None], Callable[[str], None]]] = {}
        self._came.connect(self._take)

    @property
    def busy(self) -> bool:
        """Whether something is being worked on."""
        return self._thread is not None

    def ask(self, work: Callable[[], Any], answer: Callable[[Any], None], refused: Callable[[str], None]) -> None:
        """Have `work` done; one of the other two is called at its end, unless something else is asked meanwhile."""
        self._number += 1
        self._answers.clear()
        self._next = (work, answer, refused)
        if self._thread is None:
            self._begin()

    def forget(self) -> None:
        """Nobody wants the answer any more."""
        self._number += 1
        self._next = None
        self._answers.clear()

    def wait(self, timeout_s: float = 5.0) -> None:
        """Wait for the thread's end, for a window that closes."""
        self.forget()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _begin(self) -> None:
        if self._next is None:
            return
        (work, answer, refused), self._next = self._next, None
        number = self._number
        self._answers = {number: (answer, refused)}
        self._thread = threading.Thread(target=self._work, args=(number, work), name=self.objectName(), daemon=True)
        self._thread.start()

    def _work(self, number: int, work: Callable[[], Any]) -> None:
        try:
            found: tuple[bool, Any] = (True, work())
        except (NeurobenchError, OSError) as error:
            found = (False, str(error) or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - a thread must not die without a word
            found = (False, f"{type(error).__name__}: {error}")
        with contextlib.suppress(RuntimeError):  # the window has gone meanwhile
            self._came.emit(number, found)

    def _take(self, number: int, found: tuple[bool, Any]) -> None:
        self._thread = None
        asked = self._answers.pop(number, None)
        if asked is not None:
            asked[0](found[1]) if found[0] else asked[1](found[1])
        self._begin()
