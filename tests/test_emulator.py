"""The emulator as a bench: exactly once, in simulated time, through circuit and readout, from a bench file."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.drivers.emulator import Emulator, open_emulator

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Applied, Done, NotDone
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Loop
from neurobench.bench.stimulus import (
    Bias,
    CellRead,
    Direction,
    LineState,
    Pulse,
    PulseBatch,
    Region,
    Shape,
    ShotList,
    Shots,
    VectorRead,
    Waveforms,
    shots,
)
from neurobench.errors import CapabilityMissing, ConfigError, OutsideHull, UsageError
from neurobench.learning.loops import LifStdp, Rule, Spikes
from neurobench.physics.chip import Chip, draw_devices
from neurobench.physics.library import build_model, load_model

PULSE = Pulse(2.0, 1e-3)  # the bundled device's own
FREE = {"chip.step_spread": 0.0, "readout.ideal": True}


def bench(seed: Any = 1, **overrides: Any) -> Emulator:
    """An emulator from the built-in bench; `chip_rows=2` stands for chip.rows = 2."""
    found = {k.replace("__", "."): v for k, v in overrides.items()}
    emulator, _ = open_emulator(load_bench("emulator", found), seed)
    return emulator


def ones(e: Emulator, sign: int = 1, pulse: Pulse = PULSE) -> ShotList:
    return shots(PulseBatch(np.full(e.chip.shape, sign), pulse), e.capabilities)


def pulse(e: Emulator, seq: int, sign: int = 1) -> Applied:
    e.stage(seq, ones(e, sign))
    return e.fire(seq)


# -- exactly once ----------------------------------------------------------------------------------------------------


def test_a_sequence_number_is_fired_once() -> None:
    e = bench()
    e.stage(0, ones(e))
    e.stage(0, ones(e))
    before = e.truth_s()
    assert e.outcome(0, e.stage(0, ones(e))) == NotDone()
    first = e.fire(0)
    after = e.truth_s()
    assert (after != before).all()
    assert e.fire(0) is first, "the cached answer"
    assert e.truth_s().tobytes() == after.tobytes()
    outcome = e.outcome(0, e.stage(1, ones(e)))
    assert isinstance(outcome, Done)
    assert outcome.applied is first


def test_numbers_only_rise_and_need_a_stage() -> None:
    e = bench()
    pulse(e, 5)
    with pytest.raises(UsageError, match="sequence number 5 was used"):
        e.stage(5, ones(e))
    with pytest.raises(UsageError, match=r"without stage\(6\)"):
        e.fire(6)
    e.stage(6, ones(e))
    e.rest()
    with pytest.raises(UsageError, match="without stage"):
        e.fire(6)


def test_old_answers_are_let_go_but_never_fired_again() -> None:
    e = bench()
    for seq in range(100):
        pulse(e, seq)
    state = e.truth_s()
    with pytest.raises(UsageError):
        e.fire(3)
    with pytest.raises(UsageError, match="no longer kept"):
        e.outcome(3, e.stage(100, ones(e)))
    assert e.truth_s().tobytes() == state.tobytes()


def test_applied_says_what_happened() -> None:
    e = bench(bench__pulse_overhead_s=0.1)
    applied = pulse(e, 0)
    assert (applied.shots_done, applied.pulses, applied.energy_basis) == (4, 16, "model")
    assert applied.end_s - applied.start_s == pytest.approx(4 * (1e-3 + 0.1))
    assert applied.energy_j > 16 * 2e-6, "16 cells of some 3.7 uJ each"
    unknown = bench(chip__model="taox-tio2")
    unknown.stage(0, ones(unknown, 1, Pulse(3.0, 0.04)))
    applied = unknown.fire(0)
    assert applied.energy_basis == "unknown"
    assert isnan(applied.energy_j)


# -- determinism and snapshots ---------------------------------------------------------------------------------------


def test_same_seed_and_operations_give_the_same_bits() -> None:
    def life(e: Emulator) -> bytes:
        parts = []
        for seq in range(4):
            applied = pulse(e, seq)
            reading = e.sense(VectorRead(np.full((3, 4), 0.1), both_polarities=True))
            parts += [np.array(applied[:5]).tobytes(), reading.currents_a.tobytes(), e.truth_s().tobytes()]
        return b"".join(parts)

    assert life(bench(1)) == life(bench(1)) != life(bench(2))


def test_restored_from_a_snapshot_it_goes_on_as_if_undisturbed() -> None:
    whole, stopped = bench(), bench()
    read = CellRead(np.ones((4, 4), bool), 0.05)
    for e in (whole, stopped):
        for seq in range(3):
            pulse(e, seq)
            e.sense(read)
    snapshot = stopped.snapshot()
    pulse(stopped, 3)
    fresh = bench()
    fresh.restore(snapshot)
    assert isinstance(fresh.outcome(2, fresh.stage(3, ones(fresh))), Done)
    assert fresh.outcome(3, fresh.stage(3, ones(fresh))) == NotDone()
    for e in (whole, fresh):
        e.stage(3, ones(e))
    assert whole.fire(3) == fresh.fire(3)
    assert whole.sense(read).currents_a.tobytes() == fresh.sense(read).currents_a.tobytes()
    assert whole.clock_s == fresh.clock_s


def test_a_chip_file_ages_over_runs(tmp_path: Path) -> None:
    file = tmp_path / "chip.nbchip"
    first = bench(1, chip__file=file)
    pulse(first, 0)
    first.close()
    second = bench(99, chip__file=file)  # the drawer wins over the seed
    assert second.truth_s().tobytes() == first.truth_s().tobytes()
    assert second.clock_s == first.clock_s
    pulse(second, 0)
    with pytest.raises(ConfigError, match=r"\(4, 4\)"):
        bench(1, chip__file=file, chip__rows=5)


# -- refusals at stage -----------------------------------------------------------------------------------------------


def test_what_was_never_measured_is_refused_before_any_pulse() -> None:
    e = bench()
    before = e.snapshot()
    with pytest.raises(OutsideHull, match="never measured"):
        e.stage(0, ones(e, 1, Pulse(1.5, 1e-3)))
    with pytest.raises(CapabilityMissing, match="cannot depress"):
        e.stage(0, ones(e, -1))
    shape = Shape(np.array([0.0, 1e-3, 2e-3]), np.array([0.0, 1.0, 0.0]))
    waves = Waveforms((shape,), np.zeros(4, int), np.full(4, -1), np.zeros(4), np.zeros(4))
    with pytest.raises(CapabilityMissing, match="rate"):
        e.stage(0, shots(waves, e.capabilities))
    with pytest.raises(UsageError, match=r"\(2, 2\)"):
        e.stage(0, ones(bench(chip__rows=2, chip__cols=2)))
    with pytest.raises(UsageError, match="without stage"):
        e.fire(0)
    assert e.snapshot() == before


def test_a_refused_stage_forgets_what_was_staged_before() -> None:
    e = bench()
    e.stage(0, ones(e))
    with pytest.raises(OutsideHull):
        e.stage(0, ones(e, 1, Pulse(1.0, 1e-3)))
    with pytest.raises(UsageError):
        e.fire(0)


# -- reads -----------------------------------------------------------------------------------------------------------


def test_an_ideal_vector_read_is_the_product_of_its_region() -> None:
    e = bench(**{"chip.offsets": "normal", "chip.offset_sigma_s": 5e-8, "readout.ideal": True})
    g = e.truth_s()
    volts = np.random.default_rng(0).uniform(-0.2, 0.2, (3, 4))
    np.testing.assert_allclose(e.sense(VectorRead(volts)).currents_a[0], volts @ g, rtol=1e-12)
    back = e.sense(VectorRead(volts, Direction.COLS_TO_ROWS))
    np.testing.assert_allclose(back.currents_a[0], volts @ g.T, rtol=1e-12)
    part = VectorRead(volts[:, :2], region=Region(1, 3, 2, 4), both_polarities=True)
    np.testing.assert_allclose(e.sense(part).signed_a(), volts[:, :2] @ g[1:3, 2:4], rtol=1e-12)
    part = VectorRead(volts[:, :2], Direction.COLS_TO_ROWS, Region(0, 3, 2, 4))
    np.testing.assert_allclose(e.sense(part).currents_a[0], volts[:, :2] @ g[0:3, 2:4].T, rtol=1e-12)
    with pytest.raises(UsageError, match="3 volts on 4"):
        e.sense(VectorRead(volts[:, :3]))
    with pytest.raises(UsageError, match="inside"):
        e.sense(VectorRead(volts, region=Region(0, 4, 3, 5)))


def test_a_cell_read_finds_the_conductances() -> None:
    e = bench(**{"chip.offsets": "normal", "chip.offset_sigma_s": 5e-8, "readout.ideal": True})
    mask = np.eye(4, dtype=bool)
    reading = e.sense(CellRead(mask, 0.05))
    np.testing.assert_allclose(reading.signed_a() / 0.05, e.truth_s()[mask], rtol=1e-12)
    assert reading.sigma_a == 0


def test_both_polarities_remove_the_ammeters_offset() -> None:
    e = bench(**{"readout.noise": False, "readout.offset_a": 1.62e-9, "chip.step_spread": 0.0})
    reading = e.sense(CellRead(np.ones((4, 4), bool), 0.05))
    np.testing.assert_allclose(reading.signed_a(), 0.05 * e.truth_s().ravel(), rtol=1e-12)
    np.testing.assert_allclose(reading.currents_a.sum(axis=0) / 2, 1.62e-9, rtol=1e-9)


def test_a_lone_driven_cell_among_floating_lines_reads_16_7() -> None:
    e = bench(**FREE)
    read = VectorRead(np.array([[0.1]]), region=Region(0, 1, 0, 1), idle=LineState.FLOATING)
    g = e.truth_s()[0, 0]
    assert e.sense(read).currents_a[0, 0, 0] / 0.1 == pytest.approx(16 / 7 * g, rel=1e-12)
    wide = bench(**FREE, **{"chip.rows": 32, "chip.cols": 32})
    assert wide.sense(read).currents_a[0, 0, 0] / 0.1 == pytest.approx(1024 / 63 * g, rel=1e-12)


def test_the_source_resistance_stands_before_a_read() -> None:
    e = bench(**FREE, **{"bench.source_ohm": 1e5, "bench.series_ohm": 2e5})
    g = e.truth_s()
    arrives = 1 / (1 + 3e5 * g.sum(axis=1))
    volts = np.array([[0.1, 0.0, -0.1, 0.05]])
    np.testing.assert_allclose(e.sense(VectorRead(volts)).currents_a[0], (volts * arrives) @ g, rtol=1e-10)
    cells = e.sense(CellRead(np.ones((4, 4), bool), 0.1))
    np.testing.assert_allclose(cells.signed_a().reshape(4, 4), 0.1 * arrives[:, None] * g, rtol=1e-12)


def test_reading_noise_is_the_models_and_is_reported() -> None:
    e = bench(**{"chip.step_spread": 0.0})
    volts = np.full((2000, 4), 0.05)
    reading = e.sense(VectorRead(volts, averages=4))
    sigma_a = np.sqrt(4) * 0.05 * e.chip.model.read_sigma_s / 2
    assert reading.sigma_a == pytest.approx(sigma_a, rel=1e-6)
    assert reading.currents_a.std() == pytest.approx(sigma_a, rel=0.05)


def test_a_small_range_is_flagged() -> None:
    e = bench(**{"readout.adc_bits": 8, "readout.adc_range_a": 1e-8})
    reading = e.sense(VectorRead(np.full((1, 4), 0.1)))
    assert reading.flags == ("over_range",)
    assert reading.range_a == 1e-8
    assert np.abs(reading.currents_a).max() <= 1e-8


def test_time_and_energy_of_reads() -> None:
    e = bench(**FREE)
    g = e.truth_s()
    reading = e.sense(VectorRead(np.full((3, 4), 0.1), both_polarities=True, delay_s=2.7, averages=5))
    assert (reading.start_s, reading.end_s) == (2.7, pytest.approx(2.7 + 3 * 2 * 5 * 1e-3))
    assert reading.energy_j == pytest.approx(0.01 * g.sum() * 3 * 2 * 5e-3, rel=1e-12)
    cells = e.sense(CellRead(np.ones((4, 4), bool), 0.1, both_polarities=False))
    assert cells.energy_j == pytest.approx(4 * 0.01 * g.sum() * 1e-3, rel=1e-12)
    e.wait(10.0)
    assert e.clock_s == pytest.approx(cells.end_s + 10)


# -- pulses behind a resistance --------------------------------------------------------------------------------------


def test_a_resistance_that_takes_too_much_is_refused_by_the_curves_hull() -> None:
    """The in-pulse conductance is some 1 mS: 100 ohm take more than the 2 % that the card tolerates."""
    lone = {"chip.rows": 1, "chip.cols": 1, "chip.isolation": "isolated"}
    with pytest.raises(OutsideHull, match="never measured"):
        pulse(bench(**lone, **{"bench.source_ohm": 100.0}), 0)
    near, far = bench(**lone, **{"bench.source_ohm": 1.0}), bench(**lone)
    assert pulse(near, 0).energy_j < pulse(far, 0).energy_j
    assert near.truth_s().tobytes() == far.truth_s().tobytes(), "within tolerance it is the measured pulse"


def test_energy_behind_a_resistance_is_that_at_the_cell() -> None:
    e = bench(**{"chip.rows": 1, "chip.cols": 1, "bench.source_ohm": 3.0, "bench.biases": ["grounded"], **FREE})
    g = e.truth_s()[0, 0]
    factor = e.chip.model.write_current_factor
    v = 2.0
    for _ in range(60):  # fixed point of V = 2 - 3 I(V)
        v = 2.0 - 3.0 * g * v * (factor(v) or 0.0)
    batch = PulseBatch(np.ones((1, 1), int), PULSE, next(iter(e.capabilities.biases)))
    e.stage(0, shots(batch, e.capabilities))
    assert e.fire(0).energy_j == pytest.approx(g * v**2 * (factor(v) or 0.0) * 1e-3, rel=1e-6)


def test_without_a_declared_current_the_drop_is_unknown_and_refused() -> None:
    e = bench(**{"chip.model": "taox-tio2", "bench.source_ohm": 50.0})
    with pytest.raises(CapabilityMissing, match="has no I"):
        e.stage(0, ones(e, 1, Pulse(3.0, 0.04)))


# -- from a bench file -----------------------------------------------------------------------------------------------


def test_the_guard_opens_it() -> None:
    guard = open_bench(load_bench("emulator"), 3)
    assert isinstance(guard, Guard)
    assert guard.identity().simulated
    assert guard.span.half_select == "not modelled"
    assert guard.span.pulse == PULSE
    assert not guard.span.depresses
    assert guard.span.g_min_s == pytest.approx(454.47e-9, rel=1e-4)
    assert guard.span.potentiation_s[0] == pytest.approx(guard.span.g_min_s)
    assert guard.span.potentiation_s[50] == pytest.approx(guard.span.g_max_s, rel=1e-6)
    guard.close()


@pytest.mark.parametrize(
    ("model", "up", "down"),
    [
        ("ag-a-si", Pulse(3.2, 3e-4), Pulse(2.8, 3e-4)),
        ("taox-tio2", Pulse(3.0, 0.04), Pulse(3.0, 0.01)),
        ("pcmo", Pulse(2.0, 1e-3), None),
        ("lsmo-gaq3", Pulse(2.0, 1e-3), None),
    ],
)
def test_the_span_names_a_depressing_pulse_where_it_is_another_one(model: str, up: Pulse, down: Pulse | None) -> None:
    _, span = open_emulator(load_bench("emulator", {"chip.model": model}), 1)
    assert (span.pulse, span.depress_pulse) == (up, down)
    assert span.depresses == bool(span.depression_s) == (model != "lsmo-gaq3")
    assert all(np.diff(span.depression_s) <= 0)


def test_the_span_of_a_scaled_chip() -> None:
    config = load_bench("emulator", {"chip.scale": 10.0, "chip.baseline": "removed", "chip.replay": "literal"})
    _, span = open_emulator(config, 1)
    assert span.g_min_s == pytest.approx(0, abs=1e-15)
    assert span.g_max_s == pytest.approx(10 * 69.04817e-9, rel=1e-5)
    assert span.read_sigma_s == 0


def test_offsets_from_a_table(tmp_path: Path) -> None:
    file = tmp_path / "offset.csv"
    rows = np.arange(16.0).reshape(4, 4) * 1e-9
    np.savetxt(file, rows, delimiter=",")
    for given in (str(file), rows.tolist()):
        e = bench(**{"chip.offset_s": given, "chip.baseline": "removed", "chip.scale": 2.0})
        np.testing.assert_allclose(e.truth_s(), 2 * rows, rtol=1e-12, atol=1e-21)
    file.write_text("1,2,nonsense")
    with pytest.raises(ConfigError, match="offset_s"):
        bench(**{"chip.offset_s": str(file)})
    with pytest.raises(ConfigError, match="offset_s"):
        bench(**{"chip.offset_s": str(tmp_path / "absent.csv")})


def test_parallelism_changes_the_shots_and_not_the_chip() -> None:
    """House rule: emulators of another bench's parallelism agree where no victim is disturbed."""
    truths = set()
    for parallelism, expected in (("row", 4), ("column", 4), ("cell", 16)):
        e = bench(bench__parallelism=parallelism)
        assert pulse(e, 0).shots_done == expected
        truths.add(e.truth_s().tobytes())
    assert len(truths) == 1


