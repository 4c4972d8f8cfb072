"""From a bench file to an FPGA board that has said who it is: port, lock, simulation, self-test."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from neurobench.bench import frames
from neurobench.bench.frames import Fetch, LimitRegisters, Op, Samples, Status
from neurobench.errors import ConfigError, InstrumentError, InUse, LinkLost, NeurobenchError
from neurobench.system import Lock

from ._fpga_link import Asked, Link, open_serial, words
from ._visa_open import RealClock, lock_path, span_of

if TYPE_CHECKING:
    from neurobench.bench.config import BenchConfig
    from neurobench.bench.crossbar import Crossbar
    from neurobench.bench.steps import DeviceSpan

    from .fpga import FpgaCrossbar
    from .instruments._roles import Clock

ECHOES, ECHO_BYTES = 64, 64
SELF_TEST_WATCHDOG_S = 0.1
ZERO_STEPS = 16  # how far from 0 a converter may be with all lines grounded, beside its range's 1e-3
ZERO_RANGE = 1e-3
ADC_S = 1e-4
CONVERTS_S = 1.0


class Simulation(Protocol):
    """A simulated board, as the registry finds it."""

    url: str
    clock: Clock
    chip_id: str

    def harm(self) -> list[str]:
        """What has hurt its chip."""

    def close(self) -> None:
        """Put the chip back into its drawer."""


class RealBoard:
    """A board at a port of this computer."""

    chip_id = ""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock: Clock = RealClock()

    def harm(self) -> list[str]:
        """A real chip does not say what hurt it."""
        return []

    def close(self) -> None:
        """Nothing of its own to let go of."""


Make = Callable[..., "FpgaCrossbar"]
Simulate = Callable[["BenchConfig", int], Simulation]


class FpgaDriver:
    """The driver of one kind of FPGA bench: opens it, examines it, finds ports."""

    def __init__(self, name: str, make: Make, simulate: Simulate | None = None) -> None:
        self.name = name
        self._make, self._simulate = make, simulate

    def __call__(self, config: BenchConfig, seed: int) -> tuple[Crossbar, DeviceSpan]:
        """Find the board, bring it to rest. Raises ConfigError, LinkLost, InstrumentError, InUse; nothing was fired."""
        closing = contextlib.ExitStack()
        try:
            board, link = self._linked(config, seed, closing)
            link.connect()
            span = span_of(config)
            crossbar = self._make(link, config, span, self.name, board.harm, closing.close, board.chip_id)
            crossbar.rest()
        except BaseException:
            closing.close()
            raise
        return crossbar, span

    def _linked(self, config: BenchConfig, seed: int, stack: contextlib.ExitStack) -> tuple[Simulation, Link]:
        """The board behind its lock, and a link to it that has said nothing yet."""
        if self._simulate is None:
            _refuse_simulated_settings(config)
            board: Simulation = RealBoard(_url(config))
            try:
                stack.enter_context(Lock(lock_path(_one_name(board.url)), f"bench {config.bench.name}"))
            except InUse as held:
                raise InUse(f"the board at {board.url}: {held}") from held
        else:
            if config.board.url:
                raise ConfigError(
                    f"bench {config.bench.name}: [board] url = {config.board.url!r} is a port of this computer, and "
                    "backend 'fpga-sim' simulates its board itself: take it out, or say [bench] backend = 'fpga'"
                )
            board = self._simulate(config, seed)
        stack.callback(board.close)
        link = Link(lambda: open_serial(board.url), board.clock, config.board, f"the board at {board.url}")
        stack.callback(link.close)
        return board, link

    def examine(self, config: BenchConfig, seed: int) -> list[dict[str, Any]]:
        """The board, who it is, how good its line is, and its self-test, with all lines grounded."""
        row: dict[str, Any] = {"role": "board", "model": "fpga", "resource": config.board.url, "answers": "",
                               "self_test": ""}  # fmt: skip
        with contextlib.ExitStack() as stack:
            try:
                board, link = self._linked(config, seed, stack)
                row["resource"] = board.url
                has = link.connect()
                row["answers"] = f"board {has.serial:x}, firmware {has.firmware}, {has.rows} x {has.cols} lines"
                link.expect(Op.REST)
                row["self_test"] = "; ".join(self_test(link)) or "passed"
                row["link"] = quality(link)
                verdict = "ok" if row["self_test"] == "passed" else "fault"
                return [row | {"verdict": f"{verdict}{' (simulated)' if has.simulated else ''}"}]
            except NeurobenchError as error:
                kind = "no answer" if isinstance(error, LinkLost) else "refused"
                return [row | {"verdict": f"{kind}: {error}"}]

    def find(self, config: BenchConfig) -> list[dict[str, Any]]:
        """The serial ports of this computer. None is spoken to: what is on one may take any bytes for a command."""
        if self._simulate is not None:
            return [row | {"why": ""} for row in self.examine(config, 0)]
        from serial.tools import list_ports

        why = "not asked; put it into [board] url, then `neurobench check` asks it"
        return [
            {"resource": port.device, "answers": port.description or "", "model": "", "role": "board", "why": why}
            for port in sorted(list_ports.comports())
        ]


def _url(config: BenchConfig) -> str:
    if not config.board.url:
        raise ConfigError(
            f"bench {config.bench.name}: [board] url is missing: the serial port of the board, such as /dev/ttyUSB1 "
            "(`neurobench check --list` with this bench file shows what there is)"
        )
    return config.board.url


def _one_name(url: str) -> str:
    """A port has several names (/dev/serial/by-id); two processes that use two of them must still meet."""
    port = url.removeprefix("spy://").partition("?")[0] if url.startswith("spy://") else url
    return str(Path(port).resolve()) if Path(port).exists() else port


def _refuse_simulated_settings(config: BenchConfig) -> None:
    """[readout] and [board.simulation] make a simulated board; on a real one they would lie about it."""
    said = {f"readout.{name}" for name in config.readout.model_fields_set}
    said |= {f"board.simulation.{name}" for name in config.board.simulation.model_fields_set}
    if said:
        raise ConfigError(
            f"bench {config.bench.name}: {', '.join(sorted(said))} is for simulated boards (backend 'fpga-sim'); a "
            "real board has the converters and the line that it has: take it out of the bench file"
        )


# -- looking around ---------------------------------------------------------------------------------------------------


def self_test(link: Link) -> list[str]:
    """What is wrong with the board, in words; all lines stay grounded. Its program is lost, its counters stay.

    The line carries random bytes both ways, the program memory keeps a random pattern (its CRC is the board's own), and
    every converter reads next to nothing at 0 V.
    """
    return [said for test in (_test_line, _test_memory, _test_zeros) for said in test(link)]


def quality(link: Link) -> dict[str, Any]:
    """What the link has carried so far, by this end and by the board's."""
    status, counts = link.status(), link.counts
    return {
        "baud": link.baud,
        "baud_asked": link.settings.baud,
        "round_trip_s": counts.mean_round_trip_s,
        "requests": counts.sent,
        "repeated": counts.repeated,
        "bad_here": link.bad,
        "bad_at_the_board": status.bad,
        "good_at_the_board": status.good,
    }


def _test_line(link: Link) -> list[str]:
    sent = [os.urandom(ECHO_BYTES) for _ in range(ECHOES)]
    wrong = sum(link.expect(Op.ECHO, one) != one for one in sent)
    return [f"{wrong} of {ECHOES} echoes were wrong"] if wrong else []


def _test_memory(link: Link) -> list[str]:
    """A pattern that is no program: the board finds its CRC right and refuses it for what it is."""
    has, number = link.known, (link.status().fired + 1) & 0xFFFF
    pattern = b"\xff" + os.urandom(has.program_bytes - 1)
    size = has.longest_payload - frames.UPLOAD.size
    uploads = [
        Asked(Op.UPLOAD, frames.UPLOAD.pack(number, at) + pattern[at : at + size], 20)
        for at in range(0, len(pattern), size)
    ]
    bad = [reply for reply in link.ask_all(uploads) if reply.status != Status.OK]
    if bad:
        return [f"UPLOAD: {words(bad[0])}"]
    reply = link.ask(Op.ARM, frames.ARM.pack(number, len(pattern), zlib.crc32(pattern)))
    return [] if reply.status == Status.MALFORMED else [f"program memory: {words(reply)}"]


def _test_zeros(link: Link) -> list[str]:
    """Every bit line's converter with all word lines at 0 V."""
    has = link.known
    link.expect(Op.LIMITS, LimitRegisters(0, 0, 0, 0, 1, 1, round(SELF_TEST_WATCHDOG_S * has.clock_hz)).pack())
    frame = frames.ReadFrame(4, 1, max(round(ADC_S * has.clock_hz), 1), (0, 1, 0, has.cols))
    number = (link.status().acquired + 1) & 0xFFFF
    program = frames.cell_read(frame, 0, np.ones((1, has.cols), np.bool_))
    link.expect(Op.ACQUIRE, frames.ACQUIRE.pack(number) + program)
    data = _converted(link, number, has.cols)
    worst = int(np.abs(frames.sample_values(data, 4)).max())
    allowed = max(ZERO_STEPS, ZERO_RANGE * (1 << (has.adc_bits - 1)))
    return [f"a converter reads {worst * has.adc_step_a:.3g} A at 0 V"] if worst > allowed else []


def _converted(link: Link, number: int, samples: int) -> bytes:
    """All samples, of 4 bytes, as they come."""
    end_s, data = link.clock.now_s() + CONVERTS_S, b""
    while link.clock.now_s() < end_s:
        first = len(data) // 4
        payload = link.expect(Op.FETCH, frames.FETCH.pack(number, first, samples - first))
        got = link.read_as(Samples.unpack, payload)
        data += got.data[: len(got.data) // 4 * 4]
        if got.flags & Fetch.STOPPED:
            break
        if len(data) >= 4 * samples:
            return data
        link.clock.sleep(ADC_S)
    raise InstrumentError(f"{link.name} does not convert {samples} samples in {CONVERTS_S:g} s")
