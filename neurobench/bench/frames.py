"""The wire to an FPGA board as the host writes and reads it; docs/fpga-wire.md is the definition.

    stream.write(encode(Request(Op.STATUS, tag, session)))
    for reply in deframer.feed(stream.read(n)): ...

Only layouts: who is asked, how often, and what an answer means is the driver's. Nothing here is shared with the
simulated board or the gateware: they read the same page, and the vectors of tests/fpga hold all three to it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from enum import IntEnum
from math import inf
from typing import NamedTuple, Self

import numpy as np
from cobs import cobs
from numpy.typing import NDArray

from neurobench.errors import UsageError

from .stimulus import BoolArray, Shots

PROTOCOL = 1
BASE_BAUD = 115_200
REPLY = 0x80  # added to the op of a request
SHORTEST_BODY = 11
FETCH_OVERHEAD = 19  # bytes of a FETCH reply's body that are no samples
LONGEST = 65535
LARGEST_CODE = 32767  # levels are 16 bits, signed
MOST_ADC_BITS = 32
LEAST_ROOM = 128  # bytes, so that HELLO's reply fits

Codes = NDArray[np.int16]


class Op(IntEnum):
    """What a request asks for."""

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

    OK = 0x00
    WRONG_SESSION = 0x01
    WRONG_NUMBER = 0x02
    TAKEN = 0x03
    RUNNING = 0x04
    BUSY = 0x05
    NOT_ARMED = 0x06
    MALFORMED = 0x07
    BAD_CRC = 0x08
    LIMIT = 0x09
    NO_ROOM = 0x0A
    UNKNOWN_OP = 0x0B
    CHIP = 0x0C


class State(IntEnum):
    """What the sequencer of a board does."""

    IDLE = 0
    ARMED = 1
    FIRING = 2
    STOPPING = 3


class End(IntEnum):
    """How a FIRE ended."""

    NONE = 0
    COMPLETE = 1
    RESTED = 2
    WATCHDOG = 3
    CUT = 4


class Fetch(IntEnum):
    """Bits of the flags of a FETCH reply."""

    COMPLETE = 1
    OVER_RANGE = 2
    STOPPED = 4


LIMIT_NAMES = ("max_line", "max_cell", "max_victim", "max_read", "min_width", "max_width", "watchdog")


class Request(NamedTuple):
    """What the host asks."""

    op: Op
    tag: int
    session: int
    payload: bytes = b""


class Reply(NamedTuple):
    """What the board answers: `op` of the request, its tag, the board's session, how it was taken."""

    op: int
    tag: int
    session: int
    status: int
    payload: bytes


_REQUEST, _REPLY, _CRC = struct.Struct("<BHI"), struct.Struct("<BHIB"), struct.Struct("<I")


def encode(request: Request) -> bytes:
    """The bytes of a request on the line, its end included."""
    body = _REQUEST.pack(*request[:3]) + request.payload
    coded: bytes = cobs.encode(body + _CRC.pack(zlib.crc32(body)))
    return coded + b"\0"


def decode(frame: bytes) -> Reply | None:
    """A reply from the bytes between two zeros; None for what is none."""
    try:
        body = cobs.decode(frame)
    except cobs.DecodeError:
        return None
    if len(body) < _REPLY.size + _CRC.size or zlib.crc32(body[:-4]) != _CRC.unpack(body[-4:])[0]:
        return None
    op, tag, session, status = _REPLY.unpack(body[: _REPLY.size])
    return Reply(op & ~REPLY, tag, session, status, body[_REPLY.size : -4]) if op & REPLY else None


