"""What a window needs of an engine: its state, its outputs, to hold it, to let it go, to end it, and never to wait."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

# tests, also when only this folder is collected
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes import RemoteChip, Toy, remote_chip

from neurobench.errors import CapabilityMissing, UnknownName
from neurobench.runs import launch
from neurobench.runs.engine import THREADS, Engine, Spec, attach, start
from neurobench.runs.request import prepare, request
from neurobench.runs.runfile import RunFile
from neurobench.runs.wirelog import WireLog, line_of, wire_log_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

TESTS = Path(__file__).resolve().parent.parent
LATE_S = 20.0


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteChip]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    with remote_chip(tmp_path / "chip") as remote:
        yield remote


def toy(chip: RemoteChip, path: Path, **more: Any) -> Spec:
    """A run that goes on for a while."""
    parameters = Toy(epochs=1000, wait_s=0.05).model_dump()
    return Spec(str(path), "fakes:Toy", parameters, chip.config(), 1, opener="fakes:open_remote", **more)


def wait_for(condition: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + LATE_S
    while not (found := condition()):
        assert time.monotonic() < end_s, "it never happened"
        time.sleep(0.005)
    return found


def ended(engine: Engine) -> str:
    assert engine.wait(LATE_S)
    with RunFile.open(engine.path) as run:
        return run.status


# ---------------------------------------------------------------------------------------------- any bench in an engine


@pytest.mark.parametrize("bench", ["emulator", "visa-sim", "fpga-sim"])
def test_a_run_in_an_engine_says_its_state_and_ends_with_its_outputs_off(bench: str, tmp_path: Path) -> None:
    engine = launch.start(prepare(request("manhattan", bench=bench, seed=3)), tmp_path)
    seen, outputs = set(), []
    while (state := engine.state()) is not None:
        seen.add(state)
        outputs.append(engine.outputs())
    assert seen <= {"running", "finished"}, seen
    assert "running" in seen
    known = {"emulated"} if bench == "emulator" else {"commanded", "read back"}
    assert {found["how"] for found in outputs} <= known
    assert all(found["age_s"] >= 0 for found in outputs)
    assert ended(engine) == "finished"
    assert engine.state() is None
    with RunFile.open(engine.path) as run:
        assert run.value("request")["protocol"] == "manhattan"
        last = run.value("outputs")
        assert (last["on"], last["how"]) == (False, "emulated" if bench == "emulator" else "read back")
    log = wire_log_of(engine.path)
    assert log.exists() == (bench != "emulator"), "an emulated chip has no wire"
    assert not list(tmp_path.glob("*.control"))


def test_the_same_run_in_an_engine_and_in_this_process_comes_to_the_same(tmp_path: Path) -> None:
    prepared = prepare(request("manhattan", seed=5))
    here, error = launch.launch(prepared, tmp_path / "here")
    assert error is None
    engine = launch.start(prepared, tmp_path / "there")
    assert ended(engine) == "finished"
    with RunFile.open(here) as one, RunFile.open(engine.path) as other:
        assert other.result is not None
        assert one.manifest.keys() - other.manifest.keys() <= {"engine"}
        for name in ("pulses", "energy_j", "request", "command", "protocol", "identity", "limits"):
            assert one.value(name) == other.value(name), name


def test_what_makes_a_run_impossible_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    asked = request("manhattan", bench_settings=["chip.rows=2", "chip.cols=2"])
    with pytest.raises(CapabilityMissing, match="array"):
        launch.start(prepare(asked), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_computes_with_one_thread_unless_told_otherwise(
    chip: RemoteChip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(THREADS[0], raising=False)
    monkeypatch.setenv(THREADS[1], "2")
    engine = start(toy(chip, tmp_path / "a.nbr"))
    found = psutil.Process(engine.pid).environ()
    assert (found[THREADS[0]], found[THREADS[1]]) == ("1", "2")
    assert engine.stop()
    assert engine.wait(LATE_S)


# ---------------------------------------------------------------------------------------------- held and let go

HOLDS = """
import sys, time
from pathlib import Path
from neurobench.runs import engine, launch
from neurobench.runs.request import prepare, request
asked = request("measure-curve", bench=sys.argv[1], settings=["pulses=20000", "cycles=1", "trains=potentiate",
                "stuck_after=100000", "noise_reads=2"])
running = launch.start(prepare(asked), Path(sys.argv[2]), held=True)
if sys.argv[3:] == ["let_go"]:
    print(running.let_go(), flush=True)
