"""One line to one instrument: a question, its answer, a deadline, and a way back after an answer was lost."""

from __future__ import annotations

import math
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import pyvisa
from pyvisa.constants import StatusCode
from pyvisa.errors import VisaIOError

from neurobench.errors import LinkLost

if TYPE_CHECKING:
    from ._roles import Clock

LONGEST_ANSWER = 4 << 20  # bytes; who talks on without a line end is no instrument
SLICE_S = 0.05
"""No call into a link blocks longer: an abort has to get in (house plan, section 5)."""

SLOWEST_BPS = 1e5
"""Bytes per second that any line takes (GPIB takes some 3e5 [memory]): what is longer than a slice takes, samples of a
waveform above all, is given its time. It is sent while the outputs are off."""

# What a resource may raise when the other end, the cable or the library fails.
NOBODY = -1  # no thread has this number
_FAILURES = (pyvisa.errors.Error, OSError, NotImplementedError)
MOST_DRAINED = 100_000  # pieces of answers under way: a line that has more does not stop talking
_STREAMS = ("::SOCKET", "ASRL")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_OVERFLOW = (9.899e37, 9.911e37)  # SCPI-99, 7.2.1.5: infinity is 9.9e37, not-a-number 9.91e37; TSP prints the same
_NONSENSE = 1e30

Listener = Callable[[str, str], None]


class Resource(Protocol):
    """What a link uses of a pyvisa MessageBasedResource."""

    resource_name: str
    timeout: float
    read_termination: str | None

    def write_raw(self, message: bytes) -> int:
        """Send bytes."""

    def read_bytes(self, count: int, *, break_on_termchar: bool = False) -> bytes:
        """Read so many bytes, or one message if that is shorter and asked for; VisaIOError after `timeout` ms."""

    def clear(self) -> None:
        """Device clear: empty the buffers of both ends."""

    def open(self, *, open_timeout: int) -> None:
        """Open the session, within so many milliseconds."""

    def close(self) -> None:
        """Close the session."""


