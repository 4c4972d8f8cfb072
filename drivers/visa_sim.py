"""A bench of simulated instruments: the driver of real ones, on a VISA library with an emulated chip behind it.

Everything above the library is the same code as on a real bench; only what is plugged in differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from neurobench import registry

from ._visa_open import VisaDriver, open_resource
from .visa import VisaCrossbar

if TYPE_CHECKING:
    from collections.abc import Callable

    from neurobench.bench.config import BenchConfig
    from neurobench.bench.instruments import InstrumentSection, Role

    from .instruments._roles import Clock


MOST_HARM = 8


class Simulation(Protocol):
    """A simulated bench, as the registry finds it."""

    clock: Clock
    resources: dict[str, str]
    world: Any

    def library(self) -> Any:
        """A VISA library with its instruments."""

    def close(self) -> None:
        """Put the chip back into its drawer."""


class SimulatedBus:
    """The instruments of one simulated bench."""

    def __init__(self, simulation: Simulation) -> None:
        import pyvisa

        self.simulation = simulation
        self.clock = simulation.clock
        self.chip_id: str = simulation.world.chip.chip_id
        self.manager: Any = pyvisa.ResourceManager(simulation.library())

    def name(self, role: Role, section: InstrumentSection) -> str:
        """The resource string that the simulation gave it, or the bench file's."""
        return section.resource or self.simulation.resources[role]

    def open(self, name: str) -> Any:
        """A session with a simulated instrument."""
        return open_resource(self.manager, name)

    def harm(self) -> list[str]:
        """Cells that were destroyed, and what no careful operator does: the first of many."""
        found = [f"cell {one.cell} is a short since {one.volts:.3g} V for {one.seconds:.3g} s ({one.why})"
                 for one in self.simulation.world.damage]  # fmt: skip
        found += [one.what for one in self.simulation.world.mishaps]
        return [*found[:MOST_HARM], *([f"and {len(found) - MOST_HARM} times more"] if len(found) > MOST_HARM else [])]

    def close(self) -> None:
        """Put the chip away and the library with it: nothing is left for the next one."""
        self.manager.close()
        self.simulation.close()


def _simulated(config: BenchConfig, seed: int) -> SimulatedBus:
    make = cast("Callable[[BenchConfig, int], Simulation]", registry.load("simulations", "visa"))
    return SimulatedBus(make(config, seed))


plugin = VisaDriver("visa-sim", VisaCrossbar, _simulated)
