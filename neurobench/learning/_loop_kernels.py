"""The compiled inner loop of `loops.LifStdp`. Its plain twin is the loop stepped by the host (`_loop_steps`).

The work of a tick grows with its events: a row that spikes costs its columns, a neuron that fires its rows. Only the
neurons are visited in every tick. All that happens to a row is done when the row is looked at (see `_catch_up`): its
cells lie side by side. Conductances are worked out from the states where they are needed.
Sums may be taken in any order; what happens to a cell is the same to the last bit however it is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

from neurobench.physics.kernels import DELTA, HEAD, SLOPE, LoopDevice, level, piece_of, pulse_cell
from neurobench.physics.noise import bits, normal, operation, unit

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray

REFERENCE, BRIAN, BINDSNET = range(3)
WINDOW, STOCHASTIC, WIDTH = range(3)
TODO = 4096  # pulses that are gathered before they are carried out
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
    """Pulses so far by sign, flat over the cells, and how many each cell may have (one entry: all the same).

    spare: the least of these, less the spikes of the busiest row: until a neuron has fired so often, no cell runs out.
    """

    ups: Any
    downs: Any
    most: Any
    spare: int


class Lines(NamedTuple):
    """What a rule addresses in a row: the columns, in order, and how strongly each of all columns (0: not at all)."""

    at: Any
    strength: Any


class Todo(NamedTuple):
    """Pulses that have been decided on, in order: flat cell, share of the full width, side (1 up, 0 down)."""

    at: Any
    share: Any
    side: Any


class Late(NamedTuple):
    """What rows still owe to the neurons that fired: a row is brought up to date when it is looked at, not before.

    spikes[n, 2]: (tick, neuron) of this loop; seen[rows]: how many of them a row has taken in; since[rows]: the tick at
    which its trace was worth pre[row]; decay[k]: what is left of a trace after k ticks; draws[ticks, 2, 2]: key words
    of the random numbers of a tick, by side (0 depresses, 1 potentiates).
    """

    spikes: Any
    seen: Any
    since: Any
    decay: Any
    draws: Any


@njit(cache=True)
def lif_stdp(
    ticks: int, first_tick: int, indptr: Any, rows_in: Any, begins: Any, c: Constants, device: LoopDevice, k0: int,
    k1: int, read0: int, sigma2: float, relative2: float, s: State, p: Pulsed, spikes: Any,
) -> int:  # pragma: no cover - compiled  # fmt: skip
    """All ticks; returns the number of spikes written to spikes[n, 2]."""
    rows, cols = device.shape
    current, active_s, variance, fires = np.empty(cols), np.empty(cols), np.empty(cols), np.zeros(cols, np.bool_)
    on = Lines(np.empty(cols, np.int64), np.empty(cols))
    todo = Todo(np.empty(TODO, np.uint64), np.empty(TODO), np.empty(TODO, np.int8))
    late = _late(ticks, first_tick, rows, c, spikes)
    done, busiest, times = 0, 0, np.zeros(cols, np.int64)
    for tick in range(ticks):
        if begins[tick]:
            _start_afresh(device, c, s, p, late, done, tick, todo)
        active = rows_in[indptr[tick] : indptr[tick + 1]]
        _catch_up(device, c, s.pre, p, late, done, active, todo)
        _columns(device, active, active_s)
        current[:] = c.read_v * active_s
        if sigma2 > 0 or relative2 > 0:
            _add_noise(device, active, c.read_v, sigma2, relative2, k0, k1, read0 + tick, variance, current)
        fired = _neurons(current, c, s, fires)
        _traces(c, s, active, fires, late, tick)
        if c.learn and not c.post_only:
            n = _pre_meets(c, s.post, fires, on)
            if n:
                _depress_rows(device, active, on, n, c, late.draws[tick, 0], active_s, busiest < p.spare, p, todo)
        if fired:
            if c.order != BINDSNET:
                _raise_post(c, s.post, fires)
            for j in range(cols):
                if fires[j]:
                    spikes[done, 0], spikes[done, 1] = tick, j
                    times[j] += 1
                    busiest, done = max(busiest, times[j]), done + 1
    _catch_up(device, c, s.pre, p, late, done, np.arange(rows), todo)
    for i in range(rows):
        s.pre[i] *= late.decay[ticks - 1 - late.since[i]]
    return done


@njit(cache=True)
def _late(ticks: int, first_tick: int, rows: int, c: Constants, spikes: Any) -> Late:  # pragma: no cover - compiled
    decay, draws = np.ones(ticks + 1), np.empty((ticks, 2, 2), np.uint64)
    for k in range(ticks):
        decay[k + 1] = decay[k] * c.pre_decay
    if c.update == STOCHASTIC:
        for k in range(ticks):
            for side in range(2):
                draws[k, side] = operation(c.k0, c.k1, 2 * (first_tick + k) + side)
    return Late(spikes, np.zeros(rows, np.int64), np.full(rows, -1, np.int64), decay, draws)


@njit(cache=True)
def _start_afresh(
    device: LoopDevice, c: Constants, s: State, p: Pulsed, late: Late, done: int, tick: int, todo: Todo
) -> None:  # pragma: no cover - compiled
    _catch_up(device, c, s.pre, p, late, done, np.arange(s.pre.size), todo)
    late.since[:] = tick - 1
    s.pre[:] = 0.0
    s.membrane[:] = 0.0
    s.refractory[:] = 0.0
    s.post[:] = 0.0


# ---------------------------------------------------------------------------------------------- reads and neurons


@njit(cache=True)
def _columns(d: LoopDevice, active: Any, active_s: Any) -> None:  # pragma: no cover - compiled
    """Summed conductance of the active rows, column by column: their currents per volt."""
    u, base_s, gain_s, levels, cols = d.u, d.base_s, d.gain_s, d.levels, active_s.size
    active_s[:] = 0.0
    if base_s.size == 1 and gain_s.size == 1 and levels.size == 0:
        for i in active:
            for j in range(cols):
                active_s[j] += u[np.uint64(i * cols + j)]
        for j in range(cols):
            active_s[j] = active.size * base_s[0] + gain_s[0] * active_s[j]
        return
    many_base, many_gain = np.int64(base_s.size > 1), np.int64(gain_s.size > 1)
    for i in active:
        for j in range(cols):
            c = i * cols + j
            active_s[j] += base_s[c * many_base] + gain_s[c * many_gain] * level(u[c], levels)


@njit(cache=True)
def _add_noise(
    d: LoopDevice, active: Any, read_v: float, sigma2: float, relative2: float, k0: int, k1: int, read: int,
    variance: Any, current: Any,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """One normal draw per column, exact for independent Gaussian devices; keyed like a vector read of its own."""
    u, base_s, gain_s, levels, cols = d.u, d.base_s, d.gain_s, d.levels, current.size
    a, b = operation(k0, k1, read)
    variance[:] = active.size * sigma2
    if relative2 > 0:
        many_base, many_gain = np.int64(base_s.size > 1), np.int64(gain_s.size > 1)
        for i in active:
            for j in range(cols):
                c = i * cols + j
                g = base_s[c * many_base] + gain_s[c * many_gain] * level(u[c], levels)
                variance[j] += relative2 * g * g
    for j in range(cols):
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
def _traces(
    c: Constants, s: State, active: Any, fires: Any, late: Late, tick: int
) -> None:  # pragma: no cover - compiled
    """Move the traces on and raise those of the rows that spike (BindsNET: and of the neurons that fire)."""
    pre, post = s.pre, s.post
    for j in range(post.size):
        post[j] *= c.post_decay
    for i in active:
        pre[i] = pre[i] * late.decay[tick - late.since[i]] + 1.0 if c.summed else 1.0
        late.since[i] = tick
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
    at, strength, n = on.at, on.strength, 0
    for j in range(post.size):
        counts = post[j] >= c.post_least and post[j] > 0 and not (c.order == REFERENCE and fires[j])
        strength[j] = min(c.a_minus * post[j], 1.0) if counts else 0.0
        at[n] = j
        n += counts
    return n


# ---------------------------------------------------------------------------------------------- pulses


@njit(cache=True)
def _catch_up(
    d: LoopDevice, c: Constants, pre: Any, p: Pulsed, late: Late, done: int, which: Any, todo: Todo
) -> None:  # pragma: no cover - compiled
    """Pulse the cells of these rows for all neurons that have fired since they were last looked at, in order of time.

    A neuron's cells stand in a column, one to a memory line and in few sets of the cache: done when it fires, each
    costs several misses. Row by row they are at hand. A cell sees the same pulses in the same order.
    """
    spikes, seen, since, decay, draws = late.spikes, late.seen, late.since, late.decay, late.draws
    at, share, side = todo.at, todo.share, todo.side
    n, cols, random = 0, d.shape[1], c.update == STOCHASTIC
    for row in which:
        x, then, first = pre[row], since[row], row * cols
        for e in range(seen[row], done if c.learn else 0):
            tick, cell = spikes[e, 0], first + spikes[e, 1]
            trace = x * decay[tick - then]
            recent = trace >= c.pre_least and trace > 0
            if not recent and not c.post_only:
                break  # it only decays further
            strength = min(c.a_plus * trace if recent else c.a_minus, 1.0)
            up = np.int64(recent)
            at[n], share[n], side[n] = cell, strength, up
            if random:
                n += unit(bits(draws[tick, up, 0], draws[tick, up, 1], np.uint64(cell))) < strength
            else:
                n += 1
            if n == at.size:
                _carry_out(d, c.update, todo, n, p)
                n = 0
        seen[row] = done
    _carry_out(d, c.update, todo, n, p)


@njit(cache=True)
def _depress_rows(
    d: LoopDevice,
    active: Any,
    on: Lines,
    n: int,
    c: Constants,
    words: Any,
    active_s: Any,
    ample: bool,
    p: Pulsed,
    todo: Todo,
) -> None:  # pragma: no cover - compiled
    """Depress the n cells of `on` in each active row, as the rule's update says.

    active_s[cols]: summed conductance of the active rows, of which the energy of whole rows follows; ample: no cell
    can run out of pulses yet.
    """
    if c.update == WIDTH and ample and 2 * n > d.shape[1]:
        _narrow_rows(d, active, on.strength, active_s, p)
        return
    at, side, cols, m = todo.at, todo.side, d.shape[1], 0
    columns, strength, share = on.at, on.strength, todo.share
    if c.update == STOCHASTIC:
        m = _draw_rows(d, active, on, n, c, words, p, todo)
    else:
        for i in active:
            for q in range(n):
                at[m], share[m], side[m] = i * cols + columns[q], strength[columns[q]], 0
                m += 1
                if m == at.size:
                    _carry_out(d, c.update, todo, m, p)
                    m = 0
    _carry_out(d, c.update, todo, m, p)


@njit(cache=True)
def _draw_rows(
    d: LoopDevice, active: Any, on: Lines, n: int, c: Constants, words: Any, p: Pulsed, todo: Todo
) -> int:  # pragma: no cover - compiled
    """Choose the cells of `_depress_rows` by chance; how many wait in `todo`."""
    at, side, columns, strength = todo.at, todo.side, on.at, on.strength
    cols, k0, k1, m, whole = d.shape[1], words[0], words[1], 0, 2 * n > d.shape[1]
    uniform = np.empty(cols)
    for i in active:
        first = i * cols
        if whole:
            for j in range(cols):  # vector code; the choice below is not
                uniform[j] = unit(bits(k0, k1, np.uint64(first + j)))
        for q in range(n):
            j = columns[q]
            drawn = uniform[j] if whole else unit(bits(k0, k1, np.uint64(first + j)))
            if drawn < strength[j]:
                at[m], side[m] = first + j, 0
                m += 1
                if m == at.size:
                    _carry_out(d, c.update, todo, m, p)
                    m = 0
    return m


@njit(cache=True)
def _carry_out(d: LoopDevice, update: int, todo: Todo, n: int, p: Pulsed) -> None:  # pragma: no cover - compiled
    if n and update == WIDTH:
        _widen_cells(d, todo, n, p)
    elif n:
        _pulse_cells(d, todo, n, p)


@njit(cache=True)
def _pulse_cells(d: LoopDevice, todo: Todo, n: int, p: Pulsed) -> None:  # pragma: no cover - compiled
    """One pulse on each of the first n cells, in order, unless a cell has had its most in this loop.

    Everything is taken apart once: an array that is fetched from its tuple in the loop is counted as a new reference.
    """
    at, side, ups, downs, most = todo.at, todo.side, p.ups, p.downs, p.most
    u, step, pulses, base_s, gain_s, levels = d.u, d.step, d.pulses, d.base_s, d.gain_s, d.levels
    up, down, k0, k1, lo, hi = d.up, d.down, np.uint64(d.k0), np.uint64(d.k1), d.u_min, d.u_max
    noisy = up.pieces[HEAD, 3] > 0 or down.pieces[HEAD, 3] > 0
    many_most, many_base, many_gain = np.uint64(most.size > 1), np.uint64(base_s.size > 1), np.uint64(gain_s.size > 1)
    selected_up_s, selected_down_s, z = 0.0, 0.0, 0.0
    for q in range(n):
        c = at[q]
        if ups[c] + downs[c] >= most[c * many_most]:
            continue
        if noisy:
            z = normal(bits(k0, k1, (np.uint64(pulses[c]) << _S32) | np.uint64(c)))
        conductance_s = base_s[c * many_base] + gain_s[c * many_gain] * level(u[c], levels)
        if side[q]:
            selected_up_s += conductance_s
            u[c] = pulse_cell(u[c], up, step[c], z, lo, hi)
            ups[c] += 1
        else:
            selected_down_s += conductance_s
            u[c] = pulse_cell(u[c], down, step[c], z, lo, hi)
            downs[c] += 1
        pulses[c] += np.uint32(1)
    d.selected_s[0] += selected_up_s
    d.selected_s[1] += selected_down_s


@njit(cache=True)
def _widen_cells(d: LoopDevice, todo: Todo, n: int, p: Pulsed) -> None:  # pragma: no cover - compiled
    """The same for pulses of a share of the full width: only for devices that are linear in the width."""
    at, share, side, ups, downs, most = todo.at, todo.share, todo.side, p.ups, p.downs, p.most
    u, step, pulses, base_s, gain_s, levels = d.u, d.step, d.pulses, d.base_s, d.gain_s, d.levels
    full_up, full_down, lo, hi = full_step(d, 1), full_step(d, -1), d.u_min, d.u_max
    many_most, many_base, many_gain = np.uint64(most.size > 1), np.uint64(base_s.size > 1), np.uint64(gain_s.size > 1)
    selected_up_s, selected_down_s = 0.0, 0.0
    for q in range(n):
        c = at[q]
        if ups[c] + downs[c] >= most[c * many_most]:
            continue
        part_s = share[q] * (base_s[c * many_base] + gain_s[c * many_gain] * level(u[c], levels))
        up = side[q]
        u[c] = min(max(u[c] + step[c] * (full_up if up else full_down) * share[q], lo), hi)
        if up:
            selected_up_s += part_s
            ups[c] += 1
        else:
            selected_down_s += part_s
            downs[c] += 1
        pulses[c] += np.uint32(1)
    d.selected_s[0] += selected_up_s
    d.selected_s[1] += selected_down_s


@njit(cache=True)
def full_step(d: LoopDevice, sign: int) -> Any:  # pragma: no cover - compiled
    """How far a pulse of full width moves a linear device, from the end where the window does not cut it."""
    table, far = (d.up, d.u_min) if sign > 0 else (d.down, d.u_max)
    piece = piece_of(far, table)
    return table.pieces[DELTA, piece] + far * table.pieces[SLOPE, piece]


@njit(cache=True)
def _narrow_rows(
    d: LoopDevice, active: Any, strength: Any, active_s: Any, p: Pulsed
) -> None:  # pragma: no cover - compiled
    """Depress all cells of the active rows by shares of the full width; no cell can run out of pulses."""
    u, step, pulses, downs, cols = d.u, d.step, d.pulses, p.downs, strength.size
    full, lo, hi = full_step(d, -1), d.u_min, d.u_max
    for i in active:
        _narrow_row(u, step, pulses, downs, i * cols, strength, full, lo, hi)
    for j in range(cols):
        d.selected_s[1] += strength[j] * active_s[j]


@njit(cache=True)
def _narrow_row(
    u: Any, step: Any, pulses: Any, downs: Any, first: int, strength: Any, full: float, lo: float, hi: float
) -> None:  # pragma: no cover - compiled
    """One row, its cells side by side: the compiler turns it into vectors."""
    for q in range(strength.size):
        at, share = np.uint64(first + q), strength[np.uint64(q)]
        u[at] = min(max(u[at] + step[at] * full * share, lo), hi)
        downs[at] += share > 0
        pulses[at] += share > 0
