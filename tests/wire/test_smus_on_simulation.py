"""Every SMU driver against its simulation: what is read is the chip's current, what is fired is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import pyvisa
from neurobench.drivers.instruments._link import Link
from neurobench.drivers.instruments._roles import Train
from neurobench.sim_instruments.serve.faults import FaultPlan, Faulty
from neurobench.sim_instruments.serve.visalib import SimulatedVisa
from neurobench.sim_instruments.world.clock import SimClock
from neurobench.sim_instruments.world.wiring import ground
from neurobench.sim_instruments.world.world import World

from neurobench import registry
from neurobench.bench.instruments import InstrumentSection
from neurobench.errors import InstrumentError, LimitExceeded, LinkLost
from neurobench.physics.chip import Chip, draw_devices
from neurobench.physics.library import build_model, card
from neurobench.physics.readout import Readout

RESOURCE = "GPIB0::5::INSTR"
WIDTH_S = {"keithley-2600b": 1e-3, "keithley-2450": 5e-3, "keithley-2400": 5e-3, "keysight-b2900": 1e-3}
ONE = [*WIDTH_S, "generic-smu"]
BENCHES = [
    ("keithley-2600b", (1,)),
    ("keithley-2600b", (1, 2)),
    ("keithley-2450", (1,)),
    ("keithley-2400", (1,)),
    ("keysight-b2900", (1,)),
    ("keysight-b2900", (1, 2)),
]
LIMIT_A = 1e-3


@dataclass
class Bench:
    """An SMU, its driver, its link, and the one cell between its terminals."""

    smu: Any
    sim: Any
    world: World
    link: Link
    model: str
    seen: list[str]

    @property
    def conductance_s(self) -> float:
        return float(self.world.chip.conductance_s()[0, 0])

    @property
    def train(self) -> Train:
        volts = (1.0,) if self.smu.channels == 1 else (0.5, -0.5)
        return Train(volts, WIDTH_S[self.model])

    def set_up(self) -> None:
        self.smu.enforce(LIMIT_A, 5.0)
        self.smu.prepare(1e-6, 0.02, 1e-3)

    def fire(self, seq: int, repeats: list[int]) -> Any:
        self.smu.program(self.train, measure=True)
        witness = self.smu.baseline(seq)
        self.smu.connect()
        for shot, pulses in enumerate(repeats):
            self.smu.arm(seq, shot, pulses)
            self.smu.trigger()
            self.wait()
        return witness

    def wait(self) -> None:
        for _ in range(1000):
            if self.smu.done():
                return
            self.link.clock.sleep(1e-3)
        raise AssertionError("it never ends")

    def another_driver(self) -> Any:
        return type(self.smu)(self.link, self.smu.section)


@cache
def device_for(width_s: float) -> Any:
    """A device that answers pulses of 1 V and this width, and is hurt by longer ones."""
    known = card("idealized")
    pulses = [point.model_copy(update={"width_s": width_s}) for point in known.pulse]
    return build_model(known.model_copy(update={"pulse": tuple(pulses)}))


@contextmanager
def bench(model: str, channels: tuple[int, ...], plan: FaultPlan | None = None) -> Iterator[Bench]:
    """One SMU on one cell, over a line with the faults of a plan."""
    device = device_for(WIDTH_S.get(model, 1e-3))
    world = World(Chip(device, draw_devices(device, (1, 1), 3), 3), Readout(noise=False))
    world.wire(world.terminal(f"smu.{channels[0]}").node, world.line(0, 0))
    world.wire(world.terminal(f"smu.{channels[1]}").node if len(channels) > 1 else ground(world), world.line(1, 0))
    section = InstrumentSection(model=model, channels=channels)
    sim: Any = registry.load("sim_instruments", model)
    instrument = sim(world, "smu", "NBSIM001", section, noise=False)
    served = instrument if plan is None else Faulty(instrument, plan)
    manager = pyvisa.ResourceManager(SimulatedVisa({RESOURCE: served}))
    resource: Any = manager.open_resource(RESOURCE, read_termination="\n", write_termination="\n")
    link = Link(resource, SimClock(world), "smu")
    seen: list[str] = []
    link.log = lambda direction, line: seen.append(f"{direction} {line}")
    driver: Any = registry.load("instruments", model)
    yield Bench(driver(link, section), instrument, world, link, model, seen)
    manager.close()


@pytest.fixture(params=BENCHES, ids=lambda b: f"{b[0]}-{len(b[1])}")
def rig(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(*request.param) as found:
        yield found


def test_it_says_who_it_is_and_that_it_is_simulated(rig: Bench) -> None:
    found = rig.smu.identify()
    assert found.simulated
    assert found.serial == "NBSIM001"


def test_a_sweep_reads_the_conductance_of_the_cell(rig: Bench) -> None:
    rig.set_up()
    levels = [0.05, -0.05, 0.0]
    swept = rig.smu.sweep(levels, averages=3)
    assert swept.currents_a == pytest.approx(rig.conductance_s * np.array(levels), rel=1e-6, abs=1e-14)
    assert not swept.compliance
    assert not swept.over_range
    assert swept.range_a >= 1e-6


def test_what_is_set_up_needs_no_word_and_a_read_is_one_or_two_exchanges(rig: Bench) -> None:
    rig.set_up()
    rig.smu.sweep([0.05, -0.05], 1)
    rig.seen.clear()
    rig.smu.prepare(1e-6, 0.02, 1e-3)
    assert rig.seen == []
    rig.smu.sweep([0.05, -0.05], 1)
    assert sum(line.startswith("<") for line in rig.seen) <= 2


def test_a_range_that_is_too_small_is_said(rig: Bench) -> None:
    rig.smu.enforce(LIMIT_A, 5.0)
    small = rig.smu.ranges_a[0]
    rig.smu.prepare(small, 0.02, 1e-3)
    assert rig.smu.sweep([3 * small / rig.conductance_s], 1).over_range


def test_the_current_limit_is_enforced_and_said(rig: Bench) -> None:
    rig.smu.enforce(1e-6, 5.0)
    rig.smu.prepare(1e-6, 0.02, 1e-3)
    swept = rig.smu.sweep([3e-6 / rig.conductance_s], 1)
    assert swept.compliance or swept.over_range
    assert abs(swept.currents_a[0]) < 1.1e-6 or swept.over_range


def test_levels_above_the_limit_are_not_sent(rig: Bench) -> None:
    rig.smu.enforce(LIMIT_A, 1.0)
    rig.smu.prepare(1e-6, 0.02, 0.0)
    rig.seen.clear()
    with pytest.raises(LimitExceeded):
        rig.smu.sweep([1.2], 1)
    with pytest.raises(LimitExceeded):
        rig.smu.program(Train((1.2,), WIDTH_S[rig.model]))
    assert rig.seen == []


def test_after_a_sweep_nothing_stands_on_the_chip(rig: Bench) -> None:
    rig.set_up()
    rig.smu.sweep([0.05], 1)
    assert rig.world.terminal("smu.1").voltage_v() == 0.0


def test_pulses_are_those_that_were_asked_for(rig: Bench) -> None:
    rig.set_up()
    before = rig.conductance_s
    rig.fire(7, [3, 1, 5])
    assert rig.world.pulses_fired() == 9
    assert rig.conductance_s > before
    assert {round(exposure.peak_v, 9) for exposure in rig.world.ledger} == {1.0}
    widths = [exposure.seconds for exposure in rig.world.ledger]
    assert widths == pytest.approx([WIDTH_S[rig.model]] * 9, rel=0.02)
    assert not rig.world.damage
    assert rig.smu.errors() == []


def test_currents_are_measured_in_the_pulses_of_the_last_shot(rig: Bench) -> None:
    rig.set_up()
    rig.fire(7, [2, 3])
    currents = rig.smu.currents_a()
    assert currents.shape == (3, rig.smu.outputs)
    assert np.all(currents > 0)
    assert np.all(currents < LIMIT_A * 1.01)


def test_the_pulse_witness_counts_shots_and_may_be_asked_again(rig: Bench) -> None:
    rig.set_up()
    repeats = [3, 1, 5]
    witness = rig.fire(7, repeats)
    assert rig.smu.tally(7, witness, repeats) == (3, 0, "")
    assert rig.smu.tally(7, witness, repeats) == (3, 0, "")
    assert rig.another_driver().tally(7, witness, [3, 1, 5, 2]) == (3, 0, "")


def test_a_lost_trigger_is_told_from_a_lost_answer(rig: Bench) -> None:
    rig.set_up()
    witness = rig.fire(7, [3])
    rig.smu.arm(7, 1, 4)  # and the trigger never leaves
    assert not rig.smu.done()
    assert rig.smu.tally(7, witness, [3, 4]) == (1, 0, "")
    rig.smu.trigger()  # it arrives, and nobody hears
    assert rig.another_driver().tally(7, witness, [3, 4]) == (2, 0, "")
    assert rig.world.pulses_fired() == 7


def test_a_read_between_shots_does_not_change_the_count(rig: Bench) -> None:
    rig.set_up()
    witness = rig.fire(7, [3])
    rig.smu.prepare(1e-6, 0.02, 1e-3)
    rig.smu.sweep([0.05, -0.05], 2)
    assert rig.smu.tally(7, witness, [3, 4]) == (1, 0, "")


def test_switching_off_does_not_change_the_count(rig: Bench) -> None:
    rig.set_up()
    witness = rig.fire(7, [3])
    rig.smu.safe()
    assert rig.smu.errors() == []
    assert rig.smu.tally(7, witness, [3, 4]) == (1, 0, "")


def test_a_restart_is_doubt(rig: Bench) -> None:
    rig.set_up()
    witness = rig.fire(7, [3])
    rig.sim.power_cycle()
    tally = rig.smu.tally(7, witness, [3, 4])
    assert "restarted" in tally.doubt


def test_another_stimulus_since_is_doubt(rig: Bench) -> None:
    rig.set_up()
    witness = rig.fire(7, [3])
    rig.link.clock.sleep(0.0123)
    rig.smu.baseline(8)
    assert "something else" in rig.smu.tally(7, witness, [3, 4]).doubt


def test_after_a_restart_no_trigger_fires_and_no_sweep_reads(rig: Bench) -> None:
    rig.set_up()
    rig.fire(7, [3])
    rig.smu.arm(7, 1, 4)
    rig.sim.power_cycle()
    rig.smu.trigger()
    rig.link.clock.sleep(1.0)
    assert rig.world.pulses_fired() == 3
    with pytest.raises((InstrumentError, LinkLost)):
        rig.smu.sweep([0.05], 1)


def test_switching_off_in_the_middle_of_a_train_leaves_a_count_that_is_true_or_in_doubt(rig: Bench) -> None:
    rig.set_up()
    rig.smu.program(rig.train)
    witness = rig.smu.baseline(7)
    rig.smu.connect()
    rig.smu.arm(7, 0, 10)
    rig.smu.trigger()
    rig.link.clock.sleep(4.6 * WIDTH_S[rig.model])
    rig.smu.safe()
    assert rig.world.terminal("smu.1").voltage_v() == 0.0
    tally = rig.smu.tally(7, witness, [10])
    assert tally.shots == 0
    assert tally.doubt or tally.pulses == rig.world.pulses_fired()
    rig.link.clock.sleep(1.0)
    assert rig.world.pulses_fired() < 10


def test_old_errors_in_the_queue_do_not_stop_anything(rig: Bench) -> None:
    for _ in range(30):
        rig.link.write(":NONSENSE!")
    rig.set_up()
    rig.fire(7, [2])
    assert rig.world.pulses_fired() == 2


def test_outputs_go_on_only_after_the_limit_is_set_and_at_a_proven_zero(rig: Bench) -> None:
    rig.set_up()
    rig.smu.safe()
    rig.fire(7, [1])
    assert not rig.world.mishaps
    assert rig.world.pulses_fired() == 1
