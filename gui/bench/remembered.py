"""What the Bench page keeps between two sessions: the last choice, and what was set for every protocol. No Qt."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurobench.bench.config import SIMULATED_BACKENDS

VERSION = 1
FIRST_BACKEND = "emulator"
# A chip of the bundled device learns in one update; this one takes its time, and succeeds: as in `neurobench demo`.
FIRST_PROTOCOL = "manhattan"
FIRST_SETTINGS: Mapping[str, Any] = {"task": "letters"}
FIRST_SIZE = 10, 6  # word lines and bit lines that it takes; a smaller chip gets the protocol's own default task
FIRST_WHY = "Set for a first run: letters, which takes some ten updates to learn."
# Where that would not do as it is: what is set besides, by backend, and why. On a real bench nothing is set.
FIRST_ON: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "fpga-sim": ({"read_v": 0.01}, "Read at 10 mV: at more, the current converter of this board is full."),
}


def first_settings(backend: str, size: tuple[int, int] = FIRST_SIZE) -> dict[str, Any]:
    """What the form holds for a newcomer on such a bench, so that the first click on Run shows it learn.

    `size`: of its chip, where the bench says that.
    """
    if backend not in SIMULATED_BACKENDS or size[0] < FIRST_SIZE[0] or size[1] < FIRST_SIZE[1]:
        return {}
    return {**FIRST_SETTINGS, **FIRST_ON.get(backend, ({}, ""))[0]}


def is_first(protocol: str, settings: Mapping[str, Any]) -> bool:
    """Whether nobody has set anything yet."""
    return protocol == FIRST_PROTOCOL and any(
        dict(settings) == first_settings(one) for one in (FIRST_BACKEND, *FIRST_ON, "")
    )


def why_first(protocol: str, backend: str, settings: Mapping[str, Any]) -> str:
    """What was set for a newcomer, and why; "" where somebody has set something else."""
    if protocol != FIRST_PROTOCOL or not settings or dict(settings) != first_settings(backend):
        return ""
    return " ".join(filter(None, (FIRST_WHY, FIRST_ON.get(backend, ({}, ""))[1])))


@dataclass
class Remembered:
    """Plain values, as they stand in the form; `settings` by protocol, `benches` the files chosen last."""

    protocol: str = FIRST_PROTOCOL
    bench: str = FIRST_BACKEND
    seed: int = 0
    settings: dict[str, dict[str, Any]] = field(default_factory=lambda: {FIRST_PROTOCOL: dict(FIRST_SETTINGS)})
    chip: dict[str, Any] = field(default_factory=dict)
    benches: list[str] = field(default_factory=list)


def load(path: Path) -> Remembered:
    """What a file holds; a file that is missing, damaged or of another version holds nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("version") != VERSION:
            return Remembered()
        fits = all(isinstance(found[name], type(value)) for name, value in vars(Remembered()).items())
        fits = fits and all(isinstance(one, dict) for one in found["settings"].values())
        return Remembered(**found) if fits else Remembered()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Remembered()


def save(path: Path, kept: Remembered) -> bool:
    """Write it; False where the folder cannot be written, which harms nobody."""
    text = json.dumps({"version": VERSION, **vars(kept)}, indent=1, default=str)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError:
        return False
    return True
