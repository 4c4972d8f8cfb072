"""form: its own limits, the operator's word, the ramp's ends, and what the passport says afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.protocols.form import Form
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.passport import CellState, Passport
from neurobench.bench.steps import CELL_STATE, Apply, Checkpoint, Note, Result, Sense
from neurobench.errors import CapabilityMissing, ConfigError, LimitExceeded, Refused, UsageError
from neurobench.runs import launch, library, preview, replay, runner
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import MemoryRecord, RunFile

RAMP: dict[str, Any] = {"stop_v": 1.4, "stop_current_a": 1e-3, "stop_conductance_s": 4e-5}
SETTINGS = [f"{name}={value}" for name, value in RAMP.items()]


def opened(seed: int = 0, settings: dict[str, Any] | None = None, **parameters: Any) -> tuple[Form, Guard]:
    protocol = Form(**{"confirm_chip_id": f"emulated-{seed}", **RAMP, **parameters})
    return protocol, open_bench(load_bench("emulator", settings or {}, protocol.bench_defaults()), seed, "forming")


def formed(seed: int = 0, settings: dict[str, Any] | None = None, **parameters: Any) -> tuple[Result, Guard]:
    protocol, guard = opened(seed, settings, **parameters)
    outcome = runner.run(protocol, guard, seed=seed, record=MemoryRecord())
    guard.close()
    assert outcome.error is None
    assert outcome.result is not None
    return Result(outcome.status == "finished", outcome.result), guard


# ---------------------------------------------------------------------------------------------- the operator's word


@pytest.mark.parametrize("typed", ["", "emulated-1", "EMULATED-0", "emulated-0 "])
def test_without_the_chips_id_nothing_is_done(typed: str) -> None:
    protocol, guard = opened(confirm_chip_id=typed)
    before = guard.snapshot()
    with pytest.raises(Refused, match=r"the chip on this bench is 'emulated-0'.*--set confirm_chip_id=emulated-0"):
        runner.run(protocol, guard, seed=0, record=MemoryRecord())
    with pytest.raises(Refused, match="cannot be undone"):
        next(protocol.steps(guard.view(), np.random.default_rng(0)))
    assert guard.snapshot() == before
    assert not guard.passport.run_open
    guard.close()


def test_the_command_line_says_what_to_type_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="confirm_chip_id=emulated-0") as caught:
        launch.launch(prepare(request("form", settings=SETTINGS)), tmp_path)
    assert caught.value.exit_code == 3
    assert not list(tmp_path.glob("*.nbr"))
    confirmed = prepare(request("form", settings=[*SETTINGS, "confirm_chip_id=emulated-0"]))
    path, error = launch.launch(confirmed, tmp_path)
    assert error is None
    assert library.exit_code(path) == 0
    assert preview.preview(confirmed.request)["max_pulse_v"] <= 1.4


# ---------------------------------------------------------------------------------------------- limits of its own


def bench_file(folder: Path, forming: str, limits: str = "max_cell_v = 1.0") -> Path:
    """A bench whose usual limits are too low to form with."""
    text = f"""
        [bench]
        name = "lab"
        [chip]
        id = "A7"
        file = "A7.chip"
        model = "al2o3-tio2-nili"
        seed = 0
        [limits]
        {limits}
        max_read_v = 0.3
        {forming}
    """
    path = folder / "lab.toml"
    path.write_text("\n".join(line.strip() for line in text.splitlines()))
    return path


def test_limits_of_forming_hold_while_forming_and_at_no_other_time(tmp_path: Path) -> None:
    config = load_bench(bench_file(tmp_path, "[limits.forming]\nmax_cell_v = 1.2\nmax_pulses_per_cell = 40"))
    usual = open_bench(config)
    assert (usual.limits.max_cell_v, usual.limits.max_pulses_per_cell) == (1.0, None)
    usual.close()
    protocol = Form(confirm_chip_id="A7", **RAMP | {"stop_v": 1.2}, attempts=2)
    guard = open_bench(config, 0, protocol.limits_profile)
    assert guard.limits.max_cell_v == 1.2
    assert guard.limits.max_read_v == 0.3, "what the profile does not say is as in [limits]"
    outcome = runner.run(protocol, guard, seed=0, record=MemoryRecord())
    assert outcome.error is None
    assert outcome.pulses == 16
    guard.close()
    guard = open_bench(config, 0, "forming")
    beyond = protocol.model_copy(update={"stop_v": 1.3, "cells": ((3, 3),)})
    outcome = runner.run(beyond, guard, seed=0, record=MemoryRecord())
    assert isinstance(outcome.error, LimitExceeded)
    assert "exceeds max_cell_v = 1.2 (bench lab, limits.forming.max_cell_v)" in str(outcome.error)
    guard.close()


def test_a_bench_without_the_profile_does_not_form(tmp_path: Path) -> None:
    real = bench_file(tmp_path, "").read_text().replace('name = "lab"', 'name = "lab"\nbackend = "visa"')
    (tmp_path / "lab.toml").write_text(real.replace("max_read_v = 0.3", "max_read_v = 0.3\nmax_width_s = 1e-3"))
    config = load_bench(tmp_path / "lab.toml")
    with pytest.raises(Refused, match=r"bench lab: this protocol .* has no \[limits.forming\]: add that table"):
        open_bench(config, 0, "forming")


def test_a_profile_is_checked_like_limits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_cellv.*did you mean max_cell_v"):
        load_bench(bench_file(tmp_path, "[limits.forming]\nmax_cellv = 2"))
    with pytest.raises(ConfigError, match="limits.forming.*max_read_v = 0.3 exceeds max_cell_v = 0.2"):
        load_bench(bench_file(tmp_path, "[limits.forming]\nmax_cell_v = 0.2"))
    config = load_bench(bench_file(tmp_path, ""), {"limits.forming.max_cell_v": 1.1})
    assert config.limits.profile("forming").max_cell_v == 1.1
    again = type(config).model_validate(config.model_dump(mode="json"))
    assert again == config, "as it goes to the engine and into the record"


def test_each_protocol_runs_under_its_own_limits_only() -> None:
    protocol, guard = opened()
    with pytest.raises(UsageError, match="Manhattan runs under the limits 'of every run', the bench was opened under"):
        runner.run(Manhattan(), guard, seed=0, record=MemoryRecord())
    guard.close()
    guard = open_bench(load_bench("emulator", {}, protocol.bench_defaults()))
    with pytest.raises(UsageError, match="Form runs under the limits 'forming'"):
        runner.run(protocol, guard, seed=0, record=MemoryRecord())
    guard.close()


# ---------------------------------------------------------------------------------------------- the ramp


def test_the_ramp_rises_by_its_step_and_ends_at_the_conductance() -> None:
    found, _ = formed(cells=((1, 2),), step_v=0.2, stop_v=1.55)
    values = found.values
    assert values["pulse_amplitude_v"].tolist() == [0.5, 0.7, 0.9, 1.1, 1.3, 1.5]
    assert found.reached
    assert values["cell_why"] == ["stop_conductance_s"]
    assert values["pulse_conductance_s"][-1] >= 4e-5 > values["pulse_conductance_s"][:-1].max()
    assert (np.diff(values["pulse_current_a"]) > 0).all()


def test_the_current_ends_the_ramp_and_another_attempt_begins_below() -> None:
    found, guard = formed(stop_current_a=5e-5, attempts=3, cells=((0, 0),))
    values = found.values
    assert values["cell_attempts"].tolist() == [3]
    for attempt in (1, 2, 3):
        current_a = values["pulse_current_a"][values["pulse_attempt"] == attempt]
        assert current_a[-1] >= 5e-5
        assert (current_a[:-1] < 5e-5).all()
    assert values["cell_why"] == ["stop_current_a"]
    assert not found.reached
    assert values["not_formed"] == [[0, 0]]
    assert guard.passport.cell_state[0, 0] == CellState.VIRGIN
    assert values["cell_amplitude_v"][0] < 1.4


def test_no_ramp_goes_beyond_its_volts_or_the_chips_budget() -> None:
    found, _ = formed(stop_v=0.9, attempts=2)
    assert found.values["pulse_amplitude_v"].max() == 0.9
    assert found.values["cell_why"] == ["stop_v"]
    found, _ = formed(stop_v=0.9, attempts=5, settings={"limits.max_pulses_per_cell": 7})
    assert found.values["cell_pulses"].tolist() == [7]
    assert found.values["cell_why"] == ["budget"]


def test_a_bench_without_an_ammeter_in_the_pulse_path_does_not_form() -> None:
    with pytest.raises(CapabilityMissing, match="measurement of the current while pulsing"):
        formed(settings={"chip.model": "ag-a-si"})


@pytest.mark.parametrize("wrong", [{"stop_v": 0.4}, {"step_v": 1e-7}, {"stop_current_a": 0.0}])
def test_a_ramp_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"stop_v|step_v|stop_current_a"):
        Form(**RAMP | wrong)


# ---------------------------------------------------------------------------------------------- the passport


def kept(path: Path) -> Passport:
    passport = Passport.open(path, "", (4, 4))
    passport.release()
    return passport


def test_what_was_formed_stands_in_the_passport(tmp_path: Path) -> None:
    bench = bench_file(tmp_path, "[limits.forming]\nmax_cell_v = 1.5")
    settings = [*SETTINGS, "confirm_chip_id=A7", "cells=[[0, 0], [2, 3]]"]
    path, error = launch.launch(prepare(request("form", bench=bench, settings=settings)), tmp_path)
    assert error is None
    passport = kept(tmp_path / "A7.chip.passport")
    log = passport.about["forming_log"]
    assert [entry["cell"] for entry in log] == [[0, 0], [2, 3]]
    assert {entry["run"] for entry in log} == {str(path)}
    assert all(entry["formed"] and entry["width_s"] == 5e-4 for entry in log)
    with RunFile.open(path) as file:
        assert file.result is not None
        assert [entry["pulses"] for entry in log] == file.result["cell_pulses"].tolist()
    assert passport.cell_state[0, 0] == passport.cell_state[2, 3] == CellState.FORMED
    # once more: they are formed already, so nothing is pulsed and nothing logged
    path, error = launch.launch(prepare(request("form", bench=bench, settings=settings)), tmp_path)
    assert error is None
    assert library.report(path)["pulses"] == 0
    assert kept(tmp_path / "A7.chip.passport").about["forming_log"] == log


def test_cells_that_do_not_form_are_retired_where_that_was_asked_for() -> None:
    settings = {"chip.stuck_fraction": 0.5, "chip.seed": 4}
    found, guard = formed(4, settings, devices=16, retire=True)
    failed = found.values["not_formed"]
    assert 0 < len(failed) < 16
    assert np.argwhere(guard.passport.cell_state == CellState.RETIRED).tolist() == failed
    assert found.values["yield"] == 1 - len(failed) / 16
    found, guard = formed(4, settings, devices=16)
    assert not (guard.passport.cell_state == CellState.RETIRED).any()


def test_marking_twice_is_marking_once_and_nonsense_is_refused() -> None:
    passport = Passport("A7", (2, 2))
    said = {"state": "formed", "cells": [[0, 1]], "log": [{"cell": [0, 1], "amplitude_v": 3.2}]}
    for _ in range(2):
        passport.mark(said)
    assert len(passport.about["forming_log"]) == 1
    for wrong in ({}, {"state": "happy", "cells": []}, {"state": "formed", "cells": [[2, 0]]}, "formed", None):
        with pytest.raises(UsageError):
            passport.mark(wrong)


# ---------------------------------------------------------------------------------------------- crash and resume


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_run_that_was_cut_off_books_the_cells_that_it_had_formed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    bench = bench_file(tmp_path, "[limits.forming]\nmax_cell_v = 1.5")
    settings = [*SETTINGS, "confirm_chip_id=A7", "devices=4", "retire=true", "stop_v=1.2"]
    whole = tmp_path / "whole"
    whole.mkdir()
    path, _ = launch.launch(prepare(request("form", bench=bench_file(whole, "[limits.forming]\nmax_cell_v = 1.5"),
                                            settings=settings)), tmp_path)  # fmt: skip
    expected = kept(whole / "A7.chip.passport")
    marks = 0
    mark = Guard.mark_cells

    def dying(self: Guard, said: Any) -> None:
        nonlocal marks
        marks += 1
        if marks == cut:
            raise KeyboardInterrupt
        mark(self, said)

    monkeypatch.setattr(Guard, "mark_cells", dying)
    path, error = launch.launch(prepare(request("form", bench=bench, settings=settings)), tmp_path)
    assert error is not None
    monkeypatch.undo()
    assert launch.resume(path) is None
    found = kept(tmp_path / "A7.chip.passport")
    assert found.cell_state.tolist() == expected.cell_state.tolist()
    names = ("cell", "formed", "pulses", "amplitude_v", "current_a")
    logs = [[{name: entry[name] for name in names} for entry in one.about["forming_log"]] for one in (found, expected)]
    assert logs[0] == logs[1]
    assert found.life.pulses.tolist() == expected.life.pulses.tolist()


def test_settling_a_crashed_run_books_the_cells_that_it_had_formed(tmp_path: Path) -> None:
    bench = bench_file(tmp_path, "[limits.forming]\nmax_cell_v = 1.5")
    prepared = prepare(request("form", bench=bench, settings=[*SETTINGS, "confirm_chip_id=A7", "devices=3"]))
    path, _ = launch.launch(prepared, tmp_path)
    passport = kept(tmp_path / "A7.chip.passport")
    guard = open_bench(prepared.bench, 0, "forming")
    guard.passport.about, guard.passport.unsettled, guard.passport.run_open = {}, True, True
    guard.passport.cell_state[:] = CellState.VIRGIN
    with RunFile.open(path) as reader:
        replay.settle(guard, reader)
    assert guard.passport.about == passport.about
    assert (guard.passport.cell_state == CellState.FORMED).sum() == 3
    guard.close()


def test_starting_from_any_checkpoint_equals_the_whole_run() -> None:
    protocol, guard = opened(devices=3, attempts=2, stop_v=1.2)
    whole, log = driven(protocol, guard)
    found = [(step, chip) for step, chip in log if isinstance(step, Checkpoint)]
    assert len(found) == 3
    for step, chip in found:
        guard.restore(chip)
        rest, _ = driven(protocol, guard, step.state)
        for name, value in whole.values.items():
            np.testing.assert_array_equal(rest.values[name], value, err_msg=name)
    assert [step.value["state"] for step, _ in log if isinstance(step, Note) and step.name == CELL_STATE] == [
        "formed" if done else "virgin" for done in whole.values["cell_formed"]
    ]
    guard.close()


def driven(protocol: Form, guard: Guard, start: Any = None) -> tuple[Result, list[Any]]:
    """Run on a Guard by hand; keep every step, and the chip at the checkpoints."""
    steps = protocol.steps(guard.view(), np.random.default_rng(0), start)
    answer, log, seq = None, list[Any](), guard.raw._last_seq  # type: ignore[attr-defined]
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
