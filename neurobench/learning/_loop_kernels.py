"""The compiled inner loop of `loops.LifStdp`. Its plain twin is the loop stepped by the host (`_loop_steps`).

The work of a tick grows with its events: a row that spikes costs its columns, a neuron that fires its rows. Only the
neurons and the traces are visited in every tick. Cells of one row lie side by side and are done as vectors;
conductances are worked out from the states where they are needed, so that a pulse writes a state and a count only.
Sums may be taken in any order; what happens to a cell is the same to the last bit however it is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

from neurobench.physics.kernels import DELTA, HEAD, SLOPE, LoopDevice, cell_s, piece_of, pulse_cell
from neurobench.physics.noise import bits, normal, operation, unit

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray

REFERENCE, BRIAN, BINDSNET = range(3)
WINDOW, STOCHASTIC, WIDTH = range(3)
_S32 = np.uint64(32)


class Constants(NamedTuple):
    """What the kernel needs of a `loops.Rule`: factors per tick, least traces that count, options as numbers."""

    leak: float
    pre_decay: float
    post_decay: float
    pre_least: float
    post_least: float
    theta_decay: float
    theta_step: float
    gain_per_a: float
    read_v: float
    a_plus: float
    a_minus: float
    refractory: float
    k0: int
    k1: int
    order: int
    update: int
    summed: bool
    post_only: bool
    inhibit: bool
    learn: bool


class State(NamedTuple):
    """Neurons and traces: membrane, theta, refractory [cols] (ticks still to wait), pre [rows], post [cols]."""

    membrane: FloatArray
    theta: FloatArray
    refractory: FloatArray
    pre: FloatArray
    post: FloatArray


class Pulsed(NamedTuple):
    """Pulses so far by sign, flat over the cells, and how many each cell may have (one entry: all the same)."""

    ups: Any
    downs: Any
    most: Any


class Lines(NamedTuple):
    """Cells of one line that a rule addresses: their places along it, and how strongly each."""

    at: Any
    strength: Any


@njit(cache=True)
def lif_stdp(
    ticks: int, first_tick: int, indptr: Any, rows_in: Any, begins: Any, c: Constants, device: LoopDevice, k0: int,
    k1: int, read0: int, sigma2: float, relative2: float, s: State, p: Pulsed, spikes: Any,
) -> int:  # pragma: no cover - compiled  # fmt: skip
    """All ticks; returns the number of spikes written to spikes[n, 2]."""
    rows, cols = device.shape
    current, variance, fires = np.empty(cols), np.empty(cols), np.zeros(cols, np.bool_)
    on_cols = Lines(np.empty(cols, np.int64), np.empty(cols))
    on_rows = Lines(np.empty(rows, np.int64), np.empty(rows))
    cells, done = np.empty(max(rows, cols), np.int64), 0
    for tick in range(ticks):
        if begins[tick]:
            _start_afresh(s)
        active = rows_in[indptr[tick] : indptr[tick + 1]]
        _columns(device, active, c.read_v, current)
        if sigma2 > 0 or relative2 > 0:
            _add_noise(device, active, c.read_v, sigma2, relative2, k0, k1, read0 + tick, variance, current)
        fired = _neurons(current, c, s, fires)
        _traces(c, s, active, fires)
        draw = 2 * (first_tick + tick)
        if c.learn and not c.post_only:
            n = _pre_meets(c, s.post, fires, on_cols)
            if n:
                for i in active:
                    _pulse_line(device, i * cols, 1, on_cols, n, -1, c, draw, p, cells)
        if fired and c.order != BINDSNET:
            _raise_post(c, s.post, fires)
        if c.learn and c.post_only and fired:
            _post_meets(device, c, s.pre, fires, False, on_rows, draw, p, cells)
        if c.learn and fired:
            _post_meets(device, c, s.pre, fires, True, on_rows, draw, p, cells)
        if fired:
            for j in range(cols):
                if fires[j]:
                    spikes[done, 0], spikes[done, 1] = tick, j
                    done += 1
    return done


@njit(cache=True)
def _start_afresh(s: State) -> None:  # pragma: no cover - compiled
    s.membrane[:] = 0.0
    s.refractory[:] = 0.0
    s.pre[:] = 0.0
    s.post[:] = 0.0


# ---------------------------------------------------------------------------------------------- reads and neurons


@njit(cache=True)
def _columns(d: LoopDevice, active: Any, read_v: float, current: Any) -> None:  # pragma: no cover - compiled
    """Currents of the columns while the active rows are at read_v."""
    cols, u = current.size, d.u
    current[:] = 0.0
    if d.base_s.size == 1 and d.gain_s.size == 1 and d.levels.size == 0:
        for i in active:
            for j in range(cols):
                current[j] += u[np.uint64(i * cols + j)]
        for j in range(cols):
            current[j] = read_v * (active.size * d.base_s[0] + d.gain_s[0] * current[j])
        return
    for i in active:
        for j in range(cols):
            current[j] += cell_s(d, i * cols + j)
    for j in range(cols):
        current[j] *= read_v


@njit(cache=True)
def _add_noise(
    d: LoopDevice, active: Any, read_v: float, sigma2: float, relative2: float, k0: int, k1: int, read: int,
    variance: Any, current: Any,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """One normal draw per column, exact for independent Gaussian devices; keyed like a vector read of its own."""
    a, b = operation(k0, k1, read)
    variance[:] = active.size * sigma2
    if relative2 > 0:
        for i in active:
            for j in range(current.size):
                g = cell_s(d, i * current.size + j)
                variance[j] += relative2 * g * g
    for j in range(current.size):
        current[j] += read_v * np.sqrt(variance[j]) * normal(bits(a, b, np.uint64(j)))


@njit(cache=True)
def _neurons(current: Any, c: Constants, s: State, fires: Any) -> bool:  # pragma: no cover - compiled
    """Charge the neurons, mark those that fire and reset them; True if any does."""
    m, theta, wait = s.membrane, s.theta, s.refractory
    any_, best, highest = False, 0, -np.inf
    for j in range(m.size):
        wait[j] = max(wait[j] - 1.0, 0.0)
        m[j] *= c.leak
        theta[j] *= c.theta_decay
        gained = c.gain_per_a * current[j] if wait[j] == 0 else 0.0
        if c.order != BRIAN:
            m[j] += gained
        fires[j] = wait[j] == 0 and m[j] >= 1.0 + theta[j]
        any_ |= fires[j]
        if wait[j] == 0 and m[j] - theta[j] > highest:
            best, highest = j, m[j] - theta[j]
        if c.order == BRIAN:
            m[j] += gained
    if any_ and c.inhibit:
        fires[:] = False
        fires[best] = True
        m[:] = 0.0
    if any_:
        for j in range(m.size):
            if fires[j]:
                m[j], wait[j] = 0.0, c.refractory
                theta[j] += c.theta_step
    return any_


# ---------------------------------------------------------------------------------------------- traces and pairs


@njit(cache=True)
def _traces(c: Constants, s: State, active: Any, fires: Any) -> None:  # pragma: no cover - compiled
    """Move the traces one tick on and raise those of the rows that spike (BindsNET: and of the neurons that fire)."""
    pre, post = s.pre, s.post
    for i in range(pre.size):
        pre[i] *= c.pre_decay
    for j in range(post.size):
        post[j] *= c.post_decay
    for i in active:
        pre[i] = pre[i] + 1.0 if c.summed else 1.0
    if c.order == BINDSNET:
        _raise_post(c, post, fires)


@njit(cache=True)
def _raise_post(c: Constants, post: Any, fires: Any) -> None:  # pragma: no cover - compiled
    for j in range(post.size):
        if fires[j]:
            post[j] = post[j] + 1.0 if c.summed else 1.0


@njit(cache=True)
def _pre_meets(c: Constants, post: Any, fires: Any, on: Lines) -> int:  # pragma: no cover - compiled
    """The neurons whose cells a row that spikes now depresses; in "reference" order none that fires just now."""
    n = 0
    for j in range(post.size):
        if post[j] >= c.post_least and post[j] > 0 and not (c.order == REFERENCE and fires[j]):
            on.at[n], on.strength[n] = j, min(c.a_minus * post[j], 1.0)
            n += 1
    return n


@njit(cache=True)
def _post_meets(
    device: LoopDevice, c: Constants, pre: Any, fires: Any, recent: bool, on: Lines, draw: int, p: Pulsed, cells: Any
) -> None:  # pragma: no cover - compiled
    """Potentiate the recent rows of the neurons that fire; or, `recent` False, depress all their others."""
    n = 0
    for i in range(pre.size):
        if (pre[i] >= c.pre_least and pre[i] > 0) == recent:
            on.at[n], on.strength[n] = i, min(c.a_plus * pre[i] if recent else c.a_minus, 1.0)
            n += 1
    cols = fires.size
    for j in range(cols):
        if fires[j]:
            _pulse_line(device, j, cols, on, n, 1 if recent else -1, c, draw, p, cells)


# ---------------------------------------------------------------------------------------------- pulses


@njit(cache=True)
def _pulse_line(
    device: LoopDevice, first: int, stride: int, on: Lines, n: int, sign: int, c: Constants, draw: int, p: Pulsed,
    cells: Any,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """Pulse the first n cells of `on` along one line, as the rule's update says."""
    if c.update == WIDTH:
        _widen_line(device, first, stride, on, n, sign, p)
        return
    picked = n
    if c.update == STOCHASTIC:
        picked = _pick(first, stride, on, n, sign, c, draw, cells)
    else:
        for q in range(n):
            cells[q] = first + on.at[q] * stride
    _pulse_cells(device, cells[:picked], sign, p)


