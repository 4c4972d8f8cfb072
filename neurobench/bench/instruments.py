"""[instruments] of a bench file: which instruments there are, and how they are wired to the chip.

One description serves both ends of the cable: the driver, which needs to know what it talks to, and the simulated
bench, which has to be wired as the file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Role = Literal["smu", "pulse", "matrix"]
ROLES: tuple[Role, ...] = ("smu", "pulse", "matrix")
NONE = "none"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class InstrumentSection(_Section):
    """One instrument in its role."""

    model: str = Field(description="a name of `neurobench list instruments`; `none`: nothing in this role")
    resource: str = Field(default="", description="VISA resource string; empty: given by the simulated bench")
    serial: str = Field(default="", description="serial number that the instrument must answer; empty: any")
    channels: tuple[int, ...] = Field(default=(), description="channels in use, in order; empty: all of the model's")
    slots: tuple[int, ...] = Field(default=(), description="slots of a matrix mainframe that hold its cards, in order")
    description: str = Field(default="", description="TOML file that describes a generic SCPI instrument")
    timeout_s: float = Field(default=2.0, gt=0, le=600, description="how long an answer may take, in seconds")
    max_v: float | None = Field(default=None, gt=0, description="largest |V| of an output; default: the model's")
    options: dict[str, Any] = Field(default_factory=dict, description="settings that only this model has")


class Wiring(_Section):
    """Which row of the matrix each terminal is on (1 is row A), and which column each line of the chip.

    Terminals: `smu` is the channel that drives word lines in a read; `meter` the channel at 0 V that measures a bit
    line; `guard` the guard of a one-channel SMU; `pulse_row` and `pulse_col` the generator's channels for word and
    bit lines; `ground` the common ground. 0: not wired. Word lines take matrix columns 1 .. rows, bit lines the next
    ones, unless listed.
    """

    smu: int = Field(default=0, ge=0, description="matrix row of the SMU's (first) channel")
    meter: int = Field(default=0, ge=0, description="matrix row of the SMU's second channel")
    guard: int = Field(default=0, ge=0, description="matrix row of the guard of a one-channel SMU")
    pulse_row: int = Field(default=0, ge=0, description="matrix row of the generator's (first) channel")
    pulse_col: int = Field(default=0, ge=0, description="matrix row of the generator's second channel")
    ground: int = Field(default=0, ge=0, description="matrix row of the common ground")
    word_lines: tuple[int, ...] = Field(default=(), description="matrix column of each word line")
    bit_lines: tuple[int, ...] = Field(default=(), description="matrix column of each bit line")
    cable_f: float = Field(default=1e-10, ge=0, description="capacitance of one cable, in farad (for the simulation)")

    @model_validator(mode="after")
    def _each_place_once(self) -> Wiring:
        rows = [row for row in (self.smu, self.meter, self.guard, self.pulse_row, self.pulse_col, self.ground) if row]
        columns = [*self.word_lines, *self.bit_lines]
        for places, what in ((rows, "terminals on one matrix row"), (columns, "lines on one matrix column")):
            twice = sorted({place for place in places if places.count(place) > 1})
            if twice:
                raise ValueError(f"two {what}: {', '.join(map(str, twice))}")
        if any(column < 1 for column in columns):
            raise ValueError("matrix columns are counted from 1")
        return self

    def rows_of(self, n: int) -> tuple[int, ...]:
        """Matrix column of each of n word lines."""
        return self.word_lines or tuple(range(1, n + 1))

    def cols_of(self, rows: int, cols: int) -> tuple[int, ...]:
        """Matrix column of each of `cols` bit lines."""
        return self.bit_lines or tuple(range(rows + 1, rows + cols + 1))

    def misfit(self, rows: int, cols: int, columns: int) -> str:
        """Why a chip of rows x cols lines is not wired to a matrix of so many `columns`; empty: it is."""
        last = max(*self.rows_of(rows), *self.cols_of(rows, cols))
        if last <= columns:
            return ""
        return (
            f"an array of {rows} x {cols} (rows x columns) is asked for ([chip] rows, cols; where they are not said, "
            f"the size of the protocol's task) and wired up to matrix column {last}; the matrix has {columns} "
            "([instruments.matrix] slots: its cards). Run a smaller task (--set those parameters of the protocol that "
            "say its size, as inputs, neurons or pixels), say a smaller [chip], or name more cards"
        )


class Simulation(_Section):
    """How simulated instruments behave; a real bench has no such section, and its driver does not see it."""

    round_trip_s: float = Field(default=0.0, ge=0, description="time from a query to its answer, in seconds")
    clock: Literal["virtual", "wall"] = Field(default="virtual", description="virtual: simulated time does not wait")
    instrument_noise: bool = Field(default=True, description="noise of the instruments by their data sheets")


class Instruments(_Section):
    """All instruments of a bench by their role. None in a role, or `model = "none"`: the bench has none."""

    smu: InstrumentSection | None = Field(default=None, description="what reads cells, and may pulse them")
    pulse: InstrumentSection | None = Field(default=None, description="pulse generator; without one the SMU pulses")
    matrix: InstrumentSection | None = Field(
        default=None, description="switch matrix; without one a single probed cell"
    )
    wiring: Wiring = Field(default=Wiring(), description="what is connected to which row and column of the matrix")
    library: str = Field(default="", description="pyvisa library, such as @py; empty: pyvisa's choice")
    read_range_a: float | None = Field(
        default=None, gt=0, description="current range of reads, in amperes; default: the smallest that fits the device"
    )
    settle_s: float | None = Field(
        default=None, ge=0, description="time between a level and its measurement, in seconds; default: the SMU's own"
    )
    reference_cell: tuple[int, int] = Field(
        default=(0, 0), description="row and column of the cell that `neurobench check` reads"
    )
    reference_s: float | None = Field(
        default=None, gt=0, description="its conductance in siemens, where a resistor is in its place; checked to 5 %"
    )
    simulation: Simulation = Field(default=Simulation(), description="only for simulated instruments")

    @field_validator(*ROLES, mode="before")
    @classmethod
    def _none_is_none(cls, given: Any) -> Any:
        """A file cannot say that a simulated bench has no generator in any other way: TOML has no null."""
        return None if isinstance(given, Mapping) and given.get("model") == NONE else given

    def by_role(self) -> dict[Role, InstrumentSection]:
        """The instruments that there are."""
        found: dict[Role, InstrumentSection] = {}
        for role in ROLES:
            section: InstrumentSection | None = getattr(self, role)
            if section is not None:
                found[role] = section
        return found
