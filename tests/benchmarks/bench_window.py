"""The window while an emulated chip trains at full speed: frames, lateness, what it costs the training, memory, start.

`make bench`, or this file with -m bench -s. Three processes as in life: who trains and writes the run file, the window
that reads it, and this one. NEUROBENCH_SOAK_S: how long memory is watched, 120 s unless it says otherwise (600 s are
the claim). Everything is on one BLAS thread; "late" is how late a 10 ms timer of the window's loop comes, as a click
would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.bench

SIDE = 128
READ_BYTES, READ_BYTES_PER_S = 8 * SIDE**2, 5e6  # of a journalled full read; of all of them in a second, at most
TRACE_POINTS, CELLS = 10_000, ((0, 0), (5, 7), (64, 32), (127, 127))
WARM_S, WATCH_S, TURN_S, TURNS = 6.0, 15.0, 5.0, 6
SOAK_S = float(os.environ.get("NEUROBENCH_SOAK_S", "120"))
STARTS = 5
HERE = Path(__file__)


# -- the three processes --------------------------------------------------------------------------------------------


def train(path: Path, seconds: float) -> None:
    """Pulse an emulated 128 x 128 chip as fast as it goes, read all of it as often as the journal may take."""
    from neurobench.bench.config import load_bench, open_bench
    from neurobench.bench.steps import Apply, Note, Protocol, Result, Sense
    from neurobench.bench.stimulus import CellRead, PulseBatch
    from neurobench.runs.runfile import RunWriter
    from neurobench.runs.runner import run

    class Training(Protocol):
        """Random pulses of either sign; a full read whenever the last one is old enough."""

        def steps(self, view: Any, rng: np.random.Generator, start: Mapping[str, object] | None = None) -> Any:
            read = CellRead(np.ones(view.shape, np.bool_), 0.1, False, 0.0, 1e-3)
            device = view.device
            pulses = [
                Apply(PulseBatch((rng.random(view.shape) < 0.2).astype(np.int8) * sign, pulse))
                for sign, pulse in 8 * [(1, device.pulse), (-1, device.depress_pulse or device.pulse)]
            ]
            every_s, end = READ_BYTES / READ_BYTES_PER_S, time.monotonic() + seconds
            read_at = epoch = 0.0
            while time.monotonic() < end:
                for step in pulses:  # noqa: UP028 - a list takes no answers
                    yield step
                if time.monotonic() - read_at >= every_s:
                    read_at, epoch = time.monotonic(), epoch + 1
                    yield Sense(read)
                    yield Note("epoch", {"epoch": epoch, "error": 1 / epoch, "accuracy": 1 - 1 / epoch})
            return Result(True)

    size = {"chip.rows": SIDE, "chip.cols": SIDE, "chip.model": "ag-a-si", "limits.max_cell_v": 8.0}
    guard = open_bench(load_bench("emulator", size), 0)
    with RunWriter.create(path, {"request": {"protocol": "training", "bench": "emulator"}}) as writer:
        outcome = run(Training(), guard, seed=0, record=writer)
    guard.close()
    if outcome.error is not None:
        raise outcome.error


def show(path: Path, seconds: float) -> None:
    """Show a run as a user would see it, and print what was measured as one JSON object."""
    import psutil
    from neurobench.gui import app as program
    from neurobench.gui.frame.preferences import Preferences
    from PySide6.QtCore import QEvent, QObject, QTimer
    from PySide6.QtWidgets import QWidget

    long_traces()
    app = program.application()
    window = program.opened(program.Asked(run=path), Preferences())
    window.session.snapshot_changed.connect(lambda: window.selection.set(CELLS) if not chosen else None)
    chosen: list[bool] = []

    class Paints(QObject):
        """Counts what is painted of one view: its busiest part."""

        def __init__(self, view: QWidget) -> None:
            super().__init__(view)
            self.counts: dict[int, int] = {}
            for part in [view, *view.findChildren(QWidget)]:
                part.installEventFilter(self)

        def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
            if event.type() == QEvent.Type.Paint:
                self.counts[id(watched)] = self.counts.get(id(watched), 0) + 1
            return False

    late: list[float] = []
    beats = [time.monotonic()]
    beat = QTimer()
    beat.setInterval(10)
    beat.setTimerType(beat.timerType().PreciseTimer)

    def heard() -> None:
        now = time.monotonic()
        late.append(now - beats[0] - 0.01)
        beats[0] = now

    beat.timeout.connect(heard)
    process, memory, behind = psutil.Process(), [], []

    def cpu_s() -> list[float]:
        """Of the loop's thread, and of all others together."""
        each = {one.id: one.user_time + one.system_time for one in process.threads()}
        return [each[process.pid], sum(each.values()) - each[process.pid]]

    rss = QTimer()
    rss.setInterval(1000)

    def look() -> None:
        memory.append(process.memory_info().rss / 1e6)
        if window.session.snapshot is not None:
            behind.append(window.session.snapshot.last_seq - window.session.snapshot.seq)

    rss.timeout.connect(look)
    found: dict[str, Any] = {}

    def begin() -> None:
        window.selection.set(CELLS)
        chosen.append(True)
        by_name = {view.name: view for view in window.seen()}
        found["seen"] = sorted(by_name)
        found["paints"] = {name: Paints(by_name[name]) for name in ("crossbar", "traces")}
        found["cpu"], found["at"] = cpu_s(), time.monotonic()
        beats[0] = time.monotonic()
        beat.start()
        rss.start()
        QTimer.singleShot(int(seconds * 1000), end)

    def end() -> None:
        took = time.monotonic() - found["at"]
        frames = {name: max(one.counts.values(), default=0) for name, one in found["paints"].items()}
        cpu = [(now - before) / took for now, before in zip(cpu_s(), found["cpu"], strict=True)]
        answer = {
            "fps": {name: n / took for name, n in frames.items()}, "late_s": np.quantile(late, [0.5, 0.99]).tolist(),
            "cpu": cpu, "memory_mb": memory, "behind": behind, "seen": found["seen"], "beats": len(late) / took,
        }  # fmt: skip
        print(json.dumps(answer), flush=True)
        window.session.keep_running()
        window.close()
        app.quit()

    QTimer.singleShot(int(WARM_S * 1000), begin)
    with profiled():
        app.exec()


