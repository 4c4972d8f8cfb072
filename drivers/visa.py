"""A bench of real instruments by VISA: SMU, pulse generator and switch matrix as one crossbar.

The order that protects the chip, for every shot and every read: sources at 0 V, open all relays, prove none closed,
close exactly, prove exactly, trigger once, poll for the end, go on. A trigger is never repeated on a timeout: after a
lost answer a witness in the instrument is asked (bench rule 19, decision 0050).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from math import inf, nan, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from neurobench.bench.crossbar import (
    Applied,
    Capabilities,
    Crossbar,
    Done,
    Identity,
    NotDone,
    Outcome,
    Outputs,
    Reading,
    Unknown,
    Witness,
)
from neurobench.bench.steps import DeviceSpan
from neurobench.bench.stimulus import CellRead, FloatArray, Read, ShotList
from neurobench.errors import BenchFault, CapabilityMissing, InstrumentError, LinkLost, UsageError

from ._outputs import Driven
from ._visa_jobs import Job, is_nothing, job_for
from ._visa_open import Connected, VisaDriver, patiently
from ._visa_plan import Path, Team, make_capabilities, make_paths
from .instruments._roles import PulseSource, Smu, Sweep, Tally

if TYPE_CHECKING:
    from neurobench.bench.config import BenchConfig
    from neurobench.bench.crossbar import Hearer
    from neurobench.bench.limits import Limits

T = TypeVar("T")

STAGINGS = 4  # how often what sends no volts is tried again after a lost answer; a trigger never is
TRIGGERS = 4  # how often a shot is triggered of which the witness says each time that it was certainly not fired
POLL_S = 0.002
SLICE_S = 0.02
HEADROOM = 1.5  # a read range holds this much more than the largest current that the device is declared to have
RANGE_SETTLE_S = 0.01  # of a meter that comes from another range, before its first reading
MARGIN_S = 1.0  # how much longer than its pulses a burst may take until its end counts as lost


class _Staged(NamedTuple):
    seq: int
    job: Job
    witness: Witness

    @property
    def source(self) -> PulseSource:
        """What fires it."""
        return self.job.source


class _Nothing(NamedTuple):
    """Shots that put no volt on any line."""

    seq: int
    shots: int


class _Progress(NamedTuple):
    """How far the firing of a stimulus is known to have come: shots, when it began, currents measured so far."""

    seq: int
    shots: int
    start_s: float
    currents_a: list[float]


class VisaCrossbar(Crossbar):
    """The instruments of a bench as one crossbar. It cannot tell simulated instruments from real ones."""

    def __init__(self, connected: Connected, config: BenchConfig, span: DeviceSpan, backend: str) -> None:
        self._connected, self._config, self._span, self._backend = connected, config, span, backend
        self.team: Team = connected.team
        self._clock = connected.clock
        self._paths = make_paths(config, self.team)
        self._capabilities = make_capabilities(config, self.team, self._paths)
        self._limits: Limits | None = None
        self._staged: _Staged | None = None
        self._answers: dict[int, Applied] = {}
        self._progress = _Progress(-1, 0, nan, [])
        self._last: _Staged | None = None  # what this process staged last
        self._nothing = _Nothing(-1, 0)  # what was staged last without a pulse
        self._triggered = -1  # the last one of which it sent a trigger
        self._sure = True  # whether all that was triggered is known to have been fired, or not
        self._cut: tuple[int, int] | None = None  # the shot that rest() cut off
        self._flying: tuple[int, int] | None = None  # the shot that was triggered and has not ended
        self._set_up: tuple[int, int] | None = None  # kind of the shot, and answers lost until it was set up
        self._routed: Path | None = None
        self._metered: tuple[float, float] | None = None  # range and aperture that the meter has settled in
        self._zeros_a: dict[tuple[int, int], float] = {}  # of these, by cell
        self._halted = threading.Event()
        # Both are reentrant: a signal's handler may rest the bench in the middle of anything.
        self._gate = threading.RLock()  # held while a trigger goes out or a result is kept: rest() is before or after
        self._resting = threading.RLock()
        self._closed = False
        # whoever has connected them has switched them off, and asked
        self._driven = Driven(self._gate, self._halted, Outputs(False, "read back"))

    @property
    def capabilities(self) -> Capabilities:
        """What this combination of instruments can do with this chip."""
        return self._capabilities

    def identity(self) -> Identity:
        """Every instrument in its own words; simulated if any of them says that it is."""
        found = self._connected.identified
        details: dict[str, Any] = {
            "instruments": {role: one._asdict() for role, one in found.items()},
            "resources": self._connected.resources,
            "read_topology": self._capabilities.read_topology,
            "wiring": self._config.instruments.wiring.model_dump(mode="json"),
            "half_select": self._span.half_select,
        }
        simulated = any(one.simulated for one in found.values())
        chip_id = self._config.chip.id or self._connected.chip_id or f"unnamed chip on {self._config.bench.name}"
        return Identity(self._backend, simulated, chip_id, details)

    # -- pulses --------------------------------------------------------------------------------------------------

    def stage(self, seq: int, shots: ShotList) -> Witness:
        """Program the first kind of pulse, or waveforms, and begin to count; all relays are open, no volts reach the
        chip."""
        if shots.shape != self._capabilities.shape:
            raise UsageError(f"the shots are for {shots.shape} cells, the bench has {self._capabilities.shape}")
        if seq <= self._triggered:
            raise UsageError(f"sequence number {seq} was used: the last one triggered is {self._triggered}")
        self._go_on()
        self._staged = None
        if is_nothing(shots):
            self._nothing = _Nothing(seq, len(shots))
            return Witness()
        job = self._job(shots)
        with self._driven.driving():  # sources are switched on in here, and stay so until `rest`
            self._try(self._isolate)
            self._try(lambda: self._program(job, 0))
            witness = self._try(lambda: job.source.baseline(seq))
        with self._unless_halted():
            self._last = self._staged = _Staged(seq, job, witness)
        return witness

    def _job(self, shots: ShotList) -> Job:
        return job_for(shots, self.team, self._paths, self._span)

    def _go_on(self) -> None:
        """A call begins: what an earlier rest() stopped may go on. One that is under way comes to its end first."""
        with self._resting:
            self._halted.clear()
            self._connected.unlatch()

    @contextlib.contextmanager
    def _unless_halted(self) -> Iterator[None]:
        """Keep what was done, unless rest() has undone it meanwhile."""
        with self._gate:
            self._refuse_halted("what was begun is undone")
            yield

    def _isolate(self) -> None:
        if self._routed is None or self._routed:
            self._switch(frozenset(), self.team.matrix.open_all)

    def _switch(self, path: Path, do: Callable[[], None]) -> None:
        self._routed = None
        do()
        with self._unless_halted():
            self._routed = path

    def _program(self, job: Job, k: int) -> None:
        """Set up what shot k fires, behind open relays; the source is at 0 V and stays there."""
        self._set_up = None
        losses = self._connected.losses
        if job.source is self.team.meter_source:
            self._metered = None
        job.set_up(k)
        job.source.connect()
        with self._unless_halted():
            self._set_up = job.kind(k), losses

    def fire(self, seq: int) -> Applied:
        """Fire what was staged, shot by shot, each triggered once. LinkLost: ask `outcome`."""
        if seq in self._answers:
            return self._answers[seq]
        staged = self._staged
        if seq == self._nothing.seq and staged is None:
            now_s = self._clock.now_s()
            self._answers = {seq: Applied(self._nothing.shots, 0, now_s, now_s)}
            return self._answers[seq]
        if staged is None or staged.seq != seq:
            raise LinkLost(f"step {seq} is not staged (any more): the bench was brought to rest; nothing was fired")
        self._staged, progress = None, _Progress(seq, 0, self._clock.now_s(), [])
        with self._driven.driving():
            for k in range(len(staged.job.repeats)):
                self._progress = progress._replace(shots=k)
                self._fire_shot(staged, k)
                self._progress = progress._replace(shots=k + 1)
                self._measured(staged, progress.currents_a)
        applied = self._applied(staged, self._progress)
        self._answers = {seq: applied}
        self._leave()
        return applied

    def _leave(self) -> None:
        """Disconnect the source. What was fired is known by now: a lost answer here must not put it in doubt."""
        with contextlib.suppress(BenchFault):
            self._isolate()

    def _fire_shot(self, staged: _Staged, k: int) -> None:
        for _ in range(TRIGGERS):
            self._try(lambda: self._make_ready(staged, k))
            if self._fired(staged, k):
                return
        raise LinkLost(f"shot {k} of step {staged.seq} was triggered {TRIGGERS} times and certainly never fired")

    def _make_ready(self, staged: _Staged, k: int) -> None:
        """What shot k fires set up, behind open relays; then its cells connected."""
        job = staged.job
        if self._set_up != (job.kind(k), self._connected.losses):
            self._isolate()
            self._program(job, k)
        self._route(job.path(k))

    def _fired(self, staged: _Staged, k: int) -> bool:
        """Trigger shot k and see it end. False: the witness says that it was certainly not fired."""
        fired = True
        try:
            self._trigger(staged, k)
            self._await_end(staged, k)
        except LinkLost as lost:
            fired = self._witnessed(staged, k, lost)
        finally:
            self._flying = None
        self._sure = True
        return fired

    def _trigger(self, staged: _Staged, k: int) -> None:
        staged.source.arm(staged.seq, k, staged.job.repeats[k])
        with self._gate:
            self._refuse_halted(f"shot {k} of step {staged.seq} was not triggered")
            self._triggered, self._flying, self._sure = staged.seq, (staged.seq, k), False
            staged.source.trigger()

    def _refuse_halted(self, what: str) -> None:
        if self._halted.is_set():
            raise InstrumentError(f"{what}: the bench was brought to rest")

    def _await_end(self, staged: _Staged, k: int) -> None:
        """Sleep while the pulses last, then poll; an abort does not wait for them."""
        lasts_s = staged.job.lasts_s(k)
        end_s = self._clock.now_s() + lasts_s + MARGIN_S
        self._sleep(lasts_s)
        while not staged.source.done():
            self._refuse_halted(f"shot {k} of step {staged.seq} was cut off")
            if self._clock.now_s() > end_s:
                raise LinkLost(f"shot {k} of step {staged.seq} has not ended after {lasts_s + MARGIN_S:g} s")
            self._clock.sleep(POLL_S)
        if self._cut == (staged.seq, k):
            raise InstrumentError(f"shot {k} of step {staged.seq} was cut off: the bench was brought to rest")

    def _sleep(self, seconds: float) -> None:
        """Wait, in slices so that an abort does not have to."""
        end_s = self._clock.now_s() + seconds
        while (left_s := end_s - self._clock.now_s()) > 0 and not self._halted.is_set():
            self._clock.sleep(min(left_s, SLICE_S))

    def _witnessed(self, staged: _Staged, k: int, lost: LinkLost) -> bool:
        """Whether shot k was fired although its answer was lost; LinkLost if not even the witness can tell."""
        self._refuse_halted(f"shot {k} of step {staged.seq} was cut off")
        self._sleep(staged.job.lasts_s(k))
        found = self._ask(lambda: self._tally(staged))
        if found.doubt or found.pulses or found.shots not in (k, k + 1):
            raise lost
        return found.shots == k + 1

    def _tally(self, staged: _Staged) -> Tally:
        return staged.source.tally(staged.seq, staged.witness, staged.job.repeats)

    def _route(self, path: Path) -> None:
        if path != self._routed:
            self._switch(path, lambda: self.team.matrix.route(path))

    def _ask(self, ask: Callable[[], T]) -> T:
        """Ask again what sets nothing, after a lost answer: what is under way must not be disturbed."""
        for left in reversed(range(STAGINGS)):
            try:
                return ask()
            except LinkLost:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _try(self, ask: Callable[[], T]) -> T:
        """Ask again what sends no volts to the chip, after a lost answer."""
        for left in reversed(range(STAGINGS)):
            try:
                self._refuse_halted("nothing more was sent")
                self._connected.reassure(self._limits, self._capabilities.biases)
                return ask()
            except LinkLost:
                self._routed = None
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _measured(self, staged: _Staged, currents: list[float]) -> None:
        """Keep the current of the first pulse of the last shot: its one cell's, where the batch measures."""
        if staged.job.measures:
            measured = self._try(staged.source.currents_a)
            currents.append(nan if measured is None or not len(measured) else float(abs(measured[0][-1])))

    def _applied(self, staged: _Staged, progress: _Progress) -> Applied:
        job, done, start_s = staged.job, progress.shots, progress.start_s
        pulses = job.pulses(done)
        if not job.measures:
            return Applied(done, pulses, start_s, self._clock.now_s())
        unheard = done - len(progress.currents_a)
        amperes = np.array([*progress.currents_a, *[nan] * unheard])
        energy_j = job.energy_j(amperes)
        limit_a = self._limits.compliance_a if self._limits and self._limits.compliance_a else inf
        hit = bool((amperes >= 0.999 * limit_a).any())
        return Applied(done, pulses, start_s, self._clock.now_s(), energy_j, "measured", hit, amperes)

    def outcome(self, seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        """What became of `seq`: by what this process saw, else by the witness in the pulse source."""
        if seq in self._answers:
            return Done(self._answers[seq])
        done = self._progress.shots if self._progress.seq == seq else 0
        if self._cut is not None and self._cut[0] == seq and self._cut[1] >= done:
            return Unknown(self._cut[1], "the outputs were switched off while its pulses were going out")
        here = self._last if self._last is not None and self._last.seq == seq else None
        if self._last is not None and seq >= max(self._last.seq, self._triggered + 1):
            return NotDone()  # it was staged here and not triggered, or not even staged
        job = here.job if here is not None else self._job(shots) if shots is not None else None
        if job is None:
            return Unknown(done, "what was staged is not known here")
        staged = _Staged(seq, job, witness)
        if seq == self._triggered and self._sure:
            return self._ended(staged, done)
        self._go_on()
        found = self._ask(lambda: self._tally(staged))
        if found.doubt:
            return Unknown(max(found.shots, done), found.doubt)
        if found.pulses:
            return Unknown(found.shots, f"{found.pulses} of the pulses of its next shot were counted")
        return self._ended(staged, found.shots)

    def _ended(self, staged: _Staged, done: int) -> Outcome:
        """So many shots were fired, and the rest of them will not be."""
        if not done:
            self._triggered = min(self._triggered, staged.seq - 1)  # it may be staged again
            return NotDone()
        seen = self._progress
        if seen.seq != staged.seq:  # another process fired them; when, is not known here
            seen = _Progress(staged.seq, 0, self._clock.now_s(), [])
        applied = self._applied(staged, seen._replace(shots=done))
        self._answers = {staged.seq: applied}
        return Done(applied)

    # -- reads ---------------------------------------------------------------------------------------------------

    def sense(self, read: Read) -> Reading:
        """Read cell by cell: route, force the levels, measure; a path's first read also measures it at 0 V."""
        if not isinstance(read, CellRead):
            raise CapabilityMissing("this bench has one ammeter: it reads cells, the host multiplies")
        self._go_on()
        self._sleep(read.delay_s)
        start_s = self._clock.now_s()
        range_a = self._range_a(read)
        settle_s = self._config.instruments.settle_s or 0.0
        cells = np.argwhere(read.mask)
        currents, flags = np.empty((1 + read.both_polarities, len(cells))), set[str]()
        with self._driven.driving():
            self._try(lambda: self.team.smu.prepare(range_a, read.integration_s, settle_s))
            self._settle_in(range_a, read.integration_s)
            for n, (row, col) in enumerate(cells.tolist()):
                currents[:, n] = self._read_cell(row, col, read, flags)
            self._try(self._isolate)
        return self._reading(read, currents, range_a, start_s, flags)

    def _settle_in(self, range_a: float, integration_s: float) -> None:
        """After another range, that of pulses above all: let the meter settle, and measure its zeros anew (rule 6)."""
        if self._metered != (range_a, integration_s):
            self._zeros_a.clear()
            self._sleep(RANGE_SETTLE_S)
            self._metered = range_a, integration_s

    def _range_a(self, read: CellRead) -> float:
        """The range for the largest current that the device is declared to have (bench rule 6)."""
        fixed = self._config.instruments.read_range_a
        if fixed is not None:
            return fixed
        expected_a = abs(read.voltage_v) * self._span.g_max_s * HEADROOM
        ranges = [r for r in self.team.smu.ranges_a if r >= expected_a] if expected_a > 0 else []
        return min(ranges, default=1e-3 if 1e-3 in self.team.smu.ranges_a else max(self.team.smu.ranges_a))

    def _read_cell(self, row: int, col: int, read: CellRead, flags: set[str]) -> FloatArray:
        levels = [read.voltage_v, -read.voltage_v] if read.both_polarities else [read.voltage_v]
        first = (row, col) not in self._zeros_a
        asked = [0.0, *levels] if first else levels

        def once() -> Sweep:
            self._route(self._paths.read(row, col))
            return self.team.smu.sweep(asked, read.averages)

        found = self._try(once)
        if first:
            self._zeros_a[row, col] = float(found.currents_a[0])
        flags |= {"compliance"} if found.compliance else set()
        flags |= {"over_range"} if found.over_range else set()
        amperes: FloatArray = found.currents_a[-len(levels) :]
        if not read.both_polarities:
            flags.add("zero_subtracted")
            amperes = amperes - self._zeros_a[row, col]
        return amperes

    def _reading(
        self, read: CellRead, currents: FloatArray, range_a: float, start_s: float, flags: set[str]
    ) -> Reading:
        volts, each_s = abs(read.voltage_v), read.integration_s * read.averages
        energy_j = float(np.abs(currents).sum()) * volts * each_s
        sigma_a = self._sigma_a(read, currents, range_a)
        return Reading(currents, sigma_a, range_a, start_s, self._clock.now_s(), energy_j, tuple(sorted(flags)))

    def _sigma_a(self, read: CellRead, currents: FloatArray, range_a: float) -> float:
        """Standard deviation of one current: the declared noise of the devices (nan: none is), and the SMU's own.

        Where the 0 V read of the path was subtracted, its noise is in it as well.
        """
        span, volts = self._span, abs(read.voltage_v)
        relative_a = span.read_sigma_relative * float(np.sqrt(np.mean(currents**2)))
        own_a = 0.0 if self._config.readout.ideal else self.team.smu.noise_a(range_a, read.integration_s)
        readings = 1 if read.both_polarities else 2
        return sqrt(((span.read_sigma_s * volts) ** 2 + relative_a**2 + readings * own_a**2) / read.averages)

    # -- time and safety -----------------------------------------------------------------------------------------

    @property
    def clock_s(self) -> float:
        """Time of the bench in seconds."""
        return self._clock.now_s()

    def harm(self) -> list[str]:
        """What a simulated bench says has hurt its chip."""
        return self._connected.harm()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._clock.sleep(seconds)

    def enforce(self, limits: Limits) -> None:
        """Program the current and voltage limits that the instruments have, and read them back. Clears nothing."""
        self._limits = limits
        patiently(lambda: self._connected.enforce(limits, self._capabilities.biases))

    def rest(self) -> None:
        """Outputs to 0 V and off, then every line to ground. From any thread: it cuts off what is going on.

        Where a source does not say that it is off, the relays stay as they are: they would switch hot.
        """
        self._halt()
        with self._resting:
            if self._closed:
                return
            with self._driven.resting():
                self._connected.silence(self._hottest())
            self._set_up = self._metered = self._routed = None
            ground = self._paths.grounded()
            patiently(lambda: self._ask(lambda: self.team.matrix.route(ground)))
            self._routed = ground
            self._connected.seal()

    def outputs(self) -> Outputs:
        """How the sources stand: off only where `rest` has read it back, unknown after an answer was lost."""
        return self._driven.now

    def overhear(self, hear: Hearer | None) -> None:
        """Every line to and from the instruments, with the role of the instrument."""
        for role, link in self._connected.links.items():
            link.log = None if hear is None else partial(hear, role)

    def _halt(self) -> None:
        """No trigger from here on, and none that was begun counts as known."""
        held = self._gate.acquire(timeout=SLICE_S)  # a link that hangs must not keep the outputs on
        try:
            self._halted.set()
            self._staged = None
            if self._flying is not None:
                self._cut = self._flying
        finally:
            if held:
                self._gate.release()

    def _hottest(self) -> Smu | PulseSource:
        """What may have volts on its outputs now: what fires, else what reads."""
        flying, last = self._flying, self._last
        return last.source if flying is not None and last is not None else self.team.smu

    def close(self) -> None:
        """Rest and let go of the links."""
        with self._resting:
            if self._closed:
                return
            try:
                self.rest()
            finally:
                self._closed = True
                self._connected.close()


plugin = VisaDriver("visa", VisaCrossbar)
