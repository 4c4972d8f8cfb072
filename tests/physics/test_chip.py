"""An emulated chip: drawn from a seed, pulsed, kept, restored; energies and defects."""

from __future__ import annotations

import json
from math import sinh
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from scipy import stats

from neurobench.bench.crossbar import Capabilities
from neurobench.bench.stimulus import Bias, Pulse, PulseBatch, Shots, levels, shots
from neurobench.errors import ConfigError, OutsideHull, ResumeRefused, RunFileError
from neurobench.physics.card import parse_card
from neurobench.physics.chip import SHORTED_S, Chip, Spread, draw_devices, load_chip, seed_offsets
from neurobench.physics.drive import make_drive
from neurobench.physics.library import build_model, card, load_model
from neurobench.physics.response import DeviceModel

PULSE = Pulse(1.0, 1e-6)


def device(**more: Any) -> DeviceModel:
    """A soft-bounds device that moves both ways; keys of the card may be added or replaced."""
    data = {
        "name": "test-device",
        "source": "made up for the tests of the chip",
        "model": "soft_bounds",
        "window": {"g_min_s": 1e-6, "g_max_s": 5e-6, "g_start_s": 2e-6},
        "parameters": {"rate_up": 0.1, "rate_down": 0.05},
        "pulse": [
            {"direction": "potentiate", "amplitude_v": 1.0, "width_s": 1e-6},
            {"direction": "depress", "amplitude_v": 1.0, "width_s": 1e-6},
        ],
    }
    return build_model(parse_card(data | more, "test"))


NOISY = {"noise": {"step_sigma_s": 5e-8}}


def chip(model: DeviceModel | None = None, shape: tuple[int, int] = (4, 5), seed: int = 1, **spread: Any) -> Chip:
    model = model or device()
    return Chip(model, draw_devices(model, shape, seed, Spread(**spread)), seed)


def some_shots(shape: tuple[int, int], seed: int = 0, bias: Bias = Bias.HALF, parallelism: Any = "row") -> Shots:
    counts = np.random.default_rng(seed).integers(-2, 4, shape)
    made = shots(PulseBatch(counts, PULSE, bias), Capabilities(shape, parallelism=parallelism, biases=frozenset(Bias)))
    assert isinstance(made, Shots)
    return made


def fire(c: Chip, s: Shots) -> float:
    return c.fire(s, make_drive(c.model, s.pulse, s.bias, s.potentiating_sign, s.axis, s.signs())).energy_j


def one_pulse(c: Chip, sign: int = 1) -> None:
    counts = np.full(c.shape, sign)
    s = shots(PulseBatch(counts, PULSE), Capabilities(c.shape))
    assert isinstance(s, Shots)
    fire(c, s)


# -- made from a seed ------------------------------------------------------------------------------------------------


def test_published_offsets_are_reproduced(shared_data: Path) -> None:
    """Every public draw of the published class, to 1e-12."""
    vectors = json.loads((shared_data.parent / "reference" / "seed-crossbar-vectors-public.json").read_text())
    runs = [*_runs(vectors["runs"]), *_runs(vectors["extra_converged_runs"])]
    assert len(runs) >= 26
    for seed, shifts in runs:
        np.testing.assert_allclose(seed_offsets(seed, (4, 4)), shifts, rtol=1e-12, atol=0)


def _runs(found: Any) -> list[tuple[int, Any]]:
    entries = found.items() if isinstance(found, dict) else ((r["seed"], r) for r in found)
    return [(int(seed), r["shifts"]) for seed, r in entries]


def test_the_seed_preset_is_scale_times_curve_plus_offset() -> None:
    model = load_model("lsmo-gaq3", replay="literal")
    c = chip(model, (4, 4), 190, scale=10.0, remove_baseline=True, offsets="seed-lognormal")
    assert model.levels_s is not None
    curve = model.levels_s - model.levels_s[0]
    shift = seed_offsets(190, (4, 4))
    np.testing.assert_allclose(c.conductance_s(), 10 * shift, rtol=1e-12)
    c.u[:] = 7
    c._fresh = False
    np.testing.assert_allclose(c.conductance_s(), 10 * (curve[7] + shift), rtol=1e-12)


def test_same_seed_same_chip_other_seed_other_chip() -> None:
    a, b, other = (chip(seed=s, range=0.1, offsets="normal", offset_sigma_s=1e-8) for s in (1, 1, 2))
    assert a.devices.digest() == b.devices.digest() != other.devices.digest()
    for c in (a, b, other):
        one_pulse(c)
    assert a.conductance_s().tobytes() == b.conductance_s().tobytes()
    assert not np.isin(a.conductance_s(), other.conductance_s()).any()


