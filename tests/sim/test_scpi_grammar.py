"""The SCPI engine against the grammar of the standard, lines that real clients send, and bytes that nobody sends."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.sim_instruments.engine import grammar
from neurobench.sim_instruments.engine.scpi import (
    Boolean,
    Call,
    Number,
    ScpiError,
    ScpiInstrument,
    Setting,
    Text,
    Words,
    block,
    scpi,
)
from quiet_world import SECTION, QuietWorld


@dataclass
class Channel:
    level_v: float = 0.0
    most_v: float = 5.0
    moves: int = 0

    def moved(self) -> None:
        self.moves += 1


class Toy(ScpiInstrument):
    MODEL, IDN, ROLE = "toy", "ACME,Toy,{serial},1.0", "pulse"
    SETTINGS = (
        Setting(
            "[:SOURce#]:VOLTage[:LEVel][:IMMediate]",
            "level_v",
            Number("V|VPP", low=-5, high="most_v", default=1.5),
            part="channels",
            changed="moved",
        ),
        Setting("[:SOURce]:CURRent", "current_a", Number("A", low=0, high=1, form=".3E")),
        Setting("OUTPut#2:LOAD", "load_ohm", Number("OHM", low=1, high=1e4, default=50, infinite=True)),
        Setting("BURSt:NCYCles", "cycles", Number(low=1, high=1e8, default=1, integer=True, form=".0f")),
        Setting("FUNCtion[:SHAPe]", "function", Words("SINusoid", "PULSe", "CURRent[:DC]")),
        Setting("OUTPut[:STATe]", "output", Boolean()),
        Setting("DISPlay:TEXT", "shown", Text(longest=20), kept=True),
    )

    def build(self) -> None:
        self.channels = [Channel(), Channel()]
        self.data = b""
        self.got: list[Call] = []

    @scpi("TRACe:DATA")
    def trace(self, call: Call) -> bytes:
        if not call.query:
            self.data = call.block()
        return block(self.data)

    @scpi("ROUTe:CLOSe")
    def close(self, call: Call) -> str:
        return ",".join(map(str, call.channels(0)))

    @scpi("MEASure:{VOLTage|CURRent}#?", params=2)
    def measure(self, call: Call) -> str:
        self.got.append(call)
        return f"{call.choices[0]}{call.suffixes[0]}"

    @scpi("INITiate[:IMMediate]", params=0, event=True)
    def initiate(self) -> None:
        self.got.append(Call("INIT", False))

    @scpi("BREAK")
    def broken(self, call: Call) -> str:
        raise KeyError(call.header)


def toy() -> Toy:
    made: Any = Toy(QuietWorld(), "pulse", "NBSIM001", SECTION)  # type: ignore[arg-type]
    made.status.esr = 0
    return made  # type: ignore[no-any-return]


def say(instrument: Any, line: str | bytes) -> str | None:
    """Send one message; the answer without its end of line."""
    instrument.receive(line.encode("latin-1") + b"\n" if isinstance(line, str) else line)
    answer = instrument.take()
    if answer is None:
        return None
    assert answer.endswith(b"\n")
    return answer[:-1].decode("latin-1")


def codes(instrument: Any) -> list[int]:
    """Take all errors out of the queue."""
    found = [entry.code for entry in instrument.status.errors]
    instrument.status.errors.clear()
    return found


# ---------------------------------------------------------------------------------------------- headers

mnemonics = st.builds(
    lambda short, rest: short + rest,
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=4),
    st.text("abcdefghijklmnopqrstuvwxyz", max_size=5),
)
Nodes = list[tuple[str, bool, bool]]  # mnemonic, optional, numbered
nodes = st.lists(st.tuples(mnemonics, st.booleans(), st.booleans()), min_size=1, max_size=4).map(
    lambda made: [*made[:-1], (made[-1][0], False, made[-1][2])]
)


def written(made: Nodes) -> str:
    parts = [f":{name}{'#' if numbered else ''}" for name, _, numbered in made]
    return "".join(f"[{part}]" if optional else part for part, (_, optional, _) in zip(parts, made, strict=True))


def legal(made: Nodes) -> set[str]:
    """All legal spellings in capitals without numbers, by brute force."""
    choices = []
    for name, optional, _ in made:
        short = "".join(letter for letter in name if letter.isupper())
        choices.append([*([""] if optional else []), f":{short}", f":{name.upper()}"])
    return {"".join(picked) for picked in itertools.product(*choices)}


@given(nodes, st.data())
def test_every_legal_spelling_fits_its_pattern(made: Nodes, data: st.DataObject) -> None:
    header, suffixes = "", []
    for name, optional, numbered in made:
        if optional and data.draw(st.booleans()):
            suffixes += [1] if numbered else []
            continue
        header += ":" + (name.upper() if data.draw(st.booleans()) else re.sub("[a-z]", "", name))
        number = data.draw(st.none() | st.integers(1, 10**8)) if numbered else None
        header += str(number or "")
        suffixes += [number or 1] if numbered else []
    match = grammar.Pattern(written(made)).match(header)
    assert match is not None
    assert list(match.suffixes) == suffixes or _ambiguous(made)


def _ambiguous(made: Nodes) -> bool:
    """Two optional nodes of one name: the number could belong to either."""
    forms = [{re.sub("[a-z]", "", name), name.upper()} for name, _, _ in made]
    return any(a & b for a, b in itertools.combinations(forms, 2))


@given(nodes, st.data())
def test_a_spelling_fits_if_and_only_if_it_is_legal(made: Nodes, data: st.DataObject) -> None:
    allowed = legal(made)
    header = data.draw(st.sampled_from(sorted(allowed)))
    at = data.draw(st.integers(0, len(header)))
    put = data.draw(st.sampled_from(["", "A", "E", "Z", ":"]))
    changed = header[:at] + put + header[at + data.draw(st.integers(0, 2)) :]
    fits = grammar.Pattern(written(made)).match(changed) is not None
    assert fits == (changed in allowed)


LEVELS = [
    f"{source}:{volt}{level}{immediate}"
    for source in ("", ":SOUR", ":SOURCE")
    for volt in ("VOLT", "VOLTAGE")
    for level in ("", ":LEV", ":LEVEL")
    for immediate in ("", ":IMM", ":IMMEDIATE")
]


@given(st.sampled_from(LEVELS), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_every_spelling_of_a_header_reaches_its_setting(header: str, bare: bool, second: bool, rng: Any) -> None:
    instrument = toy()
    number = "2" if second and "SOUR" in header else ""
    header = re.sub(r":(SOURCE|SOUR)(?=:)", rf":\g<1>{number}", header)
    typed = "".join(rng.choice((letter.lower(), letter)) for letter in header)
    say(instrument, f"{typed[1:] if bare else typed} 0.25")
    assert instrument.channels[1 if number else 0].level_v == 0.25
    assert instrument.channels[0 if number else 1].level_v == 1.5
    assert codes(instrument) == []


@given(st.lists(st.text("abcdefgVOLTSUR12", min_size=1, max_size=8), min_size=1, max_size=3), st.booleans())
def test_any_other_header_is_undefined(words: list[str], query: bool) -> None:
    header = ":" + ":".join(words).upper()
    instrument = toy()
    if re.fullmatch(r"(:SOUR(CE)?[0-9]*)?:VOLT(AGE)?(:LEV(EL)?)?", header) or not all(w[0].isalpha() for w in words):
        return
    say(instrument, header + ("?" if query else " 0.25"))
    assert codes(instrument) == [-113]
    assert all(channel.moves == 0 for channel in instrument.channels)


@pytest.mark.parametrize("header", ["VOLTA", "VOL", "SOURC:VOLT", "VOLT:LEVE", "VOLT:IMM:LEV", "SOUR", "VOLT2", "*IDM"])
def test_neither_short_nor_long_is_undefined(header: str) -> None:
    instrument = toy()
    assert say(instrument, f"{header} 1") is None
    assert codes(instrument) == [-113]


@pytest.mark.parametrize("header", ["SOUR0:VOLT", "SOUR3:VOLT", "OUTP3:LOAD", "SOUR99999999999:VOLT", "MEAS:CURR0?"])
def test_a_suffix_out_of_range(header: str) -> None:
    instrument = toy()
    say(instrument, f"{header} 1")
    assert codes(instrument) == [-114]


def test_alternatives_tell_which_one_it_was() -> None:
    instrument = toy()
    assert say(instrument, "meas:current2?") == "CURR2"
    assert say(instrument, ":MEASURE:VOLT? (@1),5") == "VOLT1"
    assert instrument.got[1].args == ("(@1)", "5")


def test_queries_of_events_and_setting_of_queries_are_undefined() -> None:
    instrument = toy()
    for line in ("INIT?", "MEAS:VOLT 1", "*IDN", "*RST?"):
        assert say(instrument, line) is None
        assert codes(instrument) == [-113]


# ---------------------------------------------------------------------------------------------- messages


def test_the_header_path_is_kept_and_a_colon_leaves_it() -> None:
    instrument = toy()
    assert say(instrument, "SOUR:VOLT 2;CURR 0.5;*CLS;VOLT?;:SOUR2:VOLT?;VOLT 3;:VOLT:LEV?;IMM?") == (
        "+2.00000000000000E+00;+1.50000000000000E+00;+2.00000000000000E+00;+2.00000000000000E+00"
    )
    assert instrument.channels[1].level_v == 3.0
    assert instrument.current_a == 0.5
    assert codes(instrument) == []
    say(instrument, "DISP:TEXT 'a';FUNC PULS")
    assert codes(instrument) == [-113]  # :DISP:FUNC


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("*RST;:stat:pres;:*CLS;", None),  # as PyMeasure resets a 2450
        ("SOUR1:FUNC PULS", None),
        ("source:voltage 0.2", None),
        ("*TRG;*WAI", None),
        (" \t*IDN? ", "ACME,Toy,NBSIM001,1.0"),
        ("*idn?\r", "ACME,Toy,NBSIM001,1.0"),
        (";;*OPC?;;", "1"),
        ("SYSTem:ERRor?", '+0,"No error"'),
        ("SYST:ERR:NEXT?;COUN?;:SYST:VERS?", '+0,"No error";0;1999.0'),
        ("", None),
        ("\r", None),
    ],
)
def test_lines_of_real_clients(line: str, answer: str | None) -> None:
    class Client(Toy):
        SETTINGS = (Setting("SOURce#:FUNCtion", "other", Words("SINusoid", "PULSe")),)

        def triggered(self) -> None:
            pass

    instrument: Any = Client(QuietWorld(), "pulse", "NBSIM001", SECTION)  # type: ignore[arg-type]
    assert say(instrument, line) == answer
    assert codes(instrument) == []


def test_several_lines_in_one_write_and_bytes_in_pieces() -> None:
    instrument = toy()
    instrument.receive(b"VOLT 2\nFUNC PULS\r\nVO")
    instrument.receive(b"LT?\n")
    assert instrument.take() == b"+2.00000000000000E+00\n"
    assert instrument.take() is None
    assert instrument.function == "PULS"


@given(st.lists(st.integers(0, 60), max_size=8))
def test_where_a_message_is_cut_changes_nothing(cuts: list[int]) -> None:
    message = b"DISP:TEXT 'a#14;\"';TEXT?;:TRAC:DATA #16a\nb;'c;DATA?;:VOLT 1 V\n*IDN?\n"
    instrument = toy()
    instrument.streaming = True
    places = [0, *sorted(cuts), len(message)]
    for start, end in itertools.pairwise(places):
        instrument.receive(message[start:end])
    assert instrument.take() == b'"a#14;""";#16a\nb;\'c\n'
    assert instrument.take() == b"ACME,Toy,NBSIM001,1.0\n"
    assert codes(instrument) == []


