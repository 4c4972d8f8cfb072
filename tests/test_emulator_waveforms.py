"""Waveforms on chips: what the emulator, the board and the instruments' world make of a voltage over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neurobench.drivers.emulator import Emulator, open_emulator

from neurobench.bench.config import load_bench
from neurobench.bench.crossbar import Applied
from neurobench.bench.limits import Guard
from neurobench.bench.passport import Passport
from neurobench.bench.steps import Loop
from neurobench.bench.stimulus import (
    Bias,
    CellRead,
    Play,
    Pulse,
    PulseBatch,
    Shape,
    VectorRead,
    Waveforms,
    shots,
)
from neurobench.errors import CapabilityMissing, ConfigError, OutsideHull, ResumeRefused, RunFileError, UsageError
from neurobench.learning.loops import LifStdp, Rule, Spikes
from neurobench.learning.schemes import Exponential, SpikePairs, cell_v
from neurobench.physics.chip import Chip, Spread, draw_devices, load_chip
from neurobench.physics.library import build_model, load_model
from neurobench.physics.plays import Event, lines_of
from neurobench.physics.stress import Stress

SHAPE = (3, 4)
RATES = "threshold-exponential"
CELL = (1, 2)
LINES_OFF = np.full(SHAPE[0], -1), np.full(SHAPE[1], -1)


def bench(**overrides: Any) -> Emulator:
    said = {name.replace("__", "."): value for name, value in overrides.items()}
    config = load_bench("emulator", {"chip.rows": 3, "chip.cols": 4, "chip.model": RATES, **said})
    emulator, _ = open_emulator(config, 7)
    assert isinstance(emulator, Emulator)
    return emulator


def fire(e: Emulator, waves: Waveforms, seq: int = 1) -> Applied:
    e.stage(seq, Play(waves))
    return e.fire(seq)


def steps(*pieces: tuple[float, float]) -> Shape:
    """A staircase: (seconds, volts) one after another, 0 V around it."""
    edges = np.concatenate([[0.0], np.cumsum([seconds for seconds, _ in pieces])])
    t_s, v = np.repeat(edges, 2), [0.0, *(volts for _, volts in pieces for _ in range(2)), 0.0]
    return Shape(t_s, np.array(v))


def on(row: Shape, col: Shape, delay_s: float = 0.0, cell: tuple[int, int] = CELL) -> Waveforms:
    """One shape on the cell's row, one on its column, `delay_s` later; the other lines grounded."""
    rows, cols = (one.copy() for one in LINES_OFF)
    rows[cell[0]], cols[cell[1]] = 0, 1
    return Waveforms((row, col), rows, cols, np.zeros(SHAPE[0]), np.full(SHAPE[1], delay_s))


def moved(e: Emulator, waves: Waveforms) -> Any:
    before = e.chip.u.copy()
    fire(e, waves)
    return (e.chip.u - before).reshape(SHAPE)


def pairing(dt_s: float, e: Emulator, cell: tuple[int, int] = CELL) -> Waveforms:
    config = load_bench("emulator", {"chip.rows": 3, "chip.cols": 4, "chip.model": RATES})
    _, span = open_emulator(config, 7)
    guard = Guard(e, config.limits, Passport("x", SHAPE), span)
    (one,) = Exponential().stimuli(SpikePairs.one(SHAPE, cell, dt_s), guard.view())
    assert isinstance(one, Waveforms)
    return one


# -- the emulator -----------------------------------------------------------------------------------------------------


def test_one_cell_integrates_what_it_sees_and_its_neighbours_see_lone_spikes() -> None:
    e = bench()
    change = moved(e, pairing(5e-3, e))
    assert change[CELL] == pytest.approx(0.78108 * 0.042071, rel=1e-3)
    change[CELL] = 0
    assert not change.any()
    np.testing.assert_array_equal(
        e.chip.pulses.reshape(SHAPE), np.eye(3, 4, 1, dtype=int) * (np.arange(3) == 1)[:, None]
    )


def test_a_waveform_is_one_shot_one_pulse_and_takes_its_time() -> None:
    e = bench(bench__pulse_overhead_s=1e-3)
    waves = pairing(10e-3, e)
    applied = fire(e, waves)
    assert (applied.shots_done, applied.pulses, applied.start_s) == (1, 1, 0.0)
    assert applied.end_s == pytest.approx(waves.duration_s + 1e-3)
    assert e.fire(1) == applied
    assert e.chip.pulses.sum() == 1


