"""What a crossbar needs of an instrument: three roles, spoken in volts, seconds and crosspoints, never in commands.

Rules for every method (bench rules 6, 9, 10, 19): it can be called from any state; staging methods are idempotent and
may be repeated after a lost reply; only `PulseSource.trigger` fires, and nobody calls it twice for one shot. Nothing
blocks the link for longer than 50 ms at a time. What an instrument says no to is raised as InstrumentError in its own
words; a lost, late or unintelligible answer as LinkLost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from neurobench.errors import CapabilityMissing

if TYPE_CHECKING:
    from neurobench.bench.crossbar import Witness
    from neurobench.bench.instruments import InstrumentSection
    from neurobench.bench.stimulus import FloatArray

    from ._link import Link


class Clock(Protocol):
    """Time of the bench: the real one, or the simulated one of simulated instruments."""

    def now_s(self) -> float:
        """Time in seconds."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""


class Identification(NamedTuple):
    """What an instrument answers to who it is. `simulated`: it says of itself that it is not real."""

    maker: str
    model: str
    serial: str
    firmware: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class Train:
    """One kind of pulse on the outputs of a source: `levels_v` are the signed tops of its channels, in their order.

    `width_s` is the time at the top; edges come on top of it. Between pulses every output is at 0 V.
    """

    levels_v: tuple[float, ...]
    width_s: float
    rise_s: float = 0.0
    fall_s: float = 0.0


Line = tuple[tuple[float, float], ...]
"""Breakpoints (seconds, volts) of one output, straight in between, 0 V at both ends; empty: it stays at 0 V."""


@dataclass(frozen=True, slots=True)
class Waves:
    """What the outputs of a source play once, begun together: the line of each of its channels, in their order."""

    lines: tuple[Line, ...]

    @property
    def duration_s(self) -> float:
        """Time until the last output is back at 0 V."""
        return max((line[-1][0] for line in self.lines if line), default=0.0)


class Sweep(NamedTuple):
    """Currents of a sweep in amperes [levels], from the drive terminal into the meter; flags as in `Reading`."""

    currents_a: FloatArray
    range_a: float
    compliance: bool
    over_range: bool


class Tally(NamedTuple):
    """How many whole shots of a stimulus were fired, and `pulses` of the next one; `doubt` says why that is unsure."""

    shots: int
    pulses: int = 0
    doubt: str = ""


class Instrument(ABC):
    """One instrument on its link. `MODELS`: what of `*IDN?` field 2 it knows, as regular expressions."""

    MODELS: ClassVar[tuple[str, ...]]

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        self.link = link
        self.section = section

    @classmethod
    def roles(cls) -> list[str]:
        """In which roles of a bench file it can serve."""
        kinds: dict[str, Any] = {"smu": Smu, "pulse": PulseSource, "matrix": Matrix}
        return [role for role, kind in kinds.items() if issubclass(cls, kind)]

    @abstractmethod
    def identify(self) -> Identification:
        """Ask who it is. Raises InstrumentError if it is another model or serial number than the bench file says."""

    @abstractmethod
    def errors(self) -> list[str]:
        """Take all entries out of its error queue, in its own words; empty: none."""

    @abstractmethod
    def safe(self) -> None:
        """Outputs to 0 V and off (relays open), whatever it was doing; does not touch what a witness rests on."""

    def self_test(self) -> str:
        """Run its self-test; what it found, "" if nothing. Outputs must be off and the chip disconnected."""
        return ""


class Crosspoint(NamedTuple):
    """A relay of a matrix; rows and columns are counted from 1, columns across all its cards."""

    row: int
    column: int


class Matrix(Instrument):
    """A switch matrix. Relays never switch hot: whoever calls has brought the sources to 0 V (bench rule 10)."""

    rows: int
    columns: int
    settle_s: float

    @abstractmethod
    def open_all(self) -> None:
        """Open every relay and prove by reading back that none is closed."""

    @abstractmethod
    def route(self, closed: frozenset[Crosspoint]) -> None:
        """Open all, prove none closed, close exactly these, prove exactly these; in as few exchanges as it can.

        Returns when the relays have settled. Raises InstrumentError, with all relays open, if the proof fails.
        """


