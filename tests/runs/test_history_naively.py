"""A second way through a run file, slow and simple, and the follower's story of random runs compared with it.

`naive` reads SQLite itself and keeps nothing between two questions. The runs are random in all that may confuse a
follower: reads of some cells, batches that were cut off, loops, doubts, resumed parts, notes of any form, crashes.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import LIMITS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurobench.bench.codec import decode_answer, decode_step, encode_answer, encode_step, pack, unpack
from neurobench.bench.crossbar import Applied, Capabilities, Reading, Unknown, Witness
from neurobench.bench.steps import Apply, Checkpoint, Loop, LoopAnswer, LoopBounds, LoopProgram, Sense, Wait
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch, Shape, VectorRead, Waveforms
from neurobench.runs import feed, history
from neurobench.runs.history import Follower, Snapshot
from neurobench.runs.runfile import RunWriter, Settled, jsonable_dict

SHAPE = (3, 4)
PULSES = (Pulse(0.5, 1e-3), Pulse(0.7, 1e-3), Pulse(0.5, 2e-3, 1e-4, 1e-4))


# ---------------------------------------------------------------------------------------------- the slow way


def naive(path: Path, at_seq: float = math.inf) -> dict[str, Any]:
    """All that a snapshot after step `at_seq` says of cells, costs and notes."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        said = dict(db.execute("SELECT key, value FROM manifest WHERE key IN ('simulated', 'capabilities')"))
        entries = db.execute("SELECT seq, 0, kind, step, answer, state FROM journal").fetchall()
        notes = db.execute("SELECT seq, id, name, value, NULL, NULL FROM notes").fetchall()
        truth = db.execute("SELECT seq, conductance_s FROM truth ORDER BY seq").fetchall()
    told = Told(said["simulated"] == "true", -1 if '"potentiating_sign": -1' in said["capabilities"] else 1)
    for row in sorted(entries + notes, key=lambda row: (row[0], row[1])):
        if row[0] <= at_seq:
            (told.note if row[1] else told.entry)(row)
    known = [unpack(data) for seq, data in truth if seq <= told.seq]
    told.truth_s = known[-1] if known and told.simulated else None
    told.last_seq = max((row[0] for row in entries + notes), default=-1)
    return vars(told)


