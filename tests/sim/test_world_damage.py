"""What hurts a chip behind simulated instruments: too much, too long, hot relays, charged cables; and what is kept."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import pytest
from boards import METER, PULSE_COL, PULSE_ROW, SMU, board, chip_of, route, train
from hypothesis import given, settings
from hypothesis import strategies as st
from neurobench.sim_instruments.world.wiring import lone_cell
from neurobench.sim_instruments.world.world import BOUNCE, BOUNCE_S

from neurobench.errors import ResumeRefused
from neurobench.physics.chip import SHORTED_S, Chip, draw_devices, load_chip
from neurobench.physics.library import build_model, card, load_model, names
from neurobench.physics.stress import Stress, known_pulses, reading_level_v

# ------------------------------------------------------------------ the rules


@pytest.mark.parametrize("device", names())
def test_reading_levels_lie_between_what_reads_and_what_writes(device: str) -> None:
    model = load_model(device)
    level_v = reading_level_v(model)
    least_v = min(known_pulses(model, sign).least_v for sign in (1, -1))
    assert level_v < least_v / 2
    assert level_v >= min(1.5 * model.card.read.voltage_v, 0.45 * least_v)


@pytest.mark.parametrize(
    ("device", "volts", "seconds", "why"),
    [
        ("idealized", 1.0, 1e-6, ""),
        ("idealized", 1.015, 1.015e-6, ""),  # within the card's tolerance
        ("idealized", 1.1, 1e-6, "more than the largest known"),
        ("idealized", 1.0, 1.1e-6, "longer than the longest known"),
        ("idealized", 0.7, 1e-3, "longer than the longest known"),
        ("idealized", 0.5, 10.0, ""),
        ("idealized", 1.0, 1e-7, ""),
        ("idealized", 3.1, 1e-9, "over 3 times"),
        ("al2o3-tio2-nili", 1.45, 1e-2, ""),  # its table goes further than its nominal pulse
        ("al2o3-tio2-nili", 1.6, 5e-4, "more than the largest known"),
        ("lsmo-gaq3", 2.1, 1e-3, "more than the largest known"),
        ("lsmo-gaq3", -2.0, 1e-3, ""),  # never depressed: nobody knows
        ("lsmo-gaq3", -2.0, 1.0, "longer than the longest known"),
    ],
)
def test_beyond_the_hull_a_cell_becomes_a_short(device: str, volts: float, seconds: float, why: str) -> None:
    stress = Stress(chip_of(device, (1, 1)), 1)
    felt = stress.expose(np.array([[volts]]), seconds)
    assert [why in wound.why for wound in felt.wounds] == [True] * bool(why)
    assert bool(stress.chip.devices.shorted[0]) is bool(why)
    if why:
        assert stress.chip.conductance_s()[0, 0] == SHORTED_S
        assert (felt.wounds[0].cell, felt.wounds[0].volts, felt.wounds[0].seconds) == ((0, 0), volts, seconds)
        assert stress.expose(np.array([[volts]]), seconds).wounds == ()  # it dies once


@given(st.floats(0, 6), st.floats(1e-9, 1e3), st.sampled_from([1, -1]), st.sampled_from(["idealized", "reram-sb"]))
@settings(max_examples=60, deadline=None)
def test_every_voltage_for_every_time_has_one_of_four_outcomes(
    volts: float, seconds: float, sign: int, device: str
) -> None:
    stress = Stress(chip_of(device, (1, 1)), 1)
    before = stress.chip.u.copy()
    felt = stress.expose(np.array([[sign * volts]]), seconds)
    quiet = volts <= stress.reading_v
    outcomes = [len(felt.pulsed) > 0, len(felt.wounds) > 0, felt.unknown > 0, quiet]
    assert sum(outcomes) == 1
    assert int(stress.chip.pulses.sum()) == len(felt.pulsed)
    if not felt.pulsed.size:
        np.testing.assert_array_equal(stress.chip.u, before)
    if quiet:
        assert volts <= 0.25


def test_a_pulse_in_a_direction_that_was_never_measured_is_a_pulse_that_moves_nothing() -> None:
    stress = Stress(chip_of("lsmo-gaq3", (1, 1)), 1)
    before = stress.chip.u.copy()
    felt = stress.expose(np.array([[-2.0]]), 1e-3)
    assert (felt.pulsed.tolist(), felt.wounds, felt.unknown) == ([0], (), 1)
    assert stress.chip.pulses.tolist() == [1]
    np.testing.assert_array_equal(stress.chip.u, before)
    assert stress.expose(np.array([[-1.0]]), 1e-3).pulsed.size == 0  # half of it is none


def test_a_wound_leaves_all_other_cells_as_they_are_and_makes_another_chip() -> None:
    stress = Stress(chip_of("idealized"), 1)
    snapshot, before = stress.chip.snapshot(), stress.chip.conductance_s().copy()
    cell_v = np.zeros((4, 4))
    cell_v[1, 2] = 2.0
    assert [w.cell for w in stress.expose(cell_v, 1e-6).wounds] == [(1, 2)]
    after = stress.chip.conductance_s()
    assert after[1, 2] == SHORTED_S
    before[1, 2] = SHORTED_S
    np.testing.assert_array_equal(after, before)
    with pytest.raises(ResumeRefused):
        stress.chip.restore(snapshot)


# ------------------------------------------------------------------ on the bench


def test_a_pulse_too_high_shorts_the_selected_cell_and_spares_its_victims() -> None:
    world = board(chip_of("idealized"))
    route(world, {1: PULSE_ROW}, {2: PULSE_COL})
    train(world, 0.75, -0.75, 1e-6)
    (damage,) = world.damage
    assert (damage.cell, damage.volts, damage.seconds) == ((1, 2), 1.5, 1e-6)
    assert damage.time_s == pytest.approx(1e-5)
    assert int(world.chip.devices.shorted.sum()) == 1


def test_a_shorted_cell_is_seen_by_the_next_compliance() -> None:
    world = lone_cell("idealized")
    terminal = world.terminal("smu.1")
    terminal.drive(2.0, limit_a=1e-3)
    assert not terminal.limited
    world.run_for(1e-6)
    terminal.drive(1.9, limit_a=1e-3)  # the pulse before is felt now: 1.9 V on 1 kohm
    assert terminal.limited
    assert terminal.voltage_v() == pytest.approx(1.0)


def test_a_write_level_left_on_hurts_before_anybody_switches_it_off() -> None:
    world = lone_cell("idealized")
    world.terminal("smu.1").drive(1.0)
    world.run_for(1e-6)
    assert world.damage == ()
    world.run_for(1.0)
    with world.lock:
        pass  # a reply would go out here
    assert len(world.damage) == 1
    assert world.damage[0].seconds == pytest.approx(1.000001)
    assert world.terminal("smu.1").current_a() == pytest.approx(1e-3)


def test_compliance_saves_a_device() -> None:
    """5 V through 1 uA: the cell of 15 uS never sees more than 67 mV."""
    world = lone_cell("idealized")
    world.terminal("smu.1").drive(5.0, limit_a=1e-6)
    world.run_for(1.0)
    world.terminal("smu.1").drive(0.0)
    assert world.damage == ()
    assert world.ledger == ()


def test_relays_that_switch_cold_do_nothing() -> None:
    world = board(chip_of("idealized"))
    for name in ("smu.1", "smu.2", "pulse.1", "pulse.2"):
        world.terminal(name).drive(0.0)
    for row in range(4):
        route(world, {row: SMU}, {row: METER})
        world.run_for(1e-3)
    assert (world.mishaps, world.ledger) == ((), ())


def test_a_relay_that_closes_hot_bounces_on_the_cells_behind_it() -> None:
    world = board(chip_of("idealized"))
    route(world, {}, {})
    assert world.matrix is not None
    world.terminal("smu.1").drive(0.8)
    world.matrix.open(5, 1)
    assert world.mishaps == ()  # a line at 0 V was let go
    world.matrix.close(SMU, 1)
    assert "closed with 0.8 V" in world.mishaps[0].what
    assert (world.ledger[0].peak_v, world.ledger[0].seconds) == (pytest.approx(BOUNCE * 0.8), BOUNCE_S)
    assert {d.cell for d in world.damage} == {(0, j) for j in range(4)}
    assert world.damage[0].volts == pytest.approx(BOUNCE * 0.8)


def test_a_relay_that_opens_hot_bounces_too_and_a_reading_level_does_not() -> None:
    for volts, hurt in ((0.2, False), (0.7, True)):
        world = board(chip_of("idealized"))
        route(world, {}, {2: SMU})
        world.terminal("smu.1").drive(volts)
        world.run_for(1e-7)
        assert world.matrix is not None
        world.matrix.open(SMU, 4 + 2 + 1)
        assert (len(world.mishaps) == 1) is hurt
        assert {d.cell for d in world.damage} == ({(i, 2) for i in range(4)} if hurt else set())
        if hurt:
            assert world.damage[0].volts == pytest.approx(-BOUNCE * volts, rel=1e-3)


def test_a_charged_cable_discharges_through_the_cells_it_meets() -> None:
    world = board(chip_of("idealized"), cable_f=1e-10)
    route(world, {}, {})
    assert world.matrix is not None
    source = world.terminal("smu.1")
    source.drive(1.0)
    world.run_for(1e-3)
    source.release()
    assert source.voltage_v() == pytest.approx(1.0)
    world.run_for(2.0)
    assert source.voltage_v() == pytest.approx(np.exp(-0.2), rel=1e-9)
    world.matrix.open(5, 1)
    world.matrix.close(SMU, 1)
    bounce, flow = world.ledger
    assert bounce.peak_v == pytest.approx(BOUNCE * np.exp(-0.2), rel=1e-4)
    assert flow.peak_v == pytest.approx(np.exp(-0.2), rel=1e-4)
    shorts_s = 4 * SHORTED_S  # the bounce of 1.23 V has made shorts of them
    assert flow.seconds == pytest.approx(1e-10 / shorts_s, rel=1e-4)
    assert source.voltage_v() == 0.0


def test_a_grounded_or_forgotten_cable_is_empty() -> None:
    for how in ("driven", "grounded", "forgotten"):
        world = board(chip_of("idealized"))
        route(world, {}, {})
        assert world.matrix is not None
        source = world.terminal("smu.1")
        source.drive(1.0)
        world.run_for(1e-3)
        source.release()
        if how == "driven":
            source.drive(0.0)
            world.run_for(1e-3)
            source.release()
        elif how == "grounded":
            world.matrix.close(SMU, 9)
            world.matrix.close(5, 9)
            world.run_for(1e-3)
            world.matrix.open(SMU, 9)
        else:
            world.run_for(100.0)
        world.matrix.open(5, 1)
        world.matrix.close(SMU, 1)
        world.run_for(1e-3)
        assert world.ledger == (), how
        assert world.damage == (), how


def test_a_source_released_on_the_chip_empties_its_cable_there() -> None:
    world = lone_cell("lsmo-gaq3")
    g = float(world.chip.conductance_s()[0, 0])
    factor = world.chip.model.write_current_factor(1.0)
    assert factor is not None
    world.terminal("smu.1").drive(1.0)
    world.run_for(1e-6)
    world.terminal("smu.1").release()
    world.run_for(1.0)
    assert [e.seconds for e in world.ledger] == [1e-6, pytest.approx(1e-10 / (g * factor), rel=1e-9)]
    assert world.damage == ()


def test_floating_neighbours_put_volts_on_the_wrong_cells() -> None:
    """A write with all other lines floating: what the nodal solution puts on them, they feel."""
    world = board(chip_of("al2o3-tio2-nili"))
    route(world, {0: PULSE_ROW}, {0: PULSE_COL}, rest=None)
    train(world, 0.65, -0.65, 5e-4)
    assert world.pulses[0, 0] == 1
    assert int(world.chip.disturbs.sum()) == 15
    assert world.damage == ()


# ------------------------------------------------------------------ what is kept


def test_the_chip_is_in_its_file_before_the_lock_is_given_back(tmp_path: Path) -> None:
    file = tmp_path / "a.chip"
    world = board(chip_of("idealized"), file=file)
    with world.lock:
        route(world, {1: PULSE_ROW}, {2: PULSE_COL})
        train(world, 0.5, -0.5, 1e-6, 3)
        assert not file.exists()
    kept = load_chip(file, world.chip.model)
    assert kept.u.tobytes() == world.chip.u.tobytes()
    assert int(kept.pulses.sum()) == 3
    assert kept.counters.clock_s == pytest.approx(world.now_s(), rel=1e-12)
    seen = file.stat().st_mtime_ns
    with world.lock:
        world.run_for(5.0)
        world.terminal("smu.1").drive(0.1)
        world.run_for(5.0)
    assert file.stat().st_mtime_ns == seen  # reads are not worth a disk write
    world.close()
    assert load_chip(file, world.chip.model).counters.clock_s == pytest.approx(world.now_s(), rel=1e-12)


@pytest.mark.parametrize("device", ["threshold-exponential", "idealized"])
def test_a_level_that_still_stands_when_the_bench_closes_was_felt(tmp_path: Path, device: str) -> None:
    left = []
    for driven in (True, False):  # left standing, or taken away before
        file = tmp_path / f"{device} {driven}"
        world = board(chip_of(device), file=file)
        with world.lock:
            route(world, {1: PULSE_ROW}, {2: PULSE_COL})
            world.terminal("pulse.1").drive(0.5 if device == "idealized" else 0.6)
            world.terminal("pulse.2").drive(-0.5 if device == "idealized" else -0.6)
            world.run_for(1e-6)
            if not driven:
                world.terminal("pulse.1").drive(0.0)
                world.terminal("pulse.2").drive(0.0)
        world.close()
        kept = load_chip(file, world.chip.model)
        assert int(kept.pulses.sum()) == 1
        left.append(kept.u)
    assert left[0].max() > 0
    np.testing.assert_array_equal(left[0], left[1])


def test_a_damaged_chip_comes_out_of_its_drawer_damaged(tmp_path: Path) -> None:
    file = tmp_path / "b.chip"
    world = board(chip_of("idealized"), file=file)
    with world.lock:
        route(world, {1: PULSE_ROW}, {2: PULSE_COL})
        train(world, 2.0, 0.0, 1e-6)
    kept = load_chip(file, world.chip.model)
    assert kept.devices.shorted.reshape(4, 4)[1].all()
    np.testing.assert_array_equal(kept.conductance_s(), world.chip.conductance_s())
    again = board(kept, file=file)
    assert again.now_s() == 0.0
    again.run_for(1.0)
    assert again.chip.counters.clock_s == pytest.approx(world.now_s() + 1.0)


def test_a_device_of_unstated_pulses_has_no_limits() -> None:
    """A curve file says nothing about its pulse: any will do, as on the emulator."""
    found = card("lsmo-gaq3")
    bare = found.curve[0].model_copy(update={"amplitude_v": None, "width_s": None})
    model = build_model(found.model_copy(update={"curve": (bare,)}))
    assert known_pulses(model, 1) == (1.0, inf, inf)
    stress = Stress(Chip(model, draw_devices(model, (1, 1), 1), 1), 1)
    assert len(stress.expose(np.array([[40.0]]), 100.0).pulsed) == 1