class Deframer:
    """Finds replies in a stream of bytes; `bad` counts what was dropped, `longest` bounds what is kept of a frame."""

    def __init__(self, longest: int = 2 * LONGEST) -> None:
        self.bad = 0
        self._kept, self._longest, self._overlong = bytearray(), longest, False

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that end in `data`."""
        *ended, rest = data.split(b"\0")
        found = []
        for part in ended:
            found += self._ended(part)
        self._keep(rest)
        return found

    def _keep(self, part: bytes) -> None:
        self._kept += part
        if len(self._kept) > self._longest:
            self._overlong = True
            self._kept.clear()

    def _ended(self, part: bytes) -> list[Reply]:
        self._keep(part)
        frame, overlong = bytes(self._kept), self._overlong
        self._kept.clear()
        self._overlong = False
        if not (frame or overlong):
            return []
        reply = None if overlong else decode(frame)
        self.bad += reply is None
        return [] if reply is None else [reply]


def on_the_line(payload: int) -> int:
    """Bytes that a request with so long a payload has at most on the line."""
    body = _REQUEST.size + payload + _CRC.size
    return body + 1 + body // 254 + 1


class _Layout:
    """Packing for the named tuples below, each by its FORMAT."""

    FORMAT: struct.Struct

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """From the wire. Raises UsageError for a payload of another length."""
        if len(payload) != cls.FORMAT.size:
            raise UsageError(f"{cls.__name__}: {len(payload)} bytes, {cls.FORMAT.size} expected")
        return cls(*cls.FORMAT.unpack(payload))


class _Identity(NamedTuple):
    protocol: int
    flags: int
    major: int
    minor: int
    patch: int
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


class BoardIdentity(_Identity, _Layout):
    """Who a board is and what it has: the reply to HELLO. Times in ticks, sizes in bytes (`samples`: in samples)."""

    __slots__ = ()
    FORMAT = struct.Struct("<6BQHHIIHHHHHHHIII4d")

    def nonsense(self) -> list[str]:
        """What no board can have, as it would make wrong volts of right codes; empty if there is nothing."""
        positive = ("rows", "cols", "clock_hz", "samples", "pulse_step_v", "read_step_v", "adc_step_a")
        wrong = [name for name in positive if not 0 < getattr(self, name) < inf]
        wrong += [] if 0 <= self.source_ohm < inf else ["source_ohm"]
        wrong += [name for name in ("pulse_max", "read_max") if not 1 <= getattr(self, name) <= LARGEST_CODE]
        wrong += [] if 2 <= self.adc_bits <= MOST_ADC_BITS else ["adc_bits"]
        wrong += [name for name in ("max_body", "rx_bytes") if getattr(self, name) < LEAST_ROOM]
        return [f"{name} = {getattr(self, name)}" for name in wrong]

    @property
    def longest_payload(self) -> int:
        """Bytes of the longest payload of a request that the board can take in."""
        held = self.rx_bytes - on_the_line(0)
        return min(self.max_body - SHORTEST_BODY, held - held // 254 - 1)

    @property
    def simulated(self) -> bool:
        """Whether the board says that it is simulated."""
        return bool(self.flags & 1)

    @property
    def forward(self) -> bool:
        """Whether it multiplies from rows to columns."""
        return bool(self.flags & 2)

    @property
    def backward(self) -> bool:
        """Whether it multiplies from columns to rows."""
        return bool(self.flags & 4)

    @property
    def waveforms(self) -> bool:
        """Whether it plays waveforms."""
        return bool(self.flags & 8)

    @property
    def floats(self) -> bool:
        """Whether idle lines can float in a vector read."""
        return bool(self.flags & 16)

    @property
    def firmware(self) -> str:
        """Its version."""
        return f"{self.major}.{self.minor}.{self.patch}"


class _Limits(NamedTuple):
    max_line: int
    max_cell: int
    max_victim: int
    max_read: int
    min_width: int
    max_width: int
    watchdog: int


class LimitRegisters(_Limits, _Layout):
    """The limits that the board itself checks, in codes and ticks."""

    __slots__ = ()
    FORMAT = struct.Struct("<4H3I")

    def pack(self) -> bytes:
        """For the wire."""
        return self.FORMAT.pack(*self)


class _BoardStatus(NamedTuple):
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


class BoardStatus(_BoardStatus, _Layout):
    """What a board is doing and has done since its reset."""

    __slots__ = ()
    FORMAT = struct.Struct("<BBBHHIHIIIIQ")

    @property
    def firing(self) -> bool:
        """Whether a pulse may still be on or follow."""
        return self.state in (State.FIRING, State.STOPPING)

    @property
    def acquiring(self) -> bool:
        """Whether it converts."""
        return bool(self.flags & 1)


class Samples(NamedTuple):
    """A FETCH reply: of acquisition `number`, samples from `first` on; `ready` are there, `flags` as `Fetch`."""

    number: int
    first: int
    ready: int
    flags: int
    data: bytes

    @classmethod
    def unpack(cls, payload: bytes) -> Samples:
        """From the wire."""
        if len(payload) < _FETCHED.size:
            raise UsageError(f"a FETCH reply of {len(payload)} bytes")
        number, first, ready, flags = _FETCHED.unpack(payload[: _FETCHED.size])
        return cls(number, first, ready, flags, payload[_FETCHED.size :])


_FETCHED = struct.Struct("<HHHB")
HELLO, SPEED, COUNT = struct.Struct("<I"), struct.Struct("<I"), struct.Struct("<H")
UPLOAD, ARM, FIRE, FENCE = struct.Struct("<HH"), struct.Struct("<HHI"), struct.Struct("<HI"), struct.Struct("<H")
ARMED, ACQUIRE, FETCH = struct.Struct("<II"), struct.Struct("<H"), struct.Struct("<HHH")
_PULSES, _RECORD, _WAVES = struct.Struct("<BBII4h"), struct.Struct("<BHHH"), struct.Struct("<BI")
_READ, _CELLS = struct.Struct("<BBBHI4H"), struct.Struct("<h")


def sample_values(data: bytes, width: int) -> NDArray[np.int64]:
    """Signed little-endian integers of `width` bytes."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, width).astype(np.int64)
    values: NDArray[np.int64] = raw @ (1 << (8 * np.arange(width, dtype=np.int64)))
    top = 1 << (8 * width - 1)
    return (values ^ top) - top


