"""An emulated chip that is kept in a file: file, passport and run file agree, wherever it is cut."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.limits import Guard
from neurobench.bench.passport import Passport
from neurobench.bench.steps import Apply, BenchView, Note, Protocol, Result, Steps
from neurobench.bench.stimulus import Pulse, PulseBatch
from neurobench.errors import ConfigError, ResumeRefused, RunFileError
from neurobench.physics import library
from neurobench.physics.card import Noise, card_toml
from neurobench.runs import benches, launch
from neurobench.runs.replay import resume
from neurobench.runs.request import Request
from neurobench.runs.runfile import MemoryRecord, RunFile, RunWriter
from neurobench.runs.runner import run
from neurobench.runs.states import Control


class Some(Protocol):
    """One pulse on every cell, a few times."""

    times: int = 5

    def steps(self, view: BenchView, rng: np.random.Generator, start: Any = None) -> Steps:
        del rng, start
        pulse = view.device.pulse or Pulse(0.1, 0.1)
        for n in range(self.times):
            yield Apply(PulseBatch(np.ones(view.shape, np.int8), pulse))
            yield Note("epoch", n)
        return Result(True)


def drawer(chip: Path) -> Guard:
    return open_bench(load_bench("emulator", {"chip.seed": 3, "chip.file": str(chip)}), 3)


def lived(chip: Path) -> tuple[int, int]:
    """Pulses of one cell as the chip and as its passport count them."""
    guard = drawer(chip)
    try:
        emulator: Any = guard.raw
        return int(emulator.chip.pulses[0]), int(guard.passport.life.pulses[0, 0])
    finally:
        guard.close()


class Killed(RunWriter):
    """Leaves everything on the disk as `kill -9` would at that note, and stops copying then."""

    at = 4
    files: tuple[Path, ...] = ()

    def note(self, seq: int, name: str, value: Any) -> None:
        super().note(seq, name, value)
        if name == "epoch" and value == self.at:
            self.flush()
            for file in (self.path, self.path.with_name(self.path.name + "-wal"), *self.files):
                if file.exists():
                    shutil.copyfile(file, file.with_name(file.name + ".left"))

    def put_back(self) -> None:
        for left in self.path.parent.glob("*.left"):
            left.replace(left.with_name(left.name.removesuffix(".left")))


def crashed(tmp_path: Path, at: int = 2) -> tuple[Path, Path]:
    """A first run that ended, and a second that was killed."""
    chip, path = tmp_path / "chip", tmp_path / "a.nbr"
    guard = drawer(chip)
    with RunWriter.create(tmp_path / "first.nbr") as first:
        assert run(Some(times=2), guard, seed=1, record=first).error is None
    guard.close()
    guard = drawer(chip)
    record = Killed.create(path)
    record.at, record.files = at, (chip, tmp_path / "chip.passport")
    with record:
        assert run(Some(), guard, seed=1, record=record).error is None
    guard.close()
    record.put_back()
    return chip, path


def test_a_chip_is_in_its_drawer_before_its_passport_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip, seen = tmp_path / "chip", []
    guard = drawer(chip)
    real = Passport.end_run

    def end_run(self: Passport, seq: int) -> None:
        real(self, seq)
        state = msgpack.unpackb(msgpack.unpackb(chip.read_bytes())["state"])
        seen.append((int(np.frombuffer(state["pulses"], np.uint32)[0]), state["counters"]["run"]))

    monkeypatch.setattr(Passport, "end_run", end_run)
    with RunWriter.create(tmp_path / "a.nbr") as record:
        run(Some(), guard, seed=1, record=record)
    assert seen == [(5, str(tmp_path / "a.nbr"))], "killed here, the pulses would be lost"
    guard.close()
    assert lived(chip) == (5, 5)


def test_settled_chip_has_lived_through_what_its_passport_counts(tmp_path: Path) -> None:
    chip, path = crashed(tmp_path)
    guard = drawer(chip)
    assert guard.passport.unsettled
    config = load_bench("emulator", {"chip.seed": 3, "chip.file": str(chip)})
    guard.close()
    with RunWriter.reopen(path) as record:
        asked = Request(protocol="read-all", bench="emulator", seed=3)
        record.put(request=asked, config=config)
    said = launch.settle(path)
    assert (said["outcome"], said["chip"]) == ("nothing open", "settled")
    assert lived(chip) == (5, 5)  # two of the first run, three that were recorded of the second
    guard = drawer(chip)
    with RunWriter.create(tmp_path / "b.nbr") as record:
        assert run(Some(), guard, seed=1, record=record).error is None
    guard.close()
    assert lived(chip) == (10, 10)


def test_a_run_does_not_go_on_over_another_one(tmp_path: Path) -> None:
    """Putting the chip back to where the first run left it would undo the second."""
    chip = tmp_path / "chip"
    guard, control = drawer(chip), Control()

    class Stops(RunWriter):
        def note(self, seq: int, name: str, value: Any) -> None:
            super().note(seq, name, value)
            control.stop()

    with Stops.create(tmp_path / "a.nbr") as record:
        assert run(Some(), guard, seed=1, record=record, control=control).stopped
    guard.close()
    guard = drawer(chip)
    with RunWriter.create(tmp_path / "b.nbr") as second:
        assert run(Some(), guard, seed=1, record=second).error is None
    guard.close()
    before = lived(chip)
    guard = drawer(chip)
    with RunWriter.reopen(tmp_path / "a.nbr") as again, pytest.raises(ResumeRefused, match=r"used by .*b\.nbr since"):
        resume(Some(), guard, again)
    guard.close()
    assert lived(chip) == before == (6, 6)


def test_resume_says_in_one_write_where_the_books_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two writes a crash would leave books that are counted again."""
    chip = tmp_path / "chip"
    guard, control = drawer(chip), Control()

    class Stops(RunWriter):
        def note(self, seq: int, name: str, value: Any) -> None:
            super().note(seq, name, value)
            control.stop()

    with Stops.create(tmp_path / "a.nbr") as record:
        run(Some(), guard, seed=1, record=record, control=control)
    guard.close()
    guard, written = drawer(chip), []

    def save(passport: Passport) -> None:
        header = json.loads(str(np.load(_bytes(passport))["passport"]))
        written.append((header["run_open"], header["run_seq"]))

    monkeypatch.setattr(Passport, "save", save)
    with RunWriter.reopen(tmp_path / "a.nbr") as again:
        resume(Some(), guard, again)
    assert [seq for is_open, seq in written if is_open] == [1]
    guard.passport.release()


