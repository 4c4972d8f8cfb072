"""What the instruments of a bench can do together, and which relays that takes. No instrument is spoken to here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from neurobench.bench.crossbar import Capabilities, CompliancePath
from neurobench.bench.stimulus import Bias, LineState, Shots
from neurobench.errors import CapabilityMissing, ConfigError

from .instruments._roles import Crosspoint, Matrix, PulseSource, Smu

if TYPE_CHECKING:
    from neurobench.bench.config import BenchConfig
    from neurobench.bench.instruments import Wiring
    from neurobench.bench.limits import Limits

Topology = Literal["column_virtual_ground", "guarded_row", "isolated_cell"]
Path = frozenset[Crosspoint]


@dataclass(frozen=True, slots=True)
class Team:
    """The instruments of a bench in their roles. `generator` is None where the SMU pulses, or nothing does."""

    smu: Smu
    generator: PulseSource | None
    matrix: Matrix

    @property
    def source(self) -> PulseSource | None:
        """What fires plain pulses: the generator if there is one, else an SMU that can."""
        return self.generator or self.meter_source

    @property
    def meter_source(self) -> PulseSource | None:
        """What fires pulses whose current is measured: the SMU, if it pulses."""
        return self.smu if isinstance(self.smu, PulseSource) and self.smu.measures else None


@dataclass(frozen=True, slots=True)
class Paths:
    """Which relays connect what, from the wiring of the bench file. Every line is always connected to something."""

    wiring: Wiring
    word: tuple[int, ...]
    bit: tuple[int, ...]
    topology: Topology

    def read(self, row: int, col: int) -> Path:
        """One cell between the SMU and virtual ground; all other lines grounded, or guarded where there is no meter."""
        w = self.wiring
        if self.topology == "isolated_cell":
            return self._joined({row: w.smu}, {col: w.ground})
        if self.topology == "guarded_row":
            others = dict.fromkeys(range(len(self.bit)), w.guard) | {col: w.ground}
            return self._joined({row: w.smu}, others)
        return self._joined({row: w.smu}, {col: w.meter})

    def pulse(self, shots: Shots, k: int, by_smu: bool) -> Path:
        """The lines that shot k drives, on the terminals that drive them; all others grounded."""
        lines = shots.states(k)
        rows, cols = (np.flatnonzero(s == LineState.DRIVEN).tolist() for s in (lines.row_state, lines.col_state))
        return self.driven(rows, cols, by_smu)

    def driven(self, rows: Sequence[int], cols: Sequence[int], by_smu: bool) -> Path:
        """These lines on the terminals of the source, all others grounded."""
        w = self.wiring
        row_terminal, col_terminal = (w.smu, w.meter) if by_smu else (w.pulse_row, w.pulse_col)
        return self._joined(dict.fromkeys(rows, row_terminal), dict.fromkeys(cols, col_terminal))

    def grounded(self) -> Path:
        """All lines on ground: the bench at rest. Nothing where no ground is wired."""
        return self._joined({}, {}) if self.wiring.ground else frozenset()

    def _joined(self, rows: dict[int, int], cols: dict[int, int]) -> Path:
        ground = self.wiring.ground
        points = [Crosspoint(rows.get(i, ground), column) for i, column in enumerate(self.word)]
        points += [Crosspoint(cols.get(j, ground), column) for j, column in enumerate(self.bit)]
        return frozenset(points)


def make_paths(config: BenchConfig, team: Team) -> Paths:
    """The relays of this bench. Raises ConfigError where the wiring cannot read the chip or leaves the matrix."""
    chip, wiring = config.chip, config.instruments.wiring
    word, bit = wiring.rows_of(chip.rows), wiring.cols_of(chip.rows, chip.cols)
    for lines, n, name in ((word, chip.rows, "word_lines"), (bit, chip.cols, "bit_lines")):
        if len(lines) != n:
            raise _wrong(f"{name} lists {len(lines)} matrix columns, the chip has {n} such lines")
    if set(word) & set(bit):
        raise _wrong("a word line and a bit line share a matrix column (word_lines, bit_lines)")
    if chip.isolation == "1t1r":
        raise _wrong("the gate lines of a 1t1r array are not wired; this bench drives passive arrays and single cells")
    paths = Paths(wiring, word, bit, _topology(config, team))
    if misfit := wiring.misfit(chip.rows, chip.cols, team.matrix.columns) if team.matrix.rows else "":
        raise _wrong(misfit)
    _check_matrix(paths, team)
    return paths


def _topology(config: BenchConfig, team: Team) -> Topology:
    w, single = config.instruments.wiring, (config.chip.rows, config.chip.cols) == (1, 1)
    if team.smu.channels >= 2 and w.meter:
        return "column_virtual_ground"
    if single or config.chip.isolation == "isolated":
        return "isolated_cell"
    if w.guard:
        return "guarded_row"
    raise _wrong(
        "an array needs a second SMU channel as its meter (wiring.meter), or the SMU's guard on the other bit lines "
        "(wiring.guard): otherwise the current of one cell cannot be told from that of its neighbours"
    )


def _check_matrix(paths: Paths, team: Team) -> None:
    w = paths.wiring
    if not team.matrix.rows:
        return _check_by_hand(paths, team)
    needed = {"smu": w.smu, "ground": w.ground}
    needed |= {"meter": w.meter} if paths.topology == "column_virtual_ground" else {}
    needed |= {"pulse_row": w.pulse_row} if team.generator else {}
    if missing := sorted(name for name, row in needed.items() if not row):
        raise _wrong(f"{', '.join(missing)} not wired to a row of the matrix")
    rows = max(w.smu, w.meter, w.guard, w.pulse_row, w.pulse_col, w.ground)
    if rows > team.matrix.rows:
        raise _wrong(f"row {rows} is used; the matrix has {team.matrix.rows} rows (slots: which cards there are)")
    return None


def _check_by_hand(paths: Paths, team: Team) -> None:
    """Without a matrix the operator moves the probes: one cell, and one instrument that reads and pulses it."""
    if (len(paths.word), len(paths.bit)) != (1, 1):
        raise _wrong("without a matrix the operator moves the probes from cell to cell: [chip] rows and cols are 1")
    if team.generator is not None:
        raise _wrong("a generator and an SMU on one cell need a matrix that connects one of them at a time")
    w = paths.wiring
    rows = {"smu": w.smu, "meter": w.meter, "guard": w.guard, "pulse_row": w.pulse_row, "pulse_col": w.pulse_col}
    if on := [name for name, row in {**rows, "ground": w.ground}.items() if row]:
        raise _wrong(
            f"{', '.join(on)}: these are rows of a matrix, and there is none. The SMU's first channel is on the word "
            "line, the bit line on ground; leave the keys out, or set them to 0"
        )


def _wrong(why: str) -> ConfigError:
    return ConfigError(f"[instruments.wiring]: {why}")


def make_capabilities(config: BenchConfig, team: Team, paths: Paths) -> Capabilities:
    """What this combination can do; what it cannot, a protocol that needs it is told before the first volt."""
    bench, chip, source = config.bench, config.chip, team.source
    biases = _biases(config, team, paths)
    meter = team.meter_source
    return Capabilities(
        shape=(chip.rows, chip.cols), parallelism=bench.parallelism, biases=biases, isolation=_isolation(config),
        potentiating_sign=chip.potentiating_sign or 1, vector_reads=frozenset(), read_topology=paths.topology,
        max_pulse_v=_max_pulse_v(source, biases), min_width_s=source.min_width_s if source else 0.0,
        max_width_s=source.max_width_s if source else 0.0, measures_while_pulsing=_can_measure(meter, paths, biases),
        min_measured_width_s=meter.min_width_s if meter else 0.0,
        max_measured_width_s=meter.max_width_s if meter else 0.0, distinct_shapes=_distinct_shapes(config, team),
        measures_one_cell=True, compliance_path=_compliance_path(config, team), source_ohm=_source_ohm(config, source),
        series_ohm=bench.series_ohm, delivery="exactly_once" if source and source.witness else "at_most_once",
    )  # fmt: skip


def pulse_line_v(limits: Limits, biases: frozenset[Bias]) -> float:
    """Largest |V| that one output needs in a pulse: of a cell's voltage half, where two outputs share it."""
    halved = Bias.HALF in biases and Bias.ISOLATED not in biases
    if halved:  # what stands on a line is then what its other cells see
        return min(limits.line_v, limits.max_cell_v / 2, limits.victim_v)
    return min(limits.line_v, limits.max_cell_v)


