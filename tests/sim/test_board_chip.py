"""What a simulated board does to its emulated chip, and what it reads of it: as on the emulator, and beyond it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurobench import registry
from neurobench.bench import frames
from neurobench.bench.config import load_bench
from neurobench.bench.frames import Op, Status
from neurobench.bench.stimulus import CellRead, Direction, LineState, Pulse, PulseBatch, Region, VectorRead
from neurobench.bench.stimulus import shots as expand
from neurobench.errors import ConfigError
from neurobench.physics.chip import load_chip
from neurobench.physics.library import load_model
from neurobench.physics.stress import Stress

sys.path.insert(0, str(Path(__file__).resolve().parent))

from board_bench import HZ, Table, cells, opened, pulses, record, table, timing, vectors, waves

SHAPE = (5, 7)
SIZE = {"chip.rows": SHAPE[0], "chip.cols": SHAPE[1], "chip.seed": 11}
CONVERTERS = {"readout.adc_bits": 24, "readout.adc_range_a": 1e-5, "readout.dac_bits": 16,
              "readout.dac_range_v": 0.65534, "bench.vector_reads": ["rows_to_cols", "cols_to_rows"]}  # fmt: skip
STEP_V = 2e-5
INTEGRATION = 4800
# device, its pulse, the counts that it can answer, more of the bench
DEVICES: list[tuple[str, Pulse, tuple[int, int], dict[str, Any]]] = [
    ("lsmo-gaq3", Pulse(2.0, 1e-3), (0, 4), {}),
    ("lsmo-gaq3-mirror", Pulse(2.0, 1e-3), (-3, 4), {"readout.offset_a": 1e-9}),
    ("idealized", Pulse(1.0, 1e-6), (-3, 4), {"bench.parallelism": "column", "chip.shorted_fraction": 0.1}),
    ("al2o3-tio2-nili", Pulse(1.3, 5e-4), (-2, 3), {"readout.noise": False}),
    ("reram-hfo2", Pulse(1.0, 1e-6), (-3, 4), {"chip.potentiating_sign": -1}),
    ("pcmo", Pulse(2.0, 1e-3), (-2, 3), {"chip.stuck_fraction": 0.2, "chip.potentiating_sign": -1}),
]


def emulated(settings: dict[str, Any]) -> Any:
    driver: Any = registry.load("drivers", "emulator")
    return driver(load_bench("emulator", {"bench.parallelism": "row", **SIZE, **CONVERTERS, **settings}), 1)[0]


def on_table(settings: dict[str, Any], **more: Any) -> Table:
    made = Table(opened(**{key.replace(".", "__"): value for key, value in (SIZE | settings).items()}, **more))
    made.greet()
    return made


def fire_both(table: Table, emulator: Any, number: int, batch: PulseBatch) -> None:
    """The same shots on both."""
    shots = expand(batch, emulator.capabilities)
    emulator.stage(number, shots)
    emulator.fire(number)
    code = round(shots.potentiating_sign * batch.pulse.amplitude_v / 2 / (8.19175 / 32767))
    width = round(batch.pulse.width_s * HZ)
    ((_, program),) = frames.pulse_programs(shots, timing(width, code), 16384)
    before = table.status()
    status = table.fired(number, program, shots.duration_s + int(shots.repeat.sum()) * 2e-5 + 1e-3)
    assert status.done - before.done == int(shots.repeat.sum())
    assert status.shots - before.shots == len(shots)


# -- as on the emulator -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "pulse", "counts", "more"), DEVICES, ids=[one[0] for one in DEVICES])
def test_the_same_pulses_give_the_emulators_states_and_reads_bit_for_bit(
    device: str, pulse: Pulse, counts: tuple[int, int], more: dict[str, Any]
) -> None:
    settings = {"chip.model": device, **more}
    table, emulator = on_table(settings), emulated(settings)
    rng = np.random.default_rng(4)
    for number in range(1, 4):
        fire_both(table, emulator, number, PulseBatch(rng.integers(*counts, SHAPE), pulse))
        np.testing.assert_array_equal(table.board.chip.u, emulator.chip.u)
        np.testing.assert_array_equal(table.board.chip.pulses, emulator.chip.pulses)
        np.testing.assert_array_equal(table.board.chip.disturbs, emulator.chip.disturbs)
        compare_reads(table, emulator, 10 * number, rng)
    assert table.board.pulses_fired() == int(emulator.chip.pulses.sum()) > 0
    assert table.board.damage == ()
    assert table.board.unknown_stress == 0
    table.bench.close()


def compare_reads(table: Table, emulator: Any, number: int, rng: np.random.Generator) -> None:
    """Cells and vectors in every form: the codes of the board are those of the emulator's currents."""
    rows, cols = SHAPE
    step_a = emulator.readout.lsb_a
    mask = rng.random(SHAPE) < 0.5
    mask[0, 0] = True
    read = CellRead(mask, 2500 * STEP_V, averages=3, integration_s=INTEGRATION / HZ)
    sums = table.acquired(number, cells(2500, (0, rows, 0, cols), both=True, averages=3, mask=mask), 4)
    found, at = np.empty((2, int(mask.sum()))), 0
    for row in np.flatnonzero(mask.any(axis=1)):
        chosen = mask.ravel()[mask.ravel()].cumsum() - 1  # place of every cell in row-major order
        places = chosen.astype(int)[np.flatnonzero(np.nonzero(mask)[0] == row)]
        for p in (0, 1):
            found[p, places] = sums[at : at + len(places)]
            at += len(places)
    np.testing.assert_array_equal(found, 3 * codes(emulator.sense(read), step_a))
    for k, (backward, region, floating) in enumerate(
        [
            (False, None, False),
            (True, None, False),
            (False, Region(1, 4, 2, 6), False),
            (True, Region(0, 2, 1, 7), True),
        ],
        start=1,
    ):
        block = region or Region(0, rows, 0, cols)
        inputs = block.shape[1] if backward else block.shape[0]
        levels = rng.integers(-5000, 5000, (3, inputs))
        asked = VectorRead(
            levels * STEP_V, Direction.COLS_TO_ROWS if backward else Direction.ROWS_TO_COLS, region, True,
            averages=2, idle=LineState.FLOATING if floating else LineState.GROUNDED,
        )  # fmt: skip
        place = (block.row0, block.shape[0], block.col0, block.shape[1])
        program = vectors(levels, place, backward=backward, floating=floating, both=True, averages=2)
        got = table.acquired(number + k, program, 4).reshape(3, 2, -1).transpose(1, 0, 2)
        np.testing.assert_array_equal(got, 2 * codes(emulator.sense(asked), step_a))


