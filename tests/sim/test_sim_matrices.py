"""Simulated switch matrices: dialogues, channel lists, all or nothing, time to settle, relays that switch hot."""

from __future__ import annotations

from typing import Any

import pytest
from boards import WIRING, chip_of
from hypothesis import given, settings
from hypothesis import strategies as st
from neurobench.sim_instruments.keithley_707b import Keithley707B, point_of, specifier
from neurobench.sim_instruments.keysight_34980a import Keysight34980A
from neurobench.sim_instruments.world.wiring import through_matrix
from neurobench.sim_instruments.world.world import World
from traced_world import Talk

MS = 10**9
ALL = 'print(channel.getclose("allslots"))'
BOTH = pytest.mark.parametrize("kind", [Keithley707B, Keysight34980A])


def closed(talk: Talk) -> frozenset[tuple[int, int]]:
    return talk.world.matrix.closed  # type: ignore[no-any-return]


# ------------------------------------------------------------------ 707B


def test_a_707b_says_who_it_is() -> None:
    talk = Talk(Keithley707B)
    assert talk.ask("*IDN?") == "Keithley Instruments Inc., Model 707B, NBSIM009, 01.20a"
    assert talk.ask("print(localnode.model)") == "707B"
    assert [len(talk.ask(f"print(slot[{n}].idn)").split(",")) for n in range(1, 7)] == [4] * 6
    assert talk.number("print(slot[6].rows.matrix)") == 8
    assert talk.ask("print(slot[7])") == "nil"


def test_examples_of_the_707b_manual() -> None:
    talk = Talk(Keithley707B)
    talk.say('channel.open("allslots")', 'channel.pattern.setimage("1B02,1B04,1B06", "Chans")')
    talk.say('channel.close("1A01:1A05, 1C03, Chans")')
    assert talk.ask('print(channel.getclose("slot1"))') == "1A01;1A02;1A03;1A04;1A05;1B02;1B04;1B06;1C03"
    talk.say('channel.exclusiveclose("")', 'channel.close("1D01,1E12")')
    assert talk.ask('print(channel.getclose("slot1"))') == "1D01;1E12"
    talk.say('channel.exclusiveclose("1A01:1A05, 1C03, Chans")')
    assert talk.ask('print(channel.getclose("slot1"))') == "1A01;1A02;1A03;1A04;1A05;1B02;1B04;1B06;1C03"
    assert talk.number("print(errorqueue.count)") == 0


def test_the_order_that_protects_a_chip_is_one_message() -> None:
    talk = Talk(Keithley707B)
    talk.say('channel.close("1A01,1B02")')
    line = (
        'channel.open("allslots") nb_opened = channel.getclose("allslots") channel.close("1A03:1A04,2H12") '
        'print(nb_opened, channel.getclose("allslots"), errorqueue.count)'
    )
    assert talk.ask(line) == "nil\t1A03;1A04;2H12\t0.00000e+00"
    assert closed(talk) == {(1, 3), (1, 4), (8, 24)}
    assert talk.world.now_ps == 9 * MS  # three times relays moved, 3 ms each
    assert talk.ask(line) == "nil\t1A03;1A04;2H12\t0.00000e+00"


def test_nothing_moved_takes_no_time() -> None:
    talk = Talk(Keithley707B)
    talk.say('channel.open("allslots")', 'channel.close("1A01")', 'channel.close("1A01")', 'channel.open("1B01")')
    assert talk.world.now_ps == 3 * MS


@pytest.mark.parametrize(
    "channels",
    ["1A01,7A01", "1A01,1I01", "1A01,1A13", "1A01:", "1A05:1A01", "slot1", "allslots", "", "nobody", "1A01:1A02:1A03"],
)
def test_on_an_error_no_channel_of_a_707b_moves(channels: str) -> None:
    talk = Talk(Keithley707B)
    talk.say('channel.close("2A01")')
    assert talk.ask(f'channel.close("{channels}") {ALL}') == "2A01"
    assert talk.ask("print(errorqueue.next())").split("\t")[0] in ("1.11500e+03", "1.11600e+03")
    assert talk.number("print(errorqueue.count)") == 0
    if channels:
        talk.say(f'channel.exclusiveclose("{channels}")')
        assert talk.ask(ALL) == "2A01"
        assert talk.number("print(errorqueue.count)") == 1