def read_line_v(limits: Limits) -> float:
    """Largest |V| that an output needs in a read."""
    return min(limits.line_v, limits.max_read_v)


def _isolation(config: BenchConfig) -> Literal["passive", "isolated"]:
    return "isolated" if config.chip.isolation == "isolated" else "passive"


def _biases(config: BenchConfig, team: Team, paths: Paths) -> frozenset[Bias]:
    """V/2 needs two levels at once, V/3 four: no combination of these instruments has them (bench rule 2)."""
    asked, w = config.bench.biases, paths.wiring
    explicit = "biases" in config.bench.model_fields_set
    if explicit and Bias.THIRD in asked:
        raise ConfigError("[bench] biases: 'third' needs four levels at once; this bench has two at most: 'half'")
    if team.source is None:
        return frozenset()
    second = w.pulse_col if team.generator else w.meter
    can = {Bias.HALF} if team.source.outputs >= 2 and second else set()
    can |= {Bias.ISOLATED} if config.chip.isolation == "isolated" else set()
    if explicit and (missing := asked - can):
        names = ", ".join(sorted(missing))
        raise ConfigError(
            f"[bench] biases: {names}: 'half' needs a second level (a two-channel generator wired as pulse_row and "
            "pulse_col, or a two-channel SMU that pulses), 'isolated' needs [chip] isolation = 'isolated'"
        )
    return frozenset(can)