# -- loops -----------------------------------------------------------------------------------------------------------


def test_a_loop_is_journalled_timed_and_counted_like_a_stimulus() -> None:
    e = bench(**{"chip.model": "lsmo-gaq3-mirror"})
    spikes = Spikes(np.arange(0, 84, 4, dtype=np.int32), np.tile(np.arange(4, dtype=np.int32), 20))
    program = LifStdp.fresh(Rule(gain_per_a=4e6), spikes, (4, 4), PULSE, PULSE)
    before, start_s = e.truth_s(), e.clock_s
    answer = e.loop(0, Loop(program, 20))
    assert answer.potentiations.sum() > 0
    assert e.chip.pulses.sum() == answer.potentiations.sum() + answer.depressions.sum()
    assert (e.truth_s() != before).any()
    assert (answer.start_s, answer.end_s) == (start_s, e.clock_s)
    assert answer.energy_j > 0
    assert e.chip.counters.reads == 20
    outcome = e.outcome(0, e.stage(1, ones(e)))
    assert isinstance(outcome, Done)
    with pytest.raises(UsageError, match="was used"):
        e.loop(0, Loop(program, 20))


def test_loops_are_not_offered_where_a_curve_may_not_be_held() -> None:
    """A loop clips a state at the end of its curve: what the card forbids."""
    model = load_model("lsmo-gaq3-mirror")
    card = model.card.model_copy(update={"end": "refuse"})
    e = Emulator(Chip(build_model(card, "latent"), draw_devices(model, (4, 4), 1), 1))
    program = LifStdp.fresh(
        Rule(gain_per_a=1e6), Spikes(np.array([0, 1], np.int32), np.zeros(1, np.int32)), (4, 4), PULSE, PULSE
    )
    with pytest.raises(CapabilityMissing, match="end = 'refuse'"):
        e.loop(0, Loop(program, 1))
    assert not e.chip.pulses.any()