def test_an_empty_slot_has_no_channels() -> None:
    talk = Talk(Keithley707B, slots=(2, 5))
    assert talk.ask("print(slot[1].idn)") == "Empty Slot"
    assert talk.world.matrix.shape == (8, 24)
    assert talk.ask(f'channel.close("1A01") {ALL}') == "nil"
    assert talk.ask(f'channel.close("2A03,5H12") {ALL}') == "2A03;5H12"
    assert closed(talk) == {(1, 3), (8, 24)}


def test_what_a_chunk_that_does_not_parse_does() -> None:
    talk = Talk(Keithley707B)
    talk.say('channel.close("1A01") channel.close("1A02"')
    assert closed(talk) == frozenset()
    assert talk.ask("print(errorqueue.next())").startswith("-2.85000e+02")


def test_rules_of_connecting() -> None:
    talk = Talk(Keithley707B)
    trace = talk.world.matrix
    talk.say('channel.close("1A01,1A02")', 'channel.exclusiveclose("1A02,1A03")')
    assert trace.trace[2:] == [(3 * MS, "open", (1, 1)), (6 * MS, "close", (1, 3))]
    talk.say("channel.connectrule = channel.MAKE_BEFORE_BREAK", 'channel.exclusiveclose("1A01")')
    assert [what for _, what, _ in trace.trace[4:]] == ["close", "open", "open"]
    assert talk.number("print(channel.connectrule)") == 2
    talk.say("channel.connectrule = channel.OFF", 'channel.exclusiveclose("1A05")')
    assert talk.world.now_ps == 18 * MS
    talk.say("channel.connectsequential = channel.ON", 'channel.close("1B03,1B01")')
    assert [(ps, at) for ps, _, at in trace.trace[-2:]] == [(18 * MS, (2, 3)), (21 * MS, (2, 1))]
    talk.say("channel.connectrule = 7")
    assert talk.number("print(errorqueue.count)") == 1


def test_the_other_card_stays_with_exclusiveslotclose() -> None:
    talk = Talk(Keithley707B)
    talk.say('channel.close("1A01,2A01")', 'channel.exclusiveslotclose("2B02")')
    assert talk.ask(ALL) == "1A01;2B02"


def test_forbidden_channels_delays_and_states() -> None:
    talk = Talk(Keithley707B)
    talk.say('channel.pattern.setimage("1A01,1A02", "path")', 'channel.setforbidden("1A02")')
    assert talk.ask('print(channel.getforbidden("slot1"))') == "1A02"
    assert talk.ask('print(channel.pattern.getimage("path"))') == "nil"
    assert talk.ask(f'channel.close("1A01,1A02") {ALL}') == "nil"
    talk.say("errorqueue.clear()", 'channel.clearforbidden("allslots")', 'channel.setdelay("1A02", 0.05)')
    assert talk.ask('print(channel.getdelay("1A01,1A02"))') == "0.00000e+00,5.00000e-02"
    talk.say('channel.close("1A01,1A02")')
    assert talk.world.now_ps == 53 * MS
    assert talk.ask('print(channel.getstate("1A01:1A03"))') == "1,1,0"
    talk.say('channel.pattern.snapshot("now")', 'channel.reset("1A02")')
    assert talk.ask('print(channel.getdelay("1A02"), channel.getclose("now"))') == "0.00000e+00\t1A01"
    talk.say('channel.pattern.delete("now")')
    assert talk.ask('print(channel.getclose("now"))') == "nil"
    assert talk.number("print(errorqueue.count)") == 1


@settings(max_examples=30)
@given(points=st.sets(st.tuples(st.integers(1, 8), st.integers(1, 72)), min_size=1, max_size=20))
def test_what_is_closed_is_what_is_read_back(points: set[tuple[int, int]]) -> None:
    talk = Talk(Keithley707B)
    names = [f"{(column - 1) // 12 + 1}{'ABCDEFGH'[row - 1]}{(column - 1) % 12 + 1:02d}" for row, column in points]
    assert sorted(names) == talk.ask(f'channel.exclusiveclose("{",".join(names)}") {ALL}').split(";")
    assert closed(talk) == points
    for name in names:
        point = point_of(name)
        assert point is not None
        assert specifier(point) == name


