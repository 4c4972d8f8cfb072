"""Frames of docs/fpga-wire.md: COBS and CRC-32 between the bytes of the line and the bodies of requests and replies."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.crc import Processor
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .hardware import Hardware
from .ports import BODY, BYTES

CRC_BYTES = 4
SHORTEST = 7  # bytes of a request without payload and CRC
FULL_BLOCK = 255  # code of a COBS block of 254 bytes that no zero follows
TX_DEPTH = 512  # one block on its way out and one being written


class DraftRing(wiring.Component):
    """A ring of bytes, a power of two; what is pushed leaves only when it was committed, and can be taken back.

    `push` appends `data`, if not `full`; `patch` writes it over the first byte of the draft, or its second
    (`second`); `commit` ends the draft without its last `trim` bytes; `revert` forgets it. One of them in one tick,
    but `commit` may come with `patch`.
    """

    def __init__(self, depth: int, trim: int = 0) -> None:
        self.depth, self.trim = depth, trim
        strobes = dict.fromkeys(("push", "patch", "second", "commit", "revert"), In(1))
        super().__init__({**strobes, "data": In(8), "full": Out(1), "empty": Out(1), "bytes": Out(BYTES)})

    def elaborate(self, _platform: object) -> Module:
        """One pointer for the draft, one for what is committed, one for what has left."""
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=self.depth, init=[])
        pointer = range(2 * self.depth)  # one bit more than an address tells full from empty
        tip, base, tail = Signal(pointer), Signal(pointer), Signal(pointer)
        self._write(m, memory, tip, base)
        self._read(m, memory, base, tail)
        m.d.comb += [self.full.eq((tip ^ tail) == self.depth), self.empty.eq((base == tail) & ~self.bytes.valid)]
        return m

    def _write(self, m: Module, memory: Memory, tip: Signal, base: Signal) -> None:
        port = memory.write_port()
        m.d.comb += [port.data.eq(self.data), port.en.eq(self.push | self.patch), port.addr.eq(tip)]
        with m.If(self.patch):
            m.d.comb += port.addr.eq(base + self.second)
        with m.If(self.push):
            m.d.sync += tip.eq(tip + 1)
        with m.If(self.commit):
            m.d.sync += [base.eq(tip - self.trim), tip.eq(tip - self.trim)]
        with m.If(self.revert):
            m.d.sync += tip.eq(base)

    def _read(self, m: Module, memory: Memory, base: Signal, tail: Signal) -> None:
        port = memory.read_port()
        m.d.comb += [port.addr.eq(tail), port.en.eq(~self.bytes.valid | self.bytes.ready)]
        m.d.comb += self.bytes.payload.eq(port.data)
        with m.If(port.en):
            m.d.sync += self.bytes.valid.eq(tail != base)
            with m.If(tail != base):
                m.d.sync += tail.eq(tail + 1)


class RxFrames(wiring.Component):
    """Bodies of the good frames in a stream of bytes, without their CRC; the others are counted and dropped.

    A body waits in a ring of `rx_bytes` until its CRC was checked, behind its length (2 bytes). So what the wire page
    lets a host send unanswered fits: a frame is never shorter on the line than here. When a host sends more, the frame
    that does not fit is dropped whole.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.depth = 1 << (hardware.rx_bytes - 1).bit_length()
        self.max_body = hardware.max_body
        super().__init__({"bytes": In(BYTES), "bodies": Out(BODY), "good": Out(32), "bad": Out(32)})

    def elaborate(self, _platform: object) -> Module:
        """Bytes to the ring in one machine, bodies from the ring in another."""
        m = Module()
        m.submodules.ring = ring = DraftRing(self.depth, trim=CRC_BYTES)
        m.submodules.crc = crc = Processor(CRC32_ISO_HDLC(8))
        self._length = Signal(16, init=0x10000 - CRC_BYTES)  # of the body without its CRC: it begins at -4
        self._byte, self._left, self._open = Signal(8), Signal(8), Signal()
        self._zero_due, self._failed, self._enough = Signal(), Signal(), Signal()
        with m.FSM():
            self._take(m, crc)
            self._reserve(m, ring)
            self._decode(m, ring, crc)
            self._end(m, ring, crc)
        self._hand_over(m, ring)
        return m

    def _take(self, m: Module, crc: Processor) -> None:
        with m.State("TAKE"):
            m.d.comb += self.bytes.ready.eq(1)
            m.d.sync += self._byte.eq(self.bytes.payload)
            with m.If(self.bytes.valid):
                with m.If(self.bytes.payload == 0):
                    m.next = "END"
                with m.Elif(self._open):
                    m.next = "DECODE"
                with m.Else():
                    m.d.comb += crc.start.eq(1)
                    m.next = "RESERVE LOW"

    def _reserve(self, m: Module, ring: DraftRing) -> None:
        """Room for the length, which is known last."""
        for state, following in (("RESERVE LOW", "RESERVE HIGH"), ("RESERVE HIGH", "DECODE")):
            with m.State(state):
                m.d.comb += ring.push.eq(~ring.full)
                m.d.sync += [self._open.eq(1), self._failed.eq(self._failed | ring.full)]
                m.next = following

    def _decode(self, m: Module, ring: DraftRing, crc: Processor) -> None:
        """One byte of the line gives one byte of the body at most: a code stands for the zero before it."""
        give = Signal()
        with m.State("DECODE"):
            m.next = "TAKE"
            with m.If(self._left == 0):
                m.d.comb += give.eq(self._zero_due)
                m.d.sync += [self._left.eq(self._byte - 1), self._zero_due.eq(self._byte != FULL_BLOCK)]
            with m.Else():
                m.d.comb += [give.eq(1), ring.data.eq(self._byte)]
                m.d.sync += self._left.eq(self._left - 1)
            m.d.comb += [crc.data.eq(ring.data), crc.valid.eq(give)]
            with m.If(give):
                self._keep(m, ring)

    def _keep(self, m: Module, ring: DraftRing) -> None:
        m.d.sync += self._length.eq(self._length + 1)
        with m.If(self._length == SHORTEST - 1):
            m.d.sync += self._enough.eq(1)
        with m.If(ring.full | (self._length == self.max_body - CRC_BYTES)):
            m.d.sync += self._failed.eq(1)
        with m.Elif(~self._failed):
            m.d.comb += ring.push.eq(1)

    def _end(self, m: Module, ring: DraftRing, crc: Processor) -> None:
        with m.State("END"):
            good = ~self._failed & (self._left == 0) & self._enough & crc.match_detected
            m.next = "FRESH"
            with m.If(self._open & good):
                m.d.sync += self.good.eq(self.good + 1)
                m.next = "LENGTH LOW"
            with m.Elif(self._open):
                m.d.comb += ring.revert.eq(1)
                m.d.sync += self.bad.eq(self.bad + 1)
        with m.State("LENGTH LOW"):
            m.d.comb += [ring.patch.eq(1), ring.data.eq(self._length[:8])]
            m.next = "LENGTH HIGH"
        with m.State("LENGTH HIGH"):
            m.d.comb += [ring.patch.eq(1), ring.second.eq(1), ring.data.eq(self._length[8:]), ring.commit.eq(1)]
            m.next = "FRESH"
        with m.State("FRESH"):
            fresh = (self._open, self._left, self._zero_due, self._failed, self._enough)
            m.d.sync += [*(signal.eq(0) for signal in fresh), self._length.eq(-CRC_BYTES)]
            m.next = "TAKE"

    def _hand_over(self, m: Module, ring: DraftRing) -> None:
        left = Signal(16)
        with m.FSM():
            for state, part, following in (("LOW", left[:8], "HIGH"), ("HIGH", left[8:], "BODY")):
                with m.State(state):
                    m.d.comb += ring.bytes.ready.eq(1)
                    with m.If(ring.bytes.valid):
                        m.d.sync += part.eq(ring.bytes.payload)
                        m.next = following
            with m.State("BODY"):
                m.d.comb += [self.bodies.valid.eq(ring.bytes.valid), ring.bytes.ready.eq(self.bodies.ready)]
                m.d.comb += [self.bodies.p.data.eq(ring.bytes.payload), self.bodies.p.last.eq(left == 1)]
                with m.If(self.bodies.valid & self.bodies.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "LOW"


class TxFrames(wiring.Component):
    """Frames from bodies: CRC-32 appended, COBS, the zero that ends it. `busy` until the last byte was handed over.

    A block waits in the ring until its code is known; two of the longest fit, so the line need not wait.
    """

    def __init__(self) -> None:
        super().__init__({"bodies": In(BODY), "bytes": Out(BYTES), "busy": Out(1)})

    def elaborate(self, _platform: object) -> Module:
        """One machine, up to four ticks for a byte."""
        m = Module()
        m.submodules.ring = ring = DraftRing(TX_DEPTH)
        m.submodules.crc = crc = Processor(CRC32_ISO_HDLC(8))
        wiring.connect(m, ring.bytes, wiring.flipped(self.bytes))
        self._byte, self._code = Signal(8), Signal(8)  # code: bytes of the block, itself among them; 0: none begun
        self._last, self._inside = Signal(), Signal()  # all of the body was taken; a frame was begun
        self._zero = Signal()  # a zero ended the block
        self._check = Signal(range(CRC_BYTES + 1))  # bytes of the CRC that were taken
        m.d.comb += self.busy.eq(self._inside | ~ring.empty)
        with m.FSM():
            self._take(m, crc)
            self._write(m, ring)
            self._close(m, ring)
        return m

    def _take(self, m: Module, crc: Processor) -> None:
        m.d.comb += crc.data.eq(self.bodies.p.data)
        with m.State("TAKE"):
            with m.If(self._last):
                m.d.sync += [self._byte.eq(crc.crc.word_select(self._check[:2], 8)), self._check.eq(self._check + 1)]
                m.next = "WRITE"
            with m.Else():
                m.d.comb += [self.bodies.ready.eq(1), crc.valid.eq(self.bodies.valid), crc.start.eq(~self._inside)]
                m.d.sync += self._byte.eq(self.bodies.p.data)
                with m.If(self.bodies.valid):
                    m.d.sync += [self._last.eq(self.bodies.p.last), self._inside.eq(1)]
                    m.next = "WRITE"

    def _write(self, m: Module, ring: DraftRing) -> None:
        with m.State("WRITE"):
            with m.If(self._code == 0):
                self._open(m, ring)
            with m.Elif(self._byte == 0):
                m.d.sync += self._zero.eq(1)
                m.next = "CLOSE"
            with m.Elif(~ring.full):
                m.d.comb += [ring.push.eq(1), ring.data.eq(self._byte)]
                m.d.sync += self._code.eq(self._code + 1)
                m.next = "WRITTEN"
        with m.State("WRITTEN"):
            m.next = "TAKE"
            with m.If((self._check == CRC_BYTES) | (self._code == FULL_BLOCK)):
                m.next = "CLOSE"

    def _open(self, m: Module, ring: DraftRing) -> None:
        """Room for the code, which is known last."""
        with m.If(~ring.full):
            m.d.comb += ring.push.eq(1)
            m.d.sync += self._code.eq(1)

    def _close(self, m: Module, ring: DraftRing) -> None:
        """A block ends at a zero, when it is full, and with its frame; after a zero there is always another."""
        with m.State("CLOSE"):
            m.d.comb += [ring.patch.eq(1), ring.data.eq(self._code), ring.commit.eq(1)]
            m.d.sync += self._code.eq(0)
            m.next = "CLOSED"
        with m.State("CLOSED"):
            with m.If(self._zero):
                self._open(m, ring)
                with m.If(~ring.full):
                    m.d.sync += self._zero.eq(0)
                    m.next = "WRITTEN"
            with m.Elif(self._check == CRC_BYTES):
                m.next = "END"
            with m.Else():
                m.next = "TAKE"
        with m.State("END"), m.If(~ring.full):
            m.d.comb += ring.push.eq(1)
            m.next = "SEND"
        with m.State("SEND"):
            m.d.comb += ring.commit.eq(1)
            m.d.sync += [self._last.eq(0), self._inside.eq(0), self._check.eq(0)]
            m.next = "TAKE"
