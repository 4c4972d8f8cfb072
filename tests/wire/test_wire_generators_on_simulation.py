"""Generators on simulated instruments: what the chip has felt is what the witness says, whatever gets lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from neurobench.drivers.instruments._roles import Tally, Train
from neurobench.sim_instruments.serve.faults import Fault, FaultPlan
from simulated import Stand, stand

from neurobench.bench.crossbar import Witness
from neurobench.errors import BenchFault, InstrumentError, LinkLost

T = TypeVar("T")
MODELS = ("keysight-33500b", "keysight-81160a")
WIDTH_S = 1e-6
TRAIN = Train((0.5, -0.5), WIDTH_S)
REPEATS = (3, 1, 4)
# What may end in a doubt: a restart, or a trigger message that arrived in pieces. Everything else must be known.
DOUBTFUL = {Fault.REBOOT_BEFORE, Fault.REBOOT_AFTER, Fault.COMMAND_GARBLED}


def retried(do: Callable[[], T]) -> T:
    """What sends no volts is tried again, as the crossbar does it."""
    for _ in range(3):
        try:
            return do()
        except LinkLost:
            continue
    return do()


def cell_00(bench: Stand) -> None:
    """Connect cell (0, 0) to the generator, all other lines to ground."""
    matrix = bench.world.matrix
    assert matrix is not None
    for row, column in ((3, 1), (5, 2), (4, 3), (5, 4)):
        matrix.close(row, column)


def stage(bench: Stand, train: Train = TRAIN) -> Witness:
    driver = bench.driver

    def once() -> Witness:
        driver.enforce(None, 3.0)
        driver.program(train)
        driver.connect()
        witness: Witness = driver.baseline(7)
        return witness

    return retried(once)


def fire(bench: Stand, witness: Witness, repeats: Sequence[int]) -> Tally:
    """Fire shot after shot: triggered again only if the witness says that it was certainly not fired."""
    driver, k = bench.driver, 0
    while k < len(repeats):
        driver.arm(7, k, repeats[k])
        try:
            driver.trigger()
            while not driver.done():
                bench.world.run_for(1e-4)
            k += 1
        except LinkLost:
            found = retried(lambda: driver.tally(7, witness, repeats))
            assert found.doubt or found.shots in (k, k + 1)
            if found.doubt:
                return found
            k = found.shots
    return retried(lambda: driver.tally(7, witness, repeats))


def fired(bench: Stand) -> int:
    return bench.world.pulses_fired()


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_chip_feels_what_was_asked_for(model: str) -> None:
    bench = stand(model, "pulse")
    bench.driver.identify()
    bench.driver.safe()
    witness = stage(bench)
    cell_00(bench)
    assert fire(bench, witness, REPEATS) == Tally(3)
    bench.world.run_for(1e-3)
    exposures = bench.world.ledger
    assert len(exposures) == fired(bench) == sum(REPEATS)
    assert all(one.seconds == pytest.approx(WIDTH_S, rel=1e-9) for one in exposures)
    assert all(one.peak_v == pytest.approx(1.0, rel=1e-3) for one in exposures)
    assert not bench.world.mishaps
    assert not bench.world.damage
    assert bench.driver.errors() == []


@pytest.mark.parametrize("level_v", [0.5, -0.5])
def test_either_sign_rests_at_zero(model: str, level_v: float) -> None:
    bench = stand(model, "pulse")
    cell_00(bench)
    stage(bench, Train((level_v, -level_v), WIDTH_S))
    for _ in range(3):
        bench.world.run_for(1.0)
        assert bench.world.terminal("pulse.1").volts == bench.world.terminal("pulse.2").volts == 0
    bench.driver.safe()
    assert not bench.world.ledger


def test_a_change_of_sign_never_leaves_zero(model: str) -> None:
    bench = stand(model, "pulse")
    cell_00(bench)
    for level_v in (0.5, -0.5, 0.4, -0.3, 0.5):
        stage(bench, Train((level_v, -level_v), WIDTH_S))
        bench.world.run_for(0.1)
    bench.driver.safe()
    assert not bench.world.ledger
    assert not bench.world.mishaps


def test_a_flat_channel_stays_at_zero_and_is_connected(model: str) -> None:
    bench = stand(model, "pulse")
    witness = stage(bench, Train((1.0, 0.0), WIDTH_S))
    cell_00(bench)
    assert bench.world.terminal("pulse.2").connected
    assert fire(bench, witness, (2,)) == Tally(1)
    assert len(bench.world.ledger) == 2
    assert bench.driver.errors() == []


def test_what_somebody_left_running_is_silenced_first(model: str) -> None:
    bench = stand(model, "pulse")
    setup = {"keysight-33500b": ":OUTP1:LOAD 50;:FUNC SQU;:VOLT 4", "keysight-81160a": ":FUNC1 SQU;:VOLT1 4"}[model]
    bench.sim.receive(f"{setup};:OUTP1 1\n".encode())
    bench.driver.safe()
    witness = stage(bench)
    cell_00(bench)
    bench.world.run_for(0.1)
    assert not bench.world.ledger
    assert fire(bench, witness, (5,)) == Tally(1)
    assert fired(bench) == 5


def test_setting_up_costs_one_round_trip_and_a_shot_one(model: str) -> None:
    bench = stand(model, "pulse")
    stage(bench)
    asked: list[str] = []
    bench.driver.link.log = lambda direction, line: asked.append(line) if direction == "<" else None
    bench.driver.program(Train((-0.5, 0.5), WIDTH_S))
    assert len(asked) == 1
    bench.driver.connect()
    assert len(asked) == 2
    bench.driver.arm(7, 0, 3)
    bench.driver.trigger()
    bench.world.run_for(1e-3)
    assert bench.driver.done()
    assert len(asked) == 3
    bench.driver.program(Train((-0.5, 0.5), WIDTH_S))
    bench.driver.connect()
    assert len(asked) == 3


def test_a_new_process_counts_on(model: str) -> None:
    bench = stand(model, "pulse")
    witness = stage(bench)
    cell_00(bench)
    repeats = [1] * 70
    for k in range(67):
        bench.driver.arm(7, k, 1)
        bench.driver.trigger()
        bench.world.run_for(1e-5)
    other = bench.again()
    other.identify()
    other.safe()
    other.enforce(None, 2.0)
    other.program(TRAIN)
    other.connect()
    assert other.tally(7, witness, repeats) == Tally(67) == other.tally(7, witness, repeats)
    assert fired(bench) == 67


def test_a_process_that_dies_in_a_burst_leaves_a_doubt_and_not_a_wrong_count(model: str) -> None:
    bench = stand(model, "pulse")
    witness = stage(bench, Train((0.5, -0.5), 1e-3))
    cell_00(bench)
    bench.driver.arm(7, 0, 100)
    bench.driver.trigger()
    bench.world.run_for(0.02)
    other = bench.again()
    other.safe()
    bench.world.run_for(1.0)
    found = other.tally(7, witness, [100])
    assert "switched off" in found.doubt
    assert 0 < len(bench.world.ledger) < 100


def test_a_burst_that_is_not_over_is_not_called_unfired(model: str) -> None:
    bench = stand(model, "pulse")
    witness = stage(bench, Train((0.5, -0.5), 1e-3))
    cell_00(bench)
    bench.driver.arm(7, 0, 100)
    bench.driver.trigger()
    bench.driver.link.recover()  # a device clear cancels what *OPC waits for
    assert bench.driver.tally(7, witness, [100]) == Tally(1)
    assert sum(one.seconds for one in bench.world.ledger) == pytest.approx(0.1, rel=1e-9)


def dialogue(model: str) -> int:
    """How many lines staging and firing without faults take."""
    plan = FaultPlan.at({})
    bench = stand(model, "pulse", plan)
    witness = stage(bench)
    cell_00(bench)
    fire(bench, witness, REPEATS)
    return len(plan.dialogue)


def run_with(model: str, fault: Fault, position: int, resource: str) -> tuple[Stand, Tally | None, BenchFault | None]:
    bench = stand(model, "pulse", FaultPlan.at({position: fault}, seed=position), resource=resource)
    found, error = None, None
    try:
        witness = stage(bench)
        cell_00(bench)
        found = fire(bench, witness, REPEATS)
    except BenchFault as raised:
        error = raised
    bench.world.run_for(0.01)
    return bench, found, error


@pytest.mark.parametrize("resource", ["TCPIP0::sim::5025::SOCKET", "GPIB0::10::INSTR"])
@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_at_every_line_leaves_a_count_that_is_right_or_a_doubt(model: str, fault: Fault, resource: str) -> None:
    met, doubts = 0, 0
    for position in range(dialogue(model)):
        bench, found, error = run_with(model, fault, position, resource)
        where = f"{fault} at line {position}: {bench.plan.injected if bench.plan else ''}"
        met += len(bench.plan.injected) if bench.plan else 0
        assert fired(bench) <= sum(REPEATS), where
        assert not bench.world.damage, where
        if found is None:
            assert fault in DOUBTFUL, f"{where}: {error}"
            continue
        if found.doubt:
            doubts += 1
            assert fault in DOUBTFUL, f"{where}: {found.doubt}"
            continue
        assert fired(bench) == sum(REPEATS[: found.shots]), where
        assert found.shots == len(REPEATS), where
    assert met >= 4
    assert doubts > 0 or fault not in (Fault.REBOOT_AFTER, Fault.REBOOT_BEFORE)


TRAPS: dict[str, tuple[str, str]] = {
    "negative without inversion": (":OUTP1:POL INV", ":OUTP1:POL NORM"),
    "load of 50 ohm": (":OUTP1:LOAD INF", ":OUTP1:LOAD 50"),
    "no burst": (":SOUR1:BURS:STAT 1", ":SOUR1:BURS:STAT 0"),
    "triggered by itself": (":TRIG1:SOUR BUS", ":TRIG1:SOUR IMM"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_no_trap_reaches_the_chip(trap: str) -> None:
    bench = stand("keysight-33500b", "pulse")
    cell_00(bench)
    receive = bench.sim.receive
    old, new = (text.encode() for text in TRAPS[trap])
    bench.sim.receive = lambda data: receive(data.replace(old, new))
    with pytest.raises(InstrumentError):
        stage(bench, Train((-0.5, 0.5), WIDTH_S))
    bench.world.run_for(0.1)
    assert not bench.world.ledger
    assert not bench.world.terminal("pulse.1").connected
