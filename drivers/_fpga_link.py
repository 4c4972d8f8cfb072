"""One FPGA board on one serial line: requests out, replies in, whatever the line does to them.

Every request but FIRE may be repeated until it is answered, because it changes nothing twice (docs/fpga-wire.md). Any
thread may ask at any time; whoever waits reads for all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from neurobench.bench import frames
from neurobench.bench.frames import BASE_BAUD, BoardIdentity, BoardStatus, Deframer, Op, Reply, Request, Status
from neurobench.errors import InstrumentError, LinkLost, UsageError

if TYPE_CHECKING:
    from neurobench.bench.board import Board
    from neurobench.bench.crossbar import Hearer

    from .instruments._roles import Clock

T = TypeVar("T")
Gate = Callable[[], AbstractContextManager[Any]]  # held while a request goes out; raises where it must not

SLICE_S = 0.02  # no call into the port blocks longer
STALE_S = 1.5  # after such a silence the board may be about to go back to its base speed (2 s)
MOST_AT_ONCE = 16  # requests that wait for their replies
PORT_BYTES = 4096  # what a computer's port takes at once; a call that writes more would wait for the line
SPEED_TRIES = 3
NEAR = 0.03  # how far the agreed speed may be from the wanted one
NOT_FOUND_S = 3.0  # how long a board that does not answer is looked for when the bench is opened
STUCK_S = 1.5  # how long another thread may be in the port, by the computer's clock, before it counts as stuck there
MOST_SHOWN = 32  # bytes of a payload in a log
BITS = 10  # of a byte on the line


class Port(Protocol):
    """A serial port as pyserial has it."""

    timeout: float | None
    baudrate: int

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once."""

    def write(self, data: bytes) -> int | None:
        """Send."""

    def read(self, size: int = 1) -> bytes:
        """Wait for `size` bytes, at most `timeout`."""

    def close(self) -> None:
        """Let go of it."""


class BoardRestarted(LinkLost):
    """The board has another session than before: it lost its limits, its program and its counters."""


class PortLost(LinkLost):
    """The port is gone, or was let go of; `connect` opens it anew."""


class Asked(NamedTuple):
    """A request to be answered: what, and how many bytes its reply will have on the line."""

    op: Op
    payload: bytes = b""
    reply_bytes: int = 64


@dataclass
class LinkCounts:
    """What the link has carried, for `check` and the record."""

    sent: int = 0
    repeated: int = 0
    reconnected: int = 0
    asked: int = 0
    round_trip_s: float = 0.0  # of all that were answered at once, together
    answered_at_once: int = 0

    @property
    def mean_round_trip_s(self) -> float:
        """Mean time from a request to its reply, of those that were not repeated."""
        return self.round_trip_s / self.answered_at_once if self.answered_at_once else float("nan")