class Told:
    """What was heard so far, in plain words of the docstrings: no shared arrays, no shortcuts."""

    def __init__(self, simulated: bool, sign: int) -> None:
        self.simulated, self.sign = simulated, sign
        self.seq, self.at_s, self.begun_s, self.ended_s = -1, 0.0, math.nan, math.nan
        self.conductance_s, self.sigma_s, self.read_at_s, self.first_s, self.before_s = (
            np.full(SHAPE, math.nan) for _ in range(5)
        )
        self.ups, self.downs = np.zeros(SHAPE, int), np.zeros(SHAPE, int)
        self.excluded = np.zeros(SHAPE, bool)
        self.pulses, self.reads, self.hits, self.pulses_j, self.reads_j = 0, 0, 0, 0.0, 0.0
        self.notes: dict[str, Any] = {}
        self.points_told: list[Any] = []
        self.pulses_told: list[Any] = []
        self.errors: list[float] = []
        self.weights_s: Any = None
        self.lines: list[tuple[int, str]] = []
        self.traces: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
        self.counts: Any = None

    def entry(self, row: Any) -> None:
        seq, _, kind, step, answer, _ = row
        answer = None if answer is None else decode_answer(answer)
        self.seq = seq
        if kind == "wait":
            self.at_s += decode_step(step).seconds
        elif kind != "checkpoint" and answer is not None:
            self._pass(answer.start_s, answer.end_s)
            getattr(self, f"_{kind}")(None if kind == "loop" else decode_step(step), answer)
        self.lines.append((seq, kind))

    def _pass(self, start_s: float, end_s: float) -> None:
        if math.isnan(self.begun_s) or start_s < self.ended_s - 1e-6:
            self.begun_s = start_s - self.at_s
        self.ended_s = end_s
        self.at_s = max(self.at_s, end_s - self.begun_s)

    def _loop(self, _: Any, answer: Any) -> None:
        self.ups += answer.potentiations
        self.downs += answer.depressions
        self.pulses += int(answer.potentiations.sum() + answer.depressions.sum())
        self.pulses_j += answer.energy_j

    def _apply(self, step: Any, answer: Any) -> None:
        self.pulses, self.pulses_j = self.pulses + answer.pulses, self.pulses_j + answer.energy_j
        self.hits += answer.compliance_hit
        if isinstance(step.stimulus, Waveforms):
            if answer.shots_done:  # one triangle on one row: +0.6 V, then -0.6 V
                up = step.stimulus.row_shape >= 0
                (self.ups if self.sign > 0 else self.downs)[up] += 1
            self.counts = None
            return
        self.counts = step.stimulus.counts
        for row, col, count in one_by_one(step.stimulus.counts, answer.shots_done):
            (self.ups if count > 0 else self.downs)[row, col] += abs(count)

    def _sense(self, step: Any, answer: Any) -> None:
        self.reads, self.reads_j = self.reads + 1, self.reads_j + answer.energy_j
        if isinstance(step.read, CellRead):
            self.cells(step.read, answer)

    def cells(self, read: CellRead, answer: Any) -> None:
        both, volts = len(answer.currents_a) == 2, read.voltage_v
        for n, (row, col) in enumerate(np.argwhere(read.mask).tolist()):
            amperes = answer.currents_a[:, n]
            value = ((amperes[0] - amperes[1]) / 2 if both else amperes[0]) / volts
            self.before_s[row, col] = self.conductance_s[row, col]
            self.conductance_s[row, col] = value
            self.read_at_s[row, col] = answer.end_s - self.begun_s
            cut = "compliance" in answer.flags or (answer.flags and max(abs(amperes)) >= answer.range_a)
            self.sigma_s[row, col] = math.nan if cut else answer.sigma_a / abs(volts) / (math.sqrt(2) if both else 1)
            if math.isnan(self.first_s[row, col]):
                self.first_s[row, col] = value
            self.traces[row, col].append((answer.end_s - self.begun_s, value))

    def note(self, row: Any) -> None:
        seq, _, name, data, _, _ = row
        value, self.seq = unpack(data), max(self.seq, seq)
        if name == "_baseline":
            answer = decode_answer(value["reading"])
            self._pass(answer.start_s, answer.end_s)
            self.cells(decode_step(value["read"]).read, answer)
        elif name == "epoch":
            self.errors += [value["error"]] if isinstance(value, dict) and "error" in value else []
            self.weights_s = value["weights"] if isinstance(value, dict) and "weights" in value else self.weights_s
        elif name in ("point", "pulse"):
            getattr(self, f"{name}s_told").extend([value] if isinstance(value, dict) else [])
        else:
            self.notes[name] = value
            if name in ("retired", "cell_state"):
                for cell in value["cells"]:
                    self.excluded[tuple(cell)] = name == "retired" or value["state"] in ("stuck", "shorted", "retired")
        self.lines.append((seq, "note"))


def one_by_one(counts: Any, shots: int) -> list[tuple[int, int, int]]:
    """(row, column, signed pulses) of the first shots of a batch on a bench that selects rows, as rule 4 orders them:
    potentiating ones first, row by row, and in a row first the pulses that all of its cells share."""
    found = []
    for sign in (1, -1):
        for row, line in enumerate((sign * counts.astype(int)).tolist()):
            left = [max(count, 0) for count in line]
            while any(left) and shots:
                shared = min(count for count in left if count)
                found += [(row, col, sign * shared) for col, count in enumerate(left) if count]
                left = [count - shared if count else 0 for count in left]
                shots -= 1
    return found


# ---------------------------------------------------------------------------------------------- the same

close = np.testing.assert_allclose


