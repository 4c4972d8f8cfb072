"""Every protocol on simulated instruments: what it finds there is what the emulator gives for the same chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from neurobench.drivers import visa_sim
from neurobench.sim_instruments.world.world import World
from visa_bench import PARTS

from neurobench import registry
from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Protocol
from neurobench.bench.stimulus import CellRead
from neurobench.errors import ConfigError
from neurobench.physics.chip import Chip
from neurobench.physics.stress import reading_level_v
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord

# What visa-sim is by its file, said of the emulator: one ammeter, V/2, row by row.
SAME = {"bench.vector_reads": [], "bench.biases": ["half"], "bench.parallelism": "row"}
IDEAL = {"readout.ideal": True}
NILI = {"chip.model": "al2o3-tio2-nili"}  # a device with pulses that SMUs can do, both directions, and an I(V)
ARRAYS = ("2600b, 33500b, 707b", "2600b that pulses, 707b", "b2900 that pulses, 34980a")
FORM = {"stop_v": 1.4, "stop_current_a": 1e-3, "stop_conductance_s": 4e-5, "confirm_chip_id": "emulated-0"}
ASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "read-all": ({"repeats": 3}, NILI),
    "manhattan": ({}, {"chip.model": "lsmo-gaq3-mirror"}),
    "form": ({**FORM, "devices": 2}, NILI),
    "iv-sweep": ({"potentiate_v": 1.2, "depress_v": 1.4, "levels": 6, "cycles": 2, "devices": 2}, NILI),
    "measure-curve": ({"pulses": 8, "cycles": 2, "devices": 2}, NILI),
}
# One cell under probes: no matrix, no generator, nothing wired but by hand.
WIRES = ("smu", "meter", "pulse_row", "pulse_col", "ground")
LONE = {"chip.rows": 1, "chip.cols": 1, "chip.isolation": "isolated", "bench.biases": ["isolated"]}
PROBES = {**LONE, "instruments.pulse": None, "instruments.matrix.model": "manual"} | {
    f"instruments.wiring.{name}": 0 for name in WIRES
}
SMUS = ("keithley-2450", "keithley-2400", "keithley-2600b", "keysight-b2900")
SLOW_S = 2e-3  # a pulse that each of them can do

# What a bench may add: offsets of nothing, time of its own. What is told of time is compared nowhere.
TIMES = {"measured_delay_s", "measured_period_s", "cost"}
# Sums that are 0 but for the rounding of their terms, on either bench.
NOTHING = {"seen_sigma_a", "sigma_s", "sigma_a", "sigma_read_a", "sigma_zero_a", "drift_s", "offset_a",
           "train_sigma_read_s", "train_sigma_step_s", "cell_sigma_s"}  # fmt: skip


@dataclass
class Ran:
    """What a run gave, and what became of the chip behind it."""

    values: Mapping[str, Any]
    status: str
    pulses: int
    hits: int
    chip: Chip
    world: Any = None


class Behind:
    """The worlds of the simulated benches that were opened."""

    def __init__(self) -> None:
        self.worlds: list[World] = []


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Behind:
    found = Behind()

    class Seen(visa_sim.SimulatedBus):
        def __init__(self, simulation: Any) -> None:
            super().__init__(simulation)
            found.worlds.append(simulation.world)

    monkeypatch.setattr(visa_sim, "SimulatedBus", Seen)
    return found


def ran(
    behind: Behind, bench: str, name: str, settings: Mapping[str, Any], chip: Mapping[str, Any], seed: int = 0
) -> Ran:
    """Run a protocol through Guard and runner, as `neurobench run` does; a fault is raised."""
    kind = registry.load("protocols", name)
    assert isinstance(kind, type)
    assert issubclass(kind, Protocol)
    protocol = kind(**settings)
    guard = open_bench(load_bench(bench, chip, protocol.bench_defaults()), seed, protocol.limits_profile)
    try:
        protocol.needs.plan(guard.capabilities)
        outcome = runner.run(protocol, guard, seed=seed, record=MemoryRecord())
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result is not None
        world = behind.worlds[-1] if bench == "visa-sim" else None
        there: Chip = world.chip if world else guard.raw.chip  # type: ignore[attr-defined]
        return Ran(outcome.result, outcome.status, outcome.pulses, outcome.totals.compliance_hits, there, world)
    finally:
        guard.close()


def unharmed(run: Ran) -> None:
    """The chip felt the pulses of the record, no others, and nothing that a careful operator would not do."""
    assert run.world.pulses_fired() == run.pulses
    assert run.world.mishaps == ()
    assert run.world.damage == ()
    assert run.world.unknown_stress == 0
    assert all(terminal.volts == 0 for terminal in run.world._terminals.values()), "at rest"


def same(emulated: Ran, there: Ran, leave_out: set[str], rtol: float = 1e-7) -> None:
    """Equal chips, equal records; `leave_out`: what cannot be equal."""
    unharmed(there)
    np.testing.assert_array_equal(there.chip.pulses, emulated.chip.pulses)
    np.testing.assert_allclose(there.chip.conductance_s(), emulated.chip.conductance_s(), rtol=1e-8)
    assert (there.status, there.pulses, there.hits) == (emulated.status, emulated.pulses, emulated.hits)
    assert set(there.values) == set(emulated.values)
    for key in set(emulated.values) - leave_out - TIMES:
        want, got = emulated.values[key], there.values[key]
        if isinstance(want, float) or (isinstance(want, np.ndarray) and want.dtype.kind == "f"):
            atol = 1e-15 if key in NOTHING else 0.0
            np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, equal_nan=True, err_msg=key)
        else:
            np.testing.assert_equal(got, want, err_msg=key)


# ---------------------------------------------------------------------------------------------- ideal readout


@pytest.mark.parametrize("parts", ARRAYS)
@pytest.mark.parametrize("name", ASKED)
def test_on_an_array_with_an_ideal_readout_it_is_the_same_run(name: str, parts: str, behind: Behind) -> None:
    settings, chip = ASKED[name]
    emulated = ran(behind, "emulator", name, settings, {**SAME, **chip, **IDEAL})
    there = ran(behind, "visa-sim", name, settings, {**PARTS[parts], **chip, **IDEAL})
    currents = {"pulse_current_a", "cell_current_a", "level_current_a", "train_in_pulse_a"}
    # ratios of chords hold currents too, with what the line's other cells add
    same(emulated, there, currents | {"branch_switch_v", "set_v", "reset_v"} if name == "iv-sweep" else currents)
    if name == "form":
        sneak_a = there.values["pulse_current_a"] - emulated.values["pulse_current_a"]
        volts = emulated.values["pulse_amplitude_v"] / 2
        model = emulated.chip.model
        # up to a reading level a cell is its conductance
        factor = np.array([1.0 if v <= reading_level_v(model) else model.write_current_factor(v) for v in volts])
        # three half-selected cells of the line, each within what the chip holds besides the two that were formed
        others_s = np.delete(emulated.chip.conductance_s().ravel(), [0, 15])
        bound_a = 3 * volts * factor
        assert (sneak_a >= bound_a * min(others_s.min(), 1e-5) * (1 - 1e-9)).all()
        assert (sneak_a <= bound_a * max(others_s.max(), 1e-5) * (1 + 1e-9)).all()


@pytest.mark.parametrize("smu", SMUS)
@pytest.mark.parametrize("name", ["read-all", "form", "iv-sweep", "measure-curve"])
def test_on_one_cell_under_probes_everything_is_equal(name: str, smu: str, behind: Behind) -> None:
    settings, chip = dict(ASKED[name][0]), ASKED[name][1]
    settings.pop("devices", None)
    settings |= {"form": {"width_s": SLOW_S}}.get(name, {})
    settings |= {"measure-curve": {"potentiate_width_s": (SLOW_S,), "depress_width_s": (SLOW_S,)}}.get(name, {})
    emulated = ran(behind, "emulator", name, settings, {"bench.vector_reads": [], **LONE, **chip, **IDEAL})
    there = ran(behind, "visa-sim", name, settings, {**PROBES, "instruments.smu.model": smu, **chip, **IDEAL})
    same(emulated, there, set())


def test_a_matrixs_rows_mean_nothing_without_one(behind: Behind) -> None:
    """Two channels would be asked for, one of them on nothing: it would read 0 S and form on."""
    del behind
    wired = {**PROBES, "instruments.wiring.meter": 2, **NILI}
    with pytest.raises(ConfigError, match=r"\[instruments.wiring\]: meter: these are rows of a matrix"):
        open_bench(load_bench("visa-sim", wired))


# ---------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("parts", ARRAYS)
def test_with_noise_reads_are_within_what_is_declared(parts: str, behind: Behind) -> None:
    """Mean of n reads: 16 cells within 5 standard errors; the scatter is the declared one, within its own error."""
    n = 40
    run = ran(behind, "visa-sim", "read-all", {"repeats": n, "read_v": 0.05}, PARTS[parts])
    unharmed(run)
    sigma_s = float(np.sqrt(np.mean(run.values["sigma_s"] ** 2)))
    error_s = run.values["conductance_s"] - run.chip.conductance_s()
    assert sigma_s > 0
    assert np.abs(error_s).max() < 5 * sigma_s / n**0.5 + 1e-3 * run.chip.conductance_s().max(), "and 0.1 % of the SMU"
    declared_s = run.values["declared_sigma_s"] / 2**0.5  # of both polarities
    # 16 x 39 degrees of freedom: a standard deviation to 2.8 %, five of those; the SMU adds its own
    assert sigma_s > declared_s * (1 - 5 * 0.028)
    assert sigma_s < 1.5 * declared_s


@pytest.mark.parametrize("parts", ARRAYS)
@pytest.mark.parametrize("name", ["manhattan", "form", "iv-sweep", "measure-curve"])
def test_with_noise_the_books_are_those_of_the_chip(name: str, parts: str, behind: Behind) -> None:
    settings, chip = ASKED[name]
    there = ran(behind, "visa-sim", name, settings, {**PARTS[parts], **chip})
    unharmed(there)
    assert there.status == "finished"
    if name == "measure-curve":
        last_s = there.values["train_conductance_s"][np.arange(8), there.values["train_pulses"]]
        final_s = there.chip.conductance_s().reshape(4, 4)
        # the last train of either device ends with what the chip holds now
        for cell in there.values["cells"].tolist():
            of_cell = (there.values["train_cell"] == cell).all(axis=1)
            assert last_s[of_cell][-1] == pytest.approx(final_s[tuple(cell)], rel=5e-3)
    if name == "form":
        for cell, found_s in zip(there.values["cells"].tolist(), there.values["cell_conductance_s"], strict=True):
            assert found_s == pytest.approx(there.chip.conductance_s().reshape(4, 4)[tuple(cell)], rel=5e-3)


# ---------------------------------------------------------------------------------------------- forming, limited


@pytest.fixture
def limiting(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, bool]]:
    """Every measurement at a terminal that has volts: volts, current, and whether its limit acts."""
    found: list[tuple[float, float, bool]] = []
    true = World.measured_a

    def measured_a(self: World, terminal: Any, averages: int) -> float:
        if terminal.volts:
            found.append((terminal.volts, self.current_a(terminal), terminal.limited))
        return true(self, terminal, averages)

    monkeypatch.setattr(World, "measured_a", measured_a)
    return found


@pytest.mark.parametrize("smu", SMUS)
def test_the_compliance_of_forming_limits_the_pulse_in_the_instrument(
    smu: str, behind: Behind, limiting: list[tuple[float, float, bool]]
) -> None:
    limit_a = 5e-5
    settings = {**FORM, "width_s": SLOW_S}
    said = {**PROBES, "instruments.smu.model": smu, **NILI, **IDEAL}
    free = ran(behind, "visa-sim", "form", settings, said)
    assert free.values["pulse_current_a"].max() > 1.2 * limit_a, "unlimited, the cell passes more"
    assert not any(limited for _, _, limited in limiting)
    limiting.clear()
    held = ran(behind, "visa-sim", "form", settings, {**said, "limits.forming.compliance_a": limit_a})
    unharmed(held)
    assert held.values["cell_why"] == ["compliance"]
    assert held.hits == 1
    current_a = held.values["pulse_current_a"]
    assert current_a[-1] == pytest.approx(limit_a, rel=1e-3)
    assert (current_a[:-1] < 0.99 * limit_a).all()
    volts, true_a, limited = zip(*limiting, strict=True)
    assert [abs(a) == pytest.approx(limit_a, rel=1e-9) for a in true_a] == list(limited)
    assert sum(limited) >= 1
    # the cell saw less than was programmed: the voltage at which it passes the limit
    ramp = [e for e in held.world.ledger if len(e.pulsed)]
    assert ramp[-1].peak_v < 0.97 * held.values["pulse_amplitude_v"][-1]
    np.testing.assert_allclose([e.peak_v for e in ramp[:-1]], held.values["pulse_amplitude_v"][:-1], rtol=1e-9)
    assert max(map(abs, volts)) <= 1.4


@pytest.mark.parametrize("parts", ARRAYS)
def test_the_stop_current_ends_the_ramp(parts: str, behind: Behind) -> None:
    settings = {**FORM, "stop_current_a": 8e-5}
    run = ran(behind, "visa-sim", "form", settings, {**PARTS[parts], **NILI})
    unharmed(run)
    current_a = run.values["pulse_current_a"]
    assert run.values["cell_why"] == ["stop_current_a"]
    assert current_a[-1] >= 8e-5 > current_a[:-1].max()
    assert run.values["pulse_amplitude_v"][-1] < 1.4


@pytest.mark.parametrize("smu", SMUS)
def test_the_limit_in_the_instrument_is_that_of_the_profile(
    smu: str, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forming has its own compliance; a bench opened under the usual limits programs the usual one."""
    seen_a: set[float] = set()
    true = World.measured_a

    def measured_a(self: World, terminal: Any, averages: int) -> float:
        seen_a.add(round(terminal.source.limit_a, 12))
        return true(self, terminal, averages)

    monkeypatch.setattr(World, "measured_a", measured_a)
    said = {**PROBES, "instruments.smu.model": smu, **NILI, "limits.compliance_a": 1e-3,
            "limits.forming.compliance_a": 1e-4}  # fmt: skip
    for profile, limit_a in (("forming", 1e-4), ("", 1e-3)):
        seen_a.clear()
        guard = open_bench(load_bench("visa-sim", said), 0, profile)
        guard.sense(CellRead(np.ones((1, 1), np.bool_), 0.1, True, 0.0, 1e-3))
        guard.close()
        assert seen_a == {limit_a}
    assert all(not terminal.connected or not terminal.volts for terminal in behind.worlds[-1]._terminals.values())
