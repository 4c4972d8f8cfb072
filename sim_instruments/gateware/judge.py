"""What can be said of a request before its command is looked at: command, session, length, number, busy."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .wire import LIMIT_BYTES, MAX_ECHO, Op, Status

MOST = 65535  # whatever there is room for
LENGTHS = {  # of payloads: least and most; LIMITS has another one
    Op.HELLO: (4, 4), Op.STATUS: (0, 0), Op.LIMITS: (0, 0), Op.SPEED: (4, 4), Op.REST: (0, 0), Op.ECHO: (0, MAX_ECHO),
    Op.UPLOAD: (5, MOST), Op.ARM: (8, 8), Op.FIRE: (6, 6), Op.FENCE: (2, 2), Op.ACQUIRE: (2, MOST), Op.FETCH: (6, 6),
}  # fmt: skip


class Judge(wiring.Component):
    """The verdict on a request, two ticks after its fields: `go` (the command decides), or a `status`.

    `again`: a once-command whose kept reply goes out again, or an ACQUIRE that is answered as before. `kept_fire`,
    `kept_fence`: which command took the number `fired`; neither before the first. `acquired_any`: likewise.
    """

    def __init__(self, longest: int) -> None:
        """`longest`: bytes of a body."""
        self.longest = longest
        request = {"op": In(8), "length": In(range(longest)), "number": In(16), "second": In(16), "same_session": In(1)}
        names = ("session", "kept_fire", "kept_fence", "running", "armed", "acquiring", "acquired_any")
        state = {"fired": In(16), "acquired": In(16), **dict.fromkeys(names, In(1))}
        super().__init__({**request, **state, "go": Out(1), "again": Out(1), "status": Out(4)})

    def elaborate(self, _platform: object) -> Module:
        """Comparisons in the first tick, their order in the second."""
        m = Module()
        known, fits, mine, busy, ahead = Signal(), Signal(), Signal(), Signal(), Signal(16)
        of_reads = self._is(Op.ACQUIRE, Op.FETCH)
        m.d.sync += [ahead.eq(self.number - Mux(of_reads, self.acquired, self.fired)), busy.eq(self._busy())]
        m.d.sync += [known.eq(self._is(*Op)), fits.eq(self._fits())]
        m.d.sync += mine.eq((self.session & self.same_session) | self._is(Op.HELLO, Op.SPEED))
        again, status = self._numbered(m, ahead)
        m.d.sync += [self.go.eq(0), self.again.eq(0)]
        with m.If(~known):
            m.d.sync += self.status.eq(Status.UNKNOWN_OP)
        with m.Elif(~mine):
            m.d.sync += self.status.eq(Status.WRONG_SESSION)
        with m.Elif(~fits):
            m.d.sync += self.status.eq(Status.MALFORMED)
        with m.Elif(again | (status != Status.OK)):
            m.d.sync += [self.status.eq(status), self.again.eq(again)]
        with m.Else():
            m.d.sync += [self.status.eq(Mux(busy, Status.BUSY, Status.OK)), self.go.eq(~busy)]
        return m

    def _is(self, *ops: Op) -> Value:
        found: Value = self.op == ops[0].value
        for op in ops[1:]:
            found |= self.op == op.value
        return found

    def _fits(self) -> Value:
        fits: Value = self._is(Op.LIMITS) & (self.length == LIMIT_BYTES)
        for op, (least, most) in LENGTHS.items():
            bounded = self.length <= most if most < self.longest else Const(1)
            fits |= self._is(op) & (self.length >= least) & bounded
        return fits

    def _busy(self) -> Value:
        """Of commands that do not go on while the board fires or acquires, or while a program is armed."""
        either = self.running | self.acquiring
        setting = self._is(Op.LIMITS) & (self.length != 0)
        spoiling = self._is(Op.UPLOAD) & self.armed & (self.second != 0)
        waiting = self._is(Op.UPLOAD, Op.ARM, Op.ACQUIRE) & self.running
        return ((setting | self._is(Op.FIRE, Op.FENCE)) & either) | spoiling | waiting

    def _numbered(self, m: Module, ahead: Signal) -> tuple[Signal, Signal]:
        """Whether the number was answered already, and what is wrong with it."""
        again, status, same, following = Signal(), Signal(4), Signal(), Signal()
        m.d.comb += [same.eq(ahead == 0), following.eq(ahead == 1)]
        fires, fences = self._is(Op.FIRE), self._is(Op.FENCE)
        kept = (fires & self.kept_fire) | (fences & self.kept_fence)
        with m.If(fires | fences):
            m.d.comb += status.eq(Mux(following, Status.OK, Status.WRONG_NUMBER))
            with m.If(same & kept):
                m.d.comb += [again.eq(~self.running), status.eq(Mux(self.running, Status.RUNNING, Status.OK))]
            with m.Elif(same & (self.kept_fire | self.kept_fence)):
                m.d.comb += status.eq(Status.TAKEN)
        with m.Elif(self._is(Op.UPLOAD, Op.ARM)):
            m.d.comb += status.eq(Mux(following, Status.OK, Status.WRONG_NUMBER))
        with m.Elif(self._is(Op.ACQUIRE)):
            m.d.comb += again.eq(same & self.acquired_any)
            m.d.comb += status.eq(Mux(again | ~(same | ahead[15]), Status.OK, Status.WRONG_NUMBER))
        with m.Elif(self._is(Op.FETCH)):
            m.d.comb += status.eq(Mux(same & self.acquired_any, Status.OK, Status.WRONG_NUMBER))
        return again, status
