"""measure-curve: what it measures, when it lets a device alone, and that its card is the device that was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ideal_bench import IdealBench
from known_card import known_card
from neurobench.protocols.measure_curve import MeasureCurve

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply, Checkpoint, Result, Sense
from neurobench.bench.stimulus import Pulse
from neurobench.errors import CapabilityMissing, Refused, UsageError
from neurobench.physics.card import DeviceCard, load_card
from neurobench.runs import curves, launch, runner
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import MemoryRecord, RunFile

READ_S, STEP_S, V0_V = 3e-8, 4e-8, 0.4
KNOWN = known_card(READ_S, STEP_S, V0_V, 1e-6, 2e-6, rate_down=0.04)


def opened(seed: int = 0, settings: dict[str, Any] | None = None, **parameters: Any) -> tuple[MeasureCurve, Guard]:
    protocol = MeasureCurve(**parameters)
    return protocol, open_bench(load_bench("emulator", settings or {}, protocol.bench_defaults()), seed)


def measured(seed: int = 0, settings: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    protocol, guard = opened(seed, settings, **parameters)
    outcome = runner.run(protocol, guard, seed=seed, record=MemoryRecord())
    guard.close()
    assert outcome.error is None
    assert outcome.result is not None
    return dict(outcome.result)


# ---------------------------------------------------------------------------------------------- what it does


def test_a_train_is_reads_with_one_pulse_between_them() -> None:
    on = IdealBench(lambda n: 1e-6 + 1e-8 * n, (2, 2), depresses=True, read_voltage_v=0.05)
    protocol = MeasureCurve(cells=((0, 1),), pulses=6, cycles=1, noise_reads=3, delay_s=2.7, averages=4)
    values = on.run(protocol.steps(on.view(), np.random.default_rng(0))).values
    table = np.arange(7)
    np.testing.assert_allclose(values["train_conductance_s"], 1e-6 + 1e-8 * np.array([table, 6 - table]), rtol=1e-12)
    assert values["train_direction"].tolist() == [1, -1]
    assert values["train_mean_step_s"] == pytest.approx([1e-8, -1e-8])
    assert values["read_v"] == 0.05
    work = [step for step in on.log if isinstance(step, Apply | Sense)]
    assert all(isinstance(step, Sense) and step.read.delay_s == 0 for step in work[:3]), "the noise, before any pulse"
    kinds = "".join("P" if isinstance(step, Apply) else "R" for step in work[3:])
    assert kinds == "R" + "R" + "PR" * 6 + "R" + "R" + "PR" * 6, "look, train; look, train"
    for step in work[3:]:
        if isinstance(step, Sense):
            assert (step.read.delay_s, step.read.averages, step.read.both_polarities) == (2.7, 4, True)
        else:
            assert np.argwhere(step.stimulus.counts).tolist() == [[0, 1]]
            assert step.stimulus.pulse == Pulse(2.0, 1e-3)


def test_every_amplitude_with_every_width_in_order() -> None:
    on = IdealBench(lambda n: 1e-6 + 1e-8 * n, (1, 1), depresses=True)
    protocol = MeasureCurve(
        pulses=5, cycles=2, potentiate_v=(2.0, 1.0), potentiate_width_s=(1e-3, 1e-4), depress_v=(0.7,)
    )
    values = on.run(protocol.steps(on.view(), np.random.default_rng(0))).values
    up = values["train_direction"] == 1
    conditions = np.stack([values["train_amplitude_v"], values["train_width_s"]], axis=1)
    assert conditions[up].tolist() == [[1.0, 1e-4], [1.0, 1e-3], [2.0, 1e-4], [2.0, 1e-3]] * 2
    assert conditions[~up].tolist() == [[0.7, 1e-3]] * 2
    assert values["reinitialised"]
    np.testing.assert_allclose(values["train_conductance_s"][up][:, 0], 1e-6, rtol=1e-12)


def test_a_device_is_brought_back_by_as_many_pulses_as_it_takes_and_no_more_than_allowed() -> None:
    slow_back: dict[str, Any] = {"depresses": True}
    on = IdealBench(lambda n: np.where(n > 0, 1e-6 + 1e-8 * n, 1e-6), (1, 1), **slow_back)
    protocol = MeasureCurve(pulses=8, cycles=3, trains="potentiate")
    values = on.run(protocol.steps(on.view(), np.random.default_rng(0))).values
    assert values["train_initialised"].tolist() == [True, False, False], "one direction: there is no way back"
    assert not values["reinitialised"]
    assert "one direction only" in values["reinitialised_said"]
    on = IdealBench(lambda n: 1e-6 + 1e-8 * n, (1, 1), **slow_back)
    protocol = MeasureCurve(
        pulses=8, cycles=1, potentiate_v=(1.0, 2.0), depress_v=(1.0,), init_pulses=3, start_tolerance=0.01
    )
    values = on.run(protocol.steps(on.view(), np.random.default_rng(0))).values
    assert values["train_initialised"].tolist() == [True, True, True]
    protocol = MeasureCurve(pulses=8, cycles=1, potentiate_v=(1.0, 2.0), depress_v=(1.0,), stop_below_s=1.06e-6,
                            init_pulses=3, start_tolerance=0.01)  # fmt: skip
    on = IdealBench(lambda n: 1e-6 + 1e-8 * n, (1, 1), **slow_back)
    values = on.run(protocol.steps(on.view(), np.random.default_rng(0))).values
    assert values["train_pulses"].tolist() == [8, 2, 8], "the depression was stopped half-way"
    assert values["train_initialised"].tolist() == [True, True, False], "and three pulses do not bring it back"
    assert on.index[0, 0] == 8 - 2 - 3 + 8


@pytest.mark.parametrize("sigma_s", [0.0, 5e-9])
def test_a_device_that_does_not_move_is_reported_and_not_pulsed_for_ever(sigma_s: float) -> None:
    on = IdealBench(lambda n: 1e-6 + 2e-8 * n, (2, 2), sigma_s, depresses=True)
    on.dead[1, 1] = True
    protocol = MeasureCurve(devices=4, pulses=60, cycles=10, stuck_after=12)
    result = on.run(protocol.steps(on.view(), np.random.default_rng(0)))
    assert result.values["stuck"] == [[1, 1]]
    assert result.values["cell_pulses"][3] == 24, "twelve up, twelve down"
    assert result.values["cell_pulses"][0] >= 60 * 20
    assert result.values["yield"] == 0.75
    assert not result.reached


def test_budgets_hold_the_run_back() -> None:
    values = measured(settings={"limits.max_pulses_per_cell": 70}, pulses=50, cycles=2)
    assert values["cell_pulses"].tolist() == [70]
    assert values["cell_ended"] == ["budget"]
    values = measured(pulses=50, cycles=2, max_pulses_per_cell=30)
    assert values["cell_pulses"].tolist() == [30]


def test_a_stop_current_ends_a_train_and_needs_an_ammeter(tmp_path: Path) -> None:
    card = tmp_path / "known.toml"
    card.write_text(KNOWN)
    values = measured(settings={"chip.curve": card}, pulses=50, cycles=1, trains="potentiate", stop_current_a=1.5e-5)
    current_a = values["train_in_pulse_a"][0]
    last = int(values["train_pulses"][0])
    assert 2 < last < 50
    assert current_a[last - 1] >= 1.5e-5 > current_a[last - 2]
    assert values["cell_ended"] == ["stop current"]
    with pytest.raises(CapabilityMissing, match="measurement of the current while pulsing"):
        measured(stop_current_a=1e-3)  # this device's card has no I(V)


def test_what_is_asked_for_is_checked_before_the_first_volt() -> None:
    with pytest.raises(CapabilityMissing, match="needs a depressing pulse"):
        on = IdealBench(lambda n: 1e-6 + n, (1, 1))
        on.run(MeasureCurve(trains="both").steps(on.view(), np.random.default_rng(0)))
    for cells, error, says in [(((4, 0),), UsageError, "4 x 4"), (((0, 0), (0, 0)), UsageError, "once")]:
        protocol, guard = opened(cells=cells)
        with pytest.raises(error, match=says):
            runner.run(protocol, guard, seed=0, record=MemoryRecord())
        guard.close()
    protocol, guard = opened(cells=((1, 2),))
    guard.passport.mark({"state": "stuck", "cells": [[1, 2]]})
    with pytest.raises(Refused, match=r"cell \(1, 2\) is stuck"):
        runner.run(protocol, guard, seed=0, record=MemoryRecord())
    guard.close()


def test_chosen_cells_leave_out_what_the_passport_calls_dead() -> None:
    protocol, guard = opened(devices=16, pulses=4, cycles=1)
    guard.passport.mark({"state": "shorted", "cells": [[0, 0], [2, 2]]})
    outcome = runner.run(protocol, guard, seed=0, record=MemoryRecord())
    assert outcome.result is not None
    cells = {tuple(cell) for cell in outcome.result["cells"].tolist()}
    assert len(cells) == 14
    assert not cells & {(0, 0), (2, 2)}
    assert outcome.result["excluded"] == 2


# ---------------------------------------------------------------------------------------------- going on


def driven(protocol: MeasureCurve, guard: Guard, start: Any = None) -> tuple[Result, list[Any]]:
    """Run on a Guard by hand; keep every step, and the chip at the checkpoints."""
    steps, answer, log, seq = (
        protocol.steps(guard.view(), np.random.default_rng(0), start),
        None,
        [],
        guard.raw._last_seq,
    )  # type: ignore[attr-defined]
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
        log.append((step, guard.snapshot() if isinstance(step, Checkpoint) else None))


def test_starting_from_any_checkpoint_equals_the_whole_run() -> None:
    parameters: dict[str, Any] = {"devices": 2, "cycles": 2, "pulses": 12}
    protocol, guard = opened(3, {"readout.offset_a": 1e-9}, **parameters)
    whole, log = driven(protocol, guard)
    found = [(step, chip) for step, chip in log if isinstance(step, Checkpoint)]
    assert len(found) == 8
    for step, chip in found[::3]:
        guard.restore(chip)
        rest, more = driven(protocol, guard, step.state)
        assert repr(rest.values) == repr(whole.values)
        assert len(more) < len(log)
        for name, value in whole.values.items():
            np.testing.assert_array_equal(rest.values[name], value, err_msg=name)
    guard.close()


def test_a_long_run_writes_few_checkpoints() -> None:
    protocol, guard = opened(cycles=300, pulses=4, trains="potentiate", stuck_after=100)
    _, log = driven(protocol, guard)
    guard.close()
    assert 20 <= sum(isinstance(step, Checkpoint) for step, _ in log) <= 150


# ---------------------------------------------------------------------------------------------- the loop closes


class Made(NamedTuple):
    card: DeviceCard
    first: dict[str, Any]
    second: dict[str, Any]
    report: str


def loop(folder: Path, curve: str | Path, devices: int, cycles: int, spread: float, change: float = 1.0) -> Made:
    """Measure a chip, make a card of it, emulate that, measure again. `change`: of the card's steps."""
    folder.mkdir(exist_ok=True)
    first = _run(folder, curve, devices, cycles, spread, 5)
    out = folder / "card.toml"
    report = curves.card_from(first, out)["report"]
    card = load_card(out)
    if change != 1.0:
        changed = [
            c.model_copy(
                update={"conductance_s": tuple((c.points()[0] + change * (c.points() - c.points()[0])).tolist())}
            )
            for c in card.curve
        ]
        out.write_text(curves.card_toml(card.model_copy(update={"curve": tuple(changed)})))
    second = _run(folder, out, devices, cycles, spread, 9)
    return Made(card, _result(first), _result(second), "\n".join(report))


