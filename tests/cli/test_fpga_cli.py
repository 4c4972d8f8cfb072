"""An FPGA bench from the command line: what its page says can be typed, who is no board is told, a bad line changes
nothing, and what is simulated says so."""

from __future__ import annotations

import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from test_board_served import LAB, Served
from test_cli_sim_bench import kept_pulses

from neurobench import cli

_link = pytest.importorskip("neurobench.drivers._fpga_link")
Command = Callable[..., Any]
Talk = Callable[[socket.socket], None]

# What the built-in board has, for the emulator.
READOUT = ("adc_bits=24", "adc_range_a=1e-5", "dac_bits=16", "dac_range_v=0.65534")


def typed_lines(page: str) -> list[list[str]]:
    """The words of every `neurobench` command that stands in a block of code, continued lines in one."""
    lines = page.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("    neurobench ")]


def test_everything_that_the_page_says_can_be_typed(checkout: Path) -> None:
    """Only read, not done: unknown commands and options raise."""
    program = typer.main.get_command(cli.app)
    typed = typed_lines((checkout / "docs" / "fpga.md").read_text(encoding="utf-8"))
    assert len(typed) >= 5
    for name, *words in typed:
        command = program.commands[name]  # type: ignore[attr-defined]
        assert command.make_context(name, list(words)).params


# ------------------------------------------------------------------------------------------- who is no board


def _silent(peer: socket.socket) -> None:
    while peer.recv(1000):
        pass


def _echo(peer: socket.socket) -> None:
    while data := peer.recv(1000):
        peer.sendall(data)


def _chatter(peer: socket.socket) -> None:
    while True:
        peer.sendall(os.urandom(300) + b"\0")
        time.sleep(0.005)


@contextmanager
def somebody(talk: Talk) -> Iterator[str]:
    """A server that talks so; its URL."""
    server = socket.create_server(("127.0.0.1", 0))

    def meet() -> None:
        with suppress(OSError):
            while True:
                peer, _ = server.accept()
                threading.Thread(target=converse, args=(peer,), daemon=True).start()

    def converse(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            talk(peer)

    thread = threading.Thread(target=meet, daemon=True)
    thread.start()
    try:
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"
    finally:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


@pytest.mark.parametrize("talk", [_silent, _echo, _chatter])
def test_who_is_no_board_is_told_with_his_place_and_the_bench_is_not_opened(
    talk: Talk, neurobench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "NOT_FOUND_S", 0.3)
    with somebody(talk) as url:
        Path("lab.toml").write_text(LAB.format(url=url), encoding="utf-8")
        checked = neurobench("check", "lab.toml", "--json")
        rested = neurobench("rest", "lab.toml", "--json")
    (row,) = checked.data["instruments"]
    assert checked.code == rested.code == cli.FAULT
    assert row["verdict"].startswith("no answer: ")
    assert url in row["verdict"]
    assert row["self_test"] == row["answers"] == ""
    assert checked.data["at_rest"] is False, "nobody is known to be at rest"
    assert "Traceback" not in checked.err + rested.err


def test_ports_are_listed_also_while_the_bench_file_names_none(neurobench: Command) -> None:
    Path("lab.toml").write_text(LAB.format(url=""), encoding="utf-8")
    assert neurobench("check", "--list", "lab.toml", "--json").code == cli.OK
    told = neurobench("rest", "lab.toml", "--json")
    assert told.code == cli.USAGE
    assert "[board] url is missing" in told.data["error"]
    assert "neurobench check --list" in told.data["error"]


# ------------------------------------------------------------------------------------------------- what is simulated


def dry_run(neurobench: Command, bench: str, *settings: str) -> dict[str, Any]:
    """The numbers of a preview: a whole training in this process."""
    words = [word for setting in settings for word in ("--bench-set", setting)]
    said = neurobench("preview", "manhattan", "--seed", "5", "--bench", bench, *words, "--json")
    assert said.code == cli.OK, said.err
    assert said.data["simulated"] is True
    found: dict[str, Any] = said.data
    return {name: found[name] for name in ("status", "updates", "pulses", "preflight", "max_read_v")}


def test_a_training_is_the_emulators_however_bad_the_line_is(neurobench: Command) -> None:
    on_emulator = dry_run(neurobench, "emulator", *(f"readout.{one}" for one in READOUT))
    assert on_emulator["pulses"] > 0
    assert dry_run(neurobench, "fpga-sim") == on_emulator
    faults = (f"board.simulation.{what}=0.1" for what in ("lost", "corrupted"))
    bad = dry_run(neurobench, "fpga-sim", "board.retries=30", *faults)
    assert bad == on_emulator


def test_a_preview_tells_the_largest_volts(neurobench: Command) -> None:
    said = neurobench("preview", "manhattan", "--bench", "fpga-sim", "--json").data
    assert (said["pulses"], said["max_pulse_v"], said["longest_pulse_s"]) == (8, 2.0, 1e-3)


def test_check_says_how_good_the_line_is_and_that_the_board_is_simulated(neurobench: Command) -> None:
    good = neurobench("check", "fpga-sim", "--json").data
    (row,) = good["instruments"]
    assert (good["simulated"], row["verdict"], row["self_test"]) == (True, "ok (simulated)", "passed")
    link = row["link"]
    assert (link["repeated"], link["bad_here"], link["bad_at_the_board"]) == (0, 0, 0)
    # 13 to 90 bytes and a COBS byte each way, 10 us a byte at 1 Mbaud: what the line alone takes
    assert 2e-4 < link["round_trip_s"] < 2.5e-3
    lossy = neurobench("check", "fpga-sim", "--bench-set", "board.simulation.corrupted=0.1", "--json").data
    (row,) = lossy["instruments"]
    assert row["self_test"] == "passed"
    assert min(row["link"][name] for name in ("repeated", "bad_here", "bad_at_the_board")) > 0


def test_a_preview_does_not_touch_the_chip_of_a_served_board(neurobench: Command, tmp_path: Path) -> None:
    served = Served(tmp_path, "--tcp", "--instant", "--chip", "chip.npz")
    try:
        Path("lab.toml").write_text(LAB.format(url=served.said["url"]), encoding="utf-8")
        neurobench("preview", "manhattan", "--bench", "lab.toml", "--json")
    finally:
        served.end()
    assert not Path("chip.npz").exists() or kept_pulses(tmp_path / "chip.npz") == 0
