"""Run files in every state: just begun, open, in doubt, crashed, killed, damaged, of a real bench, of a session."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import LIMITS, PULSE, FakeChip, FakeCrossbar, Toy, guarded, perfect

from neurobench.bench.codec import encode_answer, encode_step, pack
from neurobench.bench.crossbar import Applied, Capabilities, Reading, Unknown, Witness
from neurobench.bench.steps import Apply, Sense, Step, Wait
from neurobench.bench.stimulus import CellRead, PulseBatch
from neurobench.errors import RunFileError
from neurobench.runs import feed
from neurobench.runs.feed import Feed, FollowedFile
from neurobench.runs.history import Follower, Snapshot
from neurobench.runs.replay import resume
from neurobench.runs.runfile import RunWriter, Settled, jsonable_dict
from neurobench.runs.runner import run
from neurobench.runs.session import session

SHAPE = (2, 3)
CELLS = np.ones(SHAPE, np.bool_)
READ = Sense(CellRead(CELLS, 0.1))


def manifest(**more: Any) -> dict[str, Any]:
    """What a run on a real chip says before its first step."""
    capabilities = Capabilities(SHAPE, parallelism="row", potentiating_sign=-1)
    facts = jsonable_dict(
        protocol={"class": "neurobench.protocols.toy:Toy", "parameters": {"n": 3}}, capabilities=capabilities,
        identity={"backend": "visa", "simulated": False, "chip_id": "A7", "details": {}}, simulated=False,
        limits=LIMITS.model_copy(update={"max_pulses_per_cell": 50}), bench="lab", chip_id="A7", seed=5,
    )  # fmt: skip
    used = np.array([[1, 2, 3], [4, 5, 6]])
    excluded = used == 6
    view = pack({"excluded": excluded, "pulses_left": 50.0 - used, "pulses_used": used})
    return facts | {"view": view} | more


def pulses(counts: Any) -> Apply:
    return Apply(PulseBatch(np.array(counts, np.int8), PULSE))


def applied(pulses: int, start_s: float = 1.0, shots: int = 1) -> Applied:
    return Applied(shots, pulses, start_s, start_s + 1, 1e-9, "measured")


def reading(values_s: Any, start_s: float = 0.0, flags: tuple[str, ...] = (), range_a: float = 1e-3) -> Reading:
    currents_a = np.array(values_s) * 0.1
    return Reading(np.array([currents_a, -currents_a]), 1e-8, range_a, start_s, start_s + 0.5, 1e-12, flags)


def seen(path: Path) -> Snapshot:
    follower = Follower(path)
    while follower.read():
        pass
    try:
        return follower.snapshot()
    finally:
        follower.close()


# ---------------------------------------------------------------------------------------------- who and where


def test_a_run_on_a_real_chip_is_never_called_simulated(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        about = seen(writer.path).about
    assert (about.simulated, about.backend, about.bench, about.chip_id) == (False, "visa", "lab", "A7")
    assert (about.protocol, about.parameters, about.seed, about.shape) == ("toy", {"n": 3}, 5, SHAPE)
    assert about.pulses_used.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert about.pulses_allowed.tolist() == [[50] * 3] * 2
    assert about.excluded.tolist() == [[False] * 3, [False, False, True]]
    assert about.chip["polarity"] == "V_row < V_col potentiates"


def test_a_file_that_has_just_been_made_says_what_was_asked_for(tmp_path: Path) -> None:
    asked = {"protocol": "digits", "bench": "lab", "settings": {"epochs": 2}, "bench_settings": {}, "seed": 9}
    config = {"bench": {"name": "my lab", "backend": "visa"}, "chip": {"id": "A7", "rows": 4, "cols": 5}}
    with RunWriter.create(tmp_path / "a.nbr", {"request": asked, "config": config}) as writer:
        follower = Follower(writer.path)
        follower.read()
        before = follower.snapshot()
        assert (before.about.protocol, before.about.bench, before.about.seed) == ("digits", "lab", 9)
        assert (before.about.shape, before.about.simulated, before.about.chip_id) == ((4, 5), False, "A7")
        assert (before.seq, before.last_seq, before.recent, before.live, before.status) == (-1, -1, (), True, "ready")
        assert np.isnan(before.cells.conductance_s).all()
        writer.put(**manifest())
        writer.entry(0, READ, reading([1e-5] * 6))
        writer.flush()
        assert follower.read()
        after = follower.snapshot()
    assert after.about.shape == after.cells.conductance_s.shape == SHAPE
    assert after.cells.conductance_s[1, 2] == pytest.approx(1e-5)
    follower.close()


def test_what_a_run_is_about_is_known_before_its_first_step_is_taken_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer may say both between two looks into the file."""
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        follower = Follower(writer.path)
        look = follower._file.after

        def written_first(*args: Any) -> Any:
            monkeypatch.undo()
            writer.put(**manifest())
            writer.flush()
            writer.entry(0, READ, reading([1e-5] * 6))
            writer.flush()
            return look(*args)

        monkeypatch.setattr(follower._file, "after", written_first)
        while follower.read():
            pass
        found = follower.snapshot()
        follower.close()
    assert (found.error, found.about.shape, found.about.chip_id, found.seq) == (None, SHAPE, "A7", 0)
    np.testing.assert_allclose(found.cells.conductance_s, 1e-5)


