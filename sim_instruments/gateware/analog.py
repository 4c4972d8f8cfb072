"""What hangs on the pins of the gateware, for simulation: switches, converters, and a crossbar of plain conductances.

    analog = Analog(hardware, conductance_s)
    simulator.add_process(analog.process(pins, ticks))
    analog.pulses, analog.conversions, analog.faults

It decodes the chains as chains.py lays them out, knows the level of every line while `gate` is on, and says in plain
words what no board may do. The cells are ohmic and do not change: this is a witness of the pins, not a chip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from amaranth.hdl import Value
from numpy.typing import NDArray

from .hardware import Hardware

GROUND, LEVEL_A, LEVEL_B, AMMETER = range(4)
BUSES = 4
_WORD = 16


class PinLevels(NamedTuple):
    """The outputs of the FPGA at one instant, as PinsSignature names them."""

    gate: int = 0
    reading: int = 0
    float_idle: int = 0
    switch_clk: int = 0
    switch_data: int = 0
    switch_latch: int = 0
    dac_clk: int = 0
    dac_data: int = 0
    dac_sync: int = 0
    adc_convert: int = 0
    adc_clk: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a pulse on which no level changes; `levels` of all lines in pulse codes, word lines first."""

    ticks: int
    settings: tuple[int, ...]
    levels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pulse:
    """The gate was on from tick `start`; a pulse of a program has one segment, a waveform one for each sample."""

    start: int
    segments: tuple[Segment, ...]

    @property
    def ticks(self) -> int:
        """How long the gate was on."""
        return sum(segment.ticks for segment in self.segments)

    @property
    def levels(self) -> tuple[int, ...]:
        """Of all lines at its begin, in pulse codes."""
        return self.segments[0].levels


@dataclass(frozen=True, slots=True)
class Conversion:
    """One conversion of all lines: its ticks, how long the gate was on before it, and what the converters gave."""

    start: int
    ticks: int
    settled: int
    settings: tuple[int, ...]
    levels: tuple[int, ...]
    codes: tuple[int, ...]


