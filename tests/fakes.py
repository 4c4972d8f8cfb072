"""Benches that are no instruments: a chip that counts what is done to it, behind links that lose what they carry.

Three fakes keep the contract from being shaped by the emulator alone: perfect, lossy with a witness, and lossy
without one. The chip may live in this process or in another one (`python fakes.py FOLDER`), where it outlives a
runner that is killed. Every pulse that the chip saw stands in its ledger.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from neurobench.bench.codec import pack, unpack
from neurobench.bench.crossbar import (
    Applied,
    Capabilities,
    Crossbar,
    Done,
    Identity,
    NotDone,
    Outcome,
    Reading,
    Unknown,
    Witness,
)
from neurobench.bench.limits import Guard, Limits
from neurobench.bench.passport import Passport
from neurobench.bench.steps import Apply, BenchView, Checkpoint, DeviceSpan, Note, Protocol, Result, Sense, Steps, Wait
from neurobench.bench.stimulus import (
    CellRead,
    Direction,
    FloatArray,
    Play,
    Pulse,
    PulseBatch,
    Read,
    ShotList,
    shots,
)
from neurobench.errors import InstrumentError, LinkLost

G0_S, STEP_S = 1e-6, 1e-9
PULSE = Pulse(0.5, 1e-3)


# ------------------------------------------------------------------------------------------------- the chip


class FakeChip:
    """Conductances [rows, cols] that move by one step per pulse; a counter of firings; a ledger of every pulse.

    `fire` with a number executes only the next one and answers the last one again; without a number it executes what
    is armed. `ledger` makes each firing durable before it is answered, as a real chip would.
    """

    def __init__(self, shape: tuple[int, int], folder: Path | None = None) -> None:
        self.g_s = np.full(shape, G0_S)
        self.counter = 0
        self.nonce = f"{random.SystemRandom().getrandbits(64):016x}"
        self.ledger: list[tuple[int, int]] = []  # (number, pulses)
        self.last: list[Any] | None = None
        self.armed: list[Any] | None = None
        self.outputs_on = False
        self.hang_reads = False
        self.folder = folder
        self.log: list[tuple[str, float]] = []
        self._lock = threading.Lock()
        self._unhang = threading.Event()

    def serve(self, op: str, args: list[Any]) -> Any:
        """Answer one command."""
        self._write_log(op, args)
        if op == "sense":
            if self.hang_reads:
                self._write_log("hung", args)
                self._unhang.wait(30)
            with self._lock:
                return self.g_s
        with self._lock:
            handler: Callable[..., Any] = getattr(self, f"_{op}")
            return handler(*args)

    def _stage(self, number: int, change: Any, pulses: int, n_shots: int) -> list[Any]:
        self.armed = [number, change, pulses, n_shots]
        return [self.counter, self.nonce]

    def _fire(self, number: int | None) -> list[Any]:
        if number is not None and number == self.counter and self.last is not None:
            return self.last
        if self.armed is None or (number is not None and number != self.counter + 1):
            raise InstrumentError(f"fire {number} refused: the counter is at {self.counter}")
        seq, change, pulses, n_shots = self.armed
        self.armed = None
        self.g_s = self.g_s + STEP_S * change
        self.counter += 1
        start_s = float(self.counter)
        self.last = [n_shots, pulses, start_s, start_s + 0.5, 1e-12 * pulses, "model", False, None]
        self.ledger.append((seq, pulses))
        if self.folder is not None:
            with (self.folder / "ledger").open("a") as file:
                file.write(f"{seq} {pulses}\n")
                file.flush()
                os.fsync(file.fileno())
        return self.last

    def _status(self) -> list[Any]:
        return [self.counter, self.nonce, self.last]

    def _rest(self) -> None:
        self.outputs_on = False
        self.armed = None

    def _reset(self) -> None:
        """A fresh chip, for the next of many trials."""
        self.g_s = np.full(self.g_s.shape, G0_S)
        self.counter, self.last, self.armed, self.ledger = 0, None, None, []

    def _ledger(self) -> list[tuple[int, int]]:
        return self.ledger

    def _hang(self, on: bool) -> None:
        self.hang_reads = on

    def _reboot(self) -> None:
        self.nonce = f"{random.SystemRandom().getrandbits(64):016x}"
        self.counter, self.last, self.armed = 0, None, None

    def _write_log(self, op: str, args: list[Any]) -> None:
        self.log.append((op, time.monotonic()))
        if self.folder is not None:
            number = args[0] if args and isinstance(args[0], int) else None
            with (self.folder / "log").open("a") as file:
                file.write(json.dumps([op, number, time.monotonic()]) + "\n")


# ------------------------------------------------------------------------------------------------- links


@dataclass
class Loss:
    """Which share of commands never arrives and which share of replies never comes back, by a seed."""

    command: float = 0.0
    reply: float = 0.0
    seed: int = 0
    spare: frozenset[str] = frozenset({"rest"})
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def around(self, op: str, call: Callable[[], Any]) -> Any:
        """Make a call through the faults."""
        if op in self.spare:
            return call()
        if self.rng.random() < self.command:
            raise LinkLost(f"{op}: no answer (the command was lost)")
        answer = call()
        if self.rng.random() < self.reply:
            raise LinkLost(f"{op}: no answer (the reply was lost)")
        return answer


Link = Callable[[str, list[Any]], Any]


class SocketLink:
    """Commands to a chip in another process; `rest` goes over a connection of its own."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._main = self._connect()

    def _connect(self) -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(60)
        try:
            link.connect(self.address)
        except OSError as error:
            link.close()
            raise LinkLost(f"{self.address}: {error}") from error
        return link

    def __call__(self, op: str, args: list[Any]) -> Any:
        """Send a command and wait for its reply."""
        if op != "rest":
            return self._ask(self._main, op, args)
        with contextlib.closing(self._connect()) as second:
            return self._ask(second, op, args)

    def _ask(self, link: socket.socket, op: str, args: list[Any]) -> Any:
        try:
            send_frame(link, [op, args])
            ok, value = receive_frame(link)
        except OSError as error:
            raise LinkLost(f"{op}: {error}") from error
        if not ok:
            raise InstrumentError(value)
        return value

    def close(self) -> None:
        """Let go of the connection."""
        self._main.close()


