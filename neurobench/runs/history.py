"""What a run has shown so far, put together from its run file: the same for a live run and an old one.

A `Follower` reads what is new; `snapshot(at_seq)` is all that a view needs, for now or for any earlier step. Only what
was read back through the bench is in it; the hidden truth of an emulated chip has a field of its own, for a view of
its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.codec import unpack
from neurobench.bench.config import SIMULATED_BACKENDS
from neurobench.bench.crossbar import Capabilities
from neurobench.bench.steps import DeviceSpan
from neurobench.bench.stimulus import BoolArray, FloatArray, Pulse, PulseBatch, Waveforms
from neurobench.errors import RunFileError
from neurobench.learning.statistics import Raster
from neurobench.runs.drawing import Series
from neurobench.runs.feed import Feed, FollowedFile, Place
from neurobench.runs.heard import Heard
from neurobench.runs.library import NUMBERLESS, protocol_name, run_id
from neurobench.runs.standing import Line, Setting, Standing
from neurobench.runs.traces import Traces as Traces

KEY_BYTES = 64 << 20  # for what the run was like at earlier steps
KEY_ROWS = 1000
KEY_S = 0.05  # of work, after which an earlier step is kept, so that going back costs about as much
MOST_KEYS = 64


@dataclass(frozen=True)
class About:
    """What was said once about a run: who, where, under which limits. Does not change while it runs.

    pulses_used[rows, cols]: what each cell had had in its life before this run; pulses_allowed: its budget (inf: none).
    `chip`: polarity and other facts of the passport that the run file holds, as text by name.
    """

    path: str
    run_id: str
    protocol: str
    bench: str
    backend: str
    chip_id: str
    seed: int | None
    simulated: bool
    created: str
    shape: tuple[int, int]
    limits: Mapping[str, Any]
    device: DeviceSpan
    parameters: Mapping[str, Any]
    excluded: BoolArray
    pulses_used: NDArray[np.int64]
    pulses_allowed: FloatArray
    chip: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cells:
    """The array as last read back, [rows, cols] each.

    Siemens and their sigma (nan: never read, or not known), the time of the read (as `Snapshot.at_s`), the first value
    read in this run and the one before the last, pulses of each sign in this run, cells that are out of use.
    """

    conductance_s: FloatArray
    sigma_s: FloatArray
    read_at_s: FloatArray
    first_s: FloatArray
    before_s: FloatArray
    ups: NDArray[np.int64]
    downs: NDArray[np.int64]
    excluded: BoolArray


@dataclass(frozen=True)
class Shown:
    """One step of the journal in words and numbers: for the schedule and for the console.

    `sign`: 1 potentiates, -1 depresses, 0 both or neither; `cells`: how many are addressed; `pulses`: how many were
    fired.
    """

    seq: int
    kind: str
    at_s: float
    words: str
    sign: int = 0
    cells: int = 0
    pulses: int = 0
    amplitude_v: float = float("nan")
    width_s: float = float("nan")
    energy_j: float = float("nan")
    doubt: bool = False


@dataclass(frozen=True)
class Energy:
    """Joules of pulses and reads (nan: not known), what the first rests on, and the counts behind them."""

    pulses_j: float = 0.0
    reads_j: float = 0.0
    basis: str = "unknown"
    pulses: int = 0
    reads: int = 0
    compliance_hits: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A run as it stood after step `seq` (of `last_seq` so far). Arrays are not written to again.

    at_s: the bench's time since the first step. `progress`: scalar series of the notes "epoch" by name (error,
    accuracy, test_accuracy, loss, ...). weights_s: [inputs, outputs] or as noted; `single_cells`: a weight is one cell,
    no pair. activations, targets: [patterns, outputs]. `notes`: the last value of every other note by name ("network",
    "confusion", "activity", "preflight", "control", ...); `points`: all notes "point", `branches`: all notes "branch",
    `ramps`: all notes "pulse", in order. `result`: what the protocol returned, {} before. `stimulus`: the last one that
    was fired. `recent`: the last steps, newest last. `truth_s`: the emulated chip's hidden conductances, never to be
    mixed with `cells`. `history` gives traces.
    """

    about: About
    history: Traces
    live: bool
    status: str
    error: str | None
    seq: int
    last_seq: int
    at_s: float
    cells: Cells
    progress: Mapping[str, Series]
    weights_s: FloatArray | None
    single_cells: bool
    activations: FloatArray | None
    targets: FloatArray | None
    rasters: Mapping[str, Raster]
    notes: Mapping[str, Any]
    points: Sequence[Mapping[str, Any]]
    branches: Sequence[Mapping[str, Any]]
    ramps: Sequence[Mapping[str, Any]]
    result: Mapping[str, Any]
    stimulus: PulseBatch | Waveforms | None
    recent: Sequence[Shown]
    energy: Energy
    truth_s: FloatArray | None
    harm: Sequence[str]


