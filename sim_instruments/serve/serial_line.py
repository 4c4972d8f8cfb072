"""Simulated instruments on pseudo-terminals, for clients that speak to serial ports.

    port = SerialPort(Line(smu, pace))
    port.resource                                   "ASRL/dev/pts/5::INSTR"
    port.close()

The baud rate means nothing. As on a real serial line there is one partner, nobody notices when it goes, and half a
line that it leaves is the beginning of the next one.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import tty

from .line import Line, LineDropped, Lines

CHUNK = 4096
SEND_S = 10.0  # what nobody reads for so long is lost


class SerialPort:
    """One instrument on one pseudo-terminal, served by a thread."""

    def __init__(self, line: Line) -> None:
        self._line, self._lines = line, Lines()
        # The other end stays open here too: else the terminal is gone as soon as its first client has closed it.
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self.path = os.ttyname(self._theirs)
        self.resource = f"ASRL{self.path}::INSTR"
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._serve, name=self.path, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._ours, self._wake], [], [])
            if self._wake in ready:
                return
            with contextlib.suppress(LineDropped):  # a serial line has no connection to lose: the answer is
                if whole := self._lines.add(os.read(self._ours, CHUNK)):
                    self._line.ask(self, b"".join(whole))

    def send(self, data: bytes) -> None:
        """See `Client`."""
        rest = data
        while rest:
            _, ready, _ = select.select([], [self._ours], [], SEND_S)
            if not ready:
                return
            rest = rest[os.write(self._ours, rest) :]

    def gone(self) -> bool:
        """See `Client`: it cannot be known."""
        return False

    def close(self) -> None:
        """Take the terminal away."""
        os.write(self._waker, b"x")
        self._thread.join(SEND_S)
        for end in (self._ours, self._theirs, self._wake, self._waker):
            os.close(end)
