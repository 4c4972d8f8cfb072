"""What the transports need of an instrument, so that a fault layer may stand in its place."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..engine.instrument import Reply
    from ..engine.status import Status
    from ..world.world import World


class LineDropped(ConnectionError):
    """The connection to an instrument was lost; it has to be opened again."""


class Served(Protocol):
    """An instrument, or a fault layer around one. See `engine.instrument.SimInstrument` for the meaning."""

    streaming: bool

    @property
    def world(self) -> World:
        """The bench that it is part of: time and the lock."""

    @property
    def status(self) -> Status:
        """Its registers."""

    @property
    def replies(self) -> deque[Reply]:
        """Unread answers, oldest first."""

    @property
    def identity(self) -> str:
        """What *IDN? answers."""

    def receive(self, data: bytes) -> None:
        """Bytes for the instrument. Raises LineDropped (a fault layer)."""

    def take(self, limit: int | None = None) -> bytes | None:
        """The oldest answer, or at most `limit` bytes of it; None: there is none."""

    def no_reply_read(self) -> None:
        """A read was tried and there is nothing to say."""

    def clear(self) -> None:
        """Device clear."""

    def status_byte(self) -> int:
        """Serial poll."""

    def trigger(self) -> None:
        """Group execute trigger."""

    def power_cycle(self) -> None:
        """Off and on."""
