"""The VISA bench under a hostile operator: a rest at any line of another thread, dead links, several at once."""

from __future__ import annotations

import itertools
import threading
from time import monotonic
from typing import Any

import numpy as np
import pytest
from neurobench.drivers._visa_open import VisaDriver, connect, refuse_simulated_settings
from neurobench.drivers._visa_plan import make_paths
from neurobench.drivers.visa import VisaCrossbar
from neurobench.drivers.visa_sim import SimulatedBus
from stepping import Stepped
from visa_bench import PARTS, SimulatedBench, open_simulated

from neurobench import registry
from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Done, NotDone, Unknown
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch, shots
from neurobench.errors import (
    BenchFault,
    CapabilityMissing,
    ConfigError,
    InstrumentError,
    InUse,
    LimitExceeded,
    LinkLost,
    UsageError,
)

CHIP = {"chip.rows": 2, "chip.cols": 3, "chip.model": "lsmo-gaq3-mirror"}
SHAPE = (2, 3)
PULSE = Pulse(2.0, 1e-3)
INSTRUMENTS = ("_generator", "_matrix", "_scpi_smu", "_smu", "keithley_2600b", "keysight_b2900", "keithley_2450")
DRIVER = ("drivers/visa.py", *(f"drivers/instruments/{name}.py" for name in INSTRUMENTS))
SOME = [
    "2600b, 33500b, 707b",
    "b2900 that pulses, 34980a",
    "2600b that pulses, 707b",
    "2450 with a guard, 33500b, 707b",
]
STRIDE = 7  # every line takes minutes; each part begins at another one


def batch(measure: bool = False, counts: Any = ((1, 0, 2), (0, -1, 0))) -> PulseBatch:
    return PulseBatch(np.array(counts, np.int16), PULSE, measure=measure)


def read(both: bool = True) -> CellRead:
    return CellRead(np.ones(SHAPE, np.bool_), 0.05, both)


class Ear:
    """What goes out on all links of a bench, and who said it."""

    def __init__(self, bench: SimulatedBench) -> None:
        self.heard: list[tuple[int, str]] = []
        for link in bench.crossbar._connected.links.values():
            link.log = self._hear

    def _hear(self, direction: str, line: str) -> None:
        if direction == ">":
            self.heard.append((threading.get_ident(), line))


def off(bench: SimulatedBench) -> bool:
    """Whether no terminal of the bench has a voltage, and every line is on ground."""
    world = bench.world
    grounded = {column for row, column in world.matrix.closed if row == bench.config.instruments.wiring.ground}
    with world.lock:
        return all(t.volts == 0.0 for t in world._terminals.values()) and grounded == set(range(1, sum(SHAPE) + 1))


def unharmed(bench: SimulatedBench) -> None:
    assert bench.world.mishaps == ()
    assert bench.world.damage == ()


def fire(bench: SimulatedBench) -> Any:
    crossbar, stimulus = bench.crossbar, batch()
    witness = crossbar.stage(0, shots(stimulus, crossbar.capabilities))
    bench.witness = witness  # type: ignore[attr-defined]
    return lambda: crossbar.fire(0)


def sense(bench: SimulatedBench) -> Any:
    return lambda: bench.crossbar.sense(read(both=False))


def stopped_at(parts: str, work: Any, line: int) -> bool:
    """Rest while the other thread stands at its n-th line. False: it has no such line."""
    bench = open_simulated({**CHIP, **PARTS[parts]})
    try:
        ear, fired = Ear(bench), []

        def rest() -> None:
            if stepped.where.startswith("_go_on"):  # there a rest waits for it, and here it stands still
                return fired.append(bench.world.pulses_fired())
            began_s = monotonic()
            bench.crossbar.rest()
            assert monotonic() - began_s < 1.0, stepped.where
            assert off(bench), stepped.where
            ear.heard.clear()
            return fired.append(bench.world.pulses_fired())

        stepped = Stepped(work(bench), DRIVER, line)
        reached = stepped.run(rest)
        if reached:
            told = isinstance(stepped.error, BenchFault) or work is fire or stepped.error is None
            assert told, (stepped.where, stepped.error)
            _nothing_followed(bench, stepped, ear, fired[0])
            if work is fire:
                _ledger_holds(bench, stepped)
        unharmed(bench)
        return reached
    finally:
        bench.close()


