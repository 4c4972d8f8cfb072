"""The compiled inner loop of `recurrent.RecurrentStdp`. Its plain twin is the loop stepped by the host.

Neurons and traces are visited in every tick, as short vectors; synapses only where a spike comes: a spike costs the
used cells of its row (read and depressed) and of its column (potentiated). The used cells are copied together for the
time of the loop: their 100,000 states fit where 1000 x 1000 would not, and that is worth more than the copy costs.

Vectors of one kind are the rows of one array: every array that is handed on costs time, most of all for compiling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neurobench.compiling import inner, outer, summing
from neurobench.physics.kernels import DELTA, HEAD, NEXT, SIGMA, SIGMA_SLOPE, SLOPE, level
from neurobench.physics.noise import bits, normal, unit

from ._loop_kernels import BINDSNET, BRIAN, REFERENCE, STOCHASTIC, WIDTH, change

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray

NEST = 3  # the order that only this loop knows
BLOCK = 64  # neurons that are searched for spikes one by one where one of them has any
FADED = 1e-30  # a trace below it is 0: it moves nothing, and numbers near the smallest are slow
_S32 = np.uint64(32)

MEMBRANE, FREE, POST, DRIVE, CURRENT, VARIANCE, EARLIER, NEURON_ROWS = range(
    8
)  # rows of `neurons`; FREE: tick of this loop
LEAST_SCALE = 1e-60  # traces are brought up to date when they have decayed so far together
COL, FLAT, PLACE, ROW = range(4)  # rows of `wiring`: column and index of the used cells; the same by column, their rows
U, BASE, GAIN, STEP, STRENGTH, FLOAT_ROWS = range(6)  # rows of `floats`: the used cells' devices, and how strongly
HAD, PULSED, PICKED, INT_ROWS = range(4)  # rows of `ints`: pulses before, in this loop (see UP, DOWN), cells picked
UP, DOWN = 1, 1 << 16  # a pulse of each sign in PULSED: one number is looked up where two would cost another miss


class Constants(NamedTuple):
    """What the kernel needs of a rule, a device and its noise: factors per tick, least traces, options as numbers."""

    leak: float
    pre_decay: float
    post_decay: float
    pre_least: float
    post_least: float
    gain_per_a: float
    read_v: float
    a_plus: float
    a_minus: float
    refractory: float
    budget: int
    delay: int
    order: int
    update: int
    dendritic: bool
    leakage: bool
    summed: bool
    learn: bool


class Device(NamedTuple):
    """Numbers of the device and its read noise, as in `LoopDevice` and `LoopNoise`; full_up, full_down: `full_step`.

    many: 0 where all cells have the first one's base_s, gain_s, step: then the rest of those rows is not looked at;
    alike: all three are 0.
    """

    u_min: float
    u_max: float
    full_up: float
    full_down: float
    k0: int
    k1: int
    sigma2: float
    relative2: float
    many_base: int
    many_gain: int
    many_step: int
    alike: bool


class State(NamedTuple):
    """membrane, refractory (ticks still to wait), post [cols]; pre [rows]; currents under way late_a [delay, cols]."""

    membrane: FloatArray
    refractory: FloatArray
    pre: FloatArray
    post: FloatArray
    late_a: FloatArray


@outer
def recurrent(
    ticks: int, first_tick: int, indptr: Any, rows_in: Any, c: Constants, d: Device, neurons: Any, pre: Any, late: Any,
    words: Any, active: Any, row_start: Any, col_start: Any, wiring: Any, floats: Any, ints: Any, leak_s: Any,
    levels: Any, up: Any, up_buckets: Any, down: Any, down_buckets: Any, start: Any, queue: Any, selected_s: Any,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """All ticks. Lines that spike in tick t: queue[start[t + delay] : start[t + delay + 1]], from t = -delay on.

    Dendritic, they are neurons and inputs; axonal, neurons alone. selected_s: as in `LoopDevice`. words[ticks, 3, 2]:
    key words of each tick's random numbers: of the depressions, the potentiations, the read. active[2 rows]: room.
    """
    current, post = neurons[CURRENT], neurons[POST]
    pre_scale, post_scale = 1.0, 1.0
    for tick in range(ticks):
        now, at = tick + c.delay, first_tick + tick
        inputs = rows_in[indptr[tick] : indptr[tick + 1]]
        ago = now - 1 if c.dendritic else now - c.delay
        n = _driven(start[ago], start[ago + 1], queue, inputs, c.dendritic, active)
        if n:
            _read(active[:n], words[tick, 2], c, d, neurons, row_start, wiring, floats, leak_s, levels)
        if c.dendritic and c.delay > 1:
            _copy(current, late[(at + c.delay - 1) % c.delay])
            _copy(late[at % c.delay], current)
        charged = n > 0 or c.dendritic
        start[now + 1] = _neurons(
            c.leak, c.gain_per_a, c.refractory, c.order == BRIAN, charged, tick, neurons, start[now], queue
        )
        if charged:
            _set(current, 0.0)
        if c.dendritic:
            start[now + 1] = _queued(inputs, start[now + 1], queue)
        pre_scale, post_scale = pre_scale * c.pre_decay, post_scale * c.post_decay
        if pre_scale < LEAST_SCALE or post_scale < LEAST_SCALE:
            _decay(pre, pre_scale)
            _decay(post, post_scale)
            pre_scale = post_scale = 1.0
        here, back = active[:n], queue[start[now] : start[now + 1]]
        if c.dendritic:
            here, back = back, queue[start[now - c.delay] : start[now - c.delay + 1]]
        if here.size == 0 and back.size == 0:
            continue
        if c.order != NEST:
            _raise(pre, here, c.summed, pre_scale)
        if c.order == BINDSNET:
            _raise(post, back, c.summed, post_scale)
        for half in range(2):
            potentiate = (half == 1) != (c.order == NEST)
            if c.learn and c.update == WIDTH and d.alike:
                if potentiate:
                    selected_s[0] += _widen_cols(
                        back, pre, pre_scale, c, d, col_start, wiring, floats, ints, post.size
                    )  # fmt: skip
                else:
                    earlier = neurons[_earlier(back, c.order, neurons)]
                    selected_s[1] += _widen_rows(here, earlier, post_scale, c, d, row_start, wiring, floats, ints)
            elif c.learn:
                if potentiate:
                    n = _meet_cols(back, pre, pre_scale, c, col_start, wiring, floats, ints, post.size)
                else:
                    earlier = neurons[_earlier(back, c.order, neurons)]
                    n = _meet_rows(here, earlier, post_scale, c, row_start, wiring, floats, ints)
                side = 0 if potentiate else 1
                if c.update == STOCHASTIC:
                    n = _pick(n, words[tick, 1 - side], wiring, floats, ints)
                if c.update == WIDTH:
                    selected_s[side] += _widen(n, potentiate, d, c.budget, floats, ints)
                else:
                    pieces, buckets = (up, up_buckets) if potentiate else (down, down_buckets)
                    selected_s[side] += _whole(
                        n, potentiate, pieces, buckets, d, c.budget, wiring, floats, ints, levels
                    )
            if half == 0 and (c.order == REFERENCE or c.order == BRIAN):
                _raise(post, back, c.summed, post_scale)
        if c.order == NEST:
            _raise(pre, here, c.summed, pre_scale)
            _raise(post, back, c.summed, post_scale)
    _decay(pre, pre_scale)
    _decay(post, post_scale)


@inner
def _driven(
    first: int, end: int, queue: Any, inputs: Any, dendritic: bool, active: Any
) -> int:  # pragma: no cover - compiled
    """The rows that are driven in this tick; how many."""
    n = end - first
    for k in range(n):
        active[k] = queue[first + k]
    if not dendritic:
        for i in inputs:
            active[n] = i
            n += 1
    return n


@inner
def _queued(inputs: Any, end: int, queue: Any) -> int:  # pragma: no cover - compiled
    """Put the inputs' spikes into the queue; where it ends then."""
    for i in inputs:
        queue[end] = i
        end += 1
    return end


