"""What the 2600B driver says, word for word, and what it believes of the answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.drivers.instruments._roles import Tally, Train
from neurobench.drivers.instruments.keithley_2600b import Keithley2600B
from recorder import FakeClock, Recorder, link_to, section

from neurobench.bench.crossbar import Witness
from neurobench.errors import BenchFault, CapabilityMissing, ConfigError, InstrumentError, LimitExceeded, LinkLost

LIMITS = (
    "{c}.source.func, {c}.source.levelv, {c}.source.output, {c}.source.offmode, {c}.source.limiti, {c}.source.rangev"
)
SET_LIMITS = (
    "{c}.source.func=1 {c}.source.levelv=0 {c}.source.output=0 {c}.source.offmode=0 "
    "{c}.source.limiti=0.001 {c}.source.rangev=5 print(" + LIMITS + ", errorqueue.count)"
)
LIMITS_SET = "1.00000e+00\t0.00000e+00\t0.00000e+00\t0.00000e+00\t1.00000e-03\t6.00000e+00\t0.00000e+00"
MARK = ("nb_ready=1 print(nb_ready, errorqueue.count)", "1.00000e+00\t0.00000e+00")
MAINS = ("print(localnode.linefreq)", "5.00000e+01")
COUNTERS = "print(nb_nonce, nb_seq, nb_shot, nb_cut, nb_base, smua.nvbuffer1.n, status.operation.sweeping.condition)"
SWEEP = (
    "nb_ready=nb_ready*1 format.asciiprecision=16 smub.measure.filter.count=4 smub.source.levelv=0 "
    "smub.source.output=1 smua.source.levelv=0 smua.source.output=1 smua.source.levelv=0.05 delay(0.001) "
    "nb_i0_0=smub.measure.i() nb_c0_a=smua.source.compliance nb_c0_b=smub.source.compliance "
    "smua.source.levelv=-0.05 delay(0.001) nb_i1_0=smub.measure.i() nb_c1_a=smua.source.compliance "
    "nb_c1_b=smub.source.compliance smua.source.levelv=0 "
    "print(nb_i0_0, nb_c0_a, nb_c0_b, nb_i1_0, nb_c1_a, nb_c1_b)"
)
PREPARE = (
    "smub.measure.autorangei=0 smub.measure.rangei=1e-06 smub.measure.nplc=1 smub.measure.delay=0 "
    "smub.measure.filter.type=1 smub.measure.filter.enable=1 smub.measure.autozero=1 "
    "print(smub.measure.autorangei, smub.measure.rangei, smub.measure.nplc, smub.measure.delay, "
    "smub.measure.filter.type, smub.measure.filter.enable, smub.measure.autozero, errorqueue.count)"
)
PREPARED = "0\t1e-06\t1\t0\t1\t1\t1\t0"
BASELINE = (
    "nb_ready=nb_ready*1 smua.nvbuffer1.clear() smua.nvbuffer1.appendmode=1 smub.nvbuffer1.clear() "
    "smub.nvbuffer1.appendmode=1 nb_base=0 nb_cut=0 nb_shot=0 nb_seq=7 nb_nonce=100001 " + COUNTERS
)
WITNESS = Witness(0, "100001")


def enforced(*script: tuple[str, Any], channels: tuple[int, ...] = (1, 2)) -> tuple[Keithley2600B, Recorder]:
    """A driver whose limits are set, and what is to be said next."""
    begin = [(SET_LIMITS.format(c=c), LIMITS_SET) for c in ("smua", "smub")[: len(channels)]]
    recorder = Recorder([*begin, MARK, *script])
    smu = Keithley2600B(link_to(recorder, name="smu"), section("keithley-2600b", channels=channels))
    smu.enforce(1e-3, 5.0)
    return smu, recorder


def prepared(*script: tuple[str, Any]) -> tuple[Keithley2600B, Recorder]:
    smu, recorder = enforced(MAINS, (PREPARE, PREPARED), *script)
    smu.prepare(5e-7, 0.02, 1e-3)
    return smu, recorder


def answering(reply: str, channels: tuple[int, ...] = (1, 2)) -> Keithley2600B:
    """A driver to which everything is answered with the same line."""
    return Keithley2600B(link_to(Recorder(answer=lambda _: reply)), section("keithley-2600b", channels=channels))


# -- limits and rest


def test_the_limit_is_set_and_read_back_with_the_output_off() -> None:
    _, recorder = enforced()
    recorder.finished()
    first = recorder.said[0]
    assert first.index("levelv=0") < first.index("output=0") < first.index("limiti=0.001")


def test_a_limit_that_was_not_taken_is_refused() -> None:
    wrong = LIMITS_SET.replace("1.00000e-03", "1.00000e-01")
    said = SET_LIMITS.format(c="smua")
    recorder = Recorder([(said, wrong), (said, wrong)])
    smu = Keithley2600B(link_to(recorder, name="smu"), section("keithley-2600b"))
    with pytest.raises(InstrumentError, match=r"current limit was set to 0.001 A and reads back 1.00000e-01"):
        smu.enforce(1e-3, 5.0)


def test_outputs_go_on_after_limit_and_level() -> None:
    connect = (
        "smua.source.limiti=0.001 smub.source.limiti=0.001 smua.source.levelv=0 smub.source.levelv=0 "
        "smua.source.output=1 smub.source.output=1 print(smua.source.limiti, smub.source.limiti, "
        "smua.source.levelv, smub.source.levelv, smua.source.output, smub.source.output, errorqueue.count)"
    )
    smu, recorder = enforced((connect, "1e-3\t1e-3\t0\t0\t1\t1\t0"))
    smu.connect()
    recorder.finished()


def test_no_output_goes_on_before_a_limit_was_set() -> None:
    smu = answering("0\t0")
    with pytest.raises(InstrumentError, match="no current limit"):
        smu.connect()
    with pytest.raises(InstrumentError, match="no current limit"):
        smu.program(Train((1.0,), 1e-3))


SAFE = [
    "abort",
    "if nb_cut then nb_cut=nb_cut+status.operation.sweeping.condition end smua.abort() smub.abort()",
    "smua.source.levelv=0",
    "smub.source.levelv=0",
    "smua.source.output=0",
    "smub.source.output=0",
]
OFF = "print(smua.source.output, smub.source.output)"


def test_safe_stops_goes_to_zero_and_off_and_proves_it() -> None:
    recorder = Recorder([*((line, None) for line in SAFE), (OFF, "0.00000e+00\t0.00000e+00")])
    Keithley2600B(link_to(recorder), section("keithley-2600b")).safe()
    recorder.finished()


def test_safe_says_it_again_and_raises_if_an_output_is_still_on() -> None:
    once = [*((line, None) for line in SAFE), (OFF, "0.00000e+00\t1.00000e+00")]
    recorder = Recorder([*once, *once])
    with pytest.raises(InstrumentError, match="smub is still on"):
        Keithley2600B(link_to(recorder, name="smu"), section("keithley-2600b")).safe()


def test_safe_says_everything_although_each_write_fails() -> None:
    class Deaf(Recorder):
        def write_raw(self, message: bytes) -> int:
            self.said.append(message.decode().strip())
            raise OSError("no route")

    recorder = Deaf()
    with pytest.raises(LinkLost):
        Keithley2600B(link_to(recorder), section("keithley-2600b")).safe()
    assert recorder.said == [*SAFE, OFF]


# -- reading


def test_a_read_of_both_polarities_is_one_exchange() -> None:
    smu, recorder = prepared((SWEEP, "-7.5e-07\tfalse\tfalse\t7.3e-07\tfalse\tfalse"))
    swept = smu.sweep([0.05, -0.05], averages=4)
    assert swept.currents_a == pytest.approx([7.5e-7, -7.3e-7])
    assert (swept.range_a, swept.compliance, swept.over_range) == (1e-6, False, False)
    recorder.finished()


def test_one_channel_measures_its_own_current() -> None:
    smu, recorder = enforced(channels=(1,))
    recorder.answer = lambda line: PREPARED if "nplc" in line else "50" if "linefreq" in line else "2e-7\tfalse"
    smu.prepare(5e-7, 0.02, 0.0)
    assert smu.sweep([0.05], averages=1).currents_a == pytest.approx([2e-7])
    assert "smub" not in "".join(recorder.said[3:])


def test_what_is_set_up_already_is_not_said_again() -> None:
    smu, recorder = prepared()
    smu.prepare(5e-7, 0.02, 0.005)
    recorder.finished()


def test_after_a_lost_answer_everything_is_set_up_anew() -> None:
    again = (PREPARE, PREPARED)
    silent = ("print(errorqueue.next())", "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00")
    smu, recorder = prepared((SWEEP, None), silent, again)
    with pytest.raises(LinkLost):
        smu.sweep([0.05, -0.05], averages=4)
    smu.prepare(5e-7, 0.02, 1e-3)
    recorder.finished()


def test_a_chunk_that_stops_is_told_in_the_words_of_the_instrument() -> None:
    words = "-2.86e+02\tTSP Runtime error: arithmetic on global nb_ready (a nil value)\t20\t1"
    silent = "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00"
    ask = "print(errorqueue.next())"
    smu, _ = prepared((SWEEP, None), (ask, words), (ask, silent))
    with pytest.raises(InstrumentError, match="has restarted.*nb_ready .a nil value"):
        smu.sweep([0.05, -0.05], averages=4)


def test_a_lost_sweep_with_an_old_error_may_be_asked_again() -> None:
    ask = "print(errorqueue.next())"
    old = (ask, "-3.50e+02\tQueue overflow\t20\t1")
    silent = (ask, "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00")
    smu, _ = prepared((SWEEP, None), old, silent)
    with pytest.raises(LinkLost, match="no answer in time.*it says: -350, Queue overflow"):
        smu.sweep([0.05, -0.05], averages=4)


def test_many_averages_are_taken_in_groups_of_the_filter() -> None:
    smu, recorder = prepared()
    recorder.answer = lambda _: "-1e-7\t-3e-7\tfalse\tfalse"
    assert smu.sweep([0.05], averages=150).currents_a == pytest.approx([2e-7])
    assert "filter.count=75 " in recorder.said[-1]


def test_compliance_and_over_range_are_said() -> None:
    smu, _ = prepared((SWEEP, "-9.91e+37\tfalse\tfalse\t7.3e-07\ttrue\tfalse"))
    swept = smu.sweep([0.05, -0.05], averages=4)
    assert swept.compliance
    assert swept.over_range


@pytest.mark.parametrize(
    "answer",
    [
        "-7.5e-07\tfalse\tfalse\t7.3e-07\tfalse",
        "-7.5e-07\tfalse\tfalse\t7.3e-07\tfalse\tfals",
        "-7.5e-07\tfalse\tfalse\tnil\tfalse\tfalse",
        "-7.5e-07\t0.1\tfalse\t7.3e-07\tfalse\tfalse",
        "-7.5e-07\tfalse\tfalse\t7.3e99\tfalse\tfalse",
    ],
)
def test_a_garbled_sweep_is_never_believed(answer: str) -> None:
    silent = ("print(errorqueue.next())", "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00")
    smu, _ = prepared((SWEEP, answer), silent)
    with pytest.raises(LinkLost, match="unintelligible"):
        smu.sweep([0.05, -0.05], averages=4)


def test_levels_and_apertures_out_of_range_are_refused_before_a_word_is_said() -> None:
    smu, recorder = prepared()
    said = len(recorder.said)
    with pytest.raises(LimitExceeded, match="5.1 V on smu; its limit is 5 V"):
        smu.sweep([5.1], 1)
    with pytest.raises(CapabilityMissing, match="aperture of 10 s"):
        smu.prepare(1e-6, 10.0, 0.0)
    with pytest.raises(ConfigError, match="a range of 5 A"):
        smu.prepare(5.0, 0.02, 0.0)
    assert len(recorder.said) == said


def test_a_channel_that_it_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"channels = \[3\]"):
        answering("", channels=(3,))


# -- pulsing


def pulsing(*script: tuple[str, Any]) -> tuple[Keithley2600B, Recorder]:
    """A driver with one kind of pulse programmed; every number is read back as it was set."""
    smu, recorder = enforced()
    recorder.answer = echo
    smu.program(Train((0.5, -0.5), 1e-3), measure=True)
    recorder.answer = None
    recorder.script = list(script)
    return smu, recorder


def echo(line: str) -> Any:
    """Answers a chunk as an instrument does that takes everything."""
    if line == MAINS[0]:
        return MAINS[1]
    said, asked = line.removesuffix(")").split("print(")
    values = dict(part.split("=", 1) for part in said.split() if "=" in part)
    return "\t".join("0" if "-" in name else values.get(name, "0") for name in asked.split(", "))


def test_a_train_is_set_up_in_one_exchange_and_only_what_differs_is_said_again() -> None:
    smu, recorder = pulsing()
    recorder.answer = echo
    said = len(recorder.said)
    smu.program(Train((0.5, -0.5), 1e-3))
    assert len(recorder.said) == said
    smu.program(Train((-0.5, 0.5), 1e-3))
    assert len(recorder.said) == said + 1
    assert recorder.said[-1] == (
        "nb_top_smua=-0.5 smua.trigger.source.listv({nb_top_smua}) nb_top_smub=0.5 "
        "smub.trigger.source.listv({nb_top_smub}) print(nb_top_smua, nb_top_smub, errorqueue.count)"
    )


def test_no_set_up_fires() -> None:
    _, recorder = pulsing()
    assert not any("initiate" in line or "output=1" in line for line in recorder.said)


def test_the_reading_lies_within_the_pulse() -> None:
    _, recorder = pulsing()
    last = recorder.said[-1]
    assert "smua.measure.nplc=0.02 smua.measure.delay=0.0003" in last  # 0.4 ms after 0.3 ms, of 1 ms
    assert "trigger.timer[1].delay=0.001" in last


def test_one_stimulus_from_its_baseline_to_its_tally() -> None:
    trigger = (
        "nb_shot=nb_nonce*0+{} smua.trigger.arm.count={n} smub.trigger.arm.count={n} "
        "smub.trigger.initiate() smua.trigger.initiate()"
    )
    done = "print(smua.nvbuffer1.n, status.operation.sweeping.condition)"
    smu, recorder = pulsing(
        (BASELINE, "1.00001e+05\t7\t0\t0\t0\t0\t0"),
        (trigger.format(1, n=3), None),
        (done, "1.00000e+00\t6.00000e+00"),
        (done, "3.00000e+00\t0.00000e+00"),
        (trigger.format(2, n=1), None),
        (done, "4.00000e+00\t0.00000e+00"),
        (
            "format.asciiprecision=16 printbuffer(4, 4, smua.nvbuffer1) printbuffer(4, 4, smub.nvbuffer1)",
            ["1.5e-05", "-1.4e-05"],
        ),
        (COUNTERS, "1.00001e+05\t7\t2\t0\t0\t4\t0"),
    )
    recorder.clock.time_s = 0.0
    assert smu.baseline(7) == WITNESS
    smu.arm(7, 0, 3)
    smu.trigger()
    assert not smu.done()
    assert smu.done()
    smu.arm(7, 1, 1)
    smu.trigger()
    assert smu.done()
    currents = smu.currents_a()
    assert currents is not None
    assert np.array_equal(currents, [[1.5e-5, 1.4e-5]])
    assert smu.tally(7, WITNESS, [3, 1, 2]) == Tally(2, 0)
    recorder.finished()


def test_a_full_buffer_is_cleared_in_the_chunk_that_fires() -> None:
    smu, recorder = pulsing((BASELINE, "1.00001e+05\t7\t0\t0\t0\t0\t0"))
    smu.baseline(7)
    recorder.answer = lambda _: None
    smu.arm(7, 0, 40_000)
    smu.trigger()
    smu.arm(7, 1, 40_000)
    smu.trigger()
    assert "nb_base" not in recorder.said[-2]
    assert recorder.said[-1].startswith(
        "nb_shot=nb_nonce*0+2 nb_base=40000 smua.nvbuffer1.clear() smub.nvbuffer1.clear() smua.trigger.arm.count=40000"
    )


def test_arming_twice_counts_once() -> None:
    smu, recorder = pulsing((BASELINE, "1.00001e+05\t7\t0\t0\t0\t0\t0"))
    smu.baseline(7)
    smu.arm(7, 0, 3)
    smu.arm(7, 0, 3)
    recorder.answer = lambda _: "3\t0"
    assert smu.done()


def test_a_new_process_goes_on_counting_where_the_instrument_is() -> None:
    recorder = Recorder([(COUNTERS, "1.00001e+05\t7\t2\t0\t0\t4\t0")])
    smu = Keithley2600B(link_to(recorder), section("keithley-2600b"))
    smu.arm(7, 2, 5)
    recorder.answer = lambda _: "4\t0"
    assert not smu.done()
    recorder.answer = lambda _: "9\t0"
    assert smu.done()


TALLIES = {
    "nil\tnil\tnil\tnil\tnil\t0\t0": (0, 0, "restarted"),
    "100001\t7\t0\t0\t0\t0\t0": (0, 0, ""),
    "100001\t7\t1\t0\t0\t3\t0": (1, 0, ""),
    "100001\t7\t2\t0\t0\t4\t0": (2, 0, ""),
    "100001\t7\t3\t0\t4\t2\t0": (3, 0, ""),
    "100001\t7\t1\t0\t0\t2\t0": (0, 2, "cut short"),
    "100001\t7\t1\t0\t0\t0\t0": (0, 0, ""),  # the chunk was garbled before it fired
    "100001\t7\t1\t2\t0\t0\t0": (0, 0, "cut short"),
    "100001\t7\t3\t0\t0\t3\t0": (1, 0, "cut short"),
    "100001\t7\t1\t2\t0\t3\t0": (1, 0, "cut short"),
    "100001\t7\t3\t0\t0\t9\t0": (3, 0, "counts 9 pulses where 6"),
    "100002\t7\t1\t0\t0\t3\t0": (0, 0, "something else"),
    "100001\t8\t1\t0\t0\t3\t0": (0, 0, "something else"),
}


@pytest.mark.parametrize(("answer", "expected"), TALLIES.items())
def test_what_the_counters_mean(answer: str, expected: tuple[int, int, str]) -> None:
    found = answering(answer).tally(7, WITNESS, [3, 1, 2])
    assert found[:2] == expected[:2]
    assert expected[2] in found.doubt
    assert bool(expected[2]) == bool(found.doubt)


def test_a_train_that_still_runs_is_waited_for() -> None:
    clock = FakeClock()
    recorder = Recorder(
        answer=lambda _: f"100001\t7\t1\t0\t0\t{min(3, int(clock.time_s / 0.05))}\t{6 if clock.time_s < 0.2 else 0}",
        clock=clock,
    )
    smu = Keithley2600B(link_to(recorder), section("keithley-2600b"))
    assert smu.tally(7, WITNESS, [3]) == Tally(1, 0)
    assert 0.2 <= clock.time_s < 0.3


def test_pulses_that_it_cannot_make_are_refused() -> None:
    smu, recorder = enforced()
    said = len(recorder.said)
    with pytest.raises(CapabilityMissing, match="width of 1e-06 s"):
        smu.program(Train((1.0,), 1e-6))
    with pytest.raises(CapabilityMissing, match="3 levels"):
        smu.program(Train((1.0, 1.0, 1.0), 1e-3))
    with pytest.raises(LimitExceeded):
        smu.program(Train((5.5, 0.0), 1e-3))
    assert len(recorder.said) == said


def test_counters_that_do_not_start_at_zero_are_refused() -> None:
    smu, _ = pulsing((BASELINE, "1.00001e+05\t7\t0\t0\t0\t5\t0"))
    with pytest.raises(InstrumentError, match="do not start at 0"):
        smu.baseline(7)


@given(st.text(st.characters(codec="ascii", exclude_characters="\n\r"), min_size=1, max_size=60))
def test_whatever_is_answered_only_counters_are_believed(answer: str) -> None:
    try:
        found = answering(answer).tally(7, WITNESS, [3, 1])
    except BenchFault:
        return
    assert answer.count("\t") == 6
    assert found.doubt


@given(st.text(st.characters(codec="ascii", exclude_characters="\n\r"), min_size=1, max_size=40))
def test_whatever_is_answered_only_two_numbers_say_that_it_is_done(answer: str) -> None:
    smu = answering(answer)
    try:
        finished = smu.done()
    except BenchFault:
        return
    count, sweeping = answer.split("\t")
    assert finished == (float(sweeping) == 0 and float(count) >= 0)