def test_a_cell_at_the_top_may_be_depressed_beside_one_that_is_potentiated() -> None:
    """Where the curve may not be held at its end, only potentiating pulses can pass it."""
    model = load_model("lsmo-gaq3-mirror")
    card = model.card.model_copy(update={"end": "refuse"})
    e = Emulator(Chip(build_model(card, "latent"), draw_devices(model, (4, 4), 1), 1))
    e.chip.u[0] = e.chip.model.u_max
    counts = np.zeros((4, 4), np.int8)
    counts[0, 0], counts[1, 1] = -1, 1
    e.stage(0, shots(PulseBatch(counts, PULSE), e.capabilities))
    counts[0, 0] = 1
    with pytest.raises(OutsideHull, match=r"cell \(0, 0\)"):
        e.stage(1, shots(PulseBatch(counts, PULSE), e.capabilities))


@pytest.mark.parametrize("setting", [{"bench.source_ohm": 1.0}, {"chip.model": "al2o3-tio2-nili"}])
def test_loops_are_not_offered_where_they_would_skip_physics(setting: dict[str, Any]) -> None:
    e = bench(**setting)
    assert not e.capabilities.compiled_loops
    program = LifStdp.fresh(
        Rule(gain_per_a=1e6), Spikes(np.array([0, 1], np.int32), np.zeros(1, np.int32)), (4, 4), PULSE, PULSE
    )
    with pytest.raises(CapabilityMissing, match="host steps it"):
        e.loop(0, Loop(program, 1))


