"""What form, iv-sweep and measure-curve share: which cells, how one is pulsed and read, and when one is let alone."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeVar

import numpy as np
from pydantic import Field

from neurobench.bench.crossbar import Applied, Reading
from neurobench.bench.steps import Apply, BenchView, Checkpoint, Protocol, Sense, Step
from neurobench.bench.stimulus import Bias, BoolArray, CellRead, FloatArray, Pulse, PulseBatch
from neurobench.errors import Refused, UsageError
from neurobench.learning.bias import Select, choose_bias

T = TypeVar("T")
Cell = tuple[int, int]
DirectionName = Literal["potentiate", "depress"]
SIGNS: Mapping[str, int] = {"potentiate": 1, "depress": -1}
MOVED_SIGMA = 3.0  # a device that has moved by less has not moved (bench rule 18)


class Characterisation(Protocol):
    """Parameters that every characterisation has: which cells, and how they are read."""

    cells: tuple[Cell, ...] = Field((), description="cells as [[row, column], ...]; none: `devices` of them are chosen")
    devices: int = Field(
        1, ge=1, le=1_000_000, description="how many cells, spread over the array, where none is named"
    )
    read_v: float | None = Field(
        None, gt=0, description="read voltage, in volts; none: that of the device's own record, else 0.1"
    )
    delay_s: float = Field(0.0, ge=0, le=3600, description="time from a pulse to its read, in seconds")
    integration_s: float = Field(1e-3, gt=0, description="time of one read, in seconds")
    averages: int = Field(1, ge=1, le=1_000_000, description="reads that the instrument averages in each")
    select: Select = Field(
        "auto", description="bias of unselected lines while writing; auto: the safest that the bench has"
    )

    @property
    def chosen_biases(self) -> frozenset[Bias]:
        """What `needs` asks of the bench."""
        return frozenset() if self.select == "auto" else frozenset({Bias(self.select)})

    def admit(self, view: BenchView) -> None:
        """Refuse cells that are not there or that the passport calls dead."""
        usable_cells(view, self.cells, self.devices)


def usable_cells(view: BenchView, cells: tuple[Cell, ...], devices: int) -> list[Cell]:
    """The cells named, or `devices` of those that may be pulsed, evenly spread over the array (row-major order).

    Raises UsageError for a cell that the array does not have, or named twice, Refused for one that may not be pulsed.
    """
    rows, cols = view.shape
    for cell in cells:
        if not (0 <= cell[0] < rows and 0 <= cell[1] < cols):
            raise UsageError(f"cell {cell} is not on an array of {rows} x {cols} (--set cells, counted from 0)")
        if view.excluded[cell]:
            raise Refused(f"cell {cell} is stuck, shorted or retired in the chip's passport: leave it out of cells")
    if len(set(cells)) != len(cells):
        raise UsageError(f"cells = {list(cells)}: each cell is named once")
    if cells:
        return list(cells)
    free = np.argwhere(~view.excluded)
    if not len(free):
        raise Refused("every cell of this chip is stuck, shorted or retired in its passport")
    wanted = np.unique(np.linspace(0, len(free) - 1, min(devices, len(free))).round().astype(int))
    return [(int(row), int(col)) for row, col in free[wanted]]


@dataclass(frozen=True, slots=True)
class Probe:
    """One cell at the end of the wires: pulses it, reads it, and knows how. Made once for a run."""

    view: BenchView
    read_v: float
    delay_s: float
    integration_s: float
    averages: int
    bias: Bias

    @classmethod
    def of(cls, p: Characterisation, view: BenchView) -> Self:
        """As the parameters say; the read voltage of the device where none is given, within the limits."""
        known = view.device.read_voltage_v
        read_v = p.read_v or min(known if known > 0 else 0.1, view.limits.max_read_v)
        return cls(view, read_v, p.delay_s, p.integration_s, p.averages, choose_bias(p.select, view))

    @property
    def both(self) -> bool:
        """Whether reads are done at both polarities (bench rule 5)."""
        return self.view.capabilities.both_polarities

    def measures(self, pulse: Pulse) -> bool:
        """Whether the bench can measure the current in such a pulse: an SMU does long ones only."""
        one = PulseBatch(np.ones(self.view.shape, np.int8), pulse, self.bias, True)
        return self.view.capabilities.refusal(one) is None

    def mask(self, cell: Cell) -> BoolArray:
        """One cell out of the array [rows, cols]."""
        mask = np.zeros(self.view.shape, np.bool_)
        mask[cell] = True
        return mask

    def pulse(self, cell: Cell, sign: int, pulse: Pulse, measure: bool) -> Generator[Step, Any, Shot]:
        """One pulse on one cell, potentiating (+1) or depressing (-1)."""
        counts = np.zeros(self.view.shape, np.int8)
        counts[cell] = sign
        applied: Applied = yield Apply(PulseBatch(counts, pulse, self.bias, measure))
        current_a = float("nan") if applied.currents_a is None else float(applied.currents_a[0])
        return Shot(current_a, applied.compliance_hit, applied.end_s)

    def read(self, cell: Cell, delay_s: float | None = None) -> Generator[Step, Any, Look]:
        """Read one cell at the read voltage; without `delay_s` after the run's own delay."""
        wait_s = self.delay_s if delay_s is None else delay_s
        read = CellRead(self.mask(cell), self.read_v, self.both, wait_s, self.integration_s, self.averages)
        reading: Reading = yield Sense(read)
        conductance_s = float(reading.signed_a()[0]) / self.read_v
        return Look(conductance_s, reading.sigma_a / self.read_v, reading.start_s, "over_range" in reading.flags)

    def current(self, cell: Cell, signed_v: float) -> Generator[Step, Any, float]:
        """Current in amperes at a small voltage of one polarity (V_row - V_col), without a pulse."""
        read = CellRead(self.mask(cell), signed_v, False, 0.0, self.integration_s, self.averages)
        reading: Reading = yield Sense(read)
        return float(reading.currents_a[0, 0])

    def volts(self, sign: int, amplitude_v: float) -> float:
        """V_row - V_col of a pulse that potentiates (+1) or depresses (-1)."""
        return sign * self.view.capabilities.potentiating_sign * amplitude_v


