"""The compiled inner loops of an emulated chip, in one place; tests/physics/test_kernels.py holds a numpy twin of each.

Arrays of the array's cells are flat and row-major. A shot selects one line and lines across it; a stride of the line
and one of the lines across turn that into a cell, so that rows and columns share the code.

What costs a cell's pulse its time is memory and the branch misses of a look-up. So a shot is done in passes over
short vectors (draw, look up, commit), each of which the compiler turns into vector code; cells that do not lie side by
side are gathered first. Only sums are computed in any order (`fastmath`): what happens to a cell is the same to the
last bit whether it is pulsed alone or with its whole row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobench.compiling import compiled
from neurobench.physics.noise import bits, normal, operation

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray
    from neurobench.physics.response import Response

MAX_BUCKETS = 2048
DELTA, SLOPE, SIGMA, SIGMA_SLOPE, NEXT, HEAD = range(6)  # rows of Table.pieces
# Two nodes closer than this share of the table's range are a jump: a straight line between them has no meaning.
JUMP = 1e-9

_S32 = np.uint64(32)


class Table(NamedTuple):
    """A response made ready for the kernels: straight pieces, and buckets that name the first piece to look at.

    pieces[6, m]: change = DELTA + u SLOPE, its sigma = SIGMA + u SIGMA_SLOPE, and the state at which the NEXT piece
    begins (inf: none). Its HEAD row holds: low and per_u (bucket b covers states from low + b / per_u), the most
    pieces that begin in one bucket, and whether some sigma is not 0. Two arrays, because each argument of a compiled
    call costs 60 ns and a tuple of six 600 ns.
    """

    pieces: FloatArray
    buckets: NDArray[np.int32]


def table(response: Response) -> Table:
    """Prepare a response for the kernels; equal to np.interp over its nodes to rounding."""
    nodes = np.asarray(response.nodes, dtype=np.float64)
    pieces = np.zeros((6, max(len(nodes) + 1, 4)))
    inner = slice(1, len(nodes))
    for values, at, slope in ((response.delta, DELTA, SLOPE), (response.sigma, SIGMA, SIGMA_SLOPE)):
        pieces[at, 0], pieces[at, 1 : len(nodes) + 1] = values[0], values
        pieces[slope, inner] = _slopes(nodes, values)
        pieces[at, inner] -= nodes[:-1] * pieces[slope, inner]
    pieces[NEXT] = np.inf
    pieces[NEXT, : len(nodes)] = nodes
    buckets, per_u, hops = _buckets(nodes)
    pieces[HEAD, :4] = nodes[0], per_u, hops, np.any(response.sigma > 0)
    return Table(pieces, buckets)


def _slopes(nodes: FloatArray, values: FloatArray) -> FloatArray:
    gap = np.diff(nodes)
    straight = gap > JUMP * (nodes[-1] - nodes[0])
    slopes: FloatArray = np.where(straight, np.diff(values) / gap, 0.0)
    return slopes


def _buckets(nodes: FloatArray) -> tuple[NDArray[np.int32], float, int]:
    """First piece of each of 2^k equal buckets between the first and the last node, buckets per u, and `hops`."""
    span = float(nodes[-1] - nodes[0])
    if span <= 0:
        return np.zeros(1, np.int32), 0.0, len(nodes)
    wanted = span / float(np.diff(nodes).min())
    n = 2
    while n < min(2 * wanted, MAX_BUCKETS):
        n *= 2
    # Nodes are placed by the kernel's own arithmetic, so that rounding cannot send one to the wrong bucket.
    place = np.minimum(((nodes - nodes[0]) * (n / span)).astype(np.int64), n - 1)
    before = np.searchsorted(place, np.arange(n), side="left")
    return before.astype(np.int32), n / span, int(np.bincount(place, minlength=n).max())


@compiled
def piece_of(u: float, t: Table) -> int:  # pragma: no cover
    """Index of the straight piece that holds the state u."""
    head = t.pieces[HEAD]
    b = min(max(int((u - head[0]) * head[1]), 0), t.buckets.size - 1)
    piece, following = int(t.buckets[b]), t.pieces[NEXT]
    while u >= following[piece]:  # few: the most that one bucket holds is many in a measured curve, the mean is not
        piece += 1
    return piece


@compiled
def pulse_cell(u: float, t: Table, step: float, z: float, u_min: float, u_max: float) -> Any:  # pragma: no cover
    """State of one cell after one pulse: u + step (delta(u) + sigma(u) z), kept in [u_min, u_max]."""
    p = piece_of(u, t)
    change = t.pieces[DELTA, p] + u * t.pieces[SLOPE, p] + z * (t.pieces[SIGMA, p] + u * t.pieces[SIGMA_SLOPE, p])
    return min(max(u + step * change, u_min), u_max)


class Cells(NamedTuple):
    """Some devices, as vectors. pulses counts those had so far and keys the noise.

    conductance = base_s + gain_s L(u), with L(u) = u (levels empty) or levels[int(u)]; step: factor on the steps of a
    device (0: it does not move); across_s: summed conductance of each line that crosses the selected one.
    """

    u: FloatArray
    pulses: NDArray[np.uint32]
    step: NDArray[np.float32]
    base_s: FloatArray
    gain_s: FloatArray
    across_s: FloatArray
    levels: FloatArray


class Span(NamedTuple):
    """Where the n cells of a shot begin in the vectors of `Cells`: offsets, not views, which cost 20 ns each."""

    n: int
    cell: int
    base: int
    gain: int
    cross: int


class Room(NamedTuple):
    """Scratch vectors of one call."""

    words: NDArray[np.uint64]
    z: FloatArray
    change: FloatArray


@compiled(inline="always")
def level(u: float, levels: Any) -> Any:  # pragma: no cover
    """L(u): the state itself, or the literal level of that index."""
    return levels[np.int64(u)] if levels.size else u


@compiled
def conductances(u: Any, base_s: Any, gain_s: Any, levels: Any, out: Any, row_s: Any) -> None:  # pragma: no cover
    """Conductance of every cell into out[rows, cols], and its sums over each row into row_s[rows]."""
    rows, cols = out.shape
    stride_b, stride_g = np.int64(base_s.size > 1), np.int64(gain_s.size > 1)
    for i in range(rows):
        row = out[i]
        for j in range(cols):
            c = np.uint64(i * cols + j)
            row[np.uint64(j)] = base_s[c * np.uint64(stride_b)] + gain_s[c * np.uint64(stride_g)] * level(u[c], levels)
        row_s[i] = _sum(row, 0, cols)


@compiled
def _draw(
    c: Cells, s: Span, first: int, stride: int, cross: Any, lo: int, k0: Any, k1: Any, room: Room
) -> None:  # pragma: no cover
    """Step noise of the next pulse of each selected cell, keyed by (cell, pulses that it has had)."""
    words, z, pulses = room.words, room.z, c.pulses
    for q in range(s.n):
        cell = np.uint64(first + cross[np.uint64(lo + q)] * stride)
        words[np.uint64(q)] = bits(k0, k1, (np.uint64(pulses[np.uint64(s.cell + q)]) << _S32) | cell)
    for q in range(s.n):
        z[np.uint64(q)] = normal(words[np.uint64(q)])


@compiled
def _changes(u: Any, offset: int, n: int, t: Table, room: Room) -> None:  # pragma: no cover
    """delta(u) + sigma(u) z of each selected cell; written so that the compiler turns each loop into gathers."""
    low, per_u, hops, noisy = t.pieces[HEAD, 0], t.pieces[HEAD, 1], int(t.pieces[HEAD, 2]), t.pieces[HEAD, 3] > 0
    delta, slope, nxt, buckets = t.pieces[DELTA], t.pieces[SLOPE], t.pieces[NEXT], t.buckets
    sigma, sigma_slope, z, out, at = t.pieces[SIGMA], t.pieces[SIGMA_SLOPE], room.z, room.change, room.words
    last = np.int32(buckets.size - 1)
    simple = hops == 1 and not noisy
    for q in range(n):
        i, x = np.uint64(q), u[np.uint64(offset + q)]
        b = min(max(np.int32((x - low) * per_u), np.int32(0)), last)
        start = np.uint64(buckets[np.uint64(b)])
        p = start + np.uint64(x >= nxt[start])
        if simple:
            out[i] = delta[p] + x * slope[p]
        else:
            at[i] = p
    if simple:
        return
    for _ in range(hops - 1):
        for q in range(n):
            i = np.uint64(q)
            at[i] += np.uint64(u[np.uint64(offset + q)] >= nxt[at[i]])
    for q in range(n):
        i, x = np.uint64(q), u[np.uint64(offset + q)]
        p = at[i]
        out[i] = delta[p] + x * slope[p] + (z[i] * (sigma[p] + x * sigma_slope[p]) if noisy else 0.0)


@compiled
def _commit(c: Cells, s: Span, change: Any, u_min: float, u_max: float) -> None:  # pragma: no cover
    """Move the states, count the pulses, add to the crossing lines' sums; leaves siemens moved in `change`."""
    u, step, gain, across_s, pulses, levels = c.u, c.step, c.gain_s, c.across_s, c.pulses, c.levels
    if levels.size:
        for q in range(s.n):
            before = u[s.cell + q]
            u[s.cell + q] = min(max(before + step[s.cell + q] * change[q], u_min), u_max)
            change[q] = gain[s.gain + q] * (levels[np.int64(u[s.cell + q])] - levels[np.int64(before)])
            across_s[s.cross + q] += change[q]
    else:
        for q in range(s.n):
            i, at = np.uint64(q), np.uint64(s.cell + q)
            before = u[at]
            after = min(max(before + step[at] * change[i], u_min), u_max)
            u[at] = after
            moved = gain[np.uint64(s.gain + q)] * (after - before)
            change[i] = moved
            across_s[np.uint64(s.cross + q)] += moved
    for q in range(s.n):
        pulses[np.uint64(s.cell + q)] += np.uint32(1)