def test_steps_of_a_file_that_does_not_say_who_it_is_of_are_taken_in_once_each(tmp_path: Path) -> None:
    said = manifest()
    del said["identity"]
    with RunWriter.create(tmp_path / "a.nbr", said) as writer:
        for seq in range(5):
            writer.entry(seq, READ, reading([1e-5] * 6, float(seq)))
    follower = Follower(tmp_path / "a.nbr", budget_s=0.0)
    while follower.read():
        pass
    assert follower.snapshot().energy.reads == 5
    follower.close()


def test_a_file_with_nothing_in_it_is_no_error(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "a.nbr").close()
    found = seen(tmp_path / "a.nbr")
    assert (found.about.protocol, found.about.shape, found.seq, found.status) == ("", (1, 1), -1, "crashed")


# ---------------------------------------------------------------------------------------------- steps of hardware


def test_a_pulse_on_its_way_is_shown_and_not_counted_until_it_is_known(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        follower = Follower(writer.path)
        writer.entry(0, READ, reading([1e-5] * 6))
        writer.intent(1, pulses([[2, 0, -1], [0, 0, 0]]), Witness(3, "boot"))
        assert follower.read()
        now = follower.snapshot()
        assert (now.seq, now.last_seq, now.energy.pulses, now.stimulus) == (1, 1, 0, None)
        assert now.recent[-1].words == "3 pulses ±0.50 V 1 ms on 2 cells"
        assert np.isnan(now.recent[-1].energy_j), "nobody knows yet"
        assert now.cells.ups.sum() == now.cells.downs.sum() == 0
        assert follower.snapshot(0).recent[-1].words.startswith("read 6 cells")
        assert not follower.read()
        writer.answer(1, applied(3, shots=2))
        assert follower.read()
        now = follower.snapshot()
        assert (now.cells.ups.tolist(), now.cells.downs.tolist()) == ([[2, 0, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 0]])
        assert [line.seq for line in now.recent] == [0, 1]
        assert now.stimulus is not None
        assert now.energy.basis == "measured"
        follower.close()


def test_the_sign_of_the_volts_is_that_of_the_chip(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, pulses([[1, 0, 0], [0, 0, 0]]), applied(1))
        writer.entry(1, pulses([[-1, -1, 0], [0, 0, 0]]), applied(2))
    up, down = seen(tmp_path / "a.nbr").recent
    assert (up.words, up.sign) == ("1 pulse −0.50 V 1 ms on 1 cell", 1)
    assert (down.words, down.sign) == ("2 pulses +0.50 V 1 ms on 2 cells", -1)


def test_a_doubt_is_shown_and_what_is_certain_is_counted_once_it_is_waived(tmp_path: Path) -> None:
    step = pulses([[2, 0, 0], [0, 0, 3]])
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.intent(0, step, Witness())
        writer.doubt(0, Unknown(1, "the reply was lost"))
        follower = Follower(writer.path)
        follower.read()
        found = follower.snapshot()
        assert found.recent[-1].doubt
        assert found.cells.ups.sum() == 0
        writer.answer(0, applied(2, shots=1), Settled.WAIVED)
        writer.entry(1, READ, reading([1e-5] * 6, 5.0))
        writer.flush()
        while follower.read():
            pass
        found = follower.snapshot()
        assert found.recent[0].doubt
        assert found.cells.ups.tolist() == [[2, 0, 0], [0, 0, 0]]
        assert found.seq == 1
        follower.close()


def test_a_batch_that_was_cut_off_counts_the_shots_that_were_fired(tmp_path: Path) -> None:
    step = pulses([[2, 1, 0], [-1, 0, 3]])  # by rows: two of (0, 0) and (0, 1), one more of (0, 0), three, one down
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, step, applied(3, shots=2))
    found = seen(tmp_path / "a.nbr")
    assert found.cells.ups.tolist() == [[2, 1, 0], [0, 0, 0]]
    assert found.cells.downs.sum() == 0
    assert found.recent[0].pulses == 3


