"""The line of a simulated board: bytes that take time, faults, pyserial's port, sockets and pseudo-terminals."""

from __future__ import annotations

import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from neurobench.sim_instruments.fpga.served import TcpBoard, TerminalBoard

from neurobench.bench import frames
from neurobench.bench.frames import BoardIdentity, BoardStatus, Op, Reply, Request, Status
from neurobench.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parent))

from board_bench import heard, opened, port_of, pulses, record

HELLO = frames.encode(Request(Op.HELLO, 1, 0, b"abcd"))
PER_BYTE_S = 10 / 115_200
LATENCY_S = 1e-5


@pytest.fixture
def bench() -> Iterator[Any]:
    made = opened()
    yield made
    made.close()


@pytest.fixture
def port(bench: Any) -> Iterator[Any]:
    with port_of(bench) as opened_port:
        yield opened_port


def echo(n: int, session: int, data: bytes = b"hello") -> bytes:
    return frames.encode(Request(Op.ECHO, n, session, data))


def greeted(port: Any) -> int:
    port.write(b"\0" + HELLO)
    (reply,) = heard(port)
    assert BoardIdentity.unpack(reply.payload).rows == 4
    return reply.session


# -- the port ---------------------------------------------------------------------------------------------------------


def test_pyserial_opens_the_board_by_its_url_until_the_bench_is_closed() -> None:
    bench = opened()
    assert bench.url.startswith("fpgasim://")
    with port_of(bench) as port:
        assert greeted(port) != 0
        with pytest.raises(serial.SerialException):
            port.open()
        bench.close()
        with pytest.raises(serial.SerialException):
            port.write(b"x")
    with pytest.raises(serial.SerialException, match="no simulated board"):
        port_of(bench)
    bench.close()


def test_every_byte_takes_its_time_both_ways(bench: Any, port: Any) -> None:
    began_s = bench.clock.now_s()
    port.write(HELLO)
    assert bench.clock.now_s() == began_s, "who writes does not wait"
    port.timeout = 1
    first = port.read(1)
    took_s = bench.clock.now_s() - began_s
    answer = first + port.read(port.in_waiting)
    assert answer.endswith(b"\0")
    assert took_s == pytest.approx((len(HELLO) + len(answer)) * PER_BYTE_S + 2 * LATENCY_S, rel=1e-6)


def test_a_read_waits_its_timeout_and_no_longer(bench: Any, port: Any) -> None:
    began_s = bench.clock.now_s()
    assert port.read(10) == b""
    assert bench.clock.now_s() - began_s == pytest.approx(0.05)
    port.timeout = 0
    assert port.read(10) == b""
    assert bench.clock.now_s() - began_s == pytest.approx(0.05)


def test_a_read_of_more_than_comes_gives_what_has_come(bench: Any, port: Any) -> None:
    port.write(HELLO)
    data = port.read(5000)
    assert len(frames.Deframer().feed(data)) == 1
    port.write(HELLO)
    assert len(port.read(20)) == 20
    assert port.in_waiting == len(data) - 20
    port.reset_input_buffer()
    assert port.read(1) == b""
    del bench


def test_looking_for_bytes_lets_time_pass(bench: Any, port: Any) -> None:
    port.write(HELLO)
    looks = 0
    while not port.in_waiting:
        looks += 1
        assert looks < 5000, "it hangs"
    assert bench.clock.now_s() < 0.02


def test_a_reopened_port_has_nothing_of_the_old_one(bench: Any) -> None:
    with port_of(bench) as port:
        port.write(HELLO[:5])
        port.write(HELLO)
        bench.clock.sleep(0.1)
    with port_of(bench) as port:
        assert port.read(100) == b""
        assert greeted(port) != 0


def test_a_read_without_a_timeout_waits_for_what_another_thread_writes(bench: Any) -> None:
    with port_of(bench) as port:
        port.timeout = None
        threading.Timer(0.1, lambda: port.write(HELLO)).start()
        assert len(port.read(8)) == 8