@compiled(fastmath={"reassoc", "nsz", "contract"})
def _sum(values: Any, offset: int, n: int) -> float:  # pragma: no cover
    total = 0.0
    for q in range(n):
        total += values[np.uint64(offset + q)]
    return total


@compiled
def _selected_s(c: Cells, s: Span) -> float:  # pragma: no cover
    total = 0.0
    for q in range(s.n):
        total += c.base_s[s.base + q] + c.gain_s[s.gain + q] * level(c.u[s.cell + q], c.levels)
    return total


@compiled
def _shot(
    c: Cells, s: Span, repeat: int, t: Table, first: int, stride: int, cross: Any, lo: int, k0: Any, k1: Any,
    u_min: float, u_max: float, metered: bool, whole: bool, own_s: float, total_s: float, joule: Any, side: int,
    room: Room,
) -> tuple[float, float]:  # pragma: no cover  # fmt: skip
    """All pulses of one shot: their energy in J, and by how much the line's summed conductance (own_s) moved."""
    energy, moved = 0.0, 0.0
    for _ in range(repeat):
        if metered:
            own = own_s + moved
            selected = own if whole else _selected_s(c, s)
            across = total_s + moved if whole else _sum(c.across_s, s.cross, s.n)
            energy += selected * joule[side, 0] + (own - selected) * joule[side, 1]
            energy += (across - selected) * joule[side, 2] + (total_s + moved - own - across + selected) * joule[
                side, 3
            ]
        if t.pieces[HEAD, 3] > 0:
            _draw(c, s, first, stride, cross, lo, k0, k1, room)
        _changes(c.u, s.cell, s.n, t, room)
        _commit(c, s, room.change, u_min, u_max)
        if metered:
            moved += _sum(room.change, 0, s.n)
    return energy, moved


