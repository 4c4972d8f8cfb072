"""The serial line to the board: every byte takes its time, and frames meet seeded faults, each way.

Rules of this simulation:
- A byte has 10 bits (8N1). A frame arrives as a whole when its last byte does, `latency_s` later.
- Where the two ends differ by more than TOLERANCE in speed, what arrives is noise.
- A frame has at most one fault: it is lost, some of its bytes change, it comes twice (the second time at once, or
  `delay_s` late), or it and everything behind it are held up for `delay_s`. The order of frames is kept but for copies.
- A request that finds the board's memory for requests full is lost: see `rx_bytes` in docs/fpga-wire.md.
- When the board restarts, what it was sending is cut off, and of what it was receiving only the rest arrives.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from ..world.clock import PS_PER_S, Handle, to_ps

if TYPE_CHECKING:
    from neurobench.bench.board import BoardSimulation

    from .board import Board
    from .ticks import BoardTime

BITS = 10
TOLERANCE = 0.03
KINDS = ("lost", "corrupted", "duplicated", "delayed")
POLL_PS = 10**7  # time that passes at most when somebody looks whether bytes are there
MOST_CHANGED = 3
FOREVER_PS = 10**12  # how far ahead to look for the next event where nobody says how long to wait
PAUSE_S = 0.01
LONGEST_PART = 1 << 16
MOST_WAITING = 1 << 20  # bytes that nobody reads: then the oldest are lost


class Faults:
    """Which fault meets which frame of one direction; counted in `count`."""

    def __init__(self, settings: BoardSimulation, name: str, count: Counter[str]) -> None:
        self._draw = random.Random(f"line {settings.fault_seed} {name}")
        self._rates = [getattr(settings, kind) for kind in KINDS]
        self._any, self._count = any(self._rates), count
        self._delay_ps = to_ps(settings.delay_s)
        self._until_ps = 0  # everything is held up until then

    def meet(self, frame: bytes, ps: int) -> list[tuple[int, bytes]]:
        """What arrives, and when, of a frame that would arrive at `ps`."""
        at_ps = max(ps, self._until_ps)
        kind = self._kind() if self._any else None
        if kind is None:
            return [(at_ps, frame)]
        self._count[kind] += 1
        if kind == "lost":
            return []
        if kind == "corrupted":
            return [(at_ps, self._changed(frame))]
        if kind == "duplicated":
            return [(at_ps, frame), (at_ps + self._draw.choice((0, self._delay_ps)), frame)]
        self._until_ps = at_ps + self._delay_ps
        return [(self._until_ps, frame)]

    def _kind(self) -> str | None:
        choices, weights = (*KINDS, None), (*self._rates, max(1 - sum(self._rates), 0.0))
        return self._draw.choices(choices, weights)[0]

    def _changed(self, frame: bytes) -> bytes:
        changed = bytearray(frame)
        for place in self._draw.sample(range(len(frame)), min(self._draw.randint(1, MOST_CHANGED), len(frame))):
            changed[place] ^= self._draw.randint(1, 255)
        return bytes(changed)

    def noise(self, n: int) -> bytes:
        """What a receiver of another speed makes of n bytes."""
        return self._draw.randbytes(n)


class _Sending(NamedTuple):
    """What the board is sending: since when, a byte's time, the event of its end, the bytes."""

    since_ps: int
    byte_ps: int
    end: Handle
    data: bytes