class Link:
    """An instrument's line, used by one thread; another one may break in to switch outputs off.

    Every failure is LinkLost. An exchange that failed leaves the line owing an answer: the next one drops it first
    (`recover`), so that an answer always belongs to its question.
    """

    def __init__(self, resource: Resource, clock: Clock, name: str, timeout_s: float = 2.0) -> None:
        self.name = name
        self.clock = clock
        self.timeout_s = timeout_s
        self.haste_s = math.inf  # no answer is waited for any longer, whatever the question says
        self.log: Listener | None = None
        self.losses = 0  # answers lost so far: whoever keeps an instrument's settings in mind checks them again
        self._resource = resource
        self._address = resource.resource_name
        self._lock = threading.RLock()
        self._sending = threading.RLock()  # held while bytes leave
        self._owes = False
        self._turn = 0
        self._latched_by: int | None = None  # the thread that alone may speak
        with suppress(*_FAILURES):  # a dead session fails again, and is told, at the first exchange
            resource.timeout = SLICE_S * 1000

    def write(self, line: str) -> None:
        """Send one program message that has no answer."""
        self._exchange(line, 0, self.timeout_s)

    def query(self, line: str, timeout_s: float | None = None) -> str:
        """Send one message and read its one line of answer. Raises LinkLost if there is none in time."""
        return self._exchange(line, 1, timeout_s)[0]

    def query_lines(self, line: str, n: int, timeout_s: float | None = None) -> list[str]:
        """Send one message and read its n lines of answer."""
        return self._exchange(line, n, timeout_s)

    def urge(self, line: str, fits: Callable[[str], bool], timeout_s: float | None = None) -> str:
        """Ask at once, although an older answer may be under way: answers that do not fit are dropped."""
        with self._lock, self._turn_of(line) as turn:
            deadline_s = self._deadline_s(timeout_s)
            self._say(line)
            while not fits(answer := self._answer(line, turn, deadline_s)):
                pass
        return answer

    def latch(self) -> None:
        """From now on only the calling thread may speak; a waiting question of another one ends within a slice.

        When this returns, nothing of the others is being sent any more.
        """
        self._latch(threading.get_ident())

    def seal(self) -> None:
        """From now on nobody may speak, until `unlatch` or `latch`."""
        self._latch(NOBODY)

    def _latch(self, thread: int) -> None:
        held = self._sending.acquire(timeout=SLICE_S)  # a write that hangs must not keep the others from being off
        self._latched_by = thread
        if held:
            self._sending.release()

    def unlatch(self) -> None:
        """Let all threads speak again."""
        self._latched_by = None

    def recover(self) -> None:
        """Make the next answer belong to the next question; sends nothing that changes the instrument.

        Device clear where there is one; a stream has none, so its session is opened anew and what is still under
        way is read and dropped.
        """
        with self._lock:
            self._tell("recover", "")
            try:
                self._clear()
            except _FAILURES as error:
                raise self._lost("clearing the line", error) from error
            self._owes = False

    def distrust(self) -> None:
        """What was answered is no answer to what was asked: drop what else is under way before the next question."""
        self._owes = True
        self.losses += 1

    def _exchange(self, line: str, n: int, timeout_s: float | None) -> list[str]:
        with self._lock:
            self._may_speak(line)
            # What switches outputs off does not wait until an older answer was dropped: that takes several slices.
            owes = self._owes and not n and self._latched_by == threading.get_ident()
            if self._owes and not owes:
                self.recover()
            with self._turn_of(line) as turn:
                deadline_s = self._deadline_s(timeout_s)
                self._say(line)
                answers = [self._answer(line, turn, deadline_s) for _ in range(n)]
            self._owes |= owes
            return answers

    def _say(self, line: str) -> None:
        with self._sending:
            self._may_speak(line)
            self._tell(">", line)
            self._send(line.encode("ascii") + b"\n")

    def _send(self, message: bytes) -> None:
        if len(message) <= SLOWEST_BPS * SLICE_S:
            self._resource.write_raw(message)
            return
        self._resource.timeout = len(message) / SLOWEST_BPS * 1000
        try:
            self._resource.write_raw(message)
        finally:
            self._resource.timeout = SLICE_S * 1000

    def _deadline_s(self, timeout_s: float | None) -> float:
        return self.clock.now_s() + min(self.timeout_s if timeout_s is None else timeout_s, self.haste_s)

    @contextmanager
    def _turn_of(self, line: str) -> Iterator[int]:
        # A signal handler may switch outputs off in the middle of a question of its own thread: the inner exchange
        # finds the line owing and recovers, and the outer one sees that its turn is over.
        self._turn += 1
        turn = self._turn
        self._owes = True
        try:
            yield turn
        except _FAILURES as error:
            raise self._lost(line, error) from error
        except UnicodeError as error:
            raise self._lost(line, "unintelligible bytes") from error
        if turn == self._turn:
            self._owes = False

    def _answer(self, line: str, turn: int, deadline_s: float) -> str:
        raw = b""
        while not raw.endswith(b"\n"):
            self._may_speak(line)
            if turn != self._turn:
                raise self._lost(line, "its answer was dropped by an abort")
            piece = self._piece()
            raw += piece
            if piece and not self._serial:
                break
            if self.clock.now_s() >= deadline_s:
                raise self._lost(line, f"no answer in time{f', only {raw[:80]!r}' if raw else ''}")
        return self._text(line, raw)

    @property
    def _serial(self) -> bool:
        return self._address.startswith("ASRL")

    def _piece(self) -> bytes:
        """An answer, or of a slow serial line one byte: a read there that times out loses what it has. b"": nothing."""
        try:
            if self._serial:
                return bytes(self._resource.read_bytes(1))
            return bytes(self._resource.read_bytes(LONGEST_ANSWER, break_on_termchar=True))
        except VisaIOError as error:
            if error.error_code != StatusCode.error_timeout:
                raise
            return b""

    def _text(self, line: str, raw: bytes) -> str:
        self._tell("<", raw.decode("ascii", "backslashreplace").removesuffix("\n"))
        text = raw.decode("ascii")
        if not text.endswith("\n") or not text.strip():
            raise self._lost(line, f"a broken answer {short(text)!r}")
        return text.removesuffix("\n").removesuffix("\r")

    def _may_speak(self, line: str) -> None:
        if self._latched_by not in (None, threading.get_ident()):
            raise self._lost(line, "outputs are being switched off")

    def _clear(self) -> None:
        stream = any(mark in self._address for mark in _STREAMS)
        try:
            if not stream or self._serial:  # pyvisa-py waits 0.1 s for a socket to fall silent
                self._resource.clear()
        except _FAILURES:
            stream = True
        if not stream:
            return
        if not self._serial:
            self._reopen()
        self._resource.timeout = SLICE_S * 1000
        self._drain()

    def _reopen(self) -> None:
        self._resource.close()
        try:
            self._resource.open(open_timeout=int(SLICE_S * 1000))
        except Exception as error:  # pyvisa-py raises no error of its own where nobody answers
            raise OSError(f"it cannot be opened again: {error}") from error
        self._resource.read_termination = "\n"  # a new session has none, and would wait for more than a line
        send_at_once(self._resource)

    def _drain(self) -> None:
        # until the line was silent for one slice
        for _ in range(MOST_DRAINED):
            self._may_speak("recover")
            if not self._piece():
                return
        raise OSError("it does not stop talking")

    def _tell(self, direction: str, line: str) -> None:
        if self.log is not None:
            self.log(direction, line)

    def _lost(self, line: str, why: object) -> LinkLost:
        self.losses += 1
        self._tell("!", f"lost: {why}")
        return LinkLost(f"{self.name}: {why} ({short(line)!r}; {self._address})")