@compiled
def _widest(indptr: Any) -> int:  # pragma: no cover
    n = 0
    for k in range(indptr.size - 1):
        n = max(n, indptr[k + 1] - indptr[k])
    return n


@compiled
def fire(
    u: Any, pulses: Any, step: Any, base_s: Any, gain_s: Any, levels: Any, u_min: float, u_max: float,
    line_stride: int, cross_stride: int, line: Any, indptr: Any, cross: Any, sign: Any, repeat: Any,
    up: Any, up_buckets: Any, down: Any, down_buckets: Any, k0: int, k1: int,
    metered: bool, joule: Any, line_s: Any, cross_s: Any,
) -> tuple[float, int, int]:  # pragma: no cover  # fmt: skip
    """Fire shots in order; gives the energy in J (0 unless metered), pulses on cells, and pulses one after another.

    u, pulses, step: see Cells, for the whole array; base_s, gain_s: the same, or one entry if all are equal.
    joule[2, 4]: joule per siemens of one pulse, by sign (potentiate, depress) and by where a cell stands: selected, on
    the selected line, on a line across, on neither. line_s, cross_s: summed conductance per line, kept up to date.
    """
    n_max, total_s = _widest(indptr), _sum(line_s, 0, line_s.size)
    room = Room(np.empty(n_max, np.uint64), np.empty(n_max), np.empty(n_max))
    base = base_s if base_s.size > 1 else np.full(n_max, base_s[0])
    gain = gain_s if gain_s.size > 1 else np.full(n_max, gain_s[0])
    there = Cells(u, pulses, step, base, gain, cross_s, levels)
    here = Cells(
        np.empty(n_max), np.empty(n_max, np.uint32), np.empty(n_max, np.float32), np.empty(n_max), np.empty(n_max),
        np.empty(n_max), levels,
    )  # fmt: skip
    energy, done, slots = 0.0, 0, 0
    for k in range(line.size):
        lo, n = indptr[k], indptr[k + 1] - indptr[k]
        if n == 0:
            continue
        first, side = line[k] * line_stride, 0 if sign[k] > 0 else 1
        t = Table(up, up_buckets) if side == 0 else Table(down, down_buckets)
        whole, own_s = n == cross_s.size, line_s[line[k]]
        if cross_stride == 1 and cross[lo + n - 1] - cross[lo] == n - 1:
            at = first + cross[lo]
            span = Span(n, at, at if base_s.size > 1 else 0, at if gain_s.size > 1 else 0, cross[lo])
            used, moved = _shot(
                there, span, repeat[k], t, first, cross_stride, cross, lo, np.uint64(k0), np.uint64(k1), u_min, u_max,
                metered, whole, own_s, total_s, joule, side, room,
            )  # fmt: skip
        else:
            _gather(there, here, base_s.size > 1, gain_s.size > 1, first, cross_stride, cross, lo, n)
            used, moved = _shot(
                here, Span(n, 0, 0, 0, 0), repeat[k], t, first, cross_stride, cross, lo, np.uint64(k0), np.uint64(k1),
                u_min, u_max, metered, whole, own_s, total_s, joule, side, room,
            )  # fmt: skip
            _scatter(here, there, first, cross_stride, cross, lo, n)
        energy += used
        line_s[line[k]] += moved
        total_s += moved
        done += n * repeat[k]
        slots += repeat[k]
    return energy, done, slots


