"""Simulated instruments as a VISA library, for clients in the same process.

    visa = SimulatedVisa({"GPIB0::5::INSTR": smu, "TCPIP0::sim-pulse::5025::SOCKET": generator}, round_trip_s=1e-3)
    manager = pyvisa.ResourceManager(visa)          the instance itself, not a name
    manager.open_resource("GPIB0::5::INSTR").query("*IDN?")

What pyvisa-sim lacks is here: device clear, serial poll, service request, trigger, locks, flush; unknown resources are
refused; no error of an instrument is hidden; two libraries share nothing. Only its public surface is used.

Time is the world's. With a virtual clock a read lets it jump to the answer, or by the whole timeout if there is none;
with a wall clock it waits. Nothing is locked meanwhile: other threads may use the instruments. A client that polls, and
sleeps by the computer's clock in between, would poll for ever in virtual time: for it there is `keeps_pace`.

A socket and a serial line are streams: they know no end of a message, only the termination character, and what is
still under way survives a device clear. All services of a bus are given to them nevertheless; a real socket has no
serial poll.
"""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsInt, TypeVar

from pyvisa import constants, rname
from pyvisa.constants import (
    BufferOperation,
    EventMechanism,
    EventType,
    InterfaceType,
    Lock,
    ResourceAttribute,
    StatusCode,
)
from pyvisa.errors import VisaIOError
from pyvisa_sim.highlevel import SimVisaLibrary

from ..world.clock import PS_PER_S, to_ps
from .device import Socketed
from .line import POLL_S, LineDropped, Pace

if TYPE_CHECKING:
    from .line import Served

T = TypeVar("T")

RQS = 0x40
WAITING_BYTES = ResourceAttribute(constants.VI_ATTR_ASRL_AVAIL_NUM)  # its name has changed with pyvisa's versions
NO_DEVICES = 'spec: "1.1"\ndevices: {}\nresources: {}\n'

_DISCARD = (
    BufferOperation.discard_read_buffer
    | BufferOperation.discard_read_buffer_no_io
    | BufferOperation.discard_receive_buffer
    | BufferOperation.discard_receive_buffer2
)


