"""The one owner of what goes on in the window: bench, run, queue, and what is shown.

Pages and views ask here and hear here; nobody else talks to an engine. Nothing in here waits: what takes time is done
in threads or child processes, and its end comes back as a call in the window's own thread. Each part has a module of
its own, and knows only those before it: owner, shown, connection, running, faults, queueing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from neurobench.errors import NeurobenchError

from .queueing import Queueing
from .states import LIVE, BenchState

if TYPE_CHECKING:
    from neurobench.runs.engine import Engine, Made


class Session(Queueing):
    """All of it, with single steps by hand, and the window's end."""

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(folder, parent)
        self._then: Callable[[], None] | None = None

    # -- by hand ------------------------------------------------------------------------------------------------

    def hand_open(self) -> bool:
        """Open the bench for single reads and pulses by hand, recorded in a run file of their own."""
        if (words := self._why_not()) is not None:
            return self._refuse(words)
        config, seed = self.bench, 0
        assert config is not None

        def started(made: Made) -> Engine:
            from neurobench.runs import hand

            return hand.start(config, seed, self.runs_folder, held=True, made=made)

        self.request = None
        self._begin(started, keep=False, hand=True, emulated=self._emulated)  # a session by hand ends with the hand
        return True

    def hand_do(self, request: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> bool:
        """One request of a hand session (see runs/hand.py); `answer` is called with what came of it."""
        engine = self._engine
        if engine is None or not self.hand or self.state is not BenchState.RUNNING:
            return self._refuse(f"the bench is not open by hand (it is {self.state.value})")

        def work() -> None:
            try:
                found = engine.ask_hand(request)
            except (NeurobenchError, OSError, EOFError) as error:
                found = {"refused": str(error) or type(error).__name__}
            self._post(lambda: answer(found))

        self._aside(work, "by hand")  # it lasts as long as it lasts: stop and pause must not wait behind it
        return True

    def hand_close(self) -> bool:
        """End the hand session in order."""
        return self.stop() if self.hand else self._refuse("no hand session is open")

    # -- the end ------------------------------------------------------------------------------------------------

    def close_all(self, then: Callable[[], None]) -> None:
        """Abort what goes on, and call `then` once its engine has ended and the outputs are known to be off."""
        self._then, self._queue_on = then, False
        if self.state in LIVE and self.state is not BenchState.ABORTING:
            self.abort()
        self._perhaps_then()

    def _after_run(self, words: str, *, well: bool) -> None:
        super()._after_run(words, well=well)
        self._perhaps_then()

    def _perhaps_then(self) -> None:
        if self._then is not None and self.state not in LIVE:
            then, self._then = self._then, None
            then()
