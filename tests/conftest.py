"""What every test may ask for."""

from __future__ import annotations

import gc
import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from qt_here import QT

# A compile or a busy machine is no failure, so no test has a deadline but pytest's; in CI the examples are the same
# each time, so that what lands is decided by the change and not by the draw.
settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

CHECKOUT = Path(__file__).resolve().parent.parent


LONG = (
    "fpga/test_gateware", "gui/test_shell_close", "bench/test_guard_machine", "faults", "proofs", "cli", "gui", "fpga",
    "protocols", "runs", "contract",
)  # fmt: skip

# Not loaded by its entry point (see addopts), which would end pytest where a library of Qt is missing.
pytest_plugins = ["pytestqt.plugin"] if QT else []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Without the plugin its settings in pyproject.toml would be unknown words."""
    for name in () if QT else ("qt_api", "qt_log_level_fail", "qt_log_ignore"):
        parser.addini(name, "of pytest-qt, which is not loaded")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds pyproject.toml; skips where the tests were copied out of it."""
    if not (CHECKOUT / "pyproject.toml").is_file():
        pytest.skip(f"no pyproject.toml in {CHECKOUT}: this test reads the checkout")
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The measured data: NEUROBENCH_DATA, or `shared/data` beside the checkout. Never copied into the project."""
    folder = Path(os.environ.get("NEUROBENCH_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no measured data in {folder}; point NEUROBENCH_DATA at it")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lies in `benchmarks` measures speed and is run by `make bench` only; no file has to say so."""
    for item in items:
        if item.path.is_relative_to(CHECKOUT / "tests" / "benchmarks"):
            item.add_marker(pytest.mark.bench)
    items.sort(key=lambda item: _place(item.path))


@cache
def _place(file: Path) -> int:
    """Files that take long come first: at the end of a run no worker waits for another one's long file."""
    begins = [str(CHECKOUT / "tests" / begin) for begin in LONG]
    return next((place for place, begin in enumerate(begins) if str(file).startswith(begin)), len(LONG))


def pytest_collection_finish() -> None:
    """What the test files have imported stays: no collection of garbage need go through it thousands of times."""
    gc.collect()
    gc.freeze()