class SimulatedVisa(SimVisaLibrary):  # type: ignore[misc]
    """A VISA library with these instruments, by resource string.

    round_trip_s: from a query to its answer; keeps_pace: virtual time also goes on with the computer's clock.
    """

    def __new__(cls, *_given: object, **_more: object) -> SimulatedVisa:
        """One library per call: pyvisa keeps libraries by class and path, so each gets a path of its own."""
        with tempfile.TemporaryDirectory(prefix="neurobench-visa-") as folder:
            path = Path(folder) / "no-devices.yaml"
            path.write_text(NO_DEVICES, encoding="ascii")
            made: SimulatedVisa = super().__new__(cls, str(path))
        return made

    def __init__(
        self, instruments: Mapping[str, Served], *, round_trip_s: float = 0.0, keeps_pace: bool = False
    ) -> None:
        if not (math.isfinite(round_trip_s) and round_trip_s >= 0):
            raise ValueError(f"round_trip_s must be a finite time of at least 0 s, got {round_trip_s}")
        self.round_trip_ps = to_ps(round_trip_s)
        self._names: dict[str, str] = {}
        self._events: dict[int, set[EventType]] = {}
        worlds = {id(instrument.world): instrument.world for instrument in instruments.values() if keeps_pace}
        self._paces = {key: Pace(world) for key, world in worlds.items()}
        for resource, instrument in instruments.items():
            name = rname.to_canonical_name(resource)
            if name.upper() in self._names:
                raise ValueError(f"two instruments at {name}")
            self._names[name.upper()] = name
            self.devices.add_device(name, Socketed(name, instrument))

    # ---- opening and closing

    def open(
        self,
        session: Any,
        resource_name: str,
        access_mode: constants.AccessModes = constants.AccessModes.no_lock,
        open_timeout: SupportsInt = constants.VI_TMO_IMMEDIATE,
    ) -> tuple[Any, StatusCode]:
        """Open a session. Raises VisaIOError for a name that is none, or that no instrument has."""
        try:
            known = self._names.get(rname.to_canonical_name(resource_name).upper())
        except rname.InvalidResourceName:
            self._said(session, StatusCode.error_invalid_resource_name)
            raise
        if known is None:
            self._said(session, StatusCode.error_resource_not_found)
        opened, status = super().open(session, known or resource_name, access_mode, open_timeout)
        self._device(opened).sessions[opened] = True
        attrs = self.sessions[opened].attrs
        if attrs[ResourceAttribute.interface_type] == InterfaceType.gpib:
            attrs[ResourceAttribute.termchar] = ord("\n")  # pyvisa-sim puts the board number there
        if access_mode in (constants.AccessModes.exclusive_lock, constants.AccessModes.shared_lock):
            self._lock_opened(opened, access_mode, int(open_timeout))
        return opened, self._said(opened, status)

    def _lock_opened(self, opened: Any, mode: constants.AccessModes, timeout_ms: int) -> None:
        kind = Lock.exclusive if mode == constants.AccessModes.exclusive_lock else Lock.shared
        try:
            self.lock(opened, kind, timeout_ms)
        except VisaIOError:
            self.close(opened)
            raise

    def close(self, session: Any) -> StatusCode:
        """Close a session, an event, or the resource manager with all its sessions."""
        if self.sessions.get(session) is self:
            for other in [s for s, opened in self.sessions.items() if opened is not self]:
                self.close(other)
        elif session in self.sessions:
            self._forget(session)
        status: StatusCode = super().close(session)  # no error if it is closed: it went with its manager
        return status

    def _forget(self, session: int) -> None:
        """With the last session unread answers go: the next one starts with empty buffers."""
        device = self._device(session)
        device.access.forget(session)
        del device.sessions[session]
        self._events.pop(session, None)
        if not device.sessions:
            device.kept = b""
            device.instrument.clear()

    def list_resources(self, session: Any, query: str = "?*::INSTR") -> tuple[str, ...]:
        """The resource strings that fit a VISA expression; none is no error."""
        del session
        return tuple(rname.filter(self.devices.list_resources(), query))

    # ---- reading and writing

    def read(self, session: Any, count: int) -> tuple[bytes, StatusCode]:
        """Read at most `count` bytes: to the end of the message, the termination character or the count."""
        device = self._usable(session)
        got = bytearray()
        ends = self._ends(session)
        deadline_ps = _deadline_ps(device, self.get_attribute(session, ResourceAttribute.timeout_value)[0])
        self._unasked(device)
        while True:
            taken = self._await(device, deadline_ps, partial(self._chunk, device, count - len(got), ends))
            if taken is None:
                device.kept = bytes(got)
                self._said(session, StatusCode.error_timeout)
                raise AssertionError("a time-out is an error")
            chunk, status = taken
            got += chunk
            if status is None and len(got) == count:
                status = StatusCode.success_max_count_read
            if status is not None:  # VI_SUCCESS is 0
                return bytes(got), self._said(session, status)

    def write(self, session: Any, data: bytes) -> tuple[int, StatusCode]:
        """Write bytes. On a bus the end of the write is the end of a message, also without a line feed."""
        device = self._usable(session)
        sends_end, _ = self.get_attribute(session, ResourceAttribute.send_end_enabled)
        message = bytes(data)
        if not device.stream and sends_end and message and not message.endswith(b"\n"):
            message += b"\n"
        try:
            _, status = self.sessions[session].write(message)
        except LineDropped:
            device.kept = b""
            device.sessions = dict.fromkeys(device.sessions, False)
            status = StatusCode.error_connection_lost
        return len(data), self._said(session, status)

    def clear(self, session: Any) -> StatusCode:
        """Device clear: the instrument's buffers are empty, and it listens."""
        self._usable(session).clear()
        return self._said(session, StatusCode.success)

    def flush(self, session: Any, mask: BufferOperation) -> StatusCode:
        """Drop what has arrived, if the mask says so; written bytes never wait."""
        device = self._usable(session)
        if mask & _DISCARD:
            with device.instrument.world.lock:
                device.drop_arrived()
        return self._said(session, StatusCode.success)

    def get_attribute(self, session: Any, attribute: Any) -> tuple[Any, StatusCode]:
        """An attribute of a session; the number of bytes that wait on a serial line is counted."""
        if attribute == WAITING_BYTES and session in self.sessions:
            device = self._device(session)
            with device.instrument.world.lock:
                now_ps = device.instrument.world.now_ps - self.round_trip_ps
                ready = [len(r.data) for r in device.instrument.replies if r.ready_ps <= now_ps]
                return len(device.kept) + sum(ready), StatusCode.success
        found: tuple[Any, StatusCode] = super().get_attribute(session, attribute)
        return found

    # ---- status, trigger, events

    def read_stb(self, session: Any) -> tuple[int, StatusCode]:
        """Serial poll; first what was already polled for a service request."""
        device = self._usable(session)
        with device.instrument.world.lock:
            byte = device.polled.popleft() if device.polled else device.instrument.status_byte()
        return byte, self._said(session, StatusCode.success)

    def assert_trigger(self, session: Any, protocol: constants.TriggerProtocol) -> StatusCode:
        """Group execute trigger."""
        if protocol not in (constants.TriggerProtocol.default, constants.TriggerProtocol.sync):
            self._said(session, StatusCode.error_invalid_protocol)
        self._usable(session).instrument.trigger()
        return self._said(session, StatusCode.success)

    def gpib_control_ren(self, session: Any, mode: constants.RENLineOperation) -> StatusCode:
        """Remote and local: a simulated instrument has no front panel, so nothing changes."""
        del mode
        self._usable(session)
        return self._said(session, StatusCode.success)

    def enable_event(
        self, session: Any, event_type: EventType, mechanism: EventMechanism, context: None = None
    ) -> StatusCode:
        """Let service requests be waited for. There are no call-backs."""
        del context
        self._device(session)
        if event_type != EventType.service_request:
            return self._said(session, StatusCode.error_invalid_event)
        if mechanism != EventMechanism.queue:
            return self._said(session, StatusCode.error_nonsupported_mechanism)
        self._events.setdefault(session, set()).add(event_type)
        return self._said(session, StatusCode.success)

    def disable_event(self, session: Any, event_type: EventType, mechanism: EventMechanism) -> StatusCode:
        """No longer wait for service requests."""
        del mechanism
        waited = self._events.get(session, set())
        if event_type == EventType.all_enabled:
            waited.clear()
        waited.discard(event_type)
        return self._said(session, StatusCode.success)

    def discard_events(self, session: Any, event_type: EventType, mechanism: EventMechanism) -> StatusCode:
        """Forget service requests that were noticed and not looked at."""
        del event_type, mechanism
        if session in self.sessions:  # pyvisa also asks for sessions that went with their manager
            self._device(session).polled.clear()
        return self._said(session, StatusCode.success)

    def wait_on_event(
        self, session: Any, in_event_type: EventType, timeout: int | None
    ) -> tuple[EventType, Any, StatusCode]:
        """Wait, in the bench's time, until the instrument asks for service. It is polled then; read_stb says how."""
        device = self._usable(session)
        wanted = self._events.get(session, set())
        if not wanted or in_event_type not in (*wanted, EventType.all_enabled):
            self._said(session, StatusCode.error_not_enabled)
        if self._await(device, _deadline_ps(device, timeout), partial(_request, device)) is None:
            self._said(session, StatusCode.error_timeout)
        return EventType.service_request, None, self._said(session, StatusCode.success)

    # ---- locks

    def lock(
        self, session: Any, lock_type: Lock, timeout: int, requested_key: str | None = None
    ) -> tuple[str, StatusCode]:
        """Lock a resource for this session, or for all that know the key; nested. Raises VI_ERROR_TMO."""
        device = self._device(session)
        if not device.access.take(session, lock_type, requested_key, min(timeout / 1000, threading.TIMEOUT_MAX)):
            self._said(session, StatusCode.error_timeout)
        key = device.access.key if lock_type == Lock.shared else ""
        return key, self._said(session, StatusCode.success)

    def unlock(self, session: Any) -> StatusCode:
        """Give the latest lock back."""
        held = self._device(session).access.give_back(session)
        return self._said(session, StatusCode.success if held else StatusCode.error_session_not_locked)

    # ---- inside

    def _said(self, session: Any, status: StatusCode) -> StatusCode:
        """Note a status for `last_status`; an error is raised."""
        noted: StatusCode = self.handle_return_value(session, status)
        return noted

    def _device(self, session: Any) -> Socketed:
        opened = self.sessions.get(session)
        if opened is None or opened is self:
            self._said(None, StatusCode.error_invalid_object)
        device: Socketed = self.sessions[session].device
        return device

    def _usable(self, session: Any) -> Socketed:
        """The device of a session that is connected and not locked out."""
        device = self._device(session)
        if not device.sessions[session]:
            self._said(session, StatusCode.error_connection_lost)
        if not device.access.allows(session):
            self._said(session, StatusCode.error_resource_locked)
        if pace := self._paces.get(id(device.instrument.world)):
            with device.instrument.world.lock:
                pace.catch_up()
        return device

    def _ends(self, session: Any) -> tuple[bytes, bool]:
        """The byte that ends a read (or none), and whether the end of a message does."""
        device = self._device(session)

        def of(attribute: ResourceAttribute) -> Any:
            return self.get_attribute(session, attribute)[0]

        by_byte = bool(of(ResourceAttribute.termchar_enabled))
        if of(ResourceAttribute.interface_type) == InterfaceType.asrl:
            by_byte |= of(ResourceAttribute.asrl_end_in) == constants.SerialTermination.termination_char
            by_message = False
        else:
            by_message = not of(ResourceAttribute.suppress_end_enabled) and not (device.stream and by_byte)
        return bytes([of(ResourceAttribute.termchar)]) if by_byte else b"", by_message

    def _unasked(self, device: Socketed) -> None:
        """An instrument on a bus that is told to talk and has nothing to say notes it: -420."""
        instrument = device.instrument
        with instrument.world.lock:
            if device.stream or device.kept or instrument.replies or instrument.status.pending or not device.asked:
                return
            device.asked = False
            instrument.no_reply_read()

    def _chunk(self, device: Socketed, room: int, ends: tuple[bytes, bool]) -> tuple[bytes, StatusCode | None] | None:
        """What of the oldest answer may be read now, and what ended it; None: nothing has arrived."""
        instrument = device.instrument
        end, by_message = ends
        if device.kept:
            data, instrument_has_more = device.kept, False
        else:
            if not instrument.replies:
                return None
            if instrument.replies[0].ready_ps + self.round_trip_ps > instrument.world.now_ps:
                return None
            data, instrument_has_more = instrument.replies[0].data, True
        cut = data.find(end, 0, room) + 1 if end else 0
        chunk = data[: cut or room]
        if instrument_has_more:
            instrument.take(len(chunk))
        else:
            device.kept = data[len(chunk) :]
        whole = len(chunk) == len(data)
        if whole and by_message:
            return chunk, StatusCode.success
        return chunk, StatusCode.success_termination_character_read if cut else None

    def _await(self, device: Socketed, deadline_ps: float, look: Callable[[], T | None]) -> T | None:
        """Let time pass until `look` finds something; None: not before the deadline."""
        world = device.instrument.world
        while True:
            with world.lock:
                found = look()
                if found is not None or world.now_ps >= deadline_ps:
                    return found
                next_ps = min(deadline_ps, self._arrival_ps(device), world.now_ps + world.next_due_s() * PS_PER_S)
                if not world.wall and next_ps < math.inf:
                    world.run_until(max(math.ceil(next_ps), world.now_ps))
                    continue
                pause_s = min(max(next_ps - world.now_ps, 0) / PS_PER_S, POLL_S)
            time.sleep(pause_s)

    def _arrival_ps(self, device: Socketed) -> float:
        replies = device.instrument.replies
        return replies[0].ready_ps + self.round_trip_ps if replies and not device.kept else math.inf


def _request(device: Socketed) -> int | None:
    """Poll an instrument; its status byte if it asks for service, which is kept for read_stb."""
    byte = device.instrument.status_byte()
    if not byte & RQS:
        return None
    device.polled.append(byte)
    return byte


def _deadline_ps(device: Socketed, timeout_ms: float | None) -> float:
    """When a time-out of so many milliseconds ends, in the bench's time."""
    if timeout_ms is None or timeout_ms == constants.VI_TMO_INFINITE:
        return math.inf
    with device.instrument.world.lock:
        return device.instrument.world.now_ps + to_ps(timeout_ms / 1000)
