"""How often waveforms pulse each cell, by the sign of the voltage: what the chip's books count, taken apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobench.bench.limits import _at, _begins, _line_classes, _when
from neurobench.bench.stimulus import Waveforms
from neurobench.compiling import compiled


def rises(played: Waveforms, threshold_v: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often V_row - V_col of each cell [rows, cols] rises above `threshold_v`, and how often it falls below minus
    that. Their sum is `limits.exposure(...).pulses`.
    """
    rows, row_of = _line_classes(played.row_shape, played.row_start_s)
    cols, col_of = _line_classes(played.col_shape, played.col_start_s)
    bounds = np.cumsum([0] + [len(shape.t_s) for shape in played.shapes])
    t_s = np.concatenate([shape.t_s for shape in played.shapes])
    v = np.concatenate([shape.v for shape in played.shapes])
    above, below = _count(t_s, v, bounds, rows, cols, threshold_v)
    cells = np.ix_(row_of, col_of)
    return above[cells], below[cells]


@compiled
def _count(t_s: Any, v: Any, bounds: Any, rows: Any, cols: Any, threshold_v: float) -> Any:  # pragma: no cover
    above = np.zeros((len(rows), len(cols)), np.int64)
    below = np.zeros((len(rows), len(cols)), np.int64)
    for r in range(len(rows)):
        for c in range(len(cols)):
            above[r, c], below[r, c] = _count_pair(t_s, v, bounds, rows[r], cols[c], threshold_v)
    return above, below


@compiled
def _count_pair(t_s: Any, v: Any, bounds: Any, row: Any, col: Any, threshold_v: float) -> Any:  # pragma: no cover
    """As `limits._expose_pair` walks the breakpoints of two lines, with a number for either sign."""
    ups, downs, above, below = 0, 0, False, False
    i0 = i1 = j0 = j1 = 0
    if row[0] >= 0:
        i0, i1 = bounds[int(row[0])], bounds[int(row[0]) + 1]
    if col[0] >= 0:
        j0, j1 = bounds[int(col[0])], bounds[int(col[0]) + 1]
    i, j = i0, j0
    while i < i1 or j < j1:
        now = min(_when(t_s[i] + row[1]) if i < i1 else np.inf, _when(t_s[j] + col[1]) if j < j1 else np.inf)
        i, row_before, row_after, row_least, row_most = _at(t_s, v, i0, i, i1, row[1], now)
        j, col_before, col_after, col_least, col_most = _at(t_s, v, j0, j, j1, col[1], now)
        before, after = row_before - col_before, row_after - col_after
        least, most = row_least - col_most, row_most - col_least
        ups += _begins(above, before, after, least, most, threshold_v)
        downs += _begins(below, -before, -after, -most, -least, threshold_v)
        above, below = after > threshold_v, after < -threshold_v
    return ups, downs
