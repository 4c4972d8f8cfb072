"""`neurobench sim-bench`: what it announces, what other programs can do with it, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from neurobench import registry
from neurobench.bench import config
from neurobench.physics.chip import load_chip
from neurobench.physics.library import load_model

# 2 V for 1 ms is what is known of the built-in bench's device.
TRAIN = (
    "OUTP1:LOAD INF;:SOUR1:FUNC PULS;:SOUR1:FUNC:PULS:TRAN:BOTH 1e-8;:SOUR1:VOLT:LOW 0;HIGH 2;"
    ":SOUR1:FUNC:PULS:PER 2e-3;WIDT 1e-3;:SOUR1:BURS:MODE TRIG;NCYC 7;STAT 1;:TRIG1:SOUR BUS;:OUTP1 1;*OPC?"
)


class Bench:
    """A running `neurobench sim-bench` and raw sockets to its instruments."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "neurobench", "sim-bench", *arguments],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=20)[1]
        self.said: dict[str, Any] = json.loads(line)
        self.open: dict[str, tuple[socket.socket, Any]] = {}

    def ask(self, model: str, text: str) -> str:
        if model not in self.open:
            (row,) = [row for row in self.said["instruments"] if row["model"] == model]
            place = row["resource"].split("::")
            assert place[:2] == ["TCPIP", "127.0.0.1"]
            assert place[3] == "SOCKET"
            peer = socket.create_connection(("127.0.0.1", int(place[2])), timeout=10)
            self.open[model] = peer, peer.makefile("rb")
        peer, file = self.open[model]
        peer.sendall(text.encode() + b"\n")
        line: bytes = file.readline()
        return line.decode().strip()

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, the rest of stdout, stderr."""
        for peer, file in self.open.values():
            file.close()
            peer.close()
        self.open = {}
        if self.process.poll() is None:
            self.process.send_signal(how)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    running: list[Bench] = []

    def begin(*arguments: str) -> Bench:
        running.append(Bench(tmp_path, *arguments))
        return running[-1]

    yield begin
    for bench in running:
        bench.end()


def kept_pulses(file: Path) -> int:
    return int(load_chip(file, load_model("lsmo-gaq3")).pulses.sum())


def bench_file(said: dict[str, Any]) -> str:
    """A bench file for our own driver of real instruments, on what was announced."""
    built_in = (Path(config.__file__).parent / "benches" / "visa-sim.toml").read_text(encoding="utf-8")
    text = built_in.replace('backend = "visa-sim"', 'backend = "visa"').partition("[instruments.simulation]")[0]
    for row in said["instruments"]:
        head = f"[instruments.{row['role']}]\n"
        text = text.replace(head, f'{head}resource = "{row["resource"]}"\n')
    return text.replace("[instruments.smu]", '[instruments]\nlibrary = "@py"\n\n[instruments.smu]')


def test_it_announces_the_three_instruments_of_the_built_in_bench_and_our_own_driver_finds_them(
    start: Callable[..., Bench], neurobench: Callable[..., Any]
) -> None:
    bench = start("--tcp")
    said = bench.said
    assert (said["bench"], said["clock"]) == ("visa-sim", "wall")
    assert said["chip"] == {"id": "emulated-0", "rows": 4, "cols": 4, "file": None}
    assert [(row["role"], row["model"]) for row in said["instruments"]] == [
        ("smu", "keithley-2600b"), ("pulse", "keysight-33500b"), ("matrix", "keithley-707b")
    ]  # fmt: skip
    for row in said["instruments"]:
        assert bench.ask(row["model"], "*IDN?") == row["idn"]
        assert "NBSIM" in row["idn"]
    Path("lab.toml").write_text(bench_file(said), encoding="utf-8")
    found = neurobench("check", "lab.toml", "--json")
    assert found.code == 0, found.err
    assert (found.data["backend"], found.data["simulated"], found.data["at_rest"]) == ("visa", True, True)
    assert 3e-7 < found.data["reference"]["conductance_s"] < 7e-7
    assert bench.end() == (0, "", "")


def test_pulses_of_another_program_reach_the_chip_and_stay_in_its_file(
    start: Callable[..., Bench], tmp_path: Path
) -> None:
    """What the generator fires is read by the SMU, also by the next server of the same chip; nothing fires twice."""
    file = tmp_path / "chip.npz"

    def read(bench: Bench) -> float:
        bench.ask("keithley-707b", 'channel.open("allslots") channel.close("1A01,1E05") print(1)')
        current = bench.ask(
            "keithley-2600b",
            "smua.source.func=1 smua.source.levelv=0.05 smua.source.limiti=1e-3 smua.measure.rangei=1e-6 "
            "smua.measure.nplc=10 smua.source.output=1 print(smua.measure.i())",
        )
        bench.ask("keithley-2600b", "smua.source.output=0 print(1)")
        bench.ask("keithley-707b", 'channel.open("allslots") channel.close("1C01,1E05") print(1)')
        return float(current) / 0.05

    first = start("--tcp", "--chip", str(file), "--seed", "3", "--bench-set", "readout.noise=false")
    assert first.said["chip"]["file"] == str(file)
    before_s = read(first)
    assert first.ask("keysight-33500b", TRAIN) == "1"
    assert first.ask("keysight-33500b", "*TRG;*OPC?") == "1"
    assert kept_pulses(file) == 7, "kept before the answer"
    after_s = read(first)
    assert after_s - before_s > 1e-8
    first.ask("keysight-33500b", "*TRG;*STB?")  # not waited for
    assert first.end()[0] == 0
    assert kept_pulses(file) == 14, "what was triggered comes to its end"
    second = start("--tcp", "--chip", str(file), "--bench-set", "readout.noise=false")
    assert read(second) > after_s
    assert second.end(signal.SIGINT) == (0, "", "")
    assert kept_pulses(file) == 14


def test_a_chip_is_served_once(start: Callable[..., Bench], tmp_path: Path) -> None:
    start("--chip", "chip.npz")
    again = subprocess.run(
        [sys.executable, "-m", "neurobench", "sim-bench", "--chip", "chip.npz"],
        cwd=tmp_path, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert again.returncode == 2
    assert "in use by" in again.stderr
    assert again.stdout == ""


def test_one_of_every_simulated_model(start: Callable[..., Bench]) -> None:
    bench = start("--tcp", "--all")
    rows = bench.said["instruments"]
    assert sorted(row["model"] for row in rows) == sorted(registry.find("sim_instruments"))
    for row in rows:
        assert bench.ask(row["model"], "*IDN?") == row["idn"]
    assert len({row["idn"] for row in rows}) == len({row["resource"] for row in rows}) == len(rows)
    serials = [word for row in rows for word in row["idn"].replace(" ", "").split(",") if word.startswith("NBSIM")]
    assert len(set(serials)) == len(rows)
    assert [row["bench"] for row in rows[:3]] == ["visa-sim"] * 3
    # an SMU on a bench of its own is on a cell: it reads at once
    current_a = bench.ask("keithley-2450", ":SENS:FUNC 'CURR';:SOUR:FUNC VOLT;:SOUR:VOLT 0.05;:OUTP 1;:READ?")
    assert 1e-9 < float(current_a) < 1e-6
    assert bench.end() == (0, "", "")


def test_both_ways_ports_in_a_row_and_instant_time(start: Callable[..., Bench]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = min(free.getsockname()[1], 60000)
    bench = start("--tcp", "--serial", "--instant", "--port-base", str(base + 1))
    assert bench.said["clock"] == "virtual"
    numbers = [int(row["resource"].split("::")[2]) for row in bench.said["instruments"]]
    assert numbers == [base + 1, base + 2, base + 3]
    assert all(row["serial_resource"].startswith("ASRL/dev/") for row in bench.said["instruments"])
    row = bench.said["instruments"][0]
    with serial.Serial(row["serial_resource"].removeprefix("ASRL").removesuffix("::INSTR"), timeout=5) as port:
        port.write(b"*IDN?\n")
        assert port.readline().decode().strip() == row["idn"]
    began_s = time.monotonic()
    bench.ask("keithley-2600b", "delay(100) print(1)")
    assert time.monotonic() - began_s < 5
    assert bench.end() == (0, "", "")


def test_what_is_wrong_is_said(neurobench: Callable[..., Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        said = neurobench("sim-bench", "--tcp", "--port-base", str(number))
        assert (said.code, said.out) == (2, "")
        assert f"port {number} on 127.0.0.1 cannot be used" in said.err
    said = neurobench("sim-bench", "--bench", "emulator")
    assert said.code == 2
    assert "backend = 'emulator'" in said.err
    said = neurobench("sim-bench", "--all", "--bench", "other.toml")
    assert said.code == 2
    assert "--all" in said.err
