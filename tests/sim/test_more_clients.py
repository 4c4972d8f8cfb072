"""What further clients send to our simulated instruments: dialogues as they were logged, and plain pyvisa.

The clients are keithley2600, QCoDeS, tm_devices, PyMeasure and scripts that talk to pyvisa directly. Their code is not
here, their commands are. What they read is what the chip gives.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from neurobench.sim_instruments.benches.visa import SimulatedBench, open_simulation
from neurobench.sim_instruments.keithley_707b import point_of

from neurobench.runs.sim_bench import benches

QUIET = ("readout.noise=false", "instruments.simulation.instrument_noise=false")
READ_V = 0.05


class Bench:
    """The benches of `sim-bench --all`, spoken to without a transport."""

    def __init__(self, closing: ExitStack) -> None:
        self.bench: dict[str, SimulatedBench] = {}
        self._role: dict[str, str] = {}
        for config in benches(None, QUIET, None, every=True, instant=True):
            opened = open_simulation(config, seed=1)
            closing.callback(opened.close)
            for role, section in config.instruments.by_role().items():
                self.bench[section.model], self._role[section.model] = opened, role

    def instrument(self, model: str) -> Any:
        return self.bench[model].instruments[self._role[model]]

    def raw(self, model: str, text: str) -> list[bytes]:
        instrument = self.instrument(model)
        instrument.receive(text.encode("ascii") + b"\n")
        return list(iter(instrument.take, None))

    def say(self, model: str, text: str) -> list[str]:
        return [line.decode("ascii").rstrip("\n") for line in self.raw(model, text)]

    def errors(self, model: str) -> list[int]:
        return [entry.code for entry in self.instrument(model).status.errors]

    def alone_a(self, model: str) -> float:
        """Current at the read voltage through the one cell of a bench without a matrix."""
        return READ_V * float(self.bench[model].world.chip.conductance_s()[0, 0])


@pytest.fixture
def lab() -> Iterator[Bench]:
    with ExitStack() as closing:
        yield Bench(closing)


def routed_a(lab: Bench, channels: str = "1A01,1E05") -> float:
    """Close a cell to the 2602B through the 707B; its current at the read voltage, measured by plain TSP."""
    lab.say("keithley-707b", f'channel.exclusiveclose("{channels}")')
    said = lab.say(
        "keithley-2600b",
        f"smua.source.limiti = 1e-3 smua.source.levelv = {READ_V} smua.source.output = 1 print(smua.measure.i())",
    )
    return float(said[0])


# ---- TSP


def test_the_sweep_script_of_qcodes_runs_and_answers_in_binary(lab: Bench) -> None:
    expected_a = routed_a(lab)
    script = [
        "loadandrunscript", "smua.measure.count = 1", "startX = 0.0", "dX = 0.01", "smua.nvbuffer1.clear()",
        "smua.nvbuffer1.appendmode = 1", "for index = 1, 6 do", "  target = startX + (index-1)*dX",
        "  smua.source.levelv = target", "  delay(0.001)", "  smua.measure.i(smua.nvbuffer1)", "end",
        "format.data = format.REAL32", "format.byteorder = format.LITTLEENDIAN",
        "printbuffer(1, 6, smua.nvbuffer1.readings)", "endscript",
    ]  # fmt: skip
    (block,) = lab.raw("keithley-2600b", "\r\n".join(script))
    assert block[:2] == b"#0"
    assert block[-1:] == b"\n"
    currents = struct.unpack("<6f", block[2:-1])
    assert expected_a > 1e-9
    assert currents == pytest.approx([expected_a * k / 5 for k in range(6)], rel=1e-5, abs=1e-15)
    assert lab.errors("keithley-2600b") == []


def test_a_loaded_script_runs_by_its_name_until_the_power_goes(lab: Bench) -> None:
    lab.say("keithley-2600b", "loadscript nb_sum\nx = 0\nfor k = 3, 1, -1 do x = x + k end\nprint(x)\nendscript")
    assert lab.say("keithley-2600b", "nb_sum()") == lab.say("keithley-2600b", "nb_sum.run()") == ["6.00000e+00"]
    lab.instrument("keithley-2600b").power_cycle()
    assert lab.say("keithley-2600b", "nb_sum()") == []
    assert lab.errors("keithley-2600b") == [-286]


@pytest.mark.parametrize(
    ("chunk", "printed"),
    [("k = 0 while true do k = k + 1 if k == 4 then break end end print(k)", "4.00000e+00"),
     ("if false then print(1) elseif true then print(2) else print(3) end", "2.00000e+00"),
     ("waitcomplete() print([[1]])", "1"), ("t = {} t[1] = 5 t.name = 'x' print(t[1], t.name)", "5.00000e+00\tx")],
)  # fmt: skip
def test_what_scripts_are_made_of(lab: Bench, chunk: str, printed: str) -> None:
    assert lab.say("keithley-2600b", chunk) == [printed]


def test_a_loop_without_end_is_broken_off(lab: Bench) -> None:
    assert lab.say("keithley-2600b", "while true do nb_x = 1 end print(1)") == []
    assert lab.errors("keithley-2600b") == [-286]


def test_a_device_clear_ends_a_script_that_is_half_there(lab: Bench) -> None:
    lab.say("keithley-2600b", "loadandrunscript\nprint(1)")
    lab.instrument("keithley-2600b").clear()
    assert lab.say("keithley-2600b", "print(2)") == ["2.00000e+00"]


def test_the_tree_of_a_2600_can_be_looked_into_as_keithley2600_does(lab: Bench) -> None:
    ask = lambda text: lab.say("keithley-2600b", f"print({text})")[0]  # noqa: E731
    assert ask("type(_G.smua)") == "table"
    assert ask("type(_G.smua.reset)") == "function"
    lab.say("keithley-2600b", "mt = getmetatable(_G.smua.source)")
    names, name = set(), "nil"
    while (said := ask(f"next(mt.Getters, {name})")) != "nil":
        names.add(said.split("\t")[0])
        name = repr(said.split("\t")[0])
    assert {"levelv", "limiti", "output", "compliance"} <= names
    assert ask("mt.Setters['levelv']") != "nil" == ask("mt.Setters['compliance']")
    assert ask("next(_G.smua, nil)") == "nil"
    lab.say("keithley-2600b", "mt = getmetatable(_G.smua.nvbuffer1)")
    assert ask("mt.luatype") == "reading_buffer"


def test_a_blender_steps_a_sweep_as_keithley2600_programs_it(lab: Bench) -> None:
    expected_a = routed_a(lab)
    lab.say("keithley-2600b", (
        "smua.trigger.source.listv({0, 0.01, 0.05}) smua.trigger.source.action = 1 smua.nvbuffer1.clear() "
        "smua.trigger.measure.action = 1 smua.trigger.measure.iv(smua.nvbuffer1, smua.nvbuffer2) "
        "smua.trigger.measure.stimulus = smua.trigger.SOURCE_COMPLETE_EVENT_ID smua.trigger.count = 3 "
        "trigger.blender[1].orenable = true trigger.blender[1].stimulus[1] = smua.trigger.ARMED_EVENT_ID "
        "trigger.blender[1].stimulus[2] = smua.trigger.PULSE_COMPLETE_EVENT_ID smua.trigger.arm.stimulus = "
        "trigger.EVENT_ID smua.trigger.source.stimulus = trigger.blender[1].EVENT_ID smua.trigger.initiate()"
    ))  # fmt: skip
    (n,) = lab.say("keithley-2600b", "print(smua.nvbuffer1.n)")
    assert float(n) == 0  # it waits for *trg
    said = lab.say("keithley-2600b", "*trg\nwaitcomplete() print(smua.nvbuffer1.readings.getreading(3))")
    assert float(said[0]) == pytest.approx(expected_a, rel=1e-5)
    assert lab.errors("keithley-2600b") == []


def test_the_707b_takes_the_commands_of_the_707a(lab: Bench) -> None:
    frame = lab.instrument("keithley-707b").frame
    for line, closed in (
        ("CA03X", ["1A03"]),
        ("CB01,A02X", ["1A02", "1A03", "1B01"]),
        ("NA03X", ["1A02", "1B01"]),
        ("P0X", []),
    ):
        assert lab.say("keithley-707b", line) == []
        assert frame.closed == [point_of(one) for one in closed]
    lab.say("keithley-707b", "CA99X")
    assert lab.errors("keithley-707b") == [1115]
    assert frame.closed == []


def test_what_qcodes_asks_a_switch_mainframe(lab: Bench) -> None:
    said = [lab.say("keithley-707b", f"print({text})")[0] for text in (
        "slot[1].interlock.state", "slot[1].rows.matrix", "comm.gpib.enable", "lan.status.ipaddress",
    )]  # fmt: skip
    assert said == ["nil", "8.00000e+00", "true", "127.0.0.1"]
    assert len(lab.say("keithley-707b", "print(memory.available())")[0].split(",")) == 4
    lab.say("keithley-707b", "channel.close('1101,1202') setup.save() channel.open('allslots') setup.recall('1')")
    assert lab.say("keithley-707b", "print(channel.getclose('allslots'))") == ["1A01;1B02"]


# ---- SCPI


@pytest.mark.parametrize("model", ["keithley-2400", "keithley-2450", "keysight-b2900"])
def test_a_stored_setup_comes_back_with_the_output_off(lab: Bench, model: str) -> None:
    lab.say(model, ":SOUR1:VOLT 0.05;:OUTP1 ON;*SAV 1;:SOUR1:VOLT 0;*RCL 1")
    level, on = lab.say(model, ":SOUR1:VOLT?;:OUTP1?")[0].split(";")
    assert float(level) == READ_V
    assert on == "0"
    lab.say(model, "*RCL 2")
    assert lab.errors(model) == [-224]


@pytest.mark.parametrize(
    "model", ["keithley-2400", "keithley-2450", "keithley-2600b", "keysight-b2900", "keysight-33500b",
              "keysight-81160a", "keysight-34980a", "keithley-707b"],
)  # fmt: skip
def test_all_answer_what_any_client_may_ask(lab: Bench, model: str) -> None:
    assert lab.say(model, "*opt?") == ["0"]
    assert lab.say(model, "*psc?;*ese?\r") == ["1;0"]
    assert lab.errors(model) == []


def test_errors_are_read_all_at_once_or_as_numbers(lab: Bench) -> None:
    lab.say("keysight-b2900", "NONSENSE\nOUTP1 MAYBE\nNONSENSE")
    assert lab.say("keysight-b2900", ":SYST:ERR:CODE?") == ["-113"]
    assert lab.say("keysight-b2900", ":SYST:ERR:ALL?")[0].count(",") == 3
    assert lab.say("keysight-b2900", ":SYST:ERR:ALL?") == ['+0,"No error"']


def test_a_2400_knows_its_mains_and_auto_zero(lab: Bench) -> None:
    assert lab.say("keithley-2400", ":SYST:AZER:STAT?;:SYST:LFR:AUTO?;:SYST:LFR?") == ["1;1;50"]
    lab.say("keithley-2400", ":SYST:AZER:STAT 0;:SYST:LFR 60;:SENS:FUNC:ALL;:SENS:CURR:PROT -1e-3")
    said = lab.say("keithley-2400", ":SYST:AZER:STAT?;:SYST:LFR:AUTO?;:SYST:LFR?;:SENS:FUNC?")
    assert said == ['0;0;60;"VOLT:DC","CURR:DC","RES"']
    assert float(lab.say("keithley-2400", ":SENS:CURR:PROT?")[0]) == 1e-3
    assert lab.instrument("keithley-2400").smu.meter.aperture_s == pytest.approx(1 / 60)


def test_the_simple_loop_of_a_2450_fills_its_buffer(lab: Bench) -> None:
    lab.say("keithley-2450", ':SENS:FUNC "CURR";:SOUR:VOLT 0.05;:SOUR:VOLT:ILIM 1e-3;:OUTP ON')
    said = lab.say("keithley-2450", ':TRIG:LOAD "SimpleLoop", 4, 0.01;:INIT;*WAI;:TRAC:DATA? 1, 4, "defbuffer1"')
    assert [float(word) for word in said[0].split(",")] == pytest.approx([lab.alone_a("keithley-2450")] * 4, rel=1e-6)


def test_an_81160a_keeps_waveforms_and_applies_functions(lab: Bench) -> None:
    model = "keysight-81160a"
    block = b":DATA1:DAC VOLATILE, #14" + struct.pack(">2h", -8191, 8191) + b"\n"
    lab.instrument(model).receive(block)
    lab.say(model, ":DATA1:COPY ABC, VOLATILE;:APPL1:USER 1000, 0.2, 0")
    assert lab.say(model, ":DATA1:NVOL:CAT?;:TRAC:CHAN1?;:OUTP1?") == ['"EXP_RISE","ABC";0;1']
    assert lab.say(model, ":APPL1?")[0].startswith('"USER ')
    lab.say(model, ":DATA1:DEL ABC;:TRIG:SOUR BUS;:OUTP1 0")
    assert lab.say(model, ":DATA1:NVOL:CAT?;:TRIG:SOUR?") == ['"EXP_RISE";BUS']
    assert lab.errors(model) == []


def test_the_bus_relays_of_a_34980a_touch_nothing(lab: Bench) -> None:
    said = lab.say("keysight-34980a", "ROUT:CLOS (@1921,1203);:ROUT:CLOS? (@1921,1203);:SYST:MOD:ROW:PROT 1, ISO")
    assert said == ["1,1"]
    assert len(lab.instrument("keysight-34980a").frame.closed) == 1
    assert lab.errors("keysight-34980a") == []
