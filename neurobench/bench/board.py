"""[board] of a bench file: the FPGA board, how it is reached, and for a simulated one how it behaves."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class BoardSimulation(_Section):
    """How a simulated board behaves; a real one has no such section, and its driver does not see it.

    Its current converter and the voltage converter of its reads are those of [readout]. Faults are shares of frames,
    each way, drawn from `fault_seed`.
    """

    clock: Literal["virtual", "wall"] = Field(default="virtual", description="virtual: simulated time does not wait")
    latency_s: float = Field(default=1e-5, ge=0, le=1, description="delay of the link each way, in seconds")
    clock_hz: int = Field(default=48_000_000, ge=1_000_000, le=400_000_000, description="clock of the board, in hertz")
    max_baud: int = Field(default=12_000_000, ge=115_200, description="fastest speed of its line, in baud")
    pulse_bits: int = Field(default=16, ge=8, le=16, description="resolution of the converter of pulse levels")
    pulse_range_v: float = Field(default=8.19175, gt=0, description="its full scale (one side), in volts")
    program_bytes: int = Field(default=16384, ge=256, le=65535, description="memory for pulse programs, in bytes")
    read_bytes: int = Field(default=1024, ge=64, le=65535, description="longest read program, in bytes")
    samples: int = Field(default=16384, ge=64, le=65535, description="memory for samples")
    rx_bytes: int = Field(default=4096, ge=1024, le=65535, description="memory for requests that wait, in bytes")
    max_body: int = Field(default=1536, ge=256, le=4096, description="longest frame, in bytes")
    settle_s: float = Field(default=5e-6, ge=0, description="wait from a read level to its conversion, in seconds")
    settle_tau_s: float = Field(default=1e-7, ge=0, description="time constant with which a level settles, in seconds")
    pulse_gain_spread: float = Field(default=0.0, ge=0, le=0.1, description="mismatch of pulse levels between lines")
    read_gain_spread: float = Field(default=0.0, ge=0, le=0.1, description="mismatch of read levels between lines")
    adc_gain_spread: float = Field(default=0.0, ge=0, le=0.1, description="mismatch of current converters, relative")
    adc_offset_a: float = Field(default=0.0, ge=0, description="spread of the current converters' zeros, in amperes")
    lost: float = Field(default=0.0, ge=0, le=0.9, description="share of frames that never arrive")
    corrupted: float = Field(default=0.0, ge=0, le=0.9, description="share of frames of which bytes are changed")
    duplicated: float = Field(default=0.0, ge=0, le=0.9, description="share of frames that arrive twice")
    delayed: float = Field(default=0.0, ge=0, le=0.9, description="share of frames that arrive late")
    delay_s: float = Field(default=0.02, ge=0, le=10, description="how late, in seconds")
    fault_seed: int = Field(default=0, ge=0, description="seed of the faults")

    @model_validator(mode="after")
    def _one_fault_per_frame(self) -> BoardSimulation:
        if self.lost + self.corrupted + self.duplicated + self.delayed > 1:
            raise ValueError("lost + corrupted + duplicated + delayed is more than 1: a frame has one fault")
        return self


class Board(_Section):
    """The board of a bench."""

    url: str = Field(
        default="", description="port as pyserial opens it: /dev/ttyUSB1, COM5, socket://host:port; simulated: empty"
    )
    serial: str = Field(default="", description="serial number that the board must have; empty: any")
    baud: int = Field(default=1_000_000, ge=9600, le=12_000_000, description="speed to be agreed on, in baud")
    timeout_s: float = Field(default=0.05, gt=0, le=10, description="how long an answer may take beyond its own bytes")
    retries: int = Field(default=8, ge=1, le=100, description="how often a request is repeated before the link is lost")
    watchdog_s: float = Field(
        default=0.5, ge=0.01, le=60, description="after so long a silence of the host the board grounds its lines"
    )
    gap_s: float = Field(default=1e-6, ge=0, le=1, description="time between two pulses, in seconds")
    simulation: BoardSimulation = Field(default=BoardSimulation(), description="only for simulated boards")
