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
    before = processor_s()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return processor_s() - before


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
    """Seconds per chip on two cores, in processor time: without preflight, preflight alone; and by the clock.

    The processor time holds the start of the workers too; the preflight's share of it is that of the clock.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = sweep.create(Request("manhattan"), range(chips), Path(folder))
        before, began = processor_s(), time.perf_counter()
        summary = sweep.summary(sweep.run(path, 2))
        clock_s, cpu_s = time.perf_counter() - began, processor_s() - before
    cost = summary["cost_per_chip"]
    share = cost["preflight_s"]["mean"] / cost["wall_s"]["mean"]
    return {
        "rate": summary["convergence_rate"],
        "chip_s": (1 - share) * cpu_s / chips / 2,
        "preflight_s": share * cpu_s / chips / 2,
        "clock_s": clock_s / chips,
    }


def processor_s() -> float:
    """Processor time of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


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
