"""What a protocol says and hears: steps, answers, and the view of the bench that it decides by."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from neurobench.errors import UsageError

from .crossbar import Applied, Capabilities, Needs, Reading
from .stimulus import BoolArray, FloatArray, Pulse, Read, Stimulus, require

if TYPE_CHECKING:
    from .limits import Limits

MAX_LOOP_TICKS = 1000
CELL_STATE = "cell_state"  # a note of this name goes into the chip's passport: see Passport.mark


@dataclass(frozen=True, slots=True)
class Apply:
    """Fire a stimulus. Answered by `Applied`."""

    stimulus: Stimulus


@dataclass(frozen=True, slots=True)
class Sense:
    """Read. Answered by `Reading`."""

    read: Read


@dataclass(frozen=True, slots=True)
class Wait:
    """Let time pass for the chip: simulated time on an emulator. Answered by None."""

    seconds: float

    def __post_init__(self) -> None:
        require(0 <= self.seconds < float("inf"), f"cannot wait {self.seconds} s")


@dataclass(frozen=True, slots=True)
class Note:
    """Record a named value for whoever watches: a float, a string, a list, a dict or an array. Answered by None."""

    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state from which `steps(..., start=state)` goes on exactly as this generator would. Answered by None."""

    state: Mapping[str, Any]


class LoopBounds(NamedTuple):
    """The worst that one loop can do, for the Guard: per cell over the whole loop, and the pulses and reads it uses."""

    potentiate: Pulse
    depress: Pulse
    pulses_per_cell: int
    read_v: float


