"""The simulated Keithley 2602B, line by line: dialogues of the reference and of other clients, values and time."""

from __future__ import annotations

import itertools

import pytest
from neurobench.sim_instruments.keithley_2600b import Keithley2600B
from ohmic import SIEMENS, Dialogue


@pytest.fixture
def smu() -> Dialogue:
    return Dialogue(Keithley2600B)


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-12, abs=1e-24)


def no_errors(smu: Dialogue) -> None:
    assert float(smu.ask("print(errorqueue.count)")) == 0, smu.ask("print(errorqueue.next())")


def error_code(smu: Dialogue) -> int:
    return int(float(smu.ask("print(errorqueue.next())").split("\t")[0]))


PRECISE = "format.asciiprecision = 16"


def test_it_says_who_it_is(smu: Dialogue) -> None:
    assert smu.ask("*IDN?") == "Keithley Instruments Inc., Model 2602B, NBSIM001, 3.3.5"
    assert smu.ask("print(localnode.model)") == "2602B"
    assert float(smu.ask("print(localnode.linefreq)")) == 50


def test_dialogue_of_pymeasure(smu: Dialogue) -> None:
    smu.write("smua.source.func=1")
    assert float(smu.ask("print(smua.source.func)")) == 1
    smu.write("smua.source.autorangev=1", "smua.source.limiti=0.001000")
    assert smu.ask("print(errorqueue.next())").startswith("0.00000e+00\tQueue Is Empty")
    smu.write("smua.source.levelv=0.200000", "smua.source.output=1", "smua.measure.nplc=1.000000")
    smu.write("smua.measure.autorangei=1")
    assert float(smu.ask("print(smua.measure.i())")) == pytest.approx(0.2 * SIEMENS, rel=1e-5)
    assert float(smu.ask("print(smua.measure.r())")) == pytest.approx(1 / SIEMENS, rel=1e-5)
    no_errors(smu)


def test_dialogue_of_qcodes_has_two_fields(smu: Dialogue) -> None:
    smu.write("smua.source.limiti=0.001", "smua.source.levelv=0.200000000000", "smua.source.output=1")
    current, condition = smu.floats("print(smua.measure.i(), status.measurement.instrument.smua.condition)", "\t")
    assert current == pytest.approx(0.2 * SIEMENS, rel=1e-5)
    assert int(condition) & 3 == 0
    smu.write("smua.source.limiti=1e-7")
    current, condition = smu.floats("print(smua.measure.i(), status.measurement.instrument.smua.condition)", "\t")
    assert current == pytest.approx(1e-7, rel=1e-5)
    assert int(condition) & 3 == 2
    assert smu.ask("print(smua.source.compliance)") == "true"
    assert float(smu.ask("print(status.measurement.current_limit.condition)")) == 2
    no_errors(smu)


def test_two_channels_drive_and_meter_are_exact(smu: Dialogue) -> None:
    smu.write(PRECISE, "smua.source.levelv = 0.05 smub.source.levelv = 0", "smub.source.output = 1")
    smu.write("smub.measure.rangei = 1e-6; smub.measure.nplc = 0.1", "smua.source.output = smua.OUTPUT_ON")
    assert float(smu.ask("print(smub.measure.i())")) == near(-0.05 * SIEMENS)
    assert float(smu.ask("print(smua.measure.i())")) == near(0.05 * SIEMENS)
    assert float(smu.ask("print(smub.measure.rangei)")) == 1e-6
    assert float(smu.ask("print(smua.measure.autorangei, smub.measure.autorangei)").split("\t")[1]) == 0
    no_errors(smu)


def test_a_reading_takes_its_aperture(smu: Dialogue) -> None:
    smu.write("smua.measure.nplc = 0.5 smua.measure.delay = 0.001 smua.measure.count = 3 smua.source.output = 1")
    before = smu.world.now_ps
    smu.ask("print(smua.measure.i())")
    assert smu.world.now_ps - before == 3 * 10_000_000_000 + 1_000_000_000


def test_over_range_is_said_in_value_and_status(smu: Dialogue) -> None:
    smu.write("smua.source.levelv = 1 smua.source.output = 1 smua.measure.rangei = 1e-6")
    assert float(smu.ask("print(smua.measure.i())")) == 9.9e37
    assert int(float(smu.ask("print(status.measurement.instrument.smua.condition)"))) & 128
    smu.write("smua.measure.rangei = 2e-6")
    assert float(smu.ask("print(smua.measure.rangei)")) == 1e-5
    assert float(smu.ask("print(smua.measure.i())")) == pytest.approx(SIEMENS, rel=1e-5)


