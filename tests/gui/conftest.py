"""What tests of the window may ask for."""

from __future__ import annotations

import pytest
from qt_rule import skip_or_fail, start_qt


@pytest.fixture(scope="session")
def qt_probe() -> tuple[str, str]:
    return start_qt()


@pytest.fixture
def qt(qt_probe: tuple[str, str]) -> str:
    """The version of a Qt that starts offscreen; otherwise the test is skipped or, where Qt is required, fails."""
    version, problem = qt_probe
    if problem:
        skip_or_fail(problem)
    return version
