"""The contract with the world: what every crossbar backend is and answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from neurobench.errors import CapabilityMissing, UsageError

from .stimulus import Bias, Direction, FloatArray, PulseBatch, Read, ShotList, Stimulus, VectorRead, Waveforms

if TYPE_CHECKING:
    from .limits import Limits
    from .steps import Loop, LoopAnswer

Parallelism = Literal["cell", "row", "column"]
Isolation = Literal["passive", "1t1r", "isolated"]
CompliancePath = Literal["smu", "transistor", "series_ohm", "none"]
Delivery = Literal["exactly_once", "at_most_once"]
EnergyBasis = Literal["model", "measured", "bound", "unknown"]
Hearer = Callable[[str, str, str], None]  # instrument, ">" or "<", what was said


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a bench with the chip on it can do; protocols and the Guard decide by this, never by the backend's name.

    `parallelism`: which cells one shot can select. `isolation`: passive array, transistor per cell, or a single cell.
    `potentiating_sign`: sign of V_row - V_col that raises the conductance of this chip. `vector_reads`: directions in
    which the bench multiplies in one shot. `read_topology`: where the ammeter sits. `distinct_shapes`: how many
    waveform shapes can play at once (0: none). `source_ohm` and `series_ohm` are in the pulse path. `delivery`:
    what is known of a pulse after a lost reply (house rule: a pulse is never repeated by a timeout).
    `measures_one_cell`: one ammeter stands in the pulse path, so a batch that measures is fired cell by cell.
    `min_measured_width_s`, `max_measured_width_s`: widths of pulses whose current can be measured.
    """

    shape: tuple[int, int]
    parallelism: Parallelism = "row"
    biases: frozenset[Bias] = frozenset({Bias.HALF, Bias.THIRD})
    isolation: Isolation = "passive"
    potentiating_sign: int = 1
    vector_reads: frozenset[Direction] = frozenset({Direction.ROWS_TO_COLS})
    read_topology: Literal["column_virtual_ground", "guarded_row", "isolated_cell"] = "column_virtual_ground"
    both_polarities: bool = True
    max_pulse_v: float = float("inf")
    max_read_v: float = float("inf")
    min_width_s: float = 0.0
    max_width_s: float = float("inf")
    distinct_shapes: int = 0
    measures_while_pulsing: bool = False
    measures_one_cell: bool = False
    min_measured_width_s: float = 0.0
    max_measured_width_s: float = float("inf")
    compliance_path: CompliancePath = "none"
    source_ohm: float = 0.0
    series_ohm: float = 0.0
    delivery: Delivery = "at_most_once"
    compiled_loops: bool = False

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise UsageError(f"shape = {self.shape}: an array has at least one row and one column")
        if self.potentiating_sign not in (1, -1):
            raise UsageError(f"potentiating_sign = {self.potentiating_sign}: it is +1 or -1")

    def refusal(self, asked: Stimulus | Read) -> str | None:
        """Why this bench cannot do `asked`, or None if it can."""
        if isinstance(asked, PulseBatch):
            return self._pulse_refusal(asked)
        if isinstance(asked, Waveforms):
            return self._waveform_refusal(asked)
        if isinstance(asked, VectorRead) and asked.direction not in self.vector_reads:
            return f"a {asked.direction} vector read; the bench has {_names(self.vector_reads)}"
        if asked.both_polarities and not self.both_polarities:
            return "a read at both polarities; the bench reads one"
        volts = 0.0 if self.max_read_v == float("inf") else _largest_v(asked)
        if volts > self.max_read_v * (1 + 1e-9):
            return f"a read at {volts:g} V; the bench reaches {self.max_read_v:g} V"
        return None

    def _waveform_refusal(self, waveforms: Waveforms) -> str | None:
        if len(waveforms.shapes) > self.distinct_shapes:
            return f"{len(waveforms.shapes)} distinct waveform shapes; the bench plays {self.distinct_shapes}"
        volts = max(max(abs(shape.v.min()), abs(shape.v.max())) for shape in waveforms.shapes)
        if volts > self.max_pulse_v:
            return f"waveforms of {volts:g} V; the bench reaches {self.max_pulse_v:g} V"
        return None

    def _pulse_refusal(self, batch: PulseBatch) -> str | None:
        if batch.bias not in self.biases:
            return f"bias {batch.bias.value!r}; the bench has {_names(self.biases)}"
        if batch.measure and not self.measures_while_pulsing:
            return "a measurement of the current while pulsing; its pulse path has no ammeter"
        if batch.pulse.amplitude_v > self.max_pulse_v:
            return f"a pulse of {batch.pulse.amplitude_v:g} V; the bench reaches {self.max_pulse_v:g} V"
        if batch.measure:
            least_s, most_s, what = self.min_measured_width_s, self.max_measured_width_s, "measures in pulses of"
        else:
            least_s, most_s, what = self.min_width_s, self.max_width_s, "does"
        if not least_s <= batch.pulse.width_s <= most_s:
            return f"a width of {batch.pulse.width_s:g} s; the bench {what} {least_s:g} to {most_s:g} s"
        return None