class LoopProgram:
    """A closed loop of encoder, neurons and rule that a backend may run by itself (see neurobench.learning.loops).

    `kind` names the kernel, `arrays` and `scalars` are all that it needs: the program can be recorded, compared
    and executed again from them alone.
    """

    kind: str

    @abstractmethod
    def bounds(self, ticks: int) -> LoopBounds:
        """The worst that `ticks` ticks of this loop can do to any cell."""

    @abstractmethod
    def arrays(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Arrays of the program: weights of the encoder, neuron states, inputs."""

    @abstractmethod
    def scalars(self) -> Mapping[str, float]:
        """Constants of the program."""

    def compiled(self, ticks: int, device: Any, noise: Any) -> LoopAnswer:
        """Run on the live devices of an emulated chip (physics.kernels.LoopDevice) with the read noise of
        learning.loops.LoopNoise; start_s is 0, end_s the duration, energy_j nan: the caller has clock and energy."""
        del device, noise
        raise UsageError(f"no kernel for {ticks} ticks of a loop of kind {self.kind!r}")

    def stepped(self, ticks: int, view: BenchView) -> Generator[Step, Any, LoopAnswer]:
        """The same loop stepped by the host, as a sub-generator, for benches that run none."""
        raise UsageError(f"the host cannot step {ticks} ticks of a loop of kind {self.kind!r} on {view.shape} cells")


@dataclass(frozen=True, slots=True)
class Loop:
    """Run `program` for `ticks` ticks, at most 1000 at a time. Answered by `LoopAnswer`."""

    program: LoopProgram
    ticks: int

    def __post_init__(self) -> None:
        allowed = 1 <= self.ticks <= MAX_LOOP_TICKS
        require(allowed, f"ticks = {self.ticks}: a loop has 1 to {MAX_LOOP_TICKS} ticks, so that an abort can end it")


class LoopAnswer(NamedTuple):
    """What a loop did: spikes as (tick, neuron) pairs [n, 2], pulses per cell, the program's state afterwards.

    `potentiations` and `depressions` are [rows, cols]; `digest` is a hash over all of it.
    """

    ticks: int
    spikes: np.ndarray[Any, Any]
    potentiations: np.ndarray[Any, Any]
    depressions: np.ndarray[Any, Any]
    state: dict[str, np.ndarray[Any, Any]]
    start_s: float
    end_s: float
    energy_j: float
    digest: str


Step = Apply | Sense | Wait | Loop | Note | Checkpoint
Answer = Applied | Reading | LoopAnswer | None


@dataclass(frozen=True, slots=True)
class DeviceSpan:
    """What is declared or was measured of the devices on the chip, for emulated and real chips alike.

    Conductances in siemens; `g_step_s` is the mean change by one potentiating pulse in mid-range; `read_sigma_s` the
    standard deviation of one read (absolute part; `read_sigma_relative` comes on top); `depresses`: whether a
    depressing pulse is known to work; `basis`: "measured", "declared" or "assumed". `potentiation_s` and
    `depression_s` are mean curves per pulse where known. `origin` says in words what stands behind the numbers, for the
    record and not for decisions. `pulse` potentiates, `depress_pulse` depresses (None: as `pulse`). nan: not known.
    `threshold_v`, `threshold_depress_v`: magnitudes of the mean voltages below which nothing moves; `threshold_sigma`:
    their relative standard deviation between devices (bench rule 20 goes by mean - 3 sigma). `card`: the declared
    device card by name or path, for a theory to be drawn beside what was measured. `integrates`: whether the devices
    answer voltages of any form (True: a rate model; False: a simulated device that replays known pulses, bench rule
    14; None: not known, as of a real chip without the card of a rate model).
    """

    g_min_s: float = float("nan")
    g_max_s: float = float("nan")
    g_step_s: float = float("nan")
    read_sigma_s: float = float("nan")
    read_sigma_relative: float = 0.0
    depresses: bool = True
    basis: str = "assumed"
    potentiation_s: tuple[float, ...] = ()
    depression_s: tuple[float, ...] = ()
    pulse: Pulse | None = None
    read_voltage_v: float = float("nan")
    half_select: str = "not modelled"
    depress_pulse: Pulse | None = None
    origin: str = "not declared"
    threshold_v: float = float("nan")
    threshold_depress_v: float = float("nan")
    threshold_sigma: float = 0.0
    card: str = ""
    integrates: bool | None = None


@dataclass(frozen=True, slots=True)
class BenchView:
    """All that a protocol knows of the bench. It does not know whether the bench is simulated.

    `excluded[rows, cols]`: cells that the passport calls stuck, shorted or retired; `pulses_left[rows, cols]`: what the
    lifetime budget still allows; `pulses_used[rows, cols]`: what each cell has had in its life. `chip_id`: the
    chip's name, so that a protocol can ask for a confirmation of it (bench rule 16).
    """

    capabilities: Capabilities
    limits: Limits
    device: DeviceSpan
    excluded: BoolArray
    pulses_left: FloatArray
    pulses_used: NDArray[np.int64]
    chip_id: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the array."""
        return self.capabilities.shape


@dataclass(frozen=True, slots=True)
class Result:
    """What a protocol returns: whether it reached its goal, and values for the record (JSON-able or arrays)."""

    reached: bool
    values: Mapping[str, Any] = field(default_factory=dict)


Steps = Generator[Step, Any, Result]


class Protocol(BaseModel):
    """A training rule or a characterisation, written once for every bench.

    Subclass it with one pydantic field per parameter (unit in the name, bounds, description). `steps` is a
    deterministic generator: no I/O, no clock, no randomness but `rng`, no state outside itself. It yields a Step,
    is sent the Answer, and returns a Result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    figures: ClassVar[tuple[str, ...]] = ()
    limits_profile: ClassVar[str] = (
        ""  # "forming": the Guard applies [limits.forming], and no other protocol's run does
    )

    @property
    def needs(self) -> Needs:
        """What the protocol needs of a bench, given its parameters."""
        return Needs()

    def bench_defaults(self) -> dict[str, Any]:
        """Settings (`section.key`: value) for an emulated bench that says nothing itself, such as the array size."""
        return {}

    def admit(self, view: BenchView) -> None:
        """Raise Refused or UsageError if this run may not begin on this chip: asked before the first volt."""

    @abstractmethod
    def steps(self, view: BenchView, rng: np.random.Generator, start: Mapping[str, Any] | None = None) -> Steps:
        """Yield steps, be sent answers, return a Result; `start` is a state that it yielded as a Checkpoint."""
        raise UsageError(f"{type(self).__name__} has no steps")
