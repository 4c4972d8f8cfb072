"""What the drivers say of their outputs: off only as it was read back, unknown after a loss, and without asking."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fpga_rig import Rig, batch, rig, staged
from neurobench.drivers._fpga_link import said
from neurobench.drivers._outputs import Driven
from visa_bench import SimulatedBench, open_simulated

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Outputs
from neurobench.bench.frames import Op, Request
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch, shots
from neurobench.errors import BenchFault, LinkLost

OFF, ON, COMMANDED, UNKNOWN = (False, "read back"), (True, "read back"), (True, "commanded"), (None, "commanded")


def stand(bench: Any) -> tuple[bool | None, str]:
    found = bench.outputs()
    return found.on, found.how


# -- what both share -------------------------------------------------------------------------------------------------


def test_after_a_rest_only_the_rest_says_how_they_stand() -> None:
    halted = threading.Event()
    driven = Driven(threading.RLock(), halted, Outputs())
    with pytest.raises(LinkLost), driven.driving():
        assert driven.now.on is True
        halted.set()  # another thread rests the bench
        with driven.resting():
            assert driven.now.on is None
        driven.say(Outputs(True, "read back"))  # what was heard before comes late
        raise LinkLost("cut off")
    assert (driven.now.on, driven.now.how) == OFF
    with pytest.raises(LinkLost), driven.resting():
        raise LinkLost("nobody answers")
    assert driven.now.on is None


def test_an_emulated_chip_is_at_rest_though_a_call_is_still_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pulse of all waits seconds for its kernels; an abort meanwhile ends with the outputs off."""
    guard = open_bench(load_bench("emulator"))
    bench: Any = guard.raw
    heard: list[tuple[bool | None, str]] = []

    def compiling(_read: CellRead) -> None:
        heard.append(stand(bench))
        bench.rest()
        heard.append(stand(bench))

    monkeypatch.setattr(bench._reader, "sense", compiling)
    bench.sense(CellRead(np.ones(bench.capabilities.shape, np.bool_), 0.05))
    assert heard == [(True, "emulated"), (False, "emulated")]
    guard.close()


# -- instruments -----------------------------------------------------------------------------------------------------


@pytest.fixture
def visa() -> Iterator[SimulatedBench]:
    bench = open_simulated({"chip.rows": 2, "chip.cols": 3, "chip.model": "lsmo-gaq3-mirror"})
    yield bench
    bench.close()


def test_instruments_are_on_from_the_first_command_until_a_rest_has_read_them_back(visa: SimulatedBench) -> None:
    bench = visa.crossbar
    assert stand(bench) == OFF
    expanded = shots(PulseBatch(np.array([[1, 0, 0], [0, 0, 0]], np.int8), Pulse(2.0, 1e-3)), bench.capabilities)
    bench.stage(0, expanded)
    assert stand(bench) == COMMANDED
    bench.fire(0)
    assert stand(bench) == COMMANDED, "the generator stays on, at 0 V"
    bench.rest()
    assert stand(bench) == OFF
    bench.sense(CellRead(np.ones((2, 3), np.bool_), 0.05))
    assert stand(bench) == COMMANDED
    bench.rest()
    assert stand(bench) == OFF


def test_after_a_lost_answer_nobody_knows_until_it_was_asked(visa: SimulatedBench) -> None:
    bench = visa.crossbar
    smu, sweep = bench.team.smu, bench.team.smu.sweep

    def lost(*_: Any) -> Any:
        raise LinkLost("smu: no answer in time")

    smu.sweep = lost  # type: ignore[method-assign]
    with pytest.raises(LinkLost):
        bench.sense(CellRead(np.ones((2, 3), np.bool_), 0.05))
    assert stand(bench) == UNKNOWN
    smu.sweep = sweep  # type: ignore[method-assign]
    safe = smu.safe
    smu.safe = lost  # type: ignore[method-assign]
    with pytest.raises(LinkLost):
        bench.rest()
    assert stand(bench) == UNKNOWN, "the generator answered, the SMU did not"
    smu.safe = safe  # type: ignore[method-assign]
    bench.rest()
    assert stand(bench) == OFF


def test_who_asks_how_they_stand_says_nothing_to_the_instruments(visa: SimulatedBench) -> None:
    heard: list[tuple[str, str, str]] = []
    visa.crossbar.overhear(lambda *line: heard.append(line))
    assert stand(visa.crossbar) == OFF
    assert heard == []
    visa.crossbar.rest()
    assert {who for who, _, _ in heard} == {"smu", "pulse", "matrix"}
    assert {way for _, way, _ in heard} == {">", "<"}
    visa.crossbar.overhear(None)
    del heard[:]
    visa.crossbar.rest()
    assert heard == []


# -- a board ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def board() -> Iterator[Rig]:
    bench = rig()
    yield bench
    bench.close()


def test_a_board_says_itself_that_it_has_ended(board: Rig) -> None:
    bench = board.crossbar
    bench.rest()
    assert stand(bench) == OFF
    bench.stage(0, staged(board, batch()))
    assert stand(bench) == OFF, "all lines stay grounded"
    seen = []
    board.tap.set(lambda frame: [seen.append((frame.op, stand(bench))), frame.data][1:])
    bench.fire(0)
    assert ("FIRE", COMMANDED) in seen
    assert stand(bench) == OFF
    del seen[:]
    bench.sense(CellRead(np.ones(bench.capabilities.shape, np.bool_), 0.1))
    assert ("FETCH", COMMANDED) in seen
    assert stand(bench) == OFF


def test_a_board_that_has_not_said_that_a_read_is_over_may_still_drive(board: Rig) -> None:
    bench, reader = board.crossbar, board.crossbar._reader
    bench.rest()
    cells = reader.cells

    def going_on(*asked: Any) -> Any:
        found = cells(*asked)
        reader.ended = False  # its last samples came without the word that it is complete
        return found

    reader.cells = going_on  # type: ignore[method-assign]
    bench.sense(CellRead(np.ones(bench.capabilities.shape, np.bool_), 0.1))
    assert stand(bench) == UNKNOWN


def test_a_log_holds_the_beginning_of_a_long_frame() -> None:
    words = said(Request(Op.UPLOAD, 7, 1, bytes(range(100))))
    assert words == f"UPLOAD #7 {bytes(range(32)).hex(' ', -4)} ... (100 bytes)"


def test_a_board_that_does_not_answer_is_unknown_and_its_log_says_what_was_lost(board: Rig) -> None:
    bench, heard = board.crossbar, list[str]()
    bench.stage(0, staged(board, batch()))
    bench.overhear(lambda who, way, words: heard.append(f"{who} {way} {words}"))
    board.tap.set(lambda frame: [] if frame.way == "from" else [frame.data])
    with pytest.raises(BenchFault):
        bench.fire(0)
    assert stand(bench) == UNKNOWN
    assert any(line.startswith("board > FIRE #") for line in heard)
    assert any(line.startswith("board ! lost: no answer to ") for line in heard)
    with pytest.raises(BenchFault):
        bench.rest()
    assert stand(bench) == UNKNOWN
    board.tap.set(lambda frame: [frame.data])
    bench.rest()
    assert stand(bench) == OFF
