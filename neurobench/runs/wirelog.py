"""What was said between engine and instruments, as text beside the run file.

One line per message: `HH:MM:SS.mmm  instrument  >  text`, times in UTC, `>` to the instrument, `<` from it. No shot
waits for the disk: lines are gathered and written a few times a second; what could not be written is counted, and the
log says so once it can. The file is for people; nothing is decided by it.
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
PATIENCE_S = 1.0  # for such a disk, of whoever wants the last lines written


def wire_log_of(run_file: Path) -> Path:
    """Where the log of a run stands."""
    return run_file.with_name(run_file.name + SUFFIX)


class WireLog:
    """Call it with (instrument, direction, text) from any thread. There is no file before the first line."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[float, str, str, str, int]] = deque()
        self._lost = 0
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="wire log", daemon=True)
        self._thread.start()

    def __call__(self, instrument: str, direction: str, text: str) -> None:
        """Keep one message, of a long one its beginning."""
        if len(self._waiting) >= MOST_WAITING:
            with contextlib.suppress(IndexError):  # it has just been written
                self._waiting.popleft()
                self._lost += 1
        self._waiting.append((time.time(), instrument, direction, text[:MOST_SHOWN], len(text)))

    def flush(self) -> None:
        """Write what waits. A disk that is full costs the log, never the run; one that hangs, some patience."""
        if not self._writing.acquire(timeout=PATIENCE_S):
            return
        try:
            self._write(self._lines())
        finally:
            self._writing.release()

    def _write(self, lines: list[str]) -> None:
        if not lines:
            return
        lost, self._lost = self._lost, 0
        text = "".join([*(_gap(lost) if lost else ()), *lines])
        try:
            self._make_room(len(text))
            with self.path.open("a", encoding="ascii", newline="\n") as file:
                file.write(text)
        except OSError:
            self._lost += lost + len(lines)

    def close(self) -> None:
        """Write the last lines."""
        self._over.set()
        self._thread.join(PATIENCE_S)
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


def line_of(at_s: float, instrument: str, direction: str, text: str, length: int | None = None) -> str:
    """One line of the log; what cannot be printed is escaped. `length`: of the message whose beginning `text` is."""
    moment = f"{time.strftime('%H:%M:%S', time.gmtime(at_s))}.{int(at_s % 1 * 1000):03d}"
    said = text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode("ascii")
    length = len(text) if length is None else length
    said = said if len(said) <= MOST_SHOWN >= length else f"{said[:MOST_SHOWN]}... ({length} characters)"
    return f"{moment}  {instrument}  {direction}  {said}\n"


def _gap(lines: int) -> list[str]:
    """That lines are missing here; the last one before them may have been cut off in the middle."""
    return ["\n", line_of(time.time(), "log", "!", f"{lines} lines could not be written and are lost")]
