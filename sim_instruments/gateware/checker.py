"""What is checked before any volt: ARM's programs and ACQUIRE's read programs, byte by byte from their memory.

There is time here (an array of 64 x 64 is checked in some milliseconds) and there are few gates: numbers are compared
one byte after the other, bits of masks one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.crc import Processor
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from .hardware import Hardware
from .table import IDENTITY_AT, LIMITS_AT, TIMES_AT
from .wire import MIN_GAP_AT, MIN_PERIOD_AT, Limit, Status

PAIRS = 8  # of levels: four alone, four as row and column
CHANNEL_BITS = 2
UNKNOWN_FLAGS = {3: 0b11110110, 4: 0b11111000}  # of a read program; bits that are 0


class Reader(wiring.Component):
    """Bytes of a memory in order, one in two ticks: `valid` when the memory shows the one at `addr`."""

    def __init__(self, most: int) -> None:
        """`most`: bytes of the memory."""
        self.size = range(most + 1)
        ports = {"start": In(1), "first": In(self.size), "count": In(self.size), "take": In(1)}
        super().__init__({**ports, "addr": Out(self.size), "valid": Out(1), "ended": Out(1)})

    def elaborate(self, _platform: object) -> Module:
        """An address that goes up and a number that goes down."""
        m = Module()
        left, settled = Signal(self.size), Signal()
        m.d.comb += [self.ended.eq(left == 0), self.valid.eq(settled & ~self.ended)]
        m.d.sync += settled.eq(1)
        with m.If(self.start):
            m.d.sync += [self.addr.eq(self.first), left.eq(self.count), settled.eq(0)]
        with m.Elif(self.take):
            m.d.sync += [self.addr.eq(self.addr + 1), left.eq(left - 1), settled.eq(0)]
        return m


class MaskWalk(wiring.Component):
    """Walks through `lines` x `across` bits: `hit` for a bit that is set; at the `end` of a line whether `some`
    or `all_set` of its bits were; `done` after the last, `wrong` if filling bits are set or the bytes ran out.
    """

    def __init__(self, most: int) -> None:
        self.size = range(most + 1)
        taken = {"start": In(1), "lines": In(self.size), "across": In(self.size), "byte": In(8)}
        given = dict.fromkeys(("hit", "end", "some", "all_set", "done", "wrong"), Out(1))
        super().__init__({**taken, "valid": In(1), "ended": In(1), "take": Out(1), **given})

    def elaborate(self, _platform: object) -> Module:
        """One bit in a tick, and two ticks for a new byte."""
        m = Module()
        lines, across, bits, left = Signal(self.size), Signal(self.size), Signal(8), Signal(3)
        self._first = Signal()  # bit of its line
        m.d.sync += [self.hit.eq(0), self.end.eq(0)]
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [lines.eq(self.lines), across.eq(self.across), self._first.eq(1)]
                m.next = "BYTE"
            with m.State("BYTE"):
                m.d.comb += self.take.eq(self.valid)
                m.d.sync += [bits.eq(self.byte), left.eq(7)]
                with m.If(self.ended):
                    m.next = "SHORT"
                with m.Elif(self.valid):
                    m.next = "BIT"
            with m.State("BIT"):
                self._bit(m, lines, across, bits, left)
            with m.State("FILLING"):
                m.d.comb += [self.done.eq(1), self.wrong.eq(bits != 0)]
                m.next = "IDLE"
            with m.State("SHORT"):
                m.d.comb += [self.done.eq(1), self.wrong.eq(1)]
                m.next = "IDLE"
        return m

    def _bit(self, m: Module, lines: Signal, across: Signal, bits: Signal, left: Signal) -> None:
        some, all_set = bits[0] | (self.some & ~self._first), bits[0] & (self.all_set | self._first)
        m.d.sync += [bits.eq(bits >> 1), left.eq(left - 1), across.eq(across - 1), self._first.eq(0)]
        m.d.sync += [self.hit.eq(bits[0]), self.some.eq(some), self.all_set.eq(all_set)]
        with m.If(left == 0):
            m.next = "BYTE"
        with m.If(across == 1):
            m.d.sync += [across.eq(self.across), lines.eq(lines - 1)]
            m.d.sync += [self._first.eq(1), self.end.eq(1)]
            with m.If(lines == 1):
                m.next = "FILLING"


class LevelCheck(wiring.Component):
    """Four levels against the limits of a line and of a cell; `passed` has a bit for each of the first four limits.

    The last 8 bytes that were shifted in are row A, row B, column A, column B (in a pulse A is selected); of a read the
    last 2 are its level. A level beyond what the converter has is beyond its limit, whatever the register says: its
    negative would come out with the other sign.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        taken = dict.fromkeys(("clear", "shift", "start", "reading", "waves"), In(1))
        table = {"table_addr": Out(8), "table_data": In(8)}
        super().__init__({**taken, "byte": In(8), **table, "done": Out(1), "passed": Out(4)})

    def elaborate(self, _platform: object) -> Module:
        """Five ticks for a comparison."""
        m = Module()
        self._levels, self._pair, self._again = Signal(64), Signal(range(PAIRS)), Signal()
        difference, magnitude, limit = Signal(signed(17)), Signal(16), Signal(2)
        low, over, beyond = Signal(8), Signal(), Signal()
        with m.If(self.shift):
            m.d.sync += self._levels.eq(Cat(self._levels[8:], self.byte))
        with m.If(self.clear):
            m.d.sync += self.passed.eq(0)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [self._pair.eq(Mux(self.reading, 3, 0)), self._again.eq(0)]
                m.next = "DIFFERENCE"
            with m.State("DIFFERENCE"):
                m.d.sync += [difference.eq(self._difference()), limit.eq(self._limit())]
                m.next = "MAGNITUDE"
            with m.State("MAGNITUDE"):
                m.d.comb += self.table_addr.eq(Cat(Const(0, 1), limit, Const(LIMITS_AT >> 3)))
                m.d.sync += magnitude.eq(Mux(difference < 0, -difference, difference))
                m.next = "LOW"
            with m.State("LOW"):
                m.d.comb += self.table_addr.eq(Cat(Const(1, 1), limit, Const(LIMITS_AT >> 3)))
                m.d.sync += [low.eq(self.table_data), beyond.eq(self._beyond(magnitude))]
                m.next = "HIGH"
            with m.State("HIGH"):
                m.d.sync += over.eq(beyond | (magnitude > Cat(low, self.table_data)))
                m.next = "NEXT"
            with m.State("NEXT"):
                for index in range(4):
                    with m.If(over & (limit == index)):
                        m.d.sync += self.passed[index].eq(1)
                self._next(m)
        return m

    def _difference(self) -> Signal:
        """0: row A, 1: row B, 2: column A, 3: column B; 4 to 7: A A, A B, B A, B B."""
        row_a, row_b, col_a, col_b = (self._levels.word_select(i, 16) for i in range(4))
        pair = self._pair
        row = Mux((pair == 1) | (pair >= 6), row_b, row_a) & ~((pair == 2) | (pair == 3)).replicate(16)
        col = Mux(pair[0], col_b, col_a) & ~(pair < 2).replicate(16)
        return row.as_signed() - col.as_signed()

    def _limit(self) -> Signal:
        alone = ~self._pair[2]
        of_line = Mux(self.reading, Limit.MAX_READ, Mux(self._again, Limit.MAX_CELL, Limit.MAX_LINE))
        of_cell = Mux(self.waves | (self._pair == 4), Limit.MAX_CELL, Limit.MAX_VICTIM)
        return Mux(alone, of_line, of_cell)

    def _beyond(self, magnitude: Signal) -> Signal:
        most = Mux(self.reading, self.hardware.read_max, self.hardware.pulse_max)
        return ~self._pair[2] & (magnitude > most)

    def _next(self, m: Module) -> None:
        """Waveforms: a line alone stands against a grounded one too, so it is a cell's difference as well."""
        m.next = "DIFFERENCE"
        with m.If(self.waves & ~self._pair[2] & ~self._again):
            m.d.sync += self._again.eq(1)
        with m.Else():
            m.d.sync += [self._pair.eq(self._pair + 1), self._again.eq(0)]
        with m.If(self.reading | (self._pair == PAIRS - 1)):
            m.d.comb += self.done.eq(1)
            m.next = "IDLE"


