"""stdp-window: how it measures, what it makes of noise, and that the published window comes out of every bench."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ideal_bench import IdealBench
from neurobench.drivers._visa_open import span_of
from neurobench.protocols._stdp_fit import fit_window
from neurobench.protocols.coincidence import Coincidence
from neurobench.protocols.stdp_window import StdpWindow

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Applied, Capabilities
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply, BenchView, Checkpoint, Result, Sense, Wait
from neurobench.bench.stimulus import Waveforms
from neurobench.errors import CapabilityMissing, ConfigError, LimitExceeded, Refused, UsageError
from neurobench.learning.schemes import Exponential
from neurobench.physics.library import card as load_card_by_name
from neurobench.runs import launch, runner
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import MemoryRecord, RunFile

PUBLISHED = {5: 0.78108, 10: 0.52070, 20: 0.23342, 40: 0.04254, 60: 0.00400, 80: 0.0}
A_S, TAU_S, STEP_S, G0_S = 3e-6, 15e-3, 2e-7, 50e-6


class KnownWindow(IdealBench):
    """Devices whose pairs move them by +-A exp(-|dt|/tau), read with noise; pulses move them by one step."""

    def __init__(self, sigma_s: float = 0.0, seed: int = 0, lone_s: float = 0.0, **span: Any) -> None:
        capabilities = Capabilities((2, 3), distinct_shapes=5)
        known = {"depresses": True, "g_min_s": 0.0, "g_max_s": 2 * G0_S, "threshold_v": 1.0, "threshold_depress_v": 1.0}
        super().__init__(lambda n: G0_S + n, (2, 3), sigma_s, seed, capabilities, **{**known, **span})
        self.index = np.zeros((2, 3))
        self.lone_s = lone_s

    def answer(self, step: Any) -> Any:
        if isinstance(step, Apply) and isinstance(step.stimulus, Waveforms):
            self.log.append(step)
            self.index = self.index + self._moved(step.stimulus)
            return Applied(1, 1, self.time_s, self.time_s)
        if isinstance(step, Apply):
            self.log.append(step)
            self.index = self.index + STEP_S * np.where(self.dead, 0, step.stimulus.counts)
            return Applied(1, 1, self.time_s, self.time_s)
        return super().answer(step)

    def _moved(self, played: Waveforms) -> Any:
        rows, cols = played.row_shape >= 0, played.col_shape >= 0
        pairs = rows[:, None] & cols
        dt_s = np.where(pairs, played.col_start_s - played.row_start_s[:, None], np.nan)
        change = np.nan_to_num(np.sign(dt_s) * A_S * np.exp(-np.abs(dt_s) / TAU_S))
        return change + self.lone_s * (rows[:, None] ^ cols)


def window(on: IdealBench, seed: int = 0, **parameters: Any) -> Result:
    protocol = StdpWindow(**{"theory": "none", **parameters})
    return on.run(protocol.steps(on.view(), np.random.default_rng(seed)))


def ran(bench: str = "emulator", settings: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    protocol = StdpWindow(**parameters)
    guard = open_bench(load_bench(bench, settings or {}, protocol.bench_defaults()), 0)
    try:
        outcome = runner.run(protocol, guard, seed=0, record=MemoryRecord())
    finally:
        guard.close()
    if outcome.error is not None:
        raise outcome.error
    assert outcome.result is not None
    return dict(outcome.result) | {"status": outcome.status}


def mean_at(values: dict[str, Any], dt_s: float) -> float:
    there = np.isclose(values["dt_s"], dt_s, rtol=1e-9)
    assert there.any()
    return float(values["dg_s"][there].mean())


# ---------------------------------------------------------------------------------------------- how it measures


def test_every_point_is_brought_to_g0_read_done_and_read_after_a_fixed_wait() -> None:
    on = KnownWindow()
    found = window(on, dt_s=(-5e-3, 5e-3), repeats=2, devices=2, delay_s=0.25, averages=3).values
    work = [step for step in on.log if isinstance(step, Apply | Sense | Wait)]
    waves = [k for k, step in enumerate(work) if isinstance(step, Apply) and isinstance(step.stimulus, Waveforms)]
    assert len(waves) == 2 * 2 * (2 + 2), "pairs and lone spikes; nothing is played for the no-pulse control"
    for k in waves:
        for read in (work[k - 1], work[k + 1]):
            assert isinstance(read, Sense)
            assert (read.read.delay_s, read.read.averages, read.read.both_polarities) == (0.25, 3, True)
    nothing = [k for k, step in enumerate(work) if isinstance(step, Wait)]
    assert len(nothing) == 2 * 2
    lasts_s = Exponential().lead_s + Exponential().trail_s
    assert all(work[k].seconds == pytest.approx(lasts_s) for k in nothing), "as long as a lone spike"
    assert all(isinstance(work[k - 1], Sense) and isinstance(work[k + 1], Sense) for k in nothing)
    assert np.abs(found["g0_s"] / G0_S - 1).max() < 0.03
    assert {tuple(cell) for cell in found["cell"].tolist()} == {(0, 0), (1, 2)}
    assert found["left_out"] == 0


def test_the_order_is_random_by_the_seed_and_controls_stand_between_the_pairs() -> None:
    orders = []
    for seed in (0, 0, 1):
        on = KnownWindow()
        window(on, seed, repeats=2)
        orders.append([(note.value["kind"], note.value["dt_s"], tuple(note.value["cell"])) for note in on.notes])
    assert [k for k, _, _ in orders[0]] == [k for k, _, _ in orders[1]]
    assert orders[0] != orders[2]
    times = [dt_s for kind, dt_s, _ in orders[0] if kind == "pair"]
    assert times != sorted(times)
    kinds = [kind for kind, _, _ in orders[0]]
    assert kinds.count("lone_pre") == kinds.count("lone_post") == kinds.count("none") == 2 * 2
    places = [k for k, kind in enumerate(kinds) if kind != "pair"]
    assert np.ptp(places) > len(kinds) / 2, "they are spread over the run"


def test_a_point_that_cannot_be_brought_to_g0_is_left_out_and_counted() -> None:
    on = KnownWindow(g_min_s=1e-6)
    on.dead[:] = True
    found = window(on, init_pulses=2, g0_s=45e-6, dt_s=(-5e-3, 5e-3), repeats=1)
    assert found.values["left_out"] == 2 * (2 + 3)
    assert found.values["left_out_said"].startswith("10 points could not be brought to G0, 0 were read over range")
    assert found.values["points"] == 0
    assert not found.reached
    assert found.values["fit"]["a_plus"] is None


def test_starting_from_any_checkpoint_equals_the_whole_run() -> None:
    protocol = StdpWindow(repeats=2, devices=2, dt_s=(-0.02, -0.005, 0.005, 0.02))
    noisy = {"readout.offset_a": 1e-9, "readout.adc_bits": 16, "readout.adc_range_a": 2e-5}
    guard = open_bench(load_bench("emulator", noisy, protocol.bench_defaults()), 3)
    whole, log = driven(protocol, guard)
    found = [(step, chip) for step, chip in log if isinstance(step, Checkpoint)]
    assert len(found) == 2 * 2 * (4 + 3)
    for step, chip in found[::9]:
        guard.restore(chip)
        rest, more = driven(protocol, guard, step.state)
        assert repr(rest.values) == repr(whole.values)
        assert len(more) < len(log)
    guard.close()


def driven(protocol: StdpWindow, guard: Guard, start: Any = None) -> tuple[Result, list[Any]]:
    """Run on a Guard by hand; keep every step, and the chip at the checkpoints."""
    steps = protocol.steps(guard.view(), np.random.default_rng(0), start)
    answer, log, raw = None, [], guard.raw
    seq = raw._last_seq  # type: ignore[attr-defined]
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value, log
        answer = None
        if isinstance(step, Apply):
            seq += 1
            guard.stage(seq, step.stimulus)
            answer = guard.fire(seq)
        elif isinstance(step, Sense):
            answer = guard.sense(step.read)
        elif isinstance(step, Wait):
            guard.wait(step.seconds)
        log.append((step, guard.snapshot() if isinstance(step, Checkpoint) else None))


# ---------------------------------------------------------------------------------------------- what it makes of it


def test_a_known_window_is_found_with_intervals_that_hold() -> None:
    inside = np.zeros((20, 4), bool)
    for seed in range(len(inside)):
        found = window(KnownWindow(sigma_s=3e-7, seed=seed), seed)
        assert found.reached
        told = found.values["fit"]["intervals"]
        true = {"a_plus": A_S, "a_minus": -A_S, "tau_plus_s": TAU_S, "tau_minus_s": TAU_S}
        inside[seed] = [told[key][1] <= value <= told[key][2] for key, value in true.items()]
        assert all(told[key][0] == found.values["fit"][key] for key in true)
    assert 0.87 <= inside.mean() <= 1.0, "95 % intervals over 80 numbers"


def test_noise_is_no_evidence() -> None:
    found = window(KnownWindow(sigma_s=2e-5, seed=4), tolerance=1.0)
    fit = found.values["fit"]
    assert fit["a_plus"] is fit["tau_plus_s"] is fit["a_minus"] is fit["intervals"]["a_plus"] is None
    assert "dt beyond noise, 3 are needed" in fit["said"]["plus"]
    assert not found.reached
    assert found.values["noise_s"] > 1e-5


def test_a_branch_without_evidence_is_none_and_the_other_is_fitted() -> None:
    rng = np.random.default_rng(0)
    dt_s = np.repeat([-0.02, -0.01, -0.005, 0.005, 0.01, 0.02], 4)
    dg_s = np.where(dt_s > 0, 1e-6 * np.exp(-dt_s / 0.01), 0.0) + 1e-8 * rng.standard_normal(len(dt_s))
    fit = fit_window(dt_s, dg_s, 1e-8, 1e-5)
    assert fit["a_minus"] is None
    assert fit["a_plus"] == pytest.approx(1e-6, rel=0.05)
    assert fit["tau_plus_s"] == pytest.approx(0.01, rel=0.05)
    assert fit["r_squared"]["plus"] > 0.99


@pytest.mark.parametrize("flat_s", [1e-6, -1e-6])
def test_a_time_constant_beyond_what_was_measured_is_not_fitted_and_the_sign_of_the_branch_stands(
    flat_s: float,
) -> None:
    scatter = np.tile([0.98, 1.02, 1.01, 0.99], 3)
    fit = fit_window(np.repeat([0.005, 0.01, 0.02], 4), flat_s * scatter, 1e-9, 1e-5)
    assert fit["a_plus"] is fit["tau_plus_s"] is fit["intervals"]["tau_plus_s"] is fit["r_squared"]["plus"] is None
    assert re.match(
        r"not fitted: no decay is seen: tau would be \S+ s, and the largest \|dt\| is 0\.02 s", fit["said"]["plus"]
    )
    assert fit["sign"] == {"plus": int(np.sign(flat_s)), "minus": 0}


def test_an_interval_wider_than_its_value_by_orders_of_magnitude_is_no_fit() -> None:
    dt_s, dg_s = np.array([0.005, 0.01, 0.02]), np.array([1.0e-6, 1.0e-6, 0.5e-6])
    fit = fit_window(dt_s, dg_s, 1e-9, 1e-5)
    assert fit["tau_plus_s"] is fit["a_plus"] is None
    assert re.match(r"not fitted: tau = \S+ s lies anywhere from \S+ to \S+ s", fit["said"]["plus"])
    assert fit["sign"]["plus"] == 0


def test_a_biphasic_window_of_one_repeat_tells_no_time_constant() -> None:
    found = ran(scheme="biphasic", repeats=1, devices=1)
    assert found["fit"]["tau_plus_s"] is found["fit"]["tau_minus_s"] is None
    assert "no decay is seen" in found["fit"]["said"]["plus"]
    assert mean_at(found, 20e-3) > 0 > mean_at(found, -20e-3)


def test_lone_spikes_that_move_something_are_told_and_the_goal_is_missed() -> None:
    clean, spoilt = window(KnownWindow()), window(KnownWindow(lone_s=5.8e-8))
    assert clean.reached
    assert "within noise" in clean.values["lone_spikes"]
    assert not spoilt.reached
    assert "lone pre spikes moved 5.8e-08 S more than nothing did, beyond noise" in spoilt.values["lone_spikes"]
    np.testing.assert_allclose(spoilt.values["controls"]["lone_post_s"], 5.8e-8, rtol=1e-6)


# ---------------------------------------------------------------------------------------------- on every bench


def test_the_published_window_comes_out_of_the_emulated_physics_with_default_settings() -> None:
    found = ran()
    assert found["status"] == "finished"
    at_2 = mean_at(found, 2e-3)
    assert at_2 > 0
    for ms, ratio in PUBLISHED.items():
        assert mean_at(found, ms * 1e-3) / at_2 == pytest.approx(ratio, abs=1e-4)
        assert mean_at(found, -ms * 1e-3) / at_2 == pytest.approx(-ratio, abs=1e-4)
    for name in ("lone_pre_s", "lone_post_s", "none_s"):
        assert found["controls"][name].tolist() == [0.0] * 6, "a lone spike moves nothing at all"
    assert found["lowest_threshold_v"] == found["peak_v"] == 1.0
    theory = np.interp(found["dt_s"], found["theory"]["dt_s"], found["theory"]["dg_s"])
    np.testing.assert_allclose(found["dg_s"], theory, rtol=0.003, atol=2e-3 * at_2)
    assert found["dg_over_g"].tolist() == (found["dg_s"] / found["g0_s"]).tolist()
    assert (np.diff(found["dt_s"]) >= 0).all()


AT_2MS = 0.042072  # of the card's window: its rate times the published integral


def window_s() -> float:
    card = load_card_by_name("threshold-exponential")
    assert card.window is not None
    return card.window.g_max_s - card.window.g_min_s


REDUCED: dict[str, Any] = {"repeats": 1, "devices": 1, "dt_s": (-0.02, -0.01, -0.005, 0.005, 0.01, 0.02)}


@pytest.mark.parametrize(("bench", "within"), [("emulator", 1e-4), ("visa-sim", 0.02), ("fpga-sim", 0.06)])
def test_the_window_of_the_waveforms_holds_on_every_bench(bench: str, within: float) -> None:
    """Reduced to six dt, once, on one cell: for CI. `within`: sampling of the board, noise of the ammeter."""
    found = ran(bench, **REDUCED)
    at_5 = mean_at(found, 5e-3)
    assert found["status"] == "finished"
    assert at_5 == pytest.approx(0.78108 * 0.042071 * 19e-6, rel=0.04), "published shape, the card's rate"
    for ms in (5, 10, 20):
        assert mean_at(found, ms * 1e-3) / at_5 == pytest.approx(PUBLISHED[ms] / PUBLISHED[5], abs=within)
        assert mean_at(found, -ms * 1e-3) / at_5 == pytest.approx(-PUBLISHED[ms] / PUBLISHED[5], abs=within)
    assert "within noise" in found["lone_spikes"]


@pytest.mark.parametrize("bench", ["emulator", "visa-sim", "fpga-sim"])
@pytest.mark.parametrize("card", ["lsmo-gaq3-mirror", "al2o3-tio2-nili"])
def test_measured_devices_are_served_by_counted_pulses_on_every_bench(bench: str, card: str) -> None:
    scheme = {"kind": "counted", "pulses_plus": 8, "pulses_minus": 8}
    settings = {"averages": 64} if card == "lsmo-gaq3-mirror" else {"g0_s": 2e-5}
    found = ran(bench, {"chip.model": card}, scheme=scheme, **REDUCED, **settings)
    assert mean_at(found, 5e-3) > 0 > mean_at(found, -5e-3)
    assert mean_at(found, 5e-3) > mean_at(found, 20e-3)
    assert found["lone_spikes"] == "lone pre spikes send nothing; lone post spikes send nothing"
    assert found["theory"]["said"] == f"the scheme on the mean device of card {card}"


def test_on_a_chip_whose_thresholds_scatter_the_scheme_has_to_stay_below_the_lowest() -> None:
    scattered = {"chip.threshold_spread": 0.03}
    with pytest.raises(Refused, match=r"to 0\.91 V at most"):
        ran(settings=scattered, **REDUCED)
    found = ran(settings=scattered, **{**REDUCED, "devices": 6}, scheme=Exponential(amplitude_v=0.9, tail_v=0.35))
    assert found["status"] == "finished"
    assert not any(found["controls"][name].any() for name in ("lone_pre_s", "lone_post_s", "none_s"))
    at_5 = found["dg_s"][np.isclose(found["dt_s"], 5e-3)]
    assert at_5.min() > 0
    assert at_5.std() > 0.1 * at_5.mean(), "the devices differ"


def test_a_measured_device_without_a_threshold_has_a_window_of_rectangles_and_is_moved_by_lone_spikes() -> None:
    inside = {"kind": "rectangular", "amplitude_v": 0.65, "tail_v": 0.35, "lead_s": 5e-4}
    found = ran(settings={"chip.model": "al2o3-tio2-nili"}, scheme=inside, g0_s=1.6e-4, **REDUCED)
    assert mean_at(found, 5e-3) > 0 > mean_at(found, -5e-3)
    assert 0.02 < found["controls"]["lone_pre_s"].mean() / mean_at(found, 5e-3) < 0.1
    assert "beyond noise" in found["lone_spikes"]
    assert found["status"] == "not_converged"


def test_the_staircase_of_a_window_falls_pulse_by_pulse() -> None:
    found = ran(scheme="staircase", devices=1, repeats=1)
    steps = np.unique(found["dt_s"])
    np.testing.assert_allclose(steps, np.array([-6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6]) * 1e-2)
    up = [mean_at(found, dt_s) for dt_s in steps[6:]]
    assert (np.diff(up) < 0).all()
    assert up[-1] > 0
    np.testing.assert_allclose([mean_at(found, -dt_s) for dt_s in steps[6:]], [-g for g in up], rtol=1e-9)


def test_a_chip_of_the_other_polarity_has_the_same_window() -> None:
    usual, turned = (ran(settings={"chip.potentiating_sign": sign}, **REDUCED) for sign in (1, -1))
    np.testing.assert_array_equal(usual["dg_s"], turned["dg_s"])


def test_the_page_names_what_the_result_holds(checkout: Path) -> None:
    page = (checkout / "docs" / "stdp.md").read_text(encoding="utf-8")
    table = page.partition("## How to read the result")[2].partition("\n\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    found = ran(**REDUCED)
    for row in rows:
        for name in re.findall(r"`(\w+)`", row.split("|")[1]):
            assert name in found, name
    inner = {*found["fit"], *found["theory"], *found["controls"]}
    assert {"a_plus", "a_minus", "tau_plus_s", "tau_minus_s", "intervals", "lone_pre_s", "none_s", "said"} <= inner


# ---------------------------------------------------------------------------------------------- refusals


def refused(view: BenchView, **parameters: Any) -> str:
    with pytest.raises((Refused, UsageError)) as caught:
        StdpWindow(**parameters).admit(view)
    return str(caught.value)


def test_what_cannot_work_is_refused_before_the_first_volt() -> None:
    on = KnownWindow()
    StdpWindow().admit(on.view())
    assert "lower the amplitudes" in refused(KnownWindow(threshold_sigma=0.1).view())
    assert "no dt at which a pair could move" in refused(on.view(), dt_s=(0.0, 0.5))
    assert "outside the declared range" in refused(on.view(), g0_s=1e-3)
    assert "say g0_s" in refused(KnownWindow(g_max_s=float("nan")).view())
    assert "no depressing pulse" in refused(KnownWindow(depresses=False).view())
    assert "say potentiate_v and potentiate_width_s" in refused(KnownWindow(pulse=None).view())
    assert "max_width_s or max_batch_s" in refused(on.view(), scheme=Exponential(trail_s=2.0, trail_tau_s=2.0))
    assert "waveform shapes at once (it plays 0)" in refused(
        IdealBench(lambda n: n, (2, 2), depresses=True, g_min_s=1e-6, g_max_s=1e-5).view()
    )
    higher = KnownWindow(threshold_v=5.0, threshold_depress_v=5.0).view()
    assert "limits.max_cell_v allows 3" in refused(higher, scheme=Exponential(amplitude_v=2.9, tail_v=2.9))


RAMPS = ["exponential", "triangular", "biphasic"]


@pytest.mark.parametrize("bench", ["emulator", "visa-sim", "fpga-sim"])
@pytest.mark.parametrize("scheme", RAMPS)
def test_ramps_on_devices_that_replay_pulses_are_refused_before_the_first_volt(scheme: str, bench: str) -> None:
    chip = {"chip.model": "al2o3-tio2-nili", "chip.rows": 6, "chip.cols": 2}
    guard = open_bench(load_bench(bench, chip, {}), 0)
    try:
        for protocol in (StdpWindow(scheme=scheme), Coincidence(scheme=scheme, inputs=6, synchronised=3)):
            with pytest.raises(CapabilityMissing, match=r"rule 14\): use scheme=counted .* or scheme=rectangular"):
                protocol.admit(guard.view())
    finally:
        guard.close()


@pytest.mark.parametrize(("model", "simulated", "real"), [("vteam", True, True), ("gong-rram", False, None)])
def test_a_simulated_device_answers_what_its_card_does_and_a_real_one_answers_any_voltage(
    model: str, simulated: bool, real: bool | None
) -> None:
    for bench in ("emulator", "visa-sim", "fpga-sim"):
        guard = open_bench(load_bench(bench, {"chip.model": model, "chip.rows": 2, "chip.cols": 2}, {}), 0)
        assert guard.view().device.integrates is simulated
        guard.close()
    config = load_bench("visa-sim", {"chip.model": model})
    on_real = config.model_copy(update={"bench": config.bench.model_copy(update={"backend": "visa"})})
    assert span_of(on_real).integrates is real


def test_an_unknown_card_of_the_theory_is_refused_before_the_first_volt() -> None:
    on = KnownWindow()
    assert "theory = vteem: no device 'vteem'; did you mean vteam?" in refused(on.view(), theory="vteem")
    for known in ("auto", "none", "vteam"):
        StdpWindow(theory=known).admit(on.view())


def test_a_run_goes_on_by_the_shape_that_it_began_with_whatever_became_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = tmp_path / "pre.csv"
    settings = [f'scheme={{kind="file", pre="{shape.as_posix()}"}}', "devices=1", "repeats=1", "dt_s=[-0.01, 0.01]"]

    def begun(cut: int) -> tuple[Path, BaseException | None]:
        fired, fire = 0, Guard.fire

        def dying(self: Guard, seq: int) -> Applied:
            nonlocal fired
            fired += 1
            if fired == cut:
                raise KeyboardInterrupt
            return fire(self, seq)

        shape.write_text("t_s,v\n-0.005,0\n0,1\n0,-0.25\n0.075,0\n")
        with monkeypatch.context() as patched:
            patched.setattr(Guard, "fire", dying)
            return launch.launch(prepare(request("stdp-window", settings=settings)), tmp_path)

    whole, error = begun(0)
    assert error is None
    for spoil in (lambda: shape.write_text("t_s,v\n-0.005,0\n0,0.9\n0,-0.5\n0.075,0\n"), shape.unlink):
        path, error = begun(3)
        assert error is not None
        spoil()
        assert launch.resume(path) is None
        with RunFile.open(path) as one, RunFile.open(whole) as other:
            assert _dg_s(one) == _dg_s(other)


def _dg_s(file: RunFile) -> list[float]:
    result = file.result
    assert result is not None
    return list(result["dg_s"])


def test_the_refusals_of_a_bench_are_of_their_kinds() -> None:
    with pytest.raises(CapabilityMissing):
        ran("visa-sim", {"instruments.pulse.model": "keysight-81160a"}, **REDUCED)
    with pytest.raises(LimitExceeded, match="max_width_s"):
        ran("fpga-sim", dt_s=(-0.01, 0.3))
    with pytest.raises(Refused):
        ran(settings={"chip.model": "lsmo-gaq3-mirror"}, **REDUCED)


def test_a_scheme_is_said_by_its_name_or_as_a_table() -> None:
    asked = prepare(request("stdp-window", settings=["scheme=rectangular"])).protocol
    assert isinstance(asked, StdpWindow)
    assert asked.scheme.kind == "rectangular"
    asked = prepare(request("stdp-window", settings=['scheme={kind="exponential", amplitude_v=0.9}'])).protocol
    assert isinstance(asked, StdpWindow)
    assert asked.scheme == Exponential(amplitude_v=0.9)
    with pytest.raises(ConfigError, match="did you mean rectangular"):
        prepare(request("stdp-window", settings=["scheme=rectangle"]))
    with pytest.raises(ConfigError, match="amplitude"):
        prepare(request("stdp-window", settings=['scheme={kind="exponential", amplitude=0.9}']))
