"""The driver on the gateware itself, tick by tick in Amaranth's simulator: pulses, reads, limits, rest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from gateware_bench import (
    COLS,
    CONDUCTANCE_S,
    HARDWARE,
    PULSE_TICKS,
    READ,
    READ_V,
    ROWS,
    GatewareBench,
    expected_levels,
    open_gateware,
)
from neurobench.drivers._fpga_open import _test_memory, _test_zeros

from neurobench.bench.crossbar import NotDone, conductance_s
from neurobench.bench.frames import (
    ACQUIRE,
    FIRE,
    LIMIT_NAMES,
    LimitRegisters,
    Op,
    ReadFrame,
    Request,
    Status,
    cell_read,
)
from neurobench.bench.stimulus import CellRead, Direction, VectorRead
from neurobench.errors import InstrumentError, LimitExceeded


@pytest.fixture(scope="module")
def shared() -> Iterator[GatewareBench]:
    """One simulation for all tests here; what no board may do at its pins fails the last of them."""
    bench = open_gateware()
    yield bench
    assert bench.board.analog.faults == []


@pytest.fixture
def bench(shared: GatewareBench) -> GatewareBench:
    shared.new_levels()
    return shared


def test_the_driver_meets_the_board_and_agrees_on_a_speed(bench: GatewareBench) -> None:
    has = bench.link.known
    assert (has.rows, has.cols, has.samples, has.max_body) == (ROWS, COLS, 8, 160)
    assert bench.link.baud == 460_800
    assert bench.crossbar.capabilities.delivery == "exactly_once"
    assert bench.board.pulses == []


def test_pulses_leave_the_pins_as_the_contract_expands_them(bench: GatewareBench) -> None:
    batch = bench.batch([[1, 0, -2], [3, 1, 0]])
    bench.crossbar.stage(bench.seq + 1, batch)
    assert bench.new_levels() == []
    applied = bench.fired(batch)
    assert (applied.shots_done, applied.pulses) == (len(batch), batch.pulses)
    assert {pulse.ticks for pulse in bench.board.pulses[bench.seen :]} == {PULSE_TICKS}
    assert bench.new_levels() == expected_levels(batch)
    assert not bench.board.analog.gate


def test_a_batch_that_needs_several_programs_is_fired_once(bench: GatewareBench) -> None:
    batch = bench.batch([[1, -2, 3], [-1, 2, -3]])
    assert len(bench.crossbar._programs(batch)) > 1
    assert bench.fired(batch).shots_done == len(batch)
    assert bench.crossbar.fire(bench.seq).shots_done == len(batch)  # answered from memory
    assert bench.new_levels() == expected_levels(batch)


def test_the_board_itself_refuses_what_passes_its_limits(bench: GatewareBench) -> None:
    with pytest.raises(LimitExceeded, match="max_cell"):
        bench.fired(bench.batch(np.eye(ROWS, COLS, dtype=int), 2.6))
    most = LimitRegisters.unpack(bench.link.expect(Op.LIMITS)).max_read
    number = (bench.link.status().acquired + 1) & 0xFFFF
    read = cell_read(ReadFrame(4, 1, 8, (0, ROWS, 0, COLS)), most + 1, READ.mask)
    converted = len(bench.board.analog.conversions)
    reply = bench.link.ask(Op.ACQUIRE, ACQUIRE.pack(number) + read)
    assert (reply.status, reply.payload) == (Status.LIMIT, bytes([LIMIT_NAMES.index("max_read")]))
    assert bench.new_levels() == []
    assert len(bench.board.analog.conversions) == converted


@pytest.mark.parametrize(("both", "averages"), [(False, 1), (True, 2)])
def test_cells_are_read_in_as_many_acquisitions_as_memory_needs(
    bench: GatewareBench, both: bool, averages: int
) -> None:
    mask = np.array([[1, 0, 1], [1, 1, 1]], np.bool_)
    read = CellRead(mask, READ_V, both, integration_s=2e-5, averages=averages)
    found = conductance_s(bench.crossbar.sense(read), READ_V)
    np.testing.assert_allclose(found, CONDUCTANCE_S[mask], atol=HARDWARE.adc_step_a / READ_V)


@pytest.mark.parametrize("direction", [Direction.ROWS_TO_COLS, Direction.COLS_TO_ROWS])
def test_products_are_those_of_the_conductances(bench: GatewareBench, direction: Direction) -> None:
    G = CONDUCTANCE_S if direction is Direction.ROWS_TO_COLS else CONDUCTANCE_S.T
    volts = np.random.default_rng(1).uniform(-0.1, 0.1, (2, len(G)))
    reading = bench.crossbar.sense(VectorRead(volts, direction, integration_s=2e-5))
    coded = np.rint(volts / HARDWARE.read_step_v) * HARDWARE.read_step_v
    np.testing.assert_allclose(reading.signed_a(), coded @ G, atol=HARDWARE.adc_step_a)


def test_rest_stops_a_train_between_two_pulses(bench: GatewareBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host comes to rest while it waits for a FIRE, as after Ctrl-C."""
    run, stopping, before = bench.board.run, [], bench.seen

    def interrupted(ticks: int) -> None:
        run(ticks)
        if len(bench.board.pulses) > before + 10 and not stopping:
            stopping.append(True)
            bench.crossbar.rest()

    with monkeypatch.context() as patch:
        patch.setattr(bench.board, "run", interrupted)
        with pytest.raises(InstrumentError):
            bench.fired(bench.batch(400 * np.eye(ROWS, COLS, dtype=int)))
    fired = bench.board.pulses[before:]
    assert 10 < len(fired) < 50
    assert {pulse.ticks for pulse in fired} == {PULSE_TICKS}
    assert not bench.board.analog.gate
    bench.board.run(1000)
    assert len(bench.board.pulses) == before + len(fired)


def test_a_silent_host_is_noticed_and_no_pulse_is_cut(bench: GatewareBench) -> None:
    batch, before = bench.batch(400 * np.eye(ROWS, COLS, dtype=int), ticks=400), bench.seen
    bench.seq += 1
    witness = bench.crossbar.stage(bench.seq, batch)
    (program,) = bench.crossbar._programs(batch)
    number = (bench.link.status().fired + 1) & 0xFFFF
    bench.link.send(Request(Op.FIRE, 0, bench.link.session, FIRE.pack(number, program.crc)))
    bench.board.sleep(0.011)
    fired = bench.board.pulses[before:]
    assert {pulse.ticks for pulse in fired} == {400}
    watchdog = round(0.01 * HARDWARE.clock_hz)
    assert watchdog - 900 <= 408 * len(fired) <= watchdog
    bench.board.sleep(0.002)
    assert len(bench.board.pulses) == before + len(fired)
    assert isinstance(bench.crossbar.outcome(bench.seq, witness, batch), NotDone)  # this process fired nothing


def test_the_self_test_passes(bench: GatewareBench) -> None:
    assert _test_memory(bench.link) == []
    assert _test_zeros(bench.link) == []
    bench.crossbar.enforce(bench.config.limits)
    assert bench.new_levels() == []
