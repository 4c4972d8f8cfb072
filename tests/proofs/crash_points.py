"""Kills a runner at lines that it executes, resumes it, and compares the chip's ledger with the run file.

A helper program of proof (a); each life of the runner is a fork of a warm parent, so that it takes milliseconds:

    python crash_points.py plain FOLDER CONFIG TOY               one undisturbed run, for a trace
    python crash_points.py survey FOLDER CONFIG TOY              the lines of one undisturbed run, as JSON
    python crash_points.py trials FOLDER CONFIG TOY POINTS       kills at each point; one JSON object per trial
    python crash_points.py lines FOLDER CONFIG TOY ALL           kills at each line once; one JSON object per run
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import fakes
from fakes import SocketLink, Toy, open_remote

from neurobench.bench import codec, limits, passport
from neurobench.errors import PulseUnknown, ResumeRefused
from neurobench.runs import replay, runfile, runner, states
from neurobench.runs.replay import resume
from neurobench.runs.runfile import RunFile, RunWriter
from neurobench.runs.runner import RunOutcome, run

CORE = frozenset(str(module.__file__) for module in (fakes, replay, runfile, runner))
TRACED = CORE | frozenset(str(module.__file__) for module in (codec, limits, passport, states))

Visit = Callable[[str, int], None]


def traced(visit: Visit, work: Callable[[], Any]) -> Any:
    """Do `work`, telling `visit` every line of the traced modules before it is executed."""

    def local(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            visit(frame.f_code.co_filename, frame.f_lineno)
        return local

    def everywhere(frame: FrameType, event: str, _: object) -> Any:
        del event
        return local if frame.f_code.co_filename in TRACED else None

    sys.settrace(everywhere)
    try:
        return work()
    finally:
        sys.settrace(None)


def once(path: Path, config: dict[str, Any], toy: Toy, accept_doubt: bool = False) -> RunOutcome:
    """Run, or go on."""
    guard = open_remote(config)
    try:
        if not path.exists():
            with RunWriter.create(path) as record:
                return run(toy, guard, seed=1, record=record)
        with RunWriter.reopen(path) as record:
            return resume(toy, guard, record, accept_doubt=accept_doubt)
    finally:
        guard.close()


def in_child(work: Callable[[], Any]) -> int:
    """Do `work` in a forked child and return its wait status."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def kill_at(point: int) -> Visit:
    """Die without a word at the point-th line."""
    seen = 0

    def visit(file: str, line: int) -> None:
        nonlocal seen
        del file, line
        seen += 1
        if seen == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return visit


def survey(folder: Path, config: dict[str, Any], toy: Toy) -> list[tuple[str, int]]:
    """Every line of one run, in order."""
    lines: list[tuple[str, int]] = []
    traced(lambda file, line: lines.append((Path(file).name, line)), lambda: once(folder / "survey.nbr", config, toy))
    return lines


def trial(folder: Path, config: dict[str, Any], toy: Toy, points: list[int]) -> dict[str, Any]:
    """Kill at each of `points` (the second one counts within the resumed run, and so on), then resume to the end."""
    path = folder / f"{'-'.join(map(str, points))}.nbr"
    link = SocketLink(config["address"])
    link("reset", [])
    killed = 0
    for point in points:
        status = in_child(partial(traced, kill_at(point), partial(once, path, config, toy)))
        killed += os.WIFSIGNALED(status)
    unknown = to_the_end(path, config, toy, 1)
    found = verdict(path, link)
    link.close()
    remove(path)
    return {"points": points, "killed": killed, "unknown": unknown, **found}


def go_on(path: Path, config: dict[str, Any], toy: Toy) -> bool:
    """Resume, unless it has ended; True if it ends in doubt."""
    try:
        if ended(path):
            return False
        return isinstance(once(path, config, toy).error, PulseUnknown)
    except ResumeRefused as error:
        # It died before it began, and says so: nothing was fired, and it is begun anew.
        if "before it began" not in str(error):
            raise
        remove(path)
        return False


