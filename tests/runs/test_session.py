"""Sessions: what a script does on a bench is guarded, recorded and ends at rest."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurobench.bench.crossbar import Applied, Reading
from neurobench.bench.steps import Apply, Sense, Step
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch
from neurobench.errors import LimitExceeded, Refused, ResumeRefused, UsageError
from neurobench.runs import launch
from neurobench.runs.runfile import RunFile
from neurobench.runs.session import session

PULSE = Pulse(1.0, 1e-3)


def read_all(shape: tuple[int, int], volts: float = 0.1) -> Generator[Step, Any, Reading]:
    reading: Reading = yield Sense(CellRead(np.ones(shape, np.bool_), volts))
    return reading


def potentiate(shape: tuple[int, int], pulse: Pulse) -> Generator[Step, Any, Applied]:
    applied: Applied = yield Apply(PulseBatch(np.ones(shape, np.int8), pulse))
    return applied


def pulse_of(view: Any) -> Pulse:
    assert view.device.pulse is not None
    return view.device.pulse  # type: ignore[no-any-return]


@pytest.mark.parametrize("bench", ["emulator", "visa-sim", "fpga-sim"])
def test_a_script_reads_and_pulses_and_all_of_it_is_in_the_run_file(bench: str, tmp_path: Path) -> None:
    with session(bench, out=tmp_path, seed=3) as script:
        before = script.do(read_all((4, 4))).signed_a()
        applied = script.do(potentiate((4, 4), pulse_of(script.view)))
        after = script.do(read_all((4, 4))).signed_a()
        script.note("remark", "after one pulse each")
    assert applied.pulses == 16
    assert (after > before).mean() > 0.6
    with RunFile.open(script.path) as run:
        assert run.status == "finished"
        assert run.manifest["pulses"] == 16
        assert [row.kind for row in run.entries()] == ["sense", "apply", "sense"]
        assert [note.value for note in run.notes("remark")] == ["after one pulse each"]


def test_a_refused_step_fires_nothing_and_leaves_the_session_usable(tmp_path: Path) -> None:
    with session(out=tmp_path) as script:
        with pytest.raises(LimitExceeded, match="max_cell_v"):
            script.do(potentiate((4, 4), Pulse(9.0, 1e-3)))
        assert script.do(read_all((4, 4))).currents_a.shape == (2, 16)
    with RunFile.open(script.path) as run:
        assert (run.status, run.manifest["pulses"]) == ("finished", 0)


def test_an_error_of_the_script_is_heard_and_recorded_and_the_bench_rests(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), session(out=tmp_path) as script:
        script.do(read_all((4, 4)))
        raise ZeroDivisionError("of the script")
    with RunFile.open(script.path) as run:
        assert run.status == "fault"
        assert "of the script" in run.value("error")


def broken() -> Generator[Step, Any, None]:
    yield Sense(CellRead(np.ones((4, 4), np.bool_), 0.1))
    raise RuntimeError("in the middle")


def test_a_session_that_broke_does_nothing_more(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has ended: in the middle"), session(out=tmp_path) as script:
        with pytest.raises(RuntimeError, match="in the middle"):
            script.do(broken())
        script.do(read_all((4, 4)))


def test_a_slip_of_the_pen_ends_no_session_and_a_closed_one_says_so(tmp_path: Path) -> None:
    with session(out=tmp_path) as script:
        with pytest.raises(UsageError, match="steps of a generator"):
            script.do(5)  # type: ignore[arg-type]
        script.do(read_all((4, 4)))
    with pytest.raises(UsageError, match="this session has ended: its block is over"):
        script.do(read_all((4, 4)))


def test_a_session_is_not_resumed_and_says_so(tmp_path: Path) -> None:
    with session(out=tmp_path) as script:
        script.do(read_all((4, 4)))
    with pytest.raises(ResumeRefused, match="script's session"):
        launch.resume(script.path)


def test_a_real_chip_has_no_session(tmp_path: Path) -> None:
    bench = tmp_path / "lab.toml"
    bench.write_text(
        '[bench]\nbackend = "fpga"\n[chip]\nid = "one"\nrows = 4\ncols = 4\npotentiating_sign = 1\n'
        'top_electrode = "row"\n'
        '[limits]\nmax_cell_v = 1.0\nmax_read_v = 0.1\nmax_width_s = 1.0\n[board]\nurl = "loop://"\n'
    )
    with pytest.raises(Refused, match="has a real chip"), session(bench, out=tmp_path):
        pytest.fail("it was opened")
    assert not list(tmp_path.glob("*.nbr"))


def test_an_unknown_short_setting_is_named() -> None:
    with pytest.raises(UsageError, match="colour"), session(colour="red"):
        pytest.fail("it was opened")


def test_a_session_that_cannot_begin_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: Any, **__: Any) -> Any:
        raise Refused("the chip waits for another run")

    monkeypatch.setattr("neurobench.runs.session.begin", taken)
    with pytest.raises(Refused, match="another run"), session(out=tmp_path):
        pytest.fail("it began")
    assert not list(tmp_path.iterdir())