def test_staging_changes_nothing_and_what_is_staged_last_is_played() -> None:
    e = bench()
    before = e.chip.snapshot()
    e.stage(1, Play(pairing(2e-3, e)))
    e.stage(1, Play(pairing(-2e-3, e)))
    assert e.chip.snapshot() == before
    e.fire(1)
    assert e.chip.u.reshape(SHAPE)[CELL] < e.chip.devices.u_start.reshape(SHAPE)[CELL]


def test_a_snapshot_before_a_waveform_gives_the_same_bits_after_it() -> None:
    e = bench(chip__step_spread=0.2, chip__threshold_spread=0.02)
    waves, kept = pairing(2e-3, e), e.snapshot()
    first = moved(e, waves)
    e.restore(kept)
    np.testing.assert_array_equal(moved(e, waves), first)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_cell_moves_by_the_doses_of_the_voltage_that_it_sees(data: Any) -> None:
    """Against a plain walk: the cell's voltage by `schemes.cell_v`, its doses and their map by the rate law."""
    shape = st.lists(st.tuples(st.sampled_from([0.0, 1e-3, 2e-3, 5e-3]), st.floats(-0.8, 0.8)), min_size=1, max_size=5)
    shapes = tuple(
        Shape(np.cumsum([0.0, 1e-3, *(t for t, _ in points), 1e-3]), np.array([0.0, 0.5, *(v for _, v in points), 0.0]))
        for points in data.draw(st.lists(shape, min_size=1, max_size=3))
    )
    index = st.integers(-1, len(shapes) - 1)
    start = st.sampled_from([0.0, 1e-3, 2.5e-3])
    rows, cols = (data.draw(st.lists(index, min_size=n, max_size=n)) for n in SHAPE)
    starts = [np.array(data.draw(st.lists(start, min_size=n, max_size=n))) for n in SHAPE]
    waves = Waveforms(shapes, np.array(rows), np.array(cols), *starts)
    model = load_model(RATES)
    assert model.rate is not None
    chip = Chip(
        model, draw_devices(model, SHAPE, 5, Spread(step=0.3, threshold=data.draw(st.sampled_from([0, 0.1])))), 5
    )
    factors = np.broadcast_to(chip.devices.threshold, 12)
    expected = chip.u.copy()
    for cell in range(12):
        t_s, volts = cell_v(waves, *divmod(cell, 4))
        for by in model.rate.doses(t_s, -volts, float(factors[cell])):
            expected[cell] = model.rate.moved(expected[cell : cell + 1], by * float(chip.devices.step[cell]))[0]
    event = Event(chip, model.rate, -1)
    event.play(lines_of(waves))
    event.end()
    np.testing.assert_allclose(chip.u, expected, rtol=0, atol=1e-9)
    assert ((chip.u >= 0) & (chip.u <= 1)).all()


def test_the_energy_of_a_waveform_is_that_of_its_ohmic_cells() -> None:
    e = bench()
    g = e.truth_s()
    waves = on(steps((1e-3, 0.6), (2e-3, -0.1)), steps((1e-3, -0.3)))
    applied = fire(e, waves)
    squares = np.zeros(SHAPE)
    squares[CELL[0], :] += 0.6**2 * 1e-3 + 0.1**2 * 2e-3
    squares[:, CELL[1]] += 0.3**2 * 1e-3
    squares[CELL] = 0.9**2 * 1e-3 + 0.1**2 * 2e-3
    assert (applied.energy_basis, applied.energy_j) == ("model", pytest.approx(float((g * squares).sum()), rel=1e-12))
    unknown = build_model(e.chip.model.card.model_copy(update={"write_current": None}))
    dark = Emulator(Chip(unknown, draw_devices(unknown, SHAPE, 7), 7))
    assert fire(dark, waves).energy_basis == "unknown"


def test_a_ramp_has_the_energy_of_its_squares_with_a_cubic_current_too() -> None:
    card = load_model(RATES).card
    law = {"law": "cubic", "cubic_per_v2": 2.0}
    model = build_model(type(card).model_validate({**card.model_dump(), "write_current": law}))
    e = Emulator(Chip(model, draw_devices(model, (1, 1), 7), 7))
    ramp = Shape(np.array([0.0, 1e-3, 1e-3]), np.array([0.0, 0.9, 0.0]))
    applied = fire(e, Waveforms((ramp,), np.zeros(1), np.full(1, -1), np.zeros(1), np.zeros(1)))
    v = np.linspace(0, 0.9, 200001)
    expected = np.trapezoid(v**2 * (1 + 2 * v**2), dx=1e-3 / 200000) / (1 + 2 * 0.1**2) * 1.05e-5
    assert applied.energy_j == pytest.approx(expected, rel=1e-8)


