"""Sessions by hand: single reads and pulses of a client, in an engine of their own, guarded and recorded."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from neurobench import cli
from neurobench.bench.config import BenchConfig, load_bench, open_bench
from neurobench.bench.crossbar import Applied, Capabilities
from neurobench.bench.stimulus import Bias, Pulse, PulseBatch, Shots, shots
from neurobench.errors import InUse, NeurobenchError, Refused, ResumeRefused
from neurobench.runs import hand, launch, library
from neurobench.runs.engine import Engine, attach
from neurobench.runs.hand import wish_of
from neurobench.runs.runfile import RunFile
from neurobench.runs.wirelog import wire_log_of

BENCHES = ("emulator", "visa-sim", "fpga-sim")
PULSE = {"do": "pulse", "cells": [[0, 1], [2, 2]], "sign": 1, "count": 2, "amplitude_v": 2.0, "width_s": 1e-3}
LATE_S = 20.0

Open = Callable[..., Engine]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens benches by hand; what a failing test leaves is ended."""
    begun: list[Engine] = []

    def opened(bench: str | BenchConfig = "emulator", **more: Any) -> Engine:
        config = bench if isinstance(bench, BenchConfig) else load_bench(bench)
        begun.append(hand.start(config, 3, tmp_path, **more))
        return begun[-1]

    yield opened
    for engine in begun:
        engine.kill()
        engine.wait(LATE_S)


def end(engine: Engine) -> None:
    assert engine.ask_hand({"do": "end"}) == {"ended": True}
    assert engine.wait(LATE_S)


def journal(engine: Engine) -> list[str]:
    with RunFile.open(engine.path) as run:
        return [row.kind for row in run.entries()]


def said_on_the_wire(engine: Engine) -> set[tuple[str, str]]:
    """Who said something, and which way."""
    log = wire_log_of(engine.path)
    lines = log.read_text(encoding="ascii").splitlines() if log.exists() else []
    split = [line.split("  ", 3) for line in lines]
    assert all(len(moment) == len("00:00:00.000") for moment, *_ in split)
    return {(instrument, way) for _, instrument, way, _ in split}


def fired(engine: Engine) -> int:
    with RunFile.open(engine.path) as run:
        return sum(row.answer.pulses for row in run.entries() if isinstance(row.answer, Applied))


def wait_for(condition: Callable[[], Any]) -> None:
    end_s = time.monotonic() + LATE_S
    while not condition():
        assert time.monotonic() < end_s, "it never happened"
        time.sleep(0.005)


# ---------------------------------------------------------------------------------------------- what is done


@pytest.mark.parametrize("bench", BENCHES)
def test_what_is_read_and_pulsed_by_hand_stands_in_one_run_file(bench: str, opened: Open) -> None:
    engine = opened(bench)
    assert engine.state() == "running"
    all_of_them = engine.ask_hand({"do": "read", "cells": "all", "averages": 2})
    assert (len(all_of_them["cells"]), len(all_of_them["conductance_s"])) == (16, 16)
    assert all(sigma_s > 0 for sigma_s in all_of_them["sigma_s"])
    before = dict(zip(map(tuple, all_of_them["cells"]), all_of_them["conductance_s"], strict=True))
    after = engine.ask_hand({**PULSE, "count": 5})
    assert (after["cells"], after["pulses"], after["pulse_seq"]) == ([[0, 1], [2, 2]], 10, after["seq"] - 1)
    for cell, conductance_s, sigma_s in zip(after["cells"], after["conductance_s"], after["sigma_s"], strict=True):
        assert conductance_s > before[tuple(cell)] + 3 * sigma_s
    outputs = engine.outputs()
    assert (outputs["on"], outputs["how"]) == (False, "emulated" if bench == "emulator" else "read back")
    end(engine)
    assert journal(engine) == ["sense", "apply", "sense"]
    report = library.report(engine.path)
    assert (report["protocol"], report["status"], report["pulses"]) == ("hand", "finished", 10)
    with RunFile.open(engine.path) as run:
        asked = [note.value for note in run.notes("hand")]
        assert run.value("outputs")["on"] is False
    assert [note["asked"]["do"] for note in asked] == ["read", "pulse"]
    assert [note["seq"] for note in asked] == [all_of_them["seq"], after["seq"]]
    talk = said_on_the_wire(engine)
    if bench == "emulator":
        assert not talk, "an emulated chip has no wire"
    elif bench == "visa-sim":
        assert talk >= {("smu", ">"), ("smu", "<"), ("matrix", ">"), ("matrix", "<"), ("pulse", ">")}
    else:
        assert talk == {("board", ">"), ("board", "<")}


