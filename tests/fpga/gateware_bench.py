"""The driver on the simulated gateware, and a line between them that may be told to misbehave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from neurobench.drivers._fpga_link import Link
from neurobench.drivers._visa_open import span_of
from neurobench.drivers.fpga import FpgaCrossbar
from neurobench.sim_instruments.gateware.hardware import Hardware
from neurobench.sim_instruments.gateware.simulation import GatewarePort, SimulatedGateware

from neurobench.bench.config import BenchConfig, load_bench
from neurobench.bench.crossbar import Applied
from neurobench.bench.stimulus import Bias, CellRead, Pulse, PulseBatch, Shots, shots

ROWS, COLS = 2, 3
# A slow clock: what the driver waits for costs few ticks.
HARDWARE = Hardware(
    rows=ROWS, cols=COLS, clock_hz=4 * 115_200, max_baud=4 * 115_200, program_bytes=48, read_bytes=64, samples=8,
    rx_bytes=512, max_body=160, min_gap=8, min_period=160, settle=8, grace=9216, convert=8,
)  # fmt: skip
CONDUCTANCE_S = np.linspace(1e-6, 9e-6, ROWS * COLS).reshape(ROWS, COLS)
PULSE_TICKS = 20
READ_V = 0.1
READ = CellRead(np.ones((ROWS, COLS), np.bool_), READ_V, both_polarities=False, integration_s=2e-5)
SETTINGS = {
    "chip.rows": ROWS, "chip.cols": COLS, "board.baud": 460_800, "board.timeout_s": 0.002, "board.watchdog_s": 0.01,
    "board.gap_s": 8 / HARDWARE.clock_hz, "limits.max_cell_v": 2.5, "limits.max_read_v": 0.2,
    "limits.max_width_s": 0.004, "limits.min_width_s": 1e-6,
}  # fmt: skip

Fault = Callable[[str, bytes], list[bytes]]


def intact(_way: str, frame: bytes) -> list[bytes]:
    """A good line."""
    return [frame]


@dataclass
class Line:
    """What becomes of each frame: told its way ("to" or "from" the board) and itself, `fault` says what arrives."""

    fault: Fault = intact


class FaultyPort:
    """A port whose frames meet the fault of its line."""

    def __init__(self, inner: GatewarePort, line: Line) -> None:
        self._inner, self._line = inner, line
        self._half, self._whole = bytearray(), bytearray()

    timeout = property(lambda self: self._inner.timeout, lambda self, value: setattr(self._inner, "timeout", value))
    baudrate = property(lambda self: self._inner.baudrate, lambda self, value: setattr(self._inner, "baudrate", value))

    @property
    def in_waiting(self) -> int:
        return len(self._whole)

    def write(self, data: bytes) -> int:
        for frame in data.split(b"\0")[:-1]:
            for arriving in self._line.fault("to", frame) if frame else [b""]:
                self._inner.write(arriving + b"\0")
        return len(data)

    def read(self, size: int = 1) -> bytes:
        if not self._whole:
            *frames, rest = (bytes(self._half) + self._inner.read(4096)).split(b"\0")
            self._half = bytearray(rest)
            for frame in frames:
                for arriving in self._line.fault("from", frame):
                    self._whole += arriving + b"\0"
        data = bytes(self._whole[:size])
        del self._whole[:size]
        return data

    def close(self) -> None:
        self._inner.close()


@dataclass
class GatewareBench:
    """The crossbar as a protocol has it, and what is behind it."""

    board: SimulatedGateware
    line: Line
    link: Link
    crossbar: FpgaCrossbar
    config: BenchConfig
    seq: int = 0
    seen: int = field(default=0)

    def batch(self, counts: Any, amplitude_v: float = 2.0, ticks: int = PULSE_TICKS) -> Shots:
        pulse = Pulse(amplitude_v, ticks / HARDWARE.clock_hz)
        expanded = shots(PulseBatch(np.array(counts), pulse, Bias.HALF), self.crossbar.capabilities)
        assert isinstance(expanded, Shots)
        return expanded

    def fired(self, batch: Shots) -> Applied:
        """Stages and fires under the next number."""
        self.seq += 1
        self.crossbar.stage(self.seq, batch)
        return self.crossbar.fire(self.seq)

    def new_levels(self) -> list[tuple[int, ...]]:
        """Levels of all lines, in codes, of every pulse since it was last asked."""
        found = [pulse.levels for pulse in self.board.pulses[self.seen :]]
        self.seen = len(self.board.pulses)
        return found


def expected_levels(batch: Shots) -> list[tuple[int, ...]]:
    """Levels of all lines in every pulse, in codes, as the contract expands the batch."""
    found = []
    for shot in batch:
        volts = np.concatenate([shot.states.row_v, shot.states.col_v])
        found += [tuple(np.rint(volts / HARDWARE.pulse_step_v).astype(int).tolist())] * shot.n
    return found


def open_gateware() -> GatewareBench:
    """The driver on a gateware of its own, its limits set."""
    board, line = SimulatedGateware(HARDWARE, CONDUCTANCE_S), Line()
    config = load_bench("fpga-sim", SETTINGS)
    link = Link(lambda: FaultyPort(board.port(), line), board.clock, config.board)
    link.connect()
    crossbar = FpgaCrossbar(link, config, span_of(config))
    crossbar.rest()
    crossbar.enforce(config.limits)
    return GatewareBench(board, line, link, crossbar, config)
