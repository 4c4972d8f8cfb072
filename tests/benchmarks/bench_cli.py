"""How fast the command line starts, and what a chip of a sweep costs: `make bench`, or run this file.

Bars: `neurobench --help` within 1.5 times a bare typer application of as many commands; a sweep within 2 ms a chip on
two cores, pool warm, the preflight reported apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pytest
import typer

from neurobench import cli
from neurobench.runs import sweep
from neurobench.runs.request import Request

STARTS = 15
CHIPS = 10_000
HELP_BAR = 1.5
CHIP_BAR_S = 2e-3


def bare(commands: int) -> str:
    """Source of a typer application of so many commands that does nothing."""
    lines = ["import typer", "app = typer.Typer()"]
    for n in range(commands):
        lines += [f"@app.command()\ndef c{n}(a: str, b: int = 3, c: bool = False) -> None:", f'    "Command {n}."']
    return "\n".join([*lines, "app()"])


def seconds(*command: str) -> float:
    """Processor time of one start, in seconds: other programs on the machine do not count."""
    before = os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def help_ratio() -> tuple[float, float]:
    """Median seconds of our help and of the bare one, measured in turn."""
    group = typer.main.get_command(cli.app)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(bare(len(group.commands)))  # type: ignore[attr-defined]
        ours, theirs = (sys.executable, "-m", "neurobench", "--help"), (sys.executable, str(script), "--help")
        times = [(seconds(*ours), seconds(*theirs)) for _ in range(STARTS + 1)][1:]
    return median(t for t, _ in times), median(t for _, t in times)


def sweep_cost(chips: int = CHIPS) -> dict[str, float]:
    """Seconds per chip on two cores: all, without preflight, and by the clock on the wall, pool warm."""
    with tempfile.TemporaryDirectory() as folder:
        path = sweep.create(Request("manhattan"), range(chips), Path(folder))
        first: list[tuple[float, int]] = []

        def watch(done: int, _reached: int) -> None:
            first.append((time.perf_counter(), done))

        found = sweep.run(path, 2, watch)
    (began, warm), (ended, done) = first[len(first) // 20], first[-1]
    summary = sweep.summary(found)
    preflight_s = summary["cost_per_chip"]["preflight_s"]["mean"]
    wall_s = summary["cost_per_chip"]["wall_s"]["mean"]
    return {
        "rate": summary["convergence_rate"],
        "chip_s": (wall_s - preflight_s) / 2,
        "preflight_s": preflight_s / 2,
        "clock_s": (ended - began) / (done - warm),
    }


def test_help_starts_as_a_bare_application_does() -> None:
    ours, theirs = help_ratio()
    sys.stdout.write(
        f"\nhelp {ours * 1e3:.0f} ms, bare typer {theirs * 1e3:.0f} ms, ratio {ours / theirs:.2f} (bar 1.5)\n"
    )
    assert ours <= HELP_BAR * theirs


@pytest.mark.timeout(1800)
def test_a_chip_of_a_sweep() -> None:
    cost = sweep_cost()
    said = ", ".join(f"{name} {value * 1e3:.2f} ms" for name, value in cost.items() if name != "rate")
    sys.stdout.write(f"\n{CHIPS} chips on two cores, per chip: {said} (bar 2 ms); rate {cost['rate']:.4f}\n")
    assert cost["chip_s"] <= CHIP_BAR_S


if __name__ == "__main__":
    test_help_starts_as_a_bare_application_does()
    test_a_chip_of_a_sweep()
