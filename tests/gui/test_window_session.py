"""The window's session on a real engine with the emulator: what the operator asks, what becomes of it, what is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PySide6")
pytest.importorskip("pytestqt")

from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState

from neurobench.bench.config import load_bench
from neurobench.errors import UsageError
from neurobench.runs.request import Request
from neurobench.runs.runfile import RunFile

LONG = Request("manhattan", settings={"task": "letters", "max_updates": 100_000, "target": 0.999, "goal": "activation",
                                      "preflight": False})  # fmt: skip
SHORT = Request("read-all")


REAL = """
[bench]
backend = "fpga"
name = "lab"
[chip]
id = "A17"
rows = 4
cols = 4
[limits]
max_cell_v = 1.5
max_read_v = 0.3
max_width_s = 1e-3
compliance_a = 1e-4
[board]
url = "/dev/does-not-exist"
"""


@pytest.fixture
def session(qt: str, qtbot: Any, tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path)
    made.heard = []  # type: ignore[attr-defined]
    made.said.connect(lambda level, words: made.heard.append((level, words)))  # type: ignore[attr-defined]
    yield made
    ended: list[bool] = []
    made.close_all(lambda: ended.append(True))
    qtbot.waitUntil(lambda: bool(ended), timeout=20_000)
    made.shutdown()


def words(session: Session) -> str:
    return " | ".join(text for _, text in session.heard)  # type: ignore[attr-defined]


def until(qtbot: Any, session: Session, state: BenchState) -> None:
    qtbot.waitUntil(lambda: session.state is state, timeout=30_000)


def connected(qtbot: Any, session: Session) -> None:
    assert session.connect_bench("emulator", {"chip.rows": 10, "chip.cols": 6})
    until(qtbot, session, BenchState.READY)


def test_a_run_from_start_to_end_is_shown_and_labelled_from_its_file(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    assert session.start(SHORT)
    assert session.state is BenchState.STARTING
    qtbot.waitUntil(lambda: session.snapshot is not None and session.snapshot.status == "finished", timeout=30_000)
    until(qtbot, session, BenchState.READY)
    snapshot = session.snapshot
    assert snapshot is not None
    assert (snapshot.about.protocol, snapshot.about.simulated) == ("read-all", True)
    assert session.outputs["on"] is False
    # another bench in the form relabels nothing
    assert session.connect_bench("emulator", {"chip.rows": 4, "chip.cols": 4})
    assert session.snapshot is snapshot


def test_pause_resume_stop(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    session.start(LONG)
    until(qtbot, session, BenchState.RUNNING)
    assert session.pause()
    until(qtbot, session, BenchState.PAUSED)
    assert session.resume()
    until(qtbot, session, BenchState.RUNNING)
    assert session.stop()
    until(qtbot, session, BenchState.READY)
    assert session.run_path is not None
    with RunFile.open(session.run_path) as run:
        assert run.manifest["stopped"] is True


def test_an_abort_ends_in_a_file_that_says_so(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    session.start(LONG)
    until(qtbot, session, BenchState.RUNNING)
    assert session.abort()
    assert session.state is BenchState.ABORTING
    until(qtbot, session, BenchState.READY)
    assert session.run_path is not None
    with RunFile.open(session.run_path) as run:
        assert run.status == "aborted"


def test_an_abort_before_the_run_has_begun_is_not_lost(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    session.start(LONG)
    assert session.state is BenchState.STARTING
    assert session.abort()
    until(qtbot, session, BenchState.READY)
    assert "nothing was fired" in words(session)
    assert list(session.runs_folder.glob("*.nbr*")) == [], "it never began"


def test_a_second_abort_ends_the_engine_itself(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    session.start(LONG)
    until(qtbot, session, BenchState.RUNNING)
    session.abort()
    if session.state is BenchState.ABORTING:
        session.abort()
        assert "HARD OFF" in words(session)
    qtbot.waitUntil(lambda: session.state in (BenchState.READY, BenchState.FAULT), timeout=30_000)
    if session.state is BenchState.FAULT:
        assert session.acknowledge()
        until(qtbot, session, BenchState.READY)


def test_what_cannot_be_done_is_refused_with_words(session: Session, qtbot: Any, tmp_path: Path) -> None:
    assert not session.start(SHORT)
    assert "no bench is connected" in words(session)
    assert not session.pause()
    assert not session.abort()
    assert not session.open_run(tmp_path / "none.nbr")
    assert not session.show_at(3)
    assert not session.connect_bench("no-such-bench")
    connected(qtbot, session)
    assert not session.acknowledge()
    assert not session.start_queue()
    assert len(session.heard) == 8  # type: ignore[attr-defined]
    assert session.start(Request("manhattan", settings={"target": 3.0}))
    until(qtbot, session, BenchState.READY)
    assert "target" in words(session)


def test_one_run_at_a_time(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    session.start(LONG)
    assert not session.start(SHORT)
    assert "a run is going on already" in words(session)
    assert not session.connect_bench("visa-sim")


def test_the_queue_runs_one_after_another(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    for seed in (1, 2):
        session.enqueue(Request("read-all", seed=seed))
    assert session.start_queue()
    qtbot.waitUntil(lambda: [one.status for one in session.queue] == ["finished"] * 2, timeout=40_000)
    seeds = []
    for path in sorted(session.runs_folder.glob("*.nbr")):
        with RunFile.open(path) as run:
            seeds.append(run.value("seed"))
    assert sorted(seeds) == [1, 2]


def test_an_old_run_is_shown_at_any_step(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    session.start(Request("manhattan", settings={"task": "letters", "max_updates": 5}))
    qtbot.waitUntil(lambda: session.snapshot is not None and not session.snapshot.live, timeout=40_000)
    until(qtbot, session, BenchState.READY)
    newest = session.snapshot
    assert newest is not None
    assert session.run_path is not None
    assert session.open_run(session.run_path)
    assert session.show_at(newest.last_seq // 2)
    middle = newest.last_seq // 2
    qtbot.waitUntil(lambda: session.snapshot is not None and session.snapshot.seq == middle, timeout=10_000)
    shown = session.snapshot
    assert shown is not None
    assert shown.energy.pulses <= newest.energy.pulses


def test_a_bench_that_does_not_answer_is_not_connected(session: Session, qtbot: Any, tmp_path: Path) -> None:
    bench = tmp_path / "lab.toml"
    bench.write_text(REAL)
    if session.connect_bench(str(bench)):
        until(qtbot, session, BenchState.DISCONNECTED)
    assert session.heard  # type: ignore[attr-defined]
    assert not session.start(SHORT)


def test_a_run_on_another_bench_than_the_confirmed_one_is_refused(session: Session, qtbot: Any, tmp_path: Path) -> None:
    """The queue and `run again` name their own benches: a real one must be the one whose limits were confirmed."""
    bench = tmp_path / "lab.toml"
    bench.write_text(REAL)
    connected(qtbot, session)
    assert session.start(Request("read-all", bench=str(bench)))
    until(qtbot, session, BenchState.READY)
    assert "connect that bench" in words(session)
    assert not list(session.runs_folder.glob("*.nbr"))
    asked = load_bench(str(bench))
    session.bench, session.confirmed = asked, True
    with pytest.raises(UsageError, match="limits of its own"):  # other limits than those that were confirmed
        session._check_confirmed(load_bench(str(bench), {"limits.max_cell_v": 1.9}))
    wired = {"instruments.matrix.model": "keithley-707b", "instruments.wiring.pulse_row": 4}
    with pytest.raises(UsageError, match="instruments of its own"):  # volts would come out somewhere else
        session._check_confirmed(load_bench(str(bench), wired))
    session._check_confirmed(asked)
