"""The compiled inner loop of `loops.LifStdp`. Its plain twin is the loop stepped by the host (`_loop_steps`).

The work of a tick grows with its events: a row that spikes costs its columns, a neuron that fires its rows. Only the
neurons are visited in every tick. All that happens to a row is done when the row is looked at (see `_catch_up`): its
cells lie side by side. Conductances are worked out from the states where they are needed.
Sums may be taken in any order; what happens to a cell is the same to the last bit however it is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neurobench.compiling import inner, outer, plain
from neurobench.physics.kernels import DELTA, HEAD, NEXT, SIGMA, SIGMA_SLOPE, SLOPE, LoopDevice, level, piece_of
from neurobench.physics.noise import bits, normal, unit

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray

REFERENCE, BRIAN, BINDSNET = range(3)
WINDOW, STOCHASTIC, WIDTH = range(3)
GATHERED = 4096  # pulses that are gathered before they are carried out
_S32 = np.uint64(32)
# A plain 0 is a type of its own for the compiler: all that it is handed to would be compiled twice.
_NONE: Any = np.int64(0)


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
    """Pulses of this loop by sign, flat over the cells, and how many each cell may have (one entry: all the same).

    The count of a cell's life (`LoopDevice.pulses`) is as at the start of the loop; whoever calls moves it on.
    spare: the least of these, less the spikes of the busiest row: until a neuron has fired so often, no cell runs out.
    full_up, full_down: how far a pulse of the full width moves a device that is linear in the width.
    rows[rows]: depressions of a whole row that are not yet in `downs`; even: all devices step alike, by 1, and have
    their conductance from their state alone in the same way.
    """

    ups: Any
    downs: Any
    most: Any
    spare: int
    full_up: float
    full_down: float
    rows: Any
    even: bool


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

    spikes[n, 2]: (tick, neuron) of this loop; every: all rows; seen[rows]: how many spikes a row has taken in;
    since[rows]: the tick at which its trace was worth pre[row]; decay[k]: what is left of a trace after k ticks;
    draws[ticks, side, 2]: key words of the random numbers of a tick.
    """

    spikes: Any
    every: Any
    seen: Any
    since: Any
    decay: Any
    draws: Any


class Scratch(NamedTuple):
    """Room for one tick, by column: summed conductance of the active rows, currents, variances, who fires; and how
    often each has fired."""

    active_s: Any
    current: Any
    variance: Any
    fires: Any
    times: Any


def scratch(ticks: int, shape: tuple[int, int], decay: float, draws: Any) -> tuple[Lines, Todo, Late, Scratch]:
    """Everything that the kernel works with, made here: what numpy does once need not be compiled."""
    rows, cols = shape
    spikes = np.empty((ticks * cols, 2), np.int32)
    lasting = np.concatenate([[1.0], np.cumprod(np.full(ticks, decay))])
    every = np.arange(rows, dtype=np.int32)
    late = Late(spikes, every, np.zeros(rows, np.int64), np.full(rows, -1, np.int64), lasting, draws)
    active_s, current, variance = np.zeros((3, cols))
    gathered = max(GATHERED, cols)  # at least the cells of a row
    return (
        Lines(np.zeros(cols, np.int64), np.zeros(cols)),
        Todo(np.zeros(gathered, np.uint64), np.zeros(gathered), np.zeros(gathered, np.int8)),
        late,
        Scratch(active_s, current, variance, np.zeros(cols, np.bool_), np.zeros(cols, np.int64)),
    )