def _nothing_followed(bench: SimulatedBench, stepped: Stepped, ear: Ear, fired: int) -> None:
    """After rest() has returned the other thread says nothing at all, unless it only then began a call."""
    began_later = stepped.where.startswith(("sense", "_go_on"))
    assert began_later or not ear.heard, (stepped.where, ear.heard)
    assert began_later or off(bench), stepped.where
    assert bench.world.pulses_fired() == fired, stepped.where


def _ledger_holds(bench: SimulatedBench, stepped: Stepped) -> None:
    crossbar, stimulus = bench.crossbar, shots(batch(), bench.crossbar.capabilities)
    found = crossbar.outcome(0, bench.witness, stimulus)  # type: ignore[attr-defined]
    ends = [0, *itertools.accumulate(int(n) for n in np.diff(stimulus.indptr) * stimulus.repeat)]  # type: ignore[union-attr]
    fired = bench.world.pulses_fired()
    if isinstance(found, Done):
        assert fired == found.applied.pulses == ends[found.applied.shots_done], stepped.where
    elif isinstance(found, NotDone):
        assert fired == 0, stepped.where
    else:
        assert isinstance(found, Unknown)
        assert ends[found.shot] <= fired <= ends[found.shot + 1], stepped.where


@pytest.mark.parametrize("work", [fire, sense])
@pytest.mark.parametrize("parts", SOME)
def test_after_a_rest_nothing_more_leaves_whatever_line_the_other_thread_is_at(parts: str, work: Any) -> None:
    first = 1 + SOME.index(parts)
    reached = [line for line in range(first, 200, STRIDE * 4) if stopped_at(parts, work, line)]
    assert len(reached) >= 3


def test_a_rest_in_a_signal_handler_comes_between_the_decision_and_the_trigger() -> None:
    """In the thread itself, with the gate held: no deadlock, and the trigger that follows finds its outputs off."""
    bench = open_simulated({**CHIP})
    try:
        crossbar, link = bench.crossbar, bench.crossbar._connected.links["pulse"]
        go = fire(bench)

        def handler(direction: str, line: str) -> None:
            if direction == ">" and "*TRG" in line:
                link.log = None
                crossbar.rest()

        link.log = handler
        with pytest.raises(BenchFault):
            go()
        assert off(bench)
        assert bench.world.pulses_fired() == 0
        assert isinstance(crossbar.outcome(0, bench.witness, None), Unknown)  # type: ignore[attr-defined]
        unharmed(bench)
    finally:
        bench.close()


def test_rest_before_anything_twice_and_after_close() -> None:
    bench = open_simulated({**CHIP})
    bench.crossbar.rest()
    bench.crossbar.rest()
    assert off(bench)
    bench.close()
    bench.crossbar.rest()
    bench.crossbar.close()


class Dead:
    """A session whose other end is gone: it takes what is sent, and answers nothing."""

    resource_name = "TCPIP0::gone::1::SOCKET"
    timeout = 50.0
    read_termination = "\n"

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.sent: list[bytes] = []

    def write_raw(self, message: bytes) -> int:
        self.sent.append(message)
        return len(message)

    def read_bytes(self, count: int, *, break_on_termchar: bool = False) -> bytes:
        from pyvisa.constants import StatusCode
        from pyvisa.errors import VisaIOError

        self._clock.sleep(self.timeout / 1000)
        raise VisaIOError(StatusCode.error_timeout)

    def clear(self) -> None:
        """Nobody is there to be cleared."""

    def open(self, *, open_timeout: int) -> None:
        raise OSError("no route")

    def close(self) -> None:
        """It is."""


