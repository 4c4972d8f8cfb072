"""What goes wrong under the window: faults, engines killed or deaf, files that vanish, and Esc at any moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# tests, also when only this folder is collected
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes import RemoteChip, Toy, remote_chip
from neurobench.gui.session.reading import Link, RunBench, last_words
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState

from neurobench.bench.config import load_bench
from neurobench.errors import UsageError
from neurobench.runs import launch
from neurobench.runs.engine import Engine, Spec, start
from neurobench.runs.request import Request, prepare
from neurobench.runs.runfile import RunFile, RunWriter, end_abandoned

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

S = BenchState
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
TESTS = Path(__file__).resolve().parent.parent
LATE_MS = 30_000
LONG = Request("measure-curve", settings={"pulses": 20000, "cycles": 1, "trains": "potentiate", "stuck_after": 100000,
                                          "noise_reads": 2})  # fmt: skip


@pytest.fixture
def session(qt: str, qtbot: Any, tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path / "runs")
    made.heard = []  # type: ignore[attr-defined]
    made.said.connect(lambda level, words: made.heard.append((level, words)))  # type: ignore[attr-defined]
    yield made
    ended: list[bool] = []
    made.close_all(lambda: ended.append(True))
    qtbot.waitUntil(lambda: bool(ended), timeout=LATE_MS)
    made.shutdown()


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteChip]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    with remote_chip(tmp_path / "chip") as remote:
        yield remote


def words(session: Session) -> str:
    return " | ".join(text for _, text in session.heard)  # type: ignore[attr-defined]


def until(qtbot: Any, session: Session, *states: BenchState) -> None:
    qtbot.waitUntil(lambda: session.state in states, timeout=LATE_MS)


def connected(qtbot: Any, session: Session, bench: str = "emulator") -> None:
    assert session.connect_bench(bench)
    until(qtbot, session, S.READY)


def running(qtbot: Any, session: Session, request: Request = LONG) -> Path:
    assert session.start(request)
    until(qtbot, session, S.RUNNING)
    qtbot.waitUntil(lambda: session.snapshot is not None, timeout=LATE_MS)
    assert session.run_path is not None
    return session.run_path


def engine_of(session: Session) -> Engine:
    assert session._engine is not None
    return session._engine


def status(path: Path) -> str:
    with RunFile.open(path) as run:
        return run.status


# ---------------------------------------------------------------------------------------------- faults


def test_an_engine_killed_from_outside_is_a_fault_until_it_is_acknowledged(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    path = running(qtbot, session)
    os.kill(engine_of(session).pid, signal.SIGKILL)
    until(qtbot, session, S.FAULT)
    assert "crashed" in words(session)
    assert status(path) == "crashed"
    assert not session.start(LONG)
    assert "acknowledge it first" in words(session)
    assert session.outputs["on"] is False, "an emulated chip died with its engine"
    assert session.acknowledge()
    assert session.state is S.READY


def test_the_bench_of_a_killed_engine_is_brought_to_rest_before_the_fault_is_over(session: Session, qtbot: Any) -> None:
    connected(qtbot, session, "visa-sim")
    running(qtbot, session, Request(LONG.protocol, bench="visa-sim", settings=LONG.settings))
    os.kill(engine_of(session).pid, signal.SIGKILL)
    until(qtbot, session, S.FAULT)
    if session.outputs["on"] is not False:
        assert session.acknowledge()
        assert session.state is S.FAULT, "not before the bench is at rest"
        assert not session.acknowledge(), "one at a time"
    else:
        session.acknowledge()
    for _ in range(20):  # the watcher may hold the bench for a moment
        qtbot.waitUntil(lambda: session.state is S.READY or "could not be brought" in words(session), timeout=LATE_MS)
        if session.state is S.READY:
            break
        session.heard.clear()  # type: ignore[attr-defined]
        session.acknowledge()
    assert session.state is S.READY
    assert session.outputs["on"] is False


def on_a_real_bench(session: Session, tmp_path: Path, state: S) -> Path:
    """As if that bench had been connected, and a run of this file were on it."""
    lab, path = tmp_path / "lab.toml", tmp_path / "a.nbr"
    lab.write_text(REAL)
    session.bench, session.bench_name, session.confirmed = load_bench(str(lab)), str(lab), True
    session.run_bench, session.state = RunBench("lab", "fpga", named=str(lab)), state
    return path


def test_an_abort_that_nobody_has_verified_is_a_fault(session: Session, tmp_path: Path) -> None:
    path = on_a_real_bench(session, tmp_path, S.ABORTING)
    session._run_ended(path, {"status": "aborted", "error": "by the operator", "outputs": {"on": None, "how": "lost"}})
    assert session.state is S.FAULT
    assert "nobody has read back" in words(session)
    session.outputs = {"on": False, "how": "read back"}
    assert session.acknowledge()


def test_the_watcher_of_an_engine_that_died_says_how_the_bench_is(
    session: Session, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = on_a_real_bench(session, tmp_path, S.RUNNING)
    with RunWriter.create(path, {}):
        assert last_words(path)["status"] == "crashed", "whoever writes it: its engine has ended, and said no end"
    with monkeypatch.context() as full:
        full.setattr("neurobench.gui.session.reading.free_bytes", lambda _: 1000)
        session._run_ended(path, last_words(path))
    assert "there is no room left" in words(session)
    assert (session.state, session.outputs["on"]) == (S.FAULT, None)
    assert "its watcher brings the bench to rest" in words(session)
    end_abandoned(path, watcher={"rested": True}, outputs={"on": False, "how": "read back"})
    qtbot.waitUntil(lambda: session.outputs["on"] is False, timeout=LATE_MS)
    assert "the watcher has brought the bench to rest: outputs OFF (read back)" in words(session)
    assert session.acknowledge()


def test_nothing_is_known_of_the_outputs_while_a_run_is_being_started(
    session: Session, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_real_bench(session, tmp_path, S.READY)
    session.outputs, asked = {"on": False, "how": "read back"}, threading.Event()

    def refuses(*_: object) -> Engine:
        asked.wait(20)
        raise UsageError("not like this")

    monkeypatch.setattr(session, "_started", refuses)
    assert session.start(Request("read-all", bench=session.bench_name))
    assert session.outputs["on"] is None, "what was read back before says nothing of what begins now"
    asked.set()
    until(qtbot, session, S.READY)
    assert session.outputs["on"] is False, "it was refused: nothing was driven since"


def test_the_fault_of_another_bench_is_not_mended_by_resting_the_one_connected(
    session: Session, qtbot: Any, chip: RemoteChip, tmp_path: Path
) -> None:
    connected(qtbot, session)
    path = tmp_path / "runs" / "a.nbr"
    path.parent.mkdir()
    start(Spec(str(path), "fakes:Toy", Toy(epochs=100_000).model_dump(), chip.config(), 1,
               opener="fakes:open_remote"))  # fmt: skip
    assert session.open_run(path)
    until(qtbot, session, S.RUNNING)
    chip.process.kill()  # its link is lost in the middle of the run
    until(qtbot, session, S.FAULT)
    assert session.outputs["on"] is not False, "an emulator that is connected says nothing about this bench"
    assert not session.acknowledge()
    assert "does not say which bench" in words(session)
    assert session.disconnect_bench()


def test_a_run_file_that_is_deleted_while_it_is_written(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    path = running(qtbot, session)
    engine = engine_of(session)
    path.unlink()
    qtbot.waitUntil(lambda: "is gone, and the run goes on" in words(session), timeout=LATE_MS)
    assert session.abort()
    assert engine.wait(20)
    until(qtbot, session, S.READY, S.FAULT)
    assert "the run ended" in words(session)
    if session.state is S.FAULT:
        assert session.acknowledge()


def test_an_old_run_file_that_is_deleted_while_it_is_shown(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    session.start(Request("read-all"))
    qtbot.waitUntil(lambda: session.snapshot is not None and not session.snapshot.live, timeout=LATE_MS)
    until(qtbot, session, S.READY)
    shown, path = session.snapshot, session.run_path
    assert shown is not None
    assert path is not None
    path.unlink()
    assert session.show_at(0)
    qtbot.waitUntil(lambda: session.snapshot is not shown or "error" in dict(session.heard), timeout=LATE_MS)  # type: ignore[attr-defined]
    assert session.snapshot is not None, "what was read stays in sight"
    assert not session.open_run(path)
    assert "no run file" in words(session)


# ---------------------------------------------------------------------------------------------- going on


def test_an_aborted_run_goes_on_and_can_be_aborted_again(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    settings = {"task": "letters", "max_updates": 100_000, "target": 0.999, "goal": "activation", "preflight": False}
    path = running(qtbot, session, Request("manhattan", settings=settings))
    assert session.abort()
    until(qtbot, session, S.READY)
    assert session.go_on(path)
    assert not session.go_on(path), "one at a time"
    until(qtbot, session, S.RUNNING)
    with RunFile.open(path) as run:
        assert run.value("outputs") is None, "what was read back at the abort is no news of this part"
    assert session.run_path == path
    assert session.abort()
    until(qtbot, session, S.READY, S.FAULT)
    assert session.state is S.READY, words(session)
    with RunFile.open(path) as run:
        assert (run.status, run.value("resumed")) == ("aborted", 1)


def test_a_real_run_goes_on_only_under_the_limits_that_were_confirmed(
    session: Session, qtbot: Any, tmp_path: Path
) -> None:
    lab = tmp_path / "lab.toml"
    lab.write_text(REAL)
    path = tmp_path / "a.nbr"
    asked = Request("read-all", bench=str(lab), bench_settings={"limits.max_cell_v": 1.2})
    RunWriter.create(path, launch.manifest(prepare(asked))).close()
    connected(qtbot, session)
    session.bench, session.confirmed = load_bench(str(lab)), True
    assert session.go_on(path)
    until(qtbot, session, S.READY)
    assert "limits of its own" in words(session)
    session.bench = load_bench("emulator")


# ---------------------------------------------------------------------------------------------- abort, at any moment


def test_esc_between_begin_and_the_first_answer_reaches_the_engine(
    session: Session, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Link, "run", lambda link: link._quit.wait(30))  # the engine has not been asked yet
    connected(qtbot, session)
    path = running(qtbot, session)
    seen: list[int] = []
    session._clock.timeout.connect(lambda: seen.append(1))
    qtbot.waitUntil(lambda: len(seen) > 2, timeout=LATE_MS)
    assert session.state is S.RUNNING, "nothing that nobody said"
    engine = engine_of(session)
    assert session.abort()
    assert engine.wait(20)
    assert status(path) == "aborted"
    link = session._link
    assert link is not None
    link.last_words = {"status": "aborted"}
    link.ended.set()
    until(qtbot, session, S.READY)
    link.stop()


def test_an_esc_that_did_nothing_makes_the_next_one_no_hard_off(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    path = running(qtbot, session)
    session._aborted_at = -1e9
    session.state, state = S.READY, session.state  # as it was a moment before the run
    engine, session._engine = session._engine, None
    assert not session.abort()
    session.state, session._engine = state, engine
    assert session.abort()
    until(qtbot, session, S.READY)
    assert "HARD OFF" not in words(session)
    assert status(path) == "aborted"


def test_a_deaf_engine_is_aborted_as_soon_as_it_hears_again(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    path = running(qtbot, session)
    pid = engine_of(session).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert session.abort()
        qtbot.waitUntil(lambda: "does not answer the abort" in words(session), timeout=LATE_MS)
        assert session.state is S.ABORTING
    finally:
        os.kill(pid, signal.SIGCONT)
    until(qtbot, session, S.READY)
    assert status(path) == "aborted"


def test_a_run_that_goes_on_headless_can_still_be_aborted_here(session: Session, qtbot: Any) -> None:
    connected(qtbot, session)
    session.on_death = "abort"
    path = running(qtbot, session)
    assert session.run_held
    session.keep_running()
    assert not session.run_held
    assert session.abort()
    until(qtbot, session, S.READY)
    assert status(path) == "aborted"


def test_the_check_of_a_bench_that_was_given_up_answers_for_no_other(session: Session, qtbot: Any) -> None:
    assert session.connect_bench("visa-sim")
    assert session.state is S.CONNECTING
    assert session.abort()
    assert session.state is S.DISCONNECTED
    given_up = list(session._jobs)
    connected(qtbot, session)
    qtbot.waitUntil(lambda: not any(job in session._jobs for job in given_up), timeout=LATE_MS)
    assert (session.bench_name, session.checked) == ("emulator", None)


@pytest.mark.parametrize("state", [S.CONNECTING, S.DISCONNECTED])
def test_a_run_that_goes_on_is_taken_over_while_no_bench_is_connected(
    session: Session, tmp_path: Path, state: S
) -> None:
    """A window that is opened for the bench of that very run: the check would find it in use, and Esc do nothing."""
    on_a_real_bench(session, tmp_path, state)
    engine = Engine(tmp_path / "a.nbr", tmp_path / "no-such-engine", b"", 2**22 + 1)
    session._attached(engine, RunBench("lab", "fpga"))
    assert (session.state, session._engine) == (S.RUNNING, engine)
    assert session.bench is None, "it was not checked: it is not ready when the run ends"
    assert f"connect {tmp_path / 'lab.toml'} when it has ended" in words(session)
    session._attached(Engine(tmp_path / "b.nbr", tmp_path, b"", 1), RunBench("lab", "fpga"))
    assert session._engine is engine
    assert "b.nbr is only shown" in words(session)


def test_after_a_run_of_somebody_else_no_bench_is_ready(session: Session, qtbot: Any, tmp_path: Path) -> None:
    connected(qtbot, session)
    session.on_death = "keep"
    path = running(qtbot, session)
    other = Session(tmp_path / "runs")
    assert other.open_run(path)
    until(qtbot, other, S.RUNNING)
    began = time.monotonic()
    assert other.abort()
    until(qtbot, other, S.DISCONNECTED)
    until(qtbot, session, S.READY)
    assert time.monotonic() - began < 20
    other.shutdown()