def test_list_sweep_by_the_trigger_model(smu: Dialogue) -> None:
    smu.write(PRECISE, "smua.source.output = 1 smua.measure.nplc = 0.01 smua.measure.rangei = 1e-5")
    smu.write("smua.nvbuffer1.clear() smua.nvbuffer1.collectsourcevalues = 1 smua.nvbuffer1.appendmode = 1")
    smu.write("smua.trigger.source.listv({0.1, 0.2, -0.3}) smua.trigger.source.action = smua.ENABLE")
    smu.write("smua.trigger.measure.i(smua.nvbuffer1) smua.trigger.measure.action = smua.ENABLE")
    smu.write("smua.trigger.count = 3 smua.trigger.endpulse.action = smua.SOURCE_HOLD")
    smu.silent("smua.trigger.initiate()")
    assert int(float(smu.ask("print(status.operation.instrument.smua.condition)"))) == 8
    assert float(smu.ask("print(status.operation.sweeping.condition)")) == 2
    smu.silent("waitcomplete()")
    assert float(smu.ask("print(status.operation.sweeping.condition)")) == 0
    assert smu.floats("printbuffer(1, smua.nvbuffer1.n, smua.nvbuffer1)") == [
        near(0.1 * SIEMENS), near(0.2 * SIEMENS), near(-0.3 * SIEMENS)]  # fmt: skip
    assert smu.floats("printbuffer(1, 3, smua.nvbuffer1.sourcevalues)") == [0.1, 0.2, -0.3]
    assert smu.floats("printbuffer(1, 3, smua.nvbuffer1.timestamps)") == [0, near(2e-4), near(4e-4)]
    assert float(smu.ask("print(smua.nvbuffer1.readings[2])")) == near(0.2 * SIEMENS)
    no_errors(smu)


TRAIN = (
    "smua.source.rangev = 6 smua.source.limiti = 1e-3 smua.source.levelv = 0 smua.source.output = 1 ",
    "smua.measure.nplc = 0.001 smua.measure.rangei = 1e-4 smua.measure.autozero = smua.AUTOZERO_OFF",
    "smua.nvbuffer1.clear() smua.nvbuffer1.appendmode = 1",
    "trigger.timer[1].delay = 1e-3 trigger.timer[1].count = 1 trigger.timer[1].passthrough = false",
    "trigger.timer[1].stimulus = smua.trigger.SOURCE_COMPLETE_EVENT_ID",
    "smua.trigger.source.listv({1.5}) smua.trigger.source.action = smua.ENABLE",
    "smua.trigger.measure.i(smua.nvbuffer1) smua.trigger.measure.action = smua.ENABLE",
    "smua.trigger.endpulse.stimulus = trigger.timer[1].EVENT_ID smua.trigger.endpulse.action = smua.SOURCE_IDLE",
    "smua.trigger.endsweep.action = smua.SOURCE_IDLE smua.trigger.count = 1 smua.trigger.arm.count = 1",
)


def test_a_timer_gives_the_pulse_its_width(smu: Dialogue) -> None:
    smu.write(*TRAIN, "nb_shot = 0")
    for shots in (1, 2, 3):
        smu.silent("nb_shot = nb_shot + 1 smua.trigger.initiate()")
        assert float(smu.ask("print(smua.nvbuffer1.n)")) == shots - 1
        smu.wait(2e-3)
        assert smu.floats("print(smua.nvbuffer1.n, nb_shot)", "\t") == [shots, shots]
    assert smu.pulses() == [(1.5, 1e-3)] * 3
    no_errors(smu)


def test_timers_repeat_pulses(smu: Dialogue) -> None:
    smu.write(*TRAIN)
    smu.write(
        "trigger.timer[2].delay = 4e-3 trigger.timer[2].count = 4 trigger.timer[2].passthrough = true",
        "trigger.timer[2].stimulus = smua.trigger.ARMED_EVENT_ID smua.trigger.count = 5",
        "smua.trigger.source.stimulus = trigger.timer[2].EVENT_ID",
    )
    smu.silent("smua.trigger.initiate() waitcomplete()")
    assert smu.pulses() == [(1.5, 1e-3)] * 5
    history = smu.world.terminal("smu.1").history
    rises = [ps for ps, volts in history if volts == 1.5]
    assert [b - a for a, b in itertools.pairwise(rises)] == [4_000_000_000] * 4
    assert float(smu.ask("print(smua.nvbuffer1.n)")) == 5


def test_both_channels_pulse_in_step(smu: Dialogue) -> None:
    smu.write(*TRAIN)
    smu.write(*(line.replace("smua", "smub").replace("timer[1]", "timer[3]").replace("1.5", "-1.5") for line in TRAIN))
    smu.silent("smua.trigger.initiate() smub.trigger.initiate() waitcomplete()")
    assert smu.pulses("smu.1") == [(1.5, 1e-3)]
    assert smu.pulses("smu.2") == [(-1.5, 1e-3)]
    assert smu.world.terminal("smu.1").history[-2:] == [(0, 1.5), (10**9, 0.0)]
    assert float(smu.ask("print(smub.nvbuffer1[1])")) == pytest.approx(-3 * SIEMENS, rel=1e-5)
    no_errors(smu)


