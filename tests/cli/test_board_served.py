"""`neurobench sim-bench --bench fpga-sim`: the driver of real boards finds it, fires once, and the chip is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from neurobench.sim_instruments.benches.served import serve

from neurobench.bench.config import load_bench
from neurobench.physics.chip import load_chip
from neurobench.physics.library import load_model
from neurobench.physics.reading import Reader
from neurobench.physics.stress import Stress

LAB = """
[bench]
name = "lab"
backend = "fpga"
parallelism = "row"
biases = ["half", "third"]
vector_reads = ["rows_to_cols", "cols_to_rows"]
[chip]
id = "emulated-3"
model = "lsmo-gaq3"
potentiating_sign = 1
top_electrode = "row"
accept_no_compliance = true
[limits]
max_cell_v = 5.5
max_read_v = 0.5
min_width_s = 1e-7
max_width_s = 0.2
max_batch_s = 3600.0
[board]
url = "{url}"
"""


class Served:
    """A running `neurobench sim-bench`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "neurobench", "sim-bench", "--bench", "fpga-sim", "--seed", "3", *arguments],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=20)[1]
        self.said: dict[str, Any] = json.loads(line)

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, the rest of stdout, stderr."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def begin(*arguments: str) -> Served:
        running.append(Served(tmp_path, *arguments))
        return running[-1]

    yield begin
    for served in running:
        served.end()


def test_it_announces_where_the_board_is_and_the_driver_of_real_boards_finds_it_both_ways(
    start: Callable[..., Served], neurobench: Callable[..., Any]
) -> None:
    served = start("--tcp", "--serial")
    said = served.said
    assert (said["bench"], said["clock"]) == ("fpga-sim", "wall")
    assert said["chip"] == {"id": "emulated-3", "rows": 4, "cols": 4, "file": None}
    assert said["url"].startswith("socket://127.0.0.1:")
    assert said["serial_url"].startswith("/dev/")
    for url in (said["url"], said["serial_url"]):
        Path("lab.toml").write_text(LAB.format(url=url), encoding="utf-8")
        found = neurobench("check", "lab.toml", "--json")
        assert found.code == 0, found.err
        assert (found.data["backend"], found.data["simulated"], found.data["at_rest"]) == ("fpga", True, True)
        assert 3e-7 < found.data["reference"]["conductance_s"] < 7e-7
    assert served.end() == (0, "", "")


def test_what_another_program_fires_is_on_the_chip_once_and_in_its_file(
    start: Callable[..., Served], neurobench: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "chip.npz"
    served = start("--chip", str(file), "--instant", "--bench-set", "board.simulation.lost=0.02")
    assert served.said["clock"] == "virtual"
    assert served.said["chip"]["file"] == str(file)
    Path("lab.toml").write_text(LAB.format(url=served.said["url"]), encoding="utf-8")
    ran = neurobench("run", "manhattan", "--bench", "lab.toml", "--json")
    assert ran.code == 0, ran.err
    wanted = sum(map(sum, ran.data["result"]["pulses"]))
    assert wanted > 0
    chip = load_chip(file, load_model("lsmo-gaq3"))
    assert int(chip.pulses.sum()) == wanted, "in the file while the server still runs"
    assert served.end(signal.SIGINT) == (0, "", "")
    assert int(load_chip(file, load_model("lsmo-gaq3")).pulses.sum()) == wanted


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_what_reads_and_pulses_is_loaded_before_the_first_client_asks(
    monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    """Else the first ACQUIRE takes longer than a client waits by its own clock, on a busy computer or a new one."""
    done: list[str] = []
    for kind, name in ((Reader, "sense"), (Stress, "expose")):
        monkeypatch.setattr(kind, name, lambda *_given, name=name: done.append(name))
    served = serve([load_bench("fpga-sim", {"board.simulation.clock": clock})], seed=3, tcp=True)
    served.close()
    assert set(done) == {"sense", "expose"}


def test_only_a_pseudo_terminal_is_announced_as_the_url(start: Callable[..., Served]) -> None:
    said = start("--serial").said
    assert Path(said["url"]).exists()
    assert "serial_url" not in said


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at the time that a process has used")
def test_nobody_there_costs_next_to_nothing(start: Callable[..., Served]) -> None:
    served = start()
    ticks_per_s = os.sysconf("SC_CLK_TCK")

    def used_s() -> float:
        fields = Path(f"/proc/{served.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / ticks_per_s

    time.sleep(0.5)
    before_s = used_s()
    time.sleep(1.0)
    assert used_s() - before_s < 0.2


def test_what_is_wrong_is_said(neurobench: Callable[..., Any]) -> None:
    said = neurobench("sim-bench", "--bench", "fpga-sim", "--bench-set", "readout.adc_bits=0")
    assert (said.code, said.out) == (2, "")
    assert "adc_bits = 0" in said.err
    said = neurobench("sim-bench", "--bench", "fpga-sim", "--all")
    assert said.code == 2
    assert "--all" in said.err
