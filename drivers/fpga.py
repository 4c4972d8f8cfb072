"""A bench on an FPGA board: converters and line switches behind a serial line, one crossbar in front.

A pulse is fired under a number that the board executes once (docs/fpga-wire.md), so the request to fire may be repeated
until it is answered. Afterwards both ends count; only a board that restarted meanwhile leaves a doubt.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Callable, Iterator
from math import nan, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neurobench.bench import frames
from neurobench.bench.crossbar import (
    Applied,
    Capabilities,
    Crossbar,
    Done,
    Identity,
    NotDone,
    Outcome,
    Outputs,
    Reading,
    Unknown,
    Witness,
)
from neurobench.bench.frames import BoardStatus, End, Op, Reply, Request, Status
from neurobench.bench.limits import pulsed_cells
from neurobench.bench.stimulus import CellRead, FloatArray, Play, Read, ShotList, Shots
from neurobench.errors import (
    CapabilityMissing,
    InstrumentError,
    LimitExceeded,
    LinkLost,
    Refused,
    UsageError,
)

from ._fpga_link import Asked, Link, PortLost, words
from ._fpga_open import FpgaDriver
from ._fpga_plan import Plan
from ._fpga_read import Reader
from ._outputs import Driven

if TYPE_CHECKING:
    from neurobench.bench.config import BenchConfig
    from neurobench.bench.crossbar import Hearer
    from neurobench.bench.limits import Limits
    from neurobench.bench.steps import DeviceSpan

TRIES = 4  # how often a program is loaded, or a read begun, anew
POLL_S = 0.02
WRAP = 2**32
MOST_FENCES = 8
LATE_S = 10.0  # how much longer than twice its pulses a program may last until its board counts as stuck
ENDS: dict[int, str] = {
    End.RESTED: "the bench was brought to rest",
    End.CUT: "it was cut off inside a pulse",
    End.WATCHDOG: "it heard nothing from this computer for too long",
}


class _Program(NamedTuple):
    """What the board is given at once: how many shots and pulses, its bytes, how long it takes."""

    shots: int
    pulses: int
    code: bytes
    lasts_s: float

    @property
    def crc(self) -> int:
        return zlib.crc32(self.code)


class _Staged(NamedTuple):
    seq: int
    shots: ShotList
    programs: list[_Program]
    number: int  # of the FIRE that comes next
    witness: Witness


class _Baseline(NamedTuple):
    """What a witness keeps: session, and the board's counts of shots and of pulses begun."""

    session: int
    shots: int
    started: int

    def witness(self) -> Witness:
        return Witness(self.shots, f"{self.session:08x}.{self.started}")

    @classmethod
    def of(cls, witness: Witness) -> _Baseline | None:
        session, _, started = witness.nonce.partition(".")
        try:
            return cls(int(session, 16), witness.counter, int(started))
        except ValueError:
            return None


class _Known(NamedTuple):
    """How many shots of a stimulus were fired for certain; `sure`: and no other, for no further FIRE has gone out."""

    seq: int
    shots: int
    sure: bool


