"""Stop a thread at the n-th line that it executes in given files: every interleaving of two threads, one by one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

PATIENCE_S = 20.0


class Stepped:
    """`work` in a thread of its own; `at` is called, in the caller's thread, while it stands at its n-th line."""

    def __init__(self, work: Callable[[], Any], files: tuple[str, ...], line: int) -> None:
        self._work, self._files, self._line = work, files, line
        self.lines = 0
        self.where = ""
        self.error: BaseException | None = None
        self._stopped, self._go_on = threading.Event(), threading.Event()

    def run(self, at: Callable[[], Any]) -> bool:
        """Whether the work had so many lines; it has ended when this returns."""
        thread = threading.Thread(target=self._run)
        thread.start()
        assert self._stopped.wait(PATIENCE_S)
        reached = self.lines == self._line
        try:
            if reached:
                at()
        finally:
            self._go_on.set()
            thread.join(PATIENCE_S)
        assert not thread.is_alive()
        return reached

    def _run(self) -> None:
        sys.settrace(self._enter)
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - it is looked at afterwards
            self.error = error
        finally:
            sys.settrace(None)
            self._stopped.set()

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._trace if frame.f_code.co_filename.endswith(self._files) else None

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and not self._go_on.is_set():
            self.lines += 1
            if self.lines == self._line:
                self.where = f"{frame.f_code.co_name}:{frame.f_lineno}"
                self._stopped.set()
                self._go_on.wait(PATIENCE_S)
        return self._trace
