"""Simulated instruments on sockets of this computer, for clients in other processes.

    server = TcpServer({"smu": Line(smu, pace)}, port_base=0)
    server.resources["smu"]                         "TCPIP::127.0.0.1::40123::SOCKET"
    server.close()

One port per instrument, on the loopback interface only. Lines end with a line feed. Any number of clients, one after
another or at once; half a line of a client that hangs up is forgotten, what it has set stays.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from collections.abc import Mapping

from neurobench.errors import UsageError

from .line import Line, LineDropped, Lines

HOST = "127.0.0.1"
CHUNK = 65536
SEND_S = 10.0  # a client that reads nothing for so long is cut off
_QUICK = getattr(socket, "TCP_QUICKACK", None)  # Linux; without it a write and a query cost 40 ms (Nagle's algorithm)
_HANGUP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)

_log = logging.getLogger(__name__)


class Connection:
    """One client of one instrument, served by a thread of its own."""

    def __init__(self, peer: socket.socket, line: Line) -> None:
        self._peer, self._line, self._lines = peer, line, Lines()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.settimeout(SEND_S)
        self._hangup = select.poll()
        self._hangup.register(peer, _HANGUP)

    def serve(self) -> None:
        """Until the client hangs up."""
        try:
            while data := self._received():
                if whole := self._lines.add(data):
                    self._line.ask(self, b"".join(whole))
        except LineDropped as dropped:
            _log.info("%s", dropped)
        except OSError:  # it was reset
            pass
        finally:
            self.close()

    def _received(self) -> bytes:
        while True:
            with contextlib.suppress(TimeoutError):
                data = self._peer.recv(CHUNK)
                if _QUICK is not None:
                    self._peer.setsockopt(socket.IPPROTO_TCP, _QUICK, 1)
                return data

    def send(self, data: bytes) -> None:
        """See `Client`."""
        with contextlib.suppress(OSError):
            self._peer.sendall(data)

    def gone(self) -> bool:
        """See `Client`."""
        return bool(self._hangup.poll(0))

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)
        self._peer.close()


class Port:
    """One instrument on one port."""

    def __init__(self, line: Line, number: int) -> None:
        self._line = line
        self._listener = _listening(number)
        self._open: dict[Connection, threading.Thread] = {}
        self._mutex = threading.Lock()
        self.number: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name=f"port {self.number}", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:  # closed
                return
            connection = Connection(peer, self._line)
            thread = threading.Thread(target=self._serve, args=(connection,), name="client", daemon=True)
            with self._mutex:
                self._open[connection] = thread
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._mutex:
                self._open.pop(connection, None)

    def close(self) -> None:
        """No new clients, and the present ones are hung up on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()
        self._thread.join()
        with self._mutex:
            still = dict(self._open)
        for connection in still:
            connection.close()
        for thread in still.values():
            thread.join(1.0)


class TcpServer:
    """A port for each line; `resources`: VISA resource strings by the same names. port_base 0: free ports.

    Raises UsageError where a port is taken.
    """

    def __init__(self, lines: Mapping[str, Line], port_base: int = 0) -> None:
        self._ports: dict[str, Port] = {}
        try:
            for index, (name, line) in enumerate(lines.items()):
                self._ports[name] = Port(line, port_base + index if port_base else 0)
        except UsageError:
            self.close()
            raise
        self.resources = {name: f"TCPIP::{HOST}::{port.number}::SOCKET" for name, port in self._ports.items()}

    def close(self) -> None:
        """Close all ports."""
        for port in self._ports.values():
            port.close()


def _listening(number: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, number))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise UsageError(f"port {number} on {HOST} cannot be used: {error} (--port-base)") from error
    return listener
