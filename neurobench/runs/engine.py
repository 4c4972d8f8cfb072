"""The runner in a process of its own, and the handle by which clients ask it to pause, resume, stop or abort.

The engine outlives its client: window and command line may die, the run goes on, and another client may `attach`.
Inside it, one thread runs; the main thread hears signals and sees to it that an abort ends at rest even if a read or
a trigger never returns. A watcher process brings the bench to rest if the engine itself dies (decision 0006).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any, Self

from neurobench import errors, registry
from neurobench.bench.config import BenchConfig, open_bench
from neurobench.bench.crossbar import Outputs
from neurobench.bench.limits import Guard
from neurobench.bench.steps import Protocol
from neurobench.errors import Aborted, BenchFault, LinkLost, NeurobenchError, UnknownName, UsageError
from neurobench.runs.inbox import Asked, Inbox
from neurobench.runs.replay import resume
from neurobench.runs.runfile import RunWriter, end_abandoned
from neurobench.runs.runner import RunOutcome, run
from neurobench.runs.states import Control, State
from neurobench.runs.wirelog import WireLog, wire_log_of
from neurobench.system import WINDOWS, kill_process, on_stop_signal, pid_alive, start_detached, utc_now

PATIENCE_S = 0.03  # how long an abort waits for the runner before it cuts the outputs over the second path
REST_S = 2.0  # how long the second path may take before the watcher is left to do it
LAST_WORDS_S = 1.0  # how long a runner that was cut off may take to come back and end its record
START_S = 60.0
GOODBYE_S = 2.0  # how long an engine that has ended waits for the client that started it to ask how it began
ANSWER_S = 1.0  # how long a client waits for a word of an engine that may hang
CLIENTS = 16  # that may knock at the same moment
GONE = "the loss of the window that held this run"
# The arithmetic of a run is small: more threads than one only wait for each other, and for the window's.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

AGAIN_S = 0.02  # between two aborts of an engine that does not hear yet
ABORTABLE = frozenset({State.READY, State.RUNNING, State.PAUSING, State.PAUSED, State.STOPPING})

CONTROL = ".control"
GOODBYE = "goodbye"  # in the engine's folder once its bench is at rest: for a watcher that comes too late to be told
UNKNOWN: Mapping[str, Any] = {"on": None, "age_s": 0.0, "how": "commanded"}  # of outputs that nobody has heard of


@dataclass(frozen=True)
class Spec:
    """One run for the engine; all of it can be written as JSON.

    `path`: the run file. `protocol`: a registered name or "module:Class". `opener`: "module:function" that turns
    (`bench`, seed, limits profile) into a Guard. `manifest`: more for the record. `go_on`: resume the file at `path`.
    `watched`: whether a watcher process rests the bench if the engine dies; an emulated chip dies with it, and needs
    none. `held`: no run begins before a client holds it (see `Engine.hold`). `conductor`: "module:function" that does
    what clients ask for instead of the protocol's steps (see `Conductor`); such a run ends when it is let go.
    """

    path: str
    protocol: str
    parameters: Mapping[str, Any]
    bench: Mapping[str, Any]
    seed: int
    opener: str = "neurobench.runs.engine:open_config"
    manifest: Mapping[str, Any] = field(default_factory=dict)
    go_on: bool = False
    accept_doubt: bool = False
    accept_baseline: bool = False
    watched: bool = True
    held: bool = False
    conductor: str = ""


# What serves a run by hand until it ends: protocol, bench, record, control, seed, requests.
Conductor = Callable[[Protocol, Guard, RunWriter, Control, int, Inbox], RunOutcome]


def open_config(bench: Mapping[str, Any], seed: int, profile: str = "") -> Guard:
    """Open the bench of a validated bench file, under the limits of a profile."""
    return open_bench(BenchConfig.model_validate(bench), seed, profile)


def open_guard(spec: Spec) -> Guard:
    """The bench of a run."""
    module, _, name = spec.opener.partition(":")
    opener: Callable[[Mapping[str, Any], int, str], Guard] = getattr(importlib.import_module(module), name)
    return opener(spec.bench, spec.seed, protocol_of(spec).limits_profile)


def conductor_of(spec: Spec) -> Conductor:
    """What serves a run by hand."""
    module, _, name = spec.conductor.partition(":")
    found: Conductor = getattr(importlib.import_module(module), name)
    return found


def protocol_of(spec: Spec) -> Protocol:
    """The protocol of a run, with its parameters."""
    module, colon, name = spec.protocol.partition(":")
    kind = getattr(importlib.import_module(module), name) if colon else registry.load("protocols", spec.protocol)
    if not (isinstance(kind, type) and issubclass(kind, Protocol)):
        raise UsageError(f"{spec.protocol!r} is not a protocol")
    return kind.model_validate(dict(spec.parameters))


# ------------------------------------------------------------------------------------------------- the client's side


class Engine:
    """A running engine as its client sees it. Dropping it changes nothing: the run goes on, unless it is held.

    Any thread may call any of this. An engine that is dead or hangs keeps nobody waiting for longer than a second.
    """

    def __init__(self, path: Path, folder: Path, key: bytes, pid: int) -> None:
        self.path = path
        self.pid = pid
        self._folder = folder
        self._key = key
        self._state = State.READY.value
        self._outputs: tuple[float, dict[str, Any]] = time.monotonic(), dict(UNKNOWN)
        self._holding = threading.Lock()
        self._hold: Connection | None = None

    def pause(self) -> bool:
        """Halt between two steps; False if the run cannot be paused now."""
        return bool(self._ask("pause"))

    def resume(self) -> bool:
        """Go on after a pause."""
        return bool(self._ask("resume"))

    def stop(self) -> bool:
        """End in order between two steps."""
        return bool(self._ask("stop"))

    def abort(self) -> bool:
        """Cut the outputs now: at the latest 100 ms after this call."""
        return bool(self._ask("abort"))

    def abort_soon(self) -> bool:
        """Abort as soon as it hears: an engine that is just being started does not yet. False if there was no need."""
        while not (taken := self.abort()) and self.alive and self.state() in (None, *ABORTABLE):
            time.sleep(AGAIN_S)
        return taken

    def state(self) -> str | None:
        """Where the run is, as a value of `states.State`; None once the engine has ended.

        Of an engine that lives and does not answer: what it said last.
        """
        try:
            self._state = self._exchange("state", ANSWER_S) or self._state
        except (TimeoutError, BlockingIOError):
            return self._state if self.alive else None
        except (OSError, EOFError, ValueError, AuthenticationError):
            return None
        return self._state

    def outputs(self) -> dict[str, Any]:
        """Whether anything is driven: `on` (None: nobody knows), `age_s` since that was heard, `how` it is known.

        "read back" from the bench, "commanded" and not read back, or "emulated". Of an engine that does not answer
        nothing is known, since its last answer.
        """
        found = self._ask("outputs")
        if isinstance(found, dict):
            self._outputs = time.monotonic() - found["age_s"], found
            return found
        heard_s, last = self._outputs
        return {**last, "on": None, "age_s": time.monotonic() - heard_s}

    def hold(self) -> bool:
        """From now on the engine aborts in order if this process dies, or drops this handle, without `let_go`."""
        with self._holding:
            if self._hold is None:
                self._hold = self._held()
            return self._hold is not None

    def let_go(self) -> bool:
        """The run goes on whatever becomes of this process; False if it was not held, or has ended."""
        with self._holding:
            link, self._hold = self._hold, None
        if link is None:
            return False
        with contextlib.suppress(OSError, EOFError, ValueError), link:
            return bool(_exchanged(link, "let_go", ANSWER_S))
        return False

    def ask_hand(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let a session by hand do one thing (see runs/hand.py) and wait until it is done.

        {"refused": words} where nothing was done, with "failed" where something may have been. Raises LinkLost if the
        engine ends before it answers.
        """
        try:
            link = connect(self._folder, self._key)
        except (OSError, EOFError, ValueError, AuthenticationError):
            return {"refused": "the session by hand has ended"}
        try:
            with link:
                send(link, {"hand": dict(request)})
                while not link.poll(ANSWER_S):
                    if not self.alive:
                        raise EOFError
                found: dict[str, Any] = receive(link)
                return found
        except (OSError, EOFError) as error:
            raise LinkLost(f"the engine ended before it answered; what was done stands in {self.path.name}") from error

    def kill(self) -> bool:
        """Hard off: end the engine's process as it is. Its watcher rests the bench; an emulated chip dies with it.

        False if there is no such process any more.
        """
        watched = self._watched()
        if not kill_process(self.pid, str(self._folder)):
            return False
        if not watched and self.wait(ANSWER_S):
            _control_path(self.path).unlink(missing_ok=True)
            shutil.rmtree(self._folder, ignore_errors=True)
        return True

    @property
    def alive(self) -> bool:
        """Whether the engine's process runs."""
        return pid_alive(self.pid)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the engine has ended; False if it still runs after `timeout_s`."""
        end = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
        while self.alive:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def _ask(self, command: str, patience_s: float = ANSWER_S) -> Any:
        """Its answer; None if it has ended, or says nothing in time."""
        try:
            return self._exchange(command, patience_s)
        except (OSError, EOFError, ValueError, AuthenticationError):
            return None

    def _exchange(self, command: str, patience_s: float) -> Any:
        with connect(self._folder, self._key) as link:
            return _exchanged(link, command, patience_s)

    def _held(self) -> Connection | None:
        try:
            link = connect(self._folder, self._key)
        except (OSError, EOFError, ValueError, AuthenticationError):
            return None
        with contextlib.suppress(OSError, EOFError, ValueError):
            if _exchanged(link, "hold", ANSWER_S):
                return link
        link.close()
        return None

    def _watched(self) -> bool:
        try:
            return _load(self._folder)[0].watched
        except (OSError, ValueError, KeyError, TypeError):
            return False  # its folder is gone: it has ended, or was never whole

    def wait_until_begun(self, *, held: bool = False) -> None:
        """Return once the first step can be seen in the run file; raise what made the run impossible."""
        end = time.monotonic() + START_S
        while True:
            answer = self._ask("begun", START_S) if not held or self.hold() else None
            if answer:
                break
            if not self.alive or time.monotonic() > end:
                words = (self._folder / "log").read_text(errors="replace")[-2000:] if self._folder.exists() else ""
                raise BenchFault(f"the engine of {self.path} ended before it began. {words}")
            time.sleep(0.01)
        if answer != "begun":
            kind, words = answer
            raise _error(kind, words)


def _exchanged(link: Connection, message: Any, patience_s: float) -> Any:
    """Send and wait for the answer; None if it does not come in time."""
    send(link, message)
    return receive(link) if link.poll(patience_s) else None


def _public_name(kind: type[BaseException]) -> str:
    """The name of an error as others know it: a driver's own kind goes by the public one above it."""
    known = (one.__name__ for one in kind.__mro__ if getattr(errors, one.__name__, None) is one)
    return next(known, kind.__name__)


