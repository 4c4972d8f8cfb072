"""A simulated FPGA board with one emulated chip, as a bench file describes it.

    bench = open_simulation(load_bench("fpga-sim"), seed=7)
    port = serial.serial_for_url(bench.url, baudrate=115200, timeout=0.05)

The chip is made, kept and read as the emulator does it ([chip], [readout]): the converters of [readout] are the
board's, also where `ideal` takes away noise and offset. Pulses behind bench.source_ohm and bench.series_ohm are solved
in the circuit, each by itself.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from neurobench.bench.stimulus import CellRead, Direction, VectorRead
from neurobench.errors import ConfigError, OutsideHull
from neurobench.physics.chip import Chip, draw_devices
from neurobench.physics.library import load_model
from neurobench.physics.maker import make_chip, make_readout
from neurobench.physics.reading import Reader
from neurobench.physics.readout import Readout
from neurobench.physics.stress import Stress

from ..fpga.acquirer import Acquirer
from ..fpga.array import Array
from ..fpga.board import Board
from ..fpga.converters import Converters, Mismatch
from ..fpga.line import SerialLine
from ..fpga.protocol_fpgasim import SCHEME, forget, register
from ..fpga.speed import LEAST_TICKS_PER_BIT
from ..fpga.ticks import BoardClock, BoardTime
from ..fpga.wire import BACKWARD, FLOATS, FORWARD, SIMULATED, WAVEFORMS, Hardware

if TYPE_CHECKING:
    from pathlib import Path

    from neurobench.bench.config import BenchConfig, ReadoutSection
    from neurobench.physics.response import DeviceModel

FIRMWARE = (1, 0, 0)
SERIAL = 1
MIN_GAP_S, MIN_PERIOD_S = 1e-6, 1e-5
MOST_HARM = 8
MOST_DAC_BITS = 16  # a read level is 16 bits wide on the wire
OFF_S = 0.05  # in which a board that is switched off has ended its last pulse
DROP = 0.9  # of the nominal amplitude: what a device may well see where voltages differ from cell to cell
NUMBERS = count(1)


class SimulatedBoard:
    """One simulated bench. `url` opens in this process until `close`; `board`, `line` and `time` are for tests and
    servers."""

    def __init__(self, board: Board, line: SerialLine, time: BoardTime, array: Array, file: Path | None) -> None:
        self.board, self.line, self.time = board, line, time
        self.clock, self.chip_id = BoardClock(time), array.chip.chip_id
        self._array, self._file, self._closed = array, file, False
        self.url = f"{SCHEME}board{next(NUMBERS)}"
        time.keep = self._keep
        register(self.url, line)

    def harm(self) -> list[str]:
        """Cells that were destroyed: the first of many."""
        with self.time.lock:
            found = [
                f"cell {one.cell} is a short since {one.volts:.3g} V for {one.seconds:.3g} s ({one.why})"
                for one in self.board.damage
            ]
        return [*found[:MOST_HARM], *([f"and {len(found) - MOST_HARM} times more"] if len(found) > MOST_HARM else [])]

    def close(self) -> None:
        """Bring the board to rest, put the chip back into its drawer, forget the URL."""
        forget(self.url)
        if self._closed:
            return
        with self.time.lock:
            self._closed = True
            self.board.rest()
            if self.board.firing:
                self.time.run_for(OFF_S)
            self._array.age(self.time.now_s())
            self._array.unsaved = True

    def _keep(self) -> None:
        """The chip is on the disk before anybody hears what was done to it."""
        if self._array.unsaved and self._file is not None:
            self._array.age(self.time.now_s())
            self._array.chip.save(self._file)
        self._array.unsaved = False


def open_simulation(config: BenchConfig, seed: int, *, served: bool = False) -> SimulatedBoard:
    """Make the bench that `config` describes; `seed` makes the chip where [chip] names none. served: to other programs,
    which wait by the computer's clock whatever the bench's is.

    Raises ConfigError where the converters are none of a board's, or the device cannot follow voltages that differ from
    cell to cell.
    """
    section, simulation = config.chip, config.board.simulation
    model = load_model(section.curve or section.model, section.replay, assume_mirror=section.assumed_mirror)
    ohm = config.bench.source_ohm + config.bench.series_ohm
    _check_follows(model, config, ohm)
    readout = _readout(config)
    hardware = _hardware(config, readout, ohm)
    chip = make_chip(config, model, seed)
    spreads = (
        simulation.pulse_gain_spread, simulation.read_gain_spread, simulation.adc_gain_spread, simulation.adc_offset_a
    )  # fmt: skip
    mismatch = Mismatch.drawn(chip.seed, sum(chip.shape), spreads)
    time = BoardTime(simulation.clock_hz, wall=simulation.clock == "wall")
    if time.wall or served:
        _rehearse(model, readout)
    sign = section.potentiating_sign or model.card.potentiating_sign
    array = Array(chip, hardware, mismatch, ohm=ohm, potentiating_sign=sign)
    converters = Converters(
        chip, hardware, readout, mismatch, ohm=ohm, tau_s=simulation.settle_tau_s, reading_v=array.reading_v
    )
    board = Board(time, hardware, array, Acquirer(time, array, converters, hardware.settle))
    return SimulatedBoard(board, SerialLine(time, board, simulation, hardware.rx_bytes), time, array, section.file)


def _rehearse(model: DeviceModel, readout: Readout) -> None:
    """Pulse and read a spare device, so that the kernels are compiled and loaded: that takes seconds on a new computer
    and tenths of one on any, in which the board would seem dead to whoever waits by the computer's clock."""
    spare = Chip(model, draw_devices(model, (1, 1), 0), 0)
    stress, reader, known = Stress(spare, 1), Reader(spare, readout), [*model.card.curve, *model.card.pulse]
    for pulse in known[:1]:
        volts, seconds = pulse.amplitude_v or 1.0, pulse.width_s or 1e-6
        stress.expose(np.array([[volts]]), seconds)
        stress.expose_cells([(volts, np.zeros(1, np.int32))], abs(volts), seconds)
    reader.sense(CellRead(np.ones((1, 1), np.bool_), 1e-3, both_polarities=True))
    reader.sense(VectorRead(np.full((1, 1), 1e-3)))


