"""The run file: written once, read live, after a crash and years later, and refused where it cannot be trusted."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fakes import PULSE, FakeChip, FakeCrossbar, Toy, guarded, perfect

from neurobench.bench.crossbar import Applied, Unknown, Witness
from neurobench.bench.steps import Apply, Checkpoint, Wait
from neurobench.bench.stimulus import PulseBatch
from neurobench.errors import InUse, NoRoom, RunFileError, UsageError
from neurobench.runs import runfile
from neurobench.runs.runfile import FLUSH_S, RunFile, RunWriter, Settled, end_abandoned
from neurobench.runs.runner import run

STEP = Apply(PulseBatch(np.ones((4, 4), np.int8), PULSE))
DONE = Applied(4, 16, 0.0, 1.0, 1e-9, "model")


def crashed(path: Path, rows: int = 3) -> Path:
    """A file set as a killed writer leaves it: in WAL mode, with the log beside it."""
    source = path.with_name("source.nbr")
    with RunWriter.create(source, {"protocol": "toy"}) as writer:
        for seq in range(rows):
            writer.entry(seq, STEP, DONE)
        writer.flush()
        for side in ("", "-wal"):
            shutil.copyfile(f"{source}{side}", f"{path}{side}")
    return path


def test_finished_file_is_one_file_and_opens_read_only_alone(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", {"protocol": "toy", "none": None}) as writer:
        writer.entry(0, STEP, DONE)
        writer.note(1, "epoch", {"g_s": np.ones(3)})
        writer.put(status="finished")
    assert [p.name for p in tmp_path.iterdir()] == ["a.nbr"]
    alone = tmp_path / "years later"
    alone.mkdir()
    shutil.move(tmp_path / "a.nbr", alone / "b.nbr")
    (alone / "b.nbr").chmod(0o400)
    alone.chmod(0o500)
    try:
        with RunFile.open(alone / "b.nbr") as reader:
            assert reader.status == "finished"
            assert reader.manifest["protocol"] == "toy"
            assert reader.manifest["none"] is None
            assert [row.kind for row in reader.entries()] == ["apply"]
            assert reader.notes("epoch")[0].value["g_s"].tolist() == [1, 1, 1]
        assert [p.name for p in alone.iterdir()] == ["b.nbr"]
    finally:
        alone.chmod(0o700)


def test_plain_sqlite_reads_it_and_sees_its_marks(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "a.nbr").close()
    db = sqlite3.connect(tmp_path / "a.nbr")
    assert db.execute("PRAGMA application_id").fetchone()[0] == runfile.APPLICATION_ID
    assert db.execute("PRAGMA user_version").fetchone()[0] == runfile.SCHEMA == 1
    assert db.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()


def test_reader_follows_a_live_file(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        with RunFile.open(tmp_path / "a.nbr") as reader:
            assert reader.live
            assert reader.status == "ready"
            writer.put(state="running")
            for seq in range(0, 20, 2):
                writer.entry(seq, STEP, DONE)
                writer.note(seq + 1, "x", seq)
            assert not list(reader.entries()), "what is not durable is not shown"
            writer.flush()
            assert reader.status == "running"
            assert [row.seq for row in reader.entries(13)] == [14, 16, 18]
            assert [note.value for note in reader.notes("x", 13)] == [14, 16, 18]
            assert [note.seq for note in reader.notes(since=18)] == [19]
            assert [row.seq for row in reader.recorded(15)] == [16, 17, 18, 19]
        writer.put(status="finished")
    assert not (tmp_path / "a.nbr-wal").exists()


def test_groups_become_visible_in_time_without_a_flush(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer, RunFile.open(tmp_path / "a.nbr") as reader:
        end, seq = time.monotonic() + 3 * FLUSH_S, 0
        while time.monotonic() < end:
            writer.entry(seq, STEP, DONE)
            seq += 1
            time.sleep(0.002)
        assert sum(1 for _ in reader.entries()) > seq / 4


def test_long_reads_are_cut_into_short_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        for seq in range(1000):
            writer.entry(seq, STEP, DONE)
        writer.flush()
        monkeypatch.setattr(runfile, "READ_S", 0.0)
        with RunFile.open(tmp_path / "a.nbr") as reader:
            first = reader.entries()
            assert next(first).seq == 0
            # Between two chunks nothing is held: a checkpoint of the log can reset all of it.
            assert writer._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
            assert [row.seq for row in first] == list(range(1, 1000))


def test_crashed_file_is_read_through_a_copy_and_left_as_it_is(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.nbr")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("a.nbr*")}
    assert len(before) == 2
    with RunFile.open(path) as reader:
        assert reader.status == "crashed"
        assert not reader.live
        assert [row.seq for row in reader.entries()] == [0, 1, 2]
    assert {file.name: file.read_bytes() for file in tmp_path.glob("a.nbr*")} == before


def test_reader_that_saw_a_crash_sees_the_run_go_on(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.nbr")
    with RunFile.open(path) as reader:
        assert reader.status == "crashed"
        with RunWriter.reopen(path) as writer:
            assert reader.live
            writer.entry(3, STEP, DONE)
            writer.put(status="finished")
        assert reader.status == "finished"
        assert [row.seq for row in reader.entries()] == [0, 1, 2, 3]


def test_intents_answers_and_doubt(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer, RunFile.open(tmp_path / "a.nbr") as reader:
        writer.intent(0, STEP, Witness(7, "boot"))
        row = next(reader.entries())
        assert (row.settled, row.answer, row.witness) == (Settled.OPEN, None, Witness(7, "boot"))
        writer.intent(0, STEP, Witness(8, "boot"))
        assert [row.witness.counter for row in reader.entries()] == [8]
        writer.answer(0, DONE)
        assert next(reader.entries()).answer == DONE
        writer.intent(1, STEP, Witness())
        writer.doubt(1, Unknown(2, "rebooted"))
        assert [row.settled for row in reader.entries()] == [Settled.DONE, Settled.DOUBT]
        assert reader.value("doubt") == {"seq": 1, "shot": 2, "why": "rebooted"}


def test_checkpoints_truth_and_snapshots(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer, RunFile.open(tmp_path / "a.nbr") as reader:
        assert reader.last_checkpoint() is None
        writer.snapshot(-1, b"fresh")
        writer.entry(0, Checkpoint({"epoch": 1}), None)
        writer.snapshot(0, b"older")
        writer.entry(1, Wait(0.1), None)
        writer.entry(2, Checkpoint({"epoch": 2}), None)
        writer.truth(2, np.eye(2))
        writer.snapshot(2, b"newer")
        last = reader.last_checkpoint()
        assert last is not None
        assert last.seq == 2
        assert last.step == Checkpoint({"epoch": 2})
        assert reader.snapshots() == [-1, 2], "the first and the last are kept"
        assert reader.snapshot(2) == b"newer"
        with pytest.raises(RunFileError, match="after step 0"):
            reader.snapshot(0)
        assert [(seq, g.tolist()) for seq, g in reader.truth()] == [(2, [[1, 0], [0, 1]])]


def test_newer_version_is_named(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "a.nbr").close()
    db = sqlite3.connect(tmp_path / "a.nbr")
    db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(RunFileError, match="newer neurobench: its layout has version 2, this one reads up to 1"):
        RunFile.open(tmp_path / "a.nbr")
    with pytest.raises(RunFileError, match="newer"):
        RunWriter.reopen(tmp_path / "a.nbr")


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + bytes(200), None])
def test_what_is_no_run_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.nbr"
    if content is None:
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE t (x)")
        db.close()
    else:
        path.write_bytes(content)
    for use in (RunFile.open, RunWriter.reopen):
        with pytest.raises(RunFileError, match="not a run file"):
            use(path)
    with pytest.raises(RunFileError, match="No such file"):
        RunFile.open(tmp_path / "missing.nbr")


def test_damaged_file_raises_run_file_error_only(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        for seq in range(500):
            writer.entry(seq, STEP, DONE)
    whole = bytearray((tmp_path / "a.nbr").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(20):
        bad = whole.copy()
        for at in rng.integers(100, len(bad), 30):
            bad[at] ^= 0xFF
        (tmp_path / "b.nbr").write_bytes(bad)
        with contextlib.suppress(RunFileError), RunFile.open(tmp_path / "b.nbr") as reader:
            _ = reader.manifest, reader.notes(), reader.status
            for row in reader.entries():
                _ = row.step, row.answer, row.witness


def test_damaged_manifest_and_state_are_named(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        writer.entry(0, STEP, DONE)
    db = sqlite3.connect(tmp_path / "a.nbr", isolation_level=None)
    db.execute("UPDATE manifest SET value = 'not json'")
    db.execute("UPDATE journal SET state = 9")
    db.close()
    with RunFile.open(tmp_path / "a.nbr") as reader:
        with pytest.raises(RunFileError, match="not json"):
            _ = reader.manifest
        with pytest.raises(RunFileError, match="9 is no state"):
            list(reader.entries())


def test_an_existing_file_is_never_overwritten_and_has_one_writer(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr"):
        with pytest.raises(InUse, match=r"a\.nbr"):
            RunWriter.reopen(tmp_path / "a.nbr")
        with pytest.raises(InUse):
            RunWriter.create(tmp_path / "a.nbr")
    with pytest.raises(RunFileError, match="never overwritten"):
        RunWriter.create(tmp_path / "a.nbr")
    RunWriter.reopen(tmp_path / "a.nbr").close()


def test_read_only_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    code = (
        "import os, sys\n"
        "from neurobench.runs.runfile import RunWriter\n"
        "from neurobench.errors import UsageError\n"
        "os.getuid() or os.setuid(65534)\n"
        "try:\n    RunWriter.create(sys.argv[1])\n"
        "except UsageError as error:\n    print(error)\n"
    )
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "a.nbr")], capture_output=True, text=True, check=False
    )
    folder.chmod(0o700)
    if "ModuleNotFoundError" in done.stderr or "Permission" in done.stderr:
        pytest.skip("another user may not read this checkout")
    assert "locked" in done.stdout, done.stderr
    assert "Permission denied" in done.stdout


def test_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        RunWriter.create(tmp_path / "file" / "a.nbr")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root may write")
def test_folder_in_which_nobody_may_write_is_named() -> None:
    with pytest.raises(UsageError, match="/proc/a.nbr"):
        RunWriter.create("/proc/a.nbr")


def test_network_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runfile, "network_filesystem", lambda path: "nfs4")
    with pytest.raises(UsageError, match=r"network file system \(nfs4\)"):
        RunWriter.create(tmp_path / "a.nbr")
    assert not list(tmp_path.iterdir())


def test_no_room_refuses_the_intent_before_it_is_fired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = FakeChip((4, 4))

    def free(path: Path) -> int:
        return (1 << 40) if len(chip.ledger) < 4 else (1 << 20)

    monkeypatch.setattr(runfile, "free_bytes", free)
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        outcome = run(Toy(), guarded(FakeCrossbar(chip.serve, (4, 4))), seed=1, record=writer)
    assert outcome.status == "fault"
    assert isinstance(outcome.error, NoRoom)
    assert "nothing was done" in str(outcome.error)
    assert len(chip.ledger) == 4
    with RunFile.open(tmp_path / "a.nbr") as reader:
        assert reader.status == "fault"
        assert sum(row.kind == "apply" for row in reader.entries()) == 4


def test_a_disk_that_fills_up_midway_ends_in_fault_and_leaves_the_record_readable(tmp_path: Path) -> None:
    chip = FakeChip((64, 64))
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        pages = writer._db.execute("PRAGMA page_count").fetchone()[0]
        writer._db.execute(f"PRAGMA max_page_count = {pages + 60}")
        outcome = run(Toy(epochs=50), guarded(FakeCrossbar(chip.serve, (64, 64))), seed=1, record=writer)
    assert outcome.status == "fault"
    assert isinstance(outcome.error, NoRoom)
    assert chip.log[-1][0] == "rest"
    with RunFile.open(tmp_path / "a.nbr") as reader:
        rows = [row for row in reader.entries() if row.kind == "apply"]
        assert len(chip.ledger) == len(rows) > 0, "nothing was fired whose intent was not written"
        assert [n for _, n in chip.ledger][: len(rows) - 1] == [row.answer.pulses for row in rows[:-1]]  # type: ignore[union-attr]


def test_the_reserve_is_for_the_last_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before the disk was found full is recorded, and how the run ended."""
    writer = RunWriter.create(tmp_path / "a.nbr")
    writer.entry(0, STEP, DONE)
    monkeypatch.setattr(runfile, "free_bytes", lambda _path: 20 << 20)
    writer._room_seen = -1e9
    with pytest.raises(NoRoom):
        writer.flush()
    writer.put(status="fault")
    writer.flush()
    with pytest.raises(NoRoom):
        writer.intent(1, STEP, Witness())
    writer.close()
    with RunFile.open(tmp_path / "a.nbr") as reader:
        assert [row.seq for row in reader.entries()] == [0]
        assert reader.status == "fault"


