"""What the SMUs have in common, whatever they speak: ranges, the mean of readings, and counting their own pulses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import ceil, inf
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from neurobench.bench.crossbar import Witness
from neurobench.errors import CapabilityMissing, ConfigError, InstrumentError, LimitExceeded

from ._link import Link
from ._roles import PulseSource, Smu, Sweep, Tally, Train

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection
    from neurobench.bench.stimulus import FloatArray

POLL_S = 0.02
"""How often a running train is asked about by `tally`."""


class Counted(NamedTuple):
    """What an SMU knows of its own pulses.

    `nonce` and `seq` of the last baseline (nonce "": it has restarted; seq None: it does not keep it); `fired` pulses
    and accepted `triggers` since then (modulo `triggers_of`); `busy`: it is firing; `cut`: a train was
    stopped (None: it does not note that).
    """

    nonce: str
    seq: int | None
    fired: int
    triggers: int
    triggers_of: int = 1_000_000
    busy: bool = False
    cut: bool | None = None


class MeteringSmu(Smu):
    """An SMU that measures: its channels, its ranges, and what is set up on it now.

    `MAX_V`, `CHANNELS`: of the model; the bench file may use less of both.
    """

    MAX_V: ClassVar[float]
    CHANNELS: ClassVar[tuple[int, ...]] = (1,)

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        self.used = section.channels or self.CHANNELS
        if set(self.used) - set(self.CHANNELS) or len(set(self.used)) != len(self.used):
            raise ConfigError(
                f"{link.name}: channels = {list(self.used)}: a {section.model} has {list(self.CHANNELS)} (bench file)"
            )
        self.channels = len(self.used)
        self.max_v = min(section.max_v or self.MAX_V, self.MAX_V)
        self._limit_a: float | None = None
        self._cap_v = self.max_v
        self._range_a = inf  # of the sweeps that follow, as are
        self._reading_s = self._settle_s = 0.0

    def safe(self) -> None:
        """Stop what runs, 0 V, off, read back. The counters of pulses stay. Raises if an output may still be on.

        Twice if need be: what was said before the line was cleared may never have been read at the other end.
        """
        still_on = self._switch_off() and self._switch_off()
        if still_on:
            raise InstrumentError(f"{self.link.name}: output {' and '.join(still_on)} is still on".replace("  ", " "))

    @abstractmethod
    def _switch_off(self) -> list[str]:
        """Say and ask it once: the outputs that are still on."""

    def smallest_range(self, current_a: float) -> float:
        """The smallest range that holds a current. Raises ConfigError beyond the largest."""
        for full_a in self.ranges_a:
            if abs(current_a) <= full_a * (1 + 1e-9):
                return full_a
        raise ConfigError(
            f"{self.link.name}: a range of {current_a:g} A; the largest is {self.ranges_a[-1]:g} A "
            "([instruments] read_range_a)"
        )

    def _check_sweep(self, levels_v: Sequence[float]) -> None:
        self._limited_to()
        if not self._reading_s:
            raise InstrumentError(f"{self.link.name}: a read before its range and aperture were set (prepare)")
        self._check_levels(levels_v)
        highest_v = max(map(abs, levels_v), default=0.0)
        if highest_v > self.read_v * (1 + 1e-9):
            raise LimitExceeded(
                f"a read at {highest_v:g} V on {self.link.name}; reads are limited to {self.read_v:g} V "
                "([limits] max_read_v)"
            )

    def _limited_to(self) -> float:
        if self._limit_a is None:
            raise InstrumentError(f"{self.link.name}: no current limit was set before its output (enforce)")
        return self._limit_a

    def _check_levels(self, levels_v: Sequence[float]) -> None:
        for level_v in levels_v:
            if abs(level_v) > self._cap_v * (1 + 1e-9):
                raise LimitExceeded(
                    f"{level_v:g} V on {self.link.name}; its limit is {self._cap_v:g} V (bench file, limits or max_v)"
                )

    def _check_aperture(self, aperture_s: float) -> None:
        if not self.min_aperture_s <= aperture_s * (1 + 1e-9) or aperture_s > self.max_aperture_s * (1 + 1e-9):
            raise CapabilityMissing(
                f"{self.link.name}: an aperture of {aperture_s:g} s; it does {self.min_aperture_s:g} to "
                f"{self.max_aperture_s:g} s (use averages for more)"
            )


class PulsingSmu(MeteringSmu, PulseSource):
    """An SMU that also pulses. Every pulse leaves a reading in a buffer that only grows: a true counter of pulses."""

    source_ohm = 0.0  # the SMU regulates the voltage at its terminals
    measures = True
    limits_current = True
    witness = True
    CAPACITY: ClassVar[int]  # pulses that can be counted from one baseline on
    EACH_TRAIN_CLEARS: ClassVar[bool] = False  # whether the buffer holds the readings of the last train alone

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        self.outputs = self.channels
        self._train: Train | None = None
        self._measuring = False
        self._seq = -1
        self._armed = (-1, 0)  # shot and its pulses
        self._expected = 0  # pulses since the baseline, with those of the armed shot

    def arm(self, seq: int, shot: int, pulses: int) -> None:
        """Remember it: `trigger` says it in the same message."""
        if not 1 <= pulses <= self.max_pulses:
            raise CapabilityMissing(f"{self.link.name}: {pulses} pulses by one trigger; it does 1 to {self.max_pulses}")
        if seq != self._seq:  # counted from a baseline of another process
            self._count_from(seq, self._counted().fired)
        if shot != self._armed[0]:
            self._expected = pulses + (0 if self.EACH_TRAIN_CLEARS else self._expected)
        self._check_room()
        self._armed = (shot, pulses)

    def tally(self, seq: int, witness: Witness, repeats: Sequence[int]) -> Tally:
        """By the readings in the pulse buffer. In doubt after a restart, and where the counts contradict each other."""
        counted = self._counted()
        until_s = self.link.clock.now_s() + self._longest_s(repeats)
        while counted.busy and self.link.clock.now_s() < until_s:
            self.link.clock.sleep(POLL_S)
            counted = self._counted()
        if self.EACH_TRAIN_CLEARS and counted.triggers:
            before = sum(repeats[: counted.triggers - 1])
            counted = counted._replace(fired=counted.fired + before)
        return judged(counted, seq, witness, repeats)

    def _check_room(self) -> None:
        if self._expected > self.CAPACITY:
            raise CapabilityMissing(
                f"{self.link.name}: {self._expected} pulses in one stimulus; its buffer counts {self.CAPACITY} "
                "(fewer pulses in a batch)"
            )

    def _count_from(self, seq: int, fired: int) -> None:
        self._seq, self._armed, self._expected = seq, (-1, 0), fired

    def _nonce(self, most: int) -> int:
        # by the clock: it must differ from that of an earlier stimulus, and be the same in a simulated run's repetition
        return 1 + int(self.link.clock.now_s() * 1e3) % most

    def _longest_s(self, repeats: Sequence[int]) -> float:
        width_s = self.max_width_s if self._train is None else self._train.width_s
        return 1.0 + 3.0 * max(repeats, default=0) * (width_s + 1e-3)

    def _levels(self, train: Train) -> tuple[float, ...]:
        if len(train.levels_v) > self.outputs:
            raise CapabilityMissing(
                f"{self.link.name}: {len(train.levels_v)} levels at once; it has {self.outputs} outputs in use"
            )
        if not self.min_width_s <= train.width_s <= self.max_width_s:
            raise CapabilityMissing(
                f"{self.link.name}: a width of {train.width_s:g} s; it does {self.min_width_s:g} to "
                f"{self.max_width_s:g} s"
            )
        self._check_levels(train.levels_v)
        return (*train.levels_v, *(0.0 for _ in range(self.outputs - len(train.levels_v))))

    def _pulse_range_a(self) -> float:
        # What flows in a pulse is known only by its limit: the read's range would be too small by orders (rule 11).
        return self.smallest_range(min(self._limited_to(), self.ranges_a[-1]))

    @abstractmethod
    def enforce(self, compliance_a: float | None, max_v: float) -> None:
        """Program what the hardware can limit, and read it back; outputs are off. None: the largest current range."""

    @abstractmethod
    def _counted(self) -> Counted:
        """Ask for all counters in one question; changes nothing."""


def judged(counted: Counted, seq: int, witness: Witness, repeats: Sequence[int]) -> Tally:
    """How many whole shots so many pulses are, and whether what else is known agrees with it."""
    if not counted.nonce:
        return Tally(0, 0, "it has restarted since: its counters are gone")
    if counted.nonce != witness.nonce or counted.seq not in (None, seq):
        return Tally(0, 0, "it was used for something else since: its counters are of another stimulus")
    fired = counted.fired - witness.counter
    ends = np.cumsum(np.asarray(repeats, np.int64))
    shots = int(np.searchsorted(ends, fired, side="right"))
    rest = fired - (int(ends[shots - 1]) if shots else 0)
    doubt = _doubt(counted, fired, shots, rest, int(ends[-1]) if len(ends) else 0)
    return Tally(shots, 0 if shots == len(repeats) else rest, doubt)


def _doubt(counted: Counted, fired: int, shots: int, rest: int, total: int) -> str:
    if not 0 <= fired <= total:
        return f"it counts {fired} pulses where {total} were to come"
    if counted.busy:
        return "it is still pulsing"
    # A trigger without a reading: one that was stopped in its first pulse, or garbled before it fired anything.
    surplus = (counted.triggers - shots) % counted.triggers_of
    if rest or counted.cut or surplus > (counted.cut is False):
        return f"it took {counted.triggers} triggers and finished {shots} trains: a pulse may have been cut short"
    return ""


def groups_of(averages: int, most: int) -> tuple[int, int]:
    """(groups, readings in each): at least `averages` readings where one group holds at most so many."""
    groups = ceil(averages / most)
    return groups, ceil(averages / groups)


def mean_sweep(readings_a: Sequence[float], levels: int, range_a: float, limited: bool, sign: int = 1) -> Sweep:
    """A sweep from `readings_a`, so many of each level one after the other. Over range: any reading that is."""
    table = np.asarray(readings_a, float).reshape(levels, -1)
    over = bool(np.any(~np.isfinite(table)))
    currents_a: FloatArray = sign * table.mean(axis=1)
    return Sweep(currents_a, range_a, limited, over)