@pytest.mark.parametrize("dead", ["smu", "pulse", "matrix"])
def test_a_dead_link_keeps_nobody_else_on_and_no_relay_moves_with_a_source_in_doubt(dead: str) -> None:
    bench = open_simulated({**CHIP})
    crossbar, world = bench.crossbar, bench.world
    link = crossbar._connected.links[dead]
    alive = link._resource
    try:
        fire(bench)  # staged: the generator's outputs are on, at 0 V
        crossbar.sense(read())
        closed, began_s = world.matrix.closed, crossbar.clock_s
        ear = Ear(bench)
        link._resource = Dead(bench.simulation.clock)  # type: ignore[assignment]
        with pytest.raises(LinkLost, match=dead):
            crossbar.rest()
        others = [source for source in crossbar._connected.sources if source.link is not link]
        said = [line for _, line in ear.heard]
        for source in others:
            terminals = [bench.simulation.instruments[_role(source)].terminal(n) for n in (1, 2)]
            assert [terminal.volts for terminal in terminals] == [0.0, 0.0]
        assert world.matrix.closed == closed
        assert any(":OUTP1 0" in line for line in said)
        assert any("smua.source.output=0" in line for line in said)
        assert crossbar.clock_s - began_s < 20
        with pytest.raises(BenchFault):
            crossbar.fire(0)
        link._resource = alive
        crossbar.rest()
        assert off(bench)
        unharmed(bench)
    finally:
        link._resource = alive
        bench.close()


def _role(source: Any) -> str:
    return str(source.link.name).split()[0]


def test_an_instrument_that_does_not_answer_at_opening_leaves_no_other_one_on() -> None:
    config = load_bench("visa-sim", CHIP)
    simulation: Any = registry.load("simulations", "visa")(config, 7)  # type: ignore[operator]
    generator = simulation.instruments["pulse"]
    for line in (
        b":OUTP1:LOAD INF\n",
        b":SOUR1:FUNC DC\n",
        b":SOUR1:VOLT:OFFS 1\n",
        b":OUTP1 1\n",
    ):  # somebody left it on
        generator.receive(line)
    assert generator.terminal(1).volts == pytest.approx(1.0)
    bus = SimulatedBus(simulation)
    opened = bus.open
    bus.open = lambda name: Dead(bus.clock) if "smu" in name else opened(name)  # type: ignore[method-assign]
    with pytest.raises(LinkLost, match="smu"):
        VisaDriver("visa-sim", VisaCrossbar, lambda config, seed: bus)(config, 7)
    assert not generator.terminal(1).connected


def test_a_stimulus_that_certainly_was_not_fired_may_be_staged_and_fired_again() -> None:
    bench = open_simulated({**CHIP})
    try:
        crossbar, generator = bench.crossbar, bench.crossbar.team.generator
        assert generator is not None
        stimulus = shots(batch(), crossbar.capabilities)
        witness = crossbar.stage(0, stimulus)
        trigger, generator.trigger = generator.trigger, _lost(generator)  # type: ignore[method-assign]
        with pytest.raises(LinkLost, match="never fired"):
            crossbar.fire(0)
        assert isinstance(crossbar.outcome(0, witness, stimulus), NotDone)
        generator.trigger = trigger  # type: ignore[method-assign]
        crossbar.stage(0, stimulus)
        assert crossbar.fire(0).pulses == bench.world.pulses_fired() == 4
        with pytest.raises(UsageError, match="was used"):
            crossbar.stage(0, stimulus)
    finally:
        bench.close()


@pytest.mark.parametrize("heard", [True, False])
def test_a_burst_that_ended_behind_outputs_that_were_off_is_not_taken_for_fired(heard: bool) -> None:
    """The answer to "off" is lost, and when it is asked again the generator has ended its burst inside itself."""
    bench = open_simulated({**CHIP})
    try:
        crossbar, generator, clock = bench.crossbar, bench.crossbar.team.generator, bench.simulation.clock
        assert generator is not None
        stimulus = shots(batch(counts=((50, 0, 0), (0, 0, 0))), crossbar.capabilities)
        witness = crossbar.stage(0, stimulus)
        crossbar._make_ready(crossbar._staged, 0)  # type: ignore[arg-type]
        generator.arm(0, 0, 50)
        generator.trigger()
        clock.sleep(0.02)
        urge = generator.link.urge

        def deaf(line: str, fits: Any, timeout_s: float | None = None) -> str:
            answer = urge(line, fits, timeout_s)
            if not heard:
                clock.sleep(1.0)
                raise LinkLost("its answer is lost")
            return answer

        generator.link.urge = deaf  # type: ignore[method-assign]
        generator.safe()  # as another process does, that has found the bench so
        found = generator.tally(0, witness, [50])
        assert 0 < bench.world.pulses_fired() < 50
        assert "switched off while" in found.doubt
    finally:
        bench.close()


