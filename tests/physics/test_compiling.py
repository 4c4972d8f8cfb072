"""What was compiled is used again only while nothing that went into it has changed."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from neurobench import compiling
from neurobench.compiling import KEPT_S, digest, folder_of
from neurobench.physics import kernels, noise

KERNEL = """
from neurobench.compiling import compiled
from .parts import Pair, twice

@compiled
def both(pair):
    return twice(pair.a) + pair.b

def ask():
    return both(Pair(1.0, 2.0))
"""
PARTS = """
from typing import NamedTuple
from neurobench.compiling import compiled
from .numbers import FACTOR

class Pair(NamedTuple):
    a: float
    b: float

@compiled
def twice(x):
    return FACTOR * x
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Write files into a package and import its `kernel` as a new process would."""
    folder = tmp_path / "kernels_of_a_test"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def write(**texts: str) -> Any:
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        forget()
        return importlib.import_module(f"{folder.name}.kernel")

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith(folder.name)]:
            del sys.modules[name]
        importlib.invalidate_caches()
        for told in (compiling._text, compiling._taken_from, compiling.folder_of):
            told.cache_clear()
        # a .pyc of the same second and length would be taken for the file's
        for found in folder.rglob("*.pyc"):
            found.unlink()

    yield write
    forget()


def used_again(kernel: Any) -> int:
    return sum(kernel.both.stats.cache_hits.values())


def test_a_kernel_is_used_again_until_something_behind_it_changes(package: Callable[..., Any]) -> None:
    kernel = package(__init__="", numbers="FACTOR = 2.0\n", parts=PARTS, kernel=KERNEL)
    assert (kernel.ask(), used_again(kernel)) == (4.0, 0)
    kernel = package()
    assert (kernel.ask(), used_again(kernel)) == (4.0, 1)
    kernel = package(numbers="FACTOR = 3.0\n")
    assert (kernel.ask(), used_again(kernel)) == (5.0, 0), "a constant two files away"


def test_a_name_that_is_gone_does_not_matter(package: Callable[..., Any]) -> None:
    """numba reads what it has kept, names of classes and all, before it asks whether the file is the same."""
    assert package(__init__="", numbers="FACTOR = 2.0\n", parts=PARTS, kernel=KERNEL).ask() == 4.0
    renamed = {"parts": PARTS.replace("Pair", "Couple"), "kernel": KERNEL.replace("Pair", "Couple")}
    assert package(**renamed).ask() == 4.0


def test_every_file_that_a_kernel_takes_from_counts() -> None:
    here = {Path(one.__file__) for one in (kernels, noise, compiling)}
    assert reached(Path(kernels.__file__)) == here
    of_a_loop = reached(Path(kernels.__file__).parents[1] / "learning" / "_loop_kernels.py")
    assert here < of_a_loop
    assert len(of_a_loop) == 4, "what stands there for the type checker alone does not count"


def reached(file: Path) -> set[Path]:
    found, left = {file}, [file]
    while left:
        new = compiling._taken_from(left.pop()) - found
        found |= new
        left += new
    return found


def test_all_kernels_are_kept_so(checkout: Path) -> None:
    """A kernel that asks numba itself to keep it would be used again when it must not."""
    found = [
        str(file.relative_to(checkout))
        for folder in ("neurobench", "drivers", "protocols", "sim_instruments", "gui")
        for file in (checkout / folder).rglob("*.py")
        if "from numba import njit" in file.read_text(encoding="utf-8") and file.name != "compiling.py"
    ]
    assert found == []


def test_what_is_older_than_a_week_goes(tmp_path: Path) -> None:
    file, kept = tmp_path / "some.py", tmp_path / "__pycache__"
    file.write_text("X = 1\n", encoding="utf-8")
    old, recent, other = (kept / name for name in ("some-" + "0" * 16, "some-" + "1" * 16, "other-" + "0" * 16))
    for folder in (old, recent, other):
        (folder / "inside").mkdir(parents=True)
    for folder in (old, other):
        for one in (folder / "inside", folder):
            os.utime(one, (time.time() - KEPT_S - 60,) * 2)
    assert folder_of(file, "") == kept / f"some-{digest(file)}"
    assert [one.exists() for one in (old, recent, other)] == [False, True, True]


def test_where_nothing_can_be_written_it_is_kept_for_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "install" / "some.py"
    file.parent.mkdir()
    file.write_text("X = 1\n", encoding="utf-8")
    (file.parent / "__pycache__").touch()  # no folder can be made there, not even by root
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, **_more: tmp_path / "cache" / name)
    assert folder_of(file, "") == tmp_path / "cache" / "neurobench" / f"some-{digest(file)}"


def test_without_a_source_nothing_is_kept(tmp_path: Path) -> None:
    assert folder_of(tmp_path / "gone.py", "") is None


def test_a_place_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text("X = 1\n", encoding="utf-8")
    wanted = tmp_path / "mine"
    assert folder_of(file, str(wanted)) == wanted / f"some-{digest(file)}"
