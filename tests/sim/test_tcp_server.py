"""Simulated instruments on sockets: pieces, blocks, several clients, clients that vanish, and how fast it is."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import pyvisa
from blinker import Blinker, Nowhere, blinker
from hypothesis import given
from hypothesis import strategies as st
from neurobench.sim_instruments.serve.line import Line, Lines, Pace, Ticker
from neurobench.sim_instruments.serve.tcp import TcpServer

from neurobench.errors import UsageError


class Served:
    """A blinker on a socket."""

    def __init__(self, wall: bool, round_trip_s: float = 0.0) -> None:
        self.world = Nowhere(wall=wall)
        self.instrument = blinker(self.world)
        self.line = Line(self.instrument, Pace(self.world), round_trip_s)
        self.server = TcpServer({"pulse": self.line})
        self.name = self.server.resources["pulse"]
        self.address = ("127.0.0.1", int(self.name.split("::")[2]))

    def connect(self) -> Client:
        return Client(self.address)

    def close(self) -> None:
        self.line.close()
        self.server.close()


class Client:
    """A raw socket that reads lines."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> bytes:
        self.say(data)
        return self.file.readline()

    def close(self, abruptly: bool = False) -> None:
        if abruptly:  # a reset instead of an end
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self.socket.close()


@pytest.fixture(params=[True, False], ids=["wall", "instant"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    made = Served(request.param)
    yield made
    made.close()


def until(true: Any, seconds: float = 5.0) -> None:
    end_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.005)


def test_a_client_asks(served: Served) -> None:
    client = served.connect()
    assert client.ask(b"*IDN?\n") == b"ACME,Blinker,NBSIM900,1.0\n"
    assert client.ask(b"SET 4\nGET?\n") == b"4\n"
    client.close()


def test_lines_come_in_pieces(served: Served) -> None:
    client = served.connect()
    for byte in b"*IDN?\nGE":
        client.say(bytes([byte]))
        time.sleep(0.001)
    assert client.file.readline().startswith(b"ACME")
    assert served.instrument.seen == [b"*IDN?"]
    assert client.ask(b"T?\n") == b"\n"
    client.close()


def test_blocks_and_all_bytes(served: Served) -> None:
    client = served.connect()
    client.say(b"BLOCK?\n")
    assert client.file.read(5 + 256 + 1) == b"#3256" + bytes(range(256)) + b"\n"
    word = bytes(range(0x80, 0x100))
    client.say(b"SET " + word + b"\n")
    assert client.ask(b"GET?\n") == word + b"\n"
    client.close()


def test_what_was_set_survives_a_client_and_half_a_line_does_not(served: Served) -> None:
    for abruptly in (False, True):
        client = served.connect()
        client.ask(b"SET kept\nGET?\n")
        client.say(b"SET lo")
        client.close(abruptly)
        other = served.connect()
        assert other.ask(b"GET?\n") == b"kept\n"
        other.close()


def test_a_client_that_does_not_wait_for_its_answer_leaves_none_behind(served: Served) -> None:
    for abruptly in (False, True):
        client = served.connect()
        client.say(b"*IDN?\n")
        client.close(abruptly)
    until(lambda: len(served.instrument.seen) >= 1)
    other = served.connect()
    assert other.ask(b"GET?\n") == b"\n"
    other.close()


def test_several_clients_at_once_get_their_own_answers(served: Served) -> None:
    wrong: list[bytes] = []

    def talk(n: int) -> None:
        client = served.connect()
        for k in range(50):
            word = f"{n}-{k}".encode()
            if (said := client.ask(b"SET " + word + b"\nGET?\n")) != word + b"\n":
                wrong.append(said)
        client.close()

    threads = [threading.Thread(target=talk, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert len(served.instrument.seen) == 400


def test_a_late_answer_goes_to_the_one_that_asked(served: Served) -> None:
    first, second = served.connect(), served.connect()
    first.say(b"LATER? 0.1\n")
    until(lambda: served.instrument.seen)
    second.say(b"*IDN?\n")
    assert first.file.readline() == b"late\n"
    assert second.file.readline().startswith(b"ACME")
    first.close()
    second.close()


def test_a_client_that_vanishes_while_it_waits_frees_the_instrument(served: Served) -> None:
    first = served.connect()
    first.say(b"LATER? 1000\n")
    until(lambda: served.instrument.seen)
    first.close()
    second = served.connect()
    assert second.ask(b"*IDN?\n").startswith(b"ACME")
    second.close()


def test_an_answer_that_is_too_late_for_its_client_is_dropped() -> None:
    served = Served(wall=True)
    first = served.connect()
    with served.world.lock:  # the answer is made while the lock is held here, and delayed before it is sent
        first.say(b"*IDN?\n")
        served.instrument.receive(b"*IDN?\n")
        served.instrument.replies[0].ready_ps += 100 * 10**12
    until(lambda: len(served.instrument.seen) == 2)
    first.close()
    second = served.connect()
    assert second.ask(b"GET?\n") == b"\n"
    second.close()
    served.close()


def test_a_client_may_close_its_own_direction_before_the_answer() -> None:
    served = Served(wall=True, round_trip_s=0.1)
    client = served.connect()
    client.say(b"*IDN?\n")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.file.readline().startswith(b"ACME")
    client.close()
    served.close()


def test_closing_ends_waiting_clients(served: Served) -> None:
    client = served.connect()
    client.say(b"LATER? 1000\n")
    until(lambda: served.instrument.seen)
    began_s = time.monotonic()
    served.close()
    assert time.monotonic() - began_s < 2
    with contextlib.suppress(ConnectionError):
        assert client.file.read() == b""
    client.close()


def test_instant_time_does_not_block_and_keeps_up_with_the_clients_clock() -> None:
    served = Served(wall=False)
    client = served.connect()
    began_s = time.monotonic()
    client.ask(b"SLEEP 100\n*IDN?\n")
    assert time.monotonic() - began_s < 2
    assert served.world.now_s() >= 100
    before_s = served.world.now_s()
    time.sleep(0.05)
    client.ask(b"*IDN?\n")
    assert served.world.now_s() - before_s >= 0.05
    client.close()
    served.close()


def test_a_round_trip_takes_its_time() -> None:
    served = Served(wall=True, round_trip_s=0.02)
    client = served.connect()
    began_s = time.monotonic()
    for _ in range(3):
        client.ask(b"*IDN?\n")
    assert 0.06 <= time.monotonic() - began_s < 1
    client.close()
    served.close()


def test_a_write_and_a_query_do_not_wait_for_each_other() -> None:
    """The 40 ms of Nagle's algorithm and a delayed acknowledgement, measured on pyvisa-py, are not there."""
    served = Served(wall=True)
    resource: Any = pyvisa.ResourceManager("@py").open_resource(
        served.name, read_termination="\n", write_termination="\n"
    )
    resource.query("*IDN?")
    times_s = []
    for k in range(20):
        began_s = time.monotonic()
        resource.write(f"SET {k}")
        assert resource.query("GET?") == str(k)
        times_s.append(time.monotonic() - began_s)
    assert sorted(times_s)[10] < 0.02
    resource.close()
    served.close()


def test_every_instrument_has_its_port_and_a_taken_one_is_said() -> None:
    world = Nowhere(wall=True)
    made: list[Blinker] = [blinker(world, f"NBSIM90{n}") for n in range(3)]
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    base = free.getsockname()[1]
    lines = {f"i{n}": Line(one, Pace(world)) for n, one in enumerate(made)}
    with pytest.raises(UsageError, match=f"port {base} on 127.0.0.1"):
        TcpServer(lines, port_base=base)
    free.close()
    server = TcpServer(lines)
    for n, name in enumerate(server.resources.values()):
        client = Client(("127.0.0.1", int(name.split("::")[2])))
        assert client.ask(b"*IDN?\n") == f"ACME,Blinker,NBSIM90{n},1.0\n".encode()
        client.close()
    assert len(set(server.resources.values())) == 3
    server.close()


def test_wall_time_goes_on_while_nobody_speaks() -> None:
    world = Nowhere(wall=True)
    happened = threading.Event()
    ticker = Ticker(world)
    with world.lock:
        world.at(0.05, happened.set)
    assert happened.wait(2)
    ticker.stop()


@given(st.lists(st.sampled_from([b"A?\n", b"B 1;C 2\n", b"D #15a\nb\nc\n", b"\n", b"E #0x\n"])), st.data())
def test_messages_are_cut_the_same_however_they_come(messages: list[bytes], data: st.DataObject) -> None:
    text = b"".join(messages)
    lines, got, at = Lines(), list[bytes](), 0
    while at < len(text):
        size = data.draw(st.integers(1, 7))
        got += lines.add(text[at : at + size])
        at += size
    assert got == messages
