"""bench.toml: what is read, in which order, what is refused and in which words; and what opens only with care."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_bench import Recording

from neurobench import registry
from neurobench.bench.config import (
    BenchConfig,
    BenchSection,
    ChipSection,
    ReadoutSection,
    bench_names,
    load_bench,
    open_bench,
    parse_value,
)
from neurobench.bench.crossbar import Capabilities, Identity
from neurobench.bench.limits import Guard, Limits
from neurobench.bench.passport import Passport
from neurobench.bench.steps import DeviceSpan
from neurobench.bench.stimulus import Bias, Direction
from neurobench.errors import ConfigError, InUse, NeurobenchError, Refused, UnknownName, UsageError

REAL = """
[bench]
backend = "lab-rig"
[chip]
id = "A7"
potentiating_sign = 1
top_electrode = "row"
[limits]
max_cell_v = 1.5
max_read_v = 0.1
max_width_s = 1e-3
"""


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def mistakes(bench: Path | str, *words: str, **more: Any) -> str:
    with pytest.raises(ConfigError) as found:
        load_bench(bench, **more)
    for word in words:
        assert word in str(found.value), f"{word!r} is not in {str(found.value)!r}"
    return str(found.value)


# ------------------------------------------------------------------ what is read


def test_the_bench_on_every_desk() -> None:
    config = load_bench()
    assert "emulator" in bench_names()
    assert (config.bench.name, config.bench.backend) == ("emulator", "emulator")
    assert (config.chip.rows, config.chip.cols) == (4, 4)
    assert config.bench.vector_reads == set(Direction)
    assert config.limits.max_read_v < config.limits.max_cell_v


def test_a_file_begins_from_the_emulators_values(toml: Callable[[str], Path]) -> None:
    config = load_bench(toml("[chip]\nrows = 7\n"))
    assert (config.chip.rows, config.chip.cols, config.bench.name) == (7, 4, "mine")
    assert config.limits == load_bench().limits
    assert load_bench(toml('[bench]\nname = "left desk"\n')).bench.name == "left desk"


def test_a_file_may_be_empty(toml: Callable[[str], Path]) -> None:
    assert load_bench(toml("")).chip == load_bench().chip


def test_defaults_yield_to_the_file_and_the_file_to_overrides(toml: Callable[[str], Path]) -> None:
    path = toml("[chip]\nrows = 7\ncols = 8\n")
    config = load_bench(path, {"chip.cols": 9}, {"chip.rows": 5, "chip.cols": 5, "chip.seed": 5})
    assert (config.chip.rows, config.chip.cols, config.chip.seed) == (7, 9, 5)


def test_what_a_protocol_suggests_holds_on_the_built_in_bench() -> None:
    """The built-in bench says nothing that the operator said: a protocol may size its chip."""
    config = load_bench("emulator", {"chip.cols": 9}, {"chip.rows": 10, "chip.cols": 3})
    assert (config.chip.rows, config.chip.cols) == (10, 9)


def test_a_real_bench_takes_no_suggestions(toml: Callable[[str], Path]) -> None:
    config = load_bench(toml(REAL), None, {"chip.rows": 10, "limits.max_cell_v": 99.0})
    assert (config.chip.rows, config.limits.max_cell_v) == (4, 1.5)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("readout.ideal", "true", True),
        ("chip.rows", "12", 12),
        ("chip.scale", "1e1", 10.0),
        ("chip.id", "123", "123"),
        ("chip.id", "007", "007"),
        ("chip.id", "2024-01-01", "2024-01-01"),
        ("bench.biases", '["third"]', frozenset({Bias.THIRD})),
        ("chip.offset_s", "[[1e-9, 2e-9]]", [[1e-9, 2e-9]]),
        ("bench.name", "right desk", "right desk"),
        ("limits.max_pulses_per_cell", 10**6, 10**6),
        ("chip.id", 123, "123"),
    ],
)
def test_overrides_may_be_text_as_it_is_typed(key: str, text: Any, value: Any) -> None:
    section, name = key.split(".")
    assert getattr(getattr(load_bench("emulator", {key: text}), section), name) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("3", 3),
        ("1e-9", 1e-9),
        ("[1, 2]", [1, 2]),
        ('"x"', "x"),
        ("half", "half"),
        ("", ""),
        ("a b", "a b"),
    ],
)
def test_a_value_is_toml_where_it_is_toml(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_paths_of_a_file_are_relative_to_it_and_those_typed_to_where_they_were_typed(
    toml: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toml('[chip]\ncurve = "curves/a.toml"\nfile = "/absolute/chip"\n')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    chip = load_bench(path, {"chip.offset_s": "offsets.csv"}).chip
    assert chip.curve == tmp_path / "curves" / "a.toml"
    assert chip.file == Path("/absolute/chip")
    assert chip.offset_s == elsewhere / "offsets.csv"
    assert load_bench(path, {"chip.curve": Path("b.toml")}).chip.curve == elsewhere / "b.toml"
    assert load_bench("../mine.toml").chip.curve is not None
    assert load_bench("emulator", {"chip.file": "c"}).chip.file == elsewhere / "c"


# ------------------------------------------------------------------ what is refused


def test_a_bench_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match="did you mean emulator"):
        load_bench("emulater")
    mistakes("absent.toml", "cannot read the bench file absent.toml", "No such file")


def test_a_folder_is_not_a_bench(tmp_path: Path) -> None:
    mistakes(tmp_path, "cannot read the bench file")


@pytest.mark.parametrize("text", ["[chip", "rows = ", "a = 1\na = 2", "[chip]\nrows = 4x", "\x00"])
def test_malformed_toml_is_named_with_its_place(toml: Callable[[str], Path], text: str) -> None:
    mistakes(toml(text), "mine.toml is not valid TOML", "(at ")


def test_text_that_is_not_utf8_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b'[chip]\nid = "\xff"\n')
    mistakes(tmp_path / "b.toml", "is not valid TOML")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[chip]\nrow = 4\n", ["no key 'row'; did you mean rows", "[chip]"]),
        ("[limits]\nmax_cel_v = 4\n", ["no key 'max_cel_v'; did you mean max_cell_v", "[limits]"]),
        ("[readout]\nadcbits = 4\n", ["did you mean adc_bits", "[readout]"]),
        ("[limit]\nmax_cell_v = 4\n", ["no key 'limit'; did you mean limits", "the file"]),
        ("[xyz]\n", ["no key 'xyz'; known: bench, board, chip, instruments, limits, readout"]),
    ],
)
def test_unknown_keys_are_named_with_the_nearest_known_one(
    toml: Callable[[str], Path], text: str, words: list[str]
) -> None:
    mistakes(toml(text), "mine.toml", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[chip]\nrows = "many"\n', ["chip.rows", "'many'"]),
        ("[chip]\nrows = 0\n", ["chip.rows", "greater than or equal to 1", "0"]),
        ("[chip]\nrows = 4.5\n", ["chip.rows", "4.5"]),
        ("[chip]\nscale = nan\n", ["chip.scale", "finite"]),
        ("[limits]\nmax_cell_v = -1\n", ["limits.max_cell_v", "greater than 0", "-1"]),
        ("[limits]\nmax_read_v = 99\n", ["max_read_v = 99 exceeds max_cell_v = 5.5"]),
        ("[limits]\nmax_energy_per_cell_j = 1\n", ["needs compliance_a"]),
        ('[bench]\nparallelism = "diagonal"\n', ["bench.parallelism", "'diagonal'", "'cell', 'row' or 'column'"]),
        ('[bench]\nbiases = ["quarter"]\n', ["bench.biases", "'quarter'", "half"]),
        ("[chip]\npotentiating_sign = 2\n", ["chip.potentiating_sign", "1 or -1"]),
        ("chip = 3\n", ["chip", "3"]),
        ("bench = 3\n", ["bench", "3"]),
        ("[bench]\nbackend = 3\nnmae = 1\n", ["did you mean name"]),
        ("instruments = 3\n", ["instruments", "3"]),
        ('[chip]\nreplay = "latent "\n', ["chip.replay", "'latent' or 'literal'"]),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(toml: Callable[[str], Path], text: str, words: list[str]) -> None:
    mistakes(toml(text), "mine.toml", *words)


def test_all_mistakes_are_told_at_once(toml: Callable[[str], Path]) -> None:
    said = mistakes(toml("[chip]\nrow = 4\ncols = 0\n[readout]\nideal = 7\n"))
    assert len(said.splitlines()) == 3


@pytest.mark.parametrize("key", ["rows", "readout", "", "."])
def test_an_override_names_section_and_key(key: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key|no key"):
        load_bench("emulator", {key: 3})


def test_an_override_with_an_unknown_key_is_named() -> None:
    mistakes("emulator", "no key 'seeds'; did you mean seed", overrides={"chip.seeds": 3})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3))
sections = st.sampled_from(["bench", "chip", "readout", "limits", "instruments", "other"])
fields = [*BenchSection.model_fields, *ChipSection.model_fields, *ReadoutSection.model_fields, *Limits.model_fields]


@given(st.dictionaries(st.tuples(sections, st.sampled_from(fields) | st.text(max_size=5)), values, max_size=4))
def test_any_override_gives_a_bench_or_a_mistake_in_words(given_: dict[tuple[str, str], Any]) -> None:
    assert what_comes_of({f"{section}.{key}": value for (section, key), value in given_.items()})


def what_comes_of(overrides: dict[str, Any]) -> BenchConfig | str:
    try:
        return load_bench("emulator", overrides)
    except ConfigError as error:
        return str(error)


# ------------------------------------------------------------------ real benches


class Rig(Recording):
    """A bench that says it is real."""

    simulated = False

    def identity(self) -> Identity:
        return Identity("lab-rig", self.simulated, "chip-on-the-rig")


@pytest.fixture
def rig(toml: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open a bench file on a rig with some capabilities; the rig stands in `opened`."""
    opened: list[Rig] = []

    def open_on(text: str = REAL, overrides: dict[str, Any] | None = None, **has: Any) -> Guard:
        def driver(config: BenchConfig, seed: int) -> tuple[Rig, DeviceSpan]:
            opened.append(Rig(Capabilities((config.chip.rows, config.chip.cols), **has)))
            return opened[-1], DeviceSpan(g_min_s=1e-9 * seed)

        monkeypatch.setattr(registry, "load", lambda kind, name: {("drivers", "lab-rig"): driver}[kind, name])
        return open_bench(load_bench(toml(text), overrides), 5)

    open_on.opened = opened  # type: ignore[attr-defined]
    return open_on


