"""The board: takes bytes, executes requests, answers. One function per command of docs/fpga-wire.md.

    board = Board(time, hardware, array, acquirer)
    board.on_send = line.take               every reply, the moment it is made
    board.receive(data)                     bytes that have arrived

Executing a request takes no time. Whoever calls holds the lock of the board's time.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .program import Program, check, check_read, parse, parse_read
from .sequencer import Sequencer
from .speed import Speed
from .wire import LIMITS, REQUEST, Hardware, Inlet, Limits, Op, RequestRefusal, Status, StatusWords, reply

if TYPE_CHECKING:
    from neurobench.physics.chip import Chip

    from ..world.clock import Handle
    from ..world.world import Damage, Exposure
    from .acquirer import Acquirer
    from .array import Array
    from .ticks import BoardTime

FETCH_OVERHEAD = 19
MOST_ECHO = 512
MOST_WORDS = 160  # bytes of the words of CHIP
IDLE, ARMED, FIRING, STOPPING = range(4)

_U16, _U32 = struct.Struct("<H"), struct.Struct("<I")
_UPLOAD, _ARM, _FIRE, _FETCH = struct.Struct("<HH"), struct.Struct("<HHI"), struct.Struct("<HI"), struct.Struct("<HHH")
_COUNTED, _FETCHED = struct.Struct("<II"), struct.Struct("<HHHB")


class Request(NamedTuple):
    """What is asked."""

    op: Op
    tag: int
    payload: bytes


class Armed(NamedTuple):
    """A program that may be fired under this CRC."""

    program: Program
    crc: int


@dataclass
class Once:
    """The last once-command of a session: its number, which it was, and the reply that is kept (b"": it still runs)."""

    number: int = 0
    op: Op | None = None
    kept: bytes = b""

    @property
    def next(self) -> int:
        """The number that comes next."""
        return (self.number + 1) & 0xFFFF


class Board:
    """One board. `chip`, `damage`, `ledger`, `pulses_fired` are for tests: no board can tell them."""

    def __init__(self, time: BoardTime, hardware: Hardware, array: Array, acquirer: Acquirer) -> None:
        self._time, self._hardware, self._array, self._acquirer = time, hardware, array, acquirer
        self._sequencer = Sequencer(time, array, self._deadline, hardware.min_gap)
        self.on_send: Callable[[bytes], None] = lambda _data: None
        self.on_reset: Callable[[], None] = lambda: None
        self._line_speed, self.boots = Speed(time, hardware), 0
        self._memory = bytearray(hardware.program_bytes)
        self._watch: Handle | None = None
        self._forget()

    def _forget(self) -> None:
        """As after a reset."""
        self._inlet = Inlet(self._hardware.max_body)
        self._session, self._limits, self._limits_set = 0, Limits(), False
        self._once, self._acquired, self._acquired_any, self._acquired_samples = Once(), 0, False, 0
        self._armed: Armed | None = None
        self._tripped, self._heard_tick = False, 0
        self._memory[:] = bytes(len(self._memory))

    # -- for tests and for the line --------------------------------------------------------------------------------

    @property
    def chip(self) -> Chip:
        """The emulated chip, up to date."""
        self._array.age(self._time.now_s())
        return self._array.chip

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Cells destroyed so far."""
        return tuple(self._array.damage)

    @property
    def ledger(self) -> tuple[Exposure, ...]:
        """The last exposures beyond a reading level, oldest first."""
        return tuple(self._array.ledger)

    @property
    def unknown_stress(self) -> int:
        """How often a cell saw more than a reading level outside what its model knows, and nothing was done."""
        return self._array.unknown

    @property
    def lines_grounded(self) -> bool:
        """Whether the gate is off now."""
        return not (self._sequencer.on or self._acquirer.acquiring)

    @property
    def firing(self) -> bool:
        """Whether a program is being executed."""
        return self._sequencer.firing

    @property
    def baud(self) -> int:
        """Speed of the board's end of the line."""
        return self._line_speed.baud

    @property
    def watchdog_s(self) -> float:
        """The watchdog's register, in seconds."""
        return self._limits.watchdog / self._hardware.clock_hz

    def pulses_fired(self) -> int:
        """Pulses on all cells over the chip's life."""
        return int(self._array.chip.pulses.sum())

    def now_s(self) -> float:
        """Time of the bench in seconds."""
        return self._time.now_s()

    def reboot(self) -> None:
        """Reset, now: a pulse that is on is cut off, all lines are grounded, everything is forgotten."""
        with self._time.lock:
            self.on_reset()
            self._sequencer.reset()
            self._acquirer.reset()
            self._call_off_watch()
            self._time.reset()
            self._line_speed.reset()
            self.boots += 1
            self._forget()

    def _call_off_watch(self) -> None:
        if self._watch is not None:
            self._time.cancel(self._watch)
        self._watch = None

    def rest(self) -> None:
        """Stop whatever goes on, as the command does; for the end of a bench."""
        self._armed = None
        self._acquirer.stop()
        self._sequencer.rest()

    # -- requests --------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes have arrived."""
        with self._time.lock:
            for body, _ in self._inlet.feed(data):
                self._line_speed.heard()
                self._take(body)

    def _take(self, body: bytes) -> None:
        code, tag, session = REQUEST.unpack_from(body)
        payload = body[REQUEST.size :]
        own = session == self._session != 0
        if own:
            self._heard_tick = self._time.ticks
        try:
            answer = self._executed(code, tag, own, payload)
        except RequestRefusal as refused:
            self._send(reply(code, tag, self._session, refused.status, refused.payload))
        else:
            if answer is not None:
                self._send(reply(code, tag, self._session, Status.OK, answer))
        if own:
            self._sequencer.heard()

    def _executed(self, code: int, tag: int, own: bool, payload: bytes) -> bytes | None:
        """The payload of an OK; None where the command has answered by itself, or will."""
        command = COMMANDS.get(code)
        if command is None:
            raise RequestRefusal(Status.UNKNOWN_OP)
        if not own and code not in (Op.HELLO, Op.SPEED):
            raise RequestRefusal(Status.WRONG_SESSION)
        if not command.least <= len(payload) <= command.most or (code == Op.LIMITS and 0 < len(payload) < LIMITS.size):
            raise RequestRefusal(Status.MALFORMED)
        return command.do(self, Request(Op(code), tag, payload))

    def _send(self, data: bytes) -> None:
        self._line_speed.sent(len(data))
        self.on_send(data)

    # -- session, limits, speed ------------------------------------------------------------------------------------

    def _hello(self, request: Request) -> bytes:
        if not self._session:
            (nonce,) = _U32.unpack(request.payload)
            self._session = nonce ^ (self._time.ticks & 0xFFFFFFFF) or 1
            self._heard_tick = self._time.ticks
        return self._hardware.pack()

    def _words(self) -> StatusWords:
        sequencer, counts = self._sequencer, self._sequencer.counts
        state = ARMED if self._armed else IDLE
        if sequencer.firing:
            state = STOPPING if sequencer.stopping else FIRING
        flags = self._acquirer.acquiring | 2 * self._limits_set | 4 * self._tripped
        return StatusWords(
            state, sequencer.end, flags, self._once.number, self._acquired, counts.shots, counts.in_shot,
            counts.started, counts.done, self._inlet.good, self._inlet.bad, self._time.ticks,
        )  # fmt: skip

    def _status(self, request: Request) -> bytes:
        del request
        return self._words().pack()

    def _limit(self, request: Request) -> bytes:
        if request.payload:
            self._idle_only()
            self._limits, self._limits_set = Limits(*LIMITS.unpack(request.payload)), True
            self._armed = None
            self._call_off_watch()  # by the old register
        return self._limits.pack()

    def _rest(self, request: Request) -> bytes:
        """A FIRE that it stops at once is answered before it."""
        self.rest()
        return self._status(request)

    def _echo(self, request: Request) -> bytes:
        return request.payload

    def _speed(self, request: Request) -> bytes:
        (wanted,) = _U32.unpack(request.payload)
        return _U32.pack(self._line_speed.agree(wanted))

    # -- programs --------------------------------------------------------------------------------------------------

    def _upload(self, request: Request) -> bytes:
        number, offset = _UPLOAD.unpack_from(request.payload)
        data = request.payload[_UPLOAD.size :]
        self._check_next(number)
        if self._sequencer.firing or (self._armed and offset):
            raise RequestRefusal(Status.BUSY)
        if offset + len(data) > len(self._memory):
            raise RequestRefusal(Status.NO_ROOM)
        self._armed = None
        self._memory[offset : offset + len(data)] = data
        return _U16.pack(offset)

    def _arm(self, request: Request) -> bytes:
        number, length, crc = _ARM.unpack(request.payload)
        self._check_next(number)
        if self._sequencer.firing:
            raise RequestRefusal(Status.BUSY)
        self._armed = None
        program = self._checked(length, crc)
        self._armed = Armed(program, crc)
        return _COUNTED.pack(*(min(n, 0xFFFFFFFF) for n in program.counted))

    def _checked(self, length: int, crc: int) -> Program:
        if length > len(self._memory):
            raise RequestRefusal(Status.NO_ROOM)
        data = bytes(self._memory[:length])
        if zlib.crc32(data) != crc:
            raise RequestRefusal(Status.BAD_CRC)
        program = parse(data, self._hardware)
        check(program, self._limits, self._hardware)
        if words := self._array.refusal(program):
            raise RequestRefusal(Status.CHIP, words.encode()[:MOST_WORDS].decode("utf-8", "ignore").encode())
        return program

    def _check_next(self, number: int) -> None:
        if number != self._once.next:
            raise RequestRefusal(Status.WRONG_NUMBER)

    def _fire(self, request: Request) -> bytes | None:
        number, crc = _FIRE.unpack(request.payload)
        if self._answered(request.op, number):
            return None
        self._idle_only()
        armed = self._armed
        if armed is None or armed.crc != crc:
            raise RequestRefusal(Status.NOT_ARMED)
        self._take_number(request.op, number)
        tag = request.tag
        self._sequencer.fire(armed.program, lambda: self._fired(tag))
        self._look_out()
        return None

    def _fired(self, tag: int) -> None:
        self._keep(reply(Op.FIRE, tag, self._session, Status.OK, self._words().pack()))

    def _fence(self, request: Request) -> bytes | None:
        (number,) = _U16.unpack(request.payload)
        if self._answered(request.op, number):
            return None
        self._idle_only()
        self._take_number(request.op, number)
        self._keep(reply(request.op, request.tag, self._session, Status.OK, self._words().pack()))
        return None

    def _answered(self, op: Op, number: int) -> bool:
        """Whether this once-command was had before, and was answered again. Raises the refusals of its number."""
        once = self._once
        if number == once.next:
            return False
        if number != once.number or once.op is None:
            raise RequestRefusal(Status.WRONG_NUMBER)
        if op != once.op:
            raise RequestRefusal(Status.TAKEN, self._words().pack())
        if not once.kept:
            raise RequestRefusal(Status.RUNNING)
        self._send(once.kept)
        return True

    def _take_number(self, op: Op, number: int) -> None:
        """Before the first volt."""
        self._once.number, self._once.op, self._once.kept = number, op, b""
        self._armed = None

    def _keep(self, data: bytes) -> None:
        self._once.kept = data
        self._send(data)

    def _idle_only(self) -> None:
        if self._sequencer.firing or self._acquirer.acquiring:
            raise RequestRefusal(Status.BUSY)

    # -- reads -----------------------------------------------------------------------------------------------------

    def _acquire(self, request: Request) -> bytes:
        (number,) = _U16.unpack_from(request.payload)
        ahead = (number - self._acquired) & 0xFFFF
        if ahead > 0x7FFF or (not ahead and not self._acquired_any):
            raise RequestRefusal(Status.WRONG_NUMBER)
        if not ahead:
            return _U16.pack(self._acquired_samples)
        if self._sequencer.firing:
            raise RequestRefusal(Status.BUSY)
        data = request.payload[_U16.size :]
        read = parse_read(data, self._hardware)
        check_read(read, len(data), self._limits, self._hardware)
        if not self._limits_set:
            raise RequestRefusal(Status.LIMIT, b"\x03")
        self._acquired, self._acquired_any, self._acquired_samples = number, True, read.samples
        self._acquirer.begin(read)
        self._look_out()
        return _U16.pack(read.samples)

    def _fetch(self, request: Request) -> bytes:
        number, first, count = _FETCH.unpack(request.payload)
        if number != self._acquired or not self._acquired_any:
            raise RequestRefusal(Status.WRONG_NUMBER)
        ready, flags, data = self._acquirer.fetch(first, count, self._hardware.max_body - FETCH_OVERHEAD)
        return _FETCHED.pack(number, first, ready, flags) + data

    # -- silence ---------------------------------------------------------------------------------------------------

    def _deadline(self) -> int:
        return self._heard_tick + self._limits.watchdog

    def _look_out(self) -> None:
        """Be there when the host has been silent for too long; looked for only while something goes on."""
        if self._watch is None and (self._sequencer.firing or self._acquirer.acquiring):
            self._watch = self._time.at_tick(self._deadline(), self._watched)

    def _watched(self) -> None:
        self._watch = None
        if self._time.ticks < self._deadline():
            self._look_out()
        elif self._sequencer.firing or self._acquirer.acquiring:
            self._tripped = True
            self._acquirer.stop()
            self._sequencer.silence()


class Command(NamedTuple):
    """How long the payload of a command is at least and at most, and what is done."""

    least: int
    most: int
    do: Callable[[Board, Request], bytes | None]


LONG = 65535
COMMANDS: dict[int, Command] = {
    Op.HELLO: Command(4, 4, Board._hello),
    Op.STATUS: Command(0, 0, Board._status),
    Op.LIMITS: Command(0, LIMITS.size, Board._limit),
    Op.SPEED: Command(4, 4, Board._speed),
    Op.REST: Command(0, 0, Board._rest),
    Op.ECHO: Command(0, MOST_ECHO, Board._echo),
    Op.UPLOAD: Command(_UPLOAD.size + 1, LONG, Board._upload),
    Op.ARM: Command(_ARM.size, _ARM.size, Board._arm),
    Op.FIRE: Command(_FIRE.size, _FIRE.size, Board._fire),
    Op.FENCE: Command(_U16.size, _U16.size, Board._fence),
    Op.ACQUIRE: Command(_U16.size, LONG, Board._acquire),
    Op.FETCH: Command(_FETCH.size, _FETCH.size, Board._fetch),
}