@compiled
def _gather(
    there: Cells, here: Cells, many_base: bool, many_gain: bool, first: int, stride: int, cross: Any, lo: int, n: int
) -> None:  # pragma: no cover
    """Copy the cells of a shot that do not lie side by side together."""
    for q in range(n):
        x = cross[lo + q]
        at = first + x * stride
        here.u[q], here.pulses[q], here.step[q], here.across_s[q] = (
            there.u[at], there.pulses[at], there.step[at], there.across_s[x],
        )  # fmt: skip
        here.base_s[q], here.gain_s[q] = there.base_s[at if many_base else 0], there.gain_s[at if many_gain else 0]


@compiled
def _scatter(
    here: Cells, there: Cells, first: int, stride: int, cross: Any, lo: int, n: int
) -> None:  # pragma: no cover
    for q in range(n):
        x = cross[lo + q]
        at = first + x * stride
        there.u[at], there.pulses[at], there.across_s[x] = here.u[q], here.pulses[q], here.across_s[q]


@compiled
def _one(
    u: Any, at: int, count: Any, t: Table, step: float, k0: Any, k1: Any, lo: float, hi: float
) -> None:  # pragma: no cover
    """Pulse one cell of the whole array in place, with the noise of its `count`."""
    z = 0.0
    if t.pieces[HEAD, 3] > 0:
        z = normal(bits(k0, k1, (np.uint64(count[at]) << _S32) | np.uint64(at)))
    u[at] = pulse_cell(u[at], t, step, z, lo, hi)
    count[at] += np.uint32(1)


@compiled
def _joules(
    u: Any, base_s: Any, gain_s: Any, levels: Any, rows: int, line_stride: int, cross_stride: int, line: int, hit: Any,
    joule: Any,
) -> float:  # pragma: no cover  # fmt: skip
    """Energy of one pulse, every cell at its own place, from the states before it."""
    energy = 0.0
    for i in range(rows):
        for x in range(hit.size):
            at = i * line_stride + x * cross_stride
            g = base_s[at if base_s.size > 1 else 0] + gain_s[at if gain_s.size > 1 else 0] * level(u[at], levels)
            energy += g * joule[(0 if hit[x] else 1) if i == line else (2 if hit[x] else 3)]
    return energy


