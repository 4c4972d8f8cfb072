"""Statistics instead of a lucky run: one protocol on many emulated chips, each made from its own seed.

Every chip is run by the same runner as a single run; only the record is thrown away. What is kept stands in one sweep
file (JSON lines): a head that says what was asked, then one line for each chip. A torn last line is dropped and its
chip run again, so an interrupted sweep goes on where it stopped. Decision record: docs/decisions/0040-sweep.md.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from neurobench.bench.config import SIMULATED_BACKENDS, BenchConfig, open_bench
from neurobench.errors import NeurobenchError, NoRoom, Refused, RunFileError, UsageError
from neurobench.learning.convergence import wilson
from neurobench.runs import runner
from neurobench.runs.request import Prepared, Request, prepare
from neurobench.runs.runfile import MemoryRecord
from neurobench.system import (
    Holder,
    Lock,
    free_bytes,
    holder_of,
    interrupted_by_signals,
    network_filesystem,
    spawn_context,
    sync_file,
    utc_now,
)

SCHEMA = 1
SUFFIX = ".sweep.jsonl"
CHUNK = 20  # chips handed to a worker at once: long enough to hide the hand-over, short enough for a smooth bar
BYTES_PER_CHIP = 400  # upper bound of one line


class Chip(NamedTuple):
    """What became of one chip. Times in seconds: `bench_s` on the bench's clock, `wall_s` here, `preflight_s` of it."""

    seed: int
    status: str
    updates: int | None  # of protocols that count none
    reads: int
    pulses: int
    bench_s: float
    wall_s: float
    preflight_s: float
    energy_j: float | None = None
    test_accuracy: float | None = None
    why: str = ""

    @property
    def reached(self) -> bool:
        """Whether this chip reached the protocol's goal."""
        return self.status == "finished"


@dataclass(frozen=True)
class Head:
    """First line of a sweep file."""

    sweep: str
    request: Request
    first_seed: int
    end_seed: int
    started: str
    version: str
    schema: int = SCHEMA

    @property
    def seeds(self) -> range:
        """The seeds asked for."""
        return range(self.first_seed, self.end_seed)

    def command(self, seed: int) -> str:
        """The command line that runs one of its chips again, with a run file."""
        return Request(**{**asdict(self.request), "seed": seed}).command()


@dataclass(frozen=True)
class Sweep:
    """A sweep file as it is now."""

    path: Path
    head: Head
    chips: tuple[Chip, ...]

    @property
    def missing(self) -> list[int]:
        """Seeds that were asked for and have not run yet."""
        done = {chip.seed for chip in self.chips}
        return [seed for seed in self.head.seeds if seed not in done]

    def run_id(self, seed: int) -> str:
        """Name of one chip's run: the sweep's id and the seed."""
        return f"{self.head.sweep}-s{seed}"


# ---------------------------------------------------------------------------------------------- the file


def parse_seeds(text: str) -> range:
    """`0:1000` (the end is not included), or `7` for one seed."""
    first, colon, end = text.partition(":")
    try:
        seeds = range(int(first or 0), int(end)) if colon else range(int(first), int(first) + 1)
    except ValueError:
        raise UsageError(f"--seeds {text!r}: write first:end, for example 0:1000 (the end is not included)") from None
    if seeds.start < 0 or not seeds:
        raise UsageError(
            f"--seeds {text!r} holds no seed: seeds are whole numbers from 0 on, and the end is not included"
        )
    return seeds


def create(asked: Request, seeds: range, folder: Path) -> Path:
    """A new sweep file with its head, durable; nothing has run yet.

    Errors: UsageError for a wrong setting, a bench whose chips do not differ by their seed, or a folder that cannot be
    written; NoRoom where the disk cannot hold the answers.
    """
    from neurobench import __version__

    _check_sweepable(prepare(asked).bench)
    started = utc_now()
    name = f"{started[:19].replace('-', '').replace(':', '').replace('T', '-')}-{asked.protocol}-sweep"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_room(folder, len(seeds))
        path = _fresh(folder, name)
        head = Head(path.name.removesuffix(SUFFIX), asked, seeds.start, seeds.stop, started, __version__)
        with path.open("xb") as file:
            _append(file, [asdict(head)])
    except OSError as error:
        raise UsageError(
            f"cannot write the sweep file in {folder}: {error.strerror or error}; choose a folder with --out"
        ) from error
    return path


def _check_sweepable(bench: BenchConfig) -> None:
    """Every seed has to be another chip, or a thousand seeds are one experiment."""
    name, chip = bench.bench.name, bench.chip
    if bench.bench.backend not in SIMULATED_BACKENDS:
        raise UsageError(f"bench {name}: a sweep makes one chip for each seed, and a real chip has none; use `run`")
    if chip.file is not None:
        raise UsageError(f"bench {name}: [chip] file = {chip.file} is one chip; a sweep makes one for each seed")
    if chip.seed is not None:
        raise UsageError(f"bench {name}: [chip] seed = {chip.seed} makes every chip the same; leave it out of a sweep")