# -- programs ---------------------------------------------------------------------------------------------------------


class PulseTiming(NamedTuple):
    """Ticks on, ticks off, and the levels of a potentiating pulse in codes, as the program holds them."""

    width: int
    gap: int
    levels: tuple[int, int, int, int]


def pulse_programs(shots: Shots, timing: PulseTiming, room: int) -> list[tuple[int, bytes]]:
    """Shots as programs of at most `room` bytes, in order: for each how many shots it has, and its bytes.

    Consecutive lines with one sign and one repeat share a record. Raises UsageError if one shot does not fit.
    """
    head = _PULSES.pack(1, shots.axis, timing.width, timing.gap, *timing.levels)
    across = shots.shape[1 - shots.axis]
    if len(head) + _RECORD.size + (across + 7) // 8 > room:
        raise UsageError(f"one shot across {across} lines does not fit into a program memory of {room} bytes")
    found: list[tuple[int, bytes]] = []
    parts, size, n = [head], len(head), 0
    for first, last in _runs(shots):
        while first < last:
            fits = _lines_that_fit(shots, first, last, across, room - size)
            if not fits:
                found.append((n, b"".join(parts)))
                parts, size, n = [head], len(head), 0
                continue
            record = _record(shots, first, fits, across)
            parts.append(record)
            size, n, first = size + len(record), n + fits - first, fits
    return [*found, (n, b"".join(parts))] if n or not found else found


def _runs(shots: Shots) -> list[tuple[int, int]]:
    """Stretches of shots that one record can hold: rising lines, one sign, one repeat."""
    if not len(shots):
        return []
    on = np.diff(shots.line)
    across = shots.shape[1 - shots.axis]
    cheap = (on - 1) * across <= 8 * _RECORD.size  # empty lines between, for less than another record
    goes_on = (on > 0) & cheap & (np.diff(shots.sign) == 0) & (np.diff(shots.repeat) == 0)
    ends = [*(np.flatnonzero(~goes_on) + 1).tolist(), len(shots)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _lines_that_fit(shots: Shots, first: int, last: int, across: int, room: int) -> int:
    """Up to which shot a record of `room` bytes reaches; 0: not even one."""
    lines = 8 * (room - _RECORD.size) // across if room > _RECORD.size else 0
    if lines < 1:
        return 0
    most = int(shots.line[first]) + min(lines, LONGEST)
    return first + int(np.searchsorted(shots.line[first:last], most))


def _record(shots: Shots, first: int, last: int, across: int) -> bytes:
    line0, lines = int(shots.line[first]), int(shots.line[last - 1] - shots.line[first]) + 1
    bits = np.zeros((lines, across), np.bool_)
    entries = slice(shots.indptr[first], shots.indptr[last])
    which = np.repeat(shots.line[first:last] - line0, np.diff(shots.indptr[first : last + 1]))
    bits[which, shots.cross[entries]] = True
    sign = 1 if shots.sign[first] > 0 else 2
    return _RECORD.pack(sign, int(shots.repeat[first]), line0, lines) + packed(bits)


def packed(bits: BoolArray) -> bytes:
    """Bits, least significant first, the last byte filled with zeros."""
    return np.packbits(bits.ravel(), bitorder="little").tobytes()


def waveform_program(period: int, rows: Sequence[int], cols: Sequence[int], samples: Codes) -> bytes:
    """Channels of every line (0 grounded, 1 A, 2 B) and samples[n, 4] of row A, row B, column A, column B."""
    head = _WAVES.pack(2, period) + _channels(rows) + _channels(cols)
    return head + np.ascontiguousarray(samples, "<i2").tobytes()


def _channels(lines: Sequence[int]) -> bytes:
    two = np.array(lines, np.uint8)
    return packed(np.stack([two & 1, two >> 1], axis=1).astype(np.bool_))


class ReadFrame(NamedTuple):
    """What cell and vector reads have in common; `region` is row0, rows, col0, cols."""

    width: int
    averages: int
    integration: int
    region: tuple[int, int, int, int]
    both: bool = False


def cell_read(frame: ReadFrame, level: int, mask: BoolArray) -> bytes:
    """Read program of cells; `mask` has the shape of the region."""
    every = bool(mask.all())
    flags = frame.both | (8 if every else 0)
    head = _READ.pack(3, flags, frame.width, frame.averages, frame.integration, *frame.region)
    return head + _CELLS.pack(level) + (b"" if every else packed(mask))


def vector_read(frame: ReadFrame, levels: Codes, backward: bool, floating: bool) -> bytes:
    """Read program of products; levels[n, inputs] in read codes."""
    flags = frame.both | 2 * backward | 4 * floating
    head = _READ.pack(4, flags, frame.width, frame.averages, frame.integration, *frame.region)
    return head + COUNT.pack(len(levels)) + np.ascontiguousarray(levels, "<i2").tobytes()