@dataclass(frozen=True, slots=True)
class Shot:
    """What one pulse gave: magnitude of its current in amperes (nan: not measured), compliance, and when it ended."""

    current_a: float
    compliance_hit: bool
    end_s: float


@dataclass(frozen=True, slots=True)
class Look:
    """What one read gave: conductance and its declared sigma in siemens (nan: not known), and when it began."""

    conductance_s: float
    sigma_s: float
    start_s: float
    over_range: bool


def pulse_of(view: BenchView, sign: int, amplitude_v: float | None, width_s: float | None, name: str) -> Pulse:
    """The pulse asked for; what was not said is as the device is known. UsageError where nobody knows."""
    known = view.device.pulse if sign > 0 else view.device.depress_pulse or view.device.pulse
    volts, width = amplitude_v or (known and known.amplitude_v), width_s or (known and known.width_s)
    if not (volts and width):
        missing = " and ".join(k for k, v in ((f"{name}_v", volts), (f"{name}_width_s", width)) if not v)
        raise UsageError(f"nothing is known of this chip's pulses: say {missing} (--set {missing.split()[0]}=...)")
    return Pulse(volts, width)


def padded(rows: list[FloatArray]) -> FloatArray:
    """Rows of different length as one array [rows, longest], nan where a row has ended."""
    table: FloatArray = np.full((len(rows), max([len(row) for row in rows], default=0)), np.nan)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


class Progress:
    """Base of what a checkpoint holds: a dataclass of numbers, texts, lists, dicts and arrays."""

    def checkpoint(self) -> Checkpoint:
        """A copy that later work does not change."""
        return Checkpoint({one.name: deepcopy(getattr(self, one.name)) for one in fields(self)})  # type: ignore[arg-type]

    @classmethod
    def back(cls, state: Mapping[str, Any]) -> Self:
        """What `checkpoint` gave, as a state that may be worked on."""
        return cls(**{name: deepcopy(value) for name, value in state.items()})


def counted(steps: Generator[Step, Any, T]) -> Generator[Step, Any, tuple[T, int]]:
    """What `steps` return, and how many pulses they fired."""
    pulses, answer = 0, None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value, pulses
        answer = yield step
        pulses += answer.pulses if isinstance(step, Apply) else 0


def due(done: int) -> bool:
    """Whether a checkpoint is due after so many parts of a run.

    A checkpoint holds all that was measured so far: always the same distance would cost with the square of the run.
    """
    return done % (1 << max((done // 16).bit_length() - 1, 0)) == 0
