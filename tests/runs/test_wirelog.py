"""The log of what was said: in order, bounded, honest about what it could not write, and in nobody's way."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from neurobench.runs import wirelog
from neurobench.runs.wirelog import WireLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.nbr.wire.log"


def said(path: Path) -> list[str]:
    """What stands behind the time of each line."""
    return [line[14:] for line in path.read_text(encoding="ascii").splitlines() if line]


def test_lines_stand_in_the_order_in_which_they_were_said(path: Path) -> None:
    log = WireLog(path)
    for n in range(50):
        log("smu" if n % 2 else "pulse", ">" if n % 3 else "<", f"line {n}")
        if n % 10 == 0:
            log.flush()
    log.close()
    wanted = [f"{'smu' if n % 2 else 'pulse'}  {'>' if n % 3 else '<'}  line {n}" for n in range(50)]
    assert said(path) == wanted


def test_of_a_long_message_only_the_beginning_is_kept_while_it_waits(path: Path) -> None:
    log = WireLog(path)
    log("pulse", ">", "DATA:ARB " + "1," * 500_000)
    assert all(len(text) <= wirelog.MOST_SHOWN for _, _, _, text, _ in log._waiting)
    log("pulse", ">", "x" * wirelog.MOST_SHOWN)
    log("pulse", ">", "\0" * (wirelog.MOST_SHOWN - 1))
    log.close()
    cut, whole, escaped = said(path)
    assert cut.startswith("pulse  >  DATA:ARB 1,1,")
    assert cut.endswith("... (1000009 characters)")
    assert whole == "pulse  >  " + "x" * wirelog.MOST_SHOWN
    assert escaped == "pulse  >  " + "\\x00" * (wirelog.MOST_SHOWN // 4) + f"... ({wirelog.MOST_SHOWN - 1} characters)"


def test_a_disk_that_takes_nothing_costs_lines_and_the_log_says_how_many(path: Path) -> None:
    log = WireLog(path)
    log("smu", ">", "one")
    log.flush()
    path.rename(path.with_suffix(".kept"))
    path.mkdir()  # nobody can append to that
    for n in range(3):
        log("smu", ">", f"gone {n}")
    log.flush()
    log("smu", ">", "gone, too")
    log.flush()
    path.rmdir()
    log("smu", ">", "two")
    log.close()
    assert said(path) == ["log  !  4 lines could not be written and are lost", "smu  >  two"]


def test_lines_that_wait_for_a_disk_are_bounded_and_the_oldest_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wirelog, "MOST_WAITING", 5)
    log = WireLog(path)
    with log._writing:  # it hangs
        for n in range(8):
            log("smu", ">", f"line {n}")
    log.close()
    assert said(path) == [
        "log  !  3 lines could not be written and are lost", *(f"smu  >  line {n}" for n in range(3, 8))
    ]  # fmt: skip


def test_a_disk_that_hangs_keeps_neither_the_talk_nor_the_end_waiting(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wirelog, "PATIENCE_S", 0.02)
    log = WireLog(path)
    hangs, goes_on = threading.Event(), threading.Event()

    def make_room(_more: int) -> None:
        hangs.set()
        goes_on.wait(20)

    monkeypatch.setattr(log, "_make_room", make_room)
    log("smu", ">", "one")
    assert hangs.wait(20)
    began_s = time.monotonic()
    for n in range(1000):
        log("smu", ">", f"line {n}")
    log.close()
    assert time.monotonic() - began_s < 5
    goes_on.set()
    log._thread.join(20)
    assert not log._thread.is_alive()
