"""A run that has not begun: Esc reaches its engine, a window that closes does not wait for it, a queue goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState as S

from neurobench.errors import Aborted, BenchFault, UsageError
from neurobench.runs import launch
from neurobench.runs.request import Request

LAB = """
[bench]
backend = "fpga"
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


class Beginning:
    """An engine that takes its time to begin, and what it hears meanwhile."""

    def __init__(self) -> None:
        self.path = Path("none.nbr")
        self.heard: list[str] = []
        self.go = threading.Event()
        self.made = True

    def abort_soon(self) -> bool:
        self.heard.append("abort")
        self.go.set()
        return True

    def kill(self) -> bool:
        self.heard.append("kill")
        return True

    def start(self, _request: Request, made: Callable[[Any], None]) -> Any:
        if self.made:
            made(self)
        self.go.wait(20)
        if not self.made:
            made(self)
        raise Aborted("aborted by the operator before it began; nothing was fired")


@pytest.fixture
def session(tmp_path: Path, qapp: Any) -> Iterator[Session]:
    made = Session(tmp_path)
    made.connect_bench("emulator")
    yield made
    made.shutdown()


def test_what_was_known_of_a_bench_is_not_said_of_the_next(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a real bench that does not answer nobody knows the outputs, and why it does not answer is said."""
    lab = tmp_path / "lab.toml"
    lab.write_text(LAB)
    assert session.outputs["on"] is False, "an emulated chip"
    asked: list[Callable[[dict[str, Any]], None]] = []
    monkeypatch.setattr(session, "job", lambda _words, done, _failed: asked.append(done))
    said: list[str] = []
    session.said.connect(lambda _level, words: said.append(words))
    assert session.connect_bench(str(lab))
    assert session.outputs["on"] is None
    asked[0]({"exit_code": 4, "fault": "board: no answer", "instruments": []})
    assert session.state is S.DISCONNECTED
    assert session.outputs["on"] is None
    assert said[-1].endswith("lab.toml is not connected: board: no answer")
    assert session.checked is not None, "for the self-test's lines"


def begun(session: Session, monkeypatch: pytest.MonkeyPatch) -> Beginning:
    engine = Beginning()
    monkeypatch.setattr(session, "_started", engine.start)
    assert session.start(Request("read-all"))
    assert session.state is S.STARTING, "from the first moment: a second press starts nothing"
    assert not session.start(Request("read-all"))
    return engine


def test_a_run_that_is_resumed_is_being_started_from_the_first_moment(
    session: Session, monkeypatch: pytest.MonkeyPatch, qtbot: Any, tmp_path: Path
) -> None:
    go = threading.Event()

    def recorded(_path: Path) -> None:
        go.wait(20)
        raise UsageError("not that one")

    monkeypatch.setattr(launch, "recorded", recorded)
    assert session.go_on(tmp_path / "a.nbr")
    assert session.state is S.STARTING
    assert not session.start(Request("read-all"))
    go.set()
    qtbot.waitUntil(lambda: session.state is S.READY)


def test_an_engine_that_is_being_started_hears_esc(
    session: Session, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    engine = begun(session, monkeypatch)
    qtbot.waitUntil(lambda: session._made is not None)
    assert session.abort()
    assert session.abort(), "the second press within two seconds"
    qtbot.waitUntil(lambda: session.state is S.READY)
    assert sorted(engine.heard) == ["abort", "kill"]


def test_esc_before_there_is_an_engine_is_heard_by_it_before_it_begins(
    session: Session, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    engine = begun(session, monkeypatch)
    engine.made = False
    session._made = None
    assert session.abort()
    engine.go.set()
    qtbot.waitUntil(lambda: session.state is S.READY)
    assert engine.heard == ["abort"]


def test_a_window_that_is_closed_by_force_does_not_wait_for_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, before = begun(session, monkeypatch), time.monotonic()
    monkeypatch.setattr(engine, "abort_soon", lambda: False)  # deaf
    session.abort()
    session.shutdown()
    assert time.monotonic() - before < 5.0
    engine.go.set()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UsageError("no such task"), ["refused: no such task"] * 3),
        (BenchFault("no answer"), ["refused: no answer", "waiting", "waiting"]),
    ],
)
def test_a_refused_run_does_not_hold_up_the_queue_and_a_silent_bench_does(
    error: Exception, told: list[str], session: Session, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    said: list[str] = []
    session.said.connect(lambda _level, words: said.append(words))

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(session, "_started", refuse)
    for seed in range(3):
        session.enqueue(Request("read-all", seed=seed))
    assert session.start_queue()
    qtbot.waitUntil(lambda: [one.status for one in session.queue] == told)
    qtbot.waitUntil(lambda: session.state is S.READY)
    assert not session._queue_on
    ended = [words for words in said if words.startswith("the queue has ended")]
    assert ended == (["the queue has ended: 3 refused (no such task)"] if "waiting" not in told else [])


def test_a_stop_halts_the_queue_and_is_called_a_stop(session: Session) -> None:
    said: list[str] = []
    session.said.connect(lambda _level, words: said.append(words))
    first = session.enqueue(Request("read-all"))
    session.enqueue(Request("read-all"))
    session._queue_on, session._running_id = True, first
    session._stand(S.STOPPING)
    session._run_ended(Path("a.nbr"), {"status": "not_converged", "stopped": True, "outputs": {"on": False}})
    assert [one.status for one in session.queue] == ["stopped", "waiting"]
    assert session.state is S.READY
    assert "the run was stopped" in said[-1]
    session._stand(S.ABORTING)
    error = "Aborted: aborted by the operator before step 7; outputs are off"
    session._run_ended(Path("a.nbr"), {"status": "aborted", "error": error, "outputs": {"on": False}})
    assert said[-1] == "the run ended: aborted by the operator before step 7; outputs are off"
    session._stand(S.ABORTING)
    error = "Aborted: by the operator; the bench did not answer, and was cut off over the second path"
    session._run_ended(Path("a.nbr"), {"status": "aborted", "error": error, "outputs": {"on": False}})
    assert said[-1].startswith("the run ended: aborted by the operator; the bench did not answer")
