"""A chip's file: who holds it, whose it is, what it has been through, and what a crash leaves of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording_bench import Recording, guard

from neurobench.bench import passport as passport_module
from neurobench.bench.crossbar import Capabilities
from neurobench.bench.passport import VERSION, CellState, Lifetime, Passport
from neurobench.bench.stimulus import Pulse, PulseBatch
from neurobench.errors import ConfigError, InUse, Refused, RunFileError, UsageError

SHAPE = (3, 4)


def kept(path: Path, **more: Any) -> Passport:
    """A passport with something in every field, on disk and let go."""
    chip = Passport.open(path, "c1", SHAPE, {"stack": "Au/a-Si/W"})
    rng = np.random.default_rng(3)
    for name, array in chip.life.arrays().items():
        setattr(chip.life, name, rng.integers(1, 99, array.shape).astype(array.dtype))
    chip.cell_state[1, 2] = CellState.STUCK
    chip.last_g_s[0, 0], chip.last_g_time_s = 1e-7, 12.5
    chip.run_file, chip.run_seq = "runs/a.nbrun", 41
    for name, value in more.items():
        setattr(chip, name, value)
    chip.save()
    chip.release()
    return chip


def test_everything_that_is_known_of_a_chip_survives(tmp_path: Path) -> None:
    path = tmp_path / "chips" / "c1.passport"
    before, after = kept(path), Passport.open(path, "c1", SHAPE)
    assert (after.chip_id, after.shape, after.about) == ("c1", SHAPE, {"stack": "Au/a-Si/W"})
    assert (after.run_file, after.run_seq, after.run_open, after.unsettled) == ("runs/a.nbrun", 41, False, False)
    for name, array in before.life.arrays().items():
        assert (after.life.arrays()[name] == array).all()
        assert after.life.arrays()[name].dtype == array.dtype
    assert (after.cell_state == before.cell_state).all()
    assert np.array_equal(after.last_g_s, before.last_g_s, equal_nan=True)
    assert after.last_g_time_s == 12.5
    after.close()


def test_numpy_alone_reads_a_passport(tmp_path: Path) -> None:
    kept(tmp_path / "c1")
    with np.load(tmp_path / "c1", allow_pickle=False) as file:
        assert json.loads(str(file["passport"]))["chip_id"] == "c1"
        assert file["life_pulses"].shape == SHAPE


def test_one_chip_is_in_one_hand(tmp_path: Path) -> None:
    first = Passport.open(tmp_path / "c1", "c1", SHAPE)
    with pytest.raises(InUse) as found:
        Passport.open(tmp_path / "c1", "c1", SHAPE)
    for word in (f"process {os.getpid()}", "chip c1"):
        assert word in str(found.value)
    first.close()
    Passport.open(tmp_path / "c1", "c1", SHAPE).close()


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib\n"
        "from neurobench.bench.passport import Passport\n"
        "chip = Passport.open(pathlib.Path(sys.argv[1]), 'c1', (3, 4))\n"
        "chip.begin_run('runs/b.nbrun')\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "c1")], check=False)
    assert done.returncode == 9
    after = Passport.open(tmp_path / "c1", "c1", SHAPE)
    assert after.unsettled
    assert after.run_file == "runs/b.nbrun"
    after.release()


@pytest.mark.parametrize(
    ("chip_id", "shape", "words"),
    [("c2", SHAPE, "is the passport of chip 'c1', not of 'c2'"), ("c1", (4, 3), r"the bench file says \(4, 3\)")],
)
def test_another_chip_is_not_taken_for_this_one(tmp_path: Path, chip_id: str, shape: Any, words: str) -> None:
    kept(tmp_path / "c1")
    with pytest.raises(ConfigError, match=words):
        Passport.open(tmp_path / "c1", chip_id, shape)
    Passport.open(tmp_path / "c1", "c1", SHAPE).close()  # a refusal leaves no lock


def test_a_bench_that_names_no_chip_takes_what_is_there(tmp_path: Path) -> None:
    kept(tmp_path / "c1")
    chip = Passport.open(tmp_path / "c1", "", SHAPE)
    assert chip.chip_id == "c1"
    chip.close()


def rewritten(path: Path, header: dict[str, Any] | None = None, **arrays: Any) -> None:
    """The same file with other values in it; None leaves an array out."""
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    known = json.loads(str(held["passport"]))
    held["passport"] = np.array(json.dumps({k: v for k, v in {**known, **(header or {})}.items() if v is not None}))
    held = {name: array for name, array in {**held, **arrays}.items() if array is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **held)
    path.write_bytes(buffer.getvalue())


def test_a_newer_passport_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c1"
    kept(path)
    rewritten(path, {"version": VERSION + 1})
    before = path.read_bytes()
    with pytest.raises(RunFileError, match=f"newer neurobench.*{VERSION + 1} > {VERSION}"):
        Passport.open(path, "c1", SHAPE)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        {"header": {"run_file": None}},
        {"header": {"version": None}},
        {"header": {"version": "one"}},
        {"header": {"shape": 7}},
        {"header": {"shape": [0, 4]}},
        {"header": {"about": 3}},
        {"life_pulses": None},
        {"life_pulses": np.zeros((3, 5), np.int64)},
        {"life_pulses": np.zeros(SHAPE)},
        {"life_row_j": np.full(3, np.nan)},
        {"life_everywhere_j": np.array([np.inf])},
        {"cell_state": np.zeros((4, 4), np.int8)},
        {"last_g_s": np.zeros(3)},
        {"passport": np.array("[1, 2]")},
        {"passport": np.array("{")},
        {"passport": None},
    ],
    ids=str,
)
def test_a_passport_with_nonsense_in_it_is_damaged(tmp_path: Path, damage: dict[str, Any]) -> None:
    """The compiled books check no bounds: what is read must have the right size and type."""
    path = tmp_path / "c1"
    kept(path)
    rewritten(path, **damage)
    with pytest.raises(RunFileError, match=r"c1.*damaged"):
        Passport.open(path, "c1", SHAPE)


def test_a_passport_that_is_cut_or_overwritten_anywhere_is_never_taken_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "c1"
    kept(path)
    whole = path.read_bytes()
    for k in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:k])
        with pytest.raises(RunFileError):
            Passport.open(path, "c1", SHAPE)
    for text in (b"", b"not a passport", np.lib.format.MAGIC_PREFIX + b"\x01\x00", b"PK\x03\x04" + bytes(200)):
        path.write_bytes(text)
        with pytest.raises(RunFileError, match="c1"):
            Passport.open(path, "c1", SHAPE)
    path.write_bytes(whole)
    Passport.open(path, "c1", SHAPE).close()


@pytest.mark.parametrize("at", [0.3, 0.5, 0.7])
def test_flipped_bytes_are_found(tmp_path: Path, at: float) -> None:
    path = tmp_path / "c1"
    kept(path)
    data = bytearray(path.read_bytes())
    k = int(at * len(data))
    data[k : k + 40] = bytes(255 - b for b in data[k : k + 40])
    path.write_bytes(data)
    with pytest.raises(RunFileError, match="damaged"):
        Passport.open(path, "c1", SHAPE)


def test_a_save_that_fails_leaves_the_old_passport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c1"
    kept(path)
    before = path.read_bytes()
    chip = Passport.open(path, "c1", SHAPE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neurobench.system._write_synced", full)
    chip.life.pulses += 1
    with pytest.raises(OSError, match="No space"):
        chip.close()
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.endswith(".new")) == []
    Passport.open(path, "c1", SHAPE).close()  # and the lock is free


def test_a_save_goes_through_the_durable_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[Path, int]] = []
    monkeypatch.setattr(passport_module, "replace_file", lambda path, data: written.append((path, len(data))))
    chip = Passport.open(tmp_path / "c1", "c1", SHAPE)
    chip.begin_run("a")
    chip.end_run(3)
    chip.close()
    assert [path for path, _ in written] == [tmp_path / "c1"] * 3


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="file"):
        Passport.open(tmp_path / "file" / "c1", "c1", SHAPE)


def test_a_chip_in_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chip = Passport("", SHAPE)
    chip.begin_run("a")
    chip.end_run(1)
    chip.close()
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ runs


def pulsed(chip: Passport, n: int) -> None:
    on = guard(raw=Recording(Capabilities(SHAPE)), passport=chip)
    on.stage(1, PulseBatch(np.full(SHAPE, n), Pulse(0.5, 1e-6)))
    on.fire(1)


def test_a_run_that_ended_is_in_the_books(tmp_path: Path) -> None:
    chip = Passport.open(tmp_path / "c1", "c1", SHAPE)
    chip.begin_run("a")
    pulsed(chip, 3)
    chip.end_run(17)
    chip.close()
    after = Passport.open(tmp_path / "c1", "c1", SHAPE)
    assert (after.run_file, after.run_seq, after.unsettled) == ("a", 17, False)
    assert (after.life.pulses == 3).all()
    after.begin_run("b")
    after.release()


@pytest.mark.parametrize("how", ["crash", "close"])
def test_a_run_that_did_not_end_is_not_in_the_books_and_must_be_settled_first(tmp_path: Path, how: str) -> None:
    """What a resume replays must not be in the books already: it would be there twice."""
    chip = Passport.open(tmp_path / "c1", "c1", SHAPE)
    chip.begin_run("runs/a.nbrun")
    pulsed(chip, 3)
    chip.close() if how == "close" else chip.release()
    after = Passport.open(tmp_path / "c1", "c1", SHAPE)
    assert after.unsettled
    assert after.run_seq == -1
    assert (after.life.pulses == 0).all()
    with pytest.raises(Refused, match=r"chip 'c1' was last used by run runs/a.nbrun.*neurobench resume runs/a.nbrun"):
        pulsed(after, 1)
    with pytest.raises(Refused, match=r"neurobench settle runs/a.nbrun"):
        after.begin_run("runs/b.nbrun")
    after.begin_run("runs/a.nbrun")
    guard(raw=Recording(Capabilities(SHAPE)), passport=after).charge(PulseBatch(np.full(SHAPE, 3), Pulse(0.5, 1e-6)))
    pulsed(after, 1)
    after.end_run(2)
    after.close()
    last = Passport.open(tmp_path / "c1", "c1", SHAPE)
    assert (last.life.pulses == 4).all()
    last.close()


def test_a_chip_is_in_one_run_at_a_time() -> None:
    chip = Passport("c1", SHAPE)
    chip.begin_run("a")
    with pytest.raises(Refused, match="already in run a; end it before b begins"):
        chip.begin_run("b")


# ------------------------------------------------------------------ cells and sums


def test_stuck_shorted_and_retired_cells_are_excluded() -> None:
    chip = Passport("c1", (1, 5))
    chip.cell_state[0] = list(CellState)
    assert dict(zip([s.name for s in CellState], chip.excluded()[0].tolist(), strict=True)) == {
        "VIRGIN": False, "FORMED": False, "STUCK": True, "SHORTED": True, "RETIRED": True,
    }  # fmt: skip


def test_a_copy_of_the_books_is_a_copy() -> None:
    life = Lifetime.fresh(SHAPE)
    other = life.copy()
    other.pulses += 1
    other.row_j += 1
    assert life.pulses.sum() == life.row_j.sum() == 0


def test_pulses_given_one_by_one_half_select_their_mates() -> None:
    life = Lifetime.fresh((2, 3))
    life.add_cells(np.array([[2, 0, 0], [0, 0, 1]]), 1e-9)
    assert life.half_selects().tolist() == [[0, 2, 3], [3, 1, 0]]
    assert life.total_j() == pytest.approx(np.array([[2, 1, 1.5], [1.5, 0.5, 1]]) * 1e-9, rel=1e-12)
