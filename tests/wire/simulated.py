"""A driver on its simulated instrument, through the simulated VISA library and, if asked for, a line with faults."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pyvisa
from neurobench.drivers.instruments._link import Link
from neurobench.sim_instruments.serve.faults import FaultPlan, Faulty
from neurobench.sim_instruments.serve.visalib import SimulatedVisa
from neurobench.sim_instruments.world.clock import SimClock
from neurobench.sim_instruments.world.wiring import through_matrix
from neurobench.sim_instruments.world.world import World

from neurobench.bench.instruments import InstrumentSection, Wiring
from neurobench.physics.chip import Chip, draw_devices
from neurobench.physics.library import load_model
from neurobench.physics.readout import Readout

WIRING = Wiring(smu=1, meter=2, pulse_row=3, pulse_col=4, ground=5)


def small_world(device: str = "idealized", shape: tuple[int, int] = (2, 2)) -> World:
    """A chip behind an 8-row matrix, without noise."""
    model = load_model(device)
    world = World(Chip(model, draw_devices(model, shape, 7, None), 7), Readout(noise=False),
                  potentiating_sign=model.card.potentiating_sign)  # fmt: skip
    world.relays(8, sum(shape) + 1)
    through_matrix(world, WIRING, {"smu": (1, 2), "pulse": (1, 2)})
    return world


@dataclass
class Stand:
    """A driver, the simulated instrument behind it, and their world."""

    driver: Any
    sim: Any
    world: World
    plan: FaultPlan | None
    library: Any
    resource: str

    def link(self) -> Link:
        """Another connection to the same instrument."""
        session = pyvisa.ResourceManager(self.library).open_resource(self.resource)
        session.read_termination = session.write_termination = "\n"  # type: ignore[attr-defined]
        return Link(session, SimClock(self.world), "simulated", 1.0)  # type: ignore[arg-type]

    def again(self) -> Any:
        """A driver as a new process makes it."""
        return type(self.driver)(self.link(), self.driver.section)


def stand(
    model: str, role: str, plan: FaultPlan | None = None, world: World | None = None,
    resource: str = "TCPIP0::sim::5025::SOCKET", **settings: Any,
) -> Stand:  # fmt: skip
    """Make one."""
    world = world or small_world()
    section = InstrumentSection(model=model, **settings)
    module = import_module(f"neurobench.sim_instruments.{model.replace('-', '_')}")
    sim = module.plugin(world, role, "NBSIM001", section)
    library = SimulatedVisa({resource: Faulty(sim, plan) if plan else sim})
    made = Stand(None, sim, world, plan, library, resource)
    made.driver = import_module(f"neurobench.drivers.instruments.{model.replace('-', '_')}").plugin(
        made.link(), section
    )
    return made
