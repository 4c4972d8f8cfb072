"""The run that goes on: begin it in an engine of its own, pause, stop and abort it, hear its end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from neurobench.bench.config import IN_PROCESS
from neurobench.errors import BenchFault, NeurobenchError
from neurobench.runs.request import Request, prepare

from .connection import Connection
from .offers import Offer
from .owner import EMULATED, ENDS_S, UNKNOWN
from .reading import Link, RunBench, bench_of_run, last_words
from .states import LIVE, BenchState, Event, after

if TYPE_CHECKING:
    from neurobench.runs.engine import Engine, Made

AGAIN_S = 0.05  # between two aborts of an engine that does not answer, besides the time that it is given to
HARD_OFF_S = 2.0  # a second abort within this time ends the engine itself
WATCHED_S = 60.0  # so long the watcher of an engine that died may take to say how the bench is
BEGINS_S = 1.0  # so long a window that ends waits for an engine that is just being started

# What an engine says of its run, and where the window stands then.
FOLLOWS = {
    "ready": BenchState.STARTING, "running": BenchState.RUNNING, "pausing": BenchState.PAUSING,
    "paused": BenchState.PAUSED, "stopping": BenchState.STOPPING, "aborting": BenchState.ABORTING,
}  # fmt: skip
UNCHECKED = (BenchState.CONNECTING, BenchState.DISCONNECTED)
DRIVING = frozenset({"ready", "running", "pausing", "paused", "stopping"})  # what an engine says until it aborts
DEAF = (
    "the engine does not answer the abort: press Esc twice within two seconds to end it; its watcher then brings the "
    "bench to rest"
)
LOST = "what it measures from now on may be lost. Bring the disk or the file back, or abort it (Esc)"
STARTING: dict[str, Any] = {"on": None, "age_s": 0.0, "how": "a run is being started, and was not asked yet"}
DIED = "its engine is gone, and its watcher brings the bench to rest"
REST = "look at the instruments, then acknowledge (Ctrl+Shift+F), which brings it to rest"
UNPROVEN = f"nobody has read back that the outputs are off: {REST}"
HARD_OFF = "HARD OFF: the engine is ended, its watcher brings the bench to rest"
HARD_END = "HARD OFF: the engine is ended, and the emulated chip with it"
ALREADY = "a run is going on already (F6 pauses it, Esc aborts it); put this one into the queue"


def elsewhere_words(path: Path) -> str:
    """A run that a command line or a script has begun has no engine that a window could ask."""
    return (
        f"{path.name} is written by another program: it is only shown here, and stopped where it was started (Ctrl+C)"
    )


def _end_words(status: str, error: str | None, stopped: bool) -> str:
    """How a run has ended, for the operator."""
    if stopped:
        return "the run was stopped; Resume on the Runs page (Ctrl+4) goes on with it"
    if status == "aborted" and error:
        return f"the run ended: aborted {error.removeprefix('Aborted: ').removeprefix('aborted ')}"
    return "; ".join(filter(None, ("the run ended: " + status.replace("_", " "), error)))


class Running(Connection):
    """At most one run at a time. Nothing in here waits: an engine is begun, asked and heard in threads."""

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(folder, parent)
        self.request: Request | None = None
        self.hand = False
        self.on_death: str | None = None  # "keep" or "abort" if the window dies; None: as the bench suggests
        self.run_bench: RunBench | None = None  # where the run goes on, or went on: not always the bench above
        self.run_held = False  # whether the run that goes on ends, in order, if the window dies
        self.stopped = False  # whether the run that ended last was stopped by the operator, between two steps
        self.offer: Offer | None = None  # what the run that ended last leaves to be accepted
        self._engine: Engine | None = None
        self._link: Link | None = None
        self._aborted_at, self._asked_at, self._abort_at_begin = -1e9, -1e9, False
        self._beginning: threading.Thread | None = None
        self._told_gone = False  # that the file of the run that goes on is no longer there
        self._outputs_before = UNKNOWN  # the run that is being started; it drives nothing if it is refused
        self._made: Engine | None = None  # the engine that is begun, or was last: there before it has begun

    # -- its beginning ------------------------------------------------------------------------------------------

    def start(self, request: Request) -> bool:
        """Begin a run in an engine of its own."""
        if (words := self._why_not()) is not None:
            return self._refuse(words)
        self.request = request
        emulated = request.bench == self.bench_name and self._emulated
        self._begin(lambda made: self._started(request, made), keep=not self._held, emulated=emulated)
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

    def go_on(self, path: Path, *, accept_doubt: bool = False, accept_baseline: bool = False) -> bool:
        """Go on with a run that was cut off, on the bench that its file names, in an engine of its own."""
        if (words := self._why_not()) is not None:
            return self._refuse(words)

        def started(made: Made) -> Engine:
            from neurobench.runs import launch

            recorded = launch.recorded(path)
            self._check_confirmed(recorded.bench)
            self.request = recorded.request
            return launch.go_on(path, held=True, accept_doubt=accept_doubt, accept_baseline=accept_baseline, made=made)

        self._begin(started, keep=not self._held)
        return True

    def accept(self, typed: str) -> bool:
        """Go on with the run that ended last, and accept what it leaves; on a real chip its name is typed for that."""
        offer = self.offer
        if offer is None:
            return self._refuse("there is no run that waits for anything to be accepted")
        if not offer.accepted_by(typed):
            return self._refuse(f"the chip of this run is called {offer.chip_id!r}, not {typed.strip()!r}: type its id")
        doubt, baseline = offer.what == "doubt", offer.what == "baseline"
        return self.go_on(offer.path, accept_doubt=doubt, accept_baseline=baseline)

    def _started(self, request: Request, made: Made) -> Engine:
        from neurobench.runs import launch

        prepared = prepare(request)
        self._check_confirmed(prepared.bench)
        return launch.start(prepared, self.runs_folder, held=True, made=made)

    @property
    def _held(self) -> bool:
        """Whether the next run is to end, in order, if the window dies."""
        return (self.on_death or ("keep" if self.simulated else "abort")) == "abort"

    @property
    def _emulated(self) -> bool:
        return self.bench is not None and self.bench.bench.backend in IN_PROCESS

    def _begin(
        self, start: Callable[[Made], Engine], *, keep: bool, hand: bool = False, emulated: bool = False
    ) -> None:
        """`start` holds the engine: one that nobody has seen begin ends with the window. `keep`: it is let go then.

        From here on nobody knows how the outputs stand, until the engine is asked; unless the chip is emulated.
        """
        self.hand, self.offer, self._made, self._abort_at_begin = hand, None, None, False
        self._outputs_before = self.outputs
        self._move(Event.START)
        if not emulated:
            self._set_outputs(STARTING)

        def work() -> None:
            try:
                engine = start(self._have_made)
                bench = bench_of_run(engine.path)
            except Exception as error:  # noqa: BLE001 - whatever it is, the operator is to hear it
                words, doubtful = str(error) or type(error).__name__, isinstance(error, BenchFault)
                self._post(lambda: self._not_begun(words, doubtful))
                return
            if keep and not self._abort_at_begin:
                engine.let_go()
            self._post(lambda: self._begun(engine, bench, not keep))

        self._beginning = self._aside(work, "begin")

    def _have_made(self, engine: Engine) -> None:
        """Called in the thread that starts it: one that was aborted meanwhile hears it before it begins."""
        self._made = engine
        if self._abort_at_begin or self._ending:
            engine.abort_soon()

    def _not_begun(self, words: str, doubtful: bool = False) -> None:
        """It never began. Where the bench itself failed, nobody knows how its outputs stand."""
        self.hand = False
        if doubtful and not self.simulated:
            self._set_outputs({"on": None, "age_s": 0.0, "how": "the run failed before it began"})
        elif self.outputs is STARTING:
            self._set_outputs(self._outputs_before)
        aborted, unknown = self.state is BenchState.ABORTING, doubtful and not self.simulated
        self._move(Event.ENDED if aborted and not unknown else Event.FAILED)
        self.said.emit("warning" if aborted and not doubtful else "error", words)
        self._after_run(f"refused: {words}", well=not (doubtful or aborted))

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
        self._told_gone = False
        self._aborted_at = -1e9  # what was pressed for the run before is no first press for this one
        self._engine, self._link = engine, Link(engine, EMULATED if bench.emulated else UNKNOWN)
        self._link.start()

    # -- while it goes on --------------------------------------------------------------------------------------

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
            ran = self.run_bench
            self.said.emit("warning", HARD_END if ran is not None and ran.emulated else HARD_OFF)
            self._aside(engine.kill)
        else:
            self._abort_now(engine)
        return True

    def _abort_without_engine(self) -> bool:
        """Nothing is driven yet: what is on its way never begins, a check is given up."""
        if self.state is BenchState.CONNECTING:
            self._check_no_more()
            self._move(Event.ABORT)
            self.bench_changed.emit()
            return True
        if self.state is BenchState.STARTING:
            return self._abort_beginning()
        if self.state is BenchState.ABORTING:
            return self._end_beginning()
        return self._refuse("no run of this window is going on; outputs: " + self.outputs_words())

    def _abort_beginning(self) -> bool:
        self._abort_at_begin, self._aborted_at = True, time.monotonic()  # first: the engine may be made at this moment
        if self._made is not None:
            self._aside(self._made.abort_soon)
        return self._move(Event.ABORT)

    def _end_beginning(self) -> bool:
        """A second abort of a run that has not begun: the engine itself is ended, if it is there."""
        again = time.monotonic() - self._aborted_at < HARD_OFF_S
        self._aborted_at = time.monotonic()
        if not again or self._made is None:
            return self._refuse("the run has not begun yet, and will not; press Esc twice to end its engine")
        self.said.emit("warning", "HARD OFF: the engine is ended before it has begun")
        self._aside(self._made.kill)
        return True

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

    def keep_running(self) -> None:
        """Let the engine go on if this window ends. Until then it can be paused and aborted here as before."""
        self.run_held = False
        if self._engine is not None:
            self._engine.let_go()

    # -- runs that went on already -----------------------------------------------------------------------------

    def open_run(self, path: Path) -> bool:
        """Show a run, live or old. A live one that no window holds is taken over: it can be paused and aborted here."""
        path = Path(path)
        if not path.is_file():
            return self._refuse(f"there is no run file {path}")
        self.show(path)
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
        name, asked = engine.path.name, self.bench_name if self.state in UNCHECKED else ""
        if self.state is BenchState.CONNECTING:
            self._move(Event.DISCONNECT)  # the check would find the bench in use, by this very run perhaps
        if self.state is BenchState.DISCONNECTED:
            self._let_go()  # a bench that nobody has checked is not ready when the run ends
        if self.state not in LIVE and self._move(Event.BEGUN):
            self._follow(engine, bench, held=False)
            later = f"; connect {asked} when it has ended (Ctrl+2)" if asked else ""
            self.said.emit("info", f"attached to {name}, which was going on already{later}")
        elif self._engine is None or self._engine.path != engine.path:
            mine = "acknowledge the fault here" if self.state is BenchState.FAULT else "let the run of this window end"
            self.said.emit("warning", f"{name} is only shown: to pause or abort it, {mine}, and open it again")

    # -- its end -----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        super()._tick()
        if self._link is not None:
            self._heard(self._link)

    def _heard(self, link: Link) -> None:
        if link.ended.is_set():
            self._link, self._engine, self.run_held = None, None, False
            self._run_ended(link.engine.path, link.last_words)
            return
        self._set_outputs(link.outputs)
        if link.file_gone and not self._told_gone:
            self._told_gone = True
            self.said.emit("error", f"{link.engine.path} is gone, and the run goes on: {LOST}")
        to = FOLLOWS.get(link.state or "")
        # What was asked for is not taken back by an answer that was given before it; an abort never is.
        if to is not None and link.asked_at > self._asked_at and self.state is not BenchState.ABORTING:
            self._stand(to)

    def _run_ended(self, path: Path, said: Mapping[str, Any]) -> None:
        status, error = str(said.get("status")), said.get("error")
        emulated = self.run_bench is not None and self.run_bench.emulated
        self._set_outputs(said.get("outputs") or (EMULATED if emulated else UNKNOWN))
        self.hand = False
        unproven = status == "aborted" and self.outputs.get("on") is not False
        failed = unproven or status in ("fault", "crashed", "damaged")
        level = "error" if failed else "warning" if status == "aborted" else "info"
        why = DIED if status == "crashed" and not emulated else UNPROVEN if unproven else ""
        self.stopped, self.offer = bool(said.get("stopped")), said.get("offer")
        self.said.emit(level, "; ".join(filter(None, (_end_words(status, error, self.stopped), why))))
        self._move(Event.FAILED if failed else Event.ENDED)
        well = not (failed or status == "aborted" or self.stopped)
        self._after_run("stopped" if self.stopped else status, well=well)
        if status == "crashed" and not emulated:
            self._aside(lambda: self._await_watcher(path), "watcher")

    def _await_watcher(self, path: Path) -> None:
        """Beside the window: what the watcher of an engine that died says of the bench."""
        end, said = time.monotonic() + WATCHED_S, last_words(path)
        while not (said.get("watcher") or self._ending) and time.monotonic() < end:
            time.sleep(AGAIN_S)
            said = last_words(path)
        self._post(partial(self._watcher_said, said))

    def _watcher_said(self, said: Mapping[str, Any]) -> None:
        if self.state is not BenchState.FAULT or self.outputs.get("on") is False:
            return  # somebody was quicker
        watcher = said.get("watcher") or {"error": "nobody has heard of it"}
        if watcher.get("rested"):
            self._set_outputs(said.get("outputs") or UNKNOWN)
            self.said.emit("warning", f"the watcher has brought the bench to rest: outputs {self.outputs_words()}")
        else:
            self.said.emit("error", f"the watcher has not brought the bench to rest ({watcher.get('error')}): {REST}")

    def _after_run(self, words: str, *, well: bool) -> None:
        """A run has ended so, or could not begin. `well`: neither bench nor operator speaks against the next one."""

    def shutdown(self) -> None:
        """See above; the engine hears nothing of it, unless it is held, or is only just being started."""
        if (link := self._link) is not None:
            link.stop()
        super().shutdown()
        if link is not None:
            link.join(ENDS_S)
        if self._beginning is not None:
            self._beginning.join(BEGINS_S)
