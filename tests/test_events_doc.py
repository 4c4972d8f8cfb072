"""docs/events.md is executed: its blocks of Python one after the other, and the commands that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from neurobench.protocols.moving_bar import MovingBar

PAGE = Path(__file__).parents[1] / "docs" / "events.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_blocks_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {"__name__": "__main__"}
    for n, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {n}", "exec"), names)
    assert len(blocks) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"bar.npz", "bar.aedat"}


def test_the_settings_that_it_names_are_those_of_the_protocol() -> None:
    named = set(re.findall(r"--set (\w+)=", TEXT))
    assert named == {"directions", "pixels", "events"}
    assert named <= set(MovingBar.model_fields)
