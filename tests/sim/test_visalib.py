"""The VISA library of simulated instruments: every trap of pyvisa-sim is met here, on every kind of resource."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import pyvisa
from blinker import Blinker, Nowhere, blinker
from neurobench.sim_instruments.serve.visalib import SimulatedVisa
from pyvisa.constants import AccessModes, BufferOperation, EventMechanism, EventType, ResourceAttribute, StatusCode
from pyvisa.errors import VisaIOError

KINDS = (
    "GPIB0::7::INSTR",
    "TCPIP0::sim-blinker::inst0::INSTR",
    "TCPIP0::sim-blinker::5025::SOCKET",
    "USB0::0x0957::0x4108::NBSIM900::0::INSTR",
    "ASRL3::INSTR",
)
BUSES = tuple(kind for kind in KINDS if "SOCKET" not in kind and "ASRL" not in kind)


def library(*names: str, wall: bool = False, round_trip_s: float = 0.0) -> tuple[pyvisa.ResourceManager, list[Blinker]]:
    world = Nowhere(wall=wall)
    made = [blinker(world, f"NBSIM{900 + n}") for n in range(len(names))]
    return pyvisa.ResourceManager(SimulatedVisa(dict(zip(names, made, strict=True)), round_trip_s=round_trip_s)), made


def opened(manager: pyvisa.ResourceManager, name: str, **more: Any) -> Any:
    settings = {"read_termination": "\n", "write_termination": "\n", "timeout": 200} | more
    return manager.open_resource(name, **settings)


@pytest.fixture(params=KINDS)
def one(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Blinker]]:
    """An open resource of each kind, and its instrument."""
    manager, (instrument,) = library(request.param)
    yield opened(manager, request.param), instrument
    manager.close()


def fails_with(code: StatusCode, call: Any) -> None:
    with pytest.raises(VisaIOError) as caught:
        call()
    assert caught.value.error_code == code


def test_a_query_is_answered(one: tuple[Any, Blinker]) -> None:
    resource, instrument = one
    assert resource.query("*IDN?") == "ACME,Blinker,NBSIM900,1.0"
    assert instrument.seen == [b"*IDN?"]
    assert resource.last_status == StatusCode.success or resource.last_status > 0


def test_two_lines_in_one_write(one: tuple[Any, Blinker]) -> None:
    resource, instrument = one
    resource.write("SET 1\nSET 2")
    assert resource.query("GET?") == "2"
    assert instrument.seen == [b"SET 1", b"SET 2", b"GET?"]


def test_a_line_in_pieces() -> None:
    manager, (instrument,) = library(KINDS[2])
    socket = opened(manager, KINDS[2])
    for piece in (b"*I", b"DN", b"?\n"):
        socket.write_raw(piece)
    assert socket.read().startswith("ACME")
    assert instrument.seen == [b"*IDN?"]


@pytest.mark.parametrize("name", BUSES)
def test_the_end_of_a_write_ends_the_message_on_a_bus(name: str) -> None:
    manager, (instrument,) = library(name)
    resource = opened(manager, name)
    resource.write_raw(b"*IDN?")
    assert resource.read().startswith("ACME")
    assert instrument.seen == [b"*IDN?"]


def test_blocks_and_bytes_beyond_127_come_through(one: tuple[Any, Blinker]) -> None:
    resource, instrument = one
    assert resource.query_binary_values("BLOCK?", datatype="B") == list(range(256))
    word = bytes(range(0x80, 0x100))
    resource.write_raw(b"SET " + word + b"\n")
    resource.write("GET?")
    assert resource.read_raw() == word + b"\n"
    assert instrument.seen[-2] == b"SET " + word


def test_reads_by_count_leave_the_rest(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    resource.write("*IDN?")
    assert resource.read_bytes(4) == b"ACME"
    assert resource.read_bytes(1) == b","
    assert resource.read() == "Blinker,NBSIM900,1.0"


def test_a_small_chunk_size_reads_the_whole_answer(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    resource.chunk_size = 20
    assert resource.query_binary_values("BLOCK?", datatype="B") == list(range(256))


def test_a_read_without_an_answer_ends_by_the_benchs_time(one: tuple[Any, Blinker]) -> None:
    resource, instrument = one
    resource.timeout = 5000
    began_s, before_s = time.monotonic(), instrument.world.now_s()
    fails_with(StatusCode.error_timeout, resource.read)
    assert instrument.world.now_s() - before_s == pytest.approx(5.0, rel=1e-12)
    assert time.monotonic() - began_s < 1.0


def test_a_late_answer_is_waited_for_until_it_is_there_and_no_longer(one: tuple[Any, Blinker]) -> None:
    resource, instrument = one
    resource.timeout = 5000
    assert resource.query("LATER? 3") == "late"
    assert instrument.world.now_s() == pytest.approx(3.0, rel=1e-12)


def test_a_bus_notes_a_read_of_nothing_once_per_question_and_a_stream_does_not() -> None:
    for name in KINDS:
        manager, _ = library(name)
        resource = opened(manager, name)
        resource.write("SET 1")
        for _ in range(3):
            fails_with(StatusCode.error_timeout, resource.read)
        assert resource.query("ERR?") == ("-420" if name in BUSES else "0")
        assert resource.query("ERR?") == "0"


def test_a_round_trip_takes_its_time() -> None:
    manager, (instrument,) = library(KINDS[0], round_trip_s=1e-3)
    resource = opened(manager, KINDS[0])
    for _ in range(5):
        resource.query("GET?")
    assert instrument.world.now_s() == pytest.approx(5e-3, rel=1e-12)


def test_wall_time_is_waited_for() -> None:
    manager, _ = library(KINDS[0], wall=True)
    resource = opened(manager, KINDS[0], timeout=60)
    began_s = time.monotonic()
    fails_with(StatusCode.error_timeout, resource.read)
    assert 0.06 <= time.monotonic() - began_s < 0.5
    began_s = time.monotonic()
    resource.timeout = 1000
    assert resource.query("LATER? 0.05") == "late"
    assert 0.05 <= time.monotonic() - began_s < 0.5


def test_virtual_time_may_keep_pace_with_a_client_that_polls() -> None:
    instrument = blinker()
    manager = pyvisa.ResourceManager(SimulatedVisa({KINDS[0]: instrument}, keeps_pace=True))
    resource = opened(manager, KINDS[0])
    resource.write("SRQ 0.05")
    assert not resource.read_stb() & 0x20
    time.sleep(0.06)
    assert resource.read_stb() & 0x20
    resource.write("SLEEP 1000")
    assert 1000.05 < instrument.world.now_s() < 1010


def test_resources_that_are_not_there_are_refused() -> None:
    manager, _ = library(KINDS[0])
    fails_with(StatusCode.error_resource_not_found, lambda: manager.open_resource("GPIB0::8::INSTR"))
    fails_with(StatusCode.error_resource_not_found, lambda: manager.open_resource("TCPIP::nowhere::5025::SOCKET"))
    with pytest.raises((VisaIOError, pyvisa.rname.InvalidResourceName)):
        manager.open_resource("no such thing")


def test_short_and_differently_written_names_are_the_same_resource() -> None:
    manager, _ = library(*KINDS)
    for name in ("GPIB::7", "gpib0::7", "TCPIP::SIM-BLINKER::INSTR", "ASRL3", "USB::0x0957::0x4108::NBSIM900"):
        assert opened(manager, name).query("*IDN?").startswith("ACME")


def test_resources_are_listed() -> None:
    manager, _ = library(*KINDS)
    assert set(manager.list_resources("?*")) == set(KINDS)
    assert set(manager.list_resources()) == {name for name in KINDS if name.endswith("INSTR")}
    assert manager.list_resources("USB?*") == (KINDS[3],)
    assert manager.list_resources("VXI?*") == ()


def test_libraries_share_nothing_also_after_closing() -> None:
    first, (a,) = library(KINDS[0])
    second, (b,) = library(KINDS[0])
    assert first.visalib is not second.visalib
    opened(first, KINDS[0]).write("SET mine")
    assert opened(second, KINDS[0]).query("GET?") == ""
    first.close()
    third, _ = library(KINDS[0])
    assert opened(third, KINDS[0]).query("GET?") == ""
    assert opened(second, KINDS[0]).query("GET?") == ""
    assert (a.value, b.value) == ("mine", "")


def test_a_library_is_opened_again_with_its_instruments_and_empty_buffers() -> None:
    manager, (_instrument,) = library(KINDS[0])
    resource = opened(manager, KINDS[0])
    resource.write("SET kept")
    resource.write("*IDN?")
    visa = manager.visalib
    manager.close()
    assert visa.sessions == {}
    again = opened(pyvisa.ResourceManager(visa), KINDS[0])
    assert again.query("GET?") == "kept"


def test_a_closed_session_is_invalid(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    visa, session = resource.visalib, resource.session
    resource.close()
    for call in (
        lambda: visa.read(session, 1), lambda: visa.write(session, b"x"), lambda: visa.clear(session),
        lambda: visa.read_stb(session), lambda: visa.lock(session, pyvisa.constants.Lock.exclusive, 0),
    ):  # fmt: skip
        fails_with(StatusCode.error_invalid_object, call)


def test_device_clear_empties_the_buffers_and_nothing_else(one: tuple[Any, Blinker]) -> None:
    resource, instrument = one
    resource.write("SET kept")
    resource.write("*IDN?")
    instrument.receive(b"half a li")
    resource.clear()
    assert resource.query("GET?") == "kept"


def test_device_clear_breaks_a_wait(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    resource.write("LATER? 1000")
    resource.clear()
    assert resource.query("*IDN?").startswith("ACME")


def test_what_is_under_way_in_a_stream_survives_a_clear_and_on_a_bus_not() -> None:
    for name in KINDS:
        manager, (instrument,) = library(name)
        resource = opened(manager, name)
        resource.write("*IDN?")
        instrument.replies[0].ready_ps += 10**12
        resource.clear()
        assert len(instrument.replies) == (0 if name in BUSES else 1)


def test_a_trigger_reaches_the_instrument(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    resource.assert_trigger()
    resource.assert_trigger()
    assert resource.query("COUNT?") == "2"


def test_serial_poll_and_service_request(one: tuple[Any, Blinker]) -> None:
    resource, instrument = one
    assert resource.read_stb() & 0x40 == 0
    resource.enable_event(EventType.service_request, EventMechanism.queue)
    resource.write("SRQ 2.5")
    resource.wait_on_event(EventType.service_request, 10_000)
    assert instrument.world.now_s() == pytest.approx(2.5, rel=1e-12)
    assert resource.stb & 0x60 == 0x60
    assert resource.read_stb() & 0x60 == 0x20, "a poll takes the request back"
    fails_with(StatusCode.error_timeout, lambda: resource.wait_on_event(EventType.service_request, 500))
    assert resource.wait_on_event(EventType.service_request, 500, capture_timeout=True).timed_out
    resource.disable_event(EventType.service_request, EventMechanism.queue)
    fails_with(StatusCode.error_not_enabled, lambda: resource.wait_on_event(EventType.service_request, 500))


def test_wait_for_srq_of_gpib() -> None:
    manager, (instrument,) = library(KINDS[0])
    resource = opened(manager, KINDS[0])
    resource.write("SRQ 0.05")
    resource.wait_for_srq(timeout=1000)
    assert instrument.world.now_s() == pytest.approx(0.05, rel=1e-12)
    with pytest.raises(VisaIOError):
        resource.wait_for_srq(timeout=10)


def test_events_without_meaning_are_refused(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    fails_with(StatusCode.error_invalid_event, lambda: resource.enable_event(EventType.trig, EventMechanism.queue))
    fails_with(
        StatusCode.error_nonsupported_mechanism,
        lambda: resource.enable_event(EventType.service_request, EventMechanism.handler),
    )


def test_an_exclusive_lock_keeps_others_out(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    other = resource._resource_manager.open_resource(resource.resource_name, read_termination="\n")
    with resource.lock_context():
        assert resource.query("*IDN?").startswith("ACME")
        for call in (lambda: other.write("SET 1"), other.read, other.clear, other.read_stb, other.assert_trigger):
            fails_with(StatusCode.error_resource_locked, call)
        fails_with(StatusCode.error_timeout, lambda: other.lock_excl(timeout=20))
    other.lock_excl(timeout=20)
    other.unlock()
    fails_with(StatusCode.error_session_not_locked, other.unlock)


def test_a_shared_lock_is_shared_by_its_key(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    manager, name = resource._resource_manager, resource.resource_name
    friend, stranger = opened(manager, name), opened(manager, name)
    key = resource.lock(timeout=20)
    assert friend.lock(timeout=20, requested_key=key) == key
    assert friend.query("*IDN?").startswith("ACME")
    fails_with(StatusCode.error_resource_locked, lambda: stranger.write("SET 1"))
    fails_with(StatusCode.error_timeout, lambda: stranger.lock(timeout=20, requested_key="another"))
    resource.unlock()
    fails_with(StatusCode.error_resource_locked, lambda: stranger.write("SET 1"))
    friend.close()
    stranger.write("SET 1")


def test_locks_nest(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    other = opened(resource._resource_manager, resource.resource_name)
    resource.lock_excl(timeout=0)
    resource.lock_excl(timeout=0)
    resource.unlock()
    fails_with(StatusCode.error_resource_locked, lambda: other.write("SET 1"))
    resource.unlock()
    other.write("SET 1")


def test_a_lock_is_waited_for(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    other = opened(resource._resource_manager, resource.resource_name)
    resource.lock_excl()
    later = threading.Timer(0.05, resource.unlock)
    later.start()
    other.lock_excl(timeout=2000)
    later.join()
    other.unlock()


def test_opening_may_lock() -> None:
    manager, _ = library(KINDS[0])
    first = opened(manager, KINDS[0], access_mode=AccessModes.exclusive_lock, open_timeout=20)
    fails_with(
        StatusCode.error_timeout,
        lambda: manager.open_resource(KINDS[0], access_mode=AccessModes.exclusive_lock, open_timeout=20),
    )
    first.close()
    opened(manager, KINDS[0], access_mode=AccessModes.exclusive_lock, open_timeout=20).query("*IDN?")


def test_flush_drops_what_has_arrived(one: tuple[Any, Blinker]) -> None:
    resource, _ = one
    resource.write("*IDN?")
    resource.flush(BufferOperation.flush_write_buffer)
    assert resource.read().startswith("ACME")
    resource.write("*IDN?")
    resource.flush(BufferOperation.discard_read_buffer)
    assert resource.query("GET?") == ""


def test_an_error_inside_an_instrument_is_not_hidden() -> None:
    class Broken(Blinker):
        def receive(self, data: bytes) -> None:
            raise AttributeError("a fault in the device")

    manager = pyvisa.ResourceManager(SimulatedVisa({KINDS[0]: blinker()}))
    resource = opened(manager, KINDS[0])
    resource.visalib.devices[KINDS[0]].instrument.__class__ = Broken
    with pytest.raises(AttributeError, match="a fault in the device"):
        resource.write("*IDN?")


def test_the_gpib_termination_character_is_a_line_feed() -> None:
    manager, _ = library("GPIB3::7::INSTR")
    resource: Any = manager.open_resource("GPIB3::7::INSTR")
    assert resource.get_visa_attribute(ResourceAttribute.termchar) == 10


def test_waiting_bytes_of_a_serial_line_are_counted() -> None:
    manager, _ = library(KINDS[4])
    resource = opened(manager, KINDS[4])
    assert resource.bytes_in_buffer == 0
    resource.write("*IDN?")
    assert resource.bytes_in_buffer == len("ACME,Blinker,NBSIM900,1.0\n")


def test_a_stream_waits_for_the_termination_character_and_keeps_what_it_has() -> None:
    manager, (instrument,) = library(KINDS[2])
    socket = opened(manager, KINDS[2], timeout=50)
    socket.write("*IDN?")
    instrument.replies[0].data = b"ACM"  # the rest was lost on the way
    fails_with(StatusCode.error_timeout, socket.read)
    assert socket.query("COUNT?") == "ACM0"


def test_a_bus_gives_a_cut_message_as_it_is() -> None:
    manager, (instrument,) = library(KINDS[0])
    resource = opened(manager, KINDS[0], read_termination=None)
    resource.write("*IDN?")
    instrument.replies[0].data = b"ACM"
    assert resource.read_raw() == b"ACM"


def test_instruments_are_used_from_several_threads_at_once() -> None:
    manager, made = library(*KINDS)

    def talk(name: str, n: int, wrong: list[str]) -> None:
        resource = opened(manager, name)
        for k in range(60):
            resource.write(f"SET {n}-{k}")
            if (said := resource.query("GET?")) != f"{n}-{k}":
                wrong.append(said)

    wrong: list[str] = []
    threads = [threading.Thread(target=talk, args=(name, n, wrong)) for n, name in enumerate(KINDS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert [len(instrument.seen) for instrument in made] == [120] * len(made)


def test_a_waiting_read_lets_other_threads_in() -> None:
    manager, _ = library(KINDS[0], KINDS[1], wall=True)
    slow, quick = opened(manager, KINDS[0], timeout=5000), opened(manager, KINDS[1])
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(slow.query("LATER? 0.3")))
    thread.start()
    time.sleep(0.03)
    began_s = time.monotonic()
    assert quick.query("*IDN?").startswith("ACME")
    assert time.monotonic() - began_s < 0.2
    assert answers == []
    thread.join(5)
    assert answers == ["late"]


def test_a_read_without_end_sees_what_another_thread_does() -> None:
    manager, _ = library(KINDS[2])
    first, second = (opened(manager, KINDS[2]) for _ in range(2))
    first.timeout = None
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(first.read()))
    thread.start()
    time.sleep(0.02)
    second.write("*IDN?")
    thread.join(5)
    assert [answer[:4] for answer in answers] == ["ACME"]


def test_two_instruments_at_one_address_are_refused() -> None:
    with pytest.raises(ValueError, match="two instruments at GPIB0::7::INSTR"):
        SimulatedVisa({"GPIB0::7::INSTR": blinker(), "GPIB::7": blinker()})
    with pytest.raises(ValueError, match="round_trip_s"):
        SimulatedVisa({}, round_trip_s=float("nan"))
