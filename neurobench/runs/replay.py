"""Going on with a run that was left: the recorded answers are replayed, never the commands.

The protocol is made again from its parameters and seed, or from its last checkpoint, and fed what was recorded; each
step that it yields must equal the recorded one bit for bit. A real chip is not touched meanwhile; an emulated chip is
put back to its snapshot and executed again. Then the one open intent is settled, and the run goes live. Decision 0005.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from neurobench.bench.codec import encode_answer, encode_step, pack, unpack
from neurobench.bench.crossbar import Applied, Reading, conductance_s
from neurobench.bench.limits import Guard
from neurobench.bench.steps import (
    CELL_STATE,
    Answer,
    Apply,
    BenchView,
    Checkpoint,
    Loop,
    LoopAnswer,
    Note,
    Protocol,
    Result,
    Sense,
    Step,
)
from neurobench.bench.stimulus import BoolArray, CellRead, FloatArray, PulseBatch, Shots, shots
from neurobench.errors import Aborted, BaselineMoved, PulseUnknown, ResumeRefused, RunFileError
from neurobench.runs.machine import check_machine
from neurobench.runs.runfile import Entry, NoteRow, RunFile, RunWriter, Settled
from neurobench.runs.runner import SEEN, Runner, RunOutcome, check_profile, run_facts
from neurobench.runs.states import Control, State

BASELINE = "_baseline"
K_SIGMA = 6.0  # of 1024 x 1024 untouched cells, 0.002 pass it by chance


def resume(
    protocol: Protocol,
    guard: Guard,
    record: RunWriter,
    *,
    control: Control | None = None,
    accept_doubt: bool = False,
    accept_baseline: bool = False,
    present: Mapping[str, str] | None = None,
) -> RunOutcome:
    """Go on with the run in `record` (from `RunWriter.reopen`) on the same bench and chip.

    `accept_doubt`: a pulse of which nobody knows whether it was fired is taken as it is; `accept_baseline`: go on
    although cells are not where the record left them. Raises ResumeRefused, without a volt, where record and present
    do not fit together. `present` are the facts of this machine (for tests).
    """
    with RunFile.open(record.path) as reader:
        manifest = reader.manifest
        if manifest.get("state") == State.FINISHED and guard.passport.unsettled:
            settle(guard, reader)
        _check_unfinished(manifest)
        check_machine(manifest.get("machine", {}), present)
        _check_same(manifest, run_facts(protocol, guard))
        check_profile(protocol, guard)
        runner = Runner(guard, record, control or Control())
        replay = _Replay(runner, reader, accept_doubt, accept_baseline)
        replay.take_chip(record.name)
        record.put(  # `outputs`: what was read back when the run was cut off says nothing about the end of this part
            status=None, error=None, stopped=False, outputs=None, resumed=int(manifest.get("resumed", 0)) + 1
        )  # fmt: skip
        view, seed = _recorded_view(manifest, guard), int(manifest["seed"])
        outcome = runner.conduct(lambda: replay.work(protocol, view, seed))
    if isinstance(outcome.error, ResumeRefused):
        raise outcome.error
    return outcome


def settle(guard: Guard, reader: RunFile, not_fired: int | None = None) -> int:
    """Book all that a run did to the chip, up to its end, and let the chip go; the answer is the last step booked.

    For a run that ended in a crash and will not be resumed. An intent without an answer is booked as if it was fired,
    unless it is known that step `not_fired` was not. An emulated chip lost with the crash what the run did to it:
    that is done again.
    """
    name = str(reader.path)
    if guard.passport.run_file not in ("", name):
        raise ResumeRefused(f"the chip was last used by {guard.passport.run_file}, not by {name}: settle that one")
    booked = guard.passport.run_seq
    guard.passport.begin_run(name)
    last, kept = booked, reader.snapshots()
    if kept:
        guard.restore(reader.snapshot(kept[-1]))
    for row in reader.entries():
        if row.seq == not_fired:
            break
        if kept and row.seq > kept[-1]:
            execute(guard, row.step, row, booked)
        elif row.seq > booked:
            book(guard, row.step, row.answer)
        last = max(last, row.seq)
    for note in reader.notes(CELL_STATE):  # after the pulses: a cell that was retired had its pulses before
        guard.mark_cells(note.value)
    guard.end_run(last)
    return last


def execute(guard: Guard, step: Step, row: Entry, booked: int) -> Answer:
    """Do a step again on an emulated chip, which must answer as it did; up to step `booked` it is in the books."""
    answer: Answer = None
    if isinstance(step, Apply):
        if row.seq <= booked:
            guard.refund(step.stimulus)
        guard.stage(row.seq, step.stimulus)
        answer = guard.fire(row.seq)
    elif isinstance(step, Sense):
        answer = guard.sense(step.read)
    elif isinstance(step, Loop):
        answer = guard.loop(row.seq, step)
    elif not isinstance(step, Checkpoint | Note):
        guard.wait(step.seconds)
    if encode_answer(answer) != row.answer_bytes:
        raise ResumeRefused(
            f"step {row.seq} gave another answer than recorded: the emulated chip is not the one that this run began "
            "with, or its model has changed since"
        )
    return answer


def book(guard: Guard, step: Step, answer: Answer) -> None:
    """Charge a recorded step to the chip's budgets; without an answer at its worst."""
    if isinstance(step, Apply):
        guard.charge(step.stimulus)
    elif isinstance(step, Loop) and isinstance(answer, LoopAnswer):
        guard.charge_loop(step, answer)
    elif isinstance(step, Loop):
        worst = np.full(guard.capabilities.shape, step.program.bounds(step.ticks).pulses_per_cell)
        none = np.zeros_like(worst)
        guard.charge_loop(step, LoopAnswer(step.ticks, none, worst, none, {}, 0.0, 0.0, math.nan, ""))


