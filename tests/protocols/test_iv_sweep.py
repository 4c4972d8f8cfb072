"""iv-sweep: levels and their order, what is read and what is pulsed, where it turns round, and where it switched."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from ideal_bench import IdealBench
from neurobench.protocols.iv_sweep import IvSweep

from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.crossbar import Applied, Capabilities
from neurobench.bench.steps import Apply, Checkpoint, Note, Sense
from neurobench.bench.stimulus import Pulse
from neurobench.errors import CapabilityMissing
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord

SET_V, RESET_V, ON_S, OFF_S = 0.9, 0.7, 1e-4, 1e-5


class Switch(IdealBench):
    """A device that is on or off: SET at SET_V, RESET at -RESET_V, ohmic; compliance at `limit_a`."""

    def __init__(self, sign: int = 1, limit_a: float = np.inf, measures: bool = True, **span: Any) -> None:
        has = Capabilities((2, 2), measures_while_pulsing=measures, potentiating_sign=sign)
        super().__init__(lambda n: np.where(n > 0, ON_S, OFF_S), (2, 2), capabilities=has, depresses=True, **span)
        self.limit_a = limit_a

    def answer(self, step: Any) -> Any:
        if not isinstance(step, Apply):
            return super().answer(step)
        self.log.append(step)
        self.time_s += step.stimulus.pulse.width_s
        counts, volts = step.stimulus.counts, step.stimulus.pulse.amplitude_v
        if volts >= (SET_V if counts.max() > 0 else RESET_V):
            self.index = np.where(counts != 0, counts, self.index)
        current_a = volts * float(np.asarray(self.level(self.index))[counts != 0][0])
        hit = current_a >= self.limit_a
        measured = np.array([min(current_a, self.limit_a)]) if step.stimulus.measure else None
        return Applied(1, 1, self.time_s, self.time_s, compliance_hit=hit, currents_a=measured)

    def swept(self, **parameters: Any) -> dict[str, Any]:
        given = {"potentiate_v": 1.2, "depress_v": 1.0, "levels": 12, "cycles": 1, "read_v": 0.1, **parameters}
        protocol = IvSweep(**given)
        protocol.needs.plan(self.capabilities)
        return dict(self.run(protocol.steps(self.view(), np.random.default_rng(0))).values)


# ---------------------------------------------------------------------------------------------- levels


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("first", ["potentiate", "depress"])
def test_up_and_back_in_one_polarity_then_in_the_other(first: str, sign: int) -> None:
    values = Switch(sign).swept(first=first, levels=4, potentiate_v=1.2, depress_v=0.8)
    up = [0.3, 0.6, 0.9, 1.2, 0.9, 0.6, 0.3]
    down = [-0.2, -0.4, -0.6, -0.8, -0.6, -0.4, -0.2]
    expected = up + down if first == "potentiate" else down + up
    np.testing.assert_allclose(values["level_volts_v"], sign * np.array(expected), rtol=1e-12)
    assert (np.sign(values["level_current_a"]) == np.sign(values["level_volts_v"])).all()
    assert values["returns_to_0_v"]


def test_what_may_be_read_is_read_and_the_rest_is_pulsed_and_measured() -> None:
    on = Switch()
    values = on.swept(level_s=2e-3)
    limit_v = on.view().limits.max_read_v
    assert (values["level_read"] == (np.abs(values["level_volts_v"]) <= limit_v)).all()
    pulses = [step.stimulus for step in on.log if isinstance(step, Apply)]
    assert len(pulses) == (~values["level_read"]).sum()
    assert all(batch.measure and batch.pulse.width_s == 2e-3 and np.abs(batch.counts).sum() == 1 for batch in pulses)
    reads = [step.read for step in on.log if isinstance(step, Sense)]
    single = [read for read in reads if not read.both_polarities]
    assert len(single) == values["level_read"].sum()
    np.testing.assert_allclose([r.voltage_v for r in single], values["level_volts_v"][values["level_read"]])
    assert len(reads) - len(single) == 4, "before and after each branch, at both polarities"


def test_pulsed_reads_after_every_pulse() -> None:
    on = Switch()
    values = on.swept(mode="pulsed", level_s=1e-6, delay_s=0.5)
    pulsed = ~values["level_read"]
    assert set(np.round(values["level_conductance_s"][pulsed], 9)) == {OFF_S, ON_S}
    assert np.isnan(values["level_conductance_s"][~pulsed]).all()
    steps = [step for step in on.log if isinstance(step, Apply | Sense)]
    for step, then in pairwise(steps):
        if isinstance(step, Apply):
            assert isinstance(then, Sense)
            assert (then.read.delay_s, then.read.both_polarities, then.read.voltage_v) == (0.5, True, 0.1)


# ---------------------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("mode", ["staircase", "pulsed"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_voltages_at_which_it_switches_and_the_ratio(mode: str, sign: int) -> None:
    values = Switch(sign).swept(mode=mode, cycles=3)
    assert values["set_v"] == pytest.approx(sign * SET_V), "levels of 0.1 V"
    assert values["reset_v"] == pytest.approx(-sign * 0.75), "the first of the levels k / 12 V that is not below 0.7 V"
    np.testing.assert_allclose(values["cycle_ratio"], ON_S / OFF_S)
    assert values["ratio"] == pytest.approx(ON_S / OFF_S)
    assert values["switched"] == 1.0


@pytest.mark.parametrize("mode", ["staircase", "pulsed"])
def test_a_device_that_does_not_switch_is_not_said_to(mode: str) -> None:
    on = Switch()
    result = on.run(
        IvSweep(mode=mode, potentiate_v=0.8, depress_v=0.6, cycles=1).steps(on.view(), np.random.default_rng(0))
    )
    assert np.isnan(result.values["branch_switch_v"]).all()
    assert np.isnan(result.values["set_v"])
    assert result.values["switched"] == 0.0
    assert not result.reached


def test_pulsed_works_where_nothing_measures_in_a_pulse_but_a_staircase_does_not() -> None:
    values = Switch(measures=False).swept(mode="pulsed")
    assert values["set_v"] == pytest.approx(SET_V)
    assert np.isnan(values["level_current_a"][~values["level_read"]]).all()
    assert values["in_pulse"] == "not measured"
    for parameters in ({"mode": "staircase"}, {"mode": "pulsed", "stop_current_a": 1e-3}):
        with pytest.raises(CapabilityMissing, match="measurement of the current while pulsing"):
            Switch(measures=False).swept(**parameters)


# ---------------------------------------------------------------------------------------------- where it turns round


@pytest.mark.parametrize(
    ("bench", "parameters", "why"),
    [
        ({"limit_a": 8e-5}, {}, "compliance"),
        ({}, {"stop_current_a": 8e-5}, "stop_current_a"),
        ({}, {"stop_factor": 5.0}, "stop_factor"),
        ({}, {"stop_factor": 5.0, "mode": "pulsed"}, "stop_factor"),
    ],
)
def test_a_branch_turns_round_at_the_level_that_stops_it(
    bench: dict[str, Any], parameters: dict[str, Any], why: str
) -> None:
    values = Switch(**bench).swept(**parameters, potentiate_v=1.2, first="potentiate", cycles=1)
    volts = values["level_volts_v"][values["level_branch"] == 0]
    assert values["branch_turned"][0] == why
    assert volts.max() == pytest.approx(SET_V), "no level above the one that stopped it"
    np.testing.assert_allclose(volts, np.concatenate([np.arange(1, 10), np.arange(8, 0, -1)]) / 10)
    assert values["set_v"] == pytest.approx(SET_V)


# ---------------------------------------------------------------------------------------------- on the emulator


def test_the_currents_of_the_emulator_are_its_law() -> None:
    protocol = IvSweep(potentiate_v=1.2, depress_v=1.5, cycles=1, devices=2)
    guard = open_bench(load_bench("emulator", {}, protocol.bench_defaults()))
    outcome = runner.run(protocol, guard, seed=0, record=MemoryRecord())
    assert outcome.error is None
    values = outcome.result
    assert values is not None
    small = values["level_read"]
    first = values["branch_before_s"][values["level_branch"]]
    rising = np.concatenate([[True], np.diff(np.abs(values["level_volts_v"])) > 0]) & small
    np.testing.assert_allclose(
        (values["level_current_a"] / values["level_volts_v"])[rising], first[rising], rtol=1e-6, err_msg="no pulse yet"
    )
    pulsed = np.flatnonzero(~small)
    factor = guard.raw.chip.model.write_current_factor  # type: ignore[attr-defined]
    at = pulsed[0]
    volts = float(values["level_volts_v"][at])
    assert values["level_current_a"][at] == pytest.approx(first[at] * volts * factor(volts), rel=1e-6)
    assert values["set_v"] > 0.5
    assert values["reset_v"] < -0.5
    assert outcome.pulses == len(pulsed)
    guard.close()


def test_starting_from_any_checkpoint_equals_the_whole_run() -> None:
    def driven(start: Any, index: Any = None) -> Any:
        on = Switch()
        if index is not None:
            on.index = index
        protocol = IvSweep(potentiate_v=1.2, depress_v=1.0, levels=6, cycles=2, devices=2)
        steps, answer, found = protocol.steps(on.view(), np.random.default_rng(0), start), None, []
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value, found, on
            if isinstance(step, Checkpoint):
                found.append((step, on.index.copy()))
                answer = None
            else:
                answer = on.answer(step)

    whole, found, on = driven(None)
    assert len(found) == 4
    assert sum(isinstance(step, Note) and step.name == "branch" for step in on.log) == 8
    for step, index in found:
        rest, _, _ = driven(step.state, index)
        for name, value in whole.values.items():
            np.testing.assert_array_equal(rest.values[name], value, err_msg=name)


def test_a_level_is_as_long_as_the_device_was_measured_where_nobody_says() -> None:
    assert Switch(pulse=Pulse(1.2, 3e-6)).swept(mode="pulsed")["level_s"].tolist() == [3e-6, 3e-6]
    assert Switch(pulse=Pulse(1.2, 3e-6)).swept()["level_s"].tolist() == [1e-2, 1e-2]
