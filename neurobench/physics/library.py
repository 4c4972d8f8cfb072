"""Devices by name: the published cards that come with neurobench, and cards or curve files of one's own."""

from __future__ import annotations

import importlib
import pkgutil
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from neurobench.errors import UnknownName, unknown
from neurobench.physics import models
from neurobench.physics.card import DeviceCard, load_card
from neurobench.physics.importers import import_curve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from neurobench.physics.response import DeviceModel, Replay

DATA_SUFFIXES = {".csv", ".dat", ".txt"}


def names() -> list[str]:
    """Names of the devices in the library, sorted."""
    return sorted(_shipped())


def cards() -> Iterator[DeviceCard]:
    """The library's cards, by name."""
    for name in names():
        yield card(name)


def card(name_or_path: str | Path) -> DeviceCard:
    """A card by library name, or by the path of a card (.toml) or of a curve file (.csv, .dat, .txt)."""
    shipped = _shipped()
    if str(name_or_path) in shipped:
        with resources.as_file(shipped[str(name_or_path)]) as path:
            return load_card(path)
    path = Path(name_or_path)
    if path.suffix.lower() == ".toml" and path.is_file():
        return load_card(path)
    if path.suffix.lower() in DATA_SUFFIXES and path.is_file():
        return import_curve(path).card
    raise UnknownName(unknown("device", str(name_or_path), shipped, "or the path of a card .toml or a curve file"))


def load_model(name_or_path: str | Path, replay: Replay = "latent", *, assume_mirror: bool = False) -> DeviceModel:
    """The model of a device. assume_mirror declares that the direction nobody measured mirrors the measured one;
    it becomes part of the returned model's card, and so of the record."""
    found = card(name_or_path)
    return build_model(found.model_copy(update={"assumed_mirror": True}) if assume_mirror else found, replay)


def build_model(found: DeviceCard, replay: Replay = "latent") -> DeviceModel:
    """The model of a card that is already in memory."""
    known = model_names()
    if found.model not in known:
        raise UnknownName(unknown("device model", found.model, known, f"key model of device {found.name}"))
    module = importlib.import_module(f"{models.__name__}.{found.model}")
    built: DeviceModel = module.build(found, replay)
    return built


def model_names() -> list[str]:
    """Models found in neurobench/physics/models, one file each."""
    return sorted(m.name for m in pkgutil.iter_modules(models.__path__) if not m.name.startswith("_"))


def _shipped() -> dict[str, Traversable]:
    folder = resources.files("neurobench.physics.devices")
    return {f.name.removesuffix(".toml"): f for f in folder.iterdir() if f.name.endswith(".toml")}