class SerialLine:
    """The line of one board. The host's end: `write`, `read`, `waiting`; `host_baud` None: always the board's speed."""

    def __init__(self, time: BoardTime, board: Board, settings: BoardSimulation, rx_bytes: int) -> None:
        self.time, self._board, self._rx_bytes = time, board, rx_bytes
        self.latency_ps = to_ps(settings.latency_s)
        self.host_baud: int | None = None
        self._counts: Counter[str] = Counter()
        self._down, self._up = (Faults(settings, name, self._counts) for name in ("to the board", "to the host"))
        self._part = b""  # of a frame that the host has not ended
        self._free_ps = 0  # when the host has sent everything that was written
        self._arrived = bytearray()
        self._queue: deque[tuple[bytes, int]] = deque()  # replies, with the length of the request that they answer
        self._sending: _Sending | None = None
        self._owed = 0  # bytes of requests whose replies have not begun to leave
        self._request = 0  # length of the request that is being executed
        self._under_way = 0  # frames on the line, both ways
        board.on_send, board.on_reset = self._take, self._cut
        self.client: object = None  # who of several has written last, where that matters

    def count(self) -> dict[str, int]:
        """Faults injected so far, by kind; `overflow`: requests beyond `rx_bytes`."""
        return dict(self._counts)

    # -- the host's end ------------------------------------------------------------------------------------------

    @property
    def baud(self) -> int:
        """Speed of the host's end."""
        return self._board.baud if self.host_baud is None else self.host_baud

    def write(self, data: bytes) -> None:
        """The host sends."""
        with self.time.lock:
            *frames, self._part = (self._part + data).split(b"\0")
            for frame in frames:
                self._send(frame + b"\0")
            if len(self._part) > LONGEST_PART:  # no frame is so long: let the board find that out
                self._send(self._part)
                self._part = b""

    def _send(self, frame: bytes) -> None:
        byte_ps = BITS * PS_PER_S // self.baud
        begin_ps = max(self._free_ps, self.time.now_ps)
        self._free_ps = begin_ps + len(frame) * byte_ps
        arrival_ps, baud, boots = self._free_ps + self.latency_ps, self.host_baud, self._board.boots
        met = self._down.meet(frame, arrival_ps) if len(frame) > 1 else [(arrival_ps, frame)]
        for at_ps, data in met:
            late_ps = at_ps - self.latency_ps
            self._under_way += 1
            self.time.at(at_ps, lambda data=data, end=late_ps: self._deliver(data, baud, boots, end, byte_ps))  # type: ignore[misc]

    def _deliver(self, data: bytes, baud: int | None, boots: int, end_ps: int, byte_ps: int) -> None:
        self._under_way -= 1
        if boots != self._board.boots:
            after_ps = end_ps - self.time.reset_ps
            data = data[max(len(data) - after_ps // byte_ps, 0) :] if after_ps > 0 else b""
        if self._differs(baud):
            data = self._down.noise(len(data))
        if self._owed + len(data) > self._rx_bytes and self._owed:
            self._counts["overflow"] += 1
            return
        self._request = len(data)
        self._board.receive(data)
        self._request = 0

    def _differs(self, baud: int | None) -> bool:
        return baud is not None and abs(baud - self._board.baud) > TOLERANCE * self._board.baud

    @property
    def arrived(self) -> int:
        """Bytes that have arrived at the host; no time passes."""
        return len(self._arrived)

    @property
    def quiet(self) -> bool:
        """Whether no byte is on the line, in either direction."""
        return not (self._under_way or self._sending)

    @property
    def waiting(self) -> int:
        """Bytes that have arrived at the host; looking takes a little time if there are none."""
        with self.time.lock:
            if not self._arrived:
                self.time.step(self.time.now_ps + POLL_PS)
            return len(self._arrived)

    def read(self, size: int, seconds: float | None) -> bytes:
        """Up to `size` bytes: all of them, or those that have arrived within `seconds` (None: wait for them all)."""
        with self.time.lock:
            end_ps = None if seconds is None else self.time.now_ps + to_ps(seconds)
            while len(self._arrived) < size and (end_ps is None or self.time.now_ps < end_ps):
                if end_ps is None and not self.time.busy():
                    self.time.lock.pause(PAUSE_S)  # only another thread can bring about anything
                else:
                    self.time.step(self.time.now_ps + FOREVER_PS if end_ps is None else end_ps)
            return self.taken(size)

    def taken(self, size: int) -> bytes:
        """What has arrived, at most `size` bytes; no time passes."""
        data = bytes(self._arrived[:size])
        del self._arrived[:size]
        return data

    def flush(self) -> None:
        """Forget what has arrived."""
        self._arrived.clear()

    def hang_up(self) -> None:
        """The host has gone; what it has written is under way all the same."""
        with self.time.lock:
            self._part, self.host_baud = b"", None
            self.flush()

    # -- the board's end -----------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        self._queue.append((data, self._request))
        self._owed += self._request
        self._request = 0
        if self._sending is None:
            self._pump()

    def _pump(self) -> None:
        """Begin to send the next reply."""
        self._sending = None
        if not self._queue:
            return
        data, owed = self._queue.popleft()
        self._owed -= owed
        byte_ps, now_ps = BITS * PS_PER_S // self._board.baud, self.time.now_ps
        end_ps, baud = now_ps + len(data) * byte_ps, self._board.baud
        self._sending = _Sending(now_ps, byte_ps, self.time.at(end_ps, lambda: self._sent(data, baud)), data)

    def _sent(self, data: bytes, baud: int) -> None:
        self._carry(data, baud)
        self._pump()

    def _carry(self, data: bytes, baud: int) -> None:
        for at_ps, one in self._up.meet(data, self.time.now_ps + self.latency_ps):
            self._under_way += 1
            self.time.at(at_ps, lambda one=one: self._arrive(one, baud))  # type: ignore[misc]

    def _arrive(self, data: bytes, baud: int) -> None:
        self._under_way -= 1
        own = self.host_baud
        if own is not None and abs(own - baud) > TOLERANCE * baud:
            data = self._up.noise(len(data))
        self._arrived += data
        del self._arrived[: max(len(self._arrived) - MOST_WAITING, 0)]

    def _cut(self) -> None:
        """The board restarts: of what it was sending the beginning has left, of what it would have sent nothing."""
        sending, self._sending = self._sending, None
        self._queue.clear()
        self._owed = 0
        if sending is not None:
            self.time.cancel(sending.end)
            begun = sending.data[: (self.time.now_ps - sending.since_ps) // sending.byte_ps]
            if begun:
                self._carry(begun + b"\0", self._board.baud)  # the first thing that a board sends ends what was before