def _largest_v(read: Read) -> float:
    return float(abs(read.volts).max()) if isinstance(read, VectorRead) else abs(read.voltage_v)


def _names(values: frozenset[Any]) -> str:
    return ", ".join(sorted(str(v) for v in values)) or "none"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a protocol needs of a bench; compared with the capabilities before the first volt.

    `multiply`: forward products, done in the array where it can, else by reading cells and multiplying on the host
    (the record says which). `transposed`: products backwards through the array, with no substitute. `pulse_current`:
    the current during a pulse, measured.
    """

    rows: int = 1
    cols: int = 1
    multiply: bool = False
    transposed: bool = False
    biases: frozenset[Bias] = frozenset()
    distinct_shapes: int = 0
    pulse_current: bool = False

    def plan(self, capabilities: Capabilities) -> Plan:
        """How the bench will serve the protocol; raises CapabilityMissing naming all that it lacks."""
        lacks = list(self._lacks(capabilities))
        if lacks:
            raise CapabilityMissing(
                f"this bench lacks what the protocol needs: {'; '.join(lacks)} "
                "(choose another bench or change the protocol's parameters)"
            )
        in_array = Direction.ROWS_TO_COLS in capabilities.vector_reads
        return Plan(multiply="array" if in_array else "host")

    def _lacks(self, has: Capabilities) -> list[str]:
        lacks = []
        if self.rows > has.shape[0] or self.cols > has.shape[1]:
            lacks.append(f"an array of {self.rows} x {self.cols} (it has {has.shape[0]} x {has.shape[1]})")
        lacks += [f"bias {b.value!r} (it has {_names(has.biases)})" for b in sorted(self.biases - has.biases)]
        if self.transposed and Direction.COLS_TO_ROWS not in has.vector_reads:
            lacks.append("transposed vector reads (cols_to_rows)")
        if self.pulse_current and not has.measures_while_pulsing:
            lacks.append("a measurement of the current while pulsing (its pulse path has no ammeter)")
        if self.distinct_shapes > has.distinct_shapes:
            lacks.append(f"{self.distinct_shapes} waveform shapes at once (it plays {has.distinct_shapes})")
        return lacks


@dataclass(frozen=True, slots=True)
class Plan:
    """How a bench serves a protocol: `multiply` in the array in one shot, or on the host from cell reads."""

    multiply: Literal["array", "host"]


class Applied(NamedTuple):
    """What happened to a stimulus. Energy is nan where `energy_basis` is "unknown".

    `currents_a`, where the batch asked to measure: one magnitude for every entry of `Shots.cross`, in its order, the
    current through that cell in the first pulse of its shot, in amperes.
    """

    shots_done: int
    pulses: int
    start_s: float
    end_s: float
    energy_j: float = float("nan")
    energy_basis: EnergyBasis = "unknown"
    compliance_hit: bool = False
    currents_a: FloatArray | None = None


class Reading(NamedTuple):
    """What a read gave. currents_a is [polarities, cells] or [polarities, n, outputs], raw, in amperes.

    `sigma_a`: standard deviation of one current (nan: not known); `range_a`: the measurement range (inf: ideal);
    flags name what a reader must know ("over_range", "compliance").
    """

    currents_a: FloatArray
    sigma_a: float
    range_a: float
    start_s: float
    end_s: float
    energy_j: float = float("nan")
    flags: tuple[str, ...] = ()

    def signed_a(self) -> FloatArray:
        """Current with the offset removed where both polarities were read: (I+ - I-) / 2."""
        if len(self.currents_a) == 2:
            both: FloatArray = (self.currents_a[0] - self.currents_a[1]) / 2
            return both
        single: FloatArray = self.currents_a[0]
        return single


def conductance_s(reading: Reading, voltage_v: float) -> FloatArray:
    """Conductances of a cell read in siemens: (I+ - I-) / 2V."""
    return reading.signed_a() / voltage_v


@dataclass(frozen=True, slots=True)
class Witness:
    """What lets the other end be asked, after a crash, whether a trigger arrived: its counter and its boot nonce."""

    counter: int = -1
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The stimulus was fired, as far as `applied.shots_done` says; `applied` is its answer."""

    applied: Applied