def test_spreads_have_the_declared_statistics() -> None:
    model = device()
    d = draw_devices(model, (200, 200), 3, Spread(step=0.3, range=0.1, offsets="lognormal", offset_sigma_s=1e-8))
    assert stats.kstest(np.log(d.step) / 0.3, "norm").pvalue > 1e-3
    assert stats.kstest(np.log(d.gain_s / 4e-6) / 0.1, "norm").pvalue > 1e-3
    assert (d.base_s - 1e-6).std() == pytest.approx(1e-8, rel=0.03)
    assert abs(np.corrcoef(np.log(d.step), np.log(d.gain_s))[0, 1]) < 4.5 / 200
    flat = draw_devices(model, (200, 200), 3, Spread(offsets="normal", offset_sigma_s=1e-8))
    assert stats.kstest((flat.base_s - 1e-6) / 1e-8, "norm").pvalue > 1e-3


def test_the_models_own_step_spread_is_the_default() -> None:
    model = device(spread={"step_lognormal": 0.5})
    assert np.log(draw_devices(model, (100, 100), 1).step).std() == pytest.approx(0.5, rel=0.03)
    assert (draw_devices(model, (10, 10), 1, Spread(step=0.0)).step == 1).all()


def test_explicit_offsets_and_their_errors() -> None:
    offset = np.arange(20.0).reshape(4, 5) * 1e-8
    c = chip(offset_s=offset, scale=2.0)
    np.testing.assert_allclose(c.conductance_s(), 2 * (2e-6 + offset), rtol=1e-12)
    with pytest.raises(ConfigError, match=r"shape \(5, 4\)"):
        chip(offset_s=offset.T)
    with pytest.raises(ConfigError, match="not negative"):
        chip(offset_s=offset - 1e-5)


def test_stuck_cells_do_not_move_and_shorts_conduct() -> None:
    c = chip(device(**NOISY), (40, 40), stuck=0.2, shorted=0.1)
    stuck, shorted = c.devices.stuck.reshape(c.shape), c.devices.shorted.reshape(c.shape)
    assert 0.15 < stuck.mean() < 0.25
    assert 0.07 < shorted.mean() < 0.13
    before = c.conductance_s().copy()
    for _ in range(5):
        one_pulse(c)
    moved = c.conductance_s() != before
    assert not moved[stuck | shorted].any()
    assert moved[~(stuck | shorted)].all()
    assert (c.conductance_s()[shorted] == SHORTED_S).all()
    only = stuck & ~shorted
    assert np.ptp(before[only]) > 3e-6, "stuck cells stand anywhere in the window"


# -- pulses ----------------------------------------------------------------------------------------------------------


def test_pulses_follow_the_closed_form() -> None:
    """Soft bounds without noise or spread: u_n = 1 - (1 - u_0)(1 - rate)^n."""
    c = chip(step=0.0)
    for _ in range(9):
        one_pulse(c)
    expected = 1e-6 + 4e-6 * (1 - 0.75 * 0.9**9)
    np.testing.assert_allclose(c.conductance_s(), expected, rtol=1e-12)
    one_pulse(c, -1)
    np.testing.assert_allclose(c.conductance_s(), 1e-6 + (expected - 1e-6) * 0.95, rtol=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 5e-8])
def test_row_column_and_cell_wise_firing_give_the_same_chip(sigma: float) -> None:
    """Without disturb the order cannot matter; with noise neither, since a cell's noise is keyed by its own count."""
    states = []
    for parallelism in ("row", "column", "cell"):
        c = chip(device(noise={"step_sigma_s": sigma}), (7, 11))
        for n in range(3):
            fire(c, some_shots((7, 11), n, parallelism=parallelism))
        states.append(c.conductance_s().tobytes())
    assert states[0] == states[1] == states[2]


def test_reads_and_previews_cannot_shift_pulse_noise() -> None:
    rested, read = chip(device(**NOISY)), chip(device(**NOISY))
    for n in range(4):
        fire(rested, some_shots((4, 5), n))
        for _ in range(n):
            read.next_read()
            read.conductance_s()
            read.row_conductance_s()
        fire(read, some_shots((4, 5), n))
    assert rested.u.tobytes() == read.u.tobytes()


def test_step_noise_has_the_cards_sigma() -> None:
    c = chip(device(**NOISY), (200, 200), step=0.0)
    before = c.conductance_s().copy()
    one_pulse(c)
    change = (c.conductance_s() - before).ravel()
    assert change.mean() == pytest.approx(0.1 * 3e-6, abs=4 * 5e-8 / 200)
    assert stats.kstest((change - 0.1 * 3e-6) / 5e-8, "norm").pvalue > 1e-3


