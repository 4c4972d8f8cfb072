"""The wheel: one import root, every folder, every data file, and it works far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

OUTER = ("drivers", "gui", "protocols", "sim_instruments")
DATA_SUFFIXES = {".toml", ".yaml", ".pcf"}


@pytest.fixture(scope="module")
def project(checkout: Path) -> dict[str, Any]:
    return tomllib.loads((checkout / "pyproject.toml").read_text())


def import_name(folder: Path, checkout: Path) -> str:
    parts = folder.relative_to(checkout).parts
    return ".".join(parts if parts[0] == "neurobench" else ("neurobench", *parts))


def packages_on_disk(checkout: Path) -> set[str]:
    roots = [checkout / name for name in ("neurobench", *OUTER)]
    return {import_name(init.parent, checkout) for root in roots for init in root.rglob("__init__.py")}


def data_on_disk(checkout: Path) -> set[str]:
    """Data files as they should be called inside the wheel."""
    roots = [checkout / name for name in ("neurobench", *OUTER)]
    files = [file for root in roots for file in root.rglob("*") if file.suffix in DATA_SUFFIXES]
    return {f"{import_name(file.parent, checkout).replace('.', '/')}/{file.name}" for file in files}


def run(*command: str, cwd: Path, **environment: str) -> str:
    answer = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=55, check=False, env=os.environ | environment
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, without the network, so that no stale `build/` of the checkout can leak into it."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("neurobench", *OUTER):
        shutil.copytree(checkout / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(checkout / file, copy / file)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "out", ".", cwd=copy)
    (built,) = (copy / "out").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_package_list_is_what_is_on_disk(checkout: Path, project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == packages_on_disk(checkout)


def test_every_folder_with_code_is_a_package(checkout: Path) -> None:
    roots = [checkout / name for name in ("neurobench", *OUTER)]
    folders = {file.parent for root in roots for file in root.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_wheel_has_one_import_root(contents: set[str]) -> None:
    roots = {name.split("/")[0] for name in contents}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"neurobench"}


def test_the_wheel_holds_every_module(checkout: Path, contents: set[str]) -> None:
    for package in packages_on_disk(checkout):
        assert f"{package.replace('.', '/')}/__init__.py" in contents
    on_disk = sum(len(list((checkout / name).rglob("*.py"))) for name in ("neurobench", *OUTER))
    assert sum(name.endswith(".py") for name in contents) == on_disk


def test_the_wheel_holds_the_data_and_the_licence(checkout: Path, contents: set[str]) -> None:
    assert data_on_disk(checkout) - contents == set()
    assert "neurobench/py.typed" in contents
    assert any(name.endswith("/LICENSE") for name in contents)


def test_no_test_and_no_measured_file_is_shipped(contents: set[str]) -> None:
    allowed = {".py", ".typed", *DATA_SUFFIXES}
    shipped = {name for name in contents if ".dist-info/" not in name}
    assert {name for name in shipped if Path(name).suffix not in allowed} == set()
    assert not any("/test" in name for name in shipped)


def test_the_installed_wheel_imports_from_an_empty_folder(wheel: Path, checkout: Path, tmp_path: Path) -> None:
    target, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", str(target), str(wheel), cwd=empty)
    names = sorted(packages_on_disk(checkout) - {"neurobench.gui"})
    code = "import importlib\nfor name in " + repr(names) + ": print(importlib.import_module(name).__file__)"
    places = run(sys.executable, "-c", code, cwd=empty, PYTHONPATH=str(target)).split()
    assert len(places) == len(names)
    assert [place for place in places if not Path(place).is_relative_to(target)] == []


def test_the_version_is_said_once(checkout: Path, wheel: Path) -> None:
    import neurobench

    assert wheel.name.startswith(f"neurobench_hil-{neurobench.__version__}-")
    assert neurobench.__version__ not in (checkout / "pyproject.toml").read_text().partition("dependencies")[0]


def test_extras_are_all_in_all_but_what_is_for_builders(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    users = [name for name in extras if name not in ("all", "dev", "gateware")]  # gateware: tools of 200 MB
    assert extras["all"] == [f"neurobench-hil[{','.join(users)}]"]
    assert not any("PySide6" in need or "matplotlib" in need for need in project["project"]["dependencies"])