def long_traces() -> None:
    """Every trace has 10,000 points: a file with as many full reads would be gigabytes. What is read is real."""
    from neurobench.runs import history

    for kind in history.Traces.__subclasses__():
        plain = kind.trace

        def longer(self: Any, cells: Any, until_seq: int, plain: Any = plain) -> Any:
            times, values = plain(self, cells, until_seq)
            if len(times) < 2:
                return times, values
            at = np.linspace(times[0], times[-1], TRACE_POINTS)
            return at, np.stack([np.interp(at, times, column) for column in np.nan_to_num(values).T], axis=1)

        kind.trace = longer  # type: ignore[method-assign]


@contextmanager
def profiled() -> Iterator[None]:
    """NEUROBENCH_PROFILE=FILE: where the window spends its time, for `python -m pstats FILE`."""
    path = os.environ.get("NEUROBENCH_PROFILE")
    if not path:
        yield
        return
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        profile.dump_stats(path)


# -- what is measured -----------------------------------------------------------------------------------------------


def child(role: str, path: Path, seconds: float, home: Path) -> subprocess.Popen[str]:
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    env = os.environ | one_thread | {"QT_QPA_PLATFORM": "offscreen", "NEUROBENCH_HOME": str(home)}
    words = [sys.executable, str(HERE), role, str(path), str(seconds)]
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True, cwd=home)


@contextmanager
def training(folder: Path, seconds: float) -> Iterator[Path]:
    """A run that goes on for so long; its file is there."""
    path = folder / "training.nbr"
    trainer = child("train", path, seconds, folder)
    try:
        deadline = time.monotonic() + 60
        while steps_of(path) < 100:
            assert trainer.poll() is None, "the training has failed"
            assert time.monotonic() < deadline, "the training did not begin"
            time.sleep(0.1)
        yield path
    finally:
        trainer.kill()
        trainer.communicate()


