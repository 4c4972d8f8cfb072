"""The VISA driver on instruments that live in another process: killed, aborted, opened twice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed import PULSE, Script, bench_file, ended, started
from neurobench.drivers.visa import VisaCrossbar

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Applied, Unknown
from neurobench.bench.limits import Guard
from neurobench.bench.stimulus import CellRead, PulseBatch
from neurobench.errors import BenchFault, InstrumentError, InUse
from neurobench.physics.chip import load_chip
from neurobench.physics.library import load_model
from neurobench.runs.runfile import RunFile, Settled

SOON_S = 0.1  # from the request to the first command that switches off


@dataclass
class Lab:
    """Simulated instruments in a process of their own, in real time, and a bench file for them."""

    folder: Path
    bench: Path
    chip: Path

    def fired(self) -> int:
        return int(load_chip(self.chip, load_model("lsmo-gaq3-mirror")).pulses.sum()) if self.chip.exists() else 0

    def guard(self) -> Guard:
        return open_bench(load_bench(self.bench), 0)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    made = Lab(folder, folder / "lab.toml", folder / "chip.npz")
    command = [sys.executable, "-m", "neurobench", "sim-bench", "--tcp", "--chip", str(made.chip)]
    command += ["--bench-set", "chip.model=lsmo-gaq3-mirror"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    bench_file(made.bench, json.loads(process.stdout.readline())["instruments"])
    made.guard().close()
    yield made
    process.terminate()
    process.communicate(timeout=20)


def ledger(path: Path) -> tuple[int, list[Any]]:
    """Pulses of all answers, and the entries that have none."""
    with RunFile.open(path) as reader:
        entries = list(reader.entries())
    sure = sum(entry.answer.pulses for entry in entries if isinstance(entry.answer, Applied))
    return sure, [entry for entry in entries if entry.settled in (Settled.OPEN, Settled.DOUBT)]


@pytest.mark.parametrize("after_s", [(0.03, 0.11, 0.07), (0.05, 0.16, 0.2)])
def test_killed_again_and_again_the_chip_has_what_the_ledger_says(lab: Lab, after_s: tuple[float, ...]) -> None:
    path = lab.folder / f"{after_s[0]}.nbr"
    before, script = lab.fired(), Script()
    for kill_s in after_s:
        process, _ = started(lab.bench, path, script)
        time.sleep(kill_s)
        process.kill()
        process.join(10)
    process, said = started(lab.bench, path, script, accept_doubt=True)
    assert ended(said) == "finished"
    process.join(10)
    sure, open_ones = ledger(path)
    assert not open_ones
    assert lab.fired() - before == sure > 0


def test_killed_in_a_burst_the_next_one_who_opens_the_bench_ends_it_and_says_that_it_is_in_doubt(lab: Lab) -> None:
    path, script, before = lab.folder / "burst.nbr", Script(batches=1, pulses=2000), lab.fired()
    process, _ = started(lab.bench, path, script)
    until_s = time.monotonic() + 20
    while lab.fired() - before < 20 and time.monotonic() < until_s:  # the shot before the burst has 2
        time.sleep(0.01)
    process.kill()
    process.join(10)
    guard = lab.guard()  # as `neurobench rest` does
    guard.rest()
    guard.close()
    fired = lab.fired() - before
    assert 20 <= fired < 2000
    time.sleep(0.1)
    assert lab.fired() - before == fired, "the burst went on"
    process, said = started(lab.bench, path, script)
    assert ended(said) == "PulseUnknown"
    process.join(10)
    assert lab.fired() - before == fired
    assert [entry.settled for entry in ledger(path)[1]] == [Settled.DOUBT]


def test_two_processes_do_not_share_a_bench(lab: Lab) -> None:
    process, _ = started(lab.bench, lab.folder / "first.nbr", Script(batches=1, pulses=1500))
    try:
        with pytest.raises(InUse, match=str(process.pid)):
            lab.guard()
    finally:
        process.kill()
        process.join(10)


class Cut:
    """A call in a thread that is brought to rest from outside; what goes out is heard with its time."""

    def __init__(self, guard: Guard, work: Any) -> None:
        self.said: list[tuple[float, str]] = []
        assert isinstance(guard.raw, VisaCrossbar)
        for link in guard.raw._connected.links.values():
            link.log = lambda way, line: self.said.append((time.monotonic(), line)) if way == ">" else None
        self.error: BaseException | None = None
        self._guard, self._work = guard, work

    def _run(self) -> None:
        try:
            self._work()
        except BenchFault as error:
            self.error = error

    def after(self, seconds: float) -> float:
        """Seconds from the request until all is at rest."""
        thread = threading.Thread(target=self._run)
        thread.start()
        time.sleep(seconds)
        self.asked_s = time.monotonic()
        self._guard.rest()
        took_s = time.monotonic() - self.asked_s
        thread.join(10)
        assert not thread.is_alive()
        return took_s

    def off_s(self, command: str) -> float:
        """When the first such command went out after the request."""
        return min(at_s - self.asked_s for at_s, line in self.said if command in line and at_s >= self.asked_s)


def test_an_abort_in_a_burst_switches_off_within_a_tenth_of_a_second(lab: Lab) -> None:
    guard, before = lab.guard(), lab.fired()
    try:
        counts = np.zeros((4, 4), np.int16)
        counts[0, 0] = 2000
        stimulus = PulseBatch(counts, PULSE)
        witness = guard.stage(0, stimulus)
        cut = Cut(guard, lambda: guard.fire(0))
        cut.after(0.3)
        assert cut.off_s(":OUTP1 0") < SOON_S
        assert isinstance(cut.error, InstrumentError)
        fired = lab.fired() - before
        assert 0 < fired < 2000
        assert isinstance(guard.outcome(0, witness, stimulus), Unknown)
        time.sleep(0.1)
        assert lab.fired() - before == fired
    finally:
        guard.close()


def test_an_abort_in_a_long_read_switches_off_within_a_tenth_of_a_second_and_the_bench_works_on(lab: Lab) -> None:
    """The SMU is busy and its answer is under way: what switches off goes out all the same."""
    guard = lab.guard()
    try:
        mask = np.zeros((4, 4), np.bool_)
        mask[0] = True
        cut = Cut(guard, lambda: guard.sense(CellRead(mask, 0.05, True, 0.0, 0.1, 4)))
        cut.after(0.4)
        assert cut.off_s("smua.source.output=0") < SOON_S
        assert isinstance(cut.error, InstrumentError)
        assert np.isfinite(guard.sense(CellRead(mask, 0.05)).currents_a).all()
    finally:
        guard.close()
