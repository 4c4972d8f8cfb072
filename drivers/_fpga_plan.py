"""What a board can do with a chip, and volts and seconds as its codes and ticks. No board is spoken to here."""

from __future__ import annotations

from math import ceil, floor, inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurobench.bench.crossbar import Capabilities
from neurobench.bench.frames import (
    ACQUIRE,
    FETCH_OVERHEAD,
    BoardIdentity,
    Codes,
    LimitRegisters,
    PulseTiming,
    ReadFrame,
    cell_read,
    pulse_programs,
    vector_read,
    waveform_program,
)
from neurobench.bench.stimulus import (
    Bias,
    CellRead,
    Direction,
    FloatArray,
    LineState,
    Play,
    Region,
    Shots,
    VectorRead,
    Waveforms,
)
from neurobench.errors import CapabilityMissing, ConfigError

from .instruments._sampling import LEAST_SAMPLES, refuse_blunt

if TYPE_CHECKING:
    from neurobench.bench.config import BenchConfig
    from neurobench.bench.limits import Limits

WITHIN = 0.01  # how far a width may be from whole ticks, relative
EXACT = 1e-6  # of a code: what floats make of 2 V / 0.25 mV
CHANNELS = 2  # waveforms of one side of the array at once
MOST_TICKS = 2**32 - 1
MOST_AVERAGES = 65535
READ_HEAD = 19
WAVE_HEAD = 5
KEEP_ALIVE = 4  # requests in one watchdog time, at least


class Block(NamedTuple):
    """One acquisition of a read: its program, samples as [inputs, polarities, outputs], bytes a sample, averages."""

    program: bytes
    samples: int
    width: int
    averages: int
    lasts_s: float