def _error(kind: str, words: str) -> NeurobenchError:
    found = getattr(errors, kind, NeurobenchError)
    return found(words) if issubclass(found, NeurobenchError) else NeurobenchError(f"{kind}: {words}")


Made = Callable[[Engine], None]


def start(spec: Spec, made: Made | None = None) -> Engine:
    """Start a run in an engine of its own and return once it has begun.

    Raises what makes it impossible from the start: a limit, a bench in use, a folder that cannot be written. `made` is
    called with the engine at once: one that has not begun yet can be aborted, too, as soon as it hears, or killed.
    """
    folder = Path(tempfile.mkdtemp(prefix="neurobench-engine-"))
    key = os.urandom(32)
    (folder / "spec.json").write_text(json.dumps({**asdict(spec), "key": key.hex()}))
    single = {name: os.environ.get(name, "1") for name in THREADS}
    pid = start_detached("neurobench.runs.engine", str(folder), log=folder / "log", environment=single)
    engine = Engine(Path(spec.path).absolute(), folder, key, pid)
    if made is not None:
        made(engine)
    engine.wait_until_begun(held=spec.held)
    return engine


def attach(path: Path | str) -> Engine:
    """The engine that writes a run file now, for a client that did not start it."""
    path = Path(path).absolute()
    try:
        found = json.loads(_control_path(path).read_text())
    except (OSError, ValueError) as error:
        raise UnknownName(f"no engine is running {path}") from error
    engine = Engine(path, Path(found["folder"]), bytes.fromhex(found["key"]), found["pid"])
    if not engine.alive and not engine._watched():  # killed on an emulated chip: nobody tidied up after it
        raise UnknownName(f"no engine is running {path}: the last one was killed")
    return engine


