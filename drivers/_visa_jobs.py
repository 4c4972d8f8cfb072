"""What a stimulus is to the instruments, shot by shot: what to set up, which relays, how long, how many pulses.

Trains of rectangular pulses and waveforms are staged, fired and settled in the same way; here is what they differ in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from neurobench.bench.limits import pulsed_cells
from neurobench.bench.stimulus import Play, ShotList, Shots
from neurobench.errors import CapabilityMissing

from ._visa_plan import Path, Paths, Team, source_for
from .instruments._roles import PulseSource, Train, Waves

if TYPE_CHECKING:
    from neurobench.bench.steps import DeviceSpan
    from neurobench.bench.stimulus import FloatArray, Waveforms

    from .instruments._roles import Line


class Job(ABC):
    """A stimulus as one bench carries it out."""

    source: PulseSource
    repeats: Sequence[int]  # pulses that each trigger fires
    measures: bool = False

    @abstractmethod
    def kind(self, k: int) -> int:
        """Shots of equal kind need the same thing set up."""

    @abstractmethod
    def set_up(self, k: int) -> None:
        """Set up what shot k fires; sends no pulse. Behind open relays, with the source at 0 V."""

    @abstractmethod
    def path(self, k: int) -> Path:
        """The relays of shot k."""

    @abstractmethod
    def lasts_s(self, k: int) -> float:
        """Time that shot k takes."""

    @abstractmethod
    def pulses(self, done: int) -> int:
        """Pulses of cells in the first `done` shots."""

    def energy_j(self, amperes: FloatArray) -> float:
        """Energy of the shots whose currents were measured, in joule."""
        del amperes
        return nan


@dataclass(frozen=True)
class PulseJob(Job):
    """Trains of rectangular pulses, of one sign in each shot."""

    shots: Shots
    source: PulseSource
    paths: Paths
    by_smu: bool

    @cached_property
    def repeats(self) -> list[int]:  # type: ignore[override]
        """Of each shot."""
        found: list[int] = self.shots.repeat.tolist()
        return found

    @property
    def measures(self) -> bool:  # type: ignore[override]
        """Whether the current of each shot is measured."""
        return self.shots.measure

    def kind(self, k: int) -> int:
        """The sign."""
        return int(self.shots.sign[k])

    def set_up(self, k: int) -> None:
        """The pulses of this sign."""
        level, pulse = self.shots.levels(self.kind(k)), self.shots.pulse
        levels_v = (level.selected_row_v, level.selected_col_v)[: self.source.outputs]
        train = Train(levels_v, pulse.width_s, pulse.rise_s, pulse.fall_s)
        self.source.program(train, measure=self.shots.measure)

    def path(self, k: int) -> Path:
        """The selected lines on their terminals."""
        return self.paths.pulse(self.shots, k, self.by_smu)

    def lasts_s(self, k: int) -> float:
        """All its pulses, one after the other."""
        return self.repeats[k] * (self.shots.pulse.duration_s + self.source.gap_s)

    def pulses(self, done: int) -> int:
        """Cells times pulses."""
        cells = np.diff(self.shots.indptr)[:done].astype(np.int64)
        return int(cells @ self.shots.repeat[:done])

    def energy_j(self, amperes: FloatArray) -> float:
        """Of each shot its current, its volts and its time."""
        pulse = self.shots.pulse
        each_j = amperes * pulse.amplitude_v * pulse.width_s
        return float(each_j @ self.shots.repeat[: len(amperes)])


@dataclass(frozen=True)
class WaveJob(Job):
    """Waveforms: one on the word lines, one on the bit lines, begun together by one trigger.

    A cell counts as pulsed where it sees more than the threshold of the devices at some time; where that is not
    declared, more than 2/3 of what the cell with the largest volts sees.
    """

    waves: Waveforms
    source: PulseSource
    paths: Paths
    span: DeviceSpan
    repeats = (1,)

    def kind(self, k: int) -> int:
        """There is one."""
        return k

    def set_up(self, k: int) -> None:
        """Both lines at once. Raises CapabilityMissing where one side has more than one waveform."""
        del k
        row, col = self._line("row"), self._line("col")
        outputs = self.source.outputs if self.paths.wiring.pulse_col else 1
        if col and outputs < 2:
            raise CapabilityMissing("waveforms on bit lines; this bench has one output that plays (wiring.pulse_col)")
        self.source.load(Waves((row, col)[:outputs]))

    def _line(self, side: str) -> Line:
        name = {"row": "word", "col": "bit"}[side]
        kinds = self._kinds(side)
        if len(kinds) > 1:
            raise CapabilityMissing(
                f"{len(kinds)} different waveforms (shape and start) on the {name} lines; this bench plays one on the "
                "word lines and one on the bit lines, from the two channels of its generator. Play them one after "
                "the other, or on a bench that has more (`neurobench list benches`)"
            )
        return next((_breakpoints(self.waves, *kind) for kind in kinds), ())

    def _kinds(self, side: str) -> set[tuple[int, float]]:
        start_s = self.waves.row_start_s if side == "row" else self.waves.col_start_s
        return {(shape, float(start_s[line])) for line, shape in _played(self.waves, side)}

    def path(self, k: int) -> Path:
        """The lines that have a waveform on their terminals; all others grounded."""
        del k
        rows, cols = ([line for line, _ in _played(self.waves, side)] for side in ("row", "col"))
        return self.paths.driven(rows, cols, by_smu=False)

    def lasts_s(self, k: int) -> float:
        """Until the last line is back at 0 V."""
        del k
        return self.waves.duration_s

    def pulses(self, done: int) -> int:
        """Each cell that was pulsed, once."""
        return done * pulsed_cells(self.waves, self.span)


def _played(waves: Waveforms, side: str) -> list[tuple[int, int]]:
    """Lines of one side that are ever off 0 V, and the index of their shape."""
    shape_of: list[int] = (waves.row_shape if side == "row" else waves.col_shape).tolist()
    return [(line, shape) for line, shape in enumerate(shape_of) if shape >= 0 and waves.shapes[shape].v.any()]


def is_nothing(shots: ShotList) -> bool:
    """Whether no line is ever off 0 V."""
    if isinstance(shots, Play):
        return not (_played(shots.waveforms, "row") or _played(shots.waveforms, "col"))
    return not len(shots)


def _breakpoints(waves: Waveforms, shape: int, start_s: float) -> Line:
    one = waves.shapes[shape]
    return tuple(zip((one.t_s + start_s).tolist(), one.v.tolist(), strict=True))


def job_for(shots: ShotList, team: Team, paths: Paths, span: DeviceSpan) -> Job:
    """Who carries it out, and how. Raises CapabilityMissing for what no instrument of this bench can do."""
    if isinstance(shots, Play):
        source = team.generator
        if source is None or not source.plays:
            raise CapabilityMissing(
                "waveforms; the pulse source of this bench plays rectangular pulses only (a generator that plays them: "
                "[instruments.pulse] model = 'keysight-33500b')"
            )
        return WaveJob(shots.waveforms, source, paths, span)
    source = source_for(team, shots)
    return PulseJob(shots, source, paths, source is not team.generator)