def remove(path: Path) -> None:
    """Remove a run file and what may stand beside it."""
    for file in path.parent.glob(f"*{path.name}*"):
        file.unlink()


def verdict(path: Path, link: SocketLink) -> dict[str, Any]:
    """What the record says and what the chip says."""
    with RunFile.open(path) as reader:
        rows = [(row.seq, row.answer.pulses if row.answer else None) for row in reader.entries() if row.kind == "apply"]  # type: ignore[union-attr]
        said = {"status": reader.status, "pulses": reader.value("pulses"), "error": reader.value("error")}
    return {**said, "file": rows, "ledger": link("ledger", [])}


def kill_at_new(killed: set[tuple[str, int]], share: float, seed: int, told: int, only: frozenset[str]) -> Visit:
    """Die at a line at which nobody died yet, with probability `share`, after telling which one it is."""
    rng = random.Random(seed)

    def visit(file: str, line: int) -> None:
        if file in only and (file, line) not in killed and rng.random() < share:
            os.write(told, json.dumps([file, line]).encode())
            os.kill(os.getpid(), signal.SIGKILL)

    return visit


def one_run(path: Path, config: dict[str, Any], toy: Toy, killed: set[tuple[str, int]], share: float,
            only: frozenset[str]) -> int:  # fmt: skip
    """One run that is killed again and again, each time at another line, until it gets through; how often it died."""
    deaths = 0
    while True:
        hears, told = os.pipe()
        visit = kill_at_new(killed, share, len(killed), told, only)
        status = in_child(partial(traced, visit, partial(to_the_end, path, config, toy, len(killed))))
        os.close(told)
        with os.fdopen(hears) as pipe:
            words = pipe.read()
        if not os.WIFSIGNALED(status):
            assert status == 0, f"{path} ended with {status}"
            return deaths
        file, line = json.loads(words)
        killed.add((file, line))
        deaths += 1


def to_the_end(path: Path, config: dict[str, Any], toy: Toy, life: int = 0) -> bool:
    """Run or resume until it has ended; True if it ended in doubt. Each attempt loses other messages."""
    for n in range(20):
        doubt = go_on(path, {**config, "loss_seed": config.get("loss_seed", 0) + 100 * life + n}, toy)
        if doubt or ended(path):
            return doubt
    raise AssertionError(f"{path} does not come to an end")


def ended(path: Path) -> bool:
    if not path.exists():
        return False
    with RunFile.open(path) as reader:
        return bool(reader.value("state") == "finished")


def at_each_line(folder: Path, config: dict[str, Any], toy: Toy, only: frozenset[str]) -> None:
    """Runs, killed at lines at which none was killed before, until a whole run meets no such line."""
    killed: set[tuple[str, int]] = set()
    for n, share in enumerate([0.002, 0.01, 0.1, *[1.0] * 50]):
        link = SocketLink(config["address"])
        link("reset", [])
        path = folder / f"{n}.nbr"
        deaths = one_run(path, config, toy, killed, share, only)
        print(json.dumps({"deaths": deaths, "lines": len(killed), **verdict(path, link)}), flush=True)
        link.close()
        if share == 1 and not deaths:
            return


def main() -> None:
    runner.RETRY_PAUSE_S = 0.001
    what, folder, config, toy = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), Toy(**json.loads(sys.argv[4]))
    if what == "plain":
        once(folder / "a.nbr", config, toy)
        return
    once(folder / "warm.nbr", {**config, "command": 0, "reply": 0}, toy)  # forks inherit what it has imported
    if what == "survey":
        print(json.dumps(survey(folder, config, toy)))
        return
    if what == "lines":
        at_each_line(folder, config, toy, TRACED if json.loads(sys.argv[5]) else CORE)
        return
    for points in json.loads(sys.argv[5]):
        print(json.dumps(trial(folder, config, toy, points)), flush=True)


if __name__ == "__main__":
    main()
