"""The physics emulator as a bench: an emulated chip behind the crossbar contract.

It executes shots and nothing else, keyed by their sequence number, so that every pulse happens exactly once. Its clock
is simulated. What it knows of the chip (`truth_s`) is never mixed with what a read answers.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import isnan, nan
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgpack
import numpy as np

from neurobench.bench.codec import decode_answer, encode_answer
from neurobench.bench.crossbar import (
    Applied,
    Capabilities,
    Crossbar,
    Done,
    EnergyBasis,
    Identity,
    NotDone,
    Outcome,
    Outputs,
    Reading,
    Witness,
)
from neurobench.bench.steps import DeviceSpan
from neurobench.bench.stimulus import (
    FloatArray,
    IndexArray,
    Play,
    Pulse,
    Read,
    ShotList,
    Shots,
    VectorRead,
)
from neurobench.errors import CapabilityMissing, Refused, UsageError
from neurobench.physics.chip import Chip, Fired
from neurobench.physics.drive import Drive, Plan, make_drive, mean_curve, plan_shots
from neurobench.physics.kernels import Table
from neurobench.physics.library import load_model
from neurobench.physics.maker import make_chip, make_readout
from neurobench.physics.noise import Stream, key
from neurobench.physics.plays import Event, Lines, lines_of, lowest_threshold_v, replayed, rises
from neurobench.physics.reading import Reader
from neurobench.physics.readout import Readout
from neurobench.physics.stress import reading_level_v

if TYPE_CHECKING:
    from pathlib import Path

    from neurobench.bench.config import BenchConfig, ChipSection
    from neurobench.bench.limits import Limits
    from neurobench.bench.steps import Loop, LoopAnswer
    from neurobench.physics.response import DeviceModel

KEPT_ANSWERS = 64
KEPT_DRIVES = 256
CURVE_PULSES = 64
UNSTATED = Pulse(1.0, 1e-3)  # stands for the pulse of a curve file that states none; such a device answers any


class _Staged(NamedTuple):
    seq: int
    shots: ShotList
    drive: Drive | Plan | _Played


class _Played(NamedTuple):
    """Waveforms made ready: what a rate model integrates, or the pulses that they are to a replayed curve."""

    lines: Lines
    pulses: tuple[tuple[Table, IndexArray, bool], ...] = ()


class Emulator(Crossbar):
    """One emulated chip on a bench. `pulse_overhead_s` passes after every pulse; `file`: where the chip is kept."""

    def __init__(
        self,
        chip: Chip,
        capabilities: Capabilities | None = None,
        readout: Readout | None = None,
        pulse_overhead_s: float = 0.0,
        file: Path | None = None,
    ) -> None:
        self.chip = chip
        self._capabilities = capabilities or Capabilities(
            chip.shape, delivery="exactly_once", compiled_loops=True, distinct_shapes=sum(chip.shape)
        )
        if self._capabilities.shape != chip.shape:
            raise UsageError(f"the chip is {chip.shape}, the bench is for {self._capabilities.shape}")
        self.readout = readout or Readout()
        self._overhead_s, self._file = pulse_overhead_s, file
        self._read_key = key(chip.seed, Stream.READ)
        self._ohm = self._capabilities.source_ohm + self._capabilities.series_ohm
        self._reader = Reader(chip, self.readout, self._ohm)
        law, sign = chip.model.rate, self._capabilities.potentiating_sign
        self._event = None if law is None else Event(chip, law, sign)
        self._drives: dict[tuple[Any, ...], Drive] = {}
        self._staged: _Staged | None = None
        self._answers: dict[int, Applied] = {}
        self._last_seq = -1
        self._driving = False

    @property
    def capabilities(self) -> Capabilities:
        """What this bench with this chip can do."""
        return self._capabilities

    def identity(self) -> Identity:
        """Model, seed and a digest of the devices."""
        chip, model = self.chip, self.chip.model
        details = {
            "model": model.name,
            "replay": "latent" if model.levels_s is None else "literal",
            "seed": chip.seed,
            "devices": chip.devices.digest(),
            "half_select": half_select_words(model),
        }
        return Identity("emulator", True, chip.chip_id, details)

    # -- pulses --------------------------------------------------------------------------------------------------

    def stage(self, seq: int, shots: ShotList) -> Witness:
        """Prepare; raises Refused (OutsideHull, CapabilityMissing) for what the device model cannot answer."""
        if shots.shape != self.chip.shape:
            raise UsageError(f"the shots are for {shots.shape} cells, the chip has {self.chip.shape}")
        self._check_new(seq)
        self._staged = None
        if isinstance(shots, Play):
            self._staged = _Staged(seq, shots, self._ready(shots))
            return Witness(self._last_seq)
        drive = self._drive(shots) if self._ohm == 0 else self._plan(shots)
        if self.chip.model.end == "refuse":
            self.chip.room_left(shots)
        self._staged = _Staged(seq, shots, drive)
        return Witness(self._last_seq)

    def _ready(self, play: Play) -> _Played:
        """A rate model integrates any waveform; a replayed curve answers known rectangular pulses (bench rule 14)."""
        if self._ohm:
            raise CapabilityMissing(
                f"waveforms behind {self._ohm:g} ohm: the voltage at the cells follows their conductances while these "
                "move, which is not solved here; set bench.source_ohm and bench.series_ohm to 0"
            )
        lines = lines_of(play.waveforms)
        if self._event is not None:
            return _Played(lines)
        model, sign = self.chip.model, self._capabilities.potentiating_sign
        level_v = reading_level_v(model)
        pulses = tuple(replayed(model, lines, sign, level_v))
        self.chip.room_for(rises(lines, sign, level_v))
        return _Played(lines, pulses)

    def fire(self, seq: int) -> Applied:
        """Fire what was staged under `seq`; asked again, the same answer and no pulse."""
        if seq in self._answers:
            return self._answers[seq]
        staged = self._staged
        if staged is None or staged.seq != seq:
            raise UsageError(f"fire({seq}) without stage({seq}) before it")
        self._staged = None
        chip = self.chip
        start_s = chip.counters.clock_s
        self._driving = True
        try:
            (energy_j, pulses, slots), each_s, currents_a = self._fired(staged)
        finally:
            self._driving = False
        chip.advance(slots * (each_s + self._overhead_s))
        basis: EnergyBasis = "unknown" if isnan(energy_j) else "model"
        shots_done, end_s = len(staged.shots), chip.counters.clock_s
        applied = Applied(shots_done, pulses, start_s, end_s, energy_j, basis, currents_a=currents_a)
        self._remember(seq, applied)
        return applied

    def _fired(self, staged: _Staged) -> tuple[Fired, float, FloatArray | None]:
        """What firing did, how long one of its pulses lasts, and the currents of shots that measure."""
        shots, drive, chip = staged.shots, staged.drive, self.chip
        if isinstance(shots, Play):
            assert isinstance(drive, _Played)
            return self._play(drive), shots.duration_s, None
        if shots.measure:
            fired, currents_a = self._fire_measured(shots)
            return fired, shots.pulse.duration_s, currents_a
        assert not isinstance(drive, _Played)
        fired = chip.fire(shots, drive) if isinstance(drive, Drive) else chip.fire_plan(shots, drive)
        return fired, shots.pulse.duration_s, None

    def _play(self, ready: _Played) -> Fired:
        """One waveform is one pulse of every cell that sees more than the declared threshold; to a replayed curve every
        stretch is a pulse."""
        if self._event is not None:
            energy_j = self._event.play(ready.lines)
            return Fired(energy_j, len(self._event.end()), 1)
        self.chip.feel(ready.pulses)
        return Fired(nan, sum(len(cells) for _, cells, _ in ready.pulses), 1)

    def _fire_measured(self, shots: Shots) -> tuple[Fired, FloatArray]:
        """Shot by shot, looking at the current I = G V factor(V) before the devices move; the noise is the same."""
        volts = shots.pulse.amplitude_v
        factor = self.chip.model.write_current_factor(volts) or nan
        per_s = volts * np.where(self.chip.devices.shorted, 1.0, factor).reshape(self.chip.shape)
        currents_a, total = np.empty(len(shots.cross)), Fired(0.0, 0, 0)
        for k in range(len(shots)):
            currents_a[shots.indptr[k] : shots.indptr[k + 1]] = (per_s * self.chip.conductance_s())[shots.cells(k)]
            one = shots.only(k)
            energy_j, pulses, slots = self.chip.fire(one, self._drive(one))
            total = Fired(total.energy_j + energy_j, total.pulses + pulses, total.slots + slots)
        return total, currents_a

    def _check_new(self, seq: int) -> None:
        if seq <= self._last_seq:
            raise UsageError(f"sequence number {seq} was used: the last one fired is {self._last_seq}; they only rise")

    def _remember(self, seq: int, applied: Applied) -> None:
        self._answers[seq] = applied
        self._last_seq = self.chip.counters.seq = seq
        if len(self._answers) > KEPT_ANSWERS:
            del self._answers[next(iter(self._answers))]

    def _drive(self, shots: Shots) -> Drive:
        raw = shots.sign.tobytes()  # ten times faster than asking the array, and this is on the path of every step
        signs = (1,) * (b"\x01" in raw) + (-1,) * (b"\xff" in raw)
        kind = (shots.pulse, shots.bias, shots.potentiating_sign, shots.axis, signs)
        drive = self._drives.get(kind)
        if drive is None:
            if len(self._drives) >= KEPT_DRIVES:  # a characterisation may use thousands of different pulses
                self._drives.clear()
            drive = make_drive(self.chip.model, shots.pulse, shots.bias, shots.potentiating_sign, shots.axis, signs)
            self._drives[kind] = drive
        return drive

    def _plan(self, shots: Shots) -> Plan:
        return plan_shots(self.chip.model, shots, self.chip.conductance_s(), self._ohm)

    def outcome(self, seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        """Done or NotDone: a function call loses no reply, so the witness is not needed."""
        del witness, shots
        if seq in self._answers:
            return Done(self._answers[seq])
        if seq > self._last_seq:
            return NotDone()
        raise UsageError(f"sequence number {seq} lies more than {KEPT_ANSWERS} back; its answer is no longer kept")

    # -- reads ---------------------------------------------------------------------------------------------------

    def sense(self, read: Read) -> Reading:
        """Read through the readout; the devices are not disturbed: what would write a rate model is refused."""
        volts = float(np.abs(read.volts).max()) if isinstance(read, VectorRead) else abs(read.voltage_v)
        self._refuse_writing(volts)
        if read.delay_s:
            self.chip.advance(read.delay_s)
        self._driving = True
        try:
            return self._reader.sense(read)
        finally:
            self._driving = False

    def _refuse_writing(self, read_v: float) -> None:
        if self._event is not None and read_v > (most_v := lowest_threshold_v(self.chip)):
            raise CapabilityMissing(
                f"a read at {read_v:g} V would write device {self.chip.model.name}, whose lowest threshold on this "
                f"chip is {most_v:g} V; read with less"
            )

    # -- loops, time, safety -------------------------------------------------------------------------------------

    def loop(self, seq: int, loop: Loop) -> LoopAnswer:
        """Run a bounded closed loop compiled, once per sequence number."""
        if not self._capabilities.compiled_loops:
            return super().loop(seq, loop)
        self._check_new(seq)
        from neurobench.learning.loops import LoopNoise  # compiles much: only where a loop is run

        chip, bounds, start_s = self.chip, loop.program.bounds(loop.ticks), self.chip.counters.clock_s
        self._refuse_writing(bounds.read_v)
        self._refuse_victims(bounds.potentiate, bounds.depress)
        device = chip.loop_device(bounds.potentiate, bounds.depress)
        absolute, relative = self._reader.noise()
        noise = LoopNoise(self._read_key, chip.counters.reads, absolute**2, relative**2)
        self._driving = True
        try:
            answer = loop.program.compiled(loop.ticks, device, noise)
        finally:
            self._driving = False
        chip.counters.reads += loop.ticks
        seconds = answer.end_s - answer.start_s
        energy_j = chip.commit_loop(device, bounds.potentiate, bounds.depress, seconds)
        pulses = int(answer.potentiations.sum() + answer.depressions.sum())
        basis: EnergyBasis = "unknown" if isnan(energy_j) else "model"
        self._remember(seq, Applied(loop.ticks, pulses, start_s, chip.counters.clock_s, energy_j, basis))
        return answer._replace(start_s=start_s, end_s=chip.counters.clock_s, energy_j=energy_j)

    def _refuse_victims(self, potentiate: Pulse, depress: Pulse) -> None:
        """A compiled loop moves selected cells only: others of a rate model must not feel half of its pulses."""
        law = self.chip.model.rate
        if law is None or self._capabilities.isolation != "passive":
            return
        for side, pulse in ((law.up, potentiate), (law.down, depress)):
            if pulse.amplitude_v / 2 > side.threshold_v:
                raise CapabilityMissing(
                    f"a compiled loop with pulses of {pulse.amplitude_v:g} V: half-selected cells of device "
                    f"{self.chip.model.name} move beyond {side.threshold_v:g} V; pulse with up to "
                    f"{2 * side.threshold_v:g} V, or let the host step the loop"
                )

    @property
    def clock_s(self) -> float:
        """Simulated time in seconds."""
        return self.chip.counters.clock_s

    def wait(self, seconds: float) -> None:
        """Let simulated time pass."""
        self.chip.advance(seconds)

    def enforce(self, limits: Limits) -> None:
        """Nothing to program: the emulated bench has no limits of its own, the Guard's hold."""

    def rest(self) -> None:
        """Outputs are at 0 V, also where a call is still at work, on compiling say; what was staged is dropped."""
        self._staged, self._driving = None, False

    def outputs(self) -> Outputs:
        """Off, but for the moments in which it fires or reads."""
        return Outputs(self._driving, "emulated")

    def keep(self, run_file: str, seq: int) -> None:
        """Put the chip into its drawer, with the run and step that were the last on it."""
        if self._file is not None:
            self.chip.counters.run, self.chip.counters.seq = run_file, seq
            self.chip.save(self._file)

    def close(self) -> None:
        """Put the chip back into its drawer."""
        self.rest()
        if self._file is not None:
            self.chip.save(self._file)

    def snapshot(self) -> bytes:
        """Chip, sequence number and kept answers."""
        answers = [(seq, encode_answer(a)) for seq, a in self._answers.items()]
        packed: bytes = msgpack.packb({"chip": self.chip.snapshot(), "last_seq": self._last_seq, "answers": answers})
        return packed

    def restore(self, snapshot: bytes) -> None:
        """Back to a snapshot: the same operations from here give the same bits."""
        state = msgpack.unpackb(snapshot)
        self.chip.restore(state["chip"])
        self._last_seq, self._staged = state["last_seq"], None
        self._answers = {seq: cast("Applied", decode_answer(answer)) for seq, answer in state["answers"]}

    def truth_s(self) -> FloatArray:
        """The hidden conductances [rows, cols] in siemens, a copy."""
        return self.chip.conductance_s().copy()