@dataclass(frozen=True, slots=True)
class NotDone:
    """Nothing was fired."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Shots before `shot` were fired; whether `shot` itself was, nobody can tell. `why` says what was lost."""

    shot: int
    why: str


Outcome = Done | NotDone | Unknown


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is at the other end: for the record, never for a protocol's decisions."""

    backend: str
    simulated: bool
    chip_id: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Whether anything drives the lines, as it was heard last. `on` is None where nobody knows.

    `how`: "read back" from the bench, "commanded" without an answer that proves it, or "emulated". Off is only said
    where it was read back, or where the chip is emulated. `since_s` is of the computer's monotonic clock.
    """

    on: bool | None = None
    how: Literal["read back", "commanded", "emulated"] = "commanded"
    since_s: float = field(default_factory=monotonic)

    @property
    def age_s(self) -> float:
        """How long ago it was heard."""
        return max(monotonic() - self.since_s, 0.0)


class Crossbar(ABC):
    """A crossbar on a bench. One contract for emulator, VISA bench and FPGA bridge.

    `stage` sends no volts and may be repeated; `fire` is called once per sequence number and never again.
    Outside `fire` and `sense` all outputs are at 0 V. No call blocks a link for longer than 50 ms.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this bench with this chip can do; constant while open."""

    @abstractmethod
    def identity(self) -> Identity:
        """Backend, chip and instruments, for the manifest."""

    @abstractmethod
    def stage(self, seq: int, shots: ShotList) -> Witness:
        """Program and arm, no volts; idempotent. The witness is recorded before `fire`."""

    @abstractmethod
    def fire(self, seq: int) -> Applied:
        """Trigger what was staged under `seq`. Raises LinkLost when the reply is lost: ask `outcome`."""

    @abstractmethod
    def sense(self, read: Read) -> Reading:
        """Read; the conductances may be disturbed only as the device model says."""

    @abstractmethod
    def outcome(self, seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        """What became of `seq`, by a true witness; asked after a lost reply or a restart.

        `shots` is what was staged under `seq`: a backend in a new process has not seen it. A stimulus that was cut off
        between two shots is Done, with `shots_done` of them: the rest will never be fired.
        """

    @abstractmethod
    def enforce(self, limits: Limits) -> None:
        """Program the hardware's own limits and read them back."""

    @abstractmethod
    def rest(self) -> None:
        """Outputs to 0 V, settle, lines grounded or open; idempotent, from any state and any thread."""

    @abstractmethod
    def close(self) -> None:
        """Rest and let go of the links."""

    def outputs(self) -> Outputs:
        """Whether anything is driven, as this end knows it; asks nobody, so that any thread may ask at any time."""
        return Outputs()

    def overhear(self, hear: Hearer | None) -> None:
        """Let `hear` have everything that goes over the links from here on; an emulated chip has none."""
        del hear

    @property
    def clock_s(self) -> float:
        """Time of the bench in seconds: simulated where the chip is emulated."""
        return time()

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass for the chip; the runner calls it in slices, so that an abort is not kept waiting."""
        sleep(seconds)

    def loop(self, seq: int, loop: Loop) -> LoopAnswer:
        """Run a bounded closed loop in the backend; only where `capabilities.compiled_loops`."""
        who = type(self).__name__
        raise CapabilityMissing(f"{who} does not run a loop of {loop.ticks} ticks (step {seq}); the host steps it")

    def snapshot(self) -> bytes | None:
        """State of an emulated chip, enough to execute again from here; None for a real chip."""
        return None

    def restore(self, snapshot: bytes) -> None:
        """Put an emulated chip back to a snapshot."""
        raise CapabilityMissing(f"{type(self).__name__} cannot turn a chip back to a snapshot of {len(snapshot)} bytes")

    def keep(self, run_file: str, seq: int) -> None:
        """Put an emulated chip into its file as it is after step `seq`; a real chip keeps itself."""
        del run_file, seq

    def harm(self) -> list[str]:
        """What an emulated chip has suffered that would have hurt a real one, in sentences."""
        return []

    def truth_s(self) -> FloatArray | None:
        """The emulated chip's hidden conductances [rows, cols] in siemens; None for a real chip."""
        return None
