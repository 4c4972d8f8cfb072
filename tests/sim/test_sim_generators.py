"""Simulated pulse generators: dialogues of other clients, exact bursts, and every wrong order that hurts a chip."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neurobench.sim_instruments.engine.generator import MANY_STEPS
from neurobench.sim_instruments.keysight_33500b import Keysight33500B
from neurobench.sim_instruments.keysight_81160a import Keysight81160A
from neurobench.sim_instruments.world.wiring import ground, lone_cell
from traced_world import Talk, TracedWorld

NS = 1_000
US = 1_000_000
BOTH = pytest.mark.parametrize("kind", [Keysight33500B, Keysight81160A])
READY = {
    Keysight33500B: ("FUNC PULS", "FUNC:PULS:WIDT 1E-6;TRAN MIN;PER 1E-5", "OUTP:LOAD INF", "VOLT:HIGH 1;LOW 0",
                     "BURS:MODE TRIG;NCYC 5;STAT 1", "TRIG:SOUR BUS"),
    Keysight81160A: ("FUNC PULS", "PULS:PER 1E-5", "PULS:WIDT 1E-6", "PULS:TRAN MIN", "OUTP:LOAD 1E6",
                     "VOLT:HIGH 1;:VOLT:LOW 0", "ARM:SOUR MAN;:TRIG:COUN 5"),
}  # fmt: skip


def ready(kind: Any, world: Any = None) -> Talk:
    talk = Talk(kind, world)
    talk.say(*READY[kind])
    assert talk.errors() == []
    return talk


# ------------------------------------------------------------------ who it is, and what others send


@BOTH
def test_it_says_who_it_is(kind: Any) -> None:
    maker, model, serial, _ = Talk(kind).ask("*IDN?").split(",")
    assert (maker, serial) == ("Agilent Technologies", "NBSIM009")
    assert model == {"keysight-33500b": "33522B", "keysight-81160a": "81160A"}[kind.MODEL]


def test_dialogue_of_pymeasure_with_a_33500() -> None:
    talk = Talk(Keysight33500B)
    talk.say("SOUR1:FUNC PULS", "SOUR1:FUNC:PULS:WIDT 1.000000e-06", "SOUR1:FUNC:PULS:PER 1.000000e-04")
    talk.say("SOUR1:VOLT 1.200000", "SOUR1:BURS:NCYC 5", "SOUR1:BURS:STAT 1", "TRIG:SOUR BUS", "OUTP1 1", "*TRG;*WAI")
    assert talk.ask("*OPC?") == "1"
    assert talk.errors() == []
    # 1.2 Vpp around 0 V into 50 ohm, and the circuit is open: twice that
    assert talk.terminal().pulses(idle_v=-1.2) == [(1.2, US)] * 5
    assert talk.world.now_ps == 500 * US


def test_dialogue_of_qcodes_with_a_33522b() -> None:
    talk = Talk(Keysight33500B)
    talk.say("SOURce1:FUNCtion PULS", "SOURce1:FUNCtion:PULSE:WIDTh 1e-06", "SOURce1:BURSt:NCYCles 5")
    talk.say("SOURce1:BURSt:STATe 1", "TRIGger1:SOURce BUS", "OUTPut1 1", "*TRG")
    assert talk.ask("SYSTem:ERRor?") == '+0,"No error"'
    assert talk.ask("SOURce1:FUNCtion?") == "PULS"
    assert talk.number("SOURce1:BURSt:NCYCLes?") == 5
    assert (
        talk.ask("OUTPut1:POLarity?;:SOURce1:BURSt:MODE?;:TRIGger1:SLOPe?;:OUTPut:SYNC:SOURce?") == "NORM;TRIG;POS;CH1"
    )
    talk.say("SOURce1:BURSt:NCYCles INF")
    assert talk.number("SOURce1:BURSt:NCYCLes?") == 9.9e37
    talk.say("PHAS:SYNC")
    assert talk.errors() == []


@pytest.mark.parametrize(("state", "pulses"), [("0", 1), ("1", 5)])
def test_dialogue_of_pymeasure_with_an_81160a(state: str, pulses: int) -> None:
    """Its burst_state = True sends STAT 0; who honours that gives one pulse per trigger."""
    talk = Talk(Keysight81160A)
    talk.say(":FUNC1 PULS", ":PULS:PER1 1.000000e-04", ":PULS:WIDT1 1.000000e-06", ":VOLT1 1.200000", ":BURS1:NCYC 5")
    talk.say(f":BURS1:STAT {state}", ":ARM:SOUR1 MAN", "OUTP1 1", "*TRG;*WAI")
    assert talk.errors() == []
    assert talk.ask(":PULS:WIDT1?;:FUNC1:PULS:TRAN?;:VOLT1:LIM:STAT?") == (
        "+1.00000000000000E-06;+2.50000000000000E-09;0"
    )
    assert talk.terminal().pulses(idle_v=-1.2) == [(1.2, US)] * pulses


@pytest.mark.parametrize(
    ("setting", "query", "answer"),
    [
        ("APPL:SQU 2 KHZ, 1.5, 0.25", "APPL?",
         '"SQU +2.00000000000000E+03,+1.50000000000000E+00,+2.50000000000000E-01"'),
        ("FUNC:PULS:DCYC 25", "FUNC:PULS:WIDT?", "+2.50000000000000E-04"),
        ("FUNC:RAMP:SYMM 30", "FUNC:RAMP:SYMM?", "+3.00000000000000E+01"),
        ("FUNC:SQU:DCYC 30", "FUNC:SQU:DCYC?", "+3.00000000000000E+01"),
        ("FREQ MAX", "FREQ? MAX", "+3.00000000000000E+07"),
        ("OUTP2:LOAD MIN", "OUTP2:LOAD?", "+1.00000000000000E+00"),
        ("VOLT 100 MV", "VOLT?", "+1.00000000000000E-01"),
        ("VOLT:UNIT VRMS;:VOLT 1", "VOLT:UNIT?", "VRMS"),
        ("TRIG2:DEL 2US", "TRIG2:DEL?", "+2.00000000000000E-06"),
        ("OUTP:TRIG 1", "OUTP:TRIG?", "1"),
        ("DISP:TEXT 'don''t touch'", "DISP:TEXT?", '"don\'t touch"'),
        ("FORM:BORD SWAP", "FORM:BORD?", "SWAP"),
        ("SYST:BEEP", "SYST:VERS?", "1999.0"),
        ("SOUR1:AM:STAT OFF", "SOUR1:AM:STAT?", "0"),
        ("SOUR2:BURS:GATE:POL INV", "SOUR2:BURS:GATE:POL?", "INV"),
    ],
)  # fmt: skip
def test_settings_of_a_33500b(setting: str, query: str, answer: str) -> None:
    talk = Talk(Keysight33500B)
    talk.say(setting)
    assert talk.ask(query) == answer
    assert talk.errors() == []


def test_volts_rms_are_peak_to_peak_of_the_function() -> None:
    talk = Talk(Keysight33500B)
    talk.say("VOLT:UNIT VRMS", "VOLT 1", "VOLT:UNIT VPP")
    assert talk.number("VOLT?") == pytest.approx(2 * np.sqrt(2))
    talk.say("VOLT:UNIT DBM", "VOLT 0", "VOLT:UNIT VPP")
    assert talk.number("VOLT?") == pytest.approx(0.6325, rel=1e-4)  # 1 mW into 50 ohm
    talk.say("OUTP:LOAD INF", "VOLT:UNIT DBM")
    assert talk.errors() == [-221]
    assert talk.ask("VOLT:UNIT?") == "VPP"


# ------------------------------------------------------------------ pulses, exactly


@BOTH
@settings(max_examples=20)
@given(pulses=st.integers(2, 40), width=st.integers(200, 90_000), high_mv=st.integers(60, 4900))
def test_a_burst_is_so_many_pulses_of_exactly_that_width(kind: Any, pulses: int, width: int, high_mv: int) -> None:
    talk = ready(kind)
    width_s = f"{width}E-10"
    widths = {Keysight33500B: f"FUNC:PULS:WIDT {width_s};:BURS:NCYC {pulses}",
              Keysight81160A: f"PULS:WIDT {width_s};:TRIG:COUN {pulses}"}  # fmt: skip
    talk.say(widths[kind], f"VOLT:HIGH {high_mv / 1000}", "OUTP 1", "*TRG")
    assert talk.ask("*OPC?") == "1"
    assert talk.errors() == []
    assert talk.terminal().pulses() == [(high_mv / 1000, width * 100)] * pulses
    assert talk.world.now_ps == pulses * 10 * US


def test_between_slow_edges_only_the_top_counts() -> None:
    talk = ready(Keysight33500B)
    talk.say("FUNC:PULS:TRAN:LEAD 8E-8;TRA 1.6E-7", "OUTP 1", "*TRG;*WAI")  # whole edges of 100 and 200 ns
    assert talk.terminal().pulses() == [(1.0, US - 150 * NS)] * 5
    assert talk.terminal().trace[2].ps == 100 * NS
    other = ready(Keysight81160A)
    other.say("PULS:TRAN:LEAD 8E-8", "PULS:TRAN:TRA 1.6E-7", "OUTP 1", "*TRG;*WAI")
    assert [ps for _, ps in other.terminal().pulses()] == [US - 100 * NS] * 5  # from edge to edge
    assert talk.errors() == other.errors() == []


@BOTH
def test_two_channels_fire_together(kind: Any) -> None:
    talk = ready(kind)

    def on_two(line: str) -> str:
        header = {"OUTP": "OUTP2", "TRIG": "TRIG2"}.get(line.split(":")[0])
        return f"{header}:{line.partition(':')[2]}" if header else f"SOUR2:{line}"

    second = {
        Keysight33500B: [on_two(line) for line in READY[Keysight33500B]],
        Keysight81160A: ["FUNC2 PULS", "PULS:PER2 1E-5", "PULS:WIDT2 1E-6", "PULS:TRAN2 MIN", "ARM:SOUR2 MAN",
                         ":TRIG2:COUN 5;:OUTP2:LOAD 1E6"],
    }  # fmt: skip
    talk.say(*second[kind])
    talk.say({Keysight33500B: "SOUR2:VOLT:LOW -1;HIGH 0", Keysight81160A: "VOLT2:LOW -1;:VOLT2:HIGH 0"}[kind])
    talk.say("OUTP2:POL INV", "OUTP1 1;:OUTP2 1", "*TRG;*WAI")
    assert talk.errors() == []
    one, two = talk.terminal(1), talk.terminal(2)
    assert two.pulses() == [(-1.0, US)] * 5
    assert [level.ps for level in one.trace[2:]] == [level.ps for level in two.trace[2:]]


@BOTH
def test_the_status_byte_tells_the_end_and_reading_does_not_clear_it(kind: Any) -> None:
    talk = ready(kind)
    talk.say("OUTP 1", "*ESE 1;*CLS", "*TRG;*OPC")
    assert talk.ask("*STB?") == "0"
    talk.world.run_for(49e-6)
    assert talk.ask("*STB?") == "0"
    talk.world.run_for(1e-6)
    assert [talk.ask("*STB?") for _ in range(3)] == ["32"] * 3
    assert talk.ask("*ESR?") == "1"
    assert talk.ask("*STB?") == "0"


@BOTH
def test_a_trigger_during_a_burst_is_ignored(kind: Any) -> None:
    talk = ready(kind)
    talk.say("OUTP 1", "*TRG", "*TRG;*WAI")
    assert talk.errors() == [-211]
    assert len(talk.terminal().pulses()) == 5
    talk.say("*TRG;*WAI")
    assert talk.errors() == []
    assert len(talk.terminal().pulses()) == 10


def test_a_trigger_that_nothing_waits_for_is_ignored() -> None:
    talk = Talk(Keysight33500B)
    talk.say("*TRG")
    talk.say("FUNC PULS", "BURS:STAT 1", "TRIG:SOUR EXT", "*TRG")
    assert talk.errors() == [-211, -211]
    talk.say("OUTP 1", "TRIG", "*WAI")
    assert talk.errors() == []
    assert len(talk.terminal().pulses(idle_v=-0.1)) == 1


@BOTH
def test_with_the_output_off_nothing_reaches_the_chip(kind: Any) -> None:
    talk = ready(kind)
    talk.say("*TRG")
    assert talk.ask("*OPC?") == "1"
    assert talk.errors() == []
    assert talk.world.now_ps == 50 * US
    assert talk.terminal().trace == [(0, None)]


def test_no_query_tells_how_many_were_fired() -> None:
    talk = ready(Keysight33500B)
    talk.say("OUTP 1", "*TRG;*WAI")
    for query in ("BURS:COUN?", "TRIG:COUN:ACT?", "BURS:NCYC:ACT?", "TRIG:EVEN:COUN?", "OUTP:COUN?"):
        talk.say(query)
    assert talk.errors() == [-113] * 5
    assert talk.number("TRIG:COUN?") == 1


# ------------------------------------------------------------------ idle levels and wrong orders


@BOTH
@pytest.mark.parametrize(
    ("high", "low", "polarity", "idle", "top"),
    [(1, 0, "NORM", 0, 1), (0, -1, "NORM", -1, 0), (0, -1, "INV", 0, -1), (1, 0, "INV", 1, 0), (2, 1, "INV", 2, 1)],
)
def test_where_it_rests(kind: Any, high: int, low: int, polarity: str, idle: int, top: int) -> None:
    """Bench rule 9: a negative pulse needs inverted polarity; HIGH 0 / LOW -V rests at -V."""
    talk = ready(kind)
    talk.say("VOLT:LOW -3;:VOLT:HIGH 3", f"VOLT:HIGH {high};:VOLT:LOW {low}", f"OUTP:POL {polarity}", "OUTP 1")
    assert talk.errors() == []
    assert talk.terminal().now_v == idle
    talk.say("*TRG;*WAI")
    assert talk.terminal().pulses(idle) == [(top, US)] * 5


@BOTH
def test_output_on_before_it_waits_for_triggers_runs_freely(kind: Any) -> None:
    talk = Talk(kind)
    talk.say(*(line for line in READY[kind] if "BURS" not in line and "BUS" not in line and "ARM" not in line))
    talk.say("OUTP 1")
    talk.world.run_for(1e-3)
    assert talk.terminal().pulses() == [(1.0, US)] * 100
    talk.say("OUTP 0")
    talk.world.run_for(1e-3)
    assert len(talk.terminal().pulses()) == 100
    assert talk.terminal().now_v is None


def test_burst_mode_with_the_default_trigger_repeats_by_itself() -> None:
    talk = ready(Keysight33500B)
    talk.say("TRIG:SOUR IMM", "BURS:INT:PER 1E-3", "OUTP 1")
    talk.world.run_for(2.5e-3)
    assert len(talk.terminal().pulses()) == 15
    talk.say("TRIG:SOUR TIM;TIM 1E-2")
    talk.world.run_for(25e-3)
    assert len(talk.terminal().pulses()) == 30


def test_applying_a_function_switches_the_output_on() -> None:
    talk = ready(Keysight33500B)
    talk.say("APPL:PULS 1E5, 2, 1")
    talk.world.run_for(1.05e-4)
    assert talk.errors() == []
    assert talk.ask(":OUTP?;:BURS:STAT?;:TRIG:SOUR?") == "1;0;IMM"
    assert len(talk.terminal().pulses()) == 11


def test_levels_polarity_and_function_follow_at_once() -> None:
    talk = ready(Keysight33500B)
    talk.say("OUTP 1", "VOLT:HIGH 2", "VOLT:LOW 0.5")
    assert talk.terminal().now_v == 0.5
    talk.say("OUTP:POL INV")
    assert talk.terminal().now_v == 2
    talk.say("VOLT:OFFS 0", "FUNC DC", "VOLT:OFFS 1.25")
    assert talk.terminal().now_v == 1.25
    talk.say("OUTP OFF")
    assert talk.terminal().now_v is None


def test_a_load_setting_doubles_what_comes_out() -> None:
    talk = ready(Keysight33500B, TracedWorld(source_ohm=50.0))
    talk.say("FUNC DC", "VOLT:OFFS 1", "OUTP 1")
    assert (talk.terminal().now_v, talk.terminal().ohm) == (1.0, 50.0)
    talk.say("OUTP:LOAD 50")  # the numbers change, the output does not
    assert (talk.number("VOLT:OFFS?"), talk.terminal().now_v) == (0.5, 1.0)
    talk.say("VOLT:OFFS 1")
    assert talk.terminal().now_v == 2.0
    assert talk.number("VOLT:OFFS? MAX") == 5.0


def test_power_lost_in_a_burst() -> None:
    talk = ready(Keysight33500B)
    talk.say("DISP:TEXT 'NB 1 2 armed'", "*ESE 1;*CLS", "OUTP 1", "*TRG;*OPC")
    talk.world.run_for(25e-6)
    talk.instrument.power_cycle()
    talk.world.run_for(1e-3)
    assert len(talk.terminal().pulses()) == 3
    assert talk.terminal().now_v is None
    assert talk.ask("*ESE?;:DISP:TEXT?;:OUTP?;:FUNC?;:BURS:STAT?") == '0;"";0;SIN;0'
    assert talk.ask("*ESR?") == "128"


def test_what_a_reset_leaves() -> None:
    talk = ready(Keysight33500B)
    talk.say("DISP:TEXT 'kept'", "*ESE 1", "OUTP 1", "*TRG", "*RST")
    talk.world.run_for(1e-3)
    assert talk.terminal().now_v is None
    assert talk.terminal().pulses() == []
    assert (
        talk.ask("*ESE?;:DISP:TEXT?;:FUNC?;:FREQ?;:VOLT?") == '1;"kept";SIN;+1.00000000000000E+03;+1.00000000000000E-01'
    )
    other = Talk(Keysight81160A)
    other.say("*SRE 145", "STAT:OPER:ENAB 77;:STAT:QUES:ENAB 32767", "*RST", "*CLS")
    assert other.ask("*SRE?;:STAT:OPER:ENAB?;:STAT:QUES:ENAB?") == "145;77;32767"
    other.instrument.power_cycle()
    assert other.ask("*SRE?;:STAT:OPER:ENAB?;:STAT:QUES:ENAB?") == "0;0;0"


def test_abort_breaks_a_burst_off() -> None:
    talk = ready(Keysight33500B)
    talk.say("OUTP 1", "*TRG")
    talk.world.run_for(20.5e-6)
    talk.say("ABOR")
    assert talk.terminal().now_v == 0
    assert talk.ask("*OPC?") == "1"
    assert talk.world.now_ps == 20_500 * NS
    talk.say("*TRG;*WAI")
    assert [ps for _, ps in talk.terminal().pulses()] == [US, US, 500 * NS, *[US] * 5]


def test_an_endless_burst_ends_by_abort_only() -> None:
    talk = ready(Keysight33500B)
    talk.say("BURS:NCYC INF", "OUTP 1", "*ESE 1;*CLS", "*TRG;*OPC")
    talk.world.run_for(1e-3)
    assert talk.ask("*STB?") == "0"
    assert len(talk.terminal().pulses()) == 100
    talk.say("ABOR")
    assert talk.ask("*STB?") == "32"


def test_without_continuous_initiation_only_so_many_triggers_count() -> None:
    talk = ready(Keysight33500B)
    talk.say("OUTP 1", "INIT:CONT OFF", "*TRG")
    assert talk.errors() == [-211]
    talk.say("TRIG:COUN 2", "INIT", *["*TRG;*WAI"] * 3)
    assert talk.errors() == [-211]
    assert len(talk.terminal().pulses()) == 10
    talk.say("INIT:CONT ON", "INIT")
    assert talk.errors() == [-213]


# ------------------------------------------------------------------ couplings


@pytest.mark.parametrize(
    ("lines", "codes", "query", "value"),
    [
        (["FUNC:PULS:WIDT 2E-5"], [-221, -221], "FUNC:PULS:WIDT?", 1e-5 - 9.75e-9),
        (["FUNC:PULS:PER 5E-7"], [-221, -221], "FUNC:PULS:WIDT?", 5e-7 - 9.75e-9),
        (["FUNC:PULS:HOLD DCYC", "FUNC:PULS:PER 1E-3"], [], "FUNC:PULS:WIDT?", 1e-4),
        (["FUNC:PULS:WIDT 1E-8"], [-222], "FUNC:PULS:WIDT?", 1e-6),
        (["FUNC:PULS:WIDT 1E-7", "FUNC:PULS:TRAN 1E-6"], [-221], "FUNC:PULS:TRAN?", 8.06e-8),
        (["FUNC:PULS:TRAN 1 MS"], [-222], "FUNC:PULS:TRAN?", 8.4e-9),
        (["BURS:INT:PER 2E-5", "TRIG:SOUR IMM"], [-221], "BURS:INT:PER?", 51e-6),
        (["BURS:NCYC INF", "TRIG:SOUR IMM"], [-221], "BURS:NCYC?", 9.9e37),
        (["VOLT:HIGH 11"], [-222], "VOLT:HIGH?", 1.0),
        (["VOLT:HIGH 9", "VOLT:LOW 9.5"], [-221], "VOLT:HIGH?", 9.501),
        (["VOLT:OFFS 9.9"], [-221], "VOLT?", 0.2),
        (["VOLT:OFFS 9", "VOLT 4"], [-221], "VOLT:OFFS?", 8.0),
        (["VOLT:LIM:HIGH 1.5;LOW -0.1;STAT 1", "VOLT:HIGH 2"], [-221], "VOLT:HIGH?", 1.0),
        (["VOLT:LIM:HIGH 0.5;STAT 1"], [-221], "VOLT:LIM:STAT?", 0),
        (["VOLT:LIM:STAT 1", "OUTP:LOAD 50"], [-221], "OUTP:LOAD?", 9.9e37),
        (["FUNC RAMP", "FREQ 1E6"], [-222], "FREQ?", 1e5),
        (["FREQ 1E6", "FUNC RAMP"], [-221, -221, -221], "FREQ?", 2e5),
        (["FUNC NOIS"], [-221], "BURS:STAT?", 0),
        (["TRIG3:SOUR BUS"], [-114], "BURS:STAT?", 1),
        (["BURS:NCYC 0"], [-222], "BURS:NCYC?", 5),
        (["FUNC SAW"], [-224], "BURS:NCYC?", 5),
        (["AM:STAT ON"], [-241], "AM:STAT?", 0),
    ],
)
def test_what_does_not_go_together(lines: list[str], codes: list[int], query: str, value: float) -> None:
    talk = ready(Keysight33500B)
    talk.say(*lines)
    assert talk.errors() == codes
    assert talk.number(query) == pytest.approx(value, rel=1e-9)


def test_an_81160a_keeps_what_does_not_fit_and_cuts_what_goes_out() -> None:
    talk = ready(Keysight81160A)
    talk.say("PULS:WIDT 2E-5")
    assert talk.errors() == [-221]
    assert talk.number("PULS:WIDT?") == 2e-5
    talk.say("PULS:PER 1E-4")
    assert talk.errors() == []
    talk.say("OUTP 1", "*TRG;*WAI")
    assert talk.terminal().pulses() == [(1.0, 20 * US)] * 5


def test_limits_hold_while_levels_change() -> None:
    talk = ready(Keysight33500B)
    talk.say("VOLT:LIM:HIGH 1.2;LOW -0.2;STAT 1", "OUTP 1", "VOLT 3", "VOLT:OFFS 1", "VOLT:LOW -1")
    assert talk.errors() == [-221] * 3
    assert (talk.number("VOLT:HIGH?"), talk.number("VOLT:LOW?"), talk.terminal().now_v) == (1.0, 0.0, 0.0)


def test_a_setup_is_stored_and_recalled_with_its_output() -> None:
    talk = ready(Keysight33500B)
    talk.say("OUTP 1", "*SAV 2", "*RST", "*RCL 2", "*TRG;*WAI", "*RCL 1")
    assert talk.errors() == [-224]
    assert talk.terminal().pulses() == [(1.0, US)] * 5


# ------------------------------------------------------------------ other functions


@pytest.mark.parametrize("function", ["SIN", "TRI", "RAMP", "SQU", "NOIS", "PRBS"])
def test_a_function_stays_within_its_levels_and_reaches_them(function: str) -> None:
    talk = Talk(Keysight33500B)
    talk.say("OUTP:LOAD INF", "VOLT:HIGH 3;LOW -1", f"FUNC {function}", "FUNC:PRBS:BRAT 1E4", "FREQ 1E3", "OUTP 1")
    talk.world.run_for(10e-3)
    levels = [level.volts for level in talk.terminal().trace if level.volts is not None]
    assert min(levels) >= -1
    assert max(levels) <= 3
    assert len(set(levels)) >= (2 if function in ("SQU", "PRBS") else 8)
    if function not in ("NOIS", "RAMP"):
        assert (min(levels), max(levels)) == (pytest.approx(-1), pytest.approx(3))


def test_samples_are_played_as_they_were_sent() -> None:
    talk = Talk(Keysight33500B)
    block = struct.pack(">8f", 0, 1, 1, 0.5, 0, -1, 0, 0)
    talk.instrument.receive(b"DATA:ARB mine,#232" + block + b"\n")
    talk.say("DATA:ARB:DAC other, 0, 32767, -32767, 0, 0, 0, 0, 0", "FORM:BORD SWAP")
    talk.instrument.receive(b"DATA:ARB:DAC swapped,#216" + struct.pack("<8h", *range(-4, 4)) + b"\n")
    assert talk.ask("DATA:VOL:CAT?") == '"INT:\\BUILTIN\\EXP_RISE.ARB","mine","other","swapped"'
    talk.say("OUTP:LOAD INF", "VOLT:HIGH 1;LOW -1", "FUNC:ARB mine", "FUNC ARB", "FUNC:ARB:SRAT 1E6")
    talk.say("BURS:STAT 1", "TRIG:SOUR BUS", "OUTP 1", "*TRG;*WAI")
    assert talk.errors() == []
    assert talk.ask("FUNC:ARB?;:FUNC:ARB:POIN?") == '"mine";8'
    assert talk.terminal().pulses() == [(1.0, 2 * US), (0.5, US), (-1.0, US)]
    talk.say("DATA:ARB mine, 0, 0, 0, 0, 0, 0, 0, 0", "FUNC:ARB gone", "DATA:ARB short, 0, 1", "DATA:VOL:CLE")
    assert talk.errors() == [781, 786, -222]
    assert talk.ask("DATA:VOL:CAT?") == '"INT:\\BUILTIN\\EXP_RISE.ARB"'


def test_a_waveform_of_an_81160a() -> None:
    talk = Talk(Keysight81160A)
    talk.say(":DATA VOLATILE, 1, -1, 1, 1", ":FUNC1:USER VOLATILE", ":OUTP1:LOAD 50", ":VOLT1 1", ":FUNC1 USER")
    talk.say(":FREQ1 1E5", ":ARM:SOUR1 MAN", ":OUTP1 1", ":TRIG1", "*WAI")
    assert talk.errors() == []
    assert talk.terminal().pulses(idle_v=1.0) == [(-1.0, 2_500 * NS)]
    assert talk.ask(":DATA:CAT?;:FUNC1:USER?") == '"EXP_RISE","VOLATILE";VOLATILE'


def test_a_free_run_does_not_cost_work_for_ever() -> None:
    talk = Talk(Keysight33500B)
    talk.say("FUNC PULS", "FREQ 1E6", "OUTP 1")
    talk.world.run_for(1e-3)
    assert len(talk.terminal().pulses(idle_v=-0.1)) == 1000  # every one of them is there
    before = talk.world.moves
    talk.world.run_for(10.0)
    assert talk.world.moves - before < 2 * MANY_STEPS
    talk.say("OUTP 0", "BURS:STAT 1;NCYC 5000", "TRIG:SOUR BUS", "OUTP 1")
    count = len(talk.terminal().pulses(idle_v=-0.1))
    talk.say("*TRG;*WAI")
    assert len(talk.terminal().pulses(idle_v=-0.1)) - count == 5000  # what is counted is never thinned out


# ------------------------------------------------------------------ whatever comes in

VOCABULARY = """
FUNC PULS VOLT HIGH OUTP OUTP1 LOAD BURS STAT NCYC TRIG SOUR BUS MAN ARM *TRG *RST *OPC *CLS APPL SQU DATA ARB VOLATILE
DISP TEXT 'x' #11a INF MIN MAX DEF ON OFF 0 -1 1E-6 2.5V 1E6 ABOR INIT CONT *SAV *RCL FREQ WIDT PER LIM UNIT DBM VRMS
POL INV DC SIN NOIS TRAN COUN USER ? : ; ,
"""
WORDS = [" ", *VOCABULARY.split()]


@BOTH
@settings(max_examples=150)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=14), glue=st.sampled_from([" ", ":", ""]))
def test_nothing_that_comes_in_breaks_it(kind: Any, words: list[str], glue: str) -> None:
    talk = ready(kind)
    talk.instrument.receive(b"OUTP 1\n" + glue.join(words).encode() + b"\n")
    talk.world.run_for(1e-4)
    assert -310 not in talk.errors()
    talk.instrument.clear()
    talk.say("*RST;*CLS")
    assert talk.ask("*IDN?;*OPC?").endswith(";1")
    assert talk.terminal().now_v is None


# ------------------------------------------------------------------ the chip


def cell_bench(kind: Any) -> Talk:
    """One cell with a generator on its word line."""
    world = lone_cell("idealized")
    world.join(world.terminal("pulse.1").node, world.line(0, 0))
    return ready(kind, world)


@BOTH
def test_the_chip_feels_every_pulse_of_a_burst(kind: Any) -> None:
    talk = cell_bench(kind)
    before = float(talk.world.chip.conductance_s()[0, 0])
    talk.say("OUTP 1", "*TRG;*WAI", "OUTP 0")
    assert talk.world.pulses_fired() == 5
    assert [exposure.seconds for exposure in talk.world.ledger] == [1e-6] * 5
    assert talk.world.damage == talk.world.mishaps == ()
    assert float(talk.world.chip.conductance_s()[0, 0]) > before


def test_an_idle_level_that_is_not_zero_hurts_the_chip() -> None:
    talk = cell_bench(Keysight33500B)
    talk.say("VOLT:LOW -1;HIGH 0", "OUTP 1")
    talk.world.run_for(0.1)
    assert talk.world.damage
    safe = cell_bench(Keysight33500B)
    safe.say("VOLT:LOW -1;HIGH 0", "OUTP:POL INV", "OUTP 1")
    safe.world.run_for(0.1)
    assert safe.world.damage == safe.world.ledger == ()


def test_a_free_run_is_felt_pulse_by_pulse() -> None:
    talk = cell_bench(Keysight33500B)
    talk.say("BURS:STAT 0", "OUTP 1")
    talk.world.run_for(1e-3)
    assert talk.world.pulses_fired() == 100


def test_a_relay_that_closes_on_a_level_is_a_transient() -> None:
    world = lone_cell("idealized")
    relays = world.relays(1, 1)
    world.join(world.terminal("pulse.1").node, relays.row_node(1))
    world.join(relays.column_node(1), world.line(0, 0))
    ground(world)
    talk = ready(Keysight33500B, world)
    talk.say("OUTP 1")
    relays.close(1, 1)
    relays.open(1, 1)
    world.run_for(1e-3)
    assert world.mishaps == world.ledger == ()  # at its idle level of 0 V nothing happens
    talk.say("FUNC DC", "VOLT:OFFS 1")
    relays.close(1, 1)
    assert "relay closed with 1 V" in world.mishaps[0].what
    assert world.ledger
