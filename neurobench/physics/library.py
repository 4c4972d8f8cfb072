"""Devices by name: the published cards that come with neurobench, and cards or curve files of one's own."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, cast

from neurobench import registry
from neurobench.errors import UnknownName, UsageError, unknown
from neurobench.physics.card import DeviceCard, load_card
from neurobench.physics.importers import import_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
        return _shipped_card(str(name_or_path))
    path = Path(name_or_path)
    if path.suffix.lower() in {".toml", *DATA_SUFFIXES} and path.is_file():
        seen = path.stat()
        return _file_card(path.absolute(), seen.st_mtime_ns, seen.st_size)
    raise UnknownName(unknown("device", str(name_or_path), shipped, "or the path of a card .toml or a curve file"))


def load_model(name_or_path: str | Path, replay: Replay = "latent", *, assume_mirror: bool = False) -> DeviceModel:
    """The model of a device. assume_mirror declares that the direction nobody measured mirrors the measured one;
    it becomes part of the returned model's card, and so of the record."""
    found = card(name_or_path)
    return build_model(found.model_copy(update={"assumed_mirror": True}) if assume_mirror else found, replay)


def build_model(found: DeviceCard, replay: Replay = "latent") -> DeviceModel:
    """The model of a card that is already in memory."""
    return _builder(found.model)(found, replay)


# A sweep opens thousands of chips of one device: what does not change is found once. Cards are frozen.


@cache
def _builder(model: str) -> Callable[[DeviceCard, Replay], DeviceModel]:
    build = registry.load("models", model)
    if not callable(build):
        raise UsageError(f"device model {model!r} offers no build(card, replay) as its plugin")
    return cast("Callable[[DeviceCard, Replay], DeviceModel]", build)


@cache
def _shipped_card(name: str) -> DeviceCard:
    with resources.as_file(_shipped()[name]) as path:
        return load_card(path)


@lru_cache(maxsize=32)
def _file_card(path: Path, changed_ns: int, size: int) -> DeviceCard:
    """A file's card; the time of its last change and its size are part of the key, so an edited file is read again."""
    del changed_ns, size
    return load_card(path) if path.suffix.lower() == ".toml" else import_curve(path).card


@cache
def _shipped() -> dict[str, Traversable]:
    folder = resources.files("neurobench.physics.devices")
    return {f.name.removesuffix(".toml"): f for f in folder.iterdir() if f.name.endswith(".toml")}
