"""What bars and dialogs say, and what the program says where Qt is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from neurobench.gui import starting
from neurobench.gui.frame import facts
from neurobench.gui.frame.command_palette import score
from neurobench.gui.frame.pulse import Pulse
from neurobench.gui.frame.statusbar import StatusBar
from neurobench.gui.session.reading import RunBench
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState
from PySide6.QtWidgets import QWidget
from snapshots import about, cells, series, snapshot

from neurobench.bench.config import BenchConfig, load_bench
from neurobench.errors import UsageError


def session(**changes: Any) -> Any:
    made = {"bench": load_bench("emulator"), "bench_name": "emulator", "bench_settings": {}, "checked": None,
            "snapshot": None, "run_path": None, "state": BenchState.READY, "chip_id": "", "outputs": {},
            "run_bench": None}  # fmt: skip
    return SimpleNamespace(**made | changes)


def real_bench() -> BenchConfig:
    emulated = load_bench("emulator")
    return emulated.model_copy(update={"bench": emulated.bench.model_copy(update={"backend": "visa"})})


def test_what_nobody_has_read_back_is_unknown_and_never_off() -> None:
    assert facts.outputs_words({})[1] == "UNKNOWN"
    assert facts.outputs_words({"on": None, "how": "link lost"})[1] == "UNKNOWN"
    assert facts.outputs_words({"on": False, "how": "read back", "age_s": 2.0}) == ("○", "OFF", "read back, 2.0 s ago")
    assert facts.outputs_words({"on": True, "how": "commanded"})[1] == "ON"
    ended = {"on": False, "how": "read back", "age_s": 0.07, "at": "2026-01-31T12:00:00.000Z"}
    assert re.fullmatch(r"read back, when the run ended at 2026-\d\d-\d\d \d\d:\d0:00", facts.outputs_words(ended)[2])


def test_the_origin_of_the_data_is_that_of_what_is_shown_and_the_bench_speaks_for_itself() -> None:
    assert facts.origin(session()).badge() == "SIMULATED"
    assert facts.origin(session(bench=real_bench())).badge() == ""
    assert facts.origin(session(bench=real_bench())).words() == "no data; the bench is REAL"
    assert facts.origin(session(bench=None)).words() == "no data"
    measured = snapshot(about=about(simulated=False))
    live = facts.origin(session(snapshot=measured))
    assert (live.badge(), live.words()) == ("", "measured data"), "a real run goes on, whatever bench the form names"


def test_where_data_and_bench_differ_both_are_said() -> None:
    measured = snapshot(about=about(simulated=False), live=False)
    old = facts.origin(session(snapshot=measured))
    assert old.badge() == "MEASURED data\nSIMULATED bench"
    assert old.words() == "measured data; but the bench is simulated"
    assert facts.origin(session(snapshot=measured, bench=None)).words() == "measured data"
    emulated = facts.origin(session(bench=real_bench(), snapshot=snapshot(live=False)))
    assert emulated.badge() == "SIMULATED data\nREAL bench"
    assert emulated.words() == "simulated data: NO HARDWARE; but the bench is REAL"
    beside = session(
        snapshot=measured, state=BenchState.RUNNING, bench=real_bench(), run_bench=RunBench(simulated=True)
    )
    assert facts.origin(beside).badge() == "MEASURED data\nSIMULATED bench", "an old run is looked at meanwhile"


def test_the_life_of_another_chip_is_not_said_of_this_one() -> None:
    worn = snapshot(about=about(bench="emulator", pulses_used=np.full((4, 4), 500),
                                pulses_allowed=np.full((4, 4), 1000.0)), live=False)  # fmt: skip
    assert "life used" not in facts.life_words(session(snapshot=worn, chip_id="another"))
    assert "life used" in facts.life_words(session(snapshot=worn, chip_id=worn.about.chip_id))


def test_the_bar_names_the_run_that_goes_on_and_not_the_form() -> None:
    going = snapshot(about=about(shape=(2, 3), bench="hp-lab", backend="visa", chip_id="A17"), cells=cells((2, 3)))
    assert facts.bench_words(session(snapshot=going))[0] == "hp-lab (visa) | A17"
    assert facts.bench_words(session(chip_id="B2"))[0] == "emulator | B2"
    assert facts.bench_words(session(bench=None)) == ("no bench", "Ctrl+2 connects one")


def test_polarity_and_lifetime() -> None:
    bench = load_bench("emulator", {"chip.potentiating_sign": -1})
    assert facts.polarity(bench) == "-V raises G"
    worn = snapshot(about=about(pulses_used=np.full((4, 4), 500), pulses_allowed=np.full((4, 4), 1000.0)),
                    cells=cells(ups=np.zeros((4, 4), np.int64), downs=np.zeros((4, 4), np.int64)))  # fmt: skip
    assert facts.life_used(worn) == 0.5
    assert "life used 50%" in facts.bench_words(session(snapshot=worn))[1]
    assert facts.life_used(snapshot(about=about(pulses_allowed=np.full((4, 4), np.inf)))) is None


def test_limits_in_short() -> None:
    bench = load_bench("emulator", {"limits.compliance_a": 1e-4, "limits.max_cell_v": 2.0, "limits.max_width_s": 0.05})
    assert facts.limits_words(bench) == ("|V| ≤ 2 V  read ≤ 500 mV", "I ≤ 100 µA  W ≤ 50 ms")
    assert facts.limits_words(None)[0] == "no limits"


def test_progress_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts.progress(None) is None
    assert facts.progress(snapshot(seq=10)) == facts.Progress(10, 0, "step")
    run = snapshot(progress={"error": series(0.5, 0.4, 0.3)})
    now = facts.progress(run)
    assert now == facts.Progress(3, 48, "epoch")
    clock = iter([100.0, 102.0])
    pace = facts.Pace()
    assert now is not None
    with monkeypatch.context() as patch:
        patch.setattr(facts.time, "monotonic", lambda: next(clock))
        assert pace.left_s(run, now) is None, "one look says nothing"
        assert pace.left_s(run, replace(now, done=5)) == pytest.approx(2.0 / 2 * 43)
    assert now.words() == "epoch 3/48"


def test_a_clock_and_bytes() -> None:
    assert [facts.clock(s) for s in (0, 92, 3700)] == ["00:00", "01:32", "1:01:40"]
    assert [facts.size_words(n) for n in (12, 4100, 4.1e6, 7e9)] == ["12 B", "4.1 kB", "4.1 MB", "7 GB"]


def test_the_file_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "a.nbr"
    path.write_bytes(b"x" * 3000)
    path.with_name("a.nbr-wal").write_bytes(b"x" * 1000)
    at = path.with_name("a.nbr-wal").stat().st_mtime
    assert facts.file_words(session(run_path=path)) == "a.nbr  4 kB"
    live = session(run_path=path, state=BenchState.RUNNING)
    assert facts.file_words(live, at + 0.3) == "a.nbr  4 kB, flushed 0.3 s ago"
    assert facts.file_words(live, at - 3600).endswith("flushed 0.0 s ago"), "the clock was set back"
    assert "gone" in facts.file_words(session(run_path=tmp_path / "b.nbr"))


def test_a_few_letters_find_a_command() -> None:
    assert score("thda", "View Theme: dark") is not None
    assert score("zz", "View Theme: dark") is None
    assert score("theme", "View Theme: dark") < score("tme", "View Theme: dark")  # type: ignore[operator]


# ---------------------------------------------------------------------------------------------- where Qt is missing


def test_a_missing_extra_and_a_missing_library_are_told_with_their_cure(checkout: Path) -> None:
    assert "pip install 'neurobench-hil[gui]'" in starting.words_of("No module named 'PySide6'")
    words = starting.words_of("libEGL.so.1: cannot open shared object file")
    assert "sudo apt-get install libegl1" in words
    assert (checkout / ".ci" / "qt-packages").read_text().strip() == starting.PACKAGES


def test_without_a_display_the_window_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qt: str) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(starting.sys, "platform", "linux")
    with pytest.raises(UsageError, match="no display"):
        starting.main(None, "emulator", None, None, tmp_path)


def test_whose_data_is_shown_is_said_with_the_first_of_it(window_app: Any, qtbot: Any, tmp_path: Path) -> None:
    shown, parent = Session(tmp_path), QWidget()
    qtbot.addWidget(parent)
    bar = StatusBar(shown, Pulse(shown, tuple, parent), parent)
    bar.stop()  # it does not wait for its second
    assert bar.origin.text().startswith("no data")
    shown.snapshot = snapshot()
    shown.snapshot_changed.emit()
    assert bar.origin.text().startswith("simulated data")
    shown.shutdown()
