"""What was said between engine and instruments, as text beside the run file.

One line per message: `HH:MM:SS.mmm  instrument  >  text`, times in UTC, `>` to the instrument, `<` from it. No shot
waits for the disk: lines are gathered and written a few times a second. The file is for people; nothing is decided by
it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from pathlib import Path

SUFFIX = ".wire.log"
EVERY_S = 0.2
MOST_BYTES = 10_000_000  # of one file; the one before it is kept as `.wire.log.1`, so there are at most twice as many
MOST_SHOWN = 400  # characters of one message: samples of a waveform are for nobody's eyes
MOST_WAITING = 200_000  # lines that wait for a disk that does not answer; then the oldest are lost


def wire_log_of(run_file: Path) -> Path:
    """Where the log of a run stands."""
    return run_file.with_name(run_file.name + SUFFIX)


class WireLog:
    """Call it with (instrument, direction, text) from any thread. There is no file before the first line."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[float, str, str, str]] = deque(maxlen=MOST_WAITING)
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="wire log", daemon=True)
        self._thread.start()

    def __call__(self, instrument: str, direction: str, text: str) -> None:
        """Keep one message."""
        self._waiting.append((time.time(), instrument, direction, text))

    def flush(self) -> None:
        """Write what waits. A disk that is full costs the log, never the run."""
        with self._writing, contextlib.suppress(OSError):
            lines = "".join(self._lines())
            if lines:
                self._make_room(len(lines))
                with self.path.open("a", encoding="ascii", newline="\n") as file:
                    file.write(lines)

    def close(self) -> None:
        """Write the last lines."""
        self._over.set()
        self._thread.join()
        self.flush()

    def _work(self) -> None:
        while not self._over.wait(EVERY_S):
            self.flush()

    def _lines(self) -> list[str]:
        lines = []
        while self._waiting:
            lines.append(line_of(*self._waiting.popleft()))
        return lines

    def _make_room(self, more: int) -> None:
        if self.path.exists() and self.path.stat().st_size + more > self._most_bytes:
            self.path.replace(self.path.with_name(self.path.name + ".1"))


def line_of(at_s: float, instrument: str, direction: str, text: str) -> str:
    """One line of the log; what cannot be printed is escaped."""
    moment = f"{time.strftime('%H:%M:%S', time.gmtime(at_s))}.{int(at_s % 1 * 1000):03d}"
    said = text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode("ascii")
    said = said if len(said) <= MOST_SHOWN else f"{said[:MOST_SHOWN]}... ({len(text)} characters)"
    return f"{moment}  {instrument}  {direction}  {said}\n"