def test_a_curve_measured_at_half_the_pulse_disturbs_its_victims(tmp_path: Path) -> None:
    """Nothing is declared on the card, but its hull holds V/2: the record says so and no loop skips it."""
    card = """
name = "two-volts"
source = "made up for this test"
model = "measured"
[noise]
read_sigma_s = 0.0
step_sigma_s = 0.0
"""
    for volts, step in ((1.0, 1e-8), (2.0, 1e-7)):
        points = ", ".join(f"{1e-6 + n * step:.4e}" for n in range(11))
        card += f"""[[curve]]
direction = "potentiate"
amplitude_v = {volts}
width_s = 1e-3
conductance_s = [{points}]
"""
    (tmp_path / "card.toml").write_text(card)
    e = bench(**{"chip.curve": str(tmp_path / "card.toml"), "chip.step_spread": 0.0})
    assert e.identity().details["half_select"] == "modelled"
    assert not e.capabilities.compiled_loops
    counts = np.zeros((4, 4), int)
    counts[1, 2] = 1
    before = e.truth_s()
    e.stage(0, shots(PulseBatch(counts, PULSE), e.capabilities))
    e.fire(0)
    moved = e.truth_s() - before
    victims = np.zeros((4, 4), bool)
    victims[1, :] = victims[:, 2] = True
    victims[1, 2] = False
    assert moved[1, 2] == pytest.approx(1e-7, rel=1e-6)
    np.testing.assert_allclose(moved[victims], 1e-8, rtol=1e-6)
    assert not moved[~victims & (counts == 0)].any()