@njit(cache=True)
def _pick(
    first: int, stride: int, on: Lines, n: int, sign: int, c: Constants, draw: int, cells: Any
) -> int:  # pragma: no cover - compiled
    """Choose each cell with its strength as probability, keyed by tick, sign and cell; how many were chosen."""
    a, b = operation(c.k0, c.k1, draw + (1 if sign > 0 else 0))
    picked = 0
    for q in range(n):
        at = first + on.at[np.uint64(q)] * stride
        cells[picked] = at
        picked += unit(bits(a, b, np.uint64(at))) < on.strength[np.uint64(q)]
    return picked


@njit(cache=True)
def _pulse_cells(device: LoopDevice, cells: Any, sign: int, p: Pulsed) -> None:  # pragma: no cover - compiled
    """One pulse on each of these cells (flat indices), unless a cell has had its most in this loop.

    The device is taken apart once: handed on pulse by pulse, its arrays cost more than the pulse.
    """
    up, down, most, had = p.ups, p.downs, p.most, p.ups if sign > 0 else p.downs
    table = device.up if sign > 0 else device.down
    u, step, pulses = device.u, device.step, device.pulses
    k0, k1, noisy = np.uint64(device.k0), np.uint64(device.k1), table.pieces[HEAD, 3] > 0
    selected_s, z, one = 0.0, 0.0, most.size == 1
    for c in cells:
        if up[c] + down[c] >= most[0 if one else c]:
            continue
        selected_s += cell_s(device, c)
        if noisy:
            z = normal(bits(k0, k1, (np.uint64(pulses[c]) << _S32) | np.uint64(c)))
        u[c] = pulse_cell(u[c], table, step[c], z, device.u_min, device.u_max)
        pulses[c] += np.uint32(1)
        had[c] += 1
    device.selected_s[0 if sign > 0 else 1] += selected_s


@njit(cache=True)
def _widen_line(
    device: LoopDevice, first: int, stride: int, on: Lines, n: int, sign: int, p: Pulsed
) -> None:  # pragma: no cover - compiled
    """One pulse on each cell, of the full width times its strength: only devices that are linear in width."""
    up, down, most, had = p.ups, p.downs, p.most, p.ups if sign > 0 else p.downs
    table = device.up if sign > 0 else device.down
    far = device.u_min if sign > 0 else device.u_max  # from there no pulse is cut by the window
    piece = piece_of(far, table)
    full = table.pieces[DELTA, piece] + far * table.pieces[SLOPE, piece]
    u, step, pulses, lo, hi = device.u, device.step, device.pulses, device.u_min, device.u_max
    selected_s, one = 0.0, most.size == 1
    for q in range(n):
        at = first + on.at[q] * stride
        if up[at] + down[at] >= most[0 if one else at]:
            continue
        selected_s += on.strength[q] * cell_s(device, at)
        u[at] = min(max(u[at] + step[at] * full * on.strength[q], lo), hi)
        pulses[at] += np.uint32(1)
        had[at] += 1
    device.selected_s[0 if sign > 0 else 1] += selected_s
