"""A simulated board for other programs: raw bytes on a socket of this computer, or on a pseudo-terminal.

    server = TcpBoard(bench, port=0)
    server.url                                  "socket://127.0.0.1:40123"
    server.close()

One client after another, as on a cable: who comes while another is connected waits. A client that vanishes changes
nothing: what it has sent is executed, and what the board says so late the next client hears, as on a cable: replies
are told apart by their tags. The speed of the client's end is the board's,
whatever the client sets: a socket has none, and a pseudo-terminal does not carry it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
import tty
from typing import TYPE_CHECKING, Protocol

from neurobench.errors import UsageError

from ..world.clock import to_ps

if TYPE_CHECKING:
    from ..benches.fpga import SimulatedBoard

HOST = "127.0.0.1"
CHUNK = 65536
SEND_S = 10.0  # a client that reads nothing for so long loses what it is sent
IDLE_S = 0.05  # how often time is looked after where nothing is due
QUIET_S = 1e-3  # the same while pulses are fired and no byte is on the line: what is due keeps its own time stamp
SOON_S = 2e-4
JUMP = 4  # in virtual time one chunk of bytes brings the bench on by at most this part of the watchdog


class Served(Protocol):
    """Where clients find a board."""

    url: str

    def close(self) -> None:
        """No clients any more."""


class Pump:
    """Carries bytes between a board and one client, and lets the bench's time go on.

    In virtual time the bench keeps up with the computer's clock, and what would be waited for comes at once.
    """

    def __init__(self, bench: SimulatedBoard) -> None:
        self._bench, self._time, self._line = bench, bench.time, bench.line
        self._last_s = time.monotonic()

    def tell(self, data: bytes) -> None:
        """The client has sent something."""
        with self._time.lock:
            self._keep_up()
            self._line.client = self
            self._line.write(data)
            if not self._time.wall:
                self._jump()

    def taken(self) -> bytes:
        """What the client shall get now: answers go to the one that has asked last."""
        with self._time.lock:
            self._keep_up()
            return self._line.taken(CHUNK) if self._line.client is self else b""

    def pause_s(self) -> float:
        """How long nothing needs to be looked after, in seconds; lets happen what is due."""
        with self._time.lock:
            self._keep_up()
            return min(max(self._time.next_due_s(), QUIET_S if self._line.quiet else SOON_S), IDLE_S)

    def hang_up(self) -> None:
        """The client has gone."""
        with self._time.lock:
            if self._line.client is self:
                self._line.hang_up()
                self._line.client = None

    def _keep_up(self) -> None:
        now_s = time.monotonic()
        if not self._time.wall:
            self._time.run_for(now_s - self._last_s)
        self._last_s = now_s

    def _jump(self) -> None:
        """To the first bytes of an answer, but never so far that the silence of the host would count."""
        end_ps = self._time.now_ps + to_ps(self._bench.board.watchdog_s / JUMP or 1.0)
        while not self._line.arrived and self._time.now_ps < end_ps and self._time.busy():
            self._time.step(end_ps)


class Ends:
    """A thread that serves the client at a pair of file descriptors until told to stop or the client is gone."""

    def __init__(self, pump: Pump, wake: int) -> None:
        self._pump, self._wake = pump, wake

    def serve(self, fd: int, *, lasting: bool) -> bool:
        """Whether the client has gone; else it was told to stop. lasting: nobody can tell that the client has gone."""
        while True:
            data = self._pump.taken()
            if data and not _written(fd, data) and not lasting:
                return True
            ready, _, _ = select.select([fd, self._wake], [], [], 0.0 if data else self._pump.pause_s())
            if self._wake in ready:
                return False
            if fd in ready:
                received = _received(fd)
                if not received and not lasting:
                    return True
                self._pump.tell(received)


def _received(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except OSError:  # reset by its peer
        return b""


def _written(fd: int, data: bytes) -> bool:
    while data:
        _, ready, _ = select.select([], [fd], [], SEND_S)
        if not ready:
            return False
        try:
            data = data[os.write(fd, data) :]
        except OSError:
            return False
    return True


class TcpBoard:
    """A board on a port. Raises UsageError where the port is taken; 0: a free one."""

    def __init__(self, bench: SimulatedBoard, port: int = 0) -> None:
        self._pump = Pump(bench)
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((HOST, port))
            self._listener.listen()
        except (OSError, OverflowError) as error:
            self._listener.close()
            raise UsageError(f"port {port} on {HOST} cannot be used: {error} (--port-base)") from error
        self.port: int = self._listener.getsockname()[1]
        self.url = f"socket://{HOST}:{self.port}"
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._serve, name=self.url, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        ends = Ends(self._pump, self._wake)
        while True:
            ready, _, _ = select.select([self._listener.fileno(), self._wake], [], [], self._pump.pause_s())
            if self._wake in ready:
                return
            if ready:
                peer, _ = self._listener.accept()
                with peer:
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    gone = ends.serve(peer.fileno(), lasting=False)
                self._pump.hang_up()
                if not gone:
                    return

    def close(self) -> None:
        """Hang up, and take no more clients."""
        _stop(self._thread, self._waker, self._wake)
        self._listener.close()


class TerminalBoard:
    """A board on a pseudo-terminal; `url` is its path."""

    def __init__(self, bench: SimulatedBoard) -> None:
        # The other end stays open here too: else the terminal is gone as soon as its first client has closed it.
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.url = os.ttyname(self._theirs)
        self._wake, self._waker = os.pipe()
        ends = Ends(Pump(bench), self._wake)
        self._thread = threading.Thread(
            target=lambda: ends.serve(self._ours, lasting=True), name=self.url, daemon=True
        )  # fmt: skip
        self._thread.start()

    def close(self) -> None:
        """Take the terminal away."""
        _stop(self._thread, self._waker, self._wake)
        for end in (self._ours, self._theirs):
            os.close(end)


def _stop(thread: threading.Thread, waker: int, wake: int) -> None:
    with contextlib.suppress(OSError):
        os.write(waker, b"x")
    thread.join(SEND_S)
    for end in (waker, wake):
        os.close(end)
