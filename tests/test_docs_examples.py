"""The examples page is executed: every block of Python on it, in a folder of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "examples.md"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = {title: BLOCK.findall(text) for title, text in SECTION.findall(PAGE.read_text(encoding="utf-8"))}


def test_every_section_of_the_page_has_one_example() -> None:
    assert len(EXAMPLES) >= 9
    assert {title: len(blocks) for title, blocks in EXAMPLES.items()} == dict.fromkeys(EXAMPLES, 1)


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_runs_and_leaves_its_record(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = compile(EXAMPLES[title][0], f"{PAGE.name}: {title}", "exec")
    exec(code, {"__name__": "__main__"})
    assert list(Path("runs").glob("*.nbr")), "nothing was recorded"