def _check_unfinished(manifest: Mapping[str, Any]) -> None:
    missing = [key for key in ("protocol", "seed", "view") if key not in manifest]
    if missing:
        raise ResumeRefused(f"the run ended before it began (its record has no {', '.join(missing)}); run it anew")
    if manifest.get("state") == State.FINISHED:
        raise ResumeRefused(f"the run has ended ({manifest.get('status')}); there is nothing to resume")


def _check_same(manifest: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    for key in ("protocol", "chip_id", "capabilities", "limits", "device"):
        recorded, found = manifest.get(key), present[key]
        if isinstance(recorded, dict) and key != "protocol":
            # A newer version may know more of a bench than the record; steps that change by it are told by the replay.
            found = {name: value for name, value in found.items() if name in recorded}
        if recorded != found:
            then, now = _difference(recorded, found)
            raise ResumeRefused(f"the run was recorded with another {key}: {then} then, {now} now; make them equal")


def _difference(then: Any, now: Any) -> tuple[Any, Any]:
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
        return {key: then.get(key) for key in keys}, {key: now.get(key) for key in keys}
    return then, now


def _recorded_view(manifest: Mapping[str, Any], guard: Guard) -> BenchView:
    """The view as the protocol saw it when it began: budgets and cells have moved on since."""
    seen = unpack(manifest["view"])
    return replace(guard.view(), **{name: seen[name] for name in SEEN})


class _Baseline(NamedTuple):
    """The last recorded read of cells."""

    step: Sense
    reading: Reading


class _Replay:
    """Feeds a protocol its recorded answers."""

    def __init__(self, runner: Runner, reader: RunFile, accept_doubt: bool, accept_baseline: bool) -> None:
        self.runner = runner
        self.guard = runner.guard
        self.reader = reader
        self.accept_doubt = accept_doubt
        self.accept_baseline = accept_baseline
        self.baseline: _Baseline | None = None
        self.touched: BoolArray = np.zeros(self.guard.capabilities.shape, np.bool_)

    # -- before the first step ----------------------------------------------------------------------------------

    def take_chip(self, name: str) -> None:
        """Take the chip, and learn up to which step its passport holds this run's pulses already."""
        passport = self.guard.passport
        booked = passport.run_seq if passport.run_file == name else -1
        if passport.path is not None and passport.run_file not in ("", name):
            if self.reader.snapshots():
                raise ResumeRefused(
                    f"the emulated chip was used by {passport.run_file} since: going on from where {name} left it "
                    "would undo that run. Begin a new run"
                )
            # Another run followed; it could not have begun before this one was booked to its end.
            booked = max((entry.seq for entry in self.reader.entries()), default=-1)
        passport.begin_run(name, booked)
        self.runner.booked = booked

    def work(self, protocol: Protocol, view: BenchView, seed: int) -> Result:
        """Replay, settle what is open, go live."""
        start = self._put_back()
        state = None if start is None else start.step
        since = -1 if start is None else start.seq
        self._count_up_to(since)
        rng = np.random.default_rng(seed)
        steps = protocol.steps(view, rng, state.state if isinstance(state, Checkpoint) else None)
        self.runner.seq = since
        answer: Answer = None
        for row in self.reader.recorded(since):
            answer = self._again(_next_step(steps, answer, self.runner.seq), row)
        if not self.runner.replayable:
            self._look_at_cells(self.runner.seq)
        return self.runner.go_on(steps, answer)

    def _put_back(self) -> Entry | None:
        """Put an emulated chip back; the checkpoint to begin from, or None for the first step."""
        kept = self.reader.snapshots()
        self.runner.replayable = bool(kept)
        if not kept:
            return self.reader.last_checkpoint()
        self.guard.restore(self.reader.snapshot(kept[-1]))
        if kept[-1] < 0:
            return None
        return next(self.reader.entries(kept[-1] - 1))

    def _count_up_to(self, last: int) -> None:
        """Book and count what lies before the checkpoint: nothing of it is asked again."""
        for note in self.reader.notes(CELL_STATE):
            if note.seq <= last:
                self.guard.mark_cells(note.value)
        for row in self.reader.entries():
            if row.seq > last:
                return
            self._book(row.seq, row.step, row.answer)
            self._watch(row.step, row.answer)

    def _book(self, seq: int, step: Step, answer: Answer) -> None:
        self.runner.totals.add(answer)
        self.runner.unbooked = False
        if seq <= self.runner.booked:
            return
        book(self.guard, step, answer)

    def _watch(self, step: Step, answer: Answer) -> None:
        """Remember the last read of cells, and which cells were pulsed since."""
        if isinstance(step, Sense) and isinstance(step.read, CellRead) and isinstance(answer, Reading):
            self.baseline = _Baseline(step, answer)
            self.touched[:] = False
        elif isinstance(step, Apply) and isinstance(step.stimulus, PulseBatch):
            self.touched |= step.stimulus.counts != 0
        elif isinstance(step, Apply | Loop):
            self.touched[:] = True

    # -- one step -----------------------------------------------------------------------------------------------

    def _again(self, step: Step, row: Entry | NoteRow) -> Answer:
        if self.runner.control.state is State.ABORTING:
            raise Aborted(f"aborted by {self.runner.control.reason} while replaying; outputs are off")
        expected = self.runner.seq + 1
        if row.seq != expected:
            raise RunFileError(f"step {expected} is missing in {self.reader.path}; the next one there is {row.seq}")
        _check_equal(step, row, self.reader)
        self.runner.seq = row.seq
        if isinstance(row, NoteRow):
            if row.name == CELL_STATE:
                self.guard.mark_cells(row.value)
            return None
        if self.runner.replayable:
            return self._execute(step, row)
        if row.settled in (Settled.OPEN, Settled.DOUBT):
            return self._settle(step, row)
        answer = row.answer
        self._book(row.seq, step, answer)
        self._watch(step, answer)
        return answer

    def _execute(self, step: Step, row: Entry) -> Answer:
        """Do it again on the emulated chip."""
        answer = execute(self.guard, step, row, self.runner.booked)
        self.runner.totals.add(answer)
        return answer

    def _settle(self, step: Step, row: Entry) -> Answer:
        """The open intent: ask what became of it; if it certainly was not fired, it is fired now, once."""
        runner = self.runner
        runner.unbooked = row.seq > runner.booked  # until it is: whatever is raised below ends the run
        if isinstance(step, Loop):
            raise PulseUnknown(f"step {row.seq}, a loop, was cut off; what it did to the chip is not known")
        if not isinstance(step, Apply):
            raise RunFileError(f"step {row.seq} in {self.reader.path} is open, but fires nothing")
        if row.settled is Settled.DOUBT and self.accept_doubt:
            return self._waive(step, row)
        applied = runner.settle(step, row.witness, None)
        if applied is not None:
            runner.record.answer(row.seq, applied)
            self._book(row.seq, step, applied)
            self._watch(step, applied)
            return applied
        self._look_at_cells(row.seq - 1)
        if not runner.unbooked:
            self.guard.refund(step.stimulus)
        runner.unbooked = False
        return runner.apply_now(step)

    def _waive(self, step: Apply, row: Entry) -> Applied:
        """The operator goes on with the doubt: only the shots that are certain count, all of them are booked."""
        doubt = self.reader.value("doubt") or {"shot": 0}
        now_s = self.guard.clock_s
        applied = Applied(doubt["shot"], _pulses_before(step, doubt["shot"], self.guard), now_s, now_s)
        self.runner.record.answer(row.seq, applied, Settled.WAIVED)
        self.runner.record.put(doubt=None)
        self._book(row.seq, step, applied)
        self._watch(step, applied)
        return applied

    # -- is it still the chip that it was? ----------------------------------------------------------------------

    def _look_at_cells(self, after: int) -> None:
        """Read the cells of the last recorded read again; refuse if untouched ones have moved (bench rule 15).

        `after`: the last step that was done by then, under which it is recorded.
        """
        if self.baseline is None:
            return
        step, before = self.baseline
        self.baseline = None
        now = self.guard.sense(step.read)
        moved = _moved_sigma(step, before, now, self.touched)
        worst = float(np.nanmax(moved)) if np.isfinite(moved).any() else 0.0
        if worst > K_SIGMA and not self.accept_baseline:
            cell = tuple(int(n) for n in np.unravel_index(int(np.nanargmax(moved)), moved.shape))
            raise BaselineMoved(
                f"cell {cell} was not pulsed since it was last read, and has moved by {worst:.1f} sigma since "
                f"({int((moved > K_SIGMA).sum())} cells by more than {K_SIGMA:g}): was the chip swapped, or has it "
                "drifted? Accept the new baseline to go on from what is there; it will be recorded"
            )
        compared = int(np.isfinite(moved).sum())
        value = {"read": encode_step(step), "reading": encode_answer(now), "cells": compared, "worst_sigma": worst}
        self.runner.record.note(after, BASELINE, {**value, "accepted": worst > K_SIGMA})


def _next_step(steps: Any, answer: Answer, seq: int) -> Step:
    try:
        step: Step = steps.send(answer)
    except StopIteration:
        raise ResumeRefused(f"the protocol ends after step {seq}, the record goes on: it has changed since") from None
    return step


def _check_equal(step: Step, row: Entry | NoteRow, reader: RunFile) -> None:
    if isinstance(row, NoteRow):
        same = isinstance(step, Note) and step.name == row.name and pack(step.value) == pack(row.value)
        was = f"note {row.name!r}"
    else:
        same, was = encode_step(step) == row.step_bytes, row.kind
    if not same:
        raise ResumeRefused(
            f"step {row.seq} is not the recorded one ({was} in {reader.path}, now a {type(step).__name__}): the "
            "protocol or something that it depends on has changed since; run it anew"
        )


def _pulses_before(step: Apply, shot: int, guard: Guard) -> int:
    done = shots(step.stimulus, guard.capabilities)
    if not isinstance(done, Shots):
        return 0
    cells, repeat = np.diff(done.indptr)[:shot], done.repeat[:shot]
    return int(np.dot(cells, repeat)) if shot else 0


def _moved_sigma(step: Sense, before: Reading, now: Reading, touched: BoolArray) -> FloatArray:
    """By how many sigma each cell has moved [rows, cols]; nan where it was not read, was pulsed, or sigma unknown."""
    read = step.read
    moved: FloatArray = np.full(touched.shape, math.nan)
    if not isinstance(read, CellRead):
        return moved
    sigma_s = math.hypot(before.sigma_a, now.sigma_a) / abs(read.voltage_v)
    if not sigma_s > 0:
        return moved
    change_s = conductance_s(now, read.voltage_v) - conductance_s(before, read.voltage_v)
    moved[read.mask] = np.abs(change_s) / sigma_s
    moved[touched] = math.nan
    return moved