class Smu(Instrument):
    """A source-measure unit with one channel (drive and meter are the same) or two (drive forces, meter is at 0 V)."""

    channels: int
    ranges_a: ClassVar[tuple[float, ...]]
    max_v: float
    read_v: float = inf  # no level of a sweep is larger, whatever the SMU may put out as a source of pulses
    min_aperture_s: float
    max_aperture_s: float
    noise_of_range: ClassVar[float] = 5e-6  # rms at 20 ms: what data sheets of such SMUs give, or more (from memory)

    def noise_a(self, range_a: float, aperture_s: float) -> float:
        """Standard deviation of one reading by the instrument alone: white noise, less of it over longer apertures."""
        return self.noise_of_range * range_a * sqrt(0.02 / aperture_s)

    @abstractmethod
    def enforce(self, compliance_a: float, max_v: float) -> None:
        """Program what the hardware can limit, and read it back; outputs are off."""

    @abstractmethod
    def prepare(self, range_a: float, aperture_s: float, settle_s: float) -> None:
        """Fix range, aperture and settling of the sweeps that follow, and read them back; nothing if they are set."""

    @abstractmethod
    def sweep(self, levels_v: Sequence[float], averages: int) -> Sweep:
        """Force each level on the drive channel, measure at each (the mean of so many), end at 0 V; one exchange
        where the instrument can. Output goes on before and off (or to 0 V on) after, as is best for its relays."""


class PulseSource(Instrument):
    """What fires: a generator, or an SMU that pulses. `outputs`: how many levels it can hold at once.

    The order of a stimulus: program (or load) -> baseline -> (recorded by the host) -> arm(0) -> trigger -> done
    -> arm(1) ...
    """

    outputs: int
    max_v: float
    min_width_s: float
    max_width_s: float
    max_pulses: int  # of one trigger
    gap_s: float = 0.0  # between two pulses of one trigger, at 0 V
    source_ohm: float
    measures: bool
    limits_current: bool
    witness: bool  # whether `tally` can tell after a lost reply
    plays: bool = False  # whether it plays waveforms: `load`

    @abstractmethod
    def enforce(self, compliance_a: float | None, max_v: float) -> None:
        """Program what the hardware can limit, and read it back; outputs are off."""

    @abstractmethod
    def program(self, train: Train, *, measure: bool = False) -> None:
        """Set up one kind of pulse and read it back; sends no pulse. Idle is 0 V, proven, before an output goes on
        (bench rule 9). May be repeated; nothing is sent if it is already set up so."""

    def load(self, waves: Waves) -> None:
        """`program` for waveforms: every trigger of one pulse then plays them once. Outputs without a line stay off."""
        raise CapabilityMissing(
            f"{self.link.name} plays rectangular pulses; it has no memory for {len(waves.lines)} waveforms"
        )

    @abstractmethod
    def baseline(self, seq: int) -> Witness:
        """Where the counting of stimulus `seq` begins: what the host records durably before the first trigger."""

    @abstractmethod
    def arm(self, seq: int, shot: int, pulses: int) -> None:
        """Make ready for one trigger of `pulses` pulses. All shots before `shot` are known to be fired."""

    @abstractmethod
    def trigger(self) -> None:
        """Send the trigger of the armed shot, with `arm` in the same message where that saves one. Never repeated."""

    @abstractmethod
    def done(self) -> bool:
        """Ask whether what was triggered has ended, without waiting for it (bench rule 19: not by `*OPC?`)."""

    @abstractmethod
    def tally(self, seq: int, witness: Witness, repeats: Sequence[int]) -> Tally:
        """How much of stimulus `seq` was fired, by the witness; repeats[shot] are the pulses of each trigger.

        Works in a new process as well. Changes nothing that it rests on: it may be asked again.
        """

    def currents_a(self) -> FloatArray | None:
        """Magnitudes of the currents measured in the pulses of the last shot [pulses, outputs]; None: not measured."""
        return None

    @abstractmethod
    def connect(self) -> None:
        """Outputs on, at their proven idle level of 0 V; called with the relays open or on a grounded line."""