def steps_of(path: Path) -> int:
    """How far the run is, by its journal."""
    import sqlite3

    if not path.exists():
        return 0
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
    try:
        return int(db.execute("select coalesce(max(seq), 0) from journal").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        db.close()


def watched(path: Path, seconds: float, home: Path) -> dict[str, Any]:
    window = child("show", path, seconds, home)
    said, _ = window.communicate(timeout=seconds + WARM_S + 60)
    assert window.returncode == 0
    return dict(json.loads(said.strip().splitlines()[-1]))


def tell(what: str, value: float, unit: str, bar: float, *, least: bool = False) -> None:
    print(f"{what:70} {value:8.2f} {unit:7} (bar {'>=' if least else '<='} {bar:g}; load {os.getloadavg()[0]:.1f})")
    assert value >= bar if least else value <= bar, what


@pytest.mark.timeout(180)
def test_frames_and_lateness(tmp_path: Path) -> None:
    with training(tmp_path, WARM_S + WATCH_S + 60) as path:
        before, at = steps_of(path), time.monotonic()
        seen = watched(path, WATCH_S, tmp_path)
        rate = (steps_of(path) - before) / (time.monotonic() - at)
    print(
        f"\ntraining {rate:.0f} steps/s; views seen: {', '.join(seen['seen'])}; CPU of the loop {seen['cpu'][0]:.0%}, "
        f"of the reader {seen['cpu'][1]:.0%}"
    )
    print(f"lateness of the loop p50 {seen['late_s'][0] * 1e3:.1f} ms, {seen['beats']:.0f} beats/s")
    print("frames/s: " + ", ".join(f"{name} {fps:.1f}" for name, fps in seen["fps"].items()))
    tell("what is shown is behind the run by, median", float(np.median(seen["behind"])) / rate, "s", 1)
    tell("lateness of the window's loop, p99", seen["late_s"][1] * 1e3, "ms", 50)
    tell("frames of map and four traces of 10,000 points", min(seen["fps"].values()), "1/s", 25, least=True)


@pytest.mark.timeout(240)
def test_what_the_window_costs_the_training(tmp_path: Path) -> None:
    """The same run with the window awake and stopped in turns, so that nothing else differs."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    with training(tmp_path, WARM_S + 2 * TURNS * TURN_S + 60) as path:
        window = child("show", path, 1000, tmp_path)
        try:
            time.sleep(WARM_S)
            for _ in range(TURNS):
                for awake in (True, False):
                    os.kill(window.pid, signal.SIGCONT if awake else signal.SIGSTOP)
                    before, at = steps_of(path), time.monotonic()
                    time.sleep(TURN_S)
                    rates[awake].append((steps_of(path) - before) / (time.monotonic() - at))
        finally:
            os.kill(window.pid, signal.SIGCONT)
            window.kill()
            window.communicate()
    with_window, without = float(np.median(rates[True])), float(np.median(rates[False]))
    print(f"\ntraining {with_window:.0f} steps/s with the window, {without:.0f} without")
    tell("training speed lost by the open window", (1 - with_window / without) * 100, "%", 5)


@pytest.mark.timeout(int(SOAK_S) + 180)
def test_memory_does_not_grow(tmp_path: Path) -> None:
    with training(tmp_path, WARM_S + SOAK_S + 60) as path:
        seen = watched(path, SOAK_S, tmp_path)
    memory = np.array(seen["memory_mb"])
    warm = memory[len(memory) // 2 :]  # traces and earlier steps are kept up to a number of megabytes: these fill first
    slope = np.polyfit(np.arange(len(warm)) / 60, warm, 1)[0]
    print(f"\nmemory of the window {memory[0]:.0f} MB -> {memory[-1]:.0f} MB in {SOAK_S:.0f} s")
    tell("slope of the window's memory in the second half", float(slope), "MB/min", 1)


START = """
import sys, time, psutil
from PySide6.QtCore import QEvent, QObject, QTimer
from neurobench.gui import app as program
from neurobench.gui.frame import window as made
class Seen(QObject):
    def eventFilter(self, watched, event):
        if event.type() == QEvent.Type.Paint and not done:
            done.append(time.time() - psutil.Process().create_time())
        return False
done, seen = [], Seen()
plain = made.MainWindow.show
def show(self):
    self.centralWidget().installEventFilter(seen)
    plain(self)
made.MainWindow.show = show
from neurobench.gui.frame.preferences import Preferences
window = program.opened(program.Asked(), Preferences())
complete = time.time() - psutil.Process().create_time()
print(done[0], complete)
window.close()
"""


@pytest.mark.timeout(120)
def test_start(tmp_path: Path) -> None:
    """From the birth of the process, the interpreter's own start included, to the first picture, and to all of it."""
    env = os.environ | {"QT_QPA_PLATFORM": "offscreen", "NEUROBENCH_HOME": str(tmp_path)}
    took = []
    for _ in range(STARTS + 1):  # the first one warms the disk's cache
        said = subprocess.run([sys.executable, "-c", START], env=env, cwd=tmp_path, capture_output=True, text=True,
                              check=True, timeout=60).stdout  # fmt: skip
        took.append([float(word) for word in said.split()])
    first, complete = np.median(np.array(took[1:]), axis=0)
    print(f"\nthe Bench page stands after {complete:.2f} s")
    tell("start to the first picture of the window, median", float(first), "s", 1.5)


def test_neurobench_without_the_window_imports_no_qt() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import sys, neurobench.cli, neurobench.runs.launch; print('PySide6' in sys.modules)"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert found.stdout.strip() == "False"


if __name__ == "__main__":
    {"train": train, "show": show}[sys.argv[1]](Path(sys.argv[2]), float(sys.argv[3]))
