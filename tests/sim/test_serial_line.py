"""Simulated instruments on pseudo-terminals, reached by pyserial and by pyvisa-py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pyvisa
import serial
from blinker import Blinker, Nowhere, blinker
from neurobench.sim_instruments.serve.line import Line, Pace
from neurobench.sim_instruments.serve.serial_line import SerialPort
from neurobench.sim_instruments.serve.tcp import TcpServer


class Wired:
    """A blinker on a pseudo-terminal."""

    def __init__(self) -> None:
        self.world = Nowhere(wall=True)
        self.instrument: Blinker = blinker(self.world)
        self.line = Line(self.instrument, Pace(self.world))
        self.port = SerialPort(self.line)


@pytest.fixture
def wired() -> Iterator[Wired]:
    made = Wired()
    yield made
    made.line.close()
    made.port.close()


def test_pyserial_asks(wired: Wired) -> None:
    for _ in range(2):  # one client after another
        with serial.Serial(wired.port.path, 115200, timeout=2) as port:
            port.write(b"*IDN?\n")
            assert port.readline() == b"ACME,Blinker,NBSIM900,1.0\n"
            port.write(b"SE")
            time.sleep(0.01)
            port.write(b"T 4\nGET?\n")
            assert port.readline() == b"4\n"


def test_all_bytes_come_through(wired: Wired) -> None:
    with serial.Serial(wired.port.path, timeout=2) as port:
        port.write(b"BLOCK?\n")
        assert port.read(262) == b"#3256" + bytes(range(256)) + b"\n"
        word = bytes(n for n in range(256) if n not in b"\r\n#")
        port.write(b"SET " + word + b"\n")
        port.write(b"GET?\n")
        assert port.read(len(word) + 1) == word + b"\n"


def test_pyvisa_py_asks(wired: Wired) -> None:
    assert wired.port.resource == f"ASRL{wired.port.path}::INSTR"
    resource: Any = pyvisa.ResourceManager("@py").open_resource(
        wired.port.resource, read_termination="\n", write_termination="\n"
    )
    assert resource.query("*IDN?") == "ACME,Blinker,NBSIM900,1.0"
    assert resource.query_binary_values("BLOCK?", datatype="B") == list(range(256))
    resource.close()


def test_a_serial_line_and_a_socket_may_share_an_instrument(wired: Wired) -> None:
    server = TcpServer({"pulse": wired.line})
    resource: Any = pyvisa.ResourceManager("@py").open_resource(
        server.resources["pulse"], read_termination="\n", write_termination="\n"
    )
    with serial.Serial(wired.port.path, timeout=2) as port:
        port.write(b"SET by wire\n*IDN?\n")
        assert port.readline().startswith(b"ACME")
        assert resource.query("GET?") == "by wire"
    resource.close()
    server.close()


def test_a_closed_port_is_taken_away() -> None:
    made = Wired()
    path = Path(made.port.path)
    assert path.exists()
    made.port.close()
    assert not path.exists()
