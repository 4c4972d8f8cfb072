"""Executes read programs: levels and ammeters on the lines, conversions summed, samples in the order of the wire.

Every step (one word line of a cell read, one vector, each at one polarity) loads its chains with the gate low, waits
until the converters have settled, connects the lines, waits again, and converts `averages` times. The last conversion
ends with the gate low, so that no cell is loaded while its data come in.
"""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .chains import ChainsSignature
from .cursor import Bits, Lines, Reader, Wait, Words, line_bits, negated
from .hardware import Hardware

VECTORS = 4
BOTH, BACKWARD, FLOATING, EVERY = range(4)  # bits of the flags
FIRST_NUMBER = 3  # averages and what follows; before it kind, flags and width
HEAD = 19  # bytes before the mask of cells or the levels of vectors
DRIVEN, AMMETER = 1, 3
BUSES = 4
SUM = 32


def _signature(hardware: Hardware) -> dict[str, wiring.Member]:
    strobes = ("acquire", "rest", "clear", "silent", "adc_idle", "adc_valid")
    flags = ("acquiring", "over", "stopped", "tripped", "gate", "convert", "float_idle", "adc_start", "sample_write")
    return {
        **{name: In(1) for name in strobes},
        **{name: Out(1) for name in flags},
        **{name: Out(16) for name in ("read_addr", "sample_addr", "ready")},
        "read_length": In(16),
        "read_data": In(8),
        "sample_data": Out(SUM),
        "adc_word": In(hardware.adc_bits),
        "load": Out(ChainsSignature()),
    }


