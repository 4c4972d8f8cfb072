"""What the Bench page keeps between two sessions: the last choice, and what was set for every protocol. No Qt."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERSION = 1
# A chip of the bundled device learns in one update; this one takes its time, and succeeds: as in `neurobench demo`.
FIRST_PROTOCOL = "manhattan"
FIRST_SETTINGS: Mapping[str, Any] = {"task": "letters"}


@dataclass
class Remembered:
    """Plain values, as they stand in the form; `settings` by protocol, `benches` the files chosen last."""

    protocol: str = FIRST_PROTOCOL
    bench: str = "emulator"
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