# ---------------------------------------------------------------------------------------------- who and where


def about_of(path: Path, manifest: Mapping[str, Any]) -> About:
    """What a manifest says, also where the run had not begun yet: then as it was asked for."""
    config, asked = manifest.get("config") or {}, manifest.get("request") or {}
    bench, chip = config.get("bench") or {}, config.get("chip") or {}
    identity, kind = manifest.get("identity") or {}, manifest.get("protocol") or {}
    backend = str(identity.get("backend") or bench.get("backend") or "")
    shape = _shape(manifest, chip)
    limits = manifest.get("limits") or {n: v for n, v in (config.get("limits") or {}).items() if n != "forming"}
    view = unpack(manifest["view"]) if "view" in manifest else {}
    allowed = limits.get("max_pulses_per_cell") or inf
    return About(
        path=str(path), run_id=run_id(path), protocol=protocol_name(manifest) or "",
        bench=str(manifest.get("bench") or asked.get("bench") or bench.get("name") or ""), backend=backend,
        chip_id=str(manifest.get("chip_id") or chip.get("id") or ""), seed=manifest.get("seed", asked.get("seed")),
        simulated=bool(manifest.get("simulated", backend in SIMULATED_BACKENDS)),
        created=str(manifest.get("created", "")), shape=shape, limits=limits,
        device=_span(manifest.get("device") or {}), parameters=kind.get("parameters") or asked.get("settings") or {},
        excluded=_grid(view.get("excluded"), shape, np.bool_),
        pulses_used=_grid(view.get("pulses_used"), shape, np.int64),
        pulses_allowed=_still(np.full(shape, float(allowed))), chip=_chip_facts(manifest, chip, identity),
    )  # fmt: skip


def _shape(manifest: Mapping[str, Any], chip: Mapping[str, Any]) -> tuple[int, int]:
    rows, cols = (manifest.get("capabilities") or {}).get("shape") or (chip.get("rows", 1), chip.get("cols", 1))
    return int(rows), int(cols)


def _grid(value: Any, shape: tuple[int, int], kind: type) -> Any:
    return _still(np.zeros(shape, kind) if value is None else np.array(value, kind).reshape(shape))


def _still(array: Any) -> Any:
    array.setflags(write=False)
    return array


def _span(said: Mapping[str, Any]) -> DeviceSpan:
    """The device as the manifest's JSON says it; what a newer version knows besides is left out."""
    known = {name: value for name, value in said.items() if name in DeviceSpan.__dataclass_fields__}
    return DeviceSpan(**{name: _field(value) for name, value in known.items()})


def _field(value: Any) -> Any:
    if isinstance(value, dict):
        return Pulse(**value)
    if isinstance(value, list):
        return tuple(map(float, value))
    return float(value) if isinstance(value, str) and value in NUMBERLESS else value


def _chip_facts(manifest: Mapping[str, Any], chip: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, str]:
    """How the chip is wired and what it is said to be, in words."""
    can = manifest.get("capabilities") or {}
    sign = can.get("potentiating_sign") or chip.get("potentiating_sign")
    facts: dict[str, Any] = {
        "polarity": "" if sign not in (1, -1) else f"V_row {'>' if sign > 0 else '<'} V_col potentiates",
        "top electrode": chip.get("top_electrode"),
        "isolation": can.get("isolation"),
        "model": chip.get("model"),
        "device": (manifest.get("device") or {}).get("origin"),
        "firmware": (identity.get("details") or {}).get("firmware"),
    }
    return {name: str(value) for name, value in facts.items() if value}


def _capabilities(manifest: Mapping[str, Any], shape: tuple[int, int]) -> Capabilities:
    """As far as they say how a stimulus is cut into shots."""
    can = manifest.get("capabilities") or {}
    names = ("parallelism", "potentiating_sign", "measures_one_cell")
    return Capabilities(shape, **{name: can[name] for name in names if name in can})


# ---------------------------------------------------------------------------------------------- following


class _Key(NamedTuple):
    """The run as it stood when so much of its file was read; `cost` of reading so far: 1 from key to key at first."""

    place: Place
    standing: Standing
    cost: float = 0.0


