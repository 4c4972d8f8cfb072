"""The world behind simulated instruments: nets, sources and their limits, time, and the same pulses as the emulator."""

from __future__ import annotations

import threading
import time
from math import inf
from typing import Any

import numpy as np
import pytest
from boards import GROUND, METER, PULSE_COL, PULSE_ROW, SMU, board, chip_of, play, read_a, route, train
from neurobench.drivers.emulator import Emulator
from neurobench.sim_instruments.world.clock import SimClock
from neurobench.sim_instruments.world.wiring import lone_cell

from neurobench.bench.crossbar import Capabilities
from neurobench.bench.stimulus import Bias, Pulse, PulseBatch, Shots, shots
from neurobench.physics.chip import Spread
from neurobench.physics.noise import Stream, key

NOMINAL = Pulse(1.0, 1e-6)


# ------------------------------------------------------------------ the same chip, the same pulses, the same bits


def batch(shape: tuple[int, int], pulse: Pulse, sign: int) -> PulseBatch:
    counts = np.random.default_rng(3).integers(0 if sign else -3, 4, shape)
    return PulseBatch(np.abs(counts) * sign if sign else counts, pulse, Bias.HALF)


@pytest.mark.parametrize(
    ("device", "how", "pulse", "sign"),
    [
        ("idealized", {}, NOMINAL, 0),
        ("reram-sb", {}, NOMINAL, 0),
        ("lsmo-gaq3", {"replay": "literal"}, Pulse(2.0, 1e-3), 1),
        ("lsmo-gaq3", {"replay": "latent"}, Pulse(2.0, 1e-3), 1),
        ("lsmo-gaq3", {"assume_mirror": True}, Pulse(2.0, 1e-3), 0),
        ("al2o3-tio2-nili", {}, Pulse(1.3, 5e-4), 0),  # its victims feel V/2
        ("al2o3-tio2-nili", {}, Pulse(1.2345678, 1.234e-4), 0),
        ("pcmo", {}, None, 0),  # negative volts potentiate
    ],
)
def test_a_half_biased_train_leaves_the_states_of_the_emulator(device: str, how: Any, pulse: Any, sign: int) -> None:
    one, other = (chip_of(device, (4, 3), spread=Spread(shorted=0.1), **how) for _ in range(2))
    if pulse is None:
        stated = one.model.card.pulse[0]
        assert {(p.amplitude_v is None) for p in one.model.card.pulse} == {False}
        pulse, sign = Pulse(abs(stated.amplitude_v or 0), stated.width_s or 0), stated.sign
    has = Capabilities((4, 3), biases=frozenset({Bias.HALF}), potentiating_sign=one.model.card.potentiating_sign)
    made = shots(batch((4, 3), pulse, sign), has)
    assert isinstance(made, Shots)
    emulator = Emulator(one, has)
    emulator.stage(0, made)
    emulator.fire(0)
    world = board(other)
    play(world, made)
    assert one.pulses.sum() > 10
    np.testing.assert_array_equal(world.chip.pulses, one.pulses)
    np.testing.assert_array_equal(world.chip.disturbs, one.disturbs)
    assert world.chip.u.tobytes() == one.u.tobytes()
    assert world.damage == ()
    assert world.mishaps == ()


def test_victims_of_a_device_with_declared_disturb_move_as_on_the_emulator() -> None:
    chips = [chip_of("al2o3-tio2-nili") for _ in range(2)]
    has = Capabilities((4, 4), biases=frozenset({Bias.HALF}))
    made = shots(PulseBatch(np.eye(4, dtype=int) * 5, Pulse(1.3, 5e-4), Bias.HALF), has)
    assert isinstance(made, Shots)
    emulator = Emulator(chips[0], has)
    emulator.stage(0, made)
    emulator.fire(0)
    world = board(chips[1])
    play(world, made)
    off = ~np.eye(4, dtype=bool).ravel()
    assert (world.chip.disturbs[off] > 0).all()
    assert (world.chip.u != chip_of("al2o3-tio2-nili").u).sum() > 4
    assert world.chip.u.tobytes() == emulator.chip.u.tobytes()


