"""Where the parts of the gateware meet: streams of frame bodies, and the engine that drives the lines."""

from __future__ import annotations

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

# One byte of a frame body (header and payload, without the CRC); `last` marks the last byte of a body.
BODY_BYTE = data.StructLayout({"data": 8, "last": 1})
BODY = stream.Signature(BODY_BYTE)
BYTES = stream.Signature(8)


class EngineSignature(wiring.Signature):
    """The engine (sequencer, acquirer, chains to switches and converters) as the executor sees it; Out of the engine.

    Strobes last one tick. `fire`: execute the program of `length` bytes that was checked; the engine reads the program
    memory by program_addr, program_data follows one tick later. `acquire` likewise with the read memory; samples are
    written in order, 32 bits each. `rest`: see REST in docs/fpga-wire.md. `since`: ticks since the last good request.
    `ended` is a strobe when firing ends, in whatever way; `end` is then as STATUS has it. `clear`: a new session.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "fire": In(1),
                "length": In(16),
                "program_addr": Out(16),
                "program_data": In(8),
                "acquire": In(1),
                "read_length": In(16),
                "read_addr": Out(16),
                "read_data": In(8),
                "sample_addr": Out(16),
                "sample_data": Out(32),
                "sample_write": Out(1),
                "rest": In(1),
                "since": In(32),
                "watchdog": In(32),
                "clear": In(1),
                "firing": Out(1),  # a program is being executed; also while only its last pulse is on
                "stopping": Out(1),  # a last pulse is on
                "ended": Out(1),
                "end": Out(3),
                "shots": Out(32),
                "in_shot": Out(16),
                "started": Out(32),
                "done": Out(32),
                "acquiring": Out(1),
                "ready": Out(16),
                "over": Out(1),
                "stopped": Out(1),  # the acquisition, before its end
                "tripped": Out(1),  # the watchdog has stopped something since `clear`
                "pins": Out(PinsSignature()),
            }
        )


class PinsSignature(wiring.Signature):
    """The pins between the FPGA and the analogue part of the board; Out of the FPGA.

    Lines are counted word lines first, then bit lines. `gate` connects every line to what the switch chain says;
    while it is low every line is grounded, whatever the chains hold: a pulse is `gate`, and nothing else is.
    switch_*: shift register, 2 bits a line (0 ground, 1 level A, 2 level B, 3 ammeter; in a read 1 its own read level),
    taken over by a rising switch_latch. dac_*: chain of converters, 16 bits a word, word 0 to 3 the buses row A, row B,
    column A, column B, then one read level for each line; all take over by a falling dac_sync. adc_*: one converter a
    line, `adc_bits` a word, begun by a rising adc_convert. `float_idle`: grounded lines of a read float instead.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "gate": Out(1),
                "reading": Out(1),  # level A is the line's own read level
                "float_idle": Out(1),
                "switch_clk": Out(1),
                "switch_data": Out(1),
                "switch_latch": Out(1),
                "dac_clk": Out(1),
                "dac_data": Out(1),
                "dac_sync": Out(1),
                "adc_convert": Out(1),
                "adc_clk": Out(1),
                "adc_data": In(1),
            }
        )
