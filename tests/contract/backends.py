"""The benches that the contract suite runs over. A later backend adds itself to `BACKENDS`, and nothing else.

Each `open` makes a fresh bench with a fresh chip. `count` looks at the chip behind the bench's back: how many pulses
its cells really had; None where nobody can know (a real chip).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurobench.bench.config import load_bench
from neurobench.bench.crossbar import Crossbar
from neurobench.bench.limits import Limits
from neurobench.bench.stimulus import Pulse

# tests/fakes.py, also when only this folder is collected
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes import PULSE, FakeChip, FakeCrossbar, Loss

SHAPE = (3, 4)


@dataclass(frozen=True)
class Opened:
    """A bench on the table, and the look behind its back."""

    crossbar: Crossbar
    count: Callable[[], int] | None


@dataclass(frozen=True)
class Backend:
    """`pulse` moves the devices measurably within ten pulses, `read_v` reads them; `missing` says why it cannot run.

    `lone_v`: a voltage above half of `pulse` that moves none of the devices, for any time; 0 where nobody knows one.
    """

    name: str
    open: Callable[[], Opened]
    pulse: Pulse
    read_v: float = 0.1
    missing: str = ""
    lone_v: float = 0.0

    @property
    def limits(self) -> Limits:
        """Limits that admit `pulse` and `read_v`, and little more."""
        volts, width_s = self.pulse.amplitude_v, self.pulse.duration_s
        return Limits(max_cell_v=volts * 1.01, max_read_v=self.read_v, max_width_s=width_s)


def emulated(**overrides: Any) -> Callable[[], Opened]:
    """The emulator with a chip of `SHAPE`; `chip__model="x"` stands for chip.model = "x"."""

    def opened() -> Opened:
        from neurobench.drivers.emulator import Emulator, open_emulator

        said = {name.replace("__", "."): value for name, value in overrides.items()}
        config = load_bench("emulator", {"chip.rows": SHAPE[0], "chip.cols": SHAPE[1], **said})
        emulator, _ = open_emulator(config, 7)
        assert isinstance(emulator, Emulator)
        return Opened(emulator, lambda: int(emulator.chip.pulses.sum()))

    return opened


def simulated(parts: str, **overrides: Any) -> Callable[[], Opened]:
    """The VISA driver on simulated instruments: one of the combinations of `visa_bench.PARTS`."""

    def opened() -> Opened:
        from visa_bench import PARTS, open_simulated

        said = {name.replace("__", "."): value for name, value in overrides.items()}
        shape = {"chip.rows": SHAPE[0], "chip.cols": SHAPE[1]}
        bench = open_simulated({**shape, **PARTS[parts], **said})
        return Opened(bench.crossbar, bench.world.pulses_fired)

    return opened


def bridged(bad_line: bool = False, **overrides: Any) -> Callable[[], Opened]:
    """The FPGA driver on a simulated board. bad_line: of each fault 1 %, and memories that split programs and reads."""

    def opened() -> Opened:
        from fpga_bench import FAULTY, SMALL, open_simulated

        said = {name.replace("__", "."): value for name, value in overrides.items()}
        shape = {"chip.rows": SHAPE[0], "chip.cols": SHAPE[1]}
        bench = open_simulated({**shape, **({**FAULTY, **SMALL} if bad_line else {}), **said})
        return Opened(bench.crossbar, bench.board.pulses_fired)

    return opened


def fake(loss: float = 0.0, witness: bool = True) -> Callable[[], Opened]:
    """A fake that counts, behind a link that loses a share of commands and of replies."""

    def opened() -> Opened:
        chip = FakeChip(SHAPE)
        bench = FakeCrossbar(chip.serve, SHAPE, Loss(loss, loss, seed=3), witness)
        return Opened(bench, lambda: sum(pulses for _, pulses in chip.ledger))

    return opened


EMULATOR = importlib.util.find_spec("neurobench.drivers.emulator")
NO_EMULATOR = "" if EMULATOR else "neurobench.drivers.emulator cannot be imported"
MEASURED = Pulse(2.0, 1e-3)  # of the bundled spintronic device
NOMINAL = Pulse(1.0, 1e-6)  # of the idealized device
OVERLAP = Pulse(1.2, 1e-4)  # of the threshold-exponential device, whose threshold is 1 V

BACKENDS = [
    Backend("emulator", emulated(chip__model="lsmo-gaq3-mirror"), MEASURED, 0.05, NO_EMULATOR),
    Backend(
        "emulator, by column, potentiated by negative volts, seen through converters",
        emulated(
            chip__model="idealized", bench__parallelism="column", chip__potentiating_sign=-1, readout__offset_a=2e-9,
            readout__adc_bits=20, readout__adc_range_a=1e-5, readout__dac_bits=16, readout__dac_range_v=0.2,
        ),
        NOMINAL, 0.1, NO_EMULATOR,
    ),
    Backend(
        "emulator, cell by cell, without vector reads",
        emulated(chip__model="idealized", bench__parallelism="cell", bench__vector_reads=[], bench__biases=["half"]),
        NOMINAL, 0.1, NO_EMULATOR,
    ),
    Backend("visa-sim: 2600b, 33500b, 707b", simulated("2600b, 33500b, 707b", chip__model="lsmo-gaq3-mirror"),
            MEASURED, 0.05),
    Backend(
        "visa-sim: b2900, 33500b, 34980a, cell by cell",
        simulated("b2900, 33500b, 34980a", bench__parallelism="cell", chip__model="idealized"), NOMINAL, 0.1,
    ),
    Backend(
        "visa-sim: 2400 with a guard, 81160a, potentiated by negative volts",
        simulated("2400 with a guard, 81160a, 34980a", chip__model="idealized", chip__potentiating_sign=-1),
        NOMINAL, 0.1,
    ),
    Backend("fpga-sim", bridged(chip__model="lsmo-gaq3-mirror"), MEASURED, 0.05),
    Backend(
        "fpga-sim, by column, potentiated by negative volts",
        bridged(chip__model="idealized", bench__parallelism="column", chip__potentiating_sign=-1), NOMINAL, 0.1,
    ),
    Backend("fpga-sim over a bad line, with small memories", bridged(True, chip__model="idealized"), NOMINAL, 0.1),
    Backend(
        "emulator, a rate model with thresholds of its own in every cell, potentiated by negative volts",
        emulated(chip__model="threshold-exponential", chip__potentiating_sign=-1, chip__threshold_spread=0.02),
        OVERLAP, lone_v=0.8,
    ),
    Backend("visa-sim, a rate model", simulated("2600b, 33500b, 707b", chip__model="threshold-exponential"), OVERLAP,
            lone_v=0.8),
    Backend("fpga-sim, a rate model, by column",
            bridged(chip__model="threshold-exponential", bench__parallelism="column"),
            OVERLAP, lone_v=0.8),
    Backend("fake, perfect", fake(), PULSE),
    Backend("fake, lossy with a witness", fake(0.2), PULSE),
    Backend("fake, lossy without", fake(0.2, witness=False), PULSE),
]  # fmt: skip