def test_a_curve_that_may_not_be_held_is_refused_before_the_first_pulse() -> None:
    model = build_model(card("lsmo-gaq3").model_copy(update={"end": "refuse"}), "literal")
    c = chip(model, (2, 2))
    c.u[:] = [0, 10, 48, 49]
    pulse = Pulse(2.0, 1e-3)
    for counts, fits in (([[50, 40], [2, 1]], True), ([[0, 0], [0, 2]], False), ([[51, 0], [0, 0]], False)):
        s = shots(PulseBatch(np.array(counts), pulse), Capabilities((2, 2)))
        assert isinstance(s, Shots)
        if fits:
            c.room_left(s)
        else:
            with pytest.raises(OutsideHull, match="end of the curve"):
                c.room_left(s)


def test_a_curve_that_is_held_keeps_its_last_value() -> None:
    model = load_model("lsmo-gaq3", replay="literal")
    c = chip(model, (2, 2))
    s = shots(PulseBatch(np.full((2, 2), 70), Pulse(2.0, 1e-3)), Capabilities((2, 2)))
    assert isinstance(s, Shots)
    c.room_left(s)
    fire(c, s)
    assert model.levels_s is not None
    np.testing.assert_allclose(c.conductance_s(), model.levels_s[-1], rtol=1e-12)


def test_declared_half_select_disturb_moves_the_victims() -> None:
    """One pulse on (0, 0): its row and column mates move by the declared share, the others not at all."""
    c = chip(device(half_select={"ratio": 0.5, "fraction": 0.01}), step=0.0)
    counts = np.zeros((4, 5), int)
    counts[0, 0] = 1
    s = shots(PulseBatch(counts, PULSE), Capabilities((4, 5)))
    assert isinstance(s, Shots)
    before = c.conductance_s().copy()
    fire(c, s)
    change = c.conductance_s() - before
    expected = np.zeros((4, 5))
    expected[0, :] = expected[:, 0] = 0.01 * 0.1 * 3e-6
    expected[0, 0] = 0.1 * 3e-6
    np.testing.assert_allclose(change, expected, rtol=1e-9, atol=1e-18)
    assert c.disturbs.sum() == 7


# -- energy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", list(Bias))
@pytest.mark.parametrize("parallelism", ["row", "column"])
def test_energy_is_the_sum_of_v_i_t_over_all_cells(bias: Bias, parallelism: Any) -> None:
    """Every cell, selected or not, at the voltage that its lines give it, from the states before each pulse."""
    model = device(write_current={"law": "sinh", "v0_v": 0.3})
    c, twin = chip(model), chip(model)
    s = some_shots((4, 5), 3, bias, parallelism)
    expected = 0.0
    for k, shot in enumerate(s):
        v = shot.states.row_v[:, None] - shot.states.col_v[None, :]
        if bias is Bias.ISOLATED:
            keep = np.zeros((4, 5), bool)
            cross = s.cross[s.indptr[k] : s.indptr[k + 1]]
            keep[(s.line[k], cross) if s.axis == 0 else (cross, s.line[k])] = True
            v = np.where(keep, levels(bias, int(s.sign[k])).cell_v, 0.0)
        factor = np.array([[_sinh(x, 0.3) / _sinh(0.1, 0.3) for x in row] for row in v])
        for _ in range(shot.n):
            expected += float((twin.conductance_s() * v**2 * factor).sum()) * 1e-6
            at = slice(s.indptr[k], s.indptr[k + 1])
            indptr = np.array([0, at.stop - at.start], np.int32)
            one = Shots(
                s.shape, s.pulse, s.bias, 1, s.axis, s.line[k : k + 1], indptr, s.cross[at], s.sign[k : k + 1],
                np.ones(1, np.int32),
            )  # fmt: skip
            fire(twin, one)
    assert fire(c, s) == pytest.approx(expected, rel=1e-9)


def _sinh(v: float, v0: float) -> float:
    return sinh(abs(v) / v0) / (abs(v) / v0) if v else 1.0


def test_energy_without_a_declared_current_is_unknown() -> None:
    assert np.isnan(fire(chip(device()), some_shots((4, 5))))


