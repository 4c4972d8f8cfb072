"""The driver on the gateware in Amaranth's simulator, over a line that loses, spoils and doubles frames; restarts."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from gateware_bench import (
    COLS,
    CONDUCTANCE_S,
    HARDWARE,
    READ,
    READ_V,
    ROWS,
    Fault,
    GatewareBench,
    expected_levels,
    intact,
    open_gateware,
)

from neurobench.bench.crossbar import Done, NotDone, Unknown, conductance_s
from neurobench.bench.frames import Op, decode
from neurobench.errors import LinkLost


@pytest.fixture(scope="module")
def shared() -> Iterator[GatewareBench]:
    """One simulation for all tests here; what no board may do at its pins fails the last of them."""
    bench = open_gateware()
    yield bench
    assert bench.board.analog.faults == []


@pytest.fixture
def bench(shared: GatewareBench) -> Iterator[GatewareBench]:
    shared.new_levels()
    yield shared
    shared.line.fault = intact


def spoiled(frame: bytes) -> bytes:
    """One byte is another one, and no zero."""
    return frame[:3] + bytes([frame[3] ^ 0x55 or 1]) + frame[4:]


ARRIVES = {
    "lost": lambda frame: [],
    "corrupted": lambda frame: [spoiled(frame)],
    "duplicated": lambda frame: [frame, frame],
}


def first(op: Op, way: str, kind: str, done: list[str]) -> Fault:
    """This kind of fault for the first frame of `op` on that way."""

    def fault(going: str, frame: bytes) -> list[bytes]:
        reply = decode(frame) if going == "from" else None
        asked = frame[1] if going == "to" else reply and reply.op  # an op is never 0: COBS leaves it where it is
        if done or going != way or asked != op:
            return [frame]
        done.append(kind)
        return ARRIVES[kind](frame)

    return fault


@pytest.mark.parametrize("way", ["to", "from"])
@pytest.mark.parametrize("kind", ARRIVES)
@pytest.mark.parametrize("op", [Op.FIRE, Op.UPLOAD])
def test_whatever_happens_to_a_frame_the_batch_is_fired_once(bench: GatewareBench, op: Op, kind: str, way: str) -> None:
    done: list[str] = []
    bench.line.fault = first(op, way, kind, done)
    batch = bench.batch([[1, 0, 0], [0, -2, 0]])
    assert bench.fired(batch).shots_done == len(batch)
    assert done == [kind]
    assert bench.new_levels() == expected_levels(batch)


@pytest.mark.parametrize("kind", ARRIVES)
@pytest.mark.parametrize("op", [Op.ACQUIRE, Op.FETCH])
def test_whatever_happens_to_a_frame_the_read_is_right(bench: GatewareBench, op: Op, kind: str) -> None:
    done: list[str] = []
    bench.line.fault = first(op, "from", kind, done)
    found = conductance_s(bench.crossbar.sense(READ), READ_V)
    assert done == [kind]
    np.testing.assert_allclose(found, CONDUCTANCE_S.ravel(), atol=HARDWARE.adc_step_a / READ_V)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_over_a_bad_line_every_pulse_is_fired_once(bench: GatewareBench, seed: int) -> None:
    """Of all frames each way 10 % are lost, 10 % spoiled, 10 % doubled."""
    draw, counts, faults = random.Random(seed), np.random.default_rng(seed), 0

    def fault(_way: str, frame: bytes) -> list[bytes]:
        nonlocal faults
        kind = draw.random() / 0.1
        if kind >= 3:
            return [frame]
        faults += 1
        return ARRIVES[list(ARRIVES)[int(kind)]](frame)

    bench.line.fault = fault
    for _ in range(3):
        batch = bench.batch(counts.integers(-1, 2, (ROWS, COLS)))
        assert bench.fired(batch).shots_done == len(batch)
        assert bench.new_levels() == expected_levels(batch)
    assert faults > 3


def test_a_board_that_restarted_before_the_fire_has_fired_nothing_and_goes_on_afterwards(bench: GatewareBench) -> None:
    batch = bench.batch(np.eye(ROWS, COLS, dtype=int))
    bench.seq += 1
    witness = bench.crossbar.stage(bench.seq, batch)
    bench.board.reboot()
    with pytest.raises(LinkLost):
        bench.crossbar.fire(bench.seq)
    assert bench.new_levels() == []
    assert isinstance(bench.crossbar.outcome(bench.seq, witness, batch), NotDone | Unknown)
    bench.seq += 1
    witness = bench.crossbar.stage(bench.seq, batch)  # its limits are set again without being asked for
    assert bench.crossbar.fire(bench.seq).shots_done == len(batch)
    assert isinstance(bench.crossbar.outcome(bench.seq, witness, batch), Done)
    assert bench.new_levels() == expected_levels(batch)


def test_a_board_that_restarts_in_a_pulse_grounds_its_lines_and_nobody_claims_to_know(
    bench: GatewareBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, run, before = bench.batch(400 * np.eye(ROWS, COLS, dtype=int)), bench.board.run, bench.seen
    restarted: list[int] = []

    def failing(ticks: int) -> None:
        run(ticks)
        if len(bench.board.pulses) > before + 5 and bench.board.analog.gate and not restarted:
            restarted.append(len(bench.board.pulses))
            bench.board.reboot()
            assert not bench.board.analog.gate

    bench.seq += 1
    witness = bench.crossbar.stage(bench.seq, batch)
    with monkeypatch.context() as patch:
        patch.setattr(bench.board, "run", failing)
        with pytest.raises(LinkLost):
            bench.crossbar.fire(bench.seq)
    assert isinstance(bench.crossbar.outcome(bench.seq, witness, batch), Unknown)
    bench.board.run(1000)
    assert len(bench.board.pulses) == restarted[0] + 1  # the one that was cut off