class Plan:
    """One chip on one board: numbers, limits, programs."""

    def __init__(self, identity: BoardIdentity, config: BenchConfig) -> None:
        self.identity, self._config = identity, config
        self.read_most = identity.read_max  # largest code of a read; less under limits
        self.shape = (config.chip.rows, config.chip.cols)
        self._passive = config.chip.isolation == "passive"
        board = (identity.rows, identity.cols)
        if self.shape[0] > board[0] or self.shape[1] > board[1]:
            raise ConfigError(f"[chip] rows, cols = {self.shape}: the board has {board} lines")
        if config.chip.isolation == "1t1r":
            raise ConfigError(
                "[chip] isolation = '1t1r': this board has no gate lines; it drives passive arrays and cells"
            )

    def capabilities(self) -> Capabilities:
        """What this board can do with this chip."""
        has, bench, board = self.identity, self._config.bench, self._config.board
        directions = {Direction.ROWS_TO_COLS: has.forward, Direction.COLS_TO_ROWS: has.backward}
        isolated = frozenset({Bias.ISOLATED}) if self._config.chip.isolation == "isolated" else frozenset()
        biases = bench.biases & ({Bias.HALF, Bias.THIRD, Bias.GROUNDED} | isolated)
        reach_v = has.pulse_max * has.pulse_step_v
        longest_s = (min(self.ticks(board.watchdog_s), MOST_TICKS) - 1) // 2 / has.clock_hz
        source_ohm = bench.source_ohm if "source_ohm" in bench.model_fields_set else has.source_ohm
        return Capabilities(
            shape=self.shape, parallelism=bench.parallelism, biases=biases, isolation=self._config.chip.isolation,
            potentiating_sign=self._config.chip.potentiating_sign or 1,
            vector_reads=frozenset(d for d in bench.vector_reads if directions[d]),
            max_read_v=has.read_max * has.read_step_v, max_pulse_v=reach_v * (2 if biases == {Bias.HALF} else 1),
            min_width_s=1 / has.clock_hz, max_width_s=longest_s,
            distinct_shapes=CHANNELS if has.waveforms else 0, compliance_path=bench.compliance_path,
            source_ohm=source_ohm, series_ohm=bench.series_ohm, delivery="exactly_once",
        )  # fmt: skip

    # -- numbers -------------------------------------------------------------------------------------------------

    def ticks(self, seconds: float) -> int:
        """The nearest whole number of ticks."""
        return round(seconds * self.identity.clock_hz)

    def pulse_code(self, volts: float) -> int:
        """The code of the largest level whose magnitude is not above |volts|."""
        code = floor(abs(volts) / self.identity.pulse_step_v + EXACT)
        return code if volts >= 0 else -code

    def registers(self, limits: Limits) -> LimitRegisters:
        """The limits as the board checks them.

        A third of a level is no whole code, so V/3 leaves one victim a code above the others: it has one code more.
        A width is a whole number of ticks: max_width is less than one tick above the limit.
        """
        has, board = self.identity, self._config.board
        cell = self._magnitude(limits.max_cell_v)
        victim = min(self._magnitude(limits.victim_v) + 1, cell) if self._passive else cell
        width_s = min(limits.max_width_s, board.watchdog_s / 2)
        return LimitRegisters(
            max_line=min(self._magnitude(limits.line_v), has.pulse_max), max_cell=cell, max_victim=victim,
            max_read=min(floor(limits.max_read_v / has.read_step_v + EXACT), has.read_max),
            min_width=min(max(floor(limits.min_width_s * has.clock_hz + EXACT), 1), MOST_TICKS),
            max_width=min(ceil(width_s * has.clock_hz - EXACT), MOST_TICKS),
            watchdog=min(self.ticks(board.watchdog_s), MOST_TICKS),
        )  # fmt: skip

    def _magnitude(self, volts: float) -> int:
        return min(abs(self.pulse_code(volts)), 65535)

    # -- pulses --------------------------------------------------------------------------------------------------

    def programs(self, shots: Shots) -> list[tuple[int, bytes]]:
        """Shots as programs that fit into the board, each with its number of shots."""
        pulse, has = shots.pulse, self.identity
        if pulse.rise_s or pulse.fall_s:
            raise CapabilityMissing(
                f"rise_s = {pulse.rise_s:g}, fall_s = {pulse.fall_s:g}: the edges of this board's pulses are those of "
                "its switches; set them to 0, or play a waveform"
            )
        width = self.ticks(pulse.width_s)
        if not width or abs(width / has.clock_hz - pulse.width_s) > WITHIN * pulse.width_s:
            raise CapabilityMissing(
                f"a width of {pulse.width_s:g} s is no whole number of ticks of 1/{has.clock_hz} s within {WITHIN:.0%}"
            )
        codes = tuple(self.pulse_code(v) for v in shots.levels(1))
        self._refuse_beyond(max(map(abs, codes)))
        gap = max(has.min_gap, ceil(self._config.board.gap_s * has.clock_hz - EXACT))
        timing = PulseTiming(width, gap, (codes[0], codes[1], codes[2], codes[3]))
        on_board = Shots((has.rows, has.cols), pulse, shots.bias, shots.potentiating_sign, shots.axis, shots.line,
                         shots.indptr, shots.cross, shots.sign, shots.repeat)  # fmt: skip
        return pulse_programs(on_board, timing, has.program_bytes)

    def _refuse_beyond(self, code: int) -> None:
        """A code that the converter does not have would be another voltage, of another sign even."""
        has = self.identity
        if code > has.pulse_max:
            raise CapabilityMissing(
                f"{code * has.pulse_step_v:g} V on a line; the board reaches {has.pulse_max * has.pulse_step_v:g} V"
            )

    def pulses_s(self, shots: Shots, first: int, last: int) -> float:
        """About how long the shots first .. last - 1 take."""
        gap_s = max(self.identity.min_gap / self.identity.clock_hz, self._config.board.gap_s)
        return float(shots.repeat[first:last].sum()) * (shots.pulse.duration_s + gap_s)

    # -- waveforms -----------------------------------------------------------------------------------------------

    def play(self, play: Play) -> bytes:
        """Waveforms as samples, each the volts in the middle of its time; together never longer than the original.

        Raises CapabilityMissing for more than two different ones on one side of the array, and for what is shorter than
        the shortest sample.
        """
        waves, has = play.waveforms, self.identity
        period, n = self._sampling(waves.duration_s)
        at_s: FloatArray = (np.arange(n, dtype=np.float64) + 0.5) * (period / has.clock_hz)
        _refuse_blurred(waves, period / has.clock_hz)
        rows, row_v = _channels(waves, waves.row_shape, waves.row_start_s, at_s, "word")
        cols, col_v = _channels(waves, waves.col_shape, waves.col_start_s, at_s, "bit")
        samples = np.concatenate([row_v, col_v], axis=1)
        whole = np.trunc(samples / has.pulse_step_v + np.copysign(EXACT, samples))
        self._refuse_beyond(int(np.abs(whole).max()))
        codes = whole.astype(np.int16)
        pad_rows, pad_cols = has.rows - len(rows), has.cols - len(cols)
        return waveform_program(period, [*rows, *[0] * pad_rows], [*cols, *[0] * pad_cols], codes)

    def _sampling(self, duration_s: float) -> tuple[int, int]:
        """Ticks of one sample, and how many samples: as many as memory and the board's shortest sample allow."""
        has = self.identity
        most = (has.program_bytes - WAVE_HEAD - ceil(has.rows / 4) - ceil(has.cols / 4)) // 8
        ticks = ceil(duration_s * has.clock_hz - EXACT)
        n = min(ticks // max(has.min_period, 1), most)
        if n < 1:
            raise CapabilityMissing(
                f"waveforms of {duration_s:g} s; a sample of this board takes {has.min_period / has.clock_hz:g} s"
            )
        return ticks // n, n

    # -- reads ---------------------------------------------------------------------------------------------------

    def read_code(self, volts: FloatArray) -> Codes:
        """The nearest codes; what the converter does not reach was refused before.

        Rounding does not carry a voltage over the limit in force; one that is over it goes as it is, to be refused.
        """
        has = self.identity
        codes = np.rint(volts / has.read_step_v)
        rounded_over = (np.abs(codes) > self.read_most) & (np.abs(volts) < (self.read_most + 1) * has.read_step_v)
        codes = np.where(rounded_over, np.copysign(self.read_most, codes), codes)
        return np.clip(codes, -has.read_max, has.read_max).astype(np.int16)

    def frame(self, read: CellRead | VectorRead, region: tuple[int, int, int, int], averages: int) -> ReadFrame:
        """What the read programs of a read have in common."""
        bits = self.identity.adc_bits + (averages - 1).bit_length()
        integration = max(self.ticks(read.integration_s), 1)
        if integration > MOST_TICKS:
            most_s = MOST_TICKS / self.identity.clock_hz
            raise CapabilityMissing(
                f"integration_s = {read.integration_s:g}; this board converts for {most_s:g} s at most"
            )
        return ReadFrame(max(2, ceil(bits / 8)), averages, integration, region, read.both_polarities)

    def averages(self, asked: int) -> list[int]:
        """Averages in parts whose sums fit into 32 bits."""
        most = min(1 << max(32 - self.identity.adc_bits, 0), MOST_AVERAGES)
        return [most] * (asked // most) + ([asked % most] if asked % most else [])

    @property
    def _program_bytes(self) -> int:
        """Bytes of the longest read program: the board must keep it, and a frame carry it."""
        return min(self.identity.read_bytes, self.identity.longest_payload - ACQUIRE.size)

    def cell_blocks(self, read: CellRead, averages: int) -> list[Block]:
        """A read of cells as acquisitions: as many word lines at once as memory allows, in order."""
        level = self.read_code(np.array([read.voltage_v]))
        rows, cols = np.flatnonzero(read.mask.any(axis=1)), np.flatnonzero(read.mask.any(axis=0))
        col0, n_cols = int(cols[0]), int(cols[-1] - cols[0]) + 1
        per_line = (1 + read.both_polarities) * read.mask.sum(axis=1)
        mask_rows = max(8 * (self._program_bytes - READ_HEAD) // n_cols, 1)
        blocks, first = [], int(rows[0])
        while first <= rows[-1]:
            sums = np.cumsum(per_line[first : int(rows[-1]) + 1])
            n = int(np.searchsorted(sums, self.identity.samples, side="right"))
            block_mask = read.mask[first : first + n, col0 : col0 + n_cols]
            if not block_mask.all():
                n = min(n, mask_rows)
            if not n:
                raise CapabilityMissing(
                    f"one word line has more samples than the board keeps ({self.identity.samples})"
                )
            blocks.append(self._cell_block(read, (first, n, col0, n_cols), int(level[0]), averages))
            first += n
        return [block for block in blocks if block.samples]

    def _cell_block(self, read: CellRead, region: tuple[int, int, int, int], level: int, averages: int) -> Block:
        row0, rows, col0, cols = region
        mask = read.mask[row0 : row0 + rows, col0 : col0 + cols]
        frame = self.frame(read, region, averages)
        lines = int(mask.any(axis=1).sum()) * (1 + read.both_polarities)
        samples = int(mask.sum()) * (1 + read.both_polarities)
        return Block(cell_read(frame, level, mask), samples, frame.width, averages, self._lasts_s(frame, lines))

    def vector_blocks(self, read: VectorRead, averages: int) -> list[Block]:
        """Products as acquisitions, as many vectors at once as memory allows."""
        has = self.identity
        region = read.region or Region(0, self.shape[0], 0, self.shape[1])
        backward = read.direction is Direction.COLS_TO_ROWS
        outputs = region.shape[0 if backward else 1]
        codes = self.read_code(read.volts)
        frame = self.frame(read, (region.row0, region.shape[0], region.col0, region.shape[1]), averages)
        polarities = 1 + read.both_polarities
        each = min((self._program_bytes - READ_HEAD) // (2 * codes.shape[1]), has.samples // (polarities * outputs))
        if each < 1:
            raise CapabilityMissing(f"a vector of {codes.shape[1]} volts or its currents do not fit into the board")
        floating = read.idle is LineState.FLOATING
        if floating and not has.floats:
            raise CapabilityMissing("this board cannot let idle lines float")
        blocks = []
        for first in range(0, len(codes), each):
            part = codes[first : first + each]
            program = vector_read(frame, part, backward, floating)
            lasts_s = self._lasts_s(frame, len(part) * polarities)
            blocks.append(Block(program, len(part) * polarities * outputs, frame.width, averages, lasts_s))
        return blocks

    def _lasts_s(self, frame: ReadFrame, lines: int) -> float:
        return lines * (self.identity.settle + frame.integration * frame.averages) / self.identity.clock_hz

    @property
    def alive_s(self) -> float:
        """How often the board wants to hear something, in seconds."""
        return self._config.board.watchdog_s / KEEP_ALIVE

    @property
    def fetched_bytes(self) -> int:
        """Bytes of samples in one reply."""
        return self.identity.max_body - FETCH_OVERHEAD

    @property
    def range_a(self) -> float:
        """Full scale of a current."""
        bits = self.identity.adc_bits
        return self.identity.adc_step_a * (2 ** (bits - 1) - 1) if bits else inf


def _channels(
    waves: Waveforms, shape_of: np.ndarray[tuple[int, ...], np.dtype[np.int32]], start_s: FloatArray, at_s: FloatArray,
    side: str,
) -> tuple[list[int], FloatArray]:  # fmt: skip
    """Channel of every line of one side (0: grounded), and the volts [n, 2] of its two channels."""
    kinds: list[tuple[int, float]] = []
    lines = []
    for shape, start in zip(shape_of.tolist(), start_s.tolist(), strict=True):
        kind = (shape, start)
        if shape >= 0 and kind not in kinds:
            kinds.append(kind)
        lines.append(1 + kinds.index(kind) if shape >= 0 else 0)
    if len(kinds) > CHANNELS:
        raise CapabilityMissing(
            f"{len(kinds)} different waveforms (shape and start) on the {side} lines; the board plays {CHANNELS} there"
        )
    volts = np.zeros((len(at_s), CHANNELS))
    for n, (shape, start) in enumerate(kinds):
        one = waves.shapes[shape]
        volts[:, n] = np.interp(at_s - start, one.t_s, one.v, left=0.0, right=0.0)
        refuse_blunt(one.v.tolist(), volts[:, n], float(at_s[0] * 2), "this board")
    return lines, volts


def _refuse_blurred(waves: Waveforms, sample_s: float) -> None:
    """A stretch between two jumps that samples would make much longer or shorter: a pulse of another width."""
    kinds = {*zip(waves.row_shape.tolist(), waves.row_start_s.tolist(), strict=True),
             *zip(waves.col_shape.tolist(), waves.col_start_s.tolist(), strict=True)}  # fmt: skip
    for shape, start_s in sorted(kinds):
        t_s = waves.shapes[shape].t_s
        jumps = (np.unique(t_s[1:][np.diff(t_s) == 0]) + start_s) / sample_s if shape >= 0 else np.zeros(0)
        exact = bool(np.allclose(jumps, np.rint(jumps), rtol=0, atol=1e-3))
        if not exact and len(jumps) > 1 and float(np.diff(jumps).min()) < LEAST_SAMPLES:
            raise CapabilityMissing(
                f"a stretch of {float(np.diff(jumps).min()) * sample_s:g} s in waveforms of {waves.duration_s:g} s: "
                f"this board plays samples of {sample_s:g} s here (make the waveforms shorter, or the stretch longer)"
            )
