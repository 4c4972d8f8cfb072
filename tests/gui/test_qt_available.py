"""Whether Qt can start here at all; every other test of the window rests on this rule.

Without root the system libraries of Qt may be missing. Then the window's tests are skipped with the
line that installs them, except where NEUROBENCH_REQUIRE_QT=1 says that a skip is a failure.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from qt_rule import apt_line, skip_or_fail, start_qt


def test_qt_starts_offscreen(qt: str) -> None:
    major, minor, *_ = (int(part) for part in qt.split("."))
    assert (6, 10) <= (major, minor) < (6, 12), "outside the range that pyproject.toml allows"


def test_a_missing_library_skips_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUROBENCH_REQUIRE_QT", raising=False)
    with pytest.raises(pytest.skip.Exception, match="libEGL.so.1.*sudo apt-get install .*libegl1") as skipped:
        skip_or_fail("ImportError: libEGL.so.1: cannot open shared object file")
    assert apt_line() in str(skipped.value)


def test_a_skip_becomes_a_failure_where_qt_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROBENCH_REQUIRE_QT", "1")
    with pytest.raises(pytest.fail.Exception, match="NEUROBENCH_REQUIRE_QT=1.*libEGL"):
        skip_or_fail("ImportError: libEGL.so.1: cannot open shared object file")


def test_the_probe_reports_what_the_import_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that cannot be imported stands in for a missing library."""
    (tmp_path / "PySide6").mkdir()
    (tmp_path / "PySide6" / "__init__.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    version, problem = start_qt()
    assert version == ""
    assert problem == "ImportError: libGL.so.1: cannot open"