def half_select_words(model: DeviceModel) -> str:
    """What the record says about half-selected cells: a card may declare them, or have measured half of its pulse."""
    return "modelled" if model.half_select_modelled or any(_feels_half(model, s) for s in (1, -1)) else "not modelled"


def _knows_its_current(model: DeviceModel) -> bool:
    pulse = _nominal(model, 1)
    return pulse is not None and model.write_current_factor(pulse.amplitude_v) is not None


def _feels_half(model: DeviceModel, sign: int) -> bool:
    pulse = _nominal(model, sign)
    return pulse is not None and model.disturb(sign, pulse.amplitude_v / 2, pulse.width_s) is not None


def open_emulator(config: BenchConfig, seed: int) -> tuple[Emulator, DeviceSpan]:
    """Make the chip that the bench file describes, or take it out of its drawer, and put it on an emulated bench."""
    bench, section = config.bench, config.chip
    model = load_model(section.curve or section.model, replay=section.replay, assume_mirror=section.assumed_mirror)
    chip = make_chip(config, model, seed)
    sign = section.potentiating_sign or model.card.potentiating_sign
    ohm = bench.source_ohm + bench.series_ohm
    capabilities = Capabilities(
        shape=chip.shape, parallelism=bench.parallelism, biases=bench.biases, isolation=section.isolation,
        potentiating_sign=sign, vector_reads=bench.vector_reads, source_ohm=bench.source_ohm,
        series_ohm=bench.series_ohm, compliance_path=bench.compliance_path, delivery="exactly_once",
        measures_while_pulsing=ohm == 0 and _knows_its_current(model), compiled_loops=ohm == 0 and _loops(chip),
        distinct_shapes=0 if ohm else sum(chip.shape),
    )  # fmt: skip
    readout = make_readout(config)
    emulator = Emulator(chip, capabilities, readout, bench.pulse_overhead_s, section.file)
    removed = section.baseline == "removed"
    span = device_span(model, chip.devices.noise_scale, removed, readout.noise, section.threshold_spread)
    return emulator, replace(span, origin=origin_words(section, model), card=str(section.curve or section.model))


