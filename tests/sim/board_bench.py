"""A simulated board on a table: requests in, replies out, in the bytes of docs/fpga-wire.md, with or without a line.

The host's own frames (`neurobench.bench.frames`) write and read them, so the two readings of the page meet here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import serial

from neurobench import registry
from neurobench.bench import frames
from neurobench.bench.config import load_bench
from neurobench.bench.frames import (
    BoardIdentity,
    BoardStatus,
    Deframer,
    LimitRegisters,
    Op,
    PulseTiming,
    ReadFrame,
    Reply,
    Request,
    Samples,
    Status,
)

HZ = 48_000_000
LIMITS = LimitRegisters(20000, 20000, 12000, 30000, 48, 10 * HZ, 60 * HZ)
KNOWN_TICKS, KNOWN_CODE = 48_000, 4000  # 1 ms, and half of the 2 V that the built-in device knows


def opened(seed: int = 7, **overrides: Any) -> Any:
    """A simulated bench; chip__rows=3 stands for chip.rows = 3."""
    said = {name.replace("__", "."): value for name, value in overrides.items()}
    return registry.load("simulations", "fpga")(load_bench("fpga-sim", said), seed)  # type: ignore[operator]


@dataclass
class Table:
    """A board without its line: every reply is here the moment it is made."""

    bench: Any
    session: int = 0
    replies: list[Reply] = field(default_factory=list)
    _tag: int = 0

    def __post_init__(self) -> None:
        deframer = Deframer()
        self.bench.board.on_send = lambda data: self.replies.extend(deframer.feed(data))

    @property
    def board(self) -> Any:
        return self.bench.board

    def wait(self, seconds: float) -> None:
        self.bench.clock.sleep(seconds)

    def send(self, op: int, payload: bytes = b"", session: int | None = None) -> int:
        """Gives the tag."""
        self._tag = (self._tag + 1) & 0xFFFF
        asked_under = self.session if session is None else session
        self.board.receive(frames.encode(Request(op, self._tag, asked_under, payload)))  # type: ignore[arg-type]
        return self._tag

    def ask(self, op: int, payload: bytes = b"", session: int | None = None) -> Reply:
        """A request and the reply with its tag."""
        tag = self.send(op, payload, session)
        (found,) = [reply for reply in self.replies if reply.tag == tag]
        return found

    def ok(self, op: int, payload: bytes = b"") -> bytes:
        reply = self.ask(op, payload)
        assert reply.status == Status.OK, reply
        return reply.payload

    def greet(self, limits: LimitRegisters | None = LIMITS) -> BoardIdentity:
        """A session, with limits."""
        reply = self.ask(Op.HELLO, b"\x12\x34\x56\x78", session=0)
        self.session = reply.session
        if limits is not None:
            self.ok(Op.LIMITS, limits.pack())
        return BoardIdentity.unpack(reply.payload)

    def status(self) -> BoardStatus:
        return BoardStatus.unpack(self.ok(Op.STATUS))

    def load(self, number: int, program: bytes) -> Reply:
        """Upload and arm; gives the reply to ARM."""
        for at in range(0, len(program), 1000):
            self.ok(Op.UPLOAD, frames.UPLOAD.pack(number, at) + program[at : at + 1000])
        return self.ask(Op.ARM, frames.ARM.pack(number, len(program), zlib.crc32(program)))

    def fire(self, number: int, program: bytes) -> int:
        """FIRE of what was armed; gives its tag."""
        return self.send(Op.FIRE, fire(number, program))

    def fired(self, number: int, program: bytes, seconds: float) -> BoardStatus:
        """Load, fire, wait; the status at its end."""
        assert self.load(number, program).status == Status.OK
        tag = self.fire(number, program)
        self.wait(seconds)
        (reply,) = [one for one in self.replies if one.tag == tag]
        return BoardStatus.unpack(reply.payload)

    def acquired(self, number: int, program: bytes, width: int, seconds: float = 1.0) -> Any:
        """Samples of a read, all of them."""
        (n,) = frames.COUNT.unpack(self.ok(Op.ACQUIRE, frames.ACQUIRE.pack(number) + program))
        self.wait(seconds)
        got = b""
        while len(got) < n * width:
            part = Samples.unpack(self.ok(Op.FETCH, frames.FETCH.pack(number, len(got) // width, n)))
            assert part.ready == n
            got += part.data
        return frames.sample_values(got, width)


def table(**overrides: Any) -> Table:
    """A bench whose board was greeted and has limits."""
    made = Table(opened(**overrides))
    made.greet()
    return made


def fire(number: int, program: bytes) -> bytes:
    return frames.FIRE.pack(number, zlib.crc32(program))


def record(mask: bytes, sign: int = 1, repeat: int = 1, first: int = 0, lines: int = 1) -> bytes:
    return bytes([sign]) + b"".join(n.to_bytes(2, "little") for n in (repeat, first, lines)) + mask


def pulses(
    *records: bytes, width: int = KNOWN_TICKS, gap: int = 480, axis: int = 0,
    levels: tuple[int, int, int, int] = (KNOWN_CODE, 0, -KNOWN_CODE, 0),
) -> bytes:  # fmt: skip
    head = bytes([1, axis]) + b"".join(n.to_bytes(4, "little") for n in (width, gap))
    return head + np.array(levels, "<i2").tobytes() + b"".join(records)


def timing(width: int = KNOWN_TICKS, code: int = KNOWN_CODE) -> PulseTiming:
    return PulseTiming(width, 480, (code, 0, -code, 0))


def waves(samples: list[tuple[int, int, int, int]], rows: list[int], cols: list[int], period: int = 480) -> bytes:
    return frames.waveform_program(period, rows, cols, np.array(samples, np.int16))


def cells(
    level: int = 2500, region: tuple[int, int, int, int] = (0, 4, 0, 4), *, width: int = 4, both: bool = False,
    averages: int = 1, integration: int = 480, mask: Any = None,
) -> bytes:  # fmt: skip
    every = np.ones((region[1], region[3]), np.bool_)
    frame = ReadFrame(width, averages, integration, region, both)
    return frames.cell_read(frame, level, every if mask is None else mask)


def vectors(
    levels: Any, region: tuple[int, int, int, int] = (0, 4, 0, 4), *, backward: bool = False, floating: bool = False,
    both: bool = False, averages: int = 1, integration: int = 480,
) -> bytes:  # fmt: skip
    frame = ReadFrame(4, averages, integration, region, both)
    return frames.vector_read(frame, np.array(levels, np.int16), backward, floating)


def port_of(bench: Any, baud: int = 115_200, timeout_s: float = 0.05) -> Any:
    """The host's end of the line, by pyserial."""
    return serial.serial_for_url(bench.url, baudrate=baud, timeout=timeout_s)


def heard(port: Any, seconds: float = 0.05) -> list[Reply]:
    """Replies that come until nothing has come for so long."""
    port.timeout = seconds
    deframer, found = Deframer(), []
    while data := port.read(1):
        found += deframer.feed(data + port.read(port.in_waiting))
    return found
