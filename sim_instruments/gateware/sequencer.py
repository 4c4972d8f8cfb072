"""Executes pulse programs and waveforms: chains are loaded with the gate low, then the gate is the pulse.

The program was checked before (checker.py). A wrong one could fire wrong pulses, but none that is longer than its
width, none beyond its end, and none that would outlast the watchdog.

Two choices that the wire leaves open: a line whose level is code 0 is driven at 0 V, and not switched to ground, so
that all lines of a pulse have the same source resistance; and a FIRE that REST met has ended as RESTED (or CUT) even
if the pulse that was on happened to be its last.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .chains import ChainsSignature
from .cursor import Bits, Lines, Reader, Wait, Words, line_bits, negated
from .hardware import Hardware

PULSES_LEVELS, PULSES_HEAD, WAVES_HEAD = 10, 18, 5  # bytes before levels and records; before the channel fields
WAVES = 2
DEPRESS = 2
SAMPLE_BYTES = 8
RECORD_BYTES = 7
LATENCY = 2  # ticks between `since` as it was compared and the gate at its pin, less one


class End(IntEnum):
    """How a FIRE ended, as STATUS has it."""

    NONE = 0
    COMPLETE = 1
    RESTED = 2
    WATCHDOG = 3
    CUT = 4


class Levels(wiring.Component):
    """Brings the next four codes of a program into the bus words of the converters; `loaded` until the next start.

    `cease` leaves off: what waits for codes that never come would take the bytes of the next program.
    """

    def __init__(self) -> None:
        super().__init__({"start": In(1), "cease": In(1), "loaded": Out(1)})
        self.fetch = Words()

    def elaborate(self, _platform: object) -> Module:
        """Four words, one after the other."""
        m = Module()
        m.submodules.fetch = fetch = self.fetch
        left = Signal(range(5))
        m.d.comb += [fetch.wanted.eq(left != 0), fetch.drop.eq(self.start), self.loaded.eq(left == 0)]
        with m.If(self.start):
            m.d.sync += left.eq(4)
        with m.Elif(self.cease):
            m.d.sync += left.eq(0)
        with m.Elif(fetch.words.valid & fetch.words.ready):
            m.d.sync += left.eq(left - 1)
        return m


class Sequencer(wiring.Component):
    """See EngineSignature, whose names these are. `silent`: the watchdog has run out. `gate` is one tick early."""

    def __init__(self, hardware: Hardware) -> None:
        check_period(hardware)
        self._hardware = hardware
        strobes = ("fire", "rest", "clear", "silent")
        counters = {name: Out(32) for name in ("shots", "started", "done")}
        flags = {name: Out(1) for name in ("firing", "stopping", "ended", "gate", "tripped")}
        super().__init__(
            {
                **{name: In(1) for name in strobes},
                **{name: In(32) for name in ("since", "watchdog")},
                **counters,
                **flags,
                "length": In(16),
                "program_addr": Out(16),
                "program_data": In(8),
                "in_shot": Out(16),
                "end": Out(3),
                "load": Out(ChainsSignature()),
            }
        )
        self._reader, self._lines, self._bits, self._levels = Reader(), Lines(hardware), Bits(), Levels()
        self._calm = Wait(max(hardware.settle, hardware.min_gap))
        # what the program says
        self._wave, self._axis, self._negate = Signal(), Signal(), Signal()
        self._width, self._period = Signal(32), Signal(32)  # period: of samples, or the gap between pulses
        self._repeat, self._lines_of_record = Signal(16), (Signal(16), Signal(16))
        # of the line and of how many are left only so many bits count as the array has lines
        self._line, self._left_lines = (number[: line_bits(hardware)] for number in self._lines_of_record)
        # where it stands
        self._field, self._mark, self._count, self._any = Signal(3), Signal(16), Signal(16), Signal()
        self._left, self._off, self._latest = Signal(32), Signal(32), Signal(signed(33))
        self._resting, self._fits, self._soon = Signal(), Signal(), Signal()
        self._stop = Signal()

    def elaborate(self, _platform: object) -> Module:
        """One machine; two timers and the stop signals run beside it."""
        m = Module()
        m.submodules.reader, m.submodules.lines, m.submodules.bits = self._reader, self._lines, self._bits
        m.submodules.levels, m.submodules.calm = self._levels, self._calm
        self._wire(m)
        self._watch(m)
        self._clear(m)
        with m.FSM() as fsm:
            m.d.comb += self.firing.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                self._idle(m)
            for name, step in self._steps().items():
                with m.State(name):
                    self._unless_stopped(m, step)
            with m.State("ON"):
                self._on(m)
        return m

    def _steps(self) -> dict[str, Callable[[Module], None]]:
        """The states in which the gate is low and a stop ends the program at once."""
        return {
            "HEAD": self._head,
            "WIDTH": self._take_width,
            "DEADLINE": self._deadline,
            "RECORD": self._record,
            "LEVELS": self._load_levels,
            "LINES": self._load_lines,
            "LATCH": self._latch,
            "SUM": self._sum,
            "READY": self._ready,
        }

    # -- what goes on beside the states -------------------------------------------------------------------------------

    def _wire(self, m: Module) -> None:
        reader, bits, fetch = self._reader, self._bits, self._levels.fetch
        for user in (bits, fetch):
            given = user.source
            m.d.comb += [
                given.byte.eq(reader.bytes.byte),
                given.valid.eq(reader.bytes.valid),
                given.dry.eq(reader.bytes.dry),
            ]
        with m.If(bits.source.next | fetch.source.next):
            m.d.comb += reader.bytes.next.eq(1)
        m.d.comb += [
            reader.length.eq(self.length),
            self.program_addr.eq(reader.addr),
            reader.data.eq(self.program_data),
            self.load.words.payload.eq(negated(fetch.words.payload, self._negate)),
            self.load.words.valid.eq(fetch.words.valid),
            fetch.words.ready.eq(self.load.words.ready),
            bits.pair.eq(self._wave),
        ]

    def _watch(self, m: Module) -> None:
        """What REST and the watchdog ask for, and whether a pulse that began now would be over in time."""
        m.d.sync += self._fits.eq(self.since < self._latest)
        with m.If(self.rest & self.firing):
            m.d.sync += self._resting.eq(1)
        m.d.comb += [
            self._soon.eq(self._left <= self._hardware.grace),
            self._stop.eq(self._resting | self.silent),
            self.stopping.eq(self._resting & self.gate),
        ]
        m.d.sync += self.ended.eq(0)
        with m.If(self._off != 0):
            m.d.sync += self._off.eq(self._off - 1)

    def _clear(self, m: Module) -> None:
        with m.If(self.clear):
            m.d.sync += [self.shots.eq(0), self.started.eq(0), self.done.eq(0), self.in_shot.eq(0)]
            m.d.sync += [self.end.eq(End.NONE), self.tripped.eq(0)]

    def _unless_stopped(self, m: Module, step: Callable[[Module], None]) -> None:
        with m.If(self._stop):
            self._finish(m, Mux(self._resting, End.RESTED, End.WATCHDOG))
        with m.Else():
            step(m)

    def _finish(self, m: Module, end: End | Value) -> None:
        m.d.comb += self._levels.cease.eq(1)
        m.d.sync += [self.gate.eq(0), self.end.eq(end), self.ended.eq(1)]
        with m.If(self.silent & ~self._resting):
            m.d.sync += self.tripped.eq(1)
        m.next = "IDLE"

    # -- the states ---------------------------------------------------------------------------------------------------

    def _idle(self, m: Module) -> None:
        with m.If(self.fire):
            m.d.comb += self._reader.jump.eq(1)
            m.d.sync += [self._resting.eq(0), self._negate.eq(0), self._field.eq(0)]
            m.d.sync += [self.in_shot.eq(0), self.end.eq(End.NONE)]
            m.next = "HEAD"

    def _head(self, m: Module) -> None:
        """Kind; axis of a pulse program; then width and gap, or the period alone."""
        bytes_, addr = self._reader.bytes, self._reader.addr[:4]
        with m.If(bytes_.valid):
            m.d.comb += bytes_.next.eq(1)
            with m.If(addr == 0):
                m.d.sync += self._wave.eq(bytes_.byte == WAVES)
            with m.Elif((addr == 1) & ~self._wave):
                m.d.sync += self._axis.eq(bytes_.byte[0])
            with m.Else():
                m.d.sync += Cat(self._width, self._period).eq(Cat(self._width, self._period, bytes_.byte)[8:])
            with m.If(self._wave & (addr == WAVES_HEAD - 1)):
                self._to_lines(m)
            with m.If(~self._wave & (addr == PULSES_LEVELS - 1)):
                m.next = "WIDTH"
        self._end_if_dry(m)

    def _take_width(self, m: Module) -> None:
        m.d.sync += self._left.eq(self._width)
        m.next = "DEADLINE"

    def _deadline(self, m: Module) -> None:
        """The last `since` at which a pulse may begin; `left` is how long every pulse of this program lasts."""
        m.d.sync += self._latest.eq(self.watchdog - self._left - LATENCY)
        with m.If(self._wave):
            self._to_levels(m)
        with m.Else():
            self._jump(m, Const(PULSES_HEAD, 16))
            m.next = "RECORD"

    def _record(self, m: Module) -> None:
        """Sign, repeat, first, lines; without one the program is complete."""
        bytes_ = self._reader.bytes
        numbers = Cat(self._repeat, *self._lines_of_record)
        with m.If(bytes_.valid):
            m.d.comb += bytes_.next.eq(1)
            m.d.sync += self._field.eq(self._field + 1)
            with m.If(self._field == 0):
                m.d.sync += self._negate.eq(bytes_.byte == DEPRESS)
            with m.Else():
                m.d.sync += numbers.eq(Cat(numbers, bytes_.byte)[8:])
            with m.If(self._field == RECORD_BYTES - 1):
                m.d.sync += [self._mark.eq(self._reader.addr + 1), self._field.eq(0)]
                m.d.comb += [self._reader.jump.eq(1), self._reader.target.eq(PULSES_LEVELS)]
                self._to_levels(m)
        self._end_if_dry(m)

    def _to_levels(self, m: Module) -> None:
        m.d.comb += self._levels.start.eq(1)
        m.next = "LEVELS"

    def _load_levels(self, m: Module) -> None:
        """Takes the four bus words over; for a record the lines follow, for a waveform they are there."""
        with m.If(self._levels.loaded & self.load.idle):
            self._take_levels(m)
            self._wait(m, self._hardware.settle)
            with m.If(self._wave):
                m.next = "READY"
            with m.Else():
                self._jump(m, self._mark)
                self._to_lines(m)
        with m.Elif(self._levels.fetch.starved):
            self._finish(m, End.COMPLETE)

    def _take_levels(self, m: Module) -> None:
        """Takes over, and has the next four words of a waveform brought."""
        m.d.comb += [self.load.take.eq(1), self._levels.start.eq(self._wave)]

    def _to_lines(self, m: Module) -> None:
        m.d.comb += [self._lines.restart.eq(1), self._bits.drop.eq(1)]
        m.d.sync += self._any.eq(0)
        m.next = "LINES"

    def _load_lines(self, m: Module) -> None:
        """One setting for every line: channels of a waveform, or the line of the shot against its mask."""
        lines, bits, settings = self._lines, self._bits, self.load.settings
        masked = self._wave | (lines.column != self._axis)
        chosen = Mux(masked, bits.bits[0], lines.number == self._line)
        m.d.comb += [
            bits.wanted.eq(masked),
            settings.valid.eq(~masked | bits.valid),
            settings.payload.eq(Mux(self._wave, bits.bits, Mux(chosen, 1, 2))),
        ]
        with m.If(settings.valid & settings.ready):
            m.d.comb += [lines.next.eq(1), bits.take.eq(masked), bits.drop.eq(self._wave & lines.turn)]
            with m.If(masked & (settings.payload == 1)):
                m.d.sync += self._any.eq(1)
            with m.If(lines.last):
                m.next = "LATCH"
        with m.If(bits.starved):
            self._finish(m, End.COMPLETE)

    def _latch(self, m: Module) -> None:
        with m.If(self.load.idle):
            m.d.sync += self._count.eq(self._repeat)
            with m.If(self._wave):
                m.d.comb += self.load.latch.eq(1)
                m.d.sync += [self._left.eq(0), self._count.eq((self.length - self._reader.addr) >> 3)]
                m.next = "SUM"
            with m.Elif(self._any):
                m.d.comb += self.load.latch.eq(1)
                self._wait(m, self._hardware.min_gap)
                m.next = "READY"
            with m.Else():
                self._next_line(m)

    def _sum(self, m: Module) -> None:
        """How long a waveform is: its period, so many times."""
        m.d.sync += [self._left.eq(self._left + self._period), self._count.eq(self._count - 1)]
        with m.If(self._count == 0):
            m.d.sync += [self._left.eq(self._left), self._count.eq(1)]
            m.next = "DEADLINE"

    def _next_line(self, m: Module) -> None:
        m.d.sync += [self._line.eq(self._line + 1), self._left_lines.eq(self._left_lines - 1)]
        with m.If(self._left_lines <= 1):
            m.next = "RECORD"
        with m.Else():
            m.d.comb += self._lines.restart.eq(1)
            m.d.sync += self._any.eq(0)
            m.next = "LINES"

    def _ready(self, m: Module) -> None:
        """Waits until a pulse may begin; it is counted now, and the gate rises a tick later."""
        with m.If((self._off <= 1) & self._calm.over & self._fits):
            m.d.sync += [self.started.eq(self.started + 1), self.gate.eq(self._left != 0)]
            with m.If(self._wave):
                m.d.sync += self._off.eq(self._period)
            m.next = "ON"

    def _on(self, m: Module) -> None:
        """A pulse is on. It ends by itself, is cut off, or has its levels changed at the tick of a sample."""
        m.d.sync += self._left.eq(self._left - 1)
        with m.If(self._left <= 1):
            self._pulse_over(m)
        with m.Elif(self.silent | (self._resting & ~self._soon)):
            self._finish(m, End.CUT)
        with m.Elif(self._wave & (self._off == 1)):
            self._take_levels(m)
            m.d.sync += self._off.eq(self._period)

    def _pulse_over(self, m: Module) -> None:
        m.d.sync += [self.gate.eq(0), self.done.eq(self.done + 1), self.in_shot.eq(self.in_shot + 1)]
        m.d.sync += [self._left.eq(self._width), self._off.eq(Mux(self._wave, 0, self._period))]
        m.d.sync += self._count.eq(self._count - 1)
        m.next = "READY"
        with m.If(self._count <= 1):
            m.d.sync += [self.shots.eq(self.shots + 1), self.in_shot.eq(0)]
            self._next_line(m)
        with m.If(self._stop):
            self._finish(m, Mux(self._resting, End.RESTED, End.WATCHDOG))
        with m.Elif(self._wave):
            self._finish(m, End.COMPLETE)

    # -- small words of the states ------------------------------------------------------------------------------------

    def _jump(self, m: Module, target: Signal | Const) -> None:
        m.d.comb += [self._reader.jump.eq(1), self._reader.target.eq(target)]

    def _wait(self, m: Module, ticks: int) -> None:
        m.d.comb += [self._calm.start.eq(1), self._calm.least.eq(ticks)]

    def _end_if_dry(self, m: Module) -> None:
        with m.If(self._reader.bytes.dry):
            self._finish(m, End.COMPLETE)


def check_period(hardware: Hardware) -> None:
    """A sample's four words must be in the chain before its period is over. Raises ValueError if they cannot."""
    least = 4 * (16 * 2 * hardware.dac_div + 2) + 8
    if hardware.min_period < least:
        raise ValueError(f"min_period {hardware.min_period}: four converter words need {least} ticks")