@pytest.mark.parametrize("bench", ["emulator", "visa-sim", pytest.param("fpga-sim", marks=pytest.mark.slow)])
def test_a_preview_says_what_would_happen_and_fires_nothing(bench: str, opened: Open) -> None:
    engine = opened(bench)
    found = engine.ask_hand({**PULSE, "preview": True})
    assert "refused" not in found
    assert (found["cell_v"], found["victim_row_v"], found["victim_col_v"], found["line_v"]) == (2.0, 1.0, 1.0, 1.0)
    assert (found["pulses"], found["victims"], found["half_selected"]) == (4, 10, 10)
    assert (found["others"], found["in_turn"]) == (14, 0)
    assert found["limits"]["max_cell_v"] == load_bench(bench).limits.max_cell_v
    too_much = engine.ask_hand({**PULSE, "amplitude_v": 7.0, "preview": True})
    assert too_much["cell_v"] == 7.0
    assert "max_cell_v" in too_much["refused"]
    then = engine.ask_hand(PULSE)
    if bench == "emulator":
        assert found["energy_j"] == pytest.approx(then["energy_j"]), "of the chip itself"
        assert found["tried"]
    else:
        assert (found["energy_j"], found["energy_basis"]) == (None, "unknown")
    end(engine)
    assert fired(engine) == 4, "of the pulses that were asked for alone"
    assert journal(engine) == ["apply", "sense"]


@pytest.mark.parametrize("parallelism", ["row", "column", "cell"])
def test_what_chosen_cells_see_of_the_pulses_for_each_other(parallelism: Any) -> None:
    counts = np.zeros((3, 4), np.int16)
    counts[0, 0] = counts[1, 0] = counts[1, 2] = 2
    batch = PulseBatch(counts, Pulse(1.0, 1e-3), Bias.HALF)
    expanded = shots(batch, Capabilities((3, 4), parallelism=parallelism, potentiating_sign=1))
    assert isinstance(expanded, Shots)
    seen = np.zeros((3, 4), int)
    for k, shot in enumerate(expanded):
        others = np.ones((3, 4), bool)
        others[expanded.cells(k)] = False
        volts = np.abs(shot.states.row_v[:, None] - shot.states.col_v)
        seen += ((volts > 0.1) & others) * shot.n
    np.testing.assert_array_equal(hand._in_turn(expanded), seen)


def test_outputs_are_not_said_to_be_on_while_a_preview_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, said = open_bench(load_bench("emulator")), list[tuple[bool | None, bool | None]]()
    raw, plain = guard.raw, guard.raw.fire

    def fire(seq: int) -> Any:
        raw._driving = True  # type: ignore[attr-defined]
        said.append((raw.outputs().on, guard.outputs().on))
        return plain(seq)

    monkeypatch.setattr(raw, "fire", fire)
    counts = np.ones((4, 4), np.int16)
    expanded = shots(PulseBatch(counts, Pulse(2.0, 1e-3), Bias.HALF), guard.capabilities)
    runner = SimpleNamespace(replayable=True, seq=-1)
    found = hand.Hand._tried(SimpleNamespace(guard=guard, runner=runner), expanded)  # type: ignore[arg-type]
    assert found["tried"]
    assert said == [(True, False)]
    assert not guard.trying
    guard.close()


