"""The vectors on the simulated board."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import vector_kit as kit
from vector_kit import Case, run
from vectors import CASES

from neurobench import registry
from neurobench.bench.config import load_bench

CLOCK_HZ = 48_000_000
BENCH = {
    "chip.rows": kit.ROWS, "chip.cols": kit.COLS, "chip.model": "idealized", "board.simulation.clock_hz": CLOCK_HZ,
    "board.simulation.program_bytes": kit.PROGRAM_BYTES, "board.simulation.read_bytes": kit.READ_BYTES,
    "board.simulation.samples": kit.SAMPLES, "board.simulation.rx_bytes": kit.RX_BYTES,
    "board.simulation.max_body": kit.MAX_BODY,
}  # fmt: skip
PATIENCE_S = 0.1  # longer than any program of the vectors
LOOK_S = 1e-5
AFTER_S = 3e-3  # in which nothing more may come; a reply has left the line, at any speed


class SimulatedBoard:
    """The simulated board without its line."""

    clock_hz = CLOCK_HZ

    def __init__(self) -> None:
        self.bench: Any = registry.load("simulations", "fpga")(load_bench("fpga-sim", BENCH), 1)  # type: ignore[operator]
        self.sent = bytearray()
        self.bench.board.on_send = self.sent.extend

    def reset(self) -> None:
        self.bench.board.reboot()
        self.sent.clear()

    def exchange(self, parts: Sequence[bytes | int], expected: int) -> bytes:
        self.sent.clear()
        for part in parts:
            if isinstance(part, int):
                self.bench.clock.sleep(part / self.clock_hz)
            else:
                self.bench.board.receive(part)
        waited_s = 0.0
        while self.sent.count(0) < expected and waited_s < PATIENCE_S:
            self.bench.clock.sleep(LOOK_S)
            waited_s += LOOK_S
        self.bench.clock.sleep(AFTER_S)
        return bytes(self.sent)


@pytest.fixture(scope="module")
def board() -> Iterator[SimulatedBoard]:
    pytest.importorskip("neurobench.sim_instruments.benches.fpga", reason="the simulated board is not there yet")
    device = SimulatedBoard()
    yield device
    device.bench.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_simulated_board_answers_as_the_page_says(case: Case, board: SimulatedBoard) -> None:
    board.reset()
    run(case, board)
    assert board.bench.board.damage in ((), [])


def test_numbers_of_once_commands_wrap(board: SimulatedBoard) -> None:
    """65536 fences later the first number is the next one again."""
    board.reset()
    session = kit.came(board.exchange([kit.framed(kit.u8(kit.HELLO) + kit.u16(1) + kit.u32(0, 5))], 1))[0].session
    head = kit.u8(kit.FENCE) + kit.u16(1) + kit.u32(session)
    for number in [*range(1, 65536), 0, 1]:
        board.bench.board.receive(kit.framed(head + kit.u16(number)))
    board.bench.clock.sleep(AFTER_S)
    last = kit.came(bytes(board.sent[-200:].split(b"\0", 1)[1]))[-1]
    assert last.status == kit.OK
    assert kit.fits(kit.status(flags=0, fired=1), last.payload)
