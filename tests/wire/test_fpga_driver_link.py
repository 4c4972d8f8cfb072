"""The link to a board, against a port that is written here: what a board says wrongly, and a port that goes away."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from cobs import cobs
from neurobench.drivers._fpga_link import Asked, BoardRestarted, Link

from neurobench.bench.board import Board
from neurobench.bench.frames import BASE_BAUD, BoardIdentity, Op
from neurobench.errors import InstrumentError, LinkLost

IDENTITY = (1, 1 | 2, 1, 2, 3, 24, 0x1F, 3, 5, 48_000_000, 12_000_000, 256, 128, 64, 1024, 300, 32767, 32767, 48, 480,
            240, 2.5e-4, 2e-5, 1e-12, 0.0)  # fmt: skip
Answer = Callable[[int, bytes], tuple[int, bytes] | None]


class FakeClock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.s = 0.0

    def now_s(self) -> float:
        return self.s

    def sleep(self, seconds: float) -> None:
        self.s += seconds


class ScriptedPort:
    """A port with something behind it that answers every request by `answer(op, payload)`; None: not at all."""

    def __init__(self, clock: FakeClock, answer: Answer | None = None) -> None:
        self.clock, self.answer = clock, answer or (lambda op, payload: None)
        self.session, self.identity = 77, struct.pack("<6BQHHIIHHHHHHHIII4d", *IDENTITY)
        self.timeout: float | None = 0.02
        self.baudrate, self.board_baud, self.next_baud = BASE_BAUD, BASE_BAUD, 0
        self.asked: list[tuple[str, int, bytes]] = []
        self.gone = self.closed = False
        self.out, self.kept = bytearray(), bytearray()

    @property
    def in_waiting(self) -> int:
        return len(self.out)

    def write(self, data: bytes) -> int:
        self._refuse_gone()
        if self.baudrate != self.board_baud:
            return len(data)
        *ended, rest = (bytes(self.kept) + data).split(b"\0")
        self.kept = bytearray(rest)
        for frame in ended:
            if frame:
                self._take(cobs.decode(frame))
        return len(data)

    def read(self, size: int = 1) -> bytes:
        self._refuse_gone()
        if not self.out:
            self.clock.sleep(self.timeout or 0.0)
        data = bytes(self.out[:size])
        del self.out[:size]
        return data

    def close(self) -> None:
        self.closed = True

    def _refuse_gone(self) -> None:
        if self.gone:
            raise OSError("the cable is out")

    def _take(self, body: bytes) -> None:
        assert zlib.crc32(body[:-4]) == int.from_bytes(body[-4:], "little")
        op, tag, session = struct.unpack_from("<BHI", body)
        payload = body[7:-4]
        self.asked.append((Op(op).name, session, payload))
        found = self._own(op, payload) if session in (0, self.session) or op == Op.SPEED else (1, b"")
        if found is not None:
            status, said = found
            reply = struct.pack("<BHIB", op | 0x80, tag, self.session, status) + said
            self.out += cobs.encode(reply + struct.pack("<I", zlib.crc32(reply))) + b"\0"
            if op == Op.SPEED and status == 0:
                self.board_baud = self.next_baud

    def _own(self, op: int, payload: bytes) -> tuple[int, bytes] | None:
        found = self.answer(op, payload)
        if found is not None:
            return found if found[0] >= 0 else None
        if op == Op.HELLO:
            return 0, self.identity
        if op == Op.SPEED:
            self.next_baud = int.from_bytes(payload, "little")
            return 0, payload
        return (0, payload) if op == Op.ECHO else None


def linked(answer: Answer | None = None, **settings: Any) -> tuple[Link, ScriptedPort]:
    clock = FakeClock()
    port = ScriptedPort(clock, answer)
    link = Link(lambda: port, clock, Board(**{"retries": 3, **settings}))
    return link, port


def test_the_board_says_who_it_is() -> None:
    link, _ = linked()
    has = link.connect()
    assert has == BoardIdentity(*IDENTITY)
    assert (has.firmware, has.simulated, has.forward, has.backward, has.waveforms) == (
        "1.2.3",
        True,
        True,
        False,
        False,
    )
    assert link.session == 77


def test_it_begins_at_the_base_speed_and_agrees_on_a_faster_one() -> None:
    link, port = linked(baud=3_000_000)
    link.connect()
    assert port.baudrate == port.board_baud == 3_000_000
    assert link.expect(Op.ECHO, b"fast") == b"fast"


def test_it_asks_for_no_more_than_the_board_can() -> None:
    link, port = linked(baud=12_000_000)
    port.identity = struct.pack("<6BQHHIIHHHHHHHIII4d", *IDENTITY[:10], 2_000_000, *IDENTITY[11:])
    link.connect()
    assert port.baudrate == 2_000_000


def test_a_speed_that_the_board_does_not_reach_leaves_the_base_speed() -> None:
    link, port = linked(lambda op, payload: (0, struct.pack("<I", 115_200)) if op == Op.SPEED else None, baud=3_000_000)
    port.next_baud = BASE_BAUD
    link.connect()
    assert port.baudrate == BASE_BAUD
    assert link.expect(Op.ECHO, b"slow") == b"slow"


def test_a_speed_that_the_board_cannot_make_is_halved() -> None:
    """5 Mbaud are 9.6 ticks of 48 MHz: no board does that, and 115200 would be a fortieth of what was meant."""

    def answer(op: int, payload: bytes) -> tuple[int, bytes] | None:
        if op == Op.SPEED and int.from_bytes(payload, "little") > 3_000_000:
            port.next_baud = port.board_baud
            return 0, struct.pack("<I", port.board_baud)
        return None

    link, port = linked(answer, baud=5_000_000)
    link.connect()
    assert link.baud == port.board_baud == 2_500_000
    assert link.expect(Op.ECHO, b"half") == b"half"
    port.clock.sleep(10)
    port.board_baud = BASE_BAUD
    assert link.expect(Op.ECHO, b"met again") == b"met again"
    assert link.baud == 2_500_000


def test_a_board_that_was_left_at_the_fast_speed_is_found() -> None:
    link, port = linked(baud=3_000_000)
    port.board_baud = 3_000_000
    link.connect()
    assert port.baudrate == 3_000_000


def test_another_version_of_the_wire_is_refused() -> None:
    link, port = linked()
    port.identity = b"\x02" + port.identity[1:]
    with pytest.raises(InstrumentError, match="version 2 of the wire"):
        link.connect()


def test_an_identity_of_another_length_is_refused() -> None:
    link, port = linked()
    port.identity = port.identity[:-1]
    with pytest.raises(InstrumentError, match="bytes"):
        link.connect()


def test_another_board_than_the_files_is_refused() -> None:
    link, _ = linked(serial="20")
    with pytest.raises(InstrumentError, match=r"serial 1f.*'20'"):
        link.connect()
    for serial in ("1f", "31"):
        linked(serial=serial)[0].connect()


def test_a_port_on_which_nobody_answers_is_given_up_in_time() -> None:
    link, port = linked(lambda op, payload: (-1, b""))
    with pytest.raises(LinkLost, match="no board answers"):
        link.connect()
    assert 3 < port.clock.s < 5


def test_a_lost_reply_is_asked_for_again_under_its_tag() -> None:
    lost = iter([True, True, False])
    link, port = linked(lambda op, payload: (-1, b"") if op == Op.ECHO and next(lost) else None)
    link.connect()
    assert link.expect(Op.ECHO, b"x") == b"x"
    assert [name for name, _, _ in port.asked].count("ECHO") == 3
    assert link.counts.repeated == 2


def test_what_is_never_answered_is_a_lost_link() -> None:
    link, port = linked(lambda op, payload: (-1, b"") if op == Op.ECHO else None)
    link.connect()
    with pytest.raises(LinkLost, match="does not answer ECHO, asked 4 times"):
        link.ask(Op.ECHO, b"x")
    assert port.closed, "what may hang is opened anew"


def test_a_status_that_says_no_is_an_instruments_error() -> None:
    link, _ = linked(lambda op, payload: (9, b"\x01") if op == Op.ARM else None)
    link.connect()
    with pytest.raises(InstrumentError, match="LIMIT max_cell to ARM"):
        link.expect(Op.ARM)


def test_a_restart_is_told_once_and_then_the_new_session_holds() -> None:
    link, port = linked()
    link.connect()
    port.session = 78
    with pytest.raises(BoardRestarted):
        link.ask(Op.ECHO, b"x")
    assert link.expect(Op.ECHO, b"y") == b"y"
    assert link.session == 78


def test_a_port_that_goes_away_is_opened_again() -> None:
    clock = FakeClock()
    ports = [ScriptedPort(clock), ScriptedPort(clock)]
    left = iter(ports)
    link = Link(lambda: next(left), clock, Board(retries=3))
    link.connect()
    ports[0].gone = True
    assert link.expect(Op.ECHO, b"x") == b"x"
    assert ports[0].closed
    assert link.counts.reconnected == 1


def test_a_port_that_does_not_come_back_is_said_at_once() -> None:
    link, port = linked()
    link.connect()
    port.gone = True
    with pytest.raises(LinkLost, match="the cable is out"):
        link.ask(Op.ECHO, b"x")
    assert port.clock.s < 0.5


def test_the_window_is_what_the_board_can_keep() -> None:
    """Requests wait in the board's memory; more than it has would be lost."""
    seen: list[int] = []
    link, port = linked(lambda op, payload: (-1, b"") if op == Op.ECHO else None)
    link.connect()
    send = port.write

    def counted(data: bytes) -> int:
        seen.append(len(data))
        return send(data)

    port.write = counted  # type: ignore[method-assign]
    with pytest.raises(LinkLost):
        link.ask_all([Asked(Op.ECHO, bytes(280)) for _ in range(10)])
    sent_at_once = sum(seen) / 4
    assert 3 * 280 < sent_at_once <= IDENTITY[14]


