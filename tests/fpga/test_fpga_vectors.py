"""The vectors themselves, and the host's reading of the page against them: complete frames, programs, registers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import vector_kit as kit
from vectors import CASES, LINES, REPLIES

from neurobench.bench import frames
from neurobench.bench.crossbar import Capabilities
from neurobench.bench.frames import LimitRegisters, Op, PulseTiming, ReadFrame, Request
from neurobench.bench.stimulus import Pulse, PulseBatch, shots

TIMING = PulseTiming(100, 60, kit.HALF)


def test_every_command_is_asked_in_every_state_that_the_page_names() -> None:
    """At least 60 cases; every op; every status that a board without a chip can give."""
    asked = {ask.op for case in CASES for step in case.steps for ask in step.sent if isinstance(ask, kit.Ask)}
    told = {(answer.op, answer.status) for case in CASES for step in case.steps for answer in step.answers}
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    assert asked >= set(Op)
    assert {status for _, status in told} == set(range(kit.CHIP))
    for op in Op:
        assert (op, kit.OK) in told, op
        assert (op, kit.MALFORMED) in told or op == Op.ECHO, "an ECHO is too long only beyond this board's max_body"
        assert (op, kit.WRONG_SESSION) in told or op in (Op.HELLO, Op.SPEED), op


@pytest.mark.parametrize(("op", "tag", "session", "payload", "line"), LINES)
def test_the_host_writes_the_frames_of_the_page(op: int, tag: int, session: int, payload: bytes, line: str) -> None:
    assert frames.encode(Request(Op(op), tag, session, payload)) == bytes.fromhex(line)


@pytest.mark.parametrize(("line", "op", "tag", "session", "status", "payload"), REPLIES)
def test_the_host_reads_the_replies_of_the_page(
    line: str, op: int, tag: int, session: int, status: int, payload: bytes
) -> None:
    assert frames.Deframer().feed(bytes.fromhex(line)) == [frames.Reply(op, tag, session, status, payload)]


def test_the_hosts_programs_are_those_of_the_vectors() -> None:
    counts = np.zeros((kit.ROWS, kit.COLS), np.int16)
    counts[0, 0], counts[2, [1, 4]] = 1, 1
    (n, program), = frames.pulse_programs(_shots(counts), TIMING, kit.PROGRAM_BYTES)  # fmt: skip
    assert (n, program) == (2, kit.pulses(kit.record(b"\x01\x48", lines=3)))
    counts = np.zeros((kit.ROWS, kit.COLS), np.int16)
    counts[1, 3] = -7
    (n, program), = frames.pulse_programs(_shots(counts), TIMING, kit.PROGRAM_BYTES)  # fmt: skip
    assert (n, program) == (1, kit.pulses(kit.record(b"\x08", sign=2, repeat=7, first=1)))


def _shots(counts: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> frames.Shots:
    return shots(PulseBatch(counts, Pulse(1.0, 1e-5)), Capabilities((kit.ROWS, kit.COLS)))


def test_the_hosts_waveforms_and_reads_are_those_of_the_vectors() -> None:
    samples = np.array([[10, 0, 0, -10], [0, 0, 0, 0]], np.int16)
    assert frames.waveform_program(480, [1, 0, 0], [2, 0, 0, 0, 0], samples) == kit.waves((10, 0, 0, -10), (0, 0, 0, 0))
    frame = ReadFrame(3, 2, 96, (0, 2, 0, 5), True)
    mask = np.array([[1, 0, 1, 0, 0], [1, 0, 0, 0, 1]], np.bool_)
    told = {"width": 3, "averages": 2, "region": (0, 2, 0, 5)}
    assert frames.cell_read(frame, 2500, mask) == kit.cells(2500, b"\x25\x02", 1, **told)
    assert frames.cell_read(frame, 2500, np.ones((2, 5), np.bool_)) == kit.cells(2500, b"", 9, **told)
    levels = np.array([[1, 2, 3, 4, -5]], np.int16)
    assert frames.vector_read(frame, levels, True, True) == kit.vectors(1, kit.i16(1, 2, 3, 4, -5), 7, **told)


def test_the_hosts_registers_and_status_are_those_of_the_vectors() -> None:
    registers = LimitRegisters(400, 400, 200, 5000, 100, 3_000_000, 20_000_000)
    assert registers.pack() == kit.limits()
    payload = kit.u8(2, 0, 3) + kit.u16(7, 8) + kit.u32(9) + kit.u16(10) + kit.u32(11, 12, 13, 14) + bytes(7) + b"\x01"
    found = frames.BoardStatus.unpack(payload)
    assert found == (2, 0, 3, 7, 8, 9, 10, 11, 12, 13, 14, 1 << 56)
    told = {"fired": 7, "acquired": 8, "shots": 9, "in_shot": 10, "started": 11, "done": 12, "good": 13, "bad": 14}
    assert kit.fits(kit.status(2, 0, 3, **told), payload)
    assert not kit.fits(kit.status(2, 0, 3, **{**told, "done": 11}), payload)


def test_the_kit_reads_an_identity_as_the_host_does() -> None:
    payload = bytes(range(1, 1 + frames.BoardIdentity.FORMAT.size))
    assert tuple(kit.Identity.of(payload)) == tuple(frames.BoardIdentity.unpack(payload))