def accepted(guard: Guard) -> None:
    """The bench was opened, its limits were programmed, and it was closed again."""
    assert guard.raw.enforced == guard.limits  # type: ignore[attr-defined]
    guard.close()
    assert guard.raw.closed  # type: ignore[attr-defined]


def test_a_real_bench_opens_behind_its_guard_with_its_limits_enforced(rig: Any) -> None:
    guard = rig()
    assert guard.bench_name == "mine"
    assert guard.raw.enforced == guard.limits
    assert guard.limits.max_cell_v == 1.5
    assert guard.span.g_min_s == pytest.approx(5e-9)
    assert guard.passport.chip_id == "A7"
    guard.close()


@pytest.mark.parametrize("line", ["max_cell_v = 1.5", "max_read_v = 0.1", "max_width_s = 1e-3"])
def test_a_real_bench_says_its_limits_itself(toml: Callable[[str], Path], line: str) -> None:
    field = line.partition(" ")[0]
    mistakes(toml(REAL.replace(line, "")), f"limits.{field} is missing")


def test_a_real_bench_without_limits(toml: Callable[[str], Path]) -> None:
    mistakes(toml(REAL.partition("[limits]")[0]), "limits is missing, and this bench has no default for it")


def test_another_backend_does_not_inherit_the_emulators_limits() -> None:
    mistakes("emulator", "limits is missing", overrides={"bench.backend": "lab-rig"})