def test_negative_volts_potentiate_a_chip_that_says_so() -> None:
    e, turned = bench(), bench(chip__potentiating_sign=-1)
    waves = on(steps((1e-4, 0.7)), steps((1e-4, -0.5)))
    assert moved(e, waves)[CELL] == -moved(turned, waves)[CELL] == pytest.approx(0.0134017, rel=1e-5)


def test_a_rectangular_waveform_is_the_same_pulse() -> None:
    as_waves, as_pulse = bench(), bench()
    change = moved(as_waves, on(steps((1e-4, 0.6)), steps((1e-4, -0.6))))
    counts = np.zeros(SHAPE, np.int8)
    counts[CELL] = 1
    as_pulse.stage(1, shots(PulseBatch(counts, Pulse(1.2, 1e-4)), as_pulse.capabilities))
    as_pulse.fire(1)
    assert as_pulse.chip.u.reshape(SHAPE)[CELL] - 0.5 == pytest.approx(change[CELL], rel=1e-12)
    np.testing.assert_array_equal(as_pulse.chip.pulses, as_waves.chip.pulses)


# -- noise: one draw for each event -----------------------------------------------------------------------------------


def noisy(**update: float) -> Any:
    card = load_model(RATES).card
    return build_model(card.model_copy(update={"noise": card.noise.model_copy(update=update)}))


