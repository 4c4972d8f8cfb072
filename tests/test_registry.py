"""Plug-ins are found without being imported, and a broken one is reported, never fatal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import neurobench
from neurobench import registry
from neurobench.errors import UnknownName, UsageError

GOOD = '"""Moves nothing.\n\nMore words."""\n\n\nclass Still:\n    pass\n\n\nplugin = Still\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty package `own_protocols` that is scanned in place of the real one."""
    package = tmp_path / "own_protocols"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.KINDS, "protocols", "own_protocols")
    before = set(sys.modules)
    yield package
    for name in set(sys.modules) - before:
        del sys.modules[name]


def add_distribution(folder: Path, name: str, points: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nSummary: From elsewhere\n")
    (info / "entry_points.txt").write_text(points)


def test_finding_reads_the_docstring_and_imports_nothing(folder: Path) -> None:
    (folder / "very_still.py").write_text(GOOD + "raise SystemExit('imported')\n")
    found = registry.find("protocols")
    assert found == {
        "very-still": registry.Plugin("very-still", "protocols", "own_protocols.very_still", "Moves nothing.")
    }
    assert not any(name.startswith("own_protocols") for name in sys.modules)


def test_private_files_and_subpackages_are_not_plugins(folder: Path) -> None:
    (folder / "_help.py").write_text(GOOD)
    (folder / "parts").mkdir()
    (folder / "parts" / "__init__.py").write_text(GOOD)
    (folder / "notes.txt").write_text("")
    assert registry.find("protocols") == {}


@pytest.mark.parametrize("name", ["very-still", "very_still"])
def test_both_spellings_load(folder: Path, name: str) -> None:
    (folder / "very_still.py").write_text(GOOD)
    assert getattr(registry.load("protocols", name), "__name__", None) == "Still"


def test_unknown_names_are_answered_with_the_nearest(folder: Path) -> None:
    (folder / "very_still.py").write_text(GOOD)
    with pytest.raises(UnknownName, match=r"no protocol 'very-stil'; did you mean very-still\?.*own_protocols"):
        registry.load("protocols", "very-stil")
    with pytest.raises(UnknownName, match="no kind of plug-in 'protocol'; did you mean protocols"):
        registry.find("protocol")


BROKEN = {
    "half": ("def", "SyntaxError"),
    "lacking": ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    "angry": ("raise RuntimeError('not today')", "RuntimeError: not today"),
    "silent": ("x = 1", "AttributeError: .*'plugin'"),
    "binary": ("\0", "(SyntaxError|ValueError)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_listed_with_its_error(folder: Path, name: str) -> None:
    text, error = BROKEN[name]
    (folder / f"{name}.py").write_text(text)
    (folder / "good.py").write_text(GOOD)
    checked = registry.check("protocols")
    assert list(checked) == sorted([name, "good"])
    assert checked["good"].error == ""
    with pytest.raises(
        UsageError, match=rf"'{name}' \(built-in, own_protocols\.{name}\) cannot be used: {error}"
    ) as refused:
        registry.load("protocols", name)
    assert checked[name].error in str(refused.value)


def test_an_interrupt_during_an_import_is_not_swallowed(folder: Path) -> None:
    (folder / "slow.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        registry.check("protocols")


def test_other_distributions_add_theirs(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lab_still.py").write_text(GOOD)
    add_distribution(tmp_path, "lab_tools", "[neurobench.protocols]\nlab_still = lab_still\nown = lab_still:Still\n")
    found = registry.find("protocols")
    assert list(found) == ["lab-still", "own"]
    assert (found["own"].source, found["own"].summary) == ("lab_tools", "From elsewhere")
    assert registry.load("protocols", "own") is registry.load("protocols", "lab_still")
    assert registry.find("models").keys().isdisjoint(found)


def test_a_distribution_cannot_take_the_name_of_a_built_in_plugin(folder: Path, tmp_path: Path) -> None:
    (folder / "still.py").write_text(GOOD)
    add_distribution(tmp_path, "lab_tools", "[neurobench.protocols]\nstill = no_such_module\n")
    found = registry.check("protocols")
    assert found["still"].source == "built-in"
    assert "no_such_module" in found["lab-tools:still"].error
    with pytest.raises(UsageError, match="no_such_module"):
        registry.load("protocols", "lab_tools:still")


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
def test_every_built_in_plugin_imports_and_has_a_summary(kind: str) -> None:
    """Over the real folders: a new file is walked the moment it exists."""
    for plugin in registry.check(kind).values():
        assert plugin.error == "", f"{plugin.module}: {plugin.error}"
        assert plugin.source != "built-in" or plugin.summary, f"{plugin.module} has no docstring"


def test_our_own_package_is_recognised() -> None:
    registry.ensure_ours()


def test_another_projects_init_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(neurobench, "__project__")
    with pytest.raises(UsageError, match="another project of that name was installed over it.*pip uninstall"):
        registry.ensure_ours()


def test_command_line_stops_when_half_of_it_was_overwritten(checkout: Path, tmp_path: Path) -> None:
    """As pip would leave it: their `__init__.py` among our modules."""
    package = tmp_path / "neurobench"
    package.mkdir()
    for module in ("__main__", "registry", "errors"):
        (package / f"{module}.py").write_text((checkout / "neurobench" / f"{module}.py").read_text())
    (package / "__init__.py").write_text('"""NeuroBench, the benchmark suite."""\n')
    command = [sys.executable, "-m", "neurobench", "--help"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 2, answer.stderr
    assert "is not neurobench-hil" in answer.stderr
    assert "Traceback" not in answer.stderr