@pytest.mark.parametrize("name", ["potentiating_sign", "top_electrode"])
def test_a_real_chip_says_its_polarity(rig: Any, name: str) -> None:
    text = re.sub(rf"{name} = .*\n", "", REAL)
    with pytest.raises(ConfigError, match=rf"bench mine: a real chip needs \[chip\] {name}"):
        rig(text)
    assert [r.closed for r in rig.opened] == [True]


def test_a_simulated_chip_need_not_say_its_polarity(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rig, "simulated", True)
    accepted(rig(re.sub(r"(potentiating_sign|top_electrode|id) = .*\n", "", REAL)))


LIMITED = {"limits.compliance_a": 1e-3}


@pytest.mark.parametrize(
    ("has", "words"),
    [
        ({"compliance_path": "none"}, "none, 0 ohm) would let inf A pass"),
        # a resistor is there, but nothing says that it is in the pulse path
        ({"compliance_path": "none", "series_ohm": 1e6}, "none, 1e+06 ohm)"),
        ({"compliance_path": "series_ohm"}, "series_ohm, 0 ohm) would let inf A pass"),
        (
            {"compliance_path": "series_ohm", "source_ohm": 50, "series_ohm": 1400},
            "1450 ohm) would let 0.00103448 A pass",
        ),
    ],
)
def test_a_current_limit_that_nothing_enforces_is_refused(rig: Any, has: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as found:
        rig(REAL, LIMITED, **has)
    for word in ("bench mine: limits.compliance_a = 0.001 A", words, "accept_no_compliance"):
        assert word in str(found.value)
    assert [r.closed for r in rig.opened] == [True]
    rig(REAL, {**LIMITED, "chip.accept_no_compliance": "true"}, **has).close()  # the chip's file accepts it


@pytest.mark.parametrize(
    "has",
    [
        {"compliance_path": "smu"},
        {"compliance_path": "transistor"},
        {"compliance_path": "series_ohm", "series_ohm": 1500},
    ],
)
def test_a_current_limit_that_something_enforces(rig: Any, has: dict[str, Any]) -> None:
    accepted(rig(REAL, LIMITED, **has))


def test_no_current_limit_needs_no_path(rig: Any) -> None:
    accepted(rig(REAL, compliance_path="none"))


# ------------------------------------------------------------------ the chip's file


def test_a_kept_chip_has_its_passport_beside_it(rig: Any, tmp_path: Path) -> None:
    text = REAL.replace("[chip]", '[chip]\nfile = "drawer/a7.chip"')
    guard = rig(text)
    assert guard.passport.path == tmp_path / "drawer" / "a7.chip.passport"
    with pytest.raises(InUse, match="chip A7"):
        rig(text)
    guard.close()
    assert guard.passport.path.exists()
    with pytest.raises(ConfigError, match="is the passport of chip 'A7', not of 'B1'"):
        rig(text, {"chip.id": "B1"})
    with pytest.raises(ConfigError, match=r"has \(4, 4\) cells, the bench file says \(5, 4\)"):
        rig(text, {"chip.rows": 5})
    rig(text).close()


def test_a_bench_that_does_not_open_leaves_no_lock_and_no_passport(rig: Any, tmp_path: Path) -> None:
    text = REAL.replace("[chip]", '[chip]\nfile = "a7.chip"')
    with pytest.raises(Refused):
        rig(text, LIMITED)
    with pytest.raises(KeyError):
        rig(text, {"bench.backend": "absent"})
    assert not (tmp_path / "a7.chip.passport").exists()
    rig(text).close()


def test_a_driver_whose_chip_has_another_size_is_refused(
    rig: Any, toml: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Rig(Capabilities((9, 9)))
    monkeypatch.setattr(registry, "load", lambda *_: lambda config, seed: (bench, DeviceSpan()))
    with pytest.raises(ConfigError, match=r"the bench has \(9, 9\) cells, the passport of chip 'A7' \(4, 4\)"):
        open_bench(load_bench(toml(REAL)))
    assert bench.closed


def test_a_chip_without_a_name_is_called_what_the_bench_calls_it(rig: Any) -> None:
    guard = rig(REAL.replace('id = "A7"\n', ""))
    assert guard.passport.chip_id == "chip-on-the-rig"
    guard.close()


def test_an_emulated_chip_that_was_exchanged_in_its_drawer_is_noticed(tmp_path: Path) -> None:
    chips = [tmp_path / "a.chip", tmp_path / "b.chip"]
    for seed, chip in enumerate(chips):
        open_bench(load_bench("emulator", {"chip.file": chip}), seed).close()
    chips[1].replace(chips[0])
    with pytest.raises(ConfigError, match=r"a\.chip is 'emulated-1', its passport.*says 'emulated-0'"):
        open_bench(load_bench("emulator", {"chip.file": chips[0]}), 0)


def test_the_emulator_opens_with_nothing_said() -> None:
    guard = open_bench(load_bench(), seed=3)
    assert isinstance(guard, Guard)
    assert isinstance(guard.passport, Passport)
    assert guard.identity().simulated
    assert guard.passport.path is None
    guard.close()


def test_a_backend_that_does_not_exist_is_named(toml: Callable[[str], Path]) -> None:
    with pytest.raises(UnknownName, match="lab-rig"):
        open_bench(load_bench(toml(REAL)))


@pytest.mark.parametrize("error", [NeurobenchError, UsageError])
def test_a_driver_that_fails_to_open_releases_the_chip(
    toml: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def failing(config: BenchConfig, seed: int) -> Any:
        raise error("no such instrument")

    config = load_bench(toml(REAL.replace("[chip]", '[chip]\nfile = "a7.chip"')))
    monkeypatch.setattr(registry, "load", lambda *_: failing)
    for _ in range(2):
        with pytest.raises(error, match="no such instrument"):
            open_bench(config)