def send_at_once(opened: Any) -> None:
    """Small commands are not gathered by the network: they would wait for one another."""
    with suppress(Exception):  # pyvisa-py offers no attribute for it that works; others need none
        interface = opened.visalib.sessions[opened.session].interface
        interface.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def float_of(text: str, link: Link) -> float:
    """The one number that an answer is. Raises LinkLost for anything else: it is asked again, never believed."""
    return floats_of(text, link, 1)[0]


def floats_of(text: str, link: Link, n: int, separator: str = ",") -> list[float]:
    """Exactly n numbers; an overflow (9.9e37 and up) is inf of its sign. Raises LinkLost for anything else."""
    parts = text.split(separator)
    values = [_value(part) for part in parts]
    if len(parts) != n or any(math.isnan(value) for value in values):
        raise garbled(link, text, f"{n} number{'s' if n > 1 else ''}")
    return values


def int_of(text: str, link: Link) -> int:
    """A whole number, also written as 1.00000e+01. Raises LinkLost for anything else."""
    value = float_of(text, link)
    if not value.is_integer():
        raise garbled(link, text, "a whole number")
    return int(value)


BLANKS = " \t\r"  # what may stand around a number; `str.strip` also takes control characters, which are noise


def is_number(text: str) -> bool:
    """Whether a text is a number as instruments write them, and nothing else."""
    return _NUMBER.fullmatch(text.strip(BLANKS)) is not None


def over_range(value: float) -> bool:
    """Whether a reading of `floats_of` says that its range was too small."""
    return math.isinf(value)


def garbled(link: Link, text: str, expected: str) -> LinkLost:
    """The error for an answer that cannot be what was asked for; the link drops what may follow it."""
    link.distrust()
    return LinkLost(f"{link.name}: unintelligible answer {short(text)!r}, expected {expected}")


def short(text: str) -> str:
    """A text for a message: whole if it fits into a line."""
    return text if len(text) <= 80 else f"{text[:77]}..."


def _value(text: str) -> float:
    if not is_number(text):
        return math.nan
    value = float(text)
    if abs(value) < _NONSENSE:
        return value
    return math.copysign(math.inf, value) if _OVERFLOW[0] <= abs(value) <= _OVERFLOW[1] else math.nan