def test_a_value_that_was_cut_off_has_no_sigma(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, READ, reading([1e-5, 1e-4, 2e-5, 1e-5, 1e-5, 1e-5], 0.0, ("over_range",), 1e-5))
    found = seen(tmp_path / "a.nbr")
    assert np.isnan(found.cells.sigma_s).tolist() == [[False, True, False], [False] * 3]
    assert found.cells.sigma_s[0, 0] == pytest.approx(1e-8 / 0.1 / 2**0.5)
    assert found.recent[0].words == "read 6 cells at 0.1 V (over range)"


def test_time_begins_with_the_first_step_and_goes_on_while_waiting(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, READ, reading([1e-5] * 6, 1_700_000_000.0))
        writer.entry(1, Wait(60.0), None)
        writer.flush()
        assert seen(writer.path).at_s == 60.5
        writer.entry(2, READ, reading([1e-5] * 6, 1_700_000_061.0))
    found = seen(tmp_path / "a.nbr")
    assert found.at_s == 61.5
    assert found.cells.read_at_s[0, 0] == 61.5
    assert found.recent[1].words == "wait 60 s"


def test_a_wait_before_the_first_step_counts(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, Wait(2.0), None)
        writer.entry(1, READ, reading([1e-5] * 6, 1_700_000_000.0))
    found = seen(tmp_path / "a.nbr")
    assert found.at_s == found.cells.read_at_s[0, 0] == 2.5


def test_time_does_not_go_back_where_a_bench_counts_anew(tmp_path: Path) -> None:
    """Simulated instruments begin at 0 again in another process."""
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, READ, reading([1e-5] * 6, 100.0))
        writer.entry(1, READ, reading([1e-5] * 6, 108.0))
        writer.entry(2, READ, reading([2e-5] * 6, 3.0))
    found = seen(tmp_path / "a.nbr")
    assert found.at_s == found.cells.read_at_s[0, 0] == 9.0
    assert found.history.trace([(0, 0)], 9)[0].tolist() == [0.5, 8.5, 9.0]


def test_reads_of_some_cells_leave_the_others(tmp_path: Path) -> None:
    some = CELLS.copy()
    some[0] = False
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, READ, reading([1e-5] * 6))
        writer.entry(1, Sense(CellRead(some, 0.1)), reading([2e-5] * 3, 4.0))
    cells = seen(tmp_path / "a.nbr").cells
    np.testing.assert_allclose(cells.conductance_s, [[1e-5] * 3, [2e-5] * 3])
    np.testing.assert_allclose(cells.first_s, 1e-5)
    np.testing.assert_allclose(cells.before_s, [[np.nan] * 3, [1e-5] * 3])
    np.testing.assert_allclose(cells.read_at_s, [[0.5] * 3, [4.5] * 3])