def test_a_preview_leaves_an_emulated_chip_as_it_was(opened: Open) -> None:
    engine, other = opened(), opened()
    for _ in range(3):
        assert "refused" not in engine.ask_hand({**PULSE, "preview": True})
    assert engine.ask_hand(PULSE)["conductance_s"] == other.ask_hand(PULSE)["conductance_s"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({**PULSE, "amplitude_v": 7.0}, "max_cell_v"),
    ({**PULSE, "cells": [[4, 0]]}, "outside the array of 4 x 4"),
    ({**PULSE, "cells": []}, "no cell is selected"),
    ({**PULSE, "count": 0}, "count"),
    ({**PULSE, "sign": 2}, "sign"),
    ({**PULSE, "width_s": -1.0}, "width_s"),
    ({**PULSE, "amplitude_v": float("nan")}, "amplitude_v"),
    ({**PULSE, "volts": 2.0}, "volts"),
    ({"do": "pulse", "cells": [[0, 0]]}, "amplitude_v"),
    ({"do": "read", "voltage_v": 3.0}, "a read at 3 V"),
    ({"do": "read", "averages": 0}, "averages"),
    ({"do": "burn"}, "'burn'"),
    ({"do": ["read"]}, "['read']"),
    ({}, "do = None"),
]


@pytest.mark.parametrize("bench", ["emulator", "visa-sim"])
def test_what_is_refused_fires_nothing_says_why_and_leaves_the_session_usable(bench: str, opened: Open) -> None:
    engine = opened(bench)
    for request, why in REFUSED:
        answer = engine.ask_hand(request)
        assert why in answer["refused"], request
        assert "failed" not in answer, request
    assert engine.ask_hand(PULSE)["pulses"] == 4
    assert engine.outputs()["on"] is False
    end(engine)
    assert fired(engine) == 4
    with RunFile.open(engine.path) as run:
        said = [note.value["refused"] for note in run.notes("hand") if "refused" in note.value]
    assert len(said) == len(REFUSED), "the record knows what was asked for in vain"


def test_the_lifetime_budget_holds_by_hand(opened: Open, tmp_path: Path) -> None:
    config = load_bench("visa-sim", {"limits.max_pulses_per_cell": 5, "chip.file": tmp_path / "c.npz"})
    engine = opened(config)
    assert engine.ask_hand({**PULSE, "count": 4})["pulses"] == 8
    assert engine.ask_hand({**PULSE, "preview": True})["pulses_left"] == 1
    assert "max_pulses_per_cell" in engine.ask_hand(PULSE)["refused"]
    end(engine)
    again = opened(config)
    assert "max_pulses_per_cell" in again.ask_hand(PULSE)["refused"], "over the chip's life"
    assert again.ask_hand({**PULSE, "count": 1})["pulses"] == 2
    end(again)


def test_a_request_names_its_mistake_without_an_engine() -> None:
    assert wish_of({"do": "read"}) == hand.Read(do="read")
    with pytest.raises(NeurobenchError, match="averages"):
        wish_of({"do": "read", "averages": "many"})


# ---------------------------------------------------------------------------------------------- its ends


def test_a_paused_session_refuses_and_does_not_do_it_later(opened: Open) -> None:
    engine = opened()
    assert engine.pause()
    wait_for(lambda: engine.state() == "paused")
    assert "paused" in engine.ask_hand(PULSE)["refused"]
    assert engine.resume()
    wait_for(lambda: engine.state() == "running")
    assert engine.ask_hand({"do": "read"})["seq"] >= 0
    end(engine)
    assert fired(engine) == 0


@pytest.mark.parametrize("bench", ["visa-sim", "fpga-sim"])
def test_an_abort_ends_it_with_its_outputs_off(bench: str, opened: Open) -> None:
    engine = opened(bench)
    engine.ask_hand({"do": "read", "cells": [[0, 0]]})
    assert engine.abort()
    assert engine.wait(LATE_S)
    assert library.report(engine.path)["status"] == "aborted"
    with RunFile.open(engine.path) as run:
        assert run.value("outputs")["on"] is False
    assert "ended" in engine.ask_hand({"do": "read"})["refused"]


