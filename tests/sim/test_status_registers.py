"""IEEE 488.2 status: what sets which bit, what clears it, and who waits for what."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.sim_instruments.engine.scpi import Call, ScpiError, ScpiInstrument, scpi
from neurobench.sim_instruments.engine.status import Register, Status
from quiet_world import SECTION, QuietWorld


class Worker(ScpiInstrument):
    """WORK t: goes on in the background for t seconds; WAIT: until a trigger; SLEEP t: blocks; FAIL n: error n."""

    MODEL, IDN, ROLE = "worker", "ACME,Worker,{serial},1.0", "smu"

    def build(self) -> None:
        self.triggers = 0
        self.waits_for_trigger = False

    @scpi("WORK", event=True)
    def work(self, call: Call) -> None:
        self.begin(self.world.now_ps + round(call.number() * 1e12))
        self.world.at(call.number(), self.end)

    @scpi("WAIT", params=0, event=True)
    def wait(self) -> None:
        self.begin()
        self.waits_for_trigger = True

    @scpi("SLEEP", event=True)
    def sleep(self, call: Call) -> None:
        self.spend(call.number())

    @scpi("FAIL", event=True)
    def fail(self, call: Call) -> None:
        raise ScpiError(int(call.number()))

    def triggered(self) -> None:
        self.triggers += 1
        if self.waits_for_trigger:
            self.waits_for_trigger = False
            self.end()


def worker() -> Any:
    made: Any = Worker(QuietWorld(), "smu", "NBSIM009", SECTION)  # type: ignore[arg-type]
    return made


def say(instrument: Any, line: str) -> str | None:
    instrument.receive(line.encode() + b"\n")
    answer = instrument.take()
    return None if answer is None else answer.decode().rstrip("\n")


# ---------------------------------------------------------------------------------------------- registers


def test_power_on_is_seen_once() -> None:
    instrument = worker()
    assert say(instrument, "*ESR?") == "128"
    assert say(instrument, "*ESR?") == "0"
    instrument.power_cycle()
    assert say(instrument, "*ESR?") == "128"


@pytest.mark.parametrize(
    ("code", "bit"), [(-113, 32), (-199, 32), (-222, 16), (-286, 16), (-310, 8), (-350, 8), (5005, 8), (-410, 4)]
)
def test_each_class_of_error_has_its_bit(code: int, bit: int) -> None:
    instrument = worker()
    say(instrument, "*CLS")
    say(instrument, f"FAIL {code}")
    assert instrument.status.esr == bit
    assert say(instrument, "*ESE 255;*STB?") == str(32 + 4)
    assert say(instrument, "*STB?") == str(32 + 4), "*STB? clears nothing"
    assert say(instrument, "*ESR?") == str(bit)
    assert say(instrument, "*ESR?;*STB?") == "0;4"
    assert str(say(instrument, "SYST:ERR?")).startswith(f"{code:+d},")
    assert say(instrument, "*STB?") == "0"


def test_enable_registers_survive_clear_and_reset_but_not_the_power_switch() -> None:
    instrument = worker()
    assert say(instrument, "*ESE 1;*SRE 255;*CLS;*RST;*ESE?;*SRE?") == "1;191"  # bit 6 of *SRE does not exist
    instrument.power_cycle()
    assert say(instrument, "*ESE?;*SRE?") == "0;0"
    say(instrument, "*ESE 256")
    assert say(instrument, "*ESE?") == "0"
    assert str(say(instrument, "SYST:ERR?")).startswith("-222,")


def test_message_available_is_seen_by_serial_poll() -> None:
    instrument = worker()
    instrument.receive(b"*CLS;*SRE 16\n*IDN?\n")
    assert instrument.status_byte() == 16 + 64
    assert instrument.status_byte() == 16, "the poll took the request for service back"
    assert instrument.take(5) == b"ACME,"
    assert instrument.status_byte() == 16
    assert instrument.take() == b"Worker,NBSIM009,1.0\n"
    assert instrument.status_byte() == 0


def test_a_new_reason_asks_for_service_again_and_the_summary_stays() -> None:
    instrument = worker()
    say(instrument, "*CLS;*ESE 1;*SRE 32;*OPC")
    assert instrument.status_byte() == 32 + 64
    assert instrument.status_byte() == 32
    assert say(instrument, "*STB?") == "96", "bit 6 of *STB? is the master summary"
    assert say(instrument, "*ESR?") == "1"
    say(instrument, "*OPC")
    assert instrument.status_byte() == 96


def test_clear_takes_events_and_errors() -> None:
    instrument = worker()
    say(instrument, "FAIL -222;*OPC")
    instrument.status.operation.update(0x10, True)
    assert say(instrument, "*CLS;*ESR?;*STB?;:STAT:OPER?;:SYST:ERR?") == '0;0;0;+0,"No error"'
    assert say(instrument, "STAT:OPER:COND?") == "16", "a condition is not an event"


def test_operation_and_questionable_registers() -> None:
    instrument = worker()
    say(instrument, "*CLS;STAT:OPER:ENAB 16;:STAT:QUES:ENAB 65535")
    instrument.status.operation.update(0x10, True)
    instrument.status.operation.update(0x10, False)
    assert say(instrument, "*STB?;:STAT:OPER:COND?;EVEN?;EVEN?;ENAB?") == "128;0;16;0;16"
    instrument.status.questionable.update(1, True)
    assert say(instrument, "*STB?;:STATus:QUEStionable?;:STAT:QUES:ENAB?") == "8;1;32767"
    assert say(instrument, "STAT:PRES;:STAT:OPER:ENAB?;:STAT:QUES:ENAB?") == "0;0"


@given(st.lists(st.tuples(st.integers(0, 0x7FFF), st.booleans()), max_size=12))
def test_an_event_is_every_bit_that_rose_since_it_was_read(changes: list[tuple[int, bool]]) -> None:
    register, condition, event = Register(), 0, 0
    for bits, on in changes:
        after = condition | bits if on else condition & ~bits
        event, condition = event | (after & ~condition), after
        register.update(bits, on)
    assert (register.condition, register.take_event(), register.event) == (condition, event, 0)


# ---------------------------------------------------------------------------------------------- error queue


@given(st.lists(st.sampled_from([-113, -222, 0, 5005]), max_size=40), st.integers(1, 5))
def test_the_queue_keeps_the_oldest_and_ends_with_an_overflow(steps: list[int], depth: int) -> None:
    """Against a plain model; 0 stands for reading one entry."""
    status, model = Status(mav=lambda: False, depth=depth), deque[int]()
    for code in steps:
        if code == 0:
            assert status.next_error().code == (model.popleft() if model else 0)
            continue
        status.error(code)
        if len(model) < depth:
            model.append(code)
        else:
            model[-1] = -350
    assert [entry.code for entry in status.errors] == list(model)


def test_the_queue_holds_twenty_and_says_that_it_overflowed() -> None:
    instrument = worker()
    for _ in range(25):
        say(instrument, "FOO")
    assert say(instrument, "SYST:ERR:COUN?") == "20"
    answers = [str(say(instrument, "SYST:ERR?")) for _ in range(21)]
    assert answers[18].startswith("-113,")
    assert answers[19:] == ['-350,"Queue overflow"', '+0,"No error"']


# ---------------------------------------------------------------------------------------------- query errors


def test_a_new_message_interrupts_an_unread_answer() -> None:
    instrument = worker()
    instrument.receive(b"*CLS\n*IDN?\n*ESE?\n")
    assert instrument.take() == b"0\n"
    assert instrument.take() is None
    assert say(instrument, "*ESR?;:SYST:ERR?") == '4;-410,"Query INTERRUPTED"'


def test_on_a_stream_answers_queue_up() -> None:
    instrument = worker()
    instrument.streaming = True
    instrument.receive(b"*IDN?\n*ESE?\n")
    assert [instrument.take(), instrument.take(), instrument.take()] == [b"ACME,Worker,NBSIM009,1.0\n", b"0\n", None]
    assert say(instrument, "SYST:ERR?") == '+0,"No error"'


def test_reading_nothing_is_unterminated() -> None:
    instrument = worker()
    say(instrument, "*CLS")
    instrument.no_reply_read()
    assert say(instrument, "*ESR?;:SYST:ERR?") == '4;-420,"Query UNTERMINATED"'


# ---------------------------------------------------------------------------------------------- operations


def test_operation_complete_comes_when_the_last_one_ends() -> None:
    instrument = worker()
    say(instrument, "*CLS;*ESE 1;:WORK 1;WORK 2;*OPC")
    assert say(instrument, "*STB?") == "0"
    instrument.world.run_for(1.5)
    assert say(instrument, "*STB?") == "0"
    instrument.world.run_for(1)
    assert say(instrument, "*STB?") == "32"
    assert say(instrument, "*ESR?") == "1"


def test_opc_query_answers_when_it_is_over_and_time_has_passed() -> None:
    instrument = worker()
    assert say(instrument, "WORK 2;WORK 1;*OPC?") == "1"
    assert instrument.world.now_s() == 2.0
    assert say(instrument, "*OPC?") == "1"
    assert instrument.world.now_s() == 2.0


def test_wai_holds_back_what_follows_it() -> None:
    instrument = worker()
    instrument.receive(b"WORK 1;*WAI;:WORK 1;*IDN?\n")
    assert instrument.world.now_s() == 1.0
    assert instrument.take() == b"ACME,Worker,NBSIM009,1.0\n"
    assert instrument.status.pending == 1


def test_who_waits_for_a_trigger_is_woken_by_it_and_so_are_the_messages_behind() -> None:
    instrument = worker()
    instrument.streaming = True
    instrument.receive(b"WAIT;*OPC?\n*IDN?\n*TRG\n")
    assert instrument.take() is None
    assert instrument.triggers == 0, "*TRG stands in the queue; only the interface's trigger gets past it"
    instrument.trigger()
    assert [instrument.take(), instrument.take()] == [b"1\n", b"ACME,Worker,NBSIM009,1.0\n"]
    assert instrument.triggers == 2


def test_a_device_clear_frees_an_instrument_that_waits_and_keeps_its_settings() -> None:
    instrument = worker()
    instrument.receive(b"*CLS;*ESE 1;:WAIT;*OPC;*OPC?;*ESE 2\n*IDN?\n*OP")
    instrument.clear()
    instrument.trigger()
    assert instrument.take() is None
    assert say(instrument, "*ESE?;*ESR?") == "1;0", "*OPC is taken back, and what came behind *OPC? is not done"


def test_reset_and_clear_take_back_operation_complete() -> None:
    for command in ("*CLS", "*RST"):
        instrument = worker()
        say(instrument, "*CLS;:WORK 1;*OPC")
        say(instrument, command)
        instrument.world.run_for(2)
        assert say(instrument, "*ESR?") == "0"


def test_a_message_that_is_cleared_while_it_blocks_answers_nothing() -> None:
    instrument = worker()
    instrument.world.at(0.5, instrument.clear)
    assert say(instrument, "SLEEP 1;*ESE 4;*IDN?") is None
    assert say(instrument, "*ESE?") == "0"
    assert instrument.world.now_s() == 1.0


def test_a_message_that_comes_while_another_blocks_is_done_after_it() -> None:
    instrument = worker()
    instrument.world.at(0.5, lambda: instrument.receive(b"*ESE?\n"))
    assert say(instrument, "SLEEP 1;*ESE 4") == "4"


def test_an_end_without_a_beginning_changes_nothing() -> None:
    instrument = worker()
    instrument.end()
    say(instrument, "*CLS;:WORK 1;*OPC")
    assert (instrument.status.pending, say(instrument, "*ESR?")) == (1, "0")


def test_a_trigger_that_nobody_wants_is_ignored_with_an_error() -> None:
    class Deaf(ScpiInstrument):
        MODEL, IDN, ROLE = "deaf", "ACME,Deaf,{serial},1.0", "smu"

    instrument: Any = Deaf(QuietWorld(), "smu", "NBSIM010", SECTION)  # type: ignore[arg-type]
    instrument.trigger()
    assert say(instrument, "*TRG;:SYST:ERR?;ERR?;ERR?") == '-211,"Trigger ignored";-211,"Trigger ignored";+0,"No error"'