def test_replies_in_a_window_keep_their_order() -> None:
    link, _ = linked()
    link.connect()
    asked = [Asked(Op.ECHO, bytes([n])) for n in range(40)]
    assert [reply.payload[0] for reply in link.ask_all(asked)] == list(range(40))


def test_after_a_long_silence_the_board_is_met_again_before_it_is_asked() -> None:
    """A board goes back to its base speed after 2 s: a first request at the old speed would be lost."""
    link, port = linked(baud=3_000_000)
    link.connect()
    port.clock.sleep(10)
    port.board_baud = BASE_BAUD
    assert link.expect(Op.ECHO, b"x") == b"x"
    assert port.baudrate == 3_000_000
    assert link.counts.repeated == 0


def test_no_more_is_under_way_than_a_port_takes_at_once() -> None:
    """A board may keep 64 KiB of requests; a call into the port that writes as much would wait for the line."""
    seen: list[int] = []
    link, port = linked(lambda op, payload: (-1, b"") if op == Op.ECHO else None, retries=1)
    port.identity = struct.pack("<6BQHHIIHHHHHHHIII4d", *IDENTITY[:14], 65535, 4000, *IDENTITY[16:])
    link.connect()
    send = port.write

    def counted(data: bytes) -> int:
        seen.append(len(data))
        return send(data)

    port.write = counted  # type: ignore[method-assign]
    with pytest.raises(LinkLost):
        link.ask_all([Asked(Op.ECHO, bytes(500)) for _ in range(16)])
    assert 2000 < sum(seen) / 2 <= 4096


def test_a_speed_that_nobody_asked_for_is_not_believed() -> None:
    link, port = linked(lambda op, payload: (0, struct.pack("<I", 0)) if op == Op.SPEED else None, baud=3_000_000)
    with pytest.raises(InstrumentError, match="was asked for 3000000 baud and wants to use 0"):
        link.connect()
    assert port.baudrate == BASE_BAUD


def test_a_port_that_cannot_be_written_for_another_thread_is_given_up_except_for_a_rest() -> None:
    link, port = linked(lambda op, payload: (0, b"") if op in (Op.REST, Op.STATUS) else None)
    link.connect()
    held, done = threading.Event(), threading.Event()

    def hang() -> None:
        with link._writing:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    assert held.wait(5)
    try:
        assert link.ask(Op.REST).status == 0
        with pytest.raises(LinkLost, match="another thread hangs in its port"):
            link.ask(Op.STATUS)
    finally:
        done.set()
        thread.join(5)
    assert not port.closed