def _lost(generator: Any) -> Any:
    def trigger() -> None:
        generator._armed, generator._flying = None, generator._armed

    return trigger


def test_what_was_cut_between_two_shots_is_done_as_far_as_it_went_with_its_currents_and_its_time() -> None:
    bench = open_simulated({**CHIP, **PARTS["2600b that pulses, 707b"]})
    try:
        crossbar = bench.crossbar
        stimulus = shots(batch(measure=True), crossbar.capabilities)
        witness = crossbar.stage(0, stimulus)
        source = crossbar.team.meter_source
        assert source is not None
        arm = source.arm
        began_s = crossbar.clock_s

        def at_the_second(seq: int, shot: int, pulses: int) -> None:
            if shot == 1:
                crossbar.rest()
            arm(seq, shot, pulses)

        source.arm = at_the_second  # type: ignore[method-assign]
        with pytest.raises(InstrumentError, match="brought to rest"):
            crossbar.fire(0)
        found = crossbar.outcome(0, witness, stimulus)
        assert isinstance(found, Done)
        assert found.applied.shots_done == 1
        assert found.applied.pulses == bench.world.pulses_fired() == int(stimulus.repeat[0])  # type: ignore[union-attr]
        assert found.applied.currents_a is not None
        assert np.isfinite(found.applied.currents_a).all()
        assert began_s <= found.applied.start_s < found.applied.end_s
        unharmed(bench)
    finally:
        bench.close()


# ------------------------------------------------------------------ what reaches the hardware


def _generator_limits(bench: SimulatedBench) -> list[float]:
    link = bench.crossbar._connected.links["pulse"]
    bench.crossbar._connected.unlatch()
    return [float(link.query(f":SOUR{c}:VOLT:LIM:{end}?")) for c in (1, 2) for end in ("HIGH", "LOW")]


@pytest.mark.parametrize(
    ("limits", "most_v"),
    [
        ({"limits.max_cell_v": 3.0}, 1.5),
        ({"limits.max_cell_v": 3.0, "limits.max_line_v": 1.2}, 1.2),
        ({"limits.max_cell_v": 3.0, "limits.max_victim_v": 0.9}, 0.9),
        ({"limits.max_cell_v": 3.0, "chip.isolation": "isolated", "bench.biases": ["isolated"]}, 3.0),
    ],
)
def test_an_output_reaches_only_its_share_of_a_cells_volts(limits: dict[str, Any], most_v: float) -> None:
    bench = open_simulated({**CHIP, **limits})
    try:
        assert _generator_limits(bench) == pytest.approx([most_v, -most_v] * 2, rel=1e-6)
    finally:
        bench.close()


def test_the_limits_of_forming_reach_the_hardware_while_it_runs_and_only_then() -> None:
    said = {**CHIP, "limits.max_cell_v": 3.0, "limits.forming": {"max_cell_v": 4.0}}
    for profile, most_v in (("", 1.5), ("forming", 2.0)):
        guard = open_bench(load_bench("visa-sim", said), 7, profile)
        try:
            assert isinstance(guard.raw, VisaCrossbar)
            link = guard.raw._connected.links["pulse"]
            assert float(link.query(":SOUR1:VOLT:LIM:HIGH?")) == pytest.approx(most_v, rel=1e-6)
        finally:
            guard.close()


@pytest.mark.parametrize("parts", ["2600b that pulses, 707b", "b2900 that pulses, 34980a"])
def test_an_smu_that_pulses_still_reads_below_the_limit_of_reads(parts: str) -> None:
    bench = open_simulated({**CHIP, **PARTS[parts], "limits.max_read_v": 0.1})
    try:
        with pytest.raises(LimitExceeded, match="max_read_v"):
            bench.crossbar.sense(CellRead(np.ones(SHAPE, np.bool_), 0.2))
        bench.crossbar.sense(CellRead(np.ones(SHAPE, np.bool_), 0.1))
    finally:
        bench.close()