def _bytes(passport: Passport) -> Any:
    import io

    return io.BytesIO(passport._dump())


def test_a_run_without_a_file_that_died_does_not_hold_the_chip(tmp_path: Path) -> None:
    chip = tmp_path / "chip"
    guard = drawer(chip)
    guard.passport.begin_run(MemoryRecord.name)
    guard.passport.release()
    guard = drawer(chip)
    with RunWriter.create(tmp_path / "b.nbr") as record:
        assert run(Some(), guard, seed=1, record=record).error is None
    guard.close()
    assert lived(chip) == (5, 5)
    with RunFile.open(tmp_path / "b.nbr") as reader:
        assert reader.status == "finished"


def test_who_only_looks_makes_no_chip(tmp_path: Path) -> None:
    drawer = tmp_path / "a.chip"
    assert benches.check("emulator", [f"chip.file={drawer}"])["simulated"]
    benches.rest("emulator", [f"chip.file={drawer}"])
    assert list(tmp_path.iterdir()) == []


def test_a_kept_chip_does_not_change_its_physics_with_an_edited_card(tmp_path: Path) -> None:
    card = tmp_path / "mine.toml"
    said = card_toml(library.card("reram-sb"))
    card.write_text(said)
    bench = {"chip.file": str(tmp_path / "a.chip"), "chip.curve": str(card)}
    open_bench(load_bench("emulator", bench), 1).close()
    card.write_text(said.replace("notes = ", "# edited\nnotes = ", 1))
    open_bench(load_bench("emulator", bench), 1).close()
    edited = library.card("reram-sb").model_copy(update={"noise": Noise(read_sigma_s=1e-9, step_sigma_s=0.0)})
    card.write_text(card_toml(edited))
    with pytest.raises(ConfigError, match="as another card described them"):
        open_bench(load_bench("emulator", bench), 1)


def test_a_damaged_chip_file_is_called_damaged(tmp_path: Path) -> None:
    file = tmp_path / "a.chip"
    open_bench(load_bench("emulator", {"chip.file": str(file)}), 1).close()
    kept = msgpack.unpackb(file.read_bytes())
    kept["arrays"]["step"] = kept["arrays"]["step"][:-3]
    file.write_bytes(msgpack.packb(kept))
    with pytest.raises(RunFileError, match="is damaged"):
        open_bench(load_bench("emulator", {"chip.file": str(file)}), 1)


@pytest.mark.parametrize("name", ["u", "pulses"])
def test_a_state_that_lacks_a_cell_is_not_restored(tmp_path: Path, name: str) -> None:
    file = tmp_path / "a.chip"
    open_bench(load_bench("emulator", {"chip.file": str(file)}), 1).close()
    kept = msgpack.unpackb(file.read_bytes())
    state = msgpack.unpackb(kept["state"])
    state[name] = state[name][: -(8 if name == "u" else 4)]
    file.write_bytes(msgpack.packb({**kept, "state": msgpack.packb(state)}))
    with pytest.raises(RunFileError, match="damaged"):
        open_bench(load_bench("emulator", {"chip.file": str(file)}), 1)
