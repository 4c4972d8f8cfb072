"""The TSP engine: lines that real clients send, the rules of the language, and lines that nobody sends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.sim_instruments.engine.chunks import parse
from neurobench.sim_instruments.engine.tsp import (
    Attribute,
    Computed,
    Constant,
    Method,
    Node,
    OneOf,
    Real,
    ScpiError,
    String,
    TspInstrument,
    Value,
)
from quiet_world import SECTION, QuietWorld


class Smu:
    level_v: float
    output: float
    label: str

    def __init__(self) -> None:
        self.moves = 0
        self.readings: list[float] = []
        self.nplc = 1.0

    def moved(self) -> None:
        self.moves += 1

    def measure_i(self, buffer: Node | None = None) -> float:
        current_a = self.level_v * 1e-5
        if buffer is not None:
            self.readings.append(current_a)
        return current_a

    def measure_iv(self) -> tuple[float, float]:
        return self.level_v * 1e-5, self.level_v

    def condition(self) -> float:
        return float(len(self.readings))

    def set_nplc(self, value: Value) -> None:
        self.nplc = Real(0.001, 25).check(value)

    @property
    def count(self) -> int:
        return len(self.readings)


class Toy(TspInstrument):
    MODEL, ROLE = "toy", "smu"
    IDN = "Keithley Instruments Inc., Model 2602B, {serial}, 3.3.5"

    def build(self) -> None:
        self.smu = Smu()
        buffer = Node("nvbuffer1", self.smu, (Computed("n", "count"),), series=lambda: self.smu.readings)
        buffer.add(Method("clear", lambda: self.smu.readings.clear()))
        rows = (
            Attribute("source.levelv", "level_v", Real(-40, 40), changed="moved"),
            Attribute("source.output", "output", OneOf(0, 1)),
            Attribute("label", "label", String("none")),
            Computed("measure.nplc", lambda: self.smu.nplc, store="set_nplc"),
            Method("measure.i", "measure_i"),
            Method("measure.iv", "measure_iv"),
            Constant("nvbuffer1", buffer),
            Constant("OUTPUT_ON", 1),
        )
        self.tree.add(Node("smua", self.smu, rows))
        self.tree.add(Computed("status.measurement.instrument.smua.condition", self.smu.condition))
        self.tree.add(Node("slot", index=self.slot))
        self.tree.add(Method("ConfigPulseVMeasureI", self.config))
        self.tree.add(Method("WorkFor", self.work))
        self.tree.add(Method("broken", lambda: {}["no"]))
        self.lists: list[list[float]] = []
        self.tree.add(Method("listv", self.take_list))

    def slot(self, n: int) -> Value:
        return Node(f"slot[{n}]", rows=(Constant("idn", "7174A,8x12 matrix,01.00a,123"),)) if n == 1 else None

    def config(
        self, smu: Node, bias: float, level: float, limit: float, ton: float, toff: float, points: int, buffer: Node,
        tag: int,
    ) -> tuple[bool, str]:  # fmt: skip
        return bias <= level, f"{smu.name} {points} {buffer.name} {tag}"

    def work(self, seconds: float) -> None:
        self.begin(self.world.now_ps + round(seconds * 1e12))
        self.world.at(seconds, self.end)

    def take_list(self, values: list[float]) -> None:
        self.lists.append(values)


def toy() -> Any:
    made: Any = Toy(QuietWorld(), "smu", "NBSIM002", SECTION)  # type: ignore[arg-type]
    return made


def say(instrument: Any, line: str | bytes) -> list[str]:
    """Send one line; all that was printed."""
    instrument.receive((line.encode("latin-1") if isinstance(line, str) else line) + b"\n")
    lines: list[str] = []
    while (answer := instrument.take()) is not None:
        assert answer.endswith(b"\n")
        lines.append(answer[:-1].decode())
    return lines


def codes(instrument: Any) -> list[int]:
    found = [entry.code for entry in instrument.status.errors]
    instrument.status.errors.clear()
    return found


# ---------------------------------------------------------------------------------------------- what clients send


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("*IDN?", ["Keithley Instruments Inc., Model 2602B, NBSIM002, 3.3.5"]),
        ("print(localnode.model)", ["2602B"]),
        ("print(localnode.serialno, localnode.revision)", ["NBSIM002\t3.3.5"]),
        ("print(errorqueue.count)", ["0.00000e+00"]),
        ("print(errorqueue.next())", ["0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00"]),
        ("smua.source.levelv=0.200000 print(smua.measure.i())", ["2.00000e-06"]),
        (
            "smua.source.levelv = 0.2; print(smua.measure.i(), status.measurement.instrument.smua.condition)",
            ["2.00000e-06\t0.00000e+00"],
        ),
        ("print(smua.measure.i(smua.nvbuffer1), status.measurement.instrument.smua.condition)",
         ["0.00000e+00\t1.00000e+00"]),
        ("f1,msg1 = ConfigPulseVMeasureI(smua, 0, 1, 1e-3, 1e-4, 1e-3, 16, smua.nvbuffer1, 1) print(f1, msg1)",
         ["true\tsmua 16 nvbuffer1 1"]),
        ("print(slot[1].idn)", ["7174A,8x12 matrix,01.00a,123"]),
        ("print(slot[2])", ["nil"]),
        ("smua.source.output=smua.OUTPUT_ON print(smua.source.output)", ["1.00000e+00"]),
        ("smua.measure.nplc=0.01 print(smua.measure.nplc)", ["1.00000e-02"]),
        ("print(smua.measure.iv())", ["0.00000e+00\t0.00000e+00"]),
        ("print(smua.measure.iv(), 1)", ["0.00000e+00\t1.00000e+00"]),
        ("opc() waitcomplete() print(1)", ["1.00000e+00"]),
        ("*ESE 1;*ESE?;*STB?", ["1;0"]),
        ("print(smua.measure.i", []),
    ],
)  # fmt: skip
def test_lines_of_real_clients(line: str, printed: list[str]) -> None:
    instrument = toy()
    assert say(instrument, line) == printed
    assert codes(instrument) == ([] if printed else [-285])


def test_buffers_are_values_with_an_index_a_count_and_a_print() -> None:
    instrument = toy()
    for level in (0.1, 0.2, 0.3):
        say(instrument, f"smua.source.levelv={level} smua.measure.i(smua.nvbuffer1)")
    assert say(instrument, "b = smua.nvbuffer1 print(b[2], b.n, b[4], smua.nvbuffer1[0])") == [
        "2.00000e-06\t3.00000e+00\tnil\tnil"
    ]
    assert say(instrument, "printbuffer(1, smua.nvbuffer1.n, smua.nvbuffer1)") == [
        "1.00000e-06, 2.00000e-06, 3.00000e-06"
    ]
    assert say(instrument, "printbuffer(2, 99, b, b)") == ["2.00000e-06, 2.00000e-06, 3.00000e-06, 3.00000e-06"]
    assert say(instrument, "b.clear() print(b.n)") == ["0.00000e+00"]
    assert codes(instrument) == []
    for line in ("printbuffer(0, 1, b)", "printbuffer(1, 2, smua)"):
        assert say(instrument, line) == []
        assert codes(instrument) == [-222]


def test_precision_of_what_is_printed() -> None:
    instrument = toy()
    assert say(instrument, "print(1e-6/3, -2, 1e300, 9.91e37)") == [
        "3.33333e-07\t-2.00000e+00\t1.00000e+300\t9.91000e+37"
    ]
    assert say(instrument, "format.asciiprecision=16 printnumber(0.1, 2)") == [
        "1.000000000000000e-01, 2.000000000000000e+00"
    ]
    assert say(instrument, "reset() print(0.1)") == ["1.00000e-01"]
    say(instrument, "format.asciiprecision=17")
    assert codes(instrument) == [-222]


def test_printed_lines_queue_up_and_a_new_line_takes_none_away() -> None:
    instrument = toy()
    instrument.receive(b"print(1) print('b')\r\nprint(nil)\n")
    assert [instrument.take() for _ in range(4)] == [b"1.00000e+00\n", b"b\n", b"nil\n", None]
    assert codes(instrument) == []


# ---------------------------------------------------------------------------------------------- the language


@pytest.mark.parametrize(
    ("chunk", "printed"),
    [
        ("print(1 + 2*3 - 4/2, -2*-3, (1+2)*3)", "5.00000e+00\t6.00000e+00\t9.00000e+00"),
        ("print(10-3-2, 0x1F, .5, 2., - - 3)", "5.00000e+00\t3.10000e+01\t5.00000e-01\t2.00000e+00\t3.00000e+00"),
        ("print('a'..\"b\"..1 ..2.5, 'it\\'s\\ttab')", "ab12.5\tit's\ttab"),
        ("print(1 == 1, 1 ~= 1, 1 < 2, 'a' <= 'b', 2 > 3, 2 >= 2)", "true\tfalse\ttrue\ttrue\tfalse\ttrue"),
        ("print(nil == false, 1 == '1', true == 1, not nil, not 0)", "false\tfalse\tfalse\ttrue\tfalse"),
        ("print(1/0, -1/0)", "inf\t-inf"),
        ("a, b, c = 1, 2 print(a, b, c)", "1.00000e+00\t2.00000e+00\tnil"),
        ("a, b = smua.measure.iv() print(a == b, (smua.measure.iv()))", "true\t0.00000e+00"),
        ("t = {1, 'two', {3},} print(t[1], t[2], t[3][1], t[4])", "1.00000e+00\ttwo\t3.00000e+00\tnil"),
        ("x = 1 x = x + 1 x = x + 1 print(x)", "3.00000e+00"),
        ("if 1 == 1 then print('yes') else print('no') end", "yes"),
        ("if undefined then print('yes') else if true then print('inner') end end", "inner"),
        ("local q = 5 q = q + 1 print(q) -- a remark", "6.00000e+00"),
        ("print(undefined, smua.undefined)", "nil\tnil"),
        ("print(smua, smua.measure.i)", "table: smua\tfunction: measure.i"),
        ("print(smua['source'].levelv)", "0.00000e+00"),
        ("print()", ""),
    ],
)
def test_expressions_and_statements(chunk: str, printed: str) -> None:
    instrument = toy()
    assert say(instrument, chunk) == [printed]
    assert codes(instrument) == []


def test_a_local_is_gone_and_a_global_stays_until_the_power_goes() -> None:
    instrument = toy()
    say(instrument, "local q = 1 nb_shot = 7 smua.label = 'mine'")
    say(instrument, "*RST")
    assert say(instrument, "print(q, nb_shot, smua.label)") == ["nil\t7.00000e+00\tnone"]
    instrument.power_cycle()
    assert say(instrument, "print(nb_shot)") == ["nil"]


@pytest.mark.parametrize(
    "tail",
    ["print(", "x = ", "for i = 1 do end", "function f() end", "x", "'open", "1", "a.b() = 2", "x = = 2",
     "print(1) )", "x = #t", "\xb5 = 1", "x = 'a\xb5'", "while true end", "break", "x = 1 2", "end", "a, b()", "x = }",
     "print(1,)", "x = {,}"],
)  # fmt: skip
def test_a_chunk_that_does_not_parse_does_nothing_at_all(tail: str) -> None:
    instrument = toy()
    assert say(instrument, f"smua.source.levelv = 1 print(1) nb_shot = 1; {tail}") == []
    assert (instrument.smu.level_v, instrument.users) == (0.0, {})
    assert codes(instrument) == [-285]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("undefined()", -286),
        ("smua.undefined()", -286),
        ("undefined.x = 1", -286),
        ("x = undefined.y", -286),
        ("smua.undefined = 1", -286),
        ("smua.nvbuffer1.n = 1", -286),
        ("smua = 1", -286),
        ("slot[1] = 1", -286),
        ("x = 'a' + 1", -286),
        ("x = nil .. 'a'", -286),
        ("x = 1 < 'a'", -286),
        ("smua.source.levelv = 41", -222),
        ("smua.source.levelv = 0/0", -222),
        ("smua.source.levelv = '1'", -104),
        ("smua.source.output = 2", -224),
        ("smua.source.output = true", -104),
        ("smua.label = 1", -104),
        ("smua.measure.nplc = 26", -222),
        ("smua.measure.i(1)", -104),
        ("smua.measure.i(nil, 1)", -108),
        ("delay()", -109),
        ("delay(-1)", -222),
        ("listv({1, 'a'})", -104),
        ("listv(1)", -104),
        ("x = slot['y'].z", -286),
        ("x = slot[1.5]", -104),
        ("broken()", -310),
    ],
)
def test_a_chunk_that_fails_stops_there(statement: str, code: int) -> None:
    instrument = toy()
    assert say(instrument, f"print('before') {statement} print('after')") == ["before"]
    assert codes(instrument) == [code]
    assert say(instrument, "print('alive')") == ["alive"]


def test_settings_are_checked_kept_and_reset() -> None:
    instrument = toy()
    say(instrument, "smua.source.levelv=1 smua.source.output=1 smua.label='x'")
    assert (instrument.smu.level_v, instrument.smu.output, instrument.smu.label, instrument.smu.moves) == (1, 1, "x", 1)
    say(instrument, "smua.source.levelv=41")
    assert (instrument.smu.level_v, instrument.smu.moves) == (1, 1)
    say(instrument, "reset()")
    assert (instrument.smu.level_v, instrument.smu.output, instrument.smu.label) == (0, 0, "none")


def test_lists_reach_functions() -> None:
    instrument = toy()
    say(instrument, "listv({" + ", ".join(f"{k}e-3" for k in range(2000)) + "}) listv({})")
    assert instrument.lists == [pytest.approx([k * 1e-3 for k in range(2000)]), []]
    assert codes(instrument) == []


def test_errors_are_told_with_code_words_severity_and_node() -> None:
    instrument = toy()
    say(instrument, "nonsense(")
    say(instrument, "undefined()")
    assert say(instrument, "print(errorqueue.count)") == ["2.00000e+00"]
    code, words, severity, node = say(instrument, "print(errorqueue.next())")[0].split("\t")
    assert (float(code), float(severity), float(node)) == (-285, 20, 1)
    assert words.startswith("TSP Syntax error at line 1:")
    assert say(instrument, "errorqueue.clear() print(errorqueue.count)") == ["0.00000e+00"]


def test_common_commands_and_status_are_the_same_registers() -> None:
    instrument = toy()
    assert say(instrument, "*ESR?") == ["128"]
    assert say(instrument, "*CLS;*ESE 1") == []
    assert say(instrument, "opc() print(status.condition, status.standard.enable)") == ["3.20000e+01\t1.00000e+00"]
    assert say(instrument, "*STB?") == ["32"]
    assert say(instrument, "print(status.standard.event, status.standard.event)") == ["1.00000e+00\t0.00000e+00"]
    assert say(instrument, "print(1) print(status.condition)")[1] == "1.60000e+01", (
        "an unread line is a message available"
    )
    assert say(instrument, "status.request_enable = 255 print(status.request_enable)") == ["1.91000e+02"]
    say(instrument, "status.reset()")
    assert say(instrument, "*ESE?;*SRE?") == ["0;0"]
    assert codes(instrument) == []
    say(instrument, "*FOO")
    assert codes(instrument) == [-113]


# ---------------------------------------------------------------------------------------------- time


def test_delay_lets_time_pass_and_waitcomplete_waits_for_what_goes_on() -> None:
    instrument = toy()
    say(instrument, "delay(0.25)")
    assert instrument.world.now_s() == 0.25
    assert say(instrument, "WorkFor(1) print('begun') waitcomplete() print('done')") == ["begun", "done"]
    assert instrument.world.now_s() == 1.25
    assert say(instrument, "*CLS") == []
    assert say(instrument, "WorkFor(1) opc() print(status.standard.event)") == ["0.00000e+00"]
    assert say(instrument, "*OPC?;*ESR?") == ["1;1"]
    assert instrument.world.now_s() == 2.25


def test_a_chunk_that_waits_for_ever_is_freed_by_a_device_clear() -> None:
    instrument = toy()
    instrument.begin()
    assert say(instrument, "print(1) waitcomplete() print(2) nb_x = 1") == ["1.00000e+00"]
    assert say(instrument, "print(3)") == []
    instrument.clear()
    instrument.end()
    assert say(instrument, "print(nb_x)") == ["nil"]


# ---------------------------------------------------------------------------------------------- lines that nobody sends

WORDS = b"""smua . source levelv = 1 ( ) print , x [ ] { } ' " .. - not if then else end local nil true == < errorqueue
    next nvbuffer1 printbuffer smua.measure.iv() x=x..x x='a' delay(1) waitcomplete() *RST ; 1e999 status if(1)then"""
words = st.sampled_from([*WORDS.split(), b"\\"])


@given(st.lists(st.binary(max_size=40) | st.lists(words, max_size=12).map(b" ".join), max_size=6))
def test_nothing_that_comes_in_raises_or_finds_a_fault(lines: list[bytes]) -> None:
    instrument = toy()
    for line in lines:
        say(instrument, line.replace(b"\n", b" "))
    assert -310 not in codes(instrument)
    assert say(instrument, "print('alive')") == ["alive"]


@pytest.mark.parametrize(
    "chunk",
    ["x = " + "(" * 10_000, "x = " + "{" * 10_000, "x = " + "f(" * 10_000, "x = " + "- " * 10_000 + "1",
     "x = " + "1 + " * 10_000 + "1", "x = smua" + ".a" * 1, "x = a" + "[1" * 10_000, "if true then " * 10_000],
)  # fmt: skip
def test_depth_costs_no_stack(chunk: str) -> None:
    instrument = toy()
    say(instrument, chunk)
    assert set(codes(instrument)) <= {-285}


def test_a_string_cannot_grow_without_end() -> None:
    instrument = toy()
    say(instrument, "x = 'a'")
    for _ in range(40):
        say(instrument, "x = x .. x")
    assert len(instrument.users["x"]) <= 1 << 16
    assert set(codes(instrument)) == {-286, -350}


names = st.from_regex(r"[a-z]{1,6}", fullmatch=True).filter(
    lambda n: n not in ("and", "do", "if", "in", "not", "or", "nil")
)


@given(st.lists(st.tuples(names, st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=5))
def test_any_number_survives_a_global(pairs: list[tuple[str, float]]) -> None:
    instrument = toy()
    known = [(f"nb_{name}", value) for name, value in pairs]
    say(instrument, " ".join(f"{name} = {value!r}" for name, value in known))
    assert codes(instrument) == []
    assert instrument.users == dict(known)


def test_the_parser_says_where_it_stopped() -> None:
    with pytest.raises(ScpiError, match="near `then'"):
        parse("x = then")