def test_a_command_error_drops_the_rest_of_its_message_and_no_other_error_does() -> None:
    instrument = toy()
    assert say(instrument, "VOLT 9;:FUNC PULS;:VOLT?") == "+1.50000000000000E+00"
    assert (codes(instrument), instrument.function) == ([-222], "PULS")
    assert say(instrument, "VOLT?;FOO;:VOLT 2") == "+1.50000000000000E+00"
    assert (codes(instrument), instrument.channels[0].level_v) == ([-113], 1.5)


def test_a_fault_in_an_instrument_is_an_error_and_no_exception() -> None:
    instrument = toy()
    assert say(instrument, "BREAK;*IDN?") == "ACME,Toy,NBSIM001,1.0"
    assert say(instrument, "SYST:ERR?") == "-310,\"System error; KeyError: ':BREAK'\""


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("VOLT", -109),
        ("VOLT 1,2", -108),
        ("*RST 1", -108),
        ("FUNC? 1", -108),
        ("VOLT 'a'", -104),
        ("VOLT abc", -104),
        ("VOLT 1..2", -121),
        ("VOLT 1e999", -222),
        ("VOLT INF", -222),
        ("VOLT? 3", -224),
        ("CURR 2 V", -131),
        ("BURS:NCYC 2 S", -138),
        ("FUNC TRI", -224),
        ("FUNC PUL", -224),
        ("OUTP maybe", -104),
        ("DISP:TEXT hello", -104),
        ("DISP:TEXT 'hello", -151),
        ("DISP:TEXT 'he'l'lo'", -151),
        ("DISP:TEXT '123456789012345678901'", -223),
        ("TRAC:DATA 5", -104),
        ("TRAC:DATA #12abc", -161),
        ("TRAC:DATA #1x", -161),
        ("ROUT:CLOS 5", -104),
        ("ROUT:CLOS (5)", -171),
        ("ROUT:CLOS (@5", -171),
        ("ROUT:CLOS (@1,)", -171),
        ("ROUT:CLOS (@1:999999999)", -171),
        ("VOLT'1'", -111),
        ("VOLT,1", -102),
        ("::VOLT 1", -102),
        ("?", -102),
        ("5", -102),
        ("VOLT 1\xe9", -101),
        ("\xb5VOLT 1", -101),
        ("VOLT\xe9 1", -101),
        ("DISP:TEXT '\xb5'", -101),
    ],
)
def test_each_mistake_has_its_number(line: str, code: int) -> None:
    instrument = toy()
    assert say(instrument, line.encode("latin-1") + b"\n" if "#" not in line else line) is None
    assert codes(instrument) == [code]


