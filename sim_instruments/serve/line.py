"""What all transports share: what they need of an instrument, and one instrument's line with several clients on it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from ..engine.grammar import message_end
from ..engine.instrument import MAX_MESSAGE
from ..world.clock import PS_PER_S, to_ps

if TYPE_CHECKING:
    from ..engine.instrument import Reply
    from ..engine.status import Status
    from ..world.clock import Timeline

POLL_S = 0.002  # how often a waiting thread looks, in real time, for what another one may have done
SOON_S = 1.0
TICK_S = 0.1  # how often a bench in wall time is looked after when nobody speaks to it


class LineDropped(ConnectionError):
    """The connection to an instrument was lost; it has to be opened again."""


class Served(Protocol):
    """An instrument, or a fault layer around one. See `engine.instrument.SimInstrument` for the meaning."""

    streaming: bool

    @property
    def world(self) -> Timeline:
        """The bench that it is part of: time and the lock."""

    @property
    def status(self) -> Status:
        """Its registers."""

    @property
    def replies(self) -> deque[Reply]:
        """Unread answers, oldest first."""

    @property
    def identity(self) -> str:
        """What *IDN? answers."""

    @property
    def idle(self) -> bool:
        """Whether no message is in work and none waits."""

    def receive(self, data: bytes) -> None:
        """Bytes for the instrument. Raises LineDropped (a fault layer)."""

    def take(self, limit: int | None = None) -> bytes | None:
        """The oldest answer, or at most `limit` bytes of it; None: there is none."""

    def no_reply_read(self) -> None:
        """A read was tried and there is nothing to say."""

    def clear(self) -> None:
        """Device clear."""

    def status_byte(self) -> int:
        """Serial poll."""

    def trigger(self) -> None:
        """Group execute trigger."""

    def power_cycle(self) -> None:
        """Off and on."""


class Client(Protocol):
    """One connection to an instrument."""

    def send(self, data: bytes) -> None:
        """Send an answer; a client that is gone does not get it, and that is no error."""

    def gone(self) -> bool:
        """Whether nobody is there any more."""


class Pace:
    """Lets a bench in virtual time keep up with the clients' clocks: only what would block takes no time.

    Without it an instrument that is polled until a burst has ended would never end it.
    """

    def __init__(self, world: Timeline) -> None:
        self._world, self._last_s = world, time.monotonic()

    def catch_up(self) -> None:
        """Let the time pass that has passed since the last call. Call it with the world's lock."""
        now_s = time.monotonic()
        if not self._world.wall:
            self._world.run_for(now_s - self._last_s)
        self._last_s = now_s


class Line:
    """The one input of an instrument. Clients take turns: an answer goes to the one that asked."""

    def __init__(self, instrument: Served, pace: Pace, round_trip_s: float = 0.0) -> None:
        self.instrument, self._pace, self._round_trip_ps = instrument, pace, to_ps(round_trip_s)
        self._turn = threading.Lock()
        self._closing = threading.Event()
        instrument.streaming = True

    def ask(self, client: Client, data: bytes) -> None:
        """Hand whole lines to the instrument and its answers to the client. Raises LineDropped (a fault layer).

        An answer that comes later (an instrument that waits for a trigger) holds the line, as it does in a real
        instrument, until it comes or the client is gone: then the instrument's buffers are cleared.
        """
        with self._turn:
            with self.instrument.world.lock:
                self._pace.catch_up()
                self.instrument.receive(data)
            while not self._answered(client):
                if self._closing.is_set() or (client.gone() and not self._soon()):
                    self.instrument.clear()
                    return
                self._wait()

    def close(self) -> None:
        """End all waiting."""
        self._closing.set()

    def _answered(self, client: Client) -> bool:
        """Send what may be sent; whether nothing more will come."""
        with self.instrument.world.lock:
            ready = b""
            while self._arrival_ps() <= self.instrument.world.now_ps:
                ready += self.instrument.take() or b""
            done = self.instrument.idle and not self.instrument.replies
        if ready:
            client.send(ready)
        return done

    def _arrival_ps(self) -> float:
        replies = self.instrument.replies
        return replies[0].ready_ps + self._round_trip_ps if replies else math.inf

    def _soon(self) -> bool:
        """Whether an answer is under way that a client may want which has only closed its own direction."""
        with self.instrument.world.lock:
            return self._arrival_ps() <= self.instrument.world.now_ps + to_ps(SOON_S)

    def _wait(self) -> None:
        world = self.instrument.world
        with world.lock:
            left_ps = max(self._arrival_ps() - world.now_ps, 0)
            if not world.wall and left_ps < math.inf:
                world.run_until(world.now_ps + math.ceil(left_ps))
                return
            self._pace.catch_up()
        self._closing.wait(min(left_ps / PS_PER_S, POLL_S))


class Lines:
    """Bytes that arrive in pieces, cut after whole messages: a line feed inside an IEEE block ends none."""

    def __init__(self) -> None:
        self._partial = b""

    def add(self, data: bytes) -> list[bytes]:
        """All messages that are whole now. What is too long for any is the instrument's to refuse."""
        self._partial += data
        whole = []
        while (end := message_end(self._partial) + 1) or len(self._partial) > MAX_MESSAGE:
            cut = end or len(self._partial)
            whole.append(self._partial[:cut])
            self._partial = self._partial[cut:]
        return whole


class Ticker:
    """A thread that lets things happen on a bench in wall time also while nobody speaks to it."""

    def __init__(self, world: Timeline) -> None:
        self._world, self._stop = world, threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench time", daemon=True)
        if world.wall:
            self._thread.start()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            with self._world.lock:  # getting in lets happen what is due
                pause_s = min(max(self._world.next_due_s(), POLL_S), TICK_S)

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._world.wall:
            self._thread.join()