def _loops(chip: Chip) -> bool:
    """Whether a compiled loop does all that its pulses do: it moves selected cells only, by one table for all cells.

    A rate model knows its threshold, below which the others feel nothing; `Emulator.loop` looks at the volts.
    """
    model = chip.model
    alone = model.rate is not None or half_select_words(model) == "not modelled"
    return alone and model.end != "refuse" and chip.devices.threshold.size == 1


def origin_words(section: ChipSection, model: DeviceModel) -> str:
    """What the conductances of this chip are: the card's as they stand, or what was done to them (bench rule 22)."""
    done = [f"K = {section.scale:g}"] if section.scale != 1 else []
    done += ["baseline removed"] if section.baseline == "removed" else []
    if section.offset_s is not None:
        done.append("offsets given")
    elif section.offsets != "none":
        done.append("offsets invented")
    done += ["depression mirrored, assumed"] if model.card.assumed_mirror else []
    how = f"{'latent' if model.levels_s is None else 'literal'} replay" if model.card.curve else "an equation"
    return f"{model.name}, {how}, " + (f"scaled: {', '.join(done)}" if section.scale != 1 else
                                                 ", ".join(done) or _unchanged(model))  # fmt: skip


def _unchanged(model: DeviceModel) -> str:
    if model.card.simulated:
        return "as simulated by another emulated chip"
    return "as measured" if model.card.curve else "as its card declares"


