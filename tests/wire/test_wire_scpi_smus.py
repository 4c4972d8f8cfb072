"""What the drivers of the SCPI SMUs say, word for word, and what they believe of the answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.drivers.instruments._roles import Tally, Train
from neurobench.drivers.instruments.keithley_2400 import Keithley2400
from neurobench.drivers.instruments.keithley_2450 import Keithley2450
from neurobench.drivers.instruments.keysight_b2900 import KeysightB2900
from recorder import Recorder, link_to, section

from neurobench.bench.crossbar import Witness
from neurobench.errors import BenchFault, CapabilityMissing, InstrumentError, LimitExceeded, LinkLost

OK = '0,"No error"'
KINDS: dict[str, Any] = {
    "keithley-2450": Keithley2450,
    "keithley-2400": Keithley2400,
    "keysight-b2900": KeysightB2900,
}
WITNESS = Witness(0, "1")

LIMITS = {
    "keithley-2450": [
        (
            ':OUTP 0;:SOUR:FUNC VOLT;:SENS:FUNC "CURR";:SOUR:VOLT 0;:SOUR:VOLT:ILIM 0.001;:SOUR:VOLT:PROT PROT5;'
            ":SOUR:VOLT:RANG 5;:SOUR:VOLT:READ:BACK 0;"
            ":OUTP?;:SOUR:FUNC?;:SENS:FUNC?;:SOUR:VOLT?;:SOUR:VOLT:ILIM?;:SOUR:VOLT:PROT?;:SOUR:VOLT:RANG?;"
            ":SOUR:VOLT:READ:BACK?;:SYST:ERR?",
            f'0;VOLT;"CURR:DC";0;1E-3;PROT5;20;0;{OK}',
        )
    ],
    "keithley-2400": [
        (
            ':OUTP 0;:SOUR:FUNC VOLT;:SENS:FUNC "CURR";:SOUR:VOLT 0;:SENS:CURR:PROT 0.001;:SOUR:VOLT:PROT 20;'
            ":SOUR:VOLT:RANG 5;"
            ":OUTP?;:SOUR:FUNC?;:SENS:FUNC?;:SOUR:VOLT?;:SENS:CURR:PROT?;:SOUR:VOLT:PROT?;:SOUR:VOLT:RANG?;:SYST:ERR?",
            f'0;VOLT;"CURR:DC";0;1E-3;20;21;{OK}',
        )
    ],
    "keysight-b2900": [
        (
            f":OUTP{c} 0;:SOUR{c}:VOLT 0;:SOUR{c}:FUNC:MODE VOLT;"
            f':SENS{c}:FUNC:OFF:ALL;:SENS{c}:FUNC "CURR";:SOUR{c}:FUNC:SHAP DC;:SOUR{c}:VOLT:MODE FIX;'
            f":SENS{c}:CURR:PROT 0.001;:SOUR{c}:VOLT:RANG 5;"
            f":OUTP{c}?;:SOUR{c}:VOLT?;:SOUR{c}:FUNC:MODE?;:SENS{c}:FUNC?;:SOUR{c}:FUNC:SHAP?;:SOUR{c}:VOLT:MODE?;"
            f":SENS{c}:CURR:PROT?;:SOUR{c}:VOLT:RANG?;:SYST:ERR?",
            f'0;0;VOLT;"CURR";DC;FIX;1E-3;20;{OK}',
        )
        for c in (1, 2)
    ],
}

CONNECT = {
    "keithley-2450": [
        (
            ":SOUR:VOLT:ILIM 0.001;:SOUR:VOLT 0;:OUTP 1;:SOUR:VOLT:ILIM?;:SOUR:VOLT?;:OUTP?;:SYST:ERR?",
            f"1E-3;0;1;{OK}",
        )
    ],
    "keithley-2400": [
        (":SENS:CURR:PROT 0.001;:SOUR:VOLT 0;:OUTP 1;:SENS:CURR:PROT?;:SOUR:VOLT?;:OUTP?;:SYST:ERR?", f"1E-3;0;1;{OK}")
    ],
    "keysight-b2900": [
        (
            f":SENS{c}:CURR:PROT 0.001;:SOUR{c}:VOLT 0;:OUTP{c} 1;"
            f":SENS{c}:CURR:PROT?;:SOUR{c}:VOLT?;:OUTP{c}?;:SYST:ERR?",
            f"1E-3;0;1;{OK}",
        )
        for c in (1, 2)
    ],
}

SAFE = {
    "keithley-2450": [(":ABOR", None), (":SOUR:VOLT 0", None), (":OUTP 0", None), (":OUTP?", "0")],
    "keithley-2400": [(":ABOR", None), (":SOUR:VOLT 0", None), (":OUTP 0", None), (":OUTP?", "0")],
    "keysight-b2900": [
        (":ABOR", None),
        *((f":SOUR{c}:VOLT 0", None) for c in (1, 2)),
        *((f":OUTP{c} 0", None) for c in (1, 2)),
        (":OUTP1?;:OUTP2?", "0;0"),
    ],
}

# What a read of +-50 mV is: its message or messages, their answers, and the currents that follow.
SWEEPS = {
    "keithley-2450": (
        [
            (
                ':SOUR:VOLT 0;:OUTP 1;:SOUR:VOLT 0.05;:READ? "defbuffer2";:SOUR:VOLT:ILIM:TRIP?;:SOUR:VOLT -0.05;'
                ':READ? "defbuffer2";:SOUR:VOLT:ILIM:TRIP?;:SOUR:VOLT 0;:SOUR:VOLT:ILIM?',
                "7.5E-7;0;-7.3E-7;0;1E-3",
            )
        ],
        [7.5e-7, -7.3e-7],
    ),
    "keithley-2400": (
        [
            (
                ":SOUR:VOLT 0;:OUTP 1;:SOUR:VOLT 0.05;:READ?;:SOUR:VOLT -0.05;:READ?;:SOUR:VOLT 0;:SENS:CURR:PROT?",
                "7.5E-7,+2.1508E+04;-7.3E-7,+2.1508E+04;1E-3",
            )
        ],
        [7.5e-7, -7.3e-7],
    ),
    "keysight-b2900": (
        [
            (":SOUR1:LIST:VOLT 0.05,-0.05;:TRIG2:ALL:COUN 2;:OUTP2 1;:TRIG1:ALL:COUN 2;:OUTP1 1;:INIT (@1,2)", None),
            (":STAT:OPER:COND?", "0"),
            (":STAT:OPER:COND?", "130"),
            (
                ":FETC:ARR:CURR? (@2);:FETC:ARR:STAT? (@1);:FETC:ARR:STAT? (@2);:SENS1:CURR:PROT?",
                "-7.5E-7,7.3E-7;0,0;0,0;1E-3",
            ),
        ],
        [7.5e-7, -7.3e-7],
    ),
}

BASELINES = {
    "keithley-2450": (
        ':SOUR:LIST:VOLT?;:TRAC:CLE "defbuffer1";*SRE 1;*ESE 1;*ESE?;*SRE?;:TRAC:ACT? "defbuffer1";:TRIG:STAT?',
        "1,0;1;1;0;IDLE;IDLE;6",
    ),
    "keithley-2400": (
        ":SOUR:VOLT:MODE?;:TRAC:CLE;:TRAC:FEED SENS;:TRAC:POIN 2500;:TRAC:FEED:CONT NEXT;*SRE 1;*ESE 1;"
        "*ESE?;*SRE?;:TRAC:POIN:ACT?;:STAT:OPER:COND?",
        "LIST;1;1;0;1024",
    ),
    "keysight-b2900": (
        ":SOUR1:FUNC:SHAP?;:SOUR2:FUNC:SHAP?;"
        ":TRAC1:FEED:CONT NEV;:TRAC1:CLE;:TRAC1:POIN 100000;:TRAC1:FEED SENS;:TRAC1:FEED:CONT NEXT;"
        ":TRAC2:FEED:CONT NEV;:TRAC2:CLE;:TRAC2:POIN 100000;:TRAC2:FEED SENS;:TRAC2:FEED:CONT NEXT;"
        "*SRE 1;*ESE 1;*ESE?;*SRE?;:TRAC1:POIN:ACT?;:STAT:OPER:COND?",
        "PULS;PULS;1;1;0;130",
    ),
}

# Two shots of 3 and 1 pulses: triggers and polls, with the answers before and after their ends.
FIRED: dict[str, list[tuple[str, Any]]] = {
    "keithley-2450": [
        (':TRAC:CLE "defbuffer1";*ESE 2;:SOUR:SWE:VOLT:LIST 1,0.0048,3,OFF,"defbuffer1";:INIT', None),
        ('*ESE?;:TRAC:ACT? "defbuffer1";:TRIG:STAT?', "2;3;RUNNING;RUNNING;4"),
        ('*ESE?;:TRAC:ACT? "defbuffer1";:TRIG:STAT?', "2;6;IDLE;IDLE;6"),
        (':TRAC:CLE "defbuffer1";*ESE 3;:SOUR:SWE:VOLT:LIST 1,0.0048,1,OFF,"defbuffer1";:INIT', None),
        ('*ESE?;:TRAC:ACT? "defbuffer1";:TRIG:STAT?', "3;2;IDLE;IDLE;6"),
        (':TRAC:DATA? 1,2,"defbuffer1",READ', "1.5E-5,1E-12"),
        ('*ESE?;*SRE?;:TRAC:ACT? "defbuffer1";:TRIG:STAT?', "3;1;2;IDLE;IDLE;6"),
    ],
    "keithley-2400": [
        ("*ESE 2;:TRIG:COUN 6;:INIT", None),
        (":TRAC:POIN:ACT?;:STAT:OPER:COND?", "3;8"),
        (":TRAC:POIN:ACT?;:STAT:OPER:COND?", "6;1024"),
        ("*ESE 3;:TRIG:COUN 2;:INIT", None),
        (":TRAC:POIN:ACT?;:STAT:OPER:COND?", "8;1024"),
        (":TRAC:DATA?", ",".join(["1E-5,0,0,0"] * 3 + ["1.5E-5,0,1E-12,0"])),
        ("*ESE?;*SRE?;:TRAC:POIN:ACT?;:STAT:OPER:COND?", "3;1;8;1024"),
    ],
    "keysight-b2900": [
        ("*ESE 2;:TRIG1:ALL:COUN 3;:TRIG2:ALL:COUN 3;:INIT (@1,2)", None),
        (":TRAC1:POIN:ACT?;:STAT:OPER:COND?", "1;0"),
        (":TRAC1:POIN:ACT?;:STAT:OPER:COND?", "3;130"),
        ("*ESE 3;:TRIG1:ALL:COUN 1;:TRIG2:ALL:COUN 1;:INIT (@1,2)", None),
        (":TRAC1:POIN:ACT?;:STAT:OPER:COND?", "4;130"),
        (":FETC:ARR:CURR? (@1);:FETC:ARR:CURR? (@2)", "1.5E-5;-1.4E-5"),
        ("*ESE?;*SRE?;:TRAC1:POIN:ACT?;:STAT:OPER:COND?", "3;1;4;130"),
    ],
}
CURRENTS = {"keithley-2450": [[1.5e-5]], "keithley-2400": [[1.5e-5]], "keysight-b2900": [[1.5e-5, 1.4e-5]]}


@pytest.fixture(params=list(KINDS))
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def driver(model: str, recorder: Recorder) -> Any:
    return KINDS[model](link_to(recorder, name="smu"), section(model))


def enforced(model: str, *script: tuple[str, Any]) -> tuple[Any, Recorder]:
    """A driver whose limits are set, and what is to be said next."""
    recorder = Recorder([*LIMITS[model], *script])
    smu = driver(model, recorder)
    smu.enforce(1e-3, 5.0)
    return smu, recorder


def prepared(model: str, *script: tuple[str, Any]) -> tuple[Any, Recorder]:
    """A driver that is ready to read, and what is to be said next."""
    smu, recorder = enforced(model)
    recorder.answer = echo
    smu.prepare(5e-7, 0.02, 1e-3)
    if hasattr(smu, "AVERAGES"):
        smu.set_checked(smu.AVERAGES, 1.0)
        smu._known[("averages", "")] = 1.0
    recorder.answer, recorder.script = None, list(script)
    return smu, recorder


def pulsing(model: str, *script: tuple[str, Any]) -> tuple[Any, Recorder]:
    """A driver with one kind of pulse programmed, and what is to be said next."""
    smu, recorder = enforced(model)
    recorder.answer = echo
    levels = (0.5, -0.5) if smu.outputs == 2 else (1.0,)
    smu.program(Train(levels, 5e-3), measure=True)
    recorder.answer, recorder.script = None, list(script)
    recorder.clock.time_s = 0.0
    return smu, recorder


def echo(line: str) -> Any:
    """Answers a message as an instrument does that takes everything."""
    if line == ":SYST:LFR?":
        return "50"
    values: dict[str, str] = {}
    answers = []
    for part in line.split(";"):
        head, _, value = part.partition(" ")
        if part == ":SYST:ERR?":
            answers.append(OK)
        elif head.endswith("?"):
            answers.append(values[head[:-1].replace("TRAN", "ALL")])
        else:
            values[head] = value
    return ";".join(answers)


# -- limits and rest


def test_the_limit_is_set_and_read_back_with_the_output_off(model: str) -> None:
    _, recorder = enforced(model)
    recorder.finished()
    first = recorder.said[0]
    assert 0 <= first.index(":OUTP") < first.index("VOLT 0;") < max(first.find("ILIM 0"), first.find("CURR:PROT 0"))


def test_a_limit_that_was_not_taken_is_refused(model: str) -> None:
    said, answer = LIMITS[model][0]
    wrong = (said, answer.replace("1E-3", "1.05E-4"))
    with pytest.raises(InstrumentError, match=r"current limit was set to 0.001 A and reads back 1.05E-4"):
        driver(model, Recorder([wrong, wrong])).enforce(1e-3, 5.0)


def test_words_of_the_instrument_are_raised(model: str) -> None:
    said, answer = LIMITS[model][0]
    again = [(said, answer.replace(OK, '-222,"Parameter data out of range"')), (":SYST:ERR?", OK)]
    with pytest.raises(InstrumentError, match="-222, Parameter data out of range"):
        driver(model, Recorder([*again, *again])).enforce(1e-3, 5.0)


def test_outputs_go_on_after_limit_and_level(model: str) -> None:
    smu, recorder = enforced(model, *CONNECT[model])
    smu.connect()
    recorder.finished()


def test_no_output_goes_on_before_a_limit_was_set(model: str) -> None:
    recorder = Recorder(answer=echo)
    smu = driver(model, recorder)
    with pytest.raises(InstrumentError, match="no current limit"):
        smu.connect()
    with pytest.raises(InstrumentError, match="no current limit"):
        smu.sweep([0.05], 1)
    with pytest.raises(InstrumentError, match="no current limit"):
        smu.program(Train((1.0,), 5e-3))
    assert not any("OUTP 1" in line for line in recorder.said)


def test_a_read_before_its_range_is_set_is_refused(model: str) -> None:
    smu, recorder = enforced(model)
    with pytest.raises(InstrumentError, match="before its range"):
        smu.sweep([0.05], 1)
    recorder.finished()


def test_safe_stops_goes_to_zero_and_off_and_proves_it(model: str) -> None:
    recorder = Recorder(SAFE[model])
    driver(model, recorder).safe()
    recorder.finished()


def test_safe_says_it_again_and_raises_if_an_output_is_still_on(model: str) -> None:
    *script, (ask, answer) = SAFE[model]
    once = [*script, (ask, answer[:-1] + "1")]
    recorder = Recorder([*once, *SAFE[model]])
    driver(model, recorder).safe()
    recorder.finished()
    with pytest.raises(InstrumentError, match="still on"):
        driver(model, Recorder([*once, *once])).safe()


def test_safe_says_everything_although_each_write_fails(model: str) -> None:
    class Deaf(Recorder):
        def write_raw(self, message: bytes) -> int:
            self.said.append(message.decode().strip())
            raise OSError("no route")

    recorder = Deaf()
    with pytest.raises(LinkLost):
        driver(model, recorder).safe()
    assert recorder.said == [line for line, _ in SAFE[model]]


# -- reading


def test_a_read_of_both_polarities(model: str) -> None:
    script, currents = SWEEPS[model]
    smu, recorder = prepared(model, *script)
    swept = smu.sweep([0.05, -0.05], 1)
    assert swept.currents_a == pytest.approx(currents)
    assert (swept.range_a, swept.compliance, swept.over_range) == (1e-6, False, False)
    recorder.finished()


def test_what_is_set_up_already_is_not_said_again(model: str) -> None:
    smu, recorder = prepared(model)
    smu.prepare(5e-7, 0.02, 1e-3)
    recorder.finished()


def test_an_instrument_that_lost_its_limit_is_not_believed(model: str) -> None:
    *script, (said, answer) = SWEEPS[model][0]
    smu, _ = prepared(model, *script, (said, answer.replace("1E-3", "1.05E-4")))
    with pytest.raises(InstrumentError, match="restarted"):
        smu.sweep([0.05, -0.05], 1)


@pytest.mark.parametrize(("old", "new"), [("7.5E-7", "x"), ("7.3E-7", "7.3E-7,1"), (";1E-3", ""), ("7.5E-7", "7E60")])
def test_a_garbled_read_is_never_believed(model: str, old: str, new: str) -> None:
    *script, (said, answer) = SWEEPS[model][0]
    assert old in answer
    smu, _ = prepared(model, *script, (said, answer.replace(old, new)), (":SYST:ERR?", OK))
    with pytest.raises(LinkLost, match="unintelligible"):
        smu.sweep([0.05, -0.05], 1)


def test_over_range_is_said(model: str) -> None:
    *script, (said, answer) = SWEEPS[model][0]
    smu, _ = prepared(model, *script, (said, answer.replace("7.3E-7", "9.9E37")))
    assert smu.sweep([0.05, -0.05], 1).over_range


def test_compliance_is_said(model: str) -> None:
    hit = {"keithley-2450": ("7;1;", "7;0;"), "keithley-2400": ("+2.1516E+04", "+2.1508E+04")}
    new, old = hit.get(model, ("0,8;", "0,0;"))
    *script, (said, answer) = SWEEPS[model][0]
    assert old in answer
    smu, _ = prepared(model, *script, (said, answer.replace(old, new, 1)))
    assert smu.sweep([0.05, -0.05], 1).compliance


def test_levels_above_the_limit_are_not_sent(model: str) -> None:
    smu, recorder = prepared(model)
    with pytest.raises(LimitExceeded):
        smu.sweep([5.1], 1)
    with pytest.raises(LimitExceeded):
        smu.program(Train((5.1,), 5e-3))
    with pytest.raises(CapabilityMissing):
        smu.program(Train((1.0,), 1e-9))
    with pytest.raises(CapabilityMissing):
        smu.prepare(1e-6, 100.0, 0.0)
    recorder.finished()


# -- pulsing


def test_no_set_up_fires_and_none_is_said_twice(model: str) -> None:
    smu, recorder = pulsing(model)
    assert not any("INIT" in line or "OUTP 1" in line for line in recorder.said)
    smu.program(smu._train)
    recorder.finished()


def test_one_stimulus_from_its_baseline_to_its_tally(model: str) -> None:
    smu, recorder = pulsing(model, BASELINES[model], *FIRED[model])
    assert smu.baseline(7) == WITNESS
    smu.arm(7, 0, 3)
    smu.trigger()
    assert not smu.done()
    assert smu.done()
    smu.arm(7, 1, 1)
    smu.trigger()
    assert smu.done()
    assert np.array_equal(smu.currents_a(), CURRENTS[model])
    assert smu.tally(7, WITNESS, [3, 1, 2]) == Tally(2, 0)
    recorder.finished()


def test_a_restart_after_programming_is_noticed_by_the_baseline(model: str) -> None:
    said, answer = BASELINES[model]
    gone = answer.replace("1,0;", "0,0;").replace("LIST", "FIX").replace("PULS;PULS", "DC;DC")
    smu, _ = pulsing(model, (said, gone))
    with pytest.raises(InstrumentError, match="it has restarted"):
        smu.baseline(7)
    with pytest.raises(InstrumentError, match="no pulse is programmed"):
        smu.baseline(7)


def counters(model: str, ese: int, sre: int, pulses: int) -> str:
    if KINDS[model].EACH_TRAIN_CLEARS:
        pulses -= sum([3, 1, 2][: max(ese - 2, 0)])  # what went before the last train is not in the buffer any more
    readings = pulses * KINDS[model].READINGS_PER_PULSE
    state = {"keithley-2450": "IDLE;IDLE;6", "keithley-2400": "1024", "keysight-b2900": "130"}[model]
    return f"{ese};{sre};{readings};{state}"


@pytest.mark.parametrize(
    ("ese", "sre", "pulses", "expected", "doubt"),
    [
        (0, 0, 0, (0, 0), "restarted"),
        (1, 1, 0, (0, 0), ""),
        (2, 1, 3, (1, 0), ""),
        (3, 1, 4, (2, 0), ""),
        (2, 1, 2, (0, 2), "cut short"),
        (3, 1, 3, (1, 0), "cut short"),
        (4, 1, 9, (3, 0), "counts 9 pulses where 6"),
        (2, 9, 3, (0, 0), "something else"),
    ],
)
def test_what_the_counters_mean(
    model: str, ese: int, sre: int, pulses: int, expected: tuple[int, int], doubt: str
) -> None:
    found = driver(model, Recorder(answer=lambda _: counters(model, ese, sre, pulses))).tally(7, WITNESS, [3, 1, 2])
    assert found[:2] == expected
    assert doubt in found.doubt
    assert bool(doubt) == bool(found.doubt)


@pytest.mark.parametrize("model", ["keithley-2400", "keysight-b2900"])
def test_the_count_of_triggers_wraps_and_is_still_compared(model: str) -> None:
    repeats = [1] * 300
    smu = driver(model, Recorder(answer=lambda _: counters(model, 1 + 300 % 255, 1, 300)))
    assert smu.tally(7, WITNESS, repeats) == Tally(300, 0)


def test_a_2450_refuses_more_trains_than_it_tells_apart() -> None:
    smu, recorder = pulsing("keithley-2450", BASELINES["keithley-2450"])
    smu.baseline(7)
    smu.arm(7, 253, 1)
    with pytest.raises(CapabilityMissing, match="254 apart"):
        smu.arm(7, 254, 1)
    recorder.finished()


@pytest.mark.parametrize("model", ["keithley-2400", "keysight-b2900"])
def test_more_pulses_than_can_be_counted_are_refused_before_they_are_fired(model: str) -> None:
    smu, recorder = pulsing(model, BASELINES[model])
    smu.baseline(7)
    shots = smu.CAPACITY // smu.max_pulses
    for shot in range(shots):
        smu.arm(7, shot, smu.max_pulses)
    with pytest.raises(CapabilityMissing, match="its buffer counts"):
        smu.arm(7, shots, smu.max_pulses)
    recorder.finished()


def test_a_2450_in_another_language_is_told() -> None:
    recorder = Recorder([("*IDN?", "KEITHLEY INSTRUMENTS,MODEL 2450,1,1.7"), ("*LANG?", "SCPI2400")])
    with pytest.raises(InstrumentError, match="set to SCPI2400"):
        driver("keithley-2450", recorder).identify()


ANSWERS = st.text(st.characters(codec="ascii", exclude_characters="\n\r"), min_size=1, max_size=40)


@pytest.mark.parametrize("model", list(KINDS))
@given(answer=ANSWERS)
def test_whatever_is_answered_only_counters_are_believed(model: str, answer: str) -> None:
    recorder = Recorder(answer=lambda _: answer)
    smu = driver(model, recorder)
    try:
        found = smu.tally(7, WITNESS, [3, 1])
    except BenchFault:
        return
    assert answer.count(";") == 2 + smu.STATE_PARTS
    assert found.doubt


@pytest.mark.parametrize("model", list(KINDS))
@given(answer=ANSWERS)
def test_whatever_is_answered_only_a_count_and_a_state_say_that_it_is_done(model: str, answer: str) -> None:
    smu = driver(model, Recorder(answer=lambda _: answer))
    smu._count_from(7, 2)
    try:
        finished = smu.done()
    except BenchFault:
        return
    assert answer.count(";") == smu.STATE_PARTS
    assert not finished or float(answer.split(";")[0]) >= 2
