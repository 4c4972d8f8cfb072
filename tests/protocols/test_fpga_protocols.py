"""Every protocol on the simulated FPGA board: the emulator's run for the same chip, or a refusal that says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from neurobench.drivers import fpga_sim

from neurobench import registry
from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Protocol
from neurobench.errors import CapabilityMissing
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord

# What fpga-sim is by its file, said of the emulator: the converters of its board.
SAME = {"readout.adc_bits": 24, "readout.adc_range_a": 1e-5, "readout.dac_bits": 16, "readout.dac_range_v": 0.65534}
NILI = {"chip.model": "al2o3-tio2-nili"}
FORM = {"stop_v": 1.4, "stop_current_a": 1e-3, "stop_conductance_s": 4e-5, "confirm_chip_id": "emulated-0"}
ASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "read-all": ({"repeats": 3}, NILI),
    "manhattan": ({}, {"chip.model": "lsmo-gaq3-mirror"}),
    "iv-sweep": (
        {"mode": "pulsed", "potentiate_v": 1.2, "depress_v": 1.2, "levels": 6, "cycles": 2, "devices": 2},
        NILI,
    ),
    "measure-curve": ({"pulses": 8, "cycles": 2, "devices": 2}, NILI),
}
REFUSED: dict[str, dict[str, Any]] = {
    "form": {**FORM, "devices": 2},
    "iv-sweep": {"potentiate_v": 1.2, "depress_v": 1.4, "levels": 6, "cycles": 2, "devices": 2},
    "measure-curve": {"pulses": 8, "cycles": 2, "devices": 2, "stop_current_a": 1e-3},
}
TIMES = {"measured_delay_s", "measured_period_s", "cost"}  # what is told of time is compared nowhere
# The board has no ammeter in its pulse path, the emulator has; nobody asked for it here.
IN_PULSE = {"measure-curve": "train_in_pulse_a", "iv-sweep": "level_current_a"}


class Durable(MemoryRecord):
    """As a run file: lost replies are settled by asking."""

    keeps_truth = True


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The simulated boards that were opened."""
    found: list[Any] = []
    true = registry.load

    def load(kind: str, name: str) -> Any:
        loaded = true(kind, name)
        if (kind, name) != ("simulations", "fpga"):
            return loaded

        def made(config: Any, seed: int) -> Any:
            found.append(loaded(config, seed))  # type: ignore[operator]
            return found[-1]

        return made

    monkeypatch.setattr(fpga_sim.registry, "load", load)
    return found


def ran(bench: str, name: str, settings: Mapping[str, Any], chip: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Run a protocol through Guard and runner, as `neurobench run` does: outcome, chip and board."""
    kind = registry.load("protocols", name)
    assert isinstance(kind, type)
    assert issubclass(kind, Protocol)
    protocol = kind(**settings)
    guard = open_bench(load_bench(bench, chip, protocol.bench_defaults()), 0, protocol.limits_profile)
    try:
        protocol.needs.plan(guard.capabilities)
        outcome = runner.run(protocol, guard, seed=0, record=Durable())
        if outcome.error is not None:
            raise outcome.error
        return outcome, getattr(guard.raw, "chip", None), guard
    finally:
        guard.close()


@pytest.mark.parametrize("name", ASKED)
def test_it_is_the_same_run_as_on_the_emulator(name: str, boards: list[Any]) -> None:
    settings, chip = ASKED[name]
    there, emulated, _ = ran("emulator", name, settings, {**SAME, **chip})
    here, _, _ = ran("fpga-sim", name, settings, chip)
    board = boards[-1].board
    assert (here.status, here.pulses) == (there.status, there.pulses)
    assert board.pulses_fired() == here.pulses
    assert not board.damage
    assert boards[-1].harm() == []
    np.testing.assert_array_equal(board.chip.pulses, emulated.pulses)
    np.testing.assert_array_equal(board.chip.conductance_s(), emulated.conductance_s())
    assert set(here.result) == set(there.result)
    leave_out = set(TIMES)
    if current := IN_PULSE.get(name):
        leave_out |= {"in_pulse", current}
        assert here.result["in_pulse"] == "not measured"
        found_a, known = here.result[current], ~np.isnan(here.result[current])
        np.testing.assert_array_equal(found_a[known], there.result[current][known])
        assert known.mean() < 0.5, "all but the levels that are no more than a reading one"
    for key in set(there.result) - leave_out:
        np.testing.assert_equal(here.result[key], there.result[key], err_msg=key)


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_the_current_while_pulsing_is_refused_and_says_so(name: str, boards: list[Any]) -> None:
    """The board's pulse path has no ammeter (docs/fpga.md)."""
    with pytest.raises(CapabilityMissing, match="current while pulsing"):
        ran("fpga-sim", name, REFUSED[name], NILI)
    assert boards[-1].board.pulses_fired() == 0