class _Earlier(NamedTuple):
    """An earlier step that was asked for, and where to go on from it."""

    feed: Feed
    standing: Standing


class Follower:
    """Reads a run file, live or finished, a little at a time, and tells how the run stands or stood.

    For one thread. Errors: RunFileError if it is no run file or of a newer version; a file that is damaged further on
    is told up to there, and `Snapshot.error` says what is wrong.
    """

    def __init__(self, path: Path, budget_s: float = 0.02) -> None:
        self._file = FollowedFile.open(path)
        self._budget_s = budget_s
        self._feed = Feed(self._file)
        self._stamp: tuple[int, ...] = ()
        self._live = False
        self._damage: str | None = None
        self._broken = False
        self._result: Mapping[str, Any] = {}
        self._is_result = False
        self._keys: list[_Key] = []
        self._cost = 0.0
        self._earlier: _Earlier | None = None
        self._shown: dict[str, tuple[tuple[Any, ...], Any]] = {}
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    # -- reading ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Learn what the run is about, as far as it is known yet: nothing was taken in so far."""
        manifest = self._file.manifest
        self._known = "identity" in manifest
        self._about = about = about_of(self._file.path, manifest)
        heard = Heard(about.shape)
        read_v = about.limits.get("max_read_v") or 0.0
        setting = Setting(_capabilities(manifest, about.shape), float(read_v), about.simulated, heard)
        self._heard, self._now = heard, Standing(setting, about.excluded)
        self._keys, self._cost = [_Key(self._feed.place, self._now.frozen())], 0.0

    @property
    def behind(self) -> bool:
        """Whether more waits in the file than was taken in, as far as is known."""
        return self._feed.waiting and not self._broken

    def read(self, budget_s: float | None = None) -> bool:
        """Take in what is new, with about `budget_s` of work at most. True if anything was, or more waits."""
        live, stamp = self._file.live, self._file.stamp()
        quiet = not live and not self._live and stamp == self._stamp and not self._feed.waiting
        if quiet or self._broken:
            return False
        before, self._live = self._stand(), live
        end = time.thread_time() + (self._budget_s if budget_s is None else budget_s)
        try:
            self._read_until(end)
            self._stamp = stamp
            self._end()
        except RunFileError as error:
            before_that, self._damage = self._damage, str(error)
            return self._damage != before_that
        self._damage = None
        return self._feed.waiting or before != self._stand()

    def _stand(self) -> tuple[Any, ...]:
        """What changes when anything was taken in, also if it has the number of the step before it."""
        feed = self._feed
        return feed.place, self._live, feed.facts, feed.pending, feed.last_seq

    def _read_until(self, end: float) -> None:
        self._feed.refill()  # also for how the run stands, which must not lag behind by what waits
        if not self._known:
            # After the look for rows: a step that is there was recorded after the bench had said what it is.
            self._begin()
            self._known |= self._feed.waiting
        before = time.thread_time()
        while True:
            row = self._feed.next()
            if row is not None:
                self._broken = True  # unless it goes well: what is damaged cannot be gone beyond
                self._now.take(row)
                self._broken = False
            elif self._feed.waiting:
                self._feed.refill()
            else:
                return
            now = time.thread_time()
            if row is not None:
                self._keep_key(now - before)
            if now > end:
                return
            before = now

    def _end(self) -> None:
        """The result, once all that was recorded before it was taken in."""
        ended = bool(self._feed.facts.get("status")) and not self._feed.waiting
        if ended and not self._is_result:
            self._result = self._file.result or {}
        elif not ended:
            self._result = {}
        self._is_result = ended

    # -- earlier steps ------------------------------------------------------------------------------------------

    def _keep_key(self, took_s: float) -> None:
        """Now and then keep how it stands, from where a later question can begin."""
        self._cost += 1 / KEY_ROWS + took_s / KEY_S
        if self._cost - self._keys[-1].cost < 1:
            return
        self._keys.append(_Key(self._feed.place, self._now.frozen(), self._cost))
        size = 8 * 8 * self._now.excluded.size
        if len(self._keys) > max(min(MOST_KEYS, KEY_BYTES // size), 3):
            self._drop_key()

    def _drop_key(self) -> None:
        """Let go of the one that is missed least: those beside it stay the nearest to each other.

        One at a time: with half of them at once, memory would grow and fall in ever longer waves.
        """
        costs = [key.cost for key in self._keys]
        spans = [after - before for before, after in zip(costs, costs[2:], strict=False)]
        del self._keys[1 + spans.index(min(spans))]

    def _standing_at(self, seq: int) -> Standing:
        """How it stood after step `seq`: from the nearest earlier one that was kept, or that was asked for last."""
        key = next(key for key in reversed(self._keys) if key.standing.seq <= seq)
        earlier = self._earlier
        if earlier is None or not key.standing.seq <= earlier.standing.seq <= seq:
            earlier = _Earlier(Feed(self._file, key.place), key.standing.frozen())
        self._earlier = earlier
        feed, standing = earlier
        if seq >= feed.last_seq:
            feed.refill()  # the file has grown since it was looked into for this feed
        while (row := feed.next(seq)) is not None or feed.needs_more(seq):
            if row is None:
                feed.refill()
            else:
                standing.take(row)
        return standing

    # -- telling ------------------------------------------------------------------------------------------------

    def snapshot(self, at_seq: int | None = None) -> Snapshot:
        """How the run stands, or stood after step `at_seq`. Parts that have not changed are the objects from before."""
        pending = self._feed.pending
        if at_seq is not None and at_seq < self._now.seq:
            return self._told(self._standing_at(max(at_seq, -1)))
        if pending is None or (at_seq is not None and at_seq < pending.seq):
            return self._told(self._now)
        standing = self._now.frozen()
        standing.take(pending)
        return self._told(standing)

    def _told(self, now: Standing) -> Snapshot:
        still, energy = now.frozen(), now.totals
        error = self._damage or self._feed.facts.get("error")
        ended = now.seq >= self._feed.last_seq and not self._feed.waiting
        heard = self._heard
        return Snapshot(
            about=self._about, history=heard.traces, live=self._live, status=self._status(), error=error, seq=now.seq,
            last_seq=self._feed.last_seq, at_s=now.at_s, cells=self._cells(still),
            progress=heard.progress(now.seq), weights_s=now.weights_s, single_cells=now.single_cells,
            activations=now.activations, targets=now.targets, rasters=heard.rasters(now.seq), notes=now.notes,
            points=heard.points.until(now.seq), branches=heard.branches.until(now.seq),
            ramps=heard.ramps.until(now.seq),
            result=self._result if ended else {}, stimulus=now.stimulus, recent=self._recent(still),
            energy=Energy(energy.energy_j, energy.read_energy_j, now.basis, energy.pulses, energy.reads,
                          energy.compliance_hits),
            truth_s=self._truth(now), harm=tuple(self._feed.facts.get("harm") or ()),
        )  # fmt: skip

    def _status(self) -> str:
        ended = self._feed.facts.get("status")
        if ended:
            return str(ended)
        return str(self._feed.facts.get("state", "ready")) if self._live else "crashed"

    def _same(self, name: str, made_of: tuple[Any, ...]) -> Any:
        """What was told under this name, if it was made of the same objects."""
        known = self._shown.get(name)
        alike = known is not None and len(known[0]) == len(made_of)
        if known is not None and alike and all(a is b for a, b in zip(known[0], made_of, strict=True)):
            return known[1]
        return None

    def _cells(self, now: Standing) -> Cells:
        arrays = (
            now.conductance_s, now.sigma_s, now.read_at_s, now.first_s, now.before_s, now.ups, now.downs, now.excluded,
        )  # fmt: skip
        found: Cells | None = self._same("cells", arrays)
        if found is None:
            found = Cells(*arrays)
            self._shown["cells"] = arrays, found
        return found

    def _recent(self, now: Standing) -> Sequence[Shown]:
        lines = tuple(now.recent)
        found: Sequence[Shown] | None = self._same("recent", lines)
        if found is None:
            found = tuple(_shown(line) for line in lines)
            self._shown["recent"] = lines, found
        return found

    def _truth(self, now: Standing) -> FloatArray | None:
        if not (self._about.simulated and now.truths):
            return None
        made_of = (now.truths,)
        known = self._shown.get("truth")
        if known is None or known[0] != made_of:
            seq, data = self._feed.truth
            self._shown["truth"] = made_of, unpack(data) if 0 <= seq <= now.seq else self._file.truth_at(now.seq)
        found: FloatArray | None = self._shown["truth"][1]
        return found


def _shown(line: Line) -> Shown:
    if line.shown is None:
        line.shown = Shown(
            line.seq, line.kind, line.at_s, line.words(), line.sign, line.cells, line.pulses, line.amplitude_v,
            line.width_s, line.energy_j, line.doubt,
        )  # fmt: skip
    shown: Shown = line.shown
    return shown