print(running.path, flush=True)
time.sleep(60)
"""


def window(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLDS, *arguments], stdout=subprocess.PIPE, text=True)


def said_by(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.parametrize("bench", ["emulator", "visa-sim"])
def test_a_held_run_is_aborted_in_order_when_its_window_is_killed(bench: str, tmp_path: Path) -> None:
    process = window(bench, str(tmp_path))
    try:
        engine = attach(said_by(process))
        assert engine.state() == "running"
    finally:
        kill(process)
    died_s = time.monotonic()
    assert ended(engine) == "aborted"
    assert time.monotonic() - died_s < 5
    with RunFile.open(engine.path) as run:
        assert "the loss of the window that held this run" in run.value("error")
        assert run.value("outputs")["on"] is False
        assert run.value("watcher") is None, "it ended in order"


def test_a_run_that_was_let_go_outlives_its_window(tmp_path: Path) -> None:
    process = window("visa-sim", str(tmp_path), "let_go")
    try:
        assert said_by(process) == "True"
        engine = attach(said_by(process))
    finally:
        kill(process)
    with RunFile.open(engine.path) as run:
        before = run.value("engine")["pid"]
        last = max((entry.seq for entry in run.entries()), default=-1)
        wait_for(lambda: max((entry.seq for entry in run.entries(last)), default=-1) > last + 5)
    assert before == engine.pid
    assert engine.state() == "running"
    assert engine.abort()
    assert ended(engine) == "aborted"


def test_another_window_may_hold_what_it_did_not_start_and_dropping_the_handle_aborts(
    chip: RemoteChip, tmp_path: Path
) -> None:
    first = start(toy(chip, tmp_path / "a.nbr"))
    other = attach(tmp_path / "a.nbr")
    assert other.hold()
    assert other.hold(), "twice is once"
    assert other.let_go()
    assert not other.let_go(), "it does not hold it any more"
    assert first.state() == "running"
    assert other.hold()
    del other
    assert ended(first) == "aborted"
    assert not first.hold(), "it has ended"


def test_an_abort_reaches_a_held_engine_within_100_ms_though_its_read_never_returns(
    chip: RemoteChip, tmp_path: Path
) -> None:
    chip.tell("hang", True)
    engine = start(toy(chip, tmp_path / "a.nbr", held=True))
    wait_for(lambda: any(op == "sense" for op, _, _ in chip.log()))
    asked_s = time.monotonic()
    assert engine.abort()
    rests_s = wait_for(lambda: [at_s for op, _, at_s in chip.log() if op == "rest" and at_s >= asked_s])
    assert rests_s[0] - asked_s < 0.1
    assert ended(engine) == "aborted"


# ---------------------------------------------------------------------------------------------- dead or stuck engines


def test_nobody_waits_long_for_an_engine_that_is_stopped(chip: RemoteChip, tmp_path: Path) -> None:
    engine = start(toy(chip, tmp_path / "a.nbr"))
    assert engine.state() == "running"
    assert engine.outputs()["on"] is None, "this bench does not say"
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        asks: list[Callable[[], Any]] = [engine.state, engine.outputs, engine.abort, engine.hold]
        for ask in asks:
            began_s = time.monotonic()
            found = ask()
            assert time.monotonic() - began_s < 1.5, ask
            assert found in ("running", False) or found["on"] is None, "the last that was heard"
    finally:
        os.kill(engine.pid, signal.SIGCONT)
    assert engine.kill()
    assert engine.wait(LATE_S)
    assert engine.state() is None


def test_a_client_that_hangs_at_the_door_keeps_no_abort_waiting(chip: RemoteChip, tmp_path: Path) -> None:
    engine = start(toy(chip, tmp_path / "a.nbr"))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(engine._folder / "s"))
        asked_s = time.monotonic()
        assert engine.abort()
        assert time.monotonic() - asked_s < 0.1
    assert ended(engine) == "aborted"


def test_a_killed_engine_is_followed_by_rest_and_an_emulated_one_leaves_nothing_behind(
    chip: RemoteChip, tmp_path: Path
) -> None:
    engine = start(toy(chip, tmp_path / "a.nbr"))
    killed_s = time.monotonic()
    assert engine.kill()
    wait_for(lambda: [at_s for op, _, at_s in chip.log() if op == "rest" and at_s >= killed_s])
    wait_for(lambda: not engine._folder.exists())
    assert not engine.kill(), "there is no such process any more"
    emulated = start(toy(chip, tmp_path / "b.nbr", watched=False))
    assert emulated.kill()
    assert not emulated.alive
    with pytest.raises(UnknownName, match="no engine"):
        attach(tmp_path / "b.nbr")
    assert not emulated._folder.exists()
    wait_for(lambda: ended(emulated) == "crashed")  # the last of its threads lets go of the file a moment later


def test_kill_ends_no_process_that_has_got_the_number_since(chip: RemoteChip, tmp_path: Path) -> None:
    engine = start(toy(chip, tmp_path / "a.nbr"))
    assert engine.stop()
    assert engine.wait(LATE_S)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as innocent:
        engine.pid = innocent.pid
        assert not engine.kill()
        assert innocent.poll() is None
        innocent.kill()


# ---------------------------------------------------------------------------------------------- the wire log


def test_the_wire_log_is_text_and_does_not_grow_without_bound(tmp_path: Path) -> None:
    log = WireLog(tmp_path / "a.nbr.wire.log", most_bytes=2000)
    for n in range(100):
        log("smu", ">", f"print({n})\x00\n")
        if n % 20 == 19:
            log.flush()
    log.close()
    text = log.path.read_text(encoding="ascii")
    assert text.endswith("  smu  >  print(99)\\x00\\n\n"), "the newest are kept, what cannot be printed is escaped"
    kept = [log.path, log.path.with_name("a.nbr.wire.log.1")]
    assert all(file.stat().st_size <= 2000 for file in kept)
    assert sorted(tmp_path.iterdir()) == kept
    long = line_of(0.5, "pulse", ">", "x" * 5000)
    assert long.startswith("00:00:00.500  pulse  >  xxx")
    assert len(long) < 500