@lru_cache(maxsize=64)
def device_span(
    model: DeviceModel, scale: float, remove_baseline: bool, noisy: bool, threshold_sigma: float = 0.0
) -> DeviceSpan:
    """What is declared of the devices: the card's range, step and mean curves, scaled as the bench file says.

    Nothing drawn for a particular chip enters: its offsets and spreads are for the protocol to find out by reading.
    """
    ends = (
        (0.0, 1.0) if model.levels_s is None else _unit(model, np.array([model.levels_s.min(), model.levels_s.max()]))
    )
    base = scale * (model.g_min_s - (model.baseline_s if remove_baseline else 0.0))
    gain = scale * (1.0 if model.levels_s is not None else model.g_max_s - model.g_min_s)
    scaled = {s: tuple((base + gain * _unit(model, _curve(model, s))).tolist()) for s in (1, -1)}
    stated = _stated(model)
    return DeviceSpan(
        g_min_s=base + gain * float(ends[0]),
        g_max_s=base + gain * float(ends[1]),
        g_step_s=_mid_step(scaled[1]),
        read_sigma_s=model.read_sigma_s * scale if noisy else 0.0,
        read_sigma_relative=model.read_sigma_relative if noisy else 0.0,
        depresses=bool(scaled[-1]),
        basis="declared" if stated and not model.card.assumed_mirror else "assumed",
        potentiation_s=scaled[1],
        depression_s=scaled[-1],
        pulse=_nominal(model, 1),
        read_voltage_v=model.card.read.voltage_v,
        half_select=half_select_words(model),
        depress_pulse=_own_depressing(model) if scaled[-1] else None,
        threshold_v=nan if model.rate is None else model.rate.up.threshold_v,
        threshold_depress_v=nan if model.rate is None else model.rate.down.threshold_v,
        threshold_sigma=threshold_sigma,
        integrates=model.rate is not None,
    )