def test_the_cells_as_they_were_found_when_it_was_resumed(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, READ, reading([1e-5] * 6))
        told = {"read": encode_step(READ), "reading": encode_answer(reading([3e-5] * 6, 9.0)), "cells": 6}
        writer.note(0, "_baseline", told)
    found = seen(tmp_path / "a.nbr")
    np.testing.assert_allclose(found.cells.conductance_s, 3e-5)
    assert found.recent[-1].words == "resumed: read 6 cells at 0.1 V"
    assert found.energy.reads == 1
    at_s, values = found.history.trace([(0, 0)], 0)
    assert at_s.tolist() == [0.5, 9.5]
    np.testing.assert_allclose(values[:, 0], [1e-5, 3e-5], rtol=1e-6)


def test_what_was_found_when_a_run_was_resumed_is_news_although_it_is_no_step(tmp_path: Path) -> None:
    cell = np.zeros(SHAPE, np.bool_)
    cell[0, 0] = True
    one = Sense(CellRead(cell, 0.1))
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, one, reading([1e-5]))
        writer.flush()
        follower = Follower(writer.path)
        while follower.read():
            pass
        told = {"read": encode_step(one), "reading": encode_answer(reading([3e-5], 9.0)), "cells": 1}
        writer.note(0, "_baseline", told)
        writer.flush()
        assert follower.read()
        found = follower.snapshot()
        follower.close()
    assert found.cells.conductance_s[0, 0] == pytest.approx(3e-5)
    at_s, values = found.history.trace([(0, 0)], 0)
    assert at_s.tolist() == [0.5, 9.5]
    np.testing.assert_allclose(values[:, 0], [1e-5, 3e-5], rtol=1e-6)


def test_an_earlier_step_of_a_run_that_has_grown_since_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        follower = Follower(writer.path)
        for seq in range(90):
            writer.entry(seq, READ, reading([1e-6 * (seq + 1)] * 6, float(seq)))
            if seq % 30 == 29:
                writer.flush()
                while follower.read():
                    pass
                earlier = follower.snapshot(seq - 10)
                assert earlier.seq == seq - 10
                assert earlier.cells.conductance_s[0, 0] == pytest.approx(1e-6 * (seq - 9))
        follower.close()


def test_a_pulse_that_is_fired_after_all_comes_after_what_was_found_before_it(tmp_path: Path) -> None:
    class Dies(RunWriter):
        def intent(self, seq: int, step: Step, witness: Witness) -> None:
            super().intent(seq, step, witness)
            if seq > 8:
                raise OSError("the process ends here, before the pulse")

    chip = FakeChip((4, 4))
    with Dies.create(tmp_path / "a.nbr") as writer:
        run(Toy(), guarded(FakeCrossbar(chip.serve, (4, 4))), seed=1, record=writer)
    before = seen(tmp_path / "a.nbr")
    with RunWriter.reopen(tmp_path / "a.nbr") as record:
        assert resume(Toy(), guarded(FakeCrossbar(chip.serve, (4, 4))), record).status == "finished"
    follower = Follower(tmp_path / "a.nbr")
    while follower.read():
        pass
    lines = [line.words for line in follower.snapshot(before.seq).recent]
    assert lines[-2].startswith("resumed: read 16 cells")
    assert "pulse" in lines[-1]
    assert not any("resumed" in line.words for line in follower.snapshot(before.seq - 2).recent)
    follower.close()