@BOTH
def test_power_and_reset_open_all(kind: Any) -> None:
    close = {Keithley707B: 'channel.close("1A01")', Keysight34980A: "ROUT:CLOS (@1101)"}[kind]
    talk = Talk(kind)
    talk.say(close)
    assert closed(talk) == {(1, 1)}
    talk.say("*RST")
    assert closed(talk) == frozenset()
    talk.say(close)
    talk.instrument.power_cycle()
    assert closed(talk) == frozenset()


def test_variables_of_the_client_are_lost_with_the_power() -> None:
    talk = Talk(Keithley707B)
    talk.say("nb_x = 5")
    assert talk.number("print(nb_x)") == 5
    talk.instrument.power_cycle()
    assert talk.ask("print(nb_x)") == "nil"


# ------------------------------------------------------------------ 34980A


def test_dialogue_of_qcodes_with_a_34980a() -> None:
    talk = Talk(Keysight34980A, slots=(1, 3))
    talk.instrument.clear()
    assert talk.ask("*IDN?") == "Agilent Technologies,34980A,NBSIM009,2.42"
    models = []
    for slot in range(1, 9):
        talk.say("*CLS")
        models.append(talk.ask(f"SYST:CTYP? {slot}").strip('"').split(",")[1])
        assert talk.ask("*ESR?") == "0"
    assert models == ["34934A-8x32", "0", "34934A-8x32", *["0"] * 5]
    assert talk.ask("SYSTEM:MODule:TERMinal:TYPE? 1") == "8x32"
    assert talk.ask("SYST:MOD:ROW:PROT? 1") == "AUTO100"
    talk.say("SYSTem:MODule:ROW:PROTection 1, FIX", "ROUT:CLOS (@1203)")
    assert talk.ask("SYSTem:MODule:ROW:PROTection? 1") == "FIX"
    assert talk.ask("ROUT:CLOS? (@1203,1204)") == "1,0"
    assert talk.ask("ROUT:OPEN? (@1203)") == "0"
    talk.say("ROUT:OPEN:ALL 1")
    assert talk.ask("ROUT:CLOS? (@1203)") == "0"
    assert talk.errors() == []


def test_channels_are_slot_row_and_column() -> None:
    talk = Talk(Keysight34980A, slots=(1, 3))
    assert talk.world.matrix.shape == (8, 64)
    talk.say("ROUT:CLOS (@1203,3832,1101:1104)")
    assert closed(talk) == {(2, 3), (8, 64), (1, 1), (1, 2), (1, 3), (1, 4)}
    assert talk.world.now_ps == 4 * MS
    talk.say("ROUT:OPEN (@1102:1104)")
    assert closed(talk) == {(2, 3), (8, 64), (1, 1)}
    assert talk.world.now_ps == 8 * MS


def test_the_second_matrix_of_a_module_is_wired_to_nothing() -> None:
    talk = Talk(Keysight34980A)
    talk.say("ROUT:CLOS (@1133,1164)")
    assert closed(talk) == frozenset()
    assert talk.ask("ROUT:CLOS? (@1133,1101,1164)") == "1,0,1"
    talk.say("ROUT:OPEN:ALL ALL")
    assert talk.ask("ROUT:CLOS? (@1133,1101,1164)") == "0,0,0"


@pytest.mark.parametrize("channels", ["(@1101,2101)", "(@1101,1901)", "(@1101,1165)", "(@1101,1100)", "(@9101)"])
def test_on_an_error_no_channel_of_a_34980a_moves(channels: str) -> None:
    talk = Talk(Keysight34980A, slots=(1, 3))
    talk.say(f"ROUT:CLOS {channels}", f"ROUT:CLOS:EXCL {channels}")
    assert talk.errors() == [-224, -224]
    assert closed(talk) == frozenset()
    assert talk.ask("*ESR?") == str(128 | 16)


def test_exclusive_closing_opens_the_rest_of_the_module() -> None:
    talk = Talk(Keysight34980A)
    talk.say("ROUT:CLOS (@1101,1102,2101)", "ROUT:CLOS:EXCL (@1102,1103)")
    assert closed(talk) == {(1, 2), (1, 3), (1, 33)}
    assert talk.world.matrix.trace[3:] == [(4 * MS, "open", (1, 1)), (8 * MS, "close", (1, 3))]