def test_nobody_is_left_waiting_when_the_session_ends(opened: Open) -> None:
    engine = opened("visa-sim")
    heard: list[Any] = []

    def ask() -> None:
        try:
            heard.append(engine.ask_hand({"do": "read", "cells": "all", "averages": 50}))
        except NeurobenchError as error:
            heard.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    engine.abort()
    for thread in threads:
        thread.join(LATE_S)
    assert len(heard) == 4


@pytest.mark.parametrize("how", ["stop", "let_go"])
def test_it_ends_in_order_when_it_is_stopped_or_let_go(how: str, opened: Open) -> None:
    engine = opened("visa-sim", held=True)
    assert getattr(engine, how)()
    assert engine.wait(LATE_S)
    assert library.report(engine.path)["status"] == "finished"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_it_is_aborted_in_order_when_its_window_is_killed(tmp_path: Path) -> None:
    words = (
        "import sys, time; from pathlib import Path; from neurobench.runs import hand; "
        "from neurobench.bench.config import load_bench; "
        "engine = hand.start(load_bench('visa-sim'), 0, Path(sys.argv[1]), held=True); "
        "print(engine.path, flush=True); time.sleep(60)"
    )
    window = subprocess.Popen([sys.executable, "-c", words, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert window.stdout is not None
        engine = attach(window.stdout.readline().strip())
        assert engine.ask_hand({"do": "read", "cells": [[0, 0]]})["flags"] == []
    finally:
        window.kill()
        window.communicate()
    assert engine.wait(LATE_S)
    assert library.report(engine.path)["status"] == "aborted"


def test_what_cannot_be_opened_is_raised_and_leaves_no_file(opened: Open, tmp_path: Path) -> None:
    config = load_bench("visa-sim", {"chip.file": tmp_path / "chip.npz"})
    first = opened(config)
    with pytest.raises(InUse, match="passport"):
        opened(config)
    assert list(tmp_path.glob("*.nbr")) == [first.path]
    end(first)


# ---------------------------------------------------------------------------------------------- afterwards


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_after_a_crash_settle_frees_the_chip_and_resume_refuses(opened: Open, tmp_path: Path) -> None:
    config = load_bench("visa-sim", {"chip.file": tmp_path / "chip.npz"})
    engine = opened(config)
    assert engine.ask_hand(PULSE)["pulses"] == 4
    os.kill(engine.pid, signal.SIGKILL)
    assert engine.wait(LATE_S)
    wait_for(lambda: not list(tmp_path.glob("*.control")))
    with RunFile.open(engine.path) as run:
        assert run.status == "crashed"
        assert (run.value("watcher")["rested"], run.value("outputs")["on"]) == (True, False)
    with pytest.raises(Refused, match="settle"):
        opened(config)
    with pytest.raises(ResumeRefused, match="by hand"):
        launch.resume(engine.path)
    found = launch.settle(engine.path)
    assert (found["outcome"], found["chip"]) == ("nothing open", "settled")
    again = opened(config)
    assert again.ask_hand({"do": "read"})["cells"]
    end(again)


def test_its_file_can_be_shown_listed_plotted_and_exported(opened: Open, tmp_path: Path) -> None:
    engine = opened()
    engine.ask_hand({"do": "read"})
    engine.ask_hand(PULSE)
    end(engine)

    def do(*arguments: str) -> Any:
        said = io.StringIO()
        with contextlib.chdir(tmp_path), contextlib.redirect_stdout(said):
            assert cli.invoke([*arguments, "--json"]) == cli.OK, arguments
        return json.loads(said.getvalue())

    file = str(engine.path)
    assert do("show", file)["protocol"] == "hand"
    assert [run["protocol"] for run in do("list", "runs", "--in", str(tmp_path))["runs"]] == ["hand"]
    do("plot", file)
    do("export", file, "--out", str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir())
