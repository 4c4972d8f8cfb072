"""Seeded faults between an instrument and whoever speaks to it, on purpose and counted.

    plan = FaultPlan.at({17: Fault.REPLY_LOST})              at line 17 of the dialogue
    plan = FaultPlan.drawn({Fault.REPLY_LOST: 0.1}, seed=3)  one line in ten
    faulty = Faulty(smu, plan)                               serves wherever an instrument does
    plan.injected                                            what was done, at which line

A dialogue is the lines that clients have written, counted from 0. Instruments that share a plan have one dialogue. A
fault of a reply is injected only where a reply comes; a plan by rates draws again for every line.

A real network carries no wrong bytes; a serial line does, and an adapter with a fault of its own may do anything.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from neurobench.errors import UsageError

from ..world.clock import to_ps
from .line import LineDropped, Lines

if TYPE_CHECKING:
    from ..engine.instrument import Reply
    from ..engine.status import Status
    from ..world.clock import Timeline
    from .line import Served

JUNK_ERRORS = 30  # more than any queue holds
JUNK = (-113, -222, -221, 802)
NO_TEXT = range(0x80, 0x100)


class Fault(StrEnum):
    """What may go wrong with one line of a dialogue."""

    COMMAND_LOST = "command lost"
    COMMAND_GARBLED = "command garbled"
    REPLY_LOST = "reply lost"
    REPLY_LATE = "reply late"  # it comes after everybody has given up, and is stale then
    REPLY_GARBLED = "reply garbled"
    DISCONNECT_BEFORE = "disconnect before"  # the command never arrives
    DISCONNECT_AFTER = "disconnect after"  # the command arrives, its reply does not
    REBOOT_BEFORE = "reboot before"  # instead of the command
    REBOOT_AFTER = "reboot after"  # the command is carried out, its reply is lost
    QUEUE_OVERFLOW = "queue overflow"  # the error queue fills with junk before the command


ON_REPLY = frozenset({Fault.REPLY_LOST, Fault.REPLY_LATE, Fault.REPLY_GARBLED})


@dataclass(frozen=True)
class Injected:
    """One fault that was injected: at which line of the dialogue, which, and the line."""

    position: int
    fault: Fault
    line: bytes


@dataclass
class Said:
    """One line of the dialogue, and how many replies it has had."""

    line: bytes
    replies: int = 0


@dataclass
class FaultPlan:
    """Which fault meets which line. `late_s`: how late a late reply is, beyond any time-out.

    `choose(position)` says which fault meets a line; `seed` makes what is drawn beyond that: bytes, junk.
    """

    choose: Callable[[int], Fault | None]
    seed: int = 0
    late_s: float = 60.0
    injected: list[Injected] = field(default_factory=list)
    dialogue: list[Said] = field(default_factory=list)

    @classmethod
    def at(cls, faults: Mapping[int, Fault], *, seed: int = 0, late_s: float = 60.0) -> FaultPlan:
        """These faults at these lines: to go through all positions of a dialogue, one after another."""
        return cls(dict(faults).get, seed, late_s)

    @classmethod
    def drawn(cls, rates: Mapping[Fault, float], *, seed: int, late_s: float = 60.0) -> FaultPlan:
        """Faults at random, by their rates per line; the same for the same seed. Raises UsageError for bad rates."""
        if sum(rates.values()) > 1 or not all(rate >= 0 for rate in rates.values()):
            raise UsageError(f"rates of faults are at least 0 and together at most 1 per line, got {dict(rates)}")
        kinds, weights = list(rates), list(rates.values())

        def choose(position: int) -> Fault | None:
            draw = random.Random(f"fault {seed} {position}")
            return draw.choices([*kinds, None], [*weights, 1 - sum(weights)])[0]

        return cls(choose, seed, late_s)

    def count(self) -> dict[Fault, int]:
        """How many of each kind were injected."""
        kinds = [one.fault for one in self.injected]
        return {fault: kinds.count(fault) for fault in Fault if fault in kinds}

    def next(self, line: bytes) -> tuple[int, Fault | None]:
        """The position of the line that is written now, and what shall happen to it."""
        position = len(self.dialogue)
        self.dialogue.append(Said(line))
        return position, self.choose(position)

    def note(self, position: int, fault: Fault) -> random.Random:
        """A fault is being injected; returns its own randomness."""
        self.injected.append(Injected(position, fault, self.dialogue[position].line))
        return random.Random(f"bytes {self.seed} {position} {fault}")


class Faulty:
    """An instrument behind a line with faults; it serves wherever the instrument would."""

    def __init__(self, instrument: Served, plan: FaultPlan) -> None:
        self._inner, self._plan, self._lines = instrument, plan, Lines()
        self._position = -1  # the line whose replies come now
        self._fault: Fault | None = None
        self._seen: list[Reply] = []
        self._wrap: dict[Fault, Callable[[bytes, random.Random], None]] = {
            Fault.COMMAND_LOST: lambda _line, _draw: None,
            Fault.COMMAND_GARBLED: lambda line, draw: self._inner.receive(garbled(line, draw)),
            Fault.DISCONNECT_BEFORE: lambda _line, _draw: self._disconnect(),
            Fault.DISCONNECT_AFTER: self._disconnect_after,
            Fault.REBOOT_BEFORE: lambda _line, _draw: self._reboot(),
            Fault.REBOOT_AFTER: self._reboot_after,
            Fault.QUEUE_OVERFLOW: self._overflow,
        }

    # ---- what passes through

    @property
    def world(self) -> Timeline:
        """See `Served`."""
        return self._inner.world

    @property
    def status(self) -> Status:
        """See `Served`."""
        return self._inner.status

    @property
    def identity(self) -> str:
        """See `Served`."""
        return self._inner.identity

    @property
    def idle(self) -> bool:
        """See `Served`."""
        return self._inner.idle

    @property
    def streaming(self) -> bool:
        """See `Served`."""
        return self._inner.streaming

    @streaming.setter
    def streaming(self, on: bool) -> None:
        """See `Served`."""
        self._inner.streaming = on

    def no_reply_read(self) -> None:
        """See `Served`."""
        self._inner.no_reply_read()

    def status_byte(self) -> int:
        """See `Served`."""
        return self._inner.status_byte()

    def trigger(self) -> None:
        """See `Served`."""
        self._inner.trigger()

    def power_cycle(self) -> None:
        """See `Served`."""
        self._inner.power_cycle()

    def clear(self) -> None:
        """See `Served`; half a line goes too."""
        self._lines = Lines()
        self._inner.clear()

    # ---- where the faults are

    @property
    def replies(self) -> deque[Reply]:
        """Unread replies, with what has become of them on the way."""
        with self.world.lock:
            self._meet_replies()
            return self._inner.replies

    def take(self, limit: int | None = None) -> bytes | None:
        """See `Served`."""
        with self.world.lock:
            self._meet_replies()
            return self._inner.take(limit)

    def receive(self, data: bytes) -> None:
        """Hand every whole line on, or let it meet its fault. Raises LineDropped."""
        with self.world.lock:
            for line in self._lines.add(data):
                self._meet_replies()
                self._position, self._fault = self._plan.next(line)
                self._meet(line)

    def _meet(self, line: bytes) -> None:
        inject = self._wrap.get(self._fault) if self._fault else None
        if inject is None or self._fault is None:
            self._inner.receive(line)
        else:
            inject(line, self._plan.note(self._position, self._fault))

    def _meet_replies(self) -> None:
        """Let new replies meet the fault of the line that they answer."""
        queue = self._inner.replies
        self._seen = [reply for reply in self._seen if any(reply is other for other in queue)]
        for reply in [reply for reply in queue if not any(reply is other for other in self._seen)]:
            self._seen.append(reply)
            if self._position >= 0:
                self._plan.dialogue[self._position].replies += 1
            if self._fault in ON_REPLY:
                self._spoil(reply, self._fault)

    def _spoil(self, reply: Reply, fault: Fault) -> None:
        draw = self._plan.note(self._position, fault)
        if fault == Fault.REPLY_LATE:
            reply.ready_ps += to_ps(self._plan.late_s)
        elif fault == Fault.REPLY_GARBLED:
            reply.data = garbled(reply.data, draw)
        else:
            self._drop(reply)

    def _drop(self, lost: Reply) -> None:
        queue = self._inner.replies
        kept = [reply for reply in queue if reply is not lost]
        queue.clear()
        queue.extend(kept)
        self.status.refresh()

    def _disconnect(self) -> None:
        self._lines = Lines()
        self._inner.replies.clear()
        self.status.refresh()
        raise LineDropped(f"the connection was cut at line {self._position} of the dialogue")

    def _disconnect_after(self, line: bytes, _draw: random.Random) -> None:
        self._inner.receive(line)
        self._disconnect()

    def _reboot(self) -> None:
        self._lines = Lines()
        self._inner.power_cycle()

    def _reboot_after(self, line: bytes, _draw: random.Random) -> None:
        self._inner.receive(line)
        self._reboot()

    def _overflow(self, line: bytes, draw: random.Random) -> None:
        for _ in range(JUNK_ERRORS):
            self.status.error(draw.choice(JUNK))
        self._inner.receive(line)


def garbled(line: bytes, draw: random.Random) -> bytes:
    """A line with some bytes changed, its end cut off, or noise in its place.

    Changed bytes are no text any more. A digit that has become another digit is no fault of this layer: without a
    check sum nobody can notice it.
    """
    body = line.removesuffix(b"\n")
    how = draw.choice(("changed", "cut off", "noise")) if body else "noise"
    if how == "changed":
        noisy = bytearray(body)
        for _ in range(draw.randint(1, 3)):
            noisy[draw.randrange(len(noisy))] = draw.choice(NO_TEXT)
        return bytes(noisy) + b"\n"
    if how == "cut off":
        return body[: draw.randint(1, len(body))]
    return bytes(draw.choice(NO_TEXT) for _ in range(draw.randint(1, 12))) + b"\n"
