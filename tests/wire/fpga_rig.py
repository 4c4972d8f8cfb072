"""The FPGA driver on a simulated board, with somebody at the cable: every frame, each way, can be met by anything."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cobs import cobs
from neurobench.drivers._fpga_link import Link, open_serial
from neurobench.drivers._visa_open import span_of
from neurobench.drivers.fpga import FpgaCrossbar

from neurobench import registry
from neurobench.bench.config import BenchConfig, load_bench
from neurobench.bench.crossbar import Done, NotDone, Outcome, Unknown
from neurobench.bench.frames import Op
from neurobench.bench.stimulus import Pulse, PulseBatch, Shots, shots
from neurobench.errors import BenchFault, LinkLost

SHAPE = (8, 8)
PULSE = Pulse(1.0, 1e-6)
SETTINGS = {
    "chip.rows": SHAPE[0], "chip.cols": SHAPE[1], "chip.model": "idealized", "readout.ideal": True,
    "board.simulation.program_bytes": 256, "limits.max_cell_v": 2.0,
}  # fmt: skip
Meet = Callable[["Frame"], list[bytes]]


class Died(BaseException):
    """The host is no more."""


@dataclass(frozen=True)
class Frame:
    """A frame on the line: which one since the tap was set, "to" or "from" the board, its op, its bytes."""

    n: int
    way: str
    op: str
    data: bytes


def op_of(frame: bytes) -> str:
    try:
        return Op(cobs.decode(frame)[0] & 0x7F).name
    except (cobs.DecodeError, IndexError, ValueError):
        return "?"


@dataclass
class Tap:
    """What meets the frames: `meet` gives what goes on in place of one; `seen` is the log."""

    meet: Meet = field(default=lambda frame: [frame.data])
    seen: list[Frame] = field(default_factory=list)

    def set(self, meet: Meet) -> None:
        self.meet, self.seen = meet, []

    def through(self, way: str, data: bytes) -> list[bytes]:
        if not data:
            return [data]
        frame = Frame(len(self.seen), way, op_of(data), data)
        self.seen.append(frame)
        return self.meet(frame)

    def sent(self, op: str) -> int:
        return sum(frame.op == op and frame.way == "to" for frame in self.seen)


class TappedPort:
    """A port with the tap in its line."""

    def __init__(self, inner: Any, tap: Tap) -> None:
        self._inner, self._tap = inner, tap
        self._out, self._half, self._whole = b"", b"", bytearray()

    timeout = property(lambda self: self._inner.timeout, lambda self, value: setattr(self._inner, "timeout", value))
    baudrate = property(lambda self: self._inner.baudrate, lambda self, value: setattr(self._inner, "baudrate", value))

    @property
    def in_waiting(self) -> int:
        return len(self._whole)

    def write(self, data: bytes) -> int:
        *whole, self._out = (self._out + data).split(b"\0")
        for frame in whole:
            for one in self._tap.through("to", frame):
                self._inner.write(one + b"\0")
        return len(data)

    def read(self, size: int = 1) -> bytes:
        if not self._whole:
            got = self._inner.read(1)
            *whole, self._half = (self._half + got + self._inner.read(self._inner.in_waiting if got else 0)).split(
                b"\0"
            )
            for frame in whole:
                self._whole += b"".join(one + b"\0" for one in self._tap.through("from", frame))
        data = bytes(self._whole[:size])
        del self._whole[:size]
        return data

    def close(self) -> None:
        self._inner.close()


@dataclass
class Rig:
    """One board for several processes, one after another; `crossbar` is the present one's."""

    config: BenchConfig
    simulation: Any
    tap: Tap
    crossbar: FpgaCrossbar

    @property
    def board(self) -> Any:
        return self.simulation.board

    @property
    def pulse(self) -> Pulse:
        """A pulse that its device knows."""
        return PULSE if self.config.chip.model == "idealized" else Pulse(2.0, 1e-3)

    def close(self) -> None:
        self.crossbar.close()
        self.simulation.close()

    def next_process(self) -> FpgaCrossbar:
        """The old process is gone as it is; another one opens the bench."""
        self.tap.set(lambda frame: [frame.data])
        self.crossbar.link.close()
        self.crossbar = _opened(self.simulation, self.config, self.tap)
        return self.crossbar


def _opened(simulation: Any, config: BenchConfig, tap: Tap) -> FpgaCrossbar:
    link = Link(lambda: TappedPort(open_serial(simulation.url), tap), simulation.clock, config.board)
    link.connect()
    crossbar = FpgaCrossbar(link, config, span_of(config), "fpga-sim")
    crossbar.rest()
    crossbar.enforce(config.limits)
    return crossbar


def rig(**overrides: Any) -> Rig:
    """`chip__rows=3` stands for chip.rows = 3."""
    said: Mapping[str, Any] = {name.replace("__", "."): value for name, value in overrides.items()}
    config, tap = load_bench("fpga-sim", {**SETTINGS, **said}), Tap()
    simulation: Any = registry.load("simulations", "fpga")(config, 7)  # type: ignore[operator]
    return Rig(config, simulation, tap, _opened(simulation, config, tap))


def batch(seed: int = 1, most: int = 6) -> PulseBatch:
    """So many different counts that the shots need two programs."""
    return PulseBatch(np.random.default_rng(seed).integers(-most, most + 1, SHAPE).astype(np.int16), PULSE)


def staged(bench: Rig, stimulus: PulseBatch) -> Shots:
    expanded = shots(stimulus, bench.crossbar.capabilities)
    assert isinstance(expanded, Shots)
    return expanded


def apply(bench: Rig, seq: int, expanded: Shots) -> Outcome:
    """As the runner does it: stage, fire, and after a fault ask what became of it."""
    for _ in range(8):
        witness = again(lambda: bench.crossbar.stage(seq, expanded))
        try:
            return Done(bench.crossbar.fire(seq))
        except BenchFault:
            found: Outcome = again(lambda w=witness: bench.crossbar.outcome(seq, w, expanded))  # type: ignore[misc]
        if not isinstance(found, NotDone):
            return found
    raise AssertionError("certainly never fired, eight times")


def again(ask: Callable[[], Any]) -> Any:
    for _ in range(7):
        try:
            return ask()
        except LinkLost:
            pass
    return ask()


def cells_of(expanded: Shots, done: int) -> int:
    """Pulses on cells of the first `done` shots."""
    return int(np.diff(expanded.indptr)[:done].astype(np.int64) @ expanded.repeat[:done])


def agrees(found: Outcome, expanded: Shots, fired: int) -> bool:
    """Whether the chip had the pulses that the outcome says, or, in doubt, what may be."""
    ends = [0, *itertools.accumulate(int(n) for n in np.diff(expanded.indptr) * expanded.repeat)]
    if isinstance(found, Done):
        return fired == found.applied.pulses == ends[found.applied.shots_done]
    if isinstance(found, NotDone):
        return fired == 0
    assert isinstance(found, Unknown)
    return ends[found.shot] <= fired


def disarming(bench: Rig, times: int = 1000) -> Meet:
    """Before a FIRE arrives, a late copy of the last first UPLOAD does: it disarms the board."""
    kept: list[bytes] = []
    left = [times]

    def meet(frame: Frame) -> list[bytes]:
        if frame.op == "UPLOAD" and frame.way == "to" and cobs.decode(frame.data)[9:11] == b"\0\0":
            kept[:] = [frame.data]
        if frame.op == "FIRE" and frame.way == "to" and kept and left[0]:
            left[0] -= 1
            bench.board.receive(kept[0] + b"\0")
        return [frame.data]

    return meet
