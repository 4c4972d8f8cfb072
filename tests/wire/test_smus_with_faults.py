"""One fault at every line of a stimulus by an SMU: never a pulse too many, and no doubt where none is needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import pytest
from neurobench.drivers.instruments._roles import Tally
from neurobench.sim_instruments.serve.faults import Fault, FaultPlan
from test_smus_on_simulation import BENCHES, Bench, bench

from neurobench.errors import BenchFault, LinkLost

T = TypeVar("T")
REPEATS = [3, 1, 2]
TRIGGER = re.compile(rb":INIT|initiate")
REBOOTS = (Fault.REBOOT_BEFORE, Fault.REBOOT_AFTER)


def retried(act: Callable[[], T]) -> T:
    """What a host does with everything but a trigger: it asks again."""
    for _ in range(4):
        try:
            return act()
        except LinkLost as error:
            lost = error
    raise lost


def finished(rig: Bench) -> bool:
    """Poll until it is done; False if it never says so."""
    for _ in range(60):
        if retried(rig.smu.done):
            return True
        rig.link.clock.sleep(1e-2)
    return False


def stimulus(rig: Bench) -> Tally:
    """A read, then three shots, as a careful host does it; a trigger goes out again only if it is known to be lost."""
    smu, steps = rig.smu, REPEATS
    retried(lambda: smu.enforce(1e-3, 5.0))
    retried(lambda: smu.prepare(1e-6, 0.02, 1e-3))
    retried(lambda: smu.sweep([0.05, -0.05], 1))
    retried(lambda: smu.program(rig.train))
    witness = retried(lambda: smu.baseline(7))
    retried(smu.connect)
    shot = 0
    while shot < len(steps):
        retried(lambda: smu.arm(7, shot, steps[shot]))  # noqa: B023 - called at once
        with suppress(LinkLost):
            smu.trigger()
        if finished(rig):
            shot += 1
            continue
        found = retried(lambda: smu.tally(7, witness, steps))
        if found.doubt:
            return found
        assert found.shots in (shot, shot + 1)
        shot = found.shots
    return retried(lambda: smu.tally(7, witness, steps))


def lines_of(model: str, channels: tuple[int, ...]) -> int:
    plan = FaultPlan.at({})
    with bench(model, channels, plan) as rig:
        assert stimulus(rig) == Tally(3, 0)
        return sum(line.startswith(">") for line in rig.seen) + 1


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in REBOOTS])
@pytest.mark.parametrize(("model", "channels"), BENCHES, ids=lambda value: str(value))
def test_a_fault_anywhere_costs_no_pulse_and_adds_none(model: str, channels: tuple[int, ...], fault: Fault) -> None:
    injected = 0
    for position in range(lines_of(model, channels)):
        plan = FaultPlan.at({position: fault}, seed=position)
        with bench(model, channels, plan) as rig:
            found = stimulus(rig)
            injected += len(plan.injected)
            fired = rig.world.pulses_fired()
            assert not rig.world.damage
            if found.doubt and fault is Fault.COMMAND_GARBLED and TRIGGER.search(plan.injected[0].line):
                assert fired <= sum(REPEATS), (position, plan.injected)  # half a trigger may be one, or none
                continue
            assert (found, fired) == (Tally(3, 0), sum(REPEATS)), (position, plan.injected)
    assert injected > 5


@pytest.mark.parametrize("fault", REBOOTS)
@pytest.mark.parametrize(("model", "channels"), BENCHES, ids=lambda value: str(value))
def test_a_restart_anywhere_is_never_a_pulse_too_many(model: str, channels: tuple[int, ...], fault: Fault) -> None:
    for position in range(lines_of(model, channels)):
        plan = FaultPlan.at({position: fault}, seed=position)
        with bench(model, channels, plan) as rig:
            try:
                found = stimulus(rig)
            except BenchFault:
                assert rig.world.pulses_fired() <= sum(REPEATS)
                continue
            fired = rig.world.pulses_fired()
            assert fired <= sum(REPEATS), (position, plan.injected)
            assert found.doubt or (found.shots, fired) == (3, sum(REPEATS)), (position, plan.injected)
