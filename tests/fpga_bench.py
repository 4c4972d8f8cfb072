"""The simulated FPGA bench with a look behind it: the driver on one side, the board and its chip on the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurobench.drivers._fpga_open import FpgaDriver
from neurobench.drivers.fpga import FpgaCrossbar

from neurobench import registry
from neurobench.bench.config import BenchConfig, load_bench
from neurobench.bench.limits import Guard
from neurobench.bench.passport import Passport

FAULTY = {f"board.simulation.{kind}": 0.01 for kind in ("lost", "corrupted", "duplicated", "delayed")}
# Memories so small that programs and reads are split.
SMALL = {"board.simulation.program_bytes": 256, "board.simulation.read_bytes": 64, "board.simulation.samples": 64,
         "board.simulation.rx_bytes": 1024, "board.simulation.max_body": 256}  # fmt: skip


@dataclass
class SimulatedBench:
    """`crossbar` is what a protocol works with; `simulation` what nobody but a test may look at."""

    crossbar: FpgaCrossbar
    simulation: Any
    config: BenchConfig
    span: Any

    @property
    def board(self) -> Any:
        return self.simulation.board

    def guard(self, passport: Passport | None = None) -> Guard:
        book = passport or Passport(self.crossbar.identity().chip_id, self.crossbar.capabilities.shape)
        return Guard(self.crossbar, self.config.limits, book, self.span, self.config.bench.name)

    def close(self) -> None:
        try:
            self.crossbar.close()
        finally:
            self.simulation.close()


class Lent:
    """A simulated board that outlives the drivers that open it."""

    def __init__(self, simulation: Any) -> None:
        self.url, self.clock, self.chip_id, self.harm = (
            simulation.url, simulation.clock, simulation.chip_id, simulation.harm
        )  # fmt: skip

    def close(self) -> None:
        """It stays."""


def open_simulated(overrides: Mapping[str, Any] | None = None, seed: int = 7) -> SimulatedBench:
    """Open `fpga-sim` with these overrides, limits enforced."""
    config = load_bench("fpga-sim", overrides or {})
    simulation: Any = registry.load("simulations", "fpga")(config, seed)  # type: ignore[operator]
    try:
        return _opened(simulation, config)
    except BaseException:
        simulation.close()
        raise


def reopened(bench: SimulatedBench) -> SimulatedBench:
    """The driver let go of the port and opened anew, as by the next process; board, chip and line go on."""
    bench.crossbar.link.close()
    return _opened(bench.simulation, bench.config)


def _opened(simulation: Any, config: BenchConfig) -> SimulatedBench:
    crossbar, span = FpgaDriver("fpga-sim", FpgaCrossbar, lambda config, seed: Lent(simulation))(config, 0)
    assert isinstance(crossbar, FpgaCrossbar)
    try:
        crossbar.enforce(config.limits)
    except BaseException:
        crossbar.close()
        raise
    return SimulatedBench(crossbar, simulation, config, span)
