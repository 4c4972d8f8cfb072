"""An SMU described by a file: what the file may say, what is said on the wire, and a real read of a simulated 2450."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvisa
from neurobench.drivers.instruments._link import Link
from neurobench.drivers.instruments._roles import PulseSource
from neurobench.drivers.instruments.generic_smu import GenericSmu, read_description
from neurobench.sim_instruments.serve.visalib import SimulatedVisa
from neurobench.sim_instruments.world.clock import SimClock
from neurobench.sim_instruments.world.wiring import lone_cell
from recorder import Recorder, link_to, section

from neurobench import registry
from neurobench.errors import ConfigError, InstrumentError, LimitExceeded, LinkLost

LEVEL = ":SOUR:VOLT 0;:SOUR:VOLT:ILIM 0.001;:SOUR:VOLT?;:SOUR:VOLT:ILIM?;:SYST:ERR?"
OK = '0,"No error;0;0 0"'
READ = (
    ":SOUR:VOLT 0;:OUTP 1;:SOUR:VOLT 0.05;:READ?;:SOUR:VOLT:ILIM:TRIP?;:SOUR:VOLT -0.05;:READ?;"
    ":SOUR:VOLT:ILIM:TRIP?;:SOUR:VOLT 0;:SOUR:VOLT:ILIM?"
)


@pytest.fixture
def example(checkout: Path) -> Path:
    return checkout / "docs" / "generic-smu.toml"


@pytest.fixture
def text(example: Path) -> str:
    return example.read_text(encoding="utf-8")


def generic(example: Path, *script: tuple[str, Any]) -> tuple[GenericSmu, Recorder]:
    """A driver whose limits are set, and what is to be said next."""
    begin = [
        (":OUTP 0;:OUTP?;:SYST:ERR?", f"0;{OK}"),
        (":SOUR:FUNC VOLT", None),
        (':SENS:FUNC "CURR"', None),
        (":SOUR:VOLT:RANG 20", None),
        (":SENS:CURR:RANG:AUTO 0", None),
        (":SYST:ERR?", OK),
        (LEVEL, f"0;1E-3;{OK}"),
    ]
    recorder = Recorder([*begin, *script])
    smu = GenericSmu(link_to(recorder, name="smu"), section("generic-smu", description=str(example)))
    smu.enforce(1e-3, 5.0)
    smu._reading_s = 0.02  # as after `prepare`
    return smu, recorder


# -- the file


def test_the_example_is_valid_and_shows_every_key(example: Path, text: str) -> None:
    found = read_description(str(example))
    for part in (found.identity, found.ranges, found.commands):
        for key in type(part).model_fields:
            assert f"\n{key} = " in text, key


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('level = ":SOUR:VOLT {value}"', 'level = ":SOUR:VOLT"', "commands.level: a command with exactly one {value}"),
        ('limit = ":SOUR', 'limitt = ":SOUR', "commands.limitt: no such key; allowed: setup, level, "),
        ('measure = ":READ?"', 'measure = ":INIT"', "commands.measure: a question, with a '?'"),
        ("max_v = 200.0", "max_v = -1", "ranges.max_v: Input should be greater than 0"),
        ("max_v = 200.0", "", "ranges.max_v: Field required"),
        ("[1e-8, 1e-7", "[1e-7, 1e-8", "ranges.current_a: positive currents, smallest first"),
        ('idn = "MODEL 24[56]0"', 'idn = "MODEL ("', "identity.idn: a regular expression"),
        ("[identity]", "[identity", "is no TOML file"),
        ("[identity]", "[pulse]\nwidth = 1\n[identity]", "pulse: no such key; allowed: identity, ranges, commands"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, old: str, new: str, said: str
) -> None:
    assert old in text
    file = tmp_path / "my-smu.toml"
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_description(str(file))
    assert "my-smu.toml" in str(caught.value)
    assert said in str(caught.value)


def test_a_description_that_is_missing_is_said() -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: No such file .*description"):
        read_description("nowhere.toml")
    with pytest.raises(ConfigError, match="needs its description"):
        read_description("")


# -- the wire


def test_limits_are_set_and_read_back_before_any_output(example: Path) -> None:
    _, recorder = generic(example)
    recorder.finished()
    assert not any("OUTP 1" in line for line in recorder.said)


def test_what_the_instrument_does_not_know_is_told_in_its_words(example: Path) -> None:
    recorder = Recorder(
        [
            (":OUTP 0;:OUTP?;:SYST:ERR?", f"0;{OK}"),
            *((line, None) for line in read_description(str(example)).commands.setup),
            (":SYST:ERR?", '-113,"Undefined header"'),
            (":SYST:ERR?", OK),
        ]
    )
    smu = GenericSmu(link_to(recorder, name="smu"), section("generic-smu", description=str(example)))
    with pytest.raises(InstrumentError, match="-113, Undefined header"):
        smu.enforce(1e-3, 5.0)


def test_range_aperture_and_settling_are_set_once(example: Path) -> None:
    prepare = (
        ":SENS:CURR:RANG 1e-06;:SENS:CURR:NPLC 1;:SOUR:VOLT:DEL 0.001;:SENS:CURR:RANG?;:SENS:CURR:NPLC?;"
        ":SOUR:VOLT:DEL?;:SYST:ERR?"
    )
    smu, recorder = generic(example, (prepare, f"1E-6;1;1E-3;{OK}"))
    smu.prepare(5e-7, 0.02, 1e-3)
    smu.prepare(5e-7, 0.02, 1e-3)
    recorder.finished()


def test_a_read_of_both_polarities_is_one_exchange(example: Path) -> None:
    smu, recorder = generic(example, (READ, "7.5E-7;0;-7.3E-7;1;1E-3"))
    swept = smu.sweep([0.05, -0.05], averages=1)
    assert swept.currents_a == pytest.approx([7.5e-7, -7.3e-7])
    assert swept.compliance
    recorder.finished()


@pytest.mark.parametrize("answer", ["7.5E-7;0;-7.3E-7;1", "7.5E-7;0;x;1;1E-3", "7.5E-7;0;1E-7,2E-7;1;1E-3", "ERROR"])
def test_a_garbled_read_is_never_believed(example: Path, answer: str) -> None:
    smu, _ = generic(example, (READ, answer), (":SYST:ERR?", OK))
    with pytest.raises(LinkLost, match="unintelligible"):
        smu.sweep([0.05, -0.05], averages=1)


def test_an_instrument_that_lost_its_limit_is_not_read(example: Path) -> None:
    smu, _ = generic(example, (READ, "7.5E-7;0;-7.3E-7;0;1.05E-4"))
    with pytest.raises(InstrumentError, match="its current limit is 1.05E-4 A, set was 0.001 A"):
        smu.sweep([0.05, -0.05], averages=1)


def test_levels_above_the_limit_are_not_sent(example: Path) -> None:
    smu, recorder = generic(example)
    with pytest.raises(LimitExceeded):
        smu.sweep([6.0], averages=1)
    recorder.finished()


def test_long_reads_are_cut_into_messages_that_all_end_at_zero(example: Path) -> None:
    smu, recorder = generic(example)
    recorder.answer = lambda line: ";".join(["1E-7;0"] * line.count("READ?") + ["1E-3"]) if "READ" in line else OK
    smu._reading_s = 0.2
    said = len(recorder.said)
    assert smu.sweep([0.05], averages=10).currents_a == pytest.approx([1e-7])
    messages = recorder.said[said:]
    assert len(messages) == 3
    assert all(message.endswith(":SOUR:VOLT 0;:SOUR:VOLT:ILIM?") for message in messages)


def test_safe_is_abort_zero_off_and_its_proof(example: Path) -> None:
    script = [(":ABOR", None), (":SOUR:VOLT 0", None), (":OUTP 0", None)]
    recorder = Recorder([*script, (":OUTP?", "0"), *[*script, (":OUTP?", "1")] * 2])
    smu = GenericSmu(link_to(recorder), section("generic-smu", description=str(example)))
    smu.safe()
    with pytest.raises(InstrumentError, match="still on"):
        smu.safe()


def test_another_instrument_is_named(example: Path) -> None:
    recorder = Recorder([("*IDN?", "KEITHLEY,MODEL 2400,1,C33")] * 2)
    smu = GenericSmu(link_to(recorder), section("generic-smu", description=str(example)))
    with pytest.raises(InstrumentError, match=r"MODEL 2400.*is for 'MODEL 24\[56\]0'"):
        smu.identify()


def test_it_measures_and_does_not_pulse() -> None:
    assert not issubclass(GenericSmu, PulseSource)
    assert registry.load("instruments", "generic-smu") is GenericSmu


# -- on a simulated 2450


@pytest.fixture
def real(example: Path) -> Iterator[tuple[Any, Any]]:
    world = lone_cell("idealized")
    kind: Any = registry.load("sim_instruments", "keithley-2450")
    instrument = kind(world, "smu", "NBSIM001", section("keithley-2450"), noise=False)
    manager = pyvisa.ResourceManager(SimulatedVisa({"GPIB0::5::INSTR": instrument}))
    resource: Any = manager.open_resource("GPIB0::5::INSTR")
    link = Link(resource, SimClock(world), "smu")
    yield GenericSmu(link, section("generic-smu", description=str(example))), world
    manager.close()


def test_the_example_reads_a_simulated_2450(real: tuple[Any, Any]) -> None:
    smu, world = real
    assert smu.identify().simulated
    smu.enforce(1e-3, 5.0)
    smu.prepare(1e-6, 0.02, 1e-3)
    levels = [0.05, -0.05, 0.0]
    swept = smu.sweep(levels, averages=2)
    conductance_s = world.chip.conductance_s()[0, 0]
    assert swept.currents_a == pytest.approx(conductance_s * np.array(levels), rel=1e-6, abs=1e-14)
    assert not swept.compliance
    smu.safe()
    assert smu.errors() == []
    assert world.pulses_fired() == 0
