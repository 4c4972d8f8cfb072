"""What one build of the gateware has: sizes, clock and converters. All of it is told to the host by HELLO."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hardware:
    """One board. Times in ticks of its clock; sizes in bytes, `samples` in samples. See docs/fpga-wire.md, Identity.

    `grace`: how long a pulse may go on after REST (20 ms). `switch_div`, `dac_div`, `adc_div`: ticks of half a clock of
    the serial chains to switches and converters. `convert`: ticks from the start of a conversion to its data.
    """

    rows: int = 16
    cols: int = 16
    clock_hz: int = 48_000_000
    max_baud: int = 12_000_000
    serial: int = 1
    firmware: tuple[int, int, int] = (1, 0, 0)
    adc_bits: int = 24
    program_bytes: int = 4096
    read_bytes: int = 1024
    samples: int = 1024
    rx_bytes: int = 2048
    max_body: int = 1536
    pulse_max: int = 32767
    read_max: int = 32767
    min_gap: int = 48
    min_period: int = 480
    settle: int = 240
    grace: int = 960_000
    switch_div: int = 1
    dac_div: int = 1
    adc_div: int = 1
    convert: int = 96
    pulse_step_v: float = 2.5e-4
    read_step_v: float = 2e-5
    adc_step_a: float = 1e-5 / (2**23 - 1)
    source_ohm: float = 0.0
    simulated: bool = False
