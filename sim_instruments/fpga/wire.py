"""The wire as the board reads and writes it: frames, commands, statuses, and what stands in a reply.

A reading of docs/fpga-wire.md of its own. Nothing is shared with the host's `neurobench.bench.frames`, so that a
mistake in one of them cannot hide in the other.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

SHORTEST = 11
REQUEST = struct.Struct("<BHI")
_REPLY, _CRC, _STATUS = struct.Struct("<BHIB"), struct.Struct("<I"), struct.Struct("<BBBHHIHIIIIQ")
_IDENTITY = struct.Struct("<BB3BBQHHIIHHHHHHHIII4d")


class Op(IntEnum):
    """Commands."""

    HELLO = 0x01
    STATUS = 0x02
    LIMITS = 0x03
    SPEED = 0x04
    REST = 0x05
    ECHO = 0x06
    UPLOAD = 0x10
    ARM = 0x11
    FIRE = 0x12
    FENCE = 0x13
    ACQUIRE = 0x20
    FETCH = 0x21


class Status(IntEnum):
    """How a request was taken."""

    OK = 0
    WRONG_SESSION = 1
    WRONG_NUMBER = 2
    TAKEN = 3
    RUNNING = 4
    BUSY = 5
    NOT_ARMED = 6
    MALFORMED = 7
    BAD_CRC = 8
    LIMIT = 9
    NO_ROOM = 10
    UNKNOWN_OP = 11
    CHIP = 12


class RequestRefusal(Exception):
    """A request that is refused: with which status, and the payload that goes with it."""

    def __init__(self, status: Status, payload: bytes = b"") -> None:
        super().__init__(status.name)
        self.status, self.payload = status, payload


class Limits(NamedTuple):
    """The registers in the order of the wire: pulse codes, read codes, ticks."""

    max_line: int = 0
    max_cell: int = 0
    max_victim: int = 0
    max_read: int = 0
    min_width: int = 0
    max_width: int = 0
    watchdog: int = 0

    def pack(self) -> bytes:
        """Bytes of the registers."""
        return LIMITS.pack(*self)


LIMITS = struct.Struct("<4H3I")


class Hardware(NamedTuple):
    """What a board is; see "Identity" in docs/fpga-wire.md."""

    flags: int
    firmware: tuple[int, int, int]
    adc_bits: int
    serial: int
    rows: int
    cols: int
    clock_hz: int
    max_baud: int
    program_bytes: int
    read_bytes: int
    samples: int
    rx_bytes: int
    max_body: int
    pulse_max: int
    read_max: int
    min_gap: int
    min_period: int
    settle: int
    pulse_step_v: float
    read_step_v: float
    adc_step_a: float
    source_ohm: float

    def pack(self) -> bytes:
        """The reply to HELLO."""
        return _IDENTITY.pack(1, self.flags, *self.firmware, *self[2:])

    def offers(self, flag: int) -> bool:
        """Whether a bit of `flags` is set."""
        return bool(self.flags & flag)


SIMULATED, FORWARD, BACKWARD, WAVEFORMS, FLOATS = 1, 2, 4, 8, 16


class StatusWords(NamedTuple):
    """The reply to STATUS."""

    state: int
    end: int
    flags: int
    fired: int
    acquired: int
    shots: int
    in_shot: int
    started: int
    done: int
    good: int
    bad: int
    uptime: int

    def pack(self) -> bytes:
        """For the wire; counters wrap."""
        return _STATUS.pack(
            *self[:5], self.shots & _U32, self.in_shot & 0xFFFF, *(n & _U32 for n in self[7:11]), self.uptime & _U64
        )


_U32, _U64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def reply(op: int, tag: int, session: int, status: int, payload: bytes = b"") -> bytes:
    """A whole reply as it goes over the line, its ending zero included."""
    body = _REPLY.pack(op | 0x80, tag, session, status) + payload
    return stuffed(body + _CRC.pack(zlib.crc32(body))) + b"\0"


def stuffed(body: bytes) -> bytes:
    """COBS: the same without zeros."""
    pieces = body.split(b"\0")
    out = b"".join([_CODES[len(piece) + 1] + piece if len(piece) < FULL else _groups(piece) for piece in pieces])
    # Where the last group is full nothing follows it: the end of the frame says so.
    return out[:-1] if pieces[-1] and len(pieces[-1]) % FULL == 0 else out


FULL = 254
_CODES = [bytes([code]) for code in range(256)]


def _groups(piece: bytes) -> bytes:
    whole = len(piece) // FULL * FULL
    groups = [b"\xff" + piece[at : at + FULL] for at in range(0, whole, FULL)]
    return b"".join(groups) + _CODES[len(piece) - whole + 1] + piece[whole:]


def unstuffed(frame: bytes) -> bytes | None:
    """What COBS made these bytes of; None where it cannot have been."""
    out, at, end = bytearray(), 0, len(frame)
    while at < end:
        code = frame[at]
        group = frame[at + 1 : at + code]
        if code == 0 or len(group) != code - 1:
            return None
        out += group
        at += code
        if code < 255 and at < end:
            out.append(0)
    return bytes(out)


class Inlet:
    """Cuts what arrives into bodies without their CRC; counts `good` and `bad` ones. `max_body` counts the CRC."""

    def __init__(self, max_body: int) -> None:
        self.good = self.bad = 0
        self._max, self._part, self._overlong = max_body, bytearray(), False

    def feed(self, data: bytes) -> list[tuple[bytes, int]]:
        """Bodies that end in `data`, each with its length on the line."""
        pieces = data.split(b"\0")
        found = []
        for piece in pieces[:-1]:
            self._add(piece)
            frame, overlong = bytes(self._part), self._overlong
            self._part.clear()
            self._overlong = False
            if frame or overlong:
                body = None if overlong else self._body(frame)
                self.good += body is not None
                self.bad += body is None
                found += [] if body is None else [(body, len(frame) + 1)]
        self._add(pieces[-1])
        return found

    def _add(self, piece: bytes) -> None:
        self._part += piece
        if len(self._part) > self._max + self._max // 254 + 2:
            self._overlong = True
            self._part.clear()

    def _body(self, frame: bytes) -> bytes | None:
        body = unstuffed(frame)
        if body is None or not SHORTEST <= len(body) <= self._max:
            return None
        return body[:-4] if _CRC.unpack(body[-4:])[0] == zlib.crc32(body[:-4]) else None
