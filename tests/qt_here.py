"""Whether Qt and its test plugin can be imported here, with the system libraries they need: asked once."""

from __future__ import annotations

import importlib


def _can_be_imported() -> bool:
    try:
        for name in ("PySide6.QtTest", "PySide6.QtWidgets", "pytestqt.plugin"):
            importlib.import_module(name)
    except ImportError:
        return False
    return True


QT = _can_be_imported()