def test_a_waveform_in_one_piece_and_in_many_agree_noise_included() -> None:
    model = noisy(step_sigma_s=3e-7, step_sigma_relative=0.2)
    waves = on(steps((1e-4, 0.7), (2e-4, 0.55), (1e-4, -0.6)), steps((4e-4, -0.5), (1e-4, 0.6)))
    whole, pieces = (Chip(model, draw_devices(model, SHAPE, 3, Spread(step=0.2)), 3) for _ in range(2))
    event, stress = Event(whole, model.rate, 1), Stress(pieces, 1)
    event.play(lines_of(waves))
    event.end()
    at_s = [0.0, 1e-4, 1.5e-4, 3e-4, 4e-4, 5e-4]
    for first, last in pairwise(at_s):
        cells = [np.interp((first + last) / 2, *cell_v(waves, *divmod(cell, 4))) for cell in range(12)]
        stress.expose(np.array(cells).reshape(SHAPE), last - first)
    assert stress.calm()
    np.testing.assert_allclose(pieces.u, whole.u, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(pieces.pulses, whole.pulses)
    assert pieces.pulses.sum() == 1
    assert not stress.calm()


def test_the_noise_of_an_event_has_the_size_of_that_of_a_pulse() -> None:
    model = noisy(step_sigma_s=1e-7, step_sigma_relative=0.3)
    chip = Chip(model, draw_devices(model, (60, 60), 3), 3)
    event = Event(chip, model.rate, 1)
    event.stand(np.full((60, 60), 1.2), 1e-4)
    event.end()
    change = chip.u - 0.5
    assert change.mean() == pytest.approx(0.0134017, rel=0.02)
    assert change.std() == pytest.approx(np.hypot(1e-7 / 19e-6, 0.3 * 0.0134017), rel=0.04)
    before = chip.u.copy()
    event.stand(np.full((60, 60), 1.2), 1e-4)
    event.end()
    assert abs(np.corrcoef(change, chip.u - before)[0, 1]) < 0.06
    assert (chip.pulses == 2).all()


# -- thresholds of one's own ------------------------------------------------------------------------------------------


def test_thresholds_differ_between_cells_and_belong_to_the_chip() -> None:
    chip = bench(chip__threshold_spread=0.1, chip__rows=40, chip__cols=50).chip
    factors = chip.devices.threshold
    assert (factors.std(), factors.mean()) == (pytest.approx(0.1, rel=0.05), pytest.approx(1, abs=0.01))
    assert chip.devices.digest() != bench(chip__rows=40, chip__cols=50).chip.devices.digest()
    again = bench(chip__threshold_spread=0.1, chip__rows=40, chip__cols=50).chip
    np.testing.assert_array_equal(again.devices.threshold, factors)


def test_a_spread_of_nothing_leaves_a_chip_as_it_was() -> None:
    assert bench(chip__threshold_spread=0.0).chip.devices.threshold.tolist() == [1.0]


@pytest.mark.parametrize("bias", [Bias.HALF, Bias.THIRD])
def test_pulses_go_by_the_threshold_of_every_cell_victims_too(bias: Bias) -> None:
    e = bench(chip__threshold_spread=0.15, chip__step_spread=0.3)
    model, chip = e.chip.model, e.chip
    assert model.rate is not None
    expected, counts = chip.u.copy().reshape(SHAPE), np.zeros(SHAPE, np.int8)
    counts[CELL], counts[0, 0] = 2, -1
    batch = shots(PulseBatch(counts, Pulse(2.6, 1e-6), bias), e.capabilities)
    felt = np.zeros(SHAPE, bool)
    for shot in batch:
        states = shot.states
        for _ in range(shot.n):
            for cell in np.ndindex(SHAPE):
                volts = states.row_v[cell[0]] - states.col_v[cell[1]]
                k = cell[0] * 4 + cell[1]
                doses = model.rate.doses(np.array([0, 1e-6]), np.full(2, volts), float(chip.devices.threshold[k]))
                for by in doses:
                    expected[cell] = model.rate.moved(np.array([expected[cell]]), by * float(chip.devices.step[k]))[0]
                    felt[cell] = True
    e.stage(1, batch)
    applied = e.fire(1)
    np.testing.assert_allclose(chip.u.reshape(SHAPE), expected, rtol=1e-12)
    assert applied.pulses == 3
    np.testing.assert_array_equal(chip.pulses.reshape(SHAPE), np.abs(counts))
    assert felt.sum() > 2 or bias is Bias.THIRD
    assert (chip.disturbs.reshape(SHAPE) > 0).sum() >= felt.sum() - 2


def test_without_a_spread_the_table_and_the_walk_by_cells_agree_on_pulses_and_energy() -> None:
    def fired(e: Emulator) -> Applied:
        counts = np.array([[1, 0, -2, 0], [0, 3, 0, 0], [1, 1, 1, 1]], np.int8)
        e.stage(1, shots(PulseBatch(counts, Pulse(1.3, 1e-5)), e.capabilities))
        return e.fire(1)

    table, cells = bench(), bench()
    cells.chip.devices = replace(cells.chip.devices, threshold=np.ones(12))
    one, other = fired(table), fired(cells)
    np.testing.assert_allclose(cells.chip.u, table.chip.u, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(cells.chip.pulses, table.chip.pulses)
    assert other.energy_j == pytest.approx(one.energy_j, rel=1e-12)
    assert (other.pulses, other.end_s) == (one.pulses, one.end_s)


def test_a_kept_chip_keeps_its_thresholds_and_an_older_file_has_none(tmp_path: Path) -> None:
    import msgpack

    model = load_model(RATES)
    for sigma in (0.0, 0.1):
        chip = Chip(model, draw_devices(model, SHAPE, 3, Spread(threshold=sigma)), 3)
        chip.save(tmp_path / "chip")
        np.testing.assert_array_equal(load_chip(tmp_path / "chip", model).devices.threshold, chip.devices.threshold)
    kept = msgpack.unpackb((tmp_path / "chip").read_bytes())
    with pytest.raises(ResumeRefused):
        (tmp_path / "other").write_bytes(msgpack.packb({**kept, "threshold": b""}))
        load_chip(tmp_path / "other", model)
    with pytest.raises(RunFileError, match="damaged"):
        (tmp_path / "other").write_bytes(msgpack.packb({**kept, "threshold": b"12345678"}))
        load_chip(tmp_path / "other", model)
    Chip(model, draw_devices(model, SHAPE, 3), 3).save(tmp_path / "plain")
    old = msgpack.unpackb((tmp_path / "plain").read_bytes())
    del old["threshold"]
    (tmp_path / "plain").write_bytes(msgpack.packb(old))
    assert load_chip(tmp_path / "plain", model).devices.threshold.tolist() == [1.0]


@pytest.mark.parametrize(("kept", "asked"), [(0.1, 0.0), (0.0, 0.1), (0.1, 0.05)])
def test_a_kept_chip_is_refused_under_another_spread_of_thresholds(tmp_path: Path, kept: float, asked: float) -> None:
    """Protocols keep lone spikes below the lowest declared threshold: a wrong one would write with them."""
    file = str(tmp_path / "chip")
    bench(chip__file=file, chip__threshold_spread=kept).close()
    bench(chip__file=file, chip__threshold_spread=kept).close()
    with pytest.raises(ConfigError, match="threshold_spread"):
        bench(chip__file=file, chip__threshold_spread=asked)


def test_a_spread_of_thresholds_needs_devices_that_have_one() -> None:
    with pytest.raises(ConfigError, match="threshold_spread"):
        bench(chip__model="idealized", chip__threshold_spread=0.1)


# -- what is declared, and what is refused ----------------------------------------------------------------------------


def test_the_span_says_the_thresholds() -> None:
    config = load_bench("emulator", {"chip.model": "vteam", "chip.threshold_spread": 0.05})
    _, span = open_emulator(config, 1)
    assert (span.threshold_v, span.threshold_depress_v, span.threshold_sigma) == (0.2, 0.02, 0.05)
    assert span.half_select == "modelled"
    _, span = open_emulator(load_bench("emulator", {"chip.model": "idealized"}), 1)
    assert np.isnan([span.threshold_v, span.threshold_depress_v]).all()


def test_the_bench_plays_as_many_shapes_as_it_has_lines_but_not_behind_a_resistance() -> None:
    assert bench().capabilities.distinct_shapes == 7
    behind = bench(bench__source_ohm=50.0)
    assert behind.capabilities.distinct_shapes == 0
    with pytest.raises(CapabilityMissing, match="50 ohm"):
        behind.stage(1, Play(on(steps((1e-4, 0.6)), steps((1e-4, -0.6)))))
    behind.stage(1, shots(PulseBatch(np.eye(3, 4, dtype=np.int8), Pulse(1.3, 1e-5)), behind.capabilities))
    behind.fire(1)
    assert 0.5 < behind.chip.u[0] < bench_after_one_pulse()
    spread = bench(bench__source_ohm=50.0, chip__threshold_spread=0.1)
    spread.stage(1, shots(PulseBatch(np.eye(3, 4, dtype=np.int8), Pulse(1.3, 1e-5)), spread.capabilities))
    with pytest.raises(CapabilityMissing, match="threshold_spread"):
        spread.fire(1)


def bench_after_one_pulse() -> float:
    e = bench()
    e.stage(1, shots(PulseBatch(np.eye(3, 4, dtype=np.int8), Pulse(1.3, 1e-5)), e.capabilities))
    e.fire(1)
    return float(e.chip.u[0])


@pytest.mark.parametrize("read", [CellRead(np.ones(SHAPE, bool), 0.05), VectorRead(np.full((1, 3), -0.05))])
def test_a_read_that_would_write_is_refused_by_the_volts(read: Any) -> None:
    before = (e := bench(chip__model="vteam")).chip.snapshot()
    with pytest.raises(CapabilityMissing, match=r"0\.05 V would write device vteam"):
        e.sense(read)
    assert e.chip.snapshot() == before
    bench().sense(read)


def test_loops_are_offered_where_nothing_but_the_selected_cell_can_move() -> None:
    assert bench().capabilities.compiled_loops
    assert not bench(chip__threshold_spread=0.1).capabilities.compiled_loops
    spikes = Spikes(np.arange(0, 63, 3, dtype=np.int32), np.tile(np.arange(3, dtype=np.int32), 20))
    for volts in (1.9, 2.2):
        e, pulse = bench(), Pulse(volts, 1e-7)
        loop = Loop(LifStdp.fresh(Rule(gain_per_a=1e5), spikes, SHAPE, pulse, pulse), 20)
        if volts / 2 < 1:
            answer = e.loop(1, loop)
            assert e.chip.pulses.sum() == answer.potentiations.sum() + answer.depressions.sum() > 0
            assert answer.energy_j > 0
            continue
        with pytest.raises(CapabilityMissing, match="half-selected"):
            e.loop(1, loop)
        assert not e.chip.pulses.any()


def test_a_loop_whose_reads_would_write_is_refused_as_its_single_reads_are() -> None:
    e, pulse = bench(chip__model="vteam"), Pulse(0.03, 1.25e-7)
    spikes = Spikes(np.arange(0, 63, 3, dtype=np.int32), np.tile(np.arange(3, dtype=np.int32), 20))
    before = e.chip.snapshot()
    for read_v, refused in ((0.03, True), (0.01, False)):
        loop = Loop(LifStdp.fresh(Rule(gain_per_a=1.0, read_v=read_v), spikes, SHAPE, Pulse(0.21, 1.25e-7), pulse), 20)
        if not refused:
            assert e.loop(1, loop).ticks == 20
            continue
        with pytest.raises(CapabilityMissing, match=r"a read at 0\.03 V would write"):
            e.loop(1, loop)
        assert e.chip.snapshot() == before


MEASURED = Pulse(2.0, 1e-3)


def test_a_replayed_curve_takes_waveforms_of_pulses_that_it_knows() -> None:
    """The lines of the other cells carry up to the reading level; the cell sees the measured pulse, twice."""
    waves = on(steps((1e-3, 0.25), (1e-3, 0.0), (1e-3, 0.25)), steps((1e-3, -1.75), (1e-3, 0.0), (1e-3, -1.75)))
    e = bench(chip__model="lsmo-gaq3", chip__rows=1, chip__cols=1)
    one = Waveforms(waves.shapes, np.zeros(1), np.ones(1), np.zeros(1), np.zeros(1))
    applied = fire(e, one)
    assert (applied.shots_done, applied.pulses, applied.energy_basis) == (1, 2, "unknown")
    other = bench(chip__model="lsmo-gaq3", chip__rows=1, chip__cols=1)
    other.stage(1, shots(PulseBatch(np.full((1, 1), 2), MEASURED), other.capabilities))
    other.fire(1)
    np.testing.assert_array_equal(e.chip.u, other.chip.u)
    np.testing.assert_array_equal(e.chip.pulses, other.chip.pulses)


@pytest.mark.parametrize(
    ("row", "col", "error", "words"),
    [
        (steps((1e-3, 1.5)), steps((1e-3, -0.5)), OutsideHull, r"1\.5 V on cell \(1, 0\) for 0\.001 s, from 0 s on"),
        (steps((1e-3, 0.4)), steps((1e-3, -1.6)), OutsideHull, r"1\.6 V on cell \(0, 2\)"),
        (steps((5e-3, 0.4)), steps((5e-3, 0.4)), None, ""),
        (Shape(np.array([0.0, 1e-3, 2e-3]), np.array([0, 2.0, 0])), steps((1e-3, 0.1)), CapabilityMissing,
         r"cell \(1, 0\) goes from 0 V to 2 V in 0\.001 s, from 0 s on.*rate"),
        (Shape(np.array([0.0, 1e-3, 2e-3]), np.array([0, 0.4, 0])), steps((1e-3, 0.1)), None, ""),
        (steps((1e-3, -0.4)), steps((1e-3, 1.9)), CapabilityMissing, r"-1\.9 V on cell \(0, 2\).*cannot depress"),
    ],
)  # fmt: skip
def test_a_replayed_curve_refuses_the_rest_naming_cell_volts_and_time(
    row: Shape, col: Shape, error: type[Exception] | None, words: str
) -> None:
    e = bench(chip__model="lsmo-gaq3")
    before = e.chip.snapshot()
    if error is None:
        assert fire(e, on(row, col)).pulses == 0
        assert not e.chip.pulses.any()
        return
    with pytest.raises(error, match=words):
        e.stage(1, Play(on(row, col)))
    assert e.chip.snapshot() == before


def ending(e: Emulator, room: int) -> Emulator:
    """The same bench with a curve that may not be held at its end, each cell with room for so many pulses."""
    model = build_model(e.chip.model.card.model_copy(update={"end": "refuse"}), "literal")
    chip = Chip(model, draw_devices(model, e.chip.shape, 7), 7)
    chip.u[:] = model.u_max - room
    return Emulator(chip)


@pytest.mark.parametrize("room", [1, 2])
def test_a_waveform_passes_no_end_of_a_curve_that_may_not_be_held(room: int) -> None:
    waves = on(steps((1e-3, 0.25), (1e-3, 0.0), (1e-3, 0.25)), steps((1e-3, -1.75), (1e-3, 0.0), (1e-3, -1.75)))
    e = ending(bench(chip__model="lsmo-gaq3", chip__rows=1, chip__cols=1), room)
    one = Waveforms(waves.shapes, np.zeros(1), np.ones(1), np.zeros(1), np.zeros(1))
    if room == 2:
        assert fire(e, one).pulses == 2
        return
    with pytest.raises(OutsideHull, match="end of the curve"):
        e.stage(1, Play(one))
    assert not e.chip.pulses.any()
    with pytest.raises(UsageError, match="without stage"):
        e.fire(1)


# -- board and instruments --------------------------------------------------------------------------------------------


def test_a_voltage_far_beyond_what_the_card_states_destroys_the_cell() -> None:
    model = load_model(RATES)
    chip = Chip(model, draw_devices(model, SHAPE, 3), 3)
    stress, cell = Stress(chip, -1), np.zeros(SHAPE)
    cell[CELL], cell[0, 0] = -3.7, 3.5
    felt = stress.expose(cell, 1e-9)
    assert [(w.cell, w.volts) for w in felt.wounds] == [(CELL, -3.7)]
    assert "3 times the largest known amplitude, 1.2 V" in felt.wounds[0].why
    assert chip.devices.shorted.sum() == 1


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_a_board_fires_pulses_as_the_emulator_does(spread: float) -> None:
    from fpga_bench import open_simulated

    counts = np.array([[1, 0, -2, 0], [0, 3, 0, 0], [1, 1, 1, 1]], np.int8)
    said = {"chip.rows": 3, "chip.cols": 4, "chip.model": RATES, "chip.threshold_spread": spread, "readout.ideal": True}
    board = open_simulated(said)
    # volts that are whole steps of the board's converter on both benches
    pulse = Pulse(2 * round(0.65 / 0.00025) * 0.00025, 48e-6)
    board.crossbar.stage(1, shots(PulseBatch(counts, pulse), board.crossbar.capabilities))
    board.crossbar.fire(1)
    e = bench(chip__threshold_spread=spread)
    e.stage(1, shots(PulseBatch(counts, pulse), e.capabilities))
    e.fire(1)
    np.testing.assert_allclose(board.board.chip.u, e.chip.u, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(board.board.chip.pulses, e.chip.pulses)
    board.close()


def windows(play: Callable[[Waveforms], float], e: Emulator) -> Any:
    return np.array([play(pairing(dt_s, e)) for dt_s in (2e-3, 5e-3, 20e-3, -5e-3)])


def test_the_same_scheme_on_a_board_is_right_up_to_its_samples() -> None:
    """A sample of the board is 80 ms / 2045 = 40 us, and a jump of a spike moves by up to half of one; near the peak a
    spike of t+ = 3 ms with v0 = 1/7 V changes its rate by exp(7 * 1 V / 3 ms * 20 us) = 5 % in that time."""
    from fpga_bench import open_simulated

    e = bench()
    board = open_simulated({"chip.rows": 3, "chip.cols": 4, "chip.model": RATES})
    seq = iter(range(1, 100))

    def play(waves: Waveforms) -> float:
        before, number = board.board.chip.u.copy(), next(seq)
        board.crossbar.stage(number, Play(waves))
        assert board.crossbar.fire(number).shots_done == 1
        change = (board.board.chip.u - before).reshape(SHAPE)
        found = float(change[CELL])
        change[CELL] = 0
        assert not change.any()
        return found

    on_board, here = windows(play, e), windows(lambda waves: float(moved(bench(), waves)[CELL]), e)
    np.testing.assert_allclose(on_board / here, 1, atol=0.08)
    assert board.board.chip.pulses.sum() == 4
    board.close()


def test_lone_spikes_leave_a_rate_chip_behind_a_board_bit_for_bit() -> None:
    from fpga_bench import open_simulated

    board = open_simulated({"chip.rows": 3, "chip.cols": 4, "chip.model": RATES})
    before = board.board.chip.u.copy()
    wave = pairing(80e-3, bench())
    board.crossbar.stage(1, Play(wave))
    board.crossbar.fire(1)
    np.testing.assert_array_equal(board.board.chip.u, before)
    assert not board.board.chip.pulses.any()
    board.close()


def on_instruments(**overrides: Any) -> Any:
    from visa_bench import open_simulated

    said = {name.replace("__", "."): value for name, value in overrides.items()}
    return open_simulated({"chip.rows": 3, "chip.cols": 4, "chip.model": RATES, "readout.ideal": True, **said})


@pytest.mark.parametrize(("volts", "spread"), [(1.3, 0.0), (1.3, 0.1), (2.4, 0.0)])
def test_instruments_pulse_a_rate_chip_as_the_emulator_does_victims_too(volts: float, spread: float) -> None:
    counts = np.array([[1, 0, -1, 0], [0, 2, 0, 0], [0, 0, 0, 1]], np.int8)
    table = on_instruments(chip__threshold_spread=spread, instruments__simulation__instrument_noise=False)
    e = bench(chip__threshold_spread=spread)
    for crossbar in (table.crossbar, e):
        crossbar.stage(1, shots(PulseBatch(counts, Pulse(volts, 2e-7)), crossbar.capabilities))
        crossbar.fire(1)
    chip = table.world.chip
    np.testing.assert_allclose(chip.u, e.chip.u, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(chip.pulses.reshape(SHAPE), np.abs(counts))
    np.testing.assert_array_equal(chip.pulses, e.chip.pulses)
    np.testing.assert_array_equal(chip.disturbs, e.chip.disturbs)
    assert bool(chip.disturbs.any()) is (volts > 2)
    table.close()


def test_every_bench_counts_the_same_pulses_however_the_thresholds_of_its_chip_scatter() -> None:
    """What a low threshold lets a lone spike do is a disturb: no bench can know of it by the waveform."""
    from fpga_bench import open_simulated

    table = on_instruments(chip__threshold_spread=0.1)
    board = open_simulated({"chip.rows": 3, "chip.cols": 4, "chip.model": RATES, "chip.threshold_spread": 0.1})
    e = bench(chip__threshold_spread=0.1)
    waves = pairing(5e-3, bench())
    assert fire(e, waves).pulses == e.chip.pulses.sum() == 1
    assert e.chip.disturbs.any()
    for other in (table, board):
        other.crossbar.stage(1, Play(waves))
        assert other.crossbar.fire(1).pulses == 1
        other.close()
    assert board.board.chip.pulses.sum() == 1


def test_the_same_scheme_on_instruments_is_right_up_to_their_samples() -> None:
    e, table = bench(), on_instruments()
    seq = iter(range(1, 100))

    def play(waves: Waveforms) -> float:
        before, number = table.world.chip.u.copy(), next(seq)
        table.crossbar.stage(number, Play(waves))
        assert table.crossbar.fire(number).shots_done == 1
        change = (table.world.chip.u - before).reshape(SHAPE)
        found = float(change[CELL])
        change[CELL] = 0
        assert not change.any()
        return found

    there, here = windows(play, e), windows(lambda waves: float(moved(bench(), waves)[CELL]), e)
    np.testing.assert_allclose(there / here, 1, atol=5e-3)
    assert table.world.chip.pulses.sum() == 4
    table.close()


def test_a_chip_is_kept_after_the_last_volt_of_its_event(tmp_path: Path) -> None:
    """The world saves at every settling; noise and count come with the end of the event."""
    table = on_instruments(chip__file=str(tmp_path / "chip"))
    table.crossbar.stage(1, Play(pairing(5e-3, bench())))
    table.crossbar.fire(1)
    kept = load_chip(tmp_path / "chip", load_model(RATES))
    assert kept.pulses.sum() == 1
    np.testing.assert_array_equal(kept.u, table.world.chip.u)
    table.close()


def test_a_waveform_acts_on_what_relaxation_has_left() -> None:
    card = load_model(RATES).card
    decays = {"relaxation": {"tau_s": 1.0, "g_rest_s": 1e-6}}
    model = build_model(type(card).model_validate({**card.model_dump(), **decays}))
    e = Emulator(Chip(model, draw_devices(model, SHAPE, 7), 7))
    waves = on(steps((1e-4, 0.6)), steps((1e-4, -0.6)))
    e.wait(2.0)
    fire(e, waves)
    assert e.chip.u.reshape(SHAPE)[CELL] == pytest.approx(0.5 * np.exp(-2.0) + 0.0134017, rel=1e-5)
    assert e.chip.u[0] == pytest.approx(0.5 * np.exp(-2.0), rel=1e-12)
    e.wait(1.0)
    assert e.truth_s()[CELL] == pytest.approx(1e-6 + 19e-6 * (0.5 * np.exp(-2.0) + 0.0134017) * np.exp(-1.0), rel=1e-3)


def test_what_a_card_only_declares_is_not_called_measured() -> None:
    said = {
        model: open_emulator(load_bench("emulator", {"chip.model": model}), 0)[1].origin
        for model in (RATES, "epiram", "gong-rram")
    }
    assert said[RATES] == f"{RATES}, an equation, as its card declares"
    assert said["epiram"] == "epiram, an equation, as its card declares"
    assert said["gong-rram"] == "gong-rram, latent replay, as measured"
