"""What the driver of the 33500B says, word for word and in which order, and what it believes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.drivers.instruments._generator import Levels, levels_of
from neurobench.drivers.instruments._roles import Tally, Train
from neurobench.drivers.instruments.keysight_33500b import Keysight33500B
from parrot import Parrot, garble, generator_on, refuses_before_an_output_goes_on
from recorder import Recorder

from neurobench.bench.crossbar import Witness
from neurobench.errors import CapabilityMissing, InstrumentError, LimitExceeded, LinkLost, UsageError

TRAIN = Train((0.6, -0.6), 2e-7)
EVIDENCE = "*STB?;*ESE?;:DISP:TEXT?;*STB?;*ESE?;:DISP:TEXT?"


def bench(**settings: Any) -> tuple[Keysight33500B, Parrot, Recorder]:
    parrot = Parrot()
    driver, recorder = generator_on(parrot, Keysight33500B, "keysight-33500b", **settings)
    return driver, parrot, recorder


def ready(seq: int = 7) -> tuple[Keysight33500B, Parrot, Recorder, Witness]:
    driver, parrot, recorder = bench()
    driver.program(TRAIN)
    driver.connect()
    witness = driver.baseline(seq)
    recorder.said.clear()
    return driver, parrot, recorder, witness


# ---------------------------------------------------------------------------------------------- setting up


CHANNEL_1 = (
    ":OUTP1 0;:SOUR1:VOLT:LIM:STAT 0;:OUTP1:LOAD INF;"
    ":SOUR1:BURS:STAT 0;:SOUR1:FUNC PULS;:SOUR1:VOLT MIN;:SOUR1:VOLT:OFFS 0;:SOUR1:FUNC PULS;"
    ":SOUR1:VOLT:LIM:HIGH 10;:SOUR1:VOLT:LIM:LOW -10;:SOUR1:VOLT:LIM:STAT 1;"
    ":SOUR1:FUNC:PULS:TRAN:BOTH MIN;:SOUR1:FUNC:PULS:WIDT MIN;:SOUR1:FUNC:PULS:PER 2.4e-07;"
    ":SOUR1:FUNC:PULS:WIDT 2e-07;:SOUR1:FUNC:PULS:TRAN:LEAD MIN;:SOUR1:FUNC:PULS:TRAN:TRA MIN;"
    ":OUTP1:POL NORM;:SOUR1:VOLT:HIGH 0.6;:SOUR1:VOLT:LOW 0;"
    ":SOUR1:BURS:MODE TRIG;:TRIG1:SOUR BUS;:INIT1:CONT 1;:TRIG1:DEL 0;:SOUR1:BURS:PHAS 0;:OUTP1:MODE NORM;"
    ":SOUR1:BURS:NCYC 1;:SOUR1:BURS:STAT 1"
)


def test_a_channel_is_set_up_by_one_message_and_all_is_read_back_by_one() -> None:
    driver, _, recorder = bench()
    driver.program(TRAIN)
    first, second, questions = recorder.said
    assert first == CHANNEL_1
    swapped = CHANNEL_1.replace("SOUR1", "SOUR2").replace("OUTP1", "OUTP2").replace("TRIG1", "TRIG2")
    levels, turned = (
        ":OUTP2:POL NORM;:SOUR2:VOLT:HIGH 0.6;:SOUR2:VOLT:LOW 0",
        ":OUTP2:POL INV;:SOUR2:VOLT:LOW -0.6;:SOUR2:VOLT:HIGH 0",
    )
    assert second == swapped.replace("INIT1", "INIT2").replace(levels, turned)
    asked = questions.split(";")
    assert all(question.endswith("?") for question in asked)
    assert asked[-1] == ":SYST:ERR?"
    assert {":OUTP1:LOAD?", ":OUTP2:POL?", ":SOUR2:VOLT:HIGH?", ":TRIG1:SOUR?", ":SOUR1:BURS:STAT?"} <= set(asked)


def test_what_is_set_up_is_not_set_up_again() -> None:
    driver, _, recorder = bench()
    driver.program(TRAIN)
    driver.connect()
    recorder.said.clear()
    driver.program(TRAIN)
    driver.connect()
    assert recorder.said == []
    driver.program(Train((-0.6, 0.6), 2e-7))
    assert len(recorder.said) == 3


def test_after_a_lost_answer_it_is_set_up_again() -> None:
    driver, _, recorder = bench()
    driver.program(TRAIN)
    driver.link.losses += 1
    recorder.said.clear()
    driver.program(TRAIN)
    assert recorder.said[0] == CHANNEL_1


def test_outputs_go_on_last_and_their_idle_level_is_asked_in_the_same_message() -> None:
    driver, _, recorder = bench()
    driver.program(TRAIN)
    assert not any(":OUTP1 1" in line or ":OUTP2 1" in line for line in recorder.said)
    driver.connect()
    said = recorder.said[-1].split(";")
    assert said[:2] == [":OUTP1 1", ":OUTP2 1"]
    assert {":SOUR1:VOLT:HIGH?", ":SOUR1:VOLT:LOW?", ":OUTP1:POL?", ":OUTP1:LOAD?", ":SOUR1:BURS:STAT?"} <= set(
        said[2:]
    )


def test_order_on_the_wire() -> None:
    units = CHANNEL_1.split(";")
    before = [
        (":OUTP1 0", ":SOUR1:VOLT:LIM:STAT 0"),
        (":SOUR1:VOLT:LIM:STAT 0", ":OUTP1:LOAD INF"),  # a load cannot be changed under limits
        (":OUTP1:LOAD INF", ":SOUR1:VOLT:LIM:HIGH 10"),  # limits mean what the load says
        (":SOUR1:VOLT:LIM:STAT 1", ":SOUR1:VOLT:HIGH 0.6"),
        (":OUTP1:POL NORM", ":SOUR1:VOLT:HIGH 0.6"),
        (":TRIG1:SOUR BUS", ":SOUR1:BURS:STAT 1"),  # a burst that is IMM would run freely
        (":SOUR1:BURS:MODE TRIG", ":SOUR1:BURS:STAT 1"),
    ]
    assert all(units.index(first) < units.index(second) for first, second in before)


@given(st.floats(-10, 10).filter(lambda v: abs(v) > 1e-3))
def test_every_level_rests_at_zero(level_v: float) -> None:
    levels = levels_of(level_v)
    assert levels.idle_v == 0
    assert levels.high_v > levels.low_v
    assert (levels.low_v if levels.inverted else levels.high_v) == level_v


def test_the_trap_of_negative_pulses_rests_off_zero() -> None:
    assert Levels(0.0, -1.0, inverted=False).idle_v == -1.0


def test_edges_count_half_into_the_width() -> None:
    driver, _, recorder = bench()
    driver.program(Train((1.0, 0.0), 1e-6, 1e-7, 3e-7))
    first, second, _ = recorder.said
    assert ":SOUR1:FUNC:PULS:WIDT 1.2e-06" in first
    assert ":SOUR1:FUNC:PULS:TRAN:LEAD 8e-08" in first  # 10 to 90 % of a straight edge
    assert ":SOUR1:FUNC:PULS:TRAN:TRA 2.4e-07" in first
    assert ":SOUR1:FUNC:PULS:PER 1.44e-06" in first
    assert second.endswith(
        ":SOUR2:FUNC DC;:SOUR2:VOLT:LIM:HIGH 10;:SOUR2:VOLT:LIM:LOW -10;:SOUR2:VOLT:LIM:STAT 1;:SOUR2:VOLT:OFFS 0"
    )


def test_a_channel_that_is_not_used_is_switched_off() -> None:
    driver, _, recorder = bench()
    driver.program(Train((0.5,), 2e-7))
    assert recorder.said[0] == ":OUTP2 0"
    driver.connect()
    assert ":OUTP2 1" not in recorder.said[-1]


TRAPS = {
    "HIGH 0, LOW -V without inversion": (":OUTP2:POL?", "NORM", "polarity was set to INV"),
    "load of 50 ohm": (":OUTP1:LOAD?", "+5.00000000000000E+01", "load was set to INF"),
    "burst mode off": (":SOUR1:BURS:STAT?", "0", "burst was set to 1"),
    "triggered by itself": (":TRIG1:SOUR?", "IMM", "trigger source was set to BUS"),
    "gated burst": (":SOUR2:BURS:MODE?", "GAT", "burst mode was set to TRIG"),
    "wrong high level": (":SOUR2:VOLT:HIGH?", "+2.0E-02", "high level was set to 0"),
    "wrong low level": (":SOUR1:VOLT:LOW?", "-3.0E-01", "low level was set to 0"),
    "not a pulse": (":SOUR1:FUNC?", "SIN", "function was set to PULS"),
    "no limits": (":SOUR1:VOLT:LIM:STAT?", "0", "limits was set to 1"),
    "triggers ignored": (":INIT1:CONT?", "0", "trigger system was set to 1"),
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_a_trap_is_refused_before_an_output_goes_on(trap: tuple[str, str, str]) -> None:
    driver, parrot, recorder = bench()
    refuses_before_an_output_goes_on(driver, parrot, recorder, lambda: driver.program(TRAIN), trap)


CHANGED = [key for key in TRAPS if key != "no limits"]


@pytest.mark.parametrize("trap", CHANGED)
def test_a_trap_that_appears_later_switches_the_outputs_off_again(trap: str) -> None:
    question, answer, _ = TRAPS[trap]
    driver, parrot, recorder = bench()
    driver.program(TRAIN)
    parrot.lies[question] = answer
    with pytest.raises(InstrumentError, match="outputs are off again"):
        driver.connect()
    assert parrot.kept[":OUTP1"] == parrot.kept[":OUTP2"] == "0"
    assert ":OUTP1 0;:OUTP2 0" in recorder.said[-1]


def test_the_idle_level_is_computed_from_what_was_read_back() -> None:
    driver, parrot, _ = bench()
    driver.program(TRAIN)
    parrot.lies[":SOUR2:VOLT:HIGH?"] = "+2.0E-02"
    with pytest.raises(InstrumentError, match="channel 2 would rest at 0.02 V"):
        driver.connect()


def test_one_lost_command_is_sent_again_and_a_stale_error_does_not_count() -> None:
    driver, parrot, recorder = bench()
    parrot.errors = ['-113,"Undefined header"']
    parrot.lies[":OUTP1:LOAD?"] = "50"
    parrot.after[":OUTP1:LOAD?"] = 99
    driver.program(TRAIN)
    assert recorder.said.count(CHANNEL_1) == 2


def test_an_error_that_stays_is_raised_in_its_own_words() -> None:
    driver, parrot, _ = bench()
    parrot.lies[":SYST:ERR?"] = '-222,"Data out of range; value clipped to upper limit"'
    with pytest.raises(InstrumentError, match="clipped to upper limit"):
        driver.program(TRAIN)


def test_what_it_cannot_do_is_refused_without_a_word() -> None:
    driver, _, recorder = bench(max_v=2.0)
    with pytest.raises(LimitExceeded, match=r"2.5 V .* limited to 2 V"):
        driver.program(Train((2.5, 0.0), 1e-6))
    with pytest.raises(CapabilityMissing, match="width of 1e-09 s"):
        driver.program(Train((1.0, 0.0), 1e-9))
    with pytest.raises(CapabilityMissing, match="no ammeter"):
        driver.program(TRAIN, measure=True)
    with pytest.raises(CapabilityMissing, match="3 levels"):
        driver.program(Train((1.0, 1.0, 1.0), 1e-6))
    assert recorder.said == []


def test_limits_are_programmed_once_and_only_asked_for_then() -> None:
    driver, parrot, recorder = bench()
    driver.enforce(1e-3, 3.0)
    assert (parrot.kept[":SOUR1:VOLT:LIM:HIGH"], parrot.kept[":SOUR2:VOLT:LIM:LOW"]) == ("3", "-3")
    assert parrot.kept[":SOUR2:VOLT:LIM:STAT"] == "1"
    recorder.said.clear()
    driver.enforce(1e-3, 3.0)
    assert recorder.said == [";".join(f":SOUR{c}:VOLT:LIM:{what}?" for c in (1, 2) for what in ("HIGH", "LOW", "STAT"))]
    with pytest.raises(LimitExceeded):
        driver.program(Train((3.1, 0.0), 1e-6))


@pytest.mark.parametrize(("model", "outputs"), [("33522B", 2), ("33521B", 1), ("33611A", 1), ("33622A", 2)])
def test_a_model_with_an_odd_number_has_one_channel(model: str, outputs: int) -> None:
    driver, parrot, _ = bench()
    parrot.kept["*IDN"] = f"Agilent Technologies,{model},MY57200001,3.05-1.19-2.00-52-00"
    assert driver.identify().model == model
    assert driver.outputs == outputs


# ---------------------------------------------------------------------------------------------- firing


def test_arm_and_trigger_travel_in_one_message() -> None:
    driver, parrot, recorder, witness = ready()
    driver.arm(7, 0, 3)
    assert recorder.said == []
    driver.trigger()
    nonce = witness.nonce
    assert recorder.said == [
        f':DISP:TEXT "NB {nonce} 7 0 idle";*CLS;:DISP:TEXT "NB {nonce} 7 0 armed";'
        f':SOUR1:BURS:NCYC 3;:SOUR2:BURS:NCYC 3;*TRG;:DISP:TEXT "NB {nonce} 7 0 fired";*OPC'
    ]
    assert driver.done()
    assert (
        recorder.said[1] == "*OPC;*STB?;*ESE?;:DISP:TEXT?;:SOUR1:BURS:NCYC?;:SOUR2:BURS:NCYC?;*STB?;*ESE?;:DISP:TEXT?"
    )
    assert parrot.fired == 3
    with pytest.raises(UsageError, match="nothing is armed"):
        driver.trigger()


def test_the_count_begins_by_one_message() -> None:
    driver, _, recorder = bench()
    witness = driver.baseline(41)
    assert recorder.said == [f':DISP:TEXT "NB {witness.nonce} 41 0 idle";*ESE 1;*CLS;{EVIDENCE}']


def test_no_text_is_longer_than_the_display() -> None:
    driver, parrot, *_ = ready(10**12)
    assert max(len(text) for key, text in parrot.kept.items() if "TEXT" in key) <= 42
    with pytest.raises(UsageError, match="does not fit"):
        driver.arm(10**12, 10**10, 1)


def test_nothing_is_armed_that_was_not_staged() -> None:
    driver, _, _, _ = ready()
    with pytest.raises(UsageError, match="step 8"):
        driver.arm(8, 0, 1)
    with pytest.raises(CapabilityMissing, match="100000001"):
        driver.arm(7, 0, 100_000_001)
    driver.safe()
    with pytest.raises(InstrumentError, match="outputs are off"):
        driver.arm(7, 0, 1)


def test_a_trigger_that_got_lost_is_not_taken_for_the_shot_before() -> None:
    driver, parrot, _, witness = ready()
    driver.arm(7, 0, 2)
    driver.trigger()
    assert driver.done()
    driver.arm(7, 1, 2)
    parrot.cut = 0
    driver.trigger()
    with pytest.raises(LinkLost, match="shot 1"):
        driver.done()
    assert driver.tally(7, witness, [2, 2]) == Tally(1)


def test_another_count_than_asked_is_an_error() -> None:
    driver, parrot, _, _ = ready()
    driver.arm(7, 0, 5)
    driver.trigger()
    parrot.lies[":SOUR2:BURS:NCYC?"] = "1"
    with pytest.raises(InstrumentError, match="another number of pulses"):
        driver.done()


def test_a_trigger_that_was_ignored_is_an_error_and_old_errors_are_not() -> None:
    driver, parrot, _, _ = ready()
    driver.arm(7, 0, 1)
    driver.trigger()
    parrot.lies["*STB?"] = "36"
    parrot.errors = ['-113,"Undefined header"']
    assert driver.done()
    parrot.errors = ['-211,"Trigger ignored"']
    with pytest.raises(InstrumentError, match="Trigger ignored"):
        driver.done()


@pytest.mark.parametrize("shot", [0, 1, 5])
def test_wherever_the_trigger_message_ends_the_witness_tells_the_truth(shot: int) -> None:
    for cut in range(9):
        driver, parrot, _, witness = ready()
        for k in range(shot):
            driver.arm(7, k, 2)
            driver.trigger()
            assert driver.done()
        before, parrot.cut = parrot.fired, cut
        driver.arm(7, shot, 2)
        driver.trigger()
        found = driver.tally(7, witness, [2] * (shot + 1))
        fired = parrot.fired - before
        if found.doubt:
            assert 3 <= cut <= 6, "only between armed and complete may it be unsure"
        else:
            assert (found.shots, fired) in ((shot, 0), (shot + 1, 2))
        assert bool(found.doubt) == (3 <= cut <= 6)


def test_a_burst_that_still_goes_out_is_waited_for() -> None:
    driver, parrot, recorder, witness = ready()
    parrot.runs = False
    driver.arm(7, 0, 1_000_000)
    driver.trigger()
    assert not driver.done()
    begin_s = recorder.clock.time_s
    assert driver.tally(7, witness, [1_000_000]).doubt
    assert recorder.clock.time_s - begin_s == pytest.approx(0.24 + 0.02, rel=1e-6)
    parrot.ended = True
    assert driver.tally(7, witness, [1_000_000]) == Tally(1)


def text(nonce: str, seq: int, shot: int, state: str) -> str:
    return f'"NB {nonce} {seq} {shot} {state}"'


def tally_of(shown: str, stb: int, ese: int, seq: int = 7, shots: int = 4) -> Tally:
    """What a new process makes of what the instrument shows."""
    driver, parrot, recorder = bench()
    parrot.kept[":DISP:TEXT"], parrot.ese = shown, ese
    parrot.lies["*STB?"] = str(stb)
    found = driver.tally(seq, Witness(0, "abc123"), [1] * shots)
    assert set(recorder.said) <= {EVIDENCE, f"*OPC;{EVIDENCE}"}, "questions only"
    assert found == driver.tally(seq, Witness(0, "abc123"), [1] * shots)
    return found


def test_a_new_process_reads_the_count() -> None:
    assert tally_of(text("abc123", 7, 2, "idle"), 0, 1) == Tally(2)
    assert tally_of(text("abc123", 7, 4, "idle"), 32, 1) == Tally(4)
    assert tally_of(text("abc123", 7, 2, "fired"), 32, 1) == Tally(3)
    assert tally_of(text("abc123", 6, 2, "fired"), 32, 1) == Tally(0)


@pytest.mark.parametrize(
    ("shown", "stb", "ese", "why"),
    [
        ('""', 0, 0, "restarted"),
        (text("abc123", 7, 2, "armed"), 32, 0, "restarted"),
        ('"HELLO"', 32, 1, "gone"),
        (text("fedcba", 7, 2, "armed"), 32, 1, "another count"),
        (text("abc123", 8, 0, "idle"), 0, 1, "another count"),
        (text("abc123", 7, 4, "fired"), 32, 1, "shot 4 of 4"),
        (text("abc123", 7, 1, "cut"), 32, 1, "switched off"),
        (text("abc123", 7, 1, "armed"), 32, 1, "before or at its trigger"),
        (text("abc123", 7, 1, "fired"), 0, 1, "its end is not reported"),
    ],
)
def test_what_cannot_be_known_is_a_doubt(shown: str, stb: int, ese: int, why: str) -> None:
    assert why in tally_of(shown, stb, ese).doubt


@given(st.integers(0, 200), st.sampled_from('0123456789;"aZ -?'), st.sampled_from(["idle", "fired"]))
def test_a_garbled_answer_is_asked_for_again_and_never_believed(at: int, by: str, state: str) -> None:
    driver, parrot, recorder = bench()
    parrot.kept[":DISP:TEXT"], parrot.ese, parrot.ended = text("abc123", 7, 2, state), 1, state == "fired"
    right = driver.tally(7, Witness(0, "abc123"), [1] * 9)
    assert right == Tally(2 + (state == "fired"))
    answers = iter([garble(str(parrot(EVIDENCE)), at, by)])
    recorder.answer = lambda line: next(answers, None) or parrot(line)
    try:
        found = driver.tally(7, Witness(0, "abc123"), [1] * 9)
    except LinkLost:
        return
    assert found == right


# ---------------------------------------------------------------------------------------------- leaving


def test_connecting_destroys_nothing_that_an_earlier_process_left() -> None:
    driver, parrot, recorder = bench()
    parrot.kept |= {":DISP:TEXT": text("abc123", 7, 2, "fired"), "*IDN": "Agilent Technologies,33522B,MY1,3.05"}
    parrot.ese, parrot.ended = 1, True
    driver.identify()
    driver.safe()
    driver.enforce(None, 2.0)
    driver.program(TRAIN)
    driver.connect()
    said = ";".join(recorder.said)
    assert not any(word in said for word in ("*RST", "*CLS", "*ESE ", "*SRE", ':DISP:TEXT "', "*ESR?", ":ABOR"))
    assert driver.tally(7, Witness(0, "abc123"), [1] * 3) == Tally(3)


def test_safe_is_one_exchange_from_any_state() -> None:
    driver, _, recorder = bench()
    driver.safe()
    assert recorder.said == ["*OPC;*STB?;:OUTP1 0;:OUTP2 0;:OUTP1?;:OUTP2?;:DISP:TEXT?;:DISP:TEXT?"]


def test_safe_marks_a_shot_that_it_cut_off() -> None:
    driver, parrot, recorder, witness = ready()
    parrot.runs = False
    driver.arm(7, 0, 1_000_000)
    driver.trigger()
    driver.safe()
    assert recorder.said[-1] == f':DISP:TEXT "NB {witness.nonce} 7 0 cut";:ABOR'
    assert parrot.ended, "an abort completes the operation: without the mark this would count as fired"
    assert "switched off" in driver.tally(7, witness, [1_000_000]).doubt


def test_safe_leaves_a_finished_shot_as_it_is() -> None:
    driver, _, recorder, witness = ready()
    driver.arm(7, 0, 2)
    driver.trigger()
    driver.safe()
    assert "cut" not in ";".join(recorder.said)
    assert driver.tally(7, witness, [2]) == Tally(1)


def test_safe_insists_and_tells() -> None:
    driver, parrot, recorder = bench()
    parrot.lies[":OUTP2?"] = "1"
    with pytest.raises(InstrumentError, match="stays on"):
        driver.safe()
    assert len(recorder.said) == 2


def test_self_test() -> None:
    driver, parrot, _ = bench()
    parrot.lies["*TST?"] = "+0"
    assert driver.self_test() == ""
    parrot.lies["*TST?"] = "+1"
    assert "+1" in driver.self_test()
