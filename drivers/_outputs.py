"""How the outputs of a bench stand, as its driver knows it while one thread works and another may bring it to rest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from neurobench.bench.crossbar import Outputs


class Driven:
    """`now` is what is known. After a rest it is for `rest` alone to say, until the bench goes on (`halted` is clear).

    `gate` is the driver's own lock, which it holds while a trigger goes out.
    """

    def __init__(self, gate: threading.RLock, halted: threading.Event, now: Outputs) -> None:
        self.now = now
        self._gate, self._halted = gate, halted

    def say(self, outputs: Outputs) -> None:
        """What was heard while working; nothing where the bench was brought to rest meanwhile."""
        with self._gate:
            if not self._halted.is_set():
                self.now = outputs

    @contextlib.contextmanager
    def driving(self) -> Iterator[None]:
        """In here something may drive lines. If it fails, nobody knows whether it still does."""
        self.say(Outputs(True))
        try:
            yield
        except BaseException:
            self.say(Outputs())
            raise

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """In here outputs are switched off and read back; they count as off only where that did not fail."""
        self.now = Outputs()
        yield
        self.now = Outputs(False, "read back")
