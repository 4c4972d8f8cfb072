"""What the Runs page looks for, and what people write about runs: without a window."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from neurobench.gui.runs.runs_filter import KEYS, Filter, Part, parse
from neurobench.gui.runs.runs_notes import NAME, NONE, Notes, Words, tags_of

from neurobench.errors import UsageError

FACTS = {
    "id": "20261122-004125-manhattan-s7", "kind": "run", "protocol": "manhattan", "bench": "emulator",
    "status": "not_converged not converged ", "seed": "7", "when": "2026-11-22 00:41:25", "simulated": "yes",
    "tag": "good 300k", "note": "before the anneal",
}  # fmt: skip

VALUES = st.text(st.sampled_from("abz019_-: ."), min_size=1, max_size=8)
PARTS = st.builds(Part, st.sampled_from(["", *KEYS]), VALUES, st.booleans())


@given(st.lists(PARTS, max_size=5))
def test_a_filter_that_is_written_down_means_the_same_again(parts: list[Part]) -> None:
    assert parse(str(Filter(tuple(parts)))) == Filter(tuple(parts))


@given(st.text(st.sampled_from('ab:-" \t'), max_size=12))
def test_whatever_is_typed_is_a_filter_or_says_why_not(text: str) -> None:
    try:
        found = parse(text)
    except UsageError as error:
        assert str(error)  # noqa: PT017 - either way is right, but not without words
    else:
        assert all(part.value or not part.key for part in found.parts)


@given(PARTS)
def test_minus_turns_a_part_round(part: Part) -> None:
    assert part.fits(FACTS) is not Part(part.key, part.value, not part.wanted).fits(FACTS)


@pytest.mark.parametrize(
    "text",
    ["", "manhattan", "seed:7", "SEED:7 Tag:GOOD", "status:not_conv", "tag:good tag:300", '"not converged"', "-tag:old",
     "-seed:17", "simulated:yes", "anneal", 'note:"the anneal"', "when:2026-11-22", "status:", "12 s7"],
)  # fmt: skip
def test_this_run_is_found_by(text: str) -> None:
    assert parse(text).fits(FACTS)


@pytest.mark.parametrize(
    "text", ["seed:1", "seed:17", "-manhattan", "tag:old", "manhattan fault", "simulated:no", "kind:ru"]
)
def test_this_run_is_not_found_by(text: str) -> None:
    assert not parse(text).fits(FACTS)


@pytest.mark.parametrize(
    ("text", "words"), [("stat:fault", "did you mean status"), ('tag:"open', "do not end"), ("a - b", "says nothing")]
)
def test_a_filter_that_cannot_be_meant_says_why(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(text)


# ---------------------------------------------------------------------------------------------- tags and notes


@pytest.mark.parametrize(
    ("text", "tags"), [("good, Paper  #300K", ("good", "paper", "300k")), (" ", ()), ("a a b;a", ("a", "b"))]
)
def test_tags_are_words(text: str, tags: tuple[str, ...]) -> None:
    assert tags_of(text) == tags


def test_words_on_runs_survive(tmp_path: Path) -> None:
    Notes(tmp_path).set(["one", "two"], tags=["good"], note="größer als 1 µS")
    Notes(tmp_path).set(["two"], tags=["bad"])
    again = Notes(tmp_path)
    assert again.of("one") == Words(("good",), "größer als 1 µS")
    assert again.of("two") == Words(("bad",), "größer als 1 µS")
    assert again.of("three") == NONE
    assert again.all_tags() == ["bad", "good"]


def test_two_windows_keep_each_others_words(tmp_path: Path) -> None:
    one, other = Notes(tmp_path), Notes(tmp_path)
    one.set(["a"], tags=["mine"])
    other.set(["b"], tags=["yours"])
    assert one.refresh()
    assert one.of("b").tags == ("yours",)
    assert Notes(tmp_path).of("a").tags == ("mine",)
    assert not one.refresh()


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": {"a": 3}}', '{"version": 1}', "\x00"])
def test_a_damaged_file_is_kept_and_said(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    notes = Notes(tmp_path)
    assert str(tmp_path / NAME) in notes.problem
    notes.set(["a"], tags=["new"])
    assert not notes.problem
    aside = [path for path in tmp_path.iterdir() if ".damaged-" in path.name]
    assert [path.read_text() for path in aside] == [text]
    assert json.loads((tmp_path / NAME).read_text())["runs"] == {"a": {"tags": ["new"], "note": ""}}


def test_a_folder_that_cannot_be_written_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot"):
        Notes(tmp_path / "file").set(["a"], note="x")