def test_many_different_pulses_do_not_fill_the_memory() -> None:
    e = bench(**{"chip.model": "al2o3-tio2-nili", "chip.rows": 1, "chip.cols": 1})
    for seq in range(300):
        e.stage(seq, ones(e, 1, Pulse(0.5 + seq * 1e-3, 5e-4)))
    assert len(e._drives) <= 256


def test_currents_while_pulsing_are_those_of_the_law_and_change_nothing() -> None:
    """lsmo-gaq3: I = G V sinh(V/v0) v_read / (V sinh(v_read/v0)) ... as its card declares; the pulses stay the same."""
    counts = np.array([[1, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    plain, measured = (open_bench(load_bench("emulator"), 3) for _ in range(2))
    before_s = measured.truth_s()
    pulse = Pulse(2.0, 1e-3)
    plain.stage(0, PulseBatch(counts, pulse))
    quiet = plain.fire(0)
    measured.stage(0, PulseBatch(counts, pulse, measure=True))
    applied = measured.fire(0)
    expanded = measured.staged
    assert isinstance(expanded, Shots)
    assert applied.currents_a is not None
    assert np.array_equal(plain.truth_s(), measured.truth_s())
    assert applied.energy_j == pytest.approx(quiet.energy_j, rel=1e-9)
    factor = measured.raw.chip.model.write_current_factor(2.0)
    first = before_s[expanded.cells(0)] * 2.0 * factor
    assert applied.currents_a[: len(first)] == pytest.approx(first, rel=1e-12)
    assert np.all((applied.currents_a > 1e-3) & (applied.currents_a < 3e-3))  # 1.85 mA measured (bench rule 11)


def test_a_device_without_a_current_law_is_not_measured_while_pulsing() -> None:
    guard = open_bench(load_bench("emulator", {"chip.model": "gong-rram"}), 0)
    batch = PulseBatch(np.eye(4, dtype=np.int8), guard.span.pulse, measure=True)
    with pytest.raises(CapabilityMissing, match="measurement of the current while pulsing"):
        guard.stage(0, batch)


@pytest.mark.parametrize(("key", "other"), [("scale", 2.0), ("seed", 8)])
def test_a_kept_chip_is_not_recorded_as_another(tmp_path: Path, key: str, other: float) -> None:
    made = {"chip__file": tmp_path / "kept.chip", "chip__seed": 7}
    e = bench(7, **made)
    pulse(e, 0)
    e.close()
    bench(3, chip__file=made["chip__file"]).close()  # what the bench does not say is not compared
    with pytest.raises(ConfigError, match=rf"was made with {key} = \d, the bench asks for {other:g} \(\[chip\] {key}"):
        bench(7, **{**made, f"chip__{key}": other})


@pytest.mark.parametrize("parallelism", ["row", "column", "cell"])
@pytest.mark.parametrize("bias", [Bias.HALF, Bias.THIRD])
def test_a_short_is_a_resistor_wherever_it_stands(parallelism: str, bias: Bias) -> None:
    """All cells shorted (1 mS): V^2 G t of every cell of every shot, without the in-pulse factor of the device."""
    overrides = {"chip.shorted_fraction": 1.0, "bench.parallelism": parallelism, "chip.offsets": "none"}
    guard = open_bench(load_bench("emulator", overrides), 0)
    counts = np.array([[1, 0, 2, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    guard.stage(0, PulseBatch(counts, Pulse(2.0, 1e-3, 1e-4, 2e-4), bias, measure=True))
    expanded = guard.staged
    assert isinstance(expanded, Shots)
    expected = 0.0
    for shot in expanded:
        cells_v = shot.states.row_v[:, None] - shot.states.col_v
        expected += shot.n * float((cells_v**2).sum()) * 1e-3 * (1e-3 + 3e-4 / 3)
    applied = guard.fire(0)
    assert applied.energy_j == pytest.approx(expected, rel=1e-9)
    assert applied.currents_a == pytest.approx(np.full(len(expanded.cross), 2e-3), rel=1e-12)
