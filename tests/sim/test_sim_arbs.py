"""Arbitrary waveforms of the simulated 33500B: memory, attributes, levels, bursts, and another client's upload."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neurobench.sim_instruments.engine.generator import sampled_cycle
from neurobench.sim_instruments.keysight_33500b import LONGEST_ARB, Keysight33500B
from neurobench.sim_instruments.serve.visalib import SimulatedVisa
from pymeasure.instruments.agilent import Agilent33500
from traced_world import Talk, TracedWorld

US = 1_000_000  # picoseconds
STAIR = (0, 8191, 16384, 32767, 16384, -16384, -32767, 0)
SET_UP = ("OUTP:LOAD INF", "FUNC ARB", "FUNC:ARB:FILT OFF", "VOLT:HIGH 1;LOW -1", "BURS:MODE TRIG;NCYC 1;STAT 1",
          "TRIG:SOUR BUS")  # fmt: skip


def loaded(codes: tuple[int, ...] = STAIR, rate: str = "1E6") -> Talk:
    talk = Talk(Keysight33500B)
    talk.say(f"DATA:ARB:DAC stair,{','.join(map(str, codes))}", "FUNC:ARB stair", *SET_UP, f"FUNC:ARB:SRAT {rate}")
    assert talk.errors() == []
    return talk


def test_a_burst_plays_the_samples_once_and_rests_at_the_first() -> None:
    talk = loaded((-32767, 0, 32767, 32767, 0, 0, 0, 16384))
    talk.say("OUTP 1")
    assert talk.terminal().now_v == -1.0
    talk.say("*TRG;*WAI")
    volts = [(round(v, 4), ps) for v, ps in talk.terminal().pulses(idle_v=-1.0)]
    assert volts == [(0.0, US), (1.0, 2 * US), (0.0, 3 * US), (0.5, US)]
    assert talk.terminal().now_v == -1.0
    assert talk.world.now_ps == 8 * US


def test_both_channels_begin_together_and_end_with_their_own_waveform() -> None:
    talk = Talk(Keysight33500B)
    for n, codes in ((1, STAIR), (2, STAIR + (0,) * 8)):
        talk.say(f"SOUR{n}:DATA:ARB:DAC mine,{','.join(map(str, codes))}", f"SOUR{n}:FUNC:ARB mine")
        talk.say(f"OUTP{n}:LOAD INF", f"SOUR{n}:FUNC ARB", f"SOUR{n}:VOLT:HIGH 1;LOW -1", f"SOUR{n}:BURS:STAT 1")
        talk.say(f"TRIG{n}:SOUR BUS", f"SOUR{n}:FUNC:ARB:SRAT 1E6", f"OUTP{n} 1")
    talk.say("*TRG")
    assert talk.ask("*OPC?") == "1"
    assert talk.errors() == []
    assert talk.terminal(1).trace[1:] == talk.terminal(2).trace[1:]
    assert talk.world.now_ps == 16 * US


def test_memories_of_channels_are_their_own_and_a_reset_empties_them() -> None:
    talk = loaded()
    assert talk.ask("SOUR1:DATA:VOL:CAT?") == '"INT:\\BUILTIN\\EXP_RISE.ARB","stair"'
    assert talk.ask("SOUR2:DATA:VOL:CAT?") == '"INT:\\BUILTIN\\EXP_RISE.ARB"'
    talk.say("SOUR2:FUNC:ARB stair")
    assert talk.errors() == [786]
    talk.say("*RST")
    assert talk.ask("DATA:VOL:CAT?") == '"INT:\\BUILTIN\\EXP_RISE.ARB"'
    assert talk.ask("FUNC:ARB?;:FUNC?") == '"INT:\\BUILTIN\\EXP_RISE.ARB";SIN'


def test_a_name_is_loaded_once() -> None:
    talk = loaded()
    talk.say("DATA:ARB:DAC stair,0,0,0,0,0,0,0,0")
    assert talk.errors() == [781]
    talk.say("DATA:VOL:CLE", "DATA:ARB:DAC stair,0,0,0,0,0,0,0,0")
    assert talk.errors() == []
    assert talk.number("DATA:ATTR:PTP? stair") == 0


def test_attributes_are_those_of_the_samples() -> None:
    talk = loaded()
    codes = np.array(STAIR) / 32767
    for asked in ("", " stair"):
        assert talk.number(f"DATA:ATTR:POIN?{asked}") == 8
        assert talk.number(f"DATA:ATTR:AVER?{asked}") == pytest.approx(codes.mean(), rel=1e-12)
        assert talk.number(f"DATA:ATTR:PTP?{asked}") == pytest.approx(2.0, rel=1e-12)
        assert talk.number(f"SOUR1:DATA:ATTR:CFAC?{asked}") == pytest.approx(1 / sqrt((codes**2).mean()), rel=1e-12)
    talk.instrument.receive(b"DATA:ATTR:AVER? gone\n")
    assert talk.instrument.take() is None
    assert talk.errors() == [786]
    talk.say("DATA:ARB:DAC zero,0,0,0,0,0,0,0,0")
    assert talk.number("DATA:ATTR:CFAC? zero") == 0


def test_a_memory_that_is_full_takes_no_more() -> None:
    talk = Talk(Keysight33500B)
    free = int(talk.ask("DATA:VOL:FREE?"))
    assert free < LONGEST_ARB
    block = bytes(2 * (free - 10))
    talk.instrument.receive(f"DATA:ARB:DAC big,#7{len(block):07d}".encode() + block + b"\n")
    talk.say(f"DATA:ARB:DAC small,{','.join(['0'] * 11)}")
    assert talk.errors() == [-225]
    assert talk.ask("DATA:VOL:FREE?") == "10"
    talk.say("DATA:ARB:DAC small,0,0,0,0,0,0,0,0,0,0")
    assert talk.errors() == []


@pytest.mark.parametrize("codes", ["0,0,0,0,0,0,0", "0,0,0,0,0,0,0,32768", "0,0,0,0,0,0,0,-32768"])
def test_too_few_samples_and_codes_beyond_the_converter_are_refused(codes: str) -> None:
    talk = Talk(Keysight33500B)
    talk.say(f"DATA:ARB:DAC wrong,{codes}")
    assert talk.errors() == [-222]
    assert "wrong" not in talk.ask("DATA:VOL:CAT?")


def test_without_a_filter_samples_are_slower() -> None:
    talk = Talk(Keysight33500B)
    talk.say("FUNC:ARB:SRAT 250E6")
    assert talk.number("FUNC:ARB:SRAT?") == 250e6
    talk.say("FUNC:ARB:FILT OFF")
    assert talk.errors() == [-221]
    assert talk.number("FUNC:ARB:SRAT?") == 62.5e6
    talk.say("FUNC:ARB:SRAT 100E6")
    assert talk.errors() == [-221]
    talk.say("FUNC:ARB:FILT STEP", "FUNC:ARB:SRAT 100E6")
    assert talk.errors() == []


def test_voltage_limits_hold_for_waveforms() -> None:
    talk = loaded()
    talk.say("VOLT:LIM:HIGH 1.2;LOW -1.2;STAT 1", "VOLT:HIGH 1.5")
    assert talk.errors() == [-221]
    assert talk.number("VOLT:HIGH?") == 1.0


def test_an_output_that_goes_off_cuts_a_waveform() -> None:
    talk = loaded()
    talk.say("OUTP 1", "*TRG")
    talk.world.run_until(3 * US + US // 2)
    talk.say("OUTP 0")
    assert talk.terminal().now_v is None
    talk.world.run_for(1e-3)
    assert talk.terminal().now_v is None


@settings(max_examples=40)
@given(st.lists(st.integers(-3, 3), min_size=8, max_size=60), st.floats(1e3, 62.5e6))
def test_equal_samples_are_one_step_and_no_time_is_lost(codes: list[int], rate: float) -> None:
    cycle = sampled_cycle(rate, tuple(code / 3 for code in codes))
    assert cycle.idle == (codes[0] / 3 + 1) / 2
    assert cycle.ps == round(len(codes) * 1e12 / rate)
    assert all(a.part != b.part for a, b in pairwise(cycle.steps))
    changes = sum(a != b for a, b in pairwise(codes))
    assert len(cycle.steps) == changes + 1


def test_a_long_waveform_costs_what_its_changes_cost() -> None:
    talk = loaded((*STAIR[:-1], *([0] * 200_000)), rate="1E5")
    talk.say("OUTP 1")
    before = talk.world.moves
    talk.say("*TRG;*WAI")
    assert talk.world.moves - before < 3 * len(STAIR)
    assert talk.world.now_ps == 200_007 * 10 * US


def test_pymeasure_uploads_and_plays_a_waveform() -> None:
    world: Any = TracedWorld()
    talk = Talk(Keysight33500B, world)
    name = "TCPIP0::arb::5025::SOCKET"
    library = SimulatedVisa({name: talk.instrument})
    generator = Agilent33500(name, visa_library=library, read_termination="\n", write_termination="\n")
    channel = generator.channels[2]
    channel.shape = "ARB"
    channel.arb_filter = "OFF"
    channel.arb_srate = 1e6
    channel.data_volatile_clear()
    channel.data_arb("ramp", [0, 16384, 32767, 16384, 0, -16384, -32767, 0], data_format="DAC")
    channel.data_arb("floats", [0, 0.5, 1, 0.5, 0, -0.5, -1, 0], data_format="float")
    channel.arb_file = "ramp"
    assert "RAMP" in channel.arb_file.upper()
    generator.write("OUTP2:LOAD INF")
    channel.amplitude, channel.offset = 4, 0
    channel.burst_mode, channel.burst_ncycles, channel.burst_state = "TRIG", 1, True
    generator.write("TRIG2:SOUR BUS")
    channel.output = "on"
    for file in ("ramp", "floats"):
        channel.arb_file = file
        before = len(talk.terminal(2).trace)
        generator.write("*TRG;*WAI")
        assert generator.ask("*OPC?").strip() == "1"
        played = [level.volts for level in talk.terminal(2).trace[before:]]
        assert played == pytest.approx([1, 2, 1, 0, -1, -2, 0], abs=1e-4)
    assert talk.errors() == []
    generator.adapter.close()