def _control_path(path: Path) -> Path:
    return path.with_name(path.name + CONTROL)


def _address(folder: Path) -> str:
    return rf"\\.\pipe\{folder.name}" if WINDOWS else str(folder / "s")


def connect(folder: Path, key: bytes) -> Connection:
    """A connection to the engine of that folder; OSError if it does not take part in time."""
    if WINDOWS:
        return Client(_address(folder), family="AF_PIPE", authkey=key)
    with socket.socket(socket.AF_UNIX) as opened:
        opened.settimeout(ANSWER_S)
        opened.connect(_address(folder))
        opened.setblocking(True)
        _wait_at_most(opened, ANSWER_S)
        link = Connection(os.dup(opened.fileno()))
        try:
            answer_challenge(link, key)
            deliver_challenge(link, key)
        except BaseException:
            link.close()
            raise
        _wait_at_most(opened, 0)  # for ever: a watcher waits for as long as the run takes
        return link


def _wait_at_most(opened: socket.socket, seconds: float) -> None:
    """How long a read or a write of this connection may take in the system; 0: as long as it takes."""
    moment = struct.pack("ll", int(seconds), 0)
    for way in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        opened.setsockopt(socket.SOL_SOCKET, way, moment)


def send(link: Connection, message: Any) -> None:
    """JSON, not pickle: a message can never run code."""
    link.send_bytes(json.dumps(message).encode())


