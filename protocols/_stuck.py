"""Which cells do not answer to pulses, found before learning begins: they are not pulsed for ever (bench rule 18)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from neurobench.bench.crossbar import Reading
from neurobench.bench.steps import Note, Sense, Step
from neurobench.bench.stimulus import Bias, BoolArray, CellRead
from neurobench.learning.synapses import Pulses, fire, grid_of

SURE_SIGMA = 3.0
SMALL = 0.05  # a cell that moves by less than this share of the typical move is stuck, too: converters round


def find_stuck(mask: BoolArray, using: Pulses, bias: Bias, read: CellRead, pulses: int) -> Generator[Step, Any, Any]:
    """Cells of mask[rows, cols] that do not move in `pulses` up and as many down; they are noted as "retired".

    Moved means by 3 standard deviations of the difference of two reads, and by a twentieth of what is typical here.
    Where the typical cell does not clear twice the noise, nothing can be told of a single one and none is retired.
    """
    reading: Reading = yield Sense(read)
    sure_s = SURE_SIGMA * 2**0.5 * _sigma_s(reading, read)
    grids = [grid_of(read, reading)]
    for sign in (1, -1):
        yield from fire(np.where(mask, sign * pulses, 0).astype(np.int16), using, bias)
        grids.append(grid_of(read, (yield Sense(read))))
    moved_s = np.abs(np.diff(np.array(grids), axis=0)).max(axis=0)
    typical_s = float(np.median(moved_s[mask]))
    stuck = np.zeros(mask.shape, np.bool_)
    if typical_s > 2 * sure_s:
        stuck[mask] = moved_s[mask] <= max(sure_s, SMALL * typical_s)
    if stuck.any():
        yield Note("retired", {"index": 0, "cells": np.argwhere(stuck)})
    return stuck


def _sigma_s(reading: Reading, read: CellRead) -> float:
    """Standard deviation of one conductance; 0 where the instrument declares none."""
    sigma_s = reading.sigma_a / abs(read.voltage_v) / len(reading.currents_a) ** 0.5
    return sigma_s if sigma_s > 0 else 0.0
