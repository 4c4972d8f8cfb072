"""Where the window stands, and what may be done there: one enum, one table. No Qt."""

from __future__ import annotations

from enum import StrEnum


class BenchState(StrEnum):
    """What the window knows of bench and run. FAULT stays until it is acknowledged."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    READY = "ready"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    ABORTING = "aborting"
    FAULT = "fault"


class Event(StrEnum):
    """What leads from one state to the next: the operator's wishes, and what the engine says."""

    CONNECT = "connect"
    CONNECTED = "connected"
    DISCONNECT = "disconnect"
    START = "start"
    BEGUN = "begun"
    PAUSE = "pause"
    HALTED = "halted"
    RESUME = "resume"
    STOP = "stop"
    ABORT = "abort"
    ENDED = "ended"
    FAILED = "failed"
    ACKNOWLEDGE = "acknowledge"


S, E = BenchState, Event

TABLE: dict[BenchState, dict[Event, BenchState]] = {
    S.DISCONNECTED: {E.CONNECT: S.CONNECTING, E.BEGUN: S.RUNNING},
    S.CONNECTING: {E.CONNECTED: S.READY, E.FAILED: S.DISCONNECTED, E.ABORT: S.DISCONNECTED,
                   E.DISCONNECT: S.DISCONNECTED},
    S.READY: {E.CONNECT: S.CONNECTING, E.START: S.STARTING, E.DISCONNECT: S.DISCONNECTED, E.FAILED: S.FAULT,
              E.BEGUN: S.RUNNING},
    S.STARTING: {E.BEGUN: S.RUNNING, E.FAILED: S.READY, E.ABORT: S.ABORTING, E.ENDED: S.READY},
    S.RUNNING: {E.PAUSE: S.PAUSING, E.STOP: S.STOPPING, E.ABORT: S.ABORTING, E.ENDED: S.READY, E.FAILED: S.FAULT},
    S.PAUSING: {E.HALTED: S.PAUSED, E.RESUME: S.RUNNING, E.STOP: S.STOPPING, E.ABORT: S.ABORTING, E.ENDED: S.READY,
                E.FAILED: S.FAULT},
    S.PAUSED: {E.RESUME: S.RUNNING, E.STOP: S.STOPPING, E.ABORT: S.ABORTING, E.ENDED: S.READY, E.FAILED: S.FAULT},
    S.STOPPING: {E.ABORT: S.ABORTING, E.ENDED: S.READY, E.FAILED: S.FAULT},
    S.ABORTING: {E.ENDED: S.READY, E.FAILED: S.FAULT},
    S.FAULT: {E.ACKNOWLEDGE: S.READY, E.DISCONNECT: S.DISCONNECTED},
}  # fmt: skip

LIVE = frozenset({S.STARTING, S.RUNNING, S.PAUSING, S.PAUSED, S.STOPPING, S.ABORTING})


def after(state: BenchState, event: Event) -> BenchState | None:
    """The state that an event leads to; None where the table has no such way."""
    return TABLE[state].get(event)