def _run(folder: Path, curve: str | Path, devices: int, cycles: int, spread: float, seed: int) -> Path:
    kind = "curve" if Path(curve).suffix else "model"
    asked = request(
        "measure-curve",
        settings=[f"devices={devices}", f"cycles={cycles}", "pulses=60", "start_tolerance=0.03"],
        bench_settings=[f"chip.{kind}={curve}", f"chip.step_spread={spread}", "chip.rows=6", "chip.cols=6"],
        seed=seed,
    )
    path, error = launch.launch(prepare(asked), folder)
    assert error is None
    return path


def _result(path: Path) -> dict[str, Any]:
    with RunFile.open(path) as file:
        assert file.result is not None
        return file.result


def worst_z(made: Made) -> float:
    """Largest difference of the two mean trains, in standard errors of both together.

    The error of a mean comes from the scatter between devices where there are several, else between cycles.
    """
    worst = 0.0
    for sign in (1, -1):
        means, errors = [], []
        for result in (made.first, made.second):
            trains = result["train_conductance_s"][result["train_direction"] == sign]
            cells = result["train_cell"][result["train_direction"] == sign]
            several = len(np.unique(cells, axis=0)) > 1
            groups = [trains[(cells == c).all(axis=1)].mean(axis=0) for c in np.unique(cells, axis=0)]
            samples = np.array(groups) if several else trains
            means.append(samples.mean(axis=0))
            errors.append(samples.std(axis=0, ddof=1) / len(samples) ** 0.5)
        worst = max(worst, float(np.max(np.abs(means[1] - means[0]) / np.hypot(*errors))))
    return worst


