"""From sources and wires to the voltage at every cell: which nets there are, and what stands on them.

A net is all that metal joins: chip lines, rows and columns of the matrix, cables. A closed relay has no resistance.
Each source is ideal behind a resistance and holds its voltage up to a current limit; beyond it, it is a current source.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import copysign, inf, nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurobench.physics.circuit import Law, Nets, solve_nets, tabulated_law
from neurobench.physics.stress import reading_level_v

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray, IndexArray
    from neurobench.physics.chip import Chip

# Two ideal sources of different volts on one net fight through this: a rule of the simulation, about a contact.
CONTACT_OHM = 1e-3
ROUNDING = 1e-9
KEPT_LAWS = 64
KEPT_FACTORS = 1 << 20
NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Source:
    """An ideal voltage behind `ohm`, good for `limit_a` amperes of either sign."""

    volts: float
    ohm: float = 0.0
    limit_a: float = inf


class Wires:
    """Nodes and what joins them. Nodes 0 .. lines - 1 are the chip's lines: rows, then columns."""

    def __init__(self, lines: int) -> None:
        self.lines = lines
        self._soldered = list(range(lines))  # a node of the same net, the net's first in the end
        self._joined: set[tuple[int, int]] = set()
        self._nets: IndexArray | None = None
        self.zeros = np.zeros(lines)  # one for every node

    def node(self) -> int:
        """A new node."""
        self._soldered.append(len(self._soldered))
        self._nets, self.zeros = None, np.zeros(len(self._soldered))
        return len(self._soldered) - 1

    def solder(self, a: int, b: int) -> None:
        """Connect two nodes for good."""
        _merge(self._soldered, a, b)
        self._nets = None

    def join(self, a: int, b: int) -> None:
        """Connect two nodes."""
        self._joined.add((a, b))
        self._nets = None

    def part(self, a: int, b: int) -> None:
        """Disconnect two nodes that were joined."""
        self._joined.discard((a, b))
        self._nets = None

    @property
    def nets(self) -> IndexArray:
        """Net of every node, named by its first node."""
        if self._nets is None:
            first = self._soldered.copy()
            for a, b in self._joined:
                _merge(first, a, b)
            nets = np.array(first, np.int32)
            while not np.array_equal(nets, above := nets[nets]):
                nets = above
            self._nets = nets
        return self._nets


def _merge(first: list[int], a: int, b: int) -> None:
    while first[a] != a:
        a = first[a]
    while first[b] != b:
        b = first[b]
    first[max(a, b)] = min(a, b)


class Standing(NamedTuple):
    """What stands now: voltage of every net and cell [rows, cols], currents of the cells, current out of every source
    (in the order given), which sources limit, which fight another on their net, and whether a circuit was solved."""

    net_v: FloatArray
    cell_v: FloatArray
    cell_a: FloatArray
    source_a: tuple[float, ...]
    limited: frozenset[int]
    fighting: frozenset[int]
    solved: bool


class _Attempt(NamedTuple):
    """What is on every net if the sources in `pushed` [source: sign] limit: volts behind link_s (inf: held, by
    so many sources), and pushed current."""

    volts: FloatArray
    link_s: FloatArray
    push_a: FloatArray
    holders: FloatArray
    ohms: tuple[float, ...]
    fighting: frozenset[int]


