"""Faults between an instrument and its client: each does what it says, where it says, and is counted."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Any

import pytest
import pyvisa
from blinker import Blinker, Nowhere, blinker
from hypothesis import given
from hypothesis import strategies as st
from neurobench.sim_instruments.serve.faults import JUNK_ERRORS, Fault, FaultPlan, Faulty, garbled
from neurobench.sim_instruments.serve.line import Line, LineDropped, Pace
from neurobench.sim_instruments.serve.tcp import TcpServer
from neurobench.sim_instruments.serve.visalib import SimulatedVisa
from pyvisa.constants import StatusCode
from pyvisa.errors import VisaIOError

from neurobench.errors import UsageError

BUS, SOCKET = "GPIB0::7::INSTR", "TCPIP0::sim-blinker::5025::SOCKET"


def behind(plan: FaultPlan, name: str = SOCKET) -> tuple[Any, Blinker]:
    instrument = blinker()
    manager = pyvisa.ResourceManager(SimulatedVisa({name: Faulty(instrument, plan)}))
    return manager.open_resource(name, read_termination="\n", write_termination="\n", timeout=50), instrument


def lost(resource: Any, question: str) -> StatusCode:
    with pytest.raises(VisaIOError) as caught:
        resource.query(question)
    return caught.value.error_code


def kinds(plan: FaultPlan) -> list[tuple[int, Fault]]:
    return [(one.position, one.fault) for one in plan.injected]


def test_without_faults_nothing_changes() -> None:
    plan = FaultPlan.at({})
    resource, instrument = behind(plan)
    resource.write("SET 1\nSET 2")
    assert resource.query("GET?") == "2"
    assert resource.query_binary_values("BLOCK?", datatype="B") == list(range(256))
    assert plan.injected == []
    assert [(said.line, said.replies) for said in plan.dialogue] == [
        (b"SET 1\n", 0), (b"SET 2\n", 0), (b"GET?\n", 1), (b"BLOCK?\n", 1)
    ]  # fmt: skip
    assert instrument.seen[-1] == b"BLOCK?"


def test_a_lost_command_never_arrives() -> None:
    plan = FaultPlan.at({1: Fault.COMMAND_LOST})
    resource, instrument = behind(plan)
    resource.write("SET 1")
    resource.write("SET 2")
    assert resource.query("GET?") == "1"
    assert instrument.seen == [b"SET 1", b"GET?"]
    assert plan.injected[0].line == b"SET 2\n"
    assert kinds(plan) == [(1, Fault.COMMAND_LOST)]


def test_a_lost_reply_was_a_command_carried_out() -> None:
    plan = FaultPlan.at({1: Fault.REPLY_LOST})
    resource, instrument = behind(plan)
    resource.write("SET 1")
    assert lost(resource, "GET?") == StatusCode.error_timeout
    assert instrument.seen == [b"SET 1", b"GET?"]
    assert resource.query("GET?") == "1"
    assert instrument.status_byte() & 0x10 == 0


def test_a_late_reply_comes_after_all_and_is_stale() -> None:
    plan = FaultPlan.at({0: Fault.REPLY_LATE}, late_s=3.0)
    resource, instrument = behind(plan)
    assert lost(resource, "*IDN?") == StatusCode.error_timeout
    resource.timeout = 5000
    assert resource.query("COUNT?").startswith("ACME"), "the answer to the question before"
    assert instrument.world.now_s() == pytest.approx(3.0, rel=1e-12)
    assert resource.read() == "0"


def test_a_fault_of_a_reply_needs_a_reply() -> None:
    plan = FaultPlan.at(dict.fromkeys(range(10), Fault.REPLY_LOST))
    resource, _ = behind(plan)
    for k in range(4):
        resource.write(f"SET {k}")
    assert plan.injected == []
    lost(resource, "GET?")
    assert kinds(plan) == [(4, Fault.REPLY_LOST)]


def test_a_reply_that_comes_later_meets_the_fault_of_its_line() -> None:
    plan = FaultPlan.at({0: Fault.REPLY_LOST})
    resource, _ = behind(plan)
    resource.timeout = 2000
    assert lost(resource, "LATER? 1") == StatusCode.error_timeout
    assert kinds(plan) == [(0, Fault.REPLY_LOST)]


def test_a_garbled_reply_is_no_answer() -> None:
    for seed in range(20):
        plan = FaultPlan.at({1: Fault.REPLY_GARBLED}, seed=seed)
        resource, _ = behind(plan, BUS)
        resource.read_termination = None
        resource.write("SET 1.25e-6")
        resource.write("GET?")
        raw = resource.read_raw()
        with pytest.raises((UnicodeDecodeError, AssertionError)):
            assert raw.decode("ascii").endswith("\n")


def test_a_garbled_command_is_another_one() -> None:
    for seed in range(20):
        plan = FaultPlan.at({0: Fault.COMMAND_GARBLED}, seed=seed)
        resource, instrument = behind(plan)
        resource.write("SET 1")
        resource.write("GET?")
        assert instrument.seen[0] != b"SET 1"


@given(st.binary(max_size=40), st.integers(0, 1000))
def test_what_is_garbled_always_differs_and_cannot_pass_for_a_line_of_text(line: bytes, seed: int) -> None:
    line = bytes(byte & 0x7F for byte in line).replace(b"\n", b"") + b"\n"
    noisy = garbled(line, random.Random(seed))
    assert noisy != line
    assert not noisy.endswith(b"\n") or any(byte > 127 for byte in noisy)


@pytest.mark.parametrize(
    ("fault", "arrived"), [(Fault.DISCONNECT_BEFORE, [b"SET 1"]), (Fault.DISCONNECT_AFTER, [b"SET 1", b"GET?"])]
)
def test_a_cut_connection_stays_cut_until_it_is_opened_again(fault: Fault, arrived: list[bytes]) -> None:
    resource, instrument = behind(FaultPlan.at({1: fault}))
    resource.write("SET 1")
    assert lost(resource, "GET?") == StatusCode.error_connection_lost
    for call in (resource.read, resource.clear, resource.read_stb, lambda: resource.write("SET 2")):
        with pytest.raises(VisaIOError) as caught:
            call()
        assert caught.value.error_code == StatusCode.error_connection_lost
    assert instrument.seen == arrived
    resource.close()
    resource.open()
    resource.read_termination = "\n"
    assert resource.query("GET?") == "1"


@pytest.mark.parametrize(
    ("fault", "arrived"), [(Fault.REBOOT_BEFORE, [b"SET 1"]), (Fault.REBOOT_AFTER, [b"SET 1", b"GET?"])]
)
def test_a_reboot_forgets(fault: Fault, arrived: list[bytes]) -> None:
    resource, instrument = behind(FaultPlan.at({1: fault}))
    resource.write("SET 1")
    instrument.status.ese = 1
    assert lost(resource, "GET?") == StatusCode.error_timeout
    assert instrument.seen == arrived
    assert resource.query("GET?") == ""
    assert instrument.status.ese == 0


def test_an_overflowing_error_queue() -> None:
    plan = FaultPlan.at({1: Fault.QUEUE_OVERFLOW})
    resource, instrument = behind(plan)
    resource.write("SET 1")
    assert resource.query("GET?") == "1"
    assert len(instrument.status.errors) == instrument.ERROR_DEPTH < JUNK_ERRORS
    assert instrument.status.errors[-1].code == -350


def test_rates_are_met_and_a_seed_repeats() -> None:
    rates = {Fault.COMMAND_LOST: 0.1, Fault.REPLY_LOST: 0.05, Fault.REPLY_LATE: 0.05}

    def campaign(seed: int) -> list[tuple[int, Fault]]:
        plan = FaultPlan.drawn(rates, seed=seed, late_s=0.1)
        resource, _ = behind(plan, BUS)
        for _ in range(600):
            with contextlib.suppress(VisaIOError):
                resource.query("*IDN?")
            resource.clear()
        assert plan.count() == {
            kind: sum(one.fault == kind for one in plan.injected) for kind in Fault if kind in rates
        }
        return kinds(plan)

    first = campaign(1)
    assert first == campaign(1)
    assert first != campaign(2)
    # binomial: 600 lines, 0.2 in all, 5 sigma
    assert abs(len(first) - 120) < 5 * (600 * 0.2 * 0.8) ** 0.5


def test_bad_rates_are_refused() -> None:
    for rates in ({Fault.REPLY_LOST: 0.7, Fault.REPLY_LATE: 0.7}, {Fault.REPLY_LOST: -0.1}):
        with pytest.raises(UsageError, match="rates of faults"):
            FaultPlan.drawn(rates, seed=0)


def test_instruments_that_share_a_plan_have_one_dialogue() -> None:
    plan = FaultPlan.at({1: Fault.COMMAND_LOST})
    first, second = blinker(), blinker()
    for line, faulty in ((b"SET 1\n", Faulty(first, plan)), (b"SET 2\n", Faulty(second, plan))):
        faulty.receive(line)
    assert (first.value, second.value) == ("1", "")


def test_every_fault_at_every_position_of_a_dialogue() -> None:
    """Whatever is injected once, the dialogue goes on afterwards with answers to its own questions."""
    length = 5
    for fault in Fault:
        for position in range(length):
            plan = FaultPlan.at({position: fault}, seed=position)
            resource, _ = behind(plan, BUS)
            for _ in range(length):
                with contextlib.suppress(VisaIOError, UnicodeDecodeError):
                    resource.write("*IDN?")
                    resource.read_raw()
                if resource.visalib._device(resource.session).sessions[resource.session]:
                    resource.clear()
                else:
                    resource.close()
                    resource.open()
                    resource.read_termination = "\n"
            assert resource.query("COUNT?") == "0"
            assert kinds(plan) == [(position, fault)]


def test_faults_on_a_socket() -> None:
    world = Nowhere(wall=True)
    plan = FaultPlan.at({1: Fault.DISCONNECT_AFTER, 3: Fault.REPLY_LOST, 4: Fault.REPLY_GARBLED})
    instrument = blinker(world)
    line = Line(Faulty(instrument, plan), Pace(world))
    server = TcpServer({"pulse": line})
    address = ("127.0.0.1", int(server.resources["pulse"].split("::")[2]))
    with socket.create_connection(address, timeout=2) as client:
        client.sendall(b"*IDN?\n")
        assert client.recv(100).startswith(b"ACME")
        client.sendall(b"SET 1\n")
        with contextlib.suppress(ConnectionError):
            assert client.recv(100) == b""
    with socket.create_connection(address, timeout=2) as client:
        client.sendall(b"GET?\n")
        assert client.recv(100) == b"1\n"
        client.sendall(b"*IDN?\n")
        client.sendall(b"GET?\n")
        raw = client.recv(100)
        assert raw != b"1\n"
        assert not raw.startswith(b"ACME")
    assert [fault for _, fault in kinds(plan)] == [Fault.DISCONNECT_AFTER, Fault.REPLY_LOST, Fault.REPLY_GARBLED]
    line.close()
    server.close()


def test_a_dropped_line_is_an_error_of_the_connection() -> None:
    with pytest.raises(LineDropped, match="line 0 of the dialogue"):
        Faulty(blinker(), FaultPlan.at({0: Fault.DISCONNECT_BEFORE})).receive(b"SET 1\n")