def _fresh(folder: Path, name: str) -> Path:
    """A name that is not taken: two sweeps may start within one second."""
    taken = 0
    while (path := folder / f"{name}{f'-{taken}' if taken else ''}{SUFFIX}").exists():
        taken += 1
    return path


def _check_room(folder: Path, chips: int) -> None:
    network = network_filesystem(folder)
    if network:
        raise UsageError(f"{folder} lies on a network file system ({network}); choose a local folder with --out")
    needed, free = chips * BYTES_PER_CHIP + 65536, free_bytes(folder)
    if free < needed:
        raise NoRoom(
            f"{chips} chips need {needed} bytes in {folder}, {free} are free; choose another folder with --out"
        )


def _append(file: Any, lines: Iterable[Any]) -> None:
    """Add lines and make them durable."""
    file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    file.flush()
    sync_file(file.fileno())


def load(path: Path) -> Sweep:
    """Read a sweep file, also one that is being written. RunFileError for anything else."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RunFileError(f"cannot read {path}: {error.strerror or error}") from error
    # After the last newline stands nothing, or a line that was torn by a crash.
    head, *rows = lines[:-1] or [b""]
    return Sweep(path, _head(path, head), tuple(_chip(path, n, row) for n, row in enumerate(rows, start=2)))


def _head(path: Path, line: bytes) -> Head:
    try:
        found = json.loads(line)
        schema = found["schema"]
        if schema != SCHEMA:
            raise RunFileError(f"{path} has schema {schema}, this version reads {SCHEMA}: use a newer neurobench")
        return Head(**{**found, "request": Request(**found["request"])})
    except (ValueError, KeyError, TypeError) as error:
        raise RunFileError(f"{path} is not a sweep file: its first line is not a head ({error})") from error


def _chip(path: Path, number: int, line: bytes) -> Chip:
    try:
        return Chip(*json.loads(line))
    except (ValueError, TypeError) as error:
        raise RunFileError(f"{path}, line {number}: damaged ({error})") from error


# ---------------------------------------------------------------------------------------------- doing it


def run(path: Path, workers: int | None = None, watch: Callable[[int, int], None] | None = None) -> Sweep:
    """Run the chips of a sweep file that have not run yet, in `workers` processes (default: one for each core).

    `watch(done, reached)` is called as answers come in. On KeyboardInterrupt what came in is kept and the exception
    goes on; `run` again to continue. InUse while another process runs it: every chip would be counted twice.
    """
    prepare(load(path).head.request)  # a mistake in the request is said once, here, and not by every worker
    with _alone(path):
        sweep = load(path)
        _trim(path)
        done, reached = len(sweep.chips), sum(chip.reached for chip in sweep.chips)
        with path.open("ab") as file:
            for chips in _answers(sweep, workers or os.cpu_count() or 1):
                _append(file, chips)
                done, reached = done + len(chips), reached + sum(chip.reached for chip in chips)
                if watch:
                    watch(done, reached)
        return load(path)


def writer(path: Path) -> Holder | None:
    """The process that runs this sweep now; None if nobody does."""
    return holder_of(_lock_path(path))


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with Lock(_lock_path(path), f"sweep {path.name}"):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                _lock_path(path).unlink()


def _trim(path: Path) -> None:
    """Cut off a torn last line, so that the next one begins on a line of its own."""
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.truncate(path, whole)


def _answers(sweep: Sweep, workers: int) -> Iterator[list[Chip]]:
    missing = sweep.missing
    chunks = [missing[k : k + CHUNK] for k in range(0, len(missing), CHUNK)]
    if workers == 1:
        prepared = prepare(sweep.head.request)
        yield from ([trial(prepared, seed) for seed in chunk] for chunk in chunks)
        return
    with ProcessPoolExecutor(min(workers, len(chunks) or 1), spawn_context(), _begin, (sweep.head.request,)) as pool:
        try:
            yield from _pooled(pool, chunks)
        except BrokenProcessPool as error:
            raise NeurobenchError(
                "a worker process died (out of memory?); what was done is kept. "
                f"Go on with: neurobench resume {sweep.path}"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _pooled(pool: ProcessPoolExecutor, chunks: Sequence[list[int]]) -> Iterator[list[Chip]]:
    """Answers in the order in which they come; what came in together is written together."""
    waiting: set[Future[list[Chip]]] = {pool.submit(_chunk, chunk) for chunk in chunks}
    while waiting:
        ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield [chip for future in ready for chip in future.result()]


_mine: list[Prepared] = []  # of this worker process


def _begin(asked: Request) -> None:
    """Start of a worker: Ctrl-C is for the parent, which then lets the workers finish their chunk."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _mine[:] = [prepare(asked)]