@compiled
def fire_disturbing(
    u: Any, pulses: Any, disturbs: Any, step: Any, base_s: Any, gain_s: Any, levels: Any, bounds: tuple[float, float],
    lines: int, line_stride: int, cross_stride: int, line: Any, indptr: Any, cross: Any, sign: Any, repeat: Any,
    tables: Any, active: Any, pulse_key: Any, disturb_key: Any, metered: bool, joule: Any, crosses: int,
) -> tuple[float, int, int]:  # pragma: no cover  # fmt: skip
    """`fire` where unselected cells feel something too: every pulse visits every cell that sees a volt, in order.

    tables[4 * sign + place], active[2, 4]: the response at that place (0 selected, 1 on the line, 2 across, 3 neither).
    Exact, and so the cost of a full batch grows with cells x lines.
    """
    ka, kb = np.uint64(pulse_key[0]), np.uint64(pulse_key[1])
    da, db = np.uint64(disturb_key[0]), np.uint64(disturb_key[1])
    energy, done, slots = 0.0, 0, 0
    hit = np.zeros(crosses, np.bool_)
    for k in range(line.size):
        hit[:] = False
        hit[cross[indptr[k] : indptr[k + 1]]] = True
        side = 0 if sign[k] > 0 else 1
        for _ in range(repeat[k]):
            if metered:
                energy += _joules(
                    u, base_s, gain_s, levels, lines, line_stride, cross_stride, line[k], hit, joule[side]
                )
            for i in range(lines):
                own = i == line[k]
                if not own and not active[side, 2] and not active[side, 3]:
                    continue
                for x in range(crosses):
                    place = (0 if hit[x] else 1) if own else (2 if hit[x] else 3)
                    at = i * line_stride + x * cross_stride
                    if place == 0:
                        _one(u, at, pulses, tables[4 * side], step[at], ka, kb, bounds[0], bounds[1])
                    elif active[side, place]:
                        _one(u, at, disturbs, tables[4 * side + place], step[at], da, db, bounds[0], bounds[1])
        done += (indptr[k + 1] - indptr[k]) * repeat[k]
        slots += repeat[k]
    return energy, done, slots


@compiled
def sums(u: Any, base_s: Any, gain_s: Any, levels: Any, row_s: Any, col_s: Any) -> None:  # pragma: no cover
    """Summed conductance of every row and every column."""
    col_s[:] = 0.0
    line = np.empty(col_s.size)
    stride_b, stride_g = np.int64(base_s.size > 1), np.int64(gain_s.size > 1)
    for i in range(row_s.size):
        for j in range(col_s.size):
            c = i * col_s.size + j
            line[j] = base_s[c * stride_b] + gain_s[c * stride_g] * level(u[c], levels)
        row_s[i] = _sum(line, 0, line.size)
        for j in range(col_s.size):
            col_s[j] += line[j]


@compiled
def convert(values: Any, offset: float, lsb: float, limit: float) -> bool:  # pragma: no cover
    """Offset, rounding to whole steps of `lsb` (0: none) and clipping at +-limit, in place; True if one was clipped."""
    over = 0
    inverse = 1.0 / lsb if lsb > 0 else 0.0
    for q in range(values.size):
        i = np.uint64(q)
        x = values[i] + offset
        over += (x > limit) | (x < -limit)
        x = min(max(x, -limit), limit)
        values[i] = np.floor(x * inverse + 0.5) * lsb if lsb > 0 else x
    return over > 0


@compiled
def add_noise(
    currents: Any, volts: Any, sigma2: float, variance: Any, k0: int, k1: int, index: int
) -> float:  # pragma: no cover
    """Add noise to currents[p, n, outputs], of variance sigma2 sum(volts^2) + variance[n, outputs]; gives its mean."""
    a, b = operation(k0, k1, index)
    polarities, n, outputs = currents.shape
    mean = 0.0
    for s in range(n):
        shared = sigma2 * _dot(volts[s], volts[s])
        for p in range(polarities):
            row, at = currents[p, s], (p * n + s) * outputs
            if variance.size:
                for o in range(outputs):
                    total = shared + variance[s, o]
                    row[o] += np.sqrt(total) * normal(bits(a, b, np.uint64(at + o)))
                    mean += total
            else:
                sigma = np.sqrt(shared)
                for o in range(outputs):
                    row[np.uint64(o)] += sigma * normal(bits(a, b, np.uint64(at + o)))
                mean += shared * outputs
    return float(mean / max(currents.size, 1))


