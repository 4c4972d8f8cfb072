"""What the link to an FPGA board carries, and what the host costs there. `make bench`.

All but the last figure are in the time of the simulated board and its line, so they do not depend on the machine: a
byte takes ten bit times, a frame 10 us more (`latency_s`). Link use is the payload (samples, program bytes) over the
bytes that the line could have carried in the same time. The host's own processor time is taken without what the
simulation needs behind the port.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fpga_bench import SimulatedBench, open_simulated

from neurobench.bench import frames
from neurobench.bench.frames import Op
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch, shots

BAUDS = (1_000_000, 12_000_000)
SIDES = (64, 65, 100, 128, 256)
PULSE = Pulse(1.0, 1e-6)
LINK_BAR, BYTES_BAR = 0.90, 1.1
HOST_BAR_US = 60.0  # some ten times what it takes: a loop in Python over the cells would be found
BITS = 10  # of a byte on the line
USB_S = 1e-3  # what a USB converter may add each way; listed, no bar: the window is the board's memory for requests


def opened(side: int, baud: int = 12_000_000, **more: Any) -> SimulatedBench:
    return open_simulated({
        "chip.rows": side, "chip.cols": side, "chip.model": "idealized", "readout.ideal": True, "board.baud": baud,
        "board.simulation.program_bytes": 65535, "board.simulation.samples": 65535, **more,
    })  # fmt: skip


def signs(side: int, seed: int) -> PulseBatch:
    """A full-array sign update: every cell one pulse up or down."""
    draw = np.random.default_rng(seed).integers(0, 2, (side, side))
    return PulseBatch((2 * draw - 1).astype(np.int16), PULSE)


class Use(NamedTuple):
    """Payload bytes of one direction, and the seconds of the line's time that they took."""

    payload: int
    seconds: float

    def of(self, baud: int) -> float:
        return self.payload * BITS / baud / self.seconds


class Meter:
    """Times the exchanges of a link that hold an operation, and counts the bytes that the host sends."""

    def __init__(self, bench: SimulatedBench, op: Op, payload: Callable[[Any, Any], int]) -> None:
        self.payload = self.sent = 0
        self.seconds = 0.0
        link, clock = bench.crossbar.link, bench.simulation.clock
        ask_all, send = link.ask_all, link.send

        def asked(requests: Any, *more: Any) -> Any:
            began_s = clock.now_s()
            replies = ask_all(requests, *more)
            if requests[0].op == op:
                self.seconds += clock.now_s() - began_s
                self.payload += sum(
                    payload(request, reply) for request, reply in zip(requests, replies, strict=True)
                    if request.op == op
                )  # fmt: skip
            return replies

        def counted(request: Any, *more: Any) -> Any:
            self.sent += len(frames.encode(request))
            return send(request, *more)

        link.ask_all, link.send = asked, counted  # type: ignore[method-assign]

    @property
    def use(self) -> Use:
        return Use(self.payload, self.seconds)


def streamed(baud: int, side: int = 64, **more: Any) -> float:
    """Link use of the samples of a read of all cells."""
    bench = opened(side, baud, **more)
    try:
        meter = Meter(bench, Op.FETCH, lambda request, reply: len(reply.payload) - 7)
        bench.crossbar.sense(CellRead(np.ones((side, side), np.bool_), 0.1, True, 0.0, 1e-5))
        return meter.use.of(bench.crossbar.link.baud)
    finally:
        bench.close()


def uploaded(baud: int, side: int = 256, **more: Any) -> float:
    """Link use of the program of a full-array sign update, armed as well."""
    bench = opened(side, baud, **more)
    try:
        meter = Meter(bench, Op.UPLOAD, lambda request, reply: len(request.payload) - frames.UPLOAD.size)
        bench.crossbar.stage(0, shots(signs(side, 1), bench.crossbar.capabilities))
        return meter.use.of(bench.crossbar.link.baud)
    finally:
        bench.close()


