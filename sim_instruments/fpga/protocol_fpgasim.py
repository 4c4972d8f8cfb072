"""pyserial's handler of fpgasim://NAME: a serial port of this process with a simulated board at its other end.

pyserial finds it by its name in this package, which `sim_instruments.benches.fpga` adds to its list. Time passes while
somebody reads; with a virtual clock it takes none of the computer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import serial
from serial.serialutil import PortNotOpenError, SerialBase, SerialException, to_bytes

if TYPE_CHECKING:
    from .line import SerialLine

PACKAGE = __package__
SCHEME = "fpgasim://"
LINES: dict[str, SerialLine] = {}  # what can be opened, by URL


def register(url: str, line: SerialLine) -> None:
    """From now on `serial.serial_for_url(url)` opens this line."""
    if PACKAGE not in serial.protocol_handler_packages:
        serial.protocol_handler_packages.append(PACKAGE)
    LINES[url] = line


def forget(url: str) -> None:
    """Nobody can open it any more."""
    LINES.pop(url, None)


class Serial(SerialBase):  # type: ignore[misc]  # pyserial publishes no types
    """One open port. See pyserial for its methods."""

    is_open: bool
    _line: SerialLine | None = None

    def open(self) -> None:
        """Open the port; what arrived before is gone. Raises SerialException for a URL that is no bench's."""
        if self.is_open:
            raise SerialException("the port is open already")
        line = LINES.get(self.port)
        if line is None:
            raise SerialException(f"no simulated board has the URL {self.port!r} in this process")
        self._line, self.is_open = line, True
        line.flush()
        self._reconfigure_port()

    def close(self) -> None:
        """Let go of it."""
        if self._line is not None and self.is_open:
            self._line.hang_up()
        self._line, self.is_open = None, False

    def _reconfigure_port(self) -> None:
        self._open_line.host_baud = self._baudrate

    @property
    def _open_line(self) -> SerialLine:
        line = self._line
        if line is None or LINES.get(self.port) is not line:
            raise PortNotOpenError
        return line

    @property
    def in_waiting(self) -> int:
        """Bytes that have arrived."""
        return self._open_line.waiting

    def read(self, size: int = 1) -> bytes:
        """All `size` bytes, or what has come within `timeout`."""
        return self._open_line.read(size, self._timeout)

    def write(self, data: Any) -> int:
        """Send; returns at once, as a port with a large buffer does."""
        sent = bytes(to_bytes(data))
        self._open_line.write(sent)
        return len(sent)

    def flush(self) -> None:
        """Nothing is kept on this side."""

    def reset_input_buffer(self) -> None:
        """Forget what has arrived."""
        self._open_line.flush()

    def reset_output_buffer(self) -> None:
        """What was written is on the line already."""

    def _update_break_state(self) -> None:
        """There is no break."""

    def _update_rts_state(self) -> None:
        """There are no modem lines."""

    def _update_dtr_state(self) -> None:
        """There are no modem lines."""
