"""Reads on an FPGA board: one acquisition for as much as its memory holds, its samples fetched through a window.

An acquisition is named by a number and begun once, so a lost reply costs a repeated FETCH and no second read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from neurobench.bench import frames
from neurobench.bench.frames import Fetch, Op, Samples, Status
from neurobench.errors import CapabilityMissing, LimitExceeded, LinkLost, Refused

from ._fpga_link import Asked, Link, words

if TYPE_CHECKING:
    from neurobench.bench.frames import Reply
    from neurobench.bench.stimulus import CellRead, FloatArray, VectorRead

    from ._fpga_plan import Block, Plan

TRIES = 4  # how often a read is begun anew
SLICE_S = 0.02
LATE_S = 1.0  # how much longer than its conversions an acquisition may take
SOON_S = 2e-4


class Reader:
    """Cell and vector reads over a link; `keep_on` raises when reading has to stop."""

    def __init__(self, link: Link, plan: Plan, keep_on: Callable[[], None]) -> None:
        self._link, self._plan, self._keep_on = link, plan, keep_on
        self._last: tuple[int, int] = (0, 0)  # session and number of the last acquisition

    def cells(self, read: CellRead, flags: set[str]) -> FloatArray:
        """Currents [polarities, cells] in amperes, row-major; adds to `flags`."""
        _, over = self._plan.read_code(np.array([read.voltage_v]))
        flags |= {"dac_over_range"} if over else set()
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
            blocks, over = self._plan.vector_blocks(read, averages)
            flags |= {"dac_over_range"} if over else set()
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
        raise LinkLost(f"{self._link.name} was disturbed in a read {TRIES} times")

    def _try(self, block: Block, flags: set[str]) -> FloatArray | None:
        number = self._begun(block)
        if number is None:
            return None
        self._let_it_convert(block.lasts_s)
        end_s = self._link.clock.now_s() + LATE_S
        data = bytearray()
        while len(data) < block.samples * block.width:
            before = len(data)
            if not self._fetched(number, block, data, flags) or self._link.clock.now_s() > end_s:
                return None
            if len(data) == before:
                self._keep_on()
                self._link.clock.sleep(SOON_S)
        return frames.sample_values(bytes(data), block.width).astype(np.float64)

    def _begun(self, block: Block) -> int | None:
        """The number of the acquisition, or None where the board has other numbers, or is busy."""
        session, last = self._last
        if session != self._link.session:
            last = self._link.status().acquired
        number = (last + 1) & 0xFFFF
        reply = self._link.ask(Op.ACQUIRE, frames.ACQUIRE.pack(number) + block.program)
        self._last = (self._link.session, number)
        if reply.status in (Status.WRONG_NUMBER, Status.BUSY):
            self._last = (0, 0)
            return None
        if reply.status != Status.OK:
            raise _refusal(self._link, reply)
        return number

    def _fetched(self, number: int, block: Block, data: bytearray, flags: set[str]) -> bool:
        """Add what is ready to `data`; False where the acquisition was stopped or replaced."""
        first = len(data) // block.width
        for reply in self._link.ask_all(self._fetches(number, first, block)):
            if reply.status != Status.OK:
                return False
            got = Samples.unpack(reply.payload)
            if got.flags & Fetch.STOPPED:
                return False
            if got.flags & Fetch.OVER_RANGE:
                flags.add("over_range")
            if got.first * block.width == len(data):  # else the one before it came too early: asked for again
                data += got.data
        return True

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
