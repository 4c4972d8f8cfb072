"""A run as it stands after a step: what the cells are, what was done, what was said last. Rows are taken in one by one.

A `Standing` can be copied at the price of a few references: arrays that were shared or shown are copied when they are
written to again, and never before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from math import isfinite, isnan, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.codec import decode_answer, decode_step
from neurobench.bench.crossbar import Applied, Capabilities, Reading, conductance_s
from neurobench.bench.limits import exposure
from neurobench.bench.passport import ROUNDING, CellState
from neurobench.bench.steps import CELL_STATE, Apply, LoopAnswer, Sense, Step
from neurobench.bench.stimulus import BoolArray, CellRead, FloatArray, PulseBatch, Read, Shots, Waveforms, shots
from neurobench.errors import RunFileError
from neurobench.learning.statistics import SPIKES
from neurobench.runs import words
from neurobench.runs.feed import RawNote
from neurobench.runs.heard import Heard
from neurobench.runs.replay import BASELINE
from neurobench.runs.runfile import Entry, Settled
from neurobench.runs.runner import Totals
from neurobench.runs.tally import Tally, part_of

RECENT = 64
KEPT = 64  # reads and waveforms that are remembered decoded
SMALL = 1 << 14  # bytes of a step up to which it is
FEW = 1 << 15  # and cells of an array
SHORT = 1 << 11  # bytes of a note that may be kept until its words are asked for
CLOCK_S = 1e-6  # of seconds since 1970, no more is exact
MOST_NAMES = 1000  # of notes whose last value is kept
OF_ANOTHER_FORM = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError)
Counts = NDArray[np.int64]
AnyArray = NDArray[Any]


@dataclass(slots=True)
class Line:
    """One step as the console tells it; the words are made when somebody looks. `shown` is for who made them."""

    seq: int
    kind: str
    at_s: float
    words: Callable[[], str]
    sign: int = 0
    cells: int = 0
    pulses: int = 0
    amplitude_v: float = nan
    width_s: float = nan
    energy_j: float = nan
    doubt: bool = False
    shown: Any = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What does not change during a run, and is needed to understand its steps."""

    capabilities: Capabilities
    read_v: float
    simulated: bool
    heard: Heard | None = None


class _KnownRead(NamedTuple):
    """A read with the row-major numbers of the cells that it reads; None where it multiplies."""

    read: Read
    flat: NDArray[np.intp] | None