def compare(seen: Snapshot, path: Path) -> None:
    """A snapshot says what the file says, no more and no less."""
    told = naive(path, seen.seq)
    assert (seen.seq, seen.last_seq) == (told["seq"], max(told["last_seq"], -1))
    assert seen.at_s == pytest.approx(told["at_s"], abs=1e-5)
    for name in ("conductance_s", "sigma_s", "first_s", "before_s", "read_at_s", "ups", "downs", "excluded"):
        close(getattr(seen.cells, name), told[name], 1e-12, 1e-5 * (name == "read_at_s"))
    energy = seen.energy
    assert (energy.pulses, energy.reads, energy.compliance_hits) == (told["pulses"], told["reads"], told["hits"])
    close([energy.pulses_j, energy.reads_j], [told["pulses_j"], told["reads_j"]], 1e-9)
    assert pack(dict(seen.notes)) == pack({name: told["notes"][name] for name in seen.notes})
    assert seen.notes.keys() == told["notes"].keys()
    assert (list(seen.points), list(seen.ramps)) == (told["points_told"], told["pulses_told"])
    assert (seen.progress["error"].values.tolist() if "error" in seen.progress else []) == told["errors"]
    np.testing.assert_array_equal(seen.weights_s, told["weights_s"])
    np.testing.assert_array_equal(seen.truth_s, told["truth_s"])
    assert [(line.seq, line.kind) for line in seen.recent] == told["lines"][-64:]
    fired = seen.stimulus.counts if isinstance(seen.stimulus, PulseBatch) else None
    np.testing.assert_array_equal(fired, told["counts"])
    for cell in ((0, 0), (2, 3)):
        at_s, values = seen.history.trace([cell], seen.seq)
        close(np.stack([at_s, values[:, 0]], 1), np.array(told["traces"][cell]).reshape(-1, 2), 1e-6)


# ---------------------------------------------------------------------------------------------- random runs


