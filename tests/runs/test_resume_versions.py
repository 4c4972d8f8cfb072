"""A run of an older version goes on: what the record does not know of a bench is not held against it."""

from __future__ import annotations

import pytest
from neurobench.protocols.read_all import ReadAll

from neurobench.bench.config import load_bench, open_bench
from neurobench.errors import ResumeRefused
from neurobench.runs.replay import _check_same
from neurobench.runs.runner import run_facts


@pytest.mark.parametrize("section", ["device", "capabilities", "limits"])
def test_a_field_that_came_later_is_no_difference_but_another_value_is(section: str) -> None:
    guard = open_bench(load_bench("emulator"), 0)
    try:
        present = run_facts(ReadAll(), guard)
    finally:
        guard.close()
    name, value = next((n, v) for n, v in present[section].items() if isinstance(v, float))
    without = {n: v for n, v in present[section].items() if n != name}
    _check_same(present | {section: without}, present)
    with pytest.raises(ResumeRefused, match=f"another {section}: .*{name}"):
        _check_same(present | {section: present[section] | {name: value + 1}}, present)
    with pytest.raises(ResumeRefused, match="gone"):
        _check_same(present | {section: present[section] | {"gone": 1}}, present)
