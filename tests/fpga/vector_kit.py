"""What the cases of `vectors` are made of, and how one is run on a device: frames, patterns, words of the wire page.

A fourth reading of docs/fpga-wire.md, beside the driver's, the simulated board's and the gateware's: it shares no code
with them, so what they agree on here is the page. The board has 3 word lines and 5 bit lines (`BOARD`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from cobs import cobs

ROWS, COLS = 3, 5
PROGRAM_BYTES, READ_BYTES, SAMPLES, RX_BYTES, MAX_BODY = 256, 128, 64, 1024, 300
BOARD = {"rows": ROWS, "cols": COLS, "program_bytes": PROGRAM_BYTES, "read_bytes": READ_BYTES,
         "samples": SAMPLES, "rx_bytes": RX_BYTES, "max_body": MAX_BODY}  # fmt: skip

HELLO, STATUS, LIMITS, SPEED, REST, ECHO = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UPLOAD, ARM, FIRE, FENCE, ACQUIRE, FETCH = 0x10, 0x11, 0x12, 0x13, 0x20, 0x21
(OK, WRONG_SESSION, WRONG_NUMBER, TAKEN, RUNNING, BUSY, NOT_ARMED, MALFORMED, BAD_CRC, LIMIT, NO_ROOM, UNKNOWN_OP,
 CHIP) = range(13)  # fmt: skip
IDLE, ARMED, FIRING, STOPPING = range(4)
COMPLETE, RESTED, WATCHDOG, CUT = 1, 2, 3, 4
ACQUIRING, LIMITS_SET, TRIPPED = 1, 2, 4  # flags of STATUS
DONE, OVER_RANGE, STOPPED = 1, 2, 4  # flags of FETCH


# -- numbers and frames -----------------------------------------------------------------------------------------------


def u8(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}B", *values)


def u16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def i16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def framed(body: bytes) -> bytes:
    """A body without its CRC as it stands on the line."""
    coded: bytes = cobs.encode(body + u32(zlib.crc32(body)))
    return coded + b"\0"


class Came(NamedTuple):
    """A reply as it came."""

    op: int
    tag: int
    session: int
    status: int
    payload: bytes


def came(data: bytes) -> list[Came]:
    """The replies in what a board sent; anything else is an error of the board."""
    *frames, rest = data.split(b"\0")
    assert rest == b"", f"a reply without its end: {rest.hex()}"
    return [_reply(cobs.decode(frame)) for frame in frames if frame]


def _reply(body: bytes) -> Came:
    assert len(body) >= 12, f"too short for a reply: {body.hex()}"
    assert u32(zlib.crc32(body[:-4])) == body[-4:], f"wrong CRC: {body.hex()}"
    op, tag, session, status = struct.unpack("<BHIB", body[:8])
    assert op & 0x80, f"no reply: {body.hex()}"
    return Came(op & 0x7F, tag, session, status, body[8:-4])


class Identity(NamedTuple):
    """The reply to HELLO."""

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

    @classmethod
    def of(cls, payload: bytes) -> Identity:
        return cls(*struct.unpack("<6BQHHIIHHHHHHHIII4d", payload))


# -- what a case is made of -------------------------------------------------------------------------------------------

Pattern = bytes | tuple[bytes | int, ...]  # a number: so many bytes, whatever they are
Payload = bytes | Callable[[Identity], bytes]


@dataclass(frozen=True)
class Ask:
    """A request under the present session; `foreign`: under another one; `wrong`: with one bit of its CRC changed."""

    op: int
    payload: Payload = b""
    tag: int = 0
    foreign: bool = False
    wrong: bool = False


@dataclass(frozen=True)
class Raw:
    """Bytes on the line as they are."""

    data: bytes


@dataclass(frozen=True)
class Wait:
    """Ticks of the board between two requests."""

    ticks: int


@dataclass(frozen=True)
class Answer:
    """`also`: other statuses that a simulated board may give, with a payload of its own."""

    op: int
    status: int = OK
    payload: Pattern = b""
    tag: int = 0
    also: tuple[int, ...] = ()


@dataclass(frozen=True)
class Step:
    """What goes out together, and all that comes back. A FIRE's answer may stand anywhere, the others in order."""

    sent: tuple[Ask | Raw | Wait, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Case:
    """`chained`: it begins with GREET, counts nothing, and leaves no number taken: more can follow in its session."""

    name: str
    steps: tuple[Step, ...]
    chained: bool = False


class Device(Protocol):
    """A board with its line: what it takes and what it sends."""

    clock_hz: int

    def reset(self) -> None:
        """As switched on."""

    def exchange(self, parts: Sequence[bytes | int], expected: int) -> bytes:
        """Gives bytes (and lets so many ticks pass, for a number); runs until `expected` frames came and nothing more,
        or nothing happens; all that was sent."""


def tell(op: int, payload: Payload = b"", status: int = OK, reply: Pattern = b"", **more: Any) -> Step:
    """One request and its answer. `tag`, `old` (the answer's tag, where it is another one), `foreign`, `also`."""
    tag = more.get("tag", 0x0100 + op)
    ask = Ask(op, payload, tag, more.get("foreign", False))
    return Step((ask,), (Answer(op, status, reply, more.get("old", tag), more.get("also", ())),))


def silence(*sent: Ask | Raw | Wait) -> Step:
    """Nobody answers."""
    return Step(sent, ())


def together(*sent_and_answers: Ask | Raw | Wait | Answer) -> Step:
    """Several at once: what is sent, and what comes back."""
    sent = tuple(one for one in sent_and_answers if not isinstance(one, Answer))
    return Step(sent, tuple(one for one in sent_and_answers if isinstance(one, Answer)))


# -- running ----------------------------------------------------------------------------------------------------------


@dataclass
class Met:
    """What a board has told: its session and who it is, and whether it has the usual limits."""

    session: int = 0
    identity: Identity | None = None
    limited: bool = False


def run(case: Case, device: Device, met: Met | None = None) -> Met:
    """Every step on a device that was just reset. Raises AssertionError with the step that was answered otherwise.

    `met`: what the chained case before this one has found; then the device is not reset and not greeted again.
    """
    session, identity = (met.session, met.identity) if met else (0, None)
    for number, step in enumerate(case.steps):
        if met and (step is GREET or (step is LIMIT_ALL and met.limited)):
            continue
        parts = [_bytes(part, session, identity) for part in step.sent]
        found = came(device.exchange(parts, len(step.answers)))
        where = f"{case.name}, step {number}"
        for reply in found:
            if reply.op == HELLO and reply.status == OK:
                assert reply.session != 0, where
                assert session in (0, reply.session), f"{where}: HELLO changed the session"
                session, identity = reply.session, Identity.of(reply.payload)
        _compare(where, step.answers, found, session)
    return Met(session, identity, LIMIT_ALL in case.steps)


def _bytes(part: Ask | Raw | Wait, session: int, identity: Identity | None) -> bytes | int:
    if isinstance(part, Raw):
        return part.data
    if isinstance(part, Wait):
        return part.ticks
    payload = part.payload
    if not isinstance(payload, bytes):
        assert identity is not None
        payload = payload(identity)
    asked_under = (session ^ 0x00010001) if part.foreign else session
    body = u8(part.op) + u16(part.tag) + u32(asked_under) + payload
    if part.wrong:
        coded: bytes = cobs.encode(body + u32(zlib.crc32(body) ^ 0x00400000))
        return coded + b"\0"
    return framed(body)


def _compare(where: str, answers: tuple[Answer, ...], found: list[Came], session: int) -> None:
    assert len(found) == len(answers), f"{where}: {len(answers)} answers expected, came {found}"
    firing = [a for a in answers if a.op == FIRE]
    came_firing = [reply for reply in found if reply.op == FIRE]
    rest = [a for a in answers if a.op != FIRE]
    came_rest = [reply for reply in found if reply.op != FIRE]
    for reply in came_firing:
        fits = [a for a in firing if _told(a, reply) is None]
        assert fits, f"{where}: {reply}: {[_told(a, reply) for a in firing]}"
        firing.remove(fits[0])
    assert not firing, f"{where}: not answered: {firing}"
    for answer, reply in zip(rest, came_rest, strict=True):
        said = _told(answer, reply)
        assert said is None, f"{where}: {said}"
    assert all(reply.session == session for reply in found), f"{where}: {found} under session {session:#x}"


def _told(answer: Answer, reply: Came) -> str | None:
    """What is wrong with a reply."""
    if (reply.op, reply.tag) != (answer.op, answer.tag):
        return f"op {answer.op:#x} tag {answer.tag:#x} expected, came {reply}"
    if reply.status in answer.also:
        return None
    if reply.status != answer.status:
        return f"status {answer.status} expected of op {answer.op:#x}, came {reply}"
    return None if fits(answer.payload, reply.payload) else f"{answer.payload!r} expected, came {reply}"


def fits(pattern: Pattern, payload: bytes) -> bool:
    """Whether a payload is what a pattern says."""
    at = 0
    for piece in (pattern,) if isinstance(pattern, bytes) else pattern:
        size = piece if isinstance(piece, int) else len(piece)
        if not isinstance(piece, int) and payload[at : at + size] != piece:
            return False
        at += size
    return at == len(payload)


# -- words of the page ------------------------------------------------------------------------------------------------


def status(state: int = IDLE, end: int = 0, flags: int = LIMITS_SET, **told: int | None) -> Pattern:
    """STATUS: what is not told is 0; `good` and `bad` are looked at only if told, None and the uptime never."""
    pieces: list[bytes | int] = [u8(state, end, flags)]
    for name, size in (("fired", 2), ("acquired", 2), ("shots", 4), ("in_shot", 2), ("started", 4), ("done", 4)):
        pieces.append(_number(told.get(name, 0), size))
    pieces += [_number(told.get("good"), 4), _number(told.get("bad"), 4), 8]
    return tuple(pieces)


def _number(value: int | None, size: int) -> bytes | int:
    return size if value is None else value.to_bytes(size, "little")


def limits(line: int = 400, cell: int = 400, victim: int = 200, read: int = 5000, least: int = 100,
           most: int = 3_000_000, watchdog: int = 20_000_000) -> bytes:  # fmt: skip
    return u16(line, cell, victim, read) + u32(least, most, watchdog)


HALF = (400, 200, 0, 200)  # codes: a selected cell sees 0.1 V, which harms no device however long it stands


def pulses(*records: bytes, axis: int = 0, width: int = 100, gap: int = 60,
           levels: tuple[int, int, int, int] = HALF) -> bytes:  # fmt: skip
    return u8(1, axis) + u32(width, gap) + i16(*levels) + b"".join(records)


def record(mask: bytes, sign: int = 1, repeat: int = 1, first: int = 0, lines: int = 1) -> bytes:
    return u8(sign) + u16(repeat, first, lines) + mask


def waves(*samples: tuple[int, int, int, int], period: int = 480, rows: bytes = b"\x01",
          cols: bytes = b"\x02\x00") -> bytes:  # fmt: skip
    """By default the first word line on its channel A, the first bit line on its channel B."""
    return u8(2) + u32(period) + rows + cols + b"".join(i16(*one) for one in samples)


def read(kind: int, flags: int, *, width: int = 4, averages: int = 1, integration: int = 96,
         region: tuple[int, int, int, int] = (0, 1, 0, 5)) -> bytes:  # fmt: skip
    return u8(kind, flags, width) + u16(averages) + u32(integration) + u16(*region)


def cells(level: int = 2500, mask: bytes = b"", flags: int = 8, **more: Any) -> bytes:
    return read(3, flags, **more) + i16(level) + mask


def vectors(n: int, levels: bytes, flags: int = 0, **more: Any) -> bytes:
    return read(4, flags, **more) + u16(n) + levels


def fetched(number: int, first: int, ready: int, flags: int, size: int) -> Pattern:
    """A FETCH reply with so many bytes of samples."""
    return (u16(number, first, ready) + u8(flags), size)


def arm(number: int, program: bytes) -> bytes:
    return u16(number, len(program)) + u32(zlib.crc32(program))


def fire(number: int, program: bytes) -> bytes:
    return u16(number) + u32(zlib.crc32(program))


NONCE = 0x5EED1234
IDENTITY: Pattern = (b"\x01", 1 + 3 + 1 + 8, u16(ROWS, COLS), u32(48_000_000), 4,
                     u16(PROGRAM_BYTES, READ_BYTES, SAMPLES, RX_BYTES, MAX_BODY), 4 + 12 + 32)  # fmt: skip
GREET = tell(HELLO, u32(NONCE), OK, IDENTITY)
LIMIT_ALL = tell(LIMITS, limits(), OK, limits())
OPEN = (GREET, LIMIT_ALL)
ONE = record(b"\x01")  # the first cell, one potentiating pulse
PLAIN = pulses(ONE)


def load(program: bytes, number: int = 1) -> Step:
    return tell(UPLOAD, u16(number, 0) + program, OK, u16(0))


def make_ready(program: bytes, shots: int, count: int, number: int = 1) -> tuple[Step, ...]:
    """UPLOAD and ARM, sent without waiting."""
    asks = (Ask(UPLOAD, u16(number, 0) + program), Ask(ARM, arm(number, program)))
    return (together(*asks, Answer(UPLOAD, OK, u16(0)), Answer(ARM, OK, u32(shots, count))),)


def fired(program: bytes, number: int = 1, **told: int | None) -> Step:
    """FIRE of what was armed, to its complete end."""
    return tell(FIRE, fire(number, program), OK, status(IDLE, COMPLETE, fired=number, **told))


def refused(name: str, program: bytes, why: int = MALFORMED, payload: bytes = b"", registers: bytes = b"") -> Case:
    """A program that ARM does not take, and that leaves the board disarmed."""
    arming = Answer(ARM, why, payload)
    return Case(name, (GREET, _limits(registers), _loaded(program, arming, fires=True)), chained=True)


def taken(
    name: str, program: bytes, shots: int, count: int, registers: bytes = b"", also: tuple[int, ...] = ()
) -> Case:
    """A program that ARM takes."""
    arming = Answer(ARM, OK, u32(shots, count), also=also)
    return Case(name, (GREET, _limits(registers), _loaded(program, arming, fires=False)), chained=True)


def _limits(registers: bytes) -> Step:
    return tell(LIMITS, registers, OK, registers) if registers else LIMIT_ALL


def _loaded(program: bytes, arming: Answer, fires: bool) -> Step:
    """UPLOAD, ARM and perhaps a FIRE that is refused, sent without waiting."""
    asks = (Ask(UPLOAD, u16(1, 0) + program), Ask(ARM, arm(1, program)), Ask(FIRE, fire(1, program)))
    answers = (Answer(UPLOAD, OK, u16(0)), arming, Answer(FIRE, NOT_ARMED))
    return together(*asks[: 2 + fires], *answers[: 2 + fires])


def over(name: str, program: bytes, index: int, **registers: int) -> Case:
    return refused(name, program, LIMIT, u8(index), limits(**registers))


def acquired(name: str, program: bytes, why: int, payload: bytes = b"") -> Case:
    """A read program that ACQUIRE refuses, without taking its number."""
    asks = (Ask(ACQUIRE, u16(1) + program), Ask(STATUS))
    answers = (Answer(ACQUIRE, why, payload), Answer(STATUS, OK, status(acquired=0)))
    return Case(name, (*OPEN, together(*asks, *answers)), chained=True)


def reads(name: str, program: bytes, samples: int, width: int = 4, levels: int = 1) -> Case:
    """A read program, and all its samples once it is done; `levels`: how many times lines are driven for it."""
    return Case(name, (*OPEN,
        together(Ask(ACQUIRE, u16(1) + program), Wait(1900 * levels), Answer(ACQUIRE, OK, u16(samples))),
        tell(FETCH, u16(1, 0, samples), OK, fetched(1, 0, samples, DONE, samples * width)),
        tell(STATUS, b"", OK, status(acquired=1)),
    ))  # fmt: skip