def test_in_wall_time_a_line_takes_the_computers_time() -> None:
    bench = opened(board__simulation__clock="wall")
    with port_of(bench) as port:
        assert greeted(port) != 0
        began_s = time.monotonic()
        port.timeout = 0.2
        assert port.read(1) == b""
        assert 0.19 <= time.monotonic() - began_s < 2
        began_s = time.monotonic()
        port.write(HELLO)
        port.timeout = 5
        assert port.read(1) != b""
        assert 0.01 <= time.monotonic() - began_s < 2, "124 bytes at 115200 baud"
    bench.close()


def test_another_speed_than_the_boards_is_noise_both_ways(bench: Any) -> None:
    with port_of(bench, baud=230_400) as port:
        port.write(HELLO * 3)
        bench.clock.sleep(0.1)
        port.baudrate = 115_200
        session = greeted(port)
        port.write(frames.encode(Request(Op.STATUS, 5, session)))
        bench.clock.sleep(0.003)  # the request has arrived, the reply is on its way
        port.baudrate = 57_600
        assert heard(port) == []
        port.baudrate = 116_000
        port.write(frames.encode(Request(Op.STATUS, 6, session)))
        (reply,) = heard(port)
        status = BoardStatus.unpack(reply.payload)
        assert status.good == 3
        assert status.bad > 0


def test_a_faster_line_is_faster(bench: Any, port: Any) -> None:
    session = greeted(port)
    port.write(frames.encode(Request(Op.SPEED, 2, session, (12_000_000).to_bytes(4, "little"))))
    (reply,) = heard(port)
    port.baudrate = int.from_bytes(reply.payload, "little")
    began_s = bench.clock.now_s()
    port.write(b"".join(echo(n, session, bytes(400)) for n in range(4)))
    port.timeout = 1
    got = b""
    while got.count(0) < 4:
        got += port.read(1) + port.read(port.in_waiting)
    bits = 10 * (4 * 400 + 5 * 20 + 400)
    assert bench.clock.now_s() - began_s == pytest.approx(bits / 12e6 + 2 * LATENCY_S, rel=0.1)


# -- faults -----------------------------------------------------------------------------------------------------------


def talk(n: int = 600, **faults: Any) -> tuple[dict[str, int], list[Reply], BoardStatus]:
    """So many echoes, one by one, over a line with faults; then all replies, and the board's own count."""
    bench = opened(**{f"board__simulation__{name}": value for name, value in faults.items()})
    with port_of(bench) as port:
        replies: list[Reply] = []
        while not replies:
            port.write(b"\0" + HELLO)
            replies = heard(port)
        session = replies[0].session
        got: list[Reply] = []
        for k in range(n):
            port.write(echo(k, session))
            got += heard(port, 0.01)
        status = BoardStatus(*[0] * 12)
        for _ in range(50):
            port.write(b"\0" + frames.encode(Request(Op.STATUS, 65535, session)))
            found = [one for one in heard(port) if one.tag == 65535]
            if found:
                status = BoardStatus.unpack(found[0].payload)
                break
    counts: dict[str, int] = bench.line.count()
    bench.close()
    return counts, got, status


def test_a_line_without_faults_loses_nothing() -> None:
    counts, got, status = talk()
    assert counts == {}
    assert [reply.tag for reply in got] == list(range(600))
    assert status.bad == 0


@pytest.mark.parametrize("kind", ["lost", "corrupted"])
def test_frames_are_lost_or_corrupted_both_ways_at_the_given_rate(kind: str) -> None:
    counts, got, status = talk(**{kind: 0.1})
    assert set(counts) == {kind}
    assert 80 <= counts[kind] <= 175
    assert 420 <= len(got) <= 540
    assert all(reply.payload == b"hello" for reply in got)
    assert (status.bad > 20) == (kind == "corrupted")