def send_frame(link: socket.socket, value: Any) -> None:
    data = pack(value)
    link.sendall(struct.pack("<I", len(data)) + data)


def receive_frame(link: socket.socket) -> Any:
    size = struct.unpack("<I", _exactly(link, 4))[0]
    return unpack(_exactly(link, size))


def _exactly(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = link.recv(size - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


# ------------------------------------------------------------------------------------------------- the bench


class FakeCrossbar(Crossbar):
    """A real bench as far as the runner can tell: it cannot be put back, and its pulses take place elsewhere.

    With `witness` the chip counts and remembers; without it, a lost reply to a trigger leaves a doubt.
    """

    def __init__(
        self,
        link: Link,
        shape: tuple[int, int],
        loss: Loss | None = None,
        witness: bool = True,
        sigma_a: float = 1e-12,
    ) -> None:
        self._link = link
        self._loss = loss or Loss()
        self._witness = witness
        self._sigma_a = sigma_a
        self._expected = 0
        self._triggered: set[int] = set()
        self._staged: set[int] = set()
        self._capabilities = Capabilities(
            shape,
            delivery="exactly_once" if witness else "at_most_once",
            vector_reads=frozenset({Direction.ROWS_TO_COLS}),
        )

    def call(self, op: str, *args: Any) -> Any:
        """One command through the faults."""
        return self._loss.around(op, lambda: self._link(op, list(args)))

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def identity(self) -> Identity:
        return Identity("fake", True, "fake-1", {"witness": self._witness})

    def stage(self, seq: int, shots: ShotList) -> Witness:
        counter, nonce = self.call("stage", seq, *_summed(shots), len(shots))
        self._staged.add(seq)
        self._expected = counter + 1
        return Witness(counter, nonce) if self._witness else Witness()

    def fire(self, seq: int) -> Applied:
        self._triggered.add(seq)
        answer = self.call("fire", self._expected if self._witness else None)
        return Applied(*answer)

    def outcome(self, seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        if not self._witness:
            if seq in self._staged and seq not in self._triggered:
                return NotDone()
            return Unknown(0, "the reply to the trigger was lost, and this bench counts nothing")
        counter, nonce, last = self.call("status")
        if nonce != witness.nonce:
            return Unknown(0, "the board has rebooted")
        if counter == witness.counter:
            return NotDone()
        if counter != witness.counter + 1:
            return Unknown(0, f"the counter is at {counter}, not at {witness.counter + 1}")
        return Done(Applied(*last))

    def sense(self, read: Read) -> Reading:
        g_s: FloatArray = self.call("sense")
        now_s = self.clock_s
        if isinstance(read, CellRead):
            current_a = g_s[read.mask] * read.voltage_v
        else:
            current_a = read.volts @ (g_s if read.region is None else g_s[read.region.slices])
        polarities = [current_a, -current_a] if read.both_polarities else [current_a]
        return Reading(np.stack(polarities), self._sigma_a, 1e-3, now_s, now_s)

    def enforce(self, limits: Limits) -> None:
        del limits

    def rest(self) -> None:
        self.call("rest")

    def close(self) -> None:
        self.rest()
        if isinstance(self._link, SocketLink):
            self._link.close()


def _summed(fired: ShotList) -> tuple[Any, int]:
    if isinstance(fired, Play):
        return np.zeros(fired.shape, np.int32), 0
    change = np.zeros(fired.shape, np.int32)
    for k in range(len(fired)):
        cross, n = fired.cross[fired.indptr[k] : fired.indptr[k + 1]], fired.sign[k] * fired.repeat[k]
        if fired.axis == 0:
            change[fired.line[k], cross] += n
        else:
            change[cross, fired.line[k]] += n
    return change, fired.pulses


LIMITS = Limits(max_cell_v=1.0, max_read_v=0.2, max_width_s=1.0)


def guarded(crossbar: Crossbar, passport: Path | None = None, limits: Limits = LIMITS) -> Guard:
    """The Guard over a fake, with a passport in memory or in a file."""
    shape = crossbar.capabilities.shape
    chip = Passport("fake-1", shape) if passport is None else Passport.open(passport, "fake-1", shape)
    return Guard(crossbar, limits, chip, DeviceSpan(), "fake")


def perfect(shape: tuple[int, int] = (4, 4)) -> FakeCrossbar:
    """No losses."""
    return FakeCrossbar(FakeChip(shape).serve, shape)


def lossy_with_witness(shape: tuple[int, int] = (4, 4), seed: int = 0, share: float = 0.2) -> FakeCrossbar:
    """Loses commands and replies; the chip counts."""
    return FakeCrossbar(FakeChip(shape).serve, shape, Loss(share, share, seed))


def lossy_without(shape: tuple[int, int] = (4, 4), seed: int = 0, share: float = 0.2) -> FakeCrossbar:
    """Loses commands and replies; nothing counts."""
    return FakeCrossbar(FakeChip(shape).serve, shape, Loss(share, share, seed), witness=False)


FAKES: Mapping[str, Callable[[], FakeCrossbar]] = {
    "perfect": perfect,
    "lossy with a witness": lossy_with_witness,
    "lossy without": lossy_without,
}


def open_remote(config: Mapping[str, Any], seed: int = 0, profile: str = "") -> Guard:
    """Open the bench of a chip in another process: `address`, `shape`, `command`, `reply`, `loss_seed`, `witness`."""
    del seed, profile
    shape = tuple(config["shape"])
    loss = Loss(config.get("command", 0.0), config.get("reply", 0.0), config.get("loss_seed", 0))
    crossbar = FakeCrossbar(SocketLink(config["address"]), shape, loss, config.get("witness", True))
    passport = config.get("passport")
    return guarded(crossbar, None if passport is None else Path(passport))


# ------------------------------------------------------------------------------------------------- another process


@dataclass
class RemoteChip:
    """A chip in a process of its own, as a test sees it."""

    folder: Path
    shape: tuple[int, int]
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return str(self.folder / "s")

    def ledger(self) -> list[tuple[int, int]]:
        """(number of the step, pulses) of every firing."""
        file = self.folder / "ledger"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(seq), int(pulses)) for seq, pulses in (line.split() for line in lines)]

    def log(self) -> list[tuple[str, int | None, float]]:
        """(command, number, time by the monotonic clock) of every command that arrived."""
        file = self.folder / "log"
        lines = file.read_text().splitlines() if file.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def tell(self, op: str, *args: Any) -> Any:
        """A command past all faults."""
        link = SocketLink(self.address)
        try:
            return link(op, list(args))
        finally:
            link.close()

    def config(self, **more: Any) -> dict[str, Any]:
        return {"address": self.address, "shape": list(self.shape), **more}


@contextlib.contextmanager
def remote_chip(folder: Path, shape: tuple[int, int] = (4, 4)) -> Iterator[RemoteChip]:
    """Run a chip in another process while the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, __file__, str(folder), *map(str, shape)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield RemoteChip(folder, shape, process)
        finally:
            process.kill()


def _serve(folder: Path, shape: tuple[int, int]) -> None:
    chip = FakeChip(shape, folder)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "s"))
    server.listen(64)
    print("ready", flush=True)
    while True:
        link, _ = server.accept()
        threading.Thread(target=_converse, args=(chip, link), daemon=True).start()


def _converse(chip: FakeChip, link: socket.socket) -> None:
    with contextlib.suppress(OSError), link:
        while True:
            op, args = receive_frame(link)
            try:
                reply = [True, chip.serve(op, args)]
            except InstrumentError as error:
                reply = [False, str(error)]
            send_frame(link, reply)


# ------------------------------------------------------------------------------------------------- a protocol


class Toy(Protocol):
    """Pulses random cells, reads all of them, and lets what it reads decide the next signs: every answer matters."""

    epochs: int = Field(default=5, ge=1, description="how often it reads")
    pulses: int = Field(default=3, ge=1, description="batches between two reads")
    wait_s: float = Field(default=0.0, ge=0, description="pause after each epoch, in seconds")
    checkpoints: bool = Field(default=True, description="whether it says where it could go on")

    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        everywhere = CellRead(np.ones(view.shape, bool), 0.1)
        first, bias = 0, np.zeros(view.shape)
        if start is not None:
            first, bias = int(start["epoch"]), start["bias"]
            rng.bit_generator.state = start["rng"]
        for epoch in range(first, self.epochs):
            for _ in range(self.pulses):
                signs = np.sign(rng.normal(size=view.shape) - bias).astype(np.int8)
                applied = yield Apply(PulseBatch(signs, PULSE))
                yield Note("applied", applied.pulses)
            reading = yield Sense(everywhere)
            g_s = reading.signed_a().reshape(view.shape) / 0.1
            bias = (g_s - G0_S) / STEP_S / 10
            yield Note("epoch", {"epoch": epoch, "g_s": g_s})
            if self.wait_s:
                yield Wait(self.wait_s)
            if self.checkpoints:
                yield Checkpoint({"epoch": epoch + 1, "bias": bias, "rng": rng.bit_generator.state})
        return Result(True, {"bias": bias})


def undisturbed(toy: Toy, seed: int, shape: tuple[int, int] = (4, 4)) -> tuple[FloatArray, list[int]]:
    """Conductances and pulses of every batch, as they come out when nothing fails."""
    chip = FakeChip(shape)
    crossbar = FakeCrossbar(chip.serve, shape)
    view = guarded(crossbar).view()
    steps = toy.steps(view, np.random.default_rng(seed))
    answer: Any = None
    with contextlib.suppress(StopIteration):
        while True:
            step = steps.send(answer)
            answer = None
            if isinstance(step, Apply):
                crossbar.stage(0, shots(step.stimulus, view.capabilities))
                answer = crossbar.fire(0)
            elif isinstance(step, Sense):
                answer = crossbar.sense(step.read)
    return chip.g_s, [pulses for _, pulses in chip.ledger]


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3])))
