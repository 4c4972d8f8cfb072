"""Proof (c): a run that was left goes on and ends equal to an undisturbed one, bit for bit: on the emulator, whose chip
is put back to a snapshot and executed again, and with a chip in another process, which kept what was done to it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeChip, FakeCrossbar, Toy, guarded, open_remote, remote_chip, undisturbed

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Apply, BenchView, Checkpoint, Loop, Note, Protocol, Result, Sense, Steps
from neurobench.bench.stimulus import CellRead, FloatArray, Pulse, PulseBatch
from neurobench.errors import ResumeRefused
from neurobench.learning.loops import LifStdp, Rule, poisson
from neurobench.runs import runner as runner_module
from neurobench.runs.machine import machine
from neurobench.runs.replay import resume
from neurobench.runs.runfile import RunFile, RunWriter
from neurobench.runs.runner import RunOutcome, run
from neurobench.runs.states import Control


class Walk(Protocol):
    """Pulses by what it reads, with noise in every read: any difference spreads at once."""

    epochs: int = 6

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        pulse = view.device.pulse or Pulse(0.1, 0.1)
        read = CellRead(np.ones(view.shape, bool), 0.05)
        first, g_s = 0, np.zeros(view.shape)
        if start is not None:
            first, rng.bit_generator.state = int(start["epoch"]), start["rng"]
        for epoch in range(first, self.epochs):
            reading = yield Sense(read)
            g_s = reading.signed_a().reshape(view.shape)
            signs = (g_s > np.median(g_s)).astype(np.int8) * rng.integers(0, 3, view.shape, np.int8)
            yield Apply(PulseBatch(signs, pulse))
            yield Note("epoch", {"g_s": g_s})
            yield Checkpoint({"epoch": epoch + 1, "rng": rng.bit_generator.state})
        return Result(True, {"last": g_s})


def emulator(chip_file: Path | None = None, model: str = "lsmo-gaq3") -> Guard:
    more = {} if chip_file is None else {"chip.file": str(chip_file), "chip.id": "drawer"}
    return open_bench(load_bench("emulator", {"chip.seed": 3, "chip.model": model, **more}), 3)


class Cut(RunWriter):
    """A writer whose file set is copied at some moment, as `kill -9` would have left it."""

    after = 0
    to: Path | None = None

    def note(self, seq: int, name: str, value: Any) -> None:
        super().note(seq, name, value)
        if self.to is not None and name == "epoch" and seq >= self.after:
            self.flush()
            for side in ("", "-wal"):
                shutil.copyfile(f"{self.path}{side}", f"{self.to}{side}")
            self.to = None


def cut_run(path: Path, to: Path, after: int, guard: Guard, protocol: Protocol) -> RunOutcome:
    with Cut.create(path) as record:
        record.after, record.to = after, to
        return run(protocol, guard, seed=7, record=record)


def truth(guard: Guard) -> FloatArray:
    found = guard.truth_s()
    assert found is not None
    return found.copy()


def channels(path: Path) -> tuple[Any, ...]:
    with RunFile.open(path) as run_file:
        rows = [(row.seq, row.step_bytes, row.answer_bytes) for row in run_file.entries()]
        notes = [(note.seq, note.name, note.value["g_s"].tobytes()) for note in run_file.notes()]
        hidden = [(seq, g_s.tobytes()) for seq, g_s in run_file.truth()]
        return rows, notes, hidden, run_file.value("pulses"), run_file.value("energy_j")


@pytest.mark.parametrize("after", [2, 9, 14, 22])
@pytest.mark.parametrize("snapshots", [1e9, 0.0], ids=["from the start", "from a checkpoint"])
def test_emulator_ends_equal_to_an_undisturbed_run(
    tmp_path: Path, after: int, snapshots: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "SNAPSHOT_EVERY_S", snapshots)
    whole, cut = tmp_path / "whole.nbr", tmp_path / "cut.nbr"
    guard = emulator()
    expected = cut_run(whole, cut, after, guard, Walk())
    assert expected.status == "finished", expected.error
    with RunFile.open(cut) as reader:
        assert reader.status == "crashed"
        assert reader.snapshots()[-1] == -1 if snapshots else True
        if after == 22 and not snapshots:
            assert reader.snapshots()[-1] > 0, "no snapshot was kept at a checkpoint"
    again = emulator()
    with RunWriter.reopen(cut) as record:
        outcome = resume(Walk(), again, record)
    assert outcome.status == "finished", outcome.error
    assert np.array_equal(truth(again), truth(guard))
    assert again.snapshot() == guard.snapshot(), "the chip as a whole"
    assert channels(cut) == channels(whole)
    assert again.passport.life.pulses.tolist() == guard.passport.life.pulses.tolist()


class Learn(Protocol):
    """Closed loops, each going on where the last one ended."""

    loops: int = 4

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        pulse = view.device.pulse or Pulse(0.1, 0.1)
        spikes = poisson(np.full(4, 0.2), 50, rng)
        program = LifStdp.fresh(Rule(gain_per_a=1e7, read_v=0.05), spikes, view.shape, pulse, pulse)
        moved = False
        for _ in range(self.loops):
            answer = yield Loop(program, 50)
            yield Note("epoch", {"g_s": answer.potentiations})
            moved |= bool(answer.potentiations.any())
            program = program.after(answer, poisson(np.full(4, 0.2), 50, rng))
        return Result(moved)


def test_loops_are_replayed_too(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.nbr", tmp_path / "cut.nbr"
    guard = emulator(model="reram-sb")
    expected = cut_run(whole, cut, 4, guard, Learn())
    assert expected.error is None
    assert expected.pulses > 0
    again = emulator(model="reram-sb")
    with RunWriter.reopen(cut) as record:
        outcome = resume(Learn(), again, record)
    assert outcome.error is None
    assert np.array_equal(truth(again), truth(guard))
    assert channels(cut) == channels(whole)


def test_emulated_chip_in_a_drawer_is_booked_once(tmp_path: Path) -> None:
    stopped: list[Control] = []

    class Stop(RunWriter):
        def note(self, seq: int, name: str, value: Any) -> None:
            super().note(seq, name, value)
            if seq > 8:
                stopped[0].stop()

    guard, control = emulator(tmp_path / "chip"), Control()
    stopped.append(control)
    with Stop.create(tmp_path / "a.nbr") as stopping:
        assert run(Walk(), guard, seed=7, record=stopping, control=control).stopped
    guard.close()
    again = emulator(tmp_path / "chip")
    with RunWriter.reopen(tmp_path / "a.nbr") as record:
        outcome = resume(Walk(), again, record)
    assert outcome.status == "finished", outcome.error
    assert int(again.passport.life.pulses.sum()) == outcome.pulses
    again.close()


def test_changed_protocol_or_parameter_is_refused_by_name(tmp_path: Path) -> None:
    cut_run(tmp_path / "a.nbr", tmp_path / "cut.nbr", 9, emulator(), Walk())

    def try_with(protocol: Protocol, guard: Callable[[], Guard] = emulator, **more: Any) -> None:
        with RunWriter.reopen(tmp_path / "cut.nbr") as record:
            resume(protocol, guard(), record, **more)

    with pytest.raises(ResumeRefused, match="epochs"):
        try_with(Walk(epochs=7))
    other = open_bench(load_bench("emulator", {"limits.max_read_v": 0.3}), 3)
    with pytest.raises(ResumeRefused, match="max_read_v"):
        try_with(Walk(), lambda: other)
    with pytest.raises(ResumeRefused, match=r"numpy: .* then, 1\.0 now"):
        try_with(Walk(), present={**machine(), "numpy": "1.0"})
    original = Walk.steps
    try:

        def changed(self: Walk, view: BenchView, rng: Any, start: Any = None) -> Steps:
            rng.random()
            result = yield from original(self, view, rng, start)
            return result

        Walk.steps = changed  # type: ignore[method-assign]
        with pytest.raises(ResumeRefused, match="step 1 is not the recorded one"):
            try_with(Walk())
    finally:
        Walk.steps = original  # type: ignore[method-assign]
    try_with(Walk())
    with pytest.raises(ResumeRefused, match="has ended"):
        try_with(Walk())


@pytest.mark.parametrize("checkpoints", [True, False])
def test_chip_in_another_process_keeps_what_was_done(tmp_path: Path, checkpoints: bool) -> None:
    toy = Toy(epochs=4, checkpoints=checkpoints)
    with remote_chip(tmp_path / "chip") as chip:
        control = Control()

        class Stop(RunWriter):
            def note(self, seq: int, name: str, value: Any) -> None:
                super().note(seq, name, value)
                if seq > 14:
                    control.stop()

        guard = open_remote(chip.config())
        with Stop.create(tmp_path / "a.nbr") as stopping:
            assert run(toy, guard, seed=1, record=stopping, control=control).stopped
        guard.close()
        guard = open_remote(chip.config())
        with RunWriter.reopen(tmp_path / "a.nbr") as record:
            outcome = resume(toy, guard, record)
        assert outcome.status == "finished", outcome.error
        g_s, pulses = undisturbed(toy, 1)
        assert [n for _, n in chip.ledger()] == pulses
        assert np.array_equal(chip.tell("sense"), g_s)
        assert int(guard.passport.life.pulses.sum()) == outcome.pulses == sum(pulses)
        guard.close()


def test_swapped_chip_is_noticed_by_its_cells(tmp_path: Path) -> None:
    control, chip = Control(), FakeChip((4, 4))

    class Stop(RunWriter):
        def note(self, seq: int, name: str, value: Any) -> None:
            super().note(seq, name, value)
            if name == "epoch":
                control.stop()

    with Stop.create(tmp_path / "a.nbr") as stopping:
        run(Toy(), guarded(FakeCrossbar(chip.serve, (4, 4))), seed=1, record=stopping, control=control)
    chip.g_s[2, 3] += 1e-7
    with RunWriter.reopen(tmp_path / "a.nbr") as record, pytest.raises(ResumeRefused, match=r"cell \(2, 3\)"):
        resume(Toy(), guarded(FakeCrossbar(chip.serve, (4, 4))), record)
    with RunWriter.reopen(tmp_path / "a.nbr") as record:
        outcome = resume(Toy(), guarded(FakeCrossbar(chip.serve, (4, 4))), record, accept_baseline=True)
    assert outcome.status == "finished"
    with RunFile.open(tmp_path / "a.nbr") as run_file:
        assert [note.value["accepted"] for note in run_file.notes("_baseline")] == [True]