# ---------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("1", "V", 1.0),
        ("+.5", "V", 0.5),
        ("-2.", "V", -2.0),
        ("1E-3", "V", 1e-3),
        ("1 e +3", "V", 1e3),
        ("200MV", "V", 0.2),
        ("5 uv", "V", 5e-6),
        ("1.2VPP", "V|VPP", 1.2),
        ("5 MA", "A", 5e-3),
        ("5UA", "A", 5e-6),
        ("5NA", "A", 5e-9),
        ("2A", "A", 2.0),
        ("1MAA", "A", 1e6),
        ("1US", "S", 1e-6),
        ("1NS", "S", 1e-9),
        ("1MS", "S", 1e-3),
        ("1S", "S", 1.0),
        ("1MHZ", "HZ", 1e6),
        ("1 kHz", "HZ", 1e3),
        ("1HZ", "HZ", 1.0),
        ("1MOHM", "OHM", 1e6),
        ("50 OHM", "OHM", 50.0),
        ("1KOHM", "OHM", 1e3),
        ("#H1f", "", 31.0),
        ("#Q17", "", 15.0),
        ("#B101", "", 5.0),
        ("INF", "", float("inf")),
        ("ninf", "", float("-inf")),
        ("9.9E37", "", float("inf")),
    ],
)
def test_numbers_and_their_suffixes(text: str, unit: str, value: float) -> None:
    assert grammar.number(text, unit) == pytest.approx(value, rel=1e-15)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-9e37, max_value=9e37))