def test_cells_that_are_marked_are_out_of_use_and_come_back(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.note(0, "cell_state", {"state": "retired", "cells": [[0, 1]]})
        writer.note(1, "cell_state", {"state": "formed", "cells": [[1, 2]]})
    assert np.argwhere(seen(tmp_path / "a.nbr").cells.excluded).tolist() == [[0, 1]]


# ---------------------------------------------------------------------------------------------- how it ended


def test_how_it_ended_is_told_with_the_last_step_only(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, READ, reading([1e-5] * 6))
        writer.note(1, "epoch", {"index": 1, "error": 2.0})
        writer.put(status="fault", error="LinkLost: no answer", harm=["cell (0, 1) broke"], result=pack({"n": 3}))
    follower = Follower(tmp_path / "a.nbr")
    follower.read()
    found = follower.snapshot()
    assert (found.status, found.error, found.live) == ("fault", "LinkLost: no answer", False)
    assert (found.harm, found.result) == (("cell (0, 1) broke",), {"n": 3})
    assert follower.snapshot(0).result == {}
    assert dict(follower.snapshot(0).progress) == {}
    follower.close()


def test_a_crashed_file_shows_all_that_was_recorded(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "source.nbr", manifest()) as writer:
        writer.entry(0, READ, reading([1e-5] * 6))
        writer.intent(1, pulses([[1, 0, 0], [0, 0, 0]]), Witness())
        for side in ("", "-wal"):
            shutil.copyfile(f"{writer.path}{side}", f"{tmp_path / 'crashed.nbr'}{side}")
    found = seen(tmp_path / "crashed.nbr")
    assert (found.status, found.live, found.seq, len(found.recent)) == ("crashed", False, 1, 2)
    assert not list(Path(tmp_path).glob("crashed.nbr-shm"))


KILLED = """
import numpy as np, sys, time
from neurobench.runs.session import session
from neurobench.bench.steps import Sense
from neurobench.bench.stimulus import CellRead
def look(view):
    yield Sense(CellRead(np.ones(view.shape, np.bool_), 0.1))
with session("emulator", out=__import__("pathlib").Path(sys.argv[1])) as bench:
    print(bench.path, flush=True)
    while True:
        bench.do(look(bench.view))
"""


def test_a_writer_is_followed_until_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        follower = Follower(Path(writer.stdout.readline().strip()))
        until = time.monotonic() + 30
        while follower.snapshot().seq < 200 and time.monotonic() < until:
            follower.read()
        living = follower.snapshot()
        os.kill(writer.pid, signal.SIGKILL)
    assert (living.live, living.about.simulated, living.about.protocol) == (True, True, "session")
    while follower.read():
        pass
    dead = follower.snapshot()
    assert (dead.live, dead.status) == (False, "crashed")
    assert dead.seq >= living.seq >= 200
    assert dead.cells.read_at_s[0, 0] == dead.at_s
    assert not follower.read()
    follower.close()


def look(cells: Any) -> Generator[Step, Any, Reading]:
    answer: Reading = yield Sense(CellRead(cells, 0.1))
    return answer


def test_a_session_is_a_run_like_any_other(tmp_path: Path) -> None:
    with session(out=tmp_path, rows=2, cols=3) as script:
        script.do(look(CELLS))
        script.note("epoch", {"index": 1, "error": 0.25})
    found = seen(script.path)
    assert (found.about.protocol, found.about.shape, found.status) == ("session", SHAPE, "finished")
    assert found.progress["error"].values.tolist() == [0.25]
    assert found.cells.conductance_s.min() > 0


# ---------------------------------------------------------------------------------------------- a little at a time


def test_what_comes_while_enough_is_at_hand_still_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "ROWS", 2)
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer, FollowedFile.open(writer.path) as file:
        rows = Feed(file)
        writer.entry(0, READ, reading([1e-5] * 6))
        writer.note(1, "epoch", {"index": 1})
        writer.flush()
        rows.refill()
        writer.entry(2, READ, reading([1e-5] * 6))
        writer.flush()
        rows.refill()
        assert [rows.next().seq, rows.next().seq, rows.next()] == [0, 1, None]  # type: ignore[union-attr]
        assert rows.waiting
        assert rows.needs_more(2)
        rows.refill()
        assert rows.next() is not None
        assert not rows.waiting


def test_a_note_with_the_number_of_the_one_before_it_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "ROWS", 2)
    told = {"read": encode_step(READ), "reading": encode_answer(reading([3e-5] * 6, 9.0)), "cells": 6}
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, READ, reading([1e-5] * 6))
        writer.note(1, "remark", 1)
        writer.note(2, "remark", 2)
        writer.note(2, "_baseline", told)
        for seq in range(3, 9):
            writer.note(seq, "remark", seq)
    follower = Follower(tmp_path / "a.nbr")
    while follower.read():
        pass
    np.testing.assert_allclose(follower.snapshot(2).cells.conductance_s, 3e-5)
    np.testing.assert_allclose(follower.snapshot(1).cells.conductance_s, 1e-5)
    follower.close()


