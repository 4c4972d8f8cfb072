"""The FPGA driver on a board in another process, in real time: the host is killed in the middle of what it does.

The lines are grounded within the watchdog's time, by the board's clock; then the run is resumed, and its file and the
chip agree.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed import PULSE, ended, started
from served_board import BoardProcess, Look

from neurobench.bench.crossbar import Applied
from neurobench.bench.steps import Apply, BenchView, Protocol, Result, Sense, Steps
from neurobench.bench.stimulus import CellRead, PulseBatch
from neurobench.runs.runfile import RunFile, Settled

WATCHDOG_S = 0.1
SHAPE = (200, 2)


class Rows(Protocol):
    """Batches of 200 shots of one pulse of 1 ms: a fifth of a second each."""

    batches: int = 3

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        for sign in (1, -1, 1)[: self.batches]:
            yield Apply(PulseBatch(np.full(view.shape, sign, np.int16), PULSE))
            yield Sense(CellRead(np.ones(view.shape, np.bool_), 0.05))
        return Result(True)


class Many(Protocol):
    """One shot of 1500 pulses."""

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        counts = np.zeros(view.shape, np.int16)
        counts[1, 0] = 1500
        yield Apply(PulseBatch(counts, PULSE))
        yield Sense(CellRead(counts != 0, 0.05))
        return Result(True)


@dataclass
class Lab:
    """The board, and a bench file for it."""

    folder: Path
    bench: Path
    board: BoardProcess

    def pulses(self) -> int:
        return self.board.look().pulses

    def until(self, pulses: int) -> None:
        """Waits until the chip has had so many."""
        end_s = time.monotonic() + 20
        while self.pulses() < pulses:
            assert time.monotonic() < end_s, "the pulses do not come"
            time.sleep(0.005)

    def at_rest(self) -> Look:
        """What the board says when the watchdog must have acted, and that nothing comes after it."""
        time.sleep(2 * WATCHDOG_S)
        found = self.board.look()
        time.sleep(0.1)
        assert self.pulses() == found.pulses, "it fires on"
        return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    board, bench = BoardProcess(folder / "chip.npz", SHAPE), folder / "lab.toml"
    bench.write_text(
        '[bench]\nbackend = "fpga"\nbiases = ["half"]\n'
        f'[chip]\nrows = {SHAPE[0]}\ncols = {SHAPE[1]}\nmodel = "lsmo-gaq3-mirror"\npotentiating_sign = 1\n'
        'top_electrode = "row"\naccept_no_compliance = true\n'
        "[limits]\nmax_cell_v = 2.5\nmax_read_v = 0.1\nmax_width_s = 1e-2\n"
        f'[board]\nurl = "{board.url}"\nwatchdog_s = {WATCHDOG_S}\n'
    )
    yield Lab(folder, bench, board)
    board.close()


def ledger(path: Path) -> tuple[int, list[Any]]:
    """Pulses of all answers, and the entries that have none."""
    with RunFile.open(path) as reader:
        entries = list(reader.entries())
    sure = sum(entry.answer.pulses for entry in entries if isinstance(entry.answer, Applied))
    return sure, [entry for entry in entries if entry.settled in (Settled.OPEN, Settled.DOUBT)]


@pytest.mark.parametrize("after_s", [(0.03, 0.11, 0.07), (0.05, 0.16, 0.2)])
def test_killed_again_and_again_the_chip_has_what_the_ledger_says(lab: Lab, after_s: tuple[float, ...]) -> None:
    path, before, script = lab.folder / f"{after_s[0]}.nbr", lab.pulses(), Rows(batches=3)
    for kill_s in after_s:
        process, _ = started(lab.bench, path, script)
        time.sleep(kill_s)
        process.kill()
        process.join(10)
    process, said = started(lab.bench, path, script)
    assert ended(said) == "finished"
    process.join(10)
    sure, open_ones = ledger(path)
    assert not open_ones
    assert lab.pulses() - before == sure > 0


def test_killed_in_a_batch_the_lines_are_grounded_in_time_and_the_run_goes_on_with_what_was_fired(lab: Lab) -> None:
    path, before, script = lab.folder / "batch.nbr", lab.pulses(), Rows(batches=1)
    process, _ = started(lab.bench, path, script)
    lab.until(before + 20)
    process.kill()
    process.join(10)
    found = lab.at_rest()
    assert found.grounded
    assert 20 <= found.pulses - before < 400, "the batch was cut short"
    assert found.last_end_s <= found.heard_s + WATCHDOG_S, found
    assert (found.pulses - before) % 2 == 0, "no shot of two cells was left half done"
    process, said = started(lab.bench, path, script)
    assert ended(said) == "finished", "shots are fired or not: no doubt is left"
    process.join(10)
    assert ledger(path) == (found.pulses - before, [])
    assert lab.pulses() == found.pulses, "what was cut off is not fired again"


def test_killed_in_a_shot_of_many_pulses_it_is_in_doubt_and_says_so(lab: Lab) -> None:
    path, before, script = lab.folder / "shot.nbr", lab.pulses(), Many()
    process, _ = started(lab.bench, path, script)
    lab.until(before + 20)
    process.kill()
    process.join(10)
    found = lab.at_rest()
    assert found.grounded
    assert 20 <= found.pulses - before < 1500
    assert found.last_end_s <= found.heard_s + WATCHDOG_S, found
    process, said = started(lab.bench, path, script)
    assert ended(said) == "PulseUnknown"
    process.join(10)
    assert [entry.settled for entry in ledger(path)[1]] == [Settled.DOUBT]
    process, said = started(lab.bench, path, script, accept_doubt=True)
    assert ended(said) == "finished"
    process.join(10)
    assert ledger(path)[0] <= found.pulses - before == lab.pulses() - before, "nothing was fired again"