def _unit(model: DeviceModel, curve_s: FloatArray) -> FloatArray:
    span = 1.0 if model.levels_s is not None else model.g_max_s - model.g_min_s
    unit: FloatArray = (curve_s - model.g_min_s) / span
    return unit


def _nominal(model: DeviceModel, sign: int) -> Pulse | None:
    """The pulse that the card was measured with or made for; None where it has none of that sign.

    A curve whose file does not state its pulse answers any (docs/devices.md); `UNSTATED` then stands for it.
    """
    card = model.card
    known = [p for p in (*card.curve, *card.pulse) if p.sign == sign or card.assumed_mirror]
    if not known:
        return None
    best = next((p for p in known if p.amplitude_v is not None and p.width_s is not None), known[0])
    return Pulse(abs(best.amplitude_v or UNSTATED.amplitude_v), best.width_s or UNSTATED.width_s)


def _own_depressing(model: DeviceModel) -> Pulse | None:
    """The depressing pulse where it is another one than the potentiating; None where one pulse serves both."""
    down = _nominal(model, -1)
    return None if down == _nominal(model, 1) else down


def _stated(model: DeviceModel) -> bool:
    card = model.card
    return any(p.amplitude_v is not None and p.width_s is not None for p in (*card.curve, *card.pulse))


def _curve(model: DeviceModel, sign: int) -> FloatArray:
    pulse = _nominal(model, sign)
    try:
        return np.zeros(0) if pulse is None else mean_curve(model, sign, pulse, CURVE_PULSES)
    except Refused:
        return np.zeros(0)


def _mid_step(curve_s: tuple[float, ...]) -> float:
    """Step in mid-range: where the mean curve crosses the middle of what it spans."""
    if len(curve_s) < 2:
        return nan
    values = np.array(curve_s)
    middle = int(np.argmin(np.abs(values - (values.min() + values.max()) / 2)))
    steps = np.abs(np.diff(values))
    return float(steps[min(middle, len(steps) - 1)])


plugin = open_emulator