# ---------------------------------------------------------------------------------------------- damage


def test_what_is_no_run_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.nbr").write_text("hello")
    with pytest.raises(RunFileError, match="is not a run file"):
        Follower(tmp_path / "a.nbr")
    with pytest.raises(RunFileError, match="cannot read"):
        Follower(tmp_path / "none.nbr")


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "a.nbr").close()
    db = sqlite3.connect(tmp_path / "a.nbr")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(RunFileError, match="newer neurobench"):
        Follower(tmp_path / "a.nbr")


@pytest.mark.parametrize(
    "change",
    ["answer = x'ff'", "step = x'9302'", "state = 7", "answer = NULL", "kind = 'sense'", "kind = 'other'"],
)
def test_a_damaged_step_ends_the_story_in_words_and_what_was_before_stays(tmp_path: Path, change: str) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        for seq in range(4):
            writer.entry(seq, pulses([[1, 0, 0], [0, 0, 0]]), applied(1, float(seq)))
    db = sqlite3.connect(tmp_path / "a.nbr", isolation_level=None)
    db.execute(f"UPDATE journal SET {change} WHERE seq = 2")
    db.close()
    found = seen(tmp_path / "a.nbr")
    if change == "answer = NULL":  # a done step without an answer counts as one of which nothing is known
        assert (found.seq, found.energy.pulses) == (3, 3)
        return
    assert found.error is not None
    assert "damaged" in found.error
    assert found.seq in (-1, 1)  # a chunk of rows is damaged as a whole


def test_a_file_that_is_away_for_a_moment_is_read_on_when_it_is_back(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        writer.entry(0, READ, reading([1e-5] * 6))
    follower = Follower(tmp_path / "a.nbr")
    (tmp_path / "a.nbr").rename(tmp_path / "b.nbr")
    assert follower.read()
    assert not follower.read()
    assert "cannot be read" in str(follower.snapshot().error)
    (tmp_path / "b.nbr").rename(tmp_path / "a.nbr")
    assert follower.read()
    assert (follower.snapshot().error, follower.snapshot().seq) == (None, 0)
    follower.close()


def test_a_note_of_another_form_is_no_damage(tmp_path: Path) -> None:
    odd: list[tuple[str, Any]] = [
        ("epoch", 3.0), ("point", 4), ("remark", "a\nb"), ("epoch", {"error": 1, "index": "first"}), ("targets", "all"),
        ("epoch", {"weights": "none", "error": 10**400}), ("retired", 3), ("cell_state", {"cells": [[7, 7]]}),
        ("spikes", {"tick": 3}), ("spikes", "many"), ("branch", [1]), ("start", None), ("retired", {"cells": [[9, 9]]}),
    ]  # fmt: skip
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        for seq, (name, value) in enumerate(odd):
            writer.note(seq, name, value)
    found = seen(tmp_path / "a.nbr")
    assert (found.error, found.seq, found.points, found.branches) == (None, len(odd) - 1, (), ())
    assert found.notes == {"remark": "a\nb", "retired": {"cells": [[9, 9]]}, "cell_state": {"cells": [[7, 7]]}}
    assert found.progress["error"].values.tolist() == [1.0]
    assert (dict(found.rasters), found.weights_s, found.targets) == ({}, None, None)
    assert len(found.recent) == len(odd)


def test_names_of_notes_do_not_grow_without_bound(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr", manifest()) as writer:
        for seq in range(1200):
            writer.note(seq, f"cell {seq}", seq)
    notes = seen(tmp_path / "a.nbr").notes
    assert len(notes) == 1000
    assert "cell 1199" in notes


def test_a_run_of_the_runner_on_a_bench_that_is_not_replayed(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "a.nbr") as writer:
        run(Toy(), guarded(perfect()), seed=0, record=writer)
    found = seen(tmp_path / "a.nbr")
    assert found.status == "finished"
    assert found.energy.pulses == found.cells.ups.sum() + found.cells.downs.sum() > 0
