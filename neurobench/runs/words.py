"""Steps in words, one line each, as a schedule and a console show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurobench.bench.stimulus import CellRead, Direction, Pulse, Read, Waveforms
from neurobench.runs.screen import si

VALUES = 3  # of a note, so many single values are told


def counted(n: int, noun: str) -> str:
    """A number with its noun: 1 cell, 12,300 pulses."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def of_pulses(pulses: int, cells: int, signs: tuple[int, int], pulse: Pulse, potentiating_sign: int) -> str:
    """12 pulses +1.50 V 1 ms on 3 cells. `signs`: whether it potentiates, whether it depresses."""
    up, down = signs
    mark = "±" if up and down else "+" if (1 if up else -1) * potentiating_sign > 0 else "−"
    volts = f"{mark}{pulse.amplitude_v:.2f} V"
    return f"{counted(pulses, 'pulse')} {volts} {si(pulse.width_s, 's')} on {counted(cells, 'cell')}"


def of_waveforms(played: Waveforms) -> str:
    """waveforms of 80 ms, up to 0.75 V on 1 row and 1 column."""
    volts = max(float(np.abs(shape.v).max()) for shape in played.shapes)
    rows, cols = int((played.row_shape >= 0).sum()), int((played.col_shape >= 0).sum())
    on = f"{counted(rows, 'row')} and {counted(cols, 'column')}"
    return f"waveforms of {si(played.duration_s, 's')}, up to {volts:.2f} V on {on}"


def of_read(read: Read, flags: tuple[str, ...] = ()) -> str:
    """read 16 cells at 0.1 V; multiplied 6 vectors, up to 0.1 V on the rows."""
    told = f" ({', '.join(flags).replace('_', ' ')})" if flags else ""
    if isinstance(read, CellRead):
        times = f", {read.averages} averages" if read.averages > 1 else ""
        return f"read {counted(int(read.mask.sum()), 'cell')} at {read.voltage_v:g} V{times}{told}"
    lines = "rows" if read.direction is Direction.ROWS_TO_COLS else "columns"
    largest = f"{float(np.abs(read.volts).max()):g} V"
    return f"multiplied {counted(len(read.volts), 'vector')}, up to {largest} on the {lines}{told}"


def of_wait(seconds: float) -> str:
    """wait 5 s."""
    return f"wait {si(seconds, 's')}"


def of_loop(ticks: int, spikes: int, pulses: int) -> str:
    """loop 1000 ticks, 534 spikes, 12,300 pulses."""
    return f"loop {ticks} ticks, {counted(spikes, 'spike')}, {counted(pulses, 'pulse')}"


def of_note(name: str, value: Any) -> str:
    """note epoch 12: error 3, accuracy 0.9."""
    said = dict(value) if isinstance(value, Mapping) else {}
    index = f" {said.pop('index')}" if isinstance(said.get("index"), int) else ""
    if name == "spikes" and "tick" in said:
        told = f"{said.get('layer')}, {counted(int(np.size(said['tick'])), 'spike')}"
    else:
        told = ", ".join(_pairs(said)) if said else _single(value)
    return f"note {name}{index}" + (f": {told}" if told else "")


def _pairs(said: Mapping[str, Any]) -> list[str]:
    """The first single values by their names."""
    found = [(name, _single(value)) for name, value in said.items()]
    return [f"{name} {word}" for name, word in found if word][:VALUES]


def _single(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray):
        return f"{' x '.join(map(str, value.shape))} values" if value.ndim else str(value)
    return f"{value}"[:60] if isinstance(value, int | str | np.integer) else ""