def codes(reading: Any, step_a: float) -> Any:
    return np.rint(reading.currents_a / step_a)


def test_ideal_takes_noise_and_offset_away_but_not_the_converters() -> None:
    table, emulator = on_table({"readout.ideal": True}), emulated({"readout.ideal": True})
    read = CellRead(np.ones(SHAPE, np.bool_), 2500 * STEP_V, both_polarities=False)
    sums = table.acquired(1, cells(2500, (0, SHAPE[0], 0, SHAPE[1])), 4)
    step_a = table.greet(None).adc_step_a
    assert np.abs(sums * step_a - emulator.sense(read).currents_a[0]).max() <= step_a / 2
    table.bench.close()


# -- pulses beyond the emulator's -------------------------------------------------------------------------------------


def test_levels_of_any_kind_reach_the_cells_that_they_are_for() -> None:
    """A device that answers any voltage, a third of it on the victims: every cell felt what its lines had."""
    table = on_table({"chip.model": "al2o3-tio2-nili", "readout.noise": False})
    program = pulses(record(b"\x05", 1, 2, 3), width=24_000, levels=(4800, 1600, 0, 3200))
    table.fired(1, program, 0.01)
    chip = table.board.chip
    expected = np.zeros(SHAPE, np.uint32)
    expected[3, [0, 2]] = 2
    np.testing.assert_array_equal(chip.pulses.reshape(SHAPE), expected)
    np.testing.assert_array_equal(chip.disturbs.reshape(SHAPE), 2 * (expected == 0))
    assert [one.peak_v for one in table.board.ledger] == pytest.approx([1.2, 1.2])
    table.bench.close()


def test_every_stretch_of_a_waveform_is_a_pulse_of_the_cells_between_its_channels() -> None:
    """Spikes that overlap: 2 V for 1 ms where they meet, a reading level's worth elsewhere."""
    table = on_table({})
    low, high = 1600, 6400  # 0.4 V and 1.6 V
    samples = [(low, 0, 0, 0), (high, 0, -low, 0), (high, 0, -low, 0), (0, 0, -low, 0)]
    program = waves(samples, [1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0], period=24_000)
    reply = table.load(1, program)
    assert reply.status == Status.CHIP, "1.6 V on the rest of the row is no pulse that this device knows"
    low, high = 400, 7600
    samples = [(low, 0, 0, 0), (low, 0, -high, 0), (low, 0, -high, 0), (0, 0, 0, 0)]
    assert table.load(1, waves(samples, [1] * 5, [0, 1, 0, 0, 0, 0, 0], period=24_000)).status == Status.OK
    table.fire(1, waves(samples, [1] * 5, [0, 1, 0, 0, 0, 0, 0], period=24_000))
    table.wait(0.01)
    expected = np.zeros(SHAPE, np.uint32)
    expected[:, 1] = 1
    np.testing.assert_array_equal(table.board.pulses_fired(), 5)
    np.testing.assert_array_equal(table.board.chip.pulses.reshape(SHAPE), expected)
    (felt,) = table.board.ledger
    assert (felt.peak_v, felt.seconds) == pytest.approx((2.0, 1e-3))
    status = table.status()
    assert (status.shots, status.started, status.done) == (1, 1, 1)
    table.bench.close()


