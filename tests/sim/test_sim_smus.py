"""The simulated SMUs that speak SCPI: dialogues of the reference and of other clients, values, time, limits."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.sim_instruments.engine.scpi_smu import ScpiSmu
from neurobench.sim_instruments.keithley_2400 import Keithley2400
from neurobench.sim_instruments.keithley_2450 import Keithley2450
from neurobench.sim_instruments.keysight_b2900 import KeysightB2900
from ohmic import SIEMENS, Dialogue


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-12, abs=1e-24)


def no_errors(smu: Dialogue) -> None:
    assert smu.ask("SYST:ERR:COUN?") == "0", smu.ask("SYST:ERR?")


def error_code(smu: Dialogue) -> int:
    return int(smu.ask(":SYST:ERR?").split(",")[0])


# ---------------------------------------------------------------------------------------------- 2450


@pytest.fixture
def k2450() -> Dialogue:
    return Dialogue(Keithley2450)


def test_2450_says_who_it_is_and_what_it_speaks(k2450: Dialogue) -> None:
    assert k2450.ask("*IDN?") == "KEITHLEY INSTRUMENTS,MODEL 2450,NBSIM001,1.7.12b"
    assert k2450.ask("*LANG?") == "SCPI"
    assert k2450.ask("SYST:ERR?") == '0,"No error;0;0 0"'
    k2450.write("*LANG TSP")
    assert error_code(k2450) == -224


def test_2450_dialogue_of_pymeasure(k2450: Dialogue) -> None:
    k2450.silent("*RST;:stat:pres;:*CLS;")
    k2450.write(":SOUR:FUNC VOLT")
    assert k2450.ask(":SOUR:FUNC?") == "VOLT"
    k2450.write(":SOUR:VOLT:RANG:AUTO 1", ":SOUR:VOLT:ILIM 0.001")
    assert k2450.ask("SYST:ERR?").startswith("0,")
    k2450.write(":SENS:FUNC 'CURR';:SENS:CURR:NPLC 1.000000;", ":SENS:CURR:RANG:AUTO 1;", ":SOUR:VOLT:LEV 0.2")
    k2450.write("OUTPUT ON")
    assert k2450.ask("OUTPUT?") == "1"
    assert float(k2450.ask(":READ?")) == near(0.2 * SIEMENS)
    assert float(k2450.ask(":SOUR:VOLT:ILIM?")) == 1e-3
    assert int(k2450.ask(":TRAC:POIN?")) == 100000
    k2450.write(":SOUR:VOLT:DEL 0.01", ":SENS:CURR:AVER:TCON MOV", ":SENS:CURR:AVER:COUNT 20", ":SENS:RES:RSENSE 1")
    assert k2450.ask(":SOUR:VOLT:DEL:AUTO?") == "0"
    assert k2450.ask(":SENS:CURR:AVER:TCON?;COUN?") == "MOV;20"
    assert k2450.ask(":SENS:RES:RSEN?;:SENS:CURR:AZER?;:SENS:COUNT?") == "1;1;1"
    k2450.write(":DISP:LIGH:STAT ON25", ":OUTP:VOLT:SMOD HIMP", ":SYST:BEEP 440, 0.1", ":ROUT:TERM REAR")
    assert k2450.ask(":DISP:LIGH:STAT?;:OUTP:VOLT:SMOD?;:ROUT:TERM?") == "ON25;HIMP;REAR"
    no_errors(k2450)


def test_2450_dialogue_of_qcodes_with_its_sweep(k2450: Dialogue) -> None:
    assert k2450.ask(":SENS:FUNC?") == '"CURR:DC"'
    k2450.write(":SOUR:FUNC VOLT", ':SENS:FUNC "CURR:DC"', "SOUR:voltage:ILIM 0.001", "SOUR:voltage 0.2", ":OUTP 1")
    assert k2450.ask(":OUTP?") == "1"
    assert float(k2450.ask(":MEASure? 'defbuffer1'")) == near(0.2 * SIEMENS)
    k2450.write(":TRACe:CLEar 'defbuffer1'", ":SENSe:current:NPLCycles 0.1")
    k2450.silent(":SOURce:SWEep:voltage:LINear 0,1,11,0,1,AUTO,ON,OFF,'defbuffer1'")
    k2450.silent(":INITiate")
    k2450.silent("*WAI")
    assert k2450.floats(":TRACe:DATA? 1, 11, 'defbuffer1'") == [near(k / 10 * SIEMENS) for k in range(11)]
    assert k2450.ask(":TRACe:ACTual? 'defbuffer1'") == "11"
    assert k2450.ask("SYSTem:LFRequency?") == "50"
    assert k2450.ask(":OUTP?") == "0"
    no_errors(k2450)


def test_2450_list_sweep_pulses_and_counts(k2450: Dialogue) -> None:
    k2450.write(":TRAC:MAKE 'pulses', 1000", ":SENS:CURR:NPLC 0.01", ":SENS:CURR:RANG 1e-4", ":SOUR:VOLT:ILIM 1e-3")
    k2450.write(":SOUR:LIST:VOLT 1.5", ":SOUR:SWE:VOLT:LIST 1, 800e-6, 3, ON, 'pulses'")
    for _ in range(2):
        k2450.silent(":INIT")
        assert k2450.ask(":TRIG:STAT?").startswith("RUNNING")
        k2450.wait(10e-3)
        assert k2450.ask(":TRIG:STAT?").startswith("IDLE")
        assert k2450.ask(":TRAC:ACT? 'pulses'") == "3", "a sweep clears its buffer first"
    assert k2450.pulses() == [(1.5, pytest.approx(3e-3, rel=1e-9))] * 2
    k2450.write(":SOUR:LIST:VOLT 1.5,0", ":SOUR:LIST:VOLT:APP 1.5,0", ":SOUR:SWE:VOLT:LIST 1, 800e-6, 1, ON, 'pulses'")
    k2450.silent(":INIT;*WAI")
    assert k2450.pulses()[2:] == [(1.5, 1e-3)] * 2
    found = k2450.ask(":TRAC:DATA? 1, 2, 'pulses', SOUR, READ, REL").split(",")
    assert [float(found[i]) for i in (0, 1, 3, 4)] == [1.5, near(1.5 * SIEMENS), 0, 0]
    no_errors(k2450)


def test_2450_compliance_is_seen_and_ends_a_sweep(k2450: Dialogue) -> None:
    k2450.write(":SOUR:VOLT 1", ":SOUR:VOLT:ILIM 1e-6", ":OUTP ON")
    assert float(k2450.ask(":READ?")) == near(1e-6)
    assert k2450.ask(":SOUR:VOLT:ILIM:TRIP?") == "1"
    assert int(k2450.ask(":FETC? 'defbuffer1', SOURSTAT")) & 8
    k2450.write(":SOUR:VOLT 0.1")
    assert k2450.ask(":SOUR:VOLT:ILIM:TRIP?") == "0"
    k2450.write(":TRAC:CLE", ":SOUR:SWE:VOLT:LIN 0,1,11,0", ":INIT;*WAI")
    assert k2450.ask(":TRAC:ACT?") == "7"


def test_2450_over_range(k2450: Dialogue) -> None:
    k2450.write(":SOUR:VOLT 1", ":SOUR:VOLT:ILIM 1e-3", ":SENS:CURR:RANG 1e-6", ":OUTP ON")
    assert float(k2450.ask(":READ?")) == 9.9e37
    assert float(k2450.ask(":SENS:CURR:RANG?")) == 1e-6
    k2450.write(":SENS:CURR:RANG 1e-5")
    assert float(k2450.ask(":READ?")) == near(SIEMENS)


def test_2450_guard_follows_the_output(k2450: Dialogue) -> None:
    guard = k2450.world.terminal("smu.guard")
    assert guard.driven is None
    k2450.write(":SOUR:VOLT 0.3", ":OUTP 1")
    assert guard.driven is not None
    assert guard.driven[0] == 0.3
    k2450.write(":SOUR:VOLT -0.2")
    assert guard.driven[0] == -0.2
    k2450.write(":OUTP 0")
    assert guard.driven is None


def test_2450_abort_ends_a_sweep_at_0_v(k2450: Dialogue) -> None:
    k2450.write(":SOUR:LIST:VOLT 1.5", ":SOUR:SWE:VOLT:LIST 1, 10e-3", ":INIT")
    k2450.wait(2e-3)
    k2450.silent(":ABOR")
    assert k2450.pulses() == [(1.5, 2e-3)]
    assert k2450.ask(":TRAC:ACT?;:OUTP?") == "0;0"


def test_2450_refuses_what_cannot_be(k2450: Dialogue) -> None:
    for line, code in (
        (":SOUR:VOLT 300", -222), (":SENS:CURR:NPLC 20", -222), (":INIT", 2731), (":TRAC:DATA? 1,2", -222),
        (":TRAC:CLE 'nobody'", 4917), (":SOUR:FUNC OHMS", -224), (":SOUR:VOLT", -109), (":NO:SUCH 1", -113),
    ):  # fmt: skip
        k2450.silent(line)
        assert error_code(k2450) == code, line
    k2450.write(":SOUR:VOLT 60", ":OUTP 1")
    assert error_code(k2450) == -221
    assert k2450.ask(":OUTP?") == "0"


def test_2450_power_cycle(k2450: Dialogue) -> None:
    k2450.write("*ESE 1", ":TRAC:MAKE 'pulses', 100", ":SOUR:VOLT 1", ":OUTP 1", ":READ?")
    k2450.instrument.power_cycle()
    assert k2450.instrument.take() is None
    assert k2450.ask("*ESE?;:OUTP?;:TRAC:ACT?") == "0;0;0"
    assert float(k2450.ask(":SOUR:VOLT?")) == 0
    k2450.silent(":TRAC:ACT? 'pulses'")
    assert error_code(k2450) == 4917
    assert k2450.world.terminal("smu.1").driven[0] == 0  # type: ignore[index]


# ---------------------------------------------------------------------------------------------- B2900


@pytest.fixture
def b2900() -> Dialogue:
    return Dialogue(KeysightB2900)


def test_b2900_dialogue_of_qcodes(b2900: Dialogue) -> None:
    assert b2900.ask("*IDN?") == "Keysight Technologies,B2902B,NBSIM001,6.0"
    b2900.write("SENS1:CURR:PROT 0.001", "SOURCE1:VOLT 0.2", "OUTP1 1")
    assert float(b2900.ask("MEAS:CURR? (@1)")) == near(0.2 * SIEMENS)
    assert float(b2900.ask("MEAS:VOLT? (@1)")) == near(0.2)
    assert b2900.ask("SYST:ERR?") == '+0,"No error"'
    assert b2900.ask("OUTP1?;:OUTP2?;:SOUR1:FUNC:MODE?") == "1;0;VOLT"


def test_b2900_two_channels_drive_and_meter(b2900: Dialogue) -> None:
    b2900.write(":SOUR1:VOLT 0.05;:SOUR2:VOLT 0;:SENS2:CURR:RANG 1e-6;:SENS2:CURR:APER 1e-3", ":OUTP2 ON", ":OUTP1 ON")
    before = b2900.world.now_ps
    assert float(b2900.ask("MEAS:CURR? (@2)")) == near(-0.05 * SIEMENS)
    assert b2900.world.now_ps - before == 10**9
    assert float(b2900.ask(":SENS2:CURR:APER?")) == 1e-3
    assert float(b2900.ask(":SENS1:CURR:APER?")) == 20e-3
    no_errors(b2900)


def test_b2900_list_sweep_of_both_channels(b2900: Dialogue) -> None:
    b2900.write(
        ":SOUR1:VOLT:MODE LIST", ":SOUR1:LIST:VOLT 0.1,0,-0.1", ":SENS1:CURR:PROT 1e-3", ":SENS2:CURR:PROT 1e-3"
    )
    b2900.write(":SENS1:CURR:APER 1e-4", ":SENS2:CURR:APER 1e-4", ":TRIG1:ALL:COUN 3", ":TRIG2:ALL:COUN 3")
    b2900.write(":TRIG1:ACQ:DEL 5e-4", ":TRIG2:ACQ:DEL 5e-4", ":OUTP1 1;:OUTP2 1")
    b2900.silent(":INIT (@1,2)")
    assert b2900.ask("*OPC?") == "1"
    assert b2900.floats(":FETC:ARR:CURR? (@2)") == [near(-0.1 * SIEMENS), near(0), near(0.1 * SIEMENS)]
    assert b2900.floats(":FETC:ARR:SOUR? (@1)") == [0.1, 0.0, -0.1]
    both = b2900.floats(":FETC:ARR:CURR? (@1,2)")
    assert both[:2] == [near(0.1 * SIEMENS), near(-0.1 * SIEMENS)]
    times = b2900.floats(":FETC:ARR:TIME? (@1)")
    assert times == pytest.approx([6e-4, 12e-4, 18e-4])
    no_errors(b2900)


PULSE = (
    ":SOUR1:FUNC:MODE VOLT", ":SOUR1:FUNC:SHAP PULS", ":SOUR1:PULS:DEL 0", ":SOUR1:PULS:WIDT 3e-4", ":SOUR1:VOLT 0",
    ":SOUR1:VOLT:TRIG 1.0", ":SENS1:CURR:PROT 1e-3", ":SENS1:CURR:RANG 1e-4", ":SENS1:CURR:APER 2e-5",
    ":TRIG1:ACQ:DEL 2.8e-4", ":TRIG1:SOUR TIM", ":TRIG1:TIM 1e-3", ":TRIG1:ALL:COUN 4",
    ":TRAC1:FEED:CONT NEV;:TRAC1:CLE;:TRAC1:POIN 1000;:TRAC1:FEED SENS;:TRAC1:FEED:CONT NEXT", ":OUTP1 ON",
)  # fmt: skip


def test_b2900_pulses_and_a_trace_that_grows(b2900: Dialogue) -> None:
    b2900.write(*PULSE)
    for shots in (1, 2):
        b2900.silent(":INIT (@1)")
        assert int(b2900.ask(":STAT:OPER:COND?")) & 2 == 0
        b2900.wait(4e-3)
        assert int(b2900.ask(":STAT:OPER:COND?")) & 2
        assert b2900.ask(":TRAC1:POIN:ACT?") == str(4 * shots)
    assert b2900.pulses() == [(1.0, 3e-4)] * 8
    assert b2900.floats(":FETC:ARR:CURR? (@1)") == [near(SIEMENS)] * 4
    b2900.write("FORM:ELEM:SENS CURR")
    assert b2900.floats(":TRAC1:DATA? 0,8") == [near(SIEMENS)] * 8
    no_errors(b2900)


def test_b2900_meter_sees_the_end_of_the_other_channels_pulse(b2900: Dialogue) -> None:
    b2900.write(*PULSE, *(line.replace("R1", "R2").replace("S1", "S2").replace("G1", "G2") for line in PULSE[6:-2]))
    b2900.write(":SOUR2:FUNC:SHAP DC;:SOUR2:VOLT 0;:OUTP2 ON")
    b2900.silent(":INIT (@1,2);*WAI")
    assert b2900.floats(":FETC:ARR:CURR? (@2)") == [near(-SIEMENS)] * 4


def test_b2900_bus_trigger(b2900: Dialogue) -> None:
    b2900.write(*PULSE, ":TRIG1:SOUR BUS", ":TRIG1:ALL:COUN 1", "*TRG")
    assert error_code(b2900) == -211
    b2900.silent(":INIT (@1)")
    b2900.wait(1e-3)
    assert b2900.pulses() == []
    b2900.silent("*TRG;*WAI")
    assert b2900.pulses() == [(1.0, 3e-4)]
    no_errors(b2900)


def test_b2900_abort(b2900: Dialogue) -> None:
    b2900.write(*PULSE, ":INIT (@1)")
    b2900.wait(1e-4)
    b2900.silent(":ABOR (@1)")
    assert b2900.pulses() == [(1.0, 1e-4)]
    assert int(b2900.ask(":STAT:OPER:COND?")) & 2


def test_b2900_staircase_and_read(b2900: Dialogue) -> None:
    b2900.write(":SOUR1:VOLT:MODE SWE;STAR 0;STOP 1;POIN 5", ":TRIG1:COUN 5", ":SENS1:CURR:PROT 1e-3", ":OUTP1 1")
    assert b2900.floats(":READ:ARR:CURR? (@1)") == [near(k / 4 * SIEMENS) for k in range(5)]
    no_errors(b2900)


def test_b2900_limits(b2900: Dialogue) -> None:
    b2900.write(":SOUR1:VOLT 1", ":SENS1:CURR:PROT 1e-6", ":OUTP1 1")
    assert float(b2900.ask(":MEAS:CURR? (@1)")) == near(1e-6)
    assert b2900.ask(":SENS1:CURR:PROT:TRIP?;:SENS2:CURR:PROT:TRIP?") == "1;0"
    b2900.write(":SENS1:CURR:PROT 1e-3", ":SENS1:CURR:RANG 1e-6")
    assert float(b2900.ask(":MEAS:CURR? (@1)")) == 9.9e37
    b2900.write(":SOUR3:VOLT 1")
    assert error_code(b2900) == -114
    b2900.write(":SOUR1:LIST:VOLT 500", ":MEAS? (@3)")
    assert [error_code(b2900), error_code(b2900)] == [-222, -224]


def test_b2900_power_cycle_loses_traces(b2900: Dialogue) -> None:
    b2900.write(*PULSE, "*ESE 1", ":INIT (@1);*WAI")
    b2900.instrument.power_cycle()
    assert b2900.ask(":TRAC1:POIN:ACT?;:OUTP1?;*ESE?") == "0;0;0"


def test_b2900_no_command_changes_the_other_channel(b2900: Dialogue) -> None:
    reads = ";".join(f":{head}?" for head in (
        "SOUR2:VOLT", "SOUR2:FUNC:SHAP", "SOUR2:PULS:WIDT", "SENS2:CURR:PROT", "SENS2:CURR:RANG", "SENS2:CURR:APER",
        "TRIG2:COUN", "TRIG2:ACQ:DEL", "TRIG2:SOUR", "TRAC2:POIN:ACT", "OUTP2", "SOUR2:VOLT:MODE",
    ))  # fmt: skip
    before = b2900.ask(reads)
    b2900.write(*PULSE, ":SOUR1:VOLT:MODE LIST;:SOUR1:LIST:VOLT 1,2", ":INIT (@1);*WAI", ":MEAS? (@1)")
    b2900.instrument.clear()
    assert b2900.ask(reads) == before


# ---------------------------------------------------------------------------------------------- 2400


@pytest.fixture
def k2400() -> Dialogue:
    return Dialogue(Keithley2400)


def test_2400_dialogue_of_pymeasure(k2400: Dialogue) -> None:
    assert k2400.ask("*IDN?") == "KEITHLEY INSTRUMENTS INC.,MODEL 2400,NBSIM001,C33"
    k2400.silent("status:queue:clear;*RST;:stat:pres;:*CLS;")
    k2400.write(":SOUR:FUNC VOLT", ":SOUR:VOLT:RANG:AUTO 1", ":SENS:CURR:PROT 0.1")
    assert k2400.ask(":system:error?") == '+0,"No error"'
    k2400.write(":SENS:FUNC 'CURR';:SENS:CURR:NPLC 1.000000;:FORM:ELEM CURR;", ":SENS:CURR:RANG:AUTO 1;")
    k2400.write(":SOUR:VOLT:LEV 0.2", "OUTPUT ON")
    assert float(k2400.ask(":READ?")) == near(0.2 * SIEMENS)
    k2400.write(":SENS:FUNC RES;:SENS:RES:MODE MAN;:SENS:RES:NPLC 1.000000;:FORM:ELEM RES;")
    assert float(k2400.ask(":READ?")) == near(1 / SIEMENS)
    k2400.write(":SYSTEM:RSENSE 1", ":ARM:SOUR IMM;:TRIG:SOUR IMM;", ":TRIG:OUTP NONE", ":TRIG:SEQ:DEL 0.001")
    assert k2400.ask(":SYSTEM:RSENSE?") == "1"
    k2400.write(":SYST:BEEP 440, 0.1", ':DISP:TEXT:DATA "hello"', ":ROUT:TERM REAR", ":SOUR:DEL 0.01")
    assert k2400.ask(":DISP:TEXT:DATA?;:ROUT:TERM?;:SOUR:DEL:AUTO?") == '"hello";REAR;0'
    no_errors(k2400)


def test_2400_buffer_of_pymeasure(k2400: Dialogue) -> None:
    k2400.write(":STAT:PRES;*CLS;*SRE 1;:STAT:MEAS:ENAB 512;", ":TRAC:CLEAR;", ":TRAC:POIN 4", ":TRIG:COUN 4")
    k2400.write(
        ":TRIG:SEQ:DEL 0", ":TRAC:FEED SENSE;:TRAC:FEED:CONT NEXT;", ":FORM:ELEM CURR", ":SOUR:VOLT 0.1;:OUTP 1"
    )
    assert int(k2400.ask(":TRAC:POIN?")) == 4
    assert int(k2400.ask(":TRIG:COUN?")) == 4
    k2400.silent(":INIT")
    assert int(k2400.ask("*STB?")) & 65 == 0
    k2400.wait(0.1)
    assert int(k2400.ask("*STB?")) & 65 == 65
    assert k2400.floats(":TRAC:DATA?") == [near(0.1 * SIEMENS)] * 4
    assert k2400.floats(":CALC3:FORM MEAN;:CALC3:DATA?;") == [near(0.1 * SIEMENS)]
    no_errors(k2400)


def test_2400_dialogue_of_qcodes(k2400: Dialogue) -> None:
    k2400.write(":TRIG:COUN 1;:FORM:ELEM VOLT,CURR", ':SENS:FUNC "CURR"', ":SOUR:FUNC VOLT", ":SOUR:VOLT:LEV 0.25")
    k2400.write(":OUTP:STAT 1", "SENS:CURR:PROT 0.001")
    assert k2400.floats(":READ?") == [near(0.25), near(0.25 * SIEMENS)]
    assert float(k2400.ask("SENS:CURR:PROT?")) == 1e-3
    no_errors(k2400)


def test_2400_list_sweep(k2400: Dialogue) -> None:
    k2400.write(":SOUR:VOLT:MODE LIST", ":SOUR:LIST:VOLT 0.1,0.2", ":SOUR:LIST:VOLT:APP -0.1,0", ":TRIG:COUN 4")
    k2400.write(":SENS:CURR:PROT 1e-3", ":SOUR:DEL 1e-3", ":FORM:ELEM VOLT,CURR", ":SENS:CURR:NPLC 0.01", ":OUTP ON")
    assert k2400.ask(":SOUR:LIST:VOLT:POIN?") == "4"
    before = k2400.world.now_ps
    found = k2400.floats(":READ?")
    assert found[0::2] == [0.1, 0.2, -0.1, 0.0]
    assert found[1::2] == [near(v * SIEMENS) for v in (0.1, 0.2, -0.1, 0.0)]
    assert k2400.world.now_ps - before == 4 * 1_200_000_000
    no_errors(k2400)


def test_2400_pulses_count_in_the_trace(k2400: Dialogue) -> None:
    k2400.write(":SOUR:VOLT:MODE LIST", ":SOUR:LIST:VOLT 1.5,0", ":TRIG:COUN 4", ":SOUR:DEL 1.8e-3")
    k2400.write(":SENS:CURR:PROT 1e-3", ":SENS:CURR:NPLC 0.01", ":TRAC:POIN 1000;:TRAC:FEED:CONT NEXT", ":OUTP ON")
    for shots in (1, 2):
        k2400.silent(":INIT")
        k2400.wait(20e-3)
        assert k2400.ask(":TRAC:POIN:ACT?") == str(4 * shots)
    assert k2400.pulses() == [(1.5, 2e-3)] * 4
    k2400.instrument.power_cycle()
    assert k2400.ask(":TRAC:POIN:ACT?;:OUTP?") == "0;0"


def test_2400_staircase(k2400: Dialogue) -> None:
    k2400.write(":SOUR:VOLT:MODE SWE;STAR 0;STOP 1;STEP 0.25", ":SOUR:SWE:SPAC LIN;RANG FIX;DIR DOWN", ":TRIG:COUN 5")
    k2400.write(":SENS:CURR:PROT 1e-3", ":FORM:ELEM CURR", ":OUTP ON")
    assert k2400.floats(":READ?") == [near(k / 4 * SIEMENS) for k in (4, 3, 2, 1, 0)]
    no_errors(k2400)


def test_2400_compliance_and_over_range(k2400: Dialogue) -> None:
    k2400.write(":SOUR:VOLT 1", ":SENS:CURR:PROT 1e-6", ":FORM:ELEM CURR,STAT", ":OUTP ON")
    current, status = k2400.floats(":READ?")
    assert current == near(1e-6)
    assert int(status) & 8
    assert k2400.ask(":SENS:CURR:PROT:TRIP?") == "1"
    k2400.write(":SENS:CURR:PROT 1e-3", ":SENS:CURR:RANG 1e-6")
    current, status = k2400.floats(":READ?")
    assert current == 9.9e37
    assert int(status) & 1
    assert k2400.ask(":CURR:PROT:TRIP?") == "0"


def test_2400_bus_trigger(k2400: Dialogue) -> None:
    k2400.write(":ARM:COUN 1;:ARM:SOUR BUS;:TRIG:SOUR IMM;", ":OUTP ON", ":INIT")
    k2400.wait(1.0)
    assert int(k2400.ask(":STAT:OPER:COND?")) == 1 << 6
    k2400.silent("*TRG")
    assert int(k2400.ask(":STAT:OPER:COND?")) == 1 << 3
    k2400.wait(1.0)
    assert int(k2400.ask(":STAT:OPER:COND?")) == 1 << 10
    assert len(k2400.floats(":FETC?")) == 5
    no_errors(k2400)
    k2400.silent(":READ?")
    assert error_code(k2400) == -214


def test_2400_refuses_what_cannot_be(k2400: Dialogue) -> None:
    for line, code in (
        (":READ?", 803), (":SOUR:VOLT 300", -222), ("*TRG", -211), (":FETC?", -230), (":TRIG:COUN 3000", -222),
        (":SOUR:VOLT:RANG 0.2;:SOUR:VOLT 1", -222), (":SENS:FUNC 'TEMP'", -224),
    ):  # fmt: skip
        k2400.silent(line)
        assert error_code(k2400) == code, line


def test_2400_output_off_states(k2400: Dialogue) -> None:
    terminal = k2400.world.terminal("smu.1")
    k2400.write(":SOUR:VOLT 0.4", ":OUTP ON")
    assert terminal.driven == (0.4, 105e-6)
    k2400.write(":OUTP OFF")
    assert terminal.driven is not None
    assert terminal.driven[0] == 0
    k2400.write(":OUTP:SMOD HIMP")
    assert terminal.driven is None
    assert k2400.world.terminal("smu.guard").driven is None


def test_2400_binary_numbers(k2400: Dialogue) -> None:
    k2400.write(":FORM:DATA REAL,32", ":FORM:ELEM CURR", ":SOUR:VOLT 0.2;:OUTP ON", ":READ?")
    reply = k2400.instrument.take()
    assert reply is not None
    assert reply[:3] == b"#14"
    assert struct.unpack(">f", reply[3:7])[0] == pytest.approx(0.2 * SIEMENS, rel=1e-6)


@pytest.mark.parametrize("model", [Keithley2400, Keithley2450, KeysightB2900])
def test_readings_have_the_noise_and_steps_of_their_range(model: type[ScpiSmu]) -> None:
    smu = Dialogue(model, noise=True)
    smu.write(":SOUR1:VOLT 0.05", ":SENS1:CURR:RANG 1e-6", ":OUTP1 1", ":FORM:ELEM CURR")
    ask = ":MEAS:CURR?" if model is not KeysightB2900 else ":MEAS:CURR? (@1)"
    found = [smu.floats(ask)[0] for _ in range(100)]
    mean = sum(found) / len(found)
    spread = (sum((x - mean) ** 2 for x in found) / (len(found) - 1)) ** 0.5
    on = model.SHEET.fit("CURR", 1e-6)
    assert mean == pytest.approx(0.05 * SIEMENS, abs=on.noise)
    assert spread == pytest.approx(math.hypot(on.noise, on.reads / 12**0.5), rel=0.35)


KNOBS = {
    Keithley2450: (
        "SOUR:VOLT:ILIM", "SOUR:CURR:VLIM", "SOUR:VOLT:DEL", "SENS:CURR:NPLC", "SENS:CURR:RANG", "SENS:VOLT:AVER:COUN",
        "SENS:CURR:RANG:AUTO:LLIM", "SENS:RES:RANG", "SOUR:CURR", "SENS:COUN",
    ),
    Keithley2400: (
        "SENS:CURR:PROT", "VOLT:PROT", "SOUR:DEL", "CURR:NPLC", "SENS:CURR:RANG", "TRIG:COUN", "TRIG:DEL", "ARM:COUN",
        "TRAC:POIN", "SENS:AVER:COUN", "SOUR:SWE:POIN", "SOUR:VOLT:STAR", "ARM:TIM", "SOUR:VOLT:PROT",
    ),
    KeysightB2900: (
        "SENS2:CURR:PROT", "SENS2:VOLT:PROT", "SENS2:CURR:APER", "SENS2:CURR:NPLC", "SENS2:CURR:RANG", "TRIG2:COUN",
        "TRIG2:ACQ:DEL", "TRIG2:TRAN:TIM", "SOUR2:PULS:WIDT", "SOUR2:PULS:DEL", "TRAC2:POIN", "CURR", "ARM2:ACQ:COUN",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "header"), [(model, header) for model, many in KNOBS.items() for header in many])
def test_what_can_be_set_can_be_read_with_its_bounds(model: type[ScpiSmu], header: str) -> None:
    smu = Dialogue(model)
    low, high = float(smu.ask(f":{header}? MIN")), float(smu.ask(f":{header}? MAX"))
    assert low < high
    default = float(smu.ask(f":{header}? DEF"))
    for word, value in (("MAX", high), ("DEF", default), ("MIN", low)):
        smu.silent(f":{header} {word}")
        now = float(smu.ask(f":{header}?"))
        assert now == near(value) or "RANG" in header  # a range is one of those that there are
    smu.silent(f":{header} {high + abs(high)}")
    assert error_code(smu) == -222
    smu.silent("*RST")
    no_errors(smu)


@given(st.lists(st.sampled_from((0.3, -0.2, 1.0, 0.0)), min_size=1, max_size=6), st.integers(1, 3))
def test_2400_every_point_of_a_list_is_counted_once(values: list[float], rounds: int) -> None:
    smu = Dialogue(Keithley2400)
    smu.write(":SOUR:VOLT:MODE LIST", f":SOUR:LIST:VOLT {','.join(map(str, values))}", ":SENS:CURR:PROT 1e-3")
    smu.write(f":TRIG:COUN {len(values)}", ":TRAC:POIN 1000;:TRAC:FEED:CONT NEXT", ":FORM:ELEM CURR", ":OUTP ON")
    for _ in range(rounds):
        smu.silent(":INIT;*WAI")
    assert smu.ask(":TRAC:POIN:ACT?") == str(rounds * len(values))
    assert smu.floats(":TRAC:DATA?") == [near(v * SIEMENS) for v in values * rounds]
