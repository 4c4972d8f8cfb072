"""The numbers of docs/fpga-wire.md as the gateware reads them; host and simulated board have their own."""

from __future__ import annotations

import struct
from enum import IntEnum

from .hardware import Hardware

BASE_BAUD = 115_200
REPLY = 0x80
MAX_ECHO = 512
HEADER_BYTES = 7  # of a request
REPLY_BYTES = 8  # header of a reply
CRC_BYTES = 4
FETCH_OVERHEAD = 19  # bytes of a FETCH reply's body that are no samples
LIMIT_BYTES = 20
STATUS_BYTES = 37
IDENTITY = struct.Struct("<6BQHHIIHHHHHHHIII4d")
MIN_GAP_AT = 40  # where the identity tells it
MIN_PERIOD_AT = 44


class Op(IntEnum):
    """What a request asks for."""

    HELLO = 0x01
    STATUS = 0x02
    LIMITS = 0x03
    SPEED = 0x04
    REST = 0x05
    ECHO = 0x06
    UPLOAD = 0x10
    ARM = 0x11
    FIRE = 0x12
    FENCE = 0x13
    ACQUIRE = 0x20
    FETCH = 0x21


class Status(IntEnum):
    """How a request was taken. The gateware never answers CHIP: only a simulated board can."""

    OK = 0x00
    WRONG_SESSION = 0x01
    WRONG_NUMBER = 0x02
    TAKEN = 0x03
    RUNNING = 0x04
    BUSY = 0x05
    NOT_ARMED = 0x06
    MALFORMED = 0x07
    BAD_CRC = 0x08
    LIMIT = 0x09
    NO_ROOM = 0x0A
    UNKNOWN_OP = 0x0B


class Limit(IntEnum):
    """Index of a limit register."""

    MAX_LINE = 0
    MAX_CELL = 1
    MAX_VICTIM = 2
    MAX_READ = 3
    MIN_WIDTH = 4
    MAX_WIDTH = 5
    WATCHDOG = 6


class State(IntEnum):
    """What the sequencer does."""

    IDLE = 0
    ARMED = 1
    FIRING = 2
    STOPPING = 3


def identity(hardware: Hardware) -> bytes:
    """The reply to HELLO. This gateware reads both ways, plays waveforms and lets idle lines float."""
    h = hardware
    sizes = (h.program_bytes, h.read_bytes, h.samples, h.rx_bytes, h.max_body)
    steps = (h.pulse_step_v, h.read_step_v, h.adc_step_a, h.source_ohm)
    lines = (h.serial, h.rows, h.cols, h.clock_hz, h.max_baud)
    ticks = (h.min_gap, h.min_period, h.settle)
    flags = 0b11110 | h.simulated
    return IDENTITY.pack(1, flags, *h.firmware, h.adc_bits, *lines, *sizes, h.pulse_max, h.read_max, *ticks, *steps)