class Writing:
    """Writes a random run as the runner does: what moves is answered, in doubt, or left open."""

    def __init__(self, path: Path, rng: np.random.Generator, simulated: bool, sign: int) -> None:
        capabilities = Capabilities(SHAPE, parallelism="row", potentiating_sign=sign)
        facts = jsonable_dict(
            protocol={"class": "neurobench.protocols.toy:Toy", "parameters": {}}, capabilities=capabilities,
            identity={"backend": "visa", "simulated": simulated, "chip_id": "A7", "details": {}},
            simulated=simulated, limits=LIMITS, bench="lab", chip_id="A7", seed=5,
        )  # fmt: skip
        self.writer = RunWriter.create(path, facts)
        self.rng, self.simulated, self.seq, self.clock_s = rng, simulated, -1, float(rng.choice([0.0, 1.7e9]))
        self.resumed_at: set[int] = set()
        self.last_read: tuple[Sense, int] | None = None
        kinds = (self.pulse, self.read, self.read_some, self.multiply, self.wait, self.loop, self.play, self.checkpoint)
        self.kinds: tuple[Callable[[], None], ...] = (*kinds, self.epoch, self.note, self.pulse, self.read_some)

    def step(self) -> None:
        self.seq += 1
        self.kinds[self.rng.integers(len(self.kinds))]()

    def _spent(self) -> tuple[float, float]:
        start_s = self.clock_s + float(self.rng.random())
        self.clock_s = start_s + float(self.rng.random())
        return start_s, self.clock_s

    def _applied(self, shots: int, pulses: int) -> Applied:
        joule = float(self.rng.choice([1e-9, 2e-9]))
        return Applied(shots, pulses, *self._spent(), joule, "measured", bool(self.rng.integers(2)))

    def pulse(self) -> None:
        wide = self.rng.integers(4) == 0
        counts = self.rng.integers(-3, 4, SHAPE) * self.rng.integers(0, 2, SHAPE)
        batch = PulseBatch(counts.astype(np.int16 if wide else np.int8), PULSES[self.rng.integers(3)])
        shots = 99 if self.rng.integers(3) else int(self.rng.integers(0, 4))
        fired = one_by_one(batch.counts, shots)
        self._fire(Apply(batch), self._applied(shots, sum(abs(count) for _, _, count in fired)))

    def play(self) -> None:
        shape = Shape([0, 0.01, 0.02, 0.03], [0, 0.6, -LIMITS.max_read_v, 0])
        lines = np.where(self.rng.integers(0, 2, SHAPE[0]), 0, -1)
        waves = Waveforms((shape,), lines, np.full(SHAPE[1], -1), np.zeros(SHAPE[0]), np.zeros(SHAPE[1]))
        self._fire(Apply(waves), self._applied(int(self.rng.integers(2)), 3))

    def _fire(self, step: Apply, applied: Applied) -> None:
        if self.simulated:
            self.writer.entry(self.seq, step, applied)
            return
        self.writer.intent(self.seq, step, Witness())
        if self.rng.integers(8) == 0:
            self.writer.doubt(self.seq, Unknown(applied.shots_done, "the reply was lost"))
            self.writer.answer(self.seq, applied, Settled.WAIVED)
        else:
            self.writer.answer(self.seq, applied)

    def left_open(self) -> None:
        self.seq += 1
        self.writer.intent(self.seq, Apply(PulseBatch(np.ones(SHAPE, np.int8), PULSES[0])), Witness())

    def _reading(self, cells: int) -> Reading:
        both = int(self.rng.integers(1, 3))
        amperes = self.rng.random((both, cells)) * 1e-5
        flags = [(), (), ("over_range",), ("compliance",)][self.rng.integers(4)]
        sigma_a = float(self.rng.choice([1e-8, math.nan]))
        return Reading(amperes, sigma_a, 0.9e-5, *self._spent(), float(self.rng.choice([1e-12, 2e-12])), flags)

    def _sense(self, mask: Any) -> None:
        self.last_read = Sense(CellRead(mask, float(self.rng.choice([0.1, -0.1])))), int(mask.sum())
        self.writer.entry(self.seq, self.last_read[0], self._reading(self.last_read[1]))

    def read(self) -> None:
        self._sense(np.ones(SHAPE, bool))

    def read_some(self) -> None:
        mask = self.rng.integers(0, 3, SHAPE) == 0
        mask[self.rng.integers(SHAPE[0]), self.rng.integers(SHAPE[1])] = True
        self._sense(mask)

    def multiply(self) -> None:
        self.writer.entry(self.seq, Sense(VectorRead(np.full((2, SHAPE[0]), 0.1))), self._reading(8))

    def wait(self) -> None:
        seconds = float(self.rng.random())
        self.clock_s += seconds
        self.writer.entry(self.seq, Wait(seconds), None)

    def loop(self) -> None:
        ups, downs = self.rng.integers(0, 3, (2, *SHAPE))
        answer = LoopAnswer(7, np.zeros((0, 2), np.int64), ups, downs, {}, *self._spent(), 1e-9, "")
        step = Loop(Spinning(), 7)
        if self.simulated:
            self.writer.entry(self.seq, step, answer)
        else:
            self.writer.intent(self.seq, step, Witness())
            self.writer.answer(self.seq, answer)

    def checkpoint(self) -> None:
        self.writer.entry(self.seq, Checkpoint({"n": self.seq}), None)

    def epoch(self) -> None:
        if self.simulated:
            self.writer.truth(self.seq, self.rng.random(SHAPE))
        weights = {"weights": self.rng.random((2, 2))} if self.rng.integers(2) else {}
        self.writer.note(self.seq, "epoch", {"index": self.seq, "error": float(self.rng.integers(9)), **weights})

    def note(self) -> None:
        cells = [[int(self.rng.integers(3)), int(self.rng.integers(4))]]
        told: list[tuple[str, Any]] = [
            ("point", {"dt_s": float(self.seq)}), ("remark", "x" * int(self.rng.integers(5000))), ("point", 3),
            ("retired", {"cells": cells}), ("cell_state", {"cells": cells, "state": "formed"}), ("grid", self.seq),
            ("pulse", {"v": 1.5}),
        ]  # fmt: skip
        self.writer.note(self.seq, *told[self.rng.integers(len(told))])

    def resumed(self) -> None:
        """Another process goes on: it reads the cells of the last read again; its clock may begin anew."""
        self.clock_s *= float(self.rng.integers(2))
        path = self.writer.path
        self.writer.close()
        self.writer = RunWriter.reopen(path)
        self.writer.put(status=None, resumed=1)
        if self.last_read is not None and not self.simulated:
            step, cells = self.last_read
            told = {"read": encode_step(step), "reading": encode_answer(self._reading(cells)), "cells": cells}
            self.writer.note(self.seq, "_baseline", told)
            self.resumed_at.add(self.seq)
        self.writer.flush()