def test_any_number_that_can_be_written_is_read_back(value: float) -> None:
    assert grammar.number(repr(value)) == value
    assert grammar.number(f"{value:+.17E}") == value


def test_settings_answer_in_the_short_form_and_know_their_bounds() -> None:
    instrument = toy()
    instrument.channels[1].most_v = 4.0
    assert say(instrument, "FUNCtion pulse;FUNC?;:OUTP ON;:OUTPut?;:OUTP 0.4;:OUTP?") == "PULS;1;0"
    assert say(instrument, "FUNC CURR:DC;FUNC?") == "CURR"
    assert say(instrument, "SOUR2:VOLT MAX;VOLT?;VOLT? MIN;VOLT? DEF") == (
        "+4.00000000000000E+00;-5.00000000000000E+00;+1.50000000000000E+00"
    )
    assert say(instrument, "CURR 20 MA;CURR?") == "2.000E-02"
    assert say(instrument, "OUTP1:LOAD INF;LOAD?;LOAD 50;LOAD?;LOAD? MAX") == (
        "+9.90000000000000E+37;+5.00000000000000E+01;+1.00000000000000E+04"
    )
    assert say(instrument, "BURS:NCYC 2.6;NCYC?") == "3"
    assert codes(instrument) == []


def test_reset_gives_defaults_and_a_power_cycle_also_what_reset_keeps() -> None:
    instrument = toy()
    assert say(instrument, "DISP:TEXT?") == '""'
    say(instrument, "VOLT 2;:FUNC PULS;:DISP:TEXT 'kept'")
    say(instrument, "*RST")
    assert (instrument.channels[0].level_v, instrument.function, instrument.shown) == (1.5, "SIN", "kept")
    instrument.power_cycle()
    assert instrument.shown == ""


