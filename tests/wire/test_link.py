"""A link: deadlines on its clock, answers that belong to their questions, and a way in for an abort."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.drivers.instruments._link import Link, float_of, floats_of, int_of, over_range
from neurobench.drivers.instruments._table import (
    Flag,
    Knob,
    Number,
    Scpi,
    Setting,
    Tsp,
    Word,
    split_answers,
)
from pyvisa.constants import StatusCode
from pyvisa.errors import VisaIOError
from recorder import Recorder, link_to, section

from neurobench.errors import InstrumentError, LinkLost, UsageError


def test_a_question_is_one_message_and_its_answer_one_line() -> None:
    recorder = Recorder([("*IDN?", "A,B,C,D"), (":OUTP 0", None)])
    link = link_to(recorder)
    assert link.query("*IDN?") == "A,B,C,D"
    link.write(":OUTP 0")
    recorder.finished()


def test_waiting_is_cut_into_slices_and_ends_at_the_deadline_of_the_clock() -> None:
    recorder = Recorder([("READ?", None)])
    with pytest.raises(LinkLost, match="no answer in time"):
        link_to(recorder, timeout_s=0.4).query("READ?")
    assert recorder.clock.time_s == pytest.approx(0.4, abs=0.051)
    assert max(recorder.slices_ms) <= 50


def test_a_longer_deadline_can_be_given_for_one_question() -> None:
    recorder = Recorder([("READ?", None)])
    with pytest.raises(LinkLost):
        link_to(recorder, timeout_s=0.1).query("READ?", timeout_s=3.0)
    assert recorder.clock.time_s == pytest.approx(3.0, abs=0.051)


def test_an_answer_that_comes_late_is_not_taken_for_the_next_one() -> None:
    recorder = Recorder([("A?", None), ("B?", "b")])
    link = link_to(recorder)
    with pytest.raises(LinkLost):
        link.query("A?")
    recorder.waiting.append("a, too late")
    assert link.query("B?") == "b"
    assert recorder.events == ["clear"]


def test_a_stream_is_opened_anew_and_drained() -> None:
    recorder = Recorder([("A?", None), ("B?", "b")], name="TCPIP0::host::5025::SOCKET")
    recorder.clear = lambda: None  # type: ignore[method-assign]  # a socket knows no device clear
    link = link_to(recorder)
    with pytest.raises(LinkLost):
        link.query("A?")
    recorder.waiting += ["a, too late", "and more"]
    assert link.query("B?") == "b"
    assert recorder.events == ["close", "open"]


def test_recovering_says_nothing_to_the_instrument() -> None:
    recorder = Recorder([("A?", None)])
    link = link_to(recorder)
    with pytest.raises(LinkLost):
        link.query("A?")
    link.recover()
    assert recorder.said == ["A?"]


@pytest.mark.parametrize(
    "answer",
    [b"1.0", b"\n", b"  \n", b"\xff\xfe\n", VisaIOError(StatusCode.error_connection_lost), OSError("cable")],
)
def test_a_broken_answer_is_a_lost_link(answer: Any) -> None:
    recorder = Recorder([("A?", answer), ("A?", "1")])
    link = link_to(recorder, name="smu")
    with pytest.raises(LinkLost, match="smu"):
        link.query("A?")
    assert link.query("A?") == "1"
    assert recorder.events == ["clear"]


def test_a_line_that_cannot_be_cleared_is_a_lost_link() -> None:
    recorder = Recorder([("A?", None)])
    link = link_to(recorder)
    with pytest.raises(LinkLost):
        link.query("A?")

    def dead() -> None:
        raise OSError("no such device")

    recorder.clear = recorder.close = dead  # type: ignore[method-assign]
    with pytest.raises(LinkLost, match="clearing"):
        link.query("B?")
    assert recorder.said == ["A?"]


class Slow(Recorder):
    """A resource whose reads take real time, as those of a wire do."""

    def read_raw(self) -> bytes:
        if not self.waiting:
            time.sleep(self.timeout / 1000)
        return super().read_raw()


def test_an_abort_from_another_thread_gets_in_while_a_question_waits() -> None:
    recorder = Slow([("READ?", None), (":OUTP 0", None), (":OUTP?", "0")])
    link = link_to(recorder, timeout_s=60.0)
    lost: list[Exception] = []

    def ask() -> None:
        try:
            link.query("READ?")
        except LinkLost as error:
            lost.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    time.sleep(0.08)
    begun = time.monotonic()
    link.latch()
    link.write(":OUTP 0")
    waited_s = time.monotonic() - begun
    assert link.query(":OUTP?") == "0"
    asker.join(2)
    assert waited_s < 0.1
    assert "switched off" in str(lost[0])


def test_a_latched_link_is_silent_for_other_threads_until_it_is_released() -> None:
    recorder = Recorder([("B?", "b")])
    link = link_to(recorder)
    other = threading.Thread(target=link.latch)
    other.start()
    other.join()
    with pytest.raises(LinkLost):
        link.query("A?")
    link.unlatch()
    assert link.query("B?") == "b"


def test_an_abort_in_the_middle_of_a_question_of_its_own_thread_ends_that_question() -> None:
    link: Link

    class Interrupted(Recorder):
        def read_raw(self) -> bytes:
            if self.said == ["READ?"]:
                link.write(":OUTP 0")  # as a signal handler would
            return super().read_raw()

    recorder = Interrupted([("READ?", None), (":OUTP 0", None), ("B?", "b")])
    link = link_to(recorder)
    with pytest.raises(LinkLost, match="dropped by an abort"):
        link.query("READ?")
    assert link.query("B?") == "b"


def test_several_lines_may_answer_one_message() -> None:
    recorder = Recorder([("print(1) print(2)", ["1", "2"])])
    assert link_to(recorder).query_lines("print(1) print(2)", 2) == ["1", "2"]


def test_what_is_said_can_be_listened_to() -> None:
    link = link_to(Recorder([("A?", "1")]))
    heard: list[tuple[str, str]] = []
    link.log = lambda direction, line: heard.append((direction, line))
    link.query("A?")
    assert heard == [(">", "A?"), ("<", "1")]


def test_who_listens_hears_that_an_answer_was_lost() -> None:
    link = link_to(Recorder([("A?", None)]))
    heard: list[tuple[str, str]] = []
    link.log = lambda direction, line: heard.append((direction, line))
    with pytest.raises(LinkLost):
        link.query("A?", 0.1)
    assert heard == [(">", "A?"), ("!", "lost: no answer in time")]


def test_a_slow_serial_line_may_take_longer_than_a_slice_for_one_answer() -> None:
    recorder = Recorder([("A?", [b"1.5", None, b"E-", None, b"7\n"]), ("B?", "b")], name="ASRL1::INSTR")
    link = link_to(recorder)
    assert link.query("A?") == "1.5E-7"
    assert link.query("B?") == "b"


def test_half_an_answer_of_a_serial_line_is_no_answer() -> None:
    recorder = Recorder([("A?", b"1.5E")], name="ASRL1::INSTR")
    with pytest.raises(LinkLost, match="only b'1.5E'"):
        link_to(recorder).query("A?")


def test_what_follows_a_garbled_answer_is_not_taken_for_the_next_one() -> None:
    recorder = Recorder([("A?", ["1;", "2"]), ("B?", "b")])
    link = link_to(recorder)
    with pytest.raises(LinkLost, match="unintelligible"):
        float_of(link.query("A?"), link)
    assert link.query("B?") == "b"
    assert recorder.events == ["clear"]


# -- numbers


def test_numbers_are_read_as_the_instruments_write_them() -> None:
    link = link_to(Recorder())
    assert float_of("+1.000000E-06", link) == 1e-6
    assert floats_of("1, -2.5e3,.5", link, 3) == [1.0, -2500.0, 0.5]
    assert int_of("1.00000e+01", link) == 10
    assert floats_of("9.9e37,-9.90000E+37,9.91e+37", link, 3) == [math.inf, -math.inf, math.inf]
    assert over_range(float_of("+9.900000E+37", link))


@pytest.mark.parametrize("text", ["", "1,2", "nan", "inf", "1e", "0x10", "1_000", "1.0.0", "1e31", "-", "1 2", "١"])
def test_what_is_no_number_is_never_believed(text: str) -> None:
    with pytest.raises(LinkLost, match="unintelligible"):
        float_of(text, link_to(Recorder()))


@given(st.text(max_size=20), st.integers(1, 3))
def test_a_text_is_exactly_so_many_numbers_or_refused(text: str, n: int) -> None:
    try:
        values = floats_of(text, link_to(Recorder()), n)
    except LinkLost:
        return
    assert len(values) == n
    assert not any(math.isnan(value) for value in values)
    assert [float(part) for part in text.split(",")] == [
        pytest.approx(value) if math.isfinite(value) else pytest.approx(math.copysign(9.9e37, value), rel=1e300)
        for value in values
    ]


@given(st.floats(-1e6, 1e6), st.integers(1, 9))
def test_a_written_number_agrees_with_itself_and_not_with_others(value: float, digits: int) -> None:
    codec = Number(1e-5)
    assert codec.agrees(value, codec.say(value))
    if abs(value) > 1e-9:
        assert not codec.agrees(value, codec.say(value * 1.001))
        assert not codec.agrees(value, codec.say(-value))


@given(st.text(max_size=12))
def test_codecs_say_of_garbage_that_it_is_garbage(text: str) -> None:
    assert Flag().agrees(True, text) in (None, True, False)
    if not any(c.isdigit() for c in text):
        assert Number().agrees(1.0, text) is None


def test_flags_have_one_meaning() -> None:
    assert Flag().say(True) == "1"
    assert [Flag().agrees(True, text) for text in ("1", "ON", "1.00000e+00", "true", "0", "OFF", "2", "?")] == [
        True,
        True,
        True,
        True,
        False,
        False,
        None,
        None,
    ]


def test_words_agree_in_their_short_and_long_form() -> None:
    assert Word().agrees("CURR", '"CURR:DC"')
    assert Word().agrees("LIST", "LIST")
    assert Word().agrees("PULS", "DC") is False
    assert Word().agrees("PULS", "\x00") is None


def test_compound_answers_are_cut_outside_quotes_only() -> None:
    assert split_answers('1;0,"No error;0;0 0"') == ["1", '0,"No error;0;0 0"']
    assert split_answers("1;2") == ["1", "2"]


# -- programming


class _Said(Scpi):
    MODELS = ("24[0-9]0",)

    def safe(self) -> None:
        """Nothing to switch off."""


class _Printed(Tsp):
    MODELS = ("26.*",)

    def safe(self) -> None:
        """Nothing to switch off."""


LIMIT = Knob("current limit", ":SOUR:VOLT:ILIM {v}", ":SOUR:VOLT:ILIM?", "A", low=1e-9, high=1.0)
LIMIT_I = Knob("current limit", "{c}.source.limiti={v}", "{c}.source.limiti", "A")
SET = ":SOUR:VOLT:ILIM 0.001;:SOUR:VOLT:ILIM?;:SYST:ERR?"


def scpi(*script: tuple[str, Any]) -> tuple[_Said, Recorder]:
    recorder = Recorder(script)
    return _Said(link_to(recorder, name="smu"), section("keithley-2450", serial="1")), recorder


def test_a_knob_is_set_read_back_and_checked_for_errors_in_one_message() -> None:
    smu, recorder = scpi((SET, '1.000000E-03;0,"No error;0;0 0"'))
    smu.set_checked(LIMIT, 1e-3)
    recorder.finished()


def test_an_old_error_does_not_count() -> None:
    smu, recorder = scpi(
        (SET, '1.000000E-03;-350,"Queue overflow"'),
        (":SYST:ERR?", '-113,"Undefined header"'),
        (":SYST:ERR?", '0,"No error"'),
        (SET, '1.000000E-03;0,"No error"'),
    )
    smu.set_checked(LIMIT, 1e-3)
    recorder.finished()


def test_an_error_that_comes_again_is_raised_in_the_words_of_the_instrument() -> None:
    again = ((SET, '1.05E-04;-222,"Data out of range"'), (":SYST:ERR?", '0,"No error"'))
    smu, recorder = scpi(*again, *again)
    with pytest.raises(InstrumentError, match="-222, Data out of range"):
        smu.set_checked(LIMIT, 1e-3)
    recorder.finished()
    again = ((SET, '1E-03;1,"x"'), (":SYST:ERR?", '-222,"Data out of range"'), (":SYST:ERR?", '0,"No error"'))
    smu, recorder = scpi(*again, *again)
    with pytest.raises(InstrumentError, match="-222, Data out of range"):
        smu.set_checked(LIMIT, 1e-3)


def test_a_message_that_is_not_understood_is_raised_in_the_words_of_the_instrument() -> None:
    again = ((SET, None), (":SYST:ERR?", '-113,"Undefined header"'), (":SYST:ERR?", '0,"No error"'))
    smu, recorder = scpi(*again, *again)
    with pytest.raises(InstrumentError, match="-113, Undefined header"):
        smu.set_checked(LIMIT, 1e-3)
    recorder.finished()


def test_a_lost_answer_without_an_error_is_a_lost_link() -> None:
    smu, _ = scpi((SET, None), (":SYST:ERR?", '0,"No error"'))
    with pytest.raises(LinkLost):
        smu.set_checked(LIMIT, 1e-3)


def test_another_value_that_comes_back_is_refused() -> None:
    smu, _ = scpi((SET, '1.1E-03;0,"No error"'), (SET, '1.1E-03;0,"No error"'))
    with pytest.raises(InstrumentError, match=r"current limit was set to 0.001 A and reads back 1.1E-03"):
        smu.set_checked(LIMIT, 1e-3)


def test_a_value_out_of_range_is_not_even_sent() -> None:
    smu, recorder = scpi()
    with pytest.raises(UsageError, match="current limit = 2 A: this instrument does 1e-09 to 1 A"):
        smu.set_checked(LIMIT, 2.0)
    assert recorder.said == []


def test_tsp_sets_and_prints_in_one_chunk() -> None:
    chunk = "smua.source.limiti=0.001 print(smua.source.limiti, errorqueue.count)"
    recorder = Recorder([(chunk, "1.00000e-03\t0.00000e+00")])
    _Printed(link_to(recorder), section("keithley-2600b")).set_up([Setting(LIMIT_I, 1e-3, "smua")])
    recorder.finished()


def test_tsp_errors_are_taken_out_until_the_queue_is_empty() -> None:
    ask = "print(errorqueue.next())"
    recorder = Recorder(
        [
            (ask, "-2.86000e+02\tTSP Runtime error\t2.00000e+01\t1.00000e+00"),
            (ask, "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00"),
        ]
    )
    assert _Printed(link_to(recorder), section("keithley-2600b")).errors() == ["-286, TSP Runtime error"]


def test_a_queue_without_an_end_is_left_alone() -> None:
    recorder = Recorder(answer=lambda _: '-350,"Queue overflow"')
    smu = _Said(link_to(recorder), section("keithley-2450"))
    assert len(smu.errors()) == 50


def test_who_it_is() -> None:
    smu, _ = scpi(("*IDN?", "KEITHLEY INSTRUMENTS,MODEL 2450,1,1.7.12b"))
    assert smu.identify() == ("KEITHLEY INSTRUMENTS", "2450", "1", "1.7.12b", False)
    recorder = Recorder([("*IDN?", "KEITHLEY INSTRUMENTS,MODEL 2450,NBSIM001,1.7.12b")])
    assert _Said(link_to(recorder), section("keithley-2450")).identify().simulated


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("KEITHLEY INSTRUMENTS,MODEL 6430,1,C33", "6430 .* answers"),
        ("KEITHLEY INSTRUMENTS,MODEL 2450,2,1.7", "serial number 2 answers"),
    ],
)
def test_another_instrument_is_named_after_asking_twice(answer: str, words: str) -> None:
    smu, recorder = scpi(("*IDN?", answer), ("*IDN?", answer))
    with pytest.raises(InstrumentError, match=words):
        smu.identify()
    recorder.finished()


def test_a_name_that_was_garbled_once_is_asked_again() -> None:
    smu, _ = scpi(("*IDN?", "KEITHLEY,MODEL 2x50,1,1.7"), ("*IDN?", "KEITHLEY,MODEL 2450,1,1.7"))
    assert smu.identify().model == "2450"


def test_nonsense_is_no_name() -> None:
    smu, _ = scpi(("*IDN?", "ERROR"))
    with pytest.raises(LinkLost, match="unintelligible"):
        smu.identify()