class TimeCheck(wiring.Component):
    """A time in ticks, `add`ed up from what was shifted in, against min_width (if `least`), max_width and watchdog."""

    def __init__(self) -> None:
        taken = dict.fromkeys(("clear", "shift", "add", "start", "least"), In(1))
        table = {"table_addr": Out(8), "table_data": In(8)}
        super().__init__({**taken, "byte": In(8), **table, "done": Out(1), "passed": Out(3)})

    def elaborate(self, _platform: object) -> Module:
        """Twelve bytes of limits pass by while the sum goes round three times."""
        m = Module()
        ticks, self._total, self._huge = Signal(32), Signal(32), Signal()
        self._at, self._borrow, self._carry = Signal(4), Signal(), Signal()
        with m.If(self.shift):
            m.d.sync += ticks.eq(Cat(ticks[8:], self.byte))
        with m.If(self.clear):
            m.d.sync += [self._total.eq(0), self._huge.eq(0), self.passed.eq(0)]
        with m.If(self.add):
            total = self._total + ticks
            m.d.sync += [self._total.eq(total), self._huge.eq(self._huge | total[32])]
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [self._at.eq(0), self._borrow.eq(0), self._carry.eq(0)]
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += self.table_addr.eq(Cat(self._at, Const(TIMES_AT >> 4)))
                m.next = "BYTE"
            with m.State("BYTE"):
                self._compare(m)
                m.next = "ADDRESS"
                with m.If(self._at == 11):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        return m

    def _compare(self, m: Module) -> None:
        """Least significant bytes first. A borrow from before turns `less` into `not more`; the watchdog has half."""
        time, last, low = Signal(8), self._at[:2] == 3, self._total[:8]
        m.d.comb += time.eq(Mux(self._at[3], Cat(self._carry, low[:7]), low))
        less = (time - self.table_data - self._borrow)[9]
        m.d.sync += [self._total.eq(self._total.rotate_right(8)), self._at.eq(self._at + 1)]
        m.d.sync += [self._borrow.eq(Mux(last, self._at[2:] == 0, less)), self._carry.eq(low[7] & ~last)]
        beyond = ~less | self._huge
        wrong = (less & self.least, beyond, beyond | low[7])  # below the least; more than the most; half the watchdog
        for index, passed in enumerate(wrong):
            with m.If(last & (self._at[2:] == index)):
                m.d.sync += self.passed[index].eq(passed)