def test_delays_sequences_and_cards_of_a_34980a() -> None:
    talk = Talk(Keysight34980A, slots=(1,))
    talk.say("ROUT:CHAN:DEL 0.1, (@1102)", 'ROUT:SEQ:DEF swap, "ROUT:OPEN (@1101);:ROUT:CLOS (@1102)"')
    assert [float(text) for text in talk.ask("ROUT:CHAN:DEL? (@1101,1102)").split(",")] == [0.0, 0.1]
    talk.say("ROUT:CLOS (@1101)", "ROUT:SEQ:TRIG swap")
    assert closed(talk) == {(1, 2)}
    assert talk.world.now_ps == 112 * MS
    assert talk.ask("ROUT:SEQ:CAT?;BUSY?") == "SWAP;0"
    talk.say('ROUT:SEQ:DEF evil, "*RST"', "ROUT:SEQ:TRIG nobody", "ROUT:SEQ:DEL swap", "ROUT:SEQ:TRIG swap")
    assert talk.errors() == [-224] * 3
    talk.say("SYST:CPON 1", "ROUT:OPEN:ALL 2", "SYST:MOD:ROW:PROT 2, FIX")
    assert closed(talk) == frozenset()
    assert talk.errors() == [-241, -241]
    assert talk.ask("SYST:CDES? 1") == '"8x32 High-Density Matrix"'


# ------------------------------------------------------------------ whatever comes in

NAMES = """
close open exclusiveclose exclusiveslotclose getclose getstate setdelay getdelay setforbidden getforbidden
clearforbidden reset pattern.setimage pattern.getimage pattern.snapshot pattern.delete
"""
HEADERS = "CLOS OPEN CLOS:EXCL OPEN:ALL CHAN:DEL SEQ:DEF SEQ:TRIG SEQ:DEL CLOS?"
ARGUMENTS = ["'1A01'", "'1A01:2H12,slot3'", "'x'", "''", "5", "-1", "nil", "{1}", "'allslots'", "channel", "'1A01:'"]


@settings(max_examples=100)
@given(name=st.sampled_from(NAMES.split()), args=st.lists(st.sampled_from(ARGUMENTS), max_size=3))
def test_nothing_that_comes_in_breaks_a_707b(name: str, args: list[str]) -> None:
    talk = Talk(Keithley707B)
    talk.say(f"channel.{name}({','.join(args)})")
    assert -310 not in talk.errors()
    assert talk.ask("print(localnode.model)") == "707B"


@settings(max_examples=100)
@given(
    header=st.sampled_from(HEADERS.split()),
    args=st.lists(st.sampled_from(["(@1101)", "(@1101:1804)", "(@)", "1", "ALL", "x", "'CLOS (@1)'", "9"]), max_size=3),
)
def test_nothing_that_comes_in_breaks_a_34980a(header: str, args: list[str]) -> None:
    talk = Talk(Keysight34980A, slots=(1, 2))
    talk.instrument.receive(f"ROUT:{header} {','.join(args)}\n".encode())
    talk.instrument.take()
    assert -310 not in talk.errors()
    assert talk.ask("*IDN?").startswith("Agilent")


# ------------------------------------------------------------------ the chip


def test_a_relay_that_switches_hot_hurts_what_is_behind_it() -> None:
    def bench() -> Talk:
        talk = Talk(Keithley707B, World(chip_of("idealized")), slots=(1,))
        through_matrix(talk.world, WIRING, {"smu": (1, 2), "pulse": (1, 2)})
        talk.say('channel.close("1C01,1E05")')  # generator on word line 1, ground on bit line 1
        talk.world.terminal("pulse.1").drive(0.0)
        return talk

    cold = bench()
    cold.say('channel.open("1C01")', 'channel.close("1C01")')
    assert cold.world.mishaps == cold.world.ledger == ()
    hot = bench()
    hot.world.terminal("pulse.1").drive(1.0)
    hot.say('channel.open("1C01")')
    assert "relay opened" in hot.world.mishaps[0].what
    assert hot.world.ledger
    before = len(hot.world.ledger)
    hot.say('channel.close("1C01")')
    hot.world.run_for(1e-3)
    assert len(hot.world.ledger) > before
    assert hot.world.damage, "1 V for more than the device can bear"