def test_abort_ends_a_pulse_at_once(smu: Dialogue) -> None:
    smu.write(*TRAIN, "smua.trigger.initiate()")
    smu.wait(3e-4)
    smu.silent("smua.abort()")
    assert smu.pulses() == [(1.5, 3e-4)]
    assert float(smu.ask("print(status.operation.sweeping.condition)")) == 0
    smu.wait(1e-3)  # abort does not stop a timer: it would end the next pulse too early
    smu.silent("smua.trigger.initiate() waitcomplete()")
    assert smu.pulses()[1:] == [(1.5, 1e-3)]
    no_errors(smu)


def test_a_second_initiate_is_ignored(smu: Dialogue) -> None:
    smu.write(*TRAIN, "smua.trigger.initiate()", "smua.trigger.initiate()")
    assert error_code(smu) == -213
    smu.write("waitcomplete()")
    assert len(smu.pulses()) == 1


PULSES = (
    "smua.source.rangev = 6 smua.measure.rangei = 1e-4 smua.measure.nplc = 0.01 smua.measure.autozero = 1",
    "smua.nvbuffer1.clear() smua.nvbuffer1.appendmode = 1 smua.source.output = smua.OUTPUT_ON",
)


def test_factory_pulses(smu: Dialogue) -> None:
    smu.write(*PULSES)
    smu.write("f1, msg1 = ConfigPulseVMeasureI(smua, 0, 2.5, 0.01, 0.002, 0.02, 10, smua.nvbuffer1, 1)")
    assert smu.ask("print(f1)") == "true"
    smu.write("f2, msg2 = InitiatePulseTest(1)")
    assert smu.ask("print(f2)") == "true"
    assert smu.pulses() == [(2.5, 2e-3)] * 10
    assert float(smu.ask("print(smua.nvbuffer1.n)")) == 10
    assert smu.floats("printbuffer(1, 2, smua.nvbuffer1)") == pytest.approx([2.5 * SIEMENS] * 2, rel=1e-5)
    no_errors(smu)


def test_factory_pulses_are_refused_with_a_reason(smu: Dialogue) -> None:
    assert smu.ask("print(InitiatePulseTest(1))").startswith("false\t")
    smu.write("smua.nvbuffer1.appendmode = 1")
    reply = smu.ask("print(ConfigPulseVMeasureI(smua, 0, 2.5, 0.01, 0.002, 0.02, 10, smua.nvbuffer1, 1))")
    assert reply.startswith("false\tsmua: smua.measure.autorangei must be off")
    smu.write(*PULSES, "smua.measure.nplc = 1")
    reply = smu.ask("print(ConfigPulseVMeasureI(smua, 0, 2.5, 0.01, 0.002, 0.02, 10, smua.nvbuffer1, 1))")
    assert reply == "false\tsmua: ton is shorter than the measurement"
    assert smu.pulses() == []


def test_dual_pulses_enclose_each_other(smu: Dialogue) -> None:
    smu.write(*PULSES, *(line.replace("smua", "smub") for line in PULSES))
    smu.write("f, m = ConfigPulseVMeasureI(smua, 0, 1, 0.01, 0.003, 0.02, 2, smua.nvbuffer1, 1)")
    smu.write("f, m = ConfigPulseVMeasureI(smub, 0, -1, 0.01, 0.002, 0.021, 2, smub.nvbuffer1, 2)")
    assert smu.ask("f, m = InitiatePulseTestDual(1, 2) print(f)") == "true"
    assert smu.pulses("smu.1") == [(1.0, 3e-3)] * 2
    assert smu.pulses("smu.2") == [(-1.0, 2e-3)] * 2
    assert float(smu.ask("print(smua.nvbuffer1[1])")) == pytest.approx(2 * SIEMENS, rel=1e-5)
    no_errors(smu)


def test_factory_sweep(smu: Dialogue) -> None:
    smu.write("SweepVLinMeasureI(smua, 0, 1, 1e-3, 5) waitcomplete()")
    found = smu.floats("printbuffer(1, 5, smua.nvbuffer1)")
    assert found == pytest.approx([k / 4 * SIEMENS for k in range(5)], rel=1e-5)
    no_errors(smu)


