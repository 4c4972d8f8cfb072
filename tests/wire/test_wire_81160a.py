"""What the driver of the 81160A says, and how it counts with masks that act on nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.drivers.instruments._generator import Mark
from neurobench.drivers.instruments._roles import Tally, Train
from neurobench.drivers.instruments.keysight_81160a import TAGS, Keysight81160A
from parrot import Parrot, garble, generator_on
from recorder import Recorder

from neurobench.bench.crossbar import Witness
from neurobench.errors import InstrumentError, LinkLost, UsageError

TRAIN = Train((0.6, -0.6), 2e-7)
EVIDENCE = "*STB?;*ESE?;*SRE?;:STAT:OPER:ENAB?;:STAT:QUES:ENAB?;*STB?;*ESE?;*SRE?;:STAT:OPER:ENAB?;:STAT:QUES:ENAB?"


def bench(**settings: Any) -> tuple[Keysight81160A, Parrot, Recorder]:
    parrot = Parrot(1e-9, ":TRIG1:COUN")
    driver, recorder = generator_on(parrot, Keysight81160A, "keysight-81160a", **settings)
    return driver, parrot, recorder


def ready() -> tuple[Keysight81160A, Parrot, Recorder, Witness]:
    driver, parrot, recorder = bench()
    driver.program(TRAIN)
    driver.connect()
    witness = driver.baseline(7)
    recorder.said.clear()
    return driver, parrot, recorder, witness


def test_a_channel_is_set_up_by_one_message() -> None:
    driver, _, recorder = bench()
    driver.program(Train((0.6, -0.6), 1e-6, 1e-7, 2e-7))
    assert recorder.said[1] == (
        ":OUTP2 0;:VOLT2:LIM:STAT 0;:OUTP2:LOAD 1E6;"
        ":ARM:SOUR2 MAN;:FUNC2 PULS;:VOLT2 MIN;:VOLT2:OFFS 0;:FUNC2 PULS;"
        ":VOLT2:LIM:HIGH 9.99;:VOLT2:LIM:LOW -9.99;:VOLT2:LIM:STAT 1;"
        ":FUNC2:PULS:TRAN MIN;:FUNC2:PULS:TRAN:TRA MIN;:PULS:WIDT2 MIN;:PULS:PER2 1.34e-06;"
        ":PULS:WIDT2 1.1e-06;:FUNC2:PULS:TRAN:LEAD 8e-08;:FUNC2:PULS:TRAN:TRA 1.6e-07;"
        ":OUTP2:POL INV;:VOLT2:LOW -0.6;:VOLT2:HIGH 0;"
        ":ARM:SOUR2 MAN;:ARM:SENS2 EDGE;:PULS:DEL2 0;:TRIG2:COUN 1"
    )
    assert recorder.said[2].endswith(":SYST:ERR?")
    assert len(recorder.said) == 3


def test_a_flat_channel_does_not_wait_for_triggers() -> None:
    driver, _, recorder = bench()
    driver.program(Train((0.6, 0.0), 1e-6))
    assert recorder.said[1].endswith(":FUNC2 DC;:VOLT2:LIM:HIGH 9.99;:VOLT2:LIM:LOW -9.99;:VOLT2:LIM:STAT 1;"
                                     ":VOLT2:OFFS 0;:ARM:SOUR2 IMM")  # fmt: skip


TRAPS = {
    "HIGH 0, LOW -V without inversion": (":OUTP2:POL?", "NORM", "polarity was set to INV"),
    "load of 50 ohm": (":OUTP1:LOAD?", "+5.00000000000000E+01", "load was set to 1E6"),
    "runs freely": (":ARM:SOUR1?", "IMM", "arming source was set to MAN"),
    "wrong high level": (":VOLT2:HIGH?", "+2.0E-01", "high level was set to 0"),
}


@pytest.mark.parametrize(("question", "answer", "words"), TRAPS.values(), ids=TRAPS)
def test_a_trap_is_refused_before_an_output_goes_on(question: str, answer: str, words: str) -> None:
    driver, parrot, recorder = bench()
    parrot.lies[question] = answer
    with pytest.raises(InstrumentError, match=words):
        driver.program(TRAIN)
    assert not any("OUTP1 1" in line or "OUTP2 1" in line for line in recorder.said)


@pytest.mark.parametrize(("question", "answer", "words"), TRAPS.values(), ids=TRAPS)
def test_a_trap_that_appears_later_switches_the_outputs_off_again(question: str, answer: str, words: str) -> None:
    driver, parrot, _ = bench()
    driver.program(TRAIN)
    parrot.lies[question] = answer
    with pytest.raises(InstrumentError, match=words):
        driver.connect()
    assert parrot.kept[":OUTP1"] == parrot.kept[":OUTP2"] == "0"


def test_arm_and_trigger_travel_in_one_message() -> None:
    driver, parrot, recorder, _ = ready()
    for shot, pulses in ((0, 3), (1, 2), (33, 1)):
        driver.arm(7, shot, pulses)
        driver.trigger()
        assert driver.done()
    assert recorder.said[2] == (
        ":STAT:OPER:ENAB 1;*SRE 1;*CLS;:STAT:OPER:ENAB 1;*SRE 129;:TRIG1:COUN 2;:TRIG2:COUN 2;*TRG;"
        ":STAT:OPER:ENAB 1;*SRE 161;*OPC"
    )
    assert "*SRE 1;*CLS;:STAT:OPER:ENAB 33;*SRE 129" in recorder.said[4]
    assert parrot.fired == 6


@pytest.mark.parametrize("shot", [0, 1, 31, 32, 33, 64])
def test_wherever_the_trigger_message_ends_the_witness_tells_the_truth(shot: int) -> None:
    for cut in range(13):
        driver, parrot, _, witness = ready()
        for k in range(max(shot - 1, 0), shot):
            driver.arm(7, k, 2)
            driver.trigger()
            assert driver.done()
        before, parrot.cut = parrot.fired, cut
        driver.arm(7, shot, 2)
        units = driver._armed.message.count(";") + 1 if driver._armed else 0
        driver.trigger()
        found = driver.tally(7, witness, [2] * (shot + 1))
        fired = parrot.fired - before
        if not found.doubt:
            assert (found.shots, fired) in ((shot, 0), (shot + 1, 2)), cut
        else:
            assert "before or at its trigger" in found.doubt
        assert (found == Tally(shot + 1)) == (cut >= units - 1)


@given(st.integers(0, TAGS), st.sampled_from(["idle", "armed", "fired", "cut"]), st.integers(1, TAGS))
def test_a_mark_survives_its_masks_also_half_written(shot: int, state: Any, tag: int) -> None:
    driver, parrot, _ = bench()
    mark = Mark(f"{tag:04x}", -1, shot, state)
    parrot.kept[":STAT:QUES:ENAB"] = str(tag)
    parrot(driver.write_mark(mark))
    answers = [str(parrot.answer(question)) for question in driver.MARK_QUESTIONS]
    assert driver.read_mark(answers) == mark
    if shot < TAGS:
        ahead = driver.write_mark(mark._replace(shot=shot + 1, state="idle")).split(";")[-2]
        parrot(ahead)
        assert driver.read_mark([str(parrot.answer(question)) for question in driver.MARK_QUESTIONS]) == mark


def test_more_shots_than_the_mask_counts_are_refused_before_any_trigger() -> None:
    driver, _, recorder, _ = ready()
    with pytest.raises(UsageError, match="32767 shots"):
        driver.arm(7, TAGS + 1, 1)
    assert recorder.said == []


def test_masks_that_do_not_fit_together_are_a_doubt() -> None:
    driver, parrot, _, witness = ready()
    parrot.kept["*SRE"] = "5"
    assert "gone" in driver.tally(7, witness, [1] * 9).doubt
    parrot.kept["*SRE"], parrot.kept[":STAT:QUES:ENAB"] = "0", str(int(witness.nonce, 16) ^ 1)
    assert "another count" in driver.tally(7, witness, [1]).doubt
    parrot.reboot()
    assert "restarted" in driver.tally(7, witness, [1]).doubt


@given(st.integers(0, 60), st.sampled_from("0123456789;aZ -?"))
def test_a_garbled_answer_is_asked_for_again_and_never_believed(at: int, by: str) -> None:
    driver, parrot, recorder, witness = ready()
    driver.arm(7, 0, 2)
    driver.trigger()
    right = driver.tally(7, witness, [2, 2])
    assert right == Tally(1)
    assert recorder.said[-1] == EVIDENCE
    answers = iter([garble(str(parrot(EVIDENCE)), at, by)])
    recorder.answer = lambda line: next(answers, None) or parrot(line)
    try:
        assert driver.tally(7, witness, [2, 2]) == right
    except LinkLost:
        return


def test_connecting_destroys_nothing() -> None:
    driver, parrot, recorder = bench()
    parrot.kept |= {"*SRE": "161", ":STAT:OPER:ENAB": "1", ":STAT:QUES:ENAB": "77"}
    parrot.ese, parrot.ended = 1, True
    driver.safe()
    driver.enforce(None, 2.0)
    driver.program(TRAIN)
    driver.connect()
    said = ";".join(recorder.said)
    assert not any(word in said for word in ("*RST", "*CLS", "*ESE ", "*SRE ", "ENAB ", "*ESR?"))
    assert driver.tally(7, Witness(0, "004d"), [1, 1]) == Tally(2)


def test_safe_marks_a_shot_that_it_cut_off() -> None:
    driver, parrot, recorder, witness = ready()
    parrot.runs = False
    driver.arm(7, 0, 1_000_000)
    driver.trigger()
    driver.safe()
    assert recorder.said[-1] == ":STAT:OPER:ENAB 0;*SRE 32"
    parrot.ended = True
    assert "switched off" in driver.tally(7, witness, [1_000_000]).doubt
