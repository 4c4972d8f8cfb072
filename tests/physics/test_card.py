"""The card: what is refused and how the message reads, and that writing and reading back loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobench.errors import ConfigError, CurveError, UnknownName
from neurobench.physics import library
from neurobench.physics.card import Curve, DeviceCard, Noise, card_toml, load_card, parse_card, write_card

BASE: dict[str, Any] = {"name": "x", "source": "made up for a test", "model": "measured"}


def with_curve(values: list[float], **extra: Any) -> dict[str, Any]:
    return BASE | {"curve": [{"direction": "potentiate", "conductance_s": values} | extra]}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1e-6, float("nan")], "point 1 is nan"),
        ([1e-6, -2e-6], "point 1 is -2e-06"),
        ([0.0, 1e-6], "point 0 is 0.0"),
        ([1e-6, float("inf")], "point 1 is inf"),
        ([1e-6, 40.0], r"point 1 is 40.0 S; a conductance lies in \(0, 1 S\]"),
        ([], "at least two points, this one has 0"),
        ([1e-6], "at least two points, this one has 1"),
    ],
)
def test_a_curve_that_cannot_be_one_is_refused_with_file_key_and_point(values: list[float], says: str) -> None:
    with pytest.raises(CurveError, match=says) as caught:
        parse_card(with_curve(values), "my.toml")
    assert str(caught.value).startswith("my.toml: curve[0].conductance_s: ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"windw": {}}, "windw: unknown key; did you mean window"),
        ({"read": {"volt_v": 0.1}}, r"read.volt_v: unknown key; did you mean voltage_v\?"),
        ({"curve": [{"direction": "up", "conductance_s": [1e-6, 2e-6]}]}, r"curve\[0\].direction"),
        ({"source": ""}, "source"),
        ({"window": {"g_min_s": 2e-6, "g_max_s": 1e-6}}, "must lie below"),
        ({"window": {"g_min_s": 1e-6, "g_max_s": 2e-6, "g_start_s": 3e-6}}, "lies outside"),
        ({"write_current": {"law": "sinh"}}, "sinh needs v0_v"),
        ({"potentiating_sign": 0}, "potentiating_sign"),
        ({"format": 2}, "format"),
        ({"noise": {"read_sigma_s": -1e-9}}, "noise.read_sigma_s"),
    ],
)
def test_wrong_keys_and_values_are_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises((ConfigError, CurveError), match=says):
        parse_card(with_curve([1e-6, 2e-6]) | change, "my.toml")


def test_a_source_is_mandatory() -> None:
    with pytest.raises(ConfigError, match="my.toml: source"):
        parse_card({"name": "x", "model": "linear"}, "my.toml")


@pytest.mark.parametrize(
    "pulses",
    [[(2.0, 1e-3), (1.0, 1e-3)], [(1.0, 1e-3), (1.0, 1e-3)], [(1.0, 2e-3), (1.0, 1e-3)], [(-2.0, 1e-3), (1.0, 1e-3)]],
)
def test_families_that_do_not_ascend_are_refused(pulses: list[tuple[float, float]]) -> None:
    curves = [
        {"direction": "potentiate", "amplitude_v": v, "width_s": t, "conductance_s": [1e-6, 2e-6]} for v, t in pulses
    ]
    with pytest.raises(CurveError, match=r"my.toml: card: potentiate \[\[curve\]\] entries must ascend"):
        parse_card(BASE | {"curve": curves}, "my.toml")


def test_several_families_must_all_say_their_pulse() -> None:
    curve = {"direction": "depress", "conductance_s": [2e-6, 1e-6]}
    with pytest.raises(CurveError, match="each must state amplitude_v and width_s"):
        parse_card(BASE | {"curve": [curve, curve]}, "my.toml")


def test_a_curve_is_samples_or_a_formula() -> None:
    with pytest.raises(CurveError, match="either conductance_s"):
        parse_card(BASE | {"curve": [{"direction": "potentiate"}]}, "my.toml")


def test_files_that_are_no_card(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "x"\nsource = \n')
    with pytest.raises(ConfigError, match=r"broken.toml: not a TOML file: .*line 2"):
        load_card(broken)
    with pytest.raises(ConfigError, match="cannot read"):
        load_card(tmp_path / "absent.toml")
    with pytest.raises(UnknownName, match="did you mean lsmo-gaq3"):
        library.card("lsmo-gak3")


conductances = st.lists(st.floats(1e-12, 1.0), min_size=2, max_size=40)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=8, max_size=40)


@st.composite
def any_card(draw: st.DrawFn) -> DeviceCard:
    directions = draw(st.sets(st.sampled_from(["potentiate", "depress"]), min_size=1))
    curves = tuple(
        Curve.model_validate(
            {
                "direction": direction,
                "amplitude_v": draw(st.none() | st.floats(1e-3, 10) | st.floats(-10, -1e-3)),
                "width_s": draw(st.none() | st.floats(1e-9, 1)),
                "conductance_s": draw(conductances),
            }
        )
        for direction in sorted(directions)
    )
    noise = Noise(read_sigma_s=draw(st.none() | st.floats(0, 1e-6)), step_sigma_relative=draw(st.floats(0, 2)))
    return DeviceCard(name="x", source=draw(texts), notes=draw(texts), model="measured", noise=noise, curve=curves)


@given(any_card())
def test_a_card_survives_its_toml_text(card: DeviceCard) -> None:
    import tomllib

    assert parse_card(tomllib.loads(card_toml(card)), "text") == card


@pytest.mark.parametrize("name", library.names())
def test_every_card_of_the_library_survives_a_file(name: str, tmp_path: Path) -> None:
    card = library.card(name)
    write_card(card, tmp_path / "card.toml")
    assert load_card(tmp_path / "card.toml") == card
    assert card.name == name
    assert card.title
    assert len(card.source) > 20
    assert card.licence