def test_a_waveform_at_two_amplitudes_that_are_known_gives_two_pulses() -> None:
    table = on_table({"chip.model": "al2o3-tio2-nili"})
    samples = [(2400, 0, -2400, 0), (-2400, 0, 2400, 0)]
    program = waves(samples, [1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], period=24_000)
    assert table.load(1, program).status == Status.OK
    table.fire(1, program)
    table.wait(0.01)
    assert table.board.chip.pulses.reshape(SHAPE)[0, 0] == 2
    table.bench.close()


def test_a_lone_waveform_below_the_reading_level_does_nothing() -> None:
    table = on_table({})
    program = waves([(1000, 0, 0, 0)] * 5, [1] * 5, [0] * 7)
    assert table.load(1, program).status == Status.OK
    table.fire(1, program)
    table.wait(0.01)
    assert table.board.ledger == ()
    assert table.status().done == 1
    table.bench.close()


def test_a_read_level_beyond_the_registers_purpose_hurts_the_chip() -> None:
    """A host that sets max_read as high as a write level gets what it asks for."""
    table = on_table({"readout.dac_range_v": 6.5534})
    assert table.load(1, pulses()).status == Status.OK
    table.acquired(1, cells(15_000, (2, 1, 3, 1), integration=HZ // 10), 4)
    assert {one.cell for one in table.board.damage} == {(2, col) for col in range(SHAPE[1])}
    assert "short" in table.bench.harm()[0]
    table.bench.close()


def test_a_curve_that_may_not_be_held_at_its_end_is_refused_there(tmp_path: Path) -> None:
    card = tmp_path / "short.toml"
    card.write_text(
        'name = "short"\ntitle = "short"\nsource = "made for this test"\nmodel = "measured"\nend = "refuse"\n'
        "potentiating_sign = 1\n[read]\nvoltage_v = 0.05\n[[curve]]\n"
        'direction = "potentiate"\namplitude_v = 2.0\nwidth_s = 1e-3\nconductance_s = [1e-7, 2e-7, 3e-7, 4e-7]\n'
    )
    table = on_table({"chip.curve": str(card), "chip.replay": "literal"})
    assert table.load(1, pulses(record(b"\x01", repeat=4))).status == Status.CHIP
    assert table.fired(1, pulses(record(b"\x01", repeat=3)), 0.01).done == 3
    assert b"end of the curve" in table.load(2, pulses(record(b"\x01"))).payload
    assert table.load(2, pulses(record(b"\x02"))).status == Status.OK
    spikes = [(400, 0, -7600, 0)] * 2  # 2 V for 1 ms on one column, a reading level on the others
    assert table.load(2, waves(spikes, [1] * 5, [0, 1, 0, 0, 0, 0, 0], period=24_000)).status == Status.OK
    over = table.load(2, waves(spikes, [1] * 5, [1, 0, 0, 0, 0, 0, 0], period=24_000))
    assert (over.status, b"end of the curve" in over.payload) == (Status.CHIP, True)
    table.bench.close()


# -- converters -------------------------------------------------------------------------------------------------------


def conductances(table: Table, number: int, level: int = 2500) -> Any:
    has = table.greet(None)
    sums = table.acquired(number, cells(level, (0, SHAPE[0], 0, SHAPE[1])), 4).reshape(SHAPE)
    return sums * has.adc_step_a / (level * has.read_step_v)


@pytest.mark.parametrize(
    ("spread", "axis"),
    [({"read_gain_spread": 0.05}, 0), ({"adc_gain_spread": 0.05}, 1), ({"adc_offset_a": 1e-9}, 1)],
    ids=["read levels", "converters", "zeros"],
)
def test_mismatch_differs_from_line_to_line_and_belongs_to_the_board(spread: dict[str, float], axis: int) -> None:
    more = {f"board__simulation__{name}": value for name, value in spread.items()}
    quiet = {"readout.noise": False}
    exact, seen, again = (conductances(on_table(quiet, **how), 1) for how in ({}, more, more))
    np.testing.assert_array_equal(seen, again)
    other = conductances(on_table(quiet | {"chip.seed": 12}, **more), 1)
    assert not np.array_equal(seen, other)
    off = (seen - exact) / exact
    along = off if axis == 0 else off.T
    assert np.ptp(along, axis=1).max() < 1e-3, "one line has one gain"
    assert 0.003 < float(np.std(along[:, 0])) < 0.15


def test_mismatched_read_levels_keep_the_noise_of_every_cell() -> None:
    quiet, noisy = (
        conductances(on_table({"readout.noise": noise}, board__simulation__read_gain_spread=0.02), 1)
        for noise in (False, True)
    )
    plain_quiet, plain_noisy = (conductances(on_table({"readout.noise": noise}), 1) for noise in (False, True))
    np.testing.assert_allclose((noisy / quiet - 1), (plain_noisy / plain_quiet - 1), atol=2e-4)  # a step is 5e-5


def test_mismatched_vectors_follow_the_gains_of_their_lines() -> None:
    exact = on_table({"readout.noise": False})
    seen = on_table({"readout.noise": False}, board__simulation__read_gain_spread=0.05)
    gains = conductances(seen, 1)[:, 0] / conductances(exact, 1)[:, 0]
    levels = np.array([[3000, -2000, 1000, 500, 0], [0, 0, 4000, 0, 1]])
    place = (0, SHAPE[0], 0, SHAPE[1])
    wanted = (levels * gains) @ conductances(exact, 2) * STEP_V
    got = seen.acquired(3, vectors(levels, place), 4).reshape(2, -1) * exact.greet(None).adc_step_a
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_mismatched_pulse_levels_write_every_cell_by_its_own_voltage() -> None:
    table = on_table({"chip.model": "al2o3-tio2-nili"}, board__simulation__pulse_gain_spread=0.02)
    program = pulses(record(b"\x7f", lines=1), width=24_000, levels=(2400, 0, -2400, 0))
    table.fired(1, program, 0.01)
    (felt,) = table.board.ledger
    assert felt.peak_v == pytest.approx(1.2, rel=0.06)
    assert felt.peak_v != pytest.approx(1.2, rel=1e-6)
    assert table.board.pulses_fired() == SHAPE[1]
    table.bench.close()


def test_a_level_that_has_not_settled_reads_too_little_and_remembers_the_last_one() -> None:
    quiet = {"readout.noise": False}
    exact = conductances(on_table(quiet), 1)
    slow = on_table(quiet, board__simulation__settle_s=1e-6, board__simulation__settle_tau_s=1e-6)
    left = np.exp(-1)
    np.testing.assert_allclose(conductances(slow, 1), (1 - left) * exact, rtol=1e-4)
    both = slow.acquired(2, cells(2500, (0, 1, 0, SHAPE[1]), both=True), 4).reshape(2, -1)
    np.testing.assert_allclose(both[1] / both[0], -(1 - left), rtol=1e-4)
    levels = np.zeros((2, SHAPE[0]), np.int64)
    levels[0, 0] = 2500
    first, second = slow.acquired(3, vectors(levels, (0, SHAPE[0], 0, SHAPE[1])), 4).reshape(2, -1)
    np.testing.assert_allclose(second / first, left, rtol=1e-3)
    slow.bench.close()


def test_noise_differs_from_read_to_read_and_shrinks_with_averages() -> None:
    table = on_table({})
    few = np.array([conductances(table, n) for n in range(1, 200)])
    program = cells(2500, (0, SHAPE[0], 0, SHAPE[1]), averages=16)
    many = np.array([table.acquired(n, program, 4) / 16 for n in range(200, 400)])
    many = many.reshape(-1, *SHAPE) * table.greet(None).adc_step_a / (2500 * STEP_V)
    assert few.std(axis=0).mean() / many.std(axis=0).mean() == pytest.approx(4, rel=0.1)
    table.bench.close()


def test_cells_in_groups_of_one_voltage_feel_what_the_whole_array_feels() -> None:
    """The board's short way through `Stress`, against the long one."""
    rng = np.random.default_rng(8)
    for device, scale in (("al2o3-tio2-nili", 1.3), ("lsmo-gaq3-mirror", 2.0), ("idealized", 1.0)):
        one, two = (on_table({"chip.model": device, "chip.file": None}).board.chip for _ in range(2))
        whole, groups = (Stress(chip, 1) for chip in (one, two))
        for _ in range(20):
            cell_v = rng.choice([0, 1, -1, 0.5, -0.5, 1 / 3, 4], SHAPE, p=[0.3, 0.2, 0.1, 0.2, 0.1, 0.09, 0.01]) * scale
            seconds = float(rng.choice([5e-4, 1e-3, 1e-6, 1.0]))
            largest_v = float(np.abs(cell_v).max())
            felt = whole.expose(cell_v, seconds)
            short = groups.expose_cells(
                [
                    (v, np.flatnonzero(cell_v == v).astype(np.int32))
                    for v in np.unique(cell_v[cell_v != 0]).tolist()
                    if groups.notices(v, largest_v, seconds)
                ],
                largest_v,
                seconds,
            )
            np.testing.assert_array_equal(two.u, one.u)
            np.testing.assert_array_equal(two.devices.shorted, one.devices.shorted)
            np.testing.assert_array_equal(short.pulsed, felt.pulsed)
            assert short[1:] == felt[1:]
        assert one.pulses.sum() > 0


# -- behind a resistance, kept, and refused ---------------------------------------------------------------------------


def test_behind_a_resistance_a_pulse_is_what_the_emulators_circuit_leaves_of_it() -> None:
    """The emulator solves a batch for the conductances at its beginning, the board every pulse: so one at a time."""
    ohm = {"chip.model": "al2o3-tio2-nili", "bench.source_ohm": 50.0, "bench.series_ohm": 450.0}
    table, emulator = on_table(ohm), emulated(ohm)
    rng = np.random.default_rng(6)
    for number in range(1, 6):
        counts = np.zeros(SHAPE, np.int8)
        counts[rng.integers(SHAPE[0])] = rng.choice([1, -1]) * rng.integers(0, 2, SHAPE[1])
        counts[:, 0] *= 0
        fire_both(table, emulator, number, PulseBatch(counts, Pulse(1.3, 5e-4)))
        np.testing.assert_array_equal(table.board.chip.u, emulator.chip.u)
    assert 1.0 < table.board.ledger[0].peak_v < 1.3
    compare_reads(table, emulator, 10, rng)
    table.bench.close()


def test_the_chip_is_in_its_file_before_the_reply_is_heard(tmp_path: Path) -> None:
    file = tmp_path / "chip.npz"
    made = table(chip__file=str(file))
    made.fired(1, pulses(record(b"\x01", repeat=3)), 0.01)
    kept = load_chip(file, load_model("lsmo-gaq3"))
    assert int(kept.pulses.sum()) == 3
    made.load(2, pulses(record(b"\x01", repeat=100)))
    made.fire(2, pulses(record(b"\x01", repeat=100)))
    made.wait(0.0105)
    made.bench.close()
    kept = load_chip(file, load_model("lsmo-gaq3"))
    assert int(kept.pulses.sum()) == 3 + 11, "the pulse that was on has come to its end"
    again = table(chip__file=str(file))
    assert again.board.pulses_fired() == 14
    again.bench.close()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"readout.adc_bits": 0}, "adc_bits = 0"),
        ({"readout.dac_bits": 0, "readout.ideal": True}, "dac_bits = 0"),
        ({"readout.adc_range_a": 0.0}, "adc_range_a = 0"),
        ({"readout.dac_bits": 18}, "dac_bits = 18"),
        ({"board.simulation.pulse_gain_spread": 0.01}, "pulse_gain_spread"),
        ({"bench.source_ohm": 50.0}, "source_ohm"),
    ],
)
def test_what_a_board_cannot_be_is_refused_with_its_key(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        on_table(settings)


def test_the_board_has_the_serial_number_that_the_bench_file_names() -> None:
    for said, is_number in (("77", 77), ("beef", 0xBEEF), ("", 1), ("no number", 1)):
        made = Table(opened(board__serial=said))
        assert made.greet(None).serial == is_number
        made.bench.close()


def test_the_board_is_as_the_bench_file_describes_it() -> None:
    made = Table(opened(
        board__simulation__clock_hz=10_000_000, board__simulation__pulse_bits=12,
        board__simulation__pulse_range_v=2.047,
        readout__adc_bits=16, readout__adc_range_a=32767e-9, readout__dac_bits=10, readout__dac_range_v=0.511,
    ))  # fmt: skip
    has = made.greet(None)
    assert (has.clock_hz, has.pulse_max, has.read_max, has.adc_bits) == (10_000_000, 2047, 511, 16)
    assert (has.pulse_step_v, has.read_step_v, has.adc_step_a) == pytest.approx((1e-3, 1e-3, 1e-9))
    assert (has.min_gap, has.min_period, has.settle) == (10, 100, 50)
    assert made.ask(Op.STATUS).status == Status.OK
    made.bench.close()