@outer
def lif_stdp(
    ticks: int, indptr: Any, rows_in: Any, begins: Any, c: Constants, device: LoopDevice, words: Any, sigma2: float,
    relative2: float, s: State, p: Pulsed, on: Lines, todo: Todo, late: Late, room: Scratch,
) -> int:  # pragma: no cover - compiled  # fmt: skip
    """All ticks; returns the number of spikes written to late.spikes.

    words[ticks, 2]: key words of the read noise of each tick.
    """
    done, busiest = _NONE, _NONE
    owing, cols = True, device.shape[1]
    for tick in range(ticks + 1):
        last = tick == ticks
        if owing and (last or busiest >= p.spare):
            _settle(p, device)
            owing = False
        active = rows_in[indptr[tick] : indptr[tick + 1]] if not last else late.every
        which = late.every if not last and begins[tick] else active
        ample, full = busiest < p.spare, todo.at.size
        if c.learn and p.even and c.update == WIDTH and not c.post_only and ample:
            _widen_rows(device, c, s.pre, p, late, done, which)
        elif c.learn:
            n = full
            while n == full:
                n = _owed(cols, c, s.pre, late, done, which, todo)
                _carry_out(device, c.update, todo, n, p)
        if last:
            break
        if begins[tick]:
            _start_afresh(s, late, tick)
        _read(device, active, c.read_v, sigma2, relative2, words[tick], room)
        fired = _neurons(room.current, c, s, room.fires)
        n = _traces(c, s, active, room.fires, late, tick, on)
        if n and c.update == WIDTH and ample and 2 * n > cols:
            _narrow_rows(device, active, on.strength, n, room.active_s, p)
        elif n:
            row = _NONE
            while row < active.size:
                n_todo, row = _addressed(cols, active, row, on, n, c.update, late.draws[tick, 0], todo)
                _carry_out(device, c.update, todo, n_todo, p)
        if fired:
            if c.order != BINDSNET:
                _raise_post(c, s.post, room.fires)
            done, busiest = _note(late.spikes, room.fires, room.times, tick, done, busiest)
    for i in range(s.pre.size):
        s.pre[i] *= late.decay[ticks - 1 - late.since[i]]
    return int(done)


@inner
def _start_afresh(s: State, late: Late, tick: int) -> None:  # pragma: no cover - compiled
    for i in range(s.pre.size):
        s.pre[i], late.since[i] = 0.0, tick - 1
    for j in range(s.post.size):
        s.membrane[j] = s.refractory[j] = s.post[j] = 0.0


@inner
def _note(
    spikes: Any, fires: Any, times: Any, tick: int, done: int, busiest: int
) -> tuple[int, int]:  # pragma: no cover - compiled
    """Write down who fires; how many spikes there are, and how many the busiest neuron has had."""
    for j in range(fires.size):
        if fires[j]:
            spikes[done, 0], spikes[done, 1] = tick, j
            times[j] += 1
            busiest, done = max(busiest, times[j]), done + 1
    return done, busiest


# ---------------------------------------------------------------------------------------------- reads and neurons


