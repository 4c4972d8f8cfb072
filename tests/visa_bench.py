"""The simulated VISA bench with a look behind it: the driver on one side, the world of its chip on the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurobench.drivers._visa_open import VisaDriver
from neurobench.drivers.visa import VisaCrossbar
from neurobench.drivers.visa_sim import SimulatedBus
from neurobench.sim_instruments.serve.faults import FaultPlan, Faulty

from neurobench import registry
from neurobench.bench.config import BenchConfig, load_bench
from neurobench.bench.limits import Guard
from neurobench.bench.passport import Passport

# Combinations of instruments that a lab may have, as overrides of the built-in bench.
NO_GENERATOR = {"instruments.pulse": None, "instruments.wiring.pulse_row": 0, "instruments.wiring.pulse_col": 0}
PARTS: dict[str, dict[str, Any]] = {
    "2600b, 33500b, 707b": {},
    "2600b, 81160a, 707b": {"instruments.pulse.model": "keysight-81160a"},
    "b2900, 33500b, 34980a": {
        "instruments.smu.model": "keysight-b2900",
        "instruments.matrix.model": "keysight-34980a",
        "instruments.matrix.slots": [1],
    },
    "2450 with a guard, 33500b, 707b": {
        "instruments.smu.model": "keithley-2450",
        "instruments.wiring.meter": 0,
        "instruments.wiring.guard": 2,
    },
    "2600b that pulses, 707b": NO_GENERATOR,
    "b2900 that pulses, 34980a": {
        **NO_GENERATOR,
        "instruments.smu.model": "keysight-b2900",
        "instruments.matrix.model": "keysight-34980a",
        "instruments.matrix.slots": [1],
    },
    "2400 with a guard, 81160a, 34980a": {
        "instruments.smu.model": "keithley-2400",
        "instruments.pulse.model": "keysight-81160a",
        "instruments.matrix.model": "keysight-34980a",
        "instruments.matrix.slots": [1],
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


def open_simulated(
    overrides: Mapping[str, Any] | None = None, seed: int = 7, plan: FaultPlan | None = None
) -> SimulatedBench:
    """Open `visa-sim` with these overrides, limits enforced; `plan`: faults on the lines of all its instruments."""
    config = load_bench("visa-sim", overrides or {})
    simulation: Any = registry.load("simulations", "visa")(config, seed)  # type: ignore[operator]
    if plan is not None:
        for role, instrument in simulation.instruments.items():
            simulation.instruments[role] = Faulty(instrument, plan)
    driver = VisaDriver("visa-sim", VisaCrossbar, lambda config, seed: SimulatedBus(simulation))
    crossbar, span = driver(config, seed)
    assert isinstance(crossbar, VisaCrossbar)
    try:
        crossbar.enforce(config.limits)
    except BaseException:
        crossbar.close()
        raise
    return SimulatedBench(crossbar, simulation, config, span)
