"""Random and mutated bytes for everything that reads from the line: the host's deframer and the simulated board.

    python tests/fpga/fuzz.py                 1,000,000 strings, some minutes
    python tests/fpga/fuzz.py 50000 3         so many, with this seed

Nothing may raise or hang, and no pulse may come unless the bytes hold a whole FIRE, under the present session, of a
program that the board had said is armed. A third of the strings are noise, a third are good frames that were changed,
and the rest are good frames that ask for anything: else no mutation would ever get beyond the CRC.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import vector_kit as kit

from neurobench import registry
from neurobench.bench.config import load_bench
from neurobench.bench.frames import Deframer

STRINGS = 1_000_000
BENCH = {"chip.rows": kit.ROWS, "chip.cols": kit.COLS, "chip.model": "idealized", "readout.ideal": True,
         "board.simulation.program_bytes": 256, "board.simulation.read_bytes": 128, "board.simulation.samples": 64,
         "board.simulation.rx_bytes": 1024, "board.simulation.max_body": 300}  # fmt: skip
TICK_S = 1 / 48e6
OPS = (kit.HELLO, kit.STATUS, kit.LIMITS, kit.SPEED, kit.REST, kit.ECHO, kit.UPLOAD, kit.ARM, kit.FIRE, kit.FENCE,
       kit.ACQUIRE, kit.FETCH)  # fmt: skip
FELT: dict[str, Any] = {"width": 48, "levels": (4000, 2000, 0, 2000)}  # 1 V for 1 us: a pulse that the device knows
LIMITS = kit.limits(line=4000, cell=4000, victim=2000, least=48)
PROGRAMS = (
    kit.pulses(kit.ONE, **FELT), kit.pulses(**FELT), kit.waves((10, 0, 0, -10), (0, 5, 5, 0)),
    kit.pulses(kit.record(b"\xff\x7f", repeat=3, lines=3), kit.record(b"\x04", sign=2), **FELT),
    kit.pulses(kit.record(b"\xff\x7f", lines=5), axis=1, **FELT),
)  # fmt: skip
READS = (kit.cells(), kit.cells(mask=b"\x25\x02", flags=1, region=(0, 2, 0, 5)), kit.cells(averages=65535),
         kit.vectors(1, kit.i16(1, -2, 5000), 1, region=(0, 3, 0, 5)))  # fmt: skip
DISARM = {(kit.ARM, kit.NO_ROOM), (kit.ARM, kit.BAD_CRC), (kit.ARM, kit.LIMIT), (kit.ARM, kit.CHIP), (kit.REST, kit.OK)}
ODD = (0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0xFE, 0xFF)


@dataclass
class Tally:
    """What was tried, and what went wrong."""

    strings: int = 0
    frames: int = 0
    pulses: int = 0
    replies: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{count} {status}" for status, count in sorted(self.replies.items()))
        return "\n".join([
            f"{self.strings} strings with {self.frames} good frames; replies by status: {told}; {self.pulses} pulses; "
            f"{len(self.wrong)} wrong", *self.wrong[:10],
        ])  # fmt: skip


class Fuzz:
    """One board under fire. What it may do is told from the bytes and from its own replies alone."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bench: Any = registry.load("simulations", "fpga")(load_bench("fpga-sim", BENCH), seed)  # type: ignore[operator]
        self.sent = bytearray()
        self.bench.board.on_send = self.sent.extend
        self.tally = Tally()
        self.host = Deframer(4096)
        self.session = self.fired = self.asked = self.answered = 0
        self.armed = False
        self._tail = b""  # of an unfinished frame on the line

    # -- what is sent --------------------------------------------------------------------------------------------

    def string(self) -> bytes:
        kind = self.random.random()
        if kind < 1 / 3:
            return self._noise()
        data = b"".join(self._frame() for _ in range(self.random.choice((1, 1, 1, 2, 4))))
        if kind < 2 / 3:
            for _ in range(self.random.choice((1, 1, 2, 5))):
                data = self._mutated(data)
        return data

    def _noise(self) -> bytes:
        n = self.random.randrange(1, 60)
        if self.random.random() < 0.02:
            n = self.random.randrange(300, 3000)
        data = self.random.randbytes(n)
        return data if self.random.random() < 0.5 else data.replace(bytes([data[0]]), b"\0")

    def _frame(self) -> bytes:
        op = self.random.choice(OPS) if self.random.random() < 0.98 else self.random.randrange(128)
        payload = self._payload(op)
        if self.random.random() < 0.2:
            payload = self._mutated(payload)
        session = self.session if self.random.random() < 0.95 else self.random.getrandbits(32)
        return kit.framed(kit.u8(op) + kit.u16(self.random.getrandbits(16)) + kit.u32(session) + payload)

    def _payload(self, op: int) -> bytes:
        draw = self.random
        program, number = draw.choice(PROGRAMS), (self.fired + draw.choice((1, 1, 1, 1, 0, 2))) & 0xFFFF
        return {
            kit.HELLO: kit.u32(draw.getrandbits(32)), kit.LIMITS: draw.choice((b"", LIMITS, LIMITS)),
            kit.SPEED: kit.u32(draw.choice((0, 115200, 1_000_000, 12_000_000))), kit.ECHO: draw.randbytes(9),
            kit.UPLOAD: kit.u16(number, 0) + program, kit.ARM: kit.arm(number, program),
            kit.FIRE: kit.fire(number, program), kit.FENCE: kit.u16(number),
            kit.ACQUIRE: kit.u16(draw.getrandbits(16)) + draw.choice(READS),
            kit.FETCH: kit.u16(draw.getrandbits(16), draw.randrange(9), draw.randrange(99)),
        }.get(op, b"")  # fmt: skip

    def _mutated(self, data: bytes) -> bytes:
        if not data:
            return self.random.randbytes(1)
        at, n = self.random.randrange(len(data)), self.random.choice((1, 1, 2, 9))
        odd = bytes([self.random.choice(ODD)]) if self.random.random() < 0.5 else self.random.randbytes(1)
        return self.random.choice((
            data[:at] + odd + data[at + 1 :], data[:at] + data[at + n :], data[:at] + odd * n + data[at:],
            data[:at], data[at:] + data[:at], data + data[at : at + n],
            data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1 :],
        ))  # fmt: skip

    def dialogue(self) -> bytes:
        """All that a pulse takes, so that some do come."""
        program, number = self.random.choice(PROGRAMS), (self.fired + 1) & 0xFFFF
        steps = ((kit.LIMITS, LIMITS), (kit.UPLOAD, kit.u16(number, 0) + program),
                 (kit.ARM, kit.arm(number, program)), (kit.FIRE, kit.fire(number, program)))  # fmt: skip
        head = kit.u16(7) + kit.u32(self.session)
        return b"\0" + b"".join(kit.framed(kit.u8(op) + head + payload) for op, payload in steps)

    # -- what may come of it -------------------------------------------------------------------------------------

    def shoot(self, data: bytes) -> None:
        """Give it to the board and the host's deframer; see what comes of it."""
        board, tally = self.bench.board, self.tally
        before, armed = board.pulses_fired(), self.armed
        good = self._good(data)
        board.receive(data)
        self.host.feed(data)
        self.bench.clock.sleep(2e-4)
        replies = self._replies()
        fired, fires = board.pulses_fired() - before, any(one[0] == kit.FIRE for one in good)
        tally.strings, tally.frames, tally.pulses = tally.strings + 1, tally.frames + len(good), tally.pulses + fired
        armed = armed or any((r.op, r.status) == (kit.ARM, kit.OK) for r in replies)
        if fired and not (fires and armed):
            tally.wrong.append(f"{fired} pulses, armed: {armed}, of {data.hex()}")
        self.asked, self.answered = self.asked + len(good), self.answered + len(replies)
        if self.answered > self.asked:
            tally.wrong.append(f"{len(replies)} replies to {len(good)} requests: {data.hex()}")

    def _good(self, data: bytes) -> list[bytes]:
        """Bodies of the good requests that end in `data`, read without anybody's deframer."""
        *frames, self._tail = (self._tail + data).split(b"\0")
        return [body for body in map(_body, frames) if body is not None]

    def _replies(self) -> list[kit.Came]:
        found = kit.came(bytes(self.sent))
        self.host.feed(bytes(self.sent))
        self.sent.clear()
        for reply in found:
            self.tally.replies[f"{reply.status:02x}"] += 1
            self.session = reply.session
            self._disarmed(reply)
        return found

    def _disarmed(self, reply: kit.Came) -> None:
        """What a reply says of the arming; a refusal of a number or a session, and a kept reply, leave it as it is."""
        if reply.op == kit.ARM and reply.status == kit.OK:
            self.armed = True
        if (reply.op, reply.status) in DISARM:
            self.armed = False
        if reply.op in (kit.FIRE, kit.FENCE, kit.STATUS, kit.REST) and len(reply.payload) == 37:
            number = int.from_bytes(reply.payload[3:5], "little")
            if reply.op in (kit.FIRE, kit.FENCE) and number > self.fired:
                self.armed = False
            self.fired = max(self.fired, number)

    def restart(self) -> None:
        self.settle()
        self.bench.board.reboot()
        self.session = self.fired = self.asked = self.answered = 0
        self.armed, self._tail = False, b""
        self.shoot(b"\0" + kit.framed(kit.u8(kit.HELLO) + kit.u16(1) + kit.u32(0, self.random.getrandbits(32))))

    def settle(self) -> None:
        """When all has come to its end, every good request had one reply, and the board still answers."""
        self.bench.clock.sleep(1.0)
        self.shoot(b"\0" + kit.framed(kit.u8(kit.HELLO) + kit.u16(1) + kit.u32(0, 1)))
        if self.answered != self.asked:
            self.tally.wrong.append(f"{self.asked} requests, {self.answered} replies")


def _body(frame: bytes) -> bytes | None:
    try:
        body: bytes = kit.cobs.decode(frame)
    except kit.cobs.DecodeError:
        return None
    good = 11 <= len(body) <= kit.MAX_BODY and kit.u32(kit.zlib.crc32(body[:-4])) == body[-4:]
    return body if good else None


def fuzz(strings: int, seed: int = 1) -> Tally:
    """So many strings on one board, which restarts now and then."""
    one = Fuzz(seed)
    try:
        for n in range(strings):
            if n % 5000 == 0:
                one.restart()
            one.shoot(one.dialogue() if n % 20 == 0 else one.string())
            if len(one.tally.wrong) > 20:
                break
        one.settle()
        if one.bench.board.damage:
            one.tally.wrong.append(f"damage: {one.bench.board.damage[:3]}")
    finally:
        one.bench.close()
    return one.tally


def main() -> int:
    strings, seed = (int(arg) for arg in sys.argv[1:3]) if len(sys.argv) > 2 else (STRINGS, 1)
    began_s = time.monotonic()
    tally = fuzz(strings, seed)
    print(f"{tally}\n{time.monotonic() - began_s:.0f} s")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
