"""The gateware's executor against a Python reading of docs/fpga-wire.md; the engine is played by the test."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from gateware_streams import marked
from neurobench.sim_instruments.gateware.executor import Executor
from neurobench.sim_instruments.gateware.hardware import Hardware
from test_gateware_checker import Draw, expected

HELLO, STATUS, LIMITS, SPEED, REST, ECHO = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UPLOAD, ARM, FIRE, FENCE, ACQUIRE, FETCH = 0x10, 0x11, 0x12, 0x13, 0x20, 0x21
(OK, WRONG_SESSION, WRONG_NUMBER, TAKEN, RUNNING, BUSY, NOT_ARMED, MALFORMED, BAD_CRC, LIMIT, NO_ROOM,
 UNKNOWN_OP) = range(12)  # fmt: skip
BOARD = Hardware(rows=3, cols=5, program_bytes=256, read_bytes=128, samples=64, rx_bytes=1024, max_body=300)
REGISTERS = (4000, 3900, 2100, 5000, 480, 60_000, 131_072)
IDENTITY = struct.pack(
    "<6BQHHIIHHHHHHHIII4d", 1, 0b11110, 1, 0, 0, 24, 1, 3, 5, 48_000_000, 12_000_000, 256, 128, 64, 1024, 300,
    32767, 32767, 48, 480, 240, 2.5e-4, 2e-5, 1e-5 / (2**23 - 1), 0.0,
)  # fmt: skip
PLAIN = struct.pack("<BBIIhhhh", 1, 0, 480, 48, 2000, 0, 0, 0) + struct.pack("<BHHH", 1, 3, 0, 1) + b"\x01"
CELLS = struct.pack("<BBBHI4Hh", 3, 8, 2, 1, 480, 0, 3, 0, 5, 1000)  # 15 samples of 2 bytes
NONCE = 0x5EED1234


class Reply(NamedTuple):
    """What came, or what should have come."""

    op: int
    tag: int
    session: int
    status: int
    payload: bytes


def request(op: int, payload: bytes = b"", tag: int = 1, session: int = 0) -> bytes:
    return struct.pack("<BHI", op, tag, session) + payload


def arm(number: int, program: bytes = PLAIN) -> bytes:
    return struct.pack("<HHI", number, len(program), zlib.crc32(program))


def fire(number: int, program: bytes = PLAIN) -> bytes:
    return struct.pack("<HI", number, zlib.crc32(program))


def u16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


# -- the bench --------------------------------------------------------------------------------------------------------


class Bench(wiring.Component):
    """An executor, and of an engine only that it acquires until it rests, or `done` or `stop` (strobes of the test).

    `fires` counts how often it was asked to fire.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.executor = Executor(hardware)
        super().__init__({"done": In(1), "stop": In(1), "fires": Out(16)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.executor = self.executor
        engine = self.executor.engine
        m.d.sync += self.fires.eq(self.fires + engine.fire)
        with m.If(engine.acquire):
            m.d.sync += [engine.acquiring.eq(1), engine.stopped.eq(0)]
        with m.Elif(engine.rest | self.done | self.stop):
            m.d.sync += [engine.acquiring.eq(0), engine.stopped.eq(engine.stopped | (engine.acquiring & ~self.done))]
        return m


class Desk:
    """An executor whose other end the test plays: the host's frames and the engine."""

    def __init__(self, ctx: Any, bench: Bench) -> None:
        self.ctx, self.bench, self.executor, self.engine = ctx, bench, bench.executor, bench.executor.engine
        self.session = 0

    def let(self, **values: int) -> None:
        """Outputs of the engine."""
        for name, value in values.items():
            self.ctx.set(getattr(self.engine, name), value)

    async def strobe(self, name: str) -> None:
        """Of the bench; none without a name."""
        if name:
            self.ctx.set(getattr(self.bench, name), 1)
            await self.ctx.tick()
            self.ctx.set(getattr(self.bench, name), 0)

    async def pass_by(self, ticks: int) -> None:
        await self.ctx.tick().repeat(ticks)

    async def end_of_fire(self, **values: int) -> None:
        self.let(firing=0, stopping=0, ended=1, **values)
        await self.ctx.tick()
        self.let(ended=0)

    async def give(self, body: bytes) -> None:
        bodies, ctx = self.executor.bodies, self.ctx
        for item in marked([body]):
            ctx.set(bodies.payload, {"data": item & 255, "last": item >> 8})
            ctx.set(bodies.valid, 1)
            ready = False
            while not ready:
                *_, ready = await ctx.tick().sample(bodies.ready)
        ctx.set(bodies.valid, 0)

    async def reply(self, patience: int = 40_000, pause: int = 0) -> Reply | None:
        """The next reply; `pause`: ticks before each byte is taken."""
        replies, ctx, body, waited = self.executor.replies, self.ctx, bytearray(), 0
        while waited < patience:
            await ctx.tick().repeat(pause + 1)
            waited += 1
            if not ctx.get(replies.valid):
                continue
            byte, last = ctx.get(replies.p.data), ctx.get(replies.p.last)
            ctx.set(replies.ready, 1)
            await ctx.tick()
            ctx.set(replies.ready, 0)
            body.append(byte)
            if last:
                op, tag, session, status = struct.unpack("<BHIB", body[:8])
                assert op & 0x80
                return Reply(op & 0x7F, tag, session, status, bytes(body[8:]))
        assert not body
        return None

    async def ask(self, op: int, payload: bytes = b"", tag: int = 1, session: int | None = None) -> Reply:
        await self.give(request(op, payload, tag, self.session if session is None else session))
        found = await self.reply()
        assert found is not None
        return found

    async def open(self, registers: Sequence[int] = REGISTERS) -> None:
        self.session = (await self.ask(HELLO, struct.pack("<I", NONCE))).session
        packed = struct.pack("<4H3I", *registers)
        assert (await self.ask(LIMITS, packed)).payload == packed

    async def armed(self, number: int = 1, program: bytes = PLAIN) -> None:
        assert (await self.ask(UPLOAD, u16(number, 0) + program)).status == OK
        assert (await self.ask(ARM, arm(number, program))).status == OK

    async def fired(self, payload: bytes = fire(1), tag: int = 1) -> None:
        """FIRE, up to the engine's beginning."""
        await self.give(request(FIRE, payload, tag, self.session))
        ticks = 0
        while not self.ctx.get(self.engine.fire):
            await self.ctx.tick()
            ticks += 1
            assert ticks < 50
        self.let(firing=1, end=0)


def played(play: Callable[[Desk], Awaitable[None]], hardware: Hardware = BOARD) -> None:
    """One simulation of an executor."""
    bench = Bench(hardware)

    async def testbench(ctx: Any) -> None:
        await play(Desk(ctx, bench))

    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def status(payload: bytes) -> tuple[int, ...]:
    """State, end, flags, fired, acquired, shots, in_shot, started, done, good, bad; then uptime."""
    return struct.unpack("<BBBHHIHIIIIQ", payload)


# -- the page in Python -----------------------------------------------------------------------------------------------


@dataclass
class Paper:
    """A board as the page has it; what the engine does is told to it. Uptime is left out."""

    h: Hardware
    session: int = 0
    limits: tuple[int, ...] = (0,) * 7
    limits_set: bool = False
    memory: bytearray = field(default_factory=lambda: bytearray(BOARD.program_bytes))
    armed: int | None = None  # CRC of what is armed
    fired: int = 0
    once: int = 0  # which command took that number
    kept: Reply | None = None
    acquired: int = 0
    any_acquired: bool = False
    samples: int = 0
    width: int = 2
    firing: int = 0  # tag of the FIRE that runs
    acquiring: bool = False
    stopped: bool = False
    ready: int = 0
    counters: tuple[int, ...] = (0, 0, 0, 0)
    end: int = 0
    stored: list[int] = field(default_factory=list)

    def status(self) -> bytes:
        state = 2 if self.firing else int(self.armed is not None)
        flags = self.acquiring | 2 * self.limits_set
        head = struct.pack("<BBBHH", state, self.end, flags, self.fired, self.acquired)
        return head + struct.pack("<IHII", *self.counters) + struct.pack("<II", 7, 9)

    def answer(self, op: int, payload: bytes, tag: int, session: int) -> Reply | None:
        found = self._answered(op, payload, tag, session)
        if found is None or isinstance(found, Reply):
            return found
        return Reply(op, tag, self.session, *found)

    def _answered(self, op: int, payload: bytes, tag: int, session: int) -> Reply | tuple[int, bytes] | None:
        lengths = {HELLO: 4, STATUS: 0, REST: 0, ARM: 8, FIRE: 6, FENCE: 2, FETCH: 6}
        if op not in {*lengths, LIMITS, ECHO, UPLOAD, ACQUIRE}:
            return UNKNOWN_OP, b""
        if op != HELLO and (session != self.session or not session):
            return WRONG_SESSION, b""
        right = {LIMITS: len(payload) in (0, 20), ECHO: len(payload) <= 512, UPLOAD: len(payload) > 4,
                 ACQUIRE: len(payload) > 1}  # fmt: skip
        if not right.get(op, len(payload) == lengths.get(op)):
            return MALFORMED, b""
        do = {HELLO: self.hello, STATUS: self.tell, LIMITS: self.limit, REST: self.rest, ECHO: self.echo,
              UPLOAD: self.upload, ARM: self.arm, ACQUIRE: self.acquire, FETCH: self.fetch}  # fmt: skip
        return self.once_only(op, payload, tag) if op in (FIRE, FENCE) else do[op](payload)

    def hello(self, payload: bytes) -> tuple[int, bytes]:
        return OK, IDENTITY

    def tell(self, payload: bytes) -> tuple[int, bytes]:
        return OK, self.status()

    def echo(self, payload: bytes) -> tuple[int, bytes]:
        return OK, payload

    def limit(self, payload: bytes) -> tuple[int, bytes]:
        if payload and (self.firing or self.acquiring):
            return BUSY, b""
        if payload:
            self.limits, self.limits_set, self.armed = struct.unpack("<4H3I", payload), True, None
        return OK, struct.pack("<4H3I", *self.limits)

    def rest(self, payload: bytes) -> tuple[int, bytes]:
        self.armed, self.stopped, self.acquiring = None, self.stopped or self.acquiring, False
        return OK, self.status()

    def upload(self, payload: bytes) -> tuple[int, bytes]:
        number, offset = struct.unpack("<HH", payload[:4])
        if number != (self.fired + 1) % 65536:
            return WRONG_NUMBER, b""
        if self.firing or (self.armed is not None and offset):
            return BUSY, b""
        if offset + len(payload) - 4 > self.h.program_bytes:
            return NO_ROOM, b""
        self.memory[offset : offset + len(payload) - 4] = payload[4:]
        self.armed = None
        return OK, u16(offset)

    def arm(self, payload: bytes) -> tuple[int, bytes]:
        number, length, crc = struct.unpack("<HHI", payload)
        if number != (self.fired + 1) % 65536:
            return WRONG_NUMBER, b""
        if self.firing:
            return BUSY, b""
        self.armed = None
        if length > self.h.program_bytes:
            return NO_ROOM, b""
        program = bytes(self.memory[:length])
        if zlib.crc32(program) != crc:
            return BAD_CRC, b""
        verdict = expected(program, False, self.h, self.limits)
        if verdict[0] != OK:
            return verdict[0], bytes(verdict[1:])
        self.armed = crc
        return OK, struct.pack("<II", *verdict[1:])

    def once_only(self, op: int, payload: bytes, tag: int) -> Reply | tuple[int, bytes] | None:
        (number,) = struct.unpack("<H", payload[:2])
        if number == self.fired and self.once:
            if op != self.once:
                return TAKEN, self.status()
            return (RUNNING, b"") if self.firing else self.kept
        if number != (self.fired + 1) % 65536:
            return WRONG_NUMBER, b""
        if self.firing or self.acquiring:
            return BUSY, b""
        if op == FIRE and (self.armed is None or self.armed != struct.unpack("<I", payload[2:])[0]):
            return NOT_ARMED, b""
        self.fired, self.once, self.armed = number, op, None
        if op == FIRE:
            self.firing, self.end = tag, 0
            return None
        self.kept = Reply(op, tag, self.session, OK, self.status())
        return self.kept

    def end_fire(self, end: int, counters: tuple[int, ...]) -> Reply:
        tag, self.firing, self.end, self.counters = self.firing, 0, end, counters
        self.kept = Reply(FIRE, tag, self.session, OK, self.status())
        return self.kept

    def acquire(self, payload: bytes) -> tuple[int, bytes]:
        (number,) = struct.unpack("<H", payload[:2])
        ahead = (number - self.acquired) % 65536
        if ahead == 0 and self.any_acquired:
            return OK, u16(self.samples)
        if not 1 <= ahead <= 32767:
            return WRONG_NUMBER, b""
        if self.firing:
            return BUSY, b""
        verdict = expected(payload[2:], True, self.h, self.limits)
        if verdict[0] == OK and not self.limits_set:
            verdict = (LIMIT, 3)
        if verdict[0] != OK:
            return verdict[0], bytes(verdict[1:])
        self.acquired, self.any_acquired, (_, self.samples, self.width) = number, True, verdict
        self.acquiring, self.stopped, self.ready = True, False, 0
        return OK, u16(self.samples)

    def fetch(self, payload: bytes) -> tuple[int, bytes]:
        number, first, count = struct.unpack("<HHH", payload)
        if number != self.acquired or not self.any_acquired:
            return WRONG_NUMBER, b""
        most = (self.h.max_body - 19) // self.width
        taken = self.stored[: self.ready][first : first + min(count, most)]
        data = b"".join((sample & 0xFFFFFFFF).to_bytes(4, "little")[: self.width] for sample in taken)
        complete = not self.acquiring and not self.stopped
        return OK, struct.pack("<HHHB", number, first, self.ready, complete | 4 * self.stopped) + data


# -- all commands at random -------------------------------------------------------------------------------------------


class Game:
    """Requests and events of the engine at random; every reply is the one on paper."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk, self.paper, self.random = desk, Paper(BOARD), random.Random(seed)
        self.draw = Draw(BOARD, seed)
        self.program = PLAIN
        self.fires = 0
        self.plan: list[int] = []  # what makes a FIRE, with anything between
        self.seen: dict[tuple[int, int], int] = {}

    async def play(self, turns: int) -> None:
        desk = self.desk
        desk.ctx.set(desk.executor.good, 7)
        desk.ctx.set(desk.executor.bad, 9)
        self.paper.session = desk.session = (await desk.ask(HELLO, struct.pack("<I", NONCE))).session
        for turn in range(turns):
            await self.engine_event()
            await self.turn(turn + 2)
            assert desk.ctx.get(desk.bench.fires) == self.fires

    async def turn(self, tag: int) -> None:
        op, payload = self.request()
        session = self.paper.session ^ (self.random.random() < 0.03)
        on_paper = self.paper.answer(op, payload, tag, session)
        if on_paper is None:
            self.fires += 1
            await self.desk.fired(payload, tag)
            assert await self.desk.reply(patience=30) is None
            return
        reply = await self.desk.ask(op, payload, tag, session)
        self.compare(reply, on_paper)
        self.desk.let(ready=self.paper.ready)

    def compare(self, reply: Reply, on_paper: Reply) -> None:
        with_uptime = len(on_paper.payload) == 29 and len(reply.payload) == 37
        cut = reply._replace(payload=reply.payload[:29]) if with_uptime else reply
        assert cut == on_paper
        key = (reply.op, reply.status)
        self.seen[key] = self.seen.get(key, 0) + 1

    async def engine_event(self) -> None:
        paper, draw, desk = self.paper, self.random, self.desk
        if paper.firing and draw.random() < 0.4:
            counters = tuple(draw.getrandbits(bits) for bits in (32, 16, 32, 32))
            names = ("shots", "in_shot", "started", "done")
            on_paper = paper.end_fire(draw.randint(1, 4), counters)
            await desk.end_of_fire(end=paper.end, **dict(zip(names, counters, strict=True)))
            reply = await desk.reply()
            assert reply is not None
            self.compare(reply, on_paper)
        if paper.acquiring:
            await self.acquire_on()

    async def acquire_on(self) -> None:
        paper, draw, desk = self.paper, self.random, self.desk
        for _ in range(draw.randint(0, 12)):
            if paper.ready < paper.samples:
                value = draw.randint(-(2**15), 2**15 - 1)
                paper.stored[paper.ready :] = [value]
                desk.let(sample_addr=paper.ready, sample_data=value & 0xFFFFFFFF, sample_write=1)
                await desk.pass_by(1)
                paper.ready += 1
        ended = paper.ready == paper.samples
        paper.stopped = not ended and draw.random() < 0.2
        paper.acquiring = not ended and not paper.stopped
        desk.let(sample_write=0, ready=paper.ready)
        await desk.strobe("done" if ended else "stop" if paper.stopped else "")

    def request(self) -> tuple[int, bytes]:
        draw, paper = self.random, self.paper
        if not self.plan and draw.random() < 0.2:
            self.plan = [FIRE, ARM, UPLOAD, LIMITS]
        if self.plan and draw.random() < 0.8:
            return self.planned(self.plan.pop(), (paper.fired + 1) % 65536)
        following = (paper.fired + draw.choice((1, 1, 1, 1, 0, 2, 65535))) % 65536
        op = draw.choice(
            (STATUS, LIMITS, REST, ECHO, UPLOAD, ARM, FIRE, FENCE, FENCE, *(ACQUIRE, FETCH) * 3, HELLO, 51)
        )
        if draw.random() < 0.05:
            return op, draw.randbytes(draw.randint(0, 30))
        return op, self.payload(op, following)

    def planned(self, op: int, number: int) -> tuple[int, bytes]:
        self.program = self.random.choice((PLAIN, self.draw.pulses())) if op == UPLOAD else self.program
        registers = struct.pack("<4H3I", *REGISTERS)
        program = self.program
        return op, {LIMITS: registers, UPLOAD: u16(number, 0) + program, ARM: arm(number, program),
                    FIRE: fire(number, program)}[op]  # fmt: skip

    def payload(self, op: int, following: int) -> bytes:
        draw, paper = self.random, self.paper
        reading = (paper.acquired + draw.choice((1, 1, 1, 0, 0, 5, 32767, 32768, 65535))) % 65536
        first, count = draw.randint(0, 16), draw.choice((3, 30, 65535))
        payloads: dict[int, Callable[[], bytes]] = {
            LIMITS: lambda: draw.choice((b"", struct.pack("<4H3I", *REGISTERS))),
            ECHO: lambda: draw.randbytes(draw.randint(0, 60)),
            UPLOAD: lambda: self.upload(following),
            ARM: lambda: arm(following, draw.choice((self.program, PLAIN, b"x"))),
            FIRE: lambda: fire(following, draw.choice((self.program, PLAIN))),
            FENCE: lambda: u16(following),
            ACQUIRE: lambda: u16(reading) + draw.choice((CELLS, CELLS, self.draw.read())),
            FETCH: lambda: u16(draw.choice((paper.acquired, reading)), first, count),
            HELLO: lambda: draw.randbytes(4),
        }
        return payloads.get(op, lambda: b"")()

    def upload(self, number: int) -> bytes:
        offset = self.random.choice((0, 20, 250, 256, 65535))
        return u16(number, offset) + self.random.randbytes(self.random.randint(1, 9))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_requests_are_answered_as_on_paper(seed: int) -> None:
    async def play(desk: Desk) -> None:
        game = Game(desk, seed)
        await game.play(120)
        assert {(FIRE, OK), (FENCE, OK), (ARM, OK), (UPLOAD, OK), (ACQUIRE, OK), (FETCH, OK)} <= set(game.seen)
        assert {status for _, status in game.seen} >= {OK, WRONG_SESSION, WRONG_NUMBER, BUSY, MALFORMED, UNKNOWN_OP}

    played(play)


# -- what no single reply shows ---------------------------------------------------------------------------------------


def test_a_session_is_the_nonce_and_the_counter_and_never_0() -> None:
    sessions: list[int] = []

    def hello(nonce: int) -> int:
        async def play(desk: Desk) -> None:
            sessions.append((await desk.ask(HELLO, struct.pack("<I", nonce))).session)

        played(play)
        return sessions[-1]

    counter = hello(0)
    assert 0 < counter < 200
    assert hello(0xFFFF0000) == 0xFFFF0000 ^ counter
    assert hello(counter) not in (0, counter)


def test_a_later_hello_gives_the_same_session_and_forgets_nothing() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        await desk.armed()
        reply = await desk.ask(HELLO, bytes(4), session=77)
        assert (reply.session, reply.payload) == (desk.session, IDENTITY)
        assert status((await desk.ask(STATUS)).payload)[:3] == (1, 0, 2)

    played(play)


def test_the_status_of_a_fire_is_frozen_at_its_end_and_sent_when_the_line_is_free() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        await desk.armed()
        await desk.fired(tag=0xABCD)
        await desk.give(request(ECHO, b"0123456789", 2, desk.session))
        await desk.pass_by(300)
        await desk.end_of_fire(end=1, shots=5, started=6, done=6)
        await desk.pass_by(2000)
        echo = await desk.reply(pause=30)
        assert echo == Reply(ECHO, 2, desk.session, OK, b"0123456789")
        fired = await desk.reply()
        assert fired is not None
        assert fired[:4] == (FIRE, 0xABCD, desk.session, OK)
        now = status((await desk.ask(STATUS)).payload)
        assert status(fired.payload)[:9] == (0, 1, 2, 1, 0, 5, 0, 6, 6)
        assert 2000 < now[-1] - status(fired.payload)[-1] < 4000

    played(play)


def test_nothing_is_executed_while_a_reply_waits_for_the_line() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        await desk.give(request(STATUS, b"", 1, desk.session))
        ctx, bodies = desk.ctx, desk.executor.bodies
        await desk.pass_by(200)
        ctx.set(bodies.valid, 1)
        await desk.pass_by(50)
        assert not ctx.get(bodies.ready)
        ctx.set(bodies.valid, 0)
        assert await desk.reply() is not None

    played(play)


def test_a_program_is_read_by_the_engine_as_it_was_armed() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        await desk.armed()
        await desk.fired()
        assert desk.ctx.get(desk.engine.length) == len(PLAIN)
        assert desk.ctx.get(desk.engine.watchdog) == REGISTERS[-1]
        assert 0 < desk.ctx.get(desk.engine.since) < 20
        found = bytearray()
        for address in range(len(PLAIN)):
            desk.let(program_addr=address)
            await desk.pass_by(1)
            found.append(desk.ctx.get(desk.engine.program_data))
        assert bytes(found) == PLAIN

    played(play)


def test_what_is_armed_is_fired_as_it_was_armed_or_not_at_all() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        await desk.armed()
        assert (await desk.ask(UPLOAD, u16(1, 1) + b"\1")).status == BUSY
        assert (await desk.ask(FIRE, fire(1, PLAIN[:-1]))).status == NOT_ARMED
        await desk.fired()
        await desk.end_of_fire(end=1)
        assert await desk.reply() is not None
        await desk.armed(2)
        assert (await desk.ask(UPLOAD, u16(2, 0) + b"\1")).status == OK
        assert (await desk.ask(FIRE, fire(2))).status == NOT_ARMED
        await desk.armed(2)
        assert (await desk.ask(ARM, arm(2, PLAIN[:-1]))).status == MALFORMED
        assert (await desk.ask(FIRE, fire(2, PLAIN[:-1]))).status == NOT_ARMED
        assert desk.ctx.get(desk.bench.fires) == 1

    played(play)


@pytest.mark.parametrize(("width", "most"), [(2, 140), (3, 93), (4, 70)])
def test_a_fetch_gives_no_more_than_a_body_holds(width: int, most: int) -> None:
    levels = struct.pack("<H50h", 50, *range(50))
    program = struct.pack("<BBBHI4H", 4, 0, width, 1, 480, 0, 1, 0, 5) + levels

    async def play(desk: Desk) -> None:
        await desk.open()
        assert (await desk.ask(ACQUIRE, u16(1) + program)).payload == u16(250)
        desk.let(ready=250, over=1)
        await desk.strobe("done")
        for first, count, come in ((0, 65535, most), (100, most + 1, most), (0, most - 1, most - 1), (249, 9, 1)):
            reply = await desk.ask(FETCH, u16(1, first, count))
            assert reply.payload[:7] == u16(1, first, 250) + b"\3"
            assert len(reply.payload) == 7 + come * width

    played(play, Hardware(rows=3, cols=5, program_bytes=256, read_bytes=128, samples=256, max_body=300))


def test_the_silence_of_the_host_is_broken_by_any_request_under_its_session_only() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        await desk.pass_by(500)
        for op, session, heard in ((STATUS, None, True), (0x7F, None, True), (FENCE, None, True), (STATUS, 1, False),
                                   (HELLO, 0, False), (SPEED, 0, False)):  # fmt: skip
            await desk.pass_by(1000)
            await desk.ask(op, bytes(4) if op in (HELLO, SPEED) else b"", session=session)
            assert (desk.ctx.get(desk.engine.since) < 1000) == heard, op

    played(play)


def test_rest_is_asked_of_the_engine_and_its_status_is_that_after_it() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        await desk.armed()
        await desk.fired()
        await desk.give(request(REST, b"", 9, desk.session))
        await desk.ctx.tick().until(desk.engine.rest)
        desk.let(stopping=1)
        reply = await desk.reply()
        assert reply is not None
        assert status(reply.payload)[0] == 3
        await desk.end_of_fire(end=2)
        fired = await desk.reply()
        assert fired is not None
        assert status(fired.payload)[:2] == (0, 2)

    played(play)


def test_an_acquisition_rests_before_its_program_is_overwritten() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        assert (await desk.ask(ACQUIRE, u16(1) + CELLS)).payload == u16(15)
        assert desk.ctx.get(desk.engine.read_length) == len(CELLS)
        other = CELLS[:-2] + struct.pack("<h", -999)
        await desk.give(request(ACQUIRE, u16(2) + other, 2, desk.session))
        desk.let(read_addr=len(CELLS) - 2)
        await desk.ctx.tick().until(desk.engine.rest)
        await desk.pass_by(1)
        assert desk.ctx.get(desk.engine.read_data) == CELLS[-2]
        assert desk.ctx.get(desk.engine.acquiring) == 0
        await desk.ctx.tick().until(desk.engine.acquire)
        assert desk.ctx.get(desk.engine.read_data) == other[-2]
        assert await desk.reply() is not None

    played(play)


def test_a_refused_acquire_leaves_the_one_under_way() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        await desk.ask(ACQUIRE, u16(1) + CELLS)
        for program in (CELLS[:-1], CELLS[:-2] + struct.pack("<h", 5001), CELLS + bytes(200)):
            assert (await desk.ask(ACQUIRE, u16(2) + program)).status in (MALFORMED, LIMIT)
        assert desk.ctx.get(desk.engine.acquiring) == 1
        assert (await desk.ask(ACQUIRE, u16(1) + b"x")).payload == u16(15)

    played(play)


def test_a_speed_is_told_at_the_old_one_and_holds_back_what_follows_until_it_is_used() -> None:
    async def play(desk: Desk) -> None:
        executor = desk.executor
        assert desk.ctx.get(executor.divisor) == 417
        reply = await desk.ask(SPEED, struct.pack("<I", 3_000_000))
        assert struct.unpack("<I", reply.payload) == (3_000_000,)
        desk.ctx.set(executor.bodies.valid, 1)
        await desk.pass_by(100)
        assert (desk.ctx.get(executor.divisor), desk.ctx.get(executor.bodies.ready)) == (417, 0)
        desk.ctx.set(executor.bodies.valid, 0)
        desk.ctx.set(executor.sent, 1)
        await desk.pass_by(2)
        assert desk.ctx.get(executor.divisor) == 16
        assert (await desk.ask(STATUS)).status == WRONG_SESSION

    played(play)


def test_numbers_wrap_at_65536() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        for number in (32767, 65534, 65535, 0, 1):
            assert (await desk.ask(ACQUIRE, u16(number) + CELLS)).payload == u16(15)
        assert (await desk.ask(ACQUIRE, u16(32769) + CELLS)).status == WRONG_NUMBER
        assert (await desk.ask(ACQUIRE, u16(32768) + CELLS)).payload == u16(15)

    played(play)


def test_a_body_without_a_whole_header_is_nothing() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        for size in range(1, 7):
            await desk.give(request(STATUS, b"", 1, desk.session)[:size])
        assert (await desk.ask(ECHO, b"x", tag=5))[:2] == (ECHO, 5)

    played(play)


def test_the_longest_body_is_echoed() -> None:
    async def play(desk: Desk) -> None:
        await desk.open()
        data = random.Random(5).randbytes(BOARD.max_body - 11)
        assert (await desk.ask(ECHO, data)).payload == data

    played(play)