def test_duplicates_are_answered_twice_also_late_ones() -> None:
    counts, got, _ = talk(300, duplicated=0.2, delay_s=0.004)
    tags = [reply.tag for reply in got if reply.payload == b"hello"]
    assert set(counts) == {"duplicated"}
    assert len(tags) == pytest.approx(300 + counts["duplicated"], abs=25)
    assert set(tags) == set(range(300))


def test_a_delayed_frame_holds_up_what_is_behind_it() -> None:
    counts, got, _ = talk(300, delayed=0.1, delay_s=0.015)
    assert set(counts) == {"delayed"}
    tags = [reply.tag for reply in got]
    assert tags == sorted(tags)
    assert len(tags) >= 298


def test_the_same_seed_gives_the_same_faults() -> None:
    rates = {"lost": 0.05, "corrupted": 0.05, "duplicated": 0.05, "delayed": 0.05}
    first, second = talk(150, **rates), talk(150, **rates)
    assert first[0] == second[0]
    assert [r.tag for r in first[1]] == [r.tag for r in second[1]]
    assert talk(150, **rates, fault_seed=1)[0] != first[0]


def test_requests_beyond_the_memory_for_requests_are_lost() -> None:
    bench = opened(board__simulation__rx_bytes=1024)
    with port_of(bench) as port:
        session = greeted(port)
        port.write(frames.encode(Request(Op.SPEED, 2, session, (1_000_000).to_bytes(4, "little"))))
        heard(port)
        port.baudrate = 1_000_000
        status = [frames.encode(Request(Op.STATUS, n, session)) for n in range(200)]
        port.write(b"".join(status))  # a reply is three times as long as its request
        replies = heard(port)
        lost = bench.line.count()["overflow"]
        assert len(replies) == 200 - lost
        assert 10 < lost < 180
        port.write(b"".join(status[: 1024 // len(status[0])]))
        assert len(heard(port)) == 1024 // len(status[0])
    bench.close()


def test_a_restart_cuts_off_what_is_being_sent_and_what_arrives(bench: Any, port: Any) -> None:
    session = greeted(port)
    port.write(echo(7, session, bytes(range(1, 101))))
    bench.clock.sleep(112 * PER_BYTE_S + 60 * PER_BYTE_S)
    bench.board.reboot()
    port.write(HELLO)
    (reply,) = heard(port)
    assert reply.op == Op.HELLO
    port.write(echo(8, reply.session, bytes(range(1, 101))))
    bench.clock.sleep(50 * PER_BYTE_S)
    bench.board.reboot()
    assert heard(port) == []
    session = greeted(port)
    port.write(frames.encode(Request(Op.STATUS, 9, session)))
    (reply,) = heard(port)
    status = BoardStatus.unpack(reply.payload)
    assert (status.good, status.bad) == (2, 1), "the rest of the frame that was on the line"


# -- for other programs -----------------------------------------------------------------------------------------------


def wall(**overrides: Any) -> Any:
    return opened(board__simulation__clock="wall", **overrides)


@pytest.fixture(params=["wall", "virtual"])
def server(request: Any) -> Iterator[TcpBoard]:
    bench = opened(board__simulation__clock=request.param)
    served = TcpBoard(bench)
    yield served
    served.close()
    bench.close()


def client_of(server: TcpBoard) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=5)


def asked(peer: socket.socket, *requests: Request) -> list[Reply]:
    """The replies by their tags: a line still brings what the board says to a client that has gone."""
    peer.sendall(b"\0" + b"".join(frames.encode(one) for one in requests))
    deframer, found, tags = frames.Deframer(), {}, [one.tag for one in requests]
    while not found.keys() >= set(tags):
        found |= {reply.tag: reply for reply in deframer.feed(peer.recv(65536))}
    return [found[tag] for tag in tags]


def test_a_socket_carries_the_same_bytes_for_one_client_after_another(server: TcpBoard) -> None:
    with client_of(server) as first:
        (reply,) = asked(first, Request(Op.HELLO, 1, 0, b"abcd"))
    for n in range(3):
        with client_of(server) as peer:
            again, echoed = asked(
                peer, Request(Op.HELLO, n, 0, b"wxyz"), Request(Op.ECHO, 9, reply.session, b"x" * 400)
            )
            assert (again.session, echoed.payload) == (reply.session, b"x" * 400)


def test_pyserial_speaks_to_it_by_socket_url(server: TcpBoard) -> None:
    with serial.serial_for_url(server.url, timeout=5) as port:
        port.write(HELLO)
        assert port.read_until(b"\0").count(0) == 1


def test_a_client_that_vanishes_changes_nothing_and_its_last_bytes_are_executed(server: TcpBoard) -> None:
    with client_of(server) as peer:
        (hello,) = asked(peer, Request(Op.HELLO, 1, 0, b"abcd"))
        peer.sendall(frames.encode(Request(Op.FENCE, 2, hello.session, b"\1\0")) + HELLO[:6])
    with client_of(server) as peer:
        (status,) = asked(peer, Request(Op.STATUS, 3, hello.session))
        assert status.status == Status.OK
        assert BoardStatus.unpack(status.payload).fired == 1


def test_a_second_client_waits_for_the_first(server: TcpBoard) -> None:
    with client_of(server) as first, client_of(server) as second:
        asked(first, Request(Op.HELLO, 1, 0, b"abcd"))
        second.sendall(HELLO)
        second.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.recv(1)
        first.close()
        second.settimeout(5)
        assert second.recv(1)


def test_a_taken_port_is_told() -> None:
    bench = wall()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="cannot be used"):
            TcpBoard(bench, taken.getsockname()[1])
    bench.close()


def test_an_idle_server_hardly_uses_the_computer() -> None:
    bench = wall()
    server = TcpBoard(bench)
    began_s = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - began_s < 0.15
    server.close()
    bench.close()


def test_the_watchdog_of_a_served_board_grounds_the_lines_when_the_host_is_gone() -> None:
    bench = wall()
    server = TcpBoard(bench)
    program = pulses(record(b"\x01", repeat=60_000))
    with client_of(server) as peer:
        (hello,) = asked(peer, Request(Op.HELLO, 1, 0, b"abcd"))
        limits = frames.LimitRegisters(20000, 20000, 12000, 30000, 48, 10**7, 4_800_000)
        crc = zlib.crc32(program)
        asked(
            peer, Request(Op.LIMITS, 2, hello.session, limits.pack()),
            Request(Op.UPLOAD, 3, hello.session, frames.UPLOAD.pack(1, 0) + program),
            Request(Op.ARM, 4, hello.session, frames.ARM.pack(1, len(program), crc)),
        )  # fmt: skip
        peer.sendall(frames.encode(Request(Op.FIRE, 5, hello.session, frames.FIRE.pack(1, crc))))
        time.sleep(0.03)
    time.sleep(0.3)
    with bench.time.lock:
        assert not bench.board.firing
        assert bench.board.lines_grounded
        fired = bench.board.pulses_fired()
    assert 50 <= fired <= 99, "100 ms of silence, a pulse a millisecond"
    server.close()
    bench.close()


def test_a_pseudo_terminal_carries_the_same_bytes() -> None:
    bench = wall()
    served = TerminalBoard(bench)
    with serial.Serial(served.url, baudrate=1_000_000, timeout=5) as port:
        port.write(b"\0" + HELLO)
        (reply,) = frames.Deframer().feed(port.read_until(b"\0"))
        port.write(echo(3, reply.session, bytes(range(256))))
        (back,) = frames.Deframer().feed(port.read_until(b"\0"))
        assert back.payload == bytes(range(256))
    with serial.Serial(served.url, timeout=5) as port:
        port.write(b"\0" + HELLO)
        (again,) = frames.Deframer().feed(port.read_until(b"\0"))
        assert again.session == reply.session
    served.close()
    assert not Path(served.url).exists()
    bench.close()