@pytest.fixture
def known(tmp_path: Path) -> Path:
    card = tmp_path / "known.toml"
    card.write_text(KNOWN)
    return card


# 122 correlated points per loop; 4.5 standard errors, estimated from 24 samples (Student t), are passed by chance in
# less than 122 x 1.6e-4 = 2 % of loops, and the seeds are fixed.
BOUND = 4.5


def test_a_chip_of_known_parameters_comes_back(known: Path, tmp_path: Path) -> None:
    made = loop(tmp_path / "loop", known, 1, 24, 0.0)
    assert worst_z(made) < BOUND
    noise, steps = made.card.noise, 24 * (60 + 60)
    # 2880 steps tell the variance of a residual to 2.6 %; taking 2 read variances from 1 + 2 x 0.28 of step
    # variance leaves the step noise to about 3 %, and the covariance leaves the read noise to about 6 %.
    assert steps == 2880
    assert noise.step_sigma_s == pytest.approx(STEP_S, rel=0.12)
    assert noise.read_sigma_s == pytest.approx(READ_S, rel=0.2), "of one read: points are means of both polarities"
    assert made.card.write_current is not None
    assert made.card.write_current.law == "sinh"
    assert made.card.write_current.v0_v == pytest.approx(V0_V, rel=0.02)
    assert [(c.direction, c.amplitude_v, c.width_s) for c in made.card.curve] == [
        ("potentiate", 1.2, 1e-6), ("depress", -1.1, 2e-6)
    ]  # fmt: skip
    up, down = (np.array(c.in_pulse_a) for c in made.card.curve)
    assert up.shape == down.shape == (60,)
    assert (np.diff(up) > 0).mean() > 0.9
    assert (np.diff(down) < 0).mean() > 0.9


