"""What following a run costs: rows taken in, the share of a core, snapshots, going back, memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from neurobench.bench.crossbar import Applied, Capabilities, Reading
from neurobench.bench.steps import Apply, Sense
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch
from neurobench.runs.history import Follower
from neurobench.runs.runfile import RunWriter, jsonable_dict

EVERY_S = 1 / 30


def say(what: str, took: float, unit: str, bar: float, most: bool = True) -> None:
    print(f"{what:66} {took:10.2f} {unit:8} (bar {bar:g})")
    assert took <= bar if most else took >= bar, what


def begun(path: Path, side: int) -> RunWriter:
    capabilities = Capabilities((side, side))
    identity = {"backend": "emulator", "simulated": True}
    return RunWriter.create(
        path, jsonable_dict(capabilities=capabilities, identity=identity, simulated=True, protocol={})
    )


def rows(writer: RunWriter, side: int, n: int, first: int = 0) -> None:
    """Pulses, reads and notes in turn, as training does."""
    rng, shape = np.random.default_rng(0), (side, side)
    batches = [Apply(PulseBatch(rng.integers(-1, 2, shape).astype(np.int8), Pulse(0.5, 1e-3))) for _ in range(20)]
    read = Sense(CellRead(np.ones(shape, np.bool_), 0.1))
    for seq in range(first, first + n):
        if seq % 3 == 0:
            batch = batches[seq % 20]
            pulses = int(np.abs(batch.stimulus.counts).sum())  # type: ignore[union-attr]
            writer.entry(seq, batch, Applied(side, pulses, float(seq), seq + 1.0, 1e-9, "model"))
        elif seq % 3 == 1:
            currents_a = rng.normal(1e-6, 1e-7, (2, side * side))
            writer.entry(seq, read, Reading(currents_a, 1e-9, 1e-3, float(seq), seq + 1.0, 1e-12))
        else:
            writer.note(seq, "epoch", {"index": seq // 3, "error": 1 / (seq + 1), "accuracy": 0.5})


def read_through(follower: Follower) -> float:
    """Seconds of work until all is taken in."""
    began = time.process_time()
    while follower.read():
        pass
    return time.process_time() - began


def resident_mb() -> float:
    gc.collect()
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def test_rows(tmp_path: Path) -> None:
    for side, n, bar in ((4, 30_000, 15_000), (128, 1500, 1000)):
        with begun(tmp_path / f"{side}.nbr", side) as writer:
            rows(writer, side, n)
            writer.put(status="finished")
        follower = Follower(tmp_path / f"{side}.nbr")
        say(f"rows of a {side} x {side} array", n / read_through(follower), "rows/s", bar, most=False)
        follower.close()


def test_one_look_keeps_its_budget(tmp_path: Path) -> None:
    with begun(tmp_path / "a.nbr", 128) as writer:
        rows(writer, 128, 1500)
    follower, looks = Follower(tmp_path / "a.nbr"), list[float]()
    going_on = True
    while going_on:
        began = time.process_time()
        going_on = follower.read()
        looks.append(time.process_time() - began)
    follower.close()
    say("a look with a budget of 20 ms, the 95th percentile", 1e3 * float(np.percentile(looks, 95)), "ms", 40)


def test_snapshots(tmp_path: Path) -> None:
    with begun(tmp_path / "a.nbr", 128) as writer:
        rows(writer, 128, 600)
        writer.flush()
        follower, took = Follower(writer.path), list[float]()
        read_through(follower)
        for seq in range(600, 660):
            rows(writer, 128, 1, seq)
            writer.flush()
            follower.read()
            began = time.process_time()
            follower.snapshot()
            took.append(time.process_time() - began)
        say("a snapshot of 128 x 128 after a step, median", 1e3 * float(np.median(took)), "ms", 2)
        began = time.process_time()
        for _ in range(100):
            follower.snapshot()
        say("a snapshot where nothing has happened", 10 * (time.process_time() - began), "ms", 0.5)
        follower.close()


def test_going_back(tmp_path: Path) -> None:
    for side, n, bar in ((4, 10_000, 300), (64, 3000, 600)):
        with begun(tmp_path / f"{side}.nbr", side) as writer:
            rows(writer, side, n)
        follower, took = Follower(tmp_path / f"{side}.nbr"), list[float]()
        read_through(follower)
        for seq in np.random.default_rng(1).integers(0, n, 20):
            began = time.process_time()
            follower.snapshot(int(seq))
            took.append(time.process_time() - began)
        say(f"an earlier step of {n} of a {side} x {side} array, the slowest", 1e3 * max(took), "ms", bar)
        follower.close()


FULL_SPEED = """
import sys, time
from pathlib import Path
import numpy as np
from neurobench.runs.session import session
from neurobench.bench.steps import Apply, Note, Sense
from neurobench.bench.stimulus import CellRead, PulseBatch
side, end = int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
def epoch(view, n):
    shape = view.shape
    counts = np.random.default_rng(n).integers(-1, 2, shape).astype(np.int8) * view.device.depresses
    yield Apply(PulseBatch(np.maximum(counts, 0), view.device.pulse))
    yield Sense(CellRead(np.ones(shape, np.bool_), 0.1))
    yield Note("epoch", {"index": n, "error": 1 / (n + 1)})
with session("emulator", out=Path(sys.argv[1]), rows=side, cols=side, model="al2o3-tio2-nili") as bench:
    print(bench.path, flush=True)
    n = 0
    while time.monotonic() < end:
        bench.do(epoch(bench.view, n))
        n += 1
"""


def followed(tmp_path: Path, side: int, seconds: float) -> tuple[float, float, float]:
    """Share of a core, rows a second, and how many rows it was behind at the end."""
    asked = [sys.executable, "-c", FULL_SPEED, str(tmp_path), str(side), str(seconds)]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        follower = Follower(Path(writer.stdout.readline().strip()))
        began, cpu, behind, last = time.monotonic(), time.process_time(), list[int](), 0
        while writer.poll() is None:
            follower.read()
            snapshot = follower.snapshot()
            behind.append(snapshot.last_seq - snapshot.seq)
            last = max(last, snapshot.seq)
            time.sleep(EVERY_S)
        took = time.monotonic() - began
        share = (time.process_time() - cpu) / took
    follower.close()
    return share, last / took, float(np.median(behind))


def test_a_live_run_at_full_speed(tmp_path: Path) -> None:
    for side in (4, 32, 128):
        share, rate, behind = followed(tmp_path, side, 6.0)
        print(f"{side} x {side}: the emulator does {rate:.0f} steps a second")
        say(f"following it takes of a core ({side} x {side})", 100 * share, "%", 20)
        say("and is behind by", behind, "rows", 200)


def test_memory(tmp_path: Path) -> None:
    """Thousands of steps a second for a minute, once the buffers are full: the most that was held, before and after."""
    for side, warm, n, bar in ((4, 120_000, 120_000, 3.0), (128, 4500, 3000, 8.0)):
        path = tmp_path / f"{side}.nbr"
        with begun(path, side) as writer:
            follower, held = Follower(path), list[float]()
            for seq in range(0, warm + n, 1500):
                rows(writer, side, 1500, seq)
                writer.flush()
                read_through(follower)
                follower.snapshot()
                held.append(resident_mb())
            grown = max(held[warm // 1500 :]) - max(held[: warm // 1500])
            say(f"growth over {n} steps of {side} x {side}", grown, "MB", bar)
        follower.close()
        path.unlink()