def _readout(config: BenchConfig) -> Readout:
    """The converters of [readout]. `ideal` takes noise and offset away; a board without converters reads nothing."""
    said = config.readout
    missing = [name for name in ("adc_bits", "adc_range_a", "dac_bits", "dac_range_v") if not getattr(said, name)]
    if missing:
        raise ConfigError(
            f"bench {config.bench.name}: [readout] {', '.join(missing)} = 0: a board has converters, also where "
            "ideal = true takes its noise away. Leave it out for the built-in board's"
        )
    if said.dac_bits > MOST_DAC_BITS:
        raise ConfigError(
            f"bench {config.bench.name}: [readout] dac_bits = {said.dac_bits}: a board's read levels have at most "
            f"{MOST_DAC_BITS} bits"
        )
    made = make_readout(config)
    return _with_converters(made, said) if said.ideal else made


def _with_converters(made: Readout, said: ReadoutSection) -> Readout:
    return replace(
        made, adc_bits=said.adc_bits, adc_range_a=said.adc_range_a, dac_bits=said.dac_bits, dac_range_v=said.dac_range_v
    )


def _hardware(config: BenchConfig, readout: Readout, ohm: float) -> Hardware:
    said, reads = config.board.simulation, config.bench.vector_reads
    hz = said.clock_hz
    flags = SIMULATED | WAVEFORMS | FLOATS
    flags |= FORWARD * (Direction.ROWS_TO_COLS in reads) | BACKWARD * (Direction.COLS_TO_ROWS in reads)
    pulse_max = 2 ** (said.pulse_bits - 1) - 1
    return Hardware(
        flags=flags, firmware=FIRMWARE, adc_bits=readout.adc_bits, serial=_serial(config.board.serial),
        rows=config.chip.rows, cols=config.chip.cols, clock_hz=hz,
        max_baud=min(said.max_baud, hz // LEAST_TICKS_PER_BIT),
        program_bytes=said.program_bytes, read_bytes=said.read_bytes, samples=said.samples, rx_bytes=said.rx_bytes,
        max_body=said.max_body, pulse_max=pulse_max, read_max=2 ** (readout.dac_bits - 1) - 1,
        min_gap=max(round(MIN_GAP_S * hz), 1), min_period=max(round(MIN_PERIOD_S * hz), 1),
        settle=round(said.settle_s * hz), pulse_step_v=said.pulse_range_v / pulse_max, read_step_v=readout.lsb_v,
        adc_step_a=readout.lsb_a, source_ohm=ohm,
    )  # fmt: skip


def _serial(said: str) -> int:
    """The number that the bench file asks for, so that the driver finds the board that it names."""
    for base in (10, 16):
        try:
            return int(said, base) & (2**64 - 1)
        except ValueError:
            continue
    return SERIAL


def _check_follows(model: DeviceModel, config: BenchConfig, ohm: float) -> None:
    """Where every cell sees another voltage, a device that is known at one amplitude has no answer."""
    spread = config.board.simulation.pulse_gain_spread
    if ohm and model.write_current_factor(DROP) is None:
        raise ConfigError(
            f"bench {config.bench.name}: bench.source_ohm + bench.series_ohm = {ohm:g} ohm, but device {model.name} "
            "has no I(V), so its voltage behind a resistance is not known; add [write_current] to its card, or set "
            "both to 0"
        )
    stated = next((p for p in (*model.card.curve, *model.card.pulse) if p.amplitude_v and p.width_s), None)
    if not (ohm or spread) or stated is None or not stated.amplitude_v or not stated.width_s:
        return
    try:
        model.response(stated.sign, DROP * abs(stated.amplitude_v), stated.width_s)
    except OutsideHull as error:
        why = f"bench.source_ohm + bench.series_ohm = {ohm:g} ohm" if ohm else (
            f"board.simulation.pulse_gain_spread = {spread:g}")  # fmt: skip
        raise ConfigError(
            f"bench {config.bench.name}: {why}: every cell sees another voltage, but device {model.name} is known at "
            f"single amplitudes only ({error}). Set it to 0, or choose another device ([chip] model)"
        ) from error


plugin = open_simulation