def receive(link: Connection) -> Any:
    """The next message."""
    return json.loads(link.recv_bytes())


# ------------------------------------------------------------------------------------------------- the engine's side


class _Host:
    """What the engine's threads share."""

    def __init__(self, spec: Spec, folder: Path, key: bytes) -> None:
        self.spec = spec
        self.folder = folder
        self.key = key
        self.path = Path(spec.path).absolute()
        self.control = Control()
        self.guard: Guard | None = None
        self.begun: Any = None
        self.exit_code = 1
        self.at_rest = True  # nothing was driven, or all outputs are off again
        self._may_drive = False  # before that an abort leaves the runner time to open the bench and to see it
        self._created = False
        self._tell_begun = threading.Event()
        self._watch_begun = threading.Event()
        self._hold_begun = threading.Event()
        self._inbox = Inbox()
        self._log: WireLog | None = None
        self.client_knows = threading.Event()  # that it has begun, or why it has not
        self._watchers: list[Connection] = []
        self._goodbye = False

    # -- the runner's thread ------------------------------------------------------------------------------------

    def work(self) -> None:
        """Open the bench, run, close."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the client is to hear it
            self.exit_code = getattr(error, "exit_code", 1)
            self.say_begun([_public_name(type(error)), str(error)])
        finally:
            # Whoever waits for a begin must not wait for ever.
            self.say_begun("begun")

    def _run(self) -> None:
        spec = self.spec
        protocol = protocol_of(spec)
        guard = open_guard(spec)
        self.at_rest = False
        try:
            protocol.needs.plan(guard.capabilities)
            self.guard = guard
            if spec.watched and not self._watch_begun.wait(START_S):
                raise BenchFault("the watcher did not start, so nobody would rest the bench if the engine died")
            if spec.held and not self._hold_begun.wait(START_S):
                raise BenchFault("the window that was to hold this run is gone")
            self._may_drive = True  # first this, then the look: one of the two threads sees the other
            if self.control.state is not State.READY:
                by = self.control.reason or "request"
                raise Aborted(f"{self.control.state} by {by} before it began; nothing was fired")
            outcome = self._recorded(protocol, guard)
            fallback = 0 if outcome.status == "finished" else 1
            self.exit_code = getattr(outcome.error, "exit_code", fallback)
        finally:
            try:
                guard.close()
                self.at_rest = True
            finally:
                self._end_log()

    def _recorded(self, protocol: Protocol, guard: Guard) -> RunOutcome:
        spec = self.spec
        try:
            with self._record() as record:
                record.put(engine={"pid": os.getpid(), "since": utc_now()})
                record.flush()
                self._say_where()
                self._overhear(guard)
                threading.Thread(target=self._say_when_running, daemon=True).start()
                if spec.conductor:
                    return self._by_hand(protocol, guard, record)
                if not spec.go_on:
                    return run(protocol, guard, seed=spec.seed, record=record, control=self.control)
                return resume(
                    protocol, guard, record, control=self.control,
                    accept_doubt=spec.accept_doubt, accept_baseline=spec.accept_baseline,
                )  # fmt: skip
        except BaseException:
            if self.control.state is State.READY and not spec.go_on and self._created:
                self.path.unlink(missing_ok=True)  # it never began: there is nothing to keep
            raise

    def _overhear(self, guard: Guard) -> None:
        """From here on what is said on the links is logged; an emulated chip has none."""
        if self.spec.watched:
            self._log = WireLog(wire_log_of(self.path))
            guard.raw.overhear(self._log)

    def _end_log(self) -> None:
        if self._log is not None:
            self._log.close()
            if not self.path.exists():  # it never began
                self._log.path.unlink(missing_ok=True)

    def _by_hand(self, protocol: Protocol, guard: Guard, record: RunWriter) -> RunOutcome:
        try:
            return conductor_of(self.spec)(protocol, guard, record, self.control, self.spec.seed, self._inbox)
        finally:
            self._inbox.close("the session by hand has ended")

    def _say_when_running(self) -> None:
        self.control.wait_while(State.READY)
        self.say_begun("begun")

    def _record(self) -> RunWriter:
        if self.spec.go_on:
            return RunWriter.reopen(self.path)
        record = RunWriter.create(self.path, self.spec.manifest)
        self._created = True
        return record

    def _say_where(self) -> None:
        file = _control_path(self.path)
        file.touch(mode=0o600)
        file.write_text(json.dumps({"folder": str(self.folder), "key": self.key.hex(), "pid": os.getpid()}))

    def say_begun(self, what: Any) -> None:
        """Tell waiting clients, once, that it has begun, or why it has not."""
        self.begun = self.begun or what
        self._tell_begun.set()

    # -- clients ------------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Serve clients until the process ends. One that hangs while it is let in keeps no other one waiting."""
        while True:
            with contextlib.suppress(OSError, EOFError):
                link = listener.accept()
                threading.Thread(target=self._receive, args=(link,), daemon=True).start()

    def _receive(self, link: Connection) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError, AuthenticationError):
            deliver_challenge(link, self.key)
            answer_challenge(link, self.key)
            self._converse(link)
            return
        link.close()

    def _converse(self, link: Connection) -> None:
        """Answer one client until it goes; if it goes while it holds the run, abort."""
        held = False
        try:
            while True:
                command = receive(link)
                if command == "watch":
                    self._mind(link)
                    return
                held = command == "hold" or (held and command != "let_go")
                send(link, self._answer(command))
                if command == "begun":
                    self.client_knows.set()
        finally:
            if held:
                self.control.abort(GONE)

    def _mind(self, link: Connection) -> None:
        """A watcher says nothing. One that dies is followed by another: no bench goes on without."""
        self._watchers.append(link)
        self._watch_begun.set()
        with contextlib.suppress(OSError, EOFError):
            receive(link)
        if not self._goodbye:
            self._watchers.remove(link)
            start_watcher(self.folder)

    def _answer(self, command: Any) -> Any:
        """What a client is told; False for what nobody knows."""
        if isinstance(command, dict):
            return self._hand(dict(command.get("hand", {})))
        commands: dict[str, Callable[[], Any]] = {
            "pause": self.control.pause,
            "resume": self.control.resume,
            "stop": self.control.stop,
            "abort": self.control.abort,
            "state": lambda: self.control.state.value,
            "outputs": self._outputs,
            "hold": self._is_held,
            "let_go": self._let_go,
            "begun": lambda: self._tell_begun.wait(START_S) and self.begun,
        }
        return commands.get(str(command), lambda: False)()

    def _is_held(self) -> bool:
        self._hold_begun.set()
        return True

    def _let_go(self) -> bool:
        if self.spec.conductor:
            self.control.stop()  # by hand without a hand: nothing more would ever happen
        return True

    def _hand(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What came of a request; it waits as long as that takes."""
        if not self.spec.conductor:
            return {"refused": "a protocol is running: it cannot be done by hand meanwhile"}
        if self.control.state is not State.RUNNING:
            return {"refused": f"the session is {self.control.state.value}: nothing was done"}
        asked = Asked(request)
        self._inbox.put(asked)
        asked.done.wait()
        return asked.answer

    def _outputs(self) -> dict[str, Any]:
        if self.guard is None:
            return dict(UNKNOWN)
        found = self.guard.outputs()
        return {"on": found.on, "age_s": found.age_s, "how": found.how}

    def say_goodbye(self) -> None:
        """Tell the watcher that the bench is at rest and it may go; it stays, to rest the bench, if that is not so."""
        if not (self.at_rest or self.control.rested.is_set()):
            return
        self._goodbye = True
        with contextlib.suppress(OSError):
            (self.folder / GOODBYE).touch()
        for link in self._watchers:
            with contextlib.suppress(OSError):
                send(link, "goodbye")

    # -- the main thread ----------------------------------------------------------------------------------------

    def supervise(self, worker: threading.Thread) -> None:
        """Wait for the end; on an abort see to it that the outputs go off, with the runner or without it."""
        with on_stop_signal(lambda name: _forget(self.control.abort(name))):
            while worker.is_alive():
                # A short wait: the runner's thread may end without a change of state.
                self.control.wait_while(self.control.state, 0.02)
                if self.control.state in (State.ABORTING, State.ABORTED):
                    self._abort(worker)

    def _abort(self, worker: threading.Thread) -> None:
        if not self._may_drive and self._back(worker, START_S):
            return
        if self.control.rested.wait(PATIENCE_S) or self._back(worker, 0):
            worker.join()
            return
        self._rested_beside()
        if self._back(worker, LAST_WORDS_S):
            return
        self._end_stuck(self._rested_beside())  # once more: the runner may have begun another call in between

    def _rested_beside(self) -> bool:
        """Bring the bench to rest over the second path, whatever the runner hangs in; whether that is known to be."""
        done = threading.Event()
        threading.Thread(target=self._cut, args=(done,), daemon=True).start()
        return done.wait(REST_S)

    def _cut(self, done: threading.Event) -> None:
        if self.guard is not None:
            self.guard.raw.rest()
            done.set()

    def _back(self, worker: threading.Thread, patience_s: float) -> bool:
        worker.join(patience_s)
        return not worker.is_alive()

    def _end_stuck(self, at_rest: bool) -> None:
        """The runner does not come back: say so in its place and end hard. Threads cannot be ended, processes can."""
        words = f"Aborted: by {self.control.reason}; the bench did not answer, and was cut off over the second path"
        with contextlib.suppress(NeurobenchError):
            end_abandoned(
                self.path, status="aborted", state=State.ABORTED.value, error=words, stuck=True, exit_code=130,
                outputs={**self._outputs(), "at": utc_now()},
            )  # fmt: skip
        self.at_rest = at_rest
        if self._log is not None:
            self._log.flush()
        self.say_goodbye()
        self.tidy()
        os._exit(130)

    def tidy(self) -> None:
        """Remove what was only for clients."""
        with contextlib.suppress(OSError):
            _control_path(self.path).unlink()


def _forget(_: object) -> None:
    return None


def _load(folder: Path) -> tuple[Spec, bytes]:
    said = json.loads((folder / "spec.json").read_text())
    key = bytes.fromhex(said.pop("key"))
    return Spec(**said), key


def serve(folder: Path) -> int:
    """Run what stands in the folder, in this process, and return its exit code."""
    spec, key = _load(folder)
    host = _Host(spec, folder, key)
    listener = Listener(_address(folder), family="AF_PIPE" if WINDOWS else "AF_UNIX", backlog=CLIENTS)
    threading.Thread(target=host.listen, args=(listener,), daemon=True).start()
    if spec.watched:
        start_watcher(folder)
    worker = threading.Thread(target=host.work, daemon=True)
    worker.start()
    host.supervise(worker)
    host.say_goodbye()
    host.client_knows.wait(GOODBYE_S)  # else a refusal would be lost with this process
    host.tidy()
    if not spec.watched:
        shutil.rmtree(folder, ignore_errors=True)
    return host.exit_code


def start_watcher(folder: Path) -> None:
    """Start the process that brings the bench to rest if the engine of that folder dies."""
    start_detached("neurobench.runs.watcher", str(folder), log=folder / "watcher.log")


class _Watched:
    """The watcher's side of the connection to the engine."""

    def __init__(self, folder: Path) -> None:
        self.spec, key = _load(folder)
        self.link = connect(folder, key)
        send(self.link, "watch")

    def wait_for_the_end(self) -> bool:
        """Wait; True if the engine said goodbye, False if it died."""
        try:
            return bool(receive(self.link) == "goodbye")
        except (OSError, EOFError):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.link.close()


def rest_bench(spec: Spec) -> Outputs:
    """Open the bench of a dead engine and bring it to rest; what was read back then."""
    guard = open_guard(spec)
    try:
        guard.rest()
        return guard.outputs()
    finally:
        guard.close()


def watch(folder: Path) -> None:
    """Wait for the engine's end; if it dies without a goodbye, bring its bench to rest and say so in its record."""
    spec, _ = _load(folder)
    if not _said_goodbye(folder):
        _rest_dead(spec)
    shutil.rmtree(folder, ignore_errors=True)


def _said_goodbye(folder: Path) -> bool:
    """Wait for the engine's end; False if it died. One that hangs is waited for, also by a watcher that comes late."""
    while not (folder / GOODBYE).exists():
        try:
            with _Watched(folder) as watched:
                # What opening needs is loaded beforehand: afterwards, time counts.
                importlib.import_module(watched.spec.opener.partition(":")[0])
                return watched.wait_for_the_end() or (folder / GOODBYE).exists()
        except (TimeoutError, BlockingIOError):
            time.sleep(AGAIN_S)
        except (OSError, EOFError, AuthenticationError):
            return (folder / GOODBYE).exists()
    return True


def _rest_dead(spec: Spec) -> None:
    said: dict[str, Any] = {"at": utc_now(), "rested": False}
    outputs = Outputs()
    for _ in range(20):
        try:
            outputs = rest_bench(spec)
            said = {"at": utc_now(), "rested": True}
            break
        except Exception as error:  # noqa: BLE001 - whatever it is, try again and then say so
            said["error"] = f"{type(error).__name__}: {error}"
            time.sleep(0.25)
    with contextlib.suppress(NeurobenchError):
        _control_path(Path(spec.path).absolute()).unlink(missing_ok=True)
        end_abandoned(spec.path, watcher=said, outputs={"on": outputs.on, "how": outputs.how, "at": utc_now()})


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1])))