class Analog:
    """The board around the FPGA. `conductance_s`: rows x cols, in siemens; without it nothing conducts."""

    def __init__(self, hardware: Hardware, conductance_s: NDArray[np.float64] | None = None) -> None:
        shape = hardware.rows, hardware.cols
        lines = sum(shape)
        self.pulses: list[Pulse] = []
        self.conversions: list[Conversion] = []
        self.faults: list[str] = []
        self._hardware = hardware
        self.conductance_s = np.zeros(shape) if conductance_s is None else np.asarray(conductance_s, np.float64)
        self._switch_chain = deque([0] * (2 * lines), 2 * lines)
        self._dac_chain = deque([0] * (_WORD * (lines + BUSES)), _WORD * (lines + BUSES))
        self._adc_chain: deque[int] = deque()
        self._settings: tuple[int, ...] = (GROUND,) * lines
        self._words: tuple[int, ...] = (0,) * (lines + BUSES)
        self._pins = PinLevels()
        self._on_since = self._segment_since = self._convert_since = 0
        self._calm_from = 0  # the first tick at which the gate may rise
        self._segments: list[Segment] = []

    def process(self, pins: Any, ticks: Value) -> Callable[[Any], Coroutine[Any, Any, None]]:
        """For `add_process` of Amaranth's simulator: follows `pins`, drives `adc_data`; `ticks` counts the clock."""
        outputs = [getattr(pins, name) for name in PinLevels._fields]

        async def follow(ctx: Any) -> None:
            async for found in ctx.changed(*outputs).sample(ticks):
                *levels, tick = found
                ctx.set(pins.adc_data, self.change(tick, PinLevels(*levels)))

        return follow

    @property
    def gate(self) -> bool:
        """Whether the lines are connected to anything but ground."""
        return bool(self._pins.gate)

    @property
    def settings(self) -> tuple[int, ...]:
        """What the switches of all lines took over last, word lines first."""
        return self._settings

    @property
    def words(self) -> tuple[int, ...]:
        """What the level converters took over last: row A, row B, column A, column B, then one word a line."""
        return self._words

    @property
    def levels(self) -> tuple[int, ...]:
        """Of all lines now: pulse codes, or read codes while `reading`; 0 for ground and for an ammeter."""
        if not self._pins.gate:
            return (0,) * len(self._settings)
        return tuple(self._level(line, setting) for line, setting in enumerate(self._settings))

    def _level(self, line: int, setting: int) -> int:
        if setting in (GROUND, AMMETER):
            return 0
        if self._pins.reading and setting == LEVEL_A:
            return self._words[BUSES + line]
        bus = 2 * (line >= self._hardware.rows) + (setting == LEVEL_B)
        return self._words[bus]

    def change(self, tick: int, now: PinLevels) -> int:
        """The pins changed at `tick`. The level of `adc_data` from here on."""
        before = self._pins
        self._shift(before, now)
        if now.gate < before.gate:
            self._gate_off(tick)
        self._take_over(tick, before, now)
        self._pins = now
        if now.gate > before.gate:
            self._on_since = self._segment_since = tick
            if tick < self._calm_from:
                self._fault(tick, "the gate rose before switches and levels had settled")
        elif now.gate and now.reading != before.reading:
            self._fault(tick, "`reading` changed while the gate was on")
        self._convert(tick, before, now)
        return self._adc_chain[0] if self._adc_chain else 0

    def _shift(self, before: PinLevels, now: PinLevels) -> None:
        if now.switch_clk > before.switch_clk:
            self._switch_chain.append(now.switch_data)
        if now.dac_clk > before.dac_clk:
            self._dac_chain.append(now.dac_data)
        if now.adc_clk < before.adc_clk and self._adc_chain:
            self._adc_chain.popleft()

    def _take_over(self, tick: int, before: PinLevels, now: PinLevels) -> None:
        if now.switch_latch > before.switch_latch:
            if now.gate:
                self._fault(tick, "switches changed while the gate was on")
            self._calm_from = max(self._calm_from, tick + self._hardware.min_gap)
            bits = list(self._switch_chain)
            self._settings = tuple(low + 2 * high for low, high in zip(bits[::2], bits[1::2], strict=True))
        if now.dac_sync < before.dac_sync:
            if now.gate and before.gate:
                self._next_segment(tick)
            self._calm_from = max(self._calm_from, tick + self._hardware.settle)
            self._words = _dac_words(self._dac_chain)

    def _next_segment(self, tick: int) -> None:
        """Closes the stretch whose levels end at `tick`."""
        if self._pins.reading:
            self._fault(tick, "read levels changed while the gate was on")
        if tick > self._segment_since:
            self._segments.append(Segment(tick - self._segment_since, self._settings, self.levels))
        self._segment_since = tick

    def _gate_off(self, tick: int) -> None:
        if self._pins.reading:
            return
        if AMMETER in self._settings:
            self._fault(tick, "a pulse on an ammeter")
        self._next_segment(tick)
        self.pulses.append(Pulse(self._on_since, tuple(self._segments)))
        self._segments.clear()

    def _convert(self, tick: int, before: PinLevels, now: PinLevels) -> None:
        if now.adc_convert > before.adc_convert:
            self._convert_since = tick
            if not (now.gate and now.reading):
                self._fault(tick, "a conversion without a read")
            if tick - self._on_since < self._hardware.settle:
                self._fault(tick, "a conversion before the levels had settled")
        if now.adc_convert < before.adc_convert and before.gate:
            self._converted(tick, before)

    def _converted(self, tick: int, held: PinLevels) -> None:
        """A conversion ends; it saw the lines as they were until now, even if the gate falls with it."""
        ticks = tick - self._convert_since
        now, self._pins = self._pins, held
        levels, codes = self.levels, self._codes()
        self._pins = now
        if ticks >= self._hardware.convert:  # a shorter one was cut off, and its converters give nothing
            settled = self._convert_since - self._on_since
            self.conversions.append(Conversion(self._convert_since, ticks, settled, self._settings, levels, codes))
        self._adc_chain = deque(_adc_bits(codes, self._hardware.adc_bits))

    def _codes(self) -> tuple[int, ...]:
        """A converter without an ammeter may give anything: here the lowest code."""
        full = 2 ** (self._hardware.adc_bits - 1) - 1
        codes = np.clip(np.rint(self._currents_a() / self._hardware.adc_step_a), -full, full)
        codes[np.array(self._settings) != AMMETER] = -full - 1
        return tuple(int(code) for code in codes)

    def _currents_a(self) -> NDArray[np.float64]:
        """Into every line; floating lines are solved."""
        rows = self._hardware.rows
        volts = np.array(self.levels) * self._hardware.read_step_v
        if self._pins.float_idle:
            volts = _with_floating(self.conductance_s, volts, np.array(self._settings) == GROUND)
        across = volts[:rows, None] - volts[None, rows:]
        return np.concatenate([-(self.conductance_s * across).sum(1), (self.conductance_s * across).sum(0)])

    def _fault(self, tick: int, what: str) -> None:
        self.faults.append(f"tick {tick}: {what}")


def _with_floating(
    conductance_s: NDArray[np.float64], volts: NDArray[np.float64], floating: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Voltages of all lines, those of `floating` ones such that no current flows into them."""
    rows, cols = conductance_s.shape
    between = np.block([[np.zeros((rows, rows)), conductance_s], [conductance_s.T, np.zeros((cols, cols))]])
    balance = np.diag(between.sum(1)) - between
    known = ~floating
    solved = volts.copy()
    right = -balance[np.ix_(floating, known)] @ volts[known]
    solved[floating] = np.linalg.lstsq(balance[np.ix_(floating, floating)], right, rcond=None)[0]
    return solved


def _dac_words(chain: Sequence[int]) -> tuple[int, ...]:
    """Buses first, though they are shifted last: see chains.py."""
    bits = np.array(chain, np.int64).reshape(-1, _WORD)
    unsigned = bits @ (1 << np.arange(_WORD - 1, -1, -1))
    words = [int(word) - (int(word) >> (_WORD - 1) << _WORD) for word in unsigned]
    return (*words[-BUSES:], *words[:-BUSES])


def _adc_bits(codes: Sequence[int], width: int) -> list[int]:
    """As the converters send them: line after line, most significant bit first, two's complement."""
    return [code >> bit & 1 for code in codes for bit in range(width - 1, -1, -1)]