class Spinning(LoopProgram):
    kind = "spinning"

    def bounds(self, ticks: int) -> LoopBounds:
        return LoopBounds(PULSES[0], PULSES[0], ticks, 0.1)

    def arrays(self) -> dict[str, Any]:
        return {}

    def scalars(self) -> dict[str, float]:
        return {}


@given(seed=st.integers(0, 2**32), steps=st.integers(5, 60))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_is_told_as_its_file_says_it(tmp_path: Path, seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / f"{seed}-{steps}.nbr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "ROWS", int(rng.choice([2, 5, 2000])))
        patch.setattr(history, "KEY_ROWS", int(rng.choice([3, 10, 1000])))
        patch.setattr(history, "MOST_KEYS", int(rng.choice([3, 64])))
        for old in tmp_path.iterdir():  # of an example that failed before
            old.unlink()
        writing = Writing(path, rng, bool(rng.integers(2)), int(rng.choice([1, -1])))
        follower = Follower(path, budget_s=float(rng.choice([0.0, 1.0])))
        for _ in range(steps):
            writing.step()
            if rng.integers(20) == 0:
                writing.resumed()
            if rng.integers(4) == 0:
                writing.writer.flush()
                look(follower, path, rng, writing.resumed_at if follower.read() else set())
        end(writing, path, rng)
        while follower.read():
            pass
        for _ in range(6):
            look(follower, path, rng, set())
        compare(follower.snapshot(), path)
        follower.close()


def look(follower: Follower, path: Path, rng: np.random.Generator, half_read: set[int]) -> None:
    """Now, unless what a resumed part found then may still wait to be read, and at any step before."""
    now = follower.snapshot()
    assert now.error is None
    if now.seq not in half_read:
        compare(now, path)
    wanted = int(rng.integers(-1, max(now.seq, 0) + 1))
    earlier = follower.snapshot(wanted)
    assert earlier.seq == wanted or now.seq < 0
    if earlier.seq < now.seq:
        compare(earlier, path)


def end(writing: Writing, path: Path, rng: np.random.Generator) -> None:
    """In order, or by a crash: side files stay, and a pulse may be under way."""
    crashes = rng.integers(2)
    if crashes and not writing.simulated and rng.integers(2):
        writing.left_open()
    if not crashes:
        writing.writer.put(status="finished")
        writing.writer.close()
        return
    writing.writer.flush()
    for side in ("", "-wal"):
        shutil.copyfile(f"{path}{side}", f"{path}.kept{side}")
    writing.writer.close()
    for side in ("", "-wal"):
        shutil.move(f"{path}.kept{side}", f"{path}{side}")


@pytest.mark.parametrize(("simulated", "basis"), [(True, "model"), (False, "unknown")])
def test_only_an_emulated_loop_has_joules_of_a_model(tmp_path: Path, simulated: bool, basis: str) -> None:
    writing = Writing(tmp_path / "a.nbr", np.random.default_rng(1), simulated, 1)
    writing.seq = 0
    writing.loop()
    writing.writer.close()
    follower = Follower(tmp_path / "a.nbr")
    while follower.read():
        pass
    assert follower.snapshot().energy.basis == basis
    compare(follower.snapshot(), tmp_path / "a.nbr")
    follower.close()
