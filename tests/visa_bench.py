"""The simulated VISA bench with a look behind it: the driver on one side, the world of its chip on the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurobench.drivers._visa_open import VisaDriver
from neurobench.drivers.visa import VisaCrossbar
from neurobench.drivers.visa_sim import SimulatedBus

from neurobench import registry
from neurobench.bench.config import BenchConfig, load_bench
from neurobench.bench.limits import Guard
from neurobench.bench.passport import Passport

# Combinations of instruments that a lab may have, as overrides of the built-in bench.
PARTS: dict[str, dict[str, Any]] = {
    "2600b, 33500b, 707b": {},
    "2600b, 81160a, 707b": {"instruments.pulse.model": "keysight-81160a"},
    "b2900, 33500b, 34980a": {
        "instruments.smu.model": "keysight-b2900",
        "instruments.matrix.model": "keysight-34980a",
    },
    "2450 with a guard, 33500b, 707b": {
        "instruments.smu.model": "keithley-2450",
        "instruments.wiring.meter": 0,
        "instruments.wiring.guard": 2,
    },
    "2400 with a guard, 81160a, 34980a": {
        "instruments.smu.model": "keithley-2400",
        "instruments.pulse.model": "keysight-81160a",
        "instruments.matrix.model": "keysight-34980a",
        "instruments.wiring.meter": 0,
        "instruments.wiring.guard": 2,
    },
}


@dataclass
class SimulatedBench:
    """`crossbar` is what a protocol works with; `simulation` what nobody but a test may look at."""

    crossbar: VisaCrossbar
    simulation: Any
    config: BenchConfig
    span: Any

    @property
    def world(self) -> Any:
        return self.simulation.world

    def guard(self, passport: Passport | None = None) -> Guard:
        book = passport or Passport(self.crossbar.identity().chip_id, self.crossbar.capabilities.shape)
        return Guard(self.crossbar, self.config.limits, book, self.span, self.config.bench.name)

    def close(self) -> None:
        self.crossbar.close()


def open_simulated(overrides: Mapping[str, Any] | None = None, seed: int = 7) -> SimulatedBench:
    """Open `visa-sim` with these overrides, limits enforced."""
    config = load_bench("visa-sim", overrides or {})
    simulation: Any = registry.load("simulations", "visa")(config, seed)  # type: ignore[operator]
    driver = VisaDriver("visa-sim", VisaCrossbar, lambda config, seed: SimulatedBus(simulation))
    crossbar, span = driver(config, seed)
    assert isinstance(crossbar, VisaCrossbar)
    crossbar.enforce(config.limits)
    return SimulatedBench(crossbar, simulation, config, span)