# ---------------------------------------------------------------------------------------------- reads and neurons


@inner
def _read(
    active: Any, words: Any, c: Constants, d: Device, neurons: Any, row_start: Any, wiring: Any, floats: Any,
    leak_s: Any, levels: Any,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """Column currents (0 before) while these rows are at read_v, with the noise of a vector read."""
    current, variance, col = neurons[CURRENT], neurons[VARIANCE], wiring[COL]
    u, base, gain = floats[U], floats[BASE], floats[GAIN]
    noisy = d.sigma2 > 0 or d.relative2 > 0
    if noisy:
        _set(variance, 0.0)
    for i in active:
        if c.leakage:
            row = leak_s[i]
            for j in range(row.size):
                current[j] += row[j]
                if row[j] != 0.0:
                    variance[j] += d.sigma2 + d.relative2 * row[j] * row[j]
        if noisy or levels.size or d.many_base or d.many_gain:
            for k in range(row_start[i], row_start[i + 1]):
                g = base[k * d.many_base] + gain[k * d.many_gain] * level(u[k], levels)
                current[col[k]] += g
                variance[col[k]] += d.sigma2 + d.relative2 * g * g
        else:
            for k in range(np.uint64(row_start[i]), np.uint64(row_start[i + 1])):
                current[np.uint64(col[k])] += base[0] + gain[0] * u[k]
    for j in range(current.size):
        current[j] *= c.read_v
    if noisy:
        for j in range(current.size):
            current[j] += c.read_v * np.sqrt(variance[j]) * normal(bits(words[0], words[1], np.uint64(j)))


@inner
def _neurons(
    leak: float, gain_per_a: float, refractory: float, late: bool, charged: bool, tick: int, neurons: Any, end: int,
    queue: Any,
) -> int:  # pragma: no cover - compiled  # fmt: skip
    """Move the neurons one tick on, put those that fire into the queue and reset them; where the queue ends then.

    `late`: order "brian"; `charged`: there may be currents. Short loops over few vectors, for the compiler's sake.
    """
    membrane, free = neurons[MEMBRANE], neurons[FREE]
    drive, current = neurons[DRIVE], neurons[CURRENT]
    now, first = float(tick), end
    early_gain, fired = 0.0 if late or not charged else gain_per_a, 0
    for j in range(membrane.size):
        v = membrane[j] * leak + drive[j] + early_gain * current[j]
        v = v if free[j] <= now else 0.0
        membrane[j] = v
        fired += v >= 1.0
    if fired:
        end = _search(membrane, end, queue)
    if late and charged:
        for j in range(membrane.size):
            v = membrane[j] + gain_per_a * current[j]
            membrane[j] = v if free[j] <= now else 0.0
    for k in range(first, end):
        membrane[queue[k]] = 0.0
        free[queue[k]] = now + refractory
    return end


@inner
def _search(membrane: Any, end: int, queue: Any) -> int:  # pragma: no cover - compiled
    """Put the neurons at threshold into the queue; only blocks in which there is one are looked through."""
    for lo in range(0, membrane.size, BLOCK):
        hi, fired = min(lo + BLOCK, membrane.size), 0
        for j in range(lo, hi):
            fired += membrane[j] >= 1.0
        if fired:
            for j in range(lo, hi):
                queue[end] = j
                end += membrane[j] >= 1.0
    return end


@inner
def _set(values: Any, to: float) -> None:  # pragma: no cover - compiled
    for k in range(values.size):  # written out: numba compiles a slice's assignment for a second
        values[k] = to


@inner
def _copy(values: Any, to: Any) -> None:  # pragma: no cover - compiled
    for k in range(values.size):
        to[k] = values[k]


@inner
def _decay(trace: Any, factor: float) -> None:  # pragma: no cover - compiled
    for k in range(trace.size):
        x = trace[k] * factor
        trace[k] = x if x >= FADED else 0.0


@inner
def _raise(trace: Any, lines: Any, summed: bool, scale: float) -> None:  # pragma: no cover - compiled
    one = 1.0 / scale  # a trace is kept divided by what all have decayed since they were brought up to date
    for k in lines:
        if k < trace.size:  # the queue holds the inputs' rows, too, and they have no neuron
            trace[k] = trace[k] + one if summed else one


# ---------------------------------------------------------------------------------------------- pairs and pulses


@inner
def _earlier(back: Any, order: int, neurons: Any) -> int:  # pragma: no cover - compiled
    """Which row holds the neurons' traces by which rows depress; "reference": 0 of those that fire just now."""
    if order != REFERENCE:
        return POST
    earlier = neurons[EARLIER]
    _copy(neurons[POST], earlier)
    for j in back:
        if j < earlier.size:
            earlier[j] = 0.0
    return EARLIER


@inner
def _meet_rows(
    here: Any, post: Any, scale: float, c: Constants, row_start: Any, wiring: Any, floats: Any, ints: Any
) -> int:  # pragma: no cover - compiled
    """Pick the cells of rows that spike whose neurons' traces count; how many."""
    least, a, n = max(c.post_least, FADED), c.a_minus, np.uint64(0)
    col, picked, strength = wiring[COL], ints[PICKED], floats[STRENGTH]
    for i in here:
        for k in range(np.uint64(row_start[i]), np.uint64(row_start[i + 1])):
            trace = post[np.uint64(col[k])] * scale
            picked[n], strength[n] = k, min(a * trace, 1.0)
            n += np.uint64(trace >= least)
    return int(n)


@inner
def _meet_cols(
    back: Any, pre: Any, scale: float, c: Constants, col_start: Any, wiring: Any, floats: Any, ints: Any, cols: int
) -> int:  # pragma: no cover - compiled
    """Pick the cells of neurons that fire whose rows' traces count; how many."""
    least, a, n = max(c.pre_least, FADED), c.a_plus, np.uint64(0)
    place, row = wiring[PLACE], wiring[ROW]
    picked, strength = ints[PICKED], floats[STRENGTH]
    for j in back:
        if j >= cols:
            continue
        for k in range(np.uint64(col_start[j]), np.uint64(col_start[j + 1])):
            trace = pre[np.uint64(row[k])] * scale
            picked[n], strength[n] = place[k], min(a * trace, 1.0)
            n += np.uint64(trace >= least)
    return int(n)


@inner
def _pick(n: int, words: Any, wiring: Any, floats: Any, ints: Any) -> int:  # pragma: no cover - compiled
    """Keep each cell with its strength as probability, keyed by tick, sign and cell; how many are kept."""
    a, b = words[0], words[1]
    picked, flat = ints[PICKED], wiring[FLAT]
    strength, kept = floats[STRENGTH], 0
    for q in range(n):
        k = picked[q]
        picked[kept] = k
        kept += unit(bits(a, b, np.uint64(flat[k]))) < strength[q]
    return kept


@inner
def _widen(
    n: int, potentiate: bool, d: Device, budget: int, floats: Any, ints: Any
) -> float:  # pragma: no cover - compiled
    """One pulse of a share of the width on each cell; the conductances times the shares, summed."""
    u, base, gain = floats[U], floats[BASE], floats[GAIN]
    step, strength = floats[STEP], floats[STRENGTH]
    picked, pulsed, one = ints[PICKED], ints[PULSED], np.int32(UP if potentiate else DOWN)
    full, many_base, many_gain = (
        d.full_up if potentiate else d.full_down,
        np.uint64(d.many_base),
        np.uint64(d.many_gain),
    )
    many_step, selected_s = np.uint64(d.many_step), 0.0
    for q in range(np.uint64(n)):
        k, x = np.uint64(picked[q]), strength[q]
        had = pulsed[k]
        if (had & 0xFFFF) + (had >> 16) >= budget:
            continue
        before = u[k]
        selected_s += x * (base[k * many_base] + gain[k * many_gain] * before)
        u[k] = min(max(before + step[k * many_step] * full * x, d.u_min), d.u_max)
        pulsed[k] = had + one
    return selected_s


# Nearly all of a large run's time goes into these two, so they are the above once more, without branches and for cells
# that are alike: a row's cells lie side by side and become vector code. Only the sum of conductances is taken in any
# order.


@summing
def _widen_rows(
    here: Any, post: Any, scale: float, c: Constants, d: Device, row_start: Any, wiring: Any, floats: Any, ints: Any
) -> float:  # pragma: no cover - compiled
    """Depress by widths the cells of rows that spike; see `_widen`."""
    u, pulsed, col = floats[U], ints[PULSED], wiring[COL]
    base, gain, a = floats[BASE, 0], floats[GAIN, 0], c.a_minus
    least, budget = max(c.post_least, FADED), np.int32(c.budget)
    full, u_min = d.full_down * floats[STEP, 0], d.u_min
    u_max, selected_s = d.u_max, 0.0
    one, budget = np.int32(DOWN), np.int32(c.budget)
    for i in here:
        for k in range(np.uint64(row_start[i]), np.uint64(row_start[i + 1])):
            trace, had, before = post[np.uint64(col[k])] * scale, pulsed[k], u[k]
            open_ = (trace >= least) & ((had & np.int32(0xFFFF)) + (had >> np.int32(16)) < budget)
            x = min(a * trace, 1.0) if open_ else 0.0
            selected_s += x * (base + gain * before)
            u[k] = min(max(before + full * x, u_min), u_max)
            pulsed[k] = had + (one if open_ else np.int32(0))
    return selected_s


@summing
def _widen_cols(
    back: Any, pre: Any, scale: float, c: Constants, d: Device, col_start: Any, wiring: Any, floats: Any, ints: Any,
    cols: int,
) -> float:  # pragma: no cover - compiled  # fmt: skip
    """Potentiate by widths the cells of neurons that fire; see `_widen`."""
    u, pulsed = floats[U], ints[PULSED]
    place, row = wiring[PLACE], wiring[ROW]
    base, gain, a = floats[BASE, 0], floats[GAIN, 0], c.a_plus
    least, budget = max(c.pre_least, FADED), np.int32(c.budget)
    full, u_min = d.full_up * floats[STEP, 0], d.u_min
    u_max, selected_s = d.u_max, 0.0
    one, budget = np.int32(UP), np.int32(c.budget)
    for j in back:
        if j >= cols:
            continue
        for at in range(np.uint64(col_start[j]), np.uint64(col_start[j + 1])):
            k = np.uint64(place[at])
            trace, had, before = pre[np.uint64(row[at])] * scale, pulsed[k], u[k]
            open_ = (trace >= least) & ((had & np.int32(0xFFFF)) + (had >> np.int32(16)) < budget)
            x = min(a * trace, 1.0) if open_ else 0.0
            selected_s += x * (base + gain * before)
            u[k] = min(max(before + full * x, u_min), u_max)
            pulsed[k] = had + (one if open_ else np.int32(0))
    return selected_s


@inner
def _whole(
    n: int, potentiate: bool, pieces: Any, buckets: Any, d: Device, budget: int, wiring: Any, floats: Any, ints: Any,
    levels: Any,
) -> float:  # pragma: no cover - compiled  # fmt: skip
    """One whole pulse on each cell; the conductances, summed."""
    u, base, gain = floats[U], floats[BASE], floats[GAIN]
    step, low, per_u = floats[STEP], pieces[HEAD, 0], pieces[HEAD, 1]
    delta, slope, following = pieces[DELTA], pieces[SLOPE], pieces[NEXT]
    sigma, sigma_slope, z = pieces[SIGMA], pieces[SIGMA_SLOPE], 0.0
    picked, pulsed, one = ints[PICKED], ints[PULSED], np.int32(UP if potentiate else DOWN)
    flat, before = wiring[FLAT], ints[HAD]
    noisy, selected_s = pieces[HEAD, 3] > 0, 0.0
    k0, k1 = np.uint64(d.k0), np.uint64(d.k1)
    for q in range(n):
        k = picked[q]
        had = (pulsed[k] & 0xFFFF) + (pulsed[k] >> 16)
        if had >= budget:
            continue
        selected_s += base[k * d.many_base] + gain[k * d.many_gain] * level(u[k], levels)
        if noisy:
            count = np.uint64(np.uint32(before[k])) + np.uint64(had)
            z = normal(bits(k0, k1, (count << _S32) | np.uint64(flat[k])))
        moved = change(u[k], z, low, per_u, buckets, delta, slope, sigma, sigma_slope, following)
        u[k] = min(max(u[k] + step[k * d.many_step] * moved, d.u_min), d.u_max)
        pulsed[k] += one
    return selected_s


@outer
def gather(flat: Any, values: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Copy some of the values together."""
    for k in range(flat.size):
        out[k] = values[flat[k]]


@outer
def put_back(
    flat: Any, floats: Any, ints: Any, u: Any, pulses: Any, ups: Any, downs: Any
) -> None:  # pragma: no cover - compiled
    """Put the used cells' states and pulses back among all cells; their pulses by sign."""
    state, pulsed = floats[U], ints[PULSED]
    for k in range(flat.size):
        ups[k], downs[k] = pulsed[k] & 0xFFFF, pulsed[k] >> 16
    for k in range(flat.size):
        at = np.uint64(flat[k])
        u[at] = state[k]
        pulses[at] += np.uint32(ups[k]) + np.uint32(downs[k])