def test_strings_with_either_quote_and_separators_inside() -> None:
    instrument = toy()
    assert say(instrument, "DISP:TEXT \"a;b,'c'\";TEXT?") == "\"a;b,'c'\""
    assert say(instrument, "DISP:TEXT 'it''s \"x\"';TEXT?") == '"it\'s ""x"""'
    assert instrument.shown == 'it\'s "x"'


@given(st.binary(max_size=300), st.booleans())
def test_blocks_carry_any_bytes(data: bytes, more: bool) -> None:
    instrument = toy()
    instrument.receive(b"TRAC:DATA " + block(data) + (b";DATA?;:FUNC?\n" if more else b"\n"))
    assert instrument.data == data
    if more:
        assert instrument.take() == block(data) + b";SIN\n"
    assert codes(instrument) == []


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("(@1)", [1]),
        ("(@1203,1204)", [1203, 1204]),
        ("(@1101:1104)", [1101, 1102, 1103, 1104]),
        ("( @3:1 , 7 )", [3, 2, 1, 7]),
    ],
)
def test_channel_lists(text: str, channels: list[int]) -> None:
    assert grammar.channel_list(text) == channels


def test_a_range_of_channels_skips_what_is_not_there_but_its_ends_must_be() -> None:
    there = {101, 102, 201, 202}
    assert grammar.channel_list("(@102:201)", there) == [102, 201]
    with pytest.raises(ScpiError) as refused:
        grammar.channel_list("(@101:203)", there)
    assert refused.value.code == -224


# ---------------------------------------------------------------------------------------------- bytes that nobody sends

PIECES = b"VOLT ? ; : *IDN? *CLS ' ( ) @1 # #1 #15 #0 , 1e MAX TRAC:DATA ROUT:CLOS MV *OPC? SOUR2 9999999999".split()
pieces = st.sampled_from([*PIECES, b" ", b'"', b"\n", b"\r\n", b"\xff", b"\x00"])


@given(st.lists(st.binary(max_size=40) | st.lists(pieces, max_size=12).map(b"".join), max_size=6), st.booleans())
def test_nothing_that_comes_in_raises_or_finds_a_fault(messages: list[bytes], stream: bool) -> None:
    instrument = toy()
    instrument.streaming = stream
    for message in messages:
        instrument.receive(message)
        instrument.receive(b"\n")
    assert -310 not in codes(instrument)
    while (answer := instrument.take()) is not None:
        assert answer.endswith(b"\n")
    instrument.clear()
    assert say(instrument, "*IDN?") == "ACME,Toy,NBSIM001,1.0"


def test_a_message_without_end_is_an_overrun_and_the_next_one_is_understood() -> None:
    instrument = toy()
    for _ in range(5):
        instrument.receive(b"VOLT " + b"1" * 300_000)
    assert codes(instrument) == [-363]
    instrument.receive(b"11\n")
    assert say(instrument, "*IDN?") == "ACME,Toy,NBSIM001,1.0"
    assert codes(instrument) == []
