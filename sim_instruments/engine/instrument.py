"""A simulated instrument without its transport: bytes in, replies out.

    class Blinker(SimInstrument):                  (in practice: ScpiInstrument or TspInstrument)
        MODEL, IDN, ROLE = "acme-blinker", "ACME,Blinker,{serial},1.0", "pulse"

        def build(self) -> None: ...               once, before the first reset: channels, buffers
        def reset(self) -> None: ...               settings as after *RST; call super().reset() first
        def switched_on(self) -> None: ...         what *RST keeps, as after power-on; call super().switched_on()
        def triggered(self) -> None: ...           *TRG or a group execute trigger

    blinker.receive(b"*IDN?\\n")    bytes may come in pieces, several messages at once
    blinker.take()                 -> b"ACME,Blinker,NBSIM001,1.0\\n", None if there is no reply

A command that takes time calls `self.spend(seconds)`. One that goes on in the background calls
`self.begin(until_ps)` and, from an event of the world, `self.end()`. A message that waits for it (*WAI, *OPC?,
waitcomplete) lets the world run until then; if nobody knows when that is (it waits for a trigger), this message and
all later ones wait, as in a real instrument, until `end()`, a device clear or a power cycle.

Nothing that comes in raises out of `receive`. A fault in an instrument's own code becomes error -310 and a log entry.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from .status import ScpiError, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from neurobench.bench.instruments import InstrumentSection

    from ..world.world import Terminal, World

_log = logging.getLogger(__name__)

MAX_MESSAGE = 1 << 20  # bytes of one program message; more is an overrun


@dataclass(slots=True)
class Reply:
    """One response message with its end of line; it may be read from `ready_ps` on (the transport looks at that)."""

    ready_ps: int
    data: bytes


class SimInstrument(ABC):
    """What all languages have in common: buffers, replies, status, time. `role`: its terminals are `role.1`, ...

    `streaming`: set by a transport that takes replies as they come (socket, serial line). There a second query does
    not interrupt the first; on a message-based bus it does (-410).
    """

    MODEL: ClassVar[str]
    IDN: ClassVar[str]
    ROLE: ClassVar[Literal["smu", "pulse", "matrix"]]
    ERROR_DEPTH: ClassVar[int] = 20

    def __init__(self, world: World, role: str, serial: str, section: InstrumentSection, noise: bool = True) -> None:
        self.world = world
        self.role = role
        self.serial = serial
        self.section = section
        self.noise = noise
        self.streaming = False
        self.replies: deque[Reply] = deque()
        self.status = Status(mav=lambda: bool(self.replies), depth=self.ERROR_DEPTH)
        self._input = bytearray()
        self._overrun = False
        self._inbox: deque[bytes] = deque()
        self._job: Iterator[None] | None = None
        self._running = False
        self._wait_asked = False
        self.build()
        self.switched_on()
        self.reset()

    # ---- what an instrument is made of

    def build(self) -> None:  # noqa: B027 (an instrument may have nothing to make)
        """Make channels and buffers; called once, before the first reset."""

    def reset(self) -> None:
        """Settings and outputs as after *RST. Pending operations are broken off; status registers stay."""
        self.status.end_all()

    def switched_on(self) -> None:  # noqa: B027 (an instrument may keep nothing)
        """What *RST keeps, as after power-on; called before `reset` when it is made and at each power cycle."""

    def triggered(self) -> None:
        """*TRG or a group execute trigger came in."""
        raise ScpiError(-211)

    def self_test(self) -> int:
        """*TST?: 0 is good."""
        return 0

    @abstractmethod
    def execute(self, message: bytes) -> Iterator[None]:
        """Carry out one program message (without its end of line); yields after each command, where it may have to wait
        or be broken off by a device clear."""

    @property
    def identity(self) -> str:
        """What *IDN? answers."""
        return self.IDN.format(serial=self.serial)

    def terminal(self, channel: int) -> Terminal:
        """The terminal of the world that this channel is connected to."""
        return self.world.terminal(f"{self.role}.{channel}")

    # ---- time

    def spend(self, seconds: float) -> None:
        """Let the time of a blocking command pass, for the whole world."""
        self.world.run_for(seconds)

    def begin(self, until_ps: int | None = None) -> None:
        """An operation goes on after its command; until when, if it is known."""
        self.status.begin(until_ps)

    def end(self) -> None:
        """One pending operation has ended; goes on with what waited for it."""
        self.status.end()
        self._pump()

    def ask_wait(self) -> None:
        """The command being carried out wants the rest of its message to wait until nothing is pending."""
        self._wait_asked = True

    # ---- the transport's side

    def receive(self, data: bytes) -> None:
        """Take bytes in and carry out every message that is complete."""
        with self.world.lock:
            self._input += data
            while (message := self._cut()) is not None:
                self._inbox.append(message)
            if len(self._input) > MAX_MESSAGE:
                self._input.clear()
                self._overrun = True
                self.status.error(-363)
            self._pump()

    @property
    def idle(self) -> bool:
        """Whether no message is in work and none waits."""
        with self.world.lock:
            return not (self._running or self._job is not None or self._inbox)

    def take(self, limit: int | None = None) -> bytes | None:
        """The next reply, or at most `limit` bytes of it (the rest stays); None: there is none."""
        with self.world.lock:
            if not self.replies:
                return None
            first = self.replies[0]
            data = first.data if limit is None else first.data[:limit]
            first.data = first.data[len(data) :]
            if not first.data:
                self.replies.popleft()
            self.status.refresh()
            return data

    def no_reply_read(self) -> None:
        """A read was tried and there is nothing to say: -420."""
        with self.world.lock:
            self.status.error(-420)

    def clear(self) -> None:
        """Device clear: input and output buffers, and what waits in them; settings and registers stay."""
        with self.world.lock:
            self._input.clear()
            self._inbox.clear()
            self.replies.clear()
            self._job = None
            self._overrun = self._wait_asked = False
            self.status.forget_opc()
            self.status.refresh()

    def status_byte(self) -> int:
        """Serial poll."""
        with self.world.lock:
            return self.status.serial_poll()

    def trigger(self) -> None:
        """Group execute trigger of the interface; not delayed by messages that wait."""
        with self.world.lock:
            self.guarded(self.triggered)

    def power_cycle(self) -> None:
        """Switch off and on: buffers empty, registers as at power-on, settings as after *RST."""
        with self.world.lock:
            self.clear()
            self.status.power_on()
            self.switched_on()
            self.reset()

    # ---- for the languages

    def reply(self, data: bytes) -> None:
        """Put one response message out; the end of line is added. Nothing after a device clear in the middle of it."""
        if self._running and self._job is None:
            return
        self.replies.append(Reply(self.world.now_ps, data + b"\n"))
        self.status.refresh()

    def guarded(self, action: Callable[[], object]) -> int:
        """Do something; what it refuses goes into the error queue. Returns the error number, 0: none."""
        try:
            action()
        except ScpiError as refused:
            self.status.error(refused.code, refused.text)
            return refused.code
        except Exception as fault:  # noqa: BLE001 (the client must see it as an error; the server must live on)
            _log.exception("%s: fault in the simulation", self.MODEL)
            self.status.error(-310, f"System error; {type(fault).__name__}: {fault}")
            return -310
        return 0

    def _end_of_message(self, buffer: bytearray) -> int:
        """Where the line feed is that ends the first message in the buffer; -1: not there yet."""
        return buffer.find(b"\n")

    def _trimmed(self, message: bytes) -> bytes:
        """A message without what else may stand at the end of a line."""
        return message.rstrip(b"\r")

    def _cut(self) -> bytes | None:
        end = self._end_of_message(self._input)
        if end < 0:
            return None
        message = bytes(self._input[:end])
        del self._input[: end + 1]
        if self._overrun:  # the end of a message whose beginning was lost
            self._overrun = False
            return b""
        return self._trimmed(message)

    def _pump(self) -> None:
        """Carry out what is in the inbox, as far as it does not wait."""
        if self._running:  # called from an event while a command lets the world run: that command goes on by itself
            return
        self._running = True
        try:
            while self._step():
                pass
        finally:
            self._running = False
        self.status.refresh()

    def _step(self) -> bool:
        """Begin the next message, or go on with the one begun by one command; False: nothing to do now."""
        if self._job is None:
            if not self._inbox:
                return False
            self._job = self.execute(self._inbox.popleft())
        job = self._job
        self.guarded(self._let_pass)
        if self._wait_asked:
            return False
        if self._job is job:
            ended = True

            def go_on() -> None:
                nonlocal ended
                ended = next(job, self) is self

            self.guarded(go_on)
            if ended and self._job is job:
                self._job = None
        return True

    def _let_pass(self) -> None:
        """If the message waits: let time pass until nothing is pending, if it is known when that is."""
        if self._wait_asked and self.status.pending and self.status.until_ps is not None:
            self.world.run_until(max(self.status.until_ps, self.world.now_ps))
        self._wait_asked = self._wait_asked and self.status.pending > 0