# ------------------------------------------------------------------ what the matrix reaches


def test_a_task_with_more_lines_than_the_matrix_is_told_its_size_and_what_to_make_smaller() -> None:
    bench = open_simulated({**CHIP})
    try:
        task = load_bench("visa-sim", {}, {"chip.rows": 80, "chip.cols": 1, "chip.model": "epiram"})
        with pytest.raises(ConfigError, match=r"array of 80 x 1 .*up to matrix column 81; the matrix has 72 .*--set"):
            make_paths(task, bench.crossbar.team)
    finally:
        bench.close()


# ------------------------------------------------------------------ whose instruments they are


def test_one_instrument_in_two_roles_is_refused_by_name() -> None:
    bus = SimulatedBus(registry.load("simulations", "visa")(load_bench("visa-sim", CHIP), 7))  # type: ignore[operator]
    same = load_bench("visa-sim", {**CHIP, "instruments.smu.resource": "GPIB0::5::INSTR",
                                   "instruments.pulse.resource": "gpib::5"})  # fmt: skip
    with pytest.raises(ConfigError, match=r"instruments\.smu.*instruments\.pulse.*gpib::5"):
        connect(same, bus, lock=False)


def test_a_bench_is_locked_by_its_instruments_however_their_addresses_are_spelled() -> None:
    config = load_bench("visa-sim", CHIP)
    simulation: Any = registry.load("simulations", "visa")(config, 7)  # type: ignore[operator]
    first = connect(config, SimulatedBus(simulation), lock=True)
    try:
        other = load_bench("visa-sim", {**CHIP, "bench.name": "other", "instruments.smu.resource":
                                        first.resources["smu"].replace("TCPIP0", "tcpip")})  # fmt: skip
        with pytest.raises(InUse, match="visa-sim"):
            connect(other, SimulatedBus(simulation), lock=True)
    finally:
        first.close()


@pytest.mark.parametrize(
    "setting", [{"readout.ideal": True}, {"readout.noise": False}, {"readout.adc_bits": 12},
                {"instruments.simulation.round_trip_s": 0.1}],
)  # fmt: skip
def test_settings_of_a_simulation_are_refused_on_a_real_bench(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        refuse_simulated_settings(load_bench("visa-sim", {**CHIP, **setting}))


def test_edges_that_an_smu_cannot_make_are_refused_before_the_first_volt() -> None:
    bench = open_simulated({**CHIP, **PARTS["2600b that pulses, 707b"]})
    try:
        slow = PulseBatch(np.array([[1, 0, 0], [0, 0, 0]]), Pulse(2.0, 1e-3, 1e-4, 1e-4))
        with pytest.raises(CapabilityMissing, match="edges"):
            bench.crossbar.stage(0, shots(slow, bench.crossbar.capabilities))
    finally:
        bench.close()


def test_a_single_read_says_that_the_noise_of_its_zero_is_in_it() -> None:
    bench = open_simulated({**CHIP})
    try:
        own_a = bench.crossbar.team.smu.noise_a(bench.crossbar.sense(read()).range_a, read().integration_s)
        both, single = (bench.crossbar.sense(read(both)).sigma_a for both in (True, False))
        assert single**2 - both**2 == pytest.approx(own_a**2, rel=1e-6)
    finally:
        bench.close()


def test_another_aperture_calibrates_its_paths_anew() -> None:
    bench = open_simulated({**CHIP})
    try:
        link = bench.crossbar._connected.links["smu"]
        for integration_s, levels in ((1e-3, 3), (1e-3, 2), (2e-3, 3)):
            ear = Ear(bench)
            bench.crossbar.sense(CellRead(np.ones(SHAPE, np.bool_), 0.05, True, 0.0, integration_s))
            sweeps = [line for _, line in ear.heard if line.startswith("nb_ready")]
            assert [line.count("measure.i()") for line in sweeps] == [levels] * 6
        assert link.losses == 0
    finally:
        bench.close()
