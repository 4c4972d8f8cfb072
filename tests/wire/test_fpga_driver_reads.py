"""Reads of the FPGA bench: split or whole they are the same, and no sample is taken for another read's."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fpga_bench import open_simulated
from fpga_rig import SETTINGS, SHAPE, Frame, Rig, apply, rig, staged
from hypothesis import given, settings
from hypothesis import strategies as st
from neurobench.drivers.emulator import open_emulator

from neurobench.bench.config import load_bench
from neurobench.bench.crossbar import Done, Reading
from neurobench.bench.frames import Op, Status
from neurobench.bench.stimulus import CellRead, Direction, LineState, PulseBatch, Read, Region, VectorRead
from neurobench.errors import BenchFault, CapabilityMissing, InstrumentError, LimitExceeded, LinkLost

SMALL = {"board__simulation__samples": 64, "board__simulation__read_bytes": 64, "board__simulation__max_body": 256,
         "board__simulation__rx_bytes": 1024}  # fmt: skip
ALL = np.ones(SHAPE, np.bool_)


@contextmanager
def opened(**overrides: Any) -> Iterator[Rig]:
    """A chip on which no two cells need be alike: random pulses have moved them."""
    bench = rig(**overrides)
    try:
        if bench.crossbar.capabilities.shape == SHAPE:
            pulsed = PulseBatch(np.random.default_rng(5).integers(-9, 40, SHAPE).astype(np.int16), bench.pulse)
            assert isinstance(apply(bench, 0, staged(bench, pulsed)), Done)
        yield bench
    finally:
        bench.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Rig, Rig]]:
    """Two boards with the same chip: a large one and a small one."""
    with opened() as large, opened(**SMALL) as small:
        yield large, small


@settings(max_examples=40, deadline=None)
@given(cells=st.integers(1, 2**64 - 1), both=st.booleans(), averages=st.sampled_from([1, 3, 700]))
def test_a_cell_read_in_parts_is_the_read_in_one(pair: tuple[Rig, Rig], cells: int, both: bool, averages: int) -> None:
    mask = np.array([cells >> k & 1 for k in range(64)], np.bool_).reshape(SHAPE)
    large, small = (
        bench.crossbar.sense(CellRead(mask, -0.1, both, integration_s=1e-5, averages=averages)) for bench in pair
    )
    assert np.array_equal(large.currents_a, small.currents_a)
    assert large.currents_a.shape == (1 + both, mask.sum())
    assert large.flags == small.flags == ()


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 30), both=st.booleans(), backward=st.booleans(), averages=st.sampled_from([1, 257]),
    region=st.sampled_from([None, Region(2, 5, 1, 7)]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_vector_read_in_parts_is_the_read_in_one(
    pair: tuple[Rig, Rig], n: int, both: bool, backward: bool, averages: int, region: Region | None, seed: int
) -> None:
    rows, cols = SHAPE if region is None else region.shape
    volts = np.random.default_rng(seed).uniform(-0.1, 0.1, (n, cols if backward else rows))
    direction = Direction.COLS_TO_ROWS if backward else Direction.ROWS_TO_COLS
    read = VectorRead(volts, direction, region, both, integration_s=1e-5, averages=averages)
    large, small = (bench.crossbar.sense(read) for bench in pair)
    assert np.array_equal(large.currents_a, small.currents_a)
    assert large.currents_a.shape == (1 + both, n, rows if backward else cols)


def test_cells_come_in_the_order_of_the_mask_with_their_own_conductance(pair: tuple[Rig, Rig]) -> None:
    mask = np.zeros(SHAPE, np.bool_)
    mask[1, (0, 5)] = mask[6, 3] = mask[7, (2, 3, 7)] = True
    for bench in pair:
        reading = bench.crossbar.sense(CellRead(mask, 0.1))
        true_s = bench.board.chip.conductance_s()[mask]
        assert reading.signed_a() / 0.1 == pytest.approx(true_s, rel=1e-3)
        each = [bench.crossbar.sense(CellRead(one, 0.1)).currents_a[:, 0] for one in _single(mask)]
        assert np.array_equal(reading.currents_a, np.stack(each, axis=1))


def _single(mask: Any) -> list[Any]:
    found = []
    for row, col in np.argwhere(mask).tolist():
        one = np.zeros(SHAPE, np.bool_)
        one[row, col] = True
        found.append(one)
    return found


def test_a_read_program_longer_than_a_frame_is_split() -> None:
    """A board may keep longer read programs than a frame carries."""
    with opened(board__simulation__max_body=256, board__simulation__read_bytes=4096) as bench, opened() as whole:
        read = VectorRead(np.random.default_rng(3).uniform(-0.1, 0.1, (100, 8)), integration_s=1e-5)
        found, wanted = (one.crossbar.sense(read).currents_a for one in (bench, whole))
        assert np.array_equal(found, wanted)


def test_a_read_after_a_lost_one_never_gets_the_samples_of_the_lost_one() -> None:
    """The first read was begun, but nothing of it came back; the next one has as many samples, of other cells."""
    with opened() as bench:
        first, second = np.zeros(SHAPE, np.bool_), np.zeros(SHAPE, np.bool_)
        first[0, :2], second[5, :2] = True, True
        wanted = bench.crossbar.sense(CellRead(second, 0.1)).currents_a
        bench.tap.set(lambda frame: [] if frame.op == "ACQUIRE" and frame.way == "from" else [frame.data])
        with pytest.raises(LinkLost):
            bench.crossbar.sense(CellRead(first, -0.1))
        bench.tap.set(lambda frame: [frame.data])
        assert np.array_equal(bench.crossbar.sense(CellRead(second, 0.1)).currents_a, wanted)


def test_an_acquire_of_a_dead_process_that_comes_late_is_not_taken_for_ours() -> None:
    with opened() as bench:
        first, second = np.zeros(SHAPE, np.bool_), np.zeros(SHAPE, np.bool_)
        first[0, :2], second[5, :2] = True, True
        wanted = bench.crossbar.sense(CellRead(second, 0.1)).currents_a
        late: list[bytes] = []

        def hold(frame: Frame) -> list[bytes]:
            if frame.op == "ACQUIRE" and frame.way == "to":
                late.append(frame.data)
                raise KeyboardInterrupt
            return [frame.data]

        bench.tap.set(hold)
        with pytest.raises(KeyboardInterrupt):
            bench.crossbar.sense(CellRead(first, 0.1))
        crossbar = bench.next_process()

        def before_ours(frame: Frame) -> list[bytes]:
            if frame.op == "ACQUIRE" and frame.way == "to" and late:
                return [late.pop(), frame.data]
            return [frame.data]

        bench.tap.set(before_ours)
        assert np.array_equal(crossbar.sense(CellRead(second, 0.1)).currents_a, wanted)
        assert not late


@pytest.mark.parametrize("op", ["ACQUIRE", "FETCH", "STATUS"])
@pytest.mark.parametrize("way", ["to", "from"])
@pytest.mark.parametrize("what", ["lost", "twice", "changed"])
def test_a_read_over_a_bad_line_is_the_same_read(pair: tuple[Rig, Rig], op: str, way: str, what: str) -> None:
    _, bench = pair
    read = CellRead(ALL, 0.1, integration_s=5e-3)
    bench.tap.set(lambda frame: [frame.data])
    wanted = bench.crossbar.sense(read).currents_a
    met: list[int] = []

    def meet(frame: Frame) -> list[bytes]:
        if (frame.op, frame.way) != (op, way):
            return [frame.data]
        met.append(frame.n)
        if len(met) % 3 != 1:
            return [frame.data]
        return {"lost": [], "twice": [frame.data] * 2, "changed": [frame.data[:-1] + b"\x77"]}[what]

    bench.tap.set(meet)
    assert np.array_equal(bench.crossbar.sense(read).currents_a, wanted)
    assert met
    bench.tap.set(lambda frame: [frame.data])


def test_a_board_that_restarts_in_a_read_is_read_again_by_whoever_asks_again() -> None:
    with opened() as bench:
        wanted = bench.crossbar.sense(CellRead(ALL, 0.1)).currents_a
        restarted: list[int] = []

        def restart(frame: Frame) -> list[bytes]:
            if frame.op == "FETCH" and not restarted:
                restarted.append(frame.n)
                bench.board.reboot()
            return [frame.data]

        bench.tap.set(restart)
        with pytest.raises(LinkLost):
            bench.crossbar.sense(CellRead(ALL, 0.1))
        assert np.array_equal(bench.crossbar.sense(CellRead(ALL, 0.1)).currents_a, wanted)


def test_a_read_that_the_watchdog_stops_is_begun_anew() -> None:
    with opened(board__watchdog_s=0.05) as bench:
        wanted = bench.crossbar.sense(CellRead(ALL, 0.1)).currents_a
        stopped: list[int] = []

        def suspend(frame: Frame) -> list[bytes]:
            if frame.op == "STATUS" and frame.way == "to" and not stopped:
                stopped.append(frame.n)
                bench.simulation.clock.sleep(1.0)
            return [frame.data]

        bench.tap.set(suspend)
        found = bench.crossbar.sense(CellRead(ALL, 0.1, integration_s=0.02)).currents_a
        assert stopped
        assert np.array_equal(found, wanted)
        assert bench.tap.sent("ACQUIRE") == 2


def _answering(bench: Rig, op: Op, answer: Any) -> None:
    """A board that answers one command otherwise: `answer(status, payload)` gives both anew."""
    ask = bench.crossbar.link.ask_all

    def asked(requests: Any, *given: Any) -> Any:
        replies = ask(requests, *given)
        return [
            reply._replace(**dict(zip(("status", "payload"), answer(reply.status, reply.payload), strict=True)))
            if one.op == op else reply for one, reply in zip(requests, replies, strict=True)
        ]  # fmt: skip

    bench.crossbar.link.ask_all = asked  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("op", "answer", "error", "why"),
    [
        (Op.ACQUIRE, lambda s, p: (s, b"\x07\x00"), InstrumentError, "takes 7 samples in a read of 128"),
        (Op.ACQUIRE, lambda s, p: (s, b""), InstrumentError, "unpack"),
        (Op.ACQUIRE, lambda s, p: (Status.LIMIT, b"\x03"), LimitExceeded, "LIMIT max_read"),
        (Op.ACQUIRE, lambda s, p: (Status.NO_ROOM, b""), CapabilityMissing, "NO_ROOM"),
        (Op.ACQUIRE, lambda s, p: (Status.BUSY, b""), LinkLost, "disturbed in a read 4 times"),
        (Op.ACQUIRE, lambda s, p: (Status.WRONG_NUMBER, b""), LinkLost, "disturbed in a read 4 times"),
        (Op.FETCH, lambda s, p: (Status.WRONG_NUMBER, b""), LinkLost, "disturbed in a read 4 times"),
        (Op.FETCH, lambda s, p: (s, p + b"\0" * 4000), InstrumentError, "other samples than were asked for"),
        (Op.FETCH, lambda s, p: (s, p[:-1]), InstrumentError, "other samples than were asked for"),
        (Op.FETCH, lambda s, p: (s, b"\x99\x99" + p[2:]), InstrumentError, "other samples than were asked for"),
        (Op.FETCH, lambda s, p: (s, p[:7]), LinkLost, "disturbed in a read 4 times"),
        (Op.FETCH, lambda s, p: (s, p[:3]), InstrumentError, "a FETCH reply of 3 bytes"),
    ],
)
def test_what_a_board_says_wrongly_is_no_current(op: Op, answer: Any, error: type[Exception], why: str) -> None:
    with opened() as bench:
        _answering(bench, op, answer)
        with pytest.raises(error, match=why):
            bench.crossbar.sense(CellRead(ALL, 0.1))
        assert isinstance(error("x"), BenchFault | LimitExceeded | CapabilityMissing)


def test_a_range_that_was_passed_is_told_only_of_what_was_taken() -> None:
    with opened(readout__adc_range_a=1e-9) as bench:
        assert "over_range" in bench.crossbar.sense(CellRead(ALL, 0.1)).flags
    with opened() as bench:
        stopped: list[int] = []

        def over_and_stopped(status: int, payload: bytes) -> tuple[int, bytes]:
            stopped.append(1)
            return (status, payload[:6] + struct.pack("B", 2 | 4) + payload[7:]) if len(stopped) == 1 else (
                status, payload)  # fmt: skip

        _answering(bench, Op.FETCH, over_and_stopped)
        assert bench.crossbar.sense(CellRead(ALL, 0.1)).flags == ()
        assert len(stopped) > 1


def test_a_level_beyond_the_converter_is_refused() -> None:
    """Cut to what the converter reaches, the currents would be those of another voltage than the record says."""
    with opened(readout__dac_range_v=0.05, limits__max_read_v=0.5) as bench:
        for read in (CellRead(ALL, 0.1), VectorRead(np.full((1, 8), 0.1))):
            with pytest.raises(CapabilityMissing, match=r"0.1 V; the bench reaches 0.05 V"):
                bench.crossbar.sense(read)


def test_what_does_not_fit_at_all_is_refused() -> None:
    with opened(chip__rows=2, chip__cols=100, board__simulation__samples=64) as bench:
        with pytest.raises(CapabilityMissing, match="more samples than the board keeps"):
            bench.crossbar.sense(CellRead(np.ones((2, 100), np.bool_), 0.1))
        with pytest.raises(CapabilityMissing, match="do not fit into the board"):
            bench.crossbar.sense(VectorRead(np.full((1, 2), 0.1)))
    with opened() as bench:
        has = bench.crossbar.link.known
        bench.crossbar._plan.identity = has._replace(flags=has.flags & ~16)
        with pytest.raises(CapabilityMissing, match="cannot let idle lines float"):
            bench.crossbar.sense(VectorRead(np.full((1, 8), 0.1), idle=LineState.FLOATING))
    with opened(bench__vector_reads=["rows_to_cols"]) as bench, pytest.raises(CapabilityMissing, match="cols_to_rows"):
        bench.crossbar.sense(VectorRead(np.full((1, 8), 0.1), Direction.COLS_TO_ROWS))


def reads() -> list[Read]:
    return [
        CellRead(ALL, 0.05), CellRead(ALL, 0.05, averages=9), VectorRead(np.full((2, 8), 0.05)),
        VectorRead(np.full((1, 1), 0.05), region=Region(2, 3, 0, 8)),
    ]  # fmt: skip


@pytest.mark.parametrize("model", ["lsmo-gaq3-mirror", "idealized"])
@pytest.mark.parametrize("which", range(4))
def test_the_noise_that_is_told_is_the_emulators(model: str, which: int) -> None:
    """The driver knows declared devices and a rounding; the emulator knows its devices. They differ by the range."""
    readout = {"readout.adc_bits": 24, "readout.adc_range_a": 1e-3, "readout.dac_bits": 16, "readout.dac_range_v": 0.6}
    said = {**SETTINGS, "chip.model": model, "readout.ideal": False, **readout}
    board_only = ("board.", "limits.")
    config = load_bench("emulator", {k: v for k, v in said.items() if not k.startswith(board_only)})
    emulator, _ = open_emulator(config, 7)
    with opened(**{k.replace(".", "__"): v for k, v in said.items()}) as bench:
        mine: Reading = bench.crossbar.sense(reads()[which])
        theirs = emulator.sense(reads()[which])
        assert mine.range_a == pytest.approx(theirs.range_a)
        assert 0.5 < mine.sigma_a / theirs.sigma_a < 2.0


def test_the_cells_of_these_tests_differ(pair: tuple[Rig, Rig]) -> None:
    """Else a wrong order, or another read's samples, would pass them."""
    for bench in pair:
        assert len(np.unique(bench.crossbar.sense(CellRead(ALL, 0.1, both_polarities=False)).currents_a)) > 20


def test_a_read_over_the_limit_is_refused_by_the_board_and_not_made_smaller() -> None:
    """Nothing is clipped without a word: without a Guard the board's own register says no."""
    bench = open_simulated({"limits.max_read_v": 0.2})
    try:
        with pytest.raises(LimitExceeded, match="max_read"):
            bench.crossbar.sense(CellRead(np.ones((4, 4), bool), 0.21))
        assert bench.crossbar.sense(CellRead(np.ones((4, 4), bool), 0.2)).flags == ()
    finally:
        bench.close()