@inner
def _read(
    d: LoopDevice, active: Any, read_v: float, sigma2: float, relative2: float, words: Any, room: Scratch
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """Currents of the columns while the active rows are at read_v.

    Noise: one normal draw per column, exact for independent Gaussian devices; keyed like a vector read of its own.
    """
    u, base_s = d.u, d.base_s
    gain_s, levels = d.gain_s, d.levels
    active_s, current = room.active_s, room.current
    variance, cols = room.variance, room.current.size
    plain = base_s.size == 1 and gain_s.size == 1 and levels.size == 0 and relative2 == 0
    many_base, many_gain = np.int64(base_s.size > 1), np.int64(gain_s.size > 1)
    for j in range(cols):
        active_s[j], variance[j] = 0.0, active.size * sigma2
    for i in active:
        if plain:
            for j in range(cols):
                active_s[j] += u[np.uint64(i * cols + j)]
            continue
        for j in range(cols):
            c = i * cols + j
            g = base_s[c * many_base] + gain_s[c * many_gain] * level(u[c], levels)
            active_s[j] += g
            variance[j] += relative2 * g * g
    base, gain = (active.size * base_s[0], gain_s[0]) if plain else (0.0, 1.0)
    for j in range(cols):
        active_s[j] = base + gain * active_s[j]
        current[j] = read_v * active_s[j]
    if sigma2 > 0 or relative2 > 0:
        for j in range(cols):
            current[j] += read_v * np.sqrt(variance[j]) * normal(bits(words[0], words[1], np.uint64(j)))


@inner
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
        for j in range(m.size):
            fires[j], m[j] = j == best, 0.0
    if any_:
        for j in range(m.size):
            if fires[j]:
                m[j], wait[j] = 0.0, c.refractory
                theta[j] += c.theta_step
    return any_


# ---------------------------------------------------------------------------------------------- traces and pairs


@inner
def _traces(
    c: Constants, s: State, active: Any, fires: Any, late: Late, tick: int, on: Lines
) -> int:  # pragma: no cover - compiled
    """Move the traces on and raise those of the rows that spike (BindsNET: and of the neurons that fire).

    Gives the number of neurons whose cells the rows that spike now depress; in "reference" order none that fires now.
    """
    pre, post = s.pre, s.post
    since, decay = late.since, late.decay
    for j in range(post.size):
        post[j] *= c.post_decay
    for i in active:
        pre[i] = pre[i] * decay[tick - since[i]] + 1.0 if c.summed else 1.0
        since[i] = tick
    if c.order == BINDSNET:
        _raise_post(c, post, fires)
    if c.post_only or not c.learn or not active.size:
        return 0
    at, strength, n = on.at, on.strength, 0
    for j in range(post.size):
        counts = post[j] >= c.post_least and post[j] > 0 and not (c.order == REFERENCE and fires[j])
        strength[j] = min(c.a_minus * post[j], 1.0) if counts else 0.0
        at[n] = j
        n += counts
    return n


@inner
def _raise_post(c: Constants, post: Any, fires: Any) -> None:  # pragma: no cover - compiled
    for j in range(post.size):
        if fires[j]:
            post[j] = post[j] + 1.0 if c.summed else 1.0


# ---------------------------------------------------------------------------------------------- pulses


@inner
def _owed(
    cols: int, c: Constants, pre: Any, late: Late, done: int, which: Any, todo: Todo
) -> int:  # pragma: no cover - compiled
    """Gather the pulses that these rows owe to all neurons that have fired since they were last looked at.

    A neuron's cells stand in a column, one to a memory line and in few sets of the cache: done when it fires, each
    costs several misses. Row by row they are at hand. A cell sees the same pulses in the same order.
    Gives how many; where `todo` is full there may be more.
    """
    spikes, seen, since = late.spikes, late.seen, late.since
    decay, draws = late.decay, late.draws
    at, share, side = todo.at, todo.share, todo.side
    n, random = _NONE, c.update == STOCHASTIC
    for row in which:
        x, then, first = pre[row], since[row], row * cols
        for e in range(seen[row], done):
            if n == at.size:
                seen[row] = e
                return int(n)
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
        seen[row] = done
    return int(n)


@inner
def _widen_rows(
    d: LoopDevice, c: Constants, pre: Any, p: Pulsed, late: Late, done: int, which: Any
) -> None:  # pragma: no cover - compiled
    """`_catch_up` for widths on devices that step alike, while no cell can run out of pulses: at once."""
    spikes, seen, since = late.spikes, late.seen, late.since
    decay, u, ups = late.decay, d.u, p.ups
    cols, lo, hi = d.shape[1], d.u_min, d.u_max
    base_s, gain_s, full = d.base_s[0], d.gain_s[0], p.full_up
    selected_s = 0.0
    for row in which:
        x, then, first = pre[row], since[row], row * cols
        for e in range(seen[row], done):
            trace = x * decay[spikes[e, 0] - then]
            if trace < c.pre_least or trace <= 0:
                break  # it only decays further
            at, share = np.uint64(first + spikes[e, 1]), min(c.a_plus * trace, 1.0)
            selected_s += (base_s + gain_s * u[at]) * share
            u[at] = min(max(u[at] + full * share, lo), hi)
            ups[at] += 1
        seen[row] = done
    d.selected_s[0] += selected_s


@inner
def _settle(p: Pulsed, d: LoopDevice) -> None:  # pragma: no cover - compiled
    """Count the depressions of whole rows at their cells."""
    rows, downs, cols = p.rows, p.downs, d.shape[1]
    for i in range(rows.size):
        for j in range(cols):
            at = np.uint64(i * cols + j)
            downs[at] += rows[i]
        rows[i] = 0


@inner
def _narrow_rows(
    d: LoopDevice, active: Any, strength: Any, n: int, active_s: Any, p: Pulsed
) -> None:  # pragma: no cover - compiled
    """Depress the active rows as vectors by shares of the full width, while no cell can run out of pulses.

    n: columns that are addressed; active_s[cols]: summed conductance of the active rows, of which the energy follows.
    """
    cols, u, step = d.shape[1], d.u, d.step
    downs, lo, hi = p.downs, d.u_min, d.u_max
    for i in active:
        if p.even and n == cols:
            _narrow_evenly(u, i * cols, strength, p.full_down, lo, hi)
            p.rows[i] += 1
        else:
            _narrow_row(u, step, downs, i * cols, strength, p.full_down, lo, hi)
    for j in range(cols):
        d.selected_s[1] += strength[j] * active_s[j]


@inner
def _addressed(
    cols: int, active: Any, row: int, on: Lines, n: int, update: int, words: Any, todo: Todo
) -> tuple[int, int]:  # pragma: no cover - compiled
    """Gather the depressions of the n cells of `on` in the active rows, from active[row] on, while there is room.

    Gives how many, and the place in `active` of the first row that had no room.
    """
    at, share, side = todo.at, todo.share, todo.side
    columns, strength = on.at, on.strength
    m, random = _NONE, update == STOCHASTIC
    k0, k1 = words[0], words[1]
    while row < active.size and m + n <= at.size:
        first = active[row] * cols
        for q in range(n):
            j, k = columns[np.uint64(q)], np.uint64(m + q)
            at[k], share[k], side[k] = first + j, strength[np.uint64(j)], 0
        m = m + n if not random else _chosen(todo, m, n, k0, k1)
        row += 1
    return m, row


@inner
def _chosen(todo: Todo, m: int, n: int, k0: Any, k1: Any) -> int:  # pragma: no cover - compiled
    """Keep of the n pulses from place m on those that their random number allows, with their share as probability."""
    at, share = todo.at, todo.share
    for q in range(m, m + n):
        at[m], share[m] = at[q], share[q]
        m += unit(bits(k0, k1, at[q])) < share[q]
    return m


@inner
def _narrow_row(
    u: Any, step: Any, downs: Any, first: int, strength: Any, full: float, lo: float, hi: float
) -> None:  # pragma: no cover - compiled
    """Depress all cells of a row, which lie side by side, by shares of the full width: the compiler makes vectors."""
    for q in range(strength.size):
        at, share = np.uint64(first + q), strength[np.uint64(q)]
        u[at] = min(max(u[at] + step[at] * full * share, lo), hi)
        downs[at] += share > 0


@inner
def _narrow_evenly(
    u: Any, first: int, strength: Any, full: float, lo: float, hi: float
) -> None:  # pragma: no cover - compiled
    """The same for devices that step alike, when every column is addressed: the row is counted by `Pulsed.rows`."""
    for q in range(strength.size):
        at = np.uint64(first + q)
        u[at] = min(max(u[at] + full * strength[np.uint64(q)], lo), hi)


@inner
def change(
    u: float, z: float, low: float, per_u: float, buckets: Any, delta: Any, slope: Any, sigma: Any, sigma_slope: Any,
    following: Any,
) -> Any:  # pragma: no cover - compiled  # fmt: skip
    """delta(u) + sigma(u) z out of a `kernels.Table` that was taken apart.

    The first step to the next piece is an addition, not a branch: whether it is needed cannot be foreseen, and a
    branch that was foreseen wrongly costs as much as the rest of the pulse. A second step is rare.
    """
    p = np.uint64(buckets[np.uint64(min(max(int((u - low) * per_u), 0), buckets.size - 1))])
    p += np.uint64(u >= following[p])
    while u >= following[p]:
        p += np.uint64(1)
    return delta[p] + u * slope[p] + z * (sigma[p] + u * sigma_slope[p])


@inner
def _carry_out(d: LoopDevice, update: int, todo: Todo, n: int, p: Pulsed) -> None:  # pragma: no cover - compiled
    """One pulse on each of the first n cells, in order, unless a cell has had its most in this loop.

    Widths are for devices that are linear in the width. Everything is taken apart once: an array that is fetched from
    its tuple in the loop is counted as a new reference, which costs more than the pulse.
    """
    at, share, side = todo.at, todo.share, todo.side
    ups, downs, most = p.ups, p.downs, p.most
    u, step, pulses = d.u, d.step, d.pulses
    base_s, gain_s, levels = d.base_s, d.gain_s, d.levels
    k0, k1, lo = np.uint64(d.k0), np.uint64(d.k1), d.u_min
    hi, wide = d.u_max, update == WIDTH
    a, b = d.up.pieces, d.down.pieces
    a_buckets, b_buckets = d.up.buckets, d.down.buckets
    a0, a1, a2 = a[DELTA], a[SLOPE], a[SIGMA]
    a3, a4, a_low = a[SIGMA_SLOPE], a[NEXT], a[HEAD, 0]
    a_per_u = a[HEAD, 1]
    b0, b1, b2 = b[DELTA], b[SLOPE], b[SIGMA]
    b3, b4, b_low = b[SIGMA_SLOPE], b[NEXT], b[HEAD, 0]
    b_per_u = b[HEAD, 1]
    noisy = a[HEAD, 3] > 0 or b[HEAD, 3] > 0
    many_most, many_base, many_gain = np.uint64(most.size > 1), np.uint64(base_s.size > 1), np.uint64(gain_s.size > 1)
    selected_up_s, selected_down_s, z = 0.0, 0.0, 0.0
    for q in range(n):
        c = at[q]
        if ups[c] + downs[c] >= most[c * many_most]:
            continue
        x, part_s = u[c], base_s[c * many_base] + gain_s[c * many_gain] * level(u[c], levels)
        if wide:
            part_s *= share[q]
            moved = (p.full_up if side[q] else p.full_down) * share[q]
        else:
            if noisy:
                had = np.uint64(pulses[c]) + np.uint64(ups[c]) + np.uint64(downs[c])
                z = normal(bits(k0, k1, (had << _S32) | np.uint64(c)))
            if side[q]:
                moved = change(x, z, a_low, a_per_u, a_buckets, a0, a1, a2, a3, a4)
            else:
                moved = change(x, z, b_low, b_per_u, b_buckets, b0, b1, b2, b3, b4)
        u[c] = min(max(x + step[c] * moved, lo), hi)
        if side[q]:
            selected_up_s += part_s
            ups[c] += 1
        else:
            selected_down_s += part_s
            downs[c] += 1
    d.selected_s[0] += selected_up_s
    d.selected_s[1] += selected_down_s


def full_step(d: LoopDevice, sign: int) -> float:
    """How far a pulse of full width moves a linear device, from the end where the window does not cut it."""
    table, far = (d.up, d.u_min) if sign > 0 else (d.down, d.u_max)
    piece = int(plain(piece_of)(far, table))  # once per loop: not worth compiling
    return float(table.pieces[DELTA, piece] + far * table.pieces[SLOPE, piece])
