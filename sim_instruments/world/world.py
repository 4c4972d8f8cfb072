"""The bench behind the simulated instruments: terminals, relays, time, and what all of that does to one chip.

Between two events all voltages are constant. Whenever they have changed and time moves on, the time before is closed
as one exposure: the chip feels it by the rules of `neurobench.physics.stress`, and is kept in its file before anybody
hears an answer. The same pulses on the same chip give the same states as on the emulator, bit for bit.

Rules of this simulation, which are no measurements:
- A relay that closes or opens while more than a reading level stands across it bounces: for BOUNCE_S the cells on the
  line behind it see BOUNCE times that voltage.
- The cable of a terminal that is released at a voltage keeps it, with CABLE_DECAY_S. If it meets a line of the chip
  that nothing drives, its charge flows through the cells: a rectangular pulse of that voltage for C / G.
- An exposure ends with the conductances it began with; then all its cells move at once.
- Edges are no levels: an instrument steps to the top of its pulse and back.
"""

from __future__ import annotations

from collections import deque
from math import exp, isnan, nan, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurobench.physics.noise import Stream, fill_normals, key
from neurobench.physics.readout import Readout
from neurobench.physics.stress import Stress

from .board import Relays, Terminal
from .clock import PS_PER_S, Timeline
from .network import NOBODY, Network, Source, Standing, Wires

__all__ = ["Damage", "Exposure", "Mishap", "Relays", "Terminal", "World"]

if TYPE_CHECKING:
    from pathlib import Path

    from neurobench.bench.stimulus import FloatArray, IndexArray
    from neurobench.physics.chip import Chip

BOUNCE = 1.5
BOUNCE_S = 1e-6
CABLE_DECAY_S = 10.0
CABLE_F = 1e-10
EMPTY_V = 1e-3
KEPT_EXPOSURES = 65536


class Exposure(NamedTuple):
    """One time in which cells saw more than a reading level: when, for how long, the largest |V|, the flat indices of
    the cells that had a pulse of their own, and the energy in joule (nan: the device's current is not known)."""

    start_s: float
    seconds: float
    peak_v: float
    pulsed: IndexArray
    energy_j: float


class Damage(NamedTuple):
    """A cell (row, column) that became a short: when, at what voltage after what time, and why."""

    time_s: float
    cell: tuple[int, int]
    volts: float
    seconds: float
    why: str


class Mishap(NamedTuple):
    """Something that no careful operator does: a relay that switched hot, sources against each other."""

    time_s: float
    what: str


class _Segment(NamedTuple):
    """A time of constant voltages: since when, and whether some cell sees more than a reading level."""

    start_ps: int
    standing: Standing
    loud: bool