def _end_with_parent() -> None:
    """A worker that waits for work would outlive a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _chunk(seeds: list[int]) -> list[Chip]:
    return [trial(_mine[0], seed) for seed in seeds]


def go(
    path: Path, workers: int | None = None, watch: Callable[[int, int], None] | None = None
) -> tuple[Sweep, Literal["finished", "aborted"]]:
    """`run`, where Ctrl-C is an ending: the sweep as far as it came, and whether it came to its end."""
    try:
        with interrupted_by_signals():
            return run(path, workers, watch), "finished"
    except KeyboardInterrupt:
        return load(path), "aborted"


# ---------------------------------------------------------------------------------------------- one chip


class _Timed(MemoryRecord):
    """A record that keeps nothing but the moment at which the protocol told of its preflight."""

    def __init__(self) -> None:
        super().__init__()
        self.preflight_at = 0.0

    def note(self, seq: int, name: str, value: Any) -> None:  # noqa: ARG002 - not kept
        """Look at the clock when the preflight is over; notes are not kept."""
        if name == "preflight" and not self.preflight_at:
            self.preflight_at = time.perf_counter()


def trial(prepared: Prepared, seed: int) -> Chip:
    """Run the protocol on the chip of one seed, through Guard and runner as any run."""
    began, record = time.perf_counter(), _Timed()
    try:
        guard = open_bench(prepared.bench, seed, prepared.protocol.limits_profile)
        try:
            before_s, opened = guard.clock_s, time.perf_counter()
            outcome = runner.run(prepared.protocol, guard, seed=seed, record=record)
            bench_s = guard.clock_s - before_s
        finally:
            guard.close()
    except Refused as refused:
        return Chip(seed, "refused", 0, 0, 0, 0.0, time.perf_counter() - began, 0.0, why=str(refused))
    if isinstance(outcome.error, KeyboardInterrupt):
        raise outcome.error
    preflight_s = max(record.preflight_at - opened, 0.0)
    return _chip_of(seed, outcome, bench_s, time.perf_counter() - began, preflight_s)


def _chip_of(seed: int, outcome: runner.RunOutcome, bench_s: float, wall_s: float, preflight_s: float) -> Chip:
    result = outcome.result or {}
    cost = result.get("cost", {})
    return Chip(
        seed,
        outcome.status,
        None if result.get("updates") is None else int(result["updates"]),
        int(cost.get("reads", outcome.totals.reads)),
        outcome.pulses,
        bench_s,
        wall_s,
        preflight_s,
        outcome.energy_j if math.isfinite(outcome.energy_j) else None,
        result.get("test_accuracy"),
        f"{type(outcome.error).__name__}: {outcome.error}" if outcome.error else "",
    )


# ---------------------------------------------------------------------------------------------- what it says


def summary(sweep: Sweep) -> dict[str, Any]:
    """The statistics of a sweep: rate with its Wilson interval (95 %), updates to convergence, cost of a chip."""
    chips, reached = sweep.chips, [chip for chip in sweep.chips if chip.reached]
    updates = [chip.updates for chip in reached if chip.updates is not None]
    return {
        "chips": len(chips),
        "asked": len(sweep.head.seeds),
        "converged": len(reached),
        "convergence_rate": len(reached) / len(chips) if chips else None,
        "interval": list(wilson(len(reached), len(chips))),
        "interval_kind": "Wilson, 95 %",
        "updates": {**spread(updates), "histogram": {str(n): times for n, times in sorted(Counter(updates).items())}},
        "cost_per_chip": {
            "reads": spread([chip.reads for chip in chips]),
            "pulses": spread([chip.pulses for chip in chips]),
            "bench_s": spread([chip.bench_s for chip in chips]),
            "wall_s": spread([chip.wall_s for chip in chips]),
            "preflight_s": spread([chip.preflight_s for chip in chips]),
        },
        "test_accuracy": spread([chip.test_accuracy for chip in chips if chip.test_accuracy is not None]),
        "statuses": dict(Counter(chip.status for chip in chips).most_common()),
        "reasons": dict(Counter(chip.why for chip in chips if chip.why).most_common(5)),
        "run_ids": [sweep.run_id(chip.seed) for chip in chips],
        "converged_seeds": sorted(chip.seed for chip in reached),
    }


def report(found: Sweep, status: str) -> dict[str, Any]:
    """The one JSON object of `sweep --json`; its keys are described in docs/cli.md."""
    request, chips, result = found.head.request, found.chips, summary(found)
    energies = [chip.energy_j for chip in chips]
    return {
        "run_id": found.head.sweep,
        "run_file": str(found.path),
        "protocol": request.protocol,
        "bench": request.bench,
        "simulated": True,
        "status": status,
        "result": result,
        "pulses": sum(chip.pulses for chip in chips),
        "energy_j": sum(e for e in energies if e is not None) if energies and None not in energies else None,
        "energy_basis": "model" if energies and None not in energies else "unknown",
        "wall_s": sum(chip.wall_s for chip in chips),
        "error": None,
        "example": found.head.command((result["converged_seeds"] or [found.head.first_seed])[0]),
    }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Smallest, 5 %, median, mean, 95 % and largest of some values; None of each where there are none."""
    if not values:
        return dict.fromkeys(("min", "p5", "median", "mean", "p95", "max"))
    ordered = sorted(values)
    return {
        "min": ordered[0],
        "p5": _percentile(ordered, 0.05),
        "median": statistics.median(ordered),
        "mean": statistics.fmean(ordered),
        "p95": _percentile(ordered, 0.95),
        "max": ordered[-1],
    }


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Linear between neighbours, as numpy does by default."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
