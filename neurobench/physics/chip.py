"""An emulated chip is a thing: made once with a seed, pulsed, kept in a drawer, taken out again.

A chip has devices that never change (`Devices`: how far each steps, its range and offset, which are stuck) and a state
that every pulse changes. Same seed and same operations give the same chip, bit for bit on one machine class.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from math import exp, log, nan, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgpack
import numpy as np

from neurobench.bench.stimulus import Bias, BoolArray, FloatArray, IndexArray, Pulse, Shots
from neurobench.errors import CapabilityMissing, ConfigError, OutsideHull, ResumeRefused, RunFileError
from neurobench.physics import kernels, plays
from neurobench.physics.drive import Drive, Plan, make_drive
from neurobench.physics.kernels import LoopDevice, Table
from neurobench.physics.noise import Key, Stream, key, normals, uniforms
from neurobench.system import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from neurobench.physics.response import DeviceModel

SCHEMA = 1
# A cell whose insulator has failed, as a conductance: 1 kOhm. Not measured; far above any device of the library.
SHORTED_S = 1e-3
# Shape of the seed's offset distribution: see seed_offsets().
OFFSET_SHAPE = log(10.0) / 5.0
# A drawn threshold is at least this share of the mean: one of 0 V or below would be no threshold.
LEAST_THRESHOLD = 0.1

Offsets = Literal["none", "seed-lognormal", "normal", "lognormal"]


@dataclass(frozen=True, slots=True)
class Spread:
    """How the devices of a chip differ from the model, drawn from the chip's seed, or given as arrays [rows, cols].

    Conductance of a device = scale (level(u) - baseline + offset). scale: factor on everything; remove_baseline:
    subtract the level of a fresh device; offset_s: explicit offsets in siemens, else drawn as `offsets` says with
    standard deviation offset_sigma_s; step, range: lognormal sigmas (step None: the model's own);
    stuck, shorted: fractions; threshold: relative sigma of the threshold of a device with a rate model.
    """

    scale: float = 1.0
    remove_baseline: bool = False
    offset_s: FloatArray | None = None
    offsets: Offsets = "none"
    offset_sigma_s: float = 0.0
    step: float | None = None
    range: float = 0.0
    stuck: float = 0.0
    shorted: float = 0.0
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Devices:
    """What never changes on a chip. Arrays are flat [rows * cols]; base_s, gain_s have one entry where all are equal.

    step: factor on every step (0: does not move); conductance = base_s + gain_s L(u) (see kernels.Cells);
    noise_scale: factor on the model's read noise; u_start: state of the fresh device; threshold: factor on both
    thresholds of a device with a rate model.
    """

    shape: tuple[int, int]
    step: NDArray[np.float32]
    base_s: FloatArray
    gain_s: FloatArray
    u_start: FloatArray
    stuck: BoolArray
    shorted: BoolArray
    noise_scale: float
    threshold: FloatArray = field(default_factory=lambda: np.ones(1))

    def digest(self) -> str:
        """Hash over everything: two chips with equal digests have equal devices."""
        h = blake2b(repr((self.shape, self.noise_scale)).encode(), digest_size=16)
        for array in (self.step, self.base_s, self.gain_s, self.u_start, self.stuck, self.shorted):
            h.update(array.tobytes())
        if self.threshold.size > 1:  # a chip without its own thresholds is what it was before there were any
            h.update(self.threshold.tobytes())
        return h.hexdigest()


def seed_offsets(seed: int, shape: tuple[int, int]) -> FloatArray:
    """The published draw of conductance offsets in siemens, before scale: lognormal, then stretched to 10 .. 100 nS.

    Source: cateru/Memristor_Crossbar_Training_Class (c3a4408): numpy's legacy generator, mu = ln 55 nS,
    sigma = ln(10) / 5, row-major, then the smallest made exactly 1e-8 S and the largest exactly 1e-7 S.
    """
    legacy = np.random.RandomState(seed % 2**32)  # the published draws come from it
    x = legacy.lognormal(log(5.5e-8), OFFSET_SHAPE, shape[0] * shape[1])
    if x.size == 1:
        raise ConfigError("offsets = 'seed-lognormal' stretches draws to a range: it needs at least two cells")
    low, high = 1e-8, 1e-7
    stretched: FloatArray = (low + (x - x.min()) * (high - low) / (x.max() - x.min())).reshape(shape)
    return stretched


def draw_devices(model: DeviceModel, shape: tuple[int, int], seed: int, spread: Spread | None = None) -> Devices:
    """Make the devices of one chip. Raises ConfigError for arrays of another shape or a negative conductance."""
    spread = spread or Spread()
    offset_s = _offsets(shape, seed, spread)
    base_s = np.full(1, spread.scale * (model.g_min_s - (model.baseline_s if spread.remove_baseline else 0.0)))
    if offset_s is not None:
        base_s = base_s + spread.scale * offset_s.ravel()
    span_s = 1.0 if model.levels_s is not None else model.g_max_s - model.g_min_s
    gain_s = np.full(1, spread.scale * span_s)
    if spread.range:
        gain_s = gain_s * np.exp(spread.range * normals(seed, Stream.RANGE, 0, shape).ravel())
    step, u_start, stuck, shorted = _defects(model, shape, seed, spread)
    if shorted.any():
        base_s, gain_s = np.where(shorted, SHORTED_S, base_s), np.where(shorted, 0.0, gain_s)
    threshold = draw_thresholds(model, shape, seed, spread.threshold)
    devices = Devices(shape, step, base_s, gain_s, u_start, stuck, shorted, spread.scale, threshold)
    _check_positive(devices, model)
    return devices


def _offsets(shape: tuple[int, int], seed: int, spread: Spread) -> FloatArray | None:
    if spread.offset_s is not None:
        given = np.array(spread.offset_s, dtype=np.float64)
        if given.shape != shape or not np.isfinite(given).all():
            raise ConfigError(
                f"offset_s has shape {given.shape} and {int((~np.isfinite(given)).sum())} values that are no finite "
                f"numbers; the chip needs finite values of shape {shape} ([chip] rows, cols)"
            )
        return given
    if spread.offsets == "none":
        return None
    if spread.offsets == "seed-lognormal":
        return seed_offsets(seed, shape)
    z = normals(seed, Stream.OFFSET, 0, shape)
    if spread.offsets == "normal":
        return spread.offset_sigma_s * z
    # lognormal of the seed's shape, scaled so that its standard deviation is the one asked for
    s2 = OFFSET_SHAPE**2
    return spread.offset_sigma_s * np.exp(OFFSET_SHAPE * z) / sqrt((exp(s2) - 1) * exp(s2))


def _defects(
    model: DeviceModel, shape: tuple[int, int], seed: int, spread: Spread
) -> tuple[NDArray[np.float32], FloatArray, BoolArray, BoolArray]:
    """Step factors, fresh states, and which cells are stuck (anywhere in the window) or shorted."""
    n = shape[0] * shape[1]
    sigma = model.step_spread if spread.step is None else spread.step
    literal = model.levels_s is not None
    step = np.ones(n, np.float32)
    if sigma and not literal:  # an index cannot move by 1.1
        step = np.exp(sigma * normals(seed, Stream.STEP, 0, (n,))).astype(np.float32)
    u_start = np.full(n, float(model.u_start))
    stuck = uniforms(seed, Stream.STUCK, 0, (n,)) < spread.stuck
    shorted = uniforms(seed, Stream.SHORTED, 0, (n,)) < spread.shorted
    if stuck.any():
        anywhere = model.u_min + uniforms(seed, Stream.STUCK_STATE, 0, (n,)) * (model.u_max - model.u_min)
        u_start = np.where(stuck, np.floor(anywhere) if literal else anywhere, u_start)
    step[stuck | shorted] = 0
    return step, u_start, stuck, shorted


def draw_thresholds(model: DeviceModel, shape: tuple[int, int], seed: int, sigma: float) -> FloatArray:
    """Factor on the thresholds of every cell, normal around 1; one entry where all are equal."""
    if not sigma:
        return np.ones(1)
    if model.rate is None:
        raise ConfigError(
            f"[chip] threshold_spread = {sigma:g}: device {model.name} replays pulses and has no threshold that could "
            "differ between cells; set it to 0, or choose a rate model ([chip] model = 'threshold-exponential')"
        )
    drawn = 1 + sigma * normals(seed, Stream.THRESHOLD, 0, shape).ravel()
    return np.maximum(drawn, LEAST_THRESHOLD)


def _check_positive(devices: Devices, model: DeviceModel) -> None:
    low = 0.0 if model.levels_s is None else float(model.levels_s.min() - model.g_min_s)
    worst = float(np.min(devices.base_s + devices.gain_s * low))
    if worst < 0:
        raise ConfigError(
            f"the chip would have a conductance of {worst:g} S; conductances are not negative "
            "(see [chip] offset_s, offsets, offset_sigma_s, baseline)"
        )


class Fired(NamedTuple):
    """What firing did: energy in joule (nan: unknown), pulses on selected cells, pulses one after another."""

    energy_j: float
    pulses: int
    slots: int


@dataclass(slots=True)
class Counters:
    """What a chip has lived through: reads so far (they key the read noise), its clock, the last
    (run, seq) fired on it."""

    reads: int = 0
    clock_s: float = 0.0
    relaxed_s: float = 0.0
    run: str = ""
    seq: int = -1


class Chip:
    """The state of every device of one array, and everything that may happen to it.

    `u` [rows * cols] are the states, `pulses` [rows * cols] the pulses that each cell has had over its life.
    """

    def __init__(self, model: DeviceModel, devices: Devices, seed: int, chip_id: str = "") -> None:
        self.model, self.devices, self.seed = model, devices, seed
        self.shape = devices.shape
        self.chip_id = chip_id or f"emulated-{seed}"
        n = self.shape[0] * self.shape[1]
        self.u = devices.u_start.copy()
        self.pulses, self.disturbs = np.zeros(n, np.uint32), np.zeros(n, np.uint32)
        self.counters = Counters()
        self.levels_s = np.zeros(0) if model.levels_s is None else model.levels_s - model.g_min_s
        self._pulse_key, self._disturb_key = key(seed, Stream.PULSE), key(seed, Stream.DISTURB)
        self._conductance_s, self._row_s = np.empty(self.shape), np.empty(self.shape[0])
        self._fresh, self._fresh_at = False, 0.0
        # Sums per row and per column for the energy of a pulse: kept up to date by the kernel, part of the snapshot,
        # apart from the sums of a read, so that a read cannot change the last bit of an energy.
        self._sums, self._sums_hold = (np.empty(self.shape[0]), np.empty(self.shape[1])), False

    # -- what it is now ------------------------------------------------------------------------------------------

    def conductance_s(self) -> FloatArray:
        """Conductances [rows, cols] in siemens now; the array is the chip's own: do not write to it or keep it."""
        now = self.counters.clock_s
        if not self._fresh or (self.model.relaxation is not None and self._fresh_at != now):
            d = self.devices
            kernels.conductances(self._relaxed(), d.base_s, d.gain_s, self.levels_s, self._conductance_s, self._row_s)
            self._fresh, self._fresh_at = True, now
        return self._conductance_s

    def row_conductance_s(self) -> FloatArray:
        """Summed conductance of each row in siemens, under the same terms."""
        self.conductance_s()
        return self._row_s

    def col_conductance_s(self) -> FloatArray:
        """Summed conductance of each column in siemens."""
        total: FloatArray = self.conductance_s().sum(axis=0)
        return total

    def _relaxed(self) -> FloatArray:
        """The states now. Reading does not commit the relaxation: a preview must not change one bit of the chip."""
        rest, elapsed = self.model.relaxation, self.counters.clock_s - self.counters.relaxed_s
        if rest is None or elapsed == 0:
            return self.u
        relaxed: FloatArray = rest.u_rest + (self.u - rest.u_rest) * exp(-elapsed / rest.tau_s)
        stays = self.devices.step == 0
        relaxed[stays] = self.u[stays]
        return relaxed

    # -- what happens to it --------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let simulated time pass."""
        self.counters.clock_s += seconds

    def fire(self, shots: Shots, drive: Drive) -> Fired:
        """Fire all shots in order; the clock is the caller's. Noise is keyed by each cell's own pulse count."""
        self._settle()
        if self.devices.threshold.size > 1:
            return Fired(*plays.fire_by_cell(self, shots, drive))
        fired = self._fire_disturbing(shots, drive) if drive.disturbing else self._fire_plain(shots, drive)
        if drive.metered and self.devices.shorted.any():
            fired = fired._replace(energy_j=fired.energy_j + self._shorts_j(shots, drive))
        return fired

    def _shorts_j(self, shots: Shots, drive: Drive) -> float:
        """What the kernels count too much for shorted cells, as a (negative) energy: a short is ohmic, I = G V."""
        excess = drive.ohmic_per_s - drive.joule_per_s
        side = (shots.sign < 0).astype(np.intp)
        shot_of = np.repeat(np.arange(len(shots)), np.diff(shots.indptr))
        total = 0.0
        for cell in np.flatnonzero(self.devices.shorted).tolist():
            row, col = divmod(cell, self.shape[1])
            line, across = (row, col) if shots.axis == 0 else (col, row)
            crossed = np.zeros(len(shots), np.bool_)
            crossed[shot_of[shots.cross == across]] = True
            on_line = shots.line == line
            place = np.where(on_line, np.where(crossed, 0, 1), np.where(crossed, 2, 3))
            conductance_s = self.devices.base_s[cell]
            total += float(conductance_s * (excess[side, place] @ shots.repeat))
        return total

    def _fire_plain(self, shots: Shots, drive: Drive) -> Fired:
        if drive.metered and not self._sums_hold:
            self._sum_up()
        d, (rows_s, cols_s), width = self.devices, self._sums, self.shape[1]
        strides, sums = ((width, 1), (rows_s, cols_s)) if shots.axis == 0 else ((1, width), (cols_s, rows_s))
        energy_j, pulses, slots = kernels.fire(
            self.u, self.pulses, d.step, d.base_s, d.gain_s, self.levels_s, self.model.u_min, self.model.u_max,
            *strides, shots.line, shots.indptr, shots.cross, shots.sign, shots.repeat,
            *drive.tables[0], *drive.tables[4], *self._pulse_key, drive.metered, drive.joule_per_s, *sums,
        )  # fmt: skip
        self._fresh, self._sums_hold = False, drive.metered
        return Fired(energy_j if drive.metered else nan, pulses, slots)

    def _fire_disturbing(self, shots: Shots, drive: Drive) -> Fired:
        d, (rows, cols) = self.devices, self.shape
        geometry = (rows, cols, 1, cols) if shots.axis == 0 else (cols, 1, cols, rows)
        energy_j, pulses, slots = kernels.fire_disturbing(
            self.u, self.pulses, self.disturbs, d.step, d.base_s, d.gain_s, self.levels_s,
            (self.model.u_min, self.model.u_max), *geometry[:3],
            shots.line, shots.indptr, shots.cross, shots.sign, shots.repeat,
            drive.tables, drive.active, self._pulse_key, self._disturb_key,
            drive.metered, drive.joule_per_s, geometry[3],
        )  # fmt: skip
        self._fresh = self._sums_hold = False
        return Fired(energy_j if drive.metered else nan, pulses, slots)

    def fire_plan(self, shots: Shots, plan: Plan) -> Fired:
        """Fire shots that were solved behind a resistance; the energy is that of the staged conductances."""
        self._same_thresholds("pulses behind a resistance")
        self._settle()
        energy_j = 0.0
        for solved, repeat in zip(plan.shots, shots.repeat.tolist(), strict=True):
            energy_j += solved.power_w * plan.seconds * repeat
            for _ in range(repeat):
                self._feel(solved.felt)
        return Fired(energy_j, shots.pulses, int(shots.repeat.sum()))

    def feel(self, felt: Iterable[tuple[Table, IndexArray, bool]]) -> None:
        """One pulse at once on lists of cells (flat indices), each with its table; True: a pulse of the cell's own,
        which counts as one, False: a disturb."""
        self._settle()
        self._feel(felt)

    def _feel(self, felt: Iterable[tuple[Table, IndexArray, bool]]) -> None:
        ends = (self.model.u_min, self.model.u_max)
        for table, cells, chosen in felt:
            count, noise = (self.pulses, self._pulse_key) if chosen else (self.disturbs, self._disturb_key)
            kernels.pulse_list(self.u, count, self.devices.step, *ends, cells, *table, *noise)
        self._fresh = self._sums_hold = False

    def opened(self) -> tuple[Key, Key]:
        """Commit the relaxation: whoever asks (physics.plays) changes the states next. Keys of the noise of pulses and
        of disturbs."""
        self._settle()
        self._fresh = self._sums_hold = False
        return self._pulse_key, self._disturb_key

    def _same_thresholds(self, what: str) -> None:
        if self.devices.threshold.size > 1:
            raise CapabilityMissing(
                f"{what} are not computed for cells with thresholds of their own; set [chip] threshold_spread to 0 "
                "(or bench.source_ohm and bench.series_ohm)"
            )

    def destroy(self, cells: IndexArray) -> None:
        """Make cells (flat indices) shorts for good. It is another chip then: older snapshots do not fit it."""
        self._settle()
        d, n = self.devices, len(self.u)
        shorted, step = d.shorted.copy(), d.step.copy()
        shorted[cells], step[cells] = True, 0
        base_s, gain_s = np.broadcast_to(d.base_s, n).copy(), np.broadcast_to(d.gain_s, n).copy()
        base_s[cells], gain_s[cells] = SHORTED_S, 0.0
        self.devices = replace(d, base_s=base_s, gain_s=gain_s, step=step, shorted=shorted)
        self._fresh = self._sums_hold = False

    def loop_device(self, potentiate: Pulse, depress: Pulse) -> LoopDevice:
        """The live devices for a compiled loop; `commit_loop` must follow. Raises what the model raises for the pulses.

        Only the selected cell feels a pulse: benches whose victims do, or whose lines have a resistance, do not offer
        compiled loops.
        """
        if self.model.end == "refuse":
            raise CapabilityMissing(
                f"a loop holds a cell at the end of its curve; the card of device {self.model.name} says end = 'refuse'"
            )
        self._same_thresholds("compiled loops")
        self._settle()
        d, ends = self.devices, (self.model.u_min, self.model.u_max)
        up, down = _loop_drives(self.model, potentiate, depress)
        return LoopDevice(
            self.shape, self.u, self.pulses, d.step, d.base_s, d.gain_s, self.levels_s, up.tables[0], down.tables[4],
            *self._pulse_key, *ends, np.zeros(2), self.model.linear_in_width,
        )  # fmt: skip

    def commit_loop(self, device: LoopDevice, potentiate: Pulse, depress: Pulse, seconds: float) -> float:
        """Take over what a loop did, let its time pass; gives the energy of its selected cells, nan if unknown."""
        self._fresh = self._sums_hold = False
        self.advance(seconds)
        up, down = _loop_drives(self.model, potentiate, depress)
        if not (up.metered and down.metered):
            return nan
        return float(device.selected_s @ (up.joule_per_s[0, 0], down.joule_per_s[1, 0]))

    def _settle(self) -> None:
        """Commit the relaxation up to now: pulses act on what is left."""
        if self.model.relaxation is not None and self.counters.relaxed_s != self.counters.clock_s:
            self.u = self._relaxed()
            self._fresh = self._sums_hold = False
        self.counters.relaxed_s = self.counters.clock_s

    def _sum_up(self) -> None:
        d = self.devices
        kernels.sums(self.u, d.base_s, d.gain_s, self.levels_s, *self._sums)

    def room_left(self, shots: Shots) -> None:
        """Raise OutsideHull if the model's curve may not be held at its end and these shots would pass it."""
        if self.model.end == "refuse":
            self.room_for(replace(shots, repeat=np.where(shots.sign > 0, shots.repeat, 0)).counts().ravel())

    def room_for(self, up: NDArray[np.integer[Any]]) -> None:
        """The same for up[rows * cols] potentiating pulses on every cell."""
        if self.model.end != "refuse":
            return
        literal = self.model.levels_s is not None
        u = self._relaxed()
        beyond = u + up > self.model.u_max if literal else (up > 0) & (u >= self.model.u_max)
        beyond &= self.devices.step > 0
        if beyond.any():
            row, col = divmod(int(np.argmax(beyond)), self.shape[1])
            raise OutsideHull(
                f"cell ({row}, {col}) is at {u[row * self.shape[1] + col]:g} of {self.model.u_max:g} and would pass "
                f"the end of the curve of device {self.model.name}, whose card says end = 'refuse' ('hold' keeps the "
                "last value)"
            )

    def next_read(self) -> int:
        """Take the index that keys the noise of one read; pulses do not see it."""
        self.counters.reads += 1
        return self.counters.reads - 1

    # -- kept and restored ---------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """The state, enough to go on from here with the same bits on a chip of equal devices."""
        state = {
            "schema": SCHEMA,
            "devices": self.devices.digest(),
            "u": self.u.tobytes(),
            "pulses": self.pulses.tobytes(),
            "disturbs": self.disturbs.tobytes() if self.disturbs.any() else b"",
            "sums": [s.tobytes() for s in self._sums] if self._sums_hold else [],
            "counters": asdict(self.counters),
        }
        packed: bytes = msgpack.packb(state)
        return packed

    def restore(self, snapshot: bytes) -> None:
        """Put the state back. Raises ResumeRefused if the snapshot is another chip's or of a newer version."""
        state = _unpacked(snapshot, "chip snapshot")
        if state["devices"] != self.devices.digest():
            raise ResumeRefused(
                f"the snapshot belongs to another chip than {self.chip_id}: seed, size or [chip] settings differ"
            )
        n = len(self.u)
        # The compiled kernels do not look where an array ends.
        self.u = _sized(state["u"], np.float64, n)
        self.pulses = _sized(state["pulses"], np.uint32, n)
        self.disturbs = _sized(state["disturbs"] or bytes(4 * n), np.uint32, n)
        self._sums_hold = bool(state["sums"])
        for kept, saved in zip(self._sums, state["sums"], strict=False):
            kept[:] = np.frombuffer(saved, np.float64)
        self.counters = Counters(**state["counters"])
        self._fresh = False

    def save(self, path: Path) -> None:
        """Keep the chip in a file, replaced atomically: devices, state, model name, seed."""
        d = self.devices
        kept = {
            "schema": SCHEMA,
            "kind": "neurobench chip",
            "chip_id": self.chip_id,
            "model": self.model.name,
            "physics": physics_digest(self.model),
            "literal": self.model.levels_s is not None,
            "seed": self.seed,
            "shape": list(self.shape),
            "noise_scale": d.noise_scale,
            "arrays": {name: getattr(d, name).tobytes() for name in _KEPT},
            "threshold": d.threshold.tobytes() if d.threshold.size > 1 else b"",
            "state": self.snapshot(),
        }
        replace_file(path, msgpack.packb(kept))


@lru_cache(maxsize=16)
def _loop_drives(model: DeviceModel, potentiate: Pulse, depress: Pulse) -> tuple[Drive, Drive]:
    """What the two pulses of a loop do to the cells that they select; asked for twice in every loop."""
    pulses = ((potentiate, 1), (depress, -1))
    up, down = (make_drive(model, pulse, Bias.ISOLATED, 1, 0, (sign,)) for pulse, sign in pulses)
    return up, down


_KEPT = {"step": np.float32, "base_s": np.float64, "gain_s": np.float64, "u_start": np.float64,
         "stuck": np.bool_, "shorted": np.bool_}  # fmt: skip


def physics_digest(model: DeviceModel) -> str:
    """Digest of all that a card says of the device's behaviour; its texts may be edited."""
    said = model.card.model_dump_json(exclude={"title", "source", "notes", "licence"})
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def load_chip(path: Path, model: DeviceModel) -> Chip:
    """Take a chip out of its drawer. Raises RunFileError for a damaged or newer file, ConfigError for another model."""
    try:
        kept = _unpacked(path.read_bytes(), f"chip file {path}")
    except OSError as error:
        raise RunFileError(f"cannot read the chip file {path}: {error.strerror or error}") from error
    if (kept["model"], kept["literal"]) != (model.name, model.levels_s is not None):
        raise ConfigError(
            f"{path} holds a chip of {kept['model']!r} devices ({'literal' if kept['literal'] else 'latent'}), "
            f"the bench asks for {model.name!r} ([chip] model, replay)"
        )
    if kept.get("physics", physics_digest(model)) != physics_digest(model):
        raise ConfigError(
            f"{path} holds a chip of {model.name!r} devices as another card described them; give it that card back "
            "([chip] model or curve), or name another file to make a new chip"
        )
    try:
        arrays: dict[str, Any] = {name: np.frombuffer(kept["arrays"][name], t).copy() for name, t in _KEPT.items()}
        own = kept.get("threshold", b"")  # absent from chips of older versions, which had none
        arrays["threshold"] = _sized(own, np.float64, len(arrays["step"])) if own else np.ones(1)
        devices = Devices(shape=tuple(kept["shape"]), noise_scale=kept["noise_scale"], **arrays)
        chip = Chip(model, devices, kept["seed"], kept["chip_id"])
        chip.restore(kept["state"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise RunFileError(f"chip file {path} is damaged: {error!r}") from error
    return chip


def _sized(data: bytes, dtype: Any, n: int) -> NDArray[Any]:
    """A writable array of exactly n numbers; RunFileError for any other length."""
    if len(data) != n * np.dtype(dtype).itemsize:
        raise RunFileError(f"damaged chip: {len(data)} bytes where {n} numbers of {np.dtype(dtype)} belong")
    return np.frombuffer(data, dtype).copy()


def _unpacked(data: bytes, what: str) -> dict[str, Any]:
    try:
        state = msgpack.unpackb(data)
        schema = state["schema"]
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise RunFileError(f"{what} is damaged: {error!r}") from error
    if schema > SCHEMA:
        raise RunFileError(f"{what} is of version {schema}; this neurobench reads up to {SCHEMA}: update it")
    return dict(state)
