"""The states of a run and what leads from one to the next, as a table; and the handle by which others ask for it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a run is. PAUSING, STOPPING and ABORTING last until the step that is being done has ended."""

    READY = "ready"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    ABORTING = "aborting"
    FINISHED = "finished"  # the protocol ended by itself
    STOPPED = "stopped"  # ended early on request, between two steps; can be resumed
    ABORTED = "aborted"  # outputs were cut at once; can be resumed
    FAULT = "fault"  # the bench, the record or the protocol failed; can be resumed once that is mended


class Event(StrEnum):
    """What can happen to a run: the first five are asked for, the others happen."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    ABORT = "abort"
    HALTED = "halted"  # the runner stands between two steps, outputs at rest: a pause has begun
    REACHED = "reached"  # the runner has left the run as it was asked to
    ENDED = "ended"  # the protocol returned its result
    FAILED = "failed"


ENDS = frozenset({State.FINISHED, State.STOPPED, State.ABORTED, State.FAULT})

# Whatever is not in the table does not happen: the request is answered with "no".
TABLE: Mapping[State, Mapping[Event, State]] = {
    State.READY: {
        Event.START: State.RUNNING,
        Event.STOP: State.STOPPED,
        Event.ABORT: State.ABORTED,
        Event.FAILED: State.FAULT,
    },
    State.RUNNING: {
        Event.PAUSE: State.PAUSING,
        Event.STOP: State.STOPPING,
        Event.ABORT: State.ABORTING,
        Event.ENDED: State.FINISHED,
        Event.FAILED: State.FAULT,
    },
    State.PAUSING: {
        Event.RESUME: State.RUNNING,
        Event.STOP: State.STOPPING,
        Event.ABORT: State.ABORTING,
        Event.HALTED: State.PAUSED,
        Event.ENDED: State.FINISHED,
        Event.FAILED: State.FAULT,
    },
    State.PAUSED: {
        Event.RESUME: State.RUNNING,
        Event.STOP: State.STOPPING,
        Event.ABORT: State.ABORTING,
        Event.FAILED: State.FAULT,
    },
    State.STOPPING: {
        Event.ABORT: State.ABORTING,
        Event.REACHED: State.STOPPED,
        Event.ENDED: State.FINISHED,
        Event.FAILED: State.FAULT,
    },
    # A fault while aborting is no news: outputs go off either way, and the operator asked for an abort.
    State.ABORTING: {Event.REACHED: State.ABORTED, Event.ENDED: State.ABORTED, Event.FAILED: State.ABORTED},
    State.FINISHED: {},
    State.STOPPED: {},
    State.ABORTED: {},
    State.FAULT: {},
}


class Control:
    """What others hold of a run: ask it to pause, resume, stop or abort, from any thread.

    Each request answers whether it was taken. `reason` says who asked for an abort; `rested` is set once the run
    has ended and its outputs are off.
    """

    def __init__(self) -> None:
        self.state = State.READY
        self.reason = ""
        self.rested = threading.Event()
        self._changed = threading.Condition()

    def tell(self, event: Event) -> bool:
        """Move along the table; False where the table has no such way."""
        with self._changed:
            # A signal's handler runs in this very thread, between the look-up and the change: then look again.
            while True:
                was, to = self.state, TABLE[self.state].get(event)
                if to is None:
                    return False
                if self.state is was:
                    self.state = to
                    self._changed.notify_all()
                    return True

    def pause(self) -> bool:
        """Halt between two steps, outputs at rest."""
        return self.tell(Event.PAUSE)

    def resume(self) -> bool:
        """Go on after a pause."""
        return self.tell(Event.RESUME)

    def stop(self) -> bool:
        """End in order, between two steps."""
        return self.tell(Event.STOP)

    def abort(self, reason: str = "the operator") -> bool:
        """Cut the outputs at once."""
        with self._changed:
            self.reason = self.reason or reason
            return self.tell(Event.ABORT)

    def wait_while(self, state: State, timeout_s: float | None = None) -> bool:
        """Wait until the run is no longer in `state`; False if it still is after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self.state is not state, timeout_s)

    def wait_for_end(self, timeout_s: float | None = None) -> bool:
        """Wait until the run has ended in any way."""
        with self._changed:
            return self._changed.wait_for(lambda: self.state in ENDS, timeout_s)
