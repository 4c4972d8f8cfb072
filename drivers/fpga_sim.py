"""A bench on a simulated FPGA board: the driver of real ones, on a port with an emulated chip behind it.

Everything above the port is the same code as on a real board; only what is plugged in differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from neurobench import registry

from ._fpga_open import FpgaDriver, Simulate, Simulation
from .fpga import FpgaCrossbar

if TYPE_CHECKING:
    from neurobench.bench.config import BenchConfig


def _simulated(config: BenchConfig, seed: int) -> Simulation:
    return cast("Simulate", registry.load("simulations", "fpga"))(config, seed)


plugin = FpgaDriver("fpga-sim", FpgaCrossbar, _simulated)
