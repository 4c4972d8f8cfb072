"""Replies as they leave: a header, then bytes of the request, of the table and of the samples, as many as are asked."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .ports import BODY
from .wire import REPLY_BYTES

PARTS = ("request", "table", "sample")


class Sender(wiring.Component):
    """Sends one reply after `start`; `busy` until its last byte was taken, and so long its inputs must stay.

    Of each part `count` bytes from `first` on go out, of samples as many words of `width` bytes. A memory's data follow
    `addr`, which is for all of them, a tick later.
    """

    def __init__(self, most: int) -> None:
        """`most`: bytes or words of the largest of the memories."""
        self.size = range(most + 1)
        ports = {f"{part}_{what}": In(self.size) for part in PARTS for what in ("first", "count")}
        data = {"request_data": In(8), "table_data": In(8), "sample_data": In(32), "width": In(3)}
        told = {"start": In(1), "busy": Out(1), "header": In(8 * REPLY_BYTES)}
        super().__init__({**told, **ports, **data, "addr": Out(self.size), "replies": Out(BODY)})

    def elaborate(self, _platform: object) -> Module:
        """Two ticks for a byte: in ENTER the memories read."""
        m = Module()
        self._part, self._left, self._byte = Signal(2), Signal(self.size), Signal(range(REPLY_BYTES))
        self._follows = Signal(len(PARTS) + 1)  # lowest: whether anything comes after this part
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [self._part.eq(0), self._byte.eq(0), self._follows.eq(self._all_that_follows())]
                m.next = "HEADER"
            with m.State("HEADER"):
                self._header(m)
            with m.State("CHOOSE"):
                self._choose(m)
                m.next = "ENTER"
            with m.State("ENTER"):
                self._enter(m)
            with m.State("HOLD"):
                self._hold(m)
        return m

    def _all_that_follows(self) -> Value:
        request, table, sample = (getattr(self, f"{part}_count") != 0 for part in PARTS)
        return Cat(request | table | sample, table | sample, sample)

    def _header(self, m: Module) -> None:
        replies, ended = self.replies, self._byte == REPLY_BYTES - 1
        m.d.comb += [replies.valid.eq(1), replies.p.data.eq(self.header.word_select(self._byte, 8))]
        m.d.comb += replies.p.last.eq(ended & ~self._follows[0])
        with m.If(replies.ready):
            m.d.sync += self._byte.eq(self._byte + 1)
            with m.If(ended):
                m.d.sync += self._follows.eq(self._follows >> 1)
                m.next = "CHOOSE"

    def _choose(self, m: Module) -> None:
        with m.Switch(self._part):
            for index, part in enumerate(PARTS):
                with m.Case(index):
                    m.d.sync += self.addr.eq(getattr(self, f"{part}_first"))
                    m.d.sync += self._left.eq(getattr(self, f"{part}_count"))

    def _enter(self, m: Module) -> None:
        m.next = "HOLD"
        with m.If(self._left == 0):
            m.d.sync += [self._part.eq(self._part + 1), self._follows.eq(self._follows >> 1)]
            m.next = "CHOOSE"
            with m.If(self._part == len(PARTS) - 1):
                m.next = "IDLE"

    def _hold(self, m: Module) -> None:
        """A word of samples, or one byte of the others."""
        replies, of_samples = self.replies, self._part == len(PARTS) - 1
        ended = ~of_samples | (self._byte == self.width - 1)
        data = Mux(self._part == 0, self.request_data, self.table_data)
        with m.If(of_samples):
            m.d.comb += replies.p.data.eq(self.sample_data.word_select(self._byte[:2], 8))
        with m.Else():
            m.d.comb += replies.p.data.eq(data)
        m.d.comb += [replies.valid.eq(1), replies.p.last.eq(ended & (self._left == 1) & ~self._follows[0])]
        with m.If(replies.ready):
            m.d.sync += self._byte.eq(Mux(ended, 0, self._byte + 1))
            with m.If(ended):
                m.d.sync += [self.addr.eq(self.addr + 1), self._left.eq(self._left - 1)]
                m.next = "ENTER"