class Link:
    """See the module. `open_port` opens the port anew; nothing is sent before `connect`."""

    def __init__(self, open_port: Callable[[], Port], clock: Clock, settings: Board, name: str = "the board") -> None:
        self.clock, self.settings, self.name = clock, settings, name
        self.counts = LinkCounts()
        self.hear: Hearer | None = None
        self.session = 0
        self.identity: BoardIdentity | None = None
        self._open_port = open_port
        self._port: Port | None = None
        self._deframer = Deframer()
        self._inbox: dict[int, Reply] = {}
        self._waited: dict[int, int] = {}  # tags that somebody waits for, and the op that was asked under them
        self._numbers = itertools.count(int.from_bytes(os.urandom(2), "little"))
        self._heard_s = -1e9
        self._want_baud = BASE_BAUD
        self._closed = False
        # Reentrant: a signal's handler may bring the bench to rest in the middle of anything.
        self._writing, self._reading = threading.RLock(), threading.RLock()

    # -- the line ------------------------------------------------------------------------------------------------

    @property
    def baud(self) -> int:
        """Speed in use."""
        return BASE_BAUD if self._port is None else self._port.baudrate

    @property
    def bad(self) -> int:
        """Frames that came here and could not be read."""
        return self._deframer.bad

    def line_s(self, n: int) -> float:
        """Time that n bytes take on the line."""
        return n * BITS / self.baud

    def new_tag(self, op: int) -> int:
        """A number that no request of the last while had; a reply to another op is none to this one."""
        tag = next(self._numbers) & 0xFFFF
        self._waited[tag] = op
        return tag

    def forget(self, tag: int) -> None:
        """Nobody waits for it any more."""
        self._waited.pop(tag, None)
        self._inbox.pop(tag, None)

    def send(self, request: Request) -> None:
        """Put a request on the line. Raises LinkLost if the port is gone."""
        urgent = b"\0" if request.op in (Op.REST, Op.HELLO) else b""  # ends whatever stands half sent before it
        with self._turn(urgent=request.op == Op.REST):
            self.counts.sent += 1
            if self.hear is not None:
                self.hear("board", ">", said(request))
            self._try(lambda port: port.write(urgent + frames.encode(request)))

    @contextlib.contextmanager
    def _turn(self, *, urgent: bool = False) -> Iterator[None]:
        """One writes at a time. What is urgent does not wait for long: it goes into what another thread hangs in."""
        held = self._writing.acquire(timeout=SLICE_S if urgent else STUCK_S)
        if not (held or urgent):
            raise LinkLost(f"{self.name}: another thread hangs in its port")
        try:
            yield
        finally:
            if held:
                self._writing.release()

    def wait(self, tag: int, seconds: float) -> Reply | None:
        """The reply of that tag, or None if it has not come in time."""
        end_s = self.clock.now_s() + seconds
        while True:
            if (found := self._inbox.pop(tag, None)) is not None:
                return found
            now_s = self.clock.now_s()
            left_s = end_s - now_s
            if left_s <= 0:
                return None
            if self._reading.acquire(timeout=min(left_s, SLICE_S)):
                try:
                    if tag not in self._inbox:
                        self._pull()
                finally:
                    self._reading.release()
            elif self.clock.now_s() == now_s:
                self.clock.sleep(min(left_s, SLICE_S))  # whoever reads hangs, and simulated time with it

    def _pull(self) -> None:
        """Read what is there, waiting a little for the first byte, and put the replies in order."""
        data = self._try(_read_some)
        for reply in self._deframer.feed(data):
            self._heard_s = self.clock.now_s()
            if self.hear is not None:
                self.hear("board", "<", answered(reply))
            if self._waited.get(reply.tag) == reply.op:
                self._inbox[reply.tag] = reply

    def _try(self, do: Callable[[Port], T]) -> T:
        port = self._port
        if port is None:
            raise PortLost(f"{self.name}: its port is not open")
        try:
            return do(port)
        except Exception as error:  # a port that goes away, or is closed by another thread, raises whatever it likes
            self._drop_port(port)
            self._lost(str(error))
            raise PortLost(f"{self.name}: {error}") from error

    def _lost(self, why: str) -> None:
        if self.hear is not None:
            self.hear("board", "!", f"lost: {why}")

    def _open(self) -> None:
        """Only to meet the board: whoever asks at the speed of a new port is not heard."""
        if self._closed:
            raise LinkLost(f"{self.name} was let go of")
        if self._port is None:
            try:
                port = self._open_port()
                # Once and for all: setting it anew would make pyserial set an unusual baud rate anew, too.
                port.timeout = min(SLICE_S, self.settings.watchdog_s / 8)
            except (OSError, UsageError) as error:  # pyserial's errors are OSErrors
                raise PortLost(f"{self.name}: {error}") from error
            self._port = port

    def _drop_port(self, which: Port | None) -> None:
        """Let go of a port that failed; another thread may have opened the next one already."""
        if self._port is which:
            self._port = None
        if which is not None:
            with contextlib.suppress(Exception):  # it may be gone, and then it is closed
                which.close()

    def close(self) -> None:
        """Let go of the port, for good: it belongs to whoever opens it next."""
        self._closed = True
        with self._turn(urgent=True):
            self._drop_port(self._port)

    # -- requests ------------------------------------------------------------------------------------------------

    def ask(self, op: Op, payload: bytes = b"", gate: Gate = contextlib.nullcontext) -> Reply:
        """One request, repeated until it is answered, each time through `gate`. Raises LinkLost, BoardRestarted."""
        return self.ask_all([Asked(op, payload)], gate)[0]

    def expect(self, op: Op, payload: bytes = b"") -> bytes:
        """The payload of a reply that says OK. Raises InstrumentError for any other status."""
        reply = self.ask(op, payload)
        if reply.status != Status.OK:
            raise InstrumentError(f"{self.name} answers {words(reply)} to {op.name}")
        return reply.payload

    def status(self) -> BoardStatus:
        """What the board is doing."""
        return self.read_as(BoardStatus.unpack, self.expect(Op.STATUS))

    def read_as(self, unpack: Callable[[bytes], T], payload: bytes) -> T:
        """What a payload says. Raises InstrumentError if it is not laid out so."""
        try:
            return unpack(payload)
        except (UsageError, struct.error) as error:
            raise InstrumentError(f"{self.name}: {error}") from error

    def ask_all(self, asked: Sequence[Asked], gate: Gate = contextlib.nullcontext) -> list[Reply]:
        """Replies to requests that are sent without waiting for each other, in the order in which they were asked.

        As many are under way as the board keeps; a missing reply is asked for again. Raises LinkLost, BoardRestarted.
        """
        self.wake()
        with self._tags([one.op for one in asked]) as tags:
            replies: dict[int, Reply] = {}
            for attempt in range(1 + self.settings.retries):
                for n in [n for n in range(len(asked)) if n not in replies and tags[n] in self._inbox]:
                    self._take(replies, n, self._inbox.pop(tags[n]))  # it came late
                left = [n for n in range(len(asked)) if n not in replies]
                if not left:
                    break
                self.counts.repeated += len(left) if attempt else 0
                self._exchange_anew(asked, tags, left, replies, gate, attempt)
            if len(replies) < len(asked):
                op = next(asked[n].op for n in range(len(asked)) if n not in replies)
                self._drop_port(self._port)
                self._lost(f"no answer to {op.name}")
                raise LinkLost(f"{self.name} does not answer {op.name}, asked {1 + self.settings.retries} times")
        self.counts.asked += len(asked)
        return [replies[n] for n in range(len(asked))]

    @contextlib.contextmanager
    def _tags(self, ops: Sequence[int]) -> Iterator[list[int]]:
        tags = [self.new_tag(op) for op in ops]
        try:
            yield tags
        finally:
            for tag in tags:
                self.forget(tag)

    def _exchange_anew(
        self, asked: Sequence[Asked], tags: list[int], left: list[int], replies: dict[int, Reply], gate: Gate,
        attempt: int,
    ) -> None:  # fmt: skip
        """Exchange; if the port goes away meanwhile, meet the board again at once, or say that it is gone."""
        try:
            self._exchange(asked, tags, left, replies, gate, first=not attempt)
        except PortLost:
            if attempt == self.settings.retries:
                raise
            self.wake()

    def _exchange(
        self, asked: Sequence[Asked], tags: list[int], left: list[int], replies: dict[int, Reply], gate: Gate,
        *, first: bool,
    ) -> None:  # fmt: skip
        """Send those that are left, in order and within the board's memory, and gather replies until none comes."""
        room = min(self.identity.rx_bytes, PORT_BYTES) if self.identity else 256
        waiting: dict[int, tuple[int, float]] = {}
        queue = list(left)
        while queue or waiting:
            under_way = sum(size for size, _ in waiting.values())
            while queue and len(waiting) < MOST_AT_ONCE:
                n, size = queue[0], frames.on_the_line(len(asked[queue[0]].payload))
                if waiting and under_way + size > room:
                    break
                with gate():
                    self.send(Request(asked[n].op, tags[n], self.session, asked[n].payload))
                waiting[n], under_way = (size, self.clock.now_s()), under_way + size
                queue.pop(0)
            n = next(iter(waiting))
            expected = sum(asked[m].reply_bytes for m in waiting) + under_way
            reply = self.wait(tags[n], self.settings.timeout_s + self.line_s(expected))
            if reply is None:
                return  # it and what follows it are asked for again: the order counts
            sent_s = waiting.pop(n)[1]
            self._take(replies, n, reply)
            if first and len(asked) == 1:
                self.counts.round_trip_s += self.clock.now_s() - sent_s
                self.counts.answered_at_once += 1

    def _take(self, replies: dict[int, Reply], n: int, reply: Reply) -> None:
        if reply.status == Status.WRONG_SESSION:
            raise self.restarted()
        replies[n] = reply

    def restarted(self) -> BoardRestarted:
        """What to raise where the board has another session; it is met again with the next request."""
        self.session = 0
        return BoardRestarted(f"{self.name} has restarted: what it had counted is lost")

    # -- sessions and speed --------------------------------------------------------------------------------------

    def connect(self) -> BoardIdentity:
        """Find the board, whatever speed it is at, and agree on the speed of the bench file. Changes no counter.

        Raises LinkLost if nobody answers, InstrumentError for a board of another version or serial number.
        """
        end_s = self.clock.now_s() + NOT_FOUND_S
        while True:
            for baud in dict.fromkeys((self._want_baud, BASE_BAUD, self.settings.baud)):
                reply = self._hello(baud)
                if reply is not None:
                    self._met(reply)
                    self._speed_up()
                    return self.known
            if self.clock.now_s() > end_s:
                heard = f", but {self.bad} frames that are none of a board's have come" if self.bad else ""
                raise LinkLost(f"{self.name}: no board answers there ([board] url){heard}")

    @property
    def known(self) -> BoardIdentity:
        """Who the board is; LinkLost before it was met."""
        if self.identity is None:
            raise LinkLost(f"{self.name} was not met yet")
        return self.identity

    def _hello(self, baud: int) -> Reply | None:
        """Ask at one speed, twice: a first frame may end in what is left of another one."""
        self._set_baud(baud)
        for _ in range(2):
            with self._tags([Op.HELLO]) as tags:
                nonce = frames.HELLO.pack(int.from_bytes(os.urandom(4), "little"))
                self.send(Request(Op.HELLO, tags[0], 0, nonce))
                reply = self.wait(tags[0], self.settings.timeout_s + self.line_s(200))
                if reply is not None and reply.status == Status.OK:
                    return reply
        return None

    def _set_baud(self, baud: int) -> None:
        def at(port: Port) -> None:
            if port.baudrate != baud:
                port.baudrate = baud

        with self._turn():
            self._open()
            self._try(at)

    def _met(self, reply: Reply) -> None:
        version = reply.payload[:1]
        if version != bytes([frames.PROTOCOL]):
            raise InstrumentError(
                f"{self.name} speaks version {version[0] if version else '?'} of the wire, this neurobench version "
                f"{frames.PROTOCOL}: load the gateware that belongs to it"
            )
        identity = self.read_as(BoardIdentity.unpack, reply.payload)
        if nonsense := identity.nonsense():
            raise InstrumentError(f"{self.name} says what no board can have: {', '.join(nonsense)}")
        wanted = self.settings.serial
        if wanted and wanted not in (str(identity.serial), f"{identity.serial:x}"):
            raise InstrumentError(f"{self.name} has serial {identity.serial:x}, the bench file says {wanted!r}")
        if self.identity is not None and identity != self.identity:
            raise InstrumentError(
                f"{self.name} is another board than the one that was met first, or has another gateware since: "
                "volts would be other codes. Open the bench anew"
            )
        self.identity, self.session = identity, reply.session

    def _speed_up(self) -> None:
        """Ask for the speed of the bench file, and prove it; one that the board cannot do is halved.

        What does not work out on the line stays at the base speed.
        """
        wanted, tries = min(self.settings.baud, self.known.max_baud), SPEED_TRIES
        while self.baud != wanted and tries:
            agreed = self._agreed(wanted)
            if agreed == self.baud:
                wanted = max(wanted // 2, BASE_BAUD)
                continue
            if self._hello(agreed or wanted) is not None:
                break  # also where the reply was lost: the board had switched
            self._hello(BASE_BAUD)  # it never heard of it, or will be back there after its trial
            tries -= 1
        self._want_baud = self.baud

    def _agreed(self, wanted: int) -> int | None:
        """The speed that the board will use, or None if it did not say."""
        with self._tags([Op.SPEED]) as tags:
            self.send(Request(Op.SPEED, tags[0], self.session, frames.SPEED.pack(wanted)))
            reply = self.wait(tags[0], self.settings.timeout_s + self.line_s(64))
        if reply is None or reply.status != Status.OK:
            return None if reply is None else self.baud
        agreed: int = self.read_as(frames.SPEED.unpack, reply.payload)[0]
        if agreed != self.baud and abs(agreed - wanted) > NEAR * wanted:
            raise InstrumentError(f"{self.name} was asked for {wanted} baud and wants to use {agreed}")
        return agreed

    def wake(self) -> None:
        """Meet the board again where it may have gone back to its base speed, or the port was lost.

        Raises LinkLost, BoardRestarted.
        """
        fresh = self.baud == BASE_BAUD or self.clock.now_s() - self._heard_s < STALE_S
        if self._port is not None and self.session and fresh:
            return
        if not self._reading.acquire(timeout=STUCK_S):
            raise LinkLost(f"{self.name}: another thread hangs in its port")
        try:
            before = self.session
            self.counts.reconnected += 1
            self.connect()
            if before not in (0, self.session):
                raise BoardRestarted(f"{self.name} has restarted: what it had counted is lost")
        finally:
            self._reading.release()


def words(reply: Reply) -> str:
    """A status in words."""
    known = Status(reply.status).name if reply.status in set(Status) else f"status {reply.status:#x}"
    if reply.status == Status.LIMIT and reply.payload:
        return f"{known} {frames.LIMIT_NAMES[reply.payload[0] % len(frames.LIMIT_NAMES)]}"
    return f"{known}: {reply.payload.decode('utf-8', 'replace')}" if reply.status == Status.CHIP else known


def said(request: Request) -> str:
    """A request in words, for a log."""
    return f"{request.op.name} #{request.tag} {_hex(request.payload)}".rstrip()


def answered(reply: Reply) -> str:
    """A reply in words, for a log."""
    op = Op(reply.op).name if reply.op in set(Op) else f"op {reply.op:#x}"
    payload = "" if reply.status == Status.CHIP else _hex(reply.payload)  # of a refusal the words say it
    return f"{op} #{reply.tag} {words(reply)} {payload}".rstrip().rstrip(":")


def _hex(payload: bytes) -> str:
    shown = payload[:MOST_SHOWN].hex(" ", -4)
    return shown if len(payload) <= MOST_SHOWN else f"{shown} ... ({len(payload)} bytes)"


def _read_some(port: Port) -> bytes:
    data = port.read(1)
    waiting = port.in_waiting if data else 0
    return data + port.read(waiting) if waiting else data


class SocketPort:
    """pyserial's socket:// as a port that gives all that has arrived at once: by itself it counts one byte."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._rest = inner, b""
        self.baudrate = BASE_BAUD  # a socket has no speed
        self.timeout: float | None = None

    @property
    def in_waiting(self) -> int:
        """Bytes that have arrived."""
        if not self._rest:
            self._inner.timeout = 0
            self._rest = self._inner.read(65536)
        return len(self._rest)

    def write(self, data: bytes) -> int | None:
        """Send."""
        sent: int | None = self._inner.write(data)
        return sent

    def read(self, size: int = 1) -> bytes:
        """See Port."""
        if not self._rest:
            self._inner.timeout = self.timeout
            self._rest = self._inner.read(1)
            if self._rest and size > 1:
                self._inner.timeout = 0
                self._rest += self._inner.read(size - 1)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def close(self) -> None:
        """Let go of it."""
        connected = getattr(self._inner, "_socket", None)
        self._inner.close()
        if connected is not None:  # pyserial forgets it where the other end has hung up
            connected.close()


def open_serial(url: str) -> Port:
    """A port by its URL as pyserial takes it. Raises OSError (pyserial's SerialException), UsageError for no URL."""
    import serial

    try:
        # no second program on a port of this computer, whatever name it uses
        alone = {} if "://" in url else {"exclusive": True}
        opened = serial.serial_for_url(url, baudrate=BASE_BAUD, timeout=SLICE_S, write_timeout=1.0, **alone)
    except (ValueError, TypeError) as error:  # TypeError: socket:// without a port
        raise UsageError(f"[board] url = {url!r}: {error}") from error
    port: Port = SocketPort(opened) if url.lower().startswith("socket://") else opened
    return port