def _distinct_shapes(config: BenchConfig, team: Team) -> int:
    """One waveform on the word lines, one on the bit lines if a channel is wired to them.

    Not on isolated cells of an array: what V_row - V_col is there depends on how they are isolated.
    """
    single = (config.chip.rows, config.chip.cols) == (1, 1)
    if team.generator is None or not team.generator.plays or not (single or _isolation(config) == "passive"):
        return 0
    return min(team.generator.outputs, 2 if config.instruments.wiring.pulse_col else 1)


def _max_pulse_v(source: PulseSource | None, biases: frozenset[Bias]) -> float:
    if source is None:
        return 0.0
    return source.max_v * (2 if Bias.HALF in biases and Bias.ISOLATED not in biases else 1)


def _can_measure(meter: PulseSource | None, paths: Paths, biases: frozenset[Bias]) -> bool:
    two_levels = meter is not None and meter.outputs >= 2 and paths.wiring.meter > 0
    return meter is not None and (two_levels or biases == {Bias.ISOLATED})


def _compliance_path(config: BenchConfig, team: Team) -> CompliancePath:
    said = config.bench.compliance_path
    if team.source is not None and team.source.limits_current:
        return "smu"
    if said == "smu":
        raise ConfigError(
            "[bench] compliance_path = 'smu', but the pulses come from a generator, which limits no current: say "
            "'series_ohm' or 'transistor' if the path has one, else 'none'"
        )
    return said


def _source_ohm(config: BenchConfig, source: PulseSource | None) -> float:
    said = "source_ohm" in config.bench.model_fields_set
    return config.bench.source_ohm if said or source is None else source.source_ohm


def source_for(team: Team, shots: Shots) -> PulseSource:
    """Who fires these shots. Raises CapabilityMissing for a width or a burst that it cannot do."""
    source = team.meter_source if shots.measure else team.source
    if source is None:
        raise CapabilityMissing("this bench has nothing that pulses (no generator, and an SMU that only measures)")
    width_s, edges_s = shots.pulse.width_s, max(shots.pulse.rise_s, shots.pulse.fall_s)
    if edges_s and source.measures:
        raise CapabilityMissing(f"edges of {edges_s:g} s; an SMU makes its own (rise_s = fall_s = 0, or a generator)")
    if not source.min_width_s <= width_s <= source.max_width_s:
        allowed = f"{source.min_width_s:g} to {source.max_width_s:g} s"
        raise CapabilityMissing(f"a width of {width_s:g} s; what fires it here does {allowed}")
    if int(shots.repeat.max()) > source.max_pulses:
        most = source.max_pulses
        raise CapabilityMissing(f"{int(shots.repeat.max())} pulses by one trigger; what fires them here does {most}")
    return source
