"""Every instrument that can be named keeps the conventions, and its simulated twin answers as the driver expects."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from neurobench import registry

DRIVERS = sorted(registry.find("instruments"))
SIMULATED = sorted(registry.find("sim_instruments"))
WITHOUT_TWIN = {"generic-smu", "manual"}  # whatever the lab has, and no instrument at all


def driver(name: str) -> Any:
    return registry.load("instruments", name)


def simulated(name: str) -> Any:
    return registry.load("sim_instruments", name)


def test_nothing_is_broken_and_every_driver_has_its_twin() -> None:
    for kind in ("instruments", "sim_instruments", "simulations", "drivers"):
        assert [p.error for p in registry.check(kind).values() if p.error] == []
    assert set(DRIVERS) - WITHOUT_TWIN == set(SIMULATED)
    assert len(SIMULATED) == 8


@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_says_what_it_is_and_where_that_is_written(name: str) -> None:
    kind = driver(name)
    assert kind.roles(), "it serves in some role"
    words = f"{importlib.import_module(kind.__module__).__doc__} {kind.__doc__}"
    assert name in WITHOUT_TWIN or re.search(r"[Mm]anual|[Gg]uide|[Rr]eference|page|\\d{4,}", words), "its source"


@pytest.mark.parametrize("name", SIMULATED)
def test_the_driver_knows_its_simulated_twin(name: str) -> None:
    twin = simulated(name)
    assert name == twin.MODEL
    fields = [field.strip() for field in twin.IDN.format(serial="NBSIM001").split(",")]
    assert len(fields) == 4
    assert fields[2] == "NBSIM001"
    model = fields[1].removeprefix("MODEL ").removeprefix("Model ")
    assert any(re.fullmatch(pattern, model) for pattern in driver(name).MODELS), (model, driver(name).MODELS)
    assert twin.ROLE in driver(name).roles()


@pytest.mark.parametrize("name", SIMULATED)
def test_each_has_a_test_of_its_dialogue(name: str, checkout: Path) -> None:
    """Both ends of the cable are tested by what is said on it: the class of each is used in some test."""
    tests = "".join(file.read_text() for place in ("wire", "sim") for file in (checkout / "tests" / place).glob("*.py"))
    assert driver(name).__name__ in tests
    assert name in tests or simulated(name).__name__ in tests
