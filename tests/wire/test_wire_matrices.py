"""What the drivers of the matrices say, and that they believe only what they have read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.drivers.instruments._matrix import CardMatrix, packed
from neurobench.drivers.instruments._roles import Crosspoint
from neurobench.drivers.instruments.keithley_707b import Keithley707B
from neurobench.drivers.instruments.keysight_34980a import LAYOUTS, Keysight34980A
from neurobench.drivers.instruments.manual import ManualMatrix
from neurobench.sim_instruments.serve.faults import Fault, FaultPlan
from neurobench.sim_instruments.world.world import World
from recorder import Recorder, link_to, section
from simulated import stand

from neurobench.errors import CapabilityMissing, ConfigError, InstrumentError, LinkLost, UsageError
from neurobench.physics.chip import Chip, draw_devices
from neurobench.physics.library import load_model

Answer = Callable[[str], Any]


def matrix(kind: type[Any], model: str, answer: Answer | None = None, **settings: Any) -> tuple[Any, Recorder]:
    recorder = Recorder(answer=answer or (lambda line: None))
    return kind(link_to(recorder), section(model, **settings)), recorder


def k707(answer: Answer | None = None, **settings: Any) -> tuple[Keithley707B, Recorder]:
    return matrix(Keithley707B, "keithley-707b", answer, **settings)


def k34980(answer: Answer | None = None, **settings: Any) -> tuple[Keysight34980A, Recorder]:
    return matrix(Keysight34980A, "keysight-34980a", answer, **{"slots": (1,), **settings})


def points(*pairs: tuple[int, int]) -> frozenset[Crosspoint]:
    return frozenset(Crosspoint(*pair) for pair in pairs)


# ---------------------------------------------------------------------------------------------- names


@given(st.integers(1, 8), st.integers(1, 72))
def test_707b_names_and_crosspoints_are_one_to_one(row: int, column: int) -> None:
    driver, _ = k707()
    name = driver.name_of(Crosspoint(row, column))
    assert re.fullmatch("[1-6][A-H](0[1-9]|1[0-2])", name)
    assert driver.crosspoint_of(name) == Crosspoint(row, column)


@given(st.sampled_from(sorted(LAYOUTS)), st.data())
def test_34980a_names_and_crosspoints_are_one_to_one(layout: str, data: st.DataObject) -> None:
    driver, _ = k34980(slots=(2, 5), options={"layout": layout})
    row = data.draw(st.integers(1, driver.rows))
    column = data.draw(st.integers(1, driver.columns))
    name = driver.name_of(Crosspoint(row, column))
    assert driver.crosspoint_of(name) == Crosspoint(row, column)


def test_all_names_differ() -> None:
    for driver in (k707()[0], *(k34980(slots=(1, 2), options={"layout": name})[0] for name in LAYOUTS)):
        every = [Crosspoint(r, c) for r in range(1, driver.rows + 1) for c in range(1, driver.columns + 1)]
        assert len({driver.name_of(point) for point in every}) == len(every)


@pytest.mark.parametrize(
    ("layout", "row", "column", "name"),
    [
        ("8x64", 3, 16, "1316"),
        ("4x32", 3, 12, "1512"),
        ("4x64", 3, 20, "1520"),
        ("16x32", 2, 5, "1155"),
        ("8x32", 2, 3, "1203"),
    ],
)
def test_channel_numbers_of_the_guide(layout: str, row: int, column: int, name: str) -> None:
    assert k34980(options={"layout": layout})[0].name_of(Crosspoint(row, column)) == name


def test_columns_are_counted_across_cards_in_the_order_of_their_slots() -> None:
    driver, _ = k707(slots=(5, 2))
    assert (driver.rows, driver.columns) == (8, 24)
    assert [driver.name_of(Crosspoint(1, c)) for c in (1, 12, 13, 24)] == ["5A01", "5A12", "2A01", "2A12"]


@pytest.mark.parametrize("name", ["", "1A13", "1A00", "1I01", "7A01", "3A01", "1a01", "1A1", "11A01", "nil", "1A01 "])
def test_707b_names_what_is_no_channel(name: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        k707(slots=(1, 2))[0].crosspoint_of(name)


@pytest.mark.parametrize("name", ["", "1000", "1100", "1133", "1901", "2101", "9101", "110", "A101"])
def test_34980a_names_what_is_no_channel(name: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        k34980()[0].crosspoint_of(name)


@given(st.integers(-2, 12), st.integers(-2, 100))
def test_a_crosspoint_that_is_not_there_is_refused_without_a_word(row: int, column: int) -> None:
    for driver, recorder in cast("list[tuple[CardMatrix, Recorder]]", [k707(slots=(1, 2)), k34980()]):
        if not (1 <= row <= driver.rows and 1 <= column <= driver.columns):
            with pytest.raises(UsageError, match=f"row {row}, column {column}"):
                driver.route(frozenset({Crosspoint(row, column)}))
            assert recorder.said == []


@pytest.mark.parametrize("slots", [(0,), (7,), (1, 1)])
def test_slots_that_are_not_there(slots: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="slots"):
        k707(slots=slots)


def test_options_that_it_does_not_have() -> None:
    with pytest.raises(ConfigError, match="rule"):
        k707(options={"rule": 1})
    with pytest.raises(ConfigError, match="9x9"):
        k34980(options={"layout": "9x9"})
    assert k707(options={"settle_s": 0.01})[0].settle_s == 0.01


@given(st.frozensets(st.builds(Crosspoint, st.integers(1, 8), st.integers(1, 24)), min_size=1))
def test_runs_name_every_crosspoint_once_and_stay_on_row_and_card(closed: frozenset[Crosspoint]) -> None:
    driver, _ = k707(slots=(1, 2))
    named = []
    for run in driver.runs(closed):
        first, last = (driver.crosspoint_of(name) for name in (run.split(":")[0], run.split(":")[-1]))
        assert first.row == last.row
        assert driver.place(first)[0] == driver.place(last)[0]
        named += [Crosspoint(first.row, column) for column in range(first.column, last.column + 1)]
    assert sorted(named) == sorted(closed)


@given(st.lists(st.text("abc", min_size=1, max_size=9)), st.integers(9, 30))
def test_packed_keeps_order_and_length(parts: list[str], longest: int) -> None:
    messages = packed(parts, longest, ";")
    assert all(len(message) <= longest for message in messages)
    assert ";".join(messages) == ";".join(parts)


# ---------------------------------------------------------------------------------------------- 707B


ROUTE = (
    'channel.open("allslots") nb_opened = channel.getclose("allslots") channel.close("1A03,1E01:1E02,1E04:1E05") '
    'print(nb_opened, channel.getclose("allslots"), errorqueue.count)'
)
PATH = points((1, 3), (5, 1), (5, 2), (5, 4), (5, 5))
CLOSED = "1A03;1E01;1E02;1E04;1E05"


def scripted(*script: tuple[str, Any], **settings: Any) -> tuple[Keithley707B, Recorder]:
    recorder = Recorder(script)
    return Keithley707B(link_to(recorder), section("keithley-707b", **settings)), recorder


OPEN = (
    'channel.open("allslots") nb_opened = channel.getclose("allslots") '
    'print(nb_opened, channel.getclose("allslots"), errorqueue.count)'
)


def test_707b_routes_in_one_exchange() -> None:
    driver, recorder = scripted((ROUTE, f"nil\t{CLOSED}\t0.00000e+00"))
    driver.route(PATH)
    recorder.finished()


def test_707b_opens_all_in_one_exchange() -> None:
    driver, recorder = scripted((OPEN, "nil\tnil\t0.00000e+00"), (OPEN, "nil\tnil\t0.00000e+00"))
    driver.open_all()
    driver.safe()
    recorder.finished()


def test_707b_old_errors_are_taken_out_and_do_not_count() -> None:
    driver, recorder = scripted(
        (ROUTE, f"nil\t{CLOSED}\t1.00000e+00"),
        ("print(errorqueue.next())", "-1.13000e+02\tUndefined header\t2.00000e+01\t1"),
        ("print(errorqueue.next())", "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1"),
    )
    driver.route(PATH)
    recorder.finished()


def test_707b_a_wrong_proof_is_tried_once_more() -> None:
    driver, recorder = scripted((ROUTE, "nil\tnil\t0"), (ROUTE, f"nil\t{CLOSED}\t0"))
    driver.route(PATH)
    recorder.finished()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("nil\t1A03;1E01;1E02;1E04\t0", "found 1A03, 1E01, 1E02, 1E04;"),
        (f"nil\t{CLOSED};1F01\t0", "1E05, 1F01"),
        (f"1B07\t{CLOSED};1B07\t0", "1B07 stayed closed"),
        (f"1B07\t{CLOSED}\t0", "1B07 stayed closed"),
        ("nil\tnil\t0", "found nothing"),
    ],
)
def test_707b_a_proof_that_fails_opens_all_and_names_both(answer: str, words: str) -> None:
    driver, recorder = scripted((ROUTE, answer), (ROUTE, answer), (OPEN, "nil\tnil\t0"))
    with pytest.raises(InstrumentError, match="closed should be 1A03, 1E01, 1E02, 1E04, 1E05") as caught:
        driver.route(PATH)
    assert words in str(caught.value)
    recorder.finished()


@pytest.mark.parametrize(
    "answer", ["nil\tnil", "nil\t1A3\t0", "0\tnil\t0", "nil\t\x7f\t0", "nil\t9A01\t0", "nil\tnil\tx"]
)
def test_707b_nonsense_is_a_lost_answer(answer: str) -> None:
    driver, _ = scripted((OPEN, answer))
    with pytest.raises(LinkLost, match="unintelligible"):
        driver.open_all()


def test_707b_opens_before_it_closes_and_asks_in_between() -> None:
    place = [
        ROUTE.index(word) for word in ("channel.open(", "nb_opened = channel.getclose", "channel.close(", "print(")
    ]
    assert place == sorted(place)


def test_707b_a_long_list_goes_in_several_messages_and_the_proof_in_the_last() -> None:
    every_other = frozenset(Crosspoint(r, c) for r in range(1, 9) for c in range(1, 73, 2))
    names = sorted(k707()[0].name_of(point) for point in every_other)
    driver, recorder = k707(lambda line: f"nil\t{';'.join(names)}\t0" if "print" in line else None)
    driver.route(every_other)
    *first, last = recorder.said
    assert len(first) >= 1
    assert all(len(line) <= 1000 and "print" not in line for line in first)
    assert first[0].startswith('channel.open("allslots") nb_opened =')
    assert "print(nb_opened" in last
    assert len(re.findall("[1-6][A-H][01][0-9]", " ".join(recorder.said))) == len(every_other)


def test_707b_never_resets_or_waits() -> None:
    driver, recorder = scripted((ROUTE, f"nil\t{CLOSED}\t0"), (OPEN, "nil\tnil\t0"))
    driver.route(PATH)
    driver.safe()
    assert not any(word in " ".join(recorder.said) for word in ("reset", "waitcomplete", "clear", "opc"))


# ---------------------------------------------------------------------------------------------- 34980A


ALL = "(@1101:1132,1201:1232,1301:1332,1401:1432,1501:1532,1601:1632,1701:1732,1801:1832)"
NO_ERROR = '+0,"No error"'


def states(*closed: Crosspoint) -> str:
    return ",".join(str(int(Crosspoint(r, c) in closed)) for r in range(1, 9) for c in range(1, 33))


def test_34980a_routes_in_one_exchange_and_lets_the_relays_settle() -> None:
    path = points((1, 3), (5, 1), (5, 2))
    line = f":ROUT:OPEN:ALL;:ROUT:CLOS? {ALL};:ROUT:CLOS (@1103,1501:1502);:ROUT:CLOS? {ALL};:SYST:ERR?"
    driver, recorder = k34980(lambda said: f"{states()};{states(*path)};{NO_ERROR}")
    driver.route(path)
    assert recorder.said == [line]
    assert recorder.clock.time_s == pytest.approx(driver.settle_s)


def test_34980a_two_modules_are_asked_each() -> None:
    second = states(Crosspoint(2, 3))
    driver, recorder = k34980(lambda said: f"{states()};{states()};{states()};{second};{NO_ERROR}", slots=(1, 4))
    driver.route(points((2, 35)))
    assert ":ROUT:CLOS (@4203);" in recorder.said[0]
    assert recorder.said[0].count("?") == 5


def test_34980a_a_long_dialogue_is_cut_into_messages() -> None:
    def answer(line: str) -> str | None:
        asked = line.count(":ROUT:CLOS? ")
        return ";".join([states()] * asked + [NO_ERROR] * ("ERR?" in line)) if "?" in line else None

    driver, recorder = k34980(answer, slots=tuple(range(1, 9)))
    driver.open_all()
    assert len(recorder.said) == 2
    assert all(len(line) <= 1000 for line in recorder.said)


def test_34980a_a_relay_that_sticks_is_named_and_its_words_are_kept() -> None:
    stuck = Crosspoint(8, 32)

    def answer(line: str) -> str:
        if line == ":SYST:ERR?":
            return NO_ERROR
        return f'{states(stuck)};{states(stuck)};-222,"Data out of range"'

    driver, recorder = k34980(answer)
    with pytest.raises(InstrumentError, match=r"1832 stayed closed.*-222, Data out of range.*told to open"):
        driver.open_all()
    assert sum(":ROUT:OPEN:ALL" in line for line in recorder.said) == 3


@pytest.mark.parametrize(
    "answer", ["1;0", f"{states()};{states()[:-2]};{NO_ERROR}", f"{states()};{states()[:-1]}2;{NO_ERROR}"]
)
def test_34980a_nonsense_is_a_lost_answer(answer: str) -> None:
    driver, _ = k34980(lambda said: answer)
    with pytest.raises(LinkLost, match="unintelligible"):
        driver.open_all()


def identified(cards: dict[int, str], **settings: Any) -> tuple[Keysight34980A, Recorder]:
    def answer(line: str) -> str:
        if line == "*IDN?":
            return "Agilent Technologies,34980A,MY44000001,2.42"
        slots = [int(slot) for slot in re.findall(r"SYST:CTYP\? (\d)", line)]
        return ";".join(cards.get(slot, "Agilent Technologies,0,0,0") for slot in slots)

    return k34980(answer, **settings)


MODULE = "Agilent Technologies,34934A-8x32,MY1,1.0"


def test_34980a_finds_its_modules() -> None:
    driver, recorder = identified({2: MODULE, 5: MODULE, 6: "Agilent Technologies,34921A,MY2,1.0"}, slots=())
    assert driver.identify().model == "34980A"
    assert driver.slots == (2, 5)
    assert (driver.rows, driver.columns) == (8, 64)
    assert recorder.said[1] == ";".join(f":SYST:CTYP? {slot}" for slot in range(1, 9))


def test_34980a_takes_the_layout_that_the_module_names() -> None:
    driver, _ = identified({1: MODULE.replace("8x32", "4x128")})
    driver.identify()
    assert (driver.rows, driver.columns) == (4, 128)


def test_34980a_says_which_module_is_missing() -> None:
    driver, _ = identified({1: MODULE}, slots=(1, 3))
    with pytest.raises(InstrumentError, match="no 34934A in slot 3"):
        driver.identify()
    driver, _ = identified({1: MODULE, 2: MODULE.replace("8x32", "8x64")}, slots=(1, 2))
    with pytest.raises(InstrumentError, match="different layouts: 8x32, 8x64"):
        driver.identify()


# ---------------------------------------------------------------------------------------------- by hand


def test_by_hand_only_what_is_wired() -> None:
    driver, recorder = matrix(ManualMatrix, "manual")
    assert (driver.rows, driver.columns) == (0, 0)
    driver.open_all()
    driver.route(frozenset())
    driver.route(points((1, 1), (5, 2)))
    driver.route(points((1, 1), (5, 2)))
    with pytest.raises(CapabilityMissing, match="put them"):
        driver.route(points((2, 1), (5, 2)))
    with pytest.raises(CapabilityMissing, match="lines 1, 2, 3"):
        driver.route(points((1, 1), (5, 2), (5, 3)))
    driver.route(frozenset())
    driver.safe()
    assert driver.errors() == []
    assert driver.identify().model == "manual"
    assert recorder.said == []


# ---------------------------------------------------------------------------------------------- on simulated ones


SIMULATED = {"keithley-707b": (1, 3), "keysight-34980a": (2,)}
FIRST = points((3, 1), (4, 2), (5, 3), (5, 4))
SECOND = points((1, 1), (2, 14), (5, 20), (8, 24))


def world_without_relays() -> World:
    model = load_model("idealized")
    return World(Chip(model, draw_devices(model, (2, 2), 7, None), 7))


def closed(world: World) -> frozenset[Crosspoint]:
    assert world.matrix is not None
    return frozenset(Crosspoint(*point) for point in world.matrix.closed)


@pytest.mark.parametrize("model", SIMULATED)
def test_what_is_routed_is_closed_on_the_simulated_matrix(model: str) -> None:
    bench = stand(model, "matrix", world=world_without_relays(), slots=SIMULATED[model])
    bench.driver.identify()
    asked: list[str] = []
    bench.driver.link.log = lambda direction, line: asked.append(line) if direction == "<" else None
    for path in (FIRST, SECOND, frozenset[Crosspoint](), FIRST):
        bench.driver.route(path)
        assert closed(bench.world) == path
    assert len(asked) == 4, "one exchange for each route"
    bench.driver.safe()
    assert closed(bench.world) == frozenset()
    assert bench.driver.errors() == []
    assert not bench.world.mishaps


@pytest.mark.parametrize("model", SIMULATED)
@pytest.mark.parametrize("fault", list(Fault))
def test_after_a_fault_at_any_line_what_is_believed_is_closed(model: str, fault: Fault) -> None:
    met = 0
    for position in range(3):
        plan = FaultPlan.at({position: fault}, seed=position)
        bench = stand(model, "matrix", plan, world_without_relays(), slots=SIMULATED[model])
        for path in (FIRST, SECOND, FIRST):
            try:
                bench.driver.route(path)
            except LinkLost:
                bench.driver.route(path)
            assert closed(bench.world) == path, f"{fault} at line {position}"
        met += len(plan.injected)
    assert met == 3