class Checker(wiring.Component):
    """Checks the program of `count` bytes from `first` on in the memory at `addr` (its `data` follow a tick later).

    `start` is a strobe; with `reading` a read program is expected, without it one of pulses or a waveform whose CRC
    must be `expected`. At `done` (a strobe) `status` is OK, BAD_CRC, MALFORMED, NO_ROOM or LIMIT (`index`). Until the
    next start stay `shots` and `pulses`, or `samples` of `width` bytes that a read gives, and `crc`, that of the last
    program. Limits and identity are looked up in the table. `closed`: no limits were set, nothing is read.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self.size = range(max(hardware.program_bytes, hardware.max_body) + 1)
        most_shots = 8 * hardware.program_bytes  # a bit for each
        taken = {"start": In(1), "reading": In(1), "closed": In(1), "expected": In(32)}
        memory = {"first": In(self.size), "count": In(self.size), "addr": Out(self.size), "data": In(8)}
        table = {"table_addr": Out(8), "table_data": In(8)}
        found = {"shots": Out(range(most_shots + 1)), "pulses": Out(32), "samples": Out(16), "width": Out(3)}
        verdict = {"done": Out(1), "status": Out(4), "index": Out(3)}
        super().__init__({**taken, **memory, **table, **found, **verdict, "crc": Out(32)})

    def elaborate(self, _platform: object) -> Module:
        """One machine for the layout; masks, levels and times have their own."""
        m = Module()
        self._parts(m)
        self._registers()
        self._counts(m)
        self._compare_step(m)
        with m.FSM():
            self._begin(m)
            self._kind(m)
            self._pulse_head(m)
            self._record(m)
            self._lines(m)
            self._mask(m)
            self._levels_checked(m)
            self._read_head(m)
            self._vectors(m)
            self._end(m)
        return m

    def _parts(self, m: Module) -> None:
        h = self.hardware
        m.submodules.reader = self._reader = reader = Reader(self.size.stop - 1)
        m.submodules.walk = self._walk = walk = MaskWalk(max(h.rows, h.cols, CHANNEL_BITS))
        m.submodules.level_check = self._levels = levels = LevelCheck(h)
        m.submodules.time_check = self._times = times = TimeCheck()
        m.submodules.crc_processor = self._crc = crc = Processor(CRC32_ISO_HDLC(8))
        self._want, self._cursor = Signal(), Signal(8)
        m.d.comb += [reader.first.eq(self.first), reader.count.eq(self.count), self.addr.eq(reader.addr)]
        m.d.comb += [walk.byte.eq(self.data), walk.valid.eq(reader.valid), walk.ended.eq(reader.ended)]
        m.d.comb += [levels.byte.eq(self.data), levels.reading.eq(self.reading), times.byte.eq(self.data)]
        m.d.comb += [levels.clear.eq(self.start), times.clear.eq(self.start), self.crc.eq(crc.crc)]
        m.d.comb += [
            levels.table_data.eq(self.table_data),
            times.table_data.eq(self.table_data),
            crc.data.eq(self.data),
        ]
        m.d.comb += self.table_addr.eq(self._cursor | levels.table_addr | times.table_addr)  # 0 where nobody asks
        m.d.comb += reader.take.eq((self._want & reader.valid) | walk.take)

    def _registers(self) -> None:
        size = self._walk.size
        self._second = Signal()  # kind 2 or 4: waves, vectors
        self._bytes_taken, self._before = Signal(3), Signal(8)
        self._whole = Cat(self._before, self.data)
        self._borrow, self._less, self._step = Signal(), Signal(), Signal()  # of a comparison byte by byte
        self._axis = Signal()  # of the lines that are looked at: 0 word lines, 1 bit lines
        self._repeat, self._line0, self._beyond, self._lines_left = Signal(16), Signal(16), Signal(17), Signal(size)
        self._rows, self._cols, self._inputs_left, self._vectors_left = (Signal(s) for s in (size, size, size, 16))
        self._both, self._backward, self._every = Signal(), Signal(), Signal()
        self._three = Signal()  # a channel that does not exist
        self._count, self._more, self._many = Signal(18), Signal(size), Signal()

    @contextmanager
    def _taking(self, m: Module, name: str, size: int, *each: Signal) -> Iterator[None]:
        """A state that takes `size` bytes, with a strobe for `each`; what stands inside happens with the last one."""
        with m.State(name):
            m.d.comb += self._want.eq(1)
            with m.If(self._reader.ended):
                m.next = "MALFORMED"
            with m.Elif(self._reader.valid):
                m.d.comb += [strobe.eq(1) for strobe in each]
                m.d.sync += [self._before.eq(self.data), self._bytes_taken.eq(self._bytes_taken + 1)]
                with m.If(self._bytes_taken == size - 1):
                    m.d.sync += self._bytes_taken.eq(0)
                    yield

    def _counts(self, m: Module) -> None:
        """Shots, pulses and samples, a tick after what they count."""
        walk, shot = self._walk, Signal()
        m.d.sync += shot.eq(walk.end & walk.some & ~self.reading & ~self._second)
        with m.If(shot):
            m.d.sync += [self.shots.eq(self.shots + 1), self.pulses.eq(self.pulses + self._repeat)]
        with m.If(walk.end & walk.all_set & self._second):
            m.d.sync += self._three.eq(1)
        with m.If(walk.hit & self.reading):
            m.d.comb += self._more.eq(1)
        m.d.sync += self._count.eq(self._count + self._more)
        with m.If(self._count > self.hardware.samples):
            m.d.sync += self._many.eq(1)
        with m.If(self.start):
            zero = (self.shots, self.pulses, self._three, self._count, self._many)
            m.d.sync += [signal.eq(0) for signal in zero]

    def _begin(self, m: Module) -> None:
        with m.State("IDLE"):
            zero = (self._bytes_taken, self._borrow, self._axis, self._both, self._cursor)
            m.d.sync += [signal.eq(0) for signal in zero]
            m.d.comb += self._reader.start.eq(1)
            with m.If(self.start):
                m.next = "KIND"
                with m.If(~self.reading):
                    m.d.comb += self._crc.start.eq(1)
                    m.next = "CRC"
        with m.State("CRC"):
            m.d.comb += [self._want.eq(1), self._crc.valid.eq(self._reader.valid)]
            with m.If(self._reader.ended):
                m.next = "COMPARE"
        same = Signal()
        with m.State("COMPARE"):
            m.d.comb += self._reader.start.eq(1)
            m.d.sync += same.eq(self._crc.crc == self.expected)
            m.next = "COMPARED"
        with m.State("COMPARED"):
            m.next = "KIND"
            with m.If(~same):
                m.d.sync += self.status.eq(Status.BAD_CRC)
                m.next = "DONE"

    def _kind(self, m: Module) -> None:
        after = {(0, 1): "AXIS", (0, 2): "PERIOD", (1, 3): "FLAGS", (1, 4): "FLAGS"}
        with self._taking(m, "KIND", 1):
            m.next = "MALFORMED"
            m.d.sync += self._second.eq(~self.data[0])
            for (reading, kind), state in after.items():
                with m.If((self.reading == reading) & (self.data == kind)):
                    m.next = state
            with m.If(~self.reading):
                least = Mux(self.data[0], IDENTITY_AT + MIN_GAP_AT, IDENTITY_AT + MIN_PERIOD_AT)
                m.d.sync += self._cursor.eq(least)

    def _pulse_head(self, m: Module) -> None:
        with self._taking(m, "AXIS", 1):
            m.d.sync += self._axis.eq(self.data[0])
            m.next = "WIDTH"
            with m.If(self.data > 1):
                m.next = "MALFORMED"
        with self._taking(m, "WIDTH", 4, self._times.shift):
            m.next = "GAP"
        self._not_below(m, "GAP", "LEVELS")
        self._not_below(m, "PERIOD", "BEGIN MASK", self._times.shift)
        with self._taking(m, "LEVELS", 8, self._levels.shift):
            m.next = "BEGIN CHECK"

    def _not_below(self, m: Module, name: str, following: str, *each: Signal) -> None:
        """A time that must not be below the one of the identity where the cursor stands."""
        with self._taking(m, name, 4, self._step, *each):
            m.d.sync += self._cursor.eq(0)
            m.next = following
            with m.If(self._less):
                m.next = "MALFORMED"

    def _compare_step(self, m: Module) -> None:
        m.d.comb += self._less.eq((self.data - self.table_data - self._borrow)[9])
        with m.If(self._step):
            m.d.sync += [self._cursor.eq(self._cursor + 1), self._borrow.eq(self._less)]

    def _record(self, m: Module) -> None:
        with m.State("NEXT RECORD"):
            m.next = "SIGN"
            with m.If(self._reader.ended):
                m.next = "BEGIN TIMES"
        with self._taking(m, "SIGN", 1):
            m.next = "REPEAT"
            with m.If((self.data != 1) & (self.data != 2)):
                m.next = "MALFORMED"
        with self._taking(m, "REPEAT", 2):
            m.d.sync += self._repeat.eq(self._whole)
            m.next = "FIRST LINE"
            with m.If(self._whole == 0):
                m.next = "MALFORMED"

    def _lines(self, m: Module) -> None:
        """Lines of a record; rows, then columns of a region."""
        with self._taking(m, "FIRST LINE", 2):
            m.d.sync += self._line0.eq(self._whole)
            m.next = "LINES"
        with self._taking(m, "LINES", 2):
            m.d.sync += [self._lines_left.eq(self._whole), self._beyond.eq(self._line0 + self._whole)]
            m.next = "INSIDE"
            with m.If(self._whole == 0):
                m.next = "MALFORMED"
        with m.State("INSIDE"):
            self._inside(m)
            with m.If(self._beyond > Mux(self._axis, self.hardware.cols, self.hardware.rows)):
                m.next = "MALFORMED"

    def _inside(self, m: Module) -> None:
        with m.If(~self.reading):
            m.next = "BEGIN MASK"
        with m.Elif(~self._axis):
            m.d.sync += [self._rows.eq(self._lines_left), self._axis.eq(1)]
            m.next = "FIRST LINE"
        with m.Else():
            m.d.sync += self._cols.eq(self._lines_left)
            m.next = "LEVEL"
            with m.If(self._second):
                m.next = "VECTORS"

    def _mask(self, m: Module) -> None:
        """Bits of a record, channels of word lines and then of bit lines, cells of a region."""
        walk, h = self._walk, self.hardware
        of_axis, of_other = Mux(self._axis, h.cols, h.rows), Mux(self._axis, h.rows, h.cols)
        m.d.comb += walk.lines.eq(Mux(self.reading, self._rows, Mux(self._second, of_axis, self._lines_left)))
        m.d.comb += walk.across.eq(Mux(self.reading, self._cols, Mux(self._second, CHANNEL_BITS, of_other)))
        with m.State("BEGIN MASK"):
            m.d.comb += walk.start.eq(1)
            m.next = "MASK"
        with m.State("MASK"), m.If(walk.done):
            self._after_mask(m)
            with m.If(walk.wrong):
                m.next = "MALFORMED"

    def _after_mask(self, m: Module) -> None:
        with m.If(self.reading):
            m.next = "END"
        with m.Elif(~self._second):
            m.next = "NEXT RECORD"
        with m.Elif(~self._axis):
            m.d.sync += self._axis.eq(1)
            m.next = "BEGIN MASK"
        with m.Else():
            m.next = "LEVELS"

    def _levels_checked(self, m: Module) -> None:
        levels = self._levels
        m.d.comb += [levels.waves.eq(self._second), self._times.least.eq(~self._second)]
        with m.State("BEGIN CHECK"):
            m.d.comb += [levels.start.eq(1), self._times.add.eq(1)]
            m.next = "CHECK LEVELS"
        with m.State("CHECK LEVELS"), m.If(levels.done), m.Switch(Cat(self._second, self.reading)):
            for kind, state in enumerate(("NEXT RECORD", "NEXT SAMPLE", "CELLS", "NEXT LEVEL")):
                with m.Case(kind):
                    m.next = state
        with m.State("NEXT SAMPLE"):
            m.next = "LEVELS"
            with m.If(self._reader.ended):
                m.next = "BEGIN TIMES"
        with m.State("BEGIN TIMES"):
            m.d.comb += self._times.start.eq(1)
            m.next = "TIMES"
        with m.State("TIMES"), m.If(self._times.done):
            m.next = "JUDGE"
            with m.If(self._second):
                m.d.sync += [self.shots.eq(1), self.pulses.eq(1)]
            with m.If(self._three):
                m.next = "MALFORMED"

    def _read_head(self, m: Module) -> None:
        with self._taking(m, "FLAGS", 1):
            flags = (self._both, self._backward, Signal(), self._every)
            m.d.sync += Cat(flags).eq(self.data)
            m.next = "SAMPLE WIDTH"
            with m.If((self.data & Mux(self._second, UNKNOWN_FLAGS[4], UNKNOWN_FLAGS[3])) != 0):
                m.next = "MALFORMED"
        with self._taking(m, "SAMPLE WIDTH", 1):
            m.d.sync += self.width.eq(self.data)
            m.next = "AVERAGES"
            with m.If((self.data < 2) | (self.data > 4)):
                m.next = "MALFORMED"
        with self._taking(m, "AVERAGES", 2):
            m.next = "INTEGRATION"
            with m.If(self._whole == 0):
                m.next = "MALFORMED"
        with self._taking(m, "INTEGRATION", 4):
            m.next = "FIRST LINE"
        with self._taking(m, "LEVEL", 2, self._levels.shift):
            m.next = "BEGIN CHECK"

    def _vectors(self, m: Module) -> None:
        """The samples of a read are counted as it is walked through: lines of a region, outputs of a vector."""
        inputs, outputs = (Mux(self._backward, *pair) for pair in ((self._cols, self._rows), (self._rows, self._cols)))
        with m.State("CELLS"):
            m.d.sync += self._inputs_left.eq(self._rows)
            m.next = "BEGIN MASK"
            with m.If(self._every):
                m.next = "ALL CELLS"
        with m.State("ALL CELLS"):
            m.d.comb += self._more.eq(self._cols)
            m.d.sync += self._inputs_left.eq(self._inputs_left - 1)
            with m.If(self._inputs_left == 1):
                m.next = "END"
        with self._taking(m, "VECTORS", 2):
            m.d.sync += [self._vectors_left.eq(self._whole), self._inputs_left.eq(inputs)]
            m.next = "LEVEL"
            with m.If(self._whole == 0):
                m.next = "MALFORMED"
        with m.State("NEXT LEVEL"):
            m.d.sync += self._inputs_left.eq(self._inputs_left - 1)
            m.next = "LEVEL"
            with m.If(self._inputs_left == 1):
                m.d.comb += self._more.eq(outputs)
                m.d.sync += [self._inputs_left.eq(inputs), self._vectors_left.eq(self._vectors_left - 1)]
                with m.If(self._vectors_left == 1):
                    m.next = "END"

    def _end(self, m: Module) -> None:
        count = Signal(19)
        with m.State("END"):
            m.next = "ROOM"
            with m.If(~self._reader.ended):
                m.next = "MALFORMED"
        with m.State("ROOM"):  # the last sample is counted only now
            m.d.sync += count.eq(self._count << self._both)
            m.next = "JUDGE"
        passed = Cat(self._levels.passed, self._times.passed)
        with m.State("JUDGE"):
            self._judge(m, passed | ((self.reading & self.closed) << Limit.MAX_READ))
            m.d.sync += self.samples.eq(count)
            with m.If(
                self.reading & (self._many | (count > self.hardware.samples) | (self.count > self.hardware.read_bytes))
            ):
                m.d.sync += self.status.eq(Status.NO_ROOM)
            m.next = "DONE"
        with m.State("MALFORMED"):
            m.d.sync += self.status.eq(Status.MALFORMED)
            m.next = "DONE"
        with m.State("DONE"):
            m.d.comb += self.done.eq(1)
            m.next = "IDLE"

    def _judge(self, m: Module, passed: Signal) -> None:
        m.d.sync += self.status.eq(Status.OK)
        for index in reversed(Limit):
            with m.If(passed[index]):
                m.d.sync += [self.status.eq(Status.LIMIT), self.index.eq(index)]
