"""Reads on an FPGA board: one acquisition for as much as its memory holds, its samples fetched through a window.

An acquisition is named by a number and begun once, so a lost reply costs a repeated FETCH and no second read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neurobench.bench import frames
from neurobench.bench.frames import Fetch, Op, Samples, Status
from neurobench.errors import CapabilityMissing, InstrumentError, LimitExceeded, LinkLost, Refused

from ._fpga_link import Asked, Gate, Link, words

if TYPE_CHECKING:
    from neurobench.bench.frames import Reply
    from neurobench.bench.stimulus import CellRead, FloatArray, VectorRead

    from ._fpga_plan import Block, Plan

TRIES = 4  # how often a read is begun anew
SLICE_S = 0.02
LATE_S = 1.0  # how long after its conversions an acquisition may stand still
SOON_S = 2e-4
AHEAD = 256  # numbers that are left out at first: an ACQUIRE of a dead process may still be under way with one of them


class _Fetched(NamedTuple):
    """What has come so far of one acquisition: bytes of samples, and whether one was out of range."""

    data: bytes = b""
    over: bool = False


class Reader:
    """Cell and vector reads over a link. `keep_on` raises when reading has to stop; `gate` is held where one begins."""

    def __init__(self, link: Link, plan: Plan, keep_on: Callable[[], None], gate: Gate) -> None:
        self._link, self._plan, self._keep_on, self._gate = link, plan, keep_on, gate
        self._last: tuple[int, int] = (0, 0)  # session and number of the last acquisition
        self.ended = True  # the board has said that the last acquisition is over

    def cells(self, read: CellRead, flags: set[str]) -> FloatArray:
        """Currents [polarities, cells] in amperes, row-major; adds to `flags`."""
        polarities = 1 + read.both_polarities
        order = _cell_order(read.mask.sum(axis=1), polarities)
        total = np.zeros(order.shape)
        for averages in self._plan.averages(read.averages):
            sums = [self._acquired(block, flags) for block in self._plan.cell_blocks(read, averages)]
            total += np.concatenate(sums)[order]
        return self._amperes(total, read.averages)

    def vectors(self, read: VectorRead, flags: set[str]) -> FloatArray:
        """Currents [polarities, n, outputs] in amperes; adds to `flags`."""
        parts = []
        for averages in self._plan.averages(read.averages):
            blocks = self._plan.vector_blocks(read, averages)
            sums = np.concatenate([self._acquired(block, flags) for block in blocks])
            parts.append(sums.reshape(len(read.volts), 1 + read.both_polarities, -1).transpose(1, 0, 2))
        return self._amperes(np.sum(parts, axis=0), read.averages)

    def _amperes(self, sums: FloatArray, averages: int) -> FloatArray:
        # divided first: the mean of equal codes is that code, whatever the number
        amperes: FloatArray = (sums / averages) * self._link.known.adc_step_a
        return amperes

    def _acquired(self, block: Block, flags: set[str]) -> FloatArray:
        """Sums of codes of one acquisition, begun anew where the board was disturbed."""
        for _ in range(TRIES):
            self._keep_on()
            found = self._try(block, flags)
            if found is not None:
                return found
        raise LinkLost(
            f"{self._link.name} was disturbed in a read {TRIES} times (if nobody else brought it to rest, its watchdog "
            f"is too short for this line: [board] watchdog_s = {self._link.settings.watchdog_s:g})"
        )

    def _try(self, block: Block, flags: set[str]) -> FloatArray | None:
        number = self._begun(block)
        if number is None:
            return None
        self._let_it_convert(block.lasts_s)
        clock, got = self._link.clock, _Fetched()
        end_s = clock.now_s() + LATE_S
        while len(got.data) < block.samples * block.width:
            more = self._fetched(number, block, got)
            if more is None or clock.now_s() > end_s:
                return None
            if len(more.data) == len(got.data):
                self._keep_on()
                clock.sleep(SOON_S)
            else:
                end_s = clock.now_s() + LATE_S
            got = more
        flags |= {"over_range"} if got.over else set()
        return frames.sample_values(got.data, block.width).astype(np.float64)

    def _begun(self, block: Block) -> int | None:
        """The number of the acquisition, or None where the board has other numbers, or is busy."""
        session, last = self._last
        if session != self._link.session:
            last = self._link.status().acquired + AHEAD
        number = (last + 1) & 0xFFFF
        self._last = (self._link.session, number)  # now: if its reply is lost, it may have been begun all the same
        reply = self._link.ask(Op.ACQUIRE, frames.ACQUIRE.pack(number) + block.program, self._gate)
        if reply.status in (Status.WRONG_NUMBER, Status.BUSY):
            self._last = (0, 0)
            return None
        if reply.status != Status.OK:
            raise _refusal(self._link, reply)
        (samples,) = self._link.read_as(frames.COUNT.unpack, reply.payload)
        if samples != block.samples:
            raise InstrumentError(f"{self._link.name} takes {samples} samples in a read of {block.samples}")
        return number

    def _fetched(self, number: int, block: Block, got: _Fetched) -> _Fetched | None:
        """What has come so far and what is ready since; None where the acquisition was stopped or replaced."""
        data, over = got
        fetches = self._fetches(number, len(data) // block.width, block)
        for asked, reply in zip(fetches, self._link.ask_all(fetches), strict=True):
            if reply.status != Status.OK:
                return None
            one = self._link.read_as(Samples.unpack, reply.payload)
            most = frames.FETCH.unpack(asked.payload)[2] * block.width
            if one.number != number or len(one.data) > most or len(one.data) % block.width:
                raise InstrumentError(f"{self._link.name} answers with other samples than were asked for")
            if one.flags & Fetch.STOPPED:
                return None
            over |= bool(one.flags & Fetch.OVER_RANGE)
            self.ended = bool(one.flags & Fetch.COMPLETE)
            if one.first * block.width == len(data):  # else the one before it came too early: asked for again
                data += one.data
        return _Fetched(data, over)

    def _fetches(self, number: int, first: int, block: Block) -> list[Asked]:
        each = self._plan.fetched_bytes // block.width
        return [
            Asked(Op.FETCH, frames.FETCH.pack(number, at, min(each, block.samples - at)), each * block.width + 30)
            for at in range(first, block.samples, each)
        ]

    def _let_it_convert(self, seconds: float) -> None:
        """Wait for an acquisition; asking keeps the board's watchdog quiet."""
        clock, alive_s = self._link.clock, self._plan.alive_s
        end_s = clock.now_s() + seconds
        while (left_s := end_s - clock.now_s()) > 0:
            self._keep_on()
            clock.sleep(min(left_s, alive_s, SLICE_S))
            if left_s > min(alive_s, SLICE_S):
                self._link.status()


def _refusal(link: Link, reply: Reply) -> Exception:
    said = f"{link.name} refuses a read: {words(reply)}"
    kinds: dict[int, type[Exception]] = {Status.LIMIT: LimitExceeded, Status.CHIP: Refused}
    return kinds.get(reply.status, CapabilityMissing)(said)


def _cell_order(per_row: Any, polarities: int) -> Any:
    """Where each current [polarities, cells] stands in the samples, which come row by row, + before -."""
    index: list[list[int]] = [[] for _ in range(polarities)]
    at = 0
    for n in (int(n) for n in per_row if n):
        for p in range(polarities):
            index[p] += range(at, at + n)
            at += n
    return np.array(index)