@dataclass
class Standing:
    """See `history.Snapshot` for what the fields mean. `take` moves it on by one row."""

    setting: Setting
    excluded: BoolArray
    seq: int = -1
    at_s: float = 0.0
    origin_s: float = nan  # what the bench's clock said when `at_s` was 0
    clock_s: float = nan  # and at the end of the last step
    conductance_s: FloatArray = field(init=False)
    sigma_s: FloatArray = field(init=False)
    read_at_s: FloatArray = field(init=False)
    first_s: FloatArray = field(init=False)
    before_s: FloatArray = field(init=False)
    unread: bool = True
    weights_s: FloatArray | None = None
    single_cells: bool = False
    activations: FloatArray | None = None
    targets: FloatArray | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    fired: Waveforms | tuple[AnyArray, PulseBatch] | None = None
    recent: deque[Line] = field(default_factory=lambda: deque(maxlen=RECENT))
    totals: Totals = field(default_factory=Totals)
    basis: str = "unknown"
    truths: int = 0  # notes after which the truth was recorded
    _known: dict[bytes, Any] = field(default_factory=dict)
    _tallies: tuple[Tally, Tally] = field(init=False)  # pulses that potentiate, that depress

    def __post_init__(self) -> None:
        shape = self.setting.capabilities.shape
        for name in ("conductance_s", "sigma_s", "read_at_s", "first_s", "before_s"):
            setattr(self, name, np.full(shape, nan))
        self._tallies = Tally(shape), Tally(shape)

    def frozen(self) -> Standing:
        """A copy of now that later rows do not change; it can be taken on by itself, and tells nobody what it hears."""
        for name in ARRAYS:
            getattr(self, name).setflags(write=False)
        made = copy(self)
        made._tallies = copy(self._tallies[0]), copy(self._tallies[1])
        made.setting = replace(self.setting, heard=None)
        made.recent, made.totals = self.recent.copy(), replace(self.totals)
        return made

    @property
    def ups(self) -> Counts:
        """Pulses per cell in this run that potentiate."""
        return self._tallies[0].counts

    @property
    def downs(self) -> Counts:
        """Pulses per cell in this run that depress."""
        return self._tallies[1].counts

    @property
    def stimulus(self) -> PulseBatch | Waveforms | None:
        """The last one that was fired."""
        if not isinstance(self.fired, tuple):
            return self.fired
        counts, batch = self.fired
        if counts is not batch.counts:
            batch = replace(batch, counts=counts)
            self.fired = batch.counts, batch
        return batch

    def _own(self, name: str) -> Any:
        """An array to be written to."""
        array = getattr(self, name)
        if not array.flags.writeable:
            array = array.copy()
            setattr(self, name, array)
        return array

    # -- rows ---------------------------------------------------------------------------------------------------

    def take(self, row: Entry | RawNote) -> None:
        """Take in the next row. Raises RunFileError where it is damaged."""
        try:
            if isinstance(row, RawNote):
                self._note(row)
            else:
                _TAKERS[row.kind](self, row)
        except (RunFileError, *OF_ANOTHER_FORM) as error:
            why = str(error) if isinstance(error, RunFileError) else f"{type(error).__name__}: {error}"
            raise RunFileError(f"step {row.seq} is damaged: {why}") from error
        self.seq = max(self.seq, row.seq)

    def _moved(self, start_s: float, end_s: float) -> None:
        """The bench's clock went on. Where it went back it was set, or counts anew in another process: time goes on."""
        if isfinite(start_s) and isfinite(end_s):
            if isnan(self.origin_s) or start_s < self.clock_s - CLOCK_S:
                self.origin_s = start_s - self.at_s
            self.clock_s = end_s
            self.at_s = max(self.at_s, end_s - self.origin_s)

    def _line(self, row: Entry | RawNote, said: Callable[[], str], **more: Any) -> None:
        kind = row.kind if isinstance(row, Entry) else "note"
        self.recent.append(Line(row.seq, kind, self.at_s, said, **more))

    def _remembered(self, data: bytes, make: Callable[[Step], Any], step: Step | None = None) -> Any:
        """What is made of a step, kept: reads, and spikes on lines, come in thousands of the same."""
        found = self._known.get(data)
        if found is None:
            found = make(decode_step(data) if step is None else step)
            if len(data) <= SMALL and self.excluded.size <= FEW:
                if len(self._known) >= KEPT:
                    self._known.clear()
                self._known[data] = found
        return found

    # -- pulses -------------------------------------------------------------------------------------------------

    def _apply(self, row: Entry) -> None:
        answer = row.answer
        applied = answer if isinstance(answer, Applied) else None
        if applied is not None:
            self._moved(applied.start_s, applied.end_s)
            self.totals.add(applied)
            if self.basis == "unknown":
                self.basis = applied.energy_basis
        stimulus = self._stimulus(row.step_bytes)
        if isinstance(stimulus, Waveforms):
            self._play(row, applied, *self._remembered(row.step_bytes, self._played))
        else:
            self._pulse(row, applied, *stimulus)

    def _stimulus(self, data: bytes) -> Waveforms | tuple[AnyArray, PulseBatch]:
        """Waveforms, or a batch's counts with a batch that is else the same.

        The counts of a small array stand at the end of its bytes as they are; what is before them is the same in
        thousands of steps.
        """
        size = self.excluded.size
        head = data[: len(data) - size]
        alike = self._known.get(head)
        if alike is not None:
            return np.frombuffer(data, np.int8, size, len(head)).reshape(alike.shape), alike
        if data in self._known:
            played: Waveforms = self._known[data][0]
            return played
        step = decode_step(data)
        if not isinstance(step, Apply):
            raise RunFileError(f"{type(step).__name__} stands where a stimulus belongs")
        if isinstance(step.stimulus, Waveforms):
            return step.stimulus
        if step.stimulus.counts.dtype == np.int8 and step.stimulus.counts.tobytes() == data[len(head) :]:
            self._remembered(head, lambda _: step.stimulus, step)
        return step.stimulus.counts, step.stimulus

    def _pulse(self, row: Entry, applied: Applied | None, counts: AnyArray, batch: PulseBatch) -> None:
        parts = part_of(counts, 1), part_of(counts, -1)
        total, fired = sum(part.pulses for part in parts), 0 if applied is None else applied.pulses
        if fired == total:
            for tally, part in zip(self._tallies, parts, strict=True):
                tally.add(part.cells, part.most)
        elif applied is not None and applied.shots_done:
            self._count(*self._fired_in_part(replace(batch, counts=counts), applied.shots_done))
        if applied is not None:
            self.fired = counts, batch
        cells, sign = int(np.count_nonzero(counts)), self.setting.capabilities.potentiating_sign
        signs = int(parts[0].most > 0), int(parts[1].most > 0)
        said = partial(words.of_pulses, fired if applied else total, cells, signs, batch.pulse, sign)
        self._line(
            row, said, sign=signs[0] - signs[1], cells=cells, pulses=fired, amplitude_v=batch.pulse.amplitude_v,
            width_s=batch.pulse.width_s, energy_j=nan if applied is None else applied.energy_j,
            doubt=row.settled in (Settled.DOUBT, Settled.WAIVED),
        )  # fmt: skip

    def _count(self, *both: Counts) -> None:
        for tally, cells in zip(self._tallies, both, strict=True):
            tally.add(cells)

    def _fired_in_part(self, batch: PulseBatch, done: int) -> tuple[Counts, Counts]:
        """Pulses of either sign per cell, of the first shots alone: the others were never fired."""
        expanded = shots(batch, self.setting.capabilities)
        assert isinstance(expanded, Shots)
        both = np.zeros(batch.shape, np.int64), np.zeros(batch.shape, np.int64)
        for k in range(min(done, len(expanded))):
            both[int(expanded.sign[k] < 0)][expanded.cells(k)] += int(expanded.repeat[k])
        return both

    def _played(self, step: Step) -> tuple[Waveforms, Counts, Counts]:
        """Waveforms, and how often they rise above a read's volts at every cell, towards either side."""
        assert isinstance(step, Apply)
        assert isinstance(step.stimulus, Waveforms)
        _, above, below = exposure(step.stimulus, self.setting.read_v * ROUNDING)
        upwards = self.setting.capabilities.potentiating_sign > 0
        return step.stimulus, *((above, below) if upwards else (below, above))

    def _play(self, row: Entry, applied: Applied | None, played: Waveforms, ups: Counts, downs: Counts) -> None:
        if applied is not None and applied.shots_done:
            self._count(ups, downs)
        if applied is not None:
            self.fired = played
        volts = max(float(np.abs(shape.v).max()) for shape in played.shapes)
        pulses, energy_j = (0, nan) if applied is None else (applied.pulses, applied.energy_j)
        self._line(
            row, partial(words.of_waveforms, played), cells=int(np.count_nonzero(ups + downs)), pulses=pulses,
            amplitude_v=volts, width_s=played.duration_s, energy_j=energy_j,
            doubt=row.settled in (Settled.DOUBT, Settled.WAIVED),
        )  # fmt: skip

    def _loop(self, row: Entry) -> None:
        answer = row.answer
        if not isinstance(answer, LoopAnswer):
            self._line(row, partial(str, "loop that was cut off"), doubt=True)
            return
        self._moved(answer.start_s, answer.end_s)
        self.totals.add(answer)
        if self.basis == "unknown" and self.setting.simulated and isfinite(answer.energy_j):
            self.basis = "model"
        ups, downs = np.asarray(answer.potentiations), np.asarray(answer.depressions)
        self._count(ups, downs)
        pulses = int(ups.sum()) + int(downs.sum())
        said = partial(words.of_loop, answer.ticks, len(answer.spikes), pulses)
        cells = int(np.count_nonzero(ups + downs))
        self._line(row, said, cells=cells, pulses=pulses, energy_j=answer.energy_j)

    # -- reads --------------------------------------------------------------------------------------------------

    def _sense(self, row: Entry) -> None:
        read, flat = self._remembered(row.step_bytes, _known_read)
        reading = row.answer
        if not isinstance(reading, Reading):
            self._line(row, partial(words.of_read, read))
            return
        self._moved(reading.start_s, reading.end_s)
        self.totals.add(reading)
        cells = 0
        if flat is not None:
            cells = len(flat)
            self._cells_read(row.seq, read, flat, reading)
        volts = read.voltage_v if isinstance(read, CellRead) else float(np.abs(read.volts).max())
        said = partial(words.of_read, read, reading.flags)
        self._line(row, said, cells=cells, amplitude_v=volts, width_s=read.integration_s, energy_j=reading.energy_j)

    def _cells_read(self, seq: int, read: CellRead, flat: NDArray[np.intp], reading: Reading) -> None:
        values = conductance_s(reading, read.voltage_v)
        values.setflags(write=False)  # whoever hears it keeps it
        sigma_s = reading.sigma_a / abs(read.voltage_v) / len(reading.currents_a) ** 0.5
        shape = self.conductance_s.shape
        at_s = reading.end_s - self.origin_s
        if len(flat) == self.conductance_s.size:
            self.before_s, self.conductance_s = self.conductance_s, values.reshape(shape)
            self.sigma_s, self.read_at_s = np.full(shape, sigma_s), np.full(shape, at_s)
        else:
            self._own("before_s").reshape(-1)[flat] = self.conductance_s.reshape(-1)[flat]
            for name, value in (("conductance_s", values), ("sigma_s", sigma_s), ("read_at_s", at_s)):
                self._own(name).reshape(-1)[flat] = value
        if reading.flags:
            self._own("sigma_s").reshape(-1)[flat[_cut_off(reading)]] = nan
        if self.unread:
            self._first(flat, values)
        if self.setting.heard is not None:
            self.setting.heard.traces.add(seq, at_s, flat, values)

    def _first(self, flat: NDArray[np.intp], values: FloatArray) -> None:
        """Remember the first value of each cell."""
        new = np.isnan(self.first_s.reshape(-1)[flat])
        if new.any():
            self._own("first_s").reshape(-1)[flat[new]] = values[new]
            self.unread = bool(np.isnan(self.first_s).any())

    # -- the rest -----------------------------------------------------------------------------------------------

    def _wait(self, row: Entry) -> None:
        seconds: float = row.step.seconds  # type: ignore[union-attr]
        self.at_s += seconds
        self._line(row, partial(words.of_wait, seconds))

    def _checkpoint(self, row: Entry) -> None:
        self._line(row, partial(str, "checkpoint"))

    def _note(self, row: RawNote) -> None:
        if row.name == BASELINE:
            self._baseline(row)
            return
        if row.name.startswith("_"):
            return
        value = row.value
        with suppress(*OF_ANOTHER_FORM):  # a script may note what it likes under any name
            self._heed(row, value)
        told = partial(words.of_note, row.name, value)
        self._line(row, told if len(row.data) <= SHORT else partial(str, told()))

    def _heed(self, row: RawNote, value: Any) -> None:
        """What a note says of the run, where its name has a meaning."""
        heard = self.setting.heard
        if row.name in ("start", "epoch"):
            self._epoch(row, value)
        elif row.name in TOLD:
            if heard is not None:
                getattr(heard, TOLD[row.name]).add(row.seq, value)
        elif row.name == SPIKES:
            if heard is not None:
                heard.spikes(row.seq, value)
        elif row.name == "targets":
            self.targets = np.asarray(value, np.float64)
        else:
            self._kept_note(row.name, value)

    def _epoch(self, row: RawNote, told: Any) -> None:
        self.truths += row.name == "epoch"
        if not isinstance(told, Mapping):
            return
        if self.setting.heard is not None:
            self.setting.heard.epoch(row.seq, told)
        if "weights" in told:
            self.weights_s = np.asarray(told["weights"], np.float64)
            self.single_cells = told.get("synapse") == "cell"
        if "activations" in told:
            self.activations = np.asarray(told["activations"], np.float64)

    def _kept_note(self, name: str, value: Any) -> None:
        self.notes = {**self.notes, name: value}
        if len(self.notes) > MOST_NAMES:
            self.notes = dict(islice(self.notes.items(), 1, None))
        if name == "retired":
            self._exclude(value["cells"], True)
        elif name == CELL_STATE:
            self._exclude(value["cells"], CellState[str(value["state"]).upper()] >= CellState.STUCK)

    def _exclude(self, cells: Any, out: bool) -> None:
        where = np.asarray(cells, np.int64).reshape(-1, 2)
        self._own("excluded")[where[:, 0], where[:, 1]] = out

    def _baseline(self, row: RawNote) -> None:
        """The cells as they were found when the run was resumed."""
        read, flat = self._remembered(row.value["read"], _known_read)
        reading = decode_answer(row.value["reading"])
        if not isinstance(reading, Reading):
            return
        self._moved(reading.start_s, reading.end_s)
        if flat is not None:
            self._cells_read(row.seq, read, flat, reading)
        self._line(row, partial(str, "resumed: " + words.of_read(read, reading.flags)))


TOLD = {"point": "points", "branch": "branches", "pulse": "ramps"}  # notes of which all are kept, and where
ARRAYS = ("conductance_s", "sigma_s", "read_at_s", "first_s", "before_s", "ups", "downs", "excluded")
_TAKERS: dict[str, Callable[[Standing, Entry], None]] = {
    "apply": Standing._apply, "sense": Standing._sense, "wait": Standing._wait, "loop": Standing._loop,
    "checkpoint": Standing._checkpoint,
}  # fmt: skip


def _known_read(step: Step) -> _KnownRead:
    if not isinstance(step, Sense):
        raise RunFileError(f"{type(step).__name__} stands where a read belongs")
    return _KnownRead(step.read, np.flatnonzero(step.read.mask) if isinstance(step.read, CellRead) else None)


def _cut_off(reading: Reading) -> BoolArray:
    """Cells of a read whose current was cut off, so that nobody knows how far the value is from the true one."""
    if "compliance" in reading.flags:
        return np.ones(reading.currents_a.shape[1], np.bool_)
    cut: BoolArray = np.any(np.abs(reading.currents_a) * ROUNDING >= reading.range_a, axis=0)
    return cut