def test_the_test_of_the_loop_sees_a_step_that_is_wrong_by_a_tenth(known: Path, tmp_path: Path) -> None:
    assert worst_z(loop(tmp_path / "loop", known, 1, 24, 0.0, change=0.9)) > 2 * BOUND


def test_devices_of_a_spread_come_back_as_a_card_with_that_spread(known: Path, tmp_path: Path) -> None:
    made = loop(tmp_path / "loop", known, 18, 4, 0.2)
    assert worst_z(made) < BOUND
    # a standard deviation from 18 devices: +- 17 % (one sigma)
    assert made.card.spread.step_lognormal == pytest.approx(0.2, rel=0.5)
    assert "on 18 devices" in made.report


@pytest.mark.parametrize("model", ["idealized", "ag-a-si"])
def test_a_device_of_the_library_comes_back(model: str, tmp_path: Path) -> None:
    made = loop(tmp_path / "loop", model, 1, 24, 0.0)
    assert worst_z(made) < BOUND
    assert made.card.write_current is None
    assert "not measured" in made.report


# ---------------------------------------------------------------------------------------------- what the card says


def test_what_was_simulated_never_passes_as_measured(known: Path, tmp_path: Path) -> None:
    made = loop(tmp_path / "loop", known, 1, 2, 0.0)
    card, origin = made.card, made.card.origin
    assert origin is not None
    assert (origin.simulated, card.simulated, origin.devices, origin.cycles) == (True, True, 1, 2)
    assert origin.chip_id == "emulated-5"
    assert origin.run.endswith("measure-curve-s5")
    for text in (card.title, card.notes, card.source, made.report):
        assert "SIMULATED" in text
    guard = open_bench(load_bench("emulator", {"chip.curve": tmp_path / "loop" / "card.toml"}))
    assert "measured" not in guard.span.origin
    assert "simulated" in guard.span.origin
    guard.close()
    pytest.importorskip("matplotlib")
    figure: Any = curves.curve_figure(card)
    assert "SIMULATED" in figure.get_suptitle()


def test_a_card_of_a_run_says_how_it_was_read(tmp_path: Path) -> None:
    asked = request(
        "measure-curve", settings=["delay_s=2.5", "read_v=0.05", "pulses=8", "cycles=2", "integration_s=0.01"]
    )
    path, error = launch.launch(prepare(asked), tmp_path)
    assert error is None
    report = curves.card_from(path, tmp_path / "c.toml", name="mine", source="a paper about it")
    card = load_card(tmp_path / "c.toml")
    assert report["device"] == card.name == "mine"
    assert card.read.voltage_v == 0.05
    assert card.read.delay_s == pytest.approx(2.5)
    assert card.read.period_s == pytest.approx(2.5 + 2 * 0.01, rel=1e-3)
    assert card.source == "a paper about it"
    assert card.title.startswith("SIMULATED")


def test_what_cannot_become_a_card_is_refused(tmp_path: Path) -> None:
    path, _ = launch.launch(prepare(request("read-all")), tmp_path)
    with pytest.raises(UsageError, match="run of read-all; a curve is made from a run of measure-curve"):
        curves.card_from(path, tmp_path / "c.toml")
    path, _ = launch.launch(prepare(request("measure-curve", settings=["pulses=5", "cycles=1"])), tmp_path)
    with pytest.raises(UsageError, match="declare only --name and --source"):
        curves.card_from(path, tmp_path / "c.toml", amplitude_v=2.0)
    stuck = request("measure-curve", bench_settings=["chip.stuck_fraction=1.0"])
    path, _ = launch.launch(prepare(stuck), tmp_path)
    with pytest.raises(UsageError, match="no train in it moved a device"):
        curves.card_from(path, tmp_path / "c.toml")
    assert not (tmp_path / "c.toml").exists()
