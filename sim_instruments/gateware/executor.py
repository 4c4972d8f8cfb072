"""Executes requests one after the other: session, numbers, memories, the kept reply; and drives the engine.

Every request that comes in gives one reply, but FIRE, which is answered when the engine has ended. The parts: Intake
holds the request, Judge says whether it may go on, Checker looks at programs, Table holds what is told, Sender sends,
Speed agrees on a speed. What is refused changes nothing, but that a refused ARM disarms.
"""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .checker import Checker
from .hardware import Hardware
from .intake import PAYLOAD_AT, PROGRAM_AT, UPLOAD_AT, Intake
from .judge import Judge
from .ports import BODY, EngineSignature
from .sender import Sender
from .speed import Speed
from .table import IDENTITY_AT, KEPT_AT, LIMITS_AT, LIVE_AT, TABLE_BYTES, Table
from .wire import FETCH_OVERHEAD, IDENTITY, LIMIT_BYTES, REPLY, STATUS_BYTES, Op, State, Status

ENGINE = wiring.Signature({name: port for name, port in EngineSignature().members.items() if name != "pins"})


class Told(IntEnum):
    """What is frozen in the table for a reply."""

    STATUS = 0
    COUNTS = 1
    SAMPLES = 2
    FETCHED = 3
    BAUD = 4
    INDEX = 5


BYTES_TOLD = {
    Told.STATUS: STATUS_BYTES, Told.COUNTS: 8, Told.SAMPLES: 2, Told.FETCHED: 3, Told.BAUD: 4, Told.INDEX: 1,
}  # fmt: skip


class Target(IntEnum):
    """Where bytes of a request are copied to."""

    TABLE = 0
    PROGRAM = 1
    READ = 2


