"""A simulated FPGA board on a socket, in real time, in a process of its own that tells what nobody could know."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Look:
    """Behind the board's back, by its own clock: pulses on all cells, when the last request came and the last pulse
    ended, whether all lines are grounded."""

    pulses: int
    now_s: float
    heard_s: float
    last_end_s: float
    grounded: bool


class BoardProcess:
    """The process, and the way to ask it."""

    def __init__(self, chip: Path, shape: tuple[int, int]) -> None:
        self._here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(chip, shape, there))
        self._process.start()
        there.close()
        self.url: str = self._here.recv()

    def look(self) -> Look:
        self._here.send(True)
        found: Look = self._here.recv()
        return found

    def close(self) -> None:
        self._here.send(False)
        self._process.join(20)


def _serve(chip: Path, shape: tuple[int, int], said: Connection) -> None:
    from neurobench.sim_instruments.fpga.served import TcpBoard

    from neurobench import registry
    from neurobench.bench.config import load_bench

    config = load_bench("fpga-sim", {
        "chip.rows": shape[0], "chip.cols": shape[1], "chip.model": "lsmo-gaq3-mirror", "chip.file": str(chip),
        "board.simulation.clock": "wall",
    })  # fmt: skip
    bench: Any = registry.load("simulations", "fpga")(config, 0)  # type: ignore[operator]
    heard = [0.0]
    receive = bench.board.receive

    def listening(data: bytes) -> None:
        heard[0] = bench.board.now_s()
        receive(data)

    bench.board.receive = listening
    server = TcpBoard(bench)
    said.send(server.url)
    while said.recv():
        said.send(_look(bench, heard[0]))
    server.close()
    bench.close()


def _look(bench: Any, heard_s: float) -> Look:
    with bench.time.lock:
        board = bench.board
        ends_s = [one.start_s + one.seconds for one in board.ledger]
        return Look(board.pulses_fired(), board.now_s(), heard_s, max(ends_s, default=0.0), board.lines_grounded)