class Network:
    """The chip's array with sources on its nets."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._laws: dict[float, Law] = {}
        self._reading_v = reading_level_v(chip.model)
        self._kept: dict[tuple[bytes, int], FloatArray] = {}
        self._lawful = chip.model.write_current_factor(chip.model.card.read.voltage_v) is not None

    @property
    def knows_current(self) -> bool:
        """Whether the device's current while writing is known; else cells are ohmic, and energies unknown."""
        return self._lawful

    def stand(self, nets: IndexArray, at: tuple[int, ...], sources: tuple[Source, ...]) -> Standing:
        """Voltages and currents with source k on net at[k]: sources over their limit become current sources."""
        simple = self._simple(nets, at, sources)
        if simple is not None:
            return simple
        pushed: dict[int, int] = {}
        left = 4 * len(sources) + 4
        while True:
            attempt = _attempt(len(nets), at, sources, pushed)
            standing = self._solved(nets, at, sources, pushed, attempt)
            left -= 1
            if left == 0 or not _moved(standing, at, sources, pushed):
                return standing

    def _simple(self, nets: IndexArray, at: tuple[int, ...], sources: tuple[Source, ...]) -> Standing | None:
        """The common case: an ideal source on every line's net, none over its limit. None: it is another case."""
        lines = nets[: sum(self._chip.shape)]
        if len(set(at)) < len(at) or any(s.ohm for s in sources) or not set(lines.tolist()) <= set(at):
            return None
        net_v = np.zeros(len(nets))
        net_v[list(at)] = [s.volts for s in sources]
        cell_v, cell_a = self._direct(net_v[lines])
        net_a = np.bincount(lines, np.concatenate([cell_a.sum(axis=1), -cell_a.sum(axis=0)]), len(nets))
        source_a = tuple(net_a[list(at)].tolist())
        if any(abs(i) > s.limit_a for i, s in zip(source_a, sources, strict=True)):
            return None
        return Standing(net_v, cell_v, cell_a, source_a, NOBODY, NOBODY, False)

    def _solved(
        self, nets: IndexArray, at: tuple[int, ...], sources: tuple[Source, ...], pushed: dict[int, int], a: _Attempt
    ) -> Standing:
        lines = nets[: sum(self._chip.shape)]
        held = bool(np.isinf(a.link_s[lines]).all())
        # Open-circuit voltage of every net; where nothing but a current is pushed there is no way for it to flow.
        loose = a.volts + np.divide(a.push_a, a.link_s, out=np.zeros_like(a.volts), where=a.link_s > 0)
        net_v = loose
        if held:
            cell_v, cell_a = self._direct(net_v[lines])
        else:
            volts = [0.0, *(s.volts for s in sources)]
            net_v, cell_v, cell_a = self._nodal(lines, a, net_v, max(volts) - min(volts))
        line_a = np.concatenate([cell_a.sum(axis=1), -cell_a.sum(axis=0)])
        net_a = np.bincount(lines, line_a, len(net_v)).astype(np.float64)
        source_a = _source_currents(at, sources, pushed, a, net_v, net_a)
        return Standing(net_v, cell_v, cell_a, source_a, frozenset(pushed), a.fighting, not held)

    def _direct(self, line_v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Every line is held: no circuit to solve."""
        rows = self._chip.shape[0]
        cell_v: FloatArray = line_v[:rows, None] - line_v[None, rows:]
        cell_a: FloatArray = self._chip.conductance_s() * cell_v
        if self._lawful:
            cell_a *= self._factors(line_v, cell_v)
        return cell_v, cell_a

    def _factors(self, line_v: FloatArray, cell_v: FloatArray) -> FloatArray:
        """I / (G V) of every cell; a bench comes back to the same few voltages, and asking the model takes time."""
        key = (line_v.tobytes(), int(self._chip.devices.shorted.sum()))
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) * cell_v.size >= KEPT_FACTORS:
                self._kept.clear()
            found = self._kept[key] = self._asked(cell_v)
        return found

    def _asked(self, cell_v: FloatArray) -> FloatArray:
        model = self._chip.model
        seen, which = np.unique(np.abs(cell_v), return_inverse=True)
        # A read sees the conductance itself, at any voltage up to a reading level, as on the emulator.
        each = [1.0 if v <= self._reading_v else _known(model.write_current_factor(v)) for v in seen.tolist()]
        factors = np.array(each)[which.reshape(cell_v.shape)]
        shorted = self._chip.devices.shorted
        found: FloatArray = np.where(shorted.reshape(cell_v.shape), 1.0, factors) if shorted.any() else factors
        return found

    def _nodal(
        self, lines: IndexArray, a: _Attempt, net_v: FloatArray, span_v: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Some lines float or hang on a resistance: solve the nets that the chip is on."""
        used, node = np.unique(lines, return_inverse=True)
        net_v = net_v.copy()
        if not (a.link_s[used] > 0).any():  # nothing drives the chip: all of it floats at 0 V
            net_v[used] = 0.0
            return net_v, np.zeros(self._chip.shape), np.zeros(self._chip.shape)
        law = self._law(span_v) if self._lawful and span_v > self._reading_v else None
        nets = Nets(node.astype(np.int32), a.volts[used], a.link_s[used], a.push_a[used])
        solution = solve_nets(nets, self._chip.conductance_s(), law)
        net_v[used] = solution.net_v
        return net_v, solution.cell_v, solution.cell_a

    def _law(self, span_v: float) -> Law | None:
        if span_v == 0:
            return None
        found = self._laws.get(span_v)
        if found is None:
            if len(self._laws) >= KEPT_LAWS:
                self._laws.clear()
            model = self._chip.model
            found = self._laws[span_v] = tabulated_law(lambda v: _known(model.write_current_factor(v)), span_v)
        shorted = self._chip.devices.shorted
        return Law(found.factor, found.slope, shorted.reshape(self._chip.shape)) if shorted.any() else found


def _known(factor: float | None) -> float:
    return nan if factor is None else factor


def _attempt(n: int, at: tuple[int, ...], sources: tuple[Source, ...], pushed: dict[int, int]) -> _Attempt:
    volts, link_s, push_a, holders = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    ohms = [s.ohm for s in sources]
    fighting = set()
    for k, s in enumerate(sources):
        if k in pushed or s.ohm:
            continue
        rivals = [j for j, o in enumerate(sources) if j != k and at[j] == at[k] and not o.ohm and j not in pushed]
        if any(sources[j].volts != s.volts for j in rivals):
            ohms[k] = CONTACT_OHM
            fighting.add(k)
    for k, (net, s) in enumerate(zip(at, sources, strict=True)):
        if k in pushed:
            push_a[net] += copysign(s.limit_a, pushed[k])
        elif ohms[k]:
            push_a[net] += s.volts / ohms[k]
            link_s[net] += 1 / ohms[k]
        else:
            volts[net], holders[net] = s.volts, holders[net] + 1
    link_s[holders > 0] = inf
    return _Attempt(volts, link_s, push_a, holders, tuple(ohms), frozenset(fighting))


def _source_currents(
    at: tuple[int, ...], sources: tuple[Source, ...], pushed: dict[int, int], a: _Attempt, net_v: FloatArray,
    net_a: FloatArray,
) -> tuple[float, ...]:  # fmt: skip
    """Current out of every source. Sources that hold one net together share what the others do not deliver."""
    found = [0.0] * len(sources)
    left = net_a.copy()
    for k, (net, s) in enumerate(zip(at, sources, strict=True)):
        if k in pushed:
            found[k] = copysign(s.limit_a, pushed[k])
        elif a.ohms[k]:
            found[k] = (s.volts - net_v[net]) / a.ohms[k]
        left[net] -= found[k]
    for k, net in enumerate(at):
        if k not in pushed and not a.ohms[k]:
            found[k] = float(left[net] / a.holders[net])
    return tuple(found)


def _moved(standing: Standing, at: tuple[int, ...], sources: tuple[Source, ...], pushed: dict[int, int]) -> bool:
    """Let one source begin or end to limit, if one must: changes `pushed`."""
    for k, sign in pushed.items():
        slack = sign * (float(standing.net_v[at[k]]) - sources[k].volts)
        if slack > ROUNDING * max(abs(sources[k].volts), 1.0):  # it would have to push beyond its own voltage
            del pushed[k]
            return True
    over = [
        (abs(i) / s.limit_a if s.limit_a else inf, k)
        for k, (i, s) in enumerate(zip(standing.source_a, sources, strict=True))
        if k not in pushed and abs(i) > s.limit_a * (1 + ROUNDING)
    ]
    if not over:
        return False
    worst = max(over)[1]
    pushed[worst] = 1 if standing.source_a[worst] > 0 else -1
    return True