@compiled(fastmath={"reassoc", "nsz", "contract"})
def _dot(x: Any, y: Any) -> Any:  # pragma: no cover
    total = 0.0
    for q in range(x.size):
        total += x[np.uint64(q)] * y[np.uint64(q)]
    return total


@compiled(fastmath={"reassoc", "nsz", "contract"})
def read_power(volts: Any, line_s: Any) -> float:  # pragma: no cover
    """Sum over all vectors of the power in watt: volts[n, inputs]^2 @ line_s[inputs]."""
    total = 0.0
    for s in range(volts.shape[0]):
        for q in range(volts.shape[1]):
            total += volts[s, np.uint64(q)] * volts[s, np.uint64(q)] * line_s[np.uint64(q)]
    return total


@compiled
def read_cells(
    mask: Any, g: Any, row_s: Any, ohm: float, volts: float, sigma2: float, relative2: float, k0: int, k1: int,
    index: int, out: Any,
) -> tuple[float, float]:  # pragma: no cover  # fmt: skip
    """Currents of single cells, out[p, cells] in row-major order of mask; gives mean variance and summed power in W.

    One row is driven through `ohm`, all columns are at 0 V: V_row = V / (1 + ohm row_s). Noise is keyed by the cell
    and the polarity.
    """
    a, b = operation(k0, k1, index)
    rows, cols = mask.shape
    at, mean, power = 0, 0.0, 0.0
    for i in range(rows):
        v = volts / (1.0 + ohm * row_s[i])
        for j in range(cols):
            if not mask[i, j]:
                continue
            variance = v * v * (sigma2 + relative2 * g[i, j] * g[i, j])
            sigma = np.sqrt(variance)
            for p in range(out.shape[0]):
                out[p, at] = (v if p == 0 else -v) * g[i, j]
                if sigma > 0:
                    out[p, at] += sigma * normal(bits(a, b, np.uint64(2 * (i * cols + j) + p)))
            mean += variance
            power += v * v * row_s[i]
            at += 1
    return mean / at, power


@compiled
def pulse_list(
    u: Any, count: Any, step: Any, u_min: float, u_max: float, cells: Any, pieces: Any, buckets: Any, k0: int, k1: int
) -> None:  # pragma: no cover
    """One pulse on each cell of a list, noise keyed by `count`."""
    a, b, t = np.uint64(k0), np.uint64(k1), Table(pieces, buckets)
    for at in cells:
        _one(u, at, count, t, step[at], a, b, u_min, u_max)


class LoopDevice(NamedTuple):
    """The devices of a chip for a compiled loop: live arrays, flat and row-major; base_s and gain_s may have one entry.

    up, down: tables of the potentiating and the depressing pulse; selected_s[2]: conductances at which pulses of each
    sign were fired, summed (times joule per siemens it is their energy). linear: a pulse of a part of the width does
    that part, whatever the state.
    """

    shape: tuple[int, int]
    u: FloatArray
    pulses: NDArray[np.uint32]
    step: NDArray[np.float32]
    base_s: FloatArray
    gain_s: FloatArray
    levels: FloatArray
    up: Table
    down: Table
    k0: int
    k1: int
    u_min: float
    u_max: float
    selected_s: FloatArray
    linear: bool = False


@compiled
def cell_s(d: LoopDevice, cell: int) -> Any:  # pragma: no cover
    """Conductance of one cell in siemens."""
    c = np.uint64(cell)
    base_s = d.base_s[c] if d.base_s.size > 1 else d.base_s[0]
    gain_s = d.gain_s[c] if d.gain_s.size > 1 else d.gain_s[0]
    return base_s + gain_s * level(d.u[c], d.levels)


@compiled
def pulse_at(d: LoopDevice, cell: int, sign: int) -> Any:  # pragma: no cover
    """One pulse on one cell (flat index), sign +1 potentiates, -1 depresses; gives its new conductance."""
    d.selected_s[0 if sign > 0 else 1] += cell_s(d, cell)
    _one(
        d.u,
        cell,
        d.pulses,
        d.up if sign > 0 else d.down,
        d.step[cell],
        np.uint64(d.k0),
        np.uint64(d.k1),
        d.u_min,
        d.u_max,
    )
    return cell_s(d, cell)