def test_edges_of_a_pulse_count_as_a_third_for_an_ohmic_cell() -> None:
    model = device(write_current={"law": "ohmic"})
    flat = make_drive(model, PULSE, Bias.HALF, 1, 0, (1,)).joule_per_s
    sloped = make_drive(model, Pulse(1.0, 1e-6, 3e-7, 3e-7), Bias.HALF, 1, 0, (1,)).joule_per_s
    np.testing.assert_allclose(sloped, flat * 1.2, rtol=1e-12)
    assert flat[0].tolist() == pytest.approx([1e-6, 0.25e-6, 0.25e-6, 0.0])


# -- kept and restored -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disturb", [False, True])
def test_going_on_from_a_snapshot_equals_never_stopping(disturb: bool) -> None:
    more: dict[str, Any] = {**NOISY, "write_current": {"law": "ohmic"}}
    if disturb:
        more["half_select"] = {"ratio": 0.5, "fraction": 0.05}
    whole, first, second = (chip(device(**more), range=0.1) for _ in range(3))
    energies = [fire(whole, some_shots((4, 5), n)) for n in range(6)]
    for n in range(3):
        fire(first, some_shots((4, 5), n))
    first.next_read()
    second.restore(first.snapshot())
    assert [fire(second, some_shots((4, 5), n)) for n in range(3, 6)] == energies[3:]
    assert second.u.tobytes() == whole.u.tobytes()
    assert second.counters.reads == 1
    assert second.pulses.tolist() == whole.pulses.tolist()


def test_a_snapshot_of_another_chip_is_refused() -> None:
    with pytest.raises(ResumeRefused, match="another chip"):
        chip(seed=1).restore(chip(seed=2).snapshot())
    with pytest.raises(RunFileError, match="damaged"):
        chip().restore(b"nonsense")


def test_a_chip_comes_out_of_its_drawer_as_it_went_in(tmp_path: Path) -> None:
    kept = chip(device(**NOISY), offsets="normal", offset_sigma_s=1e-8, stuck=0.1, shorted=0.1)
    for n in range(3):
        fire(kept, some_shots((4, 5), n))
    kept.counters.run, kept.counters.seq = "run-7", 41
    kept.save(tmp_path / "chip")
    found = load_chip(tmp_path / "chip", device(**NOISY))
    assert (found.counters, found.chip_id, found.seed) == (kept.counters, kept.chip_id, kept.seed)
    for c in (kept, found):
        fire(c, some_shots((4, 5), 3))
    assert found.conductance_s().tobytes() == kept.conductance_s().tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["chip"], "nothing is left beside the file"


def test_bad_chip_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "chip"
    with pytest.raises(RunFileError, match="cannot read"):
        load_chip(path, device())
    path.write_bytes(b"\x00rubbish")
    with pytest.raises(RunFileError, match="damaged"):
        load_chip(path, device())
    path.write_bytes(msgpack.packb({"schema": 99}))
    with pytest.raises(RunFileError, match="version 99"):
        load_chip(path, device())
    chip().save(path)
    with pytest.raises(ConfigError, match="'lsmo-gaq3'"):
        load_chip(path, load_model("lsmo-gaq3"))


# -- time ------------------------------------------------------------------------------------------------------------

RESTLESS = {"relaxation": {"tau_s": 10.0, "g_rest_s": 1e-6}}


def test_the_chip_relaxes_in_simulated_time() -> None:
    c = chip(device(**RESTLESS), step=0.0, stuck=0.3)
    free = ~c.devices.stuck.reshape(c.shape)
    before = c.conductance_s().copy()
    c.advance(5.0)
    expected = 1e-6 + 1e-6 * np.exp(-0.5)
    np.testing.assert_allclose(c.conductance_s()[free], expected, rtol=1e-12)
    np.testing.assert_array_equal(c.conductance_s()[~free], before[~free])
    c.advance(5.0)
    one_pulse(c)
    u = 0.25 * np.exp(-1.0)
    np.testing.assert_allclose(c.conductance_s()[free], 1e-6 + 4e-6 * (1 - (1 - u) * 0.9), rtol=1e-12)


def test_looking_at_a_relaxing_chip_changes_no_bit() -> None:
    watched, alone = chip(device(**RESTLESS)), chip(device(**RESTLESS))
    for c in (watched, alone):
        c.advance(1.0)
        if c is watched:
            c.conductance_s()
            c.snapshot()
        c.advance(1.3)
        one_pulse(c)
    assert watched.u.tobytes() == alone.u.tobytes()


def test_an_offset_that_is_no_number_is_called_that() -> None:
    spread = Spread(offset_s=np.array([[0.0, np.nan], [0.0, 0.0]]))
    with pytest.raises(ConfigError, match="1 values that are no finite numbers"):
        draw_devices(load_model("lsmo-gaq3"), (2, 2), 0, spread)
