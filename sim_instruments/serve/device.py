"""One instrument as the sessions of a VISA library see it, and who of them may use it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from pyvisa import rname
from pyvisa.constants import InterfaceType, Lock
from pyvisa_sim.devices import Device

if TYPE_CHECKING:
    from .line import Served

STREAMS = ("SOCKET",)


class Access:
    """The locks that sessions hold on one resource (VPP-4.3, section 3.6): exclusive, or shared by a key; nested."""

    def __init__(self) -> None:
        self.key = ""
        self._exclusive: list[int] = []
        self._shared: list[int] = []
        self._changed = threading.Condition()

    def allows(self, session: int) -> bool:
        """Whether this session may use the resource now."""
        return set(self._exclusive) <= {session} and (not self._shared or session in self._shared)

    def take(self, session: int, kind: Lock, key: str | None, timeout_s: float) -> bool:
        """Get a lock; waits in real time, because it waits for another session and not for the bench."""
        with self._changed:
            return self._changed.wait_for(lambda: self._taken(session, kind, key), timeout_s)

    def _taken(self, session: int, kind: Lock, key: str | None) -> bool:
        if not self.allows(session) and (set(self._exclusive) - {session} or kind != Lock.shared or key != self.key):
            return False
        if kind == Lock.shared:
            if self._shared and key not in (None, self.key):
                return False
            self.key = self.key if self._shared else key or f"neurobench-{session}"
            self._shared.append(session)
        else:
            self._exclusive.append(session)
        return True

    def give_back(self, session: int) -> bool:
        """Give the latest lock of this session back; False: it has none."""
        with self._changed:
            held = self._exclusive if session in self._exclusive else self._shared
            if session not in held:
                return False
            held.remove(session)
            self._changed.notify_all()
            return True

    def forget(self, session: int) -> None:
        """A session is closed."""
        while self.give_back(session):
            pass


class Socketed(Device):  # type: ignore[misc]  # pyvisa-sim publishes no types
    """One instrument as pyvisa-sim's sessions see it: a device that takes bytes."""

    def __init__(self, name: str, instrument: Served) -> None:
        super().__init__(name, b"")
        parsed = rname.parse_resource_name(name)
        self.instrument = instrument
        self.stream = parsed.resource_class in STREAMS or parsed.interface_type_const == InterfaceType.asrl
        self.access = Access()
        self.polled: deque[int] = deque()
        self.kept = b""  # read from the instrument, not yet by the client
        self.sessions: dict[int, bool] = {}  # open sessions; False: its connection was lost
        self.asked = False  # something was written since a read found nothing
        self.add_eom(f"{parsed.interface_type} {parsed.resource_class}", "\n", "\n")
        instrument.streaming = self.stream

    def write(self, data: bytes) -> None:
        """Hand bytes to the instrument."""
        self.asked = True
        self.instrument.receive(bytes(data))

    def drop_arrived(self) -> None:
        """Forget the answers that have arrived; later ones are still under way."""
        self.kept = b""
        while self.instrument.replies and self.instrument.replies[0].ready_ps <= self.instrument.world.now_ps:
            self.instrument.take()

    def clear(self) -> None:
        """Device clear. A stream cannot call back what is under way."""
        with self.instrument.world.lock:
            now_ps = self.instrument.world.now_ps
            late = [r for r in self.instrument.replies if r.ready_ps > now_ps] if self.stream else []
            self.kept = b""
            self.polled.clear()
            self.instrument.clear()
            self.instrument.replies.extend(late)