def test_energy_of_a_train_is_the_emulators() -> None:
    """Metered shot by shot by both: the world's pulses are rectangles, the sums run in another order."""
    chips = [chip_of("al2o3-tio2-nili") for _ in range(2)]
    has = Capabilities((4, 4), biases=frozenset({Bias.HALF}))
    made = shots(PulseBatch(np.full((4, 4), 2), Pulse(1.3, 5e-4), Bias.HALF), has)
    emulator = Emulator(chips[0], has)
    emulator.stage(0, made)
    energy_j = emulator.fire(0).energy_j
    world = board(chips[1])
    assert isinstance(made, Shots)
    play(world, made)
    assert energy_j > 1e-9
    assert world.energy_j == pytest.approx(energy_j, rel=1e-12)
    assert len(world.ledger) == 8
    assert sum(len(exposure.pulsed) for exposure in world.ledger) == 32 == world.pulses_fired()


# ------------------------------------------------------------------ reads


@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (3, 7), (32, 32)])
def test_one_cell_among_floating_lines_reads_mn_over_m_plus_n_minus_1(rows: int, cols: int) -> None:
    chip = chip_of("idealized", (rows, cols))
    world = board(chip)
    route(world, {rows - 1: SMU}, {1: METER}, rest=None)
    world.terminal("smu.2").drive(0.0)
    world.terminal("smu.1").drive(0.1)
    g = float(chip.conductance_s()[0, 0])
    assert np.ptp(chip.conductance_s()) == 0
    factor = rows * cols / (rows + cols - 1)
    assert -world.terminal("smu.2").current_a() / 0.1 == pytest.approx(factor * g, rel=1e-9)
    assert world.terminal("smu.1").current_a() / 0.1 == pytest.approx(factor * g, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_any_wiring_obeys_kirchhoff(seed: int) -> None:
    """Relays closed at random, four sources with resistances and limits: currents add up to nothing on every net, and
    every source either holds its voltage or is at its limit, on the side where it should be."""
    rng = np.random.default_rng(seed)
    world = board(
        chip_of("al2o3-tio2-nili" if seed % 2 else "idealized", (5, 4), spread=Spread(shorted=0.1), seed=seed)
    )
    assert world.matrix is not None
    for column in range(1, 10):
        for row in rng.choice(np.arange(1, 7), rng.integers(1, 3), replace=False).tolist():
            world.matrix.close(row, column)
    names = ("smu.1", "smu.2", "pulse.1", "pulse.2")
    for name in names:
        limit_a = float(rng.choice([1e-6, 2e-5, 1.0]))
        world.terminal(name).drive(float(rng.uniform(-0.4, 0.4)), float(rng.choice([50.0, 2e3])), limit_a)
    terminals = [world.terminal(name) for name in (*names, "ground")]
    line_v = np.array([world.voltage_v(world.line(k >= 5, k - 5 * (k >= 5))) for k in range(9)])
    cell_v = line_v[:5, None] - line_v[None, 5:]
    factor = world.chip.model.write_current_factor
    law = np.vectorize(lambda v: 1.0 if factor(abs(v)) is None else factor(abs(v)))(cell_v)
    law[world.chip.devices.shorted.reshape(5, 4)] = 1.0
    cell_a = world.chip.conductance_s() * cell_v * law
    line_a = np.concatenate([cell_a.sum(axis=1), -cell_a.sum(axis=0)])
    total_a = sum(t.current_a() for t in terminals)
    assert total_a == pytest.approx(0, abs=1e-11)
    assert sum(t.current_a() * t.voltage_v() for t in terminals) == pytest.approx(float(line_a @ line_v), abs=1e-12)
    for terminal in terminals[:4]:
        source = terminal.source
        assert source is not None
        drop_v = source.volts - terminal.voltage_v()
        if terminal.limited:
            assert abs(terminal.current_a()) == source.limit_a
            assert drop_v * terminal.current_a() > 0
            assert abs(drop_v) >= source.limit_a * source.ohm * (1 - 1e-6)
        else:
            assert terminal.current_a() == pytest.approx(drop_v / source.ohm, rel=1e-9, abs=1e-15)
            assert abs(terminal.current_a()) <= source.limit_a * (1 + 1e-6)


def test_grounded_neighbours_leave_a_read_alone_and_the_meter_sees_one_cell() -> None:
    chip = chip_of("lsmo-gaq3", (4, 4), spread=Spread(offsets="seed-lognormal"))
    world = board(chip)
    g = chip.conductance_s().copy()
    found = [[read_a(world, i, j, 0.05) / 0.05 for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(found, g, rtol=1e-12)
    assert np.ptp(g) > 5e-8


def test_two_bit_lines_on_one_meter_add_up() -> None:
    world = board(chip_of("idealized", spread=Spread(range=0.3)))
    route(world, {2: SMU}, {0: METER, 3: METER})
    world.terminal("smu.2").drive(0.0)
    world.terminal("smu.1").drive(-0.1)
    g = world.chip.conductance_s()[2]
    assert world.terminal("smu.2").current_a() == pytest.approx(0.1 * (g[0] + g[3]), rel=1e-12)
    assert world.terminal("ground").current_a() == pytest.approx(0.1 * (g[1] + g[2]), rel=1e-12)


def test_the_meter_on_the_wrong_line_reads_another_cell() -> None:
    world = board(chip_of("idealized", spread=Spread(range=0.3)))
    g = world.chip.conductance_s()
    assert read_a(world, 1, 2, 0.1) / 0.1 == pytest.approx(g[1, 2], rel=1e-12)
    route(world, {2: SMU}, {1: METER})
    world.terminal("smu.1").drive(0.1)
    assert -world.terminal("smu.2").current_a() / 0.1 == pytest.approx(g[2, 1], rel=1e-12)
    assert abs(g[2, 1] - g[1, 2]) > 1e-7


def test_the_current_follows_the_devices_law_except_in_a_short() -> None:
    world = lone_cell("lsmo-gaq3")
    world.terminal("smu.1").drive(2.0)
    factor = world.chip.model.write_current_factor(2.0)
    assert factor is not None
    assert factor > 1000
    g = float(world.chip.conductance_s()[0, 0])
    assert world.terminal("smu.1").current_a() == pytest.approx(2 * g * factor, rel=1e-12)
    world.terminal("smu.1").drive(0.0)
    world.chip.destroy(np.array([0]))
    world.terminal("smu.1").drive(2.0)
    assert world.terminal("smu.1").current_a() == pytest.approx(2e-3, rel=1e-12)


def test_a_series_resistance_and_the_law_share_the_voltage() -> None:
    world = lone_cell("lsmo-gaq3")
    terminal = world.terminal("smu.1")
    terminal.drive(2.0, ohm=1000.0)
    volts, current_a = terminal.voltage_v(), terminal.current_a()
    assert current_a == pytest.approx((2.0 - volts) / 1000, rel=1e-9)
    factor = world.chip.model.write_current_factor(volts)
    assert factor is not None
    assert current_a == pytest.approx(volts * factor * float(world.chip.conductance_s()[0, 0]), rel=1e-6)
    assert 0.5 < volts < 1.99


def test_read_noise_is_the_models_and_is_averaged_away() -> None:
    def spread_of(averages: int, n: int = 4000) -> float:
        world = board(chip_of("lsmo-gaq3"), noise=True)
        read_a(world, 0, 0, 0.05)
        world.terminal("smu.1").drive(0.05)
        return float(np.std([world.terminal("smu.2").measure_a(1e-3, averages) for _ in range(n)]))

    sigma_a = 0.05 * 3.436e-9
    assert spread_of(1) == pytest.approx(sigma_a, rel=0.05)
    assert spread_of(16) == pytest.approx(sigma_a / 4, rel=0.05)


def test_a_draw_of_read_noise_is_keyed_by_chip_and_read_not_by_pulses() -> None:
    """Two equal benches, one of which pulses between its reads: the noise of the reads is the same."""
    found = []
    for pulses in (0, 3):
        world = board(chip_of("lsmo-gaq3", seed=5), noise=True)
        if pulses:
            route(world, {1: PULSE_ROW}, {1: PULSE_COL})
            train(world, 1.0, -1.0, 1e-3, pulses)
        found.append([read_a(world, 0, 0, 0.05) for _ in range(5)])
    assert found[0] == found[1]
    assert len(set(found[0])) == 5
    assert key(5, Stream.READ) != key(6, Stream.READ)


# ------------------------------------------------------------------ sources


def test_compliance_turns_a_source_into_a_current_source() -> None:
    world = lone_cell("idealized")
    terminal, g = world.terminal("smu.1"), float(world.chip.conductance_s()[0, 0])
    terminal.drive(0.2, limit_a=1e-6)
    assert terminal.limited
    assert terminal.current_a() == 1e-6
    assert terminal.voltage_v() == pytest.approx(1e-6 / g, rel=1e-9)
    terminal.drive(-0.2, limit_a=1e-6)
    assert (terminal.limited, terminal.current_a()) == (True, -1e-6)
    terminal.drive(0.2, limit_a=1e-3)
    assert not terminal.limited
    assert terminal.current_a() == pytest.approx(0.2 * g, rel=1e-12)


def test_the_source_with_the_smaller_limit_limits() -> None:
    """Two SMUs across one cell: the other one goes on holding its voltage."""
    world = board(chip_of("idealized", (1, 1)))
    route(world, {0: SMU}, {0: METER})
    high, low = world.terminal("smu.1"), world.terminal("smu.2")
    for high_limit_a, low_limit_a in ((1e-3, 1e-6), (1e-6, 1e-3), (1e-6, 1e-6)):
        high.drive(0.15, limit_a=high_limit_a)
        low.drive(-0.05, limit_a=low_limit_a)
        assert high.current_a() == pytest.approx(1e-6, rel=1e-9)
        assert low.current_a() == pytest.approx(-1e-6, rel=1e-9)
        assert high.limited + low.limited == 1
        assert high.limited or high_limit_a >= low_limit_a
        assert low.limited or high_limit_a <= low_limit_a


def test_a_limited_source_shares_a_line_with_its_neighbours() -> None:
    """4 cells on a word line at 0.2 V want 12 uA; 6 uA are allowed: half of the volt is left."""
    world = board(chip_of("idealized"))
    route(world, {0: SMU}, {})
    world.terminal("smu.1").drive(0.2, limit_a=6e-6)
    assert world.terminal("smu.1").voltage_v() == pytest.approx(0.1, rel=1e-9)
    assert world.terminal("ground").current_a() == pytest.approx(-6e-6, rel=1e-9)


def test_sources_of_different_volts_on_one_net_fight_and_the_weaker_gives_way() -> None:
    world = board(chip_of("idealized"))
    route(world, {0: SMU, 1: SMU}, {})
    assert world.matrix is not None
    world.matrix.close(PULSE_ROW, 1)  # word line 1 is on SMU and generator now
    world.terminal("pulse.1").drive(0.0)
    world.terminal("smu.1").drive(0.2, limit_a=1e-3)
    assert world.terminal("smu.1").limited
    assert world.terminal("smu.1").current_a() == pytest.approx(1e-3)
    assert abs(world.terminal("smu.1").voltage_v()) < 1e-5
    assert not world.terminal("pulse.1").limited
    world.run_for(1e-3)
    world.terminal("smu.1").drive(0.2, limit_a=inf)
    assert world.terminal("smu.1").limited
    assert world.terminal("pulse.1").limited
    assert abs(world.terminal("pulse.1").current_a()) > 50
    assert "smu.1" in world.mishaps[-1].what


def test_two_grounds_on_one_line_are_no_fight() -> None:
    world = board(chip_of("idealized"))
    route(world, {0: SMU}, {0: METER})
    assert world.matrix is not None
    world.matrix.close(GROUND, 5)
    world.terminal("smu.2").drive(0.0)
    world.terminal("smu.1").drive(0.1)
    assert not world.terminal("smu.2").limited
    assert world.mishaps == ()
    both = world.terminal("smu.2").current_a() + world.terminal("ground").current_a()
    assert both == pytest.approx(-world.terminal("smu.1").current_a(), rel=1e-12)


def test_a_terminal_that_is_wired_to_nothing_carries_nothing() -> None:
    world = board(chip_of("idealized"))
    loose = world.terminal("smu.3")
    loose.drive(5.0, limit_a=1e-9)
    world.run_for(1.0)
    assert (loose.current_a(), loose.voltage_v(), loose.limited) == (0.0, 5.0, False)
    loose.release()
    assert (loose.connected, loose.volts, loose.current_a()) == (False, 0.0, 0.0)
    assert world.pulses_fired() == 0


def test_relays_refuse_what_they_do_not_have_and_close_twice_without_harm() -> None:
    world = board(chip_of("idealized"))
    relays = world.relays(8, 9)
    relays.close(1, 9)
    relays.close(1, 9)
    assert relays.closed == {(1, 9)}
    relays.open(2, 9)
    relays.open(1, 9)
    assert relays.closed == frozenset()
    for place in ((0, 1), (9, 1), (1, 10)):
        with pytest.raises(IndexError):
            relays.close(*place)
    with pytest.raises(ValueError, match="8, 9"):
        world.relays(8, 12)


# ------------------------------------------------------------------ pulses and time


def test_a_pulse_is_one_pulse_however_often_it_is_looked_at() -> None:
    worlds = [lone_cell("idealized") for _ in range(2)]
    for world, looks in zip(worlds, (1, 7), strict=True):
        world.terminal("smu.1").drive(1.0)
        for k in range(looks):
            world.run_until((k + 1) * 1_000_000 // looks)
            world.terminal("smu.1").measure_a(1e-7)
            world.terminal("smu.1").drive(1.0)  # the same volts again are no change
            with world.lock:
                pass
        world.terminal("smu.1").drive(0.0)
    assert [w.pulses_fired() for w in worlds] == [1, 1]
    assert worlds[0].chip.u.tobytes() == worlds[1].chip.u.tobytes()
    assert worlds[0].ledger[0].seconds == 1e-6


def test_the_current_in_a_pulse_is_that_of_the_state_before_it() -> None:
    world = lone_cell("idealized")
    g = float(world.chip.conductance_s()[0, 0])
    world.terminal("smu.1").drive(1.0)
    world.run_for(5e-7)
    assert world.terminal("smu.1").current_a() == pytest.approx(g, rel=1e-12)
    world.run_for(5e-7)
    world.terminal("smu.1").drive(0.1)
    assert world.terminal("smu.1").current_a() != pytest.approx(0.1 * g, rel=1e-6)


def test_reads_and_two_changes_at_one_instant_are_no_pulses() -> None:
    world = board(chip_of("idealized"))
    route(world, {0: PULSE_ROW}, {0: PULSE_COL})
    world.terminal("pulse.1").drive(0.5)
    world.terminal("pulse.2").drive(-0.5)
    world.terminal("pulse.1").drive(0.0)
    world.terminal("pulse.2").drive(0.0)
    world.run_for(1.0)
    for _ in range(10):
        read_a(world, 0, 0, 0.2)
    assert world.pulses_fired() == 0
    assert world.ledger == ()
    assert world.unknown_stress == 0


def test_a_short_or_weak_pulse_does_nothing_and_is_counted() -> None:
    world = lone_cell("idealized")
    before = world.chip.u.copy()
    for volts, width_s in ((1.0, 1e-8), (0.6, 1e-6), (0.6, 1e-3)):
        world.terminal("smu.1").drive(volts)
        world.run_for(width_s)
        world.terminal("smu.1").drive(0.0)
        world.run_for(1e-6)
    np.testing.assert_array_equal(world.chip.u, before)
    assert (world.unknown_stress, world.damage, world.pulses_fired()) == (3, (), 0)


def test_events_happen_in_their_order_at_their_own_time() -> None:
    world, seen = lone_cell(), []
    world.at(2e-6, lambda: seen.append(("late", world.now_ps)))
    world.at(1e-6, lambda: seen.append(("first", world.now_ps)))
    world.at(1_000_000, lambda: seen.append(("second", world.now_ps)))
    gone = world.at(1e-6, lambda: seen.append(("never", world.now_ps)))
    world.cancel(gone)
    world.at(1.5e-6, lambda: world.run_for(1e-6))  # something that waits inside an event
    world.run_for(1e-5)
    assert seen == [("first", 10**6), ("second", 10**6), ("late", 2 * 10**6)]
    assert world.now_ps == 10**7
    assert world.next_due_s() == inf


def test_the_chips_clock_follows_and_memories_fade() -> None:
    clock = SimClock(lone_cell())
    clock.sleep(3.25)
    assert clock.now_s() == 3.25
    chip = chip_of("idealized", (1, 1))
    world = board(chip)
    chip.counters.clock_s = 0.0
    world.run_for(12.5)
    assert world.chip.counters.clock_s == pytest.approx(12.5, rel=1e-12)


def test_wall_time_passes_by_itself_and_lets_others_in_while_it_waits() -> None:
    world, seen = lone_cell("idealized", wall=True), []
    terminal = world.terminal("smu.1")

    def elsewhere() -> None:
        with world.lock:
            seen.append(world.now_s())

    with world.lock:
        world.at(0.02, lambda: terminal.drive(1.0))
        world.at(0.020001, lambda: terminal.drive(0.0))
        start_ps = world.now_ps
        other = threading.Thread(target=elsewhere)
        other.start()
        world.run_for(0.06)
        assert world.now_ps == start_ps + 6 * 10**10
    other.join(5)
    assert seen
    assert seen[0] < 0.06
    assert world.pulses_fired() == 1
    assert world.ledger[0].seconds == 1e-6  # late in real time, exact in its own
    before_s = world.now_s()
    time.sleep(0.01)
    with world.lock:
        assert world.now_s() >= before_s + 0.009