def test_a_source_of_current_has_a_voltage_limit(smu: Dialogue) -> None:
    smu.write("smua.source.func = smua.OUTPUT_DCAMPS smua.source.leveli = 1e-6 smua.source.limitv = 2")
    smu.write("smua.source.output = 1")
    assert float(smu.ask("print(smua.measure.v())")) == pytest.approx(0.5, rel=1e-5)
    assert smu.ask("print(smua.source.compliance)") == "false"
    smu.write("smua.source.leveli = 1e-5")
    assert float(smu.ask("print(smua.measure.v())")) == pytest.approx(2, rel=1e-5)
    assert smu.ask("print(smua.source.compliance)") == "true"
    assert int(float(smu.ask("print(status.measurement.instrument.smua.condition)"))) & 1


def test_an_output_is_off_at_power_on_and_steps_when_it_goes_on(smu: Dialogue) -> None:
    smu.write("smua.source.levelv = 1.2")
    assert smu.world.terminal("smu.1").driven == (0.0, 1e-3)
    smu.write("smua.source.output = 1")
    assert smu.world.terminal("smu.1").driven == (1.2, 0.1)
    smu.write("smua.source.output = 0 smua.source.offmode = smua.OUTPUT_HIGH_Z")
    assert smu.world.terminal("smu.1").driven is None
    assert float(smu.ask("print(smua.measure.i())")) == 0


def test_what_is_out_of_range_changes_nothing(smu: Dialogue) -> None:
    smu.write("smua.source.levelv = 41")
    assert error_code(smu) == -222
    smu.write("smua.source.rangev = 1", "smua.source.levelv = 2")
    assert error_code(smu) == -222
    assert float(smu.ask("print(smua.source.levelv)")) == 0
    smu.write("smua.source.levl = 1")
    assert error_code(smu) == -286


def test_no_command_changes_the_other_channel(smu: Dialogue) -> None:
    reads = [f"print(smub.{name})" for name in (
        "source.func", "source.levelv", "source.limiti", "source.rangev", "source.output", "measure.nplc",
        "measure.rangei", "measure.autorangei", "measure.delay", "trigger.count", "nvbuffer1.n", "nvbuffer1.appendmode",
    )]  # fmt: skip
    before = [smu.ask(line) for line in reads]
    smu.write(*TRAIN, *PULSES, "smua.trigger.initiate() waitcomplete()", "smua.measure.i(smua.nvbuffer1)")
    assert [smu.ask(line) for line in reads] == before
    assert smu.world.terminal("smu.2").history == [(0, 0.0)]
    no_errors(smu)


def test_a_power_cycle_loses_buffers_and_globals(smu: Dialogue) -> None:
    smu.write(*TRAIN, "nb_nonce = 7", "smua.trigger.initiate()")
    smu.wait(5e-4)
    smu.instrument.power_cycle()
    assert smu.pulses() == [(1.5, 5e-4)]
    assert smu.floats("print(smua.nvbuffer1.n, smua.source.output)", "\t") == [0, 0]
    assert smu.ask("print(nb_nonce)") == "nil"
    assert smu.floats("print(smua.measure.autorangei, smua.source.autorangev)", "\t") == [1, 1]


def test_buffers_keep_their_mode_while_they_hold_something(smu: Dialogue) -> None:
    smu.write("smua.measure.i(smua.nvbuffer1)", "smua.nvbuffer1.appendmode = 1")
    assert error_code(smu) == -221
    smu.write("smua.measure.i(smua.nvbuffer1)")
    assert float(smu.ask("print(smua.nvbuffer1.n)")) == 1
    smu.write("smua.nvbuffer1.clear()", "smua.nvbuffer1.appendmode = 1", "smua.measure.count = 4")
    smu.write("smua.measure.iv(smua.nvbuffer1, smua.nvbuffer2)")
    assert smu.floats("print(smua.nvbuffer1.n, smua.nvbuffer2.n, smua.nvbuffer1.capacity)", "\t") == [4, 4, 140000]
    no_errors(smu)


def test_noise_and_steps_are_those_of_the_range() -> None:
    smu = Dialogue(Keithley2600B, noise=True)
    smu.write(PRECISE, "smua.source.levelv = 0.0500012 smua.source.output = 1 smua.measure.rangei = 1e-6")
    found = [float(smu.ask("print(smua.measure.i())")) for _ in range(200)]
    mean = sum(found) / 200
    spread = (sum((x - mean) ** 2 for x in found) / 199) ** 0.5
    assert mean == pytest.approx(0.05 * SIEMENS, abs=1e-12)
    assert spread == pytest.approx(2e-12, rel=0.25)
    assert all(abs(x / 1e-12 - round(x / 1e-12)) < 1e-6 for x in found)
    smu.write("smua.measure.nplc = 0.01")
    fast = [float(smu.ask("print(smua.measure.i())")) for _ in range(200)]
    assert max(fast) - min(fast) > 5 * (max(found) - min(found))