def test_an_interrupt_inside_a_transaction_leaves_none_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a notebook, where nobody catches the signal."""
    with RunWriter.create(tmp_path / "a.nbr") as writer:

        def interrupted() -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(writer, "_write_gathered", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.intent(0, STEP, Witness())
        writer.intent(0, STEP, Witness())
        writer.answer(0, DONE)


def test_last_words_of_an_abandoned_run(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        writer.intent(0, STEP, Witness())
        end_abandoned(tmp_path / "a.nbr", status="aborted", stuck=True)
        with RunFile.open(tmp_path / "a.nbr") as reader:
            assert reader.status == "aborted"
            assert [row.settled for row in reader.entries()] == [Settled.OPEN]


def test_manifest_says_what_a_paper_needs(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        run(Toy(epochs=1), guarded(perfect()), seed=11, record=writer)
    with RunFile.open(tmp_path / "a.nbr") as reader:
        said = reader.manifest
    assert said["seed"] == 11
    assert said["simulated"] is True
    assert said["protocol"]["parameters"]["epochs"] == 1
    assert said["limits"]["max_cell_v"] == 1.0
    assert said["capabilities"]["shape"] == [4, 4]
    assert said["identity"]["backend"] == "fake"
    assert set(said["machine"]) == {"numpy", "numba", "cpu", "blas"}
    assert said["multiply"] == "array"


def open_files() -> list[Path]:
    own = Path("/proc/self/fd")
    return list(own.iterdir()) if own.exists() else []


def test_reading_leaves_nothing_open(tmp_path: Path) -> None:
    path = crashed(tmp_path / "a.nbr")
    before = len(open_files())
    for _ in range(5):
        with RunFile.open(path) as reader:
            assert len(list(reader.entries())) == 3
            assert reader.manifest["protocol"] == "toy"
    assert len(open_files()) == before