def update_bytes(side: int) -> float:
    """Bytes that the host sends for a full-array sign update, over its two bit masks; the second of two updates."""
    bench = opened(side)
    try:
        meter = Meter(bench, Op.UPLOAD, lambda request, reply: 0)
        for seq in range(2):
            meter.sent = 0
            bench.crossbar.stage(seq, shots(signs(side, seq), bench.crossbar.capabilities))
            bench.crossbar.fire(seq)
        return meter.sent / (2 * -(-side * side // 8))
    finally:
        bench.close()


class Rate(NamedTuple):
    """Single pulses in a second, and the most that window 1 and the round trips allow."""

    got: float
    limit: float


def single_pulses(baud: int, n: int = 200) -> Rate:
    """One pulse per stimulus: staged, fired, answered.

    The limit: UPLOAD and ARM in one round trip, FIRE in another (it must not leave before ARM is answered), their bytes
    and the answers' on the line, the pulse itself.
    """
    bench = opened(4, baud)
    try:
        counts = np.zeros((4, 4), np.int16)
        counts[1, 2] = 1
        asked = shots(PulseBatch(counts, PULSE), bench.crossbar.capabilities)
        clock = bench.simulation.clock
        for seq in range(n + 1):
            if seq == 1:
                began_s = clock.now_s()
            bench.crossbar.stage(seq, asked)
            bench.crossbar.fire(seq)
        got_s = (clock.now_s() - began_s) / n
        return Rate(1 / got_s, 1 / _least_s(bench, asked))
    finally:
        bench.close()


def _least_s(bench: SimulatedBench, asked: Any) -> float:
    link, latency_s = bench.crossbar.link, bench.config.board.simulation.latency_s
    ((_, code),) = bench.crossbar._plan.programs(asked)
    out = sum(frames.on_the_line(n) for n in (frames.UPLOAD.size + len(code), frames.ARM.size, frames.FIRE.size))
    back = sum(frames.on_the_line(1 + n) for n in (frames.ARMED.size, frames.BoardStatus.FORMAT.size))
    return link.line_s(out + back) + 4 * latency_s + PULSE.width_s


def host_us_per_shot(side: int = 64, n: int = 5) -> float:
    """The host's processor time for a full-array sign update, each of its shots; without the simulation."""
    bench = opened(side)
    try:
        behind, found = _behind(bench), []
        for seq in range(n):
            asked = shots(signs(side, seq), bench.crossbar.capabilities)
            began, before = thread_time(), behind[0]
            bench.crossbar.stage(seq, asked)
            bench.crossbar.fire(seq)
            found.append((thread_time() - began - (behind[0] - before)) / len(asked))
        return 1e6 * median(found[1:])
    finally:
        bench.close()


def _behind(bench: SimulatedBench) -> list[float]:
    """Processor time behind the port and the clock, summed up as it goes."""
    spent = [0.0]

    def timed(inner: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = thread_time()
            try:
                return inner(*args, **kwargs)
            finally:
                spent[0] += thread_time() - began

        return call

    port, clock = bench.crossbar.link._port, bench.simulation.clock
    for owner, names in ((port, ("write", "read")), (clock, ("sleep", "now_s"))):
        for name in names:
            setattr(owner, name, timed(getattr(owner, name)))
    return spent


def test_link_use() -> None:
    for baud in BAUDS:
        read, program = streamed(baud), uploaded(baud)
        print(f"\n{baud / 1e6:g} Mbaud: streamed reads {read:.1%}, batch uploads {program:.1%} of the line")
        assert min(read, program) >= LINK_BAR, (baud, read, program)
    late = {"board.simulation.latency_s": USB_S}
    read, program = streamed(BAUDS[-1], **late), uploaded(BAUDS[-1], **late)
    print(f"12 Mbaud, {1e3 * USB_S:g} ms each way (a USB converter): reads {read:.1%}, uploads {program:.1%}")


def test_bytes_of_a_sign_update() -> None:
    found = {side: update_bytes(side) for side in SIDES}
    print("\nbytes of a full-array sign update over its two bit masks: "
          + ", ".join(f"{side}: {ratio:.3f}" for side, ratio in found.items()))  # fmt: skip
    assert max(found.values()) <= BYTES_BAR, found


def test_single_pulses() -> None:
    for baud in BAUDS:
        rate = single_pulses(baud)
        print(
            f"\n{baud / 1e6:g} Mbaud: {rate.got:.0f} single pulses a second, {rate.got / rate.limit:.1%} of the limit"
        )
        assert rate.got >= 0.9 * rate.limit, rate


def test_host_time_per_shot() -> None:
    found = host_us_per_shot()
    print(f"\nhost: {found:.1f} us a shot at 64 x 64")
    assert found < HOST_BAR_US, found


if __name__ == "__main__":
    for part in (test_link_use, test_bytes_of_a_sign_update, test_single_pulses, test_host_time_per_shot):
        part()