class World(Timeline):
    """See the module. Whoever calls holds `lock`; giving it back settles what happened and keeps the chip.

    potentiating_sign: of V_row - V_col; file: where the chip is kept; wall: time follows the computer's clock;
    source_ohm: resistance that a generator of this bench has in its output.
    """

    def __init__(
        self, chip: Chip, readout: Readout | None = None, *, potentiating_sign: int = 1, file: Path | None = None,
        wall: bool = False, source_ohm: float = 0.0, cable_f: float = CABLE_F,
    ) -> None:  # fmt: skip
        super().__init__(wall=wall)
        self.source_ohm, self.readout = source_ohm, readout or Readout()
        self._chip, self._file, self._cable_f = chip, file, cable_f
        self._stress, self._network = Stress(chip, potentiating_sign), Network(chip)
        self._wires = Wires(sum(chip.shape))
        self._relays: Relays | None = None
        self._terminals: dict[str, Terminal] = {}
        self._driving: list[Terminal] = []  # those that have a source
        self._live = False  # whether one of them has a voltage
        self._charges: dict[int, tuple[float, int]] = {}  # node of a released cable: its voltage, and when
        self._read_key, self._chip_began_s = key(chip.seed, Stream.READ), chip.counters.clock_s
        self._ledger: deque[Exposure] = deque(maxlen=KEPT_EXPOSURES)
        self._damage: list[Damage] = []
        self._mishaps: list[Mishap] = []
        self._energy_j, self._unknown = 0.0, 0
        self._unsaved, self._changed = False, False
        self._quiet = np.zeros(chip.shape)
        self._segment = _Segment(0, self._stand(), False)

    # -- how it is wired -------------------------------------------------------------------------------------------

    def terminal(self, name: str) -> Terminal:
        """The terminal of that name, such as `smu.1` or `pulse.2`; made on first use, wired to nothing."""
        found = self._terminals.get(name)
        if found is None:
            found = self._terminals[name] = Terminal(self, name, self._wires.node())
        return found

    def relays(self, rows: int, columns: int) -> Relays:
        """The one matrix of the bench, made on first use. Raises ValueError if there is one of another size."""
        if self._relays is None:
            made = [self._wires.node() for _ in range(rows + columns)]
            self._relays = Relays(self, made[:rows], made[rows:])
        if self._relays.shape != (rows, columns):
            raise ValueError(f"the matrix of this bench is {self._relays.shape}, asked for {(rows, columns)}")
        return self._relays

    @property
    def shape(self) -> tuple[int, int]:
        """Word lines and bit lines of the chip."""
        return self._chip.shape

    def line(self, axis: int, index: int) -> int:
        """Node of word line (axis 0) or bit line (axis 1) number `index`, counted from 0."""
        if not 0 <= index < self._chip.shape[axis]:
            raise IndexError(f"line {index} of a chip of {self._chip.shape}")
        return index + (self._chip.shape[0] if axis else 0)

    @property
    def matrix(self) -> Relays | None:
        """The matrix of the bench, None if there is none."""
        return self._relays

    def wire(self, a: int, b: int) -> None:
        """Join two nodes for good."""
        self._wires.solder(a, b)
        self._changed = True

    def join(self, a: int, b: int) -> None:
        """A relay between two nodes closes, whatever the voltages. Called by `Relays`; `b` is the chip's side."""
        if self._cold:
            self._wires.join(a, b)
        else:
            across_v, behind = self.voltage_v(a) - self.voltage_v(b), self._lines_with(b)
            self._wires.join(a, b)
            self._switched(across_v, behind, "closed")
        self._changed = True

    def part(self, a: int, b: int) -> None:
        """A relay between two nodes opens, whatever the voltages. Called by `Relays`; `b` is the chip's side."""
        if not self._cold:
            self._update()
        self._wires.part(a, b)
        self._changed = True
        if not self._cold:
            self._switched(self.voltage_v(a) - self.voltage_v(b), self._lines_with(b), "opened")

    def set_source(self, terminal: Terminal, source: Source | None) -> None:
        """Put a source on a terminal, or take it off. Called by the terminal."""
        if source == terminal.source:
            return
        if source is None and self._cable_f and not self._cold:
            volts = self.voltage_v(terminal.node)
            if abs(volts) > EMPTY_V:
                self._charges[terminal.node] = volts, self.now_ps
        terminal.source = source
        self._driving = [t for t in self._terminals.values() if t.source is not None]
        self._live = any(t.volts for t in self._driving)
        self._changed = True

    # -- what stands now -------------------------------------------------------------------------------------------

    def voltage_v(self, node: int) -> float:
        """Voltage of a node now, in volts."""
        self._update()
        charge = self._charge_v(node)
        return float(self._segment.standing.net_v[self._wires.nets[node]]) if charge is None else charge

    def current_a(self, terminal: Terminal) -> float:
        """True current out of a terminal now, in amperes."""
        self._update()
        driving = self._driving
        if terminal not in driving:
            return 0.0
        return self._segment.standing.source_a[driving.index(terminal)]

    def limited(self, terminal: Terminal) -> bool:
        """Whether a terminal cannot hold its voltage now."""
        self._update()
        driving, standing = self._driving, self._segment.standing
        return terminal in driving and driving.index(terminal) in standing.limited | standing.fighting

    def measured_a(self, terminal: Terminal, averages: int) -> float:
        """See `Terminal.measure_a`. A current limit has no noise of the devices in it."""
        current_a = self.current_a(terminal)
        if self.readout.noise and terminal.connected:
            variance = 0.0 if self.limited(terminal) else self._variance(terminal) / averages
            draw = np.empty(1)
            fill_normals(*self._read_key, self._chip.next_read(), draw)
            current_a += sqrt(variance) * float(draw[0])
        return current_a + self.readout.offset_a

    def _variance(self, terminal: Terminal) -> float:
        """Variance of the current of one read: of all cells between this terminal's net and another one."""
        chip, nets = self._chip, self._wires.nets
        on = (nets[: self._wires.lines] == nets[terminal.node]).astype(np.float64)
        rows = chip.shape[0]
        weight = (on[:rows, None] - on[None, rows:]) * self._segment.standing.cell_v
        sigma_s, relative = chip.model.read_sigma_s * chip.devices.noise_scale, chip.model.read_sigma_relative
        squares = weight * weight
        variance = sigma_s**2 * float(squares.sum())
        return variance + (relative**2 * float((squares * chip.conductance_s() ** 2).sum()) if relative else 0.0)

    @property
    def _cold(self) -> bool:
        """Nothing on the bench has a voltage, so nothing can happen."""
        return not (self._live or self._charges)

    def _stand(self) -> Standing:
        driving = self._driving
        if self._cold:
            return Standing(self._wires.zeros, self._quiet, self._quiet, (0.0,) * len(driving), NOBODY, NOBODY, False)
        self._age()
        nets = self._wires.nets
        at = tuple(int(nets[t.node]) for t in driving)
        return self._network.stand(nets, at, tuple(t.source for t in driving if t.source is not None))

    # -- time and the chip -----------------------------------------------------------------------------------------

    def before_time_moves(self) -> None:
        """What was changed stands from now on."""
        self._update()

    def settle(self) -> None:
        """Bring everything up to date, and keep the chip in its file if it was changed."""
        self._update()
        self._end_overlong()
        if self._unsaved and self._file is not None:
            self._age()
            self._chip.save(self._file)
        self._unsaved = False

    def close(self) -> None:
        """Let the chip feel what stands until now, settle, and put it back into its drawer."""
        with self.lock:
            self._update()
            self._end_now()
            self._stress.calm()
            self._unsaved = True
            self.settle()

    def _update(self) -> None:
        """After a change: close the time before it if the cells see something else now."""
        if not self._changed:
            return
        self._changed = False
        self._discharge()
        standing = self._stand()
        segment = self._segment
        self._note_fight(standing)
        before_v = segment.standing.cell_v
        if standing.cell_v is not before_v and not np.array_equal(standing.cell_v, before_v):
            if self._end(segment):
                standing = self._stand()
            largest_v = float(np.abs(standing.cell_v).max())
            segment = _Segment(self.now_ps, standing, largest_v > self._stress.reading_v)
            if largest_v <= EMPTY_V:
                self._unsaved |= self._stress.calm()
        self._segment = segment._replace(standing=standing)

    def _end(self, segment: _Segment) -> bool:
        """Expose the chip to what stood until now. Whether it felt something."""
        seconds = (self.now_ps - segment.start_ps) / PS_PER_S
        if not segment.loud or seconds <= 0:
            return False
        # The chip's clock may not run backwards: an instrument may have looked at it meanwhile.
        start_s = self._chip_began_s + segment.start_ps / PS_PER_S
        self._chip.advance(max(start_s - self._chip.counters.clock_s, 0.0))
        standing = segment.standing
        power_w = float(np.sum(standing.cell_v * standing.cell_a)) if self._network.knows_current else nan
        self._expose(standing.cell_v, seconds, power_w * seconds, segment.start_ps, rounded=standing.solved)
        self._age()
        return True

    def _end_overlong(self) -> None:
        """A write level that has stood longer than any known pulse has done its harm: do not wait for its end."""
        segment = self._segment
        if segment.loud and (self.now_ps - segment.start_ps) / PS_PER_S > self._stress.patience_s:
            self._end(segment)
            self._segment = _Segment(self.now_ps, self._stand(), True)

    def _expose(self, cell_v: FloatArray, seconds: float, energy_j: float, start_ps: int, *, rounded: bool) -> None:
        felt = self._stress.expose(cell_v, seconds, rounded=rounded)
        start_s = start_ps / PS_PER_S
        self._ledger.append(Exposure(start_s, seconds, float(np.abs(cell_v).max()), felt.pulsed, energy_j))
        self._damage += [Damage(start_s, w.cell, w.volts, w.seconds, w.why) for w in felt.wounds]
        self._energy_j += 0.0 if isnan(energy_j) else energy_j
        self._unknown += felt.unknown
        self._unsaved = True

    def _age(self) -> None:
        """The chip's clock follows the bench's."""
        self._chip.advance(max(self._chip_began_s + self.now_s() - self._chip.counters.clock_s, 0.0))

    # -- what goes wrong -------------------------------------------------------------------------------------------

    def _switched(self, across_v: float, behind: IndexArray, how: str) -> None:
        """A relay moved with so many volts across it, and these lines of the chip behind it."""
        if abs(across_v) <= self._stress.reading_v:
            return
        self._update()
        self._mishaps.append(Mishap(self.now_s(), f"a relay {how} with {across_v:g} V across it"))
        line_v = np.zeros(self._wires.lines)
        line_v[behind] = BOUNCE * across_v
        self._transient(line_v, BOUNCE_S)

    def _transient(self, line_v: FloatArray, seconds: float) -> None:
        rows = self._chip.shape[0]
        cell_v = line_v[:rows, None] - line_v[None, rows:]
        if float(np.abs(cell_v).max()) > self._stress.reading_v:
            self._end_now()
            self._expose(cell_v, seconds, nan, self.now_ps, rounded=True)
            if float(np.abs(self._segment.standing.cell_v).max()) <= EMPTY_V:
                self._stress.calm()
            self._changed = True

    def _end_now(self) -> None:
        """Close the present exposure: what happens in no time comes after it."""
        self._end(self._segment)
        self._segment = self._segment._replace(start_ps=self.now_ps)

    def _lines_with(self, node: int) -> IndexArray:
        """Lines of the chip on the net of a node."""
        nets = self._wires.nets
        return np.flatnonzero(nets[: self._wires.lines] == nets[node]).astype(np.int32)

    def _charge_v(self, node: int) -> float | None:
        """Voltage of a charged cable on this node's net, None if there is none."""
        nets = self._wires.nets
        for at, (volts, since_ps) in self._charges.items():
            if nets[at] == nets[node]:
                return volts * exp(-(self.now_ps - since_ps) / PS_PER_S / CABLE_DECAY_S)
        return None

    def _discharge(self) -> None:
        """Charged cables that now meet a source lose their charge; those that meet the chip lose it through cells."""
        driven = {int(self._wires.nets[t.node]) for t in self._driving} if self._charges else set()
        for node in list(self._charges):
            volts = self._charge_v(node) or 0.0
            lines = self._lines_with(node)
            if int(self._wires.nets[node]) in driven or lines.size or abs(volts) <= EMPTY_V:
                del self._charges[node]
            if int(self._wires.nets[node]) not in driven and lines.size:
                self._flow_off(node, volts)

    def _flow_off(self, node: int, volts: float) -> None:
        driving = self._driving
        at = (*(int(self._wires.nets[t.node]) for t in driving), int(self._wires.nets[node]))
        sources = (*(t.source for t in driving if t.source is not None), Source(volts))
        standing = self._network.stand(self._wires.nets, at, sources)
        current_a = abs(standing.source_a[-1])
        if current_a > 0:
            line_v = standing.net_v[self._wires.nets[: self._wires.lines]]
            self._transient(line_v, self._cable_f * abs(volts) / current_a)

    def _note_fight(self, standing: Standing) -> None:
        if standing.fighting and not self._segment.standing.fighting:
            names = ", ".join(self._driving[k].name for k in sorted(standing.fighting))
            self._mishaps.append(Mishap(self.now_s(), f"sources against each other on one net: {names}"))

    # -- what came of it -------------------------------------------------------------------------------------------

    @property
    def chip(self) -> Chip:
        """The chip, up to date."""
        self._update()
        self._age()
        return self._chip

    @property
    def pulses(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
        """Pulses [rows, cols] that every cell has had over its life."""
        return self.chip.pulses.reshape(self._chip.shape)

    def pulses_fired(self) -> int:
        """Pulses on all cells over the chip's life."""
        return int(self.pulses.sum())

    @property
    def ledger(self) -> tuple[Exposure, ...]:
        """The last exposures beyond a reading level, oldest first."""
        self._update()
        return tuple(self._ledger)

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Cells destroyed so far."""
        self._update()
        self._end_overlong()
        return tuple(self._damage)

    @property
    def mishaps(self) -> tuple[Mishap, ...]:
        """Hot switching and short circuits so far."""
        self._update()
        return tuple(self._mishaps)

    @property
    def energy_j(self) -> float:
        """Energy in joule of all exposures beyond a reading level in which the device's current is known."""
        self._update()
        return self._energy_j

    @property
    def unknown_stress(self) -> int:
        """How often a cell saw more than a reading level outside what its model knows, and nothing was done."""
        self._update()
        return self._unknown

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.run_for(seconds)