class FpgaCrossbar(Crossbar):
    """A board with a chip on it. It cannot tell a simulated board from a real one; the board says what it is."""

    def __init__(
        self,
        link: Link,
        config: BenchConfig,
        span: DeviceSpan,
        backend: str = "fpga",
        harm: Callable[[], list[str]] = list,
        letting_go: Callable[[], None] = lambda: None,
        chip_id: str = "",
    ) -> None:
        self.link, self._config, self._span, self._backend = link, config, span, backend
        self._harm, self._letting_go, self._chip_id = harm, letting_go, chip_id
        self._clock, self._baud = link.clock, link.baud
        self._plan = Plan(link.known, config)
        self._reader = Reader(link, self._plan, self._keep_on, lambda: self._unless_halted("the read was stopped"))
        self._capabilities = self._plan.capabilities()
        self._limits: Limits | None = None
        self._limited = 0  # the session in which the board has them
        self._staged: _Staged | None = None
        self._last: tuple[int, ShotList] | None = None  # what this process staged last
        self._nothing = -1  # the last sequence number that was staged without a pulse
        self._triggered = -1  # the last one of which it sent a FIRE
        self._under_way = True  # whether a FIRE may still come late: one of this process, or of one that died
        self._began_s = nan
        self._known = _Known(-1, 0, sure=True)
        self._answers: dict[int, Applied] = {}
        self._seen: tuple[int, BoardStatus] | None = None  # session, and the counters after the last FIRE
        self._halted = threading.Event()
        self._gate = threading.RLock()  # held while a FIRE goes out: rest() comes before or after
        self._resting = threading.RLock()
        self._closed = False
        self._driven = Driven(self._gate, self._halted, Outputs())  # whoever opens it brings it to rest

    @property
    def capabilities(self) -> Capabilities:
        """What this board can do with this chip."""
        return self._capabilities

    def identity(self) -> Identity:
        """The board in its own words."""
        has = self.link.known
        details: dict[str, Any] = {
            "board": f"{has.serial:x}",
            "firmware": has.firmware,
            "url": self._config.board.url,
            "baud": self._baud,
            "clock_hz": has.clock_hz,
            "lines": [has.rows, has.cols],
            "converters": {"adc_bits": has.adc_bits, "adc_step_a": has.adc_step_a, "read_step_v": has.read_step_v,
                           "pulse_step_v": has.pulse_step_v},
            "watchdog_s": self._config.board.watchdog_s,
            "read_topology": self._capabilities.read_topology,
            "half_select": self._span.half_select,
        }  # fmt: skip
        chip_id = self._config.chip.id or self._chip_id or f"unnamed chip on {self._config.bench.name}"
        return Identity(self._backend, has.simulated, chip_id, details)

    # -- pulses: staging -----------------------------------------------------------------------------------------

    def stage(self, seq: int, shots: ShotList) -> Witness:
        """Load the (first) program and let the board check it; all lines stay grounded."""
        if shots.shape != self._capabilities.shape:
            raise UsageError(f"the shots are for {shots.shape} cells, the bench has {self._capabilities.shape}")
        if seq <= self._triggered:
            raise UsageError(f"sequence number {seq} was used: the last one triggered is {self._triggered}")
        programs = self._programs(shots)
        self._go_on()
        self._staged = None
        self._make_sure()
        self._prepare()
        status = self._counts()
        witness = _Baseline(self.link.session, status.shots, status.started).witness()
        if not programs:
            self._nothing, self._last = seq, (seq, shots)
            return witness
        number = _after(status.fired)
        self._load(number, programs[0])
        with self._unless_halted("what was staged is undone"):
            self._staged, self._last = _Staged(seq, shots, programs, number, witness), (seq, shots)
        return witness

    def _programs(self, shots: ShotList) -> list[_Program]:
        if isinstance(shots, Play):
            return [_Program(1, 1, self._plan.play(shots), shots.duration_s)]
        found, first = [], 0
        for n, code in self._plan.programs(shots):
            last = first + n
            pulses = int(shots.repeat[first:last].sum())
            if n:
                found.append(_Program(n, pulses, code, self._plan.pulses_s(shots, first, last)))
            first = last
        return found

    def _go_on(self) -> None:
        """A call begins: what an earlier rest() stopped may go on. One that is under way comes to its end first."""
        with self._resting:
            self._halted.clear()

    def _prepare(self) -> None:
        """After a restart of the board its limits are set again before anything."""
        self._settled(self.link.wake)
        if self._limited != self.link.session or not self.link.session:
            self._seen = None
            self._settled(self.link.status)
            if self._limits is not None:
                self._settled(self._set_limits)

    def _make_sure(self) -> None:
        """A FIRE that may still be under way, also one of a process that died, must not find its number free again."""
        if self._under_way:
            self._settled(self._fenced)
            self._seen, self._under_way = None, False

    def _settled(self, ask: Callable[[], Any]) -> Any:
        """Ask, and again if the board turns out to have restarted: nothing was on its way there.

        One restart shows twice: as silence at the speed of before, and then as another session.
        """
        for _ in range(2):
            with contextlib.suppress(LinkLost):
                return ask()
        return ask()

    def _counts(self) -> BoardStatus:
        """The board's counters when nothing moves: as it said last, if nothing has been lost since."""
        seen, self._seen = self._seen, None
        return self._idle() if seen is None or seen[0] != self.link.session else seen[1]

    def _idle(self) -> BoardStatus:
        """The board's status when nothing moves: what an interrupted read left behind is stopped first."""
        status = self.link.status()
        return self._rested() if status.acquiring or status.firing else status

    def _rested(self) -> BoardStatus:
        """Bring the board to rest, and see it there. Only REST is said: it passes a thread that hangs in the port."""
        for _ in range(200):
            status = self.link.read_as(BoardStatus.unpack, self.link.expect(Op.REST))
            if not (status.firing or status.acquiring):
                return status
            self._clock.sleep(POLL_S / 4)
        raise InstrumentError(f"{self.link.name} does not come to rest")

    def _load(self, number: int, program: _Program) -> None:
        """Upload and arm, until the board says that it holds this very program, and may fire it."""
        reply = None
        for _ in range(TRIES):
            repeated = self.link.counts.repeated
            reply = self.link.ask_all(self._uploads(number, program))[-1]
            if self.link.counts.repeated != repeated:
                # It was asked before all parts had come, or a late one has disarmed it.
                reply = self.link.ask(Op.ARM, self._arm(number, program))
            if reply.status == Status.OK:
                return self._check_armed(program, reply)
            if reply.status not in (Status.BAD_CRC, Status.MALFORMED, Status.BUSY):
                raise self._no(reply)
            self._idle()
        said = words(reply) if reply else ""
        raise InstrumentError(f"{self.link.name} does not take a program of {len(program.code)} bytes: {said}")

    def _check_armed(self, program: _Program, reply: Reply) -> None:
        """The board has counted what it would fire: it must have understood what was meant."""
        counted = self.link.read_as(frames.ARMED.unpack, reply.payload)
        if counted != (program.shots, program.pulses):
            self.link.expect(Op.REST)
            raise InstrumentError(
                f"{self.link.name} counts {counted[0]} shots of {counted[1]} pulses in a program of {program.shots} of "
                f"{program.pulses}: it does not speak the language of this driver"
            )

    def _uploads(self, number: int, program: _Program) -> list[Asked]:
        size = self.link.known.longest_payload - frames.UPLOAD.size
        code = program.code
        parts = [
            Asked(Op.UPLOAD, frames.UPLOAD.pack(number, at) + code[at : at + size], 20)
            for at in range(0, len(code), size)
        ]
        return [*parts, Asked(Op.ARM, self._arm(number, program), 30)]

    def _arm(self, number: int, program: _Program) -> bytes:
        return frames.ARM.pack(number, len(program.code), program.crc)

    def _no(self, reply: Reply) -> Exception:
        """What a refusal means to the caller."""
        said = f"{self.link.name} refuses: {words(reply)}"
        if reply.status == Status.LIMIT:
            return LimitExceeded(f"{said} (its limit registers hold the limits of bench {self._config.bench.name})")
        if reply.status == Status.CHIP:
            return Refused(said)
        if reply.status == Status.NO_ROOM:
            return CapabilityMissing(said)
        return LinkLost(f"{said}; it was disturbed")

    # -- pulses: firing ------------------------------------------------------------------------------------------

    def fire(self, seq: int) -> Applied:
        """Fire what was staged, each program once. LinkLost: ask `outcome`."""
        if seq in self._answers:
            return self._answers[seq]
        staged = self._staged
        if seq == self._nothing and staged is None:
            now_s = self._clock.now_s()
            self._answers = {seq: Applied(0, 0, now_s, now_s)}
            return self._answers[seq]
        if staged is None or staged.seq != seq:
            raise LinkLost(f"step {seq} is not staged (any more): the bench was brought to rest; nothing was fired")
        self._staged, self._began_s, done = None, self._clock.now_s(), 0
        self._known = _Known(seq, 0, sure=True)
        self._refuse_other_session(staged)
        with self._driven.driving():
            for k, program in enumerate(staged.programs):
                number = (staged.number + k) & 0xFFFF
                if k:
                    self._load_next(number, program)
                self._fire_once(seq, number, program)
                done += program.shots
                self._known = _Known(seq, done, sure=True)
                self._under_way = False
        self._driven.say(Outputs(False, "read back"))  # the board has said that the last of them has ended
        self._answers = {seq: self._applied(staged.shots, done)}
        return self._answers[seq]

    def _load_next(self, number: int, program: _Program) -> None:
        """What is refused now was not refused before the first pulse: no longer the caller's mistake."""
        try:
            self._load(number, program)
        except Refused as refused:
            raise InstrumentError(f"the rest was not fired: {refused}") from refused

    def _refuse_other_session(self, staged: _Staged) -> None:
        base = _Baseline.of(staged.witness)
        if base is None or base.session != self.link.session:
            raise LinkLost(f"{self.link.name} has restarted since step {staged.seq} was staged; nothing was fired")

    def _fire_once(self, seq: int, number: int, program: _Program) -> None:
        """Send the FIRE of one program and see it end; it is repeated as often as it takes."""
        tag = self.link.new_tag(Op.FIRE)
        request = Request(Op.FIRE, tag, self.link.session, frames.FIRE.pack(number, program.crc))
        try:
            for _ in range(TRIES):
                if self._delivered(seq, request, number, program):
                    return
                self._load_next(number, program)  # a late copy of an UPLOAD had disarmed it: certainly not fired
        finally:
            self.link.forget(tag)
        raise LinkLost(f"{self.link.name} was disarmed {TRIES} times before it fired step {seq}")

    def _delivered(self, seq: int, request: Request, number: int, program: _Program) -> bool:
        """Whether it was fired to its end; False: the board was not armed, so this number was not executed."""
        alive_s = min(POLL_S, self._plan.alive_s)
        end_s = self._clock.now_s() + 2 * program.lasts_s + LATE_S
        for _ in range(1 + self.link.settings.retries):
            reply = None
            with contextlib.suppress(PortLost):  # whether it has gone out, the board is asked below
                self._send_fire(seq, request)
                reply = self.link.wait(request.tag, min(program.lasts_s + self.link.settings.timeout_s, alive_s))
            while reply is None or reply.status == Status.RUNNING:
                status = self.link.status()  # also: the watchdog is kept quiet
                if not (status.firing and status.fired == number):
                    break
                self._driven.say(Outputs(True, "read back"))
                if self._clock.now_s() > end_s:
                    raise LinkLost(f"{self.link.name} says that FIRE {number} of step {seq} goes on, and it cannot be")
                reply = self.link.wait(request.tag, alive_s)
            if reply is not None and reply.status != Status.RUNNING:
                ended = self._ended(seq, number, reply)
                if ended or self.link.status().fired != number:
                    return ended
            # It never arrived, or has ended and its reply was lost, or is older than the last loading: the board knows.
            self.link.counts.repeated += 1
        raise LinkLost(f"{self.link.name} does not answer FIRE {number} of step {seq}")

    def _send_fire(self, seq: int, request: Request) -> None:
        with self._unless_halted(f"step {seq} was not fired (further)"):
            self._triggered, self._seen = seq, None
            self._known, self._under_way = self._known._replace(sure=False), True
            self.link.send(request)

    @contextlib.contextmanager
    def _unless_halted(self, what: str) -> Iterator[None]:
        """What must not be done after a rest() is done before it, or not at all."""
        with self._gate:
            self._refuse_halted(what)
            yield

    def _refuse_halted(self, what: str) -> None:
        if self._halted.is_set():
            raise InstrumentError(f"{what}: the bench was brought to rest")

    def _ended(self, seq: int, number: int, reply: Reply) -> bool:
        """Whether a reply says that all was fired; False: that the board was not armed."""
        if reply.status == Status.WRONG_SESSION:
            raise self.link.restarted()
        if reply.status == Status.NOT_ARMED:
            self._refuse_halted(f"step {seq} was not fired (further)")
            return False
        if reply.status != Status.OK:
            raise LinkLost(f"{self.link.name} answers {words(reply)} to FIRE of step {seq}")
        status = self.link.read_as(BoardStatus.unpack, reply.payload)
        if status.fired != number:
            raise LinkLost(f"{self.link.name} answers FIRE {number} of step {seq} with the end of {status.fired}")
        if status.end != End.COMPLETE:
            raise InstrumentError(f"{self.link.name} stopped step {seq}: {ENDS.get(status.end, 'unknown')}")
        self._seen = self.link.session, status
        return True

    def _applied(self, shots: ShotList, done: int) -> Applied:
        if isinstance(shots, Shots):
            pulses = int(np.diff(shots.indptr)[:done].astype(np.int64) @ shots.repeat[:done])
        else:
            pulses = done * pulsed_cells(shots.waveforms, self._span)
        return Applied(done, pulses, self._began_s, self._clock.now_s())

    # -- pulses: what became of them -----------------------------------------------------------------------------

    def outcome(self, seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        """What became of `seq`: by what this process saw, else by the board's counters since the witness.

        Before it answers, the number of a FIRE that may still be on its way is taken by a FENCE: it cannot come later.
        """
        if seq in self._answers:
            return Done(self._answers[seq])
        if self._last is not None and seq >= max(self._last[0], self._triggered + 1):
            return NotDone()  # it was staged here and not triggered, or not even staged
        here = self._last[1] if self._last is not None and self._last[0] == seq else None
        shots = here if here is not None else shots
        known = self._known.shots if self._known.seq == seq else 0
        base = _Baseline.of(witness)
        if shots is None or base is None:
            return Unknown(known, "what was staged is not known here")
        if seq == self._known.seq and self._known.sure:
            return self._so_many(seq, shots, known)
        self._go_on()
        self._seen = None
        status = self._settled(self._fenced)
        if self.link.session != base.session:
            return Unknown(known, "the board restarted, and with it went its counters")
        return self._counted(seq, shots, base, status)

    def _fenced(self) -> BoardStatus:
        """The board's status after which no FIRE that is still under way can be executed."""
        for _ in range(MOST_FENCES):
            status = self._until_over()
            reply = self.link.ask(Op.FENCE, frames.FENCE.pack(_after(status.fired)))
            if reply.status == Status.OK:
                return self.link.read_as(BoardStatus.unpack, reply.payload)
        raise LinkLost(f"{self.link.name} does not take a FENCE: its numbers move on")

    def _until_over(self) -> BoardStatus:
        """Wait for the end of what is being fired; asking keeps the watchdog quiet."""
        while True:
            status = self.link.status()
            if status.acquiring:
                return self._idle()
            if not status.firing:
                return status
            self._refuse_halted("what is being fired is not waited for")
            self._clock.sleep(min(POLL_S, self._plan.alive_s))

    def _counted(self, seq: int, shots: ShotList, base: _Baseline, status: BoardStatus) -> Outcome:
        done = (status.shots - base.shots) % WRAP
        begun = (status.started - base.started) % WRAP
        repeats = shots.repeat.astype(np.int64) if isinstance(shots, Shots) else np.ones(1, np.int64)
        more = begun - int(repeats[:done].sum())
        if done > len(repeats) or not 0 <= more <= int(repeats[done : done + 1].sum()):
            return Unknown(
                min(done, len(repeats)), "the board counts what this step cannot have been: others fired on it"
            )
        if more:
            return Unknown(
                done, f"{more} of the {int(repeats[done])} pulses of its next shot were begun, and it was stopped there"
            )
        return self._so_many(seq, shots, done)

    def _so_many(self, seq: int, shots: ShotList, done: int) -> Outcome:
        """So many shots were fired, and the rest of them will not be."""
        if not done:
            self._triggered = min(self._triggered, seq - 1)  # it may be staged again
            return NotDone()
        if self._known.seq != seq:  # another process fired it; when, is not known here
            self._began_s = self._clock.now_s()
        self._answers = {seq: self._applied(shots, done)}
        return Done(self._answers[seq])

    # -- reads ---------------------------------------------------------------------------------------------------

    def sense(self, read: Read) -> Reading:
        """Acquire on the board, then fetch; asked again after a loss, nothing is read twice for the same samples."""
        refusal = self._capabilities.refusal(read)
        if refusal:
            raise CapabilityMissing(f"this board cannot do {refusal}")
        self._go_on()
        self._sleep(read.delay_s)
        self._prepare()
        start_s = self._clock.now_s()
        flags: set[str] = set()
        with self._driven.driving():
            currents_a = self._read(read, flags)
        self._driven.say(Outputs(False, "read back") if self._reader.ended else Outputs())
        if isinstance(read, CellRead):
            volts = np.full((1, 1), read.voltage_v)
            energy_j = float(np.abs(currents_a).sum()) * abs(read.voltage_v) * read.integration_s * read.averages
        else:
            volts, energy_j = read.volts, nan  # what flows into the inputs is not measured
        sigma_a = self._sigma_a(volts, currents_a, read.averages)
        end_s, range_a = self._clock.now_s(), self._plan.range_a
        return Reading(currents_a, sigma_a, range_a, start_s, end_s, energy_j, tuple(sorted(flags)))

    def _read(self, read: Read, flags: set[str]) -> FloatArray:
        """Acquire and fetch. What is left unfinished, in whatever way, is stopped: after it all lines are grounded."""
        try:
            if isinstance(read, CellRead):
                return self._reader.cells(read, flags)
            return self._reader.vectors(read, flags)
        except BaseException:
            self._seen = None
            with contextlib.suppress(LinkLost):  # then the watchdog stops it
                self.link.send(Request(Op.REST, 0, self.link.session))
            raise

    def _sleep(self, seconds: float) -> None:
        """Wait, in slices so that an abort does not have to."""
        end_s = self._clock.now_s() + seconds
        while (left_s := end_s - self._clock.now_s()) > 0 and not self._halted.is_set():
            self._clock.sleep(min(left_s, POLL_S))

    def _keep_on(self) -> None:
        self._refuse_halted("the read was stopped")

    def _sigma_a(self, volts: FloatArray, currents_a: FloatArray, averages: int) -> float:
        """Standard deviation of one current: the declared noise of the devices (nan: none is), and the rounding."""
        span, step_a = self._span, self.link.known.adc_step_a
        power = float((volts**2).sum(axis=1).mean())
        variance = span.read_sigma_s**2 * power
        if span.read_sigma_relative:
            # of several cells that share a current nobody knows the shares: they count as in the middle of their range
            single = volts.shape[1] == 1
            squares = float(np.mean(currents_a**2)) if single else power * ((span.g_min_s + span.g_max_s) / 2) ** 2
            variance += span.read_sigma_relative**2 * squares
        return sqrt(variance / averages + step_a**2 / 12)

    # -- time and safety -----------------------------------------------------------------------------------------

    @property
    def clock_s(self) -> float:
        """Time of the bench in seconds."""
        return self._clock.now_s()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._clock.sleep(seconds)

    def harm(self) -> list[str]:
        """What a simulated board says has hurt its chip."""
        return self._harm()

    def enforce(self, limits: Limits) -> None:
        """Set the board's limit registers and compare what it answers."""
        self._limits, self._limited = limits, 0
        self._settled(self._set_limits)

    def _set_limits(self) -> None:
        assert self._limits is not None
        wanted = self._plan.registers(self._limits)
        session = self.link.session
        self._idle()
        self._plan.read_most = wanted.max_read
        stands = self.link.read_as(frames.LimitRegisters.unpack, self.link.expect(Op.LIMITS, wanted.pack()))
        if stands != wanted:
            raise InstrumentError(f"{self.link.name} was told the limits {wanted}, it answers {stands}")
        self._limited = session if session == self.link.session else 0

    def rest(self) -> None:
        """Lines to ground. From any thread: it cuts off what is going on."""
        self._halt()
        with self._resting:
            if not self._closed:
                with self._driven.resting():
                    self._settled(self._rested)

    def outputs(self) -> Outputs:
        """Whether lines are driven, as the board's words said last."""
        return self._driven.now

    def overhear(self, hear: Hearer | None) -> None:
        """Every request to the board and every reply of it, in words."""
        self.link.hear = hear

    def _halt(self) -> None:
        """No FIRE from here on."""
        held = self._gate.acquire(timeout=POLL_S)  # a link that hangs must not keep the lines driven
        try:
            self._halted.set()
            self._staged = None
        finally:
            if held:
                self._gate.release()

    def close(self) -> None:
        """Rest and let go of the port."""
        with self._resting:
            if self._closed:
                return
            try:
                self.rest()
            finally:
                self._closed = True
                self.link.close()
                self._letting_go()


def _after(number: int) -> int:
    return (number + 1) & 0xFFFF


plugin = FpgaDriver("fpga", FpgaCrossbar)