class Executor(wiring.Component):
    """Takes bodies of requests, gives bodies of replies. `good`, `bad`: frames so far; `sent`: the line is empty now.

    `divisor`: ticks of one bit of the line. A reset of this circuit is the reset of the wire page.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        streams = {"bodies": In(BODY), "replies": Out(BODY), "good": In(32), "bad": In(32)}
        super().__init__({**streams, "sent": In(1), "divisor": Out(16), "engine": In(ENGINE)})

    def elaborate(self, _platform: object) -> Module:
        """One machine that waits, loads, judges and acts."""
        m = Module()
        self._registers()
        self._parts(m)
        self._memories(m)
        self._counters(m)
        self._tell(m)
        self._reply(m)
        with m.FSM():
            self._idle(m)
            self._load(m)
            self._act(m)
            self._hello(m)
            self._rest(m)
            self._speed_up(m)
            self._program(m)
            self._check(m)
            self._acquire(m)
            self._fetch(m)
            self._copy(m)
            self._freeze_and_send(m)
        return m

    # -- what there is ------------------------------------------------------------------------------------------------

    def _registers(self) -> None:
        self._session, self._limits_set, self._watchdog = Signal(32), Signal(), Signal(32)
        self._armed, self._same_crc, self._length, self._read_length = Signal(), Signal(), Signal(16), Signal(16)
        self._fired, self._kept_fire, self._kept_fence = Signal(16), Signal(), Signal()
        self._running, self._ended, self._kept_due, self._kept_tag = Signal(), Signal(), Signal(), Signal(16)
        self._acquired, self._acquired_any, self._samples, self._width = Signal(16), Signal(), Signal(16), Signal(3)
        self._uptime, self._since = Signal(64), Signal(32)
        # of the reply
        self._status, self._kept, self._telling = Signal(4), Signal(), Signal(Told)
        # of a copy
        longest, room = self.hardware.max_body, max(self.hardware.program_bytes, self.hardware.read_bytes, TABLE_BYTES)
        self._from, self._left, self._place = Signal(range(longest)), Signal(range(longest)), Signal(range(room + 1))
        self._target, self._too_long = Signal(Target), Signal()

    def _parts(self, m: Module) -> None:
        m.submodules.intake = self._intake = intake = Intake(self.hardware)
        m.submodules.judge = self._judge = judge = Judge(intake.depth)
        m.submodules.checker = self._checker = Checker(self.hardware)
        m.submodules.table = self._table = Table(self.hardware)
        m.submodules.sender = self._sender = Sender(max(intake.depth, self.hardware.samples, TABLE_BYTES))
        m.submodules.speed = self._speed = Speed(self.hardware)
        wiring.connect(m, wiring.flipped(self.bodies), intake.bodies)
        wiring.connect(m, self._sender.replies, wiring.flipped(self.replies))
        m.d.comb += intake.session.eq(self._session)
        for name in ("op", "length", "number", "second", "same_session"):
            m.d.comb += getattr(judge, name).eq(getattr(intake, name))
        m.d.comb += [judge.session.eq(self._session != 0), judge.acquiring.eq(self.engine.acquiring)]
        for name in ("kept_fire", "kept_fence", "running", "armed", "acquired_any", "fired", "acquired"):
            m.d.comb += getattr(judge, name).eq(getattr(self, f"_{name}"))

    def _memories(self, m: Module) -> None:
        """Each has one reader at a time: the engine while it runs, the checker, or the sender."""
        h, checker, sender, table, intake = self.hardware, self._checker, self._sender, self._table, self._intake
        m.submodules.program_memory = program = Memory(shape=8, depth=h.program_bytes, init=[])
        m.submodules.read_memory = read = Memory(shape=8, depth=h.read_bytes, init=[])
        m.submodules.sample_memory = samples = Memory(shape=32, depth=h.samples, init=[])
        self._program_write, program_read = program.write_port(), program.read_port()
        self._read_write, read_read = read.write_port(), read.read_port()
        sample_write, sample_read = samples.write_port(), samples.read_port()
        engine = self.engine
        m.d.comb += [
            program_read.addr.eq(Mux(self._running, engine.program_addr, checker.addr)),
            engine.program_data.eq(program_read.data),
            read_read.addr.eq(engine.read_addr),
            engine.read_data.eq(read_read.data),
            sample_write.addr.eq(engine.sample_addr),
            sample_write.data.eq(engine.sample_data),
            sample_write.en.eq(engine.sample_write),
            sample_read.addr.eq(sender.addr),
            sender.sample_data.eq(sample_read.data),
            checker.data.eq(Mux(checker.reading, intake.data, program_read.data)),
            checker.table_data.eq(table.data),
            sender.request_data.eq(intake.data),
            sender.table_data.eq(table.data),
            table.addr.eq(Mux(sender.busy, sender.addr, checker.table_addr)),
        ]

    def _counters(self, m: Module) -> None:
        engine, intake = self.engine, self._intake
        m.d.sync += [self._uptime.eq(self._uptime + 1), self._since.eq(self._since + 1)]
        m.d.comb += [engine.since.eq(self._since), engine.watchdog.eq(self._watchdog)]
        m.d.comb += [engine.length.eq(self._length), self.divisor.eq(self._speed.divisor)]
        with m.If(engine.ended):
            m.d.sync += self._ended.eq(1)
        good_before = Signal()
        m.d.sync += good_before.eq(self.good[0])
        m.d.comb += [self._speed.good.eq(self.good[0] ^ good_before), self._speed.sent.eq(self.sent)]
        m.d.comb += [self._speed.asked.eq(intake.tail), self._speed.sending.eq(self._sender.busy)]

    # -- what is told -------------------------------------------------------------------------------------------------

    def _status_now(self) -> Value:
        engine = self.engine
        quiet = Mux(self._armed, State.ARMED, State.IDLE)
        state = Mux(engine.stopping, State.STOPPING, Mux(engine.firing, State.FIRING, quiet))
        flags = Cat(engine.acquiring, self._limits_set, engine.tripped)
        counters = (engine.shots, engine.in_shot, engine.started, engine.done, self.good, self.bad, self._uptime)
        return Cat(_byte(state), _byte(engine.end), _byte(flags), self._fired, self._acquired, *counters)

    def _tell(self, m: Module) -> None:
        """What the table freezes."""
        engine, checker, told = self.engine, self._checker, self._table.told
        complete = self._acquired_any & ~engine.acquiring & ~engine.stopped
        first_bytes = {
            Told.COUNTS: Cat(checker.shots | Const(0, 32), checker.pulses),
            Told.SAMPLES: self._samples,
            Told.FETCHED: Cat(engine.ready, complete, engine.over, engine.stopped),
            Told.BAUD: self._speed.baud,
            Told.INDEX: checker.index,
        }
        m.d.comb += [told.eq(self._status_now()), self._table.at.eq(LIVE_AT)]
        with m.Switch(self._telling):
            for what, value in first_bytes.items():
                with m.Case(what):
                    m.d.comb += told[:64].eq(value)

    def _reply(self, m: Module) -> None:
        """The header, and the part of the reply that does not come from a memory's count."""
        intake, sender = self._intake, self._sender
        kept_op = Mux(self._kept_fire, Op.FIRE, Op.FENCE)
        op, tag = Mux(self._kept, kept_op, intake.op), Mux(self._kept, self._kept_tag, intake.tag)
        m.d.comb += sender.header.eq(Cat(op | REPLY, tag, self._session, self._status))
        m.d.comb += sender.width.eq(self._width)
        m.d.comb += intake.addr.eq(self._from)
        with m.If(sender.busy):
            m.d.comb += intake.addr.eq(sender.addr)
        with m.Elif(self._checker.reading):
            m.d.comb += intake.addr.eq(self._checker.addr)

    # -- the machine --------------------------------------------------------------------------------------------------

    def _idle(self, m: Module) -> None:
        """What became of a FIRE is frozen at once; its reply waits until another one has left."""
        sender, intake = self._sender, self._intake
        free = ~sender.busy & ~self._speed.changing
        with m.State("IDLE"):
            m.d.sync += self._telling.eq(Told.STATUS)
            with m.If(self._ended):
                m.d.sync += self._ended.eq(0)
                m.next = "KEEP"
            with m.Elif(free & self._kept_due):
                m.d.sync += self._kept_due.eq(0)
                self._send_kept(m)
            with m.Elif(free & self.bodies.valid):
                m.d.comb += intake.take.eq(1)
                m.next = "LOAD"
        with m.State("KEEP"):
            m.d.comb += [self._table.freeze.eq(1), self._table.at.eq(KEPT_AT)]
            m.next = "KEPT"
        with m.State("KEPT"), m.If(~self._table.busy):
            m.d.sync += [self._running.eq(0), self._kept_due.eq(1)]
            m.next = "IDLE"

    def _send_kept(self, m: Module) -> None:
        sender = self._sender
        m.d.sync += [self._status.eq(Status.OK), self._kept.eq(1)]
        m.d.sync += [sender.request_count.eq(0), sender.sample_count.eq(0)]
        m.d.sync += [sender.table_first.eq(KEPT_AT), sender.table_count.eq(STATUS_BYTES)]
        m.next = "SEND"

    def _load(self, m: Module) -> None:
        intake, sender = self._intake, self._sender
        with m.State("LOAD"):
            counts = (sender.request_count, sender.table_count, sender.sample_count)
            m.d.sync += [*(count.eq(0) for count in counts), self._kept.eq(0)]
            with m.If(intake.done):
                m.next = "JUDGE"
                with m.If(intake.runt):
                    m.next = "IDLE"
        with m.State("JUDGE"):
            m.next = "JUDGED"
            with m.If(intake.same_session & (self._session != 0)):
                m.d.sync += self._since.eq(0)
        with m.State("JUDGED"):
            m.next = "ACT"

    def _act(self, m: Module) -> None:
        judge, intake = self._judge, self._intake
        with m.State("ACT"):
            m.d.sync += self._status.eq(judge.status)
            m.next = "SEND"
            with m.If(judge.go):
                self._go(m)
            with m.Elif(judge.again & (intake.op == Op.ACQUIRE)):
                self._answer(m, Told.SAMPLES)
            with m.Elif(judge.again):
                self._send_kept(m)
            with m.Elif(judge.status == Status.TAKEN):
                self._answer(m, Told.STATUS)

    def _go(self, m: Module) -> None:
        """The commands, each with its own states."""
        with m.Switch(self._intake.op):
            for op in Op:
                with m.Case(op):
                    m.next = op.name

    def _answer(self, m: Module, what: Told) -> None:
        """The reply tells what is frozen now."""
        m.d.sync += self._telling.eq(what)
        self._from_table(m, LIVE_AT, BYTES_TOLD[what])
        m.next = "FREEZE"

    def _from_table(self, m: Module, first: int, count: int) -> None:
        m.d.sync += [self._sender.table_first.eq(first), self._sender.table_count.eq(count)]

    def _refuse(self, m: Module, status: Status) -> None:
        m.d.sync += self._status.eq(status)
        m.next = "SEND"

    def _hello(self, m: Module) -> None:
        """The first one begins the session; its counter runs on until the two make something else than 0."""
        table = self._table
        with m.State("HELLO"):
            self._from_table(m, IDENTITY_AT, IDENTITY.size)
            m.next = "SEND"
            with m.If(self._session == 0):
                m.next = "DRAW"
        with m.State("DRAW"):
            m.d.sync += self._session.eq(self._intake.tail ^ self._uptime[:32])
            m.next = "DRAWN"
        with m.State("DRAWN"):
            m.next = "DRAW"
            with m.If(self._session != 0):
                m.d.comb += [self.engine.clear.eq(1), table.freeze.eq(1), table.blank.eq(1), table.at.eq(LIMITS_AT)]
                m.next = "FROZEN"

    def _rest(self, m: Module) -> None:
        """Commands that end in a status: it is told two ticks after the engine was asked to rest."""
        with m.State("STATUS"):
            self._answer(m, Told.STATUS)
        with m.State("REST"):
            m.d.comb += self.engine.rest.eq(1)
            m.d.sync += self._armed.eq(0)
            m.next = "RESTING"
        with m.State("RESTING"):
            m.next = "RESTED"
        with m.State("RESTED"):
            m.next = "STATUS"
        with m.State("FENCE"):
            self._take_number(m, fire=False)
            m.next = "KEEP"

    def _take_number(self, m: Module, fire: bool) -> None:
        """Before the first volt: the number is taken, and the program disarmed."""
        intake = self._intake
        m.d.sync += [self._fired.eq(intake.number), self._kept_tag.eq(intake.tag), self._armed.eq(0)]
        m.d.sync += [self._kept_fire.eq(fire), self._kept_fence.eq(not fire)]

    def _speed_up(self, m: Module) -> None:
        speed, intake = self._speed, self._intake
        with m.State("SPEED"):
            m.d.comb += speed.ask.eq(1)
            m.next = "AGREE"
        with m.State("AGREE"), m.If(speed.answered):
            self._answer(m, Told.BAUD)
        with m.State("ECHO"):
            m.d.sync += [self._sender.request_first.eq(PAYLOAD_AT), self._sender.request_count.eq(intake.length)]
            m.next = "SEND"

    def _program(self, m: Module) -> None:
        h, intake, checker, sender = self.hardware, self._intake, self._checker, self._sender
        with m.State("UPLOAD"):
            count = intake.length - (UPLOAD_AT - PAYLOAD_AT)
            self._copy_to(m, Target.PROGRAM, UPLOAD_AT, intake.second, count)
            m.d.sync += self._too_long.eq(intake.second + count > h.program_bytes)
            m.d.sync += [sender.request_first.eq(PAYLOAD_AT + 2), sender.request_count.eq(2)]
            m.next = "ROOM"
        with m.State("ROOM"):
            with m.If(self._too_long):
                m.d.sync += sender.request_count.eq(0)
                self._refuse(m, Status.NO_ROOM)
            with m.Else():
                m.d.sync += self._armed.eq(self._armed & (self._place != 0))
                m.next = "COPY"
        with m.State("ARM"):
            m.d.sync += self._armed.eq(0)
            with m.If(intake.second > h.program_bytes):
                self._refuse(m, Status.NO_ROOM)
            with m.Else():
                m.d.sync += [checker.reading.eq(0), checker.first.eq(0), checker.count.eq(intake.second)]
                m.next = "CHECK"
        with m.State("FIRE"):
            with m.If(self._armed & self._same_crc):
                self._take_number(m, fire=True)
                m.d.sync += self._running.eq(1)
                m.d.comb += self.engine.fire.eq(1)
                m.next = "IDLE"
            with m.Else():
                self._refuse(m, Status.NOT_ARMED)

    def _check(self, m: Module) -> None:
        intake, checker = self._intake, self._checker
        m.d.comb += [checker.expected.eq(intake.tail), checker.closed.eq(~self._limits_set)]
        m.d.sync += self._same_crc.eq(checker.crc == intake.tail)
        with m.State("CHECK"):
            m.d.comb += checker.start.eq(1)
            m.next = "CHECKING"
        with m.State("CHECKING"), m.If(checker.done):
            m.d.sync += [self._status.eq(checker.status), checker.reading.eq(0)]
            m.next = "SEND"
            with m.If(checker.status == Status.LIMIT):
                self._answer(m, Told.INDEX)
            with m.Elif((checker.status == Status.OK) & checker.reading):
                m.next = "REPLACE"
            with m.Elif(checker.status == Status.OK):
                m.d.sync += [self._armed.eq(1), self._length.eq(intake.second)]
                self._answer(m, Told.COUNTS)

    def _acquire(self, m: Module) -> None:
        """The read memory is written when an acquisition that was under way has stopped."""
        intake, checker, engine = self._intake, self._checker, self.engine
        count = intake.length - (PROGRAM_AT - PAYLOAD_AT)
        m.d.comb += engine.read_length.eq(self._read_length)
        with m.State("ACQUIRE"):
            m.d.sync += [checker.reading.eq(1), checker.first.eq(PROGRAM_AT), checker.count.eq(count)]
            m.next = "CHECK"
        with m.State("REPLACE"):
            m.d.comb += engine.rest.eq(engine.acquiring)
            m.d.sync += self._read_length.eq(count)
            self._copy_to(m, Target.READ, PROGRAM_AT, Const(0, 16), count)
            with m.If(~engine.acquiring):
                m.next = "COPY"
        with m.State("START READ"):
            m.d.comb += engine.acquire.eq(1)
            m.d.sync += [self._acquired.eq(intake.number), self._acquired_any.eq(1)]
            m.d.sync += [self._samples.eq(checker.samples), self._width.eq(checker.width)]
            self._answer(m, Told.SAMPLES)

    def _fetch(self, m: Module) -> None:
        """What is ready is frozen and counted in the same tick."""
        intake, sender, ready = self._intake, self._sender, Signal(signed(17))
        most = [Const((self.hardware.max_body - FETCH_OVERHEAD) // width, 16) for width in (2, 3, 4)]
        with m.State("FETCH"):
            self._answer(m, Told.FETCHED)
            m.next = "FREEZE SAMPLES"
        with m.State("FREEZE SAMPLES"):
            m.d.comb += self._table.freeze.eq(1)
            m.d.sync += ready.eq(self.engine.ready - intake.second)
            m.d.sync += [sender.request_first.eq(PAYLOAD_AT), sender.request_count.eq(4)]
            m.next = "ANY SAMPLES"
        with m.State("ANY SAMPLES"):
            m.d.sync += [sender.sample_first.eq(intake.second), sender.sample_count.eq(Mux(ready < 0, 0, ready))]
            m.next = "ASKED SAMPLES"
        with m.State("ASKED SAMPLES"):
            self._at_most(m, sender.sample_count, intake.tail[16:])
            m.next = "ROOM FOR SAMPLES"
        with m.State("ROOM FOR SAMPLES"):
            by_width = Mux(self._width == 2, most[0], Mux(self._width == 3, most[1], most[2]))
            self._at_most(m, sender.sample_count, by_width)
            m.next = "FROZEN"

    def _at_most(self, m: Module, count: Signal, most: Value) -> None:
        with m.If(count > most):
            m.d.sync += count.eq(most)

    def _copy_to(self, m: Module, target: Target, first: int, place: Value, count: Value) -> None:
        m.d.sync += [self._target.eq(target), self._from.eq(first), self._place.eq(place), self._left.eq(count)]

    def _copy(self, m: Module) -> None:
        table, program, read, byte = self._table, self._program_write, self._read_write, self._intake.data
        m.d.comb += [table.place.eq(self._place), program.addr.eq(self._place), read.addr.eq(self._place)]
        m.d.comb += [table.byte.eq(byte), program.data.eq(byte), read.data.eq(byte)]
        with m.State("LIMITS"):
            self._from_table(m, LIMITS_AT, LIMIT_BYTES)
            self._copy_to(m, Target.TABLE, PAYLOAD_AT, Const(LIMITS_AT), Const(LIMIT_BYTES))
            m.next = "SEND"
            with m.If(self._intake.length != 0):
                m.d.sync += [self._limits_set.eq(1), self._armed.eq(0)]
                m.next = "COPY"
        with m.State("COPY"):
            m.next = "COPY BYTE"
        with m.State("COPY BYTE"):
            m.d.comb += table.write.eq(self._target == Target.TABLE)
            m.d.comb += program.en.eq(self._target == Target.PROGRAM)
            m.d.comb += read.en.eq(self._target == Target.READ)
            m.d.sync += [self._from.eq(self._from + 1), self._place.eq(self._place + 1), self._left.eq(self._left - 1)]
            with m.If(table.write):  # the last of the limits
                m.d.sync += self._watchdog.eq(Cat(self._watchdog[8:], byte))
            m.next = "COPY"
            with m.If(self._left == 1):
                m.next = "SEND"
                with m.If(self._target == Target.READ):
                    m.next = "START READ"

    def _freeze_and_send(self, m: Module) -> None:
        with m.State("FREEZE"):
            m.d.comb += self._table.freeze.eq(1)
            m.next = "FROZEN"
        with m.State("FROZEN"), m.If(~self._table.busy):
            m.next = "SEND"
        with m.State("SEND"):
            m.d.comb += self._sender.start.eq(1)
            m.d.comb += self._speed.begin.eq((self._intake.op == Op.SPEED) & (self._status == Status.OK) & ~self._kept)
            m.next = "IDLE"


def _byte(value: Value) -> Value:
    return value | Const(0, 8)
