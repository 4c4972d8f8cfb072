"""The one owner of what goes on in the window: bench, run, queue, and what is shown.

Pages and views ask here and hear here; nobody else talks to an engine. Nothing in here waits: what takes time is done
in threads or child processes, and its end comes back as a call in the window's own thread.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from neurobench.bench.config import SIMULATED_BACKENDS, BenchConfig, load_bench
from neurobench.errors import BenchFault, NeurobenchError, UsageError
from neurobench.runs.request import Request, flags, prepare
from neurobench.system import runs_folder

from . import waiting
from .jobs import Job
from .reading import Link, Reader, RunBench, bench_of_run
from .states import LIVE, BenchState, Event, after

if TYPE_CHECKING:
    from neurobench.runs.engine import Engine
    from neurobench.runs.history import Snapshot

FRAME_MS = 33
AGAIN_S = 0.05  # between two aborts of an engine that does not answer, besides the time that it is given to
HARD_OFF_S = 2.0  # a second abort within this time ends the engine itself
UNKNOWN: dict[str, Any] = {"on": None, "age_s": 0.0, "how": "nobody has asked the bench yet"}
EMULATED: dict[str, Any] = {"on": False, "age_s": 0.0, "how": "emulated"}

# What an engine says of its run, and where the window stands then.
FOLLOWS = {
    "ready": BenchState.STARTING, "running": BenchState.RUNNING, "pausing": BenchState.PAUSING,
    "paused": BenchState.PAUSED, "stopping": BenchState.STOPPING, "aborting": BenchState.ABORTING,
}  # fmt: skip
DRIVING = frozenset({"ready", "running", "pausing", "paused", "stopping"})  # what an engine says until it aborts
DEAF = (
    "the engine does not answer the abort: press Esc twice within two seconds to end it; its watcher then brings the "
    "bench to rest"
)
ALREADY = "a run is going on already (F6 pauses it, Esc aborts it); put this one into the queue"


def elsewhere_words(path: Path) -> str:
    """A run that a command line or a script has begun has no engine that a window could ask."""
    return (
        f"{path.name} is written by another program: it is only shown here, and stopped where it was started (Ctrl+C)"
    )


class Session(QObject):
    """See the module. Methods that cannot do what is asked say why by `said` and return False."""

    state_changed = Signal(object)
    snapshot_changed = Signal()
    said = Signal(str, str)
    queue_changed = Signal()
    bench_changed = Signal()
    outputs_changed = Signal()
    wire = Signal(list)
    _posted = Signal(object)  # a call from another thread, to be made in this one

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.runs_folder = folder or runs_folder()
        self.state = BenchState.DISCONNECTED
        self.bench: BenchConfig | None = None
        self.bench_name, self.bench_settings = "", dict[str, Any]()
        self.checked: dict[str, Any] | None = None
        self.confirmed = False
        self.snapshot: Snapshot | None = None
        self.at_seq: int | None = None
        self.request: Request | None = None
        self.queue: waiting.Queue = ()
        self.outputs: dict[str, Any] = UNKNOWN
        self.run_path: Path | None = None
        self.hand = False
        self.on_death: str | None = None  # "keep" or "abort" if the window dies; None: as the bench suggests
        self.run_bench: RunBench | None = None  # where the run goes on, or went on: not always the bench above
        self.run_held = False  # whether the run that goes on ends, in order, if the window dies
        self._engine: Engine | None = None
        self._reader: Reader | None = None
        self._link: Link | None = None
        self._queue_on, self._running_id = False, 0
        self._aborted_at, self._asked_at, self._abort_at_begin = -1e9, -1e9, False
        self._jobs: list[Job] = []
        self._checking: Job | None = None
        self._resting = self._ending = False
        self._then: Callable[[], None] | None = None
        self._pool = ThreadPoolExecutor(4, "window")
        self._posted.connect(self._call)
        self._clock = QTimer(self)
        self._clock.setInterval(FRAME_MS)
        self._clock.timeout.connect(self._tick)
        self._clock.start()

    # -- the bench ----------------------------------------------------------------------------------------------

    def connect_bench(self, bench: str, settings: Mapping[str, Any] | None = None) -> bool:
        """Take a bench by name or file. What is not emulated is checked first: who is there, nothing is fired."""
        if self.state in LIVE:
            return self._refuse("the bench cannot be changed while a run is going on")
        if self.state is BenchState.CONNECTING:
            return self._refuse("a bench is being connected already")
        try:
            config = load_bench(bench, dict(settings or {}))
        except (NeurobenchError, OSError) as error:
            return self._refuse(str(error))
        self.bench, self.bench_name, self.bench_settings = config, str(bench), dict(settings or {})
        self.checked, self.confirmed = None, False
        self._move(Event.CONNECT)
        self.bench_changed.emit()
        if config.bench.backend == "emulator":
            self._connected(None)
        else:
            self._check(str(bench), self.bench_settings)
        return True

    def _check(self, bench: str, settings: Mapping[str, Any]) -> None:
        words = ["check", bench, *flags("--bench-set", settings)]
        self._checking = self.job(words, self._checked, self._not_connected)

    def _check_no_more(self) -> None:
        """The answer of a check that was given up must never be taken for that of the next bench."""
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None

    def _checked(self, found: dict[str, Any]) -> None:
        if found["exit_code"] == 0:
            self._connected(found)
        else:
            self._not_connected(str(found.get("error") or f"the check ended with code {found['exit_code']}"))

    def _connected(self, found: dict[str, Any] | None) -> None:
        if self.state is not BenchState.CONNECTING:
            return  # somebody thought better of it
        self.checked, self._checking = found, None
        self._set_outputs(EMULATED if found is None else found.get("outputs") or UNKNOWN)
        self._move(Event.CONNECTED)
        self.bench_changed.emit()

    def _not_connected(self, words: str) -> None:
        self._checking = None
        if self._move(Event.FAILED):
            self.said.emit("error", f"{self.bench_name} is not connected: {words}")
            self.bench_changed.emit()

    def disconnect_bench(self) -> bool:
        """Let go of the bench; nothing holds it between runs anyway."""
        if not self._move(Event.DISCONNECT):
            return self._refuse(f"there is nothing to disconnect while {self.state.value}")
        self._check_no_more()
        self.bench, self.checked, self.confirmed = None, None, False
        self._set_outputs(UNKNOWN)
        self.bench_changed.emit()
        return True

    @property
    def simulated(self) -> bool:
        """Whether the bench is an emulator or a simulated one: then no chip can be harmed."""
        return self.bench is not None and self.bench.bench.backend in SIMULATED_BACKENDS

    @property
    def chip_id(self) -> str:
        """The chip on the bench, by its check or its file."""
        told = (self.checked or {}).get("chip_id") or (self.checked or {}).get("chip")
        return str(told) if isinstance(told, str) else ("" if self.bench is None else self.bench.chip.id)

    def confirm_limits(self, chip_id: str) -> bool:
        """The operator has typed the chip's name below its limits; from now on runs may start on it."""
        if self.bench is None:
            return self._refuse("no bench is connected, so there are no limits to confirm")
        if not self.simulated and chip_id.strip() != self.chip_id:
            return self._refuse(f"the chip on this bench is called {self.chip_id!r}, not {chip_id.strip()!r}")
        self.confirmed = True
        self.bench_changed.emit()
        return True

    # -- a run --------------------------------------------------------------------------------------------------

    def start(self, request: Request) -> bool:
        """Begin a run in an engine of its own."""
        if (words := self._why_not()) is not None:
            return self._refuse(words)
        self.request = request
        held = self._held
        self._begin(lambda: self._started(request, held), hand=False, held=held)
        return True

    def _why_not(self) -> str | None:
        if self.state in LIVE:
            return ALREADY
        if self.state is BenchState.FAULT:
            return "there was a fault: acknowledge it first, once you have seen what it was"
        if self.bench is None or self.state is not BenchState.READY:
            return "no bench is connected: choose one (Ctrl+2)"
        if not (self.simulated or self.confirmed):
            return f"the limits of chip {self.chip_id} are not confirmed yet: see Connect (Ctrl+2)"
        return None

    def go_on(self, path: Path) -> bool:
        """Go on with a run that was cut off, on the bench that its file names, in an engine of its own."""
        if (words := self._why_not()) is not None:
            return self._refuse(words)
        held = self._held

        def started() -> Engine:
            from neurobench.runs import launch

            recorded = launch.recorded(path)
            self._check_confirmed(recorded.bench)
            self.request = recorded.request
            return launch.go_on(path, held=held)

        self._begin(started, hand=False, held=held)
        return True

    def _started(self, request: Request, held: bool) -> Engine:
        from neurobench.runs import launch

        prepared = prepare(request)
        self._check_confirmed(prepared.bench)
        return launch.start(prepared, self.runs_folder, held=held)

    def _check_confirmed(self, asked: BenchConfig) -> None:
        """A request may name another bench, or other limits, than those that were confirmed: not on a real chip."""
        known = self.bench
        if asked.bench.backend in SIMULATED_BACKENDS:
            return
        same = known is not None and (asked.bench, asked.chip, asked.limits) == (known.bench, known.chip, known.limits)
        if not (same and self.confirmed):
            raise UsageError(
                f"this run asks for bench {asked.bench.name!r} with limits of its own; connected and confirmed "
                f"is {self.bench_name!r}: connect that bench (Ctrl+2) and confirm its limits first"
            )

    @property
    def _held(self) -> bool:
        """Whether the next run is to end, in order, if the window dies."""
        return (self.on_death or ("keep" if self.simulated else "abort")) == "abort"

    def _begin(self, start: Callable[[], Engine], *, hand: bool, held: bool) -> None:
        self.hand, self._abort_at_begin = hand, False
        self._move(Event.START)

        def work() -> None:
            try:
                engine = start()
                bench = bench_of_run(engine.path)
            except Exception as error:  # noqa: BLE001 - whatever it is, the operator is to hear it
                words, doubtful = str(error) or type(error).__name__, isinstance(error, BenchFault)
                self._post(lambda: self._not_begun(words, doubtful))
                return
            if self._abort_at_begin or self._ending:  # at once, and not when the window comes to it
                engine.abort()
            self._post(lambda: self._begun(engine, bench, held))

        self._pool.submit(work)

    def _not_begun(self, words: str, doubtful: bool = False) -> None:
        """It never began. Where the bench itself failed, nobody knows how its outputs stand."""
        self.hand = False
        if doubtful and not self.simulated:
            self._set_outputs({"on": None, "age_s": 0.0, "how": "the run failed before it began"})
        self._end_queued("refused: " + words)
        self._move(Event.ENDED if self.state is BenchState.ABORTING else Event.FAILED)
        self.said.emit("error", words)
        self._perhaps_then()

    def _begun(self, engine: Engine, bench: RunBench, held: bool) -> None:
        self._follow(engine, bench, held)
        self.show(engine.path)
        if self._abort_at_begin:
            self._abort_now(engine)
        else:
            self._move(Event.BEGUN)

    def _follow(self, engine: Engine, bench: RunBench, held: bool) -> None:
        if self._link is not None:
            self._link.stop()
        self.run_bench, self.run_held = bench, held
        self._aborted_at = -1e9  # what was pressed for the run before is no first press for this one
        self._engine, self._link = engine, Link(engine, EMULATED if bench.emulated else UNKNOWN)
        self._link.start()

    def pause(self) -> bool:
        """Halt between two steps, outputs at rest."""
        return self._ask(Event.PAUSE, "pause")

    def resume(self) -> bool:
        """Go on after a pause."""
        return self._ask(Event.RESUME, "resume")

    def stop(self) -> bool:
        """End in order, between two steps."""
        return self._ask(Event.STOP, "stop")

    def _ask(self, event: Event, what: str) -> bool:
        engine = self._engine
        if engine is None or after(self.state, event) is None:
            return self._refuse(f"nothing to {what} while {self.state.value}")
        self._move(event)
        self._asked_at = float("inf")
        self._pool.submit(self._asked, getattr(engine, what), what)
        return True

    def _asked(self, ask: Callable[[], bool], what: str) -> None:
        taken = ask()
        self._asked_at = time.monotonic()
        if not taken:
            self._post(lambda: self.said.emit("info", f"the run had ended or moved on before it could {what}"))

    def abort(self) -> bool:
        """Cut the outputs now. A second call within two seconds ends the engine itself: its watcher rests the bench."""
        engine, now = self._engine, time.monotonic()
        if engine is None:
            return self._abort_without_engine()
        if self.state not in LIVE:
            return self._refuse("no run of this window is going on; outputs: " + self.outputs_words())
        again, self._aborted_at = now - self._aborted_at < HARD_OFF_S, now
        self._move(Event.ABORT)
        if again:
            self.said.emit("warning", "HARD OFF: the engine is ended, its watcher brings the bench to rest")
            self._aside(engine.kill)
        else:
            self._abort_now(engine)
        return True

    def _abort_without_engine(self) -> bool:
        """Nothing is driven yet: what is on its way is aborted as soon as it has begun, a check is given up."""
        if self.state is BenchState.CONNECTING:
            self._check_no_more()
            self._move(Event.ABORT)
            self.bench_changed.emit()
            return True
        if self.state is BenchState.STARTING:
            self._abort_at_begin = True
            return self._move(Event.ABORT)
        if self.state is BenchState.ABORTING:
            return self._refuse("the run has not begun yet; it is aborted as soon as it does")
        return self._refuse("no run of this window is going on; outputs: " + self.outputs_words())

    def _abort_now(self, engine: Engine) -> None:
        """Until it is taken: an engine that is deaf for a while may hear the next one."""

        def work() -> None:
            told = False
            while not (engine.abort() or self._ending) and engine.state() in DRIVING and engine.alive:
                if not told:
                    self._post(lambda: self.said.emit("error", DEAF))
                told = True
                time.sleep(AGAIN_S)

        self._aside(work)

    def _aside(self, call: Callable[[], object], name: str = "abort") -> None:
        """In a thread of its own: an abort must not stand in a queue."""
        threading.Thread(target=call, name=name, daemon=True).start()

    def outputs_words(self) -> str:
        """The outputs in words, as they were read back."""
        on = self.outputs.get("on")
        word = "UNKNOWN" if on is None else "ON" if on else "OFF"
        return f"{word} ({self.outputs.get('how', 'unknown')})"

    def acknowledge(self) -> bool:
        """Leave FAULT, once the outputs are verified to be off."""
        if self.state is not BenchState.FAULT:
            return self._refuse("there is no fault to acknowledge")
        if self.outputs.get("on") is False:
            return self._move(Event.ACKNOWLEDGE)
        if self._resting:
            return self._refuse("the bench is being brought to rest already")
        bench = self._faulty_bench()
        if bench is None:
            return self._refuse(
                "the run does not say which bench it was on: bring it to rest (neurobench rest BENCH), look at the "
                "instruments, then disconnect here (Ctrl+2)"
            )
        self._resting = True
        self.said.emit(
            "info", f"bringing {bench[1]} to rest first, since nobody has read back that its outputs are off"
        )
        self.job(bench, self._rested, self._not_rested)
        return True

    def _faulty_bench(self) -> list[str] | None:
        """How the bench of the run that failed is brought to rest; it may be another than the one connected."""
        ran, own = self.run_bench, self.bench
        if ran is not None and ran.named:
            return ["rest", ran.named, *flags("--bench-set", ran.settings)]
        if own is not None and (ran is None or ran.bench == own.bench.name):
            return ["rest", self.bench_name, *flags("--bench-set", self.bench_settings)]
        return None

    def _rested(self, found: dict[str, Any]) -> None:
        if found["exit_code"] != 0:
            self._not_rested(str(found.get("error")))
            return
        self._resting = False
        self._set_outputs({"on": False, "age_s": 0.0, "how": "brought to rest"})
        self._move(Event.ACKNOWLEDGE)

    def _not_rested(self, words: str) -> None:
        self._resting = False
        self.said.emit("error", f"the bench could not be brought to rest: {words}")

    # -- by hand ------------------------------------------------------------------------------------------------

    def hand_open(self) -> bool:
        """Open the bench for single reads and pulses by hand, recorded in a run file of their own."""
        if (words := self._why_not()) is not None:
            return self._refuse(words)
        config, seed, held = self.bench, 0, self._held
        assert config is not None

        def started() -> Engine:
            from neurobench.runs import hand

            return hand.start(config, seed, self.runs_folder, held=held)

        self.request = None
        self._begin(started, hand=True, held=held)
        return True

    def hand_do(self, request: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> bool:
        """One request of a hand session (see runs/hand.py); `answer` is called with what came of it."""
        engine = self._engine
        if engine is None or not self.hand or self.state is not BenchState.RUNNING:
            return self._refuse(f"the bench is not open by hand (it is {self.state.value})")

        def work() -> None:
            try:
                found = engine.ask_hand(request)
            except (NeurobenchError, OSError, EOFError) as error:
                found = {"refused": str(error) or type(error).__name__}
            self._post(lambda: answer(found))

        self._aside(work, "by hand")  # it lasts as long as it lasts: stop and pause must not wait behind it
        return True

    def hand_close(self) -> bool:
        """End the hand session in order."""
        return self.stop() if self.hand else self._refuse("no hand session is open")

    # -- the queue ----------------------------------------------------------------------------------------------

    def enqueue(self, request: Request) -> int:
        """Put a request at the end of the queue; its number."""
        self._set_queue(waiting.added(self.queue, request))
        return self.queue[-1].id

    def replace(self, queue_id: int, request: Request) -> bool:
        """Another request in its place, while it waits."""
        return self._edit(queue_id, waiting.changed(self.queue, queue_id, lambda one: replace(one, request=request)))

    def duplicate(self, queue_id: int) -> bool:
        """The same once more, behind it."""
        at = waiting.place(self.queue, queue_id)
        again = () if at is None else waiting.added(self.queue, self.queue[at].request, queue_id)
        return self._edit(queue_id, again)

    def remove(self, queue_id: int) -> bool:
        """Take an entry out, unless it runs."""
        if queue_id == self._running_id:
            return self._refuse("an entry that runs is not removed: stop or abort it")
        return self._edit(queue_id, tuple(one for one in self.queue if one.id != queue_id))

    def move(self, queue_id: int, by: int) -> bool:
        """Move an entry up (by < 0) or down."""
        return self._edit(queue_id, waiting.moved(self.queue, queue_id, by))

    def start_queue(self) -> bool:
        """Run what waits, one after another; a fault or an abort halts the queue."""
        if waiting.next_waiting(self.queue) is None:
            return self._refuse("nothing waits in the queue (Ctrl+Enter puts the form into it)")
        self._queue_on = True
        return True if self.state in LIVE else self._next()

    def stop_queue(self) -> None:
        """Let the run that is going on end, and begin no other."""
        self._queue_on = False

    def _next(self) -> bool:
        one = waiting.next_waiting(self.queue)
        self._queue_on = one is not None and self.start(one.request)
        if one is None or not self._queue_on:
            return False
        self._running_id = one.id
        self._set_queue(waiting.ended(self.queue, one.id, "running"))
        return True

    def _end_queued(self, words: str) -> None:
        ended, self._running_id = self._running_id, 0
        if ended:
            self._set_queue(waiting.ended(self.queue, ended, words))

    def _edit(self, queue_id: int, queue: waiting.Queue) -> bool:
        if waiting.place(self.queue, queue_id) is None:
            return self._refuse(f"the queue has no entry {queue_id}")
        self._set_queue(queue)
        return True

    def _set_queue(self, queue: waiting.Queue) -> None:
        self.queue = queue
        self.queue_changed.emit()

    # -- what is shown ------------------------------------------------------------------------------------------

    def open_run(self, path: Path) -> bool:
        """Show a run, live or old. A live one that no window holds is taken over: it can be paused and aborted here."""
        path = Path(path)
        if not path.is_file():
            return self._refuse(f"there is no run file {path}")
        self.show(path)
        if self.state not in LIVE:
            self._pool.submit(self._attach, path)
        return True

    def _attach(self, path: Path) -> None:
        from neurobench.runs import engine
        from neurobench.runs.runfile import RunFile

        with contextlib.suppress(NeurobenchError, OSError):
            found = engine.attach(path)
            if found.alive:
                bench = bench_of_run(path)
                self._post(lambda: self._attached(found, bench))
                return
        with contextlib.suppress(NeurobenchError, OSError), RunFile.open(path) as run:
            if run.live:
                self._post(lambda: self.said.emit("info", elsewhere_words(path)))

    @property
    def elsewhere(self) -> str:
        """Words for a run that is shown while another program writes it, since it cannot be stopped here; or ""."""
        shown, path = self.snapshot, self.run_path
        if path is None or shown is None or not shown.live or self.state in LIVE:
            return ""
        return elsewhere_words(path)

    def _attached(self, engine: Engine, bench: RunBench) -> None:
        if self.state not in LIVE and self._move(Event.BEGUN):
            self._follow(engine, bench, held=False)
            self.said.emit("info", f"attached to {engine.path.name}, which was going on already")

    def show(self, path: Path) -> None:
        """Show another run file from now on."""
        if self._reader is not None:
            self._reader.stop()
        self.run_path, self.snapshot, self.at_seq = path, None, None
        self._reader = Reader(path, lambda lines: self._post(lambda: self._heard_wire(path, lines)), self._news)
        self._reader.start()
        self.snapshot_changed.emit()

    def _news(self) -> None:
        """Called in the reader's thread: there is another snapshot."""
        self._post(self._take)

    def _take(self) -> None:
        reader = self._reader
        if reader is not None and reader.latest is not None and reader.latest is not self.snapshot:
            self.snapshot = reader.latest
            self.snapshot_changed.emit()

    def drawn(self) -> None:
        """The window has drawn and painted the newest snapshot: more may be read."""
        if self._reader is not None:
            self._reader.go_on()

    def _heard_wire(self, path: Path, lines: list[str]) -> None:
        if path == self.run_path:  # the reader of the run before may still have had some
            self.wire.emit(lines)

    def show_at(self, seq: int | None) -> bool:
        """Show the run as it stood after a step (the time slider); None: the newest."""
        if self._reader is None:
            return self._refuse("no run is open")
        self.at_seq = seq
        self._reader.show_at(seq)
        return True

    # -- the end ------------------------------------------------------------------------------------------------

    def keep_running(self) -> None:
        """Let the engine go on if this window ends. Until then it can be paused and aborted here as before."""
        self.run_held = False
        if self._engine is not None:
            self._engine.let_go()

    def close_all(self, then: Callable[[], None]) -> None:
        """Abort what goes on, and call `then` once its engine has ended and the outputs are known to be off."""
        self._then, self._queue_on = then, False
        if self.state in LIVE and self.state is not BenchState.ABORTING:
            self.abort()
        self._perhaps_then()

    def _perhaps_then(self) -> None:
        if self._then is not None and self.state not in LIVE:
            then, self._then = self._then, None
            then()

    def shutdown(self) -> None:
        """End all threads and child processes of this window; an engine goes on unless it is held."""
        self._clock.stop()
        self._ending = True
        threads = [thread for thread in (self._reader, self._link) if thread is not None]
        for thread in threads:
            thread.stop()
        for job in list(self._jobs):
            job.cancel()
            job.wait()
        for thread in threads:
            thread.join(5.0)
        self._pool.shutdown(wait=True, cancel_futures=True)

    # -- inside -------------------------------------------------------------------------------------------------

    def job(self, words: list[str], done: Callable[[dict[str, Any]], None], failed: Callable[[str], None]) -> Job:
        """A child process of the command line; one of the two is called at its end."""
        job = Job(words)  # whoever asked may keep it: it has no parent that would end it first
        self._jobs.append(job)

        job.done.connect(done)
        job.failed.connect(failed)
        job.gone.connect(lambda: self._jobs.remove(job))
        job.start()
        return job

    def _post(self, call: Callable[[], None]) -> None:
        """Have it called in the window's own thread, from any other; a window that has gone hears nothing."""
        with contextlib.suppress(RuntimeError):
            self._posted.emit(call)

    def _call(self, call: Callable[[], None]) -> None:
        call()

    def _refuse(self, words: str) -> bool:
        self.said.emit("warning", words)
        return False

    def _move(self, event: Event) -> bool:
        to = after(self.state, event)
        if to is not None:
            self._stand(to)
        return to is not None

    def _stand(self, state: BenchState) -> None:
        if state is BenchState.READY and self.bench is None:
            state = BenchState.DISCONNECTED  # a run that was only attached to has ended
        if state is not self.state:
            self.state = state
            self.state_changed.emit(state)

    def _set_outputs(self, outputs: dict[str, Any]) -> None:
        if outputs != self.outputs:
            self.outputs = outputs
            self.outputs_changed.emit()

    def _tick(self) -> None:
        reader, link = self._reader, self._link
        self._take()
        if reader is not None and reader.problem is not None:
            words, reader.problem = reader.problem, None
            self.said.emit("error", words)
        if link is not None:
            self._heard(link)

    def _heard(self, link: Link) -> None:
        if link.ended.is_set():
            self._link, self._engine, self.run_held = None, None, False
            self._run_ended(link.last_words)
            return
        self._set_outputs(link.outputs)
        to = FOLLOWS.get(link.state or "")
        # What was asked for is not taken back by an answer that was given before it; an abort never is.
        if to is not None and link.asked_at > self._asked_at and self.state is not BenchState.ABORTING:
            self._stand(to)

    def _run_ended(self, said: Mapping[str, Any]) -> None:
        status, error = str(said.get("status")), said.get("error")
        emulated = self.run_bench is not None and self.run_bench.emulated
        self._set_outputs(said.get("outputs") or (EMULATED if emulated else UNKNOWN))
        self.hand = False
        self._end_queued(status)
        failed = status in ("fault", "crashed", "damaged")
        if failed or status == "aborted":
            self._queue_on = False
        level = "error" if failed else "warning" if status == "aborted" else "info"
        self.said.emit(level, f"the run ended: {status}" + (f"; {error}" if error else ""))
        self._move(Event.FAILED if failed else Event.ENDED)
        if self._queue_on and self.state is BenchState.READY:
            self._next()
        self._perhaps_then()