class Acquirer(wiring.Component):
    """See EngineSignature, whose names these are. `silent`: the watchdog has run out. `adc`: of AdcChain."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        super().__init__(_signature(hardware))
        self._reader, self._lines, self._bits, self._words = Reader(), Lines(hardware), Bits(), Words()
        self._calm = Wait(max(hardware.settle, hardware.convert))
        # what the program says
        self._vectors, self._flags, self._averages, self._integration = Signal(), Signal(4), Signal(16), Signal(32)
        self._region = tuple(Signal(16) for _ in range(4))
        # only so many bits of it count as the array has lines
        bits = line_bits(hardware)
        self._row0, self._rows, self._col0, self._cols = (number[:bits] for number in self._region)
        self._value = Signal(16)  # the level of cells, or how many vectors are left
        # where it stands
        self._line, self._mark, self._negate = Signal(bits), Signal(16), Signal()
        self._times, self._first, self._timer = Signal(16), Signal(), Signal(32)
        self._buses = Signal(range(BUSES + 1))
        self._any = Signal()  # of them
        self._read_out = Signal(hardware.rows + hardware.cols)  # lines whose current is asked for, turned line by line
        # what the present line of the array is
        self._inside, self._drives, self._offset = Signal(), Signal(), Signal(bits + 1)

    def elaborate(self, _platform: object) -> Module:
        """One machine; the sums run beside it."""
        m = Module()
        m.submodules.reader, m.submodules.lines, m.submodules.bits = self._reader, self._lines, self._bits
        m.submodules.words, m.submodules.calm = self._words, self._calm
        self._wire(m)
        self._place(m)
        self._sum(m)
        with m.FSM() as fsm:
            m.d.comb += self.acquiring.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                self._begin_if_asked(m)
            for name, step in self._steps().items():
                with m.State(name):
                    self._unless_stopped(m, step)
        with m.If(self.clear):
            m.d.sync += [self.ready.eq(0), self.over.eq(0), self.stopped.eq(0), self.tripped.eq(0)]
        return m

    def _steps(self) -> dict[str, Callable[[Module], None]]:
        return {
            "HEAD": self._head,
            "LINES": self._load_lines,
            "LATCH": self._latch,
            "LEVELS": self._load_levels,
            "BUSES": self._load_buses,
            "TAKE": self._take,
            "QUIET": self._quiet,
            "SETTLE": self._settle,
            "CONVERT": self._converting,
            "DATA": self._data,
            "NEXT": self._next,
        }

    # -- what goes on beside the states -------------------------------------------------------------------------------

    def _wire(self, m: Module) -> None:
        reader = self._reader
        for user in (self._bits, self._words):
            given = user.source
            m.d.comb += [
                given.byte.eq(reader.bytes.byte),
                given.valid.eq(reader.bytes.valid),
                given.dry.eq(reader.bytes.dry),
            ]
            with m.If(given.next):
                m.d.comb += reader.bytes.next.eq(1)
        m.d.comb += [
            reader.length.eq(self.read_length),
            self.read_addr.eq(reader.addr),
            reader.data.eq(self.read_data),
            self.float_idle.eq(self.acquiring & self._vectors & self._flags[FLOATING]),
        ]

    def _place(self, m: Module) -> None:
        """Whether the present line lies in the region, and whether it is driven."""
        lines, backward = self._lines, self._flags[BACKWARD]
        first, count = Mux(lines.column, self._col0, self._row0), Mux(lines.column, self._cols, self._rows)
        m.d.comb += [
            self._offset.eq(lines.number - first),  # far beyond any region for lines before it
            self._inside.eq(self._offset < count),
            self._drives.eq(
                Mux(
                    self._vectors,
                    self._inside & (lines.column == backward),
                    ~lines.column & (self._offset == self._line),
                )
            ),
        ]

    def _sum(self, m: Module) -> None:
        """Sums of the lines so far; read while a word comes in."""
        lines = self._lines
        depth = 2 << len(lines.number)
        m.submodules.sums = sums = Memory(shape=SUM, depth=depth, init=[])
        get, put = sums.read_port(), sums.write_port()
        word = self.adc_word.as_signed()
        m.d.comb += [
            get.addr.eq(Cat(lines.number, lines.column)),
            put.addr.eq(get.addr),
            put.data.eq(Mux(self._first, 0, get.data) + word),
            put.en.eq(self.adc_valid),
            self.sample_addr.eq(self.ready),
            self.sample_data.eq(put.data),
        ]

    def _unless_stopped(self, m: Module, step: Callable[[Module], None]) -> None:
        with m.If(self.rest | self.silent):
            self._stop(m)
            m.d.sync += self.tripped.eq(self.tripped | ~self.rest)
        with m.Else():
            step(m)
        self._begin_if_asked(m)

    def _begin_if_asked(self, m: Module) -> None:
        """Also in the midst of another acquisition, which is replaced."""
        with m.If(self.acquire):
            self._off(m)
            m.d.comb += [self._reader.jump.eq(1), self._reader.target.eq(0)]
            m.d.sync += [self.ready.eq(0), self.over.eq(0), self.stopped.eq(0), self._line.eq(0), self._negate.eq(0)]
            m.next = "HEAD"

    def _stop(self, m: Module) -> None:
        self._off(m)
        m.d.sync += self.stopped.eq(1)
        m.next = "IDLE"

    def _off(self, m: Module) -> None:
        m.d.sync += [self.gate.eq(0), self.convert.eq(0)]

    # -- the states ---------------------------------------------------------------------------------------------------

    def _head(self, m: Module) -> None:
        bytes_, addr = self._reader.bytes, self._reader.addr[:5]
        numbers = Cat(self._averages, self._integration, *self._region, self._value)
        with m.If(bytes_.valid):
            m.d.comb += bytes_.next.eq(1)
            with m.If(addr == 0):
                m.d.sync += self._vectors.eq(bytes_.byte == VECTORS)
            with m.If(addr == 1):
                m.d.sync += self._flags.eq(bytes_.byte)
            with m.If(addr >= FIRST_NUMBER):
                m.d.sync += numbers.eq(Cat(numbers, bytes_.byte)[8:])
            with m.If(addr == HEAD - 1):
                self._bits_anew(m)
                self._to_lines(m)
        with m.If(bytes_.dry):
            self._stop(m)

    def _bits_anew(self, m: Module) -> None:
        m.d.comb += [self._bits.drop.eq(1), self._words.drop.eq(1)]

    def _to_lines(self, m: Module) -> None:
        m.d.comb += self._lines.restart.eq(1)
        m.d.sync += self._any.eq(0)
        m.next = "LINES"

    def _load_lines(self, m: Module) -> None:
        """One setting for every line; which lines are read out is kept."""
        lines, bits, settings = self._lines, self._bits, self.load.settings
        sensed = Mux(self._vectors, self._inside & ~self._drives, lines.column & self._inside)
        masked = ~self._vectors & ~self._flags[EVERY] & sensed
        read_out = Signal()
        m.d.comb += [
            bits.wanted.eq(masked),
            read_out.eq(sensed & (~masked | bits.bits[0])),
            settings.valid.eq(~masked | bits.valid),
            settings.payload.eq(Mux(self._drives, DRIVEN, Mux(read_out, AMMETER, 0))),
        ]
        with m.If(settings.valid & settings.ready):
            m.d.comb += [lines.next.eq(1), bits.take.eq(masked)]
            m.d.sync += [self._read_out.eq(Cat(self._read_out[1:], read_out)), self._any.eq(self._any | read_out)]
            with m.If(lines.last):
                m.next = "LATCH"
        with m.If(bits.starved):
            self._stop(m)

    def _latch(self, m: Module) -> None:
        """A word line without a selected cell has no step."""
        with m.If(~self._any):
            self._next_line(m)
        with m.Elif(self.load.idle):
            m.d.comb += self.load.latch.eq(1)
            m.d.sync += self._mark.eq(self._reader.addr)
            self._to_levels(m)

    def _to_levels(self, m: Module) -> None:
        m.d.comb += self._lines.restart.eq(1)
        m.next = "LEVELS"

    def _load_levels(self, m: Module) -> None:
        """A read level for every line, 0 where it is not driven."""
        lines, fetched, words = self._lines, self._words.words, self.load.words
        level = negated(Mux(self._vectors, fetched.payload, self._value), self._negate)
        m.d.comb += [
            self._words.wanted.eq(self._vectors & self._drives),
            fetched.ready.eq(words.ready),
            words.valid.eq(~self._words.wanted | fetched.valid),
            words.payload.eq(Mux(self._drives, level, 0)),
        ]
        with m.If(words.valid & words.ready):
            m.d.comb += lines.next.eq(1)
            with m.If(lines.last):
                m.d.sync += self._buses.eq(BUSES - 1)
                m.next = "BUSES"
        with m.If(self._words.starved):
            self._stop(m)

    def _load_buses(self, m: Module) -> None:
        """The words of the buses, which nothing uses in a read, are 0."""
        m.d.comb += self.load.words.valid.eq(1)
        with m.If(self.load.words.ready):
            m.d.sync += self._buses.eq(self._buses - 1)
            with m.If(self._buses == 0):
                m.next = "TAKE"

    def _take(self, m: Module) -> None:
        with m.If(self.load.idle):
            m.d.comb += self.load.take.eq(1)
            self._wait(m, self._hardware.settle)
            m.next = "QUIET"

    def _quiet(self, m: Module) -> None:
        """The converters settle with all lines grounded: what they held before may have been anything."""
        with m.If(self._calm.over):
            m.d.sync += [self.gate.eq(1), self._times.eq(self._averages), self._first.eq(1)]
            self._wait(m, self._hardware.settle)
            m.next = "SETTLE"

    def _settle(self, m: Module) -> None:
        with m.If(self._calm.over):
            self._begin_conversion(m)

    def _begin_conversion(self, m: Module) -> None:
        m.d.sync += [self.convert.eq(1), self._timer.eq(self._integration)]
        self._wait(m, self._hardware.convert - 1)
        m.next = "CONVERT"

    def _converting(self, m: Module) -> None:
        with m.If(self._timer > 1):
            m.d.sync += self._timer.eq(self._timer - 1)
        with m.Elif(self._calm.over & self.adc_idle):
            m.d.comb += self._lines.restart.eq(1)
            m.d.sync += [self.convert.eq(0), self.gate.eq(self._times > 1)]
            m.next = "DATA"

    def _data(self, m: Module) -> None:
        """The words of all lines; with the last conversion a sum is a sample."""
        last, taken = self._times <= 1, self._read_out[0]
        m.d.comb += self.adc_start.eq(self.adc_idle & ~self.adc_valid)
        with m.If(self.adc_valid):
            m.d.comb += [self._lines.next.eq(1), self.sample_write.eq(last & taken)]
            m.d.sync += self._read_out.eq(self._read_out.rotate_right(1))
            m.d.sync += [self.ready.eq(self.ready + self.sample_write)]
            with m.If(taken & _full_scale(self.adc_word)):
                m.d.sync += self.over.eq(1)
            with m.If(self._lines.last):
                m.d.sync += [self._times.eq(self._times - 1), self._first.eq(0)]
                m.next = "NEXT"
                with m.If(~last):
                    self._begin_conversion(m)

    def _next(self, m: Module) -> None:
        """The other polarity, the next vector or the next word line."""
        with m.If(self._flags[BOTH] & ~self._negate):
            m.d.sync += self._negate.eq(1)
            m.d.comb += [self._reader.jump.eq(self._vectors), self._reader.target.eq(self._mark)]
            self._to_levels(m)
        with m.Else():
            m.d.sync += self._negate.eq(0)
            with m.If(self._vectors):
                self._next_vector(m)
            with m.Else():
                self._next_line(m)

    def _next_vector(self, m: Module) -> None:
        m.d.sync += [self._value.eq(self._value - 1), self._mark.eq(self._reader.addr)]
        self._to_levels(m)
        with m.If(self._value <= 1):
            m.next = "IDLE"

    def _next_line(self, m: Module) -> None:
        m.d.sync += self._line.eq(self._line + 1)
        self._to_lines(m)
        with m.If(self._line + 1 >= self._rows):
            m.next = "IDLE"

    def _wait(self, m: Module, ticks: int) -> None:
        m.d.comb += [self._calm.start.eq(1), self._calm.least.eq(ticks)]


def _full_scale(word: Value) -> Value:
    """At either end of the converter's range, where a code may stand for any larger current."""
    sign, middle = word[-1], word[1:-1]
    return Mux(sign, middle == 0, middle.all() & word[0])
